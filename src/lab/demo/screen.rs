//! Shows the live tables: redrawn in place on a terminal, plain lines elsewhere. Both fit 80 columns.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::promise::wrap;
use crate::engine::view::{OperState, ServerView};
use crate::lab::farm::WEB;
use crate::lab::traffic::Progress;
use crate::lab::{FirewallTotals, Lab, LabError, Side};

/// Columns for the reason of a server's state.
const REASON_WIDTH: usize = 28;

/// Columns for the reason of an engine's role.
const ROLE_REASON_WIDTH: usize = 58;

/// Where the tour is shown.
pub struct Screen {
    terminal: bool,
    /// Lines of the table that is on the terminal now.
    drawn: usize,
    /// New sessions of each server at the last note, from which shares are counted.
    since: Vec<(String, u64)>,
}

/// A firewall as both engines and its own counters show it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Firewall {
    name: String,
    /// Its state in the outer and in the inner engine.
    states: [String; 2],
    /// Live sessions through it in the outer engine.
    sessions: u64,
    /// Sessions since the start.
    new_sessions: u64,
    /// Packets that it dropped itself.
    drops: FirewallTotals,
}

/// A server as the inner engine shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    name: String,
    weight: u16,
    backup: bool,
    /// Its state in the web service and in the others.
    states: [String; 2],
    /// Live sessions in all services.
    sessions: u64,
    /// Pages since the last note.
    pages: u64,
    reason: String,
}

/// Shows the firewalls; a [`Table`](super::tour::Table).
pub fn show_firewalls(lab: &Lab, screen: &mut Screen, caption: &str, progress: Progress) -> Result<(), LabError> {
    let firewalls = firewalls(lab)?;
    if screen.terminal {
        screen.draw(caption, progress, &firewall_table(&firewalls));
    } else {
        screen.line(progress, &firewall_line(&firewalls));
    }
    Ok(())
}

/// Shows the servers and the firewalls' drops; a [`Table`](super::tour::Table).
pub fn show_servers(lab: &Lab, screen: &mut Screen, caption: &str, progress: Progress) -> Result<(), LabError> {
    let servers = servers(lab, &mut screen.since)?;
    let drops: FirewallTotals =
        lab.all_firewall_totals()?.into_iter().fold(FirewallTotals::default(), |sum, (_, drops)| FirewallTotals {
            invalid: sum.invalid + drops.invalid,
            new_not_syn: sum.new_not_syn + drops.new_not_syn,
            passed: sum.passed + drops.passed,
        });
    if screen.terminal {
        let firewalls = format!(
            "  firewalls: {} packets passed, INVALID {}, new-not-SYN {}\n",
            drops.passed, drops.invalid, drops.new_not_syn
        );
        let firewalls = if lab.topology().firewalls > 0 { firewalls } else { String::new() };
        screen.draw(caption, progress, &(server_table(&servers) + &firewalls));
    } else {
        screen.line(progress, &server_line(&servers, drops));
    }
    Ok(())
}

/// Shows the engines of pairs with their roles; a [`Table`](super::tour::Table).
pub fn show_engines(lab: &Lab, screen: &mut Screen, caption: &str, progress: Progress) -> Result<(), LabError> {
    let mut engines = Vec::new();
    for engine in lab.topology().engines() {
        // One that was killed does not answer.
        let node = lab.node(engine).ok();
        let role = node.as_ref().map_or_else(|| "-".to_owned(), |node| node.role.to_string());
        engines.push((engine.name(), role, node.map(|node| node.reason).unwrap_or_default()));
    }
    if screen.terminal {
        screen.draw(caption, progress, &engine_table(&engines));
    } else {
        let told: Vec<_> = engines.iter().map(|(name, role, _)| format!("{name} {role}")).collect();
        screen.line(progress, &told.join(", "));
    }
    Ok(())
}

