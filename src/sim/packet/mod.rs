//! Parses and builds packets for the hosts and firewalls of the simulation. It is independent of `wire`, so that what
//! the engines read and write is checked by a second implementation.

mod flow;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::MacAddr;

pub use flow::{IcmpKind, Tuple};

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// IP protocol numbers.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP (RFC 2003).
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP (RFC 2473, RFC 4213).
    pub const IPV6: u8 = 41;
    /// GRE, which stands for the protocols without ports.
    pub const GRE: u8 = 47;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// The IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
}

/// TCP flags.
pub mod tcp_flag {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// ACK.
    pub const ACK: u8 = 0x10;
}

/// A fragment's place in its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PacketFragment {
    /// Identification.
    pub id: u32,
    /// Offset in bytes.
    pub offset: usize,
    /// Whether more fragments follow.
    pub more: bool,
}

/// What the fragments of a datagram have in common: source, destination, protocol, identification.
pub type Datagram = (IpAddr, IpAddr, u8, u32);

/// A parsed IP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Upper-layer protocol.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// The flag "don't fragment" of IPv4.
    pub dont_fragment: bool,
    /// IPv4 identification of an unfragmented packet.
    pub ident: u16,
    /// Its place in the datagram, if it is a fragment.
    pub fragment: Option<PacketFragment>,
    /// Everything behind the IP headers.
    pub payload: Vec<u8>,
}

