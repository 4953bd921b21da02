//! Fragments without ports: to which flow a fragment after the first belongs, and a bounded store for those that arrive
//! before the first.
//!
//! Only the first fragment of a datagram has ports. [`FragmentTable`] remembers them under (link, source, destination,
//! protocol, identification), so that every fragment follows its flow, in whatever order they arrive:
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
//! Nothing is reassembled: fragments are forwarded as they are. A fragment that overlaps another without being its
//! exact copy causes its whole datagram to be dropped (RFC 5722 for IPv6; Linux does the same for IPv4), so that a
//! firewall never sees other ports than those that chose it. A copy that arrives after its datagram was complete and
//! forgotten waits until it is given up, which does no harm. All room is bounded: a flood of first fragments displaces
//! the oldest datagrams, a flood of later fragments only fills free room.

mod list;
mod ranges;

use std::collections::HashMap;
use std::net::IpAddr;

use self::list::List;
use self::ranges::{Inserted, SeenRanges};
use crate::time::{Duration, Instant};
use crate::wire::Family;
use crate::wire::frame::{Fragment, FragmentRange, Frame, Tuple};
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;

/// How long a later fragment waits for the first of its datagram (rule A5.6 of `docs/protocols.md`).
pub const HOLD_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest number of later fragments of one datagram that wait.
pub const HELD_PER_DATAGRAM: usize = 64;
/// The largest number of bytes of waiting fragments in one table.
pub const HELD_BYTES: usize = 4 << 20;

/// The identity of the datagram that a fragment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// The link by which it was received. Equal datagrams on two links are different ones (rule A1.6 of
    /// `docs/protocols.md`).
    pub link: u16,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol number for IPv4, and 0 for IPv6, where the fragments of one datagram may name different headers. RFC
    /// 8200 section 4.5 identifies an IPv6 datagram by source, destination and identification alone.
    pub protocol: u8,
    /// Identification of the datagram.
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

/// A copy of a later fragment that waits for the first, with whatever its owner needs again when it is released
/// (`context`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldFragment<T> {
    /// The Ethernet frame without its outer tag.
    pub bytes: Vec<u8>,
    /// The outer 802.1Q tag of the frame.
    pub vlan: Option<VlanTag>,
    /// The checksum and segmentation work that the devices left undone.
    pub offload: Offload,
    /// The value that the owner passed in.
    pub context: T,
}

/// What to do with a first fragment.
#[derive(Debug, PartialEq, Eq)]
pub enum FirstFragment<T> {
    /// Forward it, and after it the fragments that waited for it, in order of arrival. Its ports are remembered.
    Recorded(Vec<HeldFragment<T>>),
    /// Drop it: it overlaps or contradicts what is known of its datagram.
    Overlap,
}

/// What to do with a later fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaterFragment {
    /// Forward it with the flow of this tuple, which has protocol and ports of the first fragment.
    Known(Tuple),
    /// Nothing: the first fragment has not arrived, and a copy of this one is held.
    Held,
    /// Drop it: its datagram is unknown and the table has no room for it, or it has more fragments than are tracked.
    TableFull,
    /// Drop it: its first fragment has not arrived and the store of waiting fragments is full.
    HeldFull,
    /// Drop it: it overlaps another fragment of its datagram.
    Overlap,
}

/// The capacity of a [`FragmentTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentLimits {
    /// The largest number of datagrams that are known at once.
    pub datagrams: usize,
    /// The largest number of fragments that wait, over all datagrams.
    pub held: usize,
    /// Idle time after which a datagram is forgotten.
    pub timeout: Duration,
}

/// The datagrams whose fragments one worker sees.
#[derive(Debug)]
pub struct FragmentTable<T> {
    limits: FragmentLimits,
    index: HashMap<FragmentKey, u32, ahash::RandomState>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// Known and condemned datagrams; the one that was idle longest comes first.
    seen: List,
    /// Datagrams without their first fragment; the oldest comes first.
    waiting: List,
    held: usize,
    held_bytes: usize,
    abandoned: u64,
}

