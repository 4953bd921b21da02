//! What a frame is, before anything is decided about a flow: whose link, legal bytes, meant for this engine, from a known
//! place, with addresses that may travel.

use std::net::{IpAddr, Ipv6Addr};

use crate::engine::forwarder::decide::Arrival;
use crate::engine::snapshot::Link;
use crate::engine::{DropReason, Packet, PuntReason, Snapshot};
use crate::flow::FlowKey;
use crate::id::LinkId;
use crate::wire::MacAddr;
use crate::wire::frame::{Frame, Icmp, Malformed, Payload};
use crate::wire::offload::Offload;
use crate::wire::vlan::TPID_CUSTOMER;

/// What is to be done with a frame.
#[derive(Debug)]
pub(super) enum Admission<'f> {
    /// An IP packet to be sent on.
    Transit {
        /// The frame.
        frame: Frame<'f>,
        /// Where it came from.
        arrival: Arrival,
        /// What kind of ICMP it is, if it is.
        icmp: Option<Icmp>,
    },
    /// For the controller.
    Punt(PuntReason),
    /// Not for this engine, or not legal.
    Drop(DropReason),
}

/// The link of a received frame.
pub(super) fn link_of(packet: &Packet<'_>, snapshot: &Snapshot) -> Option<LinkId> {
    match packet.vlan {
        None => snapshot.link_of(packet.device, 0),
        Some(tag) if tag.tpid == TPID_CUSTOMER => snapshot.link_of(packet.device, tag.vid()),
        Some(_) => None,
    }
}

/// Judges a frame that came by `link`.
pub(super) fn admit<'f>(bytes: &'f mut [u8], offload: &Offload, link: LinkId, snapshot: &Snapshot) -> Admission<'f> {
    let frame = match Frame::parse(bytes, offload) {
        Ok(frame) => frame,
        Err(malformed) => return Admission::Drop(malformed.into()),
    };
    if let Some(reason) = station_fault(&frame, &snapshot.links[link.index()]) {
        return Admission::Drop(reason);
    }
    match frame.payload() {
        Payload::Ip => admit_ip(frame, link, snapshot),
        Payload::Arp => Admission::Punt(PuntReason::Neighbor),
        Payload::Llc => Admission::Drop(DropReason::LinkControl),
        Payload::Other(_) => Admission::Drop(DropReason::EtherType),
    }
}

/// What is wrong with the hardware addresses.
fn station_fault(frame: &Frame<'_>, link: &Link) -> Option<DropReason> {
    let (source, destination) = (frame.source_mac(), frame.destination_mac());
    if source.is_group() || source.is_zero() {
        Some(DropReason::BadSourceMac)
    } else if is_link_control(destination) {
        Some(DropReason::LinkControl)
    } else if destination != link.mac && !destination.is_group() {
        Some(DropReason::OtherHost)
    } else {
        None
    }
}

/// 01-80-C2-00-00-00 to -0F, which no bridge or router passes on (IEEE 802.1Q section 8.6.3).
fn is_link_control(mac: MacAddr) -> bool {
    matches!(mac.0, [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00..=0x0f])
}

fn admit_ip<'f>(frame: Frame<'f>, link: LinkId, snapshot: &Snapshot) -> Admission<'f> {
    let destination = frame.destination();
    let is_local = snapshot.local.contains_key(&destination);
    let icmp = frame.icmp();
    if icmp == Some(Icmp::LinkLocal) {
        return if is_local || destination.is_multicast() {
            Admission::Punt(PuntReason::Neighbor)
        } else {
            Admission::Drop(DropReason::LinkLocal)
        };
    }
    let arrival = match arrival(&frame, link, snapshot) {
        Some(arrival) => arrival,
        None if is_local => Arrival::Near,
        None => return Admission::Drop(DropReason::UnknownFirewall),
    };
    match judge(&frame.tuple().into(), snapshot) {
        Ok(Addressee::Engine) => return Admission::Punt(PuntReason::Local),
        Ok(Addressee::Other) => {}
        Err(reason) => return Admission::Drop(reason),
    }
    // A unicast packet in a group frame is discarded (RFC 1812 section 5.3.4).
    if frame.destination_mac().is_group() {
        return Admission::Drop(DropReason::Multicast);
    }
    if frame.ttl() <= 1 {
        return Admission::Drop(DropReason::TtlExpired);
    }
    Admission::Transit { frame, arrival, icmp }
}

/// Whom a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Addressee {
    /// This engine.
    Engine,
    /// Somebody beyond it.
    Other,
}

/// What the addresses of a packet say by themselves.
pub(crate) fn judge(flow: &FlowKey, snapshot: &Snapshot) -> Result<Addressee, DropReason> {
    let (source, destination) = (flow.source.address, flow.destination.address);
    if flow.source == flow.destination {
        return Err(DropReason::Land);
    }
    if is_martian(source) || snapshot.local.contains_key(&source) {
        return Err(DropReason::MartianSource);
    }
    if snapshot.local.contains_key(&destination) {
        return Ok(Addressee::Engine);
    }
    if is_multicast(destination) {
        return Err(DropReason::Multicast);
    }
    if is_martian(destination) {
        return Err(DropReason::MartianDestination);
    }
    // A router forwards neither (RFC 3927 section 7, RFC 4291 section 2.5.6).
    if is_link_local(source) || is_link_local(destination) {
        return Err(DropReason::LinkLocal);
    }
    Ok(Addressee::Other)
}

/// Where a packet came from; `None`: from nobody known on a link of firewalls.
fn arrival(frame: &Frame<'_>, link: LinkId, snapshot: &Snapshot) -> Option<Arrival> {
    if !snapshot.links[link.index()].firewalls {
        return Some(Arrival::Near);
    }
    snapshot.firewall_at(link, frame.source_mac()).map(Arrival::Firewall)
}

/// Multicast, or the limited broadcast.
fn is_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// An address that no packet on a wire may carry as a unicast address (RFC 6890, CORRECTNESS A4.4).
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
