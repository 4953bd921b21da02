//! Properties of translation: it equals building the packet anew, it can be undone byte for byte, and nothing else
//! changes.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::flow::Endpoint;
use crate::wire::emit::{self, AddressPair, MacPair};
use crate::wire::frame::protocol::{DCCP, TCP, UDP, UDP_LITE};
use crate::wire::offload::{PartialChecksum, finish_checksum};
use crate::wire::tcp::{self, Segment};
use crate::wire::{MacAddr, checksum, fragment, icmp};

const MACS: MacPair = MacPair { source: MacAddr([2, 0, 0, 0, 0, 1]), destination: MacAddr([2, 0, 0, 0, 0, 2]) };

fn packet(flow: &FlowKey, payload: &[u8]) -> Vec<u8> {
    let pair = AddressPair::new(flow.source.address, flow.destination.address).expect("one family");
    let (source_port, destination_port) = (flow.source.port, flow.destination.port);
    if flow.protocol == UDP {
        return emit::udp(MACS, pair, source_port, destination_port, payload);
    }
    let segment = Segment { source_port, destination_port, sequence: 7, window: 100, payload, ..Segment::default() };
    tcp::segment(MACS, pair, &segment)
}

fn endpoint(v6: bool) -> impl Strategy<Value = Endpoint> {
    let address = if v6 {
        any::<[u8; 16]>().prop_map(IpAddr::from).boxed()
    } else {
        any::<[u8; 4]>().prop_map(IpAddr::from).boxed()
    };
    (address, any::<u16>()).prop_map(|(address, port)| Endpoint { address, port })
}

prop_compose! {
    fn translations()(v6 in any::<bool>())(
        protocol in prop_oneof![Just(TCP), Just(UDP)],
        full in any::<bool>(),
        client in endpoint(v6),
        vip in endpoint(v6),
        server in endpoint(v6),
        snat in endpoint(v6),
    ) -> Translation {
        let flow = |source, destination| FlowKey { protocol, source, destination };
        Translation { outside: flow(client, vip), inside: flow(if full { snat } else { client }, server) }
    }
}

/// The one's complement sums 0 and 0xffff are the same number: they compare equal where UDP does not distinguish them.
fn assert_same_packet(translated: &[u8], built: &[u8]) {
    if translated != built {
        let differing: Vec<_> = (0..built.len()).filter(|&at| translated[at] != built[at]).collect();
        panic!("bytes {differing:?} differ");
    }
}

fn apply(bytes: &mut [u8], offload: &Offload, translation: &Translation, way: NatDirection) {
    let mut frame = Frame::parse(bytes, offload).expect("built well");
    translation.apply(&mut frame, offload, way).expect("whole packets can be translated");
    assert_eq!(FlowKey::from(frame.tuple()), translation.after(way), "the frame knows its new tuple");
}

/// The protocols whose checksum covers addresses and ports: number, header length in bytes, offset of the checksum.
fn checksummed() -> impl Strategy<Value = (u8, usize, usize)> {
    prop::sample::select(vec![(TCP, 20, 16), (UDP, 8, 6), (UDP_LITE, 8, 6), (DCCP, 12, 6)])
}

/// The checksum of a message, leaving out the field at `at`, computed by another implementation.
fn computed(flow: &FlowKey, message: &[u8], at: usize) -> u16 {
    use pnet_packet::ip::IpNextHeaderProtocol;
    use pnet_packet::util;

    let protocol = IpNextHeaderProtocol(flow.protocol);
    match (flow.source.address, flow.destination.address) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            util::ipv4_checksum(message, at / 2, &[], &source, &destination, protocol)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            util::ipv6_checksum(message, at / 2, &[], &source, &destination, protocol)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => unreachable!("one family"),
    }
}

/// The message with the ports of `flow`.
fn ported(message: &[u8], flow: &FlowKey) -> Vec<u8> {
    let mut message = message.to_vec();
    message[..2].copy_from_slice(&flow.source.port.to_be_bytes());
    message[2..4].copy_from_slice(&flow.destination.port.to_be_bytes());
    message
}

/// An IP packet that carries this message.
fn raw(flow: &FlowKey, message: &[u8]) -> Vec<u8> {
    let pair = AddressPair::new(flow.source.address, flow.destination.address).expect("one family");
    emit::ip(MACS, pair, flow.protocol, 64, message.len(), |bytes| bytes.copy_from_slice(message))
}

