//! The control thread: runs the controller in a tokio runtime of its own. It decides nothing about packets.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrayvec::ArrayVec;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::capture::SeenGeneration;
use super::devices::{DeviceChange, Devices};
use super::ha_handle::HaHandle;
use super::overrides_file::OverridesFile;
use super::punts::PuntReceiver;
use super::rings::RingLosses;
use super::shared::Shared;
use super::transmit::{BURST, LinkSenders};
use super::worker::WorkerHandle;
use crate::config::is_removed;
use crate::engine::histogram::DurationHistogram;
use crate::engine::trace::FrameTracer;
use crate::engine::view::ExchangeView;
use crate::engine::{Controller, Event, Punt, PuntReason, Snapshot, Transmit};
use crate::id::{DeviceId, LinkId};
use crate::io::monitor::{LinkChanges, Monitor};
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

/// Punted frames that are handled before timers and requests have their turn.
const PUNT_BATCH: usize = 64;
/// How often periodic work is done, and how often the watchdog sees the thread turn.
const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// Devices are looked at after this many ticks even without notifications, and at every tick while one is missing, so
/// that a device that failed to open is tried again.
const DEVICE_TICKS: u32 = 5;
/// Number of replaced snapshots that are kept for workers that still use them.
const RETIRED_MAX: usize = 64;
/// Number of requests that may wait for the control thread.
const COMMANDS_MAX: usize = 64;

/// A function to run on the control thread.
pub(super) type Command = Box<dyn FnOnce(&mut Control) + Send>;

/// The other threads' end of the request queue.
pub(super) type Commands = mpsc::Sender<Command>;

/// The state of the control thread.
pub(super) struct Control {
    /// The controller, which decides everything that is not decided per packet.
    pub controller: Controller,
    /// What the threads of the engine share.
    pub shared: Arc<Shared>,
    /// The overrides, kept over a restart.
    pub state: Arc<OverridesFile>,
    pub(super) devices: Devices,
    pub(super) senders: LinkSenders,
    pub(super) workers: Vec<WorkerHandle>,
    /// The thread of the role machine; `None` for an engine that stands alone.
    ha: Option<HaHandle>,
    /// Shows sent frames to the captures.
    tracer: FrameTracer,
    seen_captures: SeenGeneration,
    /// How late timers were served.
    pub timer_lag: DurationHistogram,
    /// Who waits for the outcome of a probe or ping, by the controller's number of the request.
    pending_exchanges: BTreeMap<u64, oneshot::Sender<ExchangeView>>,
    /// Replaced snapshots, oldest first; they are freed here and not by a worker.
    retired: VecDeque<Arc<Snapshot>>,
    ring_losses: RingLosses,
    /// Frames that the rings of each device had no room for, as last reported to the controller.
    ring_dropped: Vec<u64>,
}

/// Everything that wakes the control thread besides its timers.
pub(super) struct Sources {
    pub punts: PuntReceiver,
    pub monitor: Monitor,
    pub commands: mpsc::Receiver<Command>,
    pub stop: oneshot::Receiver<()>,
}

/// Makes the bounded queue of requests.
pub(super) fn commands() -> (Commands, mpsc::Receiver<Command>) {
    mpsc::channel(COMMANDS_MAX)
}

impl Control {
    pub(super) fn new(
        controller: Controller,
        shared: Arc<Shared>,
        state: Arc<OverridesFile>,
        devices: Devices,
        outlets: LinkSenders,
        workers: Vec<WorkerHandle>,
        ha: Option<HaHandle>,
    ) -> Self {
        let (watch, captures) = (FrameTracer::default(), SeenGeneration::default());
        let (lag, waiting, retired) = (DurationHistogram::default(), BTreeMap::new(), VecDeque::new());
        let ring_losses = RingLosses::default();
        Self {
            controller,
            shared,
            state,
            devices,
            senders: outlets,
            workers,
            ha,
            tracer: watch,
            seen_captures: captures,
            timer_lag: lag,
            pending_exchanges: waiting,
            retired,
            ring_losses,
            ring_dropped: Vec::new(),
        }
    }

