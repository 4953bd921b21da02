//! The tables of each view, made from what the engines reported.

use super::sample::{Watched, session_key};
use super::table::{Cell, Column, Row, Subject, Table, Tone, numbers, short, sparkline, words};
use crate::cli::output::{duration_ms, or_dash, round_trip};
use crate::cli::show::nodes::{Node, Told, nodes};
use crate::cli::show::tables::{admin_text, event_line};
use crate::engine::view::ServiceView;

/// A view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Engines, and everything that is not well.
    Overview,
    /// Firewalls.
    Firewalls,
    /// Services and servers.
    Services,
    /// Sessions.
    Sessions,
    /// Drops by reason.
    Drops,
    /// Links.
    Links,
    /// State changes.
    Events,
    /// Nodes of clusters.
    Nodes,
}

impl View {
    /// In the order of their keys, 1 to 8.
    pub const ALL: [Self; 8] = [
        Self::Overview,
        Self::Firewalls,
        Self::Services,
        Self::Sessions,
        Self::Drops,
        Self::Links,
        Self::Events,
        Self::Nodes,
    ];

    /// Its title.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Firewalls => "Firewalls",
            Self::Services => "Services",
            Self::Sessions => "Sessions",
            Self::Drops => "Drops",
            Self::Links => "Links",
            Self::Events => "Events",
            Self::Nodes => "Nodes",
        }
    }

    /// Its rows; each begins with the engine if several are watched.
    pub fn table(self, watched: &[Watched]) -> Table {
        let (columns, rows) = match self {
            Self::Overview => (ENGINES, each(watched, engine)),
            Self::Firewalls => (FIREWALLS, each(watched, firewalls)),
            Self::Services => (SERVICES, each(watched, services)),
            Self::Sessions => (SESSIONS, each(watched, sessions)),
            Self::Drops => (DROPS, each(watched, drops)),
            Self::Links => (LINKS, each(watched, links)),
            Self::Events => (EVENTS, events(watched)),
            Self::Nodes => return nodes_table(watched),
        };
        let named = matches!(self, Self::Overview | Self::Events);
        if named || watched.len() < 2 {
            return Table { columns: columns.to_vec(), rows: rows.into_iter().map(|(_, row)| row).collect() };
        }
        let columns = [&[words("ENGINE", 0)], columns].concat();
        let rows = rows.into_iter().map(|(engine, mut row)| {
            row.cells.insert(0, Cell::text(engine));
            row
        });
        Table { columns, rows: rows.collect() }
    }

    /// The column by which this view is sorted at first, and whether the largest comes first; `None`: the order of the
    /// source.
    pub const fn order(self) -> Option<(&'static str, bool)> {
        match self {
            Self::Sessions => Some(("PKT/S", true)),
            Self::Drops => Some(("TOTAL", true)),
            Self::Overview | Self::Firewalls | Self::Services | Self::Links | Self::Events | Self::Nodes => None,
        }
    }
}

/// Rows of each engine, with its name.
fn each(watched: &[Watched], rows: fn(&Watched) -> Vec<Row>) -> Vec<(String, Row)> {
    let of = |one: &Watched| rows(one).into_iter().map(|row| (one.last.engine.clone(), row)).collect::<Vec<_>>();
    watched.iter().flat_map(of).collect()
}

const ENGINES: &[Column] = &[
    words("ENGINE", 0),
    numbers("UP", 4),
    numbers("RX PKT/S", 0),
    numbers("BIT/S", 1),
    numbers("DROP/S", 0),
    numbers("SESSIONS", 0),
    numbers("NEW/S", 1),
    numbers("USE", 2),
    words("TREND", 3),
];

