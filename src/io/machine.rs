//! Reads how the machine treats frames before the engine sees them: CPUs, receive queues, interrupts, kernel
//! forwarding.
//!
//! It only collects facts of proc(5) and sysfs(5); [`crate::runtime`] judges them. What cannot be read is left out,
//! because a container or a service manager may hide any of it.

use std::fs;
use std::path::{Path, PathBuf};

use super::ethtool::{self, Offloads};
use super::{netdev, privileges, thread};
use crate::wire::Family;

/// How far devices below a device are followed, for example from a VLAN to a bond to its two cards.
const DEPTH_MAX: usize = 4;

/// What the machine says about how packets are carried.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machine {
    /// CPUs that this process may run on, ascending.
    pub cpus: Vec<usize>,
    /// The kernel gives no huge pages, not even on request (`never`).
    pub huge_pages_never: bool,
    /// This process may open devices, but its threads may not have real-time priority.
    pub lacks_realtime: bool,
    /// Packet workers of other processes.
    pub workers: Vec<PinnedThread>,
    /// Those of the requested devices that exist here.
    pub devices: Vec<Device>,
}

/// A thread and the CPUs that it is kept to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedThread {
    /// Process id.
    pub pid: u32,
    /// Name of the thread.
    pub name: String,
    /// CPUs that it may run on, ascending.
    pub cpus: Vec<usize>,
}

/// A network device of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// Name.
    pub name: String,
    /// The devices that receive its frames: itself, or those at the bottom of it.
    pub ports: Vec<Port>,
    /// Address families in which the kernel forwards packets that arrive on it.
    pub forwards: Vec<Family>,
    /// Large receive offload is on: the card merges segments, which cannot be undone.
    pub lro: bool,
    /// The device takes VLAN tags out of the frames.
    pub rx_vlan_offload: bool,
    /// Number of receive queues; 0 if not known.
    pub queues: u32,
}

/// A device at the bottom, which receives frames from the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Port {
    /// Name.
    pub name: String,
    /// Whether it is hardware and not a virtual device.
    pub is_card: bool,
    /// Receive packet steering (RPS, Documentation/networking/scaling.rst): for each receive queue the CPUs to which
    /// its frames are steered; no CPUs if they stay where they arrived.
    pub rps_cpus: Vec<Vec<usize>>,
    /// Its interrupts by number, each with the CPUs that serve it.
    pub interrupts: Vec<(u32, Vec<usize>)>,
    /// Kernel threads that receive for it (threaded NAPI).
    pub napi_threads: Vec<PinnedThread>,
}

/// Reads the facts of this machine and of those of `devices` that exist in the network namespace of the calling thread.
pub fn inspect<'a>(devices: impl IntoIterator<Item = &'a str>) -> Machine {
    let machine = inspect_in(Path::new("/"), thread::allowed_cpus().unwrap_or_default(), devices);
    // A user that may not run an engine says nothing about one that may.
    let refuses_real_time = privileges::may_open_devices(false).is_ok() && thread::may_set_realtime_priority().is_err();
    Machine { lacks_realtime: refuses_real_time, ..machine }
}

fn inspect_in<'a>(root: &Path, cpus: Vec<usize>, devices: impl IntoIterator<Item = &'a str>) -> Machine {
    let threads = threads(&root.join("proc"));
    let devices = devices.into_iter().filter_map(netdev::find).map(|found| device(root, &found, &threads)).collect();
    let huge_pages = read(&root.join("sys/kernel/mm/transparent_hugepage/enabled"));
    let is_worker = |thread: &PinnedThread| thread.name.starts_with("fwlb-worker-") && thread.pid != std::process::id();
    Machine {
        cpus,
        lacks_realtime: false,
        huge_pages_never: huge_pages.is_some_and(|words| words.contains("[never]")),
        workers: threads.into_iter().filter(is_worker).collect(),
        devices,
    }
}

fn device(root: &Path, found: &netdev::Device, threads: &[PinnedThread]) -> Device {
    let forwarding = |family: &str, name: &str, key: &str| {
        read(&root.join("proc/sys/net").join(family).join("conf").join(name).join(key)).is_some_and(|word| word == "1")
    };
    let mut forwards = Vec::new();
    if forwarding("ipv4", &found.name, "forwarding") {
        forwards.push(Family::V4);
    }
    // The kernel consults `all` for whether to forward IPv6; newer kernels consult the device too.
    if forwarding("ipv6", "all", "forwarding") || forwarding("ipv6", &found.name, "force_forwarding") {
        forwards.push(Family::V6);
    }
    let mut ports = Vec::new();
    let net = root.join("sys/class/net");
    if is_here(&net.join(&found.name), found) {
        receiving(&net, &found.name, DEPTH_MAX, &mut ports);
    }
    let ports = ports.iter().map(|name| port(root, name, threads, is_software(name))).collect();
    let Offloads { lro, gro: _, rx_vlan } = ethtool::offloads(&found.name).unwrap_or_default();
    let queues = ethtool::queues(&found.name).map_or(0, |queues| queues.receive);
    Device { name: found.name.clone(), ports, forwards, lro, rx_vlan_offload: rx_vlan, queues }
}

