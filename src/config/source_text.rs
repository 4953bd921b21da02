//! Finds the keys of a section in the text itself: whether they are given, their value, and their place.

use std::ops::Range;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::sections::Section;
use crate::config::value;

/// A text that is well-formed TOML.
pub struct SourceText<'a>(Spanned<DeTable<'a>>);

impl<'a> SourceText<'a> {
    /// Parses a text; `None` if it is not well-formed.
    pub fn read(text: &'a str) -> Option<Self> {
        DeTable::parse(text).ok().map(Self)
    }

    /// The value that the text gives to a key; `None` if the key is left out.
    pub fn value(&self, section: &Section, key: &str) -> Option<&Spanned<DeValue<'a>>> {
        self.table(section)?.0.get(key)
    }

    /// The byte range of a key of a section. If the key is left out it is that of the section's header, else the
    /// beginning of the file.
    pub fn span_of(&self, section: &Section, key: &str) -> Range<usize> {
        match self.table(section) {
            None => 0..0,
            Some((table, header)) => table.get(key).map_or(header, Spanned::span),
        }
    }

    fn table(&self, section: &Section) -> Option<(&DeTable<'a>, Range<usize>)> {
        let mut here = (self.0.get_ref(), 0..0);
        for (key, name) in &section.path {
            let value = here.0.get(*key)?;
            here = match (value.get_ref(), name) {
                (DeValue::Table(table), None) => (table, value.span()),
                (DeValue::Array(items), Some(name)) => items.iter().find_map(|item| match item.get_ref() {
                    DeValue::Table(table) if is_called(table, key, name) => Some((table, item.span())),
                    _ => None,
                })?,
                (_, _) => return None,
            };
        }
        Some(here)
    }
}

/// True for the item of a list that has this name. A route is named by one of its prefixes.
fn is_called(item: &DeTable<'_>, list: &str, name: &str) -> bool {
    let value = |key: &str| item.get(key).map(Spanned::get_ref);
    if list != "route" {
        return value("name").and_then(DeValue::as_str) == Some(name);
    }
    let leads_there =
        |to: &DeValue<'_>| to.as_str().is_some_and(|to| prefixes(to).iter().any(|to| to.to_string() == name));
    match value("to") {
        Some(DeValue::Array(list)) => list.iter().any(|to| leads_there(to.get_ref())),
        Some(one) => leads_there(one),
        None => false,
    }
}

fn prefixes(to: &str) -> Vec<IpNet> {
    match to {
        "default" => vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())],
        _ => value::prefix(to).into_iter().collect(),
    }
}
