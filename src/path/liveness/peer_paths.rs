//! All paths to one peer in one family: which verdicts take effect when paths fail together, one after the other, or at
//! the start.

use super::ADVERTISEMENT_LIFETIME;
use super::values::{PathState, PathTiming, PeerState, StateReason};
use crate::id::{GroupId, PeerId};
use crate::path::{AdminState, Slots};
use crate::time::Instant;
use crate::wire::Family;

/// All paths to one peer in one family, as bit masks of slots.
#[derive(Debug, Clone)]
pub(super) struct PeerPaths {
    pub(super) group: GroupId,
    pub(super) peer: PeerId,
    pub(super) family: Family,
    /// The paths that are configured.
    pub(super) exists: Slots,
    /// The paths that this engine's probes judge as up and as down. Paths in neither are starting.
    pub(super) up: Slots,
    pub(super) down: Slots,
    pub(super) failing: Slots,
    pub(super) past_hold: Slots,
    /// The paths that this engine treats as live, lost peers considered.
    pub(super) live: Slots,
    /// The paths of `live` that have been past their hold since they came up.
    pub(super) accepts_new_flows: Slots,
    /// The paths of the last live set that failed because their firewalls did not answer ARP or neighbour discovery
    /// while no advertisement of the peer arrived. They are live again as soon as their firewalls answer.
    silenced: Slots,
    phase: PeerPhase,
    /// When the peer last sent an advertisement.
    pub(super) last_advertisement: Option<Instant>,
    pub(super) advertised_down: Slots,
    pub(super) advertised_drain: Slots,
    pub(super) advertised_maint: Slots,
    /// Whether every path uses a link of the engine that is down.
    pub(super) is_link_down: bool,
    /// Whether the sets toward every peer need these paths. Paths that a reload adds beside others do not count until
    /// the first of them is up.
    pub(super) is_required: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PeerPhase {
    /// Nothing is live yet. After the first path has come up, the others have until this time for their first verdict.
    Starting { until: Option<Instant> },
    /// The peer is reachable, and verdicts take effect unless there is doubt.
    Reachable(Doubt),
    /// All live paths failed together.
    Lost,
    /// A path has returned. The old set stays until this time.
    Returning { until: Instant },
}

/// Whether the peer may be what fails while some path has a down verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// There is no doubt: the verdict takes effect.
    None,
    /// Every live path without a down verdict misses probes: the verdict is held back.
    AllMissing,
    /// One of these paths answers again. The other paths have until this time to answer too.
    Rechecking { until: Instant },
    /// Paths with a down verdict have answered as well, but need `rise` answers for a new verdict. They stay live until
    /// this time.
    Recovering { until: Instant },
}

impl PeerPaths {
    pub(super) fn new(group: GroupId, peer: PeerId, family: Family) -> Self {
        Self {
            group,
            peer,
            family,
            exists: 0,
            up: 0,
            down: 0,
            failing: 0,
            past_hold: 0,
            live: 0,
            accepts_new_flows: 0,
            silenced: 0,
            phase: PeerPhase::Starting { until: None },
            last_advertisement: None,
            advertised_down: 0,
            advertised_drain: 0,
            advertised_maint: 0,
            is_link_down: false,
            is_required: true,
        }
    }

    /// Continues from what `old`, the same paths in the previous configuration, knew. `moved` moves slots to the
    /// positions that their firewalls have now.
    pub(super) fn inherit(&mut self, old: &Self, moved: impl Fn(Slots) -> Slots) {
        let exists = self.exists;
        let keep = |slots| moved(slots) & exists;
        (self.up, self.down, self.failing) = (keep(old.up), keep(old.down), keep(old.failing));
        (self.past_hold, self.live, self.accepts_new_flows) =
            (keep(old.past_hold), keep(old.live), keep(old.accepts_new_flows));
        (self.advertised_down, self.advertised_drain, self.advertised_maint) =
            (keep(old.advertised_down), keep(old.advertised_drain), keep(old.advertised_maint));
        self.silenced = keep(old.silenced);
        (self.phase, self.last_advertisement, self.is_required) = (old.phase, old.last_advertisement, old.is_required);
    }

