//! What is known of the engines behind one peer address, each by its name.
//!
//! Several engines may be one virtual router on the far side. Each numbers its probes by itself, has its own version
//! and configuration, and gives its own orders, so that all of this is kept for each engine. Of what they say about
//! firewalls only the words of the active one count.

use std::collections::{BTreeMap, VecDeque};

use super::super::notes::Notes;
use crate::config;
use crate::engine::view::DigestState;
use crate::id::LinkId;
use crate::path::liveness::ADVERTISEMENT_LIFETIME;
use crate::time::Instant;
use crate::wire::Family;
use crate::wire::probe::{ClusterReport, Probe, ReportedRole};

/// How many earlier starts of an engine are remembered. Probes of those are refused, so that recorded ones have no
/// effect.
const EPOCHS_MAX: usize = 8;
/// The largest number of engines behind one peer address, as many as a cluster has nodes.
const ENGINES_MAX: usize = 8;

/// What is known of one engine on the far side.
#[derive(Debug, Clone)]
pub(in super::super) struct EngineRecord {
    /// The name by which it announces itself.
    pub(in super::super) name: String,
    /// It stands in the file, and is shown before it is heard.
    is_configured: bool,
    pub(in super::super) version: Option<String>,
    pub(in super::super) digest: DigestState,
    /// Why its digest differs, in words.
    pub(super) difference: &'static str,
    pub(in super::super) last_authentic: Option<Instant>,
    epoch: Option<u64>,
    earlier_epochs: VecDeque<u64>,
    /// The highest sequence number of its probes over IPv4 and over IPv6.
    highest_sequences: [u64; 2],
    /// What its last probe said about its cluster; `None` from an engine that is alone on its side.
    pub(in super::super) cluster: Option<ClusterReport>,
    /// The VRID that it said on each link of this engine that its probes came from.
    vrids: BTreeMap<LinkId, u8>,
    /// Why firewalls have their administrative states there, and what was sent to it of those here.
    pub(in super::super) notes: Notes,
}

impl EngineRecord {
    fn new(name: String, is_configured: bool) -> Self {
        Self {
            name,
            is_configured,
            version: None,
            digest: DigestState::Unknown,
            difference: "",
            last_authentic: None,
            epoch: None,
            earlier_epochs: VecDeque::new(),
            highest_sequences: [0; 2],
            cluster: None,
            vrids: BTreeMap::new(),
            notes: Notes::default(),
        }
    }

    /// Whether a probe is newer than every probe received of this start of the engine, or of a newer start.
    pub(super) fn is_newer(&mut self, probe: &Probe, family: Family) -> bool {
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

    /// Its probe came on `link` with what it says of its cluster.
    pub(super) fn heard_vrid(&mut self, link: LinkId, cluster: Option<&ClusterReport>) {
        match cluster {
            Some(cluster) => drop(self.vrids.insert(link, cluster.vrid)),
            None => self.vrids.clear(),
        }
    }

    /// Whether a probe of it was received not long ago.
    pub(in super::super) fn is_fresh(&self, now: Instant) -> bool {
        self.last_authentic.is_some_and(|last| now.since(last) < ADVERTISEMENT_LIFETIME)
    }

    /// The term in which it is active; `None` if it is not. An engine that is alone on its side always is, and yields
    /// to any that has a term.
    fn active_term(&self) -> Option<u32> {
        match &self.cluster {
            None => Some(0),
            Some(cluster) => match cluster.role {
                ReportedRole::Active | ReportedRole::Leaving => Some(cluster.term),
                ReportedRole::Fault | ReportedRole::Listen | ReportedRole::Standby => None,
            },
        }
    }
}

/// What is known of a peer: the engines behind its address.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct PeerRecord {
    /// Those of the file first, in its order.
    pub(in super::super) engines: Vec<EngineRecord>,
    /// The index of the engine whose words counted last.
    speaker: Option<usize>,
    /// Probes with another seed come from an unknown engine, and no engine of the peer was heard lately.
    pub(super) is_seed_different: bool,
}

impl PeerRecord {
    /// Nothing is known yet but the names in the file.
    pub(in super::super) fn new(peer: &config::Peer) -> Self {
        let engines = peer.engines.iter().map(|engine| EngineRecord::new(engine.name.clone(), true));
        Self { engines: engines.collect(), ..Self::default() }
    }

