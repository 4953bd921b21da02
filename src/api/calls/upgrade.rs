//! The call that begins to hand an engine over to another program.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::changes::{checked_attribution, named, one_line};
use crate::api::ApiError;
use crate::api::calls::{Call, Routing, Verb};
use crate::api::guard::Caller;
use crate::engine::view::UpgradeView;

/// Waits for the program that takes over the engine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UpgradeBody)]
pub struct Upgrade {
    /// The reason: one line of at most 200 characters.
    pub reason: Option<String>,
    /// The claimed name of the caller on the control socket, which is recorded beside the user that the kernel reports.
    /// On the network the name of the token is recorded instead.
    pub by: Option<String>,
}

impl Call for Upgrade {
    const METHOD: Verb = Verb::Post;
    const PATH: &'static str = "/api/v1/upgrade";
    const SUMMARY: &'static str = "Waits for another program, which takes the engine over with all its sessions";
    const ROUTING: Routing = Routing::One;
    type Answer = UpgradeView;

    checked_attribution!();
}
