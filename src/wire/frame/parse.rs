//! The single pass that validates a frame and finds its headers.

use crate::wire::frame::{
    ETHERNET_LEN, Fragment, Frame, FrameKind, Layout, Malformed, ParsedIcmpClass, ethertype, ipv6, protocol,
};
use crate::wire::offload::Offload;
use crate::wire::{Family, checksum};

/// The smallest EtherType. Smaller values in that field are lengths (IEEE 802.3 section 3.2.6).
const ETHERTYPE_MIN: u16 = 0x0600;
/// The part of a TCP header up to flags and window, which a first fragment must contain whole (RFC 3128 section 2).
const TCP_FLAGS_LEN: usize = 16;

impl<'a> Frame<'a> {
    /// Validates a frame and remembers where its headers lie.
    ///
    /// All lengths and the IPv4 header checksum are checked. Of the checksums above IP only that of ICMP is verified,
    /// because the engine acts on the packets that ICMP errors quote. It is skipped where it cannot be judged: in
    /// fragments, in super-frames, where `offload` says that it is partial or already verified, and in IPv6 packets
    /// with headers that change the addresses it covers.
    #[inline]
    pub fn parse(bytes: &'a mut [u8], offload: &Offload) -> Result<Self, Malformed> {
        let layout = layout(bytes, offload)?;
        Ok(Self { bytes, layout })
    }

    /// Does as [`Frame::parse`], but returns the bytes of a malformed frame to the caller.
    #[inline(always)]
    pub fn parse_or_return(bytes: &'a mut [u8], offload: &Offload) -> Result<Self, &'a mut [u8]> {
        match layout(bytes, offload) {
            Ok(layout) => Ok(Self { bytes, layout }),
            Err(_) => Err(bytes),
        }
    }
}

#[inline(always)]
fn layout(bytes: &[u8], offload: &Offload) -> Result<Layout, Malformed> {
    let Some((ethernet, packet)) = bytes.split_first_chunk::<ETHERNET_LEN>() else {
        return Err(Malformed::EthernetTruncated);
    };
    match u16::from_be_bytes([ethernet[12], ethernet[13]]) {
        ethertype::IPV4 => ipv4(packet, offload),
        ethertype::IPV6 => ipv6(packet, offload),
        ethertype::ARP => Ok(not_ip(FrameKind::Arp)),
        length if length < ETHERTYPE_MIN => Ok(not_ip(FrameKind::Llc)),
        other => Ok(not_ip(FrameKind::Other(other))),
    }
}

const fn not_ip(payload: FrameKind) -> Layout {
    Layout {
        kind: payload,
        family: Family::V4,
        protocol: 0,
        icmp: ParsedIcmpClass::NotIcmp,
        fragment: Fragment::Whole,
        fragment_offset: 0,
        fragment_payload: ETHERNET_LEN as u16,
        more_fragments: false,
        transport: ETHERNET_LEN as u16,
        end: ETHERNET_LEN as u32,
        source_port: 0,
        destination_port: 0,
    }
}

#[inline(always)]
fn ipv4(packet: &[u8], offload: &Offload) -> Result<Layout, Malformed> {
    let &version_and_length = packet.first().ok_or(Malformed::IpHeader)?;
    if version_and_length >> 4 != 4 {
        return Err(Malformed::IpVersion);
    }
    let header_len = usize::from(version_and_length & 0x0f) * 4;
    if header_len < 20 {
        return Err(Malformed::IpHeader);
    }
    let header = packet.get(..header_len).ok_or(Malformed::IpHeader)?;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if total_len < header_len || total_len > packet.len() {
        return Err(Malformed::IpLength);
    }
    let is_valid = match header.try_into() {
        Ok(plain) => checksum::is_valid_header(plain),
        Err(_) => checksum::is_valid(header),
    };
    if !is_valid {
        return Err(Malformed::IpChecksum);
    }
    if header_len > 20 {
        options(&header[20..])?;
    }
    let field = u16::from_be_bytes([header[6], header[7]]);
    let offset = (field & 0x1fff) * 8;
    let more = field & 0x2000 != 0;
    let fragment = match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First { id: u32::from(u16::from_be_bytes([header[4], header[5]])) },
        (_, _) => Fragment::Later { id: u32::from(u16::from_be_bytes([header[4], header[5]])) },
    };
    let transport = &packet[header_len..total_len];
    if fragment != Fragment::Whole {
        fragment_length(offset, transport.len(), more)?;
    }
    let mut layout = Layout {
        kind: FrameKind::Ip,
        family: Family::V4,
        protocol: header[9],
        icmp: ParsedIcmpClass::NotIcmp,
        fragment,
        fragment_offset: offset,
        fragment_payload: (ETHERNET_LEN + header_len) as u16,
        more_fragments: more,
        transport: (ETHERNET_LEN + header_len) as u16,
        end: (ETHERNET_LEN + total_len) as u32,
        source_port: 0,
        destination_port: 0,
    };
    parse_transport(&mut layout, transport)?;
    if layout.icmp != ParsedIcmpClass::NotIcmp && is_checksum_valid(&layout, offload) && !checksum::is_valid(transport)
    {
        return Err(Malformed::IcmpChecksum);
    }
    Ok(layout)
}

