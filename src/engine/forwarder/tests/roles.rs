//! What a node of a cluster does with frames, by its role.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::bench::{ArrivesAt, ForwarderBench, FrameResult, Net, nets};
use super::packets::{Frame, ack, echo, ip, read, syn, syn_ack, tcp_with, udp};
use crate::engine::testbed::{Side, engine_mac, firewall_mac, host_mac};
use crate::engine::verdict::{DropReason, PuntReason, Verdict};
use crate::engine::{Permission, SharedRole};
use crate::ha::{self, Forwarding, Role, RoleWord};
use crate::id::{DeviceId, LinkId};
use crate::path::OnFailure;
use crate::time::{Duration, Instant};
use crate::wire::{Family, MacAddr, vrrp};

const VRID: u8 = 51;

/// A node of a cluster with floating addresses on both links, the last of their subnets.
struct Node {
    lab: ForwarderBench,
    role: Arc<SharedRole>,
}

impl Node {
    fn new(side: Side, forwarding: Forwarding) -> Self {
        let mut lab = ForwarderBench::new(side, 3);
        let role = Arc::<SharedRole>::default();
        let snapshot = &mut lab.snapshot;
        snapshot.role = Some(Arc::clone(&role));
        for (index, link) in snapshot.links.iter_mut().enumerate() {
            link.router_macs = [Family::V4, Family::V6].map(|family| vrrp::virtual_mac(family, VRID));
            link.floating = link.addresses.iter().map(|own| floating(own.addr())).collect();
            for address in &link.floating {
                snapshot.own_addresses.insert(*address, LinkId::from(index));
                snapshot.floating_addresses.insert(*address, ());
            }
        }
        let mut node = Self { lab, role };
        node.become_(forwarding);
        node
    }

    fn become_(&mut self, forwarding: Forwarding) {
        self.lease(forwarding, Instant::from_nanos(u64::MAX));
    }

    fn lease(&mut self, forwarding: Forwarding, until: Instant) {
        self.role.store(RoleWord { role: Role::Active, forwarding, until });
    }

    /// Delivers a frame from a place to the MAC address of the virtual router of the frame's family.
    fn send_to_router(&mut self, at: ArrivesAt, mut frame: Frame) -> FrameResult {
        let device = self.lab.address(at, &mut frame);
        let family = if frame.bytes[12..14] == [0x86, 0xdd] { Family::V6 } else { Family::V4 };
        let source = MacAddr(frame.bytes[6..12].try_into().unwrap());
        frame.address(source, vrrp::virtual_mac(family, VRID));
        self.lab.put(0, device, frame)
    }
}

fn floating(own: IpAddr) -> IpAddr {
    match own {
        IpAddr::V4(own) => [own.octets()[0], own.octets()[1], own.octets()[2], 250].into(),
        IpAddr::V6(own) => {
            let mut segments = own.segments();
            segments[7] = 0xfa;
            segments.into()
        }
    }
}

fn family(net: &Net) -> Family {
    Family::of(net.client.ip())
}

#[test]
fn the_active_node_forwards_from_the_virtual_mac_and_takes_frames_for_it() {
    for net in nets() {
        let virtual_mac = vrrp::virtual_mac(family(&net), VRID);
        let mut node = Node::new(Side::Outer, Forwarding::Router);

        let sent = node.send_to_router(ArrivesAt::Near, syn(net.client, net.server));
        assert_eq!(sent.verdict, Verdict::Forward(LinkId(1)));
        assert_eq!(read(&sent.bytes).source_mac, virtual_mac);
        let firewall = node.lab.firewall_of(&sent).unwrap();
        let back = node.send_to_router(ArrivesAt::Firewall(firewall), syn_ack(net.server, net.client));
        assert_eq!((back.verdict, read(&back.bytes).source_mac), (Verdict::Forward(LinkId(0)), virtual_mac));
        // The short path, and a sender that knows the node by its own MAC address.
        for _ in 0..2 {
            let steady = node.lab.deliver(ArrivesAt::Near, ack(net.client, net.server));
            assert_eq!((steady.verdict, read(&steady.bytes).source_mac), (Verdict::Forward(LinkId(1)), virtual_mac));
        }
        let mut other = syn(net.client, net.server);
        other.address(host_mac(Side::Outer), vrrp::virtual_mac(family(&net), VRID + 1));
        assert_eq!(node.lab.put(0, DeviceId(0), other).verdict, Verdict::Dropped(DropReason::OtherHost));
    }
}

