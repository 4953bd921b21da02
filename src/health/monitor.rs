//! From single probe outcomes to a verdict, by rise and fall, with `hold` and flap damping.

use crate::health::PathCheck;
use crate::time::{Duration, Instant};

/// The longest `hold` to which flap damping extends it, unless the configured one is longer.
pub const HOLD_MAX: Duration = Duration::from_secs(60);
/// A member flaps if it goes down again within this time plus its hold after it last came back up.
pub const FLAP_WINDOW: Duration = Duration::from_secs(60);

/// The outcome of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The probe was answered in time.
    Success,
    /// The probe was not answered in time, although the engine ran on schedule.
    Failure,
}

/// The verdict of all probes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HealthState {
    /// There were too few probes for a verdict.
    Starting,
    /// `rise` probes in a row succeeded, and since then no `fall` in a row failed.
    Up,
    /// `fall` probes in a row failed, and since then no `rise` in a row succeeded.
    Down,
}

/// Evaluates one member by its probes, whose outcomes must be given in the order in which the probes were sent.
#[derive(Debug, Clone)]
pub struct HealthMonitor {
    rise: u8,
    fall: u8,
    base_hold: Duration,
    state: HealthState,
    streak: u8,
    missed: bool,
    since: Instant,
    /// While up: when the hold ends and the member takes new flows; `None` if there is no hold.
    held_until: Option<Instant>,
    hold: Duration,
    last_return: Option<Instant>,
    was_up: bool,
}

impl HealthMonitor {
    /// A member in [`HealthState::Starting`].
    pub fn new(check: &PathCheck, now: Instant) -> Self {
        Self {
            rise: check.rise,
            fall: check.fall,
            base_hold: check.hold,
            state: HealthState::Starting,
            streak: 0,
            missed: false,
            since: now,
            held_until: None,
            hold: check.hold,
            last_return: None,
            was_up: false,
        }
    }

    /// Evaluates by another check from now on. The verdict stays; the count of outcomes in a row starts again.
    pub fn reconfigure(&mut self, check: &PathCheck) {
        (self.rise, self.fall, self.base_hold, self.hold) = (check.rise, check.fall, check.hold, check.hold);
        self.streak = 0;
    }

    /// Takes the outcome of one probe. Returns the new state if this outcome changed it.
    pub fn record_outcome(&mut self, outcome: ProbeOutcome, now: Instant) -> Option<HealthState> {
        let repeats = match outcome {
            ProbeOutcome::Success => !self.missed,
            ProbeOutcome::Failure => self.missed,
        };
        self.missed = outcome == ProbeOutcome::Failure;
        self.streak = if repeats { self.streak.saturating_add(1) } else { 1 };
        let (needed, next) = match (self.state, outcome) {
            (HealthState::Up, ProbeOutcome::Failure) | (HealthState::Starting, ProbeOutcome::Failure) => {
                (self.fall, HealthState::Down)
            }
            (HealthState::Down, ProbeOutcome::Success) | (HealthState::Starting, ProbeOutcome::Success) => {
                (self.rise, HealthState::Up)
            }
            (HealthState::Up, ProbeOutcome::Success) | (HealthState::Down, ProbeOutcome::Failure) => return None,
        };
        if self.streak < needed {
            return None;
        }
        self.set_state(next, now);
        Some(next)
    }

    /// Declares the member up at once, because it is known to be up without a probe. Returns the new state if this
    /// changed it.
    pub fn force_up(&mut self, now: Instant) -> Option<HealthState> {
        self.missed = false;
        self.streak = 0;
        if self.state == HealthState::Up {
            return None;
        }
        self.set_state(HealthState::Up, now);
        Some(HealthState::Up)
    }

    /// Declares the member down at once, because it cannot be up whatever its probes say (its link is down). Returns
    /// the new state if this changed it.
    pub fn force_down(&mut self, now: Instant) -> Option<HealthState> {
        self.missed = true;
        self.streak = 0;
        if self.state == HealthState::Down {
            return None;
        }
        self.set_state(HealthState::Down, now);
        Some(HealthState::Down)
    }

    /// The number of failures in a row after which the member is down.
    pub fn fall(&self) -> u8 {
        self.fall
    }

    /// The verdict.
    pub fn state(&self) -> HealthState {
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
    pub fn accepts_new_flows(&self, now: Instant) -> bool {
        self.state == HealthState::Up && self.held_until.is_none_or(|until| until <= now)
    }

    /// When [`HealthMonitor::accepts_new_flows`] will become true because the hold ends.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.held_until.filter(|until| self.state == HealthState::Up && *until > now)
    }

