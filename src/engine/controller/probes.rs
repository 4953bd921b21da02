//! The probes of every path: sent at their interval for ever, matched, counted; and the questions by ARP and ND to firewalls
//! whose paths fail, which tell a dead firewall from a lost peer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::tally::Tally;
use super::{Controller, Random};
use crate::config::{CheckKind, Config};
use crate::engine::histogram::DurationHistogram;
use crate::engine::view::CheckedView;
use crate::health::history::{CheckHistory, CheckRecord, CheckResult};
use crate::health::monitor::{Monitor, Outcome, State};
use crate::health::prober::{Prober, Settled, TcpAnswer};
use crate::id::{FirewallId, LinkId};
use crate::path::liveness::{PathHealth, PathKey};
use crate::time::{Duration, Instant};
use crate::wire::Family;
use crate::wire::emit::{Macs, Pair};
use crate::wire::icmp::Echo;
use crate::wire::tcp::Segment;

/// Unanswered questions until a firewall is silent.
const VIGIL_ASKS: u8 = 3;
/// Questions at the pace of the probes; a firewall that is still silent is asked once a second.
const VIGIL_EAGER: u8 = 40;

/// One path and what its probes say.
#[derive(Debug, Clone)]
pub(super) struct Path {
    pub(super) key: PathKey,
    pub(super) link: LinkId,
    pub(super) next_hop: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) prober: Prober,
    pub(super) monitor: Monitor,
    pub(super) rtt: Option<Duration>,
    pub(super) rtts: DurationHistogram,
    /// Why it is down or starting, in words.
    pub(super) reason: Option<String>,
    /// Results in a row that say the same are one record.
    pub(super) history: CheckHistory,
    /// Since when misses were excused and nothing was answered.
    pub(super) excused_since: Option<Instant>,
    /// What liveness was told last.
    pub(super) told: Option<PathHealth>,
}

/// A firewall that is asked by ARP or ND because probes through it fail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vigil {
    /// Its last sign of life, or the beginning.
    since: Instant,
    asked: u8,
    pub(super) next: Instant,
}

/// Every (firewall, peer, family) that addresses are configured for, in that order.
pub(super) fn keys(config: &Config) -> Vec<PathKey> {
    let mut keys = Vec::new();
    for group in &config.groups {
        for &firewall in &group.firewalls {
            for &peer in &group.peers {
                for family in [Family::V4, Family::V6] {
                    let key = PathKey { firewall, peer, family };
                    if ends(config, key).is_some() {
                        keys.push(key);
                    }
                }
            }
        }
    }
    keys
}

/// Next hop and destination of a path, where both are configured and the link has an address to send from.
fn ends(config: &Config, key: PathKey) -> Option<(IpAddr, IpAddr)> {
    let firewall = &config.firewalls[key.firewall.index()];
    let of_family = |addresses: &[IpAddr]| addresses.iter().copied().find(|address| Family::of(*address) == key.family);
    let next_hop = of_family(&firewall.addresses)?;
    let peer = &config.peers[key.peer.index()].addresses;
    let destination = if peer.is_empty() { next_hop } else { of_family(peer)? };
    let local = matches!(destination, IpAddr::V6(address) if address.is_unicast_link_local());
    let mut own = config.links[firewall.link.index()].addresses.iter();
    (local || own.any(|own| Family::of(own.addr()) == key.family)).then_some((next_hop, destination))
}

/// The paths at rest; their first probes are spread over one interval.
pub(super) fn paths(config: &Config, random: &mut Random, now: Instant) -> Vec<Path> {
    let keys = keys(config);
    let count = u32::try_from(keys.len()).unwrap_or(u32::MAX).max(1);
    let paths = keys.into_iter().zip(0..).filter_map(|(key, index): (PathKey, u32)| {
        let firewall = &config.firewalls[key.firewall.index()];
        let check = &config.groups[firewall.group.index()].check;
        let (next_hop, destination) = ends(config, key)?;
        let first = now + check.interval / count * index;
        Some(Path {
            key,
            link: firewall.link,
            next_hop,
            destination,
            prober: Prober::new(check, random.next() as u16, first),
            monitor: Monitor::new(check, now),
            rtt: None,
            rtts: DurationHistogram::default(),
            reason: Some("no verdict yet".to_owned()),
            history: CheckHistory::default(),
            excused_since: None,
            told: None,
        })
    });
    paths.collect()
}

