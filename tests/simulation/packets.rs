//! Every kind of packet of a flow goes through the flow's firewall.

use fwlb::sim::packet::{Packet, tcp_flag};
use fwlb::sim::sandwich::{engine_address, firewall_address, gateway, host_address};

use super::*;

#[test]
fn every_sort_of_flow_is_served_by_one_firewall_in_both_directions() {
    for kind in [SimFirewallKind::Strict, SimFirewallKind::Synced, SimFirewallKind::Loose, SimFirewallKind::Transparent]
    {
        for one_arm in [false, true] {
            let plan = SandwichPlan { kind, one_arm, workers: [2, 2], firewalls: 3, ..SandwichPlan::default() };
            let mut lab = ready(plan);
            let mut flows = Vec::new();
            for from in Side::BOTH {
                for v4 in [true, false] {
                    for traffic in all_sorts() {
                        // Without ports both directions are one flow, so that each gets another pair of hosts.
                        let pair = from as usize;
                        flows.push(lab.open(short(traffic), Route { from, opener: pair, answerer: pair, v4 }));
                    }
                }
            }
            lab.run_for(ms(3500));

            for flow in flows {
                assert_done(&lab, flow);
                assert_eq!(lab.firewalls_of(flow).len(), 1);
            }
            assert_eq!(lab.oracle(), 0);
            assert_unbroken(&lab);
        }
    }
}

#[test]
fn natting_firewalls_work_by_learning() {
    let mut lab = ready(SandwichPlan { kind: SimFirewallKind::Nat, firewalls: 3, ..SandwichPlan::default() });
    let mut flows = Vec::new();
    for from in Side::BOTH {
        for v4 in [true, false] {
            for traffic in [Traffic::TcpEcho, Traffic::TcpPush, Traffic::UdpEcho, Traffic::UdpOneWay, Traffic::Ping] {
                for _ in 0..5 {
                    flows.push(lab.open(short(traffic), Route { from, opener: 0, answerer: 0, v4 }));
                }
            }
        }
    }
    lab.run_for(ms(4000));

    for flow in flows {
        assert_done(&lab, flow);
    }
    assert_eq!(lab.oracle(), 0);
    assert_unbroken(&lab);
}

#[test]
fn different_seeds_and_different_sets_cost_no_session() {
    for (seeds, unknown) in [
        (["one secret", "another secret"], [None, None]),
        (["one secret", "one secret"], [None, Some(1)]),
        (["one secret", "another secret"], [Some(0), Some(2)]),
    ] {
        let mut lab = ready(SandwichPlan { firewalls: 3, seeds, unknown, ..SandwichPlan::default() });
        let mut flows = Vec::new();
        for _ in 0..6 {
            for from in Side::BOTH {
                for traffic in [Traffic::TcpEcho, Traffic::UdpEcho, Traffic::Ping] {
                    flows.push(lab.open(short(traffic), Route { from, opener: 0, answerer: 1, v4: true }));
                }
            }
        }
        lab.run_for(ms(4000));

        for flow in flows {
            assert_done(&lab, flow);
        }
        assert_eq!(lab.oracle(), 0);
        assert_unbroken(&lab);
    }
}

#[test]
fn fragments_reach_their_flows_firewall_in_any_order() {
    for workers in [1, 2] {
        let mut lab = ready(SandwichPlan { firewalls: 4, workers: [workers; 2], ..SandwichPlan::default() });
        let mut flows = Vec::new();
        for shuffled in [false, true] {
            for v4 in [true, false] {
                for from in Side::BOTH {
                    for traffic in [Traffic::UdpEcho, Traffic::Ping, Traffic::UdpOneWay] {
                        let spec = FlowSpec { size: 4000, shuffled, ..short(traffic) };
                        flows.push(lab.open(spec, Route { from, opener: 0, answerer: 0, v4 }));
                    }
                }
            }
        }
        lab.run_for(ms(3000));

        for flow in flows {
            assert_done(&lab, flow);
            assert_eq!(lab.firewalls_of(flow).len(), 1);
        }
        assert_eq!(lab.oracle(), 0);
        let incomplete: u64 = lab.nodes.firewalls.iter().map(|node| lab.world.firewall(*node).incomplete()).sum();
        assert_eq!(incomplete, 0, "datagrams whose pieces went through different firewalls");
        assert_unbroken(&lab);
    }
}

#[test]
fn time_exceeded_comes_from_every_hop_through_the_flows_own_firewall() {
    for v4 in [true, false] {
        let mut lab = ready(SandwichPlan::default());
        let route = Route { v4, ..OUT };
        let flow = lab.open(long(Traffic::UdpEcho), route);
        lab.run_for(ms(300));
        let tuple = lab.flow(flow).tuple;

        // The hops of traceroute: the outer engine, the firewall, the inner engine.
        for ttl in 1..=3 {
            lab.send_raw(
                Side::Outer,
                0,
                Packet { ttl, ..Packet::udp(tuple.source, tuple.destination, b"who is there") },
            );
            lab.run_for(ms(50));
        }

        let host = lab.world.host(lab.nodes.hosts[0][0]);
        let hops: Vec<_> = host.icmp_errors.iter().map(|complaint| (complaint.from, complaint.about)).collect();
        let firewall = lab.firewalls_of(flow)[0];
        let expected = [
            gateway(Side::Outer, v4),
            firewall_address(&lab.plan, Side::Outer, firewall, v4),
            engine_address(&lab.plan, Side::Inner, 0, v4),
        ];
        assert_eq!(hops, expected.map(|hop| (hop, tuple)));
        assert_eq!(lab.firewalls_of(flow).len(), 1);
        assert_eq!(lab.oracle(), 0);
        assert_unbroken(&lab);
    }
}

