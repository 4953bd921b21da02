//! Keeps which servers were up over a restart: `servers.json` in the engine's state directory.
//!
//! A balancer that was killed and restarted serves at once by what it knew a moment ago, while its checks begin. The
//! file is written when a verdict has changed, and otherwise periodically, so that its age is the time since the
//! engine's last sign of life. It has to survive the process and not the machine, so nothing waits for the disk. A file
//! that is old, damaged or of another engine is ignored with a line in the log.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use tokio::time::MissedTickBehavior;

use super::backend::EngineBackend;
use super::control::Control;
use super::state_file;
use crate::engine::Controller;
use crate::engine::view::PersistedServer;
use crate::io::clock::Clock;
use crate::time::{Duration, Instant};

/// A file that is older is ignored.
const AGE_MAX: Duration = Duration::from_secs(60);
/// How often it is checked whether a verdict has changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the file is written although nothing has changed.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// Version of the file's format.
const FORMAT_VERSION: u32 = 1;

/// The contents of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Contents {
    format: u32,
    engine: String,
    /// When it was written: RFC 3339 in UTC.
    at: String,
    /// The servers that were up then.
    servers: BTreeSet<PersistedServer>,
}

/// The file of one engine's servers.
#[derive(Debug, Clone)]
pub(super) struct ServersFile {
    engine: String,
    path: PathBuf,
    clock: Clock,
}

/// What a starting engine finds in the file.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Fresh(BTreeSet<PersistedServer>, Duration),
    Stale(Duration),
    /// The file of another engine, with its name.
    Foreign(String),
    Unknown(u32),
}

impl ServersFile {
    /// The file of this engine in this directory.
    pub(super) fn new(engine: &str, directory: &Path, clock: Clock) -> Self {
        Self { engine: engine.to_owned(), path: directory.join("servers.json"), clock }
    }

    /// Tells the controller which servers were up, if the file is recent.
    pub(super) fn restore(&self, controller: &mut Controller, now: Instant) {
        let (engine, path) = (self.engine.as_str(), self.path.display());
        match self.load(now) {
            Ok(None) => {}
            Ok(Some(Found::Fresh(servers, age))) => {
                let taken = controller.assume_up(&servers, now);
                let (known, age_ms) = (servers.len(), u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
                tracing::info!(
                    engine,
                    taken,
                    known,
                    age_ms,
                    "servers that were up are so until their checks say otherwise"
                );
            }
            Ok(Some(Found::Stale(age))) => {
                tracing::info!(engine, %path, age_s = age.as_secs(), "servers start without a verdict: what is kept is too old");
            }
            Ok(Some(Found::Foreign(other))) => {
                tracing::warn!(engine, %path, other, "servers start without a verdict: another engine keeps its own there");
            }
            Ok(Some(Found::Unknown(format))) => {
                tracing::warn!(engine, %path, format, "servers start without a verdict: the file is of another version");
            }
            Err(error) => {
                tracing::warn!(engine, %path, %error, "servers start without a verdict: the file cannot be read")
            }
        }
    }

    fn load(&self, now: Instant) -> io::Result<Option<Found>> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Contents { format, engine, at, servers } = serde_json::from_slice(&text)?;
        if format != FORMAT_VERSION {
            return Ok(Some(Found::Unknown(format)));
        }
        if engine != self.engine {
            return Ok(Some(Found::Foreign(engine)));
        }
        let written = humantime::parse_rfc3339(&at).map_err(io::Error::other)?;
        let written = written.duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Duration::from_nanos(self.clock.wall_nanos(now));
        // A clock that was set back makes a file of the future, whose age is unknown.
        let age = wall.abs_diff(written);
        Ok(Some(if age < AGE_MAX { Found::Fresh(servers, age) } else { Found::Stale(age) }))
    }

    /// Writes the file; other processes see either the old or the new one.
    fn save(&self, servers: BTreeSet<PersistedServer>) -> io::Result<()> {
        let contents = Contents { format: FORMAT_VERSION, engine: self.engine.clone(), at: self.clock.wall(), servers };
        state_file::replace_unsynced(&self.path, &serde_json::to_vec(&contents)?)
    }

