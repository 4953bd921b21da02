//! Works out what a service does to a packet of one of its sessions: translation, tunnel, direction, and whether the
//! server still serves. It stores nothing, so that [`crate::engine::explain`] can ask the same functions.

use crate::engine::Snapshot;
use crate::engine::forwarder::decide::{Arrival, RoutedFlow};
use crate::flow::{CanonicalKey, Direction, Endpoint, FlowKey};
use crate::id::{ServerId, ServiceId};
use crate::nat::ports::PORT_MIN;
use crate::nat::{NatDirection, Translation};
use crate::path::OnFailure;
use crate::path::pinning::PacketKind;
use crate::session::{EndReason, Placement, ProtocolClass};
use crate::slb::{self, ForwardingMode, OutOfService, Scheduler, Service};
use crate::wire::Family;
use crate::wire::frame::protocol;

/// What the service of a session does to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServiceAction {
    /// The server of the session.
    pub server: ServerId,
    /// The direction of the packet: toward the server or toward the client.
    pub direction: NatDirection,
    /// The flow on both sides of the translation; `None` if the packet is not translated.
    pub translation: Option<Translation>,
    /// The tunnel to the server; `None` if the packet goes into none.
    pub tunnel: Option<TunnelTo>,
}

impl ServiceAction {
    /// True if the packet leaves as it is.
    pub(super) const fn is_unchanged(&self) -> bool {
        self.translation.is_none() && self.tunnel.is_none()
    }
}

/// The tunnel to a server of mode `tunnel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TunnelTo {
    /// The service of the server.
    pub service: ServiceId,
    /// The server, which is the end of the tunnel.
    pub server: ServerId,
}

/// Whether the server of a session serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerLiveness {
    /// The server has not failed since it got the session, or it is up again.
    Serves,
    /// The server failed, and this is the `on-failure` for the session; [`OnFailure::Reset`] only for TCP.
    Failed(OnFailure),
}

/// A packet of a session of a service, which was opened in the direction `opened`, and what the service does to it.
/// `None` if it belongs to another flow that only looks like this session.
pub(crate) fn routed_flow(
    flow: FlowKey,
    key: &CanonicalKey,
    opened: Direction,
    bound: &Placement,
    arrival: Arrival,
    kind: PacketKind,
    snapshot: &Snapshot,
) -> Option<(RoutedFlow, ServiceAction)> {
    let outside = key.in_direction(opened);
    let way = match bound.inside {
        _ if flow == outside => NatDirection::ToServer,
        Some(inside) if flow == inside.reversed() => NatDirection::ToClient,
        // This is a reply of a server that has this engine as its default gateway.
        None if flow == outside.reversed() => NatDirection::ToClient,
        Some(_) | None => return None,
    };
    Some(route_packet(flow, outside, bound, way, arrival, kind, snapshot))
}

/// The first packet of a flow that is to become a session of a service, and what the service does to it.
pub(crate) fn first_routed_flow(
    outside: FlowKey,
    bound: &Placement,
    arrival: Arrival,
    kind: PacketKind,
    snapshot: &Snapshot,
) -> (RoutedFlow, ServiceAction) {
    route_packet(outside, outside, bound, NatDirection::ToServer, arrival, kind, snapshot)
}

fn route_packet(
    flow: FlowKey,
    outside: FlowKey,
    bound: &Placement,
    way: NatDirection,
    arrival: Arrival,
    kind: PacketKind,
    snapshot: &Snapshot,
) -> (RoutedFlow, ServiceAction) {
    let translation = bound.translation(outside);
    let leaving = translation.map_or(flow, |translation| translation.after(way));
    let at_server = match (translation, way) {
        (None, NatDirection::ToServer) => snapshot.services.server(bound.service, bound.server),
        (Some(_), NatDirection::ToServer | NatDirection::ToClient) | (None, NatDirection::ToClient) => None,
    };
    let tunnel = at_server.filter(|(service, _)| service.mode == ForwardingMode::Tunnel);
    let tunnel = tunnel.map(|_| TunnelTo { service: bound.service, server: bound.server });
    let address = at_server.and_then(|(_, server)| server.address(flow.family()));
    let toward = match (translation, way) {
        (None, NatDirection::ToServer) => address.unwrap_or(leaving.destination.address),
        (Some(_), NatDirection::ToServer | NatDirection::ToClient) | (None, NatDirection::ToClient) => {
            leaving.destination.address
        }
    };
    let inward = outside.direction();
    let direction = match way {
        NatDirection::ToServer => inward,
        NatDirection::ToClient => inward.reversed(),
    };
    let routed = RoutedFlow { ingress_flow: flow, egress_flow: leaving, route_to: toward, direction, arrival, kind };
    (routed, ServiceAction { server: bound.server, direction: way, translation, tunnel })
}

