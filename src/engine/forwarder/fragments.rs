//! Fragments without ports: they follow the first fragment of their datagram, or wait for it.

use crate::engine::forwarder::packet_flow::PacketFlow;
use crate::engine::forwarder::{Forwarder, ForwarderLimits, PacketOutcome};
use crate::engine::{DropReason, Packet, Punt, PuntQueue, Snapshot, Transmit};
use crate::flow::fragments::{FirstFragment, FragmentKey, FragmentLimits, FragmentTable, HeldFragment, LaterFragment};
use crate::id::{DeviceId, LinkId};
use crate::time::Instant;
use crate::wire::frame::{Fragment, Frame, IcmpClass, Tuple};
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;

/// Where a held fragment was received.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeldOrigin {
    device: DeviceId,
    link: LinkId,
}

/// The fragments of one worker.
#[derive(Debug)]
pub(super) struct Fragments {
    table: FragmentTable<HeldOrigin>,
    /// The fragments that wait for the first fragment at hand, with its addresses and ports.
    released: Option<(Tuple, Vec<HeldFragment<HeldOrigin>>)>,
}

/// The metadata of a received frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameMeta {
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

    /// Finds the flow of a packet that may be a fragment. `Err` if it is dropped, or held until the first fragment of its
    /// datagram arrives.
    pub(super) fn classify(
        &mut self,
        frame: &Frame<'_>,
        icmp: Option<IcmpClass>,
        envelope: FrameMeta,
        now: Instant,
    ) -> Result<PacketFlow, PacketOutcome> {
        let flow_with_ports = || PacketFlow::of(frame, icmp).map_err(PacketOutcome::Drop);
        let Some((key, range)) = FragmentKey::of(envelope.link.0, frame).zip(frame.fragment_range()) else {
            return flow_with_ports();
        };
        match frame.fragment() {
            Fragment::Whole => flow_with_ports(),
            Fragment::First { id: _ } => {
                let tuple = frame.tuple();
                match self.table.handle_first(&key, &tuple, range, now) {
                    FirstFragment::Recorded(held) => {
                        self.released = (!held.is_empty()).then_some((tuple, held));
                        flow_with_ports()
                    }
                    FirstFragment::Overlap => Err(PacketOutcome::Drop(DropReason::FragmentOverlap)),
                }
            }
            Fragment::Later { id: _ } => {
                let FrameMeta { device, link, vlan, offload } = envelope;
                let hold = || HeldFragment {
                    bytes: frame.bytes().to_vec(),
                    vlan,
                    offload,
                    context: HeldOrigin { device, link },
                };
                match self.table.handle_later(&key, range, hold, now) {
                    LaterFragment::Known(tuple) => Ok(PacketFlow::of_later_fragment(frame, tuple)),
                    LaterFragment::Held => Err(PacketOutcome::Punted),
                    LaterFragment::TableFull => Err(PacketOutcome::Drop(DropReason::FragmentTableFull)),
                    LaterFragment::HeldFull => Err(PacketOutcome::Drop(DropReason::FragmentHeldFull)),
                    LaterFragment::Overlap => Err(PacketOutcome::Drop(DropReason::FragmentOverlap)),
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
            let HeldOrigin { device, link } = held.context;
            let mut packet =
                Packet { device, vlan: held.vlan, offload: held.offload, bytes: &mut held.bytes, verdict: None };
            let outcome = self.handle(&mut packet, link, Some(tuple), snapshot, punts, now);
            if self.tracer.is_on() {
                self.trace_released(&mut packet, link, &outcome, snapshot);
            }
            let Packet { vlan, offload, bytes, .. } = packet;
            let bytes = bytes.to_vec();
            let gone = match outcome {
                PacketOutcome::Sent(egress) => self.transmit(Transmit { link: egress, vlan, offload, bytes }),
                PacketOutcome::Replaced(_) | PacketOutcome::Punted | PacketOutcome::Left => true,
                PacketOutcome::Punt(reason) => punts.offer(Punt { reason, link, vlan, offload, bytes, original: None }),
                PacketOutcome::Waits { reason, original } => {
                    punts.offer(Punt { reason, link, vlan, offload, bytes, original })
                }
                PacketOutcome::Drop(_) | PacketOutcome::TooBig { mtu: _ } => false,
            };
            let count =
                if gone { &mut self.counters.fragments_released } else { &mut self.counters.punt_drop_fragment_unsent };
            *count += 1;
            self.tracer.end_frame();
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
