//! The machine as people see it.

use std::collections::BTreeMap;

use super::alarms::differing;
use super::{Machine, Peer};
use crate::ha::Role;
use crate::ha::hello::Hello;
use crate::ha::out::{Path, Reason, RoleChange};
use crate::ha::settings::NodeId;
use crate::ha::view::{DeductionView, HaView, HeardView, NodeView, RoleChangeView};
use crate::named_enum::EnumOrUnknown;
use crate::time::{Duration, Instant};

impl Machine {
    /// Since when this node has its role.
    pub fn role_since(&self) -> Instant {
        self.since
    }

    /// The other node that is active, as hellos say. One that leaves counts only while no other one has taken its role.
    pub fn active_peer(&self, now: Instant) -> Option<NodeId> {
        let forwarding = self.peers.iter().filter_map(|peer| Some((peer.fresh_forwarding(now)?, peer.node)));
        forwarding.max_by_key(|(hello, _)| (hello.role == Role::Active, hello.term)).map(|(_, node)| node)
    }

    /// True if another node has every copy of the sessions of this one: it says so, and nothing that it cannot know of yet
    /// is still to be told.
    pub(super) fn has_all_copies(&self, node: NodeId, hello: &Hello) -> bool {
        hello.is_ready && !self.health.sync.lacking.contains(&node)
    }

    /// `show ha`.
    pub fn status(&self, now: Instant) -> HaView {
        let me = self.config.my_node();
        let deduction = |one: &crate::ha::Deduction| DeductionView {
            kind: one.kind.into(),
            subject: one.subject.clone(),
            detail: one.detail.clone(),
            points: one.points,
        };
        let until = self.role_word().until;
        HaView {
            engine: me.name.clone(),
            node: me.name.clone(),
            role: self.role.into(),
            ready: self.health.sync.is_ready,
            term: self.term,
            since_ms: millis(now.since(self.since)),
            reason: match self.history.back() {
                Some((_, change)) => self.change_words(change),
                None => self.words(&Reason::Start),
            },
            priority: self.priority(),
            base: me.priority,
            deductions: self.deductions.iter().map(deduction).collect(),
            faults: self.faults().iter().map(ToString::to_string).chain(self.recovery_words(now)).collect(),
            maintenance: self.maintenance.is_some(),
            version: self.config.program.clone(),
            lease_ms: (self.role.forwards() && until != Instant::from_nanos(u64::MAX))
                .then(|| millis(until.since(now))),
            interval_ms: millis(self.pace.promised()),
            lateness_ms: self.pace.worst().as_secs_f64() * 1000.0,
            sessions_needed: self.health.sync.needed,
            sessions_held: self.health.sync.held,
            nodes: self.peers.iter().map(|peer| self.node_view(peer, now)).collect(),
            transitions: self.transitions,
            history: self.history.iter().map(|(at, change)| self.role_change_view(*at, change, now)).collect(),
        }
    }

    /// Why a node is not ready although no fault stands.
    fn recovery_words(&self, now: Instant) -> Option<String> {
        let over = self.fault_over.filter(|_| self.role == Role::Fault)?;
        let left = self.recovery(now).saturating_sub(now.since(over)).as_millis().div_ceil(1000);
        Some(format!("the last fault is over, and must not come back for {left} s"))
    }

    /// The term in which this node was last active; 0 if it never was.
    pub fn last_active_term(&self) -> u32 {
        self.last_active
    }

    /// The best path to another node on which it is heard: that for synchronisation, else a link. `None` if it is silent.
    pub fn path_to(&self, node: NodeId, now: Instant) -> Option<Path> {
        let peer = self.peers.iter().find(|peer| peer.node == node)?;
        let hello = peer.fresh(now)?;
        let fresh = peer.paths.iter().filter(|(_, heard)| now.since(*heard) < hello.interval * 4);
        fresh.map(|(path, _)| *path).min_by_key(|path| match path {
            Path::Sync => 0,
            Path::Leg(leg) => 1 + leg.index(),
        })
    }

