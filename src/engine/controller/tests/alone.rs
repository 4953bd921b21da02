//! One controller on its links: what it sends, answers, refuses and publishes. Every frame is read by a second parser.

mod answers;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pnet_packet::Packet;
use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use pnet_packet::icmp::{self, IcmpPacket};
use pnet_packet::icmpv6::{self, Icmpv6Packet};
use pnet_packet::ipv4::{self, Ipv4Packet};
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::tcp::{self, TcpFlags, TcpPacket};
use proptest::prelude::*;

use super::config;
use crate::engine::controller::{Controller, DeviceState, Event};
use crate::engine::route::{FibEntry, NextHop};
use crate::engine::verdict::{IcmpError, Punt, PuntReason, Transmit};
use crate::id::{DeviceId, FirewallId, LinkId, PathSetId, PeerId};
use crate::time::{Duration, Instant};
use crate::wire::arp::{self, Arp, Operation};
use crate::wire::emit::{self, AddressPair, MacPair};
use crate::wire::fragment;
use crate::wire::frame::{Frame, tcp_flags};
use crate::wire::icmp::{Echo, EchoKind};
use crate::wire::offload::{Offload, PartialChecksum};
use crate::wire::tcp::{self as segments, Segment};
use crate::wire::vlan::VlanTag;
use crate::wire::{Family, MacAddr, ndp, probe};

const TEXT: &str = r#"
[engine]
name = "outer"
[[link]]
name = "clients"
device = "eth0"
vlan = 100
addresses = ["198.51.100.1/24", "2001:db8:1::1/64"]
[[link]]
name = "firewalls"
device = "eth1"
addresses = ["10.1.0.1/24", "fd00:1::1/64"]
[[route]]
to = "default"
via = "198.51.100.254"
[[route]]
to = ["203.0.113.0/24", "2001:db8:113::/64"]
group = "perimeter"
peer = "inner"
firewall = "fw2"
[[group]]
name = "perimeter"
seed = "a secret of both"
[[group.peer]]
name = "inner"
addresses = ["10.2.0.1", "fd00:2::1"]
[[group.firewall]]
name = "fw1"
link = "firewalls"
addresses = ["10.1.0.11", "fd00:1::11"]
[[group.firewall]]
name = "fw2"
link = "firewalls"
addresses = ["10.1.0.12", "fd00:1::12"]
"#;
const CLIENTS: LinkId = LinkId(0);
const FIREWALLS: LinkId = LinkId(1);
const CLIENTS_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const FIREWALLS_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);
const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const OWN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// A controller with a clock.
struct Engine {
    controller: Controller,
    now: Instant,
}

impl Engine {
    /// An engine with both links up, whose frames and events so far were taken.
    fn up() -> Self {
        let mut engine = Self::down();
        engine.device(0, Some((CLIENTS_MAC, true)));
        engine.device(1, Some((FIREWALLS_MAC, true)));
        engine.sent();
        engine.events();
        engine
    }

    fn down() -> Self {
        let now = Instant::from_millis(1_000);
        Self { controller: Controller::new(config(TEXT), 42, now), now }
    }

    fn device(&mut self, device: u16, state: Option<(MacAddr, bool)>) {
        let state = state.map(|(mac, up)| DeviceState { mac, mtu: 1500, up });
        self.controller.handle_device(DeviceId(device), state, self.now);
    }

    fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.controller.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.controller.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn punt(&mut self, reason: PuntReason, link: LinkId, bytes: Vec<u8>) -> Vec<Transmit> {
        self.punt_with(reason, link, bytes, Offload::NONE)
    }

    fn punt_with(&mut self, reason: PuntReason, link: LinkId, bytes: Vec<u8>, offload: Offload) -> Vec<Transmit> {
        self.sent();
        self.controller.handle_punt(Punt { reason, link, vlan: None, offload, bytes, original: None }, self.now);
        self.sent()
    }

    fn local(&mut self, link: LinkId, bytes: Vec<u8>) -> Vec<Transmit> {
        self.punt(PuntReason::Local, link, bytes)
    }

    fn neighbor(&mut self, link: LinkId, bytes: Vec<u8>) -> Vec<Transmit> {
        self.punt(PuntReason::Neighbor, link, bytes)
    }

