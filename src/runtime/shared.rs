//! What the threads of one engine share: the snapshot, the sessions, and counters.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::capture::Captures;
use super::events::EventLog;
use super::hold::Hold;
use super::session_log::SessionLog;
use super::socket_counters::SocketCounters;
use super::turn_counter::TurnCounter;
use crate::config::Config;
use crate::engine::change::StateChange;
use crate::engine::view::CheckLogView;
use crate::engine::{Counters, CountersCell, Snapshot};
use crate::id::DeviceId;
use crate::io::clock::Clock;
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
    /// The counters of the thread that keeps copies of sessions.
    pub copy_counters: Arc<CountersCell>,
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
    /// Which frames the workers handle while the engine is handed over.
    pub hold: Hold,
    /// Turns of each worker's loop.
    pub worker_turns: Box<[TurnCounter]>,
    /// Turns of the control thread's loop.
    pub control_turns: TurnCounter,
    /// Turns of the loop around the role machine; `None` for an engine that stands alone.
    pub ha_turns: Option<TurnCounter>,
    /// Whether the engine's threads run without priority over others.
    lacks_priority: AtomicBool,
    /// The session log.
    pub session_log: Arc<SessionLog>,
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
            hold: Hold::new(cells.len()),
            cells,
            copy_counters: Arc::default(),
            stop: AtomicBool::new(false),
            worker_turns: worker_beats,
            control_turns: TurnCounter::default(),
            ha_turns: config.ha.as_ref().map(|_| TurnCounter::default()),
            lacks_priority: AtomicBool::new(false),
            session_log: Arc::default(),
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
            "probes and hellos are not sent in real time, only before other work"
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
    pub(super) fn event(&self, change: StateChange) {
        self.events().add(self.clock.wall(), change, self.clock.now());
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

    /// The sum of the counters of all workers and of copies, each read at one instant.
    pub(super) fn counters(&self) -> Counters {
        super::counters::sum(self.cells.iter().chain([&self.copy_counters]).map(|cell| cell.read()))
    }
}
