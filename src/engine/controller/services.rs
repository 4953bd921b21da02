//! Virtual services and their real servers: who is up, who takes new sessions, and what the forwarders are to know of it.
//!
//! A server is up in a family while its checks say so, nobody has taken it out of service, and no drain has run out. Each
//! time that ends it *falls*: its sessions are dealt with as `on-failure` says.

mod building;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::Controller;
use super::admin::Override;
use super::checks::ServerCheck;
use super::journal::{Alarm, Changed};
use super::judgement::family_name;
use super::order::Order;
use crate::config::numbering::base_name;
use crate::config::{Admin, Config, Server, Service, is_removed};
use crate::health::history::Outages;
use crate::health::monitor::State;
use crate::id::{ServerId, ServiceId};
use crate::slb::{Maglev, SchedulerState, ServerState, Services};
use crate::time::{Duration, Instant};
use crate::wire::Family;

/// How often sticky entries that nobody used are forgotten.
const STICKY_INTERVAL: Duration = Duration::from_secs(1);
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The server side of an engine.
#[derive(Debug, Clone)]
pub(super) struct Farm {
    scheduler: SchedulerState,
    pub(super) services: Vec<ServiceRecord>,
    pub(super) servers: Vec<ServerRecord>,
    /// As the last snapshot has them.
    built: Services,
    /// Something happened that may change who is up, whoever it is.
    pub(super) judge: bool,
    /// Servers of which that may be said.
    pub(super) suspects: BTreeSet<ServerId>,
    /// Services that the last snapshot does not have as they are.
    stale: BTreeSet<ServiceId>,
    /// When the next drain runs out.
    next_drain: Option<Instant>,
    /// When sticky entries are looked at.
    sticky: Option<Instant>,
}

#[derive(Debug, Clone)]
pub(super) struct ServiceRecord {
    pub(super) set: Option<Override>,
    pub(super) drain: Drain,
    pub(super) state: Standing,
    pub(super) since: Instant,
    pub(super) outages: Outages,
    /// Weights in force, and the table made of them.
    table: (Vec<u16>, Arc<Maglev>),
}

#[derive(Debug, Clone)]
pub(super) struct ServerRecord {
    pub(super) set: Option<Override>,
    pub(super) weight: Option<WeightOverride>,
    pub(super) drain: Drain,
    up: [bool; 2],
    /// Sessions from before the start may be its, although nobody knows yet whether it is up.
    is_starting: [bool; 2],
    falls: [u32; 2],
    pub(super) state: Standing,
    pub(super) since: Instant,
    pub(super) outages: Outages,
    pub(super) reason: Option<String>,
    /// Looked up once: a service of thousands is built anew whenever one of them falls.
    remembered: Arc<ServerState>,
}

/// A weight that was commanded.
#[derive(Debug, Clone)]
pub(super) struct WeightOverride {
    pub(super) weight: u16,
    pub(super) order: Order,
}

impl ServiceRecord {
    fn new(service: &Service, now: Instant) -> Self {
        Self {
            set: None,
            drain: Drain::of(service.admin, service.drain_timeout, now),
            state: Standing::Starting,
            since: now,
            outages: Outages::default(),
            table: (Vec::new(), Arc::new(Maglev::new([]))),
        }
    }
}

impl ServerRecord {
    fn new(server: &Server, service: &Service, scheduler: &SchedulerState, now: Instant) -> Self {
        Self {
            set: None,
            weight: None,
            drain: Drain::of(server.admin, service.drain_timeout, now),
            up: [false; 2],
            is_starting: [false; 2],
            falls: [0; 2],
            state: Standing::Starting,
            since: now,
            outages: Outages::default(),
            reason: Some("no verdict yet".to_owned()),
            remembered: scheduler.server(base_name(&service.name), base_name(&server.name)),
        }
    }
}

impl ServerRecord {
    /// Whether it serves in a family at least.
    pub(super) fn is_up(&self) -> bool {
        self.up.contains(&true)
    }
}

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    /// None is under way, or it lasts until its sessions have ended.
    Open,
    /// What is left then ends.
    Until(Instant),
    /// It ran out.
    Over,
}

impl Drain {
    pub(super) fn of(admin: Admin, timeout: Option<Duration>, now: Instant) -> Self {
        match admin {
            Admin::Drain => timeout.map_or(Self::Open, |timeout| Self::Until(now + timeout)),
            Admin::Ready | Admin::Maint => Self::Open,
        }
    }

