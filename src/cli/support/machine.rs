//! Collects facts about the machine: kernel, CPUs, memory, devices, routes, limits of the engines, and the last lines
//! of the log.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::archive::Archive;

/// How long another program may run.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(10);

/// Files of the kernel and the system, by the name of their entry.
const FILES: &[(&str, &str)] = &[
    ("kernel.txt", "/proc/version"),
    ("command-line.txt", "/proc/cmdline"),
    ("os-release.txt", "/etc/os-release"),
    ("cpuinfo.txt", "/proc/cpuinfo"),
    ("meminfo.txt", "/proc/meminfo"),
    ("loadavg.txt", "/proc/loadavg"),
    ("pressure-cpu.txt", "/proc/pressure/cpu"),
    ("pressure-memory.txt", "/proc/pressure/memory"),
    ("interrupts.txt", "/proc/interrupts"),
    ("softirqs.txt", "/proc/softirqs"),
    ("softnet.txt", "/proc/net/softnet_stat"),
    ("packet-sockets.txt", "/proc/net/packet"),
];

/// Other programs by the name of their entry. The entry of a missing program says so.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("journal.txt", &["journalctl", "--no-pager", "--output=short-iso-precise", "--lines=5000", "--unit=fwlb@*"]),
    ("units.txt", &["systemctl", "--no-pager", "--full", "--lines=0", "status", "fwlb@*"]),
    ("links.txt", &["ip", "-details", "-statistics", "link"]),
    ("addresses.txt", &["ip", "address"]),
    ("neighbors.txt", &["ip", "neighbor"]),
    ("routes.txt", &["ip", "route", "show", "table", "all"]),
    ("routes6.txt", &["ip", "-6", "route", "show", "table", "all"]),
    ("rules.txt", &["ip", "rule"]),
    ("nftables.txt", &["nft", "list", "ruleset"]),
    ("sockets.txt", &["ss", "--listening", "--numeric", "--processes"]),
];

/// Kernel settings that affect an engine's frames, below /proc/sys.
const SETTINGS: &[&str] = &[
    "kernel/sched_rt_runtime_us",
    "net/core/bpf_jit_enable",
    "net/core/netdev_budget",
    "net/core/netdev_max_backlog",
    "net/core/rmem_max",
    "net/core/wmem_max",
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
];

/// Attributes of a device, each a line of its entry.
const DEVICE: &[&str] = &[
    "address",
    "carrier",
    "carrier_changes",
    "duplex",
    "flags",
    "gro_flush_timeout",
    "mtu",
    "operstate",
    "speed",
    "tx_queue_len",
    "type",
];

/// The name of the machine, as letters, digits and `-`.
pub fn host() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if host.is_empty() { "here".to_owned() } else { host }
}

/// Adds everything; missing files are left out.
pub async fn add_machine(archive: &mut Archive) {
    for (name, path) in FILES {
        if let Ok(text) = fs::read_to_string(path) {
            archive.add(&format!("machine/{name}"), text);
        }
    }
    archive.add("machine/settings.txt", settings(Path::new("/proc/sys")));
    archive.add("machine/devices.txt", devices(Path::new("/sys/class/net")));
    archive.add("machine/processes.txt", processes(Path::new("/proc")));
    for (name, words) in PROGRAMS {
        archive.add(&format!("machine/{name}"), program_output(words).await);
    }
}

/// The output of another program.
async fn program_output(words: &[&str]) -> String {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(PROGRAM_TIMEOUT, command.output()).await {
        Ok(Ok(output)) => {
            let [printed, complained] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
            format!("{printed}{complained}")
        }
        Ok(Err(error)) => format!("{}: {error}\n", words[0]),
        Err(_) => format!("{}: no end after {PROGRAM_TIMEOUT:?}\n", words[0]),
    }
}

fn settings(sys: &Path) -> String {
    let mut text = String::new();
    SETTINGS.iter().for_each(|setting| line(&mut text, setting, &sys.join(setting)));
    text
}

/// Attributes, driver, queues and counters of every device.
fn devices(class: &Path) -> String {
    let mut text = String::new();
    for name in names(class) {
        let device = class.join(&name);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}");
        for attribute in DEVICE {
            line(&mut text, attribute, &device.join(attribute));
        }
        if let Ok(driver) = fs::read_link(device.join("device/driver")) {
            let _ = writeln!(text, "    driver {}", driver.file_name().unwrap_or_default().display());
        }
        let _ = writeln!(text, "    queues {}", names(&device.join("queues")).join(" "));
        for counter in names(&device.join("statistics")) {
            line(&mut text, &counter, &device.join("statistics").join(&counter));
        }
    }
    text
}

/// Limits and threads of the processes that run engines.
fn processes(proc: &Path) -> String {
    let mut text = String::new();
    let is_ours = |name: &&String| {
        name.bytes().all(|byte| byte.is_ascii_digit())
            && fs::read_to_string(proc.join(name).join("comm")).is_ok_and(|comm| comm.trim_end() == "fwlb")
    };
    for process in names(proc).iter().filter(is_ours) {
        for file in ["status", "limits", "cgroup"] {
            let content = fs::read_to_string(proc.join(process).join(file)).unwrap_or_default();
            let _ = writeln!(text, "== {process} {file}\n{content}");
        }
        let _ = writeln!(text, "== {process} threads");
        for thread in names(&proc.join(process).join("task")) {
            line(&mut text, &thread, &proc.join(process).join("task").join(&thread).join("stat"));
        }
    }
    text
}

fn line(text: &mut String, name: &str, path: &Path) {
    if let Ok(value) = fs::read_to_string(path) {
        let _ = writeln!(text, "    {name} {}", value.trim_end());
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
