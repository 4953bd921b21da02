//! Two engines of one side: the sessions of the one go on at the other.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::bench::{ArrivesAt, ForwarderBench, nets};
use super::packets::{ack, fin, fin_back, read, syn, syn_ack, tcp_with};
use super::services::{Farm, farms, service};
use crate::engine::copies::needs_copy;
use crate::engine::forwarder::KillOrder;
use crate::engine::shared_role::SharedRole;
use crate::engine::testbed::{self, Side};
use crate::engine::{CopiedEngine, DropReason, SessionMatcher, Verdict};
use crate::ha::association::Kind;
use crate::ha::{Copies, Forwarding, NodeId, Role, RoleWord};
use crate::id::LinkId;
use crate::nat::{PortPools, ports_of_node};
use crate::path::OnFailure;
use crate::session::{SessionTable, Timeouts, change_ring};
use crate::slb::{ForwardingMode, SchedulerState, Service, Services, StickyBy};
use crate::time::{Duration, Instant};

/// An engine of a pair.
struct Node {
    number: u8,
    lab: ForwarderBench,
    copies: Copies,
    ports: Arc<PortPools>,
    service: Option<Service>,
}

/// The active engine and its standby, which hear each other.
struct Pair {
    nodes: [Node; 2],
}

impl Node {
    fn new(number: u8, side: Side) -> Self {
        let (table, workers, owner) = SessionTable::with_copies(1024, 1, Timeouts::default(), [1, 2, 3, 4]);
        let ports = PortPools::new(1, 64, Duration::from_secs(120), 7).with_ports(ports_of_node(number, 2));
        let ports = Arc::new(ports);
        let mut lab = ForwarderBench::of(side, 3, table, testbed::forwarders_of(workers, &ports));
        let (writer, reader) = change_ring(64);
        lab.workers[0].0.set_change_writer(writer);
        let other = NodeId(1 - number);
        let mut copies = Copies::new(owner, vec![reader], [other], number.into(), Duration::from_millis(1), lab.now);
        copies.set_connected(other, true);
        copies.set_router(number == 0, lab.now, lab.now);
        Self { number, lab, copies, ports, service: None }
    }

    fn publish(&mut self, service: Service) {
        let snapshot = &mut self.lab.snapshot;
        snapshot.epoch += 1;
        snapshot.service_addresses = service.addresses.iter().copied().collect();
        snapshot.services = Services::new(vec![service.clone()]);
        self.service = Some(service);
    }

    fn step(&mut self) -> Vec<(Kind, Vec<u8>)> {
        let Self { lab, copies, ports, .. } = self;
        let mut host = CopiedEngine { snapshot: &lab.snapshot, ports, counters: &mut lab.copies, ledger: None };
        copies.handle_timeout(&mut host, lab.now);
        std::iter::from_fn(|| copies.poll_transmit(lab.now)).map(|sent| (sent.kind, sent.body)).collect()
    }

    /// The number of sessions that the server has.
    fn active_at(&self, server: usize) -> u64 {
        self.service.as_ref().unwrap().servers[server].state.active()
    }
}

impl Pair {
    fn new(side: Side) -> Self {
        Self { nodes: [Node::new(0, side), Node::new(1, side)] }
    }

    /// Inner engines with a service.
    fn with_service(change: impl Fn(&mut Service)) -> Self {
        let mut pair = Self::new(Side::Inner);
        for node in &mut pair.nodes {
            let mut service = service(&SchedulerState::new(64), &[1, 1]);
            change(&mut service);
            node.publish(service);
        }
        pair
    }

    fn active(&mut self) -> &mut ForwarderBench {
        &mut self.nodes[0].lab
    }

    /// Lets the engines talk for ten milliseconds.
    fn talk(&mut self) {
        let later = self.now() + Duration::from_millis(10);
        while self.now() < later {
            for from in 0..2 {
                self.nodes[from].lab.now += Duration::from_millis(1);
                let number = NodeId(self.nodes[from].number);
                for (kind, body) in self.nodes[from].step() {
                    let to = &mut self.nodes[1 - from];
                    to.copies.handle_datagram(number, kind, &body, to.lab.now);
                }
            }
        }
    }

    fn now(&self) -> Instant {
        self.nodes[0].lab.now
    }

    /// The active engine dies, and the standby takes its place.
    fn take_over(&mut self) -> &mut ForwarderBench {
        let now = self.nodes[1].lab.now;
        assert!(self.nodes[1].copies.sync_state(now).is_ready);
        self.nodes[1].copies.set_router(true, now, now);
        &mut self.nodes[1].lab
    }