    /// True if it ran out just now.
    fn runs_out(&mut self, now: Instant) -> bool {
        let over = self.end().is_some_and(|end| end <= now);
        if over {
            *self = Self::Over;
        }
        over
    }

    const fn end(&self) -> Option<Instant> {
        match self {
            Self::Until(end) => Some(*end),
            Self::Open | Self::Over => None,
        }
    }
}

/// What is shown of a service or server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody knows yet: shown as down.
    Starting,
    Up,
    Down,
    Drain,
    Maint,
}

impl Standing {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Starting | Self::Down => "down",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }

    /// Keeps count of how often and how long it was down.
    fn count(self, outages: &mut Outages, now: Instant) {
        match self {
            Self::Up => outages.rise(now),
            Self::Down => outages.fall(now),
            Self::Starting | Self::Drain | Self::Maint => outages.pause(now),
        }
    }
}

impl Farm {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        Self::new_with(config, SchedulerState::new(config.limits.sticky), now)
    }

    fn new_with(config: &Config, scheduler: SchedulerState, now: Instant) -> Self {
        let services = config.services.iter().map(|service| ServiceRecord::new(service, now));
        let servers = config.servers.iter().map(|server| {
            let service = &config.services[server.service.index()];
            ServerRecord::new(server, service, &scheduler, now)
        });
        Self {
            services: services.collect(),
            servers: servers.collect(),
            scheduler,
            built: Services::default(),
            judge: true,
            suspects: BTreeSet::new(),
            stale: BTreeSet::new(),
            next_drain: None,
            sticky: config.services.iter().any(|service| service.sticky.is_some()).then(|| now + STICKY_INTERVAL),
        }
    }

    /// Goes on from what was known under `old`: positions, sticky clients, verdicts, falls, overrides and drains of what
    /// stays. What is gone falls.
    pub(super) fn adopt(&mut self, config: &Config, old: &Config, now: Instant) {
        self.scheduler.forget_unused();
        let fresh = Self::new_with(config, self.scheduler.clone(), now);
        let before = std::mem::replace(self, fresh);
        for (index, record) in before.services.into_iter().enumerate() {
            let (was, is) = (&old.services[index], &config.services[index]);
            if base_name(&was.name) == base_name(&is.name) {
                let fresh = std::mem::replace(&mut self.services[index], record);
                let own = &mut self.services[index];
                own.table = fresh.table;
                if is_removed(&is.name) {
                    own.set = None;
                }
                if was.admin != is.admin && own.set.is_none() {
                    own.drain = fresh.drain;
                }
            }
        }
        for (index, record) in before.servers.into_iter().enumerate() {
            let (was, is) = (&old.servers[index], &config.servers[index]);
            let service_of =
                |config: &Config, server: &Server| base_name(&config.services[server.service.index()].name).to_owned();
            let same = base_name(&was.name) == base_name(&is.name) && service_of(old, was) == service_of(config, is);
            if !same {
                continue;
            }
            let fresh = std::mem::replace(&mut self.servers[index], record);
            let own = &mut self.servers[index];
            match (is_removed(&was.name), is_removed(&is.name)) {
                (false, true) => {
                    own.falls = own.falls.map(|falls| falls.wrapping_add(1));
                    (own.up, own.is_starting) = ([false; 2], [false; 2]);
                    (own.set, own.weight, own.state) = (None, None, Standing::Maint);
                }
                (true, false) => (own.state, own.since, own.reason) = (fresh.state, fresh.since, fresh.reason),
                (false, false) if was.admin != is.admin && own.set.is_none() => own.drain = fresh.drain,
                (false, false) | (true, true) => {}
            }
        }
        self.built = before.built;
        self.sticky = self.sticky.map(|due| before.sticky.unwrap_or(due));
    }

    /// Sticky entries in use.
    pub(super) fn sticky_used(&self) -> usize {
        self.scheduler.sticky_used()
    }

    /// When a drain runs out, or sticky entries are to be looked at.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next_drain.into_iter().chain(self.sticky).min()
    }

    fn drain_ends(&self) -> impl Iterator<Item = Instant> + '_ {
        let services = self.services.iter().filter_map(|service| service.drain.end());
        services.chain(self.servers.iter().filter_map(|server| server.drain.end()))
    }

    /// As the last snapshot has them.
    pub(super) fn services(&self) -> &Services {
        &self.built
    }
}

/// The addresses of services, and those that stand for clients.
pub(super) fn virtual_addresses(config: &Config) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> =
        config.services.iter().flat_map(|service| service.addresses.iter().chain(&service.snat)).copied().collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

