//! How far the copies are, and what is wrong with them.

use super::{Copies, Other, Outgoing, Refusals};
use crate::ha::alarm::AlarmKind;
use crate::ha::score::SyncState;
use crate::ha::settings::NodeId;
use crate::time::{Duration, Instant};

/// Something that was told so long ago and is not acknowledged, or not applied, is late.
const LATE: Duration = Duration::from_secs(1);
/// A node that has acknowledged nothing for so long takes no copies.
const FAILED: Duration = Duration::from_secs(15);

/// How far the copies are at one other node, and from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CopyStatus {
    /// How many sessions of this node that node could not handle by itself after a takeover, so that it needs copies of
    /// them. The last pass over the session table counted them.
    pub needed: u32,
    /// Everything that was told has arrived there.
    pub is_flushed: bool,
    /// For how long something has waited in vain for its acknowledgement.
    pub stalled: Duration,
    /// How far the pass that is under way has come, if there is one: how many slots of the session table it has visited,
    /// and how many there are.
    pub pass: Option<(u32, u32)>,
    /// Full passes that were begun.
    pub full_passes: u32,
    /// Records that were told.
    pub records: u64,
    /// Datagrams that were sent again.
    pub resends: u64,
    /// A full pass of that node has arrived here completely.
    pub is_complete: bool,
    /// For how long the oldest datagram of it that has arrived waits to be applied here, because a datagram before it is
    /// missing or because this node is busy. Zero if none waits.
    pub behind: Duration,
    /// What of it could not be applied.
    pub refusals: Refusals,
    /// Copies for which there was no room since its last full pass began.
    pub without_room: u64,
    /// For how long it has acknowledged nothing, although the stream began again.
    pub failing: Duration,
}

impl Copies {
    /// What hellos say of the copies. `needed` is that of the node that needs most.
    pub fn sync_state(&self, now: Instant) -> SyncState {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let needed = self.others.iter().filter_map(|other| other.outgoing.as_ref()).map(Outgoing::needed).max();
        let told_all = |other: &Other| {
            let is_active = self.active.is_none_or(|active| active == other.node);
            is_active && other.is_connected && other.incoming.is_ready(now)
        };
        let is_ready = self.is_router || self.others.iter().any(told_all);
        let has_all = |other: &Other| other.outgoing.as_ref().is_some_and(Outgoing::has_told_all);
        let lacking = self.others.iter().filter(|other| self.is_router && !has_all(other)).map(|other| other.node);
        SyncState {
            is_ready,
            lacking: lacking.collect(),
            sessions: count(self.table.len()),
            needed: needed.unwrap_or(0),
            held: if self.is_router { 0 } else { count(self.held) },
            alarms: self
                .others
                .iter()
                .filter(|other| other.is_connected)
                .flat_map(|other| self.alarms(other.node, now))
                .collect(),
        }
    }

    fn alarms(&self, node: NodeId, now: Instant) -> impl Iterator<Item = (AlarmKind, NodeId, String)> + use<> {
        let status = self.status(node, now);
        let late = status.stalled.max(status.behind).max(status.failing);
        let failed = (status.failing >= FAILED)
            .then(|| (AlarmKind::SyncFailed, "it acknowledges no copies of sessions; does it keep any?".to_owned()));
        let behind = (failed.is_none() && late >= LATE)
            .then(|| (AlarmKind::SyncBehind, "copies of sessions are more than a second late".to_owned()));
        let refused = (status.without_room > 0).then(|| {
            let what = "copies of its sessions find no room here: raise `sessions` of [limits] as it has it";
            (AlarmKind::SyncRefused, what.to_owned())
        });
        [failed, behind, refused].into_iter().flatten().map(move |(kind, reason)| (kind, node, reason))
    }

    /// How far the copies are at a node, and from it.
    pub fn status(&self, node: NodeId, now: Instant) -> CopyStatus {
        let Some(other) = self.others.iter().find(|other| other.node == node) else { return CopyStatus::default() };
        let status = CopyStatus { is_flushed: true, ..CopyStatus::default() };
        let status = other.outgoing.as_ref().map_or(status, |outgoing| outgoing.status(&self.table, now));
        other.incoming.status(status, now)
    }
}
