//! Judges where packet workers run, and what on this machine costs them speed or correctness, with what to do about it.
//!
//! A worker empties its rings as fast as its CPU allows, but the kernel's work on the same CPU takes precedence: under
//! load, receive work that is steered there starves the worker until frames only arrive and none leaves. The judgement
//! is a function of facts that [`crate::io::machine`] has read; it changes nothing and refuses nothing.

use std::collections::BTreeSet;
use std::fmt;

use crate::config::{Config, Io, PathCheckKind, Service, ServiceCheckKind};
use crate::io::machine::{Device, Machine, Port};
use crate::wire::Family;

/// A warning about the machine on which an engine runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What is wrong, and what it costs.
    pub what: String,
    /// What to do about it.
    pub help: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.help)
    }
}

/// The packet workers of one engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// The CPU of each worker.
    pub cpus: Vec<usize>,
    /// CPUs of the workers of earlier engines in the same process.
    pub placed: Vec<usize>,
    /// Whether the workers spin instead of sleeping.
    pub busy_poll: bool,
    /// If the engine receives by AF_XDP: its devices that have links on VLANs.
    pub xdp: Option<Vec<String>>,
    /// Whether the engine probes firewalls or checks servers, whose state depends on frames that come in.
    pub has_checks: bool,
}

impl Workers {
    /// The workers for `config` in a process that may use `cpus`, after `placed` workers of earlier engines.
    pub fn of(config: &Config, cpus: &[usize], placed: usize) -> Self {
        let count = worker_count(config, cpus.len());
        let mut places = places(cpus);
        let placed = places.by_ref().take(placed).collect();
        let tagged = config.links.iter().filter(|link| link.vlan.is_some());
        let tagged = tagged.map(|link| config.devices[link.device.index()].clone());
        let xdp = (config.engine.io == Io::AfXdp).then(|| tagged.collect());
        let is_checked = |service: &Service| service.check.kind != ServiceCheckKind::None;
        let judges = config.groups.iter().any(|group| group.check.kind != PathCheckKind::None)
            || config.services.iter().any(is_checked);
        Self { cpus: places.take(count).collect(), placed, busy_poll: config.engine.busy_poll, xdp, has_checks: judges }
    }

    fn set(&self) -> BTreeSet<usize> {
        self.cpus.iter().copied().collect()
    }
}

/// The number of packet workers of an engine, in a process that may use `cpus` CPUs: at least one.
pub(super) fn worker_count(config: &Config, cpus: usize) -> usize {
    config.engine.workers.map_or(cpus, usize::from).max(1)
}

/// CPUs in the order in which workers get them: from the last one down, because the first one serves most interrupts.
pub(super) fn places(cpus: &[usize]) -> impl Iterator<Item = usize> {
    cpus.iter().rev().cycle().copied()
}

/// The CPUs that no packet worker of the process has, of which there are `workers` in all. They are for threads with
/// real-time priority: a worker that shares its CPU with one of them forwards nothing while that runs. Empty if the
/// workers have all of them.
pub(super) fn beside(cpus: &[usize], workers: usize) -> Vec<usize> {
    let taken: BTreeSet<_> = places(cpus).take(workers).collect();
    cpus.iter().copied().filter(|cpu| !taken.contains(cpu)).collect()
}

/// The warnings about `machine`, the most harmful first.
pub fn warnings(workers: &Workers, machine: &Machine) -> Vec<Warning> {
    let mut found = Vec::new();
    for device in &machine.devices {
        found.extend(forwarding(device));
        found.extend(merging(device));
        found.extend(queues_of_xdp(device, workers));
        found.extend(untagging(device, workers));
    }
    found.extend(crowding(workers, machine));
    found.extend(verdicts(workers));
    found.extend(priority(machine));
    // Two devices may receive by the same port.
    let mut ports: Vec<&Port> = Vec::new();
    for port in machine.devices.iter().flat_map(|device| &device.ports) {
        if !ports.iter().any(|known| known.name == port.name) {
            ports.push(port);
        }
    }
    for port in &ports {
        found.extend(steering(port, workers));
        found.extend(kernel_threads(port, workers, machine));
        found.extend(queues(port, workers));
    }
    found.extend(interrupts(&ports, workers, machine));
    if machine.huge_pages_never {
        found.push(Warning {
            what: "huge pages are off (transparent_hugepage is \"never\"): a lookup among many sessions takes up to half as \
                   long again"
                .to_owned(),
            help: "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled".to_owned(),
        });
    }
    found
}

/// The kernel forwards packets of the device, so that each would leave twice if the kernel saw it too.
fn forwarding(device: &Device) -> Option<Warning> {
    if device.forwards.is_empty() {
        return None;
    }
    let name = &device.name;
    let keys = device.forwards.iter().map(|family| match family {
        Family::V4 => format!("net.ipv4.conf.{name}.forwarding=0"),
        Family::V6 => "net.ipv6.conf.all.forwarding=0".to_owned(),
    });
    let families = device.forwards.iter().map(|family| match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    });
    let families: Vec<_> = families.collect();
    Some(Warning {
        what: format!(
            "the kernel forwards {} on {name} too: only the engine's packet filter (table netdev fwlb_…) keeps it from \
             sending every packet a second time",
            families.join(" and ")
        ),
        help: format!("sysctl -w {}", keys.collect::<Vec<_>>().join(" ")),
    })
}

