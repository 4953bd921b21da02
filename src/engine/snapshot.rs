//! The state that packet workers read: configuration, path sets and neighbours of one instant, under one epoch. The
//! controller makes snapshots and replaces them as a whole; nothing changes within one.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::engine::addresses::{AddressMap, AddressSet};
use crate::engine::route::RouteTable;
use crate::engine::shared_role::{Permission, SharedRole};
use crate::ha::frame::{Station, Surroundings};
use crate::id::{DeviceId, FirewallId, GroupId, LinkId, PathSetId, ServerId};
use crate::path::liveness::SetKey;
use crate::path::{AdminState, FirewallGroup, PathSet};
use crate::session::SourceLimits;
use crate::slb::Services;
use crate::time::Instant;
use crate::wire::vlan::{TPID_CUSTOMER, VlanTag};
use crate::wire::{Family, MacAddr};

/// A network device and its links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The interface name.
    pub name: String,
    /// The link of untagged frames, if there is one.
    pub untagged: Option<LinkId>,
    /// The links of tagged frames, by VLAN identifier.
    pub tagged: Vec<(u16, LinkId)>,
}

/// A link as the data plane needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The link's name.
    pub name: String,
    /// The device that carries the link.
    pub device: DeviceId,
    /// 802.1Q VLAN identifier; `None` for untagged frames.
    pub vlan: Option<u16>,
    /// The engine's MAC address on the link.
    pub mac: MacAddr,
    /// The MAC addresses from which packets of IPv4 and IPv6 are forwarded: those of the virtual router where the link
    /// has floating addresses, else `mac`.
    pub router_macs: [MacAddr; 2],
    /// The floating addresses of the cluster on the link, which its active node has.
    pub floating: Vec<IpAddr>,
    /// MTU: the largest IP packet, in bytes.
    pub mtu: u16,
    /// True if the device has a carrier and is up.
    pub up: bool,
    /// The engine's addresses with their subnets, the IPv6 link-local address included.
    pub addresses: Vec<IpNet>,
    /// True if firewalls are on the link: a frame from any other station is dropped.
    pub has_firewalls: bool,
    /// With `learn-by = "link"` the firewall that all frames on the link come from.
    pub sole_firewall: Option<FirewallId>,
}

/// A firewall as the data plane needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// The firewall's name.
    pub name: String,
    /// The group that it belongs to.
    pub group: GroupId,
    /// Position in the group, which is its bit in path sets.
    pub slot: usize,
    /// The administrative state in force, which a peer may have ordered. It is informative: the path sets reflect it
    /// already.
    pub admin: AdminState,
    /// The link on which it is a neighbour.
    pub link: LinkId,
    /// Its IPv4 address, the next hop of packets to it.
    pub v4: Option<IpAddr>,
    /// Its IPv6 address, the next hop of packets to it.
    pub v6: Option<IpAddr>,
}

/// Ids that a reload gave to something new, each with the generation of the last reload that did so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReusedIds {
    /// Reused ids of firewalls.
    pub firewalls: BTreeMap<FirewallId, u64>,
    /// Reused ids of servers.
    pub servers: BTreeMap<ServerId, u64>,
}

/// One consistent state of the engine; see the module documentation.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Number of the publication; it grows by one with every snapshot.
    pub epoch: u64,
    /// Number of the configuration; it grows by one with every reload that changes something.
    pub generation: u64,
    /// The ids that reloads have reused. Values that were counted under them before belong to something else.
    pub reused_ids: Arc<ReusedIds>,
    /// The role of this node in its cluster, which changes between snapshots; `None` for an engine that stands alone.
    pub role: Option<Arc<SharedRole>>,
    /// Devices, indexed by [`DeviceId`].
    pub devices: Vec<Device>,
    /// Links, indexed by [`LinkId`].
    pub links: Vec<Link>,
    /// The engine's own addresses on all links.
    pub own_addresses: AddressMap<LinkId>,
    /// The floating addresses, which are among `own_addresses`: of this node only while it is active.
    pub floating_addresses: AddressSet,
    /// The addresses of the other nodes of the cluster.
    pub node_addresses: AddressSet,
    /// The routing table.
    pub routes: RouteTable,
    /// Groups, indexed by [`GroupId`].
    pub groups: Vec<FirewallGroup>,
    /// Path sets, indexed by [`crate::id::PathSetId`].
    pub path_sets: Vec<PathSet>,
    /// What each path set stands for, indexed by [`crate::id::PathSetId`], even if its peer was removed since.
    pub set_keys: Vec<SetKey>,
    /// Firewalls, indexed by [`FirewallId`].
    pub firewalls: Vec<Firewall>,
    /// Names of the peers, indexed by [`crate::id::PeerId`].
    pub peers: Vec<String>,
    /// The firewalls with `learn-by = "mac"`, by link and MAC address.
    pub firewall_macs: HashMap<(LinkId, MacAddr), FirewallId, ahash::RandomState>,
    /// Resolved neighbours: their MAC addresses by link and IP address.
    pub neighbors: HashMap<(LinkId, IpAddr), MacAddr, ahash::RandomState>,
    /// The limits for each source of sessions.
    pub source_limits: SourceLimits,
    /// Virtual services with their servers.
    pub services: Services,
    /// The addresses of all services, and their `snat` addresses. A packet to one of them that belongs to no session
    /// and no service is passed to the controller.
    pub service_addresses: AddressSet,
}

