//! Properties that hold for every frame, checked on random and on mutated frames against two other parsers.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pnet_packet::Packet as _;
use pnet_packet::ethernet::EthernetPacket;
use pnet_packet::ip::IpNextHeaderProtocol;
use pnet_packet::ipv4::{self, Ipv4Packet};
use pnet_packet::ipv6::Ipv6Packet;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// One header of an extension header chain.
#[derive(Debug, Clone)]
enum Link {
    DestinationOptions(usize),
    Routing(u8, usize),
    Authentication(usize),
    AtomicFragment,
    FirstFragment,
}

impl Link {
    fn number(&self) -> u8 {
        match self {
            Self::DestinationOptions(_) => 60,
            Self::Routing(..) => 43,
            Self::Authentication(_) => 51,
            Self::AtomicFragment | Self::FirstFragment => 44,
        }
    }

    fn bytes(&self, next: u8) -> Vec<u8> {
        let units = |units: usize, third: u8| {
            let mut header = vec![next, units as u8, third, 0];
            header.resize((units + 1) * 8, 0);
            header
        };
        match *self {
            Self::DestinationOptions(length) => units(length, 1),
            Self::Routing(kind, length) => units(length, kind),
            Self::Authentication(length) => {
                let mut header = vec![next, (length * 2 + 2) as u8, 0, 0];
                header.resize((length * 2 + 4) * 4, 0xaa);
                header
            }
            Self::AtomicFragment => fragment_header(next, 0, false),
            Self::FirstFragment => fragment_header(next, 0, true),
        }
    }
}

/// A chain that a parser must be able to walk, with at most one fragment header.
fn links() -> impl Strategy<Value = (bool, Vec<Link>)> {
    let link = prop_oneof![
        (0_usize..6).prop_map(Link::DestinationOptions),
        (1_u8..5, 0_usize..6).prop_map(|(kind, length)| Link::Routing(kind, length)),
        (0_usize..4).prop_map(Link::Authentication),
        Just(Link::AtomicFragment),
    ];
    (any::<bool>(), vec(link, 0..7), proptest::option::of(any::<prop::sample::Index>())).prop_map(
        |(hop_by_hop, mut links, fragment)| {
            if let Some(at) = fragment {
                links.retain(|link| !matches!(link, Link::AtomicFragment));
                links.insert(at.index(links.len() + 1), Link::FirstFragment);
            }
            (hop_by_hop, links)
        },
    )
}

/// The fields on which both parsers must agree for a frame that is not a fragment after the first.
fn by_etherparse(bytes: &[u8]) -> Option<(u8, u16, u16, bool)> {
    let packet = SlicedPacket::from_ethernet(bytes).ok()?;
    let payload = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => ip.payload().clone(),
        Some(NetSlice::Ipv6(ip)) => ip.payload().clone(),
        Some(NetSlice::Arp(_)) | None => return None,
    };
    let (source, destination) = match (&packet.transport, payload.ip_number.0) {
        (Some(TransportSlice::Tcp(tcp)), _) => (tcp.source_port(), tcp.destination_port()),
        (Some(TransportSlice::Udp(udp)), _) => (udp.source_port(), udp.destination_port()),
        // `etherparse` does not read the transport header of fragments.
        (None, 6 | 17) if payload.fragmented => {
            let ports = payload.payload.first_chunk::<4>()?;
            (u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]]))
        }
        _ => return None,
    };
    Some((payload.ip_number.0, source, destination, payload.fragmented))
}

/// Calls every accessor of a frame, and compares those that must agree.
fn read_everything(frame: &Frame<'_>) {
    assert!(frame.bytes().len() >= 14);
    let _ = (frame.source_mac(), frame.destination_mac(), frame.ethertype());
    if frame.kind() != FrameKind::Ip {
        return;
    }
    let tuple = frame.tuple();
    assert_eq!(
        (tuple.source, tuple.destination, tuple.protocol),
        (frame.source(), frame.destination(), frame.protocol())
    );
    assert_eq!(frame.ip_bytes().len(), frame.ip_len());
    assert!(frame.ip_len() + 14 <= frame.bytes().len());
    assert_eq!(frame.is_fragment(), frame.fragment_range().is_some());
    if let Some(range) = frame.fragment_range() {
        assert!(range.length > 0 && range.offset % 8 == 0);
        assert_eq!(range.last, !frame.more_fragments());
        assert_eq!(range.offset == 0, matches!(frame.fragment(), Fragment::First { .. }));
    }
    if let Some(segment) = frame.tcp() {
        assert!(segment.length as usize <= frame.transport_bytes().len());
    }
    if frame.icmp() == Some(IcmpClass::Query) {
        assert_eq!(tuple.source_port, tuple.destination_port);
    }
    let _ = (frame.ttl(), frame.is_multicast_or_broadcast(), frame.dont_fragment());
}

