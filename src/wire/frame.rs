//! One Ethernet frame: validated once, read without checks, edited in place.

use std::net::IpAddr;

use crate::wire::offload::Offload;
use crate::wire::{Family, MacAddr};

/// Why bytes are not a legal frame. Each is one drop reason with its own counter (CORRECTNESS A1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Shorter than an Ethernet header (14 bytes).
    #[error("frame is shorter than an Ethernet header")]
    EthernetTruncated,
    /// The IP header does not fit the frame, or says it is shorter than 20 bytes.
    #[error("IP header is truncated or its length is impossible")]
    IpHeader,
    /// The version field contradicts the EtherType.
    #[error("IP version contradicts the EtherType")]
    IpVersion,
    /// Total or payload length exceeds the frame or is less than the headers.
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

/// TCP flag bits as they stand in the header.
pub mod tcp_flags {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
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
    /// Payload bytes plus one for SYN and one for FIN.
    pub length: u32,
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
    /// An error about the quoted packet; `None` if too little of it is quoted to tell.
    Error(Option<Tuple>),
    /// Neighbour and router discovery, multicast listener discovery: link-local matters.
    LinkLocal,
    /// Anything else: a flow without ports.
    Other,
}

/// A validated Ethernet frame.
#[derive(Debug)]
pub struct Frame<'a> {
    bytes: &'a mut [u8],
}

impl<'a> Frame<'a> {
    /// Validates all lengths (and the IPv4 header checksum, and ICMP checksums unless `offload` says they are partial or
    /// verified) and remembers where the headers lie.
    pub fn parse(bytes: &'a mut [u8], offload: &Offload) -> Result<Self, Malformed> {
        let _ = offload;
        Ok(Self { bytes })
    }

    /// What the frame carries.
    pub fn payload(&self) -> Payload {
        todo!()
    }

    /// The whole frame.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Source hardware address.
    pub fn source_mac(&self) -> MacAddr {
        todo!()
    }

    /// Destination hardware address.
    pub fn destination_mac(&self) -> MacAddr {
        todo!()
    }

    /// Rewrites both hardware addresses.
    pub fn set_macs(&mut self, source: MacAddr, destination: MacAddr) {
        let _ = (source, destination);
        todo!()
    }

    /// Address family. Only for [`Payload::Ip`], as everything below.
    pub fn family(&self) -> Family {
        todo!()
    }

    /// Source address.
    pub fn source(&self) -> IpAddr {
        todo!()
    }

    /// Destination address.
    pub fn destination(&self) -> IpAddr {
        todo!()
    }

    /// Upper-layer protocol after all extension headers.
    pub fn protocol(&self) -> u8 {
        todo!()
    }

    /// TTL or hop limit.
    pub fn ttl(&self) -> u8 {
        todo!()
    }

    /// Decrements TTL or hop limit, with the IPv4 checksum (RFC 1624). The caller has seen that it is at least 2.
    pub fn decrement_ttl(&mut self) {
        todo!()
    }

    /// IP packet length in bytes, without link-layer padding.
    pub fn ip_len(&self) -> usize {
        todo!()
    }

    /// True if the packet must not be fragmented: IPv6, or IPv4 with DF.
    pub fn dont_fragment(&self) -> bool {
        todo!()
    }

    /// Whether and which fragment it is.
    pub fn fragment(&self) -> Fragment {
        todo!()
    }

    /// Addresses, protocol and ports.
    pub fn tuple(&self) -> Tuple {
        todo!()
    }

    /// The TCP segment, if this is an unfragmented or first TCP packet.
    pub fn tcp(&self) -> Option<TcpSegment> {
        todo!()
    }

    /// The class of the ICMP or ICMPv6 message, if it is one (and not a later fragment).
    pub fn icmp(&self) -> Option<Icmp> {
        todo!()
    }

    /// Bytes of IP packet, without link-layer header and padding.
    pub fn ip_bytes(&self) -> &[u8] {
        todo!()
    }
}
