//! What a full table forgets, and in which order.
//!
//! A new flow takes the place of the session of the least valuable class among those that were idle long. Established
//! TCP connections are never evicted, however many new flows arrive, because their ends rely on them for hours.

use crate::session::{ConversationState, ProtocolClass, Session, TcpState, Timeouts};
use crate::time::Instant;

/// What is lost if a session is evicted, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EvictionClass {
    /// A session without a reply, or with an incomplete handshake. Floods consist of these.
    HalfOpen,
    /// A TCP connection that was closed or reset, remembered for packets that are still on their way.
    Closing,
    /// An ICMP query with its reply. The sender will ask again.
    Icmp,
    /// UDP in both directions, which mostly is a question with its answer.
    Udp,
    /// Another protocol in both directions, which mostly is a tunnel.
    Other,
}

/// A worker's half-open sessions are evicted before all others if they exceed one part in this many of its share of the
/// table. If they are fewer, they are new clients in the middle of their handshakes, which would otherwise evict each
/// other while the table is full of idle sessions.
const HALF_OPEN_PART: usize = 16;

impl EvictionClass {
    /// The order in which a full table evicts sessions that were idle for half of their timeout. If there are none, it
    /// evicts the one that was idle longest, whatever its class.
    pub(super) const ORDER: [Self; 5] = [Self::HalfOpen, Self::Closing, Self::Icmp, Self::Udp, Self::Other];

    /// The class of a session; `None` if it is never evicted.
    pub(super) fn of(session: &Session) -> Option<Self> {
        match (session.state, session.class) {
            _ if session.is_half_open() => Some(Self::HalfOpen),
            (ConversationState::Tcp(TcpState::Opening | TcpState::Established), _) => None,
            (ConversationState::Tcp(TcpState::Closing), _) => Some(Self::Closing),
            (ConversationState::OneWay | ConversationState::TwoWay, ProtocolClass::Icmp) => Some(Self::Icmp),
            (ConversationState::OneWay | ConversationState::TwoWay, ProtocolClass::Udp) => Some(Self::Udp),
            (ConversationState::OneWay | ConversationState::TwoWay, ProtocolClass::Other | ProtocolClass::Tcp) => {
                Some(Self::Other)
            }
        }
    }

    /// How many half-open sessions each of `workers` workers keeps in a full table of `capacity` sessions before these
    /// are evicted first.
    pub(super) const fn half_open_kept(capacity: usize, workers: usize) -> usize {
        capacity / workers / HALF_OPEN_PART
    }
}

/// True if a session was idle for half of its timeout, so that it probably is not in use.
pub(super) fn is_idle(session: &Session, timeouts: &Timeouts, now: Instant) -> bool {
    now.since(session.last_seen) >= session.timeout(timeouts) / 2
}
