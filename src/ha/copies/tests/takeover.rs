//! What becomes of the last words of a node that gives its role up, and of those of the one before it.

use super::world::{A, B, FLOWS, Node, World};
use super::*;

const C: NodeId = NodeId(2);
const ESTABLISHED: ConversationState = ConversationState::Tcp(TcpState::Established);
const CLOSING: ConversationState = ConversationState::Tcp(TcpState::Closing);

/// Packets that confirm a flow, close it, or end its session by force.
const CONFIRMS: u64 = 3 << 24 | 1 << 8;
const CLOSES: u64 = 2 << 24;
const ENDS: u64 = 0;

/// Two nodes with the same sessions, of which the second takes over when the first has just changed some of them: with the
/// flows 0 to 29 nothing more happened, 30 to 59 were closed, and 60 to 119 ended.
fn taken_over(is_told_before: bool) -> World {
    let mut world = World::with_ring(7, 1024, 1 << 12);
    for number in 0..FLOWS {
        world.nodes[0].packet(number | CONFIRMS, world.now);
        world.nodes[0].packet(number | CONFIRMS, world.now);
    }
    world.settle();
    let now = world.now;
    if is_told_before {
        change(&mut world);
        world.nodes[0].tell_all(now);
        world.transmit(0, now);
    }
    world.nodes[1].copies.set_router(true, now, now);
    world
}

fn change(world: &mut World) {
    (30..60).for_each(|number| world.nodes[0].packet(number | CLOSES, world.now));
    (60..FLOWS).for_each(|number| world.nodes[0].packet(number | ENDS, world.now));
}

#[track_caller]
fn assert_changed(world: &World) {
    for number in 0..FLOWS {
        let expected = match number {
            0..30 => Some(ESTABLISHED),
            30..60 => Some(CLOSING),
            _ => None,
        };
        assert_eq!(world.nodes[1].state(number), expected, "flow {number}");
    }
}

#[test]
fn what_was_told_at_last_and_arrives_after_the_takeover_counts() {
    let mut world = taken_over(true);
    world.run(50, 0);
    assert_changed(&world);
}

#[test]
fn what_happens_while_the_one_before_lingers_counts() {
    let mut world = taken_over(false);
    world.run(5, 0);
    change(&mut world);
    world.run(50, 0);
    assert_changed(&world);
}

#[test]
fn what_the_last_batch_of_packets_changed_is_told() {
    let mut world = taken_over(false);
    world.nodes[0].tell_all(world.now);
    world.nodes[0].copies.set_router(false, world.now, world.now);
    change(&mut world);
    world.step(0);
    world.run(50, 0);
    assert_changed(&world);
}

#[test]
fn a_session_that_is_used_goes_on_whatever_the_one_before_says_but_for_its_closing() {
    let mut world = taken_over(false);
    let now = world.now;
    for number in 0..FLOWS {
        let id = world.nodes[1].find(number).unwrap();
        world.nodes[1].table().update(id, |session| session.last_seen = now);
    }
    change(&mut world);
    world.run(50, 0);
    for number in 0..FLOWS {
        let expected = if (30..60).contains(&number) { CLOSING } else { ESTABLISHED };
        assert_eq!(world.nodes[1].state(number), Some(expected), "flow {number}");
    }
}

#[test]
fn another_router_is_not_believed_for_longer_than_it_may_linger() {
    let mut world = taken_over(false);
    world.run(2000, 0);
    (60..FLOWS).for_each(|number| world.nodes[0].packet(number | ENDS, world.now));
    world.run(50, 0);
    assert!((0..FLOWS).all(|number| world.nodes[1].state(number) == Some(ESTABLISHED)));
}

/// Each believes that the other one has just given up its role.
#[test]
fn two_that_both_took_over_do_not_tell_each_other_the_same_for_ever() {
    let mut world = taken_over(false);
    let now = world.now;
    world.nodes[0].copies.set_router(false, now, now);
    world.nodes[0].copies.set_router(true, now, now);
    let records = |world: &World| {
        world.nodes[0].copies.status(B, world.now).records + world.nodes[1].copies.status(A, world.now).records
    };
    world.run(100, 0);
    let told = records(&world);
    world.run(300, 0);
    assert_eq!(records(&world), told);
}

/// The thread sleeps until something is due.
#[test]
fn a_node_that_gave_its_role_up_wakes_for_its_last_changes() {
    let mut world = taken_over(false);
    world.run(50, 0);
    let now = world.now;
    world.nodes[0].copies.set_router(false, now, now);
    world.nodes[0].run(now);
    assert!(world.nodes[0].copies.poll_timeout() <= now + Duration::from_millis(3));
    let later = now + Duration::from_secs(1) + Duration::from_millis(1);
    world.nodes[0].run(later);
    assert!(world.nodes[0].copies.poll_timeout() > later);
}

