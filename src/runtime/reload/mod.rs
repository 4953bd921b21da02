//! Reload and plan: another configuration for a running engine, all or nothing.
//!
//! ```text
//!  SIGHUP, `fwlb reload` ─▶ read, validate, compare with the other engines   errors: nothing changes, all are told
//!                          ─▶ what takes a restart?                          refused, at file:line
//!                          ─▶ new links: lock, device, permission            refused
//!                          ─▶ numbers that sessions know                     a walk over copies
//!                          ─▶ on the control thread: open, swap, let go      one step between two packets' worth of work
//! ```
//!
//! One reload at a time in the process. The engine's own file is the one that it was started with: SIGHUP and a reload without
//! a file read it, as a restart would.

mod commit;
mod links;
mod survey;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sd_notify::NotifyState;
use tokio::sync::oneshot;

use super::control::{Commands, Control};
use super::shared::Shared;
use super::web::SharedWeb;
use super::{Options, management};
use crate::api::ApiError;
use crate::config::{self, Difference, Outcome};
use crate::engine::view::{PlanView, ReloadView};

use commit::Fresh;

/// No configuration is longer, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// Reloads the engines of this process.
#[derive(Debug)]
pub(super) struct Reloader {
    options: Options,
    web: SharedWeb,
    targets: Mutex<Vec<Arc<Target>>>,
    /// Held while a reload or plan is under way.
    turn: tokio::sync::Mutex<()>,
}

/// An engine that can be reloaded.
#[derive(Debug)]
pub(super) struct Target {
    /// The file that it was started with.
    pub own: PathBuf,
    pub shared: Arc<Shared>,
    pub commands: Commands,
}

/// Tells the service manager that a reload is under way, until it is dropped.
struct Told;

impl Told {
    fn begin() -> Self {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => management::notify_all(&[NotifyState::Reloading, now]),
            Err(_) => management::notify(NotifyState::Reloading),
        }
        Self
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        management::notify(NotifyState::Ready);
    }
}

