//! The one truth that workers look at: configuration, live sets and neighbours of one instant, under one epoch.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::engine::route::RouteTable;
use crate::id::{DeviceId, FirewallId, GroupId, LinkId};
use crate::path::{Group, PathSet};
use crate::wire::MacAddr;

/// A device and the links on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name in the operating system.
    pub name: String,
    /// The link of untagged frames, if any.
    pub untagged: Option<LinkId>,
    /// The links of tagged frames, by VLAN identifier.
    pub tagged: Vec<(u16, LinkId)>,
}

/// A link as the packet path sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Name.
    pub name: String,
    /// Its device.
    pub device: DeviceId,
    /// Its 802.1Q tag.
    pub vlan: Option<u16>,
    /// Hardware address of the engine on it.
    pub mac: MacAddr,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Carrier is there.
    pub up: bool,
    /// The engine's addresses, IPv6 link-local included.
    pub addresses: Vec<IpNet>,
    /// Firewalls stand on it: a frame from nobody known is dropped.
    pub firewalls: bool,
    /// All that arrives comes from this firewall (`learn-by = "link"`).
    pub learn_all: Option<FirewallId>,
}

/// A firewall as the packet path sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// Name.
    pub name: String,
    /// Its group.
    pub group: GroupId,
    /// Its position in the group: the bit in a path set.
    pub slot: usize,
    /// Its link.
    pub link: LinkId,
    /// Next hop, IPv4.
    pub v4: Option<IpAddr>,
    /// Next hop, IPv6.
    pub v6: Option<IpAddr>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Grows by one with every publication.
    pub epoch: u64,
    /// By [`DeviceId`].
    pub devices: Vec<Device>,
    /// By [`LinkId`].
    pub links: Vec<Link>,
    /// Addresses of the engine itself, all links.
    pub local: HashMap<IpAddr, LinkId, ahash::RandomState>,
    /// Where packets go.
    pub routes: RouteTable,
    /// By [`GroupId`].
    pub groups: Vec<Group>,
    /// By [`crate::id::PathSetId`].
    pub path_sets: Vec<PathSet>,
    /// By [`FirewallId`].
    pub firewalls: Vec<Firewall>,
    /// `learn-by = "mac"`: whose hardware address it is on a firewall link.
    pub learn: HashMap<(LinkId, MacAddr), FirewallId, ahash::RandomState>,
    /// Resolved neighbours.
    pub neighbors: HashMap<(LinkId, IpAddr), MacAddr, ahash::RandomState>,
}
