//! Chooses source addresses and ports of mode `full-nat`: an address of the engine, and a port that no other flow to
//! the same server uses.

use std::hash::Hasher as _;
use std::net::IpAddr;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use crate::engine::Snapshot;
use crate::engine::route::{FibEntry, NextHop};
use crate::engine::snapshot::Link;
use crate::flow::{Endpoint, FlowKey};
use crate::id::LinkId;
use crate::nat::{NoPort, PoolKey, PortPools};
use crate::slb::Service;
use crate::time::Instant;
use crate::wire::Family;

/// The source ports of one forwarder.
#[derive(Debug)]
pub(super) struct SourcePorts {
    ports: Arc<PortPools>,
    worker: u16,
    seed: u64,
    drawn: u64,
}

impl SourcePorts {
    pub(super) fn new(ports: Arc<PortPools>, worker: u16, seed: u64) -> Self {
        Self { ports, worker, seed, drawn: 0 }
    }

    /// A source address and port for the client of `outside` toward `server`.
    ///
    /// # Errors
    ///
    /// Every port of every address is in use or was used too recently, or the client has its share of each.
    pub(super) fn acquire(
        &mut self,
        service: &Service,
        outside: &FlowKey,
        server: Endpoint,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Result<Endpoint, NoPort> {
        let random = self.next_random();
        let family = Family::of(server.address);
        let (protocol, client) = (outside.protocol, outside.source.address);
        let port = |source| {
            let pool = PoolKey { protocol, source, server };
            let port = self.ports.acquire(self.worker, pool, client, random as u16, now)?;
            Ok(Endpoint { address: source, port })
        };
        if service.snat.is_empty() {
            return port(egress_address(server.address, snapshot).ok_or(NoPort::Exhausted)?);
        }
        let addresses = || service.snat.iter().copied().filter(|address| Family::of(*address) == family);
        let count = addresses().count();
        let start = (random >> 32) as usize % count.max(1);
        let mut why = NoPort::Exhausted;
        for address in addresses().cycle().skip(start).take(count) {
            match port(address) {
                Ok(found) => return Ok(found),
                Err(NoPort::OverShare) => why = NoPort::OverShare,
                Err(NoPort::Exhausted) => {}
            }
        }
        Err(why)
    }

    /// Returns a source port after its flow has ended; it can be used again after a pause.
    pub(super) fn release(&self, protocol: u8, source: Endpoint, server: Endpoint, client: IpAddr, now: Instant) {
        self.ports.release(protocol, source, server, client, now);
    }

    /// Returns a source port that was not used; it can be used again at once.
    pub(super) fn release_unused(&self, protocol: u8, source: Endpoint, server: Endpoint, client: IpAddr) {
        self.ports.release_unused(protocol, source, server, client);
    }

    /// 64 random bits, which cannot be predicted without the seed.
    pub(super) fn next_random(&mut self) -> u64 {
        self.drawn += 1;
        let mut hasher = SipHasher13::new_with_keys(self.seed, u64::from(self.worker));
        hasher.write_u64(self.drawn);
        hasher.finish()
    }
}

/// A source address for clients of `service` toward `server`.
pub(crate) fn source_address(service: &Service, server: IpAddr, snapshot: &Snapshot) -> Option<IpAddr> {
    let own = service.snat.iter().copied().find(|address| Family::of(*address) == Family::of(server));
    if service.snat.is_empty() { egress_address(server, snapshot) } else { own }
}

/// The engine's first address of the family on the link toward `server`.
pub(crate) fn egress_address(server: IpAddr, snapshot: &Snapshot) -> Option<IpAddr> {
    address_on(&snapshot.links[egress_link(server, snapshot)?.index()], Family::of(server))
}

/// The address of a family on a link that packets to the engine go to: the first floating one, so that they find whoever
/// is active, else the engine's first. It is no link-local one, which cannot be answered from beyond the link.
pub(super) fn address_on(link: &Link, family: Family) -> Option<IpAddr> {
    let is_usable = |address: &IpAddr| match address {
        IpAddr::V4(_) => family == Family::V4,
        IpAddr::V6(address) => family == Family::V6 && !address.is_unicast_link_local(),
    };
    link.floating.iter().copied().chain(link.addresses.iter().map(ipnet::IpNet::addr)).find(is_usable)
}

pub(super) fn egress_link(server: IpAddr, snapshot: &Snapshot) -> Option<LinkId> {
    match snapshot.routes.lookup(server)? {
        FibEntry::Connected(link) | FibEntry::Via(NextHop { link, address: _ }) => Some(link),
        // The firewalls of a group may be on different links. The engine's address on any of them leads back to it.
        FibEntry::Group { set, preferred: _, bypass: _ } => {
            let group = snapshot.path_sets[set.index()].group;
            let member = snapshot.groups[group.index()].members.first()?;
            Some(snapshot.firewalls[member.id.index()].link)
        }
    }
}
