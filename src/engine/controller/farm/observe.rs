//! Passive checks (`observe = "layer4"`): connections of clients that a server refuses or leaves without an answer take
//! the server out of rotation before its next active check.
//!
//! Every 100 ms the controller evaluates what the workers recorded ([`crate::slb::observe`]). A server with failed
//! connections is checked at once. If several clients report failures, the server takes no new sessions until a check
//! passes. If only one client does, the check has to confirm it first. Sessions that the server has continue: only its
//! active checks end them.
//!
//! Passive checks take out at most half of the servers of a service, backups apart, and never the last one: if the
//! others stop serving later, one that was taken out is restored. A server that passes its check is not suspected again
//! before its next regular one.
//! regular one.

use super::super::outbox::Outbox;
use super::super::tally::Tally;
use super::Farm;
use super::checks::ServerCheck;
use crate::config::{AdminState, Config, Observe, is_removed};
use crate::health::history::CheckResult;
use crate::health::monitor::HealthState;
use crate::id::ServerId;
use crate::slb::family_index;
use crate::time::{Duration, Instant};
use crate::wire::Family;

/// How often the controller evaluates what the workers recorded.
const OBSERVE_INTERVAL: Duration = Duration::from_millis(100);

/// What connections of clients say about a server, in relation to its check.
#[derive(Debug, Clone, Default)]
pub(super) struct Suspicion {
    /// A check has to confirm that the server is down before it is taken out for this reason.
    unconfirmed_reason: Option<String>,
    /// The server is not suspected before this time.
    suppressed_until: Option<Instant>,
}

/// The other servers of one kind that have an address in a family.
#[derive(Debug, Clone, Copy)]
struct SiblingCounts {
    all: usize,
    /// Servers that passive checks took out.
    avoided: usize,
    /// Servers that take new sessions.
    serving: usize,
}

/// When observation begins; `None` if no service observes.
pub(super) fn first_observation(config: &Config, now: Instant) -> Option<Instant> {
    config.services.iter().any(|service| service.observe == Observe::Layer4).then(|| now + OBSERVE_INTERVAL)
}

impl Farm {
    /// Whether connections of clients count against a server.
    pub(super) fn observes(&self, id: ServerId) -> bool {
        let server = &self.config.servers[id.index()];
        self.config.services[server.service.index()].observe == Observe::Layer4 && !is_removed(&server.name)
    }

    /// Evaluates what the workers recorded, if that is due.
    pub(super) fn watch_clients(&mut self, now: Instant, out: &mut Outbox) {
        if self.next_observation.is_none_or(|due| due > now) {
            return;
        }
        self.next_observation = Some(now + OBSERVE_INTERVAL);
        for index in 0..self.server_checks.len() {
            if self.observes(self.server_checks[index].server) {
                self.restore_last(index);
                self.watch_clients_of(index, now, out);
            }
        }
    }

    /// Restores a server that passive checks took out when no other of its kind serves any more, for whatever reason:
    /// it may have recovered long before its next check.
    fn restore_last(&mut self, index: usize) {
        let (server, family) = (self.server_checks[index].server, self.server_checks[index].family);
        if self.avoided(server, family).is_some() && self.siblings(server, family).serving == 0 {
            self.servers[server.index()].persistent_state.observed(family).clear();
            self.servers[server.index()].avoided[family_index(family)] = None;
            self.suspects.insert(server);
        }
    }

    /// Excuses observations after the engine was late: connections may have been answered without its knowledge.
    pub(super) fn excuse_observations(&mut self, lag: Duration) {
        if lag >= OBSERVE_INTERVAL {
            for check in &self.server_checks {
                self.servers[check.server.index()].persistent_state.observed(check.family).clear();
            }
        }
    }

