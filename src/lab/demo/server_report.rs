//! Judges from the evidence of the second part what the clients of the services experienced, and which promises were
//! kept.

use std::collections::BTreeMap;
use std::fmt;

use super::BySession;
use super::promise::{Promise, counters_conserved, no_drops, wrap};
use super::report::{Experience, experiences, protocol};
use crate::engine::view::CountersView;
use crate::lab::FirewallTotals;
use crate::lab::traffic::{FlowEnd, FlowReport, PageReport, Protocol};

/// Time within which a server must be out: two checks at an interval of 500 ms fail, the second after its timeout of
/// 300 ms, and polling takes some more.
const OUT_WITHIN_MS: u64 = 2_000;
/// Time within which a client must know: the server is out, and the reset arrives.
const CLIENT_RESET_WITHIN_MS: u64 = 2_500;
/// A page that is requested this long after a server went out cannot reach that server.
const OUT_EFFECTIVE_MS: u64 = 300;
/// Latency and the difference between the clocks of two programs: what was observed this long before a server was
/// harmed may be a consequence of the harm.
const CLOCK_SKEW_MS: u64 = 300;
/// Percentage points by which a share may differ from the weights.
const SHARE_ERROR_MAX: f64 = 3.0;

/// When a server was harmed, and when its web service was out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerOutage {
    /// Name of the server.
    pub server: String,
    /// When it was harmed, in milliseconds since the traffic started.
    pub at_ms: u64,
    /// When it was out, in milliseconds since it was harmed; `None`: never.
    pub after_ms: Option<u64>,
    /// The engine's reason.
    pub reason: String,
}

impl ServerOutage {
    /// When it was out, in milliseconds since the traffic started.
    fn out_ms(&self) -> u64 {
        self.at_ms + self.after_ms.unwrap_or(0)
    }
}

/// What was observed from outside.
#[derive(Debug, Clone, Default)]
pub struct ServerEvidence {
    /// The servers with their weights.
    pub weights: Vec<(String, u16)>,
    /// End of the time in which every server was well, in milliseconds.
    pub healthy_until_ms: u64,
    /// The server that was unplugged.
    pub unplugged: ServerOutage,
    /// The server whose pages were 503.
    pub sick: ServerOutage,
    /// The last server, whose programs were killed.
    pub killed: ServerOutage,
    /// When all servers were healed, in milliseconds.
    pub healed_ms: u64,
    /// When all servers got sessions again, in milliseconds.
    pub back_in_rotation_ms: u64,
    /// The server of each session when the first server was unplugged.
    pub at_failure: BySession,
    /// Reports of the flows to the echo service.
    pub flows: Vec<FlowReport>,
    /// Reports of the readers of pages.
    pub pages: Vec<PageReport>,
    /// Counters of the firewalls.
    pub drops: Vec<(String, FirewallTotals)>,
    /// Counters of each engine.
    pub counters: Vec<CountersView>,
    /// `explain` of a session that went on: the arguments and the answer.
    pub explained: Option<(String, String)>,
}

/// The experiences of the sessions, and the promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerReport {
    /// One line per kind of session.
    pub experiences: Vec<Experience>,
    /// The pages in a sentence.
    pub pages: String,
    /// The promises in order.
    pub promises: Vec<Promise>,
    /// `explain` of a session that went on: the arguments and the answer.
    pub explained: Option<(String, String)>,
}

