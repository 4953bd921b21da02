//! The UMEM of one worker: memory full of frames, and the AF_XDP sockets over it. A frame that one of them received
//! leaves by another from where it lies.
//!
//! ```text
//!   device a ─▶ Queue ─┐                         ┌─ Queue ─▶ device b
//!                      ├─▶ FrameOwners, Memory ──┤
//!   device b ─▶ Queue ─┘                         └─ Queue ─▶ device a
//! ```
//!
//! It is locked for one step at a time: by its worker, and by the control thread while a device is opened.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrayvec::ArrayVec;

use super::frames::{FrameIndex, FrameOwners, SELF_MADE, SocketIndex};
use super::memory::{FRAME_BYTES, HEADROOM, Memory, Region};
use super::queue::{Queue, SendFailure};
use super::socket::{RECEIVE_RING, SEND_RING};
use super::socket::{Rings, Socket, Transfer};
use crate::id::DeviceId;
use crate::io::outgoing::{Outgoing, RingCounts, SendError};
use crate::time::Instant;
use crate::wire::batch::{Batch, Packet};
use crate::wire::offload::{self, Offload};
use crate::wire::vlan::{TPID_CUSTOMER, TPID_SERVICE, VlanTag};

/// Frames for each device that exists at the start: what it may have waiting in both directions.
const DEVICE_FRAMES: u32 = RECEIVE_RING + SEND_RING;
/// Frames for each device where nothing is received: what the device may not have sent yet.
const SEND_DEVICE_FRAMES: u32 = 1024;
/// Number of devices that frames are reserved for, at least and at most; further devices share them.
const RESERVED_DEVICES: std::ops::RangeInclusive<u32> = 2..=8;
/// Bytes of the two MAC addresses, behind which a VLAN tag lies.
const ADDRESSES_BYTES: usize = 12;
/// Bytes of a VLAN tag on the wire.
const TAG_BYTES: usize = 4;
/// Frames that are copied before the kernel is called, at most.
const BURST: usize = 64;

/// A UMEM with its sockets. Clones share it.
#[derive(Debug, Clone)]
pub struct Umem(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    memory: Memory,
    frames: FrameOwners,
    queues: Vec<Option<Queue>>,
    /// Frames to be sent that still belong to the worker's batch.
    pending_sends: Vec<PendingSend>,
    serial: u64,
}

/// A frame that is sent when the worker has released the batch to which it belongs.
#[derive(Debug, Clone, Copy)]
struct PendingSend {
    /// The queue that received it.
    from: SocketIndex,
    to: SocketIndex,
    offset: u64,
    len: usize,
    vlan: Option<VlanTag>,
}

/// Identifies a socket of a worker; an id is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueId {
    key: SocketIndex,
    serial: u64,
}

impl Umem {
    /// Maps a UMEM for a worker of an engine with that many devices. It takes 12 MiB for each of them, for two at least
    /// and eight at most.
    pub fn new(devices: usize) -> io::Result<Self> {
        Self::with_frames(DEVICE_FRAMES * reserved(devices))
    }

    /// The same for a worker that only sends: 4 MiB for each device.
    pub fn for_sending(devices: usize) -> io::Result<Self> {
        Self::with_frames(SEND_DEVICE_FRAMES * reserved(devices))
    }

