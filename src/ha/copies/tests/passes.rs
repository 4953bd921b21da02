//! Passes over the table: how long they take, and who knows that they are not over.

use super::world::{B, FLOWS, World, flow};
use super::*;

/// Opens connections that need copies.
fn open_many(world: &mut World, count: u16) {
    let now = world.now;
    for number in 0..count {
        let (key, direction) =
            FlowKey { source: Endpoint { address: [198, 51, 100, 8].into(), port: number }, ..flow(0) }.canonical();
        let mut session = Session::new(&key, direction, now);
        session.resume(ConversationState::Tcp(TcpState::Established), 16);
        session.toward_high = Some(world.nodes[0].host.pin_to(1));
        let opened = world.nodes[0].worker.open(&key, None, session, true, |_, _| false, now).0;
        assert!(matches!(opened, OpenResult::Inserted(_)));
    }
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
    open_many(&mut world, 40_000);
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
fn a_full_pass_does_not_wait_for_the_delay_of_changes() {
    let mut world = World::new(7, 1 << 16);
    world.nodes[0].copies.set_delay(Duration::from_millis(20));
    open_many(&mut world, 40_000);
    world.run(300, 0);
    assert!(world.nodes[1].copies.sync_state(world.now).is_ready, "{:?}", world.nodes[0].copies.status(B, world.now));
}

#[test]
fn while_a_full_pass_is_wanted_or_under_way_its_standby_is_known_not_to_be_ready() {
    let mut world = World::new(7, 1 << 14);
    open_many(&mut world, 10_000);
    let lacking = |world: &World| world.nodes[0].copies.sync_state(world.now).lacking;
    let is_ready = |world: &World| world.nodes[1].copies.sync_state(world.now).is_ready;
    assert_eq!((lacking(&world), is_ready(&world)), (vec![B], false), "nothing was told");
    world.settle();
    assert_eq!((lacking(&world), is_ready(&world)), (vec![], true));

    world.nodes[0].copies.resync();
    assert_eq!((lacking(&world), is_ready(&world)), (vec![B], true), "the standby does not know of it yet");
    let (mut steps, mut unready) = (0, 0);
    while !lacking(&world).is_empty() {
        world.step(0);
        steps += 1;
        unready += usize::from(!is_ready(&world));
        assert!(steps < 1000);
    }
    assert!(unready > 10 && is_ready(&world), "{unready} of {steps} steps");

    // Who cannot be reached lacks everything that happens.
    world.nodes[0].copies.set_connected(B, false);
    assert_eq!(lacking(&world), [B]);
}

/// A visit of the whole table takes more than 3 s here, and the pause between two visits would be a second.
#[test]
fn what_is_in_use_is_renewed_in_time_even_if_a_pass_takes_longer_than_the_pause() {
    let mut world = World::new(7, 1 << 15);
    let second = Duration::from_secs(1);
    for node in &mut world.nodes {
        let short = Timeouts { tcp_established: second * 40, tcp_closing: second * 4, ..Timeouts::default() };
        node.table().set_timeouts(Timeouts { udp: second * 4, udp_new: second * 4, icmp: second * 4, ..short });
    }
    for number in 0..FLOWS {
        world.nodes[0].packet(number | 1 << 8, world.now);
        world.nodes[0].packet(number | 1 << 8 | 3 << 24, world.now);
    }
    open_many(&mut world, 18_000);
    world.settle();
    for _ in 0..300 {
        world.now += Duration::from_millis(200);
        let now = world.now;
        for number in 0..FLOWS {
            let used = world.nodes[0].find(number).unwrap();
            world.nodes[0].table().update(used, |session| session.last_seen = now);
        }
        world.step(0);
    }
    let held = (0..FLOWS).filter(|number| world.nodes[1].find(*number).is_some()).count();
    assert_eq!(held, FLOWS as usize);
}

/// Firewalls come and go faster than a pass can follow.
#[test]
fn a_pass_comes_to_its_end_however_often_the_selection_changes() {
    let mut world = World::new(7, 1 << 15);
    world.settle();
    open_many(&mut world, 18_000);
    for _ in 0..60 {
        world.nodes[0].host.selection += 1;
        world.run(5, 0);
    }
    assert_eq!(world.nodes[1].table().len(), 18_000);
}
