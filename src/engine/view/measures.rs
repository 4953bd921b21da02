//! Everything that `/metrics` is made from.

use serde::{Deserialize, Serialize};

use super::{CountersView, FirewallView, LinkView, PeerView, ServiceView, StatusView};
use crate::ha::view::HaView;
use crate::named_enum::EnumOrUnknown;
use crate::wire::Family;

/// The metrics of an engine, read at about one instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MeasuresView {
    /// The same as `show status`.
    pub status: StatusView,
    /// The same as `show counters`.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub counters: CountersView,
    /// The same as `show links`.
    pub links: Vec<LinkView>,
    /// The same as `show firewalls`.
    pub firewalls: Vec<FirewallView>,
    /// The same as `show peers`.
    pub peers: Vec<PeerView>,
    /// The same as `show services`.
    pub services: Vec<ServiceView>,
    /// Round-trip times of probes, per path.
    pub probes: Vec<ProbeView>,
    /// The packet workers, in the order of their numbers.
    pub workers: Vec<WorkerView>,
    /// How full tables and queues are.
    pub tables: Vec<TableView>,
    /// How late the controller's timers ran, in seconds.
    pub control_lag: HistogramView,
    /// The same as `show ha`; null for an engine that stands alone.
    #[serde(default)]
    pub ha: Option<HaView>,
}

/// The answered probes of one path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProbeView {
    /// Name of the group.
    pub group: String,
    /// Name of the firewall.
    pub firewall: String,
    /// Name of the peer.
    pub peer: String,
    /// Address family: `ipv4` or `ipv6`.
    #[schema(value_type = Family)]
    pub family: EnumOrUnknown<Family>,
    /// Round-trip times in seconds.
    pub rtt: HistogramView,
}

/// One packet worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WorkerView {
    /// Frames that it took from the receive rings.
    pub received: u64,
    /// Number of frames per batch.
    pub batches: HistogramView,
    /// Its receive rings, one per device.
    pub rings: Vec<RingView>,
}

/// The receive ring of one worker on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RingView {
    /// Interface name of the device.
    pub device: String,
    /// Frames that were lost because the ring was full.
    pub dropped: u64,
}

/// A table or queue with a fixed capacity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TableView {
    /// Its name in `[limits]`: `sessions`, `sticky`, `neighbors`, `pending` or `punts`.
    pub name: String,
    /// Entries in use.
    pub used: u64,
    /// Entries for which there is room.
    pub capacity: u64,
}

/// A histogram: how many observations fell into each range of values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HistogramView {
    /// Upper bounds of the buckets, ascending and inclusive.
    pub bounds: Vec<f64>,
    /// Observations in each bucket, and at the end those above all bounds.
    pub counts: Vec<u64>,
    /// Sum of all observed values.
    pub sum: f64,
}

impl HistogramView {
    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}
