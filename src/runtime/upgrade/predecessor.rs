//! The old program: hands an engine over to the program that takes it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::sleep;

use sd_notify::NotifyState;

use super::line::{Line, LineError};
use crate::config::Io;
use crate::engine::handover::{FORMAT, Giver, Hello, Message, State, sticky_clients};
use crate::engine::{CopiedEngine, Counters, Snapshot};
use crate::io::handover::{self, Peer};
use crate::io::stamps::FrameStamps;
use crate::io::user;
use crate::runtime::control::{Commands, Control};
use crate::runtime::reload::Reloader;
use crate::runtime::service_manager;
use crate::runtime::shared::Shared;
use crate::runtime::transmit::LinkSenders;
use crate::runtime::turn_counter::TurnCounter;
use crate::runtime::worker::{WorkerHandle, WorkerMessage};
use crate::time::{Duration, Instant};

/// How long the new program may take until it connects, which it does when it has read its file.
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// Passes over the sessions before the last one.
const PASSES_MAX: usize = 8;
/// When a pass finds no more changed sessions than this, the next one is the last.
const FEW: usize = 2000;
/// Sticky clients in one message.
const CLIENTS: usize = 10_000;
/// How long before it the workers are told of the moment at which they stop.
const LEAD: Duration = Duration::from_millis(2);
/// The longest time that a frame takes from the device to the rings, where it got its time before.
const GRACE: Duration = Duration::from_millis(3);
/// How long the workers may take until they have stopped.
const STOP_MAX: Duration = Duration::from_secs(2);
/// How long nobody forwards at the longest, before this program goes on.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How often a thread is looked at that is waited for.
const POLL: Duration = Duration::from_micros(200);

/// Sent when an engine was handed over.
pub(in crate::runtime) type Handovers = tokio::sync::mpsc::UnboundedSender<HandedOver>;

/// An engine that another program runs from here on.
#[derive(Debug)]
pub(in crate::runtime) struct HandedOver {
    line: Line,
    to: Peer,
    version: String,
}

impl HandedOver {
    /// The other program in words.
    pub(in crate::runtime) fn successor(&self) -> String {
        format!("process {}, version {}", self.to.pid, self.version)
    }

    /// Tells the other program that this one has closed its files.
    pub(in crate::runtime) fn gone(self) {
        let _ = self.line.send(&Message::Gone);
    }
}

/// An engine that can be handed over.
#[derive(Debug)]
pub(in crate::runtime) struct Predecessor {
    pub shared: Arc<Shared>,
    pub commands: Commands,
    pub reloader: Arc<Reloader>,
    pub handovers: Handovers,
    /// Descriptors of the control socket and of its lock, by name, from when it is served.
    pub descriptors: OnceLock<Vec<(String, OwnedFd)>>,
    pub is_under_way: AtomicBool,
}

/// What the control thread is to do that waits in the handover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ControlOrder {
    /// Close all devices.
    Close,
    /// Go on as if nothing had happened.
    Resume,
    /// Send nothing any more.
    End,
}

/// A control thread that waits.
struct HeldControl {
    orders: mpsc::Sender<ControlOrder>,
    closed: mpsc::Receiver<()>,
    generation: u64,
    state: State,
}

/// Why an engine was not handed over.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Line(#[from] LineError),
    #[error("cannot {0}: {1}")]
    System(&'static str, io::Error),
    #[error("{0}")]
    Other(String),
}

impl Predecessor {
    /// Waits for the new program at a socket beside `control`, in a thread of its own. `Err` if a handover is under way.
    pub(in crate::runtime) fn listen(self: &Arc<Self>, control: &Path) -> Result<PathBuf, String> {
        if self.is_under_way.swap(true, Ordering::SeqCst) {
            return Err("an upgrade of this engine is under way".to_owned());
        }
        let mut path = control.as_os_str().to_owned();
        path.push(".upgrade");
        let path = PathBuf::from(path);
        let started = bind(&path).and_then(|listener| {
            let (this, at) = (Arc::clone(self), path.clone());
            std::thread::Builder::new().name("fwlb-upgrade".to_owned()).spawn(move || this.run(&listener, &at))
        });
        started.map(|_| path).map_err(|error| {
            self.is_under_way.store(false, Ordering::SeqCst);
            error.to_string()
        })
    }

    fn run(&self, listener: &UnixListener, path: &Path) {
        let engine = &self.shared.engine;
        let line = self.accept(listener);
        let _ = std::fs::remove_file(path);
        match line.and_then(|(line, peer)| self.give(line, peer)) {
            Ok(over) => {
                let _ = self.handovers.send(over);
            }
            Err(why) => {
                tracing::warn!(engine, reason = %why, "not handed over: the engine goes on here");
                self.is_under_way.store(false, Ordering::SeqCst);
            }
        }
    }

    fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    fn wall(&self) -> u64 {
        self.shared.clock.wall_nanos(self.now())
    }

