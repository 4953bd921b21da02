//! The session table: a slab reserved at start, found through two DashMaps (one per family), shared by all workers.
//!
//! A session belongs to the worker that opened it: that worker's wheel expires it. No map guard and no lock leaves this
//! file.

use std::sync::Arc;

use crate::flow::CanonicalKey;
use crate::session::{Session, Timeouts};
use crate::time::Instant;

/// Names a session: slot and generation, so that a stale handle is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// Slot in the slab.
    pub slot: u32,
    /// Generation of the slot.
    pub generation: u32,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// Idle for its timeout.
    Expired,
    /// Made room: half-open, or harmless to forget.
    Evicted,
    /// Its firewall failed and `on-failure` says drop or reset.
    Failed,
}

/// The outcome of opening a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// It is in the table; another may have been evicted for it.
    Inserted {
        /// Its name.
        id: SessionId,
        /// What made room.
        evicted: Option<Session>,
    },
    /// Another worker was faster: the session that exists.
    Existing(SessionId),
    /// The table is full of sessions that must not be evicted.
    Full,
}

/// What a sweep does with a session it visits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// Leave it (it may have been changed).
    Keep,
    /// End it.
    Remove,
}

/// Shared between all workers of an engine.
#[derive(Debug)]
pub struct SessionTable {
    capacity: usize,
}

/// One worker's hold on the table: its free slots, its wheel, its half-open sessions in order of age.
#[derive(Debug)]
pub struct SessionWorker {
    table: Arc<SessionTable>,
}

impl SessionTable {
    /// Reserves room for `capacity` sessions, shared by `workers` workers. `hash_seeds` keys the maps' hasher (ahash; it
    /// never chooses a path), fixed in the simulation.
    pub fn new(
        capacity: usize,
        workers: usize,
        timeouts: Timeouts,
        hash_seeds: [u64; 4],
    ) -> (Arc<Self>, Vec<SessionWorker>) {
        let _ = (workers, timeouts, hash_seeds);
        let table = Arc::new(Self { capacity });
        (table, Vec::new())
    }

    /// Sessions that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Live sessions.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The session of a flow.
    pub fn find(&self, key: &CanonicalKey) -> Option<SessionId> {
        let _ = key;
        todo!()
    }

    /// Runs `f` on the session; `None` if it ended meanwhile.
    pub fn update<R>(&self, id: SessionId, f: impl FnOnce(&mut Session) -> R) -> Option<R> {
        let _ = (id, f);
        todo!()
    }

    /// A copy of the session.
    pub fn get(&self, id: SessionId) -> Option<Session> {
        self.update(id, |session| *session)
    }

    /// Calls `f` with a copy of every live session in slot order until it answers false. Holds one slot's lock at a time;
    /// a table that changes meanwhile is seen as each slot was when visited.
    pub fn for_each(&self, f: impl FnMut(&Session) -> bool) {
        let _ = f;
        todo!()
    }
}

impl SessionWorker {
    /// The shared table.
    pub fn table(&self) -> &Arc<SessionTable> {
        &self.table
    }

    /// Opens a session. When the table is full it evicts, in this order: this worker's oldest half-open session, or (if
    /// `protect` says that forgetting the new session would break it: learned and different from the hash) a confirmed
    /// session whose pin equals the hash, as judged by `harmless`.
    pub fn open(
        &mut self,
        session: Session,
        protect: bool,
        harmless: impl FnMut(&Session) -> bool,
        now: Instant,
    ) -> Opened {
        let _ = (session, protect, harmless, now);
        todo!()
    }

    /// Ends a session now.
    pub fn close(&mut self, id: SessionId) -> Option<Session> {
        let _ = id;
        todo!()
    }

    /// Forgets idle sessions of this worker; visits at most `budget` wheel entries. `ended` sees each forgotten session.
    pub fn expire(&mut self, now: Instant, budget: usize, ended: impl FnMut(&Session, EndReason)) -> usize {
        let _ = (now, budget, ended);
        todo!()
    }

    /// Visits at most `budget` of this worker's slots from `cursor` on; advances `cursor`, and answers true when the end of
    /// the worker's slots was reached.
    pub fn sweep(&mut self, cursor: &mut usize, budget: usize, visit: impl FnMut(&mut Session) -> Sweep) -> bool {
        let _ = (cursor, budget, visit);
        todo!()
    }
}
