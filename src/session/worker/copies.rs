//! Sessions that another node told of.

use std::ops::Range;

use crate::flow::CanonicalKey;
use crate::session::eviction::EvictionScope;
use crate::session::{OpenResult, Placement, Removed, Session, SessionId, SessionWorker, eviction};
use crate::time::{Duration, Instant};

/// How many sessions in the way of a copy end before it is given up.
const CLASHES_MAX: usize = 3;

/// By how much a copy has to be seen later than what a router knows itself. It is older than it says by the time that it
/// took to arrive, and two routers must not tell each other the same thing for ever.
const LATER: Duration = Duration::from_secs(1);

/// Who is right when a copy meets a session of this table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precedence {
    /// The copy: this node forwards nothing, so that it knows nothing better.
    Copy,
    /// Whichever was seen later, and in doubt the session of this table.
    SeenLater,
    /// The copy, unless a packet used the session of this table since this node took the role over. The node before it
    /// still tells what it did until then.
    UnusedSince(Instant),
}

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyOutcome {
    /// It is a session of the table.
    Inserted(SessionId),
    /// The session existed and is as the copy says.
    Renewed {
        /// The session.
        id: SessionId,
        /// What it was before.
        before: Session,
    },
    /// The session exists and was seen later.
    Older(SessionId),
    /// Packets of the copy could not be distinguished from those of another session, which was seen later.
    Conflict,
    /// The table is full of sessions that must not be evicted.
    Full,
}

/// A session that a copy met.
enum Met {
    /// The same flow at the same server.
    Renewed(Session),
    /// The copy gives way.
    Stays(CopyOutcome),
    /// Another flow, or the same one at another server, which gives way.
    Yields,
}

impl SessionWorker {
    /// Makes the table have a session as another node has it. Sessions that have to end for that are given to `ended`:
    /// those that cannot be distinguished from the copy, and one that is evicted. No source is refused, since the other
    /// node has admitted it.
    pub fn put_copy(
        &mut self,
        key: &CanonicalKey,
        placement: Option<Placement>,
        session: Session,
        precedence: Precedence,
        now: Instant,
        mut ended: impl FnMut(Removed),
    ) -> CopyOutcome {
        for _ in 0..=CLASHES_MAX {
            let Some(id) = self.table.clash(key, placement.as_ref(), session.original_direction) else {
                return self.insert_copy(key, placement, session, now, ended);
            };
            match self.meet(id, key, placement.as_ref(), &session, precedence) {
                // It has just ended.
                None => {}
                Some(Met::Renewed(before)) => return CopyOutcome::Renewed { id, before },
                Some(Met::Stays(outcome)) => return outcome,
                Some(Met::Yields) => self.close(id).into_iter().for_each(&mut ended),
            }
        }
        CopyOutcome::Conflict
    }

    /// Renews the session that a copy met, if it is the same.
    fn meet(
        &mut self,
        id: SessionId,
        key: &CanonicalKey,
        placement: Option<&Placement>,
        copy: &Session,
        precedence: Precedence,
    ) -> Option<Met> {
        let place = |placement: Option<&Placement>| placement.map(|place| (place.service, place.server, place.inside));
        self.table.update_with_placement(id, |known_key, known, known_placement| {
            let is_flow = known_key == key && known.original_direction == copy.original_direction;
            let is_right = match precedence {
                Precedence::Copy => true,
                Precedence::SeenLater => copy.last_seen.since(known.last_seen) > LATER,
                Precedence::UnusedSince(took_over) => known.last_seen < took_over,
            };
            let is_same = is_flow && place(known_placement) == place(placement);
            let before = *known;
            match (is_same, is_right) {
                (true, true) => {
                    *known = Session { worker: before.worker, ..*copy };
                    Met::Renewed(before)
                }
                // Its last packets went through the node before this one, the others through this one.
                (true, false) if matches!(precedence, Precedence::UnusedSince(_)) && known.close_with(copy) => {
                    Met::Renewed(before)
                }
                (false, true) => Met::Yields,
                (_, false) if is_flow => Met::Stays(CopyOutcome::Older(id)),
                (_, false) => Met::Stays(CopyOutcome::Conflict),
            }
        })
    }

    fn insert_copy(
        &mut self,
        key: &CanonicalKey,
        placement: Option<Placement>,
        session: Session,
        now: Instant,
        mut ended: impl FnMut(Removed),
    ) -> CopyOutcome {
        let slot = self.take_free().or_else(|| {
            let scopes = &[EvictionScope::Idle, EvictionScope::Everything];
            let (slot, evicted) = eviction::make_room(&self.table, self.worker, scopes, now)?;
            ended(evicted);
            Some(slot)
        });
        let Some(slot) = slot else { return CopyOutcome::Full };
        let session = Session { worker: self.worker, ..session };
        let opened = self.table.insert(slot, key, placement, session);
        match opened {
            OpenResult::Inserted(id) => {
                self.with_lists(|lists, table, _| lists.schedule(table, slot, &session, now));
                CopyOutcome::Inserted(id)
            }
            OpenResult::Existing(_) | OpenResult::Conflict | OpenResult::Full | OpenResult::OverShare => {
                self.free.give(slot, &self.table);
                if opened == OpenResult::Full { CopyOutcome::Full } else { CopyOutcome::Conflict }
            }
        }
    }

    /// Ends the sessions in these slots that `ends` selects. Returns true if no slot further on was ever used.
    pub fn end_where(
        &mut self,
        slots: Range<u32>,
        ends: impl Fn(SessionId, &CanonicalKey, &Session, Option<&Placement>) -> bool,
        mut ended: impl FnMut(Removed),
    ) -> bool {
        let used = self.table.first_unused();
        for slot in slots.start..slots.end.min(used) {
            let id = self.table.id(slot);
            let copy = self.table.copy(id);
            let is_selected =
                copy.is_some_and(|(key, session, placement)| ends(id, &key, &session, placement.as_ref()));
            if is_selected && let Some(removed) = self.close(id) {
                ended(removed);
            }
        }
        slots.end >= used
    }
}

#[cfg(test)]
mod tests;
