//! Keeps events that somebody caused on disk: `events.jsonl` in the engine's state directory, one JSON object a line.
//!
//! Each line is synced to disk before the next is written, so that neither a kill nor a loss of power costs more than
//! the last. A full file is renamed to `events.jsonl.1` and replaces the one of that name. Adding an event never waits
//! for the disk.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::super::sandbox;
use crate::engine::view::EventView;
use crate::io::privileges::ThreadPrivileges;
use crate::time::Duration;

/// Bytes after which a file is put aside: about 4,000 events.
const FILE_MAX: u64 = 1 << 20;
/// Number of events that may wait for the disk.
const QUEUE_EVENTS: usize = 1000;
/// How often a disk that took nothing is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// How long a stopping engine waits for its last events to be written.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Readable by the owner and the group only.
const MODE: u32 = 0o640;

/// The archive of one engine's events.
#[derive(Debug)]
pub(in crate::runtime) struct Archive {
    queue: Sender<String>,
    ended: Receiver<()>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    lost: AtomicU64,
}

impl Archive {
    /// Continues the file at `path`, which is created with the first event.
    pub(in crate::runtime) fn open(engine: &str, path: &Path) -> io::Result<Self> {
        let (queue, lines) = bounded(QUEUE_EVENTS);
        let (end, ended) = bounded(1);
        let counts = Arc::new(Counts::default());
        let writer = Writer {
            engine: engine.to_owned(),
            path: path.to_owned(),
            waiting: VecDeque::new(),
            failing: false,
            counts: Arc::clone(&counts),
        };
        std::thread::Builder::new().name("fwlb-events".to_owned()).spawn(move || {
            writer.run(&lines);
            let _ = end.send(());
        })?;
        Ok(Self { queue, ended, counts })
    }

    /// Keeps an event; if the queue is full, it is counted as lost.
    pub(super) fn append(&self, event: &EventView) {
        let line = serde_json::to_string(event).map(|line| line + "\n");
        if line.is_ok_and(|line| self.queue.try_send(line).is_ok()) {
            return;
        }
        self.counts.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// How many events were written, and how many were lost.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.counts.written.load(Ordering::Relaxed), self.counts.lost.load(Ordering::Relaxed))
    }

    /// Waits until all events are on disk, two seconds at most.
    pub(in crate::runtime) fn close(self) {
        drop(self.queue);
        let _ = self.ended.recv_timeout(CLOSE_TIMEOUT);
    }
}

/// The events in the files at `path`, oldest first. Lines that are cut or damaged are skipped.
pub(in crate::runtime) fn load(path: &Path) -> io::Result<Vec<EventView>> {
    let mut events = Vec::new();
    for path in [rotated_path(path), path.to_owned()] {
        let text = match tail(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        events.extend(
            text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<EventView>(line).ok()),
        );
    }
    // If numbers were set back, by hand or by another engine's file, the events are still in order.
    events.sort_by_key(|event| event.seq);
    Ok(events)
}

/// The end of a file, at most twice its regular size.
fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(2 * FILE_MAX)))?;
    let mut text = Vec::new();
    file.take(2 * FILE_MAX).read_to_end(&mut text)?;
    Ok(text)
}

fn rotated_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// The state of the writing thread.
struct Writer {
    engine: String,
    path: PathBuf,
    /// Lines that the disk has not taken yet.
    waiting: VecDeque<String>,
    /// Whether the last write failed; the failure is logged once until a write succeeds.
    failing: bool,
    counts: Arc<Counts>,
}

