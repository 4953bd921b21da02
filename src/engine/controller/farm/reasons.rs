//! Describes why a service or a server is in its state.

use super::super::paths::Override;
use super::Farm;
use super::checks::ServerCheck;
use crate::config::AdminState;
use crate::id::{ServerId, ServiceId};
use crate::slb::{Availability, family_index};

impl Farm {
    /// Why a service is in its state, in words.
    pub(super) fn service_reason(&self, id: ServiceId, availability: Availability) -> String {
        match availability {
            Availability::Up if self.is_on_backups_only(id) => "only backup servers are up".to_owned(),
            Availability::Up => "a server is up".to_owned(),
            Availability::Down => "no server is up".to_owned(),
            Availability::Starting => "no verdict yet".to_owned(),
            Availability::Drain | Availability::Maint => {
                let set = self.services[id.index()].admin_override.as_ref();
                set.map_or_else(|| "configured".to_owned(), |set| set.order.describe(None))
            }
        }
    }

    pub(super) fn server_reason(&self, id: ServerId, availability: Availability) -> Option<String> {
        let server = &self.config.servers[id.index()];
        let service = &self.config.services[server.service.index()];
        match availability {
            Availability::Starting => Some("no verdict yet".to_owned()),
            Availability::Up => None,
            Availability::Down => {
                let checks: Vec<&ServerCheck> = self.checks_of(id).collect();
                let failures = checks.iter().map(|check| {
                    let avoided = self.servers[id.index()].avoided[family_index(check.family)].as_deref();
                    let failure = avoided.or(check.monitor.last_failure()).unwrap_or("no verdict yet");
                    match checks.len() {
                        1 => failure.to_owned(),
                        _ => format!("{}: {failure}", check.family),
                    }
                });
                Some(failures.collect::<Vec<_>>().join("; "))
            }
            Availability::Drain | Availability::Maint => {
                let words = |set: &Option<Override>| {
                    set.as_ref().map_or_else(|| "configured".to_owned(), |set| set.order.describe(None))
                };
                let text = match self.server_admin(id) {
                    AdminState::Ready => {
                        let set = &self.services[server.service.index()].admin_override;
                        format!("service {} {}", service.name, words(set))
                    }
                    AdminState::Drain | AdminState::Maint => words(&self.servers[id.index()].admin_override),
                };
                Some(if self.drain_is_over(id) { format!("{text}; drain-timeout has passed") } else { text })
            }
        }
    }
}
