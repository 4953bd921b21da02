//! Which way a packet takes, in the order of `docs/design.md`, section 1: session, learned, hash. Pure: what is to be remembered
//! comes back as a value, so that [`crate::engine::explain`] asks the same code and stores nothing.
//!
//! ```text
//!   arrived from firewall F                           arrived from the near side
//!     the way onward: session, else route               the way onward: session, else route
//!     into F's own group: a loop                        to a neighbour: an ordinary router
//!     the pin toward the source: learned from F         into a group: the pin toward the destination
//!     to a neighbour, or into another group
//! ```

use std::net::IpAddr;

use arrayvec::ArrayVec;

use crate::engine::route::{NextHop, Target};
use crate::engine::snapshot::Firewall;
use crate::engine::{DropReason, Snapshot};
use crate::flow::{Direction, FlowKey};
use crate::id::{FirewallId, GroupId, LinkId, PathSetId};
use crate::path::pinning::{self, Near, PacketKind, Pin, PinChange, View};
use crate::path::{BelowMin, Group, OnFailure, PathSet};
use crate::time::Instant;
use crate::wire::Family;
use crate::wire::frame::protocol;

/// Where a packet came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// From the side without firewalls.
    Near,
    /// From this firewall.
    Firewall(FirewallId),
}

/// A packet to be sent on, as the decision sees it. A translated packet leaves by another leg than it came by: whoever sent
/// it knows the one, whoever takes it knows the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transit {
    /// The flow as the packet shows it when it comes.
    pub coming: FlowKey,
    /// The flow as the packet shows it when it leaves.
    pub leaving: FlowKey,
    /// To whom it is routed: its destination, or the server that is given packets to a virtual address as they are.
    pub toward: IpAddr,
    /// Which way it goes between the ends of its session.
    pub direction: Direction,
    /// Where it came from.
    pub arrival: Arrival,
    /// What the pinning rules look at.
    pub kind: PacketKind,
}

impl Transit {
    /// A packet that leaves as it came.
    pub(crate) fn unchanged(flow: FlowKey, arrival: Arrival, kind: PacketKind) -> Self {
        let direction = flow.direction();
        Self { coming: flow, leaving: flow, toward: flow.destination.address, direction, arrival, kind }
    }

    /// A packet that answers this one.
    pub(crate) fn reversed(&self) -> Self {
        Self {
            coming: self.leaving.reversed(),
            leaving: self.coming.reversed(),
            toward: self.coming.source.address,
            direction: self.direction.reversed(),
            ..*self
        }
    }
}

/// The pins of a flow, seen from one of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pins {
    /// The firewall toward the end that the packet comes from.
    pub toward_source: Option<Pin>,
    /// The firewall toward the end that it goes to.
    pub toward_destination: Option<Pin>,
}

impl Pins {
    /// Those whose group is still there.
    fn in_force(self, snapshot: &Snapshot) -> Self {
        let there = |pin: &Pin| snapshot.has_firewalls(pin.set);
        Self {
            toward_source: self.toward_source.filter(there),
            toward_destination: self.toward_destination.filter(there),
        }
    }
}

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// To a neighbour.
    To {
        /// The neighbour.
        hop: NextHop,
        /// The firewall that it is.
        firewall: Option<FirewallId>,
    },
    /// Nowhere.
    Drop(DropReason),
    /// Nowhere, and the session ends: its firewall failed and `on-failure` says so.
    End,
}

/// What becomes of a packet and of the pins of its flow.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    /// Where the packet goes.
    pub course: Course,
    /// The pins after it.
    pub pins: Pins,
    /// Why they changed.
    pub changes: ArrayVec<PinChange, 2>,
    /// It came from another firewall than its pin.
    pub asymmetric: bool,
}

/// Decides one packet. `pins` are those of its session; none: the flow is unknown.
pub(crate) fn decide(transit: &Transit, pins: Pins, snapshot: &Snapshot, now: Instant) -> Decision {
    let pins = pins.in_force(snapshot);
    match transit.arrival {
        Arrival::Firewall(from) => from_firewall(transit, from, pins, snapshot, now),
        Arrival::Near => from_near(transit, pins, snapshot, now),
    }
}

/// A packet that a firewall let pass: the firewall holds the state, so whatever the rules do with the pin, the packet goes
/// on.
fn from_firewall(transit: &Transit, from: FirewallId, pins: Pins, snapshot: &Snapshot, now: Instant) -> Decision {
    let mut decision = Decision::new(pins);
    let group = snapshot.firewalls[from.index()].group;
    let onward = match onward(transit, pins.toward_destination.as_ref(), snapshot) {
        Ok(onward) => onward,
        Err(reason) => return decision.dropped(reason),
    };
    if onward.group(snapshot) == Some(group) {
        return decision.dropped(DropReason::GroupLoop);
    }
    decision.learn(transit, from, group, snapshot, now);
    decision.go(transit, onward, snapshot, now)
}

