//! Owns the only threads: pinned packet workers, the control thread around the controller, and management.
//!
//! ```text
//!  worker 0 ─┐ punts (bounded)   ┌─ control thread ─┐ commands ┌─ management ─┐
//!  worker 1 ─┼──────────────────▶│   Controller     │◀─────────│ HTTP, signals│
//!     ...    │◀──────────────────│ devices, timers  │          │              │
//!        snapshot (one swap),    └──────────────────┘          └──────────────┘
//!        sockets (messages)
//! ```
//!
//! The probe thread, beside the workers, takes path probes and the answers to health checks from rings of their own and
//! puts them first in the queue of punts.
//!
//! A worker owns a forwarder, its rings and its sockets, and holds no lock across frames. The control thread has a
//! tokio runtime of its own, so that no request over HTTP can delay a probe. Packet logic is in [`crate::engine`] and
//! never here.

mod api_listeners;
mod backend;
mod capture;
mod capture_pump;
mod control;
mod counters;
mod devices;
mod engine;
mod events;
mod ha;
mod ha_handle;
mod health;
mod history;
mod hold;
mod idle;
mod logging;
mod management;
mod metrics;
mod opening;
mod overrides;
mod overrides_file;
pub mod placement;
mod probe_thread;
mod process;
mod punts;
mod reload;
mod rings;
mod sandbox;
mod servers_file;
mod service_manager;
mod session_log;
pub mod sessions;
mod shared;
mod socket_counters;
mod starting;
mod state_file;
#[cfg(test)]
mod tests;
mod transmit;
mod turn_counter;
mod upgrade;
mod users;
mod watchdog;
mod worker;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

pub use ha_handle::CLUSTER_COUNTERS;
use reload::Reloader;

use crate::api::tls::TlsError;
use crate::config::{Config, Io};
use crate::io::clock::Clock;
use crate::io::frame_io::DeviceOpenError;
use crate::io::isolate::IsolateError;
use crate::io::lock::LockError;
use crate::io::netdev::ResolveError;
use crate::io::privileges::ThreadPrivileges;
use crate::io::thread;
use crate::io::user;

/// A configuration file, read and validated.
#[derive(Debug, Clone)]
pub struct EngineFile {
    /// Path of the file.
    pub path: PathBuf,
    /// Text of the file.
    pub text: String,
    /// The configuration that it contains.
    pub config: Config,
}

/// Options of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Take a device even if the kernel's default route leads over it.
    pub allow_default_route: bool,
    /// The process belongs to the engines alone: it changes to their user and gives up the privileges that they do not
    /// need.
    pub drop_privileges: bool,
}

