//! Detects other stations that claim addresses of the engine. Each claim is answered and reported, and the engine
//! probes for its own addresses from time to time.
//!
//! An engine never gives an address up (RFC 5227 section 2.4 c: a router need not). It answers a claim with an
//! announcement, at most one in [`DEFEND_INTERVAL`] for each address, and raises the alarm `duplicate_address`. A
//! station that only answers for an address, as a server does whose virtual address is not hidden, is noticed only by
//! stations that send a request. So the engine probes for its own addresses in turn, as a station does before it takes
//! an address: by an ARP probe (RFC 5227 section 2.1.1), or a solicitation from the unspecified address (RFC 4862
//! section 5.4.2), which receivers do not enter in their caches.
//!
//! If the claimed address is that of a firewall, a server or a next hop, the neighbour table decides whether that
//! neighbour moves (see [`crate::neighbor`]). A move is an event `neighbor`, a refused claim raises the alarm
//! `neighbor_claimed`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::outbox::Outbox;
use super::super::tally::Tally;
use super::Links;
use crate::config::{ForwardingMode, RouteTarget};
use crate::engine::change::{Alarm, StateChange, Subject};
use crate::engine::route::FibEntry;
use crate::engine::view::{AlarmKind, EventKind};
use crate::id::{LinkId, ServerId};
use crate::neighbor::NeighborKey;
use crate::random::SplitMix64;
use crate::time::{Duration, Instant};
use crate::wire::{MacAddr, arp, ndp};

/// Time between two announcements that defend one address (RFC 5227 section 1.1).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest time between two reports about different stations that claim one address, because it takes a search to
/// describe a station.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Every address of a link is probed once in this time, unless the link has so many that the probes would be too
/// frequent.
const PROBE_ROUND: Duration = Duration::from_secs(30);
/// The shortest time between two probes on a link.
const PROBE_SPACING_MIN: Duration = Duration::from_millis(100);
/// A claim of a neighbour's address that was not repeated for this time is over.
const REFUSED_CLAIM_LIFETIME: Duration = Duration::from_secs(75);
/// The first probe is sent when the link has been announced.
const FIRST_PROBE_DELAY: Duration = Duration::from_secs(3);

/// The claims that were received on one link.
#[derive(Debug, Clone, Default)]
pub(super) struct Duplicates {
    /// The stations that claim addresses of the engine, by address.
    claims: BTreeMap<IpAddr, DuplicateClaim>,
    /// Configured neighbours whose address another station claimed, with the time.
    refused_claims: BTreeMap<IpAddr, Instant>,
    /// When the next address is probed, and its index in the order of the link.
    next: Option<(Instant, usize)>,
}

#[derive(Debug, Clone, Copy)]
struct DuplicateClaim {
    mac: MacAddr,
    last_seen: Instant,
    last_defended: Instant,
    last_reported: Instant,
}

impl Duplicates {
    /// Begins to probe: the link carries frames, or has other addresses.
    pub(super) fn begin(&mut self, random: &mut SplitMix64, now: Instant) {
        self.next = Some((now + jittered(FIRST_PROBE_DELAY, random), 0));
    }

    /// Stops probing: the link carries no frames.
    pub(super) fn pause(&mut self) {
        self.next = None;
    }

    /// When a probe is due, or a claim ends that was not repeated. `addresses` is how many the link has.
    pub(super) fn poll_timeout(&self, addresses: usize) -> Option<Instant> {
        let ends = self.claims.values().map(|claim| claim.last_seen + claim_lifetime(addresses));
        let refused = self.refused_claims.values().map(|claimed| *claimed + REFUSED_CLAIM_LIFETIME);
        ends.chain(refused).chain(self.next.map(|(due, _)| due)).min()
    }
}

/// Time between two probes on a link with so many addresses.
fn probe_spacing(addresses: usize) -> Duration {
    (PROBE_ROUND / u32::try_from(addresses.max(1)).unwrap_or(u32::MAX)).max(PROBE_SPACING_MIN)
}

/// How long a claim counts: one probe may be lost.
fn claim_lifetime(addresses: usize) -> Duration {
    probe_spacing(addresses) * u32::try_from(addresses.max(1)).unwrap_or(u32::MAX) * 5 / 2
}

