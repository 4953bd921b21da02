//! Calls to the role machine of a node.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::changes::{checked_attribution, named, one_line};
use super::is_false;
use crate::api::calls::{Call, Routing, Verb};
use crate::api::guard::Caller;
use crate::api::{ApiError, Done};

/// Which node is to become active.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = HaFailoverBody)]
pub struct HaFailover {
    /// Name of the node that is to become active; null: a ready one first, then the one with the fewest
    /// deductions, then the one of the highest priority.
    pub to: Option<String>,
    /// The reason: one line of at most 200 characters.
    pub reason: Option<String>,
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub by: Option<String>,
    /// Whether a node may get the role that is not `ready`: sessions of which it has no copy break.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
}

impl Call for HaFailover {
    const METHOD: Verb = Verb::Post;
    const PATH: &'static str = "/api/v1/ha/failover";
    const SUMMARY: &'static str = "Gives the active role to another node";
    const ROUTING: Routing = Routing::One;
    type Answer = Done;

    checked_attribution!();
}

/// Whether the node is in maintenance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = HaMaintenanceBody)]
pub struct HaMaintenance {
    /// True: the node gives the active role away, as soon as another one can take it, and takes it no more, also after a
    /// restart; false: it may be active again.
    pub maintenance: bool,
    /// The reason: one line of at most 200 characters.
    pub reason: Option<String>,
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub by: Option<String>,
}

impl Call for HaMaintenance {
    const METHOD: Verb = Verb::Put;
    const PATH: &'static str = "/api/v1/ha/maintenance";
    const SUMMARY: &'static str = "Takes the node out of the election, or puts it back";
    const ROUTING: Routing = Routing::One;
    type Answer = Done;

    checked_attribution!();
}

/// Tells the other nodes all sessions again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = HaResyncBody)]
pub struct HaResync {
    /// The reason: one line of at most 200 characters.
    pub reason: Option<String>,
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub by: Option<String>,
}

impl Call for HaResync {
    const METHOD: Verb = Verb::Post;
    const PATH: &'static str = "/api/v1/ha/resync";
    const SUMMARY: &'static str = "Tells the other nodes of a cluster all sessions that they need copies of again";
    const ROUTING: Routing = Routing::One;
    type Answer = Done;

    checked_attribution!();
}
