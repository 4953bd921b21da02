//! One firewall over all its paths: the administrative state, whether it answers ARP and neighbour discovery, and the
//! resulting state.

use super::peer_paths::PeerPaths;
use super::values::{FirewallState, StateReason, StateSince};
use crate::id::{GroupId, PeerId};
use crate::path::AdminState;
use crate::time::Instant;

#[derive(Debug, Clone)]
pub(super) struct FirewallStatus {
    pub(super) group: GroupId,
    pub(super) slot: usize,
    pub(super) admin: AdminState,
    /// The administrative state in effect, and the peer at which it was ordered (`None` for this engine).
    pub(super) effective: (AdminState, Option<PeerId>),
    /// When the drain deadline ends; it has passed if it is not later than the evaluation.
    pub(super) deadline: Option<Instant>,
    pub(super) deadline_passed: bool,
    /// Whether the engine's own link to the firewall is down.
    pub(super) is_link_down: bool,
    /// Whether the firewall does not answer ARP and neighbour discovery, respectively.
    pub(super) silent: [bool; 2],
    pub(super) status: StateSince<FirewallState>,
}

impl FirewallStatus {
    pub(super) fn new(group: GroupId, slot: usize, admin: AdminState, now: Instant) -> Self {
        let status = StateSince { state: FirewallState::Down, reason: StateReason::Starting, since: now };
        Self {
            group,
            slot,
            admin,
            effective: (AdminState::Ready, None),
            deadline: None,
            deadline_passed: false,
            is_link_down: false,
            silent: [false; 2],
            status,
        }
    }

    pub(super) fn judge(&self, legs: &[PeerPaths]) -> (FirewallState, StateReason) {
        let commanded = self.effective.1.map_or(StateReason::Commanded, StateReason::CommandedAt);
        let bit = 1 << self.slot;
        let legs = || legs.iter().filter(|leg| leg.group == self.group && leg.exists & bit != 0);
        let trouble = legs().find_map(|leg| leg.unhealthy_reason(bit));
        let works = legs().any(|leg| leg.unhealthy_reason(bit).is_none());
        match (self.effective.0, works, trouble) {
            (AdminState::Maint, _, _) => (FirewallState::Maint, commanded),
            (AdminState::Ready | AdminState::Drain, _, _) if self.is_link_down => {
                (FirewallState::Down, StateReason::Link)
            }
            (AdminState::Ready | AdminState::Drain, false, trouble) => {
                (FirewallState::Down, trouble.unwrap_or(StateReason::Starting))
            }
            (AdminState::Drain, true, _) if self.deadline_passed => {
                (FirewallState::Drain, StateReason::Deadline(self.effective.1))
            }
            (AdminState::Drain, true, _) => (FirewallState::Drain, commanded),
            (AdminState::Ready, true, Some(reason)) => (FirewallState::Degraded, reason),
            (AdminState::Ready, true, None) => (FirewallState::Up, StateReason::Healthy),
        }
    }
}
