//! Segments compared with another parser, and segments inside tunnels compared with segments that are encapsulated one
//! by one.

use std::net::IpAddr;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::wire::MacAddr;
use crate::wire::emit::{self, AddressPair, MacPair};
use crate::wire::offload::Gso;

fn super_frame(v6: bool, tcp: bool, payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip =
        if v6 { ethernet.ipv6([0x20; 16], [0x21; 16], 64) } else { ethernet.ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64) };
    let mut bytes = Vec::new();
    if tcp {
        ip.tcp(4000, 80, 0xffff_ff00, 500).ack(7).psh().fin().write(&mut bytes, payload).unwrap();
        let flags = if v6 { 54 + 13 } else { 34 + 13 };
        bytes[flags] |= CWR;
    } else {
        ip.udp(4000, 443).write(&mut bytes, payload).unwrap();
    }
    bytes
}

proptest! {
    #[test]
    fn segments_carry_the_bytes_of_the_super_frame_in_order_under_right_checksums(
        v6 in any::<bool>(),
        tcp in any::<bool>(),
        payload in proptest::collection::vec(any::<u8>(), 1..9000),
        size in 1_u16..1500,
    ) {
        let kind = match (tcp, v6) {
            (true, false) => GsoKind::Tcp4,
            (true, true) => GsoKind::Tcp6,
            (false, _) => GsoKind::UdpSegments,
        };
        let mut bytes = super_frame(v6, tcp, &payload);
        let frame = Frame::parse(&mut bytes, &Offload::NONE).unwrap();
        let segments = segments(&frame, None, kind, size).unwrap();

        prop_assert_eq!(segments.len(), payload.len().div_ceil(usize::from(size)));
        let mut carried = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            // The parser would have refused the frame if its lengths did not fit.
            let sliced = SlicedPacket::from_ethernet(segment).unwrap();
            let net = sliced.net.as_ref().unwrap();
            let (is_first, is_last) = (index == 0, index + 1 == segments.len());
            match sliced.transport.as_ref().unwrap() {
                TransportSlice::Tcp(read) => {
                    prop_assert_eq!(read.sequence_number(), 0xffff_ff00_u32.wrapping_add(carried.len() as u32));
                    prop_assert_eq!((read.cwr(), read.psh(), read.fin(), read.ack()), (is_first, is_last, is_last, true));
                    let header = read.to_header();
                    let expected = match net {
                        etherparse::NetSlice::Ipv4(ip) => {
                            prop_assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
                            prop_assert_eq!(usize::from(ip.header().identification()), index);
                            header.calc_checksum_ipv4(&ip.header().to_header(), read.payload()).unwrap()
                        }
                        etherparse::NetSlice::Ipv6(ip) => {
                            header.calc_checksum_ipv6(&ip.header().to_header(), read.payload()).unwrap()
                        }
                        etherparse::NetSlice::Arp(_) => unreachable!("it is IP"),
                    };
                    prop_assert_eq!(read.checksum() % 0xffff, expected % 0xffff);
                    carried.extend_from_slice(read.payload());
                }
                TransportSlice::Udp(read) => {
                    let header = read.to_header();
                    let expected = match net {
                        etherparse::NetSlice::Ipv4(ip) => {
                            header.calc_checksum_ipv4(&ip.header().to_header(), read.payload()).unwrap()
                        }
                        etherparse::NetSlice::Ipv6(ip) => {
                            header.calc_checksum_ipv6(&ip.header().to_header(), read.payload()).unwrap()
                        }
                        etherparse::NetSlice::Arp(_) => unreachable!("it is IP"),
                    };
                    prop_assert_eq!(read.checksum(), expected);
                    carried.extend_from_slice(read.payload());
                }
                other => prop_assert!(false, "neither TCP nor UDP: {other:?}"),
            }
        }
        prop_assert_eq!(carried, payload);
    }
}

#[test]
fn what_is_not_what_it_says_is_refused() {
    let mut bytes = super_frame(false, true, &[1; 100]);
    let frame = Frame::parse(&mut bytes, &Offload::NONE).unwrap();
    for (kind, size) in [(GsoKind::UdpSegments, 10), (GsoKind::UdpFragments, 10), (GsoKind::Tcp4, 0)] {
        assert_eq!(segments(&frame, None, kind, size), Err(NotSegmentable { protocol: 6, kind, size }));
    }
}

const MACS: MacPair = MacPair { source: MacAddr([2, 0, 0, 0, 0, 1]), destination: MacAddr([2, 0, 0, 0, 0, 2]) };

/// A way to encapsulate an IP packet. Its identifications are those of segment number `index`.
#[derive(Debug, Clone, Copy)]
enum Tunnel {
    /// UDP, then this many bytes of a tunnel header, then an Ethernet header with or without a VLAN tag, or none.
    Udp {
        port: u16,
        header: usize,
        ethernet: Option<bool>,
        with_checksum: bool,
    },
    Gre {
        key: bool,
        with_checksum: bool,
        ethernet: bool,
    },
    InIp,
}

