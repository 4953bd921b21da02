//! Puts a decision into words as it is made: each step adds a sentence and fills in its part of the answer.

use std::net::IpAddr;

use crate::engine::explain::pins::{change_text, labelled_pins};
use crate::engine::explain::{ArrivalPoint, ChosenMembers, ExplainedSession, Explanation};
use crate::engine::forwarder::{
    self, Addressee, Arrival, Decision, NextStep, Pins, RoutedFlow, ServerLiveness, ServiceAction,
    view_toward_destination,
};
use crate::engine::route::{FibEntry, NextHop};
use crate::engine::view::{
    CandidateState, CandidateView, EgressView, ExplainView, ExplainedSessionView, PinView, ServerCandidateView,
};
use crate::engine::{DropReason, Snapshot};
use crate::flow::{Endpoint, FlowKey, SourcePrefix, text};
use crate::id::{FirewallId, PathSetId};
use crate::neighbor::NeighborState;
use crate::path::pinning::{PacketKind, PinChange};
use crate::path::{AdminState, OnFailure, rendezvous};
use crate::session::{OverLimit, Placement, Session, SessionTable, Timeouts};
use crate::slb::{self, ForwardingMode, Server, Service};
use crate::time::{Duration, Instant};
use crate::wire::Family;
use crate::wire::frame::protocol;

/// Collects the explanation of one flow.
pub(super) struct ExplanationBuilder<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) view: ExplainView,
    pub(super) chosen: ChosenMembers,
}

impl<'a> ExplanationBuilder<'a> {
    pub(super) fn new(engine: &str, snapshot: &'a Snapshot, flow: &FlowKey) -> Self {
        let view = ExplainView {
            engine: engine.to_owned(),
            flow: text::format(flow),
            from: String::new(),
            decided_by: String::new(),
            firewall: None,
            peer: None,
            pins: Vec::new(),
            candidates: Vec::new(),
            service: None,
            server: None,
            translation: None,
            egress: None,
            drop: None,
            session: None,
            servers: Vec::new(),
            what_if: Vec::new(),
            story: Vec::new(),
        };
        Self { snapshot, view, chosen: ChosenMembers::default() }
    }

    pub(super) fn add_sentence(&mut self, sentence: impl Into<String>) {
        self.view.story.push(sentence.into());
    }

    pub(super) fn finish(self) -> Explanation {
        Explanation { view: self.view, chosen: self.chosen }
    }

    pub(super) fn finish_dropped(mut self, reason: DropReason) -> Explanation {
        self.drop(reason);
        self.finish()
    }

    pub(super) fn drop(&mut self, reason: DropReason) {
        self.add_sentence(format!("It is dropped and counted as {}.", reason.name()));
        self.view.drop = Some(reason.name().to_owned());
        self.view.decided_by = "drop".to_owned();
    }

    pub(super) fn finish_local(mut self, address: IpAddr, addressee: Addressee) -> Explanation {
        self.add_sentence(match addressee {
            Addressee::Service => {
                format!("{address} is a virtual address; no service has this port, so the controller takes the packet.")
            }
            Addressee::Engine | Addressee::Other => {
                format!("{address} is an address of the engine itself, so its controller takes the packet.")
            }
        });
        self.view.decided_by = "local".to_owned();
        self.finish()
    }

    /// Whether the source of a flow that begins may have another session.
    pub(super) fn check_source_limits(
        &mut self,
        flow: &FlowKey,
        sessions: &SessionTable,
        now: Instant,
    ) -> Result<(), DropReason> {
        let limits = &self.snapshot.source_limits;
        let (source, sources) = (flow.source.address, sessions.sources());
        let Err(why) = sources.would_admit(source, limits, sessions.len(), now) else { return Ok(()) };
        let held = sources.sessions_of(source, sessions.len());
        let limit = |limit: Option<u32>| limit.map_or_else(String::new, |limit| limit.to_string());
        self.add_sentence(match why {
            OverLimit::Sessions => {
                let limit = limit(limits.sessions);
                format!("Its source {} has {held} sessions; source-sessions is {limit}.", SourcePrefix::of(source))
            }
            OverLimit::Rate => {
                let limit = limit(limits.rate);
                format!("Its source {} opens more than source-rate = {limit} a second.", SourcePrefix::of(source))
            }
            OverLimit::Share => {
                format!("Its source {} has {held} sessions, more than its share.", SourcePrefix::of(source))
            }
        });
        Err(forwarder::refusal_reason(why))
    }

