//! Reload and plan: gives another configuration to a running engine, or changes nothing.
//!
//! ```text
//!  SIGHUP, `fwlb reload` ─▶ read, validate, compare with the other engines   refused with all errors
//!                          ─▶ find changes that take a restart               refused, at file:line
//!                          ─▶ lock new links, check devices and permission   refused
//!                          ─▶ find the ids that sessions use                 a walk over copies of sessions
//!                          ─▶ on the control thread: open, apply, release    between two of its tasks
//! ```
//!
//! The process carries out one reload at a time. The engine's own file is the one with which it was started: SIGHUP and
//! a reload without a file read it, as a restart would.

mod commit;
mod confirm;
mod kept;
mod links;
mod sessions_in_use;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sd_notify::NotifyState;
use tokio::sync::oneshot;

use super::api_listeners::{self, SharedApiListeners};
use super::control::{Commands, Control};
use super::history::{ConfigOrigin, History, Unconfirmed};
use super::shared::Shared;
use super::{Options, service_manager};
use crate::api::ApiError;
use crate::config::{self, Difference, LoadedConfig};
use crate::engine::view::{PlanView, ReloadView};
use crate::time::Duration;

use commit::PendingConfig;
use confirm::{change_history, now_ms, record};

pub(super) use confirm::resume_history;

/// Bytes of the longest configuration that is read.
const FILE_MAX: u64 = 16 << 20;

/// Reloads the engines of this process.
#[derive(Debug)]
pub(super) struct Reloader {
    options: Options,
    web: SharedApiListeners,
    engines: Mutex<Vec<Arc<ReloadableEngine>>>,
    /// Held during a reload or plan.
    lock: tokio::sync::Mutex<()>,
}

/// An engine that can be reloaded.
#[derive(Debug)]
pub(super) struct ReloadableEngine {
    /// The file with which it was started.
    pub own_file: PathBuf,
    pub shared: Arc<Shared>,
    pub commands: Commands,
    /// Its kept configurations.
    pub history: Arc<History>,
}

/// Which configuration an engine is asked to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ConfigSource {
    /// Its own file.
    OwnFile,
    /// Another file.
    File(PathBuf),
    /// The kept configuration this many steps before the one in force.
    StepsBack(usize),
    /// The configuration before this one, which nobody confirmed.
    Previous(Unconfirmed),
}

/// A request for a reload.
#[derive(Debug, Clone)]
pub(super) struct ReloadRequest {
    pub source: ConfigSource,
    pub by: String,
    /// The time within which the new configuration has to be confirmed, if it has to be.
    pub confirm: Option<Duration>,
}

/// Tells the service manager that a reload is under way, until this is dropped.
struct ReloadNotice;

impl ReloadNotice {
    fn begin() -> Self {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => service_manager::notify_all(&[NotifyState::Reloading, now]),
            Err(_) => service_manager::notify(NotifyState::Reloading),
        }
        Self
    }
}

impl Drop for ReloadNotice {
    fn drop(&mut self) {
        service_manager::notify(NotifyState::Ready);
    }
}

impl Reloader {
    pub(super) fn new(options: Options, web: SharedApiListeners) -> Self {
        Self { options, web, engines: Mutex::default(), lock: tokio::sync::Mutex::default() }
    }

    /// How many engines this process runs.
    pub(super) fn engine_count(&self) -> usize {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The absolute path of the file with which an engine was started.
    pub(super) fn own_file(&self, engine: &str) -> Result<PathBuf, ApiError> {
        let file = &self.engine(engine)?.own_file;
        std::path::absolute(file).map_err(|error| ApiError::Unavailable(error.to_string()))
    }

    /// The options of the run.
    pub(super) fn options(&self) -> Options {
        self.options
    }

    /// One more descriptor of each listener of the API, by its name.
    pub(super) fn share_listeners(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        api_listeners::lock(&self.web).share()
    }

    /// Adds a running engine.
    pub(super) fn add(&self, target: ReloadableEngine) {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(target));
    }

    /// Reads the requested configuration and applies it. Once begun, it is completed even if the client disconnects.
    pub(super) async fn reload(self: Arc<Self>, engine: String, asked: ReloadRequest) -> Result<ReloadView, ApiError> {
        let done = tokio::spawn(async move {
            let _turn = self.lock.lock().await;
            let _told = ReloadNotice::begin();
            let target = self.engine(&engine)?;
            self.apply_file(&target, &asked).await
        });
        done.await.map_err(|error| ApiError::Unavailable(error.to_string()))?
    }

