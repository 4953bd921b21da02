//! The control socket and the signals of the process.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{self, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::RunError;
use super::reload::Reloader;
use super::session_log::reopen_all;
use super::users;
use crate::api::listen::{Limits, serve_socket};
use crate::api::{self, Backend};
use crate::io::group;
use crate::io::lock::{LockError, PathLock};

/// Readable and writable by the owner and the group: they may control the engine.
const MODE: u32 = 0o660;

/// The path of a control socket, locked until this is dropped.
#[derive(Debug)]
pub(super) struct SocketPath {
    engine: String,
    path: PathBuf,
    lock: PathLock,
    /// The socket of the program from which this one takes over.
    inherited: Option<OwnedFd>,
}

/// A control socket that is being served.
#[derive(Debug)]
pub(super) struct Served {
    task: JoinHandle<()>,
    path: SocketPath,
    /// One more descriptor of the socket, to be shared with another process.
    shared: OwnedFd,
}

impl SocketPath {
    /// Locks the path; creates its directory, and removes a socket on which nobody listens any more.
    pub(super) fn lock(engine: &str, path: &Path) -> Result<Self, RunError> {
        let system = |what: String| move |source| RunError::System { engine: engine.to_owned(), what, source };
        let taken = |owner| RunError::SocketTaken { engine: engine.to_owned(), path: path.to_owned(), owner };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(system(format!("make the directory {}", directory.display())))?;
        }
        let lock = PathLock::acquire(path).map_err(|error| match error {
            LockError::Held { .. } => taken(error.to_string()),
            LockError::System(source) => system(format!("lock {}", path.display()))(source),
        })?;
        match fs::symlink_metadata(path) {
            Err(_) => {}
            Ok(found) if !found.file_type().is_socket() => return Err(taken("a file stands there".to_owned())),
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(taken("another program listens there".to_owned()));
            }
            Ok(_) => fs::remove_file(path).map_err(system(format!("remove the stale socket {}", path.display())))?,
        }
        Ok(Self { engine: engine.to_owned(), path: path.to_owned(), lock, inherited: None })
    }

    /// The names of the socket at `path` and of its lock among the descriptors that two programs share.
    pub(super) fn descriptor_names(path: &Path) -> [String; 2] {
        ["control", "lock"].map(|what| format!("{what} {}", path.display()))
    }

    /// The path of another program, with its lock and its socket: it stays that program's until it is served here.
    pub(super) fn inherit(engine: &str, path: &Path, lock: OwnedFd, socket: OwnedFd) -> Self {
        let (engine, lock) = (engine.to_owned(), PathLock::inherit(path, lock));
        Self { engine, path: path.to_owned(), lock, inherited: Some(socket) }
    }

    /// Serves `backend` on the socket. To be called within a tokio runtime. The socket belongs to `group`, or to the
    /// process's own group if that is `None`.
    pub(super) fn serve<B: Backend>(mut self, backend: Arc<B>, group: Option<&str>) -> Result<Served, RunError> {
        let engine = self.engine.clone();
        let system = |what: String| {
            let engine = engine.clone();
            move |source| RunError::System { engine, what, source }
        };
        let listen = format!("listen on the control socket {}", self.path.display());
        if let Some(socket) = self.inherited.take() {
            let shared = self.lock.take_over().and_then(|()| socket.try_clone());
            let listener = shared.and_then(|shared| {
                let listener = net::UnixListener::from(socket);
                listener.set_nonblocking(true)?;
                Ok((UnixListener::from_std(listener)?, shared))
            });
            let (listener, shared) = listener.map_err(system(listen))?;
            return Ok(self.serve_on(listener, shared, backend));
        }
        let listener = net::UnixListener::bind(&self.path)
            .and_then(|listener| fs::set_permissions(&self.path, fs::Permissions::from_mode(MODE)).map(|()| listener))
            .and_then(|listener| {
                listener.set_nonblocking(true)?;
                let shared = listener.try_clone()?;
                Ok((UnixListener::from_std(listener)?, shared.into()))
            });
        let (listener, shared) = listener.map_err(system(listen))?;
        if let Some(group) = group {
            let give = group_id(group).and_then(|id| chown(&self.path, None, Some(id)));
            give.map_err(system(format!("give the control socket to the group {group:?} (`socket-group` in [api])")))?;
        }
        Ok(self.serve_on(listener, shared, backend))
    }

    fn serve_on<B: Backend>(self, listener: UnixListener, shared: OwnedFd, backend: Arc<B>) -> Served {
        let task = tokio::spawn(serve_socket(listener, api::router(backend), users::peer_user, Limits::of_socket()));
        Served { task, path: self, shared }
    }
}

