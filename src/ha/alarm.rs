//! What can be wrong with a cluster.

named_enum! {
    /// The kind of an alarm.
    pub enum AlarmKind {
        /// Two nodes are active.
        SplitBrain = "split_brain",
        /// The far side hears the active node, this one does not.
        HaPartition = "ha_partition",
        /// This node is active and no other could take over.
        HaAlone = "ha_alone",
        /// This node could not send in time.
        HaSlow = "ha_slow",
        /// Nobody is heard on a link although its carrier stays.
        LegDead = "leg_dead",
        /// A station outside the cluster uses its virtual router identifier.
        VridClash = "vrid_clash",
        /// A node is heard, but not on the path for synchronisation, or without hellos that could be opened.
        SyncLost = "sync_lost",
        /// Copies of sessions are more than a second late.
        SyncBehind = "sync_behind",
        /// A node has not taken any copies for long.
        SyncFailed = "sync_failed",
        /// This node has no room for copies of sessions.
        SyncRefused = "sync_refused",
        /// Sections of the file differ between nodes.
        ConfigDiffers = "config_differs",
        /// Nodes run different versions of the program.
        VersionDiffers = "version_differs",
        /// A standby has lacked copies of sessions for long.
        StandbyNotReady = "standby_not_ready",
    }
}

/// What an alarm is known by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// What is wrong.
    pub kind: AlarmKind,
    /// The node or link that it is about.
    pub subject: String,
}

/// An alarm that was raised or cleared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlarmChange {
    /// Something is wrong, for this reason.
    Raised(Alarm, String),
    /// It is over.
    Cleared(Alarm),
}
