use proptest::prelude::*;

use super::*;
use crate::flow::{HashMode, Seed};
use crate::id::{FirewallId, GroupId};
use crate::path::{BelowMin, OnFailure};

const SEED: &str = "correct horse battery staple";

fn group(members: &[(&str, u16, bool)]) -> FirewallGroup {
    let members = members.iter().enumerate().map(|(slot, &(name, weight, spare))| GroupMember {
        id: FirewallId::from(slot),
        name: name.to_owned(),
        weight,
        spare,
    });
    FirewallGroup {
        id: GroupId(0),
        name: "perimeter".to_owned(),
        hasher: FlowHasher::new(Seed::from_text(SEED), HashMode::FiveTuple),
        members: members.collect(),
        on_failure: OnFailure::Reselect,
        min_up: 1,
        below_min: BelowMin::Drop,
        has_mates: false,
    }
}

/// Firewalls `fw0`, `fw1`, ... with these weights.
fn weighted(weights: &[u16]) -> FirewallGroup {
    let names: Vec<_> = (0..weights.len()).map(|slot| format!("fw{slot}")).collect();
    let members: Vec<_> = names.iter().zip(weights).map(|(name, &weight)| (name.as_str(), weight, false)).collect();
    group(&members)
}

fn all(group: &FirewallGroup) -> Slots {
    Slots::MAX >> (Slots::BITS as usize - group.members.len())
}

