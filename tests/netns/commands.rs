//! The commands against running engines, and what `run` reports when it cannot start.

use std::fs;
use std::process::Output;
use std::time::Duration;

use fwlb::lab::{FirewallCable, Side, Station};
use serde_json::Value;

use crate::ground::{FWLB, Rig, assert_all_answered, said, sandwich};

/// Asserts that the object has every key of the contract, null or not.
#[track_caller]
fn assert_keys(what: &str, object: &Value, keys: &[&str]) {
    let object = object.as_object().unwrap_or_else(|| panic!("{what} is an object: {object:#}"));
    for key in keys {
        assert!(object.contains_key(*key), "{what} has no {key:?}: {object:#?}");
    }
}

#[test]
fn every_show_has_the_keys_of_the_contract() {
    sandwich(
        |base| base,
        |rig| {
            let traffic = rig.start(Station::Client, "tcp 203.0.113.11 --flows 4 --duration-ms 3000");
            rig.within(Duration::from_secs(2), "sessions", |rig| !rig.lab.sessions(Side::Outer).unwrap().is_empty());
            let show = |what: &str| rig.json(Side::Outer, &["show", what, "--json"]);

            let firewalls = show("firewalls");
            assert_eq!(firewalls.as_array().map(Vec::len), Some(2));
            assert_keys(
                "firewall",
                &firewalls[0],
                &[
                    "engine",
                    "name",
                    "group",
                    "link",
                    "addresses",
                    "state",
                    "admin",
                    "override",
                    "weight",
                    "spare",
                    "sessions",
                    "new_sessions",
                    "packets",
                    "bytes",
                    "since_ms",
                    "reason",
                    "checks",
                ],
            );
            assert_eq!(firewalls[0]["checks"].as_array().map(Vec::len), Some(2), "one per family");
            assert_keys(
                "check",
                &firewalls[0]["checks"][0],
                &["peer", "family", "state", "rtt_us", "since_ms", "reason"],
            );

            let peers = show("peers");
            assert_keys(
                "peer",
                &peers[0],
                &["engine", "name", "group", "peer_engine", "state", "digest", "version", "since_ms", "reason"],
            );
            assert_eq!((&peers[0]["peer_engine"], &peers[0]["digest"]), (&"inner".into(), &"same".into()), "{peers:#}");

            let sessions = show("sessions");
            assert_keys(
                "session",
                &sessions[0],
                &[
                    "engine",
                    "protocol",
                    "source",
                    "destination",
                    "pins",
                    "service",
                    "server",
                    "translated_source",
                    "translated_destination",
                    "state",
                    "age_ms",
                    "idle_ms",
                    "expires_ms",
                    "packets",
                    "bytes",
                ],
            );
            assert_keys("pin", &sessions[0]["pins"][0], &["group", "firewall", "pinned_by", "state", "toward"]);

            let mut counters = vec![
                "received",
                "forwarded",
                "hairpinned",
                "punted",
                "dropped",
                "asymmetric",
                "sessions_created",
                "sessions_expired",
                "sessions_evicted",
                "table_full",
                "pin_learned",
                "pin_corrected",
                "pin_followed",
                "pin_rotated",
                "pin_reselected",
            ];
            counters.extend(fwlb::engine::DropReason::ALL.iter().map(|reason| reason.name()));
            assert_keys("counters", &show("counters"), &counters);
            assert_keys(
                "status",
                &show("status"),
                &[
                    "name",
                    "version",
                    "uptime_ms",
                    "epoch",
                    "config_digest",
                    "workers",
                    "sessions",
                    "capacity",
                    "role",
                    "alarms",
                    "overrides",
                ],
            );
            assert_keys("event", &show("events")[0], &["seq", "at", "kind", "subject", "from", "to", "reason", "by"]);
            assert!(show("links").as_array().is_some_and(|links| links.len() == 2));
            let neighbors = show("neighbors");
            let resolved = neighbors.as_array().unwrap().iter().filter(|neighbor| neighbor["mac"].is_string()).count();
            assert!(resolved >= 4, "both firewalls in both families: {neighbors:#}");
            assert_all_answered(&traffic.flows());
        },
    );
}

