//! Decides which way a packet takes, in the order session, learned, hash (`docs/pinning.md`, section 2). It stores
//! nothing: what is to be remembered is part of the result, so that [`crate::engine::explain`] can ask the same
//! functions.
//!
//! ```text
//!   arrived from firewall F                           arrived from the near side
//!     next: by session, else by route                   next: by session, else by route
//!     into F's own group: drop, it is a loop            to a neighbour: as a router
//!     pin toward the source: learned from F             into a group: by the pin toward the destination
//!     to a neighbour, or into another group
//! ```

use std::net::IpAddr;

use arrayvec::ArrayVec;

use crate::engine::route::{FibEntry, NextHop};
use crate::engine::{DropReason, Snapshot};
use crate::flow::{Direction, FlowKey};
use crate::id::{FirewallId, GroupId, LinkId, PathSetId};
use crate::path::pinning::{self, FailedFlow, NearDecision, PacketKind, Pin, PinChange, PinningView};
use crate::path::{BelowMin, FirewallGroup, PathSet};
use crate::time::Instant;
use crate::wire::Family;
use crate::wire::frame::protocol;

/// Where a packet came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// From a link without firewalls.
    Near,
    /// From this firewall.
    Firewall(FirewallId),
}

/// A packet that is to be forwarded, as the decision sees it. A translated packet has one flow when it is received and
/// another when it is sent: the sender knows the one, the receiver the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoutedFlow {
    /// The flow of the packet as it is received.
    pub ingress_flow: FlowKey,
    /// The flow of the packet as it is sent, which is another one if it is translated.
    pub egress_flow: FlowKey,
    /// The address that the route is looked up for: the destination, or the server that gets packets to a VIP without
    /// translation.
    pub route_to: IpAddr,
    /// The direction of the packet in its session.
    pub direction: Direction,
    /// Where the packet came from.
    pub arrival: Arrival,
    /// The kind of packet that the pinning rules distinguish.
    pub kind: PacketKind,
}

impl RoutedFlow {
    /// A packet that is sent as it is received.
    pub(crate) fn unchanged(flow: FlowKey, arrival: Arrival, kind: PacketKind) -> Self {
        let direction = flow.direction();
        Self { ingress_flow: flow, egress_flow: flow, route_to: flow.destination.address, direction, arrival, kind }
    }

    /// A packet in the opposite direction, such as an answer to this one.
    pub(crate) fn reversed(&self) -> Self {
        Self {
            ingress_flow: self.egress_flow.reversed(),
            egress_flow: self.ingress_flow.reversed(),
            route_to: self.ingress_flow.source.address,
            direction: self.direction.reversed(),
            ..*self
        }
    }
}

/// The pins of a session, as seen from one of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pins {
    /// The firewall toward the end that the packet comes from.
    pub toward_source: Option<Pin>,
    /// The firewall toward the end that the packet goes to.
    pub toward_destination: Option<Pin>,
}

impl Pins {
    /// The pins whose group has not been removed.
    fn in_force(self, snapshot: &Snapshot) -> Self {
        let is_in_force = |pin: &Pin| is_in_force(pin, snapshot);
        Self {
            toward_source: self.toward_source.filter(is_in_force),
            toward_destination: self.toward_destination.filter(is_in_force),
        }
    }
}

/// True unless the group of a pin has been removed.
#[inline]
pub(super) fn is_in_force(pin: &Pin, snapshot: &Snapshot) -> bool {
    snapshot.has_firewalls(pin.set)
}

/// Where a packet is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// To a neighbour.
    To {
        /// The neighbour.
        hop: NextHop,
        /// The firewall that the neighbour is; `None` if it is no firewall.
        firewall: Option<FirewallId>,
    },
    /// The packet is dropped.
    Drop(DropReason),
    /// The packet is dropped and its session ends, because its firewall failed and `on-failure` is `reset`.
    EndSession,
}

