//! What the threads of one engine share: the snapshot, the sessions, and what is counted.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use arc_swap::ArcSwap;

use super::accounts::Accounts;
use super::capture::Captures;
use super::events::EventLog;
use super::watchdog::Beat;
use crate::config::Config;
use crate::engine::view::{CheckedView, EventView};
use crate::engine::{Counters, CountersCell, Snapshot};
use crate::id::{DeviceId, LinkId};
use crate::io::clock::Clock;
use crate::io::thread;
use crate::io::ways::SendError;
use crate::nat::PortPools;
use crate::session::SessionTable;
use crate::time::Instant;

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    /// Engine name.
    pub engine: String,
    config: ArcSwap<Config>,
    source: Mutex<Source>,
    /// Reads time for all threads of the process.
    pub clock: Clock,
    /// When the engine started.
    pub started: Instant,
    /// What workers look at.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// All sessions.
    pub sessions: Arc<SessionTable>,
    /// One per worker.
    pub cells: Vec<Arc<CountersCell>>,
    /// Ports that stand for clients.
    pub ports: Arc<PortPools>,
    /// What sockets refused or lost.
    pub traffic: Traffic,
    /// What is told of each device, by [`DeviceId`].
    devices: Mutex<Vec<DeviceWords>>,
    /// Those who watch packets.
    pub captures: Captures,
    /// Workers are to end.
    pub stop: AtomicBool,
    /// Turns of each worker's loop.
    pub worker_beats: Box<[Beat]>,
    /// Turns of the control thread's loop.
    pub control_beat: Beat,
    /// Threads have to wait for other work of the machine.
    is_ordinary: AtomicBool,
    /// Where sessions that ended are told.
    pub accounts: Accounts,
    events: Mutex<EventLog>,
}

/// What is told of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct DeviceWords {
    /// What the kernel calls it; `None` while it is missing.
    pub name: Option<String>,
    /// How its frames are taken: see [`crate::engine::view::LinkView::io_mode`].
    pub io_mode: Option<String>,
    /// Why its links are down.
    pub reason: Option<&'static str>,
}

/// Where the configuration in force was read.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// When it was taken over.
    pub since: Instant,
}

impl Source {
    /// The file as it was read.
    pub(super) fn file(self) -> (PathBuf, String) {
        (self.path, self.text)
    }
}

impl Shared {
    pub(super) fn new(
        (config, source): (Config, Source),
        clock: Clock,
        snapshot: Arc<Snapshot>,
        sessions: Arc<SessionTable>,
        ports: Arc<PortPools>,
        cells: Vec<Arc<CountersCell>>,
    ) -> Self {
        let worker_beats = cells.iter().map(|_| Beat::default()).collect();
        Self {
            engine: config.engine.name.clone(),
            clock,
            started: clock.now(),
            snapshot: Arc::new(ArcSwap::new(snapshot)),
            sessions,
            captures: Captures::new(cells.len()),
            ports,
            traffic: Traffic::new(config.links.len(), config.devices.len(), cells.len()),
            devices: Mutex::default(),
            cells,
            stop: AtomicBool::new(false),
            worker_beats,
            control_beat: Beat::default(),
            is_ordinary: AtomicBool::new(false),
            accounts: Accounts::default(),
            events: Mutex::new(EventLog::new(&config.engine.name, clock.now())),
            config: ArcSwap::from_pointee(config),
            source: Mutex::new(source),
        }
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// What is told of a device.
    pub(super) fn device_words(&self, device: DeviceId) -> DeviceWords {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.get(device.index()).cloned().unwrap_or_default()
    }

    /// A device has changed.
    pub(super) fn tell_device(&self, device: DeviceId, change: impl FnOnce(&mut DeviceWords)) {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let length = devices.len().max(device.index() + 1);
        devices.resize_with(length, DeviceWords::default);
        change(&mut devices[device.index()]);
    }

    /// Where it was read.
    pub(super) fn source(&self) -> Source {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another configuration is in force.
    pub(super) fn take_over(&self, config: Arc<Config>, source: Source) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = source;
        self.config.store(config);
    }

    /// Lets the calling thread, a packet worker, run before the ordinary ones of the machine, if that is allowed.
    pub(super) fn go_first(&self) {
        if let Err(error) = thread::go_first() {
            self.has_no_priority(&error);
        }
    }

    /// Lets the calling thread, which has little to do, run whenever it wants to, if that is allowed.
    pub(super) fn go_at_once(&self) {
        let Err(refused) = thread::go_at_once() else { return };
        if let Err(error) = thread::go_first() {
            return self.has_no_priority(&error);
        }
        tracing::info!(
            engine = self.engine,
            error = %refused,
            help = "RestrictRealtime=no and sched_setscheduler in SystemCallFilter= of the service",
            "probes are not answered in real time, only before other work"
        );
    }

    /// Told once for all threads.
    fn has_no_priority(&self, error: &std::io::Error) {
        if !self.is_ordinary.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                engine = self.engine,
                %error,
                help = "run as root, or give the program CAP_SYS_NICE",
                "packets and probes wait for other work: a busy machine may take firewalls and servers for dead"
            );
        }
    }

    /// Whether the machine does not let the engine's threads go before others.
    pub(super) fn is_ordinary(&self) -> bool {
        self.is_ordinary.load(Ordering::Relaxed)
    }

    /// Notes a state change.
    pub(super) fn event(&self, event: EventView) {
        self.events().add(self.clock.wall(), event, self.clock.now());
    }

    /// Logs the result of a health check.
    pub(super) fn checked(&self, checked: &CheckedView) {
        self.events().checked(checked, self.clock.now());
    }

    /// Logs how many lines were held back, where that is due.
    pub(super) fn tell_suppressed(&self) {
        self.events().tell_suppressed(self.clock.now());
    }

    /// The changes so far. Held for a moment only, never across an await.
    pub(super) fn events(&self) -> MutexGuard<'_, EventLog> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters of all workers, each as of one instant.
    pub(super) fn counters(&self) -> Counters {
        super::counters::sum(self.cells.iter().map(|cell| cell.read()))
    }
}

