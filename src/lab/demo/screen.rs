//! The live table: redrawn in place on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::lab::traffic::Progress;
use crate::lab::{FirewallDrops, Lab, LabError, Side};

/// Where the tour is shown.
pub struct Screen {
    terminal: bool,
    /// Lines of the table that stands on the terminal.
    drawn: usize,
}

/// A firewall as both engines and its own rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Name.
    pub name: String,
    /// State in the outer and the inner engine's eyes.
    pub states: [String; 2],
    /// Live sessions on it, by the outer engine.
    pub sessions: u64,
    /// Sessions since the start.
    pub new_sessions: u64,
    /// What it dropped itself.
    pub drops: FirewallDrops,
}

/// The table's content at this moment.
pub fn rows(lab: &Lab) -> Result<Vec<Row>, LabError> {
    let [outer, inner] = [lab.firewalls(Side::Outer)?, lab.firewalls(Side::Inner)?];
    (1..=lab.topology().firewalls)
        .map(|number| {
            let name = format!("fw{number}");
            let [near, far] = [&outer, &inner].map(|seen| seen.iter().find(|firewall| firewall.name == name));
            Ok(Row {
                states: [near, far].map(|seen| seen.map_or_else(|| "?".to_owned(), |firewall| firewall.state.clone())),
                sessions: near.map_or(0, |firewall| firewall.sessions),
                new_sessions: near.map_or(0, |firewall| firewall.new_sessions),
                drops: lab.drops(number)?,
                name,
            })
        })
        .collect()
}

impl Screen {
    /// Standard output.
    pub fn stdout() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), drawn: 0 }
    }

    /// Time between two tables: a reader of plain lines wants fewer.
    pub const fn period(&self) -> Duration {
        if self.terminal { Duration::from_millis(250) } else { Duration::from_secs(2) }
    }

    /// Shows the table.
    pub fn show(&mut self, caption: &str, progress: Progress, rows: &[Row]) {
        let seconds = progress.at_ms as f64 / 1000.0;
        if !self.terminal {
            return print(&format!("{seconds:5.1} s  {}\n", one_line(rows)));
        }
        let table = table(rows);
        let missing = progress.sent.saturating_sub(progress.answered);
        let head = format!("{seconds:5.1} s  {caption}; {} requests, {missing} without answer\n", progress.sent);
        let up = if self.drawn > 0 { format!("\x1b[{}A\x1b[J", self.drawn) } else { String::new() };
        self.drawn = 1 + table.lines().count();
        print(&format!("{up}{head}{table}"));
    }

    /// Says something that stays.
    pub fn note(&mut self, text: &str) {
        self.drawn = 0;
        print(&format!("\n{text}\n\n"));
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "  {:<6}{:<12}{:<12}{:>9}{:>8}{:>8}{:>10}{:>9}{:>13}\n",
        "", "outer sees", "inner sees", "sessions", "share", "new", "passed", "INVALID", "new-not-SYN"
    );
    let all: u64 = rows.iter().map(|row| row.sessions).sum();
    for row in rows {
        let share = share(row.sessions, all);
        text += &format!(
            "  {:<6}{:<12}{:<12}{:>9}{:>7}%{:>8}{:>10}{:>9}{:>13}\n",
            row.name,
            row.states[0],
            row.states[1],
            row.sessions,
            share,
            row.new_sessions,
            row.drops.passed,
            row.drops.invalid,
            row.drops.new_not_syn
        );
    }
    text
}

fn one_line(rows: &[Row]) -> String {
    let all: u64 = rows.iter().map(|row| row.sessions).sum();
    let firewall = |row: &Row| {
        let state = if row.states[0] == row.states[1] { row.states[0].clone() } else { row.states.join("/") };
        let dropped = row.drops.invalid + row.drops.new_not_syn;
        format!(
            "{} {state:<8} {:>4} sessions {:>3}%  dropped {dropped}",
            row.name,
            row.sessions,
            share(row.sessions, all)
        )
    };
    rows.iter().map(firewall).collect::<Vec<_>>().join("   ")
}

/// Percent, rounded.
const fn share(part: u64, all: u64) -> u64 {
    match (part * 100 + all / 2).checked_div(all) {
        Some(percent) => percent,
        None => 0,
    }
}

/// Prints; a reader that has gone is no reason to leave the laboratory standing.
fn print(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_state_share_and_drops() {
        let row = |name: &str, states: [&str; 2], sessions| Row {
            name: name.to_owned(),
            states: states.map(String::from),
            sessions,
            new_sessions: sessions,
            drops: FirewallDrops { invalid: 0, new_not_syn: 0, passed: 9 },
        };
        let rows = [row("fw1", ["down", "up"], 10), row("fw2", ["up", "up"], 30)];

        assert!(
            one_line(&rows).starts_with("fw1 down/up    10 sessions  25%  dropped 0   fw2 up"),
            "{}",
            one_line(&rows)
        );
        assert_eq!(table(&rows).lines().count(), 3);
        assert_eq!(share(0, 0), 0);
    }
}
