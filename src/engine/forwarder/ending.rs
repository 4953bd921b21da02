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
            self.settle(&removed, end_reason(&removed.session, direction, snapshot), snapshot, now);
            self.reset_near_end(&removed, direction, snapshot);
        }
    }

    /// Ends idle sessions, and returns how many sessions it visited.
    pub(super) fn expire_sessions(&mut self, snapshot: &Snapshot, now: Instant, budget: usize) -> usize {
        let Self { sessions, counters, sources, ledger, .. } = self;
        sessions.expire(now, budget, |ended, reason| {
            tell(ledger, ended, reason, snapshot, now);
            settle(counters, sources, ended, reason, snapshot, now);
        })
    }

    /// Counts and reports the end of a session, and returns its source port.
    pub(super) fn settle(&mut self, ended: &Removed, reason: EndReason, snapshot: &Snapshot, now: Instant) {
        tell(&mut self.ledger, ended, reason, snapshot, now);
        settle(&mut self.counters, &self.sources, ended, reason, snapshot, now);
    }

    /// Counts and reports the end of a session that was removed to make room.
    pub(super) fn settle_evicted(&mut self, evicted: Option<&Removed>, snapshot: &Snapshot, now: Instant) {
        if let Some(evicted) = evicted {
            self.settle(evicted, EndReason::Evicted, snapshot, now);
        }
    }
}

/// The reason for the end of a session whose firewall in `direction` failed.
pub(super) fn end_reason(session: &Session, direction: Direction, snapshot: &Snapshot) -> EndReason {
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

fn tell(
    ledger: &mut Option<Box<dyn SessionLedger>>,
    ended: &Removed,
    reason: EndReason,
    snapshot: &Snapshot,
    now: Instant,
) {
    if let Some(ledger) = ledger {
        ledger.ended(ended, reason, snapshot, now);
    }
}

fn settle(
    counters: &mut Counters,
    sources: &SourcePorts,
    ended: &Removed,
    reason: EndReason,
    snapshot: &Snapshot,
    now: Instant,
) {
    counters.count_end(&ended.session, reason);
    let Some(bound) = &ended.bound else { return };
    if ended.session.is_active()
        && let Some((_, server)) = snapshot.services.server(bound.service, bound.server)
    {
        server.state.ended();
    }
    let outside = ended.key.oriented(ended.session.opened);
    if let Some(inside) = bound.inside.filter(|inside| services::stands_for_client(inside, &outside)) {
        sources.release(inside.protocol, inside.source, inside.destination, outside.source.address, now);
    }
}
