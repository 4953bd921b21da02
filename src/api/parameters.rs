//! Queries and bodies of HTTP requests, and their conversion to [`Request`].

mod sessions;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::guard::Caller;
use crate::api::{ApiError, EventFilter, LinkOrFirewall, Request, ServerChange, flow_text};
use crate::config::AdminState;
use crate::time::Duration;

pub(super) use sessions::{KillBody, SessionsQuery, TalkersQuery};

/// The largest weight of a server.
pub const WEIGHT_MAX: u16 = 256;

/// Range of the time within which a configuration may have to be confirmed.
const CONFIRM_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// The query of a reading call.
pub(super) trait ReadCall: DeserializeOwned + IntoParams + Send {
    /// The engine, if one is named, and the request to it.
    fn request(self) -> Result<(Option<String>, Request), ApiError>;
}

/// The body of a call that changes something, or makes the engine send something.
pub(super) trait ChangeCall: DeserializeOwned + ToSchema + Send {
    /// The request to the engine.
    fn request(self, caller: &Caller) -> Result<Request, ApiError>;
}

/// Names the engine of several.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PlainQuery {
    /// The engine; absent: the only one, or all of them where rows can be told apart.
    pub(super) engine: Option<String>,
}

/// Which events to list.
#[derive(Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// Only events with a larger number.
    pub(super) after: Option<u64>,
    /// Only events since this time: `10m` ago, or `2026-11-21T11:00:00Z`.
    pub(super) since: Option<String>,
    /// Only events of these kinds, separated by commas: `admin`, `admin,server`.
    pub(super) kind: Option<String>,
    /// Only events about this object: `fw1`, `perimeter/fw1`, `web/s1`, `perimeter`.
    pub(super) subject: Option<String>,
    /// Number of events, at most: the last of those that match.
    pub(super) limit: Option<usize>,
    /// The engine; absent: every one.
    pub(super) engine: Option<String>,
}

/// Which check results to list.
#[derive(Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ChecksQuery {
    /// Only results of this server, firewall, service or group: `web/s1`, `web`, `perimeter/fw1`, `fw1`.
    pub(super) subject: Option<String>,
    /// The number of newest results to list; absent: 1000. The engine keeps the last 20 of each server and family, and of each path
    /// through a firewall.
    pub(super) limit: Option<usize>,
    /// The engine; absent: every one.
    pub(super) engine: Option<String>,
}

/// How much of the configuration to show.
#[derive(Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigQuery {
    /// True: every key with its value, and whether that is the default; false or absent: the file as it was read.
    pub(super) all: Option<bool>,
    /// The engine; absent: every one.
    pub(super) engine: Option<String>,
}

/// The flow to explain.
#[derive(Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    /// The flow, source first: `tcp 198.51.100.7:40000 203.0.113.80:80`, `icmp 198.51.100.7 203.0.113.80`, `esp A B`.
    pub(super) flow: String,
    /// Where it arrives: a link, or group/firewall; absent: on the link to which its source is routed.
    pub(super) from: Option<String>,
    /// The engine; absent: the only one.
    pub(super) engine: Option<String>,
}

/// The administrative state to set for a firewall.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetFirewallBody {
    /// Name of the group; null: every group with a firewall of this name.
    pub(super) group: Option<String>,
    /// Name of the firewall.
    pub(super) name: String,
    /// The state to set; null: back to the one in the file.
    pub(super) admin: Option<AdminState>,
    /// The reason: one line of at most 200 characters.
    pub(super) reason: Option<String>,
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub(super) by: Option<String>,
    /// Whether to do it even if no firewall takes new flows then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) force: bool,
}

/// Whether a key is left out of the body.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Number of characters of a reason, at most.
const REASON_MAX: usize = 200;

/// Checks that a reason fits in one line; an empty one is none.
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

/// Either `admin` or `weight`; null sets it back to the one in the file. If `admin` is null or both are absent, both
/// are set back.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetServerBody {
    /// Name of the service.
    pub(super) service: String,
    /// Name of the server.
    pub(super) name: String,
    /// The state to set; null: back to the one in the file.
    pub(super) admin: Option<AdminState>,
    /// The weight to set, 0..=256; null: back to the one in the file.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>, maximum = 256)]
    pub(super) weight: Option<Option<u16>>,
    /// The reason: one line of at most 200 characters.
    pub(super) reason: Option<String>,
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub(super) by: Option<String>,
    /// Whether to do it even if no server takes new sessions then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) force: bool,
}

/// Tells a key with the value null from a key that is absent.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<u16>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// The administrative state to set for a service.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetServiceBody {
    /// Name of the service.
    pub(super) name: String,
    /// The state to set; null: back to the one in the file.
    pub(super) admin: Option<AdminState>,
    /// The reason: one line of at most 200 characters.
    pub(super) reason: Option<String>,
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub(super) by: Option<String>,
}

/// What to probe now.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeBody {
    /// The firewall (`group/firewall`) or server (`service/server`) to probe.
    pub(super) subject: String,
}

