//! What the table is asked.

use super::entry::State;
use super::{Key, NeighborCounters, NeighborTable};
use crate::time::Instant;
use crate::wire::MacAddr;

/// A neighbour, for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbor {
    /// Link and address.
    pub key: Key,
    /// Hardware address, if known.
    pub mac: Option<MacAddr>,
    /// State.
    pub state: State,
    /// When it answered last.
    pub answered: Option<Instant>,
}

impl<F> NeighborTable<F> {
    /// The hardware address to send to.
    pub fn mac(&self, key: Key) -> Option<MacAddr> {
        self.entries.get(&key).filter(|entry| entry.usable()).and_then(|entry| entry.mac)
    }

    /// The hardware address that `key` had last, whether or not it answers.
    pub fn last_mac(&self, key: Key) -> Option<MacAddr> {
        self.entries.get(&key).and_then(|entry| entry.mac)
    }

    /// Where the resolution of `key` stands; `None` if it is unknown.
    pub fn state(&self, key: Key) -> Option<State> {
        self.entries.get(&key).map(|entry| entry.state)
    }

    /// When `key` answered last.
    pub fn answered(&self, key: Key) -> Option<Instant> {
        self.entries.get(&key).and_then(|entry| entry.answered)
    }

    /// All neighbours whose address may be used, in order of link and address.
    pub fn resolved(&self) -> impl Iterator<Item = (Key, MacAddr)> {
        self.entries.iter().filter(|(_, entry)| entry.usable()).filter_map(|(key, entry)| Some((*key, entry.mac?)))
    }

    /// All neighbours, in order of link and address.
    pub fn iter(&self) -> impl Iterator<Item = Neighbor> {
        self.entries.iter().map(|(key, entry)| Neighbor {
            key: *key,
            mac: entry.mac,
            state: entry.state,
            answered: entry.answered,
        })
    }

    /// How many neighbours are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if no neighbour is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Frames that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// What was counted.
    pub fn counters(&self) -> NeighborCounters {
        self.counters
    }
}