/// Refuses source routes (RFC 7126 sections 4.3 and 4.4) and options of impossible length, which could hide one.
fn options(mut options: &[u8]) -> Result<(), Malformed> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    while let Some(&kind) = options.first() {
        let length = match kind {
            END => return Ok(()),
            NO_OPERATION => 1,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(Malformed::SourceRoute),
            _ => match options.get(1) {
                Some(&length) if length >= 2 => usize::from(length),
                Some(_) | None => return Err(Malformed::IpHeader),
            },
        };
        options = options.get(length..).ok_or(Malformed::IpHeader)?;
    }
    Ok(())
}

fn ipv6(packet: &[u8], offload: &Offload) -> Result<Layout, Malformed> {
    let &version = packet.first().ok_or(Malformed::IpHeader)?;
    if version >> 4 != 6 {
        return Err(Malformed::IpVersion);
    }
    let Some((header, rest)) = packet.split_first_chunk::<40>() else {
        return Err(Malformed::IpHeader);
    };
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    // A payload length of 0 with a hop-by-hop header means a jumbogram (RFC 2675), whose length stands in an option.
    if payload_len > rest.len() || (payload_len == 0 && header[6] == protocol::HOP_BY_HOP) {
        return Err(Malformed::IpLength);
    }
    let rest = &rest[..payload_len];
    let chain = ipv6::walk(header[6], rest).map_err(|broken| match broken {
        ipv6::ChainError::Truncated { first_fragment: false } | ipv6::ChainError::NestedFragment => Malformed::IpHeader,
        ipv6::ChainError::Truncated { first_fragment: true } => Malformed::TinyFragment,
        ipv6::ChainError::SourceRoute => Malformed::SourceRoute,
    })?;
    let fragment = match chain.fragment {
        None => Fragment::Whole,
        Some(header) => {
            fragment_length(header.offset, payload_len - header.payload, header.more)?;
            match header.offset {
                0 => Fragment::First { id: header.id },
                _ => Fragment::Later { id: header.id },
            }
        }
    };
    let transport = &rest[chain.offset..];
    let mut layout = Layout {
        kind: FrameKind::Ip,
        family: Family::V6,
        protocol: chain.protocol,
        icmp: ParsedIcmpClass::NotIcmp,
        fragment,
        fragment_offset: chain.fragment.map_or(0, |header| header.offset),
        fragment_payload: (ETHERNET_LEN + 40 + chain.fragment.map_or(0, |header| header.payload)) as u16,
        more_fragments: chain.fragment.is_some_and(|header| header.more),
        transport: (ETHERNET_LEN + 40 + chain.offset) as u16,
        end: (ETHERNET_LEN + 40 + payload_len) as u32,
        source_port: 0,
        destination_port: 0,
    };
    parse_transport(&mut layout, transport)?;
    if layout.icmp != ParsedIcmpClass::NotIcmp && is_checksum_valid(&layout, offload) && !chain.changes_addresses {
        // Both addresses are adjacent in the header, as in the pseudo-header.
        let pseudo = checksum::add(checksum::sum(&header[8..40]), u16::from(protocol::ICMPV6));
        let pseudo = checksum::add(pseudo, transport.len() as u16);
        if checksum::add(pseudo, checksum::sum(transport)) != 0xffff {
            return Err(Malformed::IcmpChecksum);
        }
    }
    Ok(layout)
}

/// Checks the length of a fragment. All fragments but the last carry a multiple of 8 bytes, and none ends beyond 65,535
/// bytes (RFC 791 section 3.2, RFC 8200 section 4.5). An empty fragment is refused too, because it can only confuse
/// reassembly.
fn fragment_length(offset: u16, length: usize, more: bool) -> Result<(), Malformed> {
    let aligned = !more || length.is_multiple_of(8);
    if length > 0 && aligned && usize::from(offset) + length <= usize::from(u16::MAX) {
        Ok(())
    } else {
        Err(Malformed::IpLength)
    }
}

fn is_checksum_valid(layout: &Layout, offload: &Offload) -> bool {
    layout.fragment == Fragment::Whole && offload.partial.is_none() && offload.gso.is_none() && !offload.verified
}

