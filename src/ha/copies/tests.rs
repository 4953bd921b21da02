//! Two tables over a network that loses, repeats and delays.

mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::flow::{Endpoint, FlowKey};
use crate::session::{ConversationState, OpenResult, Session, TcpState, Timeouts};
use world::{A, B, FLOWS, Host, Node, World, flow};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every change is an event, so that no pass is needed; but more packets come than the ring of changes has room for,
    /// and then a pass mends that.
    #[test]
    fn once_the_network_is_whole_the_copies_are_what_is_needed(
        seed: u64,
        loss in 0..=30_u64,
        millis in 1..300_u64,
        packets in prop_oneof![Just(1_u64), Just(4), Just(60)],
    ) {
        let mut world = World::new(seed, 1024);
        world.loss = loss;
        world.run(millis, packets);
        world.settle();
        world.assert_copied();
    }

    #[test]
    fn neither_a_cut_nor_a_new_start_nor_a_reload_leaves_the_copies_wrong(
        seed: u64,
        faults in prop::collection::vec((0..6_u8, 1..60_u64), 1..8),
    ) {
        let mut world = World::new(seed, 1024);
        for (number, (fault, millis)) in (2..).zip(faults) {
            world.loss = 20;
            match fault {
                // Nothing gets through, and nobody notices.
                0 => world.loss = 100,
                // The association is lost, and comes back later.
                1 => world.nodes.iter_mut().for_each(|node| node.copies.set_connected(NodeId(1 - node.id.0), false)),
                // The standby starts again.
                2 => world.nodes[1] = Node::new(B, seed ^ number << 32, 1024, world.now),
                // The numbers of the active node change their meaning.
                3 => world.nodes[0].host.generation += 1,
                4 => world.nodes[1].host.generation += 1,
                // Other sessions may need copies.
                _ => world.nodes[0].host.selection += 1,
            }
            world.run(millis, 3);
            world.nodes.iter_mut().for_each(|node| node.copies.set_connected(NodeId(1 - node.id.0), true));
            world.run(millis, 3);
        }
        world.settle();
        world.assert_copied();
    }

    #[test]
    fn after_the_roles_have_changed_the_copies_are_those_of_the_new_active_node(
        seed: u64,
        loss in 0..=30_u64,
        millis in 1..100_u64,
        split_millis in 0..50_u64,
    ) {
        let mut world = World::new(seed, 1024);
        world.loss = loss;
        world.run(millis, 3);
        world.nodes[1].copies.set_router(true, world.now);
        world.run(split_millis, 1);
        world.nodes[0].copies.set_router(false, world.now);
        world.nodes.swap(0, 1);
        let is_of_node = |world: &World| (world.nodes[0].id, world.nodes[1].id);
        prop_assert_eq!(is_of_node(&world), (B, A));
        world.run_swapped(millis, 3);
        world.loss = 0;
        world.run_swapped(1500, 0);
        let needed = world.nodes[0].seen(true, world.now);
        let held = world.nodes[1].seen(false, world.now);
        // The node that was active keeps sessions that need no copy.
        let is_home = |(key, _): &(&String, &String)| !needed.contains_key(*key);
        let own: Vec<_> = held.iter().filter(is_home).collect();
        let copies: BTreeMap<_, _> = held.iter().filter(|one| !is_home(one)).collect();
        prop_assert_eq!(copies, needed.iter().collect::<BTreeMap<_, _>>());
        let needing = world.nodes[1].seen(true, world.now);
        prop_assert!(own.iter().all(|(key, _)| !needing.contains_key(*key)), "{own:?}");
    }
}

#[test]
fn a_standby_is_ready_once_it_has_everything_and_not_before() {
    let mut world = World::new(7, 1 << 16);
    world.loss = 100;
    world.run(50, 10);
    assert!(!world.nodes[1].copies.sync_state(world.now).is_ready);
    world.nodes[0].copies.resync();
    world.settle();
    let (active, standby) = (world.nodes[0].copies.sync_state(world.now), world.nodes[1].copies.sync_state(world.now));
    assert!(active.is_ready && standby.is_ready && active.needed > 20);
    assert_eq!((active.needed, standby.held as usize), (standby.held, world.nodes[1].table().len()));
}

#[test]
fn a_table_without_room_refuses_and_the_node_is_not_ready() {
    let mut world = World::new(7, 1024);
    world.nodes[1] = Node::new(B, 99, 8, world.now);
    for number in 0..60 {
        world.nodes[0].packet(number, world.now);
        world.nodes[0].packet(number | 3 << 24, world.now);
    }
    world.run(100, 0);
    let status = world.nodes[1].copies.status(A, world.now);
    assert!(status.is_complete && status.refusals.count(Unapplied::Full) > 0, "{status:?}");
    assert!(!world.nodes[1].copies.sync_state(world.now).is_ready);
    assert!(world.nodes[1].table().len() <= 8);
    assert_eq!(world.nodes[1].copies.sync_state(world.now).alarms[0].0, AlarmKind::SyncRefused);

    // Fewer sessions fit, and after a while the node asks for them.
    for number in 0..56 {
        world.nodes[0].packet(number, world.now);
    }
    world.run(40_000, 0);
    world.assert_copied();
    let state = world.nodes[1].copies.sync_state(world.now);
    assert!(state.is_ready && state.held == 1 && state.alarms.is_empty(), "{state:?}");
}

