//! Virtual services and their real servers: which are up, which take new sessions, and what the forwarders need to know
//! of them.
//!
//! A server is up in a family while its checks say so, nobody has taken it out of service, and no drain has reached its
//! deadline. Each time that this ends is a *failure* of the server: its sessions are dealt with as `on-failure` says.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::super::order::Order;
use super::super::outbox::Outbox;
use super::super::paths::Override;
use super::Farm;
use crate::config::numbering::base_name;
use crate::config::{AdminState, Config, Server, Service};
use crate::engine::change::{Alarm, StateChange, Subject};
use crate::engine::view::{AlarmKind, EventKind};
use crate::health::history::Outages;
use crate::health::monitor::HealthState;
use crate::id::{ServerId, ServiceId};
use crate::slb::{Availability, Maglev, SchedulerState, ServerState};
use crate::time::{Duration, Instant};
use crate::wire::Family;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

#[derive(Debug, Clone)]
pub(super) struct ServiceRecord {
    pub(super) admin_override: Option<Override>,
    pub(super) drain: Drain,
    pub(super) state: Availability,
    pub(super) since: Instant,
    pub(super) outages: Outages,
    /// The weights in force, and the hash table that was made of them.
    pub(super) table: (Vec<u16>, Arc<Maglev>),
}

#[derive(Debug, Clone)]
pub(super) struct ServerRecord {
    pub(super) admin_override: Option<Override>,
    pub(super) weight_override: Option<WeightOverride>,
    pub(super) drain: Drain,
    pub(super) up: [bool; 2],
    /// There is no verdict in this family yet, and sessions from before the start may be at this server.
    pub(super) is_starting: [bool; 2],
    pub(super) failure_counts: [u32; 2],
    /// By family: why it takes no new sessions although its checks find it up. Passive checks took it out for this
    /// reason.
    pub(super) avoided: [Option<String>; 2],
    pub(super) state: Availability,
    pub(super) since: Instant,
    pub(super) outages: Outages,
    pub(super) reason: Option<String>,
    /// The state that outlives reloads. It is kept here, because a service of thousands is built anew whenever one
    /// fails.
    pub(super) persistent_state: Arc<ServerState>,
}

/// A weight that an operator set over the one in the file.
#[derive(Debug, Clone)]
pub(super) struct WeightOverride {
    pub(super) weight: u16,
    pub(super) order: Order,
}

impl ServiceRecord {
    fn new(service: &Service, now: Instant) -> Self {
        Self {
            admin_override: None,
            drain: Drain::of(service.admin, service.drain_timeout, now),
            state: Availability::Starting,
            since: now,
            outages: Outages::default(),
            table: (Vec::new(), Arc::new(Maglev::new([]))),
        }
    }
}

impl ServerRecord {
    fn new(server: &Server, service: &Service, scheduler: &SchedulerState, now: Instant) -> Self {
        Self {
            admin_override: None,
            weight_override: None,
            drain: Drain::of(server.admin, service.drain_timeout, now),
            up: [false; 2],
            is_starting: [false; 2],
            failure_counts: [0; 2],
            avoided: [None, None],
            state: Availability::Starting,
            since: now,
            outages: Outages::default(),
            reason: Some("no verdict yet".to_owned()),
            persistent_state: scheduler.server(base_name(&service.name), base_name(&server.name)),
        }
    }
}

impl ServerRecord {
    /// By family: true if it takes new sessions, as far as its health is concerned.
    pub(super) fn serves(&self) -> [bool; 2] {
        [0, 1].map(|family| self.up[family] && self.avoided[family].is_none())
    }

    /// True if it serves in at least one family.
    pub(super) fn is_up(&self) -> bool {
        self.serves().contains(&true)
    }
}

/// The progress of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    /// No drain is under way, or it lasts until its sessions have ended.
    Open,
    /// Sessions that are left at this deadline are ended.
    Until(Instant),
    /// The deadline has passed.
    Over,
}

