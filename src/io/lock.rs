//! Locks that the kernel releases with the process, however it ends.
//!
//! A link is locked by an abstract Unix socket, because such names belong to the network namespace, as devices do. A
//! path is locked by `flock` on a file beside it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::sockopt;

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
    name: String,
    socket: UnixListener,
}

impl LinkLock {
    /// Locks the link, in the network namespace of the calling thread.
    pub fn acquire(device: &str, vlan: Option<u16>) -> Result<Self, LockError> {
        let name = Self::name_of(device, vlan);
        let address = SocketAddr::from_abstract_name(&name)?;
        match UnixListener::bind_addr(&address) {
            Ok(socket) => Ok(Self { name, socket }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(LockError::Held { pid: owner(&address) }),
            Err(error) => Err(error.into()),
        }
    }

    /// The name of the lock of a link.
    pub fn name_of(device: &str, vlan: Option<u16>) -> String {
        let vlan = vlan.map_or("untagged".to_owned(), |vid| vid.to_string());
        format!("fwlb/link/{device}/{vlan}")
    }

    /// The lock of this name, of which another process gave a descriptor: it is held as long as one of them is open.
    pub fn inherit(name: String, descriptor: OwnedFd) -> Self {
        Self { name, socket: descriptor.into() }
    }

    /// The name, as in [`LinkLock::name_of`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One more descriptor of the lock, to be given to another process.
    ///
    /// # Errors
    /// The process has too many descriptors.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone().map(OwnedFd::from)
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
    let address = SocketAddrUnix::new_abstract_name(address.as_abstract_name()?).ok()?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    net::connect(&stream, &address).ok()?;
    // A holder in a PID namespace that is not seen from here has the number 0, which rustix cannot represent.
    let holder: libc::ucred = sockopt::get(&stream, libc::SOL_SOCKET, libc::SO_PEERCRED).ok()?;
    u32::try_from(holder.pid).ok().filter(|pid| *pid != 0)
}

/// The lock of a path, such as a control socket or a state directory.
#[derive(Debug)]
pub struct PathLock {
    path: PathBuf,
    file: File,
    /// Whether the lock ends with this value. One that two processes hold ends with that of the two that keeps it.
    is_own: bool,
}

impl PathLock {
    /// Locks `path` by locking the file `path` + `.lock`, which is created if it is missing. The directory has to
    /// exist.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let path = lock_path(path);
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
                return Ok(Self { path, file, is_own: true });
            }
        }
    }

    /// The lock of `path`, of which the process that holds it gave a descriptor. It stays that process's until
    /// [`PathLock::take_over`].
    pub fn inherit(path: &Path, descriptor: OwnedFd) -> Self {
        Self { path: lock_path(path), file: descriptor.into(), is_own: false }
    }

    /// Keeps the lock from here on: the other process has said that it lets it go.
    ///
    /// # Errors
    /// The number of this process cannot be written to the file, where whoever is refused the lock reads it.
    pub fn take_over(&mut self) -> io::Result<()> {
        self.is_own = true;
        fs::write(&self.path, format!("{}\n", std::process::id()))
    }

    /// Leaves the lock to another process, which has a descriptor of it.
    pub fn leave(mut self) {
        self.is_own = false;
    }

    /// One more descriptor of the lock, to be given to another process.
    ///
    /// # Errors
    /// The process has too many descriptors.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.file.try_clone().map(OwnedFd::from)
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

impl Drop for PathLock {
    fn drop(&mut self) {
        if !self.is_own {
            return;
        }
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
