//! One Ethernet frame: validated once, read without further checks, edited in place.
//!
//! [`Frame::parse`] decides whether bytes are a legal packet and where its headers lie. It checks every length in one
//! pass and allocates nothing; the accessors then read what it accepted without failing. It never decides whether a
//! packet is wanted: martian addresses, an expired TTL or a foreign MAC address are legal bytes.

mod edit;
pub(in crate::wire) mod ipv6;
mod parse;
mod quoted;
mod translate;

use std::net::IpAddr;

use crate::wire::{Family, MacAddr};

pub use quoted::tuple as quoted_tuple;
pub use translate::Untranslatable;

/// Length of an Ethernet header in bytes.
pub const ETHERNET_LEN: usize = 14;
/// Length of an IPv4 header without options in bytes.
pub const IPV4_LEN: usize = 20;
/// Length of an IPv6 header without extension headers in bytes.
pub const IPV6_LEN: usize = 40;
/// Length of a TCP header without options in bytes.
pub const TCP_LEN: usize = 20;
/// Length of a UDP header in bytes.
pub const UDP_LEN: usize = 8;

/// The EtherTypes that the engine understands (IEEE 802 numbers).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// The IP protocol numbers that the engine treats specially, IPv6 extension headers among them (IANA).
pub mod protocol {
    use crate::wire::Family;

    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IPv4 inside IP (RFC 2003).
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// IPv6 inside IP (RFC 2473).
    pub const IPV6: u8 = 41;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;

    /// The protocol number of ICMP for an address family.
    pub const fn icmp(family: Family) -> u8 {
        match family {
            Family::V4 => ICMP,
            Family::V6 => ICMPV6,
        }
    }

    /// True if the first four bytes of the transport header are source and destination port.
    pub const fn has_ports(protocol: u8) -> bool {
        matches!(protocol, TCP | UDP | DCCP | SCTP | UDP_LITE)
    }
}

/// Why a frame is malformed. Each reason is a drop reason with its own counter (rule A1.4 of `docs/protocols.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// The frame is shorter than an Ethernet header (14 bytes).
    #[error("frame is shorter than an Ethernet header")]
    EthernetTruncated,
    /// The IP header, its options or an IPv6 extension header do not fit the packet, or contain an impossible length.
    #[error("IP header is truncated or its length is impossible")]
    IpHeader,
    /// The IP version field contradicts the EtherType.
    #[error("IP version contradicts the EtherType")]
    IpVersion,
    /// The total length (IPv4) or payload length (IPv6) exceeds the frame or is less than the headers. Also a fragment
    /// whose payload is empty, whose length is not a multiple of 8 although more fragments follow, or which ends beyond
    /// 65,535 bytes.
    #[error("IP length exceeds the frame or is less than its headers")]
    IpLength,
    /// The IPv4 header checksum is wrong. It is never repaired (rule A4.1 of `docs/protocols.md`).
    #[error("IPv4 header checksum is wrong")]
    IpChecksum,
    /// The packet has an IPv4 loose or strict source route option (RFC 7126), or an IPv6 routing header of type 0 (RFC
    /// 5095).
    #[error("source-routed")]
    SourceRoute,
    /// The transport header (TCP, UDP, ICMP and the like) does not fit the packet, or contains an impossible length.
    #[error("transport header is truncated or its length is impossible")]
    Transport,
    /// A fragment is too small to hold its headers, or would overlap them (RFC 1858, RFC 3128, RFC 7112).
    #[error("fragment too small to hold its headers")]
    TinyFragment,
    /// The ICMP or ICMPv6 checksum is wrong.
    #[error("ICMP checksum is wrong")]
    IcmpChecksum,
}

/// What the frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A fully validated IP packet.
    Ip,
    /// An ARP packet (EtherType 0x0806), which is not validated yet.
    Arp,
    /// Any other EtherType, an inner VLAN tag included.
    Other(u16),
    /// An IEEE 802.3 frame with a length field instead of an EtherType (LLC, such as STP).
    Llc,
}

/// The position of a packet within a fragmented datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// The packet is not a fragment. This includes IPv6 atomic fragments (RFC 6946).
    Whole,
    /// The first fragment, which holds the transport ports.
    First {
        /// Identification of the datagram: 16 bits in IPv4, 32 bits in IPv6.
        id: u32,
    },
    /// A fragment after the first, which has no ports.
    Later {
        /// Identification of the datagram, as in the first fragment.
        id: u32,
    },
}

/// The range of its datagram's payload that a fragment carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentRange {
    /// Offset of the first byte: a multiple of 8 from 0 to 65,528.
    pub offset: u16,
    /// Length in bytes, at least 1; `offset + length` is at most 65,535.
    pub length: u16,
    /// Whether this is the last fragment, which ends the datagram's payload.
    pub last: bool,
}

