//! What an engine tells about itself: copies, in the shape of the JSON of INTERFACE.md section 3.
//!
//! Keys are a contract: they may grow in number, never change name or meaning. `*_ms` are durations up to now in
//! milliseconds, `at` is RFC 3339 in UTC, counters are integers since start.

mod explain;
mod known;
mod measures;
mod orders;
mod plan;
mod sessions;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use plan::{ConfigView, KeptConfigView, MemberShare, MoveView, NewFlowsView, PlanView, ReloadView};

use crate::config::Admin;

pub use explain::{CandidateView, EgressView, ExplainView, ExplainedSessionView, ServerCandidateView, WhatIfView};
pub use known::KnownServer;
pub use measures::{HistogramView, MeasuresView, ProbeView, RingView, TableView, WorkerView};
pub(in crate::engine) use orders::order_words;
pub use orders::{OrderView, OverrideView};
pub use sessions::{KillView, PinView, SessionEndView, SessionView, TalkerView};

/// `show status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StatusView {
    /// Engine name.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Since start.
    pub uptime_ms: u64,
    /// Epoch of the snapshot in force.
    pub epoch: u64,
    /// Digest of the configuration text.
    pub config_digest: String,
    /// Packet workers.
    pub workers: usize,
    /// Live sessions.
    pub sessions: usize,
    /// Sessions that fit.
    pub capacity: usize,
    /// `active`.
    pub role: String,
    /// What is wrong.
    pub alarms: Vec<AlarmView>,
    /// What `fwlb set` overrides.
    pub overrides: Vec<OverrideView>,
}

/// Something that is wrong and lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AlarmView {
    /// `peer_lost`, `digest_differs`, `below_min`, ...
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// In words.
    pub reason: String,
    /// For how long.
    pub since_ms: u64,
}

/// `show firewalls`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FirewallView {
    /// Engine name.
    pub engine: String,
    /// Name.
    pub name: String,
    /// Group name.
    pub group: String,
    /// Link name.
    pub link: String,
    /// Next hops.
    pub addresses: Vec<String>,
    /// `up`, `degraded`, `down`, `drain` or `maint`.
    pub state: String,
    /// As configured.
    pub admin: Admin,
    /// As set by command.
    #[serde(rename = "override")]
    pub override_: Option<Admin>,
    /// Weight.
    pub weight: u16,
    /// Spare.
    pub spare: bool,
    /// Live sessions pinned to it.
    pub sessions: u64,
    /// Sessions pinned to it since start.
    pub new_sessions: u64,
    /// Packets sent to it and received from it.
    pub packets: u64,
    /// Bytes of IP sent to it and received from it.
    pub bytes: u64,
    /// In this state for.
    pub since_ms: u64,
    /// Why it is in this state, or is up and takes no new sessions.
    pub reason: Option<String>,
    /// It came back and is in its `hold` for so long: new sessions go to the firewalls that are not, if there are any; null
    /// if it is not in its hold.
    #[serde(default)]
    pub hold_ms: Option<u64>,
    /// New flows may go to it at this moment: it is live, and no better one is there where it drains or is in its hold.
    #[serde(default)]
    pub new_flows: bool,
    /// What operators ordered over the file and holds, here and at the engines on the far sides.
    #[serde(default)]
    pub orders: Vec<OrderView>,
    /// One per (peer, family).
    pub checks: Vec<CheckView>,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckView {
    /// Peer name.
    pub peer: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// `up` or `down`.
    pub state: String,
    /// Round trip of the last answered probe in microseconds.
    pub rtt_us: Option<u64>,
    /// In this state for.
    pub since_ms: u64,
    /// Why.
    pub reason: Option<String>,
}

/// `show services`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceView {
    /// Engine name.
    pub engine: String,
    /// Name.
    pub name: String,
    /// VIPs.
    pub addresses: Vec<String>,
    /// `tcp`, `udp`.
    pub protocols: Vec<String>,
    /// `80`, `8000-8099`, `any`.
    pub ports: Vec<String>,
    /// `round-robin`, `least-connections` or `hash`.
    pub scheduler: String,
    /// `nat`, `full-nat`, `direct` or `tunnel`.
    pub mode: String,
    /// `up`, `down`, `drain` or `maint`.
    pub state: String,
    /// As configured.
    pub admin: Admin,
    /// As set by command.
    #[serde(rename = "override")]
    pub override_: Option<Admin>,
    /// Live sessions.
    pub sessions: u64,
    /// Hash: the busiest server's share of the table over its fair share, by weight.
    pub imbalance: Option<f64>,
    /// Why it is in this state, in words; null while it is as the file says and up.
    #[serde(default)]
    pub reason: Option<String>,
    /// What operators ordered over the file and holds.
    #[serde(default)]
    pub orders: Vec<OrderView>,
    /// Its servers.
    pub servers: Vec<ServerView>,
}

/// One real server of `show services`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServerView {
    /// Name.
    pub name: String,
    /// RIPs.
    pub addresses: Vec<String>,
    /// Port; null: the one that the client asked for.
    pub port: Option<u16>,
    /// Used when every other server is down.
    pub backup: bool,
    /// `up`, `down`, `drain` or `maint`.
    pub state: String,
    /// As configured.
    pub admin: Admin,
    /// As set by command.
    #[serde(rename = "override")]
    pub override_: Option<Admin>,
    /// Weight in force.
    pub weight: u16,
    /// Weight as set by command.
    #[serde(default)]
    pub weight_override: Option<u16>,
    /// Live sessions.
    pub sessions: u64,
    /// Sessions since start.
    pub new_sessions: u64,
    /// Packets to it and from it.
    pub packets: u64,
    /// Bytes of IP to it and from it.
    pub bytes: u64,
    /// In this state for.
    pub since_ms: u64,
    /// Why it is in this state, in words.
    pub reason: Option<String>,
    /// What operators ordered over the file and holds: a state, a weight, or both.
    #[serde(default)]
    pub orders: Vec<OrderView>,
    /// One per family.
    pub checks: Vec<ServerCheckView>,
}

