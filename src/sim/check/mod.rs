//! The checkers, which are independent of the nodes and see only what happens on the cables.
//!
//! Safety, at all times: symmetry and persistence (a flow has one firewall unless it was disturbed by a legal cause),
//! transparency, no frame where it does not belong, conservation of counters, bounded tables, no false alarms.
//! Liveness, after the last fault: [`Checkers::liveness`].

mod farm;
mod firewalls;
pub mod frame;
pub mod history;
pub mod services;

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::{DropReason, Verdict};
use crate::id::LinkId;
use crate::sim::check::history::{FlowEvent, FlowHistory, HistoryEntry, LegalCauses, Restart};
use crate::sim::check::services::ServiceChecks;
use crate::sim::firewall::{FirewallLeg, SimFirewallKind};
use crate::sim::host::{End, FlowRef, FlowState};
use crate::sim::packet::{Datagram, Packet, Tuple, split_ethernet};
use crate::sim::sandwich::{Nodes, SandwichPlan, firewall_mac, firewall_name};
use crate::sim::side::Side;
use crate::sim::sim_engine::{CableFrame, HandledFrame};
use crate::sim::world::{NodeId, Observation, World};
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// When it was broken, in milliseconds of virtual time.
    pub at_ms: u64,
    /// Name of the promise.
    pub promise: &'static str,
    /// What was observed.
    pub what: String,
    /// The last entries of the flow's history.
    pub trace: Vec<String>,
}

/// The checkers of one simulation.
#[derive(Debug)]
pub struct Checkers {
    plan: SandwichPlan,
    nodes: Nodes,
    histories: Vec<FlowHistory>,
    by_tuple: BTreeMap<Tuple, usize>,
    datagrams: BTreeMap<Datagram, usize>,
    /// Datagrams that lost a later fragment before their first fragment was seen.
    incomplete_datagrams: BTreeSet<Datagram>,
    /// The legal causes so far.
    pub causes: LegalCauses,
    macs: BTreeMap<MacAddr, usize>,
    mac_changed: Option<Instant>,
    /// Whether cables flip bits: then packets that a firewall calls damaged, and frames for unknown stations, are the
    /// cables' fault.
    pub damaging: bool,
    /// When the last fault ended; `None` from a fault until [`Checkers::faults_ended`].
    undisturbed_since: Option<Instant>,
    views: [BTreeMap<(usize, bool), bool>; 2],
    epochs: [u64; 2],
    violations: Vec<Violation>,
    changes: Vec<String>,
    reported: BTreeSet<(usize, &'static str)>,
    /// Packets that firewalls dropped although they count as oracle drops, by legal cause.
    pub legal_drops: BTreeMap<String, u64>,
    /// The checkers of each engine's services.
    pub services: [ServiceChecks; 2],
    /// Whether each server is up, and how often it went down, by engine, service, server and address family.
    server_views: BTreeMap<(Side, usize, usize, usize), (bool, u32)>,
}

impl Checkers {
    const VIOLATIONS_MAX: usize = 20;
    const DATAGRAMS_MAX: usize = 10_000;
    /// `timeouts.tcp-closing` of the simulated engines, during which freed ports are not used again.
    const PORT_REUSE_TIME: Duration = Duration::from_secs(2);

    /// The checkers of a sandwich.
    pub fn new(plan: SandwichPlan, nodes: Nodes) -> Self {
        let macs = (0..plan.firewalls)
            .flat_map(|number| {
                [FirewallLeg::Outside, FirewallLeg::Inside].map(|leg| (firewall_mac(number, leg), number))
            })
            .collect();
        let services = Side::BOTH.map(|side| ServiceChecks::new(&plan, side, Self::PORT_REUSE_TIME));
        Self {
            services,
            server_views: BTreeMap::new(),
            plan,
            nodes,
            histories: Vec::new(),
            by_tuple: BTreeMap::new(),
            datagrams: BTreeMap::new(),
            incomplete_datagrams: BTreeSet::new(),
            causes: LegalCauses::default(),
            macs,
            mac_changed: None,
            damaging: false,
            undisturbed_since: Some(Instant::ZERO),
            views: [BTreeMap::new(), BTreeMap::new()],
            epochs: [0; 2],
            violations: Vec::new(),
            changes: Vec::new(),
            reported: BTreeSet::new(),
            legal_drops: BTreeMap::new(),
        }
    }

