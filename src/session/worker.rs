//! One worker's hold on the session table: its free slots, its wheel, its half-open sessions in order of age.

use std::sync::Arc;

use crate::flow::CanonicalKey;
use crate::session::table::{NotInserted, lock};
use crate::session::wheel::{BUCKETS, Wheel};
use crate::session::{Bound, EndReason, Opened, Removed, Session, SessionId, SessionTable, Sweep};
use crate::time::{Duration, Instant};

/// Slots that a worker takes from the pool at once, at most; it gives back what it has beyond twice as many.
const BATCH_MAX: usize = 64;

/// How many sessions one opening may look at to find room.
const EVICTION_TRIES: usize = 32;

/// Age at which a half-open session is looked at for the first time: most have finished their handshake by then and leave
/// the list of those that are evicted first, so that an eviction finds its victim at once.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// See the module. Each session is opened, expired and evicted by one worker; every worker may end any.
#[derive(Debug)]
pub struct SessionWorker {
    table: Arc<SessionTable>,
    /// Number of this worker.
    worker: u16,
    wheel: Wheel,
    /// The sentinel of its half-open sessions.
    half_open: u32,
    free: Vec<u32>,
    batch: usize,
    /// Where the search for a harmless session goes on.
    hand: u32,
}

impl SessionWorker {
    pub(super) fn new(table: Arc<SessionTable>, worker: u16) -> Self {
        let slots = table.capacity() as u32;
        let workers = table.returned.len();
        let batch = (table.capacity() / (8 * workers)).clamp(1, BATCH_MAX);
        let wheel = Wheel::new(Arc::clone(&table.wheels), slots + BUCKETS * u32::from(worker));
        let hand = part(slots, workers, worker).start;
        Self {
            worker,
            wheel,
            half_open: slots + u32::from(worker),
            free: Vec::with_capacity(3 * batch),
            batch,
            hand,
            table,
        }
    }

    /// Number of this worker among those that share the table, from 0.
    pub fn number(&self) -> u16 {
        self.worker
    }

    /// The shared table.
    pub fn table(&self) -> &Arc<SessionTable> {
        &self.table
    }

    /// Opens a session. When the table is full it evicts, in this order: this worker's oldest half-open session, or (if
    /// `protect` says that forgetting the new session would break it: learned and different from the hash) a confirmed
    /// session whose pin equals the hash, as judged by `harmless`, that no service has bound.
    ///
    /// `bound` is what a service made of the flow.
    pub fn open(
        &mut self,
        key: &CanonicalKey,
        bound: Option<Bound>,
        session: Session,
        protect: bool,
        harmless: impl FnMut(&CanonicalKey, &Session) -> bool,
        now: Instant,
    ) -> Opened {
        if let Some(existing) = self.table.find(key) {
            return Opened::Existing(existing);
        }
        let mut evicted = None;
        let slot = self.take_free().or_else(|| {
            evicted = self.evict_half_open();
            if evicted.is_none() && protect {
                evicted = self.evict_harmless(harmless);
            }
            self.take_free()
        });
        let Some(slot) = slot else { return Opened::Full };
        let session = Session { worker: self.worker, ..session };
        match self.table.insert(slot, key, bound, session) {
            Ok(id) => {
                self.schedule(slot, &session, now);
                Opened::Inserted { id, evicted }
            }
            Err(refused) => {
                self.give_free(slot);
                match refused {
                    NotInserted::Existing(existing) => Opened::Existing(existing),
                    NotInserted::Clash => Opened::Clash,
                    NotInserted::NoRoom => Opened::Full,
                }
            }
        }
    }

    /// Ends a session now.
    pub fn close(&mut self, id: SessionId) -> Option<Removed> {
        let removed = self.table.remove_if(id, |_| true)?;
        if removed.session.worker == self.worker {
            self.release(id.slot);
        } else {
            lock(&self.table.returned[usize::from(removed.session.worker)]).push(id.slot);
        }
        Some(removed)
    }

    /// Forgets idle sessions of this worker; visits at most `budget` wheel entries. `ended` sees each forgotten session.
    /// Answers how many entries it visited: `budget` means that more may be due.
    pub fn expire(&mut self, now: Instant, budget: usize, mut ended: impl FnMut(&Removed, EndReason)) -> usize {
        self.take_returned();
        for visited in 0..budget {
            let Some(slot) = self.wheel.pop(now) else { return visited };
            let timeouts = self.table.timeouts();
            let is_idle = |session: &Session| session.expires(&timeouts) <= now;
            if let Some(removed) = self.table.remove_if(self.table.id(slot), is_idle) {
                self.release(slot);
                ended(&removed, EndReason::Expired);
            } else if let Some(session) = self.table.inspect(slot, |_, session, _| *session) {
                self.schedule(slot, &session, now);
            }
            // Else another worker ended it: its slot comes back by `take_returned`.
        }
        budget
    }

