//! Decides what the operator meant: a TOML text becomes a [`Config`], or diagnostics that say what is wrong with it. It
//! touches neither files nor devices.
//!
//! A configuration passes three forms: what was typed ([`mod@file`]), what it means ([`Config`], made by [`load`]), and
//! what a packet worker looks at ([`crate::engine::Snapshot`]). Validation reports every mistake with its place and a
//! hint; nothing behind it checks the values again.

mod api;
mod cluster;
pub mod compare;
pub mod diagnostic;
pub mod difference;
mod fact;
mod field;
pub mod file;
mod ha;
pub mod numbering;
pub mod reader;
mod redact;
pub mod reference;
pub mod requirements;
mod running;
pub mod schema;
mod sections;
mod source_text;
mod synonyms;
pub mod system;
#[cfg(test)]
pub mod testing;
pub mod validate;
pub mod value;

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::flow::{AffinityRule, HashMode, Seed};
pub use crate::health::{PathCheck, PathCheckKind, ServiceCheck, ServiceCheckKind};
use crate::id::{DeviceId, FirewallId, GroupId, LinkId, PeerId, ServerId, ServiceId};
pub use crate::path::{AdminState, BelowMin, OnFailure};
use crate::session::{SourceLimits, Timeouts};
pub use crate::slb::{ForwardingMode, HashOn, Scheduler, SchedulerName, StickyBy};
use crate::time::Duration;
use crate::wire::Family;
use crate::wire::MacAddr;

pub use api::{Api, Role, Secret, Tls, Token};
pub use compare::compare;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use difference::{Difference, differences, refuse_hidden, refuse_link, refuse_restart};
pub use ha::{FloatingMac, Ha, PortSharing, SessionCopying};
pub use numbering::{IdsExhausted, InUse, is_removed, renumber};
pub use redact::{hide_secrets, secrets};
pub use requirements::requirements;
pub use running::{Setting, running_config, settings};
pub use validate::DOCUMENTATION_SEED;
pub use value::format_ports;

/// What [`load`] made of a text: its meaning, and what is wrong with it.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    /// The configuration, unless there are errors.
    pub config: Option<Config>,
    /// Errors and warnings in the order of the text.
    pub diagnostics: Diagnostics,
    /// The typed values, which [`compare()`] needs; `None` if the syntax is broken.
    file: Option<file::File>,
}

/// Reads a configuration from `text`. Diagnostics call the text `path`; `read_secret` reads the file that a
/// `file:/path` value names.
pub fn load(path: &str, text: &str, read_secret: &mut dyn FnMut(&Path) -> Result<String, String>) -> LoadedConfig {
    let mut diagnostics = Diagnostics::new(path, text);
    let file = file::read(text, &mut diagnostics);
    let config = match &file {
        Some(file) => validate::validate(file, digest(text), read_secret, &mut diagnostics),
        None => None,
    };
    diagnostics.sort();
    LoadedConfig { config, diagnostics, file }
}

/// A 64-bit SipHash-1-3 of the text as 16 hexadecimal digits. Engines of one version give equal texts equal digests.
fn digest(text: &str) -> String {
    let mut hasher = siphasher::sip::SipHasher13::new();
    hasher.write(text.as_bytes());
    format!("{:016x}", hasher.finish())
}

/// A valid configuration of one engine.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[engine]`: the process.
    pub engine: Engine,
    /// `[api]`: the HTTP API.
    pub api: Api,
    /// `[log]`: what is logged, and where to.
    pub log: Log,
    /// `[limits]`: capacities of the tables.
    pub limits: Limits,
    /// `[timeouts]`: idle times of sessions.
    pub timeouts: Timeouts,
    /// `[ha]`: the nodes that are one virtual router together; `None` for an engine that stands alone.
    pub ha: Option<Ha>,
    /// The names of the devices, indexed by [`DeviceId`], in the order in which links mention them.
    pub devices: Vec<String>,
    /// `[[link]]`, indexed by [`LinkId`].
    pub links: Vec<Link>,
    /// `[[route]]`: one entry per destination prefix.
    pub routes: Vec<Route>,
    /// `[[group]]`, indexed by [`GroupId`].
    pub groups: Vec<Group>,
    /// The firewalls of all groups, indexed by [`FirewallId`].
    pub firewalls: Vec<Firewall>,
    /// The peers of all groups, indexed by [`PeerId`].
    pub peers: Vec<Peer>,
    /// `[[service]]`, indexed by [`ServiceId`].
    pub services: Vec<Service>,
    /// The real servers of all services, indexed by [`ServerId`].
    pub servers: Vec<Server>,
    /// Digest of the text that `show status` prints: 16 hexadecimal digits.
    pub digest: String,
}

