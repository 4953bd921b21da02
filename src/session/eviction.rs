//! The expiry and eviction state for the sessions that one worker opened: when each is checked next, and which one a
//! new session may replace.
//!
//! ```text
//!   wheel    by the time of the next check
//!   lists    one for each [`EvictionClass`], the longest idle in front
//! ```
//!
//! Packets touch neither. A list is ordered by when its sessions were put there, and each session remembers that time.
//! A session that was used since then is moved to the end when it is met in front, so that what stays in front was idle
//! all the time. This state lies in the table under a lock of its own. Its worker takes the lock to open and expire
//! sessions; another worker takes it to evict a session if it has none of its own to evict.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use crate::session::eviction_class::{self, EvictionClass};
use crate::session::memory::zeroed;
use crate::session::table::lock;
use crate::session::wheel::Wheel;
use crate::session::{Removed, Session, SessionId, SessionTable};
use crate::time::{Duration, Instant};

/// The number of lists of one worker.
pub(super) const LISTS: u32 = EvictionClass::ORDER.len() as u32;

/// The age at which a half-open session is checked for the first time. By then most have completed their handshake and
/// leave the list that is evicted first, so that an eviction finds a victim at once.
const FIRST_CHECK_AGE: Duration = Duration::from_secs(2);

/// The largest number of sessions of one list that one search for a victim checks.
const LIST_SEARCH_MAX: usize = 16;

/// The largest number of sessions that one search for a victim checks: twice all lists of its worker, and some of other
/// workers.
const SEARCH_MAX: usize = 2 * LIST_SEARCH_MAX * EvictionClass::ORDER.len() + 48;

/// The state of one worker; see the module documentation.
#[derive(Debug)]
pub(super) struct WorkerLists {
    wheel: Wheel,
    /// The number of the first list's sentinel.
    lists: u32,
    /// The number of half-open sessions of this worker.
    half_open: usize,
    /// How many half-open sessions are kept before they are evicted ahead of all others.
    half_open_kept: usize,
}

/// For each slot, in which list it is and since when. 0, which fresh memory contains, means in no list.
#[derive(Debug)]
pub(super) struct ListMarks(Box<[AtomicU32]>);

/// The list that a slot is in, and when it was put there.
#[derive(Debug, Clone, Copy)]
struct Mark {
    class: EvictionClass,
    /// In units of 2^24 ns (17 ms), modulo 2^28 (52 days).
    tick: u32,
}

const TICK_BITS: u32 = 28;
const TICKS: u32 = (1 << TICK_BITS) - 1;

/// Which of the sessions that may be evicted at all one search may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EvictionScope {
    /// Half-open sessions that are idle or exceed the number that is kept.
    HalfOpen,
    /// All sessions except half-open ones that are kept and not idle.
    Idle,
    /// All sessions.
    Everything,
}

/// A session that may be evicted.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    id: SessionId,
    last_seen: Instant,
    is_idle: bool,
}

impl ListMarks {
    /// Bytes for each slot.
    pub(super) const BYTES: usize = size_of::<AtomicU32>();

    pub(super) fn new(slots: usize) -> Self {
        Self(zeroed(slots))
    }

    fn get(&self, slot: u32) -> Option<Mark> {
        let bits = self.0[slot as usize].load(Relaxed);
        let number = (bits >> TICK_BITS).checked_sub(1)?;
        Some(Mark { class: *EvictionClass::ORDER.get(number as usize)?, tick: bits & TICKS })
    }

    fn set(&self, slot: u32, mark: Option<Mark>) {
        let bits = mark.map_or(0, |mark| (mark.class as u32 + 1) << TICK_BITS | mark.tick);
        self.0[slot as usize].store(bits, Relaxed);
    }
}

