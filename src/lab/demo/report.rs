//! Judges from the evidence of the first part what the sessions experienced, and which promises were kept.

use std::collections::BTreeMap;
use std::fmt;

use super::promise::{Promise, counters_conserved, no_drops, wrap};
use super::{BySession, FlowName};
use crate::engine::view::CountersView;
use crate::lab::FirewallTotals;
use crate::lab::traffic::{FlowEnd, FlowReport, Protocol};

/// Time within which both engines must report a half-dead firewall (`docs/protocols.md`, B2.2: 350 ms, and the
/// polling).
const DOWN_WITHIN_MS: u64 = 600;
/// Time within which a session of the dead firewall must be reset.
const RESET_WITHIN_MS: u64 = 1_000;
/// Longest silence of a datagram flow of the dead firewall: detection, and the next request.
const MOVED_WITHIN_MS: u64 = 1_000;

/// A request made this long before the failure has had time for its answer.
const ROUND_TRIP_MS: u64 = 200;

/// What was observed from outside.
#[derive(Debug, Clone, Default)]
pub struct FirewallEvidence {
    /// Name of the firewall that failed.
    pub victim: String,
    /// When it failed, in milliseconds since the traffic started.
    pub failed_ms: u64,
    /// When the outer and the inner engine reported it down, in milliseconds since it failed.
    pub seen_down_ms: [Option<u64>; 2],
    /// The firewall of each session when it failed.
    pub at_failure: BySession,
    /// The firewall of each session just before it was healed.
    pub before_heal: BySession,
    /// The firewall of each session some seconds after it got new sessions again.
    pub after_heal: BySession,
    /// Reports of the traffic programs.
    pub flows: Vec<FlowReport>,
    /// Counters of the firewalls.
    pub drops: Vec<(String, FirewallTotals)>,
    /// Counters of each engine.
    pub counters: Vec<CountersView>,
    /// Whether TCP sessions of a failed firewall are to be reset.
    pub resets: bool,
}

/// The experiences of the sessions, and the promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TourFirewallReport {
    /// One line per kind of session.
    pub experiences: Vec<Experience>,
    /// The promises in order.
    pub promises: Vec<Promise>,
    /// A TCP session of a firewall that survived, for `explain`.
    pub example: Option<FlowName>,
}

/// The sessions of one protocol that were on the same firewall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experience {
    /// `tcp`, `udp` or `icmp`, and where they were.
    pub flow_group: String,
    /// Number of flows.
    pub flows: usize,
    /// Number of flows that went on.
    pub survived: usize,
    /// Number of flows that were reset or refused.
    pub reset: usize,
    /// Number of flows that hung or failed in another way.
    pub broken: usize,
    /// Unanswered requests of the flows that went on.
    pub lost: u64,
    /// The longest time without an answer in any of them, in milliseconds.
    pub longest_stall_ms: u64,
}

/// Where a flow was when the firewall failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum FlowLocation {
    Elsewhere,
    OnVictim,
    OpenedMeanwhile,
    NotOpen,
}

impl TourFirewallReport {
    /// Judges the evidence.
    pub fn judge(evidence: &FirewallEvidence) -> Self {
        let groups = groups(evidence);
        let of = |fate: FlowLocation| {
            groups.iter().filter(move |((at, _), _)| *at == fate).flat_map(|(_, flows)| flows.iter())
        };
        let mut promises = vec![detection(evidence), undisturbed(evidence.failed_ms, of(FlowLocation::Elsewhere))];
        if evidence.resets {
            promises.push(reset_in_time(&evidence.victim, of(FlowLocation::OnVictim)));
        }
        promises.push(moved_in_time(&evidence.victim, of(FlowLocation::OnVictim)));
        promises.push(new_flows_served(of(FlowLocation::OpenedMeanwhile).chain(of(FlowLocation::NotOpen))));
        promises.push(pins_stayed(evidence));
        promises.push(no_drops(&evidence.drops));
        promises.push(counters_conserved(&evidence.counters));
        let experiences = groups.iter().map(|((fate, protocol), flows)| experience(evidence, *fate, protocol, flows));
        let mut lasting = evidence.after_heal.iter().filter(|(name, firewall)| {
            name.0 == "tcp" && **firewall != evidence.victim && evidence.at_failure.get(*name) == Some(firewall)
        });
        Self { experiences: experiences.collect(), promises, example: lasting.next().map(|(name, _)| name.clone()) }
    }

