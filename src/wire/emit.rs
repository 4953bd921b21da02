//! Building the engine's own frames: Ethernet, IP and UDP headers with complete checksums.
//!
//! Nothing is copied from a received frame except what the caller passes in. No byte is left unset, so that no memory
//! leaks in the tail of a frame (rule D7 of `docs/protocols.md`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet,
    Ipv6Repr, UdpPacket, UdpRepr,
};

use crate::wire::frame::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN, UDP_LEN};
use crate::wire::{Family, MacAddr};

/// The TTL (IPv4) and hop limit (IPv6) of packets that the engine sends.
pub const HOP_LIMIT: u8 = 64;

/// The two MAC addresses of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacPair {
    /// Hardware address of the sender.
    pub source: MacAddr,
    /// Hardware address of the receiver.
    pub destination: MacAddr,
}

/// The source and destination address of a packet, which are of one family by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressPair {
    /// The IPv4 source and destination.
    V4(Ipv4Addr, Ipv4Addr),
    /// The IPv6 source and destination.
    V6(Ipv6Addr, Ipv6Addr),
}

impl AddressPair {
    /// Pairs the two addresses; `None` if they are of different families.
    pub const fn new(source: IpAddr, destination: IpAddr) -> Option<Self> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Self::V4(source, destination)),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Self::V6(source, destination)),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    /// The same pair with source and destination exchanged.
    pub const fn reversed(self) -> Self {
        match self {
            Self::V4(source, destination) => Self::V4(destination, source),
            Self::V6(source, destination) => Self::V6(destination, source),
        }
    }

    /// Source address.
    pub const fn source(self) -> IpAddr {
        match self {
            Self::V4(source, _) => IpAddr::V4(source),
            Self::V6(source, _) => IpAddr::V6(source),
        }
    }

    /// Destination address.
    pub const fn destination(self) -> IpAddr {
        match self {
            Self::V4(_, destination) => IpAddr::V4(destination),
            Self::V6(_, destination) => IpAddr::V6(destination),
        }
    }

    /// The address family of both.
    pub const fn family(self) -> Family {
        match self {
            Self::V4(..) => Family::V4,
            Self::V6(..) => Family::V6,
        }
    }
}

/// Builds an Ethernet frame with `payload` bytes of payload, which `fill` writes.
pub(crate) fn ethernet(
    macs: MacPair,
    ethertype: EthernetProtocol,
    payload: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let mut bytes = vec![0; ETHERNET_LEN + payload];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    EthernetRepr { src_addr: EthernetAddress(macs.source.0), dst_addr: EthernetAddress(macs.destination.0), ethertype }
        .emit(&mut frame);
    fill(frame.payload_mut());
    bytes
}

/// Builds an IP packet in its frame. `fill` writes the `payload` bytes after the IP header, transport checksum
/// included.
pub(crate) fn ip(
    macs: MacPair,
    pair: AddressPair,
    protocol: u8,
    hop_limit: u8,
    payload: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    match pair {
        AddressPair::V4(source, destination) => ethernet(macs, EthernetProtocol::Ipv4, IPV4_LEN + payload, |bytes| {
            let mut packet = Ipv4Packet::new_unchecked(bytes);
            Ipv4Repr {
                src_addr: source,
                dst_addr: destination,
                next_header: IpProtocol::from(protocol),
                payload_len: payload,
                hop_limit,
            }
            .emit(&mut packet, &ChecksumCapabilities::default());
            fill(packet.payload_mut());
        }),
        AddressPair::V6(source, destination) => ethernet(macs, EthernetProtocol::Ipv6, IPV6_LEN + payload, |bytes| {
            let mut packet = Ipv6Packet::new_unchecked(bytes);
            Ipv6Repr {
                src_addr: source,
                dst_addr: destination,
                next_header: IpProtocol::from(protocol),
                payload_len: payload,
                hop_limit,
            }
            .emit(&mut packet);
            fill(packet.payload_mut());
        }),
    }
}

/// Builds a UDP datagram in its frame. `data` may have at most 65,507 bytes.
pub fn udp(macs: MacPair, pair: AddressPair, source_port: u16, destination_port: u16, data: &[u8]) -> Vec<u8> {
    udp_with_hop_limit(macs, pair, HOP_LIMIT, (source_port, destination_port), data)
}

/// Builds a UDP datagram, as [`udp`], with this TTL or hop limit. `ports` are source and destination.
pub fn udp_with_hop_limit(macs: MacPair, pair: AddressPair, hop_limit: u8, ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    ip(macs, pair, IpProtocol::Udp.into(), hop_limit, UDP_LEN + data.len(), |bytes| {
        UdpRepr { src_port: ports.0, dst_port: ports.1 }.emit(
            &mut UdpPacket::new_unchecked(bytes),
            &pair.source().into(),
            &pair.destination().into(),
            data.len(),
            |payload| payload.copy_from_slice(data),
            &ChecksumCapabilities::default(),
        );
    })
}

#[cfg(test)]
mod tests {
    use pnet_packet::Packet;
    use pnet_packet::ethernet::EthernetPacket;
    use pnet_packet::ipv4::{self, Ipv4Packet};
    use pnet_packet::ipv6::Ipv6Packet;
    use pnet_packet::udp::{self as pnet_udp, UdpPacket};

    use super::*;

    const MACS: MacPair = MacPair { source: MacAddr([2, 0, 0, 0, 0, 1]), destination: MacAddr([2, 0, 0, 0, 0, 2]) };

    #[test]
    fn a_second_parser_reads_udp_over_both_families_with_valid_checksums() {
        let v4 = AddressPair::new("10.1.0.1".parse().unwrap(), "10.2.0.1".parse().unwrap()).unwrap();
        let frame = udp(MACS, v4, 7000, 7, b"odd");
        let ethernet = EthernetPacket::new(&frame).unwrap();
        let packet = Ipv4Packet::new(ethernet.payload()).unwrap();
        assert_eq!(packet.get_checksum(), ipv4::checksum(&packet));
        let datagram = UdpPacket::new(packet.payload()).unwrap();
        assert_eq!(datagram.payload(), b"odd");
        assert_eq!(
            datagram.get_checksum(),
            pnet_udp::ipv4_checksum(&datagram, &packet.get_source(), &packet.get_destination())
        );

        let v6 = AddressPair::new("fd00:1::1".parse().unwrap(), "fd00:2::1".parse().unwrap()).unwrap();
        let frame = udp(MACS, v6, 7000, 7, b"even");
        let ethernet = EthernetPacket::new(&frame).unwrap();
        let packet = Ipv6Packet::new(ethernet.payload()).unwrap();
        let datagram = UdpPacket::new(packet.payload()).unwrap();
        assert_eq!(
            datagram.get_checksum(),
            pnet_udp::ipv6_checksum(&datagram, &packet.get_source(), &packet.get_destination())
        );
    }

    #[test]
    fn a_pair_of_two_families_is_refused() {
        assert_eq!(AddressPair::new("10.0.0.1".parse().unwrap(), "::1".parse().unwrap()), None);
    }
}
