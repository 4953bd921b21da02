//! IPv6 neighbour discovery: neighbour solicitations and advertisements (RFC 4861).
//!
//! This module reads and builds messages. What is learned from them is decided by [`crate::neighbor`].

use std::net::Ipv6Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, NdiscNeighborFlags, NdiscRepr, RawHardwareAddress,
};

use crate::wire::MacAddr;
use crate::wire::emit::{self, AddressPair, MacPair};
use crate::wire::frame::ETHERNET_LEN;

/// The group of all nodes on a link, ff02::1.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The hop limit of every message. A message that arrives with it was not forwarded by any router.
const HOP_LIMIT: u8 = 255;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const OPTION_SOURCE_MAC: u8 = 1;
const OPTION_TARGET_MAC: u8 = 2;
/// Length of a message up to its options: type, code, checksum, flags and target.
const MESSAGE_HEADER_LEN: usize = 24;

/// A valid neighbour solicitation or advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ndp {
    /// Asks which hardware address `target` has.
    Solicitation {
        /// Address of the asker; unspecified in duplicate address detection.
        source: Ipv6Addr,
        /// The address whose hardware address is wanted.
        target: Ipv6Addr,
        /// Hardware address of the asker, if the message has that option.
        source_mac: Option<MacAddr>,
    },
    /// Says that `target` has the hardware address `target_mac`.
    Advertisement {
        /// The address that the message is about.
        target: Ipv6Addr,
        /// Hardware address of the target, if the message has that option.
        target_mac: Option<MacAddr>,
        /// Whether the message answers a solicitation (the S flag).
        solicited: bool,
        /// Whether the message replaces an existing cache entry (the O flag).
        overrides: bool,
    },
}

/// Why a frame is not a valid neighbour discovery message (RFC 4861 section 7.1, RFC 6980).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNdp {
    /// The frame is not an unfragmented solicitation or advertisement directly behind the IPv6 header.
    #[error("not a neighbour solicitation or advertisement")]
    Kind,
    /// A length field exceeds the bytes that are there.
    #[error("neighbour discovery message is truncated")]
    Truncated,
    /// The hop limit is not 255, so that the message may have come through a router.
    #[error("neighbour discovery with hop limit {0}, must be 255")]
    HopLimit(u8),
    /// The ICMPv6 code is not 0.
    #[error("neighbour discovery with code {0}, must be 0")]
    Code(u8),
    /// The ICMPv6 checksum is wrong.
    #[error("neighbour discovery checksum is wrong")]
    Checksum,
    /// The source, destination or target address is not allowed in such a message.
    #[error("neighbour discovery with an impossible source, destination or target")]
    Address,
    /// An option has length 0 or exceeds the message, or its hardware address is zero, multicast or broadcast.
    #[error("neighbour discovery option is malformed")]
    Option,
}

impl Ndp {
    /// Reads and validates the message of a frame whose EtherType is IPv6.
    pub fn parse(frame: &[u8]) -> Result<Self, InvalidNdp> {
        let bytes = frame.get(ETHERNET_LEN..).ok_or(InvalidNdp::Truncated)?;
        let packet = Ipv6Packet::new_checked(bytes).map_err(|_| InvalidNdp::Truncated)?;
        if packet.version() != 6 || packet.next_header() != IpProtocol::Icmpv6 {
            return Err(InvalidNdp::Kind);
        }
        let (source, destination) = (packet.src_addr(), packet.dst_addr());
        let message = packet.payload();
        let kind = *message.first().ok_or(InvalidNdp::Truncated)?;
        if kind != NEIGHBOR_SOLICITATION && kind != NEIGHBOR_ADVERTISEMENT {
            return Err(InvalidNdp::Kind);
        }
        if message.len() < MESSAGE_HEADER_LEN {
            return Err(InvalidNdp::Truncated);
        }
        if packet.hop_limit() != HOP_LIMIT {
            return Err(InvalidNdp::HopLimit(packet.hop_limit()));
        }
        if message[1] != 0 {
            return Err(InvalidNdp::Code(message[1]));
        }
        if !Icmpv6Packet::new_unchecked(message).verify_checksum(&source, &destination) {
            return Err(InvalidNdp::Checksum);
        }
        let target = address_at(message, 8);
        if target.is_multicast() || target.is_unspecified() || source.is_multicast() {
            return Err(InvalidNdp::Address);
        }
        let options = &message[MESSAGE_HEADER_LEN..];
        if kind == NEIGHBOR_SOLICITATION {
            let source_mac = mac_option(options, OPTION_SOURCE_MAC)?;
            let detection = source.is_unspecified();
            if detection && (source_mac.is_some() || destination != solicited_node(target)) {
                return Err(InvalidNdp::Address);
            }
            return Ok(Self::Solicitation { source, target, source_mac });
        }
        let flags = NdiscNeighborFlags::from_bits_truncate(message[4]);
        let solicited = flags.contains(NdiscNeighborFlags::SOLICITED);
        if solicited && destination.is_multicast() {
            return Err(InvalidNdp::Address);
        }
        Ok(Self::Advertisement {
            target,
            target_mac: mac_option(options, OPTION_TARGET_MAC)?,
            solicited,
            overrides: flags.contains(NdiscNeighborFlags::OVERRIDE),
        })
    }
}

