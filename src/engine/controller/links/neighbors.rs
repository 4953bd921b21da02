//! ARP and neighbour discovery on the wire: messages that are received, requests that are sent, and replies.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::outbox::{Notice, Outbox};
use super::super::tally::Tally;
use super::Links;
use crate::config::RouteTarget;
use crate::engine::route::FibEntry;
use crate::engine::verdict::{Punt, Transmit};
use crate::id::LinkId;
use crate::neighbor::{NeighborAction, NeighborKey, NeighborMessage, RequestSource};
use crate::time::Instant;
use crate::wire::MacAddr;
use crate::wire::arp::{self, Arp, Operation};
use crate::wire::frame::ETHERNET_LEN;
use crate::wire::icmp::ErrorKind;
use crate::wire::mld::{self, ReportReason};
use crate::wire::ndp::{self, Ndp};
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;

const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];

/// A frame that waits for its neighbour: it is complete except for the destination MAC address.
#[derive(Debug, Clone)]
pub(in super::super) struct QueuedFrame {
    /// The link that it will be sent on.
    pub(super) link: LinkId,
    pub(super) vlan: Option<VlanTag>,
    pub(super) offload: Offload,
    pub(super) bytes: Vec<u8>,
    /// The link that it was received on, and the station that sent it; `None` if the engine made it.
    pub(super) sender: Option<(LinkId, MacAddr)>,
    /// The packet as it was before a service changed it, if one did.
    pub(super) original: Option<Vec<u8>>,
    /// The request of an operator that it belongs to, if there is one.
    pub(super) request: Option<u64>,
}

impl Links {
    /// Keeps firewalls, gateways and on-link servers resolved for good, so that a check never waits for a neighbour
    /// that is there. A firewall keeps its last MAC address while it does not answer, because its paths are evaluated
    /// by probes. On links with `unicast` the other nodes are kept resolved, too, but are none of the neighbours that
    /// [`Links::ask_neighbors`] asks: it is about stations outside the cluster.
    pub(super) fn pin_configured_neighbors(&mut self, now: Instant) {
        let mut wanted = BTreeMap::new();
        for id in self.config.server_ids() {
            for address in &self.config.servers[id.index()].addresses {
                if let Some(FibEntry::Connected(link)) = self.routes.lookup(*address) {
                    wanted.insert((link, *address), false);
                }
            }
        }
        for route in &self.config.routes {
            let gateway = match route.target {
                RouteTarget::Via { link, via } => Some((link, via)),
                RouteTarget::Group { bypass, .. } => bypass,
            };
            wanted.extend(gateway.map(|key| (key, false)));
        }
        for id in self.config.firewall_ids() {
            let firewall = &self.config.firewalls[id.index()];
            wanted.extend(firewall.addresses.iter().map(|address| ((firewall.link, *address), true)));
        }
        self.configured_neighbors = wanted.keys().copied().collect();
        for key in self.config.unicast_nodes() {
            wanted.entry(key).or_insert(false);
        }
        self.neighbors.set_kept(&wanted, now);
    }

    /// Queues a packet until its next hop is resolved. `sender` is the station that sent it to the engine.
    pub(super) fn queue_for_neighbor(&mut self, neighbor: NeighborKey, sender: MacAddr, punt: Punt, now: Instant) {
        let (back, source) = (Some((punt.link, sender)), request_source(&punt));
        let Punt { vlan, offload, bytes, original, .. } = punt;
        let waiting = QueuedFrame { link: neighbor.0, vlan, offload, bytes, sender: back, original, request: None };
        self.neighbors.send_or_queue(neighbor, source, waiting, now);
    }

