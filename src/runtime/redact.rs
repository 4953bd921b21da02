//! Hides the secrets in the text of a configuration.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Keys whose values are secret, in any table. A value that names a file is not secret.
const SECRETS: &[&str] = &["seed", "secret", "key"];
const HIDDEN: &str = "\"(hidden)\"";

/// The text with every secret replaced. A text that is not TOML is hidden as a whole, because secrets cannot be told in
/// it.
pub(super) fn hide_secrets(text: &str) -> String {
    let Ok(table) = DeTable::parse(text) else { return HIDDEN.to_owned() };
    let mut places = Vec::new();
    in_table(table.get_ref(), &mut places);
    places.sort_by_key(|place| std::cmp::Reverse(place.start));
    let mut shown = text.to_owned();
    for place in places {
        shown.replace_range(place, HIDDEN);
    }
    shown
}

fn in_table(table: &DeTable<'_>, places: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        let names_file = value.get_ref().as_str().is_some_and(|text| text.starts_with("file:"));
        if SECRETS.contains(&key.get_ref().as_ref()) {
            if !names_file {
                places.push(value.span());
            }
        } else {
            in_value(value, places);
        }
    }
}

fn in_value(value: &Spanned<DeValue<'_>>, places: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => in_table(table, places),
        DeValue::Array(values) => values.iter().for_each(|value| in_value(value, places)),
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
    }

    #[test]
    fn a_text_that_is_not_toml_is_hidden_as_a_whole() {
        assert_eq!(hide_secrets("seed = = \"x\""), HIDDEN);
    }
}
