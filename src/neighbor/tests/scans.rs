//! Scans of addresses that no host has, and the neighbours beside them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::eviction::OPEN_SHARE;
use super::*;

fn wide(n: u32) -> NeighborKey {
    (LINK, IpAddr::from((0x0a01_0000 + n).to_be_bytes()))
}

fn source(n: u8) -> RequestSource {
    RequestSource::of(LINK, IpAddr::from([198, 51, n, 7]))
}

/// A scan of `per_ms` addresses per millisecond, during which thirty new neighbours are needed that answer after 20 ms.
fn during_a_scan(per_ms: u32, of_scanner: impl Fn(u32) -> RequestSource, of_others: RequestSource) -> (Table, usize) {
    let mut table = table(1024, 256);
    for n in 0..700 {
        table.send_or_queue(wide(0x8000 + n), source(200), 0, at(0));
        table.handle_message(wide(0x8000 + n), MAC, NeighborMessage::Reply, at(0));
    }
    let mut scanned = 0;
    let mut served = 0;
    for millis in 1..9_000_u64 {
        table.handle_timeout(at(millis));
        for _ in 0..per_ms {
            table.send_or_queue(wide(scanned % 0x8000), of_scanner(scanned), 1, at(millis));
            scanned += 1;
        }
        let number = (millis / 300) as u32;
        match millis % 300 {
            100 => table.send_or_queue(wide(0x9000 + number), of_others, 1_000 + number, at(millis)),
            120 => table.handle_message(wide(0x9000 + number), MAC, NeighborMessage::Reply, at(millis)),
            _ => {}
        }
        served += actions(&mut table)
            .iter()
            .filter(|action| matches!(action, NeighborAction::Send { frame: 1_000.., .. }))
            .count();
    }
    (table, served)
}

#[test]
fn new_neighbours_are_served_during_a_scan_and_those_that_are_known_stay() {
    let scanner = |_| source(1);
    let spoofing = |n: u32| RequestSource::of(LINK, IpAddr::from(n.wrapping_mul(0x9e37_79b9).to_be_bytes()));
    type Scanner<'a> = &'a dyn Fn(u32) -> RequestSource;
    let cases: [(&str, u32, Scanner<'_>, RequestSource); 4] = [
        ("one scanner", 2, &scanner, source(2)),
        ("a fast scanner", 20, &scanner, source(2)),
        ("in the scanner's own subnet", 2, &scanner, source(1)),
        ("from everywhere", 2, &spoofing, source(2)),
    ];
    for (name, per_ms, of_scanner, of_others) in cases {
        let (table, served) = during_a_scan(per_ms, of_scanner, of_others);
        assert_eq!(served, 30, "{name}");
        assert!((0..700).all(|n| table.mac(wide(0x8000 + n)) == Some(MAC)), "{name}: who is known stays");
        assert!(table.len() <= 1024 && table.waiting() <= 256, "{name}");
    }
}

#[test]
fn questions_of_one_source_have_a_budget_and_frames_beyond_it_a_counter() {
    let (table, _) = during_a_scan(20, |_| source(1), source(2));
    let asked = 180_000 - table.counters().limited;
    assert!(
        (17_000..=21_000).contains(&asked),
        "2,000 a second and 2,000 at once, and what is failed for a while: {asked}"
    );
}

#[derive(Debug, Clone)]
enum Step {
    Park(u32, u8),
    Hear(u32, u8, u8),
    Keep(u32),
    Wait(u64),
    Link(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u32..60, 0_u8..5).prop_map(|(n, source)| Step::Park(n, source)),
        6 => (0_u32..60, 0_u8..3, 0_u8..3).prop_map(|(n, mac, how)| Step::Hear(n, mac, how)),
        1 => (0_u32..60).prop_map(Step::Keep),
        4 => (0_u64..4_000).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Link),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Kept neighbours are never forgotten; a neighbour that answers is forgotten only for another one that answers;
    /// all limits hold; and each frame ends exactly once.
    #[test]
    fn the_rules_of_the_table_hold_whatever_happens(steps in proptest::collection::vec(step(), 1..300), neighbors in 4_usize..24) {
        let mut table = Table::new(NeighborLimits { neighbors, pending: 6 });
        table.link_up(LINK, at(0));
        let (mut now, mut parked, mut ended) = (0, 0_u64, 0_u64);
        let mut kept = BTreeSet::new();
        for step in steps {
            let answering = |table: &Table| -> BTreeSet<NeighborKey> {
                let answers = |entry: &Neighbor| entry.answered.is_some() && !matches!(entry.state, NeighborState::Incomplete | NeighborState::Failed);
                table.iter().filter(answers).map(|entry| entry.key).collect()
            };
            let before = answering(&table);
            let mut may_displace = false;
            match step {
                Step::Park(n, who) => {
                    parked += 1;
                    table.send_or_queue(wide(n), source(who), 1, at(now));
                }
                Step::Hear(n, mac, how) => {
                    let heard = [NeighborMessage::Reply, NeighborMessage::Request, NeighborMessage::Announcement][usize::from(how)];
                    may_displace = heard == NeighborMessage::Reply;
                    table.handle_message(wide(n), MacAddr([2, 0, 0, 0, 1, mac]), heard, at(now));
                }
                Step::Keep(n) if kept.len() < 4 => {
                    may_displace = true;
                    kept.insert(wide(n));
                    table.keep_resolved(wide(n), n % 2 == 0, at(now));
                    let wanted = kept.iter().map(|key| (*key, false)).collect();
                    table.set_kept(&wanted, at(now));
                }
                Step::Keep(_) => {}
                Step::Wait(millis) => {
                    now += millis;
                    // Neighbours become silent as time passes, which is not forgetting them.
                    may_displace = true;
                    table.handle_timeout(at(now));
                }
                Step::Link(up) => {
                    may_displace = true;
                    if up { table.link_up(LINK, at(now)) } else { table.link_down(LINK) }
                }
            }
            let ends = |action: &NeighborAction<u32>| matches!(action, NeighborAction::Send { .. } | NeighborAction::Unreachable { .. });
            ended += actions(&mut table).iter().filter(|action| ends(action)).count() as u64;
            if !may_displace {
                let after = answering(&table);
                prop_assert!(before.is_subset(&after), "{:?} went", before.difference(&after));
            }
            prop_assert!(kept.iter().all(|key| table.state(*key).is_some()), "kept");
            let open_max = (neighbors / OPEN_SHARE).max(1);
            prop_assert!(table.len() <= neighbors.max(kept.len() + open_max + 1), "{} of {}", table.len(), neighbors);
            prop_assert!(table.waiting() <= 6);
            let counters = table.counters();
            // Frames that are given up because their link went down are counted as unanswered, and cause no action.
            let lost = counters.queue_full + counters.limited;
            prop_assert!(ended + lost + table.waiting() as u64 <= parked + counters.unanswered);
            prop_assert!(ended + lost + counters.unanswered + table.waiting() as u64 >= parked);
            prop_assert!(table.timers.iter().all(|(due, key)| table.entries.get(key).is_some_and(|entry| entry.timer == Some(*due))));
            prop_assert_eq!(table.entries.values().map(|entry| entry.waiting.len()).sum::<usize>(), table.waiting());
            prop_assert_eq!(table.eviction.open_len() + table.eviction.known_len() + kept.len(), table.len());
        }
    }
}
