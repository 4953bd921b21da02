//! Giving the role away: orders, the end of the program, handover.

use super::*;

fn anna(reason: &str) -> OrderedBy {
    OrderedBy { operator: Some("anna".to_owned()), reason: Some(reason.to_owned()) }
}

fn failover(to: Option<NodeId>, force: bool) -> Order {
    Order::Failover { to, force, by: anna("upgrade") }
}

fn taken() -> Hello {
    Hello { term: 2, last_active: 2, ..says(2, 1, Role::Active) }
}

#[test]
fn the_role_is_handed_over_without_a_moment_in_which_nobody_forwards() {
    let mut bench = active();
    let out = bench.machine.handle_order(failover(None, false), bench.now).expect("the standby is ready");
    let hello = out.hello.clone().expect("it says so at once");
    assert_eq!((hello.role, hello.successor), (Role::Leaving, Some(NodeId(1))));
    bench.take(out);
    assert_eq!(bench.machine.role_word().forwarding, Forwarding::Lingering, "it forwards until the role is taken");
    assert_eq!(bench.moves.last().and_then(|change| change.by.clone()), Some(anna("upgrade")));
    let shown = bench.machine.status(bench.now).history.pop().expect("a move");
    assert_eq!((shown.by.as_deref(), shown.reason.as_str()), (Some("anna"), "ordered: \"upgrade\""));

    let mut other = following();
    other.hear(0, &hello);
    assert_eq!((other.role(), other.last_reason()), (Role::Active, &Reason::Handover(NodeId(0))));
    assert_eq!(other.machine.term(), 2);

    bench.hear(1, &taken());
    assert_eq!((bench.role(), bench.machine.role_word().forwarding), (Role::Leaving, Forwarding::Lingering));
    bench.pass(ms(49));
    assert_eq!(bench.role(), Role::Leaving);
    bench.pass(ms(1));
    assert_eq!((bench.role(), bench.last_reason()), (Role::Standby, &Reason::Taken(NodeId(1))));
    assert!(!bench.advertised.contains(&0), "priority 0 from the virtual MAC would lead switches back");
}

#[test]
fn a_role_that_nobody_takes_stays() {
    let mut bench = active();
    let out = bench.machine.handle_order(failover(None, false), bench.now).expect("accepted");
    bench.take(out);
    bench.pass_hearing(ms(190), 1, &standby());
    assert_eq!((bench.role(), bench.machine.role_word().forwarding), (Role::Leaving, Forwarding::Lingering));
    bench.pass_hearing(ms(30), 1, &standby());
    assert_eq!((bench.role(), bench.last_reason()), (Role::Active, &Reason::NotTaken));
    assert_eq!(bench.machine.term(), 1, "nobody else had it in between");
}

/// A standby that is heard and hears nothing, or hangs: the role is tried with it now and then only, and is held meanwhile.
#[test]
fn a_node_at_fault_that_nobody_relieves_stays_active_and_says_so() {
    for order in [false, true] {
        let mut bench = active();
        let moves = bench.moves.len();
        if order {
            let out = bench.machine.handle_order(Order::Maint { by: anna("new card") }, bench.now).expect("accepted");
            bench.take(out);
        } else {
            bench.health(Health { faults: vec![Fault::Worker], ..Health::default() });
        }
        bench.pass_hearing(ms(240), 1, &standby());
        assert_eq!((bench.role(), bench.last_reason()), (Role::Active, &Reason::NotTaken));
        assert_eq!(bench.machine.role_word().forwarding, Forwarding::Router);
        bench.pass_hearing(ms(9700), 1, &standby());
        assert_eq!((bench.role(), bench.moves.len()), (Role::Active, moves + 2), "{:?}", bench.moves);
        assert_eq!(bench.alarms(), [AlarmKind::HaAlone]);
        let (_, reason, _) = bench.machine.alarms(bench.now).remove(0);
        assert!(reason.contains("outer-b did not take the role"), "{reason}");

        bench.pass_hearing(ms(10_000), 1, &standby());
        assert_eq!((bench.role(), bench.moves.len()), (Role::Active, moves + 4), "once in ten seconds it is offered");
        assert_eq!(bench.raised, [AlarmKind::HaAlone], "the alarm stands all the time");
    }
}

