//! Copies of sessions: what another node could not compute by itself is told to it, so that sessions go on after a
//! takeover.
//!
//! ```text
//!  packet workers ── changes ──> ┌────────┐ ── records, in order ──> ┌────────┐ ── SessionWorker ──> table
//!  table <── passes, reads ───── │outgoing│                          │incoming│
//!                                └────────┘ <── acknowledgements ─── └────────┘
//! ```
//!
//! The active node tells each standby of every session that needs a copy when it is confirmed, changes its state or its
//! firewall, or is ended by force. What it tells is the session as it is in the table at that moment. A *full pass* over
//! the table tells all of them: to a node that joins, and after changes were lost because nobody could take them. When
//! it is over, the standby drops what was not told. A *slow pass* renews what is in use, so that copies do not expire,
//! and finds sessions that need a copy for another reason than a packet.
//!
//! Which session needs a copy, and what numbers mean, the [`CopyHost`] says. The thread that owns the [`Copies`] gives
//! them datagrams and the time, and sends what they return; nothing here waits.

mod host;
mod incoming;
mod names;
mod outgoing;
mod pass;
mod slots;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::ha::association::Kind;
use crate::ha::settings::NodeId;
use crate::ha::stream::StreamId;
use crate::session::{ChangeReader, EndReason, SessionTable, SessionWorker};
use crate::time::{Duration, Instant};

pub use host::CopyHost;
pub use incoming::{Refusals, Unapplied};
pub use names::{HeardNames, ToldNames, record_of};

use incoming::{CopyTarget, Incoming};
use outgoing::Outgoing;

/// The shortest delay, which bounds how often changes are read.
const DELAY_MIN: Duration = Duration::from_micros(100);
/// How many changes of one worker are read in a step.
const CHANGES_AT_ONCE: usize = 1024;
/// How many of them are read at last: more than the ring of a worker has room for.
const CHANGES_AT_LAST: usize = 1 << 17;
/// After which time a node looks for changes at the latest when there were none before, unless its delay is longer.
const REST_MAX: Duration = Duration::from_millis(3);
/// How often a pass goes on at the latest.
const PASS_STEP: Duration = Duration::from_millis(1);
/// How long a node without room for more may hold up what is told to others, before it is left to a full pass.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long what a node said before it gave up its role is still sent, and taken over by the one that took the role.
const FLUSH: Duration = Duration::from_secs(1);
/// How long changes are still told after a node gave up its role: packet workers may be in the middle of a batch.
const LAST_BATCH: Duration = Duration::from_millis(20);
/// How often copies are expired, and how many entries are visited then.
const EXPIRE_EVERY: Duration = Duration::from_millis(50);
const EXPIRED_AT_ONCE: usize = 4096;
/// Slots that are visited then to count the copies.
const COUNTED_AT_ONCE: u32 = 4096;

/// See the module.
#[derive(Debug)]
pub struct Copies {
    table: Arc<SessionTable>,
    /// Opens and expires the copies.
    owner: SessionWorker,
    changes: Vec<ChangeReader>,
    /// The random number of this process.
    origin: u64,
    /// The number of streams that this process has begun.
    runs: u32,
    /// The number of times that this process began to receive anew.
    receiver_runs: u64,
    delay: Duration,
    is_router: bool,
    /// When this node last became the router.
    router_since: Instant,
    /// Which other node is active, as far as is known.
    active: Option<NodeId>,
    others: Vec<Other>,
    /// When changes are read next, and how long after the last time: the delay while there are some, and longer and longer
    /// while there are none.
    read_at: Instant,
    rest: Duration,
    /// When copies are expired next.
    expire_at: Instant,
    /// How many copies this node has, and the count that is under way: the next slot, and those before it.
    held: usize,
    count: (u32, usize),
}

#[derive(Debug)]
struct Other {
    node: NodeId,
    is_connected: bool,
    outgoing: Option<Outgoing>,
    incoming: Incoming,
}

impl Other {
    fn new(node: NodeId, origin: u64) -> Self {
        Self { node, is_connected: false, outgoing: None, incoming: Incoming::new(origin) }
    }
}

/// A datagram to be sealed and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The node.
    pub node: NodeId,
    /// Its kind.
    pub kind: Kind,
    /// Its content.
    pub body: Vec<u8>,
}

