//! The management API: operators' requests over HTTP with JSON.
//!
//! [`Request`] and [`Answer`] are independent of the transport. An engine answers them through [`Backend`]; the API
//! knows nothing of its threads and sockets.

pub mod call;
pub mod capture;
mod console;
mod engines;
pub mod guard;
pub mod listen;
mod listing;
pub mod metrics;
pub mod names;
mod openapi;
mod parameters;
mod prefix;
pub mod router;
pub mod sessions;
pub mod tls;

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::AdminState;
use crate::engine::view;
use crate::flow::FlowKey;
use crate::time::Duration;

pub use crate::engine::controller::ServerChange;
pub use crate::flow::text as flow_text;
pub use call::HttpCall;
pub use capture::{CaptureRequest, Chunk, Download};
pub use engines::Engines;
pub use parameters::WEIGHT_MAX;
pub use prefix::address_or_prefix;
pub use router::router;
pub use sessions::{Cursor, SessionFilter, SessionPage, SessionRequest, SessionSort, TalkerRequest, TalkersBy};

/// Which events to list; an event has to match every part that is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// Events with a larger number. If no event has this number yet, it is from an earlier start, and all events are
    /// newer.
    pub after: u64,
    /// Events at or after this time.
    pub since: Option<EventTime>,
    /// Events of these kinds; empty: of every kind.
    pub kinds: Vec<String>,
    /// Events about this object: `fw1`, `perimeter/fw1`, `web/s1`, `perimeter`.
    pub subject: Option<String>,
    /// Number of events, at most: the last of those that match.
    pub limit: Option<usize>,
}

impl EventFilter {
    /// Selects all events after number `after`.
    pub fn after(after: u64) -> Self {
        Self { after, ..Self::default() }
    }
}

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

/// An operator's request to one engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Asks for alarms, overrides and a summary (`show status`).
    Status,
    /// Asks whether the engine forwards (`health`).
    Health,
    /// Lists the links (`show links`).
    Links,
    /// Lists the neighbours (`show neighbors`).
    Neighbors,
    /// Lists the firewalls with their paths (`show firewalls`).
    Firewalls,
    /// Lists the engines on the far sides (`show peers`).
    Peers,
    /// Lists the services with their servers (`show services`).
    Services,
    /// Lists the last results of health checks and probes (`show checks`).
    Checks {
        /// A server or firewall, or what contains them: `web/s1`, `web`, `s1`, `perimeter/fw1`, `perimeter`, `fw1`;
        /// `None`: all of them.
        subject: Option<String>,
        /// The number of newest results to list; `None`: [`CHECKS_LIMIT`].
        limit: Option<usize>,
    },
    /// Lists sessions (`show sessions`).
    Sessions(SessionRequest),
    /// Adds sessions up by address, service, server or firewall (`show sessions --by`).
    Talkers(TalkerRequest),
    /// Ends sessions (`kill`).
    Kill {
        /// The sessions to end.
        filter: SessionFilter,
        /// Whether both ends of a TCP session get a reset.
        reset: bool,
        /// The operator's reason.
        reason: Option<String>,
        /// The operator.
        by: String,
    },
    /// Asks for all counters (`show counters`).
    Counters,
    /// Lists the last 1000 state changes, and the last 1000 changes by operators and configurations (`show events`).
    Events(EventFilter),
    /// Asks for the text of the configuration in force, with secrets hidden (`show config`).
    Config {
        /// Lists every key with its value instead, also those that the text leaves out.
        all: bool,
    },
    /// Asks for everything that is measured, as for `/metrics`.
    Metrics,
    /// Asks where a flow goes, and why (`explain`).
    Explain {
        /// The flow, source first.
        flow: FlowKey,
        /// Where it arrives; `None`: on the link to which its source is routed.
        from: Option<LinkOrFirewall>,
    },
    /// Overrides the state of a firewall (`set firewall`).
    SetFirewall {
        /// Name of the group; `None`: every group with a firewall of this name.
        group: Option<String>,
        /// Name of the firewall.
        name: String,
        /// The state to set; `None`: back to the one in the file.
        admin: Option<AdminState>,
        /// The operator's reason.
        reason: Option<String>,
        /// The operator.
        by: String,
        /// Whether to do it even if no firewall takes new flows then.
        force: bool,
    },
    /// Overrides the state or weight of a server (`set server`).
    SetServer {
        /// Name of the service.
        service: String,
        /// Name of the server.
        name: String,
        /// The state or weight to set, or back to the file's.
        change: ServerChange,
        /// The operator's reason.
        reason: Option<String>,
        /// The operator.
        by: String,
        /// Whether to do it even if no server takes new sessions then.
        force: bool,
    },
    /// Overrides the state of a service (`set service`).
    SetService {
        /// Name of the service.
        name: String,
        /// The state to set; `None`: back to the one in the file.
        admin: Option<AdminState>,
        /// The operator's reason.
        reason: Option<String>,
        /// The operator.
        by: String,
    },
    /// Applies a configuration file (`reload`).
    Reload {
        /// Absolute path of the file; `None`: the engine's own file.
        config: Option<PathBuf>,
        /// The engine returns to the configuration before, unless [`Request::Confirm`] comes within this time.
        confirm: Option<Duration>,
        /// The operator.
        by: String,
    },
    /// Keeps the configuration in force (`confirm`).
    Confirm {
        /// The operator.
        by: String,
    },
    /// Returns to an earlier configuration (`rollback`).
    Rollback {
        /// How many configurations to go back.
        back: usize,
        /// The operator.
        by: String,
    },
    /// Lists the kept configurations (`show configs`).
    Configs,
    /// Asks what `reload` or `rollback` would do (`plan`).
    Plan {
        /// Absolute path of the file; `None`: the engine's own file.
        config: Option<PathBuf>,
        /// How many configurations to go back, instead of reading a file.
        back: Option<usize>,
    },
    /// Probes a firewall or server at once (`probe`).
    Probe {
        /// The firewall (`group/firewall`) or server (`service/server`) to probe.
        subject: String,
    },
    /// Pings an address from the engine (`ping`).
    Ping {
        /// The address to ping.
        address: IpAddr,
        /// Where the ping leaves; `None`: as routed.
        via: Option<LinkOrFirewall>,
    },
}