    /// Accepts the new program, which runs as the same user or as root.
    fn accept(&self, listener: &UnixListener) -> Result<(Line, Peer), Refusal> {
        let until = self.now() + CONNECT_MAX;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    let peer = handover::peer(&stream).map_err(|error| Refusal::System("tell who it is", error))?;
                    if peer.uid == 0 || peer.uid == user::effective() {
                        return Ok((Line::new(stream)?, peer));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.now() >= until || self.shared.stop.load(Ordering::Relaxed) {
                        return Err(Refusal::Other("no other program came".to_owned()));
                    }
                    sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(Refusal::System("accept the other program", error)),
            }
        }
    }

    fn give(&self, line: Line, peer: Peer) -> Result<HandedOver, Refusal> {
        match self.give_all(&line, peer) {
            Ok(version) => Ok(HandedOver { line, to: peer, version }),
            Err(refusal) => {
                let _ = line.send(&Message::Abort(refusal.to_string()));
                Err(refusal)
            }
        }
    }

    fn give_all(&self, line: &Line, peer: Peer) -> Result<String, Refusal> {
        let Message::Hello(hello) = line.receive()? else { return Err(LineError::Unexpected("who it is").into()) };
        let (engine, version) = (&self.shared.engine, env!("CARGO_PKG_VERSION"));
        if hello.format != FORMAT {
            let what = format!("version {} cannot take over from version {version}: restart the engine", hello.version);
            return Err(Refusal::Other(what));
        }
        if hello.engine != *engine {
            return Err(Refusal::Other(format!("this is engine {engine}, and not {}", hello.engine)));
        }
        let is_xdp = self.shared.config().engine.io == Io::AfXdp;
        let _stamps = FrameStamps::request().map_err(|error| Refusal::System("ask for the times of frames", error))?;
        let (workers, locks, raised) = self
            .on_control(|control| (control.workers.clone(), control.devices.share_locks(), control.devices.raised()))?;
        let locks = locks.map_err(|error| Refusal::System("share the locks of links", error))?;
        let (names, descriptors) = self.descriptors(locks)?;
        let own =
            Hello { format: FORMAT, engine: engine.clone(), version: version.to_owned(), descriptors: names, raised };
        line.send(&Message::Hello(own))?;
        line.send_descriptors(&descriptors)?;

        let (generation, state) =
            self.on_control(|control| (control.controller.snapshot().generation, control.controller.inheritance()))?;
        line.send(&Message::State(Box::new(state.clone())))?;
        let snapshot = self.shared.snapshot.load_full();
        for clients in sticky_clients(&snapshot, self.now()).chunks(CLIENTS) {
            line.send(&Message::Clients(clients.to_vec()))?;
        }
        let mut giver = Giver::default();
        let mut before = usize::MAX;
        for _ in 0..PASSES_MAX {
            let told = self.pass(&mut giver, &snapshot, line)?;
            if told <= FEW || told >= before {
                break;
            }
            before = told;
        }
        // The new program's sockets for sending take their place.
        self.tell_workers(&workers, || WorkerMessage::SendByPacketSockets);
        line.send(&Message::Passed)?;
        line.expect(&Message::Opened, "that its devices are open")?;
        self.pass(&mut giver, &snapshot, line)?;

        let mut stopped = Stopped { hold: self, workers: &workers, control: None };
        let moment = self.stop(&workers)?;
        let control = self.hold_control()?;
        let is_changed = control.generation != generation || control.state.overrides != state.overrides;
        let control = stopped.control.insert(control);
        if is_changed {
            return Err(Refusal::Other("the configuration or an order was changed meanwhile: try again".to_owned()));
        }
        self.wait(STOP_MAX, "the packet workers do not stop", || {
            // One that sleeps says nothing.
            workers.iter().for_each(WorkerHandle::wake);
            self.shared.hold.is_idle_since(moment + GRACE.as_nanos() as u64)
        })?;
        self.pass(&mut giver, &snapshot, line)?;
        if is_xdp {
            let _ = control.orders.send(ControlOrder::Close);
            let _ = control.closed.recv_timeout(STOP_MAX);
            self.wait_for_turns(&workers);
        }
        line.set_patience(SILENCE_MAX)?;
        line.send(&Message::Handover { moment: if is_xdp { 0 } else { moment } })?;
        line.expect(&Message::Taken, "that it is ready")?;
        service_manager::notify(NotifyState::MainPid(peer.pid));
        line.send(&Message::Go)?;
        let _ = control.orders.send(ControlOrder::End);
        std::mem::forget(stopped);
        Ok(hello.version)
    }

    /// Names and descriptors of everything that the new program takes.
    fn descriptors(&self, locks: Vec<(String, OwnedFd)>) -> Result<(Vec<String>, Vec<OwnedFd>), Refusal> {
        let cannot = |error| Refusal::System("share descriptors", error);
        let mut all = vec![
            ("stdout".to_owned(), io::stdout().as_fd().try_clone_to_owned().map_err(cannot)?),
            ("stderr".to_owned(), io::stderr().as_fd().try_clone_to_owned().map_err(cannot)?),
        ];
        for (name, descriptor) in self.descriptors.get().into_iter().flatten() {
            all.push((name.clone(), descriptor.try_clone().map_err(cannot)?));
        }
        all.extend(self.reloader.share_listeners().map_err(cannot)?);
        all.extend(locks);
        Ok(all.into_iter().unzip())
    }

    /// Tells all sessions that are not as they were told. Returns how many those were.
    fn pass(&self, giver: &mut Giver, snapshot: &Snapshot, line: &Line) -> Result<usize, Refusal> {
        let mut counters = Counters::default();
        let host = CopiedEngine { snapshot, ports: &self.shared.ports, counters: &mut counters, ledger: None };
        loop {
            let step = giver.step(&self.shared.sessions, &host, self.now());
            if !step.bytes.is_empty() {
                line.send(&Message::Sessions(step.bytes))?;
            }
            if let Some(told) = step.passed {
                return Ok(told);
            }
        }
    }

    /// Has the workers stop before a moment, which is returned.
    fn stop(&self, workers: &[WorkerHandle]) -> Result<u64, Refusal> {
        for lead in [LEAD, LEAD * 4, LEAD * 16, LEAD * 64] {
            let moment = self.wall() + lead.as_nanos() as u64;
            self.shared.hold.end_at(moment);
            workers.iter().for_each(WorkerHandle::wake);
            let mut is_late = true;
            self.wait(STOP_MAX, "a packet worker does not turn", || match self.shared.hold.seen_by_all(moment) {
                Some(late) => {
                    is_late = late;
                    true
                }
                None => false,
            })?;
            if !is_late {
                return Ok(moment);
            }
        }
        Err(Refusal::Other("the packet workers are too late: the machine is too busy".to_owned()))
    }

    /// Has the control thread wait.
    fn hold_control(&self) -> Result<HeldControl, Refusal> {
        let (orders, told) = mpsc::channel();
        let (done, closed) = mpsc::channel();
        let (answer, held) = mpsc::channel();
        let body = move |control: &mut Control| {
            let _ = answer.send((control.controller.snapshot().generation, control.controller.inheritance()));
            let mut has_closed = false;
            loop {
                match told.recv_timeout(STOP_MAX + SILENCE_MAX) {
                    Ok(ControlOrder::Close) => {
                        control.devices.close_all(&mut control.senders);
                        has_closed = true;
                        let _ = done.send(());
                    }
                    Ok(ControlOrder::End) => {
                        control.senders = LinkSenders::new();
                        control.devices.leave();
                        return;
                    }
                    Ok(ControlOrder::Resume) | Err(_) => {
                        if has_closed {
                            control.look_at_devices();
                        }
                        return;
                    }
                }
            }
        };
        self.commands.blocking_send(Box::new(body)).map_err(|_| self.is_stopping())?;
        let (generation, state) = held.recv_timeout(STOP_MAX).map_err(|_| self.is_stopping())?;
        Ok(HeldControl { orders, closed, generation, state })
    }

    fn is_stopping(&self) -> Refusal {
        Refusal::Other(format!("the control thread of engine {} does not answer", self.shared.engine))
    }

    fn on_control<R: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Control) -> R + Send + 'static,
    ) -> Result<R, Refusal> {
        let (answer, answered) = mpsc::channel();
        let command = move |control: &mut Control| {
            let _ = answer.send(ask(control));
        };
        self.commands.blocking_send(Box::new(command)).map_err(|_| self.is_stopping())?;
        answered.recv_timeout(STOP_MAX).map_err(|_| self.is_stopping())
    }

    /// Tells all workers something, and waits until they have heard it.
    fn tell_workers(&self, workers: &[WorkerHandle], message: impl Fn() -> WorkerMessage) {
        workers.iter().for_each(|worker| worker.send(message()));
        self.wait_for_turns(workers);
    }

    fn wait_for_turns(&self, workers: &[WorkerHandle]) {
        let turns = || self.shared.worker_turns.iter().map(TurnCounter::count).collect::<Vec<_>>();
        for _ in 0..2 {
            let before = turns();
            workers.iter().for_each(WorkerHandle::wake);
            let have_turned = || turns().iter().zip(&before).all(|(now, before)| now != before);
            let _ = self.wait(STOP_MAX, "a packet worker does not turn", have_turned);
        }
    }

    fn wait(&self, longest: Duration, what: &str, mut is_done: impl FnMut() -> bool) -> Result<(), Refusal> {
        let until = self.now() + longest;
        while !is_done() {
            if self.now() >= until {
                return Err(Refusal::Other(what.to_owned()));
            }
            sleep(POLL);
        }
        Ok(())
    }
}

/// An engine that has stopped; it goes on when this is dropped.
struct Stopped<'a> {
    hold: &'a Predecessor,
    workers: &'a [WorkerHandle],
    control: Option<HeldControl>,
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        if let Some(control) = &self.control {
            let _ = control.orders.send(ControlOrder::Resume);
        }
        self.hold.shared.hold.go_on();
        self.workers.iter().for_each(WorkerHandle::wake);
    }
}

/// Listens at a path that only this user, and root, can use.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
