//! The thread `fwlb-ha` around the role machine of a node: sends its hellos and advertisements on every link and on the
//! path for synchronisation, reads those of other nodes, and stores the role word that packet workers follow.
//!
//! ```text
//!  workers ──── ring of frames ────▶┌──────────┐ role word ──▶ workers
//!  kernel socket of `sync` ────────▶│ fwlb-ha  │ news ───────▶ control thread: set_role, announce, ask, events
//!  control: devices, stations ─────▶│ Machine  │ frames ─────▶ links, kernel socket
//!  management: orders, questions ──▶└──────────┘
//! ```
//!
//! The thread runs in real time and waits for nobody: it takes no lock that another thread holds for long, and what the
//! control thread is to do waits here while its queue is full. What the machine decides is decided in [`crate::ha`].

mod copying;
mod legs;
mod news;
mod stuck;
mod sync;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel as channel;
use ring::rand::{SecureRandom, SystemRandom};

use super::control::Commands;
use super::ha_handle::{ClusterState, Counted, HaChannels, HaCounters, HaMessage};
use super::sandbox;
use super::shared::Shared;
use super::turn_counter::TurnCounter;
use super::worker::WorkerHandle;
use crate::config::Config;
use crate::engine::controller::ClusterRole;
use crate::engine::view::{AlarmKind, AlarmView};
use crate::engine::{CopyKeeper, Punt, SharedRole, Snapshot, ha_health};
use crate::ha::association::{DATAGRAM_MAX, Kind};
use crate::ha::frame::{self, ClusterFrame};
use crate::ha::{
    Associations, Fault, HaConfig, Health, Hello, Machine, NodeId, Opened, Order, OrderRefused, OrderedBy, Out, Path,
    Role,
};
use crate::id::LinkId;
use crate::io::privileges::ThreadPrivileges;
use crate::io::wait::{FLOOD_PAUSE, Waiter};
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

use legs::Legs;
use news::{ControlNews, alarm_event, role_event};
use stuck::StuckThreads;
use sync::SyncPath;

/// Frames that are read before the timers have their turn.
const FRAMES_MAX: usize = 512;
/// Turns without a sleep, as copies of sessions give work for many, before other threads get the CPU for a pause.
const TURNS_MAX: u32 = 16;
const COPIES_PAUSE: Duration = Duration::from_micros(500);
/// How long it may take after the start until the engine knows its devices.
const START_MAX: Duration = Duration::from_secs(1);
/// The longest sleep, after which reloads and threads that stand still are noticed.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// The state of the thread.
pub(super) struct HaThread {
    shared: Arc<Shared>,
    /// The configuration from which that of the machine was made.
    config: Arc<Config>,
    snapshot: Arc<Snapshot>,
    machine: Machine,
    /// `None` for a node that exchanges no hellos, for want of a key.
    associations: Option<Associations>,
    /// Copies of sessions, of a node that keeps some.
    keeper: Option<CopyKeeper>,
    /// Copies wait that are to be sent in the next turn.
    has_unsent: bool,
    role: Arc<SharedRole>,
    /// The number of the snapshot with which it was made.
    first_epoch: u64,
    /// When it began to run.
    started: Instant,
    health: Health,
    /// Whether `health` is of the configuration in force.
    is_judged: bool,
    stuck: StuckThreads,
    faults: Vec<Fault>,
    /// What probes report about this node.
    reported_role: Option<ClusterRole>,
    legs: Legs,
    sync: SyncPath,
    counters: Arc<HaCounters>,
    frames: channel::Receiver<Punt>,
    messages: channel::Receiver<HaMessage>,
    news: ControlNews,
    commands: Commands,
    workers: Vec<WorkerHandle>,
    waiter: Waiter,
    datagram: Box<[u8; DATAGRAM_MAX]>,
}

impl HaThread {
    /// The thread of a node. `config` has `[ha]`, of which `settings` was made, and `role` is the word of the engine's
    /// snapshots.
    pub(super) fn new(
        shared: Arc<Shared>,
        role: Arc<SharedRole>,
        settings: HaConfig,
        channels: HaChannels,
        commands: Commands,
        workers: Vec<WorkerHandle>,
    ) -> Self {
        let now = shared.clock.now();
        let HaChannels { wake, counters, frames, messages } = channels;
        let (config, snapshot) = (shared.config(), shared.snapshot.load_full());
        let mut sync = SyncPath::default();
        sync.configure(&settings);
        sync.open(&shared.engine, now);
        Self {
            associations: associations(&config, &settings, &shared.engine),
            machine: Machine::new(settings, now),
            keeper: None,
            has_unsent: false,
            role,
            first_epoch: snapshot.epoch,
            started: now,
            health: Health::default(),
            is_judged: false,
            stuck: StuckThreads::default(),
            faults: Vec::new(),
            reported_role: None,
            legs: Legs::new(counters.clone()),
            sync,
            counters,
            frames,
            messages,
            news: ControlNews::default(),
            commands,
            workers,
            waiter: Waiter::new(wake),
            datagram: Box::new([0; DATAGRAM_MAX]),
            config,
            snapshot,
            shared,
        }
    }

