//! The engines on the far sides: what probes report to them, and what their probes report.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::super::journal::Alarm;
use super::super::outbox::Outbox;
use super::super::tally::Tally;
use super::Paths;
use super::notes::Notes;
use crate::config::{AdminState, Config, Group};
use crate::engine::view::DigestState;
use crate::flow::HashMode;
use crate::id::{FirewallId, GroupId, PeerId};
use crate::path::liveness::{FirewallAdvertisement, PathKey, PathState};
use crate::time::{Duration, Instant};
use crate::wire::Family;
use crate::wire::probe::{FirewallReport, InvalidProbe, Probe, ReportedPathState, WireAdminState};

/// How many earlier starts of a peer are remembered. Probes of those are refused, so that recorded ones have no effect.
const EPOCHS_MAX: usize = 8;
/// A peer is shown as different because of an unauthentic probe only if it sent no authentic one for this time: anybody
/// can send garbage in its name.
const AUTHENTIC_LIFETIME: Duration = Duration::from_secs(1);
const PROGRAM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is known of a peer.
#[derive(Debug, Clone, Default)]
pub(super) struct PeerRecord {
    pub(super) engine: Option<String>,
    pub(super) version: Option<String>,
    pub(super) digest: DigestState,
    last_authentic: Option<Instant>,
    epoch: Option<u64>,
    earlier_epochs: VecDeque<u64>,
    /// The highest sequence number of its probes over IPv4 and over IPv6.
    highest_sequences: [u64; 2],
    /// Why firewalls have their administrative states there, and what was sent to it of those here.
    pub(super) notes: Notes,
}

impl PeerRecord {
    /// Whether a probe is newer than every probe received of this start of the peer, or of a newer start.
    fn is_newer(&mut self, probe: &Probe, family: Family) -> bool {
        let newest = match family {
            Family::V4 => 0,
            Family::V6 => 1,
        };
        if self.epoch != Some(probe.epoch) {
            if self.earlier_epochs.contains(&probe.epoch) {
                return false;
            }
            if let Some(epoch) = self.epoch.replace(probe.epoch) {
                if self.earlier_epochs.len() >= EPOCHS_MAX {
                    self.earlier_epochs.pop_front();
                }
                self.earlier_epochs.push_back(epoch);
            }
            self.highest_sequences = [0; 2];
        }
        let news = probe.sequence > self.highest_sequences[newest];
        self.highest_sequences[newest] = self.highest_sequences[newest].max(probe.sequence);
        news
    }
}

/// What both engines have to have in common: hash mode, names, weights and spares, in whatever order they are
/// configured.
fn group_digest(config: &Config, group: &Group) -> u64 {
    let mut members: Vec<_> = group.firewalls.iter().map(|id| &config.firewalls[id.index()]).collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    // `source` on one side is `destination` on the other.
    let mode: u8 = match group.hash {
        HashMode::FiveTuple => 0,
        HashMode::ThreeTuple => 1,
        HashMode::Addresses => 2,
        HashMode::Source | HashMode::Destination => 3,
    };
    let mut bytes = vec![mode];
    for member in members {
        bytes.extend_from_slice(member.name.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&member.weight.to_be_bytes());
        bytes.push(member.spare.into());
    }
    group.seed.digest(&bytes)
}

/// The digests of the configurations of all groups.
pub(super) fn group_digests(config: &Config) -> Vec<u64> {
    config.groups.iter().map(|group| group_digest(config, group)).collect()
}

/// The digests of the names of all firewalls, which identify them in probes.
pub(super) fn name_digests(config: &Config) -> Vec<u64> {
    let digest = |firewall: &crate::config::Firewall| {
        config.groups[firewall.group.index()].seed.digest(firewall.name.as_bytes())
    };
    config.firewalls.iter().map(digest).collect()
}

impl Paths {
    /// The payload of the next probe of a path.
    pub(super) fn probe_payload(&mut self, path: PathKey) -> Vec<u8> {
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
            supports_notes: true,
            notes,
        };
        let probe = Probe { nonce: self.random.next_u64(), ..probe };
        probe.encode(|bytes| group.seed.digest(bytes))
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
                    self.apply_probe(group_id, peer, Family::of(source), &probe, now, out);
                }
            }
            Err(InvalidProbe::Unauthentic) => {
                out.count(Tally::ProbesUnauthentic);
                let Some(peer) = self.sender(group_id, source, None) else { return };
                let authentic = self.peers[peer.index()].last_authentic;
                if authentic.is_none_or(|last| now.since(last) >= AUTHENTIC_LIFETIME) {
                    self.set_digest(peer, DigestState::Differs, "its seed is another", now, out);
                }
            }
            Err(InvalidProbe::NotAProbe | InvalidProbe::Version(_) | InvalidProbe::Malformed) => {
                out.count(Tally::ProbesUnauthentic);
            }
        }
    }

    fn apply_probe(
        &mut self,
        group: GroupId,
        peer: PeerId,
        family: Family,
        probe: &Probe,
        now: Instant,
        out: &mut Outbox,
    ) {
        let record = &mut self.peers[peer.index()];
        if !record.is_newer(probe, family) {
            out.count(Tally::ProbesReplayed);
            return;
        }
        record.last_authentic = Some(now);
        if record.engine.as_deref() != Some(&probe.engine) {
            record.engine = Some(probe.engine.clone());
        }
        if record.version.as_deref() != Some(&probe.version) {
            record.version = Some(probe.version.clone());
        }
        let same =
            probe.digest == self.group_digests[group.index()] && probe.group == self.config.groups[group.index()].name;
        if same {
            self.set_digest(peer, DigestState::Same, "", now, out);
        } else {
            self.set_digest(peer, DigestState::Differs, "its firewalls, weights, spares or hash are others", now, out);
        }
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
        self.handle_notes(peer, &told, probe);
        self.liveness.handle_advertisement(peer, family, &told, now);
        self.needs_evaluation = true;
    }

    /// Finds out which peer sent a probe: by its address; behind a translating firewall by its name; else it is the
    /// only one there is.
    fn sender(&self, group: GroupId, source: IpAddr, engine: Option<&str>) -> Option<PeerId> {
        let peers = &self.config.groups[group.index()].peers;
        let by = |matches: &dyn Fn(&crate::config::Peer) -> bool| {
            peers.iter().copied().find(|id| matches(&self.config.peers[id.index()]))
        };
        by(&|peer| peer.addresses.contains(&source))
            .or_else(|| by(&|peer| engine == Some(&peer.name)))
            .or_else(|| by(&|peer| engine.is_some() && self.learned_engine_name(peer) == engine))
            .or(match peers.as_slice() {
                [only] => Some(*only),
                [] | [_, _, ..] => None,
            })
    }

    fn learned_engine_name(&self, peer: &crate::config::Peer) -> Option<&str> {
        let index = self.config.peers.iter().position(|known| known == peer)?;
        self.peers[index].engine.as_deref()
    }

    fn set_digest(&mut self, peer: PeerId, state: DigestState, reason: &str, now: Instant, out: &mut Outbox) {
        let record = &mut self.peers[peer.index()];
        let before = std::mem::replace(&mut record.digest, state);
        if before == state {
            return;
        }
        let alarm = Alarm { kind: "digest_differs", subject: self.config.peer_name(peer) };
        match state {
            DigestState::Differs => out.raise_alarm(alarm, reason.to_owned(), now),
            DigestState::Same | DigestState::Unknown => out.clear_alarm(&alarm, now),
        }
    }
}
