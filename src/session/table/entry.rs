//! How a session enters the index, and which packets find it.
//!
//! Packets that the engine sends on a leg of a translated flow do not arrive from anybody else, except as packets of
//! another flow: a client of a service may also connect to the server directly from the same port. Of each leg only the
//! packets that arrive belong to the session, and one key may lead to two slots.

use std::sync::atomic::Ordering;

use crate::flow::{CanonicalKey, Direction};
use crate::session::cell;
use crate::session::index::InsertResult;
use crate::session::record::{Directions, KeyWords};
use crate::session::table::{HashedKey, SessionTable, is_live};
use crate::session::{Placement, Session, SessionId};

/// The number of sessions that a source may have for each place that it leaves free.
const TABLE_PER_FREE: usize = 8;
/// A source that has no more than this part of the table is never refused for its share,
const SHARES: usize = 64;
/// nor one that has no more sessions than this, which is more than the count may err by for sources that share its
/// cells.
const SHARE_MIN: usize = 64;

/// The result of opening a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenResult {
    /// The session is in the table, with this identifier.
    Inserted(SessionId),
    /// Another worker was faster; this is the session that exists.
    Existing(SessionId),
    /// The packets of the session, or those of its replies, could not be distinguished from those of another session.
    Conflict,
    /// The table is full of sessions that must not be evicted.
    Full,
    /// The table is nearly full, and the source of the session has more of it than a fair share.
    OverShare,
}

impl SessionTable {
    /// Finds the session to which packets of a flow in `direction` belong. On each leg of a translated flow only
    /// packets of one direction do; those in the other direction may belong to another flow.
    pub fn find_by_direction(&self, key: &CanonicalKey, direction: Direction) -> Option<SessionId> {
        self.find_owner(&self.hashed(key), Directions::only(direction)).map(|(id, _)| id)
    }

    /// Finds a session to which packets with a key in one of these directions belong, and all directions that belong to
    /// it.
    fn find_owner(&self, wanted: &HashedKey, directions: Directions) -> Option<(SessionId, Directions)> {
        self.index.find(wanted.hash, |slot| {
            self.owned_directions(slot, &wanted.key).filter(|(_, hears)| hears.overlaps(directions))
        })
    }

    /// The session in `slot`, if it is live, and in which directions packets with this key belong to it.
    fn owned_directions(&self, slot: u32, key: &KeyWords) -> Option<(SessionId, Directions)> {
        let place = self.slot_ref(slot);
        let (generation, hears) = cell::try_read(place.cell, is_live, |_| place.owned_directions(key))?;
        Some((SessionId { slot, generation }, hears))
    }

    /// Checks whether a session cannot be inserted, before anything is done for it.
    pub(in crate::session) fn precheck(
        &self,
        key: &CanonicalKey,
        bound: Option<&Placement>,
        opened: Direction,
    ) -> Option<OpenResult> {
        let inside = inside_key(bound);
        let directions = if inside.is_some() { Directions::only(opened) } else { Directions::BOTH };
        match self.find_owner(&self.hashed(key), directions) {
            Some((existing, hears)) if hears.includes(opened) => return Some(OpenResult::Existing(existing)),
            Some(_) => return Some(OpenResult::Conflict),
            None => {}
        }
        let (inside, inward) = inside?;
        self.find_by_direction(&inside, inward.reversed()).map(|_| OpenResult::Conflict)
    }

    /// A session in the way of one that is to be inserted: that of the same flow, or one whose packets could not be
    /// distinguished from its own.
    pub(in crate::session) fn clash(
        &self,
        key: &CanonicalKey,
        bound: Option<&Placement>,
        opened: Direction,
    ) -> Option<SessionId> {
        let inside = inside_key(bound);
        let directions = if inside.is_some() { Directions::only(opened) } else { Directions::BOTH };
        let outside = self.find_owner(&self.hashed(key), directions).map(|(id, _)| id);
        outside.or_else(|| inside.and_then(|(inside, inward)| self.find_by_direction(&inside, inward.reversed())))
    }

