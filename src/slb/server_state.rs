//! What has to survive snapshots and reloads of a real server.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::slb::{Observation, TunnelPathState, family_index};
use crate::wire::Family;

/// The state of a real server of a service.
#[derive(Debug)]
pub struct ServerState {
    /// Its name, which sticky entries share.
    pub name: Arc<str>,
    /// The number of active sessions.
    active: AtomicI64,
    /// The number of sessions since start.
    total: AtomicU64,
    /// What is known of the path of its tunnel, in mode `tunnel`.
    pub tunnel: TunnelPathState,
    /// What connections of clients say about it, by family.
    observed: [Observation; 2],
}

impl ServerState {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            active: AtomicI64::new(0),
            total: AtomicU64::new(0),
            tunnel: TunnelPathState::default(),
            observed: Default::default(),
        }
    }

    /// What connections of clients in a family say about it.
    pub fn observed(&self, family: Family) -> &Observation {
        &self.observed[family_index(family)]
    }

    /// Counts a new session.
    pub fn opened(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an ended session that continues, or that begins again between the same ends.
    pub fn resumed(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a session that has ended: its connection was closed or reset, or it was forgotten.
    pub fn ended(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number of active sessions.
    pub fn active(&self) -> u64 {
        u64::try_from(self.active.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// The number of sessions since start.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}