/// The sum over 16-bit words of RFC 1071, neither folded nor inverted. It adds four bytes at a time in a plain loop,
/// because tests run unoptimised.
fn sum(bytes: &[u8]) -> u64 {
    let (mut sum, mut at) = (0_u64, 0);
    while at + 4 <= bytes.len() {
        sum += u64::from(u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
        at += 4;
    }
    let mut tail = [0; 4];
    tail[..bytes.len() - at].copy_from_slice(&bytes[at..]);
    sum + u64::from(u32::from_be_bytes(tail))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The Internet checksum of `bytes` (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    fold(sum(bytes))
}

/// An Ethernet frame.
pub fn ethernet(destination: MacAddr, source: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + payload.len());
    frame.extend_from_slice(&destination.0);
    frame.extend_from_slice(&source.0);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Destination, source, EtherType and payload of a frame.
pub fn split_ethernet(frame: &[u8]) -> Option<(MacAddr, MacAddr, u16, &[u8])> {
    let (header, payload) = frame.split_at_checked(14)?;
    let mac = |at: usize| MacAddr(header[at..at + 6].try_into().expect("six bytes of fourteen"));
    Some((mac(0), mac(6), u16::from_be_bytes([header[12], header[13]]), payload))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

impl Packet {
    /// An unfragmented packet with a TTL of 64.
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, payload: Vec<u8>) -> Self {
        let (ttl, tos, ident) = (64, 0, 0);
        Self { source, destination, protocol, ttl, tos, dont_fragment: false, ident, fragment: None, payload }
    }

    /// A UDP datagram.
    pub fn udp(source: (IpAddr, u16), destination: (IpAddr, u16), data: &[u8]) -> Self {
        let mut payload = Vec::with_capacity(8 + data.len());
        for field in [source.1, destination.1, (8 + data.len()) as u16, 0] {
            payload.extend_from_slice(&field.to_be_bytes());
        }
        payload.extend_from_slice(data);
        Self::new(source.0, destination.0, protocol::UDP, payload).with_checksum()
    }

    /// A TCP segment without options.
    pub fn tcp(
        source: (IpAddr, u16),
        destination: (IpAddr, u16),
        flags: u8,
        sequence: u32,
        acknowledgement: u32,
        data: &[u8],
    ) -> Self {
        let mut payload = Vec::with_capacity(20 + data.len());
        payload.extend_from_slice(&source.1.to_be_bytes());
        payload.extend_from_slice(&destination.1.to_be_bytes());
        payload.extend_from_slice(&sequence.to_be_bytes());
        payload.extend_from_slice(&acknowledgement.to_be_bytes());
        payload.extend_from_slice(&[0x50, flags, 0x20, 0, 0, 0, 0, 0]);
        payload.extend_from_slice(data);
        Self::new(source.0, destination.0, protocol::TCP, payload).with_checksum()
    }

    /// An ICMP or ICMPv6 message, by the address family of `source`.
    pub fn icmp(source: IpAddr, destination: IpAddr, kind: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Self {
        let mut payload = vec![kind, code, 0, 0];
        payload.extend_from_slice(&rest);
        payload.extend_from_slice(data);
        let protocol = if source.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
        Self::new(source, destination, protocol, payload).with_checksum()
    }

    /// An echo request or reply.
    pub fn echo(source: IpAddr, destination: IpAddr, reply: bool, ident: u16, sequence: u16, data: &[u8]) -> Self {
        let kind = match (source.is_ipv4(), reply) {
            (true, false) => 8,
            (true, true) => 0,
            (false, false) => 128,
            (false, true) => 129,
        };
        let [a, b] = ident.to_be_bytes();
        let [c, d] = sequence.to_be_bytes();
        Self::icmp(source, destination, kind, 0, [a, b, c, d], data)
    }

    /// Parses an IP packet; `None` if it is malformed. Padding behind it is ignored.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::parse_v4(bytes),
            6 => Self::parse_v6(bytes),
            _ => None,
        }
    }

    fn parse_v4(bytes: &[u8]) -> Option<Self> {
        let header_len = usize::from(bytes[0] & 15) * 4;
        let header = bytes.get(..header_len).filter(|header| header.len() >= 20)?;
        let total = usize::from(be16(bytes, 2)?);
        if checksum(header) != 0 || total < header_len {
            return None;
        }
        let flags = be16(header, 6)?;
        let (more, offset) = (flags & 0x2000 != 0, usize::from(flags & 0x1fff) * 8);
        let ident = be16(header, 4)?;
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&header[at..at + 4]).expect("four bytes"));
        Some(Self {
            source: address(12),
            destination: address(16),
            protocol: header[9],
            ttl: header[8],
            tos: header[1],
            dont_fragment: flags & 0x4000 != 0,
            ident,
            fragment: (more || offset > 0).then_some(PacketFragment { id: u32::from(ident), offset, more }),
            payload: bytes.get(header_len..total)?.to_vec(),
        })
    }

    fn parse_v6(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..40)?;
        let mut payload = bytes.get(40..40 + usize::from(be16(header, 4)?))?;
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&header[at..at + 16]).expect("sixteen bytes"));
        let (mut next, mut piece) = (header[6], None);
        while let 0 | 43 | 60 = next {
            let len = (usize::from(*payload.get(1)?) + 1) * 8;
            next = payload[0];
            payload = payload.get(len..)?;
        }
        if next == protocol::FRAGMENT {
            let (fragment, rest) = payload.split_at_checked(8)?;
            let field = be16(fragment, 2)?;
            let id = u32::from_be_bytes(fragment[4..8].try_into().ok()?);
            piece = Some(PacketFragment { id, offset: usize::from(field & 0xfff8), more: field & 1 != 0 });
            next = fragment[0];
            payload = rest;
        }
        Some(Self {
            source: address(8),
            destination: address(24),
            protocol: next,
            ttl: header[7],
            tos: (header[0] << 4) | (header[1] >> 4),
            dont_fragment: true,
            ident: 0,
            fragment: piece,
            payload: payload.to_vec(),
        })
    }

    /// The packet as bytes.
    pub fn emit(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.emit_v4(source, destination),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.emit_v6(source, destination),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                unreachable!("both ends of a packet have one family")
            }
        }
    }

    fn emit_v4(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let mut bytes = vec![0x45, self.tos];
        bytes.extend_from_slice(&((20 + self.payload.len()) as u16).to_be_bytes());
        let (ident, place) = match self.fragment {
            Some(piece) => (piece.id as u16, (piece.offset / 8) as u16 | if piece.more { 0x2000 } else { 0 }),
            None => (self.ident, 0),
        };
        bytes.extend_from_slice(&ident.to_be_bytes());
        bytes.extend_from_slice(&(place | if self.dont_fragment { 0x4000 } else { 0 }).to_be_bytes());
        bytes.extend_from_slice(&[self.ttl, self.protocol, 0, 0]);
        bytes.extend_from_slice(&source.octets());
        bytes.extend_from_slice(&destination.octets());
        let sum = checksum(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    fn emit_v6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let extra = if self.fragment.is_some() { 8 } else { 0 };
        let next = if self.fragment.is_some() { protocol::FRAGMENT } else { self.protocol };
        let mut bytes = vec![0x60 | (self.tos >> 4), self.tos << 4, 0, 0];
        bytes.extend_from_slice(&((extra + self.payload.len()) as u16).to_be_bytes());
        bytes.extend_from_slice(&[next, self.ttl]);
        bytes.extend_from_slice(&source.octets());
        bytes.extend_from_slice(&destination.octets());
        if let Some(piece) = self.fragment {
            bytes.extend_from_slice(&[self.protocol, 0]);
            bytes.extend_from_slice(&(piece.offset as u16 | u16::from(piece.more)).to_be_bytes());
            bytes.extend_from_slice(&piece.id.to_be_bytes());
        }
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Length of the packet in bytes, without Ethernet.
    pub fn len(&self) -> usize {
        match (self.source, self.fragment) {
            (IpAddr::V4(_), _) => 20 + self.payload.len(),
            (IpAddr::V6(_), None) => 40 + self.payload.len(),
            (IpAddr::V6(_), Some(_)) => 48 + self.payload.len(),
        }
    }

    /// Whether nothing follows the IP headers.
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// The packet as fragments that fit `mtu`, with identification `id`; unfragmented if it fits.
    pub fn fragments(self, mtu: usize, id: u32) -> Vec<Self> {
        if self.len() <= mtu {
            return vec![self];
        }
        let headers = if self.source.is_ipv4() { 20 } else { 48 };
        let (room, base) = ((mtu - headers) / 8 * 8, self.fragment.map_or(0, |piece| piece.offset));
        let last = self.payload.len().div_ceil(room) - 1;
        let more = self.fragment.is_some_and(|piece| piece.more);
        let cut = |(number, data): (usize, &[u8])| Self {
            fragment: Some(PacketFragment { id, offset: base + number * room, more: more || number < last }),
            payload: data.to_vec(),
            dont_fragment: false,
            ..self.clone()
        };
        self.payload.chunks(room).enumerate().map(cut).collect()
    }

    /// Offset of the upper layer's checksum in the payload.
    fn checksum_at(&self) -> Option<usize> {
        let at = match self.protocol {
            protocol::TCP => 16,
            protocol::UDP => 6,
            protocol::ICMP | protocol::ICMPV6 => 2,
            _ => return None,
        };
        (self.fragment.is_none() && self.payload.len() >= at + 2).then_some(at)
    }

    /// The sum of the pseudo header, which a device that finishes checksums expects in the checksum field, and the
    /// field's offset in the payload. Only for TCP and UDP.
    pub fn partial_checksum(&self) -> Option<(u16, usize)> {
        let at = self.checksum_at().filter(|_| matches!(self.protocol, protocol::TCP | protocol::UDP))?;
        Some((!fold(sum(&self.pseudo_header())), at))
    }

    fn transport_sum(&self) -> u16 {
        fold(sum(&self.pseudo_header()) + sum(&self.payload))
    }

    fn pseudo_header(&self) -> Vec<u8> {
        let mut pseudo = Vec::with_capacity(40);
        if self.protocol != protocol::ICMP {
            match (self.source, self.destination) {
                (IpAddr::V4(a), IpAddr::V4(b)) => pseudo.extend(a.octets().into_iter().chain(b.octets())),
                (IpAddr::V6(a), IpAddr::V6(b)) => pseudo.extend(a.octets().into_iter().chain(b.octets())),
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
            }
            pseudo.extend_from_slice(&(self.payload.len() as u32).to_be_bytes());
            pseudo.extend_from_slice(&u32::from(self.protocol).to_be_bytes());
        }
        pseudo
    }

    /// Whether the upper layer's checksum is right, or cannot be judged (in a fragment, or for a protocol without one).
    pub fn checksum_ok(&self) -> bool {
        self.checksum_at().is_none() || self.transport_sum() == 0
    }

    /// The packet with a correct upper-layer checksum.
    pub fn with_checksum(mut self) -> Self {
        if let Some(at) = self.checksum_at() {
            self.payload[at..at + 2].fill(0);
            let sum = match self.transport_sum() {
                // RFC 768: a computed checksum of zero is sent as all ones.
                0 if self.protocol == protocol::UDP => 0xffff,
                sum => sum,
            };
            self.payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));

    fn v6(last: u16) -> IpAddr {
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])
    }

    #[test]
    fn what_is_emitted_is_parsed_again_in_both_families() {
        for (source, destination) in [(A, B), (v6(1), v6(2))] {
            for packet in [
                Packet::udp((source, 5), (destination, 7), b"data"),
                Packet::tcp((source, 5), (destination, 7), tcp_flag::SYN, 9, 0, b""),
                Packet::echo(source, destination, false, 77, 1, b"ping"),
            ] {
                let parsed = Packet::parse(&packet.emit()).unwrap();
                assert!(parsed.checksum_ok());
                assert_eq!(parsed.tuple(), packet.tuple());
                assert_eq!(parsed.payload, packet.payload);
            }
        }
    }
}
