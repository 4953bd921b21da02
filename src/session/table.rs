//! The session table: a slab reserved at start, found through an index of fixed size, shared by all workers.
//!
//! ```text
//!  key ──► index ──► slot number ──► cell: generation, lock, key, Session     one line, then two
//! ```
//!
//! A translated flow has two keys, one for each leg; both lead to its slot (`entry`).
//!
//! Any worker finds, reads and updates any session. A session belongs to the worker that opened it: that worker's wheel
//! expires it ([`crate::session::SessionWorker`]). No lock leaves this room. A search writes nothing that others see; an update
//! writes the two lines of its session and nothing else.
//!
//! The generation of a cell is odd while it is in use and grows with every change, so that a handle to a session that
//! ended is noticed. A key leaves the index before its slot is free again: while an entry is in the index, its slot is not
//! reused. Locks are taken in the order cell, bucket of the index; a search takes none.

mod entry;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::flow::CanonicalKey;
use crate::session::cell::{self, Cell};
use crate::session::hold::{Hold, LISTS, Marks};
use crate::session::index::{Index, KeyHash};
use crate::session::links::Links;
use crate::session::live::Live;
use crate::session::memory::Lines;
use crate::session::record::{KeyWords, Place};
use crate::session::sources::Sources;
use crate::session::wheel::{BUCKETS, Wheel};
use crate::session::{Bound, Session, SessionWorker, State, TcpState, Timeouts};

pub use entry::Opened;
use entry::inside_key;

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
    /// Made room: it was worth least and idle for longest, or harmless to forget.
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
    /// An operator ended it.
    Killed,
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
            (Self::Killed, _) => "killed",
        }
    }
}

/// What a sweep does with a session it visits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// Leave it (it may have been changed).
    Keep,
    /// End it.
    Remove,
}

/// A key made ready for a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    key: KeyWords,
    hash: KeyHash,
}

/// Shared between all workers of an engine.
#[derive(Debug)]
pub struct SessionTable {
    cells: Lines<CELL_WORDS>,
    /// What is remembered of the opening of each slot's session.
    opening: Lines<1>,
    /// The IPv6 addresses of each slot; IPv4 sessions never touch their line.
    wide: Lines<WIDE_WORDS>,
    index: Index,
    capacity: usize,
    live: AtomicUsize,
    timeouts: ArcSwap<Timeouts>,
    /// Who opened how many.
    sources: Sources,
    /// Expiry order.
    wheels: Arc<Links>,
    /// Sessions whose place may be taken, a list for each worth and worker.
    pub(super) worths: Links,
    /// In which of these lists each slot is.
    pub(super) marks: Marks,
    /// What each worker holds of its sessions.
    pub(super) holds: Box<[Mutex<Hold>]>,
    /// Free slots that no worker has taken.
    pub(super) pool: Mutex<Pool>,
    /// Per worker, its slots that another worker emptied.
    pub(super) returned: Box<[Mutex<Vec<u32>>]>,
}

/// Free slots that belong to no worker.
#[derive(Debug)]
pub(super) struct Pool {
    /// Slots that came back.
    returned: Vec<u32>,
    /// Slots from here to the capacity were never used.
    fresh: u32,
    capacity: u32,
}

const CELL_WORDS: usize = 16;
const WIDE_WORDS: usize = 8;

impl SessionTable {
    /// Bytes that an IPv4 session takes at most, translated, table included: its cell and its opening, two keys in the
    /// index, its links in the wheel and in the list of its worth with the mark of that, its place among the free slots, and its
    /// part in the count of its source.
    pub const IPV4_SESSION_BYTES: usize = size_of::<Cell>()
        + size_of::<u64>()
        + (2.0 * Index::BYTES_PER_KEY) as usize
        + 1
        + 2 * Links::BYTES
        + Marks::BYTES
        + size_of::<u32>()
        + Sources::BYTES;

