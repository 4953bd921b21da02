//! What the operator is told: changes of state as they happen, and alarms about what is wrong for some time.

use std::collections::BTreeMap;

use crate::engine::view::{AlarmView, EventView};
use crate::time::{Duration, Instant};

/// What identifies an alarm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Alarm {
    pub(super) kind: &'static str,
    pub(super) subject: String,
}

/// A change of a subject from one state to another.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StateChange<'a> {
    /// The kind of event.
    pub(super) kind: &'static str,
    /// The name of the object.
    pub(super) subject: &'a str,
    pub(super) from: Option<&'a str>,
    pub(super) to: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
    /// The operator who ordered it.
    pub(super) by: Option<&'a str>,
    /// How long the earlier state lasted, where that is known.
    pub(super) lasted: Option<Duration>,
}

#[derive(Debug, Clone)]
struct ActiveAlarm {
    reason: String,
    since: Instant,
}

/// The active alarms, and the number of the last event.
#[derive(Debug, Clone, Default)]
pub(super) struct Journal {
    sequence: u64,
    alarms: BTreeMap<Alarm, ActiveAlarm>,
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

    /// Forgets the alarms about things that a reload removed, and about parts of them.
    pub(super) fn forget(&mut self, subjects: &[String]) {
        let is_about = |alarm: &Alarm, of: &String| {
            alarm.subject.strip_prefix(of.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        self.alarms.retain(|alarm, _| !subjects.iter().any(|subject| is_about(alarm, subject)));
    }

    /// The next event, about `change`.
    pub(super) fn event(&mut self, change: StateChange<'_>) -> EventView {
        let StateChange { kind, subject, from, to, reason, by, lasted } = change;
        self.sequence += 1;
        EventView {
            seq: self.sequence,
            at: String::new(),
            kind: kind.to_owned(),
            subject: subject.to_owned(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
            reason: reason.map(str::to_owned),
            by: by.map(str::to_owned),
            lasted_ms: lasted.map(millis),
        }
    }

    fn alarm_event(&mut self, alarm: &Alarm, (from, to): (&str, &str), reason: &str) -> EventView {
        let subject = &format!("{} {}", alarm.kind, alarm.subject);
        let (from, to, reason) = (Some(from), Some(to), Some(reason));
        self.event(StateChange { kind: "alarm", subject, from, to, reason, ..StateChange::default() })
    }

    /// Raises an alarm and returns the event. An alarm that is active already gets the newer reason, keeps its age, and
    /// makes no event.
    pub(super) fn raise(&mut self, alarm: Alarm, reason: String, now: Instant) -> Option<EventView> {
        if let Some(raised) = self.alarms.get_mut(&alarm) {
            raised.reason = reason;
            return None;
        }
        let event = self.alarm_event(&alarm, ("clear", "raised"), &reason);
        self.alarms.insert(alarm, ActiveAlarm { reason, since: now });
        Some(event)
    }

    /// Clears an alarm and returns the event; `None` if it was not active.
    pub(super) fn clear(&mut self, alarm: &Alarm, now: Instant) -> Option<EventView> {
        let raised = self.alarms.remove(alarm)?;
        let lasted = format!("after {} s", now.since(raised.since).as_secs());
        Some(self.alarm_event(alarm, ("raised", "clear"), &lasted))
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