    fn sent(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.controller.poll_transmit()).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.controller.poll_event()).collect()
    }

    fn counter(&self, name: &str) -> u64 {
        self.controller.counters()[name]
    }

    fn alarms(&self) -> Vec<String> {
        self.controller.alarms(self.now).into_iter().map(|alarm| alarm.kind.name().to_owned()).collect()
    }

    /// Lets fw1 answer ARP.
    fn resolve_fw1(&mut self) -> MacAddr {
        let mac = MacAddr([2, 0, 0, 1, 0, 1]);
        self.neighbor(
            FIREWALLS,
            arp_reply(mac, Ipv4Addr::new(10, 1, 0, 11), Ipv4Addr::new(10, 1, 0, 1), FIREWALLS_MAC),
        );
        mac
    }
}

fn arp_reply(mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr, target_mac: MacAddr) -> Vec<u8> {
    Arp { operation: Operation::Reply, sender_mac: mac, sender, target_mac, target }.frame(target_mac)
}

fn macs(source: MacAddr, destination: MacAddr) -> MacPair {
    MacPair { source, destination }
}

fn pair(source: &str, destination: &str) -> AddressPair {
    AddressPair::new(source.parse().unwrap(), destination.parse().unwrap()).unwrap()
}

fn ping(data: &[u8]) -> Echo<'_> {
    Echo { kind: EchoKind::Request, ident: 5, sequence: 6, data }
}

/// The only frame that was sent, with the tag of its link.
fn only(sent: &[Transmit]) -> &[u8] {
    let [transmit] = sent else { panic!("{} frames", sent.len()) };
    assert_eq!(transmit.vlan, (transmit.link == CLIENTS).then(|| VlanTag::new(100)));
    assert_eq!(transmit.offload, Offload::NONE);
    &transmit.bytes
}

fn station(frame: &[u8]) -> MacAddr {
    MacAddr(EthernetPacket::new(frame).unwrap().get_destination().octets())
}

/// ICMP type, code and quoted bytes of an IPv4 packet, with both checksums verified.
fn icmp_v4(frame: &[u8]) -> (Ipv4Addr, Ipv4Addr, u8, u8, Vec<u8>) {
    let ip = Ipv4Packet::new(&frame[14..]).unwrap();
    assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
    let message = IcmpPacket::new(ip.payload()).unwrap();
    assert_eq!(message.get_checksum(), icmp::checksum(&message));
    let (kind, code) = (message.get_icmp_type().0, message.get_icmp_code().0);
    (ip.get_source(), ip.get_destination(), kind, code, ip.payload()[8..].to_vec())
}

fn icmp_v6(frame: &[u8]) -> (Ipv6Addr, Ipv6Addr, u8, u8) {
    let ip = Ipv6Packet::new(&frame[14..]).unwrap();
    let message = Icmpv6Packet::new(ip.payload()).unwrap();
    assert_eq!(message.get_checksum(), icmpv6::checksum(&message, &ip.get_source(), &ip.get_destination()));
    (ip.get_source(), ip.get_destination(), message.get_icmpv6_type().0, message.get_icmpv6_code().0)
}

#[test]
fn a_link_that_comes_up_is_announced_three_times_and_its_firewalls_are_asked_for() {
    let mut engine = Engine::down();
    assert!(engine.sent().is_empty());

    engine.device(1, Some((FIREWALLS_MAC, true)));

    let local = ndp::link_local(FIREWALLS_MAC);
    let frames: Vec<Vec<u8>> = engine.sent().into_iter().map(|transmit| transmit.bytes).collect();
    let announcements = [
        arp::announcement(FIREWALLS_MAC, Ipv4Addr::new(10, 1, 0, 1)),
        ndp::announcement(FIREWALLS_MAC, "fd00:1::1".parse().unwrap()),
        ndp::announcement(FIREWALLS_MAC, local),
    ];
    for announcement in &announcements {
        assert!(frames.contains(announcement));
    }
    assert!(frames.contains(&arp::request(
        FIREWALLS_MAC,
        Ipv4Addr::new(10, 1, 0, 1),
        Ipv4Addr::new(10, 1, 0, 11),
        None
    )));
    let report = frames.iter().find(|frame| frame[12..14] == [0x86, 0xdd] && frame[20] == 0).expect("listener report");
    assert_eq!(Ipv6Packet::new(&report[14..]).unwrap().get_source(), local);

    engine.wait(Duration::from_secs(10));
    let frames = engine.sent();
    let again = frames.iter().filter(|transmit| transmit.bytes == announcements[0]).count();
    assert_eq!(again, 2);
}

