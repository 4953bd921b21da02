//! Two nodes with tables of their own, and a network between them that loses, repeats and delays.

use std::collections::BTreeMap;

use crate::flow::{CanonicalKey, Endpoint, FlowKey};
use crate::ha::copies::*;
use crate::ha::records::{NamedKind, PinRecord};
use crate::id::{FirewallId, PathSetId, ServerId, ServiceId};
use crate::path::pinning::{Pin, PinState, PinnedBy};
use crate::path::testing::group;
use crate::path::{FirewallGroup, PathSet};
use crate::random::SplitMix64;
use crate::session::{
    ChangeWriter, ConversationState, OpenResult, Placement, Removed, Session, SessionId, TcpState, Timeouts,
    change_ring,
};
use crate::wire::Family;

pub(super) const A: NodeId = NodeId(0);
pub(super) const B: NodeId = NodeId(1);
const FIREWALLS: u16 = 4;
const SERVERS: u16 = 3;
pub(super) const FLOWS: u64 = 120;

/// An engine whose numbers are all higher by `offset` than those of another one. Pins of its first firewall need no
/// copy.
pub(super) struct Host {
    offset: u16,
    pub(super) group: FirewallGroup,
    set: PathSet,
    pub(super) generation: u64,
    pub(super) selection: u64,
    /// The active sessions of each server.
    active: BTreeMap<u16, i64>,
}

impl Host {
    pub(super) fn new(offset: u16) -> Self {
        let (group, set) = group(offset, (0..FIREWALLS).map(|number| format!("fw{number}")));
        Self { offset, group, set, generation: 1, selection: 1, active: BTreeMap::new() }
    }

    pub(super) fn pin_to(&self, firewall: u16) -> Pin {
        let (set, firewall) = (PathSetId(self.offset), FirewallId(self.offset + firewall));
        Pin::copied(set, firewall, PinState::Confirmed, PinnedBy::Learned, &self.group, &self.set)
    }

    fn count(&mut self, placement: &Placement, by: i64) {
        *self.active.entry(placement.server.0 - self.offset).or_default() += by;
    }
}

impl CopyHost for Host {
    fn generation(&self) -> u64 {
        self.generation
    }

    fn selection(&self) -> u64 {
        self.selection
    }

    fn needs_copy(&self, _: &CanonicalKey, session: &Session, placement: Option<&Placement>, _: Instant) -> bool {
        let is_elsewhere = |pin: Option<Pin>| pin.is_some_and(|pin| pin.firewall.0 != self.offset);
        let is_elsewhere = is_elsewhere(session.toward_low) || is_elsewhere(session.toward_high);
        !session.is_half_open() && (placement.is_some() || is_elsewhere)
    }

    fn name(&self, kind: NamedKind, number: u16) -> Option<String> {
        Some(format!("{kind:?} {}", number.checked_sub(self.offset)?))
    }

    fn number(&self, kind: NamedKind, name: &str) -> Option<u16> {
        let number: u16 = name.strip_prefix(&format!("{kind:?} "))?.parse().ok()?;
        Some(number + self.offset)
    }

    fn pin(&self, record: &PinRecord) -> Option<Pin> {
        self.group.slot_of(record.firewall)?;
        let PinRecord { set, firewall, state, pinned_by, rotations, leader_moves } = *record;
        let mut pin = Pin::copied(set, firewall, state, pinned_by, &self.group, &self.set);
        (pin.rotations, pin.leader_moves) = (rotations, leader_moves);
        Some(pin)
    }

    fn server_failures(&self, _: ServiceId, _: ServerId, _: Family) -> Option<u32> {
        Some(0)
    }

    fn opened(&mut self, _: &CanonicalKey, session: &Session, placement: Option<&Placement>, _: Instant) {
        placement.into_iter().for_each(|placement| self.count(placement, session.is_active().into()));
    }

    fn renewed(&mut self, before: &Session, after: &Session, placement: Option<&Placement>) {
        let by = i64::from(after.is_active()) - i64::from(before.is_active());
        placement.into_iter().for_each(|placement| self.count(placement, by));
    }

    fn ended(&mut self, ended: &Removed, _: Option<EndReason>, _: Instant) {
        let by = i64::from(ended.session.is_active());
        ended.placement.iter().for_each(|placement| self.count(placement, -by));
    }
}

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) worker: SessionWorker,
    changes: ChangeWriter,
    pub(super) copies: Copies,
    pub(super) host: Host,
}

impl Node {
    pub(super) fn new(id: NodeId, origin: u64, capacity: usize, now: Instant) -> Self {
        Self::among(&[NodeId(1 - id.0)], id, origin, capacity, 64, now)
    }

