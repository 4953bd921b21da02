//! The fast half: one per packet worker. It runs to completion, cannot fail, never waits for the controller and allocates
//! nothing on a session hit.
//!
//! ```text
//!   steady:  the shorter way of a packet that changes nothing
//!   ingress: link, legal bytes, station, addresses     -> drop, or punt to the controller
//!   claim:   whose packet it is
//!   flows:   its session, open a new one               -> drop, or punt
//!     placing: a service's server for it, its legs
//!     decide: session, learned, hash                   -> drop
//!   egress:  size, translation or tunnel, TTL, neighbour, tag    -> forward, hairpin, replace by fragments, wait for a neighbour
//! ```
//!
//! One function branches (`Forwarder::handle`), the stages compute. Every received frame ends in one [`Verdict`], which is
//! counted in one place.

mod claim;
mod decide;
mod egress;
mod flows;
mod handover;
mod held;
mod ingress;
mod kill;
mod observed;
mod placing;
mod police;
mod reset;
mod services;
mod sources;
mod steady;
#[cfg(test)]
mod tests;
mod tunnel;
mod watched;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::trace::{Decided, Seen, Tap, Watch};
use crate::engine::verdict::IcmpError;
use crate::engine::{
    Batch, Counters, CountersCell, DropReason, Ledger, Packet, Punt, PuntQueue, PuntReason, Snapshot, Transmit, Verdict,
};
use crate::id::LinkId;
use crate::nat::PortPools;
use crate::session::SessionWorker;
use crate::time::{Duration, Instant};
use crate::wire::frame::{ETHERNET_LEN, Tuple};

pub use handover::probe_in;

pub(super) use decide::{Arrival, Course, Decision, Pins, Transit, decide, view_toward_destination};
pub(super) use ingress::{Addressee, judge};
pub use kill::KillOrder;
pub(super) use services::{Passage, Standing, first_transit, is_stray, standing, transit};
pub(super) use sources::{egress_address, source_address};

use claim::Claim;
use egress::Leaving;
use flows::Fate;
use handover::{answer_to, hand_over, punt};
use held::{Envelope, Placed};
use ingress::{Admission, is_about_tunnel};
use police::Police;
use sources::Sources;
use steady::{Ready, ReadyBatch};

/// Bounds of one forwarder's own tables (its share of the engine's).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwarderLimits {
    /// Datagrams whose fragments are known.
    pub fragments: usize,
    /// Later fragments that wait for their first.
    pub held: usize,
    /// Idle time of the decision about a datagram.
    pub fragment_timeout: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Forwarder {
    sessions: SessionWorker,
    sources: Sources,
    fragments: held::Fragments,
    failures: reset::Failures,
    kills: kill::Kills,
    police: Police,
    /// Whose probes somebody else takes, by [`DeviceId`](crate::id::DeviceId).
    apart: Vec<bool>,
    transmits: VecDeque<Transmit>,
    /// Buffers that were given back.
    spare: Vec<Vec<u8>>,
    /// Where the packets of a tunnel are packed: kept to be used again.
    packed: Vec<Vec<u8>>,
    watch: Watch,
    counters: Counters,
    /// Who wants to know of sessions that ended.
    ledger: Option<Box<dyn Ledger>>,
    published: Arc<CountersCell>,
}

/// What became of a frame, before it is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// Edited in place, to leave by this link.
    Sent(LinkId),
    /// Its fragments leave by this link.
    Replaced(LinkId),
    /// For the controller.
    Punt(PuntReason),
    /// Edited in place; its neighbour is to be resolved first.
    Waits {
        /// Whose.
        reason: PuntReason,
        /// What it was before a service changed it.
        original: Option<Vec<u8>>,
    },
    /// With the controller already, or a later fragment kept until its first comes.
    Punted,
    /// A probe, which the owner takes to the controller on a way of its own.
    Left,
    /// Not forwarded; the sender may be told.
    Drop(DropReason),
    /// Not forwarded, as only so many bytes of IP fit.
    TooBig {
        /// That many.
        mtu: u16,
    },
}

impl Forwarder {
    /// Frames of its own making that wait to be fetched, at most. A batch of 64 frames of 64 KiB cut for an MTU of 1500 makes
    /// 2,900.
    pub const TRANSMITS_MAX: usize = 4096;

    /// Slots of the session table that one batch visits at most while sessions of a failed firewall are looked for.
    const SWEEP_PER_BATCH: usize = 256;

    /// Buffers that are kept for frames to come.
    const SPARE_MAX: usize = 128;
    /// A larger one is not kept.
    const SPARE_BYTES_MAX: usize = 1 << 14;

