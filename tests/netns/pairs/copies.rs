//! Sessions that no other engine could compute: their servers, translations and source ports are copied, so that they go on.

use std::thread::sleep;
use std::time::Duration;

use fwlb::lab::traffic::{FlowEnd, FlowReport};
use fwlb::lab::{EngineFault, LabFarm, ServiceMode, Side, Station, Topology, WebProgram};
use tokio::time::Instant;

use super::{active, active_after, pairs, settled, twin};
use crate::ground::{Rig, Traffic, sandwich};

/// Two servers of one service, which is reached in this way.
fn served(mode: ServiceMode) -> impl Fn(Topology) -> Topology {
    move |base| {
        let farm = LabFarm { mode, weights: vec![1, 1], program: WebProgram::BuiltIn };
        pairs(Topology { servers: 2, farm: Some(farm), ..base })
    }
}

/// Ten sessions of the service in each family and protocol.
fn start(rig: &Rig, seconds: u64) -> Vec<Traffic> {
    let vip = rig.topology().vip();
    let plan = |protocol: &str, to| {
        let words = format!("{protocol} {to} --flows 10 --interval-ms 50 --once --patience-ms 8000");
        rig.start(Station::Client, &format!("{words} --duration-ms {}", seconds * 1000))
    };
    ["tcp", "udp"].iter().flat_map(|protocol| vip.both().map(|to| plan(protocol, to))).collect()
}

/// Kills the active engine of a side, starts it again, and waits until it holds all copies that there are.
fn kill_and_heal(rig: &mut Rig, side: Side) {
    let victim = active(rig, side);
    let since = Instant::now();
    rig.lab.fail_engine(victim, EngineFault::Killed).unwrap();
    active_after(rig, twin(victim), since);
    sleep(Duration::from_millis(500));
    rig.lab.heal_engine(victim).unwrap();
    rig.within(Duration::from_secs(15), "the engine that is back holds every copy", |rig| {
        let Ok(view) = rig.lab.node(twin(victim)) else { return false };
        // The outer engines find every firewall by the hash: they may have nothing to tell.
        let is_told = side == Side::Outer || view.sessions_needed > 0;
        is_told && view.nodes[0].ready && view.nodes[0].sessions_held >= view.sessions_needed
    });
}

#[track_caller]
fn assert_went_on(mode: ServiceMode, traffic: Vec<Traffic>) {
    let flows: Vec<FlowReport> = traffic.into_iter().flat_map(Traffic::flows).collect();
    let stall = flows.iter().map(|flow| flow.longest_stall_ms).max();
    eprintln!("{mode:?}: {} sessions, the longest stall was {stall:?} ms", flows.len());
    assert_eq!(flows.len(), 40);
    for flow in &flows {
        assert!(flow.end == FlowEnd::Finished && flow.answered > 0, "{mode:?}: {flow:#?}");
    }
}

/// One death after the other: the second active engine has its sessions by the copies of the first one, and the third by
/// a full pass of the second.
#[test]
fn sessions_of_services_outlive_every_engine_on_their_way() {
    for mode in [ServiceMode::Nat, ServiceMode::FullNat] {
        sandwich(served(mode), |rig| {
            settled(rig);
            let traffic = start(rig, 24);
            sleep(Duration::from_secs(2));
            for side in [Side::Inner, Side::Outer, Side::Inner] {
                kill_and_heal(rig, side);
            }
            assert_went_on(mode, traffic);
            rig.assert_firewalls_dropped_nothing();
        });
    }
}

/// The role moves by order, and what was told is complete: no session ends, and none waits for a repetition.
#[test]
fn sessions_of_services_notice_no_failover() {
    sandwich(served(ServiceMode::FullNat), |rig| {
        settled(rig);
        let traffic = start(rig, 6);
        sleep(Duration::from_secs(2));
        for side in Side::BOTH {
            let leaver = active(rig, side);
            let output = rig.fwlb(leaver, &["ha", "failover", "--wait", "3s", "--reason", "test"]);
            assert!(output.status.success(), "{}", crate::ground::said(&output));
        }
        assert_went_on(ServiceMode::FullNat, traffic);
        rig.assert_firewalls_dropped_nothing();
    });
}