impl Drain {
    pub(super) fn of(admin: AdminState, timeout: Option<Duration>, now: Instant) -> Self {
        match admin {
            AdminState::Drain => timeout.map_or(Self::Open, |timeout| Self::Until(now + timeout)),
            AdminState::Ready | AdminState::Maint => Self::Open,
        }
    }

    /// Ends the drain if its deadline has passed; true if it has ended.
    fn end_if_due(&mut self, now: Instant) -> bool {
        let over = self.deadline().is_some_and(|end| end <= now);
        if over {
            *self = Self::Over;
        }
        over
    }

    const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Until(end) => Some(*end),
            Self::Open | Self::Over => None,
        }
    }
}

/// Counts how often and for how long a service or server is down.
fn count_outage(availability: Availability, outages: &mut Outages, now: Instant) {
    match availability {
        Availability::Up => outages.rise(now),
        Availability::Down => outages.fall(now),
        Availability::Starting | Availability::Drain | Availability::Maint => outages.pause(now),
    }
}

/// What is known of services and servers at the start.
pub(super) fn initial_records(
    config: &Config,
    scheduler: &SchedulerState,
    now: Instant,
) -> (Vec<ServiceRecord>, Vec<ServerRecord>) {
    let services = config.services.iter().map(|service| ServiceRecord::new(service, now));
    let servers = config.servers.iter().map(|server| {
        let service = &config.services[server.service.index()];
        ServerRecord::new(server, service, scheduler, now)
    });
    (services.collect(), servers.collect())
}

impl Farm {
    /// Ends the drains whose deadline has passed.
    pub(super) fn end_drains(&mut self, now: Instant) {
        if self.next_drain.is_none_or(|end| end > now) {
            return;
        }
        let mut over = false;
        for record in &mut self.services {
            over |= record.drain.end_if_due(now);
        }
        for record in &mut self.servers {
            over |= record.drain.end_if_due(now);
        }
        self.needs_evaluation |= over;
    }