/// The address to ping. Either `link` or `firewall` says where the ping leaves; without them it is routed.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PingBody {
    /// The address to ping.
    #[schema(value_type = String)]
    pub(super) address: IpAddr,
    /// The link on which the ping leaves.
    pub(super) link: Option<String>,
    /// The firewall through which the ping goes, `group/firewall`.
    pub(super) firewall: Option<String>,
}

impl ReadCall for EventsQuery {
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

impl ReadCall for ChecksQuery {
    fn request(self) -> Result<(Option<String>, Request), ApiError> {
        Ok((self.engine, Request::Checks { subject: self.subject, limit: self.limit }))
    }
}

impl ReadCall for ConfigQuery {
    fn request(self) -> Result<(Option<String>, Request), ApiError> {
        Ok((self.engine, Request::Config { all: self.all.unwrap_or(false) }))
    }
}

impl ReadCall for ExplainQuery {
    fn request(self) -> Result<(Option<String>, Request), ApiError> {
        let flow = flow_text::parse(&self.flow).map_err(|error| ApiError::BadRequest(error.to_string()))?;
        let from = self.from.map(|from| from.parse()).transpose()?;
        Ok((self.engine, Request::Explain { flow, from }))
    }
}

impl ChangeCall for SetFirewallBody {
    fn request(self, caller: &Caller) -> Result<Request, ApiError> {
        let Self { group, name, admin, reason: why, by, force } = self;
        Ok(Request::SetFirewall { group, name, admin, reason: reason(why)?, by: caller.by(by.as_deref()), force })
    }
}

impl ChangeCall for SetServerBody {
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

impl ChangeCall for SetServiceBody {
    fn request(self, caller: &Caller) -> Result<Request, ApiError> {
        let Self { name, admin, reason: why, by } = self;
        Ok(Request::SetService { name, admin, reason: reason(why)?, by: caller.by(by.as_deref()) })
    }
}

/// Which configuration to load, and whether it has to be confirmed.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReloadBody {
    /// Absolute path of the file on the engine's machine; null: the engine's own file.
    #[schema(value_type = Option<String>)]
    pub(super) config: Option<PathBuf>,
    /// The engine returns to the configuration before, unless a call of `confirm` comes within this many milliseconds
    /// (1 s to 1 day).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) confirm_ms: Option<u64>,
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub(super) by: Option<String>,
}

/// Keeps the configuration in force.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmBody {
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub(super) by: Option<String>,
}

/// Which earlier configuration to return to.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackBody {
    /// How many configurations to go back; null: 1.
    pub(super) back: Option<usize>,
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub(super) by: Option<String>,
}

/// Which configuration to compare with the one in force.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanBody {
    /// Absolute path of the file on the engine's machine; null: the engine's own file.
    #[schema(value_type = Option<String>)]
    pub(super) config: Option<PathBuf>,
    /// How many configurations to go back, instead of reading a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) back: Option<usize>,
}

/// Requires an absolute path, because a caller does not know the engine's working directory.
fn absolute(config: Option<PathBuf>) -> Result<Option<PathBuf>, ApiError> {
    match config {
        Some(path) if !path.is_absolute() => Err(ApiError::BadRequest(format!(
            "`config` has to be an absolute path, found {:?}",
            path.display().to_string()
        ))),
        Some(_) | None => Ok(config),
    }
}

impl ChangeCall for ReloadBody {
    fn request(self, caller: &Caller) -> Result<Request, ApiError> {
        let confirm = self.confirm_ms.map(Duration::from_millis);
        if let Some(within) = confirm.filter(|within| !CONFIRM_RANGE.contains(within)) {
            return Err(ApiError::BadRequest(format!("a confirmation may take 1 s to 1 day, found {within:?}")));
        }
        Ok(Request::Reload { config: absolute(self.config)?, confirm, by: caller.by(self.by.as_deref()) })
    }
}

impl ChangeCall for ConfirmBody {
    fn request(self, caller: &Caller) -> Result<Request, ApiError> {
        Ok(Request::Confirm { by: caller.by(self.by.as_deref()) })
    }
}

impl ChangeCall for RollbackBody {
    fn request(self, caller: &Caller) -> Result<Request, ApiError> {
        Ok(Request::Rollback { back: self.back.unwrap_or(1), by: caller.by(self.by.as_deref()) })
    }
}

impl ChangeCall for PlanBody {
    fn request(self, _: &Caller) -> Result<Request, ApiError> {
        match (self.config, self.back) {
            (Some(_), Some(_)) => Err(ApiError::BadRequest("either `config` or `back`, not both".to_owned())),
            (config, back) => Ok(Request::Plan { config: absolute(config)?, back }),
        }
    }
}

impl ChangeCall for ProbeBody {
    fn request(self, _: &Caller) -> Result<Request, ApiError> {
        Ok(Request::Probe { subject: self.subject })
    }
}

impl ChangeCall for PingBody {
    fn request(self, _: &Caller) -> Result<Request, ApiError> {
        let via = match (self.link, self.firewall) {
            (None, None) => None,
            (Some(link), None) => Some(LinkOrFirewall::Link(link)),
            (None, Some(firewall)) => Some(LinkOrFirewall::Firewall(firewall)),
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
