//! Server load balancing: virtual services, their real servers, schedulers and stickiness. This module chooses servers
//! and never touches the bytes of packets.
//!
//! What a worker reads ([`Services`]) is immutable and part of the snapshot. What has to survive snapshots and reloads
//! (scheduler positions, active sessions, sticky entries) is [`SchedulerState`]. It is kept by names, shared by all
//! workers, and used for new sessions only.

pub mod availability;
pub mod maglev;
pub mod observe;
pub mod rotation;
pub mod scheduler;
mod server_state;
pub mod sticky;
pub mod tunnel;

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::id::{ServerId, ServiceId};
use crate::path::{AdminState, OnFailure};
use crate::time::Duration;
use crate::wire::Family;

pub use availability::Availability;
pub use maglev::Maglev;
pub use observe::Observation;
pub use rotation::RotationMembersByFamily;
pub use scheduler::{SchedulerState, ServiceState};
pub use server_state::ServerState;
pub use tunnel::TunnelPathState;

/// How a new session is assigned to a server. Weights always count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Scheduler {
    /// In turn and smoothly: servers with the weights 3 and 1 give the sequence a b a a.
    #[default]
    RoundRobin,
    /// The server with the fewest active sessions for its weight.
    LeastConnections,
    /// The server that a Maglev table gives for parts of the flow.
    Hash(HashOn),
}

impl Scheduler {
    /// Its name, without its parameters.
    pub const fn name(self) -> SchedulerName {
        match self {
            Self::RoundRobin => SchedulerName::RoundRobin,
            Self::LeastConnections => SchedulerName::LeastConnections,
            Self::Hash(_) => SchedulerName::Hash,
        }
    }
}

named_enum! {
    /// The name of a scheduler (key `scheduler`).
    pub enum SchedulerName {
        /// [`Scheduler::RoundRobin`].
        RoundRobin = "round-robin",
        /// [`Scheduler::LeastConnections`].
        LeastConnections = "least-connections",
        /// [`Scheduler::Hash`].
        Hash = "hash",
    }
}

/// Which parts of a flow choose the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct HashOn {
    /// Whether `source-address` counts.
    pub source_address: bool,
    /// Whether `source-port` counts.
    pub source_port: bool,
    /// Whether `destination-address` counts.
    pub destination_address: bool,
    /// Whether `destination-port` counts.
    pub destination_port: bool,
}

named_enum! {
    /// How packets are forwarded to the server.
    #[derive(Default)]
    pub enum ForwardingMode {
        /// Destination address and port are translated; replies return through the engine.
        #[default]
        Nat = "nat",
        /// The source is translated too.
        FullNat = "full-nat",
        /// Direct server return on layer 2: only the destination MAC changes, and replies bypass the engine.
        Direct = "direct",
        /// Direct server return on layer 3: packets are sent to the server by IP in IP, and replies bypass the engine.
        Tunnel = "tunnel",
    }
}

/// Stickiness: the clients of one source prefix keep their server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StickyBy {
    /// IPv4 prefix length, 0 to 32.
    pub prefix: u8,
    /// IPv6 prefix length, 0 to 128.
    pub prefix6: u8,
    /// Idle time after which a client may get another server.
    pub timeout: Duration,
}

/// A virtual service as the packet path needs it.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its number.
    pub id: ServiceId,
    /// Its name, under which its state is kept.
    pub name: String,
    /// Its virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// Its IP protocol numbers: 6 (TCP), 17 (UDP) or both.
    pub protocols: Vec<u8>,
    /// Its ports; `any` is 1 to 65535.
    pub ports: Vec<RangeInclusive<u16>>,
    /// How a new session is assigned to a server.
    pub scheduler: Scheduler,
    /// How packets are forwarded to the server.
    pub mode: ForwardingMode,
    /// The source addresses that stand for clients in `full-nat`; if empty, those of the egress link.
    pub snat: Vec<IpAddr>,
    /// Whether and by which prefixes clients keep their server.
    pub sticky: Option<StickyBy>,
    /// What happens to the sessions of a server that went down; see [`OnFailure::for_flow`].
    pub on_failure: OnFailure,
    /// Whether it takes new sessions, which it does unless it is draining or in maintenance.
    pub accepts_new_sessions: bool,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<Server>,
    /// The table for [`Scheduler::Hash`], with positions in `servers`; empty for other schedulers.
    pub table: Arc<Maglev>,
    /// The servers that take part in [`Scheduler::RoundRobin`].
    pub rotation_members: RotationMembersByFamily,
    /// Its state, which survives snapshots and reloads.
    pub state: Arc<ServiceState>,
}

