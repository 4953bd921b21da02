//! A running engine keeps few privileges, they suffice, and the next start works.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fwlb::lab::{Lab, Side, Station, Stop, Topology};

use crate::ground::{FWLB, Rig, assert_all_answered, ground, patient, said, sandwich};

/// The threads of an engine's process, each with these fields of its `/proc` status.
fn threads<const N: usize>(lab: &Lab, side: Side, keys: [&str; N]) -> Vec<(String, [String; N])> {
    let pid = fs::read_to_string(lab.directory().join(format!("{}.pid", side.engine()))).unwrap();
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.trim())).unwrap();
    let read = |task: &Path| {
        let status = fs::read_to_string(task.join("status")).unwrap();
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
            line.unwrap_or_else(|| panic!("no {key} in {status}")).to_owned()
        };
        (value("Name"), keys.map(value))
    };
    tasks.map(|task| read(&task.unwrap().path())).collect()
}

/// CAP_NET_ADMIN, CAP_NET_RAW and CAP_IPC_LOCK (linux/capability.h).
const DEVICES: &str = "0000000000007000";
const NOTHING: &str = "0000000000000000";

/// TCP and UDP traffic of both families from the client.
fn converse(rig: &Rig) {
    for protocol in ["tcp", "udp"] {
        for to in rig.topology().server(1).both() {
            let words = format!("{protocol} {to} --flows 10 --interval-ms 50 --duration-ms 500 --patience-ms 3000");
            assert_all_answered(&rig.flows(Station::Client, &words));
        }
    }
}

#[track_caller]
fn assert_confined(lab: &Lab) {
    assert_confined_to(lab, DEVICES);
}

/// Asserts that the control threads have the capabilities `devices`, and other threads none.
#[track_caller]
pub fn assert_confined_to(lab: &Lab, devices: &str) {
    for side in Side::BOTH {
        let threads = threads(lab, side, ["CapEff", "CapPrm", "NoNewPrivs", "Seccomp"]);
        for name in ["fwlb-control", "fwlb-worker-0", "fwlb-manage", "fwlb-log"] {
            assert!(threads.iter().any(|(thread, _)| thread == name), "no thread {name}: {threads:?}");
        }
        for (name, left) in threads {
            let kept = if name == "fwlb-control" { devices } else { NOTHING };
            assert_eq!(left, [kept, kept, "1", "2"], "{}: {name}", side.engine());
        }
    }
}

#[test]
fn a_running_engine_has_what_a_link_that_comes_back_takes_and_nothing_else() {
    sandwich(patient, |rig| {
        assert_confined(&rig.lab);

        converse(rig);
        // The device toward the firewalls disappears and comes back: it is opened again, with a filter and with three
        // capabilities only.
        rig.exec(Station::Outer, &["ip", "link", "set", "clients", "down"]);
        rig.exec(Station::Outer, &["ip", "link", "set", "clients", "up"]);
        rig.within(Duration::from_secs(10), "flows pass again", |rig| {
            let [to, _] = rig.topology().server(1).both();
            rig.output(Station::Client, &["ping", "-c", "1", "-W", "1", &to.to_string()]).status.success()
        });
        for words in [&["show", "status"][..], &["show", "counters"], &["set", "firewall", "fw1", "drain"]] {
            let output = rig.fwlb(Side::Outer, words);
            assert!(output.status.success(), "{words:?}: {}", said(&output));
        }
        assert_confined(&rig.lab);
    });
}

#[test]
fn an_engine_runs_as_another_user_and_leaves_nothing_behind() {
    let Some(_alone) = ground() else { return };
    let name = format!("t{:x}xu", std::process::id());
    let topology = patient(Topology::new(&name)).with("engine", "user", "nobody");
    let mut lab = Lab::build(topology, Path::new(FWLB)).unwrap();
    chown(lab.directory(), Some(65_534), Some(65_534)).unwrap();

    lab.start_engines().unwrap();
    lab.wait_for_firewalls(Duration::from_secs(20)).unwrap();
    assert_confined(&lab);
    for (thread, [uid]) in threads(&lab, Side::Outer, ["Uid"]) {
        assert_eq!(uid, "65534\t65534\t65534\t65534", "{thread}");
    }
    lab.fwlb(Side::Outer, &["set", "firewall", "fw1", "drain"]).unwrap();
    for side in Side::BOTH {
        lab.stop_engine(side, Stop::Orderly).unwrap();
        assert!(!lab.socket(side).exists(), "the socket is gone");
    }

    lab.start_engines().unwrap();
    (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        lab.firewalls(Side::Outer).is_ok()
    });
    let kept = lab.fwlb(Side::Outer, &["show", "status", "--json"]).unwrap();
    assert!(kept.contains("perimeter/fw1") && kept.contains("drain"), "{kept}");
    lab.down().unwrap();
}

