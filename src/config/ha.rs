//! Defines what `[ha]` means.

use crate::config::Secret;
use crate::ha::{Lease, NodeConfig, NodeId, VrrpVersion};
use crate::time::Duration;

/// `[ha]`: this engine is one of several that are one virtual router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ha {
    /// The virtual router identifier of links that have none of their own, 1..=255.
    pub vrid: u8,
    /// The shared secret; `None` with a single node of this program.
    pub key: Option<Secret>,
    /// The time between two advertisements.
    pub advertise: Duration,
    /// How long a ready node of higher priority waits before it gets the role; `None`: it never does.
    pub preempt: Option<Duration>,
    /// By how many points a standby must be better before it gets the role.
    pub margin: u16,
    /// For how long it must be better.
    pub damping: Duration,
    /// How long a node that starts listens for others.
    pub start_delay: Duration,
    /// How long a node that gave the role away forwards what still arrives.
    pub linger: Duration,
    /// The version of VRRP.
    pub version: VrrpVersion,
    /// The MAC address of floating addresses.
    pub mac: FloatingMac,
    /// When the lease applies.
    pub lease: Lease,
    /// Whether nodes copy sessions to each other.
    pub sessions: SessionCopying,
    /// How long the active node collects what it tells of sessions.
    pub sync_delay: Duration,
    /// How nodes share the ports that stand for clients in `full-nat`.
    pub ports: PortSharing,
    /// The nodes, in the order of the file.
    pub nodes: Vec<NodeConfig>,
    /// This node.
    pub me: NodeId,
}

named_enum! {
    /// The MAC address of floating addresses.
    #[derive(Default)]
    pub enum FloatingMac {
        /// The virtual one (RFC 9568 section 7.3).
        #[default]
        Virtual = "virtual",
        /// That of the link, so that neighbours learn another one at every takeover.
        Interface = "interface",
    }
}

named_enum! {
    /// Whether nodes of this program copy sessions to each other.
    #[derive(Default)]
    pub enum SessionCopying {
        /// Those that another node could not compute.
        #[default]
        Needed = "needed",
        /// None: after a takeover such sessions end.
        None = "none",
    }
}

named_enum! {
    /// How nodes share the ports that stand for clients in `full-nat`.
    #[derive(Default)]
    pub enum PortSharing {
        /// Each gives out its part of them, so that two active nodes give none out twice.
        #[default]
        Split = "split",
        /// Each gives out all of them.
        Shared = "shared",
    }
}