#[test]
fn another_standby_is_tried_at_once_and_one_that_starts_anew_as_well() {
    let mut bench = Bench::new(3, 0);
    let standby = |node| Hello { term: 1, ..says(3, node, Role::Standby) };
    bench.hear(1, &says(3, 1, Role::Listen));
    bench.hear(2, &says(3, 2, Role::Listen));
    bench.hear(1, &standby(1));
    bench.hear(2, &standby(2));
    bench.health(Health { faults: vec![Fault::Worker], ..Health::default() });
    let mut offers = Vec::new();
    for _ in 0..300 {
        offers.push(bench.machine.hello(bench.now).successor);
        bench.hear(1, &standby(1));
        bench.hear(2, &standby(2));
        bench.pass(ms(30));
    }
    offers.dedup();
    assert_eq!(offers, [Some(NodeId(1)), Some(NodeId(2)), None]);

    bench.hear(2, &Hello { start: 7, ..standby(2) });
    assert_eq!(bench.machine.hello(bench.now).successor, Some(NodeId(2)));
}

/// With hellos once in a second the second one comes after 200 ms.
#[test]
fn a_successor_has_three_intervals_to_take_the_role() {
    let mut bench = Bench::with(HaConfig { interval: ms(1000), ..node(2, 0) });
    let standby = Hello { interval: ms(1000), ..standby() };
    bench.hear(1, &Hello { role: Role::Listen, ..standby.clone() });
    bench.hear(1, &standby);
    let out = bench.machine.handle_order(failover(None, false), bench.now).expect("accepted");
    bench.take(out);
    bench.pass(ms(1500));
    bench.hear(1, &standby);
    bench.pass(ms(1400));
    assert_eq!(bench.role(), Role::Leaving);
    bench.hear(1, &standby);
    bench.pass(ms(200));
    assert_eq!((bench.role(), bench.last_reason()), (Role::Active, &Reason::NotTaken));
}

/// What each of three nodes says decides who gets the role when nobody is named.
#[test]
fn a_ready_node_is_the_successor_then_the_healthier_then_the_one_of_higher_priority() {
    let hello = |node| Hello { term: 1, ..says(3, node, Role::Standby) };
    let cases = [
        (hello(1), hello(2), 1, "the priority"),
        (Hello { is_ready: false, ..hello(1) }, hello(2), 2, "it has all copies"),
        (Hello { deductions: 50, ..hello(1) }, hello(2), 2, "it is healthier"),
        (Hello { is_ready: false, ..hello(1) }, Hello { deductions: 50, ..hello(2) }, 2, "copies come before health"),
        (hello(1), Hello { last_active: 1, ..hello(2) }, 1, "who was active once is no better"),
    ];
    for (second, third, successor, why) in cases {
        for what in ["order", "stop", "fault", "maint"] {
            let mut bench = Bench::new(3, 0);
            bench.hear(1, &says(3, 1, Role::Listen));
            bench.hear(2, &says(3, 2, Role::Listen));
            bench.hear(1, &second);
            bench.hear(2, &third);
            if what == "fault" {
                bench.health(Health { faults: vec![Fault::Worker], ..Health::default() });
            } else {
                let order = match what {
                    "order" => failover(None, false),
                    "stop" => Order::Stop,
                    _ => Order::Maint { by: anna("new card") },
                };
                let out = bench.machine.handle_order(order, bench.now).expect("accepted");
                bench.take(out);
            }
            assert_eq!(bench.machine.hello(bench.now).successor, Some(NodeId(successor)), "{what}: {why}");
        }
    }
}

#[test]
fn an_offer_is_taken_once() {
    let mut bench = following();
    let offer = Hello { role: Role::Leaving, successor: Some(NodeId(1)), ..leader() };
    bench.hear(0, &offer);
    assert_eq!(bench.role(), Role::Active);
    // A third one, seen from its old offer: the term has gone on.
    let mut bench = following();
    bench.hear(0, &Hello { term: 2, ..leader() });
    bench.hear(0, &offer);
    assert_eq!(bench.role(), Role::Standby);
}

