//! Silence that says nothing about a server, as the engine itself was late or lost frames. A monitor says how often that is
//! believed, so that a dead server is found in twice the time whatever the engine suffers from.

use super::Controller;
use crate::id::LinkId;
use crate::time::{Duration, Instant};

impl Controller {
    /// The engine was late by `lag` (or lost punts): silence within a shorter time says nothing about a server.
    pub(in crate::engine::controller) fn excuse_checks(&mut self, lag: Duration) {
        // Most calls are punctual, and no check is given less time than this.
        if lag < Duration::from_millis(1) {
            return;
        }
        for running in self.checks.running.values_mut() {
            running.excused |= lag >= running.prober.timeout();
        }
    }

    /// Frames of these links were lost before anybody looked at them: a server that is asked there may have answered.
    pub fn handle_ring_loss(&mut self, links: impl Iterator<Item = LinkId>, now: Instant) {
        let links: Vec<_> = links.collect();
        for running in self.checks.running.values_mut() {
            running.excused |= links.contains(&running.link);
        }
        self.finish(now);
    }
}
