//! What is remembered of a flow, how long, and what is forgotten first.
//!
//! [`Session`] is what is remembered of one flow, [`SessionTable`] finds it, a [`SessionWorker`] opens, ends and forgets.
//! The conversation's state decides only the timeout: whether a packet passes is the firewall's business. No guard of the
//! table leaves this room: who asks gets a copy or a number.

mod cell;
mod hold;
mod index;
mod links;
mod live;
mod memory;
mod record;
mod sources;
pub mod table;
pub mod tcp;
mod walk;
pub mod wheel;
mod worker;
mod worth;

use crate::flow::{CanonicalKey, Direction, FlowKey};
use crate::id::{ServerId, ServiceId};
use crate::nat::Translation;
use crate::path::pinning::Pin;
use crate::time::{Duration, Instant};
use crate::wire::frame::{TcpSegment, protocol};

pub use live::Live;
pub use sources::{OverLimit, Refusal, SourceLimits, Sources};
pub use table::{EndReason, Opened, Removed, SessionId, SessionTable, Sweep, Wanted};
pub use tcp::TcpState;
pub use worker::SessionWorker;

use tcp::Seen;

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

impl State {
    /// The word by which operators know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp(TcpState::Opening) => "opening",
            Self::Tcp(TcpState::Established) => "established",
            Self::Tcp(TcpState::Closing) => "closing",
            Self::OneWay => "one-way",
            Self::TwoWay => "two-way",
        }
    }
}

/// Protocols that are timed alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
    /// Everything else.
    Other,
}

/// What a virtual service made of a flow: where it was placed, and what it looks like there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bound {
    /// The service.
    pub service: ServiceId,
    /// The server.
    pub server: ServerId,
    /// The server's falls in the flow's family when it was chosen.
    pub fall: u32,
    /// The inside leg as the first packet leaves; `None` where packets go to the server as they came (`direct`, `tunnel`).
    pub inside: Option<FlowKey>,
}

impl Bound {
    /// Both legs of a flow whose outside leg is `outside`, first packet's source first.
    pub fn translation(&self, outside: FlowKey) -> Option<Translation> {
        self.inside.map(|inside| Translation { outside, inside })
    }
}

/// What is remembered of one flow, both directions. Its ends are the key under which the table keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Which way its first packet went.
    pub opened: Direction,
    /// How it is timed.
    pub class: Class,
    /// Conversation state.
    pub state: State,
    /// What the TCP state is made from.
    seen: Seen,
    /// The worker that opened it, and that expires it. Set by the table.
    worker: u16,
    /// Firewall toward the low end, if that end is behind a group.
    pub toward_low: Option<Pin>,
    /// Firewall toward the high end, if that end is behind a group.
    pub toward_high: Option<Pin>,
    /// When it was opened; the table keeps it in milliseconds.
    pub created: Instant,
    /// Time of its last packet.
    pub last_seen: Instant,
    /// Packets, both directions.
    pub packets: u64,
    /// Bytes of IP, both directions.
    pub bytes: u64,
    /// TCP: the next sequence number toward the low end: highest forwarded plus its length; where the replies pass the engine
    /// by, the highest that the low end acknowledged.
    pub next_to_low: u32,
    /// TCP: the same toward the high end.
    pub next_to_high: u32,
    /// TCP: what the low end acknowledged; it expects at least this next.
    pub acked_by_low: u32,
    /// TCP: the same of the high end.
    pub acked_by_high: u32,
    /// TCP: of a SYN that came while the connection was established, the number after it, modulo 2^24.
    other_syn: u32,
}

impl Class {
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
    /// A session of a flow whose first packet goes in `direction`. [`Session::observe`] is to be called for that packet too.
    pub fn new(key: &CanonicalKey, direction: Direction, now: Instant) -> Self {
        let class = Class::of(key.protocol());
        let state = match class {
            Class::Tcp => State::Tcp(TcpState::Opening),
            Class::Udp | Class::Icmp | Class::Other => State::OneWay,
        };
        Self {
            opened: direction,
            class,
            state,
            seen: Seen::default(),
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

    /// From the first packet on: the replies pass the engine by, so that what one end says has to do for both.
    pub fn expect_no_replies(&mut self) {
        self.seen.expect_no_replies();
    }

    /// Counts a packet that goes in `direction` and takes the conversation further. `tcp` is `None` for other protocols and
    /// for TCP fragments after the first. ICMP errors are no packets of their flow (RFC 5382 REQ-10): do not call it for them.
    pub fn observe(&mut self, direction: Direction, tcp: Option<&TcpSegment>, bytes: usize, now: Instant) {
        self.last_seen = self.last_seen.max(now);
        self.packets += 1;
        self.bytes += bytes as u64;
        self.state = match (self.state, tcp) {
            (State::Tcp(state), Some(segment)) => State::Tcp(self.observe_tcp(state, direction, segment)),
            (State::Tcp(state), None) => State::Tcp(state),
            (State::OneWay, _) if direction != self.opened => State::TwoWay,
            // Who speaks again was answered, or does not wait for an answer.
            (State::OneWay, _) if self.packets > 1 && self.seen.expects_no_replies() => State::TwoWay,
            (state @ (State::OneWay | State::TwoWay), _) => state,
        };
    }

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

    /// True while it is a load for its server: a connection that both ends have closed, or one has reset, is only remembered
    /// for what may still be on its way.
    pub fn is_active(&self) -> bool {
        match self.state {
            State::Tcp(TcpState::Closing) => false,
            State::Tcp(TcpState::Opening | TcpState::Established) | State::OneWay | State::TwoWay => true,
        }
    }

    /// How long it may be idle in its state.
    pub fn timeout(&self, timeouts: &Timeouts) -> Duration {
        match (self.state, self.class) {
            (State::Tcp(TcpState::Opening), _) => timeouts.tcp_syn,
            (State::Tcp(TcpState::Established), _) => timeouts.tcp_established,
            (State::Tcp(TcpState::Closing), _) => timeouts.tcp_closing,
            (State::OneWay, Class::Udp) => timeouts.udp_new,
            (State::TwoWay, Class::Udp) => timeouts.udp,
            (State::OneWay | State::TwoWay, Class::Icmp) => timeouts.icmp,
            (State::OneWay | State::TwoWay, Class::Other | Class::Tcp) => timeouts.other,
        }
    }

    /// When it is forgotten if nothing comes.
    pub fn expires(&self, timeouts: &Timeouts) -> Instant {
        self.last_seen + self.timeout(timeouts)
    }

    /// True if both ends of a TCP connection said that they are done; one that ended otherwise was reset.
    pub fn was_closed(&self) -> bool {
        self.seen.saw_both_fins()
    }

    /// True until both ends have spoken: such sessions are evicted first, as a flood consists of them.
    pub fn is_half_open(&self) -> bool {
        match self.state {
            State::Tcp(TcpState::Opening) | State::OneWay => true,
            State::Tcp(TcpState::Closing) => !self.seen.was_established(),
            State::Tcp(TcpState::Established) | State::TwoWay => false,
        }
    }
}

impl Timeouts {
    /// The shortest timeout that a session of this class may come under. A session that is looked at this often is
    /// forgotten in time, whatever its state becomes in between.
    fn shortest(&self, class: Class) -> Duration {
        match class {
            Class::Tcp => self.tcp_syn.min(self.tcp_established).min(self.tcp_closing),
            Class::Udp => self.udp_new.min(self.udp),
            Class::Icmp => self.icmp,
            Class::Other => self.other,
        }
    }
}
