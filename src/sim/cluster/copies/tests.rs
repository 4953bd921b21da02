//! Every rule is broken on purpose, and the checker says so.

use super::*;
use crate::id::{ServerId, ServiceId};

const NOW: Instant = Instant::from_millis(100_000);

fn session(port: u16) -> HeldSession {
    let address = |last| std::net::IpAddr::from([192, 0, 2, last]);
    let outside = Tuple { protocol: 6, source: (address(1), port), destination: (address(80), 80) };
    HeldSession {
        outside,
        inside: Some(Tuple { destination: (address(10), 8080), ..outside }),
        server: Some((ServiceId(0), ServerId(0))),
        firewalls: [None; 2],
        state: ConversationState::Tcp(TcpState::Established),
        last_seen: NOW,
        timeout: Duration::from_secs(6),
        needs_copy: true,
        is_copy: true,
    }
}

fn router(sessions: &[HeldSession]) -> NodeTable {
    let sessions = sessions.to_vec();
    NodeTable { is_alive: true, is_router: true, refuses: false, sessions, told: vec![1] }
}

fn standby(sessions: &[HeldSession]) -> NodeTable {
    NodeTable { is_router: false, told: Vec::new(), ..router(sessions) }
}

/// Looks every 20 ms, for as long as a difference may last and a little longer.
fn looks(checks: &mut CopyChecks, nodes: &[NodeTable; 2], quiet_since: Option<Instant>) -> Vec<String> {
    (0..140).flat_map(|look| checks.look(nodes.to_vec(), quiet_since, NOW + EVERY * look)).collect()
}

#[test]
fn equal_tables_are_good() {
    let sessions = [session(1), session(2)];
    let mut checks = CopyChecks::new(2);
    let wrong = looks(&mut checks, &[router(&sessions), standby(&sessions)], Some(Instant::ZERO));
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(checks.takes_over(1, &router(&sessions), NOW + Duration::from_secs(2)), Vec::<String>::new());
}

#[test]
fn a_session_that_was_acknowledged_and_is_lost_is_found() {
    let mut checks = CopyChecks::new(2);
    let sessions = [session(1), session(2)];
    looks(&mut checks, &[router(&sessions), standby(&sessions)], Some(Instant::ZERO));
    let after = NOW + Duration::from_millis(2800);
    let another = HeldSession { server: Some((ServiceId(0), ServerId(1))), ..session(2) };
    for (held, lost) in [(vec![session(1)], 1), (vec![session(1), another], 1), (Vec::new(), 2)] {
        let mut checks = CopyChecks { acknowledged: checks.acknowledged.clone(), ..CopyChecks::new(2) };
        checks.last[0] = router(&sessions);
        assert_eq!(checks.takes_over(1, &router(&held), after).len(), lost);
        assert!(checks.takes_over(1, &router(&held), after).is_empty(), "it is said once");
    }
}

#[test]
fn what_was_never_acknowledged_or_has_ended_may_be_lost() {
    let sessions = [session(1)];
    let silent = NodeTable { told: Vec::new(), ..router(&sessions) };
    let mut checks = CopyChecks::new(2);
    looks(&mut checks, &[silent, standby(&[])], None);
    assert!(checks.takes_over(1, &router(&[]), NOW).is_empty(), "never acknowledged");

    let mut checks = CopyChecks::new(2);
    looks(&mut checks, &[router(&sessions), standby(&sessions)], None);
    let later = NOW + Duration::from_millis(2850);
    checks.look(vec![router(&[]), standby(&sessions)], None, later);
    assert!(checks.takes_over(1, &router(&[]), later).is_empty(), "it had ended");

    let mut checks = CopyChecks::new(2);
    looks(&mut checks, &[router(&sessions), standby(&sessions)], None);
    assert!(checks.takes_over(1, &router(&[]), NOW + Duration::from_secs(4)).is_empty(), "it may have expired");
}

#[test]
fn a_copy_that_outlives_its_session_is_found() {
    let mut checks = CopyChecks::new(2);
    checks.look(vec![router(&[session(1)]), standby(&[session(1)])], None, NOW);
    let mut at = |ms| checks.look(vec![router(&[]), standby(&[session(1)])], None, NOW + Duration::from_millis(ms));
    assert!(at(12_000).is_empty());
    assert_eq!(at(12_001).len(), 1);
}

#[test]
fn two_sessions_with_one_inside_are_found() {
    let twin = HeldSession { inside: session(1).inside, ..session(2) };
    for node in [router(&[session(1), twin]), standby(&[session(1), twin])] {
        let wrong = CopyChecks::new(2).look(vec![node, NodeTable::default()], None, NOW);
        assert!(wrong.iter().any(|what| what.contains("inside")), "{wrong:?}");
    }
}

#[test]
fn copies_that_stay_different_are_found() {
    let closing = HeldSession { state: ConversationState::Tcp(TcpState::Closing), ..session(1) };
    let another = HeldSession { server: Some((ServiceId(0), ServerId(1))), ..session(1) };
    let pinned = HeldSession { firewalls: [Some(crate::id::FirewallId(1)), None], ..session(1) };
    let unneeded = HeldSession { needs_copy: false, ..session(1) };
    for (needed, held) in [
        (vec![session(1)], vec![]),
        (vec![], vec![session(1)]),
        (vec![unneeded], vec![session(1)]),
        (vec![closing], vec![session(1)]),
        (vec![another], vec![session(1)]),
        (vec![pinned], vec![session(1)]),
    ] {
        let nodes = [router(&needed), standby(&held)];
        let alive = NOW + Duration::from_secs(1);
        // Nothing is said of copies that outlive their session.
        let checks = || {
            let mut checks = CopyChecks::new(2);
            checks.alive_at.insert(session(1).outside, NOW);
            checks
        };
        assert_eq!(looks(&mut checks(), &nodes, None), Vec::<String>::new(), "a fault lasts");
        assert_eq!(looks(&mut checks(), &nodes, Some(alive)), Vec::<String>::new(), "two passes may be missing");
        assert!(!looks(&mut checks(), &nodes, Some(NOW)).is_empty(), "{nodes:?}");
    }
}
