//! Segments of an attacker who knows the ends of a connection but not its numbers (RFC 5961; rules A9.4 to A9.6 of
//! `docs/protocols.md`).

use super::*;

/// A conversation with data in both directions: the opener is expected to continue at A + 501, the other end at B +
/// 901.
const SPOKEN: [Sent; 5] = [SYN_, SYN_ACK, ACK_, DATA, REPLY];
const NEXT_OF_OPENER: u32 = A.wrapping_add(501);
const NEXT_OF_OTHER: u32 = B + 901;
/// The opener acknowledges all of it.
const HEARD: Sent = (OPENER, ACK, NEXT_OF_OPENER, NEXT_OF_OTHER, 0);

fn spoken() -> Session {
    let mut session = session();
    assert_eq!(observe(&mut session, &SPOKEN), TcpState::Established);
    session
}

/// All values that decide the session's timeout and state.
fn judged(session: &Session) -> (crate::session::ConversationState, u32, u32, u32, u32, bool) {
    let Session { state, next_to_low, next_to_high, acked_by_low, acked_by_high, .. } = *session;
    (state, next_to_low, next_to_high, acked_by_low, acked_by_high, session.was_closed())
}

#[test]
fn a_reset_counts_where_its_receiver_obeys_it() {
    use TcpState::{Closing, Established};
    let in_flight = (OTHER, ACK, NEXT_OF_OTHER, NEXT_OF_OPENER, 1000);
    let cases: [(&str, &[Sent], Sent, TcpState); 10] = [
        ("after all that was sent", &[HEARD], (OTHER, RST, NEXT_OF_OTHER, 0, 0), Closing),
        ("the same by the opener", &[HEARD], (OPENER, RST | ACK, NEXT_OF_OPENER, NEXT_OF_OTHER, 0), Closing),
        ("one too early", &[HEARD], (OTHER, RST, NEXT_OF_OTHER - 1, 0, 0), Established),
        ("one too late", &[HEARD], (OTHER, RST, NEXT_OF_OTHER + 1, 0, 0), Established),
        ("far away", &[HEARD], (OTHER, RST, 12_345, 777, 0), Established),
        (
            "with data on the way: where that ends",
            &[HEARD, in_flight],
            (OTHER, RST, NEXT_OF_OTHER + 1000, 0, 0),
            Closing,
        ),
        (
            "with data on the way: what was acknowledged",
            &[HEARD, in_flight],
            (OTHER, RST, NEXT_OF_OTHER, 0, 0),
            Closing,
        ),
        ("with data on the way: between", &[HEARD, in_flight], (OTHER, RST, NEXT_OF_OTHER + 500, 0, 0), Established),
        (
            "after its FIN",
            &[HEARD, (OTHER, FIN | ACK, NEXT_OF_OTHER, NEXT_OF_OPENER, 0)],
            (OTHER, RST, NEXT_OF_OTHER + 1, 0, 0),
            Closing,
        ),
        (
            "at its FIN",
            &[HEARD, (OTHER, FIN | ACK, NEXT_OF_OTHER, NEXT_OF_OPENER, 0)],
            (OTHER, RST, NEXT_OF_OTHER, 0, 0),
            Closing,
        ),
    ];
    for (name, before, reset, expected) in cases {
        let mut session = spoken();
        observe(&mut session, before);
        assert_eq!(observe(&mut session, &[reset]), expected, "{name}");
    }
}

/// Each of these may arrive alone and after the others.
#[test]
fn no_flag_with_wrong_numbers_changes_a_connection() {
    let blind = [SYN, SYN | ACK, RST, RST | ACK, SYN | RST, FIN | ACK, FIN, ACK, ACK | PSH, SYN | FIN, 0];
    let mut session = spoken();
    observe(&mut session, &[HEARD]);
    let before = judged(&session);
    for from in [OPENER, OTHER] {
        for flags in blind {
            for then in blind {
                observe(
                    &mut session,
                    &[(from, flags, 3_000_000_000, 1_000_000_000, 10), (from, then, 3_000_000_010, 7, 0)],
                );
                assert_eq!(judged(&session), before, "{flags:#04x}, {then:#04x}");
            }
        }
    }
    observe(&mut session, &[FIN_, FIN_BACK]);
    assert!(session.was_closed());
}

/// A handshake that is disturbed by others is completed by the ends that know its numbers.
#[test]
fn a_handshake_is_judged_by_what_only_its_ends_know() {
    let foreign: [&[Sent]; 4] = [
        &[(OPENER, SYN, 5, 0, 0)],
        &[(OTHER, SYN | ACK, 7, 99, 0)],
        &[(OTHER, SYN, 7, 0, 0)],
        &[(OTHER, ACK, 7, 99, 500), (OPENER, ACK, 9, 9, 9)],
    ];
    for disturbance in foreign {
        for at in 0..3 {
            let mut segments = vec![SYN_, SYN_ACK, ACK_, DATA, REPLY];
            segments.splice(at + 1..at + 1, disturbance.iter().copied());
            let mut session = session();
            assert_eq!(observe(&mut session, &segments), TcpState::Established, "{disturbance:?} after {at}");
            observe(&mut session, &[HEARD]);
            assert_eq!(
                observe(&mut session, &[(OTHER, RST, NEXT_OF_OTHER, 0, 0)]),
                TcpState::Closing,
                "{disturbance:?} after {at}"
            );
        }
    }
}

