//! An engine without traffic sleeps: how often its threads wake up.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::services::farm::{Plan, farm};

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(5);
/// Wake-ups of all threads in a second: one of each worker and of the control thread, and as much again for whatever is due. Each
/// takes some tens of microseconds; a two-hundredth of a core would be a hundred of them.
const WAKE_UPS: u64 = 12;

/// Threads with how often each went to sleep by itself: proc_pid_status(5).
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
        // Hosts whose link came up have something to say for a while.
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
