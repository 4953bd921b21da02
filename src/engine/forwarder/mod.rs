//! Decides and edits packets: the data plane, one per packet worker. It runs to completion, cannot fail, never waits
//! for the controller, and allocates nothing for packets of known sessions.
//!
//! ```text
//!   fast_path:   packets that continue a session and change nothing of it
//!   ingress:     link, valid bytes, MAC and IP addresses            -> drop, or punt to the controller
//!   packet_flow: the flow of the packet, also for ICMP errors and fragments
//!   flows:       the session of the flow, or a new one              -> drop, or punt
//!     service_sessions: a server for a new session of a service, and its translation
//!     decide:    the firewall: by session, learned, by hash         -> drop
//!   egress:      size, translation or tunnel, TTL, next hop, VLAN   -> forward, hairpin, replace, wait for a neighbour
//! ```
//!
//! `Forwarder::handle` branches, and the functions of the stages compute. Every received frame ends in one [`Verdict`],
//! which is counted in one place.

mod changes;
mod decide;
mod egress;
mod ending;
mod fast_path;
mod flows;
mod fragments;
mod frame_tracing;
mod ingress;
mod kill;
mod observed;
mod packet_flow;
mod probe_bypass;
mod punt_policer;
mod punting;
mod reset;
mod service_sessions;
mod services;
mod source_limits;
mod sources;
#[cfg(test)]
mod tests;
mod tunnel;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::shared_role::Permission;
use crate::engine::trace::{FrameOnLink, FrameTracer, Tap, VerdictReached};
use crate::engine::verdict::IcmpError;
use crate::engine::{
    Batch, Counters, CountersCell, DropReason, Packet, Punt, PuntQueue, PuntReason, SessionLedger, Snapshot, Transmit,
    Verdict,
};
use crate::id::LinkId;
use crate::nat::PortPools;
use crate::session::{ChangeWriter, SessionWorker};
use crate::time::{Duration, Instant};
use crate::wire::frame::{ETHERNET_LEN, Tuple};

pub use probe_bypass::{BypassLimiter, CHECK_ADDRESSES_MAX, CHECK_PORTS, ProbeBypass, bypass_addresses, checked_links};

pub(super) use changes::is_lasting_one_way;
pub(super) use decide::{Arrival, Decision, NextStep, Pins, RoutedFlow, decide, view_toward_destination};
pub(super) use ingress::{Addressee, classify_addresses, is_to_own_address};
pub use kill::KillOrder;
pub(super) use reset::ends_by_failure;
pub(super) use services::{
    ServerLiveness, ServiceAction, first_routed_flow, has_service_endpoint, is_source_translated, is_stray_reply,
    routed_flow, server_liveness,
};
pub(super) use source_limits::reason as refusal_reason;
pub(super) use sources::{egress_address, source_address};

use egress::EgressPacket;
use fast_path::{FastPathBatch, FastPathPacket};
use flows::Disposition;
use fragments::FrameMeta;
use ingress::{CheckedFrame, is_tunnel_error};
use packet_flow::PacketFlow;
use punt_policer::PuntPolicer;
use punting::{answer_for, enqueue_punt, make_punt};
use sources::SourcePorts;

/// Capacities of one forwarder's own tables, which are its share of the engine's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwarderLimits {
    /// Fragmented datagrams that are tracked.
    pub fragments: usize,
    /// Later fragments that are held until the first of their datagram arrives.
    pub held: usize,
    /// Idle time after which a fragmented datagram is forgotten.
    pub fragment_timeout: Duration,
}

/// The data plane of one packet worker; see the module documentation.
#[derive(Debug)]
pub struct Forwarder {
    sessions: SessionWorker,
    sources: SourcePorts,
    fragments: fragments::Fragments,
    failure_sweep: reset::FailureSweep,
    kill_orders: kill::KillOrders,
    policer: PuntPolicer,
    /// What the owner takes to the controller itself, by [`DeviceId`](crate::id::DeviceId).
    probe_bypass: Vec<Option<Arc<ProbeBypass>>>,
    transmits: VecDeque<Transmit>,
    /// Buffers for frames to come.
    free_buffers: Vec<Vec<u8>>,
    /// The outer packets of one packet; kept so that it need not be allocated again.
    encapsulated: Vec<Vec<u8>>,
    tracer: FrameTracer,
    counters: Counters,
    /// What the role of this node allows, as it was at the beginning of the batch.
    permission: Permission,
    /// Gets the ended sessions.
    ledger: Option<Box<dyn SessionLedger>>,
    /// Gets the sessions that changed, for the copies that other engines have.
    changes: Option<ChangeWriter>,
    published: Arc<CountersCell>,
}