    /// Reserves room for `capacity` sessions, shared by `workers` workers. `hash_seeds` keys the index's hasher (ahash; it
    /// never chooses a path), fixed in the simulation. Memory is touched when it is first used.
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
        let wheels = Arc::new(Links::new(slots + BUCKETS * workers as u32));
        let hold = |worker: u32| {
            let wheel = Wheel::new(Arc::clone(&wheels), slots + BUCKETS * worker);
            Mutex::new(Hold::new(wheel, slots + LISTS * worker, capacity, workers))
        };
        let table = Arc::new(Self {
            cells: Lines::new(capacity),
            opening: Lines::new(capacity),
            wide: Lines::new(capacity),
            index: Index::new(2 * capacity, hash_seeds),
            capacity,
            live: AtomicUsize::new(0),
            timeouts: ArcSwap::from_pointee(timeouts),
            sources: Sources::new(capacity, hash_seeds[0] ^ hash_seeds[3].rotate_left(32)),
            holds: (0..workers as u32).map(hold).collect(),
            worths: Links::new(slots + LISTS * workers as u32),
            marks: Marks::new(capacity),
            wheels,
            pool: Mutex::new(Pool { returned: Vec::with_capacity(capacity), fresh: 0, capacity: slots }),
            returned: (0..workers).map(|_| Mutex::default()).collect(),
        });
        let workers = (0..workers as u16).map(|worker| SessionWorker::new(Arc::clone(&table), worker)).collect();
        (table, workers)
    }

    /// Sessions that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// All that is large, to advise the operating system about.
    pub fn memory(&self) -> [&[AtomicU64]; 6] {
        let (cells, opening, wide) = (self.cells.words(), self.opening.words(), self.wide.words());
        [cells, opening, wide, self.index.words(), self.wheels.words(), self.worths.words()]
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

    /// Who opened the sessions.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Live sessions.
    pub fn len(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes a key ready for a search.
    #[inline]
    pub fn wanted(&self, key: &CanonicalKey) -> Wanted {
        let key = KeyWords::of(key);
        Wanted { hash: self.index.hash(&key), key }
    }

    /// Reads where a search begins, so that it is near then. What is answered means nothing.
    #[inline]
    pub fn approach(&self, wanted: &Wanted) -> u64 {
        self.index.touch(wanted.hash)
    }

    /// Reads where the session seems to lie, so that it is near when it is searched; its line of the index should be. What is
    /// answered means nothing.
    #[inline]
    pub fn approach_session(&self, wanted: &Wanted) -> u64 {
        self.index.guess(wanted.hash).map_or(0, |slot| {
            let cell = self.cells.get(slot);
            cell[0].load(Ordering::Relaxed) ^ cell[CELL_WORDS / 2].load(Ordering::Relaxed)
        })
    }

    /// The session of a flow.
    #[inline]
    pub fn find(&self, key: &CanonicalKey) -> Option<SessionId> {
        self.search(&self.wanted(key))
    }

    /// The session of a flow.
    #[inline]
    pub fn search(&self, wanted: &Wanted) -> Option<SessionId> {
        self.index.find(wanted.hash, |slot| self.recognise(slot, &wanted.key))
    }

    /// The session in `slot`, if it lives and the key is its own.
    #[inline(always)]
    fn recognise(&self, slot: u32, key: &KeyWords) -> Option<SessionId> {
        let place = self.place(slot);
        let (generation, has_it) = cell::peek(place.cell, is_live, |_| place.has(key))?;
        has_it.then_some(SessionId { slot, generation })
    }

    /// Runs `f` on the session; `None` if it ended meanwhile.
    #[inline]
    pub fn update<R>(&self, id: SessionId, f: impl FnOnce(&mut Session) -> R) -> Option<R> {
        self.update_bound(id, |_, session, _| f(session))
    }

    /// Runs `f` on a session, its ends, and what a service made of it; `None` if it ended meanwhile.
    #[inline]
    pub fn update_bound<R>(
        &self,
        id: SessionId,
        f: impl FnOnce(&CanonicalKey, &mut Session, Option<&Bound>) -> R,
    ) -> Option<R> {
        if !id.is_live() {
            return None;
        }
        let place = self.place(id.slot);
        let _locked = cell::lock(place.cell, id.generation)?;
        let mut session = place.session();
        let result = f(&place.key(), &mut session, place.bound().as_ref());
        place.put_session(&session);
        Some(result)
    }

    /// Runs `f` on a session where it lies; `None` if it ended meanwhile. For packets that change little: nothing is copied
    /// that `f` does not ask for.
    #[inline]
    pub fn with_live<R>(&self, id: SessionId, f: impl FnOnce(&Live<'_>) -> R) -> Option<R> {
        if !id.is_live() {
            return None;
        }
        let place = self.place(id.slot);
        let _locked = cell::lock(place.cell, id.generation)?;
        Some(f(&Live::new(place)))
    }

    /// A copy of the session.
    pub fn get(&self, id: SessionId) -> Option<Session> {
        let place = self.place(id.slot);
        cell::read(place.cell, id.generation, |_| place.session()).filter(|_| id.is_live())
    }

    /// Runs `f` on the session in `slot`, if there is one.
    pub(super) fn inspect<R>(
        &self,
        slot: u32,
        f: impl FnOnce(&CanonicalKey, &mut Session, Option<&Bound>) -> R,
    ) -> Option<R> {
        self.update_bound(self.id(slot), f)
    }

    /// The name of whatever is in `slot`.
    pub(super) fn id(&self, slot: u32) -> SessionId {
        SessionId { slot, generation: cell::generation(self.cells.get(slot)) }
    }

    /// Slots from here on were never used.
    pub(super) fn fresh(&self) -> u32 {
        lock(&self.pool).fresh
    }

    #[inline]
    pub(super) fn place(&self, slot: u32) -> Place<'_> {
        Place { cell: self.cells.get(slot), opening: &self.opening, wide: &self.wide, slot }
    }

    /// Ends a session if `f` says so, and takes it out of the index. Its slot is free afterwards.
    pub(super) fn remove_if(&self, id: SessionId, f: impl FnOnce(&Session) -> bool) -> Option<Removed> {
        if !id.is_live() {
            return None;
        }
        let removed = {
            let place = self.place(id.slot);
            let mut locked = cell::lock(place.cell, id.generation)?;
            let session = place.session();
            if !f(&session) {
                return None;
            }
            locked.turn();
            Removed { key: place.key(), session, bound: place.bound() }
        };
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.sources.ended(removed.source());
        self.index.leave(self.wanted(&removed.key).hash, id.slot);
        if let Some((inside, _)) = inside_key(removed.bound.as_ref()) {
            self.index.leave(self.wanted(&inside).hash, id.slot);
        }
        Some(removed)
    }
}

impl Pool {
    /// Takes at most `count` slots, those that were used before first, and appends them so that the lowest fresh one is last.
    pub(super) fn take(&mut self, count: usize, slots: &mut Vec<u32>) {
        let from = self.returned.len().saturating_sub(count);
        let first = self.fresh;
        self.fresh = self.capacity.min(first + (count - (self.returned.len() - from)) as u32);
        slots.extend((first..self.fresh).rev());
        slots.extend(self.returned.drain(from..));
    }

    /// Takes slots back.
    pub(super) fn give(&mut self, slots: impl Iterator<Item = u32>) {
        self.returned.extend(slots);
    }
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

impl Removed {
    /// Who opened it.
    fn source(&self) -> IpAddr {
        self.key.oriented(self.session.opened).source.address
    }
}

/// True for the generation of a cell that is in use.
pub(super) const fn is_live(generation: u32) -> bool {
    generation % 2 == 1
}

impl SessionId {
    pub(super) const fn is_live(&self) -> bool {
        is_live(self.generation)
    }
}

/// Nobody panics while holding one of these locks for long enough to leave half a record: a poisoned one is whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
