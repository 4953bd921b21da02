//! The counters of packet workers. Each worker counts for itself and publishes all counters together after a batch, so
//! that `received = forwarded + hairpinned + punted + dropped` holds in every copy.

mod servers;

use std::sync::Mutex;

pub use self::servers::{ServerCounterTable, ServerCounters, Traffic};
use crate::engine::Batch;
use crate::engine::snapshot::ReusedIds;
use crate::engine::verdict::DropReason;
use crate::engine::view::HistogramView;
use crate::id::{FirewallId, LinkId, ServerId};
use crate::path::pinning::{Pin, PinChange, PinState};
use crate::session::{EndReason, Session};

/// Number of buckets for batch sizes, which are powers of two from one frame to a full batch.
const BATCH_SIZES: usize = Batch::CAPACITY.ilog2() as usize + 1;

/// Traffic of one firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FirewallCounters {
    /// Sessions that were pinned to it, minus those that ended or moved away. One worker's value may be negative; only
    /// the sum counts.
    pub sessions: i64,
    /// Sessions that were pinned to it, when they were opened or later.
    pub new_sessions: u64,
    /// Sessions that had a reply through it, or whose opener continued after one: their pins are confirmed.
    pub answered_sessions: u64,
    /// Packets to and from it.
    pub packets: u64,
    /// Bytes of IP packets to and from it.
    pub bytes: u64,
}

/// Traffic of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounters {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes of received Ethernet frames, without the outer tag.
    pub rx_bytes: u64,
    /// Frames that were received and dropped.
    pub rx_dropped: u64,
    /// Frames passed on to be sent.
    pub tx_packets: u64,
    /// Bytes of Ethernet frames passed on to be sent, without the outer tag.
    pub tx_bytes: u64,
}

/// Everything that one worker counts, at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    /// Frames taken from the rings.
    pub received: u64,
    /// Frames sent on another link than they were received on.
    pub forwarded: u64,
    /// Frames sent on the link they were received on.
    pub hairpinned: u64,
    /// Frames passed to the controller, and fragments that are held.
    pub punted: u64,
    /// Dropped frames, indexed by [`DropReason::index`].
    pub drops: Vec<u64>,
    /// Packets of sessions that came from another firewall than their pin says.
    pub asymmetric: u64,
    /// Sessions that were opened.
    pub sessions_created: u64,
    /// Sessions that ended because they were idle.
    pub sessions_expired: u64,
    /// Sessions that were removed to make room.
    pub sessions_evicted: u64,
    /// Sessions that ended because their firewall or server failed, was drained or was removed.
    pub sessions_failed: u64,
    /// Sessions that an operator ended.
    pub sessions_killed: u64,
    /// Sessions that another engine of the cluster opened, and told of.
    pub copies_opened: u64,
    /// Sessions that ended because that engine said so, or does not have them.
    pub copies_ended: u64,
    /// Packets of flows that belong to no service; the others are counted at their server.
    pub routed_packets: u64,
    /// Bytes of the IP packets of flows that belong to no service.
    pub routed_bytes: u64,
    /// Flows for which the session table had no room, and which were forwarded by hash alone.
    pub table_full: u64,
    /// Changes of pins, indexed by [`PinChange`].
    pub pins: [u64; PinChange::ALL.len()],
    /// TCP resets sent to the ends of sessions.
    pub resets_sent: u64,
    /// Fragments that were held until the first of their datagram arrived, and then sent.
    pub fragments_released: u64,
    /// Held fragments that were given up because the first of their datagram did not arrive in time.
    pub punt_drop_fragment_timeout: u64,
    /// Held fragments that could not be sent when the first of their datagram arrived.
    pub punt_drop_fragment_unsent: u64,
    /// ICMP errors that were not sent because of the rate limit or because the queue to the controller was full.
    pub punt_drop_icmp_error: u64,
    /// Batches by size: element n counts those of more than 2^(n-1) and at most 2^n frames.
    pub batches: [u64; BATCH_SIZES],
    /// Traffic of firewalls, indexed by [`FirewallId`].
    pub firewalls: Vec<FirewallCounters>,
    /// Traffic of links, indexed by [`LinkId`].
    pub links: Vec<LinkCounters>,
    /// Traffic of servers, indexed by [`ServerId`].
    pub servers: ServerCounterTable,
    /// Packets of removed servers whose ids reloads have reused.
    pub removed_server_packets: u64,
    /// Bytes of the IP packets of those servers.
    pub removed_server_bytes: u64,
    /// The generation up to which [`Counters::reset_reused_ids`] has accounted for reused ids.
    pub generation: u64,
}