/// How far the copies are at one other node, and from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CopyStatus {
    /// How many sessions of this node that node could not handle by itself after a takeover, so that it needs copies of
    /// them. The last pass over the session table counted them.
    pub needed: u32,
    /// Everything that was told has arrived there.
    pub is_flushed: bool,
    /// For how long something has waited in vain for its acknowledgement.
    pub stalled: Duration,
    /// How far the pass that is under way has come, if there is one: how many slots of the session table it has visited,
    /// and how many there are.
    pub pass: Option<(u32, u32)>,
    /// Full passes that were begun.
    pub full_passes: u32,
    /// Records that were told.
    pub records: u64,
    /// Datagrams that were sent again.
    pub resends: u64,
    /// A full pass of that node has arrived here completely.
    pub is_complete: bool,
    /// For how long the oldest datagram of it that has arrived waits to be applied here, because a datagram before it is
    /// missing or because this node is busy. Zero if none waits.
    pub behind: Duration,
    /// What of it could not be applied.
    pub refusals: Refusals,
    /// Copies for which there was no room since its last full pass began.
    pub without_room: u64,
    /// For how long it has acknowledged nothing, although the stream began again.
    pub failing: Duration,
}

impl Copies {
    /// The copies in a table that was made by [`SessionTable::with_copies`], of which `owner` is the last worker.
    /// `changes` come from the packet workers, `others` are the other nodes, and `origin` is a random number that is
    /// different at every start. Changes are told after `delay` at the latest while there are some, and after 3 ms, or
    /// `delay` if that is longer, when there were none before.
    pub fn new(
        owner: SessionWorker,
        changes: Vec<ChangeReader>,
        others: impl IntoIterator<Item = NodeId>,
        origin: u64,
        delay: Duration,
        now: Instant,
    ) -> Self {
        let delay = delay.max(DELAY_MIN);
        Self {
            table: Arc::clone(owner.table()),
            owner,
            changes,
            origin,
            runs: 0,
            receiver_runs: 0,
            delay,
            rest: delay,
            is_router: false,
            router_since: now,
            active: None,
            others: others.into_iter().map(|node| Other::new(node, origin)).collect(),
            read_at: now,
            expire_at: now,
            held: 0,
            count: (0, 0),
        }
    }

    /// Says whether this node forwards packets, and since when. One that does not takes over what others tell without
    /// asking; one that does tells others. [`Copies::tell_all`] comes before it gives the role up.
    pub fn set_router(&mut self, is_router: bool, since: Instant, now: Instant) {
        if is_router == self.is_router {
            return;
        }
        self.is_router = is_router;
        (self.read_at, self.rest) = (now, self.delay);
        if is_router {
            self.router_since = since;
        }
        for other in &mut self.others {
            if is_router {
                other.incoming.stop_pass();
                other.outgoing = None;
            } else {
                // What this node decided while it forwarded is not known to be what the others have.
                self.receiver_runs += 1;
                other.incoming.begin_again(self.origin.wrapping_add(self.receiver_runs));
                other.outgoing.as_mut().into_iter().for_each(|outgoing| outgoing.end_by(now + LAST_BATCH, now + FLUSH));
            }
        }
    }

    /// Says which other node is active. What others told counts for nothing any more, and if the active one told everything
    /// before another one did, it is asked to do so again.
    pub fn set_active(&mut self, active: Option<NodeId>) {
        self.active = active;
        let is_router = self.is_router;
        let told_too_early = |other: &&mut Other| Some(other.node) == active && other.incoming.is_superseded();
        for other in self.others.iter_mut().filter(|_| !is_router).filter(told_too_early) {
            self.receiver_runs += 1;
            other.incoming.begin_again(self.origin.wrapping_add(self.receiver_runs));
        }
    }

    /// Takes over the other nodes of another configuration, each with the number that it had before.
    pub fn set_nodes(&mut self, nodes: impl IntoIterator<Item = (NodeId, Option<NodeId>)>) {
        let mut known = std::mem::take(&mut self.others);
        for (node, former) in nodes {
            let place = known.iter().position(|other| Some(other.node) == former);
            let other = place.map(|place| known.swap_remove(place));
            self.others.push(Other { node, ..other.unwrap_or_else(|| Other::new(node, self.origin)) });
        }
    }

    /// Says whether a node is heard and associated with this one.
    pub fn set_connected(&mut self, node: NodeId, is_connected: bool) {
        if let Some(other) = self.others.iter_mut().find(|other| other.node == node) {
            other.is_connected = is_connected;
            other.outgoing = other.outgoing.take().filter(|_| is_connected);
        }
    }

    /// Tells everything again to every node.
    pub fn resync(&mut self) {
        self.others.iter_mut().filter_map(|other| other.outgoing.as_mut()).for_each(Outgoing::request_full_pass);
    }

