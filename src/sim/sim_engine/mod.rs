//! An engine in the simulation: the production [`Controller`] and [`Forwarder`]s with a receive ring before each
//! worker, driven by virtual time instead of threads.

mod fanout;
mod held;
mod node;
mod punts;
mod show;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::{self, AdminState, Config};
use crate::engine::change::StateChange;
use crate::engine::controller::{DeviceState, Order, ServerChange};
use crate::engine::copies::{CopyKeeper, Copying, Sessions};
use crate::engine::forwarder::{ForwarderLimits, ProbeBypass};
use crate::engine::view::ExchangeView;
use crate::engine::{
    Batch, Controller, CountersCell, Event, Forwarder, Packet as BatchPacket, PuntQueue, Snapshot, Transmit, Verdict,
};
use crate::id::{DeviceId, LinkId};
use crate::nat::PortPools;
use crate::nat::ports::PORT_MIN;
use crate::session::SessionTable;
use crate::sim::rng::Rng;
use crate::time::{Duration, Instant};
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;
use crate::wire::{MacAddr, vrrp};

use fanout::fanout;
pub use held::HeldSession;
use node::ClusterNode;
use punts::Punts;
pub use show::BoundFlow;

/// Number of pairs of a source address and a server with ports of their own, per worker.
const PORT_POOLS: usize = 64;

/// A frame on a cable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CableFrame {
    /// Checksum and segmentation that are left undone, as between virtual devices.
    pub offload: Offload,
    /// The Ethernet frame without a VLAN tag, because each segment is one VLAN.
    pub bytes: Vec<u8>,
}

impl CableFrame {
    /// A frame with nothing left undone.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self { offload: Offload::NONE, bytes }
    }
}

/// What an engine did with one frame.
#[derive(Debug, Clone)]
pub struct HandledFrame {
    /// The link on which it was received.
    pub link: LinkId,
    /// The frame as received.
    pub before: CableFrame,
    /// The frame afterwards.
    pub after: CableFrame,
    /// The outer VLAN tag afterwards.
    pub vlan: Option<VlanTag>,
    /// The verdict.
    pub verdict: Verdict,
    /// The snapshot by which the worker decided.
    pub snapshot: Arc<Snapshot>,
}

/// An engine.
#[derive(Debug)]
pub struct SimEngine {
    /// Name of the engine.
    pub name: String,
    config: Config,
    devices: Vec<DeviceState>,
    core: Option<Core>,
    rng: Rng,
    /// The engine's clock is the world's time plus this.
    epoch: Duration,
    paused_until: Instant,
    workers_stalled_until: Instant,
    punts_refused_until: Instant,
    /// Probes do not wait for the workers.
    probe_bypass: Option<Arc<ProbeBypass>>,
    probe_came: bool,
    wake: Option<Instant>,
    next_expiry: Instant,
    out: VecDeque<(LinkId, CableFrame)>,
    /// Frames that were handled since the last call of [`SimEngine::take_handled`].
    handled: Vec<HandledFrame>,
    events: Vec<StateChange>,
    exchanges: Vec<ExchangeView>,
    /// Frames that found a ring full.
    pub ring_dropped: u64,
    /// Frames that arrived while the engine was dead.
    pub missed_frames: u64,
    /// Violations of the engine's contract with its driver.
    pub problems: Vec<String>,
    /// Ports per worker that stand for clients; 0: as many as in production. Takes effect at the next start.
    pub ports_per_worker: u16,
}

/// State that is lost with the process.
#[derive(Debug)]
struct Core {
    controller: Controller,
    workers: Vec<Worker>,
    table: Arc<SessionTable>,
    snapshot: Arc<Snapshot>,
    punts: Punts,
    /// Its role machine, if it is a node of a cluster.
    node: Option<ClusterNode>,
    started: Instant,
    taken: u64,
}

#[derive(Debug)]
struct Worker {
    forwarder: Forwarder,
    cell: Arc<CountersCell>,
    ring: VecDeque<(LinkId, CableFrame)>,
}

impl SimEngine {
    const RING: usize = 512;
    const EXPIRY_INTERVAL: Duration = Duration::from_millis(20);
    const EXPIRY_BUDGET: usize = 512;

