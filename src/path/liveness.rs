//! From verdicts about single paths to the sets that the packet path uses. It combines this engine's view with the
//! peer's, the administrative states, drain deadlines, lost peers and `hold`.
//!
//! The controller reports what it learned ([`Liveness::handle_path_health`], [`Liveness::handle_neighbor_state`],
//! [`Liveness::handle_advertisement`], [`Liveness::set_admin`]) and then calls [`Liveness::evaluate`], which it also
//! does when [`Liveness::poll_timeout`] is due. Nothing changes between two evaluations.
//!
//! # When is a member up?
//!
//! A member of a set is *up* if every path that the set needs is live in this engine's judgement, the peer does not
//! object, the member is not in maintenance, and its drain deadline has not passed. A peer of which no advertisement
//! was received for [`ADVERTISEMENT_LIFETIME`], or that has no verdict of its own yet, does not object. Each engine
//! advertises only its own judgement ([`Liveness::advertise`]), so that two engines never wait for each other. Every
//! change of a member from up to not up is a *failure*, and increments its failure count.
//!
//! # Is the firewall dead, or the peer?
//!
//! If all live paths to a peer fail together, the peer is *lost*, not the firewalls. The live set then stays as it is,
//! so that nothing is reselected, reset or dropped. The following rules distinguish the cases, for each peer and
//! address family:
//!
//! - A down verdict is held back while every other live path to the peer misses probes too. If all get down verdicts,
//!   the peer is lost. If one of them answers again, each of the others is probed once more, because a returning peer
//!   answers on one path first. The verdict takes effect if its path still misses probes, and is put off for a grace
//!   time if the path answers.
//! - A firewall that does not answer ARP or neighbour discovery has failed, whatever the peer does, so that no verdict
//!   about it is held back. If a member of a lost peer's live set failed in this way and answers again, it is live
//!   again, and the peer is lost again rather than down.
//! At the start, the first paths that come up wait until every path has its first verdict, at most for the same grace
//! time. A flow that the engine has forgotten must not take a firewall merely because that had a verdict earlier than
//! the flow's own.
//! If every path of a family to a peer uses links of the engine that are down, the engine itself is cut off and knows
//! nothing of firewalls and peer. The peer is lost, and none of its members is up, so that `below-min` applies, but
//! none has failed. A link that is down beside others that are up takes its own firewalls down at once.
//! When the first path to a lost peer returns, the old set stays for another grace time, so that the other paths can
//! follow; then the verdicts take effect. A path that never failed need not pass its `hold` again.

mod firewall;
mod inherit;
mod peer_paths;
mod values;

use std::collections::BTreeMap;

use crate::id::{FirewallId, GroupId, PathSetId, PeerId};
use crate::path::{AdminState, PathSet, Slots};
use crate::time::{Duration, Instant};
use crate::wire::Family;

use firewall::FirewallStatus;
use peer_paths::{PeerPaths, judge_peer};
pub use values::{
    FirewallAdvertisement, FirewallState, LivenessChange, LivenessConfig, LivenessGroup, PathHealth, PathKey,
    PathState, PathTiming, PeerState, SetKey, StateReason, StateSince,
};

/// How long an advertisement of a peer is valid.
pub const ADVERTISEMENT_LIFETIME: Duration = Duration::from_secs(1);

/// The evaluation of all paths, firewalls and peers; see the module documentation.
#[derive(Debug, Clone)]
pub struct Liveness {
    groups: Vec<LivenessGroup>,
    firewalls: Vec<Option<FirewallStatus>>,
    peers: Vec<Option<StateSince<PeerState>>>,
    peer_paths: Vec<PeerPaths>,
    set_keys: Vec<SetKey>,
    sets: Vec<PathSet>,
    /// For each set, the members that remain: those that are up, and those that were up until a reload gave them a path
    /// without a verdict, which have not failed.
    carried: Vec<Slots>,
    below_min: Vec<bool>,
    /// The failure counts of members that were removed, so that a member which returns is known to have been away.
    departed: BTreeMap<(PathSetId, FirewallId), u32>,
}

