//! The client of the control socket: sends one request and returns the answer, or an error that says what to do. It
//! decides nothing about the requests of [`crate::api`].

mod capture;
mod error;

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::http::response::Parts;
use hyper::{StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::api::{ApiError, Call, HttpCall, Request, SESSION_WALK_TIMEOUT};
use crate::time::Duration;

pub use capture::CaptureStream;
pub use error::{ClientError, VERSION};

type Connection = http1::Connection<TokioIo<UnixStream>, Full<Bytes>>;

/// Directory of the engines' control sockets, unless configured otherwise.
pub const RUN_DIRECTORY: &str = "/run/fwlb";
/// Default time limit of a request; longer than the time that an engine takes for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A client of one engine's control socket.
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

    /// Sets the time limit of a request.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends a request and returns the parsed answer.
    pub async fn ask<C: Call>(&self, call: &C) -> Result<C::Answer, ClientError> {
        self.ask_with_json(call).await.map(|(_, answer)| answer)
    }

    /// Sends a request of any kind and returns the answer as the engine wrote it, unparsed.
    pub async fn ask_json(&self, request: &Request) -> Result<Value, ClientError> {
        self.send(request.http(), request.walks_over_sessions()).await.map(|(value, _)| value)
    }

    /// Sends a request; returns the answer as the engine wrote it, with keys that this version may not know, and
    /// parsed.
    pub async fn ask_with_json<C: Call>(&self, call: &C) -> Result<(Value, C::Answer), ClientError> {
        let (value, head) = self.send(call.http(), C::WALKS_OVER_SESSIONS).await?;
        match serde_json::from_value(value.clone()) {
            Ok(answer) => Ok((value, C::with_head(answer, &head.headers))),
            Err(error) => Err(ClientError::misunderstood(&self.path, version(&head).as_deref(), error)),
        }
    }

    async fn send(&self, call: HttpCall, walks_over_sessions: bool) -> Result<(Value, Parts), ClientError> {
        if walks_over_sessions {
            return self.clone().timeout(self.timeout + SESSION_WALK_TIMEOUT).call(call).await;
        }
        self.call(call).await
    }

    async fn call(&self, call: HttpCall) -> Result<(Value, Parts), ClientError> {
        let (head, body) = self.with_timeout(self.exchange(call)).await?;
        if head.status != StatusCode::OK {
            return Err(self.refused(&head, &body));
        }
        match serde_json::from_slice(&body) {
            Ok(value) => Ok((value, head)),
            Err(error) => Err(ClientError::misunderstood(&self.path, version(&head).as_deref(), error)),
        }
    }

    /// The error in an unsuccessful response.
    fn refused(&self, head: &Parts, body: &[u8]) -> ClientError {
        let version = version(head);
        match serde_json::from_slice::<ApiError>(body) {
            Ok(error) => ClientError::refused(&self.path, version.as_deref(), error),
            Err(_) => ClientError::misunderstood(&self.path, version.as_deref(), format!("it answers {}", head.status)),
        }
    }

    async fn with_timeout<T>(&self, what: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        let late = |_| ClientError::Timeout { path: self.path.clone(), after: self.timeout };
        tokio::time::timeout(self.timeout, what).await.map_err(late)?
    }

    async fn connect(&self) -> Result<(SendRequest<Full<Bytes>>, Connection), ClientError> {
        let stream = UnixStream::connect(&self.path).await;
        let stream = stream.map_err(|source| ClientError::unreachable(&self.path, source))?;
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))
    }

    fn request(&self, call: HttpCall) -> Result<hyper::Request<Full<Bytes>>, ClientError> {
        hyper::Request::builder()
            .method(call.method)
            .uri(call.uri)
            .header(header::HOST, "fwlb")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(call.body.unwrap_or_default())))
            .map_err(|error| ClientError::Garbled { path: self.path.clone(), problem: error.to_string() })
    }

    async fn exchange(&self, call: HttpCall) -> Result<(Parts, Bytes), ClientError> {
        let (mut sender, connection) = self.connect().await?;
        let request = self.request(call)?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            Ok::<_, hyper::Error>((head, body.collect().await?.to_bytes()))
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
        .map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &hyper::Error) -> ClientError {
        ClientError::broken(&self.path, error)
    }
}

/// The version of the engine that answered, if the response says so.
fn version(head: &Parts) -> Option<String> {
    let server = head.headers.get(header::SERVER)?.to_str().ok()?;
    server.strip_prefix("fwlb/").map(str::to_owned)
}
