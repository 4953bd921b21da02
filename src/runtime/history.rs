//! The last configurations of an engine, kept in its state directory: `config-12.toml` is the text of the twelfth, and
//! `configs.json` says when, how and by whom each came, and which one waits for `fwlb confirm`.
//!
//! A configuration that has to be confirmed is recorded before it takes effect, so that an engine that is killed and
//! restarted knows of it:
//!
//! | a restart finds that its file | it runs with | then |
//! | --- | --- | --- |
//! | waits for a confirmation, in time | the file | the wait goes on |
//! | waited for one, too late | the configuration before it | the file is refused |
//! | was refused | the configuration before it | until a reload is asked for, or the file is another one |
//! | is another one | the file | nothing waits any more |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::state_file;
use crate::time::Duration;

/// Number of configurations that are kept.
const CONFIGS_MAX: usize = 10;

/// How a configuration took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ConfigOrigin {
    /// The engine was started with it.
    Start,
    /// By a reload.
    Reload,
    /// By a rollback, or because the one after it was not confirmed.
    Rollback,
}

impl ConfigOrigin {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reload => "reload",
            Self::Rollback => "rollback",
        }
    }
}

/// What is known of a kept configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ConfigRecord {
    /// Sequence number, which is never used again.
    #[serde(default)]
    pub number: u64,
    /// When it took effect: RFC 3339 in UTC.
    pub at: String,
    /// Who caused it, if known.
    pub by: Option<String>,
    pub how: ConfigOrigin,
    /// Digest of its text.
    pub digest: String,
    /// The file from which it was read.
    pub file: PathBuf,
}

/// A configuration that has to be confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unconfirmed {
    /// Digest of its text.
    pub digest: String,
    /// Number of the configuration to which the engine returns otherwise.
    pub back_to: u64,
    /// The deadline, in milliseconds since 1970.
    pub until_ms: u64,
    /// The time that was given for the confirmation, in milliseconds.
    pub within_ms: u64,
    /// Who asked for it.
    pub by: String,
}

impl Unconfirmed {
    /// The time that is left at `now_ms` (milliseconds since 1970). It never exceeds the time that was given, whatever
    /// the wall clock did.
    pub(super) fn remaining(&self, now_ms: u64) -> Duration {
        Duration::from_millis(self.until_ms.saturating_sub(now_ms).min(self.within_ms))
    }
}

/// A configuration that nobody confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UnconfirmedExpired {
    /// Digest of its text.
    pub digest: String,
    /// Number of the configuration that the engine runs with instead.
    pub back_to: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    /// Oldest first.
    configs: Vec<ConfigRecord>,
    unconfirmed: Option<Unconfirmed>,
    refused: Option<UnconfirmedExpired>,
}

/// Which configuration a starting engine runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StartConfig {
    /// Its file.
    File,
    /// Its file, which still has to be confirmed.
    FileUnconfirmed(Unconfirmed),
    /// Its file; the configuration that had to be confirmed was another one and is forgotten.
    FileOtherPending(Unconfirmed),
    /// The configuration with this number, because the file was not confirmed.
    Previous(u64),
}

/// The kept configurations of one engine.
#[derive(Debug)]
pub(super) struct History {
    directory: PathBuf,
    kept: Mutex<Kept>,
}

