//! When a real server of a service is up, and when it is checked next.
//!
//! Rise and fall are those of [`Monitor`]. In addition a server has another interval while it is down
//! (`dead-interval`), a limit on the time without success (`down-after`), and a text for its last failure. The very
//! first check decides alone, so that a load balancer that starts serves as soon as its servers answer; `rise` and
//! `fall` apply from then on.

use crate::health::monitor::{Monitor, Outcome, State};
use crate::health::{Check, CheckKind, ServiceCheck};
use crate::time::{Duration, Instant};

/// Judges one server in one address family, and schedules its checks.
#[derive(Debug, Clone)]
pub struct ServiceMonitor {
    monitor: Monitor,
    interval: Duration,
    dead_interval: Duration,
    down_after: Option<Duration>,
    /// When the last check began; for the first check, when it was scheduled.
    began: Option<Instant>,
    next: Instant,
    /// When the second check is due, as long as the first has not begun.
    second: Option<Instant>,
    /// Whether no check has ended with an outcome yet.
    is_fresh: bool,
    /// Whether the last check could not be sent because the engine's own link is down.
    is_cut: bool,
    last_success: Option<Instant>,
    last_failure: Option<String>,
    /// The number of checks that were excused since the last success.
    excused: u8,
}

impl ServiceMonitor {
    /// A server without a verdict. Its first check is due at `first`. The second is due at a multiple of the interval
    /// from `beat`, at least half an interval after the first.
    pub fn new(check: &ServiceCheck, first: Instant, beat: Instant, now: Instant) -> Self {
        let earliest = first + (check.interval / 2).max(check.timeout);
        let second = in_step(beat, check.interval, earliest);
        let second = if second < earliest { second + check.interval } else { second };
        Self {
            monitor: Monitor::new(&streaks(check), now),
            interval: check.interval,
            dead_interval: check.dead_interval,
            down_after: check.down_after,
            began: None,
            next: first,
            second: Some(second),
            is_fresh: true,
            is_cut: false,
            last_success: None,
            last_failure: None,
            excused: 0,
        }
    }

    /// Judges by another check from now on. The verdict stays, and the next check is due no later than the new interval
    /// allows.
    pub fn reconfigure(&mut self, check: &ServiceCheck, now: Instant) {
        self.monitor.reconfigure(&streaks(check));
        self.interval = check.interval;
        self.dead_interval = check.dead_interval;
        self.down_after = check.down_after;
        self.second = None;
        self.next = self.next.min(now + self.pace());
    }

