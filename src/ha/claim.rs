//! Who of two nodes that are, or want to be, active has the better claim.

use std::cmp::Reverse;

use crate::ha::settings::NodeId;

/// The claim of a node. The greater claim is the better one, and no two nodes of a cluster have equal ones.
///
/// Deductions decide first, in steps of the margin. Steps, unlike differences, order any number of nodes: with
/// differences A could be better than B, B than C, and C than A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    steps: Reverse<u16>,
    term: u32,
    priority: u8,
    order: Reverse<NodeId>,
}

impl Claim {
    /// The claim of `node` with these deductions, the term in which it was last active, and its base priority.
    pub fn new(node: NodeId, deductions: u16, margin: u16, term: u32, priority: u8) -> Self {
        Self { steps: Reverse(deductions / margin.max(1)), term, priority, order: Reverse(node) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(node: u8, deductions: u16, term: u32, priority: u8) -> Claim {
        Claim::new(NodeId(node), deductions, 10, term, priority)
    }

    #[test]
    fn health_comes_before_term_term_before_priority_and_priority_before_order() {
        let ordered = [
            (claim(1, 0, 0, 1), claim(0, 10, 9, 254), "fewer deductions"),
            (claim(1, 9, 3, 1), claim(0, 0, 2, 254), "within a step the later takeover"),
            (claim(1, 0, 2, 200), claim(0, 0, 2, 190), "the priority"),
            (claim(0, 0, 2, 200), claim(1, 0, 2, 200), "the order of the file"),
        ];
        for (better, worse, why) in ordered {
            assert!(better > worse, "{why}");
        }
    }

    proptest! {
        /// Among any nodes exactly one has the best claim, whoever compares them and in whatever order.
        #[test]
        fn claims_of_different_nodes_are_in_one_order(
            values in proptest::collection::vec((0_u16..200, 0_u32..4, 1_u8..5), 2..6), margin in 0_u16..30,
        ) {
            let claims: Vec<_> = values.iter().enumerate()
                .map(|(node, (deductions, term, priority))| {
                    Claim::new(NodeId(node as u8), *deductions, margin, *term, *priority)
                })
                .collect();
            let best = claims.iter().filter(|one| claims.iter().all(|other| *other <= **one)).count();
            prop_assert_eq!(best, 1);
        }
    }
}
