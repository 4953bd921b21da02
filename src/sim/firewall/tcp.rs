//! The TCP state of a connection as Linux tracks it, by the table in `net/netfilter/nf_conntrack_proto_tcp.c`. Sequence
//! windows are not checked, as with `nf_conntrack_tcp_be_liberal`.

use crate::sim::packet::tcp_flag::{ACK, FIN, RST, SYN};

/// State of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpState {
    /// A SYN was seen.
    SynSent,
    /// A SYN/ACK was seen.
    SynRecv,
    /// The handshake is complete.
    Established,
    /// One FIN was seen.
    FinWait,
    /// The FIN was acknowledged.
    CloseWait,
    /// The second FIN was seen.
    LastAck,
    /// Both ends have closed.
    TimeWait,
    /// An RST was seen.
    Close,
    /// SYNs from both ends were seen (simultaneous open).
    SynSent2,
}

/// The sender of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The end that opened the connection.
    Original,
    /// The other end.
    Reply,
}

/// The result of the state machine for a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpTransition {
    /// Pass, and enter this state.
    Next(TcpState),
    /// Pass, and keep the state; for retransmissions that the receiver itself will answer.
    Ignore,
    /// `INVALID`: drop.
    Invalid,
}

/// Kinds of segments, the rows of the kernel's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// SYN without ACK.
    Syn,
    /// SYN with ACK.
    SynAck,
    /// With FIN.
    Fin,
    /// ACK, with or without data.
    Ack,
    /// With RST.
    Rst,
    /// None of these flags.
    None,
}

impl Segment {
    /// The kind of a segment with these flags, in the kernel's order of tests.
    pub const fn of(flags: u8) -> Self {
        if flags & RST != 0 {
            Self::Rst
        } else if flags & SYN != 0 {
            if flags & ACK != 0 { Self::SynAck } else { Self::Syn }
        } else if flags & FIN != 0 {
            Self::Fin
        } else if flags & ACK != 0 {
            Self::Ack
        } else {
            Self::None
        }
    }

    /// Whether the combination of flags is legal in any state (`tcp_valid_flags`); otherwise it is `INVALID`.
    pub const fn is_legal(flags: u8) -> bool {
        !(flags & SYN != 0 && flags & (FIN | RST) != 0 || flags & FIN != 0 && flags & (RST | ACK) != ACK)
            && flags & (SYN | FIN | RST | ACK) != 0
    }
}

/// The result for a segment of a known connection.
pub const fn step(state: TcpState, direction: Direction, segment: Segment) -> TcpTransition {
    use TcpState::{Close, CloseWait, Established, FinWait, LastAck, SynRecv, SynSent, SynSent2, TimeWait};
    use TcpTransition::{Ignore, Invalid, Next};
    match (direction, segment) {
        (_, Segment::None) => Invalid,
        (_, Segment::Rst) => Next(Close),
        (Direction::Original, Segment::Syn) => match state {
            SynSent | TimeWait | Close => Next(SynSent),
            SynRecv | Established | FinWait | CloseWait | LastAck => Ignore,
            SynSent2 => Next(SynSent2),
        },
        (Direction::Reply, Segment::Syn) => match state {
            SynSent | SynSent2 => Next(SynSent2),
            TimeWait => Next(SynSent),
            SynRecv | Established | FinWait | CloseWait | LastAck | Close => Invalid,
        },
        (Direction::Original, Segment::SynAck) => match state {
            SynRecv | SynSent2 => Next(SynRecv),
            SynSent | Established | FinWait | CloseWait | LastAck | TimeWait | Close => Invalid,
        },
        (Direction::Reply, Segment::SynAck) => match state {
            SynSent | SynSent2 => Next(SynRecv),
            SynRecv | Established | FinWait | CloseWait | LastAck | TimeWait | Close => Ignore,
        },
        (Direction::Original | Direction::Reply, Segment::Fin) => match state {
            SynSent | SynSent2 => Invalid,
            SynRecv | Established => Next(FinWait),
            FinWait | CloseWait | LastAck => Next(LastAck),
            TimeWait => Next(TimeWait),
            Close => Next(Close),
        },
        (Direction::Original, Segment::Ack) => match state {
            SynSent | SynSent2 => Invalid,
            SynRecv | Established => Next(Established),
            FinWait | CloseWait => Next(CloseWait),
            LastAck | TimeWait => Next(TimeWait),
            Close => Next(Close),
        },
        (Direction::Reply, Segment::Ack) => match state {
            SynSent | SynSent2 => Ignore,
            SynRecv => Next(SynRecv),
            Established => Next(Established),
            FinWait | CloseWait => Next(CloseWait),
            LastAck | TimeWait => Next(TimeWait),
            Close => Next(Close),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_conversation_is_invalid() {
        // The firewall sees the client only: its ACK answers a SYN/ACK that took another path.
        assert_eq!(step(TcpState::SynSent, Direction::Original, Segment::Ack), TcpTransition::Invalid);
        assert_eq!(step(TcpState::SynSent, Direction::Original, Segment::Fin), TcpTransition::Invalid);
    }

    #[test]
    fn a_connection_opens_and_closes() {
        let story = [
            (Direction::Original, SYN, TcpState::SynSent),
            (Direction::Reply, SYN | ACK, TcpState::SynRecv),
            (Direction::Original, ACK, TcpState::Established),
            (Direction::Reply, FIN | ACK, TcpState::FinWait),
            (Direction::Original, ACK, TcpState::CloseWait),
            (Direction::Original, FIN | ACK, TcpState::LastAck),
            (Direction::Reply, ACK, TcpState::TimeWait),
            (Direction::Original, SYN, TcpState::SynSent),
        ];
        let mut state = TcpState::SynSent;
        for (direction, flags, expected) in story {
            assert_eq!(
                step(state, direction, Segment::of(flags)),
                TcpTransition::Next(expected),
                "{state:?} {flags:#x}"
            );
            state = expected;
        }
    }

    #[test]
    fn impossible_flags_are_not_legal() {
        for flags in [SYN | FIN, SYN | RST, FIN, FIN | RST, 0] {
            assert!(!Segment::is_legal(flags), "{flags:#x}");
        }
        for flags in [SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK] {
            assert!(Segment::is_legal(flags), "{flags:#x}");
        }
    }
}
