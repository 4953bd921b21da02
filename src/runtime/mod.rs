//! The only threads: pinned packet workers, the control thread around the controller, management.
//!
//! ```text
//!  worker 0 ─┐ punts (bounded)   ┌─ control thread ─┐ commands ┌─ management ─┐
//!  worker 1 ─┼──────────────────▶│   Controller     │◀─────────│ HTTP, signals│
//!     ...    │◀──────────────────│ devices, timers  │          │              │
//!            └ snapshot (one swap), sockets by mail └──────────┴──────────────┘
//! ```
//!
//! Probes of paths have a thread of their own beside the workers, from a ring of their own to the front of the queue.
//!
//! A worker owns a forwarder, its rings and its sockets, and holds no lock across frames. The control thread has a runtime of
//! its own, so that no request over HTTP can delay a probe. Packet logic is in [`crate::engine`]; here is none.

mod accounts;
mod backend;
mod capture;
mod confine;
mod control;
mod counters;
mod devices;
mod engine;
mod events;
mod health;
mod history;
mod kill;
mod logging;
mod management;
mod measures;
mod opening;
mod orders;
mod pace;
pub mod placement;
mod probes;
mod process;
mod punts;
mod reload;
mod rings;
pub mod sessions;
mod shared;
mod starting;
mod state;
#[cfg(test)]
mod tests;
mod transmit;
mod users;
mod watchdog;
mod web;
mod worker;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use reload::Reloader;

use crate::api::tls::TlsError;
use crate::config::{Config, Io};
use crate::io::clock::Clock;
use crate::io::isolate::IsolateError;
use crate::io::lock::LockError;
use crate::io::netdev::ResolveError;
use crate::io::privileges::Duty;
use crate::io::user;
use crate::io::ways::OpenError;

/// One configuration file, read and valid.
#[derive(Debug, Clone)]
pub struct EngineFile {
    /// Where it was read.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// What it means.
    pub config: Config,
}

/// How to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Take a device although the kernel's default route leads over it.
    pub take: bool,
    /// The process is the engines' alone: it becomes their user and gives up what they do not need.
    pub confine: bool,
}

/// Why engines did not start, or stopped: with its sources one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A configured device is missing.
    #[error("engine {engine}")]
    NoDevice {
        /// Engine name.
        engine: String,
        /// As the file names it.
        device: String,
        /// What there is instead.
        source: ResolveError,
    },
    /// The operator is probably logged in through this device.
    #[error(
        "engine {engine}: the default route of this machine leads over {device}, and the kernel loses a device that an \
         engine owns; use --take if that is meant"
    )]
    DefaultRoute {
        /// Engine name.
        engine: String,
        /// Device name.
        device: String,
    },
    /// Another engine has the link.
    #[error("engine {engine}: link {link} ({device}) is taken; stop its owner first, or name another device or vlan")]
    LinkTaken {
        /// Engine name.
        engine: String,
        /// Link name.
        link: String,
        /// Device name, with the VLAN where there is one.
        device: String,
        /// Who has it.
        source: LockError,
    },
    /// A device did not open.
    #[error("engine {engine}: cannot open device {device}")]
    Open {
        /// Engine name.
        engine: String,
        /// Device name.
        device: String,
        /// Why.
        source: OpenError,
    },
    /// The kernel's stack stays on a device.
    #[error("engine {engine}: cannot take device {device}")]
    Isolate {
        /// Engine name.
        engine: String,
        /// Device name.
        device: String,
        /// Why.
        source: IsolateError,
    },
    /// Another process has the control socket.
    #[error("engine {engine}: control socket {}: {owner}; end or remove that first, or set another `control` in [engine]", .path.display())]
    SocketTaken {
        /// Engine name.
        engine: String,
        /// Where.
        path: PathBuf,
        /// Who has it.
        owner: String,
    },
    /// A file, directory or socket could not be made.
    #[error("engine {engine}: cannot {what}")]
    System {
        /// Engine name.
        engine: String,
        /// What was tried.
        what: String,
        /// What came.
        source: std::io::Error,
    },
    /// An address of `[api] listen` cannot be had.
    #[error("engine {engine}: cannot listen on {address}: {what}")]
    Listen {
        /// Engine name.
        engine: String,
        /// Where.
        address: SocketAddr,
        /// What to do.
        what: &'static str,
        /// What came.
        source: std::io::Error,
    },
    /// The certificate or key of `[api]` cannot be used.
    #[error("engine {engine}: [api]")]
    Tls {
        /// Engine name.
        engine: String,
        /// Why.
        source: TlsError,
    },
    /// The process cannot become the user that it is to run as.
    #[error("cannot run as user {user}: {what}")]
    Identity {
        /// Name of the user.
        user: String,
        /// Why, and what to do.
        what: String,
    },
    /// A thread ended that must not; its panic message stands above.
    #[error("{0} ended unexpectedly; everything was stopped")]
    ThreadEnded(String),
}