    /// Whether every promise was kept.
    pub fn kept(&self) -> bool {
        self.promises.iter().all(|promise| promise.kept)
    }
}

/// Groups the flows by where they were and by protocol.
fn groups(evidence: &FirewallEvidence) -> BTreeMap<(FlowLocation, &'static str), Vec<&FlowReport>> {
    let mut groups: BTreeMap<_, Vec<&FlowReport>> = BTreeMap::new();
    for flow in &evidence.flows {
        groups.entry((location(evidence, flow), protocol(flow))).or_default().push(flow);
    }
    groups
}

fn location(evidence: &FirewallEvidence, flow: &FlowReport) -> FlowLocation {
    if flow.ended_ms < evidence.failed_ms || flow.opened_ms > evidence.failed_ms + DOWN_WITHIN_MS {
        return FlowLocation::NotOpen;
    }
    match firewall_of(evidence, flow) {
        Some(firewall) if *firewall == evidence.victim => FlowLocation::OnVictim,
        Some(_) => FlowLocation::Elsewhere,
        None => FlowLocation::OpenedMeanwhile,
    }
}

/// The firewall of a flow when it failed. A ping does not report its own address, so its session is found by the other
/// end.
fn firewall_of<'a>(evidence: &'a FirewallEvidence, flow: &FlowReport) -> Option<&'a String> {
    let protocol = protocol(flow);
    match &flow.local {
        Some(local) => evidence.at_failure.get(&(protocol.to_owned(), local.clone(), flow.remote.clone())),
        None => evidence
            .at_failure
            .iter()
            .find(|((known, _, destination), _)| protocol == "icmp" && known == protocol && *destination == flow.remote)
            .map(|(_, firewall)| firewall),
    }
}

pub(super) const fn protocol(flow: &FlowReport) -> &'static str {
    match flow.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp => "icmp",
    }
}

fn experience(evidence: &FirewallEvidence, fate: FlowLocation, protocol: &str, flows: &[&FlowReport]) -> Experience {
    let victim = &evidence.victim;
    let who = match fate {
        FlowLocation::Elsewhere => format!("{protocol} elsewhere when {victim} failed"),
        FlowLocation::OnVictim => format!("{protocol} on {victim} when it failed"),
        FlowLocation::OpenedMeanwhile => format!("{protocol} opened while {victim} was failing"),
        FlowLocation::NotOpen => format!("{protocol} before or after that"),
    };
    Experience::of(who, flows)
}

impl Experience {
    /// Summarises what `flows` experienced.
    pub(super) fn of(who: String, flows: &[&FlowReport]) -> Self {
        let count = |wanted: &dyn Fn(&FlowEnd) -> bool| flows.iter().filter(|flow| wanted(&flow.end)).count();
        Self {
            flow_group: who,
            flows: flows.len(),
            survived: count(&|end| *end == FlowEnd::Finished),
            reset: count(&|end| matches!(end, FlowEnd::Reset | FlowEnd::Refused)),
            broken: count(&|end| matches!(end, FlowEnd::Hung | FlowEnd::Failed(_))),
            lost: flows.iter().filter(|flow| flow.end == FlowEnd::Finished).map(|flow| flow.lost()).sum(),
            longest_stall_ms: flows.iter().map(|flow| flow.longest_stall_ms).max().unwrap_or(0),
        }
    }
}

fn detection(evidence: &FirewallEvidence) -> Promise {
    let times = evidence.seen_down_ms.map(|seen| seen.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms")));
    Promise {
        what: format!("a half-dead firewall is out on both sides within {DOWN_WITHIN_MS} ms"),
        kept: evidence.seen_down_ms.iter().all(|seen| seen.is_some_and(|ms| ms <= DOWN_WITHIN_MS)),
        detail: format!("outer {}, inner {}", times[0], times[1]),
    }
}

fn undisturbed<'a>(failed_ms: u64, flows: impl Iterator<Item = &'a &'a FlowReport>) -> Promise {
    let flows: Vec<_> = flows.collect();
    let broken = flows.iter().filter(|flow| flow.end != FlowEnd::Finished).count();
    let lost: u64 = flows.iter().map(|flow| lost_since(failed_ms, flow)).sum();
    Promise {
        what: "sessions of the other firewalls lose nothing".to_owned(),
        kept: !flows.is_empty() && broken == 0 && lost == 0,
        detail: format!("{} sessions, {broken} broken, {lost} requests without answer since it failed", flows.len()),
    }
}

