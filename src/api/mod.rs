//! What is served: the operator's requests as HTTP with JSON.
//!
//! [`Request`] and [`Answer`] are the same whoever carries them. An engine answers them through [`Backend`]; threads and
//! sockets behind it are not known here.

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

use crate::config::Admin;
use crate::engine::view;
use crate::flow::FlowKey;
use crate::time::Duration;

pub use crate::engine::controller::ServerChange;
pub use crate::flow::text as flow_text;
pub use call::Call;
pub use capture::{CaptureRequest, Chunk, Download};
pub use engines::Engines;
pub use parameters::{WEIGHT_MAX, address_or_prefix};
pub use router::router;
pub use sessions::{Cursor, SessionFilter, SessionPage, SessionQuestion, SessionSort, TalkerQuestion, TalkersBy};

/// Which events to list; every given part has to match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// Those with a larger number. A number that is not given away yet is of an earlier start of the engine: all are newer.
    pub after: u64,
    /// Those of no earlier time.
    pub since: Option<Since>,
    /// Those of these kinds; none: of every kind.
    pub kinds: Vec<String>,
    /// Those about this: `fw1`, `perimeter/fw1`, `web/s1`, `perimeter`.
    pub subject: Option<String>,
    /// The last so many of those that match.
    pub limit: Option<usize>,
}

impl EventFilter {
    /// All that came after event number `after`.
    pub fn after(after: u64) -> Self {
        Self { after, ..Self::default() }
    }
}

/// A moment of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// By the wall clock.
    At(SystemTime),
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ago(ago) => write!(f, "{}ms", ago.as_millis()),
            Self::At(at) => write!(f, "{}", humantime::format_rfc3339_millis(*at)),
        }
    }
}

impl FromStr for Since {
    type Err = ApiError;

    /// `10m`, `2h4m`; `2026-11-21T11:00:00Z`, `2026-11-21 11:00:00` (UTC).
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

/// Where a flow arrives, for `explain`; or by which way a ping leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// A link.
    Link(String),
    /// A firewall, `group/firewall`.
    Firewall(String),
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(name) | Self::Firewall(name) => f.write_str(name),
        }
    }
}

impl FromStr for Via {
    type Err = ApiError;

    /// `LINK` or `GROUP/FIREWALL`: no name has a slash.
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

/// What an operator asks of one engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `show status`.
    Status,
    /// `health`.
    Health,
    /// `show links`.
    Links,
    /// `show neighbors`.
    Neighbors,
    /// `show firewalls`.
    Firewalls,
    /// `show peers`.
    Peers,
    /// `show services`.
    Services,
    /// `show checks`: the last results of checks and probes.
    Checks {
        /// `web/s1`, `web`, `s1`, `perimeter/fw1`, `perimeter`, `fw1`; `None`: all.
        subject: Option<String>,
        /// The last so many; `None`: [`CHECKS_LIMIT`].
        limit: Option<usize>,
    },
    /// `show sessions`.
    Sessions(SessionQuestion),
    /// `show sessions --by`.
    Talkers(TalkerQuestion),
    /// `kill`.
    Kill {
        /// Which sessions.
        filter: SessionFilter,
        /// TCP: the ends are told by a reset.
        reset: bool,
        /// Why.
        reason: Option<String>,
        /// Who.
        by: String,
    },
    /// `show counters`.
    Counters,
    /// `show events`: the last 1000 state changes, and the last 1000 of what operators and configurations changed.
    Events(EventFilter),
    /// `show config`: the text in force, secrets hidden.
    Config {
        /// Every key with its value instead, those that the text leaves out too.
        all: bool,
    },
    /// Everything that is measured: what `/metrics` is made of.
    Measures,
    /// `explain`.
    Explain {
        /// The flow, source first.
        flow: FlowKey,
        /// Where it arrives; `None`: where its source is routed.
        from: Option<Via>,
    },
    /// `set firewall`.
    SetFirewall {
        /// Group; `None`: every group that knows the name.
        group: Option<String>,
        /// Firewall.
        name: String,
        /// The override; `None`: back to the file's.
        admin: Option<Admin>,
        /// Why.
        reason: Option<String>,
        /// Who.
        by: String,
        /// Also if no firewall takes new flows then.
        force: bool,
    },
    /// `set server`.
    SetServer {
        /// Service.
        service: String,
        /// Server.
        name: String,
        /// The override, or its end.
        change: ServerChange,
        /// Why.
        reason: Option<String>,
        /// Who.
        by: String,
        /// Also if no server takes new sessions then.
        force: bool,
    },
    /// `set service`.
    SetService {
        /// Service.
        name: String,
        /// The override; `None`: back to the file's.
        admin: Option<Admin>,
        /// Why.
        reason: Option<String>,
        /// Who.
        by: String,
    },
    /// `reload`.
    Reload {
        /// The file, by its absolute path; `None`: the engine's own.
        config: Option<PathBuf>,
        /// The engine returns to what was before, unless [`Request::Confirm`] comes within this time.
        confirm: Option<Duration>,
        /// Who.
        by: String,
    },
    /// `confirm`: the configuration in force is to stay.
    Confirm {
        /// Who.
        by: String,
    },
    /// `rollback`.
    Rollback {
        /// So many configurations before the one in force.
        back: usize,
        /// Who.
        by: String,
    },
    /// `show configs`: the last configurations.
    Configs,
    /// `plan`: what `reload` or `rollback` would do.
    Plan {
        /// The file, by its absolute path; `None`: the engine's own.
        config: Option<PathBuf>,
        /// So many configurations before the one in force, instead of a file.
        back: Option<usize>,
    },
    /// `probe`.
    Probe {
        /// `group/firewall` or `service/server`.
        subject: String,
    },
    /// `ping`.
    Ping {
        /// Whom.
        address: IpAddr,
        /// Which way; `None`: as routed.
        via: Option<Via>,
    },
}

