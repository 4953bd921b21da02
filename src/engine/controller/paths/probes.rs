//! The probes of every path, which are sent at their interval for ever, matched with their answers and counted; and the
//! ARP and ND requests to firewalls whose paths fail, which distinguish a dead firewall from a lost peer.

use crate::engine::change::StateChange;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::links::Links;
use super::super::outbox::Outbox;
use super::super::tally::Tally;
use super::Paths;
use super::responder::ProbeAnswer;
use crate::config::{Config, PathCheckKind};
use crate::engine::histogram::DurationHistogram;
use crate::engine::view::{CheckLogView, EventKind, OperState};
use crate::health::history::{CheckHistory, CheckRecord, CheckResult};
use crate::health::monitor::{HealthMonitor, HealthState, ProbeOutcome};
use crate::health::prober::{PathProber, ProbeResult};
use crate::id::{FirewallId, LinkId};
use crate::path::liveness::{PathHealth, PathKey};
use crate::random::SplitMix64;
use crate::time::{Duration, Instant};
use crate::wire::Family;

/// The number of unanswered requests after which a firewall counts as silent.
const REQUESTS_UNTIL_SILENT: u8 = 3;
/// The number of requests at the interval of the probes. After those a silent firewall is queried once a second.
const FAST_REQUESTS: u8 = 40;

/// One path, and the results of its probes.
#[derive(Debug, Clone)]
pub(in super::super) struct Path {
    pub(in super::super) key: PathKey,
    pub(super) link: LinkId,
    pub(super) next_hop: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) prober: PathProber,
    pub(super) monitor: HealthMonitor,
    pub(super) rtt: Option<Duration>,
    pub(super) rtts: DurationHistogram,
    /// Why it is down or starting.
    pub(super) reason: Option<String>,
    /// Consecutive results that say the same are one record.
    pub(in super::super) history: CheckHistory,
    /// Since when misses were excused without any answer.
    pub(super) excused_since: Option<Instant>,
    /// The health that was reported to liveness last.
    pub(super) reported_health: Option<PathHealth>,
}

/// A firewall that is queried by ARP or ND because probes through it fail.
#[derive(Debug, Clone, Copy)]
pub(super) struct NeighborWatch {
    /// When it answered last, or when it was first queried.
    since: Instant,
    requests: u8,
    pub(super) next: Instant,
}

/// Every (firewall, peer, family) that addresses are configured for, in that order.
pub(super) fn path_keys(config: &Config) -> Vec<PathKey> {
    let mut keys = Vec::new();
    for group in &config.groups {
        for &firewall in &group.firewalls {
            for &peer in &group.peers {
                for family in [Family::V4, Family::V6] {
                    let key = PathKey { firewall, peer, family };
                    if path_endpoints(config, key).is_some() {
                        keys.push(key);
                    }
                }
            }
        }
    }
    keys
}

/// Next hop and destination of a path, where both are configured and the link has an address to send from.
fn path_endpoints(config: &Config, key: PathKey) -> Option<(IpAddr, IpAddr)> {
    let firewall = &config.firewalls[key.firewall.index()];
    let of_family = |addresses: &[IpAddr]| addresses.iter().copied().find(|address| Family::of(*address) == key.family);
    let next_hop = of_family(&firewall.addresses)?;
    let peer = &config.peers[key.peer.index()].addresses;
    let destination = if peer.is_empty() { next_hop } else { of_family(peer)? };
    let local = matches!(destination, IpAddr::V6(address) if address.is_unicast_link_local());
    let mut own = config.links[firewall.link.index()].addresses.iter();
    (local || own.any(|own| Family::of(own.addr()) == key.family)).then_some((next_hop, destination))
}

/// The paths in their initial state. Their first probes are spread over one interval.
pub(super) fn paths(config: &Config, random: &mut SplitMix64, now: Instant) -> Vec<Path> {
    let keys = path_keys(config);
    let count = u32::try_from(keys.len()).unwrap_or(u32::MAX).max(1);
    let paths = keys.into_iter().zip(0..).filter_map(|(key, index): (PathKey, u32)| {
        let firewall = &config.firewalls[key.firewall.index()];
        let check = &config.groups[firewall.group.index()].check;
        let (next_hop, destination) = path_endpoints(config, key)?;
        let first = now + check.interval / count * index;
        Some(Path {
            key,
            link: firewall.link,
            next_hop,
            destination,
            prober: PathProber::new(check, random.next_u64() as u16, first),
            monitor: HealthMonitor::new(check, now),
            rtt: None,
            rtts: DurationHistogram::default(),
            reason: Some("no verdict yet".to_owned()),
            history: CheckHistory::default(),
            excused_since: None,
            reported_health: None,
        })
    });
    paths.collect()
}

impl Paths {
    /// Sends the probes that are due, and evaluates those that have ended.
    pub(super) fn run_probes(&mut self, links: &mut Links, now: Instant, out: &mut Outbox) {
        for index in 0..self.paths.len() {
            self.finish_probes(index, links, now, out);
            if self.paths[index].prober.is_due(now) {
                self.launch_probe(index, links, now, out);
            }
        }
    }

