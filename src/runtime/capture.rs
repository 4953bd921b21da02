//! Packet captures: frames go from the threads that handle packets through bounded queues to whoever asked for them.
//!
//! ```text
//!   worker 0 ── queue ─┐
//!   worker 1 ── queue ─┼─▶ pump: one task per capture, orders, writes pcapng ─▶ a few chunks ─▶ the caller
//!   control  ── queue ─┘
//! ```
//!
//! Nobody waits for anybody. A slow caller fills the chunks, then the queues, and then the capture loses frames,
//! counted for each link. The capture ends when its caller disconnects.

mod queue;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::trace::{Filter, Tap};

use queue::Queue;

/// Number of captures at once; each makes the workers look at every frame.
pub(super) const CAPTURES_MAX: usize = 4;

/// The captures of one engine.
#[derive(Debug)]
pub(super) struct Captures {
    /// Number of packet workers; the control thread has the queue behind theirs.
    workers: usize,
    /// Incremented with every change of `running`, so that a thread finds by one relaxed load that nothing has changed.
    generation: AtomicU64,
    running: Mutex<Vec<Arc<Capture>>>,
}

/// A running capture.
#[derive(Debug)]
pub(super) struct Capture {
    /// The id by which its caller can end it.
    id: Option<String>,
    filter: Arc<Filter>,
    snaplen: usize,
    /// One queue per thread.
    pub queues: Vec<Queue>,
    /// Set when the capture is to end.
    pub is_ending: AtomicBool,
}

/// The generation of captures that a thread knows.
#[derive(Debug, Default)]
pub(super) struct SeenGeneration(u64);

impl Captures {
    pub(super) fn new(workers: usize) -> Self {
        Self { workers, generation: AtomicU64::new(0), running: Mutex::default() }
    }

    /// The taps of worker `number`, if they changed since `known`.
    #[inline]
    pub(super) fn changed_taps_for_worker(&self, number: usize, known: &mut SeenGeneration) -> Option<Vec<Tap>> {
        let generation = self.generation.load(Ordering::Relaxed);
        if generation == known.0 {
            return None;
        }
        *known = SeenGeneration(generation);
        let tap = |capture: &Arc<Capture>| Tap {
            filter: Arc::clone(&capture.filter),
            snaplen: capture.snaplen,
            sink: Box::new(capture.queues[number].sink()),
        };
        Some(self.running().iter().map(tap).collect())
    }

    /// The taps of the control thread, if they changed since `known`.
    pub(super) fn changed_taps_for_control(&self, known: &mut SeenGeneration) -> Option<Vec<Tap>> {
        self.changed_taps_for_worker(self.workers, known)
    }

    /// Ends the capture with this id; false if there is none.
    pub(super) fn end(&self, id: &str) -> bool {
        let running = self.running();
        let named = running.iter().filter(|capture| capture.id.as_deref() == Some(id));
        named.map(|capture| capture.is_ending.store(true, Ordering::Relaxed)).count() > 0
    }

    /// Registers a capture; `None` if too many run.
    pub(super) fn begin(
        &self,
        id: Option<String>,
        filter: Filter,
        snaplen: usize,
        links: usize,
    ) -> Option<Arc<Capture>> {
        let queues = (0..=self.workers).map(|_| Queue::new(links)).collect();
        let capture =
            Arc::new(Capture { id, filter: Arc::new(filter), snaplen, queues, is_ending: AtomicBool::new(false) });
        let mut running = self.running();
        if running.len() >= CAPTURES_MAX {
            return None;
        }
        running.push(Arc::clone(&capture));
        self.generation.fetch_add(1, Ordering::Relaxed);
        Some(capture)
    }

    /// Removes a capture that has ended.
    pub(super) fn remove(&self, capture: &Arc<Capture>) {
        self.running().retain(|one| !Arc::ptr_eq(one, capture));
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    fn running(&self) -> MutexGuard<'_, Vec<Arc<Capture>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
