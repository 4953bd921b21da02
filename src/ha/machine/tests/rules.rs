//! Start, silence, lease, score, claims, witness, alarms.

use super::*;
use crate::named_enum::EnumOrUnknown;
use crate::wire::vrrp::active_down_interval;

#[test]
fn the_best_of_all_nodes_becomes_active_as_soon_as_all_are_heard() {
    let mut best = Bench::new(2, 0);
    best.hear(1, &says(2, 1, Role::Listen));
    assert_eq!(best.role(), Role::Active);
    assert_eq!((best.last_reason(), best.machine.term()), (&Reason::BestClaim, 1));
    assert_eq!(best.announced, 1, "announced at once");

    let mut other = Bench::new(2, 1);
    other.hear(0, &says(2, 0, Role::Listen));
    other.pass(ms(100));
    assert_eq!(other.role(), Role::Listen, "the other one has the better claim");
    other.hear(0, &leader());
    assert_eq!((other.role(), other.last_reason()), (Role::Standby, &Reason::ActiveHeard(NodeId(0))));
}

#[test]
fn a_node_that_hears_no_other_waits_for_its_start_delay() {
    let mut bench = Bench::new(2, 1);
    bench.pass(ms(2999));
    assert_eq!(bench.role(), Role::Listen);
    bench.pass(ms(31));
    assert_eq!((bench.role(), bench.last_reason()), (Role::Active, &Reason::NobodyElse));
    bench.pass(ms(10_000));
    assert_eq!(bench.alarms(), [AlarmKind::HaAlone]);
}

#[test]
fn a_node_that_returns_takes_nothing_from_the_active_one_whatever_its_priority() {
    let mut bench = Bench::new(2, 0);
    bench.pass_hearing(ms(60_000), 1, &Hello { term: 7, last_active: 7, ..says(2, 1, Role::Active) });
    assert_eq!((bench.role(), bench.machine.term()), (Role::Standby, 7));
}

#[test]
fn silence_of_the_active_node_is_replaced_after_the_interval_of_the_standard() {
    let mut bench = following();
    bench.hear(0, &leader());
    let heard = bench.now;
    let down = active_down_interval(190, ms(30));

    bench.pass(down - ms(1));
    assert_eq!(bench.role(), Role::Standby);
    bench.pass(ms(1));

    assert_eq!(bench.role(), Role::Active);
    assert_eq!(*bench.last_reason(), Reason::Silence(Some(NodeId(0)), down));
    assert_eq!(bench.now.since(heard), down);
    assert!(down <= ms(100), "the promise at 30 ms");
    assert_eq!((bench.machine.term(), bench.announced), (2, 1));
    assert_eq!(bench.advertised.last(), Some(&190), "switches learn the virtual MAC in the same step");
    bench.pass(ms(6000));
    assert_eq!(bench.announced, 3, "again after 1 s and after 5 s");
}

/// The dead node has the better claim, and nobody to make it.
#[test]
fn a_standby_that_is_worse_off_replaces_a_silent_node_once_and_as_soon() {
    let mut bench = following();
    bench.health(lost_firewalls(8));
    bench.hear(0, &leader());
    let (moves, down) = (bench.moves.len(), active_down_interval(bench.machine.priority(), ms(30)));
    bench.pass(down);
    assert_eq!(bench.role(), Role::Active);
    bench.pass(ms(200));
    assert_eq!((bench.role(), bench.moves.len()), (Role::Active, moves + 1), "{:?}", bench.moves);
    assert!(!bench.raised.contains(&AlarmKind::SplitBrain), "nor are there two");
    assert_eq!(bench.announced, 1, "nor is it answered");

    bench.hear(0, &leader());
    assert_eq!(bench.last_reason(), &Reason::BetterClaim(NodeId(0)), "once it speaks again, it is yielded to");
}

#[test]
fn the_intervals_of_the_active_node_count_not_those_of_the_standby() {
    let mut bench = following();
    bench.hear(0, &Hello { interval: ms(100), ..leader() });
    bench.pass(ms(300));
    assert_eq!(bench.role(), Role::Standby);
    bench.pass(ms(30));
    assert_eq!(bench.role(), Role::Active);
}

#[test]
fn one_path_is_enough_to_be_heard() {
    let mut bench = following();
    for _ in 0..100 {
        bench.hear_on(&[Path::Sync], 0, &leader());
        bench.pass(ms(30));
    }
    assert_eq!(bench.role(), Role::Standby);
}

