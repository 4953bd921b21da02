use std::sync::Arc;

use super::*;
use crate::flow::{Endpoint, FlowKey};
use crate::id::{ServerId, ServiceId};
use crate::session::{ConversationState, SessionTable, TcpState, Timeouts};
use crate::time::Duration;

const ESTABLISHED: ConversationState = ConversationState::Tcp(TcpState::Established);
const CLOSING: ConversationState = ConversationState::Tcp(TcpState::Closing);

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1000)
}

fn table(capacity: usize) -> (Arc<SessionTable>, SessionWorker, SessionWorker) {
    let (table, mut workers, copies) = SessionTable::with_copies(capacity, 1, Timeouts::default(), [1, 2, 3, 4]);
    (table, workers.remove(0), copies)
}

fn flow(client: u16, to: [u8; 4], port: u16) -> FlowKey {
    FlowKey {
        protocol: 6,
        source: Endpoint { address: [198, 51, 100, 7].into(), port: client },
        destination: Endpoint { address: to.into(), port },
    }
}

/// The flow of a client to the virtual address.
fn outside(client: u16) -> FlowKey {
    flow(client, [203, 0, 113, 80], 80)
}

/// The same flow at a server.
fn at_server(client: u16, server: u16) -> Placement {
    let inside = flow(client, [10, 10, 20, server as u8], 8080);
    Placement { service: ServiceId(0), server: ServerId(server), server_failures: 0, inside: Some(inside) }
}

fn session(flow: &FlowKey, state: ConversationState, seen: Instant) -> Session {
    let (key, direction) = flow.canonical();
    let mut session = Session::new(&key, direction, seen);
    session.resume(state, 0);
    session
}

/// Gives a copy and returns what ended for it.
fn put(
    copies: &mut SessionWorker,
    flow: FlowKey,
    bound: Option<Placement>,
    session: Session,
    precedence: Precedence,
) -> (CopyOutcome, Vec<FlowKey>) {
    let mut ended = Vec::new();
    let is_ended = |removed: Removed| ended.push(removed.key.in_direction(removed.session.original_direction));
    let outcome = copies.put_copy(&flow.canonical().0, bound, session, precedence, at(100), is_ended);
    (outcome, ended)
}

fn copy(copies: &mut SessionWorker, client: u16, server: u16, state: ConversationState, seen: u64) -> CopyOutcome {
    let session = session(&outside(client), state, at(seen));
    put(copies, outside(client), Some(at_server(client, server)), session, Precedence::Copy).0
}

/// The session that a copy renewed, and its state before.
fn renewed(outcome: CopyOutcome) -> (SessionId, ConversationState) {
    match outcome {
        CopyOutcome::Renewed { id, before } => (id, before.state),
        other => panic!("{other:?}"),
    }
}

fn find(table: &SessionTable, flow: &FlowKey) -> Option<SessionId> {
    let (key, direction) = flow.canonical();
    table.find_by_direction(&key, direction)
}

#[test]
fn a_copy_is_found_on_both_legs_and_expires_with_its_owner() {
    let (table, mut worker, mut copies) = table(8);
    let CopyOutcome::Inserted(id) = copy(&mut copies, 1000, 11, ESTABLISHED, 90) else { panic!("the table is empty") };

    assert_eq!(find(&table, &outside(1000)), Some(id));
    assert_eq!(find(&table, &at_server(1000, 11).inside.unwrap().reversed()), Some(id));
    let timeout = Timeouts::default().tcp_established;
    let expired = at(90) + timeout;
    let mut by_worker = 0;
    worker.expire(expired, 100, |_, _| by_worker += 1);
    assert_eq!((by_worker, table.len()), (0, 1));
    let mut time = at(100);
    while time < expired + Duration::from_secs(1) {
        copies.expire(time, 100, |_, _| {});
        assert_eq!(table.len(), usize::from(time < expired), "at {time:?}");
        time += Duration::from_secs(60);
    }
    copies.expire(expired + Duration::from_secs(120), 100, |_, _| {});
    assert!(table.is_empty());
}