impl Controller {
    /// Sends what is due, and judges what has ended.
    pub(super) fn run_probes(&mut self, now: Instant) {
        for index in 0..self.paths.len() {
            self.settle_probes(index, now);
            if self.paths[index].prober.is_due(now) {
                self.launch_probe(index, now);
            }
        }
    }

    /// The engine was late by `lag` (or lost punts): probes in flight whose interval is not longer do not count as missed, and
    /// who has not answered ARP or ND is asked again. For as long as an idle engine takes for its verdict, and no longer while
    /// nothing is answered: a firewall that is dead is found in twice that time whatever the engine suffers from.
    pub(super) fn excuse_probes(&mut self, lag: Duration, now: Instant) {
        for path in &mut self.paths {
            let group = self.config.firewalls[path.key.firewall.index()].group;
            let check = &self.config.groups[group.index()].check;
            if lag < check.interval || !path.prober.is_asking() {
                continue;
            }
            let since = *path.excused_since.get_or_insert(now);
            if now.since(since) < check.interval * u32::from(check.fall) {
                path.prober.excuse();
                if let Some(vigil) = self.vigils.get_mut(&(path.key.firewall, path.key.family)) {
                    (vigil.since, vigil.asked) = (now, 0);
                }
            }
        }
    }

    /// The link is gone, and with it every path over it.
    pub(super) fn fail_paths_on(&mut self, link: LinkId, now: Instant) {
        for index in 0..self.paths.len() {
            let path = &mut self.paths[index];
            if path.link == link {
                let before = path.monitor.state();
                if let Some(after) = path.monitor.fail(now) {
                    self.path_changed(index, before, after);
                }
            }
        }
        self.tell_link(link, true);
    }

    /// Tells whether the engine's own link to its firewalls is down.
    pub(super) fn tell_link(&mut self, link: LinkId, is_down: bool) {
        let here = self.config.firewalls.iter().enumerate().filter(|(_, firewall)| firewall.link == link);
        for (firewall, _) in here {
            self.liveness.link(firewall.into(), is_down);
        }
        self.judge = true;
    }

    /// Asks the firewalls whose paths fail, and notes who does not answer.
    pub(super) fn keep_vigils(&mut self, now: Instant) {
        let failing = self.paths.iter().filter(|path| path.monitor.is_failing());
        let failing = failing.filter(|path| self.links[path.link.index()].up && self.is_probed(path.key.firewall));
        let failing: BTreeMap<_, _> =
            failing.map(|path| ((path.key.firewall, path.key.family), (path.link, path.next_hop))).collect();
        let over = self.vigils.keys().filter(|key| !failing.contains_key(key)).copied();
        for key in over.collect::<Vec<_>>() {
            self.vigils.remove(&key);
            let link = self.config.firewalls[key.0.index()].link;
            if self.links[link.index()].up {
                self.liveness.neighbor(key.0, key.1, true);
                self.judge = true;
            }
        }
        for (key, neighbor) in failing {
            let vigil = self.vigils.entry(key).or_insert(Vigil { since: now, asked: 0, next: now });
            if vigil.next <= now {
                self.hold_vigil(key, neighbor, now);
            }
        }
    }

    fn hold_vigil(&mut self, key: (FirewallId, Family), neighbor: (LinkId, IpAddr), now: Instant) {
        let group = self.config.firewalls[key.0.index()].group;
        let check = &self.config.groups[group.index()].check;
        let answered = self.neighbors.answered(neighbor);
        let Some(vigil) = self.vigils.get_mut(&key) else { return };
        if let Some(answered) = answered.filter(|answered| *answered > vigil.since) {
            (vigil.since, vigil.asked) = (answered, 0);
            self.liveness.neighbor(key.0, key.1, true);
            self.judge = true;
        } else if vigil.asked >= VIGIL_ASKS && now.since(vigil.since) >= check.timeout {
            self.liveness.neighbor(key.0, key.1, false);
            self.judge = true;
        }
        vigil.asked = vigil.asked.saturating_add(1);
        vigil.next = now + if vigil.asked < VIGIL_EAGER { check.interval } else { Duration::from_secs(1) };
        // In turns to the known station and to everybody, who may have taken the address over.
        let everybody = vigil.asked.is_multiple_of(2);
        self.neighbors.ask(neighbor, everybody);
    }