impl Reloader {
    pub(super) fn new(options: Options, web: SharedWeb) -> Self {
        Self { options, web, targets: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// An engine runs.
    pub(super) fn add(&self, target: Target) {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(target));
    }

    /// Reads `path`, or the engine's own file, and goes on with it. Whoever asks may go away meanwhile: what was begun is
    /// brought to its end.
    pub(super) async fn reload(
        self: Arc<Self>,
        engine: String,
        path: Option<PathBuf>,
        by: String,
    ) -> Result<ReloadView, ApiError> {
        let done = tokio::spawn(async move {
            let _turn = self.turn.lock().await;
            let _told = Told::begin();
            let target = self.target(&engine)?;
            let path = path.unwrap_or_else(|| target.own.clone());
            let outcome = self.read(vec![(Arc::clone(&target), path)]).await?.swap_remove(0);
            self.bring_in(&target, outcome, &by).await
        });
        done.await.map_err(|error| ApiError::Unavailable(error.to_string()))?
    }

    /// SIGHUP: every engine's own file. All of them have to be good before the first is taken.
    pub(super) async fn reload_all(self: Arc<Self>, by: &str) {
        let _turn = self.turn.lock().await;
        let _told = Told::begin();
        let targets = self.targets();
        let files = targets.iter().map(|target| (Arc::clone(target), target.own.clone())).collect();
        let outcomes = match self.read(files).await {
            Ok(outcomes) => outcomes,
            Err(error) => return tracing::error!(by, "not reloaded, nothing changed: {error}"),
        };
        for (target, outcome) in targets.iter().zip(outcomes) {
            let engine = &target.shared.engine;
            match self.bring_in(target, outcome, by).await {
                Ok(done) if done.changed => {}
                Ok(done) => tracing::info!(engine, by, config = done.config, "reloaded: nothing has changed"),
                Err(error) => tracing::error!(engine, by, "not reloaded, nothing changed: {error}"),
            }
        }
    }

    /// What [`Reloader::reload`] would do.
    pub(super) async fn plan(&self, engine: &str, path: Option<PathBuf>) -> Result<PlanView, ApiError> {
        let _turn = self.turn.lock().await;
        let target = self.target(engine)?;
        let path = path.unwrap_or_else(|| target.own.clone());
        let outcome = self.read(vec![(Arc::clone(&target), path)]).await?.swap_remove(0);
        survey::plan(&target, outcome).await
    }

    fn targets(&self) -> Vec<Arc<Target>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn target(&self, engine: &str) -> Result<Arc<Target>, ApiError> {
        let mut targets = self.targets().into_iter();
        let starting = || ApiError::Unavailable(format!("engine {engine} is still starting"));
        targets.find(|target| target.shared.engine == engine).ok_or_else(starting)
    }

    /// Reads these engines' files, and compares them with each other and with what the other engines of the process run with.
    /// All of them are good, or all that is wrong is told.
    async fn read(&self, files: Vec<(Arc<Target>, PathBuf)>) -> Result<Vec<Outcome>, ApiError> {
        let is_read = |target: &Arc<Target>| files.iter().any(|(read, _)| Arc::ptr_eq(read, target));
        let others = self.targets().into_iter().filter(|target| !is_read(target));
        let others: Vec<(PathBuf, String)> = others.map(|target| target.shared.source().file()).collect();
        let reading = tokio::task::spawn_blocking(move || {
            let mut outcomes: Vec<Outcome> = others.iter().map(|(path, text)| load(path, text)).collect();
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

    /// Goes on with a good file, or says why not.
    async fn bring_in(&self, target: &Arc<Target>, mut outcome: Outcome, by: &str) -> Result<ReloadView, ApiError> {
        let shared = &target.shared;
        let differences =
            outcome.config.as_ref().map_or_else(Vec::new, |new| config::differences(&shared.config(), new));
        let same_text = outcome.diagnostics.text() == shared.source().text;
        config::refuse_restart(&shared.config(), &mut outcome);
        let locks = links::take(&shared.config(), &mut outcome, self.options);
        let diagnostics = outcome.diagnostics.to_string();
        let Some(config) = outcome.config else { return Err(refused(diagnostics)) };
        let path = PathBuf::from(&outcome.diagnostics.path);
        let view = ReloadView {
            engine: shared.engine.clone(),
            config: path.display().to_string(),
            own_config: target.own.display().to_string(),
            changed: !differences.is_empty(),
            differences,
            diagnostics,
        };
        if !view.changed && same_text {
            return Ok(view);
        }
        // The addresses of the API are bound before anything changes, as they may be taken.
        let before = shared.config().api.clone();
        super::web::lock(&self.web)
            .apply(&shared.engine, config.api.clone())
            .map_err(|error| refused(super::with_sources(&error)))?;
        let in_use = survey::in_use(shared).await;
        let fresh = Fresh { config, path, text: outcome.diagnostics.text().to_owned(), locks };
        let (differences, by) = (view.differences.clone(), by.to_owned());
        let done = on_control(target, move |control| control.reload(fresh, in_use.as_ref(), &differences, &by)).await;
        if let Ok(Err(why)) | Err(ApiError::Unavailable(why)) = &done {
            if let Err(error) = super::web::lock(&self.web).apply(&shared.engine, before) {
                tracing::error!(engine = shared.engine, error = super::with_sources(&error), "[api] not put back");
            }
            return Err(refused(format!("{}: {why}", view.config)));
        }
        done.map(|_| view)
    }
}

/// Does something on the control thread of an engine.
async fn on_control<R: Send + 'static>(
    target: &Target,
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

fn load(path: &Path, text: &str) -> Outcome {
    let mut read_secret = |path: &Path| read_file(path).map_err(|error| error.to_string());
    config::load(&path.to_string_lossy(), text, &mut read_secret)
}

/// A file of reasonable size; nothing that never ends, as a device or pipe does.
fn read_file(path: &Path) -> io::Result<String> {
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

/// `3 differences: firewall perimeter/fw2: weight 1 -> 3; ...`, not longer than a line of a log should be.
fn in_words(differences: &[Difference]) -> String {
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
