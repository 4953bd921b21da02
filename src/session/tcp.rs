//! The TCP state that decides a session's timeout. It never decides whether a packet passes: security is the firewall's
//! task.
//!
//! Anybody who knows the ends of a connection can send segments with their addresses. A segment therefore begins or
//! ends a connection here only if its receiver would accept it (RFC 5961): an RST must have exactly the sequence number
//! that the receiver expects next, and a FIN or ACK must lie near what both ends sent before. All other segments are
//! forwarded without changing the state.
//!
//! ```text
//!            both ends acknowledge, or both      FIN both ways,
//!            send in mid-stream                  or RST
//!  Opening ───────────────────────► Established ─────────────► Closing
//!     │  ▲                               ▲                      │  │
//!     │  └───────────────────────────────┼──────────────────────┘  │
//!     │                              SYN └─────────────────────────┘
//!     └──────────────► Closing           both ends keep sending after an RST, which therefore was none of theirs
//!            RST
//! ```

use crate::flow::Direction;
use crate::session::Session;
use crate::wire::frame::TcpSegment;
use crate::wire::frame::tcp_flags::{ACK, FIN, RST, SYN};

/// The state of a connection, as far as an observer between its ends needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TcpState {
    /// A SYN was seen and the handshake is not complete, or only one end of a connection in mid-stream was seen.
    Opening,
    /// Both ends have acknowledged each other, or both ends of a connection in mid-stream were seen.
    Established,
    /// FIN was seen in both directions, or RST.
    Closing,
}

/// True if a segment with these flags may open a session: a SYN, a SYN/ACK, or a segment in mid-stream. Null, FIN and
/// Xmas scans, SYN with FIN or RST, and resets are forwarded by the hash without a session (rule A9.3 of
/// `docs/protocols.md`).
pub const fn may_open_session(flags: u8) -> bool {
    match flags & (SYN | FIN | RST | ACK) {
        SYN => true,
        others => others & (RST | ACK) == ACK && !is_invalid(flags),
    }
}

/// True for flags that no TCP sends: SYN with FIN or RST, and segments other than SYN or RST without ACK.
const fn is_invalid(flags: u8) -> bool {
    let syn_and_end = flags & SYN != 0 && flags & (FIN | RST) != 0;
    syn_and_end || flags & (SYN | RST | ACK) == 0
}

/// How far an acknowledgement in the handshake may lie behind the highest sequence number. It is what a server may send
/// at once with TCP Fast Open and no more, so that a guessed ACK does not complete a handshake.
const HANDSHAKE_WINDOW: u32 = 1 << 16;

/// How far a segment may lie from the next sequence number, which is the most that an end may have in flight. RFC 7323
/// section 2.3 allows windows of 2^30 bytes; 2^24 is more than operating systems use on their own.
const WINDOW: u32 = 1 << 24;

/// How far an acknowledgement may lie behind a later one that overtook it.
const REORDER_WINDOW: u32 = 1 << 16;

/// A quick test that a segment is credible: true if it lies as near to the known numbers as nearly all segments do,
/// within what a device delivers in one piece.
///
/// The segment ends at `end` and acknowledges `ack`. Its receiver expected `next`; its sender had acknowledged `acked`,
/// and was sent everything up to `sent`.
#[inline]
pub(super) const fn is_near(end: u32, next: u32, acked: u32, ack: u32, sent: u32) -> bool {
    end.wrapping_sub(next).wrapping_add(REORDER_WINDOW) < 2 * REORDER_WINDOW
        && ack.wrapping_sub(acked).wrapping_add(REORDER_WINDOW) < WINDOW
        && sent.wrapping_sub(ack) < 1 << 30
}

/// The later of two sequence numbers in serial number arithmetic (RFC 1982).
#[inline]
pub(super) const fn later(known: u32, other: u32) -> u32 {
    if other.wrapping_sub(known) < 1 << 31 { other } else { known }
}

/// The bits of a sequence number that [`Session::other_syn`] keeps.
pub(super) const OTHER_SYN: u32 = (1 << 24) - 1;

/// The flags from which the TCP state is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SeenFlags(u16);

