//! An engine without traffic sleeps: how often its threads wake up.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::services::farm::{Plan, farm};

/// How long the engine is observed.
const WATCHED: Duration = Duration::from_secs(5);
/// The most wake-ups per second of all threads: one of each worker and of the control thread, and as many for what is
/// due. Each takes some tens of microseconds; 100 of them would be a two-hundredth of a core.
const WAKE_UPS: u64 = 12;

/// The threads, each with its number of voluntary context switches (proc_pid_status(5)).
fn sleeps(pid: u32) -> Vec<(String, u64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let read = |path: std::path::PathBuf| {
        let status = fs::read_to_string(path.join("status")).ok()?;
        let value = |key: &str| status.lines().find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()));
        Some((value("Name:")?, value("voluntary_ctxt_switches:")?.parse().ok()?))
    };
    tasks.filter_map(|task| read(task.expect("can be listed").path())).collect()
}

#[test]
fn an_engine_that_has_nothing_to_do_sleeps() {
    farm(Plan { workers: 2, ..Plan::new(1, "") }, |farm| {
        // Hosts whose link came up send packets for a while.
        sleep(Duration::from_secs(4));
        let before = sleeps(farm.pid());
        sleep(WATCHED);
        let after = sleeps(farm.pid());

        let of = |all: &[(String, u64)], name: &str| {
            all.iter().filter(|(one, _)| one == name).map(|(_, count)| count).sum::<u64>()
        };
        for name in ["fwlb-worker-0", "fwlb-worker-1", "fwlb-control"] {
            assert!(of(&after, name) > of(&before, name), "{name} is alive: {before:?}, {after:?}");
        }
        let total = |all: &[(String, u64)]| all.iter().map(|(_, count)| count).sum::<u64>();
        let per_second = (total(&after) - total(&before)) / WATCHED.as_secs();
        assert!(per_second <= WAKE_UPS, "{per_second} wake-ups a second: {before:?}, {after:?}");
    });
}
