use proptest::prelude::*;

use super::*;

const LIMITS: FragmentLimits = FragmentLimits { datagrams: 4, held: 8, timeout: Duration::from_secs(5) };
const T0: Instant = Instant::from_millis(1000);

fn key(id: u32) -> FragmentKey {
    FragmentKey { link: 1, source: [10, 0, 0, 1].into(), destination: [10, 0, 0, 2].into(), protocol: 17, id }
}

fn tuple(port: u16) -> Tuple {
    Tuple {
        protocol: 17,
        source: [10, 0, 0, 1].into(),
        source_port: port,
        destination: [10, 0, 0, 2].into(),
        destination_port: 53,
    }
}

fn range(offset: u16, length: u16, last: bool) -> FragmentRange {
    FragmentRange { offset, length, last }
}

fn held(context: u32) -> HeldFragment<u32> {
    HeldFragment { bytes: vec![0; 100], vlan: None, offload: Offload::NONE, context }
}

fn after(millis: u64) -> Instant {
    T0 + Duration::from_millis(millis)
}

struct Lab {
    table: FragmentTable<u32>,
}

impl Lab {
    fn new() -> Self {
        Self { table: FragmentTable::new(LIMITS) }
    }

    fn first(&mut self, id: u32, length: u16, now: Instant) -> FirstFragment<u32> {
        self.table.handle_first(&key(id), &tuple(1000), range(0, length, false), now)
    }

    fn later(&mut self, id: u32, range: FragmentRange, now: Instant) -> LaterFragment {
        self.table.handle_later(&key(id), range, || held(u32::from(range.offset)), now)
    }
}

fn contexts(first: FirstFragment<u32>) -> Vec<u32> {
    match first {
        FirstFragment::Recorded(held) => held.into_iter().map(|held| held.context).collect(),
        FirstFragment::Overlap => panic!("the first fragment was refused"),
    }
}

#[test]
fn a_later_fragment_takes_the_ports_of_the_first() {
    let mut lab = Lab::new();
    assert_eq!(lab.first(7, 1480, T0), FirstFragment::Recorded(vec![]));
    assert_eq!(lab.later(7, range(1480, 1480, false), T0), LaterFragment::Known(tuple(1000)));
    assert_eq!(lab.later(7, range(2960, 48, true), T0), LaterFragment::Known(tuple(1000)));
    assert!(lab.table.is_empty(), "a complete datagram gives its room away");
}

#[test]
fn fragments_that_come_before_the_first_are_released_by_it_in_order_of_arrival() {
    let mut lab = Lab::new();
    assert_eq!(lab.later(7, range(2960, 48, true), T0), LaterFragment::Held);
    assert_eq!(lab.later(7, range(1480, 1480, false), T0), LaterFragment::Held);
    assert_eq!(lab.table.held(), 2);

    assert_eq!(contexts(lab.first(7, 1480, after(1999))), [2960, 1480]);
    assert_eq!((lab.table.held(), lab.table.len(), lab.table.take_abandoned()), (0, 0, 0));
}

#[test]
fn a_first_that_never_comes_is_not_waited_for_longer_than_two_seconds() {
    let mut lab = Lab::new();
    lab.later(7, range(1480, 1480, true), T0);
    assert_eq!(lab.table.poll_timeout(), Some(after(2000)));

    assert_eq!(lab.table.expire(after(1999), 100), 0);
    assert_eq!(lab.table.expire(after(2000), 100), 1);

    assert_eq!((lab.table.held(), lab.table.take_abandoned(), lab.table.take_abandoned()), (0, 1, 0));
    assert_eq!(contexts(lab.first(7, 1480, after(2000))), [] as [u32; 0]);
}

#[test]
fn waiting_is_counted_from_the_first_of_those_that_wait() {
    let mut lab = Lab::new();
    lab.later(7, range(1480, 1480, false), T0);
    lab.later(7, range(2960, 8, true), after(1900));
    assert_eq!(contexts(lab.first(7, 1480, after(2000))), [] as [u32; 0]);
    assert_eq!(lab.table.take_abandoned(), 2);
}

