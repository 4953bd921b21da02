//! Predicts what a reload would do to live sessions and to new flows. It compares two snapshots, the one in force and
//! the one that [`crate::engine::Controller::rehearse`] makes, and changes nothing.
//!
//! For each session it makes the decision about the next packet, once under each snapshot. A session is affected by the
//! reload if it would stay under the old snapshot but not under the new one. [`ReloadImpact::examine`] takes one
//! session at a time, so that its caller can walk the table as slowly as it likes.

use std::collections::BTreeMap;

use crate::config::is_removed;
use crate::engine::Snapshot;
use crate::engine::forwarder::{Arrival, RoutedFlow, ServerLiveness, server_liveness, view_toward_destination};
use crate::engine::view::{MemberShare, MoveView, NewFlowsView, ObjectKind, SessionFate};
use crate::flow::{CanonicalKey, Direction, Endpoint, FlowKey};
use crate::id::{FirewallId, PathSetId};
use crate::path::pinning::{self, FailedFlow, NearDecision, PacketKind, Pin};
use crate::path::{FirewallGroup, OnFailure, PathSet, rendezvous};
use crate::session::{Placement, ProtocolClass, Session};
use crate::time::Instant;
use crate::wire::frame::protocol;

/// Number of flows in the sample of new flows.
const SAMPLE_FLOWS: u32 = 10_000;

/// What the reload does to a session with its next packet, as far as its firewall or its server is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SessionImpact {
    Stays,
    /// It moves to this firewall; with `None` the scheduler or the routes decide.
    Moves(Option<FirewallId>),
    Ends(SessionFate),
}

/// Key of the sums: sessions with the same firewall or server and the same impact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ImpactKey {
    kind: ObjectKind,
    from: String,
    to: Option<String>,
    fate: SessionFate,
}

/// Examines live sessions one by one and adds up what would happen to them.
#[derive(Debug)]
pub struct ReloadImpact<'a> {
    old: &'a Snapshot,
    new: &'a Snapshot,
    now: Instant,
    sessions: u64,
    moved: u64,
    moved_from_healthy: u64,
    impacts: BTreeMap<ImpactKey, u64>,
}

impl<'a> ReloadImpact<'a> {
    /// Compares `old` with `new` at the time `now`.
    pub fn new(old: &'a Snapshot, new: &'a Snapshot, now: Instant) -> Self {
        Self { old, new, now, sessions: 0, moved: 0, moved_from_healthy: 0, impacts: BTreeMap::new() }
    }

    /// Examines one session.
    pub fn examine(&mut self, key: &CanonicalKey, session: &Session, bound: Option<&Placement>) {
        self.sessions += 1;
        let pins = [(session.toward_low, Direction::HighToLow), (session.toward_high, Direction::LowToHigh)];
        let mut moves = false;
        for (pin, direction) in pins {
            let Some(pin) = pin else { continue };
            let flow = egress_flow(key, session, bound, direction);
            if pin_impact(&pin, flow, self.old, self.now) != SessionImpact::Stays {
                continue;
            }
            let fate = pin_impact(&pin, flow, self.new, self.now);
            if fate != SessionImpact::Stays {
                moves = true;
                self.moved_from_healthy += u64::from(is_up(&pin, self.new));
                self.note(ObjectKind::Firewall, firewall_name(self.old, pin.firewall), fate);
            }
        }
        if let Some(bound) = bound
            && server_impact(bound, key, session.class, self.old) == SessionImpact::Stays
        {
            let fate = server_impact(bound, key, session.class, self.new);
            if fate != SessionImpact::Stays {
                moves = true;
                self.note(ObjectKind::Server, server_name(self.old, bound), fate);
            }
        }
        self.moved += u64::from(moves);
    }

    /// Number of sessions that were examined.
    pub fn sessions(&self) -> u64 {
        self.sessions
    }

    /// Number of sessions that would not continue as they are.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// Number of sessions that would leave a firewall that is up and stays. Any number other than 0 is a defect.
    pub fn moved_from_healthy(&self) -> u64 {
        self.moved_from_healthy
    }

    /// The sessions that would move or end, in the order of what they leave.
    pub fn moves(&self) -> Vec<MoveView> {
        let moves = self.impacts.iter().map(|(way, sessions)| MoveView {
            kind: way.kind.into(),
            from: way.from.clone(),
            to: way.to.clone(),
            fate: way.fate.into(),
            sessions: *sessions,
        });
        moves.collect()
    }

    fn note(&mut self, kind: ObjectKind, from: String, impact: SessionImpact) {
        let (to, fate) = match impact {
            SessionImpact::Moves(to) => (to.map(|to| firewall_name(self.new, to)), SessionFate::Moves),
            SessionImpact::Ends(fate) => (None, fate),
            SessionImpact::Stays => return,
        };
        *self.impacts.entry(ImpactKey { kind, from, to, fate }).or_default() += 1;
    }
}

/// The flow of packets in `direction` as they leave the engine, after translation.
fn egress_flow(key: &CanonicalKey, session: &Session, bound: Option<&Placement>, direction: Direction) -> FlowKey {
    match bound.and_then(|bound| bound.inside) {
        Some(inside) if direction == session.original_direction => inside,
        Some(_) | None => key.in_direction(direction),
    }
}

