//! What the threads of one engine share: the snapshot, the sessions, and counters.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use arc_swap::ArcSwap;

use super::capture::Captures;
use super::events::EventLog;
use super::session_log::SessionLog;
use super::watchdog::TurnCounter;
use crate::config::Config;
use crate::engine::view::{CheckLogView, EventView};
use crate::engine::{Counters, CountersCell, Snapshot};
use crate::id::{DeviceId, LinkId};
use crate::io::clock::Clock;
use crate::io::frame_io::SendError;
use crate::io::thread;
use crate::nat::PortPools;
use crate::session::SessionTable;
use crate::time::Instant;

/// The shared state of one engine.
#[derive(Debug)]
pub(super) struct Shared {
    /// Name of the engine.
    pub engine: String,
    config: ArcSwap<Config>,
    config_text: Mutex<ConfigText>,
    /// The clock of all threads of the process.
    pub clock: Clock,
    /// When the engine started.
    pub started: Instant,
    /// The snapshot by which workers decide.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The session table.
    pub sessions: Arc<SessionTable>,
    /// The counters of each worker.
    pub cells: Vec<Arc<CountersCell>>,
    /// Ports that stand for clients in `full-nat`.
    pub ports: Arc<PortPools>,
    /// What sockets refused or lost.
    pub socket_counters: SocketCounters,
    /// What is known of each device, indexed by [`DeviceId`].
    devices: Mutex<Vec<DeviceStatus>>,
    /// Running packet captures.
    pub captures: Captures,
    /// Tells the workers to end.
    pub stop: AtomicBool,
    /// Turns of each worker's loop.
    pub worker_turns: Box<[TurnCounter]>,
    /// Turns of the control thread's loop.
    pub control_turns: TurnCounter,
    /// Whether the engine's threads run without priority over others.
    lacks_priority: AtomicBool,
    /// The session log.
    pub session_log: SessionLog,
    events: Mutex<EventLog>,
}

/// What is reported of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct DeviceStatus {
    /// Its present name; `None` while it is missing.
    pub name: Option<String>,
    /// How its frames are received: see [`crate::engine::view::LinkView::io_mode`].
    pub io_mode: Option<String>,
    /// Why its links are down.
    pub reason: Option<&'static str>,
}

/// The text of the configuration in force, and where it came from.
#[derive(Debug, Clone)]
pub(super) struct ConfigText {
    /// Path of the file.
    pub path: PathBuf,
    /// Text of the file.
    pub text: String,
    /// When it took effect.
    pub since: Instant,
}

impl ConfigText {
    /// Path and text of the file.
    pub(super) fn file(self) -> (PathBuf, String) {
        (self.path, self.text)
    }
}

impl Shared {
    pub(super) fn new(
        (config, source): (Config, ConfigText),
        clock: Clock,
        snapshot: Arc<Snapshot>,
        sessions: Arc<SessionTable>,
        ports: Arc<PortPools>,
        cells: Vec<Arc<CountersCell>>,
    ) -> Self {
        let worker_beats = cells.iter().map(|_| TurnCounter::default()).collect();
        Self {
            engine: config.engine.name.clone(),
            clock,
            started: clock.now(),
            snapshot: Arc::new(ArcSwap::new(snapshot)),
            sessions,
            captures: Captures::new(cells.len()),
            ports,
            socket_counters: SocketCounters::new(config.links.len(), config.devices.len(), cells.len()),
            devices: Mutex::default(),
            cells,
            stop: AtomicBool::new(false),
            worker_turns: worker_beats,
            control_turns: TurnCounter::default(),
            lacks_priority: AtomicBool::new(false),
            session_log: SessionLog::default(),
            events: Mutex::new(EventLog::new(&config.engine.name, clock.now())),
            config: ArcSwap::from_pointee(config),
            config_text: Mutex::new(source),
        }
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// What is known of a device.
    pub(super) fn device_status(&self, device: DeviceId) -> DeviceStatus {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.get(device.index()).cloned().unwrap_or_default()
    }

    /// Changes what is known of a device.
    pub(super) fn update_device(&self, device: DeviceId, change: impl FnOnce(&mut DeviceStatus)) {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let length = devices.len().max(device.index() + 1);
        devices.resize_with(length, DeviceStatus::default);
        change(&mut devices[device.index()]);
    }

    /// The source of the configuration in force.
    pub(super) fn config_text(&self) -> ConfigText {
        self.config_text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another configuration in force.
    pub(super) fn set_config(&self, config: Arc<Config>, source: ConfigText) {
        *self.config_text.lock().unwrap_or_else(PoisonError::into_inner) = source;
        self.config.store(config);
    }

    /// Gives the calling thread, a packet worker, priority over ordinary threads of the machine, if that is permitted.
    pub(super) fn raise_priority(&self) {
        if let Err(error) = thread::raise_priority() {
            self.warn_no_priority(&error);
        }
    }

    /// Gives the calling thread real-time priority, if that is permitted; it must have little to do.
    pub(super) fn set_realtime_priority(&self) {
        let Err(refused) = thread::set_realtime_priority() else { return };
        if let Err(error) = thread::raise_priority() {
            return self.warn_no_priority(&error);
        }
        tracing::info!(
            engine = self.engine,
            error = %refused,
            help = "RestrictRealtime=no and sched_setscheduler in SystemCallFilter= of the service",
            "probes are not answered in real time, only before other work"
        );
    }

    /// Warns that threads have no priority, once for all of them.
    fn warn_no_priority(&self, error: &std::io::Error) {
        if !self.lacks_priority.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                engine = self.engine,
                %error,
                help = "run as root, or give the program CAP_SYS_NICE",
                "packets and probes wait for other work: a busy machine may take firewalls and servers for dead"
            );
        }
    }

