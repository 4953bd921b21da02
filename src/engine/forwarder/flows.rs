//! Applies the session of a packet's flow, or opens one, and updates it.

use crate::engine::forwarder::Forwarder;
use crate::engine::forwarder::decide::{self, Arrival, Decision, NextStep, Pins, RoutedFlow, decide};
use crate::engine::forwarder::egress::{NatRewrite, Rewrite};
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
    ConversationState, EndReason, OpenResult, OverLimit, Placement, ProtocolClass, Session, SessionId, TcpState,
};
use crate::time::Instant;

/// What is to be done with a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Disposition {
    /// Send it to a neighbour.
    Send {
        /// The neighbour.
        hop: NextHop,
        /// What the service of its session changes.
        rewrite: Option<Rewrite>,
    },
    /// Pass it to the controller.
    Local,
    /// Drop it.
    Drop(DropReason),
}

/// The result of a session, or of the attempt to open one, for a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum FlowStep {
    /// Where the packet is sent, and what the service of its session does to it.
    Course(NextStep, Option<ServiceAction>),
    /// The controller gets the packet.
    Local,
    /// The session has ended, and the packet may open a new one.
    Reopen,
}

impl FlowStep {
    pub(super) const fn drop(reason: DropReason) -> Self {
        Self::Course(NextStep::Drop(reason), None)
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
    /// The server of the session failed, and the session does not stay.
    Fell(FailedServerAction),
}

/// What happens to a session whose server failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailedServerAction {
    Drop,
    Reset,
    Reopen,
}

impl PacketContext<'_> {
    /// Relates the packet to the session that was found: how it is forwarded, or why it is not simply a packet of this
    /// session.
    fn match_session(
        &self,
        key: &CanonicalKey,
        session: &Session,
        bound: Option<&Placement>,
    ) -> Result<(RoutedFlow, Option<ServiceAction>), SessionMismatch> {
        let Self { packet: claim, arrival, addressee, snapshot, now: _ } = *self;
        let Some(bound) = bound else {
            return match addressee {
                Addressee::Engine => Err(SessionMismatch::Local),
                Addressee::Service if key.in_direction(session.original_direction) != claim.flow => {
                    Err(SessionMismatch::Unplaced)
                }
                Addressee::Service | Addressee::Other => {
                    Ok((RoutedFlow::unchanged(claim.flow, arrival, claim.kind()), None))
                }
            };
        };
        let found =
            services::routed_flow(claim.flow, key, session.original_direction, bound, arrival, claim.kind(), snapshot);
        let Some((transit, passage)) = found else { return Err(SessionMismatch::Stranger) };
        if claim.ttl <= 1 {
            return Err(SessionMismatch::Exhausted);
        }
        match services::server_liveness(bound, key, session.class, snapshot) {
            // IPVS does the same (`conn_reuse_mode`). A server that still takes new sessions keeps its client.
            ServerLiveness::Serves
                if self.opens_connection(passage.direction)
                    && (is_connection_closed(session)
                        || session.is_unanswered() && observed::is_avoided(bound, key, snapshot))
                    && !services::takes_next_connection(bound, claim.flow.family(), snapshot) =>
            {
                Err(SessionMismatch::Over)
            }
            ServerLiveness::Serves => Ok((transit, Some(passage))),
            ServerLiveness::Fell(on_failure) => {
                match self.failed_server_action(on_failure, session.class, passage.direction) {
                    Some(fall) => Err(SessionMismatch::Fell(fall)),
                    None => Ok((transit, Some(passage))),
                }
            }
        }
    }

    /// True for a packet that opens a connection.
    fn opens_connection(&self, way: NatDirection) -> bool {
        self.packet.kind() == PacketKind::Syn
            && self.packet.relation == FlowRelation::Direct
            && way == NatDirection::ToServer
    }

    /// What happens to the session of a failed server with this packet; `None` if it continues. Packets from the server
    /// are still forwarded if the session may stay until the next packet of its client.
    fn failed_server_action(
        &self,
        on_failure: OnFailure,
        class: ProtocolClass,
        way: NatDirection,
    ) -> Option<FailedServerAction> {
        match (on_failure, class, way) {
            _ if self.opens_connection(way) => Some(FailedServerAction::Reopen),
            (OnFailure::Keep, _, _) => None,
            (OnFailure::Drop, _, _) => Some(FailedServerAction::Drop),
            (OnFailure::Reset, ProtocolClass::Tcp, _) => Some(FailedServerAction::Reset),
            (OnFailure::Reset | OnFailure::Reselect, _, NatDirection::ToServer) => Some(FailedServerAction::Reopen),
            (OnFailure::Reset | OnFailure::Reselect, _, NatDirection::ToClient) => None,
        }
    }
}