impl History {
    /// Reads the history in this state directory, which is created when something is to be kept.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let kept = match fs::read(directory.join("configs.json")) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { directory: directory.to_owned(), kept: Mutex::new(kept) })
    }

    /// An empty history, for a directory that cannot be read.
    pub(super) fn empty(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), kept: Mutex::default() }
    }

    /// Which configuration to start with if the engine's file has this digest.
    pub(super) fn at_start(&self, digest: &str, now_ms: u64) -> StartConfig {
        let kept = self.lock();
        match (&kept.unconfirmed, &kept.refused) {
            (Some(waits), _) if waits.digest == digest && waits.remaining(now_ms) > Duration::ZERO => {
                StartConfig::FileUnconfirmed(waits.clone())
            }
            (Some(waits), _) if waits.digest == digest => StartConfig::Previous(waits.back_to),
            (_, Some(refused)) if refused.digest == digest => StartConfig::Previous(refused.back_to),
            (Some(waits), _) => StartConfig::FileOtherPending(waits.clone()),
            (None, _) => StartConfig::File,
        }
    }

    /// The kept configurations, newest first.
    pub(super) fn list(&self) -> Vec<ConfigRecord> {
        self.lock().configs.iter().rev().cloned().collect()
    }

    /// The directory in which they are kept.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Path of a configuration's text.
    pub(super) fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("config-{number}.toml"))
    }

    /// The configuration `back` steps before the newest.
    pub(super) fn back(&self, back: usize) -> Option<ConfigRecord> {
        self.lock().configs.iter().rev().nth(back).cloned()
    }

    /// The configuration that has to be confirmed.
    pub(super) fn unconfirmed(&self) -> Option<Unconfirmed> {
        self.lock().unconfirmed.clone()
    }

    /// The configuration that was not confirmed, and that a restart would not take.
    pub(super) fn expired(&self) -> Option<UnconfirmedExpired> {
        self.lock().refused.clone()
    }

    /// Keeps a configuration as the newest, unless it is the newest already; returns its number.
    pub(super) fn add(&self, record: ConfigRecord, text: &str) -> io::Result<u64> {
        self.change(|kept| {
            if let Some(newest) = kept.configs.last()
                && newest.digest == record.digest
            {
                return Ok(newest.number);
            }
            let number = self.next_number(kept);
            self.write(&format!("config-{number}.toml"), text.as_bytes())?;
            kept.configs.push(ConfigRecord { number, ..record });
            Ok(number)
        })
    }

    /// Records which configuration has to be confirmed; `None` if none has to.
    pub(super) fn set_unconfirmed(&self, waits: Option<Unconfirmed>) -> io::Result<()> {
        self.change(|kept| {
            kept.unconfirmed = waits;
            Ok(())
        })
    }

    /// Forgets what had to be confirmed and what was refused.
    pub(super) fn clear_pending(&self) -> io::Result<()> {
        let kept = self.lock().clone();
        if kept.unconfirmed.is_none() && kept.refused.is_none() {
            return Ok(());
        }
        self.change(|kept| {
            (kept.unconfirmed, kept.refused) = (None, None);
            Ok(())
        })
    }

    /// Records that a configuration was not confirmed.
    pub(super) fn expire_unconfirmed(&self, waited: &Unconfirmed) -> io::Result<()> {
        self.change(|kept| {
            kept.unconfirmed = None;
            kept.refused = Some(UnconfirmedExpired { digest: waited.digest.clone(), back_to: waited.back_to });
            Ok(())
        })
    }

    /// Changes the history, on disk first.
    fn change<T>(&self, change: impl FnOnce(&mut Kept) -> io::Result<T>) -> io::Result<T> {
        let mut kept = self.lock();
        let mut next = kept.clone();
        let done = change(&mut next)?;
        let needed = [next.unconfirmed.as_ref().map(|waits| waits.back_to), next.refused.as_ref().map(|of| of.back_to)];
        let old = next.configs.len().saturating_sub(CONFIGS_MAX);
        let mut index = 0;
        next.configs.retain(|config| {
            index += 1;
            index > old || needed.contains(&Some(config.number))
        });
        self.write("configs.json", &serde_json::to_vec_pretty(&next)?)?;
        for gone in kept.configs.iter().filter(|was| next.configs.iter().all(|is| is.number != was.number)) {
            let _ = fs::remove_file(self.path(gone.number));
        }
        *kept = next;
        Ok(done)
    }

    /// A number beyond all kept configurations, and beyond all texts in the directory.
    fn next_number(&self, kept: &Kept) -> u64 {
        let lying_about = fs::read_dir(&self.directory).into_iter().flatten().flatten().filter_map(|entry| {
            entry.file_name().to_str()?.strip_prefix("config-")?.strip_suffix(".toml")?.parse::<u64>().ok()
        });
        let last = kept.configs.iter().map(|config| config.number).chain(lying_about).max();
        last.map_or(1, |last| last.saturating_add(1))
    }

    /// Writes a file whole or not at all, readable by the owner only, as it may contain secrets.
    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        state_file::replace_secret(&self.directory.join(name), content)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn record(digest: &str) -> ConfigRecord {
        ConfigRecord {
            number: 0,
            at: "2026-01-02T03:04:05.678Z".into(),
            by: Some("kim".into()),
            how: ConfigOrigin::Reload,
            digest: digest.into(),
            file: "/etc/fwlb/outer.toml".into(),
        }
    }

    fn waits(digest: &str, back_to: u64) -> Unconfirmed {
        Unconfirmed { digest: digest.into(), back_to, until_ms: 10_000, within_ms: 5_000, by: "kim".into() }
    }

    #[test]
    fn the_last_ten_are_kept_with_their_texts_for_the_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("outer");
        let history = History::open(&state).unwrap();
        for number in 1..=13 {
            assert_eq!(history.add(record(&format!("d{number}")), &format!("# {number}\n")).unwrap(), number);
        }
        assert_eq!(history.add(record("d13"), "# 13\n").unwrap(), 13, "the newest is not kept twice");

        let again = History::open(&state).unwrap();
        let numbers: Vec<u64> = again.list().iter().map(|record| record.number).collect();
        assert_eq!(numbers, (4..=13).rev().collect::<Vec<_>>());
        assert_eq!(again.back(1).unwrap().digest, "d12");
        assert!(again.back(10).is_none());
        assert_eq!(fs::read_to_string(again.path(4)).unwrap(), "# 4\n");
        let files: Vec<_> = fs::read_dir(&state).unwrap().flatten().collect();
        assert_eq!(files.len(), 11, "{files:?}");
        for file in files {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        }
    }

    #[test]
    fn a_restart_goes_on_waiting_or_returns() {
        let directory = tempfile::tempdir().unwrap();
        let history = History::open(directory.path()).unwrap();
        let good = history.add(record("good"), "good").unwrap();
        history.add(record("new"), "new").unwrap();
        assert_eq!(history.at_start("new", 0), StartConfig::File);

        history.set_unconfirmed(Some(waits("new", good))).unwrap();
        let again = History::open(directory.path()).unwrap();
        assert_eq!(again.at_start("new", 9_999), StartConfig::FileUnconfirmed(waits("new", good)));
        assert_eq!(again.at_start("new", 10_000), StartConfig::Previous(good));
        assert_eq!(again.at_start("other", 9_999), StartConfig::FileOtherPending(waits("new", good)));

        again.expire_unconfirmed(&waits("new", good)).unwrap();
        let again = History::open(directory.path()).unwrap();
        assert_eq!(
            (again.at_start("new", 0), again.at_start("other", 0)),
            (StartConfig::Previous(good), StartConfig::File)
        );
        assert_eq!(again.expired().unwrap().digest, "new");
        again.clear_pending().unwrap();
        assert_eq!(History::open(directory.path()).unwrap().at_start("new", 0), StartConfig::File);
    }

    #[test]
    fn what_an_engine_may_have_to_return_to_is_not_thrown_away() {
        let directory = tempfile::tempdir().unwrap();
        let history = History::open(directory.path()).unwrap();
        let good = history.add(record("good"), "good").unwrap();
        history.set_unconfirmed(Some(waits("new", good))).unwrap();
        for number in 0..20 {
            history.add(record(&format!("d{number}")), "x").unwrap();
        }
        assert_eq!(fs::read_to_string(history.path(good)).unwrap(), "good");
    }

    #[test]
    fn a_step_of_the_wall_clock_lengthens_no_wait() {
        assert_eq!(waits("new", 1).remaining(8_000), Duration::from_millis(2_000));
        assert_eq!(waits("new", 1).remaining(0), Duration::from_millis(5_000));
        assert_eq!(waits("new", 1).remaining(u64::MAX), Duration::ZERO);
    }

    #[test]
    fn texts_that_lie_about_are_not_written_over() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config-41.toml"), "old").unwrap();
        assert!(History::open(directory.path()).is_ok());
        fs::write(directory.path().join("configs.json"), "{ torn").unwrap();
        assert!(History::open(directory.path()).is_err());
        assert_eq!(History::empty(directory.path()).add(record("a"), "new").unwrap(), 42);
    }
}
