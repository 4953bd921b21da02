//! Another configuration while packets flow: what keeps its name keeps everything that is known of it.
//!
//! [`crate::config::renumber`] sees to it that a number means the same before and after; here each part of the controller
//! goes on from what it knew: neighbours, verdicts, drains, overrides, positions of schedulers. What is new is starting.
//! What is gone has fallen, and its sessions end as `on-failure` says, each with its next packet.

use std::sync::Arc;

use super::paths::firewall_key;
use super::{Controller, publish};
use crate::config::numbering::base_name;
use crate::config::{Config, IdsExhausted, InUse, renumber};
use crate::engine::Snapshot;
use crate::engine::snapshot::ReusedIds;
use crate::id::{FirewallId, ServerId};
use crate::time::Instant;

impl Controller {
    /// The configuration in force, numbered as the snapshots are.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Goes on under another configuration, numbered as its file is. `in_use` are the numbers that sessions know; `None`: nobody
    /// looked, and no number is given a second time. What cannot change while the engine runs (`[engine]`, `[limits]`, the
    /// device of a link) is the caller's to refuse.
    ///
    /// # Errors
    /// If there are more things than numbers. Nothing has changed then.
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
        let left = self.config.subjects();
        let gone: Vec<String> = old.subjects().into_iter().filter(|subject| !left.contains(subject)).collect();
        self.out.forget_alarms(&gone);
        // The new numbers are known to the forwarders before anything else happens.
        self.out.publish_at_once();
        self.finish(now);
        Ok(())
    }

    /// What the forwarders would look at right after [`Controller::apply`]: the same code, on a copy. Nothing changes.
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

    /// The numbers that another firewall or server has from now on, beside those of earlier reloads.
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

/// What a number of a server means.
fn server_key(config: &Config, id: ServerId) -> (&str, &str, &[std::net::IpAddr], Option<u16>) {
    let server = &config.servers[id.index()];
    let service = base_name(&config.services[server.service.index()].name);
    (service, base_name(&server.name), &server.addresses, server.port)
}
