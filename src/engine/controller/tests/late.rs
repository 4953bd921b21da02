//! What must not count as a failure: lost frames, and an engine that is late.

use super::paths::{SECOND, every_peer, started};
use super::sandwich::{INNER, OUTER, Sandwich};
use crate::time::Duration;

#[test]
fn one_in_a_hundred_frames_lost_each_way_takes_nothing_down_in_ten_minutes() {
    let mut sandwich = started(2);
    sandwich.loss = 10;

    sandwich.run(600 * SECOND);

    assert!(sandwich.counter(OUTER, "probes_missed") > 500);
    for engine in [OUTER, INNER] {
        for set in &sandwich.engines[engine].snapshot().path_sets {
            assert_eq!(set.failure_counts, [0, 0]);
        }
    }
}

#[test]
fn an_engine_that_stops_for_five_seconds_blames_nobody_and_sends_no_burst() {
    let mut sandwich = started(2);
    sandwich.run(Duration::from_millis(33));
    sandwich.stopped_until[OUTER] = sandwich.now + 5 * SECOND;
    sandwich.run(5 * SECOND - Duration::from_millis(1));
    let before = sandwich.counter(OUTER, "probes_sent");

    sandwich.run(Duration::from_millis(20));

    assert!(sandwich.counter(OUTER, "probes_sent") - before <= 4, "one a path");
    sandwich.run(3 * SECOND);
    assert_eq!(every_peer(&sandwich, OUTER).failure_counts, [0, 0]);
    assert!(sandwich.changes(OUTER, "path", "perimeter/fw1 to inner ipv4").len() <= 1, "only its start");
    assert_eq!(sandwich.peer(OUTER).state.name(), "up");
}

/// Runs for a while in which punts are refused all the time.
fn run_with_punt_loss(sandwich: &mut Sandwich, duration: Duration) {
    let end = sandwich.now + duration;
    while sandwich.now < end {
        sandwich.run(Duration::from_millis(20));
        for engine in [OUTER, INNER] {
            let now = sandwich.now;
            sandwich.engines[engine].handle_punt_loss(3, now);
            sandwich.drain(engine);
        }
    }
}

#[test]
fn misses_do_not_count_while_punts_are_refused() {
    let mut sandwich = started(2);
    for _ in 0..20 {
        // Fewer probes in a row than an idle engine excuses.
        sandwich.firewalls[0].forwards = [false; 2];
        run_with_punt_loss(&mut sandwich, Duration::from_millis(240));
        sandwich.firewalls[0].forwards = [true; 2];
        run_with_punt_loss(&mut sandwich, Duration::from_millis(200));
    }
    for engine in [OUTER, INNER] {
        assert_eq!(every_peer(&sandwich, engine).failure_counts, [0, 0]);
        assert!(sandwich.counter(engine, "probes_excused") > 50);
    }
}

#[test]
fn a_dead_firewall_is_found_in_twice_the_time_while_punts_are_refused_for_ever() {
    for is_silent in [false, true] {
        let mut sandwich = started(2);
        run_with_punt_loss(&mut sandwich, SECOND);
        assert_eq!(sandwich.states(OUTER), ["up", "up"]);
        if is_silent {
            sandwich.kill(0)
        } else {
            sandwich.firewalls[0].forwards = [false; 2]
        }
        run_with_punt_loss(&mut sandwich, Duration::from_millis(700));
        assert_eq!(
            (sandwich.states(OUTER), sandwich.states(INNER)),
            (vec!["down".into(), "up".into()], vec!["down".into(), "up".into()])
        );
    }
}

#[test]
fn an_engine_that_stands_still_again_and_again_blames_nobody_and_finds_the_dead() {
    let mut sandwich = started(2);
    for turn in 0..60 {
        if turn == 40 {
            sandwich.kill(0);
        }
        sandwich.stopped_until[OUTER] = sandwich.now + Duration::from_millis(120);
        sandwich.run(Duration::from_millis(200));
        let expected = match turn {
            0..40 => Some([0, 0]),
            44.. => Some([1, 0]),
            _ => None,
        };
        let falls = every_peer(&sandwich, OUTER).failure_counts;
        assert!(expected.is_none_or(|expected| falls == expected), "turn {turn}: {falls:?}");
    }
}
