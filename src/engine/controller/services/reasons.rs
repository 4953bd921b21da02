//! Why a service or a server is in its state, in words.

use super::Standing;
use crate::config::Admin;
use crate::engine::Controller;
use crate::engine::controller::admin::Override;
use crate::engine::controller::checks::ServerCheck;
use crate::engine::controller::judgement::family_name;
use crate::id::{ServerId, ServiceId};
use crate::slb::family_index;

impl Controller {
    /// Why a service is in its state, in words.
    pub(in crate::engine::controller) fn service_reason(&self, id: ServiceId, standing: Standing) -> String {
        match standing {
            Standing::Up if self.lives_on_backups(id) => "only backup servers are up".to_owned(),
            Standing::Up => "a server is up".to_owned(),
            Standing::Down => "no server is up".to_owned(),
            Standing::Starting => "no verdict yet".to_owned(),
            Standing::Drain | Standing::Maint => {
                let set = self.farm.services[id.index()].set.as_ref();
                set.map_or_else(|| "configured".to_owned(), |set| set.order.words(None))
            }
        }
    }

    pub(super) fn server_reason(&self, id: ServerId, standing: Standing) -> Option<String> {
        let server = &self.config.servers[id.index()];
        let service = &self.config.services[server.service.index()];
        match standing {
            Standing::Starting => Some("no verdict yet".to_owned()),
            Standing::Up => None,
            Standing::Down => {
                let checks: Vec<&ServerCheck> = self.checks_of(id).collect();
                let failures = checks.iter().map(|check| {
                    let avoided = self.farm.servers[id.index()].avoided[family_index(check.family)].as_deref();
                    let failure = avoided.or(check.monitor.last_failure()).unwrap_or("no verdict yet");
                    match checks.len() {
                        1 => failure.to_owned(),
                        _ => format!("{}: {failure}", family_name(check.family)),
                    }
                });
                Some(failures.collect::<Vec<_>>().join("; "))
            }
            Standing::Drain | Standing::Maint => {
                let words = |set: &Option<Override>| {
                    set.as_ref().map_or_else(|| "configured".to_owned(), |set| set.order.words(None))
                };
                let text = match self.server_admin(id) {
                    Admin::Ready => {
                        let set = &self.farm.services[server.service.index()].set;
                        format!("service {} {}", service.name, words(set))
                    }
                    Admin::Drain | Admin::Maint => words(&self.farm.servers[id.index()].set),
                };
                Some(if self.drain_is_over(id) { format!("{text}; drain-timeout has passed") } else { text })
            }
        }
    }
}
