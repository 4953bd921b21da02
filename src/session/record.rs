//! The layout of a session in the words of its cell.
//!
//! ```text
//!   0 state of the cell        1 addresses (IPv4)         2 ports, protocol, shape, conversation   3 sequence toward high
//!   4 last seen                5 packets, worker          6 bytes                                  7 sequence toward low
//!   8-10 pin toward the low end                          11-13 pin toward the high end            14 inside addresses (IPv4)
//!  15 inside ports, service, server
//! ```
//!
//! The TCP numbers that packets of one direction change lie in one word: the next sequence number, and what their
//! sender acknowledged. IPv6 addresses do not fit the cell; they lie in a separate line under its lock. So do the
//! values that packets of an established flow do not need: the time of opening, and the number of a SYN on an
//! established connection. Words that are read while somebody writes may contain anything, so that every bit pattern
//! must be readable.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::flow::key::{CanonicalV4, CanonicalV6};
use crate::flow::{CanonicalKey, Direction};
use crate::id::{ServerId, ServiceId};
use crate::path::pinning::Pin;
use crate::session::cell::SessionCell;
use crate::session::memory::AlignedRecords;
use crate::session::tcp::{self, SeenFlags};
use crate::session::{ConversationState, Placement, ProtocolClass, Session, TcpState};
use crate::time::Instant;
use crate::wire::frame::TcpSegment;

const ADDRESSES: usize = 1;
const REST: usize = 2;
const TOWARD_HIGH: usize = 3;
const LAST_SEEN: usize = 4;
const PACKETS: usize = 5;
const BYTES: usize = 6;
const TOWARD_LOW: usize = 7;
const LOW_PIN: usize = 8;
const HIGH_PIN: usize = 11;
const INSIDE: usize = 14;
const PLACEMENT: usize = 15;

/// The offset of the inside addresses in the line of IPv6 addresses.
const WIDE_INSIDE: usize = 4;

/// The IPv6 addresses of a slot: outside, then inside, each with the low end first.
pub(super) type Wide = [AtomicU64; 8];

/// The bits of word 2.
const PORTS_MASK: u64 = 0xffff_ffff;
const PROTOCOL_SHIFT: u32 = 32;
const IS_V6: u64 = 1 << 40;
/// The bits in which the keys of both legs of a flow agree: protocol and family.
const KIND_MASK: u64 = 0xff << PROTOCOL_SHIFT | IS_V6;
const IS_PLACED: u64 = 1 << 41;
const HAS_INSIDE: u64 = 1 << 42;
const INSIDE_FROM_HIGH: u64 = 1 << 43;
const OPENED_FROM_HIGH: u64 = 1 << 44;
const STATE_SHIFT: u32 = 45;
const SEEN_SHIFT: u32 = 48;
const KEY_AND_SHAPE: u64 = (1 << 44) - 1;

/// The bits of word 5 that count packets; the upper bits give the worker.
const PACKETS_MAX: u64 = (1 << 48) - 1;
/// The bits of the separate word that give the time of opening in milliseconds (up to 34 years); the upper bits are
/// [`Session::other_syn`].
const OPENED_MAX: u64 = (1 << OTHER_SYN_SHIFT) - 1;
const OTHER_SYN_SHIFT: u32 = 40;
/// The position in the third word of a pin from which on half of [`Placement::server_failures`] is stored.
const FAILURES_SHIFT: u32 = 48;
const PIN_MASK: u64 = (1 << FAILURES_SHIFT) - 1;

/// A canonical key in the form in which it is stored, compared and hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyWords {
    /// Both addresses of an IPv4 flow.
    pub(super) addresses: u64,
    /// Ports, protocol and family.
    pub(super) rest: u64,
    /// Both addresses of an IPv6 flow.
    wide: [u64; 4],
}