#[derive(Debug)]
struct Slot<T> {
    key: FragmentKey,
    state: DatagramState,
    deadline: Instant,
    ranges: SeenRanges,
    held: Vec<HeldFragment<T>>,
    links: list::Links,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DatagramState {
    /// The first fragment has arrived with this protocol and these ports.
    Known { protocol: u8, source_port: u16, destination_port: u16 },
    /// The first fragment has not arrived.
    Waiting,
    /// Fragments overlapped, so that all further ones of this datagram are dropped.
    Condemned,
}

impl<T> FragmentTable<T> {
    /// An empty table with the given capacity.
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

    /// The number of datagrams in the table.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True if the table is empty.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The number of fragments that wait.
    pub fn held(&self) -> usize {
        self.held
    }

    /// The number of waiting fragments that were given up since the last call: the first did not arrive in time, or
    /// their datagram was displaced or turned out to have overlapping fragments.
    pub fn take_abandoned(&mut self) -> u64 {
        std::mem::take(&mut self.abandoned)
    }

    /// When [`FragmentTable::expire`] has work to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = |list: &List| list.front().map(|slot| self.slots[slot as usize].deadline);
        [deadline(&self.seen), deadline(&self.waiting)].into_iter().flatten().min()
    }

    /// Forgets at most `budget` datagrams that were idle too long, and returns how many.
    pub fn expire(&mut self, now: Instant, budget: usize) -> usize {
        let mut done = 0;
        while done < budget && self.expire_one(now) {
            done += 1;
        }
        done
    }

    /// Handles a first fragment with its tuple. It always finds room, because the datagram that was idle longest is
    /// displaced.
    pub fn handle_first(
        &mut self,
        key: &FragmentKey,
        tuple: &Tuple,
        range: FragmentRange,
        now: Instant,
    ) -> FirstFragment<T> {
        let shown = DatagramState::Known {
            protocol: tuple.protocol,
            source_port: tuple.source_port,
            destination_port: tuple.destination_port,
        };
        let Some(slot) = self.find(key, now).or_else(|| self.insert(key, shown, now, true)) else {
            // The configured capacity is 0: there is nothing to remember and nothing to contradict.
            return FirstFragment::Recorded(Vec::new());
        };
        let entry = &mut self.slots[slot as usize];
        let contradicts = match entry.state {
            DatagramState::Condemned => return FirstFragment::Overlap,
            DatagramState::Known { .. } => entry.state != shown,
            DatagramState::Waiting => false,
        };
        if contradicts || entry.ranges.insert(range) == Inserted::Overlap {
            self.condemn(slot, now);
            return FirstFragment::Overlap;
        }
        let released = self.take_held(slot);
        self.set_state(slot, shown, now);
        self.forget_if_complete(slot);
        FirstFragment::Recorded(released)
    }

    /// Handles a later fragment. `hold` makes the copy, and is called only if the fragment has to wait.
    pub fn handle_later(
        &mut self,
        key: &FragmentKey,
        range: FragmentRange,
        hold: impl FnOnce() -> HeldFragment<T>,
        now: Instant,
    ) -> LaterFragment {
        let Some(slot) = self.find(key, now) else {
            return self.handle_unknown(key, range, hold, now);
        };
        let entry = &mut self.slots[slot as usize];
        let room = entry.held.len() < HELD_PER_DATAGRAM && self.held < self.limits.held;
        let state = entry.state;
        match state {
            DatagramState::Condemned => LaterFragment::Overlap,
            DatagramState::Waiting if !room => LaterFragment::HeldFull,
            DatagramState::Waiting => match entry.ranges.insert(range) {
                Inserted::Added | Inserted::Copy => self.hold(slot, hold()),
                Inserted::Full => LaterFragment::TableFull,
                Inserted::Overlap => {
                    self.condemn(slot, now);
                    LaterFragment::Overlap
                }
            },
            DatagramState::Known { protocol, source_port, destination_port } => match entry.ranges.insert(range) {
                Inserted::Added | Inserted::Copy => {
                    self.set_state(slot, state, now);
                    self.forget_if_complete(slot);
                    let (source, destination) = (key.source, key.destination);
                    LaterFragment::Known(Tuple { protocol, source, source_port, destination, destination_port })
                }
                Inserted::Full => LaterFragment::TableFull,
                Inserted::Overlap => {
                    self.condemn(slot, now);
                    LaterFragment::Overlap
                }
            },
        }
    }

