//! Configurations that have to be confirmed (`fwlb reload --confirm`), and the return to the one before.
//!
//! It works like `commit confirmed` of Junos: an operator who does not come back to confirm has probably cut himself
//! off, and the engine returns to the configuration before. A later reload or rollback that changes something counts as
//! the confirmation.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use super::{ConfigSource, ReloadRequest, ReloadableEngine, Reloader, refused};
use crate::api::ApiError;
use crate::config::value::format_duration;
use crate::engine::change::{StateChange, Subject};
use crate::engine::view::EventKind;
use crate::runtime::history::{ConfigOrigin, ConfigRecord, History, StartConfig, Unconfirmed};
use crate::runtime::shared::Shared;
use crate::time::Duration;

/// Who is named as the cause of an automatic return.
const AUTOMATIC: &str = "fwlb";

impl Reloader {
    /// Confirms that the configuration in force stays.
    pub(in crate::runtime) async fn confirm(&self, engine: &str, by: &str) -> Result<String, ApiError> {
        let _turn = self.lock.lock().await;
        let target = self.engine(engine)?;
        let Some(waits) = target.history.unconfirmed() else {
            return Err(refused(format!("nothing waits to be confirmed at engine {engine}")));
        };
        change_history(&target.history, |history| history.set_unconfirmed(None)).await?;
        report_config_event(&target.shared, Some("unconfirmed"), "confirmed", None, by);
        Ok(format!("the configuration {} of engine {engine} is confirmed and stays", waits.digest))
    }

    /// Returns to the configuration before when the time is over, unless it is confirmed by then. To be called within
    /// the runtime.
    pub(super) fn await_confirmation(self: &Arc<Self>, target: Arc<ReloadableEngine>, waits: Unconfirmed) {
        let reloader = Arc::clone(self);
        let left = waits.remaining(now_ms(&target.shared));
        tokio::spawn(async move {
            tokio::time::sleep(left).await;
            reloader.roll_back_unconfirmed(&target, &waits).await;
        });
    }

    async fn roll_back_unconfirmed(self: &Arc<Self>, target: &Arc<ReloadableEngine>, waits: &Unconfirmed) {
        let _turn = self.lock.lock().await;
        // It was confirmed in the meantime, or another configuration waits.
        if target.history.unconfirmed().as_ref() != Some(waits) {
            return;
        }
        let asked =
            ReloadRequest { source: ConfigSource::Previous(waits.clone()), by: AUTOMATIC.to_owned(), confirm: None };
        let engine = &target.shared.engine;
        if let Err(error) = self.apply_file(target, &asked).await {
            tracing::error!(engine, "the configuration was not confirmed, and the one before it is not taken: {error}");
            report_config_event(
                &target.shared,
                Some("unconfirmed"),
                "refused",
                Some(format!("no way back: {error}")),
                AUTOMATIC,
            );
        }
    }
}

/// Reports what a starting engine found in its history, and acts on it. To be called when the engine runs.
pub(in crate::runtime) async fn resume_history(
    reloader: &Arc<Reloader>,
    engine: &str,
    at_start: StartConfig,
    source: PathBuf,
) -> Result<(), ApiError> {
    let target = reloader.engine(engine)?;
    let (shared, history) = (&target.shared, &target.history);
    let mut how = ConfigOrigin::Start;
    match at_start {
        StartConfig::File => {}
        StartConfig::FileUnconfirmed(waits) => {
            let left = format_duration(Duration::from_secs(waits.remaining(now_ms(shared)).as_secs()));
            let reason =
                format!("started before it was confirmed: returns to configuration {} in {left}", waits.back_to);
            report_config_event(shared, None, "unconfirmed", Some(reason), &waits.by);
            reloader.await_confirmation(Arc::clone(&target), waits);
        }
        StartConfig::FileOtherPending(waits) => {
            change_history(history, |history| history.set_unconfirmed(None)).await?;
            let reason =
                format!("a restart took {}, so that {} waits no more", target.own_file.display(), waits.digest);
            report_config_event(shared, Some("unconfirmed"), "started", Some(reason), AUTOMATIC);
        }
        StartConfig::Previous(number) => {
            how = ConfigOrigin::Rollback;
            if let Some(waited) = history.unconfirmed() {
                change_history(history, move |history| history.expire_unconfirmed(&waited)).await?;
            }
            let own = target.own_file.display();
            let reason =
                format!("{own} was not confirmed: started with configuration {number}; fwlb reload takes the file");
            report_config_event(shared, Some("unconfirmed"), "started", Some(reason), AUTOMATIC);
        }
    }
    let text = shared.config_text().text;
    let record = record(shared, how, None, source);
    change_history(history, move |history| history.add(record, &text)).await.map(|_| ())
}

/// The record of the configuration in force, which has just been applied.
pub(super) fn record(shared: &Shared, how: ConfigOrigin, by: Option<String>, file: PathBuf) -> ConfigRecord {
    ConfigRecord { number: 0, at: shared.clock.wall(), by, how, digest: shared.config().digest.clone(), file }
}

/// Changes the history on a blocking thread, because a disk may be slow.
pub(super) async fn change_history<T: Send + 'static>(
    history: &Arc<History>,
    change: impl FnOnce(&History) -> std::io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let history = Arc::clone(history);
    let changed = tokio::task::spawn_blocking(move || {
        change(&history)
            .map_err(|error| refused(format!("cannot keep it in {}: {error}", history.directory().display())))
    });
    changed.await.map_err(|error| ApiError::Unavailable(error.to_string()))?
}

pub(super) fn now_ms(shared: &Shared) -> u64 {
    shared.clock.wall_nanos(shared.clock.now()) / 1_000_000
}

/// Reports a change of what is confirmed.
fn report_config_event(
    shared: &Shared,
    from: Option<&'static str>,
    to: &'static str,
    reason: Option<String>,
    by: &str,
) {
    let change = StateChange::to(EventKind::Config, Subject::Engine(shared.engine.clone()), to);
    shared.event(StateChange { from: from.map(Cow::Borrowed), ..change.because(reason).by(by.to_owned()) });
}
