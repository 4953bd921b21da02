//! The first packet of a flow to a service: which server takes it, what the flow looks like there, the session of both.

use crate::engine::forwarder::Forwarder;
use crate::engine::forwarder::decide::{Course, Pins, decide};
use crate::engine::forwarder::flows::{Known, Step, is_harmless};
use crate::engine::forwarder::services;
use crate::engine::{DropReason, Snapshot};
use crate::flow::key::Endpoint;
use crate::flow::{CanonicalKey, FlowKey};
use crate::path::pinning::PacketKind;
use crate::session::{Bound, Opened, Session};
use crate::slb::{self, Mode, Server, Service};
use crate::time::Instant;

impl Forwarder {
    /// Servers that a flow tries whose look at the server another flow has already.
    const CLASH_TRIES: usize = 4;

    /// The first packet of a flow to a service.
    pub(super) fn begin_at_service(&mut self, service: &Service, known: &Known<'_>, reopens: bool) -> Step {
        let is_first = match known.claim.kind() {
            PacketKind::Syn => true,
            PacketKind::SynAck | PacketKind::Bare | PacketKind::Other => false,
        };
        let is_stream = known.claim.tcp.is_some();
        let resumes = || known.claim.may_open() && (reopens || services::places_mid_stream(service));
        let is_placed = is_first || !is_stream || resumes();
        // The controller answers as a host that knows of no such connection.
        if !is_placed {
            return Step::Local;
        }
        if known.claim.ttl <= 1 {
            return Step::drop(DropReason::TtlExpired);
        }
        for _ in 0..Self::CLASH_TRIES {
            let flow = &known.claim.flow;
            let server = if is_first { service.choose(flow, known.now) } else { service.resume(flow, known.now) };
            let Some(server) = server else { return Step::drop(DropReason::NoServerUp) };
            if let Some(step) = self.begin_at_server(service, server, known) {
                return step;
            }
        }
        Step::drop(DropReason::NatClash)
    }

    /// Opens a session of a service at one of its servers; `None` if to that server the flow would look like another one.
    fn begin_at_server(&mut self, service: &Service, server: &Server, known: &Known<'_>) -> Option<Step> {
        let Known { claim, arrival, snapshot, now, .. } = *known;
        let outside = claim.flow;
        let inside = match self.inside_leg(service, server, outside, snapshot, now) {
            Ok(inside) => inside,
            Err(reason) => return Some(Step::drop(reason)),
        };
        let fall = server.falls[slb::family_index(outside.family())];
        let bound = Bound { service: service.id, server: server.id, fall, inside };
        let (transit, passage) = services::first_transit(outside, &bound, arrival, claim.kind(), snapshot);
        let decision = decide(&transit, Pins::default(), snapshot, now);
        let step = Step::Course(decision.course, Some(passage));
        let Course::To { .. } = decision.course else {
            self.put_back(outside, inside);
            return Some(step);
        };
        let (key, direction) = outside.canonical();
        let mut session = Session::new(&key, direction, now);
        if inside.is_none() {
            session.expect_no_replies();
        }
        session.observe(direction, claim.tcp.as_ref(), claim.bytes, now);
        decision.pins.store(&mut session, direction);
        let harmless = |key: &CanonicalKey, session: &Session| is_harmless(key, session, snapshot);
        match self.sessions.open(&key, Some(bound), session, true, harmless, now) {
            Opened::Inserted { id: _, evicted } => {
                server.state.opened();
                if !session.is_active() {
                    server.state.ended();
                }
                self.counters.server(server.id).new_sessions += 1;
                self.count_opened(&decision, evicted.as_ref(), snapshot, now);
                Some(step)
            }
            Opened::Existing(id) => {
                self.put_back(outside, inside);
                Some(self.continue_session(id, known).unwrap_or(Step::drop(DropReason::NatClash)))
            }
            Opened::Clash => {
                self.put_back(outside, inside);
                None
            }
            Opened::Full => {
                self.put_back(outside, inside);
                Some(Step::drop(DropReason::SessionTableFull))
            }
        }
    }

    /// What a flow looks like to the server; `None` inside if it looks as it came.
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
            Mode::Direct | Mode::Tunnel => return Ok(None),
            Mode::Nat => outside.source,
            Mode::FullNat => self
                .sources
                .acquire(service, outside.protocol, destination, snapshot, now)
                .ok_or(DropReason::SnatExhausted)?,
        };
        Ok(Some(FlowKey { protocol: outside.protocol, source, destination }))
    }

    /// Gives back the port of a session that was not opened.
    fn put_back(&self, outside: FlowKey, inside: Option<FlowKey>) {
        if let Some(inside) = inside.filter(|inside| inside.source != outside.source) {
            self.sources.put_back(inside.protocol, inside.source, inside.destination);
        }
    }
}