    /// A change of role for `show ha` and events.
    pub fn role_change_view(&self, at: Instant, change: &RoleChange, now: Instant) -> RoleChangeView {
        RoleChangeView {
            ago_ms: millis(now.since(at)),
            from: change.from.into(),
            to: change.to.into(),
            reason: self.change_words(change),
            term: change.term,
            lasted_ms: millis(change.lasted),
            by: change.by.as_ref().and_then(|by| by.operator.clone()),
        }
    }

    /// Why the role changed, in words: of an order with the reason that was given.
    pub fn change_words(&self, change: &RoleChange) -> String {
        let given = change.by.as_ref().and_then(|by| by.reason.as_ref());
        let given = given.map(|reason| format!(": {reason:?}")).unwrap_or_default();
        self.words(&change.reason) + &given
    }

    /// A reason in words, with the names of nodes.
    fn words(&self, reason: &Reason) -> String {
        let name =
            |node: NodeId| self.config.nodes.get(node.index()).map_or("a former node", |node| node.name.as_str());
        match reason {
            Reason::Start => "it started".to_owned(),
            Reason::ActiveHeard(node) => format!("{} is active", name(*node)),
            Reason::BestClaim => "no node is active, and this one has the best claim".to_owned(),
            Reason::NobodyElse => "it has listened and no node is active".to_owned(),
            Reason::Silence(Some(node), time) => format!("{} was silent for {} ms", name(*node), time.as_millis()),
            Reason::Silence(None, time) => format!("no node was active for {} ms", time.as_millis()),
            Reason::Stopped(node) => format!("{} stopped", name(*node)),
            Reason::Handover(node) => format!("{} gave the role", name(*node)),
            Reason::Taken(node) => format!("{} took the role", name(*node)),
            Reason::NotTaken => "no node took the role in time".to_owned(),
            Reason::BetterClaim(node) => format!("{} is active too and has the better claim", name(*node)),
            Reason::Score(node) => format!("{} has fewer deductions", name(*node)),
            Reason::Preempted(node) => format!("{} has the higher priority and is ready", name(*node)),
            Reason::Order => "ordered".to_owned(),
            Reason::Stop => "the program stops".to_owned(),
            Reason::StoodStill(time) => format!("this node stood still for {} ms", time.as_millis()),
            Reason::Fault(fault) => fault.to_string(),
            Reason::Recovered => "the fault is over".to_owned(),
        }
    }

    fn node_view(&self, peer: &Peer, now: Instant) -> NodeView {
        let fresh = peer.fresh(now);
        let by_router = Self::hears_router(peer, now).then_some(Role::Active);
        let path = |path: &Path| match path {
            Path::Sync => "sync".to_owned(),
            Path::Leg(leg) => self.config.legs.get(leg.index()).map_or("?", |leg| leg.name.as_str()).to_owned(),
        };
        let mut heard: Vec<_> =
            peer.paths.iter().map(|(way, at)| HeardView { path: path(way), age_ms: millis(now.since(*at)) }).collect();
        heard.extend(
            peer.routers.iter().map(|router| HeardView {
                path: path(&Path::Leg(router.leg)),
                age_ms: millis(now.since(router.heard)),
            }),
        );
        let of_router = peer.routers.iter().max_by_key(|router| router.heard).map(|router| router.priority);
        NodeView {
            name: peer.name.clone(),
            kind: peer.kind.into(),
            role: fresh.map(|hello| hello.role).or(by_router).map(EnumOrUnknown::from),
            ready: fresh.is_some_and(|hello| self.has_all_copies(peer.node, hello)),
            priority: fresh.map(|hello| hello.priority).or(of_router).unwrap_or(peer.priority),
            base: peer.priority,
            deductions: fresh.map_or(0, |hello| hello.deductions),
            term: peer.hello.as_ref().map_or(0, |hello| hello.last_active),
            version: peer.hello.as_ref().map(|hello| hello.program.clone()),
            config: fresh.map_or_else(Vec::new, |hello| {
                differing(&self.config.digests, &hello.digests).into_iter().map(str::to_owned).collect()
            }),
            heard,
            sessions_held: fresh.map_or(0, |hello| hello.held),
            // The owner of the copies knows.
            behind_ms: 0,
            pass: None,
            full_passes: 0,
            records: 0,
            resends: 0,
            refused: BTreeMap::new(),
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
