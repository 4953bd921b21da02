//! Tells which sessions changed, for the copies that other engines have of them.
//!
//! Only changes are told that a copy would show, and only of sessions that may need one. Whether one really does, and
//! what it says, is looked up by the reader, who has more time.

use crate::engine::Snapshot;
use crate::engine::forwarder::Forwarder;
use crate::engine::forwarder::decide::Pins;
use crate::engine::forwarder::flows::pins_of;
use crate::path::pinning::{Pin, PinnedBy};
use crate::session::{ConversationState, EndReason, Placement, Removed, Session, SessionId};
use crate::time::{Duration, Instant};

/// A session that was opened so long ago although only one end has sent is one that only one end uses.
const ONE_WAY: Duration = Duration::from_secs(2);

impl Pins {
    /// True if a copy of the session would show the difference.
    pub(super) fn differ_in_copy(&self, other: &Self) -> bool {
        let shown = |pin: Option<Pin>| pin.map(|pin| (pin.firewall, pin.state));
        shown(self.toward_source) != shown(other.toward_source)
            || shown(self.toward_destination) != shown(other.toward_destination)
    }
}

impl Forwarder {
    /// Tells that a session changed, whose pins were `before` and are `after`. `is_placed` says whether it is one of a
    /// service, with a server.
    pub(super) fn tell_change(
        &mut self,
        id: SessionId,
        is_placed: bool,
        before: &Pins,
        after: &Pins,
        snapshot: &Snapshot,
    ) {
        let pins = [before.toward_source, before.toward_destination, after.toward_source, after.toward_destination];
        if let Some(changes) = &mut self.changes
            && (is_placed || pins.iter().flatten().any(|pin| may_be_elsewhere(pin, snapshot)))
        {
            changes.changed(id);
        }
    }

    /// Tells that a session ended, if that was before its time.
    pub(super) fn tell_end(&mut self, ended: &Removed, reason: EndReason, snapshot: &Snapshot, now: Instant) {
        let is_by_itself = match reason {
            EndReason::Expired => true,
            EndReason::Evicted
            | EndReason::FirewallDown
            | EndReason::ServerDown
            | EndReason::DrainTimeout
            | EndReason::Maint
            | EndReason::Removed
            | EndReason::Killed => false,
        };
        if let Some(changes) = &mut self.changes
            && !is_by_itself
            && may_have_copy(&ended.session, ended.placement.as_ref(), snapshot, now)
        {
            changes.ended(ended.id, &ended.key, ended.session.original_direction);
        }
    }
}

/// False if there was certainly no reason to copy the session. Floods consist of such sessions.
fn may_have_copy(session: &Session, placement: Option<&Placement>, snapshot: &Snapshot, now: Instant) -> bool {
    match placement {
        Some(_) => !session.is_half_open() || is_lasting_one_way(session, now),
        None => !session.is_half_open() && pins_of(session).any(|(pin, _)| may_be_elsewhere(&pin, snapshot)),
    }
}

/// True for a session of which only one end has sent, for so long that it is no first packet without an answer.
pub(in crate::engine) fn is_lasting_one_way(session: &Session, now: Instant) -> bool {
    session.state == ConversationState::OneWay && now.since(session.created) >= ONE_WAY
}

/// False if every engine finds the pin's firewall by the hash.
fn may_be_elsewhere(pin: &Pin, snapshot: &Snapshot) -> bool {
    let Some(set) = snapshot.path_sets.get(pin.set.index()) else { return false };
    let members = snapshot.groups[set.group.index()].members.len();
    pin.pinned_by == PinnedBy::Learned || pin.rotations > 0 || set.selectable.count_ones() as usize != members
}