impl KeyWords {
    #[inline]
    pub(super) fn of(key: &CanonicalKey) -> Self {
        let rest = |low: u16, high: u16, protocol: u8| {
            u64::from(low) | u64::from(high) << 16 | u64::from(protocol) << PROTOCOL_SHIFT
        };
        match key {
            CanonicalKey::V4(key) => Self {
                addresses: pair(u32::from_ne_bytes(key.low), u32::from_ne_bytes(key.high)),
                rest: rest(key.low_port, key.high_port, key.protocol),
                wide: [0; 4],
            },
            CanonicalKey::V6(key) => {
                let ([a, b], [c, d]) = (words(key.low), words(key.high));
                let rest = rest(key.low_port, key.high_port, key.protocol) | IS_V6;
                Self { addresses: 0, rest, wide: [a, b, c, d] }
            }
        }
    }

    /// Both addresses, if they are IPv6.
    #[inline]
    pub(super) fn wide(&self) -> Option<[u64; 4]> {
        (self.rest & IS_V6 != 0).then_some(self.wide)
    }

    /// Reads back `rest` and the addresses, of which `word` gives the first, second and so on: one for IPv4, four for
    /// IPv6. Also returns that number.
    pub(super) fn read(rest: u64, word: impl Fn(usize) -> u64) -> (Self, usize) {
        let is_wide = rest & IS_V6 != 0;
        let addresses = if is_wide { 0 } else { word(0) };
        let wide = if is_wide { std::array::from_fn(word) } else { [0; 4] };
        (Self { addresses, rest: rest & (KIND_MASK | PORTS_MASK), wide }, if is_wide { 4 } else { 1 })
    }

    #[inline]
    pub(super) fn key(&self) -> CanonicalKey {
        let (low_port, high_port, protocol) =
            (self.rest as u16, (self.rest >> 16) as u16, (self.rest >> PROTOCOL_SHIFT) as u8);
        match self.wide() {
            None => CanonicalKey::V4(CanonicalV4 {
                low: (self.addresses as u32).to_ne_bytes(),
                high: ((self.addresses >> 32) as u32).to_ne_bytes(),
                low_port,
                high_port,
                protocol,
            }),
            Some([a, b, c, d]) => {
                CanonicalKey::V6(CanonicalV6 { low: octets(a, b), high: octets(c, d), low_port, high_port, protocol })
            }
        }
    }
}

/// The directions in which packets with a certain key belong to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Directions(u8);

impl Directions {
    const NONE: Self = Self(0);
    /// Packets in both directions.
    pub(super) const BOTH: Self = Self(3);

    pub(super) const fn only(direction: Direction) -> Self {
        match direction {
            Direction::LowToHigh => Self(1),
            Direction::HighToLow => Self(2),
        }
    }

    pub(super) const fn includes(self, direction: Direction) -> bool {
        self.overlaps(Self::only(direction))
    }

    /// True if both include a common direction.
    pub(super) const fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// The words of a slot. Whoever writes them holds the lock of the cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotRef<'a> {
    pub(super) cell: &'a SessionCell,
    pub(super) opening: &'a AlignedRecords<1>,
    pub(super) wide: &'a AlignedRecords<8>,
    pub(super) slot: u32,
}

