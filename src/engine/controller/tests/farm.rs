//! A controller and its servers: model servers that answer ARP, ping and TCP as the test sets them, in virtual time.

mod respond;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use self::respond::{Reply, respond};
use super::config;
use crate::config::{
    AdminState, Config, ForwardingMode, HashOn, Observe, OnFailure, Scheduler, Server, Service, ServiceCheck,
    ServiceCheckKind,
};
use crate::engine::controller::{Controller, DeviceState, Event};
use crate::engine::verdict::{Punt, PuntReason, Transmit};
use crate::engine::view::{EventView, ExchangeView, ServiceView};
use crate::engine::{Counters, Snapshot};
use crate::id::{DeviceId, LinkId, ServerId, ServiceId};
use crate::time::{Duration, Instant};
use crate::wire::arp::{Arp, Operation};
use crate::wire::emit::{self, AddressPair, MacPair};
use crate::wire::frame::{Frame, FrameKind, protocol, tcp_flags};
use crate::wire::icmp::{Echo, EchoKind};
use crate::wire::offload::Offload;
use crate::wire::tcp::{self, Segment};
use crate::wire::tunnel;
use crate::wire::{Family, MacAddr, ndp};

const TEXT: &str = r#"
[engine]
name = "lb"
[[link]]
name = "clients"
device = "eth0"
addresses = ["203.0.113.1/24", "2001:db8:113::1/64"]
[[link]]
name = "servers"
device = "eth1"
addresses = ["10.10.0.1/16", "fd00:20::1/64"]
"#;
pub(super) const CLIENTS: LinkId = LinkId(0);
pub(super) const SERVERS: LinkId = LinkId(1);
pub(super) const CLIENTS_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(super) const SERVERS_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub(super) const OWN: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
pub(super) const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);

/// A check of a kind every second, with a timeout of half a second.
pub(super) fn check(kind: ServiceCheckKind) -> ServiceCheck {
    ServiceCheck {
        kind,
        port: None,
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        fall: 2,
        rise: 1,
        dead_interval: Duration::from_secs(1),
        down_after: None,
    }
}

/// An HTTP check for 200 and a text.
pub(super) fn http(body: Option<&str>) -> ServiceCheckKind {
    ServiceCheckKind::Http {
        path: "/healthz".to_owned(),
        host: None,
        status: vec![200..=200],
        body: body.map(str::to_owned),
    }
}

/// `web` on the VIP with servers `s1`, `s2`, ... at 10.10.1.1, 10.10.1.2, ...
pub(super) fn web(servers: usize, check: ServiceCheck) -> Config {
    let mut config = config(TEXT);
    config.services.push(Service {
        name: "web".to_owned(),
        addresses: vec![VIP.into(), "2001:db8:113::80".parse().unwrap()],
        protocols: vec![protocol::TCP],
        ports: vec![80..=80],
        scheduler: Scheduler::RoundRobin,
        mode: ForwardingMode::Nat,
        snat: Vec::new(),
        sticky: None,
        on_failure: OnFailure::Reset,
        drain_timeout: None,
        admin: AdminState::Ready,
        observe: Observe::Off,
        check,
        servers: (0..servers).map(ServerId::from).collect(),
    });
    config.servers = (0..servers)
        .map(|index| Server {
            name: format!("s{}", index + 1),
            service: ServiceId(0),
            addresses: vec![address(index)],
            port: Some(8080),
            weight: 1,
            backup: false,
            admin: AdminState::Ready,
        })
        .collect();
    config
}

/// The address of the server with this index.
pub(super) fn address(index: usize) -> IpAddr {
    let [high, low] = u16::try_from(index + 1).unwrap().to_be_bytes();
    Ipv4Addr::new(10, 10, 1 + high, low).into()
}

pub(super) fn mac_of(address: IpAddr) -> MacAddr {
    match address {
        IpAddr::V4(address) => {
            let [_, b, c, d] = address.octets();
            MacAddr([2, 0, 1, b, c, d])
        }
        IpAddr::V6(address) => MacAddr([2, 0, 6, 0, 0, address.octets()[15]]),
    }
}

