//! What is remembered of a flow, how long, and what is forgotten first.

pub mod table;
pub mod tcp;
pub mod wheel;

use crate::flow::{CanonicalKey, Direction};
use crate::path::pinning::Pin;
use crate::time::{Duration, Instant};

pub use table::{EndReason, Opened, SessionId, SessionTable, SessionWorker, Sweep};
pub use tcp::TcpState;

/// Idle times after which a session is forgotten (INTERFACE.md, `[timeouts]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the handshake is complete (RFC 5382 REQ-5: at least 4 minutes).
    pub tcp_syn: Duration,
    /// Established (RFC 5382 REQ-5: at least 2 h 4 min).
    pub tcp_established: Duration,
    /// After FIN both ways, or RST.
    pub tcp_closing: Duration,
    /// UDP until a reply was seen (RFC 4787 REQ-5: at least 2 minutes).
    pub udp_new: Duration,
    /// UDP.
    pub udp: Duration,
    /// ICMP queries (RFC 5508 REQ-2: at least 60 seconds).
    pub icmp: Duration,
    /// Every other protocol.
    pub other: Duration,
    /// The decision about a fragmented datagram.
    pub fragment: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_syn: Duration::from_secs(240),
            tcp_established: Duration::from_secs(7440),
            tcp_closing: Duration::from_secs(120),
            udp_new: Duration::from_secs(120),
            udp: Duration::from_secs(300),
            icmp: Duration::from_secs(60),
            other: Duration::from_secs(600),
            fragment: Duration::from_secs(5),
        }
    }
}

/// The conversation state that decides the timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// A TCP connection.
    Tcp(TcpState),
    /// Another protocol of which only one direction was seen.
    OneWay,
    /// Another protocol of which both directions were seen.
    TwoWay,
}

/// One flow, both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Its ends.
    pub key: CanonicalKey,
    /// Which way its first packet went.
    pub opened: Direction,
    /// Conversation state.
    pub state: State,
    /// Firewall toward the low end, if that end is behind a group.
    pub toward_low: Option<Pin>,
    /// Firewall toward the high end, if that end is behind a group.
    pub toward_high: Option<Pin>,
    /// When it was opened.
    pub created: Instant,
    /// Time of its last packet.
    pub last_seen: Instant,
    /// Packets, both directions.
    pub packets: u64,
    /// Bytes of IP, both directions.
    pub bytes: u64,
    /// TCP: the next sequence number toward the low end: highest forwarded plus its length.
    pub next_to_low: u32,
    /// TCP: the next sequence number toward the high end.
    pub next_to_high: u32,
}

impl Session {
    /// The pin for packets that go in `direction` (toward their destination).
    pub fn pin_toward_destination(&mut self, direction: Direction) -> &mut Option<Pin> {
        match direction {
            Direction::LowToHigh => &mut self.toward_high,
            Direction::HighToLow => &mut self.toward_low,
        }
    }

    /// The pin toward the end that packets in `direction` come from.
    pub fn pin_toward_source(&mut self, direction: Direction) -> &mut Option<Pin> {
        self.pin_toward_destination(direction.reversed())
    }
}
