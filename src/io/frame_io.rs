//! A worker's receiver and sender for a device, over the kind of socket that is configured.
//!
//! Both kinds keep the same promises: frames arrive in order and whole, or are marked as truncated; they are edited
//! where they lie; and each frame is either sent or reported with the error. The kind is looked at once per batch.

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

pub use super::af_packet::FrameWindow;
pub use super::outgoing::{Outgoing, RingCounts, SendError};

/// Why a device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DeviceOpenError {
    /// Its packet sockets could not be opened.
    #[error(transparent)]
    Packet(#[from] af_packet::PacketSocketError),
    /// Its AF_XDP sockets could not be opened.
    #[error(transparent)]
    Xdp(#[from] af_xdp::XdpError),
}

/// Receives the frames of one device for one worker.
#[derive(Debug)]
pub enum Receiver {
    /// From a TPACKET_V2 ring.
    Packet(af_packet::Receiver),
    /// From AF_XDP sockets of the device's queues.
    Xdp(af_xdp::Receiver),
}

/// Sends frames to one device.
#[derive(Debug)]
pub enum Sender {
    /// By a packet socket, which takes frames of every kind.
    Packet {
        /// The packet socket.
        socket: af_packet::Sender,
        /// A cheaper AF_XDP socket for calls none of whose frames needs an offload.
        xdp: Option<SendSocket>,
    },
    /// By an AF_XDP socket of one of the device's queues, which takes frames up to the device's MTU.
    Xdp(af_xdp::Sender),
}

impl Receiver {
    /// Appends received frames to `batch` until it is full or none waits; returns how many.
    ///
    /// A frame that was captured in part gets the verdict `truncated` and must not be forwarded (`docs/protocols.md`,
    /// A1.7). The memory of the frames stays ours until [`Receiver::release`].
    pub fn receive<'r, V>(&'r mut self, device: DeviceId, batch: &mut Batch<'r, V>, truncated: fn() -> V) -> usize {
        match self {
            Self::Packet(receiver) => receiver.receive(device, batch, truncated),
            Self::Xdp(receiver) => receiver.receive(device, batch),
        }
    }

    /// Hands out only the frames that were received within this time from here on: those before it are skipped, and those
    /// after it stay where they are. AF_XDP does not say when a frame was received; there a window that ends means that no
    /// more frames are handed out.
    pub fn set_window(&mut self, window: FrameWindow) {
        match self {
            Self::Packet(receiver) => receiver.set_window(window),
            Self::Xdp(receiver) => receiver.set_closed(window.until != u64::MAX),
        }
    }

    /// The latest time at which a frame that was handed out was received: wall-clock time in nanoseconds since 1970; 0 if
    /// that is not known.
    pub fn newest(&self) -> u64 {
        match self {
            Self::Packet(receiver) => receiver.newest(),
            Self::Xdp(_) => 0,
        }
    }

    /// Gives the memory of all frames that were handed out back to the kernel. Frames that a [`Sender`] took from it
    /// are sent.
    pub fn release(&mut self) {
        match self {
            Self::Packet(receiver) => receiver.release(),
            Self::Xdp(receiver) => receiver.release(),
        }
    }

    /// Frames that were lost since the last call. To be called several times a second.
    pub fn maintain(&self, now: Instant) -> RingCounts {
        match self {
            Self::Packet(receiver) => receiver.take_counts(),
            Self::Xdp(receiver) => receiver.maintain(now),
        }
    }

    /// Takes and clears the pending error of the socket. A link that goes down leaves one; the socket works again when
    /// the link is up.
    pub fn take_error(&self) -> Option<io::Error> {
        match self {
            Self::Packet(receiver) => receiver.take_error(),
            Self::Xdp(receiver) => receiver.take_error(),
        }
    }

    /// Descriptors to poll for received frames; open for as long as this receiver lives.
    pub fn descriptors(&self) -> &[RawFd] {
        match self {
            Self::Packet(receiver) => receiver.descriptors(),
            Self::Xdp(receiver) => receiver.descriptors(),
        }
    }
}

impl Sender {
    /// Sends `frames` in order and returns how many were sent; calls `failed` with the position of each that was not.
    /// Never waits, and goes on after a failure.
    pub fn send<'a>(
        &self,
        frames: impl IntoIterator<Item = Outgoing<'a>, IntoIter: Clone>,
        failed: impl FnMut(usize, SendError),
    ) -> usize {
        let frames = frames.into_iter();
        match self {
            Self::Packet { socket, xdp: None } => socket.send(frames, failed),
            Self::Packet { xdp: Some(xdp), .. } if frames.clone().all(|frame| SendSocket::can_carry(&frame)) => {
                xdp.send(frames, failed)
            }
            Self::Packet { socket, xdp: Some(xdp) } => {
                // Frames that wait in the send ring leave first, to keep the order.
                xdp.flush();
                socket.send(frames, failed)
            }
            Self::Xdp(sender) => sender.send(frames, failed),
        }
    }

    /// Sends the frames for which the device had no room; returns whether some of them still wait.
    pub fn flush(&self) -> bool {
        match self {
            Self::Packet { socket: _, xdp } => xdp.as_ref().is_some_and(SendSocket::flush),
            Self::Xdp(sender) => sender.flush(),
        }
    }

    /// Closes the AF_XDP socket beside the packet socket, if there is one, when its frames have left: another program can
    /// have the device's queue then.
    pub fn send_by_packet_socket(&mut self) {
        if let Self::Packet { socket: _, xdp } = self {
            if let Some(xdp) = xdp {
                xdp.flush();
            }
            *xdp = None;
        }
    }

    /// Notes a new MTU of the device, in bytes.
    pub fn set_mtu(&self, mtu: u16) {
        match self {
            Self::Packet { socket: _, xdp } => xdp.iter().for_each(|xdp| xdp.set_mtu(mtu)),
            // It is opened again together with its receiver.
            Self::Xdp(_) => {}
        }
    }

    /// Number of frames that were taken since the last call and then not sent. To be called several times a second.
    pub fn maintain(&self, now: Instant) -> u64 {
        match self {
            Self::Packet { socket: _, xdp } => xdp.as_ref().map_or(0, |xdp| xdp.maintain(now)),
            // Counted by its receiver.
            Self::Xdp(_) => 0,
        }
    }
}

impl From<af_packet::Sender> for Sender {
    fn from(socket: af_packet::Sender) -> Self {
        Self::Packet { socket, xdp: None }
    }
}
