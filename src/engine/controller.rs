//! The control plane: one controller per engine.
//!
//! It knows what packets need and forwarders cannot decide themselves. It owns the configuration and three parts. Each
//! part is a state machine of its own with private fields, and builds on those below it:
//!
//! ```text
//!   Farm    services, servers and their checks, orders about them    uses Links, asks Paths for next hops
//!   Paths   probes, live sets, peers, orders about firewalls         uses Links
//!   Links   devices, neighbours, own addresses, ICMP errors, and whatever any host answers
//! ```
//!
//! All parts have the same shape: `new`, `reconfigure` for a reload, `handle_*` for what happens, `handle_timeout` and
//! `poll_timeout` for time, and `fill_snapshot` for a snapshot. No part calls one above it. What a part wants to be
//! done or reported goes into one `Outbox`, from which the controller sends frames, emits events and alarms, publishes
//! a [`Snapshot`] and dispatches each `Notice`. A packet to the engine is offered to each part in turn. A further part
//! therefore needs a field and a line in each of these places, and no change in the other parts.
//!
//! Every `handle_*` ends the same way: what the neighbour table asks for is sent, paths and servers are evaluated, and
//! if anything changed that a forwarder looks at, one snapshot is published.

mod agenda;
mod apply;
mod check_views;
mod farm;
mod inherit;
mod journal;
mod links;
mod order;
mod orders;
mod outbox;
mod paths;
mod publish;
mod refusals;
mod restore;
mod role;
mod tally;
mod views;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::Config;
use crate::engine::change::StateChange;
use crate::engine::snapshot::ReusedIds;
use crate::engine::verdict::{Punt, Transmit};
use crate::engine::{Counters, SharedRole, Snapshot, view};
use crate::id::{DeviceId, LinkId};
use crate::random::SplitMix64;
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

use farm::Farm;
use links::Links;
use outbox::{Notice, Outbox};
use paths::Paths;

pub use farm::ServerChange;
pub use order::{Consequence, Order};
pub use paths::ClusterRole;
#[cfg(test)]
use paths::group_digests;

/// What the owner has to do for the controller, or to report.
#[derive(Debug, Clone)]
pub enum Event {
    /// Gives workers this snapshot, which they use from their next batch on.
    Publish(Arc<Snapshot>),
    /// Something changed its state. The owner logs it and shows it under `show events`.
    Change(StateChange),
    /// A health check ended. It is reported for the log only where the configuration asks for it.
    CheckEnded(view::CheckLogView),
    /// The answer to [`Controller::probe`] or [`Controller::ping`].
    Exchange {
        /// The number that the call returned.
        request: u64,
        /// What happened.
        result: view::ExchangeView,
    },
}

/// What the operating system reports about a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceState {
    /// Its MAC address.
    pub mac: MacAddr,
    /// Its MTU in bytes of IP packet.
    pub mtu: u16,
    /// True if it exists, is administratively up and has carrier.
    pub up: bool,
}

/// The control plane of one engine; see the module documentation.
#[derive(Debug, Clone)]
pub struct Controller {
    config: Arc<Config>,
    links: Links,
    paths: Paths,
    farm: Farm,
    /// The number of reloads so far.
    generation: u64,
    /// The ids that reloads gave to other firewalls and servers.
    reused_ids: Arc<ReusedIds>,
    snapshot: Arc<Snapshot>,
    /// Before this time nothing is published, unless it is urgent.
    publish_from: Instant,
    out: Outbox,
    refusals: refusals::Refusals,
    /// The role word of a node of a cluster.
    role: Option<Arc<SharedRole>>,
    /// What [`Controller::poll_timeout`] returned last, to find out how late the owner is.
    due: Option<Instant>,
}

impl Controller {
    /// An engine with this configuration; `random` seeds probe identifiers and jitter. Every device is absent until
    /// [`Controller::handle_device`] says otherwise.
    pub fn new(config: Config, random: u64, now: Instant) -> Self {
        let config = Arc::new(config);
        let mut random = SplitMix64::new(random);
        let paths = Paths::new(Arc::clone(&config), random.next_u64(), now);
        let routes = publish::routes(&config, paths.set_keys());
        let mut controller = Self {
            links: Links::new(Arc::clone(&config), routes, random.next_u64(), now),
            paths,
            farm: Farm::new(Arc::clone(&config), random.next_u64(), now),
            generation: 0,
            reused_ids: Arc::default(),
            snapshot: Arc::new(Snapshot::default()),
            publish_from: now,
            out: Outbox::default(),
            refusals: Default::default(),
            role: config.ha.as_ref().map(|_| Arc::default()),
            due: None,
            config,
        };
        controller.out.publish();
        controller.finish(now);
        controller
    }