impl Writer {
    fn run(mut self, lines: &Receiver<String>) {
        sandbox::drop_capabilities(ThreadPrivileges::None);
        loop {
            match lines.recv_timeout(RETRY_INTERVAL) {
                Ok(line) => self.wait(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.flush();
        }
        self.flush();
        self.counts.lost.fetch_add(self.waiting.len() as u64, Ordering::Relaxed);
    }

    fn wait(&mut self, line: String) {
        if self.waiting.len() == QUEUE_EVENTS {
            self.waiting.pop_front();
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.waiting.push_back(line);
    }

    /// Writes the waiting lines in order, as far as the disk takes them.
    fn flush(&mut self) {
        while let Some(line) = self.waiting.front() {
            let (engine, path) = (&self.engine, self.path.display());
            match append(&self.path, line.as_bytes()) {
                Ok(()) => {
                    self.waiting.pop_front();
                    self.counts.written.fetch_add(1, Ordering::Relaxed);
                    if std::mem::take(&mut self.failing) {
                        tracing::info!(engine, %path, "events are kept on disk again");
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::error!(engine, %path, %error, "events are not kept on disk: a restart will forget them");
                    }
                    return;
                }
            }
        }
    }
}

/// Appends a line, whole or not at all.
fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    if fs::metadata(path).is_ok_and(|found| found.len() >= FILE_MAX) {
        fs::rename(path, rotated_path(path))?;
    }
    let mut file = File::options().create(true).read(true).append(true).mode(MODE).open(path)?;
    let len = file.metadata()?.len();
    let is_cut = len > 0 && {
        let mut last = [0];
        file.seek(SeekFrom::Start(len - 1))?;
        file.read_exact(&mut last)?;
        last != *b"\n"
    };
    let text = if is_cut { [b"\n", line].concat() } else { line.to_vec() };
    let written = file.write_all(&text).and_then(|()| file.sync_data());
    if written.is_err() {
        // Removes the part of the line that the disk took.
        let _ = file.set_len(len);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::view::EventKind;

    fn event(seq: u64) -> EventView {
        EventView {
            seq,
            at: "2026-11-21T11:00:00.000Z".to_owned(),
            kind: EventKind::Admin.into(),
            subject: format!("perimeter/fw{seq}"),
            from: Some("ready".to_owned()),
            to: Some("drain".to_owned()),
            reason: Some("upgrade".to_owned()),
            by: Some("root (uid 0)".to_owned()),
            lasted_ms: None,
        }
    }

    fn seqs(path: &Path) -> Vec<u64> {
        load(path).unwrap().iter().map(|event| event.seq).collect()
    }

    #[test]
    fn what_was_kept_is_there_at_the_next_start_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/events.jsonl");
        assert_eq!(load(&path).unwrap(), [], "nothing was ever kept");

        let archive = Archive::open("outer", &path).unwrap();
        archive.append(&event(1));
        archive.append(&event(2));
        archive.close();

        assert_eq!(load(&path).unwrap(), [event(1), event(2)]);
    }

    #[test]
    fn a_line_that_was_cut_costs_itself_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let line = |seq| serde_json::to_string(&event(seq)).unwrap() + "\n";
        append(&path, line(1).as_bytes()).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in 1..whole.len() {
            fs::write(&path, [whole.as_slice(), &line(2).as_bytes()[..cut]].concat()).unwrap();
            append(&path, line(3).as_bytes()).unwrap();
            assert!(seqs(&path).starts_with(&[1]) && seqs(&path).ends_with(&[3]), "cut after {cut} bytes");
        }
        fs::write(&path, b"\xff\0garbage\n{}\n").unwrap();
        append(&path, line(4).as_bytes()).unwrap();
        assert_eq!(seqs(&path), [4]);
    }

    #[test]
    fn a_full_file_is_put_aside_and_all_of_it_together_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        for round in 1..=3 {
            fs::write(&path, [&vec![b'x'; FILE_MAX as usize][..], b"\n"].concat()).unwrap();
            append(&path, (serde_json::to_string(&event(round)).unwrap() + "\n").as_bytes()).unwrap();
            assert_eq!(seqs(&path), [round]);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_tried_again_and_what_is_too_much_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let blocked = directory.path().join("blocked");
        fs::write(&blocked, "a file where the directory should be").unwrap();
        let counts = Arc::new(Counts::default());
        let mut writer = Writer {
            engine: "outer".to_owned(),
            path: blocked.join("events.jsonl"),
            waiting: VecDeque::new(),
            failing: false,
            counts: Arc::clone(&counts),
        };
        for seq in 0..QUEUE_EVENTS as u64 + 5 {
            writer.wait(serde_json::to_string(&event(seq)).unwrap() + "\n");
        }
        writer.flush();
        assert!(writer.failing && writer.waiting.len() == QUEUE_EVENTS);

        fs::remove_file(&blocked).unwrap();
        writer.flush();
        assert_eq!((seqs(&writer.path).len(), writer.waiting.len(), writer.failing), (QUEUE_EVENTS, 0, false));
        assert_eq!(
            (counts.written.load(Ordering::Relaxed), counts.lost.load(Ordering::Relaxed)),
            (QUEUE_EVENTS as u64, 5)
        );
        assert!(append(Path::new("/dev/full"), b"1\n").is_err(), "no space left on device");
    }
}