    /// The thread that keeps copies of sessions besides.
    pub(super) fn with_copies(self, keeper: Option<CopyKeeper>) -> Self {
        Self { keeper, ..self }
    }

    /// Runs until the engine stops. `maintenance` says who took the node out of service before it was started.
    pub(super) fn run(mut self, maintenance: Option<OrderedBy>) {
        self.shared.set_realtime_priority();
        sandbox::drop_capabilities(ThreadPrivileges::None);
        // The time until the thread ran is no lateness of its own.
        self.started = self.shared.clock.now();
        self.machine = Machine::new(self.machine.config().clone(), self.started);
        if let Some(by) = maintenance {
            let _ = self.order(Order::Maint { by });
        }
        let mut turns = 0;
        while !self.shared.stop.load(Ordering::Relaxed) {
            turns += 1;
            self.shared.ha_turns.iter().for_each(TurnCounter::turn);
            self.handle_messages();
            self.follow_engine();
            let is_flooded = self.read_frames();
            self.read_sync();
            let now = self.shared.clock.now();
            if now >= self.machine.poll_timeout() {
                let out = self.machine.handle_timeout(now);
                self.carry_out(out, now);
            }
            self.copy_sessions();
            self.news.pass(&self.commands);
            if is_flooded {
                std::thread::sleep(FLOOD_PAUSE);
                continue;
            }
            let sleep = self.poll_timeout().since(self.shared.clock.now()).min(SLEEP_MAX);
            if sleep > Duration::ZERO && self.frames.is_empty() {
                self.waiter.wait_beside(self.sync.descriptor(), std::iter::empty(), sleep);
                turns = 0;
            } else if turns >= TURNS_MAX {
                std::thread::sleep(COPIES_PAUSE);
                turns = 0;
            }
        }
    }

