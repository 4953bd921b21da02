mod blind;

use proptest::prelude::*;

use super::*;
use crate::flow::{CanonicalKey, Endpoint, FlowKey};
use crate::time::Instant;

const PSH: u8 = 0x08;
const URG: u8 = 0x20;

/// The initial sequence numbers of the opener and of the other end.
const A: u32 = 0xffff_fff0;
const B: u32 = 700_000;

const OPENER: Direction = Direction::LowToHigh;
const OTHER: Direction = Direction::HighToLow;

fn session() -> Session {
    let end = |last| Endpoint { address: std::net::IpAddr::from([10, 0, 0, last]), port: 1 };
    let key: CanonicalKey = FlowKey { protocol: 6, source: end(1), destination: end(2) }.canonical().0;
    Session::new(&key, OPENER, Instant::ZERO)
}

/// A segment: direction, flags, sequence, acknowledgement and payload bytes.
type Sent = (Direction, u8, u32, u32, u32);

fn after(segments: &[Sent]) -> TcpState {
    let mut session = session();
    observe(&mut session, segments)
}

fn observe(session: &mut Session, segments: &[Sent]) -> TcpState {
    for &(direction, flags, sequence, acknowledgement, payload) in segments {
        let length = payload + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let segment = TcpSegment { flags, sequence, acknowledgement, length };
        session.record_packet(direction, Some(&segment), 40, Instant::ZERO);
    }
    match session.state {
        crate::session::ConversationState::Tcp(state) => state,
        other => panic!("a TCP session, got {other:?}"),
    }
}

const SYN_: Sent = (OPENER, SYN, A, 0, 0);
const SYN_ACK: Sent = (OTHER, SYN | ACK, B, A.wrapping_add(1), 0);
const ACK_: Sent = (OPENER, ACK, A.wrapping_add(1), B + 1, 0);
const DATA: Sent = (OPENER, ACK | PSH, A.wrapping_add(1), B + 1, 500);
const REPLY: Sent = (OTHER, ACK, B + 1, A.wrapping_add(501), 900);
const FIN_: Sent = (OPENER, FIN | ACK, A.wrapping_add(501), B + 901, 0);
const FIN_BACK: Sent = (OTHER, FIN | ACK, B + 901, A.wrapping_add(502), 0);
const LAST_ACK: Sent = (OPENER, ACK, A.wrapping_add(502), B + 902, 0);
/// The end of what the opener was sent after the handshake.
const RESET: Sent = (OTHER, RST, B + 1, 0, 0);
/// The port is closed.
const REFUSAL: Sent = (OTHER, RST | ACK, 0, A.wrapping_add(1), 0);

#[test]
fn conversations_as_they_happen() {
    use TcpState::{Closing, Established, Opening};
    let cases: [(&str, &[Sent], TcpState); 24] = [
        ("SYN", &[SYN_], Opening),
        ("handshake without its ACK", &[SYN_, SYN_ACK], Opening),
        ("retransmitted SYN and SYN/ACK", &[SYN_, SYN_, SYN_ACK, SYN_, SYN_ACK], Opening),
        ("handshake", &[SYN_, SYN_ACK, ACK_], Established),
        ("handshake whose ACK was lost before data", &[SYN_, SYN_ACK, DATA], Established),
        ("crossing SYNs", &[SYN_, (OTHER, SYN, B, 0, 0), (OPENER, SYN | ACK, A, B + 1, 0), SYN_ACK], Established),
        ("mid-stream, one side", &[DATA, DATA], Opening),
        ("mid-stream, both sides", &[DATA, REPLY], Established),
        ("half closed", &[SYN_, SYN_ACK, ACK_, DATA, REPLY, FIN_, REPLY, REPLY], Established),
        ("closed", &[SYN_, SYN_ACK, ACK_, DATA, REPLY, FIN_, FIN_BACK], Closing),
        (
            "closed, with the last ACK and a FIN again",
            &[SYN_, SYN_ACK, ACK_, DATA, REPLY, FIN_, FIN_BACK, LAST_ACK, FIN_BACK],
            Closing,
        ),
        (
            "both close at once",
            &[SYN_, SYN_ACK, ACK_, DATA, REPLY, FIN_, (OTHER, FIN | ACK, B + 901, A.wrapping_add(501), 0), LAST_ACK],
            Closing,
        ),
        ("refused", &[SYN_, REFUSAL], Closing),
        ("an RST that does not acknowledge the SYN", &[SYN_, RESET], Opening),
        ("given up by the opener", &[SYN_, (OPENER, RST, A.wrapping_add(1), 0, 0)], Closing),
        ("given up by the other", &[SYN_, SYN_ACK, RESET], Closing),
        ("reset", &[SYN_, SYN_ACK, ACK_, RESET, (OPENER, RST, A.wrapping_add(1), 0, 0)], Closing),
        ("reset with a late segment", &[SYN_, SYN_ACK, ACK_, RESET, DATA, DATA], Closing),
        ("an RST that was none of theirs: both speak on", &[SYN_, SYN_ACK, ACK_, RESET, DATA, REPLY], Established),
        (
            "TIME_WAIT reuse",
            &[SYN_, SYN_ACK, ACK_, DATA, REPLY, FIN_, FIN_BACK, LAST_ACK, (OPENER, SYN, 99_000, 0, 0)],
            Opening,
        ),
        ("reset after the reset", &[SYN_, SYN_ACK, ACK_, RESET, RESET, (OPENER, SYN, 99_000, 0, 0)], Opening),
        (
            "a SYN on an established connection",
            &[SYN_, SYN_ACK, ACK_, (OPENER, SYN, 5, 0, 0), (OTHER, ACK, B + 1, A.wrapping_add(1), 0)],
            Established,
        ),
        (
            "challenge ACK, RST, SYN again",
            &[
                SYN_,
                SYN_ACK,
                ACK_,
                (OPENER, SYN, 5, 0, 0),
                (OTHER, ACK, B + 1, A.wrapping_add(1), 0),
                (OPENER, RST, A.wrapping_add(1), 0, 0),
                (OPENER, SYN, 5, 0, 0),
            ],
            Opening,
        ),
        (
            "scans on an established connection",
            &[
                SYN_,
                SYN_ACK,
                ACK_,
                (OPENER, 0, 0, 0, 0),
                (OPENER, FIN | PSH | URG, 0, 0, 0),
                (OTHER, FIN, 0, 0, 0),
                (OPENER, SYN | FIN, 0, 0, 0),
            ],
            Established,
        ),
    ];
    for (name, segments, expected) in cases {
        assert_eq!(after(segments), expected, "{name}");
    }
}

