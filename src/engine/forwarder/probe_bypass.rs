//! Takes frames that decide about the state of a firewall or server to the controller past the workers, so that neither
//! full rings nor a worker that waits for a CPU delays them.
//!
//! These are probes, their answers, and the answers of servers to health checks. A kernel filter selects candidates by
//! addresses and ports into a ring of their own; here it is decided which of them are such frames. The workers receive
//! the same frames in their rings and only count them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::ingress;
use super::punt_policer::{self, PuntPolicer};
use super::punting::make_punt;
use super::sources::egress_link;
use super::{Forwarder, PacketOutcome};
use crate::engine::shared_role::Permission;
use crate::engine::{Packet, Punt, PuntReason, Snapshot};
use crate::health::service_prober::PORTS;
use crate::id::{DeviceId, LinkId};
use crate::time::Instant;
use crate::wire::{Family, MacAddr};

/// The source ports, and identifiers of ICMP echo, that health checks use.
pub const CHECK_PORTS: RangeInclusive<u16> = PORTS;

/// The largest number of check addresses per device.
pub const CHECK_ADDRESSES_MAX: usize = 8;

/// Which frames of a device the owner takes to the controller itself; the owner and the workers share it.
#[derive(Debug, Default)]
pub struct ProbeBypass {
    /// Answers to health checks that were sent from these addresses are taken, besides probes.
    check_addresses: ArcSwap<Vec<IpAddr>>,
}

impl ProbeBypass {
    /// Sets the addresses from which health checks are sent, so that answers to them are taken.
    pub fn set_check_addresses(&self, addresses: Vec<IpAddr>) {
        self.check_addresses.store(Arc::new(addresses));
    }

    /// True if a frame to the controller is one that the owner takes.
    fn matches(&self, bytes: &[u8], link: LinkId, snapshot: &Snapshot) -> bool {
        punt_policer::is_probe(bytes, link, snapshot)
            || punt_policer::check_answer_address(bytes).is_some_and(|address| {
                self.check_addresses.load().contains(&address) && snapshot.own_addresses.contains(&address)
            })
    }

    /// The punt for `packet`, if the owner takes it; `None` for any other packet.
    pub fn probe_punt(&self, packet: &mut Packet<'_>, snapshot: &Snapshot) -> Option<Punt> {
        let link = ingress::link_of(packet, snapshot)?;
        (is_local(packet, link, snapshot) && self.matches(packet.bytes, link, snapshot))
            .then(|| make_punt(PuntReason::Local, packet, link))
    }
}

/// True if a packet to the link's own MAC address is for the controller and belongs to no session. It does not depend
/// on the role of a node, so that owner and workers agree.
fn is_local(packet: &mut Packet<'_>, link: LinkId, snapshot: &Snapshot) -> bool {
    let checked = ingress::check_frame(packet.bytes, &packet.offload, link, snapshot, Permission::Router);
    matches!(checked, Err(PacketOutcome::Punt(PuntReason::Local)))
}

/// Rate limits of the frames that the owner takes, for all together and for each source, equal to those of a worker: a
/// flood of forged frames does not displace those of others.
#[derive(Debug)]
pub struct BypassLimiter {
    policer: PuntPolicer,
}

impl BypassLimiter {
    /// Full token buckets; `seed` makes it hard to choose addresses that share one.
    pub fn new(seed: u64) -> Self {
        Self { policer: PuntPolicer::new(seed) }
    }

    /// Takes a token for a frame; false if there is none.
    pub fn allows(&mut self, punt: &Punt, snapshot: &Snapshot, now: Instant) -> bool {
        self.policer.admit(punt.reason, &punt.bytes, punt.link, snapshot, now).is_ok()
    }
}

impl Forwarder {
    /// Sets which frames that arrive on `device` the owner takes to the controller itself; `None` for none. Such frames
    /// are counted as punted but not queued.
    pub fn set_probe_bypass(&mut self, device: DeviceId, apart: Option<Arc<ProbeBypass>>) {
        if self.probe_bypass.len() <= device.index() {
            self.probe_bypass.resize(device.index() + 1, None);
        }
        self.probe_bypass[device.index()] = apart;
    }

    /// The result for a frame to the controller: a frame that the owner takes itself is left to the owner.
    pub(super) fn punt_unless_bypassed(
        &self,
        reason: PuntReason,
        packet: &mut Packet<'_>,
        link: LinkId,
        snapshot: &Snapshot,
    ) -> PacketOutcome {
        let apart = self.probe_bypass.get(packet.device.index()).and_then(Option::as_ref);
        // The filter of the owner's ring takes frames to the link's own MAC address alone, and not the virtual one.
        let is_to_link = || packet.bytes.get(..6).is_some_and(|mac| mac == snapshot.links[link.index()].mac.0);
        let is_left = reason == PuntReason::Local
            && apart.is_some_and(|apart| is_to_link() && apart.matches(packet.bytes, link, snapshot))
            && (self.permission == Permission::Router || is_local(packet, link, snapshot));
        if is_left { PacketOutcome::Left } else { PacketOutcome::Punt(reason) }
    }
}

/// The links on which health checks are sent.
pub fn checked_links(snapshot: &Snapshot) -> BTreeSet<LinkId> {
    let servers = snapshot.services.all().iter().flat_map(|service| &service.servers);
    let addresses =
        servers.flat_map(|server| [Family::V4, Family::V6].into_iter().filter_map(|family| server.address(family)));
    addresses.filter_map(|address| egress_link(address, snapshot)).collect()
}

/// The engine's MAC addresses on a device, and the addresses from which health checks are sent on it.
pub fn bypass_addresses(
    device: DeviceId,
    checked: &BTreeSet<LinkId>,
    snapshot: &Snapshot,
) -> (Vec<MacAddr>, Vec<IpAddr>) {
    let links = || snapshot.links.iter().enumerate().filter(|(_, link)| link.device == device);
    let mut stations: Vec<_> = links().map(|(_, link)| link.mac).filter(|mac| *mac != MacAddr::default()).collect();
    stations.sort_unstable();
    stations.dedup();
    let asking = links().filter(|(number, _)| checked.contains(&LinkId::from(*number)));
    let mut answers: Vec<_> = asking.flat_map(|(_, link)| &link.addresses).map(ipnet::IpNet::addr).collect();
    // An IPv6 address costs the kernel's filter as much as four IPv4 addresses.
    answers.sort_by_key(IpAddr::is_ipv6);
    answers.truncate(CHECK_ADDRESSES_MAX);
    (stations, answers)
}
