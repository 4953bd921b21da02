//! Health checks: their state, their last results, and their sums.

use serde::{Deserialize, Serialize};

use super::OperState;
use crate::engine::view::ObjectKind;
use crate::health::history::CheckResult;
use crate::named_enum::EnumOrUnknown;
use crate::wire::Family;

/// The health checks of a server in one address family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServerCheckView {
    /// Address family: `ipv4` or `ipv6`.
    #[schema(value_type = Family)]
    pub family: EnumOrUnknown<Family>,
    /// State by the checks: `up` or `down`.
    #[schema(value_type = OperState)]
    pub state: EnumOrUnknown<OperState>,
    /// Time since it entered this state, in milliseconds.
    pub since_ms: u64,
    /// Why the last failed check failed, in words: "HTTP 503, expected 200".
    pub reason: Option<String>,
    /// The last check; null before the first has ended, and if the server is not checked.
    #[serde(default)]
    pub last: Option<LastCheckView>,
    /// Number of checks that failed since the engine started.
    #[serde(default)]
    pub failures: u64,
    /// How often the checks took it from up to down since the engine started.
    #[serde(default)]
    pub falls: u64,
    /// How long it was down by the checks since the engine started, in milliseconds.
    #[serde(default)]
    pub downtime_ms: u64,
}

/// The result of the last check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LastCheckView {
    /// `passed`, `failed`, `excused` if there was no answer while the engine itself was late, or `skipped` if the check
    /// was not sent because the engine's own link was down.
    #[schema(value_type = CheckResult)]
    pub result: EnumOrUnknown<CheckResult>,
    /// What the server answered (`HTTP 200`, `connected`), or why the check failed.
    pub detail: Option<String>,
    /// Time from the first packet of the check to its end, in microseconds; null if nothing was sent.
    pub duration_us: Option<u64>,
    /// Time since the check ended, in milliseconds.
    pub age_ms: u64,
}

impl LastCheckView {
    /// The result in words: `HTTP 200`, `failed: connection refused`.
    pub fn describe(&self) -> String {
        let detail = self.detail.as_deref().unwrap_or_default();
        match (&self.result, detail) {
            (EnumOrUnknown::Known(CheckResult::Passed), detail) if !detail.is_empty() => detail.to_owned(),
            (result, "") => result.to_string(),
            (result, detail) => format!("{result}: {detail}"),
        }
    }
}

/// `show checks`: a check that ended, or several in a row with the same result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckResultView {
    /// Name of the engine.
    pub engine: String,
    /// When the check, or the last of several, ended, RFC 3339 in UTC.
    pub at: String,
    /// What was checked: `server` or `firewall`.
    #[schema(value_type = ObjectKind)]
    pub kind: EnumOrUnknown<ObjectKind>,
    /// Its name: `web/s1`, `perimeter/fw1`.
    pub subject: String,
    /// Name of the peer to which the firewall was checked; null for a server.
    pub peer: Option<String>,
    /// Address family: `ipv4` or `ipv6`.
    #[schema(value_type = Family)]
    pub family: EnumOrUnknown<Family>,
    /// `passed`, `failed`, `excused` or `skipped`, as for the last check of `show services`.
    #[schema(value_type = CheckResult)]
    pub result: EnumOrUnknown<CheckResult>,
    /// Number of checks in a row; always 1 for a server.
    pub times: u64,
    /// Time from the first packet of the last of them to its end, in microseconds; null if nothing was sent or it is
    /// not known.
    pub duration_us: Option<u64>,
    /// State after it: `up` or `down`.
    #[schema(value_type = OperState)]
    pub state: EnumOrUnknown<OperState>,
    /// What was answered (`HTTP 200`, `connected`), or why it failed.
    pub detail: Option<String>,
}

/// The result of one health check, for the log line of `[log] checks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckLogView {
    /// What was checked: `web/s1 ipv4`, `perimeter/fw1 to inner ipv4`.
    pub subject: String,
    /// `passed`, `failed`, or `excused` if it failed while the engine itself was late.
    pub result: CheckResult,
    /// The state after it: `up` or `down`.
    pub state: OperState,
    /// Why it failed.
    pub reason: Option<String>,
    /// Time until the answer, in microseconds.
    pub rtt_us: Option<u64>,
}
