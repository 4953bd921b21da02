//! Which session a new one replaces.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::flow::{CanonicalKey, Direction, Endpoint, FlowKey};
use crate::session::{OpenResult, SessionWorker, Timeouts};
use crate::wire::frame::TcpSegment;
use crate::wire::frame::tcp_flags::{ACK, RST, SYN};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ESP: u8 = 50;

fn key(protocol: u8, number: u32) -> CanonicalKey {
    let end = |address: u32| Endpoint { address: IpAddr::from(address.to_be_bytes()), port: 1 };
    FlowKey { protocol, source: end(0x0a00_0000 | number), destination: end(0xcb00_7150) }.canonical().0
}

fn at(seconds: u64) -> Instant {
    Instant::from_millis(1000 * seconds)
}

/// How far a conversation got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Talk {
    Asked,
    Answered,
    Reset,
}

fn segment(flags: u8, sequence: u32, acknowledgement: u32) -> TcpSegment {
    TcpSegment { flags, sequence, acknowledgement, length: u32::from(flags & SYN != 0) }
}

fn session(protocol: u8, talk: Talk, now: Instant) -> Session {
    use Direction::{HighToLow, LowToHigh};
    let segments = [
        (LowToHigh, segment(SYN, 100, 0)),
        (HighToLow, segment(SYN | ACK, 500, 101)),
        (LowToHigh, segment(ACK, 101, 501)),
        (HighToLow, segment(RST, 501, 0)),
    ];
    let mut session = Session::new(&key(protocol, 0), LowToHigh, now);
    let count = match (talk, protocol) {
        (Talk::Asked, _) => 1,
        (Talk::Answered, TCP) => 3,
        (Talk::Answered, _) => 2,
        (Talk::Reset, _) => 4,
    };
    for (direction, segment) in segments.into_iter().take(count) {
        session.record_packet(direction, (protocol == TCP).then_some(&segment), 60, now);
    }
    session
}

struct Lab {
    table: Arc<SessionTable>,
    workers: Vec<SessionWorker>,
}

impl Lab {
    fn new(capacity: usize, workers: usize) -> Self {
        let (table, workers) = SessionTable::new(capacity, workers, Timeouts::default(), [1, 2, 3, 4]);
        Self { table, workers }
    }

    fn open(
        &mut self,
        worker: usize,
        protocol: u8,
        number: u32,
        talk: Talk,
        now: Instant,
    ) -> (bool, Option<CanonicalKey>) {
        let session = session(protocol, talk, now);
        let (opened, evicted) =
            self.workers[worker].open(&key(protocol, number), None, session, true, |_, _| false, now);
        (matches!(opened, OpenResult::Inserted(_)), evicted.map(|evicted| evicted.key))
    }

    fn fill(&mut self, numbers: std::ops::Range<u32>, protocol: u8, talk: Talk, now: Instant) {
        for number in numbers {
            assert_eq!(self.open(0, protocol, number, talk, now), (true, None));
        }
    }

    fn lives(&self, protocol: u8, number: u32) -> bool {
        self.table.find(&key(protocol, number)).is_some()
    }

    fn speak(&self, protocol: u8, number: u32, now: Instant) {
        let id = self.table.find(&key(protocol, number)).expect("it lives");
        self.table.update(id, |session| session.record_packet(Direction::LowToHigh, None, 60, now));
    }

    fn tend(&mut self, now: Instant) {
        for worker in &mut self.workers {
            worker.expire(now, 10_000, |_, _| ());
        }
    }
}

/// The sessions that a table of two sessions, opened at the same time, evicts for a third.
#[test]
fn what_is_worth_less_is_forgotten_first() {
    let ranks = [
        (TCP, Talk::Asked),
        (TCP, Talk::Reset),
        (ICMP, Talk::Answered),
        (UDP, Talk::Answered),
        (ESP, Talk::Answered),
        (TCP, Talk::Answered),
    ];
    let unanswered = [(UDP, Talk::Asked), (ICMP, Talk::Asked), (ESP, Talk::Asked)];
    for (rank, less) in ranks.iter().enumerate() {
        for more in &ranks[rank + 1..] {
            for flip in [false, true] {
                let mut lab = Lab::new(2, 1);
                let both = if flip { [*more, *less] } else { [*less, *more] };
                for ((protocol, talk), number) in both.into_iter().zip([2, 4]) {
                    lab.fill(number..number + 1, protocol, talk, at(0));
                }
                let expected = key(less.0, if flip { 4 } else { 2 });
                assert_eq!(
                    lab.open(0, TCP, 99, Talk::Asked, at(10)),
                    (true, Some(expected)),
                    "{less:?} before {more:?}"
                );
            }
        }
    }
    for (protocol, talk) in unanswered {
        let mut lab = Lab::new(2, 1);
        lab.fill(2..3, TCP, Talk::Reset, at(0));
        lab.fill(4..5, protocol, talk, at(0));
        assert_eq!(lab.open(0, TCP, 99, Talk::Asked, at(10)), (true, Some(key(protocol, 4))));
    }
}

#[test]
fn an_established_connection_is_never_forgotten() {
    let mut lab = Lab::new(8, 2);
    for number in 0..8 {
        assert_eq!(lab.open(number as usize % 2, TCP, number, Talk::Answered, at(0)), (true, None));
    }
    for number in 100..200 {
        assert_eq!(lab.open(0, UDP, number, Talk::Answered, at(7000)), (false, None));
    }
    assert!((0..8).all(|number| lab.lives(TCP, number)));
}

