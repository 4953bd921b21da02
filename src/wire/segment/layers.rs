//! The headers that every segment of a super-frame repeats: those of the frame itself and, where the segments are inside a
//! tunnel, those of the tunnel and of the packet in it.
//!
//! What the kernel hands over says which transport header the segments repeat (the place where its checksum starts), and not
//! what lies before it. That is found by walking: IP in IP (RFC 2003, RFC 4213, RFC 2473) and GRE (RFC 2784, RFC 2890) say what
//! follows; after UDP (VXLAN, GENEVE, GUE, FOU, whatever comes next) the packet inside is looked for, where a header stands
//! whose length is that of the rest, and which leads to the transport header.

use arrayvec::ArrayVec;

use crate::wire::checksum;
use crate::wire::frame::{IPV4_LEN, IPV6_LEN, UDP_LEN, ethertype, ipv6, protocol};

/// Headers of a super-frame at most; the kernel makes four of them.
const LAYERS_MAX: usize = 8;
/// Bytes between a UDP header and the packet inside, at most: GENEVE with all its options, and an Ethernet header with a tag.
const PREAMBLE_MAX: usize = 8 + 252 + 18;
/// Places that are looked at for an IP header, at most.
const TRIES_MAX: u32 = 1024;

const GRE: u8 = 47;
/// GRE's checksum, key and sequence number are there.
const GRE_CHECKSUM: u16 = 0x8000;
const GRE_KEY: u16 = 0x2000;
/// What else may be said there: a sequence number, which no two segments may share, another version, routing.
const GRE_OTHER: u16 = !(GRE_CHECKSUM | GRE_KEY);
const TRANSPARENT_ETHERNET: u16 = 0x6558;
const VLAN: u16 = 0x8100;
const ADDRESSES_LEN: usize = 12;

/// A header before the transport header, with its place in bytes from the first of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    Ipv4 {
        at: usize,
        header_len: usize,
    },
    Ipv6 {
        at: usize,
    },
    /// Of a tunnel.
    Udp {
        at: usize,
    },
    /// With a checksum, or without.
    Gre {
        at: usize,
        has_checksum: bool,
    },
}

/// Headers from the outermost to the one before the transport header.
pub(super) type Layers = ArrayVec<Layer, LAYERS_MAX>;

/// The headers of the packet in `bytes`, which end where it ends, from the IP header at `start` to the header of `transport`
/// (TCP or UDP) at `target`. `None` if the way there is not known.
pub(super) fn find(bytes: &[u8], start: usize, target: usize, transport: u8) -> Option<Layers> {
    let mut walk = Walk { bytes, target, transport, layers: Layers::new(), tries: TRIES_MAX };
    walk.ip(start)?;
    Some(walk.layers)
}

struct Walk<'a> {
    bytes: &'a [u8],
    target: usize,
    transport: u8,
    layers: Layers,
    tries: u32,
}

impl Walk<'_> {
    /// From an IP header on; what was noted of a way that leads nowhere is forgotten.
    fn ip(&mut self, at: usize) -> Option<()> {
        let known = self.layers.len();
        let found = self.try_ip(at);
        if found.is_none() {
            self.layers.truncate(known);
        }
        found
    }

    fn try_ip(&mut self, at: usize) -> Option<()> {
        self.tries = self.tries.checked_sub(1)?;
        let packet = self.bytes.get(at..)?;
        let (layer, next, after) = match packet.first()? >> 4 {
            4 => ipv4(packet, at)?,
            6 => ipv6_header(packet, at)?,
            _ => return None,
        };
        self.layers.try_push(layer).ok()?;
        self.upper(next, after)
    }

    fn upper(&mut self, number: u8, at: usize) -> Option<()> {
        if at >= self.target {
            return (at == self.target && number == self.transport).then_some(());
        }
        match number {
            protocol::IPV4 | protocol::IPV6 => self.ip(at),
            GRE => self.gre(at),
            protocol::UDP => {
                self.layers.try_push(Layer::Udp { at }).ok()?;
                let first = at + UDP_LEN;
                (first..self.target.min(first + PREAMBLE_MAX + 1)).find_map(|inner| self.ip(inner))
            }
            _ => None,
        }
    }

    fn gre(&mut self, at: usize) -> Option<()> {
        let header: &[u8; 4] = self.bytes.get(at..)?.first_chunk()?;
        let flags = u16::from_be_bytes([header[0], header[1]]);
        if flags & GRE_OTHER != 0 {
            return None;
        }
        let has_checksum = flags & GRE_CHECKSUM != 0;
        self.layers.try_push(Layer::Gre { at, has_checksum }).ok()?;
        let inner = at + 4 + 4 * usize::from(has_checksum) + 4 * usize::from(flags & GRE_KEY != 0);
        match u16::from_be_bytes([header[2], header[3]]) {
            ethertype::IPV4 | ethertype::IPV6 => self.ip(inner),
            TRANSPARENT_ETHERNET => {
                let kind = self.bytes.get(inner + ADDRESSES_LEN..)?.first_chunk::<2>()?;
                let tag = if u16::from_be_bytes(*kind) == VLAN { 4 } else { 0 };
                self.ip(inner + ADDRESSES_LEN + 2 + tag)
            }
            _ => None,
        }
    }
}

/// A whole IPv4 packet that ends where `packet` ends: its layer, what follows, and where.
fn ipv4(packet: &[u8], at: usize) -> Option<(Layer, u8, usize)> {
    let fixed: &[u8; IPV4_LEN] = packet.first_chunk()?;
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    let is_fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff != 0;
    let is_whole = usize::from(u16::from_be_bytes([fixed[2], fixed[3]])) == packet.len();
    if header_len < IPV4_LEN || is_fragment || !is_whole || !checksum::is_valid(packet.get(..header_len)?) {
        return None;
    }
    Some((Layer::Ipv4 { at, header_len }, fixed[9], at + header_len))
}

/// The same for IPv6. Where a header changes the addresses that the transport's checksum covers, nothing is found.
fn ipv6_header(packet: &[u8], at: usize) -> Option<(Layer, u8, usize)> {
    let (fixed, rest) = packet.split_first_chunk::<IPV6_LEN>()?;
    if usize::from(u16::from_be_bytes([fixed[4], fixed[5]])) != rest.len() {
        return None;
    }
    let chain = ipv6::walk(fixed[6], rest).ok()?;
    let is_plain = chain.fragment.is_none() && !chain.readdressed;
    is_plain.then_some((Layer::Ipv6 { at }, chain.protocol, at + IPV6_LEN + chain.offset))
}
