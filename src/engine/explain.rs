//! Explains where a flow goes and why.
//!
//! Nothing is decided here: [`explain`] calls the functions of [`crate::engine::forwarder`] that decide about packets,
//! and puts their results into words.

mod builder;
mod pins;
#[cfg(test)]
mod tests;
mod what_if;

use crate::engine::forwarder::{
    self, Addressee, Arrival, Pins, RoutedFlow, ServiceAction, classify_addresses, decide, view_toward_destination,
};
use crate::engine::route::{FibEntry, NextHop};
use crate::engine::view::{DecidedBy, ExplainView};
use crate::engine::{DropReason, Snapshot};
use crate::flow::{CanonicalKey, Endpoint, FlowKey};
use crate::id::{FirewallId, LinkId, ServerId, ServiceId};
use crate::path::pinning::{self, PacketKind};
use crate::session::{Placement, Session, SessionTable};
use crate::time::Instant;
use crate::wire::frame::protocol;

use builder::ExplanationBuilder;
use what_if::what_if;

/// Where the first or next packet of a flow arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrivalPoint {
    /// On a link without firewalls.
    Link(LinkId),
    /// From a firewall.
    Firewall(FirewallId),
}

/// Explains what the forwarder would do with a packet of `flow` at the time `now`. Nothing is stored or counted.
/// Without `from` the packet is taken to arrive where its source is routed; behind a group that is from the firewall of
/// the live session, else from the one that the hash gives.
pub fn explain(
    engine: &str,
    snapshot: &Snapshot,
    sessions: &SessionTable,
    flow: &FlowKey,
    from: Option<ArrivalPoint>,
    now: Instant,
) -> ExplainView {
    let told = explain_once(engine, snapshot, sessions, flow, from, now);
    ExplainView { what_if: what_if(&told, snapshot, sessions, flow, from, now), ..told.view }
}

/// An explanation, with what the flow takes.
struct Explanation {
    view: ExplainView,
    chosen: ChosenMembers,
}

#[derive(Debug, Clone, Copy, Default)]
struct ChosenMembers {
    /// The firewall that the flow takes.
    firewall: Option<FirewallId>,
    /// That firewall is on the side that the packet comes from.
    is_on_source_side: bool,
    server: Option<(ServiceId, ServerId)>,
}

fn explain_once(
    engine: &str,
    snapshot: &Snapshot,
    sessions: &SessionTable,
    flow: &FlowKey,
    from: Option<ArrivalPoint>,
    now: Instant,
) -> Explanation {
    let known = live_session(sessions, flow);
    // The first packet of a TCP connection is a SYN; the next packet of a live one is not.
    let kind = if flow.protocol == protocol::TCP && known.is_none() { PacketKind::Syn } else { PacketKind::Other };

    let mut teller = ExplanationBuilder::new(engine, snapshot, flow);
    let Some((mut routed, mut action)) = session_flow(flow, known.as_ref(), kind, snapshot) else {
        teller.add_sentence("To the server it would look like a packet of another session.");
        return teller.finish_dropped(DropReason::NatClash);
    };
    let pins = known.as_ref().map_or_else(Pins::default, |known| Pins::of(&known.session, routed.direction));
    let origin = from.or_else(|| expected_arrival(&routed, pins, snapshot));
    routed.arrival = match teller.arrival(origin) {
        Ok(arrival) => arrival,
        Err(reason) => return teller.finish_dropped(reason),
    };
    let addressee = match classify_addresses(flow, snapshot) {
        Err(reason) => return teller.finish_dropped(reason),
        Ok(addressee) => addressee,
    };
    if let Some(reason) = snapshot.permission(now).refusal() {
        if forwarder::is_to_own_address(addressee, flow.destination.address, snapshot) {
            return teller.finish_local(flow.destination.address, addressee);
        }
        teller.not_active(reason);
    }
    if action.is_none() && addressee != Addressee::Other {
        let Endpoint { address, port } = flow.destination;
        let Some(service) = snapshot.services.find(address, flow.protocol, port) else {
            return teller.finish_local(address, addressee);
        };
        if known.is_none()
            && let Err(reason) = teller.check_source_limits(flow, sessions, now)
        {
            return teller.finish_dropped(reason);
        }
        let placed = match teller.choose_server(service, flow, routed.arrival, now) {
            Ok(placed) => placed,
            Err(reason) => return teller.finish_dropped(reason),
        };
        (routed, action) = (placed.0, Some(placed.1));
    }
    teller.session(known.as_ref().map(|known| &known.session), &sessions.timeouts(), pins, now);
    if let Err(reason) = teller.server_of_session(known.as_ref()) {
        return teller.finish_dropped(reason);
    }
    teller.service_action(&routed, action.as_ref());
    teller.translated_port(&routed, action.as_ref(), known.is_some(), sessions);
    teller.route(routed.route_to);
    let decision = decide(&routed, pins, snapshot, now);
    if known.is_none()
        && action.is_none()
        && let Err(reason) = teller.check_stray_reply(&routed)
    {
        return teller.finish_dropped(reason);
    }
    let is_remembered = decision.pins != Pins::default() || forwarder::has_service_endpoint(flow, snapshot);
    if known.is_none()
        && action.is_none()
        && is_remembered
        && let Err(reason) = teller.check_source_limits(flow, sessions, now)
    {
        return teller.finish_dropped(reason);
    }
    teller.candidates(&routed, &decision);
    teller.decision(&routed, pins, &decision, known.is_some());
    if action.is_some() && teller.view.drop.is_none() {
        match known {
            None => teller.view.decided_by = DecidedBy::Service.into(),
            // Without a firewall on the way, the server of the session is what was decided.
            Some(_) if teller.view.firewall.is_none() => teller.view.decided_by = DecidedBy::Session.into(),
            Some(_) => {}
        }
    }
    teller.finish()
}