#[test]
fn a_firewall_with_a_smaller_mtu_is_heard_by_the_sender() {
    for v4 in [true, false] {
        let mut lab = ready(SandwichPlan { firewall_mtu: 1400, ..SandwichPlan::default() });
        let flow = lab.open(long(Traffic::UdpEcho), Route { v4, ..OUT });
        lab.run_for(ms(300));
        let tuple = lab.flow(flow).tuple;
        let big = Packet { dont_fragment: true, ..Packet::udp(tuple.source, tuple.destination, &[1; 1440]) };

        lab.send_raw(Side::Outer, 0, big);
        lab.run_for(ms(50));

        let complaints = &lab.world.host(lab.nodes.hosts[0][0]).icmp_errors;
        let (kind, code) = if v4 { (3, 4) } else { (2, 0) };
        assert_eq!(complaints.len(), 1, "fragmentation needed, packet too big");
        assert_eq!((complaints[0].kind, complaints[0].code, complaints[0].about), (kind, code, tuple));
        assert_eq!(lab.oracle(), 0);
        assert_unbroken(&lab);
    }
}

#[test]
fn an_error_of_the_server_reaches_the_client_through_the_flows_firewall() {
    // The server reports that a port is unreachable: the inner engine finds the firewall by the quoted packet.
    let mut lab = ready(SandwichPlan { firewalls: 4, ..SandwichPlan::default() });
    for port in 0..16 {
        let source = (host_address(Side::Outer, 0, true), 21_000 + port);
        let destination = (host_address(Side::Inner, 0, true), 6_666);
        let question = Packet::udp(source, destination, b"question");
        lab.send_raw(Side::Outer, 0, question.clone());
        lab.run_for(ms(20));
        let error = Packet::icmp(destination.0, source.0, 3, 3, [0; 4], &question.emit()[..28]);
        lab.send_raw(Side::Inner, 0, error);
        lab.run_for(ms(20));
    }

    assert_eq!(lab.world.host(lab.nodes.hosts[0][0]).icmp_errors.len(), 16);
    assert_eq!(lab.oracle(), 0, "an error through another firewall is INVALID there");
    assert_unbroken(&lab);
}

#[test]
fn a_syn_flood_into_a_small_table_breaks_no_established_session() {
    let mut lab = ready(SandwichPlan { sessions: 200, ..SandwichPlan::default() });
    let flows: Vec<_> = (0..40).map(|n| lab.open(long(Traffic::TcpEcho), if n % 2 == 0 { OUT } else { IN })).collect();
    lab.run_for(ms(1000));

    for wave in 0..60_u32 {
        for number in 0..50_u32 {
            let random = wave * 50 + number;
            let source =
                (std::net::Ipv4Addr::from(0x0a00_0000 + random * 7919 % 0x00ff_ffff).into(), 1024 + random as u16);
            let flood = Packet::tcp(source, (host_address(Side::Inner, 1, true), 80), tcp_flag::SYN, random, 0, b"");
            lab.send_raw(Side::Outer, 1, flood);
        }
        lab.run_for(ms(20));
    }
    let late: Vec<_> = (0..10).map(|_| lab.open(short(Traffic::TcpEcho), OUT)).collect();
    lab.run_for(ms(3000));

    for flow in flows {
        assert_eq!(lab.flow(flow).state, FlowState::Open);
        assert!(lab.flow(flow).longest_gap < ms(400), "{:?}", lab.flow(flow));
    }
    for flow in late {
        assert_done(&lab, flow);
    }
    let (live, capacity) = lab.engine(Side::Outer).sessions();
    assert!(live <= capacity && lab.engine(Side::Outer).counters().sessions_evicted > 0);
    assert_unbroken(&lab);
}

#[test]
fn a_full_table_still_keeps_both_directions_together() {
    // There are far more flows than sessions: the rest is forwarded by hash, which both engines compute alike.
    let mut lab = ready(SandwichPlan { sessions: 16, firewalls: 3, ..SandwichPlan::default() });
    let flows: Vec<_> = (0..80).map(|n| lab.open(short(Traffic::TcpEcho), if n % 2 == 0 { OUT } else { IN })).collect();

    lab.run_for(ms(4000));

    for flow in flows {
        assert_done(&lab, flow);
    }
    let counters = lab.engine(Side::Outer).counters();
    assert!(counters.table_full + counters.sessions_evicted > 0, "{counters:?}");
    assert_eq!(lab.oracle(), 0);
    assert_unbroken(&lab);
}

#[test]
fn a_tiny_punt_queue_kills_no_firewall() {
    let mut lab = ready(SandwichPlan { punts: 2, ..SandwichPlan::default() });
    let flows: Vec<_> = (0..30).map(|_| lab.open(long(Traffic::UdpEcho), OUT)).collect();

    lab.run_for(ms(5000));

    for flow in flows {
        assert_works(&mut lab, flow, ms(150));
    }
    assert_unbroken(&lab);
}
