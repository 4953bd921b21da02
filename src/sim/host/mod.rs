//! Hosts, each client and server at once: they open flows, answer them, and record what every flow experiences.

pub mod tcp;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::sim::host::tcp::Tcp;
use crate::sim::interface::NetworkInterface;
use crate::sim::packet::{IcmpKind, Packet, Tuple, protocol, tcp_flag};
use crate::sim::reassembly::Reassembly;
use crate::sim::rng::Rng;
use crate::time::{Duration, Instant};

/// Port of the echo service (RFC 862).
pub const ECHO_PORT: u16 = 7;
/// Port of the discard service (RFC 863).
pub const DISCARD_PORT: u16 = 9;
/// Port of a generator that sends without being asked (RFC 864).
pub const GENERATOR_PORT: u16 = 19;
/// Port of a web page that tells the host's health.
pub const HTTP_PORT: u16 = 80;

/// Identifies a flow in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowRef {
    /// Number of the host that opened it.
    pub host: usize,
    /// Number of the flow on that host.
    pub number: usize,
}

/// Traffic of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Traffic {
    /// TCP: the client sends, the server echoes.
    TcpEcho,
    /// TCP: the server sends, the client only receives.
    TcpPush,
    /// UDP: request and response.
    UdpEcho,
    /// UDP: one direction only.
    UdpOneWay,
    /// ICMP echo.
    Ping,
    /// A protocol without ports: request and response.
    Gre,
}

/// A flow to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowSpec {
    /// Its traffic.
    pub traffic: Traffic,
    /// Number of exchanges.
    pub rounds: u32,
    /// Time between exchanges.
    pub gap: Duration,
    /// Bytes of each exchange.
    pub size: usize,
    /// Whether its fragments are sent in random order.
    pub shuffled: bool,
}

/// State of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowState {
    /// Nothing was received yet.
    Opening,
    /// It has been answered.
    Open,
    /// It has ended.
    Over(End),
}

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// All exchanges were made.
    Done,
    /// For datagrams: only some exchanges were answered.
    Lossy,
    /// The connection was reset.
    Reset,
    /// Nobody answered.
    TimedOut,
}

/// A flow and its record.
#[derive(Debug, Clone)]
pub struct Flow {
    /// What it was opened to do.
    pub spec: FlowSpec,
    /// The tuple as its opener's packets show it.
    pub tuple: Tuple,
    /// When it was started.
    pub started: Instant,
    /// Its state.
    pub state: FlowState,
    /// When the first answer arrived.
    pub opened_at: Option<Instant>,
    /// Number of requests sent.
    pub sent: u32,
    /// Number of exchanges completed; for one-way traffic the datagrams that arrived.
    pub answered: u32,
    /// Bytes received.
    pub bytes: u64,
    /// When the last answer arrived.
    pub last_answer: Option<Instant>,
    /// The longest time between two answers.
    pub longest_gap: Duration,
    /// When it ended.
    pub ended_at: Option<Instant>,
}

impl Flow {
    fn answer(&mut self, now: Instant) {
        if self.opened_at.is_none() {
            self.opened_at = Some(now);
        }
        if self.state == FlowState::Opening {
            self.state = FlowState::Open;
        }
        self.answered += 1;
        if let Some(last) = self.last_answer {
            self.longest_gap = self.longest_gap.max(now.since(last));
        }
        self.last_answer = Some(now);
    }

    /// Whether anything was received; for one-way traffic, whether anything arrived.
    pub fn served(&self) -> bool {
        self.answered > 0
    }
}

/// An ICMP error that a host received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpReport {
    /// When it arrived.
    pub at: Instant,
    /// Who sent it.
    pub from: IpAddr,
    /// The flow that it is about, as this host's packets show it.
    pub about: Tuple,
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
}

/// A host's place in its network.
#[derive(Debug, Clone)]
pub struct HostNetwork {
    /// Default gateways, one per address family.
    pub gateways: Vec<IpAddr>,
    /// Prefixes that are directly attached: the host resolves their addresses itself.
    pub on_link: Vec<IpNet>,
    /// Addresses on its loopback, which it does not announce, as on a server of a direct-return service.
    pub loopbacks: Vec<IpAddr>,
    /// MTU in bytes.
    pub mtu: usize,
    /// Whether its device segments TCP super-frames (GSO).
    pub gso: bool,
}

