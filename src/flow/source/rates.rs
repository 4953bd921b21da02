//! Limits how often each source begins something.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use zerocopy::FromZeros;

use super::{ROWS, SourceKey};
use crate::time::{Duration, Instant};

/// A rate limit for each source: so many events a second in the long run, and after a pause those of one second at
/// once. Several threads may use it at the same time.
///
/// Each cell is a token bucket, kept as the time until which it is used up (GCRA, ITU-T I.371 annex A). A source may
/// begin something while one of its cells has a token. Each event makes a cell no fuller than the source's own bucket,
/// so that the events of sources that share a cell are not added up. A source within its rate is refused only if each
/// of its cells is shared with a source that uses its rate up; with `n` such sources the probability of that is `(n /
/// columns)` to the power of [`ROWS`].
#[derive(Debug)]
pub struct SourceRates {
    columns: u32,
    /// The cells row after row, in nanoseconds of [`Instant`].
    used_until: Box<[AtomicU64]>,
}

/// How much a source may begin at once after a pause, as the time in which its rate allows that much.
const BURST: Duration = Duration::from_secs(1);

impl SourceRates {
    /// Limits with `columns` columns, rounded up to a power of two; each takes 32 bytes. Memory is touched when it is
    /// first used.
    ///
    /// # Panics
    /// If there is not enough address space, or `columns` is above 2^31.
    pub fn new(columns: u32) -> Self {
        let columns = columns.checked_next_power_of_two().expect("so many columns are never asked for");
        let used_until = <[AtomicU64]>::new_box_zeroed_with_elems(ROWS * columns as usize).expect("address space");
        Self { columns, used_until }
    }

    /// Whether the source may begin something at a rate of `per_second`, which is not 0. If it may, the event is
    /// counted.
    pub fn take(&self, source: SourceKey, per_second: u32, now: Instant) -> bool {
        let (at, is_allowed) = self.next(source, per_second, now);
        if is_allowed {
            for cell in source.cells(self.columns) {
                self.used_until[cell].fetch_max(at, Relaxed);
            }
        }
        is_allowed
    }

    /// Answers the same question without counting anything.
    pub fn would_take(&self, source: SourceKey, per_second: u32, now: Instant) -> bool {
        self.next(source, per_second, now).1
    }

    /// The time until which the source's bucket would be used up, and whether that is permitted.
    fn next(&self, source: SourceKey, per_second: u32, now: Instant) -> (u64, bool) {
        let cost = 1_000_000_000 / u64::from(per_second.max(1));
        let cells = source.cells(self.columns).map(|cell| self.used_until[cell].load(Relaxed));
        let least = cells.into_iter().min().unwrap_or(0);
        let at = least.max(now.as_nanos()) + cost;
        (at, at <= (now + BURST).as_nanos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::source::SourceHasher;

    fn key(number: u32) -> SourceKey {
        SourceHasher::new(7).key(number.to_be_bytes().into())
    }

    /// How many events are permitted in 10 s at a rate of `per_second`, for a source that tries `asks` times a second.
    fn begun(rates: &SourceRates, source: SourceKey, per_second: u32, asks: u64) -> usize {
        let at = |ask: u64| Instant::from_nanos(60_000_000_000 + ask * 1_000_000_000 / asks);
        (0..10 * asks).filter(|ask| rates.take(source, per_second, at(*ask))).count()
    }

    #[test]
    fn a_source_gets_a_second_at_once_and_then_its_rate() {
        let rates = SourceRates::new(1024);
        assert!((200 + 1980..=200 + 2001).contains(&(begun(&rates, key(1), 200, 5_000))), "200 at once, 200 a second");
        assert_eq!(begun(&rates, key(2), 200, 150), 1_500, "who stays below is never refused");
        assert_eq!(begun(&rates, key(3), 1, 10), 10, "one a second, and one at once");
    }

    #[test]
    fn asking_what_would_be_takes_nothing() {
        let rates = SourceRates::new(1024);
        let now = Instant::from_millis(5_000);
        assert!((0..100).all(|_| rates.would_take(key(1), 3, now)));
        assert_eq!((0..10).filter(|_| rates.take(key(1), 3, now)).count(), 3);
        assert!(!rates.would_take(key(1), 3, now));
        assert!(rates.would_take(key(1), 3, now + Duration::from_millis(334)));
    }

    #[test]
    fn a_flood_from_everywhere_and_a_hundred_greedy_sources_leave_the_modest_theirs() {
        let rates = SourceRates::new(16_384);
        let mut refused = 0;
        for step in 0..200_000_u32 {
            let now = Instant::from_nanos(60_000_000_000 + u64::from(step) * 20_000);
            rates.take(key(1 << 24 | step), 50, now);
            rates.take(key(step % 100), 50, now);
            // A thousand sources that begin something every second, 4 times in all.
            if step % 50 == 0 {
                refused += u32::from(!rates.take(key((1 << 16) | (step / 50 % 1000)), 50, now));
            }
        }
        assert_eq!(refused, 0);
    }
}
