//! Segmentation in software: what a device would make of a super-frame, where no device can (inside a tunnel).

use crate::wire::checksum;
use crate::wire::frame::{ETHERNET_LEN, Frame, IPV6_LEN, TCP_LEN, UDP_LEN, protocol, tcp_flags};
use crate::wire::offload::GsoKind;
use crate::wire::{Family, frame};

/// CWR: the sender has halved its window. Said once, by the first segment (RFC 3168 section 6.1.2).
const CWR: u8 = 0x80;

/// The frame is not what its offload state says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of protocol {protocol} cannot be segmented as {kind:?} of {size} bytes")]
pub struct NotSegmentable {
    /// What it carries.
    pub protocol: u8,
    /// What it is said to be.
    pub kind: GsoKind,
    /// Payload bytes of each segment.
    pub size: u16,
}

/// The frames that a super-frame stands for, each with at most `size` bytes of payload and complete checksums.
///
/// As Linux does it: sequence numbers and IPv4 identifications count on, FIN and PSH are said by the last segment alone, CWR
/// by the first.
pub fn segments(frame: &Frame<'_>, kind: GsoKind, size: u16) -> Result<Vec<Vec<u8>>, NotSegmentable> {
    let refused = NotSegmentable { protocol: frame.protocol(), kind, size };
    let whole = &frame.bytes()[..ETHERNET_LEN + frame.ip_len()];
    let transport = frame.transport_offset();
    let (number, header_len) = match kind {
        GsoKind::Tcp4 | GsoKind::Tcp6 => {
            let words = whole.get(transport + 12).ok_or(refused)? >> 4;
            (protocol::TCP, usize::from(words) * 4)
        }
        GsoKind::UdpSegments => (protocol::UDP, UDP_LEN),
        // One datagram, for IP to cut.
        GsoKind::UdpFragments => return Err(refused),
    };
    let is_tcp = number == protocol::TCP;
    let headers_len = transport + header_len;
    if frame.protocol() != number
        || frame.is_fragment()
        || size == 0
        || headers_len > whole.len()
        || (is_tcp && header_len < TCP_LEN)
    {
        return Err(refused);
    }
    let (headers, payload) = whole.split_at(headers_len);
    let count = payload.len().div_ceil(usize::from(size)).max(1);
    let segment = |index: usize| {
        let start = index * usize::from(size);
        let data = &payload[start..payload.len().min(start + usize::from(size))];
        let mut bytes = Vec::with_capacity(headers.len() + data.len());
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(data);
        finish_ip(&mut bytes, frame.family(), index as u16);
        let transport_header = &mut bytes[transport..];
        if is_tcp {
            finish_tcp(transport_header, start as u32, index == 0, index + 1 == count);
        } else {
            let length = transport_header.len() as u16;
            transport_header[4..6].copy_from_slice(&length.to_be_bytes());
        }
        finish_checksum(&mut bytes, frame, transport, is_tcp);
        bytes
    };
    Ok((0..count).map(segment).collect())
}

/// Length, identification and header checksum of the segment number `index`.
fn finish_ip(bytes: &mut [u8], family: Family, index: u16) {
    let packet = &mut bytes[ETHERNET_LEN..];
    match family {
        Family::V4 => {
            let total = packet.len() as u16;
            let ident = u16::from_be_bytes([packet[4], packet[5]]).wrapping_add(index);
            packet[2..4].copy_from_slice(&total.to_be_bytes());
            packet[4..6].copy_from_slice(&ident.to_be_bytes());
            packet[10..12].fill(0);
            let header_len = usize::from(packet[0] & 0x0f) * 4;
            let checksum = checksum::checksum(&packet[..header_len]);
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        Family::V6 => {
            let payload = (packet.len() - IPV6_LEN) as u16;
            packet[4..6].copy_from_slice(&payload.to_be_bytes());
        }
    }
}

fn finish_tcp(header: &mut [u8], sent: u32, is_first: bool, is_last: bool) {
    let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]).wrapping_add(sent);
    header[4..8].copy_from_slice(&sequence.to_be_bytes());
    if !is_first {
        header[13] &= !CWR;
    }
    if !is_last {
        header[13] &= !(tcp_flags::FIN | tcp_flags::PSH);
    }
}

fn finish_checksum(bytes: &mut [u8], frame: &frame::Frame<'_>, transport: usize, is_tcp: bool) {
    let (number, at) = if is_tcp { (protocol::TCP, 16) } else { (protocol::UDP, 6) };
    let segment = &mut bytes[transport..];
    segment[at..at + 2].fill(0);
    let pseudo = checksum::pseudo_header(frame.source(), frame.destination(), number, segment.len() as u32);
    let checksum = checksum::nonzero(!checksum::add(pseudo, checksum::sum(segment)));
    segment[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::offload::Offload;

    fn super_frame(v6: bool, tcp: bool, payload: &[u8]) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let ip = if v6 {
            ethernet.ipv6([0x20; 16], [0x21; 16], 64)
        } else {
            ethernet.ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
        };
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
            let segments = segments(&frame, kind, size).unwrap();

            prop_assert_eq!(segments.len(), payload.len().div_ceil(usize::from(size)));
            let mut carried = Vec::new();
            for (index, segment) in segments.iter().enumerate() {
                // Its lengths fit the bytes, or it would not parse.
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
            assert_eq!(segments(&frame, kind, size), Err(NotSegmentable { protocol: 6, kind, size }));
        }
    }
}
