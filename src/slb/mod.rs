//! Which server: virtual services, their real servers, schedulers and stickiness.
//!
//! What a worker looks at ([`Services`]) is immutable and lies in the snapshot. What has to survive snapshots and reloads
//! (positions, active counts, sticky entries) is [`SchedulerState`], keyed by names, shared by all workers and touched for
//! new sessions only.

pub mod maglev;
pub mod scheduler;
pub mod sticky;
pub mod tunnel;
pub mod turns;

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::id::{ServerId, ServiceId};
use crate::path::OnFailure;
use crate::time::Duration;
use crate::wire::Family;

pub use maglev::Maglev;
pub use scheduler::{SchedulerState, ServerState, ServiceState};
pub use tunnel::TunnelPath;
pub use turns::Lineups;

/// How a new session takes its server. Weights always count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Scheduler {
    /// In turn, smoothly: weights 3 and 1 give a b a a.
    #[default]
    RoundRobin,
    /// The fewest active sessions for its weight.
    LeastConnections,
    /// By a Maglev table over parts of the flow.
    Hash(HashOn),
}

/// What of a flow chooses the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct HashOn {
    /// `source-address`.
    pub source_address: bool,
    /// `source-port`.
    pub source_port: bool,
    /// `destination-address`.
    pub destination_address: bool,
    /// `destination-port`.
    pub destination_port: bool,
}

/// How packets reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Destination address and port are translated; replies come back through the engine.
    #[default]
    Nat,
    /// The source too.
    FullNat,
    /// L2 DSR: only the destination MAC changes; replies pass the engine by.
    Direct,
    /// L3 DSR: IP in IP to the server; replies pass the engine by.
    Tunnel,
}

/// Clients of one source prefix keep their server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StickyBy {
    /// IPv4 prefix length, 0..=32.
    pub prefix: u8,
    /// IPv6 prefix length, 0..=128.
    pub prefix6: u8,
    /// Idle time after which the server may change.
    pub timeout: Duration,
}

/// A virtual service as the packet path sees it.
#[derive(Debug, Clone)]
pub struct Service {
    /// Number.
    pub id: ServiceId,
    /// Name: what its state is kept under.
    pub name: String,
    /// VIPs.
    pub addresses: Vec<IpAddr>,
    /// IP protocol numbers: 6, 17 or both.
    pub protocols: Vec<u8>,
    /// Ports; `any` is 1..=65535.
    pub ports: Vec<RangeInclusive<u16>>,
    /// How a new session takes its server.
    pub scheduler: Scheduler,
    /// How packets reach it.
    pub mode: Mode,
    /// Full-nat: addresses that stand for clients; empty: those of the egress link.
    pub snat: Vec<IpAddr>,
    /// Clients keep their server.
    pub sticky: Option<StickyBy>,
    /// For TCP sessions of a server that went down.
    pub on_failure_tcp: OnFailure,
    /// For the others.
    pub on_failure_udp: OnFailure,
    /// It takes new sessions: not draining, not in maintenance.
    pub takes_new: bool,
    /// Its servers, in order of configuration.
    pub servers: Vec<Server>,
    /// For [`Scheduler::Hash`]: positions in `servers`; empty for the others.
    pub table: Arc<Maglev>,
    /// For [`Scheduler::RoundRobin`]: who of `servers` has turns.
    pub lineups: Lineups,
    /// What is remembered of it.
    pub state: Arc<ServiceState>,
}

