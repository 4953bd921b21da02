//! Everything that is measured of an engine: what `/metrics` is made of.

use serde::{Deserialize, Serialize};

use super::{CountersView, FirewallView, LinkView, PeerView, ServiceView, StatusView};

/// What is measured of an engine, at about one instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MeasuresView {
    /// As `show status`.
    pub status: StatusView,
    /// As `show counters`.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub counters: CountersView,
    /// As `show links`.
    pub links: Vec<LinkView>,
    /// As `show firewalls`.
    pub firewalls: Vec<FirewallView>,
    /// As `show peers`.
    pub peers: Vec<PeerView>,
    /// As `show services`.
    pub services: Vec<ServiceView>,
    /// The round trips of probes, per path.
    pub probes: Vec<ProbeView>,
    /// Packet workers, by number.
    pub workers: Vec<WorkerView>,
    /// Tables and queues, and how full they are.
    pub tables: Vec<TableView>,
    /// How late the controller's timers were served, in seconds.
    pub control_lag: HistogramView,
}

/// The answered probes of one path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProbeView {
    /// Group name.
    pub group: String,
    /// Firewall name.
    pub firewall: String,
    /// Peer name.
    pub peer: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Their round trips in seconds.
    pub rtt: HistogramView,
}

/// One packet worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WorkerView {
    /// Frames that it took from the rings.
    pub received: u64,
    /// How many frames its batches had.
    pub batches: HistogramView,
    /// Frames that found its rings full, by device.
    pub rings: Vec<RingView>,
}

/// One worker's ring of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RingView {
    /// Device name.
    pub device: String,
    /// Frames that it had no room for.
    pub dropped: u64,
}

/// A table or queue of bounded size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TableView {
    /// `sessions`, `sticky`, `neighbors`, `pending` or `punts`, as in `[limits]`.
    pub name: String,
    /// Entries in use.
    pub used: u64,
    /// Entries that fit.
    pub capacity: u64,
}

/// How often something had which size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HistogramView {
    /// Upper bounds of the buckets, ascending, each included in its bucket.
    pub bounds: Vec<f64>,
    /// How many fell into each bucket; one more than there are bounds, for what exceeds all.
    pub counts: Vec<u64>,
    /// Their sum.
    pub sum: f64,
}

impl HistogramView {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}