impl SeenFlags {
    const LOW_SENT: u16 = 1;
    const HIGH_SENT: u16 = 1 << 1;
    const BOTH_SENT: u16 = Self::LOW_SENT | Self::HIGH_SENT;
    const LOW_FIN: u16 = 1 << 2;
    const HIGH_FIN: u16 = 1 << 3;
    const BOTH_FIN: u16 = Self::LOW_FIN | Self::HIGH_FIN;
    const ESTABLISHED: u16 = 1 << 4;
    /// Whether [`Session::next_to_low`] and [`Session::next_to_high`] are known.
    const NEXT_TO_LOW: u16 = 1 << 5;
    const NEXT_TO_HIGH: u16 = 1 << 6;
    /// Whether the engine does not see the replies.
    const NO_REPLIES: u16 = 1 << 7;

    /// Whether [`Session::other_syn`] is known, and which end sent that SYN.
    const LOW_OTHER_SYN: u16 = 1 << 8;
    const HIGH_OTHER_SYN: u16 = 1 << 9;

    /// True if segments with ACK alone cannot change the state any more: both ends have sent and acknowledged, not both
    /// have sent FIN, and no SYN of another connection waits for its answer.
    pub(super) const fn is_stable(self) -> bool {
        let needed = Self::BOTH_SENT | Self::ESTABLISHED | Self::NEXT_TO_LOW | Self::NEXT_TO_HIGH;
        let excluded = Self::NO_REPLIES | Self::LOW_OTHER_SYN | Self::HIGH_OTHER_SYN;
        self.0 & (needed | excluded) == needed && !self.has(Self::BOTH_FIN)
    }

    /// The flags as a number.
    pub(super) const fn bits(self) -> u16 {
        self.0
    }

    /// The flags of a number from [`SeenFlags::bits`].
    pub(super) const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// What another node is told of the flags: not which sequence numbers are known, since these are old when they
    /// arrive.
    const TOLD: u16 = Self::BOTH_FIN | Self::ESTABLISHED | Self::NO_REPLIES;

    /// The flags that another node is told.
    pub(super) const fn told(self) -> u8 {
        (self.0 & Self::TOLD) as u8
    }

    /// The flags of a session that another node told of.
    pub(super) fn from_told(told: u8) -> Self {
        Self(u16::from(told) & Self::TOLD)
    }

    /// Sets what another node told as well.
    pub(super) fn add(&mut self, told: Self) {
        self.set(told.0 & Self::TOLD);
    }

    pub(super) fn expect_no_replies(&mut self) {
        self.set(Self::NO_REPLIES);
    }

    pub(super) const fn expects_no_replies(self) -> bool {
        self.has(Self::NO_REPLIES)
    }

    /// True if `bits` are set for both ends, or for the only end that the engine sees.
    const fn has_both(self, bits: u16) -> bool {
        self.has(bits) || (self.expects_no_replies() && self.0 & bits != 0)
    }

    /// The flags for a new connection between the same ends.
    const fn renewed(self) -> Self {
        Self(self.0 & Self::NO_REPLIES)
    }

    pub(super) const fn saw_both_fins(self) -> bool {
        self.has_both(Self::BOTH_FIN)
    }

