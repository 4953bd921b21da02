//! Every protocol, in both address families, opened from both ends, through every kind of firewall: no firewall ever
//! sees only one direction of a flow. No packet prepares anything before the first flow.

use fwlb::lab::{FirewallKind, RoutingSetup, Station, Topology};

use crate::ground::{Rig, assert_all_answered, patient, sandwich};

/// TCP, UDP, ping and datagrams of three fragments, in both families, from the client and from a server, all at the
/// same time.
pub fn every_conversation(rig: &Rig) {
    let topology = rig.topology();
    let mut running = Vec::new();
    for (node, destinations) in
        [(Station::Client, topology.server(1).both()), (Station::Server(2), topology.client().both())]
    {
        for to in destinations {
            for words in [
                "tcp --flows 20 --interval-ms 200",
                "tcp --flows 4 --interval-ms 20 --life-ms 100",
                "udp --flows 20 --interval-ms 200",
                "udp --flows 10 --interval-ms 200 --size 4000",
                "icmp --flows 4 --interval-ms 200",
                "icmp --flows 4 --interval-ms 200 --size 4000",
            ] {
                let (protocol, rest) = words.split_once(' ').expect("two words at least");
                running.push(rig.start(node, &format!("{protocol} {to} {rest} --duration-ms 2000 --patience-ms 3000")));
            }
        }
    }
    for traffic in running {
        assert_all_answered(&traffic.flows());
    }
    rig.assert_firewalls_dropped_nothing();
}

#[test]
fn strict_firewalls_see_whole_conversations_of_every_protocol_from_both_ends() {
    sandwich(patient, |rig| every_conversation(rig));
}

#[test]
fn two_workers_keep_every_conversation_whole() {
    sandwich(|base| patient(base).with("engine", "workers", 2), |rig| every_conversation(rig));
}

#[test]
fn different_seeds_on_the_two_sides_lose_no_session() {
    let seeds = ["the outer engine's own seed", "the inner engine has another"].map(String::from);
    sandwich(
        |base| Topology { firewalls: 4, seeds, ..patient(base) },
        |rig| {
            every_conversation(rig);
            let learned = rig.counter(fwlb::lab::Side::Inner, "pin_learned");
            assert!(learned > 0, "the far side learns what it would not have chosen");
        },
    );
}

#[test]
fn translating_firewalls_get_their_replies_back() {
    sandwich(|base| Topology { kind: FirewallKind::Nat, ..patient(base) }, |rig| every_conversation(rig));
}

#[test]
fn transparent_firewalls_see_whole_conversations() {
    sandwich(|base| Topology { kind: FirewallKind::Transparent, ..patient(base) }, |rig| every_conversation(rig));
}

#[test]
fn loose_firewalls_see_whole_conversations() {
    sandwich(|base| Topology { kind: FirewallKind::Loose, ..patient(base) }, |rig| every_conversation(rig));
}

#[test]
fn two_engines_in_one_process_see_whole_conversations() {
    sandwich(|base| Topology { routers: RoutingSetup::OneBox, ..patient(base) }, |rig| every_conversation(rig));
}

#[test]
fn vlans_of_one_trunk_carry_tagged_frames_of_every_size() {
    sandwich(
        |base| Topology { kind: FirewallKind::Vlan, firewalls: 3, ..patient(base) },
        |rig| {
            every_conversation_without_firewalls(rig);
        },
    );
}

/// The same as [`every_conversation`], without firewalls that could be checked.
pub fn every_conversation_without_firewalls(rig: &Rig) {
    let to = rig.topology().server(1);
    for to in to.both() {
        for words in ["tcp --flows 12 --size 60000", "udp --flows 12 --size 4000", "icmp --flows 3"] {
            let (protocol, rest) = words.split_once(' ').expect("two words at least");
            let words = format!("{protocol} {to} {rest} --interval-ms 50 --duration-ms 1500 --patience-ms 3000");
            assert_all_answered(&rig.flows(Station::Client, &words));
        }
    }
    let views = rig.lab.firewalls(fwlb::lab::Side::Outer).expect("the engine answers");
    assert!(views.iter().all(|view| view.packets > 0), "every VLAN carried something: {views:#?}");
}
