//! The session table: a slab reserved at start, found through two DashMaps (one per family), shared by all workers.
//!
//! ```text
//!  key ──► DashMap (IPv4 | IPv6) ──► slot number ──► cell: generation, lock { key, Session }     two cache lines
//! ```
//!
//! A translated flow has two keys, one for each leg; both lead to its slot.
//!
//! Any worker finds, reads and updates any session. A session belongs to the worker that opened it: that worker's wheel
//! expires it ([`crate::session::SessionWorker`]). No map guard and no lock leaves this file.
//!
//! The generation of a cell is odd while it is in use and grows with every change, so that a handle to a session that
//! ended is noticed. A key leaves the map before its slot is free again: while an entry is in the map, its slot is not
//! reused. Locks are taken in the order cell, shard of the map; a search holds the shard alone.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::flow::CanonicalKey;
use crate::flow::key::{CanonicalV4, CanonicalV6};
use crate::session::links::Links;
use crate::session::wheel::BUCKETS;
use crate::session::{Bound, Session, SessionWorker, State, TcpState, Timeouts};

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
    /// Its firewall failed, and `on-failure` ends its sessions.
    FirewallDown,
    /// Its server failed, and `on-failure` ends its sessions or gives them another server.
    ServerDown,
    /// Its firewall or server drained for longer than `drain-timeout`.
    DrainTimeout,
    /// Its firewall or server was taken out for maintenance.
    Maint,
    /// Its firewall, server or service left the configuration.
    Removed,
}

impl EndReason {
    /// The word by which the session log knows it. How an idle session ended is told by what its ends said last.
    pub fn name(self, session: &Session) -> &'static str {
        match (self, session.state) {
            (Self::Expired, State::Tcp(TcpState::Closing)) if session.was_closed() => "closed",
            (Self::Expired, State::Tcp(TcpState::Closing)) => "reset",
            (Self::Expired, State::Tcp(TcpState::Opening | TcpState::Established) | State::OneWay | State::TwoWay) => {
                "idle"
            }
            (Self::Evicted, _) => "evicted",
            (Self::FirewallDown, _) => "firewall_down",
            (Self::ServerDown, _) => "server_down",
            (Self::DrainTimeout, _) => "drain_timeout",
            (Self::Maint, _) => "maint",
            (Self::Removed, _) => "removed",
        }
    }
}

/// The outcome of opening a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// It is in the table; another may have been evicted for it.
    Inserted {
        /// Its name.
        id: SessionId,
        /// What made room.
        evicted: Option<Removed>,
    },
    /// Another worker was faster: the session that exists.
    Existing(SessionId),
    /// The inside of the flow's translation is a key of another session: two flows would be one to the server.
    Clash,
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
    cells: Box<[Cell]>,
    v4: Map<CanonicalV4>,
    v6: Map<CanonicalV6>,
    live: AtomicUsize,
    timeouts: ArcSwap<Timeouts>,
    /// Expiry order.
    pub(super) wheels: Arc<Links>,
    /// Half-open sessions in order of age.
    pub(super) half_open: Arc<Links>,
    /// Free slots that no worker has taken.
    pub(super) pool: Mutex<Vec<u32>>,
    /// Per worker, its slots that another worker emptied.
    pub(super) returned: Box<[Mutex<Vec<u32>>]>,
}

type Map<K> = DashMap<K, Number, ahash::RandomState>;

/// A slot number with the alignment of a key, so that a map entry for IPv4 takes 18 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Number([u16; 2]);

#[derive(Debug)]
#[repr(align(64))]
struct Cell {
    generation: AtomicU32,
    record: Mutex<Option<Record>>,
}

#[derive(Debug)]
struct Record {
    key: StoredKey,
    session: Session,
}

/// What takes more than an IPv4 key is kept apart, so that a cell fits two cache lines.
#[derive(Debug)]
enum StoredKey {
    V4(CanonicalV4),
    V6(Box<CanonicalV6>),
    Bound(Box<(CanonicalKey, Bound)>),
}

const _: () = assert!(size_of::<Cell>() == 128);

impl SessionTable {
    /// Bytes that an IPv4 session takes of the slab, its two links and the list of free slots. The map adds an entry of 19
    /// bytes at a load between 44 and 87 %.
    pub const SLOT_BYTES: usize = size_of::<Cell>() + 2 * 8 + 4;

    /// Reserves room for `capacity` sessions, shared by `workers` workers. `hash_seeds` keys the maps' hasher (ahash; it
    /// never chooses a path), fixed in the simulation.
    ///
    /// # Panics
    /// If `workers` is 0 or above 65,535, or `capacity` is 0 or above 2^31.
    pub fn new(
        capacity: usize,
        workers: usize,
        timeouts: Timeouts,
        hash_seeds: [u64; 4],
    ) -> (Arc<Self>, Vec<SessionWorker>) {
        assert!((1..=1 << 31).contains(&capacity), "configuration bounds the capacity");
        assert!((1..=usize::from(u16::MAX)).contains(&workers), "configuration bounds the workers");
        let slots = capacity as u32;
        let table = Arc::new(Self {
            cells: (0..capacity).map(|_| Cell::default()).collect(),
            v4: map(capacity, workers, hash_seeds),
            v6: map(capacity, workers, hash_seeds),
            live: AtomicUsize::new(0),
            timeouts: ArcSwap::from_pointee(timeouts),
            wheels: Arc::new(Links::new(slots + BUCKETS * workers as u32)),
            half_open: Arc::new(Links::new(slots + workers as u32)),
            pool: Mutex::new((0..slots).rev().collect()),
            returned: (0..workers).map(|_| Mutex::default()).collect(),
        });
        let workers = (0..workers as u16).map(|worker| SessionWorker::new(Arc::clone(&table), worker)).collect();
        (table, workers)
    }