#[test]
fn explain_says_where_a_flow_goes_and_the_flow_goes_there() {
    sandwich(
        |base| base,
        |rig| {
            let traffic = rig.start(Station::Client, "tcp 203.0.113.11 --flows 10 --duration-ms 3000");
            rig.within(Duration::from_secs(2), "ten sessions", |rig| {
                rig.lab.sessions(Side::Outer).unwrap().len() >= 10
            });
            for session in rig.lab.sessions(Side::Outer).unwrap() {
                let words = ["explain", &session.protocol, &session.source, &session.destination, "--json"];
                for side in Side::BOTH {
                    let explained = rig.json(side, &words);
                    assert_eq!(explained["decided_by"], "session", "{explained:#}");
                    assert_eq!(explained["firewall"], session.pins[0].firewall.as_str(), "{explained:#}");
                }
            }
            // For a flow that does not exist both engines choose the same firewall by hash, and the flow then takes it.
            let words = ["explain", "tcp", "198.51.100.7:23456", "203.0.113.12:7", "--json"];
            let outer = rig.json(Side::Outer, &words);
            for side in Side::BOTH {
                let words: Vec<_> = words.into_iter().chain(["--peer"]).collect();
                let both = rig.json(side, &words);
                let peer = &both["peer_answer"];
                assert_eq!((&peer["asked"], &peer["agrees"]), (&true.into(), &true.into()), "{both:#}");
                assert_eq!(peer["firewall"], outer["firewall"], "{both:#}");
                assert!(peer["summary"].as_str().is_some_and(|line| line.starts_with("AGREE: ")), "{both:#}");
            }
            assert_eq!(outer["what_if"][0]["kind"], "firewall", "{outer:#}");
            assert_ne!(outer["what_if"][0]["firewall"], outer["firewall"], "{outer:#}");
            assert_eq!(outer["egress"]["neighbor"], "reachable", "{outer:#}");
            assert_eq!(outer["decided_by"], "hash", "{outer:#}");
            assert_eq!(outer["candidates"].as_array().map(Vec::len), Some(2));
            assert!(outer["egress"]["link"] == "firewalls" && outer["firewall"].is_string(), "{outer:#}");
            let curl = ["curl", "-s", "-m", "3", "--local-port", "23456", "telnet://203.0.113.12:7"];
            let _ = rig.output(Station::Client, &curl);
            let sessions = rig.lab.sessions(Side::Inner).unwrap();
            let session = sessions.iter().find(|session| session.source == "198.51.100.7:23456").expect("it was made");
            assert_eq!(outer["firewall"], session.pins[0].firewall.as_str());
            assert_all_answered(&traffic.flows());
        },
    );
}

#[test]
fn probe_and_ping_show_the_exchange_and_fail_where_the_path_does() {
    sandwich(
        |base| base,
        |rig| {
            let good = rig.json(Side::Outer, &["probe", "perimeter/fw1", "--json"]);
            let exchanges = good.as_array().expect("an array");
            assert_eq!(exchanges.len(), 2, "one per family: {good:#}");
            assert!(exchanges.iter().all(|exchange| exchange["ok"] == true && exchange["rtt_us"].is_u64()), "{good:#}");
            for address in ["198.51.100.7", "10.1.0.11", "2001:db8:1::7"] {
                let output = rig.fwlb(Side::Outer, &["ping", address]);
                assert!(output.status.success(), "{address}: {}", said(&output));
            }
            let through = rig.fwlb(Side::Outer, &["ping", "10.2.0.1", "--firewall", "perimeter/fw2"]);
            assert!(through.status.success(), "{}", said(&through));

            rig.lab.fail(1, FirewallCable::Inner).unwrap();
            let bad = rig.fwlb(Side::Outer, &["probe", "perimeter/fw1"]);
            assert_eq!(bad.status.code(), Some(1), "{}", said(&bad));
            let nobody = rig.fwlb(Side::Outer, &["ping", "198.51.100.200"]);
            assert_eq!(nobody.status.code(), Some(1), "{}", said(&nobody));
        },
    );
}

