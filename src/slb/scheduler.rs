//! Choosing a server for a new session.
//!
//! The state of the schedulers survives snapshots and reloads. [`SchedulerState`] keeps it by the names of services and
//! servers and hands out references, so that a [`Service`] is connected with its state once, when it is built, and no
//! worker looks up names.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::flow::FlowKey;
use crate::slb::rotation::Rotation;
use crate::slb::sticky::{StickyCapacity, StickyTable};
use crate::slb::{Observation, Scheduler, Server, Service, TunnelPathState, family_index, maglev};
use crate::time::Instant;
use crate::wire::Family;

/// The state of a service.
#[derive(Debug)]
pub struct ServiceState {
    /// The turns of [`Scheduler::RoundRobin`], shared by all workers. There is one sequence, or two if IPv4 and IPv6
    /// have different servers.
    rotations: Mutex<[Rotation; 2]>,
    /// Which client had which server.
    pub sticky: StickyTable,
    /// The number of clients that could not become sticky because there was no room.
    pub sticky_full: AtomicU64,
}

/// The state of a real server of a service.
#[derive(Debug)]
pub struct ServerState {
    /// Its name, which sticky entries share.
    pub name: Arc<str>,
    /// The number of active sessions.
    active: AtomicI64,
    /// The number of sessions since start.
    total: AtomicU64,
    /// What is known of the path of its tunnel, in mode `tunnel`.
    pub tunnel: TunnelPathState,
    /// What connections of clients say about it, by family.
    observed: [Observation; 2],
}

/// The state of all services and servers, by name.
#[derive(Debug)]
pub struct SchedulerState {
    sticky_capacity: Arc<StickyCapacity>,
    services: Mutex<HashMap<String, Arc<ServiceState>>>,
    servers: Mutex<HashMap<(String, String), Arc<ServerState>>>,
}

/// What a server is chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A new session, which uses up the server's turn.
    NewSession,
    /// A conversation in progress that no session knows.
    Resume,
    /// Nothing: `explain` asks which server would be chosen.
    Preview,
}

impl SchedulerState {
    /// An empty state with room for `sticky` sticky clients.
    pub fn new(sticky: usize) -> Self {
        Self { sticky_capacity: StickyCapacity::new(sticky), services: Mutex::default(), servers: Mutex::default() }
    }

    /// The state of a service, which is created when it is first asked for.
    pub fn service(&self, name: &str) -> Arc<ServiceState> {
        let mut services = lock(&self.services);
        let make = || {
            let sticky = StickyTable::new(Arc::clone(&self.sticky_capacity));
            Arc::new(ServiceState { rotations: Mutex::default(), sticky, sticky_full: AtomicU64::new(0) })
        };
        Arc::clone(services.entry(name.to_owned()).or_insert_with(make))
    }

    /// The state of a server of a service, which is created when it is first asked for.
    pub fn server(&self, service: &str, name: &str) -> Arc<ServerState> {
        let mut servers = lock(&self.servers);
        Arc::clone(
            servers.entry((service.to_owned(), name.to_owned())).or_insert_with(|| Arc::new(ServerState::new(name))),
        )
    }

    /// Forgets the state of services and servers that nobody uses any more.
    pub fn forget_unused(&self) {
        lock(&self.services).retain(|_, state| Arc::strong_count(state) > 1);
        lock(&self.servers).retain(|_, state| Arc::strong_count(state) > 1);
    }

    /// The number of sticky entries in use.
    pub fn sticky_used(&self) -> usize {
        self.sticky_capacity.used()
    }
}

impl Clone for SchedulerState {
    /// A second list of the same states. States that it creates later are not in this list.
    fn clone(&self) -> Self {
        Self {
            sticky_capacity: Arc::clone(&self.sticky_capacity),
            services: Mutex::new(lock(&self.services).clone()),
            servers: Mutex::new(lock(&self.servers).clone()),
        }
    }
}

