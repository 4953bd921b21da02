//! Segmentation of super-frames in software, for frames that no device can segment.
//!
//! These are the super-frames that the engine puts into a tunnel itself, and those that arrived inside a tunnel.
//! AF_PACKET delivers the bulk traffic of a VXLAN, GRE or IP-in-IP tunnel as one frame of up to 64 KiB, but its
//! `struct virtio_net_hdr` cannot describe such a frame when it is sent.

mod layers;

use crate::wire::checksum;
use crate::wire::frame::{ETHERNET_LEN, Frame, IPV6_LEN, TCP_LEN, UDP_LEN, protocol, tcp_flags};
use crate::wire::offload::{GsoKind, Offload, PartialChecksum};

use layers::{Layer, Layers};

/// The TCP flag CWR: the sender has halved its congestion window. Only the first segment carries it (RFC 3168 section
/// 6.1.2).
const CWR: u8 = 0x80;

/// The frame does not match its offload state, or is of a kind that this module cannot segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of protocol {protocol} cannot be segmented as {kind:?} of {size} bytes")]
pub struct NotSegmentable {
    /// IP protocol number of the frame.
    pub protocol: u8,
    /// The kind of super-frame that its offload state claims.
    pub kind: GsoKind,
    /// Payload of each segment in bytes.
    pub size: u16,
}

/// True for a super-frame that must be segmented here, because the kernel would refuse it from a packet socket: its
/// segments are inside a tunnel, or they are UDP whose checksum was not left to the device (`rx-gro-list`).
pub fn needs_software_segmentation(frame: &Frame<'_>, offload: &Offload) -> bool {
    match (offload.gso.map(|gso| gso.kind), offload.partial) {
        (None | Some(GsoKind::UdpFragments), _) => false,
        (Some(GsoKind::UdpSegments), None) => true,
        (Some(GsoKind::Tcp4 | GsoKind::Tcp6), None) => frame.protocol() != protocol::TCP,
        (Some(GsoKind::Tcp4 | GsoKind::Tcp6 | GsoKind::UdpSegments), Some(partial)) => {
            usize::from(partial.start) != frame.transport_offset()
        }
    }
}

/// Length of the largest segment in bytes of IP packet; `None` if the frame cannot be segmented.
pub fn largest_segment_len(
    frame: &Frame<'_>,
    partial: Option<PartialChecksum>,
    kind: GsoKind,
    size: u16,
) -> Option<usize> {
    let template = Template::of(frame, partial, kind, size).ok()?;
    let payload = template.whole.len() - template.headers_len;
    Some(template.headers_len - ETHERNET_LEN + payload.min(usize::from(size)))
}

/// Splits a super-frame into frames with at most `size` bytes of payload each and complete checksums.
///
/// `partial` says which transport header the segments repeat; without it, it is the frame's own. As in Linux, sequence
/// numbers and IPv4 identifications count up in every header, only the last segment has FIN and PSH, and only the first
/// has CWR. A tunnel's UDP checksum of 0 stays 0.
pub fn segments(
    frame: &Frame<'_>,
    partial: Option<PartialChecksum>,
    kind: GsoKind,
    size: u16,
) -> Result<Vec<Vec<u8>>, NotSegmentable> {
    let template = Template::of(frame, partial, kind, size)?;
    let (headers, payload) = template.whole.split_at(template.headers_len);
    let count = payload.len().div_ceil(usize::from(size)).max(1);
    let segment = |index: usize| {
        let start = index * usize::from(size);
        let data = &payload[start..payload.len().min(start + usize::from(size))];
        let mut bytes = Vec::with_capacity(headers.len() + data.len());
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(data);
        template.finish(&mut bytes, index, index + 1 == count);
        bytes
    };
    Ok((0..count).map(segment).collect())
}

/// A super-frame whose headers were found.
struct Template<'a> {
    /// The frame up to the end of the IP packet.
    whole: &'a [u8],
    layers: Layers,
    /// Offset of the transport header that the segments repeat.
    transport: usize,
    /// Length of all headers, from the first byte of the frame to the payload.
    headers_len: usize,
    is_tcp: bool,
    size: usize,
}

