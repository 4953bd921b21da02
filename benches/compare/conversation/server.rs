//! The server, without any state: its answer follows from the segment alone.

use std::hash::{DefaultHasher, Hash, Hasher};

use fwlb::wire::frame::tcp_flags::{ACK, FIN, PSH, RST, SYN};

use super::segment::Segment;
use super::{REQUEST, RESPONSE};

/// What a segment means to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It opens a conversation.
    Opening,
    /// It is the whole request.
    Request,
    /// It is the client's last segment.
    Closing,
    /// It needs no answer: an acknowledgement, or a reset.
    Nothing,
    /// It belongs to no possible conversation.
    Stray,
}

/// Determines what a segment means to the server.
pub fn hear(segment: &Segment<'_>) -> Heard {
    let next = first_number(segment).wrapping_add(1);
    if segment.has(RST) {
        Heard::Nothing
    } else if segment.has(SYN) {
        if segment.has(ACK) { Heard::Stray } else { Heard::Opening }
    } else if !segment.payload.is_empty() {
        // A part of a request is ignored, so that the whole is sent again: no client splits so few bytes.
        let is_request = segment.has(ACK) && segment.acknowledgement == next && segment.payload == REQUEST;
        if is_request { Heard::Request } else { Heard::Stray }
    } else if segment.has(FIN) {
        Heard::Closing
    } else {
        Heard::Nothing
    }
}

/// The server's answer to a segment.
pub fn answer(heard: Heard, segment: &Segment<'_>) -> Option<Segment<'static>> {
    let first = first_number(segment);
    let (flags, sequence, payload) = match heard {
        Heard::Opening => (SYN | ACK, first, &[][..]),
        Heard::Request => (PSH | FIN | ACK, first.wrapping_add(1), RESPONSE),
        // A client that closes has received the page and our FIN, or will ask for them again.
        Heard::Closing => (ACK, segment.acknowledgement, &[][..]),
        Heard::Nothing | Heard::Stray => return None,
    };
    Some(Segment { from: segment.to, to: segment.from, flags, sequence, acknowledgement: segment.end(), payload })
}

/// The server's first sequence number in a conversation, computed so that it need not be remembered.
fn first_number(segment: &Segment<'_>) -> u32 {
    let mut hasher = DefaultHasher::new();
    (segment.from, segment.to).hash(&mut hasher);
    hasher.finish() as u32
}
