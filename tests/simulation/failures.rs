//! What happens to sessions when something fails, drains, restarts or recovers (`docs/design.md`, section 6).

use fwlb::config::{AdminState, BelowMin, OnFailure};
use fwlb::engine::view::{AlarmKind, FirewallState};
use fwlb::sim::firewall::FirewallLeg;

use super::*;

#[test]
fn a_half_dead_firewall_is_out_on_both_sides_within_600_ms() {
    for leg in [FirewallLeg::Outside, FirewallLeg::Inside] {
        for one_way in [None, Some(true), Some(false)] {
            let mut lab = ready(SandwichPlan { firewalls: 3, ..SandwichPlan::default() });
            let others: Vec<_> = (0..10).map(|n| lab.open_on(long(Traffic::TcpEcho), OUT, n % 2)).collect();
            lab.run_for(ms(500));

            match one_way {
                None => lab.cut_leg(2, leg, true),
                Some(sending) => lab.cut_one_way(2, leg, sending, true),
            }
            let begin = lab.world.now();
            for side in Side::BOTH {
                wait_for(&mut lab, side, 2, "down", ms(600));
            }

            assert!(lab.world.now().since(begin) <= ms(600), "{leg:?} {one_way:?}");
            lab.run_for(ms(2000));
            for flow in others {
                assert!(lab.flow(flow).longest_gap < ms(200), "a flow of another firewall felt it");
                assert_eq!(lab.firewalls_of(flow).len(), 1);
            }
            assert_unbroken(&lab);
        }
    }
}

#[test]
fn flows_of_a_dead_synced_firewall_go_on_and_no_other_flow_moves() {
    let mut lab = ready(SandwichPlan { firewalls: 3, kind: SimFirewallKind::Synced, ..SandwichPlan::default() });
    let hers: Vec<_> = (0..10).map(|_| lab.open_on(long(Traffic::TcpEcho), OUT, 0)).collect();
    let others: Vec<_> = (0..20).map(|n| lab.open_on(long(Traffic::TcpEcho), OUT, 1 + n % 2)).collect();
    lab.run_for(ms(1000));

    lab.crash_firewall(0);
    lab.run_for(ms(4000));

    for flow in hers {
        assert_eq!(lab.flow(flow).state, FlowState::Open);
        assert!(lab.flow(flow).longest_gap < ms(2500), "{:?}", lab.flow(flow));
        assert_works(&mut lab, flow, ms(200));
    }
    for flow in others {
        assert_eq!(lab.firewalls_of(flow).len(), 1);
        assert!(lab.flow(flow).longest_gap < ms(200));
    }
    assert_unbroken(&lab);
}

#[test]
fn a_firewall_that_comes_back_moves_nothing() {
    let mut lab = ready(SandwichPlan { firewalls: 3, kind: SimFirewallKind::Synced, ..SandwichPlan::default() });
    lab.crash_firewall(0);
    lab.run_for(ms(1000));
    let flows: Vec<_> = (0..30).map(|n| lab.open(long(Traffic::TcpEcho), if n % 2 == 0 { OUT } else { IN })).collect();
    lab.run_for(ms(1000));

    lab.boot_firewall(0);
    lab.run_for(ms(5000));
    let fresh: Vec<_> = (0..30).map(|_| lab.open(short(Traffic::TcpEcho), OUT)).collect();
    lab.run_for(ms(2500));

    for flow in flows {
        assert_eq!(lab.firewalls_of(flow).len(), 1, "{}", lab.flow(flow).tuple);
        assert_works(&mut lab, flow, ms(150));
    }
    assert!(fresh.iter().any(|flow| lab.firewalls_of(*flow) == [0]), "it takes new flows again");
    assert_unbroken(&lab);
}

