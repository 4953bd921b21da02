//! Judges the flows of a cluster as those of single engines are judged (`docs/pinning.md`): one firewall for each, in both
//! directions, whoever is the router meanwhile. A takeover is no excuse for a flow that is at home, since the hash gives
//! the next router the same firewall; and a flow that is elsewhere has a copy, except while firewalls fail.

use std::collections::{BTreeMap, BTreeSet};

use crate::sim::check::frame;
use crate::sim::check::history::{FlowEvent, FlowHistory, HistoryEntry, LegalCauses, Restart};
use crate::sim::firewall::conntrack::Refusal;
use crate::sim::firewall::{FirewallLeg, JudgedPacket};
use crate::sim::host::FlowRef;
use crate::sim::packet::{Packet, Tuple, split_ethernet};
use crate::sim::sandwich::{SandwichPlan, firewall_mac, firewall_name};
use crate::sim::side::Side;
use crate::sim::sim_engine::{CableFrame, HandledFrame, SimEngine};
use crate::time::Instant;
use crate::wire::{Family, MacAddr};

use super::FIREWALLS;

/// The judge of all flows.
#[derive(Debug)]
pub struct FlowJudge {
    plan: SandwichPlan,
    histories: Vec<FlowHistory>,
    by_tuple: BTreeMap<Tuple, usize>,
    macs: BTreeMap<MacAddr, usize>,
    /// What excuses flows.
    pub causes: LegalCauses,
    views: BTreeMap<(Side, usize), NodeView>,
    reported: BTreeSet<(usize, &'static str)>,
    violations: Vec<String>,
}

/// The firewalls as a node saw them when it last forwarded.
#[derive(Debug, Default)]
struct NodeView {
    /// That of its snapshot; 0 for a node that does not forward.
    epoch: u64,
    /// The firewalls that were not up.
    down: BTreeSet<(usize, Family)>,
}

impl FlowJudge {
    const VIOLATIONS_MAX: usize = 20;

    /// No flow has been opened.
    pub fn new(plan: SandwichPlan) -> Self {
        let legs = |number| [FirewallLeg::Outside, FirewallLeg::Inside].map(|leg| (firewall_mac(number, leg), number));
        Self {
            macs: (0..plan.firewalls).flat_map(legs).collect(),
            plan,
            histories: Vec::new(),
            by_tuple: BTreeMap::new(),
            causes: LegalCauses::default(),
            views: BTreeMap::new(),
            reported: BTreeSet::new(),
            violations: Vec::new(),
        }
    }

    /// What was found.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// A flow is opened, to a service perhaps.
    pub fn opened(&mut self, flow: FlowRef, tuple: Tuple, service: Option<usize>, now: Instant) {
        self.by_tuple.insert(tuple.canonical(), self.histories.len());
        self.histories.push(FlowHistory { service, ..FlowHistory::new(flow, tuple, now) });
    }

    /// Another node of the side may be the router from here on, without what only the last one knew.
    pub fn shaken(&mut self, side: Side, at: Instant) {
        self.causes.restarts.push(Restart { side, at });
    }

    /// A node looks at the firewalls as it does, and is or is not the router.
    pub(super) fn sees(&mut self, (side, number): (Side, usize), engine: &SimEngine, is_router: bool, now: Instant) {
        let snapshot = engine.snapshot().filter(|_| is_router);
        let epoch = snapshot.map_or(0, |snapshot| snapshot.epoch);
        let known = self.views.entry((side, number)).or_default();
        if known.epoch == epoch {
            return;
        }
        let mut down = BTreeSet::new();
        for set in snapshot.iter().flat_map(|snapshot| &snapshot.path_sets) {
            let members = snapshot.map(|snapshot| &snapshot.groups[set.group.index()].members[..]).unwrap_or_default();
            for (slot, member) in members.iter().enumerate() {
                let firewall = (0..self.plan.firewalls).find(|number| firewall_name(*number) == member.name);
                if set.up & set.selectable & (1 << slot) == 0 {
                    down.extend(firewall.map(|firewall| (firewall, set.family)));
                }
            }
        }
        let before = std::mem::replace(known, NodeView { epoch, down: down.clone() }).down;
        let why = |family: Family| format!("not up for {family} in {}", super::node_name(side, number));
        for (firewall, family) in before.difference(&down) {
            self.causes.end(*firewall, &why(*family), now);
        }
        for (firewall, family) in down.difference(&before) {
            self.causes.begin(*firewall, &why(*family), now);
        }
    }

