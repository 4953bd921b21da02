//! What events and alarms are about.

named_enum! {
    /// The kind of an event.
    pub enum EventKind {
        /// An operator changed the administrative state or weight of a firewall or server.
        Admin = "admin",
        /// An alarm was raised or cleared.
        Alarm = "alarm",
        /// One family of a server that has two came up or went down.
        Check = "check",
        /// A configuration took effect, was confirmed, or was returned from.
        Config = "config",
        /// The engine started or stopped.
        Engine = "engine",
        /// The state of a firewall changed.
        Firewall = "firewall",
        /// An operator ended sessions.
        Kill = "kill",
        /// A link went up or down.
        Link = "link",
        /// A firewall, server or next hop answers at another MAC address.
        Neighbor = "neighbor",
        /// A path through a firewall went up or down.
        Path = "path",
        /// The state of the engine on a far side changed.
        Peer = "peer",
        /// The role of a node in its cluster changed.
        Role = "role",
        /// The state of a server changed.
        Server = "server",
        /// The state of a service changed.
        Service = "service",
    }
}

impl EventKind {
    /// True for events that somebody caused, and for changes of role, by which every other change is explained.
    pub const fn is_caused_by_somebody(self) -> bool {
        match self {
            Self::Admin | Self::Config | Self::Engine | Self::Kill | Self::Role => true,
            Self::Alarm
            | Self::Check
            | Self::Firewall
            | Self::Link
            | Self::Neighbor
            | Self::Path
            | Self::Peer
            | Self::Server
            | Self::Service => false,
        }
    }
}

named_enum! {
    /// The kind of an alarm.
    pub enum AlarmKind {
        /// Fewer firewalls of a group are up than its `min-up`.
        BelowMin = "below_min",
        /// Sections of the file differ between nodes of the cluster.
        ConfigDiffers = "config_differs",
        /// A peer has the group otherwise: seed, names or weights.
        DigestDiffers = "digest_differs",
        /// Another station has an address of the engine, or answers ARP for a VIP.
        DuplicateAddress = "duplicate_address",
        /// Two firewalls of one link have one MAC address.
        FirewallsShareMac = "firewalls_share_mac",
        /// The node is active and no other could take over.
        HaAlone = "ha_alone",
        /// The far side hears the active node, this one does not.
        HaPartition = "ha_partition",
        /// The node could not send hellos in time.
        HaSlow = "ha_slow",
        /// The thread of the role machine stands still, so that an active node stops forwarding.
        HaStuck = "ha_stuck",
        /// Nobody is heard on a link although its carrier stays.
        LegDead = "leg_dead",
        /// A link carries no frames.
        LinkDown = "link_down",
        /// Somebody claims the address of a neighbour that answers elsewhere; nothing moves.
        NeighborClaimed = "neighbor_claimed",
        /// The engine went back to the former configuration because nobody confirmed.
        NotConfirmed = "not_confirmed",
        /// A firewall answers probes, but new sessions are not answered through it as through others of its group.
        OneWay = "one_way",
        /// Threads cannot go before other work of the machine (CAP_SYS_NICE).
        OrdinaryPriority = "ordinary_priority",
        /// No path to a peer answers, but firewalls do.
        PeerLost = "peer_lost",
        /// No server of a service is up.
        ServiceDown = "service_down",
        /// A source has more than its share of ports or of the session table, or is at a limit of `[limits]`.
        SourceRefused = "source_refused",
        /// Two nodes of the cluster are active.
        SplitBrain = "split_brain",
        /// A standby has lacked copies of sessions for long.
        StandbyNotReady = "standby_not_ready",
        /// Copies of sessions are more than a second late.
        SyncBehind = "sync_behind",
        /// A node has not taken any copies of sessions for long.
        SyncFailed = "sync_failed",
        /// A node is heard, but not on the path for synchronisation, or without hellos that could be opened.
        SyncLost = "sync_lost",
        /// This node has no room for copies of sessions.
        SyncRefused = "sync_refused",
        /// The engine returns to the former configuration unless it is confirmed.
        Unconfirmed = "unconfirmed",
        /// Nodes run different versions of the program.
        VersionDiffers = "version_differs",
        /// A station outside the cluster, or the far side behind transparent firewalls, uses its virtual router
        /// identifier.
        VridClash = "vrid_clash",
    }
}

impl From<crate::ha::AlarmKind> for AlarmKind {
    fn from(kind: crate::ha::AlarmKind) -> Self {
        match kind {
            crate::ha::AlarmKind::ConfigDiffers => Self::ConfigDiffers,
            crate::ha::AlarmKind::HaAlone => Self::HaAlone,
            crate::ha::AlarmKind::HaPartition => Self::HaPartition,
            crate::ha::AlarmKind::HaSlow => Self::HaSlow,
            crate::ha::AlarmKind::LegDead => Self::LegDead,
            crate::ha::AlarmKind::SplitBrain => Self::SplitBrain,
            crate::ha::AlarmKind::StandbyNotReady => Self::StandbyNotReady,
            crate::ha::AlarmKind::SyncBehind => Self::SyncBehind,
            crate::ha::AlarmKind::SyncFailed => Self::SyncFailed,
            crate::ha::AlarmKind::SyncLost => Self::SyncLost,
            crate::ha::AlarmKind::SyncRefused => Self::SyncRefused,
            crate::ha::AlarmKind::VersionDiffers => Self::VersionDiffers,
            crate::ha::AlarmKind::VridClash => Self::VridClash,
        }
    }
}
