//! Reading the packet that an ICMP error quotes (RFC 792, RFC 4443 section 3).
//!
//! The quote is usually cut short and comes from an unknown sender. Lengths and checksums in it are those of the whole
//! packet, and routers on the way have changed some fields, so that neither is verified.

use std::net::IpAddr;

use crate::wire::Family;
use crate::wire::frame::{Tuple, ipv6, protocol};

/// The tuple of the quoted packet in `bytes`.
///
/// The result is `None` if the quote ends before the addresses, the extension headers or the ports do. A quoted
/// fragment after the first has ports 0.
pub fn tuple(bytes: &[u8], family: Family) -> Option<Tuple> {
    match family {
        Family::V4 => tuple_v4(bytes),
        Family::V6 => tuple_v6(bytes),
    }
}

fn tuple_v4(bytes: &[u8]) -> Option<Tuple> {
    let header: &[u8; 20] = bytes.first_chunk()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_len < 20 {
        return None;
    }
    let offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    let (source_port, destination_port) =
        ports(header[9], offset != 0, protocol::ICMP, bytes.get(header_len..).unwrap_or_default())?;
    Some(Tuple {
        protocol: header[9],
        source: IpAddr::from([header[12], header[13], header[14], header[15]]),
        source_port,
        destination: IpAddr::from([header[16], header[17], header[18], header[19]]),
        destination_port,
    })
}

fn tuple_v6(bytes: &[u8]) -> Option<Tuple> {
    let (header, rest) = bytes.split_first_chunk::<40>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let chain = ipv6::walk(header[6], rest).ok()?;
    let later = chain.fragment.is_some_and(|fragment| fragment.offset != 0);
    let (source_port, destination_port) = ports(chain.protocol, later, protocol::ICMPV6, &rest[chain.offset..])?;
    let address = |at: usize| {
        let octets: [u8; 16] = header[at..at + 16].try_into().expect("the fixed header has 40 bytes");
        IpAddr::from(octets)
    };
    Some(Tuple {
        protocol: chain.protocol,
        source: address(8),
        source_port,
        destination: address(24),
        destination_port,
    })
}

/// The two ports, or twice the identifier of an ICMP query; 0 for other messages and protocols. `None` if they were not
/// quoted.
fn ports(protocol: u8, later_fragment: bool, icmp: u8, transport: &[u8]) -> Option<(u16, u16)> {
    if later_fragment {
        return Some((0, 0));
    }
    if protocol::has_ports(protocol) {
        let ports: &[u8; 4] = transport.first_chunk()?;
        return Some((u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]])));
    }
    if protocol == icmp {
        let message: &[u8; 6] = transport.first_chunk()?;
        let identifier = match super::parse::icmp_class(icmp, message[0]) {
            super::ParsedIcmpClass::Query => u16::from_be_bytes([message[4], message[5]]),
            super::ParsedIcmpClass::NotIcmp
            | super::ParsedIcmpClass::Error
            | super::ParsedIcmpClass::LinkLocal
            | super::ParsedIcmpClass::Other => 0,
        };
        return Some((identifier, identifier));
    }
    Some((0, 0))
}
