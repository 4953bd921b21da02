//! Who answers at which MAC: ARP and ND resolution with a bounded queue of frames that wait (RFC 826, RFC 4861).
//!
//! The table decides whom to ask and when, what an answer changes, and which frame waits; it builds no frame and knows no
//! link. What it wants done it says through [`NeighborTable::poll_action`].
//!
//! ```text
//!               answer                 20 s                    3 unanswered
//! Incomplete ───────────▶ Reachable ─────────▶ Probe (unicast) ────────────▶ Incomplete ──▶ Failed
//!                  ▲          │ another MAC announced  ▲
//!                  └──────────┼───────▶ Stale ─────────┘
//! ```
//!
//! A neighbour is asked again before its entry ends, and keeps its address while it is asked, so that steady traffic never
//! waits. *Kept* neighbours (firewalls, configured gateways) are asked for ever.

mod entry;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use crate::id::LinkId;
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

pub use entry::State;
use entry::{Entry, Origin};

/// Time between two requests.
pub const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// Unanswered requests until a neighbour has failed.
pub const ASK_MAX: u8 = 3;
/// Age of an answer after which the neighbour is asked again.
pub const REFRESH_AFTER: Duration = Duration::from_secs(20);
/// How long a failed neighbour is believed to be absent.
pub const NEGATIVE: Duration = Duration::from_secs(5);
/// A neighbour: its link and its address.
pub type Key = (LinkId, IpAddr);

/// What a neighbour said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It answered a question of the engine.
    Answer,
    /// It asked for an address of the engine: somebody to remember (RFC 826).
    Question,
    /// It told everybody: an update of what is known, never a new entry.
    Announcement,
}

/// What the table wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<F> {
    /// Ask for the neighbour: everybody, or the one that answered last.
    Ask {
        /// Whom.
        key: Key,
        /// Its last known hardware address, for a refresh.
        known: Option<MacAddr>,
    },
    /// Send the frame that waited.
    Send {
        /// The neighbour's hardware address.
        mac: MacAddr,
        /// The frame.
        frame: F,
    },
    /// The neighbour does not answer: tell the frame's sender.
    Unreachable {
        /// The frame.
        frame: F,
    },
}

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

/// Bounds of a [`NeighborTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborLimits {
    /// Neighbours; the kept ones count, and are never refused.
    pub neighbors: usize,
    /// Frames that wait, all neighbours.
    pub pending: usize,
}

impl NeighborLimits {
    /// Frames that wait for one neighbour: half of all, so that one silent host leaves room for the others, and the first
    /// packets of many flows to a fresh host (or the fragments of a few datagrams) all get there.
    pub const fn pending_each(&self) -> usize {
        self.pending.div_ceil(2)
    }
}

/// What a [`NeighborTable`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NeighborCounters {
    /// Frames that gave way to younger ones (`punt_drop_neighbor_queue`).
    pub queue_full: u64,
    /// Frames whose neighbour did not answer (`punt_drop_neighbor_failed`).
    pub unanswered: u64,
    /// Neighbours that were forgotten for others, or not remembered (`neighbor_table_full`).
    pub table_full: u64,
}

/// See the module. `F` is a frame that waits.
#[derive(Debug, Clone)]
pub struct NeighborTable<F> {
    limits: NeighborLimits,
    entries: BTreeMap<Key, Entry<F>>,
    timers: BTreeSet<(Instant, Key)>,
    links: BTreeSet<LinkId>,
    waiting: usize,
    actions: VecDeque<Action<F>>,
    changed: bool,
    counters: NeighborCounters,
}

