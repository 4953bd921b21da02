//! Which bytes of a datagram were seen, fragment by fragment.

use arrayvec::ArrayVec;

use crate::wire::frame::FragmentRange;

/// Pieces of a datagram told apart. 65,535 bytes come in 119 pieces at the smallest IPv4 MTU in use (576).
pub(super) const PIECES_MAX: usize = 128;

/// The fragments of one datagram that were seen: disjoint, in order of offset.
#[derive(Debug)]
pub(super) struct Ranges {
    pieces: ArrayVec<(u16, u16), PIECES_MAX>,
    /// Bytes of all pieces.
    covered: u32,
    /// Where the datagram ends, once its last fragment was seen.
    end: Option<u16>,
}

/// What a fragment is to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inserted {
    /// New bytes.
    Added,
    /// The same bytes again, to the boundary.
    Copy,
    /// Shares bytes with another, or contradicts where the datagram ends.
    Overlap,
    /// New bytes, but [`PIECES_MAX`] pieces are known.
    Full,
}

impl Ranges {
    pub(super) fn new() -> Self {
        Self { pieces: ArrayVec::new(), covered: 0, end: None }
    }

    /// Every byte from 0 to the end was seen.
    pub(super) fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| self.covered == u32::from(end))
    }

    /// Adds a fragment; costs O(log n) comparisons.
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
