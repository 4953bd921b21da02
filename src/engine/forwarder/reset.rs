//! Ends the sessions of a failed firewall or server where `on-failure` is `reset`: they are searched in bounded steps,
//! removed, and their ends get TCP resets. The other policies need no search, because each packet finds out for itself.
//!
//! A session is found by the search or by its next packet, whichever comes first. When a firewall fails, this engine
//! resets the end on its near side. The engine on the far side resets the other end, as no reset goes through a
//! firewall, which would not know the session. When a server fails, the engine whose service chose it resets both ends,
//! each through the firewall that its packets take. If replies do not pass the engine (`direct`, `tunnel`), only the
//! client is reset: the sequence number that it expects is what it acknowledged last. The server is not reached by a
//! plain packet, should it still live.

use std::cell::Cell;
use std::net::IpAddr;

use crate::engine::forwarder::services::{self, ServerLiveness};
use crate::engine::forwarder::{Forwarder, decide, ending, flows};
use crate::engine::route::{FibEntry, NextHop};
use crate::engine::shared_role::Permission;
use crate::engine::{Snapshot, Transmit};
use crate::flow::{CanonicalKey, Direction, FlowKey};
use crate::path::OnFailure;
use crate::path::pinning::{Pin, PinState};
use crate::session::{ConversationState, Placement, ProtocolClass, Removed, Session, Sweep, TcpState};
use crate::time::Instant;
use crate::wire::Family;
use crate::wire::emit::MacPair;
use crate::wire::offload::Offload;
use crate::wire::tcp;

/// The failures that this worker has seen, and the progress of its search for their sessions.
#[derive(Debug, Default)]
pub(super) struct FailureSweep {
    epoch: u64,
    generation: u64,
    /// How often every member of every path set, and every server, had failed in the last snapshot.
    failure_counts: Vec<u32>,
    /// The next slot of this worker's part of the table; `None` while there is no search.
    cursor: Option<usize>,
    /// There was another failure during the search, so that it must be repeated from the start.
    repeats: bool,
    /// Sessions that one step ended; kept so that it need not be allocated again.
    ended: Vec<(Removed, FailureCause)>,
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailureCause {
    /// The firewall for packets in this direction failed.
    Firewall(Direction),
    /// Its server failed.
    Server,
}

impl FailureSweep {
    /// Starts a search if a firewall or server whose sessions are to be reset failed since the last snapshot.
    fn start_if_failed(&mut self, snapshot: &Snapshot) {
        if snapshot.epoch == self.epoch {
            return;
        }
        self.epoch = snapshot.epoch;
        let firewalls = || {
            snapshot.path_sets.iter().flat_map(|set| {
                let resets = snapshot.groups[set.group.index()].on_failure == OnFailure::Reset;
                set.failure_counts.iter().map(move |falls| if resets { *falls } else { 0 })
            })
        };
        let servers = || {
            snapshot.services.all().iter().flat_map(|service| {
                let resets = service.on_failure == OnFailure::Reset;
                let falls = service.servers.iter().flat_map(|server| server.failure_counts);
                falls.map(move |falls| if resets { falls } else { 0 })
            })
        };
        let falls = || firewalls().chain(servers());
        // After a reload the counts cannot be compared, because what failed may have been removed.
        let is_other = std::mem::replace(&mut self.generation, snapshot.generation) != snapshot.generation;
        if !is_other && falls().eq(self.failure_counts.iter().copied()) {
            return;
        }
        // The first snapshot only gives the counts to compare with.
        let is_first = self.failure_counts.is_empty() && !is_other;
        self.failure_counts.clear();
        self.failure_counts.extend(falls());
        if is_first {
            return;
        }
        match self.cursor {
            Some(_) => self.repeats = true,
            None => self.cursor = Some(0),
        }
    }
}

impl Forwarder {
    /// Searches at most `budget` slots for sessions of failed firewalls and servers. True if there is more to do.
    pub(super) fn sweep(&mut self, snapshot: &Snapshot, now: Instant, budget: usize) -> bool {
        self.counters.reset_reused_ids(snapshot.generation, &snapshot.reused_ids);
        // What fails in the view of a node that is not active ends no session; it is searched for when it becomes active.
        if self.permission != Permission::Router {
            self.failure_sweep.cursor = Some(0);
            return false;
        }
        self.failure_sweep.start_if_failed(snapshot);
        let Some(mut cursor) = self.failure_sweep.cursor else { return false };
        // A session may need a reset to both ends, and each reset a place in the queue of frames to send.
        let budget = budget.min(self.transmits_free() / 2);
        let mut ended = std::mem::take(&mut self.failure_sweep.ended);
        let found = Cell::new(None);
        let is_done = self.sessions.sweep(
            &mut cursor,
            budget,
            |key, session, bound| {
                found.set(failure_cause(key, session, bound, snapshot));
                if found.get().is_some() { Sweep::Remove } else { Sweep::Keep }
            },
            |removed| ended.extend(found.get().map(|cause| (removed, cause))),
        );
        for (removed, cause) in ended.drain(..) {
            let reason = match cause {
                FailureCause::Firewall(direction) => ending::firewall_end_reason(&removed.session, direction, snapshot),
                FailureCause::Server => services::server_end_reason(removed.placement.as_ref(), snapshot),
            };
            self.account_end(&removed, reason, snapshot, now);
            match cause {
                FailureCause::Firewall(direction) => self.reset_near_end(&removed, direction, snapshot),
                FailureCause::Server => self.reset_both_ends(&removed, snapshot),
            }
        }
        self.failure_sweep.ended = ended;
        self.failure_sweep.cursor = match (is_done, std::mem::take(&mut self.failure_sweep.repeats)) {
            (true, true) => Some(0),
            (true, false) => None,
            (false, again) => {
                self.failure_sweep.repeats = again;
                Some(cursor)
            }
        };
        self.failure_sweep.cursor.is_some()
    }

