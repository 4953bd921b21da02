//! How a session ends: it is counted, reported to the session log, and its source port becomes free.

use crate::engine::forwarder::Forwarder;
use crate::engine::forwarder::services;
use crate::engine::forwarder::sources::SourcePorts;
use crate::engine::{Counters, SessionLedger, Snapshot};
use crate::flow::Direction;
use crate::path::AdminState;
use crate::session::{EndReason, Removed, Session, SessionId};
use crate::time::Instant;

impl Forwarder {
    /// Ends a session whose firewall in `direction` failed.
    pub(super) fn end_failed(&mut self, id: SessionId, direction: Direction, snapshot: &Snapshot, now: Instant) {
        if let Some(removed) = self.sessions.close(id) {
            self.account_end(&removed, firewall_end_reason(&removed.session, direction, snapshot), snapshot, now);
            self.reset_near_end(&removed, direction, snapshot);
        }
    }

    /// Ends idle sessions, and returns how many sessions it visited.
    pub(super) fn expire_sessions(&mut self, snapshot: &Snapshot, now: Instant, budget: usize) -> usize {
        let is_router = self.is_router();
        let Self { sessions, counters, sources, ledger, .. } = self;
        sessions.expire(now, budget, |ended, reason| {
            let reason = is_router.then_some(reason);
            report_end(ledger, ended, reason, snapshot, now);
            count_and_release(counters, sources, ended, reason, snapshot, now);
        })
    }

    /// Counts and reports the end of a session, and returns its source port.
    pub(super) fn account_end(&mut self, ended: &Removed, reason: EndReason, snapshot: &Snapshot, now: Instant) {
        let reason = self.is_router().then_some(reason);
        report_end(&mut self.ledger, ended, reason, snapshot, now);
        if let Some(reason) = reason {
            self.tell_end(ended, reason, snapshot, now);
        }
        count_and_release(&mut self.counters, &self.sources, ended, reason, snapshot, now);
    }

    /// True if the sessions of the table are those of this engine. Those of a node that forwards nothing go on at the
    /// active one, so that only what is remembered of them here can end.
    fn is_router(&self) -> bool {
        self.permission.refusal().is_none()
    }

    /// Counts and reports the end of a session that was removed to make room.
    pub(super) fn account_evicted(&mut self, evicted: Option<&Removed>, snapshot: &Snapshot, now: Instant) {
        if let Some(evicted) = evicted {
            self.account_end(evicted, EndReason::Evicted, snapshot, now);
        }
    }
}

/// The reason for the end of a session whose firewall in `direction` failed.
pub(super) fn firewall_end_reason(session: &Session, direction: Direction, snapshot: &Snapshot) -> EndReason {
    let mut session = *session;
    let firewall =
        session.pin_toward_destination(direction).and_then(|pin| snapshot.firewalls.get(pin.firewall.index()));
    match firewall.map(|firewall| firewall.admin) {
        Some(AdminState::Ready) => EndReason::FirewallDown,
        Some(AdminState::Drain) => EndReason::DrainTimeout,
        Some(AdminState::Maint) => EndReason::Maint,
        None => EndReason::Removed,
    }
}

/// Reports the end of a session to the session log. `reason` is `None` if it goes on at another node.
fn report_end(
    ledger: &mut Option<Box<dyn SessionLedger>>,
    ended: &Removed,
    reason: Option<EndReason>,
    snapshot: &Snapshot,
    now: Instant,
) {
    if let (Some(ledger), Some(reason)) = (ledger, reason) {
        ledger.session_ended(ended, reason, snapshot, now);
    }
}

/// Counts the end of a session, of which `reason` is `None` if it goes on at another node, and returns its source port.
fn count_and_release(
    counters: &mut Counters,
    sources: &SourcePorts,
    ended: &Removed,
    reason: Option<EndReason>,
    snapshot: &Snapshot,
    now: Instant,
) {
    match reason {
        Some(reason) => counters.count_end(&ended.session, reason),
        None => counters.count_copy_end(&ended.session),
    }
    let Some(placement) = &ended.placement else { return };
    if ended.session.is_active()
        && let Some((_, server)) = snapshot.services.server(placement.service, placement.server)
    {
        server.state.ended();
    }
    let outside = ended.key.in_direction(ended.session.original_direction);
    if let Some(inside) = placement.inside.filter(|inside| services::is_source_translated(inside, &outside)) {
        sources.release(inside.protocol, inside.source, inside.destination, outside.source.address, now);
    }
}
