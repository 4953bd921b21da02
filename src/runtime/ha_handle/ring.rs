//! The bounded ring in which packet workers put the frames of other nodes.

use std::sync::Arc;

use crossbeam_channel as channel;

use super::counters::{Counted, HaCounters};
use crate::engine::Punt;
use crate::io::wait::Wake;

/// Frames that may wait. Eight nodes send some 1,600 frames a second on each link at the shortest interval.
const RING_MAX: usize = 4096;

/// A worker's end of the ring. Putting a frame in wakes the thread and never waits.
#[derive(Debug, Clone)]
pub(in crate::runtime) struct ClusterRing {
    frames: channel::Sender<Punt>,
    wake: Wake,
    counters: Arc<HaCounters>,
}

/// An empty ring whose reader `wake` wakes.
pub(super) fn ring(wake: Wake, counters: Arc<HaCounters>) -> (ClusterRing, channel::Receiver<Punt>) {
    let (sender, receiver) = channel::bounded(RING_MAX);
    (ClusterRing { frames: sender, wake, counters }, receiver)
}

impl ClusterRing {
    /// Puts a frame in; false if the ring is full.
    pub(in crate::runtime) fn offer(&self, punt: Punt) -> bool {
        let is_taken = self.frames.try_send(punt).is_ok();
        if !is_taken {
            self.counters.count(Counted::RingFull);
        }
        self.wake.notify();
        is_taken
    }
}