fn merging(device: &Device) -> Option<Warning> {
    let name = &device.name;
    device.lro.then(|| Warning {
        what: format!("{name} merges received segments for good (large receive offload): what the engine forwards is not what came, and may not fit"),
        help: format!("ethtool -K {name} lro off (generic receive offload is welcome)"),
    })
}

/// With AF_XDP, probes and answers to checks wait among all other frames, because only packet sockets can sort them
/// out.
fn verdicts(workers: &Workers) -> Option<Warning> {
    (workers.xdp.is_some() && workers.has_checks).then(|| Warning {
        what: "with io = \"af-xdp\" probes and answers to checks have no way of their own: under a flood that fills the queues of \
               a card they are lost with it, and what is well may be taken for dead"
            .to_owned(),
        help: "use io = \"af-packet\" where floods may come, or have the card steer probes and answers to a queue of their own \
               (ethtool -N)"
            .to_owned(),
    })
}

/// The threads that decide which firewalls and servers are up have no priority over other threads.
fn priority(machine: &Machine) -> Option<Warning> {
    machine.lacks_realtime.then(|| Warning {
        what: "no thread may run at once when there is something to do (SCHED_FIFO is refused): while the machine is busy, healthy \
               firewalls and servers may be taken for dead"
            .to_owned(),
        help: "run as root or with CAP_SYS_NICE (AmbientCapabilities= in the unit), where real time is allowed: a container or \
               control group may forbid it (cpu.rt_runtime_us)"
            .to_owned(),
    })
}

/// The device has fewer queues than the engine has workers; a queue serves one AF_XDP socket.
fn queues_of_xdp(device: &Device, workers: &Workers) -> Option<Warning> {
    let (name, queues, count) = (&device.name, device.queues as usize, workers.cpus.len());
    (workers.xdp.is_some() && queues > 0 && queues < count).then(|| Warning {
        what: format!(
            "{name} has {queues} receive queue{} for {count} packet workers: with io = \"af-xdp\" {} of them receive nothing \
             from it",
            if queues == 1 { "" } else { "s" },
            count - queues
        ),
        help: format!(
            "ethtool -L {name} combined {count}, if it has more (ethtool -l; a veth counts rx and tx), or set \
             `workers = {queues}` in [engine]"
        ),
    })
}

/// The device takes out VLAN tags, which AF_XDP does not hand over.
fn untagging(device: &Device, workers: &Workers) -> Option<Warning> {
    let name = &device.name;
    let is_tagged = workers.xdp.as_ref().is_some_and(|tagged| tagged.contains(name));
    (is_tagged && device.rx_vlan_offload).then(|| Warning {
        what: format!("{name} takes VLAN tags out of the frames: with io = \"af-xdp\" the engine does not start on it"),
        help: format!("ethtool -K {name} rxvlan off"),
    })
}

/// Several workers share a CPU.
fn crowding(workers: &Workers, machine: &Machine) -> Vec<Warning> {
    let mut found = Vec::new();
    let (count, own) = (workers.cpus.len(), workers.set());
    let all = count + workers.placed.len();
    if all > machine.cpus.len() {
        let engines = if workers.placed.is_empty() { "" } else { " of this and the engines before it" };
        found.push(Warning {
            what: format!("{all} packet workers{engines} share {}: they wait for each other", cpus(&machine.cpus)),
            help: format!("set `workers` in [engine] so that they are {} at most", machine.cpus.len()),
        });
    } else if workers.busy_poll && all == machine.cpus.len() {
        found.push(Warning {
            what: "with `busy-poll` the packet workers leave no CPU to probes and requests".to_owned(),
            help: format!("set `workers = {}` in [engine], or `busy-poll = false`", count.saturating_sub(1).max(1)),
        });
    }
    // The scheduler moves a worker that is not bound to a CPU out of the way.
    let others = machine.workers.iter().filter(|other| other.cpus.len() == 1 && own.contains(&other.cpus[0]));
    let mut others: Vec<_> = others.map(|other| (other.cpus[0], other.pid)).collect();
    others.sort_unstable();
    others.dedup();
    if let Some((first, pid)) = others.first() {
        found.push(Warning {
            what: format!("a packet worker of another process (pid {pid}) is on CPU {first} as well: they wait for each other"),
            help: "run both engines in one process (fwlb run FILE FILE), or keep each to CPUs of its own (CPUAffinity= in its \
                   unit, or taskset)"
                .to_owned(),
        });
    }
    found
}

