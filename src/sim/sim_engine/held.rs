//! The sessions of a node as the checkers of clusters compare them.

use crate::engine::copies::needs_copy;
use crate::flow::CanonicalKey;
use crate::ha::{CopyStatus, NodeId};
use crate::id::{FirewallId, ServerId, ServiceId};
use crate::path::pinning::{Pin, PinState};
use crate::session::{ConversationState, Placement, Session};
use crate::sim::packet::Tuple;
use crate::sim::sim_engine::SimEngine;
use crate::time::{Duration, Instant};

/// A session of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldSession {
    /// The flow as its opener's packets show it.
    pub outside: Tuple,
    /// The flow as its server sees it, if it is translated.
    pub inside: Option<Tuple>,
    /// Its service and server, if it has any.
    pub server: Option<(ServiceId, ServerId)>,
    /// The firewalls of its confirmed pins: toward the low end of the flow, and toward the high end.
    pub firewalls: [Option<FirewallId>; 2],
    /// Its state.
    pub state: ConversationState,
    /// The time of its last packet, as this node knows it.
    pub last_seen: Instant,
    /// How long after that it is forgotten.
    pub timeout: Duration,
    /// Whether another node could not compute it.
    pub needs_copy: bool,
    /// Whether this node holds it for another one, or would have to tell others of it.
    pub is_copy: bool,
}

impl SimEngine {
    /// The sessions of a node; none while it is dead.
    pub fn held_sessions(&self, now: Instant) -> Vec<HeldSession> {
        let mut all = Vec::new();
        let Some(core) = &self.core else { return all };
        let (owner, timeouts, local) = (core.workers.len() as u16, core.table.timeouts(), now + self.epoch);
        core.table.for_each(|key, session, placement| {
            let needs_copy = needs_copy(key, session, placement, &core.snapshot, local);
            all.push(HeldSession {
                needs_copy,
                is_copy: needs_copy || placement.is_some() || session.worker() == owner,
                last_seen: self.world_time(session.last_seen),
                timeout: session.timeout(&timeouts),
                ..held(key, session, placement)
            });
            true
        });
        all
    }

    /// How far the copies are at another node of the side, and from it; `None` if this one is dead or keeps none.
    pub fn copy_status(&self, other: usize, now: Instant) -> Option<CopyStatus> {
        let keeper = self.core.as_ref()?.node.as_ref()?.keeper.as_ref()?;
        Some(keeper.copies.status(NodeId(other as u8), now + self.epoch))
    }

    /// Whether it is alive and stands still.
    pub fn stands_still(&self, now: Instant) -> bool {
        self.is_alive() && now < self.paused_until
    }
}

fn held(key: &CanonicalKey, session: &Session, placement: Option<&Placement>) -> HeldSession {
    let tuple = |flow: crate::flow::FlowKey| Tuple {
        protocol: flow.protocol,
        source: (flow.source.address, flow.source.port),
        destination: (flow.destination.address, flow.destination.port),
    };
    let confirmed = |pin: Option<Pin>| pin.filter(|pin| pin.state == PinState::Confirmed).map(|pin| pin.firewall);
    HeldSession {
        outside: tuple(key.in_direction(session.original_direction)),
        inside: placement.and_then(|placement| placement.inside).map(tuple),
        server: placement.map(|placement| (placement.service, placement.server)),
        firewalls: [confirmed(session.toward_low), confirmed(session.toward_high)],
        state: session.state,
        last_seen: session.last_seen,
        timeout: Duration::ZERO,
        needs_copy: false,
        is_copy: false,
    }
}