/// The result for a frame, before it is turned into a verdict and counted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PacketOutcome {
    /// The frame was edited in place and leaves on this link.
    Sent(LinkId),
    /// Other frames, such as fragments, leave in its place on this link.
    Replaced(LinkId),
    /// The controller gets the frame.
    Punt(PuntReason),
    /// The frame was edited in place, and waits until the MAC address of its next hop is resolved.
    Waits {
        /// Which next hop that is: a [`PuntReason::NeighborWait`].
        reason: PuntReason,
        /// The beginning of the packet as it was received, if a service changed it.
        original: Option<Vec<u8>>,
    },
    /// The controller has the frame already, or it is a later fragment that is held.
    Punted,
    /// The owner takes the frame to the controller itself.
    Left,
    /// The frame is dropped. For some reasons its sender gets an answer.
    Drop(DropReason),
    /// The frame is dropped, because it exceeds the MTU and must not be fragmented.
    TooBig {
        /// The largest IP packet that would fit, in bytes.
        mtu: u16,
    },
}

impl Forwarder {
    /// Capacity of the queue of frames to send, such as fragments and resets. A batch of 64 packets of 64 KiB becomes
    /// 2,900 fragments at an MTU of 1500 bytes.
    pub const TRANSMITS_MAX: usize = 4096;

    /// Slots of the session table that are visited per batch while the sessions of a failed firewall or server are
    /// searched.
    const SWEEP_PER_BATCH: usize = 256;

    /// The largest number of spare buffers.
    const FREE_BUFFERS_MAX: usize = 128;
    /// The largest size of a spare buffer, in bytes.
    const FREE_BUFFER_BYTES_MAX: usize = 1 << 14;

    /// The largest part of a frame that an ICMP error may quote, in bytes: what fits the minimum MTU of IPv6 (RFC 4443
    /// section 2.4 (c)).
    const QUOTE_MAX: usize = ETHERNET_LEN + 1280;

    /// A forwarder that publishes its counters into `counters`. All forwarders of an engine share `ports`; `seed` makes
    /// their choice unpredictable.
    pub fn new(
        sessions: SessionWorker,
        limits: ForwarderLimits,
        ports: Arc<PortPools>,
        seed: u64,
        counters: Arc<CountersCell>,
    ) -> Self {
        Self {
            sources: SourcePorts::new(ports, sessions.number(), seed),
            sessions,
            fragments: fragments::Fragments::new(limits),
            failure_sweep: reset::FailureSweep::default(),
            kill_orders: kill::KillOrders::default(),
            policer: PuntPolicer::new(seed),
            probe_bypass: Vec::new(),
            transmits: VecDeque::with_capacity(Self::TRANSMITS_MAX),
            free_buffers: Vec::with_capacity(Self::FREE_BUFFERS_MAX),
            encapsulated: Vec::new(),
            tracer: FrameTracer::default(),
            counters: Counters::default(),
            permission: Permission::Router,
            ledger: None,
            changes: None,
            published: counters,
        }
    }

    /// Reports every session that ends to `ledger` from here on.
    pub fn set_session_ledger(&mut self, ledger: Box<dyn SessionLedger>) {
        self.ledger = Some(ledger);
    }

    /// The forwarder's part of the session table, for sessions that come from elsewhere.
    pub fn session_worker(&mut self) -> &mut SessionWorker {
        &mut self.sessions
    }

    /// Tells which sessions change to `changes` from here on.
    pub fn set_change_writer(&mut self, changes: ChangeWriter) {
        self.changes = Some(changes);
    }

    /// Decides and edits all packets of a batch: afterwards each has its verdict and the outer tag that it is sent
    /// with. A packet that comes with a verdict, because it was captured only in part (rule A1.7 of
    /// `docs/protocols.md`), keeps it and is only counted.
    pub fn process(&mut self, batch: &mut Batch<'_>, snapshot: &Snapshot, punts: &mut dyn PuntQueue, now: Instant) {
        self.permission = snapshot.permission(now);
        self.tracer.begin_batch(snapshot, now);
        self.sweep(snapshot, now, Self::SWEEP_PER_BATCH);
        self.counters.count_batch(batch.packets.len());
        let mut ready = FastPathBatch::new();
        if !self.tracer.is_on() && self.permission.refusal().is_none() {
            self.parse_and_prefetch(batch, &mut ready, snapshot);
        }
        let mut ready = ready.iter_mut();
        for packet in &mut batch.packets {
            let ready = ready.next().and_then(Option::as_mut);
            let verdict = self.process_packet(packet, ready, snapshot, punts, now);
            packet.verdict = Some(verdict);
            self.release_held(snapshot, punts, now);
        }
        self.count_abandoned();
        self.published.publish(&mut self.counters);
    }

