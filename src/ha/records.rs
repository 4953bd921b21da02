//! What one node tells another of its sessions, as values and as bytes.
//!
//! A datagram of the stream carries records, one after the other. Numbers are big endian:
//!
//! ```text
//!  kind, flags | one byte each;  length of the body (16 bits);  body
//!
//!  1 session   protocol, conversation, flags of TCP, 0 | age in seconds, idle time in ms (32 bits each)
//!              packets, bytes (64 bits each) | outside ends
//!              [service, server (16 bits each)] [inside ends]
//!              for each pin: [set, firewall (16 bits each) | state, rotations, moves of a leader, 0]
//!  3 end       protocol, direction, 0, 0 | outside ends
//!  5 name      kind of thing, 0 | number (16 bits) | name
//!  9 pass      1 begins, 2 ends; 0, 0, 0 | number, sessions that were told in it (32 bits each)
//!
//!  ends        low address, high address, low port, high port: 12 bytes for IPv4, 36 for IPv6
//! ```
//!
//! A session is told as it is at that moment, so that the last record of it is all that counts. Times are ages, so that
//! clocks need not agree. Numbers of services, servers, path sets and firewalls are those of the sender; a record of
//! their name comes first. A reader skips kinds that it does not know.

use std::net::IpAddr;

use crate::flow::key::{CanonicalV4, CanonicalV6};
use crate::flow::{CanonicalKey, Direction, FlowKey};
use crate::ha::fields::Fields;
use crate::id::{FirewallId, PathSetId, ServerId, ServiceId};
use crate::path::pinning::{PinState, PinnedBy};
use crate::session::{ConversationState, TcpState};
use crate::wire::frame::protocol;

/// The longest name in bytes: a path set has the names of its group and peer in it.
pub const NAME_MAX: usize = 512;
/// Length of the header of a record.
const HEADER: usize = 4;

const SESSION: u8 = 1;
const END: u8 = 3;
const NAME: u8 = 5;
const PASS: u8 = 9;

const IS_V6: u8 = 1;
const IS_PLACED: u8 = 1 << 1;
const HAS_INSIDE: u8 = 1 << 2;
const HAS_LOW_PIN: u8 = 1 << 3;
const HAS_HIGH_PIN: u8 = 1 << 4;

const STATE_MASK: u8 = 0b111;
const OPENED_FROM_HIGH: u8 = 1 << 3;
const INSIDE_FROM_HIGH: u8 = 1 << 4;
const IS_LEARNED: u8 = 1 << 2;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A session as it is.
    Session(SessionRecord),
    /// The session of this flow, whose first packet went in this direction, has ended or needs no copy any more.
    End {
        /// The flow.
        key: CanonicalKey,
        /// The direction of its first packet.
        opened: Direction,
    },
    /// What a number of the sender means from here on.
    Name {
        /// The kind of thing.
        kind: NamedKind,
        /// The number that the sender uses for it.
        number: u16,
        /// Its name, at most [`NAME_MAX`] bytes.
        name: String,
    },
    /// A pass over all sessions that need copies begins.
    PassBegins {
        /// The number of the pass.
        pass: u32,
    },
    /// All sessions that need copies were told since the pass began.
    PassEnds {
        /// The number of the pass.
        pass: u32,
        /// How many sessions the pass told.
        sessions: u32,
    },
}

/// The kinds of things that records have numbers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamedKind {
    /// A set of paths: its group, its peer, and the address family.
    PathSet,
    /// A firewall.
    Firewall,
    /// A service.
    Service,
    /// A server: its service and its name.
    Server,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The flow.
    pub key: CanonicalKey,
    /// The direction of its first packet.
    pub opened: Direction,
    /// The state of the conversation.
    pub state: ConversationState,
    /// [`crate::session::Session::told_flags`].
    pub flags: u8,
    /// How long ago it was opened, in seconds.
    pub age_s: u32,
    /// How long ago its last packet was, in milliseconds.
    pub idle_ms: u32,
    /// Packets in both directions.
    pub packets: u64,
    /// Bytes in both directions.
    pub bytes: u64,
    /// The service that it belongs to.
    pub placement: Option<PlacementRecord>,
    /// The firewall toward the low end.
    pub toward_low: Option<PinRecord>,
    /// The firewall toward the high end.
    pub toward_high: Option<PinRecord>,
}