/// The published copy of one worker's counters.
#[derive(Debug, Default)]
pub struct CountersCell {
    published: Mutex<Counters>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            received: 0,
            forwarded: 0,
            hairpinned: 0,
            punted: 0,
            drops: vec![0; DropReason::ALL.len()],
            asymmetric: 0,
            sessions_created: 0,
            sessions_expired: 0,
            sessions_evicted: 0,
            sessions_failed: 0,
            sessions_killed: 0,
            copies_opened: 0,
            copies_ended: 0,
            routed_packets: 0,
            routed_bytes: 0,
            table_full: 0,
            pins: [0; PinChange::ALL.len()],
            resets_sent: 0,
            fragments_released: 0,
            punt_drop_fragment_timeout: 0,
            punt_drop_fragment_unsent: 0,
            punt_drop_icmp_error: 0,
            batches: [0; BATCH_SIZES],
            firewalls: Vec::new(),
            links: Vec::new(),
            servers: ServerCounterTable::default(),
            removed_server_packets: 0,
            removed_server_bytes: 0,
            generation: 0,
        }
    }
}

impl Counters {
    /// Dropped frames, for all reasons together.
    pub fn dropped(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Frames dropped for `reason`.
    pub fn drops_for(&self, reason: DropReason) -> u64 {
        self.drops[reason.index()]
    }

    /// Number of pin changes of this kind.
    pub fn pin_changes(&self, change: PinChange) -> u64 {
        self.pins[change as usize]
    }

    /// True if `received = forwarded + hairpinned + punted + dropped`.
    pub fn is_conserved(&self) -> bool {
        self.received == self.forwarded + self.hairpinned + self.punted + self.dropped()
    }

    /// Every counter by name, except those of single firewalls, links and servers.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let of_all = [
            ("received", self.received),
            ("forwarded", self.forwarded),
            ("hairpinned", self.hairpinned),
            ("punted", self.punted),
            ("dropped", self.dropped()),
            ("asymmetric", self.asymmetric),
            ("sessions_created", self.sessions_created),
            ("sessions_expired", self.sessions_expired),
            ("sessions_evicted", self.sessions_evicted),
            ("sessions_failed", self.sessions_failed),
            ("sessions_killed", self.sessions_killed),
            ("copies_opened", self.copies_opened),
            ("copies_ended", self.copies_ended),
            ("routed_packets", self.routed_packets),
            ("routed_bytes", self.routed_bytes),
            (
                "balanced_packets",
                self.servers.iter().map(|server| server.packets()).sum::<u64>() + self.removed_server_packets,
            ),
            (
                "balanced_bytes",
                self.servers.iter().map(|server| server.bytes()).sum::<u64>() + self.removed_server_bytes,
            ),
            ("table_full", self.table_full),
            ("resets_sent", self.resets_sent),
            ("fragments_released", self.fragments_released),
            ("punt_drop_fragment_timeout", self.punt_drop_fragment_timeout),
            ("punt_drop_fragment_unsent", self.punt_drop_fragment_unsent),
            ("punt_drop_icmp_error", self.punt_drop_icmp_error),
        ];
        let drops = DropReason::ALL.iter().map(|reason| (reason.name(), self.drops_for(*reason)));
        let pins = PinChange::ALL.into_iter().map(|change| (change.counter(), self.pin_changes(change)));
        of_all.into_iter().chain(drops).chain(pins)
    }

    /// Adds the counters of another worker.
    pub fn add(&mut self, other: &Self) {
        let Self { firewalls, links, servers, drops, pins, batches, .. } = other;
        for (own, other) in [
            (&mut self.received, other.received),
            (&mut self.forwarded, other.forwarded),
            (&mut self.hairpinned, other.hairpinned),
            (&mut self.punted, other.punted),
            (&mut self.asymmetric, other.asymmetric),
            (&mut self.sessions_created, other.sessions_created),
            (&mut self.sessions_expired, other.sessions_expired),
            (&mut self.sessions_evicted, other.sessions_evicted),
            (&mut self.sessions_failed, other.sessions_failed),
            (&mut self.sessions_killed, other.sessions_killed),
            (&mut self.copies_opened, other.copies_opened),
            (&mut self.copies_ended, other.copies_ended),
            (&mut self.routed_packets, other.routed_packets),
            (&mut self.routed_bytes, other.routed_bytes),
            (&mut self.removed_server_packets, other.removed_server_packets),
            (&mut self.removed_server_bytes, other.removed_server_bytes),
            (&mut self.table_full, other.table_full),
            (&mut self.resets_sent, other.resets_sent),
            (&mut self.fragments_released, other.fragments_released),
            (&mut self.punt_drop_fragment_timeout, other.punt_drop_fragment_timeout),
            (&mut self.punt_drop_fragment_unsent, other.punt_drop_fragment_unsent),
            (&mut self.punt_drop_icmp_error, other.punt_drop_icmp_error),
        ] {
            *own += other;
        }
        for (own, other) in self.drops.iter_mut().zip(drops).chain(self.pins.iter_mut().zip(pins)) {
            *own += other;
        }
        for (own, other) in self.batches.iter_mut().zip(batches) {
            *own += other;
        }
        for (number, other) in firewalls.iter().enumerate() {
            let own = self.firewall(FirewallId::from(number));
            own.sessions += other.sessions;
            own.new_sessions += other.new_sessions;
            own.answered_sessions += other.answered_sessions;
            own.packets += other.packets;
            own.bytes += other.bytes;
        }
        for (number, other) in links.iter().enumerate() {
            let own = self.link(LinkId::from(number));
            own.rx_packets += other.rx_packets;
            own.rx_bytes += other.rx_bytes;
            own.rx_dropped += other.rx_dropped;
            own.tx_packets += other.tx_packets;
            own.tx_bytes += other.tx_bytes;
        }
        for (number, other) in servers.iter().enumerate() {
            self.server(ServerId::from(number)).add(other);
        }
    }

    /// Resets the counters of ids that reloads up to `generation` have reused. What the former servers carried stays in
    /// the sums.
    pub fn reset_reused_ids(&mut self, generation: u64, renewed: &ReusedIds) {
        if self.generation == generation {
            return;
        }
        let seen = std::mem::replace(&mut self.generation, generation);
        for (id, _) in renewed.firewalls.iter().filter(|(_, given)| **given > seen) {
            *self.firewall(*id) = FirewallCounters::default();
        }
        for (id, _) in renewed.servers.iter().filter(|(_, given)| **given > seen) {
            let former = std::mem::take(self.server(*id));
            self.removed_server_packets += former.packets();
            self.removed_server_bytes += former.bytes();
        }
    }

    /// Counts a batch of `frames` frames.
    pub fn count_batch(&mut self, frames: usize) {
        if frames > 0 {
            let place = frames.next_power_of_two().ilog2() as usize;
            self.batches[place.min(BATCH_SIZES - 1)] += 1;
        }
    }

    /// A histogram of the number of frames per batch.
    pub fn batch_sizes(&self) -> HistogramView {
        HistogramView {
            bounds: (0..BATCH_SIZES as i32).map(|place| 2f64.powi(place)).collect(),
            counts: self.batches.iter().copied().chain([0]).collect(),
            sum: self.received as f64,
        }
    }

    /// Counts the end of a session.
    pub fn count_end(&mut self, session: &Session, reason: EndReason) {
        *match reason {
            EndReason::Expired => &mut self.sessions_expired,
            EndReason::Evicted => &mut self.sessions_evicted,
            EndReason::Killed => &mut self.sessions_killed,
            EndReason::FirewallDown
            | EndReason::ServerDown
            | EndReason::DrainTimeout
            | EndReason::Maint
            | EndReason::Removed => &mut self.sessions_failed,
        } += 1;
        self.move_pin(session.toward_low.as_ref(), None);
        self.move_pin(session.toward_high.as_ref(), None);
    }

    /// Counts the end of a session because another engine said so.
    pub fn count_copy_end(&mut self, session: &Session) {
        self.copies_ended += 1;
        self.move_pin(session.toward_low.as_ref(), None);
        self.move_pin(session.toward_high.as_ref(), None);
    }

    /// Counts that another engine made or moved a session's pin. To the firewall this is no new session of this engine.
    pub fn move_copied_pin(&mut self, before: Option<&Pin>, after: Option<&Pin>) {
        if let Some(left) = before {
            self.firewall(left.firewall).sessions -= 1;
        }
        if let Some(taken) = after {
            self.firewall(taken.firewall).sessions += 1;
        }
    }

    /// Counts that a session's pin moved from one firewall to another, was made or confirmed, or ended.
    pub fn move_pin(&mut self, before: Option<&Pin>, after: Option<&Pin>) {
        let confirmed = |pin: &&Pin| pin.state == PinState::Confirmed;
        let confirmed = |pin: Option<&Pin>| pin.filter(confirmed).map(|pin| pin.firewall);
        if let Some(answers) = confirmed(after).filter(|answers| confirmed(before) != Some(*answers)) {
            self.firewall(answers).answered_sessions += 1;
        }
        let (before, after) = (before.map(|pin| pin.firewall), after.map(|pin| pin.firewall));
        if before == after {
            return;
        }
        if let Some(left) = before {
            self.firewall(left).sessions -= 1;
        }
        if let Some(taken) = after {
            let counters = self.firewall(taken);
            counters.sessions += 1;
            counters.new_sessions += 1;
        }
    }

    /// Counts why a pin was made or changed.
    pub fn count_pin_change(&mut self, change: PinChange) {
        self.pins[change as usize] += 1;
    }

    /// Becomes a copy of `other`, of which it is an earlier copy, without allocating.
    fn copy_from(&mut self, other: &mut Self) {
        let mut drops = std::mem::take(&mut self.drops);
        let mut firewalls = std::mem::take(&mut self.firewalls);
        let mut links = std::mem::take(&mut self.links);
        let mut servers = std::mem::take(&mut self.servers);
        drops.clone_from(&other.drops);
        firewalls.clone_from(&other.firewalls);
        links.clone_from(&other.links);
        other.servers.publish_to(&mut servers);
        *self = Self { drops, firewalls, links, servers, ..*other };
    }

    /// The counters of a firewall. The list grows if necessary.
    #[inline]
    pub fn firewall(&mut self, id: FirewallId) -> &mut FirewallCounters {
        if self.firewalls.len() <= id.index() {
            self.firewalls.resize(id.index() + 1, FirewallCounters::default());
        }
        &mut self.firewalls[id.index()]
    }

    /// The counters of a real server. The table grows if necessary.
    pub fn server(&mut self, id: ServerId) -> &mut ServerCounters {
        self.servers.of(id)
    }

    /// The counters of a link. The list grows if necessary.
    #[inline]
    pub fn link(&mut self, id: LinkId) -> &mut LinkCounters {
        if self.links.len() <= id.index() {
            self.links.resize(id.index() + 1, LinkCounters::default());
        }
        &mut self.links[id.index()]
    }
}

