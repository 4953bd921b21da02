//! The placement of programs and kernel work on cores. Numbers of two placements cannot be compared, so every row names
//! its own.
//!
//! The generator and both ends of a conversation run on core 0, the device under test on core 1. Placements differ in
//! where the kernel does the receive work for the device under test:
//!
//! | name | where | how |
//! | --- | --- | --- |
//! | `split` | core 0, in the sender's context | as virtual cables do by themselves |
//! | `thr` | core 1, a kernel thread beside the worker | NAPI by `gro on` (`tso off` at the peer), `threaded`, thread pinned |
//! | `rps` | core 1, in softirq, before any program | receive packet steering |
//!
//! `rps` starves a program on core 1 and is for kernel candidates alone, whose only work it is. Where two ends converse
//! (TCP, HTTP, round trips), the table says `ends core 0`: their receive work is steered to core 0 in every lane,
//! whether the ends are kernel sockets or [`crate::ends`]; fwlb uses `split`, the kernel's candidates and HAProxy use
//! `rps`.

use anyhow::{Context, Result};

use crate::ground::{self, Namespace, run};

/// The generator's core.
pub const GENERATOR_CORE: usize = 0;
/// The core of the device under test.
pub const DUT_CORE: usize = 1;
/// Niceness of the measured programs and kernel threads, so that other work on the machine disturbs them little.
pub const NICE: &str = "-10";

/// A placement, see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Receive work on the generator's core.
    Split,
    /// Receive work in a kernel thread on the core of the device under test.
    Thr,
    /// Receive work in softirq on the core of the device under test.
    Rps,
}

impl Placement {
    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Thr => "thr",
            Self::Rps => "rps",
        }
    }
}

/// Applies a placement to the receive work of these devices.
pub fn apply(placement: Placement, dut: &Namespace, devices: &[&str]) -> Result<()> {
    for device in devices {
        match placement {
            Placement::Split => {}
            Placement::Thr => thread(dut, device)?,
            Placement::Rps => steer(dut, device, DUT_CORE)?,
        }
    }
    Ok(())
}

/// Steers the receive work of a device to a core.
pub fn steer(namespace: &Namespace, device: &str, core: usize) -> Result<()> {
    namespace.write_sys(&format!("{device}/queues/rx-0/rps_cpus"), &format!("{:x}", 1u64 << core))
}

fn thread(dut: &Namespace, device: &str) -> Result<()> {
    dut.run("ethtool", &["-K", device, "gro", "on"])?;
    dut.write_sys(&format!("{device}/threaded"), "1")?;
    let mut found = Vec::new();
    ground::wait_until(2000, "the kernel makes a thread for the device", || {
        found = napi_threads(device)?;
        Ok(!found.is_empty())
    })?;
    for thread in found {
        run("taskset", &["-p", "-c", &DUT_CORE.to_string(), &thread])?;
        run("renice", &["-n", NICE, "-p", &thread])?;
    }
    Ok(())
}

/// The kernel threads of a device. They are named after it, and no other namespace has a device of the same name.
fn napi_threads(device: &str) -> Result<Vec<String>> {
    let prefix = format!("napi/{device}-");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("cannot list /proc")?.flatten() {
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with(&prefix) {
            found.extend(entry.file_name().into_string());
        }
    }
    Ok(found)
}

/// The time that a core spent on each kind of work since the machine started.
#[derive(Debug, Clone, Copy)]
pub struct CoreTime {
    busy: u64,
    all: u64,
}

impl CoreTime {
    /// Reads the times of a core.
    pub fn of(core: usize) -> Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let name = format!("cpu{core} ");
        let line = stat.lines().find_map(|line| line.strip_prefix(&name)).context("the core is not in /proc/stat")?;
        // user nice system idle iowait irq softirq steal (proc_stat(5)).
        let times: Vec<u64> = line.split_whitespace().take(8).filter_map(|word| word.parse().ok()).collect();
        let all = times.iter().sum();
        let idle: u64 = times.iter().skip(3).take(2).sum();
        Ok(Self { busy: all - idle, all })
    }

    /// The share of the time that it was busy since `before`.
    pub fn busy_since(&self, before: &Self) -> f64 {
        (self.busy - before.busy) as f64 / (self.all - before.all).max(1) as f64
    }
}

/// The times of both cores: that of the device under test, and that of the ends.
pub fn cores() -> Result<(CoreTime, CoreTime)> {
    Ok((CoreTime::of(DUT_CORE)?, CoreTime::of(GENERATOR_CORE)?))
}
