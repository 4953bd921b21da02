//! Fragments without ports: which flow a later fragment belongs to, and the bounded store of those that came first.
//!
//! Only the first fragment of a datagram shows its ports. [`FragmentTable`] remembers them under (link, source,
//! destination, protocol, identification), so that every fragment takes the way of its flow in any order of arrival:
//!
//! ```text
//!             first                     all bytes seen, or idle for `timeout`
//!  (unknown) ───────▶ known ports ──────────────────────────────▶ (forgotten)
//!      │                   ▲   │ overlap
//!      │ later             │   ▼
//!      └────▶ waiting ─────┘  refused until idle for `timeout`
//!               │  first: the held ones are released
//!               └───── 2 s without a first: the held ones are given up
//! ```
//!
//! Nothing is put together: frames pass as they are. A fragment that overlaps another without being its exact copy
//! condemns its datagram (RFC 5722 for IPv6; Linux does the same for IPv4), so that a firewall never sees ports other
//! than those that chose it. A copy that comes when its datagram is complete and forgotten waits in vain; nobody misses
//! it. The room is bounded on every side: a flood of first fragments displaces the oldest
//! datagrams, a flood of later ones fills only the free room.

mod list;
mod ranges;

use std::collections::HashMap;
use std::net::IpAddr;

use self::list::List;
use self::ranges::{Inserted, Ranges};
use crate::time::{Duration, Instant};
use crate::wire::Family;
use crate::wire::frame::{Fragment, FragmentRange, Frame, Tuple};
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;

/// How long a later fragment waits for its first (A5.6).
pub const HELD_FOR: Duration = Duration::from_secs(2);
/// Later fragments of one datagram that wait at most.
pub const HELD_PER_DATAGRAM: usize = 64;
/// Bytes of all waiting fragments of one table at most.
pub const HELD_BYTES: usize = 4 << 20;

/// Which datagram a fragment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// The link that it came by: equal datagrams on two links never meet (A1.6).
    pub link: u16,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IPv4: protocol number. IPv6: 0, because the fragments of one datagram may name different headers (RFC 8200
    /// section 4.5: source, destination and identification tell datagrams apart).
    pub protocol: u8,
    /// Identification.
    pub id: u32,
}

impl FragmentKey {
    /// The datagram that `frame`, received on `link`, is a fragment of; `None` for a whole packet.
    pub fn of(link: u16, frame: &Frame<'_>) -> Option<Self> {
        let id = match frame.fragment() {
            Fragment::Whole => return None,
            Fragment::First { id } | Fragment::Later { id } => id,
        };
        let protocol = match frame.family() {
            Family::V4 => frame.protocol(),
            Family::V6 => 0,
        };
        Some(Self { link, source: frame.source(), destination: frame.destination(), protocol, id })
    }
}

/// A later fragment that waits for its first: an owned copy, with what its owner wants to know again (`context`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held<T> {
    /// The Ethernet frame without its outer tag.
    pub bytes: Vec<u8>,
    /// Its outer 802.1Q tag.
    pub vlan: Option<VlanTag>,
    /// Checksum and segmentation work left undone.
    pub offload: Offload,
    /// Whatever the owner passed.
    pub context: T,
}

/// What becomes of a first fragment.
#[derive(Debug, PartialEq, Eq)]
pub enum First<T> {
    /// Its ports are remembered. Forward it, and after it the fragments that waited for it, in order of arrival.
    Recorded(Vec<Held<T>>),
    /// It contradicts what is known of its datagram: drop it.
    Overlap,
}

/// What becomes of a later fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Later {
    /// It belongs to this flow: protocol and ports are those of the first fragment.
    Known(Tuple),
    /// Its first is not here yet; a copy is held.
    Held,
    /// Its datagram is unknown and there is no room for another, or it has more pieces than are told apart: drop it.
    TableFull,
    /// Its datagram is unknown and the store of waiting fragments is full: drop it.
    HeldFull,
    /// It overlaps another fragment of its datagram: drop it.
    Overlap,
}

/// Bounds of a [`FragmentTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Datagrams known at once.
    pub datagrams: usize,
    /// Later fragments that wait, of all datagrams.
    pub held: usize,
    /// Idle time after which a datagram is forgotten.
    pub timeout: Duration,
}

/// The datagrams of which one worker sees the fragments.
#[derive(Debug)]
pub struct FragmentTable<T> {
    limits: FragmentLimits,
    index: HashMap<FragmentKey, u32, ahash::RandomState>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// Known and condemned datagrams, the one idle longest first.
    seen: List,
    /// Datagrams without their first fragment, the oldest first.
    waiting: List,
    held: usize,
    held_bytes: usize,
    abandoned: u64,
}