    /// An engine from the text of its file, not yet started.
    ///
    /// # Panics
    /// If the text is not a valid configuration, as the simulation writes it itself.
    pub fn new(text: &str, mut rng: Rng) -> Self {
        let outcome = config::load("sim.toml", text, &mut |path| Err(format!("{} is not here", path.display())));
        let diagnostics = outcome.diagnostics;
        let config = outcome.config.unwrap_or_else(|| panic!("{diagnostics:?}\n{text}"));
        let devices = (0..config.devices.len())
            .map(|number| DeviceState { mac: device_mac(&config.engine.name, number), mtu: 1500, up: true })
            .collect();
        Self {
            name: config.engine.name.clone(),
            config,
            devices,
            core: None,
            epoch: Duration::from_nanos(rng.below(1 << 40)),
            rng,
            paused_until: Instant::ZERO,
            workers_stalled_until: Instant::ZERO,
            punts_refused_until: Instant::ZERO,
            probe_bypass: None,
            probe_came: false,
            wake: None,
            next_expiry: Instant::ZERO,
            out: VecDeque::new(),
            handled: Vec::new(),
            events: Vec::new(),
            exchanges: Vec::new(),
            ring_dropped: 0,
            missed_frames: 0,
            problems: Vec::new(),
            ports_per_worker: 0,
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The MAC address of a link.
    pub fn mac(&self, link: LinkId) -> MacAddr {
        self.devices[self.config.links[link.index()].device.index()].mac
    }

    /// Whether one of its links has this MAC address.
    pub fn has_mac(&self, mac: MacAddr) -> bool {
        self.devices.iter().any(|device| device.mac == mac) || self.config.ha.is_some() && vrrp::is_virtual_mac(mac)
    }

    /// Starts the engine, with empty tables.
    pub fn start(&mut self, now: Instant) {
        let limits = self.config.limits;
        let count = usize::from(self.config.engine.workers.unwrap_or(1));
        let seeds: [u64; 4] = std::array::from_fn(|_| self.rng.next_u64());
        let sessions = Sessions::new(&self.config, count, self.config.timeouts, seeds);
        let Sessions { table, workers: sessions, mut copying } = sessions;
        let shares = ForwarderLimits {
            fragments: limits.fragments.div_ceil(count),
            held: limits.held.div_ceil(count),
            fragment_timeout: self.config.timeouts.fragment,
        };
        let ports = PortPools::new(count as u16, PORT_POOLS, self.config.timeouts.tcp_closing, seeds[1]);
        let ports = Arc::new(match self.ports_per_worker {
            0 => ports.with_ports(self.config.source_ports()),
            few => ports.with_ports(PORT_MIN..=PORT_MIN + few * count as u16 - 1),
        });
        let seed = self.rng.next_u64();
        let mut writers = copying.as_mut().map(Copying::take_writers).unwrap_or_default().into_iter();
        let workers: Vec<_> = sessions
            .into_iter()
            .map(|sessions| {
                let cell = Arc::new(CountersCell::default());
                let mut forwarder = Forwarder::new(sessions, shares, Arc::clone(&ports), seed, cell.clone());
                for device in 0..self.devices.len() {
                    forwarder.set_probe_bypass(device.into(), self.probe_bypass.clone());
                }
                writers.next().into_iter().for_each(|changes| forwarder.set_change_writer(changes));
                Worker { forwarder, cell, ring: VecDeque::new() }
            })
            .collect();
        let local = now + self.epoch;
        let mut controller = Controller::new(self.config.clone(), self.rng.next_u64(), local);
        for (number, state) in self.devices.iter().enumerate() {
            controller.handle_device(DeviceId::from(number), Some(*state), local);
        }
        let snapshot = controller.snapshot();
        let keeper = copying.map(|copying| {
            CopyKeeper::new(&self.config, copying, Arc::clone(&ports), Arc::default(), self.rng.next_u64(), local)
        });
        let node = ClusterNode::new(&self.config, &controller, keeper, &mut self.rng, local);
        self.core = Some(Core {
            controller,
            workers,
            table,
            snapshot,
            punts: Punts::new(limits.punts),
            node,
            started: now,
            taken: 0,
        });
        self.next_expiry = now + Self::EXPIRY_INTERVAL;
        self.run_controller(now);
    }

    /// Kills the engine: its tables, its queues and the frames in its rings are lost.
    pub fn crash(&mut self) {
        self.core = None;
        self.wake = None;
        self.out.clear();
    }

    /// Whether the engine runs or is paused.
    pub fn is_alive(&self) -> bool {
        self.core.is_some()
    }

    /// Whether a frame that arrives now is processed soon: the engine runs, and its rings are not full.
    pub fn can_receive(&self, now: Instant) -> bool {
        let room = |core: &Core| core.workers.iter().all(|worker| worker.ring.len() < Self::RING);
        now >= self.paused_until.max(self.workers_stalled_until) && self.core.as_ref().is_some_and(room)
    }

    /// Stops the engine until `until`, as a stopped process; its rings fill up.
    pub fn pause(&mut self, until: Instant) {
        self.paused_until = until;
    }

    /// Stops the workers until `until`, while the controller goes on.
    pub fn stall_workers(&mut self, until: Instant) {
        self.workers_stalled_until = until;
    }

    /// Makes the queue to the controller refuse everything until `until`.
    pub fn refuse_punts(&mut self, until: Instant) {
        self.punts_refused_until = until;
    }

    /// From now on probes bypass the workers on their way to the controller, also after a restart.
    pub fn set_probe_bypass(&mut self) {
        self.probe_bypass = Some(Arc::default());
        for worker in self.core.iter_mut().flat_map(|core| &mut core.workers) {
            for device in 0..self.devices.len() {
                worker.forwarder.set_probe_bypass(device.into(), self.probe_bypass.clone());
            }
        }
    }

    /// Changes the carrier of a device.
    pub fn set_carrier(&mut self, device: DeviceId, up: bool, now: Instant) {
        let local = now + self.epoch;
        self.devices[device.index()].up = up;
        let state = self.devices[device.index()];
        if let Some(core) = &mut self.core {
            core.controller.handle_device(device, Some(state), local);
            self.run_controller(now);
        }
    }

    /// Does `fwlb set firewall`.
    pub fn set_admin(&mut self, firewall: &str, admin: Option<AdminState>, now: Instant) {
        let local = now + self.epoch;
        if let Some(core) = &mut self.core {
            let known = core.controller.set_admin(None, firewall, admin, &Order::default(), local);
            if let Err(unknown) = known {
                self.problems.push(format!("set firewall {firewall}: {unknown}"));
            }
            self.run_controller(now);
        }
    }

    /// Does `fwlb set server`.
    pub fn set_server(&mut self, service: &str, server: &str, change: ServerChange, now: Instant) {
        let local = now + self.epoch;
        if let Some(core) = &mut self.core {
            let known = core.controller.set_server(service, server, change, &Order::default(), local);
            if let Err(unknown) = known {
                self.problems.push(format!("set server {service}/{server}: {unknown}"));
            }
            self.run_controller(now);
        }
    }

    /// Receives a frame on a link.
    pub fn receive(&mut self, link: LinkId, frame: CableFrame, now: Instant) {
        let Some(core) = &mut self.core else {
            self.missed_frames += 1;
            return;
        };
        if let Some(apart) = &self.probe_bypass {
            core.punts.refuses_all = now < self.punts_refused_until;
            let mut bytes = frame.bytes.clone();
            let mut packet = packet(&self.config, link, frame.offload, &mut bytes);
            if let Some(punt) = apart.probe_punt(&mut packet, &core.snapshot) {
                core.punts.offer_urgent(punt);
                self.probe_came = true;
            }
        }
        let Some(core) = &mut self.core else { return };
        let worker = match core.workers.len() {
            1 => 0,
            workers => fanout(&frame.bytes) as usize % workers,
        };
        let ring = &mut core.workers[worker].ring;
        if ring.len() >= Self::RING {
            self.ring_dropped += 1;
            return;
        }
        ring.push_back((link, frame));
        if self.wake.is_none() {
            self.wake = Some(now + Duration::from_micros(self.rng.between(2, 40)));
        }
        if std::mem::take(&mut self.probe_came) && now >= self.paused_until {
            self.run_controller(now);
        }
    }

    /// Handles all that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.paused_until {
            return;
        }
        if now >= self.workers_stalled_until {
            self.wake = None;
            self.run_workers(now);
        }
        self.run_controller(now);
    }

