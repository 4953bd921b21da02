//! The session log: one line of JSON for every session that ends.
//!
//! A worker puts a copy of the session into a bounded queue and never waits; a thread of its own formats and writes it.
//! Three counters account for every session that ended: written, dropped (the queue was full), failed (the disk did not
//! take it).

mod file;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::sandbox;
use super::sessions;
use crate::engine::view::SessionEndView;
use crate::engine::{SessionLedger, Snapshot};
use crate::io::clock::Clock;
use crate::io::privileges::ThreadPrivileges;
use crate::session::{EndReason, Removed, SessionTable, Timeouts};
use crate::time::{Duration, Instant};

use file::LogFile;
pub(super) use file::reopen_all;

/// Sessions that the queue holds; they take 4 MiB.
const QUEUE_SESSIONS: usize = 16_384;
/// Longest time from the end of a session until its line is in the file.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of text that are collected before they are written.
const BUFFER_BYTES: usize = 64 << 10;
/// How long a stopping engine waits for the disk to take the sessions that are left.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The session log of one engine; off until it is opened.
#[derive(Debug, Default)]
pub(super) struct SessionLog {
    queue: ArcSwapOption<Sender<EndedSession>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    counts: Arc<Counts>,
}

/// Counters of what became of sessions that ended.
#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// A session that ended.
#[derive(Debug)]
struct EndedSession {
    session: Removed,
    /// Why it ended; `None` if it is still alive when the engine stops.
    reason: Option<EndReason>,
    at: Instant,
    /// The snapshot by whose ids the session refers to links, firewalls and servers.
    snapshot: Arc<Snapshot>,
}

/// Writes to the session log on behalf of a worker.
#[derive(Debug)]
pub(super) struct WorkerSessionLog {
    log: Arc<SessionLog>,
    /// The snapshot in force.
    current: Arc<ArcSwap<Snapshot>>,
    /// The snapshot of the last session that ended.
    snapshot: Arc<Snapshot>,
}

impl WorkerSessionLog {
    pub(super) fn new(log: Arc<SessionLog>, current: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { log, snapshot: current.load_full(), current }
    }
}

impl SessionLedger for WorkerSessionLog {
    fn session_ended(&mut self, session_ended: &Removed, reason: EndReason, snapshot: &Snapshot, now: Instant) {
        let queue = self.log.queue.load();
        let Some(queue) = queue.as_deref() else { return };
        if self.snapshot.epoch != snapshot.epoch {
            self.snapshot = self.current.load_full();
        }
        let session_ended = EndedSession {
            session: *session_ended,
            reason: Some(reason),
            at: now,
            snapshot: Arc::clone(&self.snapshot),
        };
        if queue.try_send(session_ended).is_err() {
            self.log.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl SessionLog {
    /// Writes to `path` from here on. Fails if the file cannot be opened.
    pub(super) fn open(&self, engine: &str, path: &Path, timeouts: Timeouts, clock: Clock) -> std::io::Result<()> {
        let file = LogFile::open(engine, path)?;
        let (queue, ended) = bounded(QUEUE_SESSIONS);
        let writer = Writer {
            engine: engine.to_owned(),
            clock,
            timeouts,
            file,
            text: Vec::with_capacity(2 * BUFFER_BYTES),
            lines: 0,
            counts: Arc::clone(&self.counts),
        };
        let thread = std::thread::Builder::new().name("fwlb-sessions".to_owned()).spawn(move || writer.run(&ended))?;
        self.queue.store(Some(Arc::new(queue)));
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Closes the log; sessions go on in another program, which writes their ends.
    pub(super) fn leave(&self) {
        drop(self.queue.swap(None));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// Writes the sessions that end with the engine and closes the log; to be called when no worker runs any more.
    /// `ending` has them; it is `None` if another node forwards their packets from here on.
    pub(super) fn close(&self, ending: Option<&SessionTable>, names: &Arc<Snapshot>, clock: Clock) {
        let Some(queue) = self.queue.swap(None) else { return };
        let at = clock.now();
        if let Some(ending) = ending {
            ending.walk(
                0,
                |_| true,
                |id, key, session, placement| {
                    let session = Removed { id, key: *key, session: *session, placement: placement.copied() };
                    let ended = EndedSession { session, reason: None, at, snapshot: Arc::clone(names) };
                    let patience = (at + CLOSE_TIMEOUT).since(clock.now());
                    if queue.send_timeout(ended, patience).is_err() {
                        self.counts.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                    true
                },
            );
        }
        drop(queue);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// The counters of the session log for `show counters`.
    pub(super) fn counters(&self) -> [(&'static str, u64); 3] {
        let Counts { written, dropped, failed } = &*self.counts;
        [("session_log_written", written), ("session_log_dropped", dropped), ("session_log_failed", failed)]
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

/// The state of the writing thread.
struct Writer {
    engine: String,
    clock: Clock,
    timeouts: Timeouts,
    file: LogFile,
    text: Vec<u8>,
    lines: u64,
    counts: Arc<Counts>,
}

impl Writer {
    fn run(mut self, queue: &Receiver<EndedSession>) {
        sandbox::drop_capabilities(ThreadPrivileges::None);
        let mut flushed = self.clock.now();
        loop {
            let due = (flushed + FLUSH_INTERVAL).since(self.clock.now());
            match queue.recv_timeout(due) {
                Ok(ended) => self.append(&ended),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
            let now = self.clock.now();
            let is_due = now.since(flushed) >= FLUSH_INTERVAL;
            if is_due || self.text.len() >= BUFFER_BYTES {
                self.flush();
                flushed = now;
            }
            if is_due {
                self.file.reopen_if_rotated();
            }
        }
    }

    fn append(&mut self, ended: &EndedSession) {
        let view = self.view(ended);
        let before = self.text.len();
        match serde_json::to_writer(&mut self.text, &view) {
            Ok(()) => {
                self.text.push(b'\n');
                self.lines += 1;
            }
            Err(_) => {
                self.text.truncate(before);
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn view(&self, ended: &EndedSession) -> SessionEndView {
        let Removed { id: _, key, session, placement } = &ended.session;
        let flow = key.in_direction(session.original_direction);
        let lasted = session.last_seen.since(session.created);
        let at = ended.at;
        let last =
            sessions::view(&self.engine, &flow, (session, placement.as_ref()), &self.timeouts, &ended.snapshot, at);
        SessionEndView {
            at: self.clock.wall_at(at),
            reason: ended.reason.map_or("shutdown", |reason| reason.name(session)).to_owned(),
            start: self.clock.wall_at(session.created),
            duration_ms: u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX),
            engine: last.engine,
            protocol: last.protocol,
            source: last.source,
            destination: last.destination,
            identifier: last.identifier,
            pins: last.pins,
            service: last.service,
            server: last.server,
            translated_source: last.translated_source,
            translated_destination: last.translated_destination,
            state: last.state,
            packets: last.packets,
            bytes: last.bytes,
        }
    }

    fn flush(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if lines == 0 {
            return;
        }
        let count = if self.file.write(&self.text) { &self.counts.written } else { &self.counts.failed };
        count.fetch_add(lines, Ordering::Relaxed);
        self.text.clear();
    }
}

#[cfg(test)]
mod tests;