/// Runs engines until SIGTERM or SIGINT. Nothing is left behind: sockets, locks and the hold on the devices end here, and with
/// the process if it is killed.
pub fn run(engines: Vec<EngineFile>, options: Options) -> Result<(), RunError> {
    logging::start(engines.iter().map(|engine| (engine.config.engine.name.as_str(), &engine.config.log)));
    let signals = async {
        management::until_stopped().await;
    };
    let ended = run_until(engines, options, || management::notify(sd_notify::NotifyState::Ready), signals);
    logging::flush();
    ended
}

/// Runs engines until `stop` completes; calls `ready` when they forward.
fn run_until(
    files: Vec<EngineFile>,
    options: Options,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let system = |what: &str, source| RunError::System { engine: "(all)".into(), what: what.into(), source };
    let clock = Clock::new();
    let (ended, mut endings) = mpsc::unbounded_channel();
    let sandbox = files.iter().all(|file| file.config.engine.sandbox);
    let xdp = files.iter().any(|file| file.config.engine.io == Io::AfXdp);
    let (files, beginnings): (Vec<_>, Vec<_>) = files.into_iter().map(|file| starting::choose(file, &clock)).unzip();
    let identity = if options.confine { confine::Identity::of(&files)? } else { None };
    if let Some(identity) = &identity {
        identity.take_directories(&files)?;
    }
    // All of them or none: an engine is prepared, which may fail, before any thread runs.
    let mut prepared = Vec::new();
    let web = web::SharedWeb::default();
    let raised = devices::Raised::default();
    for (file, beginning) in files.into_iter().zip(beginnings) {
        web::lock(&web).apply(&file.config.engine.name, file.config.api.clone())?;
        prepared.push(engine::Prepared::new(file, beginning, options, clock, raised.clone())?);
    }
    match &identity {
        Some(identity) => identity.become_it(xdp)?,
        None if options.confine && user::is_root() => {
            tracing::info!(
                "the process stays root's, without its privileges: make a user fwlb, or set `user` in [engine]"
            );
        }
        None => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("fwlb-manage")
        .on_thread_start(|| confine::limit(Duty::None))
        .enable_all()
        .build()
        .map_err(|error| system("start the management threads", error))?;
    let waited_for = prepared.iter().map(engine::Prepared::beginning).collect::<Vec<_>>();
    runtime.block_on(async {
        let mut running = Vec::new();
        let reloader = Arc::new(Reloader::new(options, Arc::clone(&web)));
        let hangups = management::hangups();
        let outcome = match start_all(prepared, &ended, &reloader, &mut running) {
            Ok(()) => {
                web::lock(&web).serve(running.iter().map(engine::Running::backend).collect());
                if options.confine {
                    confine::close(sandbox, xdp);
                }
                ready();
                for (engine, beginning) in waited_for {
                    starting::tell(&reloader, engine, beginning).await;
                }
                let watched = running.iter().map(engine::Running::shared).collect();
                tokio::select! {
                    () = watchdog::feed(watched) => Ok(()),
                    () = stop => Ok(()),
                    () = management::reload_at(hangups, reloader) => Ok(()),
                    Some(thread) = endings.recv() => Err(RunError::ThreadEnded(thread)),
                }
            }
            Err(error) => Err(error),
        };
        management::notify(sd_notify::NotifyState::Stopping);
        web::lock(&web).stop();
        for engine in running {
            engine.stop().await;
        }
        outcome
    })
}

/// Starts engine after engine; those that run are in `running`, also when one fails.
fn start_all(
    prepared: Vec<engine::Prepared>,
    ended: &engine::Endings,
    reloader: &Arc<Reloader>,
    running: &mut Vec<engine::Running>,
) -> Result<(), RunError> {
    let mut workers = 0;
    for engine in prepared {
        let started = engine.start(workers, ended.clone(), reloader)?;
        workers += started.workers();
        running.push(started);
    }
    Ok(())
}

/// An error and what caused it, on one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |line, source| format!("{line}: {source}"))
}