/// Unanswered requests since the failure. If a flow does not report their times, all of them count.
fn lost_since(failed_ms: u64, flow: &FlowReport) -> u64 {
    let before = flow.lost_at_ms.iter().filter(|at| **at + ROUND_TRIP_MS < failed_ms).count();
    flow.lost().saturating_sub(before as u64)
}

fn reset_in_time<'a>(victim: &str, flows: impl Iterator<Item = &'a &'a FlowReport>) -> Promise {
    let flows: Vec<_> = flows.filter(|flow| flow.protocol == Protocol::Tcp && flow.end != FlowEnd::Finished).collect();
    let late = |flow: &FlowReport| {
        !matches!(flow.end, FlowEnd::Reset | FlowEnd::Refused)
            || flow.waited_ms.is_none_or(|waited| waited > RESET_WITHIN_MS)
    };
    let slowest = flows.iter().filter_map(|flow| flow.waited_ms).max().unwrap_or(0);
    let hung = flows.iter().filter(|flow| late(flow)).count();
    Promise {
        what: format!("TCP sessions of {victim}, lost with its state, are reset within {RESET_WITHIN_MS} ms"),
        kept: hung == 0,
        detail: format!("{} reset, the last after {slowest} ms, {hung} later or never", flows.len() - hung),
    }
}

fn moved_in_time<'a>(victim: &str, flows: impl Iterator<Item = &'a &'a FlowReport>) -> Promise {
    let flows: Vec<_> = flows.filter(|flow| flow.protocol != Protocol::Tcp).collect();
    let slowest = flows.iter().map(|flow| flow.longest_stall_ms).max().unwrap_or(0);
    Promise {
        what: format!("UDP and ping of {victim} go on through another firewall within {MOVED_WITHIN_MS} ms"),
        kept: slowest <= MOVED_WITHIN_MS && flows.iter().all(|flow| flow.end == FlowEnd::Finished),
        detail: format!("{} flows, the longest silence {slowest} ms", flows.len()),
    }
}

fn new_flows_served<'a>(flows: impl Iterator<Item = &'a &'a FlowReport>) -> Promise {
    let flows: Vec<_> = flows.collect();
    let broken = flows.iter().filter(|flow| matches!(flow.end, FlowEnd::Hung | FlowEnd::Failed(_))).count();
    Promise {
        what: "every session that was opened before, during or after reaches its server".to_owned(),
        kept: broken == 0,
        detail: format!("{} sessions, {broken} failed", flows.len()),
    }
}

fn pins_stayed(evidence: &FirewallEvidence) -> Promise {
    let both = evidence.before_heal.iter().filter_map(|(name, before)| Some((before, evidence.after_heal.get(name)?)));
    let (alive, moved) =
        both.fold((0, 0), |(alive, moved), (before, after)| (alive + 1, moved + usize::from(before != after)));
    Promise {
        what: "a firewall that returns takes no living session".to_owned(),
        kept: alive > 0 && moved == 0,
        detail: format!("{alive} sessions, {moved} moved"),
    }
}

impl fmt::Display for TourFirewallReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&experiences(&self.experiences))
    }
}

/// Formats the table of experiences.
pub(super) fn experiences(lines: &[Experience]) -> String {
    let mut text = format!(
        "What the sessions lived through\n  {:<36}{:>8}{:>8}{:>6}{:>7}{:>5}{:>7}\n",
        "", "sessions", "went on", "reset", "broken", "lost", "stall"
    );
    for line in lines {
        text += &format!(
            "  {:<36}{:>8}{:>8}{:>6}{:>7}{:>5}{:>7}\n",
            line.flow_group,
            line.flows,
            line.survived,
            line.reset,
            line.broken,
            line.lost,
            duration_text(line.longest_stall_ms)
        );
    }
    text + &wrap("lost: requests without answer in sessions that went on; stall: the longest time without an answer", 2)
}

