//! Longest prefix match: from a destination address to a next hop or a group of firewalls.

use std::net::IpAddr;

use crate::flow::PrefixTable;
use crate::id::{FirewallId, LinkId, PathSetId};

/// Where packets to a prefix are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FibEntry {
    /// To the destination itself, which is a neighbour on this link.
    Connected(LinkId),
    /// To a next hop.
    Via(NextHop),
    /// Through the firewalls of a group.
    Group {
        /// The set of paths from which the firewall is chosen.
        set: PathSetId,
        /// The firewall that is taken while it is up, instead of the one that the hash gives.
        preferred: Option<FirewallId>,
        /// The next hop that leads past the firewalls, for `below-min = "bypass"`.
        bypass: Option<NextHop>,
    },
}

/// A neighbour on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The link that leads to the neighbour.
    pub link: LinkId,
    /// The neighbour's IP address.
    pub address: IpAddr,
}

/// The routes of both families: the longest prefix that contains a destination decides.
pub type RouteTable = PrefixTable<FibEntry>;
