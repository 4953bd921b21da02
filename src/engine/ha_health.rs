//! What the engine sees of itself, as the role machine counts it: links, firewalls, next hops, services.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{Config, RouteTarget, is_removed};
use crate::engine::Snapshot;
use crate::engine::snapshot::Link;
use crate::ha::{GatewayHealth, GroupHealth, Health};
use crate::path::{AdminState, FirewallGroup, PathSet};
use crate::slb::{Availability, Server, Service};

/// The health of the engine in a snapshot. Faults of threads and copies of sessions are left to the caller. What an
/// operator took out of service counts neither as alive nor as lost, and what has no verdict yet counts as alive.
pub fn ha_health(config: &Config, snapshot: &Snapshot) -> Health {
    let is_up = |link: &Link| link.up;
    let serving = snapshot.services.all().iter().filter(|of| !is_removed(&of.name) && of.accepts_new_sessions);
    Health {
        carrier: config.legs().map(|id| snapshot.links.get(id.index()).is_some_and(is_up)).collect(),
        link_local: config.legs().map(|id| link_local(snapshot.links.get(id.index())?)).collect(),
        groups: groups(snapshot),
        gateways: gateways(config, snapshot),
        services: count(serving.clone()),
        services_down: count(serving.filter(|service| is_down(service))),
        ..Health::default()
    }
}

fn link_local(link: &Link) -> Option<IpAddr> {
    let is_link_local = |own: &IpAddr| matches!(own, IpAddr::V6(own) if own.is_unicast_link_local());
    link.addresses.iter().map(IpNet::addr).find(is_link_local)
}

fn groups(snapshot: &Snapshot) -> Vec<GroupHealth> {
    let present = snapshot.groups.iter().filter(|group| !group.members.is_empty());
    let worst = |group: &FirewallGroup| {
        let sets = snapshot.path_sets.iter().filter(|set| set.group == group.id);
        let health = sets.map(|set| one_set(snapshot, group, set));
        // The greater share of the weights is the worse one.
        health.max_by(|a, b| {
            let share = |one: &GroupHealth, other: &GroupHealth| u64::from(one.down) * u64::from(other.weight.max(1));
            (a.is_below_min, share(a, b)).cmp(&(b.is_below_min, share(b, a)))
        })
    };
    present.filter_map(worst).collect()
}

fn one_set(snapshot: &Snapshot, group: &FirewallGroup, set: &PathSet) -> GroupHealth {
    let (mut down, mut weight) = (0, 0);
    for (slot, member) in group.members.iter().enumerate().filter(|(_, member)| !member.spare) {
        let Some(firewall) = snapshot.firewalls.get(member.id.index()) else { continue };
        if firewall.next_hop(set.family).is_none() || firewall.admin == AdminState::Maint {
            continue;
        }
        weight += u32::from(member.weight);
        if (set.up | set.starting) & (1 << slot) == 0 {
            down += u32::from(member.weight);
        }
    }
    GroupHealth { name: group.name.clone(), down, weight, is_below_min: set.below_min(group) }
}

fn gateways(config: &Config, snapshot: &Snapshot) -> Vec<GatewayHealth> {
    let mut links: BTreeMap<_, bool> = BTreeMap::new();
    for route in &config.routes {
        match &route.target {
            RouteTarget::Via { link, via } => {
                *links.entry(*link).or_default() |= snapshot.neighbor(*link, *via).is_some()
            }
            RouteTarget::Group { .. } => {}
        }
    }
    let view = |(link, answers): (crate::id::LinkId, bool)| GatewayHealth {
        link: config.links[link.index()].name.clone(),
        answers,
    };
    links.into_iter().map(view).collect()
}

/// True if checks found the servers down that an operator left in service, and there are such.
fn is_down(service: &Service) -> bool {
    let states = || service.servers.iter().filter(|server| !server.is_removed).map(Server::availability);
    let is_down_or_out = |state| matches!(state, Availability::Down | Availability::Maint);
    states().all(is_down_or_out) && states().any(|state| state == Availability::Down)
}

fn count<T>(things: impl Iterator<Item = T>) -> u32 {
    u32::try_from(things.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use crate::engine::testbed::{self, Side};
    use crate::id::LinkId;
    use crate::wire::MacAddr;

    const ENGINE: &str = r#"
[engine]
name = "outer"
[[link]]
name = "internet"
device = "eth0"
addresses = "198.51.100.2/24"
[[link]]
name = "spare"
device = "eth9"
[[link]]
name = "firewalls"
device = "eth1"
addresses = "10.1.0.2/24"
[[route]]
to = "0.0.0.0/0"
via = "198.51.100.254"
[[route]]
to = "10.9.0.0/16"
via = "198.51.100.253"
"#;

    fn config() -> Config {
        load("outer.toml", ENGINE, &mut |_| Err("no file".to_owned())).config.expect("it is valid")
    }

    /// A snapshot with these links up, in the order of the file, and with `firewalls` in a group.
    fn snapshot(up: [bool; 3], firewalls: u16) -> Snapshot {
        let mut snapshot = testbed::snapshot(Side::Outer, firewalls);
        let link = snapshot.links[0].clone();
        snapshot.links = up.map(|up| Link { up, ..link.clone() }).to_vec();
        snapshot.neighbors.clear();
        snapshot
    }

    #[test]
    fn carrier_is_that_of_links_with_addresses() {
        let health = ha_health(&config(), &snapshot([true, false, false], 0));
        assert_eq!(health.carrier, [true, false], "the spare link is no leg");
        let mut spoken = snapshot([true; 3], 0);
        spoken.links[2].addresses =
            ["2001:db8::2/64", "fe80::2/64", "fe80::3/64"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(ha_health(&config(), &spoken).link_local[1], Some("fe80::2".parse().unwrap()));
    }

    #[test]
    fn a_link_answers_if_one_of_its_next_hops_does() {
        let mut snapshot = snapshot([true; 3], 0);
        let answers = |snapshot: &Snapshot| ha_health(&config(), snapshot).gateways;
        assert_eq!(answers(&snapshot), [GatewayHealth { link: "internet".to_owned(), answers: false }]);
        let via: IpAddr = "198.51.100.253".parse().unwrap();
        snapshot.neighbors.insert((LinkId(0), via), MacAddr([2, 0, 0, 0, 0, 9]));
        assert!(answers(&snapshot)[0].answers);
    }

    #[test]
    fn a_group_is_as_ill_as_its_worst_path_set_without_what_is_in_maintenance() {
        let mut snapshot = snapshot([true; 3], 4);
        let worst = |snapshot: &Snapshot| ha_health(&config(), snapshot).groups.pop().map(|one| (one.down, one.weight));
        assert_eq!(worst(&snapshot), Some((0, 4)));
        snapshot.path_sets[1].up = 0b0011;
        assert_eq!(worst(&snapshot), Some((2, 4)));
        snapshot.path_sets[1].starting = 0b0100;
        assert_eq!(worst(&snapshot), Some((1, 4)), "without a verdict it counts as alive");
        snapshot.firewalls[3].admin = AdminState::Maint;
        assert_eq!(worst(&snapshot), Some((0, 3)), "who is in maintenance is not missed");
    }
}
