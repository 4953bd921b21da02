//! Applies the session of a packet's flow, or opens one, and updates it.

use crate::engine::forwarder::Forwarder;
use crate::engine::forwarder::decide::{self, Arrival, Decision, NextStep, Pins, RoutedFlow, decide};
use crate::engine::forwarder::ingress::Addressee;
use crate::engine::forwarder::observed;
use crate::engine::forwarder::packet_flow::{FlowRelation, PacketFlow};
use crate::engine::forwarder::services::{self, ServerLiveness, ServiceAction};
use crate::engine::route::NextHop;
use crate::engine::{DropReason, Snapshot};
use crate::flow::key::Endpoint;
use crate::flow::{CanonicalKey, Direction};
use crate::id::FirewallId;
use crate::nat::NatDirection;
use crate::path::OnFailure;
use crate::path::pinning::{self, PacketKind, Pin, PinState, PinnedBy};
use crate::session::{
    ConversationState, EndReason, OpenResult, OverLimit, Placement, Removed, Session, SessionId, TcpState,
};
use crate::time::Instant;

/// What is to be done with a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Disposition {
    /// Send it to a neighbour.
    Send {
        /// The neighbour.
        hop: NextHop,
        /// The firewall that the neighbour is; `None` if it is no firewall.
        firewall: Option<FirewallId>,
        /// What the service of its session does to it; `None` if its session belongs to no service.
        service: Option<ServiceAction>,
    },
    /// Pass it to the controller.
    Local,
    /// Drop it.
    Drop(DropReason),
}

/// Why a packet has no session, so that it may open one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSession {
    /// No session of its flow is known.
    Unknown,
    /// Its session has just ended, because the session's server failed or takes no further connection.
    ServerLost,
}

impl Disposition {
    /// The disposition that follows from a decision; `service` is what the service of the packet's session does to it.
    pub(super) const fn of(decided: NextStep, service: Option<ServiceAction>) -> Self {
        match decided {
            NextStep::To { hop, firewall } => Self::Send { hop, firewall, service },
            NextStep::Drop(reason) => Self::Drop(reason),
            NextStep::EndSession => Self::Drop(DropReason::FirewallFailed),
        }
    }
}

/// What is known about a packet before its session is looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct PacketContext<'a> {
    pub packet: &'a PacketFlow,
    pub arrival: Arrival,
    pub addressee: Addressee,
    pub snapshot: &'a Snapshot,
    pub now: Instant,
}

/// Why a packet is not simply handled as one of the session that was found.
enum SessionMismatch {
    /// It is addressed to the engine and not part of the session, although it has the same addresses and ports.
    Local,
    /// It is addressed to a service, but the session that was found was opened by a packet that the server sent from
    /// the VIP. The client's packets have no session yet.
    Unplaced,
    /// It belongs to another flow, which would look the same on the other side of the translation.
    Stranger,
    /// Its TTL or hop limit has run out.
    Exhausted,
    /// It opens a new connection with the addresses and ports of a closed one, whose server takes no new sessions.
    Over,
    /// The server of the session failed, and packets of the session are dropped.
    ServerFailedDrop,
    /// The server of the session failed; the session ends, and both its ends are reset.
    ServerFailedReset,
    /// The server of the session failed; the session ends, and the packet may open it anew at another server.
    ServerFailedReopen,
}

impl SessionMismatch {
    /// What is to be done with the packet if the session stays as it is.
    const fn disposition(&self) -> Disposition {
        match self {
            Self::Local | Self::Unplaced => Disposition::Local,
            Self::Stranger => Disposition::Drop(DropReason::NatClash),
            Self::Exhausted => Disposition::Drop(DropReason::TtlExpired),
            Self::Over | Self::ServerFailedDrop | Self::ServerFailedReset | Self::ServerFailedReopen => {
                Disposition::Drop(DropReason::ServerFailed)
            }
        }
    }
}