/// The frames that are mutated: one of every kind that the parser distinguishes.
fn seeds() -> Vec<Vec<u8>> {
    let quoted = v4(17, &udp(8)).split_off(14);
    let quoted_v6 = v6(0, &chain(&[&extension(6), &tcp(0x10, 0)])).split_off(14);
    vec![
        v4(17, &udp(20)),
        v4(6, &tcp(0x10, 20)),
        v4_with(0, &[148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0], 6, &tcp(0x02, 4)),
        v4_with(0x2000, &[], 17, &udp(1000)[..64]),
        v4_with(0x0010, &[], 17, &[0; 40]),
        v4(1, &icmp_v4(8, &[0x12, 0x34, 0, 1, 1, 2, 3])),
        v4(1, &icmp_v4(3, &[&[0; 4][..], &quoted].concat())),
        v4(132, &[0; 20]),
        v6(17, &udp(20)),
        v6(6, &tcp(0x10, 20)),
        v6(0, &chain(&[&extension(60), &extension(43), &extension(44), &fragment_header(17, 0, false), &udp(9)])),
        v6(44, &chain(&[&fragment_header(6, 0, true), &tcp(0x10, 20)])),
        v6(44, &chain(&[&fragment_header(6, 1480, false), &[0; 30]])),
        v6(58, &icmp_v6(128, &[0x12, 0x34, 0, 1, 1, 2, 3])),
        v6(58, &icmp_v6(2, &[&[0; 4][..], &quoted_v6].concat())),
        ethernet(ethertype::ARP, &[0; 28]),
        ethernet(0x0026, &[0; 38]),
    ]
}

#[derive(Debug, Clone)]
enum Mutation {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Truncate(prop::sample::Index),
    Extend(Vec<u8>),
}

