//! The conditions of the measurements: the machine, the kernel, the versions of the peers, and whether other programs
//! use the machine.

use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::ground;
use crate::placement::{CoreTime, DUT_CORE, GENERATOR_CORE};

/// Other programs disturb the measurements if they use more than this share of a core.
const BUSY: f64 = 0.15;

/// Name and value of each condition.
pub fn conditions() -> Vec<(String, String)> {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpus = file("/proc/cpuinfo");
    let field =
        |name: &str| cpus.lines().find_map(|line| line.strip_prefix(name)?.split_once(':')).map(|(_, value)| value);
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let model = field("model name").unwrap_or("unknown processor").trim().to_owned();
    let virtual_machine =
        if field("flags").is_some_and(|flags| flags.contains(" hypervisor")) { ", virtual" } else { "" };
    [
        ("fwlb", env!("CARGO_PKG_VERSION").to_owned()),
        ("kernel", file("/proc/sys/kernel/osrelease")),
        ("processor", format!("{model}, {cores} cores{virtual_machine}")),
        ("huge pages", file("/sys/kernel/mm/transparent_hugepage/enabled")),
        ("offloads", "of virtual cables as they are by default; generated packets are plain".to_owned()),
        ("peers", versions()),
        ("load", file("/proc/loadavg")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// What may spoil the measurements.
pub fn warnings() -> Result<Vec<String>> {
    let cores = [GENERATOR_CORE, DUT_CORE];
    let before = cores.map(CoreTime::of);
    ground::pause(1000)?;
    let mut warnings = Vec::new();
    for (core, before) in cores.into_iter().zip(before) {
        let busy = CoreTime::of(core)?.busy_since(&before?);
        if busy > BUSY {
            warnings.push(format!(
                "core {core} is {:.0} % busy before anything was started: other programs disturb the measurements",
                busy * 100.0
            ));
        }
    }
    Ok(warnings)
}

/// The versions of the installed peers.
fn versions() -> String {
    let asked = [
        ("testpmd", "dpkg-query", &["-W", "dpdk-dev"][..], "dpdk-dev\t"),
        ("HAProxy", "haproxy", &["-v"], "version "),
        ("nftables", "nft", &["--version"], "nftables v"),
        ("iperf3", "iperf3", &["--version"], "iperf "),
        ("wrk", "wrk", &["-v"], "wrk debian/"),
        ("nginx", "nginx", &["-v"], "nginx/"),
    ];
    asked.map(|(name, program, words, before)| format!("{name} {}", version(program, words, before))).join(", ")
}

/// The word after `before` in the output of the program.
fn version(program: &str, words: &[&str], before: &str) -> String {
    let Ok(output) = Command::new(program).args(words).output() else { return "is missing".to_owned() };
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let rest = said.split_once(before).map(|(_, rest)| rest).unwrap_or_default();
    let version: String =
        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+')).collect();
    if version.is_empty() { "of unknown version".to_owned() } else { version }
}
