//! Copies of an engine's state for people and programs, in the form of the JSON that the API serves
//! (`docs/json.md`).
//!
//! The keys are a contract: keys may be added, but none changes its name or meaning. `*_ms` are durations in
//! milliseconds that end now, `at` is a time in RFC 3339 in UTC, and counters are integers that start at 0 with the
//! engine.

mod checks;
mod explain;
mod kinds;
mod measures;
mod orders;
mod persisted;
mod plan;
mod sessions;
mod states;
mod upgrade;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{AdminState, ForwardingMode, Io, SchedulerName};
use crate::ha::Role;
use crate::named_enum::EnumOrUnknown;
use crate::neighbor::NeighborState;
use crate::wire::Family;
use crate::wire::probe::ReportedRole;

pub use crate::health::history::CheckResult;
pub use crate::path::liveness::{FirewallState, PeerState};
pub use crate::session::SessionState;

pub use crate::slb::availability::ServiceState;
pub use checks::{CheckLogView, CheckResultView, LastCheckView, ServerCheckView};
pub use explain::{CandidateView, EgressView, ExplainView, ExplainedSessionView, ServerCandidateView, WhatIfView};
pub use kinds::{AlarmKind, EventKind};
pub use measures::{HistogramView, MeasuresView, ProbeView, RingView, TableView, WorkerView};
pub(in crate::engine) use orders::describe_order;
pub use orders::{OrderView, OverrideView};
pub use persisted::PersistedServer;
pub use plan::{ConfigView, KeptConfigView, MemberShare, MoveView, NewFlowsView, PlanView, ReloadView};
pub use sessions::{KillView, PinView, SessionEndView, SessionView, TalkerView};
pub use states::{
    CandidateState, DecidedBy, DigestState, FlowEnd, ObjectKind, OperState, SessionAfterFailure, SessionFate,
};
pub use upgrade::UpgradeView;

/// `show status`: the engine as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StatusView {
    /// Name of the engine.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Time since the engine started, in milliseconds.
    pub uptime_ms: u64,
    /// Number of the snapshot in force; it grows by one with every change.
    pub epoch: u64,
    /// Digest of the configuration text: 16 hexadecimal digits.
    pub config_digest: String,
    /// Number of packet workers.
    pub workers: usize,
    /// Number of live sessions.
    pub sessions: usize,
    /// Number of sessions for which there is room.
    pub capacity: usize,
    /// The role of the node in its cluster; `active` for an engine that stands alone.
    #[schema(value_type = Role)]
    pub role: EnumOrUnknown<Role>,
    /// Alarms that are raised.
    pub alarms: Vec<AlarmView>,
    /// Administrative states and weights that commands have set over the file.
    pub overrides: Vec<OverrideView>,
}

/// An alarm: something is wrong and lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AlarmView {
    /// The kind of alarm.
    #[schema(value_type = AlarmKind)]
    pub kind: EnumOrUnknown<AlarmKind>,
    /// What the alarm is about, such as a peer, group or service.
    pub subject: String,
    /// What is wrong, in words.
    pub reason: String,
    /// Time since the alarm was raised, in milliseconds.
    pub since_ms: u64,
}

/// `show firewalls`: a firewall with its state and traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FirewallView {
    /// Name of the engine.
    pub engine: String,
    /// Name of the firewall.
    pub name: String,
    /// Name of its group.
    pub group: String,
    /// Name of the link that it is on.
    pub link: String,
    /// Its next-hop addresses.
    pub addresses: Vec<String>,
    /// Its state: `up`, `degraded`, `down`, `drain` or `maint`.
    #[schema(value_type = FirewallState)]
    pub state: EnumOrUnknown<FirewallState>,
    /// The administrative state in the file.
    pub admin: AdminState,
    /// The administrative state that a command has set over the file; null if there is none.
    #[serde(rename = "override")]
    pub override_: Option<AdminState>,
    /// Its share of the flows, relative to other firewalls.
    pub weight: u16,
    /// True if it takes flows only in place of a firewall that is down.
    pub spare: bool,
    /// Live sessions that are pinned to it.
    pub sessions: u64,
    /// Sessions that were pinned to it since the engine started.
    pub new_sessions: u64,
    /// Packets to and from it.
    pub packets: u64,
    /// Bytes of IP packets to and from it.
    pub bytes: u64,
    /// Time since it entered this state, in milliseconds.
    pub since_ms: u64,
    /// Why it is in this state, or why it is up and takes no new sessions.
    pub reason: Option<String>,
    /// The rest of its `hold` in milliseconds, if it has recovered and is waiting for that: new sessions prefer
    /// firewalls that are not. Null if it is not in its `hold`.
    #[serde(default)]
    pub hold_ms: Option<u64>,
    /// True if new flows may go to it now: it is live, and if it drains or is in its `hold` there is no better
    /// firewall.
    #[serde(default)]
    pub new_flows: bool,
    /// What operators ordered over the file and is in force, at this engine and at the peers.
    #[serde(default)]
    pub orders: Vec<OrderView>,
    /// The paths through it, one per peer and address family.
    pub checks: Vec<CheckView>,
}

