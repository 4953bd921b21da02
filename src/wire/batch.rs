//! The unit of work of a packet worker: up to [`Batch::CAPACITY`] frames where they lie, with their offload state.

use arrayvec::ArrayVec;

use crate::id::DeviceId;
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;

/// One frame of a batch. The bytes lie where the receiver put them (the ring) and are edited in place.
#[derive(Debug)]
pub struct Packet<'a, V> {
    /// The device that received it.
    pub device: DeviceId,
    /// Its outer 802.1Q tag; `process` replaces it by the tag of the egress link.
    pub vlan: Option<VlanTag>,
    /// Checksum and segmentation work left undone.
    pub offload: Offload,
    /// The Ethernet frame without its outer tag.
    pub bytes: &'a mut [u8],
    /// What becomes of it; `None` until it was processed.
    pub verdict: Option<V>,
}

/// Up to [`Batch::CAPACITY`] frames, in order of arrival.
#[derive(Debug)]
pub struct Batch<'a, V> {
    /// The frames.
    pub packets: ArrayVec<Packet<'a, V>, 64>,
}

impl<V> Batch<'_, V> {
    /// Frames in a full batch.
    pub const CAPACITY: usize = 64;

    /// An empty batch.
    pub fn new() -> Self {
        Self { packets: ArrayVec::new() }
    }
}

impl<V> Default for Batch<'_, V> {
    fn default() -> Self {
        Self::new()
    }
}