    /// Sessions that fit.
    pub fn capacity(&self) -> usize {
        self.cells.len()
    }

    /// Idle times.
    pub fn timeouts(&self) -> Timeouts {
        **self.timeouts.load()
    }

    /// Other idle times from now on. A session finds out when it is looked at next: within the shortest time that its class
    /// had before, and one turn of the wheel.
    pub fn set_timeouts(&self, timeouts: Timeouts) {
        self.timeouts.store(Arc::new(timeouts));
    }

    /// Live sessions.
    pub fn len(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The session of a flow.
    #[inline]
    pub fn find(&self, key: &CanonicalKey) -> Option<SessionId> {
        // The generation is read while the entry is in the map: the slot cannot be another's meanwhile.
        let id = match key {
            CanonicalKey::V4(key) => self.v4.get(key).map(|number| self.id(number.get())),
            CanonicalKey::V6(key) => self.v6.get(key).map(|number| self.id(number.get())),
        };
        id.filter(SessionId::is_live)
    }

    /// Runs `f` on the session; `None` if it ended meanwhile.
    #[inline]
    pub fn update<R>(&self, id: SessionId, f: impl FnOnce(&mut Session) -> R) -> Option<R> {
        let cell = self.cells.get(id.slot as usize)?;
        let mut record = lock(&cell.record);
        if cell.generation.load(Ordering::Relaxed) != id.generation {
            return None;
        }
        record.as_mut().map(|record| f(&mut record.session))
    }

    /// Runs `f` on a session, its ends, and what a service made of it; `None` if it ended meanwhile.
    #[inline]
    pub fn update_bound<R>(
        &self,
        id: SessionId,
        f: impl FnOnce(&CanonicalKey, &mut Session, Option<&Bound>) -> R,
    ) -> Option<R> {
        let cell = self.cells.get(id.slot as usize)?;
        let mut record = lock(&cell.record);
        if cell.generation.load(Ordering::Relaxed) != id.generation {
            return None;
        }
        record.as_mut().map(|record| f(&record.key.get(), &mut record.session, record.key.bound()))
    }

    /// A copy of the session.
    pub fn get(&self, id: SessionId) -> Option<Session> {
        self.update(id, |session| *session)
    }

    /// Calls `f` with a copy of every live session in slot order until it answers false. Holds one slot's lock at a time;
    /// a table that changes meanwhile is seen as each slot was when visited.
    pub fn for_each(&self, mut f: impl FnMut(&CanonicalKey, &Session, Option<&Bound>) -> bool) {
        for slot in 0..self.cells.len() as u32 {
            if let Some((key, session, bound)) =
                self.inspect(slot, |key, session, bound| (*key, *session, bound.copied()))
                && !f(&key, &session, bound.as_ref())
            {
                return;
            }
        }
    }

    /// Runs `f` on the session in `slot`, if there is one.
    pub(super) fn inspect<R>(
        &self,
        slot: u32,
        f: impl FnOnce(&CanonicalKey, &mut Session, Option<&Bound>) -> R,
    ) -> Option<R> {
        let cell = &self.cells[slot as usize];
        if !self.id(slot).is_live() {
            return None;
        }
        lock(&cell.record).as_mut().map(|record| f(&record.key.get(), &mut record.session, record.key.bound()))
    }

    /// The name of whatever is in `slot`.
    pub(super) fn id(&self, slot: u32) -> SessionId {
        SessionId { slot, generation: self.cells[slot as usize].generation.load(Ordering::Acquire) }
    }

    /// Fills a free slot and enters it in the map, under both keys if the flow is translated; if that cannot be, says why and
    /// leaves the slot free.
    pub(super) fn insert(
        &self,
        slot: u32,
        key: &CanonicalKey,
        bound: Option<Bound>,
        session: Session,
    ) -> Result<SessionId, NotInserted> {
        let cell = &self.cells[slot as usize];
        // Held until the map knows the slot, so that nobody ends a session before it can be found.
        let mut record = lock(&cell.record);
        let generation = cell.generation.load(Ordering::Relaxed).wrapping_add(1);
        cell.generation.store(generation, Ordering::Release);
        let entered = match self.enter_key(key, slot) {
            Some(existing) => Err(NotInserted::Existing(existing)),
            None => match inside_key(bound.as_ref()).and_then(|inside| self.enter_key(&inside, slot)) {
                None => Ok(SessionId { slot, generation }),
                Some(_) => {
                    self.leave_key(key, slot);
                    Err(NotInserted::Clash)
                }
            },
        };
        match entered {
            Ok(id) => {
                *record = Some(Record { key: StoredKey::new(key, bound), session });
                self.live.fetch_add(1, Ordering::Relaxed);
                Ok(id)
            }
            Err(refused) => {
                cell.generation.store(generation.wrapping_add(1), Ordering::Release);
                Err(refused)
            }
        }
    }

    /// Ends a session if `f` says so, and takes it out of the map. Its slot is free afterwards.
    pub(super) fn remove_if(&self, id: SessionId, f: impl FnOnce(&Session) -> bool) -> Option<Removed> {
        let removed = {
            let cell = &self.cells[id.slot as usize];
            let mut record = lock(&cell.record);
            if cell.generation.load(Ordering::Relaxed) != id.generation || !f(&record.as_ref()?.session) {
                return None;
            }
            let record = record.take()?;
            cell.generation.store(id.generation.wrapping_add(1), Ordering::Release);
            self.live.fetch_sub(1, Ordering::Relaxed);
            Removed { key: record.key.get(), session: record.session, bound: record.key.bound().copied() }
        };
        self.leave_key(&removed.key, id.slot);
        if let Some(inside) = inside_key(removed.bound.as_ref()) {
            self.leave_key(&inside, id.slot);
        }
        Some(removed)
    }

    /// Takes a key out of the map if it leads to `slot`.
    fn leave_key(&self, key: &CanonicalKey, slot: u32) {
        let is_this = |number: &Number| number.get() == slot;
        match key {
            CanonicalKey::V4(key) => self.v4.remove_if(key, |_, number| is_this(number)).is_some(),
            CanonicalKey::V6(key) => self.v6.remove_if(key, |_, number| is_this(number)).is_some(),
        };
    }

    /// Names the live session that the key has already, or enters `slot` for it.
    fn enter_key(&self, key: &CanonicalKey, slot: u32) -> Option<SessionId> {
        match key {
            CanonicalKey::V4(key) => self.enter(&self.v4, *key, slot),
            CanonicalKey::V6(key) => self.enter(&self.v6, *key, slot),
        }
    }

    /// Names the live session that the key has already, or enters `slot` for it.
    fn enter<K: std::hash::Hash + Eq>(&self, map: &Map<K>, key: K, slot: u32) -> Option<SessionId> {
        match map.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(Number::new(slot));
                None
            }
            Entry::Occupied(mut entry) => {
                let existing = self.id(entry.get().get());
                if existing.is_live() {
                    return Some(existing);
                }
                // It ended, and whoever ended it is about to take it out of the map: he finds that it is not his.
                entry.insert(Number::new(slot));
                None
            }
        }
    }
}

