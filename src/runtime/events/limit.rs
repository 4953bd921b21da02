//! How many lines of one kind are logged: a burst, then some a second. What is held back is counted and told.

use std::collections::BTreeMap;

use crate::time::{Duration, Instant};

/// Lines of a kind at once: a small farm that comes up or goes down is told whole.
const BURST: u64 = 100;
/// One more line of the kind every so often.
const INTERVAL: Duration = Duration::from_millis(100);
/// Kinds that are told apart; there are a dozen.
const KINDS: usize = 64;

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is written; so many of its kind were held back since the last.
    Line { suppressed: u64 },
    /// It is held back.
    Suppressed,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    kinds: BTreeMap<String, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    lines: u64,
    filled: Instant,
    suppressed: u64,
}

impl Limiter {
    /// A line of `kind` wants to be written.
    pub(super) fn admit(&mut self, kind: &str, now: Instant) -> Admission {
        let kind = if self.kinds.len() < KINDS || self.kinds.contains_key(kind) { kind } else { "other" };
        let bucket = match self.kinds.get_mut(kind) {
            Some(bucket) => bucket,
            None => self.kinds.entry(kind.to_owned()).or_insert(Bucket { lines: BURST, filled: now, suppressed: 0 }),
        };
        bucket.fill(now);
        if bucket.lines == 0 {
            bucket.suppressed += 1;
            return Admission::Suppressed;
        }
        bucket.lines -= 1;
        Admission::Line { suppressed: std::mem::take(&mut bucket.suppressed) }
    }

    /// The kinds of which lines were held back and may be told of, with how many.
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
        let more = now.since(self.filled).as_nanos() / INTERVAL.as_nanos();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.filled += INTERVAL * more;
        self.lines = (self.lines + u64::from(more)).min(BURST);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_kind_does_not_silence_another() {
        let mut limiter = Limiter::default();
        while limiter.admit("server", Instant::ZERO) != Admission::Suppressed {}

        assert_eq!(limiter.admit("firewall", Instant::ZERO), Admission::Line { suppressed: 0 });
        assert_eq!(limiter.due(Instant::ZERO), []);
        assert_eq!(limiter.admit("server", Instant::from_millis(100)), Admission::Line { suppressed: 1 });
    }

    proptest! {
        #[test]
        fn no_line_is_lost_from_the_count_and_no_second_has_more_than_its_share(
            gaps in proptest::collection::vec(0_u64..60, 1..2000),
        ) {
            let mut limiter = Limiter::default();
            let (mut now, mut written, mut told) = (0, 0, 0);
            for gap in &gaps {
                now += gap;
                if let Admission::Line { suppressed } = limiter.admit("server", Instant::from_millis(now)) {
                    written += 1;
                    told += suppressed;
                }
            }
            told += limiter.due(Instant::from_millis(now + 1000)).iter().map(|(_, suppressed)| suppressed).sum::<u64>();
            prop_assert_eq!(written + told, gaps.len() as u64);
            prop_assert!(written <= BURST + now / 100 + 1);
        }
    }
}