fn flows(count: u64) -> impl Iterator<Item = FlowHash> {
    (0..count).map(|number| FlowHash(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

#[test]
fn the_vectors_of_another_implementation_hold() {
    let groups = [
        ("equal", group(&[("fw1", 1, false), ("fw2", 1, false), ("fw3", 1, false)])),
        ("weighted", group(&[("fw1", 1, false), ("fw2", 2, false), ("fw3", 3, false), ("fw4", 256, false)])),
        ("spares", group(&[("fw1", 1, false), ("fw2", 1, false), ("fw3", 2, true), ("fw4", 1, true)])),
    ];
    let mut checked = 0;
    for line in include_str!("../../../tests/vectors/rendezvous.tsv").lines().skip(1) {
        let fields: Vec<_> = line.split('\t').collect();
        let group = &groups.iter().find(|(name, _)| *name == fields[0]).expect("a group of the vectors").1;
        let flow = FlowHash(u64::from_str_radix(fields[1], 16).expect("hexadecimal"));
        let name = |slot: usize| group.members[slot].name.as_str();

        let ranked = rank(group, flow);
        let shown: Vec<_> = ranked.iter().map(|scored| format!("{}:{}", name(scored.slot), scored.score)).collect();
        assert_eq!(shown.join(" "), fields[2]);

        let without_first = all(group) & !(1 << ranked[0].slot);
        let spares = slots(all(group)).filter(|&slot| group.members[slot].spare).fold(0, |bits, slot| bits | 1 << slot);
        let selected = [all(group), without_first, spares].map(|live| select(group, live, flow).map_or("-", name));
        assert_eq!(selected, [fields[3], fields[4], fields[5]], "{line}");
        checked += 1;
    }
    assert_eq!(checked, 48);
}

#[test]
fn equal_weights_are_plain_highest_hash_wins() {
    for weight in [1, 7, 256] {
        let group = weighted(&[weight; 5]);
        for flow in flows(2000) {
            let highest = group.members.iter().max_by_key(|member| group.hasher.member_hash(flow, &member.name));
            let selected = select(&group, all(&group), flow).map(|slot| &group.members[slot]);
            assert_eq!(selected, highest);
        }
    }
}

#[test]
fn the_logarithm_falls_while_the_hash_rises() {
    let mut last = neg_log2(0);
    let steps = std::iter::successors(Some(1_u64), |hash| hash.checked_add(hash / 97 + 1));
    for hash in steps.chain([u64::MAX]) {
        let next = neg_log2(hash);
        assert!(next <= last, "{hash:#x}");
        let exact = 64.0 - (hash as f64).log2();
        assert!((next as f64 / f64::from(1_u32 << 31) / 2.0 - exact).abs() < 1e-9, "{hash:#x}");
        last = next;
    }
}

/// Hashes 40,000 flows and requires that each member's share is within four standard deviations of what its weight
/// promises.
fn assert_balanced(weights: &[u16]) {
    const FLOWS: u64 = 40_000;
    let group = weighted(weights);
    let mut shares = vec![0_u32; weights.len()];
    for flow in flows(FLOWS) {
        shares[select(&group, all(&group), flow).expect("all are live")] += 1;
    }
    let sum: u16 = weights.iter().sum();
    for (share, &weight) in shares.iter().zip(weights) {
        let p = f64::from(weight) / f64::from(sum);
        let (expected, sigma) = (FLOWS as f64 * p, (FLOWS as f64 * p * (1.0 - p)).sqrt());
        assert!((f64::from(*share) - expected).abs() <= 4.0 * sigma, "{weights:?}: {shares:?}");
    }
}

#[test]
fn shares_follow_the_weights() {
    assert_balanced(&[1, 1]);
    assert_balanced(&[1, 2, 3]);
    assert_balanced(&[1, 1, 1, 1, 1, 1, 1, 1]);
    assert_balanced(&[256, 1, 100]);
}

#[test]
fn a_spare_takes_the_flows_of_a_primary_that_is_out_and_no_other() {
    let group = group(&[("fw0", 1, false), ("fw1", 3, false), ("fw2", 1, false), ("spare", 1, true)]);
    let (primaries, out) = (0b0111, 1);
    for flow in flows(2000) {
        let before = select(&group, 0b1111, flow).expect("all are live");
        assert!(primaries & (1 << before) != 0, "a spare has nothing to do");
        let after = select(&group, 0b1111 & !(1 << out), flow);
        assert_eq!(after, Some(if before == out { 3 } else { before }));
        let no_spare = select(&group, primaries & !(1 << out), flow).expect("two are live");
        assert!(if before == out { no_spare != out } else { no_spare == before });
    }
}

#[test]
fn a_group_of_spares_alone_still_works() {
    let group = group(&[("a", 1, true), ("b", 1, true)]);
    let taken: Vec<_> = flows(100).map(|flow| select(&group, 0b11, flow)).collect();
    assert!(taken.contains(&Some(0)) && taken.contains(&Some(1)));
    assert_eq!(select(&group, 0, FlowHash(1)), None);
}

fn any_group() -> impl Strategy<Value = FirewallGroup> {
    let weight = prop_oneof![Just(1_u16), 1..=256_u16];
    let spare = prop::bool::weighted(0.2);
    prop::collection::vec((weight, spare), 1..12).prop_map(|members| {
        let names: Vec<_> = (0..members.len()).map(|slot| format!("fw{slot}")).collect();
        let members = names.iter().zip(members).map(|(name, (weight, spare))| (name.as_str(), weight, spare));
        group(&members.collect::<Vec<_>>())
    })
}

proptest! {
    #[test]
    fn taking_one_out_moves_exactly_its_flows(group in any_group(), live: Slots, out: prop::sample::Index, flow: u64) {
        let live = (live & all(&group)) | 1;
        let flow = FlowHash(flow);
        let out = out.index(group.members.len());
        let (before, after) = (select(&group, live, flow), select(&group, live & !(1 << out), flow));
        prop_assert!(before == Some(out) || before == after);
        prop_assert!(before != Some(out) || after != Some(out));
    }

    #[test]
    fn the_order_of_the_members_does_not_matter(group in any_group(), live: Slots, flow: u64, turn in 0..12_usize) {
        let live = live & all(&group);
        let mut turned = group.clone();
        let turn = turn % group.members.len();
        turned.members.rotate_left(turn);
        let turned_live = slots(live)
            .map(|slot| (slot + group.members.len() - turn) % group.members.len())
            .fold(0, |bits, slot| bits | 1 << slot);
        let name = |group: &FirewallGroup, live| select(group, live, FlowHash(flow)).map(|slot| group.members[slot].name.clone());
        prop_assert_eq!(name(&group, live), name(&turned, turned_live));
        let names = |group: &FirewallGroup| -> Vec<_> {
            rank(group, FlowHash(flow)).iter().map(|scored| group.members[scored.slot].name.clone()).collect()
        };
        prop_assert_eq!(names(&group), names(&turned));
    }

    #[test]
    fn a_changed_weight_moves_flows_only_to_or_from_its_member(group in any_group(), at: prop::sample::Index, weight in 1..=256_u16, flow: u64) {
        let mut changed = group.clone();
        let at = at.index(group.members.len());
        let grows = weight >= group.members[at].weight;
        changed.members[at].weight = weight;
        let (before, after) = (select(&group, all(&group), FlowHash(flow)), select(&changed, all(&group), FlowHash(flow)));
        let gainer = if grows { after } else { before };
        prop_assert!(before == after || gainer == Some(at));
    }

    #[test]
    fn the_rank_agrees_with_the_selection_and_its_scores_fall(group in any_group(), flow: u64) {
        let ranked = rank(&group, FlowHash(flow));
        prop_assert_eq!(select(&group, all(&group), FlowHash(flow)), Some(ranked[0].slot));
        for pair in ranked.windows(2) {
            let [a, b] = [&group.members[pair[0].slot], &group.members[pair[1].slot]];
            let falls = a.spare == b.spare && pair[0].score >= pair[1].score;
            prop_assert!(falls || (!a.spare && b.spare));
        }
    }

    #[test]
    fn the_turn_through_the_ranks_meets_every_candidate(group in any_group(), candidates: Slots, flow: u64) {
        let candidates = (candidates & all(&group)) | 1;
        let start = select(&group, candidates, FlowHash(flow)).expect("one is a candidate");
        let mut at = start;
        let mut met = 0;
        for _ in 0..candidates.count_ones() {
            at = next_after(&group, candidates, FlowHash(flow), at).expect("one is a candidate");
            met |= 1 << at;
        }
        prop_assert_eq!((met, at), (candidates, start));
    }
}
