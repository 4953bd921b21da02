//! Warnings in the answer to a change.

use std::collections::BTreeSet;

use crate::api::Done;
use crate::config::AdminState;

/// Warnings, and who else holds the changed object; `command` names it as in `set firewall fw1`. An engine that was
/// asked too no longer holds it, whatever another engine learned of it a moment ago.
pub fn warning_lines(done: &[(String, Done)], command: &str) -> Vec<String> {
    let is_asked = |engine: &str| done.iter().any(|(asked, _)| asked == engine);
    let mut lines: Vec<String> = Vec::new();
    for warning in done.iter().flat_map(|(_, one)| &one.warnings) {
        lines.push(format!("warning: {warning}"));
    }
    for held in done.iter().flat_map(|(_, one)| &one.held_elsewhere).filter(|held| !is_asked(&held.engine)) {
        let what = match held.admin {
            Some(AdminState::Drain) => "drained",
            Some(AdminState::Maint) => "in maint",
            Some(AdminState::Ready) | None => "held",
        };
        let (words, engine) = (held.describe(), &held.engine);
        lines.push(format!("still {what}: {words}; undo it there: fwlb -e {engine} {command} default"));
    }
    // Several engines may report the same.
    let mut known = BTreeSet::new();
    lines.retain(|line| known.insert(line.clone()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::view::OrderView;

    fn held_at(engine: &str) -> Done {
        let held = OrderView {
            engine: engine.to_owned(),
            admin: Some(AdminState::Drain),
            weight: None,
            reason: Some("upgrade".to_owned()),
            by: Some("root (uid 0)".to_owned()),
            at: None,
        };
        Done { held_elsewhere: vec![held], ..Done::from("firewall fw1: nothing is set here any more".to_owned()) }
    }

    #[test]
    fn who_holds_it_and_where_to_undo_it_is_said_once_unless_that_engine_was_asked_too() {
        let told = warning_lines(&[("inner".to_owned(), held_at("outer"))], "set firewall fw1");
        assert_eq!(
            told,
            [
                r#"still drained: set at outer by root (uid 0): "upgrade"; undo it there: fwlb -e outer set firewall fw1 default"#
            ]
        );
        let dmz = [("inner".to_owned(), held_at("outer")), ("dmz".to_owned(), held_at("outer"))];
        assert_eq!(warning_lines(&dmz, "set firewall fw1"), told);
        let both = [("inner".to_owned(), held_at("outer")), ("outer".to_owned(), held_at("inner"))];
        assert_eq!(warning_lines(&both, "set firewall fw1"), [""; 0]);
        let warned = Done { warnings: vec!["no firewall takes new flows now".to_owned()], ..Done::default() };
        let warned = [("inner".to_owned(), warned.clone()), ("outer".to_owned(), warned)];
        assert_eq!(warning_lines(&warned, "set firewall fw1"), ["warning: no firewall takes new flows now"]);
    }
}
