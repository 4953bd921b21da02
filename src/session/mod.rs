//! Sessions: what is remembered of a flow, for how long, and what is forgotten first when the table is full.
//!
//! A [`Session`] is what is remembered of one flow. The [`SessionTable`] finds it; a [`SessionWorker`] opens, ends and
//! expires it. The TCP state decides only the timeout, never whether a packet passes, which is the firewall's business.
//! No lock of the table leaves this module: callers get a copy or an identifier.

mod cell;
mod changes;
mod eviction;
mod eviction_class;
mod index;
mod links;
mod locked_session;
mod memory;
mod record;
mod sources;
pub mod table;
pub mod tcp;
mod walk;
pub mod wheel;
mod worker;
mod worker_lists;

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::flow::{CanonicalKey, Direction, FlowKey};
use crate::id::{ServerId, ServiceId};
use crate::nat::Translation;
use crate::path::pinning::Pin;
use crate::time::{Duration, Instant};
use crate::wire::frame::{TcpSegment, protocol};

pub use changes::{ChangeReader, ChangeWriter, SessionChange, change_ring};
pub use locked_session::LockedSession;
pub use sources::{OverLimit, Refusal, SourceLimiter, SourceLimits};
pub use table::{EndReason, HashedKey, OpenResult, Removed, SessionId, SessionTable, Sweep};
pub use tcp::TcpState;
pub use walk::VersionedSlots;
pub use worker::{CopyOutcome, Precedence, SessionWorker};

use tcp::SeenFlags;

/// Idle times after which a session is forgotten (section `[timeouts]` of the configuration).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP until the handshake is complete (RFC 5382 REQ-5: at least 4 minutes).
    pub tcp_syn: Duration,
    /// Established TCP (RFC 5382 REQ-5: at least 2 hours and 4 minutes).
    pub tcp_established: Duration,
    /// TCP after FIN in both directions, or after RST.
    pub tcp_closing: Duration,
    /// UDP until a reply was seen (RFC 4787 REQ-5: at least 2 minutes).
    pub udp_new: Duration,
    /// UDP in both directions.
    pub udp: Duration,
    /// ICMP queries (RFC 5508 REQ-2: at least 60 seconds).
    pub icmp: Duration,
    /// All other protocols.
    pub other: Duration,
    /// What is known of a fragmented datagram.
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

/// The state of the conversation, which decides the timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConversationState {
    /// The state of a TCP connection.
    Tcp(TcpState),
    /// Another protocol, with packets in one direction only.
    OneWay,
    /// Another protocol, with packets in both directions.
    TwoWay,
}

impl ConversationState {
    /// The state in output for operators.
    pub const fn shown(self) -> SessionState {
        match self {
            Self::Tcp(TcpState::Opening) => SessionState::Opening,
            Self::Tcp(TcpState::Established) => SessionState::Established,
            Self::Tcp(TcpState::Closing) => SessionState::Closing,
            Self::OneWay => SessionState::OneWay,
            Self::TwoWay => SessionState::TwoWay,
        }
    }

    /// The name of the state in output for operators.
    pub const fn name(self) -> &'static str {
        self.shown().name()
    }
}

named_enum! {
    /// The state of a session in output for operators.
    pub enum SessionState {
        /// A TCP connection is being opened.
        Opening = "opening",
        /// A TCP connection is open.
        Established = "established",
        /// A TCP connection is being closed, or was reset.
        Closing = "closing",
        /// Another protocol, with packets in one direction only.
        OneWay = "one-way",
        /// Another protocol, with packets in both directions.
        TwoWay = "two-way",
    }
}

/// The protocols that have timeouts of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProtocolClass {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
    /// Every other protocol.
    Other,
}

/// The service and server that a flow was assigned to, and its inside leg if it is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Placement {
    /// The virtual service.
    pub service: ServiceId,
    /// The real server.
    pub server: ServerId,
    /// How often the server had gone down, in the flow's address family, when it was chosen.
    pub server_failures: u32,
    /// The inside leg as the 5-tuple of the first packet after translation; `None` for forwarding modes that do not
    /// translate (`direct`, `tunnel`).
    pub inside: Option<FlowKey>,
}

impl Placement {
    /// Both legs of the flow, of which `outside` is the 5-tuple of the first packet before translation. `None` if it is
    /// not translated.
    pub fn translation(&self, outside: FlowKey) -> Option<Translation> {
        self.inside.map(|inside| Translation { outside, inside })
    }
}

