//! Chooses the configuration with which an engine starts: its file, or the one before it if nobody confirmed the file.

use std::path::PathBuf;
use std::sync::Arc;

use super::EngineFile;
use super::history::{History, StartConfig};
use super::reload::{Reloader, load, read_file, resume_history};
use crate::io::clock::Clock;

/// How an engine begins.
#[derive(Debug, Clone)]
pub(super) struct StartState {
    /// The file with which it was started.
    pub own_file: PathBuf,
    /// Its kept configurations.
    pub history: Arc<History>,
    pub at_start: StartConfig,
}

/// Chooses the configuration by what is kept of this engine. What cannot be read is ignored with a warning, because an
/// engine that does not start would be worse.
pub(super) fn choose_config(file: EngineFile, clock: &Clock) -> (EngineFile, StartState) {
    let (engine, state) = (&file.config.engine.name, &file.config.engine.state);
    let history = History::open(state).unwrap_or_else(|error| {
        tracing::warn!(engine, path = %state.display(), %error, "the last configurations cannot be read");
        History::empty(state)
    });
    let own = file.path.clone();
    let mut at_start = history.at_start(&file.config.digest, clock.wall_nanos(clock.now()) / 1_000_000);
    let file = match at_start {
        StartConfig::File | StartConfig::FileUnconfirmed(_) | StartConfig::FileOtherPending(_) => file,
        StartConfig::Previous(number) => match previous_config(&history, number, engine) {
            Ok(former) => former,
            Err(why) => {
                tracing::error!(engine, "the file was not confirmed, and starts all the same, as {why}");
                at_start = StartConfig::File;
                file
            }
        },
    };
    (file, StartState { own_file: own, history: Arc::new(history), at_start })
}

fn previous_config(history: &History, number: u64, engine: &str) -> Result<EngineFile, String> {
    let path = history.path(number);
    let text = read_file(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let outcome = load(&path, &text);
    match outcome.config {
        Some(config) if config.engine.name == engine => Ok(EngineFile { path, text, config }),
        Some(_) => Err(format!("{} is that of another engine", path.display())),
        None => Err(format!("the one before it has a mistake: {}", outcome.diagnostics)),
    }
}

/// Reports what was chosen, and waits on for a confirmation if one is due.
pub(super) async fn report_choice(reloader: &Arc<Reloader>, engine: String, beginning: StartState) {
    if let Err(error) = resume_history(reloader, &engine, beginning.at_start, beginning.own_file).await {
        tracing::warn!(engine, %error, "the configuration is in force and not kept");
    }
}