    /// Visits at most `budget` slots of this worker's part of the table from `cursor` on (0 at first), whoever opened what
    /// is in them; advances `cursor`, and answers true when the end of the part was reached. The parts of all workers
    /// together are the table. `ended` is given what `visit` had removed, right after that; what another worker ended in
    /// between is that one's.
    pub fn sweep(
        &mut self,
        cursor: &mut usize,
        budget: usize,
        mut visit: impl FnMut(&CanonicalKey, &mut Session, Option<&Bound>) -> Sweep,
        mut ended: impl FnMut(Removed),
    ) -> bool {
        let part = part(self.table.capacity() as u32, self.table.returned.len(), self.worker);
        let end = part.end.min(self.table.fresh());
        for _ in 0..budget {
            let slot = part.start + *cursor as u32;
            if slot >= end {
                return true;
            }
            *cursor += 1;
            let id = self.table.id(slot);
            if self.table.inspect(slot, &mut visit) == Some(Sweep::Remove)
                && let Some(removed) = self.close(id)
            {
                ended(removed);
            }
        }
        part.start + *cursor as u32 >= end
    }

    /// Enters a session in the wheel, and while it is half-open among those that are evicted first.
    fn schedule(&mut self, slot: u32, session: &Session, now: Instant) {
        let timeouts = &self.table.timeouts();
        let patience = timeouts.shortest(session.class).min(Wheel::TURN);
        let first_look = session.created + FIRST_LOOK;
        let look = if session.is_half_open() && first_look > now { first_look } else { now + patience };
        self.wheel.schedule(slot, session.expires(timeouts).min(look).min(now + patience));
        match (session.is_half_open(), self.table.half_open.is_linked(slot)) {
            (true, false) => self.table.half_open.push_back(self.half_open, slot),
            (false, true) => self.table.half_open.remove(slot),
            (true, true) | (false, false) => {}
        }
    }

    /// Ends the oldest session of this worker that is half-open. Those that were when they were entered and are not any
    /// more leave the list on the way.
    fn evict_half_open(&mut self) -> Option<Removed> {
        for _ in 0..EVICTION_TRIES {
            let slot = self.table.half_open.front(self.half_open)?;
            self.table.half_open.remove(slot);
            let id = self.table.id(slot);
            if self.table.inspect(slot, |_, session, _| session.is_half_open()) == Some(true) {
                return self.close(id);
            }
        }
        None
    }

    /// Ends a session that the hash would find again.
    fn evict_harmless(&mut self, mut harmless: impl FnMut(&CanonicalKey, &Session) -> bool) -> Option<Removed> {
        let part = part(self.table.capacity() as u32, self.table.returned.len(), self.worker);
        for _ in 0..EVICTION_TRIES {
            let slot = self.hand;
            self.hand = if slot + 1 < part.end { slot + 1 } else { part.start };
            let id = self.table.id(slot);
            let judge = |key: &CanonicalKey, session: &mut Session, bound: Option<&Bound>| {
                session.worker == self.worker && bound.is_none() && harmless(key, session)
            };
            if self.table.inspect(slot, judge) == Some(true) {
                return self.close(id);
            }
        }
        None
    }

    /// A free slot: of this worker, else of the pool.
    fn take_free(&mut self) -> Option<u32> {
        if self.free.is_empty() {
            self.take_returned();
        }
        if self.free.is_empty() {
            lock(&self.table.pool).take(self.batch, &mut self.free);
        }
        self.free.pop()
    }

    fn give_free(&mut self, slot: u32) {
        self.free.push(slot);
        if self.free.len() > 2 * self.batch {
            lock(&self.table.pool).give(self.free.drain(self.batch..));
        }
    }

    /// Takes an empty slot of this worker out of its lists; it is free.
    fn release(&mut self, slot: u32) {
        self.wheel.cancel(slot);
        self.table.half_open.remove(slot);
        self.give_free(slot);
    }

    /// Takes back the slots of sessions that other workers ended.
    fn take_returned(&mut self) {
        let returned = std::mem::take(&mut *lock(&self.table.returned[usize::from(self.worker)]));
        for slot in returned {
            self.release(slot);
        }
    }
}

/// The slots that a worker sweeps.
fn part(slots: u32, workers: usize, worker: u16) -> std::ops::Range<u32> {
    let boundary = |worker: u64| (u64::from(slots) * worker / workers as u64) as u32;
    boundary(u64::from(worker))..boundary(u64::from(worker) + 1)
}