#[test]
fn what_is_told_again_renews_the_session_and_its_last_word_counts() {
    let (table, _, mut copies) = table(8);
    let CopyOutcome::Inserted(id) = copy(&mut copies, 1000, 11, ESTABLISHED, 90) else { panic!("the table is empty") };

    assert_eq!(renewed(copy(&mut copies, 1000, 11, CLOSING, 89)), (id, ESTABLISHED));
    assert_eq!(table.get(id).unwrap().state, CLOSING);
    assert_eq!(renewed(copy(&mut copies, 1000, 11, ESTABLISHED, 95)), (id, CLOSING));
    let session = table.get(id).unwrap();
    assert_eq!((session.state, session.last_seen, session.worker()), (ESTABLISHED, at(95), 1));
}

#[test]
fn a_flow_that_moved_to_another_server_is_another_session() {
    let (table, _, mut copies) = table(8);
    copy(&mut copies, 1000, 11, ESTABLISHED, 90);
    let moved = session(&outside(1000), ESTABLISHED, at(91));

    let (outcome, ended) = put(&mut copies, outside(1000), Some(at_server(1000, 12)), moved, Precedence::Copy);

    assert!(matches!(outcome, CopyOutcome::Inserted(_)));
    assert_eq!((ended, table.len()), (vec![outside(1000)], 1));
    assert_eq!(find(&table, &at_server(1000, 11).inside.unwrap().reversed()), None);
    assert!(find(&table, &at_server(1000, 12).inside.unwrap().reversed()).is_some());
}

#[test]
fn a_session_in_the_way_of_a_copy_ends_where_nothing_is_forwarded() {
    let (table, mut worker, mut copies) = table(8);
    // A client of a server itself has the same inside leg.
    let direct = at_server(1000, 11).inside.unwrap();
    let (key, _) = direct.canonical();
    worker.open(&key, None, session(&direct, ESTABLISHED, at(99)), true, |_, _| false, at(99));
    let told = || session(&outside(1000), ESTABLISHED, at(90));

    let later = put(&mut copies, outside(1000), Some(at_server(1000, 11)), told(), Precedence::SeenLater);
    assert_eq!(later, (CopyOutcome::Conflict, vec![]));
    let (outcome, ended) = put(&mut copies, outside(1000), Some(at_server(1000, 11)), told(), Precedence::Copy);

    assert!(matches!(outcome, CopyOutcome::Inserted(_)));
    assert_eq!((ended, table.len()), (vec![direct], 1));
}

#[test]
fn a_router_keeps_what_it_saw_later() {
    let (table, mut worker, mut copies) = table(8);
    let (key, _) = outside(1000).canonical();
    worker.open(&key, None, session(&outside(1000), ESTABLISHED, at(99)), true, |_, _| false, at(99));
    let id = find(&table, &outside(1000)).unwrap();
    let told = |seen| session(&outside(1000), CLOSING, at(seen));

    assert_eq!(
        put(&mut copies, outside(1000), None, told(98), Precedence::SeenLater),
        (CopyOutcome::Older(id), vec![])
    );
    let elsewhere = put(&mut copies, outside(1000), Some(at_server(1000, 11)), told(98), Precedence::SeenLater);
    assert_eq!(elsewhere, (CopyOutcome::Older(id), vec![]));
    let (outcome, ended) = put(&mut copies, outside(1000), None, told(101), Precedence::SeenLater);
    assert_eq!((renewed(outcome), ended), ((id, ESTABLISHED), vec![]));
    assert_eq!(table.get(id).unwrap().worker(), 0, "who opened it expires it");
}

#[test]
fn a_full_table_takes_a_copy_in_place_of_what_may_be_evicted_and_else_refuses_it() {
    let (table, _, mut copies) = table(2);
    copy(&mut copies, 1000, 11, ESTABLISHED, 90);
    copy(&mut copies, 1001, 11, CLOSING, 90);

    let told = session(&outside(1002), ESTABLISHED, at(90));
    let (outcome, ended) = put(&mut copies, outside(1002), Some(at_server(1002, 11)), told, Precedence::Copy);
    assert!(matches!(outcome, CopyOutcome::Inserted(_)));
    assert_eq!(ended, [outside(1001)]);
    assert_eq!(copy(&mut copies, 1003, 11, ESTABLISHED, 90), CopyOutcome::Full);
    assert_eq!(table.len(), 2);
}

