//! Virtual time, cables and switches: one queue of events in a total order drives everything.

mod cable;
mod device;
mod observation;
mod switch;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::id::LinkId;
use crate::sim::firewall::{Firewall, FirewallLeg};
use crate::sim::host::Host;
use crate::sim::packet::{ETHERTYPE_ARP, Packet, split_ethernet};
use crate::sim::rng::Rng;
use crate::sim::sim_engine::{CableFrame, SimEngine};
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

pub use cable::Cable;
pub use observation::Observation;

use device::{segmented, with_partial_checksum, with_segmentation};

pub(super) use device::completed;

/// A node of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// A port of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub usize);

/// Kinds of nodes.
#[derive(Debug)]
pub enum Node {
    /// An engine.
    Engine(Box<SimEngine>),
    /// A model firewall.
    Firewall(Box<Firewall>),
    /// A client or server.
    Host(Box<Host>),
}

/// A port: connects a node's leg by a cable with a switch.
#[derive(Debug)]
pub struct Port {
    /// The node.
    pub node: NodeId,
    /// Index of the node's leg: an engine's link, a firewall's leg.
    pub leg: usize,
    segment: usize,
    /// The cable from the node to the switch.
    pub sending: Cable,
    /// The cable from the switch to the node.
    pub receiving: Cable,
    /// When the last frame arrives in each direction, so that order is kept.
    last: [Instant; 2],
}

