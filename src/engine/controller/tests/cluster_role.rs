//! What a node answers, announces and asks on its links, by its role.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::config;
use crate::config::Config;
use crate::config::testing::PAIR;
use crate::engine::controller::{ClusterRole, Controller, DeviceState};
use crate::engine::verdict::{IcmpError, Punt, PuntReason, Transmit};
use crate::ha::{Forwarding, NodeId, Role, RoleWord, WitnessReport};
use crate::id::{DeviceId, LinkId};
use crate::time::{Duration, Instant};
use crate::wire::arp::{self, Arp, Operation};
use crate::wire::emit::{self, AddressPair, MacPair};
use crate::wire::icmp::{Echo, EchoKind};
use crate::wire::offload::Offload;
use crate::wire::probe::{ClusterReport, NodeReport, Probe, ReportedRole};
use crate::wire::{Family, MacAddr, ndp, vrrp};

const SERVICE: &str = r#"
[[service]]
name = "web"
address = "198.51.100.80"
protocol = "tcp"
port = 80
mode = "full-nat"
[[service.server]]
name = "s1"
address = "203.0.113.11"
"#;
/// The first node of a pair, with a service on its near side.
fn pair() -> Config {
    config(&format!("{PAIR}{SERVICE}"))
}

const INTERNET: LinkId = LinkId(0);
const FIREWALLS: LinkId = LinkId(1);
const OWN_MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);
const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const OWN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const OWN_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const FW1: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);
const FW1_MAC: MacAddr = MacAddr([2, 0, 0, 1, 0, 1]);
const FLOATING: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 80);
const ROUTER: MacAddr = vrrp::virtual_mac(Family::V4, 51);
const ROUTER6: MacAddr = vrrp::virtual_mac(Family::V6, 51);

struct Node {
    controller: Controller,
    now: Instant,
}

impl Node {
    /// A standby whose links are up, and what it has sent since it started.
    fn started() -> (Self, Vec<Transmit>) {
        Self::with(pair())
    }

    fn with(config: Config) -> (Self, Vec<Transmit>) {
        let now = Instant::from_millis(1_000);
        let mut node = Self { controller: Controller::new(config, 42, now), now };
        for (device, mac) in OWN_MACS.into_iter().enumerate() {
            node.controller.handle_device(DeviceId::from(device), Some(DeviceState { mac, mtu: 1500, up: true }), now);
        }
        let sent = node.sent();
        (node, sent)
    }

    fn standby() -> Self {
        Self::started().0
    }

    fn active() -> Self {
        let mut node = Self::standby();
        node.become_(Role::Active, Forwarding::Router, Instant::from_nanos(u64::MAX));
        node.sent();
        node
    }

    fn become_(&mut self, role: Role, forwarding: Forwarding, until: Instant) {
        let word = RoleWord { role, forwarding, until };
        self.controller.shared_role().expect("a node has a role").store(word);
        self.controller.set_role(word, self.now);
    }

    fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.controller.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.controller.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn sent(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.controller.poll_transmit()).collect()
    }

    fn punt(&mut self, reason: PuntReason, link: LinkId, bytes: Vec<u8>) -> Vec<Transmit> {
        self.sent();
        let punt = Punt { reason, link, vlan: None, offload: Offload::NONE, bytes, original: None };
        self.controller.handle_punt(punt, self.now);
        self.sent()
    }

    /// The MAC address that an ARP request for `address` is answered with.
    fn answer(&mut self, address: Ipv4Addr) -> Option<MacAddr> {
        let question = arp::request(HOST, HOST_ADDRESS, address, None);
        let sent = self.punt(PuntReason::Neighbor, INTERNET, question);
        let replies = sent.iter().filter_map(|sent| Arp::parse(&sent.bytes).ok());
        let replies: Vec<_> = replies.filter(|arp| arp.operation == Operation::Reply).collect();
        assert!(replies.len() <= 1 && replies.iter().all(|arp| arp.sender == address));
        let frame = sent.iter().find(|sent| Arp::parse(&sent.bytes).is_ok_and(|arp| arp.operation == Operation::Reply));
        assert_eq!(frame.map(|frame| source(&frame.bytes)), replies.first().map(|arp| arp.sender_mac));
        replies.first().map(|arp| arp.sender_mac)
    }

    fn answer6(&mut self, address: &str) -> Option<MacAddr> {
        let (asker, target): (Ipv6Addr, Ipv6Addr) = ("2001:db8:1::7".parse().unwrap(), address.parse().unwrap());
        let sent = self.punt(PuntReason::Neighbor, INTERNET, ndp::solicitation(HOST, asker, target, None));
        sent.iter().find(|sent| sent.bytes[..6] == HOST.0).map(|sent| source(&sent.bytes))
    }

    /// `address` answers a request of the node on `link`.
    fn resolve(&mut self, link: LinkId, address: Ipv4Addr, mac: MacAddr) {
        let (target_mac, target) = (OWN_MACS[link.index()], if link == INTERNET { OWN } else { OWN_INSIDE });
        let reply = Arp { operation: Operation::Reply, sender_mac: mac, sender: address, target_mac, target };
        self.punt(PuntReason::Neighbor, link, reply.frame(target_mac));
    }

    /// A probe of inner-a comes through fw1.
    fn hear_probe(&mut self, source: Ipv4Addr, sequence: u64, cluster: ClusterReport) {
        let seed = pair().groups[0].seed;
        let probe = Probe {
            epoch: 1,
            sequence,
            nonce: 1,
            digest: 1,
            engine: "inner-a".to_owned(),
            version: "1".to_owned(),
            group: "perimeter".to_owned(),
            firewalls: Vec::new(),
            cluster: Some(cluster),
            supports_notes: false,
            notes: Vec::new(),
        };
        let payload = probe.encode(|bytes| seed.digest(bytes));
        let pair = AddressPair::new(source.into(), OWN_INSIDE.into()).unwrap();
        let echo = Echo { kind: EchoKind::Request, ident: 1, sequence: 1, data: &payload };
        let macs = MacPair { source: FW1_MAC, destination: OWN_MACS[1] };
        self.punt(PuntReason::Local, FIREWALLS, echo.frame(macs, pair));
    }

    fn alarms(&self) -> Vec<String> {
        self.controller.alarms(self.now).into_iter().map(|alarm| alarm.kind.name().to_owned()).collect()
    }
}

fn source(frame: &[u8]) -> MacAddr {
    MacAddr(frame[6..12].try_into().unwrap())
}

fn count(sent: &[Transmit], frame: &[u8]) -> usize {
    sent.iter().filter(|sent| sent.bytes == frame).count()
}

#[test]
fn a_standby_announces_and_answers_for_its_own_addresses_alone() {
    let (mut node, sent) = Node::started();
    assert_eq!(count(&sent, &arp::announcement(OWN_MACS[0], OWN)), 1);
    assert!(sent.iter().all(|sent| OWN_MACS.contains(&source(&sent.bytes))), "switches would turn the port");

    assert_eq!((node.answer(OWN), node.answer(FLOATING), node.answer(VIP)), (Some(OWN_MACS[0]), None, None));
    assert_eq!((node.answer6("2001:db8:1::2"), node.answer6("2001:db8:1::1")), (Some(OWN_MACS[0]), None));
    node.wait(Duration::from_secs(120));
    let sent = node.sent();
    assert!(sent.iter().all(|sent| OWN_MACS.contains(&source(&sent.bytes))));
}

#[test]
fn a_takeover_is_announced_on_every_link_at_once_and_the_vips_follow() {
    let mut node = Node::standby();
    node.become_(Role::Active, Forwarding::Router, Instant::from_nanos(u64::MAX));
    let sent = node.sent();
    for (link, v4, v6) in [(INTERNET, "198.51.100.1", "2001:db8:1::1"), (FIREWALLS, "10.1.0.1", "fd00:1::1")] {
        let here: Vec<Transmit> = sent.iter().filter(|sent| sent.link == link).cloned().collect();
        assert_eq!(count(&here, &arp::announcement(ROUTER, v4.parse().unwrap())), 1);
        assert_eq!(count(&here, &ndp::announcement(ROUTER6, v6.parse().unwrap())), 1);
        let local: Ipv6Addr = "fe80::9568:51".parse().unwrap();
        assert_eq!(count(&here, &ndp::announcement(ROUTER6, local)), 1);
        let reports = here.iter().filter(|sent| sent.bytes[12..14] == [0x86, 0xdd] && sent.bytes[20] == 0);
        let from_router = reports.filter(|sent| source(&sent.bytes) == ROUTER6).count();
        assert_eq!(from_router, 1, "switches that watch MLD learn the port of the groups");
    }
    node.wait(Duration::from_millis(2));
    let later = [sent, node.sent()].concat();
    assert_eq!(count(&later, &arp::announcement(ROUTER, VIP)), 1);

    assert_eq!(
        (node.answer(OWN), node.answer(FLOATING), node.answer(VIP)),
        (Some(OWN_MACS[0]), Some(ROUTER), Some(ROUTER))
    );
    assert_eq!((node.answer6("2001:db8:1::1"), node.answer6("2001:db8:1::2")), (Some(ROUTER6), Some(OWN_MACS[0])));
    let before = count(&node.sent(), &arp::announcement(ROUTER, FLOATING));
    node.controller.announce_floating(node.now);
    assert_eq!((before, count(&node.sent(), &arp::announcement(ROUTER, FLOATING))), (0, 1));
}

