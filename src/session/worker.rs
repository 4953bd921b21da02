//! One worker of the session table: it opens, ends and expires sessions, and keeps free slots for new ones.

mod copies;

use std::sync::Arc;

use crate::flow::CanonicalKey;
use crate::session::eviction::{self, EvictionScope};
use crate::session::worker_lists::WorkerLists;
use crate::session::{
    EndReason, OpenResult, Placement, Removed, Session, SessionId, SessionTable, Sweep, Timeouts, lock,
};
use crate::time::Instant;

pub use copies::{CopyOutcome, Precedence};

/// The largest number of slots that a worker takes from the pool at once. If it has more than twice as many, it returns
/// the excess.
const BATCH_MAX: usize = 64;

/// The largest number of sessions that one opening checks for one that may be forgotten without harm.
const HARMLESS_TRIES: usize = 32;

/// One worker of the session table. It expires the sessions that it opened, and may end any session.
#[derive(Debug)]
pub struct SessionWorker {
    table: Arc<SessionTable>,
    /// The number of this worker.
    worker: u16,
    free: Free,
    /// The slot at which the next search for a harmless session continues.
    harmless_cursor: u32,
}

/// The free slots of one worker.
#[derive(Debug)]
struct Free {
    slots: Vec<u32>,
    batch: usize,
}

impl SessionTable {
    /// Reserves room for `capacity` sessions, shared by `workers` workers. Memory is first touched when it is used.
    ///
    /// `hash_seeds` keys the hasher of the index (ahash), which never influences the choice of a path. The simulation
    /// uses fixed seeds.
    ///
    /// # Panics
    /// If `workers` is 0 or above 65,535, or `capacity` is 0 or above 2^31.
    pub fn new(
        capacity: usize,
        workers: usize,
        timeouts: Timeouts,
        hash_seeds: [u64; 4],
    ) -> (Arc<Self>, Vec<SessionWorker>) {
        let table = Arc::new(Self::reserve(capacity, workers, timeouts, hash_seeds));
        let workers = (0..workers as u16).map(|worker| SessionWorker::new(Arc::clone(&table), worker)).collect();
        (table, workers)
    }

    /// The same with one more worker, for the thread that keeps copies of another node's sessions: it opens and expires
    /// them, and leaves sweeps of the table to the others.
    ///
    /// # Panics
    /// If `workers` is 0 or above 65,534, or `capacity` is 0 or above 2^31.
    pub fn with_copies(
        capacity: usize,
        workers: usize,
        timeouts: Timeouts,
        hash_seeds: [u64; 4],
    ) -> (Arc<Self>, Vec<SessionWorker>, SessionWorker) {
        assert!(workers > 0, "an engine has a worker");
        let mut table = Self::reserve(capacity, workers + 1, timeouts, hash_seeds);
        table.sweepers = workers;
        let table = Arc::new(table);
        let worker = |worker| SessionWorker::new(Arc::clone(&table), worker);
        let (packet_workers, copies) = ((0..workers as u16).map(worker).collect(), worker(workers as u16));
        (table, packet_workers, copies)
    }
}

impl SessionWorker {
    fn new(table: Arc<SessionTable>, worker: u16) -> Self {
        let workers = table.returned.len();
        let batch = (table.capacity() / (8 * workers)).clamp(1, BATCH_MAX);
        let hand = part(&table, worker).start;
        Self { worker, free: Free { slots: Vec::with_capacity(3 * batch), batch }, harmless_cursor: hand, table }
    }

    /// The number of this worker among those that share the table, from 0.
    pub fn number(&self) -> u16 {
        self.worker
    }

    /// The shared table.
    pub fn table(&self) -> &Arc<SessionTable> {
        &self.table
    }

    /// Opens a session. A source that has more of a nearly full table than a fair share is refused.
    ///
    /// When the table is full, normally only a half-open session is evicted for the new one. If `protect` is true,
    /// because the flow would break without a session (it was learned and differs from the hash, or is translated), the
    /// session is evicted whose class comes first and which was idle longest, whichever worker opened it; and if none
    /// may be evicted, a confirmed session without a service whose pin equals the hash, as `harmless` judges.
    ///
    /// `placement` is the service and server of the flow. Returns the result and the evicted session; an eviction may turn
    /// out to have been in vain.
    pub fn open(
        &mut self,
        key: &CanonicalKey,
        placement: Option<Placement>,
        session: Session,
        protect: bool,
        harmless: impl FnMut(&CanonicalKey, &Session) -> bool,
        now: Instant,
    ) -> (OpenResult, Option<Removed>) {
        if let Some(refusal) = self.table.precheck(key, placement.as_ref(), session.original_direction) {
            return (refusal, None);
        }
        if self.table.is_over_share(key, session.original_direction) {
            return (OpenResult::OverShare, None);
        }
        let mut evicted = None;
        let slot = self.take_free().or_else(|| {
            evicted = self.make_room(protect, harmless, now);
            self.take_free()
        });
        let Some(slot) = slot else { return (OpenResult::Full, evicted) };
        let session = Session { worker: self.worker, ..session };
        let opened = self.table.insert(slot, key, placement, session);
        match opened {
            OpenResult::Inserted(_) => self.with_lists(|hold, table, _| hold.schedule(table, slot, &session, now)),
            OpenResult::Existing(_) | OpenResult::Conflict | OpenResult::Full | OpenResult::OverShare => {
                self.free.give(slot, &self.table)
            }
        }
        (opened, evicted)
    }

