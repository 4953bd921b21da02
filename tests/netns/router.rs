//! The engine as a router among routers: TTL, path MTU, offloads, and the kernel's own stack kept off its devices.

use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use fwlb::lab::{FirewallKind, Side, Station, Stop, Topology};

use crate::ground::{Rig, assert_all_answered, checksum_errors, said, sandwich};

/// The hops that `traceroute` printed, one address per line.
fn hops(rig: &Rig, words: &[&str]) -> Vec<String> {
    // A router sends a host one error per second (RFC 1812 section 4.3.2.8), which an earlier trace may have used.
    sleep(Duration::from_millis(1_100));
    let mut command = vec!["traceroute", "-n", "-q", "1", "-w", "2", "-m", "8"];
    command.extend(words);
    let output = rig.exec(Station::Client, &command);
    output.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap_or("").to_owned()).collect()
}

#[test]
fn traceroute_shows_each_engine_as_one_hop() {
    sandwich(
        |base| Topology { firewalls: 1, ..base },
        |rig| {
            // UDP, ICMP and TCP probes. The firewall is a router, too, and shows itself.
            for method in ["-U", "-I", "-T"] {
                let found = hops(rig, &[method, "203.0.113.11"]);
                assert_eq!(found, ["198.51.100.1", "10.1.0.11", "10.2.0.1", "203.0.113.11"], "IPv4 {method}");
                let found = hops(rig, &["-6", method, "2001:db8:113::11"]);
                assert_eq!(found, ["2001:db8:1::1", "fd00:1::11", "fd00:2::1", "2001:db8:113::11"], "IPv6 {method}");
            }
            let back = rig.exec(Station::Server(1), &["traceroute", "-n", "-q", "1", "-I", "198.51.100.7"]);
            assert!(back.contains("203.0.113.1 ") && back.contains("10.1.0.1 "), "{back}");
            rig.assert_firewalls_dropped_nothing();
        },
    );
}

#[test]
fn a_transparent_firewall_is_no_hop() {
    sandwich(
        |base| Topology { firewalls: 1, kind: FirewallKind::Transparent, ..base },
        |rig| {
            assert_eq!(hops(rig, &["-I", "203.0.113.11"]), ["198.51.100.1", "10.1.1.2", "203.0.113.11"]);
        },
    );
}

#[test]
fn one_flow_takes_one_firewall_however_often_it_is_traced() {
    sandwich(
        |base| Topology { firewalls: 4, ..base },
        |rig| {
            let trace = || hops(rig, &["-T", "-p", "7", "--sport=40001", "203.0.113.11"]);
            let first = trace();
            assert_eq!(first.len(), 4, "{first:?}");
            for _ in 0..4 {
                assert_eq!(trace(), first);
            }
        },
    );
}

#[test]
fn path_mtu_is_discovered_through_a_smaller_link() {
    sandwich(
        |base| Topology { inner_mtu: 1400, ..base },
        |rig| {
            // Both hosts assume an MTU of 1500: the firewalls tell the client, the inner engine tells the server.
            for to in rig.topology().server(1).both() {
                let words =
                    format!("tcp {to} --flows 4 --size 200000 --interval-ms 50 --duration-ms 1500 --patience-ms 5000");
                assert_all_answered(&rig.flows(Station::Client, &words));
                let words = format!("udp {to} --flows 2 --size 4000 --interval-ms 50 --duration-ms 500");
                assert_all_answered(&rig.flows(Station::Client, &words));
            }
            for (node, to) in [
                (Station::Client, "203.0.113.11"),
                (Station::Client, "2001:db8:113::11"),
                (Station::Server(1), "198.51.100.7"),
                (Station::Server(1), "2001:db8:1::7"),
            ] {
                let route = rig.exec(node, &["ip", "route", "get", to]);
                assert!(route.contains("mtu 1400"), "{node} has learned the path MTU: {route}");
            }
            assert!(rig.counter(Side::Inner, "drop_too_big") > 0, "the inner engine refused what was too big");
            rig.assert_firewalls_dropped_nothing();
        },
    );
}

#[test]
fn the_engine_tells_the_mtu_of_its_own_link_and_fragments_where_it_may() {
    sandwich(
        |base| Topology { server_mtu: 1400, ..base },
        |rig| {
            let refused =
                rig.output(Station::Client, &["ping", "-c", "1", "-W", "1", "-M", "do", "-s", "1472", "203.0.113.11"]);
            assert!(said(&refused).contains("mtu = 1400"), "{}", said(&refused));
            let refused = rig
                .output(Station::Client, &["ping", "-c", "1", "-W", "1", "-M", "do", "-s", "1452", "2001:db8:113::11"]);
            assert!(said(&refused).contains("mtu = 1400") || said(&refused).contains("mtu=1400"), "{}", said(&refused));

            // Another server, so that the client knows nothing of the path MTU yet.
            let sent = rig.output(
                Station::Client,
                &["ping", "-c", "3", "-i", "0.2", "-W", "1", "-M", "dont", "-s", "1472", "203.0.113.12"],
            );
            assert!(sent.status.success(), "without DF the engine fragments: {}", said(&sent));
            rig.assert_firewalls_dropped_nothing();
        },
    );
}