impl PacketContext<'_> {
    /// Relates the packet to the session that was found: how it is forwarded, or why it is not simply a packet of this
    /// session.
    fn match_session(
        &self,
        key: &CanonicalKey,
        session: &Session,
        placement: Option<&Placement>,
    ) -> Result<(RoutedFlow, Option<ServiceAction>), SessionMismatch> {
        let Self { packet, arrival, addressee, snapshot, now: _ } = *self;
        let Some(placement) = placement else {
            return match addressee {
                Addressee::Engine => Err(SessionMismatch::Local),
                Addressee::Service if key.in_direction(session.original_direction) != packet.flow => {
                    Err(SessionMismatch::Unplaced)
                }
                Addressee::Service | Addressee::Other => {
                    Ok((RoutedFlow::unchanged(packet.flow, arrival, packet.kind()), None))
                }
            };
        };
        let found = services::routed_flow(
            packet.flow,
            key,
            session.original_direction,
            placement,
            arrival,
            packet.kind(),
            snapshot,
        );
        let Some((routed, service)) = found else { return Err(SessionMismatch::Stranger) };
        if packet.ttl <= 1 {
            return Err(SessionMismatch::Exhausted);
        }
        match services::server_liveness(placement, key, session.class, snapshot) {
            // IPVS does the same (`conn_reuse_mode`). A server that still takes new sessions keeps its client.
            ServerLiveness::Serves
                if self.opens_connection(service.direction)
                    && (is_connection_closed(session)
                        || session.is_unanswered() && observed::is_avoided(placement, key, snapshot))
                    && !services::takes_next_connection(placement, packet.flow.family(), snapshot) =>
            {
                Err(SessionMismatch::Over)
            }
            ServerLiveness::Serves => Ok((routed, Some(service))),
            ServerLiveness::Failed(on_failure) => match self.failed_server(on_failure, service.direction) {
                Some(mismatch) => Err(mismatch),
                None => Ok((routed, Some(service))),
            },
        }
    }

    /// True for a packet that opens a connection.
    fn opens_connection(&self, way: NatDirection) -> bool {
        self.packet.kind() == PacketKind::Syn
            && self.packet.relation == FlowRelation::Direct
            && way == NatDirection::ToServer
    }

    /// What `on-failure` of a failed server means for this packet of its session; `None` if the session goes on. Packets
    /// from the server are still forwarded if the session may stay until the next packet of its client.
    fn failed_server(&self, on_failure: OnFailure, way: NatDirection) -> Option<SessionMismatch> {
        match (on_failure, way) {
            _ if self.opens_connection(way) => Some(SessionMismatch::ServerFailedReopen),
            (OnFailure::Keep, _) => None,
            (OnFailure::Drop, _) => Some(SessionMismatch::ServerFailedDrop),
            (OnFailure::Reset, _) => Some(SessionMismatch::ServerFailedReset),
            (OnFailure::Reselect, NatDirection::ToServer) => Some(SessionMismatch::ServerFailedReopen),
            (OnFailure::Reselect, NatDirection::ToClient) => None,
        }
    }
}

