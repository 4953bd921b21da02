//! The queue from the workers to the controller.

use std::collections::VecDeque;

use crate::engine::{Punt, PuntQueue};

/// Two bounded queues: urgent frames, and the others.
#[derive(Debug)]
pub(super) struct Punts {
    capacity: usize,
    urgent: VecDeque<Punt>,
    queue: VecDeque<Punt>,
    /// Frames of other nodes, for the role machine.
    cluster: VecDeque<Punt>,
    /// Number of urgent frames that were refused.
    refused: u64,
    /// Whether the queue refuses everything, as if the controller had no time.
    pub(super) refuses_all: bool,
}

impl Punts {
    /// Number of urgent frames that may wait.
    const URGENT_MAX: usize = 1024;

    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            urgent: VecDeque::new(),
            queue: VecDeque::new(),
            cluster: VecDeque::new(),
            refused: 0,
            refuses_all: false,
        }
    }

    /// The next frame for the controller.
    pub(super) fn take(&mut self) -> Option<Punt> {
        self.urgent.pop_front().or_else(|| self.queue.pop_front())
    }

    /// The next frame for the role machine.
    pub(super) fn take_cluster(&mut self) -> Option<Punt> {
        self.cluster.pop_front()
    }

    /// Number of urgent frames that were refused since the last call.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }
}

impl PuntQueue for Punts {
    fn offer(&mut self, punt: Punt) -> bool {
        let room = self.queue.len() < self.capacity && !self.refuses_all;
        if room {
            self.queue.push_back(punt);
        }
        room
    }

    fn offer_urgent(&mut self, punt: Punt) -> bool {
        let room = self.urgent.len() < Self::URGENT_MAX && !self.refuses_all;
        if room {
            self.urgent.push_back(punt);
        } else {
            self.refused += 1;
        }
        room
    }

    fn offer_cluster(&mut self, punt: Punt) -> bool {
        let room = self.cluster.len() < Self::URGENT_MAX;
        if room {
            self.cluster.push_back(punt);
        }
        room
    }
}
