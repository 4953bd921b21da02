//! Breadth-first search of all states that two engines and two firewalls can reach with few packets in flight and one
//! or two faults. Each state is judged under every pattern of traffic.
//!
//! `FWLB_PINNING_STATES=20000` searches more states than the default.

use std::collections::HashSet;

use crate::action::Action;
use crate::judge::{PATTERNS, settle};
use crate::settings::{Kind, Opener, Settings};
use crate::world::{I, O, Tally, World};

/// The faults that one search may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Faults {
    FailAndAlarm,
    HalfDeadAndDuplicate,
    DrainAndDeadline,
    Restart,
    Block,
}

/// The most ticks of a path: three times the confirm time and one more. Longer paths show nothing new.
const TICKS_MAX: u32 = 4;

fn actions(settings: &Settings, faults: Faults, world: &World, ticks: u32) -> Vec<Action> {
    let mut all = vec![Action::Send(O), Action::Send(I)];
    if ticks < TICKS_MAX {
        all.push(Action::Tick);
    }
    for place in 0..world.flight.len() {
        all.extend([Action::Deliver(place), Action::Lose(place)]);
        if faults == Faults::HalfDeadAndDuplicate {
            all.push(Action::Duplicate(place));
        }
    }
    for firewall in 0..settings.firewalls {
        all.push(Action::Heal(firewall, true));
        match faults {
            Faults::FailAndAlarm => all.push(Action::Fail(firewall, None)),
            Faults::HalfDeadAndDuplicate => {
                all.extend([Action::Fail(firewall, Some(O)), Action::Fail(firewall, Some(I))]);
            }
            Faults::DrainAndDeadline | Faults::Restart | Faults::Block => {}
        }
        for side in [O, I] {
            all.extend([Action::SeeDown(side, firewall), Action::SeeUp(side, firewall)]);
            match faults {
                Faults::FailAndAlarm => all.push(Action::Alarm(side, firewall)),
                Faults::DrainAndDeadline => {
                    all.extend([Action::Drain(side, firewall), Action::Deadline(side, firewall)]);
                }
                Faults::Block => all.push(Action::Block(side, firewall)),
                Faults::HalfDeadAndDuplicate | Faults::Restart => {}
            }
        }
    }
    if faults == Faults::Restart {
        all.extend([Action::Restart(O), Action::Restart(I)]);
    }
    all.retain(|&action| world.allows(settings, action));
    all
}

/// A state, and how it was reached.
struct Reached {
    world: World,
    ticks: u32,
    from: usize,
    by: Option<Action>,
}

fn trace(list: &[Reached], mut at: usize) -> Vec<Action> {
    let mut trace = Vec::new();
    while let Some(action) = list[at].by {
        trace.push(action);
        at = list[at].from;
    }
    trace.reverse();
    trace
}

/// Searches all states, and panics with the shortest trace to one from which traffic does not recover.
fn search(settings: &Settings, faults: Faults) -> usize {
    let states_max = std::env::var("FWLB_PINNING_STATES").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let mut start = World::new(settings);
    start.faults_left = 2;
    let mut known = HashSet::from([start.clone()]);
    let mut list = vec![Reached { world: start, ticks: 0, from: 0, by: None }];
    let mut at = 0;
    while at < list.len() {
        for pattern in PATTERNS {
            let verdict = settle(settings, &list[at].world, pattern);
            let broken = verdict.livelock || verdict.new_flow || verdict.same_tuple || verdict.wronged;
            let lost = (verdict.dead || verdict.split) && faults != Faults::Restart;
            assert!(
                !broken && !lost,
                "{verdict:?} under {pattern:?} after {:?}\n{settings:?}\n{:?}",
                trace(&list, at),
                list[at].world
            );
        }
        for action in actions(settings, faults, &list[at].world, list[at].ticks) {
            let mut world = list[at].world.clone();
            let mut tally = Tally::default();
            world.step(settings, action, &mut tally);
            assert!(
                !tally.wronged,
                "a healthy flow was wronged by {action:?} after {:?}\n{settings:?}",
                trace(&list, at)
            );
            if list.len() < states_max && known.insert(world.clone()) {
                let ticks = list[at].ticks + u32::from(action == Action::Tick);
                list.push(Reached { world, ticks, from: at, by: Some(action) });
            }
        }
        at += 1;
    }
    list.len()
}

fn search_all(faults: Faults) {
    for kind in [Kind::Strict, Kind::Loose, Kind::Synced] {
        for (tcp, opener, orders) in [
            (true, Opener::Side(O), [[0, 1], [0, 1]]),
            (true, Opener::Both, [[0, 1], [1, 0]]),
            (false, Opener::Side(I), [[1, 0], [0, 1]]),
        ] {
            let settings = Settings { kind, tcp, opener, patient: true, ..Settings::strict(2) };
            let settings = settings.ranked(&orders[O], &orders[I]);
            let states = search(&settings, faults);
            println!("{faults:?}, {kind:?}, tcp {tcp}, {opener:?}: {states} states");
        }
    }
}

#[test]
fn no_state_is_left_broken_by_failures_and_false_alarms() {
    search_all(Faults::FailAndAlarm);
}

#[test]
fn no_state_is_left_broken_by_half_dead_firewalls_and_duplicates() {
    search_all(Faults::HalfDeadAndDuplicate);
}

#[test]
fn no_state_is_left_broken_by_drains_and_deadlines() {
    search_all(Faults::DrainAndDeadline);
}

#[test]
fn no_state_is_left_broken_by_restarts() {
    search_all(Faults::Restart);
}

#[test]
fn no_state_is_left_broken_by_blocked_probes() {
    search_all(Faults::Block);
}
