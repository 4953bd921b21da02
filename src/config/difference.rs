//! Finds the differences between two configurations and the keys among them that cannot change while an engine runs. It
//! applies nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use crate::config::diagnostic::Diagnostic;
use crate::config::reader::Field;
use crate::config::schema::Key;
use crate::config::sections::{Section, sections};
use crate::config::source_text::SourceText;
use crate::config::validate::HIDDEN_SECRET;
use crate::config::{Config, LoadedConfig};

/// One difference between two configurations.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// What the difference is about: `firewall perimeter/fw2`.
    pub subject: String,
    /// The key that changed; null if the subject as a whole was added or removed.
    pub key: Option<String>,
    /// The value before; null if the subject was added.
    pub from: Option<String>,
    /// The value after; null if the subject was removed.
    pub to: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, key, from, to } = self;
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        match key {
            Some(key) if from == to => write!(f, "{subject}: {key} changed"),
            Some(key) => write!(f, "{subject}: {key} {} -> {}", show(from), show(to)),
            None if from.is_none() => write!(f, "{subject}: added"),
            None => write!(f, "{subject}: removed"),
        }
    }
}

/// A difference together with where it is.
pub(super) struct Change<'a> {
    pub(super) difference: Difference,
    /// The section that differs: that of the new file, or of the old one if it is removed.
    pub(super) section: &'a Section,
    /// The key that differs; `None` if the whole section was added or removed.
    pub(super) key: Option<&'static Key>,
}

/// The differences that `new` makes, in the order of the files: first what is removed or changed, then what is added.
/// Everything that a reload can change is included. A secret that changed has the same placeholder before and after.
pub fn differences(old: &Config, new: &Config) -> Vec<Difference> {
    let (was, is) = (sections(old), sections(new));
    changes(&was, &is).into_iter().map(|change| change.difference).collect()
}

/// The differences with their places, in the order of [`differences`].
pub(super) fn changes<'a>(was: &'a [Section], is: &'a [Section]) -> Vec<Change<'a>> {
    let place = |section: &'a Section| (section.subject.as_str(), section.within());
    let new: BTreeMap<_, _> = is.iter().map(|section| (place(section), section)).collect();
    let old: BTreeSet<_> = was.iter().map(place).collect();
    let mut found = Vec::new();
    for section in was {
        match new.get(&place(section)) {
            Some(other) => changed_values(section, other, &mut found),
            // A section within a subject that is removed is removed with it and is not reported by itself.
            None if section.within().is_none() || new.contains_key(&(section.subject.as_str(), None)) => {
                found.push(whole(section, false));
            }
            None => {}
        }
    }
    for section in is.iter().filter(|section| !old.contains(&place(section))) {
        if section.within().is_none() || old.contains(&(section.subject.as_str(), None)) {
            found.push(whole(section, true));
        }
    }
    found
}

/// The difference of a section that only one of the configurations has.
fn whole(section: &Section, added: bool) -> Change<'_> {
    let subject = section.subject.clone();
    let (key, values) = match section.within() {
        None => (None, String::new()),
        Some(within) => {
            let values: Vec<String> =
                section.keys().map(|(key, value)| format!("{} {}", key.name, value.describe(key))).collect();
            (Some(within.to_owned()), values.join(", "))
        }
    };
    let nothing = key.as_ref().map(|_| "none".to_owned());
    let (from, to) = if added { (nothing, Some(values)) } else { (Some(values), nothing) };
    Change { difference: Difference { subject, key, from, to }, section, key: None }
}

fn changed_values<'a>(section: &'a Section, other: &'a Section, found: &mut Vec<Change<'a>>) {
    for ((key, from), (_, to)) in section.keys().zip(other.keys()) {
        if from != to {
            let difference = Difference {
                subject: section.subject.clone(),
                key: Some(section.name(key.name)),
                from: Some(from.describe(key)),
                to: Some(to.describe(key)),
            };
            found.push(Change { difference, section: other, key: Some(key) });
        }
    }
}

