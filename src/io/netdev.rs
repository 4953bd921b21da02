//! Finds and changes network devices, in the network namespace of the calling thread.

use std::io;
use std::mem::zeroed;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::Connection;
use crate::wire::MacAddr;

/// Prefix of a designation that names a device by its MAC address.
pub const MAC_PREFIX: &str = "mac:";

/// An Ethernet device at the moment of the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Interface index; a device that was deleted and made again has another.
    pub index: u32,
    /// Name.
    pub name: String,
    /// MAC address.
    pub mac: MacAddr,
    /// MTU: bytes of the largest IP packet.
    pub mtu: u16,
    /// Administratively up and with carrier.
    pub oper_up: bool,
    /// Administratively up.
    pub admin_up: bool,
}

/// Why a designation means no single device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No device matches.
    #[error("there is no Ethernet device {designation:?}; devices here: {}", in_words(.present))]
    None {
        /// The designation as given.
        designation: String,
        /// Names of the existing devices.
        present: Vec<String>,
    },
    /// Several devices match.
    #[error("{designation:?} is the address of {}: write the name of the one that is meant", .names.join(" and "))]
    Several {
        /// The designation as given.
        designation: String,
        /// Names of the devices that have the MAC address.
        names: Vec<String>,
    },
}

fn in_words(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// All Ethernet devices, sorted by name.
pub fn list() -> Vec<Device> {
    let mut devices: Vec<_> = pnet_datalink::interfaces().iter().filter_map(device).collect();
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    devices
}

/// The device with this name, or with this MAC address after `mac:`; `None` unless there is exactly one.
pub fn find(designation: &str) -> Option<Device> {
    resolve(designation).ok()
}

/// As [`find`], or why there is no such device.
pub fn resolve(designation: &str) -> Result<Device, ResolveError> {
    choose(&pnet_datalink::interfaces(), designation, None)
}

/// The devices for these designations in their order, by one look at the machine. If several devices have a MAC
/// address, the one with the interface index given beside it is chosen.
pub fn find_all<'a>(designations: impl IntoIterator<Item = (&'a str, Option<u32>)>) -> Vec<Option<Device>> {
    let interfaces = pnet_datalink::interfaces();
    designations.into_iter().map(|(designation, known)| choose(&interfaces, designation, known).ok()).collect()
}

fn choose(
    interfaces: &[pnet_datalink::NetworkInterface],
    designation: &str,
    known: Option<u32>,
) -> Result<Device, ResolveError> {
    let mac = designation.strip_prefix(MAC_PREFIX).and_then(|mac| mac.parse::<MacAddr>().ok());
    let is_meant = |interface: &&pnet_datalink::NetworkInterface| match mac {
        None => interface.name == designation,
        Some(mac) => interface.mac.is_some_and(|own| own.octets() == mac.0),
    };
    let mut meant: Vec<_> = interfaces.iter().filter(is_meant).filter_map(device).collect();
    if let Some(position) = meant.iter().position(|device| Some(device.index) == known) {
        return Ok(meant.swap_remove(position));
    }
    if meant.len() > 1 {
        // A VLAN, bond or bridge has the MAC address of the card below it.
        let cards = software().unwrap_or_default();
        let is_card = |device: &Device| !cards.contains(&device.index);
        if meant.iter().filter(|device| is_card(device)).count() == 1 {
            meant.retain(is_card);
        }
    }
    match (meant.pop(), meant.as_slice()) {
        (Some(one), []) => Ok(one),
        (Some(last), others) => {
            let mut names: Vec<_> = others.iter().map(|device| device.name.clone()).collect();
            names.push(last.name);
            Err(ResolveError::Several { designation: designation.to_owned(), names })
        }
        (None, _) => {
            let mut present: Vec<_> = interfaces.iter().filter_map(device).map(|device| device.name).collect();
            present.sort();
            Err(ResolveError::None { designation: designation.to_owned(), present })
        }
    }
}

/// Sets a device administratively up or down, as `ip link set` does.
pub fn enable(index: u32, up: bool) -> io::Result<()> {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.change_mask = LinkFlags::Up;
    if up {
        link.header.flags = LinkFlags::Up;
    }
    Connection::open(NETLINK_ROUTE)?.change(RouteNetlinkMessage::SetLink(link))
}

fn device(interface: &pnet_datalink::NetworkInterface) -> Option<Device> {
    let mac = interface.mac.filter(|_| !interface.is_loopback() && !interface.is_point_to_point())?;
    Some(Device {
        index: interface.index,
        name: interface.name.clone(),
        mac: MacAddr(mac.octets()),
        mtu: mtu(&interface.name).ok()?,
        oper_up: interface.is_up() && interface.is_lower_up(),
        admin_up: interface.is_up(),
    })
}

