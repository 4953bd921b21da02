//! Two packet workers keep the promises of one, whichever of them a packet reaches.

use std::process::{Command, Stdio};
use std::time::Duration;

use fwlb::lab::{FirewallCable, Side, Station, Topology};

use crate::failure::fails_with;
use crate::ground::{Rig, assert_all_answered, checksum_errors, patient, sandwich};
use crate::services::farm::{NETS, Plan, QUICK, farm, service};
use crate::services::host::Program;

fn two(base: Topology) -> Topology {
    base.with("engine", "workers", 2)
}

/// Frames that each worker of an engine took from its rings, from its metrics.
fn received(socket: &std::path::Path) -> Vec<u64> {
    let output = Command::new("curl").args(["-sS", "--unix-socket"]).arg(socket).arg("http://engine/metrics").output();
    let text = String::from_utf8(output.expect("curl runs").stdout).expect("metrics are text");
    let lines = text.lines().filter_map(|line| line.strip_prefix("fwlb_worker_received_total{")?.rsplit_once(' '));
    lines.map(|(_, count)| count.parse::<f64>().expect("a count") as u64).collect()
}

/// Asserts that both workers had packets.
#[track_caller]
pub fn assert_both_carried(socket: &std::path::Path, frames: u64) {
    let received = received(socket);
    assert_eq!(received.len(), 2, "{received:?}");
    assert!(received.iter().all(|count| *count >= frames), "each worker at least {frames}: {received:?}");
}

#[test]
fn a_firewall_that_dies_under_bulk_traffic_costs_only_its_own_sessions() {
    let bulk = |rig: &Rig| {
        let [v4, v6] = rig.topology().server(1).both();
        let words = "--flows 8 --size 60000 --interval-ms 20 --duration-ms 5000 --patience-ms 4000";
        let small = "--flows 20 --interval-ms 20 --duration-ms 5000 --patience-ms 4000";
        let flows = [
            format!("tcp {v4} {words}"),
            format!("tcp {v6} {words}"),
            format!("tcp {v4} {small}"),
            format!("udp {v6} {small}"),
        ];
        flows.iter().map(|words| rig.start(Station::Client, words)).collect()
    };
    fails_with(FirewallCable::Both, two, bulk);
}

#[test]
fn super_frames_arrive_undamaged_and_no_firewall_sees_half_a_connection() {
    sandwich(
        |base| two(patient(base)),
        |rig| {
            let mut server = rig.lab.command(Station::Server(1), "iperf3");
            let mut server = server.arg("-s").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("iperf3 runs");
            rig.within(Duration::from_secs(5), "iperf3 listens", |rig| {
                !rig.exec(Station::Server(1), &["ss", "-Hltn", "sport", "=", ":5201"]).trim().is_empty()
            });
            for extra in [&["203.0.113.11"][..], &["203.0.113.11", "-R"], &["2001:db8:113::11", "--bidir"]] {
                let mut words = vec!["iperf3", "-J", "-t", "2", "-P", "4", "-c"];
                words.extend(extra);
                let report: serde_json::Value = serde_json::from_str(&rig.exec(Station::Client, &words)).expect("JSON");
                let bytes = report["end"]["sum_received"]["bytes"].as_f64().expect("a sum");
                assert!(bytes > 10e6, "{extra:?}: {report:#}");
            }
            server.kill().and_then(|()| server.wait()).expect("iperf3 ends");
            // The frames that the engine forwarded were larger than the MTU: nothing segmented them on the way.
            let links = rig.json(Side::Outer, &["show", "links", "--json"]);
            let sum = |key: &str| {
                links.as_array().expect("a list").iter().map(|link| link[key].as_u64().expect("a count")).sum::<u64>()
            };
            assert!(sum("rx_bytes") / sum("rx_packets").max(1) > 1500, "{links:#}");

            for node in [Station::Client, Station::Server(1)] {
                assert_eq!(checksum_errors(|words| rig.exec(node, words)), 0, "{node}");
            }
            let [to, _] = rig.topology().server(1).both();
            assert_all_answered(
                &rig.flows(Station::Client, &format!("tcp {to} --flows 50 --duration-ms 500 --patience-ms 3000")),
            );
            for side in Side::BOTH {
                assert_both_carried(&rig.lab.socket(side), 100);
            }
            rig.assert_firewalls_dropped_nothing();
        },
    );
}

#[test]
fn a_translated_reply_reaches_the_client_whichever_worker_it_meets() {
    let check = format!("[service.check]\nkind = \"tcp\"\n{QUICK}");
    let text =
        service("nat", 80, 80, &check, 2) + &service("full", 81, 80, &format!("mode = \"full-nat\"\n{check}"), 2);
    farm(Plan { workers: 2, ..Plan::new(2, text) }, |farm| {
        let _programs =
            [1, 2].map(|number| Program::echo(&farm.namespace(&format!("s{number}")), &format!("s{number}"), 80));
        farm.wait_all_up();
        for net in NETS {
            for vip in [80, 81] {
                for number in 100..140 {
                    let mut connection = farm.connect(net.client(number), (net.vip(vip), 80)).expect("is served");
                    let said: Vec<u8> = (0..20_000_u32).map(|byte| (byte % 251) as u8).collect();
                    connection.echo(&said).unwrap_or_else(|error| panic!("{net:?} {vip} {number}: {error}"));
                }
            }
        }
        let engine = farm.engine();
        assert_both_carried(&engine.socket, 500);
        assert_eq!(engine.counter("sessions_created"), 160, "one session, whatever worker its packets met");
    });
}
