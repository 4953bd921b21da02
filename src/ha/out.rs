//! What goes into the machine and what comes out of it.

use std::fmt;

use crate::ha::alarm::AlarmChange;
use crate::ha::hello::Hello;
use crate::ha::settings::{LegId, NodeId};
use crate::ha::{Deduction, Fault, Role};
use crate::time::{Duration, Instant};

/// The way on which something of another node was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// A link of the engine.
    Leg(LegId),
    /// The kernel's socket at the address for synchronisation.
    Sync,
}

/// What the owner of the loop has to do.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Out {
    /// The new role. Workers have to know it before anything else is done.
    pub role: Option<RoleChange>,
    /// Advertisements to send on every link, for each family with floating addresses.
    pub advertise: Option<Advertise>,
    /// The hello to seal for each other engine, and to send on every link and on the path for synchronisation.
    pub hello: Option<Hello>,
    /// Announce floating addresses, VIPs and `snat` addresses to the neighbours of every link.
    pub announce: bool,
    /// Ask the next hops, firewalls and servers of every link by ARP or neighbour discovery.
    pub ask: bool,
    /// Alarms that were raised or cleared.
    pub alarms: Vec<AlarmChange>,
}

impl Out {
    /// True if `word`, which holds from now on, only prolongs the lease. It is stored when the hello was sent, because
    /// the timers of other nodes run from that hello: an owner that stops in between leaves no time in which two
    /// forward. Any other word is stored before anything else is done.
    pub fn only_prolongs(&self, word: &RoleWord) -> bool {
        self.role.is_none() && self.hello.is_some() && word.forwarding == Forwarding::Router
    }
}

/// What advertisements say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertise {
    /// The priority: 1..=254, or 0 from a node that leaves.
    pub priority: u8,
    /// The time until the next one.
    pub interval: Duration,
}

/// A change of role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleChange {
    /// The role before.
    pub from: Role,
    /// The role from now on.
    pub to: Role,
    /// Why.
    pub reason: Reason,
    /// The term: it grows with every takeover.
    pub term: u32,
    /// How long the role before had lasted.
    pub lasted: Duration,
    /// Who ordered it, and why.
    pub by: Option<OrderedBy>,
}

/// Why a role changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The node started.
    Start,
    /// Another node is active.
    ActiveHeard(NodeId),
    /// All nodes were heard, none is active, and this one has the best claim.
    BestClaim,
    /// The start delay is over and nobody is active.
    NobodyElse,
    /// The active node was silent for this long.
    Silence(Option<NodeId>, Duration),
    /// The active node advertised priority 0: it stops.
    Stopped(NodeId),
    /// The active node gave the role to this one.
    Handover(NodeId),
    /// This node gave the role to that one, which took it.
    Taken(NodeId),
    /// Nobody took the role in time.
    NotTaken,
    /// Another active node has the better claim.
    BetterClaim(NodeId),
    /// The standby has fewer deductions.
    Score(NodeId),
    /// A node of higher priority is ready for long enough.
    Preempted(NodeId),
    /// An operator ordered it.
    Order,
    /// The program stops.
    Stop,
    /// The node stood still for this long.
    StoodStill(Duration),
    /// The node is at fault.
    Fault(Fault),
    /// The fault is over.
    Recovered,
}

impl Reason {
    /// Gives its node another number.
    pub(in crate::ha) fn renumber(&mut self, place: impl Fn(NodeId) -> NodeId) {
        match self {
            Self::ActiveHeard(node)
            | Self::Silence(Some(node), _)
            | Self::Stopped(node)
            | Self::Handover(node)
            | Self::Taken(node)
            | Self::BetterClaim(node)
            | Self::Score(node)
            | Self::Preempted(node) => *node = place(*node),
            Self::Start
            | Self::BestClaim
            | Self::NobodyElse
            | Self::Silence(None, _)
            | Self::NotTaken
            | Self::Order
            | Self::Stop
            | Self::StoodStill(_)
            | Self::Fault(_)
            | Self::Recovered => {}
        }
    }