    fn set_state(&mut self, next: HealthState, now: Instant) {
        match (self.state, next) {
            // The very first rise is a start and not a return, however long the other side took to start, so that it
            // has no hold.
            (HealthState::Starting | HealthState::Down, HealthState::Up) if !self.was_up => self.was_up = true,
            (HealthState::Starting | HealthState::Down, HealthState::Up) => {
                self.held_until = Some(now + self.hold);
                self.last_return = Some(now);
            }
            (HealthState::Starting | HealthState::Up | HealthState::Down, HealthState::Down) => {
                self.held_until = None;
                let flaps = self.last_return.is_some_and(|back| now.since(back) < FLAP_WINDOW + self.hold);
                let longest = HOLD_MAX.max(self.base_hold);
                self.hold = if flaps { (self.hold * 2).min(longest) } else { self.base_hold };
            }
            (HealthState::Up, HealthState::Up)
            | (HealthState::Starting | HealthState::Up | HealthState::Down, HealthState::Starting) => {}
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

    fn feed(
        monitor: &mut HealthMonitor,
        outcome: ProbeOutcome,
        times: usize,
        now: Instant,
    ) -> Vec<Option<HealthState>> {
        (0..times).map(|_| monitor.record_outcome(outcome, now)).collect()
    }

    fn changes(
        monitor: &mut HealthMonitor,
        outcome: ProbeOutcome,
        times: usize,
        now: Instant,
    ) -> Vec<(usize, HealthState)> {
        let outcomes = feed(monitor, outcome, times, now).into_iter().enumerate();
        outcomes.filter_map(|(index, change)| Some((index + 1, change?))).collect()
    }

    #[test]
    fn it_starts_and_is_up_after_rise_without_hold() {
        let mut monitor = HealthMonitor::new(&PathCheck::default(), at(0));
        assert_eq!((monitor.state(), monitor.accepts_new_flows(at(0))), (HealthState::Starting, false));
        assert_eq!(changes(&mut monitor, ProbeOutcome::Success, 20, at(500)), [(10, HealthState::Up)]);
        assert!(monitor.accepts_new_flows(at(500)));
    }

    #[test]
    fn it_starts_without_hold_also_when_the_other_side_starts_later() {
        let mut monitor = HealthMonitor::new(&PathCheck::default(), at(0));
        assert_eq!(changes(&mut monitor, ProbeOutcome::Failure, 5, at(350)), [(5, HealthState::Down)]);

        assert_eq!(changes(&mut monitor, ProbeOutcome::Success, 10, at(900)), [(10, HealthState::Up)]);

        assert!(monitor.accepts_new_flows(at(900)));
    }

    #[test]
    fn only_fall_failures_in_a_row_take_it_down() {
        let mut monitor = HealthMonitor::new(&PathCheck::default(), at(0));
        feed(&mut monitor, ProbeOutcome::Success, 10, at(500));
        for _ in 0..100 {
            assert!(changes(&mut monitor, ProbeOutcome::Failure, 4, at(600)).is_empty());
            assert!(monitor.is_failing());
            assert!(changes(&mut monitor, ProbeOutcome::Success, 1, at(600)).is_empty());
            assert!(!monitor.is_failing());
        }
        assert_eq!(changes(&mut monitor, ProbeOutcome::Failure, 9, at(700)), [(5, HealthState::Down)]);
        assert_eq!(changes(&mut monitor, ProbeOutcome::Success, 9, at(800)), []);
        feed(&mut monitor, ProbeOutcome::Failure, 1, at(800));
        assert_eq!(changes(&mut monitor, ProbeOutcome::Success, 10, at(900)), [(10, HealthState::Up)]);
    }

    #[test]
    fn what_returns_is_held_and_what_flaps_is_held_twice_as_long_up_to_a_minute() {
        let mut monitor = HealthMonitor::new(&PathCheck::default(), at(0));
        feed(&mut monitor, ProbeOutcome::Success, 10, at(0));
        let mut now = 0;
        let mut holds = Vec::new();
        for _ in 0..8 {
            feed(&mut monitor, ProbeOutcome::Failure, 5, at(now));
            now += 1_000;
            feed(&mut monitor, ProbeOutcome::Success, 10, at(now));
            let until = monitor.poll_timeout(at(now)).expect("held");
            assert!(!monitor.accepts_new_flows(at(until.as_millis() - 1)) && monitor.accepts_new_flows(until));
            holds.push(until.since(at(now)).as_secs());
            now = until.as_millis() + 1_000;
        }
        assert_eq!(holds, [2, 4, 8, 16, 32, 60, 60, 60]);

        now += 200_000;
        feed(&mut monitor, ProbeOutcome::Failure, 5, at(now));
        feed(&mut monitor, ProbeOutcome::Success, 10, at(now));
        assert_eq!(monitor.poll_timeout(at(now)), Some(at(now + 2_000)), "a quiet time forgives");
    }

    #[test]
    fn a_lost_link_takes_it_down_at_once_and_rise_brings_it_back() {
        let mut monitor = HealthMonitor::new(&PathCheck::default(), at(0));
        feed(&mut monitor, ProbeOutcome::Success, 10, at(0));
        assert_eq!(monitor.force_down(at(10)), Some(HealthState::Down));
        assert_eq!((monitor.force_down(at(11)), monitor.since()), (None, at(10)));
        assert_eq!(changes(&mut monitor, ProbeOutcome::Success, 10, at(600)), [(10, HealthState::Up)]);
        assert!(!monitor.accepts_new_flows(at(600)));
    }
}
