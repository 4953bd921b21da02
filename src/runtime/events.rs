//! The last state changes, numbered and dated.

use std::collections::VecDeque;

use crate::engine::view::EventView;

/// Changes that are remembered (INTERFACE.md section 3).
const CAPACITY: usize = 1000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    last: u64,
    events: VecDeque<EventView>,
}

impl EventLog {
    /// Numbers, dates, remembers and logs a change.
    pub(super) fn add(&mut self, engine: &str, at: String, event: EventView) {
        self.last += 1;
        let event = EventView { seq: self.last, at, ..event };
        log(engine, &event);
        if self.events.len() == CAPACITY {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Those after number `after`, oldest first.
    pub(super) fn after(&self, after: u64) -> Vec<EventView> {
        self.events.iter().filter(|event| event.seq > after).cloned().collect()
    }
}

/// One line per change; what takes something away or is wrong is a warning.
fn log(engine: &str, event: &EventView) {
    let EventView { seq, at: _, kind, subject, from, to, reason, by } = event;
    let (from, to, reason, by) = (from.as_deref(), to.as_deref(), reason.as_deref(), by.as_deref());
    let bad = kind == "alarm" || matches!(to, Some("down" | "lost" | "degraded"));
    if bad {
        tracing::warn!(engine, seq, kind, subject, from, to, reason, by, "changed");
    } else {
        tracing::info!(engine, seq, kind, subject, from, to, reason, by, "changed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(subject: &str) -> EventView {
        EventView {
            seq: 0,
            at: String::new(),
            kind: "firewall".into(),
            subject: subject.into(),
            from: None,
            to: None,
            reason: None,
            by: None,
        }
    }

    #[test]
    fn the_last_thousand_are_kept_with_growing_numbers() {
        let mut log = EventLog::default();
        for number in 0..1500 {
            log.add("outer", "2026-11-21T11:00:00.000Z".into(), change(&number.to_string()));
        }

        let all = log.after(0);
        assert_eq!((all.len(), all[0].seq, all[0].subject.as_str()), (1000, 501, "500"));
        assert_eq!(all[0].at, "2026-11-21T11:00:00.000Z");
        assert_eq!(log.after(1498).iter().map(|event| event.seq).collect::<Vec<_>>(), [1499, 1500]);
        assert!(log.after(1500).is_empty());
    }
}
