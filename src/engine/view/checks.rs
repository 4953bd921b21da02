//! Health checks: their state, their last results, and their sums.

use serde::{Deserialize, Serialize};

/// The health checks of a server in one address family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServerCheckView {
    /// Address family: `ipv4` or `ipv6`.
    pub family: String,
    /// State by the checks: `up` or `down`.
    pub state: String,
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
    pub result: String,
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
        match (self.result.as_str(), detail) {
            ("passed", "") => "passed".to_owned(),
            ("passed", detail) => detail.to_owned(),
            (result, "") => result.to_owned(),
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
    pub kind: String,
    /// Its name: `web/s1`, `perimeter/fw1`.
    pub subject: String,
    /// Name of the peer to which the firewall was checked; null for a server.
    pub peer: Option<String>,
    /// Address family: `ipv4` or `ipv6`.
    pub family: String,
    /// `passed`, `failed`, `excused` or `skipped`, as for the last check of `show services`.
    pub result: String,
    /// Number of checks in a row; always 1 for a server.
    pub times: u64,
    /// Time from the first packet of the last of them to its end, in microseconds; null if nothing was sent or it is
    /// not known.
    pub duration_us: Option<u64>,
    /// State after it: `up` or `down`.
    pub state: String,
    /// What was answered (`HTTP 200`, `connected`), or why it failed.
    pub detail: Option<String>,
}

/// The result of one health check, for the log line of `[log] checks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckLogView {
    /// What was checked: `web/s1 ipv4`, `perimeter/fw1 to inner ipv4`.
    pub subject: String,
    /// `passed`, `failed`, or `excused` if it failed while the engine itself was late.
    pub result: &'static str,
    /// The state after it: `up` or `down`.
    pub state: &'static str,
    /// Why it failed.
    pub reason: Option<String>,
    /// Time until the answer, in microseconds.
    pub rtt_us: Option<u64>,
}
