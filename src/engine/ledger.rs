//! The interface by which a forwarder reports that a session ended.

use crate::engine::Snapshot;
use crate::session::{EndReason, Removed};
use crate::time::Instant;

/// Receives the ended sessions of one packet worker. The worker calls it in the packet path: it must not wait and
/// should not allocate.
pub trait SessionLedger: std::fmt::Debug + Send {
    /// Reports a session that ended. Its ids are those of `snapshot`.
    fn session_ended(&mut self, ended: &Removed, reason: EndReason, snapshot: &Snapshot, now: Instant);
}