/// The decision about a packet, with its effects on the session of its flow.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    /// Where the packet is sent.
    pub next_step: NextStep,
    /// The pins after this packet.
    pub pins: Pins,
    /// Why the pins changed.
    pub changes: ArrayVec<PinChange, 2>,
    /// True if the packet came from another firewall than its pin says.
    pub asymmetric: bool,
}

/// Decides about one packet. `pins` are those of its session, and empty if there is none.
pub(crate) fn decide(routed: &RoutedFlow, pins: Pins, snapshot: &Snapshot, now: Instant) -> Decision {
    let pins = pins.in_force(snapshot);
    match routed.arrival {
        Arrival::Firewall(from) => from_firewall(routed, from, pins, snapshot, now),
        Arrival::Near => from_near(routed, pins, snapshot, now),
    }
}

/// A packet that a firewall has passed. The firewall has the state, so that the packet is forwarded whatever the rules
/// do with the pin.
fn from_firewall(routed: &RoutedFlow, from: FirewallId, pins: Pins, snapshot: &Snapshot, now: Instant) -> Decision {
    let mut decision = Decision::new(pins);
    let group = snapshot.firewalls[from.index()].group;
    let onward = match route_step(routed, pins.toward_destination.as_ref(), snapshot) {
        Ok(onward) => onward,
        Err(reason) => return decision.dropped(reason),
    };
    if onward.group(snapshot) == Some(group) {
        return decision.dropped(DropReason::GroupLoop);
    }
    decision.learn_pin(routed, from, group, snapshot, now);
    decision.follow(routed, onward, snapshot, now)
}

/// A packet from a link without firewalls.
fn from_near(routed: &RoutedFlow, pins: Pins, snapshot: &Snapshot, now: Instant) -> Decision {
    let decision = Decision::new(pins);
    match route_step(routed, pins.toward_destination.as_ref(), snapshot) {
        Ok(onward) => decision.follow(routed, onward, snapshot, now),
        Err(reason) => decision.dropped(reason),
    }
}

/// The next step toward a packet's destination.
#[derive(Debug, Clone, Copy)]
pub(super) enum RouteStep {
    /// To a neighbour that is no firewall.
    Neighbor(NextHop),
    /// Through the firewalls of a group.
    ThroughGroup(PathSetId),
}

impl RouteStep {
    fn group(self, snapshot: &Snapshot) -> Option<GroupId> {
        match self {
            Self::Neighbor(_) => None,
            Self::ThroughGroup(set) => Some(snapshot.path_sets[set.index()].group),
        }
    }
}

/// The next step by the pin of a live session, else by the longest prefix.
fn route_step(routed: &RoutedFlow, pin: Option<&Pin>, snapshot: &Snapshot) -> Result<RouteStep, DropReason> {
    if let Some(pin) = pin {
        return Ok(RouteStep::ThroughGroup(pin.set));
    }
    routed_step(routed.route_to, snapshot)
}

/// The next step by the longest prefix.
#[inline]
pub(super) fn routed_step(destination: IpAddr, snapshot: &Snapshot) -> Result<RouteStep, DropReason> {
    match snapshot.routes.lookup(destination).ok_or(DropReason::NoRoute)? {
        FibEntry::Connected(link) if is_broadcast(destination, link, snapshot) => Err(DropReason::Multicast),
        FibEntry::Connected(link) => Ok(RouteStep::Neighbor(NextHop { link, address: destination })),
        FibEntry::Via(hop) => Ok(RouteStep::Neighbor(hop)),
        FibEntry::Group { set, preferred: _, bypass: _ } => Ok(RouteStep::ThroughGroup(set)),
    }
}

/// True for a directed broadcast, which is never routed (RFC 2644).
fn is_broadcast(destination: IpAddr, link: LinkId, snapshot: &Snapshot) -> bool {
    match destination {
        IpAddr::V4(address) => snapshot.links[link.index()].is_directed_broadcast(address),
        IpAddr::V6(_) => false,
    }
}

impl Decision {
    fn new(pins: Pins) -> Self {
        Self { next_step: NextStep::Drop(DropReason::NoRoute), pins, changes: ArrayVec::new(), asymmetric: false }
    }

