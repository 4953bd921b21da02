//! The expiry wheel: lazy, one per worker, bounded work per turn.
//!
//! A hashed timing wheel of [`BUCKETS`] buckets, one [`TICK`] apart. Packets never touch it: a session is looked at when
//! its bucket comes up, and put into a later one if it was used meanwhile. Nothing waits longer than one turn of the wheel
//! (`Wheel::TURN`), so that an entry is never met before its time.

use std::sync::Arc;

use crate::session::links::Links;
use crate::time::{Duration, Instant};

/// How exact expiry is.
pub const TICK: Duration = Duration::from_millis(100);

/// Buckets of a wheel.
pub const BUCKETS: u32 = 4096;

const TICK_NANOS: u64 = TICK.as_nanos() as u64;

/// The buckets of one worker.
#[derive(Debug)]
pub(super) struct Wheel {
    links: Arc<Links>,
    /// Number of the first bucket's sentinel.
    first: u32,
    /// The tick whose bucket is being emptied; earlier ones are empty.
    tick: u64,
}

impl Wheel {
    /// The longest wait.
    pub(super) const TURN: Duration = Duration::from_nanos(TICK_NANOS * (BUCKETS as u64 - 1));

    /// A wheel that hangs on the sentinels from `first` on.
    pub(super) fn new(links: Arc<Links>, first: u32) -> Self {
        Self { links, first, tick: 0 }
    }

    /// Puts a slot into the bucket of the first tick at or after `due`, in one turn at most.
    pub(super) fn schedule(&mut self, slot: u32, due: Instant) {
        let due = due.as_nanos().div_ceil(TICK_NANOS);
        let tick = due.clamp(self.tick + 1, self.tick + u64::from(BUCKETS) - 1);
        self.links.push_back(self.bucket(tick), slot);
    }

    /// Takes a slot out.
    pub(super) fn cancel(&mut self, slot: u32) {
        self.links.remove(slot);
    }

    /// Takes out the next slot whose tick has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<u32> {
        let current = tick_of(now);
        // After a pause longer than a turn every bucket is due once.
        self.tick = self.tick.max(current.saturating_sub(u64::from(BUCKETS)));
        while self.tick <= current {
            if let Some(slot) = self.links.front(self.bucket(self.tick)) {
                self.links.remove(slot);
                return Some(slot);
            }
            if self.tick == current {
                return None;
            }
            self.tick += 1;
        }
        None
    }

    fn bucket(&self, tick: u64) -> u32 {
        self.first + (tick % u64::from(BUCKETS)) as u32
    }
}

fn tick_of(now: Instant) -> u64 {
    now.as_nanos() / TICK_NANOS
}