/// How a server behaves.
#[derive(Debug, Clone)]
pub(super) enum Behaviour {
    /// It listens and answers every request with these bytes, then closes.
    Answers(Vec<u8>),
    /// It listens and never answers a request.
    Hangs,
    /// It listens and answers after this time.
    Slow(Duration, Vec<u8>),
    /// It answers the beginning and no more.
    Stalls(Vec<u8>),
    /// It resets the connection on the first request.
    Resets,
    /// Nobody listens on any port.
    Refuses,
    /// It answers ARP and nothing else.
    Silent,
    /// It is not there.
    Absent,
}

/// A summary of a frame that the controller sent: time, source port and flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) station: MacAddr,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ports: (u16, u16),
    /// TCP flags; `None` for another protocol.
    pub(super) flags: Option<u8>,
    /// TCP sequence number; 0 for another protocol.
    pub(super) sequence: u32,
}

/// The controller, its servers, and a capture of the frames between them.
pub(super) struct Farm {
    pub(super) controller: Controller,
    pub(super) now: Instant,
    pub(super) behaviours: BTreeMap<IpAddr, Behaviour>,
    pub(super) capture: Vec<Seen>,
    /// Source and destination of the outer packets of tunnels, which every server decapsulates.
    pub(super) outer: Vec<(IpAddr, IpAddr)>,
    /// Frames of servers that are under way, by the time they arrive.
    late: Vec<(Instant, Vec<u8>)>,
    /// The engine's ports from which servers still hold an old connection, with the sequence number that they expect on
    /// it.
    pub(super) held: BTreeMap<u16, u32>,
    /// Whether a reset ends an old connection.
    pub(super) lets_go: bool,
    /// The addresses that gratuitous ARP on the clients' link announced.
    pub(super) announced: Vec<Ipv4Addr>,
    pub(super) events: Vec<EventView>,
    pub(super) exchanges: Vec<(u64, ExchangeView)>,
}

