//! Reads tables of the parsed text key by key. A wrong value hides no other mistake: each read returns a [`Field`], and
//! mistakes are added to the diagnostics.

mod unknown_key;

use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::diagnostic::{Diagnostic, Diagnostics};
pub use crate::config::field::{Field, Located};
use crate::config::schema::{self, Key, Schema, Unset, ValueKind};
use crate::config::synonyms;
use crate::config::value::{self, InvalidValue, did_you_mean};
use crate::time::Duration;

use unknown_key::refuse_key;

/// A section of the file, as `section!` of [`crate::config::file`] declares it.
pub trait Declared: Sized {
    /// The declaration.
    fn schema() -> &'static Schema;

    /// Reads the keys of one table.
    fn read(reader: &Reader<'_>, out: &mut Diagnostics) -> Self;
}

/// Reads one table.
pub struct Reader<'a> {
    table: &'a DeTable<'a>,
    schema: &'static Schema,
    /// All sections of the file, so that the message about a key can say to which other one it belongs.
    all: &'a [&'static Schema],
    span: Range<usize>,
}

impl<'a> Reader<'a> {
    /// Reads the file as a whole, whose sections are `all`.
    pub fn root(
        table: &'a DeTable<'a>,
        schema: &'static Schema,
        all: &'a [&'static Schema],
        out: &mut Diagnostics,
    ) -> Self {
        Self::new(table, 0..0, schema, all, out)
    }

    /// Reads `table`, whose header stands at `span`. Reports keys that `schema` does not have, and mandatory keys that
    /// the table lacks.
    fn new(
        table: &'a DeTable<'a>,
        span: Range<usize>,
        schema: &'static Schema,
        all: &'a [&'static Schema],
        out: &mut Diagnostics,
    ) -> Self {
        for key in table.keys() {
            if schema.key(key.get_ref()).is_none() {
                out.push(refuse_key(key, schema, all));
            }
        }
        for key in schema.keys {
            if let Unset::Required(example) = key.unset
                && !matches!(key.kind, ValueKind::Table | ValueKind::Tables)
                && table.get(key.name).is_none()
            {
                let message = format!("{} needs `{}`", schema.section, key.name);
                out.push(
                    Diagnostic::error(span.clone(), message).hint(format!("add for example {} = {example}", key.name)),
                );
            }
        }
        Self { table, schema, all, span }
    }

    /// The byte range of the table's header.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The unread value of `key`.
    pub fn raw(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        debug_assert!(self.schema.key(key).is_some(), "{} has no key {key}", self.schema.section);
        self.table.get(key)
    }

    /// The declaration of `key`.
    fn key(&self, key: &str) -> &'static Key {
        self.schema.key(key).expect("the reader asks for declared keys only")
    }

    /// Reads a string with `parse`.
    pub fn string<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, InvalidValue>,
        out: &mut Diagnostics,
    ) -> Field<T> {
        match self.raw(key) {
            None => Field::Absent,
            Some(raw) => one_string(key, raw, &parse, out).map_or(Field::Invalid, Field::Given),
        }
    }

    /// Reads a string as it is.
    pub fn text(&self, key: &str, out: &mut Diagnostics) -> Field<String> {
        self.string(key, |text| Ok(text.to_owned()), out)
    }

    /// Reads a list of strings with `parse`; a single string counts as a list of one. One wrong item makes the field
    /// invalid.
    pub fn strings<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, InvalidValue>,
        out: &mut Diagnostics,
    ) -> Field<Vec<Located<T>>> {
        let Some(raw) = self.raw(key) else { return Field::Absent };
        let DeValue::Array(array) = raw.get_ref() else {
            return match one_string(key, raw, &parse, out) {
                Some(at) => Field::Given(Located::new(vec![at], raw.span())),
                None => Field::Invalid,
            };
        };
        if array.is_empty() {
            out.push(Diagnostic::error(raw.span(), format!("`{key}` is an empty list")).hint("leave the key out"));
            return Field::Invalid;
        }
        let words: Vec<_> = array.iter().filter_map(|raw| one_string(key, raw, &parse, out)).collect();
        match words.len() == array.len() {
            true => Field::Given(Located::new(words, raw.span())),
            false => Field::Invalid,
        }
    }

    /// Reads one of the choices that the key is declared with. `reserved` are the words of a later version, each with
    /// what to write instead.
    pub fn choice<T: Copy>(
        &self,
        key: &str,
        choices: &[(&'static str, T)],
        reserved: &[(&str, &str)],
        out: &mut Diagnostics,
    ) -> Field<T> {
        self.debug_assert_declared(key, choices);
        self.string(key, |text| one_choice(key, text, choices, reserved), out)
    }

    /// Reads a list of the choices that the key is declared with; a single one counts as a list of one. `reserved` are
    /// the words of a later version, each with what to write instead.
    pub fn choices<T: Copy>(
        &self,
        key: &str,
        choices: &[(&'static str, T)],
        reserved: &[(&str, &str)],
        out: &mut Diagnostics,
    ) -> Field<Vec<Located<T>>> {
        self.debug_assert_declared(key, choices);
        self.strings(key, |text| one_choice(key, text, choices, reserved), out)
    }

    fn debug_assert_declared<T>(&self, key: &str, choices: &[(&'static str, T)]) {
        debug_assert!(
            matches!(
                self.key(key).kind,
                ValueKind::Choice(words) | ValueKind::Choices(words) if words() == schema::choice_names(choices)
            ),
            "`{key}` of {} is declared with other words",
            self.schema.section
        );
    }

    /// Reads a whole number in the declared range.
    pub fn number<T: TryFrom<u64>>(&self, key: &str, out: &mut Diagnostics) -> Field<T> {
        self.number_or(key, None, out)
    }

    /// Reads a whole number in the declared range; `hint` says what to do about one outside it.
    pub fn number_or<T: TryFrom<u64>>(&self, key: &str, hint: Option<&str>, out: &mut Diagnostics) -> Field<T> {
        let ValueKind::Number(range) = &self.key(key).kind else { unreachable!("`{key}` is declared as a number") };
        let Some(raw) = self.raw(key) else { return Field::Absent };
        let expected = match *range.end() {
            u64::MAX => format!("at least {}", range.start()),
            end => format!("{}..={end}", range.start()),
        };
        let DeValue::Integer(integer) = raw.get_ref() else {
            let message = format!("`{key}` must be a number, {expected}, found {}", kind(raw.get_ref()));
            let meant = match raw.get_ref() {
                DeValue::String(text) => value::amount(text),
                DeValue::Float(number) => value::amount(number.as_str()),
                DeValue::Integer(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_)
                | DeValue::Table(_) => None,
            };
            let meant = meant.filter(|number| range.contains(number));
            let unquoted = meant.map(|number| format!("write {key} = {}", value::format_amount(number)));
            out.push(Diagnostic { hint: unquoted, ..Diagnostic::error(raw.span(), message) });
            return Field::Invalid;
        };
        let digits = integer.as_str().replace('_', "");
        let number = u64::from_str_radix(&digits, integer.radix()).ok().filter(|number| range.contains(number));
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => Field::Given(Located::new(number, raw.span())),
            None => {
                let error = Diagnostic::error(raw.span(), format!("`{key}` must be {expected}, found {integer}"));
                out.push(Diagnostic { hint: hint.map(str::to_owned), ..error });
                Field::Invalid
            }
        }
    }

    /// Reads numbers and ranges such as `"200-399"` in the declared bounds; a single one counts as a list of one.
    pub fn ranges(&self, key: &str, out: &mut Diagnostics) -> Field<Vec<Located<RangeInclusive<u16>>>> {
        let ValueKind::Ranges(bounds, all) = &self.key(key).kind else { unreachable!("`{key}` is declared as ranges") };
        let Some(raw) = self.raw(key) else { return Field::Absent };
        let items = match raw.get_ref() {
            DeValue::Array(array) if array.is_empty() => {
                out.push(Diagnostic::error(raw.span(), format!("`{key}` is an empty list")).hint("leave the key out"));
                return Field::Invalid;
            }
            DeValue::Array(array) => array.iter().collect(),
            _ => vec![raw],
        };
        let mut ranges = Vec::new();
        for item in &items {
            match one_range(key, item.get_ref(), bounds, *all) {
                Ok(range) => ranges.push(Located::new(range, item.span())),
                Err(message) => out.push(Diagnostic::error(item.span(), message)),
            }
        }
        match ranges.len() == items.len() {
            true => Field::Given(Located::new(ranges, raw.span())),
            false => Field::Invalid,
        }
    }

    /// Reads `true` or `false`.
    pub fn flag(&self, key: &str, out: &mut Diagnostics) -> Field<bool> {
        let Some(raw) = self.raw(key) else { return Field::Absent };
        match raw.get_ref() {
            DeValue::Boolean(flag) => Field::Given(Located::new(*flag, raw.span())),
            other => {
                let message = format!("`{key}` must be true or false, found {}", kind(other));
                out.push(Diagnostic::error(raw.span(), message));
                Field::Invalid
            }
        }
    }

    /// Reads a duration in the declared range.
    pub fn duration(&self, key: &str, out: &mut Diagnostics) -> Field<Duration> {
        let ValueKind::Duration(range) = &self.key(key).kind else { unreachable!("`{key}` is declared as a duration") };
        self.time(key, range, false, out).map(|time| time.expect("`never` was not allowed"))
    }

    /// Reads a duration in the declared range, or `"never"`, which is `None`.
    pub fn duration_or_never(&self, key: &str, out: &mut Diagnostics) -> Field<Option<Duration>> {
        let ValueKind::DurationOrNever(range) = &self.key(key).kind else {
            unreachable!("`{key}` is declared as a duration or never")
        };
        self.time(key, range, true, out)
    }

    fn time(
        &self,
        key: &str,
        range: &RangeInclusive<Duration>,
        never: bool,
        out: &mut Diagnostics,
    ) -> Field<Option<Duration>> {
        if let Some(raw) = self.raw(key)
            && let DeValue::Integer(number) = raw.get_ref()
        {
            let message = format!("`{key}` must be a duration, found the number {number}");
            out.push(Diagnostic::error(raw.span(), message).hint(format!("add a unit: {key} = \"{number}s\"")));
            return Field::Invalid;
        }
        let parse = |text: &str| match (text, never) {
            ("never", true) => Ok(None),
            ("never", false) => Err(InvalidValue::new(format!("`{key}` cannot be \"never\""))),
            _ => {
                let time = value::duration(text)?;
                let (least, most) = (value::format_duration(*range.start()), value::format_duration(*range.end()));
                match range.contains(&time) {
                    true => Ok(Some(time)),
                    false => Err(InvalidValue::new(format!("`{key}` must be {least} to {most}, found {text:?}"))),
                }
            }
        };
        self.string(key, parse, out)
    }

    /// Reads the section under `key`, which stands at most once.
    pub fn table<T: Declared>(&self, key: &str, out: &mut Diagnostics) -> Option<T> {
        let (table, span) = self.raw_table(key, T::schema().written(), out)?;
        Some(self.child(table, span, out))
    }

    /// Reads the section under `key`, or one without keys if there is none or it is no table.
    pub fn table_or_empty<T: Declared>(&self, key: &str, out: &mut Diagnostics) -> T {
        match self.raw_table(key, T::schema().written(), out) {
            Some((table, span)) => self.child(table, span, out),
            None => T::read(&Reader::new(&DeTable::new(), 0..0, T::schema(), self.all, out), out),
        }
    }

    /// Reads the sections of the list under `key`.
    pub fn tables<T: Declared>(&self, key: &str, out: &mut Diagnostics) -> Vec<T> {
        let tables = self.raw_tables(key, T::schema().written(), out);
        tables.into_iter().map(|(table, span)| self.child(table, span, out)).collect()
    }

    /// Reads the sections of the list under `key`, in which a bare string stands for a section with that `name` alone.
    pub fn tables_or_names<T: Declared>(&self, key: &str, out: &mut Diagnostics) -> Vec<T> {
        let items = match self.raw(key).map(Spanned::get_ref) {
            Some(DeValue::Array(items)) if items.iter().any(|item| item.get_ref().as_str().is_some()) => items,
            Some(_) | None => return self.tables(key, out),
        };
        let mut sections = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::String(name) => {
                    let mut table = DeTable::new();
                    let value = Spanned::new(item.span(), DeValue::String(name.clone()));
                    table.insert(Spanned::new(item.span(), Cow::Borrowed("name")), value);
                    sections.push(T::read(&Reader::new(&table, item.span(), T::schema(), self.all, out), out));
                }
                DeValue::Table(table) => sections.push(self.child(table, item.span(), out)),
                other => {
                    let message = format!("`{key}` must be a list of names and tables, found {}", kind(other));
                    out.push(Diagnostic::error(item.span(), message));
                }
            }
        }
        sections
    }

    fn child<T: Declared>(&self, table: &'a DeTable<'a>, span: Range<usize>, out: &mut Diagnostics) -> T {
        T::read(&Reader::new(table, span, T::schema(), self.all, out), out)
    }

    fn raw_table(&self, key: &str, header: &str, out: &mut Diagnostics) -> Option<(&'a DeTable<'a>, Range<usize>)> {
        let raw = self.raw(key)?;
        match raw.get_ref() {
            DeValue::Table(table) => Some((table, self.span_of(key, raw))),
            DeValue::Array(array) if array.iter().any(|item| item.get_ref().is_table()) => {
                let message = format!("{header} stands once; a list of them is reserved for a later version");
                out.push(Diagnostic::error(raw.span(), message).hint(format!("write {header}")));
                None
            }
            other => {
                let message = format!("`{key}` must be a table, found {}", kind(other));
                out.push(Diagnostic::error(raw.span(), message).hint(format!("write {header}")));
                None
            }
        }
    }

    fn raw_tables(&self, key: &str, header: &str, out: &mut Diagnostics) -> Vec<(&'a DeTable<'a>, Range<usize>)> {
        let Some(raw) = self.raw(key) else { return Vec::new() };
        let wrong = |raw: &Spanned<DeValue<'_>>, span: Range<usize>| {
            let message = format!("`{key}` must be a list of tables, found {}", kind(raw.get_ref()));
            Diagnostic::error(span, message).hint(format!("write {header} before each of them"))
        };
        let DeValue::Array(array) = raw.get_ref() else {
            out.push(wrong(raw, self.span_of(key, raw)));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in array.iter() {
            match item.get_ref() {
                DeValue::Table(table) => tables.push((table, item.span())),
                _ => out.push(wrong(item, item.span())),
            }
        }
        tables
    }

    /// The place of `raw`, the value of `key`. A table that exists only because a deeper header was written has no
    /// place of its own and gets that of the key.
    fn span_of(&self, key: &str, raw: &Spanned<DeValue<'_>>) -> Range<usize> {
        let key = self.table.get_key_value(key).map(|(key, _)| key.span());
        match raw.span().is_empty() {
            true => key.unwrap_or_default(),
            false => raw.span(),
        }
    }
}

/// Joins alternatives: `a`, `a or b`, `a, b or c`.
pub fn one_of(words: &[String]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn one_range(
    key: &str,
    value: &DeValue<'_>,
    bounds: &RangeInclusive<u16>,
    all: Option<&str>,
) -> Result<RangeInclusive<u16>, String> {
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|number| bounds.contains(number));
    let read = match value {
        DeValue::Integer(integer) => u16::from_str_radix(&integer.as_str().replace('_', ""), integer.radix())
            .ok()
            .filter(|number| bounds.contains(number))
            .map(|number| number..=number),
        DeValue::String(text) if all == Some(&**text) => Some(bounds.clone()),
        DeValue::String(text) => match text.split_once('-') {
            None => number(text).map(|one| one..=one),
            Some((first, last)) => match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => Some(first..=last),
                (Some(_), Some(_)) => return Err(format!("the range {:?} ends before it begins", &**text)),
                (None, _) | (_, None) => None,
            },
        },
        DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    };
    let all = all.map_or_else(String::new, |all| format!(" or {all:?}"));
    let (least, most) = (bounds.start(), bounds.end());
    read.ok_or_else(|| {
        format!("`{key}` must be {least}..={most}, a range such as \"{least}-{most}\"{all}, found {}", kind(value))
    })
}

fn one_choice<T: Copy>(
    key: &str,
    text: &str,
    choices: &[(&'static str, T)],
    reserved: &[(&str, &str)],
) -> Result<T, InvalidValue> {
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    if let Some((word, hint)) = reserved.iter().find(|(word, _)| *word == text) {
        return Err(InvalidValue::new(format!("`{key} = {word:?}` is reserved for a later version")).hint(*hint));
    }
    let words: Vec<_> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
    let refused = InvalidValue::new(format!("`{key}` must be {}, found {text:?}", one_of(&words)));
    let refused = match did_you_mean(text, choices.iter().map(|(word, _)| *word)) {
        Some(word) => refused.hint(format!("did you mean {word:?}?")),
        None => refused,
    };
    Err(synonyms::hinted(refused, key, text))
}

fn one_string<T>(
    key: &str,
    raw: &Spanned<DeValue<'_>>,
    parse: &impl Fn(&str) -> Result<T, InvalidValue>,
    out: &mut Diagnostics,
) -> Option<Located<T>> {
    let refused = match raw.get_ref() {
        DeValue::String(text) => match parse(text) {
            Ok(value) => return Some(Located::new(value, raw.span())),
            Err(refused) => refused,
        },
        other => InvalidValue::new(format!("`{key}` must be a string in quotes, found {}", kind(other))),
    };
    out.push(Diagnostic { hint: refused.hint, ..Diagnostic::error(raw.span(), refused.message) });
    None
}

/// A description of a value for messages.
fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {:?}", &**text),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(flag) => format!("{flag}"),
        DeValue::Datetime(time) => format!("the date {time}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
