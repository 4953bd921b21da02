//! Takes path probes and the answers to health checks from the devices to the control thread, beside the packet
//! workers. However long the workers' rings are, and however long the workers wait for a CPU, a probe is answered, and
//! the answer to a probe or a check is taken, as soon as it arrives.
//!
//! The kernel queues these frames on a ring of their own for every device with firewalls and every device on which
//! servers are checked. A thread that has nothing else to do, and runs at once when there is something, puts them into
//! the queue of urgent punts. The workers see the same frames in their rings, count them, and do nothing else with
//! them.
//! same frames in their rings, count them, and leave them at that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::Cache;
use crossbeam_channel as channel;

use super::punts::PuntSender;
use super::sandbox;
use super::shared::Shared;
use crate::engine::forwarder::{self, BypassLimiter, ProbeBypass};
use crate::engine::{Batch, DropReason, PuntQueue, Snapshot, Verdict};
use crate::id::{DeviceId, LinkId};
use crate::io::af_packet::ProbeFilter;
use crate::io::frame_io::Receiver;
use crate::io::privileges::ThreadPrivileges;
use crate::io::wait::{FLOOD_PAUSE, Waiter, Wake};
use crate::time::{Duration, Instant};

// The workers leave the answers to these addresses to the probe thread, so that its filter has to take all of them.
const _: () = assert!(forwarder::CHECK_ADDRESSES_MAX <= ProbeFilter::ADDRESSES_MAX);

/// The longest sleep: socket errors are noticed, and lost frames counted, at most this late.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// Messages of the control thread.
#[derive(Debug)]
enum ProbeThreadMessage {
    Attach(DeviceId, Box<Receiver>, Arc<ProbeBypass>),
    Detach(DeviceId),
}

/// A device, and which of its frames the thread takes.
#[derive(Debug)]
struct ReplyPath {
    receiver: Box<Receiver>,
    apart: Arc<ProbeBypass>,
    /// The filter that the kernel applies at present.
    wanted: ProbeFilter,
}

/// The control thread's handle of the probe thread.
#[derive(Debug, Clone)]
pub(super) struct ProbeThreadHandle {
    messages: channel::Sender<ProbeThreadMessage>,
    wake: Wake,
}

/// The state of the probe thread.
#[derive(Debug)]
pub(super) struct ProbeThread {
    shared: Arc<Shared>,
    punts: PuntSender,
    /// Indexed by [`DeviceId`].
    devices: Vec<Option<ReplyPath>>,
    budget: BypassLimiter,
    /// The generation of the configuration, and by its routes the links on which servers are checked.
    checked_links: (u64, BTreeSet<LinkId>),
    /// The epoch of the snapshot from which the filters were made.
    epoch: Option<u64>,
    messages: channel::Receiver<ProbeThreadMessage>,
    waiter: Waiter,
}

impl ProbeThreadHandle {
    /// From here on, the thread takes the probes of a device; `apart` tells the workers which frames to leave to it.
    pub(super) fn attach(&self, device: DeviceId, receiver: Box<Receiver>, apart: Arc<ProbeBypass>) {
        self.send(ProbeThreadMessage::Attach(device, receiver, apart));
    }

    /// Stops taking the probes of a device, which is gone.
    pub(super) fn detach(&self, device: DeviceId) {
        self.send(ProbeThreadMessage::Detach(device));
    }

    /// Ends the thread's sleep, so that it sees that it is to stop.
    pub(super) fn wake(&self) {
        self.wake.notify();
    }

    fn send(&self, mail: ProbeThreadMessage) {
        // If the thread has ended, nobody needs the message.
        let _ = self.messages.send(mail);
        self.wake();
    }
}

/// Probes to the device's own hardware address, and nothing else.
pub(super) fn probes_only() -> ProbeFilter {
    ProbeFilter { macs: Vec::new(), addresses: Vec::new(), ports: forwarder::CHECK_PORTS }
}

