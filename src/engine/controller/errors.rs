//! ICMP errors in the engine's name, and the limits that keep it from being a reflector (CORRECTNESS A4.3, D6).

use std::collections::VecDeque;
use std::net::IpAddr;

use super::Controller;
use super::tally::Tally;
use crate::engine::verdict::IcmpError;
use crate::id::LinkId;
use crate::time::{Duration, Instant};
use crate::wire::Family;
use crate::wire::icmp::{self, ErrorKind};

/// How much may be said, as Linux limits it: overall, and to each destination.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    per_second: u32,
    burst: u32,
    destination_burst: u32,
}

/// ICMP errors: 1,000 a second with bursts of 50; to each destination one a second with bursts of 6 (Linux
/// `XRLIM_BURST_FACTOR`), so that traceroute's three questions at once are answered.
pub(super) const ERRORS: Rates = Rates { per_second: 1000, burst: 50, destination_burst: 6 };
/// Resets to closed ports.
pub(super) const RESETS: Rates = ERRORS;
/// Destinations that are remembered; beyond it the oldest is forgotten, and the overall limit still holds.
const DESTINATIONS_MAX: usize = 1024;

/// A token bucket over all, and one per destination.
#[derive(Debug)]
pub(super) struct Limiter {
    rates: Rates,
    all: Bucket,
    destinations: VecDeque<(IpAddr, Bucket)>,
}

/// Tokens as time: what is saved up, at one token per `cost`.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    saved: Duration,
    at: Instant,
}

impl Limiter {
    pub(super) fn new(rates: Rates, now: Instant) -> Self {
        let all = Bucket { saved: Duration::from_secs(1) / rates.per_second * rates.burst, at: now };
        Self { rates, all, destinations: VecDeque::new() }
    }

    /// Takes a token for `destination`, if there is one.
    pub(super) fn allows(&mut self, destination: IpAddr, now: Instant) -> bool {
        let second = Duration::from_secs(1);
        // Looked at first, so that a flood costs no search.
        if !self.all_would_allow(now) {
            return false;
        }
        let full = second * self.rates.destination_burst;
        let index = self.destinations.iter().position(|(known, _)| *known == destination).unwrap_or_else(|| {
            if self.destinations.len() >= DESTINATIONS_MAX {
                self.destinations.pop_front();
            }
            self.destinations.push_back((destination, Bucket { saved: full, at: now }));
            self.destinations.len() - 1
        });
        let bucket = &mut self.destinations[index].1;
        bucket.fill(full, now);
        bucket.take(second) && self.all_allow(now)
    }

    /// Takes a token whoever it is for: path MTU discovery must not starve (Linux does not limit it per destination).
    pub(super) fn all_allow(&mut self, now: Instant) -> bool {
        self.all_would_allow(now) && self.all.take(self.cost())
    }

    fn all_would_allow(&mut self, now: Instant) -> bool {
        let cost = self.cost();
        self.all.fill(cost * self.rates.burst, now);
        self.all.saved >= cost
    }

    fn cost(&self) -> Duration {
        Duration::from_secs(1) / self.rates.per_second
    }
}

impl Bucket {
    fn fill(&mut self, full: Duration, now: Instant) {
        self.saved = (self.saved + now.since(self.at)).min(full);
        self.at = now;
    }

    fn take(&mut self, cost: Duration) -> bool {
        let left = self.saved.checked_sub(cost);
        self.saved = left.unwrap_or(self.saved);
        left.is_some()
    }
}

impl From<IcmpError> for ErrorKind {
    fn from(error: IcmpError) -> Self {
        match error {
            IcmpError::TimeExceeded => Self::TimeExceeded,
            IcmpError::NoRoute => Self::NoRoute,
            IcmpError::HostUnreachable => Self::HostUnreachable,
            IcmpError::TooBig { mtu } => Self::TooBig { mtu },
            IcmpError::Prohibited => Self::Prohibited,
        }
    }
}

impl Controller {
    /// Tells the sender of `frame`, which came by `link`, what went wrong: from the link's own address, to the station that
    /// sent it there (the firewall that brought it, not one that a hash would choose).
    pub(super) fn icmp_error(&mut self, kind: ErrorKind, link: LinkId, frame: &[u8], now: Instant) {
        self.icmp_error_from(None, kind, link, frame, now);
    }