    /// Asserts that the standby has the sessions of the active engine that need a copy, and no others.
    #[track_caller]
    fn assert_copied(&mut self) {
        let seen = |node: &Node, needed: bool| {
            let (mut seen, lab) = (Vec::new(), &node.lab);
            lab.table.for_each(|key, session, placement| {
                if !needed || needs_copy(key, session, placement, &lab.snapshot, lab.now) {
                    let pin = |pin: Option<crate::path::pinning::Pin>| pin.map(|pin| (pin.firewall, pin.state));
                    let place = placement.map(|place| (place.server, place.inside));
                    let pins = [pin(session.toward_low), pin(session.toward_high)];
                    seen.push((*key, session.state, session.packets, pins, place));
                }
                true
            });
            seen.sort_by_key(|(key, ..)| (key.low(), key.high()));
            seen
        };
        assert_eq!(seen(&self.nodes[1], false), seen(&self.nodes[0], true));
    }
}

/// Opens a connection to the service, and returns the server that it got.
fn connect(lab: &mut ForwarderBench, farm: &Farm, client: SocketAddr, firewall: u16) -> SocketAddr {
    let sent = lab.deliver(ArrivesAt::Firewall(firewall), syn(client, farm.vip));
    assert_eq!(sent.verdict, Verdict::Forward(LinkId(1)), "{sent:?}");
    let sent = read(&sent.bytes);
    let server = (0..2).map(|number| farm.server(number)).find(|server| server.ip() == sent.destination).unwrap();
    let source = SocketAddr::new(sent.source, u16::from_be_bytes([sent.payload[0], sent.payload[1]]));
    assert_eq!(lab.send(syn_ack(server, source)), firewall);
    lab.deliver(ArrivesAt::Firewall(firewall), ack(client, farm.vip));
    server
}

#[test]
fn connections_to_a_service_go_on_at_the_other_engine_with_server_translation_and_firewall() {
    for farm in farms() {
        for mode in [ForwardingMode::Nat, ForwardingMode::FullNat] {
            let mut pair = Pair::with_service(|service| service.mode = mode);
            pair.talk();
            let servers: Vec<_> =
                (0..6).map(|number| connect(pair.active(), &farm, farm.client(40_000 + number), number % 3)).collect();
            pair.talk();
            pair.assert_copied();
            assert_eq!([pair.nodes[1].active_at(0), pair.nodes[1].active_at(1)], [3, 3]);

            let lab = pair.take_over();
            for (number, server) in (0..).zip(&servers) {
                let client = farm.client(40_000 + number);
                let sent =
                    lab.deliver(ArrivesAt::Firewall(number % 3), tcp_with(client, farm.vip, 0x18, 5, 6, b"more"));
                assert_eq!(sent.verdict, Verdict::Forward(LinkId(1)));
                let sent = read(&sent.bytes);
                assert_eq!(sent.destination, server.ip());
                let source = SocketAddr::new(sent.source, u16::from_be_bytes([sent.payload[0], sent.payload[1]]));
                assert_eq!(lab.send(tcp_with(*server, source, 0x18, 6, 9, b"reply")), number % 3);
            }
            assert_eq!(lab.counters().sessions_created, 0);
        }
    }
}

#[test]
fn no_two_engines_give_out_one_source_port() {
    for farm in farms() {
        let mut pair = Pair::with_service(|service| service.mode = ForwardingMode::FullNat);
        pair.talk();
        for number in 0..40 {
            connect(pair.active(), &farm, farm.client(1000 + number), 0);
        }
        pair.talk();
        let lab = pair.take_over();
        for number in 0..40 {
            connect(lab, &farm, farm.client(2000 + number), 0);
        }
        let mut inside = HashSet::new();
        lab.table.for_each(|key, _, placement| {
            let inside_leg = placement.unwrap().inside.unwrap();
            let is_new = [key.low().port, key.high().port].iter().any(|port| (2000..2040).contains(port));
            assert!(ports_of_node(is_new.into(), 2).contains(&inside_leg.source.port), "{inside_leg:?}");
            inside.insert(inside_leg)
        });
        assert_eq!(inside.len(), 80);
    }
}

