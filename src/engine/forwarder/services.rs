//! What a virtual service makes of a packet: whose server has it, which way it goes, what it looks like on the other side.
//! Pure, as `decide`: [`crate::engine::explain`] asks the same code.

use crate::engine::Snapshot;
use crate::engine::forwarder::decide::{Arrival, Transit};
use crate::flow::{CanonicalKey, Direction, Endpoint, FlowKey};
use crate::id::{ServerId, ServiceId};
use crate::nat::ports::PORT_MIN;
use crate::nat::{Translation, Way};
use crate::path::OnFailure;
use crate::path::pinning::PacketKind;
use crate::session::{Bound, Class, EndReason};
use crate::slb::{self, Mode, Retired, Scheduler, Service};
use crate::wire::Family;
use crate::wire::frame::protocol;

/// What a service adds to the way of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passage {
    /// The server of its session.
    pub server: ServerId,
    /// Which way it goes.
    pub way: Way,
    /// Both legs, if it is translated.
    pub translation: Option<Translation>,
    /// The tunnel that it goes into, if it does.
    pub tunnel: Option<Carriage>,
}

/// A tunnel to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carriage {
    /// Whose server.
    pub service: ServiceId,
    /// The server that unpacks.
    pub server: ServerId,
}

/// Whether the server of a session serves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It never fell since it took the session, or is up again.
    Serves,
    /// It fell; this is to be done with its sessions.
    Fell(OnFailure),
}

/// A packet of a session, `opened` this way, that a service placed at a server, and what becomes of it on its way; `None` if it
/// is a packet of another flow that looks like one of this.
pub(crate) fn transit(
    flow: FlowKey,
    key: &CanonicalKey,
    opened: Direction,
    bound: &Bound,
    arrival: Arrival,
    kind: PacketKind,
    snapshot: &Snapshot,
) -> Option<(Transit, Passage)> {
    let outside = key.oriented(opened);
    let way = match bound.inside {
        _ if flow == outside => Way::Inward,
        Some(inside) if flow == inside.reversed() => Way::Outward,
        // The reply of a server whose default gateway is this engine.
        None if flow == outside.reversed() => Way::Outward,
        Some(_) | None => return None,
    };
    Some(placed(flow, outside, bound, way, arrival, kind, snapshot))
}

/// The first packet of a flow that a service is about to place at a server.
pub(crate) fn first_transit(
    outside: FlowKey,
    bound: &Bound,
    arrival: Arrival,
    kind: PacketKind,
    snapshot: &Snapshot,
) -> (Transit, Passage) {
    placed(outside, outside, bound, Way::Inward, arrival, kind, snapshot)
}

fn placed(
    flow: FlowKey,
    outside: FlowKey,
    bound: &Bound,
    way: Way,
    arrival: Arrival,
    kind: PacketKind,
    snapshot: &Snapshot,
) -> (Transit, Passage) {
    let translation = bound.translation(outside);
    let leaving = translation.map_or(flow, |translation| translation.leaving(way));
    let at_server = match (translation, way) {
        (None, Way::Inward) => snapshot.services.server(bound.service, bound.server),
        (Some(_), Way::Inward | Way::Outward) | (None, Way::Outward) => None,
    };
    let tunnel = at_server.filter(|(service, _)| service.mode == Mode::Tunnel);
    let tunnel = tunnel.map(|_| Carriage { service: bound.service, server: bound.server });
    let address = at_server.and_then(|(_, server)| server.address(flow.family()));
    let toward = match (translation, way) {
        (None, Way::Inward) => address.unwrap_or(leaving.destination.address),
        (Some(_), Way::Inward | Way::Outward) | (None, Way::Outward) => leaving.destination.address,
    };
    let inward = outside.direction();
    let direction = match way {
        Way::Inward => inward,
        Way::Outward => inward.reversed(),
    };
    let transit = Transit { coming: flow, leaving, toward, direction, arrival, kind };
    (transit, Passage { server: bound.server, way, translation, tunnel })
}

