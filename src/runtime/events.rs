//! The event log: state changes, numbered and dated, and the log lines about them.
//!
//! What operators and configurations changed is kept apart from what happened by itself, so that a flapping farm does
//! not push it out. It is also kept on disk: the question of who drained a firewall yesterday has an answer after a
//! restart too.

mod archive;
mod filter;
mod limit;
mod text;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::SystemTime;

use crate::api::{ApiError, EventFilter};
use crate::engine::change::{StateChange, Subject};
use crate::engine::view::{CheckLogView, EventKind, EventView};
use crate::time::{Duration, Instant};

use super::logging::CHANGE_TARGET;
pub(super) use archive::{Archive, load};
use limit::{LineLimiter, LineVerdict};

/// Events that are remembered in memory, of each of the two sorts.
const EVENTS_MAX: usize = 1000;
/// Subjects whose last change is remembered; a farm has fewer. The events of any further subject lack the age of its
/// old state.
const SUBJECTS_MAX: usize = 100_000;
/// The event numbers of a start begin at a multiple of this which no earlier start has reached; events that were not
/// kept had numbers too.
const SEQ_BLOCK: u64 = 1_000_000;

/// The events of one engine.
#[derive(Debug)]
pub(super) struct EventLog {
    engine: String,
    started: Instant,
    last_seq: u64,
    /// What happened by itself.
    events: VecDeque<EventView>,
    /// What somebody did, in earlier starts too.
    kept: VecDeque<EventView>,
    archive: Option<Archive>,
    /// When each kind and subject changed last.
    last_changes: HashMap<(EventKind, Subject), Instant>,
    /// When a reload added a declaration. All others are as old as the engine.
    added_at: BTreeMap<Subject, Instant>,
    limiter: LineLimiter,
}

impl EventLog {
    /// The log of an engine that starts at `now`.
    pub(super) fn new(engine: &str, now: Instant) -> Self {
        Self {
            engine: engine.to_owned(),
            started: now,
            last_seq: 0,
            events: VecDeque::new(),
            kept: VecDeque::new(),
            archive: None,
            last_changes: HashMap::new(),
            added_at: BTreeMap::new(),
            limiter: LineLimiter::default(),
        }
    }

    /// Continues with the events that earlier starts kept, and keeps new ones in the same archive.
    pub(super) fn restore(&mut self, earlier: Vec<EventView>, archive: Archive) {
        if let Some(last) = earlier.iter().map(|event| event.seq).max() {
            self.last_seq = self.last_seq.max(last.saturating_add(SEQ_BLOCK) / SEQ_BLOCK * SEQ_BLOCK);
        }
        self.kept.extend(earlier);
        let excess = self.kept.len().saturating_sub(EVENTS_MAX);
        self.kept.drain(..excess);
        self.archive = Some(archive);
    }

    /// Numbers, dates, remembers and logs a change.
    pub(super) fn add(&mut self, at: String, change: StateChange, now: Instant) {
        self.last_seq += 1;
        let lasted = self.lasted(&change, now);
        let kind = change.kind;
        let event = StateChange { lasted: change.lasted.or(lasted), ..change }.view(self.last_seq, at);
        if self.may_log(kind.name(), now) {
            log(&self.engine, &event);
        }
        // What somebody caused is kept apart and on disk.
        let is_kept = kind.is_caused_by_somebody();
        if let Some(archive) = self.archive.as_ref().filter(|_| is_kept) {
            archive.append(&event);
        }
        let ring = if is_kept { &mut self.kept } else { &mut self.events };
        if ring.len() == EVENTS_MAX {
            ring.pop_front();
        }
        ring.push_back(event);
    }

    /// The events that match the filter, in order of their numbers; `now` is wall-clock time.
    pub(super) fn select(&self, filter: &EventFilter, now: SystemTime) -> Result<Vec<EventView>, ApiError> {
        let all = self.kept.iter().chain(&self.events);
        filter::check_kinds(&filter.kinds, all.clone().map(|event| event.kind.name()))?;
        let choice = filter::ResolvedFilter::new(filter, self.last_seq, now);
        let mut chosen: Vec<&EventView> = all.filter(|event| choice.matches(event)).collect();
        chosen.sort_by_key(|event| event.seq);
        let excess = filter.limit.map_or(0, |limit| chosen.len().saturating_sub(limit));
        Ok(chosen.into_iter().skip(excess).cloned().collect())
    }

    /// How many events were written to disk, and how many were lost.
    pub(super) fn archived(&self) -> (u64, u64) {
        self.archive.as_ref().map_or((0, 0), Archive::counts)
    }

    /// Closes the archive. Whoever waits for the returned one sees the last events on disk.
    pub(super) fn close(&mut self) -> Option<Archive> {
        self.archive.take()
    }

