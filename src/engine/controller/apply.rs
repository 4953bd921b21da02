//! Another configuration while packets flow: what keeps its name keeps everything that is known of it.
//!
//! [`crate::config::renumber`] sees to it that a number means the same before and after; here each part of the controller
//! goes on from what it knew: neighbours, verdicts, drains, overrides, positions of schedulers. What is new is starting.
//! What is gone has fallen, and its sessions end as `on-failure` says, each with its next packet.

use std::sync::Arc;

use super::checks::Checks;
use super::exchange::Exchange;
use super::journal::Journal;
use super::peers::PeerRecord;
use super::probes::Path;
use super::reassembly::Reassembly;
use super::{Controller, Random, judgement, peers, probes, publish, services};
use crate::config::numbering::base_name;
use crate::config::{Config, InUse, NoNumbers, is_removed, renumber};
use crate::engine::Snapshot;
use crate::engine::snapshot::Renewed;
use crate::health::prober::Prober;
use crate::id::{FirewallId, PeerId, ServerId};
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
    pub fn apply(&mut self, config: Config, in_use: Option<&InUse>, now: Instant) -> Result<(), NoNumbers> {
        self.notice_lag(now);
        let config = renumber(config, &self.config, in_use)?;
        let old = std::mem::replace(&mut self.config, config);
        self.generation += 1;
        self.renewed = Arc::new(self.renew(&old));
        self.set_keys = judgement::set_keys(&self.config, std::mem::take(&mut self.set_keys));
        self.groups = publish::groups(&self.config);
        self.routes = publish::routes(&self.config, &self.set_keys);
        self.group_digests = self.config.groups.iter().map(|group| peers::group_digest(&self.config, group)).collect();
        self.name_digests = peers::name_digests(&self.config);
        self.adopt_firewalls(&old, now);
        self.adopt_peers(&old);
        self.adopt_paths(&old, now);
        self.farm.adopt(&self.config, &old, now);
        self.adopt_links(&services::virtual_addresses(&self.config), now);
        for link in self.config.link_ids().collect::<Vec<_>>() {
            self.tell_link(link, !self.links[link.index()].up);
        }
        self.keep_configured_neighbors(now);
        self.adopt_checks(&old, now);
        let left = self.config.subjects();
        let gone: Vec<String> = old.subjects().into_iter().filter(|subject| !left.contains(subject)).collect();
        self.journal.forget(&gone);
        (self.publish, self.judge, self.farm.judge) = (true, true, true);
        // The new numbers are known to the forwarders before anything else happens.
        self.publish_from = now;
        self.finish(now);
        Ok(())
    }

    /// What the forwarders would look at right after [`Controller::apply`]: the same code, on a copy. Nothing changes.
    ///
    /// # Errors
    /// As [`Controller::apply`].
    pub fn rehearse(&self, config: Config, in_use: Option<&InUse>, now: Instant) -> Result<Arc<Snapshot>, NoNumbers> {
        let mut copy = self.copy(now);
        copy.apply(config, in_use, now)?;
        Ok(copy.snapshot())
    }

    /// A controller that judges as this one does, and has nothing under way.
    fn copy(&self, now: Instant) -> Self {
        Self {
            config: self.config.clone(),
            random: Random(self.random.0),
            epoch: self.epoch,
            probe_sequence: self.probe_sequence,
            links: self.links.clone(),
            neighbors: self.neighbors.clone(),
            paths: self.paths.clone(),
            server_checks: self.server_checks.clone(),
            checks: Checks::new(0),
            farm: self.farm.clone(),
            vigils: self.vigils.clone(),
            peers: self.peers.iter().map(|_| PeerRecord::default()).collect(),
            liveness: self.liveness.clone(),
            set_keys: self.set_keys.clone(),
            generation: self.generation,
            renewed: Arc::clone(&self.renewed),
            judge: self.judge,
            overrides: self.overrides.clone(),
            group_digests: self.group_digests.clone(),
            name_digests: self.name_digests.clone(),
            groups: self.groups.clone(),
            routes: self.routes.clone(),
            snapshot: Arc::clone(&self.snapshot),
            publish: false,
            publish_from: now,
            answers: super::Answers::new(super::Random(self.random.0), now),
            reassembly: Reassembly::default(),
            returns: Default::default(),
            exchanges: Vec::<Exchange>::new(),
            requests: 0,
            journal: Journal::default(),
            refusals: Default::default(),
            events: Default::default(),
            transmits: Default::default(),
            tallies: Default::default(),
            due: None,
        }
    }

    /// The numbers that another firewall or server has from now on, beside those of earlier reloads.
    fn renew(&self, old: &Config) -> Renewed {
        let mut renewed = Renewed::clone(&self.renewed);
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

    fn adopt_firewalls(&mut self, old: &Config, now: Instant) {
        let mut overrides = std::mem::take(&mut self.overrides);
        self.overrides = self.config.firewalls.iter().map(|_| None).collect();
        for id in self.config.firewall_ids().collect::<Vec<_>>() {
            let stays = id.index() < old.firewalls.len() && firewall_key(old, id) == firewall_key(&self.config, id);
            if stays && let Some(set) = overrides.get_mut(id.index()) {
                self.overrides[id.index()] = set.take();
            }
        }
        self.liveness.apply(judgement::settings(&self.config, &self.set_keys), now);
        for id in self.config.firewall_ids().collect::<Vec<_>>() {
            self.liveness.set_admin(id, self.commanded(id));
        }
        let is_there = |id: &FirewallId| !is_removed(&self.config.firewalls[id.index()].name);
        self.vigils.retain(|(firewall, _), _| is_there(firewall));
    }

    fn adopt_peers(&mut self, old: &Config) {
        let mut before = std::mem::take(&mut self.peers);
        let key = |config: &Config, id: PeerId| {
            let peer = config.peers.get(id.index())?;
            Some((base_name(&config.groups[peer.group.index()].name).to_owned(), peer.name.clone()))
        };
        let records = (0..self.config.peers.len()).map(|index| {
            let id = PeerId::from(index);
            match before.get_mut(index) {
                Some(record) if key(old, id) == key(&self.config, id) => std::mem::take(record),
                Some(_) | None => PeerRecord::default(),
            }
        });
        self.peers = records.collect();
    }

    /// A path that stays keeps its verdict, also if it is probed in another way or by another next hop from now on.
    fn adopt_paths(&mut self, old: &Config, now: Instant) {
        let before = std::mem::replace(&mut self.paths, probes::paths(&self.config, &mut self.random, now));
        for path in before {
            let key = path.key;
            let stays = firewall_key(old, key.firewall) == firewall_key(&self.config, key.firewall)
                && old.peers[key.peer.index()].name == self.config.peers[key.peer.index()].name;
            let Some(own) = self.paths.iter_mut().find(|own| own.key == key).filter(|_| stays) else { continue };
            let was = &old.groups[old.firewalls[key.firewall.index()].group.index()].check;
            let is = &self.config.groups[self.config.firewalls[key.firewall.index()].group.index()].check;
            let Path {
                key: _,
                link,
                next_hop,
                destination,
                prober,
                mut monitor,
                rtt,
                rtts,
                reason,
                history,
                excused_since,
                told,
            } = path;
            if was != is {
                monitor.reconfigure(is);
            }
            let way = (own.link, own.next_hop, own.destination);
            let asks_alike = was == is && way == (link, next_hop, destination);
            let prober: Prober = if asks_alike { prober } else { own.prober.clone() };
            let (link, next_hop, destination) = way;
            *own = Path {
                key,
                link,
                next_hop,
                destination,
                prober,
                monitor,
                rtt,
                rtts,
                reason,
                history,
                excused_since,
                told,
            };
        }
    }
}

/// What a number of a firewall means.
fn firewall_key(config: &Config, id: FirewallId) -> (&str, &str) {
    let firewall = &config.firewalls[id.index()];
    (base_name(&config.groups[firewall.group.index()].name), base_name(&firewall.name))
}

/// What a number of a server means.
fn server_key(config: &Config, id: ServerId) -> (&str, &str, &[std::net::IpAddr], Option<u16>) {
    let server = &config.servers[id.index()];
    let service = base_name(&config.services[server.service.index()].name);
    (service, base_name(&server.name), &server.addresses, server.port)
}
