//! The TCP state that decides a session's timeout. It never decides whether a packet passes: the firewall does security.
//!
//! ```text
//!            both ends acknowledge, or both      FIN both ways,
//!            speak in mid-stream                 or RST
//!  Opening ───────────────────────► Established ─────────────► Closing
//!     │  ▲                               ▲                      │  │
//!     │  └───────────────────────────────┼──────────────────────┘  │
//!     │                              SYN └─────────────────────────┘
//!     └──────────────► Closing           both ends speak on after an RST, which therefore was none of theirs
//!            RST
//! ```

use crate::flow::Direction;
use crate::session::Session;
use crate::wire::frame::TcpSegment;
use crate::wire::frame::tcp_flags::{ACK, FIN, RST, SYN};

/// Coarse connection state, as seen from the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TcpState {
    /// A SYN was seen, the handshake is not complete; or one end alone speaks in mid-stream.
    Opening,
    /// Both ends have acknowledged, or the flow was picked up in mid-stream in both directions.
    Established,
    /// FIN was seen both ways, or RST.
    Closing,
}

/// True if a segment with these flags may open a session: a SYN, a SYN/ACK, or a segment in mid-stream. Null, FIN and Xmas
/// scans, SYN with FIN or RST, and resets follow the hash and leave no trace (CORRECTNESS A9.3).
pub const fn opens_session(flags: u8) -> bool {
    match flags & (SYN | FIN | RST | ACK) {
        SYN => true,
        of_a_stream => of_a_stream & (RST | ACK) == ACK && !is_odd(flags),
    }
}

/// No TCP sends these: SYN with FIN or RST, and segments other than SYN or RST without ACK.
const fn is_odd(flags: u8) -> bool {
    let two_of_a_kind = flags & SYN != 0 && flags & (FIN | RST) != 0;
    two_of_a_kind || flags & (SYN | RST | ACK) == 0
}

/// How far behind the highest sequence number an acknowledgement of the handshake may lie: what a server may send at once
/// with TCP Fast Open, and no more, so that a blind ACK completes no handshake.
const HANDSHAKE_WINDOW: u32 = 1 << 16;

/// Bits that the state is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen(u8);

impl Seen {
    const LOW_SPOKE: u8 = 1;
    const HIGH_SPOKE: u8 = 1 << 1;
    const BOTH_SPOKE: u8 = Self::LOW_SPOKE | Self::HIGH_SPOKE;
    const LOW_FIN: u8 = 1 << 2;
    const HIGH_FIN: u8 = 1 << 3;
    const BOTH_FIN: u8 = Self::LOW_FIN | Self::HIGH_FIN;
    const ESTABLISHED: u8 = 1 << 4;
    /// [`Session::next_to_low`] and [`Session::next_to_high`] mean something.
    const NEXT_TO_LOW: u8 = 1 << 5;
    const NEXT_TO_HIGH: u8 = 1 << 6;
    /// The replies pass the engine by.
    const NO_REPLIES: u8 = 1 << 7;

    /// True if segments that only speak can change nothing more: both ends spoke, were heard, and have not both finished.
    pub(super) const fn is_settled(self) -> bool {
        let needed = Self::BOTH_SPOKE | Self::ESTABLISHED | Self::NEXT_TO_LOW | Self::NEXT_TO_HIGH;
        self.has(needed) && !self.expects_no_replies() && !self.has(Self::BOTH_FIN)
    }

    /// As one byte.
    pub(super) const fn bits(self) -> u8 {
        self.0
    }

    /// From [`Seen::bits`].
    pub(super) const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    pub(super) fn expect_no_replies(&mut self) {
        self.set(Self::NO_REPLIES);
    }

    pub(super) const fn expects_no_replies(self) -> bool {
        self.has(Self::NO_REPLIES)
    }

    /// True if both ends said what `bits` say, or the one that is heard at all.
    const fn has_both(self, bits: u8) -> bool {
        self.has(bits) || (self.expects_no_replies() && self.0 & bits != 0)
    }

    /// Another connection between the same ends.
    const fn renewed(self) -> Self {
        Self(self.0 & Self::NO_REPLIES)
    }

    pub(super) const fn saw_both_fins(self) -> bool {
        self.has_both(Self::BOTH_FIN)
    }

    pub(super) const fn was_established(self) -> bool {
        self.has(Self::ESTABLISHED)
    }

    const fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    fn set(&mut self, bits: u8) {
        self.0 |= bits;
    }

    fn clear(&mut self, bits: u8) {
        self.0 &= !bits;
    }

    fn spoke(from: Direction) -> u8 {
        match from {
            Direction::LowToHigh => Self::LOW_SPOKE,
            Direction::HighToLow => Self::HIGH_SPOKE,
        }
    }

