//! Capture files: the blocks of pcapng (draft-ietf-opsawg-pcapng), little endian, with timestamps in nanoseconds.
//!
//! ```text
//!   section header · one interface description per link · enhanced packets ... · one interface statistics per link
//! ```
//!
//! The file is valid after every block, so that a capture can be read while it grows.

mod merge;
#[cfg(test)]
mod tests;

use crate::wire::MacAddr;
use crate::wire::vlan::VlanTag;

pub use merge::{Block, BlockKind, NotABlock, next_block};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
/// The byte-order magic, written in the byte order of the section.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// The section length that means "unknown", used because the file grows while it is written.
const LENGTH_UNKNOWN: u64 = u64::MAX;
const LINKTYPE_ETHERNET: u16 = 1;
/// The two MAC addresses of a frame, after which a VLAN tag stands.
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

/// The content of an interface description block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureInterface<'a> {
    /// Name of the interface.
    pub name: &'a str,
    /// A description of the interface for people.
    pub description: &'a str,
    /// Hardware address of the interface.
    pub mac: MacAddr,
    /// The largest number of bytes that are kept of a frame; 0 means all.
    pub snaplen: u32,
}

/// The direction of a frame, as seen from the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CaptureDirection {
    /// The frame was received.
    Inbound,
    /// The frame was sent.
    Outbound,
}

/// A captured frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapturedPacket<'a> {
    /// Number of the interface, counted from 0 in the order of the descriptions.
    pub interface: u32,
    /// Time of capture in nanoseconds since 1970.
    pub at: u64,
    /// Whether the frame was received or sent.
    pub direction: CaptureDirection,
    /// The outer VLAN tag, which is put back into the frame.
    pub vlan: Option<VlanTag>,
    /// The frame without its outer tag, possibly cut short.
    pub bytes: &'a [u8],
    /// Length of the whole frame in bytes, without its outer tag.
    pub length: usize,
    /// A comment for people; empty for none.
    pub comment: &'a str,
}

/// The counters of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceStatistics {
    /// Number of the interface.
    pub interface: u32,
    /// Start of counting, in nanoseconds since 1970.
    pub from: u64,
    /// End of counting, in nanoseconds since 1970.
    pub to: u64,
    /// Number of frames that were to be captured.
    pub received: u64,
    /// How many of these were dropped because there was no room.
    pub dropped: u64,
}

/// Appends the section header, with which a file begins. `application` is the program that wrote it.
pub fn section(out: &mut Vec<u8>, application: &str) {
    block(out, SECTION_HEADER, |out| {
        out.extend(BYTE_ORDER.to_le_bytes());
        out.extend(1_u16.to_le_bytes());
        out.extend(0_u16.to_le_bytes());
        out.extend(LENGTH_UNKNOWN.to_le_bytes());
        option(out, SHB_USERAPPL, application.as_bytes());
    });
}

/// Appends an interface description. Interfaces are numbered from 0 in the order of these calls.
pub fn interface(out: &mut Vec<u8>, interface: &CaptureInterface<'_>) {
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

/// Appends a captured frame.
pub fn packet(out: &mut Vec<u8>, packet: &CapturedPacket<'_>) {
    // A frame that is shorter than its two addresses has no place for a tag.
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

/// Appends the counters of an interface.
pub fn statistics(out: &mut Vec<u8>, statistics: &InterfaceStatistics) {
    block(out, INTERFACE_STATISTICS, |out| {
        out.extend(statistics.interface.to_le_bytes());
        out.extend(high_low(statistics.to));
        option(out, ISB_STARTTIME, &high_low(statistics.from));
        option(out, ISB_ENDTIME, &high_low(statistics.to));
        option(out, ISB_IFRECV, &statistics.received.to_le_bytes());
        option(out, ISB_IFDROP, &statistics.dropped.to_le_bytes());
    });
}

/// The flags of a packet: direction in bits 0 and 1, kind of reception in bits 2 to 4.
fn flags(packet: &CapturedPacket<'_>) -> u32 {
    let direction = match packet.direction {
        CaptureDirection::Inbound => 1,
        CaptureDirection::Outbound => 2,
    };
    let reception = match packet.bytes.first_chunk::<6>() {
        Some([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]) => 3,
        Some([first, ..]) if first & 1 == 1 => 2,
        Some(_) => 1,
        None => 0,
    };
    direction | reception << 2
}

/// A 64-bit number as pcapng writes timestamps: the upper half first, each half in little endian.
fn high_low(nanos: u64) -> [u8; 8] {
    let [high, low] = [(nanos >> 32) as u32, nanos as u32].map(u32::to_le_bytes);
    let mut both = [0; 8];
    both[..4].copy_from_slice(&high);
    both[4..].copy_from_slice(&low);
    both
}

/// Appends a block of type `kind`; its length stands before and after its body.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    body(out);
    // The end-of-options marker, which a block without options may have too.
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
