//! What is wrong, and for how long it has been.

use std::collections::BTreeMap;

use super::{Machine, Peer};
use crate::ha::Role;
use crate::ha::alarm::{Alarm, AlarmChange, AlarmKind};
use crate::ha::out::{Out, Path};
use crate::ha::score::{self, Deduction, DeductionKind};
use crate::ha::settings::{LegId, NodeKind, SECTIONS};
use crate::time::{Duration, Instant};

/// How long nodes may differ, as they are changed one after the other.
const DIFFERS: Duration = Duration::from_secs(60);
/// How long a stranger with this cluster's VRID is remembered.
const STRANGER: Duration = Duration::from_secs(10);
/// How long an advertisement says that a node lives of which no hello was opened.
const ADVERTISED: Duration = Duration::from_secs(10);
/// How long nodes that begin to hear each other may look as if they did not.
const BEGINNING: Duration = Duration::from_millis(500);
/// How long the path for synchronisation may be silent, and that of a node that starts.
const SYNC: Duration = Duration::from_secs(1);

impl Machine {
    /// The alarms that stand, each with its reason and its age.
    pub fn alarms(&self, now: Instant) -> Vec<(Alarm, String, Duration)> {
        let alarms = self.alarms.iter();
        alarms.map(|(alarm, (reason, since))| (alarm.clone(), reason.clone(), now.since(*since))).collect()
    }

    /// Compares what is wrong with what was, and says what changed.
    pub(super) fn judge_alarms(&mut self, now: Instant, out: &mut Out) {
        let mut wrong = self.wrong(now);
        self.alarms.retain(|alarm, (reason, _)| match wrong.remove(alarm) {
            Some(newer) => {
                *reason = newer;
                true
            }
            None => {
                out.alarms.push(AlarmChange::Cleared(alarm.clone()));
                false
            }
        });
        self.suspected.retain(|alarm, _| wrong.contains_key(alarm));
        for (alarm, reason) in wrong {
            let since = *self.suspected.entry(alarm.clone()).or_insert(now);
            if now.since(since) < patience(alarm.kind) {
                continue;
            }
            self.suspected.remove(&alarm);
            out.alarms.push(AlarmChange::Raised(alarm.clone(), reason.clone()));
            self.alarms.insert(alarm, (reason, now));
        }
    }

    fn wrong(&self, now: Instant) -> BTreeMap<Alarm, String> {
        let mut wrong = BTreeMap::new();
        let mut add = |kind, subject: &str, reason: String| {
            wrong.insert(Alarm { kind, subject: subject.to_owned() }, reason);
        };
        let me = &self.config.my_node().name;
        for peer in &self.peers {
            for (kind, reason) in self.wrong_with(peer, now) {
                add(kind, &peer.name, reason);
            }
        }
        for (kind, node, reason) in &self.health.sync.alarms {
            let subject = self.config.nodes.get(node.index()).map_or("?", |node| node.name.as_str());
            add(*kind, subject, reason.clone());
        }
        if self.role == Role::Standby
            && let Some((_, heard, _)) = self.active
            && self.is_seen_by_witness(heard, now)
            && self.silence().is_some_and(|(_, down)| now >= down)
        {
            let reason = "the far side hears the active node, this one does not".to_owned();
            add(AlarmKind::HaPartition, me, reason);
        }
        if self.role.forwards() && self.is_alone(now) {
            let untaken = self.peers.iter().find(|peer| peer.untaken.is_some() && peer.fresh_standby(now).is_some());
            let why = untaken.map_or("no standby is heard that could take over".to_owned(), |peer| {
                format!("{} did not take the role that it was given", peer.name)
            });
            let fault = self.faults().first().map(|fault| format!("{fault}, and ")).unwrap_or_default();
            let reason = fault + &why;
            add(AlarmKind::HaAlone, me, reason);
        }
        if self.pace.interval() > self.config.interval {
            let (late, interval) = (self.pace.worst().as_millis(), self.pace.interval().as_millis());
            add(AlarmKind::HaSlow, me, format!("{late} ms late; it advertises {interval} ms"));
        }
        let is_dead = |one: &&Deduction| one.kind == DeductionKind::Link && self.has_carrier(&one.subject);
        for dead in self.deductions.iter().filter(is_dead) {
            add(AlarmKind::LegDead, &dead.subject, "nobody is heard although the carrier stays".to_owned());
        }
        if let Some((leg, source, heard)) = self.stranger
            && now.since(heard) < STRANGER
            && let Some(leg) = self.config.legs.get(leg.index())
        {
            let reason = format!("{source} advertises VRID {} and is no node of this cluster", leg.vrid);
            add(AlarmKind::VridClash, &leg.name, reason);
        }
        wrong
    }

