use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::wire::checksum;
use crate::wire::offload::Offload;

const SOURCE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const DESTINATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const A4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const B4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x80, 0, 0, 0, 0, 0x80);

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&DESTINATION.0[..], &SOURCE.0, &ethertype.to_be_bytes(), payload].concat()
}

/// An IPv4 frame with `options` (a multiple of 4 bytes), the flags-and-offset field as given.
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

/// Puts the IPv4 header checksum right again.
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

#[test]
fn an_ipv4_udp_frame_reads_as_built() {
    let mut bytes = v4(17, &udp(5));
    let frame = parse(&mut bytes).unwrap();

    assert_eq!(frame.payload(), Payload::Ip);
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
