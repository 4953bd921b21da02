//! Every rule is broken on purpose, and the checker says so.

use super::*;
use crate::ha::{Reason, Role};
use crate::sim::cluster::{Cluster, ClusterPlan, FIREWALLS, HOSTS};
use crate::sim::packet::{ETHERTYPE_IPV4, ethernet};
use crate::sim::world::World;
use crate::wire::MacAddr;

const NOW: Instant = Instant::from_millis(20_000);

fn checks() -> ClusterChecks {
    ClusterChecks::new([vec![NodeId(0), NodeId(1)], vec![NodeId(2), NodeId(3)]], &FarmPlan::default())
}

/// The number of violations after the same routers were seen for this long.
fn seen_for(checks: &mut ClusterChecks, routers: &[usize], ms: u64) -> usize {
    for step in 0..=ms / 20 {
        checks.routers(Side::Outer, routers, NOW + Duration::from_millis(20 * step));
    }
    checks.violations().len()
}

#[test]
fn two_routers_that_hear_each_other_are_found() {
    assert_eq!(seen_for(&mut checks(), &[0], 2000), 0);
    assert_eq!(seen_for(&mut checks(), &[0, 1], 400), 0, "one may not have heard the other yet");
    assert_eq!(seen_for(&mut checks(), &[0, 1], 420), 1);

    let mut deaf = checks();
    (0..2).for_each(|link| deaf.cut(NodeId(0), link, true, NOW));
    assert_eq!(seen_for(&mut deaf, &[0, 1], 2000), 0);
    deaf.cut(NodeId(0), 1, false, NOW);
    assert!(seen_for(&mut deaf, &[0, 1], 2000) > 0, "one link is enough");
}

#[test]
fn a_side_without_a_router_long_after_the_last_fault_is_found() {
    let mut checks = checks();
    checks.calm(NOW);
    assert_eq!(seen_for(&mut checks, &[], 5000), 0);
    assert_eq!(seen_for(&mut checks, &[0], 9000), 0);
    assert!(seen_for(&mut checks, &[], 5020) > 0);
}

#[test]
fn a_change_of_role_without_a_fault_is_found() {
    let (from, to, reason) = (Role::Standby, Role::Active, Reason::NobodyElse);
    let change = RoleChange { from, to, reason, term: 2, lasted: Duration::ZERO, by: None };
    let mut checks = checks();
    checks.calm(NOW);
    checks.changed(Side::Inner, 1, &change, NOW + SETTLED);
    assert!(checks.violations().is_empty());
    checks.changed(Side::Inner, 1, &change, NOW + SETTLED + Duration::from_millis(1));
    assert_eq!(checks.violations().len(), 1);
}

#[test]
fn faults_of_cables_end_the_quiet() {
    let mut checks = checks();
    checks.disturb(NOW);
    assert_eq!(checks.quiet_since(), Some(NOW));
    checks.impaired(NodeId(0), 0, true);
    assert_eq!(checks.quiet_since(), None);
    checks.impaired(NodeId(0), 0, false);
    checks.cut(NodeId(0), 0, true, NOW);
    assert_eq!(checks.quiet_since(), None);
}

/// What is said of a frame that a node sends: the first of its side, which is the router, or the second.
fn said_of(number: usize, link: usize, frame: impl Fn(&World, NodeId) -> Vec<u8>) -> Vec<String> {
    let mut cluster = Cluster::new(ClusterPlan::default(), 1);
    cluster.run_for(Duration::from_secs(2));
    assert_eq!(cluster.routers(Side::Outer), [0]);
    let Cluster { world, checks, nodes, .. } = &mut cluster;
    let node = nodes[Side::Outer as usize][number];
    let bytes = frame(world, node);
    checks.sent(world.engine(node), node, LinkId::from(link), &bytes, world.now());
    checks.violations().to_vec()
}

/// VRID 51 for IPv4 (RFC 9568 section 7.3).
const VIRTUAL: MacAddr = MacAddr([0, 0, 0x5e, 0, 1, 51]);

fn datagram(source: MacAddr, from: &str) -> Vec<u8> {
    let packet = Packet::udp((from.parse().unwrap(), 1), ("203.0.113.10".parse().unwrap(), 2), b"data");
    ethernet(MacAddr([4; 6]), source, ETHERTYPE_IPV4, &packet.emit())
}

#[test]
fn frames_that_only_the_router_may_send_are_found_at_others() {
    let transit = |_: &World, _| datagram(VIRTUAL, "198.51.100.10");
    assert_eq!(said_of(0, FIREWALLS, transit), Vec::<String>::new());
    assert_eq!(said_of(1, FIREWALLS, transit).len(), 1);
    let own = |world: &World, node| datagram(world.engine(node).mac(LinkId::from(FIREWALLS)), "198.51.100.10");
    assert_eq!(said_of(1, FIREWALLS, own).len(), 1, "transit from its own address");
}

#[test]
fn frames_that_mix_addresses_of_the_node_and_of_the_router_are_found() {
    let own_mac = |world: &World, node| world.engine(node).mac(LinkId::from(HOSTS));
    let foreign = |_: &World, _| datagram(MacAddr([2, 9, 9, 9, 9, 9]), "198.51.100.10");
    assert_eq!(said_of(0, HOSTS, foreign).len(), 1, "nobody's MAC address");
    let own_from_virtual = |_: &World, _| datagram(VIRTUAL, "198.51.100.2");
    assert_eq!(said_of(0, HOSTS, own_from_virtual).len(), 1);
    let floating_from_own = |world: &World, node| datagram(own_mac(world, node), "198.51.100.1");
    assert_eq!(said_of(0, HOSTS, floating_from_own).len(), 1);
    let own = |world: &World, node| datagram(own_mac(world, node), "198.51.100.2");
    assert_eq!(said_of(0, HOSTS, own), Vec::<String>::new());
}