    /// A node that hears these others, and whose ring of changes has room for so many words.
    pub(super) fn among(
        others: &[NodeId],
        id: NodeId,
        origin: u64,
        capacity: usize,
        ring: usize,
        now: Instant,
    ) -> Self {
        let (_, mut workers, owner) = SessionTable::with_copies(capacity, 1, Timeouts::default(), [1, 2, 3, 4]);
        let (changes, reader) = change_ring(ring);
        let (others, delay) = (others.iter().copied(), Duration::from_millis(1));
        let mut copies = Copies::new(owner, vec![reader], others.clone(), origin, delay, now);
        others.for_each(|other| copies.set_connected(other, true));
        Self { id, worker: workers.remove(0), changes, copies, host: Host::new(u16::from(id.0) * 1000) }
    }

    pub(super) fn table(&self) -> &SessionTable {
        self.worker.table()
    }

    pub(super) fn find(&self, number: u64) -> Option<SessionId> {
        let (key, direction) = flow(number).canonical();
        self.table().find_by_direction(&key, direction)
    }

    /// What a packet of a flow does: it opens a session, or confirms, closes or moves it.
    pub(super) fn packet(&mut self, random: u64, now: Instant) {
        let number = random % 256 % FLOWS;
        let (key, direction) = flow(number).canonical();
        let Some(id) = self.find(number) else {
            let mut session = Session::new(&key, direction, now);
            session.packets = 1;
            *session.pin_toward_destination(direction) = Some(self.host.pin_to((random >> 8) as u16 % FIREWALLS));
            let placement = self.place(number, (random >> 16) as u16 % SERVERS);
            let (opened, _) = self.worker.open(&key, placement, session, true, |_, _| false, now);
            if matches!(opened, OpenResult::Inserted(_)) {
                placement.iter().for_each(|placement| self.host.count(placement, 1));
            }
            return;
        };
        let what = (random >> 24) % 8;
        if what == 0 {
            if let Some(ended) = self.worker.close(id) {
                self.host.ended(&ended, None, now);
                self.changes.ended(ended.id, &ended.key, ended.session.original_direction);
            }
            return;
        }
        let pin = self.host.pin_to((random >> 32) as u16 % FIREWALLS);
        let table = Arc::clone(self.worker.table());
        let activity = table.update_with_placement(id, |_, session, placement| {
            let was_active = session.is_active();
            session.packets += 1;
            session.last_seen = now;
            match what {
                1 => *session.pin_toward_destination(direction) = Some(pin),
                2 => session.resume(ConversationState::Tcp(TcpState::Closing), 16),
                _ => session.resume(ConversationState::Tcp(TcpState::Established), 16),
            }
            (placement.copied(), i64::from(session.is_active()) - i64::from(was_active))
        });
        if let Some((Some(placement), by)) = activity {
            self.host.count(&placement, by);
        }
        self.changes.changed(id);
    }

    /// Does what is due, and gives what it sends.
    pub(super) fn run(&mut self, now: Instant) -> Vec<Transmit> {
        self.copies.handle_timeout(&mut self.host, now);
        std::iter::from_fn(|| self.copies.poll_transmit(now)).collect()
    }

    /// Tells everything that changed until now.
    pub(super) fn tell_all(&mut self, now: Instant) {
        self.copies.tell_all(&mut self.host, now);
    }

    /// The state of the session of a flow.
    pub(super) fn state(&self, number: u64) -> Option<ConversationState> {
        Some(self.table().get(self.find(number)?)?.state)
    }

    /// A third of the flows belong to a service.
    fn place(&self, number: u64, server: u16) -> Option<Placement> {
        let (service, offset) = (ServiceId(self.host.offset), self.host.offset);
        let inside = FlowKey {
            destination: Endpoint { address: [10, 10, 20, server as u8].into(), port: 8080 },
            ..flow(number)
        };
        let server = ServerId(offset + server);
        number.is_multiple_of(3).then_some(Placement { service, server, server_failures: 0, inside: Some(inside) })
    }

    /// The sessions as a node with the numbers of the first one sees them: all, or those that need copies.
    pub(super) fn seen(&self, needed: bool, now: Instant) -> BTreeMap<String, String> {
        let mut seen = BTreeMap::new();
        self.table().for_each(|key, session, placement| {
            if !needed || self.host.needs_copy(key, session, placement, now) {
                let pin = |pin: Option<Pin>| pin.map(|pin| (pin.firewall.0 - self.host.offset, pin.state));
                let place = placement.map(|place| (place.server.0 - self.host.offset, place.inside));
                let pins = (pin(session.toward_low), pin(session.toward_high));
                let told = (session.state, session.told_flags(), session.packets, pins, place);
                seen.insert(format!("{key:?}"), format!("{told:?}"));
            }
            true
        });
        seen
    }
}

pub(super) fn flow(number: u64) -> FlowKey {
    FlowKey {
        protocol: 6,
        source: Endpoint { address: [198, 51, 100, 7].into(), port: 1000 + number as u16 },
        destination: Endpoint { address: [203, 0, 113, 80].into(), port: 80 },
    }
}

