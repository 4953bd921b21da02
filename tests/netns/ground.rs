//! Shared by all namespace tests: setting up the network, making traffic, checking the result.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fwlb::lab::traffic::{FlowEnd, FlowReport, OutputLine};
use fwlb::lab::{self, Engine, Lab, RoutingSetup, Side, Station, Topology};

use crate::withheld::Withheld;

/// The program under test.
pub const FWLB: &str = env!("CARGO_BIN_EXE_fwlb");

/// The tests measure times: only one lab runs at a time, even with plain `cargo test`.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A running lab, with the queries and commands that tests need.
pub struct Rig {
    pub lab: Lab,
}

/// Builds `shape` under a name of its own, runs `test`, asserts that the counters of its engines add up and that
/// none panicked, and removes the lab.
pub fn sandwich(shape: impl FnOnce(Topology) -> Topology, test: impl FnOnce(&mut Rig)) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let Some(_alone) = ground() else { return };
    let name = format!("t{:x}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let topology = shape(Topology::new(&name));
    let engines = !matches!(topology.routers, RoutingSetup::Kernel { .. });
    let lab =
        Lab::up(topology, Path::new(FWLB)).unwrap_or_else(|error| panic!("the laboratory does not stand: {error}"));
    let mut rig = Rig { lab };

    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&mut rig))) {
        rig.tell();
        resume_unwind(panic);
    }

    if engines {
        rig.assert_counters_add_up();
        for engine in rig.topology().engines() {
            let log = rig.lab.log(engine.name());
            assert!(!log.contains("panicked"), "engine {engine}:\n{log}");
        }
    }
    rig.lab.down().expect("removes every trace");
    assert!(!netns_list().contains(&name), "a namespace was left behind");
}

/// For tests that are not about health checks: a busy machine must not take a firewall out.
pub fn patient(base: Topology) -> Topology {
    base.with("group.check", "timeout", "500ms").with("group.check", "fall", 20)
}

/// Checks for root and takes the lock on the machine; `None` if the tests are to be skipped.
pub fn ground() -> Option<std::sync::MutexGuard<'static, ()>> {
    if !is_root() {
        let skip = std::env::var("FWLB_TEST_NO_ROOT").is_ok_and(|value| value == "1");
        assert!(skip, "namespace tests need root: run them as root, or leave them out with FWLB_TEST_NO_ROOT=1");
        eprintln!("passed over: not root, and FWLB_TEST_NO_ROOT=1");
        return None;
    }
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    remove_what_dead_runs_left();
    Some(alone)
}

/// Removes the labs of test processes that were killed.
fn remove_what_dead_runs_left() {
    for name in lab::list() {
        let pid = name.strip_prefix('t').and_then(|rest| rest.split_once('x')).map(|(pid, _)| pid);
        let pid = pid.and_then(|pid| u32::from_str_radix(pid, 16).ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            lab::remove(&name).expect("removes what a dead run left");
        }
    }
}

pub fn is_root() -> bool {
    let output = std::process::Command::new("id").arg("-u").output().expect("id runs");
    output.stdout == b"0\n"
}