impl SlotRef<'_> {
    /// True if the key is that of the session's flow, or of its inside leg.
    #[inline]
    pub(super) fn has_key(&self, key: &KeyWords) -> bool {
        let rest = self.word(REST);
        if (rest ^ key.rest) & KIND_MASK != 0 {
            return false;
        }
        let (outside, inside) = match key.wide() {
            None => (self.word(ADDRESSES) == key.addresses, self.word(INSIDE) == key.addresses),
            Some(addresses) => (self.wide_words(0) == addresses, self.wide_words(WIDE_INSIDE) == addresses),
        };
        let is_inside = || rest & HAS_INSIDE != 0 && (self.word(PLACEMENT) ^ key.rest) & PORTS_MASK == 0;
        (outside && (rest ^ key.rest) & PORTS_MASK == 0) || (inside && is_inside())
    }

    /// The directions in which packets with this key belong to the session. These are both for a flow that is not
    /// translated; else only that in which packets arrive on the leg with this key.
    pub(super) fn owned_directions(&self, key: &KeyWords) -> Directions {
        if !self.has_key(key) {
            return Directions::NONE;
        }
        let rest = self.word(REST);
        if rest & HAS_INSIDE == 0 {
            return Directions::BOTH;
        }
        let of = |leg: KeyWords, hears: Direction| if leg == *key { Directions::only(hears) } else { Directions::NONE };
        let outside = of(self.key_words(ADDRESSES, 0, rest), direction(rest & OPENED_FROM_HIGH));
        let answers = direction(rest & INSIDE_FROM_HIGH).reversed();
        let inside =
            of(self.key_words(INSIDE, WIDE_INSIDE, rest & KIND_MASK | self.word(PLACEMENT) & PORTS_MASK), answers);
        Directions(outside.0 | inside.0)
    }

    /// The canonical key of the flow.
    #[inline]
    pub(super) fn key(&self) -> CanonicalKey {
        self.key_words(ADDRESSES, 0, self.word(REST)).key()
    }

    #[inline]
    fn key_words(&self, addresses: usize, wide: usize, rest: u64) -> KeyWords {
        let rest = rest & (KIND_MASK | PORTS_MASK);
        let is_wide = rest & IS_V6 != 0;
        KeyWords {
            addresses: if is_wide { 0 } else { self.word(addresses) },
            rest,
            wide: if is_wide { self.wide_words(wide) } else { [0; 4] },
        }
    }

    /// The service and server of the flow, if it belongs to a virtual service.
    #[inline]
    pub(super) fn placement(&self) -> Option<Placement> {
        let rest = self.word(REST);
        if rest & IS_PLACED == 0 {
            return None;
        }
        let placed = self.word(PLACEMENT);
        let inside = || {
            let direction = direction(rest & INSIDE_FROM_HIGH);
            self.key_words(INSIDE, WIDE_INSIDE, rest & KIND_MASK | placed & PORTS_MASK).key().in_direction(direction)
        };
        Some(Placement {
            service: ServiceId((placed >> 32) as u16),
            server: ServerId((placed >> 48) as u16),
            server_failures: self.server_failures(),
            inside: (rest & HAS_INSIDE != 0).then(inside),
        })
    }

    #[inline]
    fn server_failures(&self) -> u32 {
        (self.word(LOW_PIN + 2) >> FAILURES_SHIFT) as u32 | ((self.word(HIGH_PIN + 2) >> FAILURES_SHIFT) as u32) << 16
    }

    /// Everything that is remembered of the flow except its key.
    #[inline]
    pub(super) fn session(&self) -> Session {
        let (rest, packets) = (self.word(REST), self.word(PACKETS));
        let (to_low, to_high) = (self.word(TOWARD_LOW), self.word(TOWARD_HIGH));
        let opening = self.opening.get(self.slot)[0].load(Relaxed);
        Session {
            original_direction: direction(rest & OPENED_FROM_HIGH),
            class: ProtocolClass::of((rest >> PROTOCOL_SHIFT) as u8),
            state: state(rest >> STATE_SHIFT & 0b111),
            seen_flags: SeenFlags::from_bits((rest >> SEEN_SHIFT) as u16),
            worker: (packets >> 48) as u16,
            toward_low: self.pin(LOW_PIN),
            toward_high: self.pin(HIGH_PIN),
            created: Instant::from_millis(opening & OPENED_MAX),
            last_seen: Instant::from_nanos(self.word(LAST_SEEN)),
            packets: packets & PACKETS_MAX,
            bytes: self.word(BYTES),
            next_to_low: to_low as u32,
            next_to_high: to_high as u32,
            acked_by_low: (to_high >> 32) as u32,
            acked_by_high: (to_low >> 32) as u32,
            other_syn: (opening >> OTHER_SYN_SHIFT) as u32,
        }
    }

    /// The pin toward the destination of packets in `direction`.
    #[inline]
    pub(super) fn pin_toward(&self, direction: Direction) -> Option<Pin> {
        self.pin(pin_at(direction))
    }

    /// Writes the pin toward the destination of packets in `direction`.
    #[inline]
    pub(super) fn put_pin_toward(&self, direction: Direction, pin: &Pin) {
        let at = pin_at(direction);
        self.put_pin(at, Some(pin), (self.word(at + 2) >> FAILURES_SHIFT) as u16);
    }

    /// The direction of the first packet, and the protocol class.
    #[inline]
    pub(super) fn direction_and_class(&self) -> (Direction, ProtocolClass) {
        let rest = self.word(REST);
        (direction(rest & OPENED_FROM_HIGH), ProtocolClass::of((rest >> PROTOCOL_SHIFT) as u8))
    }

    /// Does what [`Session::record_packet`] does for a packet that does not change the state of the conversation, and
    /// returns true. If the packet may change the state, it does nothing and returns false.
    #[inline]
    pub(super) fn count_packet(&self, going: Direction, tcp: Option<&TcpSegment>, bytes: usize, now: Instant) -> bool {
        let rest = self.word(REST);
        let seen = SeenFlags::from_bits((rest >> SEEN_SHIFT) as u16);
        match (state(rest >> STATE_SHIFT & 0b111), tcp) {
            (ConversationState::Tcp(TcpState::Established), Some(segment))
                if seen.is_stable() && segment.is_plain_ack() =>
            {
                let (at, back) = match going {
                    Direction::LowToHigh => (TOWARD_HIGH, TOWARD_LOW),
                    Direction::HighToLow => (TOWARD_LOW, TOWARD_HIGH),
                };
                let (numbers, sent) = (self.word(at), self.word(back) as u32);
                let (next, acked) = (numbers as u32, (numbers >> 32) as u32);
                let end = segment.end();
                if !tcp::is_near(end, next, acked, segment.acknowledgement, sent) {
                    return false;
                }
                self.set(at, pair(tcp::later(next, end), tcp::later(acked, segment.acknowledgement)));
            }
            (ConversationState::TwoWay, _) => {}
            (ConversationState::OneWay, _)
                if going == direction(rest & OPENED_FROM_HIGH) && !seen.expects_no_replies() => {}
            (ConversationState::Tcp(_) | ConversationState::OneWay, _) => return false,
        }
        let packets = self.word(PACKETS);
        if packets & PACKETS_MAX < PACKETS_MAX {
            self.set(PACKETS, packets + 1);
        }
        self.set(BYTES, self.word(BYTES) + bytes as u64);
        self.set(LAST_SEEN, self.word(LAST_SEEN).max(now.as_nanos()));
        true
    }

    #[inline]
    fn pin(&self, at: usize) -> Option<Pin> {
        Pin::from_words([self.word(at), self.word(at + 1), self.word(at + 2) & PIN_MASK])
    }

    /// Writes everything: key, service and session.
    pub(super) fn write(
        &self,
        key: &KeyWords,
        inside: Option<(KeyWords, Direction)>,
        bound: Option<&Placement>,
        session: &Session,
    ) {
        let mut rest = key.rest;
        self.set(ADDRESSES, key.addresses);
        self.put_wide(0, key);
        let (mut placed, mut server_failures) = (0, 0);
        if let Some(bound) = bound {
            rest |= IS_PLACED;
            placed = u64::from(bound.service.0) << 32 | u64::from(bound.server.0) << 48;
            server_failures = bound.server_failures;
        }
        self.set(INSIDE, inside.map_or(0, |(inside, _)| inside.addresses));
        if let Some((inside, direction)) = inside {
            rest |= HAS_INSIDE | if direction == Direction::HighToLow { INSIDE_FROM_HIGH } else { 0 };
            placed |= inside.rest & PORTS_MASK;
            self.put_wide(WIDE_INSIDE, &inside);
        }
        self.set(PLACEMENT, placed);
        self.put_rest(session, rest, server_failures);
    }

    /// Writes everything that packets may change.
    #[inline]
    pub(super) fn put_session(&self, session: &Session) {
        self.put_rest(session, self.word(REST) & KEY_AND_SHAPE, self.server_failures());
    }

    #[inline]
    fn put_rest(&self, session: &Session, key_and_shape: u64, server_failures: u32) {
        let opened = if session.original_direction == Direction::HighToLow { OPENED_FROM_HIGH } else { 0 };
        let conversation =
            state_bits(session.state) << STATE_SHIFT | u64::from(session.seen_flags.bits()) << SEEN_SHIFT;
        self.set(REST, key_and_shape | opened | conversation);
        let opening = session.created.as_millis().min(OPENED_MAX) | u64::from(session.other_syn) << OTHER_SYN_SHIFT;
        self.opening.get(self.slot)[0].store(opening, Relaxed);
        self.set(LAST_SEEN, session.last_seen.as_nanos());
        self.set(PACKETS, session.packets.min(PACKETS_MAX) | u64::from(session.worker) << 48);
        self.set(BYTES, session.bytes);
        self.set(TOWARD_LOW, pair(session.next_to_low, session.acked_by_high));
        self.set(TOWARD_HIGH, pair(session.next_to_high, session.acked_by_low));
        self.put_pin(LOW_PIN, session.toward_low.as_ref(), server_failures as u16);
        self.put_pin(HIGH_PIN, session.toward_high.as_ref(), (server_failures >> 16) as u16);
    }

    #[inline]
    fn put_pin(&self, at: usize, pin: Option<&Pin>, spare: u16) {
        let [first, second, third] = pin.map_or([0; 3], Pin::to_words);
        self.set(at, first);
        self.set(at + 1, second);
        self.set(at + 2, third | u64::from(spare) << FAILURES_SHIFT);
    }

    fn put_wide(&self, at: usize, key: &KeyWords) {
        if let Some(addresses) = key.wide() {
            let line = self.wide.get(self.slot);
            line[at..].iter().zip(addresses).for_each(|(word, value)| word.store(value, Relaxed));
        }
    }

    #[inline]
    fn wide_words(&self, at: usize) -> [u64; 4] {
        let line: &Wide = self.wide.get(self.slot);
        std::array::from_fn(|place| line[at + place].load(Relaxed))
    }

    #[inline]
    fn word(&self, at: usize) -> u64 {
        self.cell[at].load(Relaxed)
    }

    #[inline]
    fn set(&self, at: usize, value: u64) {
        self.cell[at].store(value, Relaxed);
    }
}

