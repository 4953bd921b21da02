//! Formats tables.

use comfy_table::{Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};

use super::colour::{self, Stream, Tone};

/// Formats columns under their titles, aligned with spaces, as `ip` and `ss` print them. Columns whose titles begin
/// with `>` contain numbers and are aligned to the right. States are coloured if standard output is.
pub fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    Columns::new(titles).add(rows)
}

/// A table whose rows arrive in parts. Columns are as wide as the parts so far needed.
#[derive(Debug)]
pub struct Columns {
    titles: Vec<String>,
    widths: Vec<u16>,
    has_titles: bool,
    coloured: bool,
}

impl Columns {
    /// A table with these titles, in the form that [`table`] takes.
    pub fn new(titles: &[&str]) -> Self {
        let widths = vec![0; titles.len()];
        let coloured = colour::shown(Stream::Output);
        Self { titles: titles.iter().map(|title| (*title).to_owned()).collect(), widths, has_titles: false, coloured }
    }

    /// Formats these rows; the first call puts the titles above them.
    pub fn add(&mut self, rows: &[Vec<String>]) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        // Only the module `colour` decides about colours.
        table.force_no_tty();
        if self.coloured {
            table.enforce_styling().style_text_only();
        }
        if !std::mem::replace(&mut self.has_titles, true) {
            table.set_header(self.titles.iter().map(|title| title.trim_start_matches('>')));
        }
        for row in rows {
            table.add_row(self.titles.iter().zip(row).map(|(title, text)| cell(title, text)));
        }
        let needed = table.column_max_content_widths();
        for (width, needed) in self.widths.iter_mut().zip(needed) {
            *width = needed.max(*width);
        }
        for ((column, title), width) in table.column_iter_mut().zip(&self.titles).zip(&self.widths) {
            column.set_padding((0, COLUMN_GAP));
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width + COLUMN_GAP)));
            if title.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        format!("{}\n", table.trim_fmt())
    }
}

/// Spaces between columns.
const COLUMN_GAP: u16 = 2;

/// Columns whose values are states.
const STATES: [&str; 7] = ["STATE", "ADMIN", "DIGEST", "ROLE", "OUTER SEES", "INNER SEES", "DONE TO IT"];

fn cell(title: &str, text: &str) -> Cell {
    let cell = Cell::new(text);
    if !STATES.contains(&title) {
        return cell;
    }
    // A star marks a state that was set by command.
    match Tone::of_state(text.trim_end_matches('*')) {
        Tone::Plain | Tone::Dim => cell,
        Tone::Good => cell.fg(Color::DarkGreen),
        Tone::Warn => cell.fg(Color::DarkYellow),
        Tone::Bad => cell.fg(Color::DarkRed),
    }
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
    fn states_have_colours_that_take_no_room_and_other_words_have_none() {
        let rows =
            [("up", "down", "1"), ("down", "drain*", "2")].map(|(a, b, c)| [a, b, c].map(str::to_owned).to_vec());
        let titles = ["NAME", "STATE", ">SINCE"];
        let mut columns = Columns { coloured: true, ..Columns::new(&titles) };
        let coloured = columns.add(&rows);
        assert!(coloured.contains("\u{1b}[38;5;1mdown\u{1b}"), "{coloured:?}");
        assert!(coloured.contains("\u{1b}[38;5;3mdrain*\u{1b}"), "{coloured:?}");
        assert!(coloured.lines().nth(1).unwrap().starts_with("up "), "a name that looks like a state: {coloured:?}");
        assert_eq!(without_colours(&coloured), Columns { coloured: false, ..Columns::new(&titles) }.add(&rows));
    }

    /// The text without its escape sequences.
    fn without_colours(text: &str) -> String {
        let mut parts = text.split('\u{1b}');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
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
}
