//! The set of a model network under random failures of firewalls and peer.

use proptest::prelude::*;

use super::*;

/// A model of the probes of one path (fall 5, rise 10, hold 2 s, every 50 ms) in a network of which the test decides
/// what works.
#[derive(Clone, Copy)]
struct Probes {
    verdict: PathState,
    streak: u32,
    good_for: u32,
    failing: bool,
}

impl Probes {
    fn probe(&mut self, answered: bool) {
        self.failing = !answered;
        self.good_for = if answered { self.good_for + 1 } else { 0 };
        let (needed, next) = match (self.verdict, answered) {
            (PathState::Up, false) | (PathState::Starting, false) => (5, PathState::Down),
            (PathState::Down | PathState::Starting, true) => (10, PathState::Up),
            (PathState::Up, true) | (PathState::Down, false) => {
                self.streak = 0;
                return;
            }
        };
        self.streak += 1;
        if self.streak >= needed {
            (self.verdict, self.streak) = (next, 0);
        }
    }

    fn health(&self) -> PathHealth {
        PathHealth { verdict: self.verdict, accepts_new_flows: self.good_for >= 40, failing: self.failing }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Firewall(usize, bool),
    /// Whether the far side of the firewall works. The firewall answers ARP in any case.
    FarLeg(usize, bool),
    Peer(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..3_usize, any::<bool>()).prop_map(|(firewall, works)| Event::Firewall(firewall, works)),
        (0..3_usize, any::<bool>()).prop_map(|(firewall, works)| Event::FarLeg(firewall, works)),
        any::<bool>().prop_map(Event::Peer),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Events are far enough apart to be evaluated one by one, so that the resulting set is known.
    #[test]
    fn the_set_follows_the_firewalls_and_not_the_peer(events in prop::collection::vec(event(), 1..12)) {
        let mut lab = Lab::new(config(3, 1));
        let mut probes = [Probes { verdict: PathState::Starting, streak: 0, good_for: 0, failing: false }; 3];
        let (mut alive, mut far_leg, mut peer) = ([true; 3], [true; 3], true);
        // The firewalls that worked when the peer last answered.
        let mut last = 0;
        for event in std::iter::once(Event::Peer(true)).chain(events) {
            match event {
                Event::Firewall(firewall, works) => alive[firewall] = works,
                Event::FarLeg(firewall, works) => far_leg[firewall] = works,
                Event::Peer(works) => peer = works,
            }
            for step in 0..80 {
                for (number, probes) in probes.iter_mut().enumerate() {
                    probes.probe(peer && alive[number] && far_leg[number]);
                    // ARP requests are sent when probes fail, and give up after some intervals.
                    if step == 8 || alive[number] {
                        lab.liveness.handle_neighbor_state(FirewallId(number as u16), Family::V4, alive[number]);
                    }
                }
                let falls = lab.set().2;
                let up = lab.set().0;
                lab.paths(&probes.map(|probes| probes.health()));
                let set = &lab.liveness.sets()[0];
                prop_assert_eq!(set.selectable & !set.up, 0);
                prop_assert_eq!(set.starting & set.up, 0);
                for (slot, falls) in falls.iter().enumerate() {
                    let fell = up & !set.up & (1 << slot) != 0;
                    prop_assert_eq!(set.failure_counts[slot], falls + u32::from(fell), "a fall is a step from up to not up");
                }
            }
            let working = (0..3).filter(|&f| alive[f] && far_leg[f]).fold(0, |bits, f| bits | 1 << f);
            let answering = (0..3).filter(|&f| alive[f]).fold(0, |bits, f| bits | 1 << f);
            let (up, selectable, _) = lab.set();
            if peer && working != 0 {
                last = working;
                prop_assert_eq!((up, selectable), (working, working), "after {:?}", event);
                prop_assert_eq!(lab.peer(), PeerState::Up);
            } else {
                prop_assert_eq!(up, last & answering, "what answers is as it was, after {:?}", event);
            }
        }
    }
}
