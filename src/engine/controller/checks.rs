//! The checks of real servers: when they begin, what comes back, what follows.

use super::Controller;
use crate::config::{Config, ServiceCheckKind};
use crate::health::service_monitor::ServiceMonitor;
use crate::id::ServerId;
use crate::time::Instant;
use crate::wire::Family;

/// A server in one family, and what its checks say.
#[derive(Debug)]
pub(super) struct ServerCheck {
    pub(super) server: ServerId,
    pub(super) family: Family,
    pub(super) monitor: ServiceMonitor,
}

/// All checks at rest; those of one pace are spread over it.
pub(super) fn checks(config: &Config, now: Instant) -> Vec<ServerCheck> {
    let mut ends: Vec<(ServerId, Family)> = Vec::new();
    for (index, server) in config.servers.iter().enumerate() {
        let mut families: Vec<Family> = server.addresses.iter().map(|address| Family::of(*address)).collect();
        families.sort_unstable_by_key(|family| crate::slb::family_index(*family));
        families.dedup();
        ends.extend(families.into_iter().map(|family| (ServerId::from(index), family)));
    }
    let count = u32::try_from(ends.len()).unwrap_or(u32::MAX).max(1);
    let checks = ends.into_iter().zip(0..).map(|((server, family), place): (_, u32)| {
        let check = &config.services[config.servers[server.index()].service.index()].check;
        let mut monitor = ServiceMonitor::new(check, now + check.interval / count * place, now);
        if check.kind == ServiceCheckKind::None {
            monitor.trust(now);
        }
        ServerCheck { server, family, monitor }
    });
    checks.collect()
}

impl Controller {
    /// The checks of a server, IPv4 first.
    pub(super) fn checks_of(&self, id: ServerId) -> impl Iterator<Item = &ServerCheck> {
        self.checks.iter().filter(move |check| check.server == id)
    }

    pub(super) fn start_checks(&mut self, _server: ServerId, _now: Instant) -> Vec<u64> {
        Vec::new()
    }
}
