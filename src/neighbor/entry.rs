//! One neighbour: its resolution state, why the entry exists, and the frames that wait for it.

use std::collections::VecDeque;

use super::RequestSource;
use crate::time::Instant;
use crate::wire::MacAddr;

named_enum! {
    /// The resolution state of a neighbour, named as in RFC 4861 section 7.3.2 and in Linux.
    pub enum NeighborState {
        /// Requests were sent, and it has not answered yet.
        Incomplete = "incomplete",
        /// It answered recently.
        Reachable = "reachable",
        /// It announced its address and has not answered a request yet.
        Stale = "stale",
        /// Unicast requests are sent before its entry expires.
        Probe = "probe",
        /// It does not answer.
        Failed = "failed",
    }
}

/// Why an entry exists, in the order in which entries are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EntryOrigin {
    /// The neighbour sent a request for an address of the engine.
    Learned,
    /// A frame had to be sent to it.
    Wanted,
    /// It is configured, and never forgotten.
    Kept,
}

/// Where an entry is in the order in which entries are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EvictionPlace {
    /// It is never forgotten.
    Kept,
    /// Requests have had no answer since then, on behalf of this source.
    Open { source: RequestSource, since: Instant },
    /// It has failed since then.
    Failed { since: Instant },
    /// It has answered, and was last used then.
    Known { origin: EntryOrigin, last_used: Instant },
}

#[derive(Debug, Clone)]
pub(super) struct Entry<F> {
    pub(super) origin: EntryOrigin,
    /// For kept neighbours: whether the last MAC address stays in use even while it does not answer.
    pub(super) pinned: bool,
    pub(super) state: NeighborState,
    pub(super) mac: Option<MacAddr>,
    pub(super) requests: u8,
    pub(super) answered: Option<Instant>,
    /// When a frame was last sent to it, or it last sent a request for an address of the engine.
    pub(super) used: Instant,
    /// The sender on whose behalf requests are sent.
    pub(super) source: RequestSource,
    /// Since when requests are sent without an answer.
    pub(super) since: Instant,
    /// Where it is in the order in which entries are forgotten.
    pub(super) eviction_place: EvictionPlace,
    /// The other MAC address that was claimed for it, while requests are sent to the current one.
    pub(super) claim: Option<MacAddr>,
    /// When requests were last sent to the current MAC address because of a claim.
    pub(super) contested: Option<Instant>,
    pub(super) timer: Option<Instant>,
    pub(super) waiting: VecDeque<F>,
}

impl<F> Entry<F> {
    pub(super) fn new(origin: EntryOrigin, source: RequestSource, now: Instant) -> Self {
        Self {
            origin,
            pinned: false,
            state: NeighborState::Incomplete,
            mac: None,
            requests: 0,
            answered: None,
            used: now,
            source,
            since: now,
            eviction_place: EvictionPlace::Kept,
            claim: None,
            contested: None,
            timer: None,
            waiting: VecDeque::new(),
        }
    }

    /// Where the entry belongs in the order in which entries are forgotten.
    pub(super) fn compute_eviction_place(&self) -> EvictionPlace {
        match (self.origin, self.state) {
            (EntryOrigin::Kept, _) => EvictionPlace::Kept,
            (EntryOrigin::Learned | EntryOrigin::Wanted, NeighborState::Failed) => {
                EvictionPlace::Failed { since: self.since }
            }
            (origin, NeighborState::Reachable | NeighborState::Stale | NeighborState::Probe)
                if self.answered.is_some() =>
            {
                EvictionPlace::Known { origin, last_used: self.used }
            }
            (
                EntryOrigin::Learned | EntryOrigin::Wanted,
                NeighborState::Incomplete | NeighborState::Reachable | NeighborState::Stale | NeighborState::Probe,
            ) => EvictionPlace::Open { source: self.source, since: self.since },
        }
    }

    pub(super) fn usable(&self) -> bool {
        match self.state {
            NeighborState::Reachable | NeighborState::Stale | NeighborState::Probe => true,
            NeighborState::Incomplete | NeighborState::Failed => self.pinned && self.mac.is_some(),
        }
    }
}