/// What is remembered of one flow in both directions. The table keeps its ends separately, as the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// The direction of the first packet.
    pub original_direction: Direction,
    /// The protocol class, which selects the timeouts.
    pub class: ProtocolClass,
    /// The state of the conversation.
    pub state: ConversationState,
    /// The flags from which the TCP state is computed.
    seen_flags: SeenFlags,
    /// The worker that opened the session and expires it. The table sets this.
    worker: u16,
    /// The firewall for packets to the low end, if that end is behind a group.
    pub toward_low: Option<Pin>,
    /// The firewall for packets to the high end, if that end is behind a group.
    pub toward_high: Option<Pin>,
    /// When the session was opened; the table keeps this in milliseconds.
    pub created: Instant,
    /// Time of the last packet.
    pub last_seen: Instant,
    /// Number of packets in both directions.
    pub packets: u64,
    /// Bytes of IP packets in both directions.
    pub bytes: u64,
    /// TCP: the next sequence number toward the low end, which is the highest that was forwarded plus its length. If
    /// the engine does not see the replies, it is the highest that the low end acknowledged.
    pub next_to_low: u32,
    /// TCP: the next sequence number toward the high end, in the same way.
    pub next_to_high: u32,
    /// TCP: the highest number that the low end acknowledged, which is at most what it expects next.
    pub acked_by_low: u32,
    /// TCP: the highest number that the high end acknowledged.
    pub acked_by_high: u32,
    /// TCP: the sequence number after a SYN that arrived while the connection was established, modulo 2^24.
    other_syn: u32,
}

impl ProtocolClass {
    /// The class of an IP protocol number.
    pub const fn of(protocol: u8) -> Self {
        match protocol {
            protocol::TCP => Self::Tcp,
            protocol::UDP => Self::Udp,
            protocol::ICMP | protocol::ICMPV6 => Self::Icmp,
            _ => Self::Other,
        }
    }
}

impl Session {
    /// The session of a flow whose first packet goes in `direction`. [`Session::record_packet`] has to be called for
    /// that packet too.
    pub fn new(key: &CanonicalKey, direction: Direction, now: Instant) -> Self {
        let class = ProtocolClass::of(key.protocol());
        let state = match class {
            ProtocolClass::Tcp => ConversationState::Tcp(TcpState::Opening),
            ProtocolClass::Udp | ProtocolClass::Icmp | ProtocolClass::Other => ConversationState::OneWay,
        };
        Self {
            original_direction: direction,
            class,
            state,
            seen_flags: SeenFlags::default(),
            worker: 0,
            toward_low: None,
            toward_high: None,
            created: now,
            last_seen: now,
            packets: 0,
            bytes: 0,
            next_to_low: 0,
            next_to_high: 0,
            acked_by_low: 0,
            acked_by_high: 0,
            other_syn: 0,
        }
    }

    /// Declares, before the first packet, that the engine will not see the replies (direct server return), so that the
    /// packets of one end have to do for both.
    pub fn expect_no_replies(&mut self) {
        self.seen_flags.expect_no_replies();
    }

    /// The number of the worker that opened the session.
    pub fn worker(&self) -> u16 {
        self.worker
    }

    /// What another node has to know of the conversation besides its state, for [`Session::resume`].
    pub fn told_flags(&self) -> u8 {
        self.seen_flags.told()
    }

    /// Makes a new session one that goes on in this state. `flags` are the [`Session::told_flags`] that another node
    /// told. The numbers of a TCP connection are learned anew from the packets to come, as of a connection in
    /// mid-stream.
    pub fn resume(&mut self, state: ConversationState, flags: u8) {
        self.state = state;
        self.seen_flags = SeenFlags::from_told(flags);
    }

    /// Makes an established connection a closed one if `copy` says that it is closed. True if that changed it.
    pub fn close_with(&mut self, copy: &Self) -> bool {
        let closing = ConversationState::Tcp(TcpState::Closing);
        let is_news = self.state == ConversationState::Tcp(TcpState::Established) && copy.state == closing;
        if is_news {
            self.state = closing;
            self.seen_flags.add(copy.seen_flags);
        }
        is_news
    }

    /// True if the sequence number of the next segment in `direction` is known.
    pub fn knows_next(&self, direction: Direction) -> bool {
        self.seen_flags.has_next_to(direction)
    }

    /// True for a TCP connection whose opener has had no credible answer: no segment but resets came from the other
    /// end.
    pub fn is_unanswered(&self) -> bool {
        self.state == ConversationState::Tcp(TcpState::Opening)
            && !self.seen_flags.has_sent(self.original_direction.reversed())
    }

