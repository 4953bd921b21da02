//! `fwlb probe` and `fwlb ping`: a single request at once, whose frames are shown to the operator.

use std::net::IpAddr;

use super::super::UnknownName;
use super::super::links::Links;
use super::super::outbox::Outbox;
use super::Paths;
use super::responder::ProbeAnswer;
use crate::config::PathCheckKind;
use crate::engine::route::FibEntry;
use crate::engine::view::{ExchangeStep, ExchangeView};
use crate::flow::{Endpoint, FlowKey};
use crate::health::prober::PathProber;
use crate::health::{PathCheck, monitor};
use crate::id::{FirewallId, LinkId};
use crate::path::rendezvous;
use crate::time::{Duration, Instant};
use crate::wire::emit::{AddressPair, MacPair};
use crate::wire::frame::{Tuple, protocol};
use crate::wire::{Family, MacAddr};

/// How long the engine waits for the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest number of exchanges at once. An operator who requests more is told to wait.
const EXCHANGES_MAX: usize = 256;
/// Why a ping failed that was never sent.
const NEXT_HOP_SILENT: &str = "the next hop does not answer ARP or ND";
const PING_DATA: &[u8] = b"ping by fwlb, the firewall load balancer";

/// A request that waits for its answer.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    request: u64,
    subject: String,
    started: Instant,
    pub(super) deadline: Instant,
    steps: Vec<ExchangeStep>,
    /// The request in words, while it waits for its next hop's MAC address.
    unsent: Option<String>,
    /// The address that the answer must come from.
    destination: IpAddr,
    /// The firewall that the answer must come through; `None` if any way will do.
    firewall: Option<FirewallId>,
    ident: u16,
    prober: PathProber,
}

impl Exchange {
    fn note(&mut self, direction: &str, what: String, now: Instant) {
        let at_us = u64::try_from(now.since(self.started).as_micros()).unwrap_or(u64::MAX);
        self.steps.push(ExchangeStep { at_us, direction: direction.to_owned(), what });
    }
}

/// How a ping or a check is sent: its link, its next hop, and the firewall that the next hop is.
type Route = (LinkId, IpAddr, Option<FirewallId>);

impl Paths {
    /// Probes every path of a firewall once. Returns the numbers of the requests.
    pub(in super::super) fn start_probes(
        &mut self,
        firewall: FirewallId,
        links: &mut Links,
        now: Instant,
        out: &mut Outbox,
    ) -> Vec<u64> {
        let of_firewall = |index: &usize| self.paths[*index].key.firewall == firewall;
        let paths: Vec<usize> = (0..self.paths.len()).filter(of_firewall).collect();
        paths.into_iter().map(|index| self.start_probe(index, links, now, out)).collect()
    }

