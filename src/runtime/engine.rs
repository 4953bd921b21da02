//! Starts the threads of one engine from its file.

mod ending;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::backend::EngineBackend;
use super::control::{Control, Sources, commands};
use super::devices::{AttachError, Devices, DevicesSetUp};
use super::events::{self, Archive};
use super::ha::HaThread;
use super::ha_handle::{self, HaHandle, MaintenanceFile};
use super::management::{Served, SocketPath};
use super::opening::Opener;
use super::overrides_file::OverridesFile;
use super::probe_thread::{ProbeThread, ProbeThreadHandle};
use super::reload::{ReloadableEngine, Reloader};
use super::sandbox;
use super::servers_file::ServersFile;
use super::session_log::WorkerSessionLog;
use super::shared::{ConfigText, Shared};
use super::starting::StartState;
use super::transmit::LinkSenders;
use super::upgrade::{Handovers, Predecessor, Successor, Takeover};
use super::worker::{Worker, WorkerHandle};
use super::{EngineFile, Options, RunError, placement, punts};
use crate::config::{Config, Io};
use crate::engine::change::{StateChange, Subject};
use crate::engine::copies::Copying;
use crate::engine::forwarder::ForwarderLimits;
use crate::engine::view::EventKind;
use crate::engine::{Controller, CopyKeeper, CountersCell, Forwarder, Sessions};
use crate::io::clock::Clock;
use crate::io::isolate::Isolation;
use crate::io::lock::LinkLock;
use crate::io::monitor::Monitor;
use crate::io::privileges::ThreadPrivileges;
use crate::io::{machine, memory, netdev, thread};
use crate::nat::PortPools;

/// Number of pairs of a source address and a server for which one worker keeps ports of `full-nat`; each takes 8 KiB.
const PORT_POOLS_MAX: usize = 4096;

/// The channel over which a thread reports that it ended.
pub(super) type ThreadExits = mpsc::UnboundedSender<String>;

/// How an engine tells its process that it ends here.
#[derive(Debug, Clone)]
pub(super) struct WaysOut {
    pub exits: ThreadExits,
    pub handovers: Handovers,
}

/// An engine that has its devices and locks and runs no thread yet.
pub(super) struct PreparedEngine {
    file: EngineFile,
    start_state: StartState,
    clock: Clock,
    socket: SocketPath,
    links: BTreeMap<String, LinkLock>,
    isolation: Isolation,
    monitor: Monitor,
    devices_set_up: DevicesSetUp,
    /// What it is taken over from, if another program runs it.
    successor: Option<Successor>,
}

/// An engine whose threads run.
pub(super) struct RunningEngine {
    shared: Arc<Shared>,
    workers: Vec<(WorkerHandle, JoinHandle<()>)>,
    probes: (ProbeThreadHandle, JoinHandle<()>),
    ha: Option<(HaHandle, JoinHandle<()>)>,
    control: JoinHandle<()>,
    stop_control: oneshot::Sender<()>,
    served: Served,
    backend: Arc<EngineBackend>,
}

/// Reports the end of its thread to the owner of all threads, also after a panic.
struct ThreadExitGuard {
    thread: String,
    exits: ThreadExits,
}

impl Drop for ThreadExitGuard {
    fn drop(&mut self) {
        let _ = self.exits.send(std::mem::take(&mut self.thread));
    }
}

impl PreparedEngine {
    /// Takes the engine's devices, links and socket path. An error says in one line what is in the way.
    pub(super) fn new(
        file: EngineFile,
        beginning: StartState,
        options: Options,
        clock: Clock,
        raised: DevicesSetUp,
        mut successor: Option<Successor>,
    ) -> Result<Self, RunError> {
        let config = &file.config;
        let engine = &config.engine.name;
        let system = |what: &str| {
            let (engine, what) = (engine.clone(), what.to_owned());
            move |source| RunError::System { engine, what, source }
        };
        check_devices(&file, options)?;
        let mut links = BTreeMap::new();
        for link in &config.links {
            let designation = &config.devices[link.device.index()];
            let device = netdev::find(designation).map_or_else(|| designation.clone(), |found| found.name);
            let name = LinkLock::name_of(&device, link.vlan);
            let inherited = successor.as_mut().and_then(|successor| successor.descriptor(&name));
            let lock = match inherited {
                Some(inherited) => Ok(LinkLock::inherit(name, inherited)),
                None => LinkLock::acquire(&device, link.vlan),
            };
            let lock = lock.map_err(|source| RunError::LinkTaken {
                engine: engine.clone(),
                link: link.name.clone(),
                device: link.vlan.map_or_else(|| device.clone(), |vid| format!("{device} vlan {vid}")),
                source,
            })?;
            links.insert(link.name.clone(), lock);
        }
        let control = &config.engine.control;
        let [socket, lock] = SocketPath::descriptor_names(control)
            .map(|name| successor.as_mut().and_then(|successor| successor.descriptor(&name)));
        let socket = match lock.zip(socket) {
            Some((lock, socket)) => SocketPath::inherit(engine, control, lock, socket),
            None => SocketPath::lock(engine, control)?,
        };
        let isolation = Isolation::new(engine).map_err(|source| RunError::Isolate {
            engine: engine.clone(),
            device: config.devices.join(", "),
            source,
        })?;
        // Opened before the devices are looked at, so that no change is missed.
        let monitor = Monitor::open().map_err(system("listen for changes of network devices"))?;
        let devices_set_up = raised;
        Ok(Self { clock, socket, links, isolation, monitor, devices_set_up, file, start_state: beginning, successor })
    }

