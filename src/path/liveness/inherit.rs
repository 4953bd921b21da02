//! Keeps what is known when the configuration changes: verdicts, lost peers, drains and failure counts of everything
//! that stays.

use super::{Liveness, LivenessConfig};
use crate::id::GroupId;
use crate::path::Slots;
use crate::time::Instant;

impl Liveness {
    /// Continues with another configuration, in which the same ids must mean the same things. New members and paths are
    /// starting, and members that were removed count as failed. [`Liveness::evaluate`] has to be called afterwards.
    pub fn apply(&mut self, config: LivenessConfig, now: Instant) {
        let old = std::mem::replace(self, Self::initial(config, now));
        self.inherit_firewalls(&old);
        self.inherit_peer_paths(&old);
        self.inherit_sets(old);
    }

    fn inherit_firewalls(&mut self, old: &Self) {
        for (own, old) in self.firewalls.iter_mut().zip(&old.firewalls) {
            let (Some(own), Some(old)) = (own, old) else { continue };
            (own.effective, own.deadline, own.deadline_passed) = (old.effective, old.deadline, old.deadline_passed);
            (own.is_link_down, own.silent, own.status) = (old.is_link_down, old.silent, old.status);
        }
        for (own, old) in self.peers.iter_mut().zip(&old.peers) {
            if own.is_some() && old.is_some() {
                *own = *old;
            }
        }
    }

    fn inherit_peer_paths(&mut self, old: &Self) {
        for index in 0..self.peer_paths.len() {
            let (group, peer, family) =
                (self.peer_paths[index].group, self.peer_paths[index].peer, self.peer_paths[index].family);
            let moved = self.slot_mapper(old, group);
            let before = |leg: &&super::PeerPaths| leg.group == group && leg.family == family;
            match old.peer_paths.iter().filter(before).find(|leg| leg.peer == peer) {
                Some(leg) => self.peer_paths[index].inherit(leg, moved),
                None => self.peer_paths[index].is_required = !old.peer_paths.iter().any(|leg| before(&leg)),
            }
        }
        // If all peers whose paths were required are gone, those of the new ones are required.
        for index in 0..self.peer_paths.len() {
            let (group, family) = (self.peer_paths[index].group, self.peer_paths[index].family);
            let mut beside = self.peer_paths.iter().filter(|leg| leg.group == group && leg.family == family);
            if !beside.any(|leg| leg.is_required) {
                self.peer_paths[index].is_required = true;
            }
        }
    }

    fn inherit_sets(&mut self, old: Self) {
        self.departed = old.departed.clone();
        for (index, before) in old.sets.iter().enumerate() {
            let id = index.into();
            let Some(key) = self.set_keys.get(index).copied().filter(|key| key.group == before.group) else { continue };
            let moved = self.slot_mapper(&old, key.group);
            let members =
                |of: &Self| of.groups.get(key.group.index()).map_or(Vec::new(), |group| group.members.clone());
            let (was, is) = (members(&old), members(self));
            for (slot, (firewall, _)) in was.iter().enumerate() {
                self.departed.insert((id, *firewall), before.failure_count(slot).wrapping_add(1));
            }
            for (slot, (firewall, _)) in is.iter().enumerate() {
                let Some(falls) = self.departed.remove(&(id, *firewall)) else { continue };
                let stayed = was.iter().any(|(other, _)| other == firewall);
                self.sets[index].failure_counts[slot] = if stayed { falls.wrapping_sub(1) } else { falls };
            }
            let set = &mut self.sets[index];
            (set.up, set.selectable, set.starting) =
                (moved(before.up), moved(before.selectable), moved(before.starting));
            self.carried[index] = moved(old.carried[index]);
            self.below_min[index] = old.below_min[index];
        }
    }

    /// A function that moves slots of a group to the positions that their firewalls have in this configuration.
    fn slot_mapper(&self, old: &Self, group: GroupId) -> impl Fn(Slots) -> Slots + use<> {
        let members = |of: &Self| of.groups.get(group.index()).map_or(Vec::new(), |group| group.members.clone());
        let (was, is) = (members(old), members(self));
        let moves: Vec<(Slots, Slots)> = was
            .iter()
            .enumerate()
            .filter_map(|(from, (firewall, _))| {
                let to = is.iter().position(|(id, _)| id == firewall)?;
                Some((1 << from, 1 << to))
            })
            .collect();
        move |slots| moves.iter().filter(|(from, _)| slots & from != 0).fold(0, |all, (_, to)| all | to)
    }
}
