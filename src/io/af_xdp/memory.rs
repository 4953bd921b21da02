//! The memory that the frames of one worker lie in.
//!
//! Every frame has 4 KiB: the kernel leaves the first 256 bytes free (`XDP_PACKET_HEADROOM`), where a tag is put before a frame
//! that leaves by a tagged link.

use std::io;
use std::ptr::NonNull;

use super::frames::Frame;
use super::ring::Mapping;
use crate::io::memory::advise_huge_pages;

/// Bytes of a frame with what is before it.
pub(super) const FRAME_BYTES: u32 = 4096;
/// Bytes that the kernel leaves free before what it receives.
pub(super) const HEADROOM: u32 = 256;
/// What a page table entry of the next size covers, on most machines.
const HUGE: usize = 2 << 20;

/// Where a memory is, as the kernel is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    /// Address of the first byte.
    pub start: u64,
    /// Size.
    pub bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Memory {
    _mapping: Mapping,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it owns its mapping, which is not tied to a thread; what lies in it is reached through `unsafe` alone.
// JUSTIFICATION: made by the control thread and used by a worker.
unsafe impl Send for Memory {}

impl Memory {
    /// Room for `frames` frames, in huge pages where the machine has them.
    pub(super) fn new(frames: u32) -> io::Result<Self> {
        let bytes = frames as usize * FRAME_BYTES as usize;
        let mapping = Mapping::anonymous(bytes + HUGE)?;
        let skipped = mapping.start().align_offset(HUGE);
        // SAFETY: less than `HUGE` bytes are skipped, and that many more were mapped. JUSTIFICATION: pointer arithmetic.
        let start = unsafe { mapping.start().add(skipped) };
        // SAFETY: the range lies in the mapping, which is zero and which nobody else has seen yet. JUSTIFICATION: it is a
        // mapping of its own.
        advise_huge_pages(unsafe { std::slice::from_raw_parts(start.as_ptr(), bytes) });
        Ok(Self { _mapping: mapping, start, bytes })
    }

    /// Where it is.
    pub(super) fn region(&self) -> Region {
        Region { start: self.start.as_ptr() as u64, bytes: self.bytes as u64 }
    }

    /// Where a frame begins, counted from the first byte of the memory.
    pub(super) const fn offset(frame: Frame) -> u64 {
        frame as u64 * FRAME_BYTES as u64
    }

    /// The frame that an offset lies in; one beyond the memory where the offset is.
    pub(super) fn frame(offset: u64) -> Frame {
        Frame::try_from(offset / u64::from(FRAME_BYTES)).unwrap_or(Frame::MAX)
    }

    /// Where `bytes` lie, if that is here.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<u64> {
        let offset = (bytes.as_ptr() as usize).checked_sub(self.start.as_ptr() as usize)?;
        (offset < self.bytes).then_some(offset as u64)
    }

    /// `len` bytes at `offset`; `None` if they would not lie in one frame.
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
        assert_eq!((Memory::frame(8191), Memory::frame(8192), Memory::frame(u64::MAX)), (1, 2, Frame::MAX));
        assert!(slice(3 * 4096, 4096).is_some());
        for (offset, len) in [(3 * 4096, 4097), (4095, 2), (4 * 4096, 1), (u64::MAX, 1), (0, 0), (0, usize::MAX)] {
            assert!(slice(offset, len).is_none(), "{offset} {len}");
        }
        assert_eq!(memory.region().start % HUGE as u64, 0);
    }
}
