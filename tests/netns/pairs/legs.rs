//! The active engine loses one way only.

use std::thread::sleep;
use std::time::Duration;

use fwlb::lab::farm::WebProgram;
use fwlb::lab::{EngineCable, EngineFault, LabFarm, Side, Topology};
use tokio::time::Instant;

use super::{Load, Observer, active, active_after, pairs, settled, twin};
use crate::ground::sandwich;

/// Within this time the role must have moved when a link has no carrier: the other engine must be better for the damping
/// time of 250 ms, and gets the role by agreement.
const PULLED: Duration = Duration::from_millis(600);
/// The same when the carrier stays: the link is seen dead after 10 intervals of 100 ms.
const SILENT: Duration = Duration::from_millis(1_600);

/// Two engines on each side, and services, so that the inner ones have somebody to ask on the servers' link.
fn serving(base: Topology) -> Topology {
    let farm = LabFarm { program: WebProgram::BuiltIn, ..LabFarm::default() };
    Topology { farm: Some(farm), ..pairs(base) }
}

/// The active engine loses one cable in some way; the other one gets the role, and every session goes on.
fn loses(side: Side, what: &str, fault: EngineFault, within: Duration) {
    sandwich(serving, |rig| {
        settled(rig);
        let worse = active(rig, side);
        let load = Load::start(rig, Duration::from_secs(8));
        sleep(Duration::from_millis(1_500));
        let switches = Observer::start(rig);
        let withheld = rig.withheld();
        let since = Instant::now();

        rig.lab.fail_engine(worse, fault).unwrap();
        let after = active_after(rig, twin(worse), since);
        let withheld = withheld.so_far().min(within);
        eprintln!("{what}: {} is active after {after:?}, of which {withheld:?} were withheld", twin(worse));
        assert!(after <= within + withheld, "{what}: after {after:?}, of which {withheld:?} were withheld");

        load.end().assert_went_on(what, within + withheld);
        rig.lab.heal_engine(worse).unwrap();
        settled(rig);
        assert_eq!(active(rig, side), twin(worse));
        switches.assert_ended_at(twin(worse));
        rig.assert_firewalls_dropped_nothing();
    });
}

#[test]
fn a_leg_without_frames_moves_the_role_though_its_carrier_stays() {
    loses(Side::Outer, "no frames to the firewalls, outer", EngineFault::Silent(EngineCable::Firewalls), SILENT);
    loses(Side::Inner, "no frames to the servers, inner", EngineFault::Silent(EngineCable::Servers), SILENT);
}

#[test]
fn a_cable_that_is_pulled_moves_the_role() {
    loses(Side::Outer, "cable to the clients, outer", EngineFault::Unplugged(EngineCable::Clients), PULLED);
    loses(Side::Inner, "cable to the firewalls, inner", EngineFault::Unplugged(EngineCable::Firewalls), PULLED);
}

#[test]
fn without_the_cable_between_them_engines_hear_each_other_on_their_links() {
    sandwich(pairs, |rig| {
        settled(rig);
        let before = Side::BOTH.map(|side| active(rig, side));
        let load = Load::start(rig, Duration::from_secs(5));
        let switches = Observer::start(rig);

        for engine in before {
            rig.lab.fail_engine(engine, EngineFault::Unplugged(EngineCable::Sync)).unwrap();
        }

        load.end().assert_nothing_lost("sync cable pulled");
        assert_eq!(Side::BOTH.map(|side| active(rig, side)), before);
        Side::BOTH.iter().for_each(|side| switches.assert_nothing_moved(*side));
        for engine in before {
            rig.lab.heal_engine(engine).unwrap();
        }
        settled(rig);
        assert_eq!(Side::BOTH.map(|side| active(rig, side)), before);
    });
}
