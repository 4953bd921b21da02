//! Tests of virtual services.

mod dead_server;
mod full_nat;
mod observed;
mod other_port;
mod translated;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::bench::{ArrivesAt, ForwarderBench};
use super::packets::{Frame, Read, ack, echo, fragments, icmp_error, read, rst, syn, syn_ack, tcp_with, udp};
use crate::engine::explain::{ArrivalPoint, explain};
use crate::engine::testbed::{self, Side};
use crate::engine::verdict::PuntReason;
use crate::engine::{DropReason, Verdict};
use crate::flow::text;
use crate::id::{FirewallId, LinkId};
use crate::nat::NatDirection;
use crate::path::OnFailure;
use crate::session::{ConversationState, TcpState};
use crate::slb::{ForwardingMode, SchedulerState, Server, Service, Services};
use crate::time::Duration;
use crate::wire::MacAddr;
use crate::wire::checksum;
use crate::wire::offload::{Gso, GsoKind, Offload, PartialChecksum};

/// The addresses of a service on the inner engine, in one family.
#[derive(Debug, Clone, Copy)]
pub struct Farm {
    pub client: SocketAddr,
    pub vip: SocketAddr,
    /// The address of the first server; those of the others follow it.
    pub server: SocketAddr,
}

pub fn farms() -> [Farm; 2] {
    let at = |text: &str| text.parse().unwrap();
    [
        Farm { client: at("198.51.100.7:40000"), vip: at("203.0.113.200:80"), server: at("203.0.113.11:8080") },
        Farm {
            client: at("[2001:db8:1::7]:40000"),
            vip: at("[2001:db8:113::c8]:80"),
            server: at("[2001:db8:113::b]:8080"),
        },
    ]
}

impl Farm {
    pub fn server(&self, number: u8) -> SocketAddr {
        let address = match self.server.ip() {
            IpAddr::V4(address) => IpAddr::V4((address.to_bits() + u32::from(number)).into()),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() + u128::from(number)).into()),
        };
        SocketAddr::new(address, self.server.port())
    }

    pub fn client(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.client.ip(), port)
    }
}

/// A service in both families with servers of these weights, all of them up.
pub fn service(state: &SchedulerState, weights: &[u16]) -> Service {
    let servers = weights.iter().zip(0..).map(|(&weight, number)| Server { weight, ..testbed::server(state, number) });
    testbed::service(state, servers)
}

/// An inner engine with one service.
pub struct Web {
    pub lab: ForwarderBench,
    pub service: Service,
}

impl Web {
    pub fn new(weights: &[u16]) -> Self {
        let state = SchedulerState::new(64);
        let mut web = Self { lab: ForwarderBench::inner(3), service: service(&state, weights) };
        web.publish();
        web
    }

    /// Changes the service in a new snapshot.
    pub fn change(&mut self, change: impl FnOnce(&mut Service)) {
        change(&mut self.service);
        self.publish();
    }

    fn publish(&mut self) {
        let snapshot = &mut self.lab.snapshot;
        snapshot.epoch += 1;
        snapshot.service_addresses = self.service.addresses.iter().copied().collect();
        snapshot.services = Services::new(vec![self.service.clone()]);
    }

    /// Lets the server fail its checks in both families.
    pub fn fell(&mut self, number: usize) {
        self.change(|service| {
            let server = &mut service.servers[number];
            server.up = [false, false];
            server.failure_counts = server.failure_counts.map(|falls| falls + 1);
        });
    }

    pub fn active(&self, number: usize) -> u64 {
        self.service.servers[number].state.active()
    }

    /// Delivers a packet of a client through a firewall that must reach a server, and returns how it does.
    #[track_caller]
    pub fn request(&mut self, frame: Frame) -> Read {
        let answer = self.lab.deliver(ArrivesAt::Firewall(1), frame);
        assert_eq!(answer.verdict, Verdict::Forward(LinkId(Side::Inner.near())));
        read_checked(&answer.bytes)
    }

    /// Delivers a packet of a server that must leave through a firewall, and returns that firewall and the packet.
    #[track_caller]
    pub fn reply(&mut self, frame: Frame) -> (u16, Read) {
        let answer = self.lab.deliver(ArrivesAt::Near, frame);
        assert_eq!(answer.verdict, Verdict::Forward(LinkId(Side::Inner.far())));
        (self.lab.firewall_of(&answer).unwrap(), read_checked(&answer.bytes))
    }
}