#[test]
fn a_node_that_is_cut_off_from_everybody_stays_quiet() {
    let mut bench = following();
    let asked = bench.asked;
    bench.answering = 0;
    bench.pass(ms(5000));
    assert_eq!(bench.role(), Role::Standby);
    assert!(bench.asked - asked > 100, "it asks every interval");

    bench.answering = 1;
    bench.pass(ms(60));
    assert_eq!(bench.role(), Role::Active, "once somebody answers");
}

#[test]
fn of_two_standby_nodes_the_better_one_is_first() {
    let mut roles = Vec::new();
    for me in [1, 2] {
        let mut bench = Bench::new(3, me);
        let (active, other) = (Hello { term: 1, last_active: 1, ..says(3, 0, Role::Active) }, 3 - me);
        for _ in 0..10 {
            bench.hear(0, &active);
            bench.hear(other, &says(3, other, Role::Standby));
            bench.pass(ms(30));
        }
        bench.hear(0, &active);
        for _ in 0..10 {
            bench.pass(ms(10));
            bench.hear(other, &says(3, other, Role::Standby));
        }
        roles.push(bench.role());
    }
    assert_eq!(roles, [Role::Active, Role::Standby]);
}

#[test]
fn an_active_node_that_stood_still_stops_by_its_lease_and_listens_before_it_speaks() {
    let mut bench = active();
    let word = bench.machine.role_word();
    assert_eq!(word.forwarding, Forwarding::Router);
    assert!(word.until <= bench.now + ms(75), "two and a half intervals");

    bench.now += ms(5000);
    assert!(bench.now > word.until, "workers drop");
    let out = bench.machine.handle_timeout(bench.now);
    assert!(out.advertise.is_none());
    bench.take(out);
    assert_eq!((bench.role(), bench.machine.role_word().forwarding), (Role::Listen, Forwarding::Silent));
    assert!(matches!(bench.last_reason(), Reason::StoodStill(_)));

    bench.hear(1, &Hello { term: 2, last_active: 2, ..says(2, 1, Role::Active) });
    assert_eq!(bench.role(), Role::Standby);
}

#[test]
fn after_a_standstill_that_nobody_used_it_is_active_again_within_few_intervals() {
    let mut bench = active();
    bench.now += ms(200);
    let out = bench.machine.handle_timeout(bench.now);
    bench.take(out);
    assert_eq!(bench.role(), Role::Listen);
    bench.pass_hearing(ms(150), 1, &standby());
    assert_eq!(bench.role(), Role::Active);
}

#[test]
fn an_active_node_that_nobody_could_replace_forwards_on_while_its_thread_stands_still() {
    let mut bench = active();
    bench.pass(ms(2000));
    assert_eq!(bench.machine.role_word().until, Instant::from_nanos(u64::MAX));
    bench.now += ms(900);
    let out = bench.machine.handle_timeout(bench.now);
    bench.take(out);
    assert_eq!(bench.role(), Role::Active);

    let mut always = Bench::with(HaConfig { lease: Lease::Always, ..node(2, 0) });
    always.pass(ms(5000));
    assert!(always.machine.role_word().until <= always.now + ms(75));
}

#[test]
fn a_standby_whose_own_loop_stood_still_takes_nothing_over_for_that() {
    let mut bench = following();
    bench.now += ms(5000);
    let out = bench.machine.handle_timeout(bench.now);
    bench.take(out);
    assert_eq!(bench.role(), Role::Standby);
    bench.pass_hearing(ms(300), 0, &leader());
    assert_eq!(bench.role(), Role::Standby);
}

#[test]
fn a_node_that_is_often_late_says_so_and_promises_less() {
    let mut bench = active();
    bench.hear(1, &standby());
    bench.now = bench.machine.poll_timeout() + ms(25);
    let out = bench.machine.handle_timeout(bench.now);
    assert_eq!(out.advertise.map(|said| said.interval), Some(ms(50)));
    assert_eq!(out.hello.as_ref().map(|hello| hello.interval), Some(ms(50)));
    bench.take(out);
    assert_eq!(bench.alarms(), [AlarmKind::HaSlow]);
}

