//! What is different between two configurations, in words, and what of it cannot change while an engine runs.

mod facts;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::config::diagnostic::Diagnostic;
use crate::config::file::{self, File};
use crate::config::reader::Field;
use crate::config::{Config, Outcome};

use facts::{Fact, subjects};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// `firewall perimeter/fw2`.
    pub subject: String,
    /// The key in the file; null: the subject as a whole is added or removed.
    pub key: Option<String>,
    /// Before; null: it was not there.
    pub from: Option<String>,
    /// After; null: it is not there any more.
    pub to: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, key, from, to } = self;
        let show =
            |value: &Option<String>| value.as_deref().filter(|text| !text.is_empty()).unwrap_or("none").to_owned();
        match key {
            Some(key) => write!(f, "{subject}: {key} {} -> {}", show(from), show(to)),
            None if from.is_none() => write!(f, "{subject}: added"),
            None => write!(f, "{subject}: removed"),
        }
    }
}

/// What is different in `new`, in the order of the files: first what is gone or changed, then what is added.
pub fn differences(old: &Config, new: &Config) -> Vec<Difference> {
    let (was, is) = (subjects(old), subjects(new));
    let known: BTreeMap<&String, &Vec<Fact>> = is.iter().map(|(subject, facts)| (subject, facts)).collect();
    let mut found = Vec::new();
    for (subject, facts) in &was {
        let Some(others) = known.get(subject) else {
            let from = Some(String::new());
            found.push(Difference { subject: subject.clone(), key: None, from, to: None });
            continue;
        };
        for (fact, other) in facts.iter().zip(*others) {
            if (&fact.shown, fact.told_by) != (&other.shown, other.told_by) {
                let (from, to) = (Some(fact.shown.clone()), Some(other.shown.clone()));
                found.push(Difference { subject: subject.clone(), key: Some(fact.key.to_owned()), from, to });
            }
        }
    }
    let before: std::collections::BTreeSet<&String> = was.iter().map(|(subject, _)| subject).collect();
    for (subject, _) in is.iter().filter(|(subject, _)| !before.contains(subject)) {
        let to = Some(String::new());
        found.push(Difference { subject: subject.clone(), key: None, from: None, to });
    }
    found
}

/// Adds to the file's diagnostics what an engine that runs with `old` cannot take over, each at its place. A file with any of
/// it is refused as a whole.
pub fn refuse_restart(old: &Config, outcome: &mut Outcome) {
    let (Some(new), Some(file)) = (&outcome.config, &outcome.file) else { return };
    let mut found = Vec::new();
    let mut refuse = |at: Range<usize>, what: &str, from: String, to: String| {
        let message = format!("{what} cannot change while the engine runs: {from} -> {to}");
        found.push(Diagnostic::error(at, message).hint("put it back, or restart the engine for it"));
    };
    for difference in differences(old, new) {
        let Difference { subject, key: Some(key), from, to } = difference else { continue };
        let show = |value: Option<String>| value.filter(|text| !text.is_empty()).unwrap_or_else(|| "none".to_owned());
        match (subject.as_str(), key.as_str()) {
            ("timeouts", "fragment") | ("engine" | "limits", _) => {
                refuse(place(file, &subject, &key), &format!("`{key}` of [{subject}]"), show(from), show(to));
            }
            ("log", "level" | "checks") => {}
            ("log", _) => refuse(place(file, &subject, &key), &format!("`{key}` of [log]"), show(from), show(to)),
            (link, "device" | "vlan") if link.starts_with("link ") => {
                let name = &link["link ".len()..];
                let typed = file.links.iter().find(|typed| typed.name.value().as_deref() == Some(name));
                let at = typed.map_or(0..0, |typed| match key.as_str() {
                    "device" => span(&typed.device, &typed.span),
                    _ => span(&typed.vlan, &typed.span),
                });
                refuse(at, &format!("`{key}` of link {name:?}"), show(from), show(to));
            }
            (_, _) => {}
        }
    }
    if !found.is_empty() {
        found.into_iter().for_each(|diagnostic| outcome.diagnostics.push(diagnostic));
        outcome.diagnostics.sort();
        outcome.config = None;
    }
}

/// Refuses the file for a link that cannot be had.
pub fn refuse_link(outcome: &mut Outcome, link: &str, why: &str) {
    let typed = outcome
        .file
        .as_ref()
        .and_then(|file| file.links.iter().find(|typed| typed.name.value().as_deref() == Some(link)));
    let at = typed.map_or(0..0, |typed| span(&typed.device, &typed.span));
    outcome.diagnostics.push(Diagnostic::error(at, format!("link {link:?} cannot be added: {why}")));
    outcome.diagnostics.sort();
    outcome.config = None;
}

fn span<T>(field: &Field<T>, section: &Range<usize>) -> Range<usize> {
    field.given().map_or(section.clone(), |given| given.span.clone())
}

/// Where a key of a section stands; the beginning of the file where it is left to its default.
fn place(file: &File, section: &str, key: &str) -> Range<usize> {
    let top = 0..0;
    let file::Limits { sessions, sticky, neighbors, pending, punts, fragments, held } = &file.limits;
    let engine = file.engine.as_ref();
    match (section, key) {
        ("engine", "name") => engine.map_or(top.clone(), |engine| span(&engine.name, &top)),
        ("engine", "workers") => engine.map_or(top.clone(), |engine| span(&engine.workers, &top)),
        ("engine", "io") => engine.map_or(top.clone(), |engine| span(&engine.io, &top)),
        ("engine", "xdp-send") => engine.map_or(top.clone(), |engine| span(&engine.xdp_send, &top)),
        ("engine", "busy-poll") => engine.map_or(top.clone(), |engine| span(&engine.busy_poll, &top)),
        ("engine", "control") => engine.map_or(top.clone(), |engine| span(&engine.control, &top)),
        ("engine", "state") => engine.map_or(top.clone(), |engine| span(&engine.state, &top)),
        ("engine", "user") => engine.map_or(top.clone(), |engine| span(&engine.user, &top)),
        ("engine", "group") => engine.map_or(top.clone(), |engine| span(&engine.group, &top)),
        ("engine", "sandbox") => engine.map_or(top.clone(), |engine| span(&engine.sandbox, &top)),
        ("log", "format") => span(&file.log.json, &top),
        ("log", "sessions") => span(&file.log.sessions, &top),
        ("log", "syslog") => span(&file.log.syslog, &top),
        ("log", "facility") => span(&file.log.facility, &top),
        ("log", "hostname") => span(&file.log.hostname, &top),
        ("timeouts", "fragment") => span(&file.timeouts.fragment, &top),
        ("limits", "sessions") => span(sessions, &top),
        ("limits", "sticky") => span(sticky, &top),
        ("limits", "neighbors") => span(neighbors, &top),
        ("limits", "pending") => span(pending, &top),
        ("limits", "punts") => span(punts, &top),
        ("limits", "fragments") => span(fragments, &top),
        ("limits", "held") => span(held, &top),
        (_, _) => top,
    }
}

#[cfg(test)]
mod tests;
