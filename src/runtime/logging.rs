//! Log lines: to standard error, or to the journal if standard error leads there, and to syslog collectors.
//!
//! A process has one log, also with several engines. Logging hands the line to a thread and never waits for a terminal,
//! a pipe or a collector: if the queue is full, the line is dropped and counted. No line is logged per packet.

mod line;
mod syslog;
#[cfg(test)]
pub(super) use line::tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Write, stderr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::{Event, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use super::sandbox;
use crate::config::Log;
use crate::io::clock::Clock;
use crate::io::privileges::ThreadPrivileges;
use crate::time::Duration;

use line::Line;
use syslog::Collector;

/// The tracing target of state changes. Their message already contains some of their fields.
pub(super) const CHANGE_TARGET: &str = "fwlb::change";

/// Number of lines that may wait to be written.
const QUEUE_LINES: usize = 4096;
/// How long an ending process waits for its last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The log of the process, once it is started.
static LOGGING: OnceLock<Logging> = OnceLock::new();

/// Lines that found the queue full, or that a collector's socket did not take.
static DROPPED: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct Logging {
    /// The level of each engine of the process; the most verbose one holds.
    levels: Mutex<BTreeMap<String, LevelFilter>>,
    filter: reload::Handle<LevelFilter, Registry>,
    queue: Sender<WriterMessage>,
}

enum WriterMessage {
    Write(Line),
    /// Gives up every capability.
    DropCapabilities,
    /// Confirms that all lines before it are written.
    Flush(Sender<()>),
}

/// Starts the log of the process. With several engines, lines are JSON if any of them asks for it, and every collector
/// of any of them gets all lines. A process that logs already goes on as it does.
pub(super) fn start<'a>(engines: impl Iterator<Item = (&'a str, &'a Log)>) {
    let mut json = false;
    let mut collectors = BTreeSet::new();
    let mut levels = BTreeMap::new();
    for (engine, log) in engines {
        json |= log.json;
        let of = |target| (target, log.facility, log.hostname.clone());
        collectors.extend(log.syslog.iter().cloned().map(of));
        levels.insert(engine.to_owned(), level(log));
    }
    let highest = levels.values().copied().max().unwrap_or(LevelFilter::INFO);
    let (filter, handle) = reload::Layer::new(highest);
    let (queue, jobs) = bounded(QUEUE_LINES);
    let to_journal = is_journal().then(journal).flatten();
    let out = LogWriter {
        stream: if to_journal.is_some() {
            Stream::None
        } else if json {
            Stream::Json
        } else {
            Stream::Text
        },
        collectors: collectors.into_iter().map(|(to, facility, host)| Collector::new(to, facility, host)).collect(),
        json,
    };
    let lines = LineLayer { clock: Clock::new(), queue: queue.clone() };
    let started = tracing_subscriber::registry().with(filter).with(to_journal).with(lines).try_init();
    if started.is_err() {
        return;
    }
    let _ = LOGGING.set(Logging { levels: Mutex::new(levels), filter: handle, queue });
    let thread = std::thread::Builder::new().name("fwlb-log".to_owned()).spawn(move || out.run(&jobs));
    thread.expect("a process that is about to start threads can start one");
}

/// Applies the log level of an engine's changed configuration. All else in `[log]` takes effect at the next start.
pub(super) fn set_level(engine: &str, log: &Log) {
    let Some(logging) = LOGGING.get() else { return };
    let mut levels = lock(&logging.levels);
    levels.insert(engine.to_owned(), level(log));
    let highest = levels.values().copied().max().unwrap_or(LevelFilter::INFO);
    // This fails only where no log was started.
    let _ = logging.filter.modify(|filter| *filter = highest);
}

/// Has the writing thread give up every capability. Not to be called before the process has changed its user: the C
/// library changes the user of all threads, and aborts the process if one of them may not.
pub(super) fn drop_capabilities() {
    if let Some(logging) = LOGGING.get() {
        let _ = logging.queue.send_timeout(WriterMessage::DropCapabilities, FLUSH_TIMEOUT);
    }
}

/// Waits until the lines so far are written, one second at most; to be called when the process ends.
pub(super) fn flush() {
    let Some(logging) = LOGGING.get() else { return };
    let (done, written) = bounded(1);
    if logging.queue.send_timeout(WriterMessage::Flush(done), FLUSH_TIMEOUT).is_ok() {
        let _ = written.recv_timeout(FLUSH_TIMEOUT);
    }
}

/// Number of lines that were dropped.
pub(super) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

fn level(log: &Log) -> LevelFilter {
    // The configuration was validated, so the word is known.
    log.level.parse().unwrap_or(LevelFilter::INFO)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether standard error is a stream of the journal (systemd.exec(5), `$JOURNAL_STREAM`).
fn is_journal() -> bool {
    let Some(named) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let stream = stderr().as_fd().try_clone_to_owned().map(std::fs::File::from);
    let found = stream.and_then(|stream| stream.metadata());
    found.is_ok_and(|found| named == format!("{}:{}", found.dev(), found.ino()))
}

/// The journal, with fields named `FWLB_...`; `None` if it does not listen.
fn journal() -> Option<tracing_journald::Layer> {
    let layer = tracing_journald::Layer::new().ok()?;
    Some(
        layer
            .with_field_prefix(Some("FWLB".to_owned()))
            .with_syslog_identifier("fwlb".to_owned())
            .with_priority_mappings(PriorityMappings {
                error: Priority::Error,
                warn: Priority::Warning,
                info: Priority::Informational,
                debug: Priority::Debug,
                trace: Priority::Debug,
            }),
    )
}

/// Turns tracing events into lines for the writing thread.
#[derive(Debug)]
struct LineLayer {
    clock: Clock,
    queue: Sender<WriterMessage>,
}

impl<S: Subscriber> Layer<S> for LineLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = Line::of(event, self.clock.wall());
        if self.queue.try_send(WriterMessage::Write(line)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The state of the writing thread.
struct LogWriter {
    stream: Stream,
    collectors: Vec<Collector>,
    /// Whether collectors get JSON.
    json: bool,
}

enum Stream {
    Text,
    Json,
    None,
}

impl LogWriter {
    fn run(&self, jobs: &Receiver<WriterMessage>) {
        for job in jobs {
            match job {
                WriterMessage::Write(line) => self.write(&line),
                WriterMessage::DropCapabilities => sandbox::drop_capabilities(ThreadPrivileges::None),
                WriterMessage::Flush(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    fn write(&self, line: &Line) {
        let text = match self.stream {
            Stream::Text => Some(line.text()),
            Stream::Json => Some(line.json()),
            Stream::None => None,
        };
        if let Some(mut text) = text {
            text.push('\n');
            // If standard error is closed, there is nowhere to report it.
            let _ = stderr().lock().write_all(text.as_bytes());
        }
        for collector in &self.collectors {
            if collector.send(line, self.json).is_err() {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
