//! The neighbour table: which MAC address a neighbour has, by ARP and neighbour discovery, and a bounded queue of
//! frames that wait for it (RFC 826, RFC 4861).
//!
//! The table decides which neighbours to query and when, what an answer changes, and which frames wait. It builds no
//! frames and knows no devices. What is to be done it returns from [`NeighborTable::poll_action`].
//!
//! ```text
//!               answer                 20 s                    3 unanswered
//! Incomplete ───────────▶ Reachable ─────────▶ Probe (unicast) ────────────▶ Incomplete ──▶ Failed
//!                  ▲          │ another MAC is claimed  ▲
//!                  └──────────┴──── the old one is silent: Stale
//! ```
//!
//! A neighbour is queried again before its entry expires and keeps its address meanwhile, so that steady traffic
//! never waits. *Kept* neighbours (firewalls, servers, configured gateways) are queried for ever. `eviction` decides
//! which entries may be forgotten in favour of others, `source` how many requests a sender may cause, and `claim` when
//! a neighbour moves to another MAC address.

mod claim;
mod entry;
mod eviction;
mod inherit;
mod query;
mod source;

use std::collections::{BTreeMap, BTreeSet, VecDeque, btree_map};
use std::net::IpAddr;

use crate::id::LinkId;
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

use entry::{Entry, EntryOrigin};
use eviction::EvictionOrder;
use source::RequestBudgets;

pub use entry::NeighborState;
pub use query::Neighbor;
pub use source::RequestSource;

/// Time between two requests.
pub const REQUEST_INTERVAL: Duration = Duration::from_secs(1);
/// The number of requests without an answer after which a neighbour has failed.
pub const REQUESTS_MAX: u8 = 3;
/// The age of an answer at which the neighbour is queried again.
pub const REFRESH_AFTER: Duration = Duration::from_secs(20);
/// How long a failed neighbour counts as absent before it is forgotten.
pub const NEGATIVE_LIFETIME: Duration = Duration::from_secs(5);
/// A neighbour, identified by its link and its IP address.
pub type NeighborKey = (LinkId, IpAddr);

/// The kind of message in which a neighbour gave its MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighborMessage {
    /// A reply to a request of the engine.
    Reply,
    /// A request for an address of the engine, from which the sender is learned (RFC 826).
    Request,
    /// An announcement to everybody. It updates an existing entry and never creates one.
    Announcement,
}

/// What the table wants to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NeighborAction<F> {
    /// Send a request for the neighbour: to everybody, or only to the station that answered last.
    Request {
        /// The neighbour to query.
        key: NeighborKey,
        /// The last known MAC address, if the request goes to that station only.
        known: Option<MacAddr>,
    },
    /// Send a frame that was waiting.
    Send {
        /// The MAC address of the neighbour.
        mac: MacAddr,
        /// The frame.
        frame: F,
    },
    /// Tell the sender of the frame that the neighbour does not answer.
    Unreachable {
        /// The frame.
        frame: F,
    },
    /// Report that a kept neighbour has moved to another MAC address.
    Moved {
        /// The neighbour.
        key: NeighborKey,
        /// The old MAC address, which does not answer.
        from: MacAddr,
        /// The new MAC address.
        to: MacAddr,
    },
    /// Report that a kept neighbour answers at its MAC address, although another one was claimed.
    Stayed {
        /// The neighbour.
        key: NeighborKey,
        /// Its MAC address.
        at: MacAddr,
        /// The MAC address that was claimed.
        claimed: MacAddr,
    },
}

/// The capacity of a [`NeighborTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborLimits {
    /// The largest number of neighbours. Kept ones count, but are never refused.
    pub neighbors: usize,
    /// The largest number of frames that wait, for all neighbours together.
    pub pending: usize,
}

impl NeighborLimits {
    /// The largest number of frames that wait for one neighbour. It is half of all, so that a silent host leaves room
    /// for others, and so that the first packets of many flows to a new host, or the fragments of a few datagrams, all
    /// arrive.
    pub const fn pending_each(&self) -> usize {
        self.pending.div_ceil(2)
    }
}