/// A real server as the packet path needs it.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its number.
    pub id: ServerId,
    /// Its name, which enters the hash and under which its state is kept.
    pub name: String,
    /// The server's address for IPv4 packets. It is an IPv4 address, except in mode `tunnel`, where it may be of either
    /// family.
    pub v4: Option<IpAddr>,
    /// The server's address for IPv6 packets, likewise.
    pub v6: Option<IpAddr>,
    /// The server's port; `None` for the port that the client used.
    pub port: Option<u16>,
    /// Its weight, 0 to 256. With 0 it takes no new clients; only sticky clients return to it.
    pub weight: u16,
    /// Whether it is a backup, which is used while every other server is down.
    pub backup: bool,
    /// For IPv4 and IPv6: whether its checks succeed, it is not in maintenance, and no drain deadline has passed.
    pub up: [bool; 2],
    /// For IPv4 and IPv6: whether its first check has not ended. It takes no new sessions then, but conversations from
    /// before the start of the engine may be its.
    pub is_starting: [bool; 2],
    /// Whether it is not draining. A draining server gets no sticky clients either, since the drain deadline would cut
    /// their sessions.
    pub accepts_new_sessions: bool,
    /// What an operator ordered for it or for its service, whichever is stricter.
    pub admin: AdminState,
    /// How an operator took it out of service, if it is not up for that reason.
    pub out_of_service: Option<OutOfService>,
    /// For IPv4 and IPv6: how often it went from up to down.
    pub failure_counts: [u32; 2],
    /// Whether a reload removed it. Only its remaining sessions refer to it then.
    pub is_removed: bool,
    /// Its state, which survives snapshots and reloads.
    pub state: Arc<ServerState>,
}

/// How an operator took a server out of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutOfService {
    /// The server or its service was draining for longer than `drain-timeout`.
    Drained,
    /// The server or its service is in maintenance.
    Maint,
}

/// A range of ports with the service that owns it.
type PortRange = (RangeInclusive<u16>, ServiceId);

/// A range of ports on which a server listens, with its service and server.
type Listener = (RangeInclusive<u16>, ServiceId, ServerId);

/// What exists at each address.
type ByAddress<A, T> = HashMap<A, Vec<T>, ahash::RandomState>;

/// All virtual services of an engine. A copy shares their data, so that publishing a new snapshot costs only what
/// changed.
#[derive(Debug, Clone, Default)]
pub struct Services {
    services: Arc<[Arc<Service>]>,
    /// For each server number, its service and its position there.
    places: Arc<[Option<(ServiceId, u16)>]>,
    /// For each virtual address and protocol, the port ranges with their service, the narrowest first.
    ports: Arc<ByAddress<(IpAddr, u8), PortRange>>,
    /// For each address and protocol, the ports of servers whose replies have to be translated.
    listeners: Arc<ByAddress<(IpAddr, u8), Listener>>,
    /// The servers of mode `tunnel`, by the address to which their packets are encapsulated.
    tunnels: Arc<ByAddress<IpAddr, (ServiceId, ServerId)>>,
}

