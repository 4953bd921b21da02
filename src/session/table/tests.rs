mod translated;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::flow::{Direction, Endpoint, FlowKey};
use crate::session::{ConversationState, SessionWorker, TcpState};
use crate::time::{Duration, Instant};
use crate::wire::frame::TcpSegment;
use crate::wire::frame::protocol::{TCP, UDP};
use crate::wire::frame::tcp_flags::{ACK, FIN, RST, SYN};

/// Short timeouts, all different.
const TIMEOUTS: Timeouts = Timeouts {
    tcp_syn: Duration::from_secs(4),
    tcp_established: Duration::from_secs(30),
    tcp_closing: Duration::from_secs(2),
    udp_new: Duration::from_secs(3),
    udp: Duration::from_secs(7),
    icmp: Duration::from_secs(5),
    other: Duration::from_secs(11),
    fragment: Duration::from_secs(5),
};

/// The flow with this number; odd ones are IPv6.
fn key(protocol: u8, number: u32) -> CanonicalKey {
    let (source, destination) = if number.is_multiple_of(2) {
        (IpAddr::from(Ipv4Addr::from(0x0a00_0000 | number)), IpAddr::from([203, 0, 113, 80]))
    } else {
        (IpAddr::from(Ipv6Addr::from(1 << 120 | u128::from(number))), IpAddr::from(Ipv6Addr::from(u128::MAX)))
    };
    let (source, destination) = (Endpoint { address: source, port: 1 }, Endpoint { address: destination, port: 2 });
    FlowKey { protocol, source, destination }.canonical().0
}

