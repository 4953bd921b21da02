//! The expiry wheel: a hashed timing wheel of [`BUCKETS`] buckets, one [`TICK`] apart, for each worker.
//!
//! Packets never touch it. A session is checked when its bucket comes up, and put into a later bucket if it was used
//! meanwhile. Nothing is scheduled further ahead than one turn of the wheel (`Wheel::SPAN`), so that no entry comes up
//! before its time.

use std::sync::Arc;

use crate::session::links::SlotLinks;
use crate::time::{Duration, Instant};

/// The time between two buckets, which is the precision of expiry.
pub const TICK: Duration = Duration::from_millis(100);

/// The number of buckets of a wheel.
pub const BUCKETS: u32 = 4096;

const TICK_NANOS: u64 = TICK.as_nanos() as u64;

/// The wheel of one worker.
#[derive(Debug)]
pub(super) struct Wheel {
    links: Arc<SlotLinks>,
    /// The number of the first bucket's sentinel.
    first: u32,
    /// The tick whose bucket is being emptied. The buckets of earlier ticks are empty.
    tick: u64,
}

impl Wheel {
    /// The longest time for which a slot can be scheduled.
    pub(super) const SPAN: Duration = Duration::from_nanos(TICK_NANOS * (BUCKETS as u64 - 1));

    /// An empty wheel whose buckets have their sentinels from `first` on.
    pub(super) fn new(links: Arc<SlotLinks>, first: u32) -> Self {
        Self { links, first, tick: 0 }
    }

    /// Puts a slot into the bucket of the first tick at or after `due`, at most one turn ahead.
    pub(super) fn schedule(&mut self, slot: u32, due: Instant) {
        let due = due.as_nanos().div_ceil(TICK_NANOS);
        let tick = due.clamp(self.tick + 1, self.tick + u64::from(BUCKETS) - 1);
        self.links.push_back(self.bucket(tick), slot);
    }

    /// Removes a slot from the wheel.
    pub(super) fn cancel(&mut self, slot: u32) {
        self.links.remove(slot);
    }

    /// Removes and returns the next slot whose tick has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<u32> {
        let current = tick_of(now);
        // After a pause of more than one turn, every bucket is due exactly once.
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
