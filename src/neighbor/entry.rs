//! One neighbour: where its resolution stands, where the wish to know it came from, and the frames that wait for it.

use std::collections::VecDeque;

use super::Source;
use super::room::Place;
use crate::time::Instant;
use crate::wire::MacAddr;

/// Where the resolution of a neighbour stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Asked, not yet answered.
    Incomplete,
    /// Answered not long ago.
    Reachable,
    /// Announced itself, has not answered yet.
    Stale,
    /// Asked again before its entry ends.
    Probe,
    /// Does not answer.
    Failed,
}

impl State {
    /// As `ip neigh` calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::Reachable => "reachable",
            Self::Stale => "stale",
            Self::Probe => "probe",
            Self::Failed => "failed",
        }
    }
}

/// Where an entry came from: what may be forgotten first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// It asked for us.
    Heard,
    /// A frame had to go there.
    Wanted,
    /// Configured: never forgotten.
    Kept,
}

#[derive(Debug, Clone)]
pub(super) struct Entry<F> {
    pub(super) origin: Origin,
    /// Kept: its last hardware address stays in use even while it does not answer.
    pub(super) pinned: bool,
    pub(super) state: State,
    pub(super) mac: Option<MacAddr>,
    pub(super) asked: u8,
    pub(super) answered: Option<Instant>,
    /// When it was wanted last, or asked for the engine.
    pub(super) used: Instant,
    /// In whose name it is asked for.
    pub(super) source: Source,
    /// Since when it does not answer.
    pub(super) since: Instant,
    /// Where the table has it among those that may be forgotten.
    pub(super) place: Place,
    /// The other hardware address that is said to be its own, while the one that it has is asked.
    pub(super) claim: Option<MacAddr>,
    /// When the one that it has was last asked for that reason.
    pub(super) contested: Option<Instant>,
    pub(super) timer: Option<Instant>,
    pub(super) waiting: VecDeque<F>,
}

impl<F> Entry<F> {
    pub(super) fn new(origin: Origin, source: Source, now: Instant) -> Self {
        Self {
            origin,
            pinned: false,
            state: State::Incomplete,
            mac: None,
            asked: 0,
            answered: None,
            used: now,
            source,
            since: now,
            place: Place::Kept,
            claim: None,
            contested: None,
            timer: None,
            waiting: VecDeque::new(),
        }
    }

    /// Where it belongs among those that may be forgotten.
    pub(super) fn place(&self) -> Place {
        match (self.origin, self.state) {
            (Origin::Kept, _) => Place::Kept,
            (Origin::Heard | Origin::Wanted, State::Failed) => Place::Failed { since: self.since },
            (origin, State::Reachable | State::Stale | State::Probe) if self.answered.is_some() => {
                Place::Known { origin, wanted: self.used }
            }
            (Origin::Heard | Origin::Wanted, State::Incomplete | State::Reachable | State::Stale | State::Probe) => {
                Place::Open { source: self.source, since: self.since }
            }
        }
    }

    pub(super) fn usable(&self) -> bool {
        match self.state {
            State::Reachable | State::Stale | State::Probe => true,
            State::Incomplete | State::Failed => self.pinned && self.mac.is_some(),
        }
    }
}
