//! Sets where a packet worker runs, with which priority, and how exactly it sleeps. All of it concerns the calling
//! thread alone.

use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::{fs, io};

use rustix::process::setpriority_process;
use rustix::thread::{
    CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_getaffinity, sched_setaffinity, set_current_timer_slack,
};

/// The CPUs that the calling thread may run on, ascending.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Binds the calling thread to one CPU.
pub fn pin_to(cpu: usize) -> io::Result<()> {
    keep_to(&[cpu])
}

/// Binds the calling thread, and those that it will start, to these CPUs.
pub fn keep_to(cpus: &[usize]) -> io::Result<()> {
    if cpus.iter().any(|cpu| *cpu >= CpuSet::MAX_CPU) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    Ok(sched_setaffinity(None, &set)?)
}

/// Moves the calling thread into the network namespace of a process, if it is in another one; programs that it starts
/// are there too.
///
/// # Errors
/// There is no such process, or the caller may not enter its namespace.
pub fn enter_network_of(pid: u32) -> io::Result<()> {
    let (own, other) = ("/proc/thread-self/ns/net".to_owned(), format!("/proc/{pid}/ns/net"));
    let is_same = fs::read_link(&own).and_then(|own| Ok(own == fs::read_link(&other)?));
    // Who may not look at the other process may not enter its namespace either, and seldom has to.
    if is_same.unwrap_or(true) {
        return Ok(());
    }
    Ok(move_into_link_name_space(fs::File::open(other)?.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Sets the calling thread's timer slack to 1 ns, so that its sleeps do not end up to 50 µs late.
pub fn set_timer_slack() {
    // A refusal costs some microseconds of latency and nothing else.
    let _ = set_current_timer_slack(Some(NonZeroU64::MIN));
}

/// Gives the calling thread real-time priority (SCHED_FIFO at its lowest level, sched(7)), for a thread that has little
/// to do and must not be late. Threads that it starts are ordinary. Needs CAP_SYS_NICE.
pub fn set_realtime_priority() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the pointer is to a value that lives through the call; with 0 it is about the calling thread alone.
    // JUSTIFICATION: no safe form exists.
    let status = unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a thread of this process may have real-time priority, which is tried in a thread that ends at once.
pub fn may_set_realtime_priority() -> io::Result<()> {
    let tried = std::thread::Builder::new().name("fwlb-try".to_owned()).spawn(set_realtime_priority)?;
    tried.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended before it answered")))
}

/// Gives the calling thread priority over ordinary ones (nice -15), so that on a busy machine the engine misses neither
/// packets nor the answers to its own probes. Needs CAP_SYS_NICE.
pub fn raise_priority() -> io::Result<()> {
    // Linux changes the calling thread alone.
    Ok(setpriority_process(None, -15)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_first_concerns_the_calling_thread_alone() {
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // Field 19 is the nice value. The name in field 2 may contain spaces and ends with the last parenthesis
            // (proc_pid_stat(5)).
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
        };
        let before = nice();

        let first = std::thread::spawn(move || raise_priority().map(|()| nice())).join().unwrap();

        match first {
            Ok(first) => assert_eq!(first, -15),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EACCES), "only for want of CAP_SYS_NICE"),
        }
        assert_eq!(nice(), before);
    }

    #[test]
    fn going_at_once_concerns_the_calling_thread_alone_and_not_what_it_starts() {
        // Fields 40 and 41 are the real-time priority and the policy.
        let class = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().map(str::to_owned).collect();
            (fields[37].clone(), fields[38].clone())
        };
        let before = class();

        let first = std::thread::spawn(move || {
            set_realtime_priority().map(|()| (class(), std::thread::spawn(class).join().unwrap()))
        });

        match first.join().unwrap() {
            Ok((own, started)) => {
                assert_eq!(own, ("1".to_owned(), "1".to_owned()), "SCHED_FIFO");
                assert_eq!(started, ("0".to_owned(), "0".to_owned()), "SCHED_OTHER");
            }
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM), "only for want of CAP_SYS_NICE"),
        }
        assert_eq!(class(), before);
    }

    #[test]
    fn a_pinned_thread_may_run_on_its_cpu_alone() {
        let cpu = *allowed_cpus().unwrap().last().unwrap();

        let seen = std::thread::spawn(move || {
            pin_to(cpu).unwrap();
            set_timer_slack();
            allowed_cpus().unwrap()
        });

        assert_eq!(seen.join().unwrap(), [cpu]);
    }

    #[test]
    fn a_cpu_that_no_machine_has_is_refused() {
        assert!(pin_to(1 << 20).is_err());
        assert!(pin_to(1023).is_err(), "no test machine has 1024 CPUs");
    }
}