    /// Takes the content of a datagram of kind [`Kind::Stream`] or [`Kind::Ack`].
    pub fn handle_datagram(&mut self, node: NodeId, kind: Kind, body: &[u8], now: Instant) {
        let Some(other) = self.others.iter_mut().find(|other| other.node == node) else { return };
        match kind {
            Kind::Stream => {
                // Who begins to tell has taken the role from those who told before.
                if other.incoming.handle_datagram(body, now) {
                    self.others
                        .iter_mut()
                        .filter(|other| other.node != node)
                        .for_each(|other| other.incoming.stop_pass());
                }
            }
            Kind::Ack => other.outgoing.as_mut().into_iter().for_each(|outgoing| outgoing.handle_ack(body, now)),
            Kind::Init | Kind::Hello => {}
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, host: &mut dyn CopyHost, now: Instant) {
        self.apply(host, now);
        if now >= self.expire_at {
            self.expire(host, now);
        }
        if now >= self.read_at {
            let has_told = self.tell(host, now);
            self.rest = if has_told { self.delay } else { (self.rest * 2).min(self.delay.max(REST_MAX)) };
            let is_passing = |other: &Other| other.outgoing.as_ref().is_some_and(Outgoing::is_passing);
            let rest = if self.others.iter().any(is_passing) { self.rest.min(PASS_STEP) } else { self.rest };
            self.read_at = now + rest;
        }
        for outgoing in self.others.iter_mut().filter_map(|other| other.outgoing.as_mut()) {
            outgoing.handle_timeout(now);
        }
    }

    /// When [`Copies::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Instant {
        // A node that gave its role up reads until its streams are over.
        let tells = self.others.iter().any(|other| (self.is_router && other.is_connected) || other.outgoing.is_some());
        let outgoing = self.others.iter().filter_map(|other| other.outgoing.as_ref()?.poll_timeout());
        let incoming = self.others.iter().filter_map(|other| other.incoming.poll_timeout(other.is_connected));
        outgoing.chain(incoming).chain(tells.then_some(self.read_at)).fold(self.expire_at, Instant::min)
    }

