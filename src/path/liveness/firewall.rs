//! One firewall over all its paths: the administrative state, whether it answers ARP and neighbour discovery, and the
//! resulting state.

use super::leg::Leg;
use super::values::{FirewallState, Reason, Status};
use crate::id::{GroupId, PeerId};
use crate::path::Admin;
use crate::time::Instant;

#[derive(Debug, Clone)]
pub(super) struct Firewall {
    pub(super) group: GroupId,
    pub(super) slot: usize,
    pub(super) admin: Admin,
    /// The administrative state in effect, and the peer at which it was ordered (`None` for this engine).
    pub(super) effective: (Admin, Option<PeerId>),
    /// When the drain deadline ends; it has passed if it is not later than the evaluation.
    pub(super) deadline: Option<Instant>,
    pub(super) deadline_passed: bool,
    /// Whether the engine's own link to the firewall is down.
    pub(super) is_cut_off: bool,
    /// Whether the firewall does not answer ARP and neighbour discovery, respectively.
    pub(super) silent: [bool; 2],
    pub(super) status: Status<FirewallState>,
}

impl Firewall {
    pub(super) fn new(group: GroupId, slot: usize, admin: Admin, now: Instant) -> Self {
        let status = Status { state: FirewallState::Down, reason: Reason::Starting, since: now };
        Self {
            group,
            slot,
            admin,
            effective: (Admin::Ready, None),
            deadline: None,
            deadline_passed: false,
            is_cut_off: false,
            silent: [false; 2],
            status,
        }
    }

    pub(super) fn judge(&self, legs: &[Leg]) -> (FirewallState, Reason) {
        let commanded = self.effective.1.map_or(Reason::Commanded, Reason::CommandedAt);
        let bit = 1 << self.slot;
        let legs = || legs.iter().filter(|leg| leg.group == self.group && leg.exists & bit != 0);
        let trouble = legs().find_map(|leg| leg.trouble(bit));
        let works = legs().any(|leg| leg.trouble(bit).is_none());
        match (self.effective.0, works, trouble) {
            (Admin::Maint, _, _) => (FirewallState::Maint, commanded),
            (Admin::Ready | Admin::Drain, _, _) if self.is_cut_off => (FirewallState::Down, Reason::Link),
            (Admin::Ready | Admin::Drain, false, trouble) => (FirewallState::Down, trouble.unwrap_or(Reason::Starting)),
            (Admin::Drain, true, _) if self.deadline_passed => {
                (FirewallState::Drain, Reason::Deadline(self.effective.1))
            }
            (Admin::Drain, true, _) => (FirewallState::Drain, commanded),
            (Admin::Ready, true, Some(reason)) => (FirewallState::Degraded, reason),
            (Admin::Ready, true, None) => (FirewallState::Up, Reason::Well),
        }
    }
}
