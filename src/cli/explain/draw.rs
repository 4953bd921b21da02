//! Draws an explanation on a terminal of 80 columns: the answer first, then its reasons, then the order of decision.

use crate::cli::explain::peer::Peer;
use crate::cli::output::{duration_ms, or_dash, table};
use crate::engine::view::{DecidedBy, ExplainView, SessionAfterFailure, WhatIfView};
use crate::named_enum::EnumOrUnknown;

/// Columns of text.
const WIDTH: usize = 79;
/// Columns of the labels on the left.
const LABEL_WIDTH: usize = 11;

/// The whole explanation.
pub fn show(explained: &ExplainView, peer: Option<&Peer>) -> String {
    let mut page = Page::new(&format!("{}: {}", explained.engine, explained.flow));
    page.line("answer", &answer(explained));
    page.line("arrives", &format!("from {}", explained.from));
    if let Some(session) = &explained.session {
        page.line(
            "session",
            &format!(
                "{}, {} old, idle {}, forgotten in {}, {} packets",
                session.state,
                duration_ms(session.age_ms),
                duration_ms(session.idle_ms),
                duration_ms(session.expires_ms),
                session.packets
            ),
        );
    }
    for pin in &explained.pins {
        let live = if explained.session.is_some() { "pin" } else { "would pin" };
        page.line(
            live,
            &format!("{}/{} toward {}: {}, {}", pin.group, pin.firewall, pin.toward, pin.pinned_by, pin.state),
        );
    }
    if let Some(translation) = &explained.translation {
        page.line("leaves as", translation);
    }
    if let Some(egress) = &explained.egress {
        let station = match (&egress.mac, &egress.neighbor) {
            (Some(mac), Some(state)) => format!("{mac}, {state}"),
            (Some(mac), None) => mac.clone(),
            (None, Some(state)) => format!("hardware address unknown, {state}"),
            (None, None) => "hardware address not known yet".to_owned(),
        };
        page.line("leaves by", &format!("{} to {} ({station})", egress.link, or_dash(egress.next_hop.as_deref())));
    }
    for what_if in &explained.what_if {
        page.line("if it dies", &what_if_text(what_if));
    }
    if let Some(peer) = peer {
        page.line("peer", &peer.summary);
    }
    page.story(&explained.story);
    page.candidates(explained);
    page.text
}

/// What happens to the flow, in a few words.
fn answer(explained: &ExplainView) -> String {
    if let Some(drop) = &explained.drop {
        let active = explained.active_node.as_ref().map(|node| format!(": {node} is active")).unwrap_or_default();
        return format!("DROPPED, counted as {drop}{active}");
    }
    let peer = explained.peer.as_ref().map(|peer| format!(" toward {peer}")).unwrap_or_default();
    let through = explained.firewall.as_ref().map(|firewall| format!("firewall {firewall}{peer}"));
    let server = explained.service.as_ref().zip(explained.server.as_ref());
    let server = server.map(|(service, server)| format!("server {service}/{server}"));
    let way: Vec<_> = through.into_iter().chain(server).collect();
    match way.is_empty() {
        true if explained.decided_by == DecidedBy::Local => {
            "for the engine itself, which answers it or drops it".to_owned()
        }
        true => {
            let next = explained.egress.as_ref().map(|egress| {
                let to = egress.next_hop.as_ref().map(|hop| format!(" to {hop}")).unwrap_or_default();
                format!("{}{to}, past no firewall, ", egress.link)
            });
            format!("{}decided by {}", next.unwrap_or_default(), explained.decided_by)
        }
        false => format!("{}, decided by {}", way.join(", "), explained.decided_by),
    }
}

fn what_if_text(what_if: &WhatIfView) -> String {
    let WhatIfView { kind: _, name, on_failure, session, firewall, server, drop } = what_if;
    let next = match (drop, firewall, server) {
        (Some(drop), _, _) => format!("dropped ({drop})"),
        (None, Some(firewall), Some(server)) => format!("to firewall {firewall}, server {server}"),
        (None, Some(firewall), None) => format!("to firewall {firewall}"),
        (None, None, Some(server)) => format!("to server {server}"),
        (None, None, None) => "past the firewalls".to_owned(),
    };
    let known = session.as_ref().and_then(EnumOrUnknown::known);
    match session {
        None => format!("{name}: the flow goes {next}"),
        Some(_) if known == Some(SessionAfterFailure::Moves) => {
            format!("{name}: the session moves {next} (on-failure {on_failure})")
        }
        Some(_) if known == Some(SessionAfterFailure::Stays) => {
            format!("{name}: the session stays (on-failure {on_failure})")
        }
        Some(ends) => format!("{name}: the session is {ends} (on-failure {on_failure}), a new one goes {next}"),
    }
}

/// A text of [`WIDTH`] columns that grows.
pub(super) struct Page {
    pub(super) text: String,
}

impl Page {
    /// A page with its first line.
    pub(super) fn new(title: &str) -> Self {
        Self { text: format!("{title}\n") }
    }

    /// Appends a value behind its label.
    pub(super) fn line(&mut self, label: &str, value: &str) {
        self.wrapped(&format!("  {label:<LABEL_WIDTH$}"), value);
    }

    /// Appends text in lines of [`WIDTH`] columns, the first behind `label`, the others indented below it.
    fn wrapped(&mut self, label: &str, value: &str) {
        let mut column = label.chars().count();
        let indent = column;
        self.text.push_str(label);
        for word in value.split_whitespace() {
            let length = word.chars().count();
            if column > indent && column + 1 + length > WIDTH {
                self.text.push('\n');
                self.text.extend(std::iter::repeat_n(' ', indent));
                column = indent;
            }
            if column > indent {
                self.text.push(' ');
                column += 1;
            }
            self.text.push_str(word);
            column += length;
        }
        self.text.push('\n');
    }

    /// Appends numbered sentences.
    pub(super) fn story(&mut self, sentences: &[String]) {
        self.text.push_str("\nwhy\n");
        for (number, sentence) in sentences.iter().enumerate() {
            self.wrapped(&format!("{:>3}. ", number + 1), sentence);
        }
    }

    /// Appends a table behind an empty line.
    pub(super) fn table(&mut self, titles: &[&str], rows: &[Vec<String>]) {
        self.text.push_str(&format!("\n{}", table(titles, rows)));
    }

    fn candidates(&mut self, explained: &ExplainView) {
        let taken = |name: &String, of: &Option<String>| if of.as_ref() == Some(name) { "*" } else { "" }.to_owned();
        if !explained.candidates.is_empty() {
            let row = |one: &crate::engine::view::CandidateView| {
                let mark = taken(&one.name, &explained.firewall);
                let state = if one.spare { format!("{} (spare)", one.state) } else { one.state.to_string() };
                vec![mark, one.name.clone(), state, one.weight.to_string(), one.score.to_string()]
            };
            let rows: Vec<_> = explained.candidates.iter().map(row).collect();
            self.table(&[" ", "FIREWALL", "STATE", ">WEIGHT", ">SCORE"], &rows);
        }
        if !explained.servers.is_empty() {
            let row = |one: &crate::engine::view::ServerCandidateView| {
                let mark = taken(&one.name, &explained.server);
                let state = if one.backup { format!("{} (backup)", one.state) } else { one.state.to_string() };
                vec![mark, one.name.clone(), state, one.weight.to_string(), one.sessions.to_string()]
            };
            let rows: Vec<_> = explained.servers.iter().map(row).collect();
            self.table(&[" ", "SERVER", "STATE", ">WEIGHT", ">SESSIONS"], &rows);
        }
    }
}
