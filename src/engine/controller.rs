//! The slow half: one per engine.
//!
//! It owns what packets need and cannot decide themselves: who answers at which hardware address (`neighbors`), which
//! paths are up (`probes`, `judgement`), what is answered in the engine's own name (`local`, `errors`). What the
//! forwarders are to know it publishes as a [`Snapshot`] (`publish`); what the operator is to know it tells as events,
//! alarms and views (`journal`, `views`).
//!
//! Every `handle_*` ends the same way: what the neighbours want is sent, the paths are judged, and if anything changed that
//! a forwarder looks at, one snapshot is published.

mod agenda;
mod apply;
mod check_views;
mod checks;
mod journal;
mod last;
mod links;
mod measures;
mod order;
mod out;
mod paths;
mod publish;
mod refusals;
mod service_admin;
mod service_views;
mod services;
mod tally;
mod views;

use std::sync::Arc;

use crate::config::{Admin, Config};
use crate::engine::snapshot::Renewed;
use crate::engine::verdict::{Punt, Transmit};
use crate::engine::{Counters, Snapshot, view};
use crate::id::{DeviceId, FirewallId, LinkId, ServerId};
use crate::random::SplitMix64;
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

use checks::{Checks, ServerCheck};
use links::Links;
use out::{Notice, Out};
use paths::Paths;
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
#[derive(Debug, Clone)]
pub struct Controller {
    config: Arc<Config>,
    random: SplitMix64,
    links: Links,
    paths: Paths,
    /// By server, IPv4 first.
    server_checks: Vec<ServerCheck>,
    checks: Checks,
    farm: Farm,
    /// The number of reloads so far.
    generation: u64,
    /// The numbers that reloads gave to other things.
    renewed: Arc<Renewed>,
    snapshot: Arc<Snapshot>,
    /// Nothing is published before, unless it is urgent.
    publish_from: Instant,
    out: Out,
    refusals: refusals::Refusals,
    /// What [`Controller::poll_timeout`] said last: how late the owner is.
    due: Option<Instant>,
}

