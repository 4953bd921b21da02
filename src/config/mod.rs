//! What the operator meant: text in, [`Config`] or diagnostics out. Never touches files or devices.
//!
//! Three steps: what was typed ([`mod@file`]), what it means ([`Config`], made by [`load`]), what a worker looks at
//! ([`crate::engine::Snapshot`]). Validation collects every mistake with its place and a hint; after it nobody checks again.

mod api;
pub mod compare;
pub mod demands;
pub mod diagnostic;
pub mod difference;
pub mod file;
mod in_force;
pub mod numbering;
pub mod outside;
pub mod reader;
mod redact;
pub mod reference;
pub mod schema;
mod synonyms;
mod typed;
pub mod validate;
pub mod value;

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::flow::{HashMode, Seed};
pub use crate::health::{Check, CheckKind, ServiceCheck, ServiceCheckKind};
use crate::id::{DeviceId, FirewallId, GroupId, LinkId, PeerId, ServerId, ServiceId};
pub use crate::path::{Admin, BelowMin, OnFailure};
use crate::session::Timeouts;
pub use crate::slb::{HashOn, Mode, Scheduler, StickyBy};
use crate::time::Duration;
use crate::wire::Family;
use crate::wire::MacAddr;

pub use api::{Api, Role, Secret, Tls, Token};
pub use compare::compare;
pub use demands::demands;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use difference::{Difference, differences, refuse_hidden, refuse_link, refuse_restart};
pub use in_force::{Setting, in_force, settings};
pub use numbering::{InUse, NoNumbers, is_removed, renumber};
pub use redact::{hide_secrets, secrets};
pub use validate::{DOCUMENTATION_SEED, show_ports};

/// What a text means and what is wrong with it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The configuration, unless there are errors.
    pub config: Option<Config>,
    /// Errors and warnings in order of place.
    pub diagnostics: Diagnostics,
    /// What was typed, for [`compare()`]; none if the syntax is broken.
    file: Option<file::File>,
}

/// Reads a configuration from `text`. Messages call it `path`; `read_secret` reads the file of a `file:/path` secret.
pub fn load(path: &str, text: &str, read_secret: &mut dyn FnMut(&Path) -> Result<String, String>) -> Outcome {
    let mut diagnostics = Diagnostics::new(path, text);
    let file = file::read(text, &mut diagnostics);
    let config = match &file {
        Some(file) => validate::validate(file, digest(text), read_secret, &mut diagnostics),
        None => None,
    };
    diagnostics.sort();
    Outcome { config, diagnostics, file }
}

/// 16 hexadecimal digits that tell texts apart; comparable between engines of one version.
fn digest(text: &str) -> String {
    let mut hasher = siphasher::sip::SipHasher13::new();
    hasher.write(text.as_bytes());
    format!("{:016x}", hasher.finish())
}

/// A valid configuration: one engine.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[engine]`.
    pub engine: Engine,
    /// `[api]`.
    pub api: Api,
    /// `[log]`.
    pub log: Log,
    /// `[limits]`.
    pub limits: Limits,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
    /// Device names, by [`DeviceId`], in order of first mention.
    pub devices: Vec<String>,
    /// `[[link]]`, by [`LinkId`].
    pub links: Vec<Link>,
    /// `[[route]]`, one per prefix.
    pub routes: Vec<Route>,
    /// `[[group]]`, by [`GroupId`].
    pub groups: Vec<Group>,
    /// All firewalls of all groups, by [`FirewallId`].
    pub firewalls: Vec<Firewall>,
    /// All peers of all groups, by [`PeerId`].
    pub peers: Vec<Peer>,
    /// `[[service]]`, by [`ServiceId`].
    pub services: Vec<Service>,
    /// All real servers of all services, by [`ServerId`].
    pub servers: Vec<Server>,
    /// Digest of the text, for `show status`: 16 hexadecimal digits.
    pub digest: String,
}

impl Config {
    /// The port that the check of a server asks: the check's own, else the server's, else the first of the service.
    /// `direct` and `tunnel` servers have that of the service.
    pub fn check_port(&self, server: ServerId) -> Option<u16> {
        let server = self.servers.get(server.index())?;
        let service = self.services.get(server.service.index())?;
        let first = || service.ports.first().map(|ports| *ports.start());
        service.check.port.or(server.port).or_else(first)
    }

