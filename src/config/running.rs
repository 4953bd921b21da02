//! Lists the configuration in force: every key with its value, and whether the file sets it or leaves it to its
//! default.

use std::fmt::Write;

use toml::de::DeValue;

use crate::config::Config;
use crate::config::difference::{HIDDEN, Section, keys_of, sections};
use crate::config::schema::{Key, ValueKind};
use crate::config::source_text::SourceText;

/// One key of a configuration with its value.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Setting {
    /// What the key belongs to: `engine`, `firewall perimeter/fw2`.
    pub subject: String,
    /// The key, as differences name it: `weight`, `check.interval`.
    pub key: String,
    /// The value as the file would have it; null if there is none. A secret is `"(hidden)"` or the `"file:/path"` that
    /// contains it.
    pub value: Option<String>,
    /// True if the file leaves the key out.
    pub default: bool,
    /// What it means that there is no value; null if there is one.
    pub means: Option<String>,
}

/// Every key of `config`, which was read from `text`.
pub fn settings(config: &Config, text: &str) -> Vec<Setting> {
    let typed = SourceText::read(text);
    let sections = sections(config);
    sections.iter().flat_map(|section| of_section(section, typed.as_ref())).map(|(_, setting)| setting).collect()
}

fn of_section(section: &Section, typed: Option<&SourceText<'_>>) -> Vec<(&'static Key, Setting)> {
    let facts = keys_of(section).map(|(key, value)| {
        let given = typed.and_then(|typed| typed.value(section, key.name));
        let value_shown = match key.kind {
            ValueKind::Secret(_) | ValueKind::File(_) => Some(place_of_secret(key, given.map(|given| given.get_ref()))),
            _ => value.literal(),
        };
        let setting = Setting {
            subject: section.subject.clone(),
            key: section.name(key.name),
            means: value_shown.is_none().then(|| value.describe(key)),
            value: value_shown,
            default: given.is_none(),
        };
        (key, setting)
    });
    facts.collect()
}

/// A secret that stands in a file of its own is shown as the name of that file, which reveals nothing; any other is
/// hidden.
fn place_of_secret(key: &Key, given: Option<&DeValue<'_>>) -> String {
    let named = given
        .and_then(DeValue::as_str)
        .filter(|text| text.starts_with("file:") || matches!(key.kind, ValueKind::File(_)));
    toml::Value::String(named.unwrap_or(HIDDEN).to_owned()).to_string()
}

/// The configuration in force as a file that means the same. Secrets that stand in the file itself are hidden and must
/// be filled in again before an engine takes it.
pub fn running_config(config: &Config, text: &str) -> String {
    let typed = SourceText::read(text);
    let mut out = format!(
        "# What engine {} runs with. `# default`: its file leaves the key out. Each key: fwlb.toml(5).\n",
        config.engine.name
    );
    for section in sections(config) {
        if section.schema.has_header() {
            let _ = writeln!(out, "\n{}", section.schema.section);
        }
        for (key, Setting { subject: _, key: name, value, default, means }) in of_section(&section, typed.as_ref()) {
            let name = if section.schema.has_header() { key.name } else { name.as_str() };
            let line = match (value, means) {
                (Some(value), _) => format!("{name} = {value}"),
                (None, means) => format!("# {name}: {}", means.unwrap_or_default()),
            };
            let _ = match default {
                true => writeln!(out, "{line:<40}  # default"),
                false => writeln!(out, "{line}"),
            };
        }
    }
    out
}
