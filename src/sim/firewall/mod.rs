//! Model firewalls, the oracle of the simulation: they drop what a strict Linux firewall drops, and count it.
//!
//! A firewall has an outside leg (toward the outer engine) and an inside leg. It is a router, or with
//! [`SimFirewallKind::Transparent`] a bridge. Like conntrack, it reassembles fragments, decides about the whole
//! datagram, and sends it on in the old sizes: a later fragment never leaves alone.

pub mod conntrack;
pub mod tcp;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;

use crate::sim::firewall::conntrack::{Conntrack, ConntrackVerdict, Policy, Refusal, Rules};
use crate::sim::interface::NetworkInterface;
use crate::sim::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, IcmpKind, Packet, Tuple, ethernet, split_ethernet};
use crate::sim::reassembly::{Fragmentation, Reassembly};
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

/// Kinds of firewalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SimFirewallKind {
    /// Stateful: passes flows only if it saw them begin.
    Strict,
    /// Stateful, but picks TCP up in mid-stream.
    Loose,
    /// Strict, with one table that all firewalls of the group share.
    Synced,
    /// Strict, and translates the source of flows that are opened through it.
    Nat,
    /// Strict, and a bridge.
    Transparent,
}

/// A leg of a firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FirewallLeg {
    /// Toward the outer engine.
    Outside,
    /// Toward the inner engine.
    Inside,
}

impl FirewallLeg {
    /// The other leg.
    pub const fn other(self) -> Self {
        match self {
            Self::Outside => Self::Inside,
            Self::Inside => Self::Outside,
        }
    }

    /// Index of the leg in the firewall's list of legs.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A packet about which a firewall decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JudgedPacket {
    /// When it arrived.
    pub at: Instant,
    /// The leg on which it arrived.
    pub leg: FirewallLeg,
    /// The flow as the packet shows it.
    pub tuple: Tuple,
    /// The flow as its opener's packets show it, if the firewall knows it.
    pub original: Option<Tuple>,
    /// The flow as the packet shows it when it leaves.
    pub translated: Option<Tuple>,
    /// TCP flags, for TCP.
    pub flags: Option<u8>,
    /// Whether it is an ICMP error about the flow.
    pub error: bool,
    /// Why it was dropped; `None` if it passed.
    pub refusal: Option<Refusal>,
}

/// The settings of a firewall.
#[derive(Debug, Clone)]
pub struct FirewallSettings {
    /// Kind of firewall.
    pub kind: SimFirewallKind,
    /// From which side flows may be opened.
    pub policy: Policy,
    /// Routes: prefix, leg, and next hop (`None`: directly attached).
    pub routes: Vec<(IpNet, FirewallLeg, Option<IpAddr>)>,
    /// Addresses from which the engines probe: their probes always pass, and are never translated.
    pub engines: Vec<IpAddr>,
    /// For [`SimFirewallKind::Nat`]: the addresses to which it translates, one per address family.
    pub pool: Vec<IpAddr>,
    /// MTU of both legs, in bytes.
    pub mtu: usize,
}

/// A model firewall.
#[derive(Debug)]
pub struct Firewall {
    settings: FirewallSettings,
    legs: [NetworkInterface; 2],
    table: Rc<RefCell<Conntrack>>,
    reassembly: Reassembly,
    /// Whether it has power; otherwise it neither sends nor receives.
    pub alive: bool,
    /// For each leg, whether probes that arrive on it are dropped. Answers to the other side's probes still pass.
    pub probes_blocked: [bool; 2],
    /// Extra delay of every packet.
    pub extra_delay: Duration,
    delayed: VecDeque<(Instant, FirewallLeg, Departure)>,
    out: VecDeque<(FirewallLeg, Vec<u8>)>,
    judged_packets: Vec<JudgedPacket>,
    refused: BTreeMap<Refusal, u64>,
    passed: u64,
    fragment_id: u32,
}

/// A packet to be sent.
#[derive(Debug)]
enum Departure {
    /// Routed, with its next hop.
    Routed(Packet, IpAddr),
    /// Bridged, with the MAC addresses with which it arrived: destination, source.
    Bridged(Packet, MacAddr, MacAddr),
}

