//! When the node speaks next, and how late it was: rounds, lateness, and the lease that follows from them.

use std::collections::VecDeque;

use crate::time::{Duration, Instant};

/// For how long a lateness is remembered.
const MEMORY: Duration = Duration::from_secs(60);
/// The number of values that cover it.
const SLICES: u32 = 6;
/// The longest interval that a node chooses because it is late.
const STRETCHED_MAX: Duration = Duration::from_secs(1);
/// The step of intervals on the wire.
const STEP: Duration = Duration::from_millis(10);

/// The rounds of hello and advertisement.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    configured: Duration,
    /// When the next round is due.
    pub(super) due: Instant,
    /// When the last round was.
    pub(super) spoke: Instant,
    /// The time until the next round that the last one told the other nodes, by which they judge a silence.
    promised: Duration,
    /// The worst lateness of each slice of the last minute, and when the slice began.
    late: VecDeque<(Instant, Duration)>,
}

impl Pace {
    pub(super) fn new(configured: Duration, now: Instant) -> Self {
        Self { configured, due: now, spoke: now, promised: configured, late: VecDeque::new() }
    }

    pub(super) fn set_interval(&mut self, configured: Duration) {
        self.configured = configured;
    }

    /// The time that the last round promised until the next one.
    pub(super) fn promised(&self) -> Duration {
        self.promised
    }

    /// The time from the next round to the one after it: longer than configured if this node cannot keep that.
    pub(super) fn interval(&self) -> Duration {
        let worst = self.worst();
        if worst <= self.configured / 2 {
            return self.configured;
        }
        let steps = (worst * 2).as_nanos().div_ceil(STEP.as_nanos());
        let stretched = STEP * u32::try_from(steps).unwrap_or(u32::MAX);
        stretched.min(STRETCHED_MAX).max(self.configured)
    }

    /// The worst lateness of the last minute.
    pub(super) fn worst(&self) -> Duration {
        self.late.iter().map(|(_, late)| *late).max().unwrap_or_default()
    }

    /// How late the next round is.
    pub(super) fn lateness(&self, now: Instant) -> Duration {
        now.since(self.due)
    }

    /// The end of the lease: half an interval before the shortest time after which another node takes over. Others judge
    /// by the interval that they were told, whatever this node has learned of its lateness since.
    pub(super) fn lease_end(&self) -> Instant {
        self.spoke + self.promised * 5 / 2
    }

    /// A round begins.
    pub(super) fn begin_round(&mut self, now: Instant) {
        self.note(self.lateness(now), now);
        self.spoke = now;
        self.promised = self.interval();
        let next = self.due + self.promised;
        self.due = if next > now { next } else { now + self.promised };
    }

    /// The node runs again after a time in which it did not: its round is due at once, and late no further. A time that
    /// is longer than a lease is a standstill, which has consequences of its own, and promises nothing about the next.
    pub(super) fn excuse(&mut self, now: Instant) {
        let late = self.lateness(now);
        if late < self.configured * 5 / 2 {
            self.note(late, now);
        }
        self.due = now;
    }

    fn note(&mut self, late: Duration, now: Instant) {
        while self.late.front().is_some_and(|(since, _)| now.since(*since) >= MEMORY) {
            self.late.pop_front();
        }
        match self.late.back_mut() {
            Some((since, worst)) if now.since(*since) < MEMORY / SLICES => *worst = late.max(*worst),
            Some(_) | None => self.late.push_back((now, late)),
        }
    }

    /// A round out of turn: what has to be said is said at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.spoke = now;
        self.promised = self.interval();
        self.due = now + self.promised;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_node_that_is_late_by_more_than_half_an_interval_promises_less_for_a_minute() {
        let mut pace = Pace::new(MS(30), Instant::ZERO);
        pace.excuse(Instant::from_millis(15));
        assert_eq!(pace.interval(), MS(30));

        pace.begin_round(Instant::from_millis(15));
        let mut now = pace.due + MS(26);
        pace.excuse(now);
        assert_eq!(pace.interval(), MS(60), "twice the lateness, in steps of 10 ms");

        pace.begin_round(now);
        assert_eq!(pace.lease_end(), now + MS(150));
        let late = now;
        while now.since(late) < Duration::from_secs(55) {
            now = pace.due;
            pace.begin_round(now);
        }
        assert_eq!(pace.interval(), MS(60));
        while now.since(late) < Duration::from_secs(71) {
            now = pace.due;
            pace.begin_round(now);
        }
        assert_eq!(pace.interval(), MS(30));
    }

    #[test]
    fn a_lease_is_as_long_as_what_was_promised_before_the_node_knew_that_it_is_late() {
        let mut pace = Pace::new(MS(30), Instant::ZERO);
        pace.begin_round(Instant::ZERO);
        pace.excuse(Instant::from_millis(56));
        assert_eq!(pace.interval(), MS(60), "from the next round on");
        assert_eq!((pace.promised(), pace.lease_end()), (MS(30), Instant::from_millis(75)));
        pace.begin_round(Instant::from_millis(56));
        assert_eq!((pace.promised(), pace.lease_end()), (MS(60), Instant::from_millis(206)));
    }

    #[test]
    fn a_standstill_promises_nothing_about_the_next() {
        let mut pace = Pace::new(MS(30), Instant::ZERO);
        pace.excuse(Instant::from_millis(5000));
        assert_eq!((pace.interval(), pace.due), (MS(30), Instant::from_millis(5000)));
    }

    #[test]
    fn the_lease_ends_before_any_standby_takes_over() {
        let pace = Pace::new(MS(30), Instant::ZERO);
        let first = crate::wire::vrrp::active_down_interval(254, MS(30));
        assert!(pace.lease_end() + MS(15) <= Instant::ZERO + first);
    }

    #[test]
    fn rounds_keep_their_beat_and_missed_ones_are_not_made_up() {
        let mut pace = Pace::new(MS(30), Instant::ZERO);
        pace.begin_round(Instant::from_millis(4));
        assert_eq!(pace.due, Instant::from_millis(30));
        pace.excuse(Instant::from_millis(5000));
        pace.begin_round(Instant::from_millis(5000));
        assert_eq!(pace.due, Instant::from_millis(5030));
    }
}