    /// The families in which a server serves, IPv4 first: those of its addresses. In mode `tunnel` those of the VIPs: what is
    /// packed and what it is packed in may be of two families.
    pub fn families(&self, server: ServerId) -> impl Iterator<Item = Family> + use<> {
        let server = &self.servers[server.index()];
        let service = &self.services[server.service.index()];
        let addresses = match service.mode {
            Mode::Nat | Mode::FullNat | Mode::Direct => &server.addresses,
            Mode::Tunnel => &service.addresses,
        };
        let has = |family| addresses.iter().any(|address| Family::of(*address) == family);
        [(Family::V4, has(Family::V4)), (Family::V6, has(Family::V6))]
            .into_iter()
            .filter_map(|(family, serves)| serves.then_some(family))
    }

    /// Where packets of a family are sent to reach a server: its address of that family; in mode `tunnel` else its other one.
    pub fn address_for(&self, server: ServerId, family: Family) -> Option<IpAddr> {
        let server = &self.servers[server.index()];
        let own = server.addresses.iter().find(|address| Family::of(**address) == family);
        let other = || match self.services[server.service.index()].mode {
            Mode::Nat | Mode::FullNat | Mode::Direct => None,
            Mode::Tunnel => server.addresses.first(),
        };
        own.or_else(other).copied()
    }
}

/// `[engine]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Unique among the engines that meet.
    pub name: String,
    /// Packet workers; `None`: one per CPU.
    pub workers: Option<u16>,
    /// How frames come and go.
    pub io: Io,
    /// With AF_PACKET, frames that ask nothing of a device leave by an AF_XDP socket where there can be one.
    pub xdp_send: bool,
    /// Workers spin instead of sleeping.
    pub busy_poll: bool,
    /// Control socket.
    pub control: PathBuf,
    /// State directory.
    pub state: PathBuf,
    /// Who the process becomes when it was started by root; `None`: `fwlb`, if there is such a user.
    pub user: Option<String>,
    /// Its group; `None`: the user's own.
    pub group: Option<String>,
    /// The process may make only the system calls that a running engine needs.
    pub sandbox: bool,
}

/// How the engine's devices are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Io {
    /// AF_PACKET sockets: any device, with its offloads.
    #[default]
    AfPacket,
    /// AF_XDP sockets: before the kernel's stack, without offloads, one engine on a device.
    AfXdp,
}

impl Io {
    /// Its word in the file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AfPacket => "af-packet",
            Self::AfXdp => "af-xdp",
        }
    }
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// JSON lines instead of text.
    pub json: bool,
    /// A line for every result of a health check, not only for those that change a state.
    pub checks: bool,
    /// Where a line of JSON is written for every session that ends.
    pub sessions: Option<PathBuf>,
    /// Collectors that get every line too.
    pub syslog: Vec<SyslogTarget>,
    /// Facility for the collectors (RFC 5424 section 6.2.1), 0..=23.
    pub facility: u8,
    /// What collectors are told that this machine is called; `None`: its own name.
    pub hostname: Option<String>,
}

/// Where a syslog collector listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SyslogTarget {
    /// UDP, one line a datagram (RFC 5426).
    Udp(SocketAddr),
    /// A socket of this machine, such as `/dev/log`.
    Local(PathBuf),
}

/// `[limits]`: capacities, reserved at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions.
    pub sessions: usize,
    /// Sticky entries.
    pub sticky: usize,
    /// Neighbours.
    pub neighbors: usize,
    /// Frames that wait for a neighbour.
    pub pending: usize,
    /// Frames on their way to the controller.
    pub punts: usize,
    /// Datagrams whose fragments are known.
    pub fragments: usize,
    /// Later fragments that wait for their first.
    pub held: usize,
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
        }
    }
}

/// `[[link]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Name.
    pub name: String,
    /// Device.
    pub device: DeviceId,
    /// 802.1Q tag, 1..=4094.
    pub vlan: Option<u16>,
    /// The engine's addresses with their subnets.
    pub addresses: Vec<IpNet>,
    /// Hardware address; `None`: the device's.
    pub mac: Option<MacAddr>,
    /// Largest IP packet in bytes, 576..=65,535; `None`: the device's.
    pub mtu: Option<u16>,
}

