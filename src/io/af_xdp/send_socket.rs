//! An AF_XDP socket that only sends, for a device that packet sockets receive from: a send ring costs the kernel less
//! than the messages of `sendmmsg`. No program is loaded, and the kernel's stack keeps receiving.

use super::bpf::Hook;
use super::device::{XdpDevice, XdpError, classify, open_queue, queues_of};
use super::endpoints::Sender;
use super::memory::{FRAME_BYTES, HEADROOM};
use super::socket::BindAttempts;
use super::umem::Umem;
use crate::io::outgoing::{Outgoing, SendError};
use crate::time::Instant;
use crate::wire::offload::Offload;

/// Bytes of the longest frame without its tag.
const FRAME_MAX: usize = (FRAME_BYTES - HEADROOM) as usize;

/// A sending AF_XDP socket; it is closed when this is dropped.
#[derive(Debug)]
pub struct SendSocket(Sender);

impl SendSocket {
    /// Opens a send queue of a device for frames from this UMEM, up to the device's MTU. Fails if any process has an
    /// AF_XDP socket on that queue.
    pub fn open(target: XdpDevice<'_>, queue: u32, umem: &Umem) -> Result<Self, XdpError> {
        if queue >= queues_of(target.name)?.send {
            return Err(XdpError::NoQueue { queue });
        }
        let opened = open_queue(umem, (target.index, queue), Hook::Generic, &mut BindAttempts(0));
        let opened = opened.map_err(|failed| match failed.source.raw_os_error() {
            Some(libc::EBUSY) => XdpError::QueueTaken { queue },
            _ => classify(failed),
        })?;
        Ok(Self(Sender { umem: umem.clone(), queue: umem.add(opened, target.mtu, false) }))
    }

    /// Whether AF_XDP can carry the frame: it asks for no offload of the device, and fits a UMEM frame.
    pub fn can_carry(frame: &Outgoing<'_>) -> bool {
        let Offload { partial, gso, verified: _ } = frame.offload;
        partial.is_none() && gso.is_none() && frame.bytes.len() <= FRAME_MAX
    }

    /// As [`crate::io::frame_io::Sender::send`].
    pub fn send<'a>(
        &self,
        frames: impl IntoIterator<Item = Outgoing<'a>>,
        failed: impl FnMut(usize, SendError),
    ) -> usize {
        self.0.send(frames, failed)
    }

    /// As [`crate::io::frame_io::Sender::flush`].
    pub fn flush(&self) -> bool {
        self.0.flush()
    }

    /// Notes a new MTU of the device, in bytes.
    pub fn set_mtu(&self, mtu: u16) {
        self.0.umem.set_mtu(self.0.queue, mtu);
    }

    /// Number of frames that were taken since the last call and then not sent. To be called several times a second.
    pub fn maintain(&self, now: Instant) -> u64 {
        self.0.umem.maintain(&[self.0.queue], now).unsent
    }
}

impl Drop for SendSocket {
    fn drop(&mut self) {
        self.0.umem.remove(self.0.queue);
    }
}
