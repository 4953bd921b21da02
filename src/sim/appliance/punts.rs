//! The queue from the workers to the controller.

use std::collections::VecDeque;

use crate::engine::{Punt, PuntQueue};

/// Two bounded queues: urgent frames, and the others.
#[derive(Debug)]
pub(super) struct Punts {
    capacity: usize,
    first: VecDeque<Punt>,
    queue: VecDeque<Punt>,
    /// Number of urgent frames that were refused.
    refused: u64,
    /// Whether the queue refuses everything, as if the controller had no time.
    pub(super) takes_nothing: bool,
}

impl Punts {
    /// Number of urgent frames that may wait.
    const FIRST: usize = 1024;

    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, first: VecDeque::new(), queue: VecDeque::new(), refused: 0, takes_nothing: false }
    }

    /// The next frame for the controller.
    pub(super) fn take(&mut self) -> Option<Punt> {
        self.first.pop_front().or_else(|| self.queue.pop_front())
    }

    /// Number of urgent frames that were refused since the last call.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }
}

impl PuntQueue for Punts {
    fn offer(&mut self, punt: Punt) -> bool {
        let room = self.queue.len() < self.capacity && !self.takes_nothing;
        if room {
            self.queue.push_back(punt);
        }
        room
    }

    fn offer_first(&mut self, punt: Punt) -> bool {
        let room = self.first.len() < Self::FIRST && !self.takes_nothing;
        if room {
            self.first.push_back(punt);
        } else {
            self.refused += 1;
        }
        room
    }
}