/// Health of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It serves.
    Well,
    /// Its program has ended: connections are reset and ports closed, but the host answers.
    Refusing,
    /// It serves, but its web page answers 503.
    Sick,
    /// It has no power.
    Dead,
}

/// A host.
#[derive(Debug)]
pub struct Host {
    /// Its network interface.
    pub interface: NetworkInterface,
    number: usize,
    network: HostNetwork,
    health: Health,
    tcp: Tcp,
    flows: Vec<Flow>,
    by_tuple: BTreeMap<Tuple, usize>,
    due: BTreeMap<usize, Instant>,
    reassembly: Reassembly,
    arrived: Vec<FlowRef>,
    /// ICMP errors received.
    pub icmp_errors: Vec<IcmpReport>,
    rng: Rng,
    fragment_id: u32,
}

impl Host {
    /// Host number `number` of the world.
    pub fn new(number: usize, station: NetworkInterface, seat: HostNetwork, mut rng: Rng, now: Instant) -> Self {
        Self {
            number,
            tcp: Tcp::new(&station.addresses, rng.next_u64(), &seat, now),
            interface: station,
            network: seat,
            health: Health::Well,
            flows: Vec::new(),
            by_tuple: BTreeMap::new(),
            due: BTreeMap::new(),
            reassembly: Reassembly::default(),
            arrived: Vec::new(),
            icmp_errors: Vec::new(),
            fragment_id: rng.next_u64() as u32,
            rng,
        }
    }

    /// Opens a flow; returns its number on this host.
    pub fn open(&mut self, spec: FlowSpec, tuple: Tuple, now: Instant) -> usize {
        let number = self.flows.len();
        self.flows.push(Flow {
            spec,
            tuple,
            started: now,
            state: FlowState::Opening,
            opened_at: None,
            sent: 0,
            answered: 0,
            bytes: 0,
            last_answer: None,
            longest_gap: Duration::ZERO,
            ended_at: None,
        });
        self.by_tuple.insert(tuple, number);
        match spec.traffic {
            Traffic::TcpEcho | Traffic::TcpPush => self.tcp.open(number, &self.flows[number], now),
            Traffic::UdpEcho | Traffic::UdpOneWay | Traffic::Ping | Traffic::Gre => {
                self.due.insert(number, now);
            }
        }
        self.handle_timeout(now);
        number
    }

    /// The flows that this host opened.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// The flows of which one-way datagrams arrived here since the last call. Their payload identifies them, because
    /// addresses may be translated.
    pub fn take_arrived(&mut self) -> Vec<FlowRef> {
        std::mem::take(&mut self.arrived)
    }

    /// Number of TCP connections of this host, as client or server.
    pub fn tcp_connections(&self) -> usize {
        self.tcp.connections()
    }

    /// Notes that a datagram of this host's one-way flow `number` arrived at the other end.
    pub fn note_arrival(&mut self, number: usize, now: Instant) {
        if let Some(flow) = self.flows.get_mut(number) {
            flow.answer(now);
        }
    }

    /// The host's health.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Changes the host's health. After it was dead, it has forgotten everything.
    pub fn set_health(&mut self, health: Health, now: Instant) {
        let was_dead = self.health == Health::Dead;
        self.health = health;
        self.tcp.web_status = if health == Health::Sick { 503 } else { 200 };
        match health {
            Health::Well | Health::Sick if was_dead => self.interface.announce(),
            Health::Well | Health::Sick => {}
            Health::Refusing => {
                self.tcp.abort();
                self.handle_timeout(now);
            }
            Health::Dead => {
                self.interface.forget();
                self.reassembly.clear();
                self.tcp = Tcp::new(&self.interface.addresses, self.rng.next_u64(), &self.network, now);
            }
        }
    }

