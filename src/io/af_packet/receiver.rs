//! Receives the frames of one device from a TPACKET_V2 ring, in order and without copying.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::ring::{Ring, SlotHeader};
use super::{FanoutId, PacketSocketError, ProbeFilter};
use super::{filter, socket, vnet};
use crate::id::DeviceId;
use crate::io::outgoing::RingCounts;
use crate::io::sockopt;
use crate::wire::batch::{Batch, Packet};
use crate::wire::offload::Offload;
use crate::wire::vlan::{TPID_CUSTOMER, VlanTag};

/// Bytes of the largest frame that a device may hand over: 64 KiB of IP with its link-layer header.
const LARGE_BYTES: usize = 64 * 1024 + 128;
/// Failed calls of `recv` that are tolerated for one frame; each failure takes one pending error off the socket.
const ERRORS_MAX: u32 = 8;
/// Largest slot, in bytes: a jumbo frame fits it, and the ring keeps enough slots.
const SLOT_BYTES_MAX: u32 = 16 * 1024;
/// Bytes of the socket's receive queue, in which super-frames wait.
const QUEUE_BYTES: libc::c_int = 8 << 20;

/// Size of a receive ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingOptions {
    /// Number of frames that the ring holds, at least 128; rounded up to whole blocks of 256 KiB.
    pub slots: u32,
    /// Bytes of a slot, a power of two. A frame larger than `slot_bytes - 76` waits in the socket's queue instead.
    pub slot_bytes: u32,
}

impl Default for RingOptions {
    fn default() -> Self {
        Self { slots: 8192, slot_bytes: 2048 }
    }
}

impl RingOptions {
    /// Slots for a device with this MTU in bytes, so large that whole frames fit: a frame that waits in the socket's
    /// queue costs a system call of its own. The memory of the ring stays the same.
    pub fn for_mtu(mtu: u16) -> Self {
        let Self { slots, slot_bytes } = Self::default();
        // The MTU, the Ethernet header, a tag, and what the kernel writes before the frame.
        let needed = u32::from(mtu) + 128;
        let larger = needed.next_power_of_two().clamp(slot_bytes, SLOT_BYTES_MAX);
        Self { slots: slots * slot_bytes / larger, slot_bytes: larger }
    }
}

/// Frames after the window, which stay in their slots while those of the window that lie behind them are handed out: frames
/// of several CPUs lie in the ring in another order than they were received.
#[derive(Debug, Default)]
struct Kept {
    /// The first slot of them, and their number.
    first: Option<usize>,
    count: usize,
    /// When they are handed out later: the slot at which the ring goes on. Those before it that are the kernel's were
    /// handed out already.
    until: Option<usize>,
}

/// A span of wall-clock time in nanoseconds since 1970. The default is all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameWindow {
    /// The first moment of the span.
    pub from: u64,
    /// The first moment after it.
    pub until: u64,
}

impl Default for FrameWindow {
    fn default() -> Self {
        Self { from: 0, until: u64::MAX }
    }
}

/// Receives the frames of one device for one worker.
#[derive(Debug)]
pub struct Receiver {
    socket: OwnedFd,
    /// The descriptor of `socket`, kept for [`Receiver::descriptors`].
    descriptor: RawFd,
    ring: Ring,
    /// The slot that the kernel fills next.
    next: usize,
    /// Slots that were handed out and not yet released.
    taken: Vec<usize>,
    kept: Kept,
    /// Buffers for the super-frames of the current batch.
    large: Vec<Box<[u8]>>,
    window: FrameWindow,
    /// The latest time at which a frame that was handed out was received.
    newest: u64,
}

impl Receiver {
    /// Opens the device with this interface index in promiscuous mode. Frames that this machine sends on it are left
    /// out.
    pub fn open(index: u32, options: RingOptions) -> Result<Self, PacketSocketError> {
        let receiver = Self::bind(socket::open()?, index, options)?;
        socket::promiscuous(&receiver.socket, index)?;
        Ok(receiver)
    }

    /// As [`Receiver::open`], for the frames of a [`ProbeFilter`] alone: a ring that nothing else fills. Other
    /// receivers of the device get these frames too.
    pub fn open_filtered(index: u32, wanted: &ProbeFilter) -> Result<Self, PacketSocketError> {
        let socket = socket::open()?;
        // Before the first frame can be queued.
        filter::attach_probe_filter(&socket, wanted)?;
        Self::bind(socket, index, RingOptions { slots: 256, ..RingOptions::default() })
    }

