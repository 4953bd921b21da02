//! The tests of the sandwich with engines that use AF_XDP. In particular hosts finish checksums and segmentation
//! themselves, a device belongs to one engine, and the XDP program is detached when the engine ends.

use std::path::Path;
use std::time::Duration;

use fwlb::lab::{FirewallCable, FirewallKind, Lab, RoutingSetup, Side, Station, Stop, Topology};

use crate::confinement::assert_confined_to;
use crate::failure::{device_comes_back, fails_at, pins_survive};
use crate::ground::{FWLB, Rig, assert_all_answered, checksum_errors, ground, patient, said, sandwich};
use crate::traffic::{every_conversation, every_conversation_without_firewalls};
use crate::workers::assert_both_carried;

/// CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK and CAP_BPF (linux/capability.h).
const DEVICES: &str = "0000008000007000";

fn xdp(base: Topology) -> Topology {
    base.with("engine", "io", "af-xdp")
}

/// Whether an XDP program is attached to a device of an engine.
fn has_program(rig: &Rig, device: &str) -> bool {
    rig.exec(Station::Outer, &["ip", "-details", "link", "show", device]).contains("prog/xdp")
}

#[test]
fn strict_firewalls_see_whole_conversations_of_every_protocol_from_both_ends() {
    sandwich(
        |base| xdp(patient(base)),
        |rig| {
            every_conversation(rig);
            for side in Side::BOTH {
                let links = rig.json(side, &["show", "links", "--json"]);
                for link in links.as_array().expect("a list") {
                    assert_eq!((&link["io"], &link["io_mode"]), (&"af-xdp".into(), &"native-copy".into()), "{link}");
                    assert_eq!((&link["ring_dropped"], &link["tx_errors"]), (&0.into(), &0.into()), "{link}");
                }
            }
            assert!(has_program(rig, "clients") && has_program(rig, "fw-outer"));
            for node in [Station::Client, Station::Server(1)] {
                assert_eq!(checksum_errors(|words| rig.exec(node, words)), 0, "{node}");
            }
        },
    );
}

#[test]
fn a_worker_without_a_queue_leaves_the_device_to_the_other_and_that_is_said() {
    sandwich(
        |base| xdp(patient(base)).with("engine", "workers", 2),
        |rig| {
            every_conversation(rig);
            let log = rig.lab.log("outer");
            assert!(log.contains("1 of them receive nothing from it"), "{log}");
            assert!(log.contains("ethtool -L clients combined 2"), "{log}");
            let file = rig.lab.directory().join("outer.toml").display().to_string();
            let check = rig.output(Station::Outer, &[FWLB, "check", &file]);
            assert!(said(&check).contains("clients has 1 receive queue for 2 packet workers"), "{}", said(&check));
        },
    );
}

#[test]
fn two_workers_with_a_queue_each_keep_every_conversation_whole() {
    sandwich(
        |base| xdp(patient(base)).with("engine", "workers", 2),
        |rig| {
            rig.lab.stop_engine(Side::Outer, Stop::Orderly).unwrap();
            // A veth distributes frames to queues by the queue that its peer sends from.
            for (node, device) in [(Station::Outer, "clients"), (Station::Outer, "fw-outer")] {
                rig.exec(node, &["ethtool", "-L", device, "rx", "2", "tx", "2"]);
            }
            for port in ["outer-near", "outer-far"] {
                rig.exec(Station::Switch, &["ethtool", "-L", port, "rx", "2", "tx", "2"]);
            }
            rig.lab.start_engine(Side::Outer).unwrap();
            rig.lab.wait_for_firewalls(Duration::from_secs(20)).unwrap();

            every_conversation(rig);

            assert_both_carried(&rig.lab.socket(Side::Outer), 200);
        },
    );
}

#[test]
fn translating_firewalls_get_their_replies_back() {
    sandwich(|base| Topology { kind: FirewallKind::Nat, ..xdp(patient(base)) }, every_conversation_of);
}

#[test]
fn transparent_firewalls_see_whole_conversations() {
    sandwich(|base| Topology { kind: FirewallKind::Transparent, ..xdp(patient(base)) }, every_conversation_of);
}

#[test]
fn two_engines_in_one_process_see_whole_conversations() {
    sandwich(|base| Topology { routers: RoutingSetup::OneBox, ..xdp(patient(base)) }, every_conversation_of);
}

fn every_conversation_of(rig: &mut Rig) {
    every_conversation(rig);
}

