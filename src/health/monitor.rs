//! From single probe outcomes to a verdict, by rise and fall, with `hold` and flap damping.

use crate::health::Check;
use crate::time::{Duration, Instant};

/// The longest `hold` to which flap damping extends it, unless the configured one is longer.
pub const HOLD_MAX: Duration = Duration::from_secs(60);
/// A member flaps if it goes down again within its hold and this time after it last came back up.
pub const FLAP_WINDOW: Duration = Duration::from_secs(60);

/// The outcome of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The probe was answered in time.
    Success,
    /// The probe was not answered in time, although the engine ran on schedule.
    Failure,
}

/// The verdict of all probes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// There were too few probes for a verdict.
    Starting,
    /// `rise` probes in a row succeeded, and since then no `fall` in a row failed.
    Up,
    /// `fall` probes in a row failed, and since then no `rise` in a row succeeded.
    Down,
}

/// Judges one member by its probes, whose outcomes must be given in the order in which the probes were sent.
#[derive(Debug, Clone)]
pub struct Monitor {
    rise: u8,
    fall: u8,
    base_hold: Duration,
    state: State,
    streak: u8,
    missed: bool,
    since: Instant,
    /// While up: when the hold ends and the member takes new flows; `None` if there is no hold.
    held_until: Option<Instant>,
    hold: Duration,
    last_return: Option<Instant>,
    was_up: bool,
}

impl Monitor {
    /// A member in [`State::Starting`].
    pub fn new(check: &Check, now: Instant) -> Self {
        Self {
            rise: check.rise,
            fall: check.fall,
            base_hold: check.hold,
            state: State::Starting,
            streak: 0,
            missed: false,
            since: now,
            held_until: None,
            hold: check.hold,
            last_return: None,
            was_up: false,
        }
    }

    /// Judges by another check from now on. The verdict stays; the count of outcomes in a row starts again.
    pub fn reconfigure(&mut self, check: &Check) {
        (self.rise, self.fall, self.base_hold, self.hold) = (check.rise, check.fall, check.hold, check.hold);
        self.streak = 0;
    }

    /// Takes the outcome of one probe. Returns the new state if this outcome changed it.
    pub fn observe(&mut self, outcome: Outcome, now: Instant) -> Option<State> {
        let repeats = match outcome {
            Outcome::Success => !self.missed,
            Outcome::Failure => self.missed,
        };
        self.missed = outcome == Outcome::Failure;
        self.streak = if repeats { self.streak.saturating_add(1) } else { 1 };
        let (needed, next) = match (self.state, outcome) {
            (State::Up, Outcome::Failure) | (State::Starting, Outcome::Failure) => (self.fall, State::Down),
            (State::Down, Outcome::Success) | (State::Starting, Outcome::Success) => (self.rise, State::Up),
            (State::Up, Outcome::Success) | (State::Down, Outcome::Failure) => return None,
        };
        if self.streak < needed {
            return None;
        }
        self.enter(next, now);
        Some(next)
    }

    /// Declares the member up at once, because it is known to be up without a probe. Returns the new state if this
    /// changed it.
    pub fn succeed(&mut self, now: Instant) -> Option<State> {
        self.missed = false;
        self.streak = 0;
        if self.state == State::Up {
            return None;
        }
        self.enter(State::Up, now);
        Some(State::Up)
    }

    /// Declares the member down at once, because it cannot be up whatever its probes say (its link is down). Returns
    /// the new state if this changed it.
    pub fn fail(&mut self, now: Instant) -> Option<State> {
        self.missed = true;
        self.streak = 0;
        if self.state == State::Down {
            return None;
        }
        self.enter(State::Down, now);
        Some(State::Down)
    }

    /// The number of failures in a row after which the member is down.
    pub fn fall(&self) -> u8 {
        self.fall
    }

    /// The verdict.
    pub fn state(&self) -> State {
        self.state
    }

    /// When the verdict last changed.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// True if at least one probe has failed since the last success.
    pub fn is_failing(&self) -> bool {
        self.missed
    }

    /// True if the member is up and its `hold` is over.
    pub fn takes_new(&self, now: Instant) -> bool {
        self.state == State::Up && self.held_until.is_none_or(|until| until <= now)
    }