impl Liveness {
    /// The state at the start, when there are no verdicts.
    pub fn new(config: LivenessConfig, now: Instant) -> Self {
        let mut liveness = Self::initial(config, now);
        liveness.evaluate(now);
        liveness
    }

    fn initial(config: LivenessConfig, now: Instant) -> Self {
        let mut liveness = Self {
            groups: config.groups,
            firewalls: Vec::new(),
            peers: Vec::new(),
            peer_paths: Vec::new(),
            sets: Vec::new(),
            carried: vec![0; config.sets.len()],
            below_min: vec![false; config.sets.len()],
            departed: BTreeMap::new(),
            set_keys: config.sets,
        };
        for (group, settings) in liveness.groups.iter().enumerate() {
            for (slot, &(id, admin)) in settings.members.iter().enumerate() {
                let firewall = FirewallStatus::new(GroupId::from(group), slot, admin, now);
                *slot_in(&mut liveness.firewalls, id.index()) = Some(firewall);
            }
        }
        for path in &config.paths {
            liveness.add_path(*path, now);
        }
        liveness.peer_paths.sort_by_key(|leg| (leg.peer, leg.family));
        for key in &liveness.set_keys {
            let members = liveness.groups[key.group.index()].members.len();
            liveness.sets.push(PathSet {
                group: key.group,
                peer: key.peer,
                family: key.family,
                up: 0,
                selectable: 0,
                starting: 0,
                failure_counts: vec![0; members],
            });
        }
        liveness
    }

    /// Reports what this engine's probes say about a path. Paths that are not configured are ignored.
    pub fn handle_path_health(&mut self, path: PathKey, health: PathHealth) {
        let Some((leg, bit)) = self.peer_paths_of(path) else { return };
        put(&mut leg.up, bit, health.verdict == PathState::Up);
        put(&mut leg.down, bit, health.verdict == PathState::Down);
        put(&mut leg.failing, bit, health.failing);
        put(&mut leg.past_hold, bit, health.verdict == PathState::Up && health.accepts_new_flows);
    }

    /// Reports whether a firewall answers ARP or neighbour discovery since its probes began to fail. Until this says
    /// no, it counts as answering.
    pub fn handle_neighbor_state(&mut self, firewall: FirewallId, family: Family, answers: bool) {
        if let Some(Some(firewall)) = self.firewalls.get_mut(firewall.index()) {
            firewall.silent[family_index(family)] = !answers;
        }
    }

    /// Reports whether the engine's own link to a firewall is down. Until this says so, the link counts as up. When the
    /// link comes back, the firewall counts as answering ARP and neighbour discovery until a request was sent.
    pub fn handle_link_state(&mut self, firewall: FirewallId, is_down: bool) {
        if let Some(Some(firewall)) = self.firewalls.get_mut(firewall.index())
            && firewall.is_link_down != is_down
        {
            firewall.is_link_down = is_down;
            firewall.silent = [is_down; 2];
        }
    }

    /// Reports what a peer advertised in a probe of this family. The caller makes sure that advertisements come in the
    /// order in which they were sent. Firewalls that are not between the two engines are ignored.
    pub fn handle_advertisement(&mut self, peer: PeerId, family: Family, told: &[FirewallAdvertisement], now: Instant) {
        let Some(leg) = self.peer_paths.iter_mut().find(|leg| leg.peer == peer && leg.family == family) else { return };
        leg.last_advertisement = Some(now);
        (leg.advertised_down, leg.advertised_drain, leg.advertised_maint) = (0, 0, 0);
        let members = &self.groups[leg.group.index()].members;
        for told in told {
            let Some(slot) = members.iter().position(|&(id, _)| id == told.firewall) else { continue };
            put(&mut leg.advertised_down, 1 << slot, told.verdict == PathState::Down);
            put(&mut leg.advertised_drain, 1 << slot, told.admin == AdminState::Drain);
            put(&mut leg.advertised_maint, 1 << slot, told.admin == AdminState::Maint);
        }
    }

