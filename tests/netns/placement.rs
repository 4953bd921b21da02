//! What `fwlb check` and the log of a starting engine report about the machine.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fwlb::lab::{Lab, Side, Station, Stop, Topology};

use crate::ground::{FWLB, ground, patient, said};
use crate::services::farm::{Plan, farm};

/// Every warning about the device `clients`, each of which the test causes.
const IN_THE_WAY: [&str; 3] = [
    "received frames of clients are steered onto CPU",
    "the kernel forwards IPv4 and IPv6 on clients too",
    "the kernel thread that receives for clients",
];

fn at_outer(lab: &Lab, shell: &str) -> String {
    let output = lab.command(Station::Outer, "sh").args(["-euc", shell]).output().expect("ip netns exec runs");
    assert!(output.status.success(), "{shell}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_is_in_an_engines_way_is_told_by_check_and_at_start() {
    let Some(_alone) = ground() else { return };
    let name = format!("t{:x}xp", std::process::id());
    // One worker per CPU, so that everything that the kernel does is in the way of one.
    let cpus = std::thread::available_parallelism().unwrap().get();
    let mut lab =
        Lab::build(patient(Topology::new(&name)).with("engine", "workers", cpus as i64), Path::new(FWLB)).unwrap();
    let file = lab.directory().join("outer.toml");
    let check = |lab: &Lab| {
        let output = lab.command(Station::Outer, FWLB).arg("check").arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    at_outer(&lab, "sysctl -qw net.ipv4.conf.all.forwarding=0 net.ipv6.conf.all.forwarding=0");
    lab.start_engines().unwrap();
    let before = check(&lab) + &lab.log(Side::Outer.engine());
    Side::BOTH.into_iter().for_each(|side| lab.stop_engine(side, Stop::Orderly).unwrap());
    for words in IN_THE_WAY {
        assert!(!before.contains(words), "{words:?} is told of a machine in order: {before}");
    }

    at_outer(&lab, "sysctl -qw net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1");
    // Threads for receiving (threaded NAPI); a veth pair has one while GRO is on.
    at_outer(&lab, "ethtool -K clients gro on; echo 1 > /sys/class/net/clients/threaded");
    at_outer(&lab, &format!("echo {:x} > /sys/class/net/clients/queues/rx-0/rps_cpus", (1u64 << cpus) - 1));
    let found = check(&lab);
    for words in IN_THE_WAY {
        assert!(found.contains(words), "{words:?} is missing in: {found}");
    }
    assert!(found.contains("= help: echo 0 > /sys/class/net/clients/queues/rx-0/rps_cpus"), "{found}");

    let elsewhere = Command::new(FWLB).arg("check").arg(&file).output().unwrap();
    assert_eq!(elsewhere.status.code(), Some(0));
    let told = String::from_utf8_lossy(&elsewhere.stderr);
    assert!(!told.contains("on this machine"), "a machine without these devices: {told}");

    lab.start_engines().unwrap();
    lab.wait_for_firewalls(Duration::from_secs(20)).unwrap();
    let log = lab.log(Side::Outer.engine());
    for words in IN_THE_WAY {
        assert_eq!(log.matches(words).count(), 1, "{words:?} once in: {log}");
    }
    // It forwards nevertheless, and each packet once.
    let [to, _] = lab.topology().server(1).both();
    let pinged = lab.command(Station::Client, "ping").args(["-c", "3", "-i", "0.2", &to.to_string()]).output().unwrap();
    let text = said(&pinged);
    assert!(pinged.status.success() && text.contains("3 received") && !text.contains("DUP"), "{text}");
    lab.down().unwrap();
}

/// The CPUs on which the thread of this name may run, as `0-2,5` (proc_pid_status(5)).
fn cpus_of(pid: u32, name: &str) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
    let mut statuses = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
    let value = |status: &str, key: &str| {
        status.lines().find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned())).expect("a status has it")
    };
    let status = statuses.find(|status| value(status, "Name:") == name).unwrap_or_else(|| panic!("no thread {name}"));
    value(&status, "Cpus_allowed_list:")
}

#[test]
fn threads_in_real_time_leave_the_cpus_of_workers_alone() {
    farm(Plan::new(1, ""), |farm| {
        let cpus = std::thread::available_parallelism().unwrap().get();
        let worker = cpus_of(farm.pid(), "fwlb-worker-0");
        assert_eq!(worker, (cpus - 1).to_string(), "the last one");
        for name in ["fwlb-control", "fwlb-probes"] {
            let allowed = cpus_of(farm.pid(), name);
            match cpus {
                1 => assert_eq!(allowed, worker),
                2 => assert_eq!(allowed, "0", "{name}"),
                _ => assert_eq!(allowed, format!("0-{}", cpus - 2), "{name}"),
            }
        }
    });
}
