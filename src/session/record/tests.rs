use proptest::prelude::*;

use super::*;
use crate::flow::{Endpoint, FlowKey};
use crate::session::cell::{PAYLOAD_WORDS, SessionCell};
use crate::session::tcp::SeenFlags;

fn address(wide: bool) -> impl Strategy<Value = std::net::IpAddr> {
    any::<u128>().prop_map(move |bits| match wide {
        true => bits.to_be_bytes().into(),
        false => (bits as u32).to_be_bytes().into(),
    })
}

fn flow(wide: bool, protocol: u8) -> impl Strategy<Value = FlowKey> {
    let end = move || (address(wide), any::<u16>()).prop_map(|(address, port)| Endpoint { address, port });
    (end(), end()).prop_map(move |(source, destination)| FlowKey { protocol, source, destination })
}

fn direction_of() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::LowToHigh), Just(Direction::HighToLow)]
}

fn session(protocol: u8) -> impl Strategy<Value = Session> {
    let state = match ProtocolClass::of(protocol) {
        ProtocolClass::Tcp => prop::sample::select(vec![0, 1, 1, 1, 2]),
        ProtocolClass::Udp | ProtocolClass::Icmp | ProtocolClass::Other => prop::sample::select(vec![3, 4]),
    };
    // The flags of conversations whose flags are stable, and any others.
    let seen = prop_oneof![Just(0x73u16), any::<u16>()];
    let pins = prop::array::uniform2(any::<[u64; 3]>().prop_map(|[a, b, c]| Pin::from_words([a, b, c & PIN_MASK])));
    let counts = (0..=PACKETS_MAX, 0..u64::MAX / 2, any::<u16>(), any::<[u32; 5]>());
    let times = any::<[u32; 2]>().prop_map(|times| times.map(|time| Instant::from_millis(time.into())));
    (direction_of(), state, seen, pins, counts, times).prop_map(move |(opened, bits, seen, pins, counts, times)| {
        Session {
            original_direction: opened,
            class: ProtocolClass::of(protocol),
            state: state_of(bits),
            seen_flags: SeenFlags::from_bits(seen),
            worker: counts.2,
            toward_low: pins[0],
            toward_high: pins[1],
            created: times[0],
            last_seen: times[1],
            packets: counts.0,
            bytes: counts.1,
            next_to_low: counts.3[0],
            next_to_high: counts.3[1],
            acked_by_low: counts.3[2],
            acked_by_high: counts.3[3],
            other_syn: counts.3[4] & tcp::OTHER_SYN,
        }
    })
}

fn state_of(bits: u64) -> ConversationState {
    super::state(bits)
}

/// A flow, its session, and its service and server.
fn record() -> impl Strategy<Value = (FlowKey, Session, Option<Placement>)> {
    let protocol = prop::sample::select(vec![6u8, 6, 17, 1, 50]);
    (any::<bool>(), protocol).prop_flat_map(|(wide, protocol)| {
        let ids = (any::<u16>(), any::<u16>(), any::<u32>());
        let bound =
            (ids, prop::option::of(flow(wide, protocol))).prop_map(|((service, server, server_failures), inside)| {
                Placement { service: ServiceId(service), server: ServerId(server), server_failures, inside }
            });
        (flow(wide, protocol), session(protocol), prop::option::of(bound))
    })
}

