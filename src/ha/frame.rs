//! The frames that nodes exchange on links: advertisements, and UDP datagrams of [`PORT`]. What a datagram contains is
//! sealed, so that nothing here decides whether to believe it. Whoever drives a role machine sends what
//! [`advertisements`] and [`datagrams`] make of its rounds.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::ha::settings::LegConfig;
use crate::ha::{Advertise, HaConfig, LegId, Machine, NodeId, NodeKind, PORT};
use crate::id::LinkId;
use crate::wire::emit::{self, AddressPair, MacPair};
use crate::wire::frame::{Frame, UDP_LEN, protocol};
use crate::wire::offload::Offload;
use crate::wire::vrrp::{self, Advertisement, HOP_LIMIT, InvalidAdvertisement, Received};
use crate::wire::{Family, MacAddr};

/// A frame of another node, or of somebody who pretends to be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterFrame<'a> {
    /// An advertisement, or why it is none.
    Advertisement(Result<Received, InvalidAdvertisement>),
    /// A datagram to [`PORT`] that no router forwarded.
    Datagram {
        /// The hardware address of the sender.
        source_mac: MacAddr,
        /// Source and destination of the packet.
        pair: AddressPair,
        /// The sealed content.
        bytes: &'a [u8],
    },
}

/// Reads a frame without its VLAN tag; `None` if it is neither. A frame in pieces is none: a hello fits one.
pub fn read(frame: &mut [u8]) -> Option<ClusterFrame<'_>> {
    if vrrp::is_vrrp(frame) {
        return Some(ClusterFrame::Advertisement(vrrp::parse(frame)));
    }
    let parsed = Frame::parse(frame, &Offload::NONE).ok()?;
    let tuple = parsed.tuple();
    let is_ours = parsed.protocol() == protocol::UDP && !parsed.is_fragment() && tuple.destination_port == PORT;
    if !is_ours || parsed.ttl() != HOP_LIMIT {
        return None;
    }
    let pair = AddressPair::new(parsed.source(), parsed.destination())?;
    let (source_mac, from) = (parsed.source_mac(), parsed.transport_offset());
    let to = from + parsed.transport_bytes().len();
    Some(ClusterFrame::Datagram { source_mac, pair, bytes: parsed.into_bytes().get(from + UDP_LEN..to)? })
}

/// A node on one of its links.
#[derive(Debug, Clone, Copy)]
pub struct Station<'a> {
    /// The link's own MAC address, from which hellos are sent.
    pub mac: MacAddr,
    /// The MAC addresses from which advertisements over IPv4 and IPv6 are sent: those of the virtual router, or `mac`.
    pub router_macs: [MacAddr; 2],
    /// The node's own addresses with their subnets, the IPv6 link-local one included.
    pub addresses: &'a [IpNet],
}

/// The links of a node and its neighbours there, as far as they are known.
pub trait Surroundings {
    /// This node on a link; `None` if there is no such link.
    fn station(&self, link: LinkId) -> Option<Station<'_>>;

    /// The MAC address of a neighbour, if it is resolved.
    fn neighbor_mac(&self, link: LinkId, address: IpAddr) -> Option<MacAddr>;
}

/// The frames of sealed datagrams on a leg, without a VLAN tag. Each is for one node; those that speak VRRP alone get
/// none. With `unicast` a frame goes to that node as soon as its MAC address is known, otherwise to the group of all.
pub fn datagrams(
    leg: &LegConfig,
    config: &HaConfig,
    sealed: &[(NodeId, Vec<u8>)],
    around: &impl Surroundings,
) -> Vec<Vec<u8>> {
    let Some(station) = around.station(leg.link) else { return Vec::new() };
    let Some(own) = own_address(station.addresses, None) else { return Vec::new() };
    let frame = |(node, bytes): &(NodeId, Vec<u8>)| {
        config.nodes.get(node.index()).filter(|of| of.kind == NodeKind::Fwlb)?;
        let to = leg.unicast.then(|| unicast(leg, *node, config, own, around)).flatten();
        datagram((station.mac, own), to, bytes)
    };
    sealed.iter().filter_map(frame).collect()
}