impl Firewall {
    /// A firewall with its two legs, the outside one first. Synchronised firewalls get the same table.
    pub fn new(settings: FirewallSettings, legs: [NetworkInterface; 2], table: Rc<RefCell<Conntrack>>) -> Self {
        Self {
            settings,
            legs,
            table,
            reassembly: Reassembly::default(),
            alive: true,
            probes_blocked: [false; 2],
            extra_delay: Duration::ZERO,
            delayed: VecDeque::new(),
            out: VecDeque::new(),
            judged_packets: Vec::new(),
            refused: BTreeMap::new(),
            passed: 0,
            fragment_id: 1,
        }
    }

    /// Kind of firewall.
    pub fn kind(&self) -> SimFirewallKind {
        self.settings.kind
    }

    /// Receives a frame.
    pub fn receive(&mut self, leg: FirewallLeg, frame: &[u8], now: Instant) {
        if !self.alive {
            return;
        }
        if self.settings.kind == SimFirewallKind::Transparent {
            self.bridge(leg, frame, now);
        } else if let Some(packet) = self.legs[leg.index()].receive(frame, now) {
            self.route(leg, packet, now);
        }
    }

    /// Handles all that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        for leg in &mut self.legs {
            leg.handle_timeout(now);
        }
        for piece in self.reassembly.expire(now) {
            let (at, tuple) = (now, piece.tuple());
            let refusal = Some(Refusal::Invalid);
            let sighting = JudgedPacket {
                at,
                leg: FirewallLeg::Outside,
                tuple,
                original: None,
                translated: None,
                flags: None,
                error: false,
                refusal,
            };
            self.judged_packets.push(sighting);
        }
        while let Some((_, leg, departure)) = self.delayed.pop_front_if(|(due, ..)| *due <= now) {
            self.depart(leg, departure, now);
        }
    }

    /// When [`Firewall::handle_timeout`] has to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let legs = self.legs.iter().filter_map(NetworkInterface::poll_timeout);
        legs.chain(self.delayed.front().map(|(due, ..)| *due)).min()
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self) -> Option<(FirewallLeg, Vec<u8>)> {
        for leg in [FirewallLeg::Outside, FirewallLeg::Inside] {
            while let Some(frame) = self.legs[leg.index()].poll_transmit() {
                if self.alive {
                    self.out.push_back((leg, frame));
                }
            }
        }
        self.out.pop_front()
    }

    /// Packets that it decided about since the last call.
    pub fn take_judged_packets(&mut self) -> Vec<JudgedPacket> {
        std::mem::take(&mut self.judged_packets)
    }

    /// Number of packets dropped for `reason`.
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused.get(&reason).copied().unwrap_or(0)
    }

    /// Number of packets that passed.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Number of drops for the reasons that are the oracle.
    pub fn oracle(&self) -> u64 {
        self.refused(Refusal::Invalid) + self.refused(Refusal::NewNotSyn) + self.refused(Refusal::Policy)
    }

    /// Number of datagrams of which not all fragments arrived.
    pub fn incomplete(&self) -> u64 {
        self.reassembly.incomplete
    }

    /// Whether it has state of the flow.
    pub fn knows(&self, tuple: Tuple) -> bool {
        self.table.borrow().has_connection(tuple)
    }

    /// Takes its power away.
    pub fn crash(&mut self) {
        self.alive = false;
        self.delayed.clear();
        self.out.clear();
    }

    /// Boots it with an empty table; a synchronised one has its partners' table.
    pub fn boot(&mut self) {
        self.alive = true;
        self.reassembly.clear();
        if self.settings.kind != SimFirewallKind::Synced {
            self.table.borrow_mut().clear();
        }
        for leg in &mut self.legs {
            leg.forget();
            leg.announce();
        }
    }

    /// Changes the MAC address of a leg.
    pub fn change_mac(&mut self, leg: FirewallLeg, mac: MacAddr) {
        self.legs[leg.index()].change_mac(mac);
    }

    /// Sends a packet that is supposed to have passed long ago.
    pub fn emit(&mut self, leg: FirewallLeg, packet: Packet, next_hop: IpAddr, now: Instant) {
        self.depart(leg, Departure::Routed(packet, next_hop), now);
    }

    /// The MAC address of a leg.
    pub fn mac(&self, leg: FirewallLeg) -> MacAddr {
        self.legs[leg.index()].mac
    }

    fn bridge(&mut self, leg: FirewallLeg, frame: &[u8], now: Instant) {
        let Some((destination, source, ethertype, payload)) = split_ethernet(frame) else { return };
        let packet = match ethertype {
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => Packet::parse(payload),
            _ => None,
        };
        let discovery = packet.as_ref().is_some_and(|packet| packet.icmp_kind() == Some(IcmpKind::LinkLocal));
        match packet {
            Some(packet) if !discovery => {
                let Some((packet, cut)) = self.reassembly.add(packet, now) else { return };
                if let Some(shown) = self.judge(leg, &packet, now) {
                    for piece in self.refragment(packet.rewritten(shown), cut) {
                        self.leave(leg.other(), Departure::Bridged(piece, destination, source), now);
                    }
                }
            }
            _ if ethertype == ETHERTYPE_IPV4 => {}
            _ => self.out.push_back((leg.other(), frame.to_vec())),
        }
    }

    fn route(&mut self, leg: FirewallLeg, packet: Packet, now: Instant) {
        let Some((packet, cut)) = self.reassembly.add(packet, now) else { return };
        if self.legs.iter().any(|station| station.addresses.contains(&packet.destination)) {
            self.answer(leg, &packet, now);
            return;
        }
        if packet.ttl <= 1 {
            self.refuse(leg, &packet, Refusal::Ttl, now);
            if !packet.is_icmp_error() {
                let kind = if packet.source.is_ipv4() { 11 } else { 3 };
                self.send_icmp_error(leg, &packet, kind, 0, [0; 4], now);
            }
            return;
        }
        let Some(shown) = self.judge(leg, &packet, now) else { return };
        let mut packet = packet.rewritten(shown);
        packet.ttl -= 1;
        let Some((out, next_hop)) = self.lookup(packet.destination) else {
            self.refuse(leg, &packet, Refusal::NoRoute, now);
            return;
        };
        if packet.len() > self.settings.mtu && packet.dont_fragment && cut.is_none() {
            let mtu = self.settings.mtu as u32;
            let v4 = packet.source.is_ipv4();
            let rest = if v4 { [0, 0, (mtu >> 8) as u8, mtu as u8] } else { mtu.to_be_bytes() };
            let (kind, code) = if v4 { (3, 4) } else { (2, 0) };
            self.send_icmp_error(leg, &packet, kind, code, rest, now);
            return;
        }
        for piece in self.refragment(packet, cut) {
            self.leave(out, Departure::Routed(piece, next_hop), now);
        }
    }

    /// Decides about a packet by the table; returns the tuple with which it leaves.
    fn judge(&mut self, leg: FirewallLeg, packet: &Packet, now: Instant) -> Option<Tuple> {
        let engines = &self.settings.engines;
        let probe = engines.contains(&packet.source) && engines.contains(&packet.destination);
        let asks = matches!(packet.icmp_kind(), Some(IcmpKind::Request(_)));
        if probe && asks && self.probes_blocked[leg.index()] {
            *self.refused.entry(Refusal::ProbeBlocked).or_default() += 1;
            return None;
        }
        // A packet to a translated address that this firewall did not assign belongs to another firewall.
        let routed = self.settings.kind == SimFirewallKind::Transparent || self.lookup(packet.destination).is_some();
        if !routed && !self.knows(packet.tuple()) {
            let foreign = self.settings.kind == SimFirewallKind::Nat;
            self.refuse(leg, packet, if foreign { Refusal::Policy } else { Refusal::NoRoute }, now);
            return None;
        }
        let rules = Rules {
            loose: self.settings.kind == SimFirewallKind::Loose,
            policy: if probe { Policy::Both } else { self.settings.policy },
        };
        let own_family = |address: &&IpAddr| address.is_ipv4() == packet.source.is_ipv4();
        let pool = self.settings.pool.iter().find(own_family).copied().filter(|_| !probe);
        let verdict = self.table.borrow_mut().judge(packet, leg == FirewallLeg::Outside, rules, pool, now);
        match verdict {
            ConntrackVerdict::Pass { translated: shown, original } => {
                self.passed += 1;
                self.note_decision(leg, packet, Some((original, shown)), None, now);
                Some(shown)
            }
            ConntrackVerdict::Refuse(refusal) => {
                self.refuse(leg, packet, refusal, now);
                None
            }
        }
    }

    fn refuse(&mut self, leg: FirewallLeg, packet: &Packet, refusal: Refusal, now: Instant) {
        *self.refused.entry(refusal).or_default() += 1;
        self.note_decision(leg, packet, None, Some(refusal), now);
    }

    fn note_decision(
        &mut self,
        leg: FirewallLeg,
        packet: &Packet,
        passed: Option<(Tuple, Tuple)>,
        refusal: Option<Refusal>,
        at: Instant,
    ) {
        let (original, shown) = passed.unzip();
        let (tuple, flags, error) = (packet.tuple(), packet.tcp_flags(), packet.is_icmp_error());
        self.judged_packets.push(JudgedPacket { at, leg, tuple, original, translated: shown, flags, error, refusal });
    }

    /// Answers an echo request to the firewall itself.
    fn answer(&mut self, leg: FirewallLeg, packet: &Packet, now: Instant) {
        let Some(IcmpKind::Request(ident)) = packet.icmp_kind() else { return };
        let sequence = u16::from_be_bytes([packet.payload[6], packet.payload[7]]);
        let (own, asker) = (packet.destination, packet.source);
        let reply = Packet::echo(own, asker, true, ident, sequence, &packet.payload[8..]);
        let (out, next_hop) = self.lookup(asker).unwrap_or((leg, asker));
        self.leave(out, Departure::Routed(reply, next_hop), now);
    }

    /// Sends an ICMP error about `packet` from the leg on which it arrived.
    fn send_icmp_error(&mut self, leg: FirewallLeg, packet: &Packet, kind: u8, code: u8, rest: [u8; 4], now: Instant) {
        let same_family = |address: &&IpAddr| address.is_ipv4() == packet.source.is_ipv4();
        let Some(own) = self.legs[leg.index()].addresses.iter().find(same_family).copied() else { return };
        let quote = packet.emit();
        let error = Packet::icmp(own, packet.source, kind, code, rest, &quote[..quote.len().min(512)]);
        if let Some((out, next_hop)) = self.lookup(packet.source) {
            self.leave(out, Departure::Routed(error, next_hop), now);
        }
    }

    fn lookup(&self, destination: IpAddr) -> Option<(FirewallLeg, IpAddr)> {
        let routes = self.settings.routes.iter().filter(|(prefix, ..)| prefix.contains(&destination));
        let (_, leg, gateway) = routes.max_by_key(|(prefix, ..)| prefix.prefix_len())?;
        Some((*leg, gateway.unwrap_or(destination)))
    }

    /// Fragments a datagram into pieces no larger than it arrived in, with its old identification; or by the MTU, if it
    /// arrived whole and may be fragmented.
    fn refragment(&mut self, packet: Packet, cut: Option<Fragmentation>) -> Vec<Packet> {
        let Some(cut) = cut else {
            self.fragment_id += 1;
            return packet.fragments(self.settings.mtu, self.fragment_id);
        };
        let headers = if packet.source.is_ipv4() { 20 } else { 48 };
        packet.fragments((headers + cut.largest.next_multiple_of(8)).min(self.settings.mtu), cut.id)
    }

    fn leave(&mut self, leg: FirewallLeg, departure: Departure, now: Instant) {
        if self.extra_delay.is_zero() && self.delayed.is_empty() {
            self.depart(leg, departure, now);
        } else {
            let due = self.delayed.back().map_or(now, |(due, ..)| *due).max(now + self.extra_delay);
            self.delayed.push_back((due, leg, departure));
        }
    }

    fn depart(&mut self, leg: FirewallLeg, departure: Departure, now: Instant) {
        match departure {
            Departure::Routed(packet, next_hop) => self.legs[leg.index()].send(packet, next_hop, now),
            Departure::Bridged(packet, destination, source) => {
                let ethertype = if packet.source.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
                self.out.push_back((leg, ethernet(destination, source, ethertype, &packet.emit())));
            }
        }
    }
}
