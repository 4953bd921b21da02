//! What must be true of the nodes of a side, whatever happens to them. The checkers see frames, roles and faults, and
//! nothing inside the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::INTERVAL;
use crate::engine::Permission;
use crate::ha::RoleChange;
use crate::id::LinkId;
use crate::sim::farm::FarmPlan;
use crate::sim::packet::{ETHERTYPE_ARP, Packet, split_ethernet};
use crate::sim::side::Side;
use crate::sim::sim_engine::SimEngine;
use crate::sim::world::NodeId;
use crate::time::{Duration, Instant};
use crate::wire::arp::Arp;
use crate::wire::frame::protocol;
use crate::wire::vrrp;

/// How long two nodes that hear each other may both be routers: until one has heard the other and given way.
const BOTH_MAX: Duration = Duration::from_millis(400);
/// How long after the last fault the roles have to stand: a node that starts listens for three seconds.
const SETTLED: Duration = Duration::from_secs(5);
/// A node that was the router up to this long ago may still have frames on the way.
const RECENTLY: Duration = Duration::from_millis(60);
const VIOLATIONS_MAX: usize = 20;

/// The checkers of a run.
#[derive(Debug)]
pub struct ClusterChecks {
    nodes: [Vec<NodeId>; 2],
    violations: Vec<String>,
    /// The cables that are cut, in one direction at least.
    cuts: BTreeSet<(NodeId, usize)>,
    /// The cables that lose, repeat or reorder frames.
    impaired: BTreeSet<(NodeId, usize)>,
    /// The addresses of services, which float too, by side.
    service_addresses: [BTreeSet<IpAddr>; 2],
    /// Since when both directions of these cables are whole.
    whole_since: BTreeMap<(NodeId, usize), Instant>,
    /// When two nodes of a side began to be routers at once.
    both_since: [Option<Instant>; 2],
    /// When each node was the router last, or forwarded what still arrived.
    router_at: BTreeMap<NodeId, Instant>,
    disturbed: Instant,
    is_calm: bool,
}

impl ClusterChecks {
    /// Nothing has happened yet.
    pub(super) fn new(nodes: [Vec<NodeId>; 2], farm: &FarmPlan) -> Self {
        let addresses_of = |side: Side| {
            let own = (0..farm.services.len()).filter(|number| farm.services[*number].side == side);
            let vips = own.clone().flat_map(|number| [true, false].map(|v4| farm.vip(number, v4)));
            let pools = own.filter(|number| farm.services[*number].snat).flat_map(|_| [true, false]);
            vips.chain(pools.flat_map(FarmPlan::snat)).collect()
        };
        Self {
            nodes,
            impaired: BTreeSet::new(),
            service_addresses: Side::BOTH.map(addresses_of),
            violations: Vec::new(),
            cuts: BTreeSet::new(),
            whole_since: BTreeMap::new(),
            both_since: [None; 2],
            router_at: BTreeMap::new(),
            disturbed: Instant::ZERO,
            is_calm: false,
        }
    }

