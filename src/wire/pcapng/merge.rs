//! The blocks of captures that this program wrote, taken apart so that several become one.

use super::{ENHANCED_PACKET, INTERFACE_DESCRIPTION, INTERFACE_STATISTICS, SECTION_HEADER};

/// A block is no longer than a frame of 64 KiB and what is said about it.
const BLOCK_MAX: usize = 1 << 20;

/// What is no block of such a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a capture: a block of kind {kind:#x} and {length} bytes")]
pub struct Malformed {
    /// Its first word.
    pub kind: u32,
    /// Its second.
    pub length: u32,
}

/// A block as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// What it is.
    pub kind: BlockKind,
    bytes: &'a [u8],
}

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// A file begins.
    Section,
    /// Describes the next interface.
    Interface,
    /// A frame.
    Packet {
        /// Number of its interface.
        interface: u32,
        /// Nanoseconds since 1970.
        at: u64,
    },
    /// What was counted.
    Statistics {
        /// Number of the interface.
        interface: u32,
        /// Frames that were to be captured.
        received: u64,
        /// Those of them for which there was no room.
        dropped: u64,
    },
    /// Something that a later version may write.
    Other,
}

/// The first block of `bytes`; `None` while it is not whole.
pub fn next_block(bytes: &[u8]) -> Result<Option<Block<'_>>, Malformed> {
    let (Some(kind), Some(length)) = (word(bytes, 0), word(bytes, 4)) else { return Ok(None) };
    let total = length as usize;
    if !(12..=BLOCK_MAX).contains(&total) || !total.is_multiple_of(4) {
        return Err(Malformed { kind, length });
    }
    let Some(bytes) = bytes.get(..total) else { return Ok(None) };
    let malformed = || Malformed { kind, length };
    let at_least = |words: usize| if total >= 12 + 4 * words { Ok(()) } else { Err(malformed()) };
    let word = |at| word(bytes, at).unwrap_or_default();
    let kind = match kind {
        SECTION_HEADER => BlockKind::Section,
        INTERFACE_DESCRIPTION => BlockKind::Interface,
        ENHANCED_PACKET => {
            at_least(5)?;
            BlockKind::Packet { interface: word(8), at: u64::from(word(12)) << 32 | u64::from(word(16)) }
        }
        INTERFACE_STATISTICS => {
            // Behind three words come two options of three words with the times, then two with the counts.
            at_least(3 + 4 * 3)?;
            let count = |at| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
            BlockKind::Statistics { interface: word(8), received: count(48), dropped: count(60) }
        }
        _ => BlockKind::Other,
    };
    Ok(Some(Block { kind, bytes }))
}

impl<'a> Block<'a> {
    /// The whole block.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Adds the block to a file in which its interface has this number.
    pub fn write(&self, interface: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.bytes);
        match self.kind {
            BlockKind::Packet { .. } | BlockKind::Statistics { .. } => {
                out[start + 8..start + 12].copy_from_slice(&interface.to_le_bytes());
            }
            BlockKind::Section | BlockKind::Interface | BlockKind::Other => {}
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
