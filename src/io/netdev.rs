//! Network devices as they are at this moment, in the network namespace of the calling thread.

use std::io;
use std::mem::zeroed;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::Connection;
use crate::wire::MacAddr;

/// An Ethernet device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The operating system's number for it; a device that was deleted and made again has another.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Hardware address.
    pub mac: MacAddr,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Administratively up and with carrier.
    pub up: bool,
}

/// All Ethernet devices, by name.
pub fn list() -> Vec<Device> {
    let mut devices: Vec<_> = pnet_datalink::interfaces().iter().filter_map(device).collect();
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    devices
}

/// The device with this name.
pub fn find(name: &str) -> Option<Device> {
    pnet_datalink::interfaces().iter().find(|interface| interface.name == name).and_then(device)
}

/// The devices with these names, in their order; one look at the machine for all.
pub fn find_all<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Option<Device>> {
    let interfaces = pnet_datalink::interfaces();
    let find = |name| interfaces.iter().find(|interface| interface.name == name).and_then(device);
    names.into_iter().map(find).collect()
}

fn device(interface: &pnet_datalink::NetworkInterface) -> Option<Device> {
    let mac = interface.mac.filter(|_| !interface.is_loopback() && !interface.is_point_to_point())?;
    Some(Device {
        index: interface.index,
        name: interface.name.clone(),
        mac: MacAddr(mac.octets()),
        mtu: mtu(&interface.name).ok()?,
        up: interface.is_up() && interface.is_lower_up(),
    })
}

/// The MTU by ioctl, which obeys the calling thread's namespace where /sys does not.
fn mtu(name: &str) -> io::Result<u16> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).or_else(|_| UdpSocket::bind("[::]:0"))?;
    let mut request = request(name)?;
    // SAFETY: the request is the struct that SIOCGIFMTU reads and writes, with a terminated name.
    // JUSTIFICATION: neither the standard library nor pnet tells an MTU.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: SIOCGIFMTU filled the integer member. JUSTIFICATION: it is a C union.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
}

/// A request about the device with this name.
pub(super) fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: integers, a character array and a union of integers and pointers: zeros are a value of each.
    // JUSTIFICATION: the request is a C struct with a union.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    Ok(request)
}

/// What a device made of software is: `veth`, `bridge`, `bond` (IFLA_INFO_KIND of rtnetlink(7)); `None`: it is a card, or there
/// is no such device. An error is one of the netlink socket.
pub fn kind(index: u32) -> io::Result<Option<String>> {
    let mut connection = Connection::open(NETLINK_ROUTE)?;
    let links = connection.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let attributes = links.into_iter().find_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) if link.header.index == index => Some(link.attributes),
        _ => None,
    });
    let kind = attributes.into_iter().flatten().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.into_iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind.to_string()),
            _ => None,
        }),
        _ => None,
    });
    Ok(kind)
}

/// Interface indexes that a default route of the kernel leads to, in any of its tables.
pub fn default_route_devices() -> io::Result<Vec<u32>> {
    let mut connection = Connection::open(NETLINK_ROUTE)?;
    let routes = connection.dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()))?;
    let mut devices: Vec<u32> = routes
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route)
                if route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast =>
            {
                Some(route)
            }
            _ => None,
        })
        .flat_map(|route| route.attributes)
        .flat_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => vec![index],
            RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
            _ => Vec::new(),
        })
        .collect();
    devices.sort_unstable();
    devices.dedup();
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::{ip, namespace};

    #[test]
    fn a_device_is_found_with_its_address_mtu_and_carrier() {
        if !namespace() {
            return;
        }
        ip("link add nd0 address 02:00:00:00:00:01 mtu 1400 type veth peer name nd1 address 02:00:00:00:00:02");
        ip("link set nd0 up");
        let before = find("nd0").unwrap();
        ip("link set nd1 up");
        let after = find("nd0").unwrap();

        assert_eq!((before.mac, before.mtu, before.up), ("02:00:00:00:00:01".parse().unwrap(), 1400, false));
        assert!(after.up);
        assert_eq!(find("nd1").unwrap().mtu, 1500);
        assert_eq!(find("lo"), None, "loopback is no Ethernet device");
        assert_eq!(find("none"), None);
        assert_eq!(find_all(["nd1", "none", "nd0"]), [find("nd1"), None, find("nd0")]);
        let kind = |name| kind(find(name).unwrap().index).unwrap();
        ip("link add nd2 type bridge");
        assert_eq!([kind("nd0"), kind("nd2")], [Some("veth".to_owned()), Some("bridge".to_owned())]);
        ip("link delete nd2");
        assert_eq!(list().iter().map(|device| device.name.as_str()).collect::<Vec<_>>(), ["nd0", "nd1"]);
    }

    #[test]
    fn the_devices_of_default_routes_are_told_in_both_families_and_all_tables() {
        if !namespace() {
            return;
        }
        for (pair, command) in [
            ("a", "route add default via 192.0.2.2 dev dra0"),
            ("b", "-6 route add default via fe80::1 dev drb0"),
            ("c", "route add default dev drc0 table 77"),
            ("d", "route add 198.51.100.0/24 dev drd0"),
        ] {
            ip(&format!("link add dr{pair}0 type veth peer name dr{pair}1"));
            ip(&format!("link set dr{pair}0 up"));
            ip(&format!("link set dr{pair}1 up"));
            if pair == "a" {
                ip("address add 192.0.2.1/24 dev dra0");
            }
            ip(command);
        }

        let expected: Vec<u32> = ["dra0", "drb0", "drc0"].iter().map(|name| find(name).unwrap().index).collect();
        let mut found = default_route_devices().unwrap();
        found.sort_by_key(|index| expected.iter().position(|known| known == index));
        assert_eq!(found, expected);
    }
}
