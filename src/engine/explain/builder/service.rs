//! What a service does to the flow: the server that it chooses, and how the packet is translated or put into a tunnel.

use super::ExplanationBuilder;
use crate::engine::DropReason;
use crate::engine::explain::ExplainedSession;
use crate::engine::forwarder::{self, Arrival, RoutedFlow, ServerLiveness, ServiceAction};
use crate::engine::view::ServerCandidateView;
use crate::flow::{Endpoint, FlowKey, text};
use crate::path::OnFailure;
use crate::path::pinning::PacketKind;
use crate::session::{Placement, SessionTable};
use crate::slb::{self, ForwardingMode, Server, Service};
use crate::time::Instant;
use crate::wire::Family;
use crate::wire::frame::protocol;

impl ExplanationBuilder<'_> {
    /// The server that a service would give to the first packet of a flow.
    pub(in super::super) fn choose_server(
        &mut self,
        service: &Service,
        flow: &FlowKey,
        arrival: Arrival,
        now: Instant,
    ) -> Result<(RoutedFlow, ServiceAction), DropReason> {
        self.service(service);
        let (server, address) = service
            .preview_server(flow, now)
            .and_then(|server| Some((server, server.address(flow.family())?)))
            .ok_or(DropReason::NoServerUp)?;
        let destination = Endpoint { address, port: server.port.unwrap_or(flow.destination.port) };
        let inside = match service.mode {
            ForwardingMode::Direct | ForwardingMode::Tunnel => None,
            ForwardingMode::Nat => Some(FlowKey { destination, ..*flow }),
            ForwardingMode::FullNat => {
                let address =
                    forwarder::source_address(service, address, self.snapshot).ok_or(DropReason::SnatExhausted)?;
                self.add_sentence(format!(
                    "A port of {address} will stand for the client; it is shown as the client's own."
                ));
                Some(FlowKey { source: Endpoint { address, port: flow.source.port }, destination, ..*flow })
            }
        };
        self.chosen.server = Some((service.id, server.id));
        let server_failures = server.failure_counts[slb::family_index(flow.family())];
        let bound = Placement { service: service.id, server: server.id, server_failures, inside };
        self.add_sentence(format!("Service {} would give it to server {}.", service.name, server.name));
        self.view.server = Some(server.name.clone());
        let kind = if flow.protocol == protocol::TCP { PacketKind::Syn } else { PacketKind::Other };
        Ok(forwarder::first_routed_flow(*flow, &bound, arrival, kind, self.snapshot))
    }

    pub(in super::super) fn service(&mut self, service: &Service) {
        self.view.service = Some(service.name.clone());
        self.view.servers = service.servers.iter().map(server_view).collect();
    }

    /// The server of a live session, and whether the session stays there.
    pub(in super::super) fn server_of_session(&mut self, known: Option<&ExplainedSession>) -> Result<(), DropReason> {
        let Some((known, bound)) = known.and_then(|known| Some((known, known.bound.as_ref()?))) else { return Ok(()) };
        if let Some((service, server)) = self.snapshot.services.server(bound.service, bound.server) {
            self.chosen.server = Some((bound.service, bound.server));
            self.service(service);
            self.view.server = Some(server.name.clone());
            self.add_sentence(format!("Service {} gave it to server {}.", service.name, server.name));
        }
        match forwarder::server_liveness(bound, &known.key, known.session.class, self.snapshot) {
            ServerLiveness::Serves | ServerLiveness::Failed(OnFailure::Keep) => Ok(()),
            ServerLiveness::Failed(OnFailure::Reselect) => {
                self.add_sentence("That server failed: the client's next packet takes another one.");
                Ok(())
            }
            ServerLiveness::Failed(OnFailure::Reset | OnFailure::Drop) => {
                self.add_sentence("That server failed, and on-failure ends such sessions or drops their packets.");
                Err(DropReason::ServerFailed)
            }
        }
    }

    /// How the packet is translated, or put into a tunnel.
    pub(in super::super) fn service_action(&mut self, routed: &RoutedFlow, service: Option<&ServiceAction>) {
        if service.is_some_and(|service| service.translation.is_some()) {
            let leaving = text::format(&routed.egress_flow);
            self.add_sentence(format!("It leaves as {leaving}."));
            self.view.translation = Some(leaving);
        }
        if let Some(outer) = service.and_then(|service| self.outer_flow(routed, service)) {
            let outer = text::format(&outer);
            self.add_sentence(format!(
                "It leaves as it is, inside a packet of the flow {outer}, which the server unpacks."
            ));
            self.add_sentence("The answers pass this engine by.");
            self.view.translation = Some(outer);
        }
    }

    /// The source port that the server sees, if it differs from the client's because another flow has that one.
    pub(in super::super) fn translated_port(
        &mut self,
        routed: &RoutedFlow,
        service: Option<&ServiceAction>,
        has_session: bool,
        sessions: &SessionTable,
    ) {
        if has_session {
            let legs =
                service.and_then(|service| service.translation).map(|legs| (legs.outside.source, legs.inside.source));
            if let Some((own, other)) =
                legs.filter(|(own, other)| own.address == other.address && own.port != other.port)
            {
                self.add_sentence(format!(
                    "The server had another flow from port {} of {}: port {} stands for it there.",
                    own.port, own.address, other.port
                ));
            }
            return;
        }
        let (answers, direction) = routed.egress_flow.reversed().canonical();
        if sessions.find_by_direction(&answers, direction).is_some() {
            let Endpoint { address, port } = routed.egress_flow.source;
            self.add_sentence(format!(
                "The server has another flow from port {port} of {address}: a free port of the same class will stand for it; it \
                 is shown as its own."
            ));
        }
    }

    /// The flow of the outer packet, if the packet goes into a tunnel.
    pub(in super::super) fn outer_flow(&self, routed: &RoutedFlow, service: &ServiceAction) -> Option<FlowKey> {
        let tunnel = service.tunnel?;
        let (_, server) = self.snapshot.services.server(tunnel.service, tunnel.server)?;
        let destination = server.address(routed.ingress_flow.family())?;
        let end = |address| Endpoint { address, port: 0 };
        let source = forwarder::egress_address(destination, self.snapshot)?;
        let protocol = match routed.ingress_flow.family() {
            Family::V4 => protocol::IPV4,
            Family::V6 => protocol::IPV6,
        };
        Some(FlowKey { protocol, source: end(source), destination: end(destination) })
    }
}

fn server_view(server: &Server) -> ServerCandidateView {
    ServerCandidateView {
        name: server.name.clone(),
        state: server.availability().shown().into(),
        weight: server.weight,
        backup: server.backup,
        sessions: server.state.active(),
    }
}
