//! A new configuration: numbers of nodes and links follow their names, and what was said of those that are gone ends.

use super::{Machine, Peer};
use crate::ha::legs::Legs;
use crate::ha::out::{Out, Path, WitnessReport};
use crate::ha::score;
use crate::ha::settings::{HaConfig, LegConfig, LegId, NodeId};
use crate::time::Instant;

impl Machine {
    /// Takes a new configuration over. The role stays, and so does what is known of nodes and links that keep their
    /// names, wherever in the file they stand now.
    pub fn set_config(&mut self, config: HaConfig, now: Instant) -> Out {
        let mut out = self.awake(now);
        let knew_of_active = self.active.is_some() || self.router_down().is_some();
        self.renumber_nodes(&config);
        self.renumber_legs(&config);
        let is_other = config.legs != self.config.legs || config.nodes != self.config.nodes;
        if is_other || config.interval != self.config.interval {
            self.legs = Legs::new(&config, now);
            for leg in (0..config.legs.len()).map(|leg| LegId(leg as u16)) {
                self.legs.set_carrier(leg, score::has_carrier(&self.health, leg), now);
            }
        }
        self.pace.set_interval(config.interval);
        self.config = config;
        if knew_of_active && self.active.is_none() && self.router_down().is_none() {
            // Whoever was active is no node any more. It had the role until now, and is as silent as one that died.
            self.active = Some((self.config.me, now, self.config.interval));
        }
        self.settle(now, &mut out);
        out
    }

    fn renumber_nodes(&mut self, config: &HaConfig) {
        let places: Vec<_> = self.config.nodes.iter().map(|node| config.node_like(node)).collect();
        let place = |node: NodeId| places.get(node.index()).copied().flatten();
        let mut known = std::mem::take(&mut self.peers);
        for (node, settings) in config.others() {
            let kept = known.iter().position(|peer| place(peer.node) == Some(node));
            let mut peer = kept.map_or_else(|| Peer::new(node, settings), |index| known.swap_remove(index));
            (peer.node, peer.priority) = (node, settings.priority);
            peer.witness = peer.witness.map(|report| WitnessReport { node, ..report });
            self.peers.push(peer);
        }
        self.active = self.active.and_then(|(node, heard, interval)| Some((place(node)?, heard, interval)));
        if let Some(leaving) = &mut self.leaving {
            leaving.renumber(place);
        }
        let sync = &mut self.health.sync;
        sync.alarms.retain_mut(|(_, node, _)| place(*node).inspect(|new| *node = *new).is_some());
        sync.lacking = sync.lacking.iter().filter_map(|node| place(*node)).collect();
        for (_, change) in &mut self.history {
            change.reason.renumber(|node| place(node).unwrap_or(NodeId::GONE));
        }
    }

    fn renumber_legs(&mut self, config: &HaConfig) {
        let place = |leg: LegId| {
            let name = &self.config.legs.get(leg.index())?.name;
            config.legs.iter().position(|leg| leg.name == *name).map(|index| LegId(index as u16))
        };
        for peer in &mut self.peers {
            peer.paths.retain_mut(|(path, _)| match path {
                Path::Sync => true,
                Path::Leg(leg) => place(*leg).inspect(|new| *leg = *new).is_some(),
            });
            peer.routers.retain_mut(|router| place(router.leg).inspect(|new| router.leg = *new).is_some());
        }
        // What the engine said of its links stands until it says it anew, by their new numbers. Of a link that is new
        // nothing is known, which counts as carrier.
        let before = |leg: &LegConfig| self.config.legs.iter().position(|known| known.name == leg.name);
        let places: Vec<_> = config.legs.iter().map(before).collect();
        let health = &mut self.health;
        let carrier = places.iter().map(|at| at.and_then(|at| health.carrier.get(at).copied()).unwrap_or(true));
        health.carrier = carrier.collect();
        let link_local = places.iter().map(|at| at.and_then(|at| health.link_local.get(at).copied()).flatten());
        health.link_local = link_local.collect();
        self.stranger = self.stranger.and_then(|(leg, source, heard)| Some((place(leg)?, source, heard)));
        let forms = std::mem::take(&mut self.checksums);
        self.checksums =
            forms.into_iter().filter_map(|((leg, family), form)| Some(((place(leg)?, family), form))).collect();
    }
}