#[test]
fn an_engine_that_is_killed_starts_again_with_its_overrides() {
    sandwich(patient, |rig| {
        for round in 0..10_u64 {
            // It is killed at a different moment each time, while it keeps writing its state.
            let words = ["drain", "ready", "maint", "default"].map(|admin| ["set", "firewall", "fw1", admin]);
            let before = words[round as usize % 4][3];
            let output = rig.fwlb(Side::Outer, &words[round as usize % 4]);
            assert!(output.status.success(), "{}", said(&output));
            let writers: Vec<_> = (0..3)
                .map(|_| {
                    let mut command = Command::new(FWLB);
                    command.arg("-s").arg(rig.lab.socket(Side::Outer)).args(words[round as usize % 4]);
                    command.stdout(Stdio::null()).stderr(Stdio::null());
                    command.spawn().unwrap()
                })
                .collect();
            std::thread::sleep(Duration::from_micros(round * 1700 % 9000));

            rig.lab.stop_engine(Side::Outer, Stop::Kill).unwrap();
            for mut writer in writers {
                let _ = writer.wait();
            }
            rig.lab.start_engine(Side::Outer).unwrap();

            rig.within(Duration::from_secs(20), "it answers", |rig| rig.lab.firewalls(Side::Outer).is_ok());
            let views = rig.lab.firewalls(Side::Outer).unwrap();
            let fw1 = views.iter().find(|view| view.name == "fw1").unwrap();
            let kept = serde_json::to_value(fw1).unwrap();
            let expected = (before != "default").then_some(before);
            assert_eq!(kept["override"].as_str(), expected, "{kept}");
        }
        rig.fwlb(Side::Outer, &["set", "firewall", "fw1", "default"]);
        rig.lab.wait_for_firewalls(Duration::from_secs(20)).unwrap();
    });
}

#[test]
fn the_service_manager_is_told_and_its_watchdog_fed() {
    sandwich(patient, |rig| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        rig.lab.stop_engine(Side::Outer, Stop::Orderly).unwrap();
        let mut command = rig.lab.command(Side::Outer.node(), FWLB);
        command.arg("run").arg(rig.lab.configuration_file(Side::Outer)).stderr(Stdio::null());
        let mut engine = command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "5000000").spawn().unwrap();
        let told = || {
            let mut bytes = [0; 256];
            let length = manager.recv(&mut bytes).expect("it tells");
            String::from_utf8_lossy(&bytes[..length]).trim().to_owned()
        };

        assert_eq!(told(), "READY=1");
        assert_eq!([told(), told()], ["WATCHDOG=1", "WATCHDOG=1"], "every 2.5 s");
        let killed = Command::new("kill").args(["-TERM", &engine.id().to_string()]).status().unwrap();
        assert!(killed.success());
        while told() != "STOPPING=1" {}
        assert!(engine.wait().unwrap().success());
        rig.lab.start_engine(Side::Outer).unwrap();
        rig.lab.wait_for_firewalls(Duration::from_secs(20)).unwrap();
    });
}

#[test]
fn the_session_log_tells_every_session_once() {
    let log = |directory: &Path, side: Side| directory.join(format!("{}.json", side.engine()));
    let directory = tempfile::tempdir().unwrap();
    let pattern = directory.path().join("{engine}.json").display().to_string();
    sandwich(
        |base| patient(base).with("log", "sessions", pattern),
        |rig| {
            converse(rig);
            let counters = Side::BOTH.map(|side| rig.lab.counters(side).unwrap());
            for side in Side::BOTH {
                rig.lab.stop_engine(side, Stop::Orderly).unwrap();
            }
            for (side, counters) in Side::BOTH.into_iter().zip(counters) {
                let text = fs::read_to_string(log(directory.path(), side)).unwrap();
                let lines: Vec<serde_json::Value> =
                    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                assert_eq!(lines.len() as u64, counters["sessions_created"], "{}", side.engine());
                let told = |word: &str| lines.iter().filter(|line| line["reason"] == word).count();
                assert_eq!(told("shutdown") + told("idle") + told("closed") + told("reset"), lines.len());
                for line in &lines {
                    assert_eq!(line["pins"].as_array().map(Vec::len), Some(1), "{line}");
                    assert!(line["packets"].as_u64() > Some(0) && line["engine"] == side.engine(), "{line}");
                }
                let output = Command::new(FWLB)
                    .args(["report", "--by", "firewall", "--json"])
                    .arg(log(directory.path(), side))
                    .output()
                    .unwrap();
                let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!((report["used"].as_u64(), report["errors"].as_u64()), (Some(lines.len() as u64), Some(0)));
            }
            for side in Side::BOTH {
                rig.lab.start_engine(side).unwrap();
            }
            rig.lab.wait_for_firewalls(Duration::from_secs(20)).unwrap();
        },
    );
}