    fn handle_unknown(
        &mut self,
        key: &FragmentKey,
        range: FragmentRange,
        hold: impl FnOnce() -> HeldFragment<T>,
        now: Instant,
    ) -> LaterFragment {
        if self.held >= self.limits.held && !self.expire_one(now) {
            return LaterFragment::HeldFull;
        }
        let Some(slot) = self.insert(key, DatagramState::Waiting, now, false) else {
            return LaterFragment::TableFull;
        };
        // The first range of an empty set always fits.
        self.slots[slot as usize].ranges.insert(range);
        match self.hold(slot, hold()) {
            LaterFragment::Held => LaterFragment::Held,
            refused @ (LaterFragment::HeldFull
            | LaterFragment::TableFull
            | LaterFragment::Overlap
            | LaterFragment::Known(_)) => {
                self.remove(slot);
                refused
            }
        }
    }

    /// Stores the copy of a waiting fragment, if the store has room for it.
    fn hold(&mut self, slot: u32, held: HeldFragment<T>) -> LaterFragment {
        if self.held >= self.limits.held || self.held_bytes + held.bytes.len() > HELD_BYTES {
            return LaterFragment::HeldFull;
        }
        self.held += 1;
        self.held_bytes += held.bytes.len();
        self.slots[slot as usize].held.push(held);
        LaterFragment::Held
    }

    /// The slot of a datagram that has not expired.
    fn find(&mut self, key: &FragmentKey, now: Instant) -> Option<u32> {
        let slot = *self.index.get(key)?;
        if self.slots[slot as usize].deadline > now {
            return Some(slot);
        }
        self.remove(slot);
        None
    }

    /// Takes a slot for a new datagram. If none is free, an expired datagram makes room or, if `displace` is true, the
    /// one that was idle longest.
    fn insert(&mut self, key: &FragmentKey, state: DatagramState, now: Instant, displace: bool) -> Option<u32> {
        if self.index.len() >= self.limits.datagrams && !self.expire_one(now) {
            let oldest = if displace { self.seen.front().or_else(|| self.waiting.front()) } else { None };
            self.remove(oldest?);
        }
        let entry = Slot {
            key: *key,
            state,
            deadline: now,
            ranges: SeenRanges::new(),
            held: Vec::new(),
            links: list::Links::NONE,
        };
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

    /// Forgets a datagram of which all bytes were seen. This frees its room, and its identification may be used again
    /// (RFC 4963).
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
        self.set_state(slot, DatagramState::Condemned, now);
    }

    /// Takes the waiting fragments of a datagram out of the store.
    fn take_held(&mut self, slot: u32) -> Vec<HeldFragment<T>> {
        let taken = std::mem::take(&mut self.slots[slot as usize].held);
        self.held -= taken.len();
        self.held_bytes -= taken.iter().map(|held| held.bytes.len()).sum::<usize>();
        taken
    }

    /// Moves a datagram to the end of the list that its new state belongs to, and restarts its timer.
    fn set_state(&mut self, slot: u32, state: DatagramState, now: Instant) {
        self.unlink(slot);
        self.slots[slot as usize].state = state;
        self.link(slot, now);
    }

    fn link(&mut self, slot: u32, now: Instant) {
        let entry = &mut self.slots[slot as usize];
        let (list, lifetime) = match entry.state {
            DatagramState::Known { .. } | DatagramState::Condemned => (&mut self.seen, self.limits.timeout),
            DatagramState::Waiting => (&mut self.waiting, HOLD_TIMEOUT),
        };
        entry.deadline = now + lifetime;
        list.push_back(&mut self.slots, slot);
    }

    fn unlink(&mut self, slot: u32) {
        let list = match self.slots[slot as usize].state {
            DatagramState::Known { .. } | DatagramState::Condemned => &mut self.seen,
            DatagramState::Waiting => &mut self.waiting,
        };
        list.remove(&mut self.slots, slot);
    }
}

#[cfg(test)]
mod tests;
