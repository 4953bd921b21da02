//! Keeps the copies of an engine: what [`Copies`] decide, with the tables, ports and counters that it is about.

use std::sync::Arc;

use crate::config::Config;
use crate::engine::copies::CopiedEngine;
use crate::engine::{Counters, CountersCell, SessionLedger, Snapshot};
use crate::ha::copies::Unapplied;
use crate::ha::view::{HaView, PassView};
use crate::ha::{Associations, Copies, Forwarding, Machine, NodeId, SyncState};
use crate::nat::PortPools;
use crate::session::{ChangeReader, ChangeWriter, SessionTable, SessionWorker, Timeouts, change_ring};
use crate::time::{Duration, Instant};

/// Words that a packet worker can tell before they are read: some 50 ms of new sessions, as fast as one worker opens them.
const CHANGES_MAX: usize = 65_536;

/// How often numbers that change all the time are reported to the role machine.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// The session table of an engine, with its workers.
#[derive(Debug)]
pub struct Sessions {
    /// The table.
    pub table: Arc<SessionTable>,
    /// The workers that handle packets.
    pub workers: Vec<SessionWorker>,
    /// The parts that copies need, if the engine keeps copies.
    pub copying: Option<Copying>,
}

/// What copies of sessions need of the session table.
#[derive(Debug)]
pub struct Copying {
    owner: SessionWorker,
    readers: Vec<ChangeReader>,
    writers: Vec<ChangeWriter>,
}

impl Copying {
    /// Takes the writing ends of the rings through which packet workers tell which sessions changed: one for each worker,
    /// in their order. They are there once; a second call returns none.
    pub fn take_writers(&mut self) -> Vec<ChangeWriter> {
        std::mem::take(&mut self.writers)
    }
}

impl Sessions {
    /// A table for `workers` packet workers, and for copies where `config` asks for them.
    pub fn new(config: &Config, workers: usize, timeouts: Timeouts, seeds: [u64; 4]) -> Self {
        let capacity = config.limits.sessions;
        if config.copying_nodes().is_empty() {
            let (table, workers) = SessionTable::new(capacity, workers, timeouts, seeds);
            return Self { table, workers, copying: None };
        }
        let (table, workers, owner) = SessionTable::with_copies(capacity, workers, timeouts, seeds);
        let (writers, readers) = workers.iter().map(|_| change_ring(CHANGES_MAX)).unzip();
        Self { table, workers, copying: Some(Copying { owner, readers, writers }) }
    }
}

/// The copies of an engine.
#[derive(Debug)]
pub struct CopyKeeper {
    /// What is told and held.
    pub copies: Copies,
    ports: Arc<PortPools>,
    counters: Counters,
    published: Arc<CountersCell>,
    /// Gets the sessions that ended here, as the ledgers of packet workers do.
    ledger: Option<Box<dyn SessionLedger>>,
    /// The names of the other nodes.
    names: Vec<(NodeId, String)>,
    /// What the role machine knows, and since when.
    reported: Option<(SyncState, Instant)>,
}

