//! Limits how many lines of one kind are logged: a burst, then a steady rate. Lines that are held back are counted.

use std::collections::BTreeMap;

use crate::time::{Duration, Instant};

/// Lines of a kind that may be logged at once; enough for a small farm that comes up or goes down.
const BURST_LINES: u64 = 100;
/// Interval after which one more line of a kind may be logged.
const REFILL_INTERVAL: Duration = Duration::from_millis(100);
/// Number of kinds that are limited separately; there are a dozen.
const KINDS_MAX: usize = 64;

/// Whether a line is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineVerdict {
    /// The line is logged; `suppressed` lines of its kind were held back since the last.
    Line { suppressed: u64 },
    /// The line is held back.
    Suppressed,
}

/// The limits of all kinds (token buckets).
#[derive(Debug, Default)]
pub(super) struct LineLimiter {
    kinds: BTreeMap<String, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    lines: u64,
    filled: Instant,
    suppressed: u64,
}

impl LineLimiter {
    /// Decides whether a line of `kind` is logged.
    pub(super) fn admit(&mut self, kind: &str, now: Instant) -> LineVerdict {
        let kind = if self.kinds.len() < KINDS_MAX || self.kinds.contains_key(kind) { kind } else { "other" };
        let bucket = match self.kinds.get_mut(kind) {
            Some(bucket) => bucket,
            None => {
                self.kinds.entry(kind.to_owned()).or_insert(Bucket { lines: BURST_LINES, filled: now, suppressed: 0 })
            }
        };
        bucket.fill(now);
        if bucket.lines == 0 {
            bucket.suppressed += 1;
            return LineVerdict::Suppressed;
        }
        bucket.lines -= 1;
        LineVerdict::Line { suppressed: std::mem::take(&mut bucket.suppressed) }
    }

    /// The kinds that may log how many of their lines were held back, with that number.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(String, u64)> {
        let mut due = Vec::new();
        for (kind, bucket) in &mut self.kinds {
            bucket.fill(now);
            if bucket.suppressed > 0 && bucket.lines > 0 {
                bucket.lines -= 1;
                due.push((kind.clone(), std::mem::take(&mut bucket.suppressed)));
            }
        }
        due
    }
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let more = now.since(self.filled).as_nanos() / REFILL_INTERVAL.as_nanos();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.filled += REFILL_INTERVAL * more;
        self.lines = (self.lines + u64::from(more)).min(BURST_LINES);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_kind_does_not_silence_another() {
        let mut limiter = LineLimiter::default();
        while limiter.admit("server", Instant::ZERO) != LineVerdict::Suppressed {}

        assert_eq!(limiter.admit("firewall", Instant::ZERO), LineVerdict::Line { suppressed: 0 });
        assert_eq!(limiter.due(Instant::ZERO), []);
        assert_eq!(limiter.admit("server", Instant::from_millis(100)), LineVerdict::Line { suppressed: 1 });
    }

    proptest! {
        #[test]
        fn no_line_is_lost_from_the_count_and_no_second_has_more_than_its_share(
            gaps in proptest::collection::vec(0_u64..60, 1..2000),
        ) {
            let mut limiter = LineLimiter::default();
            let (mut now, mut written, mut told) = (0, 0, 0);
            for gap in &gaps {
                now += gap;
                if let LineVerdict::Line { suppressed } = limiter.admit("server", Instant::from_millis(now)) {
                    written += 1;
                    told += suppressed;
                }
            }
            told += limiter.due(Instant::from_millis(now + 1000)).iter().map(|(_, suppressed)| suppressed).sum::<u64>();
            prop_assert_eq!(written + told, gaps.len() as u64);
            prop_assert!(written <= BURST_LINES + now / 100 + 1);
        }
    }
}