#[test]
fn packet_workers_sweep_the_whole_table_and_the_owner_of_copies_none_of_it() {
    let (table, mut workers, mut copies) = SessionTable::with_copies(64, 2, Timeouts::default(), [1, 2, 3, 4]);
    (0..64)
        .for_each(|client| assert!(matches!(copy(&mut copies, client, 11, ESTABLISHED, 90), CopyOutcome::Inserted(_))));

    let mut visited = 0;
    for worker in &mut workers {
        let is_done = worker.sweep(
            &mut 0,
            1000,
            |_, _, _| {
                visited += 1;
                crate::session::Sweep::Remove
            },
            |_| {},
        );
        assert!(is_done);
    }

    assert_eq!((visited, table.len()), (64, 0));
    // The slots are the owner's again.
    (0..64)
        .for_each(|client| assert!(matches!(copy(&mut copies, client, 11, ESTABLISHED, 90), CopyOutcome::Inserted(_))));
}

#[test]
fn sessions_are_ended_by_slot() {
    let (table, _, mut copies) = table(8);
    let ids: Vec<_> = (0..4).map(|client| copy(&mut copies, client, 11, ESTABLISHED, 90)).collect();
    let CopyOutcome::Inserted(kept) = ids[1] else { panic!("there is room") };

    let mut ended = 0;
    assert!(!copies.end_where(0..2, |id, _, _, _| id != kept, |_| ended += 1));
    assert_eq!((ended, table.len()), (1, 3));
    assert!(copies.end_where(2..1000, |id, _, _, _| id != kept, |_| ended += 1));
    assert_eq!((ended, table.len()), (3, 1));
}

/// The numbers of a TCP connection are old when a copy is used.
#[test]
fn a_connection_goes_on_from_a_copy_whatever_its_numbers_are() {
    use crate::wire::frame::TcpSegment;
    use crate::wire::frame::tcp_flags::{ACK, FIN};
    let flow = outside(1000);
    let (_, toward_server) = flow.canonical();
    let mut session = session(&flow, ESTABLISHED, at(90));
    assert!(!session.knows_next(toward_server));
    let mut packet = |direction, flags, sequence, acknowledgement| {
        let length = u32::from(flags & FIN != 0) + 10;
        let segment = TcpSegment { flags, sequence, acknowledgement, length };
        session.record_packet(direction, Some(&segment), 50, at(91));
        (session.state, session.knows_next(direction))
    };

    assert_eq!(packet(toward_server, ACK, 4_000_000_000, 70), (ESTABLISHED, true));
    assert_eq!(packet(toward_server.reversed(), ACK, 70, 4_000_000_010), (ESTABLISHED, true));
    assert_eq!(packet(toward_server, FIN | ACK, 4_000_000_010, 80), (ESTABLISHED, true));
    assert_eq!(packet(toward_server.reversed(), FIN | ACK, 80, 4_000_000_021), (CLOSING, true));
    assert!(session.was_closed());
}

#[test]
fn a_half_closed_connection_stays_one() {
    let flow = outside(1000);
    let (key, toward_server) = flow.canonical();
    let mut original = Session::new(&key, toward_server, at(1));
    {
        use crate::wire::frame::TcpSegment;
        use crate::wire::frame::tcp_flags::{ACK, FIN, SYN};
        let mut packet = |direction, flags, sequence, acknowledgement, length| {
            let segment = TcpSegment { flags, sequence, acknowledgement, length };
            original.record_packet(direction, Some(&segment), 40, at(1));
        };
        packet(toward_server, SYN, 100, 0, 1);
        packet(toward_server.reversed(), SYN | ACK, 500, 101, 1);
        packet(toward_server, ACK, 101, 501, 0);
        packet(toward_server, FIN | ACK, 101, 501, 1);
        let mut copied = session(&flow, original.state, at(1));
        copied.resume(original.state, original.told_flags());
        let last = TcpSegment { flags: FIN | ACK, sequence: 501, acknowledgement: 102, length: 1 };
        copied.record_packet(toward_server.reversed(), Some(&last), 40, at(2));
        assert_eq!((original.state, copied.state), (ESTABLISHED, CLOSING));
        assert!(copied.was_closed());
    }
}
