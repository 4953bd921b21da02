//! Who may be forgotten, and who first.
//!
//! Neighbours that have answered and neighbours that never have (or have stopped) have rooms apart: however many addresses a
//! scanner asks for, nobody that is known has to go for them; it takes an answer to take the place of one who answered. What
//! is configured stands in neither room and is never forgotten.
//!
//! | room | is forgotten first |
//! | --- | --- |
//! | open: a quarter of the table | who failed, the longest ago; then, of the source with the most open questions, the oldest |
//! | known: the rest | who only asked for the engine, then who was wanted; of each the least recently wanted |

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::entry::Origin;
use super::{Key, NeighborTable, Source};
use crate::time::Instant;

/// One part in this many of the table is for neighbours that have not answered.
pub(super) const OPEN_SHARE: usize = 4;

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is never forgotten.
    Kept,
    /// It is asked for since then, for this source.
    Open { source: Source, since: Instant },
    /// It does not answer since then.
    Failed { since: Instant },
    /// It answered; last wanted then.
    Known { origin: Origin, wanted: Instant },
}

/// The open entries of a source: how many, the older the oldest the greater.
type Size = (usize, Reverse<Instant>, Source);

/// All entries but for the kept ones, in the order of their going.
#[derive(Debug, Clone, Default)]
pub(super) struct Rooms {
    open: BTreeMap<Source, BTreeSet<(Instant, Key)>>,
    sizes: BTreeSet<Size>,
    asked: usize,
    failed: BTreeSet<(Instant, Key)>,
    known: BTreeSet<(Origin, Instant, Key)>,
}

impl Rooms {
    pub(super) fn insert(&mut self, key: Key, place: Place) {
        match place {
            Place::Kept => {}
            Place::Open { source, since } => self.change(source, |open| open.insert((since, key))),
            Place::Failed { since } => drop(self.failed.insert((since, key))),
            Place::Known { origin, wanted } => drop(self.known.insert((origin, wanted, key))),
        }
    }

    pub(super) fn remove(&mut self, key: Key, place: Place) {
        match place {
            Place::Kept => {}
            Place::Open { source, since } => self.change(source, |open| open.remove(&(since, key))),
            Place::Failed { since } => drop(self.failed.remove(&(since, key))),
            Place::Known { origin, wanted } => drop(self.known.remove(&(origin, wanted, key))),
        }
    }

    /// Entries that have not answered.
    pub(super) fn open_len(&self) -> usize {
        self.asked + self.failed.len()
    }

    /// Entries that have.
    pub(super) fn known_len(&self) -> usize {
        self.known.len()
    }

    /// Who has to go for another one to be asked for.
    pub(super) fn first_open(&self) -> Option<Key> {
        self.failed.first().map(|(_, key)| *key).or_else(|| self.largest().next())
    }

    /// Who has to go for another one that answered.
    pub(super) fn first_known(&self) -> Option<Key> {
        self.known.first().map(|(_, _, key)| *key)
    }

    /// What is asked for in the name of the source that asks for most, the oldest first.
    pub(super) fn largest(&self) -> impl Iterator<Item = Key> {
        let source = self.sizes.last().map(|(_, _, source)| source);
        let open = source.and_then(|source| self.open.get(source));
        open.into_iter().flatten().map(|(_, key)| *key)
    }

    fn change(&mut self, source: Source, change: impl FnOnce(&mut BTreeSet<(Instant, Key)>) -> bool) {
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

fn size(source: Source, open: &BTreeSet<(Instant, Key)>) -> Option<Size> {
    open.first().map(|(since, _)| (open.len(), Reverse(*since), source))
}

impl<F> NeighborTable<F> {
    /// Puts an entry where it belongs among those that may be forgotten.
    pub(super) fn file(&mut self, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let place = entry.place();
        let before = std::mem::replace(&mut entry.place, place);
        if before != place {
            self.rooms.remove(key, before);
            self.rooms.insert(key, place);
        }
    }

    /// Forgets who has to go, until all that are left have room.
    pub(super) fn make_room(&mut self) {
        let open_max = (self.limits.neighbors / OPEN_SHARE).max(1);
        while self.rooms.open_len() > open_max
            && let Some(key) = self.rooms.first_open()
        {
            self.displace(key);
        }
        let kept = self.entries.len() - self.rooms.open_len() - self.rooms.known_len();
        let known_max = self.limits.neighbors.saturating_sub(open_max + kept).max(1);
        while self.rooms.known_len() > known_max
            && let Some(key) = self.rooms.first_known()
        {
            self.displace(key);
        }
    }

    fn displace(&mut self, key: Key) {
        self.counters.table_full += 1;
        self.forget(key);
    }

    pub(super) fn forget(&mut self, key: Key) {
        self.set_timer(key, None);
        if let Some(entry) = self.entries.remove(&key) {
            self.rooms.remove(key, entry.place);
            self.waiting -= entry.waiting.len();
            self.counters.queue_full += entry.waiting.len() as u64;
            self.changed |= entry.usable();
        }
    }

    /// Gives up the oldest frame of the source that waits for most neighbours; answers whether there was one.
    pub(super) fn drop_a_frame(&mut self) -> bool {
        let waits = |key: &Key| self.entries.get(key).is_some_and(|entry| !entry.waiting.is_empty());
        let Some(key) = self.rooms.largest().find(waits) else { return false };
        let dropped = self.entries.get_mut(&key).and_then(|entry| entry.waiting.pop_front());
        self.waiting -= usize::from(dropped.is_some());
        dropped.is_some()
    }
}