impl<'a> Template<'a> {
    fn of(
        frame: &'a Frame<'_>,
        partial: Option<PartialChecksum>,
        kind: GsoKind,
        size: u16,
    ) -> Result<Self, NotSegmentable> {
        let refused = NotSegmentable { protocol: frame.protocol(), kind, size };
        let whole = &frame.bytes()[..ETHERNET_LEN + frame.ip_len()];
        let transport = partial.map_or(frame.transport_offset(), |partial| usize::from(partial.start));
        let (number, header_len) = match kind {
            GsoKind::Tcp4 | GsoKind::Tcp6 => {
                let words = whole.get(transport + 12).ok_or(refused)? >> 4;
                (protocol::TCP, usize::from(words) * 4)
            }
            GsoKind::UdpSegments => (protocol::UDP, UDP_LEN),
            // This is one datagram, which IP has to fragment.
            GsoKind::UdpFragments => return Err(refused),
        };
        let is_tcp = number == protocol::TCP;
        let headers_len = transport + header_len;
        if frame.is_fragment() || size == 0 || headers_len > whole.len() || (is_tcp && header_len < TCP_LEN) {
            return Err(refused);
        }
        let layers = layers::find(whole, ETHERNET_LEN, transport, number).ok_or(refused)?;
        Ok(Self { whole, layers, transport, headers_len, is_tcp, size: size.into() })
    }

    /// Completes `bytes`, a copy of the headers with its part of the payload, as the segment number `index`. It works
    /// from the innermost header outwards, because outer checksums cover inner ones.
    fn finish(&self, bytes: &mut [u8], index: usize, is_last: bool) {
        if self.is_tcp {
            finish_tcp(&mut bytes[self.transport..], (index * self.size) as u32, index == 0, is_last);
        } else {
            finish_udp_length(&mut bytes[self.transport..]);
        }
        let field = if self.is_tcp { 16 } else { 6 };
        self.write_checksum(bytes, self.transport, field, self.layers.len());
        for (depth, layer) in self.layers.iter().enumerate().rev() {
            match *layer {
                Layer::Ipv4 { at, header_len } => finish_ipv4(&mut bytes[at..], header_len, index as u16),
                Layer::Ipv6 { at } => {
                    let payload = (bytes.len() - at - IPV6_LEN) as u16;
                    bytes[at + 4..at + 6].copy_from_slice(&payload.to_be_bytes());
                }
                Layer::Udp { at } => {
                    finish_udp_length(&mut bytes[at..]);
                    if bytes[at + 6..at + 8] != [0, 0] {
                        self.write_checksum(bytes, at, 6, depth);
                    }
                }
                Layer::Gre { at, has_checksum: true } => {
                    bytes[at + 4..at + 6].fill(0);
                    let checksum = checksum::checksum(&bytes[at..]);
                    bytes[at + 4..at + 6].copy_from_slice(&checksum.to_be_bytes());
                }
                Layer::Gre { at: _, has_checksum: false } => {}
            }
        }
    }

    /// Computes the checksum of the TCP or UDP header at `at`, which follows the first `depth` layers. `field` is the
    /// offset of the checksum in that header.
    fn write_checksum(&self, bytes: &mut [u8], at: usize, field: usize, depth: usize) {
        let number = if field == 16 { protocol::TCP } else { protocol::UDP };
        let (addresses, rest) = bytes.split_at_mut(at);
        rest[field..field + 2].fill(0);
        // The layer in front of a transport header is always IP.
        let pseudo = match self.layers[depth - 1] {
            Layer::Ipv4 { at, .. } => checksum::sum(&addresses[at + 12..at + 20]),
            Layer::Ipv6 { at } => checksum::sum(&addresses[at + 8..at + 40]),
            Layer::Udp { .. } | Layer::Gre { .. } => 0,
        };
        let pseudo = checksum::add(pseudo, checksum::add(rest.len() as u16, number.into()));
        let checksum = !checksum::add(pseudo, checksum::sum(rest));
        let checksum = if number == protocol::UDP { checksum::nonzero(checksum) } else { checksum };
        rest[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Writes length, identification and header checksum of the segment number `index`.
fn finish_ipv4(packet: &mut [u8], header_len: usize, index: u16) {
    let total = packet.len() as u16;
    let ident = u16::from_be_bytes([packet[4], packet[5]]).wrapping_add(index);
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[4..6].copy_from_slice(&ident.to_be_bytes());
    packet[10..12].fill(0);
    let checksum = checksum::checksum(&packet[..header_len]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

fn finish_tcp(header: &mut [u8], sent: u32, is_first: bool, is_last: bool) {
    let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]).wrapping_add(sent);
    header[4..8].copy_from_slice(&sequence.to_be_bytes());
    if !is_first {
        header[13] &= !CWR;
    }
    if !is_last {
        header[13] &= !(tcp_flags::FIN | tcp_flags::PSH);
    }
}

fn finish_udp_length(datagram: &mut [u8]) {
    let length = datagram.len() as u16;
    datagram[4..6].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests;