/// Between three quarters of `duration` and all of it, so that engines that started together do not send together.
fn jittered(duration: Duration, random: &mut SplitMix64) -> Duration {
    duration * 3 / 4 + duration / 4 * (random.next_u64() % 256) as u32 / 256
}

impl Links {
    /// Probes own addresses where that is due, and clears the alarms about addresses that nobody claimed for a while.
    pub(super) fn watch_duplicates(&mut self, now: Instant, out: &mut Outbox) {
        for index in 0..self.states.len() {
            let own: Vec<IpAddr> = match self.states[index].poll_duplicates() {
                Some(due) if due <= now => self.states[index].answered_addresses().collect(),
                Some(_) | None => continue,
            };
            let state = &mut self.states[index].duplicates;
            let is_over = |address: &IpAddr, claim: &DuplicateClaim| {
                !own.contains(address) || now.since(claim.last_seen) >= claim_lifetime(own.len())
            };
            let over: Vec<IpAddr> = state
                .claims
                .iter()
                .filter(|(address, claim)| is_over(address, claim))
                .map(|(address, _)| *address)
                .collect();
            for address in &over {
                state.claims.remove(address);
            }
            let refused: Vec<IpAddr> = state
                .refused_claims
                .iter()
                .filter(|(_, at)| now.since(**at) >= REFUSED_CLAIM_LIFETIME)
                .map(|(address, _)| *address)
                .collect();
            state.refused_claims.retain(|address, _| !refused.contains(address));
            let due = state.next.filter(|(due, _)| *due <= now).map(|(_, number)| number);
            if let Some(number) = due {
                let number = number % own.len().max(1);
                state.next = Some((now + jittered(probe_spacing(own.len()), &mut self.random), number + 1));
                if let Some(address) = own.get(number) {
                    self.probe_own_address(index.into(), *address, out);
                }
            }
            for address in over {
                let alarm = self.duplicate_alarm(index.into(), address);
                out.clear_alarm(&alarm, now);
            }
            for address in refused {
                let alarm = self.claimed_alarm(index.into(), address);
                out.clear_alarm(&alarm, now);
            }
        }
    }

    /// Reports that a neighbour has another MAC address, if the neighbour is configured.
    pub(super) fn report_moved(&mut self, (link, address): NeighborKey, from: MacAddr, to: MacAddr, out: &mut Outbox) {
        if let Some(who) = self.configured_neighbor(link, address) {
            let subject = Subject::neighbor(&self.config, link, address);
            let reason = format!("{who} does not answer at {from} any more");
            let change = StateChange::to(EventKind::Neighbor, subject, to.to_string()).from(from.to_string());
            out.report_change(change.because(reason));
        }
    }

    /// Reports that another station claimed the address of a neighbour that still answers, if the neighbour is
    /// configured.
    pub(super) fn report_refused_claim(
        &mut self,
        (link, address): NeighborKey,
        at: MacAddr,
        claimed: MacAddr,
        now: Instant,
        out: &mut Outbox,
    ) {
        if let Some(who) = self.configured_neighbor(link, address) {
            self.states[link.index()].duplicates.refused_claims.insert(address, now);
            let reason = format!("{address} of {who} is claimed by {claimed}, and answers at {at}: it stays there");
            let alarm = self.claimed_alarm(link, address);
            out.raise_alarm(alarm, reason, now);
        }
    }

    fn claimed_alarm(&self, link: LinkId, address: IpAddr) -> Alarm {
        Alarm { kind: AlarmKind::NeighborClaimed, subject: Subject::neighbor(&self.config, link, address) }
    }

    /// What the configuration calls a neighbour: a firewall, a server or the next hop of a route. `None` if it is not
    /// configured.
    fn configured_neighbor(&self, link: LinkId, address: IpAddr) -> Option<String> {
        let firewall = self.config.firewall_ids().find(|id| {
            let firewall = &self.config.firewalls[id.index()];
            firewall.link == link && firewall.addresses.contains(&address)
        });
        let firewall = || firewall.map(|id| format!("firewall {}", self.config.firewall_name(id)));
        let server = || {
            let is_here = self.routes.lookup(address) == Some(FibEntry::Connected(link));
            let is_it = |id: &ServerId| self.config.servers[id.index()].addresses.contains(&address);
            let server = self.config.server_ids().filter(|_| is_here).find(is_it);
            server.map(|id| format!("server {}", self.config.server_name(id)))
        };
        let gateway = || {
            let mut routes = self.config.routes.iter();
            let is_it = routes.any(|route| match route.target {
                RouteTarget::Via { link: on, via } => (on, via) == (link, address),
                RouteTarget::Group { bypass, .. } => bypass == Some((link, address)),
            });
            is_it.then(|| "the next hop of a route".to_owned())
        };
        firewall().or_else(server).or_else(gateway)
    }