    /// Takes a frame from a forwarder.
    pub fn handle_punt(&mut self, punt: Punt, now: Instant) {
        self.detect_lag(now);
        if let Some(local) = self.links.handle_punt(punt, now, &mut self.out) {
            self.handle_local(local, now);
        }
        self.finish(now);
    }

    /// Handles a device that appeared or changed, or that went away (`None`).
    pub fn handle_device(&mut self, device: DeviceId, state: Option<DeviceState>, now: Instant) {
        self.detect_lag(now);
        self.links.handle_device(device, state, now, &mut self.out);
        self.finish(now);
    }

    /// Frames that a verdict depends on were lost on their way here since the last call. Answers to probes may be among
    /// them, so missed probes of this interval do not count, within the limits of `Paths::handle_lag`.
    pub fn handle_punt_loss(&mut self, refused: u64, now: Instant) {
        if refused > 0 {
            self.detect_lag(now);
            self.paths.handle_lag(Duration::MAX, now);
            self.farm.handle_lag(Duration::MAX);
            self.finish(now);
        }
    }

    /// The receive rings of these links overflowed. Checks that are under way there are excused.
    pub fn handle_ring_loss(&mut self, links: impl Iterator<Item = LinkId>, now: Instant) {
        self.farm.handle_ring_loss(links);
        self.finish(now);
    }

    /// Checks whether sessions are answered through every firewall that is up, and raises or clears the alarm `one_way`
    /// of each firewall. `counters` are those of all workers. It is to be called about once a second.
    pub fn watch_returns(&mut self, counters: &Counters, now: Instant) {
        self.paths.watch_returns(counters, now, &mut self.out);
    }

    /// Does what is due. The owner calls it whenever [`Controller::poll_timeout`] is due; how late it is called is how
    /// late the engine is.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.detect_lag(now);
        self.links.handle_timeout(now, &mut self.out);
        self.paths.handle_timeout(&mut self.links, now, &mut self.out);
        self.farm.handle_timeout(&mut self.links, &self.paths, now, &mut self.out);
        self.finish(now);
    }

    /// These servers were up just before a restart. They count as up until their checks say otherwise; the checks begin
    /// at once all the same. Returns how many of them this configuration has that have no verdict yet.
    pub fn assume_up(&mut self, known: &BTreeSet<view::PersistedServer>, now: Instant) -> usize {
        let taken = self.farm.assume_up(known, now, &mut self.out);
        self.finish(now);
        taken
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.poll_transmit()
    }

    /// The next event for the owner.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.poll_event()
    }

    /// When [`Controller::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The snapshot that was published last.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    /// Finds out how late the owner is: what is missed meanwhile is not the firewalls' fault.
    fn detect_lag(&mut self, now: Instant) {
        self.follow_role(now);
        if let Some(due) = self.due {
            self.paths.handle_lag(now.since(due), now);
            self.farm.handle_lag(now.since(due));
        }
    }

    /// Ends every call: sends, evaluates and publishes.
    fn finish(&mut self, now: Instant) {
        self.dispatch_notices(now);
        self.links.run_neighbor_actions(now, &mut self.out);
        self.dispatch_notices(now);
        self.paths.evaluate(&self.links, now, &mut self.out);
        self.farm.evaluate(now, &mut self.out);
        self.publish_changes(now);
        self.due = self.next_timeout(now);
    }

    /// Handles a packet to the engine: it is offered to each part in turn, and answered as by any host if no part takes
    /// it.
    fn handle_local(&mut self, mut punt: Punt, now: Instant) {
        let Some(arrival) = self.links.parse(&mut punt, &self.snapshot, &mut self.out) else { return };
        let is_taken = self.farm.handle_packet(&arrival, &mut self.links, now, &mut self.out)
            || self.paths.handle_packet(&arrival, &mut self.links, now, &mut self.out);
        if !is_taken {
            self.links.handle_packet(&arrival, now, &mut self.out);
        }
    }

    /// Passes on what the parts have to know of each other.
    fn dispatch_notices(&mut self, now: Instant) {
        while let Some(notice) = self.out.poll_notice() {
            match notice {
                Notice::LinkUp(link) => {
                    self.paths.handle_link_up(link);
                    self.farm.handle_link_up(now);
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
            self.farm.poll_timeout(),
            self.out.wants_snapshot().then_some(self.publish_from),
        ];
        parts.into_iter().flatten().min()
    }
}

/// A name or address that this engine does not know. The text says which ones there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownName(pub String);

#[cfg(test)]
mod tests;
