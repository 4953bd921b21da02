use super::*;
use crate::health::ServiceCheckKind;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn check() -> ServiceCheck {
    ServiceCheck {
        kind: ServiceCheckKind::Tcp,
        port: None,
        interval: secs(2),
        timeout: secs(1),
        fall: 3,
        rise: 2,
        dead_interval: secs(10),
        down_after: None,
    }
}

/// When checks begin from `from` until `until`, each answered as `answer` says half a second later.
fn run(monitor: &mut ServiceMonitor, until: u64, mut answer: impl FnMut(u64) -> bool) -> Vec<(u64, HealthState)> {
    let mut began = Vec::new();
    let mut now = at(0);
    while monitor.poll_timeout() < at(until) {
        now = now.max(monitor.poll_timeout());
        monitor.handle_timeout(now);
        if !monitor.is_due(now) {
            continue;
        }
        monitor.begin(now);
        let start = now.as_millis();
        now += Duration::from_millis(500);
        if answer(start) {
            monitor.succeeded(now);
        } else {
            monitor.failed("no".to_owned(), now);
        }
        began.push((start, monitor.state()));
    }
    began
}

#[test]
fn the_first_check_decides_then_down_after_fall_in_a_row() {
    let mut monitor = ServiceMonitor::new(&check(), at(0), at(0), at(0));
    let good = |start| !(4_000..8_000).contains(&start) && start < 10_000;

    let began = run(&mut monitor, 16_000, good);

    use HealthState::{Down, Up};
    let expected =
        [(0, Up), (2_000, Up), (4_000, Up), (6_000, Up), (8_000, Up), (10_000, Up), (12_000, Up), (14_000, Down)];
    assert_eq!(began, expected, "two failures and a success forgive everything, three do not");
}

#[test]
fn a_server_that_does_not_answer_its_first_check_is_down_and_asked_at_the_dead_interval_until_rise() {
    let mut monitor = ServiceMonitor::new(&check(), at(0), at(0), at(0));

    let began = run(&mut monitor, 50_000, |start| start >= 20_000);

    let times: Vec<u64> = began.iter().map(|(start, _)| *start).collect();
    assert_eq!(times[..4], [0, 10_000, 20_000, 30_000]);
    assert_eq!(
        began[..4].iter().map(|(_, state)| *state).collect::<Vec<_>>()[1..],
        [HealthState::Down, HealthState::Down, HealthState::Up]
    );
    assert_eq!(times[4], 32_000, "up again, it is asked at the interval");
}

#[test]
fn as_many_failures_are_excused_as_would_end_it_and_no_more_until_it_answers() {
    let mut monitor = ServiceMonitor::new(&ServiceCheck { fall: 3, ..check() }, at(0), at(0), at(0));
    for _ in 0..2 {
        let mut may_excuse = || {
            let may = monitor.may_excuse();
            monitor.excused(at(1));
            may
        };
        assert_eq!([(); 5].map(|()| may_excuse()), [true, true, true, false, false]);
        monitor.succeeded(at(1));
    }
}

#[test]
fn down_after_ends_it_whatever_fall_says() {
    let patient = ServiceCheck { fall: 100, down_after: Some(secs(7)), ..check() };
    let mut monitor = ServiceMonitor::new(&patient, at(0), at(0), at(0));

    // The last success is that of the check at 4 s, which ended at 4.5 s.
    let began = run(&mut monitor, 12_000, |start| start <= 4_000);

    assert_eq!(monitor.since(), at(11_500));
    assert_eq!(began.last().map(|(start, _)| *start), Some(10_000));
    assert_eq!(monitor.state(), HealthState::Down);
}

#[test]
fn a_server_that_is_seldom_asked_and_always_answers_stays_up() {
    let seldom = ServiceCheck { interval: secs(30), down_after: Some(secs(5)), ..check() };
    let mut monitor = ServiceMonitor::new(&seldom, at(0), at(0), at(0));

    let began = run(&mut monitor, 200_000, |_| true);

    assert!(began[1..].iter().all(|(_, state)| *state == HealthState::Up), "{began:?}");
}

#[test]
fn checks_that_began_together_are_spread_from_the_second_on() {
    for beat in [0, 300, 999, 1_000, 1_700] {
        for well in [true, false] {
            let same = ServiceCheck { dead_interval: secs(2), ..check() };
            let mut monitor = ServiceMonitor::new(&same, at(0), at(beat), at(0));

            let began = run(&mut monitor, 9_000, |_| well);

            assert_eq!(began[0].0, 0);
            assert!((1_000..3_000).contains(&began[1].0), "{began:?}");
            assert!(began[1..].iter().all(|(start, _)| start % 2_000 == beat), "{began:?}");
            assert_eq!(began[0].1, if well { HealthState::Up } else { HealthState::Down });
        }
    }
}

/// The places in the interval of checks that begin together at some time, two intervals later.
fn places_after(mut at_once: impl FnMut(&mut ServiceMonitor)) -> Vec<u64> {
    let monitor = |beat| {
        let mut monitor = ServiceMonitor::new(&check(), at(0), at(beat), at(0));
        at_once(&mut monitor);
        monitor.poll_timeout().as_millis() % 2_000
    };
    [0, 300, 999, 1_700].map(monitor).to_vec()
}