/// A packet from the side without firewalls.
fn from_near(transit: &Transit, pins: Pins, snapshot: &Snapshot, now: Instant) -> Decision {
    let decision = Decision::new(pins);
    match onward(transit, pins.toward_destination.as_ref(), snapshot) {
        Ok(onward) => decision.go(transit, onward, snapshot, now),
        Err(reason) => decision.dropped(reason),
    }
}

/// The way to a packet's destination.
#[derive(Debug, Clone, Copy)]
enum Onward {
    /// To a neighbour that is no firewall.
    Neighbor(NextHop),
    /// Through a group.
    Into(PathSetId),
}

impl Onward {
    fn group(self, snapshot: &Snapshot) -> Option<GroupId> {
        match self {
            Self::Neighbor(_) => None,
            Self::Into(set) => Some(snapshot.path_sets[set.index()].group),
        }
    }
}

/// A live session first, then the longest prefix.
fn onward(transit: &Transit, pin: Option<&Pin>, snapshot: &Snapshot) -> Result<Onward, DropReason> {
    if let Some(pin) = pin {
        return Ok(Onward::Into(pin.set));
    }
    let destination = transit.toward;
    match snapshot.routes.lookup(destination).ok_or(DropReason::NoRoute)? {
        Target::Connected(link) if is_broadcast(destination, link, snapshot) => Err(DropReason::Multicast),
        Target::Connected(link) => Ok(Onward::Neighbor(NextHop { link, address: destination })),
        Target::Via(hop) => Ok(Onward::Neighbor(hop)),
        Target::Group { set, preferred: _, bypass: _ } => Ok(Onward::Into(set)),
    }
}

/// A directed broadcast is never routed (RFC 2644).
pub(super) fn is_broadcast(destination: IpAddr, link: LinkId, snapshot: &Snapshot) -> bool {
    match destination {
        IpAddr::V4(address) => snapshot.links[link.index()].is_directed_broadcast(address),
        IpAddr::V6(_) => false,
    }
}

impl Decision {
    fn new(pins: Pins) -> Self {
        Self { course: Course::Drop(DropReason::NoRoute), pins, changes: ArrayVec::new(), asymmetric: false }
    }

    fn dropped(mut self, reason: DropReason) -> Self {
        self.course = Course::Drop(reason);
        self
    }

    fn to(mut self, hop: NextHop, firewall: Option<FirewallId>) -> Self {
        self.course = Course::To { hop, firewall };
        self
    }

    /// Moves or makes the pin toward the source, which `from` of `group` let pass.
    ///
    /// A flow whose pin lies in another group takes a firewall of this group only if the route back leads through it.
    fn learn(&mut self, transit: &Transit, from: FirewallId, group: GroupId, snapshot: &Snapshot, now: Instant) {
        let (pin, set) = match self.pins.toward_source {
            Some(pin) if set_of(pin.set, snapshot).group == group => {
                self.asymmetric = pin.firewall != from;
                if let Some(pin) = pinning::far_steady(&pin, from, transit.kind) {
                    self.pins.toward_source = Some(pin);
                    return;
                }
                (Some(pin), pin.set)
            }
            other => match (way_back(transit, group, snapshot), other) {
                (Some(set), Some(_) | None) => (None, set),
                (None, Some(_)) => return,
                (None, None) => match snapshot.every_peer(group, transit.coming.family()) {
                    Some(set) => (None, set),
                    None => return,
                },
            },
        };
        let view = view(transit, End::Source, set, None, snapshot);
        let (pin, change) = pinning::far(pin, from, transit.kind, &view, now);
        self.pins.toward_source = Some(pin);
        self.changes.extend(change);
    }

    /// Takes the way onward.
    fn go(self, transit: &Transit, onward: Onward, snapshot: &Snapshot, now: Instant) -> Self {
        match onward {
            Onward::Neighbor(hop) => self.to(hop, None),
            Onward::Into(set) => self.into_group(transit, set, snapshot, now),
        }
    }