#[test]
fn questions_for_own_addresses_are_answered_and_the_asker_is_remembered() {
    let mut engine = Engine::up();

    let sent = engine.neighbor(CLIENTS, arp::request(HOST, HOST_ADDRESS, OWN, None));
    let ethernet = EthernetPacket::new(only(&sent)).unwrap();
    assert_eq!((ethernet.get_ethertype(), station(only(&sent))), (EtherTypes::Arp, HOST));
    assert_eq!(engine.controller.snapshot().neighbor(CLIENTS, HOST_ADDRESS.into()), Some(HOST));

    let asker: Ipv6Addr = "2001:db8:1::7".parse().unwrap();
    for own in ["2001:db8:1::1".parse().unwrap(), ndp::link_local(CLIENTS_MAC)] {
        let sent = engine.neighbor(CLIENTS, ndp::solicitation(HOST, asker, own, None));
        let answer = sent.iter().find(|transmit| station(&transmit.bytes) == HOST).expect("an answer");
        assert_eq!(icmp_v6(&answer.bytes), (own, asker, 136, 0));
    }

    let other = arp::request(HOST, HOST_ADDRESS, Ipv4Addr::new(198, 51, 100, 99), None);
    assert!(engine.neighbor(CLIENTS, other).is_empty(), "not ours");
}

#[test]
fn probes_for_own_addresses_and_duplicate_address_detection_are_answered() {
    let mut engine = Engine::up();
    let sent = engine.neighbor(CLIENTS, arp::request(HOST, Ipv4Addr::UNSPECIFIED, OWN, None));
    assert_eq!(station(only(&sent)), HOST);

    let own: Ipv6Addr = "2001:db8:1::1".parse().unwrap();
    let sent = engine.neighbor(CLIENTS, ndp::duplicate_address_probe(HOST, own));
    assert_eq!(icmp_v6(only(&sent)), (own, ndp::ALL_NODES, 136, 0));
}

#[test]
fn an_address_that_somebody_else_claims_is_defended_and_alarmed_but_not_often() {
    let mut engine = Engine::up();
    let claim = arp::announcement(HOST, OWN);
    let sent = engine.neighbor(CLIENTS, claim.clone());
    assert_eq!(only(&sent), arp::announcement(CLIENTS_MAC, OWN));
    assert!(engine.alarms().contains(&"duplicate_address".to_owned()));
    for _ in 0..100 {
        assert!(engine.neighbor(CLIENTS, claim.clone()).is_empty());
    }
    assert_eq!(engine.counter("duplicate_address"), 101);
    assert_eq!(engine.controller.snapshot().neighbor(CLIENTS, OWN.into()), None, "it is not learned");

    engine.wait(Duration::from_secs(75));
    assert!(!engine.alarms().contains(&"duplicate_address".to_owned()));
}

#[test]
fn forged_neighbours_fill_nothing() {
    let mut engine = Engine::up();
    engine.neighbor(CLIENTS, arp::request(HOST, Ipv4Addr::new(192, 0, 2, 9), OWN, None));
    assert_eq!(engine.counter("punt_drop_off_link"), 1);
    let gratuitous = arp_reply(HOST, HOST_ADDRESS, HOST_ADDRESS, MacAddr::BROADCAST);
    engine.neighbor(CLIENTS, gratuitous);
    assert_eq!(engine.controller.snapshot().neighbor(CLIENTS, HOST_ADDRESS.into()), None);
    let mut forged = ndp::announcement(HOST, "2001:db8:1::9".parse().unwrap());
    forged[21] = 64;
    engine.neighbor(CLIENTS, forged);
    assert_eq!(engine.counter("punt_drop_nd"), 1);
}

#[test]
fn a_frame_waits_for_its_neighbour_and_leaves_as_it_was_parked() {
    let mut engine = Engine::up();
    let frame = emit::udp(macs(CLIENTS_MAC, MacAddr::default()), pair("203.0.113.9", "198.51.100.7"), 1, 2, b"data");
    let tag = VlanTag { tpid: 0x8100, tci: 0x6064 };
    let offload = Offload { partial: Some(PartialChecksum { start: 34, offset: 6 }), ..Offload::NONE };
    let reason = PuntReason::NeighborWait { link: CLIENTS, next_hop: HOST_ADDRESS.into(), sender: HOST };
    engine.controller.handle_punt(
        Punt { reason, link: FIREWALLS, vlan: Some(tag), offload, bytes: frame.clone(), original: None },
        engine.now,
    );
    assert_eq!(only(&engine.sent()), arp::request(CLIENTS_MAC, OWN, HOST_ADDRESS, None));

    let sent = engine.neighbor(CLIENTS, arp_reply(HOST, HOST_ADDRESS, OWN, CLIENTS_MAC));

    let [transmit] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((transmit.link, transmit.vlan, transmit.offload), (CLIENTS, Some(tag), offload));
    assert_eq!((station(&transmit.bytes), &transmit.bytes[6..]), (HOST, &frame[6..]));
}

