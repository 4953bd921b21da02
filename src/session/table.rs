//! The session table: an array of cells reserved at start, and an index of fixed size that finds them. All workers
//! share it.
//!
//! ```text
//!  key ──► index ──► slot number ──► cell: generation, lock, key, Session     one line, then two
//! ```
//!
//! A translated flow has two keys, one for each leg, and both lead to its slot (`entry`).
//!
//! Any worker may find, read and update any session. The worker that opened a session expires it
//! ([`crate::session::SessionWorker`]). No lock leaves this module. A search writes nothing to shared memory; an update
//! writes only the two cache lines of its session.
//!
//! The generation of a cell is odd while it is in use and grows with every change of that, so that the identifier of a
//! session that ended is recognised as stale. A key is removed from the index before its slot becomes free, so that a
//! slot is never reused while an entry leads to it. Locks are taken in the order cell, then index bucket; a search
//! takes none.

mod entry;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use crate::flow::CanonicalKey;
use crate::session::cell::{self, SessionCell};
use crate::session::index::{Index, KeyHash};
use crate::session::links::SlotLinks;
use crate::session::locked_session::LockedSession;
use crate::session::memory::AlignedRecords;
use crate::session::record::{KeyWords, SlotRef};
use crate::session::sources::SourceLimiter;
use crate::session::wheel::{BUCKETS, Wheel};
use crate::session::worker_lists::{LISTS, ListMarks, WorkerLists};
use crate::session::{ConversationState, Placement, Session, TcpState, Timeouts, lock};

pub use entry::OpenResult;
use entry::inside_key;

/// Identifies a session by slot and generation, so that a stale identifier is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// Number of the cell.
    pub slot: u32,
    /// Generation of the cell.
    pub generation: u32,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// It was idle for its timeout.
    Expired,
    /// It made room for a new session, because its class is evicted first and it was idle longest, or could be
    /// forgotten without harm.
    Evicted,
    /// Its firewall went down, and `on-failure` ends its sessions.
    FirewallDown,
    /// Its server went down, and `on-failure` ends its sessions or moves them to another server.
    ServerDown,
    /// Its firewall or server was draining for longer than `drain-timeout`.
    DrainTimeout,
    /// Its firewall or server was taken out of service for maintenance.
    Maint,
    /// Its firewall, server or service was removed from the configuration.
    Removed,
    /// An operator ended it.
    Killed,
}

impl EndReason {
    /// The name of the reason in the session log. For an expired session it says how the TCP connection ended.
    pub fn name(self, session: &Session) -> &'static str {
        match (self, session.state) {
            (Self::Expired, ConversationState::Tcp(TcpState::Closing)) if session.was_closed() => "closed",
            (Self::Expired, ConversationState::Tcp(TcpState::Closing)) => "reset",
            (
                Self::Expired,
                ConversationState::Tcp(TcpState::Opening | TcpState::Established)
                | ConversationState::OneWay
                | ConversationState::TwoWay,
            ) => "idle",
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

/// What a sweep does with a session that it visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// Keep the session, which the visit may have changed.
    Keep,
    /// End the session.
    Remove,
}

/// A key with its hash, ready for a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashedKey {
    key: KeyWords,
    hash: KeyHash,
}

/// The session table of an engine, shared between its workers.
#[derive(Debug)]
pub struct SessionTable {
    cells: AlignedRecords<CELL_WORDS>,
    /// One separate word per slot with its session's time of opening.
    opening: AlignedRecords<1>,
    /// The IPv6 addresses of each slot. Sessions over IPv4 never touch them.
    wide: AlignedRecords<WIDE_WORDS>,
    index: Index,
    capacity: usize,
    live: AtomicUsize,
    timeouts: ArcSwap<Timeouts>,
    /// The numbers of sessions that each source opened.
    sources: SourceLimiter,
    /// The links of the expiry wheels.
    wheel_links: Arc<SlotLinks>,
    /// The links of the lists of sessions that may be evicted, one list for each worker and
    /// [`EvictionClass`](super::eviction_class::EvictionClass).
    pub(super) eviction_links: SlotLinks,
    /// For each slot, in which of these lists it is.
    pub(super) marks: ListMarks,
    /// The expiry and eviction state of each worker.
    pub(super) worker_lists: Box<[Mutex<WorkerLists>]>,
    /// The free slots that no worker has taken.
    pub(super) pool: Mutex<Pool>,
    /// For each worker, the slots of its sessions that other workers ended.
    pub(super) returned: Box<[Mutex<Vec<u32>>]>,
    /// The number of workers that sweep the table, which are the first ones. One that only keeps copies does not.
    pub(super) sweepers: usize,
}

/// Free slots that no worker has taken.
#[derive(Debug)]
pub(super) struct Pool {
    /// Slots that were used before.
    returned: Vec<u32>,
    /// The first slot that was never used; all slots from here to the capacity are free.
    first_unused: u32,
    capacity: u32,
}