/// Reads a frame, and asserts that its transport checksum is right.
#[track_caller]
pub fn read_checked(bytes: &[u8]) -> Read {
    let read = read(bytes);
    if matches!(read.protocol, 6 | 17) {
        let length = read.payload.len() as u32;
        let pseudo = checksum::pseudo_header(read.source, read.destination, read.protocol, length);
        assert_eq!(checksum::add(pseudo, checksum::sum(&read.payload)), 0xffff, "transport checksum");
    }
    read
}

/// Source and destination with their ports.
pub fn ends(read: &Read) -> (SocketAddr, SocketAddr) {
    let port = |at: usize| u16::from_be_bytes([read.payload[at], read.payload[at + 1]]);
    (SocketAddr::new(read.source, port(0)), SocketAddr::new(read.destination, port(2)))
}

#[test]
fn a_connection_is_translated_to_the_server_and_back_through_the_firewall_that_brought_it() {
    for farm in farms() {
        let mut web = Web::new(&[1]);

        let request = web.request(syn(farm.client, farm.vip));
        assert_eq!(ends(&request), (farm.client, farm.server));
        assert_eq!(request.ttl, 63);
        web.lab.assert_moved([("received", 1), ("forwarded", 1), ("sessions_created", 1), ("pin_learned", 1)]);

        let (firewall, reply) = web.reply(syn_ack(farm.server, farm.client));
        assert_eq!((firewall, ends(&reply)), (1, (farm.vip, farm.client)));
        assert_eq!(ends(&web.request(ack(farm.client, farm.vip))), (farm.client, farm.server));
        web.lab.assert_moved([("received", 2), ("forwarded", 2)]);
        assert_eq!(web.active(0), 1);
        let counters = web.lab.counters().servers[0];
        assert_eq!((counters.new_sessions, counters.packets()), (1, 3));
        assert_eq!(
            (
                counters.in_direction(NatDirection::ToServer).packets,
                counters.in_direction(NatDirection::ToClient).packets
            ),
            (2, 1)
        );
    }
}

#[test]
fn a_datagram_is_translated_to_the_server_and_back() {
    for farm in farms() {
        let mut web = Web::new(&[1]);

        assert_eq!(ends(&web.request(udp(farm.client, farm.vip, 100))), (farm.client, farm.server));
        let (firewall, reply) = web.reply(udp(farm.server, farm.client, 1));
        assert_eq!((firewall, ends(&reply)), (1, (farm.vip, farm.client)));
    }
}

#[test]
fn weights_are_shares_of_the_new_connections() {
    for farm in farms() {
        let mut web = Web::new(&[3, 1]);

        let mut shares = HashMap::new();
        for port in 40000..40040 {
            let (_, server) = ends(&web.request(syn(farm.client(port), farm.vip)));
            *shares.entry(server).or_insert(0) += 1;
        }
        assert_eq!(shares, HashMap::from([(farm.server(0), 30), (farm.server(1), 10)]));
    }
}

#[test]
fn a_packet_to_a_service_that_nobody_can_serve_is_dropped_and_shown_to_the_controller() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.fell(0);

        let answer = web.lab.deliver(ArrivesAt::Firewall(1), syn(farm.client, farm.vip));
        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::NoServerUp));
        assert_eq!(web.lab.punts.taken.pop().map(|punt| punt.reason), Some(PuntReason::Local));
    }
}

#[test]
fn what_opens_no_connection_is_for_the_controller() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        for frame in [
            ack(farm.client, farm.vip),
            rst(farm.client, farm.vip),
            syn(farm.client, SocketAddr::new(farm.vip.ip(), 81)),
            echo(farm.client.ip(), farm.vip.ip(), false, 7),
        ] {
            assert_eq!(web.lab.deliver(ArrivesAt::Firewall(1), frame).verdict, Verdict::Punted);
            assert_eq!(web.lab.punts.taken.pop().map(|punt| punt.reason), Some(PuntReason::Local));
        }
        assert_eq!(web.active(0), 0);
    }
}

#[test]
fn traffic_that_is_no_services_passes_as_if_there_were_none() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        let host = farm.server(60);

        assert_eq!(ends(&web.request(syn(farm.client, host))), (farm.client, host));
        let (firewall, reply) = web.reply(syn_ack(host, farm.client));
        assert_eq!((firewall, ends(&reply)), (1, (host, farm.client)));
        assert!(web.lab.counters().servers.is_empty());
    }
}

