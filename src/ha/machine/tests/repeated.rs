//! Hellos that come late or again, frames that change nothing, and faults that come back.

use super::*;

const SYNC: [Path; 1] = [Path::Sync];

#[test]
fn a_late_hello_undoes_nothing_and_a_copy_prolongs_nothing() {
    let mut bench = following();
    let offer = Hello { role: Role::Leaving, successor: Some(NodeId(1)), ..leader() };
    bench.hear(0, &offer);
    assert_eq!(bench.role(), Role::Active);
    let late = Hello { round: bench.round - 1, deductions: 0, term: 9, last_active: 9, ..leader() };
    let announced = bench.announced;
    bench.hear_copy(&SYNC, 0, &late);
    assert_eq!((bench.role(), bench.announced, bench.machine.term()), (Role::Active, announced, 2));
    assert!(bench.alarms().is_empty(), "{:?}", bench.alarms());

    let mut bench = following();
    bench.hear(0, &leader());
    let copy = Hello { round: bench.round, ..leader() };
    for _ in 0..9 {
        bench.pass(ms(10));
        bench.hear_copy(&SYNC, 0, &copy);
    }
    bench.pass(ms(10));
    assert_eq!(bench.role(), Role::Active, "it was silent since the first copy");
    assert!(
        bench.machine.status(bench.now).nodes[0].heard.iter().any(|heard| heard.path == "sync" && heard.age_ms == 10)
    );
}

#[test]
fn a_node_that_starts_anew_is_heard_from_its_first_hello() {
    let mut bench = active();
    bench.hear_copy(&SYNC, 1, &Hello { start: 5, round: 1, deductions: 7, ..standby() });
    assert_eq!(bench.machine.status(bench.now).nodes[0].deductions, 7);
}

#[test]
fn rounds_count_up_and_name_the_start() {
    let mut bench = active();
    let mut said = Vec::new();
    for _ in 0..3 {
        bench.now = bench.machine.poll_timeout();
        said.extend(bench.machine.handle_timeout(bench.now).hello);
    }
    assert!(
        said.windows(2).all(|two| two[1].is_after(&two[0]) && !two[0].is_after(&two[1]) && !two[0].is_after(&two[0]))
    );
    assert_eq!(said[0].start, Instant::from_millis(1000).as_nanos());
}

/// Whatever is forged or repeated between two rounds costs no judgement: [`Machine::poll_timeout`] tells when the last
/// one was.
#[test]
fn only_news_are_judged() {
    let mut bench = active();
    bench.hear(1, &standby());
    let judged = bench.machine.settled;
    bench.now += ms(1);
    let copy = Hello { round: bench.round, ..standby() };
    bench.hear_copy(&SYNC, 1, &copy);
    let out = bench.machine.handle_station(LegId(0), bench.now);
    assert_eq!((out, bench.machine.settled), (Out::default(), judged));
    bench.hear(1, &standby());
    assert_eq!(bench.machine.settled, bench.now);
}

/// Its rounds are far apart, and none of them is the reason.
#[test]
fn a_node_listens_as_soon_as_its_fault_was_over_for_long_enough() {
    let interval = ms(20_000);
    let mut bench = Bench::with(HaConfig { interval, ..node(2, 1) });
    let leader = Hello { interval, ..leader() };
    for recovery in [1000, 2000, 4000] {
        bench.hear(0, &leader);
        bench.health(Health { faults: vec![Fault::Worker], ..Health::default() });
        assert_eq!(bench.role(), Role::Fault);
        bench.health(Health::default());
        bench.pass(ms(recovery - 1));
        assert_eq!(bench.role(), Role::Fault);
        bench.pass(ms(1));
        assert_eq!(bench.role(), Role::Standby, "after {recovery} ms");
    }
}

/// A standby whose worker hangs every two seconds.
#[test]
fn a_fault_that_comes_back_keeps_the_node_out_for_ever_longer() {
    let ill = || Health { faults: vec![Fault::Worker], ..Health::default() };
    let mut bench = following();
    let mut waits = Vec::new();
    for _ in 0..10 {
        bench.health(ill());
        bench.pass_hearing(ms(30), 0, &leader());
        assert_eq!(bench.role(), Role::Fault);
        bench.health(Health::default());
        let over = bench.now;
        while bench.role() == Role::Fault {
            bench.pass_hearing(ms(30), 0, &leader());
        }
        waits.push(bench.now.since(over).as_millis().div_ceil(500) / 2);
        bench.pass_hearing(ms(2000), 0, &leader());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 160, 160]);

    bench.health(ill());
    bench.health(Health::default());
    bench.pass_hearing(ms(30_000), 0, &leader());
    assert_eq!(bench.machine.status(bench.now).faults, ["the last fault is over, and must not come back for 130 s"]);
    let mut ordered = bench.machine.clone();
    bench.pass(ms(300));
    assert_eq!(bench.role(), Role::Active, "a node that flaps is better than none");
    ordered.handle_order(Order::Ready, bench.now).expect("never refused");
    assert_ne!(ordered.role(), Role::Fault, "and an operator may say that it is repaired");
}

#[test]
fn a_fault_long_after_the_last_one_is_a_first_one() {
    let mut bench = following();
    for _ in 0..2 {
        bench.health(Health { faults: vec![Fault::Worker], ..Health::default() });
        bench.health(Health::default());
        bench.pass_hearing(ms(1050), 0, &leader());
        assert_eq!(bench.role(), Role::Standby);
        bench.pass_hearing(ms(161_000), 0, &leader());
    }
}

/// A node of higher priority whose firewalls come and go.
#[test]
fn preemption_is_held_off_like_every_move_that_follows_another() {
    let mut bench = Bench::with(HaConfig { preempt: Some(ms(1000)), ..node(2, 1) });
    bench.pass_hearing(ms(300), 0, &leader());
    bench.hear(0, &Hello { role: Role::Leaving, successor: Some(NodeId(1)), ..leader() });
    assert_eq!(bench.last_reason(), &Reason::Handover(NodeId(0)));
    let better = Hello { role: Role::Standby, term: 2, ..leader() };
    bench.pass_hearing(ms(9900), 0, &better);
    assert_eq!(bench.role(), Role::Active);
    bench.pass_hearing(ms(200), 0, &better);
    assert_eq!((bench.role(), bench.last_reason()), (Role::Leaving, &Reason::Preempted(NodeId(0))));
}