impl Config {
    /// The TCP or UDP port that health checks of a server go to: the port of the check if it has one, else that of the
    /// server, else the first port of the service. Servers of mode `direct` and `tunnel` have no port of their own.
    pub fn check_port(&self, server: ServerId) -> Option<u16> {
        let server = self.servers.get(server.index())?;
        let service = self.services.get(server.service.index())?;
        let first = || service.ports.first().map(|ports| *ports.start());
        service.check.port.or(server.port).or_else(first)
    }

    /// The address families in which a server takes sessions, IPv4 first. They are the families of its own addresses,
    /// but in mode `tunnel` those of the VIPs, as a tunnel may carry one family in the other.
    pub fn families(&self, server: ServerId) -> impl Iterator<Item = Family> + use<> {
        let server = &self.servers[server.index()];
        let service = &self.services[server.service.index()];
        let addresses = match service.mode {
            ForwardingMode::Nat | ForwardingMode::FullNat | ForwardingMode::Direct => &server.addresses,
            ForwardingMode::Tunnel => &service.addresses,
        };
        let has = |family| addresses.iter().any(|address| Family::of(*address) == family);
        [(Family::V4, has(Family::V4)), (Family::V6, has(Family::V6))]
            .into_iter()
            .filter_map(|(family, serves)| serves.then_some(family))
    }

    /// The address of a server to which packets of a family are sent: its address of that family. In mode `tunnel` a
    /// server without one gets them at its address of the other family.
    pub fn address_for(&self, server: ServerId, family: Family) -> Option<IpAddr> {
        let server = &self.servers[server.index()];
        let own = server.addresses.iter().find(|address| Family::of(**address) == family);
        let other = || match self.services[server.service.index()].mode {
            ForwardingMode::Nat | ForwardingMode::FullNat | ForwardingMode::Direct => None,
            ForwardingMode::Tunnel => server.addresses.first(),
        };
        own.or_else(other).copied()
    }

    /// The addresses of all services, and those that stand for their clients, in order and each once.
    pub fn virtual_addresses(&self) -> Vec<IpAddr> {
        let of_services = self.services.iter().flat_map(|service| service.addresses.iter().chain(&service.snat));
        let mut addresses: Vec<IpAddr> = of_services.copied().collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }
}

/// `[engine]`: the process and how it does packet I/O.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// The engine's name, unique among the engines that share firewalls or a machine.
    pub name: String,
    /// Number of packet workers; `None` means one per CPU.
    pub workers: Option<u16>,
    /// The kind of socket that frames are received and sent with.
    pub io: Io,
    /// With AF_PACKET: frames that need no device offload are sent by an AF_XDP socket where the device allows one.
    pub xdp_send: bool,
    /// Workers poll without ever sleeping.
    pub busy_poll: bool,
    /// Path of the control socket.
    pub control: PathBuf,
    /// Directory of the files that survive a restart.
    pub state: PathBuf,
    /// The user that a process started by root switches to; `None` means `fwlb`, if there is such a user.
    pub user: Option<String>,
    /// The group that goes with `user`; `None` means the primary group of the user.
    pub group: Option<String>,
    /// Whether a seccomp filter restricts the process to the system calls that a running engine needs.
    pub sandbox: bool,
}

named_enum! {
    /// The kind of socket with which the engine opens its devices.
    #[derive(Default)]
    pub enum Io {
        /// AF_PACKET sockets: they work on every device and use its offloads.
        #[default]
        AfPacket = "af-packet",
        /// AF_XDP sockets: they take frames before the kernel's stack sees them, use no offloads, and allow one engine
        /// per device.
        AfXdp = "af-xdp",
    }
}

/// `[log]`: what is logged, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is logged: `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// Whether lines are JSON instead of text.
    pub json: bool,
    /// Whether every result of a health check is logged, and not only those that change a state.
    pub checks: bool,
    /// The file that gets one line of JSON for every session that ends.
    pub sessions: Option<PathBuf>,
    /// Syslog collectors that get every line as well.
    pub syslog: Vec<SyslogTarget>,
    /// The syslog facility code (RFC 5424 section 6.2.1), 0..=23.
    pub facility: u8,
    /// The HOSTNAME field of syslog messages; `None` means the name of the machine.
    pub hostname: Option<String>,
}