impl FirewallView {
    /// True if it is up or degraded.
    pub fn is_live(&self) -> bool {
        self.state == FirewallState::Up || self.state == FirewallState::Degraded
    }
}

/// A path through a firewall to a peer, in one address family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckView {
    /// Name of the peer.
    pub peer: String,
    /// Address family: `ipv4` or `ipv6`.
    #[schema(value_type = Family)]
    pub family: EnumOrUnknown<Family>,
    /// State of the path: `up` or `down`.
    #[schema(value_type = OperState)]
    pub state: EnumOrUnknown<OperState>,
    /// Round-trip time of the last answered probe, in microseconds.
    pub rtt_us: Option<u64>,
    /// Time since the path entered this state, in milliseconds.
    pub since_ms: u64,
    /// Why the path is in this state.
    pub reason: Option<String>,
}

/// `show services`: a virtual service with its servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceView {
    /// Name of the engine.
    pub engine: String,
    /// Name of the service.
    pub name: String,
    /// Its virtual addresses (VIPs).
    pub addresses: Vec<String>,
    /// Its protocols: `tcp`, `udp`.
    pub protocols: Vec<String>,
    /// Its ports: `80`, `8000-8099`, `any`.
    pub ports: Vec<String>,
    /// How servers are chosen: `round-robin`, `least-connections` or `hash`.
    #[schema(value_type = SchedulerName)]
    pub scheduler: EnumOrUnknown<SchedulerName>,
    /// How packets reach the servers: `nat`, `full-nat`, `direct` or `tunnel`.
    #[schema(value_type = ForwardingMode)]
    pub mode: EnumOrUnknown<ForwardingMode>,
    /// Its state: `up`, `down`, `drain` or `maint`.
    #[schema(value_type = ServiceState)]
    pub state: EnumOrUnknown<ServiceState>,
    /// The administrative state in the file.
    pub admin: AdminState,
    /// The administrative state that a command has set over the file; null if there is none.
    #[serde(rename = "override")]
    pub override_: Option<AdminState>,
    /// Its live sessions.
    pub sessions: u64,
    /// With scheduler `hash`: the largest quotient of a server's share of the table and its fair share by weight; 1 is
    /// ideal.
    pub imbalance: Option<f64>,
    /// Time since it entered this state, in milliseconds.
    #[serde(default)]
    pub since_ms: u64,
    /// How often it went from up to down since the engine started.
    #[serde(default)]
    pub falls: u64,
    /// How long it was down since the engine started, in milliseconds.
    #[serde(default)]
    pub downtime_ms: u64,
    /// Why it is in this state, in words; null while it is as the file says and up without the help of backups.
    #[serde(default)]
    pub reason: Option<String>,
    /// What operators ordered over the file and is in force.
    #[serde(default)]
    pub orders: Vec<OrderView>,
    /// Its servers, in the order of the file.
    pub servers: Vec<ServerView>,
}

impl ServiceView {
    /// How many servers are up: `4 of 4 up`; backups are counted apart: `0 of 1 up, 1 of 1 backups up`.
    pub fn servers_up(&self) -> String {
        let count = |backup: bool| {
            let of = || self.servers.iter().filter(|server| server.backup == backup);
            (of().filter(|server| server.state == ServiceState::Up).count(), of().count())
        };
        let (up, all) = count(false);
        match count(true) {
            (_, 0) => format!("{up} of {all} up"),
            (backups_up, backups) => format!("{up} of {all} up, {backups_up} of {backups} backups up"),
        }
    }
}

