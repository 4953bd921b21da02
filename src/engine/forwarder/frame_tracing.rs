//! Shows the packets of the forwarder to captures, see [`crate::engine::trace`]. Without captures nothing here is
//! called.

use crate::engine::forwarder::decide::Arrival;
use crate::engine::forwarder::flows::Disposition;
use crate::engine::forwarder::packet_flow::PacketFlow;
use crate::engine::forwarder::{Forwarder, PacketOutcome};
use crate::engine::trace::{FlowFound, FrameOnLink, VerdictReached};
use crate::engine::{DropReason, Packet, PuntReason, Snapshot, Verdict};
use crate::id::LinkId;

impl Forwarder {
    /// Shows a received packet with its verdict, and the packet that is sent.
    pub(super) fn trace_packet(
        &mut self,
        packet: &mut Packet<'_>,
        link: LinkId,
        decided: VerdictReached,
        snapshot: &Snapshot,
    ) {
        self.tracer.verdict_reached(link, packet, decided, self.sessions.table(), snapshot);
        match decided.verdict {
            Verdict::Forward(egress) | Verdict::Hairpin(egress) => {
                let Packet { device: _, vlan, offload, bytes, verdict: _ } = packet;
                let seen = FrameOnLink { link: egress, vlan: *vlan, offload: *offload, bytes };
                self.tracer.frame_sent(seen, self.sessions.table());
            }
            Verdict::Replaced | Verdict::Punted | Verdict::Dropped(_) => {}
        }
        self.tracer.end_frame();
    }

    /// Shows a fragment that was held, with its verdict. When it is sent it is shown again.
    pub(super) fn trace_released(
        &mut self,
        packet: &mut Packet<'_>,
        link: LinkId,
        outcome: &PacketOutcome,
        snapshot: &Snapshot,
    ) {
        self.tracer.verdict_reached(link, packet, outcome.verdict_reached(link), self.sessions.table(), snapshot);
    }
}

impl PacketOutcome {
    /// Why the controller gets the frame; `None` if it does not.
    pub(super) fn punt_reason(&self) -> Option<PuntReason> {
        match self {
            Self::Punt(reason) | Self::Waits { reason, original: _ } => Some(*reason),
            Self::Left => Some(PuntReason::Local),
            Self::Sent(_) | Self::Replaced(_) | Self::Punted | Self::Drop(_) | Self::TooBig { mtu: _ } => None,
        }
    }

    fn verdict_reached(&self, link: LinkId) -> VerdictReached {
        let (verdict, egress) = match self {
            Self::Sent(egress) if *egress == link => (Verdict::Hairpin(*egress), Some(*egress)),
            Self::Sent(egress) => (Verdict::Forward(*egress), Some(*egress)),
            Self::Replaced(egress) => (Verdict::Replaced, Some(*egress)),
            Self::Punt(_) | Self::Waits { .. } | Self::Punted | Self::Left => (Verdict::Punted, None),
            Self::Drop(reason) => (Verdict::Dropped(*reason), None),
            Self::TooBig { mtu: _ } => (Verdict::Dropped(DropReason::TooBig), None),
        };
        VerdictReached { verdict, punt: self.punt_reason(), egress }
    }
}

/// What captures need to know about a packet whose flow was found. `held` is true for a fragment that was held.
pub(super) fn flow_found(packet: &PacketFlow, arrival: Arrival, disposition: &Disposition, held: bool) -> FlowFound {
    let from = match arrival {
        Arrival::Near => None,
        Arrival::Firewall(firewall) => Some(firewall),
    };
    let (plain, legs) = match disposition {
        Disposition::Send { hop: _, firewall: _, service } => match service.and_then(|service| service.translation) {
            Some(translation) => (false, Some([translation.outside, translation.inside])),
            // Inside a tunnel the flow stays the same.
            None => (true, None),
        },
        Disposition::Local | Disposition::Drop(_) => (false, None),
    };
    FlowFound { flow: packet.flow, from, legs, is_untranslated: plain, was_held: held }
}