    /// Decides which verdicts take effect. `silent` are the firewalls that do not answer ARP or neighbour discovery,
    /// `cut_off` those to which the engine's own link is down.
    pub(super) fn advance(&mut self, silent: Slots, cut_off: Slots, timing: PathTiming, now: Instant) {
        self.is_link_down = self.exists & !cut_off == 0;
        // An engine without links receives nothing, so that missing answers say nothing about the firewalls.
        let silent = if self.is_link_down { 0 } else { silent };
        let undecided = self.exists & !self.up & !self.down;
        self.phase = match self.phase {
            PeerPhase::Starting { .. } if self.up == 0 => PeerPhase::Starting { until: None },
            PeerPhase::Starting { until: None } if undecided != 0 => {
                PeerPhase::Starting { until: Some(now + timing.grace) }
            }
            PeerPhase::Starting { until: Some(until) } if undecided != 0 && now < until => self.phase,
            PeerPhase::Starting { .. } => PeerPhase::Reachable(Doubt::None),
            PeerPhase::Reachable(_) | PeerPhase::Lost | PeerPhase::Returning { .. } => self.phase,
        };
        if !matches!(self.phase, PeerPhase::Starting { .. }) {
            self.live |= self.up;
        }
        let is_heard = self.live & self.up & !self.failing != 0;
        self.silenced = if is_heard { 0 } else { self.silenced & !self.up };
        self.restore_silenced(silent);
        let failed = self.live & self.down;
        let standing = self.live & self.up;
        let mut fallen = failed & silent;
        if !is_heard {
            self.silenced |= fallen;
        }
        self.phase = match self.phase {
            PeerPhase::Starting { .. } => self.phase,
            PeerPhase::Reachable(_) if standing == 0 && failed != fallen => PeerPhase::Lost,
            PeerPhase::Reachable(doubt) => {
                let (doubt, confirmed) = self.weigh_doubt(doubt, failed & !silent, timing, now);
                fallen |= confirmed;
                PeerPhase::Reachable(doubt)
            }
            PeerPhase::Lost | PeerPhase::Returning { .. } if failed == fallen => PeerPhase::Reachable(Doubt::None),
            PeerPhase::Lost | PeerPhase::Returning { .. } if standing == 0 => PeerPhase::Lost,
            PeerPhase::Lost => PeerPhase::Returning { until: now + timing.grace },
            PeerPhase::Returning { until } if now < until => PeerPhase::Returning { until },
            PeerPhase::Returning { .. } => {
                fallen = failed;
                PeerPhase::Reachable(Doubt::None)
            }
        };
        self.live &= !fallen;
        self.is_required |= self.live != 0;
        self.accepts_new_flows = (self.accepts_new_flows | self.past_hold) & self.live;
        let told_is_old = self.last_advertisement.is_some_and(|heard| heard + ADVERTISEMENT_LIFETIME <= now);
        if told_is_old && !self.is_lost() {
            self.last_advertisement = None;
            (self.advertised_down, self.advertised_drain, self.advertised_maint) = (0, 0, 0);
        }
    }

    /// Makes paths live again that failed because their firewalls were silent, if these answer again while the peer is
    /// still silent. They are as good as they were when the peer was lost.
    fn restore_silenced(&mut self, silent: Slots) {
        if self.live & self.up == 0 && !self.is_link_down {
            let back = self.silenced & self.down & !silent;
            self.silenced &= !back;
            self.live |= back;
            self.accepts_new_flows |= back;
        }
    }

    /// The doubt that follows `doubt`, and which of the paths in `failed` have failed for certain.
    fn weigh_doubt(&self, doubt: Doubt, failed: Slots, timing: PathTiming, now: Instant) -> (Doubt, Slots) {
        let others = self.live & !self.down;
        let all_missing = others != 0 && others & !self.failing == 0;
        match doubt {
            Doubt::None | Doubt::AllMissing | Doubt::Rechecking { .. } | Doubt::Recovering { .. } if all_missing => {
                (Doubt::AllMissing, 0)
            }
            Doubt::None => (Doubt::None, failed),
            Doubt::AllMissing => (Doubt::Rechecking { until: now + timing.recheck }, 0),
            Doubt::Rechecking { until } if now < until => (doubt, 0),
            Doubt::Rechecking { .. } if failed & !self.failing == 0 => (Doubt::None, failed),
            Doubt::Rechecking { .. } => (Doubt::Recovering { until: now + timing.grace }, failed & self.failing),
            Doubt::Recovering { until } if now < until && failed != 0 => (doubt, 0),
            Doubt::Recovering { .. } => (Doubt::None, failed),
        }
    }

