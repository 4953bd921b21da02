//! Checks without an answer that say nothing about the server, because the engine itself was late or lost frames. The
//! monitor limits how many are excused, so that a dead server is found in at most twice the time.

use super::Farm;
use crate::id::LinkId;
use crate::time::Duration;

impl Farm {
    /// Excuses the running checks whose timeout is not longer than `lag`, the time by which the engine was late.
    pub(in crate::engine::controller::farm) fn excuse_checks(&mut self, lag: Duration) {
        if lag < self.checks.shortest_timeout {
            return;
        }
        for running in self.checks.running.values_mut() {
            running.excused |= lag >= running.prober.timeout();
        }
    }

    /// Excuses the running checks on these links, whose receive rings overflowed: an answer may be among the lost
    /// frames.
    pub(in crate::engine::controller) fn handle_ring_loss(&mut self, links: impl Iterator<Item = LinkId>) {
        let links: Vec<_> = links.collect();
        for running in self.checks.running.values_mut() {
            running.excused |= links.contains(&running.link);
        }
    }
}