fn engine(watched: &Watched) -> Vec<Row> {
    let Some(status) = &watched.last.status else {
        return Vec::new();
    };
    let used = status.sessions as f64 * 100.0 / (status.capacity.max(1)) as f64;
    let dropped = watched.counter_rate("dropped");
    let drop_tone = if dropped.is_some_and(|rate| rate > 0.0) { Tone::Warn } else { Tone::Plain };
    let use_tone = if used >= 90.0 { Tone::Bad } else { Tone::Plain };
    let name_tone = if watched.last.problem.is_some() { Tone::Bad } else { Tone::Plain };
    vec![Row {
        subject: Subject::Other(watched.last.engine.clone()),
        cells: vec![
            Cell::text(&watched.last.engine).tone(name_tone),
            Cell::number(status.uptime_ms as f64, duration_ms(status.uptime_ms)),
            Cell::rate(watched.counter_rate("received")),
            Cell::rate(watched.bit_rate()),
            Cell::rate(dropped).tone(drop_tone),
            Cell::count(status.sessions as u64),
            Cell::rate(watched.counter_rate("sessions_created")),
            Cell::number(used, format!("{used:.1}%")).tone(use_tone),
            Cell::text(sparkline(&watched.trend, 20)).tone(Tone::Dim),
        ],
    }]
}

const NODES: &[Column] = &[
    words("NODE", 0),
    words("ROLE", 0),
    words("READY", 1),
    words("PRIORITY", 0),
    numbers("TERM", 4),
    numbers("SINCE", 2),
    words("VERSION", 5),
    words("HEARD", 3),
    words("WHY", 0),
];

/// The nodes of all clusters. The copies of sessions that a node holds are shown if one holds any.
fn nodes_table(watched: &[Watched]) -> Table {
    let told = watched
        .iter()
        .filter_map(|one| Some(Told { view: one.last.cluster.as_ref()?, answers: one.last.problem.is_none() }));
    let told: Vec<_> = told.collect();
    let nodes = nodes(&told);
    let mut table = Table { columns: NODES.to_vec(), rows: nodes.iter().map(node).collect() };
    if nodes.iter().any(|node| node.copies().is_some()) {
        const BEFORE_TERM: usize = 4;
        table.columns.insert(BEFORE_TERM, words("COPIES", 3));
        for (row, node) in table.rows.iter_mut().zip(&nodes) {
            row.cells.insert(BEFORE_TERM, Cell::text(node.copies().unwrap_or_else(|| "-".to_owned())));
        }
    }
    table
}

fn node(node: &Node<'_>) -> Row {
    let ready = match node.ready() {
        Some(true) => Cell::text("yes"),
        Some(false) => Cell::text("no").tone(Tone::Warn),
        None => Cell::text("-"),
    };
    let (why, tone) = node.words();
    Row {
        subject: Subject::Other(format!("node {}", node.name)),
        cells: vec![
            Cell::text(node.name),
            Cell::text(node.role_text()).tone(node.tone()),
            ready,
            Cell::text(node.priority()),
            Cell::count(node.term().into()),
            node.since_ms().map_or_else(|| Cell::number(-1.0, "-"), |ms| Cell::number(ms as f64, duration_ms(ms))),
            Cell::text(node.version().unwrap_or("-")),
            Cell::text(node.heard()),
            Cell::text(why).tone(tone),
        ],
    }
}

const FIREWALLS: &[Column] = &[
    words("FIREWALL", 0),
    words("STATE", 0),
    words("ADMIN", 1),
    numbers("WEIGHT", 5),
    numbers("SESSIONS", 0),
    numbers("NEW/S", 2),
    numbers("PKT/S", 0),
    numbers("BIT/S", 3),
    numbers("RTT", 3),
    numbers("SINCE", 1),
    words("REASON", 1),
];

fn firewalls(watched: &Watched) -> Vec<Row> {
    let row = |one: &crate::engine::view::FirewallView| {
        let rate = |of| watched.firewall_rate(&one.group, &one.name, of);
        let rtt = one.checks.iter().filter_map(|check| check.rtt_us).max();
        Row {
            subject: Subject::Firewall {
                group: one.group.clone(),
                name: one.name.clone(),
                engine: watched.last.engine.clone(),
            },
            cells: vec![
                Cell::text(format!("{}/{}", one.group, one.name)),
                Cell::text(one.state.name()).tone(Tone::of_state(one.state.name())),
                Cell::text(admin_text(one.admin, one.override_)),
                Cell::count(u64::from(one.weight)),
                Cell::count(one.sessions),
                Cell::rate(rate(|one| one.new_sessions)),
                Cell::rate(rate(|one| one.packets)),
                Cell::rate(rate(|one| one.bytes).map(|bytes| bytes * 8.0)),
                Cell::number(rtt.map_or(-1.0, |rtt| rtt as f64), round_trip(rtt)),
                Cell::number(one.since_ms as f64, duration_ms(one.since_ms)),
                Cell::text(one.reason.clone().unwrap_or_default()),
            ],
        }
    };
    watched.last.firewalls.iter().map(row).collect()
}

