//! Defines how a section of the file and its keys are declared. Each key is declared once.
//!
//! From a [`Key`] come the messages of the reader and the range that it checks, what a reload may change, the
//! differences between two configurations, `show config --all`, and the reference fwlb.toml(5). The declarations stand
//! beside the structures that hold the typed values, in [`crate::config::file`].

use std::ops::RangeInclusive;

use crate::time::Duration;

/// The declaration of one kind of table.
#[derive(Debug)]
pub struct Schema {
    /// The header as it is written in a file: `[[group]]`, `[group.check]`.
    pub section: &'static str,
    /// The purpose of the section, in a sentence or two.
    pub about: &'static str,
    /// Its keys, in the order of the reference.
    pub keys: &'static [Key],
    /// Names of keys that a later version will have.
    pub reserved: &'static [&'static str],
    /// Names of keys that this version does not have, each with the error message for it.
    pub absent: &'static [(&'static str, &'static str)],
}

impl Schema {
    /// The declaration of the key with this name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The names of the section's keys.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.keys.iter().map(|key| key.name)
    }

    /// True for a section with a header of its own, false for an inline table.
    pub fn has_header(&self) -> bool {
        self.section.starts_with('[')
    }
}

/// The declaration of one key.
#[derive(Debug)]
pub struct Key {
    /// The name of the key.
    pub name: &'static str,
    /// The type of its value.
    pub kind: ValueKind,
    /// What applies if the key is left out.
    pub unset: Unset,
    /// The purpose of the key, in one line.
    pub description: &'static str,
    /// Whether a change of the key takes a restart of the engine.
    pub restart: bool,
}

/// What applies if a key is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// The key is mandatory; the text is an example of its value.
    Required(&'static str),
    /// The default that [`crate::config::validate`] fills in.
    Default,
    /// The key has no value then; the text says what that means.
    Means(&'static str),
}

/// The type of a key's value.
#[derive(Debug)]
pub enum ValueKind {
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Number(RangeInclusive<u64>),
    /// A duration such as `"2s"`.
    Duration(RangeInclusive<Duration>),
    /// A duration, or `"never"`.
    DurationOrNever(RangeInclusive<Duration>),
    /// One of these strings.
    Choice(fn() -> Vec<&'static str>),
    /// One of these strings, or a list of them.
    Choices(fn() -> Vec<&'static str>),
    /// Numbers and ranges such as `"200-399"`, one or a list of them; the second field is the name of the whole range,
    /// where there is one.
    Ranges(RangeInclusive<u16>, Option<&'static str>),
    /// A string; the text says what it is.
    String(&'static str),
    /// A string or a list of strings; the text says what each is.
    Strings(&'static str),
    /// A text that is never shown, or the `"file:/path"` that contains it; the text says what it is.
    Secret(&'static str),
    /// The path of a file whose content becomes part of the configuration; the text says what it contains.
    File(&'static str),
    /// A subsection that stands at most once.
    Table,
    /// A list of subsections.
    Tables,
}

impl Key {
    /// A mandatory key; `example` is a value for the error message.
    pub const fn required(name: &'static str, kind: ValueKind, example: &'static str, says: &'static str) -> Self {
        Self { name, kind, unset: Unset::Required(example), description: says, restart: false }
    }

    /// A key with a default.
    pub const fn optional(name: &'static str, kind: ValueKind, says: &'static str) -> Self {
        Self { name, kind, unset: Unset::Default, description: says, restart: false }
    }

    /// A key without a default; `means` says what it means to leave it out.
    pub const fn unset(name: &'static str, kind: ValueKind, means: &'static str, says: &'static str) -> Self {
        Self { name, kind, unset: Unset::Means(means), description: says, restart: false }
    }

    /// The same key, whose change takes a restart of the engine.
    pub const fn with_restart(self) -> Self {
        Self { restart: true, ..self }
    }
}

/// The names of a list of choices.
pub fn choice_names<T>(choices: &[(&'static str, T)]) -> Vec<&'static str> {
    choices.iter().map(|(word, _)| *word).collect()
}

/// The name that stands for `value` in a list of choices, or `?`.
pub fn choice_name<T: PartialEq>(choices: &[(&'static str, T)], value: &T) -> &'static str {
    choices.iter().find(|(_, choice)| choice == value).map_or("?", |(word, _)| *word)
}
