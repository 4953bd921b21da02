//! Declares `[[link]]` and `[[route]]`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::NAME;
use super::section::section;
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::fact::{Value, bare, list, or_none, text};
use crate::config::numbering::base_name;
use crate::config::reader::{Field, Reader};
use crate::config::schema::ValueKind;
use crate::config::value::{self, InvalidValue};
use crate::config::{self, Config, RouteTarget};
use crate::id::LinkId;
use crate::wire::MacAddr;

section! {
    /// The values of `[[link]]`.
    Link = "[[link]]" "A network device, or one VLAN on it, that the engine owns while it runs.";
    facts(link: &config::Link, config);
    reserved "zone", "bridge";
    name: String = string("name", NAME, value::name), required("\"clients\""),
        "The link's name, unique in the file." => text(&link.name);
    device: String = string(
            "device", "a device as `ip link` shows it, or `mac:` and the hardware address of a card", value::device
        ), required("\"eth0\""), with_restart,
        "The network device." => text(base_name(&config.devices[link.device.index()]));
    vlan: u16 = with("vlan", ValueKind::Number(1..=4094), vlan), unset("untagged"), with_restart,
        "The 802.1Q VLAN; several links may share a device." => or_none(link.vlan, bare);
    addresses: IpNet = strings(
            "addresses", "an address with the length of its subnet, as in 198.51.100.1/24", value::interface
        ), unset("none"),
        "The engine's addresses on the link." => list(&link.addresses, text);
    mac: MacAddr = string("mac", "a hardware address", value::mac), unset("the device's"),
        "The engine's MAC address on the link." => or_none(link.mac, text);
    mtu: u16 = number("mtu", 576..=65_535), unset("the device's"),
        "The MTU: the largest IP packet, in bytes." => or_none(link.mtu, bare);
    floating: IpAddr = strings("floating", "an address in a subnet of the link", value::station_address), unset("none"),
        "With [ha]: the addresses of whichever node is active, which routers, firewalls and servers use as next hop."
        => list(&link.floating, text);
    vrid: u8 = number("vrid", 1..=255), unset("that of [ha]"), with_restart,
        "With [ha]: the virtual router identifier, where another router on the link uses that of [ha]."
        => or_none(link.vrid, bare);
    track: bool = flag("track"), optional(true),
        "With [ha]: the loss of the link lowers the priority of this node." => bare(link.track);
    unicast: bool = flag("unicast"), optional(false),
        "With [ha]: hellos and advertisements go to each node's own addresses in the link's subnets, where the network \
         carries no multicast."
        => bare(link.unicast);
}

fn vlan(reader: &Reader<'_>, out: &mut Diagnostics) -> Field<u16> {
    match reader.raw("vlan") {
        Some(raw) if raw.get_ref().is_array() => {
            let message = "`vlan` as a list is reserved for a later version";
            out.push(Diagnostic::error(raw.span(), message).hint("write one [[link]] per VLAN"));
            Field::Invalid
        }
        Some(_) | None => reader.number("vlan", out),
    }
}

/// An item of `to` of `[[route]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// `default`: the default routes of both families.
    Default,
    /// A prefix.
    Prefix(IpNet),
}

section! {
    /// The values of `[[route]]`.
    Route = "[[route]]" "Where packets are sent: to a next hop, or through a group of firewalls. The longest prefix wins; connected subnets need no \
            route.";
    facts(route: &config::Route, config);
    reserved "metric";
    to: Destination = strings("to", "a prefix, or \"default\" for both families", destination),
        required("\"default\""),
        "The destination prefixes." => text(route.to);
    via: IpAddr = strings("via", "an address, one per family", value::station_address), unset("no next hop"),
        "The next hop; with `group` that of the bypass, which below-min = \"bypass\" needs."
        => or_none(next_hop(&route.target), |(_, via)| text(via));
    link: String = string("link", NAME, value::name), unset("the link in whose subnet `via` lies"),
        "The link of `via`; required for a link-local next hop."
        => or_none(next_hop(&route.target), |(link, _)| text(&config.links[link.index()].name));
    group: String = string("group", NAME, value::name), unset("through no firewalls"),
        "The group of firewalls that the packets pass." => through(&route.target, config).group;
    peer: String = string("peer", NAME, value::name), unset("up toward every peer"),
        "With `group`: a firewall is used if it is up toward this peer." => through(&route.target, config).peer;
    firewall: String = string("firewall", NAME, value::name), unset("by hash"),
        "With `group`: the firewall to use while it is up, as for its NAT addresses."
        => through(&route.target, config).firewall;
}

fn destination(text: &str) -> Result<Destination, InvalidValue> {
    match text {
        "default" => Ok(Destination::Default),
        _ => value::prefix(text).map(Destination::Prefix),
    }
}

/// The next hop of a route, or that of the bypass.
fn next_hop(target: &RouteTarget) -> Option<(LinkId, IpAddr)> {
    match target {
        RouteTarget::Via { link, via } => Some((*link, *via)),
        RouteTarget::Group { group: _, peer: _, firewall: _, bypass } => *bypass,
    }
}

/// What a route through firewalls names.
struct Through {
    group: Value,
    peer: Value,
    firewall: Value,
}

fn through(target: &RouteTarget, config: &Config) -> Through {
    match target {
        RouteTarget::Via { link: _, via: _ } => {
            Through { group: Value::None, peer: Value::None, firewall: Value::None }
        }
        RouteTarget::Group { group, peer, firewall, bypass: _ } => Through {
            group: text(&config.groups[group.index()].name),
            peer: or_none(*peer, |id| text(&config.peers[id.index()].name)),
            firewall: or_none(*firewall, |id| text(&config.firewalls[id.index()].name)),
        },
    }
}
