//! Takes over another configuration while packets flow: what keeps its name keeps everything that is known of it.
//!
//! [`crate::config::renumber`] makes sure that an id means the same before and after. Here each part of the controller
//! continues from what it knew: neighbours, verdicts, drains, overrides, positions of schedulers. What is new is
//! starting. What was removed counts as failed, and its sessions end as `on-failure` says, each with its next packet.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::paths::firewall_key;
use super::{Controller, publish};
use crate::config::numbering::base_name;
use crate::config::{Config, IdsExhausted, InUse, renumber};
use crate::engine::Snapshot;
use crate::engine::change::Subject;
use crate::engine::snapshot::ReusedIds;
use crate::id::{FirewallId, ServerId};
use crate::time::Instant;

impl Controller {
    /// The configuration in force, numbered as the snapshots are.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Continues under another configuration, numbered as its file is. `in_use` are the ids that sessions know; with
    /// `None` nobody looked, and no id is given a second time. The caller refuses what cannot change while the engine
    /// runs (`[engine]`, `[limits]`, the device of a link).
    ///
    /// # Errors
    /// If there are more things than ids. Then nothing has changed.
    pub fn apply(&mut self, config: Config, in_use: Option<&InUse>, now: Instant) -> Result<(), IdsExhausted> {
        self.detect_lag(now);
        let config = renumber(config, &self.config, in_use)?;
        let old = std::mem::replace(&mut self.config, Arc::new(config));
        self.generation += 1;
        self.reused_ids = Arc::new(self.reused_ids(&old));
        self.paths.reconfigure(Arc::clone(&self.config), now);
        let routes = publish::routes(&self.config, self.paths.set_keys());
        self.links.reconfigure(Arc::clone(&self.config), routes, now, &mut self.out);
        self.dispatch_notices(now);
        self.paths.handle_links(&self.links);
        self.farm.reconfigure(Arc::clone(&self.config), now);
        let left = Subject::declared(&self.config);
        let gone: BTreeSet<Subject> = Subject::declared(&old).difference(&left).cloned().collect();
        self.out.forget_alarms(&gone);
        // The forwarders learn the new ids before anything else happens.
        self.out.publish_at_once();
        self.finish(now);
        Ok(())
    }

    /// What the forwarders would look at right after [`Controller::apply`], computed by the same code on a copy.
    /// Nothing changes.
    ///
    /// # Errors
    /// As [`Controller::apply`].
    pub fn rehearse(
        &self,
        config: Config,
        in_use: Option<&InUse>,
        now: Instant,
    ) -> Result<Arc<Snapshot>, IdsExhausted> {
        let mut copy = self.clone();
        copy.apply(config, in_use, now)?;
        Ok(copy.snapshot())
    }

    /// The ids that belong to another firewall or server from this reload on, together with those of earlier reloads.
    fn reused_ids(&self, old: &Config) -> ReusedIds {
        let mut renewed = ReusedIds::clone(&self.reused_ids);
        for index in 0..old.firewalls.len() {
            let id = FirewallId::from(index);
            if firewall_key(old, id) != firewall_key(&self.config, id) {
                renewed.firewalls.insert(id, self.generation);
            }
        }
        for index in 0..old.servers.len() {
            let id = ServerId::from(index);
            if server_key(old, id) != server_key(&self.config, id) {
                renewed.servers.insert(id, self.generation);
            }
        }
        renewed
    }
}

/// What an id of a server stands for.
fn server_key(config: &Config, id: ServerId) -> (&str, &str, &[std::net::IpAddr], Option<u16>) {
    let server = &config.servers[id.index()];
    let service = base_name(&config.services[server.service.index()].name);
    (service, base_name(&server.name), &server.addresses, server.port)
}
