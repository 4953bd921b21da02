//! A packet worker: a thread that carries frames from the rings through its forwarder and out again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::Cache;
use arrayvec::ArrayVec;
use crossbeam_channel as channel;

use super::capture::SeenGeneration;
use super::idle::{IdleAction, IdlePolicy};
use super::punts::PuntSender;
use super::sandbox;
use super::shared::Shared;
use super::transmit::{BURST, LinkSenders};
use crate::engine::forwarder::{KillOrder, ProbeBypass};
use crate::engine::{Batch, DropReason, Forwarder, Snapshot, Verdict};
use crate::id::DeviceId;
use crate::io::frame_io::{FrameWindow, Receiver, Sender};
use crate::io::privileges::ThreadPrivileges;
use crate::io::thread;
use crate::io::wait::{Waiter, Wake};
use crate::session::SessionWorker;
use crate::time::{Duration, Instant};

/// Sessions that are checked for expiry per turn; they take some tens of microseconds at most.
const EXPIRE_BUDGET: usize = 256;
/// How often the losses of the rings are read.
const RING_COUNT_INTERVAL: Duration = Duration::from_millis(200);
/// How soon sending is tried again when a device had no room for frames.
const SEND_RETRY_DELAY: Duration = Duration::from_micros(100);

/// Messages of the control thread to a worker, which it wakes afterwards.
#[derive(Debug)]
pub(super) enum WorkerMessage {
    /// A device has appeared.
    Attach {
        device: DeviceId,
        /// Its receiver; `None` if the device has fewer queues than the engine has workers, and this one has none of
        /// them.
        receiver: Option<Box<Receiver>>,
        sender: Sender,
        /// Which frames of the device the worker leaves to the probe thread; `None` if it takes none there.
        apart: Option<Arc<ProbeBypass>>,
    },
    /// A device has another MTU.
    Mtu {
        device: DeviceId,
        /// The MTU in bytes.
        mtu: u16,
    },
    /// A device is gone.
    Detach(DeviceId),
    /// Sessions are to be ended.
    Kill(Arc<KillOrder>),
    /// Frames are sent by packet sockets alone from here on: another program is about to take this one's place.
    SendByPacketSockets,
}

/// The control thread's handle of a worker.
#[derive(Debug, Clone)]
pub(super) struct WorkerHandle {
    messages: channel::Sender<WorkerMessage>,
    wake: Wake,
}

/// The state of a packet worker.
#[derive(Debug)]
pub(super) struct Worker {
    number: usize,
    forwarder: Forwarder,
    shared: Arc<Shared>,
    seen_captures: SeenGeneration,
    punts: PuntSender,
    /// Indexed by [`DeviceId`].
    receivers: Vec<Option<Box<Receiver>>>,
    senders: LinkSenders,
    messages: channel::Receiver<WorkerMessage>,
    waiter: Waiter,
    /// Whether the worker spins instead of sleeping (`busy-poll`).
    busy_poll: bool,
    /// The CPU to which it is bound, if one could be chosen.
    cpu: Option<usize>,
}

impl WorkerHandle {
    pub(super) fn send(&self, mail: WorkerMessage) {
        // If the worker has ended, nobody needs the message.
        let _ = self.messages.send(mail);
        self.wake();
    }

    /// Ends the worker's sleep: there is a new snapshot, or it is to stop.
    pub(super) fn wake(&self) {
        self.wake.notify();
    }
}

impl Worker {
    /// Worker `number` without devices, and its handle.
    pub(super) fn new(
        number: usize,
        forwarder: Forwarder,
        shared: Arc<Shared>,
        punts: PuntSender,
        cpu: Option<usize>,
    ) -> std::io::Result<(Self, WorkerHandle)> {
        let (sender, messages) = channel::unbounded();
        let wake = Wake::new()?;
        let worker = Self {
            number,
            forwarder,
            seen_captures: SeenGeneration::default(),
            punts,
            receivers: Vec::new(),
            senders: LinkSenders::guarded(shared.clock),
            messages,
            waiter: Waiter::new(wake.clone()),
            busy_poll: shared.config().engine.busy_poll,
            shared,
            cpu,
        };
        Ok((worker, WorkerHandle { messages: sender, wake }))
    }

    /// The worker's part of the session table, before the worker runs.
    pub(super) fn session_worker(&mut self) -> &mut SessionWorker {
        self.forwarder.session_worker()
    }

    /// Skips the frames that wait, before the worker runs: another program handles them, and later ones need their room.
    pub(super) fn skip_waiting(&mut self) {
        self.handle_messages();
        for receiver in self.receivers.iter_mut().flatten() {
            receiver.set_window(FrameWindow { from: u64::MAX, until: u64::MAX });
            let mut batch = Batch::new();
            let received = receiver.receive(DeviceId(0), &mut batch, || Verdict::Dropped(DropReason::Truncated));
            debug_assert_eq!(received, 0, "no frame is so late");
        }
    }

