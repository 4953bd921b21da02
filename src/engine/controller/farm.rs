//! The services and their servers: which servers are up by their checks, which take new sessions, and what operators
//! order.
//!
//! It builds on the [`Links`], which send its frames and know the neighbours, and asks the [`Paths`] by which next hop
//! a server is reached. It knows of no part above it.

mod admin;
mod adopt;
mod building;
mod checks;
mod consequences;
mod observe;
mod reasons;
mod services;
mod views;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::links::Links;
use super::outbox::Outbox;
use super::paths::Paths;
use crate::config::Config;
use crate::engine::Snapshot;
use crate::id::{ServerId, ServiceId};
use crate::random::SplitMix64;
use crate::slb::{SchedulerState, Services};
use crate::time::{Duration, Instant};

use checks::Checks;
use services::{ServerRecord, ServiceRecord};

pub use admin::ServerChange;
pub(super) use checks::ServerCheck;

/// How often expired sticky entries are forgotten.
const STICKY_INTERVAL: Duration = Duration::from_secs(1);

/// The server side of an engine; see the module documentation.
#[derive(Debug, Clone)]
pub(super) struct Farm {
    config: Arc<Config>,
    scheduler: SchedulerState,
    /// By [`ServiceId`].
    services: Vec<ServiceRecord>,
    /// By [`ServerId`].
    servers: Vec<ServerRecord>,
    /// What checks have found out about each server: by server, IPv4 first.
    server_checks: Vec<ServerCheck>,
    checks: Checks,
    /// The services as the last snapshot has them.
    built: Services,
    /// Something happened that may change the state of any server.
    needs_evaluation: bool,
    /// The servers whose state may have changed.
    suspects: BTreeSet<ServerId>,
    /// The services that have changed since the last snapshot.
    stale: BTreeSet<ServiceId>,
    /// When the next drain reaches its deadline.
    next_drain: Option<Instant>,
    /// When unused sticky entries are forgotten next; `None` without sticky services.
    next_sticky_expiry: Option<Instant>,
    /// When the connections of clients are looked at next; `None` if no service observes them.
    next_observation: Option<Instant>,
    random: SplitMix64,
}

impl Farm {
    /// A farm in which no server has a verdict. `random` seeds ports, sequence numbers and data of checks.
    pub(super) fn new(config: Arc<Config>, random: u64, now: Instant) -> Self {
        let scheduler = SchedulerState::new(config.limits.sticky);
        let (services, servers) = services::initial_records(&config, &scheduler, now);
        let mut farm = Self {
            services,
            servers,
            scheduler,
            server_checks: checks::server_checks(&config, now),
            checks: Checks::new(random),
            built: Services::default(),
            needs_evaluation: true,
            suspects: BTreeSet::new(),
            stale: BTreeSet::new(),
            next_drain: None,
            next_sticky_expiry: first_sticky_expiry(&config, now),
            next_observation: observe::first_observation(&config, now),
            random: SplitMix64::new(random),
            config,
        };
        farm.schedule_checks();
        farm
    }

    /// Continues under another configuration. Positions of schedulers, sticky clients, verdicts, failure counts,
    /// overrides and drains of what stays are kept. What was removed counts as failed.
    pub(super) fn reconfigure(&mut self, config: Arc<Config>, now: Instant) {
        let old = std::mem::replace(&mut self.config, config);
        self.adopt_records(&old, now);
        self.adopt_checks(&old, now);
        self.needs_evaluation = true;
    }

    /// Begins and ends the checks that are due, evaluates the connections of clients, ends the drains that have reached
    /// their deadline, and forgets unused sticky clients.
    pub(super) fn handle_timeout(&mut self, links: &mut Links, paths: &Paths, now: Instant, out: &mut Outbox) {
        self.run_checks(links, paths, now, out);
        self.watch_clients(now, out);
        self.end_drains(now);
        self.forget_sticky(now);
    }

    /// When [`Farm::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let timers = [self.checks.poll_timeout(), self.next_drain, self.next_sticky_expiry, self.next_observation];
        timers.into_iter().flatten().min()
    }

    /// The engine was late by `lag`, or lost punts. Checks and connections of clients that had no answer are excused.
    pub(super) fn handle_lag(&mut self, lag: Duration) {
        self.excuse_checks(lag);
        self.excuse_observations(lag);
    }

    /// A link carries frames again.
    pub(super) fn handle_link_up(&mut self, now: Instant) {
        self.resume_checks(now);
    }

    /// Writes the services, as [`Farm::refresh`] built them last, into a snapshot that has none.
    pub(super) fn fill_snapshot(&self, snapshot: &mut Snapshot) {
        snapshot.services = self.built.clone();
        snapshot.service_addresses = self.config.virtual_addresses().into_iter().collect();
    }

    /// What checks have found out about each server, in the order of the servers.
    pub(super) fn server_checks(&self) -> &[ServerCheck] {
        &self.server_checks
    }

    /// The number of sticky entries in use.
    pub(super) fn sticky_used(&self) -> usize {
        self.scheduler.sticky_used()
    }

    fn forget_sticky(&mut self, now: Instant) {
        if self.next_sticky_expiry.is_some_and(|due| due <= now) {
            self.next_sticky_expiry = Some(now + STICKY_INTERVAL);
            for service in self.built.all() {
                if let Some(by) = &service.sticky {
                    service.state.sticky.expire(by.timeout, now);
                }
            }
        }
    }
}

/// When unused sticky entries are forgotten first; `None` without sticky services.
fn first_sticky_expiry(config: &Config, now: Instant) -> Option<Instant> {
    config.services.iter().any(|service| service.sticky.is_some()).then(|| now + STICKY_INTERVAL)
}
