//! Services in the sandwich: their sessions have a firewall and a server, each of which may fail.

use fwlb::config::{AdminState, ForwardingMode, OnFailure};
use fwlb::sim::farm::{FarmPlan, PlannedCheck, PlannedScheduler, ServicePlan};
use fwlb::sim::host::Health;
use fwlb::sim::world::Cable;

use super::*;

/// A plan with these services and three servers.
fn farm(services: Vec<ServicePlan>) -> SandwichPlan {
    SandwichPlan { farm: FarmPlan { servers: 3, services, ports: 0 }, ..SandwichPlan::default() }
}

fn service(traffic: Traffic, mode: ForwardingMode) -> ServicePlan {
    ServicePlan { traffic, mode, ..ServicePlan::default() }
}

/// The kinds of traffic that services get.
const SORTS: [Traffic; 4] = [Traffic::TcpEcho, Traffic::TcpPush, Traffic::UdpEcho, Traffic::UdpOneWay];

/// Opens `count` flows of ten exchanges to a service, from alternate clients.
fn ask(lab: &mut Scenario, service: usize, count: usize, v4: bool) -> Vec<FlowRef> {
    let open = |number| lab.open_to_service(service, short(Traffic::TcpEcho), Side::Outer, number % 2, v4);
    (0..count).map(open).collect()
}

/// The number of flows of each server.
fn shares(lab: &Scenario, flows: &[FlowRef]) -> [usize; 3] {
    let mut shares = [0; 3];
    for flow in flows {
        let servers = lab.servers_of(*flow);
        assert_eq!(servers.len(), 1, "{}", lab.flow(*flow).tuple);
        shares[servers[0]] += 1;
    }
    shares
}

/// Lets clients of both families use the first `services` services in turn, until every flow is done.
fn serve(lab: &mut Scenario, flows: usize, services: usize) {
    let flows: Vec<_> = (0..flows).flat_map(|n| ask(lab, n % services, 1, n < flows / 2)).collect();
    lab.run_for(ms(2500));

    for flow in flows {
        assert_done(lab, flow);
    }
}

/// Every mode serves every kind of flow in both families.
fn every_mode_serves(kind: SimFirewallKind) {
    for mode in [ForwardingMode::Nat, ForwardingMode::FullNat, ForwardingMode::Direct, ForwardingMode::Tunnel] {
        let services = SORTS.map(|traffic| service(traffic, mode)).to_vec();
        let mut lab = ready(SandwichPlan { kind, ..farm(services) });
        serve(&mut lab, 16, 4);
        assert_eq!(lab.oracle(), 0, "{kind:?} {mode:?}");
        assert_unbroken(&lab);
    }
}

#[test]
fn every_mode_serves_every_sort_of_flow_behind_strict_firewalls() {
    every_mode_serves(SimFirewallKind::Strict);
}

#[test]
fn every_mode_serves_every_sort_of_flow_behind_translating_firewalls() {
    every_mode_serves(SimFirewallKind::Nat);
}

#[test]
fn every_mode_serves_every_sort_of_flow_behind_transparent_firewalls() {
    every_mode_serves(SimFirewallKind::Transparent);
}

#[test]
fn a_service_in_front_of_the_firewalls_is_served_through_them() {
    for mode in [ForwardingMode::Nat, ForwardingMode::FullNat] {
        let services = SORTS.map(|traffic| ServicePlan { side: Side::Outer, ..service(traffic, mode) }).to_vec();
        let mut lab = ready(SandwichPlan { firewalls: 3, ..farm(services) });
        serve(&mut lab, 16, 4);
        assert_eq!(lab.oracle(), 0, "{mode:?}");
        assert_unbroken(&lab);
    }
}

#[test]
fn an_engine_without_a_group_is_a_plain_server_load_balancer() {
    for one_arm in [false, true] {
        let services = [ForwardingMode::Nat, ForwardingMode::FullNat, ForwardingMode::Direct]
            .map(|mode| service(Traffic::TcpEcho, mode))
            .to_vec();
        let mut lab = Scenario::new(SandwichPlan { firewalls: 0, one_arm, ..farm(services) }, 42);
        lab.run_for(ms(1200));
        serve(&mut lab, 18, 3);
        assert_unbroken(&lab);
    }
}