impl Controller {
    /// Ends the drains that have run out, forgets sticky clients.
    pub(super) fn tend_services(&mut self, now: Instant) {
        if self.farm.next_drain.is_some_and(|end| end <= now) {
            let mut over = false;
            for record in &mut self.farm.services {
                over |= record.drain.runs_out(now);
            }
            for record in &mut self.farm.servers {
                over |= record.drain.runs_out(now);
            }
            self.farm.judge |= over;
        }
        if self.farm.sticky.is_some_and(|due| due <= now) {
            self.farm.sticky = Some(now + STICKY_INTERVAL);
            for service in self.farm.built.all() {
                if let Some(by) = &service.sticky {
                    service.state.sticky.expire(by.timeout, now);
                }
            }
        }
    }

    /// Finds out who is up; tells what changed, and has it published.
    pub(super) fn judge_services(&mut self, now: Instant) {
        let suspects = std::mem::take(&mut self.farm.suspects);
        let is_general = std::mem::take(&mut self.farm.judge);
        let (servers, services): (Vec<ServerId>, BTreeSet<ServiceId>) = if is_general {
            self.farm.stale.extend((0..self.config.services.len()).map(ServiceId::from));
            (self.config.server_ids().collect(), self.config.service_ids().collect())
        } else {
            let services = suspects.iter().map(|server| self.config.servers[server.index()].service);
            (suspects.iter().copied().collect(), services.collect())
        };
        if !is_general && services.is_empty() {
            return;
        }
        self.farm.stale.extend(&services);
        for server in servers {
            self.judge_server(server, now);
        }
        for service in services {
            self.judge_service(service, now);
        }
        self.farm.next_drain = self.farm.drain_ends().min();
        self.publish = true;
    }

    fn judge_server(&mut self, id: ServerId, now: Instant) {
        let admin = self.standing_order(id);
        let over = self.drain_is_over(id);
        let verdicts = self.verdicts(id);
        let record = &mut self.farm.servers[id.index()];
        for (index, verdict) in verdicts.into_iter().enumerate() {
            let may = |state| verdict == Some(state) && admin != Admin::Maint && !over;
            let (up, is_starting) = (may(State::Up), may(State::Starting));
            let had = record.up[index] || record.is_starting[index];
            record.falls[index] += u32::from(had && !up && !is_starting);
            (record.up[index], record.is_starting[index]) = (up, is_starting);
        }
        let standing = match admin {
            Admin::Maint => Standing::Maint,
            Admin::Drain => Standing::Drain,
            Admin::Ready if record.up.contains(&true) => Standing::Up,
            Admin::Ready if verdicts.contains(&Some(State::Starting)) => Standing::Starting,
            Admin::Ready => Standing::Down,
        };
        let was = record.state;
        let reason = self.server_reason(id, standing);
        let record = &mut self.farm.servers[id.index()];
        record.state = standing;
        standing.count(&mut record.outages, now);
        record.reason.clone_from(&reason);
        if was.name() != standing.name() {
            let since = std::mem::replace(&mut record.since, now);
            let (subject, reason) = (&self.server_name(id), reason.as_deref());
            let (from, to) = (was.name(), standing.name());
            self.change_since(since, now, Changed { kind: "server", subject, from, to, reason });
        }
    }

    /// A server that is down may be so for another reason than the one that took it out.
    pub(super) fn tell_why(&mut self, id: ServerId) {
        match self.farm.servers[id.index()].state {
            Standing::Down => {
                self.farm.servers[id.index()].reason = self.server_reason(id, Standing::Down);
            }
            Standing::Starting | Standing::Up | Standing::Drain | Standing::Maint => {}
        }
    }

    fn judge_service(&mut self, id: ServiceId, now: Instant) {
        let service = &self.config.services[id.index()];
        let of_server =
            |wanted: Standing| service.servers.iter().any(|server| self.farm.servers[server.index()].state == wanted);
        let live = service.servers.iter().any(|server| self.farm.servers[server.index()].is_up());
        let standing = match self.service_admin(id) {
            Admin::Maint => Standing::Maint,
            Admin::Drain => Standing::Drain,
            Admin::Ready if live => Standing::Up,
            Admin::Ready if of_server(Standing::Starting) => Standing::Starting,
            Admin::Ready => Standing::Down,
        };
        let name = service.name.clone();
        let reason = self.service_reason(id, standing);
        let reason = reason.as_str();
        let record = &mut self.farm.services[id.index()];
        let was = std::mem::replace(&mut record.state, standing);
        standing.count(&mut record.outages, now);
        if was.name() != standing.name() {
            let since = std::mem::replace(&mut record.since, now);
            let (subject, from, to) = (&name, was.name(), standing.name());
            self.change_since(since, now, Changed { kind: "service", subject, from, to, reason: Some(reason) });
        }
        let alarm = Alarm { kind: "service_down", subject: name };
        match standing {
            Standing::Down => self.raise_alarm(alarm, reason.to_owned(), now),
            Standing::Up | Standing::Starting | Standing::Drain | Standing::Maint => self.clear_alarm(&alarm, now),
        }
    }