impl Forwarder {
    /// Decides what is to be done with a packet: by its session, its service, the firewall it came from, or the hash.
    /// Updates the session.
    pub(super) fn decide_flow(
        &mut self,
        claim: &PacketFlow,
        arrival: Arrival,
        addressee: Addressee,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Disposition {
        let known = PacketContext { packet: claim, arrival, addressee, snapshot, now };
        let (key, direction) = claim.flow.canonical();
        let step = match self.sessions.table().find_by_direction(&key, direction) {
            Some(id) => match claim.relation {
                FlowRelation::Direct => self.continue_session(id, &known),
                FlowRelation::Related => self.follow_session(id, &known),
            },
            None => None,
        };
        let step = match step {
            Some(FlowStep::Reopen) => self.open_session(&known, true),
            Some(step @ (FlowStep::Course(_, _) | FlowStep::Local)) => step,
            None => self.open_session(&known, false),
        };
        match step {
            FlowStep::Course(NextStep::To { hop, firewall }, passage) => {
                self.count_traffic(claim.bytes, [firewall_of(arrival), firewall], passage.as_ref());
                let is_error = claim.is_error;
                let rewrite = passage.and_then(|passage| match (passage.translation, passage.tunnel) {
                    (Some(translation), _) => {
                        Some(Rewrite::Translate(NatRewrite { translation, direction: passage.direction, is_error }))
                    }
                    (None, Some(carriage)) => Some(Rewrite::Encapsulate(carriage)),
                    (None, None) => None,
                });
                Disposition::Send { hop, rewrite }
            }
            FlowStep::Course(NextStep::Drop(reason), _) => Disposition::Drop(reason),
            FlowStep::Course(NextStep::End, _) => Disposition::Drop(DropReason::FirewallFailed),
            FlowStep::Local => Disposition::Local,
            FlowStep::Reopen => Disposition::Drop(DropReason::ServerFailed),
        }
    }

    /// Handles a packet of a known session and updates that. `None` if the session has ended meanwhile.
    pub(super) fn continue_session(&mut self, id: SessionId, known: &PacketContext<'_>) -> Option<FlowStep> {
        let PacketContext { packet: claim, snapshot, now, .. } = *known;
        let heard = self.sessions.table().update_with_placement(id, |key, session, bound| {
            let (transit, passage) = known.match_session(key, session, bound)?;
            let pins = Pins::of(session, transit.direction);
            let decision = decide(&transit, pins, snapshot, now);
            let was_active = session.is_active();
            let was_unanswered = session.is_unanswered();
            match decision.next_step {
                NextStep::To { .. } => {
                    decision.pins.store(session, transit.direction);
                    session.record_packet(transit.direction, claim.tcp.as_ref(), claim.bytes, now);
                }
                NextStep::Drop(_) | NextStep::End => {}
            }
            let turn = bound.copied().filter(|_| session.is_active() != was_active);
            if let (Some(bound), true) = (bound, was_unanswered) {
                observed::record_response(bound, session, transit.direction, claim.flow.family(), snapshot);
            }
            Ok::<_, SessionMismatch>((
                pins,
                decision,
                passage,
                transit.direction,
                turn.map(|bound| (bound, !was_active)),
            ))
        })?;
        let (before, decision, passage, direction, turn) = match heard {
            Ok(decided) => decided,
            Err(SessionMismatch::Unplaced) => {
                if let Some(removed) = self.sessions.close(id) {
                    self.account_end(&removed, EndReason::Expired, snapshot, now);
                }
                return None;
            }
            Err(unheard) => return Some(self.handle_mismatch(id, &unheard, known)),
        };
        if let Some((bound, is_active)) = turn
            && let Some((_, server)) = snapshot.services.server(bound.service, bound.server)
        {
            if is_active { server.state.resumed() } else { server.state.ended() }
        }
        match decision.next_step {
            NextStep::To { .. } => self.count_pins(before, &decision),
            NextStep::Drop(_) => {}
            NextStep::End => self.end_failed(id, direction, snapshot, now),
        }
        Some(FlowStep::Course(decision.next_step, passage))
    }

    /// Handles a packet that is not simply one of the session that was found.
    fn handle_mismatch(&mut self, id: SessionId, unheard: &SessionMismatch, known: &PacketContext<'_>) -> FlowStep {
        match unheard {
            SessionMismatch::Local | SessionMismatch::Unplaced => FlowStep::Local,
            SessionMismatch::Stranger => FlowStep::drop(DropReason::NatClash),
            SessionMismatch::Exhausted => FlowStep::drop(DropReason::TtlExpired),
            SessionMismatch::Fell(FailedServerAction::Drop) => FlowStep::drop(DropReason::ServerFailed),
            SessionMismatch::Fell(FailedServerAction::Reset) => {
                if let Some(removed) = self.sessions.close(id) {
                    let reason = services::server_end_reason(removed.placement.as_ref(), known.snapshot);
                    self.account_end(&removed, reason, known.snapshot, known.now);
                    self.reset_both_ends(&removed, known.snapshot);
                }
                FlowStep::drop(DropReason::ServerFailed)
            }
            SessionMismatch::Over => {
                if let Some(removed) = self.sessions.close(id) {
                    self.account_end(&removed, EndReason::Expired, known.snapshot, known.now);
                }
                FlowStep::Reopen
            }
            SessionMismatch::Fell(FailedServerAction::Reopen) => {
                if let Some(removed) = self.sessions.close(id) {
                    let reason = services::server_end_reason(removed.placement.as_ref(), known.snapshot);
                    self.account_end(&removed, reason, known.snapshot, known.now);
                }
                FlowStep::Reopen
            }
        }
    }

    /// Handles a packet that follows a known session and changes nothing of it.
    fn follow_session(&self, id: SessionId, known: &PacketContext<'_>) -> Option<FlowStep> {
        self.sessions.table().update_with_placement(id, |key, session, bound| {
            match known.match_session(key, session, bound) {
                Ok((transit, passage)) => {
                    let decision = decide(&transit, Pins::of(session, transit.direction), known.snapshot, known.now);
                    FlowStep::Course(decision.next_step, passage)
                }
                Err(SessionMismatch::Local | SessionMismatch::Unplaced) => FlowStep::Local,
                Err(SessionMismatch::Stranger) => FlowStep::drop(DropReason::NatClash),
                Err(SessionMismatch::Exhausted) => FlowStep::drop(DropReason::TtlExpired),
                Err(SessionMismatch::Fell(_) | SessionMismatch::Over) => FlowStep::drop(DropReason::ServerFailed),
            }
        })
    }

    /// Handles a packet without a session. `reopens` is true if its session has just ended because of its server.
    fn open_session(&mut self, known: &PacketContext<'_>, reopens: bool) -> FlowStep {
        let Endpoint { address, port } = known.packet.flow.destination;
        match (known.addressee, known.packet.relation) {
            (Addressee::Other, _) => self.open_routed_session(known),
            (Addressee::Engine | Addressee::Service, FlowRelation::Related) => FlowStep::Local,
            (Addressee::Engine | Addressee::Service, FlowRelation::Direct) => {
                match known.snapshot.services.find(address, known.packet.flow.protocol, port) {
                    Some(service) => self.open_at_service(service, known, reopens),
                    None => FlowStep::Local,
                }
            }
        }
    }

    /// Handles a packet without a session that belongs to no service.
    fn open_routed_session(&mut self, known: &PacketContext<'_>) -> FlowStep {
        let PacketContext { packet: claim, arrival, snapshot, now, .. } = *known;
        let transit = RoutedFlow::unchanged(claim.flow, arrival, claim.kind());
        let decision = decide(&transit, Pins::default(), snapshot, now);
        let course = FlowStep::Course(decision.next_step, None);
        let NextStep::To { .. } = decision.next_step else { return course };
        if services::is_stray_reply(&claim.flow, claim.kind(), arrival, snapshot) {
            return FlowStep::drop(DropReason::StrayReply);
        }
        let is_remembered = decision.pins != Pins::default() || services::has_service_endpoint(&claim.flow, snapshot);
        if !claim.may_open_session() || !is_remembered {
            return course;
        }
        if let Err(reason) = self.check_source_limits(known) {
            return FlowStep::drop(reason);
        }
        let (key, direction) = claim.flow.canonical();
        let mut session = Session::new(&key, direction, now);
        session.record_packet(direction, claim.tcp.as_ref(), claim.bytes, now);
        decision.pins.store(&mut session, direction);
        let protect = breaks_if_forgotten(&key, &session, snapshot);
        let harmless = |key: &CanonicalKey, session: &Session| is_reproducible(key, session, snapshot);
        let (opened, evicted) = self.sessions.open(&key, None, session, protect, harmless, now);
        self.account_evicted(evicted.as_ref(), snapshot, now);
        match opened {
            OpenResult::Inserted(_) => {
                self.count_opened(&decision);
                course
            }
            // Another worker was faster, and its session decides. If that has ended already, this packet is still sent.
            OpenResult::Existing(id) => self.continue_session(id, known).unwrap_or(course),
            OpenResult::Conflict => self.open_beside_service(known),
            OpenResult::Full => {
                self.counters.table_full += 1;
                course
            }
            OpenResult::OverShare => {
                self.counters.table_full += 1;
                self.refuse(claim.flow.source.address, OverLimit::Share);
                course
            }
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
        passage: Option<&ServiceAction>,
    ) {
        for firewall in firewalls.into_iter().flatten() {
            let counters = self.counters.firewall(firewall);
            counters.packets += 1;
            counters.bytes += bytes as u64;
        }
        match passage {
            Some(passage) => {
                self.counters.server(passage.server).count(passage.direction, bytes as u64);
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
    let transit = RoutedFlow::unchanged(key.in_direction(direction), Arrival::Near, PacketKind::Other);
    pinning::best(&decide::view_toward_destination(&transit, pin.set, snapshot))
}
