//! When a real server of a service is up, and when it is checked next.
//!
//! Rise and fall are those of [`HealthMonitor`]. In addition a server has another interval while it is down
//! (`dead-interval`), a limit on the time without success (`down-after`), and a text for its last failure. The very
//! first check decides alone, so that a load balancer that starts serves as soon as its servers answer; `rise` and
//! `fall` apply from then on.

use crate::health::monitor::{HealthMonitor, HealthState, ProbeOutcome};
use crate::health::{PathCheck, PathCheckKind, ServiceCheck};
use crate::time::{Duration, Instant};

/// Evaluates one server in one address family, and schedules its checks.
#[derive(Debug, Clone)]
pub struct ServiceMonitor {
    monitor: HealthMonitor,
    interval: Duration,
    dead_interval: Duration,
    timeout: Duration,
    down_after: Option<Duration>,
    /// A time that the regular checks keep step with: they are due whole intervals from it. Each server has its own, so
    /// that the checks of many servers are spread over the interval.
    schedule_anchor: Instant,
    /// When the last check began.
    began: Option<Instant>,
    /// Whether the last check began out of step with `schedule_anchor`.
    began_off_schedule: bool,
    next: Instant,
    /// Whether the next check is out of step with `schedule_anchor`, because it is the first, is repeated early, or had
    /// to wait.
    next_off_schedule: bool,
    /// Whether no check has ended with an outcome yet.
    is_unchecked: bool,
    /// Whether the last check could not be sent because the engine's own link is down.
    is_link_down: bool,
    last_success: Option<Instant>,
    last_failure: Option<String>,
    /// The number of checks that were excused since the last success.
    excused: u8,
}

impl ServiceMonitor {
    /// A server without a verdict, whose first check is due at `first`. The checks after it keep step with `beat`.
    pub fn new(check: &ServiceCheck, first: Instant, beat: Instant, now: Instant) -> Self {
        Self {
            monitor: HealthMonitor::new(&as_path_check(check), now),
            interval: check.interval,
            dead_interval: check.dead_interval,
            timeout: check.timeout,
            down_after: check.down_after,
            schedule_anchor: beat,
            began: None,
            began_off_schedule: true,
            next: first,
            next_off_schedule: true,
            is_unchecked: true,
            is_link_down: false,
            last_success: None,
            last_failure: None,
            excused: 0,
        }
    }

    /// Evaluates by another check from now on. The verdict stays, and the next check is due no later than the new
    /// interval allows.
    pub fn reconfigure(&mut self, check: &ServiceCheck, now: Instant) {
        self.monitor.reconfigure(&as_path_check(check));
        self.interval = check.interval;
        self.dead_interval = check.dead_interval;
        self.timeout = check.timeout;
        self.down_after = check.down_after;
        let pace = self.current_interval();
        if self.next > now + pace {
            self.next = first_in_step(self.schedule_anchor, pace, now);
            self.next_off_schedule = false;
        }
    }

