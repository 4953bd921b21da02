//! ICMP and ICMPv6: echo messages, and errors with the packet that they quote (RFC 792, RFC 4443).
//!
//! This module decides about which packets an error may be sent, never how many are sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, Ipv4Packet, Ipv6Packet};

use crate::wire::emit::{self, AddressPair, HOP_LIMIT, MacPair};
use crate::wire::frame::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN, protocol};
use crate::wire::{Family, MacAddr};

/// Largest ICMP error over IPv4, in bytes of IP packet (RFC 1812 section 4.3.2.3).
pub const ERROR_MAX_V4: usize = 576;
/// Largest ICMP error over IPv6, in bytes of IP packet: the minimum MTU (RFC 4443 section 2.4 c).
pub const ERROR_MAX_V6: usize = 1280;
const ICMP_HEADER_LEN: usize = 8;
/// The largest number of extension headers that are walked to find the upper-layer protocol of a packet.
const EXTENSIONS_MAX: usize = 8;

/// Whether an echo message is a request or a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EchoKind {
    /// A request: type 8, in ICMPv6 type 128.
    Request,
    /// A reply: type 0, in ICMPv6 type 129.
    Reply,
}

/// An echo message. Its checksum was verified when the frame was parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo<'a> {
    /// Whether it is a request or a reply.
    pub kind: EchoKind,
    /// Identifier, which is the same in request and reply.
    pub ident: u16,
    /// Sequence number, which is the same in request and reply.
    pub sequence: u16,
    /// The data that the reply returns unchanged.
    pub data: &'a [u8],
}

impl<'a> Echo<'a> {
    /// Reads an ICMP message; `None` if it is not an echo message.
    pub fn parse(family: Family, message: &'a [u8]) -> Option<Self> {
        let (header, data) = message.split_first_chunk::<ICMP_HEADER_LEN>()?;
        let kind = match (family, header[0], header[1]) {
            (Family::V4, 8, 0) | (Family::V6, 128, 0) => EchoKind::Request,
            (Family::V4, 0, 0) | (Family::V6, 129, 0) => EchoKind::Reply,
            _ => return None,
        };
        Some(Self {
            kind,
            ident: u16::from_be_bytes([header[4], header[5]]),
            sequence: u16::from_be_bytes([header[6], header[7]]),
            data,
        })
    }

    /// Builds the frame that carries the message.
    pub fn frame(&self, macs: MacPair, pair: AddressPair) -> Vec<u8> {
        let kind = match (pair.family(), self.kind) {
            (Family::V4, EchoKind::Request) => 8,
            (Family::V4, EchoKind::Reply) => 0,
            (Family::V6, EchoKind::Request) => 128,
            (Family::V6, EchoKind::Reply) => 129,
        };
        message(macs, pair, [kind, 0], self.words(), self.data)
    }

    fn words(&self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.ident.to_be_bytes(), self.sequence.to_be_bytes());
        [a, b, c, d]
    }
}

/// Turns a validated IPv4 echo request into its reply in place. IP options are kept (RFC 1122 section 3.2.2.6),
/// link-layer padding is cut off, and both checksums are computed afresh.
///
/// Returns false, and leaves the frame unchanged, if it is not an IPv4 echo request.
pub fn reply_in_place(frame: &mut Vec<u8>, mac: MacAddr) -> bool {
    let Some(bytes) = frame.get_mut(ETHERNET_LEN..) else { return false };
    let Ok(packet) = Ipv4Packet::new_checked(&*bytes) else { return false };
    let (header, total) = (usize::from(packet.header_len()), usize::from(packet.total_len()));
    if packet.version() != 4 || header < IPV4_LEN || total < header + ICMP_HEADER_LEN || bytes[header] != 8 {
        return false;
    }
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..total]);
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    packet.set_src_addr(destination);
    packet.set_dst_addr(source);
    packet.set_hop_limit(HOP_LIMIT);
    packet.fill_checksum();
    bytes[header] = 0;
    Icmpv4Packet::new_unchecked(&mut bytes[header..total]).fill_checksum();
    frame.truncate(ETHERNET_LEN + total);
    let (destination, source) = frame.split_at_mut(6);
    destination.copy_from_slice(&source[..6]);
    source[..6].copy_from_slice(&mac.0);
    true
}