    /// When [`Monitor::takes_new`] will become true because the hold ends.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.held_until.filter(|until| self.state == State::Up && *until > now)
    }

    fn enter(&mut self, next: State, now: Instant) {
        match (self.state, next) {
            // The very first rise is a start and not a return, however long the other side took to start. It has no
            // hold.
            (State::Starting | State::Down, State::Up) if !self.was_up => self.was_up = true,
            (State::Starting | State::Down, State::Up) => {
                self.held_until = Some(now + self.hold);
                self.last_return = Some(now);
            }
            (State::Starting | State::Up | State::Down, State::Down) => {
                self.held_until = None;
                let flaps = self.last_return.is_some_and(|back| now.since(back) < FLAP_WINDOW + self.hold);
                let longest = HOLD_MAX.max(self.base_hold);
                self.hold = if flaps { (self.hold * 2).min(longest) } else { self.base_hold };
            }
            (State::Up, State::Up) | (State::Starting | State::Up | State::Down, State::Starting) => {}
        }
        self.state = next;
        self.streak = 0;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn feed(monitor: &mut Monitor, outcome: Outcome, times: usize, now: Instant) -> Vec<Option<State>> {
        (0..times).map(|_| monitor.observe(outcome, now)).collect()
    }

    fn changes(monitor: &mut Monitor, outcome: Outcome, times: usize, now: Instant) -> Vec<(usize, State)> {
        let outcomes = feed(monitor, outcome, times, now).into_iter().enumerate();
        outcomes.filter_map(|(index, change)| Some((index + 1, change?))).collect()
    }

    #[test]
    fn it_starts_and_is_up_after_rise_without_hold() {
        let mut monitor = Monitor::new(&Check::default(), at(0));
        assert_eq!((monitor.state(), monitor.takes_new(at(0))), (State::Starting, false));
        assert_eq!(changes(&mut monitor, Outcome::Success, 20, at(500)), [(10, State::Up)]);
        assert!(monitor.takes_new(at(500)));
    }

    #[test]
    fn it_starts_without_hold_also_when_the_other_side_starts_later() {
        let mut monitor = Monitor::new(&Check::default(), at(0));
        assert_eq!(changes(&mut monitor, Outcome::Failure, 5, at(350)), [(5, State::Down)]);

        assert_eq!(changes(&mut monitor, Outcome::Success, 10, at(900)), [(10, State::Up)]);

        assert!(monitor.takes_new(at(900)));
    }

    #[test]
    fn only_fall_failures_in_a_row_take_it_down() {
        let mut monitor = Monitor::new(&Check::default(), at(0));
        feed(&mut monitor, Outcome::Success, 10, at(500));
        for _ in 0..100 {
            assert!(changes(&mut monitor, Outcome::Failure, 4, at(600)).is_empty());
            assert!(monitor.is_failing());
            assert!(changes(&mut monitor, Outcome::Success, 1, at(600)).is_empty());
            assert!(!monitor.is_failing());
        }
        assert_eq!(changes(&mut monitor, Outcome::Failure, 9, at(700)), [(5, State::Down)]);
        assert_eq!(changes(&mut monitor, Outcome::Success, 9, at(800)), []);
        feed(&mut monitor, Outcome::Failure, 1, at(800));
        assert_eq!(changes(&mut monitor, Outcome::Success, 10, at(900)), [(10, State::Up)]);
    }

    #[test]
    fn what_returns_is_held_and_what_flaps_is_held_twice_as_long_up_to_a_minute() {
        let mut monitor = Monitor::new(&Check::default(), at(0));
        feed(&mut monitor, Outcome::Success, 10, at(0));
        let mut now = 0;
        let mut holds = Vec::new();
        for _ in 0..8 {
            feed(&mut monitor, Outcome::Failure, 5, at(now));
            now += 1_000;
            feed(&mut monitor, Outcome::Success, 10, at(now));
            let until = monitor.poll_timeout(at(now)).expect("held");
            assert!(!monitor.takes_new(at(until.as_millis() - 1)) && monitor.takes_new(until));
            holds.push(until.since(at(now)).as_secs());
            now = until.as_millis() + 1_000;
        }
        assert_eq!(holds, [2, 4, 8, 16, 32, 60, 60, 60]);

        now += 200_000;
        feed(&mut monitor, Outcome::Failure, 5, at(now));
        feed(&mut monitor, Outcome::Success, 10, at(now));
        assert_eq!(monitor.poll_timeout(at(now)), Some(at(now + 2_000)), "a quiet time forgives");
    }

    #[test]
    fn a_lost_link_takes_it_down_at_once_and_rise_brings_it_back() {
        let mut monitor = Monitor::new(&Check::default(), at(0));
        feed(&mut monitor, Outcome::Success, 10, at(0));
        assert_eq!(monitor.fail(at(10)), Some(State::Down));
        assert_eq!((monitor.fail(at(11)), monitor.since()), (None, at(10)));
        assert_eq!(changes(&mut monitor, Outcome::Success, 10, at(600)), [(10, State::Up)]);
        assert!(!monitor.takes_new(at(600)));
    }
}
