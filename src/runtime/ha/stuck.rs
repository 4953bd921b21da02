//! Finds threads of the engine that stand still, so that another node can take over.

use crate::time::{Duration, Instant};

/// How often threads are looked at.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// A packet worker that does not turn for so long, although it was woken three times, stands still.
const WORKER_STILL: Duration = Duration::from_millis(300);
/// The control thread may work on something for longer.
const CONTROL_STILL: Duration = Duration::from_secs(1);

/// A thread, and when it was seen to turn last.
#[derive(Debug, Clone, Copy)]
struct Watched {
    turns: u64,
    /// When it was woken first since it turned last; `None` if it turned since the last look.
    woken: Option<Instant>,
}

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// A packet worker stands still.
    pub worker: bool,
    /// The control thread stands still.
    pub control: bool,
}

/// Watches the turns of the control thread and of the packet workers.
#[derive(Debug, Default)]
pub(super) struct StuckThreads {
    /// The control thread, and then the workers.
    threads: Vec<Watched>,
    checked: Option<Instant>,
}

impl StuckThreads {
    /// True when it is time for a look.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.checked.is_none_or(|checked| now.since(checked) >= CHECK_INTERVAL)
    }

    /// Compares the turns with those of the last look. A thread that did not turn since is woken by `wake`, with its
    /// place in `turns`, where the control thread is the first.
    pub(super) fn check(
        &mut self,
        turns: impl Iterator<Item = u64>,
        now: Instant,
        mut wake: impl FnMut(usize),
    ) -> Found {
        // A look that came late says nothing about the others: they may have been without a CPU as well.
        let is_late = self.checked.is_some_and(|checked| now.since(checked) >= CHECK_INTERVAL * 2);
        self.checked = Some(now);
        let mut found = Found { worker: false, control: false };
        for (place, turns) in turns.enumerate() {
            let Some(watched) = self.threads.get_mut(place) else {
                self.threads.push(Watched { turns, woken: None });
                continue;
            };
            if watched.turns != turns {
                *watched = Watched { turns, woken: None };
                continue;
            }
            if is_late {
                watched.woken = None;
            }
            let woken = *watched.woken.get_or_insert(now);
            wake(place);
            match place {
                0 => found.control |= now.since(woken) >= CONTROL_STILL,
                _ => found.worker |= now.since(woken) >= WORKER_STILL,
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(turning: [bool; 3], looks: u64, step: u64) -> (Vec<usize>, Found) {
        let mut stuck = StuckThreads::default();
        let mut turns = [0_u64; 3];
        let mut woken = Vec::new();
        let mut found = Found { worker: false, control: false };
        for look in 0..looks {
            let now = Instant::from_millis(look * step);
            assert!(stuck.is_due(now));
            turns.iter_mut().zip(turning).for_each(|(count, turns)| *count += u64::from(turns));
            found = stuck.check(turns.into_iter(), now, |place| woken.push(place));
        }
        (woken, found)
    }

    #[test]
    fn a_worker_that_was_woken_and_does_not_turn_for_300_ms_stands_still() {
        assert_eq!(run([true, true, false], 4, 100), (vec![2; 3], Found { worker: false, control: false }));
        assert_eq!(run([true, true, false], 5, 100).1, Found { worker: true, control: false });
        assert_eq!(run([true; 3], 50, 100), (Vec::new(), Found { worker: false, control: false }));
    }

    #[test]
    fn the_control_thread_has_a_second() {
        assert!(!run([false, true, true], 11, 100).1.control);
        assert!(run([false, true, true], 12, 100).1.control);
    }

    #[test]
    fn who_looks_late_himself_accuses_nobody() {
        assert_eq!(run([false; 3], 40, 250).1, Found { worker: false, control: false });
    }
}
