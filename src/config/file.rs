//! Holds what was typed: the tables of the TOML text, every value with its place and its type. It resolves no names
//! and fills in no defaults; [`crate::config::validate`] does that.

#![expect(missing_docs, reason = "fields and variants have the names of the keys and words, which `keys` describes")]

mod api;
pub(super) mod choices;
pub(super) mod keys;
mod log;
mod read;
mod service_keys;
mod services;

use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::config::reader::{Field, Located};
use crate::config::{AdminState, BelowMin, Io, LearnBy, OnFailure};
use crate::flow::HashMode;
use crate::time::Duration;
use crate::wire::MacAddr;

pub use api::{Api, Tls, Token};
pub use log::Log;
pub use read::read;
pub use services::{HashPart, Server, Service, ServiceCheck, ServiceCheckKindName, Sticky, addresses_of};

/// The tables of one file.
#[derive(Debug, Clone)]
pub struct File {
    pub engine: Option<Engine>,
    pub api: Api,
    pub log: Log,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub links: Vec<Link>,
    pub routes: Vec<Route>,
    pub groups: Vec<Group>,
    pub services: Vec<Service>,
}

/// The values of `[engine]`.
#[derive(Debug, Clone)]
pub struct Engine {
    pub name: Field<String>,
    pub workers: Field<u64>,
    pub io: Field<Io>,
    pub xdp_send: Field<bool>,
    pub busy_poll: Field<bool>,
    pub control: Field<PathBuf>,
    pub state: Field<PathBuf>,
    pub user: Field<String>,
    pub group: Field<String>,
    pub sandbox: Field<bool>,
}

/// The values of `[limits]`.
#[derive(Debug, Clone)]
pub struct Limits {
    pub sessions: Field<u64>,
    pub sticky: Field<u64>,
    pub neighbors: Field<u64>,
    pub pending: Field<u64>,
    pub punts: Field<u64>,
    pub fragments: Field<u64>,
    pub held: Field<u64>,
    pub source_sessions: Field<u64>,
    pub source_rate: Field<u64>,
}

/// The values of `[timeouts]`.
#[derive(Debug, Clone)]
pub struct Timeouts {
    pub tcp_syn: Field<Duration>,
    pub tcp_established: Field<Duration>,
    pub tcp_closing: Field<Duration>,
    pub udp_new: Field<Duration>,
    pub udp: Field<Duration>,
    pub icmp: Field<Duration>,
    pub other: Field<Duration>,
    pub fragment: Field<Duration>,
}

/// The values of `[[link]]`.
#[derive(Debug, Clone)]
pub struct Link {
    /// Byte range of the header.
    pub span: Range<usize>,
    pub name: Field<String>,
    pub device: Field<String>,
    pub vlan: Field<u64>,
    pub addresses: Field<Vec<Located<IpNet>>>,
    pub mac: Field<MacAddr>,
    pub mtu: Field<u64>,
}

/// An item of `to` of `[[route]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// `default`: the default routes of both families.
    Default,
    /// A prefix.
    Prefix(IpNet),
}

/// The values of `[[route]]`.
#[derive(Debug, Clone)]
pub struct Route {
    /// Byte range of the header.
    pub span: Range<usize>,
    pub to: Field<Vec<Located<Destination>>>,
    pub via: Field<Vec<Located<IpAddr>>>,
    pub link: Field<String>,
    pub group: Field<String>,
    pub peer: Field<String>,
    pub firewall: Field<String>,
}

/// The values of `[[group]]`.
#[derive(Debug, Clone)]
pub struct Group {
    /// Byte range of the header.
    pub span: Range<usize>,
    pub name: Field<String>,
    pub seed: Field<String>,
    pub hash: Field<HashMode>,
    pub on_failure: Field<OnFailure>,
    pub min_up: Field<u64>,
    pub below_min: Field<BelowMin>,
    pub drain_timeout: Field<Option<Duration>>,
    pub check: Option<Check>,
    pub peers: Vec<Peer>,
    pub firewalls: Vec<Firewall>,
}

named_enum! {
    /// `kind` of `[group.check]`.
    pub enum CheckKindName {
        Icmp = "icmp",
        Tcp = "tcp",
        Udp = "udp",
        None = "none",
    }
}

/// The values of `[group.check]`.
#[derive(Debug, Clone)]
pub struct Check {
    /// Byte range of the header.
    pub span: Range<usize>,
    pub kind: Field<CheckKindName>,
    pub port: Field<u64>,
    pub interval: Field<Duration>,
    pub timeout: Field<Duration>,
    pub fall: Field<u64>,
    pub rise: Field<u64>,
    pub hold: Field<Duration>,
}

/// The values of `[[group.peer]]`.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Byte range of the header.
    pub span: Range<usize>,
    pub name: Field<String>,
    pub addresses: Field<Vec<Located<IpAddr>>>,
}

/// The values of `[[group.firewall]]`.
#[derive(Debug, Clone)]
pub struct Firewall {
    /// Byte range of the header.
    pub span: Range<usize>,
    pub name: Field<String>,
    pub link: Field<String>,
    pub addresses: Field<Vec<Located<IpAddr>>>,
    pub learn_by: Field<LearnBy>,
    pub weight: Field<u64>,
    pub spare: Field<bool>,
    pub admin: Field<AdminState>,
}
