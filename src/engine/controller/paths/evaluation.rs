//! From probes to live sets: the inputs of [`crate::path::liveness::Liveness`], and what its changes mean to the
//! operator.

use super::super::links::Links;
use super::super::outbox::Outbox;
use super::Paths;
use crate::config::{Config, PathCheckKind, is_removed};
use crate::engine::change::{Alarm, StateChange, Subject};
use crate::engine::view::{AlarmKind, EventKind};
use crate::health::monitor::HealthState;
use crate::id::{GroupId, PathSetId, PeerId};
use crate::neighbor;
use crate::path::liveness::{
    LivenessChange, LivenessConfig, LivenessGroup, PathHealth, PathKey, PathState, PathTiming, PeerState, SetKey,
    StateReason,
};
use crate::time::Instant;
use crate::wire::Family;

/// After the first path to a peer, the other paths have this many intervals to come back.
const GRACE_PROBES: u32 = 10;

const PEER_LOST_REASON: &str = "all paths failed at once while firewalls still answer: the last live set is kept";

/// The path sets of every group by their ids. Those of `known` that still mean something keep their ids; the others are
/// ordered by group and family, then every peer together and each alone.
pub(super) fn set_keys(config: &Config, known: Vec<SetKey>) -> Vec<SetKey> {
    let mut keys = known;
    let mut wanted = Vec::new();
    for (index, _) in config.groups.iter().enumerate() {
        let group = GroupId::from(index);
        for family in [Family::V4, Family::V6] {
            let peers = config.peers.iter().enumerate().filter(|(_, peer)| peer.group == group);
            let peers = std::iter::once(None).chain(peers.map(|(peer, _)| Some(PeerId::from(peer))));
            wanted.extend(peers.map(|peer| SetKey { group, peer, family }));
        }
    }
    // An id that was given to a peer of another group leaves path sets behind that no session knows.
    let mut free: Vec<usize> = (0..keys.len()).filter(|index| !wanted.contains(&keys[*index])).rev().collect();
    for key in wanted {
        if keys.contains(&key) {
            continue;
        }
        match free.pop() {
            Some(index) => keys[index] = key,
            None => keys.push(key),
        }
    }
    keys
}

/// The groups, paths and sets that liveness evaluates.
pub(super) fn liveness_config(config: &Config, sets: &[SetKey]) -> LivenessConfig {
    let groups = config.groups.iter().map(|group| LivenessGroup {
        members: group.firewalls.iter().map(|id| (*id, config.firewalls[id.index()].admin)).collect(),
        min_up: group.min_up,
        drain_timeout: group.drain_timeout,
        timing: PathTiming {
            grace: group.check.interval * (u32::from(group.check.rise) + GRACE_PROBES) + group.check.timeout,
            recheck: group.check.interval + group.check.timeout,
        },
    });
    // Sessions toward a peer that was removed continue as those toward every peer.
    let is_there = |peer: &PeerId| !is_removed(&config.peers[peer.index()].name);
    let sets = sets.iter().map(|key| SetKey { peer: key.peer.filter(is_there), ..*key });
    LivenessConfig { groups: groups.collect(), paths: super::probes::path_keys(config), sets: sets.collect() }
}

impl Paths {
    /// Passes the results of probes to liveness, and acts on what has changed by them.
    pub(in super::super) fn evaluate(&mut self, links: &Links, now: Instant, out: &mut Outbox) {
        for index in 0..self.paths.len() {
            self.evaluate_without_probes(index, links, now, out);
            let path = &mut self.paths[index];
            let health = PathHealth {
                verdict: match path.monitor.state() {
                    HealthState::Starting => PathState::Starting,
                    HealthState::Up => PathState::Up,
                    HealthState::Down => PathState::Down,
                },
                accepts_new_flows: path.monitor.accepts_new_flows(now),
                failing: path.monitor.is_failing(),
            };
            if path.reported_health != Some(health) {
                path.reported_health = Some(health);
                self.liveness.handle_path_health(path.key, health);
                self.needs_evaluation = true;
            }
        }
        let due = self.liveness.poll_timeout().is_some_and(|due| due <= now);
        if std::mem::take(&mut self.needs_evaluation) || due {
            let changes = self.liveness.evaluate(now);
            for change in changes {
                self.apply_change(change, now, out);
            }
            // The reason why a peer is lost may change while the state stays.
            for peer in self.config.peer_ids().collect::<Vec<_>>() {
                self.update_peer_alarm(peer, now, out);
            }
        }
    }

    /// Evaluates a path with `kind = "none"`: it is up while its link is up and its next hop answers ARP or ND.
    fn evaluate_without_probes(&mut self, index: usize, links: &Links, now: Instant, out: &mut Outbox) {
        let path = &self.paths[index];
        let group = self.config.firewalls[path.key.firewall.index()].group;
        if self.config.groups[group.index()].check.kind != PathCheckKind::None {
            return;
        }
        let up = match links.neighbors().state((path.link, path.next_hop)) {
            Some(
                neighbor::NeighborState::Reachable | neighbor::NeighborState::Stale | neighbor::NeighborState::Probe,
            ) => links.state(path.link).up,
            // The neighbour is queried by broadcast after it stopped answering: the last verdict holds until that has
            // failed.
            Some(neighbor::NeighborState::Incomplete) if links.state(path.link).up => return,
            Some(neighbor::NeighborState::Incomplete | neighbor::NeighborState::Failed) | None => false,
        };
        let monitor = &mut self.paths[index].monitor;
        let before = monitor.state();
        let changed = if up { monitor.force_up(now) } else { monitor.force_down(now) };
        if let Some(after) = changed {
            self.path_changed(index, before, after, links, out);
        }
    }

