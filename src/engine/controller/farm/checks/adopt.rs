//! Takes checks over into another configuration: a server that stays keeps its verdict.

use std::collections::BTreeMap;

use super::{Requester, ServerCheck, Timer, server_checks};
use crate::config::numbering::base_name;
use crate::config::{Config, ServiceCheckKind, is_removed};
use crate::engine::controller::farm::Farm;
use crate::time::Instant;

impl Farm {
    /// Brings the checks in line with the configuration, which was `old`. The verdict about a server that stays is
    /// kept, also if it is checked in another way from now on; a check that was running in the old way is given up.
    pub(in crate::engine::controller::farm) fn adopt_checks(&mut self, old: &Config, now: Instant) {
        let before = std::mem::replace(&mut self.server_checks, server_checks(&self.config, now));
        let mut places = BTreeMap::new();
        for (place, known) in before.into_iter().enumerate() {
            self.checks.agenda.set(Timer::Monitor(place), None);
            let fits = |own: &ServerCheck| (own.server, own.family) == (known.server, known.family);
            let Some(index) = self.server_checks.iter().position(fits) else { continue };
            let service_of = |config: &Config| config.servers[known.server.index()].service;
            let was = &old.services[service_of(old).index()];
            let is = &self.config.services[service_of(&self.config).index()];
            // The id may have been given to another server.
            if base_name(&old.servers[known.server.index()].name) != self.config.servers[known.server.index()].name
                || is_removed(&old.servers[known.server.index()].name)
            {
                continue;
            }
            let same = was.check == is.check && was.mode == is.mode && was.addresses == is.addresses;
            let own = &mut self.server_checks[index];
            (own.monitor, own.history, own.outages) = (known.monitor, known.history, known.outages);
            if same {
                places.insert(place, index);
                continue;
            }
            own.monitor.reconfigure(&is.check, now);
            if is.check.kind == ServiceCheckKind::None {
                own.monitor.assume_up(now);
                own.outages.rise(now);
            }
        }
        let mut given_up = Vec::new();
        for (key, running) in &mut self.checks.running {
            if let Requester::Monitor(place) = &mut running.requester {
                match places.get(place) {
                    Some(index) => *place = *index,
                    None => given_up.push(*key),
                }
            }
        }
        for key in given_up {
            self.checks.running.remove(&key);
            self.checks.agenda.set(Timer::Check(key), None);
        }
        // Removed servers are not checked any more. For those that stay, ports may begin anywhere.
        self.checks.ports.forget();
        self.forget_suspicions();
        self.checks.verdict_changes += 1;
        self.schedule_checks();
    }
}
