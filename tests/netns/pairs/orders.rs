//! What operators do: reloads, and moves of the role by order.

use std::thread::sleep;
use std::time::Duration;

use fwlb::lab::Side;

use super::{Load, Observer, active, pairs, settled, twin};
use crate::ground::{said, sandwich};

/// What every second reload adds to the files.
const MORE: &str = "\n[timeouts]\nudp = \"6m\"\n";

#[test]
fn twenty_reloads_of_all_engines_change_no_role_and_lose_nothing() {
    sandwich(pairs, |rig| {
        settled(rig);
        let engines = rig.topology().engines();
        let transitions = |rig: &crate::ground::Rig| -> Vec<u64> {
            engines.iter().map(|engine| rig.lab.node(*engine).unwrap().transitions).collect()
        };
        let before = transitions(rig);
        let load = Load::start(rig, Duration::from_secs(8));
        let switches = Observer::start(rig);
        sleep(Duration::from_millis(500));

        for round in 0..20 {
            for engine in &engines {
                let path = rig.lab.configuration_file(*engine);
                let text = std::fs::read_to_string(&path).expect("the laboratory wrote it");
                let (as_it_was, changed) = (text.replace(MORE, ""), format!("{}{MORE}", text.replace(MORE, "")));
                std::fs::write(&path, if round % 2 == 0 { changed } else { as_it_was }).unwrap();
                let reload = rig.fwlb(*engine, &["reload"]);
                assert!(reload.status.success(), "{engine}: {}", said(&reload));
            }
        }

        load.end().assert_nothing_lost("80 reloads");
        assert_eq!(transitions(rig), before);
        Side::BOTH.iter().for_each(|side| switches.assert_nothing_moved(*side));
        rig.assert_firewalls_dropped_nothing();
    });
}

#[test]
fn the_role_moves_by_order_without_a_lost_packet() {
    for side in Side::BOTH {
        sandwich(pairs, |rig| {
            settled(rig);
            let first = active(rig, side);
            let load = Load::start(rig, Duration::from_secs(6));
            sleep(Duration::from_millis(1_500));
            let switches = Observer::start(rig);

            let order = rig.fwlb(first, &["ha", "failover", "--wait", "3s", "--reason", "an upgrade"]);

            assert!(order.status.success(), "{}", said(&order));
            assert_eq!(active(rig, side), twin(first));
            load.end().assert_nothing_lost("ha failover");
            switches.assert_ended_at(twin(first));
            settled(rig);
            let status = rig.fwlb(first, &["ha", "status"]);
            assert!(status.status.success(), "an active and a ready standby: {}", said(&status));
            rig.assert_firewalls_dropped_nothing();
        });
    }
}
