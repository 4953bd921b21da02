//! The engine on its links: the state of its devices, its neighbours, its addresses, and what it answers as any host
//! does.
//!
//! It sends the frames of the parts above it, and knows none of those parts: what they have to know of links and
//! neighbours it writes as a [`Notice`](super::outbox::Notice). A packet that is addressed to the engine is parsed here
//! ([`ReceivedPacket`]) and offered to the parts above. What none of them takes is answered as by any host (`local`).

mod devices;
mod duplicates;
mod errors;
mod local;
mod neighbors;
mod publish;
mod reassembly;
mod received_packet;
mod takeover;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::outbox::Outbox;
use super::tally::Tally;
use crate::config::Config;
use crate::engine::addresses::AddressSet;
use crate::engine::route::{FibEntry, RouteTable};
use crate::engine::verdict::{Punt, PuntReason, Transmit};
use crate::id::LinkId;
use crate::neighbor::{NeighborKey, NeighborLimits, NeighborTable, RequestSource};
use crate::random::SplitMix64;
use crate::time::Instant;
use crate::wire::emit::{AddressPair, MacPair};
use crate::wire::fragment;
use crate::wire::frame::{ETHERNET_LEN, Frame, FrameKind};
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;
use crate::wire::{Family, MacAddr};

use devices::LinkState;
use errors::AnswerLimits;
use neighbors::QueuedFrame;
use reassembly::Reassembly;
use takeover::Takeover;

pub(super) use received_packet::{PacketContent, ReceivedPacket, read_segment};

/// The links of the engine; see the module documentation.
#[derive(Debug, Clone)]
pub(super) struct Links {
    config: Arc<Config>,
    routes: RouteTable,
    /// By [`LinkId`].
    states: Vec<LinkState>,
    /// The floating and virtual addresses of all links, and the virtual ones that lie in no subnet of a link.
    shared: AddressSet,
    neighbors: NeighborTable<QueuedFrame>,
    limits: AnswerLimits,
    /// Whether this node answers for floating and virtual addresses, and forwards.
    is_router: bool,
    /// The firewalls, gateways and servers on the links, in order of links.
    configured_neighbors: Vec<NeighborKey>,
    takeover: Takeover,
    reassembly: Reassembly,
    random: SplitMix64,
}

impl Links {
    /// All links are down until [`Links::handle_device`] reports otherwise. `random` seeds jitter and identifiers of
    /// fragments.
    pub(super) fn new(config: Arc<Config>, routes: RouteTable, random: u64, now: Instant) -> Self {
        let limits = NeighborLimits { neighbors: config.limits.neighbors, pending: config.limits.pending };
        let virtual_addresses = config.virtual_addresses();
        let mut random = SplitMix64::new(random);
        let mut links = Self {
            states: config.links.iter().map(|link| LinkState::new(link, &config, &virtual_addresses)).collect(),
            shared: devices::shared_addresses(&config, &virtual_addresses),
            neighbors: NeighborTable::new(limits),
            limits: AnswerLimits::new(&mut random, now),
            is_router: config.ha.is_none(),
            configured_neighbors: Vec::new(),
            takeover: Takeover::default(),
            reassembly: Reassembly::default(),
            random,
            routes,
            config,
        };
        links.pin_configured_neighbors(now);
        links
    }

    /// Continues under another configuration. Links that stay keep their state, and neighbours that stay keep their MAC
    /// addresses.
    pub(super) fn reconfigure(&mut self, config: Arc<Config>, routes: RouteTable, now: Instant, out: &mut Outbox) {
        (self.config, self.routes) = (config, routes);
        self.adopt_links(now, out);
        self.pin_configured_neighbors(now);
    }

    /// Takes a frame from a forwarder. Returns it, reassembled, if it is addressed to the engine.
    pub(super) fn handle_punt(&mut self, punt: Punt, now: Instant, out: &mut Outbox) -> Option<Punt> {
        match punt.reason {
            PuntReason::Neighbor => self.handle_neighbor_frame(&punt, now, out),
            PuntReason::Local => return self.reassemble(punt, now, out),
            // These go to the thread of the role machine.
            PuntReason::Cluster => {}
            PuntReason::NeighborWait { link, next_hop, sender } => {
                self.queue_for_neighbor((link, next_hop), sender, punt, now)
            }
            PuntReason::IcmpError(error) => self.icmp_error(error.into(), punt.link, &punt.bytes, now, out),
        }
        None
    }

