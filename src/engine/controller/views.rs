//! What the controller knows, as the API shows it.

use std::collections::BTreeSet;

use super::Controller;
use super::journal::millis;
use crate::engine::{Counters, view};
use crate::neighbor::Neighbor;
use crate::time::Instant;

/// The reasons joined to one; `None` if there are none.
pub(super) fn joined(reasons: impl Iterator<Item = String>) -> Option<String> {
    let reasons: Vec<String> = reasons.collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

impl Controller {
    /// `show firewalls`, with the traffic of `counters` (all workers summed).
    pub fn firewalls(&self, counters: &Counters, now: Instant) -> Vec<view::FirewallView> {
        self.config.firewall_ids().map(|id| self.paths.firewall_view(id, counters, &self.links, now)).collect()
    }

    /// `show peers`.
    pub fn peers(&self, now: Instant) -> Vec<view::PeerView> {
        self.config.peer_ids().map(|id| self.paths.peer_view(id, now)).collect()
    }

    /// `show services`, with the traffic of `counters` (all workers summed).
    pub fn services(&self, counters: &Counters, now: Instant) -> Vec<view::ServiceView> {
        self.config.service_ids().map(|id| self.farm.service_view(id, counters, now)).collect()
    }

    /// `show neighbors`.
    pub fn neighbors(&self, now: Instant) -> Vec<view::NeighborView> {
        self.links.neighbors().iter().map(|neighbor| self.neighbor_view(&neighbor, now)).collect()
    }

    /// The active alarms.
    pub fn alarms(&self, now: Instant) -> Vec<view::AlarmView> {
        self.out.alarms(now)
    }

    /// What `fwlb set` overrides; the file of [`Config`](crate::config::Config) `state` keeps these.
    pub fn overrides(&self) -> Vec<view::OverrideView> {
        self.paths.overrides().chain(self.farm.overrides()).collect()
    }

    /// The controller's counters: `punt_drop_<reason>`, frames of its own sent, ICMP errors limited, probes.
    pub fn counters(&self) -> view::CountersView {
        self.counter_view()
    }

    /// The round trips of the answered probes, per path.
    pub fn probe_times(&self) -> Vec<view::ProbeView> {
        self.paths.probe_times()
    }

    /// How full the controller's tables are.
    pub fn tables(&self) -> Vec<view::TableView> {
        let limits = &self.config.limits;
        let table = |name: &str, used: usize, capacity: usize| view::TableView {
            name: name.to_owned(),
            used: used as u64,
            capacity: capacity as u64,
        };
        vec![
            table("neighbors", self.links.neighbors().len(), limits.neighbors),
            table("pending", self.links.neighbors().waiting(), limits.pending),
            table("sticky", self.farm.sticky_used(), limits.sticky),
        ]
    }

    /// The servers that checks found up, in each family.
    pub fn persisted_servers(&self) -> BTreeSet<view::PersistedServer> {
        self.farm.persisted_servers()
    }

    /// A number that changes with [`Controller::persisted_servers`].
    pub fn persisted_servers_version(&self) -> u64 {
        self.farm.persisted_servers_version()
    }

    fn neighbor_view(&self, neighbor: &Neighbor, now: Instant) -> view::NeighborView {
        let (link, address) = neighbor.key;
        view::NeighborView {
            engine: self.config.engine.name.clone(),
            address: address.to_string(),
            link: self.config.links[link.index()].name.clone(),
            mac: neighbor.mac.map(|mac| mac.to_string()),
            state: neighbor.state.into(),
            age_ms: neighbor.answered.map(|answered| millis(now.since(answered))),
        }
    }

    fn counter_view(&self) -> view::CountersView {
        let neighbors = self.links.neighbors().counters();
        let mut counters: view::CountersView =
            self.out.counts().map(|(name, count)| (name.to_owned(), count)).collect();
        counters.insert("punt_drop_neighbor_queue".to_owned(), neighbors.queue_full);
        counters.insert("punt_drop_neighbor_failed".to_owned(), neighbors.unanswered);
        counters.insert("punt_drop_neighbor_limited".to_owned(), neighbors.limited);
        counters.insert("neighbor_table_full".to_owned(), neighbors.table_full);
        counters.insert("neighbor_claims_refused".to_owned(), neighbors.claims_refused);
        counters.insert("neighbors".to_owned(), self.links.neighbors().len() as u64);
        counters
    }
}