/// Why engines did not start, or stopped. Together with its sources, it makes one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A configured device is missing.
    #[error("engine {engine}")]
    NoDevice {
        /// Name of the engine.
        engine: String,
        /// The device as the file names it.
        device: String,
        /// Why it was not found, with the devices that exist.
        source: ResolveError,
    },
    /// The kernel's default route leads over the device: the operator is probably logged in through it.
    #[error(
        "engine {engine}: the default route of this machine leads over {device}, and the kernel loses a device that an \
         engine owns; use --take if that is meant"
    )]
    DefaultRoute {
        /// Name of the engine.
        engine: String,
        /// Name of the device.
        device: String,
    },
    /// Another engine has the link.
    #[error("engine {engine}: link {link} ({device}) is taken; stop its owner first, or name another device or vlan")]
    LinkTaken {
        /// Name of the engine.
        engine: String,
        /// Name of the link.
        link: String,
        /// Name of the device, with the VLAN if there is one.
        device: String,
        /// Who has the link.
        source: LockError,
    },
    /// A device could not be opened.
    #[error("engine {engine}: cannot open device {device}")]
    Open {
        /// Name of the engine.
        engine: String,
        /// Name of the device.
        device: String,
        /// Why it could not be opened.
        source: DeviceOpenError,
    },
    /// The kernel's stack could not be kept off a device.
    #[error("engine {engine}: cannot take device {device}")]
    Isolate {
        /// Name of the engine.
        engine: String,
        /// Name of the device.
        device: String,
        /// Why that failed.
        source: IsolateError,
    },
    /// Another process has the control socket.
    #[error("engine {engine}: control socket {}: {owner}; end or remove that first, or set another `control` in [engine]", .path.display())]
    SocketTaken {
        /// Name of the engine.
        engine: String,
        /// Path of the socket.
        path: PathBuf,
        /// Who has the socket.
        owner: String,
    },
    /// A file, directory or socket could not be created.
    #[error("engine {engine}: cannot {what}")]
    System {
        /// Name of the engine.
        engine: String,
        /// What was attempted, as the end of "cannot …".
        what: String,
        /// The error of the system call.
        source: std::io::Error,
    },
    /// The address of `[api] listen` could not be bound.
    #[error("engine {engine}: cannot listen on {address}: {what}")]
    Listen {
        /// Name of the engine.
        engine: String,
        /// The address.
        address: SocketAddr,
        /// What is wrong with it, or what to do.
        what: &'static str,
        /// The error of the system call.
        source: std::io::Error,
    },
    /// The certificate or key of `[api]` cannot be used.
    #[error("engine {engine}: [api]")]
    Tls {
        /// Name of the engine.
        engine: String,
        /// What is wrong with it.
        source: TlsError,
    },
    /// The process cannot change to the user that it is to run as.
    #[error("cannot run as user {user}: {what}")]
    Identity {
        /// Name of the user.
        user: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The engine was to be taken over from the program that runs it, and was not.
    #[error("engine {engine} goes on in the program that runs it: {what}")]
    TakeOver {
        /// Name of the engine.
        engine: String,
        /// Why.
        what: String,
    },
    /// A thread ended that must not end; its panic message was printed before.
    #[error("{0} ended unexpectedly; everything was stopped")]
    ThreadEnded(String),
}

/// Runs engines until SIGTERM or SIGINT, or until another program has taken them over. Sockets, locks and the isolation of
/// devices end when this returns, and also when the process is killed.
///
/// With `predecessor`, the path of a socket at which the program waits that runs the one engine of `engines` so far, the
/// engine begins with the sessions of that program at the moment at which that one stops.
///
/// # Errors
/// If an engine does not start or does not go on; a `predecessor` goes on if its engine does not start here.
pub fn run(engines: Vec<EngineFile>, options: Options, predecessor: Option<&Path>) -> Result<(), RunError> {
    logging::start(engines.iter().map(|engine| (engine.config.engine.name.as_str(), &engine.config.log)));
    let signals = async {
        management::until_stopped().await;
    };
    let ready = || service_manager::notify(sd_notify::NotifyState::Ready);
    let ended = run_between(predecessor, engines, options, ready, signals);
    logging::flush();
    ended
}

/// Runs engines until `stop` completes; calls `ready` when they forward.
#[cfg(test)]
fn run_until(
    files: Vec<EngineFile>,
    options: Options,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    run_between(None, files, options, ready, stop)
}