    /// An echo reply that came through `firewall`.
    pub(super) fn probe_echo(&mut self, firewall: FirewallId, from: IpAddr, echo: &Echo<'_>, now: Instant) -> bool {
        self.answered(firewall, from, now, |path| path.prober.answer_echo(echo, now))
    }

    /// A datagram that came through `firewall`.
    pub(super) fn probe_udp(
        &mut self,
        firewall: FirewallId,
        from: IpAddr,
        ports: (u16, u16),
        data: &[u8],
        now: Instant,
    ) -> bool {
        self.answered(firewall, from, now, |path| path.prober.answer_udp(ports.0, ports.1, data, now))
    }

    /// A segment that came through `firewall`; `back` is the way to its sender.
    pub(super) fn probe_tcp(
        &mut self,
        firewall: FirewallId,
        segment: &Segment<'_>,
        back: (LinkId, Macs, Pair),
        now: Instant,
    ) -> bool {
        let (link, macs, pair) = back;
        let mut frames = None;
        let matched = self.answered(firewall, pair.destination(), now, |path| {
            match path.prober.answer_tcp(segment, macs, pair, now)? {
                TcpAnswer::Connected { rtt, frames: closing } => {
                    frames = Some(closing);
                    Some(rtt)
                }
                TcpAnswer::Refused { rtt } => {
                    path.reason = Some("the peer refuses connections to the check's port".to_owned());
                    Some(rtt)
                }
            }
        });
        for frame in frames.into_iter().flatten() {
            self.send(link, frame);
        }
        matched
    }

    /// Offers an answer to every path through `firewall` to `from`: whoever it belongs to takes it.
    fn answered(
        &mut self,
        firewall: FirewallId,
        from: IpAddr,
        now: Instant,
        mut offer: impl FnMut(&mut Path) -> Option<Duration>,
    ) -> bool {
        for index in 0..self.paths.len() {
            let path = &mut self.paths[index];
            if path.key.firewall != firewall || path.destination != from {
                continue;
            }
            if let Some(rtt) = offer(path) {
                path.rtt = Some(rtt);
                path.rtts.observe(rtt);
                self.settle_probes(index, now);
                return true;
            }
        }
        false
    }

    fn launch_probe(&mut self, index: usize, now: Instant) {
        let payload = self.probe_payload(self.paths[index].key);
        let random = self.random.next();
        let path = &self.paths[index];
        let (link, way) = (path.link, self.way(path.link, path.next_hop, path.destination));
        let path = &mut self.paths[index];
        if let Some(frame) = path.prober.launch(payload, way, random, now) {
            self.tallies.add(Tally::ProbesSent);
            self.send(link, frame);
        }
    }

    /// Addresses for a frame to `destination` by `next_hop`; `None` while that is not resolved.
    pub(super) fn way(&self, link: LinkId, next_hop: IpAddr, destination: IpAddr) -> Option<(Macs, Pair)> {
        let state = &self.links[link.index()];
        let macs = Macs { source: state.mac, destination: self.neighbors.mac((link, next_hop))? };
        Some((macs, Pair::new(self.probe_source(link, destination)?, destination)?))
    }

    /// Probes leave from the link's first address of the family: the same for every firewall on the link, so that the peer
    /// and the firewalls' rules see one source.
    pub(super) fn probe_source(&self, link: LinkId, destination: IpAddr) -> Option<IpAddr> {
        let state = &self.links[link.index()];
        if matches!(destination, IpAddr::V6(address) if address.is_unicast_link_local()) {
            return Some(state.link_local().into());
        }
        let family = Family::of(destination);
        state.addresses.iter().map(ipnet::IpNet::addr).find(|address| Family::of(*address) == family)
    }

    /// An address of the engine that anybody can answer to.
    pub(super) fn any_source(&self, family: Family) -> Option<IpAddr> {
        let mut all = self.links.iter().flat_map(|link| &link.addresses).map(ipnet::IpNet::addr);
        all.find(|address| match address {
            IpAddr::V4(_) => family == Family::V4,
            IpAddr::V6(address) => family == Family::V6 && !address.is_unicast_link_local(),
        })
    }

