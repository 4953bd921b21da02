use std::time::Duration;

use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, from_value, json};

use super::draw::{Palette, draw};
use super::sample::{Sample, Watched};
use super::state::{Action, Change, ChangeCall, Mode, State};
use super::table::{Cell, Row, Subject, Table, Tone, numbers, short, sparkline, words};
use super::views::View;
use crate::api::calls;
use crate::config::AdminState;

/// An engine after `second` seconds: 1,000 packets and 100 sessions more in each.
fn sample(engine: &str, second: u64) -> Sample {
    let firewall = |name: &str, state: &str, share: u64, reason: Value| {
        json!({
            "engine": engine, "name": name, "group": "perimeter", "link": "firewalls", "addresses": ["10.1.0.11"],
            "state": state, "admin": "ready", "override": null, "weight": 1, "spare": false, "sessions": share,
            "new_sessions": share * second, "packets": 10 * share * second, "bytes": 1000 * share * second,
            "since_ms": 1000 * second, "reason": reason,
            "checks": [{"peer": "inner", "family": "ipv4", "state": state, "rtt_us": 312, "since_ms": 0, "reason": null}],
        })
    };
    let server = |name: &str, state: &str, sessions: u64| {
        json!({
            "name": name, "addresses": ["10.2.0.11"], "port": 8080, "backup": false, "state": state, "admin": "ready",
            "override": null, "weight": 1, "weight_override": null, "sessions": sessions,
            "new_sessions": sessions * second, "packets": 0, "bytes": 0, "since_ms": 5000,
            "reason": if state == "up" { Value::Null } else { json!("HTTP 503, expected 200") }, "checks": [],
        })
    };
    let session = |port: u64, packets: u64| {
        json!({
            "engine": engine, "protocol": "tcp", "source": format!("198.51.100.7:{port}"),
            "destination": "203.0.113.80:80", "identifier": null, "pins": [{
                "group": "perimeter", "firewall": "fw1", "pinned_by": "hash", "state": "confirmed",
                "toward": "destination",
            }],
            "service": "web", "server": "s1", "translated_source": null, "translated_destination": "10.2.0.11:8080",
            "state": "established", "age_ms": 1000, "idle_ms": 10, "expires_ms": 7_440_000, "packets": packets,
            "bytes": 100 * packets,
        })
    };
    Sample {
        engine: engine.to_owned(),
        at: Duration::from_secs(second),
        status: Some(
            from_value(json!({
                "name": engine, "version": "0.1.0", "uptime_ms": 1000 * second, "epoch": 3, "config_digest": "abc",
                "workers": 1, "sessions": 3, "capacity": 1000, "role": "active", "overrides": [],
                "alarms": [{"kind": "peer_lost", "subject": "perimeter/inner", "reason": "no answer", "since_ms": 900}],
            }))
            .expect("a status"),
        ),
        cluster: None,
        firewalls: from_value(json!([
            firewall("fw1", "up", 70, Value::Null),
            firewall("fw2", "down", 30, json!("no answer from inner")),
        ]))
        .expect("firewalls"),
        services: from_value(json!([{
            "engine": engine, "name": "web", "addresses": ["203.0.113.80"], "protocols": ["tcp"], "ports": ["80"],
            "scheduler": "round-robin", "mode": "nat", "state": "up", "admin": "ready", "override": null,
            "sessions": 3, "imbalance": null, "servers": [server("s1", "up", 2), server("s2", "down", 1)],
        }]))
        .expect("services"),
        links: from_value(json!([{
            "engine": engine, "name": "clients", "device": "eth0", "vlan": 100, "state": "up",
            "mac": "02:00:00:00:00:01", "mtu": 1500, "addresses": [], "rx_packets": 1000 * second,
            "rx_bytes": 125_000 * second, "rx_dropped": 0, "ring_dropped": 4, "tx_packets": 0, "tx_bytes": 0,
            "tx_errors": 0,
        }]))
        .expect("links"),
        counters: [
            ("received", 1000 * second),
            ("dropped", 7 * second),
            ("drop_ttl_expired", 7 * second),
            ("drop_loop", 0),
            ("punt_drop_unreachable", 5),
            ("sessions_created", 100 * second),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into(),
        events: from_value(json!([{
            "seq": second, "at": format!("2026-01-02T03:04:{second:02}Z"), "kind": "firewall",
            "subject": "perimeter/fw2", "from": "up", "to": "down", "reason": "no answer", "by": null,
        }]))
        .expect("events"),
        sessions: from_value(json!([session(40_000, 10 * second), session(40_001, 30 * second)])).expect("sessions"),
        problem: None,
    }
}

fn watched(engine: &str) -> Watched {
    let mut one = Watched::new(engine);
    one.push(sample(engine, 1));
    one.push(sample(engine, 3));
    one
}

fn screen(state: &mut State, watched: &[Watched], (width, height): (u16, u16)) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
    terminal.draw(|frame| draw(frame, state, watched, Palette { colour: true })).expect("drawn");
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

fn press(state: &mut State, watched: &[Watched], keys: &str) -> Action {
    let mut last = Action::Draw;
    for key in keys.chars() {
        let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
        last = state.key(KeyEvent::new(code, KeyModifiers::NONE), watched);
    }
    last
}

#[test]
fn the_overview_of_two_engines_fits_80_by_24_and_names_what_is_wrong() {
    let watched = [watched("inner"), watched("outer")];
    let lines = screen(&mut State::default(), &watched, (80, 24));
    let text = lines.join("\n");
    assert!(lines[1].starts_with("inner: ALARM peer_lost perimeter/inner"), "{text}");
    assert!(lines[3].starts_with("ENGINE"), "{text}");
    assert!(lines[4].starts_with("inner") && lines[4].contains("1.0k") && lines[4].contains("1.0M"), "{text}");
    for expected in
        ["perimeter/fw1", "perimeter/fw2", "web/s2", "03:04:03Z outer firewall perimeter/fw2: up -> down", "? keys"]
    {
        assert!(text.contains(expected), "no {expected} in\n{text}");
    }
}

#[test]
fn rates_are_growth_over_the_time_between_samples() {
    let one = watched("outer");
    assert_eq!(one.counter_rate("received"), Some(1000.0));
    assert_eq!(one.bit_rate(), Some(1_000_000.0));
    assert_eq!(one.firewall_rate("perimeter", "fw2", |one| one.packets), Some(300.0));
    assert_eq!(one.server_rate("web", "s1", |one| one.new_sessions), Some(2.0));
    assert_eq!(one.session_rates(&one.last.sessions[1]), Some((30.0, 24_000.0)));
    assert_eq!(one.firewall_rate("perimeter", "fw9", |one| one.packets), None);
}

#[test]
fn one_sample_has_no_rates_and_a_restarted_engine_starts_anew() {
    let mut one = Watched::new("outer");
    one.push(sample("outer", 9));
    assert_eq!(one.counter_rate("received"), None);
    one.push(sample("outer", 10));
    assert_eq!(one.events.len(), 2);
    one.push(Sample { at: Duration::from_secs(11), ..sample("outer", 1) });
    assert_eq!(one.counter_rate("received"), None);
    assert_eq!(one.last_seq(), 1);
}

#[test]
fn an_engine_that_falls_silent_keeps_its_last_picture_and_says_why() {
    let mut one = watched("outer");
    one.push(Sample { engine: "outer".to_owned(), problem: Some("no engine listens".to_owned()), ..Sample::default() });
    let lines = screen(&mut State::default(), &[one], (80, 24));
    assert_eq!(lines[1], "outer: no engine listens");
    assert!(lines.iter().any(|line| line.contains("perimeter/fw1")), "{lines:?}");
}

#[test]
fn every_view_draws_on_any_screen() {
    let watched = [watched("inner"), watched("outer")];
    for (key, view) in ('1'..='8').zip(View::ALL) {
        for size in [(80, 24), (20, 5), (1, 1), (200, 60)] {
            let mut state = State::default();
            press(&mut state, &watched, &key.to_string());
            assert_eq!(state.view, view);
            screen(&mut state, &watched, size);
            press(&mut state, &watched, "?");
            screen(&mut state, &watched, size);
        }
    }
}

#[test]
fn sessions_come_busiest_first_and_can_be_searched() {
    let watched = [watched("outer")];
    let mut state = State::default();
    assert_eq!(press(&mut state, &watched, "4"), Action::Refresh);
    let lines = screen(&mut state, &watched, (100, 24));
    assert!(lines[2].contains("PKT/Sv"), "{lines:?}");
    assert!(lines[3].contains("198.51.100.7:40001") && lines[4].contains("198.51.100.7:40000"), "{lines:?}");
    press(&mut state, &watched, "/:40000\n");
    let lines = screen(&mut state, &watched, (100, 24));
    assert!(lines[3].contains("198.51.100.7:40000") && lines[4].is_empty(), "{lines:?}");
    assert!(lines[23].contains("only rows with \":40000\""), "{lines:?}");
    state.key(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE), &watched);
    assert_eq!(state.table(&watched).rows.len(), 2);
}