impl Farm {
    /// A farm whose servers are all healthy.
    pub(super) fn new(config: Config) -> Self {
        let now = Instant::from_millis(1_000);
        let well = Behaviour::Answers(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nOK".to_vec());
        let addresses = config.servers.iter().flat_map(|server| server.addresses.iter().copied());
        let behaviours = addresses.map(|address| (address, well.clone())).collect();
        let controller = Controller::new(config, 7, now);
        let mut farm = Self {
            controller,
            now,
            behaviours,
            capture: Vec::new(),
            outer: Vec::new(),
            late: Vec::new(),
            held: BTreeMap::new(),
            lets_go: true,
            announced: Vec::new(),
            events: Vec::new(),
            exchanges: Vec::new(),
        };
        for (device, mac) in [(0, CLIENTS_MAC), (1, SERVERS_MAC)] {
            let state = DeviceState { mac, mtu: 1500, up: true };
            farm.controller.handle_device(DeviceId(device), Some(state), now);
        }
        farm.settle();
        farm
    }

    pub(super) fn behave(&mut self, server: usize, behaviour: Behaviour) {
        self.behaviours.insert(address(server), behaviour);
    }

    /// Lets time pass.
    pub(super) fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.settle();
            let arrival = self.late.iter().map(|(at, _)| *at).min();
            let due = self.controller.poll_timeout().into_iter().chain(arrival).min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            let (arrived, late) = std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= self.now);
            self.late = late;
            for (_, bytes) in arrived {
                self.local(SERVERS, bytes);
            }
            self.controller.handle_timeout(self.now);
        }
        self.now = end;
    }

    pub(super) fn wait_ms(&mut self, millis: u64) {
        self.wait(Duration::from_millis(millis));
    }

    /// A packet to the engine.
    pub(super) fn local(&mut self, link: LinkId, bytes: Vec<u8>) {
        let punt = Punt { reason: PuntReason::Local, link, vlan: None, offload: Offload::NONE, bytes, original: None };
        self.controller.handle_punt(punt, self.now);
    }

    /// A packet to the engine on the clients' link, and what it answers there.
    pub(super) fn ask(&mut self, bytes: Vec<u8>) -> Vec<Transmit> {
        self.settle();
        self.local(CLIENTS, bytes);
        std::iter::from_fn(|| self.controller.poll_transmit()).collect()
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.controller.snapshot()
    }

    /// For every server, whether it is up over IPv4, by its position in the service.
    pub(super) fn up(&self) -> Vec<bool> {
        self.snapshot().services.all()[0].servers.iter().map(|server| server.is_up(Family::V4)).collect()
    }

    pub(super) fn view(&self) -> ServiceView {
        self.controller.services(&Counters::default(), self.now).remove(0)
    }

    /// The last failure of a server's first check, in words.
    pub(super) fn failure(&self, server: usize) -> String {
        self.view().servers[server].checks[0].reason.clone().unwrap_or_default()
    }

    /// Flags of the TCP segments of the connection from the engine's port. `>` marks those of the engine.
    pub(super) fn conversation(&self, port: u16) -> Vec<String> {
        let of_port = |seen: &&Seen| seen.flags.is_some() && (seen.ports.0 == port || seen.ports.1 == port);
        let told = self.capture.iter().filter(of_port).map(|seen| {
            let arrow = if seen.source == IpAddr::V4(OWN) { '>' } else { '<' };
            let names = [(2, 'S'), (1, 'F'), (4, 'R'), (8, 'P'), (16, 'A')];
            let flags = seen.flags.unwrap_or_default();
            std::iter::once(arrow)
                .chain(names.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| *name))
                .collect()
        });
        told.collect()
    }

    /// The engine's source port of the last check.
    pub(super) fn last_port(&self) -> u16 {
        let syns = self.capture.iter().filter(|seen| seen.flags == Some(tcp_flags::SYN));
        syns.map(|seen| seen.ports.0).next_back().expect("a check began")
    }

    /// Delivers frames in both directions until there are none left.
    fn settle(&mut self) {
        loop {
            while let Some(event) = self.controller.poll_event() {
                match event {
                    Event::Publish(_) => {}
                    Event::Change(change) => self.events.push(change.view(0, String::new())),
                    Event::CheckEnded(_) => {}
                    Event::Exchange { request, result } => self.exchanges.push((request, result)),
                }
            }
            let Some(transmit) = self.controller.poll_transmit() else { return };
            if transmit.link == SERVERS {
                self.deliver(transmit.bytes);
            } else if let Ok(arp) = Arp::parse(&transmit.bytes)
                && !arp.is_probe()
            {
                self.announced.push(arp.sender);
            }
        }
    }

    fn deliver(&mut self, mut bytes: Vec<u8>) {
        if let Ok(arp) = Arp::parse(&bytes) {
            self.asked(&arp);
            return;
        }
        if let Ok(ndp::Ndp::Solicitation { target, .. }) = ndp::Ndp::parse(&bytes) {
            let mac = mac_of(target.into());
            if self.behaviours.contains_key(&IpAddr::V6(target)) {
                let own = "fd00:20::1".parse().unwrap();
                let answer = ndp::advertisement(mac, target, own, SERVERS_MAC);
                self.neighbor(answer);
            }
            return;
        }
        let frame = Frame::parse(&mut bytes, &Offload::NONE).expect("the engine sends legal frames");
        if frame.kind() != FrameKind::Ip || frame.is_multicast_or_broadcast() {
            return;
        }
        if matches!(frame.protocol(), protocol::IPV4 | protocol::IPV6) {
            self.outer.push((frame.source(), frame.destination()));
            let mut inner = tunnel::with_ethernet_header(frame.transport_bytes()).expect("an IP packet is inside");
            inner[..12].copy_from_slice(&frame.bytes()[..12]);
            self.deliver(inner);
            return;
        }
        self.note(&frame);
        // The station that has the MAC address takes the frame, whatever IP address it is for.
        let station = frame.destination_mac();
        let Some((_, behaviour)) = self.behaviours.iter().find(|(address, _)| mac_of(**address) == station) else {
            return;
        };
        let behaviour = behaviour.clone();
        let macs = MacPair { source: station, destination: frame.source_mac() };
        let pair = AddressPair::new(frame.destination(), frame.source()).unwrap();
        match (frame.protocol(), &behaviour) {
            (_, Behaviour::Silent | Behaviour::Absent) => {}
            (protocol::ICMP | protocol::ICMPV6, _) => {
                let echo = Echo::parse(pair.family(), frame.transport_bytes()).expect("only echoes are sent");
                let reply = Echo { kind: EchoKind::Reply, ..echo }.frame(macs, pair);
                self.answer(reply, Duration::ZERO);
            }
            (protocol::TCP, _) => {
                let read = frame.tcp().expect("TCP");
                let transport = frame.transport_bytes();
                let payload = transport.len() - usize::from(transport[12] >> 4) * 4;
                let ports = (frame.tuple().source_port, frame.tuple().destination_port);
                if let Some(&expected) = self.held.get(&ports.0) {
                    match read.flags {
                        tcp_flags::SYN => {
                            let challenge = Reply {
                                ports: (ports.1, ports.0),
                                sequence: 9_000,
                                acknowledgement: expected,
                                flags: tcp_flags::ACK,
                                payload: Vec::new(),
                            };
                            self.answer(tcp::segment(macs, pair, &challenge.as_ref()), Duration::ZERO);
                        }
                        tcp_flags::RST if read.sequence == expected && self.lets_go => {
                            self.held.remove(&ports.0);
                        }
                        _ => {}
                    }
                    return;
                }
                for (segment, delay) in
                    respond(&behaviour, ports, read.flags, read.sequence, read.acknowledgement, payload)
                {
                    self.answer(tcp::segment(macs, pair, &segment.as_ref()), delay);
                }
            }
            (other, _) => panic!("protocol {other} is no check"),
        }
    }

    fn answer(&mut self, mut bytes: Vec<u8>, delay: Duration) {
        let frame = Frame::parse(&mut bytes, &Offload::NONE).unwrap();
        self.note(&frame);
        if delay == Duration::ZERO {
            self.local(SERVERS, bytes);
        } else {
            self.late.push((self.now + delay, bytes));
        }
    }

    fn note(&mut self, frame: &Frame<'_>) {
        self.capture.push(Seen {
            at: self.now,
            station: frame.destination_mac(),
            source: frame.source(),
            destination: frame.destination(),
            ports: (frame.tuple().source_port, frame.tuple().destination_port),
            flags: frame.tcp().map(|segment| segment.flags),
            sequence: frame.tcp().map_or(0, |segment| segment.sequence),
        });
    }

    fn asked(&mut self, arp: &Arp) {
        let target = IpAddr::V4(arp.target);
        let there = matches!(self.behaviours.get(&target), Some(behaviour) if !matches!(behaviour, Behaviour::Absent));
        if arp.operation == Operation::Request && there {
            let mac = mac_of(target);
            let reply = Arp {
                operation: Operation::Reply,
                sender_mac: mac,
                sender: arp.target,
                target_mac: arp.sender_mac,
                target: arp.sender,
            };
            self.neighbor(reply.frame(arp.sender_mac));
        }
    }

    fn neighbor(&mut self, bytes: Vec<u8>) {
        let punt = Punt {
            reason: PuntReason::Neighbor,
            link: SERVERS,
            vlan: None,
            offload: Offload::NONE,
            bytes,
            original: None,
        };
        self.controller.handle_punt(punt, self.now);
    }
}

