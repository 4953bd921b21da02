//! The answers of `plan`, `reload`, `show config` and `show configs`.

use serde::{Deserialize, Serialize};

use crate::config::{Difference, Setting};
use crate::engine::view::{ObjectKind, SessionFate};
use crate::ha::Role;
use crate::named_enum::EnumOrUnknown;

/// `plan`: what a reload would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlanView {
    /// Name of the engine.
    pub engine: String,
    /// Path of the configuration file.
    pub config: String,
    /// False if the engine runs with this configuration already.
    pub changes: bool,
    /// Every key that differs.
    pub differences: Vec<Difference>,
    /// Warnings about the file. If it is refused because a change takes a restart, the errors with their places.
    pub diagnostics: String,
    /// True if a reload would accept the file.
    pub possible: bool,
    /// Number of live sessions that were examined.
    pub sessions: u64,
    /// Sessions that would not continue as they are.
    pub moved: u64,
    /// Sessions that would leave a firewall that is up and stays. Any number other than 0 is a defect.
    pub healthy_moved: u64,
    /// The sessions that would move or end, by where they are now.
    pub moves: Vec<MoveView>,
    /// How new flows would be distributed.
    pub new_flows: Vec<NewFlowsView>,
    /// The role of the node, whose own sessions were examined; null for an engine that stands alone.
    #[serde(default)]
    #[schema(value_type = Option<Role>)]
    pub role: Option<EnumOrUnknown<Role>>,
    /// On a node that is not active the name of the one that is; null if none is heard.
    #[serde(default)]
    pub active_node: Option<String>,
}

/// Sessions that would leave one firewall or server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MoveView {
    /// What they would leave: `firewall` or `server`.
    #[schema(value_type = ObjectKind)]
    pub kind: EnumOrUnknown<ObjectKind>,
    /// Its name: `group/firewall` or `service/server`.
    pub from: String,
    /// Where they would go; null if the scheduler or the routes decide, or if they end.
    pub to: Option<String>,
    /// What would happen to them: `moves`, `is reset`, `is dropped`, `waits for a path`.
    #[schema(value_type = SessionFate)]
    pub fate: EnumOrUnknown<SessionFate>,
    /// Number of sessions.
    pub sessions: u64,
}

/// How the new flows of a group would be distributed, from a sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NewFlowsView {
    /// Name of the group.
    pub group: String,
    /// Percentage of new flows that would take another firewall than before.
    pub moved_percent: f64,
    /// Number of flows in the sample.
    pub sample: u32,
    /// Shares of the firewalls, in the order of their names.
    pub firewalls: Vec<MemberShare>,
}

/// The share of one firewall in new flows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MemberShare {
    /// Name of the firewall.
    pub name: String,
    /// Percentage of new flows before the reload.
    pub before_percent: f64,
    /// Percentage of new flows after the reload, when firewalls that are starting have come up.
    pub after_percent: f64,
}

/// `show config`: the configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConfigView {
    /// The text with secrets hidden: the file as it was read, or every key with its value.
    pub text: String,
    /// Every key with its value; null if it was not asked for.
    #[serde(default)]
    pub settings: Option<Vec<Setting>>,
}

/// `reload`: what was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReloadView {
    /// Name of the engine.
    pub engine: String,
    /// Path of the file that was read.
    pub config: String,
    /// Path of the file that a reload without a file, SIGHUP and a restart read.
    pub own_config: String,
    /// False if the engine ran with this configuration already.
    pub changed: bool,
    /// Every key that changed.
    pub differences: Vec<Difference>,
    /// Warnings about the file.
    pub diagnostics: String,
    /// Path of the copy that the engine keeps; null if there is none.
    #[serde(default)]
    pub kept: Option<String>,
    /// Time in milliseconds after which the engine returns to the previous configuration unless this one is confirmed;
    /// null if it stays.
    #[serde(default)]
    pub confirm_within_ms: Option<u64>,
}

/// `show configs`: one of the last configurations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeptConfigView {
    /// How many configurations came after it. `rollback` takes this number.
    pub back: usize,
    /// Number of the configuration; it never starts again.
    pub number: u64,
    /// When it came into force, RFC 3339 in UTC.
    pub at: String,
    /// Who brought it in; null if it was the start of the engine.
    pub by: Option<String>,
    /// How it came into force: `start`, `reload` or `rollback`.
    pub how: String,
    /// Digest of its text: 16 hexadecimal digits.
    pub digest: String,
    /// Path of the file that it was read from.
    pub file: String,
    /// Path of the copy that the engine keeps.
    pub kept: String,
    /// True if the engine runs with it.
    pub in_force: bool,
    /// True if the engine returns to the previous configuration unless this one is confirmed.
    pub unconfirmed: bool,
    /// The differences from the one before it; null if there is none, or one of them cannot be read any more.
    pub differences: Option<Vec<Difference>>,
}