    /// True if a check is to begin.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next <= now
    }

    /// Records that a check begins. The next one is due in step with the schedule, so that checks that are spread over
    /// the interval stay spread.
    pub fn begin(&mut self, now: Instant) {
        let pace = self.current_interval();
        // If the loop slept through whole intervals, their checks are left out, so that there is no burst.
        let began = last_in_step(self.next, pace, now);
        self.began = Some(began);
        self.began_off_schedule = std::mem::take(&mut self.next_off_schedule);
        if !self.began_off_schedule {
            self.schedule_anchor = began;
        }
        self.next = self.next_due(began);
    }

    /// Postpones the check that is due by an eighth of the interval, because it has to wait for others.
    pub fn postpone(&mut self, now: Instant) {
        self.next = now + self.current_interval() / 8;
        self.next_off_schedule = true;
    }

    /// Makes the next check due at `time`, unless it is due earlier.
    pub fn check_by(&mut self, time: Instant) {
        if time < self.next {
            self.next = time;
            self.next_off_schedule = true;
        }
    }

    /// True if the last check could not be sent because the engine's own link is down.
    pub fn is_link_down(&self) -> bool {
        self.is_link_down
    }

    /// Takes a successful check. Returns the new state if this changed it.
    pub fn succeeded(&mut self, now: Instant) -> Option<HealthState> {
        self.last_success = Some(now);
        self.excused = 0;
        self.is_link_down = false;
        if std::mem::take(&mut self.is_unchecked) {
            return self.monitor.force_up(now);
        }
        let changed = self.monitor.record_outcome(ProbeOutcome::Success, now);
        self.apply_interval(changed, now)
    }

    /// Takes a failed check with the reason in words. Returns the new state if this changed it.
    pub fn failed(&mut self, reason: String, now: Instant) -> Option<HealthState> {
        self.last_failure = Some(reason);
        self.is_link_down = false;
        if std::mem::take(&mut self.is_unchecked) {
            let changed = self.monitor.force_down(now);
            return self.apply_interval(changed, now);
        }
        self.missed(now)
    }

    /// Records that a check could not be sent because the engine's own link is down. Returns the new state if this
    /// changed it. If no check has ended yet, the first one is still to come.
    pub fn handle_link_down(&mut self, reason: String, now: Instant) -> Option<HealthState> {
        self.last_failure = Some(reason);
        self.is_link_down = true;
        if self.is_unchecked {
            return self.monitor.force_down(now);
        }
        self.missed(now)
    }

    /// Records that a check without an answer is excused because the engine was late. If no check has ended yet, the
    /// next one is due within one timeout and counts as the first. Many servers whose first checks were all excused are
    /// spread over that time.
    pub fn excused(&mut self, now: Instant) {
        self.excused = self.excused.saturating_add(1);
        if self.is_unchecked {
            self.check_by(first_in_step(self.schedule_anchor, self.timeout.min(self.current_interval()), now));
        }
    }

    /// True if a check without an answer may be excused when the engine was late. At most `fall` checks in a row are,
    /// so that a dead server is found after twice the usual time at the latest.
    pub fn may_excuse(&self) -> bool {
        self.excused < self.monitor.fall()
    }

    /// Declares the server up until its checks say otherwise, because it was up just before the engine restarted.
    pub fn inherit(&mut self, now: Instant) -> Option<HealthState> {
        self.is_unchecked = false;
        self.last_success = Some(now);
        self.monitor.force_up(now)
    }

    fn missed(&mut self, now: Instant) -> Option<HealthState> {
        let changed = self.monitor.record_outcome(ProbeOutcome::Failure, now).or_else(|| self.expire(now));
        self.apply_interval(changed, now)
    }

    /// Declares the server up, because it is not checked.
    pub fn assume_up(&mut self, now: Instant) -> Option<HealthState> {
        self.monitor.force_up(now)
    }

    /// Handles the passing of time. Returns the new state if `down-after` has elapsed.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<HealthState> {
        let changed = self.expire(now);
        self.apply_interval(changed, now)
    }

    /// When [`ServiceMonitor::is_due`] becomes true or [`ServiceMonitor::handle_timeout`] has work to do.
    pub fn poll_timeout(&self) -> Instant {
        self.down_after_deadline().map_or(self.next, |limit| limit.min(self.next))
    }

    /// The verdict.
    pub fn state(&self) -> HealthState {
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

    fn current_interval(&self) -> Duration {
        match self.monitor.state() {
            HealthState::Down => self.dead_interval,
            HealthState::Starting | HealthState::Up => self.interval,
        }
    }

    /// Applies the interval of a new state, counted from the beginning of the check that led to it.
    fn apply_interval(&mut self, changed: Option<HealthState>, now: Instant) -> Option<HealthState> {
        if let (Some(_), Some(began)) = (changed, self.began) {
            let next = self.next_due(began);
            self.next = if next < now { first_in_step(next, self.current_interval(), now) } else { next };
            self.next_off_schedule = false;
        }
        changed
    }

    /// When the check after the one that began at `began` is due: an interval later, or, if that one was off schedule,
    /// at the first time in step that leaves it half an interval and its timeout.
    fn next_due(&self, began: Instant) -> Instant {
        let pace = self.current_interval();
        if self.began_off_schedule {
            first_in_step(self.schedule_anchor, pace, began + (pace / 2).max(self.timeout))
        } else {
            began + pace
        }
    }

    fn expire(&mut self, now: Instant) -> Option<HealthState> {
        self.down_after_deadline().filter(|limit| *limit <= now)?;
        self.monitor.force_down(now)
    }

    /// When `down-after` ends. It applies only to a server that is up and has failed a check since its last success; a
    /// server that never fails is healthy, however rarely it is checked.
    fn down_after_deadline(&self) -> Option<Instant> {
        let failing = self.monitor.state() == HealthState::Up && self.monitor.is_failing();
        Some(self.last_success? + self.down_after.filter(|_| failing)?)
    }
}

/// The first of the times `from`, `from + pace`, `from + 2 * pace`, ... that is not before `earliest`.
fn first_in_step(from: Instant, pace: Duration, earliest: Instant) -> Instant {
    let last = last_in_step(from, pace, earliest);
    if last < earliest { last + pace.max(Duration::from_nanos(1)) } else { last }
}

/// The last of the times `from`, `from + pace`, `from + 2 * pace`, ... that is not after `now` (`from` itself, if that
/// is later). A check that is late keeps its place: a thousand that were late together would otherwise be due together
/// for ever.
fn last_in_step(from: Instant, pace: Duration, now: Instant) -> Instant {
    let (late, pace) = (now.since(from).as_nanos(), pace.as_nanos().max(1));
    from + Duration::from_nanos(u64::try_from(late - late % pace).unwrap_or(u64::MAX))
}

/// The settings of a check that [`HealthMonitor`] needs.
fn as_path_check(check: &ServiceCheck) -> PathCheck {
    PathCheck {
        kind: PathCheckKind::None,
        interval: check.interval,
        timeout: check.timeout,
        fall: check.fall,
        rise: check.rise,
        hold: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests;