#[test]
fn whatever_makes_checks_begin_together_they_are_spread_again_by_the_next() {
    let excused_at_the_start = |monitor: &mut ServiceMonitor| {
        for start in [0, 1_000, 2_000] {
            monitor.begin(at(start));
            monitor.excused(at(start + 1_000));
        }
        monitor.begin(at(4_000));
        monitor.succeeded(at(4_100));
    };
    let link_came_back = |monitor: &mut ServiceMonitor| {
        monitor.begin(at(0));
        monitor.succeeded(at(1));
        for start in [4_000, 6_000, 8_000] {
            monitor.begin(at(start));
            monitor.handle_link_down("link servers is down".to_owned(), at(start));
        }
        assert_eq!(monitor.state(), HealthState::Down);
        for start in [9_000, 9_700] {
            monitor.check_by(at(start));
            monitor.begin(at(start));
            monitor.succeeded(at(start + 1));
        }
        assert_eq!(monitor.state(), HealthState::Up);
    };
    let had_to_wait = |monitor: &mut ServiceMonitor| {
        monitor.begin(at(0));
        monitor.postpone(at(0));
        monitor.begin(at(250));
        monitor.succeeded(at(251));
    };
    let reloaded = |monitor: &mut ServiceMonitor| {
        monitor.reconfigure(&ServiceCheck { interval: secs(60), ..check() }, at(0));
        monitor.begin(at(0));
        monitor.succeeded(at(1));
        monitor.reconfigure(&check(), at(5_000));
    };
    assert_eq!(places_after(excused_at_the_start), [0, 300, 999, 1_700]);
    assert_eq!(places_after(link_came_back), [0, 300, 999, 1_700]);
    assert_eq!(places_after(had_to_wait), [0, 300, 999, 1_700]);
    assert_eq!(places_after(reloaded), [0, 300, 999, 1_700]);
}

#[test]
fn first_checks_that_were_all_excused_are_asked_again_at_different_times() {
    let again = [0, 300, 999, 1_700].map(|beat| {
        let mut monitor = ServiceMonitor::new(&check(), at(0), at(beat), at(0));
        monitor.begin(at(0));
        monitor.excused(at(1_010));
        monitor.poll_timeout().as_millis()
    });
    assert_eq!(again, [2_000, 1_300, 1_999, 1_700]);
}

#[test]
fn a_link_that_is_down_is_the_reason_and_no_first_check() {
    let mut monitor = ServiceMonitor::new(&check(), at(0), at(0), at(0));
    monitor.begin(at(0));
    assert_eq!(monitor.handle_link_down("link fw is down".to_owned(), at(0)), Some(HealthState::Down));
    assert_eq!((monitor.last_failure(), monitor.is_link_down()), (Some("link fw is down"), true));

    monitor.check_by(at(700));
    assert_eq!(monitor.poll_timeout(), at(700));
    monitor.begin(at(700));

    assert_eq!(
        (monitor.succeeded(at(710)), monitor.is_link_down()),
        (Some(HealthState::Up), false),
        "one good check is enough"
    );
    let later: Vec<_> = (0..3).map(|_| monitor.handle_link_down("link fw is down".to_owned(), at(4_000))).collect();
    assert_eq!(later, [None, None, Some(HealthState::Down)], "a known server is as one that does not answer");
}

#[test]
fn what_is_excused_at_the_start_is_asked_again_within_the_time_of_a_check() {
    let mut monitor = ServiceMonitor::new(&check(), at(0), at(0), at(0));
    monitor.begin(at(0));
    monitor.excused(at(1_000));
    assert!(monitor.is_due(at(1_000)));
    monitor.begin(at(1_000));
    assert_eq!(monitor.succeeded(at(1_001)), Some(HealthState::Up));
    monitor.begin(at(2_000));
    monitor.excused(at(3_000));
    assert_eq!(monitor.poll_timeout(), at(4_000), "a server that is known has its turn");
}

#[test]
fn a_server_that_was_up_before_falls_as_one_that_is_known() {
    let mut monitor = ServiceMonitor::new(&check(), at(0), at(0), at(0));
    assert_eq!(monitor.inherit(at(0)), Some(HealthState::Up));
    assert!(monitor.is_due(at(0)), "it is asked at once all the same");

    let began = run(&mut monitor, 6_000, |_| false);

    assert_eq!(began, [(0, HealthState::Up), (2_000, HealthState::Up), (4_000, HealthState::Down)]);
}

#[test]
fn a_loop_that_slept_goes_on_without_a_burst() {
    let mut monitor = ServiceMonitor::new(&check(), at(0), at(0), at(0));
    monitor.begin(at(0));

    monitor.begin(at(9_000));

    assert_eq!(monitor.poll_timeout(), at(10_000));
}

#[test]
fn those_that_were_late_together_are_spread_as_before() {
    let first = [0, 700, 1_900];
    let mut monitors = first.map(|first| ServiceMonitor::new(&check(), at(first), at(first), at(0)));

    for monitor in &mut monitors {
        monitor.begin(at(9_500));
        monitor.succeeded(at(9_500));
        monitor.begin(at(15_950));
        monitor.succeeded(at(18_100));
    }

    let next = monitors.map(|monitor| monitor.poll_timeout().as_millis());
    assert_eq!(next.map(|next| next % 2_000), first);
    assert!(next.iter().all(|next| (16_000..20_100).contains(next)), "{next:?}");
}