    /// Keeps the file up to date until the engine ends.
    pub(super) async fn run(self, backend: Arc<EngineBackend>) {
        let mut tick = tokio::time::interval(CHECK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The number of the states that were kept last, and when.
        let mut kept: Option<(u64, Instant)> = None;
        let mut is_failing = false;
        loop {
            tick.tick().await;
            let look = move |control: &mut Control| {
                let (now, verdicts) = (control.now(), control.controller.persisted_servers_version());
                let is_due = kept.is_none_or(|(known, at)| known != verdicts || now.since(at) >= REFRESH_INTERVAL);
                is_due.then(|| (verdicts, now, control.controller.persisted_servers()))
            };
            let Ok(found) = backend.on_control(look).await else { return };
            let Some((verdicts, now, servers)) = found else { continue };
            // No server is known to be up yet. What the file says is worth more; and without servers there is nothing
            // to keep.
            if servers.is_empty() && kept.is_none() {
                continue;
            }
            let file = self.clone();
            let saved = tokio::task::spawn_blocking(move || file.save(servers)).await;
            kept = Some((verdicts, now));
            match saved.map_err(io::Error::other).flatten() {
                Ok(()) => is_failing = false,
                Err(error) if !is_failing => {
                    is_failing = true;
                    let path = self.path.display();
                    tracing::warn!(engine = self.engine, %path, %error, "a restart will not know which servers are up");
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Family;

    fn known(server: &str) -> PersistedServer {
        PersistedServer { server: server.into(), family: Family::V4, address: [10, 0, 0, 1].into(), port: 80 }
    }

    #[test]
    fn what_was_written_a_moment_ago_is_taken_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::new();
        let file = ServersFile::new("lb", &directory.path().join("deep"), clock);
        assert_eq!(file.load(clock.now()).unwrap(), None, "nothing was ever kept");

        let servers: BTreeSet<_> = [known("web/s1"), known("web/s2")].into();
        file.save([known("web/s1")].into()).unwrap();
        file.save(servers.clone()).unwrap();
        let Some(Found::Fresh(found, age)) = file.load(clock.now()).unwrap() else { panic!("it is fresh") };
        assert_eq!(found, servers);
        assert!(age < Duration::from_secs(30), "{age:?}");
        let files = fs::read_dir(directory.path().join("deep")).unwrap().count();
        assert_eq!(files, 1, "a draft was left behind");

        let later = clock.now() + AGE_MAX + Duration::from_secs(1);
        assert!(matches!(file.load(later), Ok(Some(Found::Stale(_)))));
        let other = ServersFile { engine: "other".into(), ..file.clone() };
        assert_eq!(other.load(clock.now()).unwrap(), Some(Found::Foreign("lb".into())));

        let replace = |from: &str, to: &str| {
            let text = fs::read_to_string(&file.path).unwrap();
            fs::write(&file.path, text.replacen(from, to, 1)).unwrap();
        };
        let year = clock.wall()[..4].to_owned();
        replace(&format!("\"at\":\"{year}"), "\"at\":\"2999");
        assert!(matches!(file.load(clock.now()), Ok(Some(Found::Stale(_)))), "a file of the future");
        replace("\"format\":1", "\"format\":2");
        assert_eq!(file.load(clock.now()).unwrap(), Some(Found::Unknown(2)));
        fs::write(&file.path, "{ torn").unwrap();
        assert!(file.load(clock.now()).is_err());
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = ServersFile::new("lb", directory.path(), Clock::new());
        file.save([known("web/s1")].into()).unwrap();
        fs::create_dir(directory.path().join("servers.json.new")).unwrap();

        assert!(file.save(BTreeSet::new()).is_err());

        let now = file.clock.now();
        assert!(matches!(file.load(now).unwrap(), Some(Found::Fresh(servers, _)) if servers.len() == 1));
    }
}