#[test]
fn a_standby_is_a_host_on_its_own_addresses_and_nothing_else() {
    for net in nets() {
        let mut node = Node::new(Side::Outer, Forwarding::Silent);
        let own = node.lab.snapshot.links[0].addresses.iter().map(|own| own.addr());
        let own = own.into_iter().find(|own| Family::of(*own) == family(&net)).unwrap();
        let refused = Verdict::Dropped(DropReason::Standby);

        assert_eq!(node.send_to_router(ArrivesAt::Near, syn(net.client, net.server)).verdict, refused);
        assert_eq!(node.lab.deliver(ArrivesAt::Near, syn(net.client, net.server)).verdict, refused);
        assert_eq!(node.lab.deliver(ArrivesAt::Firewall(1), syn_ack(net.server, net.client)).verdict, refused);
        assert_eq!(
            node.send_to_router(ArrivesAt::Near, echo(net.client.ip(), floating(own), false, 7)).verdict,
            refused
        );
        assert_eq!(node.lab.deliver(ArrivesAt::Near, echo(net.client.ip(), floating(own), false, 7)).verdict, refused);
        node.lab.assert_moved([("received", 5), ("drop_standby", 5)]);

        assert_eq!(node.lab.deliver(ArrivesAt::Near, echo(net.client.ip(), own, false, 7)).verdict, Verdict::Punted);
        let datagram = udp(net.client, SocketAddr::new(own, 33434), 8);
        assert_eq!(node.lab.deliver(ArrivesAt::Near, datagram).verdict, Verdict::Punted);
        node.lab.assert_moved([("received", 2), ("punted", 2)]);
        assert!(node.lab.sessions().is_empty() && node.lab.transmits().is_empty());
    }
}

#[test]
fn an_active_node_stops_with_its_lease() {
    for net in nets() {
        let mut node = Node::new(Side::Outer, Forwarding::Silent);
        let end = node.lab.now + Duration::from_millis(75);
        node.lease(Forwarding::Router, end);
        assert_eq!(
            node.send_to_router(ArrivesAt::Near, syn(net.client, net.server)).verdict,
            Verdict::Forward(LinkId(1))
        );

        node.lab.now = end;
        let frame = || ack(net.client, net.server);
        assert_eq!(node.send_to_router(ArrivesAt::Near, frame()).verdict, Verdict::Dropped(DropReason::Lease));
        assert_eq!(node.lab.deliver(ArrivesAt::Near, frame()).verdict, Verdict::Dropped(DropReason::Lease));

        node.lease(Forwarding::Router, end + Duration::from_millis(75));
        assert_eq!(node.send_to_router(ArrivesAt::Near, frame()).verdict, Verdict::Forward(LinkId(1)));
    }
}

#[test]
fn a_node_that_gave_its_role_away_forwards_what_still_arrives_from_the_links_own_mac() {
    for net in nets() {
        let mut node = Node::new(Side::Outer, Forwarding::Lingering);
        for _ in 0..3 {
            let sent = node.send_to_router(ArrivesAt::Near, syn(net.client, net.server));
            assert_eq!(sent.verdict, Verdict::Forward(LinkId(1)));
            assert_eq!(read(&sent.bytes).source_mac, engine_mac(Side::Outer, 1));
        }
    }
}

/// An established connection whose firewall then fails.
fn failed(node: &mut Node, net: &Net) {
    node.lab.snapshot.groups[0].on_failure = OnFailure::Reset;
    let first = node.lab.deliver(ArrivesAt::Near, syn(net.client, net.server));
    let firewall = node.lab.firewall_of(&first).unwrap();
    node.lab.deliver(ArrivesAt::Firewall(firewall), syn_ack(net.server, net.client));
    node.lab.deliver(ArrivesAt::Near, tcp_with(net.client, net.server, 0x18, 1000, 2000, b"hello"));
    node.become_(Forwarding::Silent);
    node.lab.set_up(firewall, false);
}

