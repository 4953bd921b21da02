//! Passes packets to the controller, and has the senders of dropped packets answered.

use super::Forwarder;
use super::punt_policer::Urgency;
use crate::engine::verdict::IcmpError;
use crate::engine::{DropReason, Packet, Punt, PuntQueue, PuntReason, Verdict};
use crate::id::LinkId;

impl Forwarder {
    /// Queues the part of a dropped packet that an answer to its sender needs, if the rate limit permits that. If it
    /// cannot be queued, only the answer is lost.
    pub(super) fn punt_for_answer(
        &mut self,
        answer: PuntReason,
        may_pass: bool,
        packet: &Packet<'_>,
        link: LinkId,
        punts: &mut dyn PuntQueue,
    ) {
        if !may_pass || !punts.offer(make_punt(answer, packet, link)) {
            self.counters.punt_drop_icmp_error += 1;
        }
    }
}

/// A copy of a packet for the controller. For an ICMP error it is cut to what that quotes.
pub(super) fn make_punt(reason: PuntReason, packet: &Packet<'_>, link: LinkId) -> Punt {
    let length = match reason {
        PuntReason::IcmpError(_) => Forwarder::QUOTE_MAX.min(packet.bytes.len()),
        PuntReason::Local | PuntReason::Neighbor | PuntReason::NeighborWait { .. } | PuntReason::Cluster => {
            packet.bytes.len()
        }
    };
    let bytes = packet.bytes[..length].to_vec();
    Punt { reason, link, vlan: packet.vlan, offload: packet.offload, bytes, original: None }
}

pub(super) fn enqueue_punt(punt: Punt, pass: Urgency, punts: &mut dyn PuntQueue) -> Verdict {
    let is_taken = match (punt.reason, pass) {
        (PuntReason::Cluster, _) => punts.offer_cluster(punt),
        (_, Urgency::Urgent) => punts.offer_urgent(punt),
        (_, Urgency::Normal) => punts.offer(punt),
    };
    if is_taken { Verdict::Punted } else { Verdict::Dropped(DropReason::PuntQueueFull) }
}

/// The answer that the sender of a dropped packet gets. Where no firewall is up there is none: a sender that gets
/// "unreachable" would give up an attempt that it otherwise repeats after a second.
pub(super) fn answer_for(reason: DropReason) -> Option<PuntReason> {
    match reason {
        DropReason::TtlExpired => Some(PuntReason::IcmpError(IcmpError::TimeExceeded)),
        DropReason::NoRoute => Some(PuntReason::IcmpError(IcmpError::NoRoute)),
        // RFC 5508 REQ-8: the ICMP error for a flow for which no translation can be made.
        DropReason::SnatExhausted => Some(PuntReason::IcmpError(IcmpError::Prohibited)),
        // The controller resets a connection, as if no service listened on the port: the client tries another address
        // at once.
        DropReason::NoServerUp => Some(PuntReason::Local),
        DropReason::EthernetTruncated
        | DropReason::Truncated
        | DropReason::UnknownVlan
        | DropReason::BadSourceMac
        | DropReason::OtherHost
        | DropReason::LinkControl
        | DropReason::EtherType
        | DropReason::IpHeader
        | DropReason::IpVersion
        | DropReason::IpLength
        | DropReason::IpChecksum
        | DropReason::SourceRoute
        | DropReason::Transport
        | DropReason::TinyFragment
        | DropReason::IcmpChecksum
        | DropReason::MartianSource
        | DropReason::MartianDestination
        | DropReason::Land
        | DropReason::Multicast
        | DropReason::LinkLocal
        | DropReason::UnknownFirewall
        | DropReason::GroupLoop
        | DropReason::TooBig
        | DropReason::NoPathUp
        | DropReason::BelowMin
        | DropReason::FirewallFailed
        | DropReason::ServerFailed
        | DropReason::SourceShare
        | DropReason::SourceSessions
        | DropReason::SourceRate
        | DropReason::NatClash
        | DropReason::StrayReply
        | DropReason::SessionTableFull
        | DropReason::Untranslatable
        | DropReason::NotSegmentable
        | DropReason::LinkDown
        | DropReason::Standby
        | DropReason::Lease
        | DropReason::FragmentTableFull
        | DropReason::FragmentHeldFull
        | DropReason::FragmentOverlap
        | DropReason::IcmpMismatch
        | DropReason::PuntQueueFull
        | DropReason::PuntLimitProbe
        | DropReason::PuntLimitAnswer
        | DropReason::PuntLimitNeighbor
        | DropReason::PuntLimitPing
        | DropReason::PuntLimitLocal
        | DropReason::PuntLimitWaiting
        | DropReason::TransmitQueueFull => None,
    }
}