    /// Notes that a fault begins.
    pub fn fault_begins(&mut self) {
        self.undisturbed_since = None;
    }

    /// Notes that the last fault has ended: if a firewall is declared down some seconds later, that is a false alarm.
    pub fn faults_ended(&mut self, now: Instant) {
        self.undisturbed_since = Some(now);
    }

    /// Notes that a flow is opened.
    pub fn opened(&mut self, flow: FlowRef, tuple: Tuple, now: Instant) {
        self.by_tuple.insert(tuple.canonical(), self.histories.len());
        self.histories.push(FlowHistory::new(flow, tuple, now));
    }

    /// Notes that the flow is opened to a service.
    pub fn opened_to_service(&mut self, flow: FlowRef, service: usize) {
        if let Some(story) = self.histories.iter_mut().find(|story| story.flow == flow) {
            story.service = Some(service);
        }
    }

    /// Notes that a firewall has another MAC address.
    pub fn mac_changed(&mut self, firewall: usize, mac: MacAddr, now: Instant) {
        self.macs.insert(mac, firewall);
        self.mac_changed = Some(now);
    }

    /// Notes that an engine was killed.
    pub fn restarted(&mut self, side: Side, at: Instant) {
        self.causes.restarts.push(Restart { side, at });
        self.services[side as usize].restarted();
        self.epochs[side as usize] = 0;
    }