impl Services {
    /// The services, in the order of their [`ServiceId`].
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
        for service in services.iter().filter(|service| service.mode == ForwardingMode::Tunnel) {
            for server in &service.servers {
                // Both families may use the same address.
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

    /// The same services with new states of those in `changed`: which servers are up, weights and so on. Their
    /// addresses, ports and lists of servers must be unchanged.
    #[must_use]
    pub fn with_states(&self, changed: Vec<Service>) -> Self {
        let mut services = self.services.to_vec();
        changed.iter().for_each(Service::prepare);
        for service in changed {
            if let Some(place) = services.get_mut(service.id.index()) {
                *place = Arc::new(service);
            }
        }
        Self { services: services.into(), ..self.clone() }
    }

    /// The service that owns a destination. Of several with this port it is the one with the narrowest range.
    pub fn find(&self, address: IpAddr, protocol: u8, port: u16) -> Option<&Service> {
        let ranges = self.ports.get(&(address, protocol))?;
        let (_, id) = ranges.iter().find(|(range, _)| range.contains(&port))?;
        self.get(*id)
    }

    /// True if a server listens there whose replies have to return through the engine (modes `nat` and `full-nat`).
    pub fn translates_replies(&self, address: IpAddr, protocol: u8, port: u16) -> bool {
        self.listener(address, protocol, port).is_some()
    }

    /// The server that listens there, if its replies have to return through the engine. Of several services the first
    /// counts.
    pub fn listener(&self, address: IpAddr, protocol: u8, port: u16) -> Option<(&Service, &Server)> {
        let listeners = self.listeners.get(&(address, protocol))?;
        let (_, service, server) = listeners.iter().find(|(ports, _, _)| ports.contains(&port))?;
        self.server(*service, *server)
    }

    /// The servers whose packets are encapsulated to this address.
    pub fn tunnels_to(&self, address: IpAddr) -> &[(ServiceId, ServerId)] {
        self.tunnels.get(&address).map_or(&[], Vec::as_slice)
    }

    /// The service with this number.
    pub fn get(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(id.index()).map(Arc::as_ref)
    }

    /// The server with this number, if it belongs to this service.
    pub fn server(&self, service: ServiceId, server: ServerId) -> Option<(&Service, &Server)> {
        let (of, place) = self.places.get(server.index()).copied().flatten()?;
        let found = self.get(service).filter(|_| of == service)?;
        Some((found, found.servers.get(usize::from(place))?))
    }

    /// All services in the order of their [`ServiceId`].
    pub fn all(&self) -> &[Arc<Service>] {
        &self.services
    }
}

/// The ports of servers whose replies have to be translated. Servers that a reload removed are left out.
fn listeners(services: &[Service]) -> ByAddress<(IpAddr, u8), Listener> {
    let mut listeners: HashMap<_, Vec<Listener>, ahash::RandomState> = HashMap::default();
    for service in
        services.iter().filter(|service| matches!(service.mode, ForwardingMode::Nat | ForwardingMode::FullNat))
    {
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
    /// The server's address for packets of a family.
    pub const fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Its state, as it is shown.
    pub fn availability(&self) -> Availability {
        Availability::of(self.admin, self.up.contains(&true), self.is_starting.contains(&true))
    }

    /// True if the server is up in a family.
    pub const fn is_up(&self, family: Family) -> bool {
        self.up[family_index(family)]
    }

    /// True if a conversation of a family that no session knows may have been this server's before the engine started.
    pub(crate) const fn may_own_conversation(&self, family: Family) -> bool {
        (self.is_up(family) || self.is_starting[family_index(family)]) && self.accepts_new_sessions && self.weight > 0
    }

    /// True if the server may get new sessions of a family; for a backup, if it is needed.
    pub(crate) const fn is_candidate(&self, family: Family) -> bool {
        self.is_up(family) && self.accepts_new_sessions && self.weight > 0
    }
}

/// The position of a family in arrays of both families.
pub const fn family_index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

/// True if every server that is not a backup is down in a family, so that the backups serve.
fn need_backups(servers: &[Server], family: Family) -> bool {
    !servers.iter().any(|server| !server.backup && server.is_up(family))
}