/// `[[route]]` for one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination prefix.
    pub to: IpNet,
    /// Where it leads.
    pub target: RouteTarget,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTarget {
    /// To a next hop.
    Via {
        /// On which link.
        link: LinkId,
        /// The next hop.
        via: IpAddr,
    },
    /// Through a group.
    Group {
        /// The group.
        group: GroupId,
        /// Only firewalls that are up toward this peer; `None`: toward every peer.
        peer: Option<PeerId>,
        /// Prefer this firewall while it is up.
        firewall: Option<FirewallId>,
        /// The way round the group: link and next hop.
        bypass: Option<(LinkId, IpAddr)>,
    },
}

/// `[[group]]`.
#[derive(Debug, Clone)]
pub struct Group {
    /// Name; the same on all engines.
    pub name: String,
    /// The shared secret as a key.
    pub seed: Seed,
    /// What enters the hash.
    pub hash: HashMode,
    /// For the sessions of a firewall that went down.
    pub on_failure: OnFailure,
    /// Fewer live firewalls than this: `below_min` applies.
    pub min_up: u16,
    /// Fail closed or open.
    pub below_min: BelowMin,
    /// How long a draining session may stay; `None`: for ever.
    pub drain_timeout: Option<Duration>,
    /// Probes.
    pub check: Check,
    /// Its firewalls, in order.
    pub firewalls: Vec<FirewallId>,
    /// Its peers, in order.
    pub peers: Vec<PeerId>,
}

/// `[[group.peer]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Name.
    pub name: String,
    /// Its group.
    pub group: GroupId,
    /// One per family; none: each firewall's own addresses (transparent firewalls).
    pub addresses: Vec<IpAddr>,
}

/// `[[group.firewall]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// Enters the hash.
    pub name: String,
    /// Its group.
    pub group: GroupId,
    /// The link it stands on.
    pub link: LinkId,
    /// Next hop, one per family.
    pub addresses: Vec<IpAddr>,
    /// How its packets are known.
    pub learn_by: LearnBy,
    /// 1..=256.
    pub weight: u16,
    /// Takes over only for a firewall that is down.
    pub spare: bool,
    /// Administrative state.
    pub admin: Admin,
}

/// `[[service]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Name.
    pub name: String,
    /// VIPs.
    pub addresses: Vec<IpAddr>,
    /// IP protocol numbers: 6, 17 or both.
    pub protocols: Vec<u8>,
    /// Ports; `any` is 1..=65535.
    pub ports: Vec<RangeInclusive<u16>>,
    /// How a new session takes its server.
    pub scheduler: Scheduler,
    /// How packets reach the server.
    pub mode: Mode,
    /// Full-nat: addresses that stand for clients; empty: those of the egress link.
    pub snat: Vec<IpAddr>,
    /// Clients keep their server.
    pub sticky: Option<StickyBy>,
    /// For TCP sessions of a server that went down.
    pub on_failure_tcp: OnFailure,
    /// For the others.
    pub on_failure_udp: OnFailure,
    /// How long a draining session may stay; `None`: for ever.
    pub drain_timeout: Option<Duration>,
    /// Administrative state.
    pub admin: Admin,
    /// How its servers are checked.
    pub check: ServiceCheck,
    /// Its servers, in order.
    pub servers: Vec<ServerId>,
}

/// `[[service.server]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Name.
    pub name: String,
    /// Its service.
    pub service: ServiceId,
    /// One per family.
    pub addresses: Vec<IpAddr>,
    /// `None`: the port that the client asked for.
    pub port: Option<u16>,
    /// 0..=256; 0 takes no new sessions.
    pub weight: u16,
    /// Used when every other server is down.
    pub backup: bool,
    /// Administrative state.
    pub admin: Admin,
}

/// How the packets of a firewall are known on its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LearnBy {
    /// By the MAC of its addresses.
    #[default]
    Mac,
    /// All that arrives on the link is from it.
    Link,
}

#[cfg(test)]
mod tests;
