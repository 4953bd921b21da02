//! The values of a configuration in the form that a file has them: what a reload compares, and what is shown.

use std::hash::Hasher;
use std::ops::RangeInclusive;

use crate::config::Secret;
use crate::config::schema::{Key, Unset, choice_name};
use crate::config::value::{format_duration, format_ports};
use crate::time::Duration;

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The key has no value.
    None,
    /// A number or a boolean, as the file has it.
    Bare(String),
    /// A string.
    Text(String),
    /// A list of values.
    List(Vec<Self>),
    /// A value that may not be shown, or is too long for it. Equal values have equal digests.
    Hidden(u64),
}

/// What is shown in place of a hidden value.
pub const HIDDEN: &str = "(hidden)";

impl Value {
    /// The value for people to read; `key` says what it means that there is none.
    pub fn describe(&self, key: &Key) -> String {
        match (self, key.unset) {
            (Self::None, Unset::Means(means)) => means.to_owned(),
            (Self::None, Unset::Default | Unset::Required(_)) => "none".to_owned(),
            (Self::Bare(text) | Self::Text(text), _) => text.clone(),
            (Self::List(values), _) => values.iter().map(|value| value.describe(key)).collect::<Vec<_>>().join(", "),
            (Self::Hidden(_), _) => HIDDEN.to_owned(),
        }
    }

    /// The value as the file has it; `None` if there is none.
    pub fn literal(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Bare(text) => Some(text.clone()),
            Self::Text(text) => Some(toml::Value::String(text.clone()).to_string()),
            Self::List(values) => {
                let values: Vec<String> = values.iter().filter_map(Self::literal).collect();
                Some(format!("[{}]", values.join(", ")))
            }
            Self::Hidden(_) => Some(format!("{HIDDEN:?}")),
        }
    }
}

/// A string of the file.
pub fn text(value: impl ToString) -> Value {
    Value::Text(value.to_string())
}

/// A number or a boolean.
pub fn bare(value: impl ToString) -> Value {
    Value::Bare(value.to_string())
}

/// The value that `show` makes, if there is one.
pub fn or_none<T>(value: Option<T>, show: impl Fn(T) -> Value) -> Value {
    value.map_or(Value::None, show)
}

/// A list of the file; an empty one is left out there.
pub fn list<'a, T>(values: &'a [T], show: impl Fn(&'a T) -> Value) -> Value {
    match values {
        [] => Value::None,
        values => Value::List(values.iter().map(show).collect()),
    }
}

/// A duration.
pub fn time(value: Duration) -> Value {
    text(format_duration(value))
}

/// A duration, or `never`.
pub fn or_never(value: Option<Duration>) -> Value {
    value.map_or_else(|| text("never"), time)
}

/// A value that is compared by its digest and never shown.
pub fn hidden(content: &str) -> Value {
    let mut hasher = siphasher::sip::SipHasher13::new();
    hasher.write(content.as_bytes());
    Value::Hidden(hasher.finish())
}

/// One port or range of them: `80`, `"8000-8099"`, `"any"`.
pub fn ports(ports: &RangeInclusive<u16>) -> Value {
    let shown = format_ports(ports);
    match shown.parse::<u16>() {
        Ok(_) => bare(shown),
        Err(_) => text(shown),
    }
}

/// The word of a choice.
pub fn word<T: PartialEq>(choices: &[(&'static str, T)], value: &T) -> Value {
    text(choice_name(choices, value))
}

/// A secret.
pub fn secret(secret: &Secret) -> Value {
    hidden(secret.expose())
}