    /// All violations.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// State changes that the engines reported since the last call.
    pub fn take_changes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.changes)
    }

    /// The histories of all flows.
    pub fn histories(&self) -> &[FlowHistory] {
        &self.histories
    }

    /// The history of a flow.
    pub fn history(&self, flow: FlowRef) -> Option<&FlowHistory> {
        self.histories.iter().find(|story| story.flow == flow)
    }

    /// Checks what happened since the last call.
    pub fn observe(&mut self, world: &mut World) {
        let observations = world.take_observations();
        let (mut tunnels, mut losses) = (Vec::new(), Vec::new());
        self.service_resets(world, &observations);
        for observation in observations {
            match observation {
                Observation::Judged { node, sighting } => self.check_firewall_packet(node, sighting),
                Observation::Handled { node, handled } => {
                    if !self.service_frame(world, node, &handled)
                        && let Some(wrong) = frame::transparent(&handled)
                    {
                        self.violate(world.now(), "transparency", format!("{}: {wrong}", self.engine_name(node)), None);
                    }
                    self.dropped(world.now(), node, &handled);
                }
                Observation::Sent { node, link, frame } => {
                    self.sent(world, node, link, &frame);
                    tunnels.push((self.nodes.side(node), frame));
                }
                Observation::Changed { node, event } => {
                    let name = self.engine_name(node);
                    let (from, to) = (event.from.as_deref().unwrap_or("-"), event.to.as_deref().unwrap_or("-"));
                    let why = event.reason.as_deref().unwrap_or("-");
                    self.changes.push(format!("{name}: {} {} {from} -> {to} ({why})", event.kind, event.subject));
                }
                Observation::Impaired { tuple, datagram, lost } => {
                    if lost {
                        losses.push((tuple, datagram));
                    }
                }
                Observation::UnknownDestination { node, destination } => {
                    let engine = self.nodes.engines.contains(&node);
                    let moving = self.mac_changed.is_some();
                    if engine && !moving && !self.damaging {
                        let what = format!("{}: a frame to {destination}, which nobody has", self.engine_name(node));
                        self.violate(world.now(), "no frame leaks", what, None);
                    }
                }
            }
        }
        // Checked last, because by now the names that translations gave these flows are known.
        for (tuple, datagram) in losses {
            self.lost(world.now(), tuple, datagram);
        }
        // Checked last, because by now the servers of these sessions are known.
        for (side, frame) in tunnels {
            let Some((destination, _, _, payload)) = split_ethernet(&frame.bytes) else { continue };
            let Some(outer) = Packet::parse(payload) else { continue };
            if let Some(inside) = outer.inside() {
                self.check_tunneled(world.now(), side, destination, &outer, &inside);
            }
        }
        for side in Side::BOTH {
            self.check_firewall_states(world, side);
        }
        self.report_findings(world.now());
    }

    /// Checks counters, tables and bounds of both engines.
    pub fn bookkeeping(&mut self, world: &World) {
        for side in Side::BOTH {
            let engine = world.engine(self.nodes.engine(side));
            if !engine.is_alive() {
                continue;
            }
            let counters = engine.counters();
            if !counters.is_conserved() || counters.received != engine.frames_received() {
                let what = format!(
                    "{}: taken {} received {} = forwarded {} + hairpinned {} + punted {} + dropped {}",
                    side.name(),
                    engine.frames_received(),
                    counters.received,
                    counters.forwarded,
                    counters.hairpinned,
                    counters.punted,
                    counters.dropped()
                );
                self.violate(world.now(), "conservation", what, None);
            }
            let (live, capacity) = engine.sessions();
            let ended = counters.copies_ended
                + counters.sessions_expired
                + counters.sessions_evicted
                + counters.sessions_failed
                + counters.sessions_killed;
            if live > capacity || counters.sessions_created + counters.copies_opened != live as u64 + ended {
                let what = format!(
                    "{}: {live} sessions of {capacity}; created {} - expired {} - evicted {} - failed {} - killed {}",
                    side.name(),
                    counters.sessions_created,
                    counters.sessions_expired,
                    counters.sessions_evicted,
                    counters.sessions_failed,
                    counters.sessions_killed
                );
                self.violate(world.now(), "bounded tables", what, None);
            }
            if engine.neighbors(world.now()) > engine.config().limits.neighbors {
                self.violate(world.now(), "bounded tables", format!("{}: too many neighbours", side.name()), None);
            }
            self.services[side as usize].bookkeeping(engine, world.now());
            for problem in engine.problems.clone() {
                self.violate(world.now(), "contract", problem, None);
            }
        }
    }

    /// Checks liveness for the flows `fresh`, which were opened after the last fault and the time to settle: each must
    /// have been served, by one firewall and without a drop. Flows that were never disturbed must have worked
    /// throughout.
    pub fn liveness(&mut self, world: &World, fresh: &[FlowRef]) {
        for (number, story) in self.histories.clone().iter().enumerate() {
            let flow = &world.host(NodeId(story.flow.host)).flows()[story.flow.number];
            let excuse = self.causes.legal_cause(story, &self.plan);
            let is_fresh = fresh.contains(&story.flow);
            let what = format!("{:?} {} {:?}, answered {}", flow.spec.traffic, story.tuple, flow.state, flow.answered);
            let broken = matches!(flow.state, FlowState::Over(End::Reset | End::TimedOut));
            if is_fresh && !story.refused && (!flow.served() || broken) {
                self.violate(world.now(), "liveness", format!("a new flow is not served: {what}"), Some(number));
            } else if is_fresh && story.moves() > 0 && (excuse.is_none() || !self.plan.is_tiny()) {
                self.violate(world.now(), "persistence", format!("a new flow moved: {what}"), Some(number));
            } else if !is_fresh && excuse.is_none() && !story.entries.is_empty() && !story.lost && !flow.served() {
                self.violate(
                    world.now(),
                    "liveness",
                    format!("an untouched flow was never served: {what}"),
                    Some(number),
                );
            }
        }
    }

    /// Checks that no flow changes its firewall for ever.
    pub fn moves(&mut self, now: Instant) {
        let faults = self.causes.disturbances.len() + self.causes.restarts.len();
        let bound = 4 * self.plan.firewalls as u32 + 6 + 2 * faults as u32;
        for number in 0..self.histories.len() {
            let moves = self.histories[number].moves();
            if moves > bound {
                let what = format!("{} moved {moves} times", self.histories[number].tuple);
                self.violate(now, "no endless moves", what, Some(number));
            }
        }
    }

    /// Records a violation, with the history of a flow.
    pub fn violate(&mut self, at: Instant, promise: &'static str, what: String, story: Option<usize>) {
        let once = story.is_none_or(|number| self.reported.insert((number, promise)));
        if once && self.violations.len() < Self::VIOLATIONS_MAX {
            let trace = story.map(|number| self.histories[number].lines()).unwrap_or_default();
            self.violations.push(Violation { at_ms: at.as_millis(), promise, what, trace });
        }
    }

    fn engine_name(&self, node: NodeId) -> &'static str {
        self.nodes.side(node).name()
    }

    pub(super) fn find(&self, tuple: Tuple) -> Option<usize> {
        self.by_tuple.get(&tuple.canonical()).copied()
    }

    /// The flow of a packet. A later fragment belongs to the flow of the first, which an engine never sends after it.
    fn find_fragment(&mut self, now: Instant, packet: &Packet) -> Option<usize> {
        let (Some(piece), Some(datagram)) = (packet.fragment, packet.datagram()) else {
            return self.find(packet.tuple());
        };
        if piece.offset > 0 {
            return self.datagrams.get(&datagram).copied();
        }
        let tuple = packet.inside().map_or_else(|| packet.tuple(), |inside| inside.tuple());
        let number = self.find(tuple)?;
        if self.datagrams.len() >= Self::DATAGRAMS_MAX {
            self.datagrams.clear();
        }
        self.datagrams.insert(datagram, number);
        if self.incomplete_datagrams.remove(&datagram) {
            self.histories[number].record(HistoryEntry { at: now, flags: None, what: FlowEvent::Lost });
        }
        Some(number)
    }

    /// Notes that a cable lost or damaged a packet. If that is a fragment whose first fragment was not yet seen, it is
    /// charged to the flow of that datagram later.
    fn lost(&mut self, now: Instant, tuple: Tuple, datagram: Option<Datagram>) {
        let number = match datagram {
            None => self.find(tuple),
            Some(datagram) => {
                let number = self.datagrams.get(&datagram).copied();
                if number.is_none() {
                    if self.incomplete_datagrams.len() >= Self::DATAGRAMS_MAX {
                        self.incomplete_datagrams.clear();
                    }
                    self.incomplete_datagrams.insert(datagram);
                }
                number
            }
        };
        if let Some(number) = number {
            self.histories[number].record(HistoryEntry { at: now, flags: None, what: FlowEvent::Lost });
        }
    }

    /// Notes a drop in the flow's history; the reasons are counted by the engine.
    fn dropped(&mut self, at: Instant, node: NodeId, handled: &HandledFrame) {
        let packet = split_ethernet(&handled.before.bytes).and_then(|(.., payload)| Packet::parse(payload));
        let Some(number) = packet.and_then(|packet| self.find_fragment(at, &packet)) else { return };
        let Verdict::Dropped(reason) = handled.verdict else { return };
        let what = FlowEvent::Dropped(self.nodes.side(node), reason);
        self.histories[number].record(HistoryEntry { at, flags: None, what });
        self.histories[number].refused |=
            matches!(reason, DropReason::SnatExhausted | DropReason::SourceShare | DropReason::SessionTableFull);
        if self.undisturbed_since.is_none() {
            self.histories[number].lost = true;
        }
    }

    fn sent(&mut self, world: &World, node: NodeId, link: LinkId, frame: &CableFrame) {
        let side = self.nodes.side(node);
        let now = world.now();
        if let Some(wrong) = frame::legal(&frame.bytes, world.engine(node).mac(link)) {
            self.violate(now, "no frame leaks", format!("{}: {wrong}", side.name()), None);
        }
        let Some((destination, _, _, payload)) = split_ethernet(&frame.bytes) else { return };
        let Some(packet) = Packet::parse(payload) else { return };
        let Some(number) = self.find_fragment(now, &packet) else { return };
        let firewalls = 1..=if self.plan.kind == SimFirewallKind::Transparent { self.plan.firewalls } else { 1 };
        let flags = packet.tcp_flags();
        if link.index() == 0 {
            self.histories[number].record(HistoryEntry { at: now, flags, what: FlowEvent::ToHost(side) });
        } else if firewalls.contains(&link.index()) {
            let firewall = match self.plan.kind {
                SimFirewallKind::Transparent => Some(link.index() - 1),
                SimFirewallKind::Strict | SimFirewallKind::Loose | SimFirewallKind::Synced | SimFirewallKind::Nat => {
                    self.macs.get(&destination).copied()
                }
            };
            let Some(firewall) = firewall else {
                let what = format!("{}: {} sent to {destination}, no firewall", side.name(), packet.tuple());
                self.violate(now, "no frame leaks", what, Some(number));
                return;
            };
            let new = self.histories[number].record(HistoryEntry {
                at: now,
                flags,
                what: FlowEvent::ToFirewall(side, firewall),
            });
            let story = &self.histories[number];
            if new && story.firewalls.len() > 1 && self.causes.legal_cause(story, &self.plan).is_none() {
                let what = format!("{} took {} too", story.tuple, firewall_name(firewall));
                self.violate(now, "persistence", what, Some(number));
            }
        } else if self.plan.below_min == crate::config::BelowMin::Drop && self.plan.firewalls > 0 {
            self.violate(now, "no frame leaks", format!("{}: {} went round", side.name(), packet.tuple()), None);
        }
    }
}