pub(super) fn udp_to(destination: IpAddr, port: u16) -> Vec<u8> {
    let macs = MacPair { source: MacAddr([2, 0, 0, 0, 9, 9]), destination: CLIENTS_MAC };
    emit::udp(macs, AddressPair::new(client_of(destination), destination).unwrap(), 40_000, port, b"hello")
}

pub(super) fn syn_to(destination: IpAddr, port: u16) -> Vec<u8> {
    let macs = MacPair { source: MacAddr([2, 0, 0, 0, 9, 9]), destination: CLIENTS_MAC };
    let syn = Segment {
        source_port: 40_000,
        destination_port: port,
        sequence: 9,
        flags: tcp_flags::SYN,
        ..Segment::default()
    };
    tcp::segment(macs, AddressPair::new(client_of(destination), destination).unwrap(), &syn)
}

pub(super) fn ping_to(destination: IpAddr) -> Vec<u8> {
    let macs = MacPair { source: MacAddr([2, 0, 0, 0, 9, 9]), destination: CLIENTS_MAC };
    let echo = Echo { kind: EchoKind::Request, ident: 5, sequence: 6, data: b"ping" };
    echo.frame(macs, AddressPair::new(client_of(destination), destination).unwrap())
}

fn client_of(destination: IpAddr) -> IpAddr {
    match destination {
        IpAddr::V4(_) => "203.0.113.7".parse().unwrap(),
        IpAddr::V6(_) => "2001:db8:113::7".parse().unwrap(),
    }
}

/// The scheduler for tests that hash.
pub(super) fn by_source() -> Scheduler {
    Scheduler::Hash(HashOn { source_address: true, ..HashOn::default() })
}
