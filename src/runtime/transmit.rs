//! Sends frames by link: finds the sender of the link's device.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::socket_counters::SocketCounters;
use crate::engine::{Batch, Permission, SharedRole, Snapshot, Transmit, Verdict};
use crate::id::{DeviceId, LinkId};
use crate::io::clock::Clock;
use crate::io::frame_io::{Outgoing, SendError, Sender};
use crate::time::Instant;
use crate::wire::{MacAddr, vrrp};

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
    guard: Option<RoleGuard>,
}

/// Keeps back the frames of the virtual router that a thread made before it stood still, and sends after another node
/// took over: they would move the virtual MAC address back in the tables of switches.
#[derive(Debug)]
struct RoleGuard {
    clock: Clock,
    /// `None` for an engine without `[ha]`.
    role: Option<Arc<SharedRole>>,
}

impl RoleGuard {
    /// True if this node is not the virtual router now.
    fn is_over(&self) -> bool {
        self.role.as_ref().is_some_and(|role| role.at(self.clock.now()) != Permission::Router)
    }
}

impl LinkSenders {
    /// A value without links and devices.
    pub(super) fn new() -> Self {
        Self { senders: Vec::new(), devices: Vec::new(), generation: None, guard: None }
    }

    /// A value without links and devices, which sends frames from the virtual MAC address only while this node is the
    /// virtual router.
    pub(super) fn guarded(clock: Clock) -> Self {
        Self { guard: Some(RoleGuard { clock, role: None }), ..Self::new() }
    }

    /// Takes the links of a snapshot over.
    pub(super) fn set_links(&mut self, snapshot: &Snapshot) {
        if self.generation != Some(snapshot.generation) {
            self.generation = Some(snapshot.generation);
            self.devices.clear();
            self.devices.extend(snapshot.links.iter().map(|link| link.device));
            if let Some(guard) = &mut self.guard {
                guard.role.clone_from(&snapshot.role);
            }
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

    /// Sends by packet sockets alone from here on, where frames were also sent by AF_XDP.
    pub(super) fn send_by_packet_sockets(&mut self) {
        self.senders.iter_mut().flatten().for_each(Sender::send_by_packet_socket);
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
        let is_over = self.guard.as_ref().is_some_and(RoleGuard::is_over);
        let mut todo: ArrayVec<(usize, LinkId, DeviceId), BURST> = (0..frames)
            .filter_map(|position| {
                let link = link_of(position)?;
                if is_over && is_of_virtual_router(frame(position).bytes) {
                    traffic.count_failed(link, SendError::NotActive);
                    return None;
                }
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

/// True for a frame that is sent from the MAC address of a virtual router.
fn is_of_virtual_router(frame: &[u8]) -> bool {
    let source = frame.get(6..).and_then(|rest| rest.first_chunk());
    source.is_some_and(|source| vrrp::is_virtual_mac(MacAddr(*source)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::{Forwarding, Role, RoleWord};
    use crate::wire::Family;
    use crate::wire::offload::Offload;

    #[test]
    fn what_the_virtual_router_made_is_kept_back_when_its_lease_is_over_and_nothing_else() {
        let clock = Clock::new();
        let role = Arc::new(SharedRole::default());
        let mut senders = LinkSenders::guarded(clock);
        senders.guard.as_mut().unwrap().role = Some(Arc::clone(&role));
        senders.devices = vec![DeviceId::from(0)];
        let frame = |source: MacAddr| Transmit {
            link: LinkId::from(0),
            vlan: None,
            offload: Offload::NONE,
            bytes: [&[2; 6], &source.0[..], &[0x08, 0x00], &[0; 46]].concat(),
        };
        let made = ArrayVec::from_iter([frame(vrrp::virtual_mac(Family::V6, 61)), frame(MacAddr([2, 0, 0, 0, 0, 7]))]);
        let kept_back = |senders: &LinkSenders, forwarding, until| {
            role.store(RoleWord { role: Role::Active, forwarding, until });
            let traffic = SocketCounters::new(1, 1, 1);
            senders.send_own(&made, &traffic);
            // There is no device: what is not kept back is counted as that.
            let count = |error: SendError| traffic.counters().find(|(name, _)| *name == error.name()).unwrap().1;
            assert_eq!(count(SendError::NotActive) + count(SendError::NoDevice), 2);
            count(SendError::NotActive)
        };

        assert_eq!(kept_back(&senders, Forwarding::Router, Instant::from_nanos(u64::MAX)), 0);
        assert_eq!(kept_back(&senders, Forwarding::Router, Instant::ZERO), 1, "its lease is over");
        assert_eq!(
            kept_back(&senders, Forwarding::Lingering, Instant::from_nanos(u64::MAX)),
            1,
            "another node has the address"
        );
        assert_eq!(kept_back(&senders, Forwarding::Silent, Instant::ZERO), 1);
        senders.guard.as_mut().unwrap().role = None;
        assert_eq!(kept_back(&senders, Forwarding::Silent, Instant::ZERO), 0, "an engine without a cluster");
    }
}
