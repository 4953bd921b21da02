//! IP-in-IP tunnels to servers: encapsulation (RFC 2003, RFC 2473, RFC 4213), and reading the ICMP errors that routers
//! send about the outer packet.
//!
//! ```text
//!   Ethernet │ outer: engine > server, fresh TTL │ inner: client > virtual address, untouched but for its TTL
//! ```

use std::net::IpAddr;

use crate::wire::Family;
use crate::wire::checksum;
use crate::wire::emit::{AddressPair, HOP_LIMIT, MacPair};
use crate::wire::frame::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN, ethertype, protocol};

/// The outer header of a tunnel packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OuterHeader {
    /// The addresses of the two tunnel ends: the engine, which encapsulates, and the server, which decapsulates.
    pub addresses: AddressPair,
    /// IPv4 identification. It has no meaning in packets with DF (RFC 6864 section 4.1).
    pub ident: u16,
    /// IPv4 DF: routers must not fragment the outer packet.
    pub dont_fragment: bool,
}

/// Length of the outer header in bytes, by which a tunnel makes packets longer.
pub const fn overhead(outer: Family) -> u16 {
    match outer {
        Family::V4 => IPV4_LEN as u16,
        Family::V6 => IPV6_LEN as u16,
    }
}

/// Writes into `frame` (replacing its content) the frame that carries `packet`, an IP packet without padding of at most
/// 65,495 bytes.
///
/// DSCP and ECN are copied from the packet (the uniform model of RFC 2983 section 3.1, the normal mode of RFC 6040
/// section 4.1), so that congestion marks set inside the tunnel can reach the end points. The IPv6 flow label is 0, as
/// in IPVS.
pub fn encapsulate(frame: &mut Vec<u8>, macs: MacPair, outer: &OuterHeader, packet: &[u8]) {
    let (number, traffic_class) = match packet.first().map(|first| first >> 4) {
        Some(6) => (protocol::IPV6, (packet[0] << 4) | (packet[1] >> 4)),
        Some(_) | None => (protocol::IPV4, packet.get(1).copied().unwrap_or_default()),
    };
    frame.clear();
    frame.extend_from_slice(&macs.destination.0);
    frame.extend_from_slice(&macs.source.0);
    match outer.addresses {
        AddressPair::V4(source, destination) => {
            frame.extend_from_slice(&ethertype::IPV4.to_be_bytes());
            let mut header = [0; IPV4_LEN];
            header[0] = 0x45;
            header[1] = traffic_class;
            header[2..4].copy_from_slice(&((IPV4_LEN + packet.len()) as u16).to_be_bytes());
            header[4..6].copy_from_slice(&outer.ident.to_be_bytes());
            header[6] = if outer.dont_fragment { 0x40 } else { 0 };
            header[8] = HOP_LIMIT;
            header[9] = number;
            header[12..16].copy_from_slice(&source.octets());
            header[16..20].copy_from_slice(&destination.octets());
            let checksum = checksum::checksum(&header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            frame.extend_from_slice(&header);
        }
        AddressPair::V6(source, destination) => {
            frame.extend_from_slice(&ethertype::IPV6.to_be_bytes());
            frame.extend_from_slice(&[0x60 | (traffic_class >> 4), traffic_class << 4, 0, 0]);
            frame.extend_from_slice(&(packet.len() as u16).to_be_bytes());
            frame.extend_from_slice(&[number, HOP_LIMIT]);
            frame.extend_from_slice(&source.octets());
            frame.extend_from_slice(&destination.octets());
        }
    }
    frame.extend_from_slice(packet);
}

/// What an ICMP error says about a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelError {
    /// The outer packet was larger than the MTU of a link on the way.
    TooBig {
        /// The MTU of that link in bytes, at least 68.
        mtu: u16,
    },
    /// The outer packet did not reach the other end of the tunnel.
    Unreachable,
}

/// An ICMP error about an outer packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelIcmpError<'a> {
    /// What the error says.
    pub error: TunnelError,
    /// Outer source: the address of the tunnel end that encapsulated the packet.
    pub outer_source: IpAddr,
    /// Outer destination: the address of the tunnel end that was to decapsulate it.
    pub outer_destination: IpAddr,
    /// The part of the inner packet that was quoted. It is often too short to identify the flow (RFC 792 requires 8
    /// bytes only).
    pub packet: &'a [u8],
}

/// The MTU that is assumed if a router does not report its own (RFC 1191 section 5).
const FALLBACK_MTU: u16 = 576;

/// Reads an ICMP or ICMPv6 message; `None` if it is not an error about an IP-in-IP packet.
pub fn parse_icmp_error(family: Family, message: &[u8]) -> Option<TunnelIcmpError<'_>> {
    let (header, quote) = message.split_first_chunk::<8>()?;
    let wide = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let narrow = u16::from_be_bytes([header[6], header[7]]);
    let complaint = match (family, header[0], header[1]) {
        (Family::V4, 3, 4) if narrow == 0 => TunnelError::TooBig { mtu: FALLBACK_MTU },
        (Family::V4, 3, 4) => TunnelError::TooBig { mtu: narrow.max(68) },
        (Family::V6, 2, _) => TunnelError::TooBig { mtu: u16::try_from(wide).unwrap_or(u16::MAX).max(68) },
        // Time exceeded means a routing loop inside the tunnel. To the client the server is then unreachable (RFC 2003
        // section 4.4).
        (Family::V4, 3 | 11, _) | (Family::V6, 1 | 3 | 4, _) => TunnelError::Unreachable,
        (Family::V4 | Family::V6, _, _) => return None,
    };
    let (number, packer, unpacker, packet) = match family {
        Family::V4 => {
            let fixed: &[u8; IPV4_LEN] = quote.first_chunk()?;
            let header_len = usize::from(fixed[0] & 0x0f) * 4;
            let is_later = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x1fff != 0;
            if fixed[0] >> 4 != 4 || header_len < IPV4_LEN || is_later {
                return None;
            }
            let address = |at: usize| IpAddr::from([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
            (fixed[9], address(12), address(16), quote.get(header_len..).unwrap_or_default())
        }
        Family::V6 => {
            let (fixed, rest) = quote.split_first_chunk::<IPV6_LEN>()?;
            if fixed[0] >> 4 != 6 {
                return None;
            }
            let address = |at: usize| {
                let octets: [u8; 16] = fixed[at..at + 16].try_into().expect("the fixed header has 40 bytes");
                IpAddr::from(octets)
            };
            (fixed[6], address(8), address(24), rest)
        }
    };
    matches!(number, protocol::IPV4 | protocol::IPV6).then_some(TunnelIcmpError {
        error: complaint,
        outer_source: packer,
        outer_destination: unpacker,
        packet,
    })
}

/// Puts an Ethernet header in front of `packet`, so that it can be parsed as a frame. Only the EtherType is set. `None`
/// if it is not an IP packet.
pub fn with_ethernet_header(packet: &[u8]) -> Option<Vec<u8>> {
    let number = match packet.first()? >> 4 {
        4 => ethertype::IPV4,
        6 => ethertype::IPV6,
        _ => return None,
    };
    let mut frame = Vec::with_capacity(ETHERNET_LEN + packet.len());
    frame.extend_from_slice(&[0; ETHERNET_LEN - 2]);
    frame.extend_from_slice(&number.to_be_bytes());
    frame.extend_from_slice(packet);
    Some(frame)
}

#[cfg(test)]
mod tests;
