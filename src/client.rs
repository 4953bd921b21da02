//! The other end of the control socket: one request, one answer, with errors that say what to do.
//! It carries [`crate::api`]'s requests and decides nothing about them.

mod capture;

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::api::{Answer, ApiError, Call, Request};
use crate::time::Duration;

pub use capture::Capturing;

type Connection = http1::Connection<TokioIo<UnixStream>, Full<Bytes>>;

/// Where engines put their control sockets unless told otherwise.
pub const RUN_DIRECTORY: &str = "/run/fwlb";
/// Longer than an engine allows itself for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why an engine was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing is there.
    #[error("no engine listens on {path}: there is no such socket\nstart one with: fwlb run CONFIG")]
    NoSocket {
        /// The socket.
        path: PathBuf,
    },
    /// A socket without a process: the engine ended without cleaning up.
    #[error(
        "no engine listens on {path}: it has ended and left its socket behind\nstart it again with: fwlb run CONFIG"
    )]
    Refused {
        /// The socket.
        path: PathBuf,
    },
    /// Not ours to open.
    #[error("no permission for {path}\nrun this as root, or as a member of the socket's group")]
    Permission {
        /// The socket.
        path: PathBuf,
    },
    /// Any other failure of the socket.
    #[error("cannot talk to {path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It took the request and stayed silent.
    #[error("the engine on {path} did not answer within {} s", after.as_secs())]
    Timeout {
        /// The socket.
        path: PathBuf,
        /// How long it was given.
        after: Duration,
    },
    /// What came is no answer of an engine.
    #[error("{path} is not the control socket of an engine of this version: {problem}")]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The engine says no.
    #[error(transparent)]
    Engine(#[from] ApiError),
}

/// One engine's control socket.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
    timeout: Duration,
}

impl Client {
    /// A client of the engine that listens on `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), timeout: TIMEOUT }
    }

    /// The same with another patience.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks, and understands the answer.
    pub async fn ask(&self, request: &Request) -> Result<Answer, ClientError> {
        let value = self.ask_json(request).await?;
        Answer::from_json(request, value).map_err(|error| self.garbled(error))
    }

    /// Asks; the answer stays as the engine wrote it, with keys that this version may not know.
    pub async fn ask_json(&self, request: &Request) -> Result<Value, ClientError> {
        self.call(request.call()).await
    }

    async fn call(&self, call: Call) -> Result<Value, ClientError> {
        let (status, body) = self.patiently(self.exchange(call)).await?;
        match status {
            StatusCode::OK => serde_json::from_slice(&body).map_err(|error| self.garbled(error)),
            status => Err(self.refused(status, &body)),
        }
    }

    /// What an answer that is not OK means.
    fn refused(&self, status: StatusCode, body: &[u8]) -> ClientError {
        match serde_json::from_slice::<ApiError>(body) {
            Ok(error) => ClientError::Engine(error),
            Err(_) => self.garbled(format!("it answers {status}")),
        }
    }

    async fn patiently<T>(&self, what: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        let late = |_| ClientError::Timeout { path: self.path.clone(), after: self.timeout };
        tokio::time::timeout(self.timeout, what).await.map_err(late)?
    }

    async fn connect(&self) -> Result<(SendRequest<Full<Bytes>>, Connection), ClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|source| self.unreachable(source))?;
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.garbled(error))
    }

    fn request(&self, call: Call) -> Result<hyper::Request<Full<Bytes>>, ClientError> {
        hyper::Request::builder()
            .method(call.method)
            .uri(call.uri)
            .header(header::HOST, "fwlb")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(call.body.unwrap_or_default())))
            .map_err(|error| self.garbled(error))
    }

    async fn exchange(&self, call: Call) -> Result<(StatusCode, Bytes), ClientError> {
        let (mut sender, connection) = self.connect().await?;
        let request = self.request(call)?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
        };
        // The connection moves bytes only while it is polled; it ends with the answer.
        let mut connection = std::pin::pin!(connection);
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(error),
            },
        }
        .map_err(|error| self.garbled(error))
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::NotFound => ClientError::NoSocket { path },
            io::ErrorKind::ConnectionRefused => ClientError::Refused { path },
            io::ErrorKind::PermissionDenied => ClientError::Permission { path },
            _ => ClientError::Io { path, source },
        }
    }

    fn garbled(&self, problem: impl ToString) -> ClientError {
        ClientError::Garbled { path: self.path.clone(), problem: problem.to_string() }
    }
}