    /// What was found.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(super) fn disturb(&mut self, now: Instant) {
        (self.disturbed, self.is_calm) = (now, false);
    }

    /// A fault lasts until `until`.
    pub(super) fn paused(&mut self, until: Instant) {
        self.disturbed = self.disturbed.max(until);
    }

    pub(super) fn cut(&mut self, node: NodeId, link: usize, is_cut: bool, now: Instant) {
        if is_cut {
            self.cuts.insert((node, link));
        } else if self.cuts.remove(&(node, link)) {
            self.whole_since.insert((node, link), now);
        }
    }

    pub(super) fn impaired(&mut self, node: NodeId, link: usize, is_bad: bool) {
        if is_bad {
            self.impaired.insert((node, link));
        } else {
            self.impaired.remove(&(node, link));
        }
    }

    /// The time of the last fault, unless one of a cable lasts.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        (self.cuts.is_empty() && self.impaired.is_empty()).then_some(self.disturbed)
    }

    pub(super) fn calm(&mut self, now: Instant) {
        self.disturbed = self.disturbed.max(now);
        self.is_calm = true;
    }

    pub(super) fn violation(&mut self, now: Instant, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(format!("{:.3} s  {what}", now.as_nanos() as f64 / 1e9));
        }
    }

    /// Two nodes of a side hear each other: a cable of both, on one link, has been whole for a while.
    fn hear_each_other(&self, side: Side, (one, other): (usize, usize), now: Instant) -> bool {
        let nodes = &self.nodes[side as usize];
        let whole = |node: NodeId, link| {
            let since = self.whole_since.get(&(node, link)).copied().unwrap_or_default();
            !self.cuts.contains(&(node, link)) && now.since(since) >= BOTH_MAX
        };
        (0..2).any(|link| whole(nodes[one], link) && whole(nodes[other], link))
    }

    /// At most one node of a side is the router, among those that hear each other; and one is, once all faults are over.
    pub(super) fn routers(&mut self, side: Side, routers: &[usize], now: Instant) {
        if self.is_calm && now.since(self.disturbed) > SETTLED && routers.len() != 1 {
            self.violation(now, format!("{}: nodes {routers:?} are routers, long after the last fault", side.name()));
        }
        for number in routers {
            self.router_at.insert(self.nodes[side as usize][*number], now);
        }
        let together = match routers {
            [one, rest @ ..] => rest.iter().any(|other| self.hear_each_other(side, (*one, *other), now)),
            [] => false,
        };
        if !together {
            self.both_since[side as usize] = None;
            return;
        }
        let since = *self.both_since[side as usize].get_or_insert(now);
        if now.since(since) > BOTH_MAX {
            self.violation(now, format!("{}: nodes {routers:?} are both routers, and hear each other", side.name()));
            self.both_since[side as usize] = Some(now);
        }
    }

    /// Once all faults have been over for a while, no role changes.
    pub(super) fn changed(&mut self, side: Side, number: usize, change: &RoleChange, now: Instant) {
        if self.is_calm && now.since(self.disturbed) > SETTLED {
            let name = super::node_name(side, number);
            self.violation(now, format!("{name} went from {} to {}: {:?}", change.from, change.to, change.reason));
        }
    }

    /// Checks who says what from which MAC address.
    pub(super) fn sent(&mut self, engine: &SimEngine, node: NodeId, link: LinkId, bytes: &[u8], now: Instant) {
        let Some((_, source, ethertype, payload)) = split_ethernet(bytes) else { return };
        let is_virtual = vrrp::is_virtual_mac(source);
        match engine.permission(now) {
            Some(Permission::Router | Permission::Lingering) => drop(self.router_at.insert(node, now)),
            Some(Permission::Silent | Permission::Expired) | None => {}
        }
        let was_router = self.router_at.get(&node).is_some_and(|last| now.since(*last) <= RECENTLY.min(INTERVAL * 2));
        let side = usize::from(self.nodes[1].contains(&node));
        let of_services = &self.service_addresses[side];
        let is_floating = |address: IpAddr| engine.floating(link).contains(&address) || of_services.contains(&address);
        if !is_virtual && source != engine.mac(link) {
            return self.violation(now, format!("{} sends from {source}", engine.name));
        }
        if is_virtual && !was_router {
            return self.violation(now, format!("{} sends from {source} and is no router", engine.name));
        }
        if ethertype == ETHERTYPE_ARP {
            let Ok(arp) = Arp::parse(bytes) else { return };
            let floats = is_floating(arp.sender.into());
            if arp.sender_mac != source || floats != is_virtual && !arp.is_probe() {
                self.violation(
                    now,
                    format!("{} says at {source} that {} is at {}", engine.name, arp.sender, arp.sender_mac),
                );
            }
            return;
        }
        let Some(packet) = Packet::parse(payload) else { return };
        let link_config = &engine.config().links[link.index()];
        let is_own = link_config.addresses.iter().any(|own| own.addr() == packet.source);
        let is_local = matches!(packet.source, IpAddr::V6(own) if own.is_unicast_link_local() || own.is_unspecified());
        if packet.protocol == vrrp::PROTOCOL {
            if !is_virtual {
                self.violation(now, format!("{} advertises from {source}", engine.name));
            }
        } else if is_virtual && is_own {
            self.violation(now, format!("{} speaks for its own {} from {source}", engine.name, packet.source));
        } else if !is_virtual && is_floating(packet.source) {
            self.violation(now, format!("{} speaks for the floating {} from {source}", engine.name, packet.source));
        } else if !is_own && !is_local && !was_router {
            let kind = if packet.protocol == protocol::TCP { "TCP" } else { "a packet" };
            self.violation(now, format!("{} forwards {kind} of {} and is no router", engine.name, packet.source));
        }
    }
}

#[cfg(test)]
mod tests;