/// The first fragment of a datagram, which carries the message cut to a multiple of 8 bytes.
fn as_first_fragment(flow: &FlowKey, message: &[u8]) -> Vec<u8> {
    let message = &message[..message.len() & !7];
    if flow.source.address.is_ipv6() {
        let mut payload = vec![flow.protocol, 0, 0, 1, 0, 0, 0, 9];
        payload.extend(message);
        return raw(&FlowKey { protocol: 44, ..*flow }, &payload);
    }
    let mut bytes = raw(flow, message);
    bytes[20..22].copy_from_slice(&0x2000_u16.to_be_bytes());
    bytes[24..26].fill(0);
    let checksum = checksum::checksum(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

proptest! {
    #[test]
    fn translating_equals_building_anew(t in translations(), payload in prop::collection::vec(any::<u8>(), 0..200)) {
        for way in [NatDirection::ToServer, NatDirection::ToClient] {
            let mut bytes = packet(&t.before(way), &payload);
            apply(&mut bytes, &Offload::NONE, &t, way);
            assert_same_packet(&bytes, &packet(&t.after(way), &payload));
        }
    }

    #[test]
    fn translating_back_gives_the_original_byte_for_byte(t in translations(), damage in any::<u16>()) {
        let mut bytes = packet(&t.outside, b"payload");
        // A wrong transport checksum stays wrong (rule A8.3 of `docs/protocols.md`).
        let last = bytes.len() - 1;
        bytes[last] ^= damage as u8;
        let original = bytes.clone();
        let back = Translation { outside: t.inside, inside: t.outside };

        apply(&mut bytes, &Offload::NONE, &t, NatDirection::ToServer);
        apply(&mut bytes, &Offload::NONE, &back, NatDirection::ToServer);

        assert_same_packet(&bytes, &original);
    }

    #[test]
    fn a_checksum_left_to_the_device_follows_the_addresses_and_not_the_ports(t in translations()) {
        let partial = |flow: &FlowKey| {
            let mut bytes = packet(flow, b"some payload");
            let start = if flow.source.address.is_ipv4() { 34 } else { 54 };
            let offset = if flow.protocol == UDP { 6 } else { 16 };
            let length = (bytes.len() - start) as u32;
            let sum = checksum::pseudo_header(flow.source.address, flow.destination.address, flow.protocol, length);
            bytes[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
            let partial = PartialChecksum { start: start as u16, offset: offset as u16 };
            (bytes, Offload { partial: Some(partial), ..Offload::NONE })
        };
        let (mut bytes, offload) = partial(&t.outside);
        apply(&mut bytes, &offload, &t, NatDirection::ToServer);
        finish_checksum(&mut bytes, offload.partial.expect("set above")).expect("lies in the frame");
        prop_assert_eq!(bytes, packet(&t.inside, b"some payload"));
    }

    /// One word of the payload is chosen so that the computed checksum is 0.
    #[test]
    fn a_checksum_is_what_a_second_implementation_computes_also_where_that_is_zero(
        t in translations(), kind in checksummed(), payload in prop::collection::vec(any::<u8>(), 2..80), to_zero in any::<bool>(),
    ) {
        let (protocol, header, at) = kind;
        let of = |flow: &FlowKey| FlowKey { protocol, ..*flow };
        let t = Translation { outside: of(&t.outside), inside: of(&t.inside) };
        let mut message = vec![0; header];
        message.extend(&payload);
        message[4..6].copy_from_slice(&((header + payload.len()) as u16).to_be_bytes());
        if protocol == TCP {
            message[12] = 5 << 4;
        }
        if to_zero {
            message[header..header + 2].fill(0);
            let rest = computed(&t.inside, &ported(&message, &t.inside), at);
            message[header..header + 2].copy_from_slice(&rest.to_be_bytes());
        }
        let sealed = |flow: &FlowKey| {
            let mut message = ported(&message, flow);
            let zero = if matches!(protocol, UDP | UDP_LITE) { 0xffff } else { 0 };
            let checksum = Some(computed(flow, &message, at)).filter(|checksum| *checksum != 0).unwrap_or(zero);
            message[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
            raw(flow, &message)
        };
        let mut bytes = sealed(&t.outside);
        apply(&mut bytes, &Offload::NONE, &t, NatDirection::ToServer);
        assert_same_packet(&bytes, &sealed(&t.inside));
        if to_zero {
            let field = bytes.len() - message.len() + at;
            prop_assert_eq!(&bytes[field..field + 2], if matches!(protocol, UDP | UDP_LITE) { &[0xff; 2] } else { &[0; 2] });
        }
    }

    #[test]
    fn a_udp_checksum_of_none_stays_none_in_whole_datagrams_in_fragments_and_in_quotes(
        t in translations(), payload in prop::collection::vec(any::<u8>(), 16..80), whole in any::<bool>(),
    ) {
        let of = |flow: &FlowKey| FlowKey { protocol: UDP, ..*flow };
        let t = Translation { outside: of(&t.outside), inside: of(&t.inside) };
        let without = |flow: &FlowKey| {
            let mut bytes = packet(flow, &payload);
            let field = bytes.len() - payload.len() - 2;
            bytes[field..field + 2].fill(0);
            match whole {
                true => bytes,
                false => as_first_fragment(flow, &bytes[field - 6..]),
            }
        };
        for way in [NatDirection::ToServer, NatDirection::ToClient] {
            let mut bytes = without(&t.before(way));
            apply(&mut bytes, &Offload::NONE, &t, way);
            assert_same_packet(&bytes, &without(&t.after(way)));
        }
        let error = |quoted: &FlowKey| {
            let router: IpAddr = if quoted.source.address.is_ipv4() { [10, 9, 9, 9].into() } else { "fd00::9".parse().unwrap() };
            icmp::error(icmp::ErrorKind::TimeExceeded, &without(quoted), router, MACS.source)
        };
        if let (Ok(mut bytes), Ok(meant)) = (error(&t.inside), error(&t.outside)) {
            let mut frame = Frame::parse(&mut bytes, &Offload::NONE).expect("built well");
            t.apply_to_icmp_error(&mut frame, &Offload::NONE, NatDirection::ToClient).expect("quotes enough");
            assert_same_packet(&bytes, &meant);
        }
    }

    #[test]
    fn fragments_of_a_translated_datagram_are_the_fragments_of_the_translated(t in translations()) {
        prop_assume!(t.outside.source.address.is_ipv4());
        let payload: Vec<u8> = (0..=255).cycle().take(3000).collect();
        let pieces = |flow: &FlowKey| {
            let mut bytes = packet(flow, &payload);
            bytes[20] = 0;
            let checksum = { bytes[24..26].fill(0); checksum::checksum(&bytes[14..34]) };
            bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
            let frame = Frame::parse(&mut bytes, &Offload::NONE).expect("built well");
            fragment::split(&frame, None, 1400).expect("may be split")
        };
        for (mut piece, meant) in pieces(&t.outside).into_iter().zip(pieces(&t.inside)) {
            let mut frame = Frame::parse(&mut piece, &Offload::NONE).expect("a fragment");
            t.apply(&mut frame, &Offload::NONE, NatDirection::ToServer).expect("fragments can be translated");
            assert_same_packet(&piece, &meant);
        }
    }

    #[test]
    fn an_icmp_error_about_the_translated_packet_becomes_one_about_the_original(t in translations(), by_server in any::<bool>()) {
        let v4 = t.outside.source.address.is_ipv4();
        let router: IpAddr = if v4 { [10, 9, 9, 9].into() } else { "fd00::9".parse().unwrap() };
        let error = |quoted: &FlowKey, source: IpAddr| {
            icmp::error(icmp::ErrorKind::TimeExceeded, &packet(quoted, b"quoted payload"), source, MACS.source)
        };
        let (seen, meant) = if by_server {
            (t.inside.destination.address, t.outside.destination.address)
        } else {
            (router, router)
        };
        let (Ok(mut bytes), Ok(expected)) = (error(&t.inside, seen), error(&t.outside, meant)) else {
            // Random addresses include some about which no ICMP error may be sent.
            return Ok(());
        };
        prop_assume!(by_server || t.inside.destination.address != router);
        {
            let mut frame = Frame::parse(&mut bytes, &Offload::NONE).expect("built well");
            t.apply_to_icmp_error(&mut frame, &Offload::NONE, NatDirection::ToClient).expect("quotes enough");
        }
        assert_same_packet(&bytes, &expected);
        prop_assert!(Frame::parse(&mut bytes, &Offload::NONE).is_ok(), "its checksums are right");
    }
}
