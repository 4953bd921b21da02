//! The last state changes, numbered and dated, and the lines that tell of them.

mod limit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::engine::view::{CheckedView, EventView};
use crate::time::Instant;

use super::logging::CHANGE;
use limit::{Admission, Limiter};

/// Changes that are remembered (INTERFACE.md section 3).
const CAPACITY: usize = 1000;
/// Subjects whose last change is remembered; a farm has fewer. What comes beyond is told without the age of its old state.
const SUBJECTS: usize = 100_000;

/// See the module.
#[derive(Debug)]
pub(super) struct EventLog {
    engine: String,
    started: Instant,
    last: u64,
    events: VecDeque<EventView>,
    /// When kind and subject changed last.
    since: BTreeMap<(String, String), Instant>,
    /// What reloads added, and when. All else is as old as the engine.
    born: BTreeMap<String, Instant>,
    limiter: Limiter,
}

impl EventLog {
    /// Of an engine that starts at `now`.
    pub(super) fn new(engine: &str, now: Instant) -> Self {
        Self {
            engine: engine.to_owned(),
            started: now,
            last: 0,
            events: VecDeque::new(),
            since: BTreeMap::new(),
            born: BTreeMap::new(),
            limiter: Limiter::default(),
        }
    }

    /// Numbers, dates, remembers and logs a change.
    pub(super) fn add(&mut self, at: String, event: EventView, now: Instant) {
        self.last += 1;
        let lasted_ms = self.lasted_ms(&event, now);
        let event = EventView { seq: self.last, at, lasted_ms, ..event };
        if self.may_log(&event.kind, now) {
            log(&self.engine, &event);
        }
        if self.events.len() == CAPACITY {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Logs the result of a health check.
    pub(super) fn checked(&mut self, checked: &CheckedView, now: Instant) {
        if !self.may_log("result", now) {
            return;
        }
        let (engine, kind) = (self.engine.as_str(), "check");
        let CheckedView { subject, result, state, reason, rtt_us } = checked;
        let (reason, message) = (reason.as_deref(), format!("check {subject}: {result}"));
        tracing::info!(target: CHANGE, engine, kind, subject, result, state, reason, rtt_us, "{message}");
    }

    /// Tells what was held back and is due to be told: to be called now and then, as a flood may end with silence.
    pub(super) fn tell_suppressed(&mut self, now: Instant) {
        for (kind, suppressed) in self.limiter.due(now) {
            tell_suppressed(&self.engine, &kind, suppressed);
        }
    }

    /// Those after number `after`, oldest first.
    pub(super) fn after(&self, after: u64) -> Vec<EventView> {
        self.events.iter().filter(|event| event.seq > after).cloned().collect()
    }

    fn may_log(&mut self, kind: &str, now: Instant) -> bool {
        match self.limiter.admit(kind, now) {
            Admission::Line { suppressed: 0 } => true,
            Admission::Line { suppressed } => {
                tell_suppressed(&self.engine, kind, suppressed);
                true
            }
            Admission::Suppressed => false,
        }
    }

    /// A reload took these things out of the configuration and brought those into it.
    pub(super) fn reloaded(&mut self, gone: &BTreeSet<String>, new: &BTreeSet<String>, now: Instant) {
        self.born.retain(|name, _| !gone.contains(name));
        self.since.retain(|(_, subject), _| !subject.split(' ').any(|word| gone.contains(word)));
        let room = SUBJECTS.saturating_sub(self.born.len());
        self.born.extend(new.iter().take(room).map(|name| (name.clone(), now)));
    }

    /// How long the old state of the subject lasted; what did not change before is as old as the youngest thing that its subject
    /// names, or as the engine.
    fn lasted_ms(&mut self, event: &EventView, now: Instant) -> Option<u64> {
        event.from.as_ref()?;
        let key = (event.kind.clone(), event.subject.clone());
        if self.since.len() >= SUBJECTS && !self.since.contains_key(&key) {
            return None;
        }
        let born = || event.subject.split(' ').filter_map(|word| self.born.get(word)).max().copied();
        let before = self.since.get(&key).copied().or_else(born).unwrap_or(self.started);
        self.since.insert(key, now);
        Some(u64::try_from(now.since(before).as_millis()).unwrap_or(u64::MAX))
    }
}

/// One line per change; what takes something away or is wrong is a warning.
fn log(engine: &str, event: &EventView) {
    let EventView { seq, at: _, kind, subject, from, to, reason, by, lasted_ms } = event;
    let (from, to, reason, by) = (from.as_deref(), to.as_deref(), reason.as_deref(), by.as_deref());
    let message = match (from, to) {
        (Some(from), Some(to)) => format!("{kind} {subject}: {from} -> {to}"),
        (None, Some(to)) => format!("{kind} {subject}: {to}"),
        (Some(from), None) => format!("{kind} {subject}: no longer {from}"),
        (None, None) => format!("{kind} {subject}"),
    };
    let bad = matches!(to, Some("down" | "lost" | "degraded" | "raised" | "refused"));
    if bad {
        tracing::warn!(target: CHANGE, engine, seq, kind, subject, from, to, reason, by, lasted_ms, "{message}");
    } else {
        tracing::info!(target: CHANGE, engine, seq, kind, subject, from, to, reason, by, lasted_ms, "{message}");
    }
}

fn tell_suppressed(engine: &str, kind: &str, suppressed: u64) {
    tracing::warn!(
        engine,
        kind,
        suppressed,
        "lines held back: too many of a kind at once; `fwlb show events` has the last"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::logging::tests::lines_of;
    use crate::time::Duration;

    fn change(subject: &str, from: Option<&str>, to: &str) -> EventView {
        EventView {
            seq: 0,
            at: String::new(),
            kind: "firewall".into(),
            subject: subject.into(),
            from: from.map(str::to_owned),
            to: Some(to.into()),
            reason: None,
            by: None,
            lasted_ms: None,
        }
    }

    fn at() -> String {
        "2026-11-21T11:00:00.000Z".into()
    }

    #[test]
    fn the_last_thousand_are_kept_with_growing_numbers() {
        let mut log = EventLog::new("outer", Instant::ZERO);
        for number in 0..1500 {
            log.add(at(), change(&number.to_string(), None, "up"), Instant::ZERO);
        }

        let all = log.after(0);
        assert_eq!((all.len(), all[0].seq, all[0].subject.as_str()), (1000, 501, "500"));
        assert_eq!(all[0].at, at());
        assert_eq!(log.after(1498).iter().map(|event| event.seq).collect::<Vec<_>>(), [1499, 1500]);
        assert!(log.after(1500).is_empty());
    }

    #[test]
    fn a_change_is_one_line_with_the_names_of_the_contract_and_the_age_of_the_old_state() {
        let mut log = EventLog::new("outer", Instant::ZERO);
        let lines = lines_of(|| {
            log.add(at(), change("perimeter/fw1", Some("down"), "up"), Instant::from_millis(700));
            let mut down = change("perimeter/fw1", Some("up"), "down");
            (down.reason, down.by) = (Some("5 probes in a row missed".into()), Some("root".into()));
            log.add(at(), down, Instant::from_millis(3200));
        });

        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[1].0,
            serde_json::json!({
                "at": "2026-01-02T03:04:05.678Z", "level": "warn", "message": "firewall perimeter/fw1: up -> down",
                "engine": "outer", "seq": 2, "kind": "firewall", "subject": "perimeter/fw1", "from": "up", "to": "down",
                "reason": "5 probes in a row missed", "by": "root", "lasted_ms": 2500,
            })
        );
        assert_eq!(
            lines[1].1,
            "2026-01-02T03:04:05.678Z  WARN firewall perimeter/fw1: up -> down engine=outer seq=2 \
             reason=\"5 probes in a row missed\" by=root lasted_ms=2500"
        );
        assert_eq!((&lines[0].0["level"], &lines[0].0["lasted_ms"]), (&"info".into(), &700.into()));
        assert_eq!(log.after(0).iter().map(|event| event.lasted_ms).collect::<Vec<_>>(), [Some(700), Some(2500)]);
    }

    #[test]
    fn what_a_reload_brought_is_as_old_as_the_reload_and_what_comes_back_begins_anew() {
        let mut log = EventLog::new("outer", Instant::ZERO);
        let (nobody, web) = (BTreeSet::new(), BTreeSet::from(["web".to_owned(), "web/s1".to_owned()]));
        let up = |log: &mut EventLog, subject: &str, now: u64| {
            log.add(at(), change(subject, Some("down"), "up"), Instant::from_millis(now));
            log.after(0).last().unwrap().lasted_ms.unwrap()
        };
        log.reloaded(&nobody, &web, Instant::from_millis(85_000));

        assert_eq!(up(&mut log, "web/s1", 88_000), 3_000);
        assert_eq!(up(&mut log, "web/s1 ipv6", 88_500), 3_500);
        assert_eq!(up(&mut log, "service_down web", 89_000), 4_000);
        assert_eq!(up(&mut log, "dns/s1", 90_000), 90_000, "it was there from the start");
        assert_eq!(up(&mut log, "web/s1", 91_000), 3_000, "since its last change");

        log.reloaded(&web, &nobody, Instant::from_millis(92_000));
        log.reloaded(&nobody, &web, Instant::from_millis(95_000));
        assert_eq!(up(&mut log, "web/s1", 96_000), 1_000);
    }

    #[test]
    fn a_flapping_farm_costs_some_lines_a_second_and_the_count_of_the_others_is_told() {
        let mut log = EventLog::new("outer", Instant::ZERO);
        let lines = lines_of(|| {
            for number in 0..10_000_u64 {
                let now = Instant::from_millis(number);
                log.add(at(), change(&format!("perimeter/fw{}", number % 50), Some("up"), "down"), now);
                log.tell_suppressed(now);
            }
            log.tell_suppressed(Instant::from_millis(10_000) + Duration::from_secs(1));
        });

        let told: u64 = lines.iter().filter_map(|(line, _)| line["suppressed"].as_u64()).sum();
        let changes = lines.iter().filter(|(line, _)| line["seq"].is_u64()).count();
        assert_eq!(told + changes as u64, 10_000, "every change is a line or counted in one");
        assert!((100..=400).contains(&lines.len()), "{} lines in 10 s", lines.len());
        assert_eq!(log.after(0).len(), 1000, "the events themselves are not limited");
    }
}
