//! Payloads are read back as they were written, and everything else is refused.

use proptest::prelude::*;

use super::*;

/// A stand-in for a message authentication code, to which every byte and its place count.
fn keyed(key: u64) -> impl Fn(&[u8]) -> u64 {
    move |bytes| bytes.iter().fold(key, |sum, byte| sum.wrapping_mul(0x100_0000_01b3) ^ u64::from(*byte) ^ (sum >> 7))
}

fn probe(firewalls: usize) -> Probe {
    let seen = FirewallReport { name: 77, verdict: ReportedPathState::Down, admin: WireAdminState::Drain };
    Probe {
        epoch: 1,
        sequence: u64::MAX,
        nonce: 3,
        digest: 4,
        engine: "outer".to_owned(),
        version: "0.1.0".to_owned(),
        group: "perimeter".to_owned(),
        firewalls: vec![seen; firewalls],
        cluster: None,
        supports_notes: firewalls < FIREWALLS_MAX,
        notes: Vec::new(),
    }
}

/// What a node says that hears so many nodes of the receiver's cluster.
fn cluster(nodes: usize) -> ClusterReport {
    let heard = NodeReport { name: 78, role: ReportedRole::Standby, term: 6, priority: 190, heard_ms: 12 };
    ClusterReport { role: ReportedRole::Active, term: 7, priority: 200, vrid: 51, nodes: vec![heard; nodes] }
}

fn note(reason: &str) -> AdminNote {
    AdminNote { name: 77, at: 1_795_258_800, by: "root (uid 0)".to_owned(), reason: reason.to_owned() }
}

#[test]
fn what_was_encoded_is_read_back_within_the_bound() {
    for firewalls in [0, 1, 2, FIREWALLS_MAX] {
        let bytes = probe(firewalls).encode(keyed(5));
        assert!(is_probe(&bytes) && bytes.len() <= PAYLOAD_MAX);
        assert_eq!(Probe::decode(&bytes, keyed(5)), Ok(probe(firewalls)));
    }
    let notes = vec![AdminNote { by: "b".repeat(200), ..note(&"r".repeat(500)) }; 2];
    let long = Probe {
        engine: "x".repeat(NAME_MAX),
        version: "y".repeat(200),
        group: "z".repeat(63),
        cluster: Some(cluster(9)),
        notes,
        ..probe(99)
    };
    assert_eq!(long.encode(keyed(5)).len(), PAYLOAD_MAX);
    const { assert!(40 + 20 + PAYLOAD_MAX <= 1280, "IPv6, TCP, and the smallest MTU") };
}

#[test]
fn a_node_says_format_2_and_every_other_engine_format_1() {
    assert_eq!(probe(2).encode(keyed(5))[4], 1);
    for role in ReportedRole::ALL {
        for (nodes, notes) in [(0, vec![]), (1, vec![note("disk")]), (NODES_MAX, vec![note("disk"), note("upgrade")])] {
            let told = Probe { cluster: Some(ClusterReport { role, ..cluster(nodes) }), notes, ..probe(2) };
            let bytes = told.encode(keyed(5));
            assert_eq!((bytes[4], Probe::decode(&bytes, keyed(5))), (2, Ok(told)));
        }
    }
}

#[test]
fn notes_are_read_back_as_many_as_fit_and_cut_between_letters() {
    let told = Probe { notes: vec![note("upgrade"), note("disk")], ..probe(2) };
    assert_eq!(Probe::decode(&told.encode(keyed(5)), keyed(5)), Ok(told));

    let many = Probe { notes: vec![note("a few words of a reason"); 20], ..probe(2) };
    let read = Probe::decode(&many.encode(keyed(5)), keyed(5)).unwrap();
    assert_eq!(read.notes.len(), Probe::notes_that_fit(&many.notes));
    assert!((2..20).contains(&read.notes.len()), "{}", read.notes.len());

    let accents = Probe { notes: vec![note(&"é".repeat(200)), note("next")], ..probe(2) };
    let read = Probe::decode(&accents.encode(keyed(5)), keyed(5)).unwrap();
    assert_eq!((read.notes.len(), read.notes[0].reason.as_str()), (2, "é".repeat(REASON_MAX / 2).as_str()));
}

/// An engine without notes reads as many firewalls as the count says, skips those that it does not have, and takes
/// everything that follows for a malformed payload.
#[test]
fn without_notes_a_payload_is_one_of_before_with_one_firewall_more() {
    let bytes = probe(2).encode(keyed(5));
    let count = HEADER_LEN + 3 + "outer".len() + "0.1.0".len() + "perimeter".len();
    assert_eq!((bytes[count], bytes.len()), (3, count + 1 + 3 * FIREWALL_LEN));
    let silent = Probe { supports_notes: false, ..probe(2) }.encode(keyed(5));
    assert_eq!((silent[count], silent.len()), (2, count + 1 + 2 * FIREWALL_LEN));
    assert_eq!(Probe::decode(&silent, keyed(5)), Ok(Probe { supports_notes: false, ..probe(2) }));
}

#[test]
fn another_seed_is_told_from_another_program_and_another_version() {
    let mut bytes = probe(2).encode(keyed(5));
    assert_eq!(Probe::decode(&bytes, keyed(6)), Err(InvalidProbe::Unauthentic));
    bytes[4] = 3;
    assert_eq!(Probe::decode(&bytes, keyed(5)), Err(InvalidProbe::Version(3)));
    assert_eq!(Probe::decode(b"\x08\x09\x0a\x0b pings of others", keyed(5)), Err(InvalidProbe::NotAProbe));
    assert_eq!(Probe::decode(b"", keyed(5)), Err(InvalidProbe::NotAProbe));
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    for cluster in [None, Some(cluster(2))] {
        let good = Probe { notes: vec![note("disk")], cluster, ..probe(2) }.encode(keyed(5));
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Probe::decode(&bytes, keyed(5)).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(Probe::decode(&good[..len], keyed(5)).is_err(), "cut to {len}");
        }
        let longer = [good.as_slice(), b"x"].concat();
        assert!(Probe::decode(&longer, keyed(5)).is_err());
    }
}

proptest! {
    #[test]
    fn no_authentic_bytes_make_it_panic(format in 0_u8..4, body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = [&MAGIC[..], &[format]].concat();
        bytes.extend_from_slice(&keyed(5)(&body).to_be_bytes());
        bytes.extend_from_slice(&body);
        if let Ok(probe) = Probe::decode(&bytes, keyed(5)) {
            prop_assert!(probe.firewalls.len() <= FIREWALLS_MAX);
        }
    }
}
