//! The TCP state that decides a session's timeout. It never decides whether a packet passes: the firewall does security.
//!
//! Anybody who knows the ends of a connection can send segments with their addresses, so what ends or begins a connection counts
//! only where its receiver obeys it (RFC 5961): an RST with the very number that the receiver expects next, a FIN and an ACK
//! that lie near what both ends said before. Whatever else comes is passed on and changes nothing here.
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

/// How far a segment may lie from the next sequence number: as much as ends have on the way at once. RFC 7323 section 2.3 allows
/// windows of 2^30 bytes; 2^24 is more than systems grow theirs to by themselves.
const WINDOW: u32 = 1 << 24;

/// How far an acknowledgement may lie behind a later one that overtook it.
const OVERTAKEN: u32 = 1 << 16;

/// True for a segment that ends at `end` and acknowledges `ack`, where its receiver expected `next` and its sender had
/// acknowledged `acked` of what was sent to him up to `sent`, if all lie as near as they mostly do: within what devices hand over
/// in one piece. Such a segment is credible.
#[inline]
pub(super) const fn is_near(end: u32, next: u32, acked: u32, ack: u32, sent: u32) -> bool {
    end.wrapping_sub(next).wrapping_add(OVERTAKEN) < 2 * OVERTAKEN
        && ack.wrapping_sub(acked).wrapping_add(OVERTAKEN) < WINDOW
        && sent.wrapping_sub(ack) < 1 << 30
}

/// The later of two numbers, in serial arithmetic (RFC 1982).
#[inline]
pub(super) const fn later(known: u32, other: u32) -> u32 {
    if other.wrapping_sub(known) < 1 << 31 { other } else { known }
}

/// What is remembered of [`Session::other_syn`].
pub(super) const OTHER_SYN: u32 = (1 << 24) - 1;

/// Bits that the state is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen(u16);

impl Seen {
    const LOW_SPOKE: u16 = 1;
    const HIGH_SPOKE: u16 = 1 << 1;
    const BOTH_SPOKE: u16 = Self::LOW_SPOKE | Self::HIGH_SPOKE;
    const LOW_FIN: u16 = 1 << 2;
    const HIGH_FIN: u16 = 1 << 3;
    const BOTH_FIN: u16 = Self::LOW_FIN | Self::HIGH_FIN;
    const ESTABLISHED: u16 = 1 << 4;
    /// [`Session::next_to_low`] and [`Session::next_to_high`] mean something.
    const NEXT_TO_LOW: u16 = 1 << 5;
    const NEXT_TO_HIGH: u16 = 1 << 6;
    /// The replies pass the engine by.
    const NO_REPLIES: u16 = 1 << 7;

    /// [`Session::other_syn`] means something, and who sent it.
    const LOW_OTHER_SYN: u16 = 1 << 8;
    const HIGH_OTHER_SYN: u16 = 1 << 9;

    /// True if segments that only speak can change nothing more: both ends spoke, were heard, and have not both finished.
    pub(super) const fn is_settled(self) -> bool {
        let needed = Self::BOTH_SPOKE | Self::ESTABLISHED | Self::NEXT_TO_LOW | Self::NEXT_TO_HIGH;
        self.has(needed) && !self.expects_no_replies() && !self.has(Self::BOTH_FIN)
    }

    /// As a number.
    pub(super) const fn bits(self) -> u16 {
        self.0
    }

    /// From [`Seen::bits`].
    pub(super) const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    pub(super) fn expect_no_replies(&mut self) {
        self.set(Self::NO_REPLIES);
    }

    pub(super) const fn expects_no_replies(self) -> bool {
        self.has(Self::NO_REPLIES)
    }

