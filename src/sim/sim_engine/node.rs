//! The role machine of an engine that is a node of a cluster, driven by virtual time instead of a thread: what
//! `fwlb-ha` does in production.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::SimEngine;
use crate::config::{self, Config};
use crate::engine::{
    ClusterRole, Controller, CopyKeeper, Permission, Punt, PuntReason, SharedRole, Snapshot, Transmit, ha_health,
};
use crate::ha::association::Kind;
use crate::ha::frame::{self, ClusterFrame};
use crate::ha::{Associations, Health, Hello, Machine, Opened, Out, Path, Role, RoleChange};
use crate::id::LinkId;
use crate::sim::rng::Rng;
use crate::time::Instant;
use crate::wire::MacAddr;
use crate::wire::offload::Offload;

/// The role machine of one node, with the keys of its hellos.
#[derive(Debug)]
pub(super) struct ClusterNode {
    config: Config,
    machine: Machine,
    associations: Associations,
    /// Copies of sessions, of a node that keeps some.
    pub(super) keeper: Option<CopyKeeper>,
    role: Arc<SharedRole>,
    health: Health,
    /// The snapshot by which the health was judged.
    judged: Option<u64>,
    /// The MAC addresses of other nodes, which are no stations outside the cluster.
    macs: BTreeSet<(LinkId, MacAddr)>,
    out: VecDeque<Transmit>,
    changes: Vec<RoleChange>,
    /// What probes say about this node.
    reported: Option<ClusterRole>,
}