impl Forwarder {
    /// Decides what is to be done with a packet: by its session, its service, the firewall it came from, or the hash.
    /// Updates the session.
    pub(super) fn decide_flow(
        &mut self,
        packet: &PacketFlow,
        arrival: Arrival,
        addressee: Addressee,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Disposition {
        let known = PacketContext { packet, arrival, addressee, snapshot, now };
        let (key, direction) = packet.flow.canonical();
        let found = match self.sessions.table().find_by_direction(&key, direction) {
            Some(id) => match packet.relation {
                FlowRelation::Direct => self.continue_session(id, &known),
                FlowRelation::Related => self.follow_session(id, &known),
            },
            None => Err(NoSession::Unknown),
        };
        let disposition = match found {
            Ok(disposition) => disposition,
            Err(why) => self.open_session(&known, why),
        };
        if let Disposition::Send { hop: _, firewall, service } = &disposition {
            self.count_traffic(packet.bytes, [firewall_of(arrival), *firewall], service.as_ref());
        }
        disposition
    }

    /// Handles a packet of the session that was found, and updates that; `Err` if the session has ended.
    pub(super) fn continue_session(
        &mut self,
        id: SessionId,
        known: &PacketContext<'_>,
    ) -> Result<Disposition, NoSession> {
        let PacketContext { packet, snapshot, now, .. } = *known;
        let has_copies = self.changes.is_some();
        let matched = self.sessions.table().update_with_placement(id, |key, session, placement| {
            let (routed, service) = known.match_session(key, session, placement)?;
            let pins = Pins::of(session, routed.direction);
            let decision = decide(&routed, pins, snapshot, now);
            let was_active = session.is_active();
            let was_unanswered = session.is_unanswered();
            let state = session.state;
            match decision.next_step {
                NextStep::To { .. } => {
                    decision.pins.store(session, routed.direction);
                    session.record_packet(routed.direction, packet.tcp.as_ref(), packet.bytes, now);
                }
                NextStep::Drop(_) | NextStep::EndSession => {}
            }
            let turn = placement.copied().filter(|_| session.is_active() != was_active);
            if let (Some(placement), true) = (placement, was_unanswered) {
                observed::record_response(placement, session, routed.direction, packet.flow.family(), snapshot);
            }
            let is_told = has_copies && (session.state != state || pins.differ_in_copy(&decision.pins));
            Ok::<_, SessionMismatch>((
                pins,
                decision,
                service,
                routed.direction,
                turn.map(|placement| (placement, !was_active)),
                is_told.then_some(placement.is_some()),
            ))
        });
        let (before, decision, service, direction, turn, told) = match matched.ok_or(NoSession::Unknown)? {
            Ok(decided) => decided,
            Err(mismatch) => return self.handle_mismatch(id, &mismatch, known),
        };
        if let Some((placement, is_active)) = turn
            && let Some((_, server)) = snapshot.services.server(placement.service, placement.server)
        {
            if is_active { server.state.resumed() } else { server.state.ended() }
        }
        if let Some(is_placed) = told {
            self.tell_change(id, is_placed, &before, &decision.pins, snapshot);
        }
        match decision.next_step {
            NextStep::To { .. } => self.count_pins(before, &decision),
            NextStep::Drop(_) => {}
            NextStep::EndSession => self.end_failed(id, direction, snapshot, now),
        }
        Ok(Disposition::of(decision.next_step, service))
    }

    /// Handles a packet that is not simply one of the session that was found; `Err` if that has ended.
    fn handle_mismatch(
        &mut self,
        id: SessionId,
        mismatch: &SessionMismatch,
        known: &PacketContext<'_>,
    ) -> Result<Disposition, NoSession> {
        match mismatch {
            SessionMismatch::Unplaced => {
                self.close(id, EndReason::Expired, known);
                Err(NoSession::Unknown)
            }
            SessionMismatch::Over => {
                self.close(id, EndReason::Expired, known);
                Err(NoSession::ServerLost)
            }
            SessionMismatch::ServerFailedReopen => {
                self.close_failed(id, known);
                Err(NoSession::ServerLost)
            }
            SessionMismatch::ServerFailedReset => {
                if let Some(removed) = self.close_failed(id, known) {
                    self.reset_both_ends(&removed, known.snapshot);
                }
                Ok(mismatch.disposition())
            }
            SessionMismatch::Local
            | SessionMismatch::Stranger
            | SessionMismatch::Exhausted
            | SessionMismatch::ServerFailedDrop => Ok(mismatch.disposition()),
        }
    }

    /// Ends a session, counts and reports its end.
    fn close(&mut self, id: SessionId, reason: EndReason, known: &PacketContext<'_>) {
        if let Some(removed) = self.sessions.close(id) {
            self.account_end(&removed, reason, known.snapshot, known.now);
        }
    }

    /// Ends a session whose server failed, counts and reports its end.
    fn close_failed(&mut self, id: SessionId, known: &PacketContext<'_>) -> Option<Removed> {
        let removed = self.sessions.close(id)?;
        let reason = services::server_end_reason(removed.placement.as_ref(), known.snapshot);
        self.account_end(&removed, reason, known.snapshot, known.now);
        Some(removed)
    }

    /// Handles a packet that follows a known session and changes nothing of it; `Err` if the session has ended.
    fn follow_session(&self, id: SessionId, known: &PacketContext<'_>) -> Result<Disposition, NoSession> {
        let followed = self.sessions.table().update_with_placement(id, |key, session, placement| {
            match known.match_session(key, session, placement) {
                Ok((routed, service)) => {
                    let decision = decide(&routed, Pins::of(session, routed.direction), known.snapshot, known.now);
                    Disposition::of(decision.next_step, service)
                }
                Err(mismatch) => mismatch.disposition(),
            }
        });
        followed.ok_or(NoSession::Unknown)
    }

    /// Handles a packet without a session.
    fn open_session(&mut self, known: &PacketContext<'_>, why: NoSession) -> Disposition {
        let Endpoint { address, port } = known.packet.flow.destination;
        match (known.addressee, known.packet.relation) {
            (Addressee::Other, _) => self.open_routed_session(known),
            (Addressee::Engine | Addressee::Service, FlowRelation::Related) => Disposition::Local,
            (Addressee::Engine | Addressee::Service, FlowRelation::Direct) => {
                match known.snapshot.services.find(address, known.packet.flow.protocol, port) {
                    Some(service) => self.open_at_service(service, known, why),
                    None => Disposition::Local,
                }
            }
        }
    }

    /// Handles a packet without a session that belongs to no service.
    fn open_routed_session(&mut self, known: &PacketContext<'_>) -> Disposition {
        let PacketContext { packet, arrival, snapshot, now, .. } = *known;
        let routed = RoutedFlow::unchanged(packet.flow, arrival, packet.kind());
        let decision = decide(&routed, Pins::default(), snapshot, now);
        let disposition = Disposition::of(decision.next_step, None);
        let Disposition::Send { .. } = disposition else { return disposition };
        if services::is_stray_reply(&packet.flow, packet.kind(), arrival, snapshot) {
            return Disposition::Drop(DropReason::StrayReply);
        }
        let is_remembered = decision.pins != Pins::default() || services::has_service_endpoint(&packet.flow, snapshot);
        if !packet.may_open_session() || !is_remembered {
            return disposition;
        }
        if let Err(reason) = self.check_source_limits(known) {
            return Disposition::Drop(reason);
        }
        let (key, direction) = packet.flow.canonical();
        let mut session = Session::new(&key, direction, now);
        session.record_packet(direction, packet.tcp.as_ref(), packet.bytes, now);
        decision.pins.store(&mut session, direction);
        let protect = breaks_if_forgotten(&key, &session, snapshot);
        let harmless = |key: &CanonicalKey, session: &Session| is_reproducible(key, session, snapshot);
        let (opened, evicted) = self.sessions.open(&key, None, session, protect, harmless, now);
        self.account_evicted(evicted.as_ref(), snapshot, now);
        match opened {
            OpenResult::Inserted(_) => {
                self.count_opened(&decision);
                disposition
            }
            // Another worker was faster, and its session decides. If that has ended already, this packet is still sent.
            OpenResult::Existing(id) => self.continue_existing(id, known, disposition),
            OpenResult::Conflict => self.open_beside_service(known),
            OpenResult::Full => {
                self.counters.table_full += 1;
                disposition
            }
            OpenResult::OverShare => {
                self.counters.table_full += 1;
                self.refuse(packet.flow.source.address, OverLimit::Share);
                disposition
            }
        }
    }

    /// Handles a packet for which another worker opened the session first: that session decides. If it has ended
    /// already, the packet gets the disposition `ended`.
    pub(super) fn continue_existing(
        &mut self,
        id: SessionId,
        known: &PacketContext<'_>,
        ended: Disposition,
    ) -> Disposition {
        match self.continue_session(id, known) {
            Ok(disposition) => disposition,
            Err(NoSession::Unknown) => ended,
            Err(NoSession::ServerLost) => Disposition::Drop(DropReason::ServerFailed),
        }
    }

    pub(super) fn count_opened(&mut self, decision: &Decision) {
        self.counters.sessions_created += 1;
        self.count_pins(Pins::default(), decision);
    }

    /// Counts a packet at its firewalls and at its server.
    #[inline]
    pub(super) fn count_traffic(
        &mut self,
        bytes: usize,
        firewalls: [Option<FirewallId>; 2],
        service: Option<&ServiceAction>,
    ) {
        for firewall in firewalls.into_iter().flatten() {
            let counters = self.counters.firewall(firewall);
            counters.packets += 1;
            counters.bytes += bytes as u64;
        }
        match service {
            Some(service) => {
                self.counters.server(service.server).count(service.direction, bytes as u64);
            }
            None => {
                self.counters.routed_packets += 1;
                self.counters.routed_bytes += bytes as u64;
            }
        }
    }

    fn count_pins(&mut self, before: Pins, decision: &Decision) {
        self.counters.asymmetric += u64::from(decision.asymmetric);
        for change in &decision.changes {
            self.counters.count_pin_change(*change);
        }
        let after = decision.pins;
        self.counters.move_pin(before.toward_source.as_ref(), after.toward_source.as_ref());
        self.counters.move_pin(before.toward_destination.as_ref(), after.toward_destination.as_ref());
    }
}

impl Pins {
    /// The pins of `session`, as seen from a packet in `direction`.
    pub(crate) fn of(session: &Session, direction: Direction) -> Self {
        match direction {
            Direction::LowToHigh => Self { toward_source: session.toward_low, toward_destination: session.toward_high },
            Direction::HighToLow => Self { toward_source: session.toward_high, toward_destination: session.toward_low },
        }
    }

