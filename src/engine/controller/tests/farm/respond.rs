//! The TCP of a model server.

use super::Behaviour;
use crate::time::Duration;
use crate::wire::frame::tcp_flags;
use crate::wire::tcp::Segment;

/// A segment of a server.
pub(super) struct Reply {
    pub(super) ports: (u16, u16),
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) flags: u8,
    pub(super) payload: Vec<u8>,
}

impl Reply {
    pub(super) fn as_ref(&self) -> Segment<'_> {
        Segment {
            source_port: self.ports.0,
            destination_port: self.ports.1,
            sequence: self.sequence,
            acknowledgement: self.acknowledgement,
            flags: self.flags,
            window: 65_535,
            payload: &self.payload,
        }
    }
}

/// The other end of TCP without state: its initial sequence number is known, and with it the meaning of each segment.
pub(super) fn respond(
    behaviour: &Behaviour,
    (client, server): (u16, u16),
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
    length: usize,
) -> Vec<(Reply, Duration)> {
    const FIRST: u32 = 5_000;
    let reply = |flags, sequence, acknowledgement, payload: &[u8]| Reply {
        ports: (server, client),
        sequence,
        acknowledgement,
        flags: flags | tcp_flags::ACK,
        payload: payload.to_vec(),
    };
    let now = Duration::ZERO;
    if flags & tcp_flags::RST != 0 {
        return Vec::new();
    }
    if flags & tcp_flags::SYN != 0 {
        let flag = if matches!(behaviour, Behaviour::Refuses) { tcp_flags::RST } else { tcp_flags::SYN };
        return vec![(reply(flag, FIRST, sequence + 1, &[]), now)];
    }
    let next = acknowledgement;
    let after = sequence + length as u32;
    if length > 0 {
        return match behaviour {
            Behaviour::Answers(bytes) => vec![(reply(tcp_flags::PSH | tcp_flags::FIN, next, after, bytes), now)],
            Behaviour::Slow(delay, bytes) => {
                vec![
                    (reply(0, next, after, &[]), now),
                    (reply(tcp_flags::PSH | tcp_flags::FIN, next, after, bytes), *delay),
                ]
            }
            Behaviour::Stalls(bytes) => vec![(reply(tcp_flags::PSH, next, after, bytes), now)],
            Behaviour::Resets => vec![(reply(tcp_flags::RST, next, after, &[]), now)],
            Behaviour::Hangs => vec![(reply(0, next, after, &[]), now)],
            Behaviour::Refuses | Behaviour::Silent | Behaviour::Absent => Vec::new(),
        };
    }
    if flags & tcp_flags::FIN != 0 {
        // An end that has not sent anything yet closes as well; otherwise it has sent its FIN already.
        let flag = if next == FIRST + 1 { tcp_flags::FIN } else { 0 };
        return vec![(reply(flag, next, after + 1, &[]), now)];
    }
    Vec::new()
}