    /// True if a check is to begin.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next <= now
    }

    /// Records that a check begins. The next one is due a whole interval after the time this one was scheduled for, so
    /// that checks that are spread over the interval stay spread.
    pub fn begin(&mut self, now: Instant) {
        let pace = self.pace();
        let due = self.next;
        // If the loop slept through whole intervals, their checks are left out, so that there is no burst.
        let began = in_step(due, pace, now);
        self.began = Some(began);
        self.next = self.second.take().filter(|second| *second > now).unwrap_or(began + pace);
    }

    /// Postpones the check that is due by an eighth of the interval, because it has to wait for others.
    pub fn postpone(&mut self, now: Instant) {
        self.next = now + self.pace() / 8;
    }

    /// Makes the next check due at `time`, unless it is due earlier.
    pub fn hurry(&mut self, time: Instant) {
        self.next = self.next.min(time);
    }

    /// True if the last check could not be sent because the engine's own link is down.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Takes a successful check. Returns the new state if this changed it.
    pub fn succeeded(&mut self, now: Instant) -> Option<State> {
        self.last_success = Some(now);
        self.excused = 0;
        self.is_cut = false;
        if std::mem::take(&mut self.is_fresh) {
            return self.monitor.succeed(now);
        }
        let changed = self.monitor.observe(Outcome::Success, now);
        self.keep_pace(changed, now)
    }

    /// Takes a failed check with the reason in words. Returns the new state if this changed it.
    pub fn failed(&mut self, reason: String, now: Instant) -> Option<State> {
        self.last_failure = Some(reason);
        self.is_cut = false;
        if std::mem::take(&mut self.is_fresh) {
            self.next += self.dead_interval.saturating_sub(self.interval);
            return self.monitor.fail(now);
        }
        self.missed(now)
    }

    /// Records that a check could not be sent because the engine's own link is down. Returns the new state if this
    /// changed it. If no check has ended yet, the first one is still to come.
    pub fn cut(&mut self, reason: String, now: Instant) -> Option<State> {
        self.last_failure = Some(reason);
        self.is_cut = true;
        if self.is_fresh {
            return self.monitor.fail(now);
        }
        self.missed(now)
    }

    /// Records that a check without an answer is excused because the engine was late. If no check has ended yet, the
    /// next one is due at once and counts as the first.
    pub fn excused(&mut self, now: Instant) {
        self.excused = self.excused.saturating_add(1);
        if self.is_fresh {
            self.hurry(now);
        }
    }

    /// True if a check without an answer may be excused when the engine was late. At most `fall` checks in a row are,
    /// so that a dead server is found after twice the usual time at the latest.
    pub fn may_excuse(&self) -> bool {
        self.excused < self.monitor.fall()
    }

    /// Declares the server up until its checks say otherwise, because it was up a moment ago when the engine last ran.
    pub fn inherit(&mut self, now: Instant) -> Option<State> {
        self.is_fresh = false;
        self.last_success = Some(now);
        self.monitor.succeed(now)
    }

    fn missed(&mut self, now: Instant) -> Option<State> {
        let changed = self.monitor.observe(Outcome::Failure, now).or_else(|| self.expire(now));
        self.keep_pace(changed, now)
    }

    /// Declares the server up, because it is not checked.
    pub fn trust(&mut self, now: Instant) -> Option<State> {
        self.monitor.succeed(now)
    }

    /// Handles the passing of time. Returns the new state if `down-after` has elapsed.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<State> {
        let changed = self.expire(now);
        self.keep_pace(changed, now)
    }

    /// When [`ServiceMonitor::is_due`] becomes true or [`ServiceMonitor::handle_timeout`] has work to do.
    pub fn poll_timeout(&self) -> Instant {
        self.limit().map_or(self.next, |limit| limit.min(self.next))
    }

    /// The verdict.
    pub fn state(&self) -> State {
        self.monitor.state()
    }

    /// When the verdict last changed.
    pub fn since(&self) -> Instant {
        self.monitor.since()
    }

    /// The reason of the last failure in words.
    pub fn last_failure(&self) -> Option<&str> {
        self.last_failure.as_deref()
    }

    fn pace(&self) -> Duration {
        match self.monitor.state() {
            State::Down => self.dead_interval,
            State::Starting | State::Up => self.interval,
        }
    }

    /// Applies the interval of a new state, counted from the beginning of the check that led to it.
    fn keep_pace(&mut self, changed: Option<State>, now: Instant) -> Option<State> {
        if let (Some(_), Some(began)) = (changed, self.began) {
            let pace = self.pace();
            self.next = if began + pace < now { in_step(began, pace, now) + pace } else { began + pace };
        }
        changed
    }

    fn expire(&mut self, now: Instant) -> Option<State> {
        self.limit().filter(|limit| *limit <= now)?;
        self.monitor.fail(now)
    }

    /// When `down-after` ends. It applies only to a server that is up and has failed a check since its last success; a
    /// server that never fails is healthy, however rarely it is checked.
    fn limit(&self) -> Option<Instant> {
        let failing = self.monitor.state() == State::Up && self.monitor.is_failing();
        Some(self.last_success? + self.down_after.filter(|_| failing)?)
    }
}