#[test]
fn an_idle_datagram_is_forgotten_and_each_fragment_restarts_the_clock() {
    let mut lab = Lab::new();
    lab.first(7, 1480, T0);
    assert_eq!(lab.later(7, range(1480, 8, false), after(4999)), LaterFragment::Known(tuple(1000)));
    assert_eq!(lab.later(7, range(1488, 8, false), after(9998)), LaterFragment::Known(tuple(1000)));
    assert_eq!(lab.later(7, range(1496, 8, false), after(14_998)), LaterFragment::Held);
}

#[test]
fn equal_datagrams_on_two_links_never_meet() {
    let mut table = FragmentTable::<u32>::new(LIMITS);
    table.handle_first(&key(7), &tuple(1000), range(0, 8, false), T0);
    let other = FragmentKey { link: 2, ..key(7) };
    assert_eq!(table.handle_later(&other, range(8, 8, true), || held(0), T0), LaterFragment::Held);
}

#[test]
fn copies_pass() {
    let mut lab = Lab::new();
    assert_eq!(lab.later(7, range(1480, 1480, false), T0), LaterFragment::Held);
    assert_eq!(lab.later(7, range(1480, 1480, false), T0), LaterFragment::Held);
    assert_eq!(contexts(lab.first(7, 1480, T0)), [1480, 1480]);
    assert_eq!(contexts(lab.first(7, 1480, T0)), [] as [u32; 0]);
    assert_eq!(lab.later(7, range(1480, 1480, false), T0), LaterFragment::Known(tuple(1000)));
}

#[test]
fn an_overlap_condemns_the_datagram() {
    let overlaps = [
        ("inside the first fragment", range(8, 8, false)),
        ("across the end of the first", range(1472, 16, false)),
        ("around a later one", range(1480, 2000, false)),
        ("inside a later one", range(1488, 8, false)),
        ("across its end", range(2952, 16, false)),
        ("before the end, but the last", range(1480, 8, true)),
        ("a copy that says it is the last", range(1480, 1480, true)),
    ];
    for (what, overlap) in overlaps {
        let mut lab = Lab::new();
        lab.first(7, 1480, T0);
        assert_eq!(lab.later(7, range(1480, 1480, false), T0), LaterFragment::Known(tuple(1000)));

        assert_eq!(lab.later(7, overlap, T0), LaterFragment::Overlap, "{what}");

        assert_eq!(lab.later(7, range(2960, 8, true), after(4999)), LaterFragment::Overlap, "{what}: what follows");
        assert_eq!(lab.first(7, 1480, after(4999)), FirstFragment::Overlap, "{what}: the first again");
        assert_eq!(lab.first(7, 1480, after(5000)), FirstFragment::Recorded(vec![]), "{what}: forgotten in time");
    }
}

#[test]
fn nothing_lies_beyond_the_end() {
    for beyond in [range(1488, 8, false), range(1480, 8, false), range(1488, 8, true), range(1480, 16, true)] {
        let mut lab = Lab::new();
        lab.first(7, 800, T0);
        assert_eq!(lab.later(7, range(1480, 8, true), T0), LaterFragment::Known(tuple(1000)));
        assert_eq!(lab.later(7, beyond, T0), LaterFragment::Overlap, "{beyond:?}");
    }
}

#[test]
fn an_overlap_among_those_that_wait_gives_them_all_up() {
    let mut lab = Lab::new();
    lab.later(7, range(1480, 1480, false), T0);
    assert_eq!(lab.later(7, range(1488, 8, false), T0), LaterFragment::Overlap);
    assert_eq!((lab.table.held(), lab.table.take_abandoned()), (0, 1));
    assert_eq!(lab.first(7, 1480, T0), FirstFragment::Overlap);
}

#[test]
fn a_first_fragment_with_other_ports_is_an_attack() {
    let mut lab = Lab::new();
    lab.first(7, 1480, T0);
    assert_eq!(lab.table.handle_first(&key(7), &tuple(1001), range(0, 1480, false), T0), FirstFragment::Overlap);
    assert_eq!(lab.later(7, range(1480, 8, true), T0), LaterFragment::Overlap);
}