#[test]
fn failover_is_refused_with_the_reason() {
    let refused =
        |bench: &mut Bench, order| bench.machine.handle_order(order, bench.now).expect_err("refused").to_string();
    let mut alone = active();
    alone.pass(ms(2000));
    assert_eq!(refused(&mut alone, failover(None, true)), "no other node could take over: no standby is heard");
    assert_eq!(
        refused(&mut alone, failover(Some(NodeId(1)), true)),
        "no other node could take over: outer-b is not heard"
    );
    assert_eq!(
        refused(&mut alone, failover(Some(NodeId(0)), true)),
        "no other node could take over: the order names this node itself"
    );

    let mut bench = active();
    bench.hear(1, &Hello { is_ready: false, ..standby() });
    let unready = refused(&mut bench, failover(None, false));
    assert!(unready.starts_with("outer-b is not ready"), "{unready}");
    assert!(bench.machine.handle_order(failover(None, true), bench.now).is_ok());

    // It says that it has every copy, and does not know yet that a pass over all sessions is to be told.
    let mut bench = active();
    bench.hear(1, &standby());
    let sync = SyncState { lacking: vec![NodeId(1)], ..SyncState::default() };
    let out = bench.machine.handle_health(Health { sync, ..Health::default() }, bench.now);
    bench.take(out);
    let unready = refused(&mut bench, failover(None, false));
    assert!(unready.starts_with("outer-b is not ready"), "{unready}");

    let mut bench = active();
    bench.hear(1, &Hello { is_eligible: false, is_in_maintenance: true, ..says(2, 1, Role::Fault) });
    assert_eq!(refused(&mut bench, failover(Some(NodeId(1)), true)), "no other node could take over: outer-b is fault");

    let mut bench = following();
    assert_eq!(refused(&mut bench, failover(None, false)), "this node is standby; give the order to the active one");
}

#[test]
fn maintenance_gives_the_role_away_until_its_end() {
    let mut bench = active();
    let order = Order::Maint { by: anna("new card") };
    let out = bench.machine.handle_order(order, bench.now).expect("accepted");
    bench.take(out);
    assert_eq!((bench.role(), bench.last_reason()), (Role::Leaving, &Reason::Fault(Fault::Maint)));
    assert_eq!(bench.machine.status(bench.now).reason, "it is in maintenance: \"new card\"");
    bench.pass_hearing(ms(90), 1, &taken());
    assert_eq!(bench.role(), Role::Fault);
    bench.pass(ms(1000));
    assert_eq!(bench.role(), Role::Fault, "even if the other one dies");

    let out = bench.machine.handle_order(Order::Ready, bench.now).expect("accepted");
    bench.take(out);
    bench.pass_hearing(ms(1100), 1, &taken());
    assert_eq!(bench.role(), Role::Standby);
}

#[test]
fn the_program_ends_when_the_role_is_given_away() {
    let mut bench = active();
    let out = bench.machine.handle_order(Order::Stop, bench.now).expect("never refused");
    bench.take(out);
    assert!(!bench.machine.may_end());
    bench.hear(1, &taken());
    bench.pass(ms(50));
    assert!(bench.machine.may_end());
    assert_eq!(bench.role(), Role::Standby);
    bench.pass(ms(5000));
    assert_eq!(bench.role(), Role::Standby, "it takes nothing over any more");

    let mut standby = following();
    let out = standby.machine.handle_order(Order::Stop, standby.now).expect("never refused");
    standby.take(out);
    assert!(standby.machine.may_end(), "at once");
}

#[test]
fn a_node_that_stands_alone_says_with_priority_0_that_it_ends() {
    let mut bench = active();
    bench.pass(ms(2000));
    let out = bench.machine.handle_order(Order::Stop, bench.now).expect("never refused");
    assert_eq!(out.advertise.map(|said| said.priority), Some(0));
    bench.take(out);
    bench.pass(ms(50));
    assert!(bench.machine.may_end());
}

#[test]
fn a_stop_that_nobody_answers_ends_nevertheless() {
    let mut bench = active();
    let out = bench.machine.handle_order(Order::Stop, bench.now).expect("never refused");
    bench.take(out);
    bench.pass(ms(300));
    assert_eq!(bench.advertised.iter().filter(|priority| **priority == 0).count(), 1);
    assert!(bench.machine.may_end());
}
