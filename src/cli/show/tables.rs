//! Formats answers as tables.

use std::fmt::Write;

use crate::cli::engines::Answers;
use crate::cli::output::{Tone, duration_ms, or_dash, paint, round_trip, table};
use crate::config::AdminState;
use crate::engine::view::{
    CheckResultView, CheckView, ConfigView, EventView, FirewallView, KeptConfigView, LastCheckView, LinkView,
    NeighborView, PeerEngineView, PeerView, ServerCheckView, ServerView, ServiceView, StatusView,
};

pub fn status(answers: &Answers<StatusView>) -> String {
    answers.iter().map(|(_, _, status)| show_status(status)).collect()
}

pub fn links(answers: &Answers<Vec<LinkView>>) -> String {
    let several = answers.len() > 1;
    answers.iter().flat_map(|(_, _, links)| links).map(|link| show_link(link, several)).collect()
}

pub fn neighbors(answers: &Answers<Vec<NeighborView>>) -> String {
    let mut rows = Rows::default();
    each(answers).for_each(|one| rows.push(neighbor(one), &one.engine));
    rows.table(answers.len() > 1, NEIGHBORS)
}

/// The firewalls, and below them their paths.
pub fn firewalls(answers: &Answers<Vec<FirewallView>>) -> String {
    let (mut rows, mut paths) = (Rows::default(), Rows::default());
    for one in each(answers) {
        rows.push(firewall(one), &one.engine);
        one.checks.iter().for_each(|path| paths.push(check(one, path), &one.engine));
    }
    two_tables(answers.len() > 1, (rows, FIREWALLS), (paths, CHECKS))
}

pub fn peers(answers: &Answers<Vec<PeerView>>) -> String {
    let mut rows = Rows::default();
    for one in each(answers) {
        rows.push(peer(one), &one.engine);
        // Of one engine alone everything stands in the peer's own row.
        let several = one.engines.iter().filter(|_| one.engines.len() > 1);
        several.for_each(|of| rows.push(peer_engine(one, of), &one.engine));
    }
    rows.table(answers.len() > 1, PEERS)
}

/// The services with their servers, and below them the checks of these.
pub fn services(answers: &Answers<Vec<ServiceView>>) -> String {
    let (mut rows, mut checks) = (Rows::default(), Rows::default());
    for one in each(answers) {
        rows.push(service(one), &one.engine);
        for server in &one.servers {
            rows.push(server_row(server), &one.engine);
            server.checks.iter().for_each(|of| checks.push(server_check(one, server, of), &one.engine));
        }
    }
    two_tables(answers.len() > 1, (rows, SERVICES), (checks, SERVER_CHECKS))
}

pub fn checks(answers: &Answers<Vec<CheckResultView>>) -> String {
    let mut rows = Rows::default();
    each(answers).for_each(|one| rows.push(check_result(one), &one.engine));
    // One story, whoever tells it: RFC 3339 in UTC sorts as text, and stands behind the engine's name.
    rows.0.sort_by(|one, other| one[1].cmp(&other[1]));
    rows.table(answers.len() > 1, RESULTS)
}

pub fn events(answers: &Answers<Vec<EventView>>) -> String {
    let several = answers.len() > 1;
    let mut lines: Vec<_> = answers
        .iter()
        .flat_map(|(engine, _, events)| events.iter().map(move |event| (engine, event)))
        .map(|(engine, event)| (event.at.as_str(), painted_event_line(several.then_some(&engine.name), event)))
        .collect();
    // One story, whoever tells it: RFC 3339 in UTC sorts as text.
    lines.sort_by_key(|(at, _)| *at);
    lines.into_iter().map(|(_, line)| line + "\n").collect()
}

pub fn configs(answers: &Answers<Vec<KeptConfigView>>) -> String {
    under_engine_names(answers, |list| list.iter().map(show_kept).collect())
}

pub fn config(answers: &Answers<ConfigView>) -> String {
    under_engine_names(answers, |ConfigView { text, settings: _ }| text.clone())
}

/// The rows of all engines.
fn each<R>(answers: &Answers<Vec<R>>) -> impl Iterator<Item = &R> {
    answers.iter().flat_map(|(_, _, rows)| rows)
}

/// What each engine tells, under its name where there are several.
fn under_engine_names<A>(answers: &Answers<A>, show: impl Fn(&A) -> String) -> String {
    let mut text = String::new();
    for (engine, _, answer) in answers {
        if answers.len() > 1 {
            let _ = writeln!(text, "# engine {}", engine.name);
        }
        text.push_str(&show(answer));
    }
    text
}