/// Results of checks that are told to who does not say how many.
pub const CHECKS_LIMIT: usize = 1000;

/// How long an engine is given for what walks over all its sessions.
pub const WALK_PATIENCE: Duration = Duration::from_secs(60);

impl Request {
    /// True if the answer takes a look at every session: [`WALK_PATIENCE`] holds.
    pub fn walks_over_sessions(&self) -> bool {
        matches!(self, Self::Reload { .. } | Self::Rollback { .. } | Self::Plan { .. } | Self::Kill { .. })
    }
}

/// The answer, in the shape of INTERFACE.md section 3.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// `show status`.
    Status(view::StatusView),
    /// `health`.
    Health(view::HealthView),
    /// `show links`.
    Links(Vec<view::LinkView>),
    /// `show neighbors`.
    Neighbors(Vec<view::NeighborView>),
    /// `show firewalls`.
    Firewalls(Vec<view::FirewallView>),
    /// `show peers`.
    Peers(Vec<view::PeerView>),
    /// `show services`.
    Services(Vec<view::ServiceView>),
    /// `show checks`.
    Checks(Vec<view::CheckResultView>),
    /// `show sessions`.
    Sessions(SessionPage),
    /// `show sessions --by`.
    Talkers(Vec<view::TalkerView>),
    /// `kill`: one of each engine.
    Killed(Vec<view::KillView>),
    /// `show counters`.
    Counters(view::CountersView),
    /// Everything that is measured.
    Measures(Box<view::MeasuresView>),
    /// `show events`.
    Events(Vec<view::EventView>),
    /// `show config`: the text.
    Config(view::ConfigView),
    /// `explain`.
    Explain(Box<view::ExplainView>),
    /// `probe`: one exchange per path of the firewall, or per address of the server; `ping`: one.
    Exchanges(Vec<view::ExchangeView>),
    /// `reload`, `rollback`.
    Reload(view::ReloadView),
    /// `show configs`.
    Configs(Vec<view::KeptConfigView>),
    /// `plan`.
    Plan(Box<view::PlanView>),
    /// A change was made.
    Done(Done),
}

impl Answer {
    /// Understands the JSON that answers `request`.
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
            Request::Measures => read(json).map(Self::Measures),
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
    /// Orders that stand elsewhere, and are undone there only: what was changed is held by them as before.
    #[serde(default)]
    pub held: Vec<view::OrderView>,
    /// What follows from it that may not be meant.
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
    /// No such thing; the message lists what there is.
    #[error("{0}")]
    NotFound(String),
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// Nobody knows who asks.
    #[error("{0}")]
    Unauthorized(String),
    /// Who asks may not.
    #[error("{0}")]
    Forbidden(String),
    /// As things stand it would do harm, and nothing has changed; the message says how it is done all the same.
    #[error("{0}")]
    Conflict(String),
    /// The input is bad, and nothing has changed: every reason, with its place.
    #[error("{0}")]
    Refused(String),
    /// The engine is stopping or too busy.
    #[error("{0}")]
    Unavailable(String),
}

/// One running engine, as the API sees it.
pub trait Backend: Send + Sync + 'static {
    /// Its name.
    fn engine(&self) -> &str;

    /// What is measured of the process that runs it; `None` where that is not known.
    fn process(&self) -> Option<metrics::Process> {
        None
    }

    /// Answers a request within a second or so.
    fn ask(self: Arc<Self>, request: Request) -> impl Future<Output = Result<Answer, ApiError>> + Send;

    /// Starts a capture. What stands for an engine and has no packets refuses.
    fn capture(&self, request: CaptureRequest) -> Result<Download, ApiError> {
        let CaptureRequest { .. } = request;
        Err(ApiError::Unavailable(format!("engine {} has no packets to show", self.engine())))
    }

    /// Ends the capture of that name; what was captured still comes.
    fn end_capture(&self, id: &str) -> Result<(), ApiError> {
        Err(ApiError::NotFound(format!("engine {} has no capture {id:?}", self.engine())))
    }
}
