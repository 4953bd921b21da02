//! The counterexamples of `docs/pinning.md`, section 4, in the same order, with real packets and engines.

use fwlb::sim::firewall::FirewallLeg;
use fwlb::sim::firewall::conntrack::Policy;
use fwlb::sim::packet::{Packet, Tuple, protocol, tcp_flag};

use super::*;

#[test]
fn counterexample_1_a_stale_syn_does_not_steal_the_follower() {
    // fw1 holds the SYN for longer than TCP waits: the handshake completes on fw2, then the first SYN comes out of fw1.
    let mut lab = ready(SandwichPlan::default());
    lab.slow_firewall(0, ms(1300));
    let flow = lab.open_on(long(Traffic::TcpPush), OUT, 0);

    lab.run_for(ms(2500));
    let moved_to = lab.firewalls_of(flow);
    let before = pins(&lab, Side::Inner, PinChange::Followed);
    lab.slow_firewall(0, Duration::ZERO);

    assert_eq!(moved_to, [0, 1], "the SYN was sent again through the other firewall");
    assert_works(&mut lab, flow, ms(500));
    assert_works(&mut lab, flow, ms(4000));
    assert_eq!(pins(&lab, Side::Inner, PinChange::Followed), before, "the server's side stays where the handshake was");
    assert_unbroken(&lab);
}

#[test]
fn counterexample_2_two_engines_that_both_chose_agree() {
    // The engines have different seeds, and both ends open at the same moment: each engine has sent a SYN through
    // another firewall.
    let plan = SandwichPlan { seeds: ["one secret", "another secret"], ..SandwichPlan::default() };
    let mut lab = ready(plan);
    let (client, server) = (OUT, IN);
    let ends = |port: u16| Tuple {
        protocol: protocol::TCP,
        source: (fwlb::sim::sandwich::host_address(Side::Outer, 0, true), port),
        destination: (fwlb::sim::sandwich::host_address(Side::Inner, 0, true), port + 1),
    };
    let crossed = (2000..u16::MAX).step_by(2).find(|port| {
        lab.chosen_firewall(Side::Outer, ends(*port)) != lab.chosen_firewall(Side::Inner, ends(*port).reversed())
    });
    let tuple = ends(crossed.expect("different seeds disagree about half of all flows"));

    let left = lab.open_tuple(long(Traffic::TcpEcho), client.from, 0, tuple);
    let right = lab.open_tuple(long(Traffic::TcpEcho), server.from, 0, tuple.reversed());
    lab.run_for(ms(8000));

    assert_works(&mut lab, left, ms(2000));
    assert_works(&mut lab, right, ms(2000));
    let moves = lab.checkers.history(right).unwrap().moves();
    lab.run_for(ms(8000));
    assert_eq!(lab.checkers.history(right).unwrap().moves(), moves, "they agreed and stay so");
}

#[test]
fn counterexample_3_two_engines_that_both_learned_do_not_swap_for_ever() {
    // The SYN is delayed in fw1 while the handshake completes on fw2; the outer engine restarts; late packets arrive on
    // both paths.
    let mut lab = ready(kind(SimFirewallKind::Synced));
    lab.slow_firewall(0, ms(1800));
    let flow = lab.open_on(long(Traffic::TcpEcho), OUT, 0);
    lab.run_for(ms(1300));
    lab.crash_engine(Side::Outer);
    lab.run_for(ms(50));
    lab.start_engine(Side::Outer);
    lab.run_for(ms(700));
    let (client, server) = (lab.flow(flow).tuple.source, lab.flow(flow).tuple.destination);
    for firewall in [0, 1] {
        lab.inject_late(firewall, Side::Outer, Packet::tcp(server, client, tcp_flag::ACK, 1, 1, b""));
        lab.inject_late(firewall, Side::Inner, Packet::tcp(client, server, tcp_flag::ACK, 1, 1, b""));
    }
    lab.slow_firewall(0, Duration::ZERO);

    lab.run_for(ms(6000));
    let moves = lab.checkers.history(flow).unwrap().moves();

    assert_works(&mut lab, flow, ms(3000));
    assert_eq!(lab.checkers.history(flow).unwrap().moves(), moves, "the flow has come to rest");
    assert!(moves <= 6, "{moves} moves");
}