/// A table and, if it has rows, another one below it.
fn two_tables(several: bool, (upper, titles): (Rows, &[&str]), (lower, subtitles): (Rows, &[&str])) -> String {
    let gap = if lower.0.is_empty() { "" } else { "\n" };
    upper.table(several, titles) + gap + &lower.table(several, subtitles)
}

/// Rows that begin with the name of their engine, which is left out if there is only one engine.
#[derive(Default)]
struct Rows(Vec<Vec<String>>);

impl Rows {
    fn push(&mut self, row: Vec<String>, engine: &str) {
        self.0.push([vec![engine.to_owned()], row].concat());
    }

    fn table(self, several: bool, titles: &[&str]) -> String {
        match several {
            true => table(&[&["ENGINE"], titles].concat(), &self.0),
            false => table(titles, &self.0.into_iter().map(|row| row[1..].to_vec()).collect::<Vec<_>>()),
        }
    }
}

/// Formats a kept configuration: `1  2026-01-02T03:04:05.678Z  reload by kim  0123456789abcdef  /etc/fwlb/outer.toml`,
/// and below it its differences.
fn show_kept(kept: &KeptConfigView) -> String {
    let KeptConfigView { back, number: _, at, by, how, digest, file, kept: _, in_force, unconfirmed, differences } =
        kept;
    let by = by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
    let marks = [(*in_force, ", in force"), (*unconfirmed, ", not confirmed yet")];
    let marks: String = marks.into_iter().filter(|(is, _)| *is).map(|(_, mark)| mark).collect();
    let mut text = format!("{back}  {at}  {how}{by}  {digest}  {file}{marks}\n");
    match differences {
        None => {}
        Some(differences) if differences.is_empty() => text.push_str("     comments only\n"),
        Some(differences) => differences.iter().for_each(|one| text.push_str(&format!("     {one}\n"))),
    }
    text
}

fn show_status(status: &StatusView) -> String {
    let mut text = String::new();
    let share = match status.capacity {
        0 => 0.0,
        capacity => status.sessions as f64 * 100.0 / capacity as f64,
    };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}: {}, up {}", status.name, status.role, duration_ms(status.uptime_ms));
    let _ = writeln!(
        text,
        "    sessions {} of {} ({share:.1} %), workers {}",
        status.sessions, status.capacity, status.workers
    );
    let _ = writeln!(
        text,
        "    version {}, epoch {}, configuration {}",
        status.version, status.epoch, status.config_digest
    );
    for alarm in &status.alarms {
        let since = duration_ms(alarm.since_ms);
        let alarm = format!("ALARM {} {} for {since}: {}", alarm.kind, alarm.subject, alarm.reason);
        let _ = writeln!(text, "    {}", paint(&alarm, Tone::Bad));
    }
    for one in &status.overrides {
        let at = one.at.as_ref().map(|at| format!(" {at}")).unwrap_or_default();
        let by = one.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let reason = one.reason.as_ref().map(|reason| format!(": {reason:?}")).unwrap_or_default();
        let admin = one.admin.map(|admin| admin.name().to_owned());
        let weight = one.weight.map(|weight| format!("weight {weight}"));
        for set in admin.into_iter().chain(weight) {
            let set = paint(&format!("{set}*"), Tone::Warn);
            let _ = writeln!(text, "    {} is set to {set}{at}{by}{reason}", one.subject);
        }
    }
    text
}

fn show_link(link: &LinkView, several: bool) -> String {
    let name = match several {
        true => format!("{}/{}", link.engine, link.name),
        false => link.name.clone(),
    };
    let vlan = link.vlan.map(|vlan| format!(" vlan {vlan}")).unwrap_or_default();
    // The default is not shown.
    let io = link.io_mode.as_ref().map(|mode| format!(" {} {mode}", link.io)).unwrap_or_default();
    let why = link.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let (device, state) = (&link.device, paint(link.state.name(), Tone::of_state(link.state.name())));
    let mut text = format!("{name}: {device}{vlan} {state}{why} mtu {} mac {}{io}\n", link.mtu, link.mac);
    for address in &link.addresses {
        let _ = writeln!(text, "    {address}");
    }
    let row = |words: [&str; 5]| words.map(str::to_owned).to_vec();
    let number = |number: u64| number.to_string();
    let titles = ["", ">PACKETS", ">BYTES", ">DROPPED", ">RING-DROPPED", ">ERRORS"];
    let rx = [link.rx_packets, link.rx_bytes, link.rx_dropped, link.ring_dropped].map(number);
    let tx = [link.tx_packets, link.tx_bytes, link.tx_errors].map(number);
    let rows = [
        [row(["RX", &rx[0], &rx[1], &rx[2], &rx[3]]), vec!["-".to_owned()]].concat(),
        [row(["TX", &tx[0], &tx[1], "-", "-"]), vec![tx[2].clone()]].concat(),
    ];
    for line in table(&titles, &rows).lines() {
        let _ = writeln!(text, "    {line}");
    }
    text
}

