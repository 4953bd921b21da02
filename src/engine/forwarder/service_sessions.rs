//! Opens sessions of services: it chooses the server for the first packet of a flow, and how the flow is translated.

use crate::engine::forwarder::Forwarder;
use crate::engine::forwarder::decide::{Pins, decide};
use crate::engine::forwarder::flows::{Disposition, NoSession, PacketContext, is_reproducible};
use crate::engine::forwarder::services;
use crate::engine::{DropReason, Snapshot};
use crate::flow::key::Endpoint;
use crate::flow::{CanonicalKey, FlowKey};
use crate::nat::{self, NoPort};
use crate::path::pinning::PacketKind;
use crate::session::{OpenResult, OverLimit, Placement, Session};
use crate::slb::{self, ForwardingMode, Server, Service};
use crate::time::Instant;

impl Forwarder {
    /// How many servers are tried for a flow that would look like another flow to the server.
    const CLASH_ATTEMPTS: usize = 4;

    /// Handles the first packet of a flow to a service.
    pub(super) fn open_at_service(
        &mut self,
        service: &Service,
        known: &PacketContext<'_>,
        why: NoSession,
    ) -> Disposition {
        let is_first = match known.packet.kind() {
            PacketKind::Syn => true,
            PacketKind::SynAck | PacketKind::AckOrReset | PacketKind::Other => false,
        };
        let is_stream = known.packet.tcp.is_some();
        let resumes = || {
            known.packet.may_open_session()
                && (why == NoSession::ServerLost || services::can_resume_mid_stream(service))
        };
        let is_placed = is_first || !is_stream || resumes();
        // The controller answers as a host without such a connection.
        if !is_placed {
            return Disposition::Local;
        }
        if known.packet.ttl <= 1 {
            return Disposition::Drop(DropReason::TtlExpired);
        }
        if let Err(reason) = self.check_source_limits(known) {
            return Disposition::Drop(reason);
        }
        for _ in 0..Self::CLASH_ATTEMPTS {
            let flow = &known.packet.flow;
            let server =
                if is_first { service.choose_server(flow, known.now) } else { service.resume_server(flow, known.now) };
            let Some(server) = server else { return Disposition::Drop(DropReason::NoServerUp) };
            if let Some(disposition) = self.try_server(service, server, known) {
                return disposition;
            }
        }
        Disposition::Drop(DropReason::NatClash)
    }

    /// Opens a session at a server; `None` if to that server the flow would look like another one, whatever its source
    /// port is.
    fn try_server(&mut self, service: &Service, server: &Server, known: &PacketContext<'_>) -> Option<Disposition> {
        match self.inside_leg(service, server, known.packet.flow, known.snapshot, known.now) {
            Ok(Some(inside)) => self
                .open_at_server(service, server, Some(inside), known)
                .or_else(|| self.open_by_other_port(service, server, inside, known)),
            Ok(None) => self.open_at_server(service, server, None, known),
            Err(reason) => Some(Disposition::Drop(reason)),
        }
    }

    /// Handles the first packet of a flow that is addressed to a server of a service directly, and has the same
    /// addresses and ports there as a flow of the service: it becomes a session of the service with another source
    /// port.
    pub(super) fn open_beside_service(&mut self, known: &PacketContext<'_>) -> Disposition {
        let PacketContext { packet, snapshot, .. } = *known;
        let Endpoint { address, port } = packet.flow.destination;
        // A connection that exists already cannot get another source port.
        let begins = packet.tcp.is_none() || packet.kind() == PacketKind::Syn;
        snapshot
            .services
            .listener(address, packet.flow.protocol, port)
            .filter(|_| begins)
            .and_then(|(service, server)| self.open_by_other_port(service, server, packet.flow, known))
            .unwrap_or(Disposition::Drop(DropReason::NatClash))
    }

    /// Opens a session with another source port than `inside` has; `None` if no port is free.
    fn open_by_other_port(
        &mut self,
        service: &Service,
        server: &Server,
        inside: FlowKey,
        known: &PacketContext<'_>,
    ) -> Option<Disposition> {
        let source = inside.source;
        let with = |port| FlowKey { source: Endpoint { port, ..source }, ..inside };
        let is_free = |port: &u16| {
            let (key, direction) = with(*port).reversed().canonical();
            self.sessions.table().find_by_direction(&key, direction).is_none()
        };
        let port = nat::alternative_source_ports(source.port, || self.sources.next_random()).find(is_free)?;
        self.open_at_server(service, server, Some(with(port)), known)
    }

