//! Takes path probes from the devices to the control thread, past the packet workers: a probe is answered, and an
//! answer taken, when it arrives, however full the workers' rings are and however long they wait for a CPU.
//!
//! The kernel copies probes into a ring of their own on every device with firewalls. A thread that does nothing else,
//! and runs at real-time priority, puts them first in the control thread's queue. The workers find the same frames in
//! their rings and only count them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::Cache;
use crossbeam_channel as channel;

use super::confine;
use super::punts::PuntSender;
use super::shared::Shared;
use crate::engine::{Batch, DropReason, PuntQueue, Verdict, forwarder};
use crate::id::DeviceId;
use crate::io::privileges::Duty;
use crate::io::wait::{Waiter, Wake};
use crate::io::ways::Receiver;
use crate::time::{Duration, Instant};

/// The longest sleep: socket errors are noticed, and lost frames counted, at most this late.
const IDLE: Duration = Duration::from_millis(500);
/// How long the thread pauses after a full batch, so that forged probes cannot occupy a CPU.
const FORGED: Duration = Duration::from_millis(2);

/// Messages of the control thread.
#[derive(Debug)]
enum Mail {
    Attach(DeviceId, Box<Receiver>),
    Detach(DeviceId),
}

/// The control thread's handle of the probe thread.
#[derive(Debug, Clone)]
pub(super) struct ProbesHandle {
    mail: channel::Sender<Mail>,
    wake: Wake,
}

/// The state of the probe thread.
#[derive(Debug)]
pub(super) struct Probes {
    shared: Arc<Shared>,
    punts: PuntSender,
    /// Indexed by [`DeviceId`].
    receivers: Vec<Option<Box<Receiver>>>,
    mail: channel::Receiver<Mail>,
    waiter: Waiter,
}

impl ProbesHandle {
    /// Takes the probes of a device from now on.
    pub(super) fn attach(&self, device: DeviceId, receiver: Box<Receiver>) {
        self.tell(Mail::Attach(device, receiver));
    }

    /// Stops taking the probes of a device, which is gone.
    pub(super) fn detach(&self, device: DeviceId) {
        self.tell(Mail::Detach(device));
    }

    /// Ends the thread's sleep, so that it sees that it is to stop.
    pub(super) fn wake(&self) {
        self.wake.notify();
    }

    fn tell(&self, mail: Mail) {
        // If the thread has ended, nobody needs the message.
        let _ = self.mail.send(mail);
        self.wake();
    }
}

impl Probes {
    /// A probe thread without devices, and its handle.
    pub(super) fn new(shared: Arc<Shared>, punts: PuntSender) -> std::io::Result<(Self, ProbesHandle)> {
        let (tell, mail) = channel::unbounded();
        let wake = Wake::new()?;
        let probes = Self { shared, punts, receivers: Vec::new(), mail, waiter: Waiter::new(wake.clone()) };
        Ok((probes, ProbesHandle { mail: tell, wake }))
    }

    /// Runs until the engine stops.
    pub(super) fn run(mut self) {
        self.shared.go_at_once();
        confine::limit(Duty::None);
        let shared = self.shared.clone();
        let mut snapshots = Cache::new(shared.snapshot.clone());
        while !shared.stop.load(Ordering::Relaxed) {
            self.take_mail();
            let snapshot = snapshots.load();
            let mut is_forged = false;
            for (index, receiver) in self.receivers.iter_mut().enumerate() {
                let Some(receiver) = receiver else { continue };
                let mut batch = Batch::new();
                let truncated = || Verdict::Dropped(DropReason::Truncated);
                let received = receiver.receive(DeviceId::from(index), &mut batch, truncated);
                is_forged |= received == Batch::CAPACITY;
                for packet in batch.packets.iter_mut().filter(|packet| packet.verdict.is_none()) {
                    if let Some(punt) = forwarder::probe_in(packet, snapshot) {
                        self.punts.offer_first(punt);
                    }
                }
                drop(batch);
                receiver.release();
                let lost = receiver.tend(Instant::ZERO).dropped;
                if lost > 0 {
                    self.punts.lost(lost);
                }
            }
            if is_forged {
                std::thread::sleep(FORGED);
            } else {
                self.waiter.wait(self.receivers.iter().flatten().map(|receiver| &**receiver), IDLE);
            }
        }
    }

    fn take_mail(&mut self) {
        while let Ok(mail) = self.mail.try_recv() {
            let (device, receiver) = match mail {
                Mail::Attach(device, receiver) => (device, Some(receiver)),
                Mail::Detach(device) => (device, None),
            };
            if self.receivers.len() <= device.index() {
                self.receivers.resize_with(device.index() + 1, || None);
            }
            self.receivers[device.index()] = receiver;
        }
    }
}
