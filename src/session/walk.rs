//! Visits all sessions one after the other while workers continue. Nothing is written and nobody has to wait.

use std::ops::Range;

use crate::flow::CanonicalKey;
use crate::session::cell;
use crate::session::table::is_live;
use crate::session::{Placement, Session, SessionId, SessionTable};

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

    /// A copy of everything that is known of a session; `None` if it has ended. Writes nothing.
    pub fn copy(&self, id: SessionId) -> Option<(CanonicalKey, Session, Option<Placement>)> {
        let place = self.slot_ref(id.slot);
        cell::read(place.cell, id.generation, |_| (place.key(), place.session(), place.placement()))
            .filter(|_| id.is_live())
    }
}
