//! A log file that other programs may rotate while it is written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Readable by the owner and the group only: sessions contain people's addresses.
const MODE: u32 = 0o640;

/// How often it was requested to reopen the files.
static REOPEN: AtomicU64 = AtomicU64::new(0);

/// Requests that every session log of the process be reopened; programs that rotate logs ask for this by a signal.
pub(in crate::runtime) fn reopen_all() {
    REOPEN.fetch_add(1, Ordering::Relaxed);
}

/// A log file, opened for appending.
#[derive(Debug)]
pub(super) struct LogFile {
    engine: String,
    path: PathBuf,
    file: File,
    /// Device and inode number of `file`.
    identity: (u64, u64),
    reopened: u64,
    /// Whether the last write failed; the failure is logged once until a write succeeds.
    failing: bool,
    /// Whether the last write ended within a line.
    ends_within_line: bool,
}

impl LogFile {
    /// Opens `path` for appending; creates the file and its directory if they are missing.
    pub(super) fn open(engine: &str, path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let (file, identity) = open(path)?;
        let reopened = REOPEN.load(Ordering::Relaxed);
        Ok(Self {
            engine: engine.to_owned(),
            path: path.to_owned(),
            file,
            identity,
            reopened,
            failing: false,
            ends_within_line: false,
        })
    }

    /// Writes whole lines; returns whether the disk took all of them.
    pub(super) fn write(&mut self, lines: &[u8]) -> bool {
        match self.write_all(lines) {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(engine = self.engine, path = %self.path.display(), "the session log is written again");
                }
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    let (engine, path) = (&self.engine, self.path.display());
                    tracing::error!(engine, %path, %error, "the session log is not written; what is lost is counted");
                }
                false
            }
        }
    }

    fn write_all(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.ends_within_line {
            self.file.write_all(b"\n")?;
            self.ends_within_line = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.ends_within_line = rest[written - 1] != b'\n';
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reopens the file if its path leads to another file or if that was requested. If this fails, the open file is
    /// written on.
    pub(super) fn reopen_if_rotated(&mut self) {
        let asked = REOPEN.load(Ordering::Relaxed);
        let found = fs::metadata(&self.path).map(|found| (found.dev(), found.ino()));
        if asked == self.reopened && found.is_ok_and(|found| found == self.identity) {
            return;
        }
        match open(&self.path) {
            Ok((file, identity)) => {
                (self.file, self.identity, self.reopened, self.ends_within_line) = (file, identity, asked, false);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    let path = self.path.display();
                    tracing::error!(engine = self.engine, %path, %error, "the session log cannot be opened again");
                }
            }
        }
    }
}

fn open(path: &Path) -> io::Result<(File, (u64, u64))> {
    let file = File::options().create(true).append(true).mode(MODE).open(path)?;
    let found = file.metadata()?;
    Ok((file, (found.dev(), found.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_file_that_is_moved_away_or_removed_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/sessions.json");
        let moved = directory.path().join("made/sessions.json.1");
        let mut file = LogFile::open("outer", &path).unwrap();
        assert!(file.write(b"1\n"));

        fs::rename(&path, &moved).unwrap();
        assert!(file.write(b"2\n"), "until it is noticed the moved file goes on");
        file.reopen_if_rotated();
        assert!(file.write(b"3\n"));
        assert_eq!((read(&moved).as_str(), read(&path).as_str()), ("1\n2\n", "3\n"));

        fs::remove_file(&path).unwrap();
        file.reopen_if_rotated();
        assert!(file.write(b"4\n"));
        assert_eq!(read(&path), "4\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777 & !0o640, 0);
    }

    #[test]
    fn a_name_that_leads_nowhere_does_not_stop_the_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/sessions.json");
        let moved = directory.path().join("kept");
        let mut file = LogFile::open("outer", &path).unwrap();
        fs::rename(path.parent().unwrap(), &moved).unwrap();

        file.reopen_if_rotated();
        assert!(file.write(b"1\n"));

        assert_eq!(read(&moved.join("sessions.json")), "1\n");
    }

    #[test]
    fn a_full_disk_is_told_and_lines_after_it_are_whole() {
        let mut file = LogFile::open("outer", Path::new("/dev/full")).unwrap();
        assert!(!file.write(b"1\n"), "no space left on device");
        assert!(file.failing);

        let directory = tempfile::tempdir().unwrap();
        file.path = directory.path().join("sessions.json");
        (file.ends_within_line, file.identity) = (true, (0, 0));
        file.reopen_if_rotated();
        file.ends_within_line = true;
        assert!(file.write(b"2\n"));
        assert_eq!((read(&file.path).as_str(), file.failing), ("\n2\n", false));
    }
}
