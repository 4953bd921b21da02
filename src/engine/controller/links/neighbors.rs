//! ARP and neighbour discovery on the wire: what is heard, what is asked, what is answered.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Controller;
use super::exchange::NEXT_HOP_SILENT;
use super::tally::Tally;
use crate::config::RouteTarget;
use crate::engine::route::Target;
use crate::engine::verdict::{Punt, Transmit};
use crate::id::LinkId;
use crate::neighbor::{Action, Heard, Key, Source};
use crate::time::Instant;
use crate::wire::MacAddr;
use crate::wire::arp::{self, Arp, Operation};
use crate::wire::frame::ETHERNET_LEN;
use crate::wire::icmp::ErrorKind;
use crate::wire::mld::{self, Report};
use crate::wire::ndp::{self, Ndp};
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;

const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];

/// A frame that waits for its neighbour: complete but for the destination's hardware address.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    /// By which link it is to leave.
    pub(super) link: LinkId,
    pub(super) vlan: Option<VlanTag>,
    pub(super) offload: Offload,
    pub(super) bytes: Vec<u8>,
    /// Where it came from: the link, and who sent it there.
    pub(super) back: Option<(LinkId, MacAddr)>,
    /// What it was before a service changed it.
    pub(super) original: Option<Vec<u8>>,
    /// The exchange that it belongs to, if the engine made it.
    pub(super) request: Option<u64>,
}

