//! When a real server of a service is up, and when it is checked next.
//!
//! Rise and fall are [`Monitor`]'s; what a server has besides is another pace while it is down (`dead-interval`), a limit on
//! the time without success (`down-after`), and the last failure in words. The first check of all is judged alone: a balancer that
//! starts serves as soon as its servers answer, and `rise` and `fall` are for those that it knows.

use crate::health::monitor::{Monitor, Outcome, State};
use crate::health::{Check, CheckKind, ServiceCheck};
use crate::time::{Duration, Instant};

/// Judges one server in one family, and keeps the time of its checks.
#[derive(Debug, Clone)]
pub struct ServiceMonitor {
    monitor: Monitor,
    interval: Duration,
    dead_interval: Duration,
    timeout: Duration,
    down_after: Option<Duration>,
    /// A time that the regular checks keep step with. Each server of a farm has its own, so that the checks of all are spread
    /// over the interval.
    beat: Instant,
    /// When the last check began.
    began: Option<Instant>,
    /// The last check began out of step with `beat`.
    began_off_beat: bool,
    next: Instant,
    /// The next check is out of step with `beat`: it is the first, it is asked again soon, or it had to wait.
    next_off_beat: bool,
    /// No check has ended with a result so far.
    is_fresh: bool,
    /// The server was not asked, as the engine's own link is down.
    is_cut: bool,
    last_success: Option<Instant>,
    last_failure: Option<String>,
    /// Checks that were excused since the last success.
    excused: u8,
}

impl ServiceMonitor {
    /// A server without a verdict, whose first check is due at `first`. The checks after it keep step with `beat`.
    pub fn new(check: &ServiceCheck, first: Instant, beat: Instant, now: Instant) -> Self {
        Self {
            monitor: Monitor::new(&streaks(check), now),
            interval: check.interval,
            dead_interval: check.dead_interval,
            timeout: check.timeout,
            down_after: check.down_after,
            beat,
            began: None,
            began_off_beat: true,
            next: first,
            next_off_beat: true,
            is_fresh: true,
            is_cut: false,
            last_success: None,
            last_failure: None,
            excused: 0,
        }
    }

    /// Judges by another check from now on; the verdict stays, and the next check comes no later than the new pace says.
    pub fn reconfigure(&mut self, check: &ServiceCheck, now: Instant) {
        self.monitor.reconfigure(&streaks(check));
        self.interval = check.interval;
        self.dead_interval = check.dead_interval;
        self.timeout = check.timeout;
        self.down_after = check.down_after;
        let pace = self.pace();
        if self.next > now + pace {
            self.next = first_in_step(self.beat, pace, now);
            self.next_off_beat = false;
        }
    }