/// Whether the server of a session of `class` serves on. One that left the configuration has fallen.
pub(crate) fn standing(bound: &Bound, key: &CanonicalKey, class: Class, snapshot: &Snapshot) -> Standing {
    let Some((service, server)) = snapshot.services.server(bound.service, bound.server) else {
        return Standing::Fell(OnFailure::Reset);
    };
    let family = key.family();
    if server.is_up(family) || server.falls[slb::family_index(family)] == bound.fall {
        return Standing::Serves;
    }
    let on_failure = match class {
        Class::Tcp => service.on_failure_tcp,
        Class::Udp | Class::Icmp | Class::Other => service.on_failure_udp,
    };
    Standing::Fell(match on_failure {
        // Nobody can keep what was removed.
        OnFailure::Keep if server.is_removed => OnFailure::Reselect,
        OnFailure::Keep | OnFailure::Drop | OnFailure::Reselect | OnFailure::Reset => on_failure,
    })
}

/// True if the source of the inside leg is an address of the engine's own with a port of its pools. Another port of the client's
/// own address is of no pool.
pub(crate) fn stands_for_client(inside: &FlowKey, outside: &FlowKey) -> bool {
    inside.source.address != outside.source.address
}

/// Why the session ends whose server fell.
pub(crate) fn end_reason(bound: Option<&Bound>, snapshot: &Snapshot) -> EndReason {
    let server = bound.and_then(|bound| snapshot.services.server(bound.service, bound.server));
    match server.map(|(_, server)| server.retired) {
        Some(None) => EndReason::ServerDown,
        Some(Some(Retired::Drained)) => EndReason::DrainTimeout,
        Some(Some(Retired::Maint)) => EndReason::Maint,
        None => EndReason::Removed,
    }
}

/// True if the server of a session may be given another connection between the same ends, whose addresses are of this family:
/// one that drains may not, nor a backup server when others are back.
pub(crate) fn takes_on(bound: &Bound, family: Family, snapshot: &Snapshot) -> bool {
    let found = snapshot.services.server(bound.service, bound.server);
    found.is_some_and(|(service, server)| {
        service.takes_new && server.is_candidate(family) && (!server.backup || service.needs_backups(family))
    })
}

/// True for a flow with an end where a server listens whose replies are translated. It needs a session even where it is an
/// ordinary routed one, so that it and the translated flows of that server are told apart.
pub(crate) fn is_beside_service(flow: &FlowKey, snapshot: &Snapshot) -> bool {
    [flow.source, flow.destination]
        .into_iter()
        .any(|end| snapshot.services.translates_replies(end.address, flow.protocol, end.port))
}

/// True for what a server whose replies are translated says in a flow that no session knows, unless it begins one of its own. As
/// it is it would show the server's address to a client that knows the virtual one, and be half a conversation to firewalls: the
/// session ended, or this engine was started anew (IPVS refuses such too, `nat_icmp_send`; of ICMP errors RFC 5508 section 4.2
/// asks it). A client that speaks past the service with the server's own address has a session of its own; after a restart its
/// next packet makes that again, and until then the server is not heard.
///
/// A TCP connection begins with a SYN. A datagram tells nothing of the kind: one that goes to a well-known port, or to the port
/// that it comes from, is a question of the server's own (NTP, SIP and IKE ask from the port that they answer on), any other an
/// answer that comes late.
pub(crate) fn is_stray(flow: &FlowKey, kind: PacketKind, arrival: Arrival, snapshot: &Snapshot) -> bool {
    let begins = match flow.protocol {
        protocol::TCP => kind == PacketKind::Syn,
        _ => flow.destination.port < PORT_MIN || flow.destination.port == flow.source.port,
    };
    let Endpoint { address, port } = flow.source;
    !begins && arrival == Arrival::Near && snapshot.services.translates_replies(address, flow.protocol, port)
}

/// True if a packet in the middle of a connection that nobody remembers may be placed: the hash gives it the server that it
/// had, and to that server it looks the same as before.
pub(crate) fn places_mid_stream(service: &Service) -> bool {
    match (service.scheduler, service.mode) {
        (Scheduler::Hash(_), Mode::Nat | Mode::Direct | Mode::Tunnel) => true,
        (Scheduler::Hash(_), Mode::FullNat) => false,
        (Scheduler::RoundRobin | Scheduler::LeastConnections, _) => false,
    }
}