/// The advertisements of a round without their VLAN tags, with their links: one for each leg and each family that has
/// floating addresses there. With `unicast` there is one for each other node whose MAC address is known.
pub fn advertisements(said: Advertise, machine: &Machine, around: &impl Surroundings) -> Vec<(LinkId, Vec<u8>)> {
    let legs = machine.config().legs.iter().enumerate();
    let of_leg = |(index, leg)| {
        let of_family = move |family| advertisements_of(said, (LegId(index as u16), leg), family, machine, around);
        [Family::V4, Family::V6].into_iter().flat_map(of_family)
    };
    legs.flat_map(of_leg).collect()
}

fn advertisements_of(
    said: Advertise,
    (id, leg): (LegId, &LegConfig),
    family: Family,
    machine: &Machine,
    around: &impl Surroundings,
) -> Vec<(LinkId, Vec<u8>)> {
    let config = machine.config();
    let addresses: Vec<IpAddr> = leg.floating_of(family).collect();
    let Some(station) = around.station(leg.link).filter(|_| !addresses.is_empty()) else { return Vec::new() };
    let Some(own) = own_address(station.addresses, Some(family)) else { return Vec::new() };
    let [v4, v6] = station.router_macs;
    let source = match family {
        Family::V4 => v4,
        Family::V6 => v6,
    };
    let Advertise { priority, interval } = said;
    let advertisement = Advertisement { version: config.version, vrid: leg.vrid, priority, interval, addresses };
    let receivers: Vec<_> = match leg.unicast {
        false => vec![(vrrp::group_mac(family), vrrp::group(family))],
        true => config.others().filter_map(|(node, _)| unicast(leg, node, config, own, around)).collect(),
    };
    let frame = |(destination, to): (MacAddr, IpAddr)| {
        let (macs, pair) = (MacPair { source, destination }, AddressPair::new(own, to)?);
        Some((leg.link, advertisement.frame(macs, pair, machine.checksum_form(id, family))))
    };
    receivers.into_iter().filter_map(frame).collect()
}

/// The address from which a node speaks on a link: over IPv6 its link-local one (RFC 9568 section 5.1.2.1). Without a
/// family, IPv4 comes first.
fn own_address(addresses: &[IpNet], family: Option<Family>) -> Option<IpAddr> {
    let of = |wanted: Family| addresses.iter().map(IpNet::addr).filter(move |own| Family::of(*own) == wanted);
    let v6 = || {
        let is_link_local = |own: &IpAddr| matches!(own, IpAddr::V6(own) if own.is_unicast_link_local());
        of(Family::V6).find(is_link_local).or_else(|| of(Family::V6).next())
    };
    match family {
        Some(Family::V4) => of(Family::V4).next(),
        Some(Family::V6) => v6(),
        None => of(Family::V4).next().or_else(v6),
    }
}

/// Where a node is reached on a leg by unicast: its own address of the sender's family in a subnet of the link, once
/// that is resolved. Its addresses on other links are no neighbours here.
fn unicast(
    leg: &LegConfig,
    node: NodeId,
    config: &HaConfig,
    own: IpAddr,
    around: &impl Surroundings,
) -> Option<(MacAddr, IpAddr)> {
    let subnets = around.station(leg.link)?.addresses;
    let is_here = |address: &&IpAddr| {
        Family::of(**address) == Family::of(own) && subnets.iter().any(|subnet| subnet.contains(*address))
    };
    let mut here = config.nodes.get(node.index())?.addresses.iter().filter(is_here);
    here.find_map(|address| Some((around.neighbor_mac(leg.link, *address)?, *address)))
}

/// The frame of a datagram to all nodes on a link, or to one of them whose MAC address is known. `source` are the
/// sender's own addresses there, never floating ones.
fn datagram(source: (MacAddr, IpAddr), to: Option<(MacAddr, IpAddr)>, bytes: &[u8]) -> Option<Vec<u8>> {
    let (mac, address) = source;
    let family = Family::of(address);
    let (destination, to) = to.unwrap_or((vrrp::group_mac(family), vrrp::group(family)));
    let macs = MacPair { source: mac, destination };
    Some(emit::udp_with_hop_limit(macs, AddressPair::new(address, to)?, HOP_LIMIT, (PORT, PORT), bytes))
}

#[cfg(test)]
mod tests;