#[test]
fn counterexample_4_a_restart_makes_no_wrong_owner() {
    // The flow was opened on fw2 while fw1 was down. fw1 is back, and the outer engine restarts: its hash gives fw1,
    // which is strict and drops. What arrives from fw2 corrects the pin.
    let mut lab = ready(SandwichPlan::default());
    let away = lab.open_on(short(Traffic::TcpEcho), OUT, 0);
    let port = lab.flow(away).tuple.source.1 + 1;
    lab.crash_firewall(0);
    lab.run_for(ms(800));
    let port = (port..).find(|port| {
        let tuple = fwlb::sim::scenario::tuple(Traffic::TcpPush, OUT, *port);
        hashes_to(&lab, tuple, 0)
    });
    let flow = lab.open_as(long(Traffic::TcpPush), OUT, port.unwrap());
    lab.run_for(ms(500));
    lab.boot_firewall(0);
    lab.run_for(ms(4000));
    assert_eq!(lab.firewalls_of(flow), [1]);

    lab.crash_engine(Side::Outer);
    lab.run_for(ms(100));
    lab.start_engine(Side::Outer);
    lab.run_for(ms(2500));

    assert_works(&mut lab, flow, ms(1000));
    assert_works(&mut lab, flow, ms(3000));
    assert_unbroken(&lab);
}

/// True if the flow belongs on `firewall` when all firewalls are up.
fn hashes_to(lab: &Scenario, tuple: Tuple, firewall: usize) -> bool {
    let healthy = Scenario::new(lab.plan.clone(), 1);
    let snapshot = healthy.engine(Side::Outer).snapshot().unwrap();
    let end = |(address, port)| fwlb::flow::Endpoint { address, port };
    let key = fwlb::flow::FlowKey {
        protocol: tuple.protocol,
        source: end(tuple.source),
        destination: end(tuple.destination),
    };
    let group = &snapshot.groups[0];
    let all = (1 << group.members.len()) - 1;
    fwlb::path::rendezvous::select(group, all, group.hasher.flow_hash(&key)) == Some(firewall)
}

#[test]
fn counterexample_4b_with_different_seeds_a_restart_is_corrected_by_the_next_packet() {
    let plan = SandwichPlan { seeds: ["one secret", "another secret"], ..SandwichPlan::default() };
    let mut lab = ready(plan);
    let flows: Vec<_> = (0..12).map(|_| lab.open(long(Traffic::TcpEcho), IN)).collect();
    lab.run_for(ms(1000));

    lab.crash_engine(Side::Outer);
    lab.run_for(ms(100));
    lab.start_engine(Side::Outer);
    lab.run_for(ms(5000));

    for flow in flows {
        assert_works(&mut lab, flow, ms(600));
    }
    assert_unbroken(&lab);
}

#[test]
fn counterexample_5_a_false_alarm_does_not_end_a_flow() {
    // fw1 is healthy but passes no probes for a moment: the flow leaves it, and returns to where its state is.
    let mut lab = ready(SandwichPlan::default());
    let flow = lab.open_on(long(Traffic::TcpEcho), OUT, 0);
    lab.run_for(ms(500));

    lab.block_probes(0, FirewallLeg::Outside, true);
    lab.run_for(ms(500));
    lab.block_probes(0, FirewallLeg::Outside, false);
    lab.run_for(ms(4500));

    assert_works(&mut lab, flow, ms(2000));
    assert_eq!(lab.flow(flow).state, FlowState::Open);
}

#[test]
fn counterexample_6_reselecting_does_not_fight_learning() {
    // The outer engine's probes through fw1 are blocked, the inner engine's are not.
    let mut lab = ready(SandwichPlan::default());
    lab.block_probes(0, FirewallLeg::Outside, true);
    lab.run_for(ms(700));

    let flows: Vec<_> = (0..20).map(|_| lab.open(short(Traffic::TcpEcho), IN)).collect();
    lab.run_for(ms(3000));

    for flow in flows {
        assert_done(&lab, flow);
    }
    assert_unbroken(&lab);
}

