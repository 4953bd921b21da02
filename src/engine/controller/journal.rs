//! The active alarms: what is wrong for some time, since when, and the changes that raise and clear them.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::change::{Alarm, StateChange, Subject};
use crate::engine::view::AlarmView;
use crate::time::{Duration, Instant};

#[derive(Debug, Clone)]
struct ActiveAlarm {
    reason: String,
    since: Instant,
}

/// The active alarms.
#[derive(Debug, Clone, Default)]
pub(super) struct Journal {
    alarms: BTreeMap<Alarm, ActiveAlarm>,
}

impl Journal {
    pub(super) fn alarms(&self, now: Instant) -> Vec<AlarmView> {
        let views = self.alarms.iter().map(|(alarm, raised)| AlarmView {
            kind: alarm.kind.into(),
            subject: alarm.subject.to_string(),
            reason: raised.reason.clone(),
            since_ms: millis(now.since(raised.since)),
        });
        views.collect()
    }

    /// Forgets the alarms about declarations that a reload removed, and about parts of them.
    pub(super) fn forget(&mut self, gone: &BTreeSet<Subject>) {
        self.alarms.retain(|alarm, _| !alarm.subject.declarations().iter().any(|declared| gone.contains(declared)));
    }

    /// Raises an alarm and returns the change. An alarm that is active already gets the newer reason, keeps its age, and
    /// changes nothing.
    pub(super) fn raise(&mut self, alarm: Alarm, reason: String, now: Instant) -> Option<StateChange> {
        if let Some(raised) = self.alarms.get_mut(&alarm) {
            raised.reason = reason;
            return None;
        }
        let change = alarm.raised(reason.clone());
        self.alarms.insert(alarm, ActiveAlarm { reason, since: now });
        Some(change)
    }

    /// Clears an alarm and returns the change; `None` if it was not active.
    pub(super) fn clear(&mut self, alarm: &Alarm, now: Instant) -> Option<StateChange> {
        let raised = self.alarms.remove(alarm)?;
        Some(alarm.cleared(Some(format!("after {} s", now.since(raised.since).as_secs()))))
    }
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whole microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
