//! Which neighbours may be forgotten, and in which order.
//!
//! Neighbours that have answered and neighbours that have not (or have stopped) have separate shares of the table.
//! However many addresses a scanner probes, no known neighbour is forgotten for them: only a neighbour that answers can
//! take the place of one that answered. Configured neighbours are in neither share and are never forgotten.
//!
//! | share | is forgotten first |
//! | --- | --- |
//! | open: a quarter of the table | the neighbour that failed longest ago; then the oldest of the source with the most |
//! | known: the rest | neighbours that only sent requests; then those traffic goes to; the least recently used |

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::entry::EntryOrigin;
use super::{NeighborKey, NeighborTable, RequestSource};
use crate::time::Instant;

/// One part in this many of the table is for neighbours that have not answered.
pub(super) const OPEN_SHARE: usize = 4;

/// Where an entry is in the order in which entries are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EvictionPlace {
    /// It is never forgotten.
    Kept,
    /// Requests have had no answer since then, on behalf of this source.
    Open { source: RequestSource, since: Instant },
    /// It has failed since then.
    Failed { since: Instant },
    /// It has answered, and was last used then.
    Known { origin: EntryOrigin, last_used: Instant },
}

/// The size of a source's open entries: their number, then the age of the oldest.
type SourceLoad = (usize, Reverse<Instant>, RequestSource);

/// All entries that are not kept, in the order in which they are forgotten.
#[derive(Debug, Clone, Default)]
pub(super) struct EvictionOrder {
    open: BTreeMap<RequestSource, BTreeSet<(Instant, NeighborKey)>>,
    sizes: BTreeSet<SourceLoad>,
    asked: usize,
    failed: BTreeSet<(Instant, NeighborKey)>,
    known: BTreeSet<(EntryOrigin, Instant, NeighborKey)>,
}

impl EvictionOrder {
    pub(super) fn insert(&mut self, key: NeighborKey, place: EvictionPlace) {
        match place {
            EvictionPlace::Kept => {}
            EvictionPlace::Open { source, since } => self.change(source, |open| open.insert((since, key))),
            EvictionPlace::Failed { since } => drop(self.failed.insert((since, key))),
            EvictionPlace::Known { origin, last_used: wanted } => drop(self.known.insert((origin, wanted, key))),
        }
    }

    pub(super) fn remove(&mut self, key: NeighborKey, place: EvictionPlace) {
        match place {
            EvictionPlace::Kept => {}
            EvictionPlace::Open { source, since } => self.change(source, |open| open.remove(&(since, key))),
            EvictionPlace::Failed { since } => drop(self.failed.remove(&(since, key))),
            EvictionPlace::Known { origin, last_used: wanted } => drop(self.known.remove(&(origin, wanted, key))),
        }
    }

    /// The number of entries that have not answered.
    pub(super) fn open_len(&self) -> usize {
        self.asked + self.failed.len()
    }

    /// The number of entries that have answered.
    pub(super) fn known_len(&self) -> usize {
        self.known.len()
    }

    /// The entry to forget for another one that is to be queried.
    pub(super) fn first_open(&self) -> Option<NeighborKey> {
        self.failed.first().map(|(_, key)| *key).or_else(|| self.largest().next())
    }

    /// The entry to forget for another one that has answered.
    pub(super) fn first_known(&self) -> Option<NeighborKey> {
        self.known.first().map(|(_, _, key)| *key)
    }

    /// The open entries of the source that has the most of them, oldest first.
    pub(super) fn largest(&self) -> impl Iterator<Item = NeighborKey> {
        let source = self.sizes.last().map(|(_, _, source)| source);
        let open = source.and_then(|source| self.open.get(source));
        open.into_iter().flatten().map(|(_, key)| *key)
    }

    fn change(&mut self, source: RequestSource, change: impl FnOnce(&mut BTreeSet<(Instant, NeighborKey)>) -> bool) {
        let open = self.open.entry(source).or_default();
        let before = size(source, open);
        change(open);
        let after = size(source, open);
        if let Some(before) = before {
            self.sizes.remove(&before);
            self.asked -= before.0;
        }
        match after {
            Some(after) => {
                self.sizes.insert(after);
                self.asked += after.0;
            }
            None => drop(self.open.remove(&source)),
        }
    }
}

fn size(source: RequestSource, open: &BTreeSet<(Instant, NeighborKey)>) -> Option<SourceLoad> {
    open.first().map(|(since, _)| (open.len(), Reverse(*since), source))
}

impl<F> NeighborTable<F> {
    /// Moves an entry to where it belongs in the order in which entries are forgotten.
    pub(super) fn reorder(&mut self, key: NeighborKey) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let place = entry.compute_eviction_place();
        let before = std::mem::replace(&mut entry.eviction_place, place);
        if before != place {
            self.eviction.remove(key, before);
            self.eviction.insert(key, place);
        }
    }

    /// Forgets entries in that order until the rest has room.
    pub(super) fn make_room(&mut self) {
        let open_max = (self.limits.neighbors / OPEN_SHARE).max(1);
        while self.eviction.open_len() > open_max
            && let Some(key) = self.eviction.first_open()
        {
            self.displace(key);
        }
        let kept = self.entries.len() - self.eviction.open_len() - self.eviction.known_len();
        let known_max = self.limits.neighbors.saturating_sub(open_max + kept).max(1);
        while self.eviction.known_len() > known_max
            && let Some(key) = self.eviction.first_known()
        {
            self.displace(key);
        }
    }

    fn displace(&mut self, key: NeighborKey) {
        self.counters.table_full += 1;
        self.forget(key);
    }

    pub(super) fn forget(&mut self, key: NeighborKey) {
        self.set_timer(key, None);
        if let Some(entry) = self.entries.remove(&key) {
            self.eviction.remove(key, entry.eviction_place);
            self.waiting -= entry.waiting.len();
            self.counters.queue_full += entry.waiting.len() as u64;
            self.changed |= entry.usable();
        }
    }

    /// Drops the oldest waiting frame of the source that waits for the most neighbours. Returns false if there is none.
    pub(super) fn drop_oldest_frame(&mut self) -> bool {
        let waits = |key: &NeighborKey| self.entries.get(key).is_some_and(|entry| !entry.waiting.is_empty());
        let Some(key) = self.eviction.largest().find(waits) else { return false };
        let dropped = self.entries.get_mut(&key).and_then(|entry| entry.waiting.pop_front());
        self.waiting -= usize::from(dropped.is_some());
        dropped.is_some()
    }
}
