//! Errors of asking an engine, in a line or two that say what to do.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::api::ApiError;
use crate::time::Duration;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The path does not exist.
    #[error("no engine listens on {path}: there is no such socket\nstart one with: fwlb run CONFIG")]
    NoSocket {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The path is not a socket.
    #[error("{path} is no socket\n{VERSION_HELP}")]
    NotSocket {
        /// The path.
        path: PathBuf,
    },
    /// No process listens on the socket: the engine ended without removing it.
    #[error(
        "no engine listens on {path}: it has ended and left its socket behind\nstart it again with: fwlb run CONFIG"
    )]
    Refused {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The caller has no permission to open the socket.
    #[error("no permission for {path}\nrun this as root, or as a member of the socket's group")]
    Permission {
        /// Path of the socket.
        path: PathBuf,
    },
    /// Any other failure of the socket.
    #[error("cannot talk to {path}: {source}\n{VERSION_HELP}")]
    Io {
        /// Path of the socket.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// The engine did not answer in time.
    #[error(
        "the engine on {path} did not answer within {after:?}: it is busy or stuck\n\
         try again, or wait longer with --timeout; if it stays so, see its log and restart it"
    )]
    Timeout {
        /// Path of the socket.
        path: PathBuf,
        /// The time limit.
        after: Duration,
    },
    /// The connection was closed before the answer was complete.
    #[error(
        "{path} was closed before the answer was complete\n\
         its engine has just ended, or it is another program's; see what runs with: fwlb show"
    )]
    BrokenOff {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The engine has another version, and one side does not understand the other.
    #[error(
        "the engine on {path} is fwlb {engine} and this is fwlb {VERSION}: {problem}\n\
         restart the engine to run the installed version, or ask it with its own fwlb"
    )]
    Version {
        /// Path of the socket.
        path: PathBuf,
        /// The version of the engine.
        engine: String,
        /// What was not understood.
        problem: String,
    },
    /// The answer is not that of an engine.
    #[error("{path} is not the control socket of an fwlb engine: {problem}\n{VERSION_HELP}")]
    Garbled {
        /// Path of the socket.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The engine is too busy, or about to stop.
    #[error("{0}\ntry again; if it stays so, see the engine's log")]
    Busy(String),
    /// The engine refuses the request.
    #[error(transparent)]
    Engine(ApiError),
}

const VERSION_HELP: &str =
    "name an engine with -e NAME, or its control socket with -s PATH (by default /run/fwlb/NAME.sock)";

impl ClientError {
    /// The error that the socket at `path` could not be opened.
    pub(super) fn unreachable(path: &Path, source: io::Error) -> Self {
        let is_other = std::fs::metadata(path).is_ok_and(|found| !found.file_type().is_socket());
        let path = path.to_owned();
        match source.kind() {
            _ if is_other => Self::NotSocket { path },
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NoSocket { path },
            io::ErrorKind::ConnectionRefused => Self::Refused { path },
            io::ErrorKind::PermissionDenied => Self::Permission { path },
            // The socket's backlog is full.
            io::ErrorKind::WouldBlock => {
                Self::Busy(format!("the engine on {} has no room for another caller", path.display()))
            }
            _ => Self::Io { path, source },
        }
    }

    /// The error that the exchange over `path` failed.
    pub(super) fn broken(path: &Path, error: &hyper::Error) -> Self {
        let path = path.to_owned();
        let system = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
        if error.is_incomplete_message() || error.is_closed() || error.is_canceled() || system.is_some() {
            return Self::BrokenOff { path };
        }
        Self::Garbled { path, problem: error.to_string() }
    }

    /// The error that the answer on `path` could not be parsed; `version` is the engine's, if it is known.
    pub(super) fn misunderstood(path: &Path, version: Option<&str>, problem: impl ToString) -> Self {
        let (path, problem) = (path.to_owned(), problem.to_string());
        match version {
            Some(engine) if engine != VERSION => Self::Version { path, engine: engine.to_owned(), problem },
            Some(_) | None => Self::Garbled { path, problem },
        }
    }

    /// The error with which the engine of `version` on `path` refuses the request.
    pub(super) fn refused(path: &Path, version: Option<&str>, error: ApiError) -> Self {
        let lacks = match &error {
            ApiError::NotFound(message) => message.starts_with("no such resource"),
            ApiError::BadRequest(message) => {
                message.contains("unknown field") || message.contains("is not possible on")
            }
            ApiError::Unauthorized(_)
            | ApiError::Forbidden(_)
            | ApiError::Conflict(_)
            | ApiError::Refused(_)
            | ApiError::Unavailable(_) => false,
        };
        match (lacks, version, error) {
            (true, Some(engine), error) if engine != VERSION => {
                Self::Version { path: path.to_owned(), engine: engine.to_owned(), problem: error.to_string() }
            }
            (true, None, error) => Self::Version {
                path: path.to_owned(),
                engine: "of another version".to_owned(),
                problem: error.to_string(),
            },
            (_, _, ApiError::Unavailable(message)) => Self::Busy(message),
            (_, _, error) => Self::Engine(error),
        }
    }
}