/// Validates the transport header and reads the ports or the ICMP identifier from it.
#[inline(always)]
fn parse_transport(layout: &mut Layout, transport: &[u8]) -> Result<(), Malformed> {
    let whole = match layout.fragment {
        Fragment::Later { .. } => {
            // A TCP fragment at byte offset 8 would overwrite flags that were already judged (RFC 1858 section 3.2). In
            // IPv6 the fragmentable part may begin with extension headers; the overlap check of the fragment table
            // judges those.
            if layout.protocol == protocol::TCP && layout.fragment_offset == 8 {
                return Err(Malformed::TinyFragment);
            }
            return Ok(());
        }
        Fragment::First { .. } => false,
        Fragment::Whole => true,
    };
    let short = if whole { Malformed::Transport } else { Malformed::TinyFragment };
    match (layout.family, layout.protocol) {
        (_, protocol::TCP) => tcp(layout.family, transport, whole, short)?,
        (_, protocol::UDP) => udp(transport, whole, short)?,
        (_, protocol::UDP_LITE) => at_least(8, transport, short)?,
        (_, protocol::SCTP | protocol::DCCP) if whole => at_least(12, transport, short)?,
        (_, protocol::SCTP | protocol::DCCP) => at_least(4, transport, short)?,
        (Family::V4, protocol::ICMP) | (Family::V6, protocol::ICMPV6) => {
            let &kind = transport.first().ok_or(short)?;
            let class = icmp_class(layout.protocol, kind);
            let header_len = match (layout.family, class) {
                (Family::V6, ParsedIcmpClass::LinkLocal | ParsedIcmpClass::Other) => 4,
                (
                    Family::V4 | Family::V6,
                    ParsedIcmpClass::Query
                    | ParsedIcmpClass::Error
                    | ParsedIcmpClass::LinkLocal
                    | ParsedIcmpClass::Other
                    | ParsedIcmpClass::NotIcmp,
                ) => 8,
            };
            at_least(header_len, transport, short)?;
            if class == ParsedIcmpClass::Query {
                let identifier = u16::from_be_bytes([transport[4], transport[5]]);
                (layout.source_port, layout.destination_port) = (identifier, identifier);
            }
            layout.icmp = class;
        }
        (Family::V4 | Family::V6, _) => {}
    }
    if protocol::has_ports(layout.protocol) {
        layout.source_port = u16::from_be_bytes([transport[0], transport[1]]);
        layout.destination_port = u16::from_be_bytes([transport[2], transport[3]]);
    }
    Ok(())
}

fn at_least(length: usize, transport: &[u8], short: Malformed) -> Result<(), Malformed> {
    if transport.len() < length { Err(short) } else { Ok(()) }
}

fn tcp(family: Family, segment: &[u8], whole: bool, short: Malformed) -> Result<(), Malformed> {
    at_least(if whole { 20 } else { TCP_FLAGS_LEN }, segment, short)?;
    let header_len = usize::from(segment[12] >> 4) * 4;
    if header_len < 20 {
        return Err(Malformed::Transport);
    }
    // An IPv6 first fragment must hold the whole header chain, upper-layer header included (RFC 7112 section 5).
    if (whole || family == Family::V6) && header_len > segment.len() {
        return Err(short);
    }
    Ok(())
}

fn udp(datagram: &[u8], whole: bool, short: Malformed) -> Result<(), Malformed> {
    at_least(8, datagram, short)?;
    let length = usize::from(u16::from_be_bytes([datagram[4], datagram[5]]));
    // The UDP length of a fragmented datagram is that of the whole datagram, of which a fragment holds only a part.
    if length < 8 || (whole && length > datagram.len()) {
        return Err(Malformed::Transport);
    }
    Ok(())
}

/// The class of an ICMP (`protocol` 1) or ICMPv6 (`protocol` 58) message of type `kind`, by the IANA registries.
pub(super) const fn icmp_class(protocol: u8, kind: u8) -> ParsedIcmpClass {
    if protocol == protocol::ICMP {
        match kind {
            // Echo, timestamp, information and address mask.
            0 | 8 | 13..=18 => ParsedIcmpClass::Query,
            // Destination unreachable, source quench, redirect, time exceeded and parameter problem.
            3 | 4 | 5 | 11 | 12 => ParsedIcmpClass::Error,
            // Router advertisement and solicitation (RFC 1256).
            9 | 10 => ParsedIcmpClass::LinkLocal,
            _ => ParsedIcmpClass::Other,
        }
    } else {
        match kind {
            128 | 129 => ParsedIcmpClass::Query,
            // All types below 128 are errors, also those not assigned yet (RFC 4443 section 2.1).
            0..=127 => ParsedIcmpClass::Error,
            // Listener discovery, neighbour and router discovery, redirect, and their inverse, secure and multicast
            // router relatives.
            130..=137 | 141..=143 | 148 | 149 | 151..=153 => ParsedIcmpClass::LinkLocal,
            _ => ParsedIcmpClass::Other,
        }
    }
}