#[test]
fn a_connection_of_which_one_direction_is_seen_ends_by_its_own_numbers() {
    let alone = |segments: &[Sent]| {
        let mut session = session();
        session.expect_no_replies();
        observe(&mut session, &[SYN_, ACK_, DATA]);
        observe(&mut session, segments)
    };
    use TcpState::{Closing, Established};
    assert_eq!(alone(&[]), Established);
    assert_eq!(
        alone(&[
            (OPENER, ACK, NEXT_OF_OPENER, B + 1_000_000, 0),
            (OPENER, FIN | ACK, NEXT_OF_OPENER, B + 9_000_000, 0)
        ]),
        Closing
    );
    assert_eq!(alone(&[(OPENER, RST, NEXT_OF_OPENER, 0, 0)]), Closing);
    assert_eq!(alone(&[(OPENER, RST, 5, 0, 0)]), Established);
    assert_eq!(alone(&[(OPENER, FIN | ACK, 3_000_000_000, B + 1, 0)]), Established);
    assert_eq!(alone(&[(OPENER, FIN | ACK, NEXT_OF_OPENER, 3_000_000_000, 0)]), Established);
}

#[test]
fn a_connection_that_is_picked_up_ends_as_any_other() {
    use TcpState::{Closing, Established};
    let mut session = session();
    assert_eq!(observe(&mut session, &[DATA, REPLY]), Established);
    assert_eq!(observe(&mut session, &[(OTHER, RST, 5, 0, 0), (OPENER, RST, 5, 0, 0)]), Established);
    assert_eq!(observe(&mut session, &[(OTHER, RST, NEXT_OF_OTHER, 0, 0)]), Closing);
    // An end that does not know the connection answers its segment.
    assert_eq!(after(&[DATA, (OTHER, RST, B + 1, 0, 0)]), Closing);
}

/// With window scaling, megabytes may be in flight.
#[test]
fn a_window_of_megabytes_is_no_attack() {
    let mut session = spoken();
    let far = NEXT_OF_OTHER + 8_000_000;
    observe(&mut session, &[(OTHER, ACK, far, NEXT_OF_OPENER, 1448)]);
    assert_eq!(session.next_to_low, far + 1448);
    observe(&mut session, &[(OPENER, ACK, NEXT_OF_OPENER, far, 0), (OTHER, ACK, NEXT_OF_OTHER, NEXT_OF_OPENER, 1448)]);
    assert_eq!((session.next_to_low, session.acked_by_low), (far + 1448, far));
    assert_eq!(observe(&mut session, &[(OTHER, RST, far + 1448, 0, 0)]), TcpState::Closing);
}

/// The server lost the connection, and its client opens another one from the same port. The session follows the new
/// numbers and ends with the new connection.
#[test]
fn a_server_that_answers_a_new_syn_has_forgotten_the_old_connection() {
    let mut session = spoken();
    let again: [Sent; 4] = [
        (OPENER, SYN, 1_000_000, 0, 0),
        (OTHER, SYN | ACK, 3_000_000_000, 1_000_001, 0),
        (OPENER, ACK, 1_000_001, 3_000_000_001, 0),
        (OPENER, FIN | ACK, 1_000_001, 3_000_000_001, 0),
    ];
    assert_eq!(observe(&mut session, &again), TcpState::Established);
    assert_eq!(observe(&mut session, &[(OTHER, FIN | ACK, 3_000_000_001, 1_000_002, 0)]), TcpState::Closing);

    // An end that still has the connection challenges the SYN; any other answer may be forged.
    let mut session = spoken();
    observe(&mut session, &[again[0], (OTHER, ACK, NEXT_OF_OTHER, NEXT_OF_OPENER, 0)]);
    let before = judged(&session);
    observe(&mut session, &again[1..2]);
    assert_eq!(judged(&session), before);
}

#[test]
fn ten_thousand_blind_resets_end_none_of_a_hundred_connections() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 32) as u32
    };
    let mut sessions: Vec<Session> = (0..100).map(|_| spoken()).collect();
    for attempt in 0..10_000 {
        let from = if draw() % 2 == 0 { OPENER } else { OTHER };
        let flags = [RST, RST | ACK, SYN | ACK, FIN | ACK, SYN][draw() as usize % 5];
        observe(&mut sessions[attempt % 100], &[(from, flags, draw(), draw(), 0)]);
    }
    assert_eq!(
        sessions
            .iter()
            .filter(|session| session.state != crate::session::ConversationState::Tcp(TcpState::Established))
            .count(),
        0
    );
}

proptest! {
    /// After any segments outside the windows, a connection ends as if they had not been sent.
    #[test]
    fn a_fin_each_way_or_an_rst_ends_every_connection(
        noise in prop::collection::vec((any::<bool>(), any::<u8>(), any::<u32>(), any::<u32>(), 0..2000u32), 0..50),
        reset: bool,
    ) {
        let mut session = spoken();
        observe(&mut session, &[HEARD]);
        let near = |number: u32, known: u32| number.wrapping_sub(known).wrapping_add(1 << 25) < 1 << 26;
        for (low, flags, sequence, acknowledgement, payload) in noise {
            let (from, next, acked) =
                if low { (OPENER, NEXT_OF_OPENER, NEXT_OF_OTHER) } else { (OTHER, NEXT_OF_OTHER, NEXT_OF_OPENER) };
            let answers_syn = flags & (SYN | ACK) == SYN | ACK;
            if !near(sequence, next) && !near(acknowledgement, acked) && !answers_syn {
                observe(&mut session, &[(from, flags, sequence, acknowledgement, payload)]);
            }
        }
        let end: &[Sent] = if reset { &[(OTHER, RST, NEXT_OF_OTHER, 0, 0)] } else { &[FIN_, FIN_BACK, FIN_] };
        prop_assert_eq!(observe(&mut session, end), TcpState::Closing);
    }
}