#[test]
fn a_client_beside_the_servers_is_served_by_full_nat_and_direct() {
    for mode in [ForwardingMode::FullNat, ForwardingMode::Direct, ForwardingMode::Tunnel] {
        let services = SORTS
            .map(|traffic| ServicePlan { snat: mode == ForwardingMode::FullNat, ..service(traffic, mode) })
            .to_vec();
        let mut lab = ready(farm(services));
        let flows: Vec<_> =
            (0..16).map(|n| lab.open_to_service(n % 4, short(Traffic::TcpEcho), Side::Inner, n % 2, n < 8)).collect();
        lab.run_for(ms(2500));

        for flow in flows {
            assert_done(&lab, flow);
        }
        assert_unbroken(&lab);
    }
}

#[test]
fn weights_are_exact_and_a_backup_waits() {
    let weights =
        ServicePlan { weights: vec![3, 1, 5], backup: Some(2), ..service(Traffic::TcpEcho, ForwardingMode::Nat) };
    let mut lab = ready(farm(vec![weights]));

    let flows = ask(&mut lab, 0, 40, true);
    lab.run_for(ms(3000));
    assert_eq!(shares(&lab, &flows), [30, 10, 0]);

    lab.set_health(0, Health::Dead);
    lab.set_health(1, Health::Refusing);
    lab.run_for(ms(1500));
    let flows = ask(&mut lab, 0, 10, true);
    lab.run_for(ms(3000));
    assert_eq!(shares(&lab, &flows), [0, 0, 10]);
    assert_unbroken(&lab);
}

