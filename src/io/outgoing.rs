//! What both kinds of sockets share: a frame to send, why it was not sent, and how many frames were lost.

use std::io;

use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;

/// A frame to send.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The Ethernet frame without its outer VLAN tag.
    pub bytes: &'a [u8],
    /// The outer VLAN tag to put on.
    pub vlan: Option<VlanTag>,
    /// Checksum and segmentation that are left to the device.
    pub offload: Offload,
}

/// Why a frame was not sent (`docs/protocols.md`, A1.12). The error concerns this frame alone: the next may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SendError {
    /// The device's queue is full, or an egress filter dropped it (`ENOBUFS`).
    NoBuffers,
    /// The link is down (`ENETDOWN`).
    LinkDown,
    /// Larger than the device's MTU (`EMSGSIZE`).
    TooBig,
    /// The socket's queue is full (`EAGAIN`).
    WouldBlock,
    /// The device is gone (`ENXIO`, `ENODEV`).
    NoDevice,
    /// The node stopped being the virtual router before a frame of the virtual router was sent.
    NotActive,
    /// Any other error, such as `EINVAL` for an offload header that the kernel does not accept.
    Refused,
}

impl SendError {
    /// All errors, in the order of declaration.
    pub const ALL: [Self; 7] = [
        Self::NoBuffers,
        Self::LinkDown,
        Self::TooBig,
        Self::WouldBlock,
        Self::NoDevice,
        Self::NotActive,
        Self::Refused,
    ];

    /// Name of the counter for this error.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoBuffers => "tx_no_buffers",
            Self::LinkDown => "tx_link_down",
            Self::TooBig => "tx_too_big",
            Self::WouldBlock => "tx_would_block",
            Self::NoDevice => "tx_no_device",
            Self::NotActive => "tx_not_active",
            Self::Refused => "tx_refused",
        }
    }

    pub(super) fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOBUFS) => Self::NoBuffers,
            Some(libc::ENETDOWN) => Self::LinkDown,
            Some(libc::EMSGSIZE) => Self::TooBig,
            Some(libc::EAGAIN) => Self::WouldBlock,
            Some(libc::ENXIO | libc::ENODEV) => Self::NoDevice,
            _ => Self::Refused,
        }
    }
}

/// Frames that were lost since the last call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RingCounts {
    /// Received frames that found the ring full.
    pub dropped: u64,
    /// Frames that were taken for sending and then not sent.
    pub unsent: u64,
}