    pub(super) fn with_frames(frames: u32) -> io::Result<Self> {
        let state = Inner {
            memory: Memory::new(frames)?,
            frames: FrameOwners::new(frames),
            queues: Vec::new(),
            pending_sends: Vec::with_capacity(Batch::<()>::CAPACITY),
            serial: 0,
        };
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket whose registration of the memory another one can share, for this transfer mode.
    pub(super) fn sibling(&self, transfer: Transfer) -> Option<OwnedFd> {
        let state = self.lock();
        let mut queues = state.queues.iter().flatten().filter(|queue| queue.socket.transfer == transfer);
        queues.find_map(|queue| queue.socket.share().ok())
    }

    /// The address range of the memory, which stays for as long as this lives.
    pub(super) fn region(&self) -> Region {
        self.lock().memory.region()
    }

    /// Adds a bound socket; if it `receives`, it gets frames to receive into.
    pub(super) fn add(&self, opened: (Socket, Rings), mtu: u16, receives: bool) -> QueueId {
        let mut state = self.lock();
        let slot = state.queues.iter().position(Option::is_none).unwrap_or_else(|| {
            state.queues.push(None);
            state.queues.len() - 1
        });
        let number = u16::try_from(slot).ok().filter(|number| *number != SELF_MADE.0);
        let key = SocketIndex(number.expect("devices and their queues are few"));
        state.serial += 1;
        let id = QueueId { key, serial: state.serial };
        state.queues[slot] = Some(Queue::new(key, id.serial, opened, mtu, receives));
        state.divide_frames();
        id
    }

    /// Notes a new MTU of the socket's device, in bytes.
    pub(super) fn set_mtu(&self, id: QueueId, mtu: u16) {
        if let Some(queue) = find(&mut self.lock().queues, id) {
            queue.set_mtu(mtu);
        }
    }

    /// Closes a socket.
    pub(super) fn remove(&self, id: QueueId) {
        let mut state = self.lock();
        if find(&mut state.queues, id).is_none() {
            return;
        }
        state.pending_sends.retain(|claim| claim.to != id.key);
        state.queues[usize::from(id.key.0)] = None;
        state.frames.rest_frames_of(id.key);
        state.divide_frames();
    }

    /// See [`crate::io::frame_io::Receiver::receive`]; the received frames are appended to `taken`.
    ///
    /// # Safety
    /// The frames are given back by [`Umem::release`] after the batch has ended, or never, and this UMEM outlives 'r.
    pub(super) unsafe fn receive<'r, V>(
        &self,
        id: QueueId,
        device: DeviceId,
        batch: &mut Batch<'r, V>,
        taken: &mut Vec<FrameIndex>,
    ) -> usize {
        let mut state = self.lock();
        let Inner { memory, frames, queues, .. } = &mut *state;
        let Some(queue) = find(queues, id) else { return 0 };
        let before = batch.packets.len();
        while !batch.packets.is_full() {
            let Some((frame, offset, len)) = queue.next(frames) else { break };
            // SAFETY: the queue received into the frame, which makes it ours, and this is its only slice: it is handed
            // out again only after it was given back, which the caller does later. JUSTIFICATION: frames are edited
            // where they lie.
            let Some(bytes) = (unsafe { memory.slice(offset, len) }) else {
                frames.free_taken(frame);
                continue;
            };
            taken.push(frame);
            let (vlan, bytes) = pop_tag(bytes);
            batch.packets.push(Packet { device, vlan, offload: Offload::NONE, bytes, verdict: None });
        }
        let received = batch.packets.len() - before;
        queue.received(received, frames);
        received
    }

    /// Ends the batch that has the frames `taken`: those that were sent go to the kernel, the others are free.
    pub(super) fn release(&self, ids: &[QueueId], taken: &mut Vec<FrameIndex>) {
        let mut state = self.lock();
        let Inner { memory, frames, queues, pending_sends: claims, .. } = &mut *state;
        claims.retain(|claim| {
            if !ids.iter().any(|id| id.key == claim.from) {
                return true;
            }
            if let Some(queue) = queues.get_mut(usize::from(claim.to.0)).and_then(Option::as_mut) {
                // SAFETY: our books give the frame to the kernel, which has not got it yet, and the batch that had a
                // slice of it has ended. JUSTIFICATION: the tag is put on where the frame lies.
                let (offset, len) = unsafe { tagged(memory, claim.offset, claim.len, claim.vlan) };
                queue.submit(offset, len);
            }
            false
        });
        for frame in taken.drain(..) {
            // This fails for the frames that were sent, as it should.
            frames.free_taken(frame);
        }
        for queue in queues.iter_mut().flatten().filter(|queue| queue.is_pending()) {
            queue.flush(frames);
        }
        for id in ids {
            if let Some(queue) = find(queues, *id) {
                queue.refill(frames);
            }
        }
    }

