//! Building TCP segments: the resets that end the sessions of a failed firewall or server, and the segments of TCP
//! probes.

use crate::wire::checksum;
use crate::wire::emit::{self, AddressPair, HOP_LIMIT, MacPair};
use crate::wire::frame::{TCP_LEN, Tuple, protocol, tcp_flags};

/// A TCP segment without options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Segment<'a> {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number; 0 if the flags do not have [`tcp_flags::ACK`].
    pub acknowledgement: u32,
    /// Flag bits; see [`tcp_flags`].
    pub flags: u8,
    /// Receive window in bytes.
    pub window: u16,
    /// At most 65,475 bytes, so that the packet length fits the IPv4 header.
    pub payload: &'a [u8],
}

/// Builds the frame of a segment, with complete checksums.
pub fn segment(macs: MacPair, pair: AddressPair, segment: &Segment<'_>) -> Vec<u8> {
    let length = TCP_LEN + segment.payload.len();
    emit::ip(macs, pair, protocol::TCP, HOP_LIMIT, length, |bytes| {
        bytes[0..2].copy_from_slice(&segment.source_port.to_be_bytes());
        bytes[2..4].copy_from_slice(&segment.destination_port.to_be_bytes());
        bytes[4..8].copy_from_slice(&segment.sequence.to_be_bytes());
        bytes[8..12].copy_from_slice(&segment.acknowledgement.to_be_bytes());
        bytes[12] = (TCP_LEN as u8 / 4) << 4;
        bytes[13] = segment.flags;
        bytes[14..16].copy_from_slice(&segment.window.to_be_bytes());
        bytes[TCP_LEN..].copy_from_slice(segment.payload);
        let pseudo = checksum::pseudo_header(pair.source(), pair.destination(), protocol::TCP, length as u32);
        let sum = checksum::add(pseudo, checksum::sum(bytes));
        bytes[16..18].copy_from_slice(&(!sum).to_be_bytes());
    })
}

/// Builds the frame of a reset to the destination of `tuple`, as if its source had sent it.
///
/// `sequence` must be the exact sequence number that the destination expects next (RFC 5961 section 3.2). An end that
/// still waits for the answer to its SYN obeys a reset only if `acknowledgement` acknowledges that SYN (RFC 9293
/// section 3.10.7.3). The result is `None` if the addresses of `tuple` are of different families.
pub fn reset(macs: MacPair, tuple: &Tuple, sequence: u32, acknowledgement: Option<u32>) -> Option<Vec<u8>> {
    let flags = match acknowledgement {
        Some(_) => tcp_flags::RST | tcp_flags::ACK,
        None => tcp_flags::RST,
    };
    let reset = Segment {
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
        sequence,
        acknowledgement: acknowledgement.unwrap_or(0),
        flags,
        window: 0,
        payload: &[],
    };
    Some(segment(macs, AddressPair::new(tuple.source, tuple.destination)?, &reset))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use pnet_packet::Packet as _;
    use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
    use pnet_packet::ip::IpNextHeaderProtocols;
    use pnet_packet::ipv4::{self, Ipv4Packet};
    use pnet_packet::ipv6::Ipv6Packet;
    use pnet_packet::tcp::{self, TcpPacket};

    use super::*;
    use crate::wire::MacAddr;
    use crate::wire::frame::{Frame, TcpSegment};
    use crate::wire::offload::Offload;

    const MACS: MacPair = MacPair { source: MacAddr([2, 0, 0, 0, 0, 1]), destination: MacAddr([2, 0, 0, 0, 0, 2]) };

    fn tuple(source: &str, destination: &str) -> Tuple {
        Tuple {
            protocol: 6,
            source: source.parse().unwrap(),
            source_port: 443,
            destination: destination.parse().unwrap(),
            destination_port: 40000,
        }
    }

    #[test]
    fn a_second_parser_reads_a_reset_over_ipv4() {
        let bytes = reset(MACS, &tuple("203.0.113.80", "198.51.100.7"), 0xdead_beef, None).unwrap();

        let ethernet = EthernetPacket::new(&bytes).unwrap();
        let packet = Ipv4Packet::new(ethernet.payload()).unwrap();
        let segment = TcpPacket::new(packet.payload()).unwrap();
        assert_eq!(ethernet.get_ethertype(), EtherTypes::Ipv4);
        assert_eq!((ethernet.get_source().0, ethernet.get_destination().5), (2, 2));
        assert_eq!(
            (packet.get_source().to_string(), packet.get_destination().to_string()),
            ("203.0.113.80".into(), "198.51.100.7".into())
        );
        assert_eq!((packet.get_checksum(), packet.get_total_length()), (ipv4::checksum(&packet), 40));
        assert_eq!((segment.get_source(), segment.get_destination()), (443, 40000));
        assert_eq!((segment.get_sequence(), segment.get_acknowledgement()), (0xdead_beef, 0));
        assert_eq!((segment.get_flags(), segment.get_data_offset(), segment.get_window()), (tcp_flags::RST, 5, 0));
        let checksum = tcp::ipv4_checksum(&segment, &packet.get_source(), &packet.get_destination());
        assert_eq!(segment.get_checksum(), checksum);
    }

    #[test]
    fn a_second_parser_reads_a_reset_over_ipv6() {
        let bytes = reset(MACS, &tuple("2001:db8::80", "2001:db8:1::7"), 1, Some(2)).unwrap();

        let ethernet = EthernetPacket::new(&bytes).unwrap();
        let packet = Ipv6Packet::new(ethernet.payload()).unwrap();
        let segment = TcpPacket::new(packet.payload()).unwrap();
        assert_eq!(packet.get_next_header(), IpNextHeaderProtocols::Tcp);
        assert_eq!((segment.get_sequence(), segment.get_acknowledgement()), (1, 2));
        assert_eq!(segment.get_flags(), tcp_flags::RST | tcp_flags::ACK);
        let checksum = tcp::ipv6_checksum(&segment, &packet.get_source(), &packet.get_destination());
        assert_eq!(segment.get_checksum(), checksum);
    }

    #[test]
    fn a_segment_with_payload_reads_as_built() {
        let pair = AddressPair::new("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()).unwrap();
        let built = Segment {
            source_port: 50000,
            destination_port: 80,
            sequence: 7,
            acknowledgement: 9,
            flags: tcp_flags::PSH | tcp_flags::ACK,
            window: 1024,
            payload: b"odd",
        };
        let mut bytes = segment(MACS, pair, &built);

        let frame = Frame::parse(&mut bytes, &Offload::NONE).unwrap();

        let tuple = frame.tuple();
        assert_eq!((tuple.source, tuple.source_port, tuple.destination_port), (IpAddr::from([10, 0, 0, 1]), 50000, 80));
        assert_eq!(frame.tcp(), Some(TcpSegment { flags: 0x18, sequence: 7, acknowledgement: 9, length: 3 }));
        assert_eq!(&frame.transport_bytes()[20..], b"odd");
        let pseudo = checksum::pseudo_header(pair.source(), pair.destination(), 6, 23);
        assert_eq!(checksum::add(pseudo, checksum::sum(frame.transport_bytes())), 0xffff);
    }

    #[test]
    fn a_tuple_of_two_families_has_no_reset() {
        assert_eq!(reset(MACS, &tuple("10.0.0.1", "::1"), 0, None), None);
    }
}
