//! Reads and sets socket options whose values are plain data.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::AsRawFd;

/// Integers, and C structs of integers: every bit pattern is a valid value.
///
/// # Safety
/// The implementer promises that this is so.
pub(super) unsafe trait Plain: Copy {}
// SAFETY: an integer. JUSTIFICATION: `get` needs the promise.
unsafe impl Plain for libc::c_int {}
// SAFETY: three integers. JUSTIFICATION: as above.
unsafe impl Plain for libc::ucred {}
// SAFETY: two integers. JUSTIFICATION: as above.
unsafe impl Plain for libc::tpacket_stats {}
// SAFETY: integers. JUSTIFICATION: as above.
unsafe impl Plain for libc::xdp_mmap_offsets {}
// SAFETY: integers. JUSTIFICATION: as above.
unsafe impl Plain for libc::xdp_statistics {}
// SAFETY: an integer. JUSTIFICATION: as above.
unsafe impl Plain for libc::xdp_options {}

/// Sets an option (setsockopt(2)).
pub(super) fn set<T: Copy>(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).expect("option values are small");
    // SAFETY: the pointer and length describe `value`, which lives through the call; the kernel only reads it.
    // JUSTIFICATION: the standard library sets none of these options.
    let status = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option (getsockopt(2)); what the kernel does not fill in is zero.
pub(super) fn get<T: Plain>(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    // SAFETY: `Plain` promises that any bytes, zeros among them, are a value of `T`.
    // JUSTIFICATION: the kernel fills it in place.
    let mut value: T = unsafe { zeroed() };
    let mut len = libc::socklen_t::try_from(size_of::<T>()).expect("option values are small");
    // SAFETY: pointer and length describe `value`; the kernel writes at most `len` bytes.
    // JUSTIFICATION: the standard library reads none of these options.
    let status = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, std::ptr::from_mut(&mut value).cast(), &raw mut len)
    };
    if status == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Asks for a socket buffer of `bytes`, beyond the system's limit with CAP_NET_ADMIN and up to that limit without.
pub(super) fn set_buffer(
    socket: &impl AsRawFd,
    force: libc::c_int,
    plain: libc::c_int,
    bytes: libc::c_int,
) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, force, &bytes).or_else(|_| set(socket, libc::SOL_SOCKET, plain, &bytes))
}

/// Lets `bytes` of received data wait in a socket, beyond the system's limit (`net.core.rmem_max`) with CAP_NET_ADMIN
/// and up to that limit without.
///
/// # Errors
/// The kernel refuses the option.
pub fn set_receive_buffer(socket: &impl AsRawFd, bytes: i32) -> io::Result<()> {
    set_buffer(socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, bytes)
}

/// Takes and clears the pending error of the socket (SO_ERROR), such as `ENETDOWN` after a link went down.
pub(super) fn take_error(socket: &impl AsRawFd) -> Option<io::Error> {
    let error: libc::c_int = get(socket, libc::SOL_SOCKET, libc::SO_ERROR).ok()?;
    (error != 0).then(|| io::Error::from_raw_os_error(error))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;
    use crate::io::testing::namespace;

    #[test]
    fn thousands_of_datagrams_wait_where_there_is_room_for_them() {
        const COUNT: usize = 4_000;
        if !namespace() {
            return;
        }
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        set_receive_buffer(&socket, 8 << 20).unwrap();

        for _ in 0..COUNT {
            socket.send_to(&[0; 64], socket.local_addr().unwrap()).unwrap();
        }

        socket.set_nonblocking(true).unwrap();
        assert_eq!((0..COUNT).filter(|_| socket.recv(&mut [0; 64]).is_ok()).count(), COUNT);
    }
}