    /// True if both ends said what `bits` say, or the one that is heard at all.
    const fn has_both(self, bits: u16) -> bool {
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

    const fn has(self, bits: u16) -> bool {
        self.0 & bits == bits
    }

    fn set(&mut self, bits: u16) {
        self.0 |= bits;
    }

    fn clear(&mut self, bits: u16) {
        self.0 &= !bits;
    }

    fn spoke(from: Direction) -> u16 {
        match from {
            Direction::LowToHigh => Self::LOW_SPOKE,
            Direction::HighToLow => Self::HIGH_SPOKE,
        }
    }

    fn fin(from: Direction) -> u16 {
        match from {
            Direction::LowToHigh => Self::LOW_FIN,
            Direction::HighToLow => Self::HIGH_FIN,
        }
    }

    fn other_syn(from: Direction) -> u16 {
        match from {
            Direction::LowToHigh => Self::LOW_OTHER_SYN,
            Direction::HighToLow => Self::HIGH_OTHER_SYN,
        }
    }

    fn set_other_syn(&mut self, from: Direction) {
        self.clear(Self::LOW_OTHER_SYN | Self::HIGH_OTHER_SYN);
        self.set(Self::other_syn(from));
    }

    fn clear_other_syn(&mut self, from: Direction) {
        self.clear(Self::other_syn(from));
    }

    fn has_other_syn(self, from: Direction) -> bool {
        self.has(Self::other_syn(from))
    }

    fn next_to(direction: Direction) -> u16 {
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
        match (state, Event::of(segment.flags)) {
            (_, Event::Odd) | (TcpState::Closing, Event::Reset) => state,
            (TcpState::Established, Event::Syn) => {
                self.other_syn = segment.end() & OTHER_SYN;
                self.seen.set_other_syn(direction);
                state
            }
            (TcpState::Opening | TcpState::Established, Event::Reset) => {
                if !self.obeys_reset(state, direction, segment) {
                    return state;
                }
                self.seen.clear(Seen::BOTH_SPOKE);
                TcpState::Closing
            }
            (TcpState::Opening | TcpState::Closing, Event::Syn) => {
                self.reopen(state, direction);
                self.advance(direction, segment.end());
                TcpState::Opening
            }
            (TcpState::Opening | TcpState::Established | TcpState::Closing, Event::Fin | Event::Speak) => {
                if self.is_credible(state, direction, segment) {
                    self.seen.clear_other_syn(direction.reversed());
                    self.speak(state, direction, segment)
                } else {
                    self.renumber(direction, segment);
                    state
                }
            }
        }
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

    /// What a credible segment with ACK, which may have FIN or SYN too, does.
    fn speak(&mut self, state: TcpState, direction: Direction, segment: &TcpSegment) -> TcpState {
        let is_over = state == TcpState::Closing && self.seen.has_both(Seen::BOTH_FIN);
        let proves_itself = state == TcpState::Opening && self.acknowledges(direction, segment) == Some(true);
        if proves_itself && !self.seen.has(Seen::spoke(direction)) {
            // It knows what only its peer can have told it: what was said before in its name may be anybody's.
            self.seen.clear(Seen::next_to(direction));
        }
        if !is_over {
            self.hear(direction, segment);
        }
        self.advance(direction, segment.end());
        match (self.seen.has_both(Seen::BOTH_SPOKE), self.seen.has_both(Seen::BOTH_FIN)) {
            _ if is_over => TcpState::Closing,
            (_, true) => TcpState::Closing,
            (true, false) => {
                self.seen.set(Seen::ESTABLISHED);
                TcpState::Established
            }
            (false, false) => state,
        }
    }

    /// A SYN/ACK that answers a SYN on the established connection: its sender knows nothing of that connection any more, as it
    /// would have challenged the SYN with an ACK (RFC 5961 section 4.2), and its numbers are those of another one.
    fn renumber(&mut self, direction: Direction, segment: &TcpSegment) {
        let opener = direction.reversed();
        let answers = segment.flags & (SYN | ACK) == SYN | ACK
            && self.seen.has_other_syn(opener)
            && segment.acknowledgement & OTHER_SYN == self.other_syn;
        if !answers {
            return;
        }
        self.seen.clear_other_syn(opener);
        self.seen.clear(Seen::BOTH_FIN | Seen::NEXT_TO_LOW | Seen::NEXT_TO_HIGH);
        for (from, end, ack) in
            [(direction, segment.end(), segment.acknowledgement), (opener, segment.acknowledgement, segment.end())]
        {
            self.advance(from, end);
            *self.acked_by_source_mut(from) = ack;
        }
    }

    /// Remembers that an end spoke, and what it acknowledged.
    fn hear(&mut self, direction: Direction, segment: &TcpSegment) {
        let known = self.seen.has(Seen::spoke(direction));
        let acked = self.acked_by_source_mut(direction);
        *acked = if known { later(*acked, segment.acknowledgement) } else { segment.acknowledgement };
        self.seen.set(Seen::spoke(direction));
        if segment.flags & FIN != 0 {
            self.seen.set(Seen::fin(direction));
        }
        if self.is_heard_alone(direction) {
            // What its peer says next, whom nobody hears here.
            self.advance(direction.reversed(), segment.acknowledgement);
        }
    }

    /// Before the handshake is complete: whether the segment acknowledges what its sender was sent, if that is known; `None` if it
    /// acknowledges anything else.
    fn acknowledges(&self, direction: Direction, segment: &TcpSegment) -> Option<bool> {
        match self.next_expected(direction.reversed()) {
            None => Some(false),
            // Known from acknowledgements only.
            Some(_) if self.is_heard_alone(direction) => Some(false),
            Some(next) => (next.wrapping_sub(segment.acknowledgement) < HANDSHAKE_WINDOW).then_some(true),
        }
    }

    /// False for a segment with ACK that cannot be of this connection, as far as that is known: it lies outside every window, or
    /// acknowledges what its sender was never sent, or acknowledged long ago (RFC 5961 section 5.2).
    fn is_credible(&self, state: TcpState, direction: Direction, segment: &TcpSegment) -> bool {
        if state == TcpState::Opening && self.acknowledges(direction, segment).is_none() {
            return false;
        }
        // Before, nothing is known that its sender said for sure.
        if !self.seen.has(Seen::spoke(direction)) {
            return true;
        }
        let is_alone = self.is_heard_alone(direction);
        // Whom nobody answers here is not held by what the other end says, so his FIN has to lie nearer.
        let reach = if is_alone && segment.flags & FIN != 0 { OVERTAKEN } else { WINDOW };
        let is_in_window = self
            .next_expected(direction)
            .is_none_or(|next| segment.end().wrapping_sub(next).wrapping_add(reach) < 2 * reach);
        let acked = self.acked_by_source(direction);
        let from_acked = segment.acknowledgement.wrapping_sub(acked).wrapping_add(OVERTAKEN);
        let may_be_acknowledged = match self.next_expected(direction.reversed()) {
            Some(next) if !is_alone => later(acked, next).wrapping_sub(acked).wrapping_add(OVERTAKEN),
            Some(_) | None => WINDOW,
        };
        is_in_window && from_acked <= may_be_acknowledged
    }

    /// True for the end whose peer's packets pass the engine by.
    fn is_heard_alone(&self, direction: Direction) -> bool {
        self.seen.expects_no_replies() && direction == self.opened
    }

    /// True for an RST that its receiver obeys: with the very sequence number that it expects (RFC 5961 section 3.2), or before the
    /// handshake is complete one that acknowledges its SYN (RFC 9293 section 3.10.7.3). What the receiver expects lies between
    /// what it acknowledged last and the end of what it was sent; who resets uses one of the two, as he answers a segment of the
    /// receiver or ends what he sent himself. The sender of a FIN may leave that out (as `tcp_reset_check` of Linux knows).
    fn obeys_reset(&self, state: TcpState, direction: Direction, segment: &TcpSegment) -> bool {
        let answers_syn = || {
            let syn = self.next_expected(direction.reversed());
            segment.flags & ACK != 0
                && syn.is_some_and(|next| next.wrapping_sub(segment.acknowledgement) < HANDSHAKE_WINDOW)
        };
        let is_next = self.next_expected(direction).is_some_and(|next| {
            segment.sequence == next
                || (self.seen.has(Seen::fin(direction)) && segment.sequence.wrapping_add(1) == next)
        });
        let receiver = direction.reversed();
        let is_acked = || self.seen.has(Seen::spoke(receiver)) && segment.sequence == self.acked_by_source(receiver);
        is_next || is_acked() || (state == TcpState::Opening && answers_syn())
    }

    /// The next sequence number of packets in `direction`, if one was seen.
    fn next_expected(&self, direction: Direction) -> Option<u32> {
        let next = match direction {
            Direction::LowToHigh => self.next_to_high,
            Direction::HighToLow => self.next_to_low,
        };
        self.seen.has(Seen::next_to(direction)).then_some(next)
    }

    /// What the sender of packets in `direction` acknowledged.
    const fn acked_by_source(&self, direction: Direction) -> u32 {
        match direction {
            Direction::LowToHigh => self.acked_by_low,
            Direction::HighToLow => self.acked_by_high,
        }
    }

    fn acked_by_source_mut(&mut self, direction: Direction) -> &mut u32 {
        match direction {
            Direction::LowToHigh => &mut self.acked_by_low,
            Direction::HighToLow => &mut self.acked_by_high,
        }
    }

    /// Moves the next sequence number of the direction forward.
    fn advance(&mut self, direction: Direction, end: u32) {
        let next = self.next_expected(direction).map_or(end, |known| later(known, end));
        *match direction {
            Direction::LowToHigh => &mut self.next_to_high,
            Direction::HighToLow => &mut self.next_to_low,
        } = next;
        self.seen.set(Seen::next_to(direction));
    }
}

#[cfg(test)]
mod tests;