    fn apply_change(&mut self, change: LivenessChange, now: Instant, out: &mut Outbox) {
        match change {
            LivenessChange::Firewall { firewall, from, to, reason } => {
                let reason = self.firewall_reason(firewall, reason);
                let subject = Subject::firewall(&self.config, firewall);
                let change = StateChange::to(EventKind::Firewall, subject, to.name());
                out.report_change(change.from(from.name()).because(reason));
            }
            LivenessChange::Peer { peer, from, to } => self.peer_changed(peer, from, to, out),
            // A failed firewall does not wait for the pause between publications of servers.
            LivenessChange::Set(_) => out.publish_at_once(),
            LivenessChange::BelowMin { set, below } => self.below_min_changed(set, below, now, out),
        }
    }

    fn peer_changed(&mut self, peer: PeerId, from: PeerState, to: PeerState, out: &mut Outbox) {
        let is_cut_off = self.liveness.peer(peer).is_some_and(|peer| peer.reason == StateReason::Link);
        let reason = match to {
            PeerState::Up => "a path is up",
            PeerState::Lost if is_cut_off => {
                "the engine's own links to all firewalls are down: their sessions are kept"
            }
            PeerState::Lost => PEER_LOST_REASON,
            PeerState::Down => "no path is up",
        };
        let change = StateChange::to(EventKind::Peer, Subject::peer(&self.config, peer), to.name());
        out.report_change(change.from(from.name()).because(reason.to_owned()));
    }

    /// Raises or clears the alarm that a peer is lost, as far as the engine can tell: without links of its own it
    /// cannot, and other alarms say so.
    fn update_peer_alarm(&mut self, peer: PeerId, now: Instant, out: &mut Outbox) {
        let status = self.liveness.peer(peer);
        let is_lost = status.is_some_and(|peer| peer.state == PeerState::Lost && peer.reason != StateReason::Link);
        let alarm = Alarm { kind: AlarmKind::PeerLost, subject: Subject::peer(&self.config, peer) };
        if is_lost {
            out.raise_alarm(alarm, PEER_LOST_REASON.to_owned(), now);
        } else {
            out.clear_alarm(&alarm, now);
        }
    }

    fn below_min_changed(&mut self, set: PathSetId, below: bool, now: Instant, out: &mut Outbox) {
        let Some(key) = self.set_keys.get(set.index()).copied() else { return };
        let group = &self.config.groups[key.group.index()];
        // With one peer the set toward it and the set toward every peer are the same, and have one alarm.
        let is_gone = key.peer.is_some_and(|peer| is_removed(&self.config.peers[peer.index()].name));
        if is_gone || key.peer.is_some() && group.peers.len() == 1 {
            return;
        }
        let toward = key.peer.map(|peer| self.config.peers[peer.index()].name.clone());
        let subject = Subject::Paths { group: group.name.clone(), toward, family: key.family };
        let alarm = Alarm { kind: AlarmKind::BelowMin, subject };
        if below {
            let up = self.liveness.sets()[set.index()].up.count_ones();
            let reason = format!("{up} firewalls are live, min-up is {}", group.min_up);
            out.raise_alarm(alarm, reason, now);
        } else {
            out.clear_alarm(&alarm, now);
        }
    }

    /// The reason in words; `None` if all is well. Orders are described by [`Paths::firewall_reason`].
    pub(super) fn reason_text(&self, reason: StateReason) -> Option<String> {
        let peer = |id: PeerId| &self.config.peers[id.index()].name;
        match reason {
            StateReason::Healthy => None,
            StateReason::Starting => Some("no verdict yet".to_owned()),
            StateReason::Link => Some("the engine's own link to it is down".to_owned()),
            StateReason::Probes(id, family) => {
                Some(format!("probes to {} are not answered ({})", peer(id), family.name()))
            }
            StateReason::Objection(id, family) => {
                Some(format!("{} says that its probes are not answered ({})", peer(id), family.name()))
            }
            StateReason::Commanded => Some("set".to_owned()),
            StateReason::CommandedAt(id) => Some(format!("set at {}", peer(id))),
            StateReason::Deadline(_) => Some("drain-timeout has passed".to_owned()),
        }
    }

    /// The subject of a path in events: `perimeter/fw1 to inner ipv4`.
    pub(super) fn path_subject(&self, key: PathKey) -> Subject {
        let firewall = &self.config.firewalls[key.firewall.index()];
        Subject::Path {
            group: self.config.groups[firewall.group.index()].name.clone(),
            firewall: firewall.name.clone(),
            peer: self.config.peers[key.peer.index()].name.clone(),
            family: key.family,
        }
    }
}