#[test]
fn a_server_is_down_for_its_own_reason_by_every_kind_of_check() {
    for (check, health) in [
        (PlannedCheck::Icmp, Health::Dead),
        (PlannedCheck::Tcp, Health::Dead),
        (PlannedCheck::Tcp, Health::Refusing),
        (PlannedCheck::HalfOpen, Health::Refusing),
        (PlannedCheck::HalfOpen, Health::Dead),
        (PlannedCheck::Http, Health::Sick),
        (PlannedCheck::Http, Health::Refusing),
    ] {
        let mut lab = ready(farm(vec![ServicePlan { check, ..service(Traffic::TcpEcho, ForwardingMode::Nat) }]));
        let state = |lab: &Scenario| {
            let services = lab.engine(Side::Inner).services(lab.world.now());
            services[0].servers.iter().map(|server| server.state.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(state(&lab), ["up", "up", "up"], "{check:?}");

        lab.set_health(1, health);
        lab.run_for(ms(1200));
        assert_eq!(state(&lab), ["up", "down", "up"], "{check:?} {health:?}");

        lab.set_health(1, Health::Well);
        lab.run_for(ms(1200));
        assert_eq!(state(&lab), ["up", "up", "up"], "{check:?} {health:?}");
        assert_unbroken(&lab);
    }
}

#[test]
fn sessions_of_a_dead_server_end_as_on_failure_says() {
    for (on_failure, traffic, mode) in [
        (OnFailure::Reset, Traffic::TcpEcho, ForwardingMode::Nat),
        (OnFailure::Reset, Traffic::TcpPush, ForwardingMode::FullNat),
        (OnFailure::Drop, Traffic::TcpEcho, ForwardingMode::FullNat),
        (OnFailure::Keep, Traffic::TcpEcho, ForwardingMode::Nat),
        (OnFailure::Reselect, Traffic::UdpEcho, ForwardingMode::Nat),
        (OnFailure::Reselect, Traffic::UdpEcho, ForwardingMode::FullNat),
    ] {
        let plan = ServicePlan { on_failure: Some(on_failure), ..service(traffic, mode) };
        let mut lab = ready(farm(vec![plan]));
        let flows: Vec<_> = (0..12).map(|n| lab.open_to_service(0, long(traffic), Side::Outer, n % 2, n < 6)).collect();
        lab.run_for(ms(1000));
        let hers: Vec<_> = flows.iter().copied().filter(|flow| lab.servers_of(*flow) == [1]).collect();
        assert_eq!(hers.len(), 4);

        lab.set_health(1, Health::Dead);
        lab.run_for(ms(2500));

        for flow in &flows {
            let (state, servers) = (lab.flow(*flow).state, lab.servers_of(*flow));
            match (hers.contains(flow), on_failure) {
                (false, _) => assert_eq!((state, servers.len()), (FlowState::Open, 1)),
                (true, OnFailure::Reset) => assert_eq!(state, FlowState::Over(End::Reset)),
                (true, OnFailure::Reselect) => assert_eq!((state, servers.len()), (FlowState::Open, 2)),
                (true, OnFailure::Keep | OnFailure::Drop) => {
                    assert_eq!((state, servers.len()), (FlowState::Open, 1))
                }
            }
        }
        assert_eq!(lab.oracle(), 0, "{on_failure:?} {mode:?}");
        assert_unbroken(&lab);
    }
}

#[test]
fn a_server_cut_off_and_its_client_both_hear_of_the_reset() {
    let mut lab =
        ready(farm(vec![ServicePlan { check: PlannedCheck::Http, ..service(Traffic::TcpEcho, ForwardingMode::Nat) }]));
    let flows: Vec<_> =
        (0..9).map(|n| lab.open_to_service(0, long(Traffic::TcpEcho), Side::Outer, n % 2, true)).collect();
    lab.run_for(ms(1000));
    let server = lab.nodes.servers[0];
    assert_eq!(lab.world.host(server).tcp_connections(), 3);

    // Its page returns 503: it gets no new sessions, although its connections live.
    lab.set_health(0, Health::Sick);
    lab.run_for(ms(1500));

    let reset = flows.iter().filter(|flow| lab.flow(**flow).state == FlowState::Over(End::Reset)).count();
    assert_eq!(reset, 3);
    assert!(lab.world.host(server).tcp_connections() <= 1, "its connections ended, but for a check's");
    assert_eq!(lab.oracle(), 0);
    assert_unbroken(&lab);
}

#[test]
fn a_draining_server_keeps_its_sessions_until_the_deadline_and_gets_no_new_ones() {
    let mut lab =
        ready(farm(vec![ServicePlan { drain_timeout: "2s", ..service(Traffic::TcpEcho, ForwardingMode::Nat) }]));
    let old: Vec<_> =
        (0..9).map(|n| lab.open_to_service(0, long(Traffic::TcpEcho), Side::Outer, n % 2, true)).collect();
    lab.run_for(ms(1000));

    lab.set_server_admin(0, 1, Some(AdminState::Drain));
    let new: Vec<_> =
        (0..8).map(|n| lab.open_to_service(0, long(Traffic::TcpEcho), Side::Outer, n % 2, true)).collect();
    lab.run_for(ms(1500));
    assert_eq!(shares(&lab, &new)[1], 0);
    for flow in &old {
        assert_eq!(lab.flow(*flow).state, FlowState::Open);
    }

    lab.run_for(ms(1500));
    for flow in &old {
        let gone = lab.servers_of(*flow) == [1];
        let expected = if gone { FlowState::Over(End::Reset) } else { FlowState::Open };
        assert_eq!(lab.flow(*flow).state, expected, "after the deadline");
    }
    assert_eq!(lab.oracle(), 0);
    assert_unbroken(&lab);
}

#[test]
fn sticky_clients_come_back_to_their_server_until_it_dies_and_then_stay_with_the_next() {
    let mut lab = ready(farm(vec![ServicePlan { sticky_s: 60, ..service(Traffic::TcpEcho, ForwardingMode::Nat) }]));
    let visit = |lab: &mut Scenario, opener| {
        let flow = lab.open_to_service(0, FlowSpec { rounds: 2, ..short(Traffic::TcpEcho) }, Side::Outer, opener, true);
        lab.run_for(ms(600));
        lab.servers_of(flow)
    };
    let first = [0, 1].map(|opener| visit(&mut lab, opener));
    for _ in 0..5 {
        assert_eq!([0, 1].map(|opener| visit(&mut lab, opener)), first);
    }

    lab.set_health(first[0][0], Health::Dead);
    lab.run_for(ms(1200));
    let second = visit(&mut lab, 0);
    assert_ne!(second, first[0]);
    lab.set_health(first[0][0], Health::Well);
    lab.run_for(ms(1500));
    assert_eq!(visit(&mut lab, 0), second, "it stays where it went");
    assert_unbroken(&lab);
}

#[test]
fn a_firewall_and_a_server_die_at_once_and_each_flow_fares_as_its_own_half() {
    let mut lab = ready(SandwichPlan {
        firewalls: 3,
        kind: SimFirewallKind::Synced,
        ..farm(vec![service(Traffic::TcpEcho, ForwardingMode::Nat)])
    });
    let flows: Vec<_> =
        (0..30).map(|n| lab.open_to_service(0, long(Traffic::TcpEcho), Side::Outer, n % 2, n < 15)).collect();
    lab.run_for(ms(1000));

    lab.set_health(2, Health::Dead);
    lab.crash_firewall(0);
    lab.run_for(ms(4000));

    for flow in flows {
        let ended = lab.servers_of(flow) == [2];
        let expected = if ended { FlowState::Over(End::Reset) } else { FlowState::Open };
        assert_eq!(lab.flow(flow).state, expected, "{} by {:?}", lab.flow(flow).tuple, lab.firewalls_of(flow));
    }
    assert_unbroken(&lab);
}

#[test]
fn a_restarted_engine_serves_new_sessions_and_tells_the_old_clients() {
    for (scheduler, mode) in
        [(PlannedScheduler::RoundRobin, ForwardingMode::FullNat), (PlannedScheduler::Hash, ForwardingMode::Nat)]
    {
        let mut lab = ready(farm(vec![ServicePlan { scheduler, ..service(Traffic::TcpEcho, mode) }]));
        let old: Vec<_> =
            (0..10).map(|n| lab.open_to_service(0, long(Traffic::TcpEcho), Side::Outer, n % 2, true)).collect();
        lab.run_for(ms(1000));

        lab.crash_engine(Side::Inner);
        lab.run_for(ms(100));
        lab.start_engine(Side::Inner);
        lab.run_for(ms(6000));

        for flow in old {
            let expected = match scheduler {
                // The hash gives them the servers that they had before.
                PlannedScheduler::Hash => FlowState::Open,
                PlannedScheduler::RoundRobin | PlannedScheduler::LeastConnections => FlowState::Over(End::Reset),
            };
            assert_eq!(lab.flow(flow).state, expected, "{scheduler:?}");
        }
        let new = ask(&mut lab, 0, 6, true);
        lab.run_for(ms(3000));
        for flow in new {
            assert_done(&lab, flow);
        }
        assert_unbroken(&lab);
    }
}

#[test]
fn a_client_that_the_engine_forgot_is_placed_although_its_server_spoke_first() {
    for mode in [ForwardingMode::Direct, ForwardingMode::Tunnel] {
        let mut lab =
            ready(farm(vec![ServicePlan { scheduler: PlannedScheduler::Hash, ..service(Traffic::TcpPush, mode) }]));
        let flows: Vec<_> =
            (0..10).map(|n| lab.open_to_service(0, long(Traffic::TcpPush), Side::Outer, n % 2, n < 5)).collect();
        lab.run_for(ms(1000));
        // The servers keep sending through the engine, which has forgotten their clients.
        lab.crash_engine(Side::Inner);
        lab.run_for(ms(100));
        lab.start_engine(Side::Inner);
        lab.run_for(ms(2500));

        for flow in flows {
            assert_works(&mut lab, flow, ms(600));
        }
        assert_unbroken(&lab);
    }
}

#[test]
fn a_greedy_client_of_a_full_nat_service_leaves_ports_to_the_other() {
    // In IPv6 both clients of the simulation are in one /64, and so one source.
    let mut plan = farm(vec![service(Traffic::TcpEcho, ForwardingMode::FullNat)]);
    plan.farm.servers = 1;
    plan.farm.ports = 45;
    let mut lab = ready(plan);
    let greedy: Vec<_> =
        (0..60).map(|_| lab.open_to_service(0, long(Traffic::TcpEcho), Side::Outer, 0, true)).collect();
    lab.run_for(ms(1000));
    // As long as it has no more than eight for each port that it leaves.
    assert_eq!(greedy.iter().filter(|flow| lab.flow(**flow).state != FlowState::Opening).count(), 41);
    assert!(drops(&lab, Side::Inner, DropReason::SourceShare) > 0);
    assert_eq!(drops(&lab, Side::Inner, DropReason::SnatExhausted), 0);

    let modest: Vec<_> =
        (0..4).map(|_| lab.open_to_service(0, short(Traffic::TcpEcho), Side::Outer, 1, true)).collect();
    lab.run_for(ms(2500));
    for flow in modest {
        assert_done(&lab, flow);
    }
    assert_unbroken(&lab);
}

#[test]
fn when_the_ports_end_only_new_flows_are_refused_and_ports_come_back_rested() {
    let mut plan = farm(vec![service(Traffic::TcpEcho, ForwardingMode::FullNat)]);
    plan.farm.servers = 1;
    plan.farm.ports = 5;
    let mut lab = ready(plan);
    let held: Vec<_> =
        (0..5).map(|n| lab.open_to_service(0, long(Traffic::TcpEcho), Side::Outer, n % 2, true)).collect();
    lab.run_for(ms(500));
    let refused = lab.open_to_service(0, short(Traffic::TcpEcho), Side::Outer, 0, true);
    let six = lab.open_to_service(0, short(Traffic::TcpEcho), Side::Outer, 0, false);
    lab.run_for(ms(800));

    assert_eq!(lab.flow(refused).state, FlowState::Opening);
    assert!(drops(&lab, Side::Inner, DropReason::SnatExhausted) > 0);
    assert!(lab.flow(six).answered > 0, "the ports of another address are free");
    for flow in held {
        assert_works(&mut lab, flow, ms(150));
    }
    assert_unbroken(&lab);

    let mut plan = farm(vec![service(Traffic::TcpEcho, ForwardingMode::FullNat)]);
    plan.farm.servers = 1;
    plan.farm.ports = 5;
    let mut lab = ready(plan);
    for _ in 0..8 {
        let flows = ask(&mut lab, 0, 3, true);
        lab.run_for(ms(2000));
        drop(flows);
    }
    lab.run_for(ms(5000));
    let last = ask(&mut lab, 0, 3, true);
    lab.run_for(ms(2500));
    for flow in last {
        assert_done(&lab, flow);
    }
    assert_unbroken(&lab);
}

#[test]
fn fragments_and_super_frames_reach_the_servers_whole() {
    for mode in [ForwardingMode::Nat, ForwardingMode::FullNat, ForwardingMode::Direct] {
        let services = vec![service(Traffic::UdpEcho, mode), service(Traffic::TcpEcho, mode)];
        let mut lab = ready(SandwichPlan { gso: true, ..farm(services) });
        let large = FlowSpec { size: 3500, shuffled: true, ..short(Traffic::UdpEcho) };
        let flows: Vec<_> = (0..8).map(|n| lab.open_to_service(n % 2, large, Side::Outer, n % 2, n < 4)).collect();
        lab.run_for(ms(2500));

        for flow in flows {
            assert_done(&lab, flow);
        }
        assert_eq!(lab.oracle(), 0, "{mode:?}");
        assert_unbroken(&lab);
    }
}

#[test]
fn a_bad_cable_of_a_server_harms_no_flow_of_another() {
    let mut lab =
        ready(farm(vec![ServicePlan { check: PlannedCheck::Icmp, ..service(Traffic::TcpEcho, ForwardingMode::Nat) }]));
    lab.set_server_cable(0, Cable { loss: 50, duplicate: 200, reorder: 300, ..Cable::GOOD });
    let flows = ask(&mut lab, 0, 12, true);
    lab.run_for(ms(5000));

    for flow in flows {
        if lab.servers_of(flow) != [0] {
            assert_done(&lab, flow);
            assert!(lab.flow(flow).longest_gap < ms(300));
        }
    }
    assert_unbroken(&lab);
}

#[test]
fn what_nobody_announced_is_seen_by_the_checkers_of_services() {
    let sticky = ServicePlan {
        sticky_s: 60,
        scheduler: PlannedScheduler::Hash,
        ..service(Traffic::TcpEcho, ForwardingMode::Nat)
    };
    let mut lab = ready(farm(vec![service(Traffic::TcpEcho, ForwardingMode::Nat), sticky]));
    let promises = |lab: &Scenario| lab.checkers.violations().iter().map(|v| v.promise).collect::<Vec<_>>();
    // One turn more or less is allowed, and so are sessions of clients whose server is remembered.
    ask(&mut lab, 0, 4, true);
    ask(&mut lab, 1, 2, true);
    lab.run_for(ms(3500));
    assert_unbroken(&lab);

    // The checkers do not learn of the restart here: the turns start again, and the hash may give a sticky client's
    // next port another server.
    let inner = lab.nodes.engine(Side::Inner);
    lab.world.with_engine(inner, |engine, _| engine.crash());
    lab.world.with_engine(inner, fwlb::sim::sim_engine::SimEngine::start);
    lab.run_for(ms(1500));
    ask(&mut lab, 0, 3, true);
    ask(&mut lab, 1, 8, true);
    lab.run_for(ms(1500));
    for promise in ["exact turns", "sticky clients stay"] {
        assert!(promises(&lab).contains(&promise), "{:?}", promises(&lab));
    }

    let server = lab.nodes.servers[0];
    lab.world.with_host(server, |host, now| host.set_health(Health::Dead, now));
    lab.run_for(ms(1500));
    assert!(promises(&lab).contains(&"no false alarm"), "{:?}", promises(&lab));
}