    /// True if the source that opens a session has more of a table that is nearly full than a fair share: more than
    /// [`TABLE_PER_FREE`] for each place that is left to others, more than one of [`SHARES`] parts of the table, and
    /// more than [`SHARE_MIN`]. Half-open sessions beyond those that are kept count as free places, because they are
    /// evicted first.
    pub(in crate::session) fn is_over_share(&self, key: &CanonicalKey, opened: Direction) -> bool {
        let (live, capacity) = (self.len(), self.capacity());
        // No source has more sessions than all sources together.
        if live <= TABLE_PER_FREE * (capacity - live.min(capacity)) {
            return false;
        }
        let source = self.sources.key(key.in_direction(opened).source.address);
        let held = self.sources.held(source, live) as usize;
        if held <= (capacity / SHARES).max(SHARE_MIN) {
            return false;
        }
        // If the lists are locked, because another worker opens or expires a session at this moment, the source is
        // admitted.
        let spare =
            self.worker_lists.iter().map(|hold| Some(hold.try_lock().ok()?.half_open_spare())).sum::<Option<usize>>();
        spare.is_some_and(|spare| held > TABLE_PER_FREE * (capacity - live.min(capacity) + spare))
    }

    /// Fills a free slot and enters it in the index, under both keys if the flow is translated. If that is not
    /// possible, the slot stays free and the result says why.
    pub(in crate::session) fn insert(
        &self,
        slot: u32,
        key: &CanonicalKey,
        bound: Option<Placement>,
        session: Session,
    ) -> OpenResult {
        let place = self.slot_ref(slot);
        let free = cell::generation(place.cell);
        // The lock is held until the slot is in the index, so that nobody ends the session before it can be found.
        let mut locked = cell::lock(place.cell, free).expect("a free slot is touched by its worker alone");
        let id = SessionId { slot, generation: locked.next_generation() };
        let wanted = self.hashed(key);
        let inside = inside_key(bound.as_ref()).map(|(key, direction)| (self.hashed(&key), direction));
        place.write(&wanted.key, inside.map(|(inside, direction)| (inside.key, direction)), bound.as_ref(), &session);
        let hears = if inside.is_some() { Directions::only(session.original_direction) } else { Directions::BOTH };
        let opened = match (self.insert_key(&wanted, slot, hears), inside) {
            (InsertResult::New, None) => OpenResult::Inserted(id),
            (InsertResult::New, Some((inside, inward))) => {
                let entered = self.insert_key(&inside, slot, Directions::only(inward.reversed()));
                if !matches!(entered, InsertResult::New) {
                    self.index.remove(wanted.hash, slot);
                }
                match entered {
                    InsertResult::New => OpenResult::Inserted(id),
                    InsertResult::Existing(_) => OpenResult::Conflict,
                    InsertResult::NoRoom => OpenResult::Full,
                }
            }
            (InsertResult::Existing((existing, others)), _) if others.includes(session.original_direction) => {
                OpenResult::Existing(existing)
            }
            (InsertResult::Existing(_), _) => OpenResult::Conflict,
            (InsertResult::NoRoom, _) => OpenResult::Full,
        };
        match opened {
            OpenResult::Inserted(_) => {
                self.live.fetch_add(1, Ordering::Relaxed);
                self.sources.opened(key.in_direction(session.original_direction).source.address);
            }
            OpenResult::Existing(_) | OpenResult::Conflict | OpenResult::Full | OpenResult::OverShare => {
                locked.next_generation();
            }
        }
        opened
    }

    /// Makes a key lead to `slot` for packets in these directions, unless one of them belongs to another live session.
    /// The entry of a session that has ended is ignored: whoever ended it is about to remove it.
    fn insert_key(&self, wanted: &HashedKey, slot: u32, hears: Directions) -> InsertResult<(SessionId, Directions)> {
        let is_anothers = |other| {
            let found = if other == slot { None } else { self.owned_directions(other, &wanted.key) };
            found.filter(|(_, others)| hears.overlaps(*others))
        };
        self.index.insert(wanted.hash, slot, is_anothers)
    }
}

/// The key of the inside leg of a translated flow, and the direction of its first packet.
pub(super) fn inside_key(bound: Option<&Placement>) -> Option<(CanonicalKey, Direction)> {
    Some(bound?.inside?.canonical())
}