    async fn apply_file(
        self: &Arc<Self>,
        target: &Arc<ReloadableEngine>,
        asked: &ReloadRequest,
    ) -> Result<ReloadView, ApiError> {
        let path = path_of(target, &asked.source)?;
        let outcome = self.read(vec![(Arc::clone(target), path)]).await?.swap_remove(0);
        self.apply_outcome(target, outcome, asked).await
    }

    /// Reloads every engine from its own file, as SIGHUP requests. All files have to be valid before the first is
    /// applied.
    pub(super) async fn reload_all(self: Arc<Self>, by: &str) {
        let _turn = self.lock.lock().await;
        let _told = ReloadNotice::begin();
        let targets = self.engines();
        let files = targets.iter().map(|target| (Arc::clone(target), target.own_file.clone())).collect();
        let outcomes = match self.read(files).await {
            Ok(outcomes) => outcomes,
            Err(error) => return tracing::error!(by, "not reloaded, nothing changed: {error}"),
        };
        for (target, outcome) in targets.iter().zip(outcomes) {
            let engine = &target.shared.engine;
            let asked = ReloadRequest { source: ConfigSource::OwnFile, by: by.to_owned(), confirm: None };
            match self.apply_outcome(target, outcome, &asked).await {
                Ok(done) if done.changed => {}
                Ok(done) => tracing::info!(engine, by, config = done.config, "reloaded: nothing has changed"),
                Err(error) => tracing::error!(engine, by, "not reloaded, nothing changed: {error}"),
            }
        }
    }

    /// Says what [`Reloader::reload`] would do.
    pub(super) async fn plan(&self, engine: &str, origin: &ConfigSource) -> Result<PlanView, ApiError> {
        let _turn = self.lock.lock().await;
        let target = self.engine(engine)?;
        let path = path_of(&target, origin)?;
        let outcome = self.read(vec![(Arc::clone(&target), path)]).await?.swap_remove(0);
        sessions_in_use::plan(&target, outcome).await
    }

    fn engines(&self) -> Vec<Arc<ReloadableEngine>> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn engine(&self, engine: &str) -> Result<Arc<ReloadableEngine>, ApiError> {
        let mut targets = self.engines().into_iter();
        let starting = || ApiError::Unavailable(format!("engine {engine} is still starting"));
        targets.find(|target| target.shared.engine == engine).ok_or_else(starting)
    }

    /// Reads the files of these engines, and checks them against each other and against what the other engines of the
    /// process run with. Fails with everything that is wrong, unless all of them are valid.
    async fn read(&self, files: Vec<(Arc<ReloadableEngine>, PathBuf)>) -> Result<Vec<LoadedConfig>, ApiError> {
        let is_read = |target: &Arc<ReloadableEngine>| files.iter().any(|(read, _)| Arc::ptr_eq(read, target));
        let others = self.engines().into_iter().filter(|target| !is_read(target));
        let others: Vec<(PathBuf, String)> = others.map(|target| target.shared.config_text().file()).collect();
        let reading = tokio::task::spawn_blocking(move || {
            let mut outcomes: Vec<LoadedConfig> = others.iter().map(|(path, text)| load(path, text)).collect();
            let known = outcomes.len();
            for (_, path) in &files {
                let text =
                    read_file(path).map_err(|error| refused(format!("cannot read {}: {error}", path.display())))?;
                outcomes.push(load(path, &text));
            }
            outcomes[known..].iter_mut().for_each(config::refuse_hidden);
            config::compare(&mut outcomes);
            let read = outcomes.split_off(known);
            let bad: Vec<String> =
                read.iter().filter(|one| one.config.is_none()).map(|one| one.diagnostics.to_string()).collect();
            if bad.is_empty() { Ok(read) } else { Err(refused(bad.concat())) }
        });
        reading.await.map_err(|error| ApiError::Unavailable(error.to_string()))?
    }

