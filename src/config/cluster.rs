//! Makes the configuration of the role machine from `[ha]` and from what the links say about it.

use std::hash::Hasher;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::config::fact::Value;
use crate::config::sections::{Section, sections};
use crate::config::{
    Config, FloatingMac, ForwardingMode, Ha, Link, PortSharing, RouteTarget, SessionCopying, is_removed,
};
use crate::ha::settings::SECTIONS;
use crate::ha::{HaConfig, LegConfig, NodeId, NodeKind};
use crate::id::LinkId;
use crate::nat::ports_of_node;

impl Ha {
    /// The nodes that run this program.
    fn engines(&self) -> impl Iterator<Item = NodeId> + '_ {
        let nodes = self.nodes.iter().enumerate().filter(|(_, node)| node.kind == NodeKind::Fwlb);
        nodes.map(|(index, _)| NodeId(index as u8))
    }
}

impl Config {
    /// The configuration of the role machine: `[ha]` and what the links say about it; `None` without `[ha]`. `program` is the
    /// version of the program.
    pub fn role_machine(&self, program: &str) -> Option<HaConfig> {
        let ha = self.ha.as_ref()?;
        Some(HaConfig {
            me: ha.me,
            nodes: ha.nodes.clone(),
            legs: self.legs().map(|id| self.leg(ha, id, &self.links[id.index()])).collect(),
            interval: ha.advertise,
            preempt: ha.preempt,
            margin: ha.margin,
            damping: ha.damping,
            start_delay: ha.start_delay,
            linger: ha.linger,
            version: ha.version,
            lease: ha.lease,
            digests: self.cluster_digests(),
            program: program.to_owned(),
        })
    }

    /// The other nodes that get copies of sessions, and from which this one gets them.
    pub fn copying_nodes(&self) -> Vec<NodeId> {
        let Some(ha) = self.ha.as_ref().filter(|ha| ha.sessions == SessionCopying::Needed && ha.key.is_some()) else {
            return Vec::new();
        };
        ha.engines().filter(|node| *node != ha.me).collect()
    }

    /// The ports that this engine gives to clients in `full-nat`.
    pub fn source_ports(&self) -> RangeInclusive<u16> {
        let split = self.ha.as_ref().filter(|ha| ha.ports == PortSharing::Split);
        let share = split.and_then(|ha| {
            let place = ha.engines().position(|node| node == ha.me)?;
            Some(ports_of_node(u8::try_from(place).ok()?, u8::try_from(ha.engines().count()).ok()?))
        });
        share.unwrap_or(ports_of_node(0, 1))
    }

    /// The identifier of the virtual router whose MAC addresses a link has; `None` if floating addresses are at the MAC
    /// address of the device.
    pub fn virtual_router(&self, link: &Link) -> Option<u8> {
        let ha = self.ha.as_ref().filter(|ha| ha.mac == FloatingMac::Virtual)?;
        Some(link.vrid.unwrap_or(ha.vrid))
    }

    /// The virtual router identifier of a link, 1..=255; `None` without `[ha]`.
    pub fn vrid(&self, link: LinkId) -> Option<u8> {
        let ha = self.ha.as_ref()?;
        Some(self.links[link.index()].vrid.unwrap_or(ha.vrid))
    }

    /// The links on which nodes hear each other: those with addresses.
    pub fn legs(&self) -> impl Iterator<Item = LinkId> + '_ {
        let is_leg = |link: &Link| !is_removed(&link.name) && !link.addresses.is_empty();
        self.link_ids().filter(move |id| is_leg(&self.links[id.index()]))
    }

    /// The addresses of other nodes that are reached by unicast, with their links: those in a subnet of a link with
    /// `unicast`.
    pub fn unicast_nodes(&self) -> Vec<(LinkId, IpAddr)> {
        let Some(ha) = &self.ha else { return Vec::new() };
        let others = ha.nodes.iter().enumerate().filter(|(index, _)| *index != ha.me.index());
        let addresses: Vec<IpAddr> = others.flat_map(|(_, node)| &node.addresses).copied().collect();
        let links = self.legs().filter(|id| self.links[id.index()].unicast);
        let on_link = |id: LinkId| {
            let subnets = &self.links[id.index()].addresses;
            let is_here = |address: &&IpAddr| subnets.iter().any(|subnet| subnet.contains(*address));
            addresses.iter().filter(is_here).map(|address| (id, *address)).collect::<Vec<_>>()
        };
        links.flat_map(on_link).collect()
    }

    fn leg(&self, ha: &Ha, id: LinkId, link: &Link) -> LegConfig {
        LegConfig {
            name: link.name.clone(),
            link: id,
            own: link.addresses.iter().map(|at| at.addr()).collect(),
            floating: link.floating.clone(),
            vrid: link.vrid.unwrap_or(ha.vrid),
            track: link.track,
            unicast: link.unicast,
            has_neighbors: self.has_neighbors(id),
        }
    }

    /// True if next hops, firewalls or servers are configured on a link.
    fn has_neighbors(&self, id: LinkId) -> bool {
        let is_via = |target: &RouteTarget| match target {
            RouteTarget::Via { link, .. } => *link == id,
            RouteTarget::Group { bypass, .. } => bypass.is_some_and(|(link, _)| link == id),
        };
        let subnets = &self.links[id.index()].addresses;
        let in_subnet = |address| subnets.iter().any(|subnet| subnet.contains(address));
        let serves = |mode| matches!(mode, ForwardingMode::Nat | ForwardingMode::FullNat | ForwardingMode::Direct);
        self.routes.iter().any(|route| is_via(&route.target))
            || self.firewalls.iter().any(|firewall| !is_removed(&firewall.name) && firewall.link == id)
            || self.servers.iter().any(|server| {
                serves(self.services[server.service.index()].mode) && server.addresses.iter().any(in_subnet)
            })
    }

    /// Digests of what should be equal on all nodes, in the order of [`SECTIONS`]. Names of engines and devices, own
    /// addresses, and what concerns one process alone do not count.
    fn cluster_digests(&self) -> [u32; SECTIONS.len()] {
        let mut hashers = [(); SECTIONS.len()].map(|()| siphasher::sip::SipHasher13::new());
        let whole = SECTIONS.len() - 1;
        for section in sections(self) {
            let Some(index) = agreed(&section) else { continue };
            for (key, value) in &section.values {
                if !is_own(&section, key) {
                    let said = match value {
                        Value::Hidden(digest) => format!("{}.{key}={digest:016x}\n", section.subject),
                        value => format!("{}.{key}={:?}\n", section.subject, value.literal()),
                    };
                    hashers[index].write(said.as_bytes());
                    hashers[whole].write(said.as_bytes());
                }
            }
        }
        hashers.map(|hasher| (hasher.finish() >> 32) as u32)
    }
}

/// The place among [`SECTIONS`] of a section on which the nodes of a cluster have to agree; `None` for one that concerns
/// its engine alone.
pub(super) fn agreed(section: &Section) -> Option<usize> {
    let root = section.path.first().map_or("", |(key, _)| *key);
    let root = if root == "limits" { "engine" } else { root };
    SECTIONS.iter().position(|name| *name == root)
}

/// True for a key that differs from node to node, in a section on which they agree.
pub(super) fn is_own(section: &Section, key: &str) -> bool {
    match section.path.first() {
        Some((root, _)) if *root == "engine" => true,
        Some((root, _)) if *root == "link" => matches!(key, "device" | "addresses" | "mac"),
        Some(_) | None => false,
    }
}
