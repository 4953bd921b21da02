//! Puts a decision into words as it is made: each step adds a sentence and fills in its part of the answer.

mod service;

use std::net::IpAddr;

use crate::engine::explain::pins::{change_text, labelled_pins};
use crate::engine::explain::{ArrivalPoint, ChosenMembers, Explanation};
use crate::engine::forwarder::{
    self, Addressee, Arrival, Decision, NextStep, Pins, RoutedFlow, view_toward_destination,
};
use crate::engine::route::{FibEntry, NextHop};
use crate::engine::view::{
    CandidateState, CandidateView, DecidedBy, EgressView, ExplainView, ExplainedSessionView, PinView,
};
use crate::engine::{DropReason, Snapshot};
use crate::flow::{FlowKey, HashMode, SourcePrefix, text};
use crate::id::{FirewallId, PathSetId};
use crate::neighbor::NeighborState;
use crate::path::pinning::{PacketKind, PinChange};
use crate::path::{AdminState, rendezvous};
use crate::session::{OverLimit, Session, SessionTable, Timeouts};
use crate::time::{Duration, Instant};

/// Collects the explanation of one flow.
pub(super) struct ExplanationBuilder<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) view: ExplainView,
    pub(super) chosen: ChosenMembers,
    /// Why this node drops what it would forward as the active one.
    refusal: Option<DropReason>,
}

impl<'a> ExplanationBuilder<'a> {
    pub(super) fn new(engine: &str, snapshot: &'a Snapshot, flow: &FlowKey) -> Self {
        let view = ExplainView {
            engine: engine.to_owned(),
            flow: text::format(flow),
            from: String::new(),
            decided_by: DecidedBy::default().into(),
            firewall: None,
            peer: None,
            pins: Vec::new(),
            candidates: Vec::new(),
            affinity: None,
            service: None,
            server: None,
            translation: None,
            egress: None,
            drop: None,
            active_node: None,
            session: None,
            servers: Vec::new(),
            what_if: Vec::new(),
            story: Vec::new(),
        };
        Self { snapshot, view, chosen: ChosenMembers::default(), refusal: None }
    }

    pub(super) fn add_sentence(&mut self, sentence: impl Into<String>) {
        self.view.story.push(sentence.into());
    }

    /// The explanation. What a node that is not active would do as the active one stands in it beside its drop reason.
    pub(super) fn finish(mut self) -> Explanation {
        if let Some(reason) = self.refusal {
            self.mark_dropped(reason);
        }
        Explanation { view: self.view, chosen: self.chosen }
    }

    /// This node drops the packet because another one is active, or may be. What follows is told of it as the active
    /// one.
    pub(super) fn not_active(&mut self, reason: DropReason) {
        self.add_sentence(if reason == DropReason::Lease {
            "This node was active until its lease ended: it sent no hello in time, and another may have taken over."
        } else {
            "This node is not the active one of its cluster."
        });
        self.add_sentence(format!("It drops the packet and counts it as {}.", reason.name()));
        self.add_sentence("As the active node it would do the following.");
        self.refusal = Some(reason);
    }

    pub(super) fn finish_dropped(mut self, reason: DropReason) -> Explanation {
        self.drop(reason);
        self.finish()
    }

    pub(super) fn drop(&mut self, reason: DropReason) {
        self.add_sentence(format!("It is dropped and counted as {}.", reason.name()));
        self.mark_dropped(reason);
    }

    fn mark_dropped(&mut self, reason: DropReason) {
        self.view.drop = Some(reason.name().to_owned());
        self.view.decided_by = DecidedBy::Drop.into();
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
        self.view.decided_by = DecidedBy::Local.into();
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
    pub(super) fn check_stray_reply(&mut self, routed: &RoutedFlow) -> Result<(), DropReason> {
        let is_stray = |kind| forwarder::is_stray_reply(&routed.ingress_flow, kind, routed.arrival, self.snapshot);
        let (first, others) = (is_stray(routed.kind), is_stray(PacketKind::Other));
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
    pub(super) fn candidates(&mut self, routed: &RoutedFlow, decision: &Decision) {
        let back = routed.reversed();
        let onward = decision.pins.toward_destination.map(|pin| pin.set).or_else(|| self.routed_set(routed));
        let (routed, set) = match (onward, decision.pins.toward_source) {
            (Some(set), _) => (routed, set),
            (None, Some(pin)) => (&back, pin.set),
            (None, None) => return,
        };
        let view = view_toward_destination(routed, set, self.snapshot);
        if let Some(rule) = view.group.hasher.affinity(&routed.egress_flow) {
            self.view.affinity = Some(rule.prefix.to_string());
            self.add_sentence(format!(
                "An end is in {}, whose affinity has the flow hashed by {}.",
                rule.prefix,
                hashed_fields(rule.mode)
            ));
        }
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
    fn route_preference(&self, routed: &RoutedFlow) -> Option<FirewallId> {
        match self.snapshot.routes.lookup(routed.route_to)? {
            FibEntry::Group { set: _, preferred, bypass: _ } => preferred,
            FibEntry::Connected(_) | FibEntry::Via(_) => None,
        }
    }

    pub(super) fn routed_set(&self, routed: &RoutedFlow) -> Option<PathSetId> {
        match self.snapshot.routes.lookup(routed.route_to)? {
            FibEntry::Group { set, preferred: _, bypass: _ } => Some(set),
            FibEntry::Connected(_) | FibEntry::Via(_) => None,
        }
    }

    pub(super) fn decision(&mut self, routed: &RoutedFlow, before: Pins, decision: &Decision, has_session: bool) {
        let wished = self.route_preference(routed);
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
        let is_routed_into_a_group = self.routed_set(routed).is_some();
        self.view.decided_by = match (firewall, before.toward_destination, routed.arrival) {
            (Some(taken), Some(pin), _) if pin.firewall == taken => DecidedBy::Session,
            (Some(_), None, _) if is_wish => DecidedBy::Route,
            (Some(_), _, _) => DecidedBy::Hash,
            (None, _, _) if is_routed_into_a_group => DecidedBy::Bypass,
            (None, _, Arrival::Firewall(_)) if has_session => DecidedBy::Session,
            (None, _, Arrival::Firewall(_)) => DecidedBy::Learned,
            (None, _, Arrival::Near) => DecidedBy::Route,
        }
        .into();
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

/// The fields of a flow that enter its hash, in words.
fn hashed_fields(mode: HashMode) -> &'static str {
    match mode {
        HashMode::FiveTuple => "addresses, ports and protocol",
        HashMode::ThreeTuple => "addresses and protocol",
        HashMode::Addresses => "its two addresses alone",
        HashMode::Source => "its near address alone",
        HashMode::Destination => "its far address alone",
    }
}