impl ProbeThread {
    /// A probe thread without devices, and its handle.
    pub(super) fn new(shared: Arc<Shared>, punts: PuntSender) -> std::io::Result<(Self, ProbeThreadHandle)> {
        let (sender, messages) = channel::unbounded();
        let wake = Wake::new()?;
        let budget = BypassLimiter::new(shared.clock.random());
        let waiter = Waiter::new(wake.clone());
        let checked = (0, BTreeSet::new());
        let probes =
            Self { shared, punts, devices: Vec::new(), budget, checked_links: checked, epoch: None, messages, waiter };
        Ok((probes, ProbeThreadHandle { messages: sender, wake }))
    }

    /// Runs until the engine stops.
    pub(super) fn run(mut self) {
        self.shared.set_realtime_priority();
        sandbox::drop_capabilities(ThreadPrivileges::None);
        let shared = self.shared.clone();
        let mut snapshots = Cache::new(shared.snapshot.clone());
        while !shared.stop.load(Ordering::Relaxed) {
            self.handle_messages();
            let snapshot = snapshots.load();
            self.update_filters(snapshot);
            let now = shared.clock.now();
            let mut is_forged = false;
            for (index, way) in self.devices.iter_mut().enumerate() {
                let Some(ReplyPath { receiver, apart, wanted: _ }) = way else { continue };
                let mut batch = Batch::new();
                let truncated = || Verdict::Dropped(DropReason::Truncated);
                let received = receiver.receive(DeviceId::from(index), &mut batch, truncated);
                is_forged |= received == Batch::CAPACITY;
                for packet in batch.packets.iter_mut().filter(|packet| packet.verdict.is_none()) {
                    if let Some(punt) = apart.probe_punt(packet, snapshot)
                        && self.budget.allows(&punt, snapshot, now)
                    {
                        self.punts.offer_urgent(punt);
                    }
                }
                drop(batch);
                receiver.release();
                let lost = receiver.maintain(Instant::ZERO).dropped;
                if lost > 0 {
                    self.punts.count_lost(lost);
                }
            }
            if is_forged {
                std::thread::sleep(FLOOD_PAUSE);
            } else {
                self.waiter.wait(self.devices.iter().flatten().map(|way| &*way.receiver), SLEEP_MAX);
            }
        }
    }

    fn handle_messages(&mut self) {
        while let Ok(mail) = self.messages.try_recv() {
            let (device, way) = match mail {
                ProbeThreadMessage::Attach(device, receiver, apart) => {
                    (device, Some(ReplyPath { receiver, apart, wanted: probes_only() }))
                }
                ProbeThreadMessage::Detach(device) => (device, None),
            };
            if self.devices.len() <= device.index() {
                self.devices.resize_with(device.index() + 1, || None);
            }
            self.devices[device.index()] = way;
            self.epoch = None;
        }
    }

    /// Sets the kernel's filters to what a new snapshot asks for.
    fn update_filters(&mut self, snapshot: &Snapshot) {
        if self.epoch == Some(snapshot.epoch) {
            return;
        }
        if self.epoch.is_none() || self.checked_links.0 != snapshot.generation {
            self.checked_links = (snapshot.generation, forwarder::checked_links(snapshot));
        }
        self.epoch = Some(snapshot.epoch);
        for (index, way) in self.devices.iter_mut().enumerate() {
            let Some(way) = way else { continue };
            let (stations, answers) =
                forwarder::bypass_addresses(DeviceId::from(index), &self.checked_links.1, snapshot);
            let wanted = ProbeFilter { macs: stations, addresses: answers, ..probes_only() };
            let Receiver::Packet(receiver) = &*way.receiver else { continue };
            if wanted == way.wanted {
                continue;
            }
            // The workers leave only what arrives here; for a moment a frame may come both ways.
            match receiver.set_filter(&wanted) {
                Ok(()) => way.apart.set_check_addresses(wanted.addresses.clone()),
                Err(error) => tracing::warn!(
                    engine = self.shared.engine,
                    error = super::with_sources(&error),
                    "answers to checks wait for the packet workers"
                ),
            }
            way.wanted = wanted;
        }
    }
}
