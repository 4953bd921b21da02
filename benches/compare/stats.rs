//! Medians and quartiles: the conclusions that a noisy machine allows.

use serde::Serialize;

/// The middle of a set of measurements, and the range of its middle half.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quartiles {
    /// A quarter of the measurements is not above it.
    pub q1: f64,
    /// The median.
    pub median: f64,
    /// A quarter of the measurements is not below it.
    pub q3: f64,
    /// Number of measurements.
    pub rounds: usize,
}

impl Quartiles {
    /// The quartiles of these measurements, in any order; those that are not a number are left out. `None` if there are
    /// none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        // Between two neighbours the value is interpolated, as R and NumPy do by default (Hyndman and Fan's type 7).
        let at = |fraction: f64| {
            let position = fraction * last as f64;
            let (below, part) = (position.floor() as usize, position.fract());
            values[below] + part * (values[(below + 1).min(last)] - values[below])
        };
        Some(Self { q1: at(0.25), median: at(0.5), q3: at(0.75), rounds: values.len() })
    }

    /// A single measurement.
    pub fn exactly(value: f64) -> Self {
        Self { q1: value, median: value, q3: value, rounds: 1 }
    }
}

/// The ratios of two parties, each within its round; a round in which the reference measured zero is left out.
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Option<Quartiles> {
    Quartiles::of(ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0).map(|(ours, theirs)| ours / theirs))
}

/// The median; `None` if there are no values.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    Quartiles::of(values).map(|quartiles| quartiles.median)
}

/// The smallest value that is not exceeded by this percentage of all values (nearest rank); `values` are sorted.
pub fn percentile(values: &[f64], percent: f64) -> Option<f64> {
    let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}
