//! Assigns ids that survive a reload: what keeps its name keeps its id, so that sessions, which hold ids only, stay
//! valid.
//!
//! A fresh [`Config`] has ids in the order of the file. [`renumber`] replaces them by those of the configuration in
//! force. Something that the new file does not have any more keeps its id while a session uses it: it is marked
//! *removed*, and no packet can reach it any more. Its id is reused when no session refers to it.
//!
//! | thing | is the same if these are the same |
//! | --- | --- |
//! | device, link, group, service | name |
//! | firewall, peer | group, name |
//! | server | service, name, addresses, port: a server with another address is another machine |

use std::collections::BTreeSet;

use crate::config::{AdminState, Config, OnFailure, RouteTarget};
use crate::id::{FirewallId, GroupId, LinkId, PeerId, ServerId, ServiceId};

/// The suffix of the name of a removed thing; a name in a file cannot contain it.
const REMOVED: &str = " (removed)";

/// The largest number of ids of one kind, those of removed things included.
const NUMBERS_MAX: usize = u16::MAX as usize;

/// The ids that sessions refer to, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InUse {
    /// Ids of groups.
    pub groups: BTreeSet<GroupId>,
    /// Ids of firewalls.
    pub firewalls: BTreeSet<FirewallId>,
    /// Ids of peers.
    pub peers: BTreeSet<PeerId>,
    /// Ids of services.
    pub services: BTreeSet<ServiceId>,
    /// Ids of servers.
    pub servers: BTreeSet<ServerId>,
}

/// Too few ids of one kind (named by the field): too many removed things still have sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many removed {0} still have sessions: reload again when they have ended")]
pub struct IdsExhausted(pub &'static str);

/// True if this is the name of something that a reload removed.
pub fn is_removed(name: &str) -> bool {
    name.ends_with(REMOVED)
}

/// The name as the file had it, without the mark of a removed thing.
pub fn base_name(name: &str) -> &str {
    name.strip_suffix(REMOVED).unwrap_or(name)
}

impl Config {
    /// Ids of the links that are not removed.
    pub fn link_ids(&self) -> impl Iterator<Item = LinkId> + '_ {
        present(&self.links, |link| &link.name)
    }

    /// Ids of the groups that are not removed.
    pub fn group_ids(&self) -> impl Iterator<Item = GroupId> + '_ {
        present(&self.groups, |group| &group.name)
    }

    /// Ids of the firewalls that are not removed, group by group.
    pub fn firewall_ids(&self) -> impl Iterator<Item = FirewallId> + '_ {
        self.groups.iter().flat_map(|group| group.firewalls.iter().copied())
    }

    /// Ids of the peers that are not removed, group by group.
    pub fn peer_ids(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.groups.iter().flat_map(|group| group.peers.iter().copied())
    }

    /// Ids of the services that are not removed.
    pub fn service_ids(&self) -> impl Iterator<Item = ServiceId> + '_ {
        present(&self.services, |service| &service.name)
    }

    /// What a firewall is called in events and alarms: `perimeter/fw1`.
    pub fn firewall_name(&self, id: FirewallId) -> String {
        let firewall = &self.firewalls[id.index()];
        format!("{}/{}", self.groups[firewall.group.index()].name, firewall.name)
    }

    /// What a peer is called in events and alarms: `perimeter/inner`.
    pub fn peer_name(&self, id: PeerId) -> String {
        let peer = &self.peers[id.index()];
        format!("{}/{}", self.groups[peer.group.index()].name, peer.name)
    }

    /// What a server is called in events and alarms: `web/s1`.
    pub fn server_name(&self, id: ServerId) -> String {
        let server = &self.servers[id.index()];
        format!("{}/{}", self.services[server.service.index()].name, server.name)
    }

    /// Ids of the servers that are not removed, in ascending order.
    pub fn server_ids(&self) -> impl Iterator<Item = ServerId> + '_ {
        present(&self.servers, |server| &server.name)
    }
}

fn present<T, Id: From<usize>>(list: &[T], name: impl Fn(&T) -> &String) -> impl Iterator<Item = Id> {
    list.iter().enumerate().filter(move |(_, one)| !is_removed(name(one))).map(|(index, _)| index.into())
}