    /// Takes a frame of ARP, of neighbour discovery, or of another protocol that stays on the link.
    pub(super) fn handle_neighbor_frame(&mut self, punt: &Punt, now: Instant, out: &mut Outbox) {
        if punt.bytes.get(12..ETHERNET_LEN) == Some(&ETHERTYPE_ARP) {
            match Arp::parse(&punt.bytes) {
                Ok(arp) => self.handle_arp(punt.link, &arp, now, out),
                Err(_) => out.count(Tally::InvalidArp),
            }
            return;
        }
        match Ndp::parse(&punt.bytes) {
            Ok(Ndp::Solicitation { source, target, source_mac }) => {
                let sender = source_mac.unwrap_or_else(|| ethernet_source(&punt.bytes));
                self.handle_solicitation(punt.link, (source, target), source_mac, sender, now, out);
            }
            Ok(Ndp::Advertisement { target, target_mac, solicited, overrides }) => {
                self.handle_advertisement((punt.link, target), target_mac, solicited, overrides, now, out);
            }
            Err(ndp::InvalidNdp::Kind) if mld::is_query(&punt.bytes) => {
                self.report_groups(punt.link, ReportReason::Queried, out);
            }
            Err(ndp::InvalidNdp::Kind) => out.count(Tally::Ignored),
            Err(_) => out.count(Tally::InvalidNdp),
        }
    }

    /// Carries out the actions of the neighbour table.
    pub(in super::super) fn run_neighbor_actions(&mut self, now: Instant, out: &mut Outbox) {
        while let Some(action) = self.neighbors.poll_action() {
            match action {
                NeighborAction::Request { key, known } => self.send_neighbor_request(key, known, out),
                NeighborAction::Send { mac, frame } => self.send_queued(mac, frame, out),
                NeighborAction::Unreachable { frame } => self.drop_unreachable(&frame, now, out),
                NeighborAction::Moved { key, from, to } => self.report_moved(key, from, to, out),
                NeighborAction::Stayed { key, at, claimed } => self.report_refused_claim(key, at, claimed, now, out),
            }
        }
        if self.neighbors.take_changed() {
            out.publish();
            out.notify(Notice::NeighborsChanged);
        }
    }

    fn handle_arp(&mut self, link: LinkId, arp: &Arp, now: Instant, out: &mut Outbox) {
        let state = &self.states[link.index()];
        let sender = IpAddr::V4(arp.sender);
        let to_us = state.answers_for(IpAddr::V4(arp.target));
        let mac = state.mac_of(IpAddr::V4(arp.target));
        // What the active node says about its floating addresses is no conflict.
        if !arp.is_probe() && !state.is_elsewhere(sender) {
            if state.answers_for(sender) {
                if arp.sender_mac != state.mac_of(sender) {
                    self.handle_conflict(link, sender, arp.sender_mac, now, out);
                }
                return;
            }
            if !state.is_on_link(sender) && self.neighbors.state((link, sender)).is_none() {
                out.count(Tally::OffLink);
                return;
            }
            let heard = match arp.operation {
                Operation::Reply if to_us => NeighborMessage::Reply,
                Operation::Request if to_us => NeighborMessage::Request,
                Operation::Reply | Operation::Request => NeighborMessage::Announcement,
            };
            self.neighbors.handle_message((link, sender), arp.sender_mac, heard, now);
        }
        if to_us && arp.operation == Operation::Request {
            self.send(link, arp::reply(mac, arp), out);
        }
    }

    fn handle_solicitation(
        &mut self,
        link: LinkId,
        (source, target): (Ipv6Addr, Ipv6Addr),
        source_mac: Option<MacAddr>,
        sender: MacAddr,
        now: Instant,
        out: &mut Outbox,
    ) {
        let state = &self.states[link.index()];
        let to_us = state.answers_for(IpAddr::V6(target));
        let mac = state.mac_of(IpAddr::V6(target));
        if !source.is_unspecified() && !state.is_elsewhere(IpAddr::V6(source)) {
            if state.answers_for(IpAddr::V6(source)) {
                if sender != state.mac_of(IpAddr::V6(source)) {
                    self.handle_conflict(link, IpAddr::V6(source), sender, now, out);
                }
                return;
            }
            if !state.is_on_link(IpAddr::V6(source)) {
                out.count(Tally::OffLink);
                return;
            }
            let heard = if to_us { NeighborMessage::Request } else { NeighborMessage::Announcement };
            if let Some(source_mac) = source_mac {
                self.neighbors.handle_message((link, IpAddr::V6(source)), source_mac, heard, now);
            }
        }
        if to_us && !sender.is_multicast() && !sender.is_zero() {
            self.send(link, ndp::advertisement(mac, target, source, sender), out);
        }
    }

