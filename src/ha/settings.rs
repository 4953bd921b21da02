//! What the role machine is configured with.

use std::net::IpAddr;

use crate::id::LinkId;
use crate::time::Duration;
use crate::wire::vrrp;
pub use crate::wire::vrrp::{ADDRESSES_MAX, INTERVAL_MAX, Version as VrrpVersion};
use crate::wire::{Family, MacAddr};

/// The sections of the file whose digests a hello carries.
pub const SECTIONS: [&str; 8] = ["engine", "link", "route", "group", "service", "timeouts", "ha", "file"];
/// The largest number of nodes of a cluster, for which the hello has room.
pub const NODES_MAX: usize = 8;

/// A node, by its place among the `[[ha.node]]` of the file, which is the same on all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u8);

impl NodeId {
    /// Stands for a node that the file has no more, in what happened before.
    pub(super) const GONE: Self = Self(u8::MAX);

    /// The position in the list of nodes.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A leg: this node's access to one link, by its place in [`HaConfig::legs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegId(pub u16);

impl LegId {
    /// The position in the list of legs.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

named_enum! {
    /// What a node runs.
    #[derive(Default)]
    pub enum NodeKind {
        /// This program, which sends sealed hellos.
        #[default]
        Fwlb = "fwlb",
        /// Another VRRP router, such as keepalived.
        Vrrp = "vrrp",
    }
}

named_enum! {
    /// Whether an active node stops forwarding when it has sent nothing for too long.
    #[derive(Default)]
    pub enum Lease {
        /// While another node could take over.
        #[default]
        Auto = "auto",
        /// Always, as other VRRP routers do not say whether they could.
        Always = "always",
    }
}

/// `[[ha.node]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The name of the node, which is that of its engine.
    pub name: String,
    /// What it runs.
    pub kind: NodeKind,
    /// Its base priority, 1..=254.
    pub priority: u8,
    /// Its own addresses, on every link.
    pub addresses: Vec<IpAddr>,
    /// Its address for synchronisation, which is one of the kernel's.
    pub sync: Option<IpAddr>,
}

/// One link as the machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegConfig {
    /// The name of the link.
    pub name: String,
    /// The link.
    pub link: LinkId,
    /// The own addresses of this node on it.
    pub own: Vec<IpAddr>,
    /// The floating addresses on it; for IPv6 a link-local one stands first.
    pub floating: Vec<IpAddr>,
    /// Its virtual router identifier, 1..=255.
    pub vrid: u8,
    /// Whether its loss counts against this node.
    pub track: bool,
    /// Whether advertisements go to the nodes' own addresses instead of the group's.
    pub unicast: bool,
    /// Whether next hops, firewalls or servers are configured on it, which can be asked whether they hear.
    pub has_neighbors: bool,
}

impl LegConfig {
    /// The floating addresses of a family.
    pub fn floating_of(&self, family: Family) -> impl Iterator<Item = IpAddr> + '_ {
        self.floating.iter().copied().filter(move |address| Family::of(*address) == family)
    }

    /// True if the link has floating addresses of the family, which is what advertisements are about.
    pub fn has_floating(&self, family: Family) -> bool {
        self.floating_of(family).next().is_some()
    }

    /// The virtual MAC address of a family (RFC 9568 section 7.3).
    pub const fn virtual_mac(&self, family: Family) -> MacAddr {
        vrrp::virtual_mac(family, self.vrid)
    }

    /// True for a virtual MAC address of the leg, of either family. Those of other virtual routers are other stations'.
    pub fn is_virtual_mac(&self, mac: MacAddr) -> bool {
        [Family::V4, Family::V6].into_iter().any(|family| self.virtual_mac(family) == mac)
    }
}

/// The configuration of the role machine: `[ha]` and what links say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaConfig {
    /// This node.
    pub me: NodeId,
    /// All nodes, this one included, in the order of the file; at most [`NODES_MAX`].
    pub nodes: Vec<NodeConfig>,
    /// The links that have an own or floating address.
    pub legs: Vec<LegConfig>,
    /// The time between two advertisements.
    pub interval: Duration,
    /// How long a ready node of higher priority waits before it gets the role; `None`: it never does.
    pub preempt: Option<Duration>,
    /// By how many points a standby must be better before it gets the role.
    pub margin: u16,
    /// For how long it must be better.
    pub damping: Duration,
    /// How long a node that has just started listens for others.
    pub start_delay: Duration,
    /// How long a node that gave the role away still forwards what arrives.
    pub linger: Duration,
    /// The version of the advertisements.
    pub version: VrrpVersion,
    /// When the lease applies.
    pub lease: Lease,
    /// Digests of the sections of the file that should be equal on all nodes, in the order of [`SECTIONS`].
    pub digests: [u32; SECTIONS.len()],
    /// The version of this program.
    pub program: String,
}

impl HaConfig {
    /// This node's own entry.
    pub fn my_node(&self) -> &NodeConfig {
        &self.nodes[self.me.index()]
    }

    /// The other nodes.
    pub fn others(&self) -> impl Iterator<Item = (NodeId, &NodeConfig)> {
        let nodes = self.nodes.iter().enumerate().map(|(index, node)| (NodeId(index as u8), node));
        nodes.filter(|(id, _)| *id != self.me)
    }

    /// The node with the name and kind of `node`, which is another configuration's.
    pub fn node_like(&self, node: &NodeConfig) -> Option<NodeId> {
        let same = |other: &NodeConfig| other.name == node.name && other.kind == node.kind;
        self.nodes.iter().position(same).map(|index| NodeId(index as u8))
    }

    /// The other node that has this own address.
    pub fn node_at(&self, address: IpAddr) -> Option<NodeId> {
        self.others().find(|(_, node)| node.addresses.contains(&address)).map(|(id, _)| id)
    }

    /// The leg of a link.
    pub fn leg_of(&self, link: LinkId) -> Option<LegId> {
        self.legs.iter().position(|leg| leg.link == link).map(|index| LegId(index as u16))
    }

    /// True if this node has an address for synchronisation.
    pub fn has_sync(&self) -> bool {
        self.my_node().sync.is_some()
    }
}