/// The errors that the engine sends. The comments give type and code for ICMP and for ICMPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Time exceeded in transit (11/0; ICMPv6 3/0).
    TimeExceeded,
    /// There is no route to the destination (3/0; ICMPv6 1/0).
    NoRoute,
    /// The next hop does not answer ARP or neighbour discovery (3/1; ICMPv6 1/3).
    HostUnreachable,
    /// No socket listens on the port (3/3; ICMPv6 1/4).
    PortUnreachable,
    /// The engine does not support the protocol (3/2; ICMPv6 4/1, pointing at the next header field).
    ProtocolUnreachable,
    /// Fragmentation needed (3/4) or packet too big (ICMPv6 2/0).
    TooBig {
        /// The MTU of the next hop, in bytes of IP packet.
        mtu: u16,
    },
    /// Communication is administratively prohibited (3/13; ICMPv6 1/1).
    Prohibited,
}

impl ErrorKind {
    fn type_and_code(self, family: Family) -> [u8; 2] {
        match (family, self) {
            (Family::V4, Self::TimeExceeded) => [11, 0],
            (Family::V4, Self::NoRoute) => [3, 0],
            (Family::V4, Self::HostUnreachable) => [3, 1],
            (Family::V4, Self::ProtocolUnreachable) => [3, 2],
            (Family::V4, Self::PortUnreachable) => [3, 3],
            (Family::V4, Self::TooBig { .. }) => [3, 4],
            (Family::V4, Self::Prohibited) => [3, 13],
            (Family::V6, Self::TimeExceeded) => [3, 0],
            (Family::V6, Self::NoRoute) => [1, 0],
            (Family::V6, Self::HostUnreachable) => [1, 3],
            (Family::V6, Self::ProtocolUnreachable) => [4, 1],
            (Family::V6, Self::PortUnreachable) => [1, 4],
            (Family::V6, Self::TooBig { .. }) => [2, 0],
            (Family::V6, Self::Prohibited) => [1, 1],
        }
    }

    fn words(self, family: Family) -> [u8; 4] {
        match (self, family) {
            (Self::TooBig { mtu }, Family::V4) => {
                let [high, low] = mtu.to_be_bytes();
                [0, 0, high, low]
            }
            (Self::TooBig { mtu }, Family::V6) => u32::from(mtu).to_be_bytes(),
            // The pointer gives the offset of the next header field in the quoted IPv6 header.
            (Self::ProtocolUnreachable, Family::V6) => [0, 0, 0, 6],
            (
                Self::TimeExceeded
                | Self::NoRoute
                | Self::HostUnreachable
                | Self::ProtocolUnreachable
                | Self::PortUnreachable
                | Self::Prohibited,
                Family::V4 | Family::V6,
            ) => [0; 4],
        }
    }
}

/// Why no ICMP error may be sent about a packet (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 e).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ErrorSuppressed {
    /// The frame does not hold an IP packet of the right family, or too little of one.
    #[error("not enough of an IP packet")]
    NotIp,
    /// The packet is an ICMP error, or too short to tell.
    #[error("about an ICMP error")]
    AboutError,
    /// The packet was multicast or broadcast, by its IP or its MAC address.
    #[error("about a multicast or broadcast")]
    MulticastOrBroadcast,
    /// The packet is a fragment after the first.
    #[error("about a later fragment")]
    LaterFragment,
    /// The source address does not belong to a single host.
    #[error("the source {0} is no host")]
    Source(IpAddr),
}

/// Builds the ICMP error `kind` about the packet in `frame`, which may be cut short. The error goes from `source` and
/// `mac` to the sender of the packet, at the MAC address that the frame came from. `source` must be of the
/// packet's family.
pub fn error(kind: ErrorKind, frame: &[u8], source: IpAddr, mac: MacAddr) -> Result<Vec<u8>, ErrorSuppressed> {
    let (header, packet) = frame.split_first_chunk::<ETHERNET_LEN>().ok_or(ErrorSuppressed::NotIp)?;
    if header[0] & 1 != 0 {
        return Err(ErrorSuppressed::MulticastOrBroadcast);
    }
    let mut sender = [0; 6];
    sender.copy_from_slice(&header[6..12]);
    let macs = MacPair { source: mac, destination: MacAddr(sender) };
    let (offender, quoted) = match source {
        IpAddr::V4(_) => quotable_v4(packet)?,
        IpAddr::V6(_) => quotable_v6(packet)?,
    };
    let pair = AddressPair::new(source, offender).ok_or(ErrorSuppressed::NotIp)?;
    let family = pair.family();
    let room = match family {
        Family::V4 => ERROR_MAX_V4 - IPV4_LEN - ICMP_HEADER_LEN,
        Family::V6 => ERROR_MAX_V6 - IPV6_LEN - ICMP_HEADER_LEN,
    };
    let quoted = &quoted[..quoted.len().min(room)];
    Ok(message(macs, pair, kind.type_and_code(family), kind.words(family), quoted))
}

