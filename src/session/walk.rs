//! Looks at all sessions, one after the other, while workers go on: nothing is written and nobody waits.

use crate::flow::CanonicalKey;
use crate::session::cell;
use crate::session::table::is_live;
use crate::session::{Bound, Session, SessionId, SessionTable};

impl SessionTable {
    /// Calls `f` with a copy of every live session in slot order until it answers false. Holds no lock; a table that changes
    /// meanwhile is seen as each slot was when visited.
    pub fn for_each(&self, f: impl FnMut(&CanonicalKey, &Session, Option<&Bound>) -> bool) {
        self.for_each_of(|_| true, f);
    }

    /// The same of the flows that `is_wanted` alone: passing over another costs one of a session's two cache lines.
    pub fn for_each_of(
        &self,
        is_wanted: impl Fn(&CanonicalKey) -> bool,
        mut f: impl FnMut(&CanonicalKey, &Session, Option<&Bound>) -> bool,
    ) {
        self.walk(0, is_wanted, |_, key, session, bound| f(key, session, bound));
    }

    /// The same from slot `from` on, with the name of each session. A session stays in its slot for as long as it lives, so
    /// that walks which go on where others ended see each that lives all the while once.
    pub fn walk(
        &self,
        from: u32,
        is_wanted: impl Fn(&CanonicalKey) -> bool,
        mut f: impl FnMut(SessionId, &CanonicalKey, &Session, Option<&Bound>) -> bool,
    ) {
        for slot in from..self.fresh() {
            let place = self.place(slot);
            let Some((generation, key)) = cell::peek(place.cell, is_live, |_| place.key()) else { continue };
            if !is_wanted(&key) {
                continue;
            }
            let id = SessionId { slot, generation };
            if let Some((key, session, bound)) = self.copy(id)
                && !f(id, &key, &session, bound.as_ref())
            {
                return;
            }
        }
    }

    /// A copy of all that is known of a session; `None` if it ended meanwhile. Writes nothing.
    pub fn copy(&self, id: SessionId) -> Option<(CanonicalKey, Session, Option<Bound>)> {
        let place = self.place(id.slot);
        cell::read(place.cell, id.generation, |_| (place.key(), place.session(), place.bound()))
            .filter(|_| id.is_live())
    }
}
