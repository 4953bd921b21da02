//! Verdicts about paths that another program hands over.

use super::super::links::Links;
use super::super::outbox::Outbox;
use super::Paths;
use crate::engine::handover::InheritedPath;
use crate::health::monitor::HealthState;
use crate::time::Instant;

impl Paths {
    /// The paths that have a verdict.
    pub(in super::super) fn inheritance(&self) -> Vec<InheritedPath> {
        let with_verdict = self.paths.iter().filter(|path| path.monitor.state() != HealthState::Starting);
        let told = with_verdict.map(|path| InheritedPath {
            firewall: self.config.firewall_name(path.key.firewall),
            peer: self.config.peers[path.key.peer.index()].name.clone(),
            family: path.key.family,
            up: path.monitor.state() == HealthState::Up,
        });
        told.collect()
    }

    /// Gives these verdicts to paths that have none. Returns how many are up by that.
    pub(in super::super) fn inherit(
        &mut self,
        known: &[InheritedPath],
        links: &Links,
        now: Instant,
        out: &mut Outbox,
    ) -> usize {
        let mut up = 0;
        for index in 0..self.paths.len() {
            let path = &self.paths[index];
            let (firewall, peer) =
                (self.config.firewall_name(path.key.firewall), &self.config.peers[path.key.peer.index()].name);
            let is_it =
                |one: &&InheritedPath| one.firewall == firewall && one.peer == *peer && one.family == path.key.family;
            let Some(verdict) = known.iter().find(is_it) else { continue };
            let before = path.monitor.state();
            if before != HealthState::Starting {
                continue;
            }
            up += usize::from(verdict.up);
            let monitor = &mut self.paths[index].monitor;
            let changed = if verdict.up { monitor.force_up(now) } else { monitor.force_down(now) };
            if let Some(after) = changed {
                self.path_changed(index, before, after, links, out);
                if after == HealthState::Down {
                    self.paths[index].reason = Some("the program before this one found it down".to_owned());
                }
            }
        }
        up
    }
}
