//! The sessions of a firewall that fell, where `on-failure` is `reset`: found in bounded steps, told, ended. The other
//! policies need no search: each packet finds out for itself.
//!
//! A session is found by the sweep or by its next packet, whichever comes first. The end on this engine's near side is told
//! by a TCP reset; the far end is told by the engine on its side, never through a firewall, which would not know the session.

use std::net::IpAddr;

use crate::engine::forwarder::{Forwarder, flows};
use crate::engine::route::{NextHop, Target};
use crate::engine::{Snapshot, Transmit};
use crate::flow::{CanonicalKey, Direction};
use crate::path::OnFailure;
use crate::path::pinning::{Pin, PinState};
use crate::session::{EndReason, Session, State, Sweep};
use crate::wire::emit::Macs;
use crate::wire::offload::Offload;
use crate::wire::tcp;

/// What this worker knows of falls, and how far its search for their sessions is.
#[derive(Debug, Default)]
pub(super) struct Failures {
    epoch: u64,
    /// The falls of every slot of every path set, as last seen.
    falls: Vec<u32>,
    /// The search under way: where it is in this worker's slots.
    cursor: Option<usize>,
    /// Something fell behind the cursor.
    again: bool,
    /// What one step found: kept to be used again.
    ended: Vec<(CanonicalKey, Session, Direction)>,
}

impl Failures {
    /// Starts a search if a firewall of a group that resets fell since the last snapshot.
    fn notice(&mut self, snapshot: &Snapshot) {
        if snapshot.epoch == self.epoch {
            return;
        }
        self.epoch = snapshot.epoch;
        let falls = || {
            snapshot.path_sets.iter().flat_map(|set| {
                let resets = snapshot.groups[set.group.index()].on_failure == OnFailure::Reset;
                set.falls.iter().map(move |falls| if resets { *falls } else { 0 })
            })
        };
        if falls().eq(self.falls.iter().copied()) {
            return;
        }
        // Nothing can have fallen before the first snapshot.
        let is_first = self.falls.is_empty();
        self.falls.clear();
        self.falls.extend(falls());
        if is_first {
            return;
        }
        match self.cursor {
            Some(_) => self.again = true,
            None => self.cursor = Some(0),
        }
    }
}

impl Forwarder {
    /// Looks for sessions of failed firewalls in at most `budget` slots. True if there is more to look at.
    pub(super) fn sweep(&mut self, snapshot: &Snapshot, budget: usize) -> bool {
        self.failures.notice(snapshot);
        let Some(mut cursor) = self.failures.cursor else { return false };
        // Each session may need a reset, and each reset a place in the queue.
        let budget = budget.min(self.transmits_free());
        let mut ended = std::mem::take(&mut self.failures.ended);
        let is_done = self.sessions.sweep(&mut cursor, budget, |key, session, _| match failed_pin(session, snapshot) {
            Some(direction) => {
                ended.push((*key, *session, direction));
                Sweep::Remove
            }
            None => Sweep::Keep,
        });
        for (key, session, direction) in ended.drain(..) {
            self.counters.count_end(&session, EndReason::Failed);
            self.reset_near_end(&key, &session, direction, snapshot);
        }
        self.failures.ended = ended;
        self.failures.cursor = match (is_done, std::mem::take(&mut self.failures.again)) {
            (true, true) => Some(0),
            (true, false) => None,
            (false, again) => {
                self.failures.again = again;
                Some(cursor)
            }
        };
        self.failures.cursor.is_some()
    }

    /// Tells the end that sends packets in `direction` that its connection is gone, if it has one and is on the near side.
    pub(super) fn reset_near_end(
        &mut self,
        key: &CanonicalKey,
        session: &Session,
        direction: Direction,
        snapshot: &Snapshot,
    ) {
        let Some(reset) = reset(key, session, direction, snapshot) else { return };
        if self.transmit(reset) {
            self.counters.resets_sent += 1;
        }
    }
}

/// The direction of the packets that have to go through a firewall that fell, if the session is to be ended for it.
fn failed_pin(session: &Session, snapshot: &Snapshot) -> Option<Direction> {
    flows::pins_of(session).find(|(pin, _)| is_to_end(session, pin, snapshot)).map(|(_, direction)| direction)
}

fn is_to_end(session: &Session, pin: &Pin, snapshot: &Snapshot) -> bool {
    let set = &snapshot.path_sets[pin.set.index()];
    let group = &snapshot.groups[set.group.index()];
    if !pin.has_fallen(group, set) {
        return false;
    }
    match (group.on_failure, session.state) {
        // An attempt that was not answered is repeated by its sender, and then takes a live firewall.
        (OnFailure::Reset, State::Tcp(_)) => pin.state != PinState::Opening,
        (OnFailure::Reset, State::OneWay | State::TwoWay)
        | (OnFailure::Reselect | OnFailure::Keep | OnFailure::Drop, _) => false,
    }
}

/// The reset for the near end of a TCP session, whose packets go in `direction`.
fn reset(key: &CanonicalKey, session: &Session, direction: Direction, snapshot: &Snapshot) -> Option<Transmit> {
    match session.state {
        State::Tcp(_) => {}
        State::OneWay | State::TwoWay => return None,
    }
    let (sequence, acknowledgement) = match direction {
        Direction::LowToHigh => (session.next_to_low, session.next_to_high),
        Direction::HighToLow => (session.next_to_high, session.next_to_low),
    };
    let flow = key.oriented(direction.reversed());
    let hop = near_hop(flow.destination.address, snapshot)?;
    let link = &snapshot.links[hop.link.index()];
    let macs = Macs { source: link.mac, destination: snapshot.neighbor(hop.link, hop.address)? };
    let bytes = tcp::reset(macs, &flow.into(), sequence, Some(acknowledgement))?;
    Some(Transmit { link: hop.link, vlan: link.egress_tag(None), offload: Offload::NONE, bytes })
}

/// The way to an end of a flow, if no firewall is on it.
fn near_hop(end: IpAddr, snapshot: &Snapshot) -> Option<NextHop> {
    match snapshot.routes.lookup(end)? {
        Target::Connected(link) => Some(NextHop { link, address: end }),
        Target::Via(hop) => Some(hop),
        Target::Group { set: _, preferred: _, bypass: _ } => None,
    }
}