#[test]
fn on_failure_reset_tells_both_ends_from_their_own_side() {
    let mut lab = ready(SandwichPlan { on_failure: OnFailure::Reset, ..SandwichPlan::default() });
    let echoes: Vec<_> = (0..6).map(|_| lab.open_on(long(Traffic::TcpEcho), OUT, 0)).collect();
    let pushes: Vec<_> = (0..6).map(|_| lab.open_on(long(Traffic::TcpPush), IN, 0)).collect();
    let other = lab.open_on(long(Traffic::TcpEcho), OUT, 1);
    lab.run_for(ms(1000));

    lab.crash_firewall(0);
    lab.run_for(ms(1500));

    for flow in echoes.iter().chain(&pushes) {
        assert_eq!(lab.flow(*flow).state, FlowState::Over(End::Reset), "{}", lab.flow(*flow).tuple);
    }
    for side in Side::BOTH {
        assert_eq!(lab.engine(side).counters().resets_sent, 12, "one to the end on its own side for each session");
        for host in &lab.nodes.hosts[side as usize] {
            assert!(lab.world.host(*host).tcp_connections() <= 1, "the other end knows too");
        }
    }
    let again: Vec<_> = (0..6).map(|_| lab.open(short(Traffic::TcpEcho), OUT)).collect();
    lab.run_for(ms(2500));
    for flow in again {
        assert_done(&lab, flow);
    }
    assert_works(&mut lab, other, ms(300));
    assert_eq!(lab.oracle(), 0, "no RST goes through a firewall that does not know the connection");
    assert_unbroken(&lab);
}

#[test]
fn on_failure_keep_and_drop_do_what_they_say() {
    for on_failure in [OnFailure::Keep, OnFailure::Drop] {
        let mut lab = ready(SandwichPlan { on_failure, kind: SimFirewallKind::Synced, ..SandwichPlan::default() });
        let flow = lab.open_on(long(Traffic::TcpEcho), OUT, 0);
        lab.run_for(ms(500));

        lab.cut_leg(0, FirewallLeg::Inside, true);
        lab.run_for(ms(2500));

        assert_eq!(lab.firewalls_of(flow), [0], "{on_failure:?}: it never went elsewhere");
        assert_unbroken(&lab);
        if on_failure == OnFailure::Keep {
            lab.cut_leg(0, FirewallLeg::Inside, false);
            assert_works(&mut lab, flow, ms(4000));
        }
    }
}

#[test]
fn too_few_firewalls_close_the_way_or_open_the_bypass() {
    for (below_min, open) in [(BelowMin::Drop, false), (BelowMin::Bypass, true)] {
        let mut lab = ready(SandwichPlan { min_up: 2, below_min, ..SandwichPlan::default() });
        lab.crash_firewall(0);
        lab.run_for(ms(1000));

        let flows: Vec<_> = [OUT, IN].map(|route| lab.open(short(Traffic::TcpEcho), route)).to_vec();
        lab.run_for(ms(2500));

        for flow in &flows {
            assert_eq!(lab.flow(*flow).served(), open, "{below_min:?}");
            assert!(lab.firewalls_of(*flow).is_empty());
        }
        assert_eq!(drops(&lab, Side::Outer, DropReason::BelowMin) > 0, !open);
        lab.boot_firewall(0);
        lab.run_for(ms(5000));
        let again = lab.open(short(Traffic::TcpEcho), OUT);
        lab.run_for(ms(2500));
        assert_done(&lab, again);
        assert_eq!(lab.firewalls_of(again).len(), 1);
    }
}