    /// Changes the filter of a receiver that was opened by [`Receiver::open_filtered`].
    pub fn set_filter(&self, wanted: &ProbeFilter) -> Result<(), PacketSocketError> {
        filter::attach_probe_filter(&self.socket, wanted)
    }

    fn bind(socket: OwnedFd, index: u32, options: RingOptions) -> Result<Self, PacketSocketError> {
        let on: libc::c_int = 1;
        let version = libc::tpacket_versions::TPACKET_V2 as libc::c_int;
        socket::set_packet(&socket, libc::PACKET_VERSION, &version, "choose the ring version")?;
        socket::set_packet(&socket, libc::PACKET_VNET_HDR, &on, "ask for offload headers")?;
        socket::set_packet(&socket, libc::PACKET_IGNORE_OUTGOING, &on, "leave out outgoing frames")?;
        socket::set_packet(&socket, libc::PACKET_COPY_THRESH, &on, "let super-frames wait beside the ring")?;
        socket::set_buffer(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, QUEUE_BYTES)?;
        let ring = Ring::map(&socket, options.slots, options.slot_bytes)?;
        socket::bind(&socket, index, libc::ETH_P_ALL as u16)?;
        // The allocator maps these buffers without touching them: they cost memory only after super-frames were
        // received.
        let large = (0..Batch::<()>::CAPACITY).map(|_| vec![0; LARGE_BYTES].into_boxed_slice()).collect();
        let (descriptor, taken) = (socket.as_raw_fd(), Vec::with_capacity(Batch::<()>::CAPACITY));
        let (window, newest, kept) = (FrameWindow::default(), 0, Kept::default());
        Ok(Self { descriptor, socket, ring, next: 0, taken, kept, large, window, newest })
    }

    /// Hands out only the frames that were received within this time from here on.
    pub fn set_window(&mut self, window: FrameWindow) {
        if window.until != self.window.until
            && let Some(first) = self.kept.first.take()
        {
            // What was kept is looked at again.
            self.kept.until.get_or_insert(self.next);
            (self.kept.count, self.next) = (0, first);
        }
        self.window = window;
    }

    /// The latest time at which a frame that was handed out was received: wall-clock time in nanoseconds since 1970.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Shares the frames of the device with the other members of a fanout group: all frames of a flow go to one of
    /// them. `None` founds a new group.
    pub fn join(&mut self, set: Option<FanoutId>) -> Result<FanoutId, PacketSocketError> {
        socket::join_fanout(&self.socket, set)
    }