/// The engine `outer-a`, which is active and hears a standby.
fn active_node() -> Watched {
    let mut one = watched("outer-a");
    one.last.cluster = Some(crate::ha::view::sample());
    one
}

#[test]
fn the_overview_of_a_node_names_the_others_and_their_roles() {
    let lines = screen(&mut State::default(), &[active_node()], (80, 24));
    let text = lines.join("\n");
    assert!(lines[0].ends_with("7 Events 8 Nodes"), "{text}");
    let nodes: Vec<_> = lines.iter().skip_while(|line| !line.starts_with("NODE")).take(3).collect();
    assert!(nodes[1].starts_with("outer-a  active   yes") && nodes[1].contains("195 = 200 - 5"), "{text}");
    assert!(nodes[2].starts_with("outer-b  standby  yes") && nodes[2].contains("190"), "{text}");
    for expected in ["perimeter/fw1", "web/s2", "03:04:03Z", "- 5, group perimeter: 1 of 6"] {
        assert!(text.contains(expected), "no {expected} in\n{text}");
    }
    let alone = screen(&mut State::default(), &[watched("outer")], (80, 24)).join("\n");
    assert!(!alone.contains("NODE"), "an engine that stands alone has no nodes: {alone}");
}

#[test]
fn the_view_of_nodes_shows_who_is_heard_by_whom_and_copies_where_there_are_some() {
    let mut watched = [active_node()];
    let mut state = State::default();
    press(&mut state, &watched, "8");
    let text = screen(&mut state, &watched, (220, 24)).join("\n");
    assert!(text.contains("12 ms ago by outer-a on internet, sync") && text.contains("0.1.0"), "{text}");
    assert!(text.contains("COPIES") && text.contains("31204 of 31204, 1 ms behind"), "{text}");
    let table = state.table(&watched);
    let column = |title| table.columns.iter().position(|column| column.title == title).expect("a column");
    assert_eq!(table.rows[0].cells[column("ROLE")].tone, Tone::Good);

    let other = &mut watched[0].last.cluster.as_mut().expect("a cluster").nodes[0];
    (other.sessions_held, other.full_passes, other.ready) = (0, 0, false);
    let table = state.table(&watched);
    assert!(table.columns.iter().all(|column| column.title != "COPIES"), "nobody keeps copies: {table:?}");
    let ready = &table.rows[1].cells[column("READY")];
    assert_eq!((ready.text.as_str(), ready.tone), ("no", Tone::Warn));

    // Nobody hears it any more.
    let other = &mut watched[0].last.cluster.as_mut().expect("a cluster").nodes[0];
    (other.role, other.ready) = (None, false);
    other.heard.clear();
    let row = &state.table(&watched).rows[1].cells;
    assert_eq!((row[1].text.as_str(), row[1].tone, row[2].text.as_str()), ("not heard", Tone::Bad, "-"));
}