    /// Logs the result of a health check.
    pub(super) fn checked(&mut self, checked: &CheckLogView, now: Instant) {
        if !self.may_log("result", now) {
            return;
        }
        let (engine, kind) = (self.engine.as_str(), "check");
        let CheckLogView { subject, reason, rtt_us, .. } = checked;
        let (result, state) = (checked.result.name(), checked.state.name());
        let (reason, message) = (reason.as_deref(), text::checked(subject, result, reason.as_deref()));
        tracing::info!(target: CHANGE_TARGET, engine, kind, subject, result, state, reason, rtt_us, "{message}");
    }

    /// Logs how many lines were held back, where that is due. To be called periodically, because a flood may end with
    /// silence.
    pub(super) fn log_suppressed(&mut self, now: Instant) {
        for (kind, suppressed) in self.limiter.due(now) {
            log_suppressed(&self.engine, &kind, suppressed);
        }
    }

    fn may_log(&mut self, kind: &str, now: Instant) -> bool {
        match self.limiter.admit(kind, now) {
            LineVerdict::Line { suppressed: 0 } => true,
            LineVerdict::Line { suppressed } => {
                log_suppressed(&self.engine, kind, suppressed);
                true
            }
            LineVerdict::Suppressed => false,
        }
    }

    /// Notes that a reload removed the declarations `gone` from the configuration and added the declarations `new`.
    pub(super) fn reloaded(&mut self, gone: &BTreeSet<Subject>, new: &BTreeSet<Subject>, now: Instant) {
        let is_gone = |subject: &Subject| subject.declarations().iter().any(|declared| gone.contains(declared));
        self.added_at.retain(|declared, _| !gone.contains(declared));
        self.last_changes.retain(|(_, subject), _| !is_gone(subject));
        let room = SUBJECTS_MAX.saturating_sub(self.added_at.len());
        self.added_at.extend(new.iter().take(room).map(|declared| (declared.clone(), now)));
    }

    /// How long the subject's old state lasted. Without an earlier change, it is as old as the youngest declaration that
    /// the subject is part of, or as the engine.
    fn lasted(&mut self, change: &StateChange, now: Instant) -> Option<Duration> {
        change.from.as_ref()?;
        let key = (change.kind, change.subject.clone());
        if self.last_changes.len() >= SUBJECTS_MAX && !self.last_changes.contains_key(&key) {
            return None;
        }
        let born = || change.subject.declarations().iter().filter_map(|one| self.added_at.get(one)).max().copied();
        let before = self.last_changes.get(&key).copied().or_else(born).unwrap_or(self.started);
        self.last_changes.insert(key, now);
        Some(now.since(before))
    }
}

/// Logs one line for a change. It is a warning if something is lost or wrong.
fn log(engine: &str, event: &EventView) {
    let EventView { seq, at: _, kind, subject, from, to, reason, by, lasted_ms } = event;
    let kind = kind.name();
    let (from, to, reason, by) = (from.as_deref(), to.as_deref(), reason.as_deref(), by.as_deref());
    let message = text::change(event);
    let bad = matches!(to, Some("down" | "lost" | "degraded" | "raised" | "refused"));
    if bad {
        tracing::warn!(target: CHANGE_TARGET, engine, seq, kind, subject, from, to, reason, by, lasted_ms, "{message}");
    } else {
        tracing::info!(target: CHANGE_TARGET, engine, seq, kind, subject, from, to, reason, by, lasted_ms, "{message}");
    }
}