    /// Resets the end that sends packets in `direction`, if it is on the near side and the session is a TCP connection.
    pub(super) fn reset_near_end(&mut self, ended: &Removed, direction: Direction, snapshot: &Snapshot) {
        let flow = egress_flow(ended, direction.reversed());
        let hop = near_hop(flow.destination.address, snapshot);
        self.send_reset(ended, direction.reversed(), hop, snapshot);
    }

    /// Resets both ends of a session of a service; only the client if replies do not pass the engine.
    pub(super) fn reset_both_ends(&mut self, ended: &Removed, snapshot: &Snapshot) {
        let Some(bound) = &ended.placement else { return };
        let to_client = ended.session.original_direction.reversed();
        let directions = [to_client, ended.session.original_direction];
        let told = if bound.inside.is_some() { 2 } else { 1 };
        for direction in directions.into_iter().take(told) {
            let flow = egress_flow(ended, direction);
            let mut session = ended.session;
            let hop = match session.pin_toward_destination(direction) {
                Some(pin) => pinned_hop(pin, flow.family(), snapshot),
                None => near_hop(flow.destination.address, snapshot),
            };
            self.send_reset(ended, direction, hop, snapshot);
        }
    }

    /// Sends a reset in `direction` to `hop`.
    fn send_reset(&mut self, ended: &Removed, direction: Direction, hop: Option<NextHop>, snapshot: &Snapshot) {
        let may_send = self.permission == Permission::Router;
        let reset = hop.filter(|_| may_send).and_then(|hop| build_reset(ended, direction, hop, snapshot));
        if self.tracer.is_on() {
            self.tracer.session_ended(ended);
        }
        if reset.is_some_and(|reset| self.transmit(reset)) {
            self.counters.resets_sent += 1;
        }
        self.tracer.end_frame();
    }
}

/// True if the failure of its firewall or server ends a session, whose ends then get a TCP reset.
pub(in crate::engine) fn ends_by_failure(
    key: &CanonicalKey,
    session: &Session,
    bound: Option<&Placement>,
    snapshot: &Snapshot,
) -> bool {
    failure_cause(key, session, bound, snapshot).is_some()
}

/// Why a session must end; `None` if it stays.
fn failure_cause(
    key: &CanonicalKey,
    session: &Session,
    bound: Option<&Placement>,
    snapshot: &Snapshot,
) -> Option<FailureCause> {
    // The client repeats an unanswered connection attempt, which then gets a live server. A reset could be overtaken by
    // that: firewalls would take the SYN/ACK of the new server for half a connection, as they have seen the reset.
    let of_its_server = bound.filter(|_| !session.is_unanswered()).is_some_and(|bound| {
        let liveness = services::server_liveness(bound, key, session.class, snapshot);
        liveness == ServerLiveness::Failed(OnFailure::Reset)
    });
    if of_its_server {
        return Some(FailureCause::Server);
    }
    let failed = flows::pins_of(session).find(|(pin, _)| must_end(session, pin, snapshot));
    failed.map(|(_, direction)| FailureCause::Firewall(direction))
}

fn must_end(session: &Session, pin: &Pin, snapshot: &Snapshot) -> bool {
    let set = &snapshot.path_sets[pin.set.index()];
    let group = &snapshot.groups[set.group.index()];
    if !pin.has_failed(group, set) {
        return false;
    }
    match group.on_failure.for_flow(session.class == ProtocolClass::Tcp) {
        // An unanswered connection attempt is repeated by its client, and then takes a live firewall.
        OnFailure::Reset => pin.state != PinState::Opening,
        OnFailure::Reselect | OnFailure::Keep | OnFailure::Drop => false,
    }
}

/// The flow of packets in `direction` as their receiver sees it.
fn egress_flow(ended: &Removed, direction: Direction) -> FlowKey {
    let inside = ended.placement.and_then(|bound| bound.inside);
    match inside {
        Some(inside) if direction == ended.session.original_direction => inside,
        Some(_) | None => ended.key.in_direction(direction),
    }
}

/// A TCP reset for a session in `direction`; `None` if there is nothing to reset.
fn build_reset(ended: &Removed, direction: Direction, hop: NextHop, snapshot: &Snapshot) -> Option<Transmit> {
    let session = &ended.session;
    match session.state {
        ConversationState::Tcp(TcpState::Opening | TcpState::Established) => {}
        // Both ends closed the connection, and a firewall may have forgotten it: the reset would be out of state there.
        ConversationState::Tcp(TcpState::Closing) | ConversationState::OneWay | ConversationState::TwoWay => {
            return None;
        }
    }
    // Of a session that another engine opened the numbers are learned from its packets.
    if session.state == ConversationState::Tcp(TcpState::Established) && !session.knows_next(direction) {
        return None;
    }
    let (sequence, acknowledgement) = match direction {
        Direction::LowToHigh => (session.next_to_high, session.next_to_low),
        Direction::HighToLow => (session.next_to_low, session.next_to_high),
    };
    let link = &snapshot.links[hop.link.index()];
    let flow = egress_flow(ended, direction);
    let source = link.source_mac(flow.family(), Permission::Router);
    let macs = MacPair { source, destination: snapshot.neighbor(hop.link, hop.address)? };
    let bytes = tcp::reset(macs, &flow.into(), sequence, Some(acknowledgement))?;
    Some(Transmit { link: hop.link, vlan: link.egress_tag(None), offload: Offload::NONE, bytes })
}

/// The next hop through the firewall of a pin, if that is up.
fn pinned_hop(pin: &Pin, family: Family, snapshot: &Snapshot) -> Option<NextHop> {
    let set = &snapshot.path_sets[pin.set.index()];
    if !pin.is_up(&snapshot.groups[set.group.index()], set) {
        return None;
    }
    decide::firewall_hop(pin.firewall, family, snapshot)
}

/// The next hop to an end of a flow, if it does not lead through a group.
pub(super) fn near_hop(end: IpAddr, snapshot: &Snapshot) -> Option<NextHop> {
    match snapshot.routes.lookup(end)? {
        FibEntry::Connected(link) => Some(NextHop { link, address: end }),
        FibEntry::Via(hop) => Some(hop),
        FibEntry::Group { set: _, preferred: _, bypass: _ } => None,
    }
}