    fn fin(from: Direction) -> u8 {
        match from {
            Direction::LowToHigh => Self::LOW_FIN,
            Direction::HighToLow => Self::HIGH_FIN,
        }
    }

    fn next_to(direction: Direction) -> u8 {
        match direction {
            Direction::LowToHigh => Self::NEXT_TO_HIGH,
            Direction::HighToLow => Self::NEXT_TO_LOW,
        }
    }
}

/// What the state machine looks at in a segment.
enum Event {
    /// SYN without ACK.
    Syn,
    /// RST.
    Reset,
    /// FIN with ACK.
    Fin,
    /// SYN with ACK, or anything with ACK.
    Speak,
    /// What no TCP sends.
    Odd,
}

impl Event {
    const fn of(flags: u8) -> Self {
        if is_odd(flags) {
            Self::Odd
        } else if flags & RST != 0 {
            Self::Reset
        } else if flags & FIN != 0 {
            Self::Fin
        } else if flags & (SYN | ACK) == SYN {
            Self::Syn
        } else {
            Self::Speak
        }
    }
}

impl Session {
    /// The state after a segment that goes in `direction`.
    pub(super) fn observe_tcp(&mut self, state: TcpState, direction: Direction, segment: &TcpSegment) -> TcpState {
        let event = Event::of(segment.flags);
        let next = match (state, event) {
            (TcpState::Opening | TcpState::Closing, Event::Syn) => {
                self.reopen(state, direction);
                TcpState::Opening
            }
            (TcpState::Established, Event::Syn) | (_, Event::Odd) => return state,
            (_, Event::Reset) => {
                self.seen.clear(Seen::BOTH_SPOKE);
                return TcpState::Closing;
            }
            (TcpState::Opening | TcpState::Established | TcpState::Closing, Event::Fin) => {
                self.seen.set(Seen::fin(direction));
                self.speak(state, direction, segment)
            }
            (TcpState::Opening | TcpState::Established | TcpState::Closing, Event::Speak) => {
                self.speak(state, direction, segment)
            }
        };
        self.advance(direction, segment.sequence.wrapping_add(segment.length));
        if self.seen.expects_no_replies() && direction == self.opened && segment.flags & ACK != 0 {
            // What its peer says next, whom nobody hears here.
            self.advance(direction.reversed(), segment.acknowledgement);
        }
        if next == TcpState::Established {
            self.seen.set(Seen::ESTABLISHED);
        }
        next
    }

    fn reopen(&mut self, state: TcpState, direction: Direction) {
        match state {
            // A retransmitted or crossing SYN.
            TcpState::Opening | TcpState::Established => {}
            // Another connection between the same ends; its sequence numbers begin anew.
            TcpState::Closing => self.seen = self.seen.renewed(),
        }
        if !self.seen.has(Seen::spoke(direction)) {
            self.seen.clear(Seen::next_to(direction));
        }
    }

    fn speak(&mut self, state: TcpState, direction: Direction, segment: &TcpSegment) -> TcpState {
        if state == TcpState::Closing && self.seen.has_both(Seen::BOTH_FIN) {
            return TcpState::Closing;
        }
        if state != TcpState::Opening || self.acknowledges(direction, segment) {
            self.seen.set(Seen::spoke(direction));
        }
        match (self.seen.has_both(Seen::BOTH_SPOKE), self.seen.has_both(Seen::BOTH_FIN)) {
            (_, true) => TcpState::Closing,
            (true, false) => TcpState::Established,
            (false, false) => state,
        }
    }

    /// False if the segment acknowledges what its sender was not sent.
    fn acknowledges(&self, direction: Direction, segment: &TcpSegment) -> bool {
        let (known, next) = match direction {
            Direction::LowToHigh => (Seen::NEXT_TO_LOW, self.next_to_low),
            Direction::HighToLow => (Seen::NEXT_TO_HIGH, self.next_to_high),
        };
        !self.seen.has(known) || next.wrapping_sub(segment.acknowledgement) < HANDSHAKE_WINDOW
    }

    /// Moves the next sequence number of the direction forward, in serial arithmetic (RFC 1982).
    fn advance(&mut self, direction: Direction, end: u32) {
        let known = self.seen.has(Seen::next_to(direction));
        let next = match direction {
            Direction::LowToHigh => &mut self.next_to_high,
            Direction::HighToLow => &mut self.next_to_low,
        };
        if !known || end.wrapping_sub(*next) < 1 << 31 {
            *next = end;
        }
        self.seen.set(Seen::next_to(direction));
    }
}

#[cfg(test)]
mod tests;
