//! Builds what the forwarders look at from what is known of services and servers. A change builds only the service that
//! it concerns.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Farm;
use crate::config::numbering::base_name;
use crate::config::{AdminState, Scheduler, is_removed};
use crate::id::{ServerId, ServiceId};
use crate::slb::{self, Maglev, RotationMembersByFamily, Services};
use crate::wire::Family;

impl Farm {
    /// Builds the services that have changed since the last snapshot, and no others. Returns how many servers those
    /// have.
    pub(in super::super) fn refresh(&mut self) -> usize {
        let stale = std::mem::take(&mut self.stale);
        let count = self.config.services.len();
        let is_whole = stale.len() == count || self.built.all().len() != count;
        let ids: Vec<ServiceId> = match is_whole {
            true => (0..count).map(ServiceId::from).collect(),
            false => stale.into_iter().collect(),
        };
        // Servers that only sessions know come after the others, where schedulers never reach them.
        let mut removed: BTreeMap<ServiceId, Vec<ServerId>> = BTreeMap::new();
        for (index, server) in self.config.servers.iter().enumerate().filter(|(_, server)| is_removed(&server.name)) {
            removed.entry(server.service).or_default().push(index.into());
        }
        let removed = |id: &ServiceId| removed.get(id).map_or(&[][..], Vec::as_slice);
        let services: Vec<slb::Service> = ids.into_iter().map(|id| self.build_service(id, removed(&id))).collect();
        let servers = services.iter().map(|service| service.servers.len()).sum();
        self.built = if is_whole { Services::new(services) } else { self.built.with_states(services) };
        servers
    }

    fn build_service(&mut self, id: ServiceId, removed: &[ServerId]) -> slb::Service {
        let table = self.service_table(id);
        let service = &self.config.services[id.index()];
        slb::Service {
            id,
            name: service.name.clone(),
            addresses: service.addresses.clone(),
            protocols: service.protocols.clone(),
            ports: service.ports.clone(),
            scheduler: service.scheduler,
            mode: service.mode,
            snat: service.snat.clone(),
            sticky: service.sticky,
            on_failure_tcp: service.on_failure_tcp,
            on_failure_udp: service.on_failure_udp,
            accepts_new_sessions: self.service_admin(id) == AdminState::Ready,
            servers: service.servers.iter().chain(removed).map(|server| self.build_server(*server)).collect(),
            table,
            rotation_members: RotationMembersByFamily::default(),
            state: self.scheduler.service(base_name(&service.name)),
        }
    }

    fn build_server(&self, id: ServerId) -> slb::Server {
        let server = &self.config.servers[id.index()];
        let record = &self.servers[id.index()];
        let observes = self.observes(id);
        for family in [Family::V4, Family::V6] {
            record.persistent_state.observed(family).set_enabled(observes);
        }
        let of = |family| self.config.address_for(id, family);
        let is_removed = is_removed(&server.name);
        slb::Server {
            id,
            name: server.name.clone(),
            v4: of(Family::V4),
            v6: of(Family::V6),
            port: server.port,
            weight: if is_removed { 0 } else { self.server_weight(id) },
            backup: server.backup,
            up: record.serves(),
            is_starting: record.is_starting,
            accepts_new_sessions: self.server_admin(id) == AdminState::Ready,
            out_of_service: match self.effective_admin(id) {
                AdminState::Maint => Some(slb::OutOfService::Maint),
                AdminState::Ready | AdminState::Drain => self.drain_is_over(id).then_some(slb::OutOfService::Drained),
            },
            failure_counts: record.failure_counts,
            is_removed,
            state: Arc::clone(&record.persistent_state),
        }
    }

    /// The table of a hashing service. It is made again only when a weight has changed, so that any other publication
    /// is cheap.
    fn service_table(&mut self, id: ServiceId) -> Arc<Maglev> {
        let service = &self.config.services[id.index()];
        match service.scheduler {
            Scheduler::Hash(_) => {}
            Scheduler::RoundRobin | Scheduler::LeastConnections => {
                return Arc::clone(&self.services[id.index()].table.1);
            }
        }
        let weights: Vec<u16> = service.servers.iter().map(|server| self.server_weight(*server)).collect();
        let table = &mut self.services[id.index()].table;
        if table.0 != weights {
            let names = service.servers.iter().map(|server| self.config.servers[server.index()].name.as_str());
            *table = (weights.clone(), Arc::new(Maglev::new(names.zip(weights))));
        }
        Arc::clone(&table.1)
    }

    /// The imbalance of the table of a hashing service; `None` for other services.
    pub(super) fn service_imbalance(&self, id: ServiceId) -> Option<f64> {
        let (weights, table) = &self.services[id.index()].table;
        table.imbalance(weights)
    }
}
