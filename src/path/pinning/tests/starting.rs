//! What an engine does while firewalls have no first verdict.

use super::*;

#[test]
fn while_everything_starts_learned_flows_pass_and_new_ones_wait() {
    let mut world = World::new();
    (world.set.up, world.set.selectable, world.set.starting) = (0, 0, 0b111);
    assert_eq!(decide_near(None, Syn, &world.view(), T), NearDecision::NoPath);
    let (learned, _) = world.far(None, F, Data, T);
    assert_eq!(world.near(Some(learned), Data, T).0.firewall, F);
}

#[test]
fn a_connection_that_goes_on_waits_for_the_first_verdict_of_the_firewall_that_may_know_it() {
    let mut world = World::new();
    (world.set.up, world.set.selectable, world.set.starting) = (0b110, 0b110, 0b001);
    let chosen = |world: &World, packet| match decide_near(None, packet, &world.view(), T) {
        NearDecision::Send { pin, change: _ } => Some(pin.firewall),
        NearDecision::NoPath | NearDecision::Failed(_) => None,
    };
    for packet in [PacketKind::SynAck, PacketKind::AckOrReset, PacketKind::Other] {
        assert_eq!(chosen(&world, packet), None, "{packet:?}");
    }
    assert_eq!(chosen(&world, PacketKind::Syn), Some(F), "a new one takes who is up");

    world.set.starting = 0;
    assert_eq!(chosen(&world, PacketKind::Other), Some(F), "it is down");
    (world.set.up, world.set.selectable, world.set.starting) = (0b011, 0b011, 0b100);
    assert_eq!(chosen(&world, PacketKind::Other), Some(PIN), "who is starting would not be the best");
    (world.set.up, world.set.selectable, world.set.starting, world.tcp) = (0b110, 0b110, 0b001, false);
    assert_eq!(chosen(&world, PacketKind::Other), Some(F), "a datagram may be the first");
}

#[test]
fn a_connection_that_goes_on_waits_for_the_firewall_that_its_route_prefers_and_for_no_other() {
    let mut world = World::new();
    (world.set.up, world.set.selectable, world.set.starting) = (0b110, 0b110, 0b001);
    let decide = |world: &World, slot: usize| {
        let view = PinningView { preferred: Some(world.group.members[slot].id), ..world.view() };
        decide_near(None, PacketKind::Other, &view, T)
    };

    assert_eq!(decide(&world, 0), NearDecision::NoPath);
    let NearDecision::Send { pin, change: _ } = decide(&world, 2) else { panic!("the preferred firewall is up") };
    assert_eq!(pin.firewall, world.group.members[2].id);
}
