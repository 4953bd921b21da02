//! Chooses the source port and the initial sequence number of a check.
//!
//! A server holds the ports of a connection that it closed first for a minute or more (TIME-WAIT), and many services at
//! one server check it from all ports in less time than that, so that ports are reused however many there are. A server
//! in TIME-WAIT takes a new SYN whose sequence number is beyond those of the connection before (RFC 6191 section 2,
//! Linux `tcp_timewait_state_process`, FreeBSD `tcp_twcheck`). Here that number comes from a clock, as in RFC 6528, so
//! that a port can be reused as soon as the connection before it has ended here. Ports are still used in turn: the one
//! that was unused longest is next.

use std::collections::HashMap;
use std::hash::{Hash, Hasher as _};
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use super::answers::echo_protocol;
use super::{CheckKey, Checks};
use crate::config::ServiceCheckKind;
use crate::health::service_prober::PORTS;
use crate::random::SplitMix64;
use crate::time::Instant;
use crate::wire::emit::AddressPair;
use crate::wire::frame::protocol;

/// Nanoseconds in which sequence numbers grow by one (RFC 6528 section 3). Until its port is
/// used again they grow by more than a check sends, and they wrap around the 32 bits in five hours.
const SEQUENCE_TICK_NS: u64 = 4_000;

/// The ports of checks; see the module documentation.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    /// The source port from which each server port was checked last. There are as many entries as server ports.
    last: HashMap<(IpAddr, u16), u16, ahash::RandomState>,
    random: SplitMix64,
    secret: u64,
}

impl Ports {
    /// `random` chooses where the ports of a server begin, and makes sequence numbers unpredictable.
    pub(super) fn new(random: u64) -> Self {
        let mut random = SplitMix64::new(random ^ 0x6368_6563_6b73);
        Self { last: HashMap::default(), secret: random.next_u64(), random }
    }

    /// Forgets from which ports servers were checked.
    pub(super) fn forget(&mut self) {
        self.last.clear();
    }

    /// The port after the one from which this server port was checked last.
    fn next(&mut self, end: (IpAddr, u16)) -> u16 {
        let count = PORTS.end() - PORTS.start() + 1;
        let random = &mut self.random;
        let last =
            self.last.entry(end).or_insert_with(|| PORTS.start() + (random.next_u64() % u64::from(count)) as u16);
        *last = PORTS.start() + (*last - PORTS.start() + 1) % count;
        *last
    }

    /// The initial sequence number of a connection that begins at the time `now`.
    pub(super) fn sequence(&self, key: &CheckKey, now: Instant) -> u32 {
        let mut hasher = SipHasher13::new_with_keys(self.secret, 0);
        key.hash(&mut hasher);
        (hasher.finish() as u32).wrapping_add((now.as_nanos() / SEQUENCE_TICK_NS) as u32)
    }
}

impl Checks {
    /// A tuple that no running check has; `None` while all are in use.
    pub(super) fn free_key(&mut self, kind: &ServiceCheckKind, pair: AddressPair, port: u16) -> Option<CheckKey> {
        let (protocol, remote_port) = match kind {
            ServiceCheckKind::Icmp | ServiceCheckKind::None => (echo_protocol(pair.family()), 0),
            ServiceCheckKind::Tcp | ServiceCheckKind::HalfOpen | ServiceCheckKind::Http { .. } => (protocol::TCP, port),
        };
        let (local, remote) = (pair.source(), pair.destination());
        let key = |port| CheckKey { local, protocol, remote, remote_port, port };
        let taken = self.running.range(key(*PORTS.start())..=key(*PORTS.end())).count();
        if taken == PORTS.len() {
            return None;
        }
        std::iter::repeat_with(|| key(self.ports.next((remote, remote_port))))
            .find(|key| !self.running.contains_key(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> CheckKey {
        let [local, remote] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
        CheckKey { local, protocol: protocol::TCP, remote, remote_port: 80, port }
    }

    #[test]
    fn sequence_numbers_of_a_tuple_grow_by_250_000_a_second_and_say_nothing_of_other_tuples() {
        let ports = Ports::new(7);
        for millis in [0, 10, 1_000, 60_000, 3_600_000] {
            let at = |millis| ports.sequence(&key(512), Instant::from_millis(millis));
            assert_eq!(u64::from(at(millis).wrapping_sub(at(0))), millis * 250);
        }
        assert_ne!(ports.sequence(&key(512), Instant::ZERO), ports.sequence(&key(513), Instant::ZERO));
        assert_ne!(ports.sequence(&key(512), Instant::ZERO), Ports::new(8).sequence(&key(512), Instant::ZERO));
    }

    #[test]
    fn every_port_has_had_its_turn_before_one_comes_again() {
        let mut ports = Ports::new(7);
        let end = (key(1).remote, 80);
        let mut seen: Vec<u16> = (0..PORTS.len()).map(|_| ports.next(end)).collect();
        let first = seen[0];
        seen.sort_unstable();

        assert_eq!(seen, PORTS.collect::<Vec<_>>());
        assert_eq!(ports.next(end), first);
    }
}