#[test]
fn counterexample_7_a_dead_firewall_is_not_trusted_for_ever() {
    // The outer engine restarts and learns the flow from a late packet of fw1; then fw1 fails. A synchronised firewall
    // has the state, so that the flow must continue there.
    let mut lab = ready(kind(SimFirewallKind::Synced));
    let flow = lab.open_on(long(Traffic::TcpEcho), OUT, 0);
    lab.run_for(ms(500));
    lab.crash_engine(Side::Outer);
    lab.run_for(ms(20));
    lab.start_engine(Side::Outer);
    let (client, server) = (lab.flow(flow).tuple.source, lab.flow(flow).tuple.destination);
    lab.inject_late(0, Side::Outer, Packet::tcp(server, client, tcp_flag::SYN | tcp_flag::ACK, 1, 1, b""));
    lab.run_for(ms(5));
    lab.crash_firewall(0);

    lab.run_for(ms(4500));

    assert_works(&mut lab, flow, ms(2500));
    assert!(lab.firewalls_of(flow).contains(&1));
}

#[test]
fn counterexample_8_a_confirmed_leader_comes_back_from_a_wrong_turn() {
    // Late packets move the client's engine to fw1, which has no state; the server keeps sending through fw2.
    for opened in [OUT, IN] {
        let mut lab = ready(SandwichPlan::default());
        let flow = lab.open_on(long(Traffic::TcpPush), opened, 1);
        lab.run_for(ms(500));
        let side = opened.from;
        lab.crash_engine(side);
        lab.run_for(ms(20));
        lab.start_engine(side);
        let (own, other) = (lab.flow(flow).tuple.source, lab.flow(flow).tuple.destination);
        for _ in 0..2 {
            lab.inject_late(0, side, Packet::tcp(other, own, tcp_flag::ACK, 1, 1, b""));
            lab.run_for(ms(2));
        }

        lab.run_for(ms(4500));

        assert_works(&mut lab, flow, ms(1500));
        assert_eq!(lab.flow(flow).state, FlowState::Open);
    }
}

#[test]
fn counterexample_9_a_late_syn_ack_moves_nothing() {
    let mut lab = ready(kind(SimFirewallKind::Synced));
    let flow = lab.open_on(long(Traffic::TcpEcho), OUT, 1);
    lab.run_for(ms(500));
    let (client, server) = (lab.flow(flow).tuple.source, lab.flow(flow).tuple.destination);
    let late = Packet::tcp(server, client, tcp_flag::SYN | tcp_flag::ACK, 77, 1, b"");
    lab.inject_late(0, Side::Outer, late.clone());
    lab.send_raw(Side::Inner, 0, late);

    lab.run_for(ms(2000));

    assert_eq!(lab.firewalls_of(flow), [1]);
    assert_works(&mut lab, flow, ms(500));
    assert_unbroken(&lab);
}

#[test]
fn counterexample_10_rotation_ends() {
    // No firewall has state for these segments, and their sender keeps retransmitting.
    for firewalls in [2, 3] {
        let mut lab = ready(SandwichPlan { firewalls, ..SandwichPlan::default() });
        let tuple = fwlb::sim::scenario::tuple(Traffic::TcpEcho, OUT, 33_333);
        for _ in 0..100 {
            let segment = Packet::tcp(tuple.source, tuple.destination, tcp_flag::ACK, 5, 5, b"hello");
            lab.send_raw(Side::Outer, 0, segment);
            lab.run_for(ms(300));
        }

        let turns = pins(&lab, Side::Outer, PinChange::Rotated);
        assert!(turns > 0 && turns <= 2 * firewalls as u64, "{turns} turns with {firewalls} firewalls");
    }
}

#[test]
fn a_flow_that_is_told_nothing_keeps_its_firewall() {
    // One-way traffic from inside through a firewall that follows from the hash alone.
    let mut lab = ready(SandwichPlan { policy: Policy::Both, firewalls: 4, ..SandwichPlan::default() });
    let flows: Vec<_> = (0..20).map(|_| lab.open(long(Traffic::UdpOneWay), IN)).collect();

    lab.run_for(ms(10_000));

    for flow in flows {
        assert_eq!(lab.firewalls_of(flow).len(), 1);
        assert!(lab.flow(flow).answered + 2 >= lab.flow(flow).sent);
    }
    assert_unbroken(&lab);
}