/// More changes wait than a step reads.
#[test]
fn before_the_role_is_given_up_everything_is_told() {
    let now = Instant::from_millis(1_000_000);
    let mut node = Node::among(&[B], A, 9, 1024, 1 << 14, now);
    node.copies.set_router(true, now, now);
    node.run(now);
    (0..FLOWS).for_each(|number| node.packet(number | CONFIRMS, now));
    for _ in 0..50 {
        (0..FLOWS).for_each(|number| node.packet(number | CONFIRMS, now));
    }
    node.tell_all(now);
    let told = node.copies.status(B, now).records;
    assert!(told >= 50 * FLOWS, "{told}");
    let sent = node.run(now);
    assert!(!sent.is_empty());
}

/// Three nodes, and what each of them last sent.
struct Three {
    nodes: [Node; 3],
    now: Instant,
}

impl Three {
    fn new() -> Self {
        let now = Instant::from_millis(1_000_000);
        let node = |id: NodeId| {
            let others: Vec<_> = [A, B, C].into_iter().filter(|other| *other != id).collect();
            Node::among(&others, id, 100 + u64::from(id.0), 1024, 1 << 12, now)
        };
        Self { nodes: [A, B, C].map(node), now }
    }

    /// Runs these nodes for as many milliseconds; the others are dead.
    fn run(&mut self, alive: &[NodeId], millis: u64) {
        for _ in 0..millis {
            self.now += Duration::from_millis(1);
            for from in alive {
                for sent in self.nodes[from.index()].run(self.now) {
                    if alive.contains(&sent.node) {
                        let to = &mut self.nodes[sent.node.index()].copies;
                        to.handle_datagram(*from, sent.kind, &sent.body, self.now);
                    }
                }
            }
        }
    }

    fn set_active(&mut self, active: NodeId) {
        let now = self.now;
        for node in &mut self.nodes {
            node.copies.set_active(Some(active).filter(|active| *active != node.id));
            node.copies.set_router(node.id == active, now, now);
        }
    }

    fn is_ready(&self, node: NodeId) -> bool {
        self.nodes[node.index()].copies.sync_state(self.now).is_ready
    }

    fn has_all(&self, node: NodeId, flows: std::ops::Range<u64>) -> bool {
        flows.into_iter().all(|number| self.nodes[node.index()].find(number).is_some())
    }

    /// Packets of these flows at a node.
    fn confirm(&mut self, node: NodeId, flows: std::ops::Range<u64>) {
        for number in flows {
            self.nodes[node.index()].packet(number | CONFIRMS, self.now);
            self.nodes[node.index()].packet(number | CONFIRMS, self.now);
        }
    }
}

#[test]
fn a_third_node_is_ready_by_what_the_active_one_tells_and_not_by_what_the_one_before_told() {
    let mut three = Three::new();
    three.set_active(A);
    three.confirm(A, 0..20);
    three.run(&[A, B, C], 100);
    assert!(three.is_ready(B) && three.is_ready(C) && three.has_all(C, 0..20));

    // The first one dies, and the second one is not heard by the third at first.
    three.set_active(B);
    three.confirm(B, 20..40);
    assert!(three.is_ready(B) && !three.is_ready(C), "nobody told it what the second one has");
    three.run(&[B, C], 100);
    assert!(three.is_ready(C) && three.has_all(C, 0..40));

    // Without knowing who is active, the begin of a stream says it.
    three.nodes[2].copies.set_active(None);
    three.nodes[0].copies.set_router(true, three.now, three.now);
    let now = three.now;
    let begins = three.nodes[0].run(now + Duration::from_millis(1));
    let begins = begins.iter().find(|sent| sent.node == C && sent.kind == Kind::Stream).unwrap();
    three.nodes[2].copies.handle_datagram(A, begins.kind, &begins.body, now);
    assert!(!three.is_ready(C));
}

#[test]
fn the_one_before_that_begins_to_tell_again_takes_nothing_from_what_the_active_one_told() {
    let mut three = Three::new();
    three.set_active(A);
    three.confirm(A, 0..20);
    three.run(&[A, B, C], 100);
    three.set_active(B);
    three.confirm(B, 20..40);
    three.run(&[B, C], 100);

    // The first one believes that it still is the router, and tells everything that it has.
    three.nodes[0].copies.set_router(true, three.now, three.now);
    three.nodes[0].copies.set_connected(C, false);
    three.nodes[0].copies.set_connected(C, true);
    three.run(&[A, C], 100);
    assert!(three.has_all(C, 0..40), "what the active one told is kept");
    three.nodes[2].copies.set_active(Some(B));
    three.run(&[B, C], 200);
    assert!(three.is_ready(C) && three.has_all(C, 0..40));
}