/// Formats `3 of 3 up, nat, round-robin`, and the reason of the state if it is notable.
fn service_state(service: &ServiceView) -> String {
    let why = service.reason.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
    format!("{}, {}, {}{why}", service.servers_up(), service.mode, service.scheduler)
}

const SERVICES: &[Column] = &[
    words("SERVICE/SERVER", 0),
    words("STATE", 0),
    words("ADMIN", 1),
    numbers("WEIGHT", 4),
    numbers("SESSIONS", 0),
    numbers("NEW/S", 1),
    numbers("PKT/S", 0),
    numbers("BIT/S", 3),
    numbers("SINCE", 2),
    words("REASON", 1),
];

fn services(watched: &Watched) -> Vec<Row> {
    let mut rows = Vec::new();
    for service in &watched.last.services {
        let sum = |of| {
            let rates = service.servers.iter().map(|server| watched.server_rate(&service.name, &server.name, of));
            rates.sum::<Option<f64>>()
        };
        rows.push(Row {
            subject: Subject::Service { name: service.name.clone(), engine: watched.last.engine.clone() },
            cells: vec![
                Cell::text(&service.name),
                Cell::text(service.state.name()).tone(Tone::of_state(service.state.name())),
                Cell::text(admin_text(service.admin, service.override_)),
                Cell::number(-1.0, "-"),
                Cell::count(service.sessions),
                Cell::rate(sum(|server| server.new_sessions)),
                Cell::rate(sum(|server| server.packets)),
                Cell::rate(sum(|server| server.bytes).map(|bytes| bytes * 8.0)),
                Cell::number(service.since_ms as f64, duration_ms(service.since_ms)),
                Cell::text(service_state(service)),
            ],
        });
        for server in &service.servers {
            let rate = |of| watched.server_rate(&service.name, &server.name, of);
            let backup = if server.backup { " backup" } else { "" };
            rows.push(Row {
                subject: Subject::Server {
                    service: service.name.clone(),
                    name: server.name.clone(),
                    engine: watched.last.engine.clone(),
                },
                cells: vec![
                    Cell::text(format!("  {}/{}", service.name, server.name)),
                    Cell::text(server.state.name()).tone(Tone::of_state(server.state.name())),
                    Cell::text(admin_text(server.admin, server.override_)),
                    Cell::number(f64::from(server.weight), format!("{}{backup}", server.weight)),
                    Cell::count(server.sessions),
                    Cell::rate(rate(|one| one.new_sessions)),
                    Cell::rate(rate(|one| one.packets)),
                    Cell::rate(rate(|one| one.bytes).map(|bytes| bytes * 8.0)),
                    Cell::number(server.since_ms as f64, duration_ms(server.since_ms)),
                    Cell::text(server.reason.clone().unwrap_or_default()),
                ],
            });
        }
    }
    rows
}

const SESSIONS: &[Column] = &[
    words("PROTO", 1),
    words("SOURCE", 0),
    words("DESTINATION", 0),
    words("FIREWALL", 0),
    words("SERVER", 2),
    words("STATE", 3),
    numbers("PKT/S", 0),
    numbers("BIT/S", 4),
    numbers("AGE", 5),
    numbers("IDLE", 5),
    numbers("PACKETS", 6),
    numbers("BYTES", 6),
];

fn sessions(watched: &Watched) -> Vec<Row> {
    let row = |one: &crate::engine::view::SessionView| {
        let rates = watched.session_rates(one);
        let firewalls: Vec<_> = one.pins.iter().map(|pin| pin.firewall.as_str()).collect();
        let time = |ms: u64| Cell::number(ms as f64, duration_ms(ms));
        Row {
            subject: Subject::Other(session_key(one)),
            cells: vec![
                Cell::text(&one.protocol),
                Cell::text(&one.source),
                Cell::text(&one.destination),
                Cell::text(or_dash(Some(firewalls.join("+").as_str()).filter(|names| !names.is_empty()))),
                Cell::text(or_dash(one.server.as_deref())),
                Cell::text(one.state.name()).tone(Tone::of_state(one.state.name())),
                Cell::rate(rates.map(|(packets, _)| packets)),
                Cell::rate(rates.map(|(_, bits)| bits)),
                time(one.age_ms),
                time(one.idle_ms),
                Cell::count(one.packets),
                Cell::number(one.bytes as f64, short(one.bytes as f64)),
            ],
        }
    };
    watched.last.sessions.iter().map(row).collect()
}

