//! Two tables over a network that loses, repeats and delays.

mod passes;
mod takeover;
mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::flow::{Endpoint, FlowKey};
use crate::ha::alarm::AlarmKind;
use crate::session::{ConversationState, OpenResult, Session, TcpState, Timeouts};
use world::{A, B, FLOWS, Host, Node, World};

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
        world.nodes[1].copies.set_router(true, world.now, world.now);
        world.run(split_millis, 1);
        world.nodes[0].copies.set_router(false, world.now, world.now);
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

    // Where this node is active, it is no matter what others had.
    let mut router = World::new(7, 1024);
    router.nodes[1] = Node::new(B, 99, 8, router.now);
    for number in 0..60 {
        router.nodes[0].packet(number, router.now);
        router.nodes[0].packet(number | 3 << 24, router.now);
    }
    router.run(100, 0);
    router.nodes[1].copies.set_router(true, router.now, router.now);
    for number in 0..60 {
        router.nodes[0].packet(number | 3 << 24 | 1 << 32, router.now);
    }
    router.run(100, 0);
    let status = router.nodes[1].copies.status(A, router.now);
    assert!(status.without_room == 0 && status.refusals.count(Unapplied::Full) > 0, "{status:?}");
    let state = router.nodes[1].copies.sync_state(router.now);
    assert!(state.is_ready && state.alarms.is_empty(), "{state:?}");

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

/// A flood consists of connections that are never answered, and of datagrams that nobody answers.
#[test]
fn the_end_of_a_session_that_was_not_told_is_not_told_either() {
    let mut world = World::with_ring(7, 1024, 1 << 12);
    world.settle();
    let records = world.nodes[0].copies.status(B, world.now).records;
    for number in 0..FLOWS {
        world.nodes[0].packet(number, world.now);
        world.nodes[0].packet(number, world.now);
        assert!(world.nodes[0].find(number).is_none());
    }
    world.run(20, 0);
    assert_eq!(world.nodes[0].copies.status(B, world.now).records, records);

    // One that was told is another matter, even if its slot has a session again that was told.
    world.nodes[0].packet(0, world.now);
    world.nodes[0].packet(3 << 24, world.now);
    world.run(20, 0);
    assert!(world.nodes[1].find(0).is_some());
    world.nodes[0].packet(0, world.now);
    world.nodes[0].packet(3, world.now);
    world.nodes[0].packet(3 | 3 << 24, world.now);
    world.run(20, 0);
    assert_eq!((world.nodes[1].find(0), world.nodes[1].find(3).is_some()), (None, true));
}

#[test]
fn a_node_looks_ever_more_rarely_for_changes_that_do_not_come_and_at_once_again_when_some_do() {
    let mut world = World::new(7, 1024);
    world.run(20, 3);
    world.settle();
    world.run(40, 0);
    assert_eq!(world.nodes[0].copies.rest, Duration::from_millis(3));

    world.run(10, 3);
    assert_eq!(world.nodes[0].copies.rest, Duration::from_millis(1));
    // A longer delay is the longest rest.
    for millis in [2, 20] {
        world.nodes[0].copies.set_delay(Duration::from_millis(millis));
        world.run(200, 0);
        assert_eq!(world.nodes[0].copies.rest, Duration::from_millis(millis.max(3)));
    }
    world.settle();
    world.assert_copied();
}