/// Adds an error to the file's diagnostics for every change that an engine running with `old` cannot make without a
/// restart. With any such error the file is refused as a whole.
pub fn refuse_restart(old: &Config, outcome: &mut LoadedConfig) {
    let Some(new) = &outcome.config else { return };
    let typed = SourceText::read(outcome.diagnostics.text());
    let (was, is) = (sections(old), sections(new));
    let mut found = Vec::new();
    if old.ha.is_some() != new.ha.is_some() {
        let message = "[ha] can be neither added nor removed while the engine runs";
        let section = outcome.file.as_ref().and_then(|file| file.ha.as_ref());
        let at = section.map_or(0..0, |section| section.span.clone());
        found.push(Diagnostic::error(at, message).hint("put it back, or restart the engine for it"));
    }
    let copies = |config: &Config| !config.copying_nodes().is_empty();
    if old.ha.is_some() == new.ha.is_some() && (old.source_ports() != new.source_ports() || copies(old) != copies(new))
    {
        let message = "the number of nodes of kind \"fwlb\", and the place of this one among them, cannot change while the \
                       engine runs: each has its share of the ports of `full-nat`";
        let section = outcome.file.as_ref().and_then(|file| file.ha.as_ref()?.nodes.first());
        let at = section.map_or(0..0, |section| section.span.clone());
        found.push(Diagnostic::error(at, message).hint("put the nodes back, or restart one engine after the other"));
    }
    found.extend(moved_nodes(old, new, outcome));
    for Change { difference, section, key } in changes(&was, &is) {
        let (Some(key), Difference { subject: _, key: _, from: Some(from), to: Some(to) }) = (key, difference) else {
            continue;
        };
        if key.restart {
            let whose = match section.schema.has_header() && section.path.iter().all(|(_, name)| name.is_none()) {
                true => section.schema.section.to_owned(),
                false => section.subject.replacen(' ', " \"", 1) + "\"",
            };
            let message = format!("`{}` of {whose} cannot change while the engine runs: {from} -> {to}", key.name);
            let at = typed.as_ref().map_or(0..0, |typed| typed.span_of(section, key.name));
            found.push(Diagnostic::error(at, message).hint("put it back, or restart the engine for it"));
        }
    }
    if !found.is_empty() {
        found.into_iter().for_each(|diagnostic| outcome.diagnostics.push(diagnostic));
        outcome.diagnostics.sort();
        outcome.config = None;
    }
}

/// An error for each node that stays and gets another place among `[[ha.node]]`. Nodes call each other by their places,
/// and ports are split by them, so that two nodes of which one has not reloaded yet would mean different ones.
fn moved_nodes(old: &Config, new: &Config, outcome: &LoadedConfig) -> Vec<Diagnostic> {
    let (Some(was), Some(is)) = (&old.ha, &new.ha) else { return Vec::new() };
    let moved = is.nodes.iter().enumerate().filter_map(|(place, node)| {
        let before = was.nodes.iter().position(|known| known.name == node.name).filter(|before| *before != place)?;
        let typed = outcome.file.as_ref().and_then(|file| file.ha.as_ref()?.nodes.get(place));
        let at = typed.map_or(0..0, |typed| span(&typed.name, &typed.span));
        let message = format!(
            "node {:?} cannot get another place among [[ha.node]]: {} -> {}; nodes are known by their places",
            node.name,
            before + 1,
            place + 1
        );
        let hint = "put the nodes back in their order, with new ones at the end, or restart all engines of the cluster";
        Some(Diagnostic::error(at, message).hint(hint))
    });
    moved.collect()
}

/// Refuses a file that `show config` printed without its secrets. Such a file can be checked, but an engine cannot run
/// with it.
pub fn refuse_hidden(outcome: &mut LoadedConfig) {
    if outcome.diagnostics.promote_warnings(HIDDEN_SECRET) {
        outcome.config = None;
    }
}

/// Refuses the file because `link` cannot be added to the running engine, for the reason `why`.
pub fn refuse_link(outcome: &mut LoadedConfig, link: &str, why: &str) {
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

#[cfg(test)]
mod tests;
