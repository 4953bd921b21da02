//! From links to the senders of their devices.

use arrayvec::ArrayVec;

use super::shared::Traffic;
use crate::engine::{Batch, Snapshot, Transmit, Verdict};
use crate::id::{DeviceId, LinkId};
use crate::io::ways::{Outgoing, SendError, Sender};
use crate::time::Instant;

/// Frames that go out together.
pub(super) const BURST: usize = 64;

/// The ways out of one thread.
#[derive(Debug)]
pub(super) struct Outlets {
    /// By [`DeviceId`]; `None` while the device is missing.
    senders: Vec<Option<Sender>>,
    /// By [`LinkId`], as of this generation of the configuration.
    devices: Vec<DeviceId>,
    generation: Option<u64>,
}

impl Outlets {
    /// Knows no link and no device yet.
    pub(super) fn new() -> Self {
        Self { senders: Vec::new(), devices: Vec::new(), generation: None }
    }

    /// Learns the links of a snapshot.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
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

    /// The device has another MTU.
    pub(super) fn set_mtu(&self, device: DeviceId, mtu: u16) {
        if let Some(Some(sender)) = self.senders.get(device.index()) {
            sender.set_mtu(mtu);
        }
    }

    /// Sends what was taken while a device had no room for it; answers whether some of it still waits.
    pub(super) fn flush(&self) -> bool {
        self.senders.iter().flatten().filter(|sender| sender.flush()).count() > 0
    }

    /// To be called some times a second: frames that were taken since the last call and then not sent.
    pub(super) fn tend(&self, now: Instant) -> u64 {
        self.senders.iter().flatten().map(|sender| sender.tend(now)).sum()
    }

    /// Sends what the batch's verdicts say, from where it lies.
    pub(super) fn send_batch(&self, batch: &Batch<'_>, traffic: &Traffic) {
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
    pub(super) fn send_made(&self, made: &ArrayVec<Transmit, BURST>, traffic: &Traffic) {
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
        traffic: &Traffic,
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
                    let failed = |at: usize, error| traffic.failed(here[at].1, error);
                    sender.send(here.iter().map(|(position, _)| frame(*position)), failed);
                }
                None => here.iter().for_each(|(_, link)| traffic.failed(*link, SendError::NoDevice)),
            }
            todo.retain(|(_, _, other)| *other != device);
        }
    }
}