#[test]
fn of_two_active_nodes_the_one_with_the_worse_claim_stops_at_once() {
    let cases = [
        (Hello { term: 1, last_active: 1, ..says(2, 1, Role::Active) }, Role::Active, "equal terms: priority"),
        (Hello { term: 2, last_active: 2, ..says(2, 1, Role::Active) }, Role::Standby, "it took over from this one"),
        (
            Hello { term: 2, last_active: 2, deductions: 10, ..says(2, 1, Role::Active) },
            Role::Active,
            "it is worse off",
        ),
    ];
    for (hello, role, why) in cases {
        let mut bench = active();
        let announced = bench.announced;
        bench.hear(1, &hello);
        assert_eq!(bench.role(), role, "{why}");
        if role == Role::Active {
            assert_eq!(bench.announced, announced + 1, "announced again");
            assert_eq!(bench.alarms(), [AlarmKind::SplitBrain]);
            bench.pass_hearing(ms(1100), 1, &standby());
            assert_eq!(bench.announced, announced + 3, "and again after a second, beside that of the takeover");
            assert!(bench.alarms().is_empty());
        } else {
            assert_eq!(*bench.last_reason(), Reason::BetterClaim(NodeId(1)));
            assert_eq!(bench.machine.role_word().forwarding, Forwarding::Silent);
        }
    }
}

fn lost_firewalls(down: u32) -> Health {
    let group = GroupHealth { name: "perimeter".to_owned(), down, weight: 8, is_below_min: false };
    Health { groups: vec![group], ..Health::default() }
}

#[test]
fn a_standby_that_is_better_by_the_margin_for_long_enough_gets_the_role() {
    let mut bench = active();
    bench.pass_hearing(ms(11_000), 1, &standby());
    let out = bench.machine.handle_health(lost_firewalls(1), bench.now);
    bench.take(out);
    bench.pass_hearing(ms(2000), 1, &standby());
    assert_eq!(bench.role(), Role::Active, "one of eight firewalls moves nothing");

    let out = bench.machine.handle_health(lost_firewalls(4), bench.now);
    bench.take(out);
    bench.pass_hearing(ms(240), 1, &standby());
    assert_eq!(bench.role(), Role::Active);
    bench.pass_hearing(ms(60), 1, &standby());
    assert_eq!((bench.role(), bench.last_reason()), (Role::Leaving, &Reason::Score(NodeId(1))));
}

#[test]
fn a_score_that_flaps_moves_the_role_ever_more_slowly() {
    let mut bench = active();
    let mut gaps = Vec::new();
    let mut last = None;
    let out = bench.machine.handle_health(lost_firewalls(8), bench.now);
    bench.take(out);
    // The other node never takes the role, so that it comes back and may move again.
    while gaps.len() < 7 {
        bench.pass_hearing(ms(30), 1, &standby());
        if bench.role() == Role::Leaving {
            gaps.extend(last.map(|last| (bench.now.since(last).as_millis() + 500) / 1000));
            last = Some(bench.now);
            bench.pass_hearing(ms(300), 1, &standby());
            assert_eq!(bench.role(), Role::Active);
        }
    }
    assert_eq!(gaps, [10, 20, 40, 80, 160, 160, 160], "in seconds; what is not taken counts once");
}

#[test]
fn a_standby_that_lacks_copies_gets_the_role_by_silence_alone() {
    let mut bench = active();
    let unready = Hello { is_ready: false, ..standby() };
    let out = bench.machine.handle_health(lost_firewalls(8), bench.now);
    bench.take(out);
    bench.pass_hearing(ms(61_000), 1, &unready);
    assert_eq!(bench.role(), Role::Active);
    assert!(bench.alarms().contains(&AlarmKind::StandbyNotReady));

    let mut bench = following();
    let sync = SyncState { is_ready: false, ..SyncState::default() };
    let out = bench.machine.handle_health(Health { sync, ..Health::default() }, bench.now);
    bench.take(out);
    bench.pass(ms(300));
    assert_eq!(bench.role(), Role::Active);
}

#[test]
fn preemption_waits_its_time_and_never_is_the_default() {
    for (preempt, role) in [(None, Role::Active), (Some(ms(60_000)), Role::Leaving)] {
        let mut bench = Bench::with(HaConfig { preempt, ..node(2, 1) });
        bench.pass(ms(3100));
        let better = Hello { term: 1, ..says(2, 0, Role::Standby) };
        bench.pass_hearing(ms(59_900), 0, &better);
        assert_eq!(bench.role(), Role::Active);
        bench.pass_hearing(ms(200), 0, &better);
        assert_eq!(bench.role(), role);
    }
}