/// A frame with a few bytes changed. Half the time the IPv4 header checksum is recomputed, so that later checks are
/// reached.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let mutation = prop_oneof![
        4 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, value)| Mutation::Set(at, value)),
        4 => (any::<prop::sample::Index>(), 0_u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        1 => any::<prop::sample::Index>().prop_map(Mutation::Truncate),
        1 => vec(any::<u8>(), 0..60).prop_map(Mutation::Extend),
    ];
    (prop::sample::select(seeds()), vec(mutation, 0..5), any::<bool>()).prop_map(|(mut bytes, mutations, heal)| {
        for mutation in mutations {
            match mutation {
                _ if bytes.is_empty() => {}
                Mutation::Set(at, value) => *at.get_mut(&mut bytes) = value,
                Mutation::Flip(at, bit) => *at.get_mut(&mut bytes) ^= 1 << bit,
                Mutation::Truncate(at) => bytes.truncate(at.index(bytes.len())),
                Mutation::Extend(more) => bytes.extend(more),
            }
        }
        if heal && bytes.len() >= 34 && bytes[14] >> 4 == 4 && bytes.len() >= 14 + usize::from(bytes[14] & 0x0f) * 4 {
            let header_len = usize::from(bytes[14] & 0x0f) * 4;
            if header_len >= 20 {
                mend(&mut bytes);
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn extension_headers_are_walked_as_a_second_parser_walks_them(
        (hop_by_hop, links) in links(), is_tcp: bool, payload_len in 0_usize..40,
    ) {
        let transport = if is_tcp { tcp(0x10, payload_len * 8 + 4) } else { udp(payload_len * 8) };
        let mut payload = transport;
        let mut next = if is_tcp { 6 } else { 17 };
        for link in links.iter().rev() {
            payload.splice(0..0, link.bytes(next));
            next = link.number();
        }
        if hop_by_hop {
            payload.splice(0..0, extension(next));
            next = 0;
        }
        let mut bytes = v6(next, &payload);
        let theirs = by_etherparse(&bytes);
        let frame = parse(&mut bytes).expect("at most 8 headers, and a first fragment of a multiple of 8 bytes");
        let tuple = frame.tuple();
        let ours = (tuple.protocol, tuple.source_port, tuple.destination_port, frame.is_fragment());
        prop_assert_eq!(Some(ours), theirs);
    }

    #[test]
    fn no_wound_makes_the_parser_panic_and_what_two_parsers_accept_they_read_alike(bytes in mutated()) {
        let mut copy = bytes.clone();
        let Ok(frame) = parse(&mut copy) else { return Ok(()) };
        read_everything(&frame);
        // For IPv4 `etherparse` skips authentication headers, which have no ports here.
        let comparable = frame.kind() == FrameKind::Ip
            && protocol::has_ports(frame.protocol())
            && !matches!(frame.fragment(), Fragment::Later { .. });
        if let (true, Some(theirs)) = (comparable, by_etherparse(&bytes)) {
            let tuple = frame.tuple();
            let ours = (tuple.protocol, tuple.source_port, tuple.destination_port, frame.is_fragment());
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn no_noise_makes_the_parser_panic(noise in vec(any::<u8>(), 0..200), ethertype in 0_usize..4) {
        let mut bytes = noise;
        if bytes.len() > 14 {
            let (ethertype, version) = [(0x0800_u16, 0x45), (0x86dd, 0x60), (0x0800, 0x4f), (0x1234, 0)][ethertype];
            bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
            bytes[14] = version;
        }
        if let Ok(frame) = parse(&mut bytes) {
            read_everything(&frame);
        }
    }

    /// Bytes after the IP packet change nothing that the accessors return.
    #[test]
    fn bytes_after_the_packet_are_never_read(bytes in mutated(), garbage in vec(any::<u8>(), 1..40)) {
        let mut alone = bytes;
        let Ok(frame) = parse(&mut alone) else { return Ok(()) };
        if frame.kind() != FrameKind::Ip {
            return Ok(());
        }
        let end = 14 + frame.ip_len();
        let mut padded = [&frame.bytes()[..end], &garbage].concat();
        let other = parse(&mut padded).expect("the same packet");
        prop_assert_eq!(
            (frame.tuple(), frame.tcp(), frame.icmp(), frame.fragment_range(), frame.ip_bytes()),
            (other.tuple(), other.tcp(), other.icmp(), other.fragment_range(), other.ip_bytes())
        );
    }

    /// An edited frame stays legal and keeps its tuple, and another parser finds its checksum right.
    #[test]
    fn an_edited_frame_is_still_legal(bytes in mutated()) {
        let mut bytes = bytes;
        let Ok(mut frame) = parse(&mut bytes) else { return Ok(()) };
        if frame.kind() != FrameKind::Ip || frame.ttl() < 2 {
            return Ok(());
        }
        let (tuple, ttl) = (frame.tuple(), frame.ttl());
        frame.set_macs(DESTINATION, SOURCE);
        frame.decrement_ttl();
        let frame = parse(&mut bytes).expect("an edit breaks nothing");
        prop_assert_eq!((frame.tuple(), frame.ttl()), (tuple, ttl - 1));
        if frame.family() == Family::V4 {
            let packet = Ipv4Packet::new(frame.ip_bytes()).expect("a second parser reads it");
            prop_assert_eq!(packet.get_checksum(), ipv4::checksum(&packet));
        }
    }

    #[test]
    fn a_second_parser_reads_the_same_addresses_lengths_and_ttl(bytes in mutated()) {
        let mut copy = bytes.clone();
        let Ok(frame) = parse(&mut copy) else { return Ok(()) };
        let ethernet = EthernetPacket::new(&bytes).expect("at least a header");
        prop_assert_eq!(frame.source_mac().0, <[u8; 6]>::from(ethernet.get_source()));
        if frame.kind() != FrameKind::Ip {
            return Ok(());
        }
        match frame.family() {
            Family::V4 => {
                let packet = Ipv4Packet::new(ethernet.payload()).expect("parsed by us");
                prop_assert_eq!(frame.source(), IpAddr::from(packet.get_source()));
                prop_assert_eq!(frame.destination(), IpAddr::from(packet.get_destination()));
                prop_assert_eq!((frame.ttl(), frame.ip_len()), (packet.get_ttl(), packet.get_total_length().into()));
                prop_assert_eq!(IpNextHeaderProtocol(frame.protocol()), packet.get_next_level_protocol());
                prop_assert_eq!(frame.dont_fragment(), packet.get_flags() & 2 != 0);
                let range = frame.fragment_range();
                prop_assert_eq!(range.map_or(0, |range| range.offset / 8), packet.get_fragment_offset());
                prop_assert_eq!(range.is_some_and(|range| !range.last), packet.get_flags() & 1 != 0);
            }
            Family::V6 => {
                let packet = Ipv6Packet::new(ethernet.payload()).expect("parsed by us");
                prop_assert_eq!(frame.source(), IpAddr::from(packet.get_source()));
                prop_assert_eq!(frame.destination(), IpAddr::from(packet.get_destination()));
                prop_assert_eq!(frame.ttl(), packet.get_hop_limit());
                prop_assert_eq!(frame.ip_len(), 40 + usize::from(packet.get_payload_length()));
            }
        }
    }
}