/// One family's check of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServerCheckView {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// `up` or `down`.
    pub state: String,
    /// In this state for.
    pub since_ms: u64,
    /// The last failure, in words: "HTTP 503, expected 200".
    pub reason: Option<String>,
}

/// `show peers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PeerView {
    /// Engine name.
    pub engine: String,
    /// Name of the peer as configured here.
    pub name: String,
    /// Group name.
    pub group: String,
    /// What the peer calls itself; null while unheard.
    pub peer_engine: Option<String>,
    /// `up`, `lost` or `down`.
    pub state: String,
    /// `same`, `differs` or `unknown`.
    pub digest: String,
    /// Its version.
    pub version: Option<String>,
    /// In this state for.
    pub since_ms: u64,
    /// Why.
    pub reason: Option<String>,
}

/// `health`: whether an engine forwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HealthView {
    /// Engine name.
    pub engine: String,
    /// True if there is no problem; warnings may be there all the same.
    pub healthy: bool,
    /// What stops packets, or may.
    pub problems: Vec<ProblemView>,
    /// Other alarms: packets go on beside them, or something stands in for what failed.
    #[serde(default)]
    pub warnings: Vec<ProblemView>,
}

/// What is wrong with an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProblemView {
    /// `link_down`, `worker_stuck` or the kind of an alarm.
    pub kind: String,
    /// What it is about: a link, a worker, a service.
    pub subject: String,
    /// In words.
    pub reason: String,
}

/// `show links`, as `ip -s link`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LinkView {
    /// Engine name.
    pub engine: String,
    /// Name.
    pub name: String,
    /// Device.
    pub device: String,
    /// 802.1Q tag.
    pub vlan: Option<u16>,
    /// `up` or `down`.
    pub state: String,
    /// Why it is down: `no carrier`, `set down` or `the device is missing`; null while it is up.
    #[serde(default)]
    pub reason: Option<String>,
    /// Hardware address.
    pub mac: String,
    /// MTU in bytes.
    pub mtu: u16,
    /// The engine's addresses on it.
    pub addresses: Vec<String>,
    /// `af-packet` or `af-xdp`.
    #[serde(default)]
    pub io: String,
    /// With AF_XDP how it takes the frames: `native-zero-copy`, `native-copy` or `generic-copy`. With AF_PACKET `xdp-send` where
    /// frames leave by AF_XDP, else null, as while the device is missing.
    #[serde(default)]
    pub io_mode: Option<String>,
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames received and dropped.
    pub rx_dropped: u64,
    /// Frames that the ring had no room for.
    pub ring_dropped: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that the device refused.
    pub tx_errors: u64,
}

/// `show neighbors`, as `ip neigh`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NeighborView {
    /// Engine name.
    pub engine: String,
    /// Address.
    pub address: String,
    /// Link name.
    pub link: String,
    /// Hardware address; null while unresolved.
    pub mac: Option<String>,
    /// `incomplete`, `reachable`, `stale`, `probe` or `failed`.
    pub state: String,
    /// Last confirmed.
    pub age_ms: Option<u64>,
}

/// `show counters`: one flat object.
pub type CountersView = BTreeMap<String, u64>;

/// `show events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventView {
    /// Grows by one.
    pub seq: u64,
    /// RFC 3339, UTC; filled in by the owner of the wall clock.
    pub at: String,
    /// `path`, `firewall`, `peer`, `link`, `admin`, `alarm`, `engine`, ...
    pub kind: String,
    /// What changed.
    pub subject: String,
    /// Old state.
    pub from: Option<String>,
    /// New state.
    pub to: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Who, for administrative changes.
    pub by: Option<String>,
    /// How long the old state lasted, in milliseconds; where that is not told with it, filled in by the owner of the log.
    #[serde(default)]
    pub lasted_ms: Option<u64>,
}

/// The result of one health check, for `[log] checks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedView {
    /// `web/s1 ipv4`, `perimeter/fw1 to inner ipv4`.
    pub subject: String,
    /// `passed`, `failed`, or `excused`: failed while the engine was not punctual.
    pub result: &'static str,
    /// State after it: `up` or `down`.
    pub state: &'static str,
    /// Why it failed.
    pub reason: Option<String>,
    /// How long the answer took.
    pub rtt_us: Option<u64>,
}

/// One line of `fwlb probe` and `fwlb ping`: what was sent or came, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExchangeStep {
    /// Microseconds since the first frame.
    pub at_us: u64,
    /// `sent` or `received`.
    pub direction: String,
    /// The frame in words.
    pub what: String,
}

/// The outcome of `fwlb probe` and `fwlb ping`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExchangeView {
    /// Engine name.
    pub engine: String,
    /// What was probed.
    pub subject: String,
    /// It answered as it should.
    pub ok: bool,
    /// In words.
    pub reason: Option<String>,
    /// Round trip in microseconds.
    pub rtt_us: Option<u64>,
    /// Frame by frame.
    pub steps: Vec<ExchangeStep>,
}
