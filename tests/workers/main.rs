//! One worker and two workers decide alike: packets that are distributed as the kernel does it are sent as the same
//! bytes.
//!
//! Compared are verdict, sent bytes (which depend on firewall, translation and next hop), the frames that the engine
//! makes, and whether a session was opened. Two forwarders share the session table, the schedulers and the port pools,
//! as the workers of an engine do. Each flow stays with one of them, but the two legs of a translated flow, and
//! fragments and ICMP errors of a flow, may reach different ones.

mod captures;
mod clients;
mod world;

use captures::{Capture, Roles};
use clients::Conversation;
use fwlb::engine::Verdict;
use fwlb::slb::{ForwardingMode, Scheduler};
use world::{Decision, World};

/// Asserts that both logs are equal, and that both workers had packets.
#[track_caller]
fn assert_alike(what: &str, one: &[Decision], two: &[Decision]) {
    assert_eq!(one.len(), two.len(), "{what}");
    for (number, (one, two)) in one.iter().zip(two).enumerate() {
        assert_eq!(one, two, "{what}: packet {number}");
    }
}

fn forwarded(log: &[Decision]) -> usize {
    let left = |decision: &&Decision| {
        matches!(decision.verdict, Verdict::Forward(_) | Verdict::Hairpin(_) | Verdict::Replaced)
    };
    log.iter().filter(left).count()
}

fn opened(log: &[Decision]) -> u64 {
    log.iter().map(|decision| decision.opened).sum()
}

#[test]
fn real_captures_are_decided_alike() {
    let captures = captures::all();
    assert!(captures.len() >= 15, "{} captures", captures.len());
    let (mut frames, mut left, mut sessions, mut second) = (0, 0, 0, 0);
    for Capture { name, frames: captured } in &captures {
        let roles = Roles::of(captured);
        let play = |workers| {
            let mut world = World::outer(workers);
            roles.route(&mut world);
            let log = roles.play(&mut world, captured);
            (log, world.shares())
        };
        let (one, _) = play(1);
        let (two, shares) = play(2);
        assert_alike(name, &one, &two);
        frames += one.len();
        left += forwarded(&one);
        sessions += opened(&one);
        second += shares[1];
    }
    println!("{} captures, {frames} frames: {left} left, {sessions} sessions; worker 1 had {second}", captures.len());
    assert!(
        left * 3 > frames && sessions > 30,
        "{left} of {frames} frames left, {sessions} sessions: most were refused"
    );
    assert!(second * 10 > frames as u64, "the second worker had {second} of {frames} frames");
}

#[test]
fn a_services_clients_are_placed_and_translated_alike_in_every_mode() {
    for mode in [ForwardingMode::Nat, ForwardingMode::FullNat, ForwardingMode::Direct, ForwardingMode::Tunnel] {
        for scheduler in [Scheduler::RoundRobin, Scheduler::LeastConnections] {
            for is_sticky in [false, true] {
                let play = |workers| {
                    let mut world = World::inner(workers, mode, scheduler, is_sticky);
                    (clients::converse(&mut world, mode), world.shares())
                };
                let (one, _) = play(1);
                let (two, shares) = play(2);
                let what = format!("{mode:?}, {scheduler:?}, sticky {is_sticky}");
                assert_alike(&what, &one, &two);
                assert_eq!(forwarded(&one), one.len(), "{what}");
                assert_eq!(opened(&one), clients::CLIENTS as u64, "{what}");
                assert!(shares.iter().all(|share| share * 10 > one.len() as u64), "{what}: {shares:?}");
            }
        }
    }
}

/// Each worker runs on a thread of its own as fast as it can: what the other does to the table changes nothing.
#[test]
fn flows_are_decided_alike_while_both_workers_run() {
    let flows = Conversation::many(400);
    let mut one = World::outer(1);
    let alone = Conversation::through(&flows, &mut one);
    for _ in 0..5 {
        let mut two = World::outer(2);
        let together = Conversation::through_threads(&flows, &mut two);
        assert_eq!(alone.len(), together.len());
        for (flow, log) in &alone {
            assert_eq!(Some(log), together.get(flow), "flow {flow}");
        }
        assert!(two.shares().iter().all(|share| *share > 1000), "{:?}", two.shares());
        assert_eq!(one.sessions(), two.sessions());
    }
    assert_eq!(one.sessions(), flows.len());
}