/// The service and server of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacementRecord {
    /// The service.
    pub service: ServiceId,
    /// The server.
    pub server: ServerId,
    /// The first packet after translation, if the session is translated.
    pub inside: Option<FlowKey>,
}

/// The firewall of a session toward one of its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinRecord {
    /// The set of paths.
    pub set: PathSetId,
    /// The firewall.
    pub firewall: FirewallId,
    /// How certain the pin is.
    pub state: PinState,
    /// How the firewall was found.
    pub pinned_by: PinnedBy,
    /// [`crate::path::pinning::Pin::rotations`].
    pub rotations: u8,
    /// [`crate::path::pinning::Pin::leader_moves`].
    pub leader_moves: u8,
}

/// Why a record has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A kind that a later version has added.
    #[error("a record of kind {0}, which this version does not read")]
    Unknown(u8),
    /// Its length or one of its fields has no meaning.
    #[error("a record of kind {0} without meaning")]
    Malformed(u8),
    /// The datagram ends within it.
    #[error("a record that is cut off")]
    Cut,
}

impl NamedKind {
    const ALL: [Self; 4] = [Self::PathSet, Self::Firewall, Self::Service, Self::Server];
}

impl Record {
    /// The most bytes that a session or an end takes.
    pub const SESSION_MAX: usize = HEADER + 28 + 36 + 4 + 36 + 2 * 8;

    /// Appends the bytes of the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0; HEADER]);
        let (kind, flags) = match self {
            Self::Session(session) => (SESSION, session.encode(out)),
            Self::End { key, opened } => {
                out.extend_from_slice(&[key.protocol(), from_high(*opened), 0, 0]);
                put_ends(key, out);
                (END, v6_flag(key))
            }
            Self::Name { kind, number, name } => {
                out.extend_from_slice(&[*kind as u8, 0]);
                out.extend_from_slice(&number.to_be_bytes());
                out.extend_from_slice(&name.as_bytes()[..name.floor_char_boundary(NAME_MAX)]);
                (NAME, 0)
            }
            Self::PassBegins { pass } => (PASS, put_pass(1, *pass, 0, out)),
            Self::PassEnds { pass, sessions } => (PASS, put_pass(2, *pass, *sessions, out)),
        };
        let length = (out.len() - at - HEADER) as u16;
        out[at..at + 2].copy_from_slice(&[kind, flags]);
        out[at + 2..at + HEADER].copy_from_slice(&length.to_be_bytes());
    }

    fn decode(kind: u8, flags: u8, body: &[u8]) -> Result<Self, Unreadable> {
        let mut fields = Fields(body);
        let read = match kind {
            SESSION => SessionRecord::decode(flags, &mut fields).map(Self::Session),
            END => decode_end(flags, &mut fields),
            NAME => decode_name(&mut fields),
            PASS => decode_pass(&mut fields),
            unknown => return Err(Unreadable::Unknown(unknown)),
        };
        read.filter(|_| fields.0.is_empty()).ok_or(Unreadable::Malformed(kind))
    }
}

/// The records of a datagram, in their order. After a cut record nothing follows.
pub fn decode(mut bytes: &[u8]) -> impl Iterator<Item = Result<Record, Unreadable>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let split = bytes.split_first_chunk::<HEADER>().and_then(|([kind, flags, length @ ..], rest)| {
            let (body, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            Some((*kind, *flags, body, rest))
        });
        let Some((kind, flags, body, rest)) = split else {
            bytes = &[];
            return Some(Err(Unreadable::Cut));
        };
        bytes = rest;
        Some(Record::decode(kind, flags, body))
    })
}