#[test]
fn a_node_that_gives_its_role_away_or_outlives_its_lease_answers_no_more() {
    let mut node = Node::active();
    node.become_(Role::Leaving, Forwarding::Lingering, Instant::from_nanos(u64::MAX));
    assert_eq!((node.answer(FLOATING), node.answer(OWN)), (None, Some(OWN_MACS[0])));
    node.controller.announce_floating(node.now);
    assert!(node.sent().is_empty(), "it has nothing to announce");

    let mut node = Node::standby();
    node.become_(Role::Active, Forwarding::Router, node.now + Duration::from_millis(75));
    assert_eq!(node.answer(FLOATING), Some(ROUTER));
    node.now += Duration::from_millis(75);
    assert_eq!(node.answer(FLOATING), None, "without the thread of the role machine, too");
}

#[test]
fn what_the_active_node_says_about_floating_addresses_is_no_conflict_and_its_questions_are_answered() {
    let mut node = Node::standby();
    for bytes in [
        arp::announcement(ROUTER, FLOATING),
        arp::announcement(ROUTER, VIP),
        ndp::announcement(ROUTER6, "2001:db8:1::1".parse().unwrap()),
    ] {
        assert!(node.punt(PuntReason::Neighbor, INTERNET, bytes).is_empty());
    }
    let sent = node.punt(PuntReason::Neighbor, INTERNET, arp::request(ROUTER, FLOATING, OWN, None));
    let [reply] = sent.as_slice() else { panic!("{} frames", sent.len()) };
    let reply = Arp::parse(&reply.bytes).unwrap();
    assert_eq!((reply.sender, reply.sender_mac, reply.target_mac), (OWN, OWN_MACS[0], ROUTER));
    assert!(!node.alarms().contains(&"duplicate_address".to_owned()));

    let mut node = Node::active();
    node.punt(PuntReason::Neighbor, INTERNET, arp::announcement(HOST, FLOATING));
    assert!(node.alarms().contains(&"duplicate_address".to_owned()), "a stranger claims it");
}

#[test]
fn questions_come_from_the_own_address_of_a_standby_and_the_floating_one_of_the_active_node() {
    let gateway = Ipv4Addr::new(198, 51, 100, 254);
    let gateway6: Ipv6Addr = "2001:db8:1::254".parse().unwrap();
    let mut node = Node::standby();
    node.controller.ask_neighbors(node.now);
    let sent = node.sent();
    assert_eq!(count(&sent, &arp::request(OWN_MACS[0], OWN, gateway, None)), 1);
    assert_eq!(count(&sent, &arp::request(OWN_MACS[1], OWN_INSIDE, FW1, None)), 1);

    let mut node = Node::active();
    node.controller.ask_neighbors(node.now);
    let sent = node.sent();
    assert_eq!(count(&sent, &arp::request(ROUTER, FLOATING, gateway, None)), 1);
    let floating6 = "2001:db8:1::1".parse().unwrap();
    assert_eq!(count(&sent, &ndp::solicitation(ROUTER6, floating6, gateway6, None)), 1);
}

