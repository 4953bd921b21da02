//! What a frame is, before anything is decided about a flow: whose link, legal bytes, meant for this engine, from a known
//! place, with addresses that may travel.

use std::net::{IpAddr, Ipv6Addr};

use crate::engine::forwarder::decide::Arrival;
use crate::engine::snapshot::Link;
use crate::engine::{DropReason, Packet, PuntReason, Snapshot};
use crate::flow::FlowKey;
use crate::id::LinkId;
use crate::wire::MacAddr;
use crate::wire::frame::{Frame, Icmp, Malformed, Payload, protocol};
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
        /// Whom it is for.
        addressee: Addressee,
    },
    /// For the controller.
    Punt(PuntReason),
    /// Not for this engine, or not legal.
    Drop(DropReason),
}

/// The link of a received frame.
#[inline]
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
#[inline]
pub(super) fn station_fault(frame: &Frame<'_>, link: &Link) -> Option<DropReason> {
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
    let is_local = || snapshot.local.contains(&destination);
    let icmp = frame.icmp();
    if icmp == Some(Icmp::LinkLocal) {
        // A neighbour that knows a virtual address asks by unicast whether it is still there (RFC 4861 section 7.3.3).
        return if is_local() || destination.is_multicast() || snapshot.vips.contains(&destination) {
            Admission::Punt(PuntReason::Neighbor)
        } else {
            Admission::Drop(DropReason::LinkLocal)
        };
    }
    let arrival = arrival(&frame, link, snapshot);
    if arrival.is_none() && !is_local() {
        return Admission::Drop(DropReason::UnknownFirewall);
    }
    let addressee = match judge(&frame.tuple().into(), snapshot) {
        Ok(addressee) => addressee,
        Err(reason) => return Admission::Drop(reason),
    };
    let is_to_group = frame.destination_mac().is_group();
    match (addressee, arrival) {
        (Addressee::Engine, None) => Admission::Punt(PuntReason::Local),
        (Addressee::Engine, Some(_)) if is_to_group || !may_have_a_session(&frame, icmp, snapshot) => {
            Admission::Punt(PuntReason::Local)
        }
        // A unicast packet in a group frame is discarded (RFC 1812 section 5.3.4).
        (Addressee::Service | Addressee::Other, _) if is_to_group => Admission::Drop(DropReason::Multicast),
        (Addressee::Other, _) if frame.ttl() <= 1 => Admission::Drop(DropReason::TtlExpired),
        (Addressee::Service | Addressee::Other, None) => Admission::Drop(DropReason::UnknownFirewall),
        (Addressee::Engine | Addressee::Service | Addressee::Other, Some(arrival)) => {
            Admission::Transit { frame, arrival, icmp, addressee }
        }
    }
}

/// True if a packet to an address of the engine may belong to a translated flow for whose client that address stands, or be
/// an error about one.
fn may_have_a_session(frame: &Frame<'_>, icmp: Option<Icmp>, snapshot: &Snapshot) -> bool {
    let is_translated = |number: u8| matches!(number, protocol::TCP | protocol::UDP);
    let about = match icmp {
        Some(Icmp::Error(quoted)) => {
            is_about_tunnel(icmp) || quoted.is_some_and(|quoted| is_translated(quoted.protocol))
        }
        Some(Icmp::Query | Icmp::Other | Icmp::LinkLocal) => false,
        None => is_translated(frame.protocol()),
    };
    about && !snapshot.services.all().is_empty()
}

/// True for an ICMP error about a packet that has another one inside.
pub(super) fn is_about_tunnel(icmp: Option<Icmp>) -> bool {
    match icmp {
        Some(Icmp::Error(Some(quoted))) => matches!(quoted.protocol, protocol::IPV4 | protocol::IPV6),
        Some(Icmp::Error(None) | Icmp::Query | Icmp::Other | Icmp::LinkLocal) | None => false,
    }
}

/// Whom a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Addressee {
    /// This engine, or a session for whose client its address stands.
    Engine,
    /// A virtual service.
    Service,
    /// Somebody beyond it.
    Other,
}

/// What the addresses of a packet say by themselves.
#[inline(always)]
pub(crate) fn judge(flow: &FlowKey, snapshot: &Snapshot) -> Result<Addressee, DropReason> {
    let (source, destination) = (flow.source.address, flow.destination.address);
    if flow.source == flow.destination {
        return Err(DropReason::Land);
    }
    if is_martian(source) || snapshot.local.contains(&source) {
        return Err(DropReason::MartianSource);
    }
    if snapshot.local.contains(&destination) {
        return Ok(Addressee::Engine);
    }
    if snapshot.vips.contains(&destination) {
        return Ok(Addressee::Service);
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
#[inline]
pub(super) fn arrival(frame: &Frame<'_>, link: LinkId, snapshot: &Snapshot) -> Option<Arrival> {
    if !snapshot.links[link.index()].firewalls {
        return Some(Arrival::Near);
    }
    snapshot.firewall_at(link, frame.source_mac()).map(Arrival::Firewall)
}

/// Multicast, or the limited broadcast.
#[inline]
fn is_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// An address that no packet on a wire may carry as a unicast address (RFC 6890; rule A4.4 of `docs/protocols.md`).
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
