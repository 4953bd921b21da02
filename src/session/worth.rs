//! What a full table forgets, and in which order.
//!
//! A new flow takes the place of a session that was idle for long and is worth least. An established TCP
//! connection has no worth in this sense: its ends rely on it for hours, so that no number of new flows ever ends it.

use crate::session::{Class, Session, State, TcpState, Timeouts};
use crate::time::Instant;

/// What is lost with a session whose place another one takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// Nobody answered, or the handshake is not complete: a flood consists of these.
    HalfOpen,
    /// A TCP connection that both ends closed, or one reset: it is remembered for what is still on its way.
    Closing,
    /// An answered ICMP query: its sender asks again.
    Icmp,
    /// UDP in both directions: mostly a question and its answer.
    Udp,
    /// Another protocol in both directions: mostly a tunnel.
    Other,
}

/// A half-open session is forgotten before all others while the half-open of its worker are more than this part of its share
/// of the table. Fewer of them are new clients in the middle of their handshake, which would otherwise end each other while
/// the table is full of what is idle.
const HALF_OPEN_PART: usize = 16;

impl Worth {
    /// The order in which a full table forgets what was idle for half of its time; when nothing was, it forgets what was idle for
    /// longest, whatever that is worth.
    pub(super) const ORDER: [Self; 5] = [Self::HalfOpen, Self::Closing, Self::Icmp, Self::Udp, Self::Other];

    /// What a session is worth; `None` if it is never forgotten for another one.
    pub(super) fn of(session: &Session) -> Option<Self> {
        match (session.state, session.class) {
            _ if session.is_half_open() => Some(Self::HalfOpen),
            (State::Tcp(TcpState::Opening | TcpState::Established), _) => None,
            (State::Tcp(TcpState::Closing), _) => Some(Self::Closing),
            (State::OneWay | State::TwoWay, Class::Icmp) => Some(Self::Icmp),
            (State::OneWay | State::TwoWay, Class::Udp) => Some(Self::Udp),
            (State::OneWay | State::TwoWay, Class::Other | Class::Tcp) => Some(Self::Other),
        }
    }

    /// How many half-open sessions one of `workers` workers keeps in a full table of `capacity` before they go first.
    pub(super) const fn half_open_kept(capacity: usize, workers: usize) -> usize {
        capacity / workers / HALF_OPEN_PART
    }
}

/// True if a session was idle for so long that it hardly is in use: for half of its time.
pub(super) fn is_idle(session: &Session, timeouts: &Timeouts, now: Instant) -> bool {
    now.since(session.last_seen) >= session.timeout(timeouts) / 2
}
