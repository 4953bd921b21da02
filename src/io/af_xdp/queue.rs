//! One AF_XDP socket with its four rings, and how many frames the kernel owns through it.
//!
//! The kernel never owns more frames than the rings have entries: those to receive into, or received and not yet read,
//! fit the fill ring; those to send, or sent and not yet returned, fit the completion ring. So neither side ever finds
//! a ring full.

use super::frames::{FrameIndex, FrameOwners, SocketIndex};
use super::memory::Memory;
use super::socket::{RECEIVE_RING, Rings, SEND_RING, Socket, Transfer};
use crate::io::outgoing::SendError;
use crate::wire::vlan::{TPID_CUSTOMER, VlanTag};

/// Frames that are given to the kernel at a time, at least.
const REFILL_MIN: u32 = 32;
/// System calls to send one burst, at most. Each sends some frames or reports that the device dropped one.
const WAKEUPS_MAX: u32 = 256;
/// Bytes of an Ethernet header.
const ETHERNET_BYTES: usize = 14;

/// One socket with its rings.
#[derive(Debug)]
pub(super) struct Queue {
    pub key: SocketIndex,
    /// A number that no other queue of the same worker ever has.
    pub serial: u64,
    pub socket: Socket,
    /// Whether the socket gets frames to receive into.
    pub is_receiving: bool,
    rings: Rings,
    /// Number of frames that the kernel owns to receive into; `target` is how many it should own.
    filling: u32,
    target: u32,
    /// Number of frames that the kernel owns to send.
    sending: u32,
    /// Position in the send ring beyond which the kernel cannot have read.
    read_limit: u32,
    /// Whether the last call failed because the device was down.
    is_down: bool,
    /// Whether frames were submitted that no call has sent yet.
    is_pending: bool,
    mtu: u16,
    /// Frames lost in receiving that were reported already.
    dropped_reported: u64,
    /// Frames that the device did not send.
    pub unsent: u64,
}

/// Why the device takes no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SendFailure {
    pub error: SendError,
    /// How many of the frames that were submitted last are free again.
    pub taken_back: u32,
}

impl Queue {
    pub(super) fn new(
        key: SocketIndex,
        serial: u64,
        (socket, rings): (Socket, Rings),
        mtu: u16,
        receives: bool,
    ) -> Self {
        let seen = rings.send.position();
        Self {
            key,
            serial,
            socket,
            is_receiving: receives,
            rings,
            filling: 0,
            target: 0,
            sending: 0,
            read_limit: seen,
            is_down: false,
            is_pending: false,
            mtu,
            dropped_reported: 0,
            unsent: 0,
        }
    }