/// A learning switch.
#[derive(Debug, Default)]
struct Segment {
    ports: Vec<PortId>,
    learned: BTreeMap<MacAddr, PortId>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Scheduled {
    at: Instant,
    order: u64,
    what: EventKind,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EventKind {
    Forward(PortId, u64),
    Arrive(PortId, u64),
    Wake(NodeId),
}

/// The simulated world.
#[derive(Debug)]
pub struct World {
    now: Instant,
    order: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    frames: BTreeMap<u64, CableFrame>,
    nodes: Vec<Node>,
    wakes: Vec<Option<Instant>>,
    ports: Vec<Port>,
    segments: Vec<Segment>,
    by_leg: BTreeMap<(NodeId, usize), PortId>,
    rng: Rng,
    /// Whether frames between nodes carry partial checksums, as between virtual devices.
    pub partial_checksums: bool,
    observations: Vec<Observation>,
    digest: u64,
    events: u64,
}

impl World {
    /// An empty world.
    pub fn new(rng: Rng) -> Self {
        Self {
            now: Instant::ZERO,
            order: 0,
            queue: BinaryHeap::new(),
            frames: BTreeMap::new(),
            nodes: Vec::new(),
            wakes: Vec::new(),
            ports: Vec::new(),
            segments: Vec::new(),
            by_leg: BTreeMap::new(),
            rng,
            partial_checksums: false,
            observations: Vec::new(),
            digest: 0xcbf2_9ce4_8422_2325,
            events: 0,
        }
    }

    /// The present virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A digest of everything that happened; equal runs have equal digests.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Number of events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The number of the next node.
    pub fn next_node(&self) -> usize {
        self.nodes.len()
    }

    /// Adds a node.
    pub fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.wakes.push(None);
        NodeId(self.nodes.len() - 1)
    }

    /// Adds a switch.
    pub fn add_segment(&mut self) -> usize {
        self.segments.push(Segment::default());
        self.segments.len() - 1
    }

    /// Connects a leg of a node with a switch.
    pub fn plug(&mut self, node: NodeId, leg: usize, segment: usize) -> PortId {
        let port = PortId(self.ports.len());
        let (sending, receiving) = (Cable::GOOD, Cable::GOOD);
        self.ports.push(Port { node, leg, segment, sending, receiving, last: [Instant::ZERO; 2] });
        self.segments[segment].ports.push(port);
        self.by_leg.insert((node, leg), port);
        port
    }

    /// The port of a node's leg.
    pub fn port(&mut self, node: NodeId, leg: usize) -> &mut Port {
        &mut self.ports[self.by_leg[&(node, leg)].0]
    }

    /// All ports.
    pub fn ports_mut(&mut self) -> &mut [Port] {
        &mut self.ports
    }

    /// Changes both directions of every cable.
    pub fn set_cables(&mut self, change: impl Fn(&mut Cable)) {
        for port in &mut self.ports {
            change(&mut port.sending);
            change(&mut port.receiving);
        }
    }

    /// An engine.
    pub fn engine(&self, node: NodeId) -> &SimEngine {
        match &self.nodes[node.0] {
            Node::Engine(engine) => engine,
            Node::Firewall(_) | Node::Host(_) => panic!("{node:?} is not an engine"),
        }
    }

    /// A firewall.
    pub fn firewall(&self, node: NodeId) -> &Firewall {
        match &self.nodes[node.0] {
            Node::Firewall(firewall) => firewall,
            Node::Engine(_) | Node::Host(_) => panic!("{node:?} is not a firewall"),
        }
    }

    /// A host.
    pub fn host(&self, node: NodeId) -> &Host {
        match &self.nodes[node.0] {
            Node::Host(host) => host,
            Node::Engine(_) | Node::Firewall(_) => panic!("{node:?} is not a host"),
        }
    }

    /// Calls `f` with an engine and carries out what follows.
    pub fn with_engine<R>(&mut self, node: NodeId, f: impl FnOnce(&mut SimEngine, Instant) -> R) -> R {
        let Node::Engine(engine) = &mut self.nodes[node.0] else { panic!("{node:?} is not an engine") };
        let result = f(engine, self.now);
        self.poll_node(node);
        result
    }

    /// Calls `f` with a firewall and carries out what follows.
    pub fn with_firewall<R>(&mut self, node: NodeId, f: impl FnOnce(&mut Firewall, Instant) -> R) -> R {
        let Node::Firewall(firewall) = &mut self.nodes[node.0] else { panic!("{node:?} is not a firewall") };
        let result = f(firewall, self.now);
        self.poll_node(node);
        result
    }

    /// Calls `f` with a host and carries out what follows.
    pub fn with_host<R>(&mut self, node: NodeId, f: impl FnOnce(&mut Host, Instant) -> R) -> R {
        let Node::Host(host) = &mut self.nodes[node.0] else { panic!("{node:?} is not a host") };
        let result = f(host, self.now);
        self.poll_node(node);
        result
    }

    /// Handles the next event if it is due by `until`; otherwise advances the time to `until` and returns false.
    pub fn step(&mut self, until: Instant) -> bool {
        match self.queue.peek() {
            Some(Reverse(next)) if next.at <= until => {}
            Some(_) | None => {
                self.now = until;
                return false;
            }
        }
        let Some(Reverse(next)) = self.queue.pop() else { return false };
        self.now = next.at;
        self.events += 1;
        match next.what {
            EventKind::Forward(port, frame) => {
                let frame = self.frames.remove(&frame).expect("scheduled with its frame");
                self.switch(port, &frame);
            }
            EventKind::Arrive(port, frame) => {
                let frame = self.frames.remove(&frame).expect("scheduled with its frame");
                self.arrive(port, frame);
            }
            EventKind::Wake(node) => {
                if self.wakes[node.0] == Some(next.at) {
                    self.wakes[node.0] = None;
                    let now = self.now;
                    match &mut self.nodes[node.0] {
                        Node::Engine(engine) => engine.handle_timeout(now),
                        Node::Firewall(firewall) => firewall.handle_timeout(now),
                        Node::Host(host) => host.handle_timeout(now),
                    }
                    self.poll_node(node);
                }
            }
        }
        true
    }

    /// Observations since the last call.
    pub fn take_observations(&mut self) -> Vec<Observation> {
        std::mem::take(&mut self.observations)
    }

    fn schedule(&mut self, at: Instant, what: EventKind) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at: at.max(self.now), order: self.order, what }));
    }

    /// Sends what a node has to send, and schedules its next call.
    fn poll_node(&mut self, node: NodeId) {
        loop {
            let (leg, frame) = match &mut self.nodes[node.0] {
                Node::Engine(engine) => match engine.poll_transmit() {
                    Some((link, frame)) => {
                        self.observations.push(Observation::Sent { node, link, frame: frame.clone() });
                        (link.index(), frame)
                    }
                    None => break,
                },
                Node::Firewall(firewall) => match firewall.poll_transmit() {
                    Some((leg, bytes)) => (leg.index(), CableFrame::new(bytes)),
                    None => break,
                },
                Node::Host(host) => match host.interface.poll_transmit() {
                    Some(bytes) => (0, CableFrame::new(bytes)),
                    None => break,
                },
            };
            let frame = match &self.nodes[node.0] {
                Node::Host(_) => with_segmentation(frame),
                Node::Engine(_) | Node::Firewall(_) => frame,
            };
            let frame = if self.partial_checksums { with_partial_checksum(frame) } else { frame };
            self.send(self.by_leg[&(node, leg)], frame);
        }
        self.observe(node);
        let now = self.now;
        let wanted = match &mut self.nodes[node.0] {
            Node::Engine(engine) => engine.poll_timeout(),
            Node::Firewall(firewall) => firewall.poll_timeout(),
            Node::Host(host) => host.poll_timeout(now),
        };
        // A node that is due at once is called a moment later, so that time advances.
        let wanted = wanted.map(|at| at.max(now + Duration::from_micros(1)));
        if let Some(at) = wanted
            && self.wakes[node.0].is_none_or(|planned| planned != at)
        {
            self.wakes[node.0] = Some(at);
            self.schedule(at, EventKind::Wake(node));
        }
        if wanted.is_none() {
            self.wakes[node.0] = None;
        }
    }

    fn observe(&mut self, node: NodeId) {
        match &mut self.nodes[node.0] {
            Node::Engine(engine) => {
                for handled in engine.take_handled() {
                    self.observations.push(Observation::Handled { node, handled: Box::new(handled) });
                }
                for event in engine.take_events() {
                    self.observations.push(Observation::Changed { node, event: Box::new(event) });
                }
            }
            Node::Firewall(firewall) => {
                for sighting in firewall.take_judged_packets() {
                    self.observations.push(Observation::Judged { node, sighting });
                }
            }
            Node::Host(_) => {}
        }
    }

    fn send(&mut self, port: PortId, frame: CableFrame) {
        let wire = self.ports[port.0].sending;
        self.send_over_cable(port, wire, 0, frame);
    }

    /// Sends a frame over one direction of a cable.
    fn send_over_cable(&mut self, port: PortId, wire: Cable, direction: usize, mut frame: CableFrame) {
        if wire.cut || self.rng.chance(wire.loss) {
            self.impaired(&frame, true);
            return;
        }
        if self.rng.chance(wire.flip) && !is_arp(&frame.bytes) {
            self.impaired(&frame, true);
            frame = completed(frame);
            let bit = self.rng.index(frame.bytes.len() * 8);
            frame.bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let copies = if self.rng.chance(wire.duplicate) { 2 } else { 1 };
        for copy in 0..copies {
            let mut at = self.now + wire.delay;
            if self.rng.chance(wire.reorder) {
                at += self.rng.duration(Cable::LATE_MAX);
                self.impaired(&frame, false);
            } else {
                let last = &mut self.ports[port.0].last[direction];
                at = at.max(*last);
                *last = at;
            }
            if copy > 0 {
                self.impaired(&frame, false);
            }
            let number = self.order + 1;
            self.frames.insert(number, frame.clone());
            self.schedule(
                at,
                if direction == 0 { EventKind::Forward(port, number) } else { EventKind::Arrive(port, number) },
            );
        }
    }

    fn impaired(&mut self, frame: &CableFrame, lost: bool) {
        let packet = split_ethernet(&frame.bytes).and_then(|(.., payload)| Packet::parse(payload));
        if let Some(packet) = packet {
            let packet = packet.inside().unwrap_or(packet);
            let datagram = packet.fragment.filter(|piece| piece.offset > 0).and(packet.datagram());
            self.observations.push(Observation::Impaired { tuple: packet.tuple(), datagram, lost });
        }
    }

    fn arrive(&mut self, port: PortId, frame: CableFrame) {
        let (node, leg) = (self.ports[port.0].node, self.ports[port.0].leg);
        self.update_digest(port, &frame);
        let now = self.now;
        if let Node::Engine(engine) = &self.nodes[node.0]
            && !engine.can_receive(now)
        {
            self.impaired(&frame, true);
        }
        match &mut self.nodes[node.0] {
            Node::Engine(engine) => engine.receive(LinkId::from(leg), frame, now),
            Node::Firewall(firewall) => {
                for frame in segmented(frame) {
                    firewall.receive(leg_of(leg), &completed(frame).bytes, now);
                }
            }
            Node::Host(host) => {
                for frame in segmented(frame) {
                    host.receive(&completed(frame).bytes, now);
                }
            }
        }
        self.report_arrivals(node);
        self.poll_node(node);
    }

    /// Tells the openers of one-way flows which datagrams arrived.
    fn report_arrivals(&mut self, node: NodeId) {
        let Node::Host(host) = &mut self.nodes[node.0] else { return };
        for flow in host.take_arrived() {
            if let Some(Node::Host(opener)) = self.nodes.get_mut(flow.host) {
                opener.note_arrival(flow.number, self.now);
            }
        }
    }

    /// Mixes time, port and bytes into the digest, eight bytes at a time in a plain loop, because tests run
    /// unoptimised.
    fn update_digest(&mut self, port: PortId, frame: &CableFrame) {
        let mut digest = mixed(mixed(self.digest, self.now.as_nanos()), (port.0 + (frame.bytes.len() << 16)) as u64);
        let (words, tail) = frame.bytes.as_chunks::<8>();
        let mut at = 0;
        while at < words.len() {
            digest = mixed(digest, u64::from_le_bytes(words[at]));
            at += 1;
        }
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        self.digest = mixed(digest, u64::from_le_bytes(last));
    }
}

fn mixed(digest: u64, word: u64) -> u64 {
    (digest ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
}

fn leg_of(number: usize) -> FirewallLeg {
    if number == 0 { FirewallLeg::Outside } else { FirewallLeg::Inside }
}

fn is_arp(bytes: &[u8]) -> bool {
    split_ethernet(bytes).is_some_and(|(_, _, ethertype, _)| ethertype == ETHERTYPE_ARP)
}