    fn dropped(mut self, reason: DropReason) -> Self {
        self.next_step = NextStep::Drop(reason);
        self
    }

    fn to(mut self, hop: NextHop, firewall: Option<FirewallId>) -> Self {
        self.next_step = NextStep::To { hop, firewall };
        self
    }

    /// Makes or moves the pin toward the source: the packet came from firewall `from` of `group`.
    ///
    /// A flow that is pinned in another group is pinned in this group only if the route back leads through it.
    fn learn_pin(&mut self, routed: &RoutedFlow, from: FirewallId, group: GroupId, snapshot: &Snapshot, now: Instant) {
        if let Some(pin) = self.pins.toward_source.and_then(|pin| far_steady(&pin, from, routed.kind, snapshot)) {
            self.pins.toward_source = Some(pin);
            return;
        }
        let (pin, set) = match self.pins.toward_source {
            Some(pin) if set_of(pin.set, snapshot).group == group => {
                self.asymmetric = pin.firewall != from;
                (Some(pin), pin.set)
            }
            other => match (return_path_set(routed, group, snapshot), other) {
                (Some(set), Some(_) | None) => (None, set),
                (None, Some(_)) => return,
                (None, None) => match snapshot.all_peers_path_set(group, routed.ingress_flow.family()) {
                    Some(set) => (None, set),
                    None => return,
                },
            },
        };
        let view = pinning_view(routed, FlowEnd::Source, set, None, snapshot);
        let (pin, change) = pinning::decide_far(pin, from, routed.kind, &view, now);
        self.pins.toward_source = Some(pin);
        self.changes.extend(change);
    }

    /// Sends the packet the way that was found.
    fn follow(self, routed: &RoutedFlow, onward: RouteStep, snapshot: &Snapshot, now: Instant) -> Self {
        match onward {
            RouteStep::Neighbor(hop) => self.to(hop, None),
            RouteStep::ThroughGroup(set) => self.into_group(routed, set, snapshot, now),
        }
    }

    fn into_group(mut self, routed: &RoutedFlow, set_id: PathSetId, snapshot: &Snapshot, now: Instant) -> Self {
        let set = set_of(set_id, snapshot);
        let group = &snapshot.groups[set.group.index()];
        let is_tcp = routed.egress_flow.protocol == protocol::TCP;
        let steady = |pin: Pin| pinning::decide_near_steady(&pin, routed.kind, is_tcp, group, set, now);
        if let Some(pin) = self.pins.toward_destination.and_then(steady) {
            self.pins.toward_destination = Some(pin);
            return self.with_firewall(pin.firewall, set.family, snapshot);
        }
        let (preferred, bypass) = route_preferences(routed, set.group, snapshot);
        let view = pinning_view(routed, FlowEnd::Destination, set_id, preferred, snapshot);
        match pinning::decide_near(self.pins.toward_destination, routed.kind, &view, now) {
            NearDecision::Send { pin, change } => {
                self.pins.toward_destination = Some(pin);
                self.changes.extend(change);
                self.with_firewall(pin.firewall, set.family, snapshot)
            }
            NearDecision::NoPath => self.without_path(group, set, bypass),
            NearDecision::Failed(FailedFlow::Reset) => Self { next_step: NextStep::EndSession, ..self },
            NearDecision::Failed(FailedFlow::Drop) => self.dropped(DropReason::FirewallFailed),
        }
    }

    fn with_firewall(self, firewall: FirewallId, family: Family, snapshot: &Snapshot) -> Self {
        match firewall_hop(firewall, family, snapshot) {
            Some(hop) => self.to(hop, Some(firewall)),
            None => self.dropped(DropReason::NoPathUp),
        }
    }