/// A real server as the packet path sees it.
#[derive(Debug, Clone)]
pub struct Server {
    /// Number.
    pub id: ServerId,
    /// Name: enters the hash, and what its state is kept under.
    pub name: String,
    /// RIP for packets of IPv4: of that family, but in mode `tunnel`, where it may be of the other.
    pub v4: Option<IpAddr>,
    /// RIP for packets of IPv6, likewise.
    pub v6: Option<IpAddr>,
    /// `None`: the port that the client asked for.
    pub port: Option<u16>,
    /// 0..=256; 0 takes no new clients: only those who are sticky come back.
    pub weight: u16,
    /// Used when every other server is down.
    pub backup: bool,
    /// By family (IPv4, IPv6): its checks say it lives, and it is not in maintenance, and no drain deadline has passed.
    pub up: [bool; 2],
    /// By family: its first check has not ended. It takes no new sessions; what goes on from before the start may be its.
    pub is_starting: [bool; 2],
    /// It is not draining: while it does, what remains of its sessions is cut by a deadline, so sticky clients go elsewhere too.
    pub takes_new: bool,
    /// Why it is not up, where that is an operator's will.
    pub retired: Option<Retired>,
    /// By family: how often it went from up to down.
    pub falls: [u32; 2],
    /// A reload removed it; only sessions that it had know it.
    pub is_removed: bool,
    /// What is remembered of it.
    pub state: Arc<ServerState>,
}

/// How an operator took a server out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retired {
    /// It, or its service, drained for longer than `drain-timeout`.
    Drained,
    /// It, or its service, is in maintenance.
    Maint,
}

/// Ports with the service that has them.
type PortRange = (RangeInclusive<u16>, ServiceId);

/// Ports that a server listens on, and which server of which service that is.
type Listener = (RangeInclusive<u16>, ServiceId, ServerId);

/// What there is at an address.
type ByAddress<A, T> = HashMap<A, Vec<T>, ahash::RandomState>;

/// All virtual services of an engine. A copy shares them: what a publication does not change it does not pay for.
#[derive(Debug, Clone, Default)]
pub struct Services {
    services: Arc<[Arc<Service>]>,
    /// Where each server stands, by its number: its service, and its place there.
    places: Arc<[Option<(ServiceId, u16)>]>,
    /// Per VIP and protocol, the ports with their service, the narrowest range first.
    ports: Arc<ByAddress<(IpAddr, u8), PortRange>>,
    /// Ports of servers whose replies are translated, by address and protocol.
    listeners: Arc<ByAddress<(IpAddr, u8), Listener>>,
    /// Servers of mode `tunnel`, by the address to which their packets are packed.
    tunnels: Arc<ByAddress<IpAddr, (ServiceId, ServerId)>>,
}

impl Services {
    /// The services by [`ServiceId`].
    pub fn new(services: Vec<Service>) -> Self {
        let mut ports: HashMap<_, Vec<PortRange>, ahash::RandomState> = HashMap::default();
        for service in &services {
            for (&address, &protocol) in
                service.addresses.iter().flat_map(|a| service.protocols.iter().map(move |p| (a, p)))
            {
                ports
                    .entry((address, protocol))
                    .or_default()
                    .extend(service.ports.iter().map(|range| (range.clone(), service.id)));
            }
        }
        for ranges in ports.values_mut() {
            ranges.sort_by_key(|(range, id)| (range.end() - range.start(), *range.start(), *id));
        }
        let listeners = listeners(&services);
        let mut tunnels: ByAddress<IpAddr, (ServiceId, ServerId)> = HashMap::default();
        for service in services.iter().filter(|service| service.mode == Mode::Tunnel) {
            for server in &service.servers {
                // Both families may have one address.
                let second = server.v6.filter(|address| server.v4 != Some(*address));
                for address in server.v4.into_iter().chain(second) {
                    tunnels.entry(address).or_default().push((service.id, server.id));
                }
            }
        }
        let mut places = Vec::new();
        for service in &services {
            for (place, server) in (0..).zip(&service.servers) {
                if places.len() <= server.id.index() {
                    places.resize(server.id.index() + 1, None);
                }
                places[server.id.index()] = Some((service.id, place));
            }
        }
        services.iter().for_each(Service::prepare);
        let services = services.into_iter().map(Arc::new).collect();
        let (ports, listeners, tunnels) = (Arc::new(ports), Arc::new(listeners), Arc::new(tunnels));
        Self { services, places: places.into(), ports, listeners, tunnels }
    }