    /// The server that a service would give to the first packet of a flow.
    pub(super) fn choose_server(
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
        let fall = server.failure_counts[slb::family_index(flow.family())];
        let bound = Placement { service: service.id, server: server.id, server_falls: fall, inside };
        self.add_sentence(format!("Service {} would give it to server {}.", service.name, server.name));
        self.view.server = Some(server.name.clone());
        let kind = if flow.protocol == protocol::TCP { PacketKind::Syn } else { PacketKind::Other };
        Ok(forwarder::first_routed_flow(*flow, &bound, arrival, kind, self.snapshot))
    }

    pub(super) fn service(&mut self, service: &Service) {
        self.view.service = Some(service.name.clone());
        self.view.servers = service.servers.iter().map(server_view).collect();
    }

    /// The server of a live session, and whether the session stays there.
    pub(super) fn server_of_session(&mut self, known: Option<&ExplainedSession>) -> Result<(), DropReason> {
        let Some((known, bound)) = known.and_then(|known| Some((known, known.bound.as_ref()?))) else { return Ok(()) };
        if let Some((service, server)) = self.snapshot.services.server(bound.service, bound.server) {
            self.chosen.server = Some((bound.service, bound.server));
            self.service(service);
            self.view.server = Some(server.name.clone());
            self.add_sentence(format!("Service {} gave it to server {}.", service.name, server.name));
        }
        match forwarder::server_liveness(bound, &known.key, known.session.class, self.snapshot) {
            ServerLiveness::Serves | ServerLiveness::Fell(OnFailure::Keep) => Ok(()),
            ServerLiveness::Fell(OnFailure::Reselect) => {
                self.add_sentence("That server failed: the client's next packet takes another one.");
                Ok(())
            }
            ServerLiveness::Fell(OnFailure::Reset | OnFailure::Drop) => {
                self.add_sentence("That server failed, and on-failure ends such sessions or drops their packets.");
                Err(DropReason::ServerFailed)
            }
        }
    }

    /// How the packet is translated, or put into a tunnel.
    pub(super) fn service_action(&mut self, transit: &RoutedFlow, passage: Option<&ServiceAction>) {
        if passage.is_some_and(|passage| passage.translation.is_some()) {
            let leaving = text::format(&transit.egress_flow);
            self.add_sentence(format!("It leaves as {leaving}."));
            self.view.translation = Some(leaving);
        }
        if let Some(outer) = passage.and_then(|passage| self.outer_flow(transit, passage)) {
            let outer = text::format(&outer);
            self.add_sentence(format!(
                "It leaves as it is, inside a packet of the flow {outer}, which the server unpacks."
            ));
            self.add_sentence("The answers pass this engine by.");
            self.view.translation = Some(outer);
        }
    }