    /// Runs until the engine stops.
    pub(super) fn run(mut self) {
        if let Some(cpu) = self.cpu
            && let Err(error) = thread::pin_to(cpu)
        {
            tracing::warn!(engine = self.shared.engine, cpu, %error, "a packet worker runs on any CPU");
        }
        thread::set_timer_slack();
        self.shared.raise_priority();
        sandbox::drop_capabilities(ThreadPrivileges::None);
        let shared = self.shared.clone();
        let mut snapshots = Cache::new(shared.snapshot.clone());
        let mut pace = IdlePolicy::default();
        let mut ring_counts = Instant::ZERO;
        while !shared.stop.load(Ordering::Relaxed) {
            shared.worker_turns[self.number].turn();
            self.handle_messages();
            if let Some(taps) = shared.captures.changed_taps_for_worker(self.number, &mut self.seen_captures) {
                self.forwarder.set_taps(taps);
            }
            let now = shared.clock.now();
            let until = shared.hold.window().until;
            let ends_at = (until != u64::MAX).then(|| (until, shared.clock.wall_nanos(now)));
            let snapshot = snapshots.load();
            self.senders.set_links(snapshot);
            let frames = self.turn(snapshot, now);
            // An engine that is being handed over ends no session by itself.
            let has_stopped = ends_at.is_some_and(|(until, wall)| wall >= until);
            let more = !has_stopped && self.forwarder.expire(snapshot, now, EXPIRE_BUDGET);
            self.send_own();
            let waits = frames == 0 && self.senders.flush();
            if let Some((until, wall)) = ends_at {
                let newest = self.receivers.iter().flatten().map(|ring| ring.newest()).max().unwrap_or(0);
                shared.hold.report(self.number, until, newest, (frames == 0 && !waits).then_some(wall));
            }
            if now.since(ring_counts) >= RING_COUNT_INTERVAL {
                ring_counts = now;
                self.count_ring_losses(now);
            }
            if frames == 0 && !more && !self.busy_poll {
                match if waits { IdleAction::Nap(SEND_RETRY_DELAY) } else { pace.idle_action(now) } {
                    IdleAction::Spin => {
                        let from = shared.clock.now();
                        std::thread::yield_now();
                        pace.note_yield(from, shared.clock.now());
                    }
                    IdleAction::Nap(length) => std::thread::sleep(length),
                    IdleAction::Sleep(longest) => {
                        self.waiter.wait(self.receivers.iter().flatten().map(|ring| &**ring), longest);
                    }
                }
            }
            pace.note_turn(frames, now);
        }
    }

    fn handle_messages(&mut self) {
        while let Ok(mail) = self.messages.try_recv() {
            match mail {
                WorkerMessage::Attach { device, receiver, sender, apart } => {
                    self.forwarder.set_probe_bypass(device, apart);
                    if self.receivers.len() <= device.index() {
                        self.receivers.resize_with(device.index() + 1, || None);
                    }
                    self.receivers[device.index()] = receiver;
                    self.senders.attach(device, sender);
                }
                WorkerMessage::Kill(order) => self.forwarder.kill(order),
                WorkerMessage::SendByPacketSockets => self.senders.send_by_packet_sockets(),
                WorkerMessage::Mtu { device, mtu } => self.senders.set_mtu(device, mtu),
                WorkerMessage::Detach(device) => {
                    self.count_ring_losses(self.shared.clock.now());
                    if let Some(receiver) = self.receivers.get_mut(device.index()) {
                        *receiver = None;
                    }
                    self.senders.detach(device);
                }
            }
        }
    }

    /// Handles one batch from every device; returns the number of frames.
    fn turn(&mut self, snapshot: &Snapshot, now: Instant) -> usize {
        let mut frames = 0;
        for (index, receiver) in self.receivers.iter_mut().enumerate() {
            let Some(receiver) = receiver else { continue };
            let mut batch = Batch::new();
            receiver.set_window(self.shared.hold.window());
            let received =
                receiver.receive(DeviceId::from(index), &mut batch, || Verdict::Dropped(DropReason::Truncated));
            if received == 0 {
                continue;
            }
            self.forwarder.process(&mut batch, snapshot, &mut self.punts, now);
            self.senders.send_batch(&batch, &self.shared.socket_counters);
            drop(batch);
            receiver.release();
            frames += received;
        }
        frames
    }

    /// Sends the frames that the forwarder made: fragments, frames that waited for a fragment, resets.
    fn send_own(&mut self) {
        loop {
            let made: ArrayVec<_, BURST> = std::iter::from_fn(|| self.forwarder.poll_transmit()).take(BURST).collect();
            self.senders.send_own(&made, &self.shared.socket_counters);
            let is_last = !made.is_full();
            for transmit in made {
                self.forwarder.recycle(transmit.bytes);
            }
            if is_last {
                return;
            }
        }
    }

    fn count_ring_losses(&self, now: Instant) {
        for (index, receiver) in self.receivers.iter().enumerate() {
            if let Some(receiver) = receiver {
                let counts = receiver.maintain(now);
                self.shared.socket_counters.count_ring_dropped(self.number, DeviceId::from(index), counts.dropped);
                self.shared.socket_counters.count_unsent(counts.unsent);
            }
        }
        self.shared.socket_counters.count_unsent(self.senders.maintain(now));
    }
}
