//! The table as text and as JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::table::{Goal, Outcome, Row, Sense, Share, Unit, Verdict};

/// The results and their conditions.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The conditions of the measurements: name and value.
    pub conditions: Vec<(String, String)>,
    /// What may have spoilt the measurements.
    pub warnings: Vec<String>,
    /// The table.
    pub rows: Vec<Line>,
}

/// A row with its result.
#[derive(Debug, Serialize)]
pub struct Line {
    /// The row.
    #[serde(flatten)]
    pub row: Row,
    /// How the result compares with the goal.
    pub verdict: Verdict,
    /// The result.
    pub outcome: Outcome,
}

impl Line {
    /// The row with its verdict.
    pub fn new(row: Row, outcome: Outcome) -> Self {
        Self { row, verdict: outcome.verdict(&row.goal), outcome }
    }
}

impl Report {
    /// The report as text for a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let width = self.conditions.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in &self.conditions {
            line(&mut text, format_args!("{name:width$}  {value}"));
        }
        for warning in &self.warnings {
            line(&mut text, format_args!("warning: {warning}"));
        }
        let mut what = "";
        for entry in &self.rows {
            if entry.row.what != what {
                what = entry.row.what;
                line(&mut text, format_args!("\n{what}"));
            }
            self.row(&mut text, entry);
        }
        line(&mut text, format_args!("\n{}", self.sum()));
        text
    }

    fn row(&self, text: &mut String, entry: &Line) {
        let Row { against, placement, goal, .. } = entry.row;
        let head = format!("  {against:<33} {placement:<17}");
        match &entry.outcome {
            Outcome::Skipped(why) => line(text, format_args!("{head} skipped: {why}")),
            Outcome::Measured { value, shares, notes } => {
                let unit = goal.unit;
                let middle = format!("[{} {}]", number(value.q1, unit), number(value.q3, unit));
                let middle = if value.rounds > 1 { middle } else { String::new() };
                line(
                    text,
                    format_args!(
                        "{head} {:>11} {middle:<18} {:<20} {:<13} {}",
                        amount(value.median, unit),
                        wanted(&goal),
                        entry.verdict.word(),
                        shares.iter().map(share).collect::<Vec<_>>().join(", ")
                    ),
                );
                for note in notes {
                    line(text, format_args!("      {note}"));
                }
            }
        }
    }

    /// Number of rows by verdict.
    pub fn sum(&self) -> String {
        let count = |verdict: Verdict| self.rows.iter().filter(|line| line.verdict == verdict).count();
        let met = count(Verdict::Met) + count(Verdict::Stretch);
        format!("{met} met, {} missed, {} skipped", count(Verdict::Missed), count(Verdict::Skipped))
    }

    /// The report as JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{words}");
}

/// Formats a goal: `>= 1.00 (1.20)`.
pub fn wanted(goal: &Goal) -> String {
    let sign = match goal.sense {
        Sense::AtLeast => ">=",
        Sense::AtMost => "<=",
        Sense::Shown => return "no goal".to_owned(),
    };
    let stretch = goal.stretch.map(|stretch| format!(" ({})", number(stretch, goal.unit))).unwrap_or_default();
    format!("{sign} {}{stretch}", amount(goal.goal, goal.unit))
}

/// Formats a value with its unit.
pub fn amount(value: f64, unit: Unit) -> String {
    let word = match unit {
        Unit::Ratio | Unit::Allocations => "",
        Unit::Nanoseconds => " ns",
        Unit::Microseconds => " us",
        Unit::PerSecond => "/s",
        Unit::Bytes => " B",
    };
    match unit {
        Unit::Bytes if value.abs() >= f64::from(1 << 20) => format!("{:.0} MiB", value / f64::from(1 << 20)),
        Unit::PerSecond if value >= 1e5 => format!("{:.2} M/s", value / 1e6),
        _ => format!("{}{word}", number(value, unit)),
    }
}

fn number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ratio => format!("{value:.2}"),
        Unit::Nanoseconds | Unit::Microseconds => format!("{value:.1}"),
        Unit::PerSecond if value >= 1e5 => format!("{:.2}", value / 1e6),
        Unit::PerSecond | Unit::Bytes => format!("{value:.0}"),
        // A value above zero must not look like zero.
        Unit::Allocations if value == 0.0 => "0".to_owned(),
        Unit::Allocations => format!("{value:.4}"),
    }
}

fn share(share: &Share) -> String {
    let Share { who, amount, unit } = share;
    let amount = if *amount >= 100.0 { format!("{amount:.0}") } else { format!("{amount:.2}") };
    format!("{who} {amount} {unit}").trim_end().to_owned()
}
