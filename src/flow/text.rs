//! A flow as operators write it: `PROTO SOURCE DESTINATION [ID]`.

use std::net::IpAddr;

use crate::flow::{Endpoint, FlowKey};
use crate::wire::Family;
use crate::wire::frame::protocol::{DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, UDP_LITE, has_ports};

/// The names of IP protocols and their numbers (IANA), those with ports first.
const PROTOCOLS: &[(&str, u8)] = &[
    ("tcp", TCP),
    ("udp", UDP),
    ("sctp", SCTP),
    ("dccp", DCCP),
    ("udplite", UDP_LITE),
    ("icmp", ICMP),
    ("icmpv6", ICMPV6),
    ("esp", 50),
    ("ah", 51),
    ("gre", 47),
    ("ipip", 4),
    ("igmp", 2),
    ("ospf", 89),
    ("vrrp", 112),
];

/// The text is not a flow. The message says what was expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlowTextError {
    /// The text has too few or too many words.
    #[error("a flow is PROTO SOURCE DESTINATION, as in: tcp 198.51.100.7:40000 203.0.113.80:80")]
    Words,
    /// The first word names no known protocol.
    #[error("unknown protocol {0:?}: expected tcp, udp, sctp, icmp, esp, ah, gre or a number 0..=255")]
    Protocol(String),
    /// An end is not an IP address.
    #[error("not an IP address: {0:?} (an IPv6 address with a port is written [2001:db8::1]:53)")]
    Address(String),
    /// A port or identifier is not a number from 0 to 65535.
    #[error("not a port: {0:?} (expected 0..=65535)")]
    Port(String),
    /// The protocol has ports, but an end has none.
    #[error("{protocol} needs a port: {end:?} (as in {example})")]
    PortMissing {
        /// The protocol as it was written.
        protocol: String,
        /// The end as it was written.
        end: String,
        /// The end with a port added.
        example: String,
    },
    /// The protocol has no ports, but an end has one.
    #[error("{protocol} has no ports: {end:?}")]
    UnexpectedPort {
        /// The protocol as it was written.
        protocol: String,
        /// The end as it was written.
        end: String,
    },
    /// The ends, or the protocol and an end, are of different address families.
    #[error("{0} and {1} are of different families")]
    Families(String, String),
    /// There is a fourth word, but the protocol has no identifier.
    #[error("{0} has no identifier; only icmp takes a fourth word")]
    Identifier(String),
}

/// Reads a flow. `icmp` between IPv6 addresses means ICMPv6; an identifier that is left out is 0.
pub fn parse(text: &str) -> Result<FlowKey, FlowTextError> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (name, source, destination, id) = match words.as_slice() {
        [name, source, destination] => (*name, *source, *destination, None),
        [name, source, destination, id] => (*name, *source, *destination, Some(*id)),
        _ => return Err(FlowTextError::Words),
    };
    let protocol = protocol(name)?;
    let (source_address, source_port) = endpoint(name, protocol, source)?;
    let (destination_address, destination_port) = endpoint(name, protocol, destination)?;
    let family = Family::of(source_address);
    if family != Family::of(destination_address) {
        return Err(FlowTextError::Families(source.to_owned(), destination.to_owned()));
    }
    let protocol = match (protocol, family) {
        (ICMP, Family::V6) => ICMPV6,
        (ICMPV6, Family::V4) => return Err(FlowTextError::Families(name.to_owned(), source.to_owned())),
        (other, _) => other,
    };
    let id = match id {
        Some(_) if !is_icmp(protocol) => return Err(FlowTextError::Identifier(name.to_owned())),
        Some(id) => id.parse().map_err(|_| FlowTextError::Port(id.to_owned()))?,
        None => 0,
    };
    // The identifier of an ICMP query takes the place of the port at both ends.
    let port = |port: Option<u16>| port.unwrap_or(if is_icmp(protocol) { id } else { 0 });
    Ok(FlowKey {
        protocol,
        source: Endpoint { address: source_address, port: port(source_port) },
        destination: Endpoint { address: destination_address, port: port(destination_port) },
    })
}

/// Writes a flow in the form that [`parse`] reads.
pub fn format(flow: &FlowKey) -> String {
    let name = protocol_name(flow.protocol);
    if has_ports(flow.protocol) {
        let end = |end: &Endpoint| std::net::SocketAddr::new(end.address, end.port).to_string();
        return format!("{name} {} {}", end(&flow.source), end(&flow.destination));
    }
    match is_icmp(flow.protocol) {
        true => format!("{name} {} {} {}", flow.source.address, flow.destination.address, flow.source.port),
        false => format!("{name} {} {}", flow.source.address, flow.destination.address),
    }
}

