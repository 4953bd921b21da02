//! What outlives a restart: which servers were up. Any other server is checked as if it were unknown, so that it is up
//! with its first passed check.

use std::collections::BTreeSet;

use super::exchange::check_port;
use crate::config::ServiceCheckKind;
use crate::engine::controller::farm::Farm;
use crate::engine::controller::outbox::Outbox;
use crate::engine::view::PersistedServer;
use crate::health::monitor::HealthState;
use crate::time::Instant;

impl Farm {
    /// The servers that checks found up, in each family.
    pub(in crate::engine::controller) fn persisted_servers(&self) -> BTreeSet<PersistedServer> {
        let up =
            (0..self.server_checks.len()).filter(|index| self.server_checks[*index].monitor.state() == HealthState::Up);
        up.filter_map(|index| self.persisted_server(index)).collect()
    }

    /// A number that changes with [`Farm::persisted_servers`].
    pub(in crate::engine::controller) fn persisted_servers_version(&self) -> u64 {
        self.checks.verdict_changes
    }

    /// These servers were up just before the restart. They count as up until their checks say otherwise; the checks
    /// begin at once all the same. Returns how many of them this configuration has that have no verdict yet.
    pub(in crate::engine::controller) fn assume_up(
        &mut self,
        known: &BTreeSet<PersistedServer>,
        now: Instant,
        out: &mut Outbox,
    ) -> usize {
        let mut taken = 0;
        for index in 0..self.server_checks.len() {
            let is_known = self.persisted_server(index).is_some_and(|server| known.contains(&server));
            if is_known && self.server_checks[index].monitor.state() == HealthState::Starting {
                let changed = self.server_checks[index].monitor.inherit(now);
                self.verdict_changed(index, changed, now, out);
                self.schedule_monitor(index);
                taken += 1;
            }
        }
        taken
    }

    /// A server in one family, as it is kept over a restart; `None` if it is not checked.
    fn persisted_server(&self, index: usize) -> Option<PersistedServer> {
        let check = &self.server_checks[index];
        let service = self.service_of(check.server);
        if service.check.kind == ServiceCheckKind::None {
            return None;
        }
        Some(PersistedServer {
            server: self.config.server_name(check.server),
            family: check.family,
            address: self.config.address_for(check.server, check.family)?,
            port: check_port(service, self.config.servers[check.server.index()].port),
        })
    }
}