impl ServerReport {
    /// Judges the evidence.
    pub fn judge(evidence: &ServerEvidence) -> Self {
        let steady = |from: u64, to: u64| evidence.pages.iter().filter(move |page| (from..to).contains(&page.asked_ms));
        let mut promises = vec![
            shares_match_weights("while all live", evidence, steady(0, evidence.healthy_until_ms)),
            detected_in_time(&evidence.unplugged, "an unplugged server", "no SYN-ACK"),
            reset_in_time(evidence),
            moved_in_time(evidence),
            undisturbed(evidence),
            pages_served(evidence),
            detected_in_time(&evidence.sick, "a server that answers 503", "HTTP 503, expected 200"),
            out_of_rotation(evidence),
            sorry_server_answers(evidence, steady(evidence.killed.out_ms() + OUT_EFFECTIVE_MS, evidence.healed_ms)),
            shares_match_weights("after all were healed", evidence, steady(evidence.back_in_rotation_ms, u64::MAX)),
        ];
        if !evidence.drops.is_empty() {
            promises.push(no_drops(&evidence.drops));
        }
        promises.push(counters_conserved(&evidence.counters));
        let retried = evidence.pages.iter().filter(|page| page.tries > 1).count();
        let pages = format!(
            "{} pages: {} at the first try, {retried} by trying again, {} were a 503, {} failed",
            evidence.pages.len(),
            evidence.pages.len() - retried,
            evidence.pages.iter().filter(|page| page.status == Some(503)).count(),
            evidence.pages.iter().filter(|page| page.status.is_none()).count(),
        );
        Self { experiences: lived_through(evidence), pages, promises, explained: evidence.explained.clone() }
    }
}

/// The server of a flow when the first server was unplugged; `None` if the flow was not open then.
fn server_of<'a>(evidence: &'a ServerEvidence, flow: &FlowReport) -> Option<&'a str> {
    let name = (protocol(flow).to_owned(), flow.local.clone()?, flow.remote.clone());
    let open = flow.opened_ms <= evidence.unplugged.at_ms && flow.ended_ms >= evidence.unplugged.at_ms;
    evidence.at_failure.get(&name).filter(|_| open).map(String::as_str)
}

/// The time until which no client can have noticed that a server was harmed, in milliseconds.
const fn before(out: &ServerOutage) -> u64 {
    out.at_ms.saturating_sub(CLOCK_SKEW_MS)
}

fn flows_of<'a>(evidence: &'a ServerEvidence, server: &'a str) -> impl Iterator<Item = &'a FlowReport> {
    evidence.flows.iter().filter(move |flow| server_of(evidence, flow) == Some(server))
}

fn lived_through(evidence: &ServerEvidence) -> Vec<Experience> {
    let mut groups: BTreeMap<(Option<&str>, &str), Vec<&FlowReport>> = BTreeMap::new();
    for flow in &evidence.flows {
        groups.entry((server_of(evidence, flow), protocol(flow))).or_default().push(flow);
    }
    let harm = |server: &str| match server {
        server if server == evidence.unplugged.server => ", which was unplugged",
        server if server == evidence.sick.server => ", whose pages fell sick",
        _ => ", which was killed later",
    };
    let line = |((server, protocol), flows): (&(Option<&str>, &str), &Vec<&FlowReport>)| {
        let who = match server {
            Some(server) => format!("{protocol} on {server}{}", harm(server)),
            None => format!("{protocol} opened after that"),
        };
        Experience::of(who, flows)
    };
    // Flows that were opened later come last.
    let (later, first): (Vec<_>, Vec<_>) = groups.iter().partition(|((server, _), _)| server.is_none());
    first.into_iter().chain(later).map(line).collect()
}

fn shares_match_weights<'a>(
    when: &str,
    evidence: &ServerEvidence,
    pages: impl Iterator<Item = &'a PageReport>,
) -> Promise {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for page in pages {
        *counts.entry(page.server.as_deref().unwrap_or("nobody")).or_default() += 1;
    }
    let all: usize = counts.values().sum();
    let weights: u32 = evidence.weights.iter().map(|(_, weight)| u32::from(*weight)).sum();
    let percent = |count: usize| count as f64 * 100.0 / all.max(1) as f64;
    let strangers = counts.keys().any(|name| !evidence.weights.iter().any(|(server, _)| server == name));
    let even = evidence.weights.iter().all(|(server, weight)| {
        let count = counts.get(server.as_str()).copied().unwrap_or(0);
        (percent(count) - f64::from(*weight) * 100.0 / f64::from(weights)).abs() <= SHARE_ERROR_MAX
    });
    let weights = evidence.weights.iter().map(|(_, weight)| weight.to_string()).collect::<Vec<_>>().join(":");
    let shares = counts.iter().map(|(server, count)| format!("{server} {:.0} %", percent(*count))).collect::<Vec<_>>();
    Promise {
        what: format!("the servers share the pages by weight {when}"),
        kept: all > 0 && even && !strangers,
        detail: format!("{all} pages: {}; weights {weights}", shares.join(", ")),
    }
}

