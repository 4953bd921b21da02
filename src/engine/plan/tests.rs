use super::*;
use crate::engine::snapshot::Firewall;
use crate::engine::view::SessionFate;
use crate::flow::{FlowHasher, HashMode, Seed};
use crate::id::{GroupId, LinkId};
use crate::path::{AdminState, BelowMin, GroupMember};
use crate::session::SessionTable;
use crate::wire::Family;

/// A snapshot with one group of these firewalls, all of them up; `gone` are ids that only sessions refer to.
fn snapshot(members: &[(u16, u16)], gone: &[u16], on_failure: OnFailure) -> Snapshot {
    let group = FirewallGroup {
        id: GroupId(0),
        name: "perimeter".into(),
        hasher: FlowHasher::new(Seed::from_text("a seed for the tests of plans"), HashMode::FiveTuple),
        members: members
            .iter()
            .map(|(id, weight)| GroupMember {
                id: FirewallId(*id),
                name: format!("fw{id}"),
                weight: *weight,
                spare: false,
            })
            .collect(),
        on_failure,
        min_up: 1,
        below_min: BelowMin::Drop,
        has_mates: false,
    };
    let up = (1 << members.len()) - 1;
    let set = |family| PathSet {
        group: GroupId(0),
        peer: None,
        family,
        up,
        selectable: up,
        starting: 0,
        failure_counts: vec![0; members.len()],
    };
    let count = members.iter().map(|(id, _)| *id).chain(gone.iter().copied()).max().unwrap_or(0) + 1;
    let firewall = |id: u16| Firewall {
        name: format!("fw{id}"),
        group: GroupId(0),
        slot: 0,
        admin: AdminState::Ready,
        link: LinkId(0),
        v4: None,
        v6: None,
    };
    Snapshot {
        groups: vec![group],
        path_sets: vec![set(Family::V4), set(Family::V6)],
        firewalls: (0..count).map(firewall).collect(),
        ..Snapshot::default()
    }
}

/// Decides about a packet in the original direction of its flow.
fn speak(flow: FlowKey, pin: Option<Pin>, snapshot: &Snapshot, now: Instant) -> NearDecision {
    let transit = RoutedFlow::unchanged(flow, Arrival::Near, PacketKind::Other);
    pinning::decide_near(pin, PacketKind::Other, &view_toward_destination(&transit, PathSetId(0), snapshot), now)
}

/// Sessions of `count` flows as `snapshot` pins them.
fn sessions(count: u32, snapshot: &Snapshot, now: Instant) -> (std::sync::Arc<SessionTable>, Vec<(FlowKey, Pin)>) {
    let (table, mut workers) = SessionTable::new(4096, 1, Default::default(), [1, 2, 3, 4]);
    let mut pins = Vec::new();
    for number in 0..count {
        let flow = sample_flow(number);
        let NearDecision::Send { pin, .. } = speak(flow, None, snapshot, now) else { panic!("a firewall is up") };
        let (key, direction) = flow.canonical();
        let mut session = Session::new(&key, direction, now);
        *session.pin_toward_destination(direction) = Some(pin);
        workers[0].open(&key, None, session, false, |_, _| false, now);
        pins.push((flow, pin));
    }
    assert_eq!(table.len(), pins.len(), "the flows are different ones");
    (table, pins)
}

fn survey(old: &Snapshot, new: &Snapshot, table: &SessionTable, now: Instant) -> (u64, u64, Vec<MoveView>) {
    let mut survey = ReloadImpact::new(old, new, now);
    table.for_each(|key, session, bound| {
        survey.examine(key, session, bound);
        true
    });
    (survey.moved(), survey.moved_from_healthy(), survey.moves())
}

#[test]
fn the_plan_tells_exactly_the_sessions_that_move_and_where_they_go() {
    let now = Instant::from_millis(1_000);
    let old = snapshot(&[(0, 1), (1, 2), (2, 1)], &[], OnFailure::Reselect);
    let new = snapshot(&[(2, 5), (0, 1)], &[1], OnFailure::Reselect);
    let (table, pins) = sessions(2_000, &old, now);

    let (moved, healthy, moves) = survey(&old, &new, &table, now);

    let mut happened: BTreeMap<String, u64> = BTreeMap::new();
    for (flow, pin) in pins {
        let NearDecision::Send { pin: after, .. } = speak(flow, Some(pin), &new, now) else {
            panic!("a firewall is up")
        };
        if after.firewall != pin.firewall {
            assert_eq!(pin.firewall, FirewallId(1), "only the removed firewall's sessions move");
            *happened.entry(firewall_name(&new, after.firewall)).or_default() += 1;
        }
    }
    let told: BTreeMap<String, u64> = moves.iter().map(|way| (way.to.clone().unwrap(), way.sessions)).collect();
    assert_eq!((told, healthy), (happened.clone(), 0));
    assert_eq!(moved, happened.values().sum::<u64>());
    assert!(moves.iter().all(|way| way.from == "perimeter/fw1" && way.fate == SessionFate::Moves));
}

#[test]
fn a_removed_firewall_resets_or_drops_as_on_failure_says_and_nobody_keeps_it() {
    let now = Instant::from_millis(1_000);
    for (on_failure, fate) in [
        (OnFailure::Reset, "is reset"),
        (OnFailure::Drop, "is dropped"),
        (OnFailure::Keep, "moves"),
        (OnFailure::Reselect, "moves"),
    ] {
        let old = snapshot(&[(0, 1), (1, 1)], &[], on_failure);
        let new = snapshot(&[(0, 1)], &[1], on_failure);
        let (table, pins) = sessions(200, &old, now);
        let on_removed = pins.iter().filter(|(_, pin)| pin.firewall == FirewallId(1)).count() as u64;

        let (moved, _, moves) = survey(&old, &new, &table, now);

        assert_eq!((moved, moves.len(), moves[0].fate.name()), (on_removed, 1, fate), "{on_failure:?}");
    }
}

#[test]
fn weights_and_seeds_move_no_session_and_the_share_of_new_flows_is_told() {
    let now = Instant::from_millis(1_000);
    let old = snapshot(&[(0, 1), (1, 1)], &[], OnFailure::Reselect);
    let mut new = snapshot(&[(0, 1), (1, 3)], &[], OnFailure::Reselect);
    let (table, _) = sessions(500, &old, now);

    assert_eq!(survey(&old, &new, &table, now), (0, 0, Vec::new()));
    let share = new_flows(&old, &new).swap_remove(0);
    assert!((23.0..27.0).contains(&share.moved_percent), "a half becomes three quarters: {share:?}");
    assert!((73.0..77.0).contains(&share.firewalls[1].after_percent), "{share:?}");

    new.groups[0].hasher = FlowHasher::new(Seed::from_text("another seed, twice as good"), HashMode::FiveTuple);
    assert_eq!(survey(&old, &new, &table, now), (0, 0, Vec::new()));
}

#[test]
fn a_group_that_goes_leaves_its_sessions_to_the_routes() {
    let now = Instant::from_millis(1_000);
    let old = snapshot(&[(0, 1)], &[], OnFailure::Reset);
    let new = snapshot(&[], &[0], OnFailure::Keep);
    let (table, _) = sessions(10, &old, now);

    let (moved, healthy, moves) = survey(&old, &new, &table, now);

    assert_eq!((moved, healthy, moves[0].to.clone(), moves[0].fate.name()), (10, 0, None, "moves"));
}