    /// True if a check is to begin.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next <= now
    }

    /// A check begins. The next one keeps step with the beat, so that checks that were spread over the interval stay so.
    pub fn begin(&mut self, now: Instant) {
        let pace = self.pace();
        // A loop that slept through whole intervals leaves those checks out: no burst.
        let began = last_in_step(self.next, pace, now);
        self.began = Some(began);
        self.began_off_beat = std::mem::take(&mut self.next_off_beat);
        if !self.began_off_beat {
            self.beat = began;
        }
        self.next = self.following(began);
    }

    /// The check that was to begin has to wait for others: an eighth of the pace.
    pub fn postpone(&mut self, now: Instant) {
        self.next = now + self.pace() / 8;
        self.next_off_beat = true;
    }

    /// The next check is due at `time`, if it is not earlier.
    pub fn hurry(&mut self, time: Instant) {
        if time < self.next {
            self.next = time;
            self.next_off_beat = true;
        }
    }

    /// True if the server was not asked when its last check was due, as the engine's own link was down.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// A check was answered well; the new state, if this changed it.
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

    /// A check failed, for this reason; the new state, if this changed it.
    pub fn failed(&mut self, reason: String, now: Instant) -> Option<State> {
        self.last_failure = Some(reason);
        self.is_cut = false;
        if std::mem::take(&mut self.is_fresh) {
            let changed = self.monitor.fail(now);
            return self.keep_pace(changed, now);
        }
        self.missed(now)
    }

    /// The server could not be asked, as the engine's own link is down; the new state, if this changed it. The first check is still to
    /// come, if there was none.
    pub fn cut(&mut self, reason: String, now: Instant) -> Option<State> {
        self.last_failure = Some(reason);
        self.is_cut = true;
        if self.is_fresh {
            return self.monitor.fail(now);
        }
        self.missed(now)
    }

    /// A check had no answer, and the engine was to blame: it says nothing. If it was the first, the server is asked again within
    /// the time of one check. Where many were asked at once and all were excused, that time is what spreads them.
    pub fn excused(&mut self, now: Instant) {
        self.excused = self.excused.saturating_add(1);
        if self.is_fresh {
            self.hurry(first_in_step(self.beat, self.timeout.min(self.pace()), now));
        }
    }

    /// Whether a check without an answer says nothing if the engine is to blame: as many as would end it are excused until one
    /// is answered again, so that a server that is dead is found in twice the time.
    pub fn may_excuse(&self) -> bool {
        self.excused < self.monitor.fall()
    }

    /// The server was up when the engine ran last, a moment ago: it is up until its checks say otherwise.
    pub fn inherit(&mut self, now: Instant) -> Option<State> {
        self.is_fresh = false;
        self.last_success = Some(now);
        self.monitor.succeed(now)
    }

    fn missed(&mut self, now: Instant) -> Option<State> {
        let changed = self.monitor.observe(Outcome::Failure, now).or_else(|| self.expire(now));
        self.keep_pace(changed, now)
    }

    /// The server is not checked: it is up.
    pub fn trust(&mut self, now: Instant) -> Option<State> {
        self.monitor.succeed(now)
    }

    /// Time passes; the new state, if `down-after` has passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<State> {
        let changed = self.expire(now);
        self.keep_pace(changed, now)
    }

    /// When [`ServiceMonitor::is_due`] or [`ServiceMonitor::handle_timeout`] has something to say.
    pub fn poll_timeout(&self) -> Instant {
        self.limit().map_or(self.next, |limit| limit.min(self.next))
    }

    /// The verdict.
    pub fn state(&self) -> State {
        self.monitor.state()
    }

    /// When the verdict came to be.
    pub fn since(&self) -> Instant {
        self.monitor.since()
    }

    /// The last failure in words.
    pub fn last_failure(&self) -> Option<&str> {
        self.last_failure.as_deref()
    }

    fn pace(&self) -> Duration {
        match self.monitor.state() {
            State::Down => self.dead_interval,
            State::Starting | State::Up => self.interval,
        }
    }

    /// A new state has its pace from the beginning of the check that led to it.
    fn keep_pace(&mut self, changed: Option<State>, now: Instant) -> Option<State> {
        if let (Some(_), Some(began)) = (changed, self.began) {
            let next = self.following(began);
            self.next = if next < now { first_in_step(next, self.pace(), now) } else { next };
            self.next_off_beat = false;
        }
        changed
    }

    /// When the check after the one that began at `began` is due: a pace later, or, if that one was off the beat, at the first time
    /// in step that leaves it half a pace and its timeout.
    fn following(&self, began: Instant) -> Instant {
        let pace = self.pace();
        if self.began_off_beat {
            first_in_step(self.beat, pace, began + (pace / 2).max(self.timeout))
        } else {
            began + pace
        }
    }

    fn expire(&mut self, now: Instant) -> Option<State> {
        self.limit().filter(|limit| *limit <= now)?;
        self.monitor.fail(now)
    }

    /// When `down-after` ends, for a server that is up and has missed a check: one that was never missed is well, however
    /// seldom it is asked.
    fn limit(&self) -> Option<Instant> {
        let failing = self.monitor.state() == State::Up && self.monitor.is_failing();
        Some(self.last_success? + self.down_after.filter(|_| failing)?)
    }
}

/// The first of the times `from`, `from + pace`, `from + 2 * pace`, ... that is not before `earliest`.
fn first_in_step(from: Instant, pace: Duration, earliest: Instant) -> Instant {
    let last = last_in_step(from, pace, earliest);
    if last < earliest { last + pace.max(Duration::from_nanos(1)) } else { last }
}

/// The last of the times `from`, `from + pace`, `from + 2 * pace`, ... that is not after `now` (`from` itself, if that is later). A
/// check that is late keeps its place: a thousand that were late together would be asked together for ever.
fn last_in_step(from: Instant, pace: Duration, now: Instant) -> Instant {
    let (late, pace) = (now.since(from).as_nanos(), pace.as_nanos().max(1));
    from + Duration::from_nanos(u64::try_from(late - late % pace).unwrap_or(u64::MAX))
}

/// What [`Monitor`] has to know of a check.
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
mod tests;