    /// Does what is due at the time `now`: ends idle sessions, gives up fragments, searches the sessions of failed
    /// firewalls and servers, and carries out kill orders. It visits about `budget` table slots at most: a third for
    /// each of these, and for each kill order. True if the budget ended the work, so that more is due at once.
    pub fn expire(&mut self, snapshot: &Snapshot, now: Instant, budget: usize) -> bool {
        let budget = (budget / 3).max(1);
        self.permission = snapshot.permission(now);
        self.tracer.begin_batch(snapshot, now);
        let swept = self.sweep(snapshot, now, budget);
        let kills = self.run_kill_orders(snapshot, now, budget);
        let expired = self.expire_sessions(snapshot, now, budget);
        let given_up = self.expire_fragments(now, budget);
        self.count_abandoned();
        self.published.publish(&mut self.counters);
        swept || kills || expired >= budget || given_up >= budget
    }

    /// The next frame that was made rather than edited, such as a fragment or a reset.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Replaces the captures; see [`crate::engine::trace`].
    pub fn set_taps(&mut self, taps: Vec<Tap>) {
        self.tracer.set_taps(taps);
    }

    /// The counters up to this moment. Others read the published copy.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn process_packet<'f>(
        &mut self,
        packet: &mut Packet<'f>,
        ready: Option<&mut FastPathPacket<'f>>,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
        now: Instant,
    ) -> Verdict {
        let Some(ready) = ready else {
            let link = ingress::link_of(packet, snapshot);
            self.count_received(link, packet.bytes.len());
            return self.process_slow_path(packet, link, snapshot, punts, now);
        };
        let link = ready.link;
        self.count_received(Some(link), ready.length());
        let (verdict, egress) = match self.try_fast_path(ready, packet, snapshot, now) {
            Some(Ok(egress)) => (self.conclude_sent(egress, packet.bytes.len(), link), Some(egress)),
            Some(Err(reason)) => self.conclude(PacketOutcome::Drop(reason), packet, link, snapshot, punts, now),
            None => return self.process_slow_path(packet, Some(link), snapshot, punts, now),
        };
        self.count(verdict, Some(link), egress);
        verdict
    }

    /// Processes a packet that the short path cannot.
    fn process_slow_path(
        &mut self,
        packet: &mut Packet<'_>,
        link: Option<LinkId>,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
        now: Instant,
    ) -> Verdict {
        let (verdict, egress, punt) = match (packet.verdict, link) {
            (Some(verdict), _) => (verdict, None, None),
            (None, None) => (Verdict::Dropped(DropReason::UnknownVlan), None, None),
            (None, Some(link)) => {
                let outcome = self.handle(packet, link, None, snapshot, punts, now);
                let punt = outcome.punt_reason();
                let (verdict, egress) = self.conclude(outcome, packet, link, snapshot, punts, now);
                (verdict, egress, punt)
            }
        };
        if self.tracer.is_on()
            && let Some(link) = link
        {
            self.trace_packet(packet, link, VerdictReached { verdict, punt, egress }, snapshot);
        }
        self.count(verdict, link, egress);
        verdict
    }

    /// Handles one packet. `first` are the addresses and ports of the first fragment, if the packet is a later fragment
    /// that waited for it.
    fn handle(
        &mut self,
        packet: &mut Packet<'_>,
        link: LinkId,
        first: Option<Tuple>,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
        now: Instant,
    ) -> PacketOutcome {
        let CheckedFrame { mut frame, arrival, icmp, addressee } =
            match ingress::check_frame(packet.bytes, &packet.offload, link, snapshot, self.permission) {
                Ok(checked) => checked,
                Err(PacketOutcome::Punt(reason)) => return self.punt_unless_bypassed(reason, packet, link, snapshot),
                Err(outcome) => return outcome,
            };
        if addressee == Addressee::Engine && is_tunnel_error(icmp) {
            return self.handle_tunnel_error(&frame, snapshot, punts, now);
        }
        let envelope = FrameMeta { device: packet.device, link, vlan: packet.vlan, offload: packet.offload };
        let found = match first {
            Some(tuple) => Ok(PacketFlow::of_later_fragment(&frame, tuple)),
            None => self.fragments.classify(&frame, icmp, envelope, now),
        };
        let packet_flow = match found {
            Ok(packet_flow) => packet_flow,
            Err(outcome) => return outcome,
        };
        let disposition = self.decide_flow(&packet_flow, arrival, addressee, snapshot, now);
        if self.tracer.is_on() {
            let received = FrameOnLink { link, vlan: packet.vlan, offload: packet.offload, bytes: frame.bytes() };
            self.tracer.flow_found(
                received,
                frame_tracing::flow_found(&packet_flow, arrival, &disposition, first.is_some()),
                self.sessions.table(),
            );
        }
        let (hop, service) = match disposition {
            Disposition::Send { hop, firewall: _, service } => (hop, service),
            Disposition::Local => return PacketOutcome::Punt(PuntReason::Local),
            Disposition::Drop(reason) => return PacketOutcome::Drop(reason),
        };
        let end = ETHERNET_LEN + frame.ip_len();
        let leaving = EgressPacket {
            link,
            frame: &mut frame,
            vlan: &mut packet.vlan,
            offload: &mut packet.offload,
            service,
            is_error: packet_flow.is_error,
        };
        let outcome = self.send(leaving, hop, snapshot, punts, now);
        // Bytes behind the IP packet are padding of the ingress link (rule A1.3 of `docs/protocols.md`).
        let bytes = std::mem::take(&mut packet.bytes);
        packet.bytes = &mut bytes[..end];
        outcome
    }

    /// Turns a result into a verdict: passes the packet to the controller, and has its sender answered.
    fn conclude(
        &mut self,
        outcome: PacketOutcome,
        packet: &Packet<'_>,
        link: LinkId,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
        now: Instant,
    ) -> (Verdict, Option<LinkId>) {
        let mut may_pass = |reason| self.policer.admit(reason, packet.bytes, link, snapshot, now);
        match outcome {
            PacketOutcome::Sent(egress) => (self.conclude_sent(egress, packet.bytes.len(), link), Some(egress)),
            PacketOutcome::Replaced(egress) => (Verdict::Replaced, Some(egress)),
            PacketOutcome::Punt(reason) => {
                let pass = may_pass(reason);
                (
                    pass.map_or_else(Verdict::Dropped, |pass| {
                        enqueue_punt(make_punt(reason, packet, link), pass, punts)
                    }),
                    None,
                )
            }
            PacketOutcome::Waits { reason, original } => {
                let punt = || Punt { original, ..make_punt(reason, packet, link) };
                let pass = may_pass(reason);
                (pass.map_or_else(Verdict::Dropped, |pass| enqueue_punt(punt(), pass, punts)), None)
            }
            PacketOutcome::Punted | PacketOutcome::Left => (Verdict::Punted, None),
            PacketOutcome::Drop(reason) => {
                if let Some(answer) = answer_for(reason) {
                    let pass = may_pass(answer);
                    self.punt_for_answer(answer, pass.is_ok(), packet, link, punts);
                }
                (Verdict::Dropped(reason), None)
            }
            PacketOutcome::TooBig { mtu } => {
                let answer = PuntReason::IcmpError(IcmpError::TooBig { mtu });
                let pass = may_pass(answer);
                self.punt_for_answer(answer, pass.is_ok(), packet, link, punts);
                (Verdict::Dropped(DropReason::TooBig), None)
            }
        }
    }

    /// The verdict for a frame of `bytes` bytes that was received on `link` and leaves on `egress`.
    #[inline]
    fn conclude_sent(&mut self, egress: LinkId, bytes: usize, link: LinkId) -> Verdict {
        self.count_sent(egress, bytes);
        if egress == link { Verdict::Hairpin(egress) } else { Verdict::Forward(egress) }
    }

    /// Counts a received frame of `bytes` bytes. Each frame is counted here once.
    #[inline]
    fn count_received(&mut self, link: Option<LinkId>, bytes: usize) {
        self.counters.received += 1;
        if let Some(link) = link {
            let counters = self.counters.link(link);
            counters.rx_packets += 1;
            counters.rx_bytes += bytes as u64;
        }
    }

    /// Counts a verdict. Each frame is counted here once.
    #[inline]
    fn count(&mut self, verdict: Verdict, link: Option<LinkId>, egress: Option<LinkId>) {
        match verdict {
            Verdict::Replaced if link.is_some() && egress == link => self.counters.hairpinned += 1,
            Verdict::Forward(_) | Verdict::Replaced => self.counters.forwarded += 1,
            Verdict::Hairpin(_) => self.counters.hairpinned += 1,
            Verdict::Punted => self.counters.punted += 1,
            Verdict::Dropped(reason) => {
                self.counters.drops[reason.index()] += 1;
                if let Some(link) = link {
                    self.counters.link(link).rx_dropped += 1;
                }
            }
        }
    }

    fn count_sent(&mut self, egress: LinkId, bytes: usize) {
        let counters = self.counters.link(egress);
        counters.tx_packets += 1;
        counters.tx_bytes += bytes as u64;
    }

    /// Queues a frame to send; false if the queue is full.
    fn transmit(&mut self, transmit: Transmit) -> bool {
        if self.transmits_free() == 0 {
            return false;
        }
        self.count_sent(transmit.link, transmit.bytes.len());
        if self.tracer.is_on() {
            let Transmit { link, vlan, offload, bytes } = &transmit;
            self.tracer
                .frame_sent(FrameOnLink { link: *link, vlan: *vlan, offload: *offload, bytes }, self.sessions.table());
        }
        self.transmits.push_back(transmit);
        true
    }

    fn transmits_free(&self) -> usize {
        Self::TRANSMITS_MAX - self.transmits.len()
    }
}
