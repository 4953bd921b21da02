//! Hides the secrets of a configuration text, and lists them.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::file::keys::ALL;
use crate::config::schema::ValueKind;

const HIDDEN: &str = "\"(hidden)\"";
/// How a value begins that names the file of a secret.
const FILE: &str = "file:";

/// The text with every secret replaced, wherever such a key stands. A value that names a file reveals nothing and
/// stays. A text that is not TOML is hidden as a whole, because its keys are unknown.
pub fn hide_secrets(text: &str) -> String {
    let Ok(table) = DeTable::parse(text) else { return HIDDEN.to_owned() };
    let mut places: Vec<Range<usize>> = Vec::new();
    in_table(table.get_ref(), &mut |value| {
        if !names_file(value) {
            places.push(value.span());
        }
    });
    places.sort_by_key(|place| std::cmp::Reverse(place.start));
    let mut shown = text.to_owned();
    for place in places {
        shown.replace_range(place, HIDDEN);
    }
    shown
}

/// The secrets of a text as they are typed: the secret itself, or `file:/path`. There are none for a text that is not
/// TOML.
pub fn secrets(text: &str) -> Vec<String> {
    let Ok(table) = DeTable::parse(text) else { return Vec::new() };
    let mut found = Vec::new();
    in_table(table.get_ref(), &mut |value| found.extend(value.get_ref().as_str().map(str::to_owned)));
    found
}

fn names_file(value: &Spanned<DeValue<'_>>) -> bool {
    value.get_ref().as_str().is_some_and(|text| text.starts_with(FILE))
}

/// True for a key that some section declares as a secret.
fn is_secret(name: &str) -> bool {
    ALL.iter().filter_map(|schema| schema.key(name)).any(|key| matches!(key.kind, ValueKind::Secret(_)))
}

fn in_table(table: &DeTable<'_>, found: &mut impl FnMut(&Spanned<DeValue<'_>>)) {
    for (key, value) in table {
        match is_secret(key.get_ref()) {
            true => found(value),
            false => in_value(value, found),
        }
    }
}

fn in_value(value: &Spanned<DeValue<'_>>, found: &mut impl FnMut(&Spanned<DeValue<'_>>)) {
    match value.get_ref() {
        DeValue::Table(table) => in_table(table, found),
        DeValue::Array(values) => values.iter().for_each(|value| in_value(value, found)),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_secret_is_hidden_and_nothing_else_changes() {
        let text = "\
[engine]
name = \"outer\" # seed = \"not this\"
[[group]]
name = \"a\"
seed = 'first' # why
[[group]]
\"seed\" = \"\"\"se
cond\"\"\"
[[group]]
seed = \"file:/etc/fwlb/seed\"
api = { token = [{ name = \"x\", secret = \"third\" }], tls = { key = \"fourth\" } }
";
        let shown = hide_secrets(text);

        for secret in ["first", "cond", "third", "fourth"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert_eq!(shown.matches(HIDDEN).count(), 4);
        assert!(shown.contains("file:/etc/fwlb/seed") && shown.contains("# why") && shown.contains("not this"));
        assert!(toml::from_str::<toml::Table>(&shown).is_ok(), "still a configuration: {shown}");
        let mut known = secrets(text);
        known.sort();
        assert_eq!(known, ["file:/etc/fwlb/seed", "first", "fourth", "se\ncond", "third"]);
    }

    #[test]
    fn a_text_that_is_not_toml_is_hidden_as_a_whole() {
        assert_eq!(hide_secrets("seed = = \"x\""), HIDDEN);
    }
}