/// The counters of a [`NeighborTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NeighborCounters {
    /// Frames that were dropped in favour of later ones (`punt_drop_neighbor_queue`).
    pub queue_full: u64,
    /// Frames whose neighbour did not answer (`punt_drop_neighbor_failed`).
    pub unanswered: u64,
    /// Neighbours that were forgotten in favour of others, or not learned (`neighbor_table_full`).
    pub table_full: u64,
    /// Frames whose senders caused too many requests (`punt_drop_neighbor_limited`).
    pub limited: u64,
    /// Claims of another MAC address for a neighbour that still answers at its own (`neighbor_claims_refused`).
    pub claims_refused: u64,
}

/// The neighbour table; see the module documentation. `F` is the type of a frame that waits.
#[derive(Debug, Clone)]
pub struct NeighborTable<F> {
    limits: NeighborLimits,
    entries: BTreeMap<NeighborKey, Entry<F>>,
    eviction: EvictionOrder,
    budgets: RequestBudgets,
    timers: BTreeSet<(Instant, NeighborKey)>,
    links: BTreeSet<LinkId>,
    waiting: usize,
    actions: VecDeque<NeighborAction<F>>,
    changed: bool,
    counters: NeighborCounters,
}

impl<F> NeighborTable<F> {
    /// An empty table, in which every link is down.
    pub fn new(limits: NeighborLimits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            eviction: EvictionOrder::default(),
            budgets: RequestBudgets::default(),
            timers: BTreeSet::new(),
            links: BTreeSet::new(),
            waiting: 0,
            actions: VecDeque::new(),
            changed: false,
            counters: NeighborCounters::default(),
        }
    }

    /// Keeps `key` resolved for ever. If `pinned` is true, its last MAC address stays in use even while it does
    /// not answer. This is for firewalls, whose paths are evaluated by their probes and not by this table.
    pub fn keep_resolved(&mut self, key: NeighborKey, pinned: bool, now: Instant) {
        let entry =
            self.entries.entry(key).or_insert_with(|| Entry::new(EntryOrigin::Kept, RequestSource::ENGINE, now));
        entry.origin = EntryOrigin::Kept;
        entry.pinned |= pinned;
        self.reorder(key);
        if self.links.contains(&key.0) {
            self.request_broadcast(key, now);
        }
    }

    /// Keeps exactly these neighbours resolved from now on; the values say whether they are pinned. What is known of
    /// any neighbour stays. A neighbour that is no longer kept ages as if traffic had caused its entry.
    pub fn set_kept(&mut self, wanted: &BTreeMap<NeighborKey, bool>, now: Instant) {
        for (key, entry) in &mut self.entries {
            if entry.origin == EntryOrigin::Kept {
                entry.pinned = wanted.get(key).copied().unwrap_or(false);
                if !wanted.contains_key(key) {
                    entry.origin = EntryOrigin::Wanted;
                }
            }
        }
        for (key, pinned) in wanted {
            match self.entries.get_mut(key) {
                Some(entry) => {
                    entry.origin = EntryOrigin::Kept;
                    entry.pinned |= pinned;
                }
                None => self.keep_resolved(*key, *pinned, now),
            }
        }
        for key in self.entries.keys().copied().collect::<Vec<_>>() {
            self.reorder(key);
        }
        self.make_room();
    }

    /// Reports that the link is up, so that its neighbours are queried.
    pub fn link_up(&mut self, link: LinkId, now: Instant) {
        self.links.insert(link);
        for key in self.keys_on(link) {
            self.request_broadcast(key, now);
        }
    }

    /// Reports that the link is down. Waiting frames are given up, and neighbours that are not kept are forgotten.
    pub fn link_down(&mut self, link: LinkId) {
        self.links.remove(&link);
        for key in self.keys_on(link) {
            self.set_timer(key, None);
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let given_up = entry.waiting.len();
            entry.waiting.clear();
            entry.state = NeighborState::Failed;
            entry.claim = None;
            let forget = entry.origin != EntryOrigin::Kept;
            self.waiting -= given_up;
            self.counters.unanswered += given_up as u64;
            if forget {
                self.forget(key);
            }
            self.changed = true;
        }
    }

    /// Sends a frame to its neighbour, or queues it until the neighbour answers. If the neighbour failed recently, the
    /// frame is given up. `source` is the sender on whose behalf an unknown neighbour is queried; if it has caused
    /// too many requests, the frame is dropped.
    pub fn send_or_queue(&mut self, key: NeighborKey, source: RequestSource, frame: F, now: Instant) {
        if let Some(mac) = self.mac(key) {
            self.actions.push_back(NeighborAction::Send { mac, frame });
            return;
        }
        if !self.entries.contains_key(&key) {
            if !self.links.contains(&key.0) {
                self.give_up(frame);
                return;
            }
            if !self.budgets.take(source, now) {
                self.counters.limited += 1;
                return;
            }
            self.entries.insert(key, Entry::new(EntryOrigin::Wanted, source, now));
            self.request_broadcast(key, now);
        }
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.used = now;
        entry.origin = entry.origin.max(EntryOrigin::Wanted);
        match entry.state {
            NeighborState::Failed => {
                self.give_up(frame);
                return;
            }
            NeighborState::Incomplete | NeighborState::Reachable | NeighborState::Stale | NeighborState::Probe => {}
        }
        if entry.waiting.len() >= self.limits.pending_each() {
            entry.waiting.pop_front();
            self.waiting -= 1;
            self.counters.queue_full += 1;
        }
        self.reorder(key);
        self.make_room();
        if self.waiting >= self.limits.pending {
            self.counters.queue_full += 1;
            if !self.drop_oldest_frame() {
                return;
            }
        }
        match self.entries.get_mut(&key) {
            Some(entry) => {
                entry.waiting.push_back(frame);
                self.waiting += 1;
            }
            None => self.counters.queue_full += 1,
        }
    }

    /// Reports that a message gave the MAC address `mac` for `key`.
    pub fn handle_message(&mut self, key: NeighborKey, mac: MacAddr, heard: NeighborMessage, now: Instant) {
        if !self.links.contains(&key.0) {
            return;
        }
        match (self.entries.entry(key), heard) {
            (
                btree_map::Entry::Occupied(_),
                NeighborMessage::Request | NeighborMessage::Reply | NeighborMessage::Announcement,
            ) => {}
            (btree_map::Entry::Vacant(unknown), NeighborMessage::Request) => {
                unknown.insert(Entry::new(EntryOrigin::Learned, RequestSource::of(key.0, key.1), now));
            }
            (btree_map::Entry::Vacant(_), NeighborMessage::Reply | NeighborMessage::Announcement) => return,
        }
        if self.verify_claim(key, mac, now) {
            return;
        }
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let moved = entry.mac != Some(mac);
        let usable = entry.usable();
        if let Some(from) = entry.mac.filter(|_| moved && entry.origin == EntryOrigin::Kept) {
            self.actions.push_back(NeighborAction::Moved { key, from, to: mac });
        }
        entry.mac = Some(mac);
        let (state, next) = match (heard, entry.state, moved) {
            (NeighborMessage::Reply, _, _) => (NeighborState::Reachable, Some(now + REFRESH_AFTER)),
            // Without a competing address the neighbour's own message is used at once, and then verified by a request.
            (NeighborMessage::Request | NeighborMessage::Announcement, _, true)
            | (
                NeighborMessage::Request | NeighborMessage::Announcement,
                NeighborState::Incomplete | NeighborState::Failed,
                false,
            ) => (NeighborState::Stale, Some(now)),
            (NeighborMessage::Request | NeighborMessage::Announcement, state, false) => (state, entry.timer),
        };
        entry.state = state;
        match heard {
            NeighborMessage::Reply => {
                entry.answered = Some(now);
                entry.requests = 0;
                if let Some(claimed) = entry.claim.take() {
                    self.counters.claims_refused += 1;
                    if entry.origin == EntryOrigin::Kept {
                        self.actions.push_back(NeighborAction::Stayed { key, at: mac, claimed });
                    }
                }
            }
            NeighborMessage::Request | NeighborMessage::Announcement if state == NeighborState::Stale => {
                entry.requests = 0
            }
            NeighborMessage::Request | NeighborMessage::Announcement => {}
        }
        match heard {
            NeighborMessage::Request => entry.used = now,
            NeighborMessage::Reply | NeighborMessage::Announcement => {}
        }
        if moved || !usable {
            self.changed = true;
        }
        for frame in entry.waiting.drain(..) {
            self.waiting -= 1;
            self.actions.push_back(NeighborAction::Send { mac, frame });
        }
        self.set_timer(key, next);
        self.reorder(key);
        self.make_room();
    }

    /// Sends a request for `key` now, to find out whether it still answers. It goes to everybody if `everybody` is
    /// true, else to the last known MAC address.
    pub fn request(&mut self, key: NeighborKey, everybody: bool) {
        if self.links.contains(&key.0)
            && let Some(entry) = self.entries.get(&key)
        {
            let known = entry.mac.filter(|_| !everybody);
            self.actions.push_back(NeighborAction::Request { key, known });
        }
    }

    /// Handles the passing of time: requests are repeated, and entries expire.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(due, key)) = self.timers.first() {
            if due > now {
                return;
            }
            self.set_timer(key, None);
            self.expire(key, now);
            self.reorder(key);
        }
        self.make_room();
    }

    /// When [`NeighborTable::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<NeighborAction<F>> {
        self.actions.pop_front()
    }

    /// True if MAC addresses that are in use have changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn expire(&mut self, key: NeighborKey, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        match entry.state {
            NeighborState::Reachable | NeighborState::Stale => {
                entry.state = NeighborState::Probe;
                entry.requests = 1;
                self.actions.push_back(NeighborAction::Request { key, known: entry.mac });
                self.set_timer(key, Some(now + REQUEST_INTERVAL));
            }
            NeighborState::Probe if entry.claim.is_some() => self.continue_claim(key, now),
            NeighborState::Probe if entry.requests < REQUESTS_MAX => {
                entry.requests += 1;
                self.actions.push_back(NeighborAction::Request { key, known: entry.mac });
                self.set_timer(key, Some(now + REQUEST_INTERVAL));
            }
            NeighborState::Probe => self.request_broadcast(key, now),
            NeighborState::Incomplete if entry.requests < REQUESTS_MAX => {
                entry.requests += 1;
                self.actions.push_back(NeighborAction::Request { key, known: None });
                self.set_timer(key, Some(now + REQUEST_INTERVAL));
            }
            NeighborState::Incomplete => {
                entry.state = NeighborState::Failed;
                entry.since = now;
                let frames = std::mem::take(&mut entry.waiting);
                let retry = if entry.origin == EntryOrigin::Kept { REQUEST_INTERVAL } else { NEGATIVE_LIFETIME };
                self.waiting -= frames.len();
                for frame in frames {
                    self.give_up(frame);
                }
                self.set_timer(key, Some(now + retry));
            }
            NeighborState::Failed if entry.origin == EntryOrigin::Kept => {
                self.actions.push_back(NeighborAction::Request { key, known: None });
                self.set_timer(key, Some(now + REQUEST_INTERVAL));
            }
            NeighborState::Failed => self.forget(key),
        }
    }

    /// Sends a request for `key` to everybody, as for an unknown neighbour.
    fn request_broadcast(&mut self, key: NeighborKey, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let was_usable = entry.usable();
        entry.state = NeighborState::Incomplete;
        entry.since = now;
        entry.requests = 1;
        entry.claim = None;
        if was_usable && !entry.usable() {
            self.changed = true;
        }
        self.actions.push_back(NeighborAction::Request { key, known: None });
        self.set_timer(key, Some(now + REQUEST_INTERVAL));
    }

    fn give_up(&mut self, frame: F) {
        self.counters.unanswered += 1;
        self.actions.push_back(NeighborAction::Unreachable { frame });
    }

    fn set_timer(&mut self, key: NeighborKey, at: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if let Some(old) = std::mem::replace(&mut entry.timer, at) {
            self.timers.remove(&(old, key));
        }
        if let Some(at) = at {
            self.timers.insert((at, key));
        }
    }

    fn keys_on(&self, link: LinkId) -> Vec<NeighborKey> {
        self.entries.keys().filter(|(on, _)| *on == link).copied().collect()
    }
}

#[cfg(test)]
mod tests;
