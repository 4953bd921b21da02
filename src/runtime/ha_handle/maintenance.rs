//! Keeps over a restart that an operator took the node out of service: `maintenance.json` in the state directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::ha::OrderedBy;
use crate::runtime::state_file;

/// The file of one engine. It exists while the node is in maintenance.
#[derive(Debug)]
pub(in crate::runtime) struct MaintenanceFile(PathBuf);

impl MaintenanceFile {
    /// The file in this directory.
    pub(in crate::runtime) fn new(directory: &Path) -> Self {
        Self(directory.join("maintenance.json"))
    }

    /// Who took the node out of service and why, if it is. What cannot be read counts as maintenance too: a node that
    /// waits for an operator harms less than one that should be left alone.
    pub(in crate::runtime) fn load(&self) -> Option<OrderedBy> {
        match fs::read(&self.0) {
            Ok(text) => {
                Some(serde_json::from_slice(&text).unwrap_or_else(|_| unread("kept over a restart".to_owned())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(unread(format!("{}: {error}", self.0.display()))),
        }
    }

    /// Keeps the maintenance, or its end; all or nothing.
    pub(in crate::runtime) fn save(&self, by: Option<&OrderedBy>) -> io::Result<()> {
        match by {
            Some(by) => state_file::replace(&self.0, &serde_json::to_vec(by)?),
            None => state_file::remove(&self.0),
        }
    }

    /// Path of the file.
    pub(in crate::runtime) fn path(&self) -> &Path {
        &self.0
    }
}

/// Nobody is known to have ordered it.
fn unread(reason: String) -> OrderedBy {
    OrderedBy { operator: None, reason: Some(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maintenance_is_kept_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let file = MaintenanceFile::new(&directory.path().join("deep/outer"));
        assert_eq!(file.load(), None);

        let order = OrderedBy { operator: Some("root (uid 0)".to_owned()), reason: Some("fans".to_owned()) };
        file.save(Some(&order)).unwrap();
        assert_eq!(file.load(), Some(order));
        file.save(None).unwrap();
        assert_eq!(file.load(), None);
        file.save(None).unwrap();

        fs::write(file.path(), "{ torn").unwrap();
        assert_eq!(file.load(), Some(unread("kept over a restart".to_owned())));
    }
}
