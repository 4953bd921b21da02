//! A packet worker: a thread that carries frames from the rings through its forwarder and out again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::Cache;
use arrayvec::ArrayVec;
use crossbeam_channel as channel;

use super::capture::SeenGeneration;
use super::confine;
use super::pace::{IdleAction, IdlePolicy};
use super::punts::PuntSender;
use super::shared::Shared;
use super::transmit::{BURST, LinkSenders};
use crate::engine::forwarder::{Apart, KillOrder};
use crate::engine::{Batch, DropReason, Forwarder, Snapshot, Verdict};
use crate::id::DeviceId;
use crate::io::privileges::ThreadPrivileges;
use crate::io::thread;
use crate::io::wait::{Waiter, Wake};
use crate::io::ways::{Receiver, Sender};
use crate::time::{Duration, Instant};

/// Sessions that are checked for expiry per turn; they take some tens of microseconds at most.
const EXPIRE_BUDGET: usize = 256;
/// How often the losses of the rings are read.
const RING_COUNTS: Duration = Duration::from_millis(200);
/// How soon sending is tried again when a device had no room for frames.
const FULL_DEVICE: Duration = Duration::from_micros(100);

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
        /// What somebody else takes to the control thread of what comes by it.
        apart: Option<Arc<Apart>>,
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
}

/// The control thread's handle of a worker.
#[derive(Debug, Clone)]
pub(super) struct WorkerHandle {
    mail: channel::Sender<WorkerMessage>,
    wake: Wake,
}

/// The state of a packet worker.
#[derive(Debug)]
pub(super) struct Worker {
    number: usize,
    forwarder: Forwarder,
    shared: Arc<Shared>,
    captures: SeenGeneration,
    punts: PuntSender,
    /// Indexed by [`DeviceId`].
    receivers: Vec<Option<Box<Receiver>>>,
    outlets: LinkSenders,
    mail: channel::Receiver<WorkerMessage>,
    waiter: Waiter,
    /// Whether the worker spins instead of sleeping (`busy-poll`).
    busy_poll: bool,
    /// The CPU to which it is bound, if one could be chosen.
    cpu: Option<usize>,
}

impl WorkerHandle {
    pub(super) fn tell(&self, mail: WorkerMessage) {
        // If the worker has ended, nobody needs the message.
        let _ = self.mail.send(mail);
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
        let (tell, mail) = channel::unbounded();
        let wake = Wake::new()?;
        let worker = Self {
            number,
            forwarder,
            captures: SeenGeneration::default(),
            punts,
            receivers: Vec::new(),
            outlets: LinkSenders::new(),
            mail,
            waiter: Waiter::new(wake.clone()),
            busy_poll: shared.config().engine.busy_poll,
            shared,
            cpu,
        };
        Ok((worker, WorkerHandle { mail: tell, wake }))
    }

    /// Runs until the engine stops.
    pub(super) fn run(mut self) {
        if let Some(cpu) = self.cpu
            && let Err(error) = thread::pin_to(cpu)
        {
            tracing::warn!(engine = self.shared.engine, cpu, %error, "a packet worker runs on any CPU");
        }
        thread::sleep_exactly();
        self.shared.go_first();
        confine::limit(ThreadPrivileges::None);
        let shared = self.shared.clone();
        let mut snapshots = Cache::new(shared.snapshot.clone());
        let mut pace = IdlePolicy::default();
        let mut ring_counts = Instant::ZERO;
        while !shared.stop.load(Ordering::Relaxed) {
            shared.worker_beats[self.number].turn();
            self.take_mail();
            if let Some(taps) = shared.captures.news_for_worker(self.number, &mut self.captures) {
                self.forwarder.watch(taps);
            }
            let now = shared.clock.now();
            let snapshot = snapshots.load();
            self.outlets.follow(snapshot);
            let frames = self.turn(snapshot, now);
            let more = self.forwarder.expire(snapshot, now, EXPIRE_BUDGET);
            self.send_made();
            let waits = frames == 0 && self.outlets.flush();
            if now.since(ring_counts) >= RING_COUNTS {
                ring_counts = now;
                self.count_rings(now);
            }
            if frames == 0 && !more && !self.busy_poll {
                match if waits { IdleAction::Nap(FULL_DEVICE) } else { pace.rest(now) } {
                    IdleAction::Spin => {
                        let from = shared.clock.now();
                        std::thread::yield_now();
                        pace.yielded(from, shared.clock.now());
                    }
                    IdleAction::Nap(length) => std::thread::sleep(length),
                    IdleAction::Sleep(longest) => {
                        self.waiter.wait(self.receivers.iter().flatten().map(|ring| &**ring), longest);
                    }
                }
            }
            pace.carried(frames, now);
        }
    }

    fn take_mail(&mut self) {
        while let Ok(mail) = self.mail.try_recv() {
            match mail {
                WorkerMessage::Attach { device, receiver, sender, apart } => {
                    self.forwarder.leave_apart(device, apart);
                    if self.receivers.len() <= device.index() {
                        self.receivers.resize_with(device.index() + 1, || None);
                    }
                    self.receivers[device.index()] = receiver;
                    self.outlets.attach(device, sender);
                }
                WorkerMessage::Kill(order) => self.forwarder.kill(order),
                WorkerMessage::Mtu { device, mtu } => self.outlets.set_mtu(device, mtu),
                WorkerMessage::Detach(device) => {
                    self.count_rings(self.shared.clock.now());
                    if let Some(receiver) = self.receivers.get_mut(device.index()) {
                        *receiver = None;
                    }
                    self.outlets.detach(device);
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
            let received =
                receiver.receive(DeviceId::from(index), &mut batch, || Verdict::Dropped(DropReason::Truncated));
            if received == 0 {
                continue;
            }
            self.forwarder.process(&mut batch, snapshot, &mut self.punts, now);
            self.outlets.send_batch(&batch, &self.shared.traffic);
            drop(batch);
            receiver.release();
            frames += received;
        }
        frames
    }

    /// Sends the frames that the forwarder made: fragments, frames that waited for a fragment, resets.
    fn send_made(&mut self) {
        loop {
            let made: ArrayVec<_, BURST> = std::iter::from_fn(|| self.forwarder.poll_transmit()).take(BURST).collect();
            self.outlets.send_made(&made, &self.shared.traffic);
            let is_last = !made.is_full();
            for transmit in made {
                self.forwarder.recycle(transmit.bytes);
            }
            if is_last {
                return;
            }
        }
    }

    fn count_rings(&self, now: Instant) {
        for (index, receiver) in self.receivers.iter().enumerate() {
            if let Some(receiver) = receiver {
                let counts = receiver.tend(now);
                self.shared.traffic.ring_dropped(self.number, DeviceId::from(index), counts.dropped);
                self.shared.traffic.unsent(counts.unsent);
            }
        }
        self.shared.traffic.unsent(self.outlets.tend(now));
    }
}
