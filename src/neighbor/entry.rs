//! One neighbour: where its resolution stands, where the wish to know it came from, and the frames that wait for it.

use std::collections::VecDeque;

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
    pub(super) used: Instant,
    pub(super) timer: Option<Instant>,
    pub(super) waiting: VecDeque<F>,
}

impl<F> Entry<F> {
    pub(super) fn new(origin: Origin, now: Instant) -> Self {
        Self {
            origin,
            pinned: false,
            state: State::Incomplete,
            mac: None,
            asked: 0,
            answered: None,
            used: now,
            timer: None,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn usable(&self) -> bool {
        match self.state {
            State::Reachable | State::Stale | State::Probe => true,
            State::Incomplete | State::Failed => self.pinned && self.mac.is_some(),
        }
    }
}
