//! The slow half: one per engine.
//!
//! It owns what packets need and cannot decide themselves: who answers at which hardware address (`neighbors`), which
//! paths are up (`probes`, `judgement`), what is answered in the engine's own name (`local`, `errors`). What the
//! forwarders are to know it publishes as a [`Snapshot`] (`publish`); what the operator is to know it tells as events,
//! alarms and views (`journal`, `views`).
//!
//! Every `handle_*` ends the same way: what the neighbours want is sent, the paths are judged, and if anything changed that
//! a forwarder looks at, one snapshot is published.

mod admin;
mod agenda;
mod apply;
mod check_views;
mod checks;
mod devices;
mod duplicates;
mod errors;
mod exchange;
mod journal;
mod judgement;
mod last;
mod local;
mod measures;
mod neighbors;
mod notes;
mod observe;
mod order;
mod peers;
mod probes;
mod publish;
mod reassembly;
mod refusals;
mod returns;
mod service_admin;
mod service_views;
mod services;
mod tally;
mod views;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::config::{Admin, CheckKind, Config};
use crate::engine::route::RouteTable;
use crate::engine::snapshot::Renewed;
use crate::engine::verdict::{Punt, PuntReason, Transmit};
use crate::engine::{Counters, Snapshot, view};
use crate::id::{DeviceId, FirewallId, LinkId, ServerId};
use crate::neighbor::{NeighborLimits, NeighborTable};
use crate::path::liveness::{Liveness, SetKey};
use crate::path::{self};
use crate::time::{Duration, Instant};
use crate::wire::fragment;
use crate::wire::frame::{ETHERNET_LEN, Frame, Payload};
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;
use crate::wire::{Family, MacAddr};

use admin::Override;
use checks::{Checks, ServerCheck};
use devices::LinkState;
use errors::Answers;
use exchange::Exchange;
use journal::Journal;
use neighbors::Waiting;
use peers::PeerRecord;
use probes::{Path, Vigil};
use reassembly::Reassembly;
use returns::Returns;
use services::Farm;
use tally::{Tallies, Tally};

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
    config: Config,
    random: Random,
    /// Tells this start of the engine from earlier ones.
    epoch: u64,
    probe_sequence: u64,
    links: Vec<LinkState>,
    neighbors: NeighborTable<Waiting>,
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
    routes: RouteTable,
    snapshot: Arc<Snapshot>,
    publish: bool,
    /// Nothing is published before, but for what an operator orders.
    publish_from: Instant,
    answers: Answers,
    reassembly: Reassembly,
    returns: Returns,
    exchanges: Vec<Exchange>,
    requests: u64,
    journal: Journal,
    refusals: refusals::Refusals,
    events: VecDeque<Event>,
    transmits: VecDeque<Transmit>,
    tallies: Tallies,
    /// What [`Controller::poll_timeout`] said last: how late the owner is.
    due: Option<Instant>,
}

impl Controller {
    /// An engine with this configuration; `random` seeds probe identifiers and jitter. Every device is absent until
    /// [`Controller::handle_device`] says otherwise.
    pub fn new(config: Config, random: u64, now: Instant) -> Self {
        let checks = Checks::new(random);
        let mut random = Random(random);
        let set_keys = judgement::set_keys(&config, Vec::new());
        let liveness = Liveness::new(judgement::settings(&config, &set_keys), now);
        let limits = NeighborLimits { neighbors: config.limits.neighbors, pending: config.limits.pending };
        let virtual_addresses = services::virtual_addresses(&config);
        let mut controller = Self {
            epoch: random.next(),
            probe_sequence: 0,
            links: config.links.iter().map(|link| LinkState::new(link, &virtual_addresses)).collect(),
            neighbors: NeighborTable::new(limits),
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
            routes: publish::routes(&config, &set_keys),
            snapshot: Arc::new(Snapshot::default()),
            publish: true,
            publish_from: now,
            answers: Answers::new(Random(!random.0), now),
            reassembly: Reassembly::default(),
            returns: Returns::default(),
            exchanges: Vec::new(),
            requests: 0,
            journal: Journal::default(),
            refusals: Default::default(),
            events: VecDeque::new(),
            transmits: VecDeque::new(),
            tallies: Tallies::default(),
            due: None,
            set_keys,
            random,
            config,
        };
        controller.keep_configured_neighbors(now);
        controller.schedule_checks();
        controller.finish(now);
        controller
    }

