//! What the controller knows, in the shape that is served.

use super::Controller;
use super::journal::millis;
use crate::engine::view;
use crate::neighbor::Neighbor;
use crate::time::Instant;

/// Reasons as one; `None` if there are none.
pub(super) fn joined(reasons: impl Iterator<Item = String>) -> Option<String> {
    let reasons: Vec<String> = reasons.collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

impl Controller {
    pub(super) fn neighbor_view(&self, neighbor: &Neighbor, now: Instant) -> view::NeighborView {
        let (link, address) = neighbor.key;
        view::NeighborView {
            engine: self.config.engine.name.clone(),
            address: address.to_string(),
            link: self.config.links[link.index()].name.clone(),
            mac: neighbor.mac.map(|mac| mac.to_string()),
            state: neighbor.state.name().to_owned(),
            age_ms: neighbor.answered.map(|answered| millis(now.since(answered))),
        }
    }

    pub(super) fn counter_view(&self) -> view::CountersView {
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