    pub(in super::super) fn start_ping(
        &mut self,
        address: IpAddr,
        link: Option<LinkId>,
        firewall: Option<FirewallId>,
        links: &mut Links,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<u64, UnknownName> {
        if self.exchanges.len() >= EXCHANGES_MAX {
            return Err(UnknownName("too many pings and probes at once: try again in a second".to_owned()));
        }
        let ident = self.random.next_u64() as u16;
        let (link, next_hop, through) = self.next_hop_to(address, link, firewall, ident, links)?;
        let Some(source) = links.source_address(link, address) else {
            let name = &self.config.links[link.index()].name;
            let family = Family::of(address).name();
            return Err(UnknownName(format!("link {name} has no {family} address to ping from")));
        };
        let check = ping_check();
        let subject = match through {
            Some(firewall) => format!("{address} through {}", self.config.firewall_name(firewall)),
            None => format!("{address} on {}", self.config.links[link.index()].name),
        };
        let request = self.open_exchange(subject, (address, through), ident, &check, now, out);
        let macs = MacPair { source: links.state(link).mac, destination: MacAddr::default() };
        let Some(pair) = AddressPair::new(source, address) else { return Ok(request) };
        let Some(exchange) = self.exchanges.iter_mut().find(|exchange| exchange.request == request) else {
            return Ok(request);
        };
        let Some(bytes) = exchange.prober.send_probe(PING_DATA.to_vec(), Some((macs, pair)), 0, now) else {
            return Ok(request);
        };
        exchange.unsent = Some(format!("ICMP echo request {source} > {address}, next hop {next_hop}"));
        if !links.state(link).up {
            let reason = format!("link {} is down", self.config.links[link.index()].name);
            self.end_exchange(request, false, Some(reason), None, out);
            return Ok(request);
        }
        links.send_to((link, next_hop), bytes, Some(request), now);
        Ok(request)
    }

    /// The next hop of a ping has answered, and the ping was sent.
    pub(in super::super) fn handle_next_hop(&mut self, request: u64, mac: MacAddr, now: Instant) {
        let Some(exchange) = self.exchanges.iter_mut().find(|exchange| exchange.request == request) else { return };
        if let Some(what) = exchange.unsent.take() {
            exchange.note("sent", format!("{what} at {mac}"), now);
        }
    }

    /// The next hop of a ping does not answer: the ping has failed.
    pub(in super::super) fn handle_silent_next_hop(&mut self, request: u64, out: &mut Outbox) {
        self.end_exchange(request, false, Some(NEXT_HOP_SILENT.to_owned()), None, out);
    }

    /// Takes an ICMP error if it is about an exchange, which then has failed.
    pub(super) fn exchange_icmp_error(&mut self, quoted: &Tuple, from: IpAddr, out: &mut Outbox) -> bool {
        let refused = self
            .exchanges
            .iter()
            .find(|exchange| quoted.destination == exchange.destination && quoted.source_port == exchange.ident);
        if let Some(request) = refused.map(|exchange| exchange.request) {
            let reason = format!("{from} says that {} is unreachable", quoted.destination);
            self.end_exchange(request, false, Some(reason), None, out);
            return true;
        }
        false
    }

    /// Ends the exchanges that were not answered in time.
    pub(super) fn end_exchanges(&mut self, now: Instant, out: &mut Outbox) {
        let over = |exchange: &&Exchange| exchange.deadline <= now;
        let reason = |exchange: &Exchange| match exchange.unsent {
            Some(_) => NEXT_HOP_SILENT,
            None => "no answer",
        };
        let over: Vec<_> =
            self.exchanges.iter().filter(over).map(|exchange| (exchange.request, reason(exchange))).collect();
        for (request, reason) in over {
            self.end_exchange(request, false, Some(reason.to_owned()), None, out);
        }
    }

    pub(super) fn end_exchange(
        &mut self,
        request: u64,
        ok: bool,
        reason: Option<String>,
        rtt: Option<Duration>,
        out: &mut Outbox,
    ) {
        let Some(index) = self.exchanges.iter().position(|exchange| exchange.request == request) else { return };
        let Exchange { subject, steps, .. } = self.exchanges.remove(index);
        out.answer(request, exchange_view(&self.config.engine.name, subject, steps, (ok, reason, rtt)));
    }

    fn start_probe(&mut self, index: usize, links: &mut Links, now: Instant, out: &mut Outbox) -> u64 {
        let key = self.paths[index].key;
        let (link, next_hop, destination) = {
            let path = &self.paths[index];
            (path.link, path.next_hop, path.destination)
        };
        let group = self.config.firewalls[key.firewall.index()].group;
        let mut check = self.config.groups[group.index()].check.clone();
        let unprobed = check.kind == PathCheckKind::None;
        if unprobed {
            check.kind = PathCheckKind::Icmp;
        }
        let ident = self.random.next_u64() as u16;
        let subject = self.path_subject(key).to_string();
        let request = self.open_exchange(subject, (destination, Some(key.firewall)), ident, &check, now, out);
        if unprobed {
            let ok = self.paths[index].monitor.state() == monitor::HealthState::Up;
            let reason = format!("check kind is none: {next_hop} {}", if ok { "answers" } else { "does not answer" });
            self.end_exchange(request, ok, Some(reason), None, out);
            return request;
        }
        let Some(way) = links.addresses_to(link, next_hop, destination).filter(|_| links.state(link).up) else {
            let name = &self.config.links[link.index()].name;
            let reason = if links.state(link).up {
                format!("{next_hop} does not answer ARP or ND on {name}")
            } else {
                format!("link {name} is down")
            };
            self.end_exchange(request, false, Some(reason), None, out);
            return request;
        };
        let payload = self.probe_payload(key, now);
        let random = self.random.next_u64();
        let Some(exchange) = self.exchanges.iter_mut().find(|exchange| exchange.request == request) else {
            return request;
        };
        let what = format!("{} {} > {destination} to {}", kind_name(check.kind), way.1.source(), way.0.destination);
        if let Some(frame) = exchange.prober.send_probe(payload, Some(way), random, now) {
            exchange.note("sent", what, now);
            links.send(link, frame, out);
        }
        request
    }

    fn open_exchange(
        &mut self,
        subject: String,
        (destination, firewall): (IpAddr, Option<FirewallId>),
        ident: u16,
        check: &PathCheck,
        now: Instant,
        out: &mut Outbox,
    ) -> u64 {
        let request = out.new_request();
        if self.exchanges.len() >= EXCHANGES_MAX {
            let oldest = self.exchanges[0].request;
            self.end_exchange(oldest, false, Some("too many exchanges at once".to_owned()), None, out);
        }
        self.exchanges.push(Exchange {
            request,
            subject,
            started: now,
            deadline: now + ANSWER_TIMEOUT,
            steps: Vec::new(),
            unsent: None,
            destination,
            firewall,
            ident,
            prober: PathProber::new(check, ident, now),
        });
        request
    }

    /// Offers an answer from `from` to every exchange with that address: the one that it belongs to ends. `what` names the
    /// answer for the operator, and `firewall` brought it.
    pub(super) fn match_exchange(
        &mut self,
        (firewall, from): (Option<FirewallId>, IpAddr),
        what: &str,
        offer: &mut impl FnMut(&mut PathProber) -> Option<ProbeAnswer>,
        now: Instant,
        out: &mut Outbox,
    ) -> bool {
        let mut asked = self.exchanges.iter_mut().filter(|exchange| exchange.destination == from);
        let answered = asked.find_map(|exchange| offer(&mut exchange.prober).map(|answer| (exchange, answer)));
        let Some((exchange, ProbeAnswer { rtt, refusal })) = answered else { return false };
        let (request, expected) = (exchange.request, exchange.firewall);
        if let Some(refusal) = refusal {
            self.end_exchange(request, false, Some(refusal.to_owned()), Some(rtt), out);
            return true;
        }
        exchange.note("received", format!("{what} from {from}"), now);
        let straight = expected.is_none() || expected == firewall;
        let through = firewall.map_or_else(|| "no firewall".to_owned(), |firewall| self.config.firewall_name(firewall));
        let reason = (!straight).then(|| format!("the answer came back through {through}"));
        self.end_exchange(request, straight, reason, Some(rtt), out);
        true
    }

    pub(in super::super) fn next_hop_to(
        &self,
        address: IpAddr,
        link: Option<LinkId>,
        firewall: Option<FirewallId>,
        ident: u16,
        links: &Links,
    ) -> Result<Route, UnknownName> {
        let family = Family::of(address);
        if let Some(id) = firewall {
            return self.route_through(id, family);
        }
        if let Some(link) = link {
            if links.state(link).is_on_link(address) {
                return Ok((link, address, None));
            }
            return match links.route(address) {
                Some(FibEntry::Via(next_hop)) if next_hop.link == link => Ok((link, next_hop.address, None)),
                Some(FibEntry::Connected(_) | FibEntry::Via(_) | FibEntry::Group { .. }) | None => {
                    Ok((link, address, None))
                }
            };
        }
        match links.route(address) {
            Some(FibEntry::Connected(link)) => Ok((link, address, None)),
            Some(FibEntry::Via(next_hop)) => Ok((next_hop.link, next_hop.address, None)),
            Some(FibEntry::Group { set, preferred, .. }) => {
                let set = &self.liveness.sets()[set.index()];
                let group = &self.groups[set.group.index()];
                let end = |address| Endpoint { address, port: ident };
                let link = group.members.first().map(|member| self.config.firewalls[member.id.index()].link);
                let source = link.and_then(|link| links.source_address(link, address)).unwrap_or(address);
                let flow = FlowKey { protocol: protocol::icmp(family), source: end(source), destination: end(address) };
                let preferred = preferred.filter(|id| {
                    group.members.iter().position(|member| member.id == *id).is_some_and(|slot| set.is_up(slot))
                });
                let chosen = preferred.or_else(|| {
                    rendezvous::select(group, set.candidates(), group.hasher.flow_hash(&flow))
                        .map(|slot| group.members[slot].id)
                });
                let none = || UnknownName(format!("no firewall of {} is up toward {address}", group.name));
                self.route_through(chosen.ok_or_else(none)?, family)
            }
            None => Err(UnknownName(format!("no route to {address}"))),
        }
    }

    fn route_through(&self, id: FirewallId, family: Family) -> Result<Route, UnknownName> {
        let firewall = &self.config.firewalls[id.index()];
        let next_hop = firewall.addresses.iter().copied().find(|address| Family::of(*address) == family);
        let missing = || {
            let family = family.name();
            UnknownName(format!("firewall {} has no {family} address", self.config.firewall_name(id)))
        };
        Ok((firewall.link, next_hop.ok_or_else(missing)?, Some(id)))
    }
}

/// How an operator's request about `subject` ended: whether it succeeded, why not, and after what time.
pub(in super::super) fn exchange_view(
    engine: &str,
    subject: String,
    steps: Vec<ExchangeStep>,
    (ok, reason, rtt): (bool, Option<String>, Option<Duration>),
) -> ExchangeView {
    ExchangeView {
        engine: engine.to_owned(),
        subject,
        ok,
        reason,
        rtt_us: rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
        steps,
    }
}

fn ping_check() -> PathCheck {
    PathCheck {
        kind: PathCheckKind::Icmp,
        interval: ANSWER_TIMEOUT,
        timeout: ANSWER_TIMEOUT,
        fall: 1,
        rise: 1,
        hold: Duration::ZERO,
    }
}

fn kind_name(kind: PathCheckKind) -> &'static str {
    match kind {
        PathCheckKind::Icmp | PathCheckKind::None => "ICMP echo request",
        PathCheckKind::Tcp { .. } => "TCP SYN",
        PathCheckKind::Udp { .. } => "UDP probe",
    }
}
