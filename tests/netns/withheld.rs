//! Processor time that programs wanted and did not get. A promise in milliseconds can be kept only in the time that the
//! machine gives: a test that judges times allows for what was withheld, up to as much again as it promises, and for
//! nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// How long each thread of some processes had waited for a processor, when it was looked at.
pub struct Withheld {
    processes: Vec<u32>,
    before: BTreeMap<u32, Duration>,
}

impl Withheld {
    /// Counts from here on.
    pub fn from(processes: impl IntoIterator<Item = u32>) -> Self {
        let processes: Vec<_> = processes.into_iter().collect();
        let before = waited(&processes);
        Self { processes, before }
    }

    /// How long their threads have waited since, all together: as if each had waited for the one before it.
    pub fn so_far(&self) -> Duration {
        let since = |(thread, waited): (u32, Duration)| {
            waited.saturating_sub(self.before.get(&thread).copied().unwrap_or_default())
        };
        waited(&self.processes).into_iter().map(since).sum()
    }
}

/// By thread: the time on a run queue (the second number of `/proc/PID/task/TID/schedstat`;
/// Documentation/scheduler/sched-stats.rst of the kernel). A process that has ended waits for nothing.
fn waited(processes: &[u32]) -> BTreeMap<u32, Duration> {
    let tasks = processes.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok()).flatten().flatten();
    let read = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let nanos = text.split_whitespace().nth(1)?.parse().ok()?;
        Some((task.file_name().to_str()?.parse().ok()?, Duration::from_nanos(nanos)))
    };
    tasks.filter_map(read).collect()
}