#[test]
fn a_node_at_fault_gives_the_role_away_and_alone_it_stays() {
    for fault in [Fault::Worker, Fault::Control] {
        let mut bench = active();
        let ill = Health { faults: vec![fault.clone()], ..Health::default() };
        let out = bench.machine.handle_health(ill.clone(), bench.now);
        bench.take(out);
        assert_eq!((bench.role(), bench.last_reason()), (Role::Leaving, &Reason::Fault(fault.clone())));
        bench.hear(1, &Hello { term: 2, last_active: 2, ..says(2, 1, Role::Active) });
        bench.pass(ms(60));
        assert_eq!((bench.role(), bench.last_reason()), (Role::Fault, &Reason::Taken(NodeId(1))));

        let mut alone = active();
        alone.pass(ms(2000));
        let out = alone.machine.handle_health(ill, alone.now);
        alone.take(out);
        assert_eq!(alone.role(), Role::Active);
        assert_eq!(alone.alarms(), [AlarmKind::HaAlone]);
    }
}

#[test]
fn who_has_no_link_left_is_not_active_even_alone_and_listens_before_it_is_again() {
    let mut alone = active();
    alone.pass(ms(2000));
    let down = Health { carrier: vec![false, false], ..Health::default() };
    let out = alone.machine.handle_health(down, alone.now);
    alone.take(out);
    assert_eq!((alone.role(), alone.last_reason()), (Role::Fault, &Reason::Fault(Fault::Links)));

    let out = alone.machine.handle_health(Health::default(), alone.now);
    alone.take(out);
    alone.pass_hearing(ms(1200), 1, &Hello { term: 2, last_active: 2, ..says(2, 1, Role::Active) });
    assert_eq!(alone.role(), Role::Standby, "another one became active meanwhile");
}

#[test]
fn a_fault_ends_a_second_after_its_cause() {
    let mut bench = following();
    let down = Health { carrier: vec![false, false], ..Health::default() };
    let out = bench.machine.handle_health(down, bench.now);
    bench.take(out);
    assert_eq!((bench.role(), bench.last_reason()), (Role::Fault, &Reason::Fault(Fault::Links)));

    let out = bench.machine.handle_health(Health::default(), bench.now);
    bench.take(out);
    bench.pass_hearing(ms(990), 0, &leader());
    assert_eq!(bench.role(), Role::Fault);
    bench.pass_hearing(ms(60), 0, &leader());
    assert_eq!(bench.role(), Role::Standby);
    let roles: Vec<_> = bench.moves.iter().map(|change| change.to).collect();
    assert!(roles.ends_with(&[Role::Fault, Role::Standby]), "it listened and heard in one step: {roles:?}");
}

#[test]
fn the_far_side_keeps_a_deaf_standby_from_taking_over() {
    let mut bench = following();
    bench.hear(0, &leader());
    let report = |heard| WitnessReport { node: NodeId(0), role: Role::Active, term: 1, priority: 200, heard };
    for _ in 0..40 {
        bench.pass(ms(50));
        let out = bench.machine.handle_witness(report(bench.now), bench.now);
        bench.take(out);
    }
    assert_eq!((bench.role(), bench.alarms()), (Role::Standby, vec![AlarmKind::HaPartition]));

    bench.pass(ms(400));
    assert_eq!(bench.role(), Role::Active, "when the far side does not hear it either");
}

#[test]
fn what_the_far_side_heard_before_the_silence_delays_nothing() {
    let mut bench = following();
    bench.hear(0, &leader());
    let report = WitnessReport { node: NodeId(0), role: Role::Active, term: 1, priority: 200, heard: bench.now };
    let out = bench.machine.handle_witness(report, bench.now);
    bench.take(out);
    bench.pass(ms(100));
    assert_eq!(bench.role(), Role::Active);
    let out = bench.machine.handle_witness(report, bench.now);
    bench.take(out);
    assert_eq!(bench.role(), Role::Active, "nor does it take the role away again");
}

#[test]
fn two_that_hear_only_the_far_side_settle_who_is_active() {
    let mut bench = active();
    bench.pass(ms(3000));
    let report = |term, heard| WitnessReport { node: NodeId(1), role: Role::Active, term, priority: 190, heard };
    let out = bench.machine.handle_witness(report(0, bench.now), bench.now);
    bench.take(out);
    assert_eq!(bench.role(), Role::Active);
    assert!(bench.alarms().contains(&AlarmKind::SplitBrain));
    let out = bench.machine.handle_witness(report(2, bench.now), bench.now);
    bench.take(out);
    assert_eq!((bench.role(), bench.last_reason()), (Role::Standby, &Reason::BetterClaim(NodeId(1))));
}