#[test]
fn a_second_connection_in_time_wait_is_judged_by_its_own_handshake() {
    let mut session = session();
    observe(&mut session, &[SYN_, SYN_ACK, ACK_, DATA, REPLY, FIN_, FIN_BACK, LAST_ACK]);
    let again: [Sent; 3] = [(OPENER, SYN, 99_000, 0, 0), (OTHER, SYN | ACK, 5, 99_001, 0), (OPENER, ACK, 99_001, 6, 0)];
    assert_eq!(observe(&mut session, &again[..2]), TcpState::Opening);
    assert_eq!((session.next_to_high, session.next_to_low), (99_001, 6));
    assert_eq!(observe(&mut session, &again[2..]), TcpState::Established);
}

#[test]
fn an_ack_that_acknowledges_nothing_completes_no_handshake() {
    for blind in [0, 1, B.wrapping_sub(70_000), B + 2, B + 1_000_000, 0x8000_0000] {
        assert_eq!(after(&[SYN_, SYN_ACK, (OPENER, ACK, A.wrapping_add(1), blind, 0)]), TcpState::Opening, "{blind}");
    }
    // With Fast Open the server may have sent more than the client has received.
    let early_data = (OTHER, ACK, B + 1, A.wrapping_add(1), 14_000);
    assert_eq!(after(&[SYN_, SYN_ACK, early_data, ACK_]), TcpState::Established);
}

#[test]
fn the_next_sequence_number_is_the_highest_that_was_forwarded() {
    let mut session = session();
    observe(&mut session, &[SYN_, SYN_ACK, ACK_, DATA, REPLY]);
    assert_eq!((session.next_to_high, session.next_to_low), (A.wrapping_add(501), B + 901));
    observe(&mut session, &[ACK_, DATA, SYN_ACK]);
    assert_eq!((session.next_to_high, session.next_to_low), (A.wrapping_add(501), B + 901), "old segments are behind");
    observe(&mut session, &[(OTHER, RST, B + 2_000_000, 0, 0)]);
    assert_eq!(session.next_to_low, B + 901, "an RST may be anybody's");
}

#[test]
fn only_what_a_tcp_would_send_opens_a_session() {
    let opens = [SYN, SYN | PSH, SYN | ACK, ACK, ACK | PSH, ACK | URG, FIN | ACK, SYN | 0xc0, SYN | URG];
    let does_not = [
        0,
        PSH,
        URG,
        FIN,
        FIN | PSH | URG,
        SYN | FIN,
        SYN | RST,
        SYN | FIN | ACK,
        RST,
        RST | ACK,
        0xff,
        SYN | RST | ACK,
    ];
    for flags in opens {
        assert!(may_open_session(flags), "{flags:#04x}");
    }
    for flags in does_not {
        assert!(!may_open_session(flags), "{flags:#04x}");
    }
}

#[test]
fn a_refused_connection_is_half_open_and_a_closed_one_is_not() {
    let half_open = |segments: &[Sent]| {
        let mut session = session();
        observe(&mut session, segments);
        session.is_half_open()
    };
    assert!(half_open(&[SYN_]));
    assert!(half_open(&[SYN_, SYN_ACK]));
    assert!(half_open(&[SYN_, REFUSAL]));
    assert!(!half_open(&[SYN_, SYN_ACK, ACK_]));
    assert!(!half_open(&[SYN_, SYN_ACK, ACK_, DATA, REPLY, FIN_, FIN_BACK]));
    assert!(!half_open(&[SYN_, SYN_ACK, ACK_, RESET]));
}

proptest! {
    /// Whatever segments one end sends, they alone do not establish a connection.
    #[test]
    fn one_end_alone_establishes_nothing(segments in prop::collection::vec((any::<u8>(), any::<u32>(), any::<u32>()), 0..50)) {
        let segments: Vec<_> = segments.into_iter().map(|(flags, seq, ack)| (OPENER, flags, seq, ack, 0)).collect();
        prop_assert_ne!(after(&segments), TcpState::Established);
    }
}
