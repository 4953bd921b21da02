//! A group of firewalls and its set of paths for the tests of every room.

use crate::flow::{FlowHasher, HashMode, Seed};
use crate::id::{FirewallId, GroupId};
use crate::path::{BelowMin, FirewallGroup, GroupMember, OnFailure, PathSet};
use crate::wire::Family;

/// A group of the firewalls with these names, whose numbers begin at `first`, and its IPv4 paths toward all peers, all of
/// which are up.
pub fn group<S: Into<String>>(first: u16, names: impl IntoIterator<Item = S>) -> (FirewallGroup, PathSet) {
    let member = |(number, name)| GroupMember { id: FirewallId(number), name, weight: 1, spare: false };
    let members: Vec<_> = (first..).zip(names.into_iter().map(Into::into)).map(member).collect();
    let all = (1 << members.len()) - 1;
    let set = PathSet {
        group: GroupId(0),
        peer: None,
        family: Family::V4,
        up: all,
        selectable: all,
        starting: 0,
        failure_counts: vec![0; members.len()],
    };
    let group = FirewallGroup {
        id: GroupId(0),
        name: "perimeter".to_owned(),
        hasher: FlowHasher::new(Seed::from_text("a seed for the tests of pins"), HashMode::FiveTuple),
        members,
        on_failure: OnFailure::Reselect,
        min_up: 1,
        below_min: BelowMin::Drop,
        has_mates: false,
    };
    (group, set)
}
