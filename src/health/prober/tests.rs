use super::*;
use crate::wire::{Family, MacAddr};

fn check(kind: PathCheckKind) -> PathCheck {
    PathCheck { kind, ..PathCheck::default() }
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn way() -> Option<(MacPair, AddressPair)> {
    let macs = MacPair { source: MacAddr([2, 0, 0, 0, 0, 1]), destination: MacAddr([2, 0, 0, 0, 0, 2]) };
    Some((macs, AddressPair::new("10.1.0.1".parse().unwrap(), "10.2.0.1".parse().unwrap()).unwrap()))
}

/// The sequence number of the echo request in a frame.
fn sequence(frame: &[u8]) -> u16 {
    Echo::parse(Family::V4, &frame[34..]).expect("an echo request").sequence
}

fn reply(sequence: u16, data: &[u8]) -> Echo<'_> {
    Echo { kind: EchoKind::Reply, ident: 7, sequence, data }
}

#[test]
fn an_answer_counts_if_identifier_sequence_and_payload_are_right_and_once() {
    let mut prober = PathProber::new(&check(PathCheckKind::Icmp), 7, at(0));
    let frame = prober.send_probe(b"payload".to_vec(), way(), 0, at(0)).unwrap();
    let sequence = sequence(&frame);

    for wrong in [
        Echo { ident: 8, ..reply(sequence, b"payload") },
        Echo { kind: EchoKind::Request, ..reply(sequence, b"payload") },
        reply(sequence + 1, b"payload"),
        reply(sequence, b"payloaD"),
    ] {
        assert_eq!(prober.handle_echo_reply(&wrong, at(3)), None);
    }
    assert_eq!(prober.poll_result(at(3)), None);
    assert_eq!(prober.handle_echo_reply(&reply(sequence, b"payload"), at(3)), Some(Duration::from_millis(3)));
    assert_eq!(prober.handle_echo_reply(&reply(sequence, b"payload"), at(4)), None, "a duplicate");
    assert_eq!(prober.poll_result(at(4)), Some(ProbeResult::Counted(ProbeOutcome::Success)));
    assert_eq!(prober.poll_result(at(4)), None);
}

#[test]
fn outcomes_come_in_the_order_of_the_probes() {
    let mut prober = PathProber::new(&check(PathCheckKind::Icmp), 7, at(0));
    prober.send_probe(b"lost".to_vec(), way(), 0, at(0));
    let second = prober.send_probe(b"answered".to_vec(), way(), 0, at(50)).unwrap();
    assert!(prober.handle_echo_reply(&reply(sequence(&second), b"answered"), at(51)).is_some());
    assert_eq!(prober.poll_result(at(99)), None, "the first may still be answered");
    assert_eq!(prober.poll_result(at(100)), Some(ProbeResult::Counted(ProbeOutcome::Failure)));
    assert_eq!(prober.poll_result(at(100)), Some(ProbeResult::Counted(ProbeOutcome::Success)));
}

#[test]
fn what_was_missed_while_the_engine_slept_is_excused_and_what_comes_late_still_counts() {
    let mut prober = PathProber::new(&check(PathCheckKind::Icmp), 7, at(0));
    prober.send_probe(b"a".to_vec(), way(), 0, at(0));
    let second = prober.send_probe(b"b".to_vec(), way(), 0, at(50)).unwrap();
    prober.excuse();
    assert!(prober.handle_echo_reply(&reply(sequence(&second), b"b"), at(5_000)).is_some());
    assert_eq!(prober.poll_result(at(5_000)), Some(ProbeResult::Excused));
    assert_eq!(prober.poll_result(at(5_000)), Some(ProbeResult::Counted(ProbeOutcome::Success)));
}

#[test]
fn a_probe_that_could_not_be_sent_has_failed() {
    let mut prober = PathProber::new(&check(PathCheckKind::Icmp), 7, at(0));
    assert_eq!(prober.send_probe(b"x".to_vec(), None, 0, at(0)), None);
    assert_eq!(prober.poll_result(at(100)), Some(ProbeResult::Counted(ProbeOutcome::Failure)));
}