impl SessionRecord {
    /// Appends the body and returns the flags.
    fn encode(&self, out: &mut Vec<u8>) -> u8 {
        let inside = self.placement.and_then(|placement| placement.inside).map(|inside| inside.canonical());
        let inside_from_high = inside.filter(|(_, direction)| *direction == Direction::HighToLow).is_some();
        let conversation = state_number(self.state)
            | if self.opened == Direction::HighToLow { OPENED_FROM_HIGH } else { 0 }
            | if inside_from_high { INSIDE_FROM_HIGH } else { 0 };
        out.extend_from_slice(&[self.key.protocol(), conversation, self.flags, 0]);
        out.extend_from_slice(&self.age_s.to_be_bytes());
        out.extend_from_slice(&self.idle_ms.to_be_bytes());
        out.extend_from_slice(&self.packets.to_be_bytes());
        out.extend_from_slice(&self.bytes.to_be_bytes());
        put_ends(&self.key, out);
        let mut flags = v6_flag(&self.key);
        if let Some(placement) = self.placement {
            flags |= IS_PLACED;
            out.extend_from_slice(&placement.service.0.to_be_bytes());
            out.extend_from_slice(&placement.server.0.to_be_bytes());
        }
        if let Some((inside, _)) = &inside {
            flags |= HAS_INSIDE;
            put_ends(inside, out);
        }
        for (pin, flag) in [(self.toward_low, HAS_LOW_PIN), (self.toward_high, HAS_HIGH_PIN)] {
            if let Some(pin) = pin {
                flags |= flag;
                pin.encode(out);
            }
        }
        flags
    }

    fn decode(flags: u8, fields: &mut Fields<'_>) -> Option<Self> {
        let [protocol, conversation, told, _] = fields.array()?;
        let (age_s, idle_ms) = (fields.u32()?, fields.u32()?);
        let (packets, bytes) = (fields.u64()?, fields.u64()?);
        let is_v6 = flags & IS_V6 != 0;
        let key = fields.ends(protocol, is_v6)?;
        let state = state_of(conversation & STATE_MASK)?;
        if matches!(state, ConversationState::Tcp(_)) != (protocol == protocol::TCP) {
            return None;
        }
        let place = if flags & IS_PLACED == 0 { None } else { Some((fields.u16()?, fields.u16()?)) };
        let inside = if flags & HAS_INSIDE == 0 { None } else { Some(fields.ends(protocol, is_v6)?) };
        let inside = inside.map(|inside| inside.in_direction(direction(conversation & INSIDE_FROM_HIGH)));
        let placement = match (place, inside) {
            (Some((service, server)), inside) => {
                Some(PlacementRecord { service: ServiceId(service), server: ServerId(server), inside })
            }
            (None, None) => None,
            (None, Some(_)) => return None,
        };
        let toward_low = if flags & HAS_LOW_PIN == 0 { None } else { Some(PinRecord::decode(fields)?) };
        let toward_high = if flags & HAS_HIGH_PIN == 0 { None } else { Some(PinRecord::decode(fields)?) };
        let opened = direction(conversation & OPENED_FROM_HIGH);
        Some(Self {
            key,
            opened,
            state,
            flags: told,
            age_s,
            idle_ms,
            packets,
            bytes,
            placement,
            toward_low,
            toward_high,
        })
    }
}

impl PinRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        let state = match self.state {
            PinState::Opening => 1,
            PinState::Tentative => 2,
            PinState::Confirmed => 3,
        };
        let learned = match self.pinned_by {
            PinnedBy::Hash => 0,
            PinnedBy::Learned => IS_LEARNED,
        };
        out.extend_from_slice(&self.set.0.to_be_bytes());
        out.extend_from_slice(&self.firewall.0.to_be_bytes());
        out.extend_from_slice(&[state | learned, self.rotations, self.leader_moves, 0]);
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let (set, firewall) = (PathSetId(fields.u16()?), FirewallId(fields.u16()?));
        let [state, rotations, leader_moves, _] = fields.array()?;
        let pinned_by = if state & IS_LEARNED == 0 { PinnedBy::Hash } else { PinnedBy::Learned };
        let state = match state & !IS_LEARNED {
            1 => PinState::Opening,
            2 => PinState::Tentative,
            3 => PinState::Confirmed,
            _ => return None,
        };
        Some(Self { set, firewall, state, pinned_by, rotations, leader_moves })
    }
}

