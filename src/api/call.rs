//! Requests as HTTP: how a client says them, in the shapes that the router reads.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::api::{ApiError, Request, ServerChange, SessionFilter, Via, flow_text};
use crate::config::Admin;

/// The largest weight of a server.
pub const WEIGHT_MAX: u16 = 256;

/// An HTTP request without its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `GET`, `POST` or `PUT`.
    pub method: &'static str,
    /// Path and query.
    pub uri: String,
    /// JSON, for changing calls.
    pub body: Option<String>,
}

impl Request {
    /// The request as HTTP.
    pub fn call(&self) -> Call {
        match self {
            Self::Status => plain("status"),
            Self::Links => plain("links"),
            Self::Neighbors => plain("neighbors"),
            Self::Firewalls => plain("firewalls"),
            Self::Peers => plain("peers"),
            Self::Services => plain("services"),
            Self::Sessions(filter) => query("sessions", &SessionsQuery::from(filter)),
            Self::Counters => plain("counters"),
            Self::Events { after } => query("events", &EventsQuery { after: Some(*after), engine: None }),
            Self::Config => plain("config"),
            Self::Explain { flow, from } => query(
                "explain",
                &ExplainQuery { flow: flow_text::show(flow), from: from.as_ref().map(Via::to_string), engine: None },
            ),
            Self::SetFirewall { group, name, admin, reason, by } => body(
                "PUT",
                "firewalls/admin",
                &SetFirewallBody {
                    group: group.clone(),
                    name: name.clone(),
                    admin: *admin,
                    reason: reason.clone(),
                    by: Some(by.clone()),
                },
            ),
            Self::SetServer { service, name, change, reason, by } => {
                let (admin, weight) = match change {
                    ServerChange::Admin(admin) => (*admin, None),
                    ServerChange::Weight(weight) => (None, Some(*weight)),
                };
                body(
                    "PUT",
                    "servers/admin",
                    &SetServerBody {
                        service: service.clone(),
                        name: name.clone(),
                        admin,
                        weight,
                        reason: reason.clone(),
                        by: Some(by.clone()),
                    },
                )
            }
            Self::SetService { name, admin, reason, by } => body(
                "PUT",
                "services/admin",
                &SetServiceBody { name: name.clone(), admin: *admin, reason: reason.clone(), by: Some(by.clone()) },
            ),
            Self::Probe { subject } => body("POST", "probe", &ProbeBody { subject: subject.clone() }),
            Self::Ping { address, via } => {
                let (link, firewall) = match via {
                    None => (None, None),
                    Some(Via::Link(link)) => (Some(link.clone()), None),
                    Some(Via::Firewall(firewall)) => (None, Some(firewall.clone())),
                };
                body("POST", "ping", &PingBody { address: *address, link, firewall })
            }
        }
    }
}

fn plain(what: &str) -> Call {
    Call { method: "GET", uri: format!("/api/v1/{what}"), body: None }
}

fn query(what: &str, query: &impl Serialize) -> Call {
    let query = serde_urlencoded::to_string(query).expect("flat structures of words and numbers can be a query");
    Call { method: "GET", uri: format!("/api/v1/{what}?{query}"), body: None }
}

fn body(method: &'static str, what: &str, body: &impl Serialize) -> Call {
    let body = serde_json::to_string(body).expect("structures of words can be JSON");
    Call { method, uri: format!("/api/v1/{what}"), body: Some(body) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlainQuery {
    pub(super) engine: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionsQuery {
    pub(super) source: Option<String>,
    pub(super) destination: Option<String>,
    pub(super) firewall: Option<String>,
    pub(super) service: Option<String>,
    pub(super) server: Option<String>,
    pub(super) state: Option<String>,
    pub(super) limit: Option<usize>,
    pub(super) engine: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    pub(super) after: Option<u64>,
    pub(super) engine: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    pub(super) flow: String,
    pub(super) from: Option<String>,
    pub(super) engine: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetFirewallBody {
    pub(super) group: Option<String>,
    pub(super) name: String,
    pub(super) admin: Option<Admin>,
    pub(super) reason: Option<String>,
    pub(super) by: Option<String>,
}

/// Either `admin` or `weight`; null, and neither, is back to the file's.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetServerBody {
    pub(super) service: String,
    pub(super) name: String,
    pub(super) admin: Option<Admin>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(super) weight: Option<Option<u16>>,
    pub(super) reason: Option<String>,
    pub(super) by: Option<String>,
}

/// Tells a null that is there from a key that is not.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<u16>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl SetServerBody {
    pub(super) fn change(&self) -> Result<ServerChange, ApiError> {
        match (self.admin, self.weight) {
            (admin, None) => Ok(ServerChange::Admin(admin)),
            (None, Some(Some(weight))) if weight > WEIGHT_MAX => {
                Err(ApiError::BadRequest(format!("a weight is 0..={WEIGHT_MAX}, found {weight}")))
            }
            (None, Some(weight)) => Ok(ServerChange::Weight(weight)),
            (Some(_), Some(_)) => Err(ApiError::BadRequest("either `admin` or `weight`, not both".to_owned())),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetServiceBody {
    pub(super) name: String,
    pub(super) admin: Option<Admin>,
    pub(super) reason: Option<String>,
    pub(super) by: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeBody {
    pub(super) subject: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PingBody {
    pub(super) address: IpAddr,
    pub(super) link: Option<String>,
    pub(super) firewall: Option<String>,
}

impl From<&SessionFilter> for SessionsQuery {
    fn from(filter: &SessionFilter) -> Self {
        Self {
            source: filter.source.map(|prefix| prefix.to_string()),
            destination: filter.destination.map(|prefix| prefix.to_string()),
            firewall: filter.firewall.clone(),
            service: filter.service.clone(),
            server: filter.server.clone(),
            state: filter.state.clone(),
            limit: filter.limit,
            engine: None,
        }
    }
}

impl SessionsQuery {
    pub(super) fn filter(self) -> Result<SessionFilter, ApiError> {
        Ok(SessionFilter {
            source: self.source.as_deref().map(address_or_prefix).transpose()?,
            destination: self.destination.as_deref().map(address_or_prefix).transpose()?,
            firewall: self.firewall,
            service: self.service,
            server: self.server,
            state: self.state,
            limit: self.limit,
        })
    }
}

/// `203.0.113.7` or `203.0.113.0/24`.
pub fn address_or_prefix(text: &str) -> Result<IpNet, ApiError> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let bad = || ApiError::BadRequest(format!("not an address or prefix: {text:?}"));
    text.parse().ok().or_else(address).ok_or_else(bad)
}