    /// Sets the administrative state that was ordered at this engine, overrides included.
    pub fn set_admin(&mut self, firewall: FirewallId, admin: AdminState) {
        if let Some(Some(firewall)) = self.firewalls.get_mut(firewall.index()) {
            firewall.admin = admin;
        }
    }

    /// Evaluates everything again and returns what changed.
    pub fn evaluate(&mut self, now: Instant) -> Vec<LivenessChange> {
        for leg in &mut self.peer_paths {
            let group = &self.groups[leg.group.index()];
            let silent = slots(group, &self.firewalls, |firewall| firewall.silent[family_index(leg.family)]);
            let cut_off = slots(group, &self.firewalls, |firewall| firewall.is_link_down);
            leg.advance(silent, cut_off, group.timing, now);
        }
        self.evaluate_admin(now);
        let mut changes = Vec::new();
        self.evaluate_firewalls(now, &mut changes);
        self.evaluate_peers(now, &mut changes);
        self.evaluate_sets(&mut changes);
        changes
    }

    /// The sets, indexed by [`PathSetId`].
    pub fn sets(&self) -> &[PathSet] {
        &self.sets
    }

    /// The state of a firewall; `None` if it is not configured.
    pub fn firewall(&self, firewall: FirewallId) -> Option<StateSince<FirewallState>> {
        self.firewalls.get(firewall.index())?.as_ref().map(|firewall| firewall.status)
    }

    /// The administrative state of a firewall that is in effect, whether it was ordered here or at a peer.
    pub fn effective_admin(&self, firewall: FirewallId) -> Option<AdminState> {
        self.firewalls.get(firewall.index())?.as_ref().map(|firewall| firewall.effective.0)
    }

    /// The administrative states that peers order for a firewall, each peer once, from the last probes of both
    /// families.
    pub fn advertised_admin(&self, firewall: FirewallId) -> Vec<(PeerId, AdminState)> {
        let Some(Some(firewall)) = self.firewalls.get(firewall.index()) else { return Vec::new() };
        let mut told: Vec<(PeerId, AdminState)> = Vec::new();
        for leg in self.peer_paths.iter().filter(|leg| leg.group == firewall.group) {
            let admin = leg.advertised_admin(1 << firewall.slot);
            match told.iter_mut().find(|(peer, _)| *peer == leg.peer) {
                Some((_, known)) if severity(admin) > severity(*known) => *known = admin,
                Some(_) => {}
                None if admin != AdminState::Ready => told.push((leg.peer, admin)),
                None => {}
            }
        }
        told
    }

    /// Whether new flows may take a firewall: in a set of its group it is selectable, or the set has no selectable
    /// member and it is up.
    pub fn accepts_new_flows(&self, firewall: FirewallId) -> bool {
        let Some(Some(firewall)) = self.firewalls.get(firewall.index()) else { return false };
        let mut sets = self.sets.iter().filter(|set| set.group == firewall.group && set.peer.is_none());
        sets.any(|set| set.candidates() & (1 << firewall.slot) != 0)
    }

    /// Whether a firewall is in its hold on at least one path. New flows take others while there are any.
    pub fn is_held(&self, firewall: FirewallId) -> bool {
        let Some(Some(firewall)) = self.firewalls.get(firewall.index()) else { return false };
        let bit = 1 << firewall.slot;
        let mut legs = self.peer_paths.iter().filter(|leg| leg.group == firewall.group);
        legs.any(|leg| leg.live & !leg.accepts_new_flows & bit != 0)
    }

    /// The state of a peer; `None` if no path leads to it.
    pub fn peer(&self, peer: PeerId) -> Option<StateSince<PeerState>> {
        self.peers.get(peer.index()).copied().flatten()
    }

