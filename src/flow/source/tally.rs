//! How many things each source holds.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use zerocopy::FromZeros;

use super::{ROWS, SourceKey};

/// Counts how many things sources hold. Several threads may use it at the same time.
///
/// The count of a source is the smallest of its cells less the average share of all sources in a cell. With `all`
/// things held in `columns` columns it is at most `all / columns` too small, and `x` or more too large with a
/// probability of at most `(all / (x * columns))` to the power of [`ROWS`] (Markov's inequality in each row): a source
/// that holds little is hardly ever taken for one that holds much.
/// for one that holds much.
#[derive(Debug)]
pub struct SourceTally {
    columns: u32,
    /// The cells row after row.
    cells: Box<[AtomicU32]>,
}

impl SourceTally {
    /// A tally with `columns` columns, rounded up to a power of two; each takes 16 bytes. Memory is touched when it is
    /// first used.
    ///
    /// # Panics
    /// If there is not enough address space, or `columns` is above 2^31.
    pub fn new(columns: u32) -> Self {
        let columns = columns.checked_next_power_of_two().expect("so many columns are never asked for");
        let cells = <[AtomicU32]>::new_box_zeroed_with_elems(ROWS * columns as usize).expect("address space");
        Self { columns, cells }
    }

    /// Counts one more thing of the source.
    pub fn add(&self, source: SourceKey) {
        for cell in source.cells(self.columns) {
            self.cells[cell].fetch_add(1, Relaxed);
        }
    }

    /// Counts one thing less of the source, which was added before.
    pub fn remove(&self, source: SourceKey) {
        for cell in source.cells(self.columns) {
            self.cells[cell].fetch_sub(1, Relaxed);
        }
    }

    /// How many things the source holds, of `all` that are held by all sources.
    pub fn held(&self, source: SourceKey, all: u32) -> u32 {
        let cells = source.cells(self.columns).map(|cell| self.cells[cell].load(Relaxed));
        let least = cells.into_iter().min().unwrap_or(0);
        least.saturating_sub(all / self.columns)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::flow::source::SourceHasher;

    fn key(seed: u64, number: u32) -> SourceKey {
        SourceHasher::new(seed).key(number.to_be_bytes().into())
    }

    proptest! {
        /// Compared with a model, with fewer columns than sources: the count is near the truth, and nothing is left at
        /// the end.
        #[test]
        fn what_is_said_of_a_source_is_near_what_it_holds(seed: u64, steps in prop::collection::vec((0..300_u32, any::<bool>()), 1..3000)) {
            let tally = SourceTally::new(64);
            let mut held: HashMap<u32, u32> = HashMap::new();
            for (number, adds) in steps {
                let count = held.entry(number).or_default();
                if adds {
                    *count += 1;
                    tally.add(key(seed, number));
                } else if *count > 0 {
                    *count -= 1;
                    tally.remove(key(seed, number));
                }
            }
            let all: u32 = held.values().sum();
            for (number, count) in &held {
                let said = tally.held(key(seed, *number), all);
                prop_assert!(said + all / 64 >= *count, "{said} of {count}, {all} in all");
            }
            for (number, count) in &held {
                (0..*count).for_each(|_| tally.remove(key(seed, *number)));
            }
            prop_assert!(held.keys().all(|number| tally.held(key(seed, *number), 0) == 0));
        }
    }

    #[test]
    fn a_source_that_holds_little_is_not_taken_for_a_large_one_beside_thousands_of_others() {
        // 16 sources with 10,000 each and 20,000 with 5, as a table of some 300,000 sessions has 16,384 columns.
        let mut too_large = 0;
        for seed in 0..16 {
            let tally = SourceTally::new(16_384);
            let sizes = |number: u32| if number < 16 { 10_000 } else { 5 };
            for number in 0..20_016 {
                (0..sizes(number)).for_each(|_| tally.add(key(seed, number)));
            }
            let all = (0..20_016).map(sizes).sum();
            // By the bound 64 or more too large: (260,080 / (64 * 16,384))^4 = 0.4 %.
            too_large +=
                (0..20_016).filter(|number| tally.held(key(seed, *number), all) >= sizes(*number) + 64).count();
            let largest = tally.held(key(seed, 3), all);
            assert!((9_900..10_200).contains(&largest), "{largest}");
        }
        assert!(too_large <= 16 * 80, "{too_large} of {}", 16 * 20_016);
    }
}