const NEIGHBORS: &[&str] = &["ADDRESS", "LINK", "MAC", "STATE", "AGE"];

fn neighbor(one: &NeighborView) -> Vec<String> {
    let age = one.age_ms.map(duration_ms);
    vec![
        one.address.clone(),
        one.link.clone(),
        or_dash(one.mac.as_deref()),
        one.state.to_string(),
        or_dash(age.as_deref()),
    ]
}

const FIREWALLS: &[&str] =
    &["FIREWALL", "LINK", "STATE", "ADMIN", ">WEIGHT", ">SESSIONS", ">NEW", ">PACKETS", ">BYTES", "SINCE", "REASON"];

fn firewall(one: &FirewallView) -> Vec<String> {
    vec![
        format!("{}/{}", one.group, one.name),
        one.link.clone(),
        one.state.to_string(),
        admin_text(one.admin, one.override_),
        if one.spare { format!("{} spare", one.weight) } else { one.weight.to_string() },
        one.sessions.to_string(),
        one.new_sessions.to_string(),
        one.packets.to_string(),
        one.bytes.to_string(),
        duration_ms(one.since_ms),
        one.reason.clone().unwrap_or_default(),
    ]
}

const CHECKS: &[&str] = &["PATH", "PEER", "FAMILY", "STATE", ">RTT", "SINCE", "REASON"];

fn check(firewall: &FirewallView, path: &CheckView) -> Vec<String> {
    vec![
        format!("{}/{}", firewall.group, firewall.name),
        path.peer.clone(),
        path.family.to_string(),
        path.state.to_string(),
        round_trip(path.rtt_us),
        duration_ms(path.since_ms),
        path.reason.clone().unwrap_or_default(),
    ]
}

const PEERS: &[&str] = &["PEER", "PEER-ENGINE", "STATE", "DIGEST", "VERSION", "SINCE", "REASON"];

/// The row of one of several engines behind a peer's address, below the peer's.
fn peer_engine(one: &PeerView, engine: &PeerEngineView) -> Vec<String> {
    let speaks = one.peer_engine.as_ref() == Some(&engine.name);
    let heard = engine.heard_ms.map_or("never heard".to_owned(), |ms| format!("heard {} ago", duration_ms(ms)));
    let priority = engine.priority.map(|priority| format!("priority {priority}"));
    let term = engine.term.map(|term| format!("term {term}"));
    let counts = speaks.then(|| "its word counts".to_owned());
    let words = [Some(heard), counts, priority, term];
    vec![
        format!("{}/{}", one.group, one.name),
        engine.name.clone(),
        engine.role.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        engine.digest.to_string(),
        or_dash(engine.version.as_deref()),
        "-".to_owned(),
        words.into_iter().flatten().collect::<Vec<_>>().join(", "),
    ]
}

fn peer(one: &PeerView) -> Vec<String> {
    vec![
        format!("{}/{}", one.group, one.name),
        or_dash(one.peer_engine.as_deref()),
        one.state.to_string(),
        one.digest.to_string(),
        or_dash(one.version.as_deref()),
        duration_ms(one.since_ms),
        one.reason.clone().unwrap_or_default(),
    ]
}

const SERVICES: &[&str] = &[
    "SERVICE/SERVER",
    "ADDRESS",
    "STATE",
    "ADMIN",
    ">WEIGHT",
    ">SESSIONS",
    ">NEW",
    ">PACKETS",
    ">BYTES",
    "SINCE",
    "FALLS",
    "REASON",
];

/// The row of a service, which is the sum of its servers; these follow below.
fn service(one: &ServiceView) -> Vec<String> {
    let sum = |of: fn(&ServerView) -> u64| one.servers.iter().map(of).sum::<u64>().to_string();
    let imbalance = one.imbalance.map(|imbalance| format!(", imbalance {imbalance:.2}")).unwrap_or_default();
    let why = one.reason.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
    let addresses = one.addresses.iter().map(|address| with_port(address, &one.ports.join(",")));
    vec![
        one.name.clone(),
        format!("{} {}", one.protocols.join("+"), addresses.collect::<Vec<_>>().join(" ")),
        one.state.to_string(),
        admin_text(one.admin, one.override_),
        "-".to_owned(),
        one.sessions.to_string(),
        sum(|server| server.new_sessions),
        sum(|server| server.packets),
        sum(|server| server.bytes),
        duration_ms(one.since_ms),
        falls(one.falls, one.downtime_ms),
        format!("{}, {}, {}{imbalance}{why}", one.mode, one.scheduler, one.servers_up()),
    ]
}

