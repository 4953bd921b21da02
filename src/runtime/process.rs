//! Measures what the process uses of the machine, as proc(5) tells it.

use std::fs;

use crate::api::metrics::Process;

/// Clock ticks per second in /proc (USER_HZ), the same on all architectures of Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Measures the process; `None` if `/proc` cannot be read.
pub(super) fn measure() -> Option<Process> {
    let read = |path| fs::read_to_string(path).ok();
    let open_fds = fs::read_dir("/proc/self/fd").ok()?.count();
    let counted = parse(
        &read("/proc/self/stat")?,
        &read("/proc/self/status")?,
        &read("/proc/stat")?,
        &read("/proc/self/limits")?,
    )?;
    // Listing the directory takes a descriptor of its own.
    Some(Process { open_fds: open_fds.saturating_sub(1) as u64, ..counted })
}

/// Parses `/proc/PID/stat`, `/proc/PID/status`, `/proc/stat` and `/proc/PID/limits`.
fn parse(stat: &str, status: &str, machine: &str, limits: &str) -> Option<Process> {
    // The name in parentheses may contain anything, spaces and parentheses too. What follows it begins with field 3.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    let line = |text: &str, name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Process {
        cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
        start_seconds: line(machine, "btime ")? as f64 + ticks(22)? / TICKS_PER_SECOND,
        resident_bytes: line(status, "VmRSS:")? * 1024,
        virtual_bytes: line(status, "VmSize:")? * 1024,
        threads: line(status, "Threads:")?,
        max_fds: line(limits, "Max open files").unwrap_or(u64::MAX),
        open_fds: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        let stat =
            "42 (a) b)) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1000 10000000 500 18446744073709551615";
        let status = "Name:\ta) b)\nVmSize:\t    2000 kB\nVmRSS:\t     100 kB\nThreads:\t3\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";

        let process = parse(stat, status, "cpu  1 2\nbtime 1700000000\n", limits).unwrap();

        assert_eq!((process.cpu_seconds, process.start_seconds), (3.0, 1_700_000_010.0));
        assert_eq!((process.resident_bytes, process.virtual_bytes), (102_400, 2_048_000));
        assert_eq!((process.threads, process.max_fds), (3, 1024));
        assert_eq!(parse("", status, "", limits), None);
    }

    #[test]
    fn this_process_measures_itself() {
        let process = measure().expect("tests run where there is /proc");
        assert!(process.resident_bytes > 1 << 20 && process.virtual_bytes >= process.resident_bytes);
        assert!(process.open_fds >= 3 && process.threads >= 1 && process.start_seconds > 1.0e9);
    }
}