/// The MTU in bytes. The ioctl follows the calling thread's network namespace, which /sys does not.
fn mtu(name: &str) -> io::Result<u16> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).or_else(|_| UdpSocket::bind("[::]:0"))?;
    let mut request = request(name)?;
    // SAFETY: the request is the struct that SIOCGIFMTU reads and writes, with a terminated name. JUSTIFICATION:
    // neither the standard library nor pnet reads an MTU.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: SIOCGIFMTU filled the integer member. JUSTIFICATION: it is a C union.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
}

/// An ioctl request about the device with this name.
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

/// The kind of a virtual device, such as `veth`, `bridge` or `bond` (IFLA_INFO_KIND, rtnetlink(7)); `None` for a card
/// or if there is no such device. Errors are those of the netlink socket.
pub fn kind(index: u32) -> io::Result<Option<String>> {
    Ok(kinds()?.into_iter().find(|(one, _)| *one == index).map(|(_, kind)| kind))
}

/// Interface indexes of the virtual devices.
fn software() -> io::Result<Vec<u32>> {
    Ok(kinds()?.into_iter().map(|(index, _)| index).collect())
}

/// The kinds of all virtual devices, by interface index.
fn kinds() -> io::Result<Vec<(u32, String)>> {
    let mut connection = Connection::open(NETLINK_ROUTE)?;
    let links = connection.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let kind = |message| {
        let RouteNetlinkMessage::NewLink(link) = message else { return None };
        let infos = link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        });
        let kind = infos?.into_iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind.to_string()),
            _ => None,
        });
        Some((link.header.index, kind?))
    };
    Ok(links.into_iter().filter_map(kind).collect())
}

/// Interface indexes to which the kernel's default routes lead, in any of its routing tables.
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

        assert_eq!((before.mac, before.mtu, before.oper_up), ("02:00:00:00:00:01".parse().unwrap(), 1400, false));
        assert!(after.oper_up);
        assert_eq!(find("nd1").unwrap().mtu, 1500);
        assert_eq!(find("lo"), None, "loopback is no Ethernet device");
        assert_eq!(find("none"), None);
        assert_eq!(find_all(["nd1", "none", "nd0"].map(|name| (name, None))), [find("nd1"), None, find("nd0")]);
        let kind = |name| kind(find(name).unwrap().index).unwrap();
        ip("link add nd2 type bridge");
        assert_eq!([kind("nd0"), kind("nd2")], [Some("veth".to_owned()), Some("bridge".to_owned())]);
        ip("link delete nd2");
        assert_eq!(list().iter().map(|device| device.name.as_str()).collect::<Vec<_>>(), ["nd0", "nd1"]);
    }

    #[test]
    fn a_card_is_found_by_its_address_whatever_it_is_called() {
        if !namespace() {
            return;
        }
        let by_mac = "mac:02:00:00:00:00:01";
        ip("link add nm0 address 02:00:00:00:00:01 type veth peer name nm1 address 02:00:00:00:00:02");
        let first = find(by_mac).unwrap();
        assert_eq!(first.name, "nm0");
        ip("link set nm0 name moved");
        assert_eq!(find(by_mac).map(|device| (device.index, device.name)), Some((first.index, "moved".to_owned())));

        ip("link add nm2 address 02:00:00:00:00:01 type veth peer name nm3");
        let several = resolve(by_mac).unwrap_err().to_string();
        assert!(
            several.contains("\"mac:02:00:00:00:00:01\" is the address of") && several.contains("nm2"),
            "{several}"
        );
        let known = find_all([(by_mac, Some(first.index)), (by_mac, None)]);
        assert_eq!(
            known.iter().map(|found| found.as_ref().map(|one| one.index)).collect::<Vec<_>>(),
            [Some(first.index), None]
        );
        let none = resolve("mac:02:00:00:00:00:09").unwrap_err().to_string();
        assert!(none.contains("there is no Ethernet device") && none.contains("moved, nm1, nm2, nm3"), "{none}");
    }

    #[test]
    fn a_device_is_set_up_and_down() {
        if !namespace() {
            return;
        }
        ip("link add ne0 type veth peer name ne1");
        let state = |name: &str| find(name).map(|device| (device.admin_up, device.oper_up)).unwrap();
        assert_eq!(state("ne0"), (false, false));
        enable(find("ne0").unwrap().index, true).unwrap();
        assert_eq!(state("ne0"), (true, false), "the other end is down");
        enable(find("ne1").unwrap().index, true).unwrap();
        assert_eq!(state("ne0"), (true, true));
        enable(find("ne0").unwrap().index, false).unwrap();
        assert_eq!(state("ne0"), (false, false));
        assert!(enable(u32::MAX / 4, true).is_err());
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