fn server_row(one: &ServerView) -> Vec<String> {
    let port = one.port.map(|port| port.to_string()).unwrap_or_default();
    let addresses = one.addresses.iter().map(|address| with_port(address, &port));
    let overridden = if one.weight_override.is_some() { "*" } else { "" };
    let backup = if one.backup { " backup" } else { "" };
    vec![
        format!("  {}", one.name),
        addresses.collect::<Vec<_>>().join(" "),
        one.state.to_string(),
        admin_text(one.admin, one.override_),
        format!("{}{overridden}{backup}", one.weight),
        one.sessions.to_string(),
        one.new_sessions.to_string(),
        one.packets.to_string(),
        one.bytes.to_string(),
        duration_ms(one.since_ms),
        falls(one.falls, one.downtime_ms),
        one.reason.clone().unwrap_or_default(),
    ]
}

/// Formats `2 (1m 3s)`: how often it went down, and how long it was down in total.
fn falls(falls: u64, downtime_ms: u64) -> String {
    match (falls, downtime_ms) {
        (0, 0) => "0".to_owned(),
        (falls, downtime) => format!("{falls} ({})", duration_ms(downtime)),
    }
}

const SERVER_CHECKS: &[&str] =
    &["CHECK", "FAMILY", "STATE", "SINCE", ">FAILED", "FALLS", "AGO", ">DURATION", "LAST CHECK"];

fn server_check(service: &ServiceView, server: &ServerView, one: &ServerCheckView) -> Vec<String> {
    let last = one.last.as_ref();
    let unchecked = || one.reason.clone().unwrap_or_default();
    vec![
        format!("{}/{}", service.name, server.name),
        one.family.to_string(),
        one.state.to_string(),
        duration_ms(one.since_ms),
        one.failures.to_string(),
        falls(one.falls, one.downtime_ms),
        last.map_or_else(|| "-".to_owned(), |last| duration_ms(last.age_ms)),
        round_trip(last.and_then(|last| last.duration_us)),
        last.map_or_else(unchecked, LastCheckView::describe),
    ]
}

const RESULTS: &[&str] =
    &["TIME", "SERVER/FIREWALL", "TO", "FAMILY", "RESULT", ">TIMES", ">DURATION", "STATE", "DETAIL"];

fn check_result(one: &CheckResultView) -> Vec<String> {
    vec![
        one.at.clone(),
        one.subject.clone(),
        or_dash(one.peer.as_deref()),
        one.family.to_string(),
        one.result.to_string(),
        one.times.to_string(),
        round_trip(one.duration_us),
        one.state.to_string(),
        one.detail.clone().unwrap_or_default(),
    ]
}

/// `192.0.2.1:80`, `[2001:db8::1]:80`; the address alone without a port.
fn with_port(address: &str, port: &str) -> String {
    match (port.is_empty(), address.contains(':')) {
        (true, _) => address.to_owned(),
        (false, true) => format!("[{address}]:{port}"),
        (false, false) => format!("{address}:{port}"),
    }
}

/// The state in force; a star marks one that differs from the file's.
pub fn admin_text(admin: AdminState, set: Option<AdminState>) -> String {
    match set {
        Some(set) => format!("{}*", set.name()),
        None => admin.name().to_owned(),
    }
}

/// [`event_line`], with the state in its colour where standard output shows colours.
pub fn painted_event_line(engine: Option<&String>, event: &EventView) -> String {
    let to = event.to.as_ref().map(|state| paint(state, Tone::of_state(state)));
    match event.from == event.to {
        true => event_line(engine, event),
        false => event_line(engine, &EventView { to, ..event.clone() }),
    }
}

/// `2026-01-02T03:04:05Z firewall perimeter/fw1: up -> down (no answer)`.
pub fn event_line(engine: Option<&String>, event: &EventView) -> String {
    let engine = engine.map(|engine| format!("{engine} ")).unwrap_or_default();
    let change = match (&event.from, &event.to) {
        (Some(from), Some(to)) if from == to => format!(": still {to}"),
        (Some(from), Some(to)) => format!(": {from} -> {to}"),
        (None, Some(to)) => format!(": {to}"),
        (Some(from), None) => format!(": no longer {from}"),
        (None, None) => String::new(),
    };
    let reason = event.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let by = event.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    format!("{} {engine}{} {}{change}{reason}{by}", event.at, event.kind, event.subject)
}
