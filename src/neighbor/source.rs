//! The sender on whose behalf a neighbour is queried, and how many requests a sender may cause.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::id::LinkId;
use crate::time::{Duration, Instant};

/// The requests that one source may cause per second, and at once. A client subnet that returns as a whole after a
/// restart is resolved within seconds, and a scan causes no more requests than this.
const REQUESTS_PER_SECOND: u32 = 2_000;
const BURST: u32 = 2_000;
/// The largest number of sources whose requests are counted.
const SOURCES_MAX: usize = 64;

/// The sender on whose behalf a neighbour is queried: a prefix of senders on their link, or the engine itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestSource(Option<(LinkId, IpAddr)>);

impl RequestSource {
    /// The engine with its own checks, probes and pings, which is not limited.
    pub const ENGINE: Self = Self(None);

    /// The senders of the /24 (IPv4) or /64 (IPv6) of `address` whose packets arrive by `link`.
    pub fn of(link: LinkId, address: IpAddr) -> Self {
        let prefix = match address {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                IpAddr::from([a, b, c, 0])
            }
            IpAddr::V6(address) => IpAddr::from((address.to_bits() & (u128::MAX << 64)).to_be_bytes()),
        };
        Self(Some((link, prefix)))
    }
}

/// The token buckets of the sources.
#[derive(Debug, Clone, Default)]
pub(super) struct RequestBudgets {
    /// Each source with the time that it has saved up, and when that was computed.
    sources: VecDeque<(RequestSource, Duration, Instant)>,
}

impl RequestBudgets {
    /// Takes one request from the budget of `source`. Returns false if none is left.
    pub(super) fn take(&mut self, source: RequestSource, now: Instant) -> bool {
        const COST: Duration = Duration::from_nanos(1_000_000_000 / REQUESTS_PER_SECOND as u64);
        let full = COST * BURST;
        if source == RequestSource::ENGINE {
            return true;
        }
        let position = self.sources.iter().position(|(known, _, _)| *known == source).unwrap_or_else(|| {
            if self.sources.len() == SOURCES_MAX {
                self.sources.pop_front();
            }
            self.sources.push_back((source, full, now));
            self.sources.len() - 1
        });
        let (_, saved, at) = &mut self.sources[position];
        *saved = (*saved + now.since(*at)).min(full);
        *at = now;
        let left = saved.checked_sub(COST);
        *saved = left.unwrap_or(*saved);
        left.is_some()
    }
}
