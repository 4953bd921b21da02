//! What a cable does to the frames on it.

use crate::time::Duration;

/// One direction of a cable. Chances are in 1,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cable {
    /// Propagation delay.
    pub delay: Duration,
    /// Chance that a frame is lost.
    pub loss: u32,
    /// Chance that a frame is duplicated.
    pub duplicate: u32,
    /// Chance that a frame is delayed by up to [`Cable::LATE_MAX`], so that others overtake it.
    pub reorder: u32,
    /// Chance that one bit of a frame is flipped, and not detected by Ethernet. ARP is spared, because it has no
    /// checksum of its own.
    pub flip: u32,
    /// Whether the cable is cut.
    pub cut: bool,
}

impl Cable {
    /// Longest delay of a reordered frame.
    pub const LATE_MAX: Duration = Duration::from_millis(8);

    /// A cable without faults.
    pub const GOOD: Self =
        Self { delay: Duration::from_micros(50), loss: 0, duplicate: 0, reorder: 0, flip: 0, cut: false };
}