/// Whether the server of a session of `class` serves it. A server that is not in the configuration any more counts as
/// failed.
pub(crate) fn server_liveness(
    bound: &Placement,
    key: &CanonicalKey,
    class: ProtocolClass,
    snapshot: &Snapshot,
) -> ServerLiveness {
    let is_tcp = class == ProtocolClass::Tcp;
    let Some((service, server)) = snapshot.services.server(bound.service, bound.server) else {
        return ServerLiveness::Failed(OnFailure::Reset.for_flow(is_tcp));
    };
    let family = key.family();
    if server.is_up(family) || server.failure_counts[slb::family_index(family)] == bound.server_failures {
        return ServerLiveness::Serves;
    }
    let on_failure = service.on_failure.for_flow(is_tcp);
    ServerLiveness::Failed(match on_failure {
        // A server that was removed cannot keep sessions.
        OnFailure::Keep if server.is_removed => OnFailure::Reselect,
        OnFailure::Keep | OnFailure::Drop | OnFailure::Reselect | OnFailure::Reset => on_failure,
    })
}

/// True if the source address that the server sees is the engine's own (mode `full-nat`), whose port comes from a pool.
/// A client's address with another port is not from a pool.
pub(crate) fn is_source_translated(inside: &FlowKey, outside: &FlowKey) -> bool {
    inside.source.address != outside.source.address
}

/// The reason for the end of a session whose server failed.
pub(crate) fn server_end_reason(bound: Option<&Placement>, snapshot: &Snapshot) -> EndReason {
    let server = bound.and_then(|bound| snapshot.services.server(bound.service, bound.server));
    match server.map(|(_, server)| server.out_of_service) {
        Some(None) => EndReason::ServerDown,
        Some(Some(OutOfService::Drained)) => EndReason::DrainTimeout,
        Some(Some(OutOfService::Maint)) => EndReason::Maint,
        None => EndReason::Removed,
    }
}

/// True if the server of a closed session may get another connection between the same ends, of this address family. A
/// server that drains may not, nor a backup while other servers are up.
pub(crate) fn takes_next_connection(bound: &Placement, family: Family, snapshot: &Snapshot) -> bool {
    let found = snapshot.services.server(bound.service, bound.server);
    found.is_some_and(|(service, server)| {
        service.accepts_new_sessions && server.is_candidate(family) && (!server.backup || service.needs_backups(family))
    })
}

/// True for a flow with a server's address and port at one end, whose replies are translated. Even an ordinary routed
/// flow to that server needs a session, so that it can be distinguished from translated ones.
pub(crate) fn has_service_endpoint(flow: &FlowKey, snapshot: &Snapshot) -> bool {
    [flow.source, flow.destination]
        .into_iter()
        .any(|end| snapshot.services.translates_replies(end.address, flow.protocol, end.port))
}

/// True for a packet of a server whose replies are translated, if it has no session and does not begin a flow of its
/// own: the session has ended, or this engine was restarted. Untranslated it would reveal the server's address to a
/// client that knows the VIP only, and be half a conversation to firewalls. (IPVS drops such packets too, see
/// `nat_icmp_send`; RFC 5508 section 4.2 demands it for ICMP errors.) A client that connects to the server's own
/// address has a session of its own; after a restart its next packet opens that again, and until then packets of the
/// server are dropped.
///
/// A TCP connection begins with a SYN. For UDP it must be guessed: a datagram to a well-known port, or to the port that
/// it comes from, is a request of the server itself (NTP, SIP and IKE use one port for both), and any other is taken
/// for a late reply.
pub(crate) fn is_stray_reply(flow: &FlowKey, kind: PacketKind, arrival: Arrival, snapshot: &Snapshot) -> bool {
    let begins = match flow.protocol {
        protocol::TCP => kind == PacketKind::Syn,
        _ => flow.destination.port < PORT_MIN || flow.destination.port == flow.source.port,
    };
    let Endpoint { address, port } = flow.source;
    !begins && arrival == Arrival::Near && snapshot.services.translates_replies(address, flow.protocol, port)
}

/// True if a packet in the middle of an unknown connection can become a session: the hash gives it the server that it
/// had before, and the server sees the same addresses and ports as before.
pub(crate) fn can_resume_mid_stream(service: &Service) -> bool {
    match (service.scheduler, service.mode) {
        (Scheduler::Hash(_), ForwardingMode::Nat | ForwardingMode::Direct | ForwardingMode::Tunnel) => true,
        (Scheduler::Hash(_), ForwardingMode::FullNat) => false,
        (Scheduler::RoundRobin | Scheduler::LeastConnections, _) => false,
    }
}
