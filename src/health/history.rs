//! The last results of one kind of check, for the operator who asks at night what was seen before a verdict; and how often and how
//! long something was down.

use std::collections::VecDeque;

use crate::health::monitor::HealthState;
use crate::time::{Duration, Instant};

/// Results that are kept of each checked address or path.
pub const RECORDS_MAX: usize = 20;

named_enum! {
    /// How a check ended.
    pub enum CheckResult {
        /// As it should.
        Passed = "passed",
        /// Otherwise.
        Failed = "failed",
        /// Without an answer while the engine was not punctual: it says nothing.
        Excused = "excused",
        /// It was not made, as the engine's own link was down.
        Skipped = "skipped",
    }
}

/// A check that ended, or several in a row that ended alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRecord {
    /// When it ended, the last of them.
    pub at: Instant,
    /// How it ended.
    pub result: CheckResult,
    /// What was answered, or why it failed, in words.
    pub detail: String,
    /// From its first frame to its end, of the last of them; `None`: nothing was sent, or no one knows.
    pub took: Option<Duration>,
    /// The verdict after it.
    pub state: HealthState,
    /// How many in a row.
    pub count: u64,
}

/// The last [`RECORDS_MAX`] results.
#[derive(Debug, Clone, Default)]
pub struct CheckHistory {
    /// The newest last.
    records: VecDeque<CheckRecord>,
    failures: u64,
}

impl CheckHistory {
    /// Keeps a result by itself.
    pub fn push(&mut self, record: CheckRecord) {
        self.failures += u64::from(record.result == CheckResult::Failed);
        if self.records.len() == RECORDS_MAX {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// Keeps a result of a check that is made many times a second: results in a row that say the same are one record.
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

    /// From the oldest that is known to the newest.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &CheckRecord> {
        self.records.iter()
    }

    /// The newest.
    pub fn last(&self) -> Option<&CheckRecord> {
        self.records.back()
    }

    /// How many failed, of all that there ever were.
    pub fn failures(&self) -> u64 {
        self.failures
    }
}

/// How often something fell, and how long it was down in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outages {
    falls: u64,
    ended: Duration,
    is_up: bool,
    since: Option<Instant>,
}

impl Outages {
    /// It is down from here on. If it was up, it has fallen; what begins down has not.
    pub fn fall(&mut self, now: Instant) {
        self.falls += u64::from(std::mem::take(&mut self.is_up));
        self.since.get_or_insert(now);
    }

    /// It is up from here on.
    pub fn rise(&mut self, now: Instant) {
        self.is_up = true;
        self.pause(now);
    }

    /// It is not down from here on, as nobody asks whether it is up.
    pub fn pause(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.ended = self.ended.saturating_add(now.since(since));
        }
    }

    /// How often it went from up to down.
    pub fn falls(&self) -> u64 {
        self.falls
    }

    /// How long it was down, with the time that it is down for now.
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