    fn handle_messages(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            match message {
                HaMessage::Attach(device, sender) => self.legs.senders.attach(device, sender),
                HaMessage::Detach(device) => self.legs.senders.detach(device),
                HaMessage::Station(link, mac) => self.heard_station(link, mac),
                HaMessage::Witness(report) => {
                    let now = self.shared.clock.now();
                    let out = self.machine.handle_witness(report, now);
                    self.carry_out(out, now);
                }
                // Who asked may have gone.
                HaMessage::Ask(answer) => drop(answer.send(self.state())),
                HaMessage::Explain(answer) => drop(answer.send(self.machine.explain(self.shared.clock.now()))),
                HaMessage::Order(order, answer) => drop(answer.send(self.order(order))),
                HaMessage::Resync(answer) => drop(answer.send(self.resync())),
                HaMessage::MayEnd(answer) => drop(answer.send(self.machine.may_end())),
            }
        }
    }

    /// The cluster as this node sees it.
    fn state(&self) -> ClusterState {
        let now = self.shared.clock.now();
        let alarms = self.machine.alarms(now).into_iter().map(|(alarm, reason, age)| AlarmView {
            kind: AlarmKind::from(alarm.kind).into(),
            subject: alarm.subject,
            reason,
            since_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        });
        let mut view = self.machine.status(now);
        self.keeper.iter().for_each(|keeper| keeper.complete(&mut view, now));
        ClusterState { view, alarms: alarms.collect() }
    }

    fn order(&mut self, order: Order) -> Result<(), OrderRefused> {
        let now = self.shared.clock.now();
        let out = self.machine.handle_order(order, now)?;
        self.carry_out(out, now);
        Ok(())
    }

    /// Takes over what changed about the engine: its configuration, its snapshot, and threads that stand still.
    fn follow_engine(&mut self) {
        let now = self.shared.clock.now();
        let config = self.shared.config();
        if !Arc::ptr_eq(&config, &self.config) {
            self.config = config;
            self.reconfigure(now);
        }
        self.sync.open(&self.shared.engine, now);
        let is_new = self.shared.snapshot.load().epoch != self.snapshot.epoch;
        if is_new {
            self.snapshot = self.shared.snapshot.load_full();
        }
        self.legs.senders.set_links(&self.snapshot);
        // The first snapshot knows no devices yet.
        if self.snapshot.epoch <= self.first_epoch && now.since(self.started) < START_MAX {
            return;
        }
        let faults = self.watch_threads(now);
        let sync = self.keeper.as_mut().and_then(|keeper| keeper.poll_state(now));
        if is_new || !self.is_judged || faults.is_some() || sync.is_some() {
            self.is_judged = true;
            self.faults = faults.unwrap_or(std::mem::take(&mut self.faults));
            let sync = sync.unwrap_or_else(|| self.health.sync.clone());
            let health = Health { faults: self.faults.clone(), sync, ..ha_health(&self.config, &self.snapshot) };
            if health != self.health {
                self.health = health.clone();
                let out = self.machine.handle_health(health, now);
                self.carry_out(out, now);
            }
        }
    }

    /// Takes a configuration over that a reload put in force.
    fn reconfigure(&mut self, now: Instant) {
        let Some(settings) = self.config.role_machine(env!("CARGO_PKG_VERSION")) else { return };
        let before = self.machine.config();
        match (&mut self.associations, self.config.ha.as_ref().and_then(|ha| ha.key.as_ref())) {
            (Some(associations), Some(key))
                if before.me == settings.me && before.nodes.len() == settings.nodes.len() =>
            {
                associations.set_key(key.expose().as_bytes());
            }
            _ => self.associations = associations(&self.config, &settings, &self.shared.engine),
        }
        self.sync.configure(&settings);
        self.keeper.iter_mut().for_each(|keeper| keeper.set_config(&self.config));
        self.legs.forget_nodes();
        self.is_judged = false;
        let out = self.machine.set_config(settings, now);
        self.carry_out(out, now);
    }

    /// The faults of threads, if that is due and they changed.
    fn watch_threads(&mut self, now: Instant) -> Option<Vec<Fault>> {
        if !self.stuck.is_due(now) {
            return None;
        }
        let workers = self.shared.worker_turns.iter();
        let turns = std::iter::once(&self.shared.control_turns).chain(workers).map(|counter| counter.count());
        let (news, handles) = (&mut self.news, &self.workers);
        let found = self.stuck.check(turns, now, |place| match place.checked_sub(1) {
            None => news.wake(),
            Some(worker) => {
                if let Some(worker) = handles.get(worker) {
                    worker.wake();
                }
            }
        });
        let faults = [(found.worker, Fault::Worker), (found.control, Fault::Control)];
        let faults: Vec<_> = faults.into_iter().filter_map(|(stands, fault)| stands.then_some(fault)).collect();
        (faults != self.faults).then_some(faults)
    }

    fn heard_station(&mut self, link: LinkId, mac: MacAddr) {
        let config = self.machine.config();
        let Some(leg) = config.leg_of(link) else { return };
        let now = self.shared.clock.now();
        if self.legs.is_outside(&config.legs[leg.index()], mac, &self.snapshot, now) {
            let out = self.machine.handle_station(leg, now);
            self.carry_out(out, now);
        }
    }

    /// Reads the frames that wait. True if there were more than nodes send: they may be forged.
    fn read_frames(&mut self) -> bool {
        for _ in 0..FRAMES_MAX {
            let Ok(mut punt) = self.frames.try_recv() else { return false };
            let now = self.shared.clock.now();
            let Some(leg) = self.machine.config().leg_of(punt.link) else { continue };
            match frame::read(&mut punt.bytes) {
                None => self.counters.count(Counted::UnopenedForeign),
                Some(ClusterFrame::Advertisement(Err(_))) => self.counters.count(Counted::AdvertInvalid),
                Some(ClusterFrame::Advertisement(Ok(received))) => {
                    let (out, advertised) = self.machine.handle_advertisement(leg, &received, now);
                    self.counters.count(advertised.into());
                    self.carry_out(out, now);
                }
                Some(ClusterFrame::Datagram { source_mac, pair: _, bytes }) => {
                    let link = punt.link;
                    if let Some((node, said)) = open(&mut self.associations, &self.counters, bytes, now) {
                        self.legs.heard_node(link, source_mac);
                        self.hear(Path::Leg(leg), node, said, now);
                    }
                }
            }
        }
        true
    }

    fn read_sync(&mut self) {
        for _ in 0..FRAMES_MAX {
            let now = self.shared.clock.now();
            let Some(bytes) = self.sync.receive(&mut self.datagram) else { return };
            if let Some((node, said)) = open(&mut self.associations, &self.counters, bytes, now) {
                self.hear(Path::Sync, node, said, now);
            }
        }
    }

    fn hear(&mut self, path: Path, node: NodeId, said: Said, now: Instant) {
        match said {
            Said::Hello(hello) => {
                let out = self.machine.handle_hello(path, node, *hello, now);
                self.carry_out(out, now);
            }
            Said::OfCopies(kind, body) => self.hear_copies(node, kind, &body, now),
        }
    }

    /// Does what the machine wants done. Packet workers get a new role first; a lease is prolonged only when the other
    /// nodes have been told.
    fn carry_out(&mut self, out: Out, now: Instant) {
        let word = self.machine.role_word();
        let only_prolongs = out.only_prolongs(&word);
        let Out { role, advertise, hello, announce, ask, alarms } = out;
        if !only_prolongs {
            self.role.store(word);
        }
        if let Some(said) = advertise {
            self.legs.advertise(said, &self.machine, &self.snapshot, &self.shared.socket_counters);
        }
        self.report_in_probes();
        if let Some(change) = &role {
            self.news.role(word);
            self.news.event(role_event(&self.shared.engine, change, &self.machine.change_words(change)));
        }
        if announce {
            self.news.announce();
        }
        if role.is_some() || announce {
            self.news.pass(&self.commands);
        }
        if role.as_ref().is_some_and(|change| change.to == Role::Leaving) {
            self.tell_all_copies(now);
        }
        if let Some(hello) = hello {
            self.send_hello(&hello, now);
        }
        if only_prolongs {
            self.role.store(word);
        }
        if ask {
            self.news.ask();
        }
        alarms.iter().for_each(|change| self.news.event(alarm_event(change)));
    }

    /// Reports in probes what this node is, if that changed: the far side passes it on to the other nodes.
    fn report_in_probes(&mut self) {
        let reported = ClusterRole::from(&self.machine);
        if self.reported_role != Some(reported) {
            self.reported_role = Some(reported);
            self.news.cluster_role(reported);
        }
    }

    /// Sends a hello on every path, sealed anew for each.
    fn send_hello(&mut self, hello: &Hello, now: Instant) {
        let Some(associations) = &mut self.associations else { return };
        let bytes = hello.encode();
        let config = self.machine.config();
        for leg in &config.legs {
            let (datagrams, traffic) = (associations.round(&bytes, now), &self.shared.socket_counters);
            self.legs.send_datagrams(leg, config, &datagrams, Counted::HelloSent, &self.snapshot, traffic);
        }
        if self.sync.is_open() {
            for (node, datagram) in associations.round(&bytes, now) {
                match self.sync.send(node, &datagram) {
                    None => {}
                    Some(true) => self.counters.count(Counted::HelloSent),
                    Some(false) => self.counters.count(Counted::SyncUnsent),
                }
            }
        }
    }
}

