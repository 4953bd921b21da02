//! The headers that every segment of a super-frame repeats: those of the frame itself and, for segments inside a
//! tunnel, those of the tunnel and of the packet in it.
//!
//! The kernel says which transport header the segments repeat (by the place where its checksum starts), but not which
//! headers precede it. They are found by walking the packet. IP in IP (RFC 2003, RFC 4213, RFC 2473) and GRE (RFC 2784,
//! RFC 2890) name the header that follows. After UDP (VXLAN, GENEVE, GUE, FOU and later formats) every offset is tried
//! until an IP header is found whose length matches the rest of the packet and from which the transport header is
//! reached.

use arrayvec::ArrayVec;

use crate::wire::checksum;
use crate::wire::frame::{IPV4_LEN, IPV6_LEN, UDP_LEN, ethertype, ipv6, protocol};

/// The largest number of headers of a super-frame; the kernel builds up to four.
const LAYERS_MAX: usize = 8;
/// The largest number of bytes between a UDP header and the inner packet: GENEVE with all options, and an Ethernet
/// header with a VLAN tag.
const PREAMBLE_MAX: usize = 8 + 252 + 18;
/// The largest number of offsets at which an IP header is looked for.
const TRIES_MAX: u32 = 1024;

const GRE: u8 = 47;
/// The GRE flags for a checksum and for a key.
const GRE_CHECKSUM: u16 = 0x8000;
const GRE_KEY: u16 = 0x2000;
/// All other bits of that word. A sequence number must differ in each segment, and other versions and routing are not
/// known.
const GRE_OTHER: u16 = !(GRE_CHECKSUM | GRE_KEY);
const TRANSPARENT_ETHERNET: u16 = 0x6558;
const VLAN: u16 = 0x8100;
const ADDRESSES_LEN: usize = 12;

/// A header before the transport header. `at` is its offset in the frame in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    Ipv4 {
        at: usize,
        header_len: usize,
    },
    Ipv6 {
        at: usize,
    },
    /// The UDP header of a tunnel.
    Udp {
        at: usize,
    },
    /// A GRE header with or without a checksum.
    Gre {
        at: usize,
        has_checksum: bool,
    },
}

/// The headers from the outermost to the one before the transport header.
pub(super) type Layers = ArrayVec<Layer, LAYERS_MAX>;

/// Finds the headers of the packet in `bytes`, which end with the packet, from the IP header at `start` to the
/// transport header (of the protocol `transport`, TCP or UDP) at `target`. `None` if the transport header cannot be
/// reached.
pub(super) fn find(bytes: &[u8], start: usize, target: usize, transport: u8) -> Option<Layers> {
    let mut walk = HeaderWalk { bytes, target, transport, layers: Layers::new(), tries: TRIES_MAX };
    walk.ip(start)?;
    Some(walk.layers)
}

struct HeaderWalk<'a> {
    bytes: &'a [u8],
    target: usize,
    transport: u8,
    layers: Layers,
    tries: u32,
}

impl HeaderWalk<'_> {
    /// Walks on from an IP header. If this leads nowhere, the headers found on the way are removed again.
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

/// Reads the header of a whole IPv4 packet that ends with `packet`: its layer, the protocol that follows, and its
/// offset.
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

/// Does the same for IPv6. Headers that change the addresses which the transport checksum covers are refused.
fn ipv6_header(packet: &[u8], at: usize) -> Option<(Layer, u8, usize)> {
    let (fixed, rest) = packet.split_first_chunk::<IPV6_LEN>()?;
    if usize::from(u16::from_be_bytes([fixed[4], fixed[5]])) != rest.len() {
        return None;
    }
    let chain = ipv6::walk(fixed[6], rest).ok()?;
    let is_plain = chain.fragment.is_none() && !chain.changes_addresses;
    is_plain.then_some((Layer::Ipv6 { at }, chain.protocol, at + IPV6_LEN + chain.offset))
}
