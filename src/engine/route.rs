//! Longest prefix match to a next hop or a group.

use std::net::IpAddr;

use crate::id::{FirewallId, LinkId, PathSetId};

/// Where packets to a prefix go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// On the link itself: the next hop is the destination.
    Connected(LinkId),
    /// To a next hop on a link.
    Via(NextHop),
    /// Through a group of firewalls.
    Group {
        /// The paths to choose from.
        set: PathSetId,
        /// The firewall that the route prefers while it is up.
        preferred: Option<FirewallId>,
        /// The way round the group, where `below-min` is `bypass`.
        bypass: Option<NextHop>,
    },
}

/// A neighbour on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The link.
    pub link: LinkId,
    /// The neighbour's address.
    pub address: IpAddr,
}

/// All routes, both families.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {}

impl RouteTable {
    /// Adds a route; the same prefix twice keeps the later (validation refuses it before).
    pub fn insert(&mut self, prefix: ipnet::IpNet, target: Target) {
        let _ = (prefix, target);
        todo!()
    }

    /// The target of the longest prefix that holds `destination`.
    pub fn lookup(&self, destination: IpAddr) -> Option<Target> {
        let _ = destination;
        todo!()
    }
}
