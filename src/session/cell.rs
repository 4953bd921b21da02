//! The memory of one session: two cache lines that one worker writes at a time and any number read, under a sequence
//! lock.
//!
//! The first word says whether the cell is in use, and orders access. A writer sets its lock bit. A reader that finds
//! the word unchanged after copying the others has a consistent copy. All words are atomics, so that a torn copy is
//! merely wrong and is discarded.
//!
//! ```text
//!   word 0:  generation (32 bits) | version (31 bits) | lock
//! ```
//!
//! The generation is odd while the cell is in use and grows whenever that changes. The version grows with every unlock.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;

/// The number of words of a cell after the first.
pub(super) const PAYLOAD_WORDS: usize = 15;
/// A cell of 128 bytes.
pub(super) type SessionCell = [AtomicU64; 1 + PAYLOAD_WORDS];

const LOCKED: u64 = 1;
const VERSION: u64 = (u32::MAX - 1) as u64;

/// The generation of a cell.
#[inline]
pub(super) fn generation(cell: &SessionCell) -> u32 {
    generation_of(cell[0].load(Acquire))
}

/// Generation and version of a cell that nobody changes at the moment.
pub(super) fn version(cell: &SessionCell) -> u64 {
    let mut patience = Backoff::default();
    loop {
        let state = cell[0].load(Acquire);
        if state & LOCKED == 0 {
            return state;
        }
        patience.wait();
    }
}

#[inline]
const fn generation_of(state: u64) -> u32 {
    (state >> 32) as u32
}

/// Runs `f` on the words of a cell and returns its result with the generation. `None` if the generation is not wanted
/// or changed meanwhile. The words may be in the middle of a change by another worker.
#[inline]
pub(super) fn try_read<R>(
    cell: &SessionCell,
    is_wanted: impl Fn(u32) -> bool,
    f: impl Fn(&SessionCell) -> R,
) -> Option<(u32, R)> {
    let before = generation(cell);
    if !is_wanted(before) {
        return None;
    }
    let result = f(cell);
    fence(Acquire);
    (generation_of(cell[0].load(Relaxed)) == before).then_some((before, result))
}

/// Runs `f` on the words of a cell while nobody changes them; `None` if its generation is not `wanted`. Writes nothing.
pub(super) fn read<R>(cell: &SessionCell, wanted: u32, f: impl Fn(&SessionCell) -> R) -> Option<R> {
    let mut patience = Backoff::default();
    loop {
        let before = cell[0].load(Acquire);
        if generation_of(before) != wanted {
            return None;
        }
        if before & LOCKED == 0 {
            let result = f(cell);
            fence(Acquire);
            if cell[0].load(Relaxed) == before {
                return Some(result);
            }
        }
        patience.wait();
    }
}

/// A locked cell, which only the owner of this value may change. It is unlocked when this is dropped.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    cell: &'a SessionCell,
    /// The first word that the cell gets when it is unlocked.
    state: u64,
}

/// Locks a cell, waiting for other writers; `None` if its generation is not `wanted`.
#[inline]
pub(super) fn lock(cell: &SessionCell, wanted: u32) -> Option<Locked<'_>> {
    let mut patience = Backoff::default();
    let mut state = cell[0].load(Relaxed);
    loop {
        if generation_of(state) != wanted {
            return None;
        }
        if state & LOCKED != 0 {
            patience.wait();
            state = cell[0].load(Relaxed);
            continue;
        }
        match cell[0].compare_exchange_weak(state, state | LOCKED, Acquire, Relaxed) {
            Ok(_) => break,
            Err(other) => state = other,
        }
    }
    // Any reader that sees one of the writes which follow sees the lock bit too.
    fence(Release);
    let version = (state & VERSION).wrapping_add(2) & VERSION;
    Some(Locked { cell, state: state & !(VERSION | LOCKED) | version })
}

impl Locked<'_> {
    /// Starts the next generation and returns it. A free cell is in use at once, though still locked; a cell in use
    /// becomes free when it is unlocked.
    #[inline]
    pub(super) fn next_generation(&mut self) -> u32 {
        let generation = generation_of(self.state).wrapping_add(1);
        self.state = self.state & u64::from(u32::MAX) | u64::from(generation) << 32;
        self.cell[0].store(self.state | LOCKED, Release);
        generation
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        self.cell[0].store(self.state, Release);
    }
}

/// Waiting for a lock whose owner runs on another processor, or was preempted on this one.
#[derive(Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    /// The number of spins before the processor is yielded to others.
    const SPINS_MAX: u32 = 100;

    pub(super) fn wait(&mut self) {
        self.0 += 1;
        if self.0.is_multiple_of(Self::SPINS_MAX) {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}
