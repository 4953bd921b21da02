//! From configuration, links, neighbours and live sets to the one [`Snapshot`] that the forwarders look at.

use std::sync::Arc;

use super::{Controller, Event};
use crate::config::{Config, RouteTarget};
use crate::engine::Snapshot;
use crate::engine::route::{FibEntry, NextHop, RouteTable};
use crate::id::{GroupId, PathSetId, PeerId};
use crate::path::liveness::SetKey;
use crate::time::{Duration, Instant};
use crate::wire::Family;

/// Connected subnets and configured routes.
pub(super) fn routes(config: &Config, sets: &[SetKey]) -> RouteTable {
    let connected = config.links.iter().enumerate().flat_map(|(index, link)| {
        link.addresses.iter().map(move |address| (*address, FibEntry::Connected(index.into())))
    });
    let configured = config.routes.iter().filter_map(|route| {
        let target = match &route.target {
            RouteTarget::Via { link, via } => FibEntry::Via(NextHop { link: *link, address: *via }),
            RouteTarget::Group { group, peer, firewall, bypass } => {
                let set = set_id(sets, *group, *peer, Family::of(route.to.addr()))?;
                let bypass = bypass.map(|(link, address)| NextHop { link, address });
                FibEntry::Group { set, preferred: *firewall, bypass }
            }
        };
        Some((route.to, target))
    });
    connected.chain(configured).collect()
}

fn set_id(sets: &[SetKey], group: GroupId, peer: Option<PeerId>, family: Family) -> Option<PathSetId> {
    sets.iter().position(|key| *key == SetKey { group, peer, family }).map(PathSetId::from)
}

/// How long nothing is published after a publication for which `built` servers and neighbours were built. Where
/// thousands change at once, a publication for each would cost as much as one for all, and the checks and neighbours
/// would wait for it.
fn publish_pause(built: usize) -> Duration {
    const SMALL: usize = 256;
    const EACH: Duration = Duration::from_micros(16);
    if built <= SMALL { Duration::ZERO } else { EACH * u32::try_from(built).unwrap_or(u32::MAX) }
}

impl Controller {
    /// Publishes everything that changed since the last publication at once.
    pub(super) fn publish_changes(&mut self, now: Instant) {
        if self.out.take_urgency() {
            self.publish_from = now;
        }
        if self.out.wants_snapshot() && self.publish_from <= now {
            self.out.published();
            let built = self.farm.refresh() + self.links.neighbors().len();
            self.publish_from = now + publish_pause(built);
            self.links.watch_shared_macs(now, &mut self.out);
            self.snapshot = Arc::new(self.build_snapshot());
            self.out.push_event(Event::Publish(Arc::clone(&self.snapshot)));
        }
    }

    fn build_snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            epoch: self.snapshot.epoch + 1,
            generation: self.generation,
            reused_ids: Arc::clone(&self.reused_ids),
            role: self.role.clone(),
            source_limits: self.config.limits.source,
            ..Snapshot::default()
        };
        self.links.fill_snapshot(&mut snapshot);
        self.paths.fill_snapshot(&mut snapshot);
        self.farm.fill_snapshot(&mut snapshot);
        snapshot
    }
}