/// Why a session was not inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotInserted {
    /// The flow has this session already.
    Existing(SessionId),
    /// Its inside is a key of another session.
    Clash,
}

/// A session that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Its ends.
    pub key: CanonicalKey,
    /// What was remembered.
    pub session: Session,
    /// What a service had made of it.
    pub bound: Option<Bound>,
}

/// The key of the inside leg of a translated flow.
fn inside_key(bound: Option<&Bound>) -> Option<CanonicalKey> {
    Some(bound?.inside?.canonical().0)
}

impl SessionId {
    const fn is_live(&self) -> bool {
        self.generation % 2 == 1
    }
}

impl Default for Cell {
    fn default() -> Self {
        Self { generation: AtomicU32::new(0), record: Mutex::new(None) }
    }
}

impl StoredKey {
    fn new(key: &CanonicalKey, bound: Option<Bound>) -> Self {
        match (key, bound) {
            (key, Some(bound)) => Self::Bound(Box::new((*key, bound))),
            (CanonicalKey::V4(key), None) => Self::V4(*key),
            (CanonicalKey::V6(key), None) => Self::V6(Box::new(*key)),
        }
    }

    fn get(&self) -> CanonicalKey {
        match self {
            Self::V4(key) => CanonicalKey::V4(*key),
            Self::V6(key) => CanonicalKey::V6(**key),
            Self::Bound(both) => both.0,
        }
    }

    fn bound(&self) -> Option<&Bound> {
        match self {
            Self::V4(_) | Self::V6(_) => None,
            Self::Bound(both) => Some(&both.1),
        }
    }
}

impl Number {
    fn new(slot: u32) -> Self {
        Self([(slot >> 16) as u16, slot as u16])
    }

    fn get(self) -> u32 {
        u32::from(self.0[0]) << 16 | u32::from(self.0[1])
    }
}

/// Keys spread unevenly over the shards: an eighth more room keeps each from growing.
fn map<K: std::hash::Hash + Eq>(capacity: usize, workers: usize, [a, b, c, d]: [u64; 4]) -> Map<K> {
    let shards = (workers * 16).next_power_of_two().clamp(16, 256);
    let hasher = ahash::RandomState::with_seeds(a, b, c, d);
    DashMap::with_capacity_and_hasher_and_shard_amount(capacity + capacity / 8, hasher, shards)
}

/// Nobody panics while holding one of these locks for long enough to leave half a record: a poisoned one is whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