/// A real server of `show services`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServerView {
    /// Name of the server.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// The port that traffic is sent to; null if it is the one that the client used.
    pub port: Option<u16>,
    /// True if it is used only while every other server is down.
    pub backup: bool,
    /// Its state: `up`, `down`, `drain` or `maint`.
    #[schema(value_type = ServiceState)]
    pub state: EnumOrUnknown<ServiceState>,
    /// The administrative state in the file.
    pub admin: AdminState,
    /// The administrative state that a command has set over the file; null if there is none.
    #[serde(rename = "override")]
    pub override_: Option<AdminState>,
    /// Its weight in force.
    pub weight: u16,
    /// The weight that a command has set over the file; null if there is none.
    #[serde(default)]
    pub weight_override: Option<u16>,
    /// Its live sessions.
    pub sessions: u64,
    /// Sessions that were given to it since the engine started.
    pub new_sessions: u64,
    /// Packets to and from it.
    pub packets: u64,
    /// Packets to it.
    #[serde(default)]
    pub packets_in: u64,
    /// Packets from it.
    #[serde(default)]
    pub packets_out: u64,
    /// Bytes of IP packets to and from it.
    pub bytes: u64,
    /// Bytes of IP packets to it.
    #[serde(default)]
    pub bytes_in: u64,
    /// Bytes of IP packets from it.
    #[serde(default)]
    pub bytes_out: u64,
    /// Time since it entered this state, in milliseconds.
    pub since_ms: u64,
    /// How often it went from up to down since the engine started.
    #[serde(default)]
    pub falls: u64,
    /// How long it was down since the engine started, in milliseconds.
    #[serde(default)]
    pub downtime_ms: u64,
    /// Why it is in this state, in words.
    pub reason: Option<String>,
    /// What operators ordered over the file and is in force: a state, a weight, or both.
    #[serde(default)]
    pub orders: Vec<OrderView>,
    /// Its health checks, one per address family.
    pub checks: Vec<ServerCheckView>,
}

/// `show peers`: the engines behind one address on the far side of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PeerView {
    /// Name of the engine.
    pub engine: String,
    /// Name of the peer in this engine's file.
    pub name: String,
    /// Name of the group.
    pub group: String,
    /// The name by which the peer announces itself; null until a probe of it was received. Of several engines it is the
    /// active one.
    pub peer_engine: Option<String>,
    /// Its state: `up`, `lost` or `down`.
    #[schema(value_type = PeerState)]
    pub state: EnumOrUnknown<PeerState>,
    /// Whether both engines have the same configuration of the group, as far as the hash depends on it: `same`,
    /// `differs` or `unknown`.
    #[schema(value_type = DigestState)]
    pub digest: EnumOrUnknown<DigestState>,
    /// Version of the peer's program.
    pub version: Option<String>,
    /// Time since it entered this state, in milliseconds.
    pub since_ms: u64,
    /// Why it is in this state.
    pub reason: Option<String>,
    /// The engines behind its address: those of the file, and those that were heard.
    #[serde(default)]
    pub engines: Vec<PeerEngineView>,
}

/// An engine on the far side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PeerEngineView {
    /// The name by which it announces itself.
    pub name: String,
    /// Its role among the engines of its side; null if it is alone there, or was never heard.
    #[schema(value_type = Option<ReportedRole>)]
    pub role: Option<EnumOrUnknown<ReportedRole>>,
    /// The term in which it was last active, which grows with every takeover.
    pub term: Option<u32>,
    /// Its priority, less what its own health takes from it.
    pub priority: Option<u8>,
    /// Whether it has the same configuration of the group: `same`, `differs` or `unknown`.
    #[schema(value_type = DigestState)]
    pub digest: EnumOrUnknown<DigestState>,
    /// Version of its program.
    pub version: Option<String>,
    /// Time since its last probe, in milliseconds; null if none was received.
    pub heard_ms: Option<u64>,
}

/// `health`: whether an engine forwards packets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HealthView {
    /// Name of the engine.
    pub engine: String,
    /// True if there are no problems; there may be warnings all the same.
    pub healthy: bool,
    /// What stops packets, or may stop them.
    pub problems: Vec<ProblemView>,
    /// Other alarms: packets are forwarded all the same, or something stands in for what failed.
    #[serde(default)]
    pub warnings: Vec<ProblemView>,
}