#[test]
fn a_drain_told_to_one_engine_holds_on_both_and_ends_at_its_deadline() {
    let mut lab = ready(SandwichPlan {
        kind: SimFirewallKind::Synced,
        drain_timeout: "3s",
        firewalls: 3,
        ..SandwichPlan::default()
    });
    let old: Vec<_> = (0..6).map(|n| lab.open_on(long(Traffic::TcpEcho), [OUT, IN][n % 2], 0)).collect();
    lab.run_for(ms(500));

    lab.set_admin(Side::Outer, 0, Some(AdminState::Drain));
    lab.run_for(ms(500));
    let new: Vec<_> = (0..20).map(|n| lab.open(long(Traffic::TcpEcho), [OUT, IN][n % 2])).collect();
    lab.run_for(ms(1500));

    for flow in &old {
        assert_eq!(lab.firewalls_of(*flow), [0], "old flows stay until the deadline");
    }
    lab.run_for(ms(3500));
    for flow in old.iter().chain(&new) {
        assert_eq!(lab.flow(*flow).state, FlowState::Open);
        assert_works(&mut lab, *flow, ms(150));
    }
    for flow in &new {
        assert!(!lab.firewalls_of(*flow).contains(&0), "a draining firewall takes no new flow, on either side");
    }
    let firewall = lab.nodes.firewalls[0];
    let passed = lab.world.firewall(firewall).passed();
    lab.run_for(ms(1000));
    assert!(lab.world.firewall(firewall).passed() <= passed + 400, "only probes go through it after the deadline");
    for flow in &old {
        assert!(lab.firewalls_of(*flow).len() == 2, "moved once");
    }
}

#[test]
fn a_lost_peer_takes_no_firewall_down() {
    let mut lab = ready(SandwichPlan::default());
    let flows: Vec<_> = (0..6).map(|_| lab.open(long(Traffic::UdpEcho), OUT)).collect();
    lab.run_for(ms(500));

    lab.pause_engine(Side::Inner, ms(2500));
    lab.run_for(ms(2000));

    let outer = lab.engine(Side::Outer);
    let states: Vec<_> = outer.firewalls(lab.world.now()).into_iter().map(|view| view.state).collect();
    assert!(states.iter().all(|state| *state != FirewallState::Down), "{states:?}");
    let kinds: Vec<_> = outer.alarms(lab.world.now()).into_iter().map(|alarm| alarm.kind).collect();
    assert!(kinds.contains(&AlarmKind::PeerLost.into()), "{kinds:?}");
    lab.run_for(ms(1500));
    for flow in flows {
        assert_works(&mut lab, flow, ms(300));
        assert_eq!(lab.firewalls_of(flow).len(), 1);
    }
    assert_eq!(lab.oracle(), 0);
    assert_unbroken(&lab);
}

#[test]
fn an_engine_that_stood_still_blames_nobody() {
    let mut lab = ready(SandwichPlan::default());
    for pause in [120, 400, 1000, 3000] {
        lab.pause_engine(Side::Outer, ms(pause));
        for _ in 0..(pause + 1500) / 10 {
            lab.run_for(ms(10));
            let states: Vec<_> =
                lab.engine(Side::Outer).firewalls(lab.world.now()).into_iter().map(|view| view.state).collect();
            assert_eq!(states, [FirewallState::Up; 2], "after {pause} ms at {:?}", since_start(&lab));
        }
    }
    assert_unbroken(&lab);
}

#[test]
fn an_engine_whose_workers_stand_still_blames_nobody() {
    let mut lab = ready(SandwichPlan::default());
    lab.set_probe_bypass();
    for stall in [120, 400, 1000] {
        lab.stall_workers(Side::Outer, ms(stall));
        for _ in 0..(stall + 1500) / 10 {
            lab.run_for(ms(10));
            for side in Side::BOTH {
                let views = lab.engine(side).firewalls(lab.world.now());
                let states: Vec<_> = views.into_iter().map(|view| view.state).collect();
                assert_eq!(
                    states,
                    [FirewallState::Up; 2],
                    "{} after {stall} ms at {:?}",
                    side.name(),
                    since_start(&lab)
                );
            }
        }
    }
    assert_unbroken(&lab);
}

#[test]
fn a_firewall_that_dies_while_workers_stand_still_is_found() {
    let mut lab = ready(SandwichPlan::default());
    lab.set_probe_bypass();
    lab.stall_workers(Side::Outer, ms(1000));
    lab.crash_firewall(0);
    lab.run_for(ms(700));
    for side in Side::BOTH {
        let views = lab.engine(side).firewalls(lab.world.now());
        let states: Vec<_> = views.into_iter().map(|view| view.state).collect();
        assert_eq!(states, [FirewallState::Down, FirewallState::Up], "{}", side.name());
    }
}