#[test]
fn vlans_of_one_trunk_carry_tagged_frames_of_every_size() {
    sandwich(
        |base| Topology { kind: FirewallKind::Vlan, firewalls: 3, ..xdp(patient(base)) },
        |rig| every_conversation_without_firewalls(rig),
    );
}

#[test]
fn a_dead_firewall_is_out_on_both_sides_and_costs_only_its_own_sessions() {
    fails_at(FirewallCable::Both, xdp);
}

#[test]
fn an_engine_that_is_killed_and_restarted_under_traffic_keeps_the_pins() {
    pins_survive(Stop::Kill, &[Side::Outer], xdp);
}

#[test]
fn a_device_that_is_deleted_and_comes_back_forwards_again() {
    device_comes_back(xdp, "native-copy");
}

#[test]
fn a_killed_engine_leaves_no_program_and_no_filter_behind() {
    sandwich(
        |base| xdp(patient(base)),
        |rig| {
            let filters = |rig: &Rig| rig.exec(Station::Outer, &["nft", "list", "ruleset"]);
            assert!(has_program(rig, "clients") && filters(rig).contains("fwlb_"));

            rig.lab.stop_engine(Side::Outer, Stop::Kill).unwrap();

            assert!(!has_program(rig, "clients") && !has_program(rig, "fw-outer"));
            assert_eq!(filters(rig).trim(), "");
            rig.lab.start_engine(Side::Outer).unwrap();
            rig.lab.wait_for_firewalls(Duration::from_secs(20)).unwrap();
            assert_all_answered(&rig.flows(Station::Client, "tcp 203.0.113.11 --flows 5 --duration-ms 300"));
        },
    );
}

#[test]
fn an_engine_has_what_a_link_that_comes_back_takes_and_nothing_else() {
    sandwich(
        |base| xdp(patient(base)),
        |rig| {
            assert_confined_to(&rig.lab, DEVICES);
            // Frames of another size need new sockets, which a thread opens that has lost its privileges since the
            // start.
            for mtu in ["1400", "1500"] {
                rig.exec(Station::Outer, &["ip", "link", "set", "clients", "mtu", mtu]);
                rig.within(Duration::from_secs(10), "flows pass again", |rig| {
                    let ping = ["ping", "-c", "1", "-W", "0.2", "203.0.113.11"];
                    rig.output(Station::Client, &ping).status.success()
                });
                assert_all_answered(&rig.flows(Station::Client, "tcp 203.0.113.11 --flows 5 --duration-ms 300"));
            }
            let big = ["ping", "-c", "1", "-W", "1", "-M", "do", "-s", "1472", "203.0.113.11"];
            assert!(rig.output(Station::Client, &big).status.success(), "a frame of the whole MTU passes");
            assert_confined_to(&rig.lab, DEVICES);
        },
    );
}

#[test]
fn the_way_of_frames_cannot_change_while_the_engine_runs() {
    sandwich(
        |base| xdp(patient(base)),
        |rig| {
            let path = rig.lab.directory().join("outer.toml");
            let text = std::fs::read_to_string(&path).unwrap();
            let other = rig.lab.directory().join("other.toml");
            std::fs::write(&other, text.replace("\"af-xdp\"", "\"af-packet\"")).unwrap();

            let output = rig.fwlb(Side::Outer, &["reload", &other.display().to_string()]);

            assert!(!output.status.success());
            let said = said(&output);
            assert!(
                said.contains("`io` of [engine] cannot change while the engine runs: af-xdp -> af-packet"),
                "{said}"
            );
        },
    );
}

#[test]
fn a_device_that_joins_packets_is_refused_with_the_command_that_ends_it() {
    let Some(_alone) = ground() else { return };
    let name = format!("t{:x}xj", std::process::id());
    let topology = Topology { kind: FirewallKind::Vlan, ..xdp(patient(Topology::new(&name))) };
    let mut lab = Lab::build(topology, Path::new(FWLB)).unwrap();
    let set = |word: &str| {
        let output =
            lab.command(Station::Outer, "ethtool").args(["-K", "trunk-outer", "rxvlan", word]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    set("on");
    lab.start_engines().unwrap();
    (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        lab.log("outer").contains("engine outer: cannot open")
    });
    let log = lab.log("outer");
    let words = "engine outer: cannot open device trunk-outer: AF_XDP cannot carry what the device does to frames: \
                 ethtool -K trunk-outer rxvlan off";
    assert!(log.contains(words), "{log}");
    lab.down().unwrap();
}