    /// The engine was late by `lag`, or lost punts. Probes in flight of paths with an interval of at most `lag` do not
    /// count as missed, and the watch by ARP and ND begins again. While nothing is answered, this lasts only as long as
    /// an idle engine takes for its verdict, so that a dead firewall is found in at most twice that time whatever the
    /// engine suffers from.
    pub(in super::super) fn handle_lag(&mut self, lag: Duration, now: Instant) {
        for path in &mut self.paths {
            let group = self.config.firewalls[path.key.firewall.index()].group;
            let check = &self.config.groups[group.index()].check;
            if lag < check.interval || !path.prober.has_probes_in_flight() {
                continue;
            }
            let since = *path.excused_since.get_or_insert(now);
            if now.since(since) < check.interval * u32::from(check.fall) {
                path.prober.excuse();
                if let Some(watch) = self.watches.get_mut(&(path.key.firewall, path.key.family)) {
                    (watch.since, watch.requests) = (now, 0);
                }
            }
        }
    }

    /// Handles a link that is down, and with it every path over that link.
    pub(in super::super) fn handle_link_down(&mut self, link: LinkId, links: &Links, now: Instant, out: &mut Outbox) {
        for index in 0..self.paths.len() {
            let path = &mut self.paths[index];
            if path.link == link {
                let before = path.monitor.state();
                if let Some(after) = path.monitor.force_down(now) {
                    self.path_changed(index, before, after, links, out);
                }
            }
        }
        self.report_link(link, true);
    }

    /// Reports to liveness whether the engine's own link to its firewalls is down.
    pub(super) fn report_link(&mut self, link: LinkId, is_down: bool) {
        let here = self.config.firewalls.iter().enumerate().filter(|(_, firewall)| firewall.link == link);
        for (firewall, _) in here {
            self.liveness.handle_link_state(firewall.into(), is_down);
        }
        self.needs_evaluation = true;
    }

    /// Sends ARP or ND requests to the firewalls whose paths fail, and reports to liveness which of them do not answer.
    pub(super) fn watch_neighbors(&mut self, links: &mut Links, now: Instant) {
        let failing = self.paths.iter().filter(|path| path.monitor.is_failing());
        let failing = failing.filter(|path| links.state(path.link).up && self.is_probed(path.key.firewall));
        let failing: BTreeMap<_, _> =
            failing.map(|path| ((path.key.firewall, path.key.family), (path.link, path.next_hop))).collect();
        let over = self.watches.keys().filter(|key| !failing.contains_key(key)).copied();
        for key in over.collect::<Vec<_>>() {
            self.watches.remove(&key);
            let link = self.config.firewalls[key.0.index()].link;
            if links.state(link).up {
                self.liveness.handle_neighbor_state(key.0, key.1, true);
                self.needs_evaluation = true;
            }
        }
        for (key, neighbor) in failing {
            let watch = self.watches.entry(key).or_insert(NeighborWatch { since: now, requests: 0, next: now });
            if watch.next <= now {
                self.watch_neighbor(key, neighbor, links, now);
            }
        }
    }

    fn watch_neighbor(
        &mut self,
        key: (FirewallId, Family),
        neighbor: (LinkId, IpAddr),
        links: &mut Links,
        now: Instant,
    ) {
        let group = self.config.firewalls[key.0.index()].group;
        let check = &self.config.groups[group.index()].check;
        let answered = links.neighbors().answered(neighbor);
        let Some(watch) = self.watches.get_mut(&key) else { return };
        if let Some(answered) = answered.filter(|answered| *answered > watch.since) {
            (watch.since, watch.requests) = (answered, 0);
            self.liveness.handle_neighbor_state(key.0, key.1, true);
            self.needs_evaluation = true;
        } else if watch.requests >= REQUESTS_UNTIL_SILENT && now.since(watch.since) >= check.timeout {
            self.liveness.handle_neighbor_state(key.0, key.1, false);
            self.needs_evaluation = true;
        }
        watch.requests = watch.requests.saturating_add(1);
        watch.next = now + if watch.requests < FAST_REQUESTS { check.interval } else { Duration::from_secs(1) };
        // Requests go in turn to the known station and to everybody, because another station may have taken the address
        // over.
        let everybody = watch.requests.is_multiple_of(2);
        links.request_neighbor(neighbor, everybody);
    }

    /// Offers an answer to every path through `firewall` to `from`; the path that it belongs to takes it.
    pub(super) fn match_probe(
        &mut self,
        (firewall, from): (FirewallId, IpAddr),
        offer: &mut impl FnMut(&mut PathProber) -> Option<ProbeAnswer>,
        links: &Links,
        now: Instant,
        out: &mut Outbox,
    ) -> bool {
        for index in 0..self.paths.len() {
            let path = &mut self.paths[index];
            if path.key.firewall != firewall || path.destination != from {
                continue;
            }
            if let Some(ProbeAnswer { rtt, refusal }) = offer(&mut path.prober) {
                if let Some(refusal) = refusal {
                    path.reason = Some(refusal.to_owned());
                }
                path.rtt = Some(rtt);
                path.rtts.observe(rtt);
                self.finish_probes(index, links, now, out);
                return true;
            }
        }
        false
    }

