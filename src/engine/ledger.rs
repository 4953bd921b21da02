//! Where a forwarder tells that a session ended.

use crate::engine::Snapshot;
use crate::session::{EndReason, Removed};
use crate::time::Instant;

/// Keeps account of sessions. Called by a packet worker: it must not wait and should not allocate.
pub trait Ledger: std::fmt::Debug + Send {
    /// A session ended. Its numbers are those of `snapshot`.
    fn ended(&mut self, ended: &Removed, reason: EndReason, snapshot: &Snapshot, now: Instant);
}
