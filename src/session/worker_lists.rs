//! The expiry and eviction state of one worker, as data: the wheel by which its sessions are checked, the lists of
//! those that may be evicted, and in which list each slot is. [`super::eviction`] moves sessions through them.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use crate::session::eviction_class::EvictionClass;
use crate::session::memory::zeroed;
use crate::session::wheel::Wheel;
use crate::time::Instant;

/// The number of lists of one worker.
pub(super) const LISTS: u32 = EvictionClass::ORDER.len() as u32;

/// The state of one worker; see the module documentation.
#[derive(Debug)]
pub(super) struct WorkerLists {
    pub(super) wheel: Wheel,
    /// The number of the first list's sentinel.
    pub(super) lists: u32,
    /// The number of half-open sessions of this worker.
    pub(super) half_open: usize,
    /// How many half-open sessions are kept before they are evicted ahead of all others.
    pub(super) half_open_kept: usize,
}

/// For each slot, in which list it is and since when. 0, which fresh memory contains, means in no list.
#[derive(Debug)]
pub(super) struct ListMarks(Box<[AtomicU32]>);

/// The list that a slot is in, and when it was put there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) class: EvictionClass,
    /// In units of 2^24 ns (17 ms), modulo 2^28 (52 days).
    pub(super) tick: u32,
}

const TICK_BITS: u32 = 28;
const TICKS: u32 = (1 << TICK_BITS) - 1;

impl ListMarks {
    /// Bytes for each slot.
    pub(super) const BYTES: usize = size_of::<AtomicU32>();

    pub(super) fn new(slots: usize) -> Self {
        Self(zeroed(slots))
    }

    pub(super) fn get(&self, slot: u32) -> Option<Mark> {
        let bits = self.0[slot as usize].load(Relaxed);
        let number = (bits >> TICK_BITS).checked_sub(1)?;
        Some(Mark { class: *EvictionClass::ORDER.get(number as usize)?, tick: bits & TICKS })
    }

    pub(super) fn set(&self, slot: u32, mark: Option<Mark>) {
        let bits = mark.map_or(0, |mark| (mark.class as u32 + 1) << TICK_BITS | mark.tick);
        self.0[slot as usize].store(bits, Relaxed);
    }
}

impl Mark {
    /// True if a packet used the session at `used`, after it was put into its list.
    pub(super) fn is_before(self, used: Instant) -> bool {
        let since = tick(used).wrapping_sub(self.tick) & TICKS;
        (1..1 << (TICK_BITS - 1)).contains(&since)
    }
}

impl WorkerLists {
    /// The empty state of one of `workers` workers, whose lists have their sentinels from `lists` on.
    pub(super) fn new(wheel: Wheel, lists: u32, capacity: usize, workers: usize) -> Self {
        Self { wheel, lists, half_open: 0, half_open_kept: EvictionClass::half_open_kept(capacity, workers) }
    }

    /// The number of half-open sessions that are evicted first when room is needed.
    pub(super) fn half_open_spare(&self) -> usize {
        self.half_open.saturating_sub(self.half_open_kept)
    }

    /// Takes the next slot that is due out of the wheel.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        self.wheel.pop(now)
    }

    /// The sentinel of the list of a class.
    pub(super) const fn sentinel(&self, worth: EvictionClass) -> u32 {
        self.lists + worth as u32
    }
}

/// The time at which a session is put into a list, in the unit of [`Mark::tick`].
pub(super) fn tick(time: Instant) -> u32 {
    (time.as_nanos() >> 24) as u32 & TICKS
}
