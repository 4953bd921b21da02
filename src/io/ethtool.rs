//! Asks a driver for its offloads, its queues and its name (linux/ethtool.h), in the network namespace of the calling
//! thread. Changes nothing.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use super::netdev;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const FLAG_RX_VLAN: u32 = 1 << 8;
const FLAG_LRO: u32 = 1 << 15;

/// Offloads that change frames before the engine sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offloads {
    /// Large receive offload: the device merges TCP segments.
    pub lro: bool,
    /// Generic receive offload: the kernel merges packets.
    pub gro: bool,
    /// The device takes the VLAN tag out of the frame.
    pub rx_vlan: bool,
}

/// The offloads of the device `name`.
pub fn offloads(name: &str) -> io::Result<Offloads> {
    #[repr(C)]
    #[derive(Default)]
    struct Value {
        command: u32,
        data: u32,
    }
    let ask = |command| {
        let mut value = Value { command, ..Value::default() };
        // SAFETY: both commands read and write this struct. JUSTIFICATION: see `request`.
        unsafe { request(name, &mut value) }.map(|()| value.data)
    };
    let flags = ask(ETHTOOL_GFLAGS)?;
    Ok(Offloads { lro: flags & FLAG_LRO != 0, gro: ask(ETHTOOL_GGRO)? != 0, rx_vlan: flags & FLAG_RX_VLAN != 0 })
}

/// Number of queues of a device in each direction; 1 for a driver without queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queues {
    /// Receive queues.
    pub receive: u32,
    /// Send queues.
    pub send: u32,
}

/// The queues of the device `name`.
pub fn queues(name: &str) -> io::Result<Queues> {
    #[repr(C)]
    #[derive(Default)]
    struct Channels {
        command: u32,
        max: [u32; 4],
        receive: u32,
        send: u32,
        other: u32,
        combined: u32,
    }
    let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
    // SAFETY: the command reads and writes this struct. JUSTIFICATION: see `request`.
    match unsafe { request(name, &mut channels) } {
        Ok(()) => {
            let all = |of_its_own: u32| of_its_own.saturating_add(channels.combined).max(1);
            Ok(Queues { receive: all(channels.receive), send: all(channels.send) })
        }
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Queues { receive: 1, send: 1 }),
        Err(error) => Err(error),
    }
}

/// Name of the driver of the device `name`, for example `veth`.
pub fn driver(name: &str) -> io::Result<String> {
    #[repr(C)]
    struct Driver {
        command: u32,
        name: [u8; 32],
        rest: [u8; 160],
    }
    let mut driver = Driver { command: ETHTOOL_GDRVINFO, name: [0; 32], rest: [0; 160] };
    // SAFETY: the command reads and writes this struct of 196 bytes. JUSTIFICATION: see `request`.
    unsafe { request(name, &mut driver) }?;
    let end = driver.name.iter().position(|byte| *byte == 0).unwrap_or(driver.name.len());
    Ok(String::from_utf8_lossy(&driver.name[..end]).into_owned())
}

/// # Safety
/// `T` is the struct of the command that stands in its first field.
unsafe fn request<T>(name: &str, value: &mut T) -> io::Result<()> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).or_else(|_| UdpSocket::bind("[::]:0"))?;
    let mut request = netdev::request(name)?;
    request.ifr_ifru.ifru_data = std::ptr::from_mut(value).cast();
    // SAFETY: the request is the struct of SIOCETHTOOL with a terminated name, and the caller promises that of the
    // command. JUSTIFICATION: neither the standard library nor pnet asks a driver.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::{command, ip, namespace};

    #[test]
    fn offloads_queues_and_driver_are_as_ethtool_shows_them() {
        if !namespace() {
            return;
        }
        ip("link add et0 numrxqueues 2 numtxqueues 1 type veth peer name et1 numrxqueues 1 numtxqueues 1");
        let set = |words: &str| drop(command("ethtool", &format!("-K et0 {words}")));

        set("gro on rxvlan on");
        assert_eq!(offloads("et0").unwrap(), Offloads { lro: false, gro: true, rx_vlan: true });
        set("gro off rxvlan off");
        assert_eq!(offloads("et0").unwrap(), Offloads::default());
        assert_eq!(driver("et0").unwrap(), "veth");
        assert_eq!(queues("et0").unwrap(), Queues { receive: 2, send: 1 });
        ip("link add br0 type bridge");
        assert_eq!(queues("br0").unwrap(), Queues { receive: 1, send: 1 }, "no notion of them");
        assert!(offloads("none").is_err() && queues("a-name-that-is-too-long").is_err());
    }
}