    fn watch_clients_of(&mut self, index: usize, now: Instant, out: &mut Outbox) {
        let check = &self.server_checks[index];
        let (server, family) = (check.server, check.family);
        let observation = self.servers[server.index()].persistent_state.observed(family);
        let Some(complaint) = observation.failure(now) else { return };
        observation.clear();
        let is_known = check.suspicion.unconfirmed_reason.is_some() || self.avoided(server, family).is_some();
        let is_spared = check.suspicion.suppressed_until.is_some_and(|until| now < until);
        if is_known || is_spared || check.monitor.state() != HealthState::Up {
            return;
        }
        out.count(Tally::Complaints);
        match complaint.is_shared && self.may_avoid(server, family) {
            true => self.avoid(server, family, complaint.describe(), out),
            false => self.server_checks[index].suspicion.unconfirmed_reason = Some(complaint.describe()),
        }
        self.server_checks[index].monitor.check_by(now);
        self.schedule_monitor(index);
    }

    /// Handles the end of a check of a server that passive checks may suspect.
    pub(super) fn resolve_suspicion(&mut self, index: usize, result: CheckResult, out: &mut Outbox) {
        let (server, family) = (self.server_checks[index].server, self.server_checks[index].family);
        let check = &mut self.server_checks[index];
        let asked = check.suspicion.unconfirmed_reason.take();
        match result {
            CheckResult::Passed => {
                let is_avoided = self.avoided(server, family).is_some();
                if asked.is_some() || is_avoided {
                    let next = self.server_checks[index].monitor.poll_timeout();
                    self.server_checks[index].suspicion.suppressed_until = Some(next);
                    self.servers[server.index()].persistent_state.observed(family).clear();
                }
                if is_avoided {
                    self.servers[server.index()].avoided[family_index(family)] = None;
                    self.suspects.insert(server);
                }
            }
            CheckResult::Failed => {
                let is_up = self.server_checks[index].monitor.state() == HealthState::Up;
                if let Some(why) = asked.filter(|_| is_up && self.may_avoid(server, family)) {
                    self.avoid(server, family, why, out);
                }
            }
            CheckResult::Excused | CheckResult::Skipped => {}
        }
        // What the active checks report needs no confirmation by clients.
        if self.server_checks[index].monitor.state() != HealthState::Up
            && self.servers[server.index()].avoided[family_index(family)].take().is_some()
        {
            self.suspects.insert(server);
        }
    }

    /// After a reload a server that is not observed any more is not avoided either.
    pub(super) fn forget_suspicions(&mut self) {
        for id in self.config.server_ids().collect::<Vec<_>>() {
            if !self.observes(id) {
                self.servers[id.index()].avoided = [None, None];
            }
        }
    }

    fn avoid(&mut self, server: ServerId, family: Family, why: String, out: &mut Outbox) {
        out.count(Tally::Avoided);
        let reason = format!("{why}; it takes no new sessions until a check passes");
        self.servers[server.index()].avoided[family_index(family)] = Some(reason);
        self.suspects.insert(server);
    }

    fn avoided(&self, server: ServerId, family: Family) -> Option<&str> {
        self.servers[server.index()].avoided[family_index(family)].as_deref()
    }

    /// Whether passive checks may take out a server: at most half of those of its kind, and never the last.
    fn may_avoid(&self, server: ServerId, family: Family) -> bool {
        let peers = self.siblings(server, family);
        2 * (peers.avoided + 1) <= peers.all + 1 && peers.serving > 0
    }

    /// Counts the other servers of its service that are of its kind: either backups, or servers that are none.
    fn siblings(&self, server: ServerId, family: Family) -> SiblingCounts {
        let of = &self.config.servers[server.index()];
        let mut peers = SiblingCounts { all: 0, avoided: 0, serving: 0 };
        for other in &self.config.services[of.service.index()].servers {
            let is_alike = self.config.servers[other.index()].backup == of.backup;
            if *other == server || !is_alike || self.check_in(*other, family).is_none() {
                continue;
            }
            peers.all += 1;
            if self.avoided(*other, family).is_some() {
                peers.avoided += 1;
            } else {
                let takes_new = self.effective_admin(*other) == AdminState::Ready && self.server_weight(*other) > 0;
                let serves = self.servers[other.index()].serves()[family_index(family)];
                peers.serving += usize::from(takes_new && serves);
            }
        }
        peers
    }

    fn check_in(&self, server: ServerId, family: Family) -> Option<&ServerCheck> {
        self.checks_of(server).find(|check| check.family == family)
    }
}