impl Controller {
    /// An engine with this configuration; `random` seeds probe identifiers and jitter. Every device is absent until
    /// [`Controller::handle_device`] says otherwise.
    pub fn new(config: Config, random: u64, now: Instant) -> Self {
        let config = Arc::new(config);
        let checks = Checks::new(random);
        let mut random = SplitMix64::new(random);
        let paths = Paths::new(Arc::clone(&config), random.next_u64(), now);
        let routes = publish::routes(&config, paths.set_keys());
        let mut controller = Self {
            links: Links::new(Arc::clone(&config), routes, random.next_u64(), now),
            paths,
            server_checks: checks::server_checks(&config, now),
            checks,
            farm: Farm::new(&config, now),
            generation: 0,
            renewed: Arc::default(),
            snapshot: Arc::new(Snapshot::default()),
            publish_from: now,
            out: Out::default(),
            refusals: Default::default(),
            due: None,
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
    /// missed probes of this interval do not count. Within limits: see `Paths::handle_lag`.
    pub fn handle_punt_loss(&mut self, refused: u64, now: Instant) {
        if refused > 0 {
            self.notice_lag(now);
            self.paths.handle_lag(Duration::MAX, now);
            self.excuse_checks(Duration::MAX);
            self.finish(now);
        }
    }

    /// Time passes. Call it whenever [`Controller::poll_timeout`] is due; how late it is called is how late the engine is.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.notice_lag(now);
        self.links.handle_timeout(now, &mut self.out);
        self.paths.handle_timeout(&mut self.links, now, &mut self.out);
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
        self.config.firewall_ids().map(|id| self.paths.firewall_view(id, counters, &self.links, now)).collect()
    }

    /// `show peers`.
    pub fn peers(&self, now: Instant) -> Vec<view::PeerView> {
        self.config.peer_ids().map(|id| self.paths.peer_view(id, now)).collect()
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
        self.paths.overrides().chain(self.service_overrides()).collect()
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
        self.paths.set_admin(group, name, admin, order, &mut self.out)?;
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
        let requests = self.paths.start_probes(firewall, &mut self.links, now, &mut self.out);
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
        let request = self.paths.start_ping(address, link, firewall, &mut self.links, now, &mut self.out)?;
        self.finish(now);
        Ok(request)
    }

    /// How late the owner is: what is missed meanwhile is not the firewalls' fault.
    fn notice_lag(&mut self, now: Instant) {
        if let Some(due) = self.due {
            self.paths.handle_lag(now.since(due), now);
            self.excuse_checks(now.since(due));
        }
    }

    /// What every call ends with: send, judge, publish.
    fn finish(&mut self, now: Instant) {
        self.hand_on(now);
        self.links.settle(now, &mut self.out);
        self.hand_on(now);
        self.paths.judge(&self.links, now, &mut self.out);
        self.judge_services(now);
        self.publish_changes(now);
        self.due = self.next_timeout(now);
    }

    /// A packet to the engine: offered to each part in turn, and answered as by any host if none of them takes it.
    fn handle_local(&mut self, mut punt: Punt, now: Instant) {
        let Some(arrival) = self.links.read(&mut punt, &self.snapshot, &mut self.out) else { return };
        let is_taken = self.check_arrival(&arrival, now)
            || self.paths.handle_arrival(&arrival, &mut self.links, now, &mut self.out);
        if !is_taken {
            self.links.handle_arrival(&arrival, now, &mut self.out);
        }
    }

    /// Tells the parts what they have to know of each other.
    fn hand_on(&mut self, now: Instant) {
        while let Some(notice) = self.out.poll_notice() {
            match notice {
                Notice::LinkUp(link) => {
                    self.paths.handle_link_up(link);
                    self.resume_checks(now);
                }
                Notice::LinkDown(link) => self.paths.handle_link_down(link, &self.links, now, &mut self.out),
                Notice::NeighborsChanged => self.paths.handle_neighbors(),
                Notice::NextHopFound { request, mac } => self.paths.handle_next_hop(request, mac, now),
                Notice::NextHopSilent { request } => self.paths.handle_silent_next_hop(request, &mut self.out),
            }
        }
    }

    fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let parts = [
            self.links.poll_timeout(),
            self.paths.poll_timeout(now),
            self.checks.poll_timeout(),
            self.farm.poll_timeout(),
            self.out.wants_snapshot().then_some(self.publish_from),
        ];
        parts.into_iter().flatten().min()
    }

    /// Tells the result of a health check, where that is asked for.
    fn tell_checked(&mut self, checked: impl FnOnce(&Self) -> view::CheckedView) {
        if self.config.log.checks {
            let checked = checked(self);
            self.out.checked(checked);
        }
    }

    /// What would follow if the firewalls called `name` (in `group`, if given) were commanded to `admin` (`None`: to what the
    /// file says).
    ///
    /// # Errors
    /// If there is no such firewall.
    pub fn consequences_for_firewall(
        &self,
        group: Option<&str>,
        name: &str,
        admin: Option<Admin>,
    ) -> Result<Vec<Consequence>, UnknownName> {
        self.paths.consequences(group, name, admin)
    }

    /// What the engines on the far sides hold of the firewalls called `name` (in `group`, if given) that is stricter than
    /// what holds here: what an order here does not undo.
    pub fn held_elsewhere(&self, group: Option<&str>, name: &str) -> Vec<view::OrderView> {
        self.paths.held_elsewhere(group, name)
    }

    /// The round trips of the answered probes, per path.
    pub fn probe_times(&self) -> Vec<view::ProbeView> {
        self.paths.probe_times()
    }
}

/// A name or address that this engine does not know; the text says what there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownName(pub String);

#[cfg(test)]
mod tests;
