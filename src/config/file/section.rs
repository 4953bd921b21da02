//! Declares a section of the file: each key once, with its type, range, default and purpose.
//!
//! One declaration gives the [`Schema`](crate::config::schema::Schema) with the names that the did-you-mean hints know
//! and what the reference says, the structure of the typed values, the function that reads it, the defaults, and the
//! facts that a reload compares.

/// Declares one section. It stands for a structure with one field for each key.
///
/// ```text
/// /// The values of `[[group.peer]]`.
/// Peer = "[[group.peer]]" "What the section is for.";
/// facts(peer: &config::Peer, config);             the names that the facts use
/// reserved "later-key";                           keys of a later version
/// FIELD: TYPE = KIND("KEY", …), LEFT-OUT, [with_restart,] "What the key is for." => FACT;
/// ```
///
/// An inline table has an example after its name: ``"`tls` of [api]" as "tls = { … }"``. `TYPE` is that of one value.
/// `KIND` says how the value is read, and how it is described:
///
/// | kind | arguments |
/// | --- | --- |
/// | `flag` | none |
/// | `number` | the range; if there is one, the hint for a number outside it |
/// | `duration`, `duration_or_never` | the range |
/// | `choice`, `choices` | the list of words; if there are any, the words of a later version, each with what to write instead |
/// | `ranges` | the bounds, and the word for all of them |
/// | `string`, `strings` | what it is, and the function that reads one |
/// | `secret`, `file` | what it is |
/// | `table`, `tables` | none; the type is that of the subsection, and there is no fact |
/// | `tables_or_names` | the same; a bare string is a subsection with that name |
/// | `with` | the [`ValueKind`](crate::config::schema::ValueKind), and the function that reads the key |
///
/// `LEFT-OUT` is `required(EXAMPLE)`, `unset(WHAT-IT-MEANS)`, `optional(DEFAULT)`, which also gives a method of the
/// field's name that returns the value or the default, or `optional()` if validation finds the default.
macro_rules! section {
    (
        $(#[$doc:meta])*
        $name:ident = $section:literal $(as $inline:literal)? $about:literal;
        facts($of:ident: &$meaning:ty, $config:ident);
        reserved $($reserved:literal),*;
        $(
            $(#[$field_doc:meta])*
            $field:ident: $type:ty = $kind:ident($key:literal $(, $arg:expr)*), $left_out:ident($($left_out_arg:expr)?),
            $($restart:ident,)? $description:literal $(=> $fact:expr)?;
        )*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default)]
        pub struct $name {
            /// Byte range of the header.
            pub span: std::ops::Range<usize>,
            $($(#[$field_doc])* pub $field: section!(@type $kind $type),)*
        }

        impl $crate::config::reader::Declared for $name {
            fn schema() -> &'static $crate::config::schema::Schema {
                static SCHEMA: $crate::config::schema::Schema = $crate::config::schema::Schema {
                    section: $section,
                    inline: section!(@inline $($inline)?),
                    about: $about,
                    keys: &[$(
                        $crate::config::schema::Key::new(
                            $key,
                            section!(@kind $kind $(, $arg)*),
                            section!(@left_out $left_out $(, $left_out_arg)?),
                            $description,
                        )
                        $(.$restart())?,
                    )*],
                    reserved: &[$($reserved),*],
                };
                &SCHEMA
            }

            fn read(reader: &$crate::config::reader::Reader<'_>, out: &mut $crate::config::diagnostic::Diagnostics) -> Self {
                Self { span: reader.span(), $($field: section!(@read reader, out, $kind, $key $(, $arg)*),)* }
            }
        }

        impl $name {
            $(section!(@default $left_out $field: $type $(, $left_out_arg)?);)*

            /// The keys and values of the section in a configuration, without subsections.
            pub fn facts($of: &$meaning, $config: &$crate::config::Config) -> Vec<(&'static str, $crate::config::fact::Value)> {
                [$(section!(@fact $kind, $key $(, $fact)?)),*].into_iter().flatten().collect()
            }
        }
    };

    (@inline) => { None };
    (@inline $example:literal) => { Some($example) };

    (@type table $type:ty) => { Option<$type> };
    (@type tables $type:ty) => { Vec<$type> };
    (@type tables_or_names $type:ty) => { Vec<$type> };
    (@type strings $type:ty) => { section!(@type list $type) };
    (@type choices $type:ty) => { section!(@type list $type) };
    (@type ranges $type:ty) => { section!(@type list $type) };
    (@type list $type:ty) => { $crate::config::reader::Field<Vec<$crate::config::reader::Located<$type>>> };
    (@type $kind:ident $type:ty) => { $crate::config::reader::Field<$type> };

    (@kind flag) => { $crate::config::schema::ValueKind::Flag };
    (@kind number, $range:expr $(, $hint:expr)?) => { $crate::config::schema::ValueKind::Number($range) };
    (@kind duration, $range:expr) => { $crate::config::schema::ValueKind::Duration($range) };
    (@kind duration_or_never, $range:expr) => { $crate::config::schema::ValueKind::DurationOrNever($range) };
    (@kind choice, $list:expr $(, $reserved:expr)?) => {
        $crate::config::schema::ValueKind::Choice(|| $crate::config::schema::choice_names($list))
    };
    (@kind choices, $list:expr $(, $reserved:expr)?) => {
        $crate::config::schema::ValueKind::Choices(|| $crate::config::schema::choice_names($list))
    };
    (@kind ranges, $bounds:expr, $all:expr) => { $crate::config::schema::ValueKind::Ranges($bounds, $all) };
    (@kind string, $what:expr, $parse:expr) => { $crate::config::schema::ValueKind::String($what) };
    (@kind strings, $what:expr, $parse:expr) => { $crate::config::schema::ValueKind::Strings($what) };
    (@kind secret, $what:expr) => { $crate::config::schema::ValueKind::Secret($what) };
    (@kind file, $what:expr) => { $crate::config::schema::ValueKind::File($what) };
    (@kind table) => { $crate::config::schema::ValueKind::Table };
    (@kind tables) => { $crate::config::schema::ValueKind::Tables };
    (@kind tables_or_names) => { $crate::config::schema::ValueKind::Tables };
    (@kind with, $kind:expr, $read:expr) => { $kind };

    (@reserved) => { &[] };
    (@reserved $words:expr) => { $words };

    (@left_out required, $example:expr) => { $crate::config::schema::Unset::Required($example) };
    (@left_out unset, $means:expr) => { $crate::config::schema::Unset::Means($means) };
    (@left_out optional $(, $default:expr)?) => { $crate::config::schema::Unset::Default };

    (@read $reader:ident, $out:ident, number, $key:literal, $range:expr, $hint:expr) => {
        $reader.number_or($key, Some($hint), $out)
    };
    (@read $reader:ident, $out:ident, choice, $key:literal, $list:expr $(, $reserved:expr)?) => {
        $reader.choice($key, $list, section!(@reserved $($reserved)?), $out)
    };
    (@read $reader:ident, $out:ident, choices, $key:literal, $list:expr $(, $reserved:expr)?) => {
        $reader.choices($key, $list, section!(@reserved $($reserved)?), $out)
    };
    (@read $reader:ident, $out:ident, string, $key:literal, $what:expr, $parse:expr) => {
        $reader.string($key, $parse, $out)
    };
    (@read $reader:ident, $out:ident, strings, $key:literal, $what:expr, $parse:expr) => {
        $reader.strings($key, $parse, $out)
    };
    (@read $reader:ident, $out:ident, secret, $key:literal, $what:expr) => { $reader.text($key, $out) };
    (@read $reader:ident, $out:ident, file, $key:literal, $what:expr) => { $reader.text($key, $out) };
    (@read $reader:ident, $out:ident, with, $key:literal, $kind:expr, $read:expr) => { $read($reader, $out) };
    // The range is the declared one, which the reader looks up by the name of the key.
    (@read $reader:ident, $out:ident, $kind:ident, $key:literal $(, $arg:expr)*) => { $reader.$kind($key, $out) };

    (@default optional $field:ident: $type:ty, $default:expr) => {
        /// The value, or its default.
        pub fn $field(&self) -> $type {
            self.$field.value_or(|| $default)
        }
    };
    (@default $left_out:ident $field:ident: $type:ty $(, $arg:expr)?) => {};

    (@fact table, $key:literal) => { None };
    (@fact tables, $key:literal) => { None };
    (@fact tables_or_names, $key:literal) => { None };
    (@fact $kind:ident, $key:literal, $fact:expr) => { Some(($key, $fact)) };
}

pub(super) use section;
