//! IP in IP: a packet as it is inside another one to whoever unpacks it (RFC 2003, RFC 2473, RFC 4213), and what routers on
//! the way say of the outer one.
//!
//! ```text
//!   Ethernet │ outer: engine > server, fresh TTL │ inner: client > virtual address, untouched but for its TTL
//! ```

use std::net::IpAddr;

use crate::wire::Family;
use crate::wire::checksum;
use crate::wire::emit::{HOP_LIMIT, Macs, Pair};
use crate::wire::frame::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN, ethertype, protocol};

/// The header that is put before a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// Who packs and who unpacks.
    pub pair: Pair,
    /// IPv4: identification. Of no meaning where nobody may fragment (RFC 6864 section 4.1).
    pub ident: u16,
    /// IPv4: nobody on the way may fragment.
    pub dont_fragment: bool,
}

/// Bytes that a tunnel of this family adds to a packet.
pub const fn overhead(outer: Family) -> u16 {
    match outer {
        Family::V4 => IPV4_LEN as u16,
        Family::V6 => IPV6_LEN as u16,
    }
}

/// Writes the frame that carries `packet` (an IP packet without padding, of at most 65,495 bytes) in place of what is in
/// `frame`.
///
/// DSCP and ECN are those of the packet (RFC 2983 section 3.1 uniform model, RFC 6040 section 4.1 normal mode): congestion
/// that routers mark inside the tunnel can be told to the ends. The flow label is 0, as IPVS has it.
pub fn wrap(frame: &mut Vec<u8>, macs: Macs, outer: &Outer, packet: &[u8]) {
    let (number, traffic_class) = match packet.first().map(|first| first >> 4) {
        Some(6) => (protocol::IPV6, (packet[0] << 4) | (packet[1] >> 4)),
        Some(_) | None => (protocol::IPV4, packet.get(1).copied().unwrap_or_default()),
    };
    frame.clear();
    frame.extend_from_slice(&macs.destination.0);
    frame.extend_from_slice(&macs.source.0);
    match outer.pair {
        Pair::V4(source, destination) => {
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
        Pair::V6(source, destination) => {
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

/// What is wrong with a tunnel, as somebody on the way says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Complaint {
    /// The outer packet was too big for a link with this MTU, in bytes.
    TooBig {
        /// At least 68.
        mtu: u16,
    },
    /// It does not arrive.
    Unreachable,
}

/// An ICMP error about an outer packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused<'a> {
    /// What is said.
    pub complaint: Complaint,
    /// Who packed, and who was to unpack.
    pub packer: IpAddr,
    /// See `packer`.
    pub unpacker: IpAddr,
    /// As much of the inner packet as was quoted; often too little to tell whose it is (RFC 792 wants 8 bytes).
    pub packet: &'a [u8],
}

/// An MTU for routers that do not tell theirs (RFC 1191 section 5): what everybody forwards.
const MTU_UNTOLD: u16 = 576;

/// Reads an ICMP error of a family: type, code and the packet that it quotes. `None` if it is none about a tunnel.
pub fn refused(family: Family, message: &[u8]) -> Option<Refused<'_>> {
    let (header, quote) = message.split_first_chunk::<8>()?;
    let wide = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let narrow = u16::from_be_bytes([header[6], header[7]]);
    let complaint = match (family, header[0], header[1]) {
        (Family::V4, 3, 4) if narrow == 0 => Complaint::TooBig { mtu: MTU_UNTOLD },
        (Family::V4, 3, 4) => Complaint::TooBig { mtu: narrow.max(68) },
        (Family::V6, 2, _) => Complaint::TooBig { mtu: u16::try_from(wide).unwrap_or(u16::MAX).max(68) },
        // A loop on the way is the packer's affair: to the sender the other end is not reachable (RFC 2003 section 4.4).
        (Family::V4, 3 | 11, _) | (Family::V6, 1 | 3 | 4, _) => Complaint::Unreachable,
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
    matches!(number, protocol::IPV4 | protocol::IPV6).then_some(Refused { complaint, packer, unpacker, packet })
}

/// The Ethernet header that `packet` would have, so that it can be treated as a frame: only its type is meant.
pub fn as_frame(packet: &[u8]) -> Option<Vec<u8>> {
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
