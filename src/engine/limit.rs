//! Limits a rate by token buckets: one for all sources together and one for each source, so that no source can use up
//! the tokens of the others.
//!
//! The buckets of sources are kept in a fixed number of slots. A source has two possible slots; where both are taken,
//! it displaces the one whose bucket is fuller. Under a flood from more sources than there are slots only the common
//! bucket limits.

use std::net::IpAddr;

use crate::random::mix;
use crate::time::{Duration, Instant};

/// The parameters of a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    /// Tokens per second; not 0.
    pub(super) per_second: u32,
    /// Tokens that a full bucket holds; not 0.
    pub(super) burst: u32,
}

/// Slots for sources. They take 56 KiB.
const SLOTS: usize = 1024;

/// A rate limiter for events that have a source address; see the module documentation.
#[derive(Debug, Clone)]
pub(super) struct RateLimiter {
    rate: Rate,
    of_source: Rate,
    all: TokenBucket,
    slots: Box<[Option<SourceSlot>]>,
    /// Key of the slot hash, so that an attacker cannot choose addresses that share slots.
    seed: u64,
}

#[derive(Debug, Clone, Copy)]
struct SourceSlot {
    source: IpAddr,
    bucket: TokenBucket,
}

/// A token bucket. `saved` counts its tokens as time, of which one token takes [`Rate::token_time`].
#[derive(Debug, Clone, Copy)]
struct TokenBucket {
    saved: Duration,
    at: Instant,
}

impl RateLimiter {
    /// A limiter with full buckets: `rate` holds for all sources together, `of_source` for each.
    pub(super) fn new(rate: Rate, of_source: Rate, seed: u64, now: Instant) -> Self {
        Self { rate, of_source, all: TokenBucket::full(rate, now), slots: vec![None; SLOTS].into(), seed }
    }

    /// Takes a token for `source`; false if there is none, and then none is taken.
    pub(super) fn allows(&mut self, source: IpAddr, now: Instant) -> bool {
        // The common bucket comes first: while it is empty, a flood costs no lookup of slots.
        if !self.all.has_one(self.rate, now) {
            return false;
        }
        let of_source = self.of_source;
        let allowed = self.bucket(source, now).take(of_source, now);
        allowed && self.all.take(self.rate, now)
    }

    /// The bucket of `source`; a full one if the source has no slot yet.
    fn bucket(&mut self, source: IpAddr, now: Instant) -> &mut TokenBucket {
        let [first, second] = self.slots_of(source);
        let is_own = |place: &Option<SourceSlot>| place.is_some_and(|place| place.source == source);
        let saved = |place: &Option<SourceSlot>| match place {
            Some(place) => place.bucket.saved_at(self.of_source, now),
            None => Duration::MAX,
        };
        let index = match (&self.slots[first], &self.slots[second]) {
            (place, _) if is_own(place) => first,
            (_, place) if is_own(place) => second,
            (one, other) if saved(one) >= saved(other) => first,
            (_, _) => second,
        };
        let fresh = SourceSlot { source, bucket: TokenBucket::full(self.of_source, now) };
        let place = &mut self.slots[index];
        if !is_own(place) {
            *place = None;
        }
        &mut place.get_or_insert(fresh).bucket
    }

    fn slots_of(&self, source: IpAddr) -> [usize; 2] {
        let bits = match source {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let mixed = mix(mix(self.seed ^ bits as u64) ^ (bits >> 64) as u64);
        [mixed as usize % SLOTS, (mixed >> 32) as usize % SLOTS]
    }
}

impl Rate {
    const fn token_time(self) -> Duration {
        Duration::from_nanos(1_000_000_000 / self.per_second as u64)
    }

    fn full(self) -> Duration {
        self.token_time() * self.burst
    }
}

impl TokenBucket {
    fn full(rate: Rate, now: Instant) -> Self {
        Self { saved: rate.full(), at: now }
    }

    fn saved_at(&self, rate: Rate, now: Instant) -> Duration {
        (self.saved + now.since(self.at)).min(rate.full())
    }

    fn has_one(&self, rate: Rate, now: Instant) -> bool {
        self.saved_at(rate, now) >= rate.token_time()
    }

    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        (self.saved, self.at) = (self.saved_at(rate, now), now);
        let left = self.saved.checked_sub(rate.token_time());
        self.saved = left.unwrap_or(self.saved);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 1000, burst: 50 };
    const OF_SOURCE: Rate = Rate { per_second: 1, burst: 6 };

    fn limiter() -> RateLimiter {
        RateLimiter::new(RATE, OF_SOURCE, 7, Instant::ZERO)
    }

    fn host(n: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + n).to_be_bytes())
    }

    #[test]
    fn a_flood_from_everywhere_is_answered_a_thousand_times_a_second_and_fifty() {
        let mut limiter = limiter();
        let answered =
            (0..100_000_u32).filter(|n| limiter.allows(host(*n), Instant::from_nanos(u64::from(*n) * 10_000))).count();
        assert!((1_000..=1_050).contains(&answered), "{answered}");
    }

    #[test]
    fn one_source_gets_its_burst_and_then_its_rate_and_others_are_not_held_back_by_it() {
        let mut limiter = limiter();
        let at = |n: u64| Instant::from_millis(10_000 + n * 10);
        let answered: Vec<u64> = (0..400).filter(|n| limiter.allows(host(1), at(*n))).collect();
        assert_eq!(answered, [0, 1, 2, 3, 4, 5, 100, 200, 300]);
        assert!(limiter.allows(host(2), at(399)));
    }

    #[test]
    fn a_source_that_asks_more_than_all_may_leaves_the_others_theirs() {
        let rate = Rate { per_second: 1000, burst: 50 };
        let mut limiter = RateLimiter::new(rate, Rate { per_second: 500, burst: 25 }, 7, Instant::ZERO);
        // One source takes a hundred times its share, and beside it another sends ten events a second.
        let (mut greedy, mut modest) = (0, 0);
        for step in 0..100_000_u64 {
            let now = Instant::from_nanos(step * 20_000);
            greedy += u32::from(limiter.allows(host(1), now));
            if step % 5_000 == 0 {
                modest += u32::from(limiter.allows(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9]), now));
            }
        }
        assert!((1_000..=1_026).contains(&greedy), "{greedy}");
        assert_eq!(modest, 20, "every time");
    }

    #[test]
    fn a_source_that_used_its_share_keeps_its_place_beside_one_that_did_not() {
        let mut limiter = limiter();
        let second = |n: u64| Instant::from_millis(1000 * n);
        (0..6).for_each(|_| assert!(limiter.allows(host(1), second(0))));
        // As many unknown sources as would take every slot twice, each with one event, and slowly.
        let mut forgotten = 0;
        for n in 0..2_000_u32 {
            assert!(limiter.allows(host(100 + n), second(0) + Duration::from_millis(u64::from(n))));
            forgotten += u32::from(limiter.allows(host(1), second(0) + Duration::from_millis(u64::from(n))));
        }
        assert!(forgotten <= 2, "one token a second: {forgotten}");
    }
}
