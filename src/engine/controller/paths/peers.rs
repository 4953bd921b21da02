//! The engines on the far sides: what probes report to them, and what their probes report.

mod records;

use std::net::IpAddr;

use super::super::outbox::Outbox;
use super::super::tally::Tally;
use super::Paths;
use crate::config::{self, AdminState, Config, Group};
use crate::engine::change::{Alarm, Subject};
use crate::engine::view::{AlarmKind, DigestState};
use crate::ha::{Machine, NodeConfig, NodeId, Role, WitnessReport};
use crate::id::{FirewallId, GroupId, PeerId};
use crate::path::liveness::{FirewallAdvertisement, PathKey, PathState};
use crate::time::{Duration, Instant};
use crate::wire::Family;
use crate::wire::probe::{
    ClusterReport, FirewallReport, InvalidProbe, NODES_MAX, NodeReport, Probe, ReportedPathState, ReportedRole,
    WireAdminState,
};

/// An engine is shown as different because of an unauthentic probe only if it sent no authentic one for this time:
/// anybody can send garbage in its name.
const AUTHENTIC_LIFETIME: Duration = Duration::from_secs(1);
const PROGRAM_VERSION: &str = env!("CARGO_PKG_VERSION");
/// The largest number of reports about nodes of this cluster that wait for the role machine.
pub(super) const WITNESSES_MAX: usize = 64;
const OTHER_SEED: &str = "its seed is another";
const OTHER_GROUP: &str = "its firewalls, weights, spares or hash are others";

pub(super) use records::{EngineRecord, PeerRecord};

/// What this engine is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterRole {
    /// Its role.
    pub role: ReportedRole,
    /// The term in which it was last active; 0 if it never was.
    pub term: u32,
    /// Its priority, less what its health takes from it.
    pub priority: u8,
}

impl From<&Machine> for ClusterRole {
    /// What the role machine says of its node in probes.
    fn from(machine: &Machine) -> Self {
        Self { role: machine.role().into(), term: machine.last_active_term(), priority: machine.priority() }
    }
}

impl From<Role> for ReportedRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Fault => Self::Fault,
            Role::Listen => Self::Listen,
            Role::Standby => Self::Standby,
            Role::Active => Self::Active,
            Role::Leaving => Self::Leaving,
        }
    }
}

impl From<ReportedRole> for Role {
    fn from(role: ReportedRole) -> Self {
        match role {
            ReportedRole::Fault => Self::Fault,
            ReportedRole::Listen => Self::Listen,
            ReportedRole::Standby => Self::Standby,
            ReportedRole::Active => Self::Active,
            ReportedRole::Leaving => Self::Leaving,
        }
    }
}

/// What both engines have to have in common: hash mode, names, weights and spares, and the affinity of prefixes, in
/// whatever order they are configured. `source` on one side is `destination` on the other.
fn group_digest(config: &Config, group: &Group) -> u64 {
    let mut members: Vec<_> = group.firewalls.iter().map(|id| &config.firewalls[id.index()]).collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let mut bytes = vec![group.hash.breadth()];
    for member in members {
        bytes.extend_from_slice(member.name.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&member.weight.to_be_bytes());
        bytes.push(member.spare.into());
    }
    let mut affinity: Vec<_> = group.affinity.iter().map(|rule| (rule.prefix.to_string(), rule.mode)).collect();
    affinity.sort();
    for (prefix, mode) in affinity {
        bytes.extend_from_slice(prefix.as_bytes());
        bytes.extend_from_slice(&[0, mode.breadth()]);
    }
    group.seed.digest(&bytes)
}

/// The digests of the configurations of all groups.
pub(in super::super) fn group_digests(config: &Config) -> Vec<u64> {
    config.groups.iter().map(|group| group_digest(config, group)).collect()
}

/// The digests of the names of all firewalls, which identify them in probes.
pub(super) fn name_digests(config: &Config) -> Vec<u64> {
    let digest =
        |firewall: &config::Firewall| config.groups[firewall.group.index()].seed.digest(firewall.name.as_bytes());
    config.firewalls.iter().map(digest).collect()
}

impl Paths {
    /// The payload of the next probe of a path.
    pub(super) fn probe_payload(&mut self, path: PathKey, now: Instant) -> Vec<u8> {
        self.probe_sequence += 1;
        let group_id = self.config.firewalls[path.firewall.index()].group;
        let notes = self.notes_for(path);
        let group = &self.config.groups[group_id.index()];
        let firewalls = self.liveness.advertise(path.peer, path.family).map(|told| FirewallReport {
            name: self.name_digests[told.firewall.index()],
            verdict: match told.verdict {
                PathState::Starting => ReportedPathState::Starting,
                PathState::Up => ReportedPathState::Up,
                PathState::Down => ReportedPathState::Down,
            },
            admin: match told.admin {
                AdminState::Ready => WireAdminState::Ready,
                AdminState::Drain => WireAdminState::Drain,
                AdminState::Maint => WireAdminState::Maint,
            },
        });
        let probe = Probe {
            epoch: self.epoch,
            sequence: self.probe_sequence,
            nonce: 0,
            digest: self.group_digests[group_id.index()],
            engine: self.config.engine.name.clone(),
            version: PROGRAM_VERSION.to_owned(),
            group: group.name.clone(),
            firewalls: firewalls.collect(),
            cluster: self.cluster_report(path, now),
            supports_notes: true,
            notes,
        };
        let probe = Probe { nonce: self.random.next_u64(), ..probe };
        probe.encode(|bytes| group.seed.digest(bytes))
    }

