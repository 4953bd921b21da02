//! What stands in the query or body of a request over HTTP, and which [`Request`] it means.

mod sessions;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::guard::Caller;
use crate::api::{ApiError, EventFilter, Request, ServerChange, Via, flow_text};
use crate::config::Admin;
use crate::time::Duration;

pub(super) use sessions::{KillBody, SessionsQuery, TalkersQuery};

/// The largest weight of a server.
pub const WEIGHT_MAX: u16 = 256;

/// How long a confirmation may take.
const CONFIRM: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// A query that asks something.
pub(super) trait Question: DeserializeOwned + IntoParams + Send {
    /// The engine that is meant, and what it is asked.
    fn request(self) -> Result<(Option<String>, Request), ApiError>;
}

/// A body that changes something, or makes the engine send something.
pub(super) trait Order: DeserializeOwned + ToSchema + Send {
    /// What the engine is to do.
    fn request(self, caller: &Caller) -> Result<Request, ApiError>;
}

/// Asks one engine of several.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PlainQuery {
    /// The engine; absent: the only one, or all of them where rows can be told apart.
    pub(super) engine: Option<String>,
}

/// Which events.
#[derive(Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// Only those with a larger number.
    pub(super) after: Option<u64>,
    /// Only those of no earlier time: `10m` ago, or `2026-11-21T11:00:00Z`.
    pub(super) since: Option<String>,
    /// Only those of this kind, or of these: `admin`, `admin,server`.
    pub(super) kind: Option<String>,
    /// Only those about this: `fw1`, `perimeter/fw1`, `web/s1`, `perimeter`.
    pub(super) subject: Option<String>,
    /// The last so many of those that match.
    pub(super) limit: Option<usize>,
    /// The engine; absent: every one.
    pub(super) engine: Option<String>,
}

/// Which results of checks.
#[derive(Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ChecksQuery {
    /// Only those of this: `web/s1`, `web`, `perimeter/fw1`, `fw1`.
    pub(super) subject: Option<String>,
    /// The last so many of those that match; absent: 1000. Twenty are kept of each address of a server and each path of a firewall.
    pub(super) limit: Option<usize>,
    /// The engine; absent: every one.
    pub(super) engine: Option<String>,
}

/// How much of the configuration.
#[derive(Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigQuery {
    /// True: every key with its value, those that the file leaves to their defaults marked; else the file as it was read.
    pub(super) all: Option<bool>,
    /// The engine; absent: every one.
    pub(super) engine: Option<String>,
}

/// Which flow.
#[derive(Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    /// `tcp 198.51.100.7:40000 203.0.113.80:80`, `icmp 198.51.100.7 203.0.113.80`, `esp A B`.
    pub(super) flow: String,
    /// Where it arrives: a link, or group/firewall; absent: where its source is routed.
    pub(super) from: Option<String>,
    /// The engine; absent: the only one.
    pub(super) engine: Option<String>,
}

/// The administrative state of a firewall.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetFirewallBody {
    /// Group; null: every group that knows the name.
    pub(super) group: Option<String>,
    /// Firewall.
    pub(super) name: String,
    /// The override; null: back to the file's.
    pub(super) admin: Option<Admin>,
    /// Why: one line of 200 letters at most.
    pub(super) reason: Option<String>,
    /// Who one claims to be, on the control socket: told beside the user that the kernel names. On the network the name of the
    /// token stands for it.
    pub(super) by: Option<String>,
    /// Also if no firewall takes new flows then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) force: bool,
}

/// True for what is not said in a body.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Letters of a reason, at most.
const REASON_MAX: usize = 200;

/// A reason as it may stand in a line.
fn reason(text: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(text) = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.chars().any(char::is_control) {
        return Err(ApiError::BadRequest("a reason is one line, without control characters".to_owned()));
    }
    match text.chars().count() {
        0..=REASON_MAX => Ok(Some(text)),
        letters => Err(ApiError::BadRequest(format!("a reason has {REASON_MAX} letters at most, found {letters}"))),
    }
}

