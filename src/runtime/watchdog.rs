//! Feeds the service manager's watchdog (sd_watchdog_enabled(3)) as long as every packet worker, every control thread
//! and every role machine turns.

use std::sync::Arc;

use sd_notify::NotifyState;

use super::service_manager::notify;
use super::shared::Shared;
use crate::time::Duration;

/// The longest time that a healthy thread needs for a turn: an idle control thread turns once a second. If the watchdog
/// is to be fed more often, it is fed between two checks whatever the threads do.
pub(super) const TURN_MAX: Duration = Duration::from_secs(2);

/// Feeds the watchdog for ever, if the service manager set one. `engines` are all engines of the process.
pub(super) async fn feed(engines: Vec<Arc<Shared>>) {
    let Some(period) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let interval = period / 2;
    let mut watch = StuckDetector::default();
    watch.check(turn_counts(&engines));
    let mut since = Duration::ZERO;
    loop {
        tokio::time::sleep(interval).await;
        since += interval;
        if since >= TURN_MAX {
            since = Duration::ZERO;
            watch.check(turn_counts(&engines));
        }
        match &watch.stuck {
            None => notify(NotifyState::Watchdog),
            Some(thread) => tracing::error!(thread, "does not turn: the watchdog is not fed"),
        }
    }
}

/// The turns of the threads at the last check.
#[derive(Debug, Default)]
struct StuckDetector {
    seen: Vec<(String, u64)>,
    /// The first thread that had not turned between the last two checks.
    stuck: Option<String>,
}

impl StuckDetector {
    fn check(&mut self, now: Vec<(String, u64)>) {
        // Threads neither appear nor end while engines run.
        let stuck = now.iter().zip(&self.seen).find(|(now, seen)| now == seen);
        self.stuck = stuck.map(|((thread, _), _)| thread.clone());
        self.seen = now;
    }
}

fn turn_counts(engines: &[Arc<Shared>]) -> Vec<(String, u64)> {
    let of = |shared: &Arc<Shared>| {
        let engine = &shared.engine;
        let control = (format!("engine {engine}: control"), shared.control_turns.count());
        let ha = shared.ha_turns.iter().map(|turns| (format!("engine {engine}: ha"), turns.count()));
        let workers = shared.worker_turns.iter().enumerate();
        let workers = workers.map(|(number, beat)| (format!("engine {engine}: worker-{number}"), beat.count()));
        std::iter::once(control).chain(ha).chain(workers).collect::<Vec<_>>()
    };
    engines.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::turn_counter::TurnCounter;

    #[test]
    fn a_thread_that_does_not_turn_starves_the_watchdog_until_it_turns_again() {
        let beats = [
            ("control", TurnCounter::default()),
            ("worker-0", TurnCounter::default()),
            ("worker-1", TurnCounter::default()),
        ];
        let mut watch = StuckDetector::default();
        let mut look = |turning: [bool; 3]| {
            beats.iter().zip(turning).filter(|(_, turns)| *turns).for_each(|((_, beat), _)| beat.turn());
            watch.check(beats.iter().map(|(name, beat)| ((*name).to_owned(), beat.count())).collect());
            watch.stuck.clone()
        };

        assert_eq!(look([false; 3]), None, "nobody was seen before");
        assert_eq!(look([true; 3]), None);
        assert_eq!(look([true, true, false]).as_deref(), Some("worker-1"));
        assert_eq!(look([false, true, true]).as_deref(), Some("control"));
        assert_eq!(look([true; 3]), None);
    }
}
