//! Calls that change something, or make the engine send something.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::is_false;
use crate::api::calls::{Call, Routing, Verb};
use crate::api::guard::Caller;
use crate::api::{ApiError, Done, LinkOrFirewall, ServerChange};
use crate::config::AdminState;
use crate::engine::view;
use crate::time::Duration;

/// The largest weight of a server.
pub const WEIGHT_MAX: u16 = 256;

/// Range of the time within which a configuration may have to be confirmed.
const CONFIRM_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// Writes [`Call::checked`] of a change that has a `reason` and the claimed name of its caller in `by`.
macro_rules! checked_attribution {
    () => {
        fn checked(mut self, caller: &Caller) -> Result<Self, ApiError> {
            (self.reason, self.by) = (one_line(self.reason)?, named(caller, self.by));
            Ok(self)
        }
    };
}
pub(super) use checked_attribution;

/// The administrative state to set for a firewall.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SetFirewallBody)]
pub struct SetFirewall {
    /// Name of the group; null: every group with a firewall of this name.
    pub group: Option<String>,
    /// Name of the firewall.
    pub name: String,
    /// The state to set; null: back to the one in the file.
    pub admin: Option<AdminState>,
    /// The reason: one line of at most 200 characters.
    pub reason: Option<String>,
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub by: Option<String>,
    /// Whether to do it even if no firewall takes new flows then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
}

impl Call for SetFirewall {
    const METHOD: Verb = Verb::Put;
    const PATH: &'static str = "/api/v1/firewalls/admin";
    const SUMMARY: &'static str = "Sets the state of a firewall";
    const ROUTING: Routing = Routing::Knowing;
    type Answer = Done;

    checked_attribution!();
}

/// Either `admin` or `weight`; null sets it back to the one in the file. If `admin` is null or both are absent, both
/// are set back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SetServerBody)]
pub struct SetServer {
    /// Name of the service.
    pub service: String,
    /// Name of the server.
    pub name: String,
    /// The state to set; null: back to the one in the file.
    pub admin: Option<AdminState>,
    /// The weight to set, 0..=256; null: back to the one in the file.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>, maximum = 256)]
    pub weight: Option<Option<u16>>,
    /// The reason: one line of at most 200 characters.
    pub reason: Option<String>,
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub by: Option<String>,
    /// Whether to do it even if no server takes new sessions then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
}

impl SetServer {
    /// Changes a server, for no reason and by nobody.
    pub fn new(service: impl Into<String>, name: impl Into<String>, change: ServerChange) -> Self {
        let (admin, weight) = match change {
            ServerChange::Admin(admin) => (admin, None),
            ServerChange::Weight(weight) => (None, Some(weight)),
        };
        Self { service: service.into(), name: name.into(), admin, weight, ..Self::default() }
    }

    /// The state or weight to set, or back to the file's.
    pub fn change(&self) -> ServerChange {
        self.weight.map_or(ServerChange::Admin(self.admin), ServerChange::Weight)
    }
}

/// Tells a key with the value null from a key that is absent.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<u16>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl Call for SetServer {
    const METHOD: Verb = Verb::Put;
    const PATH: &'static str = "/api/v1/servers/admin";
    const SUMMARY: &'static str = "Sets the state or weight of a server";
    const ROUTING: Routing = Routing::One;
    type Answer = Done;

    fn checked(self, caller: &Caller) -> Result<Self, ApiError> {
        match (self.admin, self.weight) {
            (None, Some(Some(weight))) if weight > WEIGHT_MAX => {
                Err(ApiError::BadRequest(format!("a weight is 0..={WEIGHT_MAX}, found {weight}")))
            }
            (Some(_), Some(_)) => Err(ApiError::BadRequest("either `admin` or `weight`, not both".to_owned())),
            (_, None) | (None, Some(_)) => {
                Ok(Self { reason: one_line(self.reason)?, by: named(caller, self.by), ..self })
            }
        }
    }
}

/// The administrative state to set for a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SetServiceBody)]
pub struct SetService {
    /// Name of the service.
    pub name: String,
    /// The state to set; null: back to the one in the file.
    pub admin: Option<AdminState>,
    /// The reason: one line of at most 200 characters.
    pub reason: Option<String>,
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub by: Option<String>,
}

impl Call for SetService {
    const METHOD: Verb = Verb::Put;
    const PATH: &'static str = "/api/v1/services/admin";
    const SUMMARY: &'static str = "Sets the state of a service";
    const ROUTING: Routing = Routing::One;
    type Answer = Done;

    checked_attribution!();
}

/// Which configuration to load, and whether it has to be confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReloadBody)]
pub struct Reload {
    /// Absolute path of the file on the engine's machine; null: the engine's own file.
    #[schema(value_type = Option<String>)]
    pub config: Option<PathBuf>,
    /// The engine returns to the configuration before, unless a call of `confirm` comes within this many milliseconds
    /// (1 s to 1 day).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_ms: Option<u64>,
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub by: Option<String>,
}

impl Reload {
    /// The time within which the configuration has to be confirmed, if it has to be.
    pub fn confirm(&self) -> Option<Duration> {
        self.confirm_ms.map(Duration::from_millis)
    }
}

