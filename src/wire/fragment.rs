//! IP fragmentation: splitting a packet that is larger than the MTU of the next link.
//!
//! Any IPv4 packet without DF may be split (RFC 791 section 3.2). Of IPv6, only the engine's own packets are (RFC 8200
//! section 4.5), since routers must not fragment.

use crate::wire::Family;
use crate::wire::checksum;
use crate::wire::frame::{ETHERNET_LEN, Frame, IPV6_LEN, protocol};
use crate::wire::offload::{self, InvalidPartial, PartialChecksum};

const IPV4_FIXED_HEADER_LEN: usize = 20;
/// Length of the IPv6 fragment header in bytes.
const FRAGMENT_HEADER_LEN: usize = 8;
const MORE_FRAGMENTS: u16 = 0x2000;

/// Why a packet cannot be fragmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// The packet is IPv6, or IPv4 with DF. Its sender has to get an ICMP error instead.
    #[error("the packet must not be fragmented")]
    DontFragment,
    /// The MTU has no room for the IP header and 8 bytes of payload.
    #[error("an MTU of {mtu} bytes has no room for a header of {header_len} bytes and 8 bytes of payload")]
    MtuTooSmall {
        /// The MTU in bytes.
        mtu: u16,
        /// Length of the packet's IP header in bytes.
        header_len: usize,
    },
    /// The partial checksum of the packet cannot be finished.
    #[error(transparent)]
    Checksum(#[from] InvalidPartial),
}

/// Splits the packet of `frame` into fragments that fit an MTU of `mtu` bytes of IP packet, and returns their frames in
/// order.
///
/// A checksum that was left to the device is finished first, because no device could do it after the split. A packet
/// that is already a fragment is split further. IP options without the copied flag appear in the first fragment only
/// (RFC 791 section 3.1).
pub fn split(frame: &Frame<'_>, partial: Option<PartialChecksum>, mtu: u16) -> Result<Vec<Vec<u8>>, SplitError> {
    match frame.family() {
        Family::V4 if !frame.dont_fragment() => {}
        Family::V4 | Family::V6 => return Err(SplitError::DontFragment),
    }
    let end = ETHERNET_LEN + frame.ip_len();
    let mut whole = frame.bytes()[..end].to_vec();
    if let Some(partial) = partial {
        // Only a transport checksum is ever left to the device. A range that starts earlier would overwrite validated
        // headers.
        if usize::from(partial.start) < frame.transport_offset() {
            let PartialChecksum { start, offset } = partial;
            return Err(InvalidPartial { start, offset, length: whole.len() }.into());
        }
        offload::finish_checksum(&mut whole, partial)?;
    }
    let (headers, payload) = whole.split_at(frame.transport_offset());
    let (ethernet, header) = headers.split_at(ETHERNET_LEN);
    if usize::from(mtu) < header.len() + 8 {
        return Err(SplitError::MtuTooSmall { mtu, header_len: header.len() });
    }
    let header_after = [&header[..IPV4_FIXED_HEADER_LEN], &copied_options(&header[IPV4_FIXED_HEADER_LEN..])].concat();
    let field = u16::from_be_bytes([header[6], header[7]]);

    let mut frames = Vec::new();
    let mut done = 0;
    while done < payload.len() {
        let header = if done == 0 { header } else { &header_after };
        let room = usize::from(mtu) - header.len();
        let rest = payload.len() - done;
        let (length, more) = if rest <= room { (rest, field & MORE_FRAGMENTS) } else { (room & !7, MORE_FRAGMENTS) };

        let mut piece = Vec::with_capacity(ETHERNET_LEN + header.len() + length);
        piece.extend_from_slice(ethernet);
        piece.extend_from_slice(header);
        piece.extend_from_slice(&payload[done..done + length]);
        let offset_and_flags = ((field & !MORE_FRAGMENTS) + (done / 8) as u16) | more;
        finish_header(&mut piece[ETHERNET_LEN..], header.len(), offset_and_flags);
        frames.push(piece);
        done += length;
    }
    Ok(frames)
}

/// Splits one of the engine's own IPv6 packets, which have no extension headers, into fragments that fit an MTU of
/// `mtu` bytes (RFC 8200 section 4.5). `id` becomes the identification of the fragments.
pub fn split_v6(frame: &[u8], mtu: u16, id: u32) -> Vec<Vec<u8>> {
    let (header, payload) = frame.split_at(ETHERNET_LEN + IPV6_LEN);
    let room = usize::from(mtu).saturating_sub(IPV6_LEN + FRAGMENT_HEADER_LEN) & !7;
    let count = payload.len().div_ceil(room.max(8));
    let pieces = payload.chunks(room.max(8)).enumerate().map(|(index, piece)| {
        let mut bytes = header.to_vec();
        let length = (FRAGMENT_HEADER_LEN + piece.len()) as u16;
        bytes[ETHERNET_LEN + 4..ETHERNET_LEN + 6].copy_from_slice(&length.to_be_bytes());
        let next = std::mem::replace(&mut bytes[ETHERNET_LEN + 6], protocol::FRAGMENT);
        let offset_and_more = (index * room.max(8)) as u16 | u16::from(index + 1 < count);
        bytes.extend_from_slice(&[next, 0]);
        bytes.extend_from_slice(&offset_and_more.to_be_bytes());
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(piece);
        bytes
    });
    pieces.collect()
}

fn finish_header(packet: &mut [u8], header_len: usize, offset_and_flags: u16) {
    let total_len = packet.len() as u16;
    let header = &mut packet[..header_len];
    header[0] = 0x40 | (header_len / 4) as u8;
    header[2..4].copy_from_slice(&total_len.to_be_bytes());
    header[6..8].copy_from_slice(&offset_and_flags.to_be_bytes());
    header[10..12].fill(0);
    let checksum = checksum::checksum(header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// The IPv4 options that every fragment repeats (those with the copied flag), padded to a multiple of 4 bytes.
fn copied_options(mut options: &[u8]) -> Vec<u8> {
    const COPIED: u8 = 0x80;
    let mut copied = Vec::new();
    // The parser has checked that every option has a length of at least 2 and fits. The end-of-options option ends the
    // loop.
    while let Some(&kind) = options.first().filter(|&&kind| kind != 0) {
        let length = if kind == 1 { 1 } else { options.get(1).map_or(options.len(), |&length| usize::from(length)) };
        let (option, rest) = options.split_at(length.clamp(1, options.len()));
        if kind & COPIED != 0 {
            copied.extend_from_slice(option);
        }
        options = rest;
    }
    copied.resize(copied.len().next_multiple_of(4), 0);
    copied
}

#[cfg(test)]
mod tests;