    /// When [`SimEngine::handle_timeout`] has to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let core = self.core.as_ref()?;
        let controller = core.controller.poll_timeout().map(|at| self.world_time(at));
        let workers = self.wake.unwrap_or(self.next_expiry).min(self.next_expiry).max(self.workers_stalled_until);
        let node = core.node.as_ref().map(|node| self.world_time(node.poll_timeout()));
        let next = controller.into_iter().chain(node).fold(workers, Instant::min);
        Some(next.max(self.paused_until))
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self) -> Option<(LinkId, CableFrame)> {
        self.out.pop_front()
    }

    /// Frames that were handled since the last call.
    pub fn take_handled(&mut self) -> Vec<HandledFrame> {
        std::mem::take(&mut self.handled)
    }

    /// State changes since the last call.
    pub fn take_events(&mut self) -> Vec<StateChange> {
        std::mem::take(&mut self.events)
    }

    /// Results of probes and pings since the last call.
    pub fn take_exchanges(&mut self) -> Vec<ExchangeView> {
        std::mem::take(&mut self.exchanges)
    }

    fn world_time(&self, local: Instant) -> Instant {
        Instant::from_nanos(local.as_nanos().saturating_sub(self.epoch.as_nanos() as u64))
    }

    fn run_workers(&mut self, now: Instant) {
        let local = now + self.epoch;
        let expire = now >= self.next_expiry;
        if expire {
            self.next_expiry = now + Self::EXPIRY_INTERVAL;
        }
        let Some(core) = &mut self.core else { return };
        core.punts.refuses_all = now < self.punts_refused_until;
        for worker in &mut core.workers {
            while !worker.ring.is_empty() {
                let mut arrived: Vec<_> = worker.ring.drain(..worker.ring.len().min(Batch::CAPACITY)).collect();
                let before = arrived.clone();
                let mut batch = Batch::new();
                for (link, frame) in &mut arrived {
                    batch.packets.push(packet(&self.config, *link, frame.offload, &mut frame.bytes));
                }
                core.taken += batch.packets.len() as u64;
                worker.forwarder.process(&mut batch, &core.snapshot, &mut core.punts, local);
                for ((link, before), packet) in before.into_iter().zip(batch.packets) {
                    let Some(verdict) = packet.verdict else {
                        self.problems.push(format!("{}: a frame without verdict", self.name));
                        continue;
                    };
                    let after = CableFrame { offload: packet.offload, bytes: packet.bytes.to_vec() };
                    if let Verdict::Forward(out) | Verdict::Hairpin(out) = verdict {
                        self.out.push_back((out, after.clone()));
                    }
                    let snapshot = Arc::clone(&core.snapshot);
                    self.handled.push(HandledFrame { link, before, after, vlan: packet.vlan, verdict, snapshot });
                }
                drain(&mut worker.forwarder, &mut self.out, &self.config, &mut self.problems);
            }
            if expire {
                while worker.forwarder.expire(&core.snapshot, local, Self::EXPIRY_BUDGET) {}
                drain(&mut worker.forwarder, &mut self.out, &self.config, &mut self.problems);
            }
        }
    }

    fn run_controller(&mut self, now: Instant) {
        let local = now + self.epoch;
        let Some(core) = &mut self.core else { return };
        if let Some(node) = &mut core.node {
            node.run(&mut core.controller, &core.snapshot, &mut core.punts, local);
            node.drain(|transmit| send(transmit, &mut self.out, &self.config, &mut self.problems));
        }
        while let Some(punt) = core.punts.take() {
            if let Some(node) = &mut core.node {
                node.heard_station(&punt, &mut core.controller, &core.snapshot, local);
            }
            core.controller.handle_punt(punt, local);
        }
        let refused = core.punts.take_refused();
        if refused > 0 {
            core.controller.handle_punt_loss(refused, local);
        }
        if core.controller.poll_timeout().is_some_and(|due| due <= local) {
            core.controller.handle_timeout(local);
        }
        while let Some(event) = core.controller.poll_event() {
            match event {
                Event::Publish(snapshot) => core.snapshot = snapshot,
                Event::Change(change) => self.events.push(change),
                Event::CheckEnded(_) => {}
                Event::Exchange { result, .. } => self.exchanges.push(result),
            }
        }
        while let Some(transmit) = core.controller.poll_transmit() {
            send(transmit, &mut self.out, &self.config, &mut self.problems);
        }
    }
}

