//! What the nodes of a cluster have in common: where a flow is at home, and what a pin of another node is worth here.

use proptest::prelude::*;

use super::*;
use crate::path::GroupMember;

proptest! {
    /// A node that was told nothing finds the firewall of a flow by the hash, as long as that takes new flows.
    #[test]
    fn the_home_of_a_flow_is_the_best_firewall_whenever_it_takes_new_flows(
        hash: u64,
        weights in prop::collection::vec((1..=256_u16, any::<bool>()), 1..8),
        selectable: u64,
        up: u64,
        preferred in prop::option::of(0..10_usize),
    ) {
        let mut world = World::new();
        world.hash = FlowHash(hash);
        world.preferred = preferred.map(FirewallId::from);
        world.group.members = weights.iter().enumerate().map(|(slot, (weight, spare))| GroupMember {
            id: FirewallId::from(slot),
            name: format!("fw{slot}"),
            weight: *weight,
            spare: *spare,
        }).collect();
        world.set.up = up | selectable;
        world.set.selectable = selectable;

        let home = home(&world.view()).expect("a group has members");

        if selectable & (1 << home.index()) != 0 {
            prop_assert_eq!(best(&world.view()), Some(home));
        }
        world.set.selectable = u64::MAX;
        prop_assert_eq!(best(&world.view()), Some(home));
    }
}

#[test]
fn a_pin_of_another_node_has_failed_only_if_its_firewall_fails_here_or_is_down() {
    let mut world = World::new();
    world.set.failure_counts = vec![3; 3];
    let copied = |world: &World| {
        Pin::copied(PathSetId(0), PIN, PinState::Confirmed, PinnedBy::Learned, &world.group, &world.set)
    };
    let fails = |pin: &Pin, world: &World| pin.has_failed(&world.group, &world.set);
    let pin = copied(&world);
    assert!(!fails(&pin, &world));

    world.falls(PIN);
    assert!(fails(&pin, &world), "it has failed since");
    assert!(fails(&copied(&world), &world), "it was down when the copy came");

    world.set.starting = 1 << PIN.0;
    assert!(!fails(&copied(&world), &world), "nothing is known of it yet");
}
