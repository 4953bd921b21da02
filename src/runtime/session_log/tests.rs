//! Tests of what is logged of sessions that end, and of what happens to those that find the queue full.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::engine::testbed::{Side, snapshot};
use crate::flow::FlowKey;
use crate::flow::key::Endpoint;
use crate::session::{Session, SessionId};

fn ended(number: u16, names: &Arc<Snapshot>) -> EndedSession {
    let end = |address: [u8; 4], port| Endpoint { address: address.into(), port };
    let flow = FlowKey { protocol: 17, source: end([198, 51, 100, 7], number), destination: end([203, 0, 113, 9], 53) };
    let (key, direction) = flow.canonical();
    let mut session = Session::new(&key, direction, Instant::from_millis(10));
    session.record_packet(direction, None, 100, Instant::from_millis(10));
    session.record_packet(direction.reversed(), None, 60, Instant::from_millis(35));
    let id = SessionId { slot: number.into(), generation: 1 };
    let session = Removed { id, key, session, placement: None };
    EndedSession {
        session,
        reason: Some(EndReason::Expired),
        at: Instant::from_millis(40),
        snapshot: Arc::clone(names),
    }
}

fn lines(path: &Path) -> Vec<SessionEndView> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An open session log in a directory of its own, with the file's path and the names of an engine.
fn opened() -> (SessionLog, Clock, Arc<Snapshot>, PathBuf, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.json");
    let (log, clock) = (SessionLog::default(), Clock::new());
    log.open("outer", &path, Timeouts::default(), clock).unwrap();
    (log, clock, Arc::new(snapshot(Side::Outer, 2)), path, directory)
}

#[test]
fn a_session_that_ends_is_one_line() {
    let (log, clock, names, path, _directory) = opened();
    let queue = log.queue.load_full().unwrap();

    for number in 0..500 {
        queue.send(ended(number, &names)).unwrap();
    }
    drop(queue);
    let (table, _) = SessionTable::new(16, 1, Timeouts::default(), [1, 2, 3, 4]);
    log.close(Some(&table), &names, clock);

    let lines = lines(&path);
    assert_eq!(lines.len(), 500);
    assert_eq!(log.counters().map(|(_, count)| count), [500, 0, 0]);
    let line = &lines[7];
    assert_eq!((line.source.as_str(), line.destination.as_str()), ("198.51.100.7:7", "203.0.113.9:53"));
    assert_eq!((line.protocol.as_str(), line.state.name(), line.reason.as_str()), ("udp", "two-way", "idle"));
    assert_eq!((line.packets, line.bytes, line.duration_ms, line.engine.as_str()), (2, 160, 25, "outer"));
    assert!(line.start <= line.at, "{} {}", line.start, line.at);
}

#[test]
fn sessions_that_are_alive_when_the_engine_stops_are_told_too() {
    let (log, clock, names, path, _directory) = opened();
    let (table, mut workers) = SessionTable::new(16, 1, Timeouts::default(), [1, 2, 3, 4]);
    for number in 0..10 {
        let Removed { id: _, key, session, placement } = ended(number, &names).session;
        workers[0].open(&key, placement, session, false, |_, _| false, Instant::ZERO);
    }

    log.close(Some(&table), &names, clock);

    let reasons: Vec<_> = lines(&path).into_iter().map(|line| line.reason).collect();
    assert_eq!(reasons, ["shutdown"; 10]);
}

#[test]
fn sessions_that_go_on_at_another_node_have_not_ended_when_the_engine_stops() {
    let (log, clock, names, path, _directory) = opened();
    let ended = ended(7, &names);
    log.queue.load_full().unwrap().send(ended).unwrap();

    log.close(None, &names, clock);

    let reasons: Vec<_> = lines(&path).into_iter().map(|line| line.reason).collect();
    assert_eq!(reasons, ["idle"]);
}

#[test]
fn a_full_disk_costs_lines_that_are_counted_and_nothing_else() {
    let names = Arc::new(snapshot(Side::Outer, 2));
    let log = SessionLog::default();
    let clock = Clock::new();
    log.open("outer", Path::new("/dev/full"), Timeouts::default(), clock).unwrap();
    let queue = log.queue.load_full().unwrap();
    for number in 0..100 {
        queue.send(ended(number, &names)).unwrap();
    }
    drop(queue);
    let (table, _) = SessionTable::new(16, 1, Timeouts::default(), [1, 2, 3, 4]);
    log.close(Some(&table), &names, clock);

    assert_eq!(log.counters().map(|(_, count)| count), [0, 0, 100]);
}