    /// The source port that the server sees, if it differs from the client's because another flow has that one.
    pub(super) fn translated_port(
        &mut self,
        transit: &RoutedFlow,
        passage: Option<&ServiceAction>,
        has_session: bool,
        sessions: &SessionTable,
    ) {
        if has_session {
            let legs =
                passage.and_then(|passage| passage.translation).map(|legs| (legs.outside.source, legs.inside.source));
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
        let (answers, direction) = transit.egress_flow.reversed().canonical();
        if sessions.find_by_direction(&answers, direction).is_some() {
            let Endpoint { address, port } = transit.egress_flow.source;
            self.add_sentence(format!(
                "The server has another flow from port {port} of {address}: a free port of the same class will stand for it; it \
                 is shown as its own."
            ));
        }
    }

    /// The flow of the outer packet, if the packet goes into a tunnel.
    pub(super) fn outer_flow(&self, transit: &RoutedFlow, passage: &ServiceAction) -> Option<FlowKey> {
        let carriage = passage.tunnel?;
        let (_, server) = self.snapshot.services.server(carriage.service, carriage.server)?;
        let destination = server.address(transit.ingress_flow.family())?;
        let end = |address| Endpoint { address, port: 0 };
        let source = forwarder::egress_address(destination, self.snapshot)?;
        let protocol = match transit.ingress_flow.family() {
            Family::V4 => protocol::IPV4,
            Family::V6 => protocol::IPV6,
        };
        Some(FlowKey { protocol, source: end(source), destination: end(destination) })
    }

    /// Where the packet comes from; `Err` if packets from there are dropped.
    pub(super) fn arrival(&mut self, from: Option<ArrivalPoint>) -> Result<Arrival, DropReason> {
        match from {
            Some(ArrivalPoint::Firewall(firewall)) => {
                let name = self.firewall_name(firewall);
                self.add_sentence(format!("The packet arrives from firewall {name}."));
                self.view.from = name;
                Ok(Arrival::Firewall(firewall))
            }
            Some(ArrivalPoint::Link(number)) => {
                let link = &self.snapshot.links[number.index()];
                let (name, learn_all, is_far) = (link.name.clone(), link.sole_firewall, link.has_firewalls);
                self.view.from = name.clone();
                self.add_sentence(format!("The packet arrives on link {name}."));
                match learn_all {
                    Some(firewall) => {
                        let firewall_name = self.firewall_name(firewall);
                        self.add_sentence(format!("All that arrives there comes from firewall {firewall_name}."));
                        Ok(Arrival::Firewall(firewall))
                    }
                    None if is_far => {
                        self.add_sentence("Firewalls stand on that link, and the packet is from none of them.");
                        Err(DropReason::UnknownFirewall)
                    }
                    None => Ok(Arrival::Near),
                }
            }
            None => {
                self.view.from = "unknown".to_owned();
                self.add_sentence(
                    "Its source is routed nowhere; the packet is taken to arrive on a link without firewalls.",
                );
                Ok(Arrival::Near)
            }
        }
    }

    pub(super) fn session(&mut self, session: Option<&Session>, timeouts: &Timeouts, pins: Pins, now: Instant) {
        let Some(session) = session else {
            return self.add_sentence("No session of this flow is known.");
        };
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let age = now.since(session.created);
        self.add_sentence(format!(
            "A session of this flow is known: {}, opened {} s ago.",
            session.state.name(),
            age.as_secs()
        ));
        self.view.session = Some(ExplainedSessionView {
            state: session.state.shown().into(),
            age_ms: millis(age),
            idle_ms: millis(now.since(session.last_seen)),
            expires_ms: millis(session.expires(timeouts).since(now)),
            packets: session.packets,
        });
        for (pin, end) in labelled_pins(&pins) {
            let pin = PinView::new(pin, end, self.snapshot);
            self.add_sentence(format!(
                "Toward the {end} it is pinned to {}/{}: by {}, {}.",
                pin.group, pin.firewall, pin.pinned_by, pin.state
            ));
        }
    }

    /// Says if packets of a flow without a session are dropped because a server of a service sent them; `Err` if that
    /// holds for the first packet too.
    pub(super) fn check_stray_reply(&mut self, transit: &RoutedFlow) -> Result<(), DropReason> {
        let is_stray = |kind| forwarder::is_stray_reply(&transit.ingress_flow, kind, transit.arrival, self.snapshot);
        let (first, others) = (is_stray(transit.kind), is_stray(PacketKind::Other));
        if others {
            self.add_sentence("A server of a service speaks there, and no session has its replies.");
        }
        if first {
            return Err(DropReason::StrayReply);
        }
        if others {
            self.add_sentence(format!("What is no SYN is dropped and counted as {}.", DropReason::StrayReply.name()));
        }
        Ok(())
    }

    pub(super) fn route(&mut self, destination: IpAddr) {
        let sentence = match self.snapshot.routes.lookup(destination) {
            None => format!("No route leads to {destination}."),
            Some(FibEntry::Connected(link)) => {
                format!("{destination} is on link {}.", self.snapshot.links[link.index()].name)
            }
            Some(FibEntry::Via(NextHop { link, address })) => {
                let link = &self.snapshot.links[link.index()].name;
                format!("The longest prefix that holds {destination} leads to {address} on link {link}.")
            }
            Some(FibEntry::Group { set, preferred, bypass: _ }) => {
                let set = &self.snapshot.path_sets[set.index()];
                let group = &self.snapshot.groups[set.group.index()].name;
                let peer = set.peer.and_then(|peer| self.snapshot.peers.get(peer.index()));
                self.view.peer = peer.cloned();
                let toward = peer.map_or("every peer".to_owned(), |peer| format!("peer {peer}"));
                let wish = preferred.map(|firewall| self.firewall_name(firewall));
                let wish = wish.map_or(String::new(), |name| format!(", and prefers {name}"));
                format!(
                    "The longest prefix that holds {destination} leads through group {group} toward {toward}{wish}."
                )
            }
        };
        self.add_sentence(sentence);
    }

    /// The firewalls that the flow could take, in the order of the hash.
    pub(super) fn candidates(&mut self, transit: &RoutedFlow, decision: &Decision) {
        let back = transit.reversed();
        let onward = decision.pins.toward_destination.map(|pin| pin.set).or_else(|| self.routed_set(transit));
        let (transit, set) = match (onward, decision.pins.toward_source) {
            (Some(set), _) => (transit, set),
            (None, Some(pin)) => (&back, pin.set),
            (None, None) => return,
        };
        let view = view_toward_destination(transit, set, self.snapshot);
        let ranked = rendezvous::rank(view.group, view.hash).into_iter().map(|scored| {
            let member = &view.group.members[scored.slot];
            let firewall = &self.snapshot.firewalls[member.id.index()];
            let bit = 1 << scored.slot;
            let state = match firewall.admin {
                AdminState::Maint => CandidateState::Maint,
                AdminState::Drain => CandidateState::Drain,
                AdminState::Ready if view.set.up & bit != 0 => CandidateState::Up,
                AdminState::Ready if view.set.starting & bit != 0 => CandidateState::Starting,
                AdminState::Ready => CandidateState::Down,
            };
            CandidateView {
                name: member.name.clone(),
                state: state.into(),
                weight: member.weight,
                spare: member.spare,
                score: scored.score,
            }
        });
        self.view.candidates = ranked.collect();
    }

    /// The firewall that the route of the destination names.
    fn route_preference(&self, transit: &RoutedFlow) -> Option<FirewallId> {
        match self.snapshot.routes.lookup(transit.route_to)? {
            FibEntry::Group { set: _, preferred, bypass: _ } => preferred,
            FibEntry::Connected(_) | FibEntry::Via(_) => None,
        }
    }

    pub(super) fn routed_set(&self, transit: &RoutedFlow) -> Option<PathSetId> {
        match self.snapshot.routes.lookup(transit.route_to)? {
            FibEntry::Group { set, preferred: _, bypass: _ } => Some(set),
            FibEntry::Connected(_) | FibEntry::Via(_) => None,
        }
    }

    pub(super) fn decision(&mut self, transit: &RoutedFlow, before: Pins, decision: &Decision, has_session: bool) {
        let wished = self.route_preference(transit);
        let takes_wish = |course: &NextStep| matches!(course, NextStep::To { firewall, .. } if firewall.is_some() && *firewall == wished);
        let is_wish = takes_wish(&decision.next_step);
        for change in &decision.changes {
            match change {
                PinChange::Hashed if is_wish => {
                    self.add_sentence(
                        "The route names this firewall, and it takes new flows: it goes before the hash.",
                    );
                }
                PinChange::Hashed if wished.is_some() => {
                    self.add_sentence(
                        "The firewall that the route names takes no new flows now, so that the hash decides.",
                    );
                }
                other => self.add_sentence(change_text(*other)),
            }
        }
        if decision.asymmetric {
            self.add_sentence("It comes from another firewall than the one that its flow is pinned to.");
        }
        let (hop, firewall) = match decision.next_step {
            NextStep::Drop(reason) => return self.drop(reason),
            NextStep::EndSession => {
                self.add_sentence("The firewall of its session failed, and on-failure ends such sessions.");
                return self.drop(DropReason::FirewallFailed);
            }
            NextStep::To { hop, firewall } => (hop, firewall),
        };
        let taken = firewall.or(decision.pins.toward_source.map(|pin| pin.firewall));
        self.chosen.firewall = taken;
        self.chosen.is_on_source_side = firewall.is_none();
        self.view.firewall = taken.map(|firewall| self.snapshot.firewalls[firewall.index()].name.clone());
        self.view.pins =
            labelled_pins(&decision.pins).map(|(pin, end)| PinView::new(pin, end, self.snapshot)).collect();
        let is_routed_into_a_group = self.routed_set(transit).is_some();
        self.view.decided_by = match (firewall, before.toward_destination, transit.arrival) {
            (Some(taken), Some(pin), _) if pin.firewall == taken => "session",
            (Some(_), None, _) if is_wish => "route",
            (Some(_), _, _) => "hash",
            (None, _, _) if is_routed_into_a_group => "bypass",
            (None, _, Arrival::Firewall(_)) if has_session => "session",
            (None, _, Arrival::Firewall(_)) => "learned",
            (None, _, Arrival::Near) => "route",
        }
        .to_owned();
        self.egress(hop, firewall);
    }

    pub(super) fn egress(&mut self, hop: NextHop, firewall: Option<FirewallId>) {
        let link = &self.snapshot.links[hop.link.index()];
        let (name, is_up) = (link.name.clone(), link.up);
        let mac = self.snapshot.neighbor(hop.link, hop.address);
        let to = match firewall {
            Some(firewall) => format!("firewall {} at {}", self.firewall_name(firewall), hop.address),
            None => hop.address.to_string(),
        };
        let station = mac.map_or("whose hardware address is not known yet".to_owned(), |mac| mac.to_string());
        self.view.egress = Some(EgressView {
            link: name.clone(),
            next_hop: Some(hop.address.to_string()),
            mac: mac.map(|mac| mac.to_string()),
            neighbor: mac.map(|_| NeighborState::Reachable.into()),
        });
        self.add_sentence(format!("It leaves by link {name} to {to} ({station})."));
        if !is_up {
            self.add_sentence(format!("Link {name} is down."));
            self.drop(DropReason::LinkDown);
        }
    }

    pub(super) fn firewall_name(&self, firewall: FirewallId) -> String {
        let firewall = &self.snapshot.firewalls[firewall.index()];
        format!("{}/{}", self.snapshot.groups[firewall.group.index()].name, firewall.name)
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
