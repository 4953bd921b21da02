//! Judges whether an engine forwards: its threads turn, its links are up, and no alarm says that packets are stopped.

use super::backend::EngineBackend;
use super::shared::Shared;
use super::watchdog::TURN_MAX;
use super::worker::WorkerHandle;
use crate::api::ApiError;
use crate::engine::view::{AlarmKind, AlarmView, HealthView, LinkView, OperState, ProblemView};
use crate::time::Duration;

/// Time between two looks at a thread that was woken.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Kinds of alarms that say that packets are stopped. All others are warnings: they concern work beside the packets, or
/// a replacement for something that failed. A duplicate address is a warning too, because the packets of neighbours
/// that ignore the other claim go on.
const BLOCKING_ALARMS: [AlarmKind; 3] = [AlarmKind::BelowMin, AlarmKind::HaStuck, AlarmKind::ServiceDown];

impl EngineBackend {
    /// Asks the control thread, whose answer proves that it turns, and checks that each worker turns.
    pub(super) async fn health(&self) -> Result<HealthView, ApiError> {
        let before = turns(&self.shared);
        let mut alarms = self
            .on_control(|control| {
                control.workers.iter().for_each(WorkerHandle::wake);
                control.controller.alarms(control.now())
            })
            .await?;
        alarms.extend(self.cluster().await.alarms(&self.shared.engine));
        let stuck = self.stuck(&before).await;
        let links = self.link_views(&self.shared.counters());
        Ok(judge(&self.shared.engine, &stuck, &links, &alarms))
    }

    /// The workers that have not turned since `before` within the time that a turn may take.
    async fn stuck(&self, before: &[u64]) -> Vec<usize> {
        let mut waited = Duration::ZERO;
        loop {
            let now = turns(&self.shared);
            let stuck: Vec<usize> = (0..now.len()).filter(|worker| now[*worker] == before[*worker]).collect();
            if stuck.is_empty() || waited >= TURN_MAX {
                return stuck;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
            waited += POLL_INTERVAL;
        }
    }
}

fn turns(shared: &Shared) -> Vec<u64> {
    shared.worker_turns.iter().map(|beat| beat.count()).collect()
}

fn judge(engine: &str, stuck: &[usize], links: &[LinkView], alarms: &[AlarmView]) -> HealthView {
    let problem = |kind: &str, subject: &str, reason: String| ProblemView {
        kind: kind.to_owned(),
        subject: subject.to_owned(),
        reason,
    };
    let workers = stuck.iter().map(|worker| {
        let name = format!("worker-{worker}");
        problem("worker_stuck", &name, format!("packet worker {worker} does not turn"))
    });
    let down = links.iter().filter(|link| link.state == OperState::Down).map(|link| {
        let why = link.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        problem(AlarmKind::LinkDown.name(), &link.name, format!("link {} ({}) is down{why}", link.name, link.device))
    });
    let told = |alarm: &AlarmView| {
        problem(alarm.kind.name(), &alarm.subject, format!("{} {}: {}", alarm.kind, alarm.subject, alarm.reason))
    };
    // A link that is down is reported with its state instead.
    let others = alarms.iter().filter(|alarm| alarm.kind != AlarmKind::LinkDown);
    let (stop, warn): (Vec<_>, Vec<_>) =
        others.partition(|alarm| alarm.kind.known().is_some_and(|kind| BLOCKING_ALARMS.contains(&kind)));
    let problems: Vec<_> = workers.chain(down).chain(stop.into_iter().map(told)).collect();
    let warnings = warn.into_iter().map(told).collect();
    HealthView { engine: engine.to_owned(), healthy: problems.is_empty(), problems, warnings }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(state: &str, reason: Option<&str>) -> LinkView {
        let json = serde_json::json!({
            "engine": "outer", "name": "fw", "device": "eth1", "vlan": null, "state": state, "reason": reason, "mac": "", "mtu": 1500,
            "addresses": [], "rx_packets": 0, "rx_bytes": 0, "rx_dropped": 0, "ring_dropped": 0, "tx_packets": 0, "tx_bytes": 0,
            "tx_errors": 0,
        });
        serde_json::from_value(json).unwrap()
    }

    fn alarm(kind: &str) -> AlarmView {
        let json = serde_json::json!({ "kind": kind, "subject": "web", "reason": "no server is up", "since_ms": 5 });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_stops_packets_is_a_problem_and_what_goes_on_beside_them_is_none() {
        assert!(judge("outer", &[], &[link("up", None)], &[]).healthy);
        // The last alarm stands for an earlier reading of the links.
        let beside = ["peer_lost", "duplicate_address", "firewalls_share_mac", "link_down"].map(alarm);
        let well = judge("outer", &[], &[link("up", None)], &beside);
        let warned: Vec<_> = well.warnings.iter().map(|warning| warning.kind.as_str()).collect();
        assert_eq!(
            (well.healthy, warned.as_slice()),
            (true, &["peer_lost", "duplicate_address", "firewalls_share_mac"][..])
        );

        let found =
            judge("outer", &[1], &[link("up", None), link("down", Some("no carrier"))], &[alarm("service_down")]);
        let reasons: Vec<_> = found.problems.iter().map(|problem| problem.reason.as_str()).collect();
        assert!(!found.healthy);
        assert_eq!(
            reasons,
            [
                "packet worker 1 does not turn",
                "link fw (eth1) is down: no carrier",
                "service_down web: no server is up"
            ]
        );
    }

    #[test]
    fn a_role_machine_that_stands_still_stops_packets() {
        let stuck = judge("outer-a", &[], &[link("up", None)], &[alarm("ha_stuck"), alarm("ha_alone")]);
        let kinds = |problems: &[ProblemView]| problems.iter().map(|problem| problem.kind.clone()).collect::<Vec<_>>();
        assert_eq!((stuck.healthy, kinds(&stuck.problems)), (false, vec!["ha_stuck".to_owned()]));
        assert_eq!(kinds(&stuck.warnings), ["ha_alone"]);
    }
}
