//! The distribution of durations in bounded memory: a histogram whose steps grow with the value.

use std::collections::BTreeMap;

/// Steps in every doubling of the value: the width of a step is at most 1/64 of its value.
const STEPS_PER_DOUBLING: u64 = 64;

/// A histogram, see the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Quantiles {
    steps: BTreeMap<u16, u64>,
    count: u64,
    /// Smallest and largest value.
    min_max: Option<(u64, u64)>,
}

impl Quantiles {
    pub(super) fn add(&mut self, value: u64) {
        *self.steps.entry(step(value)).or_default() += 1;
        self.count += 1;
        self.widen((value, value));
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (step, count) in &other.steps {
            *self.steps.entry(*step).or_default() += count;
        }
        self.count += other.count;
        if let Some(ends) = other.min_max {
            self.widen(ends);
        }
    }

    fn widen(&mut self, (least, most): (u64, u64)) {
        let (own_least, own_most) = self.min_max.unwrap_or((least, most));
        self.min_max = Some((own_least.min(least), own_most.max(most)));
    }

    /// The value that `percent` of the values do not exceed, exact to one step; 0 if there are no values.
    pub(super) fn quantile(&self, percent: u64) -> u64 {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let found = self.steps.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        let (least, most) = self.min_max.unwrap_or_default();
        found.map_or(0, |(step, _)| value(*step).clamp(least, most))
    }
}

/// Values below 64 have a step each; above that, the six bits after the highest one count.
fn step(value: u64) -> u16 {
    let doublings = value.max(1).ilog2().saturating_sub(STEPS_PER_DOUBLING.ilog2());
    // At most 58 doublings of 64 steps.
    (u64::from(doublings) * STEPS_PER_DOUBLING + (value >> doublings)) as u16
}

/// The middle of a step.
fn value(step: u16) -> u64 {
    let step = u64::from(step);
    let doublings = (step / STEPS_PER_DOUBLING).saturating_sub(1);
    let base = (step - doublings * STEPS_PER_DOUBLING) << doublings;
    base + ((1 << doublings) - 1) / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_is_known_to_a_hundredth(exact in any::<u64>()) {
            let about = value(step(exact));
            prop_assert!(about.abs_diff(exact) <= exact / 64, "{exact} became {about}");
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_values(mut values in proptest::collection::vec(0_u64..1_000_000, 1..300), percent in 1_u64..=100) {
            let mut spread = Quantiles::default();
            values.iter().for_each(|value| spread.add(*value));
            values.sort_unstable();
            let exact = values[(values.len() * percent as usize).div_ceil(100) - 1];
            let about = spread.quantile(percent);
            prop_assert!(about.abs_diff(exact) <= exact / 64, "{exact} became {about}");
        }
    }
}