#[test]
fn an_active_node_speaks_for_floating_addresses_from_the_virtual_mac_and_for_its_own_from_its_own() {
    let ping = |to: Ipv4Addr, mac: MacAddr| {
        let pair = AddressPair::new(HOST_ADDRESS.into(), to.into()).unwrap();
        Echo { kind: EchoKind::Request, ident: 1, sequence: 2, data: b"hello" }
            .frame(MacPair { source: HOST, destination: mac }, pair)
    };
    let mut node = Node::active();
    for (to, mac) in [(FLOATING, ROUTER), (OWN, OWN_MACS[0])] {
        let sent = node.punt(PuntReason::Local, INTERNET, ping(to, mac));
        let [reply] = sent.as_slice() else { panic!("{} frames", sent.len()) };
        assert_eq!((source(&reply.bytes), &reply.bytes[26..30]), (mac, &to.octets()[..]));
        let macs = MacPair { source: HOST, destination: mac };
        let datagram = emit::udp(macs, AddressPair::new(HOST_ADDRESS.into(), to.into()).unwrap(), 5000, 9, b"x");
        let sent = node.punt(PuntReason::Local, INTERNET, datagram);
        let [refusal] = sent.as_slice() else { panic!("{} frames", sent.len()) };
        assert_eq!((source(&refusal.bytes), &refusal.bytes[26..30]), (mac, &to.octets()[..]));
    }
    let pair = AddressPair::new(HOST_ADDRESS.into(), "203.0.113.9".parse().unwrap()).unwrap();
    let transit = emit::udp(MacPair { source: HOST, destination: ROUTER }, pair, 5000, 9, b"x");
    let sent = node.punt(PuntReason::IcmpError(IcmpError::TimeExceeded), INTERNET, transit);
    let [error] = sent.as_slice() else { panic!("{} frames", sent.len()) };
    assert_eq!((source(&error.bytes), &error.bytes[26..30]), (ROUTER, &FLOATING.octets()[..]));

    let mut node = Node::standby();
    assert!(node.punt(PuntReason::Local, INTERNET, ping(FLOATING, OWN_MACS[0])).is_empty());
    assert_eq!(node.punt(PuntReason::Local, INTERNET, ping(OWN, OWN_MACS[0])).len(), 1);
}

#[test]
fn workers_are_told_both_identities_of_a_link() {
    let node = Node::active();
    let snapshot = node.controller.snapshot();
    let link = &snapshot.links[0];
    assert_eq!((link.mac, link.router_macs), (OWN_MACS[0], [ROUTER, ROUTER6]));
    let local: IpAddr = "fe80::9568:51".parse().unwrap();
    assert!(link.floating.contains(&FLOATING.into()) && link.floating.contains(&local));
    assert!(
        snapshot.floating_addresses.contains(&FLOATING.into()) && snapshot.own_addresses.contains(&FLOATING.into())
    );
    let node = |address: &str| snapshot.node_addresses.contains(&address.parse().unwrap());
    assert_eq!((node("198.51.100.3"), node("fd00:1::3"), node("198.51.100.2")), (true, true, false));
    assert!(snapshot.role.is_some());
}

#[test]
fn the_far_side_is_a_witness_of_the_nodes_of_this_cluster() {
    let mut node = Node::active();
    let seed = pair().groups[0].seed;
    let heard = |name: &str, role| NodeReport {
        name: seed.digest(name.as_bytes()),
        role,
        term: 9,
        priority: 190,
        heard_ms: 40,
    };
    let nodes = vec![heard("outer-b", ReportedRole::Active), heard("somebody", ReportedRole::Active)];
    node.resolve(FIREWALLS, FW1, FW1_MAC);
    node.wait(Duration::from_millis(200));
    let report = ClusterReport { role: ReportedRole::Active, term: 1, priority: 200, vrid: 61, nodes };
    node.hear_probe(Ipv4Addr::new(10, 2, 0, 1), 1, report);

    let at = Instant::from_nanos(node.now.as_nanos() - 40_000_000);
    let report = WitnessReport { node: NodeId(1), role: Role::Active, term: 9, priority: 190, heard: at };
    assert_eq!((node.controller.poll_witness(), node.controller.poll_witness()), (Some(report), None));
}