fn detected_in_time(out: &ServerOutage, who: &str, reason: &str) -> Promise {
    let after = out.after_ms.map_or_else(|| "never".to_owned(), |ms| format!("after {ms} ms"));
    Promise {
        what: format!("{who} is out within {OUT_WITHIN_MS} ms, and the reason is told"),
        kept: out.after_ms.is_some_and(|ms| ms <= OUT_WITHIN_MS) && out.reason.contains(reason),
        detail: format!("{} {after}: {}", out.server, out.reason),
    }
}

fn reset_in_time(evidence: &ServerEvidence) -> Promise {
    let server = &evidence.unplugged.server;
    let flows: Vec<_> = flows_of(evidence, server).filter(|flow| flow.protocol == Protocol::Tcp).collect();
    let in_time = |flow: &&&FlowReport| {
        matches!(flow.end, FlowEnd::Reset | FlowEnd::Refused)
            && flow.waited_ms.is_some_and(|waited| waited <= CLIENT_RESET_WITHIN_MS)
    };
    let told = flows.iter().filter(in_time).count();
    let slowest = flows.iter().filter_map(|flow| flow.waited_ms).max().unwrap_or(0);
    Promise {
        what: format!("its TCP sessions are reset within {CLIENT_RESET_WITHIN_MS} ms instead of hanging"),
        kept: !flows.is_empty() && told == flows.len(),
        detail: format!("{told} reset, the last after {slowest} ms, {} later or never", flows.len() - told),
    }
}

fn moved_in_time(evidence: &ServerEvidence) -> Promise {
    let server = &evidence.unplugged.server;
    let flows: Vec<_> = flows_of(evidence, server).filter(|flow| flow.protocol == Protocol::Udp).collect();
    // After that, the next server to be harmed may be the flow's own.
    let silent = evidence.unplugged.at_ms + CLIENT_RESET_WITHIN_MS..before(&evidence.killed);
    // A flow that lost more than its first requests never went on.
    let late = flows.iter().filter(|flow| flow.lost_at_ms.iter().any(|at| silent.contains(at))).count();
    let longest = flows.iter().map(|flow| flow.longest_stall_ms).max().unwrap_or(0);
    Promise {
        what: format!("its UDP flows go on at another server within {CLIENT_RESET_WITHIN_MS} ms"),
        kept: !flows.is_empty() && late == 0 && flows.iter().all(|flow| flow.answered > 0),
        detail: format!("{} flows, {late} later or never, the longest silence {longest} ms", flows.len()),
    }
}

/// Sessions of the other servers, until their own server was killed.
fn undisturbed(evidence: &ServerEvidence) -> Promise {
    let (mut flows, mut broken, mut lost) = (0, 0, 0);
    for flow in &evidence.flows {
        let Some(server) = server_of(evidence, flow).filter(|server| *server != evidence.unplugged.server) else {
            continue;
        };
        flows += 1;
        // The sick server echoes until the end; the others are killed in the last stage.
        let until = if server == evidence.sick.server { u64::MAX } else { before(&evidence.killed) };
        broken += usize::from(flow.end != FlowEnd::Finished && flow.ended_ms < until);
        lost += flow.lost_at_ms.iter().filter(|at| (evidence.unplugged.at_ms..until).contains(at)).count();
    }
    Promise {
        what: "sessions of the other servers lose nothing".to_owned(),
        kept: flows > 0 && broken == 0 && lost == 0,
        detail: format!("{flows} sessions, {broken} broken, {lost} requests without answer"),
    }
}