impl Controller {
    /// Firewalls, gateways, and servers on a link are resolved for ever: a check never waits for a neighbour that is there. A
    /// firewall keeps its last hardware address while it does not answer, since its paths are judged by probes.
    pub(super) fn keep_configured_neighbors(&mut self, now: Instant) {
        let mut wanted = BTreeMap::new();
        for id in self.config.server_ids() {
            for address in &self.config.servers[id.index()].addresses {
                if let Some(Target::Connected(link)) = self.routes.lookup(*address) {
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
        self.neighbors.keep_only(&wanted, now);
    }

    /// ARP, neighbour discovery, or another link-local matter.
    pub(super) fn neighbor_frame(&mut self, punt: &Punt, now: Instant) {
        if punt.bytes.get(12..ETHERNET_LEN) == Some(&ETHERTYPE_ARP) {
            match Arp::parse(&punt.bytes) {
                Ok(arp) => self.arp(punt.link, &arp, now),
                Err(_) => self.tallies.add(Tally::InvalidArp),
            }
            return;
        }
        match Ndp::parse(&punt.bytes) {
            Ok(Ndp::Solicitation { source, target, source_mac }) => {
                let sender = source_mac.unwrap_or_else(|| sender_of(&punt.bytes));
                self.solicitation(punt.link, source, target, source_mac, sender, now);
            }
            Ok(Ndp::Advertisement { target, target_mac, solicited, overrides }) => {
                self.advertisement(punt.link, target, target_mac, solicited, overrides, now);
            }
            Err(ndp::InvalidNdp::Kind) if mld::is_query(&punt.bytes) => self.report_groups(punt.link),
            Err(ndp::InvalidNdp::Kind) => self.tallies.add(Tally::Ignored),
            Err(_) => self.tallies.add(Tally::InvalidNdp),
        }
    }

    /// Does what the table wants.
    pub(super) fn run_neighbor_actions(&mut self, now: Instant) {
        while let Some(action) = self.neighbors.poll_action() {
            match action {
                Action::Ask { key, known } => self.ask(key, known),
                Action::Send { mac, frame } => self.release(mac, frame, now),
                Action::Unreachable { frame } => self.unreachable(&frame, now),
                Action::Moved { key, from, to } => self.tell_moved(key, from, to),
                Action::Stayed { key, at, claimed } => self.tell_stayed(key, at, claimed, now),
            }
        }
        if self.neighbors.take_changed() {
            self.publish = true;
            self.judge = true;
        }
    }

    fn arp(&mut self, link: LinkId, arp: &Arp, now: Instant) {
        let state = &self.links[link.index()];
        let sender = IpAddr::V4(arp.sender);
        let to_us = state.has(IpAddr::V4(arp.target));
        let mac = state.mac;
        if !arp.is_probe() {
            if state.has(sender) {
                if arp.sender_mac != mac {
                    self.conflict(link, sender, arp.sender_mac, now);
                }
                return;
            }
            if !state.is_on_link(sender) && self.neighbors.state((link, sender)).is_none() {
                self.tallies.add(Tally::OffLink);
                return;
            }
            let heard = match arp.operation {
                Operation::Reply if to_us => Heard::Answer,
                Operation::Request if to_us => Heard::Question,
                Operation::Reply | Operation::Request => Heard::Announcement,
            };
            self.neighbors.heard((link, sender), arp.sender_mac, heard, now);
        }
        if to_us && arp.operation == Operation::Request {
            self.send(link, arp::reply(mac, arp));
        }
    }

    fn solicitation(
        &mut self,
        link: LinkId,
        source: Ipv6Addr,
        target: Ipv6Addr,
        source_mac: Option<MacAddr>,
        sender: MacAddr,
        now: Instant,
    ) {
        let state = &self.links[link.index()];
        let to_us = state.has(IpAddr::V6(target));
        let mac = state.mac;
        if !source.is_unspecified() {
            if state.has(IpAddr::V6(source)) {
                if sender != mac {
                    self.conflict(link, IpAddr::V6(source), sender, now);
                }
                return;
            }
            if !state.is_on_link(IpAddr::V6(source)) {
                self.tallies.add(Tally::OffLink);
                return;
            }
            let heard = if to_us { Heard::Question } else { Heard::Announcement };
            if let Some(source_mac) = source_mac {
                self.neighbors.heard((link, IpAddr::V6(source)), source_mac, heard, now);
            }
        }
        if to_us && !sender.is_group() && !sender.is_zero() {
            self.send(link, ndp::advertisement(mac, target, source, sender));
        }
    }

    fn advertisement(
        &mut self,
        link: LinkId,
        target: Ipv6Addr,
        target_mac: Option<MacAddr>,
        solicited: bool,
        overrides: bool,
        now: Instant,
    ) {
        let key = (link, IpAddr::V6(target));
        let state = &self.links[link.index()];
        if state.has(key.1) {
            if let Some(mac) = target_mac.filter(|mac| *mac != state.mac) {
                self.conflict(link, key.1, mac, now);
            }
            return;
        }
        let known = self.neighbors.last_mac(key);
        // An answer to a unicast solicitation need not repeat the address (RFC 4861 section 4.4).
        let Some(mac) = target_mac.or(known) else { return };
        let replaces = known.is_some_and(|known| known != mac);
        if replaces && !overrides {
            return;
        }
        let heard = if solicited { Heard::Answer } else { Heard::Announcement };
        self.neighbors.heard(key, mac, heard, now);
    }

    fn report_groups(&mut self, link: LinkId) {
        let state = &self.links[link.index()];
        let groups = self.solicited_groups(link);
        let frame = mld::report(state.mac, state.link_local(), &groups, Report::Asked);
        self.send(link, frame);
    }

    fn ask(&mut self, (link, address): Key, known: Option<MacAddr>) {
        let state = &self.links[link.index()];
        if !state.up {
            return;
        }
        let mac = state.mac;
        let frame = match (address, state.source_for(address)) {
            (IpAddr::V4(target), Some(IpAddr::V4(source))) => arp::request(mac, source, target, known),
            // Without an address of its own a station asks as in a probe (RFC 5227): the answer comes all the same.
            (IpAddr::V4(target), _) => arp::request(mac, Ipv4Addr::UNSPECIFIED, target, known),
            (IpAddr::V6(target), Some(IpAddr::V6(source))) => ndp::solicitation(mac, source, target, known),
            (IpAddr::V6(target), _) => ndp::solicitation(mac, state.link_local(), target, known),
        };
        self.send(link, frame);
    }

    fn release(&mut self, mac: MacAddr, mut frame: Waiting, now: Instant) {
        let Some(destination) = frame.bytes.get_mut(..6) else { return };
        destination.copy_from_slice(&mac.0);
        if let Some(request) = frame.request {
            self.note_resolved(request, mac, now);
        }
        let link = frame.link;
        self.tallies.add(Tally::FramesSent);
        self.transmits.push_back(Transmit { link, vlan: frame.vlan, offload: frame.offload, bytes: frame.bytes });
    }

    fn unreachable(&mut self, frame: &Waiting, now: Instant) {
        if let Some(request) = frame.request {
            self.end_exchange(request, false, Some(NEXT_HOP_SILENT.to_owned()), None);
        }
        let Some((link, sender)) = frame.back else { return };
        let mut bytes = frame.original.as_ref().unwrap_or(&frame.bytes).clone();
        let Some(macs) = bytes.get_mut(..12) else { return };
        macs[..6].copy_from_slice(&self.links[link.index()].mac.0);
        macs[6..].copy_from_slice(&sender.0);
        self.icmp_error(ErrorKind::HostUnreachable, link, &bytes, now);
    }
}

/// Who asks for a neighbour: the sender of the packet as it came.
pub(super) fn source_of(punt: &Punt) -> Source {
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
    address.map_or(Source::ENGINE, |address| Source::of(punt.link, address))
}

/// Source hardware address; the frame was parsed.
fn sender_of(frame: &[u8]) -> MacAddr {
    let mut mac = [0; 6];
    mac.copy_from_slice(&frame[6..12]);
    MacAddr(mac)
}
