//! The slow half: one per engine.
//!
//! It owns what packets need and cannot decide themselves: who answers at which hardware address (`neighbors`), which
//! paths are up (`probes`, `judgement`), what is answered in the engine's own name (`local`, `errors`). What the
//! forwarders are to know it publishes as a [`Snapshot`] (`publish`); what the operator is to know it tells as events,
//! alarms and views (`journal`, `views`).
//!
//! Every `handle_*` ends the same way: what the neighbours want is sent, the paths are judged, and if anything changed that
//! a forwarder looks at, one snapshot is published.

#[path = "controller/paths/admin.rs"]
mod admin;
mod agenda;
mod apply;
mod checks;
#[path = "controller/paths/exchanges.rs"]
mod exchange;
mod journal;
#[path = "controller/paths/judgement.rs"]
mod judgement;
mod last;
mod links;
mod measures;
#[path = "controller/paths/notes.rs"]
mod notes;
mod order;
mod out;
#[path = "controller/paths/peers.rs"]
mod peers;
#[path = "controller/paths/probes.rs"]
mod probes;
mod publish;
#[path = "controller/paths/responder.rs"]
mod responder;
mod service_admin;
mod service_views;
mod services;
mod tally;
mod views;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Admin, CheckKind, Config};
use crate::engine::snapshot::Renewed;
use crate::engine::verdict::{Punt, Transmit};
use crate::engine::{Counters, Snapshot, view};
use crate::id::{DeviceId, FirewallId, LinkId, ServerId};
use crate::path::liveness::{Liveness, SetKey};
use crate::path::{self};
use crate::random::SplitMix64;
use crate::time::{Duration, Instant};
use crate::wire::{Family, MacAddr};

use admin::Override;
use checks::{Checks, ServerCheck};
use exchange::Exchange;
use links::Links;
use out::{Notice, Out};
use peers::PeerRecord;
use probes::{Path, Vigil};
use services::Farm;

pub use last::Consequence;
pub use order::Order;
pub use service_admin::ServerChange;

/// What the owner has to do for the controller, or may tell.
#[derive(Debug, Clone)]
pub enum Event {
    /// Workers are to look at this from their next batch on.
    Publish(Arc<Snapshot>),
    /// Something changed state: log it, show it under `show events`.
    Change(view::EventView),
    /// A health check ended: log it. Told only where the configuration asks for it.
    Checked(view::CheckedView),
    /// The answer to [`Controller::probe`] or [`Controller::ping`].
    Exchange {
        /// What the call returned.
        request: u64,
        /// What happened.
        result: view::ExchangeView,
    },
}

/// What the operating system says about a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceState {
    /// Its hardware address.
    pub mac: MacAddr,
    /// Its MTU in bytes of IP packet.
    pub mtu: u16,
    /// It exists, is administratively up and has carrier.
    pub up: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Controller {
    config: Arc<Config>,
    random: SplitMix64,
    /// Tells this start of the engine from earlier ones.
    epoch: u64,
    probe_sequence: u64,
    links: Links,
    paths: Vec<Path>,
    /// By server, IPv4 first.
    server_checks: Vec<ServerCheck>,
    checks: Checks,
    farm: Farm,
    vigils: BTreeMap<(FirewallId, Family), Vigil>,
    peers: Vec<PeerRecord>,
    liveness: Liveness,
    set_keys: Vec<SetKey>,
    /// Reloads so far, and the numbers that they gave away again.
    generation: u64,
    renewed: Arc<Renewed>,
    judge: bool,
    overrides: Vec<Option<Override>>,
    /// Digest of each group's configuration.
    group_digests: Vec<u64>,
    /// Digest of each firewall's name.
    name_digests: Vec<u64>,
    groups: Vec<path::Group>,
    snapshot: Arc<Snapshot>,
    /// Nothing is published before, but for what an operator orders.
    publish_from: Instant,
    exchanges: Vec<Exchange>,
    out: Out,
    /// What [`Controller::poll_timeout`] said last: how late the owner is.
    due: Option<Instant>,
}

