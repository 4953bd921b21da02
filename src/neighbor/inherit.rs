//! Neighbours that another program knew before this one began.

use std::collections::btree_map;

use super::entry::EntryOrigin;
use super::{Entry, NeighborKey, NeighborState, NeighborTable, REFRESH_AFTER, RequestSource};
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

/// Requests to inherited neighbours are this far apart, so that they do not all leave at once.
const APART: Duration = Duration::from_millis(5);

impl<F> NeighborTable<F> {
    /// Takes a neighbour over that was reachable at `mac`. It is used at once, and queried before others are: the
    /// `number` of the neighbour says in which order. What the table knows of it by itself stays.
    pub fn inherit(&mut self, key: NeighborKey, mac: MacAddr, number: u32, now: Instant) {
        if !self.links.contains(&key.0) || self.entries.len() >= self.limits.neighbors {
            return;
        }
        let source = RequestSource::of(key.0, key.1);
        let entry = match self.entries.entry(key) {
            btree_map::Entry::Occupied(known) if known.get().mac.is_some() => return,
            btree_map::Entry::Occupied(known) => known.into_mut(),
            btree_map::Entry::Vacant(unknown) => unknown.insert(Entry::new(EntryOrigin::Wanted, source, now)),
        };
        (entry.mac, entry.state, entry.answered, entry.used) = (Some(mac), NeighborState::Reachable, Some(now), now);
        entry.requests = 0;
        self.changed = true;
        let wait = Duration::from_millis(200) + APART * number;
        self.set_timer(key, Some(now + wait.min(REFRESH_AFTER)));
        self.reorder(key);
    }
}