    /// Reports changes of devices to the controller.
    pub(super) fn devices_changed(&mut self, changes: Vec<DeviceChange>) {
        let now = self.now();
        for (device, state) in changes {
            self.controller.handle_device(device, state, now);
        }
    }

    /// The time as it is passed to the controller.
    pub(super) fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    /// Registers for the outcome of a probe or ping. Requests whose client has disconnected are forgotten.
    pub(super) fn outcome_of(&mut self, request: u64) -> oneshot::Receiver<ExchangeView> {
        let (sender, receiver) = oneshot::channel();
        self.pending_exchanges.retain(|_, asker| !asker.is_closed());
        self.pending_exchanges.insert(request, sender);
        receiver
    }

    /// Runs until told to stop. To be called on the control thread, outside any tokio runtime.
    pub(super) fn run(mut self, sources: Sources) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        runtime.block_on(self.serve(sources))
    }

    async fn serve(&mut self, mut sources: Sources) -> std::io::Result<()> {
        #[expect(
            deprecated,
            reason = "its successor asks for a promise, that a monitor keeps its one descriptor while it lives, in a form that only io may give"
        )]
        let mut monitor = AsyncFd::new(sources.monitor)?;
        let mut tick = tokio::time::interval(TICK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut punts = Vec::with_capacity(PUNT_BATCH);
        let mut ticks = 0_u32;
        loop {
            self.shared.control_turns.turn();
            self.apply_decisions(&sources.punts);
            let deadline = self.controller.poll_timeout();
            let due = deadline.map(|due| due.since(self.now()));
            tokio::select! {
                _ = &mut sources.stop => return Ok(()),
                () = sources.punts.receive(&mut punts, PUNT_BATCH) => {
                    for punt in punts.drain(..) {
                        let now = self.shared.clock.now();
                        self.report_station(&punt);
                        self.controller.handle_punt(punt, now);
                    }
                }
                // The delay of this timer is the delay of the whole engine: the controller takes it into account.
                () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {
                    let now = self.now();
                    self.timer_lag.observe(deadline.map_or(Duration::ZERO, |deadline| now.since(deadline)));
                    self.report_ring_losses(now);
                    self.controller.handle_timeout(now);
                }
                Some(command) = sources.commands.recv() => command(self),
                ready = monitor.readable_mut() => {
                    let mut ready = ready?;
                    let news = ready.get_inner_mut().read_changes()?;
                    ready.clear_ready();
                    self.apply_link_changes(&news);
                }
                _ = tick.tick() => {
                    self.shared.log_suppressed();
                    self.log_ring_losses();
                    let now = self.now();
                    self.controller.handle_refusals(self.shared.sessions.sources().take_refusals(), now);
                    self.controller.watch_returns(&self.shared.counters(), now);
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(DEVICE_TICKS) || self.devices.has_missing() {
                        self.apply_link_changes(&LinkChanges::All);
                    }
                }
            }
        }
    }

    /// Tells the role machine that somebody is heard on a link.
    fn report_station(&self, punt: &Punt) {
        let source = punt.bytes.get(6..12).and_then(|mac| <[u8; 6]>::try_from(mac).ok());
        if let (Some(ha), PuntReason::Neighbor, Some(mac)) = (&self.ha, punt.reason, source) {
            ha.heard(punt.link, MacAddr(mac));
        }
    }

    /// Reports to the controller the links whose workers' rings have lost frames since the last report.
    fn report_ring_losses(&mut self, now: Instant) {
        let config = self.shared.config();
        self.ring_dropped.resize(config.devices.len(), 0);
        for (index, known) in self.ring_dropped.iter_mut().enumerate() {
            let dropped = self.shared.socket_counters.ring_dropped_on(index.into());
            if std::mem::replace(known, dropped) < dropped {
                let on_device = |link: &LinkId| config.links[link.index()].device.index() == index;
                self.controller.handle_ring_loss(config.link_ids().filter(on_device), now);
            }
        }
    }

    /// Logs which rings lose frames, and what to do about it.
    fn log_ring_losses(&mut self) {
        let (config, now) = (self.shared.config(), self.now());
        for (device, worker) in
            (0..config.devices.len()).flat_map(|device| (0..self.workers.len()).map(move |worker| (device, worker)))
        {
            let id = DeviceId::from(device);
            let lost = self.shared.socket_counters.ring_dropped_of(worker, id);
            let Some(lost) = self.ring_losses.report_due((id, worker), lost, now) else { continue };
            let links = config.links.iter().filter(|link| link.device == id && !is_removed(&link.name));
            let links: Vec<_> = links.map(|link| link.name.as_str()).collect();
            tracing::warn!(
                engine = self.shared.engine,
                link = links.join(", "),
                device = config.devices[device],
                worker,
                lost,
                help = "see that its CPU does nothing else (`fwlb check` tells what is in the way), or raise `workers` in [engine]",
                "frames were lost: the worker did not empty its ring in time"
            );
        }
    }

    /// Passes sent frames to the captures.
    fn capture_sent(&mut self, made: &[Transmit]) {
        if let Some(taps) = self.shared.captures.changed_taps_for_control(&mut self.seen_captures) {
            self.tracer.set_taps(taps);
        }
        if made.is_empty() || !self.tracer.is_on() {
            return;
        }
        let snapshot = self.shared.snapshot.load();
        self.tracer.begin_batch(&snapshot, self.shared.clock.now());
        for frame in made {
            self.tracer.controller_frame_sent(frame, &self.shared.sessions, &snapshot);
        }
    }

    /// Looks at all devices again, and opens those that are closed.
    pub(super) fn look_at_devices(&mut self) {
        self.apply_link_changes(&LinkChanges::All);
    }

    fn apply_link_changes(&mut self, news: &LinkChanges) {
        let changes = self.devices.apply_link_changes(news, &mut self.senders);
        self.devices_changed(changes);
    }

    /// Carries out what the controller wants done. The workers get its snapshot before its frames are sent, because an
    /// answer may arrive at once and the snapshot before would not know it.
    fn apply_decisions(&mut self, punts: &PuntReceiver) {
        let refused = punts.take_refused();
        if refused > 0 {
            let now = self.now();
            self.controller.handle_punt_loss(refused, now);
        }
        self.publish_now();
        if let Some(ha) = &self.ha {
            while let Some(report) = self.controller.poll_witness() {
                ha.witness(report);
            }
        }
        loop {
            let made: ArrayVec<_, BURST> = std::iter::from_fn(|| self.controller.poll_transmit()).take(BURST).collect();
            self.capture_sent(&made);
            made.iter().for_each(|frame| self.shared.socket_counters.count_sent(frame.link, frame.bytes.len()));
            self.senders.send_own(&made, &self.shared.socket_counters);
            if !made.is_full() {
                break;
            }
        }
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    /// Keeps a snapshot that the workers are about to leave: a worker that freed thousands of servers itself would
    /// forward nothing meanwhile.
    fn retire(&mut self, snapshot: Arc<Snapshot>) {
        if self.retired.len() == RETIRED_MAX {
            self.retired.pop_front();
        }
        self.retired.push_back(snapshot);
    }

    /// Publishes the controller's events, its snapshot first.
    pub(super) fn publish_now(&mut self) {
        while let Some(event) = self.controller.poll_event() {
            match event {
                Event::Publish(snapshot) => {
                    self.senders.set_links(&snapshot);
                    self.retire(self.shared.snapshot.swap(snapshot));
                    // Even an idle worker has to look after the sessions of a failed firewall.
                    self.workers.iter().for_each(WorkerHandle::wake);
                }
                Event::Change(change) => self.shared.event(change),
                Event::CheckEnded(checked) => self.shared.checked(&checked),
                Event::Exchange { request, result } => {
                    if let Some(asker) = self.pending_exchanges.remove(&request) {
                        let _ = asker.send(result);
                    }
                }
            }
        }
    }
}