/// A frame received on `link`, in the form in which a ring hands it over.
fn packet<'f>(config: &Config, link: LinkId, offload: Offload, bytes: &'f mut [u8]) -> BatchPacket<'f> {
    let link = &config.links[link.index()];
    BatchPacket { device: link.device, vlan: link.vlan.map(VlanTag::new), offload, bytes, verdict: None }
}

fn drain(
    forwarder: &mut Forwarder,
    out: &mut VecDeque<(LinkId, CableFrame)>,
    config: &Config,
    problems: &mut Vec<String>,
) {
    while let Some(transmit) = forwarder.poll_transmit() {
        send(transmit, out, config, problems);
    }
}

fn send(transmit: Transmit, out: &mut VecDeque<(LinkId, CableFrame)>, config: &Config, problems: &mut Vec<String>) {
    let link = &config.links[transmit.link.index()];
    if transmit.vlan.map(VlanTag::vid) != link.vlan {
        problems.push(format!("a frame for link {} has the tag {:?}", link.name, transmit.vlan));
    }
    out.push_back((transmit.link, CableFrame { offload: transmit.offload, bytes: transmit.bytes }));
}

/// The MAC address of an engine's device.
pub fn device_mac(engine: &str, device: usize) -> MacAddr {
    let tag = engine.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    MacAddr([0x02, 0xfb, tag, 0, 0, device as u8])
}