#[test]
fn drops_show_only_reasons_that_happened() {
    let watched = [watched("outer")];
    let table = View::Drops.table(&watched);
    let shown: Vec<_> = table.rows.iter().map(|row| row.cells[0].text.as_str()).collect();
    assert_eq!(shown, ["drop_ttl_expired", "punt_drop_unreachable"]);
    assert_eq!(table.rows[0].cells[3].text, "100.0%");
}

#[test]
fn a_drain_is_made_only_after_a_yes() {
    let watched = [watched("outer")];
    let mut state = State::default();
    press(&mut state, &watched, "2jd");
    let Mode::Confirm(change) = state.mode.clone() else { panic!("no question: {:?}", state.mode) };
    assert_eq!(change.question, "Drain firewall perimeter/fw2? 30 sessions stay, new ones go elsewhere.");
    assert_eq!(press(&mut state, &watched, "n"), Action::Draw);
    assert_eq!(state.message.as_ref().map(|(text, _)| text.as_str()), Some("nothing was changed"));
    let Action::Apply(change) = press(&mut state, &watched, "dy") else { panic!("no change") };
    let (engine, call) = change.call("alice".to_owned()).expect("a firewall can be set");
    assert_eq!(engine, None);
    let ChangeCall::Firewall(calls::SetFirewall { group, name, admin, by, .. }) = call else { panic!("{call:?}") };
    assert_eq!(
        (group.as_deref(), name.as_str(), admin, by.as_deref()),
        (Some("perimeter"), "fw2", Some(AdminState::Drain), Some("alice"))
    );
}