    /// Notes a new MTU of the device, in bytes.
    pub(super) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
    }

    /// Sets how many frames the kernel shall own to receive into.
    pub(super) fn set_target(&mut self, target: u32) {
        self.target = target.min(RECEIVE_RING);
    }

    /// Gives the kernel frames to receive into, up to the target.
    pub(super) fn refill(&mut self, frames: &mut FrameOwners) {
        let missing = self.target.saturating_sub(self.filling);
        if missing < REFILL_MIN {
            return;
        }
        for _ in 0..missing.min(self.rings.fill.room()) {
            let Some(frame) = frames.fill(self.key) else { break };
            self.rings.fill.push(Memory::offset(frame));
            self.filling += 1;
        }
        self.rings.fill.submit();
    }

    /// Takes the next received frame from the kernel: the frame, its offset in the UMEM and its length in bytes.
    pub(super) fn next(&mut self, frames: &mut FrameOwners) -> Option<(FrameIndex, u64, usize)> {
        loop {
            let descriptor = self.rings.receive.pop()?;
            let frame = Memory::frame(descriptor.addr);
            if frames.note_received(frame, self.key) {
                self.filling -= 1;
                return Some((frame, descriptor.addr, descriptor.len as usize));
            }
        }
    }

    /// Ends a series of calls of [`Queue::next`] that brought `received` frames.
    pub(super) fn received(&mut self, received: usize, frames: &mut FrameOwners) {
        self.rings.receive.release();
        if received == 0 && self.rings.fill.needs_wakeup() {
            self.socket.wake_receiving();
        }
        if self.is_pending {
            self.flush(frames);
        } else if self.sending > 0 {
            self.collect_sent(frames);
        }
        self.refill(frames);
    }

    /// Whether the device takes a frame of `len` bytes without its tag. As for AF_PACKET, a customer tag does not
    /// count.
    fn fits_mtu(&self, len: usize, vlan: Option<VlanTag>) -> bool {
        let tag = if vlan.is_some_and(|tag| tag.tpid != TPID_CUSTOMER) { 4 } else { 0 };
        len + tag <= usize::from(self.mtu) + ETHERNET_BYTES
    }

    /// Whether a frame can be taken for sending. If the device was down, it is tried again.
    pub(super) fn admit(
        &mut self,
        len: usize,
        vlan: Option<VlanTag>,
        frames: &mut FrameOwners,
    ) -> Result<(), SendError> {
        if len < ETHERNET_BYTES {
            return Err(SendError::Refused);
        }
        if !self.fits_mtu(len, vlan) {
            return Err(SendError::TooBig);
        }
        if self.is_down {
            self.send_now(frames).map_err(|down| down.error)?;
        }
        if self.sending == SEND_RING {
            self.collect_sent(frames);
        }
        if self.sending == SEND_RING || self.rings.send.room() == 0 {
            return Err(SendError::WouldBlock);
        }
        Ok(())
    }

    /// Takes `frame` of the worker for sending and returns the queue that received it. [`Queue::submit`] hands it to
    /// the kernel later.
    pub(super) fn take(&mut self, frame: FrameIndex, frames: &mut FrameOwners) -> Option<SocketIndex> {
        let from = frames.give_to_kernel(frame, self.key)?;
        self.sending += 1;
        Some(from)
    }

    /// Hands a frame that was taken over to the kernel.
    pub(super) fn submit(&mut self, offset: u64, len: usize) {
        let len = u32::try_from(len).expect("a frame fits the memory");
        self.rings.send.push(libc::xdp_desc { addr: offset, len, options: 0 });
        self.is_pending = true;
    }

    /// Whether frames wait for [`Queue::send_now`].
    pub(super) fn is_pending(&self) -> bool {
        self.is_pending
    }

    /// Has the kernel send what was submitted, and counts the frames that it does not take.
    pub(super) fn flush(&mut self, frames: &mut FrameOwners) {
        if let Err(SendFailure { error: _, taken_back }) = self.send_now(frames) {
            self.unsent += u64::from(taken_back);
        }
    }

    /// Has the kernel send what was submitted.
    pub(super) fn send_now(&mut self, frames: &mut FrameOwners) -> Result<(), SendFailure> {
        self.rings.send.submit();
        self.is_pending = false;
        let needed = self.is_down || self.socket.transfer == Transfer::Copy || self.rings.send.needs_wakeup();
        if !needed {
            return Ok(());
        }
        for _ in 0..WAKEUPS_MAX {
            let room = self.rings.send.room();
            let outcome = self.socket.wake_sending().map_err(|error| error.raw_os_error().unwrap_or(0));
            match outcome {
                // One call sends only a part, or the kernel has no room at present.
                Ok(()) | Err(libc::EAGAIN | libc::ENOBUFS | libc::EINTR) => {}
                // The device dropped a frame.
                Err(libc::EBUSY) => self.unsent += 1,
                Err(libc::ENETDOWN) => return self.handle_send_failure(SendError::LinkDown, frames),
                Err(libc::ENXIO | libc::ENODEV) => return self.handle_send_failure(SendError::NoDevice, frames),
                Err(_) => return self.handle_send_failure(SendError::Refused, frames),
            }
            self.is_down = false;
            self.read_limit = self.rings.send.position();
            self.collect_sent(frames);
            if self.rings.send.is_drained() || self.socket.transfer == Transfer::ZeroCopy {
                return Ok(());
            }
            if outcome.is_err() && self.rings.send.room() == room {
                break;
            }
        }
        self.is_pending = true;
        Ok(())
    }

    /// Handles a call that was refused before the kernel looked at the ring. In copy mode the frames that it has not
    /// read are taken back, so that nothing stale leaves when the device is up again; in zero-copy mode the device
    /// itself reads the ring and keeps them.
    fn handle_send_failure(&mut self, error: SendError, frames: &mut FrameOwners) -> Result<(), SendFailure> {
        self.is_down = true;
        let mut taken_back = 0;
        if self.socket.transfer == Transfer::Copy {
            while let Some(descriptor) = self.rings.send.take_back(self.read_limit) {
                if frames.note_returned(Memory::frame(descriptor.addr), self.key) {
                    self.sending -= 1;
                    taken_back += 1;
                }
            }
            self.rings.send.submit();
        }
        Err(SendFailure { error, taken_back })
    }

    /// Frees the frames that the kernel has sent.
    fn collect_sent(&mut self, frames: &mut FrameOwners) {
        while let Some(offset) = self.rings.completion.pop() {
            if frames.note_returned(Memory::frame(offset), self.key) {
                self.sending -= 1;
            }
        }
        self.rings.completion.release();
    }

    /// Frames lost in receiving since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        let dropped = self.socket.dropped().saturating_sub(self.dropped_reported);
        self.dropped_reported += dropped;
        dropped
    }
}
