//! Another program takes running engines over, under traffic.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::thread::sleep;
use std::time::Duration;

use fwlb::lab::traffic::ECHO_PORT;
use fwlb::lab::{Side, Station, Stop, Topology};

use crate::ground::{Rig, Traffic, assert_all_answered, patient, said, sandwich};

/// The VIPs of a service that translates the destination, and of one that translates the source too.
const NAT: [&str; 2] = ["203.0.113.80", "2001:db8:113::80"];
const FULL_NAT: [&str; 2] = ["203.0.113.81", "2001:db8:113::81"];

fn services() -> String {
    let service = |name: &str, [v4, v6]: [&str; 2], more: &str| {
        let server = |number: u8| {
            format!(
                "[[service.server]]\nname = \"s{number}\"\naddress = [\"203.0.113.1{number}\", \"2001:db8:113::1{number}\"]\n"
            )
        };
        format!(
            "\n[[service]]\nname = \"{name}\"\naddress = [\"{v4}\", \"{v6}\"]\nprotocol = [\"tcp\", \"udp\"]\n\
             port = {ECHO_PORT}\nscheduler = \"round-robin\"\n{more}\n[service.check]\nkind = \"tcp\"\nport = {ECHO_PORT}\n\
             interval = \"300ms\"\ntimeout = \"250ms\"\nfall = 10\n{}{}",
            server(1),
            server(2)
        )
    };
    service("nat", NAT, "") + &service("full-nat", FULL_NAT, "mode = \"full-nat\"")
}

/// The sandwich with both services on its inner engine, all servers up.
fn farm(workers: i64, test: impl FnOnce(&mut Rig)) {
    sandwich(
        |base| patient(Topology { servers: 2, firewalls: 3, ..base }).with("engine", "workers", workers),
        |rig| {
            let path = rig.lab.configuration_file(Side::Inner);
            let mut file = std::fs::OpenOptions::new().append(true).open(path).expect("the laboratory wrote it");
            file.write_all(services().as_bytes()).expect("is writable");
            rig.lab.stop_engine(Side::Inner, Stop::Orderly).unwrap();
            rig.lab.start_engine(Side::Inner).unwrap();
            rig.lab.wait_for_firewalls(Duration::from_secs(10)).unwrap();
            rig.within(Duration::from_secs(5), "all servers are up", |rig| {
                let services = rig.json(Side::Inner, &["show", "services", "--json"]);
                let servers = services
                    .as_array()
                    .expect("a list")
                    .iter()
                    .flat_map(|service| service["servers"].as_array().expect("a list"));
                servers.map(|server| &server["state"]).filter(|state| *state == "up").count() == 4
            });
            test(rig);
        },
    );
}

/// Traffic over both services and plainly routed, of both families, each flow with numbered requests.
fn traffic(rig: &Rig, duration_ms: u64) -> Vec<Traffic> {
    let routed = rig.topology().server(1).both().map(|address| address.to_string());
    let to = [NAT.map(String::from), FULL_NAT.map(String::from), routed].concat();
    let words = ["udp", "tcp"].into_iter().flat_map(|protocol| {
        to.iter().map(move |to| {
            format!("{protocol} {to} --flows 5 --interval-ms 20 --duration-ms {duration_ms} --patience-ms 4000 --once")
        })
    });
    words.map(|words| rig.start(Station::Client, &words)).collect()
}

fn pid(rig: &Rig, side: Side) -> u64 {
    let text = std::fs::read_to_string(rig.lab.directory().join(format!("{}.pid", side.engine()))).expect("it runs");
    text.trim().parse().expect("a number")
}

/// Upgrades an engine, which has to succeed, and tells the laboratory of the new process.
fn upgrade(rig: &Rig, side: Side) -> u64 {
    let output = rig.fwlb(side, &["upgrade", "--json"]);
    assert!(output.status.success(), "upgrade: {}\n{}", said(&output), rig.lab.log(side.engine()));
    let done: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(done["former_pid"], pid(rig, side), "{done}");
    let pid = done["pid"].as_u64().expect("a number");
    std::fs::write(rig.lab.directory().join(format!("{}.pid", side.engine())), format!("{pid}\n"))
        .expect("is writable");
    pid
}

fn sessions(rig: &Rig, side: Side) -> usize {
    rig.json(side, &["show", "sessions", "--json", "--limit", "10000"]).as_array().expect("a list").len()
}

