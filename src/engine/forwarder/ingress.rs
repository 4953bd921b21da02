//! Checks a received frame before its flow is looked at: link, valid bytes, MAC addresses, known firewall, IP addresses
//! that may be forwarded.

use std::net::{IpAddr, Ipv6Addr};

use crate::engine::forwarder::PacketOutcome;
use crate::engine::forwarder::decide::Arrival;
use crate::engine::shared_role::Permission;
use crate::engine::snapshot::Link;
use crate::engine::{DropReason, Packet, PuntReason, Snapshot};
use crate::flow::FlowKey;
use crate::ha;
use crate::id::LinkId;
use crate::wire::frame::{Frame, FrameKind, IcmpClass, Malformed, protocol};
use crate::wire::offload::Offload;
use crate::wire::vlan::TPID_CUSTOMER;
use crate::wire::{MacAddr, vrrp};

/// A received IP packet that has passed the checks, so that its flow is looked at.
#[derive(Debug)]
pub(super) struct CheckedFrame<'f> {
    /// The parsed frame.
    pub frame: Frame<'f>,
    /// Where the packet came from.
    pub arrival: Arrival,
    /// The kind of ICMP message; `None` for other protocols.
    pub icmp: Option<IcmpClass>,
    /// Who the packet is addressed to.
    pub addressee: Addressee,
}

/// The link that a frame was received on, by its device and outer tag.
#[inline]
pub(super) fn link_of(packet: &Packet<'_>, snapshot: &Snapshot) -> Option<LinkId> {
    match packet.vlan {
        None => snapshot.link_of(packet.device, 0),
        Some(tag) if tag.tpid == TPID_CUSTOMER => snapshot.link_of(packet.device, tag.vid()),
        Some(_) => None,
    }
}

/// Checks a frame that was received on `link`. `Err` if it is for the controller, invalid, or not for this engine as
/// far as its role goes.
pub(super) fn check_frame<'f>(
    bytes: &'f mut [u8],
    offload: &Offload,
    link: LinkId,
    snapshot: &Snapshot,
    permission: Permission,
) -> Result<CheckedFrame<'f>, PacketOutcome> {
    let frame = Frame::parse(bytes, offload).map_err(|malformed| PacketOutcome::Drop(malformed.into()))?;
    if let Some(reason) = mac_fault(&frame, &snapshot.links[link.index()], permission) {
        return Err(PacketOutcome::Drop(reason));
    }
    match frame.kind() {
        FrameKind::Ip => check_ip(frame, link, snapshot, permission),
        FrameKind::Arp => Err(PacketOutcome::Punt(PuntReason::Neighbor)),
        FrameKind::Llc => Err(PacketOutcome::Drop(DropReason::LinkControl)),
        FrameKind::Other(_) => Err(PacketOutcome::Drop(DropReason::EtherType)),
    }
}

/// What is wrong with the MAC addresses of a frame.
#[inline]
pub(super) fn mac_fault(frame: &Frame<'_>, link: &Link, permission: Permission) -> Option<DropReason> {
    let (source, destination) = (frame.source_mac(), frame.destination_mac());
    if source.is_multicast() || source.is_zero() {
        Some(DropReason::BadSourceMac)
    } else if is_link_control(destination) {
        Some(DropReason::LinkControl)
    } else if destination != link.mac && !destination.is_multicast() {
        let is_virtual = link.router_macs.contains(&destination);
        if is_virtual { permission.refusal() } else { Some(DropReason::OtherHost) }
    } else {
        None
    }
}

/// True for 01-80-C2-00-00-00 to -0F, which no bridge forwards (IEEE 802.1Q section 8.6.3).
fn is_link_control(mac: MacAddr) -> bool {
    matches!(mac.0, [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00..=0x0f])
}

