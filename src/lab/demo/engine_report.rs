//! Judges from the evidence of the last part what the death of engines cost, and which promises were kept.

use std::fmt;

use super::promise::{Promise, counters_conserved, no_drops};
use crate::engine::view::CountersView;
use crate::lab::FirewallTotals;
use crate::lab::traffic::{FlowEnd, FlowReport, Protocol};

/// Time within which the other engine must be active: about 100 ms at `advertise = "30ms"`, and a margin for a busy
/// machine.
const TAKEN_WITHIN_MS: u64 = 300;
/// Longest silence of a session: the takeover, and a retransmission of TCP.
const STALL_MAX_MS: u64 = 1_500;

/// What was observed when one engine was killed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Takeover {
    /// Name of the engine that was killed.
    pub victim: &'static str,
    /// Name of the engine that took over; `None` if none did.
    pub successor: Option<&'static str>,
    /// How long after the death it did, in milliseconds.
    pub after_ms: u64,
    /// Why, in its words.
    pub reason: String,
    /// The active engines of the side after the killed one had come back.
    pub active_at_end: Vec<&'static str>,
    /// Reports of the sessions through the firewalls. The one with the most requests sends one each millisecond.
    pub sessions: Vec<FlowReport>,
    /// Reports of the sessions of virtual services.
    pub services: Vec<FlowReport>,
}

/// The experiences of the sessions, and the promises.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineReport {
    /// One line per death and kind of session.
    pub experiences: Vec<String>,
    /// The promises in order.
    pub promises: Vec<Promise>,
}

impl EngineReport {
    /// Judges the evidence.
    pub fn judge(takeovers: &[Takeover], drops: &[(String, FirewallTotals)], counters: &[CountersView]) -> Self {
        let mut promises = vec![taken_over(takeovers), sessions_went_on(takeovers)];
        if takeovers.iter().any(|takeover| !takeover.services.is_empty()) {
            promises.push(services_went_on(takeovers));
        }
        promises.extend([stayed_with_the_successor(takeovers), no_drops(drops), counters_conserved(counters)]);
        Self { experiences: takeovers.iter().flat_map(Takeover::experiences).collect(), promises }
    }
}

impl Takeover {
    fn experiences(&self) -> Vec<String> {
        let mut lines = vec![format!("{} killed", self.victim)];
        if let Some(stream) = self.sessions.iter().max_by_key(|flow| flow.sent) {
            lines.push(format!(
                "  {:<20}{} of {} lost, nothing came for {} ms",
                "1 datagram each ms",
                stream.lost(),
                stream.sent,
                stream.longest_stall_ms
            ));
        }
        let kinds = [
            ("tcp", &self.sessions, Protocol::Tcp),
            ("udp", &self.sessions, Protocol::Udp),
            ("tcp of services", &self.services, Protocol::Tcp),
            ("udp of services", &self.services, Protocol::Udp),
        ];
        for (kind, flows, protocol) in kinds {
            let flows: Vec<_> = flows.iter().filter(|flow| flow.protocol == protocol).collect();
            if flows.is_empty() {
                continue;
            }
            let ended = |end: &FlowEnd| flows.iter().filter(|flow| flow.end == *end).count();
            let (went_on, reset) = (ended(&FlowEnd::Finished), ended(&FlowEnd::Reset) + ended(&FlowEnd::Refused));
            let stall = flows.iter().map(|flow| flow.longest_stall_ms).max().unwrap_or(0);
            lines.push(format!(
                "  {kind:<20}{}: {went_on} went on, {reset} reset, {} hung, longest stall {stall} ms",
                flows.len(),
                flows.len() - went_on - reset
            ));
        }
        lines
    }
}

/// Somebody took over in time, on both sides.
fn taken_over(takeovers: &[Takeover]) -> Promise {
    let told = takeovers.iter().map(|takeover| match takeover.successor {
        Some(successor) => format!("{successor} {} ms after the death of {}", takeover.after_ms, takeover.victim),
        None => format!("nobody after the death of {}", takeover.victim),
    });
    Promise {
        what: format!("an engine that is killed is replaced within {TAKEN_WITHIN_MS} ms"),
        kept: !takeovers.is_empty()
            && takeovers.iter().all(|one| one.successor.is_some() && one.after_ms <= TAKEN_WITHIN_MS),
        detail: told.collect::<Vec<_>>().join(", "),
    }
}

/// Every session through the firewalls went on, after a pause.
fn sessions_went_on(takeovers: &[Takeover]) -> Promise {
    let sessions: Vec<_> = takeovers.iter().flat_map(|takeover| &takeover.sessions).collect();
    let went_on = |flow: &&&FlowReport| {
        flow.end == FlowEnd::Finished && flow.answered > 0 && flow.longest_stall_ms <= STALL_MAX_MS
    };
    let kept = sessions.iter().filter(went_on).count();
    let stall = sessions.iter().map(|flow| flow.longest_stall_ms).max().unwrap_or(0);
    Promise {
        what: format!("every session through the firewalls goes on, within {STALL_MAX_MS} ms"),
        kept: !sessions.is_empty() && kept == sessions.len(),
        detail: format!("{kept} of {} went on, the longest stall was {stall} ms", sessions.len()),
    }
}