impl FragmentRange {
    /// Offset of the byte after the last one.
    pub const fn end(&self) -> u16 {
        self.offset + self.length
    }
}

/// The TCP flag bits, as they stand in byte 13 of the header.
pub mod tcp_flags {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// PSH.
    pub const PSH: u8 = 0x08;
    /// ACK.
    pub const ACK: u8 = 0x10;
}

/// The fields of a TCP segment that session tracking needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpSegment {
    /// Flag bits; see [`tcp_flags`].
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Length in sequence space: payload bytes, plus one for SYN and one for FIN. A first fragment counts only its own
    /// payload.
    pub length: u32,
}

impl TcpSegment {
    /// True for a segment in the middle of a connection: ACK is set, and none of SYN, FIN and RST.
    #[inline]
    pub const fn is_plain_ack(&self) -> bool {
        use tcp_flags::{ACK, FIN, RST, SYN};
        self.flags & (SYN | FIN | RST | ACK) == ACK
    }

    /// The sequence number after the segment's last byte.
    #[inline]
    pub const fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.length)
    }
}

/// Protocol, addresses and ports of a packet as it stands on the wire, source first.
///
/// For ICMP queries both ports are the identifier. Protocols without ports and fragments after the first have port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// IP protocol number; 1 for ICMP, 58 for ICMPv6.
    pub protocol: u8,
    /// Source address.
    pub source: IpAddr,
    /// Source port or ICMP identifier.
    pub source_port: u16,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port or ICMP identifier.
    pub destination_port: u16,
}

/// The class of an ICMP or ICMPv6 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpClass {
    /// A query or its reply (echo, timestamp and the like), which belongs to the flow of its identifier.
    Query,
    /// An error about the quoted packet, whose tuple is `None` if too little of it is quoted. The ports of a quoted
    /// fragment after the first are 0.
    Error(Option<Tuple>),
    /// Neighbour discovery, router discovery or multicast listener discovery, which stay on the link.
    LinkLocal,
    /// Any other message, which makes a flow without ports.
    Other,
}

/// Where the headers of a validated frame lie. Offsets are in bytes from the first byte of the frame.
#[derive(Debug, Clone, Copy)]
struct Layout {
    kind: FrameKind,
    family: Family,
    /// The upper-layer protocol, or the number of the extension header at which the walk gave up.
    protocol: u8,
    icmp: ParsedIcmpClass,
    fragment: Fragment,
    /// Offset of the fragment in its datagram's payload, in bytes.
    fragment_offset: u16,
    /// Where a fragment's payload begins: the transport header, or an IPv6 extension header before it.
    fragment_payload: u16,
    /// Whether more fragments follow.
    more_fragments: bool,
    /// Where the transport header begins, or the payload of a fragment after the first.
    transport: u16,
    /// Where the IP packet ends; any bytes beyond it are link-layer padding.
    end: u32,
    source_port: u16,
    destination_port: u16,
}

/// The class of an ICMP message before the packet that it quotes was read; see [`IcmpClass`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParsedIcmpClass {
    NotIcmp,
    Query,
    Error,
    LinkLocal,
    Other,
}

/// A validated Ethernet frame.
#[derive(Debug)]
pub struct Frame<'a> {
    bytes: &'a mut [u8],
    layout: Layout,
}

impl<'a> Frame<'a> {
    /// The kind of payload that the frame carries.
    #[inline]
    pub fn kind(&self) -> FrameKind {
        self.layout.kind
    }