impl CopyKeeper {
    /// The copies of an engine with these sessions and ports, whose counters go to `published`. `origin` is a random
    /// number that is different at every start. `config` has to be that of the sessions.
    pub fn new(
        config: &Config,
        copying: Copying,
        ports: Arc<PortPools>,
        published: Arc<CountersCell>,
        origin: u64,
        now: Instant,
    ) -> Self {
        let Copying { owner, readers, writers: _ } = copying;
        let delay = config.ha.as_ref().map(|ha| ha.sync_delay).unwrap_or_default();
        let copies = Copies::new(owner, readers, config.copying_nodes(), origin, delay, now);
        let names = names_of_copying_nodes(config);
        Self { copies, ports, counters: Counters::default(), published, ledger: None, names, reported: None }
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Reports ended sessions to `ledger` from here on.
    pub fn set_session_ledger(&mut self, ledger: Box<dyn SessionLedger>) {
        self.ledger = Some(ledger);
    }

    /// Follows a reload.
    pub fn set_config(&mut self, config: &Config) {
        let names = names_of_copying_nodes(config);
        let former = |name: &str| self.names.iter().find(|(_, known)| known == name).map(|(node, _)| *node);
        self.copies.set_nodes(names.iter().map(|(node, name)| (*node, former(name))));
        self.names = names;
        self.copies.set_delay(config.ha.as_ref().map(|ha| ha.sync_delay).unwrap_or_default());
    }

    /// Follows what the role machine and the associations say of this node and of the others.
    pub fn follow(&mut self, machine: &Machine, associations: &Associations, snapshot: &Snapshot, now: Instant) {
        let is_router = machine.role_word().forwarding != Forwarding::Silent;
        if self.copies.is_router() && !is_router {
            self.tell_all(snapshot, now);
        }
        self.copies.set_router(is_router, machine.role_since(), now);
        self.copies.set_active(machine.active_peer(now));
        for (node, _) in machine.config().others() {
            let is_connected = associations.is_live(node) && machine.path_to(node, now).is_some();
            self.copies.set_connected(node, is_connected);
        }
    }

    /// How far the copies are, if that is news to the role machine: at most once in a second, unless something important
    /// changed.
    pub fn poll_state(&mut self, now: Instant) -> Option<SyncState> {
        let state = self.copies.sync_state(now);
        let is_news = match &self.reported {
            None => true,
            Some((before, at)) => {
                let [known, new] = [before, &state].map(|state| (state.is_ready, &state.lacking, &state.alarms));
                let is_important = known != new;
                is_important || (*before != state && now.since(*at) >= REPORT_EVERY)
            }
        };
        is_news.then(|| {
            self.reported = Some((state.clone(), now));
            state
        })
    }

    /// Adds what is known of the copies at the other nodes.
    pub fn complete(&self, view: &mut HaView, now: Instant) {
        let state = self.copies.sync_state(now);
        (view.sessions_needed, view.sessions_held) = (state.needed, state.held);
        for node in &mut view.nodes {
            let Some((id, _)) = self.names.iter().find(|(_, name)| *name == node.name) else { continue };
            let status = self.copies.status(*id, now);
            let behind = status.stalled.max(status.behind);
            node.behind_ms = u64::try_from(behind.as_millis()).unwrap_or(u64::MAX);
            node.pass = status.pass.map(|(done, of)| PassView { done, of });
            node.full_passes = status.full_passes;
            (node.records, node.resends) = (status.records, status.resends);
            let refused =
                Unapplied::ALL.into_iter().map(|reason| (reason.name().to_owned(), status.refusals.count(reason)));
            node.refused = refused.collect();
        }
    }

    /// Tells everything that changed until now, before this node gives its role up.
    pub fn tell_all(&mut self, snapshot: &Snapshot, now: Instant) {
        let Self { copies, ports, counters, published, ledger, names: _, reported: _ } = self;
        copies.tell_all(&mut CopiedEngine { snapshot, ports, counters, ledger: ledger.as_deref_mut() }, now);
        published.publish(counters);
    }

    /// Does what is due.
    pub fn run(&mut self, snapshot: &Snapshot, now: Instant) {
        if now < self.copies.poll_timeout() {
            return;
        }
        let Self { copies, ports, counters, published, ledger, names: _, reported: _ } = self;
        copies.handle_timeout(&mut CopiedEngine { snapshot, ports, counters, ledger: ledger.as_deref_mut() }, now);
        published.publish(counters);
    }
}

fn names_of_copying_nodes(config: &Config) -> Vec<(NodeId, String)> {
    let name = |node: NodeId| config.ha.as_ref()?.nodes.get(node.index()).map(|settings| (node, settings.name.clone()));
    config.copying_nodes().into_iter().filter_map(name).collect()
}
