//! Passive checks: what the TCP connections of clients say about a server between its active checks.
//!
//! The workers record each connection that they give to a server, and whether the server answers or refuses it. An
//! answer proves that the server is alive, whoever opened the connection. Therefore only the connections since the last
//! answer count, and one client that gets no answer says nothing about a server that answers others.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::time::{Duration, Instant};

/// The number of connections refused in a row that count against a server.
const REFUSED_MIN: u32 = 3;
/// The number of connections without an answer that count against a server, once the first of them has waited for
/// [`UNANSWERED_AGE_MIN`].
const UNANSWERED_MIN: u32 = 3;
/// How long a server may leave the first of several connections without an answer. A server is near, and its kernel
/// answers a SYN: both take milliseconds.
const UNANSWERED_AGE_MIN: Duration = Duration::from_millis(500);
/// The number of different clients whose connections have to fail before no check has to confirm the failure.
const CLIENTS_MIN: u32 = 3;

/// The connections to one server in one family since it last answered one.
///
/// Workers and the controller share it without a lock. When they access it at the same time, a connection may be
/// counted once too often or not at all, which matters to no verdict.
#[derive(Debug, Default)]
pub struct Observation {
    is_enabled: AtomicBool,
    opened: AtomicU32,
    refused: AtomicU32,
    /// One bit for each client, at a position given by its address. Two clients may share a bit, so that the number of
    /// bits is a lower bound of the number of clients.
    clients: AtomicU64,
    /// When the first of them was opened, in nanoseconds.
    since: AtomicU64,
}

/// A failure that connections of clients show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassiveFailure {
    /// How the connections failed.
    pub kind: FailureKind,
    /// Connections of several clients failed, so that one broken client does not explain it.
    pub is_shared: bool,
}

/// How the connections of clients failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The server refused this many in a row (RST in answer to SYN).
    Refused(u32),
    /// This many are without an answer, the first of them for half a second or longer.
    Unanswered(u32),
}

impl PassiveFailure {
    /// Describes the failure, such as `3 connections of clients in a row were refused`.
    pub fn describe(&self) -> String {
        match self.kind {
            FailureKind::Refused(count) => format!("{count} connections of clients in a row were refused"),
            FailureKind::Unanswered(count) => format!("{count} connections of clients in a row were not answered"),
        }
    }
}

impl Observation {
    /// Enables or disables it. While it is disabled, it records nothing.
    pub fn set_enabled(&self, is_on: bool) {
        if self.is_enabled.swap(is_on, Relaxed) != is_on {
            self.clear();
        }
    }

    /// Records that a worker gave the server a connection of `client`.
    pub fn record_opened(&self, client: IpAddr, now: Instant) {
        if !self.is_enabled.load(Relaxed) {
            return;
        }
        if self.opened.fetch_add(1, Relaxed) == 0 {
            self.since.store(now.as_nanos(), Relaxed);
        }
        self.clients.fetch_or(1 << client_bit(client), Relaxed);
    }

    /// Records that the server answered a connection (SYN-ACK).
    pub fn record_answered(&self) {
        // Most servers answer before the next connection is opened. For the others, reading first costs nothing.
        if self.opened.load(Relaxed) != 0 || self.refused.load(Relaxed) != 0 {
            self.clear();
        }
    }

    /// Records that the server refused a connection.
    pub fn record_refused(&self) {
        if self.is_enabled.load(Relaxed) {
            self.refused.fetch_add(1, Relaxed);
        }
    }

    /// Forgets what was recorded so far.
    pub fn clear(&self) {
        self.opened.store(0, Relaxed);
        self.refused.store(0, Relaxed);
        self.clients.store(0, Relaxed);
    }

    /// The failure that the connections show at the time `now`, if any.
    pub fn failure(&self, now: Instant) -> Option<PassiveFailure> {
        let (opened, refused) = (self.opened.load(Relaxed), self.refused.load(Relaxed));
        let waited = || now.since(Instant::from_nanos(self.since.load(Relaxed)));
        let failed = if refused >= REFUSED_MIN {
            FailureKind::Refused(refused)
        } else if opened >= UNANSWERED_MIN && waited() >= UNANSWERED_AGE_MIN {
            FailureKind::Unanswered(opened)
        } else {
            return None;
        };
        Some(PassiveFailure { kind: failed, is_shared: self.clients.load(Relaxed).count_ones() >= CLIENTS_MIN })
    }
}

/// The bit of a client. All addresses of one IPv6 /64 count as one client.
fn client_bit(client: IpAddr) -> u32 {
    let address = match client {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    };
    // Fibonacci hashing: the upper bits of the product depend on all bits of the address.
    (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn client(number: u8) -> IpAddr {
        IpAddr::from([198, 51, 100, number])
    }

    fn switched_on() -> Observation {
        let observation = Observation::default();
        observation.set_enabled(true);
        observation
    }

    #[test]
    fn three_refusals_in_a_row_count_and_an_answer_takes_them_back() {
        let seen = switched_on();
        for number in 0..2 {
            seen.record_opened(client(number), at(0));
            seen.record_refused();
        }
        assert_eq!(seen.failure(at(10)), None);
        seen.record_answered();
        for number in 0..3 {
            assert_eq!(seen.failure(at(10)), None);
            seen.record_opened(client(number), at(10));
            seen.record_refused();
        }
        let complaint = seen.failure(at(10)).unwrap();
        assert_eq!(complaint, PassiveFailure { kind: FailureKind::Refused(3), is_shared: true });
        assert_eq!(complaint.describe(), "3 connections of clients in a row were refused");
    }

    #[test]
    fn connections_without_an_answer_count_once_the_first_has_waited_long_enough() {
        let seen = switched_on();
        for number in 0..3 {
            seen.record_opened(client(number), at(1_000 + 100 * u64::from(number)));
        }
        assert_eq!(seen.failure(at(1_499)), None);
        assert_eq!(seen.failure(at(1_500)), Some(PassiveFailure { kind: FailureKind::Unanswered(3), is_shared: true }));
        seen.record_answered();
        assert_eq!(seen.failure(at(9_999)), None);
    }

    #[test]
    fn one_client_is_one_however_often_it_comes() {
        let seen = switched_on();
        for _ in 0..1_000 {
            seen.record_opened(client(7), at(0));
            seen.record_refused();
        }
        assert!(!seen.failure(at(0)).unwrap().is_shared);
        let seen = switched_on();
        for host in 0..1_000_u128 {
            seen.record_opened(IpAddr::V6((0x2001_0db8_0000_0007_u128 << 64 | host).into()), at(0));
            seen.record_refused();
        }
        assert!(!seen.failure(at(0)).unwrap().is_shared, "a /64 is one client");
    }

    #[test]
    fn switched_off_it_notes_nothing() {
        let seen = Observation::default();
        for number in 0..9 {
            seen.record_opened(client(number), at(0));
            seen.record_refused();
        }
        assert_eq!(seen.failure(at(10_000)), None);
    }
}