    /// Counts a packet in `direction` and updates the state. `tcp` is `None` for other protocols and for TCP fragments
    /// after the first. ICMP errors are not packets of the flow that they quote (RFC 5382 REQ-10), and must not be
    /// passed here.
    pub fn record_packet(&mut self, direction: Direction, tcp: Option<&TcpSegment>, bytes: usize, now: Instant) {
        self.last_seen = self.last_seen.max(now);
        self.packets += 1;
        self.bytes += bytes as u64;
        self.state = match (self.state, tcp) {
            (ConversationState::Tcp(state), Some(segment)) => {
                ConversationState::Tcp(self.update_tcp(state, direction, segment))
            }
            (ConversationState::Tcp(state), None) => ConversationState::Tcp(state),
            (ConversationState::OneWay, _) if direction != self.original_direction => ConversationState::TwoWay,
            // An end that sends again has got a reply that the engine did not see, or needs none.
            (ConversationState::OneWay, _) if self.packets > 1 && self.seen_flags.expects_no_replies() => {
                ConversationState::TwoWay
            }
            (state @ (ConversationState::OneWay | ConversationState::TwoWay), _) => state,
        };
    }

    /// The pin toward the destination of packets in `direction`.
    pub fn pin_toward_destination(&mut self, direction: Direction) -> &mut Option<Pin> {
        match direction {
            Direction::LowToHigh => &mut self.toward_high,
            Direction::HighToLow => &mut self.toward_low,
        }
    }

    /// The pin toward the source of packets in `direction`.
    pub fn pin_toward_source(&mut self, direction: Direction) -> &mut Option<Pin> {
        self.pin_toward_destination(direction.reversed())
    }

    /// True while the session is a load on its server. A connection that was closed or reset is only remembered for
    /// packets that are still on their way.
    pub fn is_active(&self) -> bool {
        match self.state {
            ConversationState::Tcp(TcpState::Closing) => false,
            ConversationState::Tcp(TcpState::Opening | TcpState::Established)
            | ConversationState::OneWay
            | ConversationState::TwoWay => true,
        }
    }

    /// How long the session may be idle in its state.
    pub fn timeout(&self, timeouts: &Timeouts) -> Duration {
        match (self.state, self.class) {
            (ConversationState::Tcp(TcpState::Opening), _) => timeouts.tcp_syn,
            (ConversationState::Tcp(TcpState::Established), _) => timeouts.tcp_established,
            (ConversationState::Tcp(TcpState::Closing), _) => timeouts.tcp_closing,
            (ConversationState::OneWay, ProtocolClass::Udp) => timeouts.udp_new,
            (ConversationState::TwoWay, ProtocolClass::Udp) => timeouts.udp,
            (ConversationState::OneWay | ConversationState::TwoWay, ProtocolClass::Icmp) => timeouts.icmp,
            (ConversationState::OneWay | ConversationState::TwoWay, ProtocolClass::Other | ProtocolClass::Tcp) => {
                timeouts.other
            }
        }
    }

    /// When the session expires if no packet arrives.
    pub fn expires(&self, timeouts: &Timeouts) -> Instant {
        self.last_seen + self.timeout(timeouts)
    }

    /// True if both ends of a TCP connection have sent FIN. A closing connection without that was reset.
    pub fn was_closed(&self) -> bool {
        self.seen_flags.saw_both_fins()
    }

    /// True until both ends have sent packets. Such sessions are evicted first, since floods consist of them.
    pub fn is_half_open(&self) -> bool {
        match self.state {
            ConversationState::Tcp(TcpState::Opening) | ConversationState::OneWay => true,
            ConversationState::Tcp(TcpState::Closing) => !self.seen_flags.was_established(),
            ConversationState::Tcp(TcpState::Established) | ConversationState::TwoWay => false,
        }
    }
}

impl Timeouts {
    /// The shortest timeout of any state in this class. A session that is checked this often expires in time, whatever
    /// its state becomes in between.
    fn shortest(&self, class: ProtocolClass) -> Duration {
        match class {
            ProtocolClass::Tcp => self.tcp_syn.min(self.tcp_established).min(self.tcp_closing),
            ProtocolClass::Udp => self.udp_new.min(self.udp),
            ProtocolClass::Icmp => self.icmp,
            ProtocolClass::Other => self.other,
        }
    }
}

/// Locks a mutex of the table. No code panics in the middle of a change under such a lock, so that a poisoned one is
/// consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