    /// Sends a packet that a test made.
    pub fn send_raw(&mut self, packet: Packet, now: Instant) {
        let neighbor = self.network.on_link.iter().any(|prefix| prefix.contains(&packet.destination));
        let gateway = self.network.gateways.iter().find(|g| g.is_ipv4() == packet.source.is_ipv4()).copied();
        if let Some(next_hop) = if neighbor { Some(packet.destination) } else { gateway } {
            self.interface.send(packet, next_hop, now);
        }
    }

    /// Receives a frame.
    pub fn receive(&mut self, frame: &[u8], now: Instant) {
        if self.health == Health::Dead {
            return;
        }
        let Some(packet) = self.interface.receive(frame, now) else { return };
        if !self.has(packet.destination) {
            return;
        }
        let Some((packet, _)) = self.reassembly.add(packet, now) else { return };
        let Some((packet, _)) = self.decapsulated(packet).and_then(|packet| self.reassembly.add(packet, now)) else {
            return;
        };
        if self.health == Health::Refusing && self.refuse(&packet, now) {
            return;
        }
        if packet.protocol == protocol::TCP {
            self.tcp.receive(&packet, now);
            self.handle_timeout(now);
        } else if packet.checksum_ok() {
            self.receive_datagram(&packet, now);
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        self.interface.addresses.contains(&address) || self.network.loopbacks.contains(&address)
    }

    /// Decapsulates a packet of a tunnel; any other packet is returned unchanged. The inner packet must be for this
    /// host, as in a kernel that forwards nothing.
    fn decapsulated(&self, packet: Packet) -> Option<Packet> {
        match packet.protocol {
            protocol::IPV4 | protocol::IPV6 => packet.inside().filter(|inside| self.has(inside.destination)),
            _ => Some(packet),
        }
    }

    /// Handles all that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.health == Health::Dead {
            return;
        }
        self.interface.handle_timeout(now);
        self.reassembly.expire(now);
        self.tcp.run(&mut self.flows, now);
        while let Some(packet) = self.tcp.poll_transmit() {
            self.send_raw(packet, now);
        }
        let due: Vec<usize> = self.due.iter().filter(|(_, at)| **at <= now).map(|(number, _)| *number).collect();
        for number in due {
            self.send_round(number, now);
        }
    }

    /// When [`Host::handle_timeout`] has to be called next.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let datagrams = self.due.values().copied();
        datagrams.chain(self.tcp.poll_timeout(now)).chain(self.interface.poll_timeout()).min()
    }

    /// Sends the next datagram of a flow.
    fn send_round(&mut self, number: usize, now: Instant) {
        let flow = &mut self.flows[number];
        if flow.sent >= flow.spec.rounds {
            // All were sent, and there was one more gap for the last answer to arrive.
            self.due.remove(&number);
            flow.state = FlowState::Over(match flow.answered {
                0 => End::TimedOut,
                answered if answered < flow.spec.rounds => End::Lossy,
                _ => End::Done,
            });
            flow.ended_at = Some(now);
            return;
        }
        let Tuple { source, destination, .. } = flow.tuple;
        let mut data = vec![0x5a; flow.spec.size.max(12)];
        data[..4].copy_from_slice(&(self.number as u32).to_be_bytes());
        data[4..8].copy_from_slice(&(number as u32).to_be_bytes());
        data[8..12].copy_from_slice(&flow.sent.to_be_bytes());
        let packet = match flow.spec.traffic {
            Traffic::UdpEcho | Traffic::UdpOneWay => Packet::udp(source, destination, &data),
            Traffic::Ping => Packet::echo(source.0, destination.0, false, source.1, flow.sent as u16, &data),
            Traffic::Gre => Packet::new(source.0, destination.0, protocol::GRE, gre(&data)),
            Traffic::TcpEcho | Traffic::TcpPush => unreachable!("TCP has its own clock"),
        };
        flow.sent += 1;
        let (gap, shuffled) = (flow.spec.gap, flow.spec.shuffled);
        self.due.insert(number, now + gap);
        self.send_datagram(packet, shuffled, now);
    }

    fn send_datagram(&mut self, packet: Packet, shuffled: bool, now: Instant) {
        self.fragment_id = self.fragment_id.wrapping_add(1);
        let mut pieces = packet.fragments(self.network.mtu, self.fragment_id);
        if shuffled {
            for last in (1..pieces.len()).rev() {
                pieces.swap(last, self.rng.index(last + 1));
            }
        }
        for piece in pieces {
            self.send_raw(piece, now);
        }
    }

    fn receive_datagram(&mut self, packet: &Packet, now: Instant) {
        let (own, other) = (packet.destination, packet.source);
        let tuple = packet.tuple();
        match packet.icmp_kind() {
            Some(IcmpKind::Request(ident)) => {
                let sequence = u16::from_be_bytes([packet.payload[6], packet.payload[7]]);
                let reply = Packet::echo(own, other, true, ident, sequence, &packet.payload[8..]);
                self.send_datagram(reply, false, now);
            }
            Some(IcmpKind::Reply(_)) => self.note_answer(tuple, &packet.payload[8..], now),
            Some(IcmpKind::Error(Some(_))) => {
                let (kind, code) = (packet.payload[0], packet.payload[1]);
                self.icmp_errors.push(IcmpReport { at: now, from: other, about: tuple.reversed(), kind, code });
            }
            Some(IcmpKind::Error(None) | IcmpKind::LinkLocal | IcmpKind::Other) => {}
            None => match (packet.protocol, tuple.destination.1) {
                (protocol::UDP, ECHO_PORT) => {
                    let data = packet.payload[8..].to_vec();
                    self.send_datagram(Packet::udp(tuple.destination, tuple.source, &data), false, now);
                }
                (protocol::UDP, DISCARD_PORT) => self.arrived.extend(flow_ref(&packet.payload[8..])),
                (protocol::UDP, _) => self.note_answer(tuple, &packet.payload[8..], now),
                (protocol::GRE, _) if self.by_tuple.contains_key(&tuple.reversed()) => {
                    self.note_answer(tuple, packet.payload.get(4..).unwrap_or(&[]), now);
                }
                (protocol::GRE, _) => {
                    let reply = Packet::new(own, other, protocol::GRE, packet.payload.clone());
                    self.send_datagram(reply, false, now);
                }
                _ => {}
            },
        }
    }

    /// Refuses a packet to a closed port (RFC 9293 section 3.10.7.1, RFC 1122 section 4.1.3.1); returns whether it did.
    fn refuse(&mut self, packet: &Packet, now: Instant) -> bool {
        let Tuple { protocol: number, source, destination } = packet.tuple();
        let answer = match (number, packet.tcp_flags(), packet.tcp_sequence()) {
            (protocol::TCP, Some(flags), Some(sequence))
                if flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN =>
            {
                let flags = tcp_flag::RST | tcp_flag::ACK;
                Packet::tcp(destination, source, flags, 0, sequence.wrapping_add(1), &[])
            }
            (protocol::UDP, _, _) if !packet.is_icmp_error() => {
                let (kind, code) = if source.0.is_ipv4() { (3, 3) } else { (1, 4) };
                let quote = packet.emit();
                Packet::icmp(destination.0, source.0, kind, code, [0; 4], &quote[..quote.len().min(512)])
            }
            _ => return false,
        };
        self.send_raw(answer, now);
        true
    }

    /// Notes an answer, if it belongs to a flow of this host.
    fn note_answer(&mut self, tuple: Tuple, data: &[u8], now: Instant) {
        let Some(number) = self.by_tuple.get(&tuple.reversed()).copied() else { return };
        let flow = &mut self.flows[number];
        if flow_ref(data) == Some(FlowRef { host: self.number, number }) && flow.answered < flow.sent {
            flow.bytes += data.len() as u64;
            flow.answer(now);
        }
    }
}

fn flow_ref(data: &[u8]) -> Option<FlowRef> {
    let word = |at: usize| Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?) as usize);
    Some(FlowRef { host: word(0)?, number: word(4)? })
}

/// A GRE header without options (RFC 2784), followed by `data`.
fn gre(data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, 0, 0x88, 0xb5];
    packet.extend_from_slice(data);
    packet
}