#[test]
fn things_that_the_standby_does_not_have_are_left_out() {
    let mut world = World::new(7, 1024);
    world.nodes[1].host.group.members.pop();
    for number in 0..FLOWS {
        for firewall in 0..2 {
            world.nodes[0].packet(number | (2 + firewall) << 8 | 3 << 24, world.now);
        }
    }
    world.run(100, 0);
    let status = world.nodes[1].copies.status(A, world.now);
    assert!(status.refusals.count(Unapplied::UnknownName) == 0 && world.nodes[1].table().len() > 50);

    // The firewall of these flows is not in the file of the standby.
    for number in 0..FLOWS {
        world.nodes[0].packet(number | 1 << 24 | 3 << 32, world.now);
    }
    world.run(100, 0);
    let status = world.nodes[1].copies.status(A, world.now);
    assert!(status.refusals.count(Unapplied::UnknownName) > 0, "{status:?}");
    assert!(world.nodes[1].copies.sync_state(world.now).is_ready, "that is a matter of the file");

    // Now it is, and the standby asks for what it could not apply.
    let host = &mut world.nodes[1].host;
    (host.group, host.generation) = (Host::new(1000).group, host.generation + 1);
    world.run(200, 0);
    world.assert_copied();
}

#[test]
fn a_node_that_takes_no_copies_is_told_of() {
    let mut world = World::new(7, 1024);
    world.loss = 100;
    (0..60).for_each(|number| world.nodes[0].packet(number | 3 << 24, world.now));
    let mut alarms = |millis| {
        world.run(millis, 1);
        world.nodes[0].copies.sync_state(world.now).alarms.iter().map(|(kind, ..)| *kind).collect::<Vec<_>>()
    };
    assert_eq!(alarms(900), []);
    assert_eq!(alarms(600), [AlarmKind::SyncBehind]);
    assert_eq!(alarms(15_000), [AlarmKind::SyncFailed]);
    world.loss = 0;
    world.run(1000, 1);
    assert_eq!(world.nodes[0].copies.sync_state(world.now).alarms, []);
}

/// A session that is used does not expire at the standby, however long it lasts.
#[test]
fn what_is_in_use_is_renewed_and_what_is_not_expires_everywhere() {
    let mut world = World::new(7, 1024);
    for node in &mut world.nodes {
        let second = Duration::from_secs(1);
        let short = Timeouts { tcp_established: second * 8, tcp_closing: second * 4, ..Timeouts::default() };
        let others = Timeouts { udp: second * 8, udp_new: second * 8, icmp: second * 8, other: second * 8, ..short };
        node.table().set_timeouts(others);
    }
    for number in [0, 3] {
        world.nodes[0].packet(number, world.now);
        world.nodes[0].packet(number | 3 << 24, world.now);
    }
    let used = world.nodes[0].find(0).unwrap();
    for _ in 0..200 {
        world.run(100, 0);
        let now = world.now;
        world.nodes[0].table().update(used, |session| session.last_seen = now);
        for node in &mut world.nodes {
            node.worker.expire(now, 100, |_, _| {});
        }
    }
    let flows = |node: &Node| (node.find(0).is_some(), node.find(3).is_some());
    assert_eq!([flows(&world.nodes[0]), flows(&world.nodes[1])], [(true, false), (true, false)]);
    let records = world.nodes[0].copies.status(B, world.now).records;
    assert!(records < 40, "{records} in 20 s");
}

#[test]
fn a_pass_over_a_large_table_goes_in_steps() {
    let mut world = World::new(7, 1 << 16);
    let now = world.now;
    for number in 0..40_000_u16 {
        let (key, direction) =
            FlowKey { source: Endpoint { address: [198, 51, 100, 8].into(), port: number }, ..flow(0) }.canonical();
        let mut session = Session::new(&key, direction, now);
        session.resume(ConversationState::Tcp(TcpState::Established), 16);
        session.toward_high = Some(world.nodes[0].host.pin_to(1));
        let opened = world.nodes[0].worker.open(&key, None, session, true, |_, _| false, now).0;
        assert!(matches!(opened, OpenResult::Inserted(_)));
    }
    let mut steps = 0;
    while !world.nodes[1].copies.sync_state(world.now).is_ready {
        let before = world.nodes[1].table().len();
        world.step(0);
        assert!(world.nodes[1].table().len() - before < 4000);
        steps += 1;
        assert!(steps < 4000, "{:?}", world.nodes[0].copies.status(B, world.now));
    }
    assert_eq!(world.nodes[1].table().len(), 40_000);
    assert!(steps > 20);
}

#[test]
fn a_node_looks_ever_more_rarely_for_changes_that_do_not_come_and_at_once_again_when_some_do() {
    let mut world = World::new(7, 1024);
    world.run(20, 3);
    world.settle();
    world.run(40, 0);
    let delay = Duration::from_millis(1);
    assert_eq!(world.nodes[0].copies.rest, delay * REST_MAX);

    world.run(10, 3);
    assert_eq!(world.nodes[0].copies.rest, delay);
    world.settle();
    world.assert_copied();
}