pub fn netns_list() -> String {
    let output = std::process::Command::new("ip").args(["netns", "list"]).output().expect("ip runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A traffic program in the background.
pub struct Traffic {
    child: Child,
}

impl Traffic {
    /// Waits for its end and returns the reports of its flows.
    pub fn flows(self) -> Vec<FlowReport> {
        let output = self.child.wait_with_output().expect("the traffic program runs");
        assert!(output.status.success(), "traffic: {}", said(&output));
        let text = String::from_utf8_lossy(&output.stdout);
        let lines =
            text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
        let flows = lines.filter_map(|line| match line {
            OutputLine::Flow(flow) => Some(flow),
            OutputLine::Ready | OutputLine::Progress(_) | OutputLine::Page(_) => None,
        });
        flows.collect()
    }
}

impl Rig {
    pub fn topology(&self) -> &Topology {
        self.lab.topology()
    }

    /// What the machine withholds from the lab's engines from here on.
    pub fn withheld(&self) -> Withheld {
        let engines = self.topology().engines().into_iter();
        let files: Vec<_> = engines.map(|engine| self.lab.directory().join(format!("{engine}.pid"))).collect();
        Withheld::from(files.iter().filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok()))
    }

    /// Starts flows at a station; `words` as for `fwlb lab traffic flows`.
    pub fn start(&self, node: Station, words: &str) -> Traffic {
        let mut command = self.lab.traffic(node);
        command.arg("flows").args(words.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Traffic { child: command.spawn().expect("ip netns exec runs") }
    }

    /// Runs flows at a station to their end.
    pub fn flows(&self, node: Station, words: &str) -> Vec<FlowReport> {
        self.start(node, words).flows()
    }

    /// Runs a command at a station, whatever its result.
    pub fn output(&self, node: Station, words: &[&str]) -> Output {
        self.lab.command(node, words[0]).args(&words[1..]).stdin(Stdio::null()).output().expect("ip netns exec runs")
    }

    /// Runs a command at a station that has to succeed, and returns what it printed.
    pub fn exec(&self, node: Station, words: &[&str]) -> String {
        let output = self.output(node, words);
        assert!(output.status.success(), "{words:?} at {node}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `fwlb -s SOCKET …` against an engine.
    pub fn fwlb(&self, engine: impl Into<Engine>, words: &[&str]) -> Output {
        let socket = self.lab.socket(engine);
        std::process::Command::new(FWLB).arg("-s").arg(socket).args(words).output().expect("fwlb runs")
    }

    /// The JSON that a command of `fwlb` prints.
    pub fn json(&self, engine: impl Into<Engine>, words: &[&str]) -> serde_json::Value {
        let output = self.fwlb(engine, words);
        assert!(output.status.success(), "fwlb {words:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)))
    }

    /// Waits until `done`, at most `patience`, and returns how long it took.
    #[track_caller]
    pub fn within(&self, patience: Duration, what: &str, mut done: impl FnMut(&Self) -> bool) -> Duration {
        let start = tokio::time::Instant::now();
        while !done(self) {
            assert!(start.elapsed() < patience, "not within {patience:?}: {what}");
            thread::sleep(Duration::from_millis(10));
        }
        start.elapsed()
    }

    /// The state of a firewall as an engine shows it.
    pub fn state(&self, side: Side, firewall: &str) -> String {
        let firewalls = self.lab.firewalls(side).expect("the engine answers");
        let found = firewalls.into_iter().find(|view| view.name == firewall);
        found.unwrap_or_else(|| panic!("no {firewall} in {}", side.engine())).state.to_string()
    }

    /// One counter of an engine.
    pub fn counter(&self, engine: impl Into<Engine>, name: &str) -> u64 {
        let engine = engine.into();
        let counters = self.lab.counters(engine).expect("the engine answers");
        *counters.get(name).unwrap_or_else(|| panic!("no counter {name} in {engine}"))
    }

    /// Asserts that every firewall has carried packets, and that none got a packet without state.
    #[track_caller]
    pub fn assert_firewalls_dropped_nothing(&self) {
        for firewall in 1..=self.topology().firewalls {
            let drops = self.lab.firewall_totals(firewall).expect("nft answers");
            assert_eq!((drops.invalid, drops.new_not_syn), (0, 0), "fw{firewall}: {drops:?}");
            assert!(drops.passed > 0, "fw{firewall} carried nothing");
        }
    }

    /// Asserts `received = forwarded + hairpinned + punted + dropped` on all engines that run, even under traffic.
    #[track_caller]
    pub fn assert_counters_add_up(&self) {
        for engine in self.topology().engines().into_iter().filter(|engine| self.lab.runs(*engine)) {
            let counters = self.lab.counters(engine).expect("the engine answers");
            let sum: u64 = ["forwarded", "hairpinned", "punted", "dropped"].iter().map(|name| counters[*name]).sum();
            assert_eq!(counters["received"], sum, "engine {engine}: {counters:#?}");
            let reasons = counters.iter().filter(|(name, _)| name.starts_with("drop_")).map(|(_, count)| count);
            assert_eq!(counters["dropped"], reasons.sum::<u64>(), "engine {engine}: {counters:#?}");
        }
    }

    /// Prints what helps to understand a failure: counters, what the firewalls dropped, the logs of the engines.
    fn tell(&self) {
        for engine in self.topology().engines() {
            let counters = self.lab.counters(engine).unwrap_or_default();
            let moved: Vec<_> = counters.iter().filter(|(_, count)| **count > 0).collect();
            eprintln!("engine {engine}: {moved:?}\n{}", self.lab.log(engine.name()));
            if let Some(node) = engine.node.and_then(|_| self.lab.node(engine).ok()) {
                eprintln!("{node:#?}");
            }
        }
        for firewall in 1..=self.topology().firewalls {
            eprintln!("fw{firewall}: {:?}", self.lab.firewall_totals(firewall));
        }
        // A datagram that a host had no room for is the machine's fault and not that of the engines.
        for node in self.topology().stations() {
            let lost =
                self.output(node, &["sh", "-c", "nstat -s 2>/dev/null | grep -E 'RcvbufErrors|ReasmFails|InErrors'"]);
            if !lost.stdout.is_empty() {
                eprintln!("{node}: {}", String::from_utf8_lossy(&lost.stdout));
            }
        }
        eprintln!("backlog overflows: {}", std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default());
    }
}

/// Asserts that every flow ended in order, with every request answered.
#[track_caller]
pub fn assert_all_answered(flows: &[FlowReport]) {
    assert!(!flows.is_empty(), "no flow reported");
    for flow in flows {
        assert_eq!((flow.lost(), &flow.end), (0, &FlowEnd::Finished), "{flow:#?}");
        assert!(flow.answered > 0, "{flow:#?}");
    }
}

/// The number of packets that the hosts received with a wrong checksum; `exec` runs a command there.
pub fn checksum_errors(exec: impl Fn(&[&str]) -> String) -> u64 {
    let v4 = exec(&["cat", "/proc/net/snmp"]);
    let v6 = exec(&["cat", "/proc/net/snmp6"]);
    let mut errors = 0;
    for protocol in ["Tcp:", "Udp:", "Icmp:"] {
        let mut lines = v4.lines().filter(|line| line.starts_with(protocol));
        let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
        let named = names.split_whitespace().zip(values.split_whitespace());
        errors += named
            .filter(|(name, _)| *name == "InCsumErrors")
            .map(|(_, value)| value.parse::<u64>().unwrap())
            .sum::<u64>();
    }
    let csum = v6.lines().filter(|line| line.contains("InCsumErrors"));
    errors + csum.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum::<u64>()
}

/// Standard output and error of a program.
pub fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
