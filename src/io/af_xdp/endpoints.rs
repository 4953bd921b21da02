//! Receives and sends the frames of one device for one worker through AF_XDP sockets.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::frames::FrameIndex;
use super::socket::{Rings, Socket};
use super::umem::{QueueId, Umem};
use crate::id::DeviceId;
use crate::io::outgoing::{Outgoing, RingCounts, SendError};
use crate::time::Instant;
use crate::wire::batch::Batch;

/// A worker's receiver: his share of a device's queues. Dropping it closes the sockets.
#[derive(Debug)]
pub struct Receiver {
    umem: Umem,
    queues: Vec<QueueId>,
    descriptors: Vec<RawFd>,
    /// The queue by which the worker sends.
    send_queue: Option<QueueId>,
    /// Index of the queue that is read first for the next batch.
    next_queue: usize,
    /// Frames that were handed out and not yet released.
    taken: Vec<FrameIndex>,
    /// Whether no more frames are handed out.
    is_closed: bool,
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
        let (queues, descriptors, taken) = (Vec::new(), Vec::new(), Vec::new());
        Self { umem, queues, descriptors, send_queue: None, next_queue: 0, taken, is_closed: false }
    }

    /// Adds a socket of the device with this MTU in bytes; `sends` says whether the device sends by its queue.
    pub(super) fn add(&mut self, opened: (Socket, Rings), mtu: u16, sends: bool) {
        self.descriptors.push(opened.0.as_raw_fd());
        let queue = self.umem.add(opened, mtu, true);
        self.queues.push(queue);
        self.send_queue = self.send_queue.or(sends.then_some(queue));
    }

    /// The sender, if the device sends by one of the queues.
    pub(super) fn sender(&self) -> Option<Sender> {
        self.send_queue.map(|queue| Sender { umem: self.umem.clone(), queue })
    }

    /// As [`crate::io::frame_io::Receiver::receive`].
    pub fn receive<'r, V>(&'r mut self, device: DeviceId, batch: &mut Batch<'r, V>) -> usize {
        let mut received = 0;
        let queues = if self.is_closed { 0 } else { self.queues.len() };
        for queue in (self.next_queue..queues).chain(0..self.next_queue.min(queues)) {
            // SAFETY: `release` needs `&mut self`, which it cannot get while 'r lives, and `umem` keeps the memory for
            // as long. JUSTIFICATION: frames are edited where they lie.
            received += unsafe { self.umem.receive(self.queues[queue], device, batch, &mut self.taken) };
            if batch.packets.is_full() {
                break;
            }
        }
        self.next_queue = if self.next_queue + 1 >= queues { 0 } else { self.next_queue + 1 };
        received
    }

    /// Leaves frames where they are from here on, or hands them out again.
    pub fn set_closed(&mut self, is_closed: bool) {
        self.is_closed = is_closed;
    }

    /// As [`crate::io::frame_io::Receiver::release`].
    pub fn release(&mut self) {
        self.umem.release(&self.queues, &mut self.taken);
    }

    /// As [`crate::io::frame_io::Receiver::maintain`].
    pub fn maintain(&self, now: Instant) -> RingCounts {
        self.umem.maintain(&self.queues, now)
    }

    /// As [`crate::io::frame_io::Receiver::take_error`].
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
    /// As [`crate::io::frame_io::Sender::send`]. A frame that lies in the worker's UMEM is sent from there when the
    /// receiver that brought it is released; other frames are copied into the UMEM and sent at once.
    pub fn send<'a>(
        &self,
        frames: impl IntoIterator<Item = Outgoing<'a>>,
        failed: impl FnMut(usize, SendError),
    ) -> usize {
        self.umem.send(self.queue, frames, failed)
    }

    /// As [`crate::io::frame_io::Sender::flush`].
    pub fn flush(&self) -> bool {
        self.umem.flush(self.queue)
    }
}