/// Why a server's checks fail, each reason once.
pub fn reasons(server: &ServerView) -> String {
    let mut reasons: Vec<&str> = Vec::new();
    for check in server.checks.iter().filter(|check| check.state != OperState::Up) {
        let reason = check.reason.as_deref().unwrap_or_default();
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    reasons.join("; ")
}

impl Screen {
    /// Shows the tour on standard output.
    pub fn stdout() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), drawn: 0, since: Vec::new() }
    }

    /// Time between two tables; plain lines come less often.
    pub const fn period(&self) -> Duration {
        if self.terminal { Duration::from_millis(250) } else { Duration::from_secs(2) }
    }

    /// Prints the title of a part.
    pub fn title(&mut self, title: &str) {
        print(&format!("\n{title}\n{}\n", "-".repeat(title.len())));
    }

    /// Prints a note, which stays above later tables.
    pub fn note(&mut self, text: &str) {
        self.drawn = 0;
        self.since.clear();
        // Text that has its own lines keeps them.
        let text = if text.contains('\n') { text.to_owned() } else { wrap(text, 0) };
        print(&format!("\n{}\n\n", text.trim_end()));
    }

    fn draw(&mut self, caption: &str, progress: Progress, table: &str) {
        let seconds = progress.at_ms as f64 / 1000.0;
        let missing = progress.sent.saturating_sub(progress.answered);
        let head = format!("{seconds:5.1} s  {caption}; {} requests, {missing} unanswered\n", progress.sent);
        let up = if self.drawn > 0 { format!("\x1b[{}A\x1b[J", self.drawn) } else { String::new() };
        self.drawn = 1 + table.lines().count();
        print(&format!("{up}{head}{table}"));
    }

    fn line(&mut self, progress: Progress, line: &str) {
        print(&format!("{:5.1} s  {line}\n", progress.at_ms as f64 / 1000.0));
    }
}

fn firewalls(lab: &Lab) -> Result<Vec<Firewall>, LabError> {
    let [outer, inner] = [lab.firewalls(Side::Outer)?, lab.firewalls(Side::Inner)?];
    let rows = lab.all_firewall_totals()?.into_iter().map(|(name, drops)| {
        let [near, far] = [&outer, &inner].map(|seen| seen.iter().find(|firewall| firewall.name == name));
        Firewall {
            states: [near, far].map(|seen| seen.map_or_else(|| "?".to_owned(), |firewall| firewall.state.to_string())),
            sessions: near.map_or(0, |firewall| firewall.sessions),
            new_sessions: near.map_or(0, |firewall| firewall.new_sessions),
            drops,
            name,
        }
    });
    Ok(rows.collect())
}

fn servers(lab: &Lab, since: &mut Vec<(String, u64)>) -> Result<Vec<Server>, LabError> {
    let services = lab.services()?;
    let (web, others): (Vec<_>, Vec<_>) = services.iter().partition(|service| service.name == WEB);
    let Some(web) = web.first() else { return Ok(Vec::new()) };
    if since.is_empty() {
        *since = web.servers.iter().map(|server| (server.name.clone(), server.new_sessions)).collect();
    }
    let rows = web.servers.iter().map(|server| {
        let elsewhere = others.iter().flat_map(|service| &service.servers).filter(|other| other.name == server.name);
        let before = since.iter().find(|(name, _)| *name == server.name).map_or(0, |(_, before)| *before);
        Server {
            name: server.name.clone(),
            weight: server.weight,
            backup: server.backup,
            states: [
                server.state.to_string(),
                elsewhere.clone().next().map_or_else(|| "-".to_owned(), |other| other.state.to_string()),
            ],
            sessions: server.sessions + elsewhere.map(|other| other.sessions).sum::<u64>(),
            pages: server.new_sessions.saturating_sub(before),
            reason: reasons(server),
        }
    });
    Ok(rows.collect())
}

fn firewall_table(rows: &[Firewall]) -> String {
    let mut text = format!(
        "  {:<6}{:<11}{:<11}{:>8}{:>7}{:>8}{:>9}{:>8}{:>9}\n",
        "", "outer sees", "inner sees", "sessions", "share", "new", "passed", "INVALID", "NOT-SYN"
    );
    let all: u64 = rows.iter().map(|row| row.sessions).sum();
    for row in rows {
        text += &format!(
            "  {:<6}{:<11}{:<11}{:>8}{:>7}{:>8}{:>9}{:>8}{:>9}\n",
            row.name,
            row.states[0],
            row.states[1],
            row.sessions,
            share(row.sessions, all),
            row.new_sessions,
            row.drops.passed,
            row.drops.invalid,
            row.drops.new_not_syn
        );
    }
    text
}

