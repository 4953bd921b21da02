//! Tests of listings of sessions.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::api::{SessionSort, TalkerRequest, TalkersBy};
use crate::engine::testbed::{self, Side};
use crate::flow::{CanonicalKey, Endpoint};
use crate::session::{OpenResult, SessionId, SessionWorker};

/// A session table that tests fill as they need.
struct Fixture {
    table: Arc<SessionTable>,
    worker: SessionWorker,
    snapshot: Snapshot,
    now: Instant,
}

impl Fixture {
    fn new(capacity: usize) -> Self {
        let (table, mut workers) = SessionTable::new(capacity, 1, Timeouts::default(), [1, 2, 3, 4]);
        let worker = workers.pop().unwrap();
        Self { table, worker, snapshot: testbed::snapshot(Side::Outer, 3), now: Instant::from_millis(100_000) }
    }

    fn walk(&self) -> Walk<'_> {
        Walk { engine: "outer", table: &self.table, snapshot: &self.snapshot, now: self.now }
    }

    /// Opens a session from this host with this many packets of 100 bytes.
    fn open(&mut self, host: u16, port: u16, packets: u64) -> SessionId {
        let (key, direction) = flow(host, port).canonical();
        let mut session = Session::new(&key, direction, self.now);
        (session.packets, session.bytes) = (packets, 100 * packets);
        match self.worker.open(&key, None, session, false, |_: &CanonicalKey, _: &Session| false, self.now) {
            (OpenResult::Inserted(id), None) => id,
            other => panic!("{other:?}"),
        }
    }

    fn carry(&self, id: SessionId, packets: u64) {
        let counted = self.table.update(id, |session| {
            session.packets += packets;
            session.bytes += 100 * packets;
        });
        counted.expect("it lives");
    }
}

fn flow(host: u16, port: u16) -> FlowKey {
    let [high, low] = host.to_be_bytes();
    FlowKey {
        protocol: 6,
        source: Endpoint { address: Ipv4Addr::new(198, 51, high, low).into(), port },
        destination: Endpoint { address: Ipv4Addr::new(203, 0, 113, 80).into(), port: 80 },
    }
}

fn question(limit: usize, after: Option<Cursor>) -> SessionRequest {
    SessionRequest { limit: Some(limit), after, ..SessionRequest::default() }
}

