//! The management API: operators' requests over HTTP with JSON.
//!
//! Each request is a struct of [`calls`] that implements [`Call`]: it is the query or body of its HTTP call, and knows
//! its method, path and answer. An engine answers it through [`Backend`]; the API knows nothing of its threads and
//! sockets.

pub mod calls;
pub mod capture;
mod console;
mod engines;
pub mod guard;
pub mod listen;
mod listing;
pub mod metrics;
pub mod names;
mod openapi;
mod prefix;
pub mod router;
mod text;
pub mod tls;

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::view;
use crate::time::Duration;

pub use crate::engine::controller::ServerChange;
pub use crate::flow::text as flow_text;
pub use calls::sessions;
pub use calls::{Answer, Call, EventFilter, HttpCall, Listed, Request, Routing, Verb, WEIGHT_MAX};
pub use capture::{CaptureRequest, Chunk, Download};
pub use engines::Engines;
pub use prefix::address_or_prefix;
pub use router::router;
pub use sessions::{Cursor, SessionFilter, SessionPage, SessionRequest, SessionSort, TalkerRequest, TalkersBy};

/// A time in the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventTime {
    /// This long ago.
    Ago(Duration),
    /// A wall-clock time.
    At(SystemTime),
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ago(ago) => write!(f, "{}ms", ago.as_millis()),
            Self::At(at) => write!(f, "{}", humantime::format_rfc3339_millis(*at)),
        }
    }
}

impl FromStr for EventTime {
    type Err = ApiError;

    /// Parses `10m` or `2h4m`, and `2026-11-21T11:00:00Z`, `2026-11-21 11:00:00` (UTC) or `2026-11-21`.
    fn from_str(text: &str) -> Result<Self, ApiError> {
        let ago = humantime::parse_duration(text).map(Self::Ago).ok();
        let at = || humantime::parse_rfc3339_weak(text).map(Self::At).ok();
        let day = || humantime::parse_rfc3339_weak(&format!("{text} 00:00:00")).map(Self::At).ok();
        ago.or_else(at).or_else(day).ok_or_else(|| {
            let forms = "\"10m\", \"2h4m\", \"2026-11-21T11:00:00Z\", \"2026-11-21\"";
            ApiError::BadRequest(format!("not a time: {text:?}; write it as {forms}"))
        })
    }
}

/// Where a flow arrives (`explain`), or where a ping leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkOrFirewall {
    /// On a link.
    Link(String),
    /// By a firewall, `group/firewall`.
    Firewall(String),
}

impl fmt::Display for LinkOrFirewall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(name) | Self::Firewall(name) => f.write_str(name),
        }
    }
}

impl FromStr for LinkOrFirewall {
    type Err = ApiError;

    /// Parses `LINK` or `GROUP/FIREWALL`; a name never contains a slash.
    fn from_str(text: &str) -> Result<Self, ApiError> {
        match text.split_once('/') {
            None if !text.is_empty() => Ok(Self::Link(text.to_owned())),
            Some((group, firewall)) if !group.is_empty() && !firewall.is_empty() && !firewall.contains('/') => {
                Ok(Self::Firewall(text.to_owned()))
            }
            None | Some(_) => Err(ApiError::BadRequest(format!("expected LINK or GROUP/FIREWALL, found {text:?}"))),
        }
    }
}

/// How long an engine may take for a request that walks over all its sessions.
pub const SESSION_WALK_TIMEOUT: Duration = Duration::from_secs(60);

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// What was done, in words.
    pub done: String,
    /// Orders of other engines or groups that still hold the object, and that only they can end.
    #[serde(default)]
    #[serde(rename = "held")]
    pub held_elsewhere: Vec<view::OrderView>,
    /// Consequences that may not be intended.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl From<String> for Done {
    fn from(done: String) -> Self {
        Self { done, ..Self::default() }
    }
}

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, ToSchema)]
#[serde(tag = "error", content = "message", rename_all = "snake_case")]
pub enum ApiError {
    /// The object does not exist; the message lists those that do.
    #[error("{0}")]
    NotFound(String),
    /// The request is invalid.
    #[error("{0}")]
    BadRequest(String),
    /// The request needs a token and has no valid one.
    #[error("{0}")]
    Unauthorized(String),
    /// The caller is known and not permitted to do this.
    #[error("{0}")]
    Forbidden(String),
    /// The change would do harm at present, and nothing has changed; the message says how to do it all the same.
    #[error("{0}")]
    Conflict(String),
    /// The configuration is invalid, and nothing has changed; the message gives every reason with its place.
    #[error("{0}")]
    Refused(String),
    /// The engine is stopping or too busy.
    #[error("{0}")]
    Unavailable(String),
}

/// A running engine, as the API uses it.
pub trait Backend: Send + Sync + 'static {
    /// Name of the engine.
    fn engine(&self) -> &str;

    /// Measurements of the process that runs the engine; `None` if unknown.
    fn process(&self) -> Option<metrics::Process> {
        None
    }

    /// Answers a request, usually within a second.
    fn ask(self: Arc<Self>, request: Request) -> impl Future<Output = Result<Answer, ApiError>> + Send;

    /// Starts a capture. The default refuses, for backends without packets.
    fn capture(&self, request: CaptureRequest) -> Result<Download, ApiError> {
        let CaptureRequest { .. } = request;
        Err(ApiError::Unavailable(format!("engine {} has no packets to show", self.engine())))
    }

    /// Ends the capture with this name; the frames captured so far are still sent.
    fn end_capture(&self, id: &str) -> Result<(), ApiError> {
        Err(ApiError::NotFound(format!("engine {} has no capture {id:?}", self.engine())))
    }
}
