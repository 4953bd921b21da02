//! Memory that is reserved at start and occupies nothing until it is used.
//!
//! The operating system provides zeroed pages when they are first touched. In everything kept here zero means "empty",
//! so that a table of ten million sessions starts as fast as one of ten.

use std::sync::atomic::AtomicU64;

use zerocopy::FromZeros;

/// The number of words in two cache lines, which processors fetch in pairs; records are aligned to that.
const PAIR_WORDS: usize = 16;
const PAIR_BYTES: usize = PAIR_WORDS * size_of::<AtomicU64>();

/// Records of `N` words, initially all zero. A record of 8 words is a cache line.
#[derive(Debug)]
pub(super) struct AlignedRecords<const N: usize> {
    words: Box<[AtomicU64]>,
    /// The number of words before the first record, which is aligned.
    skip: usize,
}

impl<const N: usize> AlignedRecords<N> {
    /// Room for `count` records.
    ///
    /// # Panics
    /// If there is not enough address space.
    pub(super) fn new(count: usize) -> Self {
        let words = zeroed::<AtomicU64>(count * N + PAIR_WORDS);
        let skip = words.as_ptr().align_offset(PAIR_BYTES).min(PAIR_WORDS);
        Self { words, skip }
    }

    /// The record with the index `number`.
    #[inline]
    pub(super) fn get(&self, number: u32) -> &[AtomicU64; N] {
        let start = self.skip + number as usize * N;
        self.words[start..].first_chunk().expect("a number below the count")
    }

    /// The whole memory, for advice to the operating system.
    pub(super) fn words(&self) -> &[AtomicU64] {
        &self.words
    }
}

/// `count` values whose bytes are all zero.
///
/// # Panics
/// If there is not enough address space.
pub(super) fn zeroed<T: FromZeros>(count: usize) -> Box<[T]> {
    <[T]>::new_box_zeroed_with_elems(count).expect("address space for what the configuration reserves")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn records_are_apart_zero_at_first_and_never_straddle_a_line() {
        let lines = AlignedRecords::<8>::new(5);
        for number in 0..5 {
            let line = lines.get(number);
            assert_eq!(line.as_ptr() as usize % 64, 0);
            assert!(line.iter().all(|word| word.load(Relaxed) == 0));
            line.iter().for_each(|word| word.store(u64::from(number) + 1, Relaxed));
        }
        for number in 0..5 {
            assert!(lines.get(number).iter().all(|word| word.load(Relaxed) == u64::from(number) + 1));
        }
    }
}
