//! Resolves names by which sections refer to each other.

use std::ops::Range;

use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::reader::{Field, Located};
use crate::config::value::did_you_mean;

/// The names of all things of one kind, by their position in the file.
pub struct Names<'a> {
    kind: &'static str,
    names: Vec<Option<&'a Located<String>>>,
}

impl<'a> Names<'a> {
    /// Collects the names of things called `what` ("link", "group") and reports those that stand twice.
    pub fn new(what: &'static str, fields: impl Iterator<Item = &'a Field<String>>, out: &mut Diagnostics) -> Self {
        let Self { names, .. } = Self::of(what, fields);
        for (index, name) in names.iter().enumerate() {
            let Some(name) = name else { continue };
            let first = names[..index].iter().flatten().find(|earlier| earlier.value == name.value);
            if let Some(first) = first {
                out.push(duplicate_error(format!("{what} {:?}", name.value), &name.span, &first.span));
            }
        }
        Self { kind: what, names }
    }

    /// The same for names whose duplicates are reported elsewhere.
    pub fn of(what: &'static str, fields: impl Iterator<Item = &'a Field<String>>) -> Self {
        Self { kind: what, names: fields.map(Field::given).collect() }
    }

    /// The position of the thing that is called `name`. An unknown name is reported, unless the name of some thing is
    /// invalid and could be the one that is meant.
    pub fn resolve(&self, name: &Located<String>, of: &str, out: &mut Diagnostics) -> Option<usize> {
        let found = self.names.iter().position(|known| known.is_some_and(|known| known.value == name.value));
        if found.is_none() && self.names.iter().all(Option::is_some) {
            let known = || self.names.iter().flatten().map(|name| name.value.as_str());
            let unknown = Diagnostic::error(name.span.clone(), format!("unknown {} {:?}{of}", self.kind, name.value));
            out.push(match did_you_mean(&name.value, known()) {
                Some(meant) => unknown.hint(format!("did you mean {meant:?}?")),
                None if self.names.is_empty() => unknown.hint(format!("there is no {}{of}", self.kind)),
                None => unknown.hint(format!("there is {}", known().collect::<Vec<_>>().join(", "))),
            });
        }
        found
    }
}

/// The error about something that stands twice but may stand only once.
pub fn duplicate_error(what: String, again: &Range<usize>, first: &Range<usize>) -> Diagnostic {
    Diagnostic::error(again.clone(), format!("{what} stands twice"))
        .related(first.clone(), format!("{what} stands here first"))
}