/// Two nodes, of which the first is active, and what is on the way between them.
pub(super) struct World {
    pub(super) nodes: [Node; 2],
    random: SplitMix64,
    /// Of a hundred datagrams, how many are lost.
    pub(super) loss: u64,
    under_way: Vec<(Instant, NodeId, Transmit)>,
    pub(super) now: Instant,
}

impl World {
    pub(super) fn new(seed: u64, capacity: usize) -> Self {
        Self::with_ring(seed, capacity, 64)
    }

    /// Nodes whose rings of changes have room for so many words.
    pub(super) fn with_ring(seed: u64, capacity: usize, ring: usize) -> Self {
        let now = Instant::from_millis(1_000_000);
        let mut nodes = [(A, B, seed), (B, A, !seed)]
            .map(|(id, other, seed)| Node::among(&[other], id, seed | 1, capacity, ring, now));
        nodes[0].copies.set_router(true, now, now);
        Self { nodes, random: SplitMix64::new(seed), loss: 0, under_way: Vec::new(), now }
    }

    /// Half a millisecond: packets, datagrams, timers.
    pub(super) fn step(&mut self, packets: u64) {
        self.now += Duration::from_micros(500);
        let now = self.now;
        for _ in 0..packets {
            let random = self.random.next_u64();
            self.nodes[0].packet(random, now);
        }
        for (_, to, sent) in self.under_way.extract_if(.., |(at, ..)| *at <= now) {
            let from = NodeId(1 - to.0);
            self.nodes[to.index()].copies.handle_datagram(from, sent.kind, &sent.body, now);
        }
        for index in 0..self.nodes.len() {
            // A thread would run without a pause if something stayed due.
            for rounds in 0.. {
                let node = &mut self.nodes[index];
                if node.copies.poll_timeout() > now {
                    break;
                }
                assert!(rounds < 100, "always due: {:?}", node.copies);
                node.copies.handle_timeout(&mut node.host, now);
                self.transmit(index, now);
            }
        }
    }

    pub(super) fn transmit(&mut self, node: usize, now: Instant) {
        let node = &mut self.nodes[node];
        while let Some(sent) = node.copies.poll_transmit(now) {
            let (random, to) = (self.random.next_u64(), sent.node);
            assert!(sent.body.len() <= 1400 - 28 - 40, "{} bytes", sent.body.len());
            assert_ne!(to, node.id);
            if random % 100 < self.loss {
                continue;
            }
            let delay = Duration::from_micros(100 + (random >> 32) % 2000);
            self.under_way.push((now + delay, to, sent.clone()));
            if (random >> 8).is_multiple_of(20) {
                self.under_way.push((now + Duration::from_millis(5), to, sent));
            }
        }
    }

    pub(super) fn run(&mut self, millis: u64, packets: u64) {
        (0..2 * millis).for_each(|_| self.step(packets));
    }

    /// The network is whole again: after that long, everything that was told has arrived.
    pub(super) fn settle(&mut self) {
        self.loss = 0;
        self.run(1500, 0);
        let status = self.nodes[0].copies.status(B, self.now);
        assert!(status.is_flushed && status.stalled.is_zero(), "{status:?}");
        let status = self.nodes[1].copies.status(A, self.now);
        assert!(status.is_complete && status.behind.is_zero() && status.refusals == Refusals::default(), "{status:?}");
        assert!(self.nodes[1].copies.sync_state(self.now).is_ready);
    }

    #[track_caller]
    pub(super) fn assert_copied(&self) {
        let [active, standby] = &self.nodes;
        let needed = active.seen(true, self.now);
        assert_eq!(standby.seen(false, self.now), needed);
        assert_eq!(standby.copies.sync_state(self.now).held as usize, needed.len());
        let mut active_sessions = BTreeMap::new();
        standby.table().for_each(|_, session, placement| {
            if let Some(placement) = placement {
                *active_sessions.entry(placement.server.0 - 1000).or_default() += i64::from(session.is_active());
            }
            true
        });
        let counted: BTreeMap<_, _> = standby.host.active.iter().filter(|(_, count)| **count != 0).collect();
        let expected: BTreeMap<_, _> = active_sessions.iter().filter(|(_, count)| **count != 0).collect();
        assert_eq!(counted, expected, "the servers' sessions");
    }
}

impl World {
    /// Steps with the nodes in the other order: datagrams find their node by its number.
    pub(super) fn run_swapped(&mut self, millis: u64, packets: u64) {
        for _ in 0..2 * millis {
            self.nodes.swap(0, 1);
            for _ in 0..packets {
                let random = self.random.next_u64();
                let now = self.now;
                self.nodes[1].packet(random, now);
            }
            self.step(0);
            self.nodes.swap(0, 1);
        }
    }
}
