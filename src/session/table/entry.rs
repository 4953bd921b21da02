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

/// Sessions that a source may have for each place that it leaves free.
const TABLE_PER_FREE: usize = 8;
/// A source that has no more than one of so many parts of the table is never refused for its share,
const SHARES: usize = 64;
/// nor one that has no more than so many: what sources share cells of the count with is less.
const SHARE_MIN: usize = 64;

/// The result of opening a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenResult {
    /// The session is in the table, with this identifier.
    Inserted(SessionId),
    /// Another worker was faster; this is the session that exists.
    Existing(SessionId),
    /// The packets of the session, or those of its replies, could not be told from those of another session.
    Clash,
    /// The table is full of sessions that must not be evicted.
    Full,
    /// The table is nearly full, and whoever opens it has more of it than a fair share.
    OverShare,
}

impl SessionTable {
    /// Finds the session to which packets of a flow in `direction` belong. On each leg of a translated flow only
    /// packets of one direction do; those in the other direction may belong to another flow.
    pub fn listener(&self, key: &CanonicalKey, direction: Direction) -> Option<SessionId> {
        self.hearer(&self.wanted(key), Directions::only(direction)).map(|(id, _)| id)
    }

    /// Finds a session to which packets with a key in one of these directions belong, and all directions that belong to
    /// it.
    fn hearer(&self, wanted: &HashedKey, directions: Directions) -> Option<(SessionId, Directions)> {
        self.index.find(wanted.hash, |slot| self.hears(slot, &wanted.key).filter(|(_, hears)| hears.meets(directions)))
    }

    /// The session in `slot`, if it is live, and in which directions packets with this key belong to it.
    fn hears(&self, slot: u32, key: &KeyWords) -> Option<(SessionId, Directions)> {
        let place = self.place(slot);
        let (generation, hears) = cell::peek(place.cell, is_live, |_| place.hears(key))?;
        Some((SessionId { slot, generation }, hears))
    }

    /// Checks whether a session cannot be inserted, before anything is done for it.
    pub(in crate::session) fn foresee(
        &self,
        key: &CanonicalKey,
        bound: Option<&Placement>,
        opened: Direction,
    ) -> Option<OpenResult> {
        let inside = inside_key(bound);
        let directions = if inside.is_some() { Directions::only(opened) } else { Directions::BOTH };
        match self.hearer(&self.wanted(key), directions) {
            Some((existing, hears)) if hears.includes(opened) => return Some(OpenResult::Existing(existing)),
            Some(_) => return Some(OpenResult::Clash),
            None => {}
        }
        let (inside, inward) = inside?;
        self.listener(&inside, inward.reversed()).map(|_| OpenResult::Clash)
    }

    /// True if who opens a session has more of a table that is nearly full than a fair share: more than [`TABLE_PER_FREE`] for each
    /// place that is left to others, and more than one of [`SHARES`] parts of all and [`SHARE_MIN`]. Half-open sessions beyond those that are kept
    /// count as places, as they go first.
    pub(in crate::session) fn is_over_share(&self, key: &CanonicalKey, opened: Direction) -> bool {
        let (live, capacity) = (self.len(), self.capacity());
        // Nobody has more than all have.
        if live <= TABLE_PER_FREE * (capacity - live.min(capacity)) {
            return false;
        }
        let source = self.sources.key(key.oriented(opened).source.address);
        let held = self.sources.held(source, live) as usize;
        if held <= (capacity / SHARES).max(SHARE_MIN) {
            return false;
        }
        // Who cannot look, as another worker opens or expires this instant, lets the source have its way.
        let spare = self.holds.iter().map(|hold| Some(hold.try_lock().ok()?.half_open_spare())).sum::<Option<usize>>();
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
        let place = self.place(slot);
        let free = cell::generation(place.cell);
        // The lock is held until the slot is in the index, so that nobody ends the session before it can be found.
        let mut locked = cell::lock(place.cell, free).expect("a free slot is touched by its worker alone");
        let id = SessionId { slot, generation: locked.turn() };
        let wanted = self.wanted(key);
        let inside = inside_key(bound.as_ref()).map(|(key, direction)| (self.wanted(&key), direction));
        place.put(&wanted.key, inside.map(|(inside, direction)| (inside.key, direction)), bound.as_ref(), &session);
        let hears = if inside.is_some() { Directions::only(session.opened) } else { Directions::BOTH };
        let opened = match (self.enter(&wanted, slot, hears), inside) {
            (InsertResult::New, None) => OpenResult::Inserted(id),
            (InsertResult::New, Some((inside, inward))) => {
                let entered = self.enter(&inside, slot, Directions::only(inward.reversed()));
                if !matches!(entered, InsertResult::New) {
                    self.index.leave(wanted.hash, slot);
                }
                match entered {
                    InsertResult::New => OpenResult::Inserted(id),
                    InsertResult::Existing(_) => OpenResult::Clash,
                    InsertResult::NoRoom => OpenResult::Full,
                }
            }
            (InsertResult::Existing((existing, others)), _) if others.includes(session.opened) => {
                OpenResult::Existing(existing)
            }
            (InsertResult::Existing(_), _) => OpenResult::Clash,
            (InsertResult::NoRoom, _) => OpenResult::Full,
        };
        match opened {
            OpenResult::Inserted(_) => {
                self.live.fetch_add(1, Ordering::Relaxed);
                self.sources.opened(key.oriented(session.opened).source.address);
            }
            OpenResult::Existing(_) | OpenResult::Clash | OpenResult::Full | OpenResult::OverShare => {
                locked.turn();
            }
        }
        opened
    }

    /// Makes a key lead to `slot` for packets in these directions, unless one of them belongs to another live session.
    /// The entry of a session that has ended is ignored: whoever ended it is about to remove it.
    fn enter(&self, wanted: &HashedKey, slot: u32, hears: Directions) -> InsertResult<(SessionId, Directions)> {
        let is_anothers = |other| {
            let found = if other == slot { None } else { self.hears(other, &wanted.key) };
            found.filter(|(_, others)| hears.meets(*others))
        };
        self.index.enter(wanted.hash, slot, is_anothers)
    }
}

/// The key of the inside leg of a translated flow, and the direction of its first packet.
pub(super) fn inside_key(bound: Option<&Placement>) -> Option<(CanonicalKey, Direction)> {
    Some(bound?.inside?.canonical())
}