fn gaps(rig: &Rig, side: Side) -> Vec<String> {
    let events = rig.json(side, &["show", "events", "--kind", "engine", "--json"]);
    let reasons = events.as_array().expect("a list").iter().filter_map(|event| event["reason"].as_str());
    reasons.filter(|reason| reason.contains("taken over")).map(str::to_owned).collect()
}

fn three_upgrades_lose_nothing(workers: i64) {
    farm(workers, |rig| {
        let traffic = traffic(rig, 30_000);
        sleep(Duration::from_secs(2));
        let before = Side::BOTH.map(|side| sessions(rig, side));
        assert!(before.iter().all(|count| *count >= 60), "{before:?} sessions");
        let set = rig.fwlb(Side::Inner, &["set", "server", "nat/s1", "drain", "--reason", "test"]);
        assert!(set.status.success(), "{}", said(&set));

        for _ in 0..3 {
            for side in Side::BOTH {
                let former = pid(rig, side);
                let now = upgrade(rig, side);
                assert_ne!(former, now);
                rig.within(Duration::from_secs(5), "the former process has ended", |_| {
                    let stat = std::fs::read_to_string(format!("/proc/{former}/stat")).unwrap_or_default();
                    stat.is_empty() || stat.contains(") Z ")
                });
                sleep(Duration::from_millis(200));
            }
        }

        for side in Side::BOTH {
            println!("{}: {:#?}", side.engine(), gaps(rig, side));
            assert_eq!(gaps(rig, side).len(), 3, "the events of the former processes are there");
        }
        let after = Side::BOTH.map(|side| sessions(rig, side));
        assert!(after.iter().zip(before).all(|(after, before)| *after >= before), "{before:?} and {after:?} sessions");
        let overrides = rig.json(Side::Inner, &["show", "--json"]).to_string();
        assert!(overrides.contains("nat/s1"), "{overrides}");
        for traffic in traffic {
            let flows = traffic.flows();
            assert_eq!(flows.len(), 5, "no flow was opened again");
            assert_all_answered(&flows);
        }
        rig.assert_firewalls_dropped_nothing();
    });
}

#[test]
fn three_upgrades_of_both_engines_lose_no_session_and_no_packet() {
    three_upgrades_lose_nothing(1);
}

#[test]
fn nor_do_they_with_two_workers() {
    three_upgrades_lose_nothing(2);
}

#[test]
fn what_does_not_start_changes_nothing() {
    farm(1, |rig| {
        let traffic = traffic(rig, 9_000);
        sleep(Duration::from_secs(1));
        let (side, own) = (Side::Inner, rig.lab.configuration_file(Side::Inner));
        let process = pid(rig, side);
        let refuses = |rig: &Rig, words: &[&str], because: &str| {
            let output = rig.fwlb(side, &[&["upgrade"], words].concat());
            let text = said(&output);
            assert_eq!(output.status.code(), Some(1), "{text}");
            assert!(text.contains("goes on in process") && text.contains(because), "{text}");
            assert_eq!(pid(rig, side), process);
        };

        let directory = rig.lab.directory().to_owned();
        let program = |name: &str, script: &str| {
            let path = directory.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("is writable");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("is ours");
            path.to_string_lossy().into_owned()
        };
        refuses(rig, &["--binary", &program("broken", "echo of another machine >&2; exit 7")], "of another machine");
        refuses(
            rig,
            &["--binary", &program("slow", "exec sleep 30"), "--wait", "500ms"],
            "did not take over within 500ms",
        );
        let absent = rig.fwlb(side, &["upgrade", "--binary", "/nowhere/fwlb"]);
        assert!(!absent.status.success() && said(&absent).contains("/nowhere/fwlb"), "{}", said(&absent));

        let text = std::fs::read_to_string(&own).expect("the laboratory wrote it");
        std::fs::write(&own, text.replace("scheduler = \"round-robin\"", "scheduler = \"round-robbing\"")).unwrap();
        refuses(rig, &[], "round-robbing");
        std::fs::write(&own, &text).expect("is writable");

        upgrade(rig, side);
        for traffic in traffic {
            assert_all_answered(&traffic.flows());
        }
        rig.assert_firewalls_dropped_nothing();
    });
}