impl Controller {
    /// An engine with this configuration; `random` seeds probe identifiers and jitter. Every device is absent until
    /// [`Controller::handle_device`] says otherwise.
    pub fn new(config: Config, random: u64, now: Instant) -> Self {
        let checks = Checks::new(random);
        let mut random = SplitMix64::new(random);
        let set_keys = judgement::set_keys(&config, Vec::new());
        let liveness = Liveness::new(judgement::settings(&config, &set_keys), now);
        let routes = publish::routes(&config, &set_keys);
        let config = Arc::new(config);
        let mut controller = Self {
            epoch: random.next_u64(),
            probe_sequence: 0,
            links: Links::new(Arc::clone(&config), routes, random.next_u64(), now),
            paths: probes::paths(&config, &mut random, now),
            server_checks: checks::server_checks(&config, now),
            checks,
            farm: Farm::new(&config, now),
            vigils: BTreeMap::new(),
            peers: config.peers.iter().map(|_| PeerRecord::default()).collect(),
            liveness,
            generation: 0,
            renewed: Arc::default(),
            judge: true,
            overrides: config.firewalls.iter().map(|_| None).collect(),
            group_digests: config.groups.iter().map(|group| peers::group_digest(&config, group)).collect(),
            name_digests: peers::name_digests(&config),
            groups: publish::groups(&config),
            snapshot: Arc::new(Snapshot::default()),
            publish_from: now,
            exchanges: Vec::new(),
            out: Out::default(),
            due: None,
            set_keys,
            random,
            config,
        };
        controller.out.publish();
        controller.schedule_checks();
        controller.finish(now);
        controller
    }

    /// Takes a frame from a forwarder.
    pub fn handle_punt(&mut self, punt: Punt, now: Instant) {
        self.notice_lag(now);
        if let Some(local) = self.links.handle_punt(punt, now, &mut self.out) {
            self.handle_local(local, now);
        }
        self.finish(now);
    }

    /// A device appeared, changed or went (`None`).
    pub fn handle_device(&mut self, device: DeviceId, state: Option<DeviceState>, now: Instant) {
        self.notice_lag(now);
        self.links.handle_device(device, state, now, &mut self.out);
        self.finish(now);
    }

    /// Frames that a verdict hangs on were lost on their way here since the last call: answers to probes may be among them, so
    /// missed probes of this interval do not count. Within limits: see `excuse_probes`.
    pub fn handle_punt_loss(&mut self, refused: u64, now: Instant) {
        if refused > 0 {
            self.notice_lag(now);
            self.excuse_probes(Duration::MAX, now);
            self.excuse_checks(Duration::MAX);
            self.finish(now);
        }
    }

