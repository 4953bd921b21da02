//! What an engine knows besides its sessions, as another program continues from it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::engine::Snapshot;
use crate::engine::view::{OverrideView, PersistedServer};
use crate::time::Instant;
use crate::wire::Family;

/// Orders, verdicts and neighbours.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// What operators set, which the new program finds in its state directory too.
    pub overrides: Vec<OverrideView>,
    /// The servers that are up.
    pub servers: BTreeSet<PersistedServer>,
    /// Paths with a verdict.
    pub paths: Vec<InheritedPath>,
    /// Neighbours whose MAC address is known.
    pub neighbors: Vec<InheritedNeighbor>,
}

/// The verdict about a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InheritedPath {
    /// Group and firewall: `perimeter/fw1`.
    pub firewall: String,
    /// The peer.
    pub peer: String,
    /// Address family: `ipv4` or `ipv6`.
    pub family: Family,
    /// Whether it is up.
    pub up: bool,
}

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InheritedNeighbor {
    /// Name of its link.
    pub link: String,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address, as six numbers.
    pub mac: [u8; 6],
}

/// A client that has a server without a session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StickyClient {
    /// Name of the service.
    pub service: String,
    /// The first address of the client's prefix.
    pub client: IpAddr,
    /// Name of its server.
    pub server: String,
    /// How long ago it was last used, in milliseconds.
    pub idle_ms: u64,
}

/// The sticky clients of all services, in order.
pub fn sticky_clients(snapshot: &Snapshot, now: Instant) -> Vec<StickyClient> {
    let mut all = Vec::new();
    for service in snapshot.services.all() {
        for (client, server, used) in service.state.sticky.clients() {
            let idle_ms = u64::try_from(now.since(used).as_millis()).unwrap_or(u64::MAX);
            all.push(StickyClient { service: service.name.clone(), client, server: server.to_string(), idle_ms });
        }
    }
    all.sort();
    all
}

impl StickyClient {
    /// Remembers the client in an engine with this snapshot, if the engine has its service and server.
    pub fn learn(&self, snapshot: &Snapshot, now: Instant) {
        let Some(service) = snapshot.services.all().iter().find(|service| service.name == self.service) else { return };
        let Some(server) = service.servers.iter().find(|server| server.name == self.server) else { return };
        let Some(by) = &service.sticky else { return };
        let idle = u64::try_from(crate::time::Duration::from_millis(self.idle_ms).as_nanos()).unwrap_or(u64::MAX);
        let used = Instant::from_nanos(now.as_nanos().saturating_sub(idle));
        service.state.sticky.learn(self.client, by, &server.state.name, used);
    }
}