    fn drain_ends(&self) -> impl Iterator<Item = Instant> + '_ {
        let services = self.services.iter().filter_map(|service| service.drain.deadline());
        services.chain(self.servers.iter().filter_map(|server| server.drain.deadline()))
    }

    /// Evaluates which servers and services are up, reports what changed, and has it published.
    pub(in super::super) fn evaluate(&mut self, now: Instant, out: &mut Outbox) {
        let suspects = std::mem::take(&mut self.suspects);
        let is_general = std::mem::take(&mut self.needs_evaluation);
        let (servers, services): (Vec<ServerId>, BTreeSet<ServiceId>) = if is_general {
            self.stale.extend((0..self.config.services.len()).map(ServiceId::from));
            (self.config.server_ids().collect(), self.config.service_ids().collect())
        } else {
            let services = suspects.iter().map(|server| self.config.servers[server.index()].service);
            (suspects.iter().copied().collect(), services.collect())
        };
        if !is_general && services.is_empty() {
            return;
        }
        self.stale.extend(&services);
        for server in servers {
            self.evaluate_server(server, now, out);
        }
        for service in services {
            self.evaluate_service(service, now, out);
        }
        self.next_drain = self.drain_ends().min();
        out.publish();
    }

    fn evaluate_server(&mut self, id: ServerId, now: Instant, out: &mut Outbox) {
        let admin = self.effective_admin(id);
        let over = self.drain_is_over(id);
        let verdicts = self.verdicts(id);
        let record = &mut self.servers[id.index()];
        for (index, verdict) in verdicts.into_iter().enumerate() {
            let may = |state| verdict == Some(state) && admin != AdminState::Maint && !over;
            let (up, is_starting) = (may(HealthState::Up), may(HealthState::Starting));
            let had = record.up[index] || record.is_starting[index];
            record.failure_counts[index] += u32::from(had && !up && !is_starting);
            (record.up[index], record.is_starting[index]) = (up, is_starting);
        }
        let availability = Availability::of(admin, record.is_up(), verdicts.contains(&Some(HealthState::Starting)));
        let was = record.state;
        let reason = self.server_reason(id, availability);
        let record = &mut self.servers[id.index()];
        record.state = availability;
        count_outage(availability, &mut record.outages, now);
        record.reason.clone_from(&reason);
        if was.shown() != availability.shown() {
            let lasted = now.since(std::mem::replace(&mut record.since, now));
            let subject = Subject::server(&self.config, id);
            let change = StateChange::to(EventKind::Server, subject, availability.shown().name());
            out.report_change(change.from(was.shown().name()).because(reason).after(lasted));
        }
    }

    /// Updates the reason of a server that is down: it may be down for another reason than the one that took it out.
    pub(super) fn update_down_reason(&mut self, id: ServerId) {
        match self.servers[id.index()].state {
            Availability::Down => {
                self.servers[id.index()].reason = self.server_reason(id, Availability::Down);
            }
            Availability::Starting | Availability::Up | Availability::Drain | Availability::Maint => {}
        }
    }

    fn evaluate_service(&mut self, id: ServiceId, now: Instant, out: &mut Outbox) {
        let service = &self.config.services[id.index()];
        let of_server =
            |wanted: Availability| service.servers.iter().any(|server| self.servers[server.index()].state == wanted);
        let live = service.servers.iter().any(|server| self.servers[server.index()].is_up());
        let availability = Availability::of(self.service_admin(id), live, of_server(Availability::Starting));
        let reason = self.service_reason(id, availability);
        let record = &mut self.services[id.index()];
        let was = std::mem::replace(&mut record.state, availability);
        count_outage(availability, &mut record.outages, now);
        if was.shown() != availability.shown() {
            let lasted = now.since(std::mem::replace(&mut record.since, now));
            let subject = Subject::service(&self.config, id);
            let change = StateChange::to(EventKind::Service, subject, availability.shown().name());
            out.report_change(change.from(was.shown().name()).because(reason.clone()).after(lasted));
        }
        let alarm = Alarm { kind: AlarmKind::ServiceDown, subject: Subject::service(&self.config, id) };
        match availability {
            Availability::Down => out.raise_alarm(alarm, reason, now),
            Availability::Up | Availability::Starting | Availability::Drain | Availability::Maint => {
                out.clear_alarm(&alarm, now)
            }
        }
    }

    /// The administrative state in force for a server: the stricter of its own and its service's.
    pub(super) fn effective_admin(&self, id: ServerId) -> AdminState {
        let service = self.service_admin(self.config.servers[id.index()].service);
        match (self.server_admin(id), service) {
            (AdminState::Maint, _) | (_, AdminState::Maint) => AdminState::Maint,
            (AdminState::Drain, _) | (_, AdminState::Drain) => AdminState::Drain,
            (AdminState::Ready, AdminState::Ready) => AdminState::Ready,
        }
    }

    /// True if a service of this virtual address has a server that is up.
    pub(super) fn is_vip_alive(&self, address: IpAddr) -> bool {
        let family = Family::of(address);
        let mut services = self.built.all().iter().filter(|service| service.addresses.contains(&address));
        services.any(|service| service.servers.iter().any(|server| server.is_up(family)))
    }

    /// The weight of a server: the override, else what the file says.
    pub(super) fn server_weight(&self, id: ServerId) -> u16 {
        let set = self.servers[id.index()].weight_override.as_ref();
        set.map_or(self.config.servers[id.index()].weight, |set| set.weight)
    }

    pub(super) fn drain_is_over(&self, id: ServerId) -> bool {
        let service = self.config.servers[id.index()].service;
        self.servers[id.index()].drain == Drain::Over || self.services[service.index()].drain == Drain::Over
    }

    /// What the checks say, by family; `None` where the server serves nobody.
    fn verdicts(&self, id: ServerId) -> [Option<HealthState>; 2] {
        FAMILIES
            .map(|family| self.checks_of(id).find(|check| check.family == family).map(|check| check.monitor.state()))
    }
}
