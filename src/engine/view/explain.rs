//! `explain` in JSON (INTERFACE.md section 3).

use serde::{Deserialize, Serialize};

use crate::engine::view::PinView;

/// One firewall of `explain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CandidateView {
    /// Name.
    pub name: String,
    /// `up`, `starting`, `down`, `drain` or `maint`.
    pub state: String,
    /// Weight.
    pub weight: u16,
    /// Used only for another firewall that is down.
    #[serde(default)]
    pub spare: bool,
    /// Higher wins; all 64 bits are used.
    #[schema(format = "uint64")]
    pub score: u64,
}

/// Where a packet leaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EgressView {
    /// Link name.
    pub link: String,
    /// Next hop.
    pub next_hop: Option<String>,
    /// Its hardware address, if resolved.
    pub mac: Option<String>,
    /// `incomplete`, `reachable`, `stale`, `probe` or `failed`, as in `show neighbors`; null where nobody asked for it yet.
    #[serde(default)]
    pub neighbor: Option<String>,
}

/// A real server that a service could give the flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServerCandidateView {
    /// Name.
    pub name: String,
    /// `up`, `down`, `drain` or `maint`.
    pub state: String,
    /// Weight.
    pub weight: u16,
    /// Used when every other server is down.
    pub backup: bool,
    /// Sessions that it has.
    pub sessions: u64,
}

/// The live session of a flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplainedSessionView {
    /// `opening`, `established`, `closing`, `one-way` or `two-way`.
    pub state: String,
    /// Since it was opened.
    pub age_ms: u64,
    /// Since its last packet.
    pub idle_ms: u64,
    /// Until it is forgotten, if nothing comes.
    pub expires_ms: u64,
    /// Packets, both directions.
    pub packets: u64,
}

/// What would happen if what the flow takes died.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WhatIfView {
    /// `firewall` or `server`.
    pub kind: String,
    /// `group/firewall` or `service/server`.
    pub name: String,
    /// `reselect`, `reset`, `keep` or `drop`.
    pub on_failure: String,
    /// What would become of the live session: `stays`, `moves`, `reset` or `dropped`; null where there is none.
    pub session: Option<String>,
    /// The firewall that the flow would take then, by a new session where this one would end.
    pub firewall: Option<String>,
    /// The server, likewise.
    pub server: Option<String>,
    /// Why a new session would be dropped.
    pub drop: Option<String>,
}

/// `explain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplainView {
    /// Engine name.
    pub engine: String,
    /// The flow, normalised.
    pub flow: String,
    /// Where it arrives: a link or group/firewall.
    pub from: String,
    /// `session`, `learned`, `hash`, `bypass`, `route`, `service`, `local` or `drop`.
    pub decided_by: String,
    /// The firewall it takes.
    pub firewall: Option<String>,
    /// The peer the route names.
    pub peer: Option<String>,
    /// Pins of its session, live or as they would be.
    pub pins: Vec<PinView>,
    /// Every firewall of the group, best first.
    pub candidates: Vec<CandidateView>,
    /// Virtual service.
    pub service: Option<String>,
    /// Real server.
    pub server: Option<String>,
    /// Rewrite.
    pub translation: Option<String>,
    /// Where it leaves.
    pub egress: Option<EgressView>,
    /// The drop reason, where it would be dropped.
    pub drop: Option<String>,
    /// Its live session.
    #[serde(default)]
    pub session: Option<ExplainedSessionView>,
    /// Every server of the service, in the order of the file.
    #[serde(default)]
    pub servers: Vec<ServerCandidateView>,
    /// The firewall's and the server's death.
    #[serde(default)]
    pub what_if: Vec<WhatIfView>,
    /// The story in sentences, in order of decision.
    pub story: Vec<String>,
}