    /// Whether the engine's threads run without priority over others.
    pub(super) fn lacks_priority(&self) -> bool {
        self.lacks_priority.load(Ordering::Relaxed)
    }

    /// Adds a state change to the event log.
    pub(super) fn event(&self, event: EventView) {
        self.events().add(self.clock.wall(), event, self.clock.now());
    }

    /// Logs the result of a health check.
    pub(super) fn checked(&self, checked: &CheckLogView) {
        self.events().checked(checked, self.clock.now());
    }

    /// Logs how many lines were held back, where that is due.
    pub(super) fn log_suppressed(&self) {
        self.events().log_suppressed(self.clock.now());
    }

    /// The event log. To be held briefly, and never across an await.
    pub(super) fn events(&self) -> MutexGuard<'_, EventLog> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sum of the counters of all workers, each read at one instant.
    pub(super) fn counters(&self) -> Counters {
        super::counters::sum(self.cells.iter().map(|cell| cell.read()))
    }
}

/// Counters of frames that the forwarder does not see.
#[derive(Debug)]
pub(super) struct SocketCounters {
    workers: usize,
    counts: RwLock<SocketCounts>,
    failures: [AtomicU64; SendError::ALL.len()],
}

/// Counters per link and per device; they grow with a reload.
#[derive(Debug, Default)]
struct SocketCounts {
    sent_links: Vec<SentCounts>,
    failed_links: Vec<AtomicU64>,
    /// Frames that found a ring full, by device and then by worker.
    ring_dropped: Vec<Vec<AtomicU64>>,
}

/// Frames and bytes of the controller that were sent on one link.
#[derive(Debug, Default)]
struct SentCounts {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl SocketCounters {
    fn new(links: usize, devices: usize, workers: usize) -> Self {
        let traffic = Self { workers, counts: RwLock::default(), failures: Default::default() };
        traffic.grow(links, devices);
        traffic
    }

    /// Makes room for the links and devices of a reload.
    pub(super) fn grow(&self, links: usize, devices: usize) {
        let mut places = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        let (links, devices) = (links.max(places.sent_links.len()), devices.max(places.ring_dropped.len()));
        places.sent_links.resize_with(links, SentCounts::default);
        places.failed_links.resize_with(links, AtomicU64::default);
        places.ring_dropped.resize_with(devices, || (0..self.workers).map(|_| AtomicU64::default()).collect());
    }

    /// Counts a frame of `bytes` bytes that the controller sends on `link`. The forwarder counts its own frames.
    pub(super) fn count_sent(&self, link: LinkId, bytes: usize) {
        if let Some(made) = self.counts().sent_links.get(link.index()) {
            made.frames.fetch_add(1, Ordering::Relaxed);
            made.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Frames and bytes that the controller sent on `link`.
    pub(super) fn sent_on(&self, link: LinkId) -> (u64, u64) {
        let read = |made: &SentCounts| (made.frames.load(Ordering::Relaxed), made.bytes.load(Ordering::Relaxed));
        self.counts().sent_links.get(link.index()).map_or((0, 0), read)
    }

    /// Counts a frame that the device of `link` did not take.
    pub(super) fn count_failed(&self, link: LinkId, error: SendError) {
        self.failures[error as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(count) = self.counts().failed_links.get(link.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts frames that found the ring of `worker` on `device` full.
    pub(super) fn count_ring_dropped(&self, worker: usize, device: DeviceId, frames: u64) {
        if let Some(count) = self.counts().ring_dropped.get(device.index()).and_then(|rings| rings.get(worker)) {
            count.fetch_add(frames, Ordering::Relaxed);
        }
    }

    /// Counts frames that a device took and did not send; their links are not known any more.
    pub(super) fn count_unsent(&self, frames: u64) {
        self.failures[SendError::NoBuffers as usize].fetch_add(frames, Ordering::Relaxed);
    }

    /// Number of frames that could not be sent on `link`.
    pub(super) fn failed_on(&self, link: LinkId) -> u64 {
        self.counts().failed_links.get(link.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Number of frames on `device` that were lost before the engine saw them.
    pub(super) fn ring_dropped_on(&self, device: DeviceId) -> u64 {
        (0..self.workers).map(|worker| self.ring_dropped_of(worker, device)).sum()
    }

    /// Number of frames on `device` that `worker` lost.
    pub(super) fn ring_dropped_of(&self, worker: usize, device: DeviceId) -> u64 {
        let places = self.counts();
        let ring = places.ring_dropped.get(device.index()).and_then(|rings| rings.get(worker));
        ring.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// The counters of the sockets for `show counters`.
    pub(super) fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let failures = SendError::ALL.iter().zip(&self.failures);
        let rings = self.counts().ring_dropped.iter().flatten().map(|count| count.load(Ordering::Relaxed)).sum();
        failures.map(|(error, count)| (error.name(), count.load(Ordering::Relaxed))).chain([("ring_dropped", rings)])
    }

    /// Locked for one count; it is written only while a reload adds links.
    fn counts(&self) -> RwLockReadGuard<'_, SocketCounts> {
        self.counts.read().unwrap_or_else(PoisonError::into_inner)
    }
}
