//! The tour's promises, formatted for a terminal of 80 columns.

use std::fmt::Write;

/// Columns of text.
const WIDTH: usize = 79;

/// A promise, and whether it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// The promise in words.
    pub what: String,
    /// Whether it was kept.
    pub kept: bool,
    /// The numbers that show it.
    pub detail: String,
}

/// The list of promises, each with its numbers below it.
pub fn promises<'a>(list: impl IntoIterator<Item = &'a Promise>) -> String {
    let mut text = String::from("The promises\n");
    for promise in list {
        let mark = if promise.kept { "kept  " } else { "BROKEN" };
        let mut what = wrap(&promise.what, 10);
        what.replace_range(..8.min(what.len()), &format!("  {mark}"));
        // Writing to a string cannot fail.
        let _ = write!(text, "{what}{}", wrap(&promise.detail, 10));
    }
    text
}

/// Wraps text into lines of at most 79 columns, each indented by `indent` spaces.
pub fn wrap(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        if column > 0 && column + 1 + word.chars().count() > WIDTH {
            lines.push('\n');
            column = 0;
        }
        let gap = if column == 0 { indent } else { 1 };
        column += gap + word.chars().count();
        lines.extend(std::iter::repeat_n(' ', gap));
        lines.push_str(word);
    }
    if column > 0 {
        lines.push('\n');
    }
    lines
}

/// The promise of each engine's counters: `received = forwarded + hairpinned + punted + dropped`.
pub fn counters_conserved(counters: &[crate::engine::view::CountersView]) -> Promise {
    let details: Vec<_> = counters
        .iter()
        .map(|counters| {
            let get = |name: &str| counters.get(name).copied();
            let parts = ["forwarded", "hairpinned", "punted", "dropped"].map(get);
            let sum = parts.iter().try_fold(0, |sum, part| Some(sum + (*part)?));
            (get("received"), sum, parts)
        })
        .collect();
    let told = details.iter().map(|(received, _, parts)| {
        let [forwarded, hairpinned, punted, dropped] = parts.map(|part| part.unwrap_or(0));
        format!("{} = {forwarded} + {hairpinned} + {punted} + {dropped}", received.unwrap_or(0))
    });
    Promise {
        what: "received = forwarded + hairpinned + punted + dropped, by each engine".to_owned(),
        kept: !details.is_empty() && details.iter().all(|(received, sum, _)| received.is_some() && received == sum),
        detail: told.collect::<Vec<_>>().join(", "),
    }
}

/// The promise that no firewall dropped a packet because it had no state for it.
pub fn no_drops(drops: &[(String, crate::lab::FirewallTotals)]) -> Promise {
    let told =
        drops.iter().map(|(name, drops)| format!("{name} INVALID {} new-not-SYN {}", drops.invalid, drops.new_not_syn));
    Promise {
        what: "no firewall ever saw half a conversation (its own counters)".to_owned(),
        kept: drops.iter().all(|(_, drops)| drops.invalid == 0 && drops.new_not_syn == 0),
        detail: told.collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_fit_a_terminal_of_80_columns() {
        let long = Promise { what: "word ".repeat(40), kept: true, detail: "203.0.113.11:7 ".repeat(20) };
        let broken = Promise { what: "a short one".to_owned(), kept: false, detail: String::new() };

        let text = promises([&long, &broken]);

        assert!(text.lines().all(|line| line.len() < 80), "{text}");
        assert!(text.contains("\n  kept    word word"), "{text}");
        assert!(text.contains("\n  BROKEN  a short one\n"), "{text}");
        assert_eq!(text.matches("word").count(), 40);
    }
}