    /// See [`crate::io::frame_io::Sender::send`].
    pub(super) fn send<'a>(
        &self,
        id: QueueId,
        outgoing: impl IntoIterator<Item = Outgoing<'a>>,
        mut failed: impl FnMut(usize, SendError),
    ) -> usize {
        let mut state = self.lock();
        let Inner { memory, frames, queues, pending_sends: claims, .. } = &mut *state;
        let Some(queue) = find(queues, id) else {
            outgoing.into_iter().enumerate().for_each(|(position, _)| failed(position, SendError::NoDevice));
            return 0;
        };
        let mut sent = 0;
        let mut written = Written::new();
        for (position, frame) in outgoing.into_iter().enumerate() {
            match take_for_sending(queue, &frame, memory, frames, claims) {
                Ok(TakenFrame::InPlace) => sent += 1,
                Ok(TakenFrame::Copied) => {
                    sent += 1;
                    written.push(position);
                    if written.is_full() {
                        sent -= send_copies(queue, frames, &mut written, &mut failed);
                    }
                }
                Err(error) => failed(position, error),
            }
        }
        sent - send_copies(queue, frames, &mut written, &mut failed)
    }

    /// Has the kernel send what it had no room for; returns whether some of it still waits.
    pub(super) fn flush(&self, id: QueueId) -> bool {
        let mut state = self.lock();
        let Inner { frames, queues, .. } = &mut *state;
        let Some(queue) = find(queues, id).filter(|queue| queue.is_pending()) else { return false };
        queue.flush(frames);
        queue.is_pending()
    }

    /// Frames that these sockets lost since the last call. Also frees the frames of closed sockets when they have
    /// rested.
    pub(super) fn maintain(&self, ids: &[QueueId], now: Instant) -> RingCounts {
        let mut state = self.lock();
        state.frames.free_rested(now);
        let mut counts = RingCounts::default();
        for id in ids {
            if let Some(queue) = find(&mut state.queues, *id) {
                counts.dropped += queue.take_dropped();
                counts.unsent += std::mem::take(&mut queue.unsent);
            }
        }
        counts
    }

    /// Takes and clears the pending errors of these sockets; returns the last.
    pub(super) fn take_error(&self, ids: &[QueueId]) -> Option<io::Error> {
        let mut state = self.lock();
        ids.iter().filter_map(|id| find(&mut state.queues, *id)?.socket.take_error()).last()
    }

    /// Behaves as a kernel that sends this many frames a call.
    #[cfg(test)]
    pub(super) fn set_budget(&self, frames: libc::c_int) {
        self.lock().queues.iter().flatten().for_each(|queue| queue.socket.set_budget(frames));
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.lock().frames.free()
    }
}

impl Inner {
    /// Gives two thirds of the frames to receiving, divided evenly between the sockets; the rest is for frames in
    /// flight.
    fn divide_frames(&mut self) {
        let receiving = self.queues.iter().flatten().filter(|queue| queue.is_receiving).count();
        let part = self.frames.count() / 3 * 2 / u32::try_from(receiving).unwrap_or(u32::MAX).max(1);
        for queue in self.queues.iter_mut().flatten().filter(|queue| queue.is_receiving) {
            queue.set_target(part);
            queue.refill(&mut self.frames);
        }
    }
}

/// Number of devices that frames are reserved for.
fn reserved(devices: usize) -> u32 {
    u32::try_from(devices).unwrap_or(u32::MAX).clamp(*RESERVED_DEVICES.start(), *RESERVED_DEVICES.end())
}

fn find(queues: &mut [Option<Queue>], id: QueueId) -> Option<&mut Queue> {
    queues.get_mut(usize::from(id.key.0))?.as_mut().filter(|queue| queue.serial == id.serial)
}

/// Positions in the caller's list of frames that were copied into the UMEM and not yet sent.
type Written = ArrayVec<usize, BURST>;

/// How a frame was taken for sending.
enum TakenFrame {
    /// It lies in the UMEM, and is sent from there when its batch has ended.
    InPlace,
    /// A copy of it was submitted.
    Copied,
}