fn server_table(rows: &[Server]) -> String {
    let mut text = format!(
        "  {:<6}{:<7}{:<6}{:<6}{:>8}{:>7}{:>7}  {}\n",
        "", "weight", "pages", "echo", "sessions", "pages", "share", "why it is out"
    );
    let all: u64 = rows.iter().map(|row| row.pages).sum();
    for row in rows {
        let weight = if row.backup { "backup".to_owned() } else { row.weight.to_string() };
        let reason: String = row.reason.chars().take(REASON_WIDTH).collect();
        let line = format!(
            "  {:<6}{weight:<7}{:<6}{:<6}{:>8}{:>7}{:>7}  {reason}",
            row.name,
            row.states[0],
            row.states[1],
            row.sessions,
            row.pages,
            share(row.pages, all),
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn engine_table(rows: &[(&str, String, String)]) -> String {
    let mut text = format!("  {:<9}{:<9}why\n", "", "role");
    for (name, role, reason) in rows {
        let reason: String = reason.chars().take(ROLE_REASON_WIDTH).collect();
        text += format!("  {name:<9}{role:<9}{reason}").trim_end();
        text.push('\n');
    }
    text
}

fn firewall_line(rows: &[Firewall]) -> String {
    let all: u64 = rows.iter().map(|row| row.sessions).sum();
    let firewall = |row: &Firewall| {
        let state = if row.states[0] == row.states[1] { row.states[0].clone() } else { row.states.join("/") };
        let dropped = row.drops.invalid + row.drops.new_not_syn;
        format!("{} {state} {} of sessions, dropped {dropped}", row.name, share(row.sessions, all))
    };
    rows.iter().map(firewall).collect::<Vec<_>>().join("; ")
}

fn server_line(rows: &[Server], drops: FirewallTotals) -> String {
    let all: u64 = rows.iter().map(|row| row.pages).sum();
    let server = |row: &Server| format!("{} {} {}", row.name, row.states[0], share(row.pages, all));
    let servers: Vec<_> = rows.iter().map(server).collect();
    format!("{}; firewalls dropped {}", servers.join(", "), drops.invalid + drops.new_not_syn)
}

/// The percentage, rounded; `-` if the whole is zero.
fn share(part: u64, all: u64) -> String {
    match (part * 100 + all / 2).checked_div(all) {
        Some(percent) => format!("{percent}%"),
        None => "-".to_owned(),
    }
}

/// Prints text. A closed output is no reason to leave the lab behind.
fn print(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firewalls_show_state_share_and_drops() {
        let row = |name: &str, states: [&str; 2], sessions| Firewall {
            name: name.to_owned(),
            states: states.map(String::from),
            sessions,
            new_sessions: 1_000_000,
            drops: FirewallTotals { invalid: 0, new_not_syn: 0, passed: 1_000_000 },
        };
        let rows = [row("fw1", ["degraded", "up"], 10), row("fw16", ["up", "up"], 30)];

        let (line, table) = (firewall_line(&rows), firewall_table(&rows));

        assert!(line.starts_with("fw1 degraded/up 25% of sessions, dropped 0; fw16 up"), "{line}");
        assert_eq!(table.lines().count(), 3);
        assert!(table.lines().all(|line| line.len() < 80), "{table}");
        assert_eq!(share(0, 0), "-");
    }

    #[test]
    fn engines_show_role_and_reason() {
        let row = |name, role: &str, reason: &str| (name, role.to_owned(), reason.to_owned());

        let table =
            engine_table(&[row("outer-a", "-", ""), row("outer-b", "active", &"outer-a was silent ".repeat(9))]);

        assert!(table.contains("  outer-a  -\n  outer-b  active   outer-a was silent"), "{table}");
        assert!(table.lines().all(|line| line.len() < 80), "{table}");
    }

    #[test]
    fn servers_show_weight_share_and_why_they_are_out() {
        let row = |name: &str, state: &str, pages, reason: &str| Server {
            name: name.to_owned(),
            weight: 2,
            backup: name == "sorry",
            states: [state, "up"].map(String::from),
            sessions: 1_000_000,
            pages,
            reason: reason.to_owned(),
        };
        let rows = [row("s1", "down", 1, &"HTTP 503, expected 200 ".repeat(3)), row("sorry", "up", 3, "")];

        let table = server_table(&rows);

        assert!(table.contains("s1    2      down  up "), "{table}");
        assert!(table.contains("HTTP 503, expected 200"), "{table}");
        assert!(table.contains("sorry backup"), "{table}");
        assert!(table.lines().all(|line| line.len() < 80), "{table}");
        assert_eq!(server_line(&rows, FirewallTotals::default()), "s1 down 25%, sorry up 75%; firewalls dropped 0");
    }
}