    /// What is wrong between this node and another one.
    fn wrong_with(&self, peer: &Peer, now: Instant) -> Vec<(AlarmKind, String)> {
        let is_active = self.role == Role::Active;
        let mut wrong = Vec::new();
        wrong.extend(self.second_active(peer, now).filter(|_| is_active).map(|why| (AlarmKind::SplitBrain, why)));
        wrong.extend(self.lost_sync(peer, now).map(|why| (AlarmKind::SyncLost, why)));
        let Some(hello) = peer.fresh(now) else { return wrong };
        if hello.digests != self.config.digests {
            let differ = differing(&self.config.digests, &hello.digests).join(", ");
            wrong.push((AlarmKind::ConfigDiffers, format!("its file differs in: {differ}")));
        }
        if hello.program != self.config.program {
            let why = format!("it runs version {}, this node {}", hello.program, self.config.program);
            wrong.push((AlarmKind::VersionDiffers, why));
        }
        if is_active && hello.role == Role::Standby && !self.has_all_copies(peer.node, hello) {
            let why = format!("it holds {} of {} copies", hello.held, self.health.sync.needed);
            wrong.push((AlarmKind::StandbyNotReady, why));
        }
        wrong
    }

    fn has_carrier(&self, link: &str) -> bool {
        let leg = self.config.legs.iter().position(|leg| leg.name == link);
        leg.is_some_and(|leg| score::has_carrier(&self.health, LegId(leg as u16)))
    }

    fn second_active(&self, peer: &Peer, now: Instant) -> Option<String> {
        let terms = |theirs: u32| format!("both are active: this node in term {}, it in term {theirs}", self.term);
        match peer.fresh(now) {
            Some(_) => {
                let hello = peer.speaking_active(now)?;
                let heard: Vec<_> = peer.paths.iter().filter(|(_, at)| now.since(*at) < hello.interval * 4).collect();
                let deaf = self.config.legs.iter().enumerate().filter(|(index, _)| {
                    !heard.iter().any(|(path, _)| matches!(path, Path::Leg(leg) if leg.index() == *index))
                });
                let deaf: Vec<_> = deaf.map(|(_, leg)| leg.name.as_str()).collect();
                let deaf = if deaf.is_empty() { String::new() } else { format!("; not heard on {}", deaf.join(", ")) };
                Some(terms(hello.last_active) + &deaf)
            }
            None if Self::hears_router(peer, now) => Some("both advertise as the active router".to_owned()),
            None => {
                self.witnessed_claim(peer, now)?;
                peer.witness.map(|report| terms(report.term) + ", says the far side")
            }
        }
    }

    fn lost_sync(&self, peer: &Peer, now: Instant) -> Option<String> {
        if peer.kind != NodeKind::Fwlb {
            return None;
        }
        if peer.hello.is_none() {
            let advertises = peer.advertised.is_some_and(|heard| now.since(heard) < ADVERTISED);
            return advertises
                .then(|| "it advertises, but its hellos cannot be opened: is the key the same?".to_owned());
        }
        let expected = self.config.has_sync() && self.config.nodes[peer.node.index()].sync.is_some();
        let sync = peer.paths.iter().find(|(path, _)| *path == Path::Sync).map_or(self.started, |(_, heard)| *heard);
        let is_lost = expected && peer.fresh(now).is_some() && now.since(sync) >= SYNC;
        is_lost.then(|| "it is heard on links, but not at its address for synchronisation".to_owned())
    }
}

/// How long something has to be wrong before it is an alarm.
const fn patience(kind: AlarmKind) -> Duration {
    match kind {
        AlarmKind::HaAlone | AlarmKind::SyncLost => BEGINNING,
        AlarmKind::ConfigDiffers | AlarmKind::VersionDiffers | AlarmKind::StandbyNotReady => DIFFERS,
        AlarmKind::SplitBrain
        | AlarmKind::HaPartition
        | AlarmKind::HaSlow
        | AlarmKind::LegDead
        | AlarmKind::SyncBehind
        | AlarmKind::SyncFailed
        | AlarmKind::SyncRefused
        | AlarmKind::VridClash => Duration::ZERO,
    }
}

/// The sections whose digests differ. The one of the whole file is left out if another says more.
pub(super) fn differing(ours: &[u32; SECTIONS.len()], theirs: &[u32; SECTIONS.len()]) -> Vec<&'static str> {
    let pairs = SECTIONS.iter().zip(ours.iter().zip(theirs));
    let mut differ: Vec<_> = pairs.filter(|(_, (ours, theirs))| ours != theirs).map(|(name, _)| *name).collect();
    if differ.len() > 1 {
        differ.retain(|name| *name != "file");
    }
    differ
}
