//! Opens an AF_XDP socket, sets its options, maps its rings and binds it to a queue.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use super::memory::{FRAME_BYTES, Region};
use super::ring::{Consumer, Producer};
use crate::io::sockopt;

/// Entries of the fill and of the receive ring: 1.5 ms of the 650,000 packets a second that a worker carries. With more
/// entries, a frame is less likely to be in a cache when its turn comes again.
pub(super) const RECEIVE_RING: u32 = 1024;
/// Entries of the send and of the completion ring.
pub(super) const SEND_RING: u32 = 2048;

/// Time between two attempts to bind: a queue becomes free a moment after its previous socket was closed.
const BIND_RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// Bytes of the socket's send buffer.
const BUFFER_BYTES: libc::c_int = 16 << 20;
/// Option of linux/if_xdp.h: frames that one call sends at most in copy mode; 32 on kernels without the option.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
const TX_BUDGET: libc::c_int = 256;

/// How frames reach the UMEM and leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// The device reads and writes the UMEM itself.
    ZeroCopy,
    /// The kernel copies each frame.
    Copy,
}

/// A step of opening a socket that failed.
#[derive(Debug)]
pub(super) struct OpenStepError {
    pub what: &'static str,
    pub source: io::Error,
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> OpenStepError {
    move |source| OpenStepError { what, source }
}

/// A bound AF_XDP socket.
#[derive(Debug)]
pub(super) struct Socket {
    descriptor: OwnedFd,
    /// The transfer mode for which it was bound.
    pub transfer: Transfer,
}

/// The four rings of one socket.
#[derive(Debug)]
pub(super) struct Rings {
    pub fill: Producer<u64>,
    pub completion: Consumer<u64>,
    pub receive: Consumer<libc::xdp_desc>,
    pub send: Producer<libc::xdp_desc>,
}

/// Attempts left to bind to queues that a previous socket still holds, over all queues of a device.
#[derive(Debug)]
pub(super) struct BindAttempts(pub u32);

impl Socket {
    /// Opens a socket over `memory` and binds it to a queue of the device with this interface index.
    ///
    /// `sibling` is a bound socket over the same memory and with the same transfer mode, whose registration of the
    /// memory is shared.
    pub(super) fn open(
        memory: Region,
        sibling: Option<&OwnedFd>,
        (index, queue): (u32, u32),
        transfer: Transfer,
        patience: &mut BindAttempts,
    ) -> Result<(Self, Rings), OpenStepError> {
        let descriptor = raw_socket().map_err(failed("open an AF_XDP socket"))?;
        let option =
            |name, value: u32, what| sockopt::set(&descriptor, libc::SOL_XDP, name, &value).map_err(failed(what));
        if sibling.is_none() {
            let region = libc::xdp_umem_reg {
                addr: memory.start,
                len: memory.bytes,
                chunk_size: FRAME_BYTES,
                headroom: 0,
                flags: 0,
                tx_metadata_len: 0,
            };
            sockopt::set(&descriptor, libc::SOL_XDP, libc::XDP_UMEM_REG, &region)
                .map_err(failed("register the frames"))?;
        }
        option(libc::XDP_UMEM_FILL_RING, RECEIVE_RING, "make the fill ring")?;
        option(libc::XDP_UMEM_COMPLETION_RING, SEND_RING, "make the completion ring")?;
        option(libc::XDP_RX_RING, RECEIVE_RING, "make the receive ring")?;
        option(libc::XDP_TX_RING, SEND_RING, "make the send ring")?;
        let offsets: libc::xdp_mmap_offsets = sockopt::get(&descriptor, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)
            .map_err(failed("ask where the rings are"))?;
        let rings = Rings::map(&descriptor, &offsets).map_err(failed("map the rings"))?;
        // Optional: kernels without it send 32 frames a call, and the buffer then has the system's limit.
        set_budget(&descriptor, TX_BUDGET);
        let _ = sockopt::set_buffer(&descriptor, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, BUFFER_BYTES);
        loop {
            match bind(&descriptor, index, queue, sibling, transfer) {
                Ok(()) => return Ok((Self { descriptor, transfer }, rings)),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && patience.0 > 0 => {
                    patience.0 -= 1;
                    std::thread::sleep(BIND_RETRY_INTERVAL);
                }
                Err(error) => return Err(failed("bind to a queue of the device")(error)),
            }
        }
    }

