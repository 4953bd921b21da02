//! The bounded queue of punted frames from the workers to the control thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::ha_handle::ClusterRing;
use crate::engine::{Punt, PuntQueue};

/// Urgent frames that may wait; a worker offers no more of one kind at once.
const URGENT_MAX: usize = 1024;

/// A worker's end of the queue. Offering a frame wakes the control thread and never waits.
#[derive(Debug, Clone)]
pub(super) struct PuntSender {
    urgent: mpsc::Sender<Punt>,
    queue: mpsc::Sender<Punt>,
    refused: Arc<AtomicU64>,
    /// The ring of the role machine; `None` for an engine that stands alone.
    cluster: Option<ClusterRing>,
}

/// The control thread's end of the queue.
#[derive(Debug)]
pub(super) struct PuntReceiver {
    urgent: mpsc::Receiver<Punt>,
    queue: mpsc::Receiver<Punt>,
    refused: Arc<AtomicU64>,
    /// Keeps the queues open after the last worker has ended, so that receiving still waits.
    sender: PuntSender,
}

/// A queue for `capacity` ordinary frames, at least one, beside the urgent ones. Frames of other nodes go to `cluster`.
pub(super) fn queue(capacity: usize, cluster: Option<ClusterRing>) -> (PuntSender, PuntReceiver) {
    let (first, urgent) = mpsc::channel(URGENT_MAX);
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let refused = Arc::new(AtomicU64::new(0));
    let sender = PuntSender { urgent: first, queue: sender, refused: refused.clone(), cluster };
    (sender.clone(), PuntReceiver { urgent, queue: receiver, refused, sender })
}

/// Reads how full the queue is.
#[derive(Debug, Clone)]
pub(super) struct PuntDepth(mpsc::WeakSender<Punt>);

impl PuntDepth {
    /// How many frames wait, and how many the queue holds.
    pub(super) fn read(&self) -> (usize, usize) {
        // The queue is gone with the engine and counts as empty.
        self.0.upgrade().map_or((0, 0), |queue| (queue.max_capacity() - queue.capacity(), queue.max_capacity()))
    }
}

impl PuntSender {
    /// Counts frames on which the state of a path depends and that were lost before they reached the queue.
    pub(super) fn count_lost(&self, frames: u64) {
        self.refused.fetch_add(frames, Ordering::Relaxed);
    }
}

impl PuntQueue for PuntSender {
    fn offer(&mut self, punt: Punt) -> bool {
        self.queue.try_send(punt).is_ok()
    }

    fn offer_urgent(&mut self, punt: Punt) -> bool {
        let taken = self.urgent.try_send(punt).is_ok();
        if !taken {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    fn offer_cluster(&mut self, punt: Punt) -> bool {
        self.cluster.as_ref().is_some_and(|ring| ring.offer(punt))
    }
}

impl PuntReceiver {
    /// Waits for frames and appends up to `limit` of them, urgent ones first. Cancelling it loses no frame.
    pub(super) async fn receive(&mut self, punts: &mut Vec<Punt>, limit: usize) {
        let (first, queue) = (&mut self.urgent, &mut self.queue);
        tokio::select! {
            biased;
            Some(punt) = first.recv() => punts.push(punt),
            Some(punt) = queue.recv() => punts.push(punt),
        }
        while punts.len() < limit
            && let Ok(punt) = first.try_recv().or_else(|_| queue.try_recv())
        {
            punts.push(punt);
        }
    }

    /// A handle by which other threads read how full the queue is.
    pub(super) fn depth(&self) -> PuntDepth {
        PuntDepth(self.sender.queue.downgrade())
    }

    /// Number of frames on which the state of a path depends and that were lost since the last call.
    pub(super) fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::PuntReason;
    use crate::id::LinkId;
    use crate::wire::offload::Offload;

    fn punt(reason: PuntReason) -> Punt {
        Punt { reason, link: LinkId(0), vlan: None, offload: Offload::NONE, bytes: vec![0; 60], original: None }
    }

    #[test]
    fn a_full_queue_refuses_and_leaves_room_for_what_goes_first() {
        let (mut sender, receiver) = queue(2, None);
        let punt = punt(PuntReason::Local);

        let taken: Vec<_> = (0..5).map(|_| sender.offer(punt.clone())).collect();

        assert_eq!(taken, [true, true, false, false, false]);
        assert_eq!(receiver.take_refused(), 0, "no verdict hangs on them");
        assert!((0..URGENT_MAX).all(|_| sender.offer_urgent(punt.clone())));
        assert!(!sender.offer_urgent(punt));
        assert_eq!(receiver.take_refused(), 1);
        assert_eq!(receiver.take_refused(), 0, "counted once");
        assert_eq!(receiver.depth().read(), (2, 2));
    }

    #[tokio::test]
    async fn what_goes_first_is_received_before_what_came_before_it() {
        let (mut sender, mut receiver) = queue(8, None);
        for _ in 0..3 {
            assert!(sender.offer(punt(PuntReason::Local)));
        }
        assert!(sender.offer_urgent(punt(PuntReason::Neighbor)));

        let mut received = Vec::new();
        receiver.receive(&mut received, 3).await;
        let reasons: Vec<_> = received.drain(..).map(|punt| punt.reason).collect();
        assert_eq!(reasons, [PuntReason::Neighbor, PuntReason::Local, PuntReason::Local]);
        receiver.receive(&mut received, 3).await;
        assert_eq!(received.len(), 1);
    }
}