    /// Applies a valid configuration, or says why it cannot be applied.
    async fn apply_outcome(
        self: &Arc<Self>,
        target: &Arc<ReloadableEngine>,
        mut outcome: LoadedConfig,
        asked: &ReloadRequest,
    ) -> Result<ReloadView, ApiError> {
        let shared = &target.shared;
        let differences =
            outcome.config.as_ref().map_or_else(Vec::new, |new| config::differences(&shared.config(), new));
        let text = outcome.diagnostics.text().to_owned();
        let same_text = text == shared.config_text().text;
        config::refuse_restart(&shared.config(), &mut outcome);
        let locks = links::lock_new_links(&shared.config(), &mut outcome, self.options);
        let diagnostics = outcome.diagnostics.to_string();
        let Some(config) = outcome.config else { return Err(refused(diagnostics)) };
        let path = PathBuf::from(&outcome.diagnostics.path);
        let mut view = ReloadView {
            engine: shared.engine.clone(),
            config: path.display().to_string(),
            own_config: target.own_file.display().to_string(),
            changed: !differences.is_empty(),
            differences,
            diagnostics,
            kept: None,
            confirm_within_ms: None,
        };
        if !view.changed && same_text {
            return Ok(view);
        }
        let waited = target.history.unconfirmed();
        // Recorded before anything changes: whatever happens, an operator who is cut off has to get the old
        // configuration back.
        let waits = match asked.confirm {
            Some(within) => {
                Some(require_confirmation(target, &config.digest, within, &asked.by, waited.as_ref()).await?)
            }
            None => None,
        };
        let said = event_text(&asked.source, asked.confirm, target, &view.differences);
        let fresh = PendingConfig { config, path: path.clone(), text: text.clone(), locks, event_text: said };
        if let Err(error) = self.commit(target, fresh, &asked.by).await {
            if waits.is_some() {
                change_history(&target.history, |history| history.set_unconfirmed(waited)).await?;
            }
            return Err(refused(format!("{}: {error}", view.config)));
        }
        view.kept = record_config(target, asked, waits.is_some(), path, text, &mut view.diagnostics).await;
        if let Some(waits) = waits {
            view.confirm_within_ms = Some(waits.within_ms);
            self.await_confirmation(Arc::clone(target), waits);
        }
        Ok(view)
    }

    /// Applies the configuration, or changes nothing.
    async fn commit(&self, target: &Arc<ReloadableEngine>, fresh: PendingConfig, by: &str) -> Result<(), String> {
        let shared = &target.shared;
        // The addresses of the API are bound before anything changes, because they may be taken.
        let before = shared.config().api.clone();
        super::api_listeners::lock(&self.web)
            .apply(&shared.engine, fresh.config.api.clone())
            .map_err(|error| super::with_sources(&error))?;
        let in_use = sessions_in_use::in_use(shared).await;
        let by = by.to_owned();
        let done = on_control(target, move |control| control.reload(fresh, in_use.as_ref(), &by)).await;
        let Err(why) = done.map_err(|error| error.to_string()).flatten() else { return Ok(()) };
        if let Err(error) = super::api_listeners::lock(&self.web).apply(&shared.engine, before) {
            tracing::error!(engine = shared.engine, error = super::with_sources(&error), "[api] not put back");
        }
        Err(why)
    }
}

/// Path of the file to read.
fn path_of(target: &ReloadableEngine, origin: &ConfigSource) -> Result<PathBuf, ApiError> {
    match origin {
        ConfigSource::OwnFile => Ok(target.own_file.clone()),
        ConfigSource::File(path) => Ok(path.clone()),
        ConfigSource::Previous(waits) => Ok(target.history.path(waits.back_to)),
        ConfigSource::StepsBack(back) => match target.history.back(*back) {
            Some(record) => Ok(target.history.path(record.number)),
            None => {
                let engine = &target.shared.engine;
                let why =
                    format!("engine {engine} has kept no configuration {back} back: fwlb show configs lists them");
                Err(ApiError::NotFound(why))
            }
        },
    }
}

