//! What goes to the terminal or the pipe: tables, durations, JSON.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

use crate::time::Duration;

pub use crate::time::in_words as duration_ms;

/// Writes to standard output. A reader that has gone is an error, which [`is_broken_pipe`] knows and nobody complains of.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Writes a value as JSON with a newline.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}

/// Says on standard error what went wrong.
pub fn complain(text: &str) {
    print_error(&format!("fwlb: {}\n", text.trim_end()));
}

/// Says on standard error that the words make no sense together; the exit status for that.
pub fn usage(text: &str) -> ExitCode {
    complain(text);
    ExitCode::from(2)
}

/// Writes to standard error.
pub fn print_error(text: &str) {
    // If nobody listens there, the exit status is all that is left.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// True if the error is a reader that ended, as `head` does.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// True if standard error shows colours and its reader wants them (<https://no-color.org>).
pub fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Columns under their titles, aligned with spaces, as `ip` and `ss` print them. Titles that begin with `>` stand over
/// numbers, which are aligned to the right.
pub fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    Columns::new(titles).add(rows)
}

/// A table whose rows come in parts. Columns are as wide as the parts so far needed.
#[derive(Debug)]
pub struct Columns {
    titles: Vec<String>,
    widths: Vec<u16>,
    has_titles: bool,
}

impl Columns {
    /// A table with these titles, as of [`table`].
    pub fn new(titles: &[&str]) -> Self {
        let widths = vec![0; titles.len()];
        Self { titles: titles.iter().map(|title| (*title).to_owned()).collect(), widths, has_titles: false }
    }

    /// The lines of these rows, the first time below the titles.
    pub fn add(&mut self, rows: &[Vec<String>]) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if !std::mem::replace(&mut self.has_titles, true) {
            table.set_header(self.titles.iter().map(|title| title.trim_start_matches('>')));
        }
        table.add_rows(rows);
        let needed = table.column_max_content_widths();
        for (width, needed) in self.widths.iter_mut().zip(needed) {
            *width = needed.max(*width);
        }
        for ((column, title), width) in table.column_iter_mut().zip(&self.titles).zip(&self.widths) {
            column.set_padding((0, GAP));
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width + GAP)));
            if title.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        format!("{}\n", table.trim_fmt())
    }
}

/// Spaces between columns.
const GAP: u16 = 2;

/// `-` for what there is not.
pub fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// A round trip.
pub fn round_trip(us: Option<u64>) -> String {
    match us {
        None => "-".to_owned(),
        Some(us) if us < 1000 => format!("{us}us"),
        Some(us) => format!("{}.{:02}ms", us / 1000, us % 1000 / 10),
    }
}

/// A duration that the user typed.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    crate::config::value::duration(text).map_err(|refused| refused.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_leave_no_trailing_spaces() {
        let rows =
            [("fw1", "7", "up"), ("firewall-2", "12345", "")].map(|(a, b, c)| [a, b, c].map(str::to_owned).to_vec());
        let text = table(&["FIREWALL", ">SESSIONS", "STATE"], &rows);
        assert_eq!(text, "FIREWALL    SESSIONS  STATE\nfw1                7  up\nfirewall-2     12345\n");
        assert_eq!(table(&["X"], &[]), "");
    }

    #[test]
    fn a_table_that_comes_in_parts_has_one_header_and_columns_that_stay_where_they_are() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let mut columns = Columns::new(&["NAME", ">COUNT"]);
        assert_eq!(columns.add(&[row("firewall-2", "7")]), "NAME        COUNT\nfirewall-2      7\n");
        assert_eq!(columns.add(&[row("fw1", "12345")]), "fw1         12345\n");
        assert_eq!(
            columns.add(&[row("fw1", "1234567"), row("fw1", "1")]),
            "fw1         1234567\nfw1               1\n"
        );
    }

    #[test]
    fn round_trips_have_the_unit_that_fits() {
        assert_eq!([None, Some(312), Some(12_345)].map(round_trip), ["-", "312us", "12.34ms"]);
    }
}
