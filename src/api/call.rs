//! Turns requests into HTTP calls, as a client sends them and the router reads them.

use serde::Serialize;

use crate::api::parameters::{ChecksQuery, TalkersQuery};
use crate::api::parameters::{ConfigQuery, EventsQuery, ExplainQuery, KillBody, PingBody, ProbeBody, SessionsQuery};
use crate::api::parameters::{
    ConfirmBody, PlanBody, ReloadBody, RollbackBody, SetFirewallBody, SetServerBody, SetServiceBody,
};
use crate::api::{LinkOrFirewall, Request, ServerChange, flow_text};

/// An HTTP request without its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCall {
    /// The method: `GET`, `POST`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// Path and query.
    pub uri: String,
    /// The JSON body of a changing call.
    pub body: Option<String>,
}

impl Request {
    /// The request as an HTTP call.
    pub fn call(&self) -> HttpCall {
        match self.clone() {
            Self::Status => plain("status"),
            Self::Health => plain("health"),
            Self::Links => plain("links"),
            Self::Neighbors => plain("neighbors"),
            Self::Firewalls => plain("firewalls"),
            Self::Peers => plain("peers"),
            Self::Services => plain("services"),
            Self::Checks { subject, limit } => query("checks", &ChecksQuery { subject, limit, engine: None }),
            Self::Sessions(question) => query("sessions", &SessionsQuery::from(question)),
            Self::Talkers(question) => query("talkers", &TalkersQuery::from(question)),
            Self::Kill { filter, reset, reason, by } => {
                body("POST", "sessions/kill", &KillBody::new(filter, reset, reason, by))
            }
            Self::Counters => plain("counters"),
            Self::Metrics => plain("measures"),
            Self::Events(filter) => query("events", &EventsQuery::from(filter)),
            Self::Config { all: false } => plain("config"),
            Self::Config { all: true } => query("config", &ConfigQuery { all: Some(true), engine: None }),
            Self::Explain { flow, from } => {
                let from = from.map(|from| from.to_string());
                query("explain", &ExplainQuery { flow: flow_text::format(&flow), from, engine: None })
            }
            Self::SetFirewall { group, name, admin, reason, by, force } => {
                body("PUT", "firewalls/admin", &SetFirewallBody { group, name, admin, reason, by: Some(by), force })
            }
            Self::SetServer { service, name, change, reason, by, force } => {
                let (admin, weight) = match change {
                    ServerChange::Admin(admin) => (admin, None),
                    ServerChange::Weight(weight) => (None, Some(weight)),
                };
                let by = Some(by);
                body("PUT", "servers/admin", &SetServerBody { service, name, admin, weight, reason, by, force })
            }
            Self::SetService { name, admin, reason, by } => {
                body("PUT", "services/admin", &SetServiceBody { name, admin, reason, by: Some(by) })
            }
            Self::Reload { config, confirm, by } => {
                let confirm_ms = confirm.map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
                body("POST", "reload", &ReloadBody { config, confirm_ms, by: Some(by) })
            }
            Self::Confirm { by } => body("POST", "confirm", &ConfirmBody { by: Some(by) }),
            Self::Rollback { back, by } => body("POST", "rollback", &RollbackBody { back: Some(back), by: Some(by) }),
            Self::Configs => plain("configs"),
            Self::Plan { config, back } => body("POST", "plan", &PlanBody { config, back }),
            Self::Probe { subject } => body("POST", "probe", &ProbeBody { subject }),
            Self::Ping { address, via } => {
                let (link, firewall) = match via {
                    None => (None, None),
                    Some(LinkOrFirewall::Link(link)) => (Some(link), None),
                    Some(LinkOrFirewall::Firewall(firewall)) => (None, Some(firewall)),
                };
                body("POST", "ping", &PingBody { address, link, firewall })
            }
        }
    }
}

fn plain(what: &str) -> HttpCall {
    HttpCall { method: "GET", uri: format!("/api/v1/{what}"), body: None }
}

fn query(what: &str, query: &impl Serialize) -> HttpCall {
    let query = serde_urlencoded::to_string(query).expect("flat structures of words and numbers can be a query");
    HttpCall { method: "GET", uri: format!("/api/v1/{what}?{query}"), body: None }
}

fn body(method: &'static str, what: &str, body: &impl Serialize) -> HttpCall {
    let body = serde_json::to_string(body).expect("structures of words can be JSON");
    HttpCall { method, uri: format!("/api/v1/{what}"), body: Some(body) }
}
