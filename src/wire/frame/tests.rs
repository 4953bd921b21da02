//! Parsing of frames that are built byte by byte.

mod chains;
mod icmp;
mod laws;
mod malformed;

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::wire::checksum;
use crate::wire::offload::{Gso, GsoKind, Offload, PartialChecksum};

const SOURCE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const DESTINATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const A4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const B4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x80, 0, 0, 0, 0, 0x80);

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&DESTINATION.0[..], &SOURCE.0, &ethertype.to_be_bytes(), payload].concat()
}

/// An IPv4 frame with `options` (a multiple of 4 bytes) and `field` as its flags and fragment offset.
fn v4_with(field: u16, options: &[u8], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let mut header = vec![0x40 | (header_len / 4) as u8, 0x28];
    header.extend(((header_len + payload.len()) as u16).to_be_bytes());
    header.extend([0x12, 0x34]);
    header.extend(field.to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend(A4.octets());
    header.extend(B4.octets());
    header.extend(options);
    let mut frame = ethernet(ethertype::IPV4, &[&header, payload].concat());
    mend(&mut frame);
    frame
}

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    v4_with(0x4000, &[], protocol, payload)
}

/// Recomputes the IPv4 header checksum.
fn mend(frame: &mut [u8]) {
    let header_len = usize::from(frame[14] & 0x0f) * 4;
    frame[24..26].fill(0);
    let checksum = checksum::checksum(&frame[14..14 + header_len]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((payload.len() as u16).to_be_bytes());
    header.extend([next, 64]);
    header.extend(A6.octets());
    header.extend(B6.octets());
    ethernet(ethertype::IPV6, &[&header, payload].concat())
}

fn udp(payload_len: usize) -> Vec<u8> {
    let mut datagram = vec![0x9c, 0x40, 0x00, 0x35];
    datagram.extend(((8 + payload_len) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.resize(8 + payload_len, 0x61);
    datagram
}

fn tcp(flags: u8, payload_len: usize) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
    segment.resize(20 + payload_len, 0x61);
    segment
}

fn parse(bytes: &mut [u8]) -> Result<Frame<'_>, Malformed> {
    Frame::parse(bytes, &Offload::NONE)
}

fn icmp_v4(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], body].concat();
    let checksum = checksum::checksum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

fn icmp_v6(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], body].concat();
    let pseudo = checksum::pseudo_header(A6.into(), B6.into(), 58, message.len() as u32);
    let checksum = !checksum::add(pseudo, checksum::sum(&message));
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// An extension header of 8 bytes.
fn extension(next: u8) -> Vec<u8> {
    vec![next, 0, 1, 4, 0, 0, 0, 0]
}

fn fragment_header(next: u8, offset: u16, more: bool) -> Vec<u8> {
    let field = offset | u16::from(more);
    [&[next, 0][..], &field.to_be_bytes(), &[0, 0, 0x56, 0x78]].concat()
}

