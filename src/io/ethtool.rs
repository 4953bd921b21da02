//! What a device's driver was told to do with frames (ethtool(8)), in the network namespace of the calling thread.

use std::io;
use std::mem::zeroed;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// `SIOCETHTOOL` of linux/sockios.h.
const REQUEST: libc::Ioctl = 0x8946;
/// `ETHTOOL_GFLAGS` and `ETH_FLAG_LRO` of linux/ethtool.h.
const GET_FLAGS: u32 = 0x25;
const LARGE_RECEIVE_OFFLOAD: u32 = 1 << 15;

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// True if segments are merged on reception in a way that cannot be undone.
pub fn has_large_receive_offload(device: &str) -> io::Result<bool> {
    Ok(get(device, GET_FLAGS)? & LARGE_RECEIVE_OFFLOAD != 0)
}

fn get(device: &str, command: u32) -> io::Result<u32> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).or_else(|_| UdpSocket::bind("[::]:0"))?;
    // SAFETY: integers, a character array and a union of integers and pointers: zeros are a value of each.
    // JUSTIFICATION: the request is a C struct with a union.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if device.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    let mut value = Value { command, data: 0 };
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL takes this struct with a terminated name and a pointer to a struct that begins with a command; those
    // commands that ask for one number read and write an `ethtool_value`, which lives through the call.
    // JUSTIFICATION: neither the standard library nor pnet asks a driver anything.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), REQUEST, &raw mut request) };
    if status == 0 { Ok(value.data) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::{ip, namespace};

    #[test]
    fn a_device_is_asked_and_one_that_is_not_there_is_an_error() {
        if !namespace() {
            return;
        }
        ip("link add et0 type veth peer name et1");

        assert!(!has_large_receive_offload("et0").unwrap(), "a pair has none");
        assert_eq!(has_large_receive_offload("none").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert!(has_large_receive_offload("a-name-that-no-device-has").is_err());
    }
}