#[test]
fn a_server_is_set_on_its_own_engine_and_enabled_as_the_file_says() {
    let watched = [watched("inner"), watched("outer")];
    let mut state = State::default();
    press(&mut state, &watched, "3jjjjj");
    let Action::Apply(change) = press(&mut state, &watched, "ey") else { panic!("no change: {state:?}") };
    let subject = Subject::Server { service: "web".to_owned(), name: "s2".to_owned(), engine: "outer".to_owned() };
    assert_eq!((&change.subject, change.admin), (&subject, None));
    let (engine, _) = change.call("alice".to_owned()).expect("a server can be set");
    assert_eq!(engine, Some("outer"));
}

#[test]
fn what_is_drained_by_the_file_is_enabled_against_it() {
    let mut one = watched("outer");
    one.last.firewalls[0].admin = AdminState::Drain;
    let mut state = State::default();
    let Action::Apply(Change { admin, .. }) = press(&mut state, &[one], "2ey") else { panic!("no change") };
    assert_eq!(admin, Some(AdminState::Ready));
}

#[test]
fn the_cursor_stays_on_its_row_when_the_order_changes() {
    let watched = [watched("outer")];
    let mut state = State::default();
    press(&mut state, &watched, "2j");
    let chosen = state.cursor.1.clone();
    press(&mut state, &watched, ">");
    state.table(&watched);
    press(&mut state, &watched, "k");
    state.table(&watched);
    let first = state.cursor.1.clone();
    assert_ne!(first, chosen);
    press(&mut state, &watched, "r");
    state.table(&watched);
    assert_eq!((state.cursor.0, state.cursor.1), (1, first));
}

#[test]
fn enter_shows_the_whole_row_where_the_screen_cuts_it() {
    let mut one = watched("outer");
    let reason =
        "the engine's own link to it is down; the cable was pulled while somebody looked, and nobody says when it ends";
    for event in &mut one.events {
        event.reason = Some(reason.to_owned());
    }
    let watched = [one];
    let mut state = State::default();
    press(&mut state, &watched, "7");
    let words = |lines: Vec<String>| -> String {
        let plain = lines.join(" ").replace(['│', '┌', '┐', '└', '┘', '─'], " ");
        plain.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(!words(screen(&mut state, &watched, (80, 24))).contains("nobody says when it ends"));
    state.key(KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE), &watched);
    let whole = words(screen(&mut state, &watched, (80, 24)));
    assert!(whole.contains(reason), "{whole}");
    press(&mut state, &watched, "x");
    assert_eq!(state.mode, Mode::Browse);
}

#[test]
fn only_what_can_be_set_is_set() {
    let watched = [watched("outer")];
    let mut state = State::default();
    press(&mut state, &watched, "5d");
    assert_eq!(state.mode, Mode::Browse);
    assert!(state.message.is_some_and(|(text, _)| text.contains("choose a firewall")));
}

#[test]
fn numbers_are_short_and_trends_are_bars() {
    let shown = [0.0, 0.4, 9.9, 99.4, 999.0, 1000.0, 9950.0, 123_456.0, 2.5e9].map(short);
    assert_eq!(shown, ["0", "0.4", "9.9", "99", "999", "1.0k", "10k", "123k", "2.5G"]);
    assert_eq!(sparkline(&[0.0, 50.0, 100.0], 20), "▁▅█");
    assert_eq!(sparkline(&[1.0, 0.0, 0.0], 2), "▁▁");
}

proptest! {
    #[test]
    fn columns_that_fit_are_never_wider_than_the_screen(
        cells in proptest::collection::vec(("[a-z]{0,30}", "[0-9]{0,9}", "[a-z ]{0,60}"), 0..8), width in 40usize..200,
    ) {
        let row = |(name, number, reason): (String, String, String)| Row {
            subject: Subject::Other(name.clone()),
            cells: vec![Cell::text(name), Cell::text(number).tone(Tone::Good), Cell::text(reason)],
        };
        let columns = vec![words("NAME", 0), numbers("PACKETS", 1), words("REASON", 1)];
        let table = Table { columns, rows: cells.into_iter().map(row).collect() };
        let fitted = table.fit(width);
        let wide = fitted.iter().map(|(_, width)| width + 2).sum::<usize>() - 2;
        prop_assert!(wide <= width, "{wide} > {width}: {fitted:?}");
        prop_assert_eq!(fitted[0].0, 0);
    }
}