impl ClusterNode {
    /// `None` for an engine that stands alone.
    pub(super) fn new(
        config: &Config,
        controller: &Controller,
        keeper: Option<CopyKeeper>,
        rng: &mut Rng,
        now: Instant,
    ) -> Option<Self> {
        let settings = config.role_machine("simulation")?;
        let key = config.ha.as_ref()?.key.as_ref()?.expose().as_bytes();
        let mut random = [0; 16];
        random[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
        random[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
        let associations = Associations::new(settings.me, settings.nodes.len(), &[key], random, settings.interval);
        Some(Self {
            role: controller.shared_role()?,
            machine: Machine::new(settings, now),
            associations,
            keeper,
            health: Health::default(),
            judged: None,
            macs: BTreeSet::new(),
            out: VecDeque::new(),
            changes: Vec::new(),
            reported: None,
            config: config.clone(),
        })
    }

    /// When [`ClusterNode::run`] is due.
    pub(super) fn poll_timeout(&self) -> Instant {
        let copies = self.keeper.as_ref().map(|keeper| keeper.copies.poll_timeout());
        copies.into_iter().fold(self.machine.poll_timeout(), Instant::min)
    }

    /// Reads the frames of other nodes, then does what is due.
    pub(super) fn run(
        &mut self,
        controller: &mut Controller,
        snapshot: &Snapshot,
        punts: &mut super::Punts,
        now: Instant,
    ) {
        let sync = self.keeper.as_mut().and_then(|keeper| keeper.poll_state(now));
        if self.judged != Some(snapshot.epoch) || sync.is_some() {
            self.judged = Some(snapshot.epoch);
            let sync = sync.unwrap_or_else(|| self.health.sync.clone());
            let health = Health { sync, ..ha_health(&self.config, snapshot) };
            if health != self.health {
                self.health = health.clone();
                let out = self.machine.handle_health(health, now);
                self.carry_out(out, controller, snapshot, now);
            }
        }
        while let Some(mut punt) = punts.take_cluster() {
            self.read(&mut punt, controller, snapshot, now);
        }
        while let Some(report) = controller.poll_witness() {
            let out = self.machine.handle_witness(report, now);
            self.carry_out(out, controller, snapshot, now);
        }
        if now >= self.machine.poll_timeout() {
            let out = self.machine.handle_timeout(now);
            self.carry_out(out, controller, snapshot, now);
        }
        self.copy_sessions(snapshot, now);
    }

    /// Does what is due for the copies, and sends what they say.
    fn copy_sessions(&mut self, snapshot: &Snapshot, now: Instant) {
        let Some(keeper) = &mut self.keeper else { return };
        keeper.follow(&self.machine, &self.associations, snapshot, now);
        keeper.run(snapshot, now);
        let (mut frames, config) = (Vec::new(), self.machine.config());
        while let Some(told) = keeper.copies.poll_transmit(now) {
            let Some(Path::Leg(leg)) = self.machine.path_to(told.node, now) else { continue };
            let leg = &config.legs[leg.index()];
            let sealed = self.associations.seal(told.node, told.kind, &told.body).map(|sealed| (told.node, sealed));
            let made = frame::datagrams(leg, config, sealed.as_slice(), snapshot);
            frames.extend(made.into_iter().map(|bytes| (leg.link, bytes)));
        }
        self.send(frames, snapshot);
    }

    /// A frame of a neighbour goes to the controller: somebody outside the cluster may be heard.
    pub(super) fn heard_station(
        &mut self,
        punt: &Punt,
        controller: &mut Controller,
        snapshot: &Snapshot,
        now: Instant,
    ) {
        let (Some(leg), Some(source)) = (self.machine.config().leg_of(punt.link), punt.bytes.get(6..12)) else {
            return;
        };
        let mac = MacAddr(source.try_into().expect("six bytes"));
        let is_virtual = self.machine.config().legs[leg.index()].is_virtual_mac(mac);
        let is_node = is_virtual || self.macs.contains(&(punt.link, mac));
        if punt.reason == PuntReason::Neighbor && !is_node {
            let out = self.machine.handle_station(leg, now);
            self.carry_out(out, controller, snapshot, now);
        }
    }

    /// Hands over the frames that the machine sent.
    pub(super) fn drain(&mut self, mut send: impl FnMut(Transmit)) {
        self.out.drain(..).for_each(&mut send);
    }

    fn read(&mut self, punt: &mut Punt, controller: &mut Controller, snapshot: &Snapshot, now: Instant) {
        let Some(leg) = self.machine.config().leg_of(punt.link) else { return };
        match frame::read(&mut punt.bytes) {
            Some(ClusterFrame::Advertisement(Ok(received))) => {
                let (out, _) = self.machine.handle_advertisement(leg, &received, now);
                self.carry_out(out, controller, snapshot, now);
            }
            Some(ClusterFrame::Datagram { source_mac, pair: _, bytes }) => match self.associations.open(bytes, now) {
                Ok(Opened::Body(node, Kind::Hello, body)) => {
                    let Some(hello) = Hello::decode(&body) else { return };
                    self.macs.insert((punt.link, source_mac));
                    let out = self.machine.handle_hello(Path::Leg(leg), node, hello, now);
                    self.carry_out(out, controller, snapshot, now);
                }
                Ok(Opened::Body(node, kind @ (Kind::Stream | Kind::Ack), body)) => {
                    let keeper = self.keeper.iter_mut();
                    keeper.for_each(|keeper| keeper.copies.handle_datagram(node, kind, &body, now));
                }
                Ok(Opened::Body(_, Kind::Init, _) | Opened::Init(_) | Opened::ForAnother) | Err(_) => {}
            },
            Some(ClusterFrame::Advertisement(Err(_))) | None => {}
        }
    }

    /// Does what the machine wants done, in the order of the thread `fwlb-ha`.
    fn carry_out(&mut self, out: Out, controller: &mut Controller, snapshot: &Snapshot, now: Instant) {
        let word = self.machine.role_word();
        let only_prolongs = out.only_prolongs(&word);
        if !only_prolongs {
            self.role.store(word);
        }
        if let Some(said) = out.advertise {
            let frames = frame::advertisements(said, &self.machine, snapshot);
            self.send(frames, snapshot);
        }
        let reported = ClusterRole::from(&self.machine);
        if self.reported != Some(reported) {
            self.reported = Some(reported);
            controller.set_cluster_role(Some(reported));
        }
        let leaves = out.role.as_ref().is_some_and(|change| change.to == Role::Leaving);
        if let Some(change) = out.role {
            controller.set_role(word, now);
            self.changes.push(change);
        }
        if let Some(keeper) = self.keeper.as_mut().filter(|_| leaves) {
            keeper.tell_all(snapshot, now);
            self.copy_sessions(snapshot, now);
        }
        if out.announce {
            controller.announce_floating(now);
        }
        if let Some(hello) = out.hello {
            self.send_hello(&hello, snapshot, now);
        }
        if only_prolongs {
            self.role.store(word);
        }
        if out.ask {
            controller.ask_neighbors(now);
        }
    }

    fn send_hello(&mut self, hello: &Hello, snapshot: &Snapshot, now: Instant) {
        let (body, config) = (hello.encode(), self.machine.config());
        let mut frames = Vec::new();
        for leg in &config.legs {
            let sealed = self.associations.round(&body, now);
            let made = frame::datagrams(leg, config, &sealed, snapshot);
            frames.extend(made.into_iter().map(|bytes| (leg.link, bytes)));
        }
        self.send(frames, snapshot);
    }

    fn send(&mut self, frames: Vec<(LinkId, Vec<u8>)>, snapshot: &Snapshot) {
        let transmit = |(link, bytes): (LinkId, Vec<u8>)| {
            let vlan = snapshot.links[link.index()].egress_tag(None);
            Transmit { link, vlan, offload: Offload::NONE, bytes }
        };
        self.out.extend(frames.into_iter().map(transmit));
    }
}

impl ClusterNode {
    /// Follows a reload.
    fn set_config(&mut self, controller: &mut Controller, snapshot: &Snapshot, now: Instant) {
        let Some(settings) = controller.config().role_machine("simulation") else { return };
        self.config = controller.config().clone();
        self.judged = None;
        if let Some(keeper) = &mut self.keeper {
            keeper.set_config(&self.config);
        }
        let out = self.machine.set_config(settings, now);
        self.carry_out(out, controller, snapshot, now);
    }
}

impl SimEngine {
    /// Does `fwlb reload` with another text of the file.
    ///
    /// # Panics
    /// If the text is not a valid configuration, as the simulation writes it itself.
    pub fn reload(&mut self, text: &str, now: Instant) {
        self.config = config::load("sim.toml", text, &mut |_| Err(String::new())).config.expect("a valid file");
        let local = now + self.epoch;
        let Some(core) = &mut self.core else { return };
        if let Err(error) = core.controller.apply(self.config.clone(), None, local) {
            self.problems.push(format!("reload: {error}"));
        }
        core.table.set_timeouts(self.config.timeouts);
        self.run_controller(now);
        let Some(core) = &mut self.core else { return };
        if let Some(node) = &mut core.node {
            node.set_config(&mut core.controller, &core.snapshot, local);
        }
        self.run_controller(now);
    }

    /// What the role of a node allows it now; `None` while it is dead, or if it stands alone.
    pub fn permission(&self, now: Instant) -> Option<Permission> {
        let node = self.core.as_ref()?.node.as_ref()?;
        Some(node.role.at(now + self.epoch))
    }

    /// The role of a node; `None` while it is dead, or if it stands alone.
    pub fn role(&self) -> Option<Role> {
        Some(self.core.as_ref()?.node.as_ref()?.machine.role())
    }

    /// Whether a node's role changed since [`SimEngine::take_role_changes`].
    pub fn has_role_changes(&self) -> bool {
        self.core.as_ref().and_then(|core| core.node.as_ref()).is_some_and(|node| !node.changes.is_empty())
    }

    /// The changes of a node's role since the last call.
    pub fn take_role_changes(&mut self) -> Vec<RoleChange> {
        let node = self.core.as_mut().and_then(|core| core.node.as_mut());
        node.map(|node| std::mem::take(&mut node.changes)).unwrap_or_default()
    }

    /// The floating addresses of a link.
    pub fn floating(&self, link: LinkId) -> &[IpAddr] {
        &self.config.links[link.index()].floating
    }
}
