use proptest::prelude::*;

use super::*;

/// Any pin of the set 0 with three firewalls.
pub(in crate::path::pinning) fn any_pin() -> impl Strategy<Value = Pin> {
    let state = prop::sample::select(vec![PinState::Opening, PinState::Tentative, PinState::Confirmed]);
    let stamp = || (1..5000_u32).prop_map(|millis| Stamp(NonZeroU32::new(1_000_000 - millis).expect("positive")));
    let dispute = (stamp(), 0..3_u16, 1..3_u8).prop_map(|(since, firewall, packets)| Dispute {
        since,
        firewall: FirewallId(firewall),
        packets: NonZeroU8::new(packets).expect("positive"),
    });
    let syn_from = prop_oneof![Just(MaybeFirewall::NONE), (0..3_u16).prop_map(MaybeFirewall)];
    let options = (prop::option::of(stamp()), prop::option::of(dispute), syn_from);
    (0..3_u16, state, 0..2_u16, options, 0..7_u8, 0..4_u8).prop_map(
        |(firewall, state, failure_count, (asked, dispute, syn_from), turns, leader_moves)| Pin {
            set: PathSetId(0),
            firewall: FirewallId(firewall),
            state,
            pinned_by: PinnedBy::Hash,
            failure_count,
            syn_from,
            unanswered_since: asked,
            dispute: dispute.filter(|dispute| dispute.firewall != FirewallId(firewall)),
            rotations: turns,
            leader_moves,
        },
    )
}

#[test]
fn stamps_survive_the_wrap_of_their_milliseconds() {
    for base in [0, 1, u64::from(u32::MAX) - 2, u64::from(u32::MAX), 1 << 32, 1 << 40] {
        let then = Instant::from_millis(base);
        let elapsed = Stamp::at(then).elapsed(then + Duration::from_millis(1500));
        assert!(elapsed.abs_diff(Duration::from_millis(1500)) <= Duration::from_millis(1), "{base}: {elapsed:?}");
        assert_eq!(Stamp::at(then).elapsed(then), Duration::ZERO);
    }
}

proptest! {
    #[test]
    fn a_pin_is_read_from_its_words_as_it_was(pin in any_pin()) {
        let words = pin.to_words();

        prop_assert_eq!(Pin::from_words(words), Some(pin));
        prop_assert_eq!(words[2] >> 48, 0);
        prop_assert_eq!(Pin::from_words([0; 3]), None);
    }
}