    /// Appends received frames to `batch` until it is full or none waits; returns how many.
    ///
    /// A frame that was captured in part gets the verdict `truncated` and must not be forwarded (`docs/protocols.md`,
    /// A1.7). Slots stay ours until [`Receiver::release`]. Frames before the window are skipped; those after it stay in the
    /// ring.
    pub fn receive<'r, V>(&'r mut self, device: DeviceId, batch: &mut Batch<'r, V>, truncated: fn() -> V) -> usize {
        let before = batch.packets.len();
        let mut large = self.large.iter_mut();
        while !batch.packets.is_full() && self.taken.len() + self.kept.count < self.ring.slots() {
            let slot = self.next;
            if self.kept.until == Some(slot) {
                self.kept.until = None;
            }
            let following = if slot + 1 == self.ring.slots() { 0 } else { slot + 1 };
            let Some(header) = self.ring.header(slot) else {
                if self.kept.until.is_none() {
                    break;
                }
                self.next = following;
                continue;
            };
            if header.stamp >= self.window.until {
                self.kept.first.get_or_insert(slot);
                self.kept.count += 1;
                self.next = following;
                continue;
            }
            let is_skipped = header.stamp < self.window.from;
            let beside = header.status & libc::TP_STATUS_COPY != 0;
            // Without a buffer, or behind one that is kept, it cannot be taken from the socket's queue.
            if beside && (large.len() == 0 || self.kept.count > 0) {
                break;
            }
            let whole = if is_skipped && !beside {
                None
            } else if beside {
                large.next().and_then(|buffer| receive_super_frame(&self.socket, buffer, header.len))
            } else if header.len > header.captured {
                None
            } else {
                // SAFETY: the slot is ours, this is the only slice of it, and `release` needs `&mut self`, which nobody
                // can have while 'r lives. JUSTIFICATION: frames are edited where they lie.
                unsafe { in_slot(&self.ring, slot, &header) }
            };
            self.next = following;
            self.taken.push(slot);
            if is_skipped {
                continue;
            }
            self.newest = self.newest.max(header.stamp);
            batch.packets.push(match whole {
                Some((mut offload, bytes)) => {
                    offload.verified |= header.status & libc::TP_STATUS_CSUM_VALID != 0;
                    Packet { device, vlan: tag(&header), offload, bytes, verdict: None }
                }
                None => Packet {
                    device,
                    vlan: tag(&header),
                    offload: Offload::NONE,
                    // SAFETY: as above; the whole frame waits in the socket's queue, so nothing else of this slot was
                    // handed out. JUSTIFICATION: as above.
                    bytes: unsafe { self.ring.bytes(slot, header.mac, header.captured) },
                    verdict: Some(truncated()),
                },
            });
        }
        let received = batch.packets.len() - before;
        if received == 0 {
            Self::give_back(&mut self.ring, &mut self.taken);
        }
        received
    }

    /// Gives all slots that were handed out back to the kernel.
    pub fn release(&mut self) {
        Self::give_back(&mut self.ring, &mut self.taken);
    }

    fn give_back(ring: &mut Ring, taken: &mut Vec<usize>) {
        taken.drain(..).for_each(|slot| ring.release(slot));
    }

    /// Frames that the kernel dropped since the last call because the ring was full (`PACKET_STATISTICS`).
    pub fn take_counts(&self) -> RingCounts {
        sockopt::get::<libc::tpacket_stats>(&self.socket, libc::SOL_PACKET, libc::PACKET_STATISTICS)
            .map(|stats| RingCounts { dropped: u64::from(stats.tp_drops), unsent: 0 })
            .unwrap_or_default()
    }

    /// Takes and clears the pending error of the socket. A link that goes down leaves one; the socket works again when
    /// the link is up.
    pub fn take_error(&self) -> Option<std::io::Error> {
        sockopt::take_error(&self.socket)
    }

    /// Descriptors to poll for received frames; open for as long as this receiver lives.
    pub fn descriptors(&self) -> &[RawFd] {
        std::slice::from_ref(&self.descriptor)
    }
}

/// The outer VLAN tag, which the kernel took out of the frame.
fn tag(header: &SlotHeader) -> Option<VlanTag> {
    let has = |bit| header.status & bit != 0;
    let tpid = if has(libc::TP_STATUS_VLAN_TPID_VALID) { header.vlan_tpid } else { TPID_CUSTOMER };
    has(libc::TP_STATUS_VLAN_VALID).then_some(VlanTag { tpid, tci: header.vlan_tci })
}

/// The frame in its slot, behind the virtio-net header; `None` if it does not lie in the slot.
///
/// # Safety
/// As for [`Ring::bytes`].
unsafe fn in_slot<'r>(ring: &Ring, slot: usize, header: &SlotHeader) -> Option<(Offload, &'r mut [u8])> {
    let start = header.mac.checked_sub(vnet::LEN)?;
    // SAFETY: the caller's promise. JUSTIFICATION: as there.
    let bytes = unsafe { ring.bytes(slot, start, vnet::LEN + header.captured) };
    split(bytes)
}

/// Takes the frame of `len` bytes that waits in the socket's queue; `None` if it is not there.
///
/// A pending error of the socket (`ENETDOWN` after its link went down) is reported before the frame, and each attempt
/// clears one: giving up then would leave the frame to be taken for the next one. A frame of another length is such a
/// leftover.
fn receive_super_frame<'r>(socket: &OwnedFd, buffer: &'r mut [u8], len: usize) -> Option<(Offload, &'r mut [u8])> {
    // With MSG_TRUNC the call returns the frame's own length, even if it did not fit.
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    let mut errors = 0;
    while errors < ERRORS_MAX {
        // SAFETY: pointer and length describe `buffer`, which is ours; the kernel writes at most its length.
        // JUSTIFICATION: the standard library has no `recv` for packet sockets.
        let received = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
        match usize::try_from(received) {
            Ok(received) if received == vnet::LEN + len => return split(buffer.get_mut(..received)?),
            Ok(_) => {}
            Err(_) if std::io::Error::last_os_error().kind() == std::io::ErrorKind::WouldBlock => return None,
            Err(_) => errors += 1,
        }
    }
    None
}

fn split(bytes: &mut [u8]) -> Option<(Offload, &mut [u8])> {
    let (header, frame) = bytes.split_first_chunk_mut::<{ vnet::LEN }>()?;
    Some((vnet::decode(*header)?, frame))
}
