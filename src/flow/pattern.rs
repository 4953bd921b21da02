//! A pattern that selects flows, as operators write it: `PROTO ADDRESS[:PORT] ADDRESS[:PORT] [ID]`. Ports and
//! identifiers may be left out, and both directions match.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::flow::FlowKey;
use crate::flow::key::Endpoint;
use crate::flow::text::{self, FlowTextError};
use crate::wire::Family;
use crate::wire::frame::protocol::{ICMP, ICMPV6, has_ports};

/// A protocol and two ends, in either order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowPattern {
    protocol: u8,
    ends: [End; 2],
}

/// One end of the pattern; without a port it matches any port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    address: IpAddr,
    port: Option<u16>,
}

impl End {
    fn matches(&self, end: &Endpoint) -> bool {
        self.address == end.address && self.port.is_none_or(|port| port == end.port)
    }
}

impl FlowPattern {
    /// True if the pattern matches `flow` in either direction.
    pub fn matches(&self, flow: &FlowKey) -> bool {
        let [a, b] = &self.ends;
        let (source, destination) = (&flow.source, &flow.destination);
        self.protocol == flow.protocol
            && (a.matches(source) && b.matches(destination) || a.matches(destination) && b.matches(source))
    }
}

impl FromStr for FlowPattern {
    type Err = FlowTextError;

    fn from_str(text: &str) -> Result<Self, FlowTextError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (name, ends, id) = match words.as_slice() {
            [name, a, b] => (*name, [*a, *b], None),
            [name, a, b, id] => (*name, [*a, *b], Some(*id)),
            _ => return Err(FlowTextError::Words),
        };
        let [a, b] = [text::end(ends[0])?, text::end(ends[1])?];
        if Family::of(a.0) != Family::of(b.0) {
            return Err(FlowTextError::Families(ends[0].to_owned(), ends[1].to_owned()));
        }
        let protocol = match (text::protocol(name)?, Family::of(a.0)) {
            (ICMP, Family::V6) => ICMPV6,
            (ICMPV6, Family::V4) => return Err(FlowTextError::Families(name.to_owned(), ends[0].to_owned())),
            (other, _) => other,
        };
        let with_port = [(a, ends[0]), (b, ends[1])].into_iter().find(|((_, port), _)| port.is_some());
        if let Some((_, end)) = with_port.filter(|_| !has_ports(protocol)) {
            return Err(FlowTextError::UnexpectedPort { protocol: name.to_owned(), end: end.to_owned() });
        }
        let id = match id {
            Some(_) if !text::is_icmp(protocol) => return Err(FlowTextError::Identifier(name.to_owned())),
            // The identifier of an ICMP query takes the place of the port at both ends.
            Some(id) => Some(id.parse().map_err(|_| FlowTextError::Port(id.to_owned()))?),
            None => None,
        };
        let ends = [a, b].map(|(address, port)| End { address, port: port.or(id) });
        Ok(Self { protocol, ends })
    }
}

impl fmt::Display for FlowPattern {
    /// Writes the pattern in the form that is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", text::protocol_name(self.protocol))?;
        for End { address, port } in self.ends {
            match port.filter(|_| has_ports(self.protocol)) {
                Some(port) => write!(f, " {}", SocketAddr::new(address, port))?,
                None => write!(f, " {address}")?,
            }
        }
        match self.ends[0].port.filter(|_| text::is_icmp(self.protocol)) {
            Some(id) => write!(f, " {id}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> FlowPattern {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn flow(text: &str) -> FlowKey {
        text::parse(text).unwrap()
    }

    #[test]
    fn a_flow_is_meant_in_both_directions_and_no_other_is() {
        let meant = pattern("tcp 198.51.100.7:40000 203.0.113.80:80");

        assert!(meant.matches(&flow("tcp 198.51.100.7:40000 203.0.113.80:80")));
        assert!(meant.matches(&flow("tcp 203.0.113.80:80 198.51.100.7:40000")));
        for other in [
            "udp 198.51.100.7:40000 203.0.113.80:80",
            "tcp 198.51.100.7:40001 203.0.113.80:80",
            "tcp 198.51.100.7:80 203.0.113.80:40000",
        ] {
            assert!(!meant.matches(&flow(other)), "{other}");
        }
    }

    #[test]
    fn what_is_left_out_is_any() {
        let service = pattern("tcp 198.51.100.7 203.0.113.80:80");
        assert!(service.matches(&flow("tcp 203.0.113.80:80 198.51.100.7:1234")));
        assert!(!service.matches(&flow("tcp 203.0.113.80:81 198.51.100.7:1234")));
        let echo = pattern("icmp 2001:db8::1 2001:db8::2");
        assert!(echo.matches(&flow("icmp 2001:db8::2 2001:db8::1 77")));
        assert!(!pattern("icmp 192.0.2.1 192.0.2.2 5").matches(&flow("icmp 192.0.2.1 192.0.2.2 6")));
        assert!(pattern("esp 192.0.2.1 192.0.2.2").matches(&flow("esp 192.0.2.2 192.0.2.1")));
    }

    #[test]
    fn patterns_are_read_and_written_back() {
        for text in [
            "tcp 198.51.100.7:40000 203.0.113.80:80",
            "tcp 198.51.100.7 203.0.113.80:80",
            "udp [2001:db8::1]:53 2001:db8::2",
            "icmp 198.51.100.7 203.0.113.80 17",
            "icmpv6 2001:db8::1 2001:db8::2",
            "esp 192.0.2.1 192.0.2.2",
        ] {
            assert_eq!(pattern(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_pattern_is_told_what_was_expected() {
        let message = |text: &str| text.parse::<FlowPattern>().unwrap_err().to_string();
        assert!(message("tcp 1.2.3.4").starts_with("a flow is PROTO SOURCE DESTINATION"));
        assert!(message("tcp 1.2.3.4 ::1").contains("different families"));
        assert!(message("icmpv6 1.2.3.4 1.2.3.5").contains("different families"));
        assert!(message("esp 1.2.3.4:1 1.2.3.5").contains("esp has no ports"));
        assert!(message("tcp 1.2.3.4 1.2.3.5 7").contains("no identifier"));
    }
}
