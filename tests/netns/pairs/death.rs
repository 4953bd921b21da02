//! The active engine dies, hangs, stops, or loses everything at once.

use std::thread::sleep;
use std::time::Duration;

use fwlb::ha::Role;
use fwlb::lab::{EngineCable, EngineFault, Side, Stop};
use tokio::time::Instant;

use super::{Load, Observer, TAKEN_WITHIN, active, active_after, observer, pairs, settled, twin};
use crate::ground::{Rig, sandwich};

/// Lets something happen to the active engine of a side under traffic; `faults` is done to it, one after the other. Its
/// twin must be active within the promised time and stay that, and every session must go on.
fn takeover(side: Side, what: &str, faults: &[EngineFault]) {
    sandwich(pairs, |rig| {
        settled(rig);
        let victim = active(rig, side);
        let load = Load::start(rig, Duration::from_secs(8));
        sleep(Duration::from_millis(1_500));
        let ports = observer::ports_of_virtual_macs(rig, side);
        assert!(ports.len() == 2 && ports.iter().all(|port| port.starts_with(victim.name())), "{ports:?}");

        let switches = Observer::start(rig);
        let withheld = rig.withheld();
        let since = Instant::now();
        for fault in faults {
            rig.lab.fail_engine(victim, *fault).unwrap();
        }
        let after = active_after(rig, twin(victim), since);
        let withheld = withheld.so_far().min(TAKEN_WITHIN);
        eprintln!("{what}: {} took over {after:?} after it, of which {withheld:?} were withheld", twin(victim));
        assert!(after <= TAKEN_WITHIN + withheld, "{what}: after {after:?}, of which {withheld:?} were withheld");

        load.end().assert_went_on(what, TAKEN_WITHIN + withheld);
        switches.assert_moved_once_to(twin(victim));

        // Whoever comes back finds an active engine, and takes nothing from it.
        rig.lab.heal_engine(victim).unwrap();
        settled(rig);
        sleep(Duration::from_millis(500));
        assert_eq!(active(rig, side), twin(victim));
        let ports = observer::ports_of_virtual_macs(rig, side);
        assert!(ports.iter().all(|port| port.starts_with(twin(victim).name())), "{ports:?}");
        // One that was alone, and could not know of the other, is heard for a moment when its frames pass again.
        match faults {
            [EngineFault::Killed] => switches.assert_moved_once_to(twin(victim)),
            _ => switches.assert_ended_at(twin(victim)),
        }
        rig.assert_firewalls_dropped_nothing();
    });
}

/// The same for every cable of an engine.
fn all(side: Side, fault: fn(EngineCable) -> EngineFault) -> Vec<EngineFault> {
    let near = match side {
        Side::Outer => EngineCable::Clients,
        Side::Inner => EngineCable::Servers,
    };
    [near, EngineCable::Firewalls, EngineCable::Sync].map(fault).to_vec()
}

#[test]
fn an_outer_engine_that_is_killed_is_replaced_and_every_session_goes_on() {
    takeover(Side::Outer, "kill -9, outer", &[EngineFault::Killed]);
}

#[test]
fn an_inner_engine_that_is_killed_is_replaced_and_every_session_goes_on() {
    takeover(Side::Inner, "kill -9, inner", &[EngineFault::Killed]);
}

#[test]
fn an_engine_without_any_carrier_is_replaced() {
    takeover(Side::Outer, "ports down, outer", &all(Side::Outer, EngineFault::Unplugged));
}

#[test]
fn an_engine_that_nobody_hears_is_replaced_though_it_has_its_carrier() {
    takeover(Side::Inner, "no frames on any port, inner", &all(Side::Inner, EngineFault::Silent));
}

#[test]
fn an_engine_that_stands_still_and_goes_on_forwards_nothing_more() {
    for side in Side::BOTH {
        sandwich(pairs, |rig| {
            settled(rig);
            let victim = active(rig, side);
            let load = Load::start(rig, Duration::from_secs(9));
            sleep(Duration::from_millis(1_000));
            let switches = Observer::start(rig);
            let withheld = rig.withheld();
            let since = Instant::now();

            rig.lab.fail_engine(victim, EngineFault::Hung).unwrap();
            let after = active_after(rig, twin(victim), since);
            let withheld = withheld.so_far().min(TAKEN_WITHIN);
            assert!(after <= TAKEN_WITHIN + withheld, "after {after:?}, of which {withheld:?} were withheld");
            sleep(Duration::from_secs(5).saturating_sub(since.elapsed()));
            rig.lab.heal_engine(victim).unwrap();

            load.end().assert_went_on("stopped for 5 s", TAKEN_WITHIN + withheld);
            // The frames that waited in its rings are dropped: the switches saw its virtual MAC address no more.
            switches.assert_moved_once_to(twin(victim));
            settled(rig);
            assert_eq!(active(rig, side), twin(victim));
            let node = rig.lab.node(victim).unwrap();
            assert_eq!(node.role, Role::Standby, "{node:#?}");
            rig.assert_firewalls_dropped_nothing();
        });
    }
}

#[test]
fn an_engine_that_is_stopped_in_order_costs_not_one_packet() {
    for side in Side::BOTH {
        sandwich(pairs, |rig: &mut Rig| {
            settled(rig);
            let leaver = active(rig, side);
            let load = Load::start(rig, Duration::from_secs(5));
            sleep(Duration::from_millis(1_500));
            let switches = Observer::start(rig);

            rig.lab.stop_engine(leaver, Stop::Orderly).unwrap();

            load.end().assert_nothing_lost("SIGTERM");
            assert_eq!(active(rig, side), twin(leaver));
            switches.assert_ended_at(twin(leaver));
            rig.assert_firewalls_dropped_nothing();
        });
    }
}