/// Whether sysfs shows this device. It shows the network namespace in which it was mounted, which may be another one.
fn is_here(directory: &Path, found: &netdev::Device) -> bool {
    let same = |file: &str, value: String| read(&directory.join(file)).is_some_and(|word| word == value);
    same("ifindex", found.index.to_string()) && same("address", found.mac.to_string())
}

/// Whether the device of that name in the calling thread's namespace is virtual, as one end of a veth pair. Another
/// namespace may have a card of the same name, whose interrupts are not this device's.
fn is_software(name: &str) -> bool {
    let kind = netdev::find(name).and_then(|found| netdev::kind(found.index).ok().flatten());
    kind.is_some()
}

/// Appends the devices at the bottom of `name` to `found`.
fn receiving(net: &Path, name: &str, depth: usize, found: &mut Vec<String>) {
    let lower: Vec<_> =
        names(&net.join(name)).iter().filter_map(|one| one.strip_prefix("lower_").map(str::to_owned)).collect();
    if lower.is_empty() || depth == 0 {
        if !found.iter().any(|known| known == name) {
            found.push(name.to_owned());
        }
        return;
    }
    lower.iter().for_each(|one| receiving(net, one, depth - 1, found));
}

fn port(root: &Path, name: &str, threads: &[PinnedThread], is_software: bool) -> Port {
    let directory = root.join("sys/class/net").join(name);
    let mut queues: Vec<(usize, Vec<usize>)> = names(&directory.join("queues"))
        .iter()
        .filter_map(|queue| {
            let number = queue.strip_prefix("rx-")?.parse().ok()?;
            Some((number, mask(&read(&directory.join("queues").join(queue).join("rps_cpus"))?)?))
        })
        .collect();
    queues.sort_unstable();
    let is_threaded = read(&directory.join("threaded")).is_some_and(|word| word != "0");
    let prefix = format!("napi/{name}-");
    let receives = |thread: &&PinnedThread| is_threaded && thread.name.starts_with(&prefix);
    Port {
        name: name.to_owned(),
        is_card: !is_software && directory.join("device").exists(),
        rps_cpus: queues.into_iter().map(|(_, cpus)| cpus).collect(),
        interrupts: if is_software { Vec::new() } else { interrupts(root, &directory.join("device")) },
        napi_threads: threads.iter().filter(receives).cloned().collect(),
    }
}

/// The message-signalled interrupts (MSI) of a card that belong to its queues.
fn interrupts(root: &Path, card: &Path) -> Vec<(u32, Vec<usize>)> {
    // A virtio card has the interrupts of its PCI function.
    let numbers = [card.join("msi_irqs"), card.join("../msi_irqs")];
    let mut numbers: Vec<u32> = numbers
        .iter()
        .map(|place| names(place))
        .find(|found| !found.is_empty())
        .unwrap_or_default()
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    numbers.sort_unstable();
    let one = |number: u32| {
        let directory = root.join("proc/irq").join(number.to_string());
        // Interrupts for configuration changes do not belong to a queue.
        let is_about_itself = |name: &String| ["config", "async", "misc"].iter().any(|word| name.contains(word));
        if names(&directory).iter().any(is_about_itself) {
            return None;
        }
        let cpus = ["effective_affinity_list", "smp_affinity_list"]
            .iter()
            .find_map(|file| list(&read(&directory.join(file))?).filter(|cpus| !cpus.is_empty()))?;
        Some((number, cpus))
    };
    numbers.into_iter().filter_map(one).collect()
}

/// The packet workers of all processes, and the kernel threads that receive for a device.
fn threads(proc: &Path) -> Vec<PinnedThread> {
    let mut found = Vec::new();
    for (pid, process) in names(proc).iter().filter_map(|name| Some((name.parse::<u32>().ok()?, proc.join(name)))) {
        // A process has the name of its first thread, which is "fwlb" if it has workers.
        let directories: Vec<PathBuf> = match read(&process.join("comm")) {
            Some(name) if name.starts_with("napi/") => vec![process],
            Some(name) if name.starts_with("fwlb") => {
                names(&process.join("task")).iter().map(|thread| process.join("task").join(thread)).collect()
            }
            Some(_) | None => continue,
        };
        for directory in directories {
            let Some(name) = read(&directory.join("comm")) else { continue };
            if !name.starts_with("napi/") && !name.starts_with("fwlb-worker-") {
                continue;
            }
            let status = read(&directory.join("status")).unwrap_or_default();
            let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            if let Some(cpus) = allowed.and_then(list) {
                found.push(PinnedThread { pid, name, cpus });
            }
        }
    }
    found.sort_by(|a, b| (a.pid, &a.name).cmp(&(b.pid, &b.name)));
    found
}

/// The names in a directory, sorted; none if it cannot be read.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Parses a list of CPUs such as `0-2,8`.
fn list(text: &str) -> Option<Vec<usize>> {
    let text = text.trim();
    let parts = text.split(',').filter(|part| !part.is_empty());
    let ranges = parts.map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    Some(ranges.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Parses a mask of CPUs: groups of 32 bits in hexadecimal, the highest first, separated by commas.
fn mask(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for (group, digits) in text.trim().rsplit(',').enumerate() {
        let bits = u32::from_str_radix(digits, 16).ok()?;
        cpus.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| group * 32 + bit));
    }
    Some(cpus)
}

#[cfg(test)]
mod tests;
