//! Weighted rendezvous hashing in integers: the member with the highest score takes the flow, so that removing one of N
//! members moves exactly its own flows.
//!
//! # The score, exactly
//!
//! For a flow and a member of weight `w`, let `h` be the 64-bit number of [`FlowHasher::member_hash`], read as a
//! fraction `h / 2^64` that is uniformly distributed in (0, 1). The member's *distance* is `neg_log2(h) / w`, and the
//! shortest distance wins. Distances are exponentially distributed with rate `w`, so that a member wins with
//! probability `w` over the sum of all weights, and a change of one weight moves flows only to or from that member.
//!
//! [`neg_log2`] is `-log2(h / 2^64)` in fixed point. Two distances are compared by cross multiplication, without
//! division. Between equal distances the higher `h` wins, then the name decides. Since [`neg_log2`] falls while `h`
//! rises, with equal weights the highest hash wins.
//!
//! Nothing depends on the order of the members: both engines choose alike however their files list the firewalls.
//!
//! # Test vectors
//!
//! Seed text `correct horse battery staple`, weights of `fw1` to `fw4` 1, 2, 3 and 256; all members in the order of
//! [`rank`], each with its [`RankedMember::score`]:
//!
//! | flow hash | ranked |
//! | --- | --- |
//! | `960d91e984fdc976` | `fw4` 526769520, `fw2` 163267184, `fw3` 49050604, `fw1` 14302585 |
//! | `670b7b0b1e181400` | `fw4` 2312569086, `fw2` 22099955, `fw3` 20197934, `fw1` 6590401 |
//! | `48f136a9d000697b` | `fw4` 1144946837, `fw2` 43858700, `fw3` 8356091, `fw1` 3926038 |
//! | `e1e16a38e0b702b3` | `fw4` 7344367979, `fw1` 24577095, `fw3` 21534498, `fw2` 16259803 |
//! | `6c78353e45e9f670` | `fw4` 1002514838, `fw2` 29402231, `fw3` 13055247, `fw1` 3197955 |
//!
//! More vectors are in `tests/vectors/rendezvous.tsv`. They come from an independent implementation in Python beside
//! that file.

use std::cmp::Ordering;

use crate::flow::{FlowHash, FlowHasher};
use crate::path::{FirewallGroup, GroupMember, Slots};

/// One member with its score for a flow, as `explain` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankedMember {
    /// Its slot in the group.
    pub slot: usize,
    /// `weight * 2^55 / neg_log2(hash)`, rounded down; the highest wins. The selection itself compares without
    /// rounding.
    pub score: u64,
}

/// The slot that `flow` takes. This is the best primary if it is in `selectable`; else the best spare in `selectable`;
/// else the best primary in `selectable`. `None` if `selectable` is empty.
///
/// A spare therefore takes only flows of primaries that are not selectable.
pub fn select(group: &FirewallGroup, selectable: Slots, flow: FlowHash) -> Option<usize> {
    select_by(&group.members, selectable, &hasher(group, flow))
}

/// The slot of `candidates` that follows `slot` in the order of [`rank`], starting again from the top after the last.
/// It is `slot` itself only if that is the only candidate, and `None` if there are no candidates.
pub fn next_after(group: &FirewallGroup, candidates: Slots, flow: FlowHash, slot: usize) -> Option<usize> {
    let hash = hasher(group, flow);
    let score = |slot: usize| Candidate::new(&group.members[slot], &hash);
    let in_rank = |a: &usize, b: &usize| score(*a).cmp_rank(&score(*b));
    let last = score(slot);
    let candidates = || slots(candidates).filter(|&slot| slot < group.members.len());
    candidates()
        .filter(|&slot| score(slot).cmp_rank(&last) == Ordering::Greater)
        .min_by(in_rank)
        .or_else(|| candidates().min_by(in_rank))
}

/// All members of the group with their scores, best first, primaries before spares.
pub fn rank(group: &FirewallGroup, flow: FlowHash) -> Vec<RankedMember> {
    let hash = hasher(group, flow);
    let mut ranked: Vec<_> = group.members.iter().map(|member| Candidate::new(member, &hash)).enumerate().collect();
    ranked.sort_by(|(_, a), (_, b)| a.cmp_rank(b));
    ranked.into_iter().map(|(slot, candidate)| RankedMember { slot, score: candidate.score() }).collect()
}

