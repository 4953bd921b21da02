//! What is served: the operator's requests as HTTP with JSON.
//!
//! [`Request`] and [`Answer`] are the same whoever carries them. An engine answers them through [`Backend`]; threads and
//! sockets behind it are not known here.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::Admin;
use crate::engine::view;
use crate::flow::FlowKey;

/// Which sessions to list; every given part has to match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SessionFilter {
    /// An address or prefix that the source lies in.
    pub source: Option<ipnet::IpNet>,
    /// An address or prefix that the destination lies in.
    pub destination: Option<ipnet::IpNet>,
    /// `fw1` or `perimeter/fw1`.
    pub firewall: Option<String>,
    /// Session state.
    pub state: Option<String>,
    /// At most so many; default 1000.
    pub limit: Option<usize>,
}

/// Where a flow arrives, for `explain`; or by which way a ping leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// A link.
    Link(String),
    /// A firewall, `group/firewall`.
    Firewall(String),
}

/// What an operator asks of one engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `show status`.
    Status,
    /// `show links`.
    Links,
    /// `show neighbors`.
    Neighbors,
    /// `show firewalls`.
    Firewalls,
    /// `show peers`.
    Peers,
    /// `show sessions`.
    Sessions(SessionFilter),
    /// `show counters`.
    Counters,
    /// `show events`: those after `after`, at most 1000.
    Events {
        /// Sequence number.
        after: u64,
    },
    /// `show config`: the text in force, secrets hidden.
    Config,
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
    },
    /// `probe`.
    Probe {
        /// `group/firewall`.
        firewall: String,
    },
    /// `ping`.
    Ping {
        /// Whom.
        address: IpAddr,
        /// Which way; `None`: as routed.
        via: Option<Via>,
    },
}

/// The answer, in the shape of INTERFACE.md section 3.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// `show status`.
    Status(view::StatusView),
    /// `show links`.
    Links(Vec<view::LinkView>),
    /// `show neighbors`.
    Neighbors(Vec<view::NeighborView>),
    /// `show firewalls`.
    Firewalls(Vec<view::FirewallView>),
    /// `show peers`.
    Peers(Vec<view::PeerView>),
    /// `show sessions`.
    Sessions(Vec<view::SessionView>),
    /// `show counters`.
    Counters(view::CountersView),
    /// `show events`.
    Events(Vec<view::EventView>),
    /// `show config`: the text.
    Config {
        /// The text in force.
        text: String,
    },
    /// `explain`.
    Explain(view::ExplainView),
    /// `probe`: one exchange per path of the firewall; `ping`: one.
    Exchanges(Vec<view::ExchangeView>),
    /// A change was made.
    Done {
        /// What was done, in words.
        done: String,
    },
}

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "error", content = "message", rename_all = "snake_case")]
pub enum ApiError {
    /// No such thing; the message lists what there is.
    #[error("{0}")]
    NotFound(String),
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// The engine is stopping or too busy.
    #[error("{0}")]
    Unavailable(String),
}

/// One running engine, as the API sees it.
pub trait Backend: Send + Sync + 'static {
    /// Its name.
    fn engine(&self) -> &str;

    /// Answers a request within a second or so.
    fn ask(self: Arc<Self>, request: Request) -> impl Future<Output = Result<Answer, ApiError>> + Send;
}
