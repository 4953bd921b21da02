//! A worker's ways in and out of a device, by the kind of socket that the engine was told to use.
//!
//! Both kinds keep the same promises: frames come in order and whole, or are said to be cut; they are edited where they lie; a
//! frame is sent or somebody hears why not. Which kind it is, is asked once for a batch.

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::RawFd;

use super::af_xdp::SendSocket;
use super::{af_packet, af_xdp};
use crate::id::DeviceId;
use crate::time::Instant;
use crate::wire::batch::Batch;
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;

/// A frame to send.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The Ethernet frame without its outer tag.
    pub bytes: &'a [u8],
    /// The outer tag to put on.
    pub vlan: Option<VlanTag>,
    /// Checksum and segmentation work for the device.
    pub offload: Offload,
}

/// Why a frame was not taken (CORRECTNESS A1.12). Each is one frame's fate: the next may pass.
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
    /// Anything else: offload headers that the kernel does not accept (`EINVAL`), for one.
    Refused,
}

impl SendError {
    /// All kinds, in order of declaration.
    pub const ALL: [Self; 6] =
        [Self::NoBuffers, Self::LinkDown, Self::TooBig, Self::WouldBlock, Self::NoDevice, Self::Refused];

    /// The counter's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoBuffers => "tx_no_buffers",
            Self::LinkDown => "tx_link_down",
            Self::TooBig => "tx_too_big",
            Self::WouldBlock => "tx_would_block",
            Self::NoDevice => "tx_no_device",
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

/// Why a device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its packet sockets.
    #[error(transparent)]
    Packet(#[from] af_packet::OpenError),
    /// Its AF_XDP sockets.
    #[error(transparent)]
    Xdp(#[from] af_xdp::OpenError),
}

/// What was counted since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RingCounts {
    /// Frames that found the ring full.
    pub dropped: u64,
    /// Frames that were taken for sending and then not sent.
    pub unsent: u64,
}

/// One worker's way in from one device.
#[derive(Debug)]
pub enum Receiver {
    /// A TPACKET_V2 ring.
    Packet(af_packet::Receiver),
    /// Sockets of the device's queues.
    Xdp(af_xdp::Receiver),
}

/// A way out to one device.
#[derive(Debug)]
pub enum Sender {
    /// A packet socket, which takes frames of every kind.
    Packet {
        /// The socket.
        socket: af_packet::Sender,
        /// What costs the kernel less where no frame of a call asks anything of the device.
        xdp: Option<SendSocket>,
    },
    /// A socket of one of the device's queues: frames of the device's MTU.
    Xdp(af_xdp::Sender),
}

impl Receiver {
    /// Appends what has come to `batch`, until the batch is full; answers how many.
    ///
    /// A frame whose capture is not whole gets the verdict `truncated` and must not be forwarded (A1.7). The memory of the
    /// frames stays ours until [`Receiver::release`].
    pub fn receive<'r, V>(&'r mut self, device: DeviceId, batch: &mut Batch<'r, V>, truncated: fn() -> V) -> usize {
        match self {
            Self::Packet(receiver) => receiver.receive(device, batch, truncated),
            Self::Xdp(receiver) => receiver.receive(device, batch),
        }
    }

    /// Gives the memory of all frames that were handed out back to the kernel; what a [`Sender`] took of it leaves.
    pub fn release(&mut self) {
        match self {
            Self::Packet(receiver) => receiver.release(),
            Self::Xdp(receiver) => receiver.release(),
        }
    }

    /// To be called some times a second: what was counted since the last call.
    pub fn tend(&self, now: Instant) -> RingCounts {
        match self {
            Self::Packet(receiver) => receiver.take_counts(),
            Self::Xdp(receiver) => receiver.tend(now),
        }
    }

    /// Takes and clears a pending error: a link that goes down leaves one, and the socket works again when it is up.
    pub fn take_error(&self) -> Option<io::Error> {
        match self {
            Self::Packet(receiver) => receiver.take_error(),
            Self::Xdp(receiver) => receiver.take_error(),
        }
    }

    /// What becomes readable when frames come; open for as long as this lives.
    pub fn descriptors(&self) -> &[RawFd] {
        match self {
            Self::Packet(receiver) => receiver.descriptors(),
            Self::Xdp(receiver) => receiver.descriptors(),
        }
    }
}

impl Sender {
    /// Sends `frames` in order; `failed` hears the position of each that was not taken. Never waits, never gives up on the rest.
    pub fn send<'a>(
        &self,
        frames: impl IntoIterator<Item = Outgoing<'a>, IntoIter: Clone>,
        failed: impl FnMut(usize, SendError),
    ) -> usize {
        let frames = frames.into_iter();
        match self {
            Self::Packet { socket, xdp: None } => socket.send(frames, failed),
            Self::Packet { xdp: Some(xdp), .. } if frames.clone().all(|frame| SendSocket::carries(&frame)) => {
                xdp.send(frames, failed)
            }
            Self::Packet { socket, xdp: Some(xdp) } => {
                // What came before goes before.
                xdp.flush();
                socket.send(frames, failed)
            }
            Self::Xdp(sender) => sender.send(frames, failed),
        }
    }

    /// Sends what was taken while the device had no room for it; answers whether some of it still waits.
    pub fn flush(&self) -> bool {
        match self {
            Self::Packet { socket: _, xdp } => xdp.as_ref().is_some_and(SendSocket::flush),
            Self::Xdp(sender) => sender.flush(),
        }
    }

    /// The device has another MTU.
    pub fn set_mtu(&self, mtu: u16) {
        match self {
            Self::Packet { socket: _, xdp } => xdp.iter().for_each(|xdp| xdp.set_mtu(mtu)),
            // Opened again with its receiver.
            Self::Xdp(_) => {}
        }
    }

    /// To be called some times a second: frames that were taken since the last call and then not sent.
    pub fn tend(&self, now: Instant) -> u64 {
        match self {
            Self::Packet { socket: _, xdp } => xdp.as_ref().map_or(0, |xdp| xdp.tend(now)),
            // Counted with its receiver.
            Self::Xdp(_) => 0,
        }
    }
}

impl From<af_packet::Sender> for Sender {
    fn from(socket: af_packet::Sender) -> Self {
        Self::Packet { socket, xdp: None }
    }
}
