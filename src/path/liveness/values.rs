//! The values that go into liveness, which are verdicts of probes and reports of peers, and those that come out, which
//! are states with their reasons.

use crate::id::{FirewallId, GroupId, PathSetId, PeerId};
use crate::path::AdminState;
use crate::time::{Duration, Instant};
use crate::wire::Family;

/// The groups, paths and sets that are evaluated.
#[derive(Debug, Clone, Default)]
pub struct LivenessConfig {
    /// The groups, indexed by [`GroupId`].
    pub groups: Vec<LivenessGroup>,
    /// All paths that are probed.
    pub paths: Vec<PathKey>,
    /// The sets to maintain, indexed by [`PathSetId`].
    pub sets: Vec<SetKey>,
}

/// A group as liveness needs it.
#[derive(Debug, Clone)]
pub struct LivenessGroup {
    /// Its firewalls in order of slots, with their administrative state.
    pub members: Vec<(FirewallId, AdminState)>,
    /// The number of members up below which a set is below its minimum.
    pub min_up: u16,
    /// How long a draining member stays up; `None` for ever.
    pub drain_timeout: Option<Duration>,
    /// How long the paths to a peer wait for each other.
    pub timing: PathTiming,
}

/// How long the other paths to a peer may take after the first one. The times follow from the group's check.
#[derive(Debug, Clone, Copy)]
pub struct PathTiming {
    /// The time to get a verdict at the start or after the peer was lost. It is a few probe intervals, more than `rise`
    /// of the check needs.
    pub grace: Duration,
    /// The time to be probed once more and to answer.
    pub recheck: Duration,
}

/// Identifies a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathKey {
    /// The firewall through which the path goes.
    pub firewall: FirewallId,
    /// The peer engine to which it leads.
    pub peer: PeerId,
    /// The address family of its packets.
    pub family: Family,
}

/// Identifies a set of paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetKey {
    /// The group whose firewalls are the members.
    pub group: GroupId,
    /// The peer to which the paths lead; `None` for all peers of the group with paths in this family.
    pub peer: Option<PeerId>,
    /// The address family of the paths.
    pub family: Family,
}

/// What the probes say about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PathState {
    /// There were too few probes for a verdict.
    #[default]
    Starting,
    /// The path carries packets.
    Up,
    /// The path does not carry packets.
    Down,
}

/// What this engine's probes say about a path, with what is needed to evaluate it beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathHealth {
    /// The verdict by rise and fall.
    pub verdict: PathState,
    /// Whether the path is up and past its `hold`.
    pub accepts_new_flows: bool,
    /// Whether at least one probe has failed since the last success.
    pub failing: bool,
}

/// What an engine advertises about one firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirewallAdvertisement {
    /// The firewall.
    pub firewall: FirewallId,
    /// The verdict of the advertising engine about the path between the two engines through this firewall.
    pub verdict: PathState,
    /// The administrative state that was ordered at the advertising engine.
    pub admin: AdminState,
}

named_enum! {
    /// The state of a firewall over all its paths.
    pub enum FirewallState {
        /// All paths are up.
        Up = "up",
        /// Some paths are up, but not all.
        Degraded = "degraded",
        /// No path is up, or the firewall is starting.
        Down = "down",
        /// It is draining, or its drain deadline has passed.
        Drain = "drain",
        /// It is in maintenance.
        Maint = "maint",
    }
}

/// Why a firewall or peer is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateReason {
    /// There is nothing wrong.
    Healthy,
    /// There is no verdict yet.
    Starting,
    /// The engine's own link to it is down.
    Link,
    /// Probes toward this peer are not answered.
    Probes(PeerId, Family),
    /// This peer reports that the path is down.
    Objection(PeerId, Family),
    /// The administrative state was ordered at this engine.
    Commanded,
    /// The administrative state was ordered at this peer.
    CommandedAt(PeerId),
    /// The deadline of a drain has passed that was ordered at this peer, or at this engine (`None`).
    Deadline(Option<PeerId>),
}

named_enum! {
    /// The state of a peer.
    pub enum PeerState {
        /// At least one path to it is up, and in no family have all failed together.
        Up = "up",
        /// All paths of a family failed together while a firewall still answered, or because the engine's own links are
        /// down. The last live set is kept.
        Lost = "lost",
        /// No path to it is up, and no firewall of the last live set answers.
        Down = "down",
    }
}

/// A state with its reason and its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateSince<S> {
    /// The state.
    pub state: S,
    /// The reason for the state.
    pub reason: StateReason,
    /// When the state began.
    pub since: Instant,
}

/// One change that an evaluation made. Changes are in the order firewalls, peers, sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LivenessChange {
    /// The state of a firewall, or the reason for it, has changed.
    Firewall {
        /// The firewall.
        firewall: FirewallId,
        /// The old state.
        from: FirewallState,
        /// The new state.
        to: FirewallState,
        /// The reason for the new state.
        reason: StateReason,
    },
    /// The state of a peer has changed.
    Peer {
        /// The peer.
        peer: PeerId,
        /// The old state.
        from: PeerState,
        /// The new state.
        to: PeerState,
    },
    /// The set has changed in [`Liveness::sets`](super::Liveness::sets) and is to be published.
    Set(PathSetId),
    /// A set has gone below its minimum, or reached it again.
    BelowMin {
        /// The set.
        set: PathSetId,
        /// Whether it is below its minimum.
        below: bool,
    },
}