/// The address of a syslog collector.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SyslogTarget {
    /// A UDP address, to which each line is sent as one datagram (RFC 5426).
    Udp(SocketAddr),
    /// A Unix datagram socket of this machine, such as `/dev/log`.
    Local(PathBuf),
}

/// `[limits]`: the capacity of each table, reserved at start, and limits per source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of the session table.
    pub sessions: usize,
    /// Entries of the sticky table: clients whose server is remembered.
    pub sticky: usize,
    /// Entries of the neighbour table.
    pub neighbors: usize,
    /// Frames that wait until the MAC address of their next hop is resolved.
    pub pending: usize,
    /// Frames in the queue from the packet workers to the controller.
    pub punts: usize,
    /// Fragmented datagrams that are tracked.
    pub fragments: usize,
    /// Later fragments that are held until the first fragment of their datagram arrives.
    pub held: usize,
    /// The limits of sessions for each source address.
    pub source: SourceLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 1_000_000,
            sticky: 100_000,
            neighbors: 1024,
            pending: 256,
            punts: 4096,
            fragments: 4096,
            held: 1024,
            source: SourceLimits::default(),
        }
    }
}

/// `[[link]]`: a device, or one VLAN on it, with the engine's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The link's name, unique in the file.
    pub name: String,
    /// The device that carries the link.
    pub device: DeviceId,
    /// 802.1Q VLAN identifier, 1..=4094; `None` for untagged frames.
    pub vlan: Option<u16>,
    /// The engine's addresses on the link, each with the prefix length of its subnet.
    pub addresses: Vec<IpNet>,
    /// The engine's MAC address on the link; `None` means that of the device.
    pub mac: Option<MacAddr>,
    /// MTU: the largest IP packet in bytes, 576..=65,535; `None` means that of the device.
    pub mtu: Option<u16>,
    /// The addresses of whichever node is active, those of IPv4 first; of IPv6 a link-local one first.
    pub floating: Vec<IpAddr>,
    /// The virtual router identifier, 1..=255; `None` means that of `[ha]`.
    pub vrid: Option<u8>,
    /// Whether the loss of the link lowers the priority of this node.
    pub track: bool,
    /// Whether advertisements go to each node's own address instead of the group of all VRRP routers.
    pub unicast: bool,
}

/// `[[route]]`, resolved for one destination prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination prefix.
    pub to: IpNet,
    /// Where packets to that prefix go.
    pub target: RouteTarget,
}

/// Where packets of a route go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTarget {
    /// To a next hop.
    Via {
        /// The link of the next hop.
        link: LinkId,
        /// The next hop's address.
        via: IpAddr,
    },
    /// Through the firewalls of a group.
    Group {
        /// The group.
        group: GroupId,
        /// Only firewalls that are up toward this peer are eligible; `None`: those that are up toward every peer.
        peer: Option<PeerId>,
        /// The firewall that is used while it is up, instead of the one that the hash gives.
        firewall: Option<FirewallId>,
        /// Link and next hop that lead past the firewalls, for `below-min = "bypass"`.
        bypass: Option<(LinkId, IpAddr)>,
    },
}

/// `[[group]]`: stateful firewalls that share load.
#[derive(Debug, Clone)]
pub struct Group {
    /// The group's name, the same on all its engines.
    pub name: String,
    /// The key of hash and probes, made from the shared secret.
    pub seed: Seed,
    /// Which fields of a packet the hash covers.
    pub hash: HashMode,
    /// The hosts whose flows are hashed by other fields, at most one rule for each prefix.
    pub affinity: Vec<AffinityRule>,
    /// What happens to the sessions of a firewall that went down.
    pub on_failure: OnFailure,
    /// The least number of live firewalls; with fewer, `below_min` applies.
    pub min_up: u16,
    /// Whether packets are dropped or bypass the firewalls while fewer than `min_up` are live.
    pub below_min: BelowMin,
    /// How long the sessions of a draining firewall may stay; `None` means without limit.
    pub drain_timeout: Option<Duration>,
    /// How the paths through the firewalls are probed.
    pub check: PathCheck,
    /// The group's firewalls, in the order of the file.
    pub firewalls: Vec<FirewallId>,
    /// The group's peers, in the order of the file.
    pub peers: Vec<PeerId>,
}