/// Gives everything in `new` the id that it has in `old`, and unused ids to what is added. `in_use` are the ids that
/// sessions refer to; with `None`, which means that they were not determined, no id is reused. Ids of links and devices
/// are never reused, because frames in flight refer to them too.
///
/// # Errors
///
/// [`IdsExhausted`] if a kind would need more than 65,535 ids.
pub fn renumber(new: Config, old: &Config, in_use: Option<&InUse>) -> Result<Config, IdsExhausted> {
    let is_free = |name: &str, used: &dyn Fn(&InUse) -> bool| is_removed(name) && in_use.is_some_and(|all| !used(all));
    let never = |_: usize| false;
    let devices = assign(
        "devices",
        &keys(&old.devices, |name| base_name(name)),
        &keys(&new.devices, |name| name.as_str()),
        never,
    )?;
    let links = assign(
        "links",
        &keys(&old.links, |link| base_name(&link.name)),
        &keys(&new.links, |link| link.name.as_str()),
        never,
    )?;
    let groups = assign(
        "groups",
        &keys(&old.groups, |group| base_name(&group.name)),
        &keys(&new.groups, |group| group.name.as_str()),
        |index| is_free(&old.groups[index].name, &|all| all.groups.contains(&index.into())),
    )?;
    let firewalls = assign(
        "firewalls",
        &keys(&old.firewalls, |of| (base_name(&old.groups[of.group.index()].name), base_name(&of.name))),
        &keys(&new.firewalls, |of| (new.groups[of.group.index()].name.as_str(), of.name.as_str())),
        |index| is_free(&old.firewalls[index].name, &|all| all.firewalls.contains(&index.into())),
    )?;
    let peers = assign(
        "peers",
        &keys(&old.peers, |of| (base_name(&old.groups[of.group.index()].name), base_name(&of.name))),
        &keys(&new.peers, |of| (new.groups[of.group.index()].name.as_str(), of.name.as_str())),
        |index| is_free(&old.peers[index].name, &|all| all.peers.contains(&index.into())),
    )?;
    let services = assign(
        "services",
        &keys(&old.services, |service| base_name(&service.name)),
        &keys(&new.services, |service| service.name.as_str()),
        |index| is_free(&old.services[index].name, &|all| all.services.contains(&index.into())),
    )?;
    let servers = assign(
        "servers",
        &keys(&old.servers, |of| {
            (base_name(&old.services[of.service.index()].name), base_name(&of.name), &of.addresses, of.port)
        }),
        &keys(&new.servers, |of| {
            (new.services[of.service.index()].name.as_str(), of.name.as_str(), &of.addresses, of.port)
        }),
        |index| is_free(&old.servers[index].name, &|all| all.servers.contains(&index.into())),
    )?;
    let numbers = Numbers { devices, links, groups, firewalls, peers, services, servers };
    Ok(numbers.apply(new, old))
}

fn keys<'a, T, K>(list: &'a [T], key: impl Fn(&'a T) -> K) -> Vec<K> {
    list.iter().map(key).collect()
}

/// The id of each entry of `new`: that of the equal entry in `old`, else one that is free, else the next after all
/// others.
fn assign<K: Ord>(
    what: &'static str,
    old: &[K],
    new: &[K],
    is_free: impl Fn(usize) -> bool,
) -> Result<Vec<usize>, IdsExhausted> {
    let known: std::collections::BTreeMap<&K, usize> =
        old.iter().enumerate().map(|(index, key)| (key, index)).collect();
    let kept: Vec<Option<usize>> = new.iter().map(|key| known.get(key).copied()).collect();
    let taken: BTreeSet<usize> = kept.iter().copied().flatten().collect();
    let mut others =
        (0..old.len()).filter(|index| !taken.contains(index) && is_free(*index)).chain(old.len()..NUMBERS_MAX);
    kept.into_iter().map(|number| number.or_else(|| others.next()).ok_or(IdsExhausted(what))).collect()
}

/// For each kind, the new ids by position in the new configuration.
struct Numbers {
    devices: Vec<usize>,
    links: Vec<usize>,
    groups: Vec<usize>,
    firewalls: Vec<usize>,
    peers: Vec<usize>,
    services: Vec<usize>,
    servers: Vec<usize>,
}

