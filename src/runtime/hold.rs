//! Which frames the packet workers handle: a program that hands over stops before a moment, and one that takes over begins
//! at it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::io::frame_io::FrameWindow;

/// The moments between which frames are handled, and how far the workers are with that. Times are wall-clock times in
/// nanoseconds since 1970, as the kernel notes them of frames.
#[derive(Debug)]
pub(super) struct Hold {
    from: AtomicU64,
    until: AtomicU64,
    workers: Box<[WorkerProgress]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct WorkerProgress {
    /// The end that it has seen.
    seen: AtomicU64,
    /// It had handled later frames when it saw that.
    is_late: AtomicBool,
    /// When its last turn without work began.
    idle_at: AtomicU64,
}

impl Hold {
    /// All frames are handled, by this many workers.
    pub(super) fn new(workers: usize) -> Self {
        let workers = (0..workers).map(|_| WorkerProgress::default()).collect();
        Self { from: AtomicU64::new(0), until: AtomicU64::new(u64::MAX), workers }
    }

    /// The frames to handle.
    pub(super) fn window(&self) -> FrameWindow {
        FrameWindow { from: self.from.load(Ordering::Relaxed), until: self.until.load(Ordering::SeqCst) }
    }

    /// Begins at a moment.
    pub(super) fn begin_at(&self, moment: u64) {
        self.from.store(moment, Ordering::SeqCst);
    }

    /// Ends before a moment.
    pub(super) fn end_at(&self, moment: u64) {
        self.until.store(moment, Ordering::SeqCst);
    }

    /// Handles all later frames too.
    pub(super) fn go_on(&self) {
        self.until.store(u64::MAX, Ordering::SeqCst);
    }

    /// A worker says that it has seen the end `until`, when the last frame that it had handled was received, and when a
    /// turn without work began if it had one.
    pub(super) fn report(&self, worker: usize, until: u64, newest: u64, idle_at: Option<u64>) {
        let progress = &self.workers[worker];
        if let Some(at) = idle_at {
            progress.idle_at.store(at, Ordering::SeqCst);
        }
        if progress.seen.load(Ordering::Relaxed) != until {
            progress.is_late.store(newest >= until, Ordering::SeqCst);
            progress.seen.store(until, Ordering::SeqCst);
        }
    }

    /// Whether all workers have seen this end; and if so, whether it came too late for one of them.
    pub(super) fn seen_by_all(&self, until: u64) -> Option<bool> {
        let have_seen = self.workers.iter().all(|worker| worker.seen.load(Ordering::SeqCst) == until);
        have_seen.then(|| self.workers.iter().any(|worker| worker.is_late.load(Ordering::SeqCst)))
    }

    /// Whether all workers had nothing to do at or after a moment.
    pub(super) fn is_idle_since(&self, moment: u64) -> bool {
        self.workers.iter().all(|worker| worker.idle_at.load(Ordering::SeqCst) >= moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_agreed_when_every_worker_saw_it_before_it_came() {
        let hold = Hold::new(2);
        assert_eq!(hold.window(), FrameWindow::default());
        hold.end_at(1000);
        assert_eq!(hold.seen_by_all(1000), None);
        hold.report(0, 1000, 999, None);
        assert_eq!(hold.seen_by_all(1000), None, "one has not seen it");
        hold.report(1, 1000, 1000, Some(990));
        assert_eq!(hold.seen_by_all(1000), Some(true), "one has handled a frame of that time");

        hold.end_at(2000);
        hold.report(0, 2000, 1500, Some(2003));
        hold.report(1, 2000, 1600, Some(1999));
        assert_eq!((hold.seen_by_all(2000), hold.is_idle_since(2003)), (Some(false), false));
        hold.report(1, 2000, 1999, Some(2004));
        assert_eq!((hold.seen_by_all(2000), hold.is_idle_since(2003)), (Some(false), true));

        hold.go_on();
        hold.begin_at(7);
        assert_eq!(hold.window(), FrameWindow { from: 7, until: u64::MAX });
    }
}
