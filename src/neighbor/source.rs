//! In whose name a neighbour is asked for, and how often that may be.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::id::LinkId;
use crate::time::{Duration, Instant};

/// Questions that one source may cause in a second, and at once. A clients' subnet that comes back whole after a restart is
/// asked for within seconds; a scan makes no more noise than this.
const PER_SECOND: u32 = 2_000;
const BURST: u32 = 2_000;
/// Sources whose questions are counted.
const SOURCES_MAX: usize = 64;

/// In whose name a neighbour is asked for: a prefix of senders on the link where they are, or the engine itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(Option<(LinkId, IpAddr)>);

impl Source {
    /// The engine: its checks, probes and pings.
    pub const ENGINE: Self = Self(None);

    /// Senders of `address`'s /24 (IPv4) or /64 (IPv6) whose packets come by `link`.
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

/// What each source may still ask for.
#[derive(Debug, Clone, Default)]
pub(super) struct Budgets {
    /// The time that a source has saved up, and when that was worked out.
    sources: VecDeque<(Source, Duration, Instant)>,
}

impl Budgets {
    /// Takes a question from the source's budget, if it has one left.
    pub(super) fn take(&mut self, source: Source, now: Instant) -> bool {
        const COST: Duration = Duration::from_nanos(1_000_000_000 / PER_SECOND as u64);
        let full = COST * BURST;
        if source == Source::ENGINE {
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