/// The number of check results that an answer holds unless the request says otherwise.
pub const CHECKS_LIMIT: usize = 1000;

/// How long an engine may take for a request that walks over all its sessions.
pub const SESSION_WALK_TIMEOUT: Duration = Duration::from_secs(60);

impl Request {
    /// Whether the answer needs a walk over every session, so that [`SESSION_WALK_TIMEOUT`] applies.
    pub fn walks_over_sessions(&self) -> bool {
        matches!(self, Self::Reload { .. } | Self::Rollback { .. } | Self::Plan { .. } | Self::Kill { .. })
    }
}

/// An engine's answer, in the shape that the OpenAPI document describes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// Answers [`Request::Status`].
    Status(view::StatusView),
    /// Answers [`Request::Health`].
    Health(view::HealthView),
    /// Answers [`Request::Links`].
    Links(Vec<view::LinkView>),
    /// Answers [`Request::Neighbors`].
    Neighbors(Vec<view::NeighborView>),
    /// Answers [`Request::Firewalls`].
    Firewalls(Vec<view::FirewallView>),
    /// Answers [`Request::Peers`].
    Peers(Vec<view::PeerView>),
    /// Answers [`Request::Services`].
    Services(Vec<view::ServiceView>),
    /// Answers [`Request::Checks`].
    Checks(Vec<view::CheckResultView>),
    /// Answers [`Request::Sessions`] with one page.
    Sessions(SessionPage),
    /// Answers [`Request::Talkers`].
    Talkers(Vec<view::TalkerView>),
    /// Answers [`Request::Kill`] with one view per engine.
    Killed(Vec<view::KillView>),
    /// Answers [`Request::Counters`].
    Counters(view::CountersView),
    /// Answers [`Request::Metrics`].
    Metrics(Box<view::MeasuresView>),
    /// Answers [`Request::Events`].
    Events(Vec<view::EventView>),
    /// Answers [`Request::Config`].
    Config(view::ConfigView),
    /// Answers [`Request::Explain`].
    Explain(Box<view::ExplainView>),
    /// Answers [`Request::Probe`] with one exchange per path of the firewall or per address of the server, and
    /// [`Request::Ping`] with one exchange.
    Exchanges(Vec<view::ExchangeView>),
    /// Answers [`Request::Reload`] and [`Request::Rollback`].
    Reload(view::ReloadView),
    /// Answers [`Request::Configs`].
    Configs(Vec<view::KeptConfigView>),
    /// Answers [`Request::Plan`].
    Plan(Box<view::PlanView>),
    /// Answers the requests that override a state, and [`Request::Confirm`].
    Done(Done),
}

impl Answer {
    /// Parses the JSON answer to `request`.
    pub fn from_json(request: &Request, json: serde_json::Value) -> Result<Self, serde_json::Error> {
        use serde_json::from_value as read;
        match request {
            Request::Status => read(json).map(Self::Status),
            Request::Health => read(json).map(Self::Health),
            Request::Links => read(json).map(Self::Links),
            Request::Neighbors => read(json).map(Self::Neighbors),
            Request::Firewalls => read(json).map(Self::Firewalls),
            Request::Peers => read(json).map(Self::Peers),
            Request::Services => read(json).map(Self::Services),
            Request::Checks { .. } => read(json).map(Self::Checks),
            Request::Sessions(_) => read(json).map(|rows: Vec<_>| Self::Sessions(rows.into())),
            Request::Talkers(_) => read(json).map(Self::Talkers),
            Request::Kill { .. } => read(json).map(Self::Killed),
            Request::Counters => read(json).map(Self::Counters),
            Request::Events(_) => read(json).map(Self::Events),
            Request::Metrics => read(json).map(Self::Metrics),
            Request::Config { .. } => read(json).map(Self::Config),
            Request::Explain { .. } => read(json).map(Self::Explain),
            Request::SetFirewall { .. }
            | Request::SetServer { .. }
            | Request::SetService { .. }
            | Request::Confirm { .. } => read(json).map(Self::Done),
            Request::Reload { .. } | Request::Rollback { .. } => read(json).map(Self::Reload),
            Request::Configs => read(json).map(Self::Configs),
            Request::Plan { .. } => read(json).map(Self::Plan),
            Request::Probe { .. } | Request::Ping { .. } => read(json).map(Self::Exchanges),
        }
    }
}

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