const TUNNELS: [Tunnel; 13] = [
    // VXLAN with a UDP checksum, and with a VLAN tag inside.
    Tunnel::Udp { port: 4789, header: 8, ethernet: Some(false), with_checksum: false },
    Tunnel::Udp { port: 4789, header: 8, ethernet: Some(false), with_checksum: true },
    Tunnel::Udp { port: 4789, header: 8, ethernet: Some(true), with_checksum: false },
    // GENEVE without options, and with the most options.
    Tunnel::Udp { port: 6081, header: 8, ethernet: Some(false), with_checksum: true },
    Tunnel::Udp { port: 6081, header: 260, ethernet: Some(true), with_checksum: false },
    // VXLAN-GPE or GUE, and FOU.
    Tunnel::Udp { port: 4790, header: 8, ethernet: None, with_checksum: true },
    Tunnel::Udp { port: 5555, header: 0, ethernet: None, with_checksum: false },
    Tunnel::Gre { key: false, with_checksum: false, ethernet: false },
    Tunnel::Gre { key: true, with_checksum: false, ethernet: false },
    Tunnel::Gre { key: true, with_checksum: true, ethernet: false },
    Tunnel::Gre { key: false, with_checksum: true, ethernet: true },
    Tunnel::Gre { key: false, with_checksum: false, ethernet: true },
    Tunnel::InIp,
];

fn ends(v6: bool) -> AddressPair {
    let of = |v4: [u8; 4], v6: [u8; 16], is_v6: bool| if is_v6 { IpAddr::from(v6) } else { IpAddr::from(v4) };
    AddressPair::new(of([10, 0, 0, 1], [0xfd; 16], v6), of([10, 0, 0, 2], [0xfe; 16], v6)).unwrap()
}

impl Tunnel {
    fn pack(self, v6: bool, packet: &[u8], index: u16) -> Vec<u8> {
        let is_v6 = packet[0] >> 4 == 6;
        let kind: u16 = if is_v6 { 0x86dd } else { 0x0800 };
        let with_ethernet = |tagged: bool| {
            let mut bytes = vec![0x0a; 12];
            if tagged {
                bytes.extend([0x81, 0, 0, 7]);
            }
            bytes.extend(kind.to_be_bytes());
            bytes.extend(packet);
            bytes
        };
        let (number, message) = match self {
            Self::Udp { port, header, ethernet, with_checksum } => {
                let mut payload: Vec<u8> =
                    (0..header).map(|at| if at == 0 { 0x08 } else { 0x40 | (at as u8 & 0x25) }).collect();
                payload.extend(ethernet.map_or_else(|| packet.to_vec(), with_ethernet));
                // The transport header and payload are taken from a frame that another function builds whole.
                let frame = emit::udp(MACS, ends(v6), 50_000, port, &payload);
                let mut message = frame[frame.len() - payload.len() - 8..].to_vec();
                if !with_checksum {
                    message[6..8].fill(0);
                }
                (17, message)
            }
            Self::Gre { key, with_checksum, ethernet } => {
                let flags = if with_checksum { 0x8000 } else { 0 } | if key { 0x2000_u16 } else { 0 };
                let mut message = flags.to_be_bytes().to_vec();
                message.extend(if ethernet { [0x65, 0x58] } else { kind.to_be_bytes() });
                if with_checksum {
                    message.extend([0; 4]);
                }
                if key {
                    message.extend([0, 0, 0, 5]);
                }
                message.extend(if ethernet { with_ethernet(false) } else { packet.to_vec() });
                if with_checksum {
                    let sum = pnet_packet::util::checksum(&message, 2);
                    message[4..6].copy_from_slice(&sum.to_be_bytes());
                }
                (47, message)
            }
            Self::InIp => (if is_v6 { 41 } else { 4 }, packet.to_vec()),
        };
        let mut frame = emit::ip(MACS, ends(v6), number, 64, message.len(), |bytes| bytes.copy_from_slice(&message));
        if !v6 {
            frame[18..20].copy_from_slice(&(0xfffe_u16.wrapping_add(index)).to_be_bytes());
            frame[24..26].fill(0);
            let sum = pnet_packet::util::checksum(&frame[14..34], 5);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        frame
    }
}

/// The inner super-frame, and the outer one with the offload state that the kernel would give.
fn in_tunnels(tunnels: &[Tunnel], outer_v6: bool, inner: &[u8], tcp: bool, size: u16) -> (Vec<u8>, Offload, GsoKind) {
    let v6 = inner[14] >> 4 == 6;
    let kind = match (tcp, v6) {
        (true, false) => GsoKind::Tcp4,
        (true, true) => GsoKind::Tcp6,
        (false, _) => GsoKind::UdpSegments,
    };
    let packed = packed(tunnels, outer_v6, &inner[14..], 0);
    let start = packed.len() - inner.len() + if v6 { 54 } else { 34 };
    let partial = PartialChecksum { start: start as u16, offset: if tcp { 16 } else { 6 } };
    let gso = Gso { kind, ecn: false, size, header_len: 0 };
    (packed, Offload { partial: Some(partial), gso: Some(gso), verified: false }, kind)
}

/// The packet encapsulated in these tunnels, of which the innermost comes first.
fn packed(tunnels: &[Tunnel], outer_v6: bool, packet: &[u8], index: u16) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    let mut frame = Vec::new();
    for tunnel in tunnels {
        frame = tunnel.pack(outer_v6, &bytes, index);
        bytes = frame[14..].to_vec();
    }
    frame
}

