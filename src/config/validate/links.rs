//! Validates `[[link]]`: devices, VLANs, addresses.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::config::Link;
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file;
use crate::config::reader::{Field, Located};
use crate::config::validate::names::duplicate_error;
use crate::id::DeviceId;
use crate::wire::Family;

/// The largest number of links of one engine.
const LINKS_MAX: usize = 1024;
/// The least MTU of a link with IPv6, in bytes (RFC 8200 section 5).
const IPV6_MTU_MIN: u16 = 1280;

/// The device names in the order of first mention, and the links; `None` for a link with a mistake.
pub fn links(typed: &[file::Link], ha: Option<&file::Ha>, out: &mut Diagnostics) -> (Vec<String>, Vec<Option<Link>>) {
    if typed.is_empty() {
        let missing = Diagnostic::error(0..0, "the engine has no [[link]]");
        out.push(missing.hint("write [[link]] with a name and a device, once for every side of the engine"));
    }
    if let Some(one) = typed.get(LINKS_MAX) {
        out.push(Diagnostic::error(one.span.clone(), format!("an engine has at most {LINKS_MAX} links")));
        return (Vec::new(), Vec::new());
    }
    check_vlan_tags(typed, out);
    same_subnet(typed, out);
    let mut devices: Vec<String> = Vec::new();
    let links = typed.iter().map(|link| one(link, ha, &mut devices, out)).collect();
    (devices, links)
}

fn one(typed: &file::Link, ha: Option<&file::Ha>, devices: &mut Vec<String>, out: &mut Diagnostics) -> Option<Link> {
    let addresses = typed.addresses.given().map(|list| list.value.as_slice()).unwrap_or_default();
    if let (Some(mtu), Some(v6)) = (typed.mtu.given(), addresses.iter().find(|at| matches!(at.value, IpNet::V6(_))))
        && mtu.value < IPV6_MTU_MIN
    {
        let small = format!("IPv6 needs an MTU of at least {IPV6_MTU_MIN}, found {}", mtu.value);
        out.push(Diagnostic::error(mtu.span.clone(), small).related(v6.span.clone(), "the link has an IPv6 address"));
    }
    if matches!(typed.addresses, Field::Invalid) {
        // An address that lies in no known subnet may lie in the one that is mistyped here.
        return None;
    }
    let device = typed.device.value()?;
    let device = devices.iter().position(|known| *known == device).unwrap_or_else(|| {
        devices.push(device);
        devices.len() - 1
    });
    Some(Link {
        name: typed.name.value()?,
        device: DeviceId::from(device),
        vlan: typed.vlan.value(),
        addresses: addresses.iter().map(|at| at.value).collect(),
        mac: typed.mac.value(),
        mtu: typed.mtu.value(),
        floating: floating_of(typed, ha),
        vrid: typed.vrid.value(),
        track: typed.track(),
        unicast: typed.unicast(),
    })
}

/// The floating addresses of a link. IPv6 has a link-local one first (RFC 9568 section 5.2.9); without one typed it is
/// made from the VRID, never from the virtual MAC address (section 7.4).
fn floating_of(typed: &file::Link, ha: Option<&file::Ha>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = typed
        .floating
        .given()
        .map(|list| list.value.as_slice())
        .unwrap_or_default()
        .iter()
        .map(|at| at.value)
        .collect();
    let vrid = typed.vrid.value().or(ha.and_then(|ha| ha.vrid.value())).unwrap_or_default();
    addresses.sort_by_key(|address| (Family::of(*address), !is_link_local(*address)));
    let first = addresses.iter().position(|address| address.is_ipv6());
    if let Some(first) = first.filter(|first| !is_link_local(addresses[*first])) {
        // The decimal digits of the VRID stand in the last group as they are written.
        let group = u16::from_str_radix(&vrid.to_string(), 16).unwrap_or_default();
        addresses.insert(first, Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x9568, group).into());
    }
    addresses
}

/// Refuses links that share a device without different VLAN tags.
fn check_vlan_tags(typed: &[file::Link], out: &mut Diagnostics) {
    for (index, link) in typed.iter().enumerate() {
        let Some(device) = link.device.given() else { continue };
        let same = |earlier: &&file::Link| {
            let tag = match (&earlier.vlan, &link.vlan) {
                (Field::Invalid, _) | (_, Field::Invalid) => false,
                (earlier, this) => earlier.value() == this.value(),
            };
            tag && earlier.device.value().as_ref() == Some(&device.value)
        };
        let Some(first) = typed[..index].iter().find(same) else { continue };
        let (what, again, first) = match (link.vlan.given(), first.vlan.given()) {
            (Some(again), Some(first)) => {
                (format!("VLAN {} of {}", again.value, device.value), again.span.clone(), first.span.clone())
            }
            _ => {
                let first = first.device.given().map_or(first.span.clone(), |at| at.span.clone());
                (format!("device {:?} without a VLAN", device.value), device.span.clone(), first)
            }
        };
        let duplicate = duplicate_error(what, &again, &first);
        out.push(duplicate.hint("several links may share a device if each has a `vlan` of its own"));
    }
}

/// Refuses an address that two links have, and subnets that overlap: the way to such an address would be ambiguous.
fn same_subnet(typed: &[file::Link], out: &mut Diagnostics) {
    let mut seen: Vec<(usize, &Located<IpNet>)> = Vec::new();
    for (index, link) in typed.iter().enumerate() {
        for at in link.addresses.given().map(|list| list.value.as_slice()).unwrap_or_default() {
            if is_link_local(at.value.addr()) {
                continue;
            }
            let same = seen.iter().find(|(_, earlier)| earlier.value.addr() == at.value.addr());
            let overlap = seen.iter().find(|(other, earlier)| *other != index && overlaps(&earlier.value, &at.value));
            match (same, overlap) {
                (Some((_, first)), _) => {
                    out.push(duplicate_error(format!("address {}", at.value.addr()), &at.span, &first.span));
                }
                (None, Some((_, first))) => {
                    let message =
                        format!("subnet {} overlaps {} of another link", at.value.trunc(), first.value.trunc());
                    let first_here = format!("{} stands here", first.value);
                    out.push(Diagnostic::error(at.span.clone(), message).related(first.span.clone(), first_here));
                }
                (None, None) => {}
            }
            seen.push((index, at));
        }
    }
}

/// True if two prefixes have an address in common.
pub fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// True for fe80::/10, which every link has. 169.254.0.0/16 of IPv4 counts as an ordinary subnet, because it is used on
/// transit links.
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
