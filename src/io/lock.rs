//! Locks that the kernel releases with the process, however it ends.
//!
//! A link is locked by an abstract Unix socket, because such names belong to the network namespace, as devices do. A
//! path is locked by `flock` on a file beside it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::mem::{offset_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another engine holds it, possibly one of this process.
    #[error("{}", held_by(*.pid))]
    Held {
        /// Process id of the holder, if that could be found out.
        pid: Option<u32>,
    },
    /// The system call failed.
    #[error(transparent)]
    System(#[from] io::Error),
}

fn held_by(pid: Option<u32>) -> String {
    match pid {
        Some(pid) if pid == std::process::id() => "another engine of this process owns it".to_owned(),
        Some(pid) => format!("process {pid} owns it"),
        None => "another process owns it".to_owned(),
    }
}

/// The lock of a link: of a device, or of one VLAN on it.
#[derive(Debug)]
pub struct LinkLock {
    _name: UnixListener,
}

impl LinkLock {
    /// Locks the link, in the network namespace of the calling thread.
    pub fn acquire(device: &str, vlan: Option<u16>) -> Result<Self, LockError> {
        let vlan = vlan.map_or("untagged".to_owned(), |vid| vid.to_string());
        let address = SocketAddr::from_abstract_name(format!("fwlb/link/{device}/{vlan}"))?;
        match UnixListener::bind_addr(&address) {
            Ok(listener) => Ok(Self { _name: listener }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(LockError::Held { pid: owner(&address) }),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a link on `device` is locked, in the network namespace of the calling thread (unix(7): names of sockets).
pub fn is_owned(device: &str) -> bool {
    let prefix = format!("@fwlb/link/{device}/");
    let names = fs::read_to_string("/proc/thread-self/net/unix").unwrap_or_default();
    names.lines().any(|line| line.split_whitespace().last().is_some_and(|name| name.starts_with(&prefix)))
}

/// Process id of whoever listens at `address`, if it can be asked without waiting. The holder accepts no connections,
/// so that its backlog is full after some hundred questions.
fn owner(address: &SocketAddr) -> Option<u32> {
    let name = address.as_abstract_name()?;
    // SAFETY: integers and an array of characters: zeros are a value of each. JUSTIFICATION: the standard library
    // cannot connect a Unix socket without blocking.
    let mut raw: libc::sockaddr_un = unsafe { zeroed() };
    raw.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // An abstract name begins with a zero byte.
    let room = raw.sun_path.get_mut(1..=name.len())?;
    room.iter_mut().zip(name).for_each(|(to, from)| *to = from.cast_signed() as libc::c_char);
    let len = offset_of!(libc::sockaddr_un, sun_path) + 1 + name.len();
    // SAFETY: integers in; a non-negative answer is a descriptor that nobody else owns; the address and its length
    // describe `raw`. JUSTIFICATION: as above.
    let stream = unsafe {
        let fd = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
        if fd < 0 {
            return None;
        }
        let stream = OwnedFd::from_raw_fd(fd);
        if libc::connect(fd, std::ptr::from_ref(&raw).cast(), libc::socklen_t::try_from(len).ok()?) != 0 {
            return None;
        }
        stream
    };
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    // SAFETY: pointer and length describe `credentials`; the kernel writes at most that.
    // JUSTIFICATION: the standard library's `peer_cred` is not stable.
    let status = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut len,
        )
    };
    u32::try_from(credentials.pid).ok().filter(|pid| status == 0 && *pid != 0)
}

/// The lock of a path, such as a control socket or a state directory.
#[derive(Debug)]
pub struct PathLock {
    path: PathBuf,
    file: File,
}

impl PathLock {
    /// Locks `path` by locking the file `path` + `.lock`, which is created if it is missing. The directory has to
    /// exist.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        loop {
            let file = File::options().create(true).truncate(false).read(true).write(true).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                    return Err(LockError::Held { pid });
                }
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            // A holder that ended meanwhile deleted the file: then this lock is on a file that nobody else will find.
            let on_disk = fs::metadata(&path).map(|found| (found.dev(), found.ino()));
            let locked = file.metadata().map(|held| (held.dev(), held.ino()))?;
            if on_disk.is_ok_and(|found| found == locked) {
                fs::write(&path, format!("{}\n", std::process::id()))?;
                return Ok(Self { path, file });
            }
        }
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        // Deleted while the lock is held, so that nobody else's locked file is deleted.
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::io::testing::namespace;

    #[test]
    fn a_link_has_one_owner_until_he_lets_go() {
        if !namespace() {
            return;
        }
        assert!(!is_owned("lk0"));
        let first = LinkLock::acquire("lk0", Some(10)).unwrap();
        assert!(is_owned("lk0") && !is_owned("lk"));

        let second = LinkLock::acquire("lk0", Some(10)).unwrap_err();
        assert!(matches!(second, LockError::Held { pid: Some(pid) } if pid == std::process::id()), "{second:?}");
        LinkLock::acquire("lk0", None).expect("untagged frames are another link");
        LinkLock::acquire("lk0", Some(11)).expect("another VLAN is another link");

        for _ in 0..10_000 {
            let refused = LinkLock::acquire("lk0", Some(10)).unwrap_err();
            assert!(matches!(refused, LockError::Held { .. }), "{refused:?}");
        }

        drop(first);
        LinkLock::acquire("lk0", Some(10)).expect("given up");
    }

    #[test]
    fn a_path_has_one_owner_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.sock");
        let first = PathLock::acquire(&path).unwrap();

        let second = PathLock::acquire(&path).unwrap_err();
        assert!(matches!(second, LockError::Held { pid: Some(pid) } if pid == std::process::id()), "{second:?}");

        drop(first);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        PathLock::acquire(&path).expect("given up");
    }

    #[test]
    fn ownership_dies_with_a_killed_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.sock");
        let lock = directory.path().join("engine.sock.lock");
        fs::write(&lock, "").unwrap();
        let mut owner = Command::new("flock")
            .args(["--exclusive", "--no-fork"])
            .arg(&lock)
            .args(["sh", "-c", "echo ready; exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("flock is part of util-linux");
        io::Read::read_exact(owner.stdout.as_mut().unwrap(), &mut [0; 5]).unwrap();
        assert!(matches!(PathLock::acquire(&path), Err(LockError::Held { .. })));

        owner.kill().unwrap();
        owner.wait().unwrap();

        PathLock::acquire(&path).expect("the owner was killed");
    }
}
