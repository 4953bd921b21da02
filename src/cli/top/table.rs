//! Rows that can be sorted, searched and fitted to a width before they are drawn.

use std::cmp::Ordering;

pub use crate::cli::output::Tone;

/// One value: its text, and the number by which it is sorted.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// As it is printed.
    pub text: String,
    /// Compared before the text; `None` for words.
    pub number: Option<f64>,
    /// The tone of its colour.
    pub tone: Tone,
}

impl Cell {
    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), number: None, tone: Tone::Plain }
    }

    /// A number and how it is printed.
    pub fn number(number: f64, text: impl Into<String>) -> Self {
        Self { text: text.into(), number: Some(number), tone: Tone::Plain }
    }

    /// A count as it is.
    pub fn count(count: u64) -> Self {
        Self::number(count as f64, count.to_string())
    }

    /// A rate with a unit prefix; a dash until there is one.
    pub fn rate(rate: Option<f64>) -> Self {
        rate.map_or_else(|| Self::number(-1.0, "-"), |rate| Self::number(rate, short(rate)))
    }

    /// The same value in another tone.
    pub fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self.number, other.number) {
            (Some(one), Some(two)) => one.total_cmp(&two),
            (None, None) => self.text.cmp(&other.text),
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
        }
    }
}

/// The title and the importance of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// In capitals.
    pub title: &'static str,
    /// Whether it is aligned to the right, as numbers are.
    pub right: bool,
    /// If there is too little room, columns with the highest rank are dropped first; a column of rank 0 stays.
    pub rank: u8,
}

/// A column of words.
pub const fn words(title: &'static str, rank: u8) -> Column {
    Column { title, right: false, rank }
}

/// A column of numbers.
pub const fn numbers(title: &'static str, rank: u8) -> Column {
    Column { title, right: true, rank }
}

/// The object of a row, by which the cursor stays on it when the order changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An engine, a link, a counter, an event or a session: nothing that can be changed.
    Other(String),
    /// A firewall.
    Firewall {
        /// Its group.
        group: String,
        /// Its name.
        name: String,
        /// The engine that reports it.
        engine: String,
    },
    /// A virtual service.
    Service {
        /// Its name.
        name: String,
        /// Its engine.
        engine: String,
    },
    /// A real server.
    Server {
        /// Its service.
        service: String,
        /// Its name.
        name: String,
        /// Its engine.
        engine: String,
    },
}

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its object.
    pub subject: Subject,
    /// One cell for each column.
    pub cells: Vec<Cell>,
}

/// Rows under their columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Titles.
    pub columns: Vec<Column>,
    /// In the order of the source.
    pub rows: Vec<Row>,
}

impl Table {
    /// Keeps the rows that contain `words` in a cell, ignoring case.
    pub fn filter(&mut self, words: &str) {
        let words = words.to_lowercase();
        self.rows.retain(|row| row.cells.iter().any(|cell| cell.text.to_lowercase().contains(&words)));
    }

    /// Sorts by a column; rows with equal values stay in order.
    pub fn sort(&mut self, column: usize, descending: bool) {
        if column < self.columns.len() {
            self.rows.sort_by(|one, two| {
                let order = one.cells[column].compare(&two.cells[column]);
                if descending { order.reverse() } else { order }
            });
        }
    }

    /// The columns that fit into `width` with two spaces between them, and their widths. The last one is cut rather
    /// than left out.
    pub fn fit(&self, width: usize) -> Vec<(usize, usize)> {
        const GAP: usize = 2;
        const LEAST_LAST: usize = 8;
        let needs = |column: usize| {
            let cells = self.rows.iter().map(|row| row.cells[column].text.chars().count());
            // The mark of the sorted column stands behind its title.
            cells.chain([self.columns[column].title.len() + 1]).max().unwrap_or(0)
        };
        let mut fitted: Vec<(usize, usize)> = (0..self.columns.len()).map(|column| (column, needs(column))).collect();
        let total = |fitted: &[(usize, usize)]| fitted.iter().map(|(_, width)| width + GAP).sum::<usize>() - GAP;
        while fitted.len() > 1 {
            let excess = total(&fitted).saturating_sub(width);
            let (last, last_width) = fitted[fitted.len() - 1];
            if excess == 0 {
                break;
            }
            if !self.columns[last].right && last_width >= excess + LEAST_LAST {
                let end = fitted.len() - 1;
                fitted[end].1 = last_width - excess;
                break;
            }
            let least = (0..fitted.len()).rev().max_by_key(|at| self.columns[fitted[*at].0].rank);
            match least {
                Some(at) if self.columns[fitted[at].0].rank > 0 => fitted.remove(at),
                _ => break,
            };
        }
        fitted
    }
}

/// `999`, `1.2k`, `340k`, `1.5M`: four characters or five.
pub fn short(number: f64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    let mut number = number.max(0.0);
    let mut unit = 0;
    while number >= 999.5 && unit + 1 < UNITS.len() {
        number /= 1000.0;
        unit += 1;
    }
    match unit {
        0 if number > 0.0 && number < 9.95 => format!("{number:.1}"),
        0 => format!("{number:.0}"),
        _ if number < 9.95 => format!("{number:.1}{}", UNITS[unit]),
        _ => format!("{number:.0}{}", UNITS[unit]),
    }
}

/// Bars of eight heights, the newest at the right; an empty trend is empty.
pub fn sparkline(trend: &[f64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = &trend[trend.len().saturating_sub(width)..];
    let top = shown.iter().copied().fold(0.0, f64::max);
    let bar = |rate: &f64| match top > 0.0 {
        true => BARS[((rate / top * 7.0).round() as usize).min(7)],
        false => BARS[0],
    };
    shown.iter().map(bar).collect()
}
