//! A scenario: a sandwich with its checkers, and functions that open flows and cause faults.

mod farm;

use std::net::IpAddr;

use crate::config::AdminState;
use crate::flow::{Endpoint, FlowKey};
use crate::id::DeviceId;
use crate::path::rendezvous;
use crate::sim::check::Checkers;
use crate::sim::firewall::FirewallLeg;
use crate::sim::host::{DISCARD_PORT, ECHO_PORT, Flow, FlowRef, FlowSpec, GENERATOR_PORT, Traffic};
use crate::sim::packet::{Packet, Tuple, protocol};
use crate::sim::rng::Rng;
use crate::sim::sandwich::{self, Nodes, SandwichPlan, build, firewall_name, host_address};
use crate::sim::side::Side;
use crate::sim::sim_engine::SimEngine;
use crate::sim::world::{Cable, World};
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

/// A sandwich under test.
#[derive(Debug)]
pub struct Scenario {
    /// The nodes and cables.
    pub world: World,
    /// The roles of the nodes.
    pub nodes: Nodes,
    /// The plan by which it was built.
    pub plan: SandwichPlan,
    /// The checkers.
    pub checkers: Checkers,
    flows: Vec<FlowRef>,
    next_port: u16,
    changed_macs: u8,
    next_bookkeeping: Instant,
    trace: Option<Vec<String>>,
    faults: Vec<String>,
}

/// The ends of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The opener's side.
    pub from: Side,
    /// Number of the opening host on its side.
    pub opener: usize,
    /// Number of the answering host on the other side.
    pub answerer: usize,
    /// IPv4 or IPv6.
    pub v4: bool,
}

impl Scenario {
    /// Interval of the checks of counters and tables.
    const BOOKKEEPING: Duration = Duration::from_millis(250);

    /// Builds the sandwich; the engines start at time zero.
    pub fn new(plan: SandwichPlan, seed: u64) -> Self {
        let (world, nodes) = build(&plan, &mut Rng::new(seed));
        let checks = Checkers::new(plan.clone(), nodes.clone());
        Self {
            world,
            nodes,
            plan,
            checkers: checks,
            flows: Vec::new(),
            next_port: 20_000,
            changed_macs: 0,
            next_bookkeeping: Instant::ZERO,
            trace: None,
            faults: Vec::new(),
        }
    }