fn take_for_sending(
    queue: &mut Queue,
    frame: &Outgoing<'_>,
    memory: &Memory,
    frames: &mut FrameOwners,
    claims: &mut Vec<PendingSend>,
) -> Result<TakenFrame, SendError> {
    let Outgoing { bytes, vlan, offload: Offload { partial, gso, verified: _ } } = *frame;
    if gso.is_some() {
        return Err(SendError::Refused);
    }
    queue.admit(bytes.len(), vlan, frames)?;
    let in_place = memory.find(bytes).filter(|offset| partial.is_none() && has_room_for_tag(*offset));
    if let Some(offset) = in_place
        && let Some(from) = queue.take(Memory::frame(offset), frames)
    {
        claims.push(PendingSend { from, to: queue.key, offset, len: bytes.len(), vlan });
        return Ok(TakenFrame::InPlace);
    }
    let copy = frames.take_free().ok_or(SendError::NoBuffers)?;
    let offset = Memory::offset(copy) + u64::from(HEADROOM);
    // SAFETY: `take_free` gave us the frame, and nobody else has a slice of it. JUSTIFICATION: the kernel reads it
    // there.
    let Some(place) = (unsafe { memory.slice(offset, bytes.len()) }) else {
        frames.free_taken(copy);
        return Err(SendError::TooBig);
    };
    place.copy_from_slice(bytes);
    if partial.is_some_and(|partial| offload::finish_checksum(place, partial).is_err()) {
        frames.free_taken(copy);
        return Err(SendError::Refused);
    }
    queue.take(copy, frames);
    // SAFETY: the frame is ours, and `place` is not used any more. JUSTIFICATION: as above.
    let (offset, len) = unsafe { tagged(memory, offset, bytes.len(), vlan) };
    queue.submit(offset, len);
    Ok(TakenFrame::Copied)
}

/// Sends the copies that were written, reports those that the device did not take, and returns how many that were.
fn send_copies(
    queue: &mut Queue,
    frames: &mut FrameOwners,
    written: &mut Written,
    failed: &mut impl FnMut(usize, SendError),
) -> usize {
    let outcome = if written.is_empty() { Ok(()) } else { queue.send_now(frames) };
    let lost = match outcome {
        Ok(()) => 0,
        Err(SendFailure { error, taken_back }) => {
            // The kernel left the last ones unread; frames taken back beyond these were submitted before.
            let lost = written.len().min(taken_back as usize);
            queue.unsent += u64::from(taken_back) - lost as u64;
            written[written.len() - lost..].iter().for_each(|position| failed(*position, error));
            lost
        }
    };
    written.clear();
    lost
}

/// Whether a tag fits before the frame at `offset` without leaving its UMEM frame.
const fn has_room_for_tag(offset: u64) -> bool {
    offset % FRAME_BYTES as u64 >= TAG_BYTES as u64
}

/// Puts a tag on the frame at `offset`; returns its new offset and its length.
///
/// # Safety
/// The frame is the caller's, and no slice of it lives.
unsafe fn tagged(memory: &Memory, offset: u64, len: usize, vlan: Option<VlanTag>) -> (u64, usize) {
    let Some(tag) = vlan.filter(|_| len >= ADDRESSES_BYTES && has_room_for_tag(offset)) else { return (offset, len) };
    let start = offset - TAG_BYTES as u64;
    // SAFETY: the caller's promise. JUSTIFICATION: the frame stays where it lies.
    let Some(head) = (unsafe { memory.slice(start, ADDRESSES_BYTES + TAG_BYTES) }) else { return (offset, len) };
    head.copy_within(TAG_BYTES.., 0);
    head[ADDRESSES_BYTES..ADDRESSES_BYTES + 2].copy_from_slice(&tag.tpid.to_be_bytes());
    head[ADDRESSES_BYTES + 2..].copy_from_slice(&tag.tci.to_be_bytes());
    (start, len + TAG_BYTES)
}

/// Takes the outer VLAN tag out of a frame, as the kernel does for AF_PACKET.
fn pop_tag(bytes: &mut [u8]) -> (Option<VlanTag>, &mut [u8]) {
    // The tag is followed by an ethertype.
    let Some(head) = bytes.first_chunk::<{ ADDRESSES_BYTES + TAG_BYTES + 2 }>() else { return (None, bytes) };
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let tag = VlanTag { tpid: word(ADDRESSES_BYTES), tci: word(ADDRESSES_BYTES + 2) };
    if tag.tpid != TPID_CUSTOMER && tag.tpid != TPID_SERVICE {
        return (None, bytes);
    }
    bytes.copy_within(..ADDRESSES_BYTES, TAG_BYTES);
    (Some(tag), &mut bytes[TAG_BYTES..])
}
