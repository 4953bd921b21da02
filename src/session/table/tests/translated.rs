//! Flows that have different 5-tuples on their two legs.

use super::*;

fn bound(inside: FlowKey) -> Placement {
    Placement {
        service: crate::id::ServiceId(0),
        server: crate::id::ServerId(0),
        server_failures: 0,
        inside: Some(inside),
    }
}

fn open_bound(worker: &mut SessionWorker, outside: &FlowKey, inside: FlowKey) -> OpenResult {
    let (key, direction) = outside.canonical();
    worker.open(&key, Some(bound(inside)), Session::new(&key, direction, at(0)), false, |_, _| false, at(0)).0
}

fn to(client: u8, port: u16, server: [u8; 4], server_port: u16) -> FlowKey {
    FlowKey {
        protocol: TCP,
        source: Endpoint { address: [198, 51, 100, client].into(), port },
        destination: Endpoint { address: server.into(), port: server_port },
    }
}

#[test]
fn a_translated_flow_is_found_by_both_its_legs_until_it_ends() {
    let (table, mut workers) = SessionTable::new(16, 1, Timeouts::default(), [1, 2, 3, 4]);
    let (outside, inside) = (to(7, 40_000, [203, 0, 113, 80], 80), to(7, 40_000, [10, 10, 20, 11], 8080));

    let OpenResult::Inserted(id) = open_bound(&mut workers[0], &outside, inside) else { panic!("there is room") };

    assert_eq!(table.find(&outside.canonical().0), Some(id));
    assert_eq!(table.find(&inside.reversed().canonical().0), Some(id));
    assert_eq!(workers[0].close(id).and_then(|removed| removed.placement), Some(bound(inside)));
    assert_eq!(table.find(&outside.canonical().0), None);
    assert_eq!(table.find(&inside.canonical().0), None);
}

#[test]
fn two_flows_that_would_be_one_to_the_server_clash_and_the_first_lives_on() {
    let (table, mut workers) = SessionTable::new(16, 1, Timeouts::default(), [1, 2, 3, 4]);
    let inside = to(7, 40_000, [10, 10, 20, 11], 8080);
    let (first, second) = (to(7, 40_000, [203, 0, 113, 80], 80), to(7, 40_000, [203, 0, 113, 81], 80));
    let OpenResult::Inserted(id) = open_bound(&mut workers[0], &first, inside) else { panic!("there is room") };

    assert_eq!(open_bound(&mut workers[0], &second, inside), OpenResult::Conflict);

    assert_eq!(table.find(&inside.canonical().0), Some(id));
    assert_eq!(table.find(&second.canonical().0), None, "the refused flow left nothing behind");
    assert_eq!(table.len(), 1);
}

fn open_plain(worker: &mut SessionWorker, flow: &FlowKey) -> OpenResult {
    let (key, direction) = flow.canonical();
    worker.open(&key, None, Session::new(&key, direction, at(0)), false, |_, _| false, at(0)).0
}

fn listener(table: &SessionTable, packet: &FlowKey) -> Option<SessionId> {
    let (key, direction) = packet.canonical();
    table.find_by_direction(&key, direction)
}

/// In whatever order sessions are opened: packets that the engine sends on a leg belong to another flow if they arrive
/// at the engine, and packets that may arrive belong to exactly one flow.
#[test]
fn of_each_leg_the_packets_of_one_direction_are_heard() {
    let (virtual_leg, server_leg) = (to(7, 40_000, [203, 0, 113, 80], 80), to(7, 40_000, [10, 10, 20, 11], 8080));
    let by_other_port = to(7, 50_000, [10, 10, 20, 11], 8080);
    for service_first in [true, false] {
        let (table, mut workers) = SessionTable::new(16, 1, Timeouts::default(), [1, 2, 3, 4]);
        let worker = &mut workers[0];
        let mut flows = [(virtual_leg, server_leg), (server_leg, by_other_port)];
        if !service_first {
            flows.reverse();
        }
        let ids = flows.map(|(outside, inside)| inserted(open_bound(worker, &outside, inside)));
        for ((outside, inside), id) in flows.into_iter().zip(ids) {
            assert_eq!(listener(&table, &outside), Some(id));
            assert_eq!(listener(&table, &inside.reversed()), Some(id));
            assert_eq!(open_bound(worker, &outside, to(7, 1, [10, 10, 20, 11], 8080)), OpenResult::Existing(id));
            assert_eq!(open_bound(worker, &to(8, 1, [203, 0, 113, 80], 80), inside), OpenResult::Conflict);
        }
        for (id, (outside, inside)) in ids.into_iter().zip(flows) {
            worker.close(id).expect("it is there");
            assert_eq!((listener(&table, &outside), listener(&table, &inside.reversed())), (None, None));
        }
        assert!(table.is_empty());
    }
}

#[test]
fn a_flow_that_is_not_translated_meets_a_translated_one() {
    let (virtual_leg, server_leg) = (to(7, 40_000, [203, 0, 113, 80], 80), to(7, 40_000, [10, 10, 20, 11], 8080));
    let (_, mut workers) = SessionTable::new(16, 1, Timeouts::default(), [1, 2, 3, 4]);
    inserted(open_bound(&mut workers[0], &virtual_leg, server_leg));
    assert_eq!(open_plain(&mut workers[0], &server_leg), OpenResult::Conflict);

    let (_, mut workers) = SessionTable::new(16, 1, Timeouts::default(), [1, 2, 3, 4]);
    let id = inserted(open_plain(&mut workers[0], &server_leg));
    assert_eq!(open_bound(&mut workers[0], &virtual_leg, server_leg), OpenResult::Conflict);
    assert_eq!(open_plain(&mut workers[0], &server_leg.reversed()), OpenResult::Existing(id), "an answer");
}
