//! Checks that hold when a session of a service begins: its server accepts it, and its translated tuple is free and has
//! rested.

use crate::sim::check::services::{JudgedFrame, ServiceChecks, SessionModel};
use crate::sim::farm::{PlannedScheduler, server_name};
use crate::sim::packet::{Tuple, tcp_flag};
use crate::sim::sim_engine::BoundFlow;
use crate::time::Duration;

impl ServiceChecks {
    /// Checks and records a new session.
    pub(super) fn open(
        &mut self,
        service: usize,
        server: usize,
        outside: Tuple,
        inside: Tuple,
        placed: Option<BoundFlow>,
        passed: &JudgedFrame<'_>,
    ) {
        let now = passed.now;
        *self.opened.entry((service, server)).or_default() += 1;
        self.check_scheduling(service, server, outside, passed);
        self.check_unique_tuple(outside, inside, passed);
        let server_failures = placed.map_or(0, |placed| placed.server_failures);
        let created = placed.map(|placed| placed.created);
        if let Some(old) = self.models.remove(&outside)
            && self.by_server_tuple.get(&old.inside) == Some(&outside)
        {
            self.by_server_tuple.remove(&old.inside);
        }
        self.by_server_tuple.insert(inside, outside);
        self.alive.insert(inside, (outside, now));
        let (next, reset) = ([None; 2], [false; 2]);
        self.models.insert(
            outside,
            SessionModel { service, server, inside, created, server_failures, last: now, next, reset },
        );
    }

    /// Checks that the server accepts new sessions by the snapshot of the packet, and that it is the server whose turn
    /// it is, or the one that its sticky client had and may keep.
    fn check_scheduling(&mut self, service: usize, server: usize, outside: Tuple, passed: &JudgedFrame<'_>) {
        let Some((seen_service, seen)) = self.in_snapshot(service, server, &passed.handled.snapshot) else { return };
        let family = usize::from(outside.source.0.is_ipv6());
        let plan = self.farm.services[service].clone();
        let client = (service, outside.source.0);
        let name = server_name(server);
        let had = (plan.sticky_s > 0)
            .then(|| self.sticky.get(&client).copied())
            .flatten()
            .filter(|(_, at)| passed.now.since(*at) < Duration::from_secs(plan.sticky_s));
        let view = |number: usize| seen_service.servers.iter().find(|seen| seen.name == server_name(number));
        let others_live = seen_service.servers.iter().any(|other| !other.backup && other.up[family]);
        let is_syn =
            passed.before.tcp_flags().is_some_and(|flags| flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN);
        // A session from before the engine's start may be resumed at a server that has not been checked since.
        let resumes = plan.scheduler == PlannedScheduler::Hash && seen.is_starting[family] && !is_syn;
        if !seen.up[family] && !resumes {
            let what = format!("a new session {outside} to {name}, which is down");
            self.find("no new session to a server that is down", outside, what);
        } else if !seen.accepts_new_sessions || (seen.weight == 0 && plan.sticky_s == 0) {
            let what = format!("a new session {outside} to {name}, which takes none (weight {})", seen.weight);
            self.find("no new session to a server that drains", outside, what);
        }
        if seen.backup && others_live {
            let what = format!("a new session {outside} to {name}, a backup, while others live");
            self.find("backup servers wait", outside, what);
        }
        if let Some((had, _)) = had
            && had != server
            && view(had).is_some_and(|had| had.up[family] && had.accepts_new_sessions && !(had.backup && others_live))
        {
            let what = format!("{outside} went to {name}, its client had {}, which would have it", server_name(had));
            self.find("sticky clients stay", outside, what);
        }
        if plan.sticky_s > 0 {
            self.sticky.insert(client, (server, passed.now));
        } else if plan.scheduler == PlannedScheduler::RoundRobin
            && let Some(expected) = self.turns[service].note_turn(&seen_service.servers, family, &seen.name)
        {
            let what = format!("{outside} went to {name}, it was the turn of {expected}");
            self.find("exact turns", outside, what);
        }
    }

    /// Checks that no other live session has the tuple, and that it has rested since the last one.
    fn check_unique_tuple(&mut self, outside: Tuple, inside: Tuple, passed: &JudgedFrame<'_>) {
        if inside == outside {
            return;
        }
        let other = self.by_server_tuple.get(&inside).copied().filter(|other| *other != outside);
        if let Some(other) = other
            && passed.engine.bound_flow(other).is_some_and(|placed| placed.inside == inside)
        {
            let what = format!("{outside} and {other}, both live, are {inside} to their server");
            return self.find("bijection", outside, what);
        }
        // The first packet of a session may not have been forwarded: then the session is older than what was seen of
        // it.
        let rested = self
            .alive
            .get(&inside)
            .is_none_or(|(of, at)| *of == outside || passed.now.since(*at) >= self.port_reuse_time);
        if inside.source != outside.source && !rested {
            let what =
                format!("{outside} is {inside}, which another session was less than {:?} ago", self.port_reuse_time);
            self.find("ports rest", outside, what);
        }
    }
}