fn log_suppressed(engine: &str, kind: &str, suppressed: u64) {
    tracing::warn!(
        engine,
        kind,
        suppressed,
        "lines held back: too many of a kind at once; `fwlb show events` has the last"
    );
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::engine::change::Alarm;
    use crate::engine::view::AlarmKind;
    use crate::runtime::logging::tests::lines_of;
    use crate::wire::Family;

    fn firewall(name: &str) -> Subject {
        Subject::Firewall { group: "perimeter".to_owned(), firewall: name.to_owned() }
    }

    fn change(firewall_name: &str, from: Option<&'static str>, to: &'static str) -> StateChange {
        let change = StateChange::to(EventKind::Firewall, firewall(firewall_name), to);
        StateChange { from: from.map(Cow::Borrowed), ..change }
    }

    fn after(log: &EventLog, after: u64) -> Vec<EventView> {
        log.select(&EventFilter::after(after), SystemTime::UNIX_EPOCH).unwrap()
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

        let all = after(&log, 0);
        assert_eq!((all.len(), all[0].seq, all[0].subject.as_str()), (1000, 501, "perimeter/500"));
        assert_eq!(all[0].at, at());
        assert_eq!(after(&log, 1498).iter().map(|event| event.seq).collect::<Vec<_>>(), [1499, 1500]);
        assert!(after(&log, 1500).is_empty());
        assert_eq!(after(&log, 1501).len(), 1000, "whoever knows more knows another start of the engine");
    }

    #[test]
    fn what_was_done_is_kept_beside_a_flood_of_what_happened() {
        let mut log = EventLog::new("outer", Instant::ZERO);
        let done = StateChange { kind: EventKind::Admin, ..change("fw1", Some("ready"), "drain") };
        log.add(at(), done, Instant::ZERO);
        for _ in 0..5000 {
            log.add(at(), change("fw2", Some("up"), "down"), Instant::ZERO);
        }

        let all = after(&log, 0);
        assert_eq!((all.len(), all[0].seq, all[0].kind.name(), all[1].seq), (1001, 1, "admin", 4002));
    }

    #[test]
    fn numbers_of_a_later_start_are_larger_than_all_of_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let mut log = EventLog::new("outer", Instant::ZERO);
        let kept = StateChange { kind: EventKind::Admin, ..change("fw1", None, "drain") }.view(1_234_567, at());
        log.restore(vec![kept], Archive::open("outer", &path).unwrap());
        log.add(at(), change("fw1", Some("up"), "drain"), Instant::ZERO);

        assert_eq!(after(&log, 0).iter().map(|event| event.seq).collect::<Vec<_>>(), [1_234_567, 2_000_001]);
    }

    #[test]
    fn a_change_is_one_line_with_the_names_of_the_contract_and_the_age_of_the_old_state() {
        let mut log = EventLog::new("outer", Instant::ZERO);
        let lines = lines_of(|| {
            log.add(at(), change("fw1", Some("down"), "up"), Instant::from_millis(700));
            let mut down = change("fw1", Some("up"), "down");
            (down.reason, down.by) = (Some("5 probes in a row missed".into()), Some("root".into()));
            log.add(at(), down, Instant::from_millis(3200));
        });

        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[1].0,
            serde_json::json!({
                "at": "2026-01-02T03:04:05.678Z", "level": "warn",
                "message": "firewall perimeter/fw1: up -> down after 2.5s by root: 5 probes in a row missed",
                "engine": "outer", "seq": 2, "kind": "firewall", "subject": "perimeter/fw1", "from": "up", "to": "down",
                "reason": "5 probes in a row missed", "by": "root", "lasted_ms": 2500,
            })
        );
        assert_eq!(
            lines[1].1,
            "2026-01-02T03:04:05.678Z  WARN firewall perimeter/fw1: up -> down after 2.5s by root: 5 probes in a row missed \
             engine=outer seq=2"
        );
        assert_eq!((&lines[0].0["level"], &lines[0].0["lasted_ms"]), (&"info".into(), &700.into()));
        assert_eq!(after(&log, 0).iter().map(|event| event.lasted_ms).collect::<Vec<_>>(), [Some(700), Some(2500)]);
    }

    #[test]
    fn what_a_reload_brought_is_as_old_as_the_reload_and_what_comes_back_begins_anew() {
        let mut log = EventLog::new("outer", Instant::ZERO);
        let service = || Subject::Service("web".to_owned());
        let server = |of: &str| Subject::Server { service: of.to_owned(), server: "s1".to_owned() };
        let family = Family::V6;
        let ipv6 = Subject::ServerFamily { service: "web".to_owned(), server: "s1".to_owned(), family };
        let alarm = Alarm { kind: AlarmKind::ServiceDown, subject: service() };
        let (nobody, web) = (BTreeSet::new(), BTreeSet::from([service(), server("web")]));
        let up = |log: &mut EventLog, subject: Subject, now: u64| {
            let change = StateChange::to(EventKind::Server, subject, "up").from("down");
            log.add(at(), change, Instant::from_millis(now));
            after(log, 0).last().unwrap().lasted_ms.unwrap()
        };
        log.reloaded(&nobody, &web, Instant::from_millis(85_000));

        assert_eq!(up(&mut log, server("web"), 88_000), 3_000);
        assert_eq!(up(&mut log, ipv6, 88_500), 3_500);
        assert_eq!(up(&mut log, Subject::Alarm(Box::new(alarm)), 89_000), 4_000);
        assert_eq!(up(&mut log, server("dns"), 90_000), 90_000, "it was there from the start");
        assert_eq!(up(&mut log, server("web"), 91_000), 3_000, "since its last change");

        log.reloaded(&web, &nobody, Instant::from_millis(92_000));
        log.reloaded(&nobody, &web, Instant::from_millis(95_000));
        assert_eq!(up(&mut log, server("web"), 96_000), 1_000);
    }

    #[test]
    fn a_flapping_farm_costs_some_lines_a_second_and_the_count_of_the_others_is_told() {
        let mut log = EventLog::new("outer", Instant::ZERO);
        let lines = lines_of(|| {
            for number in 0..10_000_u64 {
                let now = Instant::from_millis(number);
                log.add(at(), change(&format!("fw{}", number % 50), Some("up"), "down"), now);
                log.log_suppressed(now);
            }
            log.log_suppressed(Instant::from_millis(10_000) + Duration::from_secs(1));
        });

        let told: u64 = lines.iter().filter_map(|(line, _)| line["suppressed"].as_u64()).sum();
        let changes = lines.iter().filter(|(line, _)| line["seq"].is_u64()).count();
        assert_eq!(told + changes as u64, 10_000, "every change is a line or counted in one");
        assert!((100..=400).contains(&lines.len()), "{} lines in 10 s", lines.len());
        assert_eq!(after(&log, 0).len(), 1000, "the events themselves are not limited");
    }
}
