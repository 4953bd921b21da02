//! The firewalls of a lost peer stop answering, and answer again.

use super::*;

impl Lab {
    /// Reports which firewalls answer ARP, and lets 50 ms pass.
    fn answering(&mut self, firewalls: &[(u16, bool)]) {
        for &(firewall, answers) in firewalls {
            self.liveness.handle_neighbor_state(FirewallId(firewall), Family::V4, answers);
        }
        self.wait(50);
    }

    fn sees(&self) -> (Slots, PeerState) {
        (self.set().0, self.peer())
    }
}

#[test]
fn lost_is_down_while_nobody_answers_and_lost_again_as_soon_as_somebody_does() {
    use PeerState::{Down, Lost};
    // The firewalls that answer from now on, and those that are up then.
    type Answering = &'static [(u16, bool)];
    let table: [(Answering, Slots, PeerState); 9] = [
        (&[], 0b111, Lost),
        (&[(0, false)], 0b110, Lost),
        (&[(1, false)], 0b100, Lost),
        (&[(2, false)], 0b000, Down),
        (&[], 0b000, Down),
        (&[(1, true)], 0b010, Lost),
        (&[(1, false)], 0b000, Down),
        (&[(0, true), (2, true)], 0b101, Lost),
        (&[(1, true)], 0b111, Lost),
    ];
    let mut lab = Lab::up(3);
    lab.paths(&[DOWN; 3]);
    for (row, (answering, up, peer)) in table.into_iter().enumerate() {
        lab.answering(answering);
        assert_eq!(lab.sees(), (up, peer), "row {row}");
        assert_eq!(lab.set().1, up, "row {row}: new flows go as before");
    }
    assert_eq!(lab.set().2, [1, 2, 1]);
}

#[test]
fn both_cables_cut_before_the_first_probe_is_missed_is_no_one_way_street_either() {
    let mut lab = Lab::up(2);
    lab.paths(&[FAILING, FAILING]);
    lab.answering(&[(0, false), (1, false)]);
    lab.paths(&[DOWN, FAILING]);
    lab.paths(&[DOWN, DOWN]);
    assert_eq!(lab.sees(), (0, PeerState::Down));
    lab.answering(&[(0, true), (1, true)]);
    assert_eq!(lab.sees(), (0b11, PeerState::Lost));
    lab.paths(&[UP, DOWN]);
    lab.wait(GRACE.as_millis() as u64 - 100);
    lab.paths(&[UP, UP]);
    assert_eq!(lab.sees(), (0b11, PeerState::Up));
}

#[test]
fn own_links_that_come_back_one_after_the_other_bring_their_firewalls_back() {
    let mut lab = Lab::up(2);
    lab.paths(&[DOWN, DOWN]);
    for (firewall, is_down) in [(0, true), (1, true), (0, false), (1, false)] {
        lab.liveness.handle_link_state(FirewallId(firewall), is_down);
        lab.wait(50);
    }
    assert_eq!(lab.sees(), (0b11, PeerState::Lost));
}

#[test]
fn a_firewall_that_died_while_the_peer_was_heard_is_not_of_the_last_live_set() {
    let mut lab = Lab::up(2);
    lab.answering(&[(0, false)]);
    lab.paths(&[DOWN, UP]);
    lab.paths(&[DOWN, DOWN]);
    assert_eq!(lab.sees(), (0b10, PeerState::Lost));
    lab.answering(&[(0, true)]);
    assert_eq!(lab.sees(), (0b10, PeerState::Lost));
    lab.answering(&[(1, false)]);
    assert_eq!(lab.sees(), (0, PeerState::Down));
    lab.answering(&[(1, true)]);
    assert_eq!(lab.sees(), (0b10, PeerState::Lost));
}

#[test]
fn a_firewall_that_stays_away_while_the_peer_is_heard_again_has_to_earn_its_place() {
    let mut lab = Lab::up(2);
    lab.answering(&[(0, false), (1, false)]);
    lab.paths(&[DOWN, DOWN]);
    lab.answering(&[(0, true)]);
    lab.paths(&[UP, DOWN]);
    lab.wait(GRACE.as_millis() as u64);
    assert_eq!(lab.sees(), (0b01, PeerState::Up));
    lab.paths(&[DOWN, DOWN]);
    lab.answering(&[(1, true)]);
    assert_eq!(lab.sees(), (0b01, PeerState::Lost));
}

#[test]
fn a_reload_keeps_in_mind_who_may_come_back() {
    let mut lab = Lab::up(2);
    lab.answering(&[(0, false), (1, false)]);
    lab.paths(&[DOWN, DOWN]);
    lab.liveness.apply(config(2, 1), at(lab.now));
    lab.wait(50);
    assert_eq!(lab.sees(), (0, PeerState::Down));
    lab.answering(&[(1, true)]);
    assert_eq!(lab.sees(), (0b10, PeerState::Lost));
}

#[test]
fn the_last_word_of_a_lost_peer_does_not_take_every_firewall_down() {
    let said = |first, second| [(0, first, AdminState::Ready), (1, second, AdminState::Ready)];
    let mut lab = Lab::up(2);
    lab.told(&said(PathState::Down, PathState::Down));
    assert_eq!(lab.sees(), (0, PeerState::Up), "while it is heard, it knows");
    lab.paths(&[DOWN, DOWN]);
    lab.wait(60_000);
    assert_eq!(lab.sees(), (0b11, PeerState::Lost));
    assert_eq!(lab.firewall(0), (FirewallState::Up, StateReason::Healthy));

    let mut lab = Lab::up(2);
    lab.told(&said(PathState::Down, PathState::Up));
    lab.paths(&[DOWN, DOWN]);
    assert_eq!(lab.sees(), (0b10, PeerState::Lost), "what it said of one firewall holds");
}