fn chain(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Changes a byte of a frame and recomputes the IPv4 header checksum.
fn with(mut frame: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    frame[at] = value;
    if frame[12..14] == [0x08, 0x00] && frame[14] == frame[14] & 0x4f | 0x40 && frame.len() >= 34 {
        let header_len = usize::from(frame[14] & 0x0f) * 4;
        if header_len >= 20 && 14 + header_len <= frame.len() {
            mend(&mut frame);
        }
    }
    frame
}

fn cut(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.truncate(length);
    frame
}

#[test]
fn an_ipv4_udp_frame_reads_as_built() {
    let mut bytes = v4(17, &udp(5));
    let frame = parse(&mut bytes).unwrap();

    assert_eq!(frame.kind(), FrameKind::Ip);
    assert_eq!((frame.source_mac(), frame.destination_mac()), (SOURCE, DESTINATION));
    assert_eq!((frame.family(), frame.ttl(), frame.ip_len(), frame.dont_fragment()), (Family::V4, 64, 33, true));
    assert_eq!(
        frame.tuple(),
        Tuple { protocol: 17, source: A4.into(), source_port: 40000, destination: B4.into(), destination_port: 53 }
    );
    assert_eq!((frame.fragment(), frame.fragment_range()), (Fragment::Whole, None));
    assert_eq!((frame.tcp(), frame.icmp()), (None, None));
}

#[test]
fn an_ipv6_tcp_frame_reads_as_built() {
    let mut bytes = v6(6, &tcp(tcp_flags::SYN | tcp_flags::FIN, 3));
    let frame = parse(&mut bytes).unwrap();

    assert_eq!((frame.family(), frame.ttl(), frame.ip_len(), frame.dont_fragment()), (Family::V6, 64, 63, true));
    assert_eq!(
        frame.tuple(),
        Tuple { protocol: 6, source: A6.into(), source_port: 40000, destination: B6.into(), destination_port: 443 }
    );
    assert_eq!(frame.tcp(), Some(TcpSegment { flags: 3, sequence: 7, acknowledgement: 9, length: 5 }));
}

#[test]
fn padding_is_neither_payload_nor_checksum_nor_length() {
    let mut bytes = v4(1, &icmp_v4(8, &[0x12, 0x34, 0, 1]));
    bytes.resize(60, 0xee);
    let frame = parse(&mut bytes).unwrap();
    assert_eq!((frame.ip_len(), frame.ip_bytes().len(), frame.transport_bytes().len()), (28, 28, 8));

    let mut bytes = v6(6, &tcp(0x10, 0));
    bytes.resize(80, 0xee);
    assert_eq!(parse(&mut bytes).unwrap().tcp().unwrap().length, 0);
}

#[test]
fn ports_lie_behind_ipv4_options() {
    for options in [&[][..], &[1; 4], &[1; 40]] {
        let mut bytes = v4_with(0, options, 6, &tcp(0x12, 9));
        let frame = parse(&mut bytes).unwrap();
        assert_eq!((frame.tuple().source_port, frame.tuple().destination_port), (40000, 443));
        assert_eq!(frame.tcp().unwrap().length, 10);
        assert!(!frame.dont_fragment());
    }
}

#[test]
fn protocols_with_ports_show_them_and_others_do_not() {
    let payload = [udp(20), vec![0; 12]].concat();
    for protocol in 0..=255 {
        let mut bytes = v4(protocol, &payload);
        let expected = match protocol {
            17 | 33 | 132 | 136 => (40000, 53),
            _ => (0, 0),
        };
        match protocol {
            1 | 6 => {}
            _ => {
                let frame = parse(&mut bytes).unwrap_or_else(|malformed| panic!("protocol {protocol}: {malformed}"));
                let tuple = frame.tuple();
                assert_eq!((tuple.source_port, tuple.destination_port), expected, "protocol {protocol}");
                assert_eq!((tuple.protocol, frame.icmp(), frame.tcp()), (protocol, None, None));
            }
        }
    }
}

#[test]
fn a_super_frame_of_64_kib_is_a_frame() {
    let offload = Offload {
        partial: Some(PartialChecksum { start: 34, offset: 16 }),
        gso: Some(Gso { kind: GsoKind::Tcp4, ecn: false, size: 1448, header_len: 54 }),
        verified: false,
    };
    let mut bytes = v4(6, &tcp(0x18, 65535 - 40));
    assert_eq!(bytes.len(), 65_549);
    let frame = Frame::parse(&mut bytes, &offload).unwrap();
    assert_eq!((frame.ip_len(), frame.tcp().unwrap().length), (65_535, 65_495));

    let mut bytes = v6(6, &tcp(0x18, 65535 - 20));
    let frame = Frame::parse(&mut bytes, &offload).unwrap();
    assert_eq!((frame.ip_len(), frame.tcp().unwrap().length), (65_575, 65_515));
}

#[test]
fn an_edit_changes_macs_ttl_and_header_checksum_and_no_other_byte() {
    for original in [v4_with(0x8000, &[148, 4, 0, 0], 17, &udp(7)), v6(17, &udp(7))] {
        let mut bytes = original.clone();
        let mut frame = parse(&mut bytes).unwrap();
        let v4 = frame.family() == Family::V4;

        frame.set_macs(MacAddr([2, 9, 9, 9, 9, 1]), MacAddr([2, 9, 9, 9, 9, 2]));
        frame.decrement_ttl();

        assert_eq!(frame.source_mac(), MacAddr([2, 9, 9, 9, 9, 1]));
        assert_eq!(frame.destination_mac(), MacAddr([2, 9, 9, 9, 9, 2]));
        assert_eq!(frame.ttl(), 63);
        let changed: Vec<usize> = (14..bytes.len()).filter(|&at| bytes[at] != original[at]).collect();
        assert_eq!(changed, if v4 { vec![22, 24] } else { vec![21] });
        assert!(parse(&mut bytes).is_ok(), "the header checksum is right");
    }
}

#[test]
fn groups_are_told_from_hosts() {
    for (address, expected) in
        [([224, 0, 0, 18], true), ([239, 255, 255, 255], true), ([255; 4], true), ([240, 0, 0, 1], false)]
    {
        let mut bytes = v4(17, &udp(0));
        bytes[30..34].copy_from_slice(&address);
        mend(&mut bytes);
        assert_eq!(parse(&mut bytes).unwrap().is_multicast_or_broadcast(), expected, "{address:?}");
    }
    let mut bytes = v6(17, &udp(0));
    assert!(!parse(&mut bytes).unwrap().is_multicast_or_broadcast());
    bytes[38] = 0xff;
    assert!(parse(&mut bytes).unwrap().is_multicast_or_broadcast());
}