    /// What the probes of a path say about this engine's cluster and the peer's; `None` if this engine is alone on its
    /// side. The VRID is that of the link on which they leave.
    fn cluster_report(&self, path: PathKey, now: Instant) -> Option<ClusterReport> {
        let ClusterRole { role, term, priority } = self.cluster_role?;
        let vrid = self.config.vrid(self.config.firewalls[path.firewall.index()].link).unwrap_or_default();
        let group = &self.config.groups[self.config.peers[path.peer.index()].group.index()];
        let node = |engine: &EngineRecord| {
            let (cluster, heard) = (engine.cluster.as_ref()?, engine.last_authentic?);
            Some((
                heard,
                NodeReport {
                    name: group.seed.digest(engine.name.as_bytes()),
                    role: cluster.role,
                    term: cluster.term,
                    priority: cluster.priority,
                    heard_ms: u16::try_from(now.since(heard).as_millis()).unwrap_or(u16::MAX),
                },
            ))
        };
        let mut nodes: Vec<_> = self.peers[path.peer.index()].engines.iter().filter_map(node).collect();
        // Those that were heard last are the nodes that there are.
        nodes.sort_by_key(|(heard, _)| std::cmp::Reverse(*heard));
        let nodes = nodes.into_iter().map(|(_, node)| node).take(NODES_MAX).collect();
        Some(ClusterReport { role, term, priority, vrid, nodes })
    }

    /// Handles a probe of a peer that came through `firewall` from `source`. It is answered in any case, and applied if
    /// it is authentic and new.
    pub(super) fn handle_probe(
        &mut self,
        firewall: FirewallId,
        source: IpAddr,
        payload: &[u8],
        now: Instant,
        out: &mut Outbox,
    ) {
        out.count(Tally::ProbesReceived);
        let group_id = self.config.firewalls[firewall.index()].group;
        let seed = self.config.groups[group_id.index()].seed;
        match Probe::decode(payload, |bytes| seed.digest(bytes)) {
            Ok(probe) => {
                if let Some(peer) = self.sender(group_id, source, Some(&probe.engine)) {
                    self.apply_probe((firewall, peer), Family::of(source), &probe, now, out);
                }
            }
            Err(InvalidProbe::Unauthentic) => {
                out.count(Tally::ProbesUnauthentic);
                if let Some(peer) = self.sender(group_id, source, None) {
                    self.suspect_seed(peer, source, now, out);
                }
            }
            Err(InvalidProbe::NotAProbe | InvalidProbe::Version(_) | InvalidProbe::Malformed) => {
                out.count(Tally::ProbesUnauthentic);
            }
        }
    }

    fn apply_probe(
        &mut self,
        (firewall, peer): (FirewallId, PeerId),
        family: Family,
        probe: &Probe,
        now: Instant,
        out: &mut Outbox,
    ) {
        let config::Firewall { group, link, .. } = self.config.firewalls[firewall.index()];
        let record = &mut self.peers[peer.index()];
        let Some(index) = record.engine_named(&probe.engine, now) else {
            out.count(Tally::Ignored);
            return;
        };
        let engine = &mut record.engines[index];
        if !engine.is_newer(probe, family) {
            out.count(Tally::ProbesReplayed);
            return;
        }
        engine.last_authentic = Some(now);
        if engine.version.as_deref() != Some(&probe.version) {
            engine.version = Some(probe.version.clone());
        }
        engine.cluster.clone_from(&probe.cluster);
        engine.heard_vrid(link, probe.cluster.as_ref());
        let same =
            probe.digest == self.group_digests[group.index()] && probe.group == self.config.groups[group.index()].name;
        (engine.digest, engine.difference) = match same {
            true => (DigestState::Same, ""),
            false => (DigestState::Differs, OTHER_GROUP),
        };
        record.is_seed_different = false;
        self.hear_witness(group, probe, now);
        let record = &mut self.peers[peer.index()];
        let counts = record.speaks(index, now);
        self.judge_digest(peer, now, out);
        self.judge_vrids(peer, now, out);
        if counts {
            self.apply_words(group, (peer, index), family, probe, now);
        }
    }

    /// Takes what a far engine says about the nodes of this cluster.
    fn hear_witness(&mut self, group: GroupId, probe: &Probe, now: Instant) {
        let (Some(ha), Some(cluster)) = (&self.config.ha, &probe.cluster) else { return };
        let seed = self.config.groups[group.index()].seed;
        for told in &cluster.nodes {
            let is_it = |node: &NodeConfig| seed.digest(node.name.as_bytes()) == told.name;
            let Some(index) = ha.nodes.iter().position(is_it) else { continue };
            if self.witnesses.len() >= WITNESSES_MAX {
                self.witnesses.pop_front();
            }
            self.witnesses.push_back(WitnessReport {
                node: NodeId(u8::try_from(index).unwrap_or(u8::MAX)),
                role: told.role.into(),
                term: told.term,
                priority: told.priority,
                heard: Instant::from_nanos(now.as_nanos().saturating_sub(u64::from(told.heard_ms) * 1_000_000)),
            });
        }
    }

