//! What a packet worker tells the thread that copies sessions to other nodes: which sessions changed, and which flows
//! lost theirs by force.
//!
//! A ring of words between one writer and one reader. Nobody waits: what does not fit is dropped and remembered as an
//! overflow, after which the reader has to go through the whole table. A session that changed is one word; its state is
//! read from the table later, when several changes have become one.
//!
//! ```text
//!  changed   slot (32 bits) | generation (32 bits), which is odd
//!  ended     ports, protocol, family, direction of the first packet | 0 in the lowest bit;  slot | generation;
//!            addresses: 1 or 4 words
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use crate::flow::{CanonicalKey, Direction};
use crate::session::SessionId;
use crate::session::record::KeyWords;

/// What a worker told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionChange {
    /// The session was confirmed, changed its state or its firewall.
    Changed(SessionId),
    /// A session of this flow ended before its time. `opened` is the direction of its first packet.
    Ended {
        /// The session, whose slot may have another one by now.
        id: SessionId,
        /// The flow.
        key: CanonicalKey,
        /// The direction of the first packet.
        opened: Direction,
    },
}

/// The end of the ring that a worker has.
#[derive(Debug)]
pub struct ChangeWriter {
    ring: Arc<Ring>,
    /// The number of words that the reader has taken, as far as is known here.
    taken: usize,
}

/// The other end.
#[derive(Debug)]
pub struct ChangeReader {
    ring: Arc<Ring>,
}

#[derive(Debug)]
struct Ring {
    words: Box<[AtomicU64]>,
    /// The number of words that were ever written; only the writer changes it.
    written: AtomicUsize,
    /// The number of words that were ever taken; only the reader changes it.
    taken: AtomicUsize,
    overflow: AtomicBool,
}

/// A ring with room for `words` words, which is rounded up to a power of two.
pub fn change_ring(words: usize) -> (ChangeWriter, ChangeReader) {
    let words = (0..words.max(8).next_power_of_two()).map(|_| AtomicU64::new(0)).collect();
    let (written, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let ring = Arc::new(Ring { words, written, taken, overflow: AtomicBool::new(false) });
    (ChangeWriter { ring: Arc::clone(&ring), taken: 0 }, ChangeReader { ring })
}

impl ChangeWriter {
    /// Tells that a session changed.
    #[inline]
    pub fn changed(&mut self, id: SessionId) {
        self.write(&[id_word(id)]);
    }

    /// Tells that the session of a flow ended before its time.
    pub fn ended(&mut self, id: SessionId, key: &CanonicalKey, opened: Direction) {
        let words = KeyWords::of(key);
        let head = words.rest << 2 | u64::from(opened == Direction::HighToLow) << 1;
        match words.wide() {
            None => self.write(&[head, id_word(id), words.addresses]),
            Some([a, b, c, d]) => self.write(&[head, id_word(id), a, b, c, d]),
        }
    }

    fn write(&mut self, words: &[u64]) {
        let written = self.ring.written.load(Relaxed);
        let capacity = self.ring.words.len();
        if written.wrapping_sub(self.taken) + words.len() > capacity {
            self.taken = self.ring.taken.load(Acquire);
            if written.wrapping_sub(self.taken) + words.len() > capacity {
                self.ring.overflow.store(true, Release);
                return;
            }
        }
        for (at, word) in (0..).map(|offset| written.wrapping_add(offset)).zip(words) {
            self.ring.words[at & (capacity - 1)].store(*word, Relaxed);
        }
        self.ring.written.store(written.wrapping_add(words.len()), Release);
    }
}

impl ChangeReader {
    /// What was told next.
    pub fn poll(&mut self) -> Option<SessionChange> {
        let taken = self.ring.taken.load(Relaxed);
        if taken == self.ring.written.load(Acquire) {
            return None;
        }
        let word =
            |offset: usize| self.ring.words[taken.wrapping_add(offset) & (self.ring.words.len() - 1)].load(Relaxed);
        let head = word(0);
        let (change, length) = if head & 1 == 1 {
            (SessionChange::Changed(id_of(head)), 1)
        } else {
            let opened = if head & 2 == 0 { Direction::LowToHigh } else { Direction::HighToLow };
            let (words, length) = KeyWords::read(head >> 2, |place| word(2 + place));
            (SessionChange::Ended { id: id_of(word(1)), key: words.key(), opened }, 2 + length)
        };
        self.ring.taken.store(taken.wrapping_add(length), Release);
        Some(change)
    }

    /// True if something was dropped since the last call.
    pub fn take_overflow(&mut self) -> bool {
        self.ring.overflow.swap(false, Acquire)
    }
}

const fn id_word(id: SessionId) -> u64 {
    (id.slot as u64) << 32 | id.generation as u64
}

const fn id_of(word: u64) -> SessionId {
    SessionId { slot: (word >> 32) as u32, generation: word as u32 }
}

#[cfg(test)]
mod tests;