/// The live session of a flow.
struct ExplainedSession {
    key: CanonicalKey,
    session: Session,
    bound: Option<Placement>,
}

fn live_session(sessions: &SessionTable, flow: &FlowKey) -> Option<ExplainedSession> {
    let (key, direction) = flow.canonical();
    let id = sessions.find_by_direction(&key, direction)?;
    sessions.update_with_placement(id, |key, session, bound| ExplainedSession {
        key: *key,
        session: *session,
        bound: bound.copied(),
    })
}

/// The packet as the decision sees it, by its session. `None` if it belongs to another flow with the same addresses and
/// ports.
fn session_flow(
    flow: &FlowKey,
    known: Option<&ExplainedSession>,
    kind: PacketKind,
    snapshot: &Snapshot,
) -> Option<(RoutedFlow, Option<ServiceAction>)> {
    let bound = known.and_then(|known| Some((&known.key, &known.session, known.bound.as_ref()?)));
    let Some((key, session, bound)) = bound else {
        return Some((RoutedFlow::unchanged(*flow, Arrival::Near, kind), None));
    };
    let (routed, action) =
        forwarder::routed_flow(*flow, key, session.original_direction, bound, Arrival::Near, kind, snapshot)?;
    Some((routed, Some(action)))
}

/// Where a packet of the flow arrives, by its pin or by the route to its source.
fn expected_arrival(routed: &RoutedFlow, pins: Pins, snapshot: &Snapshot) -> Option<ArrivalPoint> {
    if let Some(pin) = pins.toward_source {
        return Some(ArrivalPoint::Firewall(pin.firewall));
    }
    match snapshot.routes.lookup(routed.ingress_flow.source.address)? {
        FibEntry::Connected(link) | FibEntry::Via(NextHop { link, address: _ }) => Some(ArrivalPoint::Link(link)),
        FibEntry::Group { set, preferred: _, bypass: _ } => {
            pinning::best(&view_toward_destination(&routed.reversed(), set, snapshot)).map(ArrivalPoint::Firewall)
        }
    }
}

/// Where a packet of the flow arrives that came from the firewall `gone`, when that does not pass it any more.
fn expected_arrival_without(flow: &FlowKey, after: &Snapshot, gone: FirewallId) -> Option<ArrivalPoint> {
    let firewall = &after.firewalls[gone.index()];
    let back = RoutedFlow::unchanged(*flow, Arrival::Near, PacketKind::Other).reversed();
    let set = match after.routes.lookup(flow.source.address) {
        Some(FibEntry::Group { set, preferred: _, bypass: _ }) => Some(set),
        Some(FibEntry::Connected(_) | FibEntry::Via(_)) | None => {
            after.all_peers_path_set(firewall.group, flow.family())
        }
    }?;
    pinning::best(&view_toward_destination(&back, set, after)).map(ArrivalPoint::Firewall)
}