    fn into_group(mut self, transit: &Transit, set_id: PathSetId, snapshot: &Snapshot, now: Instant) -> Self {
        let set = set_of(set_id, snapshot);
        let group = &snapshot.groups[set.group.index()];
        let is_tcp = transit.leaving.protocol == protocol::TCP;
        let steady = |pin: Pin| pinning::near_steady(&pin, transit.kind, is_tcp, group, set, now);
        if let Some(pin) = self.pins.toward_destination.and_then(steady) {
            self.pins.toward_destination = Some(pin);
            return self.by_firewall(pin.firewall, set.family, snapshot);
        }
        let (preferred, bypass) = wishes_of_the_route(transit, set.group, snapshot);
        let view = view(transit, End::Destination, set_id, preferred, snapshot);
        match pinning::near(self.pins.toward_destination, transit.kind, &view, now) {
            Near::Send { pin, change } => {
                self.pins.toward_destination = Some(pin);
                self.changes.extend(change);
                self.by_firewall(pin.firewall, set.family, snapshot)
            }
            Near::NoPath => self.without_path(group, set, bypass),
            Near::Failed => self.failed(group.on_failure),
        }
    }

    /// The pin's firewall fell and no other may take the flow. What `drop` says of a session holds until a SYN opens it anew or
    /// it has been idle for its time, so that session stays: forgotten at once, its next packet would take another firewall.
    fn failed(mut self, on_failure: OnFailure) -> Self {
        self.course = match on_failure {
            OnFailure::Reset => Course::End,
            OnFailure::Drop | OnFailure::Keep | OnFailure::Reselect => Course::Drop(DropReason::FirewallFailed),
        };
        self
    }

    fn by_firewall(self, firewall: FirewallId, family: Family, snapshot: &Snapshot) -> Self {
        let Firewall { link, .. } = snapshot.firewalls[firewall.index()];
        match snapshot.firewalls[firewall.index()].next_hop(family) {
            Some(address) => self.to(NextHop { link, address }, Some(firewall)),
            None => self.dropped(DropReason::NoPathUp),
        }
    }

    fn without_path(self, group: &Group, set: &PathSet, bypass: Option<NextHop>) -> Self {
        match (group.below_min, bypass) {
            (BelowMin::Bypass, Some(hop)) if set.below_min(group) => self.to(hop, None),
            (BelowMin::Bypass | BelowMin::Drop, _) if set.up == 0 => self.dropped(DropReason::NoPathUp),
            (BelowMin::Bypass | BelowMin::Drop, _) => self.dropped(DropReason::BelowMin),
        }
    }
}

fn set_of(set: PathSetId, snapshot: &Snapshot) -> &PathSet {
    &snapshot.path_sets[set.index()]
}

/// The set of the route back to the packet's source, if that route leads into `group`.
fn way_back(transit: &Transit, group: GroupId, snapshot: &Snapshot) -> Option<PathSetId> {
    match snapshot.routes.lookup(transit.coming.source.address)? {
        Target::Group { set, .. } => (set_of(set, snapshot).group == group).then_some(set),
        Target::Connected(_) | Target::Via(_) => None,
    }
}

/// The firewall that the route to the packet's destination prefers and its way round `group`, if it leads there.
fn wishes_of_the_route(
    transit: &Transit,
    group: GroupId,
    snapshot: &Snapshot,
) -> (Option<FirewallId>, Option<NextHop>) {
    match snapshot.routes.lookup(transit.toward) {
        Some(Target::Group { set, preferred, bypass }) if set_of(set, snapshot).group == group => (preferred, bypass),
        Some(Target::Group { .. } | Target::Connected(_) | Target::Via(_)) | None => (None, None),
    }
}

/// What the rules see of a flow whose packets go through `set`, the wishes of their route included.
pub(crate) fn view_toward_destination<'a>(transit: &Transit, set: PathSetId, snapshot: &'a Snapshot) -> View<'a> {
    let (preferred, _) = wishes_of_the_route(transit, set_of(set, snapshot).group, snapshot);
    view(transit, End::Destination, set, preferred, snapshot)
}

/// One end of a packet's flow.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Where the packet comes from.
    Source,
    /// Where it goes to.
    Destination,
}

/// What the rules see of a flow of which `end` is behind the group of `set`. The hash takes the flow as the near side sends
/// it to the firewalls, and who leads is told from that too: the engine on their other side sees nothing else of it.
fn view<'a>(
    transit: &Transit,
    end: End,
    set_id: PathSetId,
    preferred: Option<FirewallId>,
    snapshot: &'a Snapshot,
) -> View<'a> {
    let flow = match end {
        End::Destination => transit.leaving,
        End::Source => transit.coming.reversed(),
    };
    let direction = flow.direction();
    let set = set_of(set_id, snapshot);
    let group = &snapshot.groups[set.group.index()];
    View {
        group,
        set_id,
        set,
        hash: group.hasher.flow(&flow),
        preferred,
        tcp: flow.protocol == protocol::TCP,
        leader: pinning::leads(direction),
    }
}
