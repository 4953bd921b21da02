//! Finds the flow of a packet, also of an ICMP error by its quotation; and rewrites a packet as NAT does.

use std::net::IpAddr;

use super::{Datagram, Packet, PacketFragment, be16, checksum, protocol, tcp_flag};

/// A flow as one packet shows it, source first. It is ordered, so that it can be the key of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// IP protocol number.
    pub protocol: u8,
    /// Source address and port; for ICMP queries the identifier.
    pub source: (IpAddr, u16),
    /// Destination address and port; for ICMP queries the identifier.
    pub destination: (IpAddr, u16),
}

impl Tuple {
    /// The tuple of packets in the other direction.
    pub const fn reversed(self) -> Self {
        Self { protocol: self.protocol, source: self.destination, destination: self.source }
    }

    /// A tuple that is the same for both directions.
    pub fn canonical(self) -> Self {
        if self.source <= self.destination { self } else { self.reversed() }
    }
}

impl std::fmt::Display for Tuple {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.protocol {
            protocol::TCP => "tcp",
            protocol::UDP => "udp",
            protocol::ICMP | protocol::ICMPV6 => "icmp",
            protocol::GRE => "gre",
            _ => "ip",
        };
        let (source, destination) = (self.source, self.destination);
        write!(f, "{name} {}|{} > {}|{}", source.0, source.1, destination.0, destination.1)
    }
}

/// Kinds of ICMP messages, as far as a firewall has to tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpKind {
    /// Echo request, with its identifier.
    Request(u16),
    /// Echo reply, with its identifier.
    Reply(u16),
    /// An error, with the quoted packet's flow if enough of it is quoted.
    Error(Option<Tuple>),
    /// Neighbour discovery and multicast listener reports.
    LinkLocal,
    /// Any other message.
    Other,
}

impl Packet {
    /// The two ports, if the protocol has ports and this packet contains them.
    fn ports(&self) -> Option<(u16, u16)> {
        match (self.protocol, self.fragment) {
            (protocol::TCP | protocol::UDP, None | Some(PacketFragment { offset: 0, .. })) => {
                Some((be16(&self.payload, 0)?, be16(&self.payload, 2)?))
            }
            _ => None,
        }
    }

    /// The TCP flags of a whole segment.
    pub fn tcp_flags(&self) -> Option<u8> {
        (self.protocol == protocol::TCP && self.fragment.is_none()).then(|| self.payload.get(13).copied()).flatten()
    }

    /// The datagram of which it is a fragment.
    pub fn datagram(&self) -> Option<Datagram> {
        self.fragment.map(|piece| (self.source, self.destination, self.protocol, piece.id))
    }

    /// The TCP sequence number of a whole segment.
    pub fn tcp_sequence(&self) -> Option<u32> {
        self.tcp_flags()?;
        Some(u32::from_be_bytes(self.payload.get(4..8)?.try_into().ok()?))
    }

    /// The TCP acknowledgement number of a whole segment with ACK.
    pub fn tcp_acknowledgement(&self) -> Option<u32> {
        self.tcp_flags().filter(|flags| flags & tcp_flag::ACK != 0)?;
        Some(u32::from_be_bytes(self.payload.get(8..12)?.try_into().ok()?))
    }

    /// How far a whole TCP segment advances the sequence number: by its data, SYN and FIN.
    pub fn tcp_length(&self) -> Option<u32> {
        let flags = self.tcp_flags()?;
        let header = usize::from(self.payload.get(12)? >> 4) * 4;
        let signs = u32::from(flags & tcp_flag::SYN != 0) + u32::from(flags & tcp_flag::FIN != 0);
        Some(self.payload.len().saturating_sub(header) as u32 + signs)
    }

    /// The numbers of the reset with which a host without such a connection refuses this segment (RFC 9293 section
    /// 3.10.7.1): sequence number, and acknowledgement number if it has one. `None` if the segment is not answered.
    pub fn tcp_refusal(&self) -> Option<(u32, Option<u32>)> {
        let flags = self.tcp_flags().filter(|flags| flags & tcp_flag::RST == 0)?;
        match self.tcp_acknowledgement() {
            Some(acknowledged) => Some((acknowledged, None)),
            None => Some((0, Some(self.tcp_sequence()?.wrapping_add(self.tcp_length()?)))),
        }
        .filter(|_| flags != 0)
    }

    /// The kind of ICMP message; `None` for other protocols and for later fragments.
    pub fn icmp_kind(&self) -> Option<IcmpKind> {
        let v6 = match self.protocol {
            protocol::ICMP => false,
            protocol::ICMPV6 => true,
            _ => return None,
        };
        if self.fragment.is_some_and(|piece| piece.offset > 0) {
            return None;
        }
        let ident = be16(&self.payload, 4)?;
        Some(match (v6, *self.payload.first()?) {
            (false, 8) | (true, 128) => IcmpKind::Request(ident),
            (false, 0) | (true, 129) => IcmpKind::Reply(ident),
            (false, 3 | 4 | 11 | 12) | (true, 1..=4) => IcmpKind::Error(self.payload.get(8..).and_then(quoted_tuple)),
            (true, 130..=137 | 143) => IcmpKind::LinkLocal,
            (false | true, _) => IcmpKind::Other,
        })
    }

