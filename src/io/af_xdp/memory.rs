//! The memory (UMEM) that holds the frames of one worker.
//!
//! Every frame has 4 KiB. The kernel leaves its first 256 bytes free (`XDP_PACKET_HEADROOM`), so that a tag can be put
//! before a frame that leaves by a tagged link.

use std::io;
use std::ptr::NonNull;

use super::frames::FrameIndex;
use super::ring::Mapping;
use crate::io::memory::advise_huge_pages;

/// Bytes of a frame, headroom included.
pub(super) const FRAME_BYTES: u32 = 4096;
/// Bytes of headroom that the kernel leaves free before received data.
pub(super) const HEADROOM: u32 = 256;
/// Bytes of a huge page on most machines.
const HUGE: usize = 2 << 20;

/// Address range of a UMEM, as the kernel is told (`struct xdp_umem_reg`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    /// Address of the first byte.
    pub start: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// Memory for the frames of one worker, mapped until it is dropped.
#[derive(Debug)]
pub(super) struct Memory {
    _mapping: Mapping,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it owns its mapping, which is not tied to a thread; its data is reached through `unsafe` alone.
// JUSTIFICATION: it is made by the control thread and used by a worker.
unsafe impl Send for Memory {}

impl Memory {
    /// Maps room for `frames` frames, in huge pages where the machine has them.
    pub(super) fn new(frames: u32) -> io::Result<Self> {
        let bytes = frames as usize * FRAME_BYTES as usize;
        let mapping = Mapping::anonymous(bytes + HUGE)?;
        let skipped = mapping.start().align_offset(HUGE);
        // SAFETY: less than `HUGE` bytes are skipped, and that many more were mapped. JUSTIFICATION: pointer
        // arithmetic.
        let start = unsafe { mapping.start().add(skipped) };
        // SAFETY: the range lies in the mapping, which is zeroed and which nobody else has seen yet. JUSTIFICATION: the
        // memory is a mapping and not an allocation.
        advise_huge_pages(unsafe { std::slice::from_raw_parts(start.as_ptr(), bytes) });
        Ok(Self { _mapping: mapping, start, bytes })
    }

    /// Its address range.
    pub(super) fn region(&self) -> Region {
        Region { start: self.start.as_ptr() as u64, bytes: self.bytes as u64 }
    }

    /// Offset of a frame from the start of the memory, in bytes.
    pub(super) const fn offset(frame: FrameIndex) -> u64 {
        frame as u64 * FRAME_BYTES as u64
    }

    /// The frame in which an offset lies; beyond the last frame if the offset lies beyond the memory.
    pub(super) fn frame(offset: u64) -> FrameIndex {
        FrameIndex::try_from(offset / u64::from(FRAME_BYTES)).unwrap_or(FrameIndex::MAX)
    }

    /// Offset of `bytes` if they lie in this memory.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<u64> {
        let offset = (bytes.as_ptr() as usize).checked_sub(self.start.as_ptr() as usize)?;
        (offset < self.bytes).then_some(offset as u64)
    }

    /// The `len` bytes at `offset`; `None` if they do not lie in one frame.
    ///
    /// # Safety
    /// The frame is the caller's, no other slice of these bytes lives, and the memory outlives the slice.
    pub(super) unsafe fn slice<'r>(&self, offset: u64, len: usize) -> Option<&'r mut [u8]> {
        let start = usize::try_from(offset).ok()?;
        let last = start.checked_add(len)?.checked_sub(1)?;
        if last >= self.bytes || Self::frame(offset) != Self::frame(last as u64) {
            return None;
        }
        // SAFETY: the range lies in the memory; the caller promises exclusive use.
        // JUSTIFICATION: frames are edited where they lie.
        Some(unsafe { std::slice::from_raw_parts_mut(self.start.add(start).as_ptr(), len) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_lie_in_one_frame_and_are_found_again() {
        let memory = Memory::new(4).unwrap();
        // SAFETY: nobody else has the memory, and one slice lives at a time. JUSTIFICATION: the function is under test.
        let slice = |offset, len| unsafe { memory.slice(offset, len) };

        let bytes = slice(Memory::offset(1) + 256, 60).unwrap();
        bytes.fill(7);
        assert_eq!(memory.find(bytes), Some(4096 + 256));
        assert_eq!(memory.find(&bytes[10..]), Some(4096 + 266));
        assert_eq!(memory.find(&[0; 4]), None);
        assert_eq!((Memory::frame(8191), Memory::frame(8192), Memory::frame(u64::MAX)), (1, 2, FrameIndex::MAX));
        assert!(slice(3 * 4096, 4096).is_some());
        for (offset, len) in [(3 * 4096, 4097), (4095, 2), (4 * 4096, 1), (u64::MAX, 1), (0, 0), (0, usize::MAX)] {
            assert!(slice(offset, len).is_none(), "{offset} {len}");
        }
        assert_eq!(memory.region().start % HUGE as u64, 0);
    }
}
