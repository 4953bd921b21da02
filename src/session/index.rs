//! Finds the slot of a key: a hash table of fixed size that all workers share, read without a lock and without a write.
//!
//! ```text
//!   bucket (one cache line):  7 entries of  mark | tag (31 bits) | slot (32 bits)  ,  overflow count | lock
//! ```
//!
//! A key has a home bucket. If that is full its entry lies in the first of the next buckets that has a free place, and every
//! bucket passed over counts it: a search ends at the first bucket that counts none, so that a miss mostly reads one line.
//! An entry never moves, and its key is compared in the slot by whoever searches.
//!
//! Whoever enters or takes out a key holds the lock of its home bucket, so that a key is entered once; free places are taken
//! by compare-and-swap, as keys of other homes want them too.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::session::cell::Patience;
use crate::session::memory::Lines;
use crate::session::record::KeyWords;

/// Entries of a bucket.
const PLACES: usize = 7;
/// Where a bucket counts what it did not take.
const OVERFLOW: usize = PLACES;
/// Set in the overflow word while somebody changes what has its home here.
const LOCKED: u64 = 1 << 63;
/// Buckets that a key may lie in. At two thirds of its places full, which a full table of translated sessions makes, a run of
/// that many full buckets has a chance below 1 in 10^20.
const REACH: u32 = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Index {
    lines: Lines<{ PLACES + 1 }>,
    buckets: u32,
    hasher: ahash::RandomState,
}

/// What a key hashes to: where it lies and how it is marked there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyHash(u64);

/// How entering a key ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entered<T> {
    /// It leads to the slot.
    New,
    /// It led to another already.
    Existing(T),
    /// Every bucket in reach is full.
    NoRoom,
}

impl Index {
    /// Room for `keys` keys. `seeds` make it hard to guess which keys meet in a bucket.
    pub(super) fn new(keys: usize, [a, b, c, d]: [u64; 4]) -> Self {
        // Four and a half keys in a bucket of seven places.
        let buckets = (keys as u64 * 2 / 9 + 1) as u32;
        Self { lines: Lines::new(buckets as usize), buckets, hasher: ahash::RandomState::with_seeds(a, b, c, d) }
    }

    /// Bytes that it takes for each of `keys` keys.
    pub(super) const BYTES_PER_KEY: f64 = 64.0 * 2.0 / 9.0;

    #[inline]
    pub(super) fn hash(&self, key: &KeyWords) -> KeyHash {
        KeyHash(match key.wide() {
            None => self.hasher.hash_one((key.addresses, key.rest)),
            Some(addresses) => self.hasher.hash_one((addresses, key.rest)),
        })
    }

    /// Reads the line of a key, so that it is near when the key is searched; what it says means nothing.
    #[inline]
    pub(super) fn touch(&self, hash: KeyHash) -> u64 {
        self.bucket(self.home(hash))[OVERFLOW].load(Relaxed)
    }

    /// The slot that the key leads to, if it lies at home and no other key there has its tag.
    #[inline]
    pub(super) fn guess(&self, hash: KeyHash) -> Option<u32> {
        let home = self.bucket(self.home(hash))[..PLACES].iter().map(|entry| entry.load(Relaxed));
        home.into_iter().find(|entry| entry >> 32 == hash.mark()).map(|entry| entry as u32)
    }

    /// The slots that the key may lead to are offered to `is_it`, until it answers.
    #[inline(always)]
    pub(super) fn find<T>(&self, hash: KeyHash, is_it: impl Fn(u32) -> Option<T>) -> Option<T> {
        let mark = hash.mark();
        let mut at = self.home(hash);
        for _ in 0..self.reach() {
            let bucket = self.bucket(at);
            for entry in &bucket[..PLACES] {
                let entry = entry.load(Acquire);
                if entry >> 32 == mark
                    && let Some(found) = is_it(entry as u32)
                {
                    return Some(found);
                }
            }
            if bucket[OVERFLOW].load(Acquire) & !LOCKED == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// Lets the key lead to `slot`, unless `is_it` knows a slot that it leads to already.
    pub(super) fn enter<T>(&self, hash: KeyHash, slot: u32, is_it: impl Fn(u32) -> Option<T>) -> Entered<T> {
        let home = self.home(hash);
        let _changing = self.lock(home);
        if let Some(existing) = self.find(hash, is_it) {
            return Entered::Existing(existing);
        }
        let mut at = home;
        for _ in 0..self.reach() {
            let bucket = self.bucket(at);
            let is_taken = |place: &AtomicU64| place.compare_exchange(0, hash.entry(slot), AcqRel, Relaxed).is_ok();
            if bucket[..PLACES].iter().any(|place| place.load(Relaxed) == 0 && is_taken(place)) {
                return Entered::New;
            }
            // Before the entry is there, so that no search stops short of it.
            bucket[OVERFLOW].fetch_add(1, AcqRel);
            at = self.after(at);
        }
        self.uncount(home, self.reach());
        Entered::NoRoom
    }

    /// Takes the key out, if it leads to `slot`.
    pub(super) fn leave(&self, hash: KeyHash, slot: u32) {
        let home = self.home(hash);
        let _changing = self.lock(home);
        let mut at = home;
        for passed in 0..self.reach() {
            let bucket = self.bucket(at);
            if let Some(place) = bucket[..PLACES].iter().find(|place| place.load(Relaxed) == hash.entry(slot)) {
                place.store(0, Release);
                self.uncount(home, passed);
                return;
            }
            if bucket[OVERFLOW].load(Relaxed) & !LOCKED == 0 {
                return;
            }
            at = self.after(at);
        }
    }

    /// All of it, to advise the operating system about.
    pub(super) fn words(&self) -> &[AtomicU64] {
        self.lines.words()
    }

    /// The first `count` buckets from `home` on count one key less.
    fn uncount(&self, home: u32, count: u32) {
        let mut at = home;
        for _ in 0..count {
            self.bucket(at)[OVERFLOW].fetch_sub(1, AcqRel);
            at = self.after(at);
        }
    }

    fn lock(&self, home: u32) -> Changing<'_> {
        let word = &self.bucket(home)[OVERFLOW];
        let mut patience = Patience::default();
        while word.fetch_or(LOCKED, Acquire) & LOCKED != 0 {
            patience.wait();
        }
        Changing(word)
    }

    #[inline]
    fn home(&self, hash: KeyHash) -> u32 {
        ((u64::from(hash.0 as u32) * u64::from(self.buckets)) >> 32) as u32
    }

    #[inline]
    fn after(&self, at: u32) -> u32 {
        if at + 1 == self.buckets { 0 } else { at + 1 }
    }

    #[inline]
    fn reach(&self) -> u32 {
        REACH.min(self.buckets)
    }

    #[inline]
    fn bucket(&self, number: u32) -> &[AtomicU64; PLACES + 1] {
        self.lines.get(number)
    }
}

impl KeyHash {
    /// The upper half of an entry: never 0, so that a free place is no entry.
    #[inline]
    const fn mark(self) -> u64 {
        self.0 >> 32 | 1 << 31
    }

    const fn entry(self, slot: u32) -> u64 {
        self.mark() << 32 | slot as u64
    }
}

/// The lock of a home bucket.
struct Changing<'a>(&'a AtomicU64);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.fetch_and(!LOCKED, Release);
    }
}

#[cfg(test)]
mod tests;
