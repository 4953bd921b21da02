//! Reading the neighbour table.

use super::entry::NeighborState;
use super::{NeighborCounters, NeighborKey, NeighborTable};
use crate::time::Instant;
use crate::wire::MacAddr;

/// A neighbour as it is shown to operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbor {
    /// The link and IP address.
    pub key: NeighborKey,
    /// The MAC address, if known.
    pub mac: Option<MacAddr>,
    /// The resolution state.
    pub state: NeighborState,
    /// When it last answered.
    pub answered: Option<Instant>,
}

impl<F> NeighborTable<F> {
    /// The MAC address to which frames for `key` are sent; `None` if it is not resolved.
    pub fn mac(&self, key: NeighborKey) -> Option<MacAddr> {
        self.entries.get(&key).filter(|entry| entry.usable()).and_then(|entry| entry.mac)
    }

    /// The last known MAC address of `key`, whether or not it answers.
    pub fn last_mac(&self, key: NeighborKey) -> Option<MacAddr> {
        self.entries.get(&key).and_then(|entry| entry.mac)
    }

    /// The resolution state of `key`; `None` if it is unknown.
    pub fn state(&self, key: NeighborKey) -> Option<NeighborState> {
        self.entries.get(&key).map(|entry| entry.state)
    }

    /// When `key` last answered.
    pub fn answered(&self, key: NeighborKey) -> Option<Instant> {
        self.entries.get(&key).and_then(|entry| entry.answered)
    }

    /// All neighbours whose MAC address may be used, in order of link and address.
    pub fn resolved(&self) -> impl Iterator<Item = (NeighborKey, MacAddr)> {
        self.entries.iter().filter(|(_, entry)| entry.usable()).filter_map(|(key, entry)| Some((*key, entry.mac?)))
    }

    /// All neighbours in order of link and address.
    pub fn iter(&self) -> impl Iterator<Item = Neighbor> {
        self.entries.iter().map(|(key, entry)| Neighbor {
            key: *key,
            mac: entry.mac,
            state: entry.state,
            answered: entry.answered,
        })
    }

    /// The number of neighbours in the table.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if the table is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of frames that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// The counters of the table.
    pub fn counters(&self) -> NeighborCounters {
        self.counters
    }
}