#[test]
fn a_table_full_of_answered_questions_forgets_those_that_were_idle_for_longest() {
    let mut lab = Lab::new(100, 1);
    for number in 0..100 {
        assert_eq!(lab.open(0, UDP, number, Talk::Answered, at(u64::from(number))), (true, None));
        lab.tend(at(u64::from(number)));
    }
    for number in 100..400 {
        let (opened, evicted) = lab.open(0, UDP, number, Talk::Answered, at(u64::from(number)));
        assert_eq!((opened, evicted), (true, Some(key(UDP, number - 100))));
        lab.tend(at(u64::from(number)));
    }
}

/// The number of sessions in steady use in a table of 64: more than one search looks at.
const STEADY: u32 = 40;

/// Sessions that are used every 20 s survive while a thousand others come and go, however full the table is.
#[test]
fn what_is_in_steady_use_is_not_forgotten_while_others_are_idle() {
    for (protocol, tended) in [(UDP, true), (UDP, false), (ICMP, true), (ICMP, false), (ESP, false)] {
        let mut lab = Lab::new(64, 1);
        lab.fill(0..STEADY, protocol, Talk::Answered, at(0));
        lab.fill(STEADY..64, UDP, Talk::Answered, at(0));
        for number in 100..1100 {
            let now = at(u64::from(number));
            if number % 20 == 0 {
                (0..STEADY).for_each(|steady| lab.speak(protocol, steady, now));
            }
            if tended {
                lab.tend(now);
            }
            // A search that found only sessions in use continues with the next packet of the client.
            let tries = (0..3).take_while(|_| !lab.open(0, UDP, number, Talk::Answered, now).0).count();
            assert!(tries < 3, "number {number}");
        }
        assert!((0..STEADY).all(|steady| lab.lives(protocol, steady)), "protocol {protocol}, tended: {tended}");
    }
}

/// New clients of a table full of idle sessions complete their handshakes instead of evicting each other.
#[test]
fn a_few_half_open_sessions_are_kept_and_a_flood_takes_no_more_than_their_share() {
    let mut lab = Lab::new(1600, 1);
    lab.fill(0..1600, UDP, Talk::Answered, at(0));
    for number in 2000..2100 {
        assert!(lab.open(0, TCP, number, Talk::Asked, at(10)).0);
    }
    assert!((2000..2100).all(|number| lab.lives(TCP, number)));

    for number in 3000..13_000 {
        assert!(lab.open(0, TCP, number, Talk::Asked, at(11)).0);
    }
    let left = (0..1600).filter(|&number| lab.lives(UDP, number)).count();
    assert!(left >= 1600 - 1600 / 16 - 1, "{left} answered sessions are left");
}

#[test]
fn a_worker_without_sessions_takes_the_place_of_another_workers() {
    let mut lab = Lab::new(2400, 3);
    lab.fill(0..2400, UDP, Talk::Answered, at(0));
    for number in 5000..5050 {
        let (opened, evicted) = lab.open(1, TCP, number, Talk::Asked, at(10));
        assert_eq!((opened, evicted), (true, Some(key(UDP, number - 5000))));
    }
    assert!((5000..5050).all(|number| lab.lives(TCP, number)), "its own half-open ones are kept as long");

    // Nothing is left in the lists of the worker that opened the evicted sessions.
    assert_eq!(lab.table.len(), 2400);
    let ended: usize = (0..3)
        .map(|worker| {
            let mut ended = 0;
            while lab.workers[worker].expire(at(1000), 50, |_, _| ended += 1) == 50 {}
            ended
        })
        .sum();
    assert_eq!((ended, lab.table.len()), (2400, 0));
    lab.fill(0..100, UDP, Talk::Asked, at(1000));
}

proptest! {
    /// Whichever workers open, use, end and expire sessions, a new flow finds room as long as any session may be
    /// evicted, and no established connection is.
    #[test]
    fn room_is_found_and_established_connections_stay(
        steps in prop::collection::vec((0..3usize, 0..5u8, 0..60u32, 0..3u64), 1..300),
    ) {
        let mut lab = Lab::new(24, 3);
        let mut established = std::collections::BTreeSet::new();
        let mut now = 0;
        for (worker, kind, number, wait) in steps {
            now += wait;
            let (protocol, talk) = [
                (TCP, Talk::Asked),
                (TCP, Talk::Answered),
                (UDP, Talk::Answered),
                (ICMP, Talk::Answered),
                (UDP, Talk::Asked),
            ][usize::from(kind)];
            if lab.lives(protocol, number) {
                if talk == Talk::Answered && protocol != TCP {
                    lab.speak(protocol, number, at(now));
                }
                continue;
            }
            let full = lab.table.len() == 24 && established.len() == 24;
            let (opened, _) = lab.open(worker, protocol, number, talk, at(now));
            prop_assert_eq!(opened, !full);
            if opened && (protocol, talk) == (TCP, Talk::Answered) {
                established.insert(number);
            }
            prop_assert!(established.iter().all(|&number| lab.lives(TCP, number)));
            if number % 7 == 0 {
                lab.tend(at(now));
            }
        }
    }
}