fn group_id(name: &str) -> io::Result<u32> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "there is no such group; make it with groupadd");
    group::id(name)?.ok_or_else(missing)
}

impl Served {
    /// Accepts no more requests, and removes the socket. A client's open connection does not hold up the engine.
    pub(super) fn stop(self) {
        self.task.abort();
        let _ = fs::remove_file(&self.path.path);
    }

    /// Accepts no more requests, and leaves the socket to another program.
    pub(super) fn leave(self) {
        self.task.abort();
        self.path.lock.leave();
    }

    /// Descriptors of the socket and of its lock, by name, to be shared with another process.
    pub(super) fn share(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let [socket, lock] = SocketPath::descriptor_names(&self.path.path);
        Ok(vec![(socket, self.shared.try_clone()?), (lock, self.path.lock.share()?)])
    }
}

/// The stream of SIGHUPs from now on; they would end the process otherwise. To be called within a tokio runtime.
pub(super) fn hangups() -> Signal {
    signal(SignalKind::hangup()).expect("a runtime with I/O handles signals")
}

/// Reloads all engines at each SIGHUP.
pub(super) async fn reload_on_hangup(mut hangups: Signal, reloader: Arc<Reloader>) {
    while hangups.recv().await.is_some() {
        Arc::clone(&reloader).reload_all("SIGHUP").await;
    }
    std::future::pending().await
}

/// Waits for SIGTERM or SIGINT. SIGUSR1 reopens the session logs.
pub(super) async fn until_stopped() {
    let [mut terminate, mut interrupt, mut reopen] =
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::user_defined1()]
            .map(|kind| signal(kind).expect("a runtime with I/O handles signals"));
    loop {
        tokio::select! {
            _ = terminate.recv() => return tracing::info!("stopped by SIGTERM"),
            _ = interrupt.recv() => return tracing::info!("stopped by SIGINT"),
            _ = reopen.recv() => reopen_all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    struct Nobody;

    impl Backend for Nobody {
        fn engine(&self) -> &str {
            "nobody"
        }

        async fn ask(self: Arc<Self>, _: api::Request) -> Result<api::Answer, api::ApiError> {
            Err(api::ApiError::Unavailable("nobody is here".to_owned()))
        }
    }

    #[tokio::test]
    async fn the_socket_belongs_to_the_group_that_the_file_names() {
        use std::os::unix::fs::MetadataExt;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("outer.sock");
        let refusal = SocketPath::lock("outer", &path).unwrap().serve(Arc::new(Nobody), Some("no-such-group-here"));
        let line = super::super::with_sources(&refusal.unwrap_err());
        assert!(line.contains("no-such-group-here") && line.contains("groupadd"), "{line}");

        // The test's own group, which any user may assign.
        let own = fs::metadata(directory.path()).unwrap().gid();
        let served = SocketPath::lock("outer", &path).unwrap().serve(Arc::new(Nobody), Some(&own.to_string())).unwrap();

        let socket = fs::metadata(&path).unwrap();
        assert_eq!((socket.gid(), socket.mode() & 0o777), (own, 0o660));
        served.stop();
    }

    #[test]
    fn a_stale_socket_is_removed_and_a_live_one_or_a_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/outer.sock");
        let take = || SocketPath::lock("outer", &path);

        let first = take().unwrap();
        let refusal = take().unwrap_err().to_string();
        assert!(refusal.contains("outer.sock") && refusal.contains("another engine of this process"), "{refusal}");
        drop(first);

        let listener = UnixListener::bind(&path).unwrap();
        let refusal = take().unwrap_err().to_string();
        assert!(refusal.contains("another program listens there"), "{refusal}");
        drop(listener);
        take().expect("nobody listens any more");
        assert!(!path.exists());

        fs::write(&path, "precious").unwrap();
        assert!(matches!(take(), Err(RunError::SocketTaken { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