#[derive(Debug)]
struct Slot<T> {
    key: FragmentKey,
    state: State,
    deadline: Instant,
    ranges: Ranges,
    held: Vec<Held<T>>,
    links: list::Links,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first fragment came and said this.
    Known { protocol: u8, source_port: u16, destination_port: u16 },
    /// It did not come yet.
    Waiting,
    /// Fragments overlapped: no more of this datagram passes.
    Condemned,
}

impl<T> FragmentTable<T> {
    /// A table with this room.
    pub fn new(limits: FragmentLimits) -> Self {
        Self {
            limits,
            index: HashMap::with_capacity_and_hasher(limits.datagrams, ahash::RandomState::new()),
            slots: Vec::with_capacity(limits.datagrams),
            free: Vec::with_capacity(limits.datagrams),
            seen: List::new(),
            waiting: List::new(),
            held: 0,
            held_bytes: 0,
            abandoned: 0,
        }
    }

    /// Datagrams that are known.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True if none is known.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Later fragments that wait.
    pub fn held(&self) -> usize {
        self.held
    }

    /// How many waiting fragments were given up since the last call: their first did not come in time, their datagram was
    /// displaced, or turned out to overlap.
    pub fn take_abandoned(&mut self) -> u64 {
        std::mem::take(&mut self.abandoned)
    }