#[test]
fn the_pace_is_the_interval_shortened_by_up_to_a_tenth_without_drift_or_burst() {
    let mut prober = PathProber::new(&check(PathCheckKind::Icmp), 7, at(0));
    let mut last = at(0);
    for random in 0..2_000 {
        let due = prober.next.unwrap();
        let step = due.since(last);
        assert!(random == 0 || step >= Duration::from_millis(45) && step <= Duration::from_millis(50), "{step:?}");
        last = due;
        prober.send_probe(Vec::new(), way(), random * 7_919, due + Duration::from_millis(2));
        while prober.poll_result(due).is_some() {}
        assert!(prober.in_flight.len() <= 4, "what has timed out is dropped");
    }
    let woken = last + Duration::from_secs(5);
    prober.send_probe(Vec::new(), way(), 0, woken);
    assert!(!prober.is_due(woken + Duration::from_millis(40)));
}

#[test]
fn a_tcp_probe_hands_its_payload_over_and_closes_with_a_reset() {
    let mut prober = PathProber::new(&check(PathCheckKind::Tcp { port: 7 }), 300, at(0));
    let mut ports = std::collections::BTreeSet::new();
    for n in 0..200_u64 {
        let now = at(50 * n);
        let syn = prober.send_probe(b"payload".to_vec(), way(), n << 32, now).unwrap();
        let port = u16::from_be_bytes([syn[34], syn[35]]);
        let sequence = u32::from_be_bytes([syn[38], syn[39], syn[40], syn[41]]);
        assert!((prober.first_port..prober.first_port + TCP_PORTS).contains(&port));
        ports.insert(port);
        let accept = Segment {
            source_port: 7,
            destination_port: port,
            flags: tcp_flags::SYN | tcp_flags::ACK,
            sequence: 5_000,
            acknowledgement: sequence.wrapping_add(1),
            ..Segment::default()
        };
        let (macs, pair) = way().unwrap();
        let wrong = Segment { acknowledgement: sequence, ..accept };
        assert_eq!(prober.handle_tcp(&wrong, macs, pair, now), None);
        let Some(TcpAnswer::Connected { frames: [data, reset], .. }) = prober.handle_tcp(&accept, macs, pair, now)
        else {
            panic!("not connected");
        };
        assert!(data.ends_with(b"payload"));
        assert_eq!((data[47] & tcp_flags::ACK, reset[47] & tcp_flags::RST), (tcp_flags::ACK, tcp_flags::RST));
        let after = u32::from_be_bytes([reset[38], reset[39], reset[40], reset[41]]);
        assert_eq!(after, sequence.wrapping_add(8));
        assert_eq!(prober.poll_result(now), Some(ProbeResult::Counted(ProbeOutcome::Success)));
    }
    assert_eq!(ports.len(), usize::from(TCP_PORTS));
}

#[test]
fn a_refused_connection_is_a_failure_at_once() {
    let mut prober = PathProber::new(&check(PathCheckKind::Tcp { port: 7 }), 7, at(0));
    let syn = prober.send_probe(Vec::new(), way(), 9 << 32, at(0)).unwrap();
    let refusal = Segment {
        source_port: 7,
        destination_port: u16::from_be_bytes([syn[34], syn[35]]),
        flags: tcp_flags::RST | tcp_flags::ACK,
        acknowledgement: 10,
        ..Segment::default()
    };
    let (macs, pair) = way().unwrap();
    assert!(matches!(prober.handle_tcp(&refusal, macs, pair, at(1)), Some(TcpAnswer::Refused { .. })));
    assert_eq!(prober.poll_result(at(1)), Some(ProbeResult::Counted(ProbeOutcome::Failure)));
}

#[test]
fn the_ports_of_every_path_lie_within_the_dynamic_range() {
    for ident in 0..=u16::MAX {
        let prober = PathProber::new(&check(PathCheckKind::Tcp { port: 7 }), ident, at(0));
        assert!(prober.first_port >= FIRST_PORT && prober.first_port.checked_add(TCP_PORTS - 1).is_some());
    }
}
