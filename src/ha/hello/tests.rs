use proptest::prelude::*;

use super::*;

fn hello() -> impl Strategy<Value = Hello> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let link = (any::<u32>(), any::<[bool; 3]>(), any::<u8>()).prop_map(|(name, [a, b, c], hears)| LinkState {
        name,
        has_carrier: a,
        is_alive: b,
        is_tracked: c,
        hears,
    });
    let values = (
        (0_usize..5, flags, 1..=u8::MAX, 1..=u8::MAX, proptest::option::of(0_u8..8)),
        (any::<u32>(), any::<u32>(), any::<u16>(), 1_u64..5000),
        (any::<[u64; 2]>(), any::<[u32; 4]>()),
        any::<[u32; 8]>(),
        ("[a-z0-9.-]{1,63}", "[0-9.]{1,20}"),
        proptest::collection::vec(link, 0..LINKS_MAX),
    );
    values.prop_map(
        |((role, flags, priority, base, successor), terms, (counts, numbers), digests, (name, program), links)| Hello {
            role: Role::ALL[role],
            is_ready: flags.0,
            is_in_maintenance: flags.1,
            is_eligible: flags.2,
            priority,
            base,
            successor: successor.map(NodeId),
            term: terms.0.max(terms.1),
            last_active: terms.0.min(terms.1),
            deductions: terms.2,
            interval: Duration::from_millis(terms.3 * 10),
            start: counts[0],
            round: counts[1],
            uptime: numbers[0],
            sessions: numbers[1],
            needed: numbers[2],
            held: numbers[3],
            digests,
            name,
            program,
            links,
        },
    )
}

proptest! {
    #[test]
    fn what_was_said_is_what_is_heard(hello in hello()) {
        let bytes = hello.encode();
        prop_assert!(bytes.len() <= 1232, "it fits the least MTU of IPv6 with its headers and seal: {}", bytes.len());
        prop_assert_eq!(Hello::decode(&bytes), Some(hello));
    }

    #[test]
    fn a_hello_that_was_cut_is_refused_and_one_of_a_later_version_is_read(hello in hello(), cut in any::<prop::sample::Index>()) {
        let mut bytes = hello.encode();
        let cut = cut.index(bytes.len());
        prop_assert_eq!(Hello::decode(&bytes[..cut]), None);
        bytes.extend_from_slice(b"a field of a later version");
        prop_assert_eq!(Hello::decode(&bytes), Some(hello));
    }

    #[test]
    fn no_bytes_are_read_as_something_that_could_not_be_said(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Some(hello) = Hello::decode(&bytes) {
            prop_assert!(hello.priority > 0 && hello.base > 0 && !hello.interval.is_zero());
            prop_assert!(hello.last_active <= hello.term);
            prop_assert!(hello.successor.is_none_or(|node| node.index() < NODES_MAX));
        }
    }
}

#[test]
fn digests_are_the_same_in_every_version() {
    assert_eq!(digest("internet"), 1_304_287_579);
    assert_ne!(digest("internet"), digest("firewalls"));
}