fn pages_served(evidence: &ServerEvidence) -> Promise {
    let failed = evidence.pages.iter().filter(|page| page.status.is_none()).count();
    let retried: Vec<_> = evidence.pages.iter().filter(|page| page.tries > 1).collect();
    let slowest = evidence.pages.iter().map(|page| page.took_ms).max().unwrap_or(0);
    Promise {
        what: format!("every page arrives within {CLIENT_RESET_WITHIN_MS} ms, by a retry where its server died"),
        kept: !evidence.pages.is_empty() && failed == 0 && slowest <= CLIENT_RESET_WITHIN_MS,
        detail: format!(
            "{} pages, {} retried, {failed} failed, the slowest took {slowest} ms",
            evidence.pages.len(),
            retried.len()
        ),
    }
}

/// After the sick server is out, no client gets its 503.
fn out_of_rotation(evidence: &ServerEvidence) -> Promise {
    let sick: Vec<_> = evidence.pages.iter().filter(|page| page.status == Some(503)).collect();
    let late = sick.iter().filter(|page| page.asked_ms > evidence.sick.out_ms() + OUT_EFFECTIVE_MS).count();
    Promise {
        what: "a server that is out gets no new sessions".to_owned(),
        kept: evidence.sick.after_ms.is_some() && late == 0,
        detail: format!("{} pages were a 503 before it was out, {late} after", sick.len()),
    }
}

fn sorry_server_answers<'a>(evidence: &ServerEvidence, pages: impl Iterator<Item = &'a PageReport>) -> Promise {
    let pages: Vec<_> = pages.collect();
    let right = pages.iter().filter(|page| page.server.as_deref() == Some("sorry")).count();
    Promise {
        what: "when every server is down the sorry server speaks".to_owned(),
        kept: !pages.is_empty() && right == pages.len() && evidence.killed.after_ms.is_some(),
        detail: format!(
            "{right} of {} pages; the last server was out {}: {}",
            pages.len(),
            evidence.killed.after_ms.map_or_else(|| "never".to_owned(), |ms| format!("after {ms} ms")),
            evidence.killed.reason
        ),
    }
}