    fn without_path(self, group: &FirewallGroup, set: &PathSet, bypass: Option<NextHop>) -> Self {
        match (group.below_min, bypass) {
            (BelowMin::Bypass, Some(hop)) if set.below_min(group) => self.to(hop, None),
            (BelowMin::Bypass | BelowMin::Drop, _) if set.up != 0 && set.below_min(group) => {
                self.dropped(DropReason::BelowMin)
            }
            (BelowMin::Bypass | BelowMin::Drop, _) => self.dropped(DropReason::NoPathUp),
        }
    }
}

/// The next hop to a firewall; `None` if it has no address of the family.
#[inline]
pub(super) fn firewall_hop(firewall: FirewallId, family: Family, snapshot: &Snapshot) -> Option<NextHop> {
    let firewall = &snapshot.firewalls[firewall.index()];
    Some(NextHop { link: firewall.link, address: firewall.next_hop(family)? })
}

fn set_of(set: PathSetId, snapshot: &Snapshot) -> &PathSet {
    &snapshot.path_sets[set.index()]
}

/// The pin toward the source after a packet that only confirms it; `None` if the pinning rules have to decide.
#[inline]
pub(super) fn far_steady(pin: &Pin, from: FirewallId, kind: PacketKind, snapshot: &Snapshot) -> Option<Pin> {
    let is_in_its_group = set_of(pin.set, snapshot).group == snapshot.firewalls[from.index()].group;
    is_in_its_group.then(|| pinning::decide_far_steady(pin, from, kind)).flatten()
}

/// The path set of the route back to the packet's source, if that route leads through `group`.
fn return_path_set(routed: &RoutedFlow, group: GroupId, snapshot: &Snapshot) -> Option<PathSetId> {
    match snapshot.routes.lookup(routed.ingress_flow.source.address)? {
        FibEntry::Group { set, .. } => (set_of(set, snapshot).group == group).then_some(set),
        FibEntry::Connected(_) | FibEntry::Via(_) => None,
    }
}

/// The firewall that the route to the packet's destination prefers, and its bypass of `group`, if that route leads
/// through it.
fn route_preferences(
    routed: &RoutedFlow,
    group: GroupId,
    snapshot: &Snapshot,
) -> (Option<FirewallId>, Option<NextHop>) {
    match snapshot.routes.lookup(routed.route_to) {
        Some(FibEntry::Group { set, preferred, bypass }) if set_of(set, snapshot).group == group => (preferred, bypass),
        Some(FibEntry::Group { .. } | FibEntry::Connected(_) | FibEntry::Via(_)) | None => (None, None),
    }
}

/// What the pinning rules need to know about a flow whose packets go through `set`, including the firewall that the
/// route prefers.
pub(crate) fn view_toward_destination<'a>(
    routed: &RoutedFlow,
    set: PathSetId,
    snapshot: &'a Snapshot,
) -> PinningView<'a> {
    let (preferred, _) = route_preferences(routed, set_of(set, snapshot).group, snapshot);
    pinning_view(routed, FlowEnd::Destination, set, preferred, snapshot)
}

/// An end of a packet's flow.
#[derive(Debug, Clone, Copy)]
enum FlowEnd {
    /// The end that the packet comes from.
    Source,
    /// The end that it goes to.
    Destination,
}

/// What the pinning rules need to know about a flow of which `end` is behind the group of `set`. Hash and leader are
/// computed from the flow as it is between this engine and the firewalls, because the engine on their other side sees
/// no other.
fn pinning_view<'a>(
    routed: &RoutedFlow,
    end: FlowEnd,
    set_id: PathSetId,
    preferred: Option<FirewallId>,
    snapshot: &'a Snapshot,
) -> PinningView<'a> {
    let flow = match end {
        FlowEnd::Destination => routed.egress_flow,
        FlowEnd::Source => routed.ingress_flow.reversed(),
    };
    let direction = flow.direction();
    let set = set_of(set_id, snapshot);
    let group = &snapshot.groups[set.group.index()];
    PinningView {
        group,
        set_id,
        set,
        hash: group.hasher.flow_hash(&flow),
        preferred,
        tcp: flow.protocol == protocol::TCP,
        leader: pinning::leads(direction),
    }
}