#[test]
fn where_nodes_are_reached_by_unicast_their_addresses_in_the_subnet_are_kept_resolved() {
    let inside = "device = \"eth1\"";
    let text = PAIR.replacen(inside, &format!("{inside}\nunicast = true"), 1);
    let (mut node, sent) = Node::with(config(&text));
    let other = Ipv4Addr::new(10, 1, 0, 3);
    let request = arp::request(OWN_MACS[1], OWN_INSIDE, other, None);
    let request6 = ndp::solicitation(OWN_MACS[1], "fd00:1::2".parse().unwrap(), "fd00:1::3".parse().unwrap(), None);
    assert_eq!((count(&sent, &request), count(&sent, &request6)), (1, 1));
    let elsewhere = arp::request(OWN_MACS[0], OWN, Ipv4Addr::new(198, 51, 100, 3), None);
    assert_eq!(count(&sent, &elsewhere), 0, "the other link has no unicast");

    node.resolve(FIREWALLS, other, HOST);
    assert_eq!(node.controller.snapshot().neighbor(FIREWALLS, other.into()), Some(HOST));
    node.controller.ask_neighbors(node.now);
    assert_eq!(count(&node.sent(), &request), 0, "it is no station outside the cluster that could say who hears whom");
    node.wait(Duration::from_secs(25));
    let again = arp::request(OWN_MACS[1], OWN_INSIDE, other, Some(HOST));
    assert!(count(&node.sent(), &again) > 0, "no traffic has to ask for it");
}

#[test]
fn a_vip_that_lies_in_no_subnet_of_a_link_is_spoken_for_from_the_virtual_mac_too() {
    let vip = Ipv4Addr::new(192, 0, 2, 80);
    let (mut node, _) = Node::with(config(&format!("{PAIR}{}", SERVICE.replace(&VIP.to_string(), &vip.to_string()))));
    node.become_(Role::Active, Forwarding::Router, Instant::from_nanos(u64::MAX));
    let pair = AddressPair::new(HOST_ADDRESS.into(), vip.into()).unwrap();
    let datagram = emit::udp(MacPair { source: HOST, destination: ROUTER }, pair, 5000, 9, b"x");
    let sent = node.punt(PuntReason::Local, INTERNET, datagram);
    let [refusal] = sent.as_slice() else { panic!("{} frames", sent.len()) };
    assert_eq!((source(&refusal.bytes), &refusal.bytes[26..30]), (ROUTER, &vip.octets()[..]));
}

#[test]
fn probes_say_the_vrid_of_the_link_on_which_they_leave() {
    let inside = "device = \"eth1\"";
    let text = PAIR.replacen(inside, &format!("{inside}\nvrid = 52"), 1);
    let (mut node, _) = Node::with(config(&text));
    node.controller.set_cluster_role(Some(ClusterRole { role: ReportedRole::Standby, term: 3, priority: 190 }));
    node.resolve(FIREWALLS, FW1, FW1_MAC);
    node.sent();
    node.wait(Duration::from_millis(200));
    let seed = pair().groups[0].seed;
    let decode = |sent: &Transmit| {
        let at = sent.bytes.windows(4).position(|window| window == b"fwlb")?;
        Probe::decode(&sent.bytes[at..], |bytes| seed.digest(bytes)).ok()?.cluster
    };
    let said: Vec<_> = node.sent().iter().filter_map(decode).map(|cluster| (cluster.term, cluster.vrid)).collect();
    assert!(!said.is_empty() && said.iter().all(|said| *said == (3, 52)), "{said:?}");
}

#[test]
fn a_far_cluster_with_the_vrid_of_this_one_behind_transparent_firewalls_is_an_alarm() {
    let transparent = PAIR
        .replace("addresses = [\"10.2.0.1\", \"fd00:2::1\"]\n", "")
        .replace("link = \"firewalls\"", "link = \"firewalls\"\nlearn-by = \"link\"");
    let report = |vrid| ClusterReport { role: ReportedRole::Active, term: 1, priority: 200, vrid, nodes: Vec::new() };
    for (text, far, is_clash) in [(transparent.as_str(), FW1, true), (PAIR, Ipv4Addr::new(10, 2, 0, 1), false)] {
        let (mut node, _) = Node::with(config(text));
        node.resolve(FIREWALLS, FW1, FW1_MAC);
        node.wait(Duration::from_millis(200));
        node.hear_probe(far, 1, report(51));
        let clash = |node: &Node| node.alarms().contains(&"vrid_clash".to_owned());
        assert_eq!(clash(&node), is_clash, "routers keep the two networks apart");
        node.hear_probe(far, 2, report(61));
        assert!(!clash(&node));
    }
}
