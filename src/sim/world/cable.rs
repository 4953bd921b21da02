//! What a cable does to the frames on it.

use crate::time::Duration;

/// What one direction of a cable does to frames. Chances are per thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    /// Time of flight.
    pub delay: Duration,
    /// Lost.
    pub loss: u32,
    /// Doubled.
    pub duplicate: u32,
    /// Late by up to [`Wire::LATE_MAX`], so that others overtake it.
    pub reorder: u32,
    /// One bit turned, checksums and all. ARP has no checksum and is spared: on real wires the frame check sequence guards it.
    pub flip: u32,
    /// Nothing passes.
    pub cut: bool,
}

impl Wire {
    /// How late a reordered frame may be.
    pub const LATE_MAX: Duration = Duration::from_millis(8);

    /// A good wire.
    pub const GOOD: Self =
        Self { delay: Duration::from_micros(50), loss: 0, duplicate: 0, reorder: 0, flip: 0, cut: false };
}
