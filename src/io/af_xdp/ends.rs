//! Receives and sends the frames of one device for one worker through AF_XDP sockets.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::frames::FrameIndex;
use super::socket::{Rings, Socket};
use super::umem::{QueueId, Umem};
use crate::id::DeviceId;
use crate::io::ways::{Outgoing, RingCounts, SendError};
use crate::time::Instant;
use crate::wire::batch::Batch;

/// A worker's receiver: his share of a device's queues. Dropping it closes the sockets.
#[derive(Debug)]
pub struct Receiver {
    umem: Umem,
    queues: Vec<QueueId>,
    descriptors: Vec<RawFd>,
    /// The queue by which the worker sends.
    sends: Option<QueueId>,
    /// Index of the queue that is read first for the next batch.
    first: usize,
    /// Frames that were handed out and not yet released.
    taken: Vec<FrameIndex>,
}

/// Sends by one of the sockets of the worker's [`Receiver`], for as long as that lives.
#[derive(Debug)]
pub struct Sender {
    pub(super) umem: Umem,
    pub(super) queue: QueueId,
}

impl Receiver {
    /// A receiver without queues.
    pub(super) fn new(umem: Umem) -> Self {
        Self { umem, queues: Vec::new(), descriptors: Vec::new(), sends: None, first: 0, taken: Vec::new() }
    }

    /// Adds a socket of the device with this MTU in bytes; `sends` says whether the device sends by its queue.
    pub(super) fn add(&mut self, opened: (Socket, Rings), mtu: u16, sends: bool) {
        self.descriptors.push(opened.0.as_raw_fd());
        let queue = self.umem.add(opened, mtu, true);
        self.queues.push(queue);
        self.sends = self.sends.or(sends.then_some(queue));
    }

    /// The sender, if the device sends by one of the queues.
    pub(super) fn sender(&self) -> Option<Sender> {
        self.sends.map(|queue| Sender { umem: self.umem.clone(), queue })
    }

    /// As [`crate::io::ways::Receiver::receive`].
    pub fn receive<'r, V>(&'r mut self, device: DeviceId, batch: &mut Batch<'r, V>) -> usize {
        let mut received = 0;
        let queues = self.queues.len();
        for queue in (self.first..queues).chain(0..self.first) {
            // SAFETY: `release` needs `&mut self`, which it cannot get while 'r lives, and `umem` keeps the memory for
            // as long. JUSTIFICATION: frames are edited where they lie.
            received += unsafe { self.umem.receive(self.queues[queue], device, batch, &mut self.taken) };
            if batch.packets.is_full() {
                break;
            }
        }
        self.first = if self.first + 1 >= queues { 0 } else { self.first + 1 };
        received
    }

    /// As [`crate::io::ways::Receiver::release`].
    pub fn release(&mut self) {
        self.umem.release(&self.queues, &mut self.taken);
    }

    /// As [`crate::io::ways::Receiver::tend`].
    pub fn tend(&self, now: Instant) -> RingCounts {
        self.umem.tend(&self.queues, now)
    }

    /// As [`crate::io::ways::Receiver::take_error`].
    pub fn take_error(&self) -> Option<io::Error> {
        self.umem.take_error(&self.queues)
    }

    /// Descriptors to poll for received frames; open for as long as this receiver lives.
    pub fn descriptors(&self) -> &[RawFd] {
        &self.descriptors
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.release();
        self.queues.iter().for_each(|queue| self.umem.remove(*queue));
    }
}

impl Sender {
    /// As [`crate::io::ways::Sender::send`]. A frame that lies in the worker's UMEM is sent from there when the
    /// receiver that brought it is released; other frames are copied into the UMEM and sent at once.
    pub fn send<'a>(
        &self,
        frames: impl IntoIterator<Item = Outgoing<'a>>,
        failed: impl FnMut(usize, SendError),
    ) -> usize {
        self.umem.send(self.queue, frames, failed)
    }

    /// As [`crate::io::ways::Sender::flush`].
    pub fn flush(&self) -> bool {
        self.umem.flush(self.queue)
    }
}
