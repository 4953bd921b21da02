use proptest::prelude::*;

use super::*;
use crate::ha::machine::testing::config;

fn group(down: u32, weight: u32, is_below_min: bool) -> GroupHealth {
    GroupHealth { name: "perimeter".to_owned(), down, weight, is_below_min }
}

fn points(health: &Health) -> u16 {
    total(&deductions(&config(2), health, |_| false))
}

#[test]
fn each_thing_that_is_lost_costs_its_points() {
    let gateway = GatewayHealth { link: "internet".to_owned(), answers: false };
    let all = Health::default();
    let cases = [
        (all.clone(), 0, "a healthy node"),
        (Health { carrier: vec![false, true], ..all.clone() }, 50, "a link without carrier"),
        (Health { carrier: vec![false, false], ..all.clone() }, 100, "both links"),
        (Health { groups: vec![group(1, 8, false)], ..all.clone() }, 4, "one of eight firewalls: 3.75 rounded up"),
        (Health { groups: vec![group(1, 2, false)], ..all.clone() }, 15, "one of two"),
        (Health { groups: vec![group(2, 2, true)], ..all.clone() }, 60, "all, and below min-up"),
        (Health { groups: vec![group(1, 2, false), group(1, 2, false)], ..all.clone() }, 30, "two groups add up"),
        (Health { groups: vec![group(0, 0, false)], ..all.clone() }, 0, "a group of spares"),
        (Health { gateways: vec![gateway], ..all.clone() }, 20, "no next hop of a link"),
        (Health { services: 3, services_down: 1, ..all.clone() }, 4, "a third of the services: 3.33 rounded up"),
        (Health { services: 3, services_down: 3, ..all }, 10, "all services"),
    ];
    for (health, expected, what) in cases {
        assert_eq!(points(&health), expected, "{what}");
    }
}

#[test]
fn a_dead_link_costs_as_much_as_one_without_carrier_and_no_link_counts_twice() {
    let health = Health { carrier: vec![false, true], ..Health::default() };
    assert_eq!(total(&deductions(&config(2), &Health::default(), |leg| leg == LegId(1))), 50);
    assert_eq!(total(&deductions(&config(2), &health, |leg| leg == LegId(0))), 50);
}

#[test]
fn a_link_that_is_not_tracked_is_reported_but_costs_nothing() {
    let mut config = config(2);
    config.legs[0].track = false;
    let health = Health { carrier: vec![false, false], ..Health::default() };

    let found = deductions(&config, &health, |_| false);

    let reported: Vec<_> = found.iter().map(|one| (one.subject.as_str(), one.points)).collect();
    assert_eq!(reported, [("internet", 0), ("firewalls", 50)]);
    assert!(all_links_down(&config, &health));
    assert!(!all_links_down(&config, &Health { carrier: vec![false, true], ..Health::default() }));
    config.legs[1].track = false;
    assert!(!all_links_down(&config, &health), "no tracked link is no reason for a fault");
}

#[test]
fn the_priority_falls_by_the_deductions_but_never_to_the_one_that_says_stop() {
    assert_eq!(
        [(200, 0), (200, 15), (200, 199), (200, 200), (1, 0), (254, u16::MAX)].map(|(b, d)| priority(b, d)),
        [200, 185, 1, 1, 1, 1]
    );
}

proptest! {
    /// What one more thing that fails costs is never negative, and no sum overflows.
    #[test]
    fn worse_health_never_costs_less(
        down in 0_u32..=u32::MAX, weight in 0_u32..=u32::MAX, services in 0_u32..100, services_down in 0_u32..200,
        carrier in proptest::collection::vec(any::<bool>(), 0..3),
    ) {
        let health = Health {
            carrier, groups: vec![group(down, weight, false); 3], services, services_down, ..Health::default()
        };
        let worse = Health {
            carrier: vec![false; 2], groups: vec![group(down.saturating_add(1), weight, true); 3],
            services_down: services_down + 1, ..health.clone()
        };
        prop_assert!(points(&health) <= points(&worse));
        prop_assert!(points(&health) <= 100 + 3 * FIREWALLS + SERVICES);
    }
}