    /// Why a service is in its state, in words.
    pub(super) fn service_reason(&self, id: ServiceId, standing: Standing) -> String {
        match standing {
            Standing::Up if self.lives_on_backups(id) => "only backup servers are up".to_owned(),
            Standing::Up => "a server is up".to_owned(),
            Standing::Down => "no server is up".to_owned(),
            Standing::Starting => "no verdict yet".to_owned(),
            Standing::Drain | Standing::Maint => {
                let set = self.farm.services[id.index()].set.as_ref();
                set.map_or_else(|| "configured".to_owned(), |set| set.order.words(None))
            }
        }
    }

    /// What holds for a server: the stricter of its own order and its service's.
    pub(super) fn standing_order(&self, id: ServerId) -> Admin {
        let service = self.service_admin(self.config.servers[id.index()].service);
        match (self.server_admin(id), service) {
            (Admin::Maint, _) | (_, Admin::Maint) => Admin::Maint,
            (Admin::Drain, _) | (_, Admin::Drain) => Admin::Drain,
            (Admin::Ready, Admin::Ready) => Admin::Ready,
        }
    }

    /// True if a service of this virtual address has a live server.
    pub(super) fn is_vip_alive(&self, address: IpAddr) -> bool {
        let family = Family::of(address);
        let mut services = self.farm.built.all().iter().filter(|service| service.addresses.contains(&address));
        services.any(|service| service.servers.iter().any(|server| server.is_up(family)))
    }

    /// `web/s1`.
    pub(super) fn server_name(&self, id: ServerId) -> String {
        let server = &self.config.servers[id.index()];
        format!("{}/{}", self.config.services[server.service.index()].name, server.name)
    }

    /// The weight in force.
    pub(super) fn server_weight(&self, id: ServerId) -> u16 {
        let set = self.farm.servers[id.index()].weight.as_ref();
        set.map_or(self.config.servers[id.index()].weight, |set| set.weight)
    }

    fn drain_is_over(&self, id: ServerId) -> bool {
        let service = self.config.servers[id.index()].service;
        self.farm.servers[id.index()].drain == Drain::Over || self.farm.services[service.index()].drain == Drain::Over
    }

    /// What the checks say, by family; `None` where the server serves nobody.
    fn verdicts(&self, id: ServerId) -> [Option<State>; 2] {
        FAMILIES
            .map(|family| self.checks_of(id).find(|check| check.family == family).map(|check| check.monitor.state()))
    }

    fn server_reason(&self, id: ServerId, standing: Standing) -> Option<String> {
        let server = &self.config.servers[id.index()];
        let service = &self.config.services[server.service.index()];
        match standing {
            Standing::Starting => Some("no verdict yet".to_owned()),
            Standing::Up => None,
            Standing::Down => {
                let checks: Vec<&ServerCheck> = self.checks_of(id).collect();
                let failures = checks.iter().map(|check| {
                    let failure = check.monitor.last_failure().unwrap_or("no verdict yet");
                    match checks.len() {
                        1 => failure.to_owned(),
                        _ => format!("{}: {failure}", family_name(check.family)),
                    }
                });
                Some(failures.collect::<Vec<_>>().join("; "))
            }
            Standing::Drain | Standing::Maint => {
                let words = |set: &Option<Override>| {
                    set.as_ref().map_or_else(|| "configured".to_owned(), |set| set.order.words(None))
                };
                let text = match self.server_admin(id) {
                    Admin::Ready => {
                        let set = &self.farm.services[server.service.index()].set;
                        format!("service {} {}", service.name, words(set))
                    }
                    Admin::Drain | Admin::Maint => words(&self.farm.servers[id.index()].set),
                };
                Some(if self.drain_is_over(id) { format!("{text}; drain-timeout has passed") } else { text })
            }
        }
    }
}