#[test]
fn what_fails_in_the_view_of_a_standby_ends_sessions_when_it_becomes_active() {
    for net in nets() {
        let mut node = Node::new(Side::Outer, Forwarding::Router);
        failed(&mut node, &net);
        node.lab.wait(Duration::from_millis(10));
        assert_eq!((node.lab.sessions().len(), node.lab.transmits().len()), (1, 0));

        node.become_(Forwarding::Router);
        node.lab.wait(Duration::from_millis(10));
        assert!(node.lab.sessions().is_empty());
        let resets = node.lab.transmits();
        assert_eq!(resets.len(), 1);
        assert_eq!(read(&resets[0].bytes).source_mac, vrrp::virtual_mac(family(&net), VRID));
    }
}

#[test]
fn messages_between_nodes_reach_the_role_machine_in_every_role_also_among_firewalls() {
    for net in nets() {
        let (far, of) = (family(&net), |address: IpAddr| Family::of(address) == family(&net));
        let node_mac = MacAddr([2, 0, 0, 0, 7, 7]);
        for forwarding in [Forwarding::Silent, Forwarding::Router, Forwarding::Lingering] {
            let mut node = Node::new(Side::Outer, forwarding);
            let own = node.lab.snapshot.links[1].addresses.iter().map(|own| own.addr()).find(|own| of(*own)).unwrap();
            let neighbor: IpAddr = match own {
                IpAddr::V4(_) => "10.1.0.3".parse().unwrap(),
                IpAddr::V6(_) => "fd00:1::3".parse().unwrap(),
            };
            let sender = SocketAddr::new(neighbor, ha::PORT);
            let group = SocketAddr::new(vrrp::group(far), ha::PORT);
            let group_mac = vrrp::group_mac(far);
            let advertisement = ip(neighbor, vrrp::group(far), vrrp::PROTOCOL, &[0x31; 12]);
            let mut put = |mut frame: Frame, destination| {
                frame.address(node_mac, destination);
                node.lab.put(0, DeviceId(1), frame).verdict
            };
            assert_eq!(put(advertisement, group_mac), Verdict::Punted);
            assert_eq!(put(udp(sender, group, 100), group_mac), Verdict::Punted);
            assert_eq!(
                put(udp(sender, SocketAddr::new(own, ha::PORT), 100), engine_mac(Side::Outer, 1)),
                Verdict::Punted
            );
            let other = SocketAddr::new(own, ha::PORT + 1);
            put(udp(sender, other, 100), engine_mac(Side::Outer, 1));
            let cluster = node.lab.punts.taken.iter().filter(|punt| punt.reason == PuntReason::Cluster).count();
            assert_eq!(cluster, 3);
        }
        let mut alone = ForwarderBench::outer(3);
        let mut frame = ip(net.client.ip(), vrrp::group(far), vrrp::PROTOCOL, &[0x31; 12]);
        frame.address(node_mac, vrrp::group_mac(far));
        assert_eq!(alone.put(0, DeviceId(0), frame).verdict, Verdict::Dropped(DropReason::Multicast));
    }
}

#[test]
fn a_node_floods_no_role_machine_of_strangers() {
    let mut node = Node::new(Side::Outer, Forwarding::Router);
    node.lab.punts.capacity = 10_000;
    let frame = || {
        let mut frame = ip("10.1.0.66".parse().unwrap(), vrrp::group(Family::V4), vrrp::PROTOCOL, &[0x31; 12]);
        frame.address(firewall_mac(Side::Outer, 0), vrrp::group_mac(Family::V4));
        frame
    };
    let punted = |node: &mut Node| {
        (0..2_000).filter(|_| node.lab.put(0, DeviceId(1), frame()).verdict == Verdict::Punted).count()
    };
    assert!(punted(&mut node) <= 150, "a stranger has its rate");
    node.lab.snapshot.node_addresses.insert("10.1.0.66".parse().unwrap(), ());
    assert_eq!(punted(&mut node), 2_000, "a node has none");
}

#[test]
fn an_engine_that_stands_alone_is_the_router() {
    let lab = ForwarderBench::outer(1);
    assert_eq!(lab.snapshot.permission(lab.now), Permission::Router);
    for (permission, reason) in [
        (Permission::Router, None),
        (Permission::Lingering, None),
        (Permission::Silent, Some(DropReason::Standby)),
        (Permission::Expired, Some(DropReason::Lease)),
    ] {
        assert_eq!(permission.refusal(), reason);
    }
}