#[test]
fn nothing_is_told_of_flows_that_the_other_engine_finds_by_itself() {
    for net in nets() {
        let mut pair = Pair::new(Side::Outer);
        pair.talk();
        for port in 0..20 {
            let client = SocketAddr::new(net.client.ip(), 40_000 + port);
            let firewall = pair.active().send(syn(client, net.server));
            pair.active().deliver(ArrivesAt::Firewall(firewall), syn_ack(net.server, client));
            pair.active().send(ack(client, net.server));
        }
        pair.talk();
        assert_eq!((pair.active().table.len(), pair.nodes[1].lab.table.len()), (20, 0));
        let lab = pair.take_over();
        let mut firewalls = [0; 3];
        (0..20).for_each(|port| {
            let client = SocketAddr::new(net.client.ip(), 40_000 + port);
            firewalls[usize::from(lab.send(ack(client, net.server)))] += 1;
        });
        let mut before = [0; 3];
        for session in pair.active().sessions() {
            before[session.toward_low.or(session.toward_high).unwrap().firewall.index()] += 1;
        }
        assert_eq!(firewalls, before);
    }
}

#[test]
fn a_flow_that_is_not_at_its_home_goes_on_through_its_firewall() {
    for net in nets() {
        let mut pair = Pair::new(Side::Outer);
        let home = pair.active().send(syn(net.client, net.server));
        pair.active().wait(Duration::from_secs(300));
        let now = pair.now();
        for node in &mut pair.nodes {
            node.lab.set_up(home, false);
            node.lab.now = now;
        }
        pair.talk();
        let other = pair.active().send(syn(net.client, net.server));
        pair.active().deliver(ArrivesAt::Firewall(other), syn_ack(net.server, net.client));
        pair.active().send(ack(net.client, net.server));
        pair.talk();
        for node in &mut pair.nodes {
            node.lab.set_up(home, true);
        }
        pair.talk();
        pair.assert_copied();

        assert_eq!(pair.nodes[1].lab.table.len(), 1);
        assert_ne!(other, home);
        assert_eq!(pair.take_over().send(ack(net.client, net.server)), other);
    }
}

#[test]
fn sessions_at_a_draining_firewall_are_told_at_once() {
    for net in nets() {
        let mut pair = Pair::new(Side::Outer);
        let home = pair.active().send(syn(net.client, net.server));
        pair.active().deliver(ArrivesAt::Firewall(home), syn_ack(net.server, net.client));
        pair.active().send(ack(net.client, net.server));
        pair.talk();
        assert!(pair.nodes[1].lab.table.is_empty());

        for node in &mut pair.nodes {
            node.lab.snapshot.path_sets.iter_mut().for_each(|set| set.selectable &= !(1 << home));
        }
        pair.talk();
        pair.assert_copied();

        assert_eq!(pair.take_over().send(ack(net.client, net.server)), home);
    }
}

#[test]
fn a_session_that_an_operator_ends_has_no_copy_any_more() {
    for farm in farms() {
        let mut pair = Pair::with_service(|_| {});
        pair.talk();
        connect(pair.active(), &farm, farm.client(1000), 0);
        connect(pair.active(), &farm, farm.client(1001), 0);
        pair.talk();
        assert_eq!(pair.nodes[1].lab.table.len(), 2);
        let of_one = SessionMatcher { ports: vec![1000], ..SessionMatcher::default() };
        let order = Arc::new(KillOrder::new(of_one, false, 1, pair.active().now));

        pair.active().workers[0].0.kill(order);
        pair.active().wait(Duration::ZERO);
        pair.talk();
        pair.assert_copied();

        assert_eq!(pair.nodes[1].lab.table.len(), 1);
        assert_eq!(pair.nodes[1].active_at(0) + pair.nodes[1].active_at(1), 1);
    }
}

#[test]
fn the_end_of_a_connection_is_told_so_that_its_copy_is_soon_forgotten() {
    for farm in farms() {
        let mut pair = Pair::with_service(|_| {});
        pair.talk();
        let client = farm.client(1000);
        let server = connect(pair.active(), &farm, client, 0);
        pair.talk();
        pair.active().deliver(ArrivesAt::Firewall(0), fin(client, farm.vip));
        pair.active().send(fin_back(server, client));
        pair.talk();
        pair.assert_copied();
        assert_eq!(pair.nodes[1].active_at(0) + pair.nodes[1].active_at(1), 0);
    }
}

#[test]
fn half_open_connections_are_not_told() {
    for farm in farms() {
        let mut pair = Pair::with_service(|_| {});
        pair.talk();
        for port in 0..40 {
            pair.active().deliver(ArrivesAt::Firewall(0), syn(farm.client(1000 + port), farm.vip));
        }
        pair.talk();
        assert_eq!((pair.active().table.len(), pair.nodes[1].lab.table.len()), (40, 0));
    }
}

