//! Claims of another MAC address, by a spoofer or by a station that took the address over.

use super::*;

fn known(key: NeighborKey, mac: MacAddr) -> NeighborAction<u32> {
    NeighborAction::Request { key, known: Some(mac) }
}

/// A firewall that answers.
fn firewall() -> Table {
    let mut table = table(8, 8);
    table.keep_resolved(host(1), true, at(0));
    table.handle_message(host(1), MAC, NeighborMessage::Reply, at(0));
    actions(&mut table);
    table.take_changed();
    table
}

#[test]
fn whoever_claims_the_address_of_a_neighbour_that_answers_gets_nothing() {
    for heard in [NeighborMessage::Announcement, NeighborMessage::Request, NeighborMessage::Reply] {
        let mut table = firewall();
        for second in 1..30 {
            let now = at(1_000 * second);
            run(&mut table, now);
            table.handle_message(host(1), OTHER, heard, now);
            assert_eq!(
                actions(&mut table),
                [known(host(1), MAC)],
                "{heard:?}: the one that has it is asked, and nobody else"
            );
            assert_eq!(table.mac(host(1)), Some(MAC));

            table.handle_message(host(1), MAC, NeighborMessage::Reply, at(1_000 * second + 5));
            assert_eq!(actions(&mut table), [NeighborAction::Stayed { key: host(1), at: MAC, claimed: OTHER }]);
        }
        assert_eq!((table.mac(host(1)), table.take_changed()), (Some(MAC), false));
        assert_eq!(table.counters().claims_refused, 29);
    }
}

#[test]
fn who_took_the_address_over_has_it_within_a_fifth_of_a_second() {
    let mut table = firewall();

    table.handle_message(host(1), OTHER, NeighborMessage::Announcement, at(5_000));

    assert_eq!(actions(&mut table), [known(host(1), MAC)]);
    assert_eq!(
        run(&mut table, at(5_180)),
        [
            (at(5_060), known(host(1), MAC)),
            (at(5_120), known(host(1), MAC)),
            (at(5_180), NeighborAction::Moved { key: host(1), from: MAC, to: OTHER }),
            (at(5_180), known(host(1), OTHER)),
        ]
    );
    assert_eq!((table.mac(host(1)), table.take_changed()), (Some(OTHER), true));
    table.handle_message(host(1), OTHER, NeighborMessage::Reply, at(5_181));
    assert_eq!(run(&mut table, at(20_000)), []);
}

#[test]
fn a_flood_of_claims_makes_few_questions() {
    let mut table = firewall();
    let mut asked = 0;
    for millis in 0..3_000_u64 {
        let now = at(1_000 + millis);
        asked += run(&mut table, now).len();
        table.handle_message(
            host(1),
            MacAddr([2, 0, 0, 1, (millis >> 8) as u8, millis as u8]),
            NeighborMessage::Announcement,
            now,
        );
        // It answers a millisecond later.
        let questions =
            actions(&mut table).into_iter().filter(|action| matches!(action, NeighborAction::Request { .. })).count();
        asked += questions;
        table.handle_message(host(1), MAC, NeighborMessage::Reply, now);
        actions(&mut table);
        assert_eq!(table.mac(host(1)), Some(MAC));
    }
    assert!(asked <= 3_000 / 60 + 1, "{asked}");
}

#[test]
fn a_claim_that_ends_with_the_link_is_forgotten() {
    let mut table = firewall();
    table.handle_message(host(1), OTHER, NeighborMessage::Announcement, at(5_000));
    table.link_down(LINK);
    table.link_up(LINK, at(6_000));
    actions(&mut table);
    table.handle_message(host(1), MAC, NeighborMessage::Reply, at(6_001));
    assert_eq!((actions(&mut table), table.mac(host(1))), (vec![], Some(MAC)));
}

#[test]
fn a_neighbour_that_never_answered_is_where_it_says() {
    let mut table = table(8, 8);
    table.handle_message(host(9), MAC, NeighborMessage::Request, at(0));
    table.handle_message(host(9), OTHER, NeighborMessage::Request, at(1));
    assert_eq!(table.mac(host(9)), Some(OTHER));
}
