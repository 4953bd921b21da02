//! Shows a cluster as text.

use std::fmt::Write;

use crate::cli::engines::Answers;
use crate::cli::output::{Tone, duration_ms, paint, table};
use crate::ha::Role;
use crate::ha::view::{HaView, NodeView, PassView};
use crate::named_enum::EnumOrUnknown;

/// The clusters in text, each as one of its nodes sees it.
pub fn text(answers: &Answers<Vec<HaView>>) -> String {
    let views: Vec<_> = answers.iter().flat_map(|(_, _, views)| views).map(cluster).collect();
    views.join("\n")
}

const NODES: &[&str] = &["NODE", "ROLE", "TERM", "PRIORITY", "SINCE", "HEARD"];

fn cluster(view: &HaView) -> String {
    let own = vec![
        view.node.clone(),
        view.role.name().to_owned(),
        view.term.to_string(),
        own_priority(view),
        duration_ms(view.since_ms),
        "this node".to_owned(),
    ];
    let rows: Vec<_> = std::iter::once(own).chain(view.nodes.iter().map(other)).collect();
    let mut text = table(NODES, &rows);
    for one in &view.deductions {
        let _ = writeln!(text, "{}: - {}, {} {}: {}", view.node, one.points, one.kind, one.subject, one.detail);
    }
    for fault in &view.faults {
        let _ = writeln!(text, "{}: {}", view.node, paint(fault, Tone::Bad));
    }
    for node in view.nodes.iter().filter(|node| !node.config.is_empty()) {
        let _ = writeln!(
            text,
            "{}: {}",
            node.name,
            paint(&format!("its file differs: {}", node.config.join(", ")), Tone::Warn)
        );
    }
    for node in &view.nodes {
        text += &copies(view, node);
    }
    if let Some(last) = view.history.last() {
        let by = last.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let _ = writeln!(text, "{}: {} -> {}{by}: {}", view.node, last.from, last.to, last.reason);
    }
    text
}

/// What another node holds of this one's sessions, if this one is active and keeps copies there.
fn copies(view: &HaView, node: &NodeView) -> String {
    let Some((held, behind)) = told_copies(view, node) else {
        return String::new();
    };
    let tone = if node.ready { Tone::Plain } else { Tone::Warn };
    format!("{}: {}\n", node.name, paint(&format!("holds {held} sessions, {behind}"), tone))
}

/// How many of this node's sessions another one holds copies of, and how far it is behind; `None` unless this one is
/// active and keeps copies there.
pub(crate) fn told_copies(view: &HaView, node: &NodeView) -> Option<(String, String)> {
    if view.role != Role::Active || node.full_passes == 0 {
        return None;
    }
    let held = format!("{} of {}", node.sessions_held, view.sessions_needed);
    let share = |pass: PassView| u64::from(pass.done) * 100 / u64::from(pass.of.max(1));
    let pass = node.pass.map(|pass| format!(", all are being told: {} %", share(pass))).unwrap_or_default();
    Some((held, format!("{} ms behind{pass}", node.behind_ms)))
}

fn other(node: &NodeView) -> Vec<String> {
    let heard: Vec<_> = node.heard.iter().map(|heard| heard.path.as_str()).collect();
    let heard = match (&node.role, node.heard.iter().map(|heard| heard.age_ms).min()) {
        (Some(_), Some(age)) => format!("{age} ms ago on {}", heard.join(", ")),
        _ => "not heard".to_owned(),
    };
    vec![
        node.name.clone(),
        node.role.as_ref().map_or("-", EnumOrUnknown::name).to_owned(),
        node.term.to_string(),
        priority(node.priority, node.base, node.deductions),
        "-".to_owned(),
        heard,
    ]
}

/// The priority of the node that says this.
pub(crate) fn own_priority(view: &HaView) -> String {
    priority(view.priority, view.base, view.deductions.iter().map(|one| one.points).sum())
}

/// A priority, and how it comes of that in the file.
pub(crate) fn priority(now: u8, base: u8, deducted: u16) -> String {
    match deducted {
        0 => now.to_string(),
        points => format!("{now} = {base} - {points}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::view::sample;

    #[test]
    fn a_cluster_is_shown_with_what_lowers_a_priority_and_why_the_role_moved() {
        assert_eq!(
            cluster(&sample()),
            "NODE     ROLE     TERM  PRIORITY       SINCE  HEARD\n\
             outer-a  active   7     195 = 200 - 5  5.0s   this node\n\
             outer-b  standby  6     190            -      12 ms ago on internet, sync\n\
             outer-a: - 5, group perimeter: 1 of 6 by weight: firewalls are down\n\
             outer-b: holds 31204 of 31204 sessions, 1 ms behind, all are being told: 1 %\n\
             outer-a: standby -> active: outer-b was silent for 97 ms\n"
        );
    }
}
