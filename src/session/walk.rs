//! Visits all sessions one after the other while workers continue. Nothing is written and nobody has to wait.

use std::ops::Range;

use crate::flow::CanonicalKey;
use crate::session::cell;
use crate::session::table::is_live;
use crate::session::{Placement, Session, SessionId, SessionTable};

/// What follows the changes of a table, slot by slot.
pub trait VersionedSlots {
    /// The version of the slot that was seen last; 0 if none was.
    fn known(&self, slot: u32) -> u64;

    /// The slot has another version, and this session. False ends the walk.
    fn changed(&mut self, slot: u32, version: u64, session: Option<(CanonicalKey, Session, Option<Placement>)>)
    -> bool;
}

impl SessionTable {
    /// Calls `f` with a copy of every live session in slot order, until it returns false. It holds no lock: if the
    /// table changes meanwhile, each slot is seen as it was when visited.
    pub fn for_each(&self, f: impl FnMut(&CanonicalKey, &Session, Option<&Placement>) -> bool) {
        self.for_each_of(|_| true, f);
    }

    /// Does the same for the flows that `is_wanted` selects. Skipping another flow reads only one of a session's two
    /// cache lines.
    pub fn for_each_of(
        &self,
        is_wanted: impl Fn(&CanonicalKey) -> bool,
        mut f: impl FnMut(&CanonicalKey, &Session, Option<&Placement>) -> bool,
    ) {
        self.walk(0, is_wanted, |_, key, session, bound| f(key, session, bound));
    }

    /// Does the same from slot `from` on, also passing the identifier of each session. A session never changes its
    /// slot, so that walks which continue where others ended see every session that lives throughout exactly once.
    pub fn walk(
        &self,
        from: u32,
        is_wanted: impl Fn(&CanonicalKey) -> bool,
        mut f: impl FnMut(SessionId, &CanonicalKey, &Session, Option<&Placement>) -> bool,
    ) {
        self.walk_slots(from..u32::MAX, is_wanted, |id, key, session, bound| f(id, key, session, bound));
    }

    /// Does the same for these slots. Returns the slot where the walk ended: that after the last session for which `f`
    /// was called if it returned false, else the end of the slots; and `None` if no slot further on was ever used.
    pub fn walk_slots(
        &self,
        slots: Range<u32>,
        is_wanted: impl Fn(&CanonicalKey) -> bool,
        mut f: impl FnMut(SessionId, &CanonicalKey, &Session, Option<&Placement>) -> bool,
    ) -> Option<u32> {
        let used = self.first_unused();
        let end = slots.end.min(used);
        let further = |slot: u32| (slot < used).then_some(slot);
        for slot in slots.start..end {
            let place = self.slot_ref(slot);
            let Some((generation, key)) = cell::try_read(place.cell, is_live, |_| place.key()) else { continue };
            if !is_wanted(&key) {
                continue;
            }
            let id = SessionId { slot, generation };
            if let Some((key, session, bound)) = self.copy(id)
                && !f(id, &key, &session, bound.as_ref())
            {
                return further(slot + 1);
            }
        }
        further(end.max(slots.start))
    }

    /// Tells `taker` of each of these slots that has another version than it knows. The version is that before the session
    /// was read, so that a later change is found by the next walk. Returns the slot where the walk ended, and `None` if no
    /// slot further on was ever used.
    pub fn walk_changed<T: VersionedSlots>(&self, slots: Range<u32>, taker: &mut T) -> Option<u32> {
        let used = self.first_unused();
        let end = slots.end.min(used);
        let further = |slot: u32| (slot < used).then_some(slot);
        for slot in slots.start..end {
            let version = self.version(slot);
            if version == taker.known(slot) {
                continue;
            }
            let id = SessionId { slot, generation: (version >> 32) as u32 };
            if !taker.changed(slot, version, self.copy(id)) {
                return further(slot + 1);
            }
        }
        further(end.max(slots.start))
    }

    /// A number that changes whenever the session of a slot changes, begins or ends. 0 is that of a slot that was never
    /// used.
    fn version(&self, slot: u32) -> u64 {
        cell::version(self.slot_ref(slot).cell)
    }

    /// A copy of everything that is known of a session; `None` if it has ended. Writes nothing.
    pub fn copy(&self, id: SessionId) -> Option<(CanonicalKey, Session, Option<Placement>)> {
        let place = self.slot_ref(id.slot);
        cell::read(place.cell, id.generation, |_| (place.key(), place.session(), place.placement()))
            .filter(|_| id.is_live())
    }
}