const CELL_WORDS: usize = 16;
const WIDE_WORDS: usize = 8;

impl SessionTable {
    /// Bytes that an IPv4 session takes at most, translated, table included: its cell and its time of opening, two keys
    /// in the index, its links in the wheel and in the list of its eviction class with its mark there, its place among
    /// the free slots, and its part in the counts of its source.
    pub const IPV4_SESSION_BYTES: usize = size_of::<SessionCell>()
        + size_of::<u64>()
        + (2.0 * Index::BYTES_PER_KEY) as usize
        + 1
        + 2 * SlotLinks::BYTES
        + ListMarks::BYTES
        + size_of::<u32>()
        + SourceLimiter::BYTES;

    /// The memory of the table. [`SessionTable::new`] makes its workers too.
    pub(super) fn reserve(capacity: usize, workers: usize, timeouts: Timeouts, hash_seeds: [u64; 4]) -> Self {
        assert!((1..=1 << 31).contains(&capacity), "configuration bounds the capacity");
        assert!((1..=usize::from(u16::MAX)).contains(&workers), "configuration bounds the workers");
        let slots = capacity as u32;
        let wheels = Arc::new(SlotLinks::new(slots + BUCKETS * workers as u32));
        let hold = |worker: u32| {
            let wheel = Wheel::new(Arc::clone(&wheels), slots + BUCKETS * worker);
            Mutex::new(WorkerLists::new(wheel, slots + LISTS * worker, capacity, workers))
        };
        Self {
            cells: AlignedRecords::new(capacity),
            opening: AlignedRecords::new(capacity),
            wide: AlignedRecords::new(capacity),
            index: Index::new(2 * capacity, hash_seeds),
            capacity,
            live: AtomicUsize::new(0),
            timeouts: ArcSwap::from_pointee(timeouts),
            sources: SourceLimiter::new(capacity, hash_seeds[0] ^ hash_seeds[3].rotate_left(32)),
            worker_lists: (0..workers as u32).map(hold).collect(),
            eviction_links: SlotLinks::new(slots + LISTS * workers as u32),
            marks: ListMarks::new(capacity),
            wheel_links: wheels,
            pool: Mutex::new(Pool { returned: Vec::with_capacity(capacity), first_unused: 0, capacity: slots }),
            returned: (0..workers).map(|_| Mutex::default()).collect(),
            sweepers: workers,
        }
    }

    /// The largest number of sessions that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// All large blocks of memory, for advice to the operating system.
    pub fn memory(&self) -> [&[AtomicU64]; 6] {
        let (cells, opening, wide) = (self.cells.words(), self.opening.words(), self.wide.words());
        [cells, opening, wide, self.index.words(), self.wheel_links.words(), self.eviction_links.words()]
    }

    /// The idle timeouts.
    pub fn timeouts(&self) -> Timeouts {
        **self.timeouts.load()
    }

    /// Changes the idle timeouts. A session follows the new ones when it is checked next: within the shortest timeout
    /// that its class had before, and at most one turn of the wheel.
    pub fn set_timeouts(&self, timeouts: Timeouts) {
        self.timeouts.store(Arc::new(timeouts));
    }

    /// The numbers of sessions by source, and their limits.
    pub fn sources(&self) -> &SourceLimiter {
        &self.sources
    }

