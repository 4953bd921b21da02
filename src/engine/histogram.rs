//! Counts durations in fixed buckets, so that memory and cost do not grow with the number of observations.

use crate::engine::view::HistogramView;
use crate::time::Duration;

/// Upper bounds of the buckets in microseconds, inclusive. Longer durations are counted in one more bucket.
const BOUNDS_US: [u64; 13] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/// A histogram of durations; see the module documentation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DurationHistogram {
    counts: [u64; BOUNDS_US.len() + 1],
    sum: Duration,
}

impl DurationHistogram {
    /// Counts one duration.
    pub fn observe(&mut self, duration: Duration) {
        let bucket = BOUNDS_US.partition_point(|bound| Duration::from_micros(*bound) < duration);
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(duration);
    }

    /// A copy with all durations in seconds.
    pub fn view(&self) -> HistogramView {
        HistogramView {
            bounds: BOUNDS_US.iter().map(|bound| Duration::from_micros(*bound).as_secs_f64()).collect(),
            counts: self.counts.to_vec(),
            sum: self.sum.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let mut histogram = DurationHistogram::default();
        for nanos in [0, 50_000, 50_001, 1_000_000, 1_000_000_000, 1_000_000_001, u64::MAX] {
            histogram.observe(Duration::from_nanos(nanos));
        }

        let view = histogram.view();

        assert_eq!(view.counts, [2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!((view.bounds[0], view.bounds[12], view.bounds.len() + 1), (0.000_05, 1.0, view.counts.len()));
        assert!(view.sum > 2.0);
    }
}
