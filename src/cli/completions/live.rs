//! Completes names that only running engines know: their firewalls, servers, services and links. Without an engine
//! there are none, and the answer comes at once.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::FromArgMatches;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use crate::api::{Call, calls};
use crate::cli::engines::{Engine, EngineSelection, ask, block_on};
use crate::engine::view::{FirewallView, LinkView, ServiceView};
use crate::time::Duration;

/// How long all engines together may take. With more, the shell would seem to hang.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// Names with a few words about each, in order.
type Names = BTreeMap<String, String>;

/// The engines that run here.
pub fn engines() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let engines =
            EngineSelection::unfinished(&[]).map(|selection| selection.running_or_in_a_lab()).unwrap_or_default();
        candidates(engines.into_iter().map(|engine| (engine.name, String::new())).collect())
    })
}

/// Firewalls by name, preceded by the group if several groups have a firewall of that name.
pub fn firewalls() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(of_engines(&calls::Firewalls {}, |firewalls| short(&of_groups(firewalls)))))
}

/// Firewalls as `GROUP/NAME`.
pub fn whole_firewalls() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(of_engines(&calls::Firewalls {}, of_groups)))
}

/// Virtual services.
pub fn services() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(of_engines(&calls::Services {}, service_names)))
}

/// Real servers as `SERVICE/NAME`.
pub fn servers() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(of_engines(&calls::Services {}, server_names)))
}

/// Links.
pub fn links() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(of_engines(&calls::Links {}, link_names)))
}

/// Where a packet may arrive: links, and firewalls as `GROUP/NAME`.
pub fn origins() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let mut names = of_engines(&calls::Links {}, link_names);
        names.extend(of_engines(&calls::Firewalls {}, of_groups));
        candidates(names)
    })
}

/// Objects that are checked: firewalls as `GROUP/NAME`, servers as `SERVICE/NAME`.
pub fn members() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let mut names = of_engines(&calls::Firewalls {}, of_groups);
        names.extend(of_engines(&calls::Services {}, server_names));
        candidates(names)
    })
}

fn candidates(names: Names) -> Vec<CompletionCandidate> {
    let one = |(name, words): (String, String)| {
        CompletionCandidate::new(name).help((!words.is_empty()).then(|| words.into()))
    };
    names.into_iter().map(one).collect()
}

/// What the engines that the unfinished command line means answer in time.
fn of_engines<T, C: Call<Answer = Vec<T>>>(call: &C, names: fn(&[T]) -> Names) -> Names {
    let words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let engines = EngineSelection::unfinished(&words)
        .map(|selection| selection.engines().unwrap_or_default())
        .unwrap_or_default();
    let asked = block_on(async { tokio::time::timeout(ANSWER_TIMEOUT, ask_each(&engines, call, names)).await });
    asked.ok().and_then(Result::ok).unwrap_or_default()
}

async fn ask_each<T, C: Call<Answer = Vec<T>>>(engines: &[Engine], call: &C, names: fn(&[T]) -> Names) -> Names {
    let mut all = Names::new();
    for engine in engines {
        if let Ok((_, answer)) = ask(engine, call).await {
            all.extend(names(&answer));
        }
    }
    all
}

fn of_groups(firewalls: &[FirewallView]) -> Names {
    let words = |state: &str, sessions: u64| format!("{state}, {sessions} sessions");
    firewalls.iter().map(|one| (format!("{}/{}", one.group, one.name), words(one.state.name(), one.sessions))).collect()
}

/// Leaves out the group where the name alone is unambiguous.
fn short(whole: &Names) -> Names {
    let own = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let is_alone = |name: &str| whole.keys().filter(|other| own(other) == own(name)).count() == 1;
    whole.iter().map(|(name, words)| (if is_alone(name) { own(name) } else { name.clone() }, words.clone())).collect()
}

fn service_names(services: &[ServiceView]) -> Names {
    services.iter().map(|one| (one.name.clone(), format!("{}, {} sessions", one.state, one.sessions))).collect()
}

fn server_names(services: &[ServiceView]) -> Names {
    let servers = services.iter().flat_map(|of| of.servers.iter().map(move |server| (of, server)));
    let words = |state: &str, sessions: u64| format!("{state}, {sessions} sessions");
    servers.map(|(of, one)| (format!("{}/{}", of.name, one.name), words(one.state.name(), one.sessions))).collect()
}

fn link_names(links: &[LinkView]) -> Names {
    links.iter().map(|one| (one.name.clone(), format!("{}, {}", one.device, one.state))).collect()
}

impl EngineSelection {
    /// The engine selection of an unfinished command line, `fwlb` first; the engines get little time.
    fn unfinished(words: &[OsString]) -> Option<Self> {
        // Words that cannot be parsed yet do not matter.
        let words = if words.is_empty() { &[OsString::from("fwlb")] } else { words };
        let matches = crate::cli::command().ignore_errors(true).try_get_matches_from(words).ok()?;
        Some(Self::from_arg_matches(&matches).ok()?.with_timeout(ANSWER_TIMEOUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firewall_has_its_group_in_front_only_where_two_groups_have_its_name() {
        let whole = ["perimeter/fw1", "perimeter/fw2", "dmz/fw1"];
        let whole = whole.iter().map(|name| ((*name).to_owned(), "up".to_owned())).collect();
        assert_eq!(short(&whole).into_keys().collect::<Vec<_>>(), ["dmz/fw1", "fw2", "perimeter/fw1"]);
    }
}
