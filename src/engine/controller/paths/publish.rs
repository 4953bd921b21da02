//! What the forwarders look at of groups, firewalls and peers.

use std::net::IpAddr;

use super::Paths;
use crate::config::Config;
use crate::engine::Snapshot;
use crate::engine::snapshot::Firewall;
use crate::flow::FlowHasher;
use crate::id::GroupId;
use crate::path::{FirewallGroup, GroupMember};
use crate::wire::Family;

/// The groups in the form that the selection of a firewall needs.
pub(super) fn groups(config: &Config) -> Vec<FirewallGroup> {
    let groups = config.groups.iter().enumerate().map(|(index, group)| FirewallGroup {
        id: GroupId::from(index),
        name: group.name.clone(),
        hasher: FlowHasher::new(group.seed, group.hash).with_affinity(group.affinity.iter().copied().collect()),
        members: group
            .firewalls
            .iter()
            .map(|id| {
                let firewall = &config.firewalls[id.index()];
                GroupMember { id: *id, name: firewall.name.clone(), weight: firewall.weight, spare: firewall.spare }
            })
            .collect(),
        on_failure: group.on_failure,
        min_up: group.min_up,
        below_min: group.below_min,
        has_mates: config.ha.as_ref().is_some_and(|ha| ha.nodes.len() > 1),
    });
    groups.collect()
}

impl Paths {
    /// Writes groups, firewalls, peers and live sets into a snapshot that has none.
    pub(in super::super) fn fill_snapshot(&self, snapshot: &mut Snapshot) {
        snapshot.groups = self.groups.clone();
        snapshot.path_sets = self.liveness.sets().to_vec();
        snapshot.set_keys = self.set_keys.clone();
        snapshot.firewalls = self.snapshot_firewalls();
        snapshot.peers = self.config.peers.iter().map(|peer| peer.name.clone()).collect();
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
