//! What was typed: the tables of the TOML text, every value with its place, words already turned into values.
//!
//! Names are not resolved here; [`crate::config::validate`] does that.

mod api;
pub(super) mod keys;
mod log;
mod read;
mod service_keys;
mod services;
pub(super) mod words;

use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::config::reader::{At, Field};
use crate::config::{Admin, BelowMin, Io, LearnBy, OnFailure};
use crate::flow::HashMode;
use crate::time::Duration;
use crate::wire::MacAddr;

pub use api::{Api, Tls, Token};
pub use log::Log;
pub use read::read;
pub use services::{HashPart, SchedulerName, Server, Service, ServiceCheck, ServiceKind, Sticky, addresses_of};

/// A whole file.
#[derive(Debug, Clone)]
pub struct File {
    /// `[engine]`.
    pub engine: Option<Engine>,
    /// `[api]`.
    pub api: Api,
    /// `[log]`.
    pub log: Log,
    /// `[limits]`.
    pub limits: Limits,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
    /// `[[link]]`.
    pub links: Vec<Link>,
    /// `[[route]]`.
    pub routes: Vec<Route>,
    /// `[[group]]`.
    pub groups: Vec<Group>,
    /// `[[service]]`.
    pub services: Vec<Service>,
}

/// `[engine]`.
#[derive(Debug, Clone)]
pub struct Engine {
    /// `name`.
    pub name: Field<String>,
    /// `workers`.
    pub workers: Field<u64>,
    /// `io`.
    pub io: Field<Io>,
    /// `xdp-send`.
    pub xdp_send: Field<bool>,
    /// `busy-poll`.
    pub busy_poll: Field<bool>,
    /// `control`.
    pub control: Field<PathBuf>,
    /// `state`.
    pub state: Field<PathBuf>,
    /// `user`.
    pub user: Field<String>,
    /// `group`.
    pub group: Field<String>,
    /// `sandbox`.
    pub sandbox: Field<bool>,
}

/// `[limits]`.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `sessions`.
    pub sessions: Field<u64>,
    /// `sticky`.
    pub sticky: Field<u64>,
    /// `neighbors`.
    pub neighbors: Field<u64>,
    /// `pending`.
    pub pending: Field<u64>,
    /// `punts`.
    pub punts: Field<u64>,
    /// `fragments`.
    pub fragments: Field<u64>,
    /// `held`.
    pub held: Field<u64>,
    /// `source-sessions`.
    pub source_sessions: Field<u64>,
    /// `source-rate`.
    pub source_rate: Field<u64>,
}

/// `[timeouts]`.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// `tcp-syn`.
    pub tcp_syn: Field<Duration>,
    /// `tcp-established`.
    pub tcp_established: Field<Duration>,
    /// `tcp-closing`.
    pub tcp_closing: Field<Duration>,
    /// `udp-new`.
    pub udp_new: Field<Duration>,
    /// `udp`.
    pub udp: Field<Duration>,
    /// `icmp`.
    pub icmp: Field<Duration>,
    /// `other`.
    pub other: Field<Duration>,
    /// `fragment`.
    pub fragment: Field<Duration>,
}

/// `[[link]]`.
#[derive(Debug, Clone)]
pub struct Link {
    /// Its header.
    pub span: Range<usize>,
    /// `name`.
    pub name: Field<String>,
    /// `device`.
    pub device: Field<String>,
    /// `vlan`.
    pub vlan: Field<u64>,
    /// `addresses`.
    pub addresses: Field<Vec<At<IpNet>>>,
    /// `mac`.
    pub mac: Field<MacAddr>,
    /// `mtu`.
    pub mtu: Field<u64>,
}

/// One destination of `[[route]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// `default`: both families.
    Default,
    /// A prefix.
    Prefix(IpNet),
}

/// `[[route]]`.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its header.
    pub span: Range<usize>,
    /// `to`.
    pub to: Field<Vec<At<Destination>>>,
    /// `via`.
    pub via: Field<Vec<At<IpAddr>>>,
    /// `link`.
    pub link: Field<String>,
    /// `group`.
    pub group: Field<String>,
    /// `peer`.
    pub peer: Field<String>,
    /// `firewall`.
    pub firewall: Field<String>,
}

/// `[[group]]`.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its header.
    pub span: Range<usize>,
    /// `name`.
    pub name: Field<String>,
    /// `seed`.
    pub seed: Field<String>,
    /// `hash`.
    pub hash: Field<HashMode>,
    /// `on-failure`.
    pub on_failure: Field<OnFailure>,
    /// `min-up`.
    pub min_up: Field<u64>,
    /// `below-min`.
    pub below_min: Field<BelowMin>,
    /// `drain-timeout`.
    pub drain_timeout: Field<Option<Duration>>,
    /// `[group.check]`.
    pub check: Option<Check>,
    /// `[[group.peer]]`.
    pub peers: Vec<Peer>,
    /// `[[group.firewall]]`.
    pub firewalls: Vec<Firewall>,
}

/// `kind` of `[group.check]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `icmp`.
    Icmp,
    /// `tcp`.
    Tcp,
    /// `udp`.
    Udp,
    /// `none`.
    None,
}

/// `[group.check]`.
#[derive(Debug, Clone)]
pub struct Check {
    /// Its header.
    pub span: Range<usize>,
    /// `kind`.
    pub kind: Field<Kind>,
    /// `port`.
    pub port: Field<u64>,
    /// `interval`.
    pub interval: Field<Duration>,
    /// `timeout`.
    pub timeout: Field<Duration>,
    /// `fall`.
    pub fall: Field<u64>,
    /// `rise`.
    pub rise: Field<u64>,
    /// `hold`.
    pub hold: Field<Duration>,
}

/// `[[group.peer]]`.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its header.
    pub span: Range<usize>,
    /// `name`.
    pub name: Field<String>,
    /// `addresses`.
    pub addresses: Field<Vec<At<IpAddr>>>,
}

/// `[[group.firewall]]`.
#[derive(Debug, Clone)]
pub struct Firewall {
    /// Its header.
    pub span: Range<usize>,
    /// `name`.
    pub name: Field<String>,
    /// `link`.
    pub link: Field<String>,
    /// `addresses`.
    pub addresses: Field<Vec<At<IpAddr>>>,
    /// `learn-by`.
    pub learn_by: Field<LearnBy>,
    /// `weight`.
    pub weight: Field<u64>,
    /// `spare`.
    pub spare: Field<bool>,
    /// `admin`.
    pub admin: Field<Admin>,
}
