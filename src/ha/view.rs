//! `show ha` as JSON.
//!
//! The keys are a contract: keys may be added, but none changes its name or meaning. `*_ms` are durations in
//! milliseconds that end now.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ha::{DeductionKind, NodeKind, Role};
use crate::named_enum::EnumOrUnknown;

/// `show ha`: the cluster as this node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HaView {
    /// Name of the engine.
    pub engine: String,
    /// Name of its node, which is the same.
    pub node: String,
    /// Its role.
    #[schema(value_type = Role)]
    pub role: EnumOrUnknown<Role>,
    /// Whether this node has every copy of a session that it would need as the active one. An active node has.
    pub ready: bool,
    /// The term: it grows with every takeover.
    pub term: u32,
    /// Time since the node got its role.
    pub since_ms: u64,
    /// Why it got it.
    pub reason: String,
    /// The priority that is advertised: `base` less the deductions, 1 at least; that of an active node at fault is 1.
    pub priority: u8,
    /// The priority of the file.
    pub base: u8,
    /// What is taken from the priority, and why.
    pub deductions: Vec<DeductionView>,
    /// Why the node may not be active.
    pub faults: Vec<String>,
    /// Whether an operator has taken the node out of the election.
    pub maintenance: bool,
    /// The version of its program.
    pub version: String,
    /// Time until an active node stops forwarding unless it speaks before; `null` if it needs no lease.
    pub lease_ms: Option<u64>,
    /// The time between two advertisements.
    pub interval_ms: u64,
    /// By how much hellos of this node were late at the worst within the last minute, in milliseconds with fractions.
    pub lateness_ms: f64,
    /// The sessions of an active node that others need copies of, as its last pass over all of them counted.
    #[serde(default)]
    pub sessions_needed: u32,
    /// The copies that a standby holds.
    #[serde(default)]
    pub sessions_held: u32,
    /// The other nodes, in the order of the file.
    pub nodes: Vec<NodeView>,
    /// The number of changes of role since the start.
    pub transitions: u64,
    /// The last changes of role, the oldest first; 20 at most.
    pub history: Vec<RoleChangeView>,
}

/// A deduction from the priority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeductionView {
    /// What costs it.
    #[schema(value_type = DeductionKind)]
    pub kind: EnumOrUnknown<DeductionKind>,
    /// The name of the thing.
    pub subject: String,
    /// What is wrong with it.
    pub detail: String,
    /// The points.
    pub points: u16,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// What it runs.
    #[schema(value_type = NodeKind)]
    pub kind: EnumOrUnknown<NodeKind>,
    /// Its role; `null` if it is not heard.
    #[schema(value_type = Option<Role>)]
    pub role: Option<EnumOrUnknown<Role>>,
    /// Whether it has every copy of a session that it would need as the active one; false if it is not heard.
    pub ready: bool,
    /// Its priority less its deductions; the configured one if it is not heard.
    pub priority: u8,
    /// Its base priority.
    pub base: u8,
    /// The sum of its deductions.
    pub deductions: u16,
    /// The term in which it was last active.
    pub term: u32,
    /// The version of its program; `null` if it was never heard.
    pub version: Option<String>,
    /// The sections in which its file differs.
    pub config: Vec<String>,
    /// The paths on which it is heard.
    pub heard: Vec<HeardView>,
    /// The number of copies of sessions that it holds, as it says.
    pub sessions_held: u32,
    /// For how long what this node told it of sessions has waited for an acknowledgement, or what it told this one waits
    /// to be applied.
    #[serde(default)]
    pub behind_ms: u64,
    /// The pass over all sessions in which this node tells it those that it needs; `null` while there is none.
    #[serde(default)]
    pub pass: Option<PassView>,
    /// Full passes that this node has begun for it: when it joins, and whenever changes may have been lost.
    #[serde(default)]
    pub full_passes: u32,
    /// Records of sessions that this node told it.
    #[serde(default)]
    pub records: u64,
    /// Datagrams that this node sent it again, as they were not acknowledged.
    #[serde(default)]
    pub resends: u64,
    /// What it told this node of sessions and could not be applied, by reason.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
}

/// How far a pass over the session table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PassView {
    /// The places of the table that were visited.
    pub done: u32,
    /// All places.
    pub of: u32,
}

/// A path on which a node is heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HeardView {
    /// The name of a link, or `sync`.
    pub path: String,
    /// Time since it was heard there.
    pub age_ms: u64,
}

/// A change of role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RoleChangeView {
    /// Time since the change.
    pub ago_ms: u64,
    /// The role before.
    #[schema(value_type = Role)]
    pub from: EnumOrUnknown<Role>,
    /// The role after.
    #[schema(value_type = Role)]
    pub to: EnumOrUnknown<Role>,
    /// Why, in words.
    pub reason: String,
    /// The term.
    pub term: u32,
    /// How long the role before had lasted.
    pub lasted_ms: u64,
    /// Who ordered it.
    pub by: Option<String>,
}

impl HaView {
    /// The names of all nodes in order, by which each of them knows the cluster.
    pub fn cluster(&self) -> String {
        let mut names: Vec<_> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        names.push(&self.node);
        names.sort_unstable();
        names.join(",")
    }
}

impl NodeView {
    /// Whether it is heard as the node that forwards.
    pub fn forwards(&self) -> bool {
        self.role.as_ref().is_some_and(|role| *role == Role::Active || *role == Role::Leaving)
    }
}

/// An active node with a standby, for tests of what is shown of them.
#[cfg(test)]
pub(crate) fn sample() -> HaView {
    let node = serde_json::json!({
        "name": "outer-b", "kind": "fwlb", "role": "standby", "ready": true, "priority": 190, "base": 190,
        "deductions": 0, "term": 6, "version": "0.1.0", "config": [], "sessions_held": 31204,
        "behind_ms": 1, "pass": {"done": 1024, "of": 65536}, "full_passes": 1, "records": 62408, "resends": 2,
        "refused": {"full": 0, "conflict": 0, "unknown_name": 0, "unreadable": 0},
        "heard": [{"path": "internet", "age_ms": 12}, {"path": "sync", "age_ms": 14}],
    });
    serde_json::from_value(serde_json::json!({
        "engine": "outer-a", "node": "outer-a", "role": "active", "ready": true, "term": 7, "since_ms": 5000,
        "reason": "outer-b was silent for 97 ms", "priority": 195, "base": 200,
        "deductions": [{"kind": "group", "subject": "perimeter", "detail": "1 of 6 by weight: firewalls are down",
            "points": 5}],
        "faults": [], "maintenance": false, "version": "0.1.0", "lease_ms": 61, "interval_ms": 30,
        "lateness_ms": 0.4, "sessions_needed": 31204, "sessions_held": 0,
        "nodes": [node],
        "transitions": 2,
        "history": [{"ago_ms": 5000, "from": "standby", "to": "active", "reason": "outer-b was silent for 97 ms",
            "term": 7, "lasted_ms": 60000, "by": null}],
    }))
    .unwrap()
}