/// The protocol number for a name or number.
pub(super) fn protocol(name: &str) -> Result<u8, FlowTextError> {
    let named = PROTOCOLS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, number)| *number);
    named.or_else(|| name.parse().ok()).ok_or_else(|| FlowTextError::Protocol(name.to_owned()))
}

/// The name of a protocol, or its number if it has none here.
pub(super) fn protocol_name(protocol: u8) -> String {
    let known = PROTOCOLS.iter().find(|(_, number)| *number == protocol);
    known.map_or_else(|| protocol.to_string(), |(name, _)| (*name).to_owned())
}

pub(super) fn is_icmp(protocol: u8) -> bool {
    matches!(protocol, ICMP | ICMPV6)
}

/// Reads an end: `203.0.113.80:80`, `[2001:db8::1]:53`, or an address alone if the protocol has no ports.
fn endpoint(name: &str, protocol: u8, text: &str) -> Result<(IpAddr, Option<u16>), FlowTextError> {
    let (address, port) = end(text)?;
    match (has_ports(protocol), port) {
        (true, None) => Err(FlowTextError::PortMissing {
            protocol: name.to_owned(),
            end: text.to_owned(),
            example: std::net::SocketAddr::new(address, 80).to_string(),
        }),
        (false, Some(_)) => Err(FlowTextError::UnexpectedPort { protocol: name.to_owned(), end: text.to_owned() }),
        (true, Some(_)) | (false, None) => Ok((address, port)),
    }
}

/// Reads an address with or without a port.
pub(super) fn end(text: &str) -> Result<(IpAddr, Option<u16>), FlowTextError> {
    let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    match (bare(text), text.rsplit_once(':')) {
        (Some(address), _) => Ok((address, None)),
        (None, Some((address, port))) => {
            let address = bare(address).ok_or_else(|| FlowTextError::Address(text.to_owned()))?;
            Ok((address, Some(port.parse().map_err(|_| FlowTextError::Port(port.to_owned()))?)))
        }
        (None, None) => Err(FlowTextError::Address(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flows_of_the_contract_are_read_and_written_back() {
        for text in [
            "tcp 198.51.100.7:40000 203.0.113.80:80",
            "udp [2001:db8::1]:53 [2001:db8::2]:53",
            "icmp 198.51.100.7 203.0.113.80 17",
            "icmpv6 2001:db8::1 2001:db8::2 17",
            "sctp 192.0.2.1:1 192.0.2.2:2",
            "udplite 192.0.2.1:1 192.0.2.2:2",
            "esp 192.0.2.1 192.0.2.2",
            "99 192.0.2.1 192.0.2.2",
        ] {
            assert_eq!(parse(text).map(|flow| format(&flow)).as_deref(), Ok(text));
        }
    }

    #[test]
    fn icmp_between_ipv6_addresses_is_icmpv6_with_the_identifier_at_both_ends() {
        let flow = parse("icmp 2001:db8::1 2001:db8::2 7").unwrap();
        assert_eq!((flow.protocol, flow.source.port, flow.destination.port), (58, 7, 7));
        assert_eq!(parse("icmp 192.0.2.1 192.0.2.2").unwrap().source.port, 0);
    }

    #[test]
    fn what_is_no_flow_is_told_what_was_expected() {
        let message = |text| parse(text).unwrap_err().to_string();
        assert!(message("tcp 1.2.3.4:1").starts_with("a flow is PROTO SOURCE DESTINATION"));
        assert!(message("tpc 1.2.3.4:1 1.2.3.5:2").contains("unknown protocol \"tpc\""));
        assert!(message("tcp 1.2.3.4 1.2.3.5:2").contains("tcp needs a port: \"1.2.3.4\" (as in 1.2.3.4:80)"));
        assert!(message("tcp 1.2.3.4:70000 1.2.3.5:2").contains("not a port: \"70000\""));
        assert!(message("esp 1.2.3.4:1 1.2.3.5").contains("esp has no ports"));
        assert!(message("udp 1.2.3.4:1 [::2]:2").contains("different families"));
        assert!(message("icmpv6 1.2.3.4 1.2.3.5").contains("different families"));
        assert!(message("udp 1.2.3.4:1 1.2.3.5:2 9").contains("no identifier"));
        assert!(message("udp 1.2.3:1 1.2.3.5:2").contains("not an IP address"));
    }
}