#[test]
fn a_first_fragment_that_reaches_into_one_that_waits_is_refused() {
    let mut lab = Lab::new();
    lab.later(7, range(8, 8, true), T0);
    assert_eq!(lab.first(7, 1480, T0), FirstFragment::Overlap);
    assert_eq!(lab.table.take_abandoned(), 1);
}

#[test]
fn a_flood_of_first_fragments_displaces_the_datagram_idle_longest() {
    let mut lab = Lab::new();
    lab.later(100, range(8, 8, true), T0);
    for id in 0..3 {
        lab.first(id, 8, after(u64::from(id)));
    }
    lab.later(0, range(8, 8, false), after(5));

    lab.first(3, 8, after(6));

    assert_eq!(lab.table.len(), LIMITS.datagrams);
    assert_eq!(lab.later(0, range(16, 8, false), after(7)), LaterFragment::Known(tuple(1000)), "0 was seen since 1");
    assert_eq!(lab.later(1, range(8, 8, false), after(7)), LaterFragment::TableFull, "1 made room");
    assert_eq!(contexts(lab.first(100, 8, after(8))), [8], "who waits is not displaced while others are idle");
}

#[test]
fn a_flood_of_later_fragments_fills_only_what_is_free() {
    let mut lab = Lab::new();
    lab.first(0, 8, T0);
    for id in 1..4 {
        assert_eq!(lab.later(id, range(8, 8, false), T0), LaterFragment::Held);
    }
    for id in 4..100 {
        assert_eq!(lab.later(id, range(8, 8, false), T0), LaterFragment::TableFull);
    }
    assert_eq!(lab.later(0, range(8, 8, false), T0), LaterFragment::Known(tuple(1000)));
    assert_eq!(
        lab.later(200, range(8, 8, false), after(2000)),
        LaterFragment::Held,
        "two seconds later there is room again"
    );
}

#[test]
fn the_store_of_waiting_fragments_is_bounded() {
    let mut lab = Lab::new();
    for i in 0..8 {
        assert_eq!(lab.later(1, range(8 + 8 * i, 8, false), T0), LaterFragment::Held);
    }
    assert_eq!(lab.later(1, range(800, 8, false), T0), LaterFragment::HeldFull);
    assert_eq!(lab.later(2, range(8, 8, false), T0), LaterFragment::HeldFull);
    assert_eq!((lab.table.held(), lab.table.len()), (8, 1));
}

#[test]
fn one_datagram_holds_at_most_64_fragments() {
    let limits = FragmentLimits { datagrams: 4, held: 1000, timeout: Duration::from_secs(5) };
    let mut table = FragmentTable::<u32>::new(limits);
    for i in 0..64 {
        assert_eq!(table.handle_later(&key(1), range(8 + 8 * i, 8, false), || held(0), T0), LaterFragment::Held);
    }
    assert_eq!(table.handle_later(&key(1), range(8000, 8, false), || held(0), T0), LaterFragment::HeldFull);
}

#[test]
fn waiting_fragments_are_bounded_in_bytes_too() {
    let limits = FragmentLimits { datagrams: 1000, held: 100_000, timeout: Duration::from_secs(5) };
    let mut table = FragmentTable::<u32>::new(limits);
    let jumbo = || HeldFragment { bytes: vec![0; 60_000], vlan: None, offload: Offload::NONE, context: 0 };
    let stored = (0..200)
        .filter(|&id| table.handle_later(&key(id), range(8, 8, true), jumbo, T0) == LaterFragment::Held)
        .count();
    assert_eq!(stored, HELD_BYTES / 60_000);
    assert_eq!(table.len(), stored, "a datagram that could not wait leaves no trace");
}

#[test]
fn a_datagram_in_more_pieces_than_are_told_apart_is_cut_short() {
    let mut lab = Lab::new();
    lab.first(7, 8, T0);
    for i in 1..ranges::PIECES_MAX as u16 {
        assert_eq!(lab.later(7, range(8 * i, 8, false), T0), LaterFragment::Known(tuple(1000)));
    }
    assert_eq!(lab.later(7, range(8000, 8, false), T0), LaterFragment::TableFull);
}