#[test]
fn a_moment_without_punts_takes_nobody_down_and_hides_nobody_who_is_dead() {
    for side in Side::BOTH {
        let mut lab = ready(SandwichPlan::default());
        for _ in 0..10 {
            lab.refuse_punts(side, ms(200));
            lab.run_for(ms(400));
            let states: Vec<_> =
                lab.engine(side).firewalls(lab.world.now()).into_iter().map(|view| view.state).collect();
            assert_eq!(states, [FirewallState::Up; 2]);
        }
        lab.crash_firewall(1);
        for _ in 0..7 {
            lab.refuse_punts(side, ms(50));
            lab.run_for(ms(100));
        }
        let states: Vec<_> = lab.engine(side).firewalls(lab.world.now()).into_iter().map(|view| view.state).collect();
        assert_eq!(states, [FirewallState::Up, FirewallState::Down]);
    }
}

#[test]
fn a_lost_peer_stays_lost_over_a_cut_of_both_cables() {
    let mut lab = ready(SandwichPlan::default());
    let flows: Vec<_> = (0..6).map(|_| lab.open(long(Traffic::UdpEcho), OUT)).collect();
    lab.run_for(ms(500));
    lab.crash_engine(Side::Inner);
    lab.run_for(ms(1000));
    let peer = |lab: &Scenario| lab.engine(Side::Outer).peers(lab.world.now())[0].state.to_string();
    assert_eq!(peer(&lab), "lost");

    (0..2).for_each(|firewall| lab.cut_leg(firewall, FirewallLeg::Outside, true));
    lab.run_for(ms(3000));
    assert_eq!(peer(&lab), "down");
    (0..2).for_each(|firewall| lab.cut_leg(firewall, FirewallLeg::Outside, false));
    lab.run_for(ms(2500));
    assert_eq!(peer(&lab), "lost");
    let kinds: Vec<_> = lab.engine(Side::Outer).alarms(lab.world.now()).into_iter().map(|alarm| alarm.kind).collect();
    assert!(kinds.iter().all(|kind| *kind == AlarmKind::PeerLost), "{kinds:?}");

    lab.start_engine(Side::Inner);
    lab.run_for(ms(5000));
    assert_eq!(peer(&lab), "up");
    for flow in flows {
        assert_works(&mut lab, flow, ms(300));
    }
    assert_unbroken(&lab);
}

#[test]
fn a_restart_costs_no_pins() {
    for side in Side::BOTH {
        let mut lab = ready(SandwichPlan { firewalls: 4, workers: [2, 1], ..SandwichPlan::default() });
        let flows: Vec<_> =
            (0..40).map(|n| lab.open(long(Traffic::TcpEcho), if n % 2 == 0 { OUT } else { IN })).collect();
        lab.run_for(ms(1000));

        lab.crash_engine(side);
        lab.run_for(ms(200));
        lab.start_engine(side);
        lab.run_for(ms(4500));

        for flow in flows {
            assert_eq!(lab.flow(flow).state, FlowState::Open, "{}", lab.flow(flow).tuple);
            assert_eq!(lab.firewalls_of(flow).len(), 1, "{}", lab.flow(flow).tuple);
            assert_works(&mut lab, flow, ms(150));
        }
        assert_eq!(lab.oracle(), 0, "{} restarted", side.name());
        assert_unbroken(&lab);
    }
}

