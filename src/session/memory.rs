//! Memory that is reserved at start and costs nothing until it is used.
//!
//! The operating system hands out pages of zeros when they are first touched, so everything here means "nothing there" while
//! it is zero, and a table of ten million sessions starts as fast as one of ten.

use std::sync::atomic::AtomicU64;

use zerocopy::FromZeros;

/// Words that start on a boundary of two cache lines, which processors fetch in pairs.
const PAIR_WORDS: usize = 16;
const PAIR_BYTES: usize = PAIR_WORDS * size_of::<AtomicU64>();

/// Records of `N` words, all zero at first. A record of 8 words is a cache line.
#[derive(Debug)]
pub(super) struct Lines<const N: usize> {
    words: Box<[AtomicU64]>,
    /// Words before the first record, which is aligned.
    skip: usize,
}

impl<const N: usize> Lines<N> {
    /// Room for `count` records.
    ///
    /// # Panics
    /// If there is no such address space.
    pub(super) fn new(count: usize) -> Self {
        let words = zeroed::<AtomicU64>(count * N + PAIR_WORDS);
        let skip = words.as_ptr().align_offset(PAIR_BYTES).min(PAIR_WORDS);
        Self { words, skip }
    }

    /// Record number `number`.
    #[inline]
    pub(super) fn get(&self, number: u32) -> &[AtomicU64; N] {
        let start = self.skip + number as usize * N;
        self.words[start..].first_chunk().expect("a number below the count")
    }

    /// All of it, to advise the operating system about.
    pub(super) fn words(&self) -> &[AtomicU64] {
        &self.words
    }
}

/// `count` values whose bytes are zero.
///
/// # Panics
/// If there is no such address space.
pub(super) fn zeroed<T: FromZeros>(count: usize) -> Box<[T]> {
    <[T]>::new_box_zeroed_with_elems(count).expect("address space for what the configuration reserves")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn records_are_apart_zero_at_first_and_never_straddle_a_line() {
        let lines = Lines::<8>::new(5);
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
