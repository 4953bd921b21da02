//! What `plan` and `reload` answer.

use serde::{Deserialize, Serialize};

use crate::config::{Difference, Setting};

/// `plan`: what a reload would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlanView {
    /// Engine name.
    pub engine: String,
    /// The file.
    pub config: String,
    /// False: the engine runs with this already.
    pub changes: bool,
    /// Every key that differs.
    pub differences: Vec<Difference>,
    /// Warnings about the file, and, if it is refused because something of it takes a restart, what and where.
    pub diagnostics: String,
    /// A reload would take it.
    pub possible: bool,
    /// Live sessions that were looked at.
    pub sessions: u64,
    /// Those that do not go on as they are.
    pub moved: u64,
    /// Those that would leave a firewall that is up and stays: always 0, or it is a defect.
    pub healthy_moved: u64,
    /// Who leaves whom.
    pub moves: Vec<MoveView>,
    /// What new flows find.
    pub new_flows: Vec<NewFlowsView>,
}

/// Sessions that leave one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MoveView {
    /// `firewall` or `server`.
    pub kind: String,
    /// `group/firewall` or `service/server`.
    pub from: String,
    /// Where they go; null: as the scheduler or the routes say, or nowhere.
    pub to: Option<String>,
    /// `moves`, `is reset`, `is dropped`, `waits for a path`.
    pub fate: String,
    /// How many.
    pub sessions: u64,
}

/// Where new flows of a group would go, from a sample of flows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NewFlowsView {
    /// Group.
    pub group: String,
    /// Of 100 new flows so many take another firewall than before.
    pub moved_percent: f64,
    /// Flows that were asked.
    pub sample: u32,
    /// Shares, in order of name.
    pub firewalls: Vec<MemberShare>,
}

/// The share of one firewall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MemberShare {
    /// Firewall.
    pub name: String,
    /// Of 100 new flows before.
    pub before_percent: f64,
    /// And after, when what is starting has come up.
    pub after_percent: f64,
}

/// `show config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConfigView {
    /// The configuration in force, secrets hidden: the file as it was read, or every key with its value.
    pub text: String,
    /// Where every key was asked for: each of them.
    #[serde(default)]
    pub settings: Option<Vec<Setting>>,
}

/// `reload`: what was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReloadView {
    /// Engine name.
    pub engine: String,
    /// The file that was read.
    pub config: String,
    /// The file that a reload without one, SIGHUP and a restart take.
    pub own_config: String,
    /// False: the engine ran with this already.
    pub changed: bool,
    /// Every key that differed.
    pub differences: Vec<Difference>,
    /// Warnings about the file.
    pub diagnostics: String,
    /// Where the engine keeps a copy of it; null: it was not kept.
    #[serde(default)]
    pub kept: Option<String>,
    /// The engine returns to what was before unless it is confirmed within so many milliseconds; null: it stays.
    #[serde(default)]
    pub confirm_within_ms: Option<u64>,
}

/// `show configs`: one of the last configurations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeptConfigView {
    /// So many before the newest: what `rollback` takes.
    pub back: usize,
    /// Counts up for ever.
    pub number: u64,
    /// When it came, RFC 3339 in UTC.
    pub at: String,
    /// Who brought it; null: the start of the engine.
    pub by: Option<String>,
    /// `start`, `reload` or `rollback`.
    pub how: String,
    /// Digest of its text.
    pub digest: String,
    /// The file that it was read from.
    pub file: String,
    /// Where the engine keeps a copy.
    pub kept: String,
    /// The engine runs with it.
    pub in_force: bool,
    /// It has to be confirmed, or the engine returns to what was before.
    pub unconfirmed: bool,
    /// What is different from the one before it; null: there is none, or one of them cannot be read any more.
    pub differences: Option<Vec<Difference>>,
}