#[test]
fn a_neighbour_that_does_not_answer_is_reported_to_where_the_frame_came_from() {
    let mut engine = Engine::up();
    let firewall = MacAddr([2, 0, 0, 1, 0, 1]);
    let frame = emit::udp(macs(CLIENTS_MAC, MacAddr::default()), pair("203.0.113.9", "198.51.100.7"), 1, 2, b"data");
    let reason = PuntReason::NeighborWait { link: CLIENTS, next_hop: HOST_ADDRESS.into(), sender: firewall };
    engine.punt(reason, FIREWALLS, frame.clone());

    engine.wait(Duration::from_millis(3_500));

    let sent = engine.sent();
    let errors: Vec<_> = sent.iter().filter(|transmit| station(&transmit.bytes) == firewall).collect();
    let [error] = &errors[..] else { panic!("{} errors", errors.len()) };
    assert_eq!(error.link, FIREWALLS);
    let (source, destination, kind, code, quoted) = icmp_v4(&error.bytes);
    assert_eq!((source, destination), (Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(203, 0, 113, 9)));
    assert_eq!((kind, code, quoted), (3, 1, frame[14..].to_vec()));
    assert_eq!(engine.counter("punt_drop_neighbor_failed"), 1);
}

#[test]
fn a_silent_neighbour_of_a_changed_packet_is_reported_as_the_sender_knows_the_packet() {
    let mut engine = Engine::up();
    let firewall = MacAddr([2, 0, 0, 1, 0, 1]);
    let sent = emit::udp(macs(firewall, MacAddr::default()), pair("203.0.113.9", "192.0.2.80"), 1, 2, b"data");
    let bytes = emit::udp(macs(CLIENTS_MAC, MacAddr::default()), pair("198.51.100.1", "198.51.100.7"), 9, 2, b"data");
    let reason = PuntReason::NeighborWait { link: CLIENTS, next_hop: HOST_ADDRESS.into(), sender: firewall };
    let original = Some(sent.clone());
    let punt = Punt { reason, link: FIREWALLS, vlan: None, offload: Offload::NONE, bytes, original };
    engine.controller.handle_punt(punt, engine.now);

    engine.wait(Duration::from_millis(3_500));

    let errors = engine.sent().into_iter().filter(|transmit| station(&transmit.bytes) == firewall).collect::<Vec<_>>();
    let [error] = &errors[..] else { panic!("{} errors", errors.len()) };
    let (_, destination, kind, code, quoted) = icmp_v4(&error.bytes);
    assert_eq!((destination, kind, code), (Ipv4Addr::new(203, 0, 113, 9), 3, 1));
    assert_eq!(quoted, sent[14..]);
}

#[test]
fn the_snapshot_says_what_forwarders_need() {
    let mut engine = Engine::up();
    let firewall = engine.resolve_fw1();
    let snapshot = engine.controller.snapshot();

    assert_eq!(snapshot.link_of(DeviceId(0), 100), Some(CLIENTS));
    assert_eq!(snapshot.link_of(DeviceId(1), 0), Some(FIREWALLS));
    let link = &snapshot.links[CLIENTS.index()];
    assert_eq!(
        (link.mac, link.mtu, link.up, link.has_firewalls, link.sole_firewall),
        (CLIENTS_MAC, 1500, true, false, None)
    );
    assert!(snapshot.links[FIREWALLS.index()].has_firewalls);
    assert_eq!(snapshot.firewall_at(FIREWALLS, firewall), Some(FirewallId(0)));
    assert_eq!(snapshot.own_addresses.get(&OWN.into()), Some(&CLIENTS));
    assert_eq!(snapshot.own_addresses.get(&ndp::link_local(FIREWALLS_MAC).into()), Some(&FIREWALLS));
    let lookup = |address: &str| snapshot.routes.lookup(address.parse().unwrap());
    assert_eq!(lookup("198.51.100.7"), Some(FibEntry::Connected(CLIENTS)));
    let gateway = NextHop { link: CLIENTS, address: "198.51.100.254".parse().unwrap() };
    assert_eq!(lookup("8.8.8.8"), Some(FibEntry::Via(gateway)));
    assert_eq!(lookup("2001:db8:ffff::1"), None);
    let Some(FibEntry::Group { set, preferred, bypass: None }) = lookup("2001:db8:113::80") else { panic!("no group") };
    let set = &snapshot.path_sets[PathSetId::index(set)];
    assert_eq!((set.peer, set.family, preferred), (Some(PeerId(0)), Family::V6, Some(FirewallId(1))));
    assert_eq!(snapshot.path_sets.len(), 4);
}