    /// The flow of the packet. An ICMP error belongs to the quoted packet's flow, in the direction of the error.
    pub fn tuple(&self) -> Tuple {
        if let Some(IcmpKind::Error(Some(quoted))) = self.icmp_kind() {
            return quoted.reversed();
        }
        let (source_port, destination_port) = match self.icmp_kind() {
            Some(IcmpKind::Request(ident) | IcmpKind::Reply(ident)) => (ident, ident),
            Some(IcmpKind::Error(_) | IcmpKind::LinkLocal | IcmpKind::Other) => (0, 0),
            None => self.ports().unwrap_or((0, 0)),
        };
        Tuple {
            protocol: self.protocol,
            source: (self.source, source_port),
            destination: (self.destination, destination_port),
        }
    }

    /// The inner packet of a tunnel; `None` also if the inner packet is not what the header says, or if this is a
    /// fragment.
    pub fn inside(&self) -> Option<Self> {
        let v4 = match self.protocol {
            protocol::IPV4 => true,
            protocol::IPV6 => false,
            _ => return None,
        };
        let whole = self.fragment.is_none().then_some(&self.payload)?;
        Self::parse(whole).filter(|inside| inside.source.is_ipv4() == v4)
    }

    /// Whether it is an ICMP error.
    pub fn is_icmp_error(&self) -> bool {
        matches!(self.icmp_kind(), Some(IcmpKind::Error(_)))
    }

    /// The packet with the addresses, ports or identifiers of `tuple`, as NAT sends it. The packet quoted in an ICMP
    /// error is rewritten in reverse, as far as it is quoted.
    pub fn rewritten(mut self, tuple: Tuple) -> Self {
        if self.tuple() == tuple {
            return self;
        }
        if self.is_icmp_error() {
            self.destination = tuple.destination.0;
            if let Some(quote) = self.payload.get_mut(8..) {
                rewrite_quote(quote, tuple.reversed());
            }
            return self.with_checksum();
        }
        (self.source, self.destination) = (tuple.source.0, tuple.destination.0);
        match self.icmp_kind() {
            Some(IcmpKind::Request(_) | IcmpKind::Reply(_)) => {
                self.payload[4..6].copy_from_slice(&tuple.source.1.to_be_bytes());
            }
            Some(IcmpKind::Error(_) | IcmpKind::LinkLocal | IcmpKind::Other) => {}
            None if self.ports().is_some() => {
                self.payload[0..2].copy_from_slice(&tuple.source.1.to_be_bytes());
                self.payload[2..4].copy_from_slice(&tuple.destination.1.to_be_bytes());
            }
            None => {}
        }
        self.with_checksum()
    }
}

/// Header length and protocol of a quoted packet, which may be cut short.
fn quoted_header(quote: &[u8]) -> Option<(usize, u8)> {
    match quote.first()? >> 4 {
        4 => Some((usize::from(quote[0] & 15) * 4, *quote.get(9)?)),
        6 if *quote.get(6)? == protocol::FRAGMENT => Some((48, *quote.get(40)?)),
        6 => Some((40, quote[6])),
        _ => None,
    }
}

/// The flow of a quoted packet.
fn quoted_tuple(quote: &[u8]) -> Option<Tuple> {
    let (header_len, proto) = quoted_header(quote)?;
    let (source, destination) = if quote[0] >> 4 == 4 {
        let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(quote.get(at..at + 4)?).ok()?));
        (address(12)?, address(16)?)
    } else {
        let address = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(quote.get(at..at + 16)?).ok()?));
        (address(8)?, address(24)?)
    };
    let (source_port, destination_port) = match proto {
        protocol::TCP | protocol::UDP => (be16(quote, header_len)?, be16(quote, header_len + 2)?),
        protocol::ICMP | protocol::ICMPV6 => (be16(quote, header_len + 4)?, be16(quote, header_len + 4)?),
        _ => (0, 0),
    };
    Some(Tuple { protocol: proto, source: (source, source_port), destination: (destination, destination_port) })
}

fn rewrite_quote(quote: &mut [u8], tuple: Tuple) {
    let Some((header_len, proto)) = quoted_header(quote) else { return };
    match (tuple.source.0, tuple.destination.0) {
        (IpAddr::V4(a), IpAddr::V4(b)) if quote.len() >= 20 => {
            quote[12..16].copy_from_slice(&a.octets());
            quote[16..20].copy_from_slice(&b.octets());
            quote[10..12].fill(0);
            let sum = checksum(&quote[..header_len.min(quote.len())]);
            quote[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(a), IpAddr::V6(b)) if quote.len() >= 40 => {
            quote[8..24].copy_from_slice(&a.octets());
            quote[24..40].copy_from_slice(&b.octets());
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => return,
    }
    if let Some(ports) = quote.get_mut(header_len..) {
        match proto {
            protocol::TCP | protocol::UDP if ports.len() >= 4 => {
                ports[0..2].copy_from_slice(&tuple.source.1.to_be_bytes());
                ports[2..4].copy_from_slice(&tuple.destination.1.to_be_bytes());
            }
            protocol::ICMP | protocol::ICMPV6 if ports.len() >= 6 => {
                ports[4..6].copy_from_slice(&tuple.source.1.to_be_bytes());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));

    #[test]
    fn a_translated_error_quotes_the_translated_packet() {
        let lost = Packet::udp((A, 4000), (B, 53), b"question");
        let error = Packet::icmp(B, A, 3, 3, [0; 4], &lost.emit()[..28]);
        let outside: IpAddr = Ipv4Addr::new(192, 0, 2, 1).into();
        let shown = Tuple { protocol: protocol::UDP, source: (B, 53), destination: (outside, 6000) };

        let translated = error.rewritten(shown);

        assert_eq!(translated.destination, outside);
        assert_eq!(translated.tuple(), shown);
        assert!(translated.checksum_ok());
    }
}