#[test]
fn a_restart_takes_no_idle_connection_off_its_firewall() {
    // Idle connections that send only keep-alives after the restart; the next request comes seconds later.
    for side in Side::BOTH {
        let mut lab = ready(SandwichPlan { firewalls: 3, ..SandwichPlan::default() });
        let idle = FlowSpec { gap: ms(5_500), ..long(Traffic::TcpEcho) };
        let flows: Vec<_> = (0..20).map(|n| lab.open(idle, if n % 2 == 0 { OUT } else { IN })).collect();
        lab.run_for(ms(500));

        lab.crash_engine(side);
        lab.run_for(ms(100));
        lab.start_engine(side);
        lab.run_for(ms(7_000));

        for flow in flows {
            assert_eq!(lab.firewalls_of(flow).len(), 1, "{}", lab.flow(flow).tuple);
            assert!(lab.flow(flow).answered >= 2 && lab.flow(flow).state == FlowState::Open);
        }
        assert_eq!(lab.oracle(), 0);
        assert_unbroken(&lab);
    }
}

#[test]
fn a_firewall_with_another_hardware_address_keeps_its_sessions() {
    for leg in [FirewallLeg::Outside, FirewallLeg::Inside] {
        let mut lab = ready(SandwichPlan::default());
        let flows: Vec<_> = (0..6).map(|_| lab.open_on(long(Traffic::UdpEcho), OUT, 0)).collect();
        lab.run_for(ms(500));

        lab.change_mac(0, leg);
        lab.run_for(ms(1000));

        for flow in flows {
            // First its old address is probed, which takes 180 ms.
            assert!(lab.flow(flow).longest_gap <= ms(350), "{:?}", lab.flow(flow).longest_gap);
            assert_eq!(lab.firewalls_of(flow), [0]);
        }
        for side in Side::BOTH {
            assert_eq!(lab.engine(side).firewalls(lab.world.now())[0].state.name(), "up");
        }
        assert_unbroken(&lab);
    }
}

#[test]
fn a_link_without_carrier_costs_the_firewalls_nothing_when_it_is_back() {
    let mut lab = ready(SandwichPlan::default());
    let flow = lab.open(long(Traffic::UdpEcho), IN);
    lab.run_for(ms(500));

    lab.set_carrier(Side::Outer, 0, false);
    lab.run_for(ms(500));
    assert!(drops(&lab, Side::Outer, DropReason::LinkDown) > 0);
    lab.set_carrier(Side::Outer, 0, true);

    assert_works(&mut lab, flow, ms(1500));
    assert_eq!(lab.firewalls_of(flow).len(), 1);
    assert_unbroken(&lab);
}

#[test]
fn a_short_silence_of_an_engine_takes_no_firewall_down_at_its_peer() {
    // This is around the time when the first firewall is found down and other paths have missed fewer probes. An engine
    // that was stopped answers what has waited for it, one that was restarted does not, so that the same decisions come
    // earlier.
    let still = (280..400).step_by(8).map(|silence| (silence, false));
    let anew = (180..300).step_by(8).map(|silence| (silence, true));
    for (silence, is_restart) in still.chain(anew) {
        let mut lab = ready(SandwichPlan { firewalls: 3, ..SandwichPlan::default() });
        let flows: Vec<_> =
            (0..12).map(|n| lab.open(long(Traffic::TcpEcho), if n % 2 == 0 { OUT } else { IN })).collect();
        lab.run_for(ms(300));

        if is_restart {
            lab.crash_engine(Side::Outer);
            lab.run_for(ms(silence));
            lab.start_engine(Side::Outer);
        } else {
            lab.pause_engine(Side::Outer, ms(silence));
            lab.run_for(ms(silence));
        }
        lab.run_for(ms(1500));

        for flow in flows {
            assert_eq!(lab.firewalls_of(flow).len(), 1, "{silence} ms, {is_restart}: {}", lab.flow(flow).tuple);
        }
        let states: Vec<_> =
            lab.engine(Side::Inner).firewalls(lab.world.now()).into_iter().map(|view| view.state).collect();
        assert_eq!(states, [FirewallState::Up; 3], "{silence} ms, {is_restart}");
        assert_eq!(lab.oracle(), 0, "{silence} ms, {is_restart}");
        assert_unbroken(&lab);
    }
}