#[test]
fn traffic_of_services_is_counted_apart_from_what_is_only_routed() {
    for farm in farms() {
        let mut web = Web::new(&[1, 1]);
        web.request(syn(farm.client, farm.vip));
        web.reply(syn_ack(farm.server, farm.client));
        web.lab.deliver(ArrivesAt::Firewall(1), syn(farm.client, farm.server(1)));

        let counters = web.lab.counters();
        let of = |wanted: &str| counters.named().find(|(name, _)| *name == wanted).expect("is published").1;
        assert_eq!((of("balanced_packets"), of("routed_packets")), (2, 1));
        assert_eq!(of("balanced_bytes"), 2 * of("routed_bytes"), "a SYN, its answer, and another SYN are of one size");
    }
}

#[test]
fn mode_direct_changes_the_hardware_address_only_and_hears_half_of_the_flow() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.change(|service| {
            service.mode = ForwardingMode::Direct;
            service.servers[0].port = None;
        });
        let mac = MacAddr([2, 0xbb, 0, 0, 0, 1]);
        web.lab.snapshot.neighbors.insert((LinkId(1), farm.server.ip()), mac);

        let original = syn(farm.client, farm.vip);
        let request = web.request(original.clone());
        assert_eq!((ends(&request), request.destination_mac), ((farm.client, farm.vip), mac));
        assert_eq!(request.payload, read(&original.bytes).payload);
        web.request(ack(farm.client, farm.vip));
        assert_eq!(web.lab.sessions()[0].state, ConversationState::Tcp(TcpState::Established));

        web.request(tcp_with(farm.client, farm.vip, 0x11, 1000, 2000, b""));
        assert_eq!(web.lab.sessions()[0].state, ConversationState::Tcp(TcpState::Closing));
        let (firewall, reply) = web.reply(ack(farm.vip, farm.client));
        assert_eq!((firewall, ends(&reply)), (1, (farm.vip, farm.client)), "a server may route its replies here");
    }
}

#[test]
fn what_a_virtual_address_answers_to_a_check_is_for_the_controller() {
    for farm in farms() {
        for mode in [ForwardingMode::Direct, ForwardingMode::Tunnel, ForwardingMode::Nat] {
            let mut web = Web::new(&[1]);
            web.change(|service| service.mode = mode);
            web.lab.deliver(ArrivesAt::Firewall(1), syn(farm.client, farm.vip));
            web.lab.transmits();
            let own = testbed::engine_addresses(Side::Inner)[0];
            let own = SocketAddr::new(if farm.vip.is_ipv4() { own.0 } else { own.1 }, 700);

            let answer = web.lab.deliver(ArrivesAt::Near, syn_ack(farm.vip, own));

            assert_eq!(answer.verdict, Verdict::Punted);
            assert_eq!(web.lab.punts.taken.pop().map(|punt| punt.reason), Some(PuntReason::Local));
            assert_eq!(web.lab.table.len(), 1);
        }
    }
}