    /// Takes what the engine says that speaks for a peer.
    fn apply_words(
        &mut self,
        group: GroupId,
        (peer, engine): (PeerId, usize),
        family: Family,
        probe: &Probe,
        now: Instant,
    ) {
        let firewalls = &self.config.groups[group.index()].firewalls;
        let told: Vec<FirewallAdvertisement> = probe
            .firewalls
            .iter()
            .filter_map(|seen| {
                let firewall = *firewalls.iter().find(|id| self.name_digests[id.index()] == seen.name)?;
                let verdict = match seen.verdict {
                    ReportedPathState::Starting => PathState::Starting,
                    ReportedPathState::Up => PathState::Up,
                    ReportedPathState::Down => PathState::Down,
                };
                let admin = match seen.admin {
                    WireAdminState::Ready => AdminState::Ready,
                    WireAdminState::Drain => AdminState::Drain,
                    WireAdminState::Maint => AdminState::Maint,
                };
                Some(FirewallAdvertisement { firewall, verdict, admin })
            })
            .collect();
        // Notes come before the state that they explain.
        self.handle_notes((peer, engine), &told, probe);
        self.liveness.handle_advertisement(peer, family, &told, now);
        self.needs_evaluation = true;
    }

    /// Finds out which peer sent a probe: by its address, or that of an engine there; behind a translating firewall by
    /// its name, or that of an engine there; else it is the only one there is.
    fn sender(&self, group: GroupId, source: IpAddr, engine: Option<&str>) -> Option<PeerId> {
        let peers = &self.config.groups[group.index()].peers;
        let by = |matches: &dyn Fn(PeerId) -> bool| peers.iter().copied().find(|id| matches(*id));
        let of = |id: PeerId| &self.config.peers[id.index()];
        let has_engine = |id: PeerId, name| self.peers[id.index()].position(name).is_some();
        by(&|id| of(id).addresses.contains(&source) || of(id).engine_at(source).is_some())
            .or_else(|| by(&|id| engine == Some(&of(id).name)))
            .or_else(|| by(&|id| engine.is_some_and(|name| has_engine(id, name))))
            .or(match peers.as_slice() {
                [only] => Some(*only),
                [] | [_, _, ..] => None,
            })
    }

    /// A probe of a peer has another seed. Without an address of its own it may be of any engine there.
    fn suspect_seed(&mut self, peer: PeerId, source: IpAddr, now: Instant, out: &mut Outbox) {
        let named = self.config.peers[peer.index()].engine_at(source).map(|engine| engine.name.as_str());
        let record = &mut self.peers[peer.index()];
        let was_heard = |last: Option<Instant>| last.is_some_and(|last| now.since(last) < AUTHENTIC_LIFETIME);
        match named.and_then(|name| record.position(name)) {
            Some(index) if was_heard(record.engines[index].last_authentic) => {}
            Some(index) => {
                let engine = &mut record.engines[index];
                (engine.digest, engine.difference) = (DigestState::Differs, OTHER_SEED);
            }
            None => {
                let any = record.engines.iter().any(|engine| was_heard(engine.last_authentic));
                record.is_seed_different |= !any;
            }
        }
        self.judge_digest(peer, now, out);
    }

    /// Raises or clears the alarm that the configurations of the two sides differ.
    fn judge_digest(&mut self, peer: PeerId, now: Instant, out: &mut Outbox) {
        let alarm = Alarm { kind: AlarmKind::DigestDiffers, subject: Subject::peer(&self.config, peer) };
        match self.peers[peer.index()].difference(now) {
            Some(reason) => out.raise_alarm(alarm, reason, now),
            None => out.clear_alarm(&alarm, now),
        }
    }

    /// Raises or clears the alarm that the far side uses a VRID of this cluster behind transparent firewalls, which are
    /// bridges: both sides would answer from one virtual MAC address in one network.
    fn judge_vrids(&mut self, peer: PeerId, now: Instant, out: &mut Outbox) {
        let config = &self.config;
        let is_bridged = config.peers[peer.index()].addresses.is_empty();
        let clash = self.peers[peer.index()]
            .vrids(now)
            .find(|(_, link, vrid)| is_bridged && config.vrid(*link) == Some(*vrid))
            .map(|(engine, link, vrid)| {
                let link = &config.links[link.index()].name;
                format!("engine {engine} has VRID {vrid} too, behind transparent firewalls on link {link}")
            });
        let alarm = Alarm { kind: AlarmKind::VridClash, subject: Subject::peer(config, peer) };
        match clash {
            Some(reason) => out.raise_alarm(alarm, reason, now),
            None => out.clear_alarm(&alarm, now),
        }
    }
}