impl CountersCell {
    /// Publishes `counters`, which are always those of the same worker. False if a reader holds the lock, and then
    /// nothing changes.
    pub fn publish(&self, counters: &mut Counters) -> bool {
        match self.published.try_lock() {
            Ok(mut published) => {
                published.copy_from(counters);
                true
            }
            Err(_) => false,
        }
    }

    /// A copy of the counters that were published last.
    pub fn read(&self) -> Counters {
        self.published.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::NatDirection;

    #[test]
    fn the_sum_of_workers_is_conserved_as_each_worker_is() {
        let mut one = Counters { received: 5, forwarded: 3, punted: 1, pins: [1; 6], ..Counters::default() };
        one.drops[DropReason::NoRoute.index()] = 1;
        one.firewall(FirewallId(1)).sessions = 2;
        let mut two = Counters { received: 2, hairpinned: 2, ..Counters::default() };
        two.firewall(FirewallId(0)).sessions = -1;
        two.link(LinkId(2)).rx_packets = 7;

        let mut sum = Counters::default();
        sum.add(&one);
        sum.add(&two);

        assert!(one.is_conserved() && two.is_conserved() && sum.is_conserved());
        assert_eq!((sum.received, sum.drops_for(DropReason::NoRoute), sum.pins), (7, 1, [1; 6]));
        assert_eq!((sum.firewalls[0].sessions, sum.firewalls[1].sessions), (-1, 2));
        assert_eq!(sum.links[2].rx_packets, 7);
    }

    #[test]
    fn what_servers_carried_stays_in_the_sum_when_their_numbers_go_to_others() {
        let balanced = |counters: &Counters| {
            let of = |name| counters.named().find(|(counter, _)| *counter == name).map(|(_, value)| value);
            (of("balanced_packets"), of("balanced_bytes"))
        };
        let mut worker = Counters::default();
        for way in [
            NatDirection::ToServer,
            NatDirection::ToServer,
            NatDirection::ToClient,
            NatDirection::ToClient,
            NatDirection::ToClient,
        ] {
            worker.server(ServerId(1)).count(way, 100);
        }
        assert_eq!(worker.server(ServerId(1)).in_direction(NatDirection::ToServer), Traffic { packets: 2, bytes: 200 });
        assert_eq!(worker.server(ServerId(1)).in_direction(NatDirection::ToClient), Traffic { packets: 3, bytes: 300 });
        worker.server(ServerId(0)).count(NatDirection::ToServer, 0);
        worker.server(ServerId(0)).count(NatDirection::ToServer, 0);
        let mut renewed = ReusedIds::default();
        renewed.servers.insert(ServerId(1), 3);

        worker.reset_reused_ids(3, &renewed);
        assert_eq!(*worker.server(ServerId(1)), ServerCounters::default());
        assert_eq!(balanced(&worker), (Some(7), Some(500)));

        worker.server(ServerId(1)).count(NatDirection::ToServer, 0);
        worker.reset_reused_ids(3, &renewed);
        let mut both = worker.clone();
        both.add(&worker);
        assert_eq!(balanced(&worker), (Some(8), Some(500)), "a reload is followed once");
        assert_eq!(balanced(&both), (Some(16), Some(1000)));
    }

    #[test]
    fn batches_are_counted_by_powers_of_two_and_their_frames_are_those_received() {
        let mut counters = Counters::default();
        for frames in [0, 1, 2, 3, 4, 5, 64] {
            counters.count_batch(frames);
            counters.received += frames as u64;
        }

        let sizes = counters.batch_sizes();

        assert_eq!(sizes.bounds, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
        assert_eq!(sizes.counts, [1, 1, 2, 1, 0, 0, 1, 0]);
        assert_eq!((sizes.sum, sizes.count()), (79.0, 6), "an empty turn is no batch");
    }
}