fn check_ip<'f>(
    frame: Frame<'f>,
    link: LinkId,
    snapshot: &Snapshot,
    permission: Permission,
) -> Result<CheckedFrame<'f>, PacketOutcome> {
    let destination = frame.destination();
    // Nodes hear each other on links of firewalls, too, which are none themselves.
    if snapshot.role.is_some() && is_cluster_message(&frame, snapshot) {
        return Err(PacketOutcome::Punt(PuntReason::Cluster));
    }
    let is_local = || snapshot.own_addresses.contains(&destination);
    let icmp = frame.icmp();
    if icmp == Some(IcmpClass::LinkLocal) {
        // A neighbour that knows the MAC address of a VIP checks by unicast whether it is still valid (RFC 4861 section
        // 7.3.3).
        return if is_local() || destination.is_multicast() || snapshot.service_addresses.contains(&destination) {
            Err(PacketOutcome::Punt(PuntReason::Neighbor))
        } else {
            Err(PacketOutcome::Drop(DropReason::LinkLocal))
        };
    }
    let arrival = arrived_from(&frame, link, snapshot);
    if arrival.is_none() && !is_local() {
        return Err(PacketOutcome::Drop(DropReason::UnknownFirewall));
    }
    let addressee = classify_addresses(&frame.tuple().into(), snapshot).map_err(PacketOutcome::Drop)?;
    if permission != Permission::Router
        && let Some(outcome) = refuse_passive(addressee, destination, permission, snapshot)
    {
        return Err(outcome);
    }
    let is_to_group = frame.destination_mac().is_multicast();
    match (addressee, arrival) {
        (Addressee::Engine, None) => Err(PacketOutcome::Punt(PuntReason::Local)),
        (Addressee::Engine, Some(_)) if is_to_group || !may_have_a_session(&frame, icmp, snapshot) => {
            Err(PacketOutcome::Punt(PuntReason::Local))
        }
        // A unicast packet in a group-addressed frame is dropped (RFC 1812 section 5.3.4).
        (Addressee::Service | Addressee::Other, _) if is_to_group => Err(PacketOutcome::Drop(DropReason::Multicast)),
        (Addressee::Other, _) if frame.ttl() <= 1 => Err(PacketOutcome::Drop(DropReason::TtlExpired)),
        (Addressee::Service | Addressee::Other, None) => Err(PacketOutcome::Drop(DropReason::UnknownFirewall)),
        (Addressee::Engine | Addressee::Service | Addressee::Other, Some(arrival)) => {
            Ok(CheckedFrame { frame, arrival, icmp, addressee })
        }
    }
}

/// What becomes of a packet at a node that is not the router; `None` if it is forwarded all the same.
#[cold]
#[inline(never)]
fn refuse_passive(
    addressee: Addressee,
    destination: IpAddr,
    permission: Permission,
    snapshot: &Snapshot,
) -> Option<PacketOutcome> {
    let reason = permission.refusal()?;
    let is_own = is_to_own_address(addressee, destination, snapshot);
    Some(if is_own { PacketOutcome::Punt(PuntReason::Local) } else { PacketOutcome::Drop(reason) })
}

/// True for a packet to an own address of this node, which answers there as a host whether it is active or not.
pub(crate) fn is_to_own_address(addressee: Addressee, destination: IpAddr, snapshot: &Snapshot) -> bool {
    addressee == Addressee::Engine && !snapshot.floating_addresses.contains(&destination)
}

/// True for VRRP, and for datagrams between the nodes of a cluster, to their groups or to this node's own address.
#[inline(never)]
fn is_cluster_message(frame: &Frame<'_>, snapshot: &Snapshot) -> bool {
    let is_for_nodes = match frame.protocol() {
        vrrp::PROTOCOL => true,
        protocol::UDP => !frame.is_fragment() && frame.tuple().destination_port == ha::PORT,
        _ => false,
    };
    let destination = frame.destination();
    let is_own =
        || snapshot.own_addresses.contains(&destination) && !snapshot.floating_addresses.contains(&destination);
    is_for_nodes && (destination == vrrp::group(frame.family()) || is_own())
}

