//! Sending: frames from where they lie, many per system call.

use std::io::{self, IoSlice};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd};

use arrayvec::ArrayVec;

use super::{OpenError, socket, vnet};
use crate::io::ways::{Outgoing, SendError};
use crate::wire::vlan::VlanTag;

/// Frames per system call.
const BURST: usize = 64;
/// Bytes that may be on their way through the socket.
const QUEUE_BYTES: libc::c_int = 16 << 20;
/// The two hardware addresses, which an inserted tag follows.
const ADDRESSES: usize = 12;
/// A tag on the wire.
const TAG: usize = 4;

/// Bytes of the longest frame that is copied behind its offload header: copying so few costs less than the second piece of a
/// message costs the kernel.
const SMALL: usize = 128;

/// What goes before the frame's own bytes, or the whole of a small frame: the offload header, and for a tagged frame its addresses
/// and tag.
type Head = ArrayVec<u8, { vnet::LEN + TAG + SMALL }>;

/// A way out to one device.
#[derive(Debug)]
pub struct Sender {
    socket: OwnedFd,
}

impl Sender {
    /// Opens the device with this interface index for sending; it receives nothing.
    pub fn open(index: u32) -> Result<Self, OpenError> {
        let socket = socket::open()?;
        let on: libc::c_int = 1;
        socket::set_packet(&socket, libc::PACKET_VNET_HDR, &on, "ask for offload headers")?;
        socket::set_packet(&socket, libc::PACKET_QDISC_BYPASS, &on, "send past the queueing discipline")?;
        socket::set_buffer(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, QUEUE_BYTES)?;
        socket::bind(&socket, index, 0)?;
        Ok(Self { socket })
    }

    /// Sends `frames` in order; `failed` hears the position of each that was not taken. Never waits, never gives up on the rest.
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
        let mut heads: ArrayVec<Head, BURST> = ArrayVec::new();
        let mut rests: ArrayVec<&[u8], BURST> = ArrayVec::new();
        for frame in frames {
            heads.push(Head::new());
            rests.push(begin(frame, heads.last_mut().expect("one was just put there")));
        }
        let mut parts: ArrayVec<[IoSlice<'_>; 2], BURST> =
            heads.iter().zip(rests).map(|(head, rest)| [IoSlice::new(head), IoSlice::new(rest)]).collect();
        let mut messages: ArrayVec<libc::mmsghdr, BURST> = parts
            .iter_mut()
            .map(|parts| {
                // SAFETY: null pointers and zero lengths mean "absent" in a message header.
                // JUSTIFICATION: the struct has padding that differs between targets.
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
            // SAFETY: every header points to its two live slices in `parts`, those to `heads` and the callers' frames; none of
            // them moves before the call returns, and the kernel only reads them.
            // JUSTIFICATION: one system call for many frames, straight from the ring, has no safe form.
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

/// The tag to insert; a frame too short to have addresses gets none.
fn tag_of(frame: &Outgoing<'_>) -> Option<VlanTag> {
    frame.vlan.filter(|_| frame.bytes.len() >= ADDRESSES)
}

/// Writes what goes before a frame's own bytes into the empty `head`, and the frame as well if it is small; answers what is left
/// to send behind it.
fn begin<'a>(frame: &Outgoing<'a>, head: &mut Head) -> &'a [u8] {
    let mut put = |bytes: &[u8]| head.try_extend_from_slice(bytes).expect("the head has room for all its parts");
    let rest = match tag_of(frame) {
        None => {
            put(&vnet::encode(&frame.offload, 0, frame.bytes.len()));
            frame.bytes
        }
        Some(tag) => {
            put(&vnet::encode(&frame.offload, TAG as u16, frame.bytes.len() + TAG));
            let (addresses, rest) = frame.bytes.split_at(ADDRESSES);
            put(addresses);
            put(&tag.tpid.to_be_bytes());
            put(&tag.tci.to_be_bytes());
            rest
        }
    };
    if frame.bytes.len() > SMALL {
        return rest;
    }
    put(rest);
    &[]
}
