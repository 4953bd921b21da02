//! Sends frames from where they lie, many per system call.

use std::io::{self, IoSlice};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd};

use arrayvec::ArrayVec;

use super::{PacketSocketError, socket, vnet};
use crate::io::outgoing::{Outgoing, SendError};
use crate::wire::vlan::VlanTag;

/// Frames per system call, at most.
const BURST: usize = 64;
/// Bytes of the socket's send buffer.
const QUEUE_BYTES: libc::c_int = 16 << 20;
/// Bytes of the two MAC addresses, behind which a VLAN tag is inserted.
const ADDRESSES_BYTES: usize = 12;
/// Bytes of a VLAN tag on the wire.
const TAG_BYTES: usize = 4;

/// Bytes of the longest frame that is copied behind its offload header. Copying one so short costs less than a second
/// `iovec` costs the kernel.
const COPY_MAX: usize = 128;

/// What is sent before the frame's own bytes: the offload header, and for a tagged frame its MAC addresses and tag. A
/// short frame is copied in whole.
type HeadBuffer = ArrayVec<u8, { vnet::LEN + TAG_BYTES + COPY_MAX }>;

/// Sends frames to one device through a packet socket.
#[derive(Debug)]
pub struct Sender {
    socket: OwnedFd,
}

impl Sender {
    /// Opens the device with this interface index for sending only.
    pub fn open(index: u32) -> Result<Self, PacketSocketError> {
        let socket = socket::open()?;
        let on: libc::c_int = 1;
        socket::set_packet(&socket, libc::PACKET_VNET_HDR, &on, "ask for offload headers")?;
        socket::set_packet(&socket, libc::PACKET_QDISC_BYPASS, &on, "send past the queueing discipline")?;
        socket::set_buffer(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, QUEUE_BYTES)?;
        socket::bind(&socket, index, 0)?;
        Ok(Self { socket })
    }

    /// Sends `frames` in order and returns how many were sent; calls `failed` with the position of each that was not.
    /// Never waits, and goes on after a failure.
    pub fn send<'a>(
        &self,
        frames: impl IntoIterator<Item = Outgoing<'a>>,
        mut failed: impl FnMut(usize, SendError),
    ) -> usize {
        let mut frames = frames.into_iter();
        let mut first = 0;
        let mut sent = 0;
        loop {
            let burst: ArrayVec<Outgoing<'a>, BURST> = frames.by_ref().take(BURST).collect();
            if burst.is_empty() {
                return sent;
            }
            sent += self.send_burst(&burst, |position, error| failed(first + position, error));
            first += burst.len();
        }
    }

    fn send_burst(&self, frames: &[Outgoing<'_>], mut failed: impl FnMut(usize, SendError)) -> usize {
        let mut heads: ArrayVec<HeadBuffer, BURST> = ArrayVec::new();
        let mut rests: ArrayVec<&[u8], BURST> = ArrayVec::new();
        for frame in frames {
            heads.push(HeadBuffer::new());
            rests.push(begin(frame, heads.last_mut().expect("one was just put there")));
        }
        let mut parts: ArrayVec<[IoSlice<'_>; 2], BURST> =
            heads.iter().zip(rests).map(|(head, rest)| [IoSlice::new(head), IoSlice::new(rest)]).collect();
        let mut messages: ArrayVec<libc::mmsghdr, BURST> = parts
            .iter_mut()
            .map(|parts| {
                // SAFETY: null pointers and zero lengths mean "absent" in a message header. JUSTIFICATION: the struct
                // has padding that differs between targets.
                let mut message: libc::mmsghdr = unsafe { zeroed() };
                // `IoSlice` is guaranteed to have the layout of `iovec`.
                message.msg_hdr.msg_iov = parts.as_mut_ptr().cast();
                message.msg_hdr.msg_iovlen = if parts[1].is_empty() { 1 } else { 2 };
                message
            })
            .collect();
        let mut sent = 0;
        let mut position = 0;
        while position < messages.len() {
            let rest = &mut messages[position..];
            // SAFETY: every header points to its two live slices in `parts`, those to `heads` and the callers' frames;
            // none of them moves before the call returns, and the kernel only reads them. JUSTIFICATION: one system
            // call for many frames, straight from the ring, has no safe form.
            let taken = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            match usize::try_from(taken) {
                Ok(taken) if taken > 0 => {
                    position += taken;
                    sent += taken;
                }
                Ok(_) => {
                    failed(position, SendError::Refused);
                    position += 1;
                }
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        failed(position, SendError::of(&error));
                        position += 1;
                    }
                }
            }
        }
        sent
    }
}

/// The tag to insert; none if the frame is too short to have MAC addresses.
fn tag_of(frame: &Outgoing<'_>) -> Option<VlanTag> {
    frame.vlan.filter(|_| frame.bytes.len() >= ADDRESSES_BYTES)
}

/// Writes what precedes the frame into the empty `head`, and a short frame as well; returns the bytes that are left to
/// be sent from the frame itself.
fn begin<'a>(frame: &Outgoing<'a>, head: &mut HeadBuffer) -> &'a [u8] {
    let mut put = |bytes: &[u8]| head.try_extend_from_slice(bytes).expect("the head has room for all its parts");
    let rest = match tag_of(frame) {
        None => {
            put(&vnet::encode(&frame.offload, 0, frame.bytes.len()));
            frame.bytes
        }
        Some(tag) => {
            put(&vnet::encode(&frame.offload, TAG_BYTES as u16, frame.bytes.len() + TAG_BYTES));
            let (addresses, rest) = frame.bytes.split_at(ADDRESSES_BYTES);
            put(addresses);
            put(&tag.tpid.to_be_bytes());
            put(&tag.tci.to_be_bytes());
            rest
        }
    };
    if frame.bytes.len() > COPY_MAX {
        return rest;
    }
    put(rest);
    &[]
}