#[test]
fn a_client_keeps_its_server_by_what_was_told() {
    const STICKY: StickyBy = StickyBy { prefix: 32, prefix6: 128, timeout: Duration::from_secs(600) };
    for farm in farms() {
        let mut pair = Pair::with_service(|service| service.sticky = Some(STICKY));
        pair.talk();
        let server = connect(pair.active(), &farm, farm.client(1000), 0);
        pair.talk();
        let lab = pair.take_over();
        (0..4).for_each(|port| assert_eq!(connect(lab, &farm, farm.client(2000 + port), 0), server));
    }
}

#[test]
fn a_firewall_that_is_down_at_the_standby_fails_the_sessions_that_were_told() {
    for farm in farms() {
        let mut pair = Pair::with_service(|_| {});
        for node in &mut pair.nodes {
            node.lab.snapshot.groups[0].on_failure = OnFailure::Drop;
        }
        pair.nodes[1].lab.set_up(1, false);
        pair.talk();
        let server = connect(pair.active(), &farm, farm.client(1000), 1);
        pair.talk();
        pair.assert_copied();

        let sent = pair.take_over().deliver(ArrivesAt::Near, ack(server, farm.client(1000)));
        assert_eq!(sent.verdict, Verdict::Dropped(DropReason::FirewallFailed));
    }
}

#[test]
fn an_engine_that_comes_back_learns_what_it_missed_and_forgets_what_is_over() {
    for farm in farms() {
        let mut pair = Pair::with_service(|_| {});
        pair.talk();
        connect(pair.active(), &farm, farm.client(1000), 0);
        let gone = connect(pair.active(), &farm, farm.client(1001), 1);
        pair.talk();
        // The standby takes over, and the active engine does not hear of it at first.
        let now = pair.now();
        for node in &mut pair.nodes {
            node.copies.set_connected(NodeId(1 - node.number), false);
        }
        pair.nodes[1].copies.set_router(true, now, now);
        connect(&mut pair.nodes[1].lab, &farm, farm.client(1002), 2);
        let of_one = SessionMatcher { ports: vec![1001], ..SessionMatcher::default() };
        let order = Arc::new(KillOrder::new(of_one, false, 1, now));
        pair.nodes[1].lab.workers[0].0.kill(order);
        pair.nodes[1].lab.wait(Duration::ZERO);
        pair.talk();
        assert_eq!((pair.active().table.len(), pair.nodes[1].lab.table.len()), (2, 2));

        let now = pair.now();
        pair.nodes[0].copies.set_router(false, now, now);
        for node in &mut pair.nodes {
            node.copies.set_connected(NodeId(1 - node.number), true);
        }
        pair.nodes.swap(0, 1);
        pair.talk();
        pair.assert_copied();

        let answer = pair.nodes[1].lab.deliver(ArrivesAt::Near, ack(gone, farm.client(1001)));
        assert_ne!(answer.verdict, Verdict::Forward(LinkId(0)), "its session is over");
    }
}

#[test]
fn a_node_that_was_active_reports_no_end_of_a_session_that_goes_on_elsewhere() {
    for net in nets() {
        let mut pair = Pair::new(Side::Outer);
        let role = Arc::new(SharedRole::default());
        let lab = pair.active();
        for port in 0..4 {
            lab.send(syn(SocketAddr::new(net.client.ip(), 40_000 + port), net.server));
        }
        lab.snapshot.role = Some(Arc::clone(&role));
        role.store(RoleWord { role: Role::Standby, forwarding: Forwarding::Silent, until: Instant::ZERO });
        let of_one = SessionMatcher { ports: vec![40_001], ..SessionMatcher::default() };
        lab.workers[0].0.kill(Arc::new(KillOrder::new(of_one, false, 1, lab.now)));
        lab.wait(Duration::ZERO);
        lab.wait(Duration::from_secs(3600));

        let counters = lab.counters();
        assert!(lab.table.is_empty() && lab.told.reasons().is_empty(), "{:?}", lab.told.reasons());
        assert_eq!((counters.sessions_created, counters.copies_ended), (4, 4));
        assert_eq!(counters.sessions_expired + counters.sessions_killed, 0);

        // One that still forwards what arrives has ends of its own.
        let until = lab.now + Duration::from_secs(7200);
        role.store(RoleWord { role: Role::Leaving, forwarding: Forwarding::Lingering, until });
        lab.send(syn(net.client, net.server));
        lab.wait(Duration::from_secs(3600));
        assert_eq!((lab.told.reasons().len(), lab.counters().sessions_expired), (1, 1));
    }
}
