//! `show checks`: the last results of the checks of servers and of the probes through firewalls.

use super::farm::ServerCheck;
use super::journal::micros;
use super::paths::Path;
use super::{Controller, UnknownName};
use crate::config::is_removed;
use crate::engine::view::{CheckResultView, ObjectKind, OperState};
use crate::health::history::CheckRecord;
use crate::time::Instant;

/// What a result is about.
#[derive(Clone, Copy)]
enum CheckSubject<'a> {
    Server(&'a ServerCheck),
    Path(&'a Path),
}

impl Controller {
    /// The last `limit` results that are kept, oldest first, of one `subject` (`web/s1`, `web`, `s1`, `perimeter/fw1`,
    /// `perimeter`, `fw1`) or of all. The caller fills in their times by the wall clock.
    ///
    /// # Errors
    /// If nothing is called `subject`.
    pub fn check_results(
        &self,
        subject: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Instant, CheckResultView)>, UnknownName> {
        let servers = self.farm.server_checks().iter();
        let servers = servers.filter(|check| !is_removed(&self.config.servers[check.server.index()].name));
        let checked = servers.map(CheckSubject::Server).chain(self.paths.all().iter().map(CheckSubject::Path));
        let checked: Vec<CheckSubject<'_>> =
            checked.filter(|one| subject.is_none_or(|name| matches_name(&self.subject_name(*one), name))).collect();
        if let (Some(name), true) = (subject, checked.is_empty()) {
            return Err(self.unknown_subject(name));
        }
        let mut results: Vec<(CheckSubject<'_>, &CheckRecord)> = Vec::new();
        for one in checked {
            let history = match one {
                CheckSubject::Server(check) => &check.history,
                CheckSubject::Path(path) => &path.history,
            };
            results.extend(history.records().map(|record| (one, record)));
        }
        results.sort_by_key(|(_, record)| record.at);
        let first = results.len().saturating_sub(limit);
        Ok(results[first..].iter().map(|(one, record)| (record.at, self.result_view(*one, record))).collect())
    }

    fn result_view(&self, checked: CheckSubject<'_>, record: &CheckRecord) -> CheckResultView {
        let (kind, peer, family) = match checked {
            CheckSubject::Server(check) => (ObjectKind::Server, None, check.family),
            CheckSubject::Path(path) => {
                (ObjectKind::Firewall, Some(self.config.peers[path.key.peer.index()].name.clone()), path.key.family)
            }
        };
        CheckResultView {
            engine: self.config.engine.name.clone(),
            at: String::new(),
            kind: kind.into(),
            subject: self.subject_name(checked),
            peer,
            family: family.into(),
            result: record.result.into(),
            times: record.count,
            duration_us: record.took.map(micros),
            state: OperState::from(record.state).into(),
            detail: Some(record.detail.clone()).filter(|words| !words.is_empty()),
        }
    }

    fn subject_name(&self, checked: CheckSubject<'_>) -> String {
        match checked {
            CheckSubject::Server(check) => self.config.server_name(check.server),
            CheckSubject::Path(path) => self.config.firewall_name(path.key.firewall),
        }
    }

    fn unknown_subject(&self, name: &str) -> UnknownName {
        let here = |name: &String| !is_removed(name);
        let servers = self.config.server_ids().map(|server| self.config.server_name(server));
        let known: Vec<String> = servers
            .chain(self.config.firewall_ids().map(|firewall| self.config.firewall_name(firewall)))
            .filter(here)
            .collect();
        let known = match known.is_empty() {
            true => "there is none".to_owned(),
            false => format!("there are {}", known.join(", ")),
        };
        UnknownName(format!("no server or firewall is called {name:?}; {known}"))
    }
}

/// Whether `name` means `whole`, such as `web/s1`.
fn matches_name(whole: &str, name: &str) -> bool {
    whole == name || whole.split('/').any(|part| part == name)
}
