//! Replaces files of the state directory whole: at any time a reader, or the next start, finds the old text or the new.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Replaces the file, and makes its directory if it is missing. When this returns, the new text outlasts a power
/// failure.
///
/// # Errors
/// Of the file system; the old text is still there, unless only the directory could not be written to the disk.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    replace_by(path, |draft| write_to_disk(&mut File::create(draft)?, text))?;
    sync_directory(path)
}

/// As [`replace`], for a file that only its owner may read.
///
/// # Errors
/// As [`replace`].
pub(super) fn replace_secret(path: &Path, text: &[u8]) -> io::Result<()> {
    replace_by(path, |draft| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
        // A draft that was left behind keeps the mode that it had.
        file.set_permissions(Permissions::from_mode(0o600))?;
        write_to_disk(&mut file, text)
    })?;
    sync_directory(path)
}

/// As [`replace`], but does not wait for the disk: after a power failure the file may be damaged.
///
/// # Errors
/// Of the file system; the old text is still there.
pub(super) fn replace_unsynced(path: &Path, text: &[u8]) -> io::Result<()> {
    replace_by(path, |draft| fs::write(draft, text))
}

/// Removes the file if it exists. When this returns, its absence outlasts a power failure.
///
/// # Errors
/// Of the file system, unless it says that there is no such file.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| sync_directory(path)),
    }
}

/// Has a draft written beside the file, and gives it the name of the file. No draft is left behind.
fn replace_by(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    fs::create_dir_all(directory(path)?)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let replaced = write(&draft).and_then(|()| fs::rename(&draft, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&draft);
    }
    replaced
}

fn write_to_disk(file: &mut File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    file.sync_all()
}

/// Writes to the disk which names the directory has: this is what makes a rename or a removal last.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path)?)?.sync_all()
}

fn directory(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Replace = fn(&Path, &[u8]) -> io::Result<()>;
    const FORMS: [Replace; 3] = [replace, replace_secret, replace_unsynced];

    fn names(directory: &Path) -> Vec<std::ffi::OsString> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_file_is_replaced_whole_in_a_directory_that_is_made() {
        for replace in FORMS {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("deep/outer/state.json");
            replace(&path, b"a long text").unwrap();
            replace(&path, b"short").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"short");
            assert_eq!(names(path.parent().unwrap()), ["state.json"], "a draft was left behind");

            remove(&path).unwrap();
            remove(&path).unwrap();
            assert_eq!(names(path.parent().unwrap()), [""; 0]);
        }
    }

    #[test]
    fn what_cannot_be_replaced_stays_and_leaves_no_draft() {
        for replace in FORMS {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("state.json");
            fs::create_dir(&path).unwrap();
            replace(&path, b"text").unwrap_err();
            assert!(path.is_dir());
            assert_eq!(names(directory.path()), ["state.json"]);
        }
    }

    #[test]
    fn a_secret_is_its_owners_even_over_a_draft_that_everybody_could_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config-1.toml");
        let draft = directory.path().join("config-1.toml.new");
        fs::write(&draft, "left behind").unwrap();
        fs::set_permissions(&draft, Permissions::from_mode(0o644)).unwrap();
        replace_secret(&path, b"key").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
