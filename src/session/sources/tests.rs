//! Which sources may open a session beside which others.

use std::sync::Arc;

use super::*;
use crate::flow::{CanonicalKey, Direction, Endpoint, FlowKey};
use crate::session::{OpenResult, Session, SessionTable, SessionWorker, Timeouts};
use crate::time::Duration;
use crate::wire::frame::TcpSegment;
use crate::wire::frame::protocol::TCP;
use crate::wire::frame::tcp_flags::{ACK, SYN};

const NOW: Instant = Instant::from_millis(60_000);

fn table(capacity: usize) -> (Arc<SessionTable>, SessionWorker) {
    let (table, mut workers) = SessionTable::new(capacity, 1, Timeouts::default(), [1, 2, 3, 4]);
    (table, workers.remove(0))
}

fn host(number: u32) -> IpAddr {
    IpAddr::from((0x0a00_0000 + number).to_be_bytes())
}

fn key(source: IpAddr, port: u16) -> CanonicalKey {
    let destination = Endpoint { address: [203, 0, 113, 80].into(), port: 80 };
    FlowKey { protocol: TCP, source: Endpoint { address: source, port }, destination }.canonical().0
}

/// Opens a connection. One that is `established` is never evicted for others.
fn open(worker: &mut SessionWorker, source: IpAddr, port: u16, established: bool) -> OpenResult {
    let key = key(source, port);
    let direction = Direction::LowToHigh;
    let mut session = Session::new(&key, direction, NOW);
    let mut say = |direction, flags, sequence, acknowledgement| {
        let length = u32::from(flags & SYN != 0);
        let segment = TcpSegment { flags, sequence, acknowledgement, length };
        session.record_packet(direction, Some(&segment), 40, NOW);
    };
    say(direction, SYN, 100, 0);
    if established {
        say(direction.reversed(), SYN | ACK, 500, 101);
        say(direction, ACK, 101, 501);
    }
    worker.open(&key, None, session, false, |_, _| false, NOW).0
}

#[test]
fn sessions_are_counted_at_who_opened_them_and_end_with_them() {
    let (table, mut worker) = table(10_000);
    let ids: Vec<_> = (0..500)
        .map(|port| match open(&mut worker, host(1), port, true) {
            OpenResult::Inserted(id) => id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(matches!(open(&mut worker, host(1), 7, true), OpenResult::Existing(_)), "counted once");
    let held = |table: &SessionTable| table.sources().sessions_of(host(1), table.len());
    assert!((485..=500).contains(&held(&table)), "{}", held(&table));
    assert_eq!(table.sources().sessions_of([203, 0, 113, 80].into(), table.len()), 0);

    ids.into_iter().for_each(|id| assert!(worker.close(id).is_some()));
    assert_eq!(held(&table), 0);
}

#[test]
fn one_source_with_connections_for_ever_leaves_places_to_a_hundred_others() {
    let (table, mut worker) = table(10_000);
    let got =
        (0..20_000).filter(|port| matches!(open(&mut worker, host(1), *port, true), OpenResult::Inserted(_))).count();
    assert!((8_888..=8_920).contains(&got), "{got}: eight ninths");
    assert_eq!(open(&mut worker, host(1), 30_000, true), OpenResult::OverShare);
    for number in 2..102 {
        assert!(matches!(open(&mut worker, host(number), 1, true), OpenResult::Inserted(_)), "{number}");
    }
    assert_eq!(table.len(), got + 100);
}

#[test]
fn a_flood_of_half_open_connections_takes_no_place_from_a_source_that_has_many_already() {
    let (table, mut worker) = table(10_000);
    (0..5_000).for_each(|port| assert!(matches!(open(&mut worker, host(1), port, true), OpenResult::Inserted(_))));
    // From so many addresses the table is full, and what filled it is evicted first.
    (0..20_000).for_each(|number| _ = open(&mut worker, host(1_000 + number), 1, false));
    assert_eq!(table.len(), 10_000);
    for port in 5_000..6_000 {
        assert!(matches!(open(&mut worker, host(1), port, true), OpenResult::Inserted(_)), "{port}");
    }
}

#[test]
fn limits_of_a_source_are_its_own() {
    let (table, mut worker) = table(10_000);
    let limits = SourceLimits { sessions: Some(20), rate: None };
    let admit = |source, limits| table.sources().admit(source, &limits, table.len(), NOW);
    for port in 0..20 {
        assert_eq!(admit(host(1), limits), Ok(()));
        open(&mut worker, host(1), port, true);
    }
    assert_eq!(admit(host(1), limits), Err(OverLimit::Sessions));
    assert_eq!(admit(host(2), limits), Ok(()));

    let limits = SourceLimits { sessions: None, rate: Some(5) };
    assert_eq!((0..20).filter(|_| admit(host(1), limits).is_ok()).count(), 5);
    assert_eq!(table.sources().would_admit(host(1), &limits, 0, NOW), Err(OverLimit::Rate));
    assert_eq!(admit(host(2), limits), Ok(()));
    assert_eq!(table.sources().admit(host(1), &limits, 0, NOW + Duration::from_millis(200)), Ok(()));
    assert_eq!(admit(host(1), SourceLimits::default()), Ok(()), "off by default");
}

#[test]
fn the_last_refusal_of_each_kind_is_told_once() {
    let sources = SourceLimiter::new(1_000, 7);
    sources.refused(host(1), OverLimit::Rate, 0);
    sources.refused(host(2), OverLimit::Rate, 0);
    sources.refused("2001:db8::7".parse().unwrap(), OverLimit::Share, 0);

    let told = |sources: &SourceLimiter| -> Vec<_> {
        sources.take_refusals().map(|refusal| (refusal.reason, refusal.source.to_string())).collect()
    };
    assert_eq!(
        told(&sources),
        [(OverLimit::Share, "2001:db8::/64".to_owned()), (OverLimit::Rate, "10.0.0.2".to_owned())]
    );
    assert_eq!(told(&sources), []);
}
