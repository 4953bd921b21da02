//! From configuration, links, neighbours and live sets to the one [`Snapshot`] that the forwarders look at.

use std::net::IpAddr;
use std::sync::Arc;

use super::journal::Alarm;
use super::{Controller, Event, services};
use crate::config::{self, Config, LearnBy, RouteTarget};
use crate::engine::Snapshot;
use crate::engine::route::{NextHop, RouteTable, Target};
use crate::engine::snapshot::{Device, Firewall, Link};
use crate::flow::FlowHasher;
use crate::id::{DeviceId, FirewallId, GroupId, PathSetId, PeerId};
use crate::path::liveness::SetKey;
use crate::path::{Group, Member};
use crate::time::{Duration, Instant};
use crate::wire::{Family, MacAddr};

/// The groups as selection sees them.
pub(super) fn groups(config: &Config) -> Vec<Group> {
    let groups = config.groups.iter().enumerate().map(|(index, group)| Group {
        id: GroupId::from(index),
        name: group.name.clone(),
        hasher: FlowHasher::new(group.seed, group.hash),
        members: group
            .firewalls
            .iter()
            .map(|id| {
                let firewall = &config.firewalls[id.index()];
                Member { id: *id, name: firewall.name.clone(), weight: firewall.weight, spare: firewall.spare }
            })
            .collect(),
        on_failure: group.on_failure,
        min_up: group.min_up,
        below_min: group.below_min,
    });
    groups.collect()
}

/// Connected subnets and configured routes.
pub(super) fn routes(config: &Config, sets: &[SetKey]) -> RouteTable {
    let connected = config.links.iter().enumerate().flat_map(|(index, link)| {
        link.addresses.iter().map(move |address| (*address, Target::Connected(index.into())))
    });
    let configured = config.routes.iter().filter_map(|route| {
        let target = match &route.target {
            RouteTarget::Via { link, via } => Target::Via(NextHop { link: *link, address: *via }),
            RouteTarget::Group { group, peer, firewall, bypass } => {
                let set = set_id(sets, *group, *peer, Family::of(route.to.addr()))?;
                let bypass = bypass.map(|(link, address)| NextHop { link, address });
                Target::Group { set, preferred: *firewall, bypass }
            }
        };
        Some((route.to, target))
    });
    connected.chain(configured).collect()
}

fn set_id(sets: &[SetKey], group: GroupId, peer: Option<PeerId>, family: Family) -> Option<PathSetId> {
    sets.iter().position(|key| *key == SetKey { group, peer, family }).map(PathSetId::from)
}

/// How long nothing is published after a publication that was made of `built` servers and neighbours: where thousands
/// change at once each of them would cost what all of them cost, and the checks and neighbours would wait for it.
fn pause_after(built: usize) -> Duration {
    const SMALL: usize = 256;
    const EACH: Duration = Duration::from_micros(16);
    if built <= SMALL { Duration::ZERO } else { EACH * u32::try_from(built).unwrap_or(u32::MAX) }
}

impl Controller {
    /// One publication for all that changed since the last.
    pub(super) fn publish_changes(&mut self, now: Instant) {
        if self.publish && self.publish_from <= now {
            self.publish = false;
            let built = self.refresh_services() + self.neighbors.len();
            self.publish_from = now + pause_after(built);
            self.watch_shared_macs(now);
            self.snapshot = Arc::new(self.build_snapshot());
            self.events.push_back(Event::Publish(Arc::clone(&self.snapshot)));
        }
    }

    /// Firewalls that have one hardware address on one link cannot be told apart by it: what the second one sends would be
    /// pinned to the first.
    fn watch_shared_macs(&mut self, now: Instant) {
        for id in self.config.firewall_ids().collect::<Vec<_>>() {
            let index = id.index();
            let alarm = Alarm { kind: "firewalls_share_mac", subject: self.firewall_name(id) };
            match self.shares_mac(index) {
                Some((other, mac)) => {
                    let other = self.firewall_name(other);
                    let reason = format!("{mac} is {other} too: give each a link and learn-by = \"link\"");
                    self.raise_alarm(alarm, reason, now);
                }
                None => self.clear_alarm(&alarm, now),
            }
        }
    }

    /// An earlier firewall with the same hardware address on the same link.
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

    fn build_snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            epoch: self.snapshot.epoch + 1,
            generation: self.generation,
            renewed: Arc::clone(&self.renewed),
            devices: self.snapshot_devices(),
            links: self.snapshot_links(),
            routes: self.routes.clone(),
            groups: self.groups.clone(),
            path_sets: self.liveness.sets().to_vec(),
            set_keys: self.set_keys.clone(),
            firewalls: self.snapshot_firewalls(),
            peers: self.config.peers.iter().map(|peer| peer.name.clone()).collect(),
            source_limits: self.config.limits.source,
            services: self.farm.services().clone(),
            vips: services::virtual_addresses(&self.config).into_iter().collect(),
            ..Snapshot::default()
        };
        for (index, link) in self.links.iter().enumerate() {
            for address in &link.addresses {
                snapshot.local.insert(address.addr(), index.into());
            }
        }
        for (key, mac) in self.neighbors.resolved() {
            snapshot.neighbors.insert(key, mac);
        }
        for (index, firewall) in self.config.firewalls.iter().enumerate() {
            if firewall.learn_by == LearnBy::Mac {
                for address in &firewall.addresses {
                    if let Some(mac) = self.neighbors.last_mac((firewall.link, *address)) {
                        snapshot.learn.entry((firewall.link, mac)).or_insert(index.into());
                    }
                }
            }
        }
        snapshot
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
        let links = self.config.links.iter().zip(&self.links).enumerate();
        let links = links.map(|(index, (configured, state))| {
            let on_link = |id: &FirewallId| self.config.firewalls[id.index()].link.index() == index;
            let by_link = |id: &FirewallId| self.config.firewalls[id.index()].learn_by == LearnBy::Link;
            let learn_all = self.config.firewall_ids().filter(on_link).find(by_link);
            Link {
                name: configured.name.clone(),
                device: configured.device,
                vlan: configured.vlan,
                mac: state.mac,
                mtu: state.mtu,
                up: state.up,
                addresses: state.addresses.clone(),
                firewalls: self.config.firewall_ids().any(|id| on_link(&id)),
                learn_all,
            }
        });
        links.collect()
    }

    fn snapshot_firewalls(&self) -> Vec<Firewall> {
        let firewalls = self.config.firewalls.iter().enumerate().map(|(index, firewall)| {
            let members = &self.config.groups[firewall.group.index()].firewalls;
            let of =
                |family| firewall.addresses.iter().copied().find(|address: &IpAddr| Family::of(*address) == family);
            Firewall {
                name: firewall.name.clone(),
                group: firewall.group,
                slot: members.iter().position(|member| member.index() == index).unwrap_or_default(),
                admin: self.liveness.effective_admin(index.into()).unwrap_or(firewall.admin),
                link: firewall.link,
                v4: of(Family::V4),
                v6: of(Family::V6),
            }
        });
        firewalls.collect()
    }
}
