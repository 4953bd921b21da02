//! Sends ICMP errors of the engine, within limits that keep it from being a reflector (rules A4.3 and D6 of
//! `docs/protocols.md`).

use std::net::IpAddr;

use super::super::outbox::Outbox;
use super::super::tally::Tally;
use super::Links;
use crate::engine::limit::{Rate, RateLimiter};
use crate::engine::verdict::IcmpError;
use crate::id::LinkId;
use crate::random::SplitMix64;
use crate::time::Instant;
use crate::wire::Family;
use crate::wire::icmp::{self, ErrorKind};

/// The rate of ICMP errors, as Linux limits them: 1,000 a second with bursts of 50.
const ERROR_RATE: Rate = Rate { per_second: 1000, burst: 50 };
/// The rate to each destination is one a second with bursts of 6 (Linux `XRLIM_BURST_FACTOR`), so that the three
/// packets that traceroute sends at once are answered.
const ERROR_RATE_PER_DESTINATION: Rate = Rate { per_second: 1, burst: 6 };
/// Path MTU discovery must not starve: Linux does not limit it per destination. It has a budget of its own, of which no
/// sender gets more than a tenth.
const TOO_BIG_RATE_PER_DESTINATION: Rate = Rate { per_second: 100, burst: 25 };
/// The rate of resets. None is longer than what it answers, so that the limit spares the engine rather than the
/// network.
const RESET_RATE: Rate = Rate { per_second: 10_000, burst: 4_000 };
/// After a restart every connection of an address is to be reset within a second, and thousands of clients may share
/// one address.
const RESET_RATE_PER_DESTINATION: Rate = Rate { per_second: 1_000, burst: 1_000 };

/// The rate limits of what the engine sends as a host.
#[derive(Debug, Clone)]
pub(super) struct AnswerLimits {
    errors: RateLimiter,
    too_big: RateLimiter,
    resets: RateLimiter,
}

impl AnswerLimits {
    pub(super) fn new(random: &mut SplitMix64, now: Instant) -> Self {
        let mut limiter = |rate, to_one| RateLimiter::new(rate, to_one, random.next_u64(), now);
        Self {
            errors: limiter(ERROR_RATE, ERROR_RATE_PER_DESTINATION),
            too_big: limiter(ERROR_RATE, TOO_BIG_RATE_PER_DESTINATION),
            resets: limiter(RESET_RATE, RESET_RATE_PER_DESTINATION),
        }
    }

    fn allow_error(&mut self, kind: ErrorKind, destination: IpAddr, now: Instant) -> bool {
        let limiter = match kind {
            ErrorKind::TooBig { .. } => &mut self.too_big,
            ErrorKind::TimeExceeded
            | ErrorKind::NoRoute
            | ErrorKind::HostUnreachable
            | ErrorKind::PortUnreachable
            | ErrorKind::ProtocolUnreachable
            | ErrorKind::Prohibited => &mut self.errors,
        };
        limiter.allows(destination, now)
    }

    pub(super) fn allow_reset(&mut self, destination: IpAddr, now: Instant) -> bool {
        self.resets.allows(destination, now)
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

impl Links {
    /// Reports an error to the sender of `frame`, which was received on `link`. The ICMP error comes from the link's
    /// own address and goes to the station that sent the frame (the firewall that brought it, not one that a hash would
    /// choose).
    pub(super) fn icmp_error(&mut self, kind: ErrorKind, link: LinkId, frame: &[u8], now: Instant, out: &mut Outbox) {
        self.icmp_error_from(None, kind, link, frame, now, out);
    }

    /// Like `icmp_error`, but from the address `source` if that is given, which is a virtual address.
    pub(super) fn icmp_error_from(
        &mut self,
        source: Option<IpAddr>,
        kind: ErrorKind,
        link: LinkId,
        frame: &[u8],
        now: Instant,
        out: &mut Outbox,
    ) {
        let family = match frame.get(12..14) {
            Some([0x08, 0x00]) => Family::V4,
            Some([0x86, 0xdd]) => Family::V6,
            _ => {
                out.count(Tally::ErrorsForbidden);
                return;
            }
        };
        let Some(source) = source.or_else(|| self.error_source(link, family)) else {
            out.count(Tally::NoAddress);
            return;
        };
        if self.is_to_broadcast(link, frame, family) {
            out.count(Tally::ErrorsForbidden);
            return;
        }
        let mac = self.mac_of(link, source);
        let Ok(error) = icmp::error(kind, frame, source, mac) else {
            out.count(Tally::ErrorsForbidden);
            return;
        };
        let allowed = self.limits.allow_error(kind, destination_of(&error, family), now);
        if !allowed {
            out.count(Tally::ErrorsLimited);
            return;
        }
        out.count(Tally::ErrorsSent);
        self.send(link, error, out);
    }

    /// The ingress link's first address of the family, of an active node its first floating one. If it has none, another
    /// link's is used (RFC 1812 section 4.3.2.4).
    fn error_source(&self, link: LinkId, family: Family) -> Option<IpAddr> {
        let own = std::iter::once(&self.states[link.index()]);
        let floating = own.clone().flat_map(|link| &link.floating).copied().filter(|_| self.is_router);
        let addresses = own.chain(&self.states).flat_map(|link| &link.addresses).map(ipnet::IpNet::addr);
        let all = floating.chain(addresses);
        let of_family = all.filter(|address| Family::of(*address) == family);
        let is_global = |address: &IpAddr| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        };
        of_family.clone().find(is_global).or_else(|| of_family.clone().next())
    }

    /// True if the frame is addressed to a directed broadcast, which only those who know the subnets can tell from a
    /// host.
    fn is_to_broadcast(&self, link: LinkId, frame: &[u8], family: Family) -> bool {
        if family == Family::V6 {
            return false;
        }
        let Some(octets) = frame.get(30..34).and_then(|octets| <[u8; 4]>::try_from(octets).ok()) else { return false };
        let destination = IpAddr::from(octets);
        let mut subnets = self.states[link.index()].addresses.iter();
        subnets.any(|subnet| subnet.prefix_len() < 31 && subnet.broadcast() == destination)
    }
}

/// Destination of an error that the engine has just built.
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
