//! Records for passive checks ([`crate::slb::observe`]) how servers answer the connections that they are given.

use crate::engine::Snapshot;
use crate::flow::{CanonicalKey, Direction};
use crate::session::{ConversationState, Placement, Session, TcpState};
use crate::wire::Family;

/// Records how the server of a connection that had no answer so far responds in a packet that goes in `direction`.
pub(super) fn record_response(
    bound: &Placement,
    session: &Session,
    direction: Direction,
    family: Family,
    snapshot: &Snapshot,
) {
    if direction == session.original_direction {
        return;
    }
    let Some((_, server)) = snapshot.services.server(bound.service, bound.server) else { return };
    if session.state == ConversationState::Tcp(TcpState::Closing) {
        server.state.observed(family).record_refused();
    } else if !session.is_unanswered() {
        server.state.observed(family).record_answered();
    }
}

/// True if the server of a session keeps serving but takes no new sessions, because connections of clients to it
/// failed.
pub(super) fn is_avoided(bound: &Placement, key: &CanonicalKey, snapshot: &Snapshot) -> bool {
    let found = snapshot.services.server(bound.service, bound.server);
    found.is_some_and(|(_, server)| !server.is_up(key.family()))
}