    /// The engine's name, and how it begins.
    pub(super) fn start_state(&self) -> (String, StartState) {
        (self.file.config.engine.name.clone(), self.start_state.clone())
    }

    /// The number of packet workers that the engine will have, in a process that may use `cpus` CPUs.
    pub(super) fn worker_count(&self, cpus: usize) -> usize {
        placement::worker_count(&self.file.config, cpus)
    }

    /// Starts the threads; to be called within the management runtime. `placed` is how many workers of other engines
    /// have CPUs, and `all_workers` how many the process will have in all.
    pub(super) fn start(
        self,
        (placed, all_workers): (usize, usize),
        WaysOut { exits: endings, handovers }: WaysOut,
        reloader: &Arc<Reloader>,
    ) -> Result<RunningEngine, RunError> {
        let Self {
            file: EngineFile { path, text, config },
            start_state: beginning,
            clock,
            socket,
            links,
            isolation,
            monitor,
            devices_set_up: raised,
            successor,
        } = self;
        let engine = config.engine.name.clone();
        let mut takeover = successor.map(|successor| Takeover::begin(successor, &engine)).transpose()?;
        let system = |what: &str| {
            let (engine, what) = (engine.clone(), what.to_owned());
            move |source| RunError::System { engine, what, source }
        };
        let cpus = thread::allowed_cpus().map_err(system("list the CPUs"))?;
        let count = placement::worker_count(&config, cpus.len());
        let random = || clock.random();
        let now = clock.now();

        let state = Arc::new(OverridesFile::new(&config.engine.state));
        let mut controller = Controller::new(config.clone(), random(), now);
        state.restore(&engine, &mut controller, now);
        let servers = ServersFile::new(&engine, &config.engine.state, clock);
        servers.restore(&mut controller, now);
        let seeds = [random(), random(), random(), random()];
        let Sessions { table: sessions, workers: session_workers, mut copying } =
            Sessions::new(&config, count, config.timeouts, seeds);
        sessions.memory().into_iter().for_each(memory::advise_huge_pages);
        let cells: Vec<_> = (0..count).map(|_| Arc::new(CountersCell::default())).collect();
        let limits = ForwarderLimits {
            fragments: config.limits.fragments.div_ceil(count),
            held: config.limits.held.div_ceil(count),
            fragment_timeout: config.timeouts.fragment,
        };
        // A port rests for as long as the other end may still think that its connection is closing.
        let parts = u16::try_from(count).unwrap_or(u16::MAX);
        let ports = PortPools::new(parts, PORT_POOLS_MAX, config.timeouts.tcp_closing, random());
        let ports = Arc::new(ports.with_ports(config.source_ports()));
        let ha = config.role_machine(env!("CARGO_PKG_VERSION")).map(|settings| {
            let maintenance = MaintenanceFile::new(&config.engine.state);
            let kept = maintenance.load();
            ha_handle::channels(maintenance).map(|(handle, ring, channels)| (handle, ring, (settings, kept, channels)))
        });
        let ha = ha.transpose().map_err(system("make the wake-up of the thread of the role machine"))?;
        let (ha, cluster_ring, of_ha) =
            ha.map_or((None, None, None), |(handle, ring, rest)| (Some(handle), Some(ring), Some(rest)));
        let (punt_sender, punt_receiver) = punts::queue(config.limits.punts, cluster_ring);
        let source = ConfigText { path, text, since: now };
        let of_file = (config, source);
        let shared = Arc::new(Shared::new(of_file, clock, controller.snapshot(), sessions, ports.clone(), cells));
        let config = shared.config();
        if takeover.is_none() {
            restore_events(&shared, &config);
        }

        if let Some(path) = &config.log.sessions {
            shared
                .session_log
                .open(&engine, path, config.timeouts, clock)
                .map_err(system(&format!("write the session log {}", path.display())))?;
        }
        let mut workers = Vec::new();
        let mut handles = Vec::new();
        let mut writers = copying.as_mut().map(Copying::take_writers).unwrap_or_default().into_iter();
        let keeper = copying.map(|copying| {
            let published = shared.copy_counters.clone();
            let mut keeper = CopyKeeper::new(&config, copying, ports.clone(), published, random(), now);
            let log = WorkerSessionLog::new(shared.session_log.clone(), shared.snapshot.clone());
            keeper.set_session_ledger(Box::new(log));
            keeper
        });
        for (number, session_worker) in session_workers.into_iter().enumerate() {
            let cell = shared.cells[number].clone();
            let mut forwarder = Forwarder::new(session_worker, limits, ports.clone(), random(), cell);
            let session_log = WorkerSessionLog::new(shared.session_log.clone(), shared.snapshot.clone());
            forwarder.set_session_ledger(Box::new(session_log));
            writers.next().into_iter().for_each(|changes| forwarder.set_change_writer(changes));
            let cpu = placement::places(&cpus).nth(placed + number);
            let (worker, handle) = Worker::new(number, forwarder, shared.clone(), punt_sender.clone(), cpu)
                .map_err(system("make the wake-up of a packet worker"))?;
            workers.push(worker);
            handles.push(handle);
        }

        if let Some(takeover) = &mut takeover {
            takeover.take_most(&mut workers, &shared)?;
        }
        let mut outlets = LinkSenders::guarded(shared.clock);
        outlets.set_links(&controller.snapshot());
        let opener = Opener::new(&config, count).map_err(system("reserve the frames of AF_XDP"))?;
        let (probes, probes_handle) =
            ProbeThread::new(shared.clone(), punt_sender).map_err(system("make the wake-up of the probes' thread"))?;
        let raised_before = raised.clone();
        let mut devices = Devices::new(
            shared.clone(),
            isolation,
            opener,
            handles.clone(),
            (probes_handle.clone(), ha.clone()),
            links,
            raised,
        );
        let attach = |devices: &mut Devices, outlets: &mut LinkSenders| {
            devices.attach_all(outlets).map_err(|(device, error)| match error {
                AttachError::Isolate(source) => RunError::Isolate { engine: engine.clone(), device, source },
                AttachError::Open(source) => RunError::Open { engine: engine.clone(), device, source },
            })
        };
        let is_xdp = config.engine.io == Io::AfXdp;
        let mut changes = Vec::new();
        let mut last_sessions_from = None;
        // The queues of AF_XDP are free only when the program that has them has stopped.
        if let Some(takeover) = takeover.as_mut().filter(|_| is_xdp) {
            last_sessions_from = Some(takeover.take_rest(&mut workers, &shared)?);
        }
        changes.extend(attach(&mut devices, &mut outlets)?);
        let role = controller.shared_role();
        let mut control =
            Control::new(controller, shared.clone(), state, devices, outlets, handles.clone(), ha.clone());
        match &takeover {
            None => control.devices_changed(changes),
            Some(takeover) => takeover.restore(changes, &mut control),
        }
        warn_placement(&config, &cpus, placed);

        let (commands, todo) = commands();
        let (stop_control, stop) = oneshot::channel();
        let depth = punt_receiver.depth();
        let sources = Sources { punts: punt_receiver, monitor, commands: todo, stop };
        let StartState { own_file: own, history, at_start: _ } = beginning;
        reloader.add(ReloadableEngine {
            own_file: own,
            shared: shared.clone(),
            commands: commands.clone(),
            history: history.clone(),
        });
        let machine = of_ha.zip(role).map(|((settings, kept, channels), role)| {
            let machine = HaThread::new(shared.clone(), role, settings, channels, commands.clone(), handles.clone());
            (machine.with_copies(keeper), kept)
        });
        let upgrades = Arc::new(Predecessor {
            shared: shared.clone(),
            commands: commands.clone(),
            reloader: reloader.clone(),
            handovers,
            descriptors: OnceLock::new(),
            is_under_way: AtomicBool::new(false),
        });
        let backend = EngineBackend::new(
            shared.clone(),
            commands,
            depth,
            reloader.clone(),
            history,
            ha.clone(),
            upgrades.clone(),
        );
        let backend = Arc::new(backend);
        let began = match &mut takeover {
            Some(takeover) => {
                let moment = match last_sessions_from {
                    Some(moment) => moment,
                    None => takeover.take_rest(&mut workers, &shared)?,
                };
                Some(takeover.finish(moment, &shared, &raised_before)?)
            }
            None => None,
        };
        tokio::spawn(servers.run(backend.clone()));
        let served = socket.serve(backend.clone(), config.api.socket_group.as_deref())?;
        let _ = upgrades.descriptors.set(served.share().map_err(system("share the control socket"))?);
        let spawn = |name: String, body: Box<dyn FnOnce() + Send>| {
            let ending = ThreadExitGuard { thread: format!("engine {engine}: {name}"), exits: endings.clone() };
            std::thread::Builder::new()
                .name(format!("fwlb-{name}"))
                .spawn(move || {
                    let _ending = ending;
                    body();
                })
                .map_err(system("start a thread"))
        };
        let (failing, xdp) = (engine.clone(), config.engine.io == Io::AfXdp);
        let beside_workers = placement::beside(&cpus, all_workers);
        let (of_probes, of_machine) = (beside_workers.clone(), beside_workers.clone());
        let control = spawn(
            "control".to_owned(),
            Box::new(move || {
                leave_workers_alone(&beside_workers);
                control.shared.set_realtime_priority();
                sandbox::drop_capabilities(ThreadPrivileges::Devices { xdp });
                if let Err(error) = control.run(sources) {
                    tracing::error!(engine = failing, %error, "the control thread failed");
                }
            }),
        )?;
        let probes = spawn(
            "probes".to_owned(),
            Box::new(move || {
                leave_workers_alone(&of_probes);
                probes.run();
            }),
        )?;
        let ha = match ha.zip(machine) {
            None => None,
            Some((handle, (machine, kept))) => Some((
                handle,
                spawn(
                    "ha".to_owned(),
                    Box::new(move || {
                        leave_workers_alone(&of_machine);
                        machine.run(kept);
                    }),
                )?,
            )),
        };
        let mut threads = Vec::new();
        for (number, (worker, handle)) in workers.into_iter().zip(handles).enumerate() {
            threads.push((handle, spawn(format!("worker-{number}"), Box::new(move || worker.run()))?));
        }
        let started = StateChange::to(EventKind::Engine, Subject::Engine(engine), "started").from("stopped");
        let mut words = format!("version {}, {count} workers", env!("CARGO_PKG_VERSION"));
        if let Some((takeover, began)) = takeover.zip(began) {
            takeover.wait_until_gone();
            restore_events(&shared, &config);
            words += &format!(", {began}");
        }
        shared.event(started.because(words));
        Ok(RunningEngine {
            shared,
            workers: threads,
            probes: (probes_handle, probes),
            ha,
            control,
            stop_control,
            served,
            backend,
        })
    }
}