/// What happened to frames outside the forwarder's sight.
#[derive(Debug)]
pub(super) struct Traffic {
    workers: usize,
    places: RwLock<Places>,
    failures: [AtomicU64; SendError::ALL.len()],
}

/// What is counted by link and by device; grows with a reload.
#[derive(Debug, Default)]
struct Places {
    made_links: Vec<Made>,
    failed_links: Vec<AtomicU64>,
    /// By device, then by worker.
    ring_dropped: Vec<Vec<AtomicU64>>,
}

/// Frames of the controller that one link was given.
#[derive(Debug, Default)]
struct Made {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Traffic {
    fn new(links: usize, devices: usize, workers: usize) -> Self {
        let traffic = Self { workers, places: RwLock::default(), failures: Default::default() };
        traffic.grow(links, devices);
        traffic
    }

    /// There are more links and devices.
    pub(super) fn grow(&self, links: usize, devices: usize) {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let (links, devices) = (links.max(places.made_links.len()), devices.max(places.ring_dropped.len()));
        places.made_links.resize_with(links, Made::default);
        places.failed_links.resize_with(links, AtomicU64::default);
        places.ring_dropped.resize_with(devices, || (0..self.workers).map(|_| AtomicU64::default()).collect());
    }

    /// A frame of `bytes` bytes that the controller made or kept goes out by `link`. The forwarder counts its own.
    pub(super) fn made(&self, link: LinkId, bytes: usize) {
        if let Some(made) = self.places().made_links.get(link.index()) {
            made.frames.fetch_add(1, Ordering::Relaxed);
            made.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Frames and bytes that the controller gave to `link`.
    pub(super) fn made_on(&self, link: LinkId) -> (u64, u64) {
        let read = |made: &Made| (made.frames.load(Ordering::Relaxed), made.bytes.load(Ordering::Relaxed));
        self.places().made_links.get(link.index()).map_or((0, 0), read)
    }

    /// A frame that the device of `link` did not take.
    pub(super) fn failed(&self, link: LinkId, error: SendError) {
        self.failures[error as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(count) = self.places().failed_links.get(link.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Frames that found the ring of `device` full that `worker` serves.
    pub(super) fn ring_dropped(&self, worker: usize, device: DeviceId, frames: u64) {
        if let Some(count) = self.places().ring_dropped.get(device.index()).and_then(|rings| rings.get(worker)) {
            count.fetch_add(frames, Ordering::Relaxed);
        }
    }

    /// Frames that a device took and did not send; which links they were for is not known any more.
    pub(super) fn unsent(&self, frames: u64) {
        self.failures[SendError::NoBuffers as usize].fetch_add(frames, Ordering::Relaxed);
    }

    /// Frames that were not taken on `link`.
    pub(super) fn failed_on(&self, link: LinkId) -> u64 {
        self.places().failed_links.get(link.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Frames lost before the engine saw them.
    pub(super) fn ring_dropped_on(&self, device: DeviceId) -> u64 {
        (0..self.workers).map(|worker| self.ring_dropped_of(worker, device)).sum()
    }

    /// Frames that `worker` lost on `device`.
    pub(super) fn ring_dropped_of(&self, worker: usize, device: DeviceId) -> u64 {
        let places = self.places();
        let ring = places.ring_dropped.get(device.index()).and_then(|rings| rings.get(worker));
        ring.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Names and values for `show counters`.
    pub(super) fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let failures = SendError::ALL.iter().zip(&self.failures);
        let rings = self.places().ring_dropped.iter().flatten().map(|count| count.load(Ordering::Relaxed)).sum();
        failures.map(|(error, count)| (error.name(), count.load(Ordering::Relaxed))).chain([("ring_dropped", rings)])
    }

    /// Held for one count, and written only while a reload adds links.
    fn places(&self) -> RwLockReadGuard<'_, Places> {
        self.places.read().unwrap_or_else(PoisonError::into_inner)
    }
}