fn pin_impact(pin: &Pin, flow: FlowKey, snapshot: &Snapshot, now: Instant) -> SessionImpact {
    if !snapshot.has_firewalls(pin.set) {
        return SessionImpact::Moves(None);
    }
    // A packet that needs no answer moves only a pin whose firewall failed, and not one that waits for an answer.
    let kind = PacketKind::AckOrReset;
    let routed = RoutedFlow::unchanged(flow, Arrival::Near, kind);
    let view = view_toward_destination(&routed, pin.set, snapshot);
    match pinning::decide_near(Some(*pin), kind, &view, now) {
        NearDecision::Send { pin: after, .. } if after.firewall == pin.firewall => SessionImpact::Stays,
        NearDecision::Send { pin: after, .. } => SessionImpact::Moves(Some(after.firewall)),
        NearDecision::NoPath => SessionImpact::Ends(SessionFate::WaitsForPath),
        NearDecision::Failed(FailedFlow::Reset) => SessionImpact::Ends(SessionFate::IsReset),
        NearDecision::Failed(FailedFlow::Drop) => SessionImpact::Ends(SessionFate::IsDropped),
    }
}

fn server_impact(bound: &Placement, key: &CanonicalKey, class: ProtocolClass, snapshot: &Snapshot) -> SessionImpact {
    match server_liveness(bound, key, class, snapshot) {
        ServerLiveness::Serves | ServerLiveness::Failed(OnFailure::Keep) => SessionImpact::Stays,
        ServerLiveness::Failed(OnFailure::Reselect) => SessionImpact::Moves(None),
        ServerLiveness::Failed(OnFailure::Reset) => SessionImpact::Ends(SessionFate::IsReset),
        ServerLiveness::Failed(OnFailure::Drop) => SessionImpact::Ends(SessionFate::IsDropped),
    }
}

fn is_up(pin: &Pin, snapshot: &Snapshot) -> bool {
    let set = &snapshot.path_sets[pin.set.index()];
    pin.is_up(&snapshot.groups[set.group.index()], set)
}

fn firewall_name(snapshot: &Snapshot, id: FirewallId) -> String {
    let firewall = &snapshot.firewalls[id.index()];
    format!("{}/{}", snapshot.groups[firewall.group.index()].name, firewall.name)
}

fn server_name(snapshot: &Snapshot, bound: &Placement) -> String {
    snapshot
        .services
        .server(bound.service, bound.server)
        .map_or_else(|| "unknown".to_owned(), |(service, server)| format!("{}/{}", service.name, server.name))
}

/// The effect on new flows, for each group. Firewalls that are starting count as up.
pub fn new_flows(old: &Snapshot, new: &Snapshot) -> Vec<NewFlowsView> {
    let groups = new.groups.iter().filter(|group| !is_removed(&group.name));
    groups.filter_map(|group| new_flows_of_group(group, old, new)).collect()
}

fn new_flows_of_group(group: &FirewallGroup, old: &Snapshot, new: &Snapshot) -> Option<NewFlowsView> {
    let before = old.groups.get(group.id.index()).filter(|before| before.name == group.name)?;
    let mut moved = 0u32;
    let mut shares: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for member in before.members.iter().chain(&group.members) {
        shares.entry(member.name.clone()).or_default();
    }
    let family = crate::wire::Family::V4;
    let set = |snapshot: &Snapshot, group: &FirewallGroup| -> Option<PathSetId> {
        let of_family = snapshot.all_peers_path_set(group.id, family)?;
        let has_paths = |set: &PathSet| set.up | set.starting != 0;
        Some(of_family)
            .filter(|set| has_paths(&snapshot.path_sets[set.index()]))
            .or_else(|| snapshot.all_peers_path_set(group.id, crate::wire::Family::V6))
    };
    let (was, is) = (set(old, before)?, set(new, group)?);
    for number in 0..SAMPLE_FLOWS {
        let flow = sample_flow(number);
        let from = hashed_firewall(before, &old.path_sets[was.index()], flow);
        let to = hashed_firewall(group, &new.path_sets[is.index()], flow);
        moved += u32::from(from != to);
        if let Some(name) = from {
            shares.entry(name.to_owned()).or_default().0 += 1;
        }
        if let Some(name) = to {
            shares.entry(name.to_owned()).or_default().1 += 1;
        }
    }
    let percent = |flows: u32| f64::from(flows) * 100.0 / f64::from(SAMPLE_FLOWS);
    let firewalls = shares.into_iter().map(|(name, (before, after))| MemberShare {
        name,
        before_percent: percent(before),
        after_percent: percent(after),
    });
    Some(NewFlowsView {
        group: group.name.clone(),
        moved_percent: percent(moved),
        sample: SAMPLE_FLOWS,
        firewalls: firewalls.collect(),
    })
}

fn hashed_firewall<'a>(group: &'a FirewallGroup, set: &PathSet, flow: FlowKey) -> Option<&'a str> {
    let hash = group.hasher.flow_hash(&flow);
    let slot = rendezvous::select(group, set.selectable | set.starting, hash)?;
    Some(&group.members[slot].name)
}

/// A flow of the sample: the same for the same number, with addresses and ports spread.
fn sample_flow(number: u32) -> FlowKey {
    let mixed = number.wrapping_mul(0x9e37_79b9).rotate_left(11) ^ number;
    let [a, b, c, d] = mixed.to_be_bytes();
    FlowKey {
        protocol: protocol::TCP,
        source: Endpoint { address: [198, 18, a, b].into(), port: u16::from_be_bytes([c, d]) | 1024 },
        destination: Endpoint { address: [203, 0, 113, 80].into(), port: 443 },
    }
}

#[cfg(test)]
mod tests;
