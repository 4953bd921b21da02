use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::flow::Endpoint;

fn flow(protocol: u8, v6: bool) -> impl Strategy<Value = FlowKey> {
    let end = move || {
        (any::<u128>(), any::<u16>()).prop_map(move |(bits, port)| Endpoint {
            address: if v6 { IpAddr::from(bits.to_be_bytes()) } else { IpAddr::from((bits as u32).to_be_bytes()) },
            port,
        })
    };
    (end(), end()).prop_map(move |(source, destination)| FlowKey { protocol, source, destination })
}

fn pin() -> impl Strategy<Value = PinRecord> {
    (any::<[u16; 2]>(), 0..PinState::ALL.len(), 0..PinnedBy::ALL.len(), any::<[u8; 2]>()).prop_map(
        |([set, firewall], state, by, [rotations, leader_moves])| PinRecord {
            set: PathSetId(set),
            firewall: FirewallId(firewall),
            state: PinState::ALL[state],
            pinned_by: PinnedBy::ALL[by],
            rotations,
            leader_moves,
        },
    )
}

/// Sessions of all shapes.
fn session() -> impl Strategy<Value = SessionRecord> {
    let shape = (prop_oneof![Just(protocol::TCP), Just(protocol::UDP), any::<u8>()], any::<bool>());
    shape.prop_flat_map(|(protocol, v6)| {
        let state = if protocol == protocol::TCP { 0..3_u8 } else { 3..5_u8 };
        let placement = option::of((any::<[u16; 2]>(), option::of(flow(protocol, v6))));
        let numbers = (any::<u8>(), any::<[u32; 2]>(), any::<[u64; 2]>());
        (flow(protocol, v6), state, numbers, placement, [option::of(pin()), option::of(pin())]).prop_map(
            |(flow, state, (flags, [age_s, idle_ms], [packets, bytes]), placement, [toward_low, toward_high])| {
                let (key, opened) = flow.canonical();
                let placement = placement.map(|([service, server], inside)| PlacementRecord {
                    service: ServiceId(service),
                    server: ServerId(server),
                    inside,
                });
                let state = state_of(state).unwrap();
                SessionRecord {
                    key,
                    opened,
                    state,
                    flags,
                    age_s,
                    idle_ms,
                    packets,
                    bytes,
                    placement,
                    toward_low,
                    toward_high,
                }
            },
        )
    })
}

pub(in crate::ha) fn record() -> impl Strategy<Value = Record> {
    let name = (0..NamedKind::ALL.len(), any::<u16>(), "[a-z0-9/.-]{0,64}");
    prop_oneof![
        4 => session().prop_map(Record::Session),
        2 => (any::<u8>(), any::<bool>()).prop_flat_map(|(protocol, v6)| flow(protocol, v6)).prop_map(|flow| {
            let (key, opened) = flow.canonical();
            Record::End { key, opened }
        }),
        1 => name.prop_map(|(kind, number, name)| Record::Name { kind: NamedKind::ALL[kind], number, name }),
        1 => any::<u32>().prop_map(|pass| Record::PassBegins { pass }),
        1 => any::<[u32; 2]>().prop_map(|[pass, sessions]| Record::PassEnds { pass, sessions }),
    ]
}

fn bytes_of(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    records.iter().for_each(|record| record.encode(&mut bytes));
    bytes
}

fn read(bytes: &[u8]) -> Vec<Record> {
    decode(bytes).filter_map(Result::ok).collect()
}

proptest! {
    #[test]
    fn what_is_told_is_what_is_read(records in prop::collection::vec(record(), 0..20)) {
        let read: Result<Vec<_>, _> = decode(&bytes_of(&records)).collect();
        prop_assert_eq!(read, Ok(records));
    }

    #[test]
    fn a_record_is_no_longer_than_said(record in record()) {
        let bytes = bytes_of(std::slice::from_ref(&record));
        let longest = match record {
            Record::Name { .. } => HEADER + 4 + NAME_MAX,
            Record::Session(_) | Record::End { .. } | Record::PassBegins { .. } | Record::PassEnds { .. } => {
                Record::SESSION_MAX
            }
        };
        prop_assert!(bytes.len() <= longest);
    }

    #[test]
    fn of_bytes_that_were_cut_the_whole_records_are_read(
        records in prop::collection::vec(record(), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = bytes_of(&records);
        let cut = cut.index(bytes.len());
        let whole = (0..records.len()).rev().find(|count| bytes_of(&records[..*count]).len() <= cut).unwrap();

        let read: Vec<_> = decode(&bytes[..cut]).collect();

        let is_between = bytes_of(&records[..whole]).len() == cut;
        prop_assert_eq!(read.len(), whole + usize::from(!is_between));
        prop_assert!(read.iter().zip(&records).take(whole).all(|(read, record)| read.as_ref() == Ok(record)));
        prop_assert!(is_between || read[whole] == Err(Unreadable::Cut));
    }

    /// The seal of the datagram refuses what was damaged on the way. What comes through it and is wrong is refused, or
    /// is a record that says something else.
    #[test]
    fn what_is_read_of_damaged_bytes_is_a_record_that_could_have_been_told(
        records in prop::collection::vec(record(), 1..4),
        at in any::<prop::sample::Index>(),
        flipped in 1..=u8::MAX,
    ) {
        let mut bytes = bytes_of(&records);
        let at = at.index(bytes.len());
        bytes[at] ^= flipped;

        let heard = read(&bytes);

        prop_assert!(heard.len() <= bytes.len() / HEADER);
        prop_assert_eq!(read(&bytes_of(&heard)), heard);
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let heard = read(&bytes);
        prop_assert_eq!(read(&bytes_of(&heard)), heard);
    }
}

#[test]
fn kinds_of_a_later_version_are_skipped() {
    let known = Record::PassBegins { pass: 7 };
    let mut bytes = vec![200, 0, 0, 3, 1, 2, 3];
    known.encode(&mut bytes);

    assert_eq!(decode(&bytes).collect::<Vec<_>>(), [Err(Unreadable::Unknown(200)), Ok(known)]);
}

#[test]
fn ends_out_of_order_and_states_of_another_protocol_are_refused() {
    let flow = FlowKey {
        protocol: protocol::TCP,
        source: Endpoint { address: [192, 0, 2, 1].into(), port: 1 },
        destination: Endpoint { address: [192, 0, 2, 2].into(), port: 2 },
    };
    let (key, opened) = flow.canonical();
    let mut bytes = bytes_of(&[Record::End { key, opened }]);
    bytes[11] = 9;
    assert_eq!(decode(&bytes).collect::<Vec<_>>(), [Err(Unreadable::Malformed(END))]);

    let session = SessionRecord {
        key,
        opened,
        state: ConversationState::TwoWay,
        flags: 0,
        age_s: 0,
        idle_ms: 0,
        packets: 1,
        bytes: 40,
        placement: None,
        toward_low: None,
        toward_high: None,
    };
    assert_eq!(
        decode(&bytes_of(&[Record::Session(session)])).collect::<Vec<_>>(),
        [Err(Unreadable::Malformed(SESSION))]
    );
}