    fn launch_probe(&mut self, index: usize, links: &mut Links, now: Instant, out: &mut Outbox) {
        let payload = self.probe_payload(self.paths[index].key, now);
        let random = self.random.next_u64();
        let path = &self.paths[index];
        let (link, way) = (path.link, links.addresses_to(path.link, path.next_hop, path.destination));
        let path = &mut self.paths[index];
        if let Some(frame) = path.prober.send_probe(payload, way, random, now) {
            out.count(Tally::ProbesSent);
            links.send(link, frame, out);
        }
    }

    fn finish_probes(&mut self, index: usize, links: &Links, now: Instant, out: &mut Outbox) {
        while let Some(settled) = self.paths[index].prober.poll_result(now) {
            let outcome = match settled {
                ProbeResult::Counted(outcome) => outcome,
                ProbeResult::Excused => {
                    out.count(Tally::ProbesExcused);
                    self.record_result(index, CheckResult::Excused, links, now, out);
                    continue;
                }
            };
            let (tally, result) = match outcome {
                ProbeOutcome::Success => (Tally::ProbesAnswered, CheckResult::Passed),
                ProbeOutcome::Failure => (Tally::ProbesMissed, CheckResult::Failed),
            };
            out.count(tally);
            let path = &mut self.paths[index];
            // An answer that was under way when its link went down does not bring the path back.
            if !links.state(path.link).up {
                self.record_result(index, CheckResult::Skipped, links, now, out);
                continue;
            }
            if outcome == ProbeOutcome::Success {
                path.excused_since = None;
            }
            let before = path.monitor.state();
            let changed = path.monitor.record_outcome(outcome, now);
            self.record_result(index, result, links, now, out);
            if let Some(after) = changed {
                self.path_changed(index, before, after, links, out);
            }
        }
    }

    /// Records the result of a probe, and reports it where that is asked for.
    fn record_result(&mut self, index: usize, result: CheckResult, links: &Links, now: Instant, out: &mut Outbox) {
        let words = match result {
            CheckResult::Passed => "",
            CheckResult::Failed | CheckResult::Excused => self.missed_reason(index, links),
            CheckResult::Skipped => "the link is down",
        };
        let path = &mut self.paths[index];
        let (state, passed) = (path.monitor.state(), result == CheckResult::Passed);
        let took = path.rtt.filter(|_| passed);
        path.history.push_or_merge(CheckRecord { at: now, result, detail: words.to_owned(), took, state, count: 1 });
        if result == CheckResult::Skipped || !self.config.log.checks {
            return;
        }
        out.report_check(CheckLogView {
            subject: self.path_subject(self.paths[index].key).to_string(),
            result,
            state: state.into(),
            reason: (!passed).then(|| "no answer".to_owned()),
            rtt_us: took.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
        });
    }

    /// Why an answer did not come, as far as that is known.
    fn missed_reason(&self, index: usize, links: &Links) -> &'static str {
        let path = &self.paths[index];
        match links.neighbors().mac((path.link, path.next_hop)) {
            Some(_) => "no answer",
            None => "the firewall does not answer ARP or ND",
        }
    }

    pub(super) fn path_changed(
        &mut self,
        index: usize,
        before: HealthState,
        after: HealthState,
        links: &Links,
        out: &mut Outbox,
    ) {
        let path = &self.paths[index];
        let subject = self.path_subject(path.key);
        let reason = self.path_reason(path, links);
        self.paths[index].reason = (after != HealthState::Up).then(|| reason.clone());
        let (from, to) = (OperState::from(before).name(), OperState::from(after).name());
        out.report_change(StateChange::to(EventKind::Path, subject, to).from(from).because(reason));
    }

    fn path_reason(&self, path: &Path, links: &Links) -> String {
        let group = self.config.firewalls[path.key.firewall.index()].group;
        let check = &self.config.groups[group.index()].check;
        if path.monitor.state() != HealthState::Up
            && let Some(why) = links.down_reason(path.link)
        {
            return why;
        }
        match (path.monitor.state(), check.kind) {
            (HealthState::Starting, _) => "no verdict yet".to_owned(),
            (HealthState::Up, PathCheckKind::None) => format!("{} answers", path.next_hop),
            (HealthState::Up, PathCheckKind::Icmp | PathCheckKind::Tcp { .. } | PathCheckKind::Udp { .. }) => {
                format!("{} probes in a row answered", check.rise)
            }
            (HealthState::Down, _) if links.neighbors().mac((path.link, path.next_hop)).is_none() => {
                format!("{} does not answer ARP or ND", path.next_hop)
            }
            (HealthState::Down, _) => format!("{} probes in a row missed", check.fall),
        }
    }
}
