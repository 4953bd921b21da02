//! Detects firewalls that answer probes but lose the replies of sessions, as when a route is missing on one of them.
//!
//! Probes go between addresses of the engines, sessions between clients and servers: what a firewall does with the
//! former says nothing about the latter. So it is counted how many new sessions of each firewall have a reply through
//! it. A firewall is reported if its sessions have none while those of the other firewalls of its group do. Nothing is
//! concluded where there is nothing to compare with: sessions to a dead server, or of a flood, have no reply through
//! any firewall.

use super::super::outbox::Outbox;
use super::Paths;
use crate::engine::Counters;
use crate::engine::change::{Alarm, Subject};
use crate::engine::view::AlarmKind;
use crate::id::FirewallId;
use crate::path::liveness::FirewallState;
use crate::time::{Duration, Instant};

/// Sessions are compared that began within this time.
const COMPARISON_WINDOW: Duration = Duration::from_secs(60);
/// The number of replies that must be missing. By chance alone that happens once in e^20 windows.
const EXPECTED_MIN: f64 = 20.0;
/// The alarm is raised where less than this part of the expected replies came,
const RAISE_BELOW: f64 = 0.05;
/// and cleared where more than this part came, and at least `CLEAR_MIN` replies.
const CLEAR_ABOVE: f64 = 0.25;
const CLEAR_MIN: u64 = 5;

/// The counts when the window began.
#[derive(Debug, Clone, Default)]
pub(super) struct Returns {
    since: Option<Instant>,
    /// By firewall.
    begin: Vec<SessionCounts>,
}

/// The sessions of a firewall.
#[derive(Debug, Clone, Copy, Default)]
struct SessionCounts {
    new: u64,
    answered: u64,
}

impl SessionCounts {
    fn of(counters: &Counters, id: usize) -> Self {
        let firewall = counters.firewalls.get(id).copied().unwrap_or_default();
        Self { new: firewall.new_sessions, answered: firewall.answered_sessions }
    }

    /// What was counted since `begin`; nothing where a reload gave the id to another firewall.
    fn since(self, begin: Self) -> Self {
        Self { new: self.new.saturating_sub(begin.new), answered: self.answered.saturating_sub(begin.answered) }
    }

    fn and(self, other: Self) -> Self {
        Self { new: self.new + other.new, answered: self.answered + other.answered }
    }
}

impl Paths {
    /// Checks whether sessions have replies through every firewall that is up, and raises or clears the alarm `one_way`
    /// of each. `counters` are those of all workers. It is to be called about once a second.
    pub(in super::super) fn watch_returns(&mut self, counters: &Counters, now: Instant, out: &mut Outbox) {
        let all = (0..self.config.firewalls.len()).map(|id| SessionCounts::of(counters, id));
        let since = *self.returns.since.get_or_insert(now);
        let begin = &self.returns.begin;
        let passed: Vec<SessionCounts> =
            all.clone().enumerate().map(|(id, one)| one.since(begin.get(id).copied().unwrap_or(one))).collect();
        if begin.is_empty() || now.since(since) >= COMPARISON_WINDOW {
            (self.returns.begin, self.returns.since) = (all.collect(), Some(now));
        }
        for id in self.config.firewall_ids().collect::<Vec<_>>() {
            self.compare(id, &passed, now.since(since), now, out);
        }
    }

    fn compare(&self, id: FirewallId, passed: &[SessionCounts], within: Duration, now: Instant, out: &mut Outbox) {
        let own = passed[id.index()];
        let group = &self.config.groups[self.config.firewalls[id.index()].group.index()];
        let others = group.firewalls.iter().filter(|other| **other != id).map(|other| passed[other.index()]);
        let others = others.fold(SessionCounts::default(), SessionCounts::and);
        let expected = match others.new {
            0 => 0.0,
            new => own.new as f64 * others.answered as f64 / new as f64,
        };
        let alarm = Alarm { kind: AlarmKind::OneWay, subject: Subject::firewall(&self.config, id) };
        let state = self.liveness.firewall(id).map(|status| status.state);
        let takes_sessions = matches!(state, Some(FirewallState::Up | FirewallState::Degraded));
        if !takes_sessions || (own.answered >= CLEAR_MIN && own.answered as f64 >= expected * CLEAR_ABOVE) {
            out.clear_alarm(&alarm, now);
        } else if expected >= EXPECTED_MIN && (own.answered as f64) < expected * RAISE_BELOW {
            let reason = format!(
                "it answers probes, but in {} s {} of {} new sessions were answered through it, and {} of {} through the others: see \
                 its routes and rules for clients and servers",
                within.as_secs(),
                own.answered,
                own.new,
                others.answered,
                others.new
            );
            out.raise_alarm(alarm, reason, now);
        }
    }
}