/// The source of an IPv4 packet about which an error may be sent, and its bytes without link-layer padding.
fn quotable_v4(bytes: &[u8]) -> Result<(IpAddr, &[u8]), ErrorSuppressed> {
    if bytes.len() < IPV4_LEN || bytes[0] >> 4 != 4 {
        return Err(ErrorSuppressed::NotIp);
    }
    let packet = Ipv4Packet::new_unchecked(bytes);
    let header = usize::from(packet.header_len());
    let quoted = &bytes[..bytes.len().min(usize::from(packet.total_len()))];
    if header < IPV4_LEN || quoted.len() < header {
        return Err(ErrorSuppressed::NotIp);
    }
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    if !is_host_v4(source) {
        return Err(ErrorSuppressed::Source(source.into()));
    }
    if destination.is_multicast() || destination.is_broadcast() {
        return Err(ErrorSuppressed::MulticastOrBroadcast);
    }
    if packet.frag_offset() != 0 {
        return Err(ErrorSuppressed::LaterFragment);
    }
    if u8::from(packet.next_header()) == protocol::ICMP && !quoted.get(header).is_some_and(|kind| is_query_v4(*kind)) {
        return Err(ErrorSuppressed::AboutError);
    }
    Ok((source.into(), quoted))
}

/// Does as [`quotable_v4`], for IPv6.
fn quotable_v6(bytes: &[u8]) -> Result<(IpAddr, &[u8]), ErrorSuppressed> {
    if bytes.len() < IPV6_LEN || bytes[0] >> 4 != 6 {
        return Err(ErrorSuppressed::NotIp);
    }
    let packet = Ipv6Packet::new_unchecked(bytes);
    let quoted = &bytes[..bytes.len().min(IPV6_LEN + usize::from(packet.payload_len()))];
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    if source.is_multicast() || source.is_unspecified() || source.is_loopback() {
        return Err(ErrorSuppressed::Source(source.into()));
    }
    if destination.is_multicast() {
        return Err(ErrorSuppressed::MulticastOrBroadcast);
    }
    let (mut protocol, mut rest) = (u8::from(packet.next_header()), &quoted[IPV6_LEN..]);
    for _ in 0..EXTENSIONS_MAX {
        let len = match (protocol, rest) {
            (protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS, [_, units, ..]) => {
                (usize::from(*units) + 1) * 8
            }
            (protocol::FRAGMENT, [_, _, high, low, ..]) => {
                if u16::from_be_bytes([*high, *low]) >> 3 != 0 {
                    return Err(ErrorSuppressed::LaterFragment);
                }
                8
            }
            _ => break,
        };
        protocol = rest[0];
        rest = rest.get(len..).unwrap_or_default();
    }
    if protocol == protocol::ICMPV6 && !rest.first().is_some_and(|kind| is_query_v6(*kind)) {
        return Err(ErrorSuppressed::AboutError);
    }
    Ok((source.into(), quoted))
}

/// True for ICMP messages that are not errors: echo, router discovery, timestamp, information and address mask.
const fn is_query_v4(kind: u8) -> bool {
    matches!(kind, 0 | 8..=10 | 13..=18)
}

/// True for informational ICMPv6 messages (RFC 4443 section 2.1) other than redirects, about which no error may be sent
/// (RFC 4443 section 2.4 e.2).
const fn is_query_v6(kind: u8) -> bool {
    kind >= 128 && kind != 137
}

fn is_host_v4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first != 127 && first < 224
}

fn message(macs: MacPair, pair: AddressPair, type_and_code: [u8; 2], words: [u8; 4], data: &[u8]) -> Vec<u8> {
    let protocol = protocol::icmp(pair.family());
    emit::ip(macs, pair, protocol, HOP_LIMIT, ICMP_HEADER_LEN + data.len(), |bytes| {
        bytes[..2].copy_from_slice(&type_and_code);
        bytes[4..8].copy_from_slice(&words);
        bytes[8..].copy_from_slice(data);
        match pair {
            AddressPair::V4(..) => Icmpv4Packet::new_unchecked(bytes).fill_checksum(),
            AddressPair::V6(source, destination) => fill_checksum_v6(bytes, source, destination),
        }
    })
}

fn fill_checksum_v6(bytes: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr) {
    Icmpv6Packet::new_unchecked(bytes).fill_checksum(&source, &destination);
}

#[cfg(test)]
mod tests;
