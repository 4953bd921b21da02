//! Counts the turns of a thread's loop, by which the watchdog sees that the thread runs.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the turns of a thread's loop. It has a cache line of its own, because workers write theirs all the time.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct TurnCounter(AtomicU64);

impl TurnCounter {
    /// Counts a turn; to be called by the thread that turns.
    pub(super) fn turn(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Number of turns so far.
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
