use proptest::prelude::*;

use super::*;

const KEY: &[u8] = b"a key of thirty-two bytes or more";
const OTHER: &[u8] = b"another key of thirty-two bytes..";
const INTERVAL: Duration = Duration::from_millis(30);

fn node(me: u8, key: &[u8], start: u8) -> Associations {
    Associations::new(NodeId(me), 2, &[key], [start; 16], INTERVAL)
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// One round of `from`, which `to` hears whole. What was opened besides inits.
fn hear(from: &mut Associations, to: &mut Associations, body: &[u8], now: Instant) -> Vec<Vec<u8>> {
    let datagrams = from.round(body, now);
    let opened = datagrams.iter().filter_map(|(_, bytes)| to.open(bytes, now).ok());
    opened
        .filter_map(|opened| match opened {
            Opened::Init(_) | Opened::ForAnother => None,
            Opened::Body(_, _, body) => Some(body),
        })
        .collect()
}

fn associated() -> (Associations, Associations) {
    let (mut a, mut b) = (node(0, KEY, 1), node(1, KEY, 2));
    for round in 0..3 {
        hear(&mut a, &mut b, b"a", at(round * 30));
        hear(&mut b, &mut a, b"b", at(round * 30));
    }
    assert!(a.is_live(NodeId(1)) && b.is_live(NodeId(0)));
    (a, b)
}

#[test]
fn two_nodes_associate_within_two_rounds_and_then_send_hellos_alone() {
    let (mut a, mut b) = (node(0, KEY, 1), node(1, KEY, 2));

    assert!(hear(&mut a, &mut b, b"a", at(0)).is_empty(), "the first round is an init");
    assert!(hear(&mut b, &mut a, b"b", at(0)).is_empty());
    assert_eq!(hear(&mut a, &mut b, b"a", at(30)), [b"a"], "B had echoed A's start, and A echoes that of B");
    assert_eq!(hear(&mut b, &mut a, b"b", at(30)), [b"b"]);

    assert_eq!(a.round(b"a", at(60)).len(), 1, "hello without init");
    assert_eq!(b.round(b"b", at(60)).len(), 1);
}

#[test]
fn every_lost_datagram_costs_time_alone() {
    for lost in 0_u32..256 {
        let (mut a, mut b) = (node(0, KEY, 1), node(1, KEY, 2));
        for round in 0..8_u32 {
            let now = at(u64::from(round) * 30);
            for (_, datagram) in a.round(b"a", now) {
                if lost & 1 << (2 * round % 8) == 0 || round >= 4 {
                    let _ = b.open(&datagram, now);
                }
            }
            for (_, datagram) in b.round(b"b", now) {
                if lost & 1 << ((2 * round + 1) % 8) == 0 || round >= 4 {
                    let _ = a.open(&datagram, now);
                }
            }
        }
        assert!(a.is_live(NodeId(1)) && b.is_live(NodeId(0)), "lost: {lost:08b}");
        assert_eq!(hear(&mut a, &mut b, b"a", at(400)), [b"a"], "lost: {lost:08b}");
        assert_eq!(hear(&mut b, &mut a, b"b", at(400)), [b"b"], "lost: {lost:08b}");
    }
}

#[test]
fn a_node_that_restarts_is_heard_again_and_nothing_of_its_former_life_is() {
    let (mut a, mut b) = associated();
    let old = b.round(b"I was active", at(100));
    let mut b = node(1, KEY, 3);

    let mut heard = Vec::new();
    for round in 4..8 {
        hear(&mut a, &mut b, b"a", at(round * 30));
        heard = hear(&mut b, &mut a, b"b", at(round * 30));
    }

    assert_eq!(heard, [b"b"]);
    for (_, datagram) in old {
        assert_eq!(a.open(&datagram, at(300)), Err(Unopened::Association));
    }
}

#[test]
fn whatever_was_recorded_opens_no_second_time() {
    let (mut a, mut b) = (node(0, KEY, 1), node(1, KEY, 2));
    let mut recorded = Vec::new();
    for round in 0..4 {
        for (_, datagram) in b.round(b"b", at(round * 30)) {
            let _ = a.open(&datagram, at(round * 30));
            recorded.push(datagram);
        }
        hear(&mut a, &mut b, b"a", at(round * 30));
    }
    // B restarts, so that A has another association; then everything of its first life comes again.
    let mut b = node(1, KEY, 3);
    for round in 4..8 {
        hear(&mut b, &mut a, b"b", at(round * 30));
        hear(&mut a, &mut b, b"a", at(round * 30));
    }
    for datagram in recorded.iter().chain(&recorded) {
        let opened = a.open(datagram, at(300));
        assert!(!matches!(opened, Ok(Opened::Body(..))), "{opened:?}");
    }
    for round in 11..16 {
        hear(&mut b, &mut a, b"b", at(round * 30));
        hear(&mut a, &mut b, b"a", at(round * 30));
    }
    assert!(hear(&mut b, &mut a, b"now", at(500)).contains(&b"now".to_vec()), "the real B is heard as before");
    assert!(hear(&mut a, &mut b, b"now", at(500)).contains(&b"now".to_vec()));
    for round in 70..75 {
        hear(&mut b, &mut a, b"b", at(round * 30));
        hear(&mut a, &mut b, b"a", at(round * 30));
    }
    assert_eq!(a.round(b"a", at(2300)).len(), 1, "and the inits that it asked for have ended");
}

#[test]
fn a_node_with_another_key_says_nothing() {
    let (mut a, mut b) = (node(0, KEY, 1), node(1, OTHER, 2));
    for round in 0..5 {
        for (_, datagram) in b.round(b"b", at(round * 30)) {
            assert_eq!(a.open(&datagram, at(round * 30)), Err(Unopened::Key));
        }
    }
    assert!(!a.is_live(NodeId(1)));
}

#[test]
fn a_key_is_replaced_on_one_node_after_the_other() {
    let (mut a, mut b) = associated();
    a.set_key(OTHER);
    assert_eq!(hear(&mut a, &mut b, b"a", at(100)), [b"a"], "associations go on");

    // B restarts before it gets the new key.
    let mut b = node(1, KEY, 4);
    for round in 4..8 {
        hear(&mut b, &mut a, b"b", at(round * 30));
        hear(&mut a, &mut b, b"a", at(round * 30));
    }
    assert_eq!(hear(&mut b, &mut a, b"b", at(300)), [b"b"]);

    // And again, with it.
    let mut b = node(1, OTHER, 5);
    for round in 11..15 {
        hear(&mut b, &mut a, b"b", at(round * 30));
        hear(&mut a, &mut b, b"a", at(round * 30));
    }
    assert_eq!(hear(&mut b, &mut a, b"b", at(500)), [b"b"]);
}

/// The first byte of the digest, by which a key is looked up, is the same for one pair of keys in 256.
#[test]
fn of_two_keys_with_the_same_number_the_one_that_fits_is_used() {
    let number = |secret: &[u8]| SharedKey::new(secret).id();
    let alike = (0..).map(|turn: u32| format!("key {turn} of more than thirty-two bytes"));
    let newer = alike.map(String::into_bytes).find(|secret| number(secret) == number(KEY)).expect("one in 256");
    let (mut a, mut b) = (node(0, KEY, 1), node(1, KEY, 2));
    a.set_key(&newer);
    for round in 0..4 {
        hear(&mut a, &mut b, b"a", at(round * 30));
        hear(&mut b, &mut a, b"b", at(round * 30));
    }
    assert_eq!(hear(&mut b, &mut a, b"b", at(200)), [b"b"], "the former key still opens an init, and answers it");
    assert_eq!(hear(&mut a, &mut b, b"a", at(200)), [b"a"]);
}

#[test]
fn the_stream_is_sealed_for_one_node_under_what_is_live() {
    let (mut a, mut b) = associated();
    let datagram = a.seal(NodeId(1), Kind::Stream, b"records").expect("live");
    assert_eq!(b.open(&datagram, at(100)), Ok(Opened::Body(NodeId(0), Kind::Stream, b"records".to_vec())));
    assert_eq!(b.open(&datagram, at(100)), Err(Unopened::Replay));
    assert_eq!(node(0, KEY, 9).seal(NodeId(1), Kind::Ack, b"ack"), None);
}

#[test]
fn three_nodes_associate_each_with_each() {
    let mut nodes: Vec<_> = (0..3).map(|me| Associations::new(NodeId(me), 3, &[KEY], [me + 1; 16], INTERVAL)).collect();
    let mut opened = 0;
    for round in 0..4 {
        for from in 0..3 {
            // All hear everything, as on a link.
            for (receiver, datagram) in nodes[from].round(b"hello", at(round * 30)) {
                for to in (0..3).filter(|to| *to != from) {
                    let heard = nodes[to].open(&datagram, at(round * 30)).expect("nothing is wrong with any");
                    assert_eq!(heard == Opened::ForAnother, receiver != NodeId(to as u8), "{from} to {to}: {heard:?}");
                    opened += usize::from(matches!(heard, Opened::Body(..)));
                }
            }
        }
    }
    assert!(opened >= 12, "each heard hellos of each: {opened}");
    for node in &nodes {
        let live = (0..3).map(NodeId).filter(|other| node.is_live(*other)).count();
        assert_eq!(live, 2);
    }
}

#[test]
fn what_is_not_for_this_node_has_a_name() {
    let (mut a, mut b) = associated();
    let (_, good) = b.round(b"b", at(100)).remove(0);
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let cases = [
        (good[..30].to_vec(), Unopened::Foreign),
        (changed(0, b'F'), Unopened::Foreign),
        (changed(4, 2), Unopened::Format),
        (changed(5, 9), Unopened::Format),
        (changed(7, 0), Unopened::Sender),
        (changed(7, 7), Unopened::Sender),
        (changed(8, !good[8]), Unopened::Association),
        (changed(30, !good[30]), Unopened::Seal),
        ([good.clone(), vec![0; DATAGRAM_MAX]].concat(), Unopened::Foreign),
    ];
    for (bytes, why) in cases {
        assert_eq!(a.open(&bytes, at(100)), Err(why));
    }
    assert_eq!(a.open(&changed(6, 1), at(100)), Ok(Opened::ForAnother), "a node that shares the link");
    assert!(a.open(&good, at(100)).is_ok(), "nothing of that had an effect");
}

proptest! {
    #[test]
    fn every_flipped_bit_and_every_cut_is_refused(byte in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<prop::sample::Index>()) {
        let (mut a, mut b) = associated();
        let (_, good) = b.round(b"a hello", at(100)).remove(0);
        let mut flipped = good.clone();
        flipped[byte.index(good.len())] ^= 1 << bit;
        let opened = a.open(&flipped, at(100));
        prop_assert!(opened.is_err() || opened == Ok(Opened::ForAnother) && byte.index(good.len()) == 6, "{opened:?}");
        prop_assert!(a.open(&good[..cut.index(good.len())], at(100)).is_err());
        prop_assert!(a.open(&good, at(100)).is_ok());
    }

    /// The window agrees with a set that remembers everything.
    #[test]
    fn no_number_is_new_twice(numbers in proptest::collection::vec(0_u64..3000, 1..300)) {
        let (mut window, mut seen, mut highest) = (Window::default(), std::collections::BTreeSet::new(), 0);
        for number in numbers {
            let too_old = number + WINDOW <= highest;
            let is_new = number > 0 && !too_old && !seen.contains(&number);
            prop_assert_eq!(window.is_new(number), is_new, "{} after {}", number, highest);
            if is_new {
                window.insert(number);
                seen.insert(number);
                highest = highest.max(number);
            }
        }
    }

    #[test]
    fn no_bytes_are_opened_by_chance(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 1_u8..5) {
        let (mut a, _) = associated();
        let mut bytes = bytes;
        if bytes.len() >= HEADER {
            let for_me = if kind == Kind::Init.number() { a.keys[0].id() } else { a.me.0 };
            bytes[..8].copy_from_slice(&[b'f', b'w', b'h', b'a', 1, kind, for_me, 1]);
        }
        prop_assert!(a.open(&bytes, at(100)).is_err());
    }
}
