//! Takes services and servers over into another configuration: what stays keeps what is known of it.

use std::sync::Arc;

use super::services::{ServiceState, initial_records};
use super::{Farm, first_sticky_expiry, observe};
use crate::config::numbering::base_name;
use crate::config::{Config, Server, is_removed};
use crate::time::Instant;

impl Farm {
    /// Continues from what was known under `old`: positions, sticky clients, verdicts, failure counts, overrides and
    /// drains of what stays. What was removed counts as failed.
    pub(super) fn adopt_records(&mut self, old: &Config, now: Instant) {
        self.scheduler.forget_unused();
        let config = Arc::clone(&self.config);
        let (services, servers) = initial_records(&config, &self.scheduler, now);
        let services = std::mem::replace(&mut self.services, services);
        let servers = std::mem::replace(&mut self.servers, servers);
        for (index, record) in services.into_iter().enumerate() {
            let (was, is) = (&old.services[index], &config.services[index]);
            if base_name(&was.name) == base_name(&is.name) {
                let fresh = std::mem::replace(&mut self.services[index], record);
                let own = &mut self.services[index];
                own.table = fresh.table;
                if is_removed(&is.name) {
                    own.admin_override = None;
                }
                if was.admin != is.admin && own.admin_override.is_none() {
                    own.drain = fresh.drain;
                }
            }
        }
        for (index, record) in servers.into_iter().enumerate() {
            let (was, is) = (&old.servers[index], &config.servers[index]);
            let service_of =
                |config: &Config, server: &Server| base_name(&config.services[server.service.index()].name).to_owned();
            let same = base_name(&was.name) == base_name(&is.name) && service_of(old, was) == service_of(&config, is);
            if !same {
                continue;
            }
            let fresh = std::mem::replace(&mut self.servers[index], record);
            let own = &mut self.servers[index];
            match (is_removed(&was.name), is_removed(&is.name)) {
                (false, true) => {
                    own.failure_counts = own.failure_counts.map(|falls| falls.wrapping_add(1));
                    (own.up, own.is_starting) = ([false; 2], [false; 2]);
                    (own.admin_override, own.weight_override, own.state) = (None, None, ServiceState::Maint);
                    own.avoided = [None, None];
                }
                (true, false) => (own.state, own.since, own.reason) = (fresh.state, fresh.since, fresh.reason),
                (false, false) if was.admin != is.admin && own.admin_override.is_none() => own.drain = fresh.drain,
                (false, false) | (true, true) => {}
            }
        }
        self.next_observation = observe::first_observation(&config, now);
        self.next_sticky_expiry = first_sticky_expiry(&config, now).map(|due| self.next_sticky_expiry.unwrap_or(due));
    }
}
