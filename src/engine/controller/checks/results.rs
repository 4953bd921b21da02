//! How a check ends, and what follows: counted, told, judged.

use crate::engine::Controller;
use crate::engine::controller::tally::Tally;
use crate::engine::controller::{judgement, probes};
use crate::engine::view::CheckedView;
use crate::health::monitor::State;
use crate::time::{Duration, Instant};

/// How a check ended that the engine made for itself.
#[derive(Debug)]
pub(super) enum CheckResult {
    /// The server is well; the time that its answer took.
    Passed(Duration),
    /// It is not, or there is no way to it.
    Failed(String),
    /// It was silent, and the engine was not punctual.
    Excused(String),
    /// It was not asked: the engine's own link is down.
    Cut(String),
}

impl Controller {
    /// The result of a check that the engine made for itself: counted, told, judged.
    pub(super) fn judge_check(&mut self, index: usize, result: CheckResult, now: Instant) {
        let monitor = &mut self.server_checks[index].monitor;
        let (tally, changed) = match &result {
            CheckResult::Passed(_) => (Tally::ChecksPassed, monitor.succeeded(now)),
            CheckResult::Failed(why) => (Tally::ChecksFailed, monitor.failed(why.clone(), now)),
            CheckResult::Excused(_) => {
                monitor.excused(now);
                (Tally::ChecksExcused, None)
            }
            CheckResult::Cut(why) => (Tally::ChecksFailed, monitor.cut(why.clone(), now)),
        };
        self.tallies.add(tally);
        self.tell_result(index, result);
        self.verdict_changed(index, changed);
        self.tell_why(self.server_checks[index].server);
        self.schedule_monitor(index);
    }

    fn tell_result(&mut self, index: usize, result: CheckResult) {
        self.tell_checked(|controller| {
            let (result, rtt, reason) = match result {
                CheckResult::Passed(rtt) => ("passed", Some(rtt), None),
                CheckResult::Failed(why) | CheckResult::Cut(why) => ("failed", None, Some(why)),
                CheckResult::Excused(why) => ("excused", None, Some(why)),
            };
            let check = &controller.server_checks[index];
            let family = judgement::family_name(check.family);
            CheckedView {
                subject: format!("{} {family}", controller.server_name(check.server)),
                result,
                state: probes::path_state(check.monitor.state()),
                reason,
                rtt_us: rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            }
        });
    }

    pub(super) fn verdict_changed(&mut self, index: usize, changed: Option<State>) {
        if changed.is_some() {
            self.checks.verdicts += 1;
            self.farm.suspects.insert(self.server_checks[index].server);
            self.note_check(index);
        }
    }

    /// A family of a server that has two is told by itself: the server may stay up all the same.
    fn note_check(&mut self, index: usize) {
        let check = &self.server_checks[index];
        let (state, family) = (check.monitor.state(), judgement::family_name(check.family));
        let reason = match state {
            State::Down => check.monitor.last_failure().map(str::to_owned),
            State::Up | State::Starting => None,
        };
        if self.checks_of(check.server).count() > 1 {
            let subject = format!("{} {family}", self.server_name(check.server));
            self.change("check", &subject, None, Some(probes::path_state(state)), reason.as_deref(), None);
        }
    }
}