/// Either `admin` or `weight`; null is back to the file's. `admin` null, or neither, ends what was set of both.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetServerBody {
    /// Service.
    pub(super) service: String,
    /// Server.
    pub(super) name: String,
    /// The override; null: back to the file's.
    pub(super) admin: Option<Admin>,
    /// The weight, 0..=256; null: back to the file's.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>, maximum = 256)]
    pub(super) weight: Option<Option<u16>>,
    /// Why: one line of 200 letters at most.
    pub(super) reason: Option<String>,
    /// Who one claims to be, on the control socket: told beside the user that the kernel names. On the network the name of the
    /// token stands for it.
    pub(super) by: Option<String>,
    /// Also if no server takes new sessions then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) force: bool,
}

/// Tells a null that is there from a key that is not.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<u16>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// The administrative state of a service.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetServiceBody {
    /// Service.
    pub(super) name: String,
    /// The override; null: back to the file's.
    pub(super) admin: Option<Admin>,
    /// Why.
    pub(super) reason: Option<String>,
    /// Who one claims to be, on the control socket: told beside the user that the kernel names. On the network the name of the
    /// token stands for it.
    pub(super) by: Option<String>,
}

/// What to check now.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeBody {
    /// `group/firewall` or `service/server`.
    pub(super) subject: String,
}

/// Whom to ping; either `link` or `firewall` says by which way, absent: as routed.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PingBody {
    /// Whom.
    #[schema(value_type = String)]
    pub(super) address: IpAddr,
    /// On this link.
    pub(super) link: Option<String>,
    /// Through this firewall, `group/firewall`.
    pub(super) firewall: Option<String>,
}

impl Question for EventsQuery {
    fn request(self) -> Result<(Option<String>, Request), ApiError> {
        let kinds = self.kind.iter().flat_map(|kinds| kinds.split(',')).map(str::trim).filter(|kind| !kind.is_empty());
        let filter = EventFilter {
            after: self.after.unwrap_or(0),
            since: self.since.map(|since| since.parse()).transpose()?,
            kinds: kinds.map(str::to_owned).collect(),
            subject: self.subject,
            limit: self.limit,
        };
        Ok((self.engine, Request::Events(filter)))
    }
}

impl Question for ChecksQuery {
    fn request(self) -> Result<(Option<String>, Request), ApiError> {
        Ok((self.engine, Request::Checks { subject: self.subject, limit: self.limit }))
    }
}

impl Question for ConfigQuery {
    fn request(self) -> Result<(Option<String>, Request), ApiError> {
        Ok((self.engine, Request::Config { all: self.all.unwrap_or(false) }))
    }
}

impl Question for ExplainQuery {
    fn request(self) -> Result<(Option<String>, Request), ApiError> {
        let flow = flow_text::parse(&self.flow).map_err(|error| ApiError::BadRequest(error.to_string()))?;
        let from = self.from.map(|from| from.parse()).transpose()?;
        Ok((self.engine, Request::Explain { flow, from }))
    }
}

impl Order for SetFirewallBody {
    fn request(self, caller: &Caller) -> Result<Request, ApiError> {
        let Self { group, name, admin, reason: why, by, force } = self;
        Ok(Request::SetFirewall { group, name, admin, reason: reason(why)?, by: caller.by(by.as_deref()), force })
    }
}

impl Order for SetServerBody {
    fn request(self, caller: &Caller) -> Result<Request, ApiError> {
        let Self { service, name, admin, weight, reason: why, by, force } = self;
        let change = match (admin, weight) {
            (admin, None) => ServerChange::Admin(admin),
            (None, Some(Some(weight))) if weight > WEIGHT_MAX => {
                return Err(ApiError::BadRequest(format!("a weight is 0..={WEIGHT_MAX}, found {weight}")));
            }
            (None, Some(weight)) => ServerChange::Weight(weight),
            (Some(_), Some(_)) => return Err(ApiError::BadRequest("either `admin` or `weight`, not both".to_owned())),
        };
        let (reason, by) = (reason(why)?, caller.by(by.as_deref()));
        Ok(Request::SetServer { service, name, change, reason, by, force })
    }
}

impl Order for SetServiceBody {
    fn request(self, caller: &Caller) -> Result<Request, ApiError> {
        let Self { name, admin, reason: why, by } = self;
        Ok(Request::SetService { name, admin, reason: reason(why)?, by: caller.by(by.as_deref()) })
    }
}

