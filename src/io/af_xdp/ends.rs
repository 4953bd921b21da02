//! One worker's way in from a device, and his way out.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::frames::Frame;
use super::socket::{Rings, Socket};
use super::umem::{QueueId, Umem};
use crate::id::DeviceId;
use crate::io::ways::{Outgoing, RingCounts, SendError};
use crate::time::Instant;
use crate::wire::batch::Batch;

/// A worker's way in: his share of a device's queues. The sockets are closed with it.
#[derive(Debug)]
pub struct Receiver {
    umem: Umem,
    queues: Vec<QueueId>,
    descriptors: Vec<RawFd>,
    /// The one to send by.
    sends: Option<QueueId>,
    /// The queue that comes first in the next batch.
    first: usize,
    /// Frames that were handed out.
    taken: Vec<Frame>,
}

/// A worker's way out by one of the sockets of his [`Receiver`], for as long as that lives.
#[derive(Debug)]
pub struct Sender {
    pub(super) umem: Umem,
    pub(super) queue: QueueId,
}

impl Receiver {
    /// Without a queue yet.
    pub(super) fn new(umem: Umem) -> Self {
        Self { umem, queues: Vec::new(), descriptors: Vec::new(), sends: None, first: 0, taken: Vec::new() }
    }

    /// One more socket of the device, whose MTU is given; `sends`: its queue is one that the device sends by.
    pub(super) fn add(&mut self, opened: (Socket, Rings), mtu: u16, sends: bool) {
        self.descriptors.push(opened.0.as_raw_fd());
        let queue = self.umem.add(opened, mtu, true);
        self.queues.push(queue);
        self.sends = self.sends.or(sends.then_some(queue));
    }

    /// The way out, if there is a socket for it.
    pub(super) fn sender(&self) -> Option<Sender> {
        self.sends.map(|queue| Sender { umem: self.umem.clone(), queue })
    }

    /// As [`crate::io::ways::Receiver::receive`].
    pub fn receive<'r, V>(&'r mut self, device: DeviceId, batch: &mut Batch<'r, V>) -> usize {
        let mut received = 0;
        let queues = self.queues.len();
        for queue in (self.first..queues).chain(0..self.first) {
            // SAFETY: `release` needs `&mut self`, which it cannot get while 'r lives, and `umem` keeps the memory for as long.
            // JUSTIFICATION: frames are edited where they lie.
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

    /// What becomes readable when frames come; open for as long as this lives.
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
    /// As [`crate::io::ways::Sender::send`]. A frame that lies in the worker's memory leaves from there when the receiver that
    /// brought it is told to release; others are copied and leave at once.
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