fn with_place<R>(flow: &FlowKey, session: &Session, bound: Option<&Placement>, f: impl FnOnce(SlotRef<'_>) -> R) -> R {
    let cell: SessionCell = [const { AtomicU64::new(u64::MAX) }; 1 + PAYLOAD_WORDS];
    let (wide, opening) = (AlignedRecords::<8>::new(3), AlignedRecords::<1>::new(3));
    let place = SlotRef { cell: &cell, opening: &opening, wide: &wide, slot: 2 };
    let inside = bound.and_then(|bound| bound.inside).map(|inside| {
        let (key, direction) = inside.canonical();
        (KeyWords::of(&key), direction)
    });
    place.write(&KeyWords::of(&flow.canonical().0), inside, bound, session);
    f(place)
}

proptest! {
    #[test]
    fn a_record_is_read_as_it_was_written((flow, session, bound) in record(), stranger in flow(false, 6)) {
        with_place(&flow, &session, bound.as_ref(), |place| {
            prop_assert_eq!(place.key(), flow.canonical().0);
            prop_assert_eq!(place.session(), session);
            prop_assert_eq!(place.placement(), bound);
            prop_assert!(place.has_key(&KeyWords::of(&flow.canonical().0)));
            if let Some(inside) = bound.and_then(|bound| bound.inside) {
                prop_assert!(place.has_key(&KeyWords::of(&inside.reversed().canonical().0)));
            }
            let mut near = flow;
            near.source.port ^= 1;
            for other in [stranger, near] {
                let is_inside = bound.and_then(|bound| bound.inside).is_some_and(|inside| inside.canonical().0 == other.canonical().0);
                prop_assert_eq!(place.has_key(&KeyWords::of(&other.canonical().0)), other.canonical().0 == flow.canonical().0 || is_inside);
            }
            Ok(())
        })?;
    }

    #[test]
    fn what_packets_change_leaves_the_rest((flow, session, bound) in record(), next in session(6)) {
        let next = Session { class: session.class, ..next };
        with_place(&flow, &session, bound.as_ref(), |place| {
            place.put_session(&next);

            prop_assert_eq!((place.key(), place.session(), place.placement()), (flow.canonical().0, next, bound));
            Ok(())
        })?;
    }

    #[test]
    fn a_packet_is_noted_as_it_is_observed_or_not_at_all(
        (flow, session, bound) in record(),
        direction in direction_of(),
        segment in (prop::sample::select(vec![0x10u8, 0x10, 0x18, 0x11, 0x02, 0x12, 0x04, 0]), any::<[u32; 2]>(), 0u32..3000),
        near in prop::option::of(-2000i32..2000),
        bytes in 20usize..65_536,
        now in any::<u32>(),
    ) {
        let (flags, [sequence, acknowledgement], length) = segment;
        let (known, acked, other) = match direction {
            Direction::LowToHigh => (session.next_to_high, session.acked_by_low, session.next_to_low),
            Direction::HighToLow => (session.next_to_low, session.acked_by_high, session.next_to_high),
        };
        let sequence = near.map_or(sequence, |near| known.wrapping_add_signed(near));
        let acknowledgement = near.map_or(acknowledgement, |near| acked.wrapping_add_signed(near));
        // An end acknowledges no more than it was sent.
        let is_near = tcp::is_near(sequence.wrapping_add(length), known, acked, acknowledgement, other);
        let segment = TcpSegment { flags, sequence, acknowledgement, length };
        let tcp = (session.class == ProtocolClass::Tcp).then_some(segment);
        let now = Instant::from_nanos(now.into());
        let mut observed = session;
        observed.record_packet(direction, tcp.as_ref(), bytes, now);
        observed.packets = observed.packets.min(PACKETS_MAX);
        with_place(&flow, &session, bound.as_ref(), |place| {
            let is_noted = place.count_packet(direction, tcp.as_ref(), bytes, now);

            prop_assert_eq!(place.session(), if is_noted { observed } else { session });
            prop_assert_eq!((place.key(), place.placement()), (flow.canonical().0, bound));
            let is_plain = flags & 0x17 == 0x10 && session.seen_flags.bits() == 0x73;
            prop_assert!(is_noted || tcp.is_none() || !is_plain || !is_near || session.state != ConversationState::Tcp(TcpState::Established));
            Ok(())
        })?;
    }

    #[test]
    fn a_pin_is_changed_alone((flow, session, bound) in record(), direction in direction_of(), words: [u64; 3]) {
        let Some(pin) = Pin::from_words([words[0], words[1], words[2] & PIN_MASK]) else { return Ok(()) };
        let mut changed = session;
        *changed.pin_toward_destination(direction) = Some(pin);
        with_place(&flow, &session, bound.as_ref(), |place| {
            place.put_pin_toward(direction, &pin);

            prop_assert_eq!((place.session(), place.placement()), (changed, bound));
            prop_assert_eq!(place.pin_toward(direction), Some(pin));
            Ok(())
        })?;
    }
}