    /// Time passes. Call it whenever [`Controller::poll_timeout`] is due; how late it is called is how late the engine is.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.notice_lag(now);
        self.links.handle_timeout(now, &mut self.out);
        self.run_probes(now);
        self.keep_vigils(now);
        self.end_exchanges(now);
        self.run_checks(now);
        self.tend_services(now);
        self.finish(now);
    }

    /// A frame to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.poll_transmit()
    }

    /// Something to do or to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.poll_event()
    }

    /// When [`Controller::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The snapshot that was published last.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    /// `show firewalls`, with the traffic of `counters` (all workers summed).
    pub fn firewalls(&self, counters: &Counters, now: Instant) -> Vec<view::FirewallView> {
        self.config.firewall_ids().map(|id| self.firewall_view(id, counters, now)).collect()
    }

    /// `show peers`.
    pub fn peers(&self, now: Instant) -> Vec<view::PeerView> {
        self.config.peer_ids().map(|id| self.peer_view(id, now)).collect()
    }

    /// `show services`, with the traffic of `counters` (all workers summed).
    pub fn services(&self, counters: &Counters, now: Instant) -> Vec<view::ServiceView> {
        self.config.service_ids().map(|id| self.service_view(id, counters, now)).collect()
    }

    /// `show neighbors`.
    pub fn neighbors(&self, now: Instant) -> Vec<view::NeighborView> {
        self.links.neighbors().iter().map(|neighbor| self.neighbor_view(&neighbor, now)).collect()
    }

    /// What is wrong and lasts.
    pub fn alarms(&self, now: Instant) -> Vec<view::AlarmView> {
        self.out.alarms(now)
    }

    /// What `fwlb set` overrides; this is what [`Config`] `state` keeps.
    pub fn overrides(&self) -> Vec<view::OverrideView> {
        self.override_views()
    }

    /// What the controller counts: `punt_drop_<reason>`, frames of its own sent, ICMP errors limited, probes.
    pub fn counters(&self) -> view::CountersView {
        self.counter_view()
    }

    /// `fwlb set firewall`: overrides the administrative state (`None`: back to the file's) of every firewall called `name`
    /// (in `group`, if given).
    pub fn set_admin(
        &mut self,
        group: Option<&str>,
        name: &str,
        admin: Option<Admin>,
        order: &Order,
        now: Instant,
    ) -> Result<(), UnknownName> {
        self.command_admin(group, name, admin, order)?;
        self.finish(now);
        Ok(())
    }

    /// `fwlb set service`: overrides the administrative state (`None`: back to the file's).
    pub fn set_service(
        &mut self,
        name: &str,
        admin: Option<Admin>,
        order: &Order,
        now: Instant,
    ) -> Result<(), UnknownName> {
        self.command_service(name, admin, order, now)?;
        self.out.publish_at_once();
        self.finish(now);
        Ok(())
    }

    /// `fwlb set server`: overrides the administrative state or the weight of the server `name` of `service`.
    pub fn set_server(
        &mut self,
        service: &str,
        name: &str,
        change: ServerChange,
        order: &Order,
        now: Instant,
    ) -> Result<(), UnknownName> {
        self.command_server(service, name, change, order, now)?;
        self.out.publish_at_once();
        self.finish(now);
        Ok(())
    }

    /// Overrides again what [`Controller::overrides`] told before a restart.
    pub fn restore(&mut self, set: &view::OverrideView, now: Instant) -> Result<(), UnknownName> {
        self.command_again(set, now)?;
        self.finish(now);
        Ok(())
    }

    /// The server `name` of `service`.
    pub fn server_called(&self, service: &str, name: &str) -> Result<ServerId, UnknownName> {
        self.server_named(service, name)
    }

    /// Checks a server now, in every family that it has; an [`Event::Exchange`] for each follows. Returns the request
    /// numbers.
    pub fn probe_server(&mut self, server: ServerId, now: Instant) -> Vec<u64> {
        let requests = self.start_checks(server, now);
        self.finish(now);
        requests
    }

    /// Probes every path of a firewall now; an [`Event::Exchange`] per path follows. Returns the request numbers.
    pub fn probe(&mut self, firewall: FirewallId, now: Instant) -> Vec<u64> {
        let requests = self.start_probes(firewall, now);
        self.finish(now);
        requests
    }

    /// Pings `address`: through a firewall, on a link, or as routed. An [`Event::Exchange`] follows within a second.
    pub fn ping(
        &mut self,
        address: std::net::IpAddr,
        link: Option<LinkId>,
        firewall: Option<FirewallId>,
        now: Instant,
    ) -> Result<u64, UnknownName> {
        let request = self.start_ping(address, link, firewall, now)?;
        self.finish(now);
        Ok(request)
    }

    /// How late the owner is: what is missed meanwhile is not the firewalls' fault.
    fn notice_lag(&mut self, now: Instant) {
        if let Some(due) = self.due {
            self.excuse_probes(now.since(due), now);
            self.excuse_checks(now.since(due));
        }
    }

    /// What every call ends with: send, judge, publish.
    fn finish(&mut self, now: Instant) {
        self.hand_on(now);
        self.links.settle(now, &mut self.out);
        self.hand_on(now);
        self.judge_paths(now);
        self.judge_services(now);
        self.publish_changes(now);
        self.due = self.next_timeout(now);
    }

    /// A packet to the engine: offered to each part in turn, and answered as by any host if none of them takes it.
    fn handle_local(&mut self, mut punt: Punt, now: Instant) {
        let Some(arrival) = self.links.read(&mut punt, &self.snapshot, &mut self.out) else { return };
        let is_taken = self.check_arrival(&arrival, now) || self.path_arrival(&arrival, now);
        if !is_taken {
            self.links.handle_arrival(&arrival, now, &mut self.out);
        }
    }

    /// Tells the parts what they have to know of each other.
    fn hand_on(&mut self, now: Instant) {
        while let Some(notice) = self.out.poll_notice() {
            match notice {
                Notice::LinkUp(link) => {
                    self.tell_link(link, false);
                    self.resume_checks(now);
                }
                Notice::LinkDown(link) => self.fail_paths_on(link, now),
                Notice::NeighborsChanged => self.judge = true,
                Notice::NextHopFound { request, mac } => self.note_resolved(request, mac, now),
                Notice::NextHopSilent { request } => self.next_hop_silent(request),
            }
        }
    }

    fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let paths = self.paths.iter().flat_map(|path| [path.prober.poll_timeout(), path.monitor.poll_timeout(now)]);
        let vigils = self.vigils.values().map(|vigil| Some(vigil.next));
        let exchanges = self.exchanges.iter().map(|exchange| Some(exchange.deadline));
        let single = [
            self.links.poll_timeout(),
            self.liveness.poll_timeout(),
            self.checks.poll_timeout(),
            self.farm.poll_timeout(),
            self.out.wants_snapshot().then_some(self.publish_from),
        ];
        paths.chain(vigils).chain(exchanges).chain(single).flatten().min()
    }

    /// Tells the result of a health check, where that is asked for.
    fn tell_checked(&mut self, checked: impl FnOnce(&Self) -> view::CheckedView) {
        if self.config.log.checks {
            let checked = checked(self);
            self.out.checked(checked);
        }
    }

    /// True if the group of `firewall` is probed.
    fn is_probed(&self, firewall: FirewallId) -> bool {
        let group = self.config.firewalls[firewall.index()].group;
        match self.config.groups[group.index()].check.kind {
            CheckKind::Icmp | CheckKind::Tcp { .. } | CheckKind::Udp { .. } => true,
            CheckKind::None => false,
        }
    }
}

/// A name or address that this engine does not know; the text says what there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownName(pub String);

#[cfg(test)]
mod tests;
