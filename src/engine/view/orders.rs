//! What operators ordered over the file.

use serde::{Deserialize, Serialize};

use crate::config::Admin;

/// An administrative state or weight set by command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OverrideView {
    /// `firewall`, `service` or `server`.
    #[serde(default = "firewall")]
    pub kind: String,
    /// `perimeter/fw1`, `web`, `web/s1`.
    pub subject: String,
    /// The administrative state that was set.
    pub admin: Option<Admin>,
    /// The weight that was set, of a server.
    #[serde(default)]
    pub weight: Option<u16>,
    /// Why.
    pub reason: Option<String>,
    /// By whom: `root (uid 0)`, or the name of a token.
    pub by: Option<String>,
    /// When, RFC 3339 in UTC.
    #[serde(default)]
    pub at: Option<String>,
}

/// An operator's order that stands over the file, here or at the engine on a far side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrderView {
    /// The engine where it was given, and where it is undone.
    pub engine: String,
    /// The administrative state that was ordered.
    pub admin: Option<Admin>,
    /// The weight that was ordered, of a server.
    pub weight: Option<u16>,
    /// Why.
    pub reason: Option<String>,
    /// By whom; null for a state that stands in the other engine's file.
    pub by: Option<String>,
    /// When, RFC 3339 in UTC.
    pub at: Option<String>,
}

impl OrderView {
    /// `set at outer 2026-11-21T11:00:00Z by root (uid 0): "upgrade"`.
    pub fn words(&self) -> String {
        order_words(Some(&self.engine), self.at.as_deref(), self.by.as_deref(), self.reason.as_deref())
    }

    /// The same with what was ordered in front, as the engine called `own` tells it: `weight 7 set by root (uid 0)`.
    pub fn told_by(&self, own: &str) -> String {
        let admin = self.admin.map(|admin| match admin {
            Admin::Ready => "ready ".to_owned(),
            Admin::Drain => "drain ".to_owned(),
            Admin::Maint => "maint ".to_owned(),
        });
        let what = admin.or(self.weight.map(|weight| format!("weight {weight} "))).unwrap_or_default();
        let place = Some(self.engine.as_str()).filter(|engine| *engine != own);
        what + &order_words(place, self.at.as_deref(), self.by.as_deref(), self.reason.as_deref())
    }
}

/// How an order is told: where it was given, when, by whom and why, as far as that is to be said.
pub(in crate::engine) fn order_words(
    place: Option<&str>,
    at: Option<&str>,
    by: Option<&str>,
    reason: Option<&str>,
) -> String {
    let place = place.map(|engine| format!(" at {engine}")).unwrap_or_default();
    let when = at.map(|when| format!(" {when}")).unwrap_or_default();
    let who = by.map(|by| format!(" by {by}")).unwrap_or_default();
    // Quoted, as it is the one part of the line that an operator words.
    let why = reason.map(|reason| format!(": {reason:?}")).unwrap_or_default();
    format!("set{place}{when}{who}{why}")
}

/// What every override was about before there were services.
fn firewall() -> String {
    "firewall".to_owned()
}
