mod claims;
mod scans;

use super::*;

const LINK: LinkId = LinkId(0);
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 10]);

const ME: RequestSource = RequestSource::ENGINE;

type Table = NeighborTable<u32>;

fn table(neighbors: usize, pending: usize) -> Table {
    let mut table = Table::new(NeighborLimits { neighbors, pending });
    table.link_up(LINK, Instant::ZERO);
    table
}

fn host(n: u16) -> NeighborKey {
    let [high, low] = n.to_be_bytes();
    (LINK, IpAddr::from([10, 1, high, low]))
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn actions(table: &mut Table) -> Vec<NeighborAction<u32>> {
    std::iter::from_fn(|| table.poll_action()).collect()
}

fn ask(key: NeighborKey) -> NeighborAction<u32> {
    NeighborAction::Request { key, known: None }
}

/// Runs every timer up to `until`.
fn run(table: &mut Table, until: Instant) -> Vec<(Instant, NeighborAction<u32>)> {
    let mut seen = Vec::new();
    while let Some(due) = table.poll_timeout().filter(|due| *due <= until) {
        table.handle_timeout(due);
        seen.extend(actions(table).into_iter().map(|action| (due, action)));
    }
    seen
}

#[test]
fn a_frame_waits_for_the_answer_and_leaves_with_it() {
    let mut table = table(8, 8);
    table.send_or_queue(host(9), ME, 1, at(0));
    assert_eq!(actions(&mut table), [ask(host(9))]);
    assert_eq!(table.mac(host(9)), None);

    table.handle_message(host(9), MAC, NeighborMessage::Reply, at(3));

    assert_eq!(actions(&mut table), [NeighborAction::Send { mac: MAC, frame: 1 }]);
    assert_eq!((table.mac(host(9)), table.waiting(), table.take_changed()), (Some(MAC), 0, true));
    table.send_or_queue(host(9), ME, 2, at(4));
    assert_eq!(actions(&mut table), [NeighborAction::Send { mac: MAC, frame: 2 }]);
}

#[test]
fn three_requests_a_second_apart_then_the_sender_is_told_and_the_absence_believed_for_a_while() {
    let mut table = table(8, 8);
    table.send_or_queue(host(9), ME, 1, at(0));
    assert_eq!(actions(&mut table), [ask(host(9))]);

    assert_eq!(
        run(&mut table, at(3_500)),
        [(at(1_000), ask(host(9))), (at(2_000), ask(host(9))), (at(3_000), NeighborAction::Unreachable { frame: 1 }),]
    );
    table.send_or_queue(host(9), ME, 2, at(3_600));
    assert_eq!(actions(&mut table), [NeighborAction::Unreachable { frame: 2 }]);
    assert_eq!(run(&mut table, at(10_000)), []);
    assert!(table.is_empty());
    table.send_or_queue(host(9), ME, 3, at(10_000));
    assert_eq!(actions(&mut table), [ask(host(9))]);
}

#[test]
fn a_neighbour_is_asked_by_unicast_before_its_entry_ends_and_never_stops_being_usable() {
    let mut table = table(8, 8);
    table.send_or_queue(host(9), ME, 1, at(0));
    table.handle_message(host(9), MAC, NeighborMessage::Reply, at(0));
    actions(&mut table);
    for round in 1..=3 {
        let due = at(20_000 * round);
        assert_eq!(run(&mut table, due), [(due, NeighborAction::Request { key: host(9), known: Some(MAC) })]);
        assert_eq!(table.mac(host(9)), Some(MAC));
        table.handle_message(host(9), MAC, NeighborMessage::Reply, due);
    }
    assert!(table.take_changed());
    assert!(!table.take_changed(), "a refresh changes nothing");
}

#[test]
fn a_neighbour_that_went_is_asked_by_unicast_then_by_everybody_then_failed() {
    let mut table = table(8, 8);
    table.send_or_queue(host(9), ME, 1, at(0));
    table.handle_message(host(9), MAC, NeighborMessage::Reply, at(0));
    actions(&mut table);
    let known = NeighborAction::Request { key: host(9), known: Some(MAC) };
    assert_eq!(
        run(&mut table, at(25_999)),
        [
            (at(20_000), known.clone()),
            (at(21_000), known.clone()),
            (at(22_000), known),
            (at(23_000), ask(host(9))),
            (at(24_000), ask(host(9))),
            (at(25_000), ask(host(9))),
        ]
    );
    assert_eq!(table.mac(host(9)), None);
    run(&mut table, at(60_000));
    assert!(table.is_empty());
}

#[test]
fn a_kept_neighbour_is_asked_for_ever_and_a_pinned_one_keeps_its_address() {
    let mut table = table(8, 8);
    table.keep_resolved(host(1), false, at(0));
    table.keep_resolved(host(2), true, at(0));
    table.handle_message(host(1), MAC, NeighborMessage::Reply, at(0));
    table.handle_message(host(2), OTHER, NeighborMessage::Reply, at(0));
    actions(&mut table);

    let asked = run(&mut table, at(120_000));

    assert!(asked.iter().filter(|(when, action)| *when > at(60_000) && *action == ask(host(1))).count() >= 59);
    assert_eq!((table.mac(host(1)), table.mac(host(2))), (None, Some(OTHER)));
    table.handle_message(host(1), MAC, NeighborMessage::Reply, at(120_001));
    assert_eq!(table.mac(host(1)), Some(MAC));
}

#[test]
fn a_silent_neighbour_that_announces_another_address_is_there_at_once_and_verified() {
    let mut table = table(8, 8);
    table.keep_resolved(host(1), true, at(0));
    table.handle_message(host(1), MAC, NeighborMessage::Reply, at(0));
    run(&mut table, at(26_000));
    table.take_changed();
    assert_eq!((table.mac(host(1)), table.state(host(1))), (Some(MAC), Some(NeighborState::Failed)));

    table.handle_message(host(1), OTHER, NeighborMessage::Announcement, at(26_100));

    assert_eq!((table.mac(host(1)), table.take_changed()), (Some(OTHER), true));
    assert_eq!(actions(&mut table), [NeighborAction::Moved { key: host(1), from: MAC, to: OTHER }]);
    assert_eq!(
        run(&mut table, at(26_100)),
        [(at(26_100), NeighborAction::Request { key: host(1), known: Some(OTHER) })]
    );
}

#[test]
fn announcements_make_no_entry_and_questions_displace_only_their_like() {
    let mut table = table(8, 8);
    table.keep_resolved(host(1), false, at(0));
    for n in 2..7 {
        table.send_or_queue(host(n), ME, 1, at(0));
        table.handle_message(host(n), MAC, NeighborMessage::Reply, at(0));
    }
    for n in 1_000..2_000 {
        table.handle_message(host(n), MAC, NeighborMessage::Announcement, at(1));
        assert_eq!(table.len(), 6);
    }
    for n in 1_000..11_000 {
        table.handle_message(host(n), MAC, NeighborMessage::Request, at(u64::from(n)));
    }
    assert_eq!(table.len(), 8);
    assert!((2..7).all(|n| table.mac(host(n)) == Some(MAC)));
    assert!(table.counters().table_full > 9_000);

    // A neighbour that asked for the engine and answers is known, but is forgotten before those that traffic goes to.
    table.handle_message(host(11_000), MAC, NeighborMessage::Request, at(20_000));
    table.handle_message(host(11_000), MAC, NeighborMessage::Reply, at(20_001));
    assert!((2..7).all(|n| table.mac(host(n)) == Some(MAC)));
    for n in 20..30 {
        table.send_or_queue(host(n), ME, u32::from(n), at(20_002));
        table.handle_message(host(n), MAC, NeighborMessage::Reply, at(20_003));
        assert_eq!(table.mac(host(n)), Some(MAC));
    }
    assert!((25..30).all(|n| table.mac(host(n)) == Some(MAC)), "the least recently wanted went");
    assert!(table.iter().any(|neighbor| neighbor.key == host(1)), "kept");
}

#[test]
fn the_queue_is_bounded_per_neighbour_and_in_all_and_the_oldest_goes_first() {
    let mut table = table(100, 5);
    for frame in 0..5 {
        table.send_or_queue(host(9), ME, frame, at(0));
    }
    assert_eq!((table.waiting(), table.counters().queue_full), (3, 2));
    // The source that waits for the most neighbours loses its oldest frame.
    let other = RequestSource::of(LINK, [198, 51, 100, 7].into());
    for n in 10..20 {
        table.send_or_queue(host(n), other, 100, at(1));
    }
    assert_eq!(table.waiting(), 5);
    actions(&mut table);
    table.handle_message(host(9), MAC, NeighborMessage::Reply, at(1));
    let sent = actions(&mut table);
    assert_eq!(sent, [2, 3, 4].map(|frame| NeighborAction::Send { mac: MAC, frame }));
    assert_eq!(table.waiting(), 2);
}

#[test]
fn the_first_packets_of_a_hundred_flows_to_a_fresh_host_all_get_there() {
    let mut table = table(100, 256);
    for frame in 0..100 {
        table.send_or_queue(host(9), ME, frame, at(0));
    }
    actions(&mut table);

    table.handle_message(host(9), MAC, NeighborMessage::Reply, at(1));

    assert_eq!((actions(&mut table).len(), table.counters().queue_full), (100, 0));
}

#[test]
fn a_link_that_goes_down_gives_up_what_waits_and_asks_again_when_it_is_back() {
    let mut table = table(8, 8);
    table.keep_resolved(host(1), false, at(0));
    table.handle_message(host(1), MAC, NeighborMessage::Reply, at(0));
    table.send_or_queue(host(9), ME, 1, at(0));
    actions(&mut table);

    table.link_down(LINK);
    assert_eq!((table.waiting(), table.len(), table.mac(host(1)), table.poll_timeout()), (0, 1, None, None));
    table.handle_message(host(1), MAC, NeighborMessage::Reply, at(5));
    assert_eq!(table.mac(host(1)), None, "nothing is heard on a link that is down");

    table.link_up(LINK, at(10));
    assert_eq!(actions(&mut table), [ask(host(1))]);
}
