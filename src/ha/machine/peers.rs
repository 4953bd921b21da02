//! What the machine knows of another node.

use std::net::IpAddr;

use crate::ha::Role;
use crate::ha::claim::Claim;
use crate::ha::hello::Hello;
use crate::ha::out::{Path, WitnessReport};
use crate::ha::settings::{LegId, NodeConfig, NodeId, NodeKind};
use crate::time::{Duration, Instant};
use crate::wire::Family;

/// For how long a node is offered nothing after it did not take the role.
const UNTAKEN: Duration = Duration::from_secs(10);

/// Another node.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) name: String,
    pub(super) kind: NodeKind,
    pub(super) priority: u8,
    /// The last hello.
    pub(super) hello: Option<Hello>,
    /// When the first copy of that hello was heard. A copy that was delayed on another path says nothing about now.
    pub(super) heard: Option<Instant>,
    /// When any hello was heard on each path.
    pub(super) paths: Vec<(Path, Instant)>,
    /// The virtual routers that its advertisements are about; empty once hellos were heard.
    pub(super) routers: Vec<HeardRouter>,
    /// When an advertisement of any kind was heard.
    pub(super) advertised: Option<Instant>,
    /// The last report of the far side about it.
    pub(super) witness: Option<WitnessReport>,
    /// Since when it is a ready standby with fewer deductions, by the margin.
    pub(super) better_since: Option<Instant>,
    /// Since when it could take the role by its higher priority.
    pub(super) preempts_since: Option<Instant>,
    /// When it last did not take the role that it was given, unless it changed its own or started anew since.
    pub(super) untaken: Option<Instant>,
}

/// An active router that is known by its advertisements alone.
#[derive(Debug, Clone)]
pub(super) struct HeardRouter {
    pub(super) leg: LegId,
    pub(super) family: Family,
    pub(super) source: IpAddr,
    pub(super) priority: u8,
    pub(super) interval: Duration,
    pub(super) heard: Instant,
    /// When it counts as down (RFC 9568 section 6.4.2).
    pub(super) down_at: Instant,
}

impl Peer {
    pub(super) fn new(node: NodeId, config: &NodeConfig) -> Self {
        Self {
            node,
            name: config.name.clone(),
            kind: config.kind,
            priority: config.priority,
            hello: None,
            heard: None,
            paths: Vec::new(),
            routers: Vec::new(),
            advertised: None,
            witness: None,
            better_since: None,
            preempts_since: None,
            untaken: None,
        }
    }

    /// Takes a hello that came on a path. False if it is a copy of the last one, or older: a late one undoes nothing.
    pub(super) fn hear(&mut self, path: Path, hello: Hello, now: Instant) -> bool {
        match self.paths.iter_mut().find(|(known, _)| *known == path) {
            Some((_, heard)) => *heard = now,
            None => self.paths.push((path, now)),
        }
        let is_news = self.hello.as_ref().is_none_or(|known| hello.is_after(known));
        if is_news {
            if hello.role != Role::Standby || self.hello.as_ref().is_some_and(|known| known.start != hello.start) {
                self.untaken = None;
            }
            self.routers.clear();
            (self.hello, self.heard) = (Some(hello), Some(now));
        }
        is_news
    }

    /// Forgets when it was heard, and what its advertisements said.
    pub(super) fn forget(&mut self) {
        (self.heard, self.paths, self.routers) = (None, Vec::new(), Vec::new());
    }

    /// The hello, if it is no older than the node may be silent.
    pub(super) fn fresh(&self, now: Instant) -> Option<&Hello> {
        let hello = self.hello.as_ref()?;
        (now.since(self.heard?) < hello.interval * 4).then_some(hello)
    }

    /// The hello of a node that is active, or still is while it leaves.
    pub(super) fn fresh_forwarding(&self, now: Instant) -> Option<&Hello> {
        self.fresh(now).filter(|hello| hello.role.forwards())
    }

    /// The hello of a node that forwards and still speaks: it was heard within two of its intervals.
    pub(super) fn speaking_forwarding(&self, now: Instant) -> Option<&Hello> {
        let hello = self.fresh_forwarding(now)?;
        (now.since(self.heard?) < hello.interval * 2).then_some(hello)
    }

    /// The hello of a node that calls itself active and still speaks. One that fell silent is no active node to yield
    /// to, nor to answer: another node takes over from it, or has just done so.
    pub(super) fn speaking_active(&self, now: Instant) -> Option<&Hello> {
        self.speaking_forwarding(now).filter(|hello| hello.role == Role::Active)
    }

    /// The hello of a standby that could take over at once.
    pub(super) fn fresh_standby(&self, now: Instant) -> Option<&Hello> {
        self.fresh(now).filter(|hello| hello.role == Role::Standby && hello.is_eligible)
    }

    /// True for a node that a short while ago did not take the role that it was given: it may hear nothing, or hang.
    pub(super) fn is_untaken(&self, now: Instant) -> bool {
        self.untaken.is_some_and(|untaken| now.since(untaken) < UNTAKEN)
    }

    /// The claim that it has by a hello.
    pub(super) fn claim(&self, hello: &Hello, margin: u16) -> Claim {
        Claim::new(self.node, hello.deductions, margin, hello.last_active, hello.base)
    }

    /// Time in which this node's own loop stood still does not count.
    pub(super) fn excuse(&mut self, late: Duration, now: Instant) {
        for heard in self.paths.iter_mut().map(|(_, heard)| heard).chain(&mut self.heard) {
            *heard = (*heard + late).min(now);
        }
        for router in &mut self.routers {
            router.heard = (router.heard + late).min(now);
            router.down_at += late;
        }
    }
}
