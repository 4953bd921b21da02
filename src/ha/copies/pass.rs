//! Passes: a pass visits every slot of the session table once, in steps, and tells another node of the sessions there.
//! A full pass tells all that need copies, a slow one those whose copies would expire or do not exist.

use crate::flow::CanonicalKey;
use crate::flow::key::{CanonicalV4, CanonicalV6};
use crate::random::mix;
use crate::session::{Session, Timeouts};
use crate::time::{Duration, Instant};

/// The time between two slow passes, unless copies expire sooner.
const EVERY: Duration = Duration::from_secs(30);
const EVERY_MIN: Duration = Duration::from_secs(1);

/// Slots that a step visits.
pub(super) const SLOTS_AT_ONCE: u32 = 1024;

/// A pass that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) kind: PassKind,
    /// The number of the pass.
    pub(super) number: u32,
    /// When it began.
    pub(super) began: Instant,
    /// The next slot.
    pub(super) cursor: u32,
    /// How many of the sessions that it has visited need copies.
    pub(super) needed: u32,
}

/// What a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PassKind {
    /// Tells all sessions that need copies.
    Full,
    /// Tells those that were used, so that their copies do not expire, and those that need a copy and have none.
    Slow(Turn),
}

/// The turn of a slow pass: it decides which sessions are renewed in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// The number of the pass.
    number: u32,
    /// The time from one slow pass to the next.
    every: Duration,
}

impl Turn {
    /// The turn of the pass with this number, where a pass begins `every` so often: after the pause, or when the one
    /// before it is over, if that takes longer.
    pub(super) fn new(number: u32, every: Duration) -> Self {
        Self { number, every }
    }

    /// True if it is the turn of this session, and it was used since its last turn. The turns of a session come at least
    /// four times in its timeout, if that is four times as long as from one pass to the next, or longer.
    pub(super) fn renews(self, key: &CanonicalKey, session: &Session, timeouts: &Timeouts, now: Instant) -> bool {
        let quarter = session.timeout(timeouts) / 4;
        let turns = u32::try_from(quarter.as_nanos() / self.every.as_nanos().max(1)).unwrap_or(u32::MAX).max(1);
        let is_its_turn = (spread(key).wrapping_add(u64::from(self.number))).is_multiple_of(u64::from(turns));
        // This pass may take longer than the one before it.
        is_its_turn && now.since(session.last_seen) < self.every * turns.saturating_mul(2).saturating_add(1)
    }
}

/// The time between two slow passes.
pub(super) fn pause(timeouts: &Timeouts) -> Duration {
    let Timeouts { tcp_syn: _, tcp_established, tcp_closing, udp_new, udp, icmp, other, fragment: _ } = *timeouts;
    let shortest = [tcp_established, tcp_closing, udp_new, udp, icmp, other].into_iter().min().unwrap_or(EVERY);
    (shortest / 4).clamp(EVERY_MIN, EVERY)
}

/// A number that is different for most flows.
fn spread(key: &CanonicalKey) -> u64 {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number: u64, byte| number.rotate_left(8) ^ u64::from(*byte));
    match key {
        CanonicalKey::V4(CanonicalV4 { low, high, low_port, high_port, protocol: _ }) => {
            mix(number(low) << 32 | number(high)) ^ mix(u64::from(*low_port) << 16 | u64::from(*high_port))
        }
        CanonicalKey::V6(CanonicalV6 { low, high, low_port, high_port, protocol: _ }) => {
            mix(number(low))
                ^ mix(number(high).rotate_left(7))
                ^ mix(u64::from(*low_port) << 16 | u64::from(*high_port))
        }
    }
}
