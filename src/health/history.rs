//! The last results of one kind of check, for the operator who asks what was seen before a verdict; and how often and
//! how long something was down.

use std::collections::VecDeque;

use crate::health::monitor::HealthState;
use crate::time::{Duration, Instant};

/// The number of results that are kept of each checked address or path.
pub const RECORDS_MAX: usize = 20;

named_enum! {
    /// How a check ended.
    pub enum CheckResult {
        /// It succeeded.
        Passed = "passed",
        /// It failed.
        Failed = "failed",
        /// There was no answer while the engine was late or lost frames, so that it says nothing.
        Excused = "excused",
        /// It was not sent, because the engine's own link was down.
        Skipped = "skipped",
    }
}

/// A check that ended, or several in a row with the same result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRecord {
    /// When it ended; of several, when the last one did.
    pub at: Instant,
    /// How it ended.
    pub result: CheckResult,
    /// What was answered, or why it failed.
    pub detail: String,
    /// Time from its first frame to its end, for the last of several; `None` if nothing was sent or the time is not
    /// known.
    pub took: Option<Duration>,
    /// The verdict after it.
    pub state: HealthState,
    /// The number of checks in a row.
    pub count: u64,
}

/// The last [`RECORDS_MAX`] results.
#[derive(Debug, Clone, Default)]
pub struct CheckHistory {
    /// The results, newest last.
    records: VecDeque<CheckRecord>,
    failures: u64,
}

impl CheckHistory {
    /// Adds a result of its own.
    pub fn push(&mut self, record: CheckRecord) {
        self.failures += u64::from(record.result == CheckResult::Failed);
        if self.records.len() == RECORDS_MAX {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// Adds a result of a check that is made many times a second. Consecutive results that say the same become one
    /// record.
    pub fn push_or_merge(&mut self, record: CheckRecord) {
        let alike = self.records.back_mut().filter(|last| {
            (last.result, last.state, last.detail.as_str()) == (record.result, record.state, record.detail.as_str())
        });
        match alike {
            Some(last) => {
                self.failures += u64::from(record.result == CheckResult::Failed);
                (last.at, last.took) = (record.at, record.took);
                last.count += record.count;
            }
            None => self.push(record),
        }
    }

    /// The results, oldest first.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &CheckRecord> {
        self.records.iter()
    }

    /// The newest result.
    pub fn last(&self) -> Option<&CheckRecord> {
        self.records.back()
    }

    /// The number of failures since the start.
    pub fn failures(&self) -> u64 {
        self.failures
    }
}

/// How often something went down, and for how long in total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outages {
    falls: u64,
    ended: Duration,
    is_up: bool,
    since: Option<Instant>,
}

impl Outages {
    /// Records that it is down from `now` on. This counts as a failure if it was up, but not if it begins down.
    pub fn fall(&mut self, now: Instant) {
        self.falls += u64::from(std::mem::take(&mut self.is_up));
        self.since.get_or_insert(now);
    }

    /// Records that it is up from `now` on.
    pub fn rise(&mut self, now: Instant) {
        self.is_up = true;
        self.pause(now);
    }

    /// Ends the time down at `now`, because it is not checked any more.
    pub fn pause(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.ended = self.ended.saturating_add(now.since(since));
        }
    }

    /// How often it went from up to down.
    pub fn falls(&self) -> u64 {
        self.falls
    }

    /// How long it was down, including the time since it went down last if it still is.
    pub fn downtime(&self, now: Instant) -> Duration {
        self.ended.saturating_add(self.since.map_or(Duration::ZERO, |since| now.since(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at: u64, result: CheckResult, words: &str) -> CheckRecord {
        let took = Some(Duration::from_micros(at));
        CheckRecord {
            at: Instant::from_millis(at),
            result,
            detail: words.to_owned(),
            took,
            state: HealthState::Up,
            count: 1,
        }
    }

    #[test]
    fn the_last_twenty_are_kept_and_all_failures_are_counted() {
        let mut history = CheckHistory::default();
        for at in 0..100 {
            let result = if at % 2 == 0 { CheckResult::Failed } else { CheckResult::Passed };
            history.push(record(at, result, "x"));
        }

        let times: Vec<u64> = history.records().map(|record| record.at.as_millis()).collect();
        assert_eq!(times, (80..100).collect::<Vec<u64>>());
        assert_eq!((history.failures(), history.last().unwrap().at.as_millis()), (50, 99));
    }

    #[test]
    fn results_in_a_row_that_say_the_same_are_one_record_with_the_newest_time() {
        let mut history = CheckHistory::default();
        for at in 0..1_000 {
            history.push_or_merge(record(at, CheckResult::Passed, ""));
        }
        history.push_or_merge(record(1_000, CheckResult::Failed, "no answer"));
        history.push_or_merge(record(1_001, CheckResult::Failed, "no answer"));
        history.push_or_merge(record(1_002, CheckResult::Failed, "another reason"));
        history.push_or_merge(CheckRecord {
            state: HealthState::Down,
            ..record(1_003, CheckResult::Failed, "another reason")
        });
        history.push_or_merge(record(1_004, CheckResult::Passed, ""));

        let seen: Vec<_> = history.records().map(|record| (record.at.as_millis(), record.count)).collect();
        assert_eq!(seen, [(999, 1_000), (1_001, 2), (1_002, 1), (1_003, 1), (1_004, 1)]);
        assert_eq!(history.records().next().unwrap().took, Some(Duration::from_micros(999)));
        assert_eq!(history.failures(), 4);
    }

    #[test]
    fn downtime_is_the_sum_of_all_outages_and_the_one_that_lasts() {
        let at = Instant::from_millis;
        let mut outages = Outages::default();
        outages.fall(at(100));
        outages.rise(at(300));
        outages.rise(at(400));
        assert_eq!((outages.falls(), outages.downtime(at(500))), (0, Duration::from_millis(200)), "it began down");

        outages.fall(at(1_000));
        outages.fall(at(1_100));
        assert_eq!((outages.falls(), outages.downtime(at(1_500))), (1, Duration::from_millis(700)));
        outages.rise(at(2_000));
        assert_eq!((outages.falls(), outages.downtime(at(9_000))), (1, Duration::from_millis(1_200)));

        outages.fall(at(10_000));
        outages.pause(at(11_000));
        outages.fall(at(20_000));
        assert_eq!(outages.falls(), 2, "who was not asked about in between did not fall again");
        assert_eq!(outages.downtime(at(21_000)), Duration::from_millis(3_200));
    }
}
