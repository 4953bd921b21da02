//! What a verdict about a firewall or a server hangs on, and has a way of its own to the controller: beside the workers, however
//! long their rings are and however long they wait for a CPU.
//!
//! Those are probes and their answers, and the answers of servers to checks. The kernel sorts them out by addresses and ports
//! alone, into a ring of their own; here it is decided which of them are what they look like. The workers see the same frames in
//! their rings, count them, and leave them at that.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::handover::punt;
use super::ingress::{self, Admission};
use super::police::{self, Police};
use super::sources::egress_link;
use super::{Forwarder, Outcome};
use crate::engine::{Packet, Punt, PuntReason, Snapshot};
use crate::health::service_prober::PORTS;
use crate::id::{DeviceId, LinkId};
use crate::time::Instant;
use crate::wire::{Family, MacAddr};

/// The ports, and identifiers of echoes, that checks of servers are sent from.
pub const CHECK_PORTS: RangeInclusive<u16> = PORTS;

/// Addresses whose answers are taken apart on a device, at most.
pub const ANSWERS_MAX: usize = 8;

/// What of a device's frames is taken apart from now on; shared by who takes it and the workers who leave it.
#[derive(Debug, Default)]
pub struct Apart {
    /// Beside probes, answers to checks that were sent from these addresses.
    answers: ArcSwap<Vec<IpAddr>>,
}

impl Apart {
    /// Answers to checks from these addresses are taken, too.
    pub fn take_answers_to(&self, addresses: Vec<IpAddr>) {
        self.answers.store(Arc::new(addresses));
    }

    /// True if a frame for the controller is among what is taken.
    fn takes(&self, bytes: &[u8], link: LinkId, snapshot: &Snapshot) -> bool {
        police::is_probe(bytes, link, snapshot)
            || police::answered(bytes)
                .is_some_and(|address| self.answers.load().contains(&address) && snapshot.local.contains(&address))
    }

    /// The frame for the controller that `packet` is, if it is to be taken; `None`: anything else, or not for this engine.
    pub fn punt_of(&self, packet: &mut Packet<'_>, snapshot: &Snapshot) -> Option<Punt> {
        let link = ingress::link_of(packet, snapshot)?;
        match ingress::admit(packet.bytes, &packet.offload, link, snapshot) {
            Admission::Punt(PuntReason::Local) => {}
            Admission::Punt(_) | Admission::Transit { .. } | Admission::Drop(_) => return None,
        }
        self.takes(packet.bytes, link, snapshot).then(|| punt(PuntReason::Local, packet, link))
    }
}

/// How much of it goes to the controller, of all and of one source, as of what comes by a worker: whoever forges more takes no
/// other's place.
#[derive(Debug)]
pub struct ApartBudget {
    police: Police,
}

impl ApartBudget {
    /// `seed` makes it hard to choose addresses that share a budget.
    pub fn new(seed: u64) -> Self {
        Self { police: Police::new(seed) }
    }

    /// Whether a frame may pass; counts it then.
    pub fn allows(&mut self, punt: &Punt, snapshot: &Snapshot, now: Instant) -> bool {
        self.police.judge(punt.reason, &punt.bytes, punt.link, snapshot, now).is_ok()
    }
}

impl Forwarder {
    /// From here on the owner takes what is `apart` of what comes by `device` to the controller itself, or nothing any more: it is
    /// counted and not handed over.
    pub fn leave_apart(&mut self, device: DeviceId, apart: Option<Arc<Apart>>) {
        if self.apart.len() <= device.index() {
            self.apart.resize(device.index() + 1, None);
        }
        self.apart[device.index()] = apart;
    }

    /// A frame for the controller, unless the owner takes it there itself.
    pub(super) fn hand_over_or_leave(
        &self,
        reason: PuntReason,
        packet: &Packet<'_>,
        link: LinkId,
        snapshot: &Snapshot,
    ) -> Outcome {
        let apart = self.apart.get(packet.device.index()).and_then(Option::as_ref);
        let is_left =
            reason == PuntReason::Local && apart.is_some_and(|apart| apart.takes(packet.bytes, link, snapshot));
        if is_left { Outcome::Left } else { Outcome::Punt(reason) }
    }
}

/// The links that servers are checked on.
pub fn checked_links(snapshot: &Snapshot) -> BTreeSet<LinkId> {
    let servers = snapshot.services.all().iter().flat_map(|service| &service.servers);
    let addresses =
        servers.flat_map(|server| [Family::V4, Family::V6].into_iter().filter_map(|family| server.address(family)));
    addresses.filter_map(|address| egress_link(address, snapshot)).collect()
}

/// The hardware addresses of the engine on a device, and the addresses that checks on it are sent from, where there are any.
pub fn ends_on(device: DeviceId, checked: &BTreeSet<LinkId>, snapshot: &Snapshot) -> (Vec<MacAddr>, Vec<IpAddr>) {
    let links = || snapshot.links.iter().enumerate().filter(|(_, link)| link.device == device);
    let mut stations: Vec<_> = links().map(|(_, link)| link.mac).filter(|mac| *mac != MacAddr::default()).collect();
    stations.sort_unstable();
    stations.dedup();
    let asking = links().filter(|(number, _)| checked.contains(&LinkId::from(*number)));
    let mut answers: Vec<_> = asking.flat_map(|(_, link)| &link.addresses).map(ipnet::IpNet::addr).collect();
    // One of four words is as much work for the kernel as four others.
    answers.sort_by_key(IpAddr::is_ipv6);
    answers.truncate(ANSWERS_MAX);
    (stations, answers)
}
