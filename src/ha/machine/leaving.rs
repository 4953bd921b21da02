//! Giving the role away without losing a packet: the old node forwards until the new one has said that it took it.

use super::{Machine, Peer};
use crate::ha::Role;
use crate::ha::out::{Advertise, OrderRefused, OrderedBy, Out, Reason};
use crate::ha::settings::{NodeId, NodeKind};
use crate::time::{Duration, Instant};

/// How long the other node may take at the least. It has three intervals, in which a hello that is lost is repeated.
const TAKE: Duration = Duration::from_millis(200);
/// How long it may take at the most when the program ends, which does not wait for longer.
const TAKE_STOP_MAX: Duration = Duration::from_secs(3);

/// A role that is being given away.
#[derive(Debug, Clone)]
pub(super) struct Leaving {
    /// Who is to take it; `None`: whoever speaks VRRP.
    pub(super) successor: Option<NodeId>,
    /// When something else happens.
    pub(super) deadline: Instant,
    /// The other node has taken it: what still arrives is forwarded, and nothing is answered.
    pub(super) lingers: bool,
    /// Who took it.
    taken_by: Option<NodeId>,
    /// The role afterwards.
    then: Role,
    /// Who ordered it.
    pub(super) by: Option<OrderedBy>,
}

impl Leaving {
    /// Nodes have other numbers. A successor that is gone takes nothing: the role returns at once.
    pub(super) fn renumber(&mut self, place: impl Fn(NodeId) -> Option<NodeId>) {
        self.taken_by = self.taken_by.map(|node| place(node).unwrap_or(NodeId::GONE));
        if let Some(successor) = self.successor {
            self.successor = place(successor);
            if self.successor.is_none() && !self.lingers {
                self.deadline = Instant::ZERO;
            }
        }
    }
}

impl Machine {
    /// Offers the role to `successor`. Without one, priority 0 says to other VRRP routers that this node stops.
    pub(super) fn leave(
        &mut self,
        reason: Reason,
        successor: Option<NodeId>,
        by: Option<OrderedBy>,
        now: Instant,
        out: &mut Out,
    ) {
        let take = TAKE.max(self.pace.interval() * 3);
        let (then, take) = match reason {
            Reason::Fault(_) => (Role::Fault, take),
            Reason::Stop => (Role::Standby, take.min(TAKE_STOP_MAX)),
            _ => (Role::Standby, take),
        };
        let deadline = now + take;
        self.leaving = Some(Leaving { successor, deadline, lingers: false, taken_by: None, then, by });
        self.take_role(Role::Leaving, reason, now, out);
        if successor.is_none() {
            self.stop(now, out);
        }
    }

    /// Says on every link that this node stops (RFC 9568 section 6.4.3). Another engine that takes the role learns it
    /// from hellos instead: a frame from the virtual MAC address would lead switches back to this node.
    fn stop(&mut self, now: Instant, out: &mut Out) {
        let linger = now + self.config.linger;
        if let Some(leaving) = &mut self.leaving {
            (leaving.lingers, leaving.deadline) = (true, linger);
        }
        self.active = Some((self.config.me, now, self.config.interval));
        out.advertise = Some(Advertise { priority: 0, interval: self.pace.promised() });
    }

    pub(super) fn after_leaving(&mut self, now: Instant, out: &mut Out) -> Option<(Role, Reason)> {
        let taken = |peer: &&Peer| {
            peer.fresh(now).is_some_and(|hello| hello.role == Role::Active && hello.last_active > self.last_active)
        };
        let taken = self.peers.iter().find(taken).map(|peer| peer.node);
        let leaving = self.leaving.as_mut()?;
        if !leaving.lingers {
            if let Some(node) = taken {
                (leaving.lingers, leaving.taken_by) = (true, Some(node));
                leaving.deadline = now + self.config.linger;
            } else if now >= leaving.deadline {
                if self.stopping {
                    self.stop(now, out);
                    return None;
                }
                let successor = leaving.successor;
                self.leaving = None;
                for peer in self.peers.iter_mut().filter(|peer| Some(peer.node) == successor) {
                    peer.untaken = Some(now);
                }
                return Some((Role::Active, Reason::NotTaken));
            }
            return None;
        }
        if now < leaving.deadline {
            return None;
        }
        let reason = leaving.taken_by.map_or(Reason::Stop, Reason::Taken);
        let then = if self.stopping { Role::Standby } else { leaving.then };
        self.leaving = None;
        Some((then, reason))
    }

    pub(super) fn order_failover(
        &mut self,
        to: Option<NodeId>,
        force: bool,
        by: OrderedBy,
        now: Instant,
        out: &mut Out,
    ) -> Result<(), OrderRefused> {
        if self.role != Role::Active {
            return Err(OrderRefused::NotActive(self.role));
        }
        let is_other_router = |peer: &Peer| peer.kind == NodeKind::Vrrp && to.is_none_or(|to| to == peer.node);
        let Some(node) = to.or(self.successor(now)).filter(|node| !self.speaks_vrrp_alone(*node)) else {
            if !self.peers.iter().any(is_other_router) {
                return Err(OrderRefused::Nobody("no standby is heard".to_owned()));
            }
            self.leave(Reason::Order, None, Some(by), now, out);
            return Ok(());
        };
        let peer = self.peers.iter().find(|peer| peer.node == node);
        let Some(peer) = peer else {
            return Err(OrderRefused::Nobody("the order names this node itself".to_owned()));
        };
        match peer.fresh_standby(now) {
            None => {
                let role = peer.fresh(now).map_or("not heard", |hello| hello.role.name());
                return Err(OrderRefused::Nobody(format!("{} is {role}", peer.name)));
            }
            Some(hello) if !self.has_all_copies(node, hello) && !force => {
                return Err(OrderRefused::NotReady(peer.name.clone()));
            }
            Some(_) => {}
        }
        self.leave(Reason::Order, Some(node), Some(by), now, out);
        Ok(())
    }

    fn speaks_vrrp_alone(&self, node: NodeId) -> bool {
        self.peers.iter().any(|peer| peer.node == node && peer.kind == NodeKind::Vrrp)
    }
}