#[test]
fn without_room_first_fragments_pass_and_later_ones_do_not() {
    let limits = FragmentLimits { datagrams: 0, held: 0, timeout: Duration::from_secs(5) };
    let mut table = FragmentTable::<u32>::new(limits);
    assert_eq!(table.handle_first(&key(7), &tuple(1), range(0, 8, false), T0), FirstFragment::Recorded(vec![]));
    assert_eq!(table.handle_later(&key(7), range(8, 8, true), || held(0), T0), LaterFragment::HeldFull);
}

#[test]
fn the_copy_is_made_only_when_the_fragment_waits() {
    let mut lab = Lab::new();
    lab.first(7, 8, T0);
    let known = lab.table.handle_later(&key(7), range(8, 8, true), || panic!("nobody needs this copy"), T0);
    assert_eq!(known, LaterFragment::Known(tuple(1000)));
}

proptest! {
    /// A datagram that is cut anywhere and delivered in any order passes whole, whatever other fragments arrive in
    /// between.
    #[test]
    fn every_order_of_arrival_delivers_every_fragment(
        cuts in proptest::collection::btree_set(1_u16..500, 1..7),
        order in any::<u64>(),
    ) {
        let mut bounds: Vec<u16> = cuts.into_iter().map(|cut| cut * 8).collect();
        bounds.insert(0, 0);
        bounds.push(bounds.last().unwrap() + 5);
        let mut pieces: Vec<FragmentRange> =
            bounds.windows(2).map(|w| range(w[0], w[1] - w[0], w[1] == *bounds.last().unwrap())).collect();
        let (mut order, mut shuffled) = (order, Vec::new());
        while !pieces.is_empty() {
            shuffled.push(pieces.swap_remove((order % pieces.len() as u64) as usize));
            order = order.rotate_right(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }

        let mut lab = Lab::new();
        let mut passed = 0;
        for piece in &shuffled {
            if piece.offset == 0 {
                passed += 1 + contexts(lab.first(7, piece.length, T0)).len();
            } else {
                match lab.later(7, *piece, T0) {
                    LaterFragment::Known(_) => passed += 1,
                    LaterFragment::Held => {}
                    refused @ (LaterFragment::TableFull | LaterFragment::HeldFull | LaterFragment::Overlap) => panic!("{refused:?}"),
                }
            }
        }
        prop_assert_eq!(passed, shuffled.len());
        prop_assert!(lab.table.is_empty());
    }

    /// Whatever arrives, the limits hold, every held fragment is released or given up, and expiry empties the table.
    #[test]
    fn bounds_hold_and_no_held_fragment_is_lost(
        events in proptest::collection::vec((0_u32..7, 0_u16..6, 1_u16..4, any::<bool>(), 0_u64..900), 1..300),
    ) {
        let mut lab = Lab::new();
        let (mut now, mut taken, mut released, mut abandoned) = (T0, 0_u64, 0, 0);
        for (id, offset, length, last, pause) in events {
            now += Duration::from_millis(pause);
            if offset == 0 {
                if let FirstFragment::Recorded(held) = lab.first(id, length * 8, now) {
                    released += held.len() as u64;
                }
            } else if lab.later(id, range(offset * 8, length * 8, last), now) == LaterFragment::Held {
                taken += 1;
            }
            if pause > 800 {
                lab.table.expire(now, 3);
            }
            abandoned += lab.table.take_abandoned();
            prop_assert!(lab.table.len() <= LIMITS.datagrams && lab.table.held() <= LIMITS.held);
            prop_assert_eq!(taken, released + abandoned + lab.table.held() as u64);
        }
        while let Some(due) = lab.table.poll_timeout() {
            prop_assert!(lab.table.expire(due, 100) > 0);
        }
        prop_assert!(lab.table.is_empty() && lab.table.held() == 0);
    }
}
