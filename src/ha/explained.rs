//! `explain ha` as JSON: who is active and why, in sentences.
//!
//! The keys are a contract: keys may be added, but none changes its name or meaning.

use serde::{Deserialize, Serialize};

use crate::ha::Role;
use crate::ha::view::{DeductionView, RoleChangeView};
use crate::named_enum::EnumOrUnknown;

named_enum! {
    /// The rule by which a node has its role, or does not get the active one.
    #[schema(as = RoleRule)]
    pub enum Rule {
        /// It was the best of all that were heard at the start, or heard nobody who was active.
        Start = "start",
        /// It is the active node, or follows one that was active before.
        Active = "active",
        /// The active node fell silent, or this one stood still.
        Silence = "silence",
        /// The node that was active gave it the role.
        Handover = "handover",
        /// The active node stopped, or this one does.
        Stop = "stop",
        /// An operator ordered it.
        Order = "order",
        /// Deductions decide, by steps of the margin.
        Score = "score",
        /// The priority in the file.
        Priority = "priority",
        /// Of two that are active, the one with the better claim stays: fewer deductions, then the later term, then the
        /// higher priority.
        Claim = "claim",
        /// It would be better off, but must be so for longer, or the last move was too short a time ago.
        Hold = "hold",
        /// An operator took it out of service.
        Maintenance = "maintenance",
        /// A part of it stands still, or its links are down.
        Fault = "fault",
        /// It lacks copies of sessions.
        Copies = "copies",
        /// It was given the role and did not take it.
        Untaken = "untaken",
        /// It listens before it takes part.
        Listen = "listen",
        /// It is not heard.
        Unheard = "unheard",
    }
}

/// `explain ha`: who is active in the cluster and why, as this node knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplainedHaView {
    /// Name of the engine, which is that of its node.
    pub engine: String,
    /// The role of this node.
    #[schema(value_type = Role)]
    pub role: EnumOrUnknown<Role>,
    /// Name of the active node; `null` if none is known.
    pub active: Option<String>,
    /// The rule by which this node has its role.
    #[schema(value_type = Rule)]
    pub rule: EnumOrUnknown<Rule>,
    /// Who is active and why, what is taken from the priority of this node, whether the others are ready, and what would
    /// happen if the active node died now, in sentences.
    pub story: Vec<String>,
    /// What is taken from the priority of this node.
    pub deductions: Vec<DeductionView>,
    /// The change by which this node has its role; `null` if it has just started.
    pub moved: Option<RoleChangeView>,
    /// Every node, this one first, then the others in the order of the file.
    pub nodes: Vec<ExplainedNodeView>,
    /// Name of the node that would be active if the active one died now; `null` if nobody is known to be able to.
    pub next: Option<String>,
}

/// Why a node has the active role, or why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplainedNodeView {
    /// Its name.
    pub name: String,
    /// Its role; `null` if it is not heard.
    #[schema(value_type = Option<Role>)]
    pub role: Option<EnumOrUnknown<Role>>,
    /// Whether it would take over if the active node died now.
    pub could_take_over: bool,
    /// The rule that decides about it.
    #[schema(value_type = Rule)]
    pub rule: EnumOrUnknown<Rule>,
    /// What the rule makes of it, in a sentence.
    pub why: String,
}
