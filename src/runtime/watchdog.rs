//! The service manager's watchdog (sd_watchdog_enabled(3)): fed only while every packet worker and every control thread turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sd_notify::NotifyState;

use super::management::notify;
use super::shared::Shared;
use crate::time::Duration;

/// The longest time that a healthy thread needs for a turn: an idle control thread turns once a second. A watchdog that is to
/// be fed faster is fed whatever the threads do between two looks.
const TURN: Duration = Duration::from_secs(2);

/// How often a thread went round its loop. In a cache line of its own: workers write theirs all the time.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Beat(AtomicU64);

impl Beat {
    /// One turn more. For the thread that owns it.
    pub(super) fn turn(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Feeds the watchdog for ever, where the service manager set one. `engines` are all of the process.
pub(super) async fn feed(engines: Vec<Arc<Shared>>) {
    let Some(period) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let interval = period / 2;
    let mut watch = Watch::new(&engines);
    let mut since = Duration::ZERO;
    loop {
        tokio::time::sleep(interval).await;
        since += interval;
        let stuck = if since >= TURN {
            since = Duration::ZERO;
            watch.look(&engines)
        } else {
            watch.stuck.clone()
        };
        match stuck {
            None => notify(NotifyState::Watchdog),
            Some(thread) => tracing::error!(thread, "does not turn: the watchdog is not fed"),
        }
    }
}

/// What the threads had done when they were looked at last.
#[derive(Debug)]
struct Watch {
    seen: Vec<u64>,
    stuck: Option<String>,
}

impl Watch {
    fn new(engines: &[Arc<Shared>]) -> Self {
        Self { seen: beats(engines).map(|(_, count)| count).collect(), stuck: None }
    }

    /// The first thread that has not turned since the last look.
    fn look(&mut self, engines: &[Arc<Shared>]) -> Option<String> {
        let now: Vec<_> = beats(engines).collect();
        let stuck = now.iter().zip(&self.seen).find(|((_, count), seen)| count == *seen);
        self.stuck = stuck.map(|((thread, _), _)| thread.clone());
        self.seen = now.into_iter().map(|(_, count)| count).collect();
        self.stuck.clone()
    }
}

fn beats(engines: &[Arc<Shared>]) -> impl Iterator<Item = (String, u64)> {
    engines.iter().flat_map(|shared| {
        let control = (format!("engine {}: control", shared.engine), shared.control_beat.count());
        let worker =
            |(number, beat): (usize, &Beat)| (format!("engine {}: worker-{number}", shared.engine), beat.count());
        std::iter::once(control).chain(shared.worker_beats.iter().enumerate().map(worker))
    })
}
