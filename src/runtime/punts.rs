//! The bounded way from the workers to the control thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::engine::{Punt, PuntQueue};

/// A worker's end. Offering wakes the control thread and never waits.
#[derive(Debug, Clone)]
pub(super) struct PuntSender {
    queue: mpsc::Sender<Punt>,
    refused: Arc<AtomicU64>,
}

/// The control thread's end.
#[derive(Debug)]
pub(super) struct PuntReceiver {
    queue: mpsc::Receiver<Punt>,
    refused: Arc<AtomicU64>,
    /// Keeps the queue open when the last worker has ended, so that waiting for frames waits.
    _open: mpsc::Sender<Punt>,
}

/// A queue that holds `capacity` frames, at least one.
pub(super) fn queue(capacity: usize) -> (PuntSender, PuntReceiver) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let refused = Arc::new(AtomicU64::new(0));
    let open = sender.clone();
    (PuntSender { queue: sender, refused: refused.clone() }, PuntReceiver { queue: receiver, refused, _open: open })
}

/// Tells how full the queue is.
#[derive(Debug, Clone)]
pub(super) struct PuntDepth(mpsc::WeakSender<Punt>);

impl PuntDepth {
    /// Frames that wait, and frames that fit.
    pub(super) fn read(&self) -> (usize, usize) {
        // Without its ends the queue is as good as empty.
        self.0.upgrade().map_or((0, 0), |queue| (queue.max_capacity() - queue.capacity(), queue.max_capacity()))
    }
}

impl PuntQueue for PuntSender {
    fn offer(&mut self, punt: Punt) -> bool {
        let taken = self.queue.try_send(punt).is_ok();
        if !taken {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }
}

impl PuntReceiver {
    /// Waits for frames and appends up to `limit` of them. Loses none when it is given up while it waits.
    pub(super) async fn receive(&mut self, punts: &mut Vec<Punt>, limit: usize) {
        self.queue.recv_many(punts, limit).await;
    }

    /// To be asked by other threads.
    pub(super) fn depth(&self) -> PuntDepth {
        PuntDepth(self._open.downgrade())
    }

    /// Frames refused since the last call.
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

    #[test]
    fn a_full_queue_refuses_and_counts() {
        let (mut sender, receiver) = queue(2);
        let punt = Punt {
            reason: PuntReason::Local,
            link: LinkId(0),
            vlan: None,
            offload: Offload::NONE,
            bytes: vec![0; 60],
            original: None,
        };

        let taken: Vec<_> = (0..5).map(|_| sender.offer(punt.clone())).collect();

        assert_eq!(taken, [true, true, false, false, false]);
        assert_eq!(receiver.take_refused(), 3);
        assert_eq!(receiver.take_refused(), 0, "counted once");
    }
}
