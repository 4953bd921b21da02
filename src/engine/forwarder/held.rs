//! Fragments without ports: they follow the first fragment of their datagram, or wait for it.

use crate::engine::forwarder::claim::Claim;
use crate::engine::forwarder::{Forwarder, ForwarderLimits, Outcome};
use crate::engine::{DropReason, Packet, Punt, PuntQueue, Snapshot, Transmit};
use crate::flow::fragments::{First, FragmentKey, FragmentLimits, FragmentTable, Held, Later};
use crate::id::{DeviceId, LinkId};
use crate::time::Instant;
use crate::wire::frame::{Fragment, Frame, Icmp, Tuple};
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;

/// Where a held fragment was received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    device: DeviceId,
    link: LinkId,
}

/// The fragments of one worker.
#[derive(Debug)]
pub(super) struct Fragments {
    table: FragmentTable<Received>,
    /// The fragments that wait for the first fragment at hand, with its addresses and ports.
    released: Option<(Tuple, Vec<Held<Received>>)>,
}

/// What is known of a packet, be it a whole datagram or a fragment.
#[derive(Debug, Clone, Copy)]
pub(super) enum Placed {
    /// Its flow is known, so that it can be decided.
    Known(Claim),
    /// It is held until the first fragment of its datagram arrives.
    Held,
    /// It is dropped.
    Drop(DropReason),
}

/// The metadata of a received frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Envelope {
    pub device: DeviceId,
    pub link: LinkId,
    pub vlan: Option<VlanTag>,
    pub offload: Offload,
}

impl Fragments {
    pub(super) fn new(limits: ForwarderLimits) -> Self {
        let ForwarderLimits { fragments, held, fragment_timeout } = limits;
        let limits = FragmentLimits { datagrams: fragments, held, timeout: fragment_timeout };
        Self { table: FragmentTable::new(limits), released: None }
    }

    /// Finds the flow of a packet that may be a fragment.
    pub(super) fn place(&mut self, frame: &Frame<'_>, icmp: Option<Icmp>, envelope: Envelope, now: Instant) -> Placed {
        let known = |claim: Result<Claim, DropReason>| match claim {
            Ok(claim) => Placed::Known(claim),
            Err(reason) => Placed::Drop(reason),
        };
        let Some((key, range)) = FragmentKey::of(envelope.link.0, frame).zip(frame.fragment_range()) else {
            return known(Claim::of(frame, icmp));
        };
        match frame.fragment() {
            Fragment::Whole => known(Claim::of(frame, icmp)),
            Fragment::First { id: _ } => {
                let tuple = frame.tuple();
                match self.table.first(&key, &tuple, range, now) {
                    First::Recorded(held) => {
                        self.released = (!held.is_empty()).then_some((tuple, held));
                        known(Claim::of(frame, icmp))
                    }
                    First::Overlap => Placed::Drop(DropReason::FragmentOverlap),
                }
            }
            Fragment::Later { id: _ } => {
                let Envelope { device, link, vlan, offload } = envelope;
                let hold = || Held { bytes: frame.bytes().to_vec(), vlan, offload, context: Received { device, link } };
                match self.table.later(&key, range, hold, now) {
                    Later::Known(tuple) => Placed::Known(Claim::of_later_fragment(frame, tuple)),
                    Later::Held => Placed::Held,
                    Later::TableFull => Placed::Drop(DropReason::FragmentTableFull),
                    Later::HeldFull => Placed::Drop(DropReason::FragmentHeldFull),
                    Later::Overlap => Placed::Drop(DropReason::FragmentOverlap),
                }
            }
        }
    }
}

impl Forwarder {
    /// Forwards the fragments that waited for the packet just processed. They were counted as punted when they arrived,
    /// so that what happens to them is counted apart from the verdicts.
    pub(super) fn release_held(&mut self, snapshot: &Snapshot, punts: &mut dyn PuntQueue, now: Instant) {
        let Some((tuple, held)) = self.fragments.released.take() else { return };
        for mut held in held {
            let Received { device, link } = held.context;
            let mut packet =
                Packet { device, vlan: held.vlan, offload: held.offload, bytes: &mut held.bytes, verdict: None };
            let outcome = self.handle(&mut packet, link, Some(tuple), snapshot, punts, now);
            if self.watch.is_on() {
                self.show_released(&mut packet, link, &outcome, snapshot);
            }
            let Packet { vlan, offload, bytes, .. } = packet;
            let bytes = bytes.to_vec();
            let gone = match outcome {
                Outcome::Sent(egress) => self.transmit(Transmit { link: egress, vlan, offload, bytes }),
                Outcome::Replaced(_) | Outcome::Punted | Outcome::Left => true,
                Outcome::Punt(reason) => punts.offer(Punt { reason, link, vlan, offload, bytes, original: None }),
                Outcome::Waits { reason, original } => {
                    punts.offer(Punt { reason, link, vlan, offload, bytes, original })
                }
                Outcome::Drop(_) | Outcome::TooBig { mtu: _ } => false,
            };
            let count =
                if gone { &mut self.counters.fragments_released } else { &mut self.counters.punt_drop_fragment_unsent };
            *count += 1;
            self.watch.forget();
        }
    }

    /// Gives up held fragments whose first did not arrive in time, and returns how many datagrams it visited.
    pub(super) fn expire_fragments(&mut self, now: Instant, budget: usize) -> usize {
        self.fragments.table.expire(now, budget)
    }

    /// Counts the held fragments that were given up.
    pub(super) fn count_abandoned(&mut self) {
        self.counters.punt_drop_fragment_timeout += self.fragments.table.take_abandoned();
    }
}