    /// When [`FragmentTable::expire`] has work.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = |list: &List| list.front().map(|slot| self.slots[slot as usize].deadline);
        [deadline(&self.seen), deadline(&self.waiting)].into_iter().flatten().min()
    }

    /// Forgets datagrams whose time is up, at most `budget`; answers how many.
    pub fn expire(&mut self, now: Instant, budget: usize) -> usize {
        let mut done = 0;
        while done < budget && self.expire_one(now) {
            done += 1;
        }
        done
    }

    /// A first fragment, with the tuple that it shows. It always finds room: the datagram idle longest makes it.
    pub fn first(&mut self, key: &FragmentKey, tuple: &Tuple, range: FragmentRange, now: Instant) -> First<T> {
        let shown = State::Known {
            protocol: tuple.protocol,
            source_port: tuple.source_port,
            destination_port: tuple.destination_port,
        };
        let Some(slot) = self.find(key, now).or_else(|| self.insert(key, shown, now, true)) else {
            // No room at all was configured: nothing to remember, nothing to contradict.
            return First::Recorded(Vec::new());
        };
        let entry = &mut self.slots[slot as usize];
        let contradicts = match entry.state {
            State::Condemned => return First::Overlap,
            State::Known { .. } => entry.state != shown,
            State::Waiting => false,
        };
        if contradicts || entry.ranges.insert(range) == Inserted::Overlap {
            self.condemn(slot, now);
            return First::Overlap;
        }
        let released = self.take_held(slot);
        self.file(slot, shown, now);
        self.forget_if_complete(slot);
        First::Recorded(released)
    }

    /// A later fragment. `hold` makes the copy, and is called only if the fragment has to wait.
    pub fn later(
        &mut self,
        key: &FragmentKey,
        range: FragmentRange,
        hold: impl FnOnce() -> Held<T>,
        now: Instant,
    ) -> Later {
        let Some(slot) = self.find(key, now) else {
            return self.first_to_wait(key, range, hold, now);
        };
        let entry = &mut self.slots[slot as usize];
        let room = entry.held.len() < HELD_PER_DATAGRAM && self.held < self.limits.held;
        let state = entry.state;
        match state {
            State::Condemned => Later::Overlap,
            State::Waiting if !room => Later::HeldFull,
            State::Waiting => match entry.ranges.insert(range) {
                Inserted::Added | Inserted::Copy => self.hold(slot, hold()),
                Inserted::Full => Later::TableFull,
                Inserted::Overlap => {
                    self.condemn(slot, now);
                    Later::Overlap
                }
            },
            State::Known { protocol, source_port, destination_port } => match entry.ranges.insert(range) {
                Inserted::Added | Inserted::Copy => {
                    self.file(slot, state, now);
                    self.forget_if_complete(slot);
                    let (source, destination) = (key.source, key.destination);
                    Later::Known(Tuple { protocol, source, source_port, destination, destination_port })
                }
                Inserted::Full => Later::TableFull,
                Inserted::Overlap => {
                    self.condemn(slot, now);
                    Later::Overlap
                }
            },
        }
    }

    fn first_to_wait(
        &mut self,
        key: &FragmentKey,
        range: FragmentRange,
        hold: impl FnOnce() -> Held<T>,
        now: Instant,
    ) -> Later {
        if self.held >= self.limits.held && !self.expire_one(now) {
            return Later::HeldFull;
        }
        let Some(slot) = self.insert(key, State::Waiting, now, false) else {
            return Later::TableFull;
        };
        // The first range of an empty set always fits.
        self.slots[slot as usize].ranges.insert(range);
        match self.hold(slot, hold()) {
            Later::Held => Later::Held,
            refused @ (Later::HeldFull | Later::TableFull | Later::Overlap | Later::Known(_)) => {
                self.remove(slot);
                refused
            }
        }
    }

    /// Stores the copy, if the store has room for it.
    fn hold(&mut self, slot: u32, held: Held<T>) -> Later {
        if self.held >= self.limits.held || self.held_bytes + held.bytes.len() > HELD_BYTES {
            return Later::HeldFull;
        }
        self.held += 1;
        self.held_bytes += held.bytes.len();
        self.slots[slot as usize].held.push(held);
        Later::Held
    }

    /// The slot of a datagram whose time is not up.
    fn find(&mut self, key: &FragmentKey, now: Instant) -> Option<u32> {
        let slot = *self.index.get(key)?;
        if self.slots[slot as usize].deadline > now {
            return Some(slot);
        }
        self.remove(slot);
        None
    }

    /// A slot for a datagram that is not in the table. Without a free one an expired datagram makes room, or if
    /// `displace` says so the one idle longest.
    fn insert(&mut self, key: &FragmentKey, state: State, now: Instant, displace: bool) -> Option<u32> {
        if self.index.len() >= self.limits.datagrams && !self.expire_one(now) {
            let oldest = if displace { self.seen.front().or_else(|| self.waiting.front()) } else { None };
            self.remove(oldest?);
        }
        let entry =
            Slot { key: *key, state, deadline: now, ranges: Ranges::new(), held: Vec::new(), links: list::Links::NONE };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = entry;
                slot
            }
            None => {
                let slot = u32::try_from(self.slots.len()).expect("limits are far below 2^32 datagrams");
                self.slots.push(entry);
                slot
            }
        };
        self.link(slot, now);
        self.index.insert(*key, slot);
        Some(slot)
    }

    fn expire_one(&mut self, now: Instant) -> bool {
        let due = [self.waiting.front(), self.seen.front()]
            .into_iter()
            .flatten()
            .find(|&slot| self.slots[slot as usize].deadline <= now);
        match due {
            Some(slot) => {
                self.remove(slot);
                true
            }
            None => false,
        }
    }

    /// A datagram of which all bytes were seen gives its room away, and its identification may come again (RFC 4963).
    fn forget_if_complete(&mut self, slot: u32) {
        if self.slots[slot as usize].ranges.is_complete() {
            self.remove(slot);
        }
    }

    fn remove(&mut self, slot: u32) {
        self.abandoned += self.take_held(slot).len() as u64;
        self.unlink(slot);
        self.index.remove(&self.slots[slot as usize].key);
        self.free.push(slot);
    }

    fn condemn(&mut self, slot: u32, now: Instant) {
        self.abandoned += self.take_held(slot).len() as u64;
        self.file(slot, State::Condemned, now);
    }

    /// Takes the waiting fragments of a datagram out of the store.
    fn take_held(&mut self, slot: u32) -> Vec<Held<T>> {
        let taken = std::mem::take(&mut self.slots[slot as usize].held);
        self.held -= taken.len();
        self.held_bytes -= taken.iter().map(|held| held.bytes.len()).sum::<usize>();
        taken
    }

    /// Moves a datagram to the end of the list that its new state belongs to, with a fresh deadline.
    fn file(&mut self, slot: u32, state: State, now: Instant) {
        self.unlink(slot);
        self.slots[slot as usize].state = state;
        self.link(slot, now);
    }

    fn link(&mut self, slot: u32, now: Instant) {
        let entry = &mut self.slots[slot as usize];
        let (list, lifetime) = match entry.state {
            State::Known { .. } | State::Condemned => (&mut self.seen, self.limits.timeout),
            State::Waiting => (&mut self.waiting, HELD_FOR),
        };
        entry.deadline = now + lifetime;
        list.push_back(&mut self.slots, slot);
    }

    fn unlink(&mut self, slot: u32) {
        let list = match self.slots[slot as usize].state {
            State::Known { .. } | State::Condemned => &mut self.seen,
            State::Waiting => &mut self.waiting,
        };
        list.remove(&mut self.slots, slot);
    }
}

#[cfg(test)]
mod tests;
