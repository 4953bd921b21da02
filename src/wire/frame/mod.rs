//! One Ethernet frame: validated once, read without checks, edited in place.
//!
//! [`Frame::parse`] decides whether bytes are a legal packet and where its headers lie. It checks every length in one pass
//! and allocates nothing; what it accepts, the accessors read without failing. It never decides whether a packet is
//! welcome: a martian, an expired TTL or a stranger's MAC are legal bytes.

mod edit;
pub(in crate::wire) mod ipv6;
mod parse;
mod quoted;
mod translate;

use std::net::IpAddr;

use crate::wire::{Family, MacAddr};

pub use quoted::tuple as quoted_tuple;
pub use translate::Untranslatable;

/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: usize = 14;
/// Bytes of an IPv4 header without options.
pub const IPV4_LEN: usize = 20;
/// Bytes of an IPv6 header without extension headers.
pub const IPV6_LEN: usize = 40;
/// Bytes of a TCP header without options.
pub const TCP_LEN: usize = 20;
/// Bytes of a UDP header.
pub const UDP_LEN: usize = 8;

/// EtherTypes that this crate speaks (IEEE 802 numbers).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// IP protocol numbers with a meaning here, IPv6 extension headers among them (IANA).
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

    /// ICMP of a family.
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

/// Why bytes are not a legal frame. Each is one drop reason with its own counter (CORRECTNESS A1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Shorter than an Ethernet header (14 bytes).
    #[error("frame is shorter than an Ethernet header")]
    EthernetTruncated,
    /// The IP header, its options or an extension header do not fit the packet, or a length in them is impossible.
    #[error("IP header is truncated or its length is impossible")]
    IpHeader,
    /// The version field contradicts the EtherType.
    #[error("IP version contradicts the EtherType")]
    IpVersion,
    /// Total or payload length exceeds the frame or is less than the headers; or the length of a fragment is zero, no
    /// multiple of 8 though more follow, or ends beyond 65,535 bytes.
    #[error("IP length exceeds the frame or is less than its headers")]
    IpLength,
    /// IPv4 header checksum is wrong (never repaired, A4.1).
    #[error("IPv4 header checksum is wrong")]
    IpChecksum,
    /// IPv4 loose or strict source route, or IPv6 routing header type 0 (RFC 7126, RFC 5095).
    #[error("source-routed")]
    SourceRoute,
    /// TCP, UDP, ICMP header does not fit, or its own length is impossible.
    #[error("transport header is truncated or its length is impossible")]
    Transport,
    /// Tiny or overlapping-header fragment (RFC 1858, RFC 3128, RFC 7112).
    #[error("fragment too small to hold its headers")]
    TinyFragment,
    /// ICMP checksum is wrong.
    #[error("ICMP checksum is wrong")]
    IcmpChecksum,
}

/// What the frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// An IP packet, fully validated.
    Ip,
    /// ARP (EtherType 0x0806), not yet validated.
    Arp,
    /// Another EtherType, or an inner VLAN tag.
    Other(u16),
    /// An IEEE 802.3 length field (LLC, STP).
    Llc,
}

/// Position of a packet within a fragmented datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// Not a fragment (also an IPv6 atomic fragment, RFC 6946).
    Whole,
    /// The first fragment, with the transport ports.
    First {
        /// Identification: 16 bits in IPv4, 32 bits in IPv6.
        id: u32,
    },
    /// A later fragment, without ports.
    Later {
        /// Identification.
        id: u32,
    },
}

/// Which bytes of its datagram's payload a fragment carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentRange {
    /// First byte, a multiple of 8, 0..=65,528.
    pub offset: u16,
    /// Bytes, at least 1; `offset + length` is at most 65,535.
    pub length: u16,
    /// No more fragments follow: the datagram's payload ends here.
    pub last: bool,
}

impl FragmentRange {
    /// The byte after the last one.
    pub const fn end(&self) -> u16 {
        self.offset + self.length
    }
}

/// TCP flag bits as they stand in the header.
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

/// What a TCP segment says, as far as a session needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpSegment {
    /// Flag bits, [`tcp_flags`].
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Payload bytes plus one for SYN and one for FIN. Of a first fragment: what this fragment carries.
    pub length: u32,
}

impl TcpSegment {
    /// True if it neither begins nor ends anything.
    #[inline]
    pub const fn only_speaks(&self) -> bool {
        use tcp_flags::{ACK, FIN, RST, SYN};
        self.flags & (SYN | FIN | RST | ACK) == ACK
    }

    /// The sequence number after it.
    #[inline]
    pub const fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.length)
    }
}

/// Addresses, protocol and ports of a packet, as it stands (source first). For ICMP queries both ports are the
/// identifier; protocols without ports, and fragments after the first, have port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// IP protocol number; ICMP is 1, ICMPv6 is 58.
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

/// Class of an ICMP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Icmp {
    /// Echo, timestamp and other queries and replies: belongs to the flow of its identifier.
    Query,
    /// An error about the quoted packet; `None` if too little of it is quoted to tell. A quoted fragment after the first
    /// has ports 0.
    Error(Option<Tuple>),
    /// Neighbour and router discovery, multicast listener discovery: link-local matters.
    LinkLocal,
    /// Anything else: a flow without ports.
    Other,
}

