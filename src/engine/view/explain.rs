//! The answer of `explain`: where a flow goes and why.

use serde::{Deserialize, Serialize};

use super::{CandidateState, PinView, ServiceState, SessionState};
use crate::engine::view::{DecidedBy, ObjectKind, SessionAfterFailure};
use crate::named_enum::EnumOrUnknown;
use crate::neighbor::NeighborState;
use crate::path::OnFailure;

/// A firewall that the flow could take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CandidateView {
    /// Name of the firewall.
    pub name: String,
    /// Its state: `up`, `starting`, `down`, `drain` or `maint`.
    #[schema(value_type = CandidateState)]
    pub state: EnumOrUnknown<CandidateState>,
    /// Its weight.
    pub weight: u16,
    /// Used only for another firewall that is down.
    #[serde(default)]
    pub spare: bool,
    /// Its rendezvous hash score for this flow, of which the highest wins. All 64 bits are used.
    #[schema(format = "uint64")]
    pub score: u64,
}

/// How the packet leaves the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EgressView {
    /// Name of the link.
    pub link: String,
    /// IP address of the next hop.
    pub next_hop: Option<String>,
    /// MAC address of the next hop, if it is resolved.
    pub mac: Option<String>,
    /// Neighbour state as in `show neighbors`: `incomplete`, `reachable`, `stale`, `probe` or `failed`; null if there
    /// is no entry.
    #[serde(default)]
    #[schema(value_type = Option<NeighborState>)]
    pub neighbor: Option<EnumOrUnknown<NeighborState>>,
}

/// A real server that the service could choose for the flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServerCandidateView {
    /// Name of the server.
    pub name: String,
    /// Its state: `up`, `down`, `drain` or `maint`.
    #[schema(value_type = ServiceState)]
    pub state: EnumOrUnknown<ServiceState>,
    /// Its weight.
    pub weight: u16,
    /// True if it is used only while every other server is down.
    pub backup: bool,
    /// Its live sessions.
    pub sessions: u64,
}

/// The live session of the flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplainedSessionView {
    /// Its state: `opening`, `established`, `closing`, `one-way` or `two-way`.
    #[schema(value_type = SessionState)]
    pub state: EnumOrUnknown<SessionState>,
    /// Time since it was opened, in milliseconds.
    pub age_ms: u64,
    /// Time since its last packet, in milliseconds.
    pub idle_ms: u64,
    /// Time until it ends if no packet comes, in milliseconds.
    pub expires_ms: u64,
    /// Its packets in both directions.
    pub packets: u64,
}

/// What would happen if the firewall or server that the flow takes failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WhatIfView {
    /// What would fail: `firewall` or `server`.
    #[schema(value_type = ObjectKind)]
    pub kind: EnumOrUnknown<ObjectKind>,
    /// Its name: `group/firewall` or `service/server`.
    pub name: String,
    /// The `on-failure` that applies: `reselect`, `reset`, `keep` or `drop`.
    #[schema(value_type = OnFailure)]
    pub on_failure: EnumOrUnknown<OnFailure>,
    /// What would happen to the live session: `stays`, `moves`, `reset` or `dropped`; null if there is none.
    #[schema(value_type = Option<SessionAfterFailure>)]
    pub session: Option<EnumOrUnknown<SessionAfterFailure>>,
    /// The firewall that the flow would take then, in a new session if this one ends.
    pub firewall: Option<String>,
    /// The server that the flow would take then, in a new session if this one ends.
    pub server: Option<String>,
    /// The drop reason, if a new session would be dropped.
    pub drop: Option<String>,
}

/// `explain`: where a flow goes and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplainView {
    /// Name of the engine.
    pub engine: String,
    /// The flow in its normal form.
    pub flow: String,
    /// Where the packet arrives: a link or group/firewall.
    pub from: String,
    /// What decides: `session`, `learned`, `hash`, `bypass`, `route`, `service`, `local` or `drop`.
    #[schema(value_type = DecidedBy)]
    pub decided_by: EnumOrUnknown<DecidedBy>,
    /// Name of the firewall that the flow takes.
    pub firewall: Option<String>,
    /// Name of the peer in the route.
    pub peer: Option<String>,
    /// The pins of the session, as they are or would be.
    pub pins: Vec<PinView>,
    /// The firewalls of the group, best first.
    pub candidates: Vec<CandidateView>,
    /// The prefix of `[[group.affinity]]` that says which fields of the flow are hashed; null if `hash` of the group does.
    #[serde(default)]
    pub affinity: Option<String>,
    /// Name of the virtual service.
    pub service: Option<String>,
    /// Name of the real server.
    pub server: Option<String>,
    /// The flow after translation, or the tunnel that carries it.
    pub translation: Option<String>,
    /// How the packet leaves the engine.
    pub egress: Option<EgressView>,
    /// The drop reason, if the packet would be dropped. With `drop_standby` and `drop_lease` the other keys say what the
    /// node would do with it as the active one.
    pub drop: Option<String>,
    /// With `drop_standby` and `drop_lease` the name of the node that is active; null if none is heard.
    #[serde(default)]
    pub active_node: Option<String>,
    /// The live session of the flow.
    #[serde(default)]
    pub session: Option<ExplainedSessionView>,
    /// The servers of the service, in the order of the file.
    #[serde(default)]
    pub servers: Vec<ServerCandidateView>,
    /// What would happen if the firewall or the server failed.
    #[serde(default)]
    pub what_if: Vec<WhatIfView>,
    /// The decision step by step, in sentences.
    pub story: Vec<String>,
}
