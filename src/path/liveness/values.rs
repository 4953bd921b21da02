//! What liveness is told, and what it says: verdicts of probes and of peers in, states with their reasons out.

use crate::id::{FirewallId, GroupId, PathSetId, PeerId};
use crate::path::Admin;
use crate::time::{Duration, Instant};
use crate::wire::Family;

/// What is judged.
#[derive(Debug, Clone, Default)]
pub struct LivenessConfig {
    /// By [`GroupId`].
    pub groups: Vec<LivenessGroup>,
    /// Every path that is probed.
    pub paths: Vec<PathKey>,
    /// The sets to keep, by [`PathSetId`].
    pub sets: Vec<SetKey>,
}

/// A group as liveness sees it.
#[derive(Debug, Clone)]
pub struct LivenessGroup {
    /// Its firewalls in order of slots, with their administrative state.
    pub members: Vec<(FirewallId, Admin)>,
    /// A set with fewer members up is below its minimum.
    pub min_up: u16,
    /// How long a draining member stays up; `None`: for ever.
    pub drain_timeout: Option<Duration>,
    /// How long the paths to a peer wait for each other.
    pub timing: Timing,
}

/// How long the other paths to a peer may take after the first, by the group's check.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// To have a verdict, at the start or after the peer was lost: a few probe intervals, more than the check's `rise`.
    pub grace: Duration,
    /// To be asked once more, and to answer.
    pub recall: Duration,
}

/// Names a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathKey {
    /// Through this firewall.
    pub firewall: FirewallId,
    /// To this peer.
    pub peer: PeerId,
    /// In this family.
    pub family: Family,
}

/// Names a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetKey {
    /// The group.
    pub group: GroupId,
    /// Paths to this peer; `None`: to every peer of the group that has paths in the family.
    pub peer: Option<PeerId>,
    /// The family.
    pub family: Family,
}

/// What the probes say of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Verdict {
    /// Nothing yet.
    #[default]
    Starting,
    /// It carries packets.
    Up,
    /// It does not.
    Down,
}

/// What the probes of this engine say of a path, with what is needed to judge it beside the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathHealth {
    /// By rise and fall.
    pub verdict: Verdict,
    /// It is past its `hold`.
    pub takes_new: bool,
    /// At least one probe was missed since the last answer.
    pub failing: bool,
}

/// What a peer advertises about one firewall, or what this engine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The firewall.
    pub firewall: FirewallId,
    /// The path between the two engines through it, as judged by the one who says so.
    pub verdict: Verdict,
    /// Its administrative state, as commanded at the one who says so.
    pub admin: Admin,
}

/// State of a firewall over all its paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FirewallState {
    /// All paths are up.
    Up,
    /// Some are.
    Degraded,
    /// None is, or it is starting.
    Down,
    /// Draining, or drained by its deadline.
    Drain,
    /// In maintenance.
    Maint,
}

/// Why a firewall is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Everything is as it should be.
    Well,
    /// No verdict yet.
    Starting,
    /// The engine's own link to it is down.
    Link,
    /// Probes toward this peer are not answered.
    Probes(PeerId, Family),
    /// This peer says that the path to it is down.
    Objection(PeerId, Family),
    /// Commanded here.
    Commanded,
    /// Commanded at this peer.
    CommandedAt(PeerId),
    /// The deadline passed of a drain that was commanded at this peer; `None`: here.
    Deadline(Option<PeerId>),
}

/// State of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerState {
    /// At least one path to it is up, and in no family all failed together.
    Up,
    /// All paths of a family failed together while a firewall still answered, or with the engine's own links: the last live
    /// set is kept.
    Lost,
    /// No path to it is up, and no firewall of the last live set answers.
    Down,
}

/// A state with its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status<S> {
    /// The state.
    pub state: S,
    /// Why.
    pub reason: Reason,
    /// When it came to be.
    pub since: Instant,
}

/// What an evaluation changed, in order: firewalls, peers, sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A firewall has another state or another reason.
    Firewall {
        /// Which.
        firewall: FirewallId,
        /// Old state.
        from: FirewallState,
        /// New state.
        to: FirewallState,
        /// Why.
        reason: Reason,
    },
    /// A peer has another state.
    Peer {
        /// Which.
        peer: PeerId,
        /// Old state.
        from: PeerState,
        /// New state.
        to: PeerState,
    },
    /// A set differs from what [`Liveness::sets`](super::Liveness::sets) said: publish it.
    Set(PathSetId),
    /// A set fell below its minimum or is above it again.
    BelowMin {
        /// Which.
        set: PathSetId,
        /// It is below.
        below: bool,
    },
}
