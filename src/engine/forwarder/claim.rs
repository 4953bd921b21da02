//! Whose packet it is: the flow that it belongs to, and what it may do to the session of that flow.

use crate::engine::DropReason;
use crate::flow::FlowKey;
use crate::path::pinning::PacketKind;
use crate::session::tcp;
use crate::wire::frame::{Frame, Icmp, TcpSegment, Tuple, tcp_flags};

/// What a packet may do to the session of its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It opens sessions and moves pins.
    Speaker,
    /// It goes where its flow goes and changes nothing: an ICMP error about the flow (A7.5), a later fragment.
    Follower,
}

/// The flow that a packet belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    /// In the direction of the packet.
    pub flow: FlowKey,
    /// What it may do.
    pub role: Role,
    /// What a TCP segment says.
    pub tcp: Option<TcpSegment>,
    /// Bytes of IP.
    pub bytes: usize,
    /// TTL or hop limit as it came.
    pub ttl: u8,
    /// It is an ICMP error about a packet of the flow, which it quotes.
    pub is_error: bool,
}

impl Claim {
    /// The flow of a packet that shows its ports, or of the packet that an ICMP error quotes.
    pub(super) fn of(frame: &Frame<'_>, icmp: Option<Icmp>) -> Result<Self, DropReason> {
        let of = |flow, role, tcp| Self { flow, role, tcp, bytes: frame.ip_len(), ttl: frame.ttl(), is_error: false };
        match icmp {
            Some(Icmp::Error(Some(quoted))) => {
                // The error travels to whoever sent the quoted packet (A7.4), so against that packet's direction (A7.2).
                if quoted.source != frame.destination() {
                    return Err(DropReason::IcmpMismatch);
                }
                let flow = FlowKey::from(quoted).reversed();
                Ok(Self { is_error: true, ..of(flow, Role::Follower, None) })
            }
            Some(Icmp::Error(None)) => Ok(of(frame.tuple().into(), Role::Follower, None)),
            Some(Icmp::Query | Icmp::Other | Icmp::LinkLocal) | None => {
                Ok(of(frame.tuple().into(), Role::Speaker, frame.tcp()))
            }
        }
    }

    /// The flow of a later fragment, whose first showed `tuple`.
    pub(super) fn of_later_fragment(frame: &Frame<'_>, tuple: Tuple) -> Self {
        let (bytes, ttl) = (frame.ip_len(), frame.ttl());
        Self { flow: tuple.into(), role: Role::Follower, tcp: None, bytes, ttl, is_error: false }
    }

    /// What the pinning rules look at.
    pub(super) fn kind(&self) -> PacketKind {
        Self::kind_of(self.tcp.as_ref())
    }

    /// What the pinning rules look at in a packet that says this as TCP, or is none.
    #[inline]
    pub(super) fn kind_of(tcp: Option<&TcpSegment>) -> PacketKind {
        match tcp.map(|segment| (segment.flags & (SYN | ACK | FIN | RST), segment.length)) {
            Some((SYN, _)) => PacketKind::Syn,
            Some((SYN_ACK, _)) => PacketKind::SynAck,
            Some((_, 0)) => PacketKind::Bare,
            Some(_) | None => PacketKind::Other,
        }
    }

    /// Followers, and segments that no conversation begins with (A9.3), leave no trace.
    pub(super) fn may_open(&self) -> bool {
        match self.role {
            Role::Follower => false,
            Role::Speaker => self.tcp.is_none_or(|segment| tcp::opens_session(segment.flags)),
        }
    }
}

const SYN: u8 = tcp_flags::SYN;
const ACK: u8 = tcp_flags::ACK;
const FIN: u8 = tcp_flags::FIN;
const RST: u8 = tcp_flags::RST;
const SYN_ACK: u8 = SYN | ACK;
