//! Captures as files: the blocks of pcapng (draft-ietf-opsawg-pcapng), little endian, with times in nanoseconds.
//!
//! ```text
//!   section header · one interface description per link · enhanced packets ... · one interface statistics per link
//! ```
//!
//! A file may end after any block and is still whole, so that a capture can be read while it grows.

mod merge;
#[cfg(test)]
mod tests;

use crate::wire::MacAddr;
use crate::wire::vlan::VlanTag;

pub use merge::{Block, BlockKind, Malformed, next_block};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
/// In the byte order of whoever wrote the section.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// A section whose length is not said, as it is written while it grows.
const LENGTH_UNKNOWN: u64 = u64::MAX;
const LINKTYPE_ETHERNET: u16 = 1;
/// The two hardware addresses, behind which a VLAN tag stands.
const MACS_LEN: usize = 12;

const OPT_COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_MACADDR: u16 = 6;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
const ISB_STARTTIME: u16 = 2;
const ISB_ENDTIME: u16 = 3;
const ISB_IFRECV: u16 = 4;
const ISB_IFDROP: u16 = 5;

/// What one interface description says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Its name.
    pub name: &'a str,
    /// More about it, for people.
    pub description: &'a str,
    /// Its hardware address.
    pub mac: MacAddr,
    /// Bytes kept of a frame, at most; 0: all.
    pub snaplen: u32,
}

/// Which way a frame went, seen from the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It was received.
    Inbound,
    /// It was sent.
    Outbound,
}

/// A captured frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Number of its interface, in order of description.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub at: u64,
    /// Which way it went.
    pub direction: Direction,
    /// Its outer tag, which is put back into it.
    pub vlan: Option<VlanTag>,
    /// The frame without its outer tag, or the beginning of it.
    pub bytes: &'a [u8],
    /// Bytes of the whole frame without its outer tag.
    pub length: usize,
    /// What is to be said about it; empty: nothing.
    pub comment: &'a str,
}

/// What was counted on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Number of the interface.
    pub interface: u32,
    /// Begin of the count, nanoseconds since 1970.
    pub from: u64,
    /// End of the count, nanoseconds since 1970.
    pub to: u64,
    /// Frames that were to be captured.
    pub received: u64,
    /// Those of them for which there was no room.
    pub dropped: u64,
}

/// Begins a file written by `application`.
pub fn section(out: &mut Vec<u8>, application: &str) {
    block(out, SECTION_HEADER, |out| {
        out.extend(BYTE_ORDER.to_le_bytes());
        out.extend(1_u16.to_le_bytes());
        out.extend(0_u16.to_le_bytes());
        out.extend(LENGTH_UNKNOWN.to_le_bytes());
        option(out, SHB_USERAPPL, application.as_bytes());
    });
}

/// Describes the next interface; they are numbered from 0 in this order.
pub fn interface(out: &mut Vec<u8>, interface: &Interface<'_>) {
    block(out, INTERFACE_DESCRIPTION, |out| {
        out.extend(LINKTYPE_ETHERNET.to_le_bytes());
        out.extend([0; 2]);
        out.extend(interface.snaplen.to_le_bytes());
        option(out, IF_NAME, interface.name.as_bytes());
        option(out, IF_DESCRIPTION, interface.description.as_bytes());
        option(out, IF_MACADDR, &interface.mac.0);
        option(out, IF_TSRESOL, &[9]);
    });
}

/// Adds a frame.
pub fn packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    // A frame too short for its addresses has no place for a tag.
    let tag = packet.vlan.filter(|_| packet.bytes.len() >= MACS_LEN);
    let tag_len = if tag.is_some() { 4 } else { 0 };
    block(out, ENHANCED_PACKET, |out| {
        out.extend(packet.interface.to_le_bytes());
        out.extend(high_low(packet.at));
        out.extend(length(packet.bytes.len() + tag_len).to_le_bytes());
        out.extend(length(packet.length.max(packet.bytes.len()) + tag_len).to_le_bytes());
        match tag {
            Some(VlanTag { tpid, tci }) => {
                out.extend_from_slice(&packet.bytes[..MACS_LEN]);
                out.extend(tpid.to_be_bytes());
                out.extend(tci.to_be_bytes());
                out.extend_from_slice(&packet.bytes[MACS_LEN..]);
            }
            None => out.extend_from_slice(packet.bytes),
        }
        pad(out, packet.bytes.len() + tag_len);
        option(out, EPB_FLAGS, &flags(packet).to_le_bytes());
        if !packet.comment.is_empty() {
            option(out, OPT_COMMENT, packet.comment.as_bytes());
        }
    });
}

/// Says what was counted on an interface.
pub fn statistics(out: &mut Vec<u8>, statistics: &Statistics) {
    block(out, INTERFACE_STATISTICS, |out| {
        out.extend(statistics.interface.to_le_bytes());
        out.extend(high_low(statistics.to));
        option(out, ISB_STARTTIME, &high_low(statistics.from));
        option(out, ISB_ENDTIME, &high_low(statistics.to));
        option(out, ISB_IFRECV, &statistics.received.to_le_bytes());
        option(out, ISB_IFDROP, &statistics.dropped.to_le_bytes());
    });
}

/// Direction in bits 0 and 1, kind of reception in bits 2 to 4.
fn flags(packet: &Packet<'_>) -> u32 {
    let direction = match packet.direction {
        Direction::Inbound => 1,
        Direction::Outbound => 2,
    };
    let reception = match packet.bytes.first_chunk::<6>() {
        Some([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]) => 3,
        Some([first, ..]) if first & 1 == 1 => 2,
        Some(_) => 1,
        None => 0,
    };
    direction | reception << 2
}

/// The upper half first, each half in the order of the section.
fn high_low(nanos: u64) -> [u8; 8] {
    let [high, low] = [(nanos >> 32) as u32, nanos as u32].map(u32::to_le_bytes);
    let mut both = [0; 8];
    both[..4].copy_from_slice(&high);
    both[4..].copy_from_slice(&low);
    both
}

/// A block of `kind`: its length stands before and behind its body.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    body(out);
    // End of options; a block without options may have it too.
    out.extend([0; 4]);
    let total = length(out.len() - start + 4).to_le_bytes();
    out[start + 4..start + 8].copy_from_slice(&total);
    out.extend(total);
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX) - 3)];
    out.extend(code.to_le_bytes());
    out.extend((value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

fn pad(out: &mut Vec<u8>, written: usize) {
    out.extend(std::iter::repeat_n(0, written.next_multiple_of(4) - written));
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
