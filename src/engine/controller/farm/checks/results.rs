//! What follows from the end of a check: its result is recorded, counted, reported and evaluated.

use crate::engine::change::{StateChange, Subject};
use crate::engine::controller::farm::Farm;
use crate::engine::controller::outbox::Outbox;
use crate::engine::controller::tally::Tally;
use crate::engine::view::{CheckLogView, EventKind, OperState};
use crate::health::history::{CheckRecord, CheckResult};
use crate::health::monitor::HealthState;
use crate::time::{Duration, Instant};

/// How a check that the engine made for itself ended.
#[derive(Debug)]
pub(super) enum CheckEnd {
    /// The server is healthy: the time that its answer took, and the answer in words.
    Passed(Duration, String),
    /// The server is unhealthy, or there is no route to it.
    Failed(String),
    /// The server was silent, and the engine was late or lost frames meanwhile.
    Excused(String),
    /// The check was not sent, because the engine's own link is down.
    NotSent(String),
}

impl CheckEnd {
    const fn result(&self) -> CheckResult {
        match self {
            Self::Passed(..) => CheckResult::Passed,
            Self::Failed(_) => CheckResult::Failed,
            Self::Excused(_) => CheckResult::Excused,
            Self::NotSent(_) => CheckResult::Skipped,
        }
    }
}

impl Farm {
    /// Applies the end of a check that the engine made for itself. It began at `began`; `None` if it sent nothing.
    pub(super) fn apply_check_result(
        &mut self,
        index: usize,
        end: CheckEnd,
        began: Option<Instant>,
        now: Instant,
        out: &mut Outbox,
    ) {
        let monitor = &mut self.server_checks[index].monitor;
        let (tally, changed) = match &end {
            CheckEnd::Passed(..) => (Tally::ChecksPassed, monitor.succeeded(now)),
            CheckEnd::Failed(why) => (Tally::ChecksFailed, monitor.failed(why.clone(), now)),
            CheckEnd::Excused(_) => {
                monitor.excused(now);
                (Tally::ChecksExcused, None)
            }
            CheckEnd::NotSent(why) => (Tally::ChecksFailed, monitor.handle_link_down(why.clone(), now)),
        };
        out.count(tally);
        self.report_result(index, &end, out);
        let result = end.result();
        self.record_result(index, end, began, now);
        self.verdict_changed(index, changed, now, out);
        self.resolve_suspicion(index, result, out);
        self.update_down_reason(self.server_checks[index].server);
        self.schedule_monitor(index);
    }

    fn record_result(&mut self, index: usize, end: CheckEnd, began: Option<Instant>, now: Instant) {
        let check = &mut self.server_checks[index];
        let (result, state) = (end.result(), check.monitor.state());
        let (words, took) = match end {
            CheckEnd::Passed(took, words) => (words, Some(took)),
            CheckEnd::Failed(why) | CheckEnd::Excused(why) | CheckEnd::NotSent(why) => {
                (why, began.map(|began| now.since(began)))
            }
        };
        check.history.push(CheckRecord { at: now, result, detail: words, took, state, count: 1 });
    }

    fn report_result(&mut self, index: usize, end: &CheckEnd, out: &mut Outbox) {
        if !self.config.log.checks {
            return;
        }
        let (result, rtt, reason) = match end {
            CheckEnd::Passed(rtt, _) => (CheckResult::Passed, Some(*rtt), None),
            CheckEnd::Failed(why) | CheckEnd::NotSent(why) => (CheckResult::Failed, None, Some(why)),
            CheckEnd::Excused(why) => (CheckResult::Excused, None, Some(why)),
        };
        let check = &self.server_checks[index];
        let family = check.family;
        out.report_check(CheckLogView {
            subject: format!("{} {family}", self.config.server_name(check.server)),
            result,
            state: check.monitor.state().into(),
            reason: reason.cloned(),
            rtt_us: rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
        });
    }

    pub(super) fn verdict_changed(
        &mut self,
        index: usize,
        changed: Option<HealthState>,
        now: Instant,
        out: &mut Outbox,
    ) {
        let Some(state) = changed else { return };
        let check = &mut self.server_checks[index];
        match state {
            HealthState::Up => check.outages.rise(now),
            HealthState::Down => check.outages.fall(now),
            HealthState::Starting => check.outages.pause(now),
        }
        self.checks.verdict_changes += 1;
        self.suspects.insert(self.server_checks[index].server);
        self.report_family_change(index, out);
    }

    /// Reports the change of one family of a server that has two, because the server itself may stay up.
    fn report_family_change(&mut self, index: usize, out: &mut Outbox) {
        let check = &self.server_checks[index];
        let (state, family) = (check.monitor.state(), check.family);
        let reason = match state {
            HealthState::Down => check.monitor.last_failure().map(str::to_owned),
            HealthState::Up | HealthState::Starting => None,
        };
        if self.checks_of(check.server).count() > 1 {
            let server = &self.config.servers[check.server.index()];
            let service = self.config.services[server.service.index()].name.clone();
            let subject = Subject::ServerFamily { service, server: server.name.clone(), family };
            out.report_change(
                StateChange::to(EventKind::Check, subject, OperState::from(state).name()).because(reason),
            );
        }
    }
}
