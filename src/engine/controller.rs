//! The slow half: one per engine.

use std::sync::Arc;

use crate::config::{Admin, Config};
use crate::engine::{Counters, Punt, Snapshot, Transmit, view};
use crate::id::{DeviceId, FirewallId, LinkId};
use crate::time::Instant;
use crate::wire::MacAddr;

/// What the owner has to do for the controller, or may tell.
#[derive(Debug, Clone)]
pub enum Event {
    /// Workers are to look at this from their next batch on.
    Publish(Arc<Snapshot>),
    /// Something changed state: log it, show it under `show events`.
    Change(view::EventView),
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
pub struct Controller {}

impl Controller {
    /// An engine with this configuration; `random` seeds probe identifiers and jitter.
    pub fn new(config: Config, random: u64, now: Instant) -> Self {
        let _ = (config, random, now);
        todo!()
    }

    /// Takes a frame from a forwarder.
    pub fn handle_punt(&mut self, punt: Punt, now: Instant) {
        let _ = (punt, now);
        todo!()
    }

    /// A device appeared, changed or went (`None`).
    pub fn handle_device(&mut self, device: DeviceId, state: Option<DeviceState>, now: Instant) {
        let _ = (device, state, now);
        todo!()
    }

    /// Punts were refused since the last call: answers to probes may be among them, so missed probes of this interval do
    /// not count.
    pub fn handle_punt_loss(&mut self, refused: u64, now: Instant) {
        let _ = (refused, now);
        todo!()
    }

    /// Time passes. Call it whenever [`Controller::poll_timeout`] is due; how late it is called is how late the engine is.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// A frame to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        todo!()
    }

    /// Something to do or to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// When [`Controller::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// The snapshot that was published last.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        todo!()
    }

    /// `show firewalls`, with the traffic of `counters` (all workers summed).
    pub fn firewalls(&self, counters: &Counters, now: Instant) -> Vec<view::FirewallView> {
        let _ = (counters, now);
        todo!()
    }

    /// `show peers`.
    pub fn peers(&self, now: Instant) -> Vec<view::PeerView> {
        let _ = now;
        todo!()
    }

    /// `show neighbors`.
    pub fn neighbors(&self, now: Instant) -> Vec<view::NeighborView> {
        let _ = now;
        todo!()
    }

    /// What is wrong and lasts.
    pub fn alarms(&self, now: Instant) -> Vec<view::AlarmView> {
        let _ = now;
        todo!()
    }

    /// What `fwlb set` overrides; this is what [`Config`] `state` keeps.
    pub fn overrides(&self) -> Vec<view::OverrideView> {
        todo!()
    }

    /// What the controller counts: `punt_drop_<reason>`, frames of its own sent, ICMP errors limited, probes.
    pub fn counters(&self) -> view::CountersView {
        todo!()
    }

    /// `fwlb set firewall`: overrides the administrative state (`None`: back to the file's) of every firewall called `name`
    /// (in `group`, if given).
    pub fn set_admin(
        &mut self,
        group: Option<&str>,
        name: &str,
        admin: Option<Admin>,
        reason: Option<String>,
        by: Option<String>,
        now: Instant,
    ) -> Result<(), UnknownName> {
        let _ = (group, name, admin, reason, by, now);
        todo!()
    }

    /// Probes every path of a firewall now; an [`Event::Exchange`] per path follows. Returns the request numbers.
    pub fn probe(&mut self, firewall: FirewallId, now: Instant) -> Vec<u64> {
        let _ = (firewall, now);
        todo!()
    }

    /// Pings `address`: through a firewall, on a link, or as routed. An [`Event::Exchange`] follows within a second.
    pub fn ping(
        &mut self,
        address: std::net::IpAddr,
        link: Option<LinkId>,
        firewall: Option<FirewallId>,
        now: Instant,
    ) -> Result<u64, UnknownName> {
        let _ = (address, link, firewall, now);
        todo!()
    }
}

/// A name or address that this engine does not know; the text says what there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownName(pub String);