    /// Sets the pins of `session`, as seen from a packet in `direction`.
    pub(super) fn store(self, session: &mut Session, direction: Direction) {
        *session.pin_toward_source(direction) = self.toward_source;
        *session.pin_toward_destination(direction) = self.toward_destination;
    }
}

/// True if both ends closed the connection, or one reset it.
fn is_connection_closed(session: &Session) -> bool {
    session.state == ConversationState::Tcp(TcpState::Closing)
}

fn firewall_of(arrival: Arrival) -> Option<FirewallId> {
    match arrival {
        Arrival::Near => None,
        Arrival::Firewall(firewall) => Some(firewall),
    }
}

/// The pins of a session, each with the direction of packets that go through its firewall.
pub(crate) fn pins_of(session: &Session) -> impl Iterator<Item = (Pin, Direction)> {
    let low = session.toward_low.map(|pin| (pin, Direction::HighToLow));
    let high = session.toward_high.map(|pin| (pin, Direction::LowToHigh));
    [low, high].into_iter().flatten()
}

/// True if a learned firewall is not the one that the hash gives: if the session were forgotten, the flow would break.
fn breaks_if_forgotten(key: &CanonicalKey, session: &Session, snapshot: &Snapshot) -> bool {
    pins_of(session).any(|(pin, direction)| {
        pin.pinned_by == PinnedBy::Learned && hashed_firewall(key, &pin, direction, snapshot) != Some(pin.firewall)
    })
}

/// True if the pins are confirmed and the hash gives the same firewalls: if the session is forgotten, nothing breaks.
pub(super) fn is_reproducible(key: &CanonicalKey, session: &Session, snapshot: &Snapshot) -> bool {
    pins_of(session).all(|(pin, direction)| {
        pin.state == PinState::Confirmed && hashed_firewall(key, &pin, direction, snapshot) == Some(pin.firewall)
    })
}

fn hashed_firewall(key: &CanonicalKey, pin: &Pin, direction: Direction, snapshot: &Snapshot) -> Option<FirewallId> {
    let routed = RoutedFlow::unchanged(key.in_direction(direction), Arrival::Near, PacketKind::Other);
    pinning::best(&decide::view_toward_destination(&routed, pin.set, snapshot))
}
