//! What is known of one key of the file, and where it stands.

use std::ops::Range;

/// The value of a key as far as it could be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Field<T> {
    /// The key is left out.
    #[default]
    Absent,
    /// The key is given, but its value is wrong, which has been reported.
    Invalid,
    /// The key is given and its value is valid.
    Given(Located<T>),
}

/// A value with its place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// The place as a range of bytes of the text.
    pub span: Range<usize>,
}

impl<T> Located<T> {
    /// A `value` that stands at `span`.
    pub fn new(value: T, span: Range<usize>) -> Self {
        Self { value, span }
    }
}

impl<T> Field<T> {
    /// The same field with its value passed through `f`.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Field<U> {
        match self {
            Self::Absent => Field::Absent,
            Self::Invalid => Field::Invalid,
            Self::Given(at) => Field::Given(Located::new(f(at.value), at.span)),
        }
    }

    /// The value with its place, if it was given and is valid.
    pub fn given(&self) -> Option<&Located<T>> {
        match self {
            Self::Given(at) => Some(at),
            Self::Absent | Self::Invalid => None,
        }
    }
}

impl<T: Clone> Field<T> {
    /// A copy of the value, if it was given and is valid.
    pub fn value(&self) -> Option<T> {
        self.given().map(|at| at.value.clone())
    }

    /// The value, or `default` if the key is left out or invalid.
    pub fn value_or(&self, default: impl FnOnce() -> T) -> T {
        self.value().unwrap_or_else(default)
    }
}
