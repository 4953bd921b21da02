//! What the operator is told: changes as they happen, and what is wrong and lasts.

use std::collections::BTreeMap;

use super::{Controller, Event};
use crate::engine::view::{AlarmView, CheckedView, EventView};
use crate::time::Instant;

/// Names an alarm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Alarm {
    pub(super) kind: &'static str,
    pub(super) subject: String,
}

#[derive(Debug)]
struct Raised {
    reason: String,
    since: Instant,
}

/// Alarms that stand, and the number of the last event.
#[derive(Debug, Default)]
pub(super) struct Journal {
    sequence: u64,
    alarms: BTreeMap<Alarm, Raised>,
}

impl Journal {
    pub(super) fn alarms(&self, now: Instant) -> Vec<AlarmView> {
        let views = self.alarms.iter().map(|(alarm, raised)| AlarmView {
            kind: alarm.kind.to_owned(),
            subject: alarm.subject.clone(),
            reason: raised.reason.clone(),
            since_ms: millis(now.since(raised.since)),
        });
        views.collect()
    }
}

impl Journal {
    /// Forgets the alarms about what a reload removed.
    pub(super) fn forget(&mut self, subjects: &[String]) {
        let is_about = |alarm: &Alarm, of: &String| {
            alarm.subject.strip_prefix(of.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        self.alarms.retain(|alarm, _| !subjects.iter().any(|subject| is_about(alarm, subject)));
    }
}

/// What went from one state to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Changed<'a> {
    pub(super) kind: &'a str,
    pub(super) subject: &'a str,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) reason: Option<&'a str>,
}

impl Controller {
    /// Tells that `subject` went from one state to another.
    pub(super) fn change(
        &mut self,
        kind: &str,
        subject: &str,
        from: Option<&str>,
        to: Option<&str>,
        reason: Option<&str>,
        by: Option<&str>,
    ) {
        self.journal.sequence += 1;
        self.events.push_back(Event::Change(EventView {
            seq: self.journal.sequence,
            at: String::new(),
            kind: kind.to_owned(),
            subject: subject.to_owned(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
            reason: reason.map(str::to_owned),
            by: by.map(str::to_owned),
            lasted_ms: None,
        }));
    }

    /// The same, of a state that stood since `since`, which is told.
    pub(super) fn change_since(&mut self, since: Instant, now: Instant, change: Changed<'_>) {
        let Changed { kind, subject, from, to, reason } = change;
        self.change(kind, subject, Some(from), Some(to), reason, None);
        if let Some(Event::Change(event)) = self.events.back_mut() {
            event.lasted_ms = Some(millis(now.since(since)));
        }
    }

    /// Tells the result of a health check, where that is asked for.
    pub(super) fn tell_checked(&mut self, checked: impl FnOnce(&Self) -> CheckedView) {
        if self.config.log.checks {
            let checked = checked(self);
            self.events.push_back(Event::Checked(checked));
        }
    }

    /// Raises an alarm; one that stands gets the newer reason and keeps its age.
    pub(super) fn raise_alarm(&mut self, alarm: Alarm, reason: String, now: Instant) {
        if let Some(raised) = self.journal.alarms.get_mut(&alarm) {
            raised.reason = reason;
            return;
        }
        let subject = format!("{} {}", alarm.kind, alarm.subject);
        self.change("alarm", &subject, Some("clear"), Some("raised"), Some(&reason), None);
        self.journal.alarms.insert(alarm, Raised { reason, since: now });
    }

    /// Clears an alarm, if it stands.
    pub(super) fn clear_alarm(&mut self, alarm: &Alarm, now: Instant) {
        if let Some(raised) = self.journal.alarms.remove(alarm) {
            let subject = format!("{} {}", alarm.kind, alarm.subject);
            let lasted = format!("after {} s", now.since(raised.since).as_secs());
            self.change("alarm", &subject, Some("raised"), Some("clear"), Some(&lasted), None);
        }
    }
}

/// Whole milliseconds.
pub(super) fn millis(duration: crate::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whole microseconds.
pub(super) fn micros(duration: crate::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