    /// Records faults and changes from now on, for `--trace`.
    pub fn keep_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// The recorded faults and changes.
    pub fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or(&[])
    }

    /// The faults so far, with their times.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Runs for `duration` of virtual time.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.world.now() + duration);
    }

    /// Runs until the virtual time `until`.
    pub fn run_until(&mut self, until: Instant) {
        while self.world.step(until) {
            self.checkers.observe(&mut self.world);
            for change in self.checkers.take_changes() {
                self.add_to_trace(&change);
            }
            if self.world.now() >= self.next_bookkeeping {
                self.next_bookkeeping = self.world.now() + Self::BOOKKEEPING;
                self.checkers.bookkeeping(&self.world);
            }
        }
        self.checkers.observe(&mut self.world);
    }

    /// Opens a flow with a port that no other flow has.
    pub fn open(&mut self, spec: FlowSpec, route: Route) -> FlowRef {
        let port = self.free_port();
        self.open_as(spec, route, port)
    }

    fn free_port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    /// Opens a flow with this port (or ICMP identifier) of the opener.
    pub fn open_as(&mut self, spec: FlowSpec, route: Route, port: u16) -> FlowRef {
        self.open_tuple(spec, route.from, route.opener, tuple(spec.traffic, route, port))
    }

    /// Opens a flow that the opener's engine, by its present view, sends to firewall number `firewall` by hash.
    ///
    /// # Panics
    /// If no port leads there, because the firewall takes no new flows.
    pub fn open_on(&mut self, spec: FlowSpec, route: Route, firewall: usize) -> FlowRef {
        let ports = self.next_port + 1..self.next_port + 1000;
        let leads = |port: &u16| self.chosen_firewall(route.from, tuple(spec.traffic, route, *port)) == Some(firewall);
        let port = ports.into_iter().find(leads).expect("some port of a thousand leads to a live firewall");
        self.next_port = port;
        self.open_as(spec, route, port)
    }

    /// Opens a flow with these ends from a host of `side`.
    pub fn open_tuple(&mut self, spec: FlowSpec, side: Side, opener: usize, tuple: Tuple) -> FlowRef {
        let host = self.nodes.hosts[side as usize][opener];
        let upcoming = FlowRef { host: host.0, number: self.world.host(host).flows().len() };
        self.checkers.opened(upcoming, tuple, self.world.now());
        self.world.with_host(host, |host, now| host.open(spec, tuple, now));
        self.flows.push(upcoming);
        upcoming
    }

    /// The firewall to which the engine of `side` would send a new flow.
    pub fn chosen_firewall(&self, side: Side, tuple: Tuple) -> Option<usize> {
        let snapshot = self.engine(side).snapshot()?;
        let end = |(address, port): (IpAddr, u16)| Endpoint { address, port };
        let (source, destination) = (end(tuple.source), end(tuple.destination));
        let key = FlowKey { protocol: tuple.protocol, source, destination };
        let set = snapshot.path_sets.iter().find(|set| set.family == key.family())?;
        let group = &snapshot.groups[set.group.index()];
        let slot = rendezvous::select(group, set.up & set.selectable, group.hasher.flow_hash(&key))?;
        (0..self.plan.firewalls).find(|number| firewall_name(*number) == group.members[slot].name)
    }

    /// Makes a firewall send to the engine of `side` a packet that no host has sent recently, as if it had been delayed
    /// for long.
    pub fn inject_late(&mut self, firewall: usize, side: Side, packet: Packet) {
        let next_hop = sandwich::engine_address(&self.plan, side, firewall, packet.source.is_ipv4());
        self.world.with_firewall(self.nodes.firewalls[firewall], |firewall, now| {
            firewall.emit(side.leg(), packet, next_hop, now);
        });
    }

    /// Makes a host send a packet that its own stack does not know of.
    pub fn send_raw(&mut self, side: Side, host: usize, packet: Packet) {
        self.world.with_host(self.nodes.hosts[side as usize][host], |host, now| host.send_raw(packet, now));
    }

    /// A flow and its record.
    pub fn flow(&self, flow: FlowRef) -> &Flow {
        &self.world.host(crate::sim::world::NodeId(flow.host)).flows()[flow.number]
    }

    /// All flows, in the order in which they were opened.
    pub fn flows(&self) -> &[FlowRef] {
        &self.flows
    }

    /// The firewalls to which the engines sent a flow.
    pub fn firewalls_of(&self, flow: FlowRef) -> Vec<usize> {
        self.checkers.history(flow).map(|story| story.firewalls.iter().copied().collect()).unwrap_or_default()
    }

    /// An engine.
    pub fn engine(&self, side: Side) -> &SimEngine {
        self.world.engine(self.nodes.engine(side))
    }

    /// The sum of all firewalls' oracle counters.
    pub fn oracle(&self) -> u64 {
        self.nodes.firewalls.iter().map(|firewall| self.world.firewall(*firewall).oracle()).sum()
    }

    fn note(&mut self, what: String) {
        self.checkers.fault_begins();
        let line = self.line(&what);
        self.faults.push(line);
        self.add_to_trace(&what);
    }

    fn add_to_trace(&mut self, what: &str) {
        let line = self.line(what);
        if let Some(trace) = &mut self.trace {
            trace.push(line);
        }
    }

    fn line(&self, what: &str) -> String {
        format!("{:9.3} s  {what}", self.world.now().as_nanos() as f64 / 1e9)
    }

    /// Tells the checkers that all faults have ended.
    pub fn faults_ended(&mut self) {
        let now = self.world.now();
        self.checkers.faults_ended(now);
    }

    /// Takes a firewall's power away.
    pub fn crash_firewall(&mut self, number: usize) {
        self.note(format!("{} dies", firewall_name(number)));
        self.checkers.causes.begin(number, "is dead", self.world.now());
        self.world.with_firewall(self.nodes.firewalls[number], |firewall, _| firewall.crash());
    }

    /// Boots a firewall, with an empty table.
    pub fn boot_firewall(&mut self, number: usize) {
        self.note(format!("{} boots", firewall_name(number)));
        self.checkers.causes.end(number, "is dead", self.world.now());
        self.world.with_firewall(self.nodes.firewalls[number], |firewall, _| firewall.boot());
    }

    /// Cuts or restores the cable of one leg.
    pub fn cut_leg(&mut self, number: usize, leg: FirewallLeg, cut: bool) {
        self.note(format!("{} {leg:?} leg {}", firewall_name(number), if cut { "cut" } else { "plugged in" }));
        let port = self.world.port(self.nodes.firewalls[number], leg.index());
        (port.sending.cut, port.receiving.cut) = (cut, cut);
        self.disturb(number, "has a dead leg", cut);
    }

    /// Cuts or restores one direction of the cable of one leg.
    pub fn cut_one_way(&mut self, number: usize, leg: FirewallLeg, sending: bool, cut: bool) {
        let direction = if sending { "sending" } else { "receiving" };
        let state = if cut { "fails" } else { "works" };
        self.note(format!("{} {leg:?} leg {direction} {state}", firewall_name(number)));
        let port = self.world.port(self.nodes.firewalls[number], leg.index());
        let wire = if sending { &mut port.sending } else { &mut port.receiving };
        wire.cut = cut;
        self.disturb(number, "has a half-dead leg", cut);
    }

    /// Makes a firewall drop or pass probes that arrive on a leg.
    pub fn block_probes(&mut self, number: usize, leg: FirewallLeg, blocked: bool) {
        let state = if blocked { "blocks" } else { "passes" };
        self.note(format!("{} {state} probes from {leg:?}", firewall_name(number)));
        self.world.with_firewall(self.nodes.firewalls[number], |firewall, _| {
            firewall.probes_blocked[leg.index()] = blocked;
        });
        self.disturb(number, "blocks probes", blocked);
    }

    /// Makes a firewall delay every packet by `lag`.
    pub fn slow_firewall(&mut self, number: usize, lag: Duration) {
        self.note(format!("{} takes {} ms a packet", firewall_name(number), lag.as_millis()));
        self.world.with_firewall(self.nodes.firewalls[number], |firewall, _| firewall.extra_delay = lag);
        self.disturb(number, "is slow", !lag.is_zero());
    }

    /// Changes the MAC address of a firewall's leg.
    pub fn change_mac(&mut self, number: usize, leg: FirewallLeg) {
        self.changed_macs += 1;
        let mac = MacAddr([0x02, 0xee, 0, leg as u8, number as u8, self.changed_macs]);
        self.note(format!("{} {leg:?} leg is {mac}", firewall_name(number)));
        let now = self.world.now();
        self.checkers.mac_changed(number, mac, now);
        self.world.with_firewall(self.nodes.firewalls[number], |firewall, _| firewall.change_mac(leg, mac));
    }

    fn disturb(&mut self, number: usize, why: &str, begins: bool) {
        let now = self.world.now();
        if begins {
            self.checkers.causes.begin(number, why, now);
        } else {
            self.checkers.causes.end(number, why, now);
        }
    }

    /// Kills an engine.
    pub fn crash_engine(&mut self, side: Side) {
        self.note(format!("{} is killed", side.name()));
        let now = self.world.now();
        self.checkers.restarted(side, now);
        self.world.with_engine(self.nodes.engine(side), |engine, _| engine.crash());
    }

    /// Restarts an engine, with empty tables.
    pub fn start_engine(&mut self, side: Side) {
        self.note(format!("{} starts", side.name()));
        self.world.with_engine(self.nodes.engine(side), SimEngine::start);
    }

    /// Stops an engine for a while.
    pub fn pause_engine(&mut self, side: Side, duration: Duration) {
        self.note(format!("{} stands still for {} ms", side.name(), duration.as_millis()));
        self.world.with_engine(self.nodes.engine(side), |engine, now| engine.pause(now + duration));
    }

    /// Stops an engine's packet workers for a while.
    pub fn stall_workers(&mut self, side: Side, duration: Duration) {
        self.note(format!("{}: the workers stand still for {} ms", side.name(), duration.as_millis()));
        self.world.with_engine(self.nodes.engine(side), |engine, now| engine.stall_workers(now + duration));
    }

    /// Makes an engine's queue to the controller refuse everything for a while.
    pub fn refuse_punts(&mut self, side: Side, duration: Duration) {
        self.note(format!("{}: punts are refused for {} ms", side.name(), duration.as_millis()));
        self.world.with_engine(self.nodes.engine(side), |engine, now| engine.refuse_punts(now + duration));
    }

    /// Lets probes bypass the workers of both engines, as with packet sockets.
    pub fn set_probe_bypass(&mut self) {
        for side in Side::BOTH {
            self.world.with_engine(self.nodes.engine(side), |engine, _| engine.set_probe_bypass());
        }
    }

    /// Changes the carrier of an engine's link.
    pub fn set_carrier(&mut self, side: Side, link: usize, up: bool) {
        self.note(format!("{} link {link} {}", side.name(), if up { "up" } else { "down" }));
        let node = self.nodes.engine(side);
        let port = self.world.port(node, link);
        (port.sending.cut, port.receiving.cut) = (!up, !up);
        let device = DeviceId::from(sandwich::device_of(&self.plan, link));
        self.world.with_engine(node, |engine, now| engine.set_carrier(device, up, now));
    }

    /// Does `fwlb set firewall`.
    pub fn set_admin(&mut self, side: Side, number: usize, admin: Option<AdminState>) {
        self.note(format!("{}: set firewall {} {admin:?}", side.name(), firewall_name(number)));
        let name = firewall_name(number);
        self.disturb(number, "is administered", !matches!(admin, None | Some(AdminState::Ready)));
        self.world.with_engine(self.nodes.engine(side), |engine, now| engine.set_admin(&name, admin, now));
    }

    /// Changes every cable; cut ones stay cut.
    pub fn set_cables(&mut self, wire: Cable) {
        self.note(format!(
            "wires: loss {} duplicate {} reorder {} flip {} per thousand",
            wire.loss, wire.duplicate, wire.reorder, wire.flip
        ));
        self.checkers.damaging |= wire.flip > 0;
        self.world.set_cables(|own| *own = Cable { cut: own.cut, ..wire });
    }
}

/// The tuple of a flow with this traffic on this route.
pub fn tuple(traffic: Traffic, route: Route, port: u16) -> Tuple {
    let source = host_address(route.from, route.opener, route.v4);
    let destination = host_address(route.from.other(), route.answerer, route.v4);
    let icmp = if route.v4 { protocol::ICMP } else { protocol::ICMPV6 };
    let (number, ports) = match traffic {
        Traffic::TcpEcho => (protocol::TCP, (port, ECHO_PORT)),
        Traffic::TcpPush => (protocol::TCP, (port, GENERATOR_PORT)),
        Traffic::UdpEcho => (protocol::UDP, (port, ECHO_PORT)),
        Traffic::UdpOneWay => (protocol::UDP, (port, DISCARD_PORT)),
        Traffic::Ping => (icmp, (port, port)),
        Traffic::Gre => (protocol::GRE, (0, 0)),
    };
    Tuple { protocol: number, source: (source, ports.0), destination: (destination, ports.1) }
}
