//! Health checks: how they end, the last ones, and what they come to.

use serde::{Deserialize, Serialize};

/// One family's check of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServerCheckView {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// `up` or `down`.
    pub state: String,
    /// In this state for.
    pub since_ms: u64,
    /// The last failure, in words: "HTTP 503, expected 200".
    pub reason: Option<String>,
    /// The last check; null while none has ended, and for a server that is not checked.
    #[serde(default)]
    pub last: Option<LastCheckView>,
    /// Checks that failed since start.
    #[serde(default)]
    pub failures: u64,
    /// How often its checks took it from up to down since start.
    #[serde(default)]
    pub falls: u64,
    /// How long its checks had it down since start, in milliseconds.
    #[serde(default)]
    pub downtime_ms: u64,
}

/// How the last check ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LastCheckView {
    /// `passed`; `failed`; `excused`: without an answer while the engine was not punctual; or `skipped`: not made, as the engine's
    /// own link was down.
    pub result: String,
    /// What was answered (`HTTP 200`, `connected`), or why it failed.
    pub detail: Option<String>,
    /// From its first packet to its end, in microseconds; null if nothing was sent.
    pub duration_us: Option<u64>,
    /// It ended so long ago.
    pub age_ms: u64,
}

impl LastCheckView {
    /// `HTTP 200`; `failed: connection refused`.
    pub fn words(&self) -> String {
        let detail = self.detail.as_deref().unwrap_or_default();
        match (self.result.as_str(), detail) {
            ("passed", "") => "passed".to_owned(),
            ("passed", detail) => detail.to_owned(),
            (result, "") => result.to_owned(),
            (result, detail) => format!("{result}: {detail}"),
        }
    }
}

/// `show checks`: a check that ended, or several in a row that ended alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckResultView {
    /// Engine name.
    pub engine: String,
    /// When it ended, or the last of them did, RFC 3339 in UTC; filled in by the owner of the wall clock.
    pub at: String,
    /// `server` or `firewall`.
    pub kind: String,
    /// `web/s1`, `perimeter/fw1`.
    pub subject: String,
    /// The peer on the far side of the firewall; null for a server.
    pub peer: Option<String>,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// `passed`, `failed`, `excused` or `skipped`, as of the last check of `show services`.
    pub result: String,
    /// How many in a row; always 1 for a server.
    pub times: u64,
    /// From its first packet to its end, in microseconds, of the last of them; null if nothing was sent or no one knows.
    pub duration_us: Option<u64>,
    /// `up` or `down` after it.
    pub state: String,
    /// What was answered (`HTTP 200`, `connected`), or why it failed.
    pub detail: Option<String>,
}

/// The result of one health check, for `[log] checks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedView {
    /// `web/s1 ipv4`, `perimeter/fw1 to inner ipv4`.
    pub subject: String,
    /// `passed`, `failed`, or `excused`: failed while the engine was not punctual.
    pub result: &'static str,
    /// State after it: `up` or `down`.
    pub state: &'static str,
    /// Why it failed.
    pub reason: Option<String>,
    /// How long the answer took.
    pub rtt_us: Option<u64>,
}