    /// Handles the claim of another station to an address of the engine: the address is defended, and the operator is
    /// told.
    pub(super) fn handle_conflict(
        &mut self,
        link: LinkId,
        address: IpAddr,
        mac: MacAddr,
        now: Instant,
        out: &mut Outbox,
    ) {
        out.count(Tally::Conflicts);
        let state = &mut self.states[link.index()];
        let known = state.duplicates.claims.get(&address).copied();
        let defends = known.is_none_or(|claim| now.since(claim.last_defended) >= DEFEND_INTERVAL);
        let is_news = known.is_none_or(|claim| claim.mac != mac && now.since(claim.last_reported) >= REPORT_INTERVAL);
        let defended = known.filter(|_| !defends).map_or(now, |claim| claim.last_defended);
        let told = known.filter(|_| !defends && !is_news).map_or(now, |claim| claim.last_reported);
        state
            .duplicates
            .claims
            .insert(address, DuplicateClaim { mac, last_seen: now, last_defended: defended, last_reported: told });
        if defends || is_news {
            let alarm = self.duplicate_alarm(link, address);
            let reason = self.duplicate_reason(link, address, mac);
            out.raise_alarm(alarm, reason, now);
        }
        if defends {
            self.announce_address(link, address, out);
        }
    }

    fn probe_own_address(&mut self, link: LinkId, address: IpAddr, out: &mut Outbox) {
        let mac = self.states[link.index()].mac_of(address);
        let frame = match address {
            IpAddr::V4(address) => arp::probe(mac, address),
            IpAddr::V6(address) => ndp::duplicate_address_probe(mac, address),
        };
        self.send(link, frame, out);
    }

    fn duplicate_alarm(&self, link: LinkId, address: IpAddr) -> Alarm {
        Alarm { kind: AlarmKind::DuplicateAddress, subject: Subject::neighbor(&self.config, link, address) }
    }

    /// Describes which station claims the address, and what an operator can do about it there.
    fn duplicate_reason(&self, link: LinkId, address: IpAddr, mac: MacAddr) -> String {
        let is_it = |of: &IpAddr| self.neighbors.last_mac((link, *of)) == Some(mac);
        let claimed = format!("{address} is claimed by {mac} too");
        let firewall = self.config.firewall_ids().find(|id| {
            let firewall = &self.config.firewalls[id.index()];
            firewall.link == link && firewall.addresses.iter().any(is_it)
        });
        if let Some(firewall) = firewall {
            return format!(
                "{claimed}, which is firewall {}: remove the address there",
                self.config.firewall_name(firewall)
            );
        }
        // One host may be a server of many services: the service whose address is claimed says how it is to be hidden.
        let service = |id: &ServerId| &self.config.services[self.config.servers[id.index()].service.index()];
        let hosts = self.config.server_ids().filter(|id| self.config.servers[id.index()].addresses.iter().any(is_it));
        let Some(server) = hosts.min_by_key(|id| !service(id).addresses.contains(&address)) else { return claimed };
        let is_hidden_there = service(&server).addresses.contains(&address)
            && matches!(service(&server).mode, ForwardingMode::Direct | ForwardingMode::Tunnel);
        let advice = match (is_hidden_there, address) {
            (false, _) => "remove the address there",
            (true, IpAddr::V4(_)) => {
                "it answers ARP for it; there, keep the address on lo and set net.ipv4.conf.all.arp_ignore=1 and \
                 net.ipv4.conf.all.arp_announce=2"
            }
            (true, IpAddr::V6(_)) => "it answers neighbour solicitations for it; there, keep the address on lo",
        };
        format!("{claimed}, which is server {}: {advice}", self.config.server_name(server))
    }
}