    /// Duplicates the descriptor, so that another socket can share the registration of the memory.
    pub(super) fn share(&self) -> io::Result<OwnedFd> {
        self.descriptor.try_clone()
    }

    /// Has the kernel read the send ring.
    pub(super) fn wake_sending(&self) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: no data and no address are passed. JUSTIFICATION: the standard library sends nothing without data.
        let status = unsafe { libc::sendto(self.as_raw_fd(), std::ptr::null(), 0, flags, std::ptr::null(), 0) };
        if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Has the kernel read the fill ring. The next call that sends reports an error.
    pub(super) fn wake_receiving(&self) {
        let (nothing, flags) = (std::ptr::null_mut(), libc::MSG_DONTWAIT);
        // SAFETY: no buffer and no address are passed. JUSTIFICATION: as above.
        unsafe { libc::recvfrom(self.as_raw_fd(), nothing, 0, flags, std::ptr::null_mut(), std::ptr::null_mut()) };
    }

    /// Frames lost in receiving since the socket was opened.
    pub(super) fn dropped(&self) -> u64 {
        let counted = sockopt::get::<libc::xdp_statistics>(self, libc::SOL_XDP, libc::XDP_STATISTICS);
        // `rx_dropped` includes the frames that found the fill ring empty.
        counted.map_or(0, |counted| counted.rx_dropped + counted.rx_ring_full)
    }

    /// Takes and clears the pending error of the socket.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        sockopt::take_error(self)
    }

    #[cfg(test)]
    pub(super) fn set_budget(&self, frames: libc::c_int) {
        set_budget(&self.descriptor, frames);
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl Rings {
    fn map(socket: &OwnedFd, offsets: &libc::xdp_mmap_offsets) -> io::Result<Self> {
        Ok(Self {
            fill: Producer::map(socket, libc::XDP_UMEM_PGOFF_FILL_RING as _, &offsets.fr, RECEIVE_RING)?,
            completion: Consumer::map(socket, libc::XDP_UMEM_PGOFF_COMPLETION_RING as _, &offsets.cr, SEND_RING)?,
            receive: Consumer::map(socket, libc::XDP_PGOFF_RX_RING, &offsets.rx, RECEIVE_RING)?,
            send: Producer::map(socket, libc::XDP_PGOFF_TX_RING, &offsets.tx, SEND_RING)?,
        })
    }
}

/// Sets how many frames one call sends in copy mode, where the kernel has the option.
fn set_budget(socket: &OwnedFd, frames: libc::c_int) {
    let _ = sockopt::set(socket, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &frames);
}

fn raw_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(net::socket_with(AddressFamily::XDP, SocketType::RAW, flags, None)?)
}

fn bind(socket: &OwnedFd, index: u32, queue: u32, sibling: Option<&OwnedFd>, transfer: Transfer) -> io::Result<()> {
    // SAFETY: all fields of `sockaddr_xdp` are integers. JUSTIFICATION: newer systems may add some.
    let mut address: libc::sockaddr_xdp = unsafe { zeroed() };
    address.sxdp_family = libc::AF_XDP as libc::c_ushort;
    address.sxdp_ifindex = index;
    address.sxdp_queue_id = queue;
    match sibling {
        // The kernel takes all else from the sibling and refuses to be told it again.
        Some(sibling) => {
            address.sxdp_flags = libc::XDP_SHARED_UMEM;
            address.sxdp_shared_umem_fd = sibling.as_raw_fd().cast_unsigned();
        }
        None => {
            let transfer = match transfer {
                Transfer::ZeroCopy => libc::XDP_ZEROCOPY,
                Transfer::Copy => libc::XDP_COPY,
            };
            address.sxdp_flags = transfer | libc::XDP_USE_NEED_WAKEUP;
        }
    }
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_xdp>()).expect("an address is small");
    // SAFETY: pointer and length describe `address`, which lives through the call.
    // JUSTIFICATION: the standard library binds no AF_XDP sockets.
    let status = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
