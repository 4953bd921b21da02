//! What a file may hold: every section with its keys, each declared once.
//!
//! From a [`Key`] come the words of the reader's messages and the bounds that it holds a value to, what a reload may change,
//! the differences between two configurations, `show config --all`, and the reference, fwlb.toml(5). The declarations stand
//! beside the structures they are read into, in [`crate::config::file`].

use std::ops::RangeInclusive;

use crate::time::Duration;

/// What one kind of table may hold.
#[derive(Debug)]
pub struct Schema {
    /// As its header is written: `[[group]]`, `[group.check]`.
    pub section: &'static str,
    /// What it is for, in a sentence or two.
    pub about: &'static str,
    /// Its keys, in the order of the reference.
    pub keys: &'static [Key],
    /// Keys that a later version will have.
    pub reserved: &'static [&'static str],
    /// Keys that this version does not have, with what is to be said about each.
    pub absent: &'static [(&'static str, &'static str)],
}

impl Schema {
    /// The key of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The names of its keys.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.keys.iter().map(|key| key.name)
    }

    /// True for what has a header of its own, false for a table that is written behind its key.
    pub fn has_header(&self) -> bool {
        self.section.starts_with('[')
    }
}

/// One key of a section.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds where it is left out.
    pub unset: Unset,
    /// What it is for, in one line.
    pub says: &'static str,
    /// A reload cannot change it.
    pub restart: bool,
}

/// What holds where a key is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// The section is refused without it; an example of a value.
    Required(&'static str),
    /// The value that [`crate::config::validate`] fills in.
    Default,
    /// No value of its own; what that means.
    Means(&'static str),
}

/// What a key takes.
#[derive(Debug)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Number(RangeInclusive<u64>),
    /// A duration such as `"2s"`.
    Duration(RangeInclusive<Duration>),
    /// A duration, or `"never"`.
    DurationOrNever(RangeInclusive<Duration>),
    /// One of these words.
    Choice(fn() -> Vec<&'static str>),
    /// One of these words, or a list of them.
    Choices(fn() -> Vec<&'static str>),
    /// Numbers and ranges of them such as `"200-399"`, one or a list; with a word for all of them, where there is one.
    Ranges(RangeInclusive<u16>, Option<&'static str>),
    /// A string; what it is.
    Word(&'static str),
    /// A string or a list of them; what each is.
    Words(&'static str),
    /// A text that is never shown, or `"file:/path"` of the file that has it.
    Secret(&'static str),
    /// A file whose content is taken along; what it holds.
    File(&'static str),
    /// A section of its own, once.
    Table,
    /// Sections of their own, any number of them.
    Tables,
}

impl Key {
    /// A key without which its section is refused.
    pub const fn required(name: &'static str, kind: Kind, example: &'static str, says: &'static str) -> Self {
        Self { name, kind, unset: Unset::Required(example), says, restart: false }
    }

    /// A key with a default.
    pub const fn optional(name: &'static str, kind: Kind, says: &'static str) -> Self {
        Self { name, kind, unset: Unset::Default, says, restart: false }
    }

    /// A key that may have no value, which means what `means` says.
    pub const fn unset(name: &'static str, kind: Kind, means: &'static str, says: &'static str) -> Self {
        Self { name, kind, unset: Unset::Means(means), says, restart: false }
    }

    /// The same, of which a reload says that it takes a restart.
    pub const fn at_start(self) -> Self {
        Self { restart: true, ..self }
    }
}

/// The words of a table of choices.
pub fn words<T>(choices: &[(&'static str, T)]) -> Vec<&'static str> {
    choices.iter().map(|(word, _)| *word).collect()
}

/// The word of a table of choices that stands for `value`.
pub fn word_of<T: PartialEq>(choices: &[(&'static str, T)], value: &T) -> &'static str {
    choices.iter().find(|(_, choice)| choice == value).map_or("?", |(word, _)| *word)
}
