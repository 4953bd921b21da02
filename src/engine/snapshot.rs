//! The one truth that workers look at: configuration, live sets and neighbours of one instant, under one epoch.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::engine::addresses::{AddressMap, AddressSet};
use crate::engine::route::RouteTable;
use crate::id::{DeviceId, FirewallId, GroupId, LinkId, PathSetId, ServerId};
use crate::path::liveness::SetKey;
use crate::path::{Admin, Group, PathSet};
use crate::session::SourceLimits;
use crate::slb::Services;
use crate::wire::vlan::{TPID_CUSTOMER, VlanTag};
use crate::wire::{Family, MacAddr};

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
    /// Administrative state in force, also as a peer commands it; for show, the path sets obey it already.
    pub admin: Admin,
    /// Its link.
    pub link: LinkId,
    /// Next hop, IPv4.
    pub v4: Option<IpAddr>,
    /// Next hop, IPv6.
    pub v6: Option<IpAddr>,
}

/// Numbers that were given away a second time, and in which generation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Renewed {
    /// Firewalls.
    pub firewalls: BTreeMap<FirewallId, u64>,
    /// Servers.
    pub servers: BTreeMap<ServerId, u64>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Grows by one with every publication.
    pub epoch: u64,
    /// Grows by one with every reload that changed something.
    pub generation: u64,
    /// Numbers that a reload gave to something else, with that reload's generation: what was counted under them is
    /// another's.
    pub renewed: Arc<Renewed>,
    /// By [`DeviceId`].
    pub devices: Vec<Device>,
    /// By [`LinkId`].
    pub links: Vec<Link>,
    /// Addresses of the engine itself, all links.
    pub local: AddressMap<LinkId>,
    /// Where packets go.
    pub routes: RouteTable,
    /// By [`GroupId`].
    pub groups: Vec<Group>,
    /// By [`crate::id::PathSetId`].
    pub path_sets: Vec<PathSet>,
    /// What each set was made for, by [`crate::id::PathSetId`], also where its peer was removed since.
    pub set_keys: Vec<SetKey>,
    /// By [`FirewallId`].
    pub firewalls: Vec<Firewall>,
    /// Names of the peers, by [`crate::id::PeerId`].
    pub peers: Vec<String>,
    /// `learn-by = "mac"`: whose hardware address it is on a firewall link.
    pub learn: HashMap<(LinkId, MacAddr), FirewallId, ahash::RandomState>,
    /// Resolved neighbours.
    pub neighbors: HashMap<(LinkId, IpAddr), MacAddr, ahash::RandomState>,
    /// What each source of sessions may have.
    pub source_limits: SourceLimits,
    /// Virtual services and their servers.
    pub services: Services,
    /// The addresses of all services, and those of their own that stand for clients (`snat`): what comes to one of them and
    /// belongs to no session and no service is for the controller.
    pub vips: AddressSet,
}

impl Device {
    /// The link of frames with this VLAN identifier. 0 is untagged with a priority (IEEE 802.1Q); 4095 is reserved and never
    /// a link.
    pub fn link(&self, vid: u16) -> Option<LinkId> {
        match vid {
            0 => self.untagged,
            4095 => None,
            vid => self.tagged.iter().find(|(tag, _)| *tag == vid).map(|(_, link)| *link),
        }
    }
}

impl Link {
    /// The tag of frames that leave by this link. Priority and drop-eligible bits of the tag that a frame came with are kept;
    /// a link without VLAN sends untagged, as an access port does.
    #[inline]
    pub fn egress_tag(&self, received: Option<VlanTag>) -> Option<VlanTag> {
        let vid = self.vlan?;
        Some(match received {
            Some(tag) => VlanTag { tpid: TPID_CUSTOMER, ..tag.with_vid(vid) },
            None => VlanTag::new(vid),
        })
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
    /// The next hop for packets of `family` through this firewall.
    pub fn next_hop(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

impl Snapshot {
    /// The link of frames that `device` received with VLAN identifier `vid` (0: untagged).
    #[inline]
    pub fn link_of(&self, device: DeviceId, vid: u16) -> Option<LinkId> {
        self.devices.get(device.index())?.link(vid)
    }

    /// The firewall that a frame on `link` from `source` comes from.
    #[inline]
    pub fn firewall_at(&self, link: LinkId, source: MacAddr) -> Option<FirewallId> {
        match self.links.get(link.index())?.learn_all {
            Some(firewall) => Some(firewall),
            None => self.learn.get(&(link, source)).copied(),
        }
    }

    /// The hardware address of `address` on `link`, if it is resolved.
    #[inline]
    pub fn neighbor(&self, link: LinkId, address: IpAddr) -> Option<MacAddr> {
        self.neighbors.get(&(link, address)).copied()
    }

    /// False for the sets of a group that a reload removed: sessions that went through it go on by the routes.
    #[inline]
    pub fn has_firewalls(&self, set: PathSetId) -> bool {
        !self.groups[self.path_sets[set.index()].group.index()].members.is_empty()
    }

    /// The set of `group` for `family` toward every peer.
    pub fn every_peer(&self, group: GroupId, family: Family) -> Option<PathSetId> {
        let every = |set: &PathSet| set.group == group && set.family == family && set.peer.is_none();
        self.path_sets.iter().position(every).map(PathSetId::from)
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
            mtu: 1500,
            up: true,
            addresses: Vec::new(),
            firewalls: false,
            learn_all: None,
        };
        let received = Some(VlanTag { tpid: crate::wire::vlan::TPID_SERVICE, tci: 0xb064 });

        assert_eq!(link(Some(200)).egress_tag(received), Some(VlanTag { tpid: TPID_CUSTOMER, tci: 0xb0c8 }));
        assert_eq!(link(Some(200)).egress_tag(None), Some(VlanTag { tpid: TPID_CUSTOMER, tci: 200 }));
        assert_eq!(link(None).egress_tag(received), None);
    }
}