#[test]
fn a_page_says_how_many_there_are_and_where_the_next_begins() {
    let mut ground = Fixture::new(4096);
    (0..2849).for_each(|number| _ = ground.open(number % 7, 1000 + number, 1));

    let all = page(ground.walk(), &SessionMatcher::default(), &SessionRequest::default());
    let of_one = SessionMatcher { source: Some("198.51.0.3/32".parse().unwrap()), ..SessionMatcher::default() };
    let some = page(ground.walk(), &of_one, &question(10, None));
    let rest = page(ground.walk(), &of_one, &question(0, some.next.clone()));

    assert_eq!((all.rows.len(), all.total), (1000, Some(2849)));
    assert!(all.next.is_some());
    assert_eq!((some.rows.len(), some.total), (10, Some(407)));
    assert_eq!((rest.rows.len(), rest.total, rest.next), (397, None, None));
    let none = SessionMatcher { state: Some("two-way".to_owned()), ..SessionMatcher::default() };
    assert_eq!(page(ground.walk(), &none, &question(10, None)), SessionPage { total: Some(0), ..Default::default() });
    let elsewhere = question(10, Some(Cursor::at("inner", 0)));
    assert_eq!(page(ground.walk(), &SessionMatcher::default(), &elsewhere).rows, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A session that lives throughout is listed once by pages over a table that changes between them.
    #[test]
    fn pages_tell_every_session_that_lives_throughout_once(
        at_first in 1usize..150,
        limit in 1usize..40,
        changes in prop::collection::vec((any::<bool>(), 0usize..150), 0..60),
        per_page in 0usize..8,
    ) {
        let mut ground = Fixture::new(512);
        let mut live: Vec<(u16, SessionId)> =
            (0..at_first as u16).map(|number| (number, ground.open(number, 1, 1))).collect();
        let mut throughout: BTreeSet<u16> = live.iter().map(|(number, _)| *number).collect();
        let mut changes = changes.into_iter();
        let mut next_number = 1000;
        let mut told = Vec::new();
        let mut after = None;
        loop {
            let found = page(ground.walk(), &SessionMatcher::default(), &question(limit, after.take()));
            prop_assert!(found.rows.len() <= limit);
            told.extend(found.rows.into_iter().map(|row| row.source));
            let Some(next) = found.next else { break };
            after = Some(next);
            for (opens, which) in changes.by_ref().take(per_page) {
                if opens {
                    live.push((next_number, ground.open(next_number, 1, 1)));
                    next_number += 1;
                } else if !live.is_empty() {
                    let (number, id) = live.swap_remove(which % live.len());
                    ground.worker.close(id).expect("it lived");
                    throughout.remove(&number);
                }
            }
        }
        for number in throughout {
            let source = flow(number, 1).source;
            let source = format!("{}:{}", source.address, source.port);
            prop_assert_eq!(told.iter().filter(|one| **one == source).count(), 1, "{}", source);
        }
    }

    /// The listing equals the first rows of all sessions sorted.
    #[test]
    fn the_first_of_an_order_are_those_that_sorting_all_would_give(
        packets in prop::collection::vec(0u64..50, 1..100),
        limit in 1usize..20,
    ) {
        let mut ground = Fixture::new(256);
        for (number, packets) in (0..).zip(&packets) {
            ground.open(number, 1, *packets);
        }

        let found = sorted(ground.walk(), &SessionMatcher::default(), SessionSort::Packets, Some(limit), None);

        let mut expected = packets.clone();
        expected.sort_unstable_by_key(|packets| std::cmp::Reverse(*packets));
        expected.truncate(limit);
        prop_assert_eq!(found.total, Some(packets.len() as u64));
        prop_assert_eq!(found.rows.iter().map(|row| row.packets).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn one_busy_session_among_thousands_of_idle_ones_comes_first() {
    let mut ground = Fixture::new(8192);
    for number in 0..4000 {
        // Each of them has carried more than the busy session ever will.
        ground.open(number, 1, 1_000_000);
    }
    let busy = ground.open(5000, 5201, 3);
    let slow = ground.open(5001, 1, 3);
    let earlier = EarlierTraffic::take(&ground.table, &SessionMatcher::default(), ground.now);
    ground.now += Duration::from_millis(500);
    ground.carry(busy, 1000);
    ground.carry(slow, 10);
    // A session that was opened since has carried everything since, and one that reuses a slot is another session.
    let gone = ground.table.find(&flow(7, 1).canonical().0).unwrap();
    ground.worker.close(gone);
    ground.open(5002, 1, 500);

    let found = |sort| sorted(ground.walk(), &SessionMatcher::default(), sort, Some(3), Some(&earlier));

    let rows = found(SessionSort::Rate).rows;
    let rates: Vec<_> = rows.iter().map(|row| (row.source.as_str(), row.bits_per_second)).collect();
    assert_eq!(
        rates,
        [
            ("198.51.19.136:5201", Some(1_600_000)),
            ("198.51.19.138:1", Some(800_000)),
            ("198.51.19.137:1", Some(16_000)),
        ]
    );
    assert_eq!(rows[0].packets_per_second, Some(2000));
    assert_eq!(found(SessionSort::PacketRate).rows, rows);
}

#[test]
fn oldest_and_longest_idle_come_first() {
    let mut ground = Fixture::new(64);
    let first = ground.open(1, 1, 1);
    ground.now += Duration::from_secs(10);
    ground.open(2, 1, 1);
    ground.now += Duration::from_secs(10);
    let now = ground.now;
    ground.table.update(first, |session| session.last_seen = now).unwrap();
    let hosts = |sort| {
        let rows = sorted(ground.walk(), &SessionMatcher::default(), sort, Some(10), None).rows;
        rows.into_iter().map(|row| row.source).collect::<Vec<_>>()
    };

    assert_eq!(hosts(SessionSort::Age), ["198.51.0.1:1", "198.51.0.2:1"]);
    assert_eq!(hosts(SessionSort::Idle), ["198.51.0.2:1", "198.51.0.1:1"]);
}

#[test]
fn sums_are_of_each_source_and_of_what_is_meant() {
    let mut ground = Fixture::new(256);
    for port in 0..10 {
        ground.open(1, port + 1, 1);
    }
    ground.open(2, 1, 100);
    ground.open(3, 1, 5);
    let sums = |by, limit, selection: &SessionMatcher| {
        let asked = TalkerRequest { filter: SessionFilter::default(), by, sort: SessionSort::Bytes, limit };
        let rows = talkers(ground.walk(), selection, &asked, None);
        rows.into_iter().map(|row| (row.subject, row.sessions, row.packets, row.bytes)).collect::<Vec<_>>()
    };
    let row = |subject: &str, sessions, packets| (subject.to_owned(), sessions, packets, 100 * packets);

    let all = SessionMatcher::default();
    assert_eq!(sums(TalkersBy::Source, Some(2), &all), [row("198.51.0.2", 1, 100), row("198.51.0.1", 10, 10)]);
    assert_eq!(sums(TalkersBy::Destination, None, &all), [row("203.0.113.80", 12, 115)]);
    let of_one = SessionMatcher { source: Some("198.51.0.3/32".parse().unwrap()), ..SessionMatcher::default() };
    assert_eq!(sums(TalkersBy::Source, None, &of_one), [row("198.51.0.3", 1, 5)]);
    assert_eq!(sums(TalkersBy::Server, None, &all), []);
    assert_eq!(sums(TalkersBy::Firewall, None, &all), []);
}

#[test]
fn names_that_nobody_has_are_refused_with_those_that_there_are() {
    let ground = Fixture::new(16);
    let refused = |filter: SessionFilter| select(&filter, &ground.snapshot).unwrap_err().to_string();
    let firewall = refused(SessionFilter { firewall: Some("fw9".to_owned()), ..Default::default() });
    assert!(firewall.contains("no firewall \"fw9\"; there are: perimeter/fw1"), "{firewall}");
    let server = refused(SessionFilter { server: Some("s1".to_owned()), ..Default::default() });
    assert_eq!(server, "no server \"s1\"; there is none");
    let service = refused(SessionFilter { service: Some("nope".to_owned()), ..Default::default() });
    assert_eq!(service, "no service \"nope\"; there is none");
}