impl RunningEngine {
    /// Number of packet workers.
    pub(super) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// What the engine's threads share.
    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// What answers the API's requests to this engine.
    pub(super) fn backend(&self) -> Arc<EngineBackend> {
        self.backend.clone()
    }
}

/// Continues the events that earlier starts kept. If they cannot be read, the engine starts without them.
fn restore_events(shared: &Shared, config: &Config) {
    let path = config.engine.state.join("events.jsonl");
    let earlier = events::load(&path).unwrap_or_else(|error| {
        tracing::warn!(engine = shared.engine, path = %path.display(), %error, "earlier events are not shown");
        Vec::new()
    });
    match Archive::open(&shared.engine, &path) {
        Ok(archive) => shared.events().restore(earlier, archive),
        Err(error) => tracing::warn!(engine = shared.engine, %error, "events are not kept on disk"),
    }
}

/// Keeps the calling thread on the CPUs that no packet worker has, if there are any. A refusal costs packets some
/// latency and nothing else.
fn leave_workers_alone(beside: &[usize]) {
    if !beside.is_empty()
        && let Err(error) = thread::keep_to(beside)
    {
        tracing::debug!(%error, "a thread with real-time priority runs on any CPU");
    }
}

/// Logs what on this machine hampers the engine, whose workers come after `placed` others.
fn warn_placement(config: &Config, cpus: &[usize], placed: usize) {
    let workers = placement::Workers::of(config, cpus, placed);
    for placement::Warning { what, help: cure } in
        placement::warnings(&workers, &machine::inspect(config.devices.iter().map(String::as_str)))
    {
        tracing::warn!(engine = config.engine.name, help = cure, "{what}");
    }
}

/// Checks that all devices exist, and that none is the operator's way into the machine.
fn check_devices(
    file: &EngineFile,
    Options { allow_default_route: take, drop_privileges: _ }: Options,
) -> Result<(), RunError> {
    let engine = &file.config.engine.name;
    let defaults = if take {
        Vec::new()
    } else {
        netdev::default_route_devices().map_err(|source| RunError::System {
            engine: engine.clone(),
            what: "read the kernel's routes".to_owned(),
            source,
        })?
    };
    for name in &file.config.devices {
        let found = netdev::resolve(name).map_err(|source| RunError::NoDevice {
            engine: engine.clone(),
            device: name.clone(),
            source,
        })?;
        if defaults.contains(&found.index) {
            return Err(RunError::DefaultRoute { engine: engine.clone(), device: name.clone() });
        }
    }
    Ok(())
}
