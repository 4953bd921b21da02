//! Compares the files of two nodes of a cluster: everything but names of engines and devices, own addresses, and what
//! concerns one process alone has to be the same, as one node goes on with what the other one did.

use crate::config::cluster::{agreed, is_own};
use crate::config::diagnostic::Diagnostic;
use crate::config::difference::{Change, changes};
use crate::config::sections::{Section, sections};
use crate::config::source_text::SourceText;
use crate::config::{Config, LoadedConfig};

/// Warns about each section and key on which the file of `this` node and that of `other`, at `path`, do not agree.
pub(super) fn check(this: &LoadedConfig, config: &Config, other: &Config, path: &str, found: &mut Vec<Diagnostic>) {
    let hint = "the nodes of a cluster must say the same here: one goes on with what the other one did";
    let mut differs = |at, message: String| found.push(Diagnostic::warning(at, message).hint(hint));
    let typed = SourceText::read(this.diagnostics.text());
    let span = |section: &Section, key: &str| typed.as_ref().map_or(0..0, |typed| typed.span_of(section, key));
    let names = |config: &Config| {
        let nodes = config.ha.iter().flat_map(|ha| &ha.nodes);
        nodes.map(|node| node.name.clone()).collect::<Vec<_>>()
    };
    let (was, is) = (sections(other), sections(config));
    let (ours, theirs) = (names(config), names(other));
    if let Some(ha) = is.iter().find(|section| section.schema.section == "[ha]")
        && ours != theirs
    {
        let order = if theirs.is_empty() { "there are none".to_owned() } else { theirs.join(", ") };
        let message = format!("the nodes in [[ha.node]] are {}; in {path} {order}", ours.join(", "));
        differs(span(ha, "node"), message);
    }
    let changes = changes(&was, &is);
    let whole: Vec<_> = changes.iter().filter(|one| one.key.is_none()).map(|one| &one.section.path).collect();
    for Change { difference, section, key } in changes.iter().filter(|one| agreed(one.section).is_some()) {
        // What is missing with the section around it is not told by itself.
        if whole.iter().any(|path| path.len() < section.path.len() && section.path.starts_with(path)) {
            continue;
        }
        let place = place(section);
        match (key, &difference.from, &difference.to) {
            (Some(key), ..) if is_own(section, key.name) => {}
            (Some(key), from, to) if from == to => {
                differs(span(section, key.name), format!("{place}: `{}` is another one in {path}", key.name));
            }
            (Some(key), from, to) => {
                let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
                let message = format!("{place}: `{}` is {}, in {path} {}", key.name, said(to), said(from));
                differs(span(section, key.name), message);
            }
            // A section that only one file has.
            (None, ..) if was.iter().any(|other| std::ptr::eq(other, *section)) => {
                differs(0..0, format!("{place} of {path} is missing here"));
            }
            (None, ..) => differs(span(section, "name"), format!("{place} is missing in {path}")),
        }
    }
}

/// A section as a file has it, with its name: `[[service]] web`, `[limits]`.
fn place(section: &Section) -> String {
    let header = section.schema.section;
    match section.subject.split_once(' ') {
        Some((_, name)) => format!("{header} {name}"),
        None => header.to_owned(),
    }
}
