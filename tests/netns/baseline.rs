//! Without fwlb connections break at the firewalls, and the checks of these tests notice it.

use fwlb::lab::traffic::FlowEnd;
use fwlb::lab::{RoutingSetup, Station, Topology};

use crate::ground::{assert_all_answered, sandwich};

const SERVER: &str = "203.0.113.11";

#[test]
fn without_fwlb_asymmetric_routes_kill_every_session_at_strict_firewalls() {
    let shape = |base| Topology { routers: RoutingSetup::Kernel { outer: 1, inner: 2 }, ..base };
    sandwich(shape, |rig| {
        let flows =
            rig.flows(Station::Client, &format!("tcp {SERVER} --flows 3 --duration-ms 500 --patience-ms 1500 --once"));

        assert!(flows.iter().all(|flow| flow.end == FlowEnd::Hung && flow.answered == 0), "{flows:#?}");
        assert!(rig.lab.firewall_totals(2).unwrap().invalid >= 3, "the firewall of the way back counts them INVALID");
    });
}

#[test]
fn the_laboratory_itself_loses_nothing_when_routes_are_symmetric() {
    let shape = |base| Topology { routers: RoutingSetup::Kernel { outer: 1, inner: 1 }, firewalls: 1, ..base };
    sandwich(shape, |rig| {
        for to in rig.topology().server(1).both() {
            for protocol in ["tcp", "udp", "icmp"] {
                let words = format!(
                    "{protocol} {to} --flows 5 --interval-ms 50 --size 4000 --duration-ms 500 --patience-ms 3000"
                );
                assert_all_answered(&rig.flows(Station::Client, &words));
            }
        }
        for to in rig.topology().client().both() {
            assert_all_answered(&rig.flows(Station::Server(2), &format!("tcp {to} --flows 5 --duration-ms 500")));
        }
        rig.assert_firewalls_dropped_nothing();
    });
}