#[test]
fn a_service_before_the_group_sends_the_translated_flow_through_one_firewall() {
    let farm = Farm {
        client: "198.51.100.7:40000".parse().unwrap(),
        vip: "198.51.100.200:80".parse().unwrap(),
        server: "203.0.113.11:8080".parse().unwrap(),
    };
    let state = SchedulerState::new(8);
    let mut web = Web { lab: ForwarderBench::outer(3), service: service(&state, &[1]) };
    web.change(|service| service.addresses = vec![farm.vip.ip()]);

    let answer = web.lab.deliver(ArrivesAt::Near, syn(farm.client, farm.vip));
    let taken = web.lab.firewall_of(&answer).unwrap();
    assert_eq!(ends(&read_checked(&answer.bytes)), (farm.client, farm.server));
    let mut plain = ForwarderBench::outer(3);
    assert_eq!(plain.send(syn(farm.client, farm.server)), taken, "the hash takes what the firewalls see");

    let answer = web.lab.deliver(ArrivesAt::Firewall(taken), syn_ack(farm.server, farm.client));
    assert_eq!(answer.verdict, Verdict::Forward(LinkId(0)));
    assert_eq!(ends(&read_checked(&answer.bytes)), (farm.vip, farm.client));
    let answer = web.lab.deliver(ArrivesAt::Near, ack(farm.client, farm.vip));
    assert_eq!(web.lab.firewall_of(&answer), Some(taken));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_two_live_flows_look_alike_to_a_server(
        full_nat in any::<bool>(),
        steps in proptest::collection::vec((0_u16..6, 0_u8..3, any::<bool>(), 0_u8..20), 1..60),
    ) {
        let [farm, _] = farms();
        let mut web = Web::new(&[1, 1]);
        let vips = [farm.vip, SocketAddr::new(farm.server(100).ip(), 80), SocketAddr::new(farm.server(101).ip(), 80)];
        web.change(|service| {
            service.mode = if full_nat { ForwardingMode::FullNat } else { ForwardingMode::Nat };
            service.addresses = vips.iter().map(SocketAddr::ip).collect();
        });
        for (port, vip, is_tcp, pause) in steps {
            let (client, vip) = (farm.client(40000 + port), vips[usize::from(vip)]);
            let frame = if is_tcp { syn(client, vip) } else { udp(client, vip, 8) };
            web.lab.deliver(ArrivesAt::Firewall(1), frame);
            web.lab.wait(Duration::from_secs(u64::from(pause)));

            let mut legs = HashSet::new();
            let mut live = 0;
            web.lab.table.for_each(|_, _, bound| {
                live += 1;
                legs.insert(bound.expect("every flow is a service's").inside.expect("it is translated"));
                true
            });
            prop_assert_eq!(legs.len(), live);
            prop_assert_eq!(web.active(0) + web.active(1), live as u64);
        }
    }
}

#[test]
fn what_is_explained_of_a_service_is_what_happens_and_costs_nobody_a_turn() {
    for farm in farms() {
        let mut web = Web::new(&[1, 1]);
        let told = |web: &Web, source: SocketAddr, destination: SocketAddr| {
            let flow = text::parse(&format!("tcp {source} {destination}")).unwrap();
            explain(
                "inner",
                &web.lab.snapshot,
                &web.lab.table,
                &flow,
                Some(ArrivalPoint::Firewall(FirewallId(1))),
                web.lab.now,
            )
        };
        let translated = |source: SocketAddr, destination| format!("tcp {source} {destination}");
        let shown = |text: &str| Some(text::format(&text::parse(text).unwrap()));

        for _ in 0..2 {
            let first = told(&web, farm.client, farm.vip);
            assert_eq!(first.decided_by.name(), "service");
            assert_eq!((first.service.as_deref(), first.server.as_deref()), (Some("web"), Some("s1")));
            assert_eq!(first.translation, shown(&translated(farm.client, farm.server)));
            assert_eq!(first.egress.and_then(|egress| egress.next_hop), Some(farm.server.ip().to_string()));
        }
        assert_eq!(ends(&web.request(syn(farm.client, farm.vip))).1, farm.server(0));

        let next = told(&web, farm.client, farm.vip);
        assert_eq!((next.decided_by.name(), next.server.as_deref()), ("session", Some("s1")));
        let flow = text::parse(&translated(farm.server, farm.client)).unwrap();
        let reply = explain("inner", &web.lab.snapshot, &web.lab.table, &flow, None, web.lab.now);
        assert_eq!((reply.decided_by.name(), reply.firewall.as_deref()), ("session", Some("fw2")));
        assert_eq!(reply.translation, shown(&translated(farm.vip, farm.client)));

        assert_eq!(told(&web, farm.client(40001), farm.vip).server.as_deref(), Some("s2"));
        web.lab.deliver(ArrivesAt::Near, syn(farm.client(40002), farm.vip));
        let flow = text::parse(&translated(farm.client(40002), farm.vip)).unwrap();
        let near = ArrivalPoint::Link(LinkId(Side::Inner.near()));
        let known = explain("inner", &web.lab.snapshot, &web.lab.table, &flow, Some(near), web.lab.now);
        assert_eq!((known.decided_by.name(), known.firewall), ("session", None), "no firewall is on the way");
        web.fell(0);
        web.fell(1);
        assert_eq!(told(&web, farm.client(40001), farm.vip).drop.as_deref(), Some("drop_no_server_up"));
        assert_eq!(told(&web, farm.client, farm.vip).drop.as_deref(), Some("drop_server_failed"));
        let closed = SocketAddr::new(farm.vip.ip(), 81);
        assert_eq!(told(&web, farm.client, closed).decided_by.name(), "local");
    }
}
