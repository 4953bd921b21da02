//! The control socket and the signals of the process.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
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
    _lock: PathLock,
}

/// A control socket that is being served.
#[derive(Debug)]
pub(super) struct Served {
    task: JoinHandle<()>,
    path: SocketPath,
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
        Ok(Self { engine: engine.to_owned(), path: path.to_owned(), _lock: lock })
    }

    /// Serves `backend` on the socket. To be called within a tokio runtime. The socket belongs to `group`, or to the
    /// process's own group if that is `None`.
    pub(super) fn serve<B: Backend>(self, backend: Arc<B>, group: Option<&str>) -> Result<Served, RunError> {
        let system = |what: String| {
            let engine = self.engine.clone();
            move |source| RunError::System { engine, what, source }
        };
        let listener = UnixListener::bind(&self.path)
            .and_then(|listener| fs::set_permissions(&self.path, fs::Permissions::from_mode(MODE)).map(|()| listener))
            .map_err(system(format!("listen on the control socket {}", self.path.display())))?;
        if let Some(group) = group {
            let give = group_id(group).and_then(|id| chown(&self.path, None, Some(id)));
            give.map_err(system(format!("give the control socket to the group {group:?} (`socket-group` in [api])")))?;
        }
        let task = tokio::spawn(serve_socket(listener, api::router(backend), users::peer_user, Limits::of_socket()));
        Ok(Served { task, path: self })
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