/// Another configuration.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReloadBody {
    /// Absolute path of the file on the engine's machine; null: the engine's own file.
    #[schema(value_type = Option<String>)]
    pub(super) config: Option<PathBuf>,
    /// The engine returns to what was before, unless a call of `confirm` comes within so many milliseconds, 1 s to 1 day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) confirm_ms: Option<u64>,
    /// Who one claims to be, on the control socket: told beside the user that the kernel names. On the network the name of the
    /// token stands for it.
    pub(super) by: Option<String>,
}

/// The configuration in force is to stay.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmBody {
    /// Who one claims to be, on the control socket: told beside the user that the kernel names. On the network the name of the
    /// token stands for it.
    pub(super) by: Option<String>,
}

/// An earlier configuration.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackBody {
    /// So many before the one in force; null: 1, the last one.
    pub(super) back: Option<usize>,
    /// Who one claims to be, on the control socket: told beside the user that the kernel names. On the network the name of the
    /// token stands for it.
    pub(super) by: Option<String>,
}

/// What another configuration would do.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanBody {
    /// Absolute path of the file on the engine's machine; null: the engine's own file.
    #[schema(value_type = Option<String>)]
    pub(super) config: Option<PathBuf>,
    /// Instead of a file: so many configurations before the one in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) back: Option<usize>,
}

/// Which directory the engine was started in is nobody's business.
fn absolute(config: Option<PathBuf>) -> Result<Option<PathBuf>, ApiError> {
    match config {
        Some(path) if !path.is_absolute() => Err(ApiError::BadRequest(format!(
            "`config` has to be an absolute path, found {:?}",
            path.display().to_string()
        ))),
        Some(_) | None => Ok(config),
    }
}

impl Order for ReloadBody {
    fn request(self, caller: &Caller) -> Result<Request, ApiError> {
        let confirm = self.confirm_ms.map(Duration::from_millis);
        if let Some(within) = confirm.filter(|within| !CONFIRM.contains(within)) {
            return Err(ApiError::BadRequest(format!("a confirmation may take 1 s to 1 day, found {within:?}")));
        }
        Ok(Request::Reload { config: absolute(self.config)?, confirm, by: caller.by(self.by.as_deref()) })
    }
}

impl Order for ConfirmBody {
    fn request(self, caller: &Caller) -> Result<Request, ApiError> {
        Ok(Request::Confirm { by: caller.by(self.by.as_deref()) })
    }
}

impl Order for RollbackBody {
    fn request(self, caller: &Caller) -> Result<Request, ApiError> {
        Ok(Request::Rollback { back: self.back.unwrap_or(1), by: caller.by(self.by.as_deref()) })
    }
}

impl Order for PlanBody {
    fn request(self, _: &Caller) -> Result<Request, ApiError> {
        match (self.config, self.back) {
            (Some(_), Some(_)) => Err(ApiError::BadRequest("either `config` or `back`, not both".to_owned())),
            (config, back) => Ok(Request::Plan { config: absolute(config)?, back }),
        }
    }
}

impl Order for ProbeBody {
    fn request(self, _: &Caller) -> Result<Request, ApiError> {
        Ok(Request::Probe { subject: self.subject })
    }
}

impl Order for PingBody {
    fn request(self, _: &Caller) -> Result<Request, ApiError> {
        let via = match (self.link, self.firewall) {
            (None, None) => None,
            (Some(link), None) => Some(Via::Link(link)),
            (None, Some(firewall)) => Some(Via::Firewall(firewall)),
            (Some(_), Some(_)) => {
                return Err(ApiError::BadRequest("either `link` or `firewall`, not both".to_owned()));
            }
        };
        Ok(Request::Ping { address: self.address, via })
    }
}

impl From<EventFilter> for EventsQuery {
    fn from(filter: EventFilter) -> Self {
        let EventFilter { after, since, kinds, subject, limit } = filter;
        let since = since.map(|since| since.to_string());
        let kind = (!kinds.is_empty()).then(|| kinds.join(","));
        Self { after: Some(after), since, kind, subject, limit, engine: None }
    }
}

/// `203.0.113.7` or `203.0.113.0/24`.
pub fn address_or_prefix(text: &str) -> Result<IpNet, ApiError> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let bad = || ApiError::BadRequest(format!("not an address or prefix: {text:?}"));
    text.parse().ok().or_else(address).ok_or_else(bad)
}
