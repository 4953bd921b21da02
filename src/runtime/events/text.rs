//! Formats a change as a line of text: what changed, after which time, by whom and why.

use crate::engine::view::{EventKind, EventView};
use crate::time::in_words;

/// Kinds for which the age of the old state is meaningless, or is told in the reason.
const KINDS_WITHOUT_AGE: [EventKind; 5] =
    [EventKind::Admin, EventKind::Alarm, EventKind::Config, EventKind::Engine, EventKind::Kill];

/// Formats a change: `server web/s1: up -> down after 3d4h: HTTP 503, expected 200`, or `admin server web/s1: ready ->
/// drain by root (uid 0): "disk"`.
pub(super) fn change(event: &EventView) -> String {
    let EventView { seq: _, at: _, kind, subject, from, to, reason, by, lasted_ms } = event;
    let states = match (from, to) {
        (Some(from), Some(to)) if from == to => format!(": still {to}"),
        (Some(from), Some(to)) => format!(": {from} -> {to}"),
        (None, Some(to)) => format!(": {to}"),
        (Some(from), None) => format!(": no longer {from}"),
        (None, None) => String::new(),
    };
    let is_over = from != to && !kind.known().is_some_and(|kind| KINDS_WITHOUT_AGE.contains(&kind));
    let age = lasted_ms.filter(|_| is_over).map(|ms| format!(" after {}", in_words(ms))).unwrap_or_default();
    let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let reason = match (kind.known(), reason) {
        (_, None) => String::new(),
        // The operator's own words are quoted.
        (Some(EventKind::Admin | EventKind::Kill), Some(reason)) => format!(": {reason:?}"),
        (_, Some(reason)) => format!(": {}", plain(reason)),
    };
    format!("{kind} {subject}{states}{age}{by}{reason}")
}

/// Formats the result of a health check: `check web/s1 ipv4: failed: no SYN-ACK in 1s`.
pub(super) fn checked(subject: &str, result: &str, reason: Option<&str>) -> String {
    let reason = reason.map(|reason| format!(": {}", plain(reason))).unwrap_or_default();
    format!("check {subject}: {result}{reason}")
}

/// Quotes a text that could otherwise be taken for another line or for another field.
fn plain(text: &str) -> String {
    let is_plain = !text.chars().any(|letter| letter.is_control() || letter == '=');
    if is_plain { text.to_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, subject: &str, from: Option<&str>, to: Option<&str>) -> EventView {
        let text = |text: Option<&str>| text.map(str::to_owned);
        EventView {
            seq: 1,
            at: String::new(),
            kind: kind.into(),
            subject: subject.to_owned(),
            from: text(from),
            to: text(to),
            reason: None,
            by: None,
            lasted_ms: None,
        }
    }

    #[test]
    fn a_line_says_why_and_by_whom() {
        let down = event(EventKind::Server, "web/s1", Some("up"), Some("down"));
        let down = EventView { lasted_ms: Some(273_600_000), reason: Some("HTTP 503, expected 200".into()), ..down };
        assert_eq!(change(&down), "server web/s1: up -> down after 3d4h: HTTP 503, expected 200");

        let drain = event(EventKind::Admin, "server web/s1", Some("ready"), Some("drain"));
        let drain = EventView { by: Some("root (uid 0)".into()), reason: Some("disk \"sdb\"".into()), ..drain };
        assert_eq!(change(&drain), r#"admin server web/s1: ready -> drain by root (uid 0): "disk \"sdb\"""#);

        let kill = event(EventKind::Kill, "source 198.51.100.7, port 80", None, Some("3 ended"));
        let kill = EventView { by: Some("ansible".into()), reason: Some("ticket 7".into()), ..kill };
        assert_eq!(change(&kill), r#"kill source 198.51.100.7, port 80: 3 ended by ansible: "ticket 7""#);

        let still = EventView { lasted_ms: Some(5), ..event(EventKind::Path, "fw1", Some("down"), Some("down")) };
        assert_eq!(change(&still), "path fw1: still down");
        assert_eq!(change(&event(EventKind::Link, "a", None, Some("up"))), "link a: up");
        assert_eq!(change(&event(EventKind::Link, "a", Some("up"), None)), "link a: no longer up");
        assert_eq!(change(&event(EventKind::Link, "a", None, None)), "link a");
    }

    #[test]
    fn no_reason_makes_a_line_or_a_field_of_its_own() {
        let forged = EventView {
            reason: Some("x seq=9\nadmin".into()),
            ..event(EventKind::Server, "web/s1", None, Some("down"))
        };
        assert_eq!(change(&forged), r#"server web/s1: down: "x seq=9\nadmin""#);
        assert_eq!(checked("web/s1", "failed", Some("a\tb")), r#"check web/s1: failed: "a\tb""#);
        assert_eq!(checked("web/s1", "passed", None), "check web/s1: passed");
    }
}
