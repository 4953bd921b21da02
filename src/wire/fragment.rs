//! Splitting a packet that is larger than the next link's MTU: any of IPv4 (RFC 791 section 3.2), of IPv6 those of the
//! engine's own (RFC 8200 section 4.5).

use crate::wire::Family;
use crate::wire::checksum;
use crate::wire::frame::{ETHERNET_LEN, Frame, IPV6_LEN, protocol};
use crate::wire::offload::{self, InvalidPartial, PartialChecksum};

const FIXED_HEADER: usize = 20;
/// Bytes of the IPv6 fragment header.
const FRAGMENT_HEADER: usize = 8;
const MORE_FRAGMENTS: u16 = 0x2000;

/// Why a packet cannot be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// It is IPv6, or IPv4 with DF: its sender is to be told instead.
    #[error("the packet must not be fragmented")]
    DontFragment,
    /// The MTU has no room for the header and 8 bytes.
    #[error("an MTU of {mtu} bytes has no room for a header of {header_len} bytes and 8 bytes of payload")]
    MtuTooSmall {
        /// The MTU in bytes.
        mtu: u16,
        /// Bytes of the packet's IP header.
        header_len: usize,
    },
    /// Its partial checksum cannot be finished.
    #[error(transparent)]
    Checksum(#[from] InvalidPartial),
}

/// The frames that carry the packet of `frame` over a link with this MTU (bytes of IP packet), in order.
///
/// A checksum that was left to the device is finished first: nobody could after the split. A packet that is a fragment
/// itself is split further. Options without the copied flag stay in the first piece (RFC 791 section 3.1).
pub fn split(frame: &Frame<'_>, partial: Option<PartialChecksum>, mtu: u16) -> Result<Vec<Vec<u8>>, SplitError> {
    match frame.family() {
        Family::V4 if !frame.dont_fragment() => {}
        Family::V4 | Family::V6 => return Err(SplitError::DontFragment),
    }
    let end = ETHERNET_LEN + frame.ip_len();
    let mut whole = frame.bytes()[..end].to_vec();
    if let Some(partial) = partial {
        // Only a transport checksum is ever left undone; one that lies before would overwrite the headers judged above.
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
    let header_after = [&header[..FIXED_HEADER], &copied_options(&header[FIXED_HEADER..])].concat();
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

/// Splits an IPv6 packet of the engine's own, which has no extension headers, for a link with this MTU (RFC 8200 section
/// 4.5).
pub fn split_v6(frame: &[u8], mtu: u16, id: u32) -> Vec<Vec<u8>> {
    let (header, payload) = frame.split_at(ETHERNET_LEN + IPV6_LEN);
    let room = usize::from(mtu).saturating_sub(IPV6_LEN + FRAGMENT_HEADER) & !7;
    let count = payload.len().div_ceil(room.max(8));
    let pieces = payload.chunks(room.max(8)).enumerate().map(|(index, piece)| {
        let mut bytes = header.to_vec();
        let length = (FRAGMENT_HEADER + piece.len()) as u16;
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

/// The options that every fragment repeats, padded to 4 bytes.
fn copied_options(mut options: &[u8]) -> Vec<u8> {
    const COPIED: u8 = 0x80;
    let mut copied = Vec::new();
    // The frame was parsed: the length of every option is at least 2 and fits. End of options ends the walk.
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
