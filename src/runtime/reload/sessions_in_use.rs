//! Walks over the session table for a reload or plan, beside the workers: it copies one slot at a time and locks
//! nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::shared::Shared;
use super::{ReloadableEngine, on_control, refused};
use crate::api::ApiError;
use crate::config::{self, Config, InUse, LoadedConfig, is_removed};
use crate::engine::plan::{ReloadImpact, new_flows};
use crate::engine::view::PlanView;
use crate::time::Duration;

/// After this time, no worker uses the snapshot that was in force before.
const SNAPSHOT_GRACE: Duration = Duration::from_secs(1);

/// The ids to which sessions refer; `None` if nobody needs to know, or if the last reload is so recent that a worker
/// may still create sessions by the snapshot before.
pub(super) async fn in_use(shared: &Arc<Shared>) -> Option<InUse> {
    let config = shared.config();
    if !has_removed(&config) || shared.clock.now().since(shared.config_text().since) < SNAPSHOT_GRACE {
        return None;
    }
    let shared = Arc::clone(shared);
    tokio::task::spawn_blocking(move || walk(&shared)).await.ok()
}

fn has_removed(config: &Config) -> bool {
    let groups = config.groups.iter().map(|group| &group.name);
    let firewalls = config.firewalls.iter().map(|firewall| &firewall.name);
    let peers = config.peers.iter().map(|peer| &peer.name);
    let services = config.services.iter().map(|service| &service.name);
    let servers = config.servers.iter().map(|server| &server.name);
    groups.chain(firewalls).chain(peers).chain(services).chain(servers).any(|name| is_removed(name))
}

fn walk(shared: &Shared) -> InUse {
    let snapshot = shared.snapshot.load_full();
    let mut in_use = InUse::default();
    let mut sets = BTreeSet::new();
    shared.sessions.for_each(|_, session, bound| {
        for pin in [session.toward_low, session.toward_high].into_iter().flatten() {
            in_use.firewalls.extend(pin.firewalls());
            sets.insert(pin.set);
        }
        if let Some(bound) = bound {
            in_use.services.insert(bound.service);
            in_use.servers.insert(bound.server);
        }
        true
    });
    let keys = snapshot.set_keys.iter().enumerate().filter(|(index, _)| sets.contains(&(*index).into()));
    for (_, key) in keys {
        in_use.groups.insert(key.group);
        in_use.peers.extend(key.peer);
    }
    in_use
}

/// Says what a reload with this valid file would do.
pub(super) async fn plan(target: &Arc<ReloadableEngine>, mut outcome: LoadedConfig) -> Result<PlanView, ApiError> {
    let shared = Arc::clone(&target.shared);
    let Some(config) = outcome.config.clone() else { return Err(refused(outcome.diagnostics.to_string())) };
    let differences = config::differences(&shared.config(), &config);
    config::refuse_restart(&shared.config(), &mut outcome);
    let mut view = PlanView {
        engine: shared.engine.clone(),
        config: PathBuf::from(&outcome.diagnostics.path).display().to_string(),
        changes: !differences.is_empty(),
        differences,
        diagnostics: outcome.diagnostics.to_string(),
        possible: outcome.config.is_some(),
        sessions: shared.sessions.len() as u64,
        moved: 0,
        healthy_moved: 0,
        moves: Vec::new(),
        new_flows: Vec::new(),
        role: None,
        active_node: None,
    };
    if !view.possible || !view.changes {
        return Ok(view);
    }
    let in_use = in_use(&shared).await;
    let rehearsed = on_control(target, move |control| {
        let now = control.now();
        let new = control.controller.rehearse(config, in_use.as_ref(), now)?;
        Ok::<_, config::IdsExhausted>((control.controller.snapshot(), new))
    });
    let (old, new) = rehearsed.await?.map_err(|error| refused(error.to_string()))?;
    let walked = tokio::task::spawn_blocking(move || {
        let mut survey = ReloadImpact::new(&old, &new, shared.clock.now());
        shared.sessions.for_each(|key, session, bound| {
            survey.examine(key, session, bound);
            true
        });
        (view.sessions, view.moved, view.healthy_moved) =
            (survey.sessions(), survey.moved(), survey.moved_from_healthy());
        view.moves = survey.moves();
        view.new_flows = new_flows(&old, &new);
        view
    });
    walked.await.map_err(|error| ApiError::Unavailable(error.to_string()))
}