    /// The paths without a verdict, or whose verdict waits for others at the start.
    pub(super) fn starting(&self) -> Slots {
        let judged = match self.phase {
            PeerPhase::Starting { .. } => self.down,
            PeerPhase::Reachable(_) | PeerPhase::Lost | PeerPhase::Returning { .. } => self.up | self.down,
        };
        self.exists & !judged & !self.live
    }

    /// True if the peer was reachable before and is not reachable any more.
    pub(super) fn is_lost(&self) -> bool {
        match self.phase {
            PeerPhase::Starting { .. } | PeerPhase::Reachable(_) => false,
            PeerPhase::Lost | PeerPhase::Returning { .. } => true,
        }
    }

    /// The paths that the peer reports as down. The last report of a lost peer is ignored if it leaves no path of the
    /// live set, because it then was about the peer's own trouble and not about the firewalls.
    pub(super) fn objections(&self) -> Slots {
        if self.is_lost() && self.live & !self.advertised_down == 0 { 0 } else { self.advertised_down }
    }

    pub(super) fn judgement(&self, bit: Slots) -> PathState {
        if self.live & bit != 0 {
            PathState::Up
        } else if self.starting() & bit != 0 {
            PathState::Starting
        } else {
            PathState::Down
        }
    }

    pub(super) fn unhealthy_reason(&self, bit: Slots) -> Option<StateReason> {
        match self.judgement(bit) {
            PathState::Starting => Some(StateReason::Starting),
            PathState::Down => Some(StateReason::Probes(self.peer, self.family)),
            PathState::Up if self.objections() & bit != 0 => Some(StateReason::Objection(self.peer, self.family)),
            PathState::Up => None,
        }
    }

    pub(super) fn advertised_admin(&self, bit: Slots) -> AdminState {
        if self.advertised_maint & bit != 0 {
            AdminState::Maint
        } else if self.advertised_drain & bit != 0 {
            AdminState::Drain
        } else {
            AdminState::Ready
        }
    }

    pub(super) fn timeouts(&self) -> impl Iterator<Item = Instant> + use<> {
        let expiry = self.last_advertisement.filter(|_| !self.is_lost()).map(|heard| heard + ADVERTISEMENT_LIFETIME);
        let until = match self.phase {
            PeerPhase::Starting { until } => until,
            PeerPhase::Reachable(Doubt::Rechecking { until } | Doubt::Recovering { until })
            | PeerPhase::Returning { until } => Some(until),
            PeerPhase::Reachable(Doubt::None | Doubt::AllMissing) | PeerPhase::Lost => None,
        };
        expiry.into_iter().chain(until)
    }
}

pub(super) fn judge_peer<'a>(legs: impl Iterator<Item = &'a PeerPaths> + Clone) -> (PeerState, StateReason) {
    let first =
        |wanted: &dyn Fn(&PeerPaths) -> bool| legs.clone().find(|leg| wanted(leg)).map(|leg| (leg.peer, leg.family));
    let lost = first(&PeerPaths::is_lost);
    let is_cut_off = legs.clone().any(|leg| leg.is_lost() && leg.is_link_down);
    let up = first(&|leg| leg.live != 0);
    let down = first(&|leg| leg.down != 0);
    match (lost, up, down) {
        (Some(_), _, _) if is_cut_off => (PeerState::Lost, StateReason::Link),
        (Some((peer, family)), _, _) => (PeerState::Lost, StateReason::Probes(peer, family)),
        (None, Some(_), _) => (PeerState::Up, StateReason::Healthy),
        (None, None, Some((peer, family))) => (PeerState::Down, StateReason::Probes(peer, family)),
        (None, None, None) => (PeerState::Down, StateReason::Starting),
    }
}