    /// The number of live sessions.
    pub fn len(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// True if there are no sessions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Prepares a key for a search.
    #[inline]
    pub fn hashed(&self, key: &CanonicalKey) -> HashedKey {
        let key = KeyWords::of(key);
        HashedKey { hash: self.index.hash(&key), key }
    }

    /// Prefetches the index line where a search begins. The result has no meaning; it only keeps the read from being
    /// optimised away.
    #[inline]
    pub fn prefetch(&self, wanted: &HashedKey) -> u64 {
        self.index.prefetch(wanted.hash)
    }

    /// Prefetches the cell in which the session probably lies. Its index line should have been prefetched before. The
    /// result has no meaning; it only keeps the reads from being optimised away.
    #[inline]
    pub fn prefetch_session(&self, wanted: &HashedKey) -> u64 {
        self.index.first_candidate(wanted.hash).map_or(0, |slot| {
            let cell = self.cells.get(slot);
            cell[0].load(Ordering::Relaxed) ^ cell[CELL_WORDS / 2].load(Ordering::Relaxed)
        })
    }

    /// Finds the session of a flow.
    #[inline]
    pub fn find(&self, key: &CanonicalKey) -> Option<SessionId> {
        self.search(&self.hashed(key))
    }

    /// Finds the session of a prepared key.
    #[inline]
    pub fn search(&self, wanted: &HashedKey) -> Option<SessionId> {
        self.index.find(wanted.hash, |slot| self.recognise(slot, &wanted.key))
    }

    /// The session in `slot`, if it is live and has this key.
    #[inline(always)]
    fn recognise(&self, slot: u32, key: &KeyWords) -> Option<SessionId> {
        let place = self.slot_ref(slot);
        let (generation, has_it) = cell::try_read(place.cell, is_live, |_| place.has_key(key))?;
        has_it.then_some(SessionId { slot, generation })
    }

    /// Runs `f` on the session; `None` if the session has ended.
    #[inline]
    pub fn update<R>(&self, id: SessionId, f: impl FnOnce(&mut Session) -> R) -> Option<R> {
        self.update_with_placement(id, |_, session, _| f(session))
    }

    /// Runs `f` on the session, its key, and its service and server; `None` if the session has ended.
    #[inline]
    pub fn update_with_placement<R>(
        &self,
        id: SessionId,
        f: impl FnOnce(&CanonicalKey, &mut Session, Option<&Placement>) -> R,
    ) -> Option<R> {
        if !id.is_live() {
            return None;
        }
        let place = self.slot_ref(id.slot);
        let _locked = cell::lock(place.cell, id.generation)?;
        let mut session = place.session();
        let result = f(&place.key(), &mut session, place.placement().as_ref());
        place.put_session(&session);
        Some(result)
    }

    /// Runs `f` on the session in place; `None` if the session has ended. Nothing is copied that `f` does not read,
    /// which suits packets that change little.
    #[inline]
    pub fn with_locked<R>(&self, id: SessionId, f: impl FnOnce(&LockedSession<'_>) -> R) -> Option<R> {
        if !id.is_live() {
            return None;
        }
        let place = self.slot_ref(id.slot);
        let _locked = cell::lock(place.cell, id.generation)?;
        Some(f(&LockedSession::new(place)))
    }

    /// A copy of the session.
    pub fn get(&self, id: SessionId) -> Option<Session> {
        let place = self.slot_ref(id.slot);
        cell::read(place.cell, id.generation, |_| place.session()).filter(|_| id.is_live())
    }

    /// Runs `f` on the session in `slot`, if there is one.
    pub(super) fn update_slot<R>(
        &self,
        slot: u32,
        f: impl FnOnce(&CanonicalKey, &mut Session, Option<&Placement>) -> R,
    ) -> Option<R> {
        self.update_with_placement(self.id(slot), f)
    }

    /// The identifier of whatever is in `slot`.
    pub(super) fn id(&self, slot: u32) -> SessionId {
        SessionId { slot, generation: cell::generation(self.cells.get(slot)) }
    }

    /// The first slot that was never used.
    pub(super) fn first_unused(&self) -> u32 {
        lock(&self.pool).first_unused
    }

    #[inline]
    pub(super) fn slot_ref(&self, slot: u32) -> SlotRef<'_> {
        SlotRef { cell: self.cells.get(slot), opening: &self.opening, wide: &self.wide, slot }
    }

    /// Ends the session if `f` returns true, and removes it from the index. Its slot is free afterwards.
    pub(super) fn remove_if(&self, id: SessionId, f: impl FnOnce(&Session) -> bool) -> Option<Removed> {
        if !id.is_live() {
            return None;
        }
        let removed = {
            let place = self.slot_ref(id.slot);
            let mut locked = cell::lock(place.cell, id.generation)?;
            let session = place.session();
            if !f(&session) {
                return None;
            }
            locked.next_generation();
            Removed { id, key: place.key(), session, placement: place.placement() }
        };
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.sources.ended(removed.source());
        self.index.remove(self.hashed(&removed.key).hash, id.slot);
        if let Some((inside, _)) = inside_key(removed.placement.as_ref()) {
            self.index.remove(self.hashed(&inside).hash, id.slot);
        }
        Some(removed)
    }
}

impl Pool {
    /// Takes at most `count` slots, preferring those that were used before. They are appended in such an order that
    /// popping from the end yields these first, and then the unused ones from the lowest on.
    pub(super) fn take(&mut self, count: usize, slots: &mut Vec<u32>) {
        let from = self.returned.len().saturating_sub(count);
        let first = self.first_unused;
        self.first_unused = self.capacity.min(first + (count - (self.returned.len() - from)) as u32);
        slots.extend((first..self.first_unused).rev());
        slots.extend(self.returned.drain(from..));
    }

    /// Returns slots to the pool.
    pub(super) fn give(&mut self, slots: impl Iterator<Item = u32>) {
        self.returned.extend(slots);
    }
}

/// A session that was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// What it was known by.
    pub id: SessionId,
    /// The canonical key of its flow.
    pub key: CanonicalKey,
    /// What was remembered of it.
    pub session: Session,
    /// The service and server of its flow, if it belonged to a virtual service.
    pub placement: Option<Placement>,
}

impl Removed {
    /// The source that opened it.
    fn source(&self) -> IpAddr {
        self.key.in_direction(self.session.original_direction).source.address
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

#[cfg(test)]
mod tests;
