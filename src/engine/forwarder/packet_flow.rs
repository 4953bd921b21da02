//! Finds the flow that a packet belongs to, and what the packet may do to the session of that flow.

use crate::engine::DropReason;
use crate::flow::FlowKey;
use crate::path::pinning::PacketKind;
use crate::session::tcp;
use crate::wire::frame::{Frame, IcmpClass, TcpSegment, Tuple, tcp_flags};

/// What a packet may do to the session of its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlowRelation {
    /// The packet belongs to the flow itself: it opens sessions, moves pins and keeps the session alive.
    Direct,
    /// The packet only follows the flow and changes nothing: it is an ICMP error about the flow (rule A7.5 of
    /// `docs/protocols.md`), or a later fragment.
    Related,
}

/// A packet's flow, and what the decision needs to know about the packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct PacketFlow {
    /// The flow in the direction of the packet. For an ICMP error it is the reverse of the flow of the quoted packet.
    pub flow: FlowKey,
    /// What the packet may do to the session.
    pub relation: FlowRelation,
    /// TCP flags, sequence and acknowledgement numbers; `None` for other protocols and for related packets.
    pub tcp: Option<TcpSegment>,
    /// Length of the IP packet in bytes.
    pub bytes: usize,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// True for an ICMP error that quotes a packet of the flow.
    pub is_error: bool,
}

impl PacketFlow {
    /// The flow of a packet that has its ports, or of the packet that an ICMP error quotes.
    pub(super) fn of(frame: &Frame<'_>, icmp: Option<IcmpClass>) -> Result<Self, DropReason> {
        let of = |flow, role, tcp| Self {
            flow,
            relation: role,
            tcp,
            bytes: frame.ip_len(),
            ttl: frame.ttl(),
            is_error: false,
        };
        match icmp {
            Some(IcmpClass::Error(Some(quoted))) => {
                // The error goes to the sender of the quoted packet (rule A7.4 of `docs/protocols.md`), against that
                // packet's direction (rule A7.2).
                if quoted.source != frame.destination() {
                    return Err(DropReason::IcmpMismatch);
                }
                let flow = FlowKey::from(quoted).reversed();
                Ok(Self { is_error: true, ..of(flow, FlowRelation::Related, None) })
            }
            Some(IcmpClass::Error(None)) => Ok(of(frame.tuple().into(), FlowRelation::Related, None)),
            Some(IcmpClass::Query | IcmpClass::Other | IcmpClass::LinkLocal) | None => {
                Ok(of(frame.tuple().into(), FlowRelation::Direct, frame.tcp()))
            }
        }
    }

    /// The flow of a later fragment, whose first fragment had the addresses and ports of `tuple`.
    pub(super) fn of_later_fragment(frame: &Frame<'_>, tuple: Tuple) -> Self {
        let (bytes, ttl) = (frame.ip_len(), frame.ttl());
        Self { flow: tuple.into(), relation: FlowRelation::Related, tcp: None, bytes, ttl, is_error: false }
    }

    /// The kind of packet that the pinning rules distinguish.
    pub(super) fn kind(&self) -> PacketKind {
        Self::kind_of(self.tcp.as_ref())
    }

    /// The kind of packet that the pinning rules distinguish, of a packet with this TCP segment or without one.
    #[inline]
    pub(super) fn kind_of(tcp: Option<&TcpSegment>) -> PacketKind {
        match tcp.map(|segment| (segment.flags & (SYN | ACK | FIN | RST), segment.length)) {
            Some((SYN, _)) => PacketKind::Syn,
            Some((SYN_ACK, _)) => PacketKind::SynAck,
            Some((_, 0)) => PacketKind::AckOrReset,
            Some(_) | None => PacketKind::Other,
        }
    }

    /// True if the packet may open a session. Related packets may not, nor segments that no connection begins with
    /// (rule A9.3 of `docs/protocols.md`).
    pub(super) fn may_open_session(&self) -> bool {
        match self.relation {
            FlowRelation::Related => false,
            FlowRelation::Direct => self.tcp.is_none_or(|segment| tcp::may_open_session(segment.flags)),
        }
    }
}

const SYN: u8 = tcp_flags::SYN;
const ACK: u8 = tcp_flags::ACK;
const FIN: u8 = tcp_flags::FIN;
const RST: u8 = tcp_flags::RST;
const SYN_ACK: u8 = SYN | ACK;