    /// The same in the name of `source`, if that is given: a virtual address.
    pub(super) fn icmp_error_from(
        &mut self,
        source: Option<IpAddr>,
        kind: ErrorKind,
        link: LinkId,
        frame: &[u8],
        now: Instant,
    ) {
        let family = match frame.get(12..14) {
            Some([0x08, 0x00]) => Family::V4,
            Some([0x86, 0xdd]) => Family::V6,
            _ => {
                self.tallies.add(Tally::ErrorsForbidden);
                return;
            }
        };
        let Some(source) = source.or_else(|| self.error_source(link, family)) else {
            self.tallies.add(Tally::NoAddress);
            return;
        };
        if self.is_to_broadcast(link, frame, family) {
            self.tallies.add(Tally::ErrorsForbidden);
            return;
        }
        let mac = self.links[link.index()].mac;
        let Ok(error) = icmp::error(kind, frame, source, mac) else {
            self.tallies.add(Tally::ErrorsForbidden);
            return;
        };
        let allowed = match kind {
            ErrorKind::TooBig { .. } => self.errors.all_allow(now),
            ErrorKind::TimeExceeded
            | ErrorKind::NoRoute
            | ErrorKind::HostUnreachable
            | ErrorKind::PortUnreachable
            | ErrorKind::ProtocolUnreachable
            | ErrorKind::Prohibited => {
                let destination = destination_of(&error, family);
                self.errors.allows(destination, now)
            }
        };
        if !allowed {
            self.tallies.add(Tally::ErrorsLimited);
            return;
        }
        self.tallies.add(Tally::ErrorsSent);
        self.send(link, error);
    }

    /// The ingress link's first address of the family; a link without one borrows another link's (RFC 1812 section 4.3.2.4).
    fn error_source(&self, link: LinkId, family: Family) -> Option<IpAddr> {
        let own = std::iter::once(&self.links[link.index()]);
        let all = own.chain(&self.links).flat_map(|link| &link.addresses).map(ipnet::IpNet::addr);
        let of_family = all.filter(|address| Family::of(*address) == family);
        let is_global = |address: &IpAddr| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        };
        of_family.clone().find(is_global).or_else(|| of_family.clone().next())
    }

    /// A directed broadcast looks like a host to who does not know the subnets.
    fn is_to_broadcast(&self, link: LinkId, frame: &[u8], family: Family) -> bool {
        if family == Family::V6 {
            return false;
        }
        let Some(octets) = frame.get(30..34).and_then(|octets| <[u8; 4]>::try_from(octets).ok()) else { return false };
        let destination = IpAddr::from(octets);
        let mut subnets = self.links[link.index()].addresses.iter();
        subnets.any(|subnet| subnet.prefix_len() < 31 && subnet.broadcast() == destination)
    }
}

/// Destination of an error that the engine just built.
fn destination_of(error: &[u8], family: Family) -> IpAddr {
    match family {
        Family::V4 => {
            let mut octets = [0; 4];
            octets.copy_from_slice(&error[30..34]);
            IpAddr::from(octets)
        }
        Family::V6 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(&error[38..54]);
            IpAddr::from(octets)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + n).to_be_bytes())
    }

    #[test]
    fn a_flood_from_everywhere_is_answered_a_thousand_times_a_second_and_fifty() {
        let mut limiter = Limiter::new(ERRORS, Instant::ZERO);
        let answered =
            (0..100_000_u32).filter(|n| limiter.allows(host(*n), Instant::from_nanos(u64::from(*n) * 10_000))).count();
        assert!((1_000..=1_050).contains(&answered), "{answered}");
    }

    #[test]
    fn one_sender_hears_six_at_once_and_then_one_a_second() {
        let mut limiter = Limiter::new(ERRORS, Instant::ZERO);
        let at = |n: u64| Instant::from_millis(10_000 + n * 10);
        let answered: Vec<u64> = (0..400).filter(|n| limiter.allows(host(1), at(*n))).collect();
        assert_eq!(answered, [0, 1, 2, 3, 4, 5, 100, 200, 300]);
        assert!(limiter.allows(host(2), at(399)), "others are not held back by it");
    }
}
