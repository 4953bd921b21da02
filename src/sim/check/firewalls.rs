//! Checks the firewalls: what they let pass and refuse, and whether the engines see them as they are.

use crate::sim::check::Checkers;
use crate::sim::check::history::{FlowEvent, HistoryEntry};
use crate::sim::firewall::JudgedPacket;
use crate::sim::firewall::conntrack::Refusal;
use crate::sim::sandwich::firewall_name;
use crate::sim::side::Side;
use crate::sim::world::{NodeId, World};
use crate::time::Duration;

impl Checkers {
    /// Notes in the flow's history what a firewall did with a packet, and judges what it refused.
    pub(super) fn check_firewall_packet(&mut self, node: NodeId, sighting: JudgedPacket) {
        let Some(firewall) = self.nodes.firewalls.iter().position(|firewall| *firewall == node) else { return };
        let Some(number) = sighting.original.and_then(|tuple| self.find(tuple)).or_else(|| self.find(sighting.tuple))
        else {
            return;
        };
        // A translated tuple is another name of the flow.
        for name in [Some(sighting.tuple), sighting.translated].into_iter().flatten() {
            self.by_tuple.entry(name.canonical()).or_insert(number);
        }
        let what = match sighting.refusal {
            None => FlowEvent::Passed(firewall),
            Some(refusal) => FlowEvent::Refused(firewall, refusal),
        };
        self.histories[number].record(HistoryEntry { at: sighting.at, flags: sighting.flags, what });
        match sighting.refusal {
            Some(Refusal::Invalid | Refusal::NewNotSyn | Refusal::Policy) => {
                self.out_of_state(number, firewall, sighting);
            }
            Some(Refusal::Damaged) if !self.damaging => {
                let what = format!("{} got a wrong checksum: {}", firewall_name(firewall), sighting.tuple);
                self.violate(sighting.at, "transparency", what, Some(number));
            }
            Some(Refusal::Damaged | Refusal::Ttl | Refusal::NoRoute | Refusal::ProbeBlocked) | None => {}
        }
    }

    /// A firewall saw only a part of a conversation, which is a violation without a legal cause.
    fn out_of_state(&mut self, number: usize, firewall: usize, sighting: JudgedPacket) {
        let story = &self.histories[number];
        let excuse = self.causes.firewall_cause(story, &self.plan);
        // After a packet was lost, the ends may be out of step although the firewall is the right one.
        let aftermath = (story.lost && story.firewalls.len() == 1).then(|| "a packet was lost".to_owned());
        match excuse.or(aftermath) {
            Some(excuse) => *self.legal_drops.entry(excuse).or_default() += 1,
            None => {
                let refusal = sighting.refusal;
                let what = format!("{} refused {} as {refusal:?}", firewall_name(firewall), sighting.tuple);
                self.violate(sighting.at, "symmetry", what, Some(number));
            }
        }
    }

    /// Compares an engine's view of the firewalls with the truth: a firewall that is not up is a disturbance, and needs
    /// a cause.
    pub(super) fn check_firewall_states(&mut self, world: &World, side: Side) {
        let Some(snapshot) = world.engine(self.nodes.engine(side)).snapshot() else { return };
        if snapshot.epoch == self.epochs[side as usize] {
            return;
        }
        self.epochs[side as usize] = snapshot.epoch;
        let now = world.now();
        self.check_server_states(snapshot, side, now);
        let mut changes = Vec::new();
        for set in &snapshot.path_sets {
            let group = &snapshot.groups[set.group.index()];
            for (slot, member) in group.members.iter().enumerate() {
                let Some(firewall) = (0..self.plan.firewalls).find(|n| firewall_name(*n) == member.name) else {
                    continue;
                };
                let bit = 1 << slot;
                let (v4, up) = (set.family == crate::wire::Family::V4, set.up & set.selectable & bit != 0);
                changes.push((firewall, v4, up, set.starting & bit != 0, set.up & bit != 0));
            }
        }
        for (firewall, v4, up, starting, live) in changes {
            let why = format!("not up for {} in {}", if v4 { "ipv4" } else { "ipv6" }, side.name());
            let before = self.views[side as usize].insert((firewall, v4), up).unwrap_or(false);
            if up {
                self.causes.end(firewall, &why, now);
            } else if !starting {
                self.causes.begin(firewall, &why, now);
            }
            let quiet = self.undisturbed_since.is_some_and(|since| now.since(since) > Duration::from_secs(3));
            if before && !live && quiet && !starting {
                let what = format!("{}: {} declared down without a fault", side.name(), firewall_name(firewall));
                self.violate(now, "no false alarm", what, None);
            }
        }
    }
}