fn decode_end(flags: u8, fields: &mut Fields<'_>) -> Option<Record> {
    let [protocol, opened, _, _] = fields.array()?;
    Some(Record::End { key: fields.ends(protocol, flags & IS_V6 != 0)?, opened: direction(opened & OPENED_FROM_HIGH) })
}

fn decode_name(fields: &mut Fields<'_>) -> Option<Record> {
    let [kind, _] = fields.array()?;
    let kind = *NamedKind::ALL.get(usize::from(kind))?;
    let number = fields.u16()?;
    let name = std::mem::take(&mut fields.0);
    let name = str::from_utf8(name).ok().filter(|name| name.len() <= NAME_MAX)?;
    Some(Record::Name { kind, number, name: name.to_owned() })
}

fn decode_pass(fields: &mut Fields<'_>) -> Option<Record> {
    let [what, _, _, _] = fields.array()?;
    let (pass, sessions) = (fields.u32()?, fields.u32()?);
    match what {
        1 => Some(Record::PassBegins { pass }),
        2 => Some(Record::PassEnds { pass, sessions }),
        _ => None,
    }
}

/// Appends the body of a record about a pass and returns its flags.
fn put_pass(what: u8, pass: u32, sessions: u32, out: &mut Vec<u8>) -> u8 {
    out.extend_from_slice(&[what, 0, 0, 0]);
    out.extend_from_slice(&pass.to_be_bytes());
    out.extend_from_slice(&sessions.to_be_bytes());
    0
}

fn put_ends(key: &CanonicalKey, out: &mut Vec<u8>) {
    let (low, high) = (key.low(), key.high());
    for end in [low, high] {
        match end.address {
            IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
        }
    }
    out.extend_from_slice(&low.port.to_be_bytes());
    out.extend_from_slice(&high.port.to_be_bytes());
}

const fn v6_flag(key: &CanonicalKey) -> u8 {
    match key {
        CanonicalKey::V4(_) => 0,
        CanonicalKey::V6(_) => IS_V6,
    }
}

const fn from_high(direction: Direction) -> u8 {
    match direction {
        Direction::LowToHigh => 0,
        Direction::HighToLow => OPENED_FROM_HIGH,
    }
}

const fn direction(from_high: u8) -> Direction {
    if from_high == 0 { Direction::LowToHigh } else { Direction::HighToLow }
}

const fn state_number(state: ConversationState) -> u8 {
    match state {
        ConversationState::Tcp(TcpState::Opening) => 0,
        ConversationState::Tcp(TcpState::Established) => 1,
        ConversationState::Tcp(TcpState::Closing) => 2,
        ConversationState::OneWay => 3,
        ConversationState::TwoWay => 4,
    }
}

const fn state_of(number: u8) -> Option<ConversationState> {
    Some(match number {
        0 => ConversationState::Tcp(TcpState::Opening),
        1 => ConversationState::Tcp(TcpState::Established),
        2 => ConversationState::Tcp(TcpState::Closing),
        3 => ConversationState::OneWay,
        4 => ConversationState::TwoWay,
        _ => return None,
    })
}

impl Fields<'_> {
    /// The ends of a flow, which must be in their order.
    fn ends(&mut self, protocol: u8, is_v6: bool) -> Option<CanonicalKey> {
        let key = if is_v6 {
            let (low, high) = (self.array()?, self.array()?);
            CanonicalKey::V6(CanonicalV6 { low, high, low_port: self.u16()?, high_port: self.u16()?, protocol })
        } else {
            let (low, high) = (self.array()?, self.array()?);
            CanonicalKey::V4(CanonicalV4 { low, high, low_port: self.u16()?, high_port: self.u16()?, protocol })
        };
        (key.low() <= key.high()).then_some(key)
    }
}

#[cfg(test)]
pub(in crate::ha) mod tests;