/// Builds a solicitation for `target`. It goes to the solicited-node group, or to `known` alone to confirm an entry.
pub fn solicitation(mac: MacAddr, source: Ipv6Addr, target: Ipv6Addr, known: Option<MacAddr>) -> Vec<u8> {
    let destination = if known.is_some() { target } else { solicited_node(target) };
    let macs = MacPair { source: mac, destination: known.unwrap_or_else(|| multicast_mac(destination)) };
    let repr = NdiscRepr::NeighborSolicit { target_addr: target, lladdr: Some(RawHardwareAddress::from_bytes(&mac.0)) };
    message(macs, source, destination, repr)
}

/// Builds a solicitation for duplicate address detection of `target`, with an unspecified source (RFC 4862 section
/// 5.4.2).
pub fn duplicate_address_probe(mac: MacAddr, target: Ipv6Addr) -> Vec<u8> {
    let destination = solicited_node(target);
    let macs = MacPair { source: mac, destination: multicast_mac(destination) };
    message(macs, Ipv6Addr::UNSPECIFIED, destination, NdiscRepr::NeighborSolicit { target_addr: target, lladdr: None })
}

/// Builds the advertisement of `target` that answers `asker` at `asker_mac`. If the asker has no address yet, the
/// advertisement goes to all nodes (RFC 4861 section 7.2.4). The engine advertises itself as a router.
pub fn advertisement(mac: MacAddr, target: Ipv6Addr, asker: Ipv6Addr, asker_mac: MacAddr) -> Vec<u8> {
    if asker.is_unspecified() {
        return announcement(mac, target);
    }
    let flags = NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE;
    message(MacPair { source: mac, destination: asker_mac }, target, asker, advertise(mac, target, flags))
}

/// Builds an unsolicited advertisement of `target` to all nodes (RFC 4861 section 7.2.6).
pub fn announcement(mac: MacAddr, target: Ipv6Addr) -> Vec<u8> {
    let flags = NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::OVERRIDE;
    let macs = MacPair { source: mac, destination: multicast_mac(ALL_NODES) };
    message(macs, target, ALL_NODES, advertise(mac, target, flags))
}

/// The link-local address of a hardware address: fe80::/64 with its modified EUI-64 (RFC 4291 appendix A).
pub const fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        u16::from_be_bytes([a ^ 0x02, b]),
        u16::from_be_bytes([c, 0xff]),
        u16::from_be_bytes([0xfe, d]),
        u16::from_be_bytes([e, f]),
    )
}

/// The solicited-node group of `address`: ff02::1:ffXX:XXXX with its last 24 bits (RFC 4291 section 2.7.1).
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

/// The Ethernet multicast address of an IPv6 group: 33:33 and the last four bytes of the group (RFC 2464 section 7).
pub const fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

fn advertise(mac: MacAddr, target: Ipv6Addr, flags: NdiscNeighborFlags) -> NdiscRepr<'static> {
    NdiscRepr::NeighborAdvert { flags, target_addr: target, lladdr: Some(RawHardwareAddress::from_bytes(&mac.0)) }
}

fn message(macs: MacPair, source: Ipv6Addr, destination: Ipv6Addr, repr: NdiscRepr<'_>) -> Vec<u8> {
    let repr = Icmpv6Repr::Ndisc(repr);
    let pair = AddressPair::V6(source, destination);
    emit::ip(macs, pair, IpProtocol::Icmpv6.into(), HOP_LIMIT, repr.buffer_len(), |bytes| {
        let mut packet = Icmpv6Packet::new_unchecked(bytes);
        repr.emit(&source, &destination, &mut packet, &ChecksumCapabilities::default());
    })
}

/// The hardware address in the first option of type `wanted`. Every option must be well-formed (RFC 4861 section 7.1).
fn mac_option(mut options: &[u8], wanted: u8) -> Result<Option<MacAddr>, InvalidNdp> {
    let mut found = None;
    while !options.is_empty() {
        let (&[kind, units], _) = options.split_first_chunk().ok_or(InvalidNdp::Option)?;
        let len = usize::from(units) * 8;
        if len == 0 || len > options.len() {
            return Err(InvalidNdp::Option);
        }
        if kind == wanted && found.is_none() {
            let (octets, _) = options[2..].split_first_chunk().ok_or(InvalidNdp::Option)?;
            let mac = MacAddr(*octets);
            if mac.is_multicast() || mac.is_zero() {
                return Err(InvalidNdp::Option);
            }
            found = Some(mac);
        }
        options = &options[len..];
    }
    Ok(found)
}

/// The address at offset `at`. The caller has checked that it fits.
fn address_at(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    Ipv6Addr::from(octets)
}

#[cfg(test)]
mod tests;