fn table(capacity: usize) -> (Arc<SessionTable>, SessionWorker) {
    let (table, mut workers) = SessionTable::new(capacity, 1, TIMEOUTS, [1, 2, 3, 4]);
    (table, workers.remove(0))
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn open(worker: &mut SessionWorker, key: &CanonicalKey, now: Instant) -> OpenResult {
    open_evicting(worker, key, now).0
}

fn open_evicting(worker: &mut SessionWorker, key: &CanonicalKey, now: Instant) -> (OpenResult, Option<Removed>) {
    worker.open(key, None, Session::new(key, Direction::LowToHigh, now), false, |_, _| false, now)
}

fn inserted(opened: OpenResult) -> SessionId {
    match opened {
        OpenResult::Inserted(id) => id,
        other => panic!("expected a new session, got {other:?}"),
    }
}

fn expire(worker: &mut SessionWorker, now: Instant) -> Vec<CanonicalKey> {
    let mut ended = Vec::new();
    while worker.expire(now, 1000, |removed, reason| {
        assert_eq!(reason, EndReason::Expired);
        ended.push(removed.key);
    }) == 1000
    {}
    ended
}

fn segment(flags: u8, sequence: u32, acknowledgement: u32) -> TcpSegment {
    let length = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    TcpSegment { flags, sequence, acknowledgement, length }
}

fn handshake(session: &mut Session, now: Instant) {
    session.record_packet(Direction::LowToHigh, Some(&segment(SYN, 100, 0)), 40, now);
    session.record_packet(Direction::HighToLow, Some(&segment(SYN | ACK, 500, 101)), 40, now);
    session.record_packet(Direction::LowToHigh, Some(&segment(ACK, 101, 501)), 40, now);
}

#[test]
fn a_flow_is_found_until_it_is_closed() {
    let (table, mut worker) = table(4);
    for number in [0, 1] {
        let key = key(TCP, number);
        let id = inserted(open(&mut worker, &key, at(0)));
        assert_eq!(table.find(&key), Some(id));
        assert_eq!(open(&mut worker, &key, at(0)), OpenResult::Existing(id));
        table.update(id, |session| session.record_packet(Direction::LowToHigh, None, 60, at(5))).expect("it is there");
        let Removed { key: closed, session, .. } = worker.close(id).expect("it is there");
        assert_eq!((closed, session.packets, session.bytes, session.last_seen), (key, 1, 60, at(5)));
        assert_eq!((table.find(&key), table.get(id), worker.close(id)), (None, None, None));
    }
    assert!(table.is_empty());
}

#[test]
fn a_handle_does_not_reach_the_next_session_of_its_slot() {
    let (table, mut worker) = table(1);
    let old = inserted(open(&mut worker, &key(UDP, 0), at(0)));
    worker.close(old).expect("it is there");
    let new = inserted(open(&mut worker, &key(UDP, 2), at(0)));
    assert_eq!(old.slot, new.slot);
    assert_eq!(table.update(old, |_| ()), None);
    assert!(worker.close(old).is_none());
    assert!(table.get(new).is_some());
}

#[test]
fn every_state_is_forgotten_after_its_timeout_and_not_before() {
    type Make = fn(&mut Session);
    let cases: [(u8, Make, Duration); 10] = [
        (TCP, |_| (), TIMEOUTS.tcp_syn),
        (TCP, |session| handshake(session, at(0)), TIMEOUTS.tcp_established),
        (
            TCP,
            |session| {
                handshake(session, at(0));
                session.record_packet(Direction::HighToLow, Some(&segment(RST, 501, 0)), 40, at(0));
            },
            TIMEOUTS.tcp_closing,
        ),
        (
            TCP,
            |session| {
                handshake(session, at(0));
                session.record_packet(Direction::HighToLow, Some(&segment(FIN | ACK, 501, 101)), 40, at(0));
            },
            TIMEOUTS.tcp_established,
        ),
        (UDP, |_| (), TIMEOUTS.udp_new),
        (UDP, |session| session.record_packet(Direction::HighToLow, None, 40, at(0)), TIMEOUTS.udp),
        (1, |_| (), TIMEOUTS.icmp),
        (58, |session| session.record_packet(Direction::HighToLow, None, 40, at(0)), TIMEOUTS.icmp),
        (50, |_| (), TIMEOUTS.other),
        (132, |session| session.record_packet(Direction::HighToLow, None, 40, at(0)), TIMEOUTS.other),
    ];
    for (protocol, make, timeout) in cases {
        let (table, mut worker) = table(1);
        let key = key(protocol, 0);
        let id = inserted(open(&mut worker, &key, at(0)));
        table.update(id, make).expect("it is there");
        let due = at(0) + timeout;
        for now in (0..=timeout.as_millis() as u64 + 100).step_by(50).map(at) {
            let ended = expire(&mut worker, now);
            assert_eq!(ended.is_empty(), now < due, "protocol {protocol}, due {due:?}, now {now:?}");
            if !ended.is_empty() {
                break;
            }
        }
        assert!(table.is_empty(), "protocol {protocol}");
    }
}

#[test]
fn a_connection_that_closes_leaves_in_time_though_its_wheel_entry_was_made_for_a_long_life() {
    let (table, mut worker) = table(1);
    let id = inserted(open(&mut worker, &key(TCP, 0), at(0)));
    table.update(id, |session| handshake(session, at(0))).expect("it is there");
    for now in (0..20_000).step_by(100) {
        assert!(expire(&mut worker, at(now)).is_empty());
    }
    table
        .update(id, |session| session.record_packet(Direction::LowToHigh, Some(&segment(RST, 101, 0)), 40, at(20_000)));
    assert!(expire(&mut worker, at(21_999)).is_empty());
    assert_eq!(expire(&mut worker, at(22_100)).len(), 1);
}

#[test]
fn a_worker_that_slept_for_an_hour_forgets_everything_that_is_due() {
    let (table, mut worker) = table(100);
    let hour = 3_600_000;
    for number in 0..50 {
        open(&mut worker, &key(UDP, number), at(u64::from(number) * 130));
    }
    let fresh = inserted(open(&mut worker, &key(UDP, 99), at(hour)));
    assert_eq!(expire(&mut worker, at(hour)).len(), 50);
    assert!(table.get(fresh).is_some());
}

#[test]
fn expiry_does_no_more_than_its_budget() {
    let (table, mut worker) = table(100);
    for number in 0..100 {
        open(&mut worker, &key(UDP, number), at(0));
    }
    assert_eq!(worker.expire(at(10_000), 7, |_, _| ()), 7);
    assert_eq!(table.len(), 93);
    assert_eq!(worker.expire(at(10_000), 1000, |_, _| ()), 93);
    assert!(table.is_empty());
}

#[test]
fn a_flood_evicts_the_oldest_half_open_sessions_and_no_established_one() {
    let (table, mut worker) = table(100);
    let established: Vec<_> = (0..90)
        .map(|number| {
            let id = inserted(open(&mut worker, &key(TCP, number), at(0)));
            table.update(id, |session| handshake(session, at(0))).expect("it is there");
            id
        })
        .collect();
    for number in 1000..1010 {
        inserted(open(&mut worker, &key(TCP, number), at(1)));
    }
    assert!(expire(&mut worker, at(2100)).is_empty());

    for number in 2000..3000 {
        let (OpenResult::Inserted(_), evicted) = open_evicting(&mut worker, &key(TCP, number), at(2100)) else {
            panic!("the flood finds room by eviction")
        };
        let oldest = if number < 2010 { number - 1000 } else { number - 10 };
        assert_eq!(evicted.map(|evicted| evicted.key), Some(key(TCP, oldest)));
    }
    assert!(established.iter().all(|&id| table.get(id).is_some()));
    assert_eq!(table.len(), 100);
}

#[test]
fn a_table_full_of_established_sessions_takes_no_new_one() {
    let (table, mut worker) = table(40);
    for number in 0..40 {
        let id = inserted(open(&mut worker, &key(TCP, number), at(0)));
        table.update(id, |session| handshake(session, at(0))).expect("it is there");
    }
    assert_eq!(open(&mut worker, &key(TCP, 100), at(0)), OpenResult::Full);

    let new = key(TCP, 102);
    let session = Session::new(&new, Direction::LowToHigh, at(0));
    assert_eq!(
        worker.open(&new, None, session, true, |_, _| false, at(0)),
        (OpenResult::Full, None),
        "nothing is harmless to forget"
    );
    let victim = key(TCP, 7);
    let opened = worker.open(&new, None, session, true, |key, _| *key == victim, at(0));
    assert!(matches!(opened, (OpenResult::Inserted(_), Some(evicted)) if evicted.key == victim));
}

#[test]
fn one_worker_can_use_the_whole_table_and_give_it_back() {
    let (table, mut workers) = SessionTable::new(1000, 4, TIMEOUTS, [1, 2, 3, 4]);
    for round in 0..4 {
        let worker = &mut workers[round];
        let now = at(10_000 * round as u64);
        let opened = (0..2000).filter(|&number| {
            let id = key(TCP, number);
            let opened = open(worker, &id, now);
            if let OpenResult::Inserted(id) = opened {
                table.update(id, |session| handshake(session, now));
            }
            matches!(opened, OpenResult::Inserted(_))
        });
        let opened = opened.count();
        assert!(opened >= 1000 - 3 * 2 * 31, "worker {round} got {opened} slots");
        let ids: Vec<_> = (0..2000).filter_map(|number| table.find(&key(TCP, number))).collect();
        for id in ids {
            workers[(round + 1) % 4].close(id).expect("any worker ends any session");
        }
        assert!(table.is_empty());
        workers[round].expire(now, 1, |_, _| ());
    }
}

#[test]
fn a_sweep_sees_every_session_once_in_bounded_steps() {
    let (table, mut workers) = SessionTable::new(1000, 3, TIMEOUTS, [1, 2, 3, 4]);
    for number in 0..600 {
        inserted(open(&mut workers[number as usize % 3], &key(TCP, number), at(0)));
    }
    let mut seen = BTreeMap::new();
    let mut ended = 0;
    for worker in &mut workers {
        let (mut cursor, mut done) = (0, false);
        while !done {
            let before = cursor;
            done = worker.sweep(
                &mut cursor,
                64,
                |key, session, _| {
                    *seen.entry(format!("{key:?}")).or_insert(0) += 1;
                    session.bytes = 1;
                    if key.low().port % 2 == 1 { Sweep::Keep } else { Sweep::Remove }
                },
                |_| ended += 1,
            );
            assert!(cursor - before <= 64);
        }
    }
    assert_eq!((seen.len(), seen.values().max(), ended), (600, Some(&1), 600 - table.len()));
    let mut kept = 0;
    table.for_each(|key, session, _| {
        assert_eq!((key.low().port % 2, session.bytes), (1, 1));
        kept += 1;
        true
    });
    assert_eq!(kept, table.len());
}

#[test]
fn for_each_stops_when_told() {
    let (table, mut worker) = table(10);
    for number in 0..10 {
        open(&mut worker, &key(TCP, number), at(0));
    }
    let mut seen = 0;
    table.for_each(|_, _, _| {
        seen += 1;
        seen < 3
    });
    assert_eq!(seen, 3);
}

#[test]
fn a_translated_ipv4_session_takes_at_most_192_bytes() {
    const { assert!(SessionTable::IPV4_SESSION_BYTES <= 192) };
    const { assert!(10_000_000 * SessionTable::IPV4_SESSION_BYTES <= 2 << 30, "ten million sessions fit 2 GiB") };
}

/// One step of a script that runs against the table and against a plain map.
#[derive(Debug, Clone)]
enum Step {
    Open(u32),
    Packet { flow: u32, reply: bool, flags: u8 },
    Close(u32),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop::sample::select(vec![SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, 0, SYN | FIN]);
    prop_oneof![
        3 => (0..12u32).prop_map(Step::Open),
        6 => (0..12u32, any::<bool>(), flags).prop_map(|(flow, reply, flags)| Step::Packet { flow, reply, flags }),
        1 => (0..12u32).prop_map(Step::Close),
        3 => (1..4000u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_table_does_what_a_plain_map_would(steps in prop::collection::vec(step(), 1..120), tcp: bool, small: bool) {
        let capacity = if small { 5 } else { 12 };
        let (table, mut worker) = table(capacity);
        let protocol = if tcp { TCP } else { UDP };
        let mut model: BTreeMap<u32, Session> = BTreeMap::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Open(flow) => {
                    let session = Session::new(&key(protocol, flow), Direction::LowToHigh, at(now));
                    let has_room = model.len() < capacity || model.values().any(Session::is_half_open);
                    let (opened, evicted) = open_evicting(&mut worker, &key(protocol, flow), at(now));
                    match opened {
                        OpenResult::Existing(_) => prop_assert!(model.contains_key(&flow)),
                        OpenResult::Full => prop_assert!(!has_room && !model.contains_key(&flow)),
                        OpenResult::Conflict => prop_assert!(false, "no flow is translated"),
                        OpenResult::OverShare => prop_assert!(false, "each flow is another source's"),
                        OpenResult::Inserted(_) => {
                            prop_assert!(has_room && !model.contains_key(&flow));
                            prop_assert_eq!(evicted.is_some(), model.len() == capacity);
                            if let Some(Removed { key: evicted, .. }) = evicted {
                                let (&flow, victim) = model
                                    .iter()
                                    .find(|(flow, _)| key(protocol, **flow) == evicted)
                                    .expect("only what was there is evicted");
                                prop_assert!(victim.is_half_open());
                                model.remove(&flow);
                            }
                            model.insert(flow, session);
                        }
                    }
                }
                Step::Packet { flow, reply, flags } => {
                    let direction = if reply { Direction::HighToLow } else { Direction::LowToHigh };
                    let segment = tcp.then(|| segment(flags, 1, 1));
                    let observe = |session: &mut Session| session.record_packet(direction, segment.as_ref(), 60, at(now));
                    let found = table.find(&key(protocol, flow));
                    prop_assert_eq!(found.is_some(), model.contains_key(&flow));
                    if let (Some(id), Some(session)) = (found, model.get_mut(&flow)) {
                        prop_assert!(table.update(id, observe).is_some());
                        observe(session);
                    }
                }
                Step::Close(flow) => {
                    let closed = table.find(&key(protocol, flow)).and_then(|id| worker.close(id));
                    prop_assert_eq!(closed.is_some(), model.remove(&flow).is_some());
                }
                Step::Wait(millis) => {
                    // Time advances to a whole tick, at which expiry is exact.
                    now = (now + millis).next_multiple_of(100);
                    let ended = expire(&mut worker, at(now)).len();
                    let before = model.len();
                    model.retain(|_, session| session.expires(&TIMEOUTS) > at(now));
                    prop_assert_eq!(ended, before - model.len());
                }
            }
            prop_assert_eq!(table.len(), model.len());
        }
        for (flow, expected) in model {
            let found = table.find(&key(protocol, flow)).and_then(|id| table.get(id)).expect("the model has it");
            prop_assert_eq!((found.state, found.packets, found.last_seen), (expected.state, expected.packets, expected.last_seen));
        }
    }
}

#[test]
fn workers_that_share_flows_lose_and_confuse_none() {
    const FLOWS: u32 = 64;
    let (table, workers) = SessionTable::new(48, 4, TIMEOUTS, [1, 2, 3, 4]);
    std::thread::scope(|scope| {
        for (number, mut worker) in workers.into_iter().enumerate() {
            let table = Arc::clone(&table);
            scope.spawn(move || {
                let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1);
                for round in 0..20_000_u64 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let flow = (random >> 33) as u32 % FLOWS;
                    let now = at(round);
                    let key = key(UDP, flow);
                    match open(&mut worker, &key, now) {
                        OpenResult::Inserted(id) | OpenResult::Existing(id) => {
                            // A session stores its flow's number in `next_to_low`, to prove that no search ever finds
                            // another flow's session.
                            table.update(id, |session| {
                                assert!(session.next_to_low == 0 || session.next_to_low == flow + 1);
                                session.next_to_low = flow + 1;
                                session.record_packet(Direction::LowToHigh, None, 60, now);
                            });
                            if random >> 60 == 0 {
                                worker.close(id);
                            }
                        }
                        OpenResult::Full | OpenResult::Conflict | OpenResult::OverShare => {}
                    }
                    if round % 64 == 0 {
                        worker.expire(now, 64, |_, _| ());
                        let mut cursor = 0;
                        let end_some = |_: &CanonicalKey, session: &mut Session, _: Option<&Placement>| {
                            if session.packets > 50 { Sweep::Remove } else { Sweep::Keep }
                        };
                        worker.sweep(&mut cursor, 16, end_some, |_| ());
                    }
                }
            });
        }
    });
    let mut live = 0;
    table.for_each(|key, session, _| {
        assert_eq!(table.find(key).and_then(|id| table.get(id)), Some(*session));
        live += 1;
        true
    });
    assert_eq!(live, table.len());
    let found = (0..FLOWS).filter(|&flow| table.find(&key(UDP, flow)).is_some()).count();
    assert_eq!(found, live, "every live session is found, and nothing else");
}

#[test]
fn the_state_is_shown_as_opened() {
    assert_eq!(
        Session::new(&key(TCP, 0), Direction::LowToHigh, at(0)).state,
        ConversationState::Tcp(TcpState::Opening)
    );
    assert_eq!(Session::new(&key(UDP, 0), Direction::LowToHigh, at(0)).state, ConversationState::OneWay);
}
