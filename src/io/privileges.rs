//! Changes the user of the process, and limits the capabilities of its threads. Capabilities belong to threads
//! (capabilities(7)), so each thread gives up its own. Only the control thread keeps those that opening a device needs.
//! A process that lacks them goes on forwarding, and refuses a reload that needs a new device, with the reason.

use std::{fmt, io};

use caps::{CapSet, Capability, CapsHashSet};

use super::user::User;

/// Capabilities without which no device can be opened: raw sockets, isolation of the kernel's stack, and for AF_XDP
/// loading a program.
fn required_capabilities(xdp: bool) -> CapsHashSet {
    let bpf = xdp.then_some(Capability::CAP_BPF);
    [Capability::CAP_NET_RAW, Capability::CAP_NET_ADMIN].into_iter().chain(bpf).collect()
}

/// Capabilities to keep for opening devices: those needed, and CAP_IPC_LOCK, because AF_XDP locks its memory, for
/// sending only too. Without CAP_IPC_LOCK the limit RLIMIT_MEMLOCK holds, which a service manager may have lifted.
fn kept_capabilities(xdp: bool) -> CapsHashSet {
    required_capabilities(xdp).into_iter().chain([Capability::CAP_IPC_LOCK]).collect()
}

/// What a thread has to do that needs capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadPrivileges {
    /// It needs none.
    None,
    /// It reopens devices that come back, and keeps the kernel's stack off them: CAP_NET_RAW for packet sockets,
    /// CAP_NET_ADMIN for the filter and for large socket buffers, CAP_IPC_LOCK for the memory of AF_XDP, and CAP_BPF
    /// for its program.
    Devices {
        /// Whether AF_XDP receives, and needs CAP_BPF.
        xdp: bool,
    },
    /// It also starts the engine: CAP_SYS_NICE to raise a thread's priority.
    Starting {
        /// Whether AF_XDP receives, and needs CAP_BPF.
        xdp: bool,
    },
}

impl ThreadPrivileges {
    fn capabilities(self) -> CapsHashSet {
        match self {
            Self::None => CapsHashSet::new(),
            Self::Devices { xdp } => kept_capabilities(xdp),
            Self::Starting { xdp } => {
                let mut capabilities = kept_capabilities(xdp);
                capabilities.insert(Capability::CAP_SYS_NICE);
                capabilities
            }
        }
    }
}

/// Makes the process run as another user. The calling thread keeps the capabilities for starting, every other thread
/// none. To be called as root, before the threads start that need capabilities.
pub fn become_user(user: User, xdp: bool) -> io::Result<()> {
    caps::clear(None, CapSet::Bounding).map_err(refused)?;
    rustix::thread::set_keep_capabilities(true)?;
    // SAFETY: each call takes integers, and `setgroups` an empty list that it does not read. glibc changes all threads
    // at once. JUSTIFICATION: the standard library changes only the user of a child.
    unsafe {
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(user.gid, user.gid, user.gid))?;
        check(libc::setresuid(user.uid, user.uid, user.uid))?;
    }
    // The permitted set is kept (PR_SET_KEEPCAPS), while the effective set is empty now.
    caps::set(None, CapSet::Effective, &ThreadPrivileges::Starting { xdp }.capabilities()).map_err(refused)
}

/// Gives up every capability that `duty` does not need, for the calling thread and those that it starts. It gains none
/// that it lacks.
pub fn limit_thread(duty: ThreadPrivileges) -> io::Result<()> {
    let held = caps::read(None, CapSet::Permitted).map_err(refused)?;
    let kept: CapsHashSet = held.intersection(&duty.capabilities()).copied().collect();
    // A process that may not change the bounding set has one from the service manager.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(refused)? {
        caps::clear(None, CapSet::Bounding).map_err(refused)?;
    }
    caps::clear(None, CapSet::Ambient).map_err(refused)?;
    caps::clear(None, CapSet::Inheritable).map_err(refused)?;
    caps::set(None, CapSet::Effective, &kept).map_err(refused)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(refused)
}

/// Sets `no_new_privs`: a program that this thread or its children execute gains nothing by set-user-id bits or file
/// capabilities.
pub fn set_no_new_privs() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

fn check(status: libc::c_int) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn refused(error: caps::errors::CapsError) -> io::Error {
    io::Error::other(error.to_string())
}

/// Capabilities that the calling thread lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingCapabilities(Vec<Capability>);

impl fmt::Display for MissingCapabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "the engine has no {} any more, which opening a device takes", names.join(" and "))
    }
}

impl std::error::Error for MissingCapabilities {}

/// Whether the calling thread may open a device, for AF_XDP or not.
pub fn may_open_devices(xdp: bool) -> Result<(), MissingCapabilities> {
    let has = |capability: &Capability| caps::has_cap(None, CapSet::Effective, *capability).unwrap_or(false);
    let mut missing: Vec<Capability> =
        required_capabilities(xdp).into_iter().filter(|capability| !has(capability)).collect();
    missing.sort_unstable_by_key(|capability| capability.index());
    if missing.is_empty() { Ok(()) } else { Err(MissingCapabilities(missing)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_without_the_capability_is_told_which_it_lacks() {
        // Capabilities belong to the thread, so other tests keep theirs.
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
                set_no_new_privs().unwrap();
                let child = std::thread::spawn(|| (status("CapEff"), status("CapPrm"), status("NoNewPrivs")));
                (status("CapEff"), child.join().unwrap())
            })
            .join()
            .unwrap()
        };

        let nothing = "0000000000000000".to_owned();
        assert_eq!(limited(ThreadPrivileges::None), (nothing.clone(), (nothing.clone(), nothing, "1".to_owned())));
        if user_is_root() {
            // capability.h: CAP_NET_ADMIN is 12, CAP_NET_RAW 13, CAP_IPC_LOCK 14.
            assert_eq!(limited(ThreadPrivileges::Devices { xdp: false }).0, "0000000000007000");
            // CAP_BPF is 39.
            assert_eq!(limited(ThreadPrivileges::Devices { xdp: true }).0, "0000008000007000");
        }
        assert_eq!(status("CapPrm"), before, "no other thread is concerned");
    }

    fn user_is_root() -> bool {
        super::super::user::is_root()
    }
}
