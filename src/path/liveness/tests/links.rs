//! The engine's own links to the firewalls go down.

use super::*;

impl Lab {
    fn links(&mut self, firewalls: &[u16], are_down: bool) {
        for firewall in firewalls {
            self.liveness.handle_link_state(FirewallId(*firewall), are_down);
        }
    }
}

#[test]
fn an_engine_without_links_has_nobody_up_and_blames_nobody() {
    let mut lab = Lab::up(2);
    lab.links(&[0, 1], true);
    let changes = lab.paths(&[DOWN, DOWN]);
    assert_eq!((lab.set(), lab.peer()), ((0, 0, vec![0, 0]), PeerState::Lost));
    assert_eq!(lab.firewall(0), (FirewallState::Down, StateReason::Link));
    assert!(changes.contains(&LivenessChange::BelowMin { set: V4, below: true }));
    lab.wait(60_000);

    lab.links(&[0, 1], false);
    lab.wait(0);
    assert_eq!(lab.set(), (0b11, 0b11, vec![0, 0]), "all is as before, before any probe was answered");
    lab.paths(&[UP, DOWN]);
    lab.wait(GRACE.as_millis() as u64 - 100);
    lab.paths(&[UP, UP]);
    lab.wait(GRACE.as_millis() as u64);
    assert_eq!((lab.set(), lab.peer()), ((0b11, 0b11, vec![0, 0]), PeerState::Up));
}

#[test]
fn a_firewall_that_died_while_the_engine_had_no_link_falls_when_it_is_looked_for() {
    let mut lab = Lab::up(2);
    lab.links(&[0, 1], true);
    lab.paths(&[DOWN, DOWN]);
    lab.links(&[0, 1], false);
    lab.paths(&[UP, DOWN]);
    lab.silent(1);
    lab.wait(50);
    assert_eq!((lab.set(), lab.peer()), ((0b01, 0b01, vec![0, 1]), PeerState::Up));
}

#[test]
fn a_link_that_is_down_beside_another_takes_its_own_firewalls_down_at_once() {
    let mut lab = Lab::up(3);
    lab.links(&[0, 1], true);
    lab.paths(&[DOWN, DOWN, FAILING]);
    assert_eq!((lab.set(), lab.peer()), ((0b100, 0b100, vec![1, 1, 0]), PeerState::Up));
    lab.links(&[2], true);
    lab.paths(&[DOWN, DOWN, DOWN]);
    assert_eq!((lab.set(), lab.peer()), ((0, 0, vec![1, 1, 0]), PeerState::Lost), "nobody is left to tell them apart");
}