    fn handle_advertisement(
        &mut self,
        (link, target): (LinkId, Ipv6Addr),
        target_mac: Option<MacAddr>,
        solicited: bool,
        overrides: bool,
        now: Instant,
        out: &mut Outbox,
    ) {
        let key = (link, IpAddr::V6(target));
        let state = &self.states[link.index()];
        if state.answers_for(key.1) {
            if let Some(mac) = target_mac.filter(|mac| *mac != state.mac_of(key.1)) {
                self.handle_conflict(link, key.1, mac, now, out);
            }
            return;
        }
        if state.is_elsewhere(key.1) {
            return;
        }
        let known = self.neighbors.last_mac(key);
        // A reply to a unicast solicitation need not repeat the address (RFC 4861 section 4.4).
        let Some(mac) = target_mac.or(known) else { return };
        let replaces = known.is_some_and(|known| known != mac);
        if replaces && !overrides {
            return;
        }
        let heard = if solicited { NeighborMessage::Reply } else { NeighborMessage::Announcement };
        self.neighbors.handle_message(key, mac, heard, now);
    }

    fn send_neighbor_request(&mut self, (link, address): NeighborKey, known: Option<MacAddr>, out: &mut Outbox) {
        let state = &self.states[link.index()];
        if !state.up {
            return;
        }
        let source = state.source_for(address);
        let mac = source.map_or(state.mac, |source| state.mac_of(source));
        let frame = match (address, source) {
            (IpAddr::V4(target), Some(IpAddr::V4(source))) => arp::request(mac, source, target, known),
            // Without an address of its own a station sends a request like a probe (RFC 5227), which is answered all
            // the same.
            (IpAddr::V4(target), _) => arp::request(mac, Ipv4Addr::UNSPECIFIED, target, known),
            (IpAddr::V6(target), Some(IpAddr::V6(source))) => ndp::solicitation(mac, source, target, known),
            (IpAddr::V6(target), _) => ndp::solicitation(mac, state.link_local(), target, known),
        };
        self.send(link, frame, out);
    }

    /// Sends a frame that waited for its neighbour, which has this MAC address. A packet of others is dropped by a node
    /// that is not active any more.
    fn send_queued(&mut self, mac: MacAddr, mut frame: QueuedFrame, out: &mut Outbox) {
        if frame.sender.is_some() && !self.is_router {
            out.count(Tally::Ignored);
            return;
        }
        let Some(destination) = frame.bytes.get_mut(..6) else { return };
        destination.copy_from_slice(&mac.0);
        if let Some(request) = frame.request {
            out.notify(Notice::NextHopFound { request, mac });
        }
        let QueuedFrame { link, vlan, offload, bytes, .. } = frame;
        out.transmit(Transmit { link, vlan, offload, bytes });
    }

    /// Drops a frame whose neighbour does not answer.
    fn drop_unreachable(&mut self, frame: &QueuedFrame, now: Instant, out: &mut Outbox) {
        if let Some(request) = frame.request {
            out.notify(Notice::NextHopSilent { request });
        }
        let Some((link, sender)) = frame.sender else { return };
        let mut bytes = frame.original.as_ref().unwrap_or(&frame.bytes).clone();
        let Some(macs) = bytes.get_mut(..12) else { return };
        macs[..6].copy_from_slice(&self.states[link.index()].mac.0);
        macs[6..].copy_from_slice(&sender.0);
        self.icmp_error(ErrorKind::HostUnreachable, link, &bytes, now, out);
    }
}

/// The source on whose behalf a neighbour is queried: that of the packet as it was received.
fn request_source(punt: &Punt) -> RequestSource {
    let bytes = punt.original.as_ref().unwrap_or(&punt.bytes);
    let address = match bytes.get(12..ETHERNET_LEN) {
        Some([0x08, 0x00]) => {
            bytes.get(26..30).and_then(|octets| octets.first_chunk::<4>()).map(|octets| (*octets).into())
        }
        Some([0x86, 0xdd]) => {
            bytes.get(22..38).and_then(|octets| octets.first_chunk::<16>()).map(|octets| (*octets).into())
        }
        Some(_) | None => None,
    };
    address.map_or(RequestSource::ENGINE, |address| RequestSource::of(punt.link, address))
}

/// The source MAC address of a frame that was parsed, so that it is long enough.
fn ethernet_source(frame: &[u8]) -> MacAddr {
    let mut mac = [0; 6];
    mac.copy_from_slice(&frame[6..12]);
    MacAddr(mac)
}
