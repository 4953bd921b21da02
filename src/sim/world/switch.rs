//! What the switches do with a frame.

use super::{Node, Observation, PortId, World, leg_of};
use crate::sim::firewall::SimFirewallKind;
use crate::sim::packet::split_ethernet;
use crate::sim::sim_engine::CableFrame;
use crate::wire::{Family, MacAddr, vrrp};

impl World {
    pub(super) fn switch(&mut self, from: PortId, frame: &CableFrame) {
        let Some((destination, source, ..)) = split_ethernet(&frame.bytes) else { return };
        let segment = self.ports[from.0].segment;
        if !source.is_multicast() {
            self.segments[segment].learned.insert(source, from);
        }
        let known = self.segments[segment].learned.get(&destination).copied();
        let targets: Vec<PortId> = match known {
            Some(port) if !destination.is_multicast() => vec![port],
            Some(_) | None => self.segments[segment].ports.clone(),
        };
        if !destination.is_multicast() && !self.has_mac(segment, destination) {
            let node = self.ports[from.0].node;
            self.observations.push(Observation::UnknownDestination { node, destination });
        }
        for port in targets {
            if port != from && self.takes(port, destination) {
                let wire = self.ports[port.0].receiving;
                self.send_over_cable(port, wire, 1, frame.clone());
            }
        }
    }

    /// Whether an interface on the segment has this MAC address; behind a bridge there may be any.
    fn has_mac(&self, segment: usize, mac: MacAddr) -> bool {
        self.segments[segment].ports.iter().any(|port| {
            let port = &self.ports[port.0];
            match &self.nodes[port.node.0] {
                Node::Engine(engine) => engine.has_mac(mac),
                Node::Firewall(firewall) => {
                    firewall.kind() == SimFirewallKind::Transparent || firewall.mac(leg_of(port.leg)) == mac
                }
                Node::Host(host) => host.interface.mac == mac,
            }
        })
    }

    /// Whether the device at a port takes frames to this address: that of a host or of a routing firewall has not joined the
    /// group of VRRP, in which nodes of clusters speak all the time.
    fn takes(&self, port: PortId, destination: MacAddr) -> bool {
        let is_vrrp = [Family::V4, Family::V6].map(vrrp::group_mac).contains(&destination);
        !is_vrrp
            || match &self.nodes[self.ports[port.0].node.0] {
                Node::Engine(_) => true,
                Node::Firewall(firewall) => firewall.kind() == SimFirewallKind::Transparent,
                Node::Host(_) => false,
            }
    }
}