    /// What to advertise to a peer in probes of this family: this engine's own judgement and administrative states, in
    /// order of slots.
    pub fn advertise(&self, peer: PeerId, family: Family) -> impl Iterator<Item = FirewallAdvertisement> + '_ {
        let leg = self.peer_paths.iter().find(move |leg| leg.peer == peer && leg.family == family);
        leg.into_iter().flat_map(move |leg| {
            let members = self.groups[leg.group.index()].members.iter().enumerate();
            members.filter(|(slot, _)| leg.exists & (1 << slot) != 0).filter_map(move |(slot, &(id, _))| {
                let firewall = self.firewalls[id.index()].as_ref()?;
                Some(FirewallAdvertisement { firewall: id, verdict: leg.judgement(1 << slot), admin: firewall.admin })
            })
        })
    }

    /// When [`Liveness::evaluate`] has to be called even if nothing new was learned.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let legs = self.peer_paths.iter().flat_map(PeerPaths::timeouts);
        let drains = self.firewalls.iter().flatten().filter(|firewall| !firewall.deadline_passed);
        legs.chain(drains.filter_map(|firewall| firewall.deadline)).min()
    }

    fn add_path(&mut self, path: PathKey, now: Instant) {
        let firewall = self.firewalls.get(path.firewall.index()).and_then(Option::as_ref);
        let Some((group, slot)) = firewall.map(|firewall| (firewall.group, firewall.slot)) else { return };
        let known = self.peer_paths.iter().position(|leg| leg.peer == path.peer && leg.family == path.family);
        let leg = known.unwrap_or_else(|| {
            self.peer_paths.push(PeerPaths::new(group, path.peer, path.family));
            self.peer_paths.len() - 1
        });
        self.peer_paths[leg].exists |= 1 << slot;
        let status = StateSince { state: PeerState::Down, reason: StateReason::Starting, since: now };
        slot_in(&mut self.peers, path.peer.index()).get_or_insert(status);
    }

    fn peer_paths_of(&mut self, path: PathKey) -> Option<(&mut PeerPaths, Slots)> {
        let slot = self.firewalls.get(path.firewall.index())?.as_ref()?.slot;
        let leg = self.peer_paths.iter_mut().find(|leg| leg.peer == path.peer && leg.family == path.family)?;
        (leg.exists & (1 << slot) != 0).then_some((leg, 1 << slot))
    }

    /// Updates the administrative states in effect, which are the strictest of those ordered here and at the peers, and
    /// the drain deadlines.
    fn evaluate_admin(&mut self, now: Instant) {
        for firewall in self.firewalls.iter_mut().flatten() {
            let legs = self.peer_paths.iter().filter(|leg| leg.group == firewall.group);
            let told = legs.map(|leg| (leg.advertised_admin(1 << firewall.slot), Some(leg.peer)));
            let effective = told.fold((firewall.admin, None), |strictest, told| {
                if severity(told.0) > severity(strictest.0) { told } else { strictest }
            });
            let timeout = self.groups[firewall.group.index()].drain_timeout;
            firewall.deadline = match (firewall.effective.0, effective.0) {
                (AdminState::Drain, AdminState::Drain) => firewall.deadline,
                (AdminState::Ready | AdminState::Maint, AdminState::Drain) => timeout.map(|timeout| now + timeout),
                (AdminState::Ready | AdminState::Drain | AdminState::Maint, AdminState::Ready | AdminState::Maint) => {
                    None
                }
            };
            firewall.effective = effective;
            firewall.deadline_passed = firewall.deadline.is_some_and(|deadline| deadline <= now);
        }
    }

    fn evaluate_firewalls(&mut self, now: Instant, changes: &mut Vec<LivenessChange>) {
        for (index, firewall) in self.firewalls.iter_mut().enumerate() {
            let Some(firewall) = firewall else { continue };
            let (state, reason) = firewall.judge(&self.peer_paths);
            let from = firewall.status.state;
            if (from, firewall.status.reason) != (state, reason) {
                let since = if from == state { firewall.status.since } else { now };
                firewall.status = StateSince { state, reason, since };
                changes.push(LivenessChange::Firewall { firewall: FirewallId::from(index), from, to: state, reason });
            }
        }
    }

    fn evaluate_peers(&mut self, now: Instant, changes: &mut Vec<LivenessChange>) {
        for (index, status) in self.peers.iter_mut().enumerate() {
            let Some(status) = status else { continue };
            let peer = PeerId::from(index);
            let (state, reason) = judge_peer(self.peer_paths.iter().filter(|leg| leg.peer == peer));
            let from = status.state;
            let since = if from == state { status.since } else { now };
            *status = StateSince { state, reason, since };
            if from != state {
                changes.push(LivenessChange::Peer { peer, from, to: state });
            }
        }
    }

    fn evaluate_sets(&mut self, changes: &mut Vec<LivenessChange>) {
        for (index, key) in self.set_keys.iter().enumerate() {
            let group = &self.groups[key.group.index()];
            let members = || group.members.iter().enumerate();
            let in_service = |wanted: &dyn Fn(&FirewallStatus) -> bool| -> Slots {
                let firewalls =
                    members().filter_map(|(slot, &(id, _))| Some((slot, self.firewalls[id.index()].as_ref()?)));
                firewalls.filter(|(_, firewall)| wanted(firewall)).fold(0, |slots, (slot, _)| slots | 1 << slot)
            };
            let carries =
                in_service(&|firewall| firewall.effective.0 != AdminState::Maint && !firewall.deadline_passed);
            let ready = in_service(&|firewall| firewall.effective.0 == AdminState::Ready);

            let is_needed = |leg: &&PeerPaths| {
                let toward = key.peer.map_or(leg.is_required, |peer| leg.peer == peer);
                leg.group == key.group && leg.family == key.family && toward
            };
            let mut legs = self.peer_paths.iter().filter(is_needed).peekable();
            let all = if legs.peek().is_some() { Slots::MAX } else { 0 };
            let is_cut_off = legs.clone().any(|leg| leg.is_link_down);
            let (live, takes_new, undecided) = legs.fold((all, all, all), |(live, takes_new, undecided), leg| {
                let usable = leg.live & !leg.objections();
                (
                    live & usable,
                    takes_new & leg.accepts_new_flows,
                    undecided & (usable | leg.starting() & !leg.advertised_down),
                )
            });

            let stands = live & carries;
            let up = if is_cut_off { 0 } else { stands };
            let set = &mut self.sets[index];
            // A member past its hold is preferred, but draining members are not preferred to members in their hold.
            let (settled, held) = (up & takes_new & ready, up & ready);
            let (selectable, starting) = (if settled != 0 { settled } else { held }, undecided & !live & carries);
            let changed = (set.up, set.selectable, set.starting) != (up, selectable, starting);
            let carried = self.carried[index] | stands;
            for slot in (0..group.members.len()).filter(|slot| carried & !(stands | starting) & (1 << slot) != 0) {
                set.failure_counts[slot] = set.failure_counts[slot].wrapping_add(1);
            }
            self.carried[index] = carried & (stands | starting);
            (set.up, set.selectable, set.starting) = (up, selectable, starting);
            if changed {
                changes.push(LivenessChange::Set(PathSetId::from(index)));
            }
            let below = (up | starting).count_ones() < u32::from(group.min_up);
            if below != self.below_min[index] {
                self.below_min[index] = below;
                changes.push(LivenessChange::BelowMin { set: PathSetId::from(index), below });
            }
        }
    }
}

/// The members of a group for which `is_true` holds.
fn slots(
    group: &LivenessGroup,
    firewalls: &[Option<FirewallStatus>],
    is_true: impl Fn(&FirewallStatus) -> bool,
) -> Slots {
    let members = group.members.iter().enumerate();
    let those = members.filter(|(_, (id, _))| firewalls[id.index()].as_ref().is_some_and(&is_true));
    those.fold(0, |slots, (slot, _)| slots | 1 << slot)
}

fn severity(admin: AdminState) -> u8 {
    match admin {
        AdminState::Ready => 0,
        AdminState::Drain => 1,
        AdminState::Maint => 2,
    }
}

fn family_index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

fn put(slots: &mut Slots, bit: Slots, value: bool) {
    if value { *slots |= bit } else { *slots &= !bit }
}

/// The entry at `index` of a list that grows as needed.
fn slot_in<T>(list: &mut Vec<Option<T>>, index: usize) -> &mut Option<T> {
    if list.len() <= index {
        list.resize_with(index + 1, || None);
    }
    &mut list[index]
}

#[cfg(test)]
mod tests;
