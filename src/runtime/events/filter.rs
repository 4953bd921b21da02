//! Selects events by an operator's filter.

use std::collections::BTreeSet;
use std::time::SystemTime;

use crate::api::{ApiError, EventFilter, EventTime};
use crate::engine::view::{EventKind, EventView};

/// A filter, resolved for one request.
#[derive(Debug)]
pub(super) struct ResolvedFilter<'a> {
    filter: &'a EventFilter,
    after: u64,
    since: Option<SystemTime>,
}

/// Fails for a kind that does not exist, to tell it from a kind without events. Kinds that were `seen` exist.
pub(super) fn check_kinds<'a>(asked: &[String], seen: impl Iterator<Item = &'a str>) -> Result<(), ApiError> {
    if asked.is_empty() {
        return Ok(());
    }
    let known: BTreeSet<&str> = EventKind::NAMES.into_iter().chain(seen).collect();
    match asked.iter().find(|kind| !known.contains(kind.as_str())) {
        None => Ok(()),
        Some(kind) => {
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            Err(ApiError::BadRequest(format!("no kind of event is called {kind:?}; there are {known}")))
        }
    }
}

impl<'a> ResolvedFilter<'a> {
    /// Resolves a filter at `now`, for a log whose last event has the number `last`.
    pub(super) fn new(filter: &'a EventFilter, last: u64, now: SystemTime) -> Self {
        let since = filter.since.map(|since| match since {
            EventTime::Ago(ago) => now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH),
            EventTime::At(at) => at,
        });
        Self { filter, after: if filter.after > last { 0 } else { filter.after }, since }
    }

    /// Whether the filter selects this event.
    pub(super) fn matches(&self, event: &EventView) -> bool {
        let EventFilter { kinds, subject, .. } = self.filter;
        let at = || humantime::parse_rfc3339(&event.at).ok();
        event.seq > self.after
            && (kinds.is_empty() || kinds.iter().any(|kind| kind == event.kind.name()))
            && subject.as_deref().is_none_or(|subject| is_about(&event.subject, subject))
            && self.since.is_none_or(|since| at().is_some_and(|at| at >= since))
    }
}

/// Whether `subject` is `name`, has it as a word (`perimeter/fw1 to inner ipv4`, `server web/s1`), or as a part of a
/// word (`fw1`, `perimeter`).
fn is_about(subject: &str, name: &str) -> bool {
    let is_word = |word: &str| word == name || word.split('/').any(|part| part == name);
    subject == name || subject.split(' ').any(is_word)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_subject_is_found_by_its_name_its_group_and_wherever_it_is_named() {
        for (subject, name) in [
            ("perimeter/fw1", "fw1"),
            ("perimeter/fw1", "perimeter/fw1"),
            ("perimeter/fw1", "perimeter"),
            ("perimeter/fw1 to inner ipv4", "fw1"),
            ("server web/s1", "web/s1"),
            ("below_min perimeter ipv4", "perimeter"),
            ("server web/s1", "server web/s1"),
        ] {
            assert!(is_about(subject, name), "{subject} {name}");
        }
        assert!(!is_about("perimeter/fw10", "fw1") && !is_about("perimeter/fw1", "fw") && !is_about("web/s1", ""));
    }

    #[test]
    fn every_part_of_a_filter_has_to_match() {
        let at = humantime::parse_rfc3339("2026-11-21T11:00:00Z").unwrap();
        let event = EventView {
            seq: 7,
            at: "2026-11-21T11:00:00.678Z".to_owned(),
            kind: EventKind::Admin.into(),
            subject: "perimeter/fw1".to_owned(),
            from: None,
            to: None,
            reason: None,
            by: None,
            lasted_ms: None,
        };
        let takes = |filter: EventFilter| ResolvedFilter::new(&filter, 9, at + Duration::from_secs(60)).matches(&event);
        let any = EventFilter::default;
        assert!(takes(any()));
        assert!(takes(EventFilter { after: 6, ..any() }) && !takes(EventFilter { after: 7, ..any() }));
        assert!(takes(EventFilter { after: 10, ..any() }), "a number of another start");
        let kinds =
            |kinds: &[&str]| EventFilter { kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(), ..any() };
        assert!(takes(kinds(&["server", "admin"])) && !takes(kinds(&["server"])));
        let since = |since| EventFilter { since: Some(since), ..any() };
        assert!(takes(since(EventTime::At(at))) && !takes(since(EventTime::At(at + Duration::from_secs(1)))));
        assert!(
            takes(since(EventTime::Ago(Duration::from_secs(60))))
                && !takes(since(EventTime::Ago(Duration::from_secs(59))))
        );
        assert!(takes(since(EventTime::Ago(Duration::MAX))), "longer ago than there is time");
        assert!(!takes(EventFilter { subject: Some("fw2".to_owned()), ..any() }));
    }

    #[test]
    fn a_kind_that_there_is_not_is_told_from_one_of_which_nothing_happened() {
        let check = |kind: &str| check_kinds(&[kind.to_owned()], ["of-later"].into_iter());
        assert!(
            check("server").is_ok()
                && check("neighbor").is_ok()
                && check("of-later").is_ok()
                && check_kinds(&[], [].into_iter()).is_ok()
        );
        let refusal = check("servers").unwrap_err().to_string();
        assert!(refusal.contains("\"servers\"; there are admin, alarm"), "{refusal}");
    }
}