#[test]
fn what_is_set_is_shown_survives_a_restart_and_ends_with_default() {
    sandwich(
        |base| base,
        |rig| {
            let set = |rig: &Rig, admin: &str| {
                rig.fwlb(Side::Outer, &["set", "firewall", "perimeter/fw1", admin, "--reason", "test"])
            };
            assert!(set(rig, "maint").status.success());
            rig.within(Duration::from_secs(1), "maint on both sides", |rig| {
                Side::BOTH.iter().all(|side| rig.state(*side, "fw1") == "maint")
            });
            let status = rig.json(Side::Outer, &["show", "status", "--json"]);
            assert_eq!(status["overrides"][0]["admin"], "maint", "{status:#}");

            rig.lab.stop_engine(Side::Outer, fwlb::lab::Stop::Kill).unwrap();
            rig.lab.start_engine(Side::Outer).unwrap();
            rig.within(Duration::from_secs(5), "maint after the restart", |rig| {
                rig.lab.firewalls(Side::Outer).is_ok_and(|views| views.iter().any(|view| view.state.name() == "maint"))
            });

            assert!(set(rig, "default").status.success());
            rig.lab.wait_for_firewalls(Duration::from_secs(10)).unwrap();
            let unknown = rig.fwlb(Side::Outer, &["set", "firewall", "fw9", "drain"]);
            assert_eq!(unknown.status.code(), Some(1), "{}", said(&unknown));
            assert!(said(&unknown).contains("fw9"), "{}", said(&unknown));
        },
    );
}

/// Runs `fwlb run` at the outer station with a changed copy of its configuration; it must exit within five seconds.
fn refused(rig: &Rig, prefix: &[&str], change: impl Fn(&str) -> String) -> Output {
    let text = fs::read_to_string(rig.lab.configuration_file(Side::Outer)).unwrap();
    let file = rig.lab.directory().join("refused.toml");
    fs::write(&file, change(&text)).unwrap();
    let file = file.display().to_string();
    let mut words = vec!["timeout", "5"];
    words.extend(prefix);
    words.extend([FWLB, "run", &file]);
    rig.output(Station::Outer, &words)
}

/// Asserts that it exited with one or two lines on standard error that contain what is wrong.
#[track_caller]
fn assert_refused(output: &Output, names: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    let lines = error.lines().filter(|line| !line.trim().is_empty()).count();
    assert!((1..=3).contains(&lines), "one or two lines that say what to do:\n{error}");
    assert!(names.iter().all(|name| error.contains(name)), "{names:?} in: {error}");
}

#[test]
fn what_keeps_an_engine_from_running_is_said_in_a_line() {
    sandwich(
        |base| base,
        |rig| {
            let elsewhere =
                |text: &str| text.replace("/outer.sock", "/refused.sock").replace("/state/outer", "/state/refused");

            let missing =
                refused(rig, &[], |text| elsewhere(text).replace("device = \"clients\"", "device = \"nosuch0\""));
            assert_refused(&missing, &["nosuch0"]);

            let second = refused(rig, &[], elsewhere);
            assert_refused(&second, &["clients"]);

            rig.exec(Station::Outer, &["ip", "link", "add", "spare0", "type", "veth", "peer", "name", "spare1"]);
            rig.exec(Station::Outer, &["ip", "link", "set", "spare0", "up"]);
            rig.exec(Station::Outer, &["ip", "link", "set", "spare1", "up"]);
            let other_devices = |text: &str| {
                text.replace("device = \"clients\"", "device = \"spare0\"")
                    .replace("device = \"fw-outer\"", "device = \"spare1\"")
            };
            let socket = refused(rig, &[], other_devices);
            assert_refused(&socket, &["outer.sock"]);

            for capability in ["net_raw", "net_admin"] {
                let without = format!("-{capability}");
                let powerless = ["setpriv", "--bounding-set", &without, "--inh-caps", &without];
                let powerless = refused(rig, &powerless, |text| elsewhere(&other_devices(text)));
                assert_refused(&powerless, &[&format!("CAP_{}", capability.to_uppercase())]);
            }

            let broken = refused(rig, &[], |text| text.replace("[engine]", "[engnie]"));
            assert_eq!(broken.status.code(), Some(1), "{}", said(&broken));
            assert!(said(&broken).contains("refused.toml:"), "{}", said(&broken));

            // The running engine is not disturbed.
            assert_all_answered(&rig.flows(Station::Client, "tcp 203.0.113.11 --flows 4 --duration-ms 200"));
        },
    );
}

#[test]
fn a_command_without_an_engine_says_so() {
    let output =
        std::process::Command::new(FWLB).args(["-s", "/run/fwlb-no-such.sock", "show", "status"]).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("/run/fwlb-no-such.sock"), "{}", said(&output));
}