#[test]
fn bulk_traffic_with_default_offloads_arrives_undamaged() {
    sandwich(
        |base| base,
        |rig| {
            let mut server = rig.lab.command(Station::Server(1), "iperf3");
            let mut server = server.arg("-s").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("iperf3 runs");
            sleep(Duration::from_millis(300));
            let mut rates = Vec::new();
            for extra in [&["-c", "203.0.113.11"][..], &["-c", "203.0.113.11", "-R"], &["-c", "2001:db8:113::11"]] {
                let mut words = vec!["iperf3", "-J", "-t", "2"];
                words.extend(extra);
                let report: serde_json::Value = serde_json::from_str(&rig.exec(Station::Client, &words)).expect("JSON");
                let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().expect("a rate");
                rates.push((extra.join(" "), (rate / 1e6) as u64));
            }
            let words = ["iperf3", "-J", "-t", "2", "-u", "-b", "50M", "-l", "1400", "-c", "203.0.113.11"];
            let report: serde_json::Value = serde_json::from_str(&rig.exec(Station::Client, &words)).expect("JSON");
            let lost = report["end"]["sum"]["lost_percent"].as_f64().expect("a share");
            server.kill().and_then(|()| server.wait()).expect("iperf3 ends");

            eprintln!("Mbit/s: {rates:?}; UDP at 50 Mbit/s lost {lost} %");
            assert!(rates.iter().all(|(_, megabits)| *megabits >= 200), "{rates:?}");
            assert!(lost < 1.0, "UDP lost {lost} %");
            for node in [Station::Client, Station::Server(1)] {
                assert_eq!(checksum_errors(|words| rig.exec(node, words)), 0, "{node}");
            }
            rig.assert_firewalls_dropped_nothing();
        },
    );
}

#[test]
fn the_kernel_is_kept_off_the_links_and_gets_them_back() {
    sandwich(
        |base| base,
        |rig| {
            // An address of the kernel on the engine's device: nobody must get an answer from it while the engine runs.
            rig.exec(Station::Outer, &["ip", "address", "add", "198.51.100.99/24", "dev", "clients"]);
            let link = rig.exec(Station::Outer, &["cat", "/sys/class/net/clients/address"]);
            let resolves = |rig: &Rig| {
                rig.exec(Station::Client, &["ip", "neigh", "flush", "to", "198.51.100.99"]);
                rig.output(Station::Client, &["ping", "-c", "2", "-i", "0.3", "-W", "1", "198.51.100.99"])
                    .status
                    .success()
            };
            // curl exits with 7 if it is refused and with 28 if nothing answers. The neighbour is set by hand, so that
            // frames arrive.
            let curl = |rig: &Rig| {
                let neighbor = ["ip", "neigh", "replace", "198.51.100.99", "lladdr", link.trim(), "dev", "eth0"];
                rig.exec(Station::Client, &neighbor);
                let code =
                    rig.output(Station::Client, &["curl", "-s", "-m", "1", "http://198.51.100.99:81/"]).status.code();
                rig.exec(Station::Client, &["ip", "neigh", "del", "198.51.100.99", "dev", "eth0"]);
                code
            };
            let pings = |rig: &Rig| {
                let neighbor = ["ip", "neigh", "replace", "198.51.100.99", "lladdr", link.trim(), "dev", "eth0"];
                rig.exec(Station::Client, &neighbor);
                let output = rig.output(Station::Client, &["ping", "-c", "1", "-W", "1", "198.51.100.99"]);
                rig.exec(Station::Client, &["ip", "neigh", "del", "198.51.100.99", "dev", "eth0"]);
                output.status.success()
            };
            let heard = |rig: &Rig| (resolves(rig), pings(rig), curl(rig));
            assert_eq!(
                heard(rig),
                (false, false, Some(28)),
                "the kernel answered ARP, ping or TCP on the engine's link"
            );
            // The engine itself answers for its own addresses.
            for to in ["198.51.100.1", "2001:db8:1::1"] {
                rig.exec(Station::Client, &["ping", "-c", "1", "-W", "2", to]);
            }

            rig.assert_counters_add_up();
            rig.lab.stop_engine(Side::Outer, Stop::Orderly).unwrap();
            assert_eq!(heard(rig), (true, true, Some(7)), "the kernel has its device back after an orderly stop");

            rig.lab.start_engine(Side::Outer).unwrap();
            rig.lab.wait_for_firewalls(Duration::from_secs(10)).unwrap();
            assert_eq!(heard(rig), (false, false, Some(28)), "kept off again");
            rig.lab.stop_engine(Side::Outer, Stop::Kill).unwrap();
            assert_eq!(heard(rig), (true, true, Some(7)), "the kernel has its device back after a kill");

            rig.lab.start_engine(Side::Outer).unwrap();
            rig.lab.wait_for_firewalls(Duration::from_secs(10)).unwrap();
        },
    );
}

#[test]
fn engines_answer_ping_on_every_address_of_theirs() {
    sandwich(
        |base| base,
        |rig| {
            for (node, to) in [
                (Station::Client, "198.51.100.1"),
                (Station::Client, "2001:db8:1::1"),
                (Station::Firewall(1), "10.1.0.1"),
                (Station::Firewall(2), "fd00:2::1"),
                (Station::Server(2), "203.0.113.1"),
                (Station::Server(1), "2001:db8:113::1"),
                // The near address of the far engine, through a firewall.
                (Station::Client, "203.0.113.1"),
                (Station::Client, "2001:db8:113::1"),
            ] {
                for size in ["0", "1400"] {
                    let output = rig.output(node, &["ping", "-c", "2", "-i", "0.2", "-W", "2", "-s", size, to]);
                    assert!(output.status.success(), "{node} pings {to} with {size} bytes: {}", said(&output));
                }
            }
            rig.assert_firewalls_dropped_nothing();
        },
    );
}