fn tunnels() -> impl Strategy<Value = Vec<Tunnel>> {
    proptest::collection::vec(proptest::sample::select(TUNNELS.to_vec()), 1..3)
}

proptest! {
    /// The payload sometimes contains bytes that look like headers, copied from real ones.
    #[test]
    fn segmenting_what_is_inside_a_tunnel_equals_packing_the_segments_one_by_one(
        tunnels in tunnels(), outer_v6 in any::<bool>(), v6 in any::<bool>(), tcp in any::<bool>(),
        payload in proptest::collection::vec(any::<u8>(), 1..6000), size in 100_u16..1500,
    ) {
        let mut inner = super_frame(v6, tcp, &payload);
        let (mut whole, offload, kind) = in_tunnels(&tunnels, outer_v6, &inner, tcp, size);
        let frame = Frame::parse(&mut whole, &offload).unwrap();
        prop_assert!(needs_software_segmentation(&frame, &offload));
        let largest = largest_segment_len(&frame, offload.partial, kind, size).unwrap();
        let inside = segments(&frame, offload.partial, kind, size).unwrap();

        let plain = segments(&Frame::parse(&mut inner, &Offload::NONE).unwrap(), None, kind, size).unwrap();
        prop_assert_eq!(inside.len(), plain.len());
        prop_assert_eq!(largest + 14, inside[0].len());
        for (index, (inside, plain)) in inside.iter().zip(&plain).enumerate() {
            prop_assert_eq!(inside, &packed(&tunnels, outer_v6, &plain[14..], index as u16), "segment {} in {:?}", index, tunnels);
        }
    }

    #[test]
    fn no_bytes_and_no_offload_state_make_it_panic_or_search_for_long(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000), start in any::<u16>(), size in any::<u16>(), kind in 0_usize..4,
        v6 in any::<bool>(), tunnel in 0_usize..TUNNELS.len(), at in any::<proptest::sample::Index>(), value in any::<u8>(),
    ) {
        let kind = [GsoKind::Tcp4, GsoKind::Tcp6, GsoKind::UdpSegments, GsoKind::UdpFragments][kind];
        // Something like a tunnel, with some bytes damaged.
        let mut frame = TUNNELS[tunnel].pack(v6, &[&[if v6 { 0x60 } else { 0x45 }][..], &bytes].concat(), 0);
        *at.get_mut(&mut frame) = value;
        for start in [start, start % 200] {
            let partial = Some(PartialChecksum { start, offset: 16 });
            if let Ok(frame) = Frame::parse(&mut frame, &Offload::NONE) {
                let _ = (segments(&frame, partial, kind, size), largest_segment_len(&frame, partial, kind, size));
            }
        }
    }
}

#[test]
fn what_a_device_segments_is_not_segmented_here() {
    let mut bytes = super_frame(false, true, &[1; 3000]);
    let frame = Frame::parse(&mut bytes, &Offload::NONE).unwrap();
    let gso = |kind| Some(Gso { kind, ecn: false, size: 1000, header_len: 54 });
    let state = |kind, start: Option<u16>| Offload {
        gso: gso(kind),
        partial: start.map(|start| PartialChecksum { start, offset: 16 }),
        verified: false,
    };
    for (offload, ours) in [
        (Offload::NONE, false),
        (state(GsoKind::Tcp4, Some(34)), false),
        (state(GsoKind::Tcp4, None), false),
        (state(GsoKind::UdpFragments, Some(34)), false),
        (state(GsoKind::UdpSegments, Some(34)), false),
        // The kernel does not segment UDP whose checksum was not left to it.
        (state(GsoKind::UdpSegments, None), true),
        (state(GsoKind::Tcp4, Some(84)), true),
    ] {
        assert_eq!(needs_software_segmentation(&frame, &offload), ours, "{offload:?}");
    }
}

#[test]
fn tunnels_whose_segments_would_not_be_alike_are_refused() {
    let inner = super_frame(false, true, &[1; 3000]);
    let gre = Tunnel::Gre { key: false, with_checksum: false, ethernet: false };
    let (whole, offload, kind) = in_tunnels(&[gre], false, &inner, true, 1000);
    let refused = |edit: fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        edit(&mut bytes);
        let frame = Frame::parse(&mut bytes, &offload).unwrap();
        segments(&frame, offload.partial, kind, 1000).is_err()
    };
    assert!(!refused(|_| {}));
    assert!(refused(|bytes| bytes[34] |= 0x10), "GRE with a sequence number");
    assert!(refused(|bytes| bytes[35] |= 1), "another version of GRE");
    assert!(refused(|bytes| bytes[36..38].copy_from_slice(&[0x88, 0xbe])), "ERSPAN");
    assert!(refused(|bytes| bytes[38 + 9] = 50), "ESP inside");
    assert!(refused(|bytes| bytes[38 + 3] ^= 1), "the length of the packet inside is another");
}
