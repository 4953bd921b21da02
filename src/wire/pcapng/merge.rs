//! Reading the blocks of captures that this program wrote, so that several captures can be merged into one.

use super::{ENHANCED_PACKET, INTERFACE_DESCRIPTION, INTERFACE_STATISTICS, SECTION_HEADER};

/// Upper limit of a block's length in bytes. A block holds at most one frame of 64 KiB with its comment.
const BLOCK_MAX: usize = 1 << 20;

/// The bytes are not a block of such a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a capture: a block of kind {kind:#x} and {length} bytes")]
pub struct NotABlock {
    /// The type of the block, its first 32-bit word.
    pub kind: u32,
    /// The length of the block in bytes, its second 32-bit word.
    pub length: u32,
}

/// One block of a capture, as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// The type of the block.
    pub kind: BlockKind,
    bytes: &'a [u8],
}

/// The type of a block, with the fields that merging needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// A section header, with which a file begins.
    Section,
    /// The description of the next interface.
    Interface,
    /// A captured frame.
    Packet {
        /// Number of its interface within the section.
        interface: u32,
        /// Time of capture in nanoseconds since 1970.
        at: u64,
    },
    /// The counters of an interface.
    Statistics {
        /// Number of the interface within the section.
        interface: u32,
        /// Number of frames that were to be captured.
        received: u64,
        /// How many of these were dropped because there was no room.
        dropped: u64,
    },
    /// A block of a type that this version does not write.
    Other,
}

/// Reads the first block of `bytes`; `None` if it is not complete yet.
pub fn next_block(bytes: &[u8]) -> Result<Option<Block<'_>>, NotABlock> {
    let (Some(kind), Some(length)) = (word(bytes, 0), word(bytes, 4)) else { return Ok(None) };
    let total = length as usize;
    if !(12..=BLOCK_MAX).contains(&total) || !total.is_multiple_of(4) {
        return Err(NotABlock { kind, length });
    }
    let Some(bytes) = bytes.get(..total) else { return Ok(None) };
    let malformed = || NotABlock { kind, length };
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
            // Three words are followed by two options of three words each with the times, then by two options with the
            // counters.
            at_least(3 + 4 * 3)?;
            let count = |at| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
            BlockKind::Statistics { interface: word(8), received: count(48), dropped: count(60) }
        }
        _ => BlockKind::Other,
    };
    Ok(Some(Block { kind, bytes }))
}

impl<'a> Block<'a> {
    /// The bytes of the whole block.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Appends the block to a file in which its interface has the number `interface`.
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