/// Records that the configuration with this digest has to be confirmed. The engine never returns to one that was not
/// confirmed itself.
async fn require_confirmation(
    target: &Arc<ReloadableEngine>,
    digest: &str,
    within: Duration,
    by: &str,
    waited: Option<&Unconfirmed>,
) -> Result<Unconfirmed, ApiError> {
    let (shared, source) = (&target.shared, target.shared.config_text());
    let in_force = record(shared, ConfigOrigin::Start, None, source.path);
    let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    let until_ms = now_ms(shared).saturating_add(within_ms);
    let (digest, by, former) = (digest.to_owned(), by.to_owned(), waited.map(|waits| waits.back_to));
    change_history(&target.history, move |history| {
        let back_to = match former {
            Some(former) => former,
            None => history.add(in_force, &source.text)?,
        };
        let waits = Unconfirmed { digest, back_to, until_ms, within_ms, by };
        history.set_unconfirmed(Some(waits.clone())).map(|()| waits)
    })
    .await
}

/// Keeps the configuration that was just applied, and returns where. A failure to keep it is reported and has no other
/// effect.
async fn record_config(
    target: &Arc<ReloadableEngine>,
    asked: &ReloadRequest,
    waits: bool,
    path: PathBuf,
    text: String,
    diagnostics: &mut String,
) -> Option<String> {
    let (how, former) = match &asked.source {
        ConfigSource::OwnFile | ConfigSource::File(_) => (ConfigOrigin::Reload, None),
        ConfigSource::StepsBack(_) => (ConfigOrigin::Rollback, None),
        ConfigSource::Previous(waited) => (ConfigOrigin::Rollback, Some(waited.clone())),
    };
    let fresh = record(&target.shared, how, Some(asked.by.clone()), path);
    let kept = change_history(&target.history, move |history| {
        match former {
            Some(waited) => history.expire_unconfirmed(&waited)?,
            None if !waits => history.clear_pending()?,
            None => {}
        }
        history.add(fresh, &text)
    });
    match kept.await {
        Ok(number) => Some(target.history.path(number).display().to_string()),
        Err(error) => {
            let engine = &target.shared.engine;
            tracing::warn!(engine, %error, "the configuration is in force and not kept");
            diagnostics.push_str(&format!("warning: the configuration is in force, but {error}\n"));
            None
        }
    }
}

/// What the event says about the reload.
fn event_text(
    origin: &ConfigSource,
    confirm: Option<Duration>,
    target: &ReloadableEngine,
    differences: &[Difference],
) -> String {
    let within = confirm.map(|within| format!(", to be confirmed within {}", config::value::format_duration(within)));
    let how = match origin {
        ConfigSource::OwnFile | ConfigSource::File(_) => format!("reloaded{}", within.unwrap_or_default()),
        ConfigSource::StepsBack(back) => match target.history.back(*back) {
            Some(record) => format!("rolled back to configuration {}", record.number),
            None => "rolled back".to_owned(),
        },
        ConfigSource::Previous(waits) => {
            let within = config::value::format_duration(Duration::from_millis(waits.within_ms));
            format!("not confirmed within {within}, returned to configuration {}", waits.back_to)
        }
    };
    format!("{how}: {}", differences_text(differences))
}

/// Runs a function on the control thread of an engine.
async fn on_control<R: Send + 'static>(
    target: &ReloadableEngine,
    ask: impl FnOnce(&mut Control) -> R + Send + 'static,
) -> Result<R, ApiError> {
    let gone = || ApiError::Unavailable(format!("engine {} is stopping", target.shared.engine));
    let (answer, answered) = oneshot::channel();
    let command = Box::new(move |control: &mut Control| {
        let _ = answer.send(ask(control));
    });
    target.commands.send(command).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())
}

fn refused(why: String) -> ApiError {
    ApiError::Refused(why)
}

pub(super) fn load(path: &Path, text: &str) -> LoadedConfig {
    let mut read_secret = |path: &Path| read_file(path).map_err(|error| error.to_string());
    config::load(&path.to_string_lossy(), text, &mut read_secret)
}

/// Reads an ordinary file of limited size. Devices and pipes are refused, because they might never end.
pub(super) fn read_file(path: &Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no ordinary file"));
    }
    let mut text = String::new();
    let read = File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {} MiB", FILE_MAX >> 20)));
    }
    Ok(text)
}

/// Formats differences in one line of limited length: `3 differences: firewall perimeter/fw2: weight 1 -> 3; ...`.
fn differences_text(differences: &[Difference]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = differences.iter().take(SHOWN).map(Difference::to_string).collect();
    let more = differences.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    match differences {
        [] => "comments only".to_owned(),
        [_] => shown.concat(),
        _ => format!("{} differences: {}{rest}", differences.len(), shown.join("; ")),
    }
}
