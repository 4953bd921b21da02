use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder};
use proptest::prelude::*;

use super::*;
use crate::wire::MacAddr;
use crate::wire::frame::Frame;
use crate::wire::icmp::{self, ErrorKind};
use crate::wire::offload::Offload;

const MACS: MacPair = MacPair { source: MacAddr([2, 0, 0, 0, 0, 1]), destination: MacAddr([2, 0, 0, 0, 0, 2]) };

fn ends(family: Family) -> AddressPair {
    let (source, destination) = match family {
        Family::V4 => ("10.0.0.1", "10.9.0.7"),
        Family::V6 => ("fd00::1", "fd00:9::7"),
    };
    AddressPair::new(source.parse().unwrap(), destination.parse().unwrap()).unwrap()
}

/// A datagram as another library builds it.
fn packet(family: Family, traffic_class: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match family {
        Family::V4 => {
            let mut header = Ipv4Header::new(0, 33, IpNumber::UDP, [192, 0, 2, 1], [198, 51, 100, 80]).unwrap();
            header.dscp = (traffic_class >> 2).try_into().unwrap();
            header.ecn = (traffic_class & 3).try_into().unwrap();
            header.dont_fragment = true;
            PacketBuilder::ip(etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default()))
                .udp(4000, 53)
                .write(&mut bytes, payload)
                .unwrap();
        }
        Family::V6 => {
            let header = Ipv6Header {
                traffic_class,
                hop_limit: 33,
                source: [0x20; 16],
                destination: [0x21; 16],
                ..Ipv6Header::default()
            };
            PacketBuilder::ip(etherparse::IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default()))
                .udp(4000, 53)
                .write(&mut bytes, payload)
                .unwrap();
        }
    }
    bytes
}

/// The outer packet as another library builds it.
fn by_etherparse(outer: &OuterHeader, inner: Family, traffic_class: u8, packet: &[u8]) -> Vec<u8> {
    let number = IpNumber(match inner {
        Family::V4 => 4,
        Family::V6 => 41,
    });
    let mut bytes = [MACS.destination.0, MACS.source.0].concat();
    match outer.addresses {
        AddressPair::V4(source, destination) => {
            bytes.extend([0x08, 0x00]);
            let length = packet.len() as u16;
            let mut header = Ipv4Header::new(length, 64, number, source.octets(), destination.octets()).unwrap();
            header.dscp = (traffic_class >> 2).try_into().unwrap();
            header.ecn = (traffic_class & 3).try_into().unwrap();
            header.identification = outer.ident;
            header.dont_fragment = outer.dont_fragment;
            header.fragment_offset = IpFragOffset::ZERO;
            header.write(&mut bytes).unwrap();
        }
        AddressPair::V6(source, destination) => {
            bytes.extend([0x86, 0xdd]);
            let header = Ipv6Header {
                traffic_class,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: packet.len() as u16,
                next_header: number,
                hop_limit: 64,
                source: source.octets(),
                destination: destination.octets(),
            };
            header.write(&mut bytes).unwrap();
        }
    }
    bytes.extend(packet);
    bytes
}

fn families() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

proptest! {
    #[test]
    fn an_outer_packet_is_byte_for_byte_what_another_library_builds(
        inner in families(),
        outer in families(),
        traffic_class in any::<u8>(),
        ident in any::<u16>(),
        dont_fragment in any::<bool>(),
        payload in proptest::collection::vec(any::<u8>(), 0..1400),
    ) {
        let header = OuterHeader { addresses: ends(outer), ident, dont_fragment };
        let packet = packet(inner, traffic_class, &payload);
        let mut frame = vec![0xee; 2000];

        encapsulate(&mut frame, MACS, &header, &packet);

        prop_assert_eq!(&frame, &by_etherparse(&header, inner, traffic_class, &packet));
        prop_assert_eq!(frame.len(), 14 + usize::from(overhead(outer)) + packet.len());
    }

    #[test]
    fn an_error_about_an_outer_packet_tells_of_both_its_ends_and_of_what_is_inside(
        inner in families(),
        outer in families(),
        cut in 34_usize..200,
        mtu in 1280_u16..1500,
        too_big in any::<bool>(),
    ) {
        let header = OuterHeader { addresses: ends(outer), ident: 0, dont_fragment: true };
        let packet = packet(inner, 0, &[7; 100]);
        let mut frame = Vec::new();
        encapsulate(&mut frame, MACS, &header, &packet);
        frame.truncate(frame.len().min(cut + usize::from(overhead(outer))));
        let (kind, complaint) = match too_big {
            true => (ErrorKind::TooBig { mtu }, TunnelError::TooBig { mtu }),
            false => (ErrorKind::TimeExceeded, TunnelError::Unreachable),
        };
        let router = match outer {
            Family::V4 => "10.5.5.5",
            Family::V6 => "fd00:5::5",
        };
        let mut error = icmp::error(kind, &frame, router.parse().unwrap(), MACS.source).unwrap();
        let error = Frame::parse(&mut error, &Offload::NONE).unwrap();

        let read = parse_icmp_error(outer, error.transport_bytes()).unwrap();

        prop_assert_eq!((read.outer_source, read.outer_destination), (header.addresses.source(), header.addresses.destination()));
        prop_assert_eq!(read.error, complaint);
        prop_assert_eq!(read.packet, &frame[14 + usize::from(overhead(outer))..]);
    }

    #[test]
    fn no_message_makes_the_reader_stumble(bytes in proptest::collection::vec(any::<u8>(), 0..120), v6 in any::<bool>()) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let mut message = bytes;
        if let Some(first) = message.first_mut() {
            *first = if v6 { 2 } else { 3 };
        }
        if let Some(read) = parse_icmp_error(family, &message) {
            prop_assert!(message.ends_with(read.packet));
        }
    }
}

#[test]
fn an_error_about_anything_else_is_not_about_a_tunnel() {
    let mut frame = [vec![0; 12], vec![8, 0], packet(Family::V4, 0, b"x")].concat();
    frame[6] = 2;
    let mut error = icmp::error(ErrorKind::NoRoute, &frame, "10.5.5.5".parse().unwrap(), MACS.source).unwrap();
    let error = Frame::parse(&mut error, &Offload::NONE).unwrap();
    assert_eq!(parse_icmp_error(Family::V4, error.transport_bytes()), None);
}

#[test]
fn a_router_that_does_not_tell_its_mtu_is_taken_for_the_narrowest() {
    let mut frame = Vec::new();
    let header = OuterHeader { addresses: ends(Family::V4), ident: 0, dont_fragment: true };
    encapsulate(&mut frame, MACS, &header, &packet(Family::V4, 0, b"x"));
    let error = icmp::error(ErrorKind::TooBig { mtu: 0 }, &frame, "10.5.5.5".parse().unwrap(), MACS.source).unwrap();
    let read = parse_icmp_error(Family::V4, &error[34..]).unwrap();
    assert_eq!(read.error, TunnelError::TooBig { mtu: 576 });
}