impl ServerState {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            active: AtomicI64::new(0),
            total: AtomicU64::new(0),
            tunnel: TunnelPathState::default(),
            observed: Default::default(),
        }
    }

    /// What connections of clients in a family say about it.
    pub fn observed(&self, family: Family) -> &Observation {
        &self.observed[family_index(family)]
    }

    /// Counts a new session.
    pub fn opened(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an ended session that continues, or that begins again between the same ends.
    pub fn resumed(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a session that has ended: its connection was closed or reset, or it was forgotten.
    pub fn ended(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number of active sessions.
    pub fn active(&self) -> u64 {
        u64::try_from(self.active.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// The number of sessions since start.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

impl Service {
    /// Chooses the server for a new session of `flow`, whose source is the client. `None` if no server can take it.
    ///
    /// A sticky client gets its previous server as long as that keeps its clients (`Service::accepts_sticky`).
    /// Otherwise the scheduler chooses among the servers that take new sessions or, if all others are down, among the
    /// backup servers.
    pub fn choose_server(&self, flow: &FlowKey, now: Instant) -> Option<&Server> {
        self.assign(flow, Purpose::NewSession, now)
    }

    /// Chooses the server for a packet in the middle of a conversation that no session knows.
    ///
    /// The hash scheduler finds the server that had the conversation before the engine started, even if its first check
    /// has not ended; if that server is down, the session fails with it. Other schedulers choose as for a new session.
    pub fn resume_server(&self, flow: &FlowKey, now: Instant) -> Option<&Server> {
        self.assign(flow, Purpose::Resume, now)
    }

    fn assign(&self, flow: &FlowKey, purpose: Purpose, now: Instant) -> Option<&Server> {
        let server = self.pick(flow, purpose, now)?;
        if let Some(by) = &self.sticky
            && !self.state.sticky.remember(flow.source.address, by, &server.state.name, now)
        {
            self.state.sticky_full.fetch_add(1, Ordering::Relaxed);
        }
        Some(server)
    }

    /// Computes in advance which servers take part in round robin, so that no worker has to.
    pub(super) fn prepare(&self) {
        if self.scheduler == Scheduler::RoundRobin {
            self.rotation_members.of(&self.servers, Family::V4);
        }
    }

    /// True if every server that is not a backup is down in a family.
    pub fn needs_backups(&self, family: Family) -> bool {
        need_backups(&self.servers, family)
    }

    /// True if a sticky client may return to a server of the service with another session.
    ///
    /// | the server is | it keeps its clients | because |
    /// | --- | --- | --- |
    /// | up, of any weight above 0 | yes | that is what stickiness is for |
    /// | up, of weight 0 | yes | nothing cuts its sessions, so they leave it one by one (HAProxy's `weight 0` and `drain`; IPVS without `expire_quiescent_template`) |
    /// | draining | no | `drain-timeout` would cut the session (F5's *forced offline*) |
    /// | down, in maintenance, removed | no | it serves nobody |
    /// | a backup, every other server down | yes | it is one of those that serve |
    /// | a backup, another server up | no | it is there for when all others are down |
    ///
    /// A server that one reload removed and another added again under the same name is the same server.
    fn accepts_sticky(&self, server: &Server, family: Family) -> bool {
        server.is_up(family) && server.accepts_new_sessions && (!server.backup || self.needs_backups(family))
    }

    /// The server that [`Service::choose_server`] would return, without changing any state.
    pub fn preview_server(&self, flow: &FlowKey, now: Instant) -> Option<&Server> {
        self.pick(flow, Purpose::Preview, now)
    }

    fn pick(&self, flow: &FlowKey, purpose: Purpose, now: Instant) -> Option<&Server> {
        let family = flow.family();
        if !self.accepts_new_sessions {
            return None;
        }
        let known = self.sticky.as_ref().and_then(|by| self.state.sticky.server_of(flow.source.address, by, now));
        let kept = known.and_then(|name| self.servers.iter().find(|server| server.state.name == name));
        kept.filter(|server| self.accepts_sticky(server, family)).or_else(|| self.schedule(flow, family, purpose))
    }

    fn schedule(&self, flow: &FlowKey, family: Family, purpose: Purpose) -> Option<&Server> {
        let is_candidate = |server: &Server| server.is_candidate(family);
        let others_are_down = || self.needs_backups(family);
        match self.scheduler {
            Scheduler::RoundRobin => self.round_robin(family, purpose),
            Scheduler::LeastConnections => {
                let is_primary = |server: &Server| is_candidate(server) && !server.backup;
                let backup = || self.least_connections(is_candidate).filter(|_| others_are_down());
                self.least_connections(is_primary).or_else(backup)
            }
            Scheduler::Hash(on) => {
                let hash = maglev::hash(flow, on);
                let is_primary = |server: &Server| {
                    !server.backup
                        && match purpose {
                            Purpose::NewSession | Purpose::Preview => server.is_candidate(family),
                            Purpose::Resume => server.may_own_conversation(family),
                        }
                };
                let lookup = |is_eligible: &dyn Fn(&Server) -> bool| {
                    self.table.lookup(hash, |position| is_eligible(&self.servers[position]))
                };
                let position = lookup(&is_primary).or_else(|| lookup(&is_candidate).filter(|_| others_are_down()))?;
                Some(&self.servers[position])
            }
        }
    }

    /// Chooses by a rotation that follows the weights exactly and smoothly; see [`crate::slb::rotation`].
    fn round_robin(&self, family: Family, purpose: Purpose) -> Option<&Server> {
        let (lineup, sequence) = self.rotation_members.of(&self.servers, family);
        let turns = &mut lock(&self.state.rotations)[sequence];
        let place = match purpose {
            Purpose::NewSession | Purpose::Resume => turns.take(lineup),
            Purpose::Preview => turns.peek(lineup),
        };
        self.servers.get(place?)
    }

    /// Chooses the server with the fewest active sessions for its weight and, among equals, with the fewest sessions
    /// since start.
    fn least_connections(&self, is_eligible: impl Fn(&Server) -> bool) -> Option<&Server> {
        // This compares a / w(a) < b / w(b) without division.
        let load = |sessions: u64, other: &Server| u128::from(sessions) * u128::from(other.weight);
        let order = |a: &&Server, b: &&Server| {
            let active = load(a.state.active(), b).cmp(&load(b.state.active(), a));
            active.then_with(|| load(a.state.total(), b).cmp(&load(b.state.total(), a)))
        };
        self.servers.iter().filter(|server| is_eligible(server)).min_by(order)
    }
}

/// True if every server that is not a backup is down in a family, so that the backups serve.
pub(super) fn need_backups(servers: &[Server], family: Family) -> bool {
    !servers.iter().any(|server| !server.backup && server.is_up(family))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