    fn settle_probes(&mut self, index: usize, now: Instant) {
        while let Some(settled) = self.paths[index].prober.settle(now) {
            let outcome = match settled {
                Settled::Counts(outcome) => outcome,
                Settled::Excused => {
                    self.tallies.add(Tally::ProbesExcused);
                    self.keep_probe(index, CheckResult::Excused, now);
                    continue;
                }
            };
            let (tally, result) = match outcome {
                Outcome::Success => (Tally::ProbesAnswered, CheckResult::Passed),
                Outcome::Failure => (Tally::ProbesMissed, CheckResult::Failed),
            };
            self.tallies.add(tally);
            let path = &mut self.paths[index];
            // An answer that was under way while its link went does not bring the path back.
            if !self.links[path.link.index()].up {
                self.keep_probe(index, CheckResult::Skipped, now);
                continue;
            }
            if outcome == Outcome::Success {
                path.excused_since = None;
            }
            let before = path.monitor.state();
            let changed = path.monitor.observe(outcome, now);
            self.keep_probe(index, result, now);
            if let Some(after) = changed {
                self.path_changed(index, before, after);
            }
        }
    }

    /// Keeps the result of a probe, and tells it where that is asked for.
    fn keep_probe(&mut self, index: usize, result: CheckResult, now: Instant) {
        let words = match result {
            CheckResult::Passed => "",
            CheckResult::Failed | CheckResult::Excused => self.missed_words(index),
            CheckResult::Skipped => "the link is down",
        };
        let path = &mut self.paths[index];
        let (state, passed) = (path.monitor.state(), result == CheckResult::Passed);
        let took = path.rtt.filter(|_| passed);
        path.history.fold(CheckRecord { at: now, result, words: words.to_owned(), took, state, times: 1 });
        if result == CheckResult::Skipped {
            return;
        }
        self.tell_checked(|controller| {
            let path = &controller.paths[index];
            CheckedView {
                subject: controller.path_subject(path.key),
                result: result.name(),
                state: path_state(path.monitor.state()),
                reason: (!passed).then(|| "no answer".to_owned()),
                rtt_us: took.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            }
        });
    }

    /// What is known of an answer that did not come.
    fn missed_words(&self, index: usize) -> &'static str {
        let path = &self.paths[index];
        match self.neighbors.mac((path.link, path.next_hop)) {
            Some(_) => "no answer",
            None => "the firewall does not answer ARP or ND",
        }
    }

    pub(super) fn path_changed(&mut self, index: usize, before: State, after: State) {
        let path = &self.paths[index];
        let subject = self.path_subject(path.key);
        let reason = self.path_reason(path);
        self.paths[index].reason = (after != State::Up).then(|| reason.clone());
        self.change("path", &subject, Some(path_state(before)), Some(path_state(after)), Some(&reason), None);
    }

    /// `link fw is down`, if it is.
    pub(super) fn link_down(&self, link: LinkId) -> Option<String> {
        let is_down = !self.links[link.index()].up;
        is_down.then(|| format!("link {} is down", self.config.links[link.index()].name))
    }

    fn path_reason(&self, path: &Path) -> String {
        let group = self.config.firewalls[path.key.firewall.index()].group;
        let check = &self.config.groups[group.index()].check;
        if path.monitor.state() != State::Up
            && let Some(why) = self.link_down(path.link)
        {
            return why;
        }
        match (path.monitor.state(), check.kind) {
            (State::Starting, _) => "no verdict yet".to_owned(),
            (State::Up, CheckKind::None) => format!("{} answers", path.next_hop),
            (State::Up, CheckKind::Icmp | CheckKind::Tcp { .. } | CheckKind::Udp { .. }) => {
                format!("{} probes in a row answered", check.rise)
            }
            (State::Down, _) if self.neighbors.mac((path.link, path.next_hop)).is_none() => {
                format!("{} does not answer ARP or ND", path.next_hop)
            }
            (State::Down, _) => format!("{} probes in a row missed", check.fall),
        }
    }
}

/// As `show firewalls` says: a path that is starting is shown as down.
pub(super) const fn path_state(state: State) -> &'static str {
    match state {
        State::Up => "up",
        State::Starting | State::Down => "down",
    }
}