impl Numbers {
    fn apply(&self, new: Config, old: &Config) -> Config {
        let mut links = new.links;
        for link in &mut links {
            link.device = self.devices[link.device.index()].into();
        }
        let mut routes = new.routes;
        routes.iter_mut().for_each(|route| self.renumber_target(&mut route.target));
        let mut groups = new.groups;
        for group in &mut groups {
            group.firewalls.iter_mut().for_each(|id| *id = self.firewalls[id.index()].into());
            group.peers.iter_mut().for_each(|id| *id = self.peers[id.index()].into());
        }
        let mut firewalls = new.firewalls;
        for firewall in &mut firewalls {
            firewall.group = self.groups[firewall.group.index()].into();
            firewall.link = self.links[firewall.link.index()].into();
        }
        let mut peers = new.peers;
        peers.iter_mut().for_each(|peer| peer.group = self.groups[peer.group.index()].into());
        let mut services = new.services;
        for service in &mut services {
            service.servers.iter_mut().for_each(|id| *id = self.servers[id.index()].into());
        }
        let mut servers = new.servers;
        servers.iter_mut().for_each(|server| server.service = self.services[server.service.index()].into());
        Config {
            devices: place(new.devices, &self.devices, &old.devices, remove),
            links: place(links, &self.links, &old.links, |link| {
                remove(&mut link.name);
                link.addresses.clear();
                link.floating.clear();
            }),
            routes,
            groups: place(groups, &self.groups, &old.groups, |group| {
                remove(&mut group.name);
                group.firewalls.clear();
                group.peers.clear();
                group.min_up = 0;
                group.on_failure = OnFailure::Keep;
            }),
            firewalls: place(firewalls, &self.firewalls, &old.firewalls, |firewall| {
                remove(&mut firewall.name);
                firewall.addresses.clear();
                firewall.admin = AdminState::Maint;
            }),
            peers: place(peers, &self.peers, &old.peers, |peer| {
                remove(&mut peer.name);
                peer.addresses.clear();
                peer.engines.clear();
            }),
            services: place(services, &self.services, &old.services, |service| {
                remove(&mut service.name);
                service.addresses.clear();
                service.ports.clear();
                service.snat.clear();
                service.servers.clear();
                service.admin = AdminState::Maint;
            }),
            servers: place(servers, &self.servers, &old.servers, |server| {
                remove(&mut server.name);
                server.admin = AdminState::Maint;
            }),
            ..new
        }
    }

    fn renumber_target(&self, target: &mut RouteTarget) {
        let link_of = |link: &mut LinkId| *link = self.links[link.index()].into();
        match target {
            RouteTarget::Via { link, via: _ } => link_of(link),
            RouteTarget::Group { group, peer, firewall, bypass } => {
                *group = self.groups[group.index()].into();
                if let Some(peer) = peer {
                    *peer = self.peers[peer.index()].into();
                }
                if let Some(firewall) = firewall {
                    *firewall = self.firewalls[firewall.index()].into();
                }
                if let Some((link, _)) = bypass {
                    link_of(link);
                }
            }
        }
    }
}

/// Puts each entry of `new` at its id. An entry of `old` whose id is not taken is kept there, marked as removed.
fn place<T: Clone>(new: Vec<T>, numbers: &[usize], old: &[T], mut remove: impl FnMut(&mut T)) -> Vec<T> {
    let length = numbers.iter().map(|number| number + 1).max().unwrap_or(0).max(old.len());
    let mut places: Vec<Option<T>> = Vec::new();
    places.resize_with(length, || None);
    for (one, &number) in new.into_iter().zip(numbers) {
        places[number] = Some(one);
    }
    let filled = places.into_iter().enumerate().map(|(index, place)| {
        place.unwrap_or_else(|| {
            let mut left = old[index].clone();
            remove(&mut left);
            left
        })
    });
    filled.collect()
}

fn remove(name: &mut String) {
    if !is_removed(name) {
        name.push_str(REMOVED);
    }
}

#[cfg(test)]
mod tests;
