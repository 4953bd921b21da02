//! Where a flow goes and why, by the code that decides packets.

use crate::engine::{Snapshot, view::ExplainView};
use crate::flow::FlowKey;
use crate::id::{FirewallId, LinkId};
use crate::session::SessionTable;
use crate::time::Instant;

/// Where the first or next packet of a flow arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// On a link without firewalls.
    Link(LinkId),
    /// From a firewall.
    Firewall(FirewallId),
}

/// What the forwarder would do with a packet of `flow` now: the same decision, nothing stored, nothing counted.
/// `from` defaults to where the flow's source is routed.
pub fn explain(
    engine: &str,
    snapshot: &Snapshot,
    sessions: &SessionTable,
    flow: &FlowKey,
    from: Option<From>,
    now: Instant,
) -> ExplainView {
    let _ = (engine, snapshot, sessions, flow, from, now);
    todo!()
}