/// True if a packet to an address of the engine may belong to a flow of mode `full-nat`, whose source address that is,
/// or is an ICMP error about such a flow.
fn may_have_a_session(frame: &Frame<'_>, icmp: Option<IcmpClass>, snapshot: &Snapshot) -> bool {
    let is_translated = |number: u8| matches!(number, protocol::TCP | protocol::UDP);
    let about = match icmp {
        Some(IcmpClass::Error(quoted)) => {
            is_tunnel_error(icmp) || quoted.is_some_and(|quoted| is_translated(quoted.protocol))
        }
        Some(IcmpClass::Query | IcmpClass::Other | IcmpClass::LinkLocal) => false,
        None => is_translated(frame.protocol()),
    };
    about && !snapshot.services.all().is_empty()
}

/// True for an ICMP error about an IP-in-IP packet.
pub(super) fn is_tunnel_error(icmp: Option<IcmpClass>) -> bool {
    match icmp {
        Some(IcmpClass::Error(Some(quoted))) => matches!(quoted.protocol, protocol::IPV4 | protocol::IPV6),
        Some(IcmpClass::Error(None) | IcmpClass::Query | IcmpClass::Other | IcmpClass::LinkLocal) | None => false,
    }
}

/// Who a packet is addressed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Addressee {
    /// This engine, which may be the source address of `full-nat` flows.
    Engine,
    /// A VIP or `snat` address of a service.
    Service,
    /// Any other station.
    Other,
}

/// Checks the IP addresses of a packet.
#[inline(always)]
pub(crate) fn classify_addresses(flow: &FlowKey, snapshot: &Snapshot) -> Result<Addressee, DropReason> {
    let (source, destination) = (flow.source.address, flow.destination.address);
    if flow.source == flow.destination {
        return Err(DropReason::Land);
    }
    if is_martian(source) || snapshot.own_addresses.contains(&source) {
        return Err(DropReason::MartianSource);
    }
    if snapshot.own_addresses.contains(&destination) {
        return Ok(Addressee::Engine);
    }
    if snapshot.service_addresses.contains(&destination) {
        return Ok(Addressee::Service);
    }
    if is_multicast(destination) {
        return Err(DropReason::Multicast);
    }
    if is_martian(destination) {
        return Err(DropReason::MartianDestination);
    }
    // Routers do not forward link-local addresses (RFC 3927 section 7, RFC 4291 section 2.5.6).
    if is_link_local(source) || is_link_local(destination) {
        return Err(DropReason::LinkLocal);
    }
    Ok(Addressee::Other)
}

/// Where a packet came from. `None` on a link of firewalls if the frame is from none of them.
#[inline]
pub(super) fn arrived_from(frame: &Frame<'_>, link: LinkId, snapshot: &Snapshot) -> Option<Arrival> {
    if !snapshot.links[link.index()].has_firewalls {
        return Some(Arrival::Near);
    }
    snapshot.firewall_at(link, frame.source_mac()).map(Arrival::Firewall)
}

/// True for multicast and for the limited broadcast address.
#[inline]
fn is_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// True for an address that no packet may have as a unicast address (RFC 6890; rule A4.4 of `docs/protocols.md`).
#[inline]
fn is_martian(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => matches!(address.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(address) => {
            address == Ipv6Addr::UNSPECIFIED
                || address == Ipv6Addr::LOCALHOST
                || address.is_multicast()
                || address.to_ipv4_mapped().is_some()
        }
    }
}

#[inline]
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::EthernetTruncated => Self::EthernetTruncated,
            Malformed::IpHeader => Self::IpHeader,
            Malformed::IpVersion => Self::IpVersion,
            Malformed::IpLength => Self::IpLength,
            Malformed::IpChecksum => Self::IpChecksum,
            Malformed::SourceRoute => Self::SourceRoute,
            Malformed::Transport => Self::Transport,
            Malformed::TinyFragment => Self::TinyFragment,
            Malformed::IcmpChecksum => Self::IcmpChecksum,
        }
    }
}
