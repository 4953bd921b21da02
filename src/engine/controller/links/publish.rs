//! What the forwarders look at of links and neighbours.

use std::net::IpAddr;

use super::super::outbox::Outbox;
use super::Links;
use crate::config::{self, LearnBy};
use crate::engine::Snapshot;
use crate::engine::change::{Alarm, Subject};
use crate::engine::snapshot::{Device, Link};
use crate::engine::view::AlarmKind;
use crate::id::{DeviceId, FirewallId};
use crate::time::Instant;
use crate::wire::MacAddr;

impl Links {
    /// Writes devices, links, routes and neighbours into a snapshot that is empty.
    pub(in super::super) fn fill_snapshot(&self, snapshot: &mut Snapshot) {
        snapshot.devices = self.snapshot_devices();
        snapshot.links = self.snapshot_links();
        snapshot.routes = self.routes.clone();
        for (index, link) in self.states.iter().enumerate() {
            for address in &link.addresses {
                snapshot.own_addresses.insert(address.addr(), index.into());
            }
            for address in &link.floating {
                snapshot.own_addresses.insert(*address, index.into());
                snapshot.floating_addresses.insert(*address, ());
            }
        }
        if let Some(ha) = &self.config.ha {
            let others = ha.nodes.iter().enumerate().filter(|(index, _)| *index != ha.me.index());
            snapshot.node_addresses.extend(others.flat_map(|(_, node)| &node.addresses).copied());
        }
        for (key, mac) in self.neighbors.resolved() {
            snapshot.neighbors.insert(key, mac);
        }
        for (index, firewall) in self.config.firewalls.iter().enumerate() {
            if firewall.learn_by == LearnBy::Mac {
                for address in &firewall.addresses {
                    if let Some(mac) = self.neighbors.last_mac((firewall.link, *address)) {
                        snapshot.firewall_macs.entry((firewall.link, mac)).or_insert(index.into());
                    }
                }
            }
        }
    }

    /// Raises an alarm about firewalls that have the same MAC address on one link and cannot be distinguished by it:
    /// what the second one sends would be pinned to the first.
    pub(in super::super) fn watch_shared_macs(&self, now: Instant, out: &mut Outbox) {
        for id in self.config.firewall_ids().collect::<Vec<_>>() {
            let index = id.index();
            let alarm = Alarm { kind: AlarmKind::FirewallsShareMac, subject: Subject::firewall(&self.config, id) };
            match self.shares_mac(index) {
                Some((other, mac)) => {
                    let other = self.config.firewall_name(other);
                    let reason = format!("{mac} is {other} too: give each a link and learn-by = \"link\"");
                    out.raise_alarm(alarm, reason, now);
                }
                None => out.clear_alarm(&alarm, now),
            }
        }
    }

    /// An earlier firewall with the same MAC address on the same link.
    fn shares_mac(&self, index: usize) -> Option<(FirewallId, MacAddr)> {
        let learned = |firewall: &config::Firewall| firewall.learn_by == LearnBy::Mac;
        let firewall = self.config.firewalls.get(index).filter(|firewall| learned(firewall))?;
        let mac_of = |link, address: &IpAddr| self.neighbors.last_mac((link, *address));
        let macs = firewall.addresses.iter().filter_map(|address| mac_of(firewall.link, address));
        let earlier = self.config.firewalls[..index].iter().enumerate();
        let mut beside = earlier.filter(|(_, other)| other.link == firewall.link && learned(other));
        beside.find_map(|(at, other)| {
            let mut shared = macs
                .clone()
                .filter(|mac| other.addresses.iter().any(|address| mac_of(other.link, address) == Some(*mac)));
            Some((FirewallId::from(at), shared.next()?))
        })
    }

    fn snapshot_devices(&self) -> Vec<Device> {
        let mut devices: Vec<Device> = self
            .config
            .devices
            .iter()
            .map(|name| Device { name: name.clone(), untagged: None, tagged: Vec::new() })
            .collect();
        for id in self.config.link_ids() {
            let link = &self.config.links[id.index()];
            let device: &mut Device = &mut devices[DeviceId::index(link.device)];
            match link.vlan {
                None => device.untagged = Some(id),
                Some(vlan) => device.tagged.push((vlan, id)),
            }
        }
        devices
    }

    fn snapshot_links(&self) -> Vec<Link> {
        let links = self.config.links.iter().zip(&self.states).enumerate();
        let links = links.map(|(index, (configured, state))| {
            let on_link = |id: &FirewallId| self.config.firewalls[id.index()].link.index() == index;
            let by_link = |id: &FirewallId| self.config.firewalls[id.index()].learn_by == LearnBy::Link;
            let learn_all = self.config.firewall_ids().filter(on_link).find(by_link);
            Link {
                name: configured.name.clone(),
                device: configured.device,
                vlan: configured.vlan,
                mac: state.mac,
                router_macs: state.router_macs,
                floating: state.floating.clone(),
                mtu: state.mtu,
                up: state.up,
                addresses: state.addresses.clone(),
                has_firewalls: self.config.firewall_ids().any(|id| on_link(&id)),
                sole_firewall: learn_all,
            }
        });
        links.collect()
    }
}