impl Mark {
    /// True if a packet used the session at `used`, after it was put into its list.
    fn is_before(self, used: Instant) -> bool {
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

    /// Schedules the next check of a session, and puts it into the list of its class if it may be evicted.
    pub(super) fn schedule(&mut self, table: &SessionTable, slot: u32, session: &Session, now: Instant) {
        let timeouts = &table.timeouts();
        let patience = timeouts.shortest(session.class).min(Wheel::SPAN);
        let first_look = session.created + FIRST_CHECK_AGE;
        let look = if session.is_half_open() && first_look > now { first_look } else { now + patience };
        self.wheel.schedule(slot, session.expires(timeouts).min(look).min(now + patience));
        let is_in_place = match (table.marks.get(slot), EvictionClass::of(session)) {
            (Some(mark), Some(worth)) => mark.class == worth && !mark.is_before(session.last_seen),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_in_place {
            self.enlist(table, slot, session, now);
        }
    }

    /// Takes a slot out of the wheel and its list.
    pub(super) fn forget(&mut self, table: &SessionTable, slot: u32) {
        self.wheel.cancel(slot);
        self.unlist(table, slot);
    }

    /// Evicts a session within `reach`: ends it and returns its slot, which is in no list any more. Checks no more than
    /// `looks` sessions, and decrements that number for each.
    pub(super) fn evict(
        &mut self,
        table: &SessionTable,
        reach: EvictionScope,
        looks: &mut usize,
        now: Instant,
    ) -> Option<(u32, Removed)> {
        let mut oldest: Option<Candidate> = None;
        let lists = if reach == EvictionScope::HalfOpen { 1 } else { EvictionClass::ORDER.len() };
        for worth in EvictionClass::ORDER.into_iter().take(lists) {
            let Some(candidate) = self.candidate(table, worth, looks, now) else { continue };
            let goes_first = match worth {
                EvictionClass::HalfOpen => self.half_open > self.half_open_kept,
                EvictionClass::Closing | EvictionClass::Icmp | EvictionClass::Udp | EvictionClass::Other => false,
            };
            if (goes_first || candidate.is_idle)
                && let Some(removed) = self.end(table, candidate.id)
            {
                return Some(removed);
            }
            if worth != EvictionClass::HalfOpen || reach == EvictionScope::Everything {
                oldest = oldest.filter(|oldest| oldest.last_seen <= candidate.last_seen).or(Some(candidate));
            }
        }
        self.end(table, oldest?.id)
    }

    fn end(&mut self, table: &SessionTable, id: SessionId) -> Option<(u32, Removed)> {
        let removed = table.remove_if(id, |session| EvictionClass::of(session).is_some())?;
        self.forget(table, id.slot);
        Some((id.slot, removed))
    }

    /// The first session of a list that no packet has used since it was put there.
    fn candidate(
        &mut self,
        table: &SessionTable,
        worth: EvictionClass,
        looks: &mut usize,
        now: Instant,
    ) -> Option<Candidate> {
        for _ in 0..LIST_SEARCH_MAX.min(*looks) {
            let slot = table.eviction_links.front(self.sentinel(worth))?;
            *looks -= 1;
            let id = table.id(slot);
            let Some(session) = table.get(id) else {
                // Another worker has ended the session, and its slot is being returned.
                self.unlist(table, slot);
                continue;
            };
            let was_used = table.marks.get(slot).is_some_and(|mark| mark.is_before(session.last_seen));
            if EvictionClass::of(&session) == Some(worth) && !was_used {
                let is_idle = eviction_class::is_idle(&session, &table.timeouts(), now);
                return Some(Candidate { id, last_seen: session.last_seen, is_idle });
            }
            self.enlist(table, slot, &session, now);
        }
        None
    }

    /// Puts a session at the end of the list of its class, if it may be evicted.
    fn enlist(&mut self, table: &SessionTable, slot: u32, session: &Session, now: Instant) {
        self.unlist(table, slot);
        let Some(worth) = EvictionClass::of(session) else { return };
        self.half_open += usize::from(worth == EvictionClass::HalfOpen);
        table.eviction_links.push_back(self.sentinel(worth), slot);
        table.marks.set(slot, Some(Mark { class: worth, tick: tick(now.max(session.last_seen)) }));
    }

    fn unlist(&mut self, table: &SessionTable, slot: u32) {
        if let Some(mark) = table.marks.get(slot) {
            self.half_open -= usize::from(mark.class == EvictionClass::HalfOpen);
            table.eviction_links.remove(slot);
            table.marks.set(slot, None);
        }
    }

    const fn sentinel(&self, worth: EvictionClass) -> u32 {
        self.lists + worth as u32
    }
}

/// Evicts a session in favour of worker `number` and returns its slot. The scopes are tried in order, each first on the
/// worker's own sessions and then on those of others. A worker whose state is locked at this moment is skipped.
pub(super) fn make_room(
    table: &SessionTable,
    number: u16,
    reaches: &[EvictionScope],
    now: Instant,
) -> Option<(u32, Removed)> {
    let (own, mut looks) = (usize::from(number), SEARCH_MAX);
    for &reach in reaches {
        let evicted = lock(&table.worker_lists[own]).evict(table, reach, &mut looks, now);
        if evicted.is_some() {
            return evicted;
        }
        let others = table.worker_lists.iter().enumerate().filter(|(worker, _)| *worker != own);
        for (_, hold) in others {
            if let Ok(mut hold) = hold.try_lock()
                && let Some(evicted) = hold.evict(table, reach, &mut looks, now)
            {
                return Some(evicted);
            }
        }
    }
    None
}

fn tick(time: Instant) -> u32 {
    (time.as_nanos() >> 24) as u32 & TICKS
}

#[cfg(test)]
mod tests;