    /// Takes a frame from a forwarder.
    pub fn handle_punt(&mut self, punt: Punt, now: Instant) {
        self.notice_lag(now);
        match punt.reason {
            PuntReason::Neighbor => self.neighbor_frame(&punt, now),
            PuntReason::Local => self.local_frame(punt, now),
            PuntReason::NeighborWait { link, next_hop, sender } => {
                let back = Some((punt.link, sender));
                let source = neighbors::source_of(&punt);
                let Punt { vlan, offload, bytes, original, .. } = punt;
                let waiting = Waiting { link, vlan, offload, bytes, back, original, request: None };
                self.neighbors.park((link, next_hop), source, waiting, now);
            }
            PuntReason::IcmpError(error) => self.icmp_error(error.into(), punt.link, &punt.bytes, now),
        }
        self.finish(now);
    }

    /// A device appeared, changed or went (`None`).
    pub fn handle_device(&mut self, device: DeviceId, state: Option<DeviceState>, now: Instant) {
        self.notice_lag(now);
        self.device_changed(device, state, now);
        self.finish(now);
    }

    /// Frames that a verdict hangs on were lost on their way here since the last call: answers to probes may be among them, so
    /// missed probes of this interval do not count. Within limits: see `excuse_probes`.
    pub fn handle_punt_loss(&mut self, refused: u64, now: Instant) {
        if refused > 0 {
            self.notice_lag(now);
            self.excuse_probes(Duration::MAX, now);
            self.excuse_checks(Duration::MAX);
            self.excuse_observations(Duration::MAX);
            self.finish(now);
        }
    }

    /// Time passes. Call it whenever [`Controller::poll_timeout`] is due; how late it is called is how late the engine is.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.notice_lag(now);
        self.neighbors.handle_timeout(now);
        self.announce_links(now);
        self.run_probes(now);
        self.keep_vigils(now);
        self.end_exchanges(now);
        self.run_checks(now);
        self.watch_clients(now);
        self.tend_services(now);
        self.watch_duplicates(now);
        self.finish(now);
    }

    /// A frame to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Something to do or to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
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
        self.neighbors.iter().map(|neighbor| self.neighbor_view(&neighbor, now)).collect()
    }

    /// What is wrong and lasts.
    pub fn alarms(&self, now: Instant) -> Vec<view::AlarmView> {
        self.journal.alarms(now)
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
        self.publish_from = now;
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
        self.publish_from = now;
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
            self.excuse_observations(now.since(due));
        }
    }

    /// What every call ends with: send, judge, publish.
    fn finish(&mut self, now: Instant) {
        self.run_neighbor_actions(now);
        self.judge_paths(now);
        self.judge_services(now);
        self.publish_changes(now);
        self.due = self.next_timeout(now);
    }

    fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let paths = self.paths.iter().flat_map(|path| [path.prober.poll_timeout(), path.monitor.poll_timeout(now)]);
        let vigils = self.vigils.values().map(|vigil| Some(vigil.next));
        let links = self.links.iter().map(LinkState::poll_timeout);
        let exchanges = self.exchanges.iter().map(|exchange| Some(exchange.deadline));
        let single = [
            self.neighbors.poll_timeout(),
            self.liveness.poll_timeout(),
            self.checks.poll_timeout(),
            self.farm.poll_timeout(),
            self.publish.then_some(self.publish_from),
        ];
        paths.chain(vigils).chain(links).chain(exchanges).chain(single).flatten().min()
    }

    /// Sends a frame of the engine's own on `link`, with the link's tag, in fragments if it has to be.
    fn send(&mut self, link: LinkId, bytes: Vec<u8>) {
        if !self.links[link.index()].up {
            self.tallies.add(Tally::LinkDown);
            return;
        }
        let vlan = self.config.links[link.index()].vlan.map(VlanTag::new);
        let frames = self.pieces(link, bytes);
        for bytes in frames {
            self.tallies.add(Tally::FramesSent);
            self.transmits.push_back(Transmit { link, vlan, offload: Offload::NONE, bytes });
        }
    }

    /// The frame, or its fragments if the link carries only those.
    fn pieces(&mut self, link: LinkId, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let mtu = self.links[link.index()].mtu;
        if bytes.len() <= ETHERNET_LEN + usize::from(mtu) {
            return vec![bytes];
        }
        let pieces = match Frame::parse(&mut bytes, &Offload::NONE) {
            Ok(frame) if frame.payload() == Payload::Ip => match frame.family() {
                Family::V4 => fragment::split(&frame, None, mtu).unwrap_or_default(),
                Family::V6 => fragment::split_v6(frame.bytes(), mtu, self.random.next() as u32),
            },
            Ok(_) | Err(_) => Vec::new(),
        };
        // What may not be split is the device's to refuse, and to count.
        if pieces.is_empty() { vec![bytes] } else { pieces }
    }

    /// `perimeter/fw1`.
    fn firewall_name(&self, firewall: FirewallId) -> String {
        let firewall = &self.config.firewalls[firewall.index()];
        format!("{}/{}", self.config.groups[firewall.group.index()].name, firewall.name)
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

/// SplitMix64: identifiers and jitter from one seed, so that a run can be repeated.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests;
