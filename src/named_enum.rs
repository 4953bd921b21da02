//! Enums whose variants have names for operators, each declared in one list.
//!
//! From the list come the enum, its names, their order, the form in JSON and TOML, and the values in the OpenAPI
//! document. [`EnumOrUnknown`] reads such a name from an engine of another version, which may know more of them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares an enum and the name of each variant: in configuration files, on the command line, in JSON and in every
/// output. The names are a contract with users.
///
/// ```text
/// named_enum! {
///     /// State of a link.
///     pub enum OperState {
///         /// It carries packets.
///         Up = "up",
///         /// It does not.
///         Down = "down",
///     }
/// }
/// ```
macro_rules! named_enum {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $word:tt,)+
        }
    ) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[derive(utoipa::ToSchema)]
        $(#[$meta])*
        $visibility enum $name {
            $($(#[$variant_meta])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All values in the order of their declaration.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The names of all values.
            pub const NAMES: [&'static str; [$($word),+].len()] = [$($word),+];

            /// All values, each with its name.
            pub const CHOICES: [(&'static str, Self); [$($word),+].len()] = [$(($word, Self::$variant)),+];

            /// The name in files, commands and output.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl $crate::named_enum::Named for $name {
            fn name(self) -> &'static str {
                Self::name(self)
            }
        }
    };
}

/// An enum that `named_enum!` declares.
pub trait Named: Copy {
    /// The name in files, commands and output.
    fn name(self) -> &'static str;
}

/// A value of an enum, or a name that this version does not know.
///
/// Answers of engines carry it, so that a client reads and shows the answer of a newer engine whose enum has grown. An
/// unknown name equals no value of the enum.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EnumOrUnknown<T> {
    /// A value that this version knows.
    Known(T),
    /// The name as it came.
    Unknown(String),
}

impl<T: Named> EnumOrUnknown<T> {
    /// The name, known or not.
    pub fn name(&self) -> &str {
        match self {
            Self::Known(value) => value.name(),
            Self::Unknown(name) => name,
        }
    }

    /// The value, if this version knows it.
    pub const fn known(&self) -> Option<T> {
        match self {
            Self::Known(value) => Some(*value),
            Self::Unknown(_) => None,
        }
    }
}

/// What an engine means that is too old to name a value: the default.
impl<T: Default> Default for EnumOrUnknown<T> {
    fn default() -> Self {
        Self::Known(T::default())
    }
}

impl<T> From<T> for EnumOrUnknown<T> {
    fn from(value: T) -> Self {
        Self::Known(value)
    }
}

impl<T: PartialEq> PartialEq<T> for EnumOrUnknown<T> {
    fn eq(&self, other: &T) -> bool {
        matches!(self, Self::Known(value) if value == other)
    }
}

impl<T: Named> fmt::Display for EnumOrUnknown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::EnumOrUnknown;

    named_enum! {
        /// A list of two.
        enum Two {
            /// The first.
            FirstOfAll = "first-of-all",
            /// The second.
            Second = "second",
        }
    }

    #[test]
    fn a_name_is_the_same_in_every_form() {
        for (name, value) in Two::CHOICES {
            assert_eq!((value.name(), value.to_string().as_str()), (name, name));
            assert_eq!((to_value(value).unwrap(), from_value::<Two>(json!(name)).unwrap()), (json!(name), value));
        }
        assert_eq!((Two::ALL, Two::NAMES), ([Two::FirstOfAll, Two::Second], ["first-of-all", "second"]));
    }

    #[test]
    fn a_name_that_a_newer_engine_adds_is_read_and_shown_as_it_came() {
        let known: EnumOrUnknown<Two> = from_value(json!("second")).unwrap();
        let added: EnumOrUnknown<Two> = from_value(json!("third")).unwrap();

        assert_eq!((known.known(), known.name()), (Some(Two::Second), "second"));
        assert_eq!((added.known(), added.name(), format!("{added:>6}").as_str()), (None, "third", " third"));
        assert_eq!(to_value(&added).unwrap(), json!("third"));
        assert!(known == Two::Second && Two::ALL.iter().all(|value| added != *value));
        assert!(from_value::<EnumOrUnknown<Two>>(json!(3)).is_err() && from_value::<Two>(json!("third")).is_err());
    }
}