impl Call for Reload {
    const METHOD: Verb = Verb::Post;
    const PATH: &'static str = "/api/v1/reload";
    const SUMMARY: &'static str = "Applies a configuration";
    const ROUTING: Routing = Routing::One;
    const WALKS_OVER_SESSIONS: bool = true;
    type Answer = view::ReloadView;

    fn checked(self, caller: &Caller) -> Result<Self, ApiError> {
        if let Some(within) = self.confirm().filter(|within| !CONFIRM_RANGE.contains(within)) {
            return Err(ApiError::BadRequest(format!("a confirmation may take 1 s to 1 day, found {within:?}")));
        }
        Ok(Self { config: absolute(self.config)?, by: named(caller, self.by), ..self })
    }
}

/// Keeps the configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConfirmBody)]
pub struct Confirm {
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub by: Option<String>,
}

impl Call for Confirm {
    const METHOD: Verb = Verb::Post;
    const PATH: &'static str = "/api/v1/confirm";
    const SUMMARY: &'static str = "Confirms the configuration in force";
    const ROUTING: Routing = Routing::One;
    type Answer = Done;

    fn checked(self, caller: &Caller) -> Result<Self, ApiError> {
        Ok(Self { by: named(caller, self.by) })
    }
}

/// Which earlier configuration to return to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RollbackBody)]
pub struct Rollback {
    /// How many configurations to go back; null: 1.
    pub back: Option<usize>,
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub by: Option<String>,
}

impl Call for Rollback {
    const METHOD: Verb = Verb::Post;
    const PATH: &'static str = "/api/v1/rollback";
    const SUMMARY: &'static str = "Returns to an earlier configuration";
    const ROUTING: Routing = Routing::One;
    const WALKS_OVER_SESSIONS: bool = true;
    type Answer = view::ReloadView;

    fn checked(self, caller: &Caller) -> Result<Self, ApiError> {
        Ok(Self { by: named(caller, self.by), ..self })
    }
}

/// Which configuration to compare with the one in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PlanBody)]
pub struct Plan {
    /// Absolute path of the file on the engine's machine; null: the engine's own file.
    #[schema(value_type = Option<String>)]
    pub config: Option<PathBuf>,
    /// How many configurations to go back, instead of reading a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<usize>,
}

impl Call for Plan {
    const METHOD: Verb = Verb::Post;
    const PATH: &'static str = "/api/v1/plan";
    const SUMMARY: &'static str = "What a reload would do";
    const ROUTING: Routing = Routing::One;
    const WALKS_OVER_SESSIONS: bool = true;
    type Answer = Box<view::PlanView>;

    fn checked(self, _: &Caller) -> Result<Self, ApiError> {
        match (self.config, self.back) {
            (Some(_), Some(_)) => Err(ApiError::BadRequest("either `config` or `back`, not both".to_owned())),
            (config, back) => Ok(Self { config: absolute(config)?, back }),
        }
    }
}

/// What to probe now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProbeBody)]
pub struct Probe {
    /// The firewall (`group/firewall`) or server (`service/server`) to probe.
    pub subject: String,
}

impl Call for Probe {
    const METHOD: Verb = Verb::Post;
    const PATH: &'static str = "/api/v1/probe";
    const SUMMARY: &'static str = "Checks a member at once";
    const ROUTING: Routing = Routing::One;
    /// One exchange per path of the firewall or per address of the server.
    type Answer = Vec<view::ExchangeView>;
}

/// The address to ping. Either `link` or `firewall` says where the ping leaves; without them it is routed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PingBody)]
pub struct Ping {
    /// The address to ping.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The link on which the ping leaves.
    pub link: Option<String>,
    /// The firewall through which the ping goes, `group/firewall`.
    pub firewall: Option<String>,
}

impl Ping {
    /// Where the ping leaves; `None`: as routed.
    pub fn via(&self) -> Option<LinkOrFirewall> {
        let link = self.link.clone().map(LinkOrFirewall::Link);
        link.or_else(|| self.firewall.clone().map(LinkOrFirewall::Firewall))
    }
}

impl Call for Ping {
    const METHOD: Verb = Verb::Post;
    const PATH: &'static str = "/api/v1/ping";
    const SUMMARY: &'static str = "Pings from the engine";
    const ROUTING: Routing = Routing::One;
    type Answer = Vec<view::ExchangeView>;

    fn checked(self, _: &Caller) -> Result<Self, ApiError> {
        match (&self.link, &self.firewall) {
            (Some(_), Some(_)) => Err(ApiError::BadRequest("either `link` or `firewall`, not both".to_owned())),
            (None, _) | (_, None) => Ok(self),
        }
    }
}

/// The name that is recorded, whatever the caller claims.
pub(super) fn named(caller: &Caller, claim: Option<String>) -> Option<String> {
    Some(caller.by(claim.as_deref()))
}

/// Number of characters of a reason, at most.
const REASON_MAX: usize = 200;

/// Checks that a reason fits in one line; an empty one is none.
pub(super) fn one_line(reason: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(text) = reason.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.chars().any(char::is_control) {
        return Err(ApiError::BadRequest("a reason is one line, without control characters".to_owned()));
    }
    match text.chars().count() {
        0..=REASON_MAX => Ok(Some(text)),
        letters => Err(ApiError::BadRequest(format!("a reason has {REASON_MAX} letters at most, found {letters}"))),
    }
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
