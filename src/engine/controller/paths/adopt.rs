//! Takes groups, firewalls, peers and paths over into another configuration: what stays keeps what is known of it.

use super::peers::PeerRecord;
use super::probes::Path;
use super::{Paths, evaluation, probes};
use crate::config::numbering::base_name;
use crate::config::{Config, is_removed};
use crate::health::prober::PathProber;
use crate::id::{FirewallId, PeerId};
use crate::time::Instant;

impl Paths {
    pub(super) fn adopt_firewalls(&mut self, old: &Config, now: Instant) {
        let mut overrides = std::mem::take(&mut self.overrides);
        self.overrides = self.config.firewalls.iter().map(|_| None).collect();
        for id in self.config.firewall_ids().collect::<Vec<_>>() {
            let stays = id.index() < old.firewalls.len() && firewall_key(old, id) == firewall_key(&self.config, id);
            if stays && let Some(set) = overrides.get_mut(id.index()) {
                self.overrides[id.index()] = set.take();
            }
        }
        self.liveness.apply(evaluation::liveness_config(&self.config, &self.set_keys), now);
        for id in self.config.firewall_ids().collect::<Vec<_>>() {
            self.liveness.set_admin(id, self.local_admin(id));
        }
        let is_there = |id: &FirewallId| !is_removed(&self.config.firewalls[id.index()].name);
        self.watches.retain(|(firewall, _), _| is_there(firewall));
    }

    pub(super) fn adopt_peers(&mut self, old: &Config) {
        let mut before = std::mem::take(&mut self.peers);
        let key = |config: &Config, id: PeerId| {
            let peer = config.peers.get(id.index())?;
            Some((base_name(&config.groups[peer.group.index()].name).to_owned(), peer.name.clone()))
        };
        let records = self.config.peers.iter().enumerate().map(|(index, peer)| {
            let id = PeerId::from(index);
            match before.get_mut(index) {
                Some(record) if key(old, id) == key(&self.config, id) => std::mem::take(record).adopt(peer),
                Some(_) | None => PeerRecord::new(peer),
            }
        });
        self.peers = records.collect();
    }

    /// A path that stays keeps its verdict, also if it is probed in another way or by another next hop from now on.
    pub(super) fn adopt_paths(&mut self, old: &Config, now: Instant) {
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
                reported_health: told,
            } = path;
            if was != is {
                monitor.reconfigure(is);
            }
            let way = (own.link, own.next_hop, own.destination);
            let asks_alike = was == is && way == (link, next_hop, destination);
            let prober: PathProber = if asks_alike { prober } else { own.prober.clone() };
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
                reported_health: told,
            };
        }
    }
}

/// What has to stay the same for a firewall to keep its id: the name of its group and its own.
pub(in super::super) fn firewall_key(config: &Config, id: FirewallId) -> (&str, &str) {
    let firewall = &config.firewalls[id.index()];
    (base_name(&config.groups[firewall.group.index()].name), base_name(&firewall.name))
}