    /// The whole frame, link-layer padding included.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Gives the bytes of the whole frame back.
    #[inline]
    pub fn into_bytes(self) -> &'a mut [u8] {
        self.bytes
    }

    /// The EtherType, or the length field of an LLC frame.
    #[inline]
    pub fn ethertype(&self) -> u16 {
        self.word(12)
    }

    /// Source MAC address.
    #[inline]
    pub fn source_mac(&self) -> MacAddr {
        MacAddr(self.array(6))
    }

    /// Destination MAC address.
    #[inline]
    pub fn destination_mac(&self) -> MacAddr {
        MacAddr(self.array(0))
    }

    /// Address family. Like everything below, it exists only for [`FrameKind::Ip`].
    #[inline]
    pub fn family(&self) -> Family {
        debug_assert_eq!(self.layout.kind, FrameKind::Ip, "asked a frame for its IP packet that has none");
        self.layout.family
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> IpAddr {
        match self.family() {
            Family::V4 => IpAddr::from(self.array::<4>(ETHERNET_LEN + 12)),
            Family::V6 => IpAddr::from(self.array::<16>(ETHERNET_LEN + 8)),
        }
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> IpAddr {
        match self.family() {
            Family::V4 => IpAddr::from(self.array::<4>(ETHERNET_LEN + 16)),
            Family::V6 => IpAddr::from(self.array::<16>(ETHERNET_LEN + 24)),
        }
    }

    /// True if the destination is an IP multicast address or 255.255.255.255. Subnet broadcast addresses are recognised
    /// by the caller, who knows the subnets.
    #[inline]
    pub fn is_multicast_or_broadcast(&self) -> bool {
        match self.destination() {
            IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
            IpAddr::V6(address) => address.is_multicast(),
        }
    }

    /// The upper-layer protocol after all extension headers.
    ///
    /// For an IPv6 fragment after the first this is what its fragment header names. For a chain of more than 8 headers
    /// or 512 bytes it is the header at which the walk gave up.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.layout.protocol
    }

    /// The TTL (IPv4) or hop limit (IPv6).
    #[inline]
    pub fn ttl(&self) -> u8 {
        match self.family() {
            Family::V4 => self.bytes[ETHERNET_LEN + 8],
            Family::V6 => self.bytes[ETHERNET_LEN + 7],
        }
    }

    /// Length of the IP packet in bytes, without link-layer padding.
    #[inline]
    pub fn ip_len(&self) -> usize {
        self.layout.end as usize - ETHERNET_LEN
    }

    /// True if routers must not fragment the packet: any IPv6 packet, and IPv4 packets with DF.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        match self.family() {
            Family::V4 => self.bytes[ETHERNET_LEN + 6] & 0x40 != 0,
            Family::V6 => true,
        }
    }

    /// Whether the packet is a fragment, and which.
    #[inline]
    pub fn fragment(&self) -> Fragment {
        self.layout.fragment
    }

    /// True if the packet is a fragment.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.layout.fragment != Fragment::Whole
    }

    /// True if more fragments of the datagram follow.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.layout.more_fragments
    }

    /// The range of its datagram that a fragment carries; `None` for a whole packet.
    ///
    /// For IPv6 the range counts from the byte after the fragment header, wherever the transport header lies.
    pub fn fragment_range(&self) -> Option<FragmentRange> {
        match self.layout.fragment {
            Fragment::Whole => None,
            Fragment::First { .. } | Fragment::Later { .. } => Some(FragmentRange {
                offset: self.layout.fragment_offset,
                length: (self.layout.end - u32::from(self.layout.fragment_payload)) as u16,
                last: !self.layout.more_fragments,
            }),
        }
    }

    /// Protocol, addresses and ports of the packet.
    #[inline(always)]
    pub fn tuple(&self) -> Tuple {
        Tuple {
            protocol: self.layout.protocol,
            source: self.source(),
            source_port: self.layout.source_port,
            destination: self.destination(),
            destination_port: self.layout.destination_port,
        }
    }

    /// Offset of the transport header from the first byte of the frame; for a fragment after the first, of its payload.
    #[inline]
    pub fn transport_offset(&self) -> usize {
        self.layout.transport as usize
    }

    /// The transport header and payload without link-layer padding; for a fragment after the first, its payload.
    #[inline]
    pub fn transport_bytes(&self) -> &[u8] {
        &self.bytes[self.transport_offset()..self.layout.end as usize]
    }

    /// The TCP segment; `None` for other protocols and for fragments after the first.
    #[inline]
    pub fn tcp(&self) -> Option<TcpSegment> {
        if self.layout.protocol != protocol::TCP || matches!(self.layout.fragment, Fragment::Later { .. }) {
            return None;
        }
        let segment = self.transport_bytes();
        let word = |at: usize| u32::from_be_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]]);
        let flags = segment[13];
        // The TCP header of an IPv4 first fragment may continue in the next fragment.
        let header_len = usize::from(segment[12] >> 4) * 4;
        let payload = segment.len().saturating_sub(header_len) as u32;
        let syn_and_fin = (flags & (tcp_flags::SYN | tcp_flags::FIN)).count_ones();
        Some(TcpSegment { flags, sequence: word(4), acknowledgement: word(8), length: payload + syn_and_fin })
    }

    /// The class of the ICMP or ICMPv6 message; `None` for other protocols and for fragments after the first.
    pub fn icmp(&self) -> Option<IcmpClass> {
        match self.layout.icmp {
            ParsedIcmpClass::NotIcmp => None,
            ParsedIcmpClass::Query => Some(IcmpClass::Query),
            ParsedIcmpClass::Error => {
                Some(IcmpClass::Error(quoted::tuple(&self.transport_bytes()[8..], self.layout.family)))
            }
            ParsedIcmpClass::LinkLocal => Some(IcmpClass::LinkLocal),
            ParsedIcmpClass::Other => Some(IcmpClass::Other),
        }
    }

    /// The IP packet without link-layer header and padding.
    #[inline]
    pub fn ip_bytes(&self) -> &[u8] {
        &self.bytes[ETHERNET_LEN..self.layout.end as usize]
    }

    #[inline]
    fn word(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }

    #[inline]
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[at..at + N]);
        array
    }
}

#[cfg(test)]
mod tests;
