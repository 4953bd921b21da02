//! Keeps what `fwlb set` changed over a restart: `overrides.json` in the engine's state directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::state_file;
use crate::engine::Controller;
use crate::engine::view::OverrideView;
use crate::time::Instant;

/// The file of one engine's overrides.
#[derive(Debug)]
pub(super) struct OverridesFile {
    path: PathBuf,
    /// A number that grows with every change, and the overrides to keep.
    pending: Mutex<(u64, Vec<OverrideView>)>,
    /// The number of the last change that is in the file.
    saved: Mutex<u64>,
}

impl OverridesFile {
    /// The file in this directory, which is created when something is to be kept.
    pub(super) fn new(directory: &Path) -> Self {
        Self { path: directory.join("overrides.json"), pending: Mutex::default(), saved: Mutex::default() }
    }

    /// Applies the kept overrides again. What cannot be read or is not configured any more is ignored with a warning,
    /// because an engine that does not start would be worse.
    pub(super) fn restore(&self, engine: &str, controller: &mut Controller, now: Instant) {
        let overrides = match self.load() {
            Ok(overrides) => overrides,
            Err(error) => {
                tracing::warn!(engine, path = %self.path.display(), %error, "overrides not restored");
                return;
            }
        };
        for set in overrides {
            if let Err(error) = controller.restore(&set, now) {
                tracing::warn!(engine, subject = set.subject, %error, "override not restored");
            }
        }
    }

    fn load(&self) -> io::Result<Vec<OverrideView>> {
        match fs::read(&self.path) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Notes the overrides to keep and returns the change's number for [`OverridesFile::save_pending`]. Does not wait
    /// for the disk.
    pub(super) fn set_pending(&self, overrides: Vec<OverrideView>) -> u64 {
        let mut wanted = lock(&self.pending);
        *wanted = (wanted.0 + 1, overrides);
        wanted.0
    }

    /// Returns when the file contains the changes up to `change`; it may wait long for the disk. Changes that were
    /// noted while another caller writes are all written by the next one.
    pub(super) fn save_pending(&self, change: u64) -> io::Result<()> {
        let mut kept = lock(&self.saved);
        if *kept < change {
            let (number, overrides) = lock(&self.pending).clone();
            self.save(&overrides)?;
            *kept = number;
        }
        Ok(())
    }

    /// Writes these overrides, all or nothing.
    fn save(&self, overrides: &[OverrideView]) -> io::Result<()> {
        state_file::replace(&self.path, &serde_json::to_vec_pretty(overrides)?)
    }

    /// Path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AdminState;
    use crate::engine::view::ObjectKind;

    fn one(name: &str) -> OverrideView {
        OverrideView {
            kind: ObjectKind::Firewall.into(),
            subject: format!("perimeter/{name}"),
            admin: Some(AdminState::Drain),
            weight: None,
            reason: Some("patch day".into()),
            by: None,
            at: None,
        }
    }

    #[test]
    fn overrides_are_kept_whole_and_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let state = OverridesFile::new(&directory.path().join("deep/outer"));
        assert_eq!(state.load().unwrap(), [], "nothing was ever kept");

        state.save(&[one("fw1"), one("fw2")]).unwrap();
        assert_eq!(state.load().unwrap(), [one("fw1"), one("fw2")]);
        state.save(&[one("fw2")]).unwrap();
        assert_eq!(state.load().unwrap(), [one("fw2")]);

        let files = fs::read_dir(state.path().parent().unwrap()).unwrap().count();
        assert_eq!(files, 1, "a draft was left behind");
        fs::write(state.path(), "{ torn").unwrap();
        assert!(state.load().is_err());
    }
    #[test]
    fn a_change_that_is_kept_takes_those_before_it_along_and_none_back() {
        let directory = tempfile::tempdir().unwrap();
        let state = OverridesFile::new(directory.path());
        let (first, second) = (state.set_pending(vec![one("fw1")]), state.set_pending(vec![one("fw1"), one("fw2")]));

        state.save_pending(second).unwrap();
        state.save_pending(first).unwrap();

        assert_eq!(state.load().unwrap(), [one("fw1"), one("fw2")]);
    }
}