/// Runs engines from the end of `predecessor`, if there is one, until `stop` completes or another program takes over;
/// calls `ready` when they forward.
fn run_between(
    predecessor: Option<&Path>,
    files: Vec<EngineFile>,
    options: Options,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let system = |what: &str, source| RunError::System { engine: "(all)".into(), what: what.into(), source };
    let clock = Clock::new();
    let (ended, mut endings) = mpsc::unbounded_channel();
    let (handovers, mut handed_over) = mpsc::unbounded_channel();
    let mut successor = predecessor.map(|path| take_over(path, &files)).transpose()?;
    let sandbox = files.iter().all(|file| file.config.engine.sandbox);
    let xdp = files.iter().any(|file| file.config.engine.io == Io::AfXdp);
    let (files, beginnings): (Vec<_>, Vec<_>) =
        files.into_iter().map(|file| starting::choose_config(file, &clock)).unzip();
    let identity = if options.drop_privileges { sandbox::Identity::of(&files)? } else { None };
    if let Some(identity) = &identity {
        identity.chown_directories(&files)?;
    }
    // All engines start or none: every engine is prepared, which may fail, before any thread runs.
    let mut prepared = Vec::new();
    let web = api_listeners::SharedApiListeners::default();
    let raised = devices::DevicesSetUp::default();
    for (file, beginning) in files.into_iter().zip(beginnings) {
        let mut listeners = api_listeners::lock(&web);
        let inherited = |address| successor.as_mut()?.descriptor(&api_listeners::listener_name(address));
        if let Some(address) = file.config.api.listen
            && let Some(listener) = { inherited }(address)
        {
            listeners.inherit(address, listener);
        }
        listeners.apply(&file.config.engine.name, file.config.api.clone())?;
        drop(listeners);
        prepared.push(engine::PreparedEngine::new(file, beginning, options, clock, raised.clone(), successor.take())?);
    }
    match &identity {
        Some(identity) => identity.switch_user(xdp)?,
        None if options.drop_privileges && user::is_root() => {
            tracing::info!(
                "the process stays root's, without its privileges: make a user fwlb, or set `user` in [engine]"
            );
        }
        None => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("fwlb-manage")
        .on_thread_start(|| sandbox::drop_capabilities(ThreadPrivileges::None))
        .enable_all()
        .build()
        .map_err(|error| system("start the management threads", error))?;
    let waited_for = prepared.iter().map(engine::PreparedEngine::start_state).collect::<Vec<_>>();
    runtime.block_on(async {
        let mut running = Vec::new();
        let reloader = Arc::new(Reloader::new(options, Arc::clone(&web)));
        let hangups = management::hangups();
        let mut over = None;
        let ways_out = engine::WaysOut { exits: ended, handovers };
        let outcome = match start_all(prepared, &ways_out, &reloader, &mut running) {
            Ok(()) => {
                api_listeners::lock(&web).serve(running.iter().map(engine::RunningEngine::backend).collect());
                if options.drop_privileges {
                    logging::drop_capabilities();
                    sandbox::enter_sandbox(sandbox, xdp);
                }
                ready();
                for (engine, beginning) in waited_for {
                    starting::report_choice(&reloader, engine, beginning).await;
                }
                let watched = running.iter().map(engine::RunningEngine::shared).collect();
                tokio::select! {
                    () = watchdog::feed(watched) => Ok(()),
                    () = stop => Ok(()),
                    () = management::reload_on_hangup(hangups, reloader) => Ok(()),
                    Some(other) = handed_over.recv() => {
                        over = Some(other);
                        Ok(())
                    }
                    Some(thread) = endings.recv() => Err(RunError::ThreadEnded(thread)),
                }
            }
            Err(error) => Err(error),
        };
        if over.is_none() {
            service_manager::notify(sd_notify::NotifyState::Stopping);
        }
        api_listeners::lock(&web).stop();
        for engine in running {
            match over.take() {
                // Only the one engine of a process is handed over.
                Some(over) => engine.leave(over).await,
                None => engine.stop().await,
            }
        }
        outcome
    })
}

/// Begins to take the one engine of `files` over from the program that waits at `path`.
fn take_over(path: &Path, files: &[EngineFile]) -> Result<upgrade::Successor, RunError> {
    let [file] = files else {
        let engine = files.iter().map(|file| file.config.engine.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(RunError::TakeOver { engine, what: "one engine is taken over at a time".to_owned() });
    };
    let engine = &file.config.engine.name;
    upgrade::Successor::connect(path, engine)
        .map_err(|error| RunError::TakeOver { engine: engine.clone(), what: with_sources(&error) })
}

/// Starts one engine after the other; `running` gets those that run, also when one fails.
fn start_all(
    prepared: Vec<engine::PreparedEngine>,
    ways_out: &engine::WaysOut,
    reloader: &Arc<Reloader>,
    running: &mut Vec<engine::RunningEngine>,
) -> Result<(), RunError> {
    let cpus = thread::allowed_cpus().map_err(|source| RunError::System {
        engine: "(all)".to_owned(),
        what: "list the CPUs".to_owned(),
        source,
    })?;
    let all_workers = prepared.iter().map(|engine| engine.worker_count(cpus.len())).sum();
    let mut workers = 0;
    for engine in prepared {
        let started = engine.start((workers, all_workers), ways_out.clone(), reloader)?;
        workers += started.workers();
        running.push(started);
    }
    Ok(())
}

/// An error and its sources, on one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |line, source| format!("{line}: {source}"))
}