/// Formats milliseconds, as seconds if there are many.
fn duration_text(ms: u64) -> String {
    if ms < 1000 { format!("{ms}ms") } else { format!("{:.1}s", ms as f64 / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(protocol: Protocol, port: u16, end: FlowEnd) -> FlowReport {
        FlowReport {
            protocol,
            local: Some(format!("198.51.100.7:{port}")),
            remote: "203.0.113.11:7".to_owned(),
            opened_ms: 0,
            ended_ms: 20_000,
            sent: 100,
            answered: 100,
            lost_at_ms: Vec::new(),
            longest_stall_ms: 5,
            waited_ms: (end != FlowEnd::Finished).then_some(400),
            end,
        }
    }

    fn name(protocol: &str, port: u16) -> FlowName {
        (protocol.to_owned(), format!("198.51.100.7:{port}"), "203.0.113.11:7".to_owned())
    }

    /// One TCP session on each firewall, and a UDP session on the one that fails.
    fn evidence() -> FirewallEvidence {
        let counted = ["received", "forwarded", "hairpinned", "punted", "dropped"].map(String::from);
        let counters: CountersView = counted.into_iter().zip([10, 7, 0, 2, 1]).collect();
        let survivor = (name("tcp", 2), "fw2".to_owned());
        FirewallEvidence {
            victim: "fw1".to_owned(),
            failed_ms: 6_000,
            seen_down_ms: [Some(300), Some(350)],
            at_failure: [(name("tcp", 1), "fw1".to_owned()), survivor.clone(), (name("udp", 3), "fw1".to_owned())]
                .into(),
            before_heal: [survivor.clone()].into(),
            after_heal: [survivor].into(),
            flows: vec![
                flow(Protocol::Tcp, 1, FlowEnd::Reset),
                flow(Protocol::Tcp, 2, FlowEnd::Finished),
                FlowReport { answered: 96, longest_stall_ms: 480, ..flow(Protocol::Udp, 3, FlowEnd::Finished) },
            ],
            drops: vec![("fw1".to_owned(), FirewallTotals::default())],
            counters: vec![counters.clone(), counters],
            resets: true,
        }
    }

    fn broken(evidence: &FirewallEvidence) -> Vec<String> {
        TourFirewallReport::judge(evidence)
            .promises
            .into_iter()
            .filter(|promise| !promise.kept)
            .map(|promise| promise.what)
            .collect()
    }

    #[test]
    fn a_failover_as_designed_keeps_every_promise() {
        let report = TourFirewallReport::judge(&evidence());

        assert!(report.kept(), "{report}");
        assert_eq!(report.example, Some(name("tcp", 2)));
        assert_eq!(report.experiences.iter().map(|line| line.flows).sum::<usize>(), 3);
    }

    #[test]
    fn each_fault_breaks_its_own_promise_and_no_other() {
        type Fault = fn(&mut FirewallEvidence);
        let faults: [(Fault, &str); 8] = [
            (|e| e.seen_down_ms[1] = Some(700), "half-dead"),
            (|e| e.flows[1].answered -= 1, "other firewalls"),
            (|e| e.flows[0].end = FlowEnd::Hung, "reset within"),
            (|e| e.flows[0].waited_ms = Some(3_000), "reset within"),
            (|e| e.flows[2].longest_stall_ms = 2_000, "UDP and ping"),
            (|e| e.after_heal.values_mut().for_each(|firewall| *firewall = "fw1".to_owned()), "takes no living"),
            (|e| e.drops[0].1.invalid = 1, "half a conversation"),
            (|e| *e.counters[1].get_mut("received").unwrap() += 1, "received ="),
        ];
        for (fault, promise) in faults {
            let mut evidence = evidence();
            fault(&mut evidence);

            let broken = broken(&evidence);

            assert!(broken.len() == 1 && broken[0].contains(promise), "{promise}: {broken:?}");
        }
    }

    #[test]
    fn what_a_busy_machine_lost_before_the_failure_is_not_blamed_on_it() {
        let mut evidence = evidence();
        evidence.at_failure.insert(name("udp", 4), "fw2".to_owned());
        let early = FlowReport { answered: 99, lost_at_ms: vec![40], ..flow(Protocol::Udp, 4, FlowEnd::Finished) };
        evidence.flows.push(early.clone());
        assert_eq!(broken(&evidence), Vec::<String>::new());

        *evidence.flows.last_mut().unwrap() = FlowReport { lost_at_ms: vec![6_010], ..early };
        assert_eq!(broken(&evidence), ["sessions of the other firewalls lose nothing"]);
    }

    #[test]
    fn a_tour_that_saw_nothing_proves_nothing() {
        assert!(!TourFirewallReport::judge(&FirewallEvidence::default()).kept());
    }
}