    /// The same under another configuration: engines that are named there come first, and those that were heard stay.
    pub(in super::super) fn adopt(mut self, peer: &config::Peer) -> Self {
        let speaker = self.speaker.map(|index| self.engines[index].name.clone());
        let mut adopted = Self { is_seed_different: self.is_seed_different, ..Self::new(peer) };
        for engine in &mut adopted.engines {
            if let Some(known) = self.position(&engine.name) {
                // What links are is the new configuration's to say.
                let known = self.engines.swap_remove(known);
                *engine = EngineRecord { is_configured: true, vrids: BTreeMap::new(), ..known };
            }
        }
        let heard = self.engines.into_iter().filter(|engine| engine.last_authentic.is_some());
        let room = ENGINES_MAX.saturating_sub(adopted.engines.len());
        let unnamed = |engine| EngineRecord { is_configured: false, vrids: BTreeMap::new(), ..engine };
        adopted.engines.extend(heard.map(unnamed).take(room));
        adopted.speaker = speaker.and_then(|name| adopted.position(&name));
        adopted
    }

    /// The VRIDs that engines which were heard lately have on the other side of firewalls: name, own link, VRID.
    pub(super) fn vrids(&self, now: Instant) -> impl Iterator<Item = (&str, LinkId, u8)> {
        let fresh = self.engines.iter().filter(move |engine| engine.is_fresh(now));
        fresh.flat_map(|engine| engine.vrids.iter().map(|(link, vrid)| (engine.name.as_str(), *link, *vrid)))
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.engines.iter().position(|engine| engine.name == name)
    }

    /// The record of an engine that was heard. A new one may replace one that is not in the file and was not heard for
    /// long; `None` if there is none to replace.
    pub(super) fn engine_named(&mut self, name: &str, now: Instant) -> Option<usize> {
        if let Some(known) = self.position(name) {
            return Some(known);
        }
        if self.engines.len() < ENGINES_MAX {
            self.engines.push(EngineRecord::new(name.to_owned(), false));
            return Some(self.engines.len() - 1);
        }
        let old = self.engines.iter().enumerate().filter(|(_, engine)| !engine.is_configured && !engine.is_fresh(now));
        let (index, _) = old.min_by_key(|(_, engine)| engine.last_authentic)?;
        self.engines[index] = EngineRecord::new(name.to_owned(), false);
        self.speaker = self.speaker.filter(|speaker| *speaker != index);
        Some(index)
    }

    /// Whether the words of this engine count: it calls itself active, and no other that was heard lately does in a
    /// higher term. If they do, it is the speaker from now on.
    pub(super) fn speaks(&mut self, index: usize, now: Instant) -> bool {
        let Some(term) = self.engines[index].active_term() else { return false };
        let others = self.engines.iter().enumerate().filter(|(other, engine)| *other != index && engine.is_fresh(now));
        let counts = others.filter_map(|(_, other)| other.active_term()).all(|other| other <= term);
        if counts {
            self.speaker = Some(index);
        }
        counts
    }

    /// The engine whose words counted last.
    pub(in super::super) fn speaker(&self) -> Option<&EngineRecord> {
        self.engines.get(self.speaker?)
    }

    pub(in super::super) fn speaker_mut(&mut self) -> Option<&mut EngineRecord> {
        self.engines.get_mut(self.speaker?)
    }

    /// Why the configuration of an engine that was heard lately differs, and its name if there are several engines;
    /// `None` if none does.
    pub(super) fn difference(&self, now: Instant) -> Option<String> {
        if self.is_seed_different {
            return Some(super::OTHER_SEED.to_owned());
        }
        let is_alone = self.engines.len() == 1;
        let differs = |engine: &&EngineRecord| {
            engine.digest == DigestState::Differs
                && (is_alone || engine.is_fresh(now) || engine.last_authentic.is_none())
        };
        let engine = self.engines.iter().find(differs)?;
        Some(if is_alone { engine.difference.to_owned() } else { format!("{}: {}", engine.name, engine.difference) })
    }

    /// Whether the configurations on the far side are the same as here.
    pub(in super::super) fn digest(&self) -> DigestState {
        match self.is_seed_different {
            true => DigestState::Differs,
            false => self.speaker().or(self.engines.first()).map_or(DigestState::Unknown, |engine| engine.digest),
        }
    }
}