impl Device {
    /// The link of frames with this VLAN identifier. 0 means untagged, perhaps with a priority tag; 4095 is reserved
    /// and never a link (IEEE 802.1Q).
    pub fn link(&self, vid: u16) -> Option<LinkId> {
        match vid {
            0 => self.untagged,
            4095 => None,
            vid => self.tagged.iter().find(|(tag, _)| *tag == vid).map(|(_, link)| *link),
        }
    }
}

impl Link {
    /// The 802.1Q tag of frames that are sent on this link. It keeps the priority and drop-eligible bits of the
    /// received tag. A link without a VLAN sends untagged frames, as an access port does.
    #[inline]
    pub fn egress_tag(&self, received: Option<VlanTag>) -> Option<VlanTag> {
        let vid = self.vlan?;
        Some(match received {
            Some(tag) => VlanTag { tpid: TPID_CUSTOMER, ..tag.with_vid(vid) },
            None => VlanTag::new(vid),
        })
    }

    /// The source MAC address of forwarded packets of a family. A node that gave its role away forwards what still
    /// arrives from its own address, so that switches find the virtual one at its successor.
    #[inline]
    pub fn source_mac(&self, family: Family, permission: Permission) -> MacAddr {
        if permission == Permission::Lingering {
            return self.mac;
        }
        let [v4, v6] = self.router_macs;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// True if `address` is the broadcast address of one of the link's IPv4 subnets (RFC 919; /31 and /32 have none).
    pub fn is_directed_broadcast(&self, address: Ipv4Addr) -> bool {
        self.addresses.iter().any(|subnet| match subnet {
            IpNet::V4(subnet) => subnet.prefix_len() < 31 && subnet.broadcast() == address,
            IpNet::V6(_) => false,
        })
    }
}

impl Firewall {
    /// The next hop of packets of `family` to this firewall.
    pub fn next_hop(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

impl Snapshot {
    /// What this engine may do at `now`: an engine that stands alone is always the router.
    #[inline]
    pub fn permission(&self, now: Instant) -> Permission {
        self.role.as_ref().map_or(Permission::Router, |role| role.at(now))
    }

    /// The link of frames that `device` received with this VLAN identifier (0: untagged).
    #[inline]
    pub fn link_of(&self, device: DeviceId, vid: u16) -> Option<LinkId> {
        self.devices.get(device.index())?.link(vid)
    }

    /// The firewall that a frame comes from, by its link and its source MAC address.
    #[inline]
    pub fn firewall_at(&self, link: LinkId, source: MacAddr) -> Option<FirewallId> {
        match self.links.get(link.index())?.sole_firewall {
            Some(firewall) => Some(firewall),
            None => self.firewall_macs.get(&(link, source)).copied(),
        }
    }

    /// The MAC address of a neighbour, if it is resolved.
    #[inline]
    pub fn neighbor(&self, link: LinkId, address: IpAddr) -> Option<MacAddr> {
        self.neighbors.get(&(link, address)).copied()
    }

    /// False for path sets of a group that a reload removed: sessions that went through it follow the routes.
    #[inline]
    pub fn has_firewalls(&self, set: PathSetId) -> bool {
        !self.groups[self.path_sets[set.index()].group.index()].members.is_empty()
    }

    /// The path set of a group and family whose firewalls are up toward every peer.
    pub fn all_peers_path_set(&self, group: GroupId, family: Family) -> Option<PathSetId> {
        let every = |set: &PathSet| set.group == group && set.family == family && set.peer.is_none();
        self.path_sets.iter().position(every).map(PathSetId::from)
    }
}

impl Surroundings for Snapshot {
    fn station(&self, link: LinkId) -> Option<Station<'_>> {
        let Link { mac, router_macs, addresses, .. } = self.links.get(link.index())?;
        Some(Station { mac: *mac, router_macs: *router_macs, addresses })
    }

    fn neighbor_mac(&self, link: LinkId, address: IpAddr) -> Option<MacAddr> {
        self.neighbor(link, address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlan_zero_is_untagged_and_vlan_4095_is_nothing() {
        let device =
            Device { name: "eth0".into(), untagged: Some(LinkId(0)), tagged: vec![(10, LinkId(1)), (4095, LinkId(2))] };

        assert_eq!(device.link(0), Some(LinkId(0)));
        assert_eq!(device.link(10), Some(LinkId(1)));
        assert_eq!(device.link(11), None);
        assert_eq!(device.link(4095), None);
    }

    #[test]
    fn the_egress_tag_is_the_links_with_the_priority_of_the_packet() {
        let link = |vlan| Link {
            name: "l".into(),
            device: DeviceId(0),
            vlan,
            mac: MacAddr::default(),
            router_macs: [MacAddr::default(); 2],
            floating: Vec::new(),
            mtu: 1500,
            up: true,
            addresses: Vec::new(),
            has_firewalls: false,
            sole_firewall: None,
        };
        let received = Some(VlanTag { tpid: crate::wire::vlan::TPID_SERVICE, tci: 0xb064 });

        assert_eq!(link(Some(200)).egress_tag(received), Some(VlanTag { tpid: TPID_CUSTOMER, tci: 0xb0c8 }));
        assert_eq!(link(Some(200)).egress_tag(None), Some(VlanTag { tpid: TPID_CUSTOMER, tci: 200 }));
        assert_eq!(link(None).egress_tag(received), None);
    }
}