    /// A node decided about a frame: what it forwards is unchanged, but for translations.
    pub fn handled(&mut self, handled: &HandledFrame, now: Instant) {
        let parse = |frame: &CableFrame| split_ethernet(&frame.bytes).and_then(|(.., payload)| Packet::parse(payload));
        let Some(before) = parse(&handled.before) else { return };
        let Some(number) = self.find(before.tuple()) else { return };
        if self.histories[number].service.is_none() {
            if let Some(wrong) = frame::transparent(handled) {
                self.violate(number, "transparency", wrong, now);
            }
        } else if let Some(after) = parse(&handled.after) {
            // A translated tuple is another name of the flow.
            self.by_tuple.entry(after.tuple().canonical()).or_insert(number);
        }
    }

    /// A node sent a frame.
    pub fn sent(&mut self, side: Side, link: usize, frame: &CableFrame, now: Instant) {
        let Some((destination, _, _, payload)) = split_ethernet(&frame.bytes) else { return };
        let Some(packet) = Packet::parse(payload) else { return };
        let Some(number) = self.find(packet.tuple()) else { return };
        if link != FIREWALLS {
            self.record(number, packet.tcp_flags(), FlowEvent::ToHost(side), now);
            return;
        }
        let Some(firewall) = self.macs.get(&destination).copied() else {
            return self.violate(
                number,
                "no frame leaks",
                format!("{} was sent to {destination}", packet.tuple()),
                now,
            );
        };
        let is_new = self.record(number, packet.tcp_flags(), FlowEvent::ToFirewall(side, firewall), now);
        let story = &self.histories[number];
        if is_new && story.firewalls.len() > 1 && self.causes.firewall_cause(story, &self.plan).is_none() {
            let what = format!("{} took {} too", story.tuple, firewall_name(firewall));
            self.violate(number, "persistence", what, now);
        }
    }

    /// A firewall decided about a packet.
    pub fn passed(&mut self, firewall: usize, sighting: &JudgedPacket) {
        let original = sighting.original.and_then(|tuple| self.find(tuple));
        let Some(number) = original.or_else(|| self.find(sighting.tuple)) else { return };
        let what = sighting.refusal.map_or(FlowEvent::Passed(firewall), |why| FlowEvent::Refused(firewall, why));
        self.record(number, sighting.flags, what, sighting.at);
        if !matches!(sighting.refusal, Some(Refusal::Invalid | Refusal::NewNotSyn | Refusal::Policy)) {
            return;
        }
        let story = &self.histories[number];
        // After a packet was lost, the ends may be out of step although the firewall is the right one.
        let is_aftermath = story.lost && story.firewalls.len() == 1;
        if !is_aftermath && self.causes.firewall_cause(story, &self.plan).is_none() {
            let name = firewall_name(firewall);
            let what = format!("{name} refused {} as {:?}", sighting.tuple, sighting.refusal);
            self.violate(number, "symmetry", what, sighting.at);
        }
    }

    /// A packet was lost.
    pub fn lost(&mut self, tuple: Tuple, now: Instant) {
        if let Some(number) = self.find(tuple) {
            self.record(number, None, FlowEvent::Lost, now);
        }
    }

    /// No flow changes its firewall for ever.
    pub fn moves(&mut self, now: Instant) {
        let faults = self.causes.disturbances.len() + self.causes.restarts.len();
        let bound = (4 * self.plan.firewalls + 6 + 2 * faults) as u32;
        for number in 0..self.histories.len() {
            let moves = self.histories[number].moves();
            if moves > bound {
                self.violate(number, "no endless moves", format!("{moves} moves"), now);
            }
        }
    }

    fn find(&self, tuple: Tuple) -> Option<usize> {
        self.by_tuple.get(&tuple.canonical()).copied()
    }

    fn record(&mut self, number: usize, flags: Option<u8>, what: FlowEvent, at: Instant) -> bool {
        self.histories[number].record(HistoryEntry { at, flags, what })
    }

    fn violate(&mut self, number: usize, promise: &'static str, what: String, now: Instant) {
        if self.reported.insert((number, promise)) && self.violations.len() < Self::VIOLATIONS_MAX {
            let lines = self.histories[number].lines().join("\n    ");
            let at = now.as_nanos() as f64 / 1e9;
            self.violations.push(format!("{at:.3} s  {promise}: {what}\n    {lines}"));
        }
    }
}

#[cfg(test)]
mod tests;
