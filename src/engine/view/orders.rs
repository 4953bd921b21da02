//! What operators ordered by command, which overrides the file.

use serde::{Deserialize, Serialize};

use crate::config::AdminState;
use crate::engine::view::ObjectKind;
use crate::named_enum::EnumOrUnknown;

/// An administrative state or weight that a command has set over the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OverrideView {
    /// What it was set for: `firewall`, `service` or `server`.
    #[serde(default)]
    #[schema(value_type = ObjectKind)]
    pub kind: EnumOrUnknown<ObjectKind>,
    /// Its name: `perimeter/fw1`, `web`, `web/s1`.
    pub subject: String,
    /// The administrative state that was set.
    pub admin: Option<AdminState>,
    /// The weight that was set, for a server.
    #[serde(default)]
    pub weight: Option<u16>,
    /// The reason that was given.
    pub reason: Option<String>,
    /// Who set it: `root (uid 0)`, or the name of a token.
    pub by: Option<String>,
    /// When it was set, RFC 3339 in UTC.
    #[serde(default)]
    pub at: Option<String>,
}

/// An operator's order that is in force over the file, given at this engine or at a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrderView {
    /// The engine at which it was given, and at which it can be undone.
    pub engine: String,
    /// The administrative state that was ordered.
    pub admin: Option<AdminState>,
    /// The weight that was ordered, for a server.
    pub weight: Option<u16>,
    /// The reason that was given.
    pub reason: Option<String>,
    /// Who gave it; null for a state that is in the file of the other engine.
    pub by: Option<String>,
    /// When it was given, RFC 3339 in UTC.
    pub at: Option<String>,
}

impl OrderView {
    /// The order in words: `set at outer 2026-11-21T11:00:00Z by root (uid 0): "upgrade"`.
    pub fn describe(&self) -> String {
        describe_order(Some(&self.engine), self.at.as_deref(), self.by.as_deref(), self.reason.as_deref())
    }

    /// The order in words with what was ordered: `weight 7 set by root (uid 0)`. The engine is left out if it is the
    /// engine `own`.
    pub fn describe_for(&self, own: &str) -> String {
        let admin = self.admin.map(|admin| format!("{admin} "));
        let what = admin.or(self.weight.map(|weight| format!("weight {weight} "))).unwrap_or_default();
        let place = Some(self.engine.as_str()).filter(|engine| *engine != own);
        what + &describe_order(place, self.at.as_deref(), self.by.as_deref(), self.reason.as_deref())
    }
}

/// An order in words: where, when, by whom and why it was given, as far as each is known.
pub(in crate::engine) fn describe_order(
    place: Option<&str>,
    at: Option<&str>,
    by: Option<&str>,
    reason: Option<&str>,
) -> String {
    let place = place.map(|engine| format!(" at {engine}")).unwrap_or_default();
    let when = at.map(|when| format!(" {when}")).unwrap_or_default();
    let who = by.map(|by| format!(" by {by}")).unwrap_or_default();
    // The reason is quoted, because it is the one part that an operator words.
    let why = reason.map(|reason| format!(": {reason:?}")).unwrap_or_default();
    format!("set{place}{when}{who}{why}")
}
