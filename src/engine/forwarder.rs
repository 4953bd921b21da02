//! The fast half: one per packet worker.

use std::sync::Arc;

use crate::engine::{Batch, CountersCell, PuntQueue, Snapshot, Transmit};
use crate::session::SessionWorker;
use crate::time::{Duration, Instant};

/// Bounds of one forwarder's own tables (its share of the engine's).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwarderLimits {
    /// Datagrams whose fragments are known.
    pub fragments: usize,
    /// Later fragments that wait for their first.
    pub held: usize,
    /// Idle time of the decision about a datagram.
    pub fragment_timeout: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Forwarder {
    sessions: SessionWorker,
}

impl Forwarder {
    /// A forwarder that publishes its counters into `counters`.
    pub fn new(sessions: SessionWorker, limits: ForwarderLimits, counters: Arc<CountersCell>) -> Self {
        let _ = (limits, counters);
        Self { sessions }
    }

    /// Decides and edits every packet of the batch: afterwards each has its verdict, and its tag is that of its egress.
    /// A packet that comes with a verdict (the receiver saw a truncated capture, A1.7) keeps it and is only counted.
    pub fn process(&mut self, batch: &mut Batch<'_>, snapshot: &Snapshot, punts: &mut dyn PuntQueue, now: Instant) {
        let _ = (batch, snapshot, punts, now, &self.sessions);
        todo!()
    }

    /// Time passes: expires sessions and fragments, sweeps the sessions of failed firewalls; at most `budget` visits. Answers
    /// true if the budget ended it: more is due at once.
    pub fn expire(&mut self, snapshot: &Snapshot, now: Instant, budget: usize) -> bool {
        let _ = (snapshot, now, budget);
        todo!()
    }

    /// Frames made rather than edited: fragments, released fragments, resets.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        todo!()
    }
}
