//! The unit of work of a packet worker: up to [`Batch::CAPACITY`] frames with their offload state, edited where they
//! lie.

use arrayvec::ArrayVec;

use crate::id::DeviceId;
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;

/// One frame of a batch. Its bytes stay in the receive ring and are edited in place.
#[derive(Debug)]
pub struct Packet<'a, V> {
    /// The device that received the frame.
    pub device: DeviceId,
    /// The outer 802.1Q tag; the forwarder replaces it by the tag of the egress link.
    pub vlan: Option<VlanTag>,
    /// The checksum and segmentation work that the devices left undone.
    pub offload: Offload,
    /// The Ethernet frame without its outer tag.
    pub bytes: &'a mut [u8],
    /// The verdict on the frame; `None` until it was processed.
    pub verdict: Option<V>,
}

/// Up to [`Batch::CAPACITY`] frames, in order of arrival.
#[derive(Debug)]
pub struct Batch<'a, V> {
    /// The frames in order of arrival.
    pub packets: ArrayVec<Packet<'a, V>, 64>,
}

impl<V> Batch<'_, V> {
    /// The number of frames in a full batch.
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
