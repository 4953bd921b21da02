//! The calls to an engine. Each struct is the query or body of its HTTP call and travels whole from the command line to
//! the engine.

mod call;
mod changes;
mod ha;
mod request;
pub mod sessions;
mod upgrade;

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use crate::api::{EventTime, LinkOrFirewall, text};
use crate::engine::view;
use crate::flow::FlowKey;
use crate::ha::explained::ExplainedHaView;
use crate::ha::view::HaView;

pub use call::{Call, HttpCall, Routing, Verb};
pub use changes::{Confirm, Ping, Plan, Probe, Reload, Rollback, SetFirewall, SetServer, SetService, WEIGHT_MAX};
pub use ha::{HaFailover, HaMaintenance, HaResync};
pub use request::{Answer, Listed, Request};
pub use sessions::{Kill, SessionRequest, TalkerRequest};
pub use upgrade::Upgrade;

/// The number of check results that an answer holds unless the request says otherwise.
pub const CHECKS_LIMIT: usize = 1000;

/// Reading calls without parameters: a name, the end of the path, what the call does, the answer, and where it goes if
/// there are several engines.
macro_rules! plain {
    ($($(#[$doc:meta])+ $name:ident: $path:literal, $summary:literal, $answer:ty, $routing:ident;)*) => {
        $(
            $(#[$doc])+
            #[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
            #[serde(deny_unknown_fields)]
            pub struct $name {}

            impl Call for $name {
                const PATH: &'static str = concat!("/api/v1/", $path);
                const SUMMARY: &'static str = $summary;
                const ROUTING: Routing = Routing::$routing;
                type Answer = $answer;
            }
        )*
    };
}

plain! {
    /// Asks for alarms, overrides and a summary (`show status`).
    Status: "status", "Alarms and overrides of the engine", view::StatusView, Each;
    /// Asks whether the engine forwards (`health`).
    Health: "health", "Whether the engine forwards", view::HealthView, Each;
    /// Lists the links (`show links`).
    Links: "links", "Links, as `ip -s link`", Vec<view::LinkView>, Each;
    /// Lists the neighbours (`show neighbors`).
    Neighbors: "neighbors", "Neighbours, as `ip neigh`", Vec<view::NeighborView>, Each;
    /// Lists the firewalls with their paths (`show firewalls`).
    Firewalls: "firewalls", "Firewalls and their paths", Vec<view::FirewallView>, Each;
    /// Lists the engines on the far sides (`show peers`).
    Peers: "peers", "The engines on the far sides", Vec<view::PeerView>, Each;
    /// Lists the services with their servers (`show services`).
    Services: "services", "Services and their servers", Vec<view::ServiceView>, Each;
    /// Asks for the cluster as each of its nodes here sees it (`show ha`); an engine that stands alone has no row.
    Ha: "ha", "Nodes of the cluster and their roles", Vec<HaView>, Each;
    // What several engines say of one cluster would repeat itself.
    /// Asks who is active in the cluster, and why (`explain ha`); refused by an engine that stands alone.
    ExplainHa: "explain/ha", "Who is active in the cluster, and why", Box<ExplainedHaView>, One;
    /// Lists the kept configurations (`show configs`).
    Configs: "configs", "The last configurations, newest first", Vec<view::KeptConfigView>, Each;
    // A sum over engines would count packets twice, and a flat object has no place for an engine's name.
    /// Asks for all counters (`show counters`).
    Counters: "counters", "Counters of one instant", view::CountersView, One;
    /// Asks for everything that is measured, as for `/metrics`.
    Metrics: "measures", "All measurements, as for `/metrics`", Box<view::MeasuresView>, One;
}

/// Which check results to list (`show checks`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Checks {
    /// Only results of this server, firewall, service or group: `web/s1`, `web`, `perimeter/fw1`, `fw1`.
    pub subject: Option<String>,
    /// The number of newest results to list; absent: 1000. The engine keeps the last 20 of each server and family, and
    /// of each path through a firewall.
    pub limit: Option<usize>,
}

impl Call for Checks {
    const PATH: &'static str = "/api/v1/checks";
    const SUMMARY: &'static str = "The last results of checks, oldest first";
    const ROUTING: Routing = Routing::EachByTime;
    type Answer = Vec<view::CheckResultView>;

    fn newest(&self) -> Option<usize> {
        Some(self.limit.unwrap_or(CHECKS_LIMIT))
    }
}

/// Which events to list (`show events`); an event has to match every part that is given. The engine keeps the last 1000
/// state changes, and the last 1000 changes by operators and configurations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct EventFilter {
    // If no event has this number yet, it is from an earlier start, and all events are newer.
    /// Only events with a larger number.
    #[serde(default)]
    #[param(value_type = Option<u64>)]
    pub after: u64,
    /// Only events since this time: `10m` ago, or `2026-11-21T11:00:00Z`.
    #[serde(default, with = "text::option")]
    #[param(value_type = Option<String>)]
    pub since: Option<EventTime>,
    /// Only events of these kinds, separated by commas: `admin`, `admin,server`.
    #[serde(default, rename = "kind", with = "text::words", skip_serializing_if = "Vec::is_empty")]
    #[param(value_type = Option<String>)]
    pub kinds: Vec<String>,
    /// Only events about this object: `fw1`, `perimeter/fw1`, `web/s1`, `perimeter`.
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

impl Call for EventFilter {
    const PATH: &'static str = "/api/v1/events";
    const SUMMARY: &'static str = "State changes, oldest first";
    const ROUTING: Routing = Routing::EachByTime;
    type Answer = Vec<view::EventView>;

    fn newest(&self) -> Option<usize> {
        self.limit
    }
}

/// How much of the configuration in force to show, with secrets hidden (`show config`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// True: every key with its value, and whether that is the default; false or absent: the file as it was read.
    #[serde(default, skip_serializing_if = "is_false")]
    #[param(value_type = Option<bool>)]
    pub all: bool,
}

impl Call for Config {
    const PATH: &'static str = "/api/v1/config";
    const SUMMARY: &'static str = "The configuration in force";
    const ROUTING: Routing = Routing::Each;
    type Answer = view::ConfigView;
}

/// The flow to explain: where it goes, and why (`explain`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// The flow, source first: `tcp 198.51.100.7:40000 203.0.113.80:80`, `icmp 198.51.100.7 203.0.113.80`, `esp A B`.
    #[serde(with = "text::flow")]
    #[param(value_type = String)]
    pub flow: FlowKey,
    /// Where it arrives: a link, or group/firewall; absent: on the link to which its source is routed.
    #[serde(default, with = "text::option")]
    #[param(value_type = Option<String>)]
    pub from: Option<LinkOrFirewall>,
}

impl Call for Explain {
    const PATH: &'static str = "/api/v1/explain";
    const SUMMARY: &'static str = "Where a flow goes, and why";
    const ROUTING: Routing = Routing::One;
    type Answer = Box<view::ExplainView>;
}

/// Whether a key is left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