impl fmt::Display for ServerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", experiences(&self.experiences), wrap(&self.pages, 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(protocol: Protocol, port: u16, end: FlowEnd, ended_ms: u64) -> FlowReport {
        FlowReport {
            protocol,
            local: Some(format!("198.51.100.7:{port}")),
            remote: "192.0.2.80:7".to_owned(),
            opened_ms: 0,
            ended_ms,
            sent: 100,
            answered: 100,
            lost_at_ms: Vec::new(),
            longest_stall_ms: 5,
            waited_ms: (end != FlowEnd::Finished).then_some(1_200),
            end,
        }
    }

    fn page(asked_ms: u64, server: &str) -> PageReport {
        PageReport {
            asked_ms,
            took_ms: 3,
            tries: 1,
            longest_try_ms: 3,
            status: Some(200),
            server: Some(server.to_owned()),
        }
    }

    /// The evidence of a tour without a fault.
    fn evidence() -> ServerEvidence {
        let counted = ["received", "forwarded", "hairpinned", "punted", "dropped"].map(String::from);
        let out = |server: &str, at_ms, reason: &str| ServerOutage {
            server: server.to_owned(),
            at_ms,
            after_ms: Some(1_000),
            reason: reason.to_owned(),
        };
        let by = |protocol: &str, port: u16, server: &str| {
            ((protocol.to_owned(), format!("198.51.100.7:{port}"), "192.0.2.80:7".to_owned()), server.to_owned())
        };
        let calm = ["s1", "s2", "s1", "s3"].map(|server| page(100, server));
        let healed = ["s3", "s2", "s1", "s1"].map(|server| page(24_000, server));
        let sick = PageReport { status: Some(503), ..page(10_500, "s2") };
        ServerEvidence {
            weights: [("s1", 2), ("s2", 1), ("s3", 1)].map(|(name, weight)| (name.to_owned(), weight)).to_vec(),
            healthy_until_ms: 5_000,
            unplugged: out("s1", 5_000, "no SYN-ACK in 300ms"),
            sick: out("s2", 10_000, "HTTP 503, expected 200"),
            killed: out("s3", 15_000, "connection refused"),
            healed_ms: 20_000,
            back_in_rotation_ms: 23_000,
            at_failure: [by("tcp", 1, "s1"), by("udp", 2, "s1"), by("tcp", 3, "s2"), by("tcp", 4, "s3")].into(),
            flows: vec![
                flow(Protocol::Tcp, 1, FlowEnd::Reset, 6_000),
                FlowReport { lost_at_ms: vec![5_500], ..flow(Protocol::Udp, 2, FlowEnd::Finished, 26_000) },
                flow(Protocol::Tcp, 3, FlowEnd::Finished, 26_000),
                flow(Protocol::Tcp, 4, FlowEnd::Reset, 15_010),
            ],
            pages: calm.into_iter().chain([sick, page(17_000, "sorry")]).chain(healed).collect(),
            drops: vec![("fw1".to_owned(), FirewallTotals::default())],
            counters: vec![counted.into_iter().zip([10, 7, 0, 2, 1]).collect()],
            explained: None,
        }
    }

    #[test]
    fn a_decline_as_designed_keeps_every_promise() {
        let report = ServerReport::judge(&evidence());

        assert!(report.promises.iter().all(|promise| promise.kept), "{:#?}", report.promises);
        assert_eq!(report.experiences.iter().map(|line| line.flows).sum::<usize>(), 4);
        assert!(report.to_string().lines().all(|line| line.len() < 80), "{report}");
    }

    #[test]
    fn each_fault_breaks_its_own_promise_and_no_other() {
        type Fault = fn(&mut ServerEvidence);
        let faults: [(Fault, &str); 13] = [
            (|e| e.pages[0].server = Some("s3".to_owned()), "while all live"),
            (|e| e.unplugged.after_ms = Some(2_100), "an unplugged server"),
            (|e| e.unplugged.reason.clear(), "an unplugged server"),
            (|e| e.flows[0].end = FlowEnd::Hung, "instead of hanging"),
            (|e| e.flows[0].waited_ms = Some(9_000), "instead of hanging"),
            (|e| e.flows[1].lost_at_ms.push(9_000), "its UDP flows"),
            (|e| e.flows[2].end = FlowEnd::Reset, "lose nothing"),
            (|e| e.flows[3].ended_ms = 14_000, "lose nothing"),
            (|e| e.pages[4].took_ms = 4_000, "every page arrives"),
            (|e| e.sick.reason = "no answer".to_owned(), "answers 503"),
            (|e| e.pages[4].asked_ms = 14_000, "gets no new sessions"),
            (|e| e.pages[5].server = Some("s2".to_owned()), "the sorry server speaks"),
            (|e| e.pages[6].server = Some("sorry".to_owned()), "after all were healed"),
        ];
        for (fault, promise) in faults {
            let mut evidence = evidence();
            fault(&mut evidence);

            let report = ServerReport::judge(&evidence);

            let broken: Vec<_> = report.promises.iter().filter(|promise| !promise.kept).collect();
            assert!(broken.len() == 1 && broken[0].what.contains(promise), "{promise}: {broken:#?}");
        }
    }

    #[test]
    fn a_tour_that_saw_nothing_proves_nothing() {
        let report = ServerReport::judge(&ServerEvidence::default());

        assert!(report.promises.iter().all(|promise| !promise.kept), "{:#?}", report.promises);
    }
}