    /// The name for metrics: stable, without names of nodes and numbers.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::ActiveHeard(_) => "active_heard",
            Self::BestClaim => "best_claim",
            Self::NobodyElse => "nobody_else",
            Self::Silence(..) => "silence",
            Self::Stopped(_) => "stopped",
            Self::Handover(_) => "handover",
            Self::Taken(_) => "taken",
            Self::NotTaken => "not_taken",
            Self::BetterClaim(_) => "better_claim",
            Self::Score(_) => "score",
            Self::Preempted(_) => "preempted",
            Self::Order => "order",
            Self::Stop => "stop",
            Self::StoodStill(_) => "stood_still",
            Self::Fault(_) => "fault",
            Self::Recovered => "recovered",
        }
    }
}

/// What packet workers may do, compared with the time of their batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleWord {
    /// The role, for people.
    pub role: Role,
    /// What the role allows.
    pub forwarding: Forwarding,
    /// The lease: from this instant on nothing may be sent that only an active node may send. [`Instant::ZERO`] for a
    /// node that may not anyway, and the last instant there is (2^64 - 1 ns) for one that needs no lease.
    pub until: Instant,
}

/// What a role allows packet workers to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// Nothing: what comes for the virtual MAC is dropped.
    Silent,
    /// Everything: this node is the virtual router.
    Router,
    /// It forwards what still arrives, from the link's own MAC, and answers for no floating address.
    Lingering,
}

/// What a far engine says about a node of this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WitnessReport {
    /// The node.
    pub node: NodeId,
    /// Its role in its last probe.
    pub role: Role,
    /// The term in which it was last active.
    pub term: u32,
    /// Its priority in that probe.
    pub priority: u8,
    /// When the far engine heard it last.
    pub heard: Instant,
}

/// Who gave an order, and why, as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct OrderedBy {
    /// The operator: `root (uid 0)`, or the name of a token.
    pub operator: Option<String>,
    /// The reason that was given.
    pub reason: Option<String>,
}

/// What an operator, or the end of the program, asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Give the role to another node, or to the best one. `force` gives it to one that is not ready.
    Failover {
        /// The node; `None`: a ready one first, then the one with the fewest deductions, then the highest priority.
        to: Option<NodeId>,
        /// Whether a node may get it that lacks copies of sessions.
        force: bool,
        /// Who ordered it.
        by: OrderedBy,
    },
    /// Become unable to be active.
    Maint {
        /// Who ordered it.
        by: OrderedBy,
    },
    /// End maintenance, and trust that no fault comes back.
    Ready,
    /// Give the role away: the program stops. It may end when [`crate::ha::Machine::may_end`] says so.
    Stop,
}

/// Why an order was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefused {
    /// Only the active node can give the role away.
    #[error("this node is {0}; give the order to the active one")]
    NotActive(Role),
    /// No other node can be active.
    #[error("no other node could take over: {0}")]
    Nobody(String),
    /// The node lacks copies of sessions.
    #[error(
        "{0} is not ready: it lacks copies of sessions, which would break (--force gives it the role nevertheless)"
    )]
    NotReady(String),
}

impl fmt::Display for Deduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {}: {})", self.points, self.kind, self.subject, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::Machine;
    use crate::ha::machine::testing::config;

    #[test]
    fn only_a_lease_that_goes_on_waits_for_its_hello() {
        let hello = Machine::new(config(2), Instant::ZERO).handle_timeout(Instant::ZERO).hello;
        assert!(hello.is_some(), "the first round is due at once");
        let round = Out { hello, ..Out::default() };
        let word = |forwarding| RoleWord { role: Role::Active, forwarding, until: Instant::from_millis(75) };

        assert!(round.only_prolongs(&word(Forwarding::Router)));
        assert!(!round.only_prolongs(&word(Forwarding::Silent)), "a standby has no lease");
        assert!(!round.only_prolongs(&word(Forwarding::Lingering)), "others were told that it leaves");
        assert!(!Out::default().only_prolongs(&word(Forwarding::Router)), "without a hello nothing is waited for");
        let change = RoleChange {
            from: Role::Standby,
            to: Role::Active,
            reason: Reason::NobodyElse,
            term: 1,
            lasted: Duration::ZERO,
            by: None,
        };
        let takeover = Out { role: Some(change), ..round };
        assert!(!takeover.only_prolongs(&word(Forwarding::Router)), "workers forward at once");
    }
}