    pub(super) fn has_sent(self, from: Direction) -> bool {
        self.has(Self::sent_by(from))
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

    fn sent_by(from: Direction) -> u16 {
        match from {
            Direction::LowToHigh => Self::LOW_SENT,
            Direction::HighToLow => Self::HIGH_SENT,
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

    pub(super) fn has_next_to(self, direction: Direction) -> bool {
        self.has(Self::next_to(direction))
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

/// The kind of a segment, as the state machine distinguishes it.
enum SegmentKind {
    /// SYN without ACK.
    Syn,
    /// RST.
    Reset,
    /// FIN with ACK.
    Fin,
    /// SYN/ACK, or any other segment with ACK.
    Ack,
    /// A combination of flags that no TCP sends.
    Invalid,
}

impl SegmentKind {
    const fn of(flags: u8) -> Self {
        if is_invalid(flags) {
            Self::Invalid
        } else if flags & RST != 0 {
            Self::Reset
        } else if flags & FIN != 0 {
            Self::Fin
        } else if flags & (SYN | ACK) == SYN {
            Self::Syn
        } else {
            Self::Ack
        }
    }
}

impl Session {
    /// Updates the session for a segment in `direction`, and returns the new state.
    pub(super) fn update_tcp(&mut self, state: TcpState, direction: Direction, segment: &TcpSegment) -> TcpState {
        match (state, SegmentKind::of(segment.flags)) {
            (_, SegmentKind::Invalid) | (TcpState::Closing, SegmentKind::Reset) => state,
            (TcpState::Established, SegmentKind::Syn) => {
                self.other_syn = segment.end() & OTHER_SYN;
                self.seen_flags.set_other_syn(direction);
                state
            }
            (TcpState::Opening | TcpState::Established, SegmentKind::Reset) => {
                if !self.obeys_reset(state, direction, segment) {
                    return state;
                }
                self.seen_flags.clear(SeenFlags::BOTH_SENT);
                TcpState::Closing
            }
            (TcpState::Opening | TcpState::Closing, SegmentKind::Syn) => {
                self.reopen(state, direction);
                self.advance(direction, segment.end());
                TcpState::Opening
            }
            (TcpState::Opening | TcpState::Established | TcpState::Closing, SegmentKind::Fin | SegmentKind::Ack) => {
                if self.is_credible(state, direction, segment) {
                    self.seen_flags.clear_other_syn(direction.reversed());
                    self.accept_segment(state, direction, segment)
                } else {
                    self.renumber(direction, segment);
                    state
                }
            }
        }
    }

    fn reopen(&mut self, state: TcpState, direction: Direction) {
        match state {
            // This is a retransmitted or a simultaneous SYN.
            TcpState::Opening | TcpState::Established => {}
            // This is another connection between the same ends, with new sequence numbers.
            TcpState::Closing => self.seen_flags = self.seen_flags.renewed(),
        }
        if !self.seen_flags.has(SeenFlags::sent_by(direction)) {
            self.seen_flags.clear(SeenFlags::next_to(direction));
        }
    }

    /// Handles a credible segment with ACK, which may also have FIN or SYN.
    fn accept_segment(&mut self, state: TcpState, direction: Direction, segment: &TcpSegment) -> TcpState {
        let is_over = state == TcpState::Closing && self.seen_flags.has_both(SeenFlags::BOTH_FIN);
        let proves_itself = state == TcpState::Opening && self.acknowledges(direction, segment) == Some(true);
        if proves_itself && !self.seen_flags.has(SeenFlags::sent_by(direction)) {
            // The sender knows numbers that it can only have from its peer. What arrived earlier in its name may have
            // been forged.
            self.seen_flags.clear(SeenFlags::next_to(direction));
        }
        if !is_over {
            self.record_segment(direction, segment);
        }
        self.advance(direction, segment.end());
        match (self.seen_flags.has_both(SeenFlags::BOTH_SENT), self.seen_flags.has_both(SeenFlags::BOTH_FIN)) {
            _ if is_over => TcpState::Closing,
            (_, true) => TcpState::Closing,
            (true, false) => {
                self.seen_flags.set(SeenFlags::ESTABLISHED);
                TcpState::Established
            }
            (false, false) => state,
        }
    }

    /// Handles a SYN/ACK that answers a SYN on an established connection. An end that still had the connection would
    /// have challenged the SYN with an ACK (RFC 5961 section 4.2). Its sender has therefore lost the connection, and
    /// the numbers are those of a new one.
    fn renumber(&mut self, direction: Direction, segment: &TcpSegment) {
        let opener = direction.reversed();
        let answers = segment.flags & (SYN | ACK) == SYN | ACK
            && self.seen_flags.has_other_syn(opener)
            && segment.acknowledgement & OTHER_SYN == self.other_syn;
        if !answers {
            return;
        }
        self.seen_flags.clear_other_syn(opener);
        self.seen_flags.clear(SeenFlags::BOTH_FIN | SeenFlags::NEXT_TO_LOW | SeenFlags::NEXT_TO_HIGH);
        for (from, end, ack) in
            [(direction, segment.end(), segment.acknowledgement), (opener, segment.acknowledgement, segment.end())]
        {
            self.advance(from, end);
            *self.acked_by_source_mut(from) = ack;
        }
    }

    /// Remembers that an end sent a segment, and what it acknowledged.
    fn record_segment(&mut self, direction: Direction, segment: &TcpSegment) {
        let known = self.seen_flags.has(SeenFlags::sent_by(direction));
        let acked = self.acked_by_source_mut(direction);
        *acked = if known { later(*acked, segment.acknowledgement) } else { segment.acknowledgement };
        self.seen_flags.set(SeenFlags::sent_by(direction));
        if segment.flags & FIN != 0 {
            self.seen_flags.set(SeenFlags::fin(direction));
        }
        if self.peer_is_unseen(direction) {
            // The acknowledgement shows what the other end, which the engine does not see, will send next.
            self.advance(direction.reversed(), segment.acknowledgement);
        }
    }

    /// Whether a segment acknowledges what its sender was sent, before the handshake is complete. `Some(false)` if that
    /// is not known, `None` if the segment acknowledges something else.
    fn acknowledges(&self, direction: Direction, segment: &TcpSegment) -> Option<bool> {
        match self.next_expected(direction.reversed()) {
            None => Some(false),
            // It is known from acknowledgements only.
            Some(_) if self.peer_is_unseen(direction) => Some(false),
            Some(next) => (next.wrapping_sub(segment.acknowledgement) < HANDSHAKE_WINDOW).then_some(true),
        }
    }

    /// Whether a segment with ACK can belong to this connection, as far as that is known. It cannot if it lies outside
    /// every window, acknowledges what its sender was never sent, or acknowledges what was acknowledged long ago (RFC
    /// 5961 section 5.2).
    fn is_credible(&self, state: TcpState, direction: Direction, segment: &TcpSegment) -> bool {
        if state == TcpState::Opening && self.acknowledges(direction, segment).is_none() {
            return false;
        }
        // Nothing is known yet that this sender has certainly sent.
        if !self.seen_flags.has(SeenFlags::sent_by(direction)) {
            return true;
        }
        let peer_is_unseen = self.peer_is_unseen(direction);
        // The other end does not confirm what this one sends, so that a FIN has to lie nearer.
        let reach = if peer_is_unseen && segment.flags & FIN != 0 { REORDER_WINDOW } else { WINDOW };
        let is_in_window = self
            .next_expected(direction)
            .is_none_or(|next| segment.end().wrapping_sub(next).wrapping_add(reach) < 2 * reach);
        let acked = self.acked_by_source(direction);
        let from_acked = segment.acknowledgement.wrapping_sub(acked).wrapping_add(REORDER_WINDOW);
        let may_be_acknowledged = match self.next_expected(direction.reversed()) {
            Some(next) if !peer_is_unseen => later(acked, next).wrapping_sub(acked).wrapping_add(REORDER_WINDOW),
            Some(_) | None => WINDOW,
        };
        is_in_window && from_acked <= may_be_acknowledged
    }

    /// True for the end whose peer the engine does not see.
    fn peer_is_unseen(&self, direction: Direction) -> bool {
        self.seen_flags.expects_no_replies() && direction == self.original_direction
    }

    /// True for an RST that its receiver obeys. It must have exactly the sequence number that the receiver expects (RFC
    /// 5961 section 3.2) or, before the handshake is complete, acknowledge the receiver's SYN (RFC 9293 section
    /// 3.10.7.3).
    ///
    /// What the receiver expects lies between what it acknowledged last and the end of what it was sent. The sender of
    /// an RST uses one of these two: the first if it answers a segment of the receiver, the second if it ends its own
    /// stream. If it has sent a FIN, it may leave that out of its count (as Linux `tcp_reset_check` knows).
    fn obeys_reset(&self, state: TcpState, direction: Direction, segment: &TcpSegment) -> bool {
        let answers_syn = || {
            let syn = self.next_expected(direction.reversed());
            segment.flags & ACK != 0
                && syn.is_some_and(|next| next.wrapping_sub(segment.acknowledgement) < HANDSHAKE_WINDOW)
        };
        let is_next = self.next_expected(direction).is_some_and(|next| {
            segment.sequence == next
                || (self.seen_flags.has(SeenFlags::fin(direction)) && segment.sequence.wrapping_add(1) == next)
        });
        let receiver = direction.reversed();
        let is_acked =
            || self.seen_flags.has(SeenFlags::sent_by(receiver)) && segment.sequence == self.acked_by_source(receiver);
        is_next || is_acked() || (state == TcpState::Opening && answers_syn())
    }

    /// The next sequence number of packets in `direction`, if known.
    fn next_expected(&self, direction: Direction) -> Option<u32> {
        let next = match direction {
            Direction::LowToHigh => self.next_to_high,
            Direction::HighToLow => self.next_to_low,
        };
        self.seen_flags.has(SeenFlags::next_to(direction)).then_some(next)
    }

    /// What the sender of packets in `direction` has acknowledged.
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

    /// Moves the next sequence number of packets in `direction` forward.
    fn advance(&mut self, direction: Direction, end: u32) {
        let next = self.next_expected(direction).map_or(end, |known| later(known, end));
        *match direction {
            Direction::LowToHigh => &mut self.next_to_high,
            Direction::HighToLow => &mut self.next_to_low,
        } = next;
        self.seen_flags.set(SeenFlags::next_to(direction));
    }
}

#[cfg(test)]
mod tests;
