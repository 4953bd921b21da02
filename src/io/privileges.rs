//! Who the process is, and what its threads may do. Capabilities belong to threads (capabilities(7)): each gives up its own. The
//! control thread alone keeps what opening a device takes; where it has not got that, a process forwards on, and a reload that
//! needs a new device is refused with the reason.

use std::{fmt, io};

use caps::{CapSet, Capability, CapsHashSet};

use super::user::User;

/// What opening a device takes: raw sockets on it, and keeping the kernel's stack off it; for AF_XDP loading a program too.
fn needed(xdp: bool) -> CapsHashSet {
    let bpf = xdp.then_some(Capability::CAP_BPF);
    [Capability::CAP_NET_RAW, Capability::CAP_NET_ADMIN].into_iter().chain(bpf).collect()
}

/// What opening devices goes on with: also CAP_IPC_LOCK, as the frames of AF_XDP are locked memory, those that are only sent by
/// it too. Whoever has it not has a limit instead (RLIMIT_MEMLOCK), which a service manager may have lifted.
fn useful(xdp: bool) -> CapsHashSet {
    needed(xdp).into_iter().chain([Capability::CAP_IPC_LOCK]).collect()
}

/// What a thread goes on to do that an ordinary user may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Nothing.
    None,
    /// Opens devices that come back, and keeps the kernel's stack off them: CAP_NET_RAW for packet sockets, CAP_NET_ADMIN for
    /// the filter and for large socket buffers, CAP_IPC_LOCK for the memory of AF_XDP; where that receives CAP_BPF for its
    /// program.
    Devices {
        /// By AF_XDP.
        xdp: bool,
    },
    /// What starting takes besides: CAP_SYS_NICE, to let a thread run first.
    Starting {
        /// Devices are opened by AF_XDP.
        xdp: bool,
    },
}

impl Duty {
    fn capabilities(self) -> CapsHashSet {
        match self {
            Self::None => CapsHashSet::new(),
            Self::Devices { xdp } => useful(xdp),
            Self::Starting { xdp } => {
                let mut capabilities = useful(xdp);
                capabilities.insert(Capability::CAP_SYS_NICE);
                capabilities
            }
        }
    }
}

/// Makes the process that of another user. The calling thread keeps what starting takes, every other thread nothing. To be
/// called by root before the threads start that are to do more.
pub fn become_user(user: User, xdp: bool) -> io::Result<()> {
    caps::clear(None, CapSet::Bounding).map_err(refused)?;
    // SAFETY: each takes integers, and `setgroups` an empty list of which it reads nothing. glibc changes all threads at once.
    // JUSTIFICATION: the standard library changes the user of a child only.
    unsafe {
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(user.gid, user.gid, user.gid))?;
        check(libc::setresuid(user.uid, user.uid, user.uid))?;
    }
    // What was permitted still is, and nothing is in force.
    caps::set(None, CapSet::Effective, &Duty::Starting { xdp }.capabilities()).map_err(refused)
}

/// Gives up, for the calling thread and those that it starts, every capability that its duty does not take; what it has not it
/// does not get.
pub fn limit_thread(duty: Duty) -> io::Result<()> {
    let held = caps::read(None, CapSet::Permitted).map_err(refused)?;
    let kept: CapsHashSet = held.intersection(&duty.capabilities()).copied().collect();
    // Whoever may not change the bounding set has one from the service manager.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(refused)? {
        caps::clear(None, CapSet::Bounding).map_err(refused)?;
    }
    caps::clear(None, CapSet::Ambient).map_err(refused)?;
    caps::clear(None, CapSet::Inheritable).map_err(refused)?;
    caps::set(None, CapSet::Effective, &kept).map_err(refused)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(refused)
}

/// No program that this thread or its children execute gains anything by its set-user-id bit or its capabilities.
pub fn gain_nothing() -> io::Result<()> {
    // SAFETY: takes integers and touches no memory. JUSTIFICATION: no safe form exists.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

fn check(status: libc::c_int) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn refused(error: caps::errors::CapsError) -> io::Error {
    io::Error::other(error.to_string())
}

/// What the calling thread lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotPrivileged(Vec<Capability>);

impl fmt::Display for NotPrivileged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "the engine has no {} any more, which opening a device takes", names.join(" and "))
    }
}

impl std::error::Error for NotPrivileged {}

/// Whether the calling thread may open a device, by AF_XDP or not.
pub fn may_open_devices(xdp: bool) -> Result<(), NotPrivileged> {
    let has = |capability: &Capability| caps::has_cap(None, CapSet::Effective, *capability).unwrap_or(false);
    let mut missing: Vec<Capability> = needed(xdp).into_iter().filter(|capability| !has(capability)).collect();
    missing.sort_unstable_by_key(|capability| capability.index());
    if missing.is_empty() { Ok(()) } else { Err(NotPrivileged(missing)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_without_the_capability_is_told_which_it_lacks() {
        // Capabilities are a thread's own: the other tests keep theirs.
        let thread = std::thread::spawn(|| {
            caps::drop(None, CapSet::Effective, Capability::CAP_NET_RAW).expect("giving up needs no permission");
            may_open_devices(false)
        });
        let refusal = thread.join().expect("the thread ends").expect_err("it gave the capability up").to_string();
        assert!(refusal.contains("CAP_NET_RAW"), "{refusal}");
    }

    fn status(name: &str) -> String {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    }

    #[test]
    fn a_thread_keeps_what_its_duty_takes_and_its_children_have_no_more() {
        let before = status("CapPrm");
        let limited = |duty| {
            std::thread::spawn(move || {
                limit_thread(duty).unwrap();
                gain_nothing().unwrap();
                let child = std::thread::spawn(|| (status("CapEff"), status("CapPrm"), status("NoNewPrivs")));
                (status("CapEff"), child.join().unwrap())
            })
            .join()
            .unwrap()
        };

        let nothing = "0000000000000000".to_owned();
        assert_eq!(limited(Duty::None), (nothing.clone(), (nothing.clone(), nothing, "1".to_owned())));
        if user_is_root() {
            // capability.h: CAP_NET_ADMIN is 12, CAP_NET_RAW 13, CAP_IPC_LOCK 14.
            assert_eq!(limited(Duty::Devices { xdp: false }).0, "0000000000007000");
            // CAP_BPF is 39.
            assert_eq!(limited(Duty::Devices { xdp: true }).0, "0000008000007000");
        }
        assert_eq!(status("CapPrm"), before, "no other thread is concerned");
    }

    fn user_is_root() -> bool {
        super::super::user::is_root()
    }
}