/// Where things lie in a validated frame, in bytes from its first byte.
#[derive(Debug, Clone, Copy)]
struct Layout {
    payload: Payload,
    family: Family,
    /// Upper-layer protocol; where the walk over extension headers gave up, the number of the header it stopped at.
    protocol: u8,
    icmp: IcmpClass,
    fragment: Fragment,
    /// Offset of the fragment in its datagram's payload.
    fragment_offset: u16,
    /// Where the payload of a fragment begins: the transport header, or an IPv6 extension header before it.
    fragment_payload: u16,
    /// More fragments follow.
    more_fragments: bool,
    /// Transport header, or payload of a later fragment.
    transport: u16,
    /// End of the IP packet; what follows is link-layer padding.
    end: u32,
    source_port: u16,
    destination_port: u16,
}

/// [`Icmp`] before the quoted packet is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IcmpClass {
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
    /// What the frame carries.
    #[inline]
    pub fn payload(&self) -> Payload {
        self.layout.payload
    }

    /// The whole frame.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// The whole frame, to go on with.
    #[inline]
    pub fn into_bytes(self) -> &'a mut [u8] {
        self.bytes
    }

    /// EtherType, or the length field of an LLC frame.
    #[inline]
    pub fn ethertype(&self) -> u16 {
        self.word(12)
    }

    /// Source hardware address.
    #[inline]
    pub fn source_mac(&self) -> MacAddr {
        MacAddr(self.array(6))
    }

    /// Destination hardware address.
    #[inline]
    pub fn destination_mac(&self) -> MacAddr {
        MacAddr(self.array(0))
    }

    /// Address family. Only for [`Payload::Ip`], as everything below.
    #[inline]
    pub fn family(&self) -> Family {
        debug_assert_eq!(self.layout.payload, Payload::Ip, "asked a frame for its IP packet that has none");
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

    /// True if the packet goes to a group of hosts: an IP multicast address or 255.255.255.255. The broadcast addresses of
    /// subnets are known to whoever knows the subnets.
    #[inline]
    pub fn is_to_group(&self) -> bool {
        match self.destination() {
            IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
            IpAddr::V6(address) => address.is_multicast(),
        }
    }

    /// Upper-layer protocol after all extension headers. Of a later IPv6 fragment: what its fragment header names. Of a
    /// chain of more than 8 headers or 512 bytes: the header at which the walk gave up.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.layout.protocol
    }

    /// TTL or hop limit.
    #[inline]
    pub fn ttl(&self) -> u8 {
        match self.family() {
            Family::V4 => self.bytes[ETHERNET_LEN + 8],
            Family::V6 => self.bytes[ETHERNET_LEN + 7],
        }
    }

    /// IP packet length in bytes, without link-layer padding.
    #[inline]
    pub fn ip_len(&self) -> usize {
        self.layout.end as usize - ETHERNET_LEN
    }

    /// True if the packet must not be fragmented: IPv6, or IPv4 with DF.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        match self.family() {
            Family::V4 => self.bytes[ETHERNET_LEN + 6] & 0x40 != 0,
            Family::V6 => true,
        }
    }

    /// Whether and which fragment it is.
    #[inline]
    pub fn fragment(&self) -> Fragment {
        self.layout.fragment
    }

    /// True if it is part of a fragmented datagram.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.layout.fragment != Fragment::Whole
    }

    /// True if more fragments of the datagram follow.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.layout.more_fragments
    }

    /// Which bytes of its datagram a fragment carries; `None` for a whole packet.
    ///
    /// For IPv6 the first byte counted is the one after the fragment header, wherever the transport header lies.
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

    /// Addresses, protocol and ports.
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

    /// Offset of the transport header from the first byte of the frame; of a later fragment that of its payload.
    #[inline]
    pub fn transport_offset(&self) -> usize {
        self.layout.transport as usize
    }

    /// Transport header and payload, without link-layer padding; of a later fragment its payload.
    #[inline]
    pub fn transport_bytes(&self) -> &[u8] {
        &self.bytes[self.transport_offset()..self.layout.end as usize]
    }

    /// The TCP segment, if this is an unfragmented or first TCP packet.
    #[inline]
    pub fn tcp(&self) -> Option<TcpSegment> {
        if self.layout.protocol != protocol::TCP || matches!(self.layout.fragment, Fragment::Later { .. }) {
            return None;
        }
        let segment = self.transport_bytes();
        let word = |at: usize| u32::from_be_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]]);
        let flags = segment[13];
        // The header of an IPv4 first fragment may go on in the next one.
        let header_len = usize::from(segment[12] >> 4) * 4;
        let payload = segment.len().saturating_sub(header_len) as u32;
        let syn_and_fin = (flags & (tcp_flags::SYN | tcp_flags::FIN)).count_ones();
        Some(TcpSegment { flags, sequence: word(4), acknowledgement: word(8), length: payload + syn_and_fin })
    }

    /// The class of the ICMP or ICMPv6 message, if it is one (and not a later fragment).
    pub fn icmp(&self) -> Option<Icmp> {
        match self.layout.icmp {
            IcmpClass::NotIcmp => None,
            IcmpClass::Query => Some(Icmp::Query),
            IcmpClass::Error => Some(Icmp::Error(quoted::tuple(&self.transport_bytes()[8..], self.layout.family))),
            IcmpClass::LinkLocal => Some(Icmp::LinkLocal),
            IcmpClass::Other => Some(Icmp::Other),
        }
    }

    /// Bytes of IP packet, without link-layer header and padding.
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
