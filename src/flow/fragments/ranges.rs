//! The ranges of a datagram that were seen, fragment by fragment.

use arrayvec::ArrayVec;

use crate::wire::frame::FragmentRange;

/// The largest number of fragments of a datagram that are tracked. A datagram of 65,535 bytes has 119 at an MTU of 576
/// bytes, the smallest in use.
pub(super) const PIECES_MAX: usize = 128;

/// The fragments of one datagram that were seen, without overlap and in order of offset.
#[derive(Debug)]
pub(super) struct SeenRanges {
    pieces: ArrayVec<(u16, u16), PIECES_MAX>,
    /// Sum of the lengths of all fragments in bytes.
    covered: u32,
    /// Length of the datagram in bytes, once its last fragment was seen.
    end: Option<u16>,
}

/// How a fragment relates to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inserted {
    /// All its bytes are new.
    Added,
    /// It is an exact copy of another fragment.
    Copy,
    /// It shares bytes with another fragment without being its copy, or contradicts where the datagram ends.
    Overlap,
    /// Its bytes are new, but [`PIECES_MAX`] fragments are already tracked.
    Full,
}

impl SeenRanges {
    pub(super) fn new() -> Self {
        Self { pieces: ArrayVec::new(), covered: 0, end: None }
    }

    /// True if every byte of the datagram was seen.
    pub(super) fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| self.covered == u32::from(end))
    }

    /// Adds a fragment with O(log n) comparisons.
    pub(super) fn insert(&mut self, range: FragmentRange) -> Inserted {
        let (start, end) = (range.offset, range.end());
        let ends_otherwise = match (self.end, range.last) {
            (Some(known), true) => known != end,
            (Some(known), false) => end >= known,
            (None, true) => self.pieces.last().is_some_and(|&(_, seen)| seen >= end),
            (None, false) => false,
        };
        if ends_otherwise {
            return Inserted::Overlap;
        }
        let at = self.pieces.partition_point(|&(other, _)| other < start);
        let before = at.checked_sub(1).map(|previous| self.pieces[previous]);
        let after = self.pieces.get(at).copied();
        if after == Some((start, end)) {
            return Inserted::Copy;
        }
        if before.is_some_and(|(_, seen)| seen > start) || after.is_some_and(|(seen, _)| seen < end) {
            return Inserted::Overlap;
        }
        if self.pieces.is_full() {
            return Inserted::Full;
        }
        self.pieces.insert(at, (start, end));
        self.covered += u32::from(end - start);
        if range.last {
            self.end = Some(end);
        }
        Inserted::Added
    }
}