/// Something that is wrong with an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProblemView {
    /// `link_down`, `worker_stuck` or the kind of an alarm.
    pub kind: String,
    /// What it is about: a link, a worker, a service.
    pub subject: String,
    /// What is wrong, in words.
    pub reason: String,
}

/// `show links`: a link with its counters, as `ip -s link` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LinkView {
    /// Name of the engine.
    pub engine: String,
    /// Name of the link.
    pub name: String,
    /// Interface name of its device.
    pub device: String,
    /// 802.1Q VLAN identifier; null for untagged frames.
    pub vlan: Option<u16>,
    /// Its state: `up` or `down`.
    #[schema(value_type = OperState)]
    pub state: EnumOrUnknown<OperState>,
    /// Why it is down: `no carrier`, `set down` or `the device is missing`; null while it is up.
    #[serde(default)]
    pub reason: Option<String>,
    /// The engine's MAC address on it.
    pub mac: String,
    /// MTU: the largest IP packet, in bytes.
    pub mtu: u16,
    /// The engine's addresses on it, with prefix length.
    pub addresses: Vec<String>,
    /// The kind of socket: `af-packet` or `af-xdp`.
    #[serde(default)]
    #[schema(value_type = Io)]
    pub io: EnumOrUnknown<Io>,
    /// With AF_XDP how it receives: `native-zero-copy`, `native-copy` or `generic-copy`. With AF_PACKET `xdp-send` if
    /// frames are sent by AF_XDP, else null. Null, too, while the device is missing.
    #[serde(default)]
    pub io_mode: Option<String>,
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames that were received and dropped.
    pub rx_dropped: u64,
    /// Frames that were lost because the receive ring was full.
    pub ring_dropped: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that the device refused to send.
    pub tx_errors: u64,
}

/// `show neighbors`: an entry of the neighbour table, as `ip neigh` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NeighborView {
    /// Name of the engine.
    pub engine: String,
    /// IP address of the neighbour.
    pub address: String,
    /// Name of the link.
    pub link: String,
    /// MAC address of the neighbour; null while it is not resolved.
    pub mac: Option<String>,
    /// State of the entry: `incomplete`, `reachable`, `stale`, `probe` or `failed`.
    #[schema(value_type = NeighborState)]
    pub state: EnumOrUnknown<NeighborState>,
    /// Time since the neighbour was last confirmed, in milliseconds.
    pub age_ms: Option<u64>,
}

/// `show counters`: one object with a number for each counter.
pub type CountersView = BTreeMap<String, u64>;

/// `show events`: something that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventView {
    /// Number of the event; it grows by one.
    pub seq: u64,
    /// Time of the event, RFC 3339 in UTC.
    pub at: String,
    /// The kind of event.
    #[schema(value_type = EventKind)]
    pub kind: EnumOrUnknown<EventKind>,
    /// What the event is about: `perimeter/fw1`, `web/s1`.
    pub subject: String,
    /// The state before it.
    pub from: Option<String>,
    /// The state after it.
    pub to: Option<String>,
    /// Why it happened.
    pub reason: Option<String>,
    /// Who caused it, if an operator did.
    pub by: Option<String>,
    /// How long the state before it lasted, in milliseconds.
    #[serde(default)]
    pub lasted_ms: Option<u64>,
}

/// One line of `fwlb probe` and `fwlb ping`: a frame that was sent or received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExchangeStep {
    /// Time since the first frame, in microseconds.
    pub at_us: u64,
    /// `sent` or `received`.
    pub direction: String,
    /// The frame in words.
    pub what: String,
}

/// The result of `fwlb probe` and `fwlb ping`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExchangeView {
    /// Name of the engine.
    pub engine: String,
    /// What was probed.
    pub subject: String,
    /// True if the answer was as expected.
    pub ok: bool,
    /// Why it is not, in words.
    pub reason: Option<String>,
    /// Round-trip time in microseconds.
    pub rtt_us: Option<u64>,
    /// The frames that were sent and received, in order.
    pub steps: Vec<ExchangeStep>,
}