#[test]
fn nodes_that_differ_for_a_minute_raise_alarms() {
    let mut bench = active();
    let mut other = Hello { program: "0.2.0".to_owned(), ..standby() };
    other.digests[2] = 9;
    other.digests[7] = 9;
    bench.pass_hearing(ms(59_000), 1, &other);
    assert!(bench.alarms().is_empty());
    bench.pass_hearing(ms(2000), 1, &other);
    let alarms = bench.machine.alarms(bench.now);
    let raised: Vec<_> = alarms.iter().map(|(alarm, reason, _)| (alarm.kind, reason.as_str())).collect();
    assert_eq!(
        raised,
        [
            (AlarmKind::ConfigDiffers, "its file differs in: route"),
            (AlarmKind::VersionDiffers, "it runs version 0.2.0, this node 0.1.0"),
        ]
    );
    bench.pass_hearing(ms(30), 1, &standby());
    assert!(bench.alarms().is_empty());
}

#[test]
fn a_quiet_path_for_synchronisation_and_a_dead_link_raise_alarms() {
    let mut bench = active();
    bench.answering = 1;
    for _ in 0..50 {
        bench.hear_on(&[Path::Leg(LegId(0))], 1, &Hello { deductions: 50, ..standby() });
        bench.pass(ms(30));
    }
    let alarms = bench.machine.alarms(bench.now);
    let raised: Vec<_> = alarms.iter().map(|(alarm, ..)| (alarm.kind, alarm.subject.as_str())).collect();
    assert_eq!(raised, [(AlarmKind::LegDead, "firewalls"), (AlarmKind::SyncLost, "outer-b")]);
    assert_eq!(bench.machine.priority(), 150);
}

#[test]
fn a_reload_changes_no_role() {
    let mut bench = active();
    for turn in 0..100_u32 {
        let changed = HaConfig { digests: [turn; 8], margin: 10 + turn as u16 % 3, ..node(2, 0) };
        let out = bench.machine.set_config(changed, bench.now);
        bench.take(out);
        bench.pass_hearing(ms(100), 1, &standby());
    }
    assert_eq!((bench.role(), bench.moves.len()), (Role::Active, 1));

    let mut bench = following();
    for turn in 0..100 {
        let out = bench.machine.set_config(HaConfig { digests: [turn; 8], ..node(2, 1) }, bench.now);
        bench.take(out);
        bench.pass_hearing(ms(100), 0, &leader());
    }
    assert_eq!((bench.role(), bench.moves.len()), (Role::Standby, 1));
}

#[test]
fn a_cluster_of_one_is_active_after_its_start_delay() {
    let mut bench = Bench::new(1, 0);
    bench.pass(ms(3100));
    assert_eq!((bench.role(), bench.alarms()), (Role::Active, vec![]));
}

#[test]
fn show_ha_describes_the_cluster() {
    let mut bench = active();
    let out = bench.machine.handle_health(lost_firewalls(1), bench.now);
    bench.take(out);
    bench.hear(1, &Hello { deductions: 5, priority: 185, held: 12, ..standby() });
    bench.pass(ms(12));

    let view = bench.machine.status(bench.now);

    assert_eq!(
        (view.node.as_str(), view.role.name(), view.term, view.priority, view.base),
        ("outer-a", "active", 1, 196, 200)
    );
    assert_eq!(view.deductions[0].subject, "perimeter");
    assert!(view.lease_ms.is_some_and(|left| left <= 75));
    let other = &view.nodes[0];
    assert_eq!(
        (other.name.as_str(), other.role.as_ref().map(EnumOrUnknown::name), other.priority, other.base),
        ("outer-b", Some("standby"), 185, 190)
    );
    assert_eq!((other.deductions, other.sessions_held, other.ready), (5, 12, true));
    let heard: Vec<_> = other.heard.iter().map(|heard| (heard.path.as_str(), heard.age_ms)).collect();
    assert_eq!(heard, [("internet", 12), ("firewalls", 12), ("sync", 12)]);
    assert_eq!(view.history.len(), 1);
    assert_eq!(view.reason, "no node is active, and this one has the best claim");
    let json = serde_json::to_string(&view).expect("it is JSON");
    assert_eq!(serde_json::from_str::<crate::ha::view::HaView>(&json).expect("and back"), view);
}