    /// Ends a session at once.
    pub fn close(&mut self, id: SessionId) -> Option<Removed> {
        let removed = self.table.remove_if(id, |_| true)?;
        if removed.session.worker == self.worker {
            self.with_lists(|hold, table, free| {
                hold.forget(table, id.slot);
                free.give(id.slot, table);
            });
        } else {
            lock(&self.table.returned[usize::from(removed.session.worker)]).push(id.slot);
        }
        Some(removed)
    }

    /// Ends sessions of this worker that were idle for their timeout. At most `budget` wheel entries are visited, and
    /// `ended` is called for each session that ended. Returns the number of entries visited; if that is `budget`, more
    /// may be due.
    pub fn expire(&mut self, now: Instant, budget: usize, mut ended: impl FnMut(&Removed, EndReason)) -> usize {
        self.take_returned();
        self.with_lists(|hold, table, free| {
            for visited in 0..budget {
                let Some(slot) = hold.pop_due(now) else { return visited };
                let timeouts = table.timeouts();
                let is_idle = |session: &Session| session.expires(&timeouts) <= now;
                if let Some(removed) = table.remove_if(table.id(slot), is_idle) {
                    hold.forget(table, slot);
                    free.give(slot, table);
                    ended(&removed, EndReason::Expired);
                } else if let Some(session) = table.update_slot(slot, |_, session, _| *session) {
                    hold.schedule(table, slot, &session, now);
                }
                // Otherwise another worker has ended the session, and the slot is returned by `take_returned`.
            }
            budget
        })
    }

    /// Visits at most `budget` slots of this worker's part of the table, whoever opened their sessions, from `cursor`
    /// on, which begins at 0 and is advanced. Returns true when the end of the part is reached. The parts of all
    /// workers together make up the table.
    ///
    /// `ended` is called for each session that `visit` removed, right afterwards. Sessions that another worker ends in
    /// between are reported there.
    pub fn sweep(
        &mut self,
        cursor: &mut usize,
        budget: usize,
        mut visit: impl FnMut(&CanonicalKey, &mut Session, Option<&Placement>) -> Sweep,
        mut ended: impl FnMut(Removed),
    ) -> bool {
        let part = part(&self.table, self.worker);
        let end = part.end.min(self.table.first_unused());
        for _ in 0..budget {
            let slot = part.start + *cursor as u32;
            if slot >= end {
                return true;
            }
            *cursor += 1;
            let id = self.table.id(slot);
            if self.table.update_slot(slot, &mut visit) == Some(Sweep::Remove)
                && let Some(removed) = self.close(id)
            {
                ended(removed);
            }
        }
        part.start + *cursor as u32 >= end
    }

    /// Evicts a session for a new one. The freed slot goes to this worker.
    fn make_room(
        &mut self,
        protect: bool,
        harmless: impl FnMut(&CanonicalKey, &Session) -> bool,
        now: Instant,
    ) -> Option<Removed> {
        let reaches: &[EvictionScope] =
            if protect { &[EvictionScope::Idle, EvictionScope::Everything] } else { &[EvictionScope::HalfOpen] };
        if let Some((slot, evicted)) = eviction::make_room(&self.table, self.worker, reaches, now) {
            self.free.give(slot, &self.table);
            return Some(evicted);
        }
        if protect { self.evict_harmless(harmless) } else { None }
    }

    /// Ends a session whose packets would be forwarded in the same way by the hash.
    fn evict_harmless(&mut self, mut harmless: impl FnMut(&CanonicalKey, &Session) -> bool) -> Option<Removed> {
        let part = part(&self.table, self.worker);
        for _ in 0..HARMLESS_TRIES {
            let slot = self.harmless_cursor;
            self.harmless_cursor = if slot + 1 < part.end { slot + 1 } else { part.start };
            let id = self.table.id(slot);
            let judge = |key: &CanonicalKey, session: &mut Session, placement: Option<&Placement>| {
                session.worker == self.worker && placement.is_none() && harmless(key, session)
            };
            if self.table.update_slot(slot, judge) == Some(true) {
                return self.close(id);
            }
        }
        None
    }

    /// A free slot of this worker, or else of the pool.
    fn take_free(&mut self) -> Option<u32> {
        if self.free.slots.is_empty() {
            self.take_returned();
        }
        if self.free.slots.is_empty() {
            lock(&self.table.pool).take(self.free.batch, &mut self.free.slots);
        }
        self.free.slots.pop()
    }

    /// Takes back the slots of sessions that other workers ended.
    fn take_returned(&mut self) {
        let returned = std::mem::take(&mut *lock(&self.table.returned[usize::from(self.worker)]));
        if returned.is_empty() {
            return;
        }
        self.with_lists(|hold, table, free| {
            for slot in returned {
                hold.forget(table, slot);
                free.give(slot, table);
            }
        });
    }

    /// Runs `f` on the locked expiry and eviction state of this worker.
    fn with_lists<R>(&mut self, f: impl FnOnce(&mut WorkerLists, &SessionTable, &mut Free) -> R) -> R {
        let Self { table, free, worker, .. } = self;
        f(&mut lock(&table.worker_lists[usize::from(*worker)]), table, free)
    }
}

impl Free {
    fn give(&mut self, slot: u32, table: &SessionTable) {
        self.slots.push(slot);
        if self.slots.len() > 2 * self.batch {
            lock(&table.pool).give(self.slots.drain(self.batch..));
        }
    }
}

/// The slots that a worker sweeps: its part, or all of them for one that keeps copies.
fn part(table: &SessionTable, worker: u16) -> std::ops::Range<u32> {
    let (slots, workers) = (table.capacity() as u32, table.sweepers as u64);
    if usize::from(worker) >= table.sweepers {
        return 0..slots;
    }
    let boundary = |worker: u64| (u64::from(slots) * worker / workers) as u32;
    boundary(u64::from(worker))..boundary(u64::from(worker) + 1)
}