#[test]
fn one_call_publishes_at_most_once_and_only_for_a_reason() {
    let mut engine = Engine::up();
    let published =
        |engine: &mut Engine| engine.events().into_iter().filter(|event| matches!(event, Event::Publish(_))).count();
    engine.resolve_fw1();
    assert_eq!(published(&mut engine), 1);
    engine.resolve_fw1();
    engine.local(CLIENTS, ping(b"x").frame(macs(HOST, CLIENTS_MAC), pair("198.51.100.7", "198.51.100.1")));
    assert_eq!(published(&mut engine), 0);
    engine.device(0, Some((CLIENTS_MAC, true)));
    assert_eq!(published(&mut engine), 0, "nothing changed");
    engine.device(0, Some((HOST, true)));
    assert_eq!(published(&mut engine), 1);
}

#[test]
fn two_firewalls_with_one_mac_are_alarmed() {
    let mut engine = Engine::up();
    let mac = engine.resolve_fw1();
    assert!(!engine.alarms().contains(&"firewalls_share_mac".to_owned()));
    engine.neighbor(FIREWALLS, arp_reply(mac, Ipv4Addr::new(10, 1, 0, 12), Ipv4Addr::new(10, 1, 0, 1), FIREWALLS_MAC));
    assert!(engine.alarms().contains(&"firewalls_share_mac".to_owned()));
}

#[test]
fn a_listener_query_is_answered_with_every_group() {
    let mut engine = Engine::up();
    let router = ndp::link_local(HOST);
    let query = emit::ip(
        macs(HOST, ndp::multicast_mac(ndp::ALL_NODES)),
        AddressPair::V6(router, ndp::ALL_NODES),
        0,
        1,
        36,
        |bytes| {
            bytes[..8].copy_from_slice(&[58, 0, 5, 2, 0, 0, 1, 0]);
            bytes[8] = 130;
            smoltcp::wire::Icmpv6Packet::new_unchecked(&mut bytes[8..]).fill_checksum(&router, &ndp::ALL_NODES);
        },
    );
    let sent = engine.neighbor(FIREWALLS, query);
    let report = Ipv6Packet::new(&only(&sent)[14..]).unwrap();
    assert_eq!(report.payload()[8], 143);
    assert_eq!(report.payload()[15], 2, "the configured and the link-local address");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn no_frame_makes_it_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        kind in 0_usize..4,
        like in 0_usize..5,
        flip in any::<prop::sample::Index>(),
    ) {
        let ends = pair("198.51.100.7", "198.51.100.1");
        let samples = [
            bytes.clone(),
            ping(b"data").frame(macs(HOST, CLIENTS_MAC), ends),
            arp::request(HOST, HOST_ADDRESS, OWN, None),
            ndp::solicitation(HOST, "2001:db8:1::7".parse().unwrap(), "2001:db8:1::1".parse().unwrap(), None),
            emit::udp(macs(HOST, CLIENTS_MAC), ends, 1, 2, b"datagram"),
        ];
        if like > 0 {
            let fill = bytes.first().copied().unwrap_or(1);
            bytes = samples[like].clone();
            let at = flip.index(bytes.len());
            bytes[at] ^= fill;
        }
        let next_hop = HOST_ADDRESS.into();
        let reasons = [
            PuntReason::Neighbor,
            PuntReason::Local,
            PuntReason::NeighborWait { link: CLIENTS, next_hop, sender: HOST },
            PuntReason::IcmpError(IcmpError::TimeExceeded),
        ];
        let mut engine = Engine::up();
        engine.punt(reasons[kind], CLIENTS, bytes);
        engine.wait(Duration::from_secs(4));
    }
}
