//! Weighted rendezvous selection in integers: the member with the highest score takes the flow, so that taking one of N
//! out moves exactly its own flows.

use crate::flow::FlowHash;
use crate::path::{Group, Slots};

/// One candidate of a selection, for `explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scored {
    /// Slot in the group.
    pub slot: usize,
    /// Comparable score: higher wins.
    pub score: u64,
}

/// The slot that `flow` takes: the best primary if it is in `selectable`; else the best live spare; else the best live
/// primary. `None` if `selectable` is empty.
pub fn select(group: &Group, selectable: Slots, flow: FlowHash) -> Option<usize> {
    let _ = (group, selectable, flow);
    todo!()
}

/// All members of the group with their scores, best first, primaries before spares.
pub fn rank(group: &Group, flow: FlowHash) -> Vec<Scored> {
    let _ = (group, flow);
    todo!()
}