/// What another node said.
enum Said {
    Hello(Box<Hello>),
    /// A part of the stream of copies, or an acknowledgement of it.
    OfCopies(Kind, Vec<u8>),
}

/// Opens a datagram; `None` if it has no effect besides.
fn open(
    associations: &mut Option<Associations>,
    counters: &HaCounters,
    bytes: &[u8],
    now: Instant,
) -> Option<(NodeId, Said)> {
    match associations.as_mut()?.open(bytes, now) {
        Ok(Opened::Init(_) | Opened::ForAnother) => None,
        Ok(Opened::Body(node, Kind::Hello, body)) => {
            let hello = Hello::decode(&body);
            counters.count(if hello.is_some() { Counted::HelloReceived } else { Counted::HelloInvalid });
            Some((node, Said::Hello(Box::new(hello?))))
        }
        Ok(Opened::Body(node, kind @ (Kind::Stream | Kind::Ack), body)) => {
            counters.count(Counted::CopiesReceived);
            Some((node, Said::OfCopies(kind, body)))
        }
        Ok(Opened::Body(_, Kind::Init, _)) => None,
        Err(unopened) => {
            counters.count(unopened.into());
            None
        }
    }
}

/// The associations of a node whose configuration has a key. Nothing that is sealed under a start of this node may come
/// twice, so that each takes random bytes of the kernel.
fn associations(config: &Config, settings: &HaConfig, engine: &str) -> Option<Associations> {
    let key = config.ha.as_ref()?.key.as_ref()?.expose().as_bytes();
    let mut random = [0; 16];
    if SystemRandom::new().fill(&mut random).is_err() {
        tracing::error!(engine, "no hellos are sent: the kernel gives no random bytes");
        return None;
    }
    Some(Associations::new(settings.me, settings.nodes.len(), &[key], random, settings.interval))
}
