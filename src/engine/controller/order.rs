//! An operator's order that overrides the file: what was ordered, why, by whom and when, and how that is described.

use std::borrow::Cow;
use std::time::SystemTime;

use crate::engine::change::{StateChange, Subject};
use crate::engine::view::{EventKind, OrderView, describe_order};

/// Why something was ordered, by whom and when, as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Who: `root (uid 0)`, or the name of a token.
    pub by: Option<String>,
    /// When, by the wall clock of the engine that received it. The owner of that clock sets it.
    pub at: Option<SystemTime>,
}

impl Order {
    /// An order of `by` at a time that [`humantime::format_rfc3339_seconds`] wrote.
    pub(super) fn restored(reason: Option<String>, by: Option<String>, at: Option<&str>) -> Self {
        Self { reason, by, at: at.and_then(|at| humantime::parse_rfc3339(at).ok()) }
    }

    /// True if nothing is known of it, as of a state that a peer has from its file.
    pub(super) fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// Describes the order, as `set 2026-11-21T11:00:00Z by root (uid 0): "upgrade"`. `at` is the engine where it was
    /// given, if that is another one.
    pub(super) fn describe(&self, at: Option<&str>) -> String {
        describe_order(at, self.rfc3339_time().as_deref(), self.by.as_deref(), self.reason.as_deref())
    }

    /// The change that the order made.
    pub(super) fn change(
        &self,
        subject: Subject,
        from: impl Into<Cow<'static, str>>,
        to: impl Into<Cow<'static, str>>,
    ) -> StateChange {
        StateChange::to(EventKind::Admin, subject, to).from(from).because(self.reason.clone()).by(self.by.clone())
    }

    /// The time as RFC 3339 in UTC to the second.
    pub(super) fn rfc3339_time(&self) -> Option<String> {
        self.at.map(|at| humantime::format_rfc3339_seconds(at).to_string())
    }

    /// The order as the API shows it, without what was ordered.
    pub(super) fn view(&self, engine: &str) -> OrderView {
        OrderView {
            engine: engine.to_owned(),
            admin: None,
            weight: None,
            reason: self.reason.clone(),
            by: self.by.clone(),
            at: self.rfc3339_time(),
        }
    }
}

/// What follows from an order beyond its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consequence {
    /// Description of the state after the order.
    pub description: String,
    /// True if new flows would find no server or firewall, so that the order must not be given by mistake.
    pub is_grave: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_order_says_where_when_who_and_why_and_nothing_that_is_not_known() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_258_800);
        let full = Order { reason: Some("disk \"sdb\"".into()), by: Some("root (uid 0)".into()), at: Some(at) };

        assert_eq!(full.describe(None), r#"set 2026-11-21T11:00:00Z by root (uid 0): "disk \"sdb\"""#);
        assert_eq!(
            full.describe(Some("outer")),
            r#"set at outer 2026-11-21T11:00:00Z by root (uid 0): "disk \"sdb\"""#
        );
        assert_eq!(Order::default().describe(Some("outer")), "set at outer");
        assert_eq!(Order::default().describe(None), "set");
        let kept = full.rfc3339_time();
        assert_eq!(Order::restored(full.reason.clone(), full.by.clone(), kept.as_deref()), full);
        assert_eq!(Order::restored(None, None, Some("yesterday")), Order::default());
    }
}