    /// The next datagram to be sealed and sent.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        self.others.iter_mut().filter(|other| other.is_connected).find_map(|other| {
            let ack = other.incoming.poll_ack(now).map(|body| (Kind::Ack, body));
            let (kind, body) = ack.or_else(|| Some((Kind::Stream, other.outgoing.as_mut()?.poll_transmit()?)))?;
            Some(Transmit { node: other.node, kind, body })
        })
    }

    /// Whether this node forwards packets.
    pub fn is_router(&self) -> bool {
        self.is_router
    }

    /// Tells everything that changed until now, as the last thing before this node gives its role up: nothing is left
    /// for want of room.
    pub fn tell_all(&mut self, host: &mut dyn CopyHost, now: Instant) {
        self.begin_streams(host, now);
        let outgoing = self.others.iter_mut().filter_map(|other| other.outgoing.as_mut());
        outgoing.for_each(Outgoing::stop_waiting);
        self.read_changes(host, CHANGES_AT_LAST, now);
        let outgoing = self.others.iter_mut().filter_map(|other| other.outgoing.as_mut());
        outgoing.for_each(|outgoing| outgoing.flush(now));
    }

    /// Tells changes after another delay from here on, as [`Copies::new`] says.
    pub fn set_delay(&mut self, delay: Duration) {
        self.delay = delay.max(DELAY_MIN);
    }

    /// Applies what was told to this node.
    fn apply(&mut self, host: &mut dyn CopyHost, now: Instant) {
        let (mut news, mut has_displaced) = (Vec::new(), false);
        // For each node, how much of the news there was when it had told its part.
        let mut told_by = Vec::with_capacity(self.others.len());
        let is_recent = self.is_router && now < self.router_since + FLUSH;
        for other in &mut self.others {
            let mut target = CopyTarget {
                owner: &mut self.owner,
                host,
                is_router: self.is_router,
                took_over: is_recent.then_some(self.router_since),
                is_of_active: self.active.is_none_or(|active| active == other.node),
                held: &mut self.held,
                news: &mut news,
                has_displaced: &mut has_displaced,
                now,
            };
            other.incoming.apply(&mut target);
            told_by.push(news.len());
        }
        if !self.is_router {
            return;
        }
        // What a router takes over, for instance from one that has just given up its role, is news to all. One whose own
        // role is being taken tells its successor nothing back: that may be what it has just told it to end.
        let begins = std::iter::once(0).chain(told_by.iter().copied());
        for ((other, begin), end) in self.others.iter_mut().zip(begins).zip(&told_by) {
            let Some(outgoing) = &mut other.outgoing else { continue };
            let (begin, end) = if is_recent { (0, 0) } else { (begin, *end) };
            for change in news[..begin].iter().chain(&news[end..]) {
                outgoing.tell_change(*change, &self.table, host, now);
            }
            if has_displaced {
                outgoing.request_full_pass();
            }
        }
    }

    /// Forgets copies that were idle for their timeout.
    fn expire(&mut self, host: &mut dyn CopyHost, now: Instant) {
        let (held, number, is_router) = (&mut self.held, self.owner.number(), self.is_router);
        let visited = self.owner.expire(now, EXPIRED_AT_ONCE, |ended, reason: EndReason| {
            *held = held.saturating_sub(usize::from(ended.session.worker() == number));
            host.ended(ended, is_router.then_some(reason), now);
        });
        if !is_router {
            self.count_held(host, now);
        }
        let free = self.table.capacity().saturating_sub(self.table.len());
        for other in self.others.iter_mut().filter(|other| !is_router && other.incoming.needs_again(free, now)) {
            self.receiver_runs += 1;
            other.incoming.begin_again(self.origin.wrapping_add(self.receiver_runs));
        }
        self.expire_at = if visited < EXPIRED_AT_ONCE { now + EXPIRE_EVERY } else { now + self.delay };
    }

    /// Goes on with the count of copies. What is added at once for each that comes and goes is right for those alone that
    /// the owner opened, and not for those that this node had as the router.
    fn count_held(&mut self, host: &dyn CopyHost, now: Instant) {
        let ((from, mut count), number) = (self.count, self.owner.number());
        let slots = from..from.saturating_add(COUNTED_AT_ONCE);
        let next = self.table.walk_slots(
            slots,
            |_| true,
            |_, key, session, placement| {
                let is_copy = placement.is_some() || session.worker() == number;
                count += usize::from(is_copy || host.needs_copy(key, session, placement, now));
                true
            },
        );
        self.count = match next {
            Some(slot) => (slot, count),
            None => {
                self.held = count;
                (0, 0)
            }
        };
    }

    /// Tells the other nodes what changed. True if there was something to tell.
    fn tell(&mut self, host: &mut dyn CopyHost, now: Instant) -> bool {
        self.begin_streams(host, now);
        // What cannot be read yet is there to be told, too.
        let mut has_told = !self.may_read(now) || self.read_changes(host, CHANGES_AT_ONCE, now);
        for outgoing in self.others.iter_mut().filter_map(|other| other.outgoing.as_mut()) {
            outgoing.step_pass(&self.table, host, now);
            outgoing.flush(now);
            has_told |= outgoing.is_passing();
        }
        has_told
    }

    /// Begins streams to nodes that have none, and again where nobody knows what has arrived, and ends those that are
    /// over. Follows what has to be told besides changes.
    fn begin_streams(&mut self, host: &mut dyn CopyHost, now: Instant) {
        let overflow = self.changes.iter_mut().fold(false, |any, reader| reader.take_overflow() | any);
        for other in &mut self.others {
            let is_over = other.outgoing.as_ref().is_some_and(|outgoing| outgoing.is_over(now));
            let begins = self.is_router && other.is_connected && other.outgoing.is_none();
            if begins || is_over {
                self.runs += u32::from(begins);
                let id = StreamId { origin: self.origin, run: self.runs };
                other.outgoing = begins.then(|| Outgoing::new(id, self.table.capacity(), now));
            }
            let Some(outgoing) = &mut other.outgoing else { continue };
            if self.is_router && outgoing.has_to_begin_again(now) {
                self.runs += 1;
                outgoing.begin_again(StreamId { origin: self.origin, run: self.runs }, now);
            }
            if overflow {
                outgoing.request_full_pass();
            }
            outgoing.follow_generation(host);
        }
    }

    /// False while nodes have no room for more, for a short time: then changes wait with the workers. Without an other
    /// node they are read and dropped.
    fn may_read(&mut self, now: Instant) -> bool {
        let mut may_read = true;
        for outgoing in self.others.iter_mut().filter_map(|other| other.outgoing.as_mut()) {
            may_read &= outgoing.has_room() || outgoing.gives_up_waiting(now, PATIENCE);
        }
        may_read
    }

    /// Reads what the workers told, of each at most so many changes. True if that was anything.
    fn read_changes(&mut self, host: &mut dyn CopyHost, at_most: usize, now: Instant) -> bool {
        let Self { changes, others, table, .. } = self;
        let is_told = others.iter().any(|other| other.outgoing.is_some());
        let at_most = if is_told { at_most } else { usize::MAX };
        let mut has_read = false;
        for reader in changes {
            for _ in 0..at_most {
                let Some(change) = reader.poll() else { break };
                has_read = true;
                for outgoing in others.iter_mut().filter_map(|other| other.outgoing.as_mut()) {
                    outgoing.tell_change(change, table, host, now);
                }
            }
        }
        has_read
    }
}
