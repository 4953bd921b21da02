//! Opens a packet socket and sets its options.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use crate::io::sockopt;

/// Why a packet socket could not be opened on a device.
#[derive(Debug, thiserror::Error)]
pub enum PacketSocketError {
    /// The process has no CAP_NET_RAW.
    #[error("no permission to open packet sockets: run as root, or give the program CAP_NET_RAW and CAP_NET_ADMIN")]
    NotPermitted,
    /// The device does not exist, or has been removed.
    #[error("the device does not exist")]
    NoDevice,
    /// Another system call failed.
    #[error("cannot {what}")]
    System {
        /// What was attempted, as the end of "cannot …".
        what: &'static str,
        /// The error of the system call.
        source: io::Error,
    },
}

/// Names a fanout group: receivers of one device that share its frames, all frames of a flow going to one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FanoutId(u16);

impl PacketSocketError {
    pub(super) fn last(what: &'static str) -> Self {
        Self::of(what, io::Error::last_os_error())
    }

    fn of(what: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted,
            Some(libc::ENODEV | libc::ENXIO) => Self::NoDevice,
            _ => Self::System { what, source },
        }
    }
}

/// The error of a step that failed.
pub(super) fn refused(what: &'static str, error: io::Error) -> PacketSocketError {
    PacketSocketError::of(what, error)
}

/// Opens a raw packet socket that is bound to no device and receives nothing.
pub(super) fn open() -> Result<OwnedFd, PacketSocketError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
        .map_err(|error| PacketSocketError::of("open a packet socket", error.into()))
}

/// Sets an option of level `SOL_PACKET`.
pub(super) fn set_packet<T: Copy>(
    socket: &OwnedFd,
    name: libc::c_int,
    value: &T,
    what: &'static str,
) -> Result<(), PacketSocketError> {
    sockopt::set(socket, libc::SOL_PACKET, name, value).map_err(|error| PacketSocketError::of(what, error))
}

/// Asks for a socket buffer of `bytes`, beyond the system's limit where that is permitted.
pub(super) fn set_buffer(
    socket: &OwnedFd,
    force: libc::c_int,
    plain: libc::c_int,
    bytes: libc::c_int,
) -> Result<(), PacketSocketError> {
    sockopt::set_buffer(socket, force, plain, bytes)
        .map_err(|error| PacketSocketError::of("size a socket buffer", error))
}

/// Binds to a device. With `protocol` 0 the socket receives nothing.
pub(super) fn bind(socket: &OwnedFd, index: u32, protocol: u16) -> Result<(), PacketSocketError> {
    // SAFETY: all fields of `sockaddr_ll` are integers. JUSTIFICATION: it has padding fields that differ between
    // targets.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = libc::c_int::try_from(index).map_err(|_| PacketSocketError::NoDevice)?;
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("an address is small");
    // SAFETY: pointer and length describe `address`, which lives through the call.
    // JUSTIFICATION: the standard library binds no packet sockets.
    let status = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) };
    if status == 0 { Ok(()) } else { Err(PacketSocketError::last("bind to the device")) }
}

/// Receives frames for every destination MAC address for as long as the socket lives.
pub(super) fn promiscuous(socket: &OwnedFd, index: u32) -> Result<(), PacketSocketError> {
    let request = libc::packet_mreq {
        mr_ifindex: libc::c_int::try_from(index).map_err(|_| PacketSocketError::NoDevice)?,
        mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_packet(socket, libc::PACKET_ADD_MEMBERSHIP, &request, "make the device promiscuous")
}

/// Joins the fanout group `id`, or founds one with a number that is unique in this network namespace.
///
/// The kernel spreads frames by its flow hash, which is symmetric and uses only the addresses of fragments.
pub(super) fn join_fanout(socket: &OwnedFd, id: Option<FanoutId>) -> Result<FanoutId, PacketSocketError> {
    // The kernel hooks in the group and not the socket, so the group needs its own flag to ignore outgoing frames.
    let mut kind = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
    if id.is_none() {
        kind |= libc::PACKET_FANOUT_FLAG_UNIQUEID;
    }
    let number = id.map_or(0, |id| id.0);
    let value = u32::from(number) | (kind << 16);
    set_packet(socket, libc::PACKET_FANOUT, &value, "share the device between the packet workers")?;
    let joined: libc::c_int = sockopt::get(socket, libc::SOL_PACKET, libc::PACKET_FANOUT)
        .map_err(|source| PacketSocketError::System { what: "read the number of the fanout set", source })?;
    Ok(FanoutId((joined & 0xffff) as u16))
}