const fn pin_at(direction: Direction) -> usize {
    match direction {
        Direction::LowToHigh => HIGH_PIN,
        Direction::HighToLow => LOW_PIN,
    }
}

const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

fn words(octets: [u8; 16]) -> [u64; 2] {
    let both = u128::from_ne_bytes(octets);
    [both as u64, (both >> 64) as u64]
}

fn octets(first: u64, second: u64) -> [u8; 16] {
    (u128::from(first) | u128::from(second) << 64).to_ne_bytes()
}

const fn direction(from_high: u64) -> Direction {
    if from_high == 0 { Direction::LowToHigh } else { Direction::HighToLow }
}

const fn state(bits: u64) -> ConversationState {
    match bits {
        0 => ConversationState::Tcp(TcpState::Opening),
        1 => ConversationState::Tcp(TcpState::Established),
        2 => ConversationState::Tcp(TcpState::Closing),
        3 => ConversationState::OneWay,
        _ => ConversationState::TwoWay,
    }
}

const fn state_bits(state: ConversationState) -> u64 {
    match state {
        ConversationState::Tcp(TcpState::Opening) => 0,
        ConversationState::Tcp(TcpState::Established) => 1,
        ConversationState::Tcp(TcpState::Closing) => 2,
        ConversationState::OneWay => 3,
        ConversationState::TwoWay => 4,
    }
}

#[cfg(test)]
mod tests;