/// Every session of a service went on, as the other engine had a copy of it.
fn services_went_on(takeovers: &[Takeover]) -> Promise {
    let sessions: Vec<_> = takeovers.iter().flat_map(|takeover| &takeover.services).collect();
    let went_on = |flow: &&&FlowReport| {
        flow.end == FlowEnd::Finished && flow.answered > 0 && flow.longest_stall_ms <= STALL_MAX_MS
    };
    let kept = sessions.iter().filter(went_on).count();
    let told = sessions.iter().filter(|flow| matches!(flow.end, FlowEnd::Reset | FlowEnd::Refused)).count();
    Promise {
        what: format!("every session of a service goes on at its server, within {STALL_MAX_MS} ms"),
        kept: !sessions.is_empty() && kept == sessions.len(),
        detail: format!("{kept} of {} went on, {told} were reset", sessions.len()),
    }
}

/// The role moved once: the engine that came back did not take it.
fn stayed_with_the_successor(takeovers: &[Takeover]) -> Promise {
    let told = takeovers.iter().map(|takeover| match takeover.active_at_end.as_slice() {
        [] => format!("nobody of {}'s side", takeover.victim),
        active => active.join(" and "),
    });
    Promise {
        what: "an engine that comes back is the standby: no second interruption".to_owned(),
        kept: !takeovers.is_empty()
            && takeovers
                .iter()
                .all(|one| one.successor.is_some() && one.active_at_end == Vec::from_iter(one.successor)),
        detail: format!("active at the end: {}", told.collect::<Vec<_>>().join(", ")),
    }
}

impl fmt::Display for EngineReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "What the sessions experienced")?;
        self.experiences.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(protocol: Protocol, requests: u64, end: FlowEnd) -> FlowReport {
        FlowReport {
            protocol,
            local: Some("198.51.100.7:40000".to_owned()),
            remote: "203.0.113.11:7".to_owned(),
            opened_ms: 0,
            ended_ms: 13_000,
            sent: requests,
            answered: requests - 90,
            lost_at_ms: vec![3_010],
            longest_stall_ms: 95,
            end,
            waited_ms: None,
        }
    }

    fn takeovers() -> Vec<Takeover> {
        let one = |victim, successor| Takeover {
            victim,
            successor: Some(successor),
            after_ms: 97,
            reason: format!("{victim} was silent for 97 ms"),
            active_at_end: vec![successor],
            sessions: vec![
                flow(Protocol::Udp, 13_000, FlowEnd::Finished),
                flow(Protocol::Udp, 130, FlowEnd::Finished),
                flow(Protocol::Tcp, 130, FlowEnd::Finished),
            ],
            services: vec![flow(Protocol::Tcp, 130, FlowEnd::Finished), flow(Protocol::Udp, 100, FlowEnd::Finished)],
        };
        vec![one("outer-a", "outer-b"), one("inner-a", "inner-b")]
    }

    fn broken(takeovers: &[Takeover]) -> Vec<String> {
        let drops = [("fw1".to_owned(), FirewallTotals { passed: 1, ..FirewallTotals::default() })];
        let counters = CountersView::from_iter(
            [("received", 3), ("forwarded", 3), ("hairpinned", 0), ("punted", 0), ("dropped", 0)]
                .map(|(name, count)| (name.to_owned(), count)),
        );
        let report = EngineReport::judge(takeovers, &drops, &[counters]);
        report.promises.into_iter().filter(|promise| !promise.kept).map(|promise| promise.what).collect()
    }

    #[test]
    fn two_deaths_that_went_as_designed_keep_every_promise_and_fit_a_terminal() {
        let takeovers = takeovers();
        assert_eq!(broken(&takeovers), Vec::<String>::new());

        let report = EngineReport::judge(&takeovers, &[], &[]).to_string();

        assert!(report.contains("90 of 13000 lost, nothing came for 95 ms"), "{report}");
        assert!(report.contains("udp of services     1: 1 went on, 0 reset, 0 hung, longest stall 95 ms"), "{report}");
        assert!(report.lines().all(|line| line.chars().count() < 80), "{report}");
    }

    #[test]
    fn each_fault_breaks_its_own_promise() {
        type Fault = fn(&mut Takeover);
        let faults: [(Fault, &str); 8] = [
            (|t| t.after_ms = 301, "is replaced within"),
            (|t| t.sessions[2].end = FlowEnd::Reset, "every session through"),
            (|t| t.sessions[1].longest_stall_ms = 1_501, "every session through"),
            (|t| t.services[0].end = FlowEnd::Reset, "of a service goes on"),
            (|t| t.services[1].longest_stall_ms = 1_501, "of a service goes on"),
            (|t| t.active_at_end = vec!["outer-a"], "is the standby"),
            (|t| t.active_at_end = vec!["outer-b", "outer-a"], "is the standby"),
            (|t| t.active_at_end.clear(), "is the standby"),
        ];
        for (fault, promise) in faults {
            let mut takeovers = takeovers();
            fault(&mut takeovers[0]);

            let broken = broken(&takeovers);

            assert!(broken.len() == 1 && broken[0].contains(promise), "{promise}: {broken:?}");
        }
        let mut nobody = takeovers();
        (nobody[1].successor, nobody[1].active_at_end) = (None, Vec::new());
        assert_eq!(broken(&nobody).len(), 2, "nobody took over, and nobody is there at the end");
    }

    #[test]
    fn a_tour_that_saw_nothing_proves_nothing() {
        assert_eq!(broken(&[]).len(), 3);
    }
}