/// `[[group.peer]]`: an engine on the far side of a group's firewalls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The peer's name, unique in its group.
    pub name: String,
    /// The group that it belongs to.
    pub group: GroupId,
    /// The addresses that probes go to, at most one per family. Without any, probes go to each firewall's own
    /// `addresses`: with transparent firewalls these are the peer's.
    pub addresses: Vec<IpAddr>,
    /// The engines behind these addresses, where the file names them.
    pub engines: Vec<PeerEngine>,
}

impl Peer {
    /// The engine that has this address of its own.
    pub fn engine_at(&self, address: IpAddr) -> Option<&PeerEngine> {
        self.engines.iter().find(|engine| engine.addresses.contains(&address))
    }
}

/// One of `engines` of `[[group.peer]]`: a node of the cluster that has the peer's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerEngine {
    /// The engine's name, unique in the peer.
    pub name: String,
    /// Addresses of its own, at most one per family.
    pub addresses: Vec<IpAddr>,
}

/// `[[group.firewall]]`: a firewall of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// The firewall's name, unique in its group; it is part of the hash input.
    pub name: String,
    /// The group that it belongs to.
    pub group: GroupId,
    /// The link on which it is a neighbour.
    pub link: LinkId,
    /// Next-hop addresses, at most one per family.
    pub addresses: Vec<IpAddr>,
    /// How packets that come from this firewall are recognised.
    pub learn_by: LearnBy,
    /// Share of the flows relative to other firewalls, 1..=256.
    pub weight: u16,
    /// A spare takes flows only in place of a firewall that is down.
    pub spare: bool,
    /// The administrative state in the file.
    pub admin: AdminState,
}

/// `[[service]]`: a virtual service and how it is balanced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The service's name, unique in the file.
    pub name: String,
    /// The virtual addresses (VIPs).
    pub addresses: Vec<IpAddr>,
    /// The IP protocol numbers that are served: 6 (TCP), 17 (UDP) or both.
    pub protocols: Vec<u8>,
    /// The destination ports that are served; `any` is 1..=65,535.
    pub ports: Vec<RangeInclusive<u16>>,
    /// How a server is chosen for a new session.
    pub scheduler: Scheduler,
    /// How packets are passed to the server: NAT, full NAT, direct or tunnel.
    pub mode: ForwardingMode,
    /// Mode `full-nat`: the source addresses that replace those of clients. Without any, the engine's addresses on the
    /// link toward the server are used.
    pub snat: Vec<IpAddr>,
    /// Source-address persistence; `None` means that each session is scheduled by itself.
    pub sticky: Option<StickyBy>,
    /// What happens to the sessions of a server that went down; see [`OnFailure::for_flow`].
    pub on_failure: OnFailure,
    /// How long the sessions of a draining server may stay; `None` means without limit.
    pub drain_timeout: Option<Duration>,
    /// The administrative state in the file.
    pub admin: AdminState,
    /// Whether connections of clients count against its servers.
    pub observe: Observe,
    /// The health check of its servers.
    pub check: ServiceCheck,
    /// The service's servers, in the order of the file.
    pub servers: Vec<ServerId>,
}

/// `[[service.server]]`: a real server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The server's name, unique in its service.
    pub name: String,
    /// The service that it belongs to.
    pub service: ServiceId,
    /// The server's addresses, at most one per family.
    pub addresses: Vec<IpAddr>,
    /// The port that traffic is sent to; `None` means the destination port that the client used.
    pub port: Option<u16>,
    /// Share of the sessions relative to other servers, 0..=256; a server of weight 0 takes no new sessions.
    pub weight: u16,
    /// A backup takes sessions only while every other server is down.
    pub backup: bool,
    /// The administrative state in the file.
    pub admin: AdminState,
}

named_enum! {
    /// Passive checks: what connections of clients say about a server.
    #[derive(Default)]
    pub enum Observe {
        /// Nothing.
        #[default]
        Off = "off",
        /// Refused and unanswered TCP connections count against it.
        Layer4 = "layer4",
    }
}

named_enum! {
    /// How packets that come from a firewall are recognised on its link.
    #[derive(Default)]
    pub enum LearnBy {
        /// By their source MAC address, which is that of one of the firewall's addresses.
        #[default]
        Mac = "mac",
        /// By their link: every packet that arrives on it comes from this firewall.
        Link = "link",
    }
}

#[cfg(test)]
mod tests;