/// Received frames are steered to the CPU of a worker (RPS).
fn steering(port: &Port, workers: &Workers) -> Option<Warning> {
    let own = workers.set();
    let hit = |steered: &Vec<usize>| steered.iter().any(|cpu| own.contains(cpu));
    let queues: Vec<_> = port.rps_cpus.iter().enumerate().filter(|(_, steered)| hit(steered)).collect();
    let (first, steered) = queues.first()?;
    let onto: BTreeSet<usize> =
        queues.iter().flat_map(|(_, steered)| *steered).filter(|cpu| own.contains(cpu)).copied().collect();
    let rest: Vec<usize> = steered.iter().filter(|cpu| !own.contains(cpu)).copied().collect();
    let name = &port.name;
    let more =
        if queues.len() > 1 { format!(", and for the other {} queues", queues.len() - 1) } else { String::new() };
    Some(Warning {
        what: format!(
            "received frames of {name} are steered onto {} (rps_cpus), where packet workers run: under load they starve",
            cpus(&onto.into_iter().collect::<Vec<_>>())
        ),
        help: format!("echo {} > /sys/class/net/{name}/queues/rx-{first}/rps_cpus{more}", mask(&rest)),
    })
}

/// Kernel threads that receive frames may run on the workers' CPUs only.
fn kernel_threads(port: &Port, workers: &Workers, machine: &Machine) -> Option<Warning> {
    let own = workers.set();
    let in_the_way = |cpus: &[usize]| !cpus.is_empty() && cpus.iter().all(|cpu| own.contains(cpu));
    let thread = port.napi_threads.iter().find(|thread| in_the_way(&thread.cpus))?;
    let free = free(workers, machine);
    let name = &port.name;
    Some(Warning {
        what: format!(
            "the kernel thread that receives for {name} ({}, pid {}) may run on {} only, where packet workers run: they take \
             the CPU from each other",
            thread.name,
            thread.pid,
            cpus(&thread.cpus)
        ),
        help: if free.is_empty() { leave_one(workers) } else { format!("taskset -pc {} {}", list(&free), thread.pid) },
    })
}

/// All frames of a card pass through one CPU.
fn queues(port: &Port, workers: &Workers) -> Option<Warning> {
    let [steered] = &port.rps_cpus[..] else { return None };
    let count = workers.cpus.len();
    (port.is_card && count > 1 && steered.is_empty()).then(|| Warning {
        what: format!(
            "{} has one receive queue for {count} packet workers: one CPU takes in the frames of all of them",
            port.name
        ),
        help: format!("ethtool -L {} combined {count}, if the card has more (ethtool -l)", port.name),
    })
}

/// The interrupts of cards are served by the workers' CPUs only.
fn interrupts(ports: &[&Port], workers: &Workers, machine: &Machine) -> Option<Warning> {
    let own = workers.set();
    let hit = |cpus: &[usize]| cpus.iter().all(|cpu| own.contains(cpu));
    let mut names = Vec::new();
    let mut numbers = Vec::new();
    for port in ports {
        let before = numbers.len();
        numbers.extend(port.interrupts.iter().filter(|(_, cpus)| hit(cpus)).map(|(number, _)| number.to_string()));
        if numbers.len() > before {
            names.push(port.name.as_str());
        }
    }
    // With a single CPU there is no other to serve interrupts.
    if names.is_empty() || machine.cpus.len() < 2 {
        return None;
    }
    let free = free(workers, machine);
    Some(Warning {
        what: format!(
            "interrupts of {} ({}) are served by CPUs of packet workers: under load the workers starve",
            names.join(", "),
            numbers.join(", ")
        ),
        help: if free.is_empty() {
            leave_one(workers)
        } else {
            format!("give them to {}: echo {} > /proc/irq/NUMBER/smp_affinity_list for each", cpus(&free), list(&free))
        },
    })
}

/// CPUs without a worker.
fn free(workers: &Workers, machine: &Machine) -> Vec<usize> {
    let taken: BTreeSet<_> = workers.cpus.iter().chain(&workers.placed).collect();
    machine.cpus.iter().filter(|cpu| !taken.contains(cpu)).copied().collect()
}

fn leave_one(workers: &Workers) -> String {
    match workers.cpus.len() {
        0 | 1 => "this takes a machine with one more CPU".to_owned(),
        count => format!("set `workers = {}` in [engine], and give the CPU that is left to them", count - 1),
    }
}

/// Formats CPUs as `CPU 3` or `CPUs 0-2,5`.
fn cpus(cpus: &[usize]) -> String {
    format!("CPU{} {}", if cpus.len() == 1 { "" } else { "s" }, list(cpus))
}

/// Formats ascending numbers as `0-2,5`.
fn list(cpus: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            Some(_) | None => ranges.push((*cpu, *cpu)),
        }
    }
    let show =
        |(first, last): (usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.into_iter().map(show).collect::<Vec<_>>().join(",")
}

/// Formats a set of CPUs as the kernel does: groups of 32 bits in hexadecimal, the highest first, separated by commas.
fn mask(cpus: &[usize]) -> String {
    let groups = cpus.iter().max().map_or(0, |highest| highest / 32);
    let group =
        |number: usize| cpus.iter().filter(|cpu| **cpu / 32 == number).fold(0u32, |bits, cpu| bits | 1 << (cpu % 32));
    let rest = (0..groups).rev().map(|number| format!(",{:08x}", group(number)));
    std::iter::once(format!("{:x}", group(groups))).chain(rest).collect()
}

#[cfg(test)]
mod tests;