const DROPS: &[Column] = &[words("REASON", 0), numbers("PER SECOND", 0), numbers("TOTAL", 0), numbers("SHARE", 1)];

fn drops(watched: &Watched) -> Vec<Row> {
    let all = watched.last.counter("dropped").max(1) as f64;
    let reasons = watched
        .last
        .counters
        .iter()
        .filter(|(name, count)| **count > 0 && (name.starts_with("drop_") || name.starts_with("punt_drop_")));
    let row = |(name, count): (&String, &u64)| {
        let rate = watched.counter_rate(name);
        let tone = if rate.is_some_and(|rate| rate > 0.0) { Tone::Warn } else { Tone::Plain };
        // Drops of the controller were punted before, so they are not part of the sum of drops.
        let share = match name.starts_with("drop_") {
            true => Cell::number(*count as f64 / all, format!("{:.1}%", *count as f64 * 100.0 / all)),
            false => Cell::number(-1.0, "-"),
        };
        Row {
            subject: Subject::Other(name.clone()),
            cells: vec![Cell::text(name), Cell::rate(rate).tone(tone), Cell::count(*count), share],
        }
    };
    reasons.map(row).collect()
}

const LINKS: &[Column] = &[
    words("LINK", 0),
    words("DEVICE", 2),
    words("STATE", 0),
    numbers("RX PKT/S", 0),
    numbers("RX BIT/S", 1),
    numbers("TX PKT/S", 0),
    numbers("TX BIT/S", 1),
    numbers("DROPPED", 3),
    numbers("RING-DROPPED", 2),
    numbers("ERRORS", 3),
];

fn links(watched: &Watched) -> Vec<Row> {
    let row = |one: &crate::engine::view::LinkView| {
        let rate = |of| watched.link_rate(&one.name, of);
        let bits = |rate: Option<f64>| Cell::rate(rate.map(|bytes| bytes * 8.0));
        let vlan = one.vlan.map(|vlan| format!(".{vlan}")).unwrap_or_default();
        let bad = |count: u64| Cell::count(count).tone(if count > 0 { Tone::Warn } else { Tone::Plain });
        Row {
            subject: Subject::Other(format!("{}/{}", watched.last.engine, one.name)),
            cells: vec![
                Cell::text(&one.name),
                Cell::text(format!("{}{vlan}", one.device)),
                Cell::text(one.state.name()).tone(Tone::of_state(one.state.name())),
                Cell::rate(rate(|one| one.rx_packets)),
                bits(rate(|one| one.rx_bytes)),
                Cell::rate(rate(|one| one.tx_packets)),
                bits(rate(|one| one.tx_bytes)),
                Cell::count(one.rx_dropped),
                bad(one.ring_dropped),
                bad(one.tx_errors),
            ],
        }
    };
    watched.last.links.iter().map(row).collect()
}

const EVENTS: &[Column] = &[words("EVENT", 0)];

/// The events of all engines, newest first.
fn events(watched: &[Watched]) -> Vec<(String, Row)> {
    let several = watched.len() > 1;
    let mut all: Vec<_> =
        watched.iter().flat_map(|one| one.events.iter().map(move |event| (&one.last.engine, event))).collect();
    // RFC 3339 in UTC sorts as text.
    all.sort_by(|(_, one), (_, two)| two.at.cmp(&one.at));
    let row = |(engine, event): (&String, &crate::engine::view::EventView)| {
        let tone = event.to.as_deref().map_or(Tone::Plain, Tone::of_state);
        let line = event_line(several.then_some(engine), event);
        // The time of day is enough, because these events are recent.
        let line = line.split_once('T').map_or(line.as_str(), |(_, time)| time);
        let row = Row {
            subject: Subject::Other(format!("{engine} {}", event.seq)),
            cells: vec![Cell::text(line).tone(tone)],
        };
        (engine.clone(), row)
    };
    all.into_iter().map(row).collect()
}
