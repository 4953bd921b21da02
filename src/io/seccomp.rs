//! The seccomp filter of a running engine: the list of system calls that it may make.
//!
//! Any other call fails with ENOSYS, as on a kernel that does not have it: the C library then uses another call where
//! it knows one, and a call that nobody foresaw becomes an error in the log and does not end the traffic through the
//! firewalls. No program can be executed, no memory made executable, and sockets are limited to the families that the
//! engine uses.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

const FILE_CALLS: &[libc::c_long] = &[
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
];

const SOCKET_CALLS: &[libc::c_long] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
];

const WAIT_CALLS: &[libc::c_long] = &[
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
];

const PROCESS_CALLS: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mlock,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setscheduler,
    libc::SYS_set_robust_list,
    libc::SYS_setpriority,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_uname,
];

/// System calls that newer architectures have only in a newer form.
#[cfg(target_arch = "x86_64")]
const OLD_FORMS: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_epoll_wait,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_FORMS: &[libc::c_long] = &[];

const SOCKET_FAMILIES: [libc::c_int; 6] =
    [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_XDP];

/// Why the filter was not installed.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// There is no filter for this architecture, or it could not be compiled.
    #[error("no filter of system calls can be made here: {0}")]
    Make(String),
    /// The kernel refused the filter.
    #[error("the kernel takes no filter of system calls: {0}")]
    Refused(String),
}

/// Installs the filter for every thread of the process, for good; calls that load an AF_XDP program are allowed only
/// with `xdp`. Also sets `no_new_privs`.
pub fn install_filter(xdp: bool) -> Result<(), FilterError> {
    let program = running(xdp).map_err(|error| FilterError::Make(error.to_string()))?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| FilterError::Refused(error.to_string()))
}

fn running(xdp: bool) -> Result<BpfProgram, Box<dyn std::error::Error>> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let all = [FILE_CALLS, SOCKET_CALLS, WAIT_CALLS, PROCESS_CALLS, OLD_FORMS].concat();
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = all.into_iter().map(|call| (call, Vec::new())).collect();
    let one_of = |rules: &mut dyn Iterator<Item = libc::c_int>| -> Result<Vec<_>, _> {
        rules.map(|value| rule(0, SeccompCmpOp::Eq, value)).collect()
    };
    rules.insert(libc::SYS_socket, one_of(&mut SOCKET_FAMILIES.into_iter())?);
    if xdp {
        rules.insert(libc::SYS_bpf, one_of(&mut super::af_xdp::bpf::BPF_COMMANDS.into_iter())?);
    }
    let not_executable = || rule(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0);
    rules.insert(libc::SYS_mmap, vec![not_executable()?]);
    rules.insert(libc::SYS_mprotect, vec![not_executable()?]);
    let refuse = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    Ok(SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()?)
}

fn rule(argument: u8, operator: SeccompCmpOp, value: libc::c_int) -> Result<SeccompRule, seccompiler::BackendError> {
    let value = u64::from(value.cast_unsigned());
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?])
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{TcpListener, UdpSocket};
    use std::process::Command;

    use super::*;
    use crate::io::frame_io::fixture::{SocketKind, frame, never, pair, plain};
    use crate::io::privileges::{ThreadPrivileges, limit_thread};
    use crate::io::testing::namespace;

    /// Runs `act` under the filter in a thread of its own, because the test process needs other calls.
    fn filtered<R: Send + 'static>(act: impl FnOnce() -> R + Send + 'static) -> R {
        filtered_with(false, act)
    }

    fn filtered_with<R: Send + 'static>(xdp: bool, act: impl FnOnce() -> R + Send + 'static) -> R {
        let thread = std::thread::spawn(move || {
            crate::io::privileges::set_no_new_privs().unwrap();
            seccompiler::apply_filter(&running(xdp).unwrap()).unwrap();
            act()
        });
        thread.join().unwrap()
    }

    #[test]
    fn no_program_can_be_executed_and_no_memory_made_executable() {
        let executed = filtered(|| Command::new("/bin/true").status().map_err(|error| error.raw_os_error()));
        assert_eq!(executed.unwrap_err(), Some(libc::ENOSYS));

        let mapped = filtered(|| {
            let protection = libc::PROT_READ | libc::PROT_EXEC;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: asks for new memory anywhere. JUSTIFICATION: its refusal is under test.
            let mapped = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
            mapped as usize
        });
        assert_eq!(mapped, libc::MAP_FAILED as usize);
    }

    #[test]
    fn sockets_are_of_the_families_that_an_engine_uses() {
        let opened = |family| {
            // SAFETY: takes integers; the descriptor ends with the thread's process. JUSTIFICATION: std has no such
            // sockets.
            filtered(move || unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) } >= 0)
        };
        assert!(opened(libc::AF_INET6) && opened(libc::AF_UNIX));
        // SAFETY: as above. JUSTIFICATION: as above.
        let socket = || unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        let refused = move || (socket() < 0).then(|| std::io::Error::last_os_error().raw_os_error()).flatten();
        assert_ne!(filtered(refused), Some(libc::ENOSYS));
        assert!(!opened(libc::AF_BLUETOOTH) && !opened(libc::AF_VSOCK));
    }

    #[test]
    fn programs_for_devices_are_loaded_by_an_engine_that_was_told_to_and_by_no_other() {
        let attempt = |command: libc::c_int| {
            // SAFETY: the kernel refuses attributes of no bytes. JUSTIFICATION: the filter's answer is under test.
            let status = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::null::<u8>(), 0) };
            (status < 0).then(|| std::io::Error::last_os_error().raw_os_error()).flatten()
        };
        let [create, pin] = [0, 6];
        assert_eq!(filtered_with(false, move || attempt(create)), Some(libc::ENOSYS));
        assert_eq!(filtered_with(true, move || attempt(pin)), Some(libc::ENOSYS));
        assert_ne!(filtered_with(true, move || attempt(create)), Some(libc::ENOSYS));
    }

    #[test]
    fn a_device_that_comes_back_is_opened_by_a_thread_that_has_given_up_the_rest() {
        if !namespace() {
            return;
        }
        pair("e0", "p0", 1500);
        filtered(|| {
            limit_thread(ThreadPrivileges::Devices { xdp: false }).unwrap();
            let way = SocketKind::XdpSend.open("e0");
            assert_eq!(way.sender.send([plain(&frame(1, 60))], never), 1);
        });
    }

    #[test]
    fn what_an_engine_does_is_allowed() {
        filtered(|| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a");
            fs::write(&path, "text").unwrap();
            fs::rename(&path, directory.path().join("b")).unwrap();
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
            drop(directory);
            TcpListener::bind("127.0.0.1:0").unwrap();
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", "127.0.0.1:9").unwrap();
            std::thread::spawn(|| std::thread::sleep(crate::time::Duration::from_millis(1))).join().unwrap();
            let panicked = std::thread::spawn(|| panic!("a panic is told, with its backtrace")).join();
            assert!(panicked.is_err());
        });
    }
}
