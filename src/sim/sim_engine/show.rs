//! What a simulated engine shows to operators, and of its tables to the checkers.

use crate::engine::view::{AlarmView, CountersView, FirewallView, PeerView, ServiceView};
use crate::engine::{Counters, Snapshot};
use crate::flow::{CanonicalKey, Endpoint, FlowKey};
use crate::id::{ServerId, ServiceId};
use crate::session::{Placement, Session};
use crate::sim::packet::Tuple;
use crate::sim::sim_engine::SimEngine;
use crate::time::Instant;

/// The engine's record of a flow that a service gave to a server, with each leg as packets from the client show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundFlow {
    /// From the client to the virtual address.
    pub outside: Tuple,
    /// As the server sees it; equal to `outside` if nothing is translated.
    pub inside: Tuple,
    /// The service.
    pub service: ServiceId,
    /// The server.
    pub server: ServerId,
    /// How often the server had gone down when it was chosen.
    pub server_failures: u32,
    /// When the session was opened, by the engine's clock.
    pub created: Instant,
}

impl SimEngine {
    /// Counters of all workers since the engine started.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for worker in self.core.iter().flat_map(|core| &core.workers) {
            sum.add(&worker.cell.read());
        }
        let node = self.core.as_ref().and_then(|core| core.node.as_ref());
        if let Some(keeper) = node.and_then(|node| node.keeper.as_ref()) {
            sum.add(keeper.counters());
        }
        sum
    }

    /// Counters of the controller.
    pub fn controller_counters(&self) -> CountersView {
        self.core.as_ref().map(|core| core.controller.counters()).unwrap_or_default()
    }

    /// Number of frames that the workers took since the engine started.
    pub fn frames_received(&self) -> u64 {
        self.core.as_ref().map_or(0, |core| core.taken)
    }

    /// When the engine was started last.
    pub fn started(&self) -> Option<Instant> {
        self.core.as_ref().map(|core| core.started)
    }

    /// The snapshot by which the workers decide.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.core.as_ref().map(|core| &*core.snapshot)
    }

    /// Number of live sessions, and the table's capacity.
    pub fn sessions(&self) -> (usize, usize) {
        self.core.as_ref().map_or((0, 0), |core| (core.table.len(), core.table.capacity()))
    }

    /// Copies of all sessions.
    pub fn session_list(&self) -> Vec<Session> {
        let mut all = Vec::new();
        if let Some(core) = &self.core {
            core.table.for_each(|_, session, _| {
                all.push(*session);
                true
            });
        }
        all
    }

    /// The record of the flow that a client's packets show as `outside`.
    pub fn bound_flow(&self, outside: Tuple) -> Option<BoundFlow> {
        let table = &self.core.as_ref()?.table;
        let id = table.find(&flow_key(outside).canonical().0)?;
        table.update_with_placement(id, |key, session, bound| bound_flow(key, session, bound?))?
    }

    /// The records of all flows that services gave to servers.
    pub fn bound_flows(&self) -> Vec<BoundFlow> {
        let mut all = Vec::new();
        if let Some(core) = &self.core {
            core.table.for_each(|key, session, bound| {
                all.extend(bound.and_then(|bound| bound_flow(key, session, bound)));
                true
            });
        }
        all
    }

    /// The views of `show services`.
    pub fn services(&self, now: Instant) -> Vec<ServiceView> {
        let counters = self.counters();
        self.core.as_ref().map(|core| core.controller.services(&counters, now + self.epoch)).unwrap_or_default()
    }

    /// The views of `show firewalls`.
    pub fn firewalls(&self, now: Instant) -> Vec<FirewallView> {
        let counters = self.counters();
        self.core.as_ref().map(|core| core.controller.firewalls(&counters, now + self.epoch)).unwrap_or_default()
    }

    /// The views of `show peers`.
    pub fn peers(&self, now: Instant) -> Vec<PeerView> {
        self.core.as_ref().map(|core| core.controller.peers(now + self.epoch)).unwrap_or_default()
    }

    /// The alarms that are raised.
    pub fn alarms(&self, now: Instant) -> Vec<AlarmView> {
        self.core.as_ref().map(|core| core.controller.alarms(now + self.epoch)).unwrap_or_default()
    }

    /// Number of neighbours that the controller keeps.
    pub fn neighbors(&self, now: Instant) -> usize {
        self.core.as_ref().map_or(0, |core| core.controller.neighbors(now + self.epoch).len())
    }
}

fn flow_key(tuple: Tuple) -> FlowKey {
    let end = |(address, port)| Endpoint { address, port };
    FlowKey { protocol: tuple.protocol, source: end(tuple.source), destination: end(tuple.destination) }
}

fn bound_flow(key: &CanonicalKey, session: &Session, bound: &Placement) -> Option<BoundFlow> {
    let tuple = |flow: FlowKey| Tuple {
        protocol: flow.protocol,
        source: (flow.source.address, flow.source.port),
        destination: (flow.destination.address, flow.destination.port),
    };
    let outside = key.in_direction(session.original_direction);
    let Placement { service, server, server_failures, inside } = *bound;
    let (outside, inside) = (tuple(outside), tuple(inside.unwrap_or(outside)));
    Some(BoundFlow { outside, inside, service, server, server_failures, created: session.created })
}
