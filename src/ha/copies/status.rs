//! How far the copies are, and what is wrong with them.

use super::{Copies, CopyStatus, Other, Outgoing};
use crate::ha::alarm::AlarmKind;
use crate::ha::score::SyncState;
use crate::ha::settings::NodeId;
use crate::time::{Duration, Instant};

/// Something that was told so long ago and is not acknowledged, or not applied, is late.
const LATE: Duration = Duration::from_secs(1);
/// A node that has acknowledged nothing for so long takes no copies.
const FAILED: Duration = Duration::from_secs(15);

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