impl<F> NeighborTable<F> {
    /// An empty table; every link is down.
    pub fn new(limits: NeighborLimits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            timers: BTreeSet::new(),
            links: BTreeSet::new(),
            waiting: 0,
            actions: VecDeque::new(),
            changed: false,
            counters: NeighborCounters::default(),
        }
    }

    /// Resolves `key` for ever. `pinned`: its last hardware address stays in use even while it does not answer (the
    /// paths through a firewall are judged by their probes, not by this table).
    pub fn keep(&mut self, key: Key, pinned: bool, now: Instant) {
        let entry = self.entries.entry(key).or_insert_with(|| Entry::new(Origin::Kept, now));
        entry.origin = Origin::Kept;
        entry.pinned |= pinned;
        if self.links.contains(&key.0) {
            self.ask_afresh(key, now);
        }
    }

    /// Of all keys only these are resolved for ever from now on, with whether they are pinned. What is known of a neighbour
    /// stays; one that is kept no longer ages as if traffic had asked for it.
    pub fn keep_only(&mut self, wanted: &BTreeMap<Key, bool>, now: Instant) {
        for (key, entry) in &mut self.entries {
            if entry.origin == Origin::Kept {
                entry.pinned = wanted.get(key).copied().unwrap_or(false);
                if !wanted.contains_key(key) {
                    entry.origin = Origin::Wanted;
                }
            }
        }
        for (key, pinned) in wanted {
            match self.entries.get_mut(key) {
                Some(entry) => {
                    entry.origin = Origin::Kept;
                    entry.pinned |= pinned;
                }
                None => self.keep(*key, *pinned, now),
            }
        }
    }

    /// The link carries frames: what is to be resolved is asked for.
    pub fn link_up(&mut self, link: LinkId, now: Instant) {
        self.links.insert(link);
        for key in self.keys_on(link) {
            self.ask_afresh(key, now);
        }
    }

    /// The link carries nothing: what waits is given up, what was learned by traffic is forgotten.
    pub fn link_down(&mut self, link: LinkId) {
        self.links.remove(&link);
        for key in self.keys_on(link) {
            self.set_timer(key, None);
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let given_up = entry.waiting.len();
            entry.waiting.clear();
            entry.state = State::Failed;
            let forget = entry.origin != Origin::Kept;
            self.waiting -= given_up;
            self.counters.unanswered += given_up as u64;
            if forget {
                self.entries.remove(&key);
            }
            self.changed = true;
        }
    }

    /// Parks a frame until its neighbour answers; sends it at once if that is known, gives it up if the neighbour failed
    /// a moment ago.
    pub fn park(&mut self, key: Key, frame: F, now: Instant) {
        if let Some(mac) = self.mac(key) {
            self.actions.push_back(Action::Send { mac, frame });
            return;
        }
        if !self.entries.contains_key(&key) {
            if !self.links.contains(&key.0) || !self.make_room(Origin::Wanted) {
                self.give_up(frame);
                return;
            }
            self.entries.insert(key, Entry::new(Origin::Wanted, now));
            self.ask_afresh(key, now);
        }
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.used = now;
        entry.origin = entry.origin.max(Origin::Wanted);
        match entry.state {
            State::Failed => {
                self.give_up(frame);
                return;
            }
            State::Incomplete | State::Reachable | State::Stale | State::Probe => {}
        }
        if entry.waiting.len() >= self.limits.pending_each() {
            entry.waiting.pop_front();
            self.waiting -= 1;
            self.counters.queue_full += 1;
        }
        if self.waiting >= self.limits.pending {
            self.counters.queue_full += 1;
            return;
        }
        entry.waiting.push_back(frame);
        self.waiting += 1;
    }

    /// `key` was heard at `mac`.
    pub fn heard(&mut self, key: Key, mac: MacAddr, heard: Heard, now: Instant) {
        if !self.links.contains(&key.0) {
            return;
        }
        if !self.entries.contains_key(&key) {
            match heard {
                Heard::Question if self.make_room(Origin::Heard) => {
                    self.entries.insert(key, Entry::new(Origin::Heard, now));
                }
                Heard::Question | Heard::Answer | Heard::Announcement => return,
            }
        }
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let moved = entry.mac != Some(mac);
        let usable = entry.usable();
        entry.mac = Some(mac);
        let (state, next) = match (heard, entry.state, moved) {
            (Heard::Answer, _, _) => (State::Reachable, Some(now + REFRESH_AFTER)),
            // What it says of itself is taken at once (a firewall's own failover announces its new address), and verified.
            (Heard::Question | Heard::Announcement, _, true)
            | (Heard::Question | Heard::Announcement, State::Incomplete | State::Failed, false) => {
                (State::Stale, Some(now))
            }
            (Heard::Question | Heard::Announcement, state, false) => (state, entry.timer),
        };
        entry.state = state;
        match heard {
            Heard::Answer => {
                entry.answered = Some(now);
                entry.asked = 0;
            }
            Heard::Question | Heard::Announcement if state == State::Stale => entry.asked = 0,
            Heard::Question | Heard::Announcement => {}
        }
        if moved || !usable {
            self.changed = true;
        }
        for frame in entry.waiting.drain(..) {
            self.waiting -= 1;
            self.actions.push_back(Action::Send { mac, frame });
        }
        self.set_timer(key, next);
    }

    /// Asks for `key` now: a sign of life is wanted. Unless `everybody` is to be asked, the station that had the address
    /// last is.
    pub fn ask(&mut self, key: Key, everybody: bool) {
        if self.links.contains(&key.0)
            && let Some(entry) = self.entries.get(&key)
        {
            let known = entry.mac.filter(|_| !everybody);
            self.actions.push_back(Action::Ask { key, known });
        }
    }

    /// Time passes.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(due, key)) = self.timers.first() {
            if due > now {
                return;
            }
            self.set_timer(key, None);
            self.expire(key, now);
        }
    }

    /// When [`NeighborTable::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Something to do.
    pub fn poll_action(&mut self) -> Option<Action<F>> {
        self.actions.pop_front()
    }

    /// True once after hardware addresses that are in use have changed.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

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

    fn expire(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        match entry.state {
            State::Reachable | State::Stale => {
                entry.state = State::Probe;
                entry.asked = 1;
                self.actions.push_back(Action::Ask { key, known: entry.mac });
                self.set_timer(key, Some(now + ASK_INTERVAL));
            }
            State::Probe if entry.asked < ASK_MAX => {
                entry.asked += 1;
                self.actions.push_back(Action::Ask { key, known: entry.mac });
                self.set_timer(key, Some(now + ASK_INTERVAL));
            }
            State::Probe => self.ask_afresh(key, now),
            State::Incomplete if entry.asked < ASK_MAX => {
                entry.asked += 1;
                self.actions.push_back(Action::Ask { key, known: None });
                self.set_timer(key, Some(now + ASK_INTERVAL));
            }
            State::Incomplete => {
                entry.state = State::Failed;
                let frames = std::mem::take(&mut entry.waiting);
                let retry = if entry.origin == Origin::Kept { ASK_INTERVAL } else { NEGATIVE };
                self.waiting -= frames.len();
                for frame in frames {
                    self.give_up(frame);
                }
                self.set_timer(key, Some(now + retry));
            }
            State::Failed if entry.origin == Origin::Kept => {
                self.actions.push_back(Action::Ask { key, known: None });
                self.set_timer(key, Some(now + ASK_INTERVAL));
            }
            State::Failed => {
                self.entries.remove(&key);
            }
        }
    }

    /// Asks everybody for `key`, as if for the first time.
    fn ask_afresh(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let was_usable = entry.usable();
        entry.state = State::Incomplete;
        entry.asked = 1;
        if was_usable && !entry.usable() {
            self.changed = true;
        }
        self.actions.push_back(Action::Ask { key, known: None });
        self.set_timer(key, Some(now + ASK_INTERVAL));
    }

    fn give_up(&mut self, frame: F) {
        self.counters.unanswered += 1;
        self.actions.push_back(Action::Unreachable { frame });
    }

    /// Makes room for an entry of this origin: those of lesser origin go first, then failed ones, then the one that was
    /// wanted least recently. Who merely asked for us displaces only others that did, so that a flood of requests
    /// harms nobody that traffic goes to.
    fn make_room(&mut self, origin: Origin) -> bool {
        if self.entries.len() < self.limits.neighbors {
            return true;
        }
        self.counters.table_full += 1;
        let victim = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.origin <= origin && entry.origin != Origin::Kept)
            .min_by_key(|(_, entry)| (entry.origin, entry.state != State::Failed, entry.used))
            .map(|(key, _)| *key);
        let Some(key) = victim else { return false };
        self.set_timer(key, None);
        if let Some(entry) = self.entries.remove(&key) {
            self.waiting -= entry.waiting.len();
            self.counters.queue_full += entry.waiting.len() as u64;
            self.changed |= entry.usable();
        }
        true
    }

    fn set_timer(&mut self, key: Key, at: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if let Some(old) = std::mem::replace(&mut entry.timer, at) {
            self.timers.remove(&(old, key));
        }
        if let Some(at) = at {
            self.timers.insert((at, key));
        }
    }

    fn keys_on(&self, link: LinkId) -> Vec<Key> {
        self.entries.keys().filter(|(on, _)| *on == link).copied().collect()
    }
}

#[cfg(test)]
mod tests;