    /// Bytes of a packet that an ICMP error may quote at most: what fits the minimum MTU of IPv6.
    const QUOTE_MAX: usize = ETHERNET_LEN + 1280;

    /// A forwarder that publishes its counters into `counters`. `ports` are shared by all forwarders of an engine; `seed`
    /// makes the choice among them hard to guess.
    pub fn new(
        sessions: SessionWorker,
        limits: ForwarderLimits,
        ports: Arc<PortPools>,
        seed: u64,
        counters: Arc<CountersCell>,
    ) -> Self {
        Self {
            sources: Sources::new(ports, sessions.number(), seed),
            sessions,
            fragments: held::Fragments::new(limits),
            failures: reset::Failures::default(),
            kills: kill::Kills::default(),
            police: Police::new(seed),
            apart: Vec::new(),
            transmits: VecDeque::with_capacity(Self::TRANSMITS_MAX),
            spare: Vec::with_capacity(Self::SPARE_MAX),
            packed: Vec::new(),
            watch: Watch::default(),
            counters: Counters::default(),
            ledger: None,
            published: counters,
        }
    }

    /// Tells `ledger` of every session that ends from here on.
    pub fn account_to(&mut self, ledger: Box<dyn Ledger>) {
        self.ledger = Some(ledger);
    }