    /// Opens a session at a server of a service; `inside` is the flow as the server sees it, if that is translated.
    /// `None` if its packets would look like those of another session.
    fn open_at_server(
        &mut self,
        service: &Service,
        server: &Server,
        inside: Option<FlowKey>,
        known: &PacketContext<'_>,
    ) -> Option<Disposition> {
        let PacketContext { packet, arrival, snapshot, now, .. } = *known;
        let outside = packet.flow;
        let server_failures = server.failure_counts[slb::family_index(outside.family())];
        let bound = Placement { service: service.id, server: server.id, server_failures, inside };
        let (routed, service) = services::first_routed_flow(outside, &bound, arrival, packet.kind(), snapshot);
        let decision = decide(&routed, Pins::default(), snapshot, now);
        let disposition = Disposition::of(decision.next_step, Some(service));
        let Disposition::Send { .. } = disposition else {
            self.release_unused_port(outside, inside);
            return Some(disposition);
        };
        let (key, direction) = outside.canonical();
        let mut session = Session::new(&key, direction, now);
        if inside.is_none() {
            session.expect_no_replies();
        }
        session.record_packet(direction, packet.tcp.as_ref(), packet.bytes, now);
        decision.pins.store(&mut session, direction);
        let harmless = |key: &CanonicalKey, session: &Session| is_reproducible(key, session, snapshot);
        let (opened, evicted) = self.sessions.open(&key, Some(bound), session, true, harmless, now);
        self.account_evicted(evicted.as_ref(), snapshot, now);
        match opened {
            OpenResult::Inserted(_) => {
                server.state.opened();
                if !session.is_active() {
                    server.state.ended();
                }
                self.counters.server(server.id).new_sessions += 1;
                if packet.kind() == PacketKind::Syn {
                    server.state.observed(outside.family()).record_opened(outside.source.address, now);
                }
                self.count_opened(&decision);
                Some(disposition)
            }
            OpenResult::Existing(id) => {
                self.release_unused_port(outside, inside);
                Some(self.continue_existing(id, known, Disposition::Drop(DropReason::NatClash)))
            }
            OpenResult::Conflict => {
                self.release_unused_port(outside, inside);
                None
            }
            OpenResult::Full => {
                self.release_unused_port(outside, inside);
                Some(Disposition::Drop(DropReason::SessionTableFull))
            }
            OpenResult::OverShare => {
                self.release_unused_port(outside, inside);
                Some(Disposition::Drop(self.refuse(outside.source.address, OverLimit::Share)))
            }
        }
    }

    /// The flow as the server sees it; `None` if it is not translated.
    fn inside_leg(
        &mut self,
        service: &Service,
        server: &Server,
        outside: FlowKey,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Result<Option<FlowKey>, DropReason> {
        let address = server.address(outside.family()).ok_or(DropReason::NoServerUp)?;
        let destination = Endpoint { address, port: server.port.unwrap_or(outside.destination.port) };
        let source = match service.mode {
            ForwardingMode::Direct | ForwardingMode::Tunnel => return Ok(None),
            ForwardingMode::Nat => outside.source,
            ForwardingMode::FullNat => match self.sources.acquire(service, &outside, destination, snapshot, now) {
                Ok(source) => source,
                Err(NoPort::Exhausted) => return Err(DropReason::SnatExhausted),
                Err(NoPort::OverShare) => return Err(self.refuse(outside.source.address, OverLimit::Share)),
            },
        };
        // No client has an address that the engine uses as source.
        if service.mode == ForwardingMode::FullNat && source.address == outside.source.address {
            self.sources.release_unused(outside.protocol, source, destination, outside.source.address);
            return Err(DropReason::MartianSource);
        }
        Ok(Some(FlowKey { protocol: outside.protocol, source, destination }))
    }

    /// Returns the source port of a session that was not opened.
    fn release_unused_port(&self, outside: FlowKey, inside: Option<FlowKey>) {
        if let Some(inside) = inside.filter(|inside| services::is_source_translated(inside, &outside)) {
            self.sources.release_unused(inside.protocol, inside.source, inside.destination, outside.source.address);
        }
    }
}
