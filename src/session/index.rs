//! The index of the session table: a hash table of fixed size from keys to slots. All workers share it, and read it
//! without locking or writing.
//!
//! ```text
//!   bucket (one cache line):  7 entries of  mark | tag (31 bits) | slot (32 bits)  ,  overflow count | lock
//! ```
//!
//! A key has a home bucket. If that bucket is full, the entry lies in the first of the next buckets with a free place,
//! and every full bucket that was passed over counts it. A search ends at the first bucket whose count is zero, so that
//! a search for an unknown key mostly reads one cache line. An entry never moves. Whoever searches compares the key in
//! the slot.
//!
//! Whoever enters or removes a key holds the lock of its home bucket, so that a key is entered only once. Free places
//! are taken by compare-and-swap, because keys with other home buckets may want them too.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::session::cell::Backoff;
use crate::session::memory::AlignedRecords;
use crate::session::record::KeyWords;

/// The number of entries in a bucket.
const ENTRIES_PER_BUCKET: usize = 7;
/// The word of a bucket that counts the keys which passed over it.
const OVERFLOW: usize = ENTRIES_PER_BUCKET;
/// Set in the overflow word while somebody enters or removes a key with this home bucket.
const LOCKED: u64 = 1 << 63;
/// The largest number of buckets in which a key may lie. With two thirds of all places in use, as in a full table of
/// translated sessions, the probability of so many full buckets in a row is below 1 in 10^20.
const PROBE_MAX: u32 = 32;

/// The index; see the module documentation.
#[derive(Debug)]
pub(super) struct Index {
    lines: AlignedRecords<{ ENTRIES_PER_BUCKET + 1 }>,
    buckets: u32,
    hasher: ahash::RandomState,
}

/// The hash of a key, which gives its home bucket and its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyHash(u64);

/// The result of entering a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InsertResult<T> {
    /// The key now leads to the slot.
    New,
    /// The key already led to another slot.
    Existing(T),
    /// All buckets in reach are full.
    NoRoom,
}

impl Index {
    /// An index with room for `keys` keys. The secret `seeds` prevent attackers from finding keys that collide.
    pub(super) fn new(keys: usize, [a, b, c, d]: [u64; 4]) -> Self {
        // On average a bucket with seven places gets four and a half keys.
        let buckets = (keys as u64 * 2 / 9 + 1) as u32;
        Self {
            lines: AlignedRecords::new(buckets as usize),
            buckets,
            hasher: ahash::RandomState::with_seeds(a, b, c, d),
        }
    }

    /// Memory per key in bytes.
    pub(super) const BYTES_PER_KEY: f64 = 64.0 * 2.0 / 9.0;

    #[inline]
    pub(super) fn hash(&self, key: &KeyWords) -> KeyHash {
        KeyHash(match key.wide() {
            None => self.hasher.hash_one((key.addresses, key.rest)),
            Some(addresses) => self.hasher.hash_one((addresses, key.rest)),
        })
    }

    /// Prefetches the cache line of a key's home bucket. The result has no meaning; it only keeps the read from being
    /// optimised away.
    #[inline]
    pub(super) fn prefetch(&self, hash: KeyHash) -> u64 {
        self.bucket(self.home(hash))[OVERFLOW].load(Relaxed)
    }

    /// The slot of the first entry with the key's tag in its home bucket, as a guess without comparing keys.
    #[inline]
    pub(super) fn first_candidate(&self, hash: KeyHash) -> Option<u32> {
        let home = self.bucket(self.home(hash))[..ENTRIES_PER_BUCKET].iter().map(|entry| entry.load(Relaxed));
        home.into_iter().find(|entry| entry >> 32 == hash.entry_tag()).map(|entry| entry as u32)
    }

    /// Calls `is_it` with each slot to which the key may lead, and returns its first answer.
    #[inline(always)]
    pub(super) fn find<T>(&self, hash: KeyHash, is_it: impl Fn(u32) -> Option<T>) -> Option<T> {
        let mark = hash.entry_tag();
        let mut at = self.home(hash);
        for _ in 0..self.reach() {
            let bucket = self.bucket(at);
            for entry in &bucket[..ENTRIES_PER_BUCKET] {
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

    /// Makes the key lead to `slot`, unless `is_it` recognises another slot to which it leads already.
    pub(super) fn insert<T>(&self, hash: KeyHash, slot: u32, is_it: impl Fn(u32) -> Option<T>) -> InsertResult<T> {
        let home = self.home(hash);
        let _lock = self.lock(home);
        if let Some(existing) = self.find(hash, is_it) {
            return InsertResult::Existing(existing);
        }
        let mut at = home;
        for _ in 0..self.reach() {
            let bucket = self.bucket(at);
            let is_taken = |place: &AtomicU64| place.compare_exchange(0, hash.entry(slot), AcqRel, Relaxed).is_ok();
            if bucket[..ENTRIES_PER_BUCKET].iter().any(|place| place.load(Relaxed) == 0 && is_taken(place)) {
                return InsertResult::New;
            }
            // Counted before the entry exists, so that no search ends before reaching it.
            bucket[OVERFLOW].fetch_add(1, AcqRel);
            at = self.after(at);
        }
        self.decrement_overflow(home, self.reach());
        InsertResult::NoRoom
    }

    /// Removes the key, if it leads to `slot`.
    pub(super) fn remove(&self, hash: KeyHash, slot: u32) {
        let home = self.home(hash);
        let _lock = self.lock(home);
        let mut at = home;
        for passed in 0..self.reach() {
            let bucket = self.bucket(at);
            if let Some(place) =
                bucket[..ENTRIES_PER_BUCKET].iter().find(|place| place.load(Relaxed) == hash.entry(slot))
            {
                place.store(0, Release);
                self.decrement_overflow(home, passed);
                return;
            }
            if bucket[OVERFLOW].load(Relaxed) & !LOCKED == 0 {
                return;
            }
            at = self.after(at);
        }
    }

    /// The whole memory of the index, for advice to the operating system.
    pub(super) fn words(&self) -> &[AtomicU64] {
        self.lines.words()
    }

    /// Decrements the overflow counts of the `count` buckets from `home` on.
    fn decrement_overflow(&self, home: u32, count: u32) {
        let mut at = home;
        for _ in 0..count {
            self.bucket(at)[OVERFLOW].fetch_sub(1, AcqRel);
            at = self.after(at);
        }
    }

    fn lock(&self, home: u32) -> HomeLock<'_> {
        let word = &self.bucket(home)[OVERFLOW];
        let mut patience = Backoff::default();
        while word.fetch_or(LOCKED, Acquire) & LOCKED != 0 {
            patience.wait();
        }
        HomeLock(word)
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
        PROBE_MAX.min(self.buckets)
    }

    #[inline]
    fn bucket(&self, number: u32) -> &[AtomicU64; ENTRIES_PER_BUCKET + 1] {
        self.lines.get(number)
    }
}

impl KeyHash {
    /// The upper half of an entry. It is never 0, so that a free place is not mistaken for an entry.
    #[inline]
    const fn entry_tag(self) -> u64 {
        self.0 >> 32 | 1 << 31
    }

    const fn entry(self, slot: u32) -> u64 {
        self.entry_tag() << 32 | slot as u64
    }
}

/// The lock of a home bucket, which is released when this is dropped.
struct HomeLock<'a>(&'a AtomicU64);

impl Drop for HomeLock<'_> {
    fn drop(&mut self) {
        self.0.fetch_and(!LOCKED, Release);
    }
}

#[cfg(test)]
mod tests;
