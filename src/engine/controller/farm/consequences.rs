//! Finds out which services an order would leave without a server.

use super::super::UnknownName;
use super::super::order::Consequence;
use super::Farm;
use super::admin::ServerChange;
use crate::config::AdminState;
use crate::id::ServerId;
use crate::slb::Service;
use crate::wire::Family;

impl Farm {
    /// What would follow if the server `name` of `service` were changed.
    ///
    /// # Errors
    /// If there is no such server.
    pub(in super::super) fn consequences(
        &self,
        service: &str,
        name: &str,
        change: ServerChange,
    ) -> Result<Vec<Consequence>, UnknownName> {
        let id = self.find_server(service, name)?;
        let configured = &self.config.servers[id.index()];
        let Some((before, _)) = self.built.server(configured.service, id) else { return Ok(Vec::new()) };
        let after = service_after(before, id, change, (configured.admin, configured.weight));
        let is_grave = change == ServerChange::Admin(Some(AdminState::Maint));
        let lost = [Family::V4, Family::V6]
            .into_iter()
            .filter(|family| takes_sessions(before, *family) && !takes_sessions(&after, *family));
        let lost: Vec<&str> = lost.map(Family::name).collect();
        let in_all = ![Family::V4, Family::V6].into_iter().any(|family| takes_sessions(&after, family));
        let consequence = match (lost.as_slice(), in_all) {
            ([], _) => None,
            (_, true) => Some(format!("no server of service {service} takes new sessions now")),
            (families, false) => {
                Some(format!("no server of service {service} takes new sessions over {} now", families.join(" and ")))
            }
        };
        Ok(consequence.map(|words| Consequence { description: words, is_grave }).into_iter().collect())
    }
}

/// The service after the change, as far as it decides which servers take new sessions.
fn service_after(service: &Service, id: ServerId, change: ServerChange, (admin, weight): (AdminState, u16)) -> Service {
    let mut service = service.clone();
    for server in service.servers.iter_mut().filter(|server| server.id == id) {
        match change {
            ServerChange::Weight(set) => server.weight = set.unwrap_or(weight),
            ServerChange::Admin(set) => match set.unwrap_or(admin) {
                AdminState::Ready => {}
                AdminState::Drain => server.accepts_new_sessions = false,
                AdminState::Maint => server.up = [false; 2],
            },
        }
    }
    service
}

/// True if a server of the service takes new sessions over a family.
fn takes_sessions(service: &Service, family: Family) -> bool {
    let backups = service.needs_backups(family);
    let mut servers = service.servers.iter();
    service.accepts_new_sessions && servers.any(|server| server.backup == backups && server.is_candidate(family))
}