    /// Decides and edits every packet of the batch: afterwards each has its verdict, and its tag is that of its egress.
    /// A packet that comes with a verdict (the receiver saw a truncated capture, A1.7) keeps it and is only counted.
    pub fn process(&mut self, batch: &mut Batch<'_>, snapshot: &Snapshot, punts: &mut dyn PuntQueue, now: Instant) {
        self.watch.begin(snapshot, now);
        self.sweep(snapshot, now, Self::SWEEP_PER_BATCH);
        self.counters.count_batch(batch.packets.len());
        let mut ready = ReadyBatch::new();
        if !self.watch.is_on() {
            self.make_ready(batch, &mut ready, snapshot);
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

    /// Time passes: expires sessions and fragments, sweeps the sessions of failed firewalls and those that are to be killed; at
    /// most `budget` visits, a third for each, and another third for each order to kill. Answers true if the budget ended it: more is due at once.
    pub fn expire(&mut self, snapshot: &Snapshot, now: Instant, budget: usize) -> bool {
        let budget = (budget / 3).max(1);
        self.watch.begin(snapshot, now);
        let swept = self.sweep(snapshot, now, budget);
        let kills = self.work_on_kills(snapshot, now, budget);
        let expired = self.expire_sessions(snapshot, now, budget);
        let given_up = self.expire_fragments(now, budget);
        self.count_abandoned();
        self.published.publish(&mut self.counters);
        swept || kills || expired >= budget || given_up >= budget
    }

    /// Frames made rather than edited: fragments, released fragments, resets.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// From here on these watch, instead of those who did; see [`crate::engine::trace`].
    pub fn watch(&mut self, taps: Vec<Tap>) {
        self.watch.set(taps);
    }

    /// What was counted so far; the owner reads the published copy.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn process_packet<'f>(
        &mut self,
        packet: &mut Packet<'f>,
        ready: Option<&mut Ready<'f>>,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
        now: Instant,
    ) -> Verdict {
        self.counters.received += 1;
        let (link, length) = match &ready {
            Some(ready) => (Some(ready.link), ready.length()),
            None => (ingress::link_of(packet, snapshot), packet.bytes.len()),
        };
        if let Some(link) = link {
            let counters = self.counters.link(link);
            counters.rx_packets += 1;
            counters.rx_bytes += length as u64;
        }
        let (verdict, egress, punt) = match (packet.verdict, link) {
            (Some(verdict), _) => (verdict, None, None),
            (None, None) => (Verdict::Dropped(DropReason::UnknownVlan), None, None),
            (None, Some(link)) => {
                let outcome = match ready.and_then(|ready| self.steady(ready, packet, snapshot, now)) {
                    Some(outcome) => outcome,
                    None => self.handle(packet, link, None, snapshot, punts, now),
                };
                let punt = outcome.punt();
                let (verdict, egress) = self.conclude(outcome, packet, link, snapshot, punts, now);
                (verdict, egress, punt)
            }
        };
        if self.watch.is_on()
            && let Some(link) = link
        {
            self.show(packet, link, Decided { verdict, punt, egress }, snapshot);
        }
        self.count(verdict, link, egress);
        verdict
    }

    /// The way of one packet. `first` is what the first fragment showed of the datagram that this packet waited for.
    fn handle(
        &mut self,
        packet: &mut Packet<'_>,
        link: LinkId,
        first: Option<Tuple>,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
        now: Instant,
    ) -> Outcome {
        let (mut frame, arrival, icmp, addressee) = match ingress::admit(packet.bytes, &packet.offload, link, snapshot)
        {
            Admission::Transit { frame, arrival, icmp, addressee } => (frame, arrival, icmp, addressee),
            Admission::Punt(reason) => return self.hand_over_or_leave(reason, packet, link, snapshot),
            Admission::Drop(reason) => return Outcome::Drop(reason),
        };
        if addressee == Addressee::Engine && is_about_tunnel(icmp) {
            return self.tunnel_refused(&frame, snapshot, punts, now);
        }
        let envelope = Envelope { device: packet.device, link, vlan: packet.vlan, offload: packet.offload };
        let placed = match first {
            Some(tuple) => Placed::Known(Claim::of_later_fragment(&frame, tuple)),
            None => self.fragments.place(&frame, icmp, envelope, now),
        };
        let claim = match placed {
            Placed::Known(claim) => claim,
            Placed::Held => return Outcome::Punted,
            Placed::Drop(reason) => return Outcome::Drop(reason),
        };
        let fate = self.fate(&claim, arrival, addressee, snapshot, now);
        if self.watch.is_on() {
            let received = Seen { link, vlan: packet.vlan, offload: packet.offload, bytes: frame.bytes() };
            self.watch.claimed(
                received,
                watched::claimed(&claim, arrival, &fate, first.is_some()),
                self.sessions.table(),
            );
        }
        let (hop, rewrite) = match fate {
            Fate::Send { hop, rewrite } => (hop, rewrite),
            Fate::Local => return Outcome::Punt(PuntReason::Local),
            Fate::Drop(reason) => return Outcome::Drop(reason),
        };
        let end = ETHERNET_LEN + frame.ip_len();
        let leaving =
            Leaving { link, frame: &mut frame, vlan: &mut packet.vlan, offload: &mut packet.offload, rewrite };
        let outcome = self.send(leaving, hop, snapshot, punts, now);
        // What follows the packet is padding of the link it came by (A1.3).
        let bytes = std::mem::take(&mut packet.bytes);
        packet.bytes = &mut bytes[..end];
        outcome
    }

    /// Carries out what concerns others than the packet's sender and receiver: hands it over, tells about errors.
    fn conclude(
        &mut self,
        outcome: Outcome,
        packet: &Packet<'_>,
        link: LinkId,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
        now: Instant,
    ) -> (Verdict, Option<LinkId>) {
        let mut may_pass = |reason| self.police.judge(reason, packet.bytes, link, snapshot, now);
        match outcome {
            Outcome::Sent(egress) => {
                self.count_sent(egress, packet.bytes.len());
                let verdict = if egress == link { Verdict::Hairpin(egress) } else { Verdict::Forward(egress) };
                (verdict, Some(egress))
            }
            Outcome::Replaced(egress) => (Verdict::Replaced, Some(egress)),
            Outcome::Punt(reason) => {
                let pass = may_pass(reason);
                (pass.map_or_else(Verdict::Dropped, |pass| hand_over(punt(reason, packet, link), pass, punts)), None)
            }
            Outcome::Waits { reason, original } => {
                let punt = || Punt { original, ..punt(reason, packet, link) };
                let pass = may_pass(reason);
                (pass.map_or_else(Verdict::Dropped, |pass| hand_over(punt(), pass, punts)), None)
            }
            Outcome::Punted | Outcome::Left => (Verdict::Punted, None),
            Outcome::Drop(reason) => {
                if let Some(answer) = answer_to(reason) {
                    let pass = may_pass(answer);
                    self.tell_sender(answer, pass.is_ok(), packet, link, punts);
                }
                (Verdict::Dropped(reason), None)
            }
            Outcome::TooBig { mtu } => {
                let answer = PuntReason::IcmpError(IcmpError::TooBig { mtu });
                let pass = may_pass(answer);
                self.tell_sender(answer, pass.is_ok(), packet, link, punts);
                (Verdict::Dropped(DropReason::TooBig), None)
            }
        }
    }

    /// Counts a verdict; each frame passes here once.
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

    /// Queues a frame of the engine's own making; answers whether there was room.
    fn transmit(&mut self, transmit: Transmit) -> bool {
        if self.transmits_free() == 0 {
            return false;
        }
        self.count_sent(transmit.link, transmit.bytes.len());
        if self.watch.is_on() {
            let Transmit { link, vlan, offload, bytes } = &transmit;
            self.watch.sent(Seen { link: *link, vlan: *vlan, offload: *offload, bytes }, self.sessions.table());
        }
        self.transmits.push_back(transmit);
        true
    }

    fn transmits_free(&self) -> usize {
        Self::TRANSMITS_MAX - self.transmits.len()
    }
}