/// The last of the times `from`, `from + pace`, `from + 2 * pace` and so on that is not after `now`. Late checks thus
/// keep their place in the interval; otherwise a thousand checks that were late together would stay together for ever.
fn in_step(from: Instant, pace: Duration, now: Instant) -> Instant {
    let (late, pace) = (now.since(from).as_nanos(), pace.as_nanos().max(1));
    from + Duration::from_nanos(u64::try_from(late - late % pace).unwrap_or(u64::MAX))
}

/// The part of a server check that [`Monitor`] needs.
fn streaks(check: &ServiceCheck) -> Check {
    Check {
        kind: CheckKind::None,
        interval: check.interval,
        timeout: check.timeout,
        fall: check.fall,
        rise: check.rise,
        hold: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
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

    /// The times from `from` to `until` at which checks begin if each is answered as `answer` says after half a second.
    fn run(monitor: &mut ServiceMonitor, until: u64, mut answer: impl FnMut(u64) -> bool) -> Vec<(u64, State)> {
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

        use State::{Down, Up};
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
            [State::Down, State::Down, State::Up]
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

        // The last success is that of 4 s, reported at 4.5 s.
        let began = run(&mut monitor, 12_000, |start| start <= 4_000);

        assert_eq!(monitor.since(), at(11_500));
        assert_eq!(began.last().map(|(start, _)| *start), Some(10_000));
        assert_eq!(monitor.state(), State::Down);
    }

    #[test]
    fn a_server_that_is_seldom_asked_and_always_answers_stays_up() {
        let seldom = ServiceCheck { interval: secs(30), down_after: Some(secs(5)), ..check() };
        let mut monitor = ServiceMonitor::new(&seldom, at(0), at(0), at(0));

        let began = run(&mut monitor, 200_000, |_| true);

        assert!(began[1..].iter().all(|(_, state)| *state == State::Up), "{began:?}");
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
                assert_eq!(began[0].1, if well { State::Up } else { State::Down });
            }
        }
    }

    #[test]
    fn a_link_that_is_down_is_the_reason_and_no_first_check() {
        let mut monitor = ServiceMonitor::new(&check(), at(0), at(0), at(0));
        monitor.begin(at(0));
        assert_eq!(monitor.cut("link fw is down".to_owned(), at(0)), Some(State::Down));
        assert_eq!((monitor.last_failure(), monitor.is_cut()), (Some("link fw is down"), true));

        monitor.hurry(at(700));
        assert_eq!(monitor.poll_timeout(), at(700));
        monitor.begin(at(700));

        assert_eq!(
            (monitor.succeeded(at(710)), monitor.is_cut()),
            (Some(State::Up), false),
            "one good check is enough"
        );
        let later: Vec<_> = (0..3).map(|_| monitor.cut("link fw is down".to_owned(), at(4_000))).collect();
        assert_eq!(later, [None, None, Some(State::Down)], "a known server is as one that does not answer");
    }

    #[test]
    fn what_is_excused_at_the_start_is_asked_again_at_once() {
        let mut monitor = ServiceMonitor::new(&check(), at(0), at(0), at(0));
        monitor.begin(at(0));
        monitor.excused(at(1_000));
        assert!(monitor.is_due(at(1_000)));
        monitor.begin(at(1_000));
        assert_eq!(monitor.succeeded(at(1_001)), Some(State::Up));
        monitor.begin(at(3_000));
        monitor.excused(at(4_000));
        assert!(!monitor.is_due(at(4_000)));
    }

    #[test]
    fn a_server_that_was_up_before_falls_as_one_that_is_known() {
        let mut monitor = ServiceMonitor::new(&check(), at(0), at(0), at(0));
        assert_eq!(monitor.inherit(at(0)), Some(State::Up));
        assert!(monitor.is_due(at(0)), "it is asked at once all the same");

        let began = run(&mut monitor, 6_000, |_| false);

        assert_eq!(began, [(0, State::Up), (2_000, State::Up), (4_000, State::Down)]);
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
}