/// `-log2(h / 2^64)` in units of 2^-32, rounded up: from 1 (`h` near 2^64) to 2^38 (`h` of 0 counts as 1).
///
/// The fractional bits of the logarithm are computed one by one. Squaring a mantissa in [1, 2) doubles its logarithm,
/// and the square is 2 or more exactly if the next bit is 1. The mantissa has 63 fractional bits and is rounded down in
/// each step.
///
/// ```
/// use fwlb::path::rendezvous::neg_log2;
///
/// assert_eq!(neg_log2(u64::MAX), 1);
/// assert_eq!(neg_log2(0xc000_0000_0000_0000), 0x6a3f_e5c7); // log2(4/3) = 0.41503749927884...
/// assert_eq!(neg_log2(1 << 63), 1 << 32);
/// assert_eq!(neg_log2(3), 0x3e_6a3f_e5c7);
/// assert_eq!(neg_log2(1), 64 << 32);
/// assert_eq!(neg_log2(0), 64 << 32);
/// ```
pub fn neg_log2(h: u64) -> u64 {
    let h = h.max(1);
    let leading = h.leading_zeros();
    let mut mantissa = h << leading;
    let mut log2 = u64::from(63 - leading);
    for _ in 0..FRACTION_BITS {
        let square = u128::from(mantissa) * u128::from(mantissa);
        let two_or_more = square >> 127 == 1;
        mantissa = (if two_or_more { square >> 64 } else { square >> 63 }) as u64;
        log2 = (log2 << 1) | u64::from(two_or_more);
    }
    (64 << FRACTION_BITS) - log2
}

/// The number of fractional bits of [`neg_log2`]. Hashes that they cannot distinguish are too close to affect the
/// balance.
const FRACTION_BITS: u32 = 32;

fn hasher(group: &FirewallGroup, flow: FlowHash) -> impl Fn(&str) -> u64 + '_ {
    let hasher: &FlowHasher = &group.hasher;
    move |name| hasher.member_hash(flow, name)
}

fn select_by(members: &[GroupMember], selectable: Slots, hash: &impl Fn(&str) -> u64) -> Option<usize> {
    let best = |wanted: &dyn Fn(usize, &GroupMember) -> bool| {
        let candidates = members.iter().enumerate().filter(|(slot, member)| wanted(*slot, member));
        let scored = candidates.map(|(slot, member)| (slot, Candidate::new(member, hash)));
        scored.min_by(|(_, a), (_, b)| a.cmp_rank(b)).map(|(slot, _)| slot)
    };
    let is_selectable = |slot: usize| selectable & (1 << slot) != 0;
    let live_primary = || best(&|slot, member| !member.spare && is_selectable(slot));
    if !members.iter().any(|member| member.spare) {
        return live_primary();
    }
    match best(&|_, member| !member.spare) {
        Some(primary) if is_selectable(primary) => Some(primary),
        Some(_) | None => best(&|slot, member| member.spare && is_selectable(slot)).or_else(live_primary),
    }
}

/// The positions of the bits that are set in `slots`, lowest first.
fn slots(slots: Slots) -> impl Iterator<Item = usize> {
    (0..Slots::BITS as usize).filter(move |slot| slots & (1 << slot) != 0)
}

/// A member with its hash for one flow.
struct Candidate<'a> {
    member: &'a GroupMember,
    hash: u64,
}

impl<'a> Candidate<'a> {
    fn new(member: &'a GroupMember, hash: &impl Fn(&str) -> u64) -> Self {
        Self { member, hash: hash(&member.name) }
    }

    /// Orders members best first, primaries before spares. This is a total order, because names are unique.
    fn cmp_rank(&self, other: &Self) -> Ordering {
        self.member
            .spare
            .cmp(&other.member.spare)
            .then_with(|| self.cmp_distance(other))
            .then_with(|| other.hash.cmp(&self.hash))
            .then_with(|| self.member.name.cmp(&other.member.name))
    }

    /// Compares `neg_log2(hash) / weight`. Equal weights compare as equal here, since the hashes then give the same
    /// order without a logarithm.
    fn cmp_distance(&self, other: &Self) -> Ordering {
        if self.member.weight == other.member.weight {
            return Ordering::Equal;
        }
        let mine = neg_log2(self.hash) * u64::from(other.member.weight);
        let theirs = neg_log2(other.hash) * u64::from(self.member.weight);
        mine.cmp(&theirs)
    }

    fn score(&self) -> u64 {
        (u64::from(self.member.weight) << 55) / neg_log2(self.hash)
    }
}

#[cfg(test)]
mod tests;
