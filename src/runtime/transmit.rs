//! Sends frames by link: finds the sender of the link's device.

use arrayvec::ArrayVec;

use super::socket_counters::SocketCounters;
use crate::engine::{Batch, Snapshot, Transmit, Verdict};
use crate::id::{DeviceId, LinkId};
use crate::io::frame_io::{Outgoing, SendError, Sender};
use crate::time::Instant;

/// Number of frames that are sent together.
pub(super) const BURST: usize = 64;

/// The senders of one thread.
#[derive(Debug)]
pub(super) struct LinkSenders {
    /// Indexed by [`DeviceId`]; `None` while the device is missing.
    senders: Vec<Option<Sender>>,
    /// Indexed by [`LinkId`]; valid for this generation of the configuration.
    devices: Vec<DeviceId>,
    generation: Option<u64>,
}

impl LinkSenders {
    /// A value without links and devices.
    pub(super) fn new() -> Self {
        Self { senders: Vec::new(), devices: Vec::new(), generation: None }
    }

    /// Takes the links of a snapshot over.
    pub(super) fn set_links(&mut self, snapshot: &Snapshot) {
        if self.generation != Some(snapshot.generation) {
            self.generation = Some(snapshot.generation);
            self.devices.clear();
            self.devices.extend(snapshot.links.iter().map(|link| link.device));
        }
    }

    pub(super) fn attach(&mut self, device: DeviceId, sender: Sender) {
        if self.senders.len() <= device.index() {
            self.senders.resize_with(device.index() + 1, || None);
        }
        self.senders[device.index()] = Some(sender);
    }

    pub(super) fn detach(&mut self, device: DeviceId) {
        if let Some(sender) = self.senders.get_mut(device.index()) {
            *sender = None;
        }
    }

    /// Notes a new MTU of a device, in bytes.
    pub(super) fn set_mtu(&self, device: DeviceId, mtu: u16) {
        if let Some(Some(sender)) = self.senders.get(device.index()) {
            sender.set_mtu(mtu);
        }
    }

    /// Sends the frames for which a device had no room; returns whether some of them still wait.
    pub(super) fn flush(&self) -> bool {
        self.senders.iter().flatten().filter(|sender| sender.flush()).count() > 0
    }

    /// Number of frames that were taken since the last call and then not sent. To be called several times a second.
    pub(super) fn maintain(&self, now: Instant) -> u64 {
        self.senders.iter().flatten().map(|sender| sender.maintain(now)).sum()
    }

    /// Sends the frames of a batch that have a verdict to forward, from where they lie.
    pub(super) fn send_batch(&self, batch: &Batch<'_>, traffic: &SocketCounters) {
        let packets = &batch.packets;
        self.send(
            packets.len(),
            |position| match packets[position].verdict {
                Some(Verdict::Forward(link) | Verdict::Hairpin(link)) => Some(link),
                Some(Verdict::Replaced | Verdict::Punted | Verdict::Dropped(_)) | None => None,
            },
            |position| {
                let packet = &packets[position];
                Outgoing { bytes: packet.bytes, vlan: packet.vlan, offload: packet.offload }
            },
            traffic,
        );
    }

    /// Sends frames that the engine made.
    pub(super) fn send_own(&self, made: &ArrayVec<Transmit, BURST>, traffic: &SocketCounters) {
        self.send(
            made.len(),
            |position| Some(made[position].link),
            |position| {
                let Transmit { link: _, vlan, offload, bytes } = &made[position];
                Outgoing { bytes, vlan: *vlan, offload: *offload }
            },
            traffic,
        );
    }

    /// Sends up to [`BURST`] frames, device by device; the order on each device is kept.
    fn send<'a>(
        &self,
        frames: usize,
        link_of: impl Fn(usize) -> Option<LinkId>,
        frame: impl Fn(usize) -> Outgoing<'a>,
        traffic: &SocketCounters,
    ) {
        let mut todo: ArrayVec<(usize, LinkId, DeviceId), BURST> = (0..frames)
            .filter_map(|position| {
                let link = link_of(position)?;
                Some((position, link, *self.devices.get(link.index())?))
            })
            .collect();
        while let Some(&(_, _, device)) = todo.first() {
            let here: ArrayVec<(usize, LinkId), BURST> =
                todo.iter().filter(|(_, _, other)| *other == device).map(|(at, link, _)| (*at, *link)).collect();
            match self.senders.get(device.index()).and_then(Option::as_ref) {
                Some(sender) => {
                    let failed = |at: usize, error| traffic.count_failed(here[at].1, error);
                    sender.send(here.iter().map(|(position, _)| frame(*position)), failed);
                }
                None => here.iter().for_each(|(_, link)| traffic.count_failed(*link, SendError::NoDevice)),
            }
            todo.retain(|(_, _, other)| *other != device);
        }
    }
}