    /// Repeats neighbour requests, announces the engine's own addresses and probes for duplicates of them, where that
    /// is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        self.neighbors.handle_timeout(now);
        self.announce_links(now, out);
        self.announce_more(now, out);
        self.watch_duplicates(now, out);
    }

    /// When [`Links::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let links = self.states.iter().filter_map(LinkState::poll_timeout);
        links.chain(self.neighbors.poll_timeout()).chain(self.takeover.poll_timeout()).min()
    }

    /// The state of a link.
    pub(super) fn state(&self, link: LinkId) -> &LinkState {
        &self.states[link.index()]
    }

    /// Takes over a neighbour that another program knew.
    pub(super) fn inherit_neighbor(&mut self, key: NeighborKey, mac: MacAddr, number: u32, now: Instant) {
        self.neighbors.inherit(key, mac, number, now);
    }

    /// The neighbour table.
    pub(super) fn neighbors(&self) -> &NeighborTable<QueuedFrame> {
        &self.neighbors
    }

    /// The MAC address from which the engine speaks for `address` on a link: that of the virtual router for floating and
    /// virtual addresses, wherever they lie.
    pub(super) fn mac_of(&self, link: LinkId, address: IpAddr) -> MacAddr {
        let state = self.state(link);
        if self.shared.contains(&address) { state.router_mac(Family::of(address)) } else { state.mac }
    }

    /// The route to `address`.
    pub(super) fn route(&self, address: IpAddr) -> Option<FibEntry> {
        self.routes.lookup(address)
    }

    /// The reason `link fw is down`, if the link is down.
    pub(super) fn down_reason(&self, link: LinkId) -> Option<String> {
        let is_down = !self.state(link).up;
        is_down.then(|| format!("link {} is down", self.config.links[link.index()].name))
    }

    /// The source address of the engine's own packets to `destination` on a link. It is always the link's first address
    /// of the family, so that peers and the rules of firewalls see one source; it is link-local only if `destination`
    /// is.
    pub(super) fn source_address(&self, link: LinkId, destination: IpAddr) -> Option<IpAddr> {
        let state = self.state(link);
        if matches!(destination, IpAddr::V6(address) if address.is_unicast_link_local()) {
            return Some(state.link_local().into());
        }
        let family = Family::of(destination);
        state.addresses.iter().map(IpNet::addr).find(|address| Family::of(*address) == family)
    }

    /// An address of the engine on any link to which stations on every link can reply.
    pub(super) fn any_source_address(&self, family: Family) -> Option<IpAddr> {
        let mut all = self.states.iter().flat_map(|link| &link.addresses).map(IpNet::addr);
        all.find(|address| match address {
            IpAddr::V4(_) => family == Family::V4,
            IpAddr::V6(address) => family == Family::V6 && !address.is_unicast_link_local(),
        })
    }

    /// The MAC addresses of a frame to `destination` by `next_hop`; `None` while that of the next hop is unknown.
    pub(super) fn addresses_to(
        &self,
        link: LinkId,
        next_hop: IpAddr,
        destination: IpAddr,
    ) -> Option<(MacPair, AddressPair)> {
        let macs = MacPair { source: self.state(link).mac, destination: self.neighbors.mac((link, next_hop))? };
        Some((macs, AddressPair::new(self.source_address(link, destination)?, destination)?))
    }

    /// Requests the MAC address of a neighbour once more, from everybody on the link or only from the station that
    /// answered last.
    pub(super) fn request_neighbor(&mut self, neighbor: NeighborKey, everybody: bool) {
        self.neighbors.request(neighbor, everybody);
    }

    /// Sends a frame of the engine's own with the link's tag, and in fragments if it exceeds the link's MTU.
    pub(super) fn send(&mut self, link: LinkId, bytes: Vec<u8>, out: &mut Outbox) {
        if !self.state(link).up {
            out.count(Tally::LinkDown);
            return;
        }
        let vlan = self.tag(link);
        for bytes in self.pieces(link, bytes) {
            out.transmit(Transmit { link, vlan, offload: Offload::NONE, bytes });
        }
    }

    /// Sends a frame of the engine's own to a neighbour as soon as the neighbour's MAC address is known; the
    /// destination MAC address in the frame is ignored. What becomes of a frame that belongs to a `request` of an
    /// operator is reported as a [`Notice`](super::outbox::Notice).
    pub(super) fn send_to(&mut self, neighbor: NeighborKey, bytes: Vec<u8>, request: Option<u64>, now: Instant) {
        let (link, vlan) = (neighbor.0, self.tag(neighbor.0));
        let waiting = QueuedFrame { link, vlan, offload: Offload::NONE, bytes, sender: None, original: None, request };
        self.neighbors.send_or_queue(neighbor, RequestSource::ENGINE, waiting, now);
    }

    fn tag(&self, link: LinkId) -> Option<VlanTag> {
        self.config.links[link.index()].vlan.map(VlanTag::new)
    }

    /// The frame, or its fragments if it exceeds the link's MTU.
    fn pieces(&mut self, link: LinkId, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let mtu = self.state(link).mtu;
        if bytes.len() <= ETHERNET_LEN + usize::from(mtu) {
            return vec![bytes];
        }
        let pieces = match Frame::parse(&mut bytes, &Offload::NONE) {
            Ok(frame) if frame.kind() == FrameKind::Ip => match frame.family() {
                Family::V4 => fragment::split(&frame, None, mtu).unwrap_or_default(),
                Family::V6 => fragment::split_v6(frame.bytes(), mtu, self.random.next_u64() as u32),
            },
            Ok(_) | Err(_) => Vec::new(),
        };
        // A frame that must not be fragmented is left to the device, which refuses and counts it.
        if pieces.is_empty() { vec![bytes] } else { pieces }
    }
}

#[cfg(test)]
mod tests;