    /// The same services, of which `changed` stand otherwise: up, weighted or remembered. Their addresses, ports and servers
    /// are as they were.
    #[must_use]
    pub fn with(&self, changed: Vec<Service>) -> Self {
        let mut services = self.services.to_vec();
        changed.iter().for_each(Service::prepare);
        for service in changed {
            if let Some(place) = services.get_mut(service.id.index()) {
                *place = Arc::new(service);
            }
        }
        Self { services: services.into(), ..self.clone() }
    }

    /// The service that owns a destination: of those that have its port the one with the narrowest range.
    pub fn find(&self, address: IpAddr, protocol: u8, port: u16) -> Option<&Service> {
        let ranges = self.ports.get(&(address, protocol))?;
        let (_, id) = ranges.iter().find(|(range, _)| range.contains(&port))?;
        self.get(*id)
    }

    /// True if a server listens there whose replies have to come back through the engine (modes `nat` and `full-nat`).
    pub fn translates_replies(&self, address: IpAddr, protocol: u8, port: u16) -> bool {
        self.listener(address, protocol, port).is_some()
    }

    /// The server that listens there, if its replies have to come back through the engine; of several services the first one's.
    pub fn listener(&self, address: IpAddr, protocol: u8, port: u16) -> Option<(&Service, &Server)> {
        let listeners = self.listeners.get(&(address, protocol))?;
        let (_, service, server) = listeners.iter().find(|(ports, _, _)| ports.contains(&port))?;
        self.server(*service, *server)
    }

    /// The servers to which packets are packed for this address.
    pub fn tunnels_to(&self, address: IpAddr) -> &[(ServiceId, ServerId)] {
        self.tunnels.get(&address).map_or(&[], Vec::as_slice)
    }

    /// A service.
    pub fn get(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(id.index()).map(Arc::as_ref)
    }

    /// A server of a service.
    pub fn server(&self, service: ServiceId, server: ServerId) -> Option<(&Service, &Server)> {
        let (of, place) = self.places.get(server.index()).copied().flatten()?;
        let found = self.get(service).filter(|_| of == service)?;
        Some((found, found.servers.get(usize::from(place))?))
    }

    /// All services, by [`ServiceId`].
    pub fn all(&self) -> &[Arc<Service>] {
        &self.services
    }
}

/// Where the servers listen whose replies are translated; what a reload removed is nobody's server.
fn listeners(services: &[Service]) -> ByAddress<(IpAddr, u8), Listener> {
    let mut listeners: HashMap<_, Vec<Listener>, ahash::RandomState> = HashMap::default();
    for service in services.iter().filter(|service| matches!(service.mode, Mode::Nat | Mode::FullNat)) {
        for server in service.servers.iter().filter(|server| !server.is_removed) {
            let ports = server.port.map_or_else(|| service.ports.clone(), |port| vec![port..=port]);
            for address in [server.v4, server.v6].into_iter().flatten() {
                for protocol in &service.protocols {
                    let known = listeners.entry((address, *protocol)).or_default();
                    for range in &ports {
                        if !known.iter().any(|(ports, _, _)| ports == range) {
                            known.push((range.clone(), service.id, server.id));
                        }
                    }
                }
            }
        }
    }
    listeners
}

impl Server {
    /// Where packets of a family are sent.
    pub const fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// True if it is up in a family.
    pub const fn is_up(&self, family: Family) -> bool {
        self.up[family_index(family)]
    }

    /// True if a connection of a family that nobody remembers may be its: one from before the engine started.
    pub(crate) const fn may_have_had(&self, family: Family) -> bool {
        (self.is_up(family) || self.is_starting[family_index(family)]) && self.takes_new && self.weight > 0
    }

    /// True if new sessions of a family can be given to it, now or, if it is a backup, when it is needed.
    pub(crate) const fn is_candidate(&self, family: Family) -> bool {
        self.is_up(family) && self.takes_new && self.weight > 0
    }
}

/// Position of a family in per-family arrays.
pub const fn family_index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}
