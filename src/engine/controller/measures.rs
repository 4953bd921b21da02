//! What the controller measures beside what it counts.

use super::Controller;
use super::judgement::family_name;
use crate::engine::view::{ProbeView, TableView};

impl Controller {
    /// The round trips of the answered probes, per path.
    pub fn probe_times(&self) -> Vec<ProbeView> {
        let views = self.paths.iter().map(|path| {
            let firewall = &self.config.firewalls[path.key.firewall.index()];
            ProbeView {
                group: self.config.groups[firewall.group.index()].name.clone(),
                firewall: firewall.name.clone(),
                peer: self.config.peers[path.key.peer.index()].name.clone(),
                family: family_name(path.key.family).to_owned(),
                rtt: path.rtts.view(),
            }
        });
        views.collect()
    }

    /// How full the controller's tables are.
    pub fn tables(&self) -> Vec<TableView> {
        let limits = &self.config.limits;
        let table = |name: &str, used: usize, capacity: usize| TableView {
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
}
