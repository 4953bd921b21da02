//! Two and three engines on each side, each side one virtual router.

use fwlb::ha::{Reason, Role};
use fwlb::sim::cluster::{self, Cluster, FIREWALLS, HOSTS, INTERVAL};
use fwlb::sim::host::Traffic;
use fwlb::sim::sandwich::SandwichPlan;
use fwlb::sim::side::Side;
use fwlb::time::Duration;

use super::{IN, OUT, long, ms, short};

/// Two nodes on each side that have agreed.
fn pairs(seed: u64) -> Cluster {
    let plan = SandwichPlan { hosts: [1, 1], ..SandwichPlan::default() };
    let mut pairs = Cluster::new(plan, 2, None, seed);
    pairs.run_for(Duration::from_secs(4));
    for side in Side::BOTH {
        assert_eq!([0, 1].map(|number| pairs.role(side, number)), [Some(Role::Active), Some(Role::Standby)]);
    }
    pairs
}

#[track_caller]
fn assert_clean(pairs: &Cluster) {
    assert!(pairs.violations().is_empty(), "{:#?}\n{:#?}", pairs.violations(), pairs.changes());
}

#[test]
fn pairs_agree_once_and_never_again() {
    let mut pairs = pairs(1);
    let before = pairs.changes().len();
    let flows = [OUT, IN].map(|route| pairs.open(long(Traffic::TcpEcho), route));
    pairs.calm();
    pairs.run_for(Duration::from_secs(10));
    assert_eq!((pairs.changes().len(), before), (4, 4), "{:#?}", pairs.changes());
    for flow in flows {
        assert!(pairs.flow(flow).longest_gap < ms(200), "{:?}", pairs.flow(flow));
    }
    assert_eq!(pairs.oracle(), 0);
    assert_clean(&pairs);
}

#[test]
fn an_active_node_that_dies_is_replaced_within_the_bound_and_connections_go_on() {
    for side in Side::BOTH {
        let mut pairs = pairs(2);
        let flows = [OUT, IN].map(|route| pairs.open(long(Traffic::UdpEcho), route));
        pairs.run_for(Duration::from_secs(2));
        let died = pairs.now();
        pairs.crash(side, 0);
        pairs.run_for(Duration::from_secs(2));

        let (at, _, number, change) = pairs.changes().iter().find(|(at, ..)| *at > died).expect("a takeover");
        assert_eq!((*number, change.to), (1, Role::Active));
        assert!(matches!(change.reason, Reason::Silence(..)), "{:?}", change.reason);
        // Active_Down_Interval, and what the last hello was older than an interval.
        assert!(at.since(died) <= INTERVAL * 4 + ms(5), "{:?}", at.since(died));
        for flow in flows {
            let flow = pairs.flow(flow);
            assert!(flow.longest_gap <= ms(400), "{flow:?}");
            assert!(flow.last_answer.is_some_and(|last| pairs.now().since(last) <= ms(250)), "{flow:?}");
        }
        assert_eq!(pairs.oracle(), 0, "pins that are homes need no copy");

        pairs.start(side, 0);
        pairs.run_for(Duration::from_secs(5));
        assert_eq!([0, 1].map(|number| pairs.role(side, number)), [Some(Role::Standby), Some(Role::Active)]);
        assert_clean(&pairs);
    }
}

#[test]
fn an_active_node_that_stands_still_stops_before_another_takes_over() {
    let mut pairs = pairs(3);
    let flow = pairs.open(long(Traffic::UdpEcho), OUT);
    pairs.run_for(Duration::from_secs(1));
    pairs.pause(Side::Outer, 0, Duration::from_secs(2));
    let mut nobody = 0;
    for _ in 0..400 {
        pairs.run_for(ms(1));
        assert!(pairs.routers(Side::Outer).len() <= 1);
        nobody += u32::from(pairs.routers(Side::Outer).is_empty());
    }
    assert!((1..=60).contains(&nobody), "{nobody} ms without a router");
    pairs.run_for(Duration::from_secs(4));
    assert_eq!([0, 1].map(|number| pairs.role(Side::Outer, number)), [Some(Role::Standby), Some(Role::Active)]);
    assert!(pairs.flow(flow).longest_gap <= ms(400), "{:?}", pairs.flow(flow));
    assert_clean(&pairs);
}

#[test]
fn two_nodes_that_could_not_hear_each_other_end_as_one() {
    let mut pairs = pairs(4);
    for link in [HOSTS, FIREWALLS] {
        pairs.cut(Side::Outer, 0, link, (true, true));
    }
    pairs.run_for(Duration::from_secs(3));
    for link in [HOSTS, FIREWALLS] {
        pairs.cut(Side::Outer, 0, link, (false, false));
    }
    pairs.run_for(Duration::from_secs(1));
    assert_eq!(pairs.routers(Side::Outer).len(), 1, "{:#?}", pairs.changes());
    let flow = pairs.open(short(Traffic::TcpEcho), OUT);
    pairs.run_for(Duration::from_secs(3));
    assert_eq!(pairs.flow(flow).answered, 10);
    assert_clean(&pairs);
}

#[test]
fn a_node_with_another_key_makes_no_second_router() {
    let keys = ["a key of 32 bytes, for the laboratory", "another key of 32 bytes for the lab"];
    let plan = SandwichPlan { hosts: [1, 1], ..SandwichPlan::default() };
    let mut pairs = Cluster::new(plan, 2, Some(keys), 5);
    pairs.run_for(Duration::from_secs(8));
    for side in Side::BOTH {
        assert_eq!(pairs.routers(side).len(), 1, "{:#?}", pairs.changes());
    }
    assert_clean(&pairs);
}

#[test]
fn three_nodes_lose_two_and_the_third_goes_on() {
    let plan = SandwichPlan { hosts: [1, 1], ..SandwichPlan::default() };
    let mut three = Cluster::new(plan, 3, None, 6);
    three.run_for(Duration::from_secs(4));
    for number in 0..2 {
        assert_eq!(three.routers(Side::Inner), [number], "{:#?}", three.changes());
        three.crash(Side::Inner, number);
        three.run_for(Duration::from_secs(1));
    }
    assert_eq!(three.routers(Side::Inner), [2]);
    let flow = three.open(short(Traffic::TcpEcho), OUT);
    three.run_for(Duration::from_secs(3));
    assert_eq!(three.flow(flow).answered, 10);
    assert_clean(&three);
}

#[test]
fn seeds_of_pairs_end_as_they_must() {
    let seeds = std::env::var("FWLB_CLUSTER_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4_u64);
    let failed = (0..seeds).filter_map(|seed| {
        let report = cluster::run(seed, 2 + usize::from(seed % 4 == 3));
        (!report.violations.is_empty()).then(|| format!("seed {seed}: {report:#?}"))
    });
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{} of {seeds} seeds\n{}", failed.len(), failed.join("\n"));
}
