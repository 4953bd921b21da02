//! Sessions that no other engine could compute: their servers, translations and source ports are copied, so that they go on.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use fwlb::lab::traffic::{FlowEnd, FlowReport, Protocol};
use fwlb::lab::{Engine, EngineFault, LabFarm, ServiceMode, Side, Station, Topology, WebProgram};
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

/// What every session of the service has to keep: its server, and the addresses and ports that stand for its ends.
fn kept(rig: &Rig, engine: Engine) -> BTreeMap<[String; 3], [Option<String>; 3]> {
    let sessions = rig.lab.sessions(engine).unwrap().into_iter().filter(|session| session.service.is_some());
    sessions
        .map(|session| {
            let flow = [session.protocol, session.source, session.destination];
            (flow, [session.server, session.translated_source, session.translated_destination])
        })
        .collect()
}

/// Returns what the sessions experienced, all of which went on.
#[track_caller]
fn assert_went_on(mode: ServiceMode, traffic: Vec<Traffic>) -> Vec<FlowReport> {
    let flows: Vec<FlowReport> = traffic.into_iter().flat_map(Traffic::flows).collect();
    let stall = flows.iter().map(|flow| flow.longest_stall_ms).max();
    eprintln!("{mode:?}: {} sessions, the longest stall was {stall:?} ms", flows.len());
    assert_eq!(flows.len(), 40);
    for flow in &flows {
        assert!(flow.end == FlowEnd::Finished && flow.answered > 0, "{mode:?}: {flow:#?}");
    }
    flows
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

/// A TCP that lost a segment repeats it after this time at the earliest, as Linux does it.
const REPETITION_MS: u64 = 200;

/// The role moves by order, and what was told is complete: no session ends or changes its server or its translation, no
/// datagram is lost, and no connection waits for a repetition.
#[test]
fn sessions_of_services_notice_no_failover() {
    sandwich(served(ServiceMode::FullNat), |rig| {
        settled(rig);
        let traffic = start(rig, 6);
        sleep(Duration::from_secs(2));
        let before = kept(rig, active(rig, Side::Inner));
        assert_eq!(before.len(), 40);
        for side in Side::BOTH {
            let leaver = active(rig, side);
            let output = rig.fwlb(leaver, &["ha", "failover", "--wait", "3s", "--reason", "test"]);
            assert!(output.status.success(), "{}", crate::ground::said(&output));
            assert_eq!(active(rig, side), twin(leaver));
        }
        let (connections, datagrams): (Vec<_>, Vec<_>) =
            assert_went_on(ServiceMode::FullNat, traffic).into_iter().partition(|flow| flow.protocol == Protocol::Tcp);
        let stall = |flows: &[FlowReport]| flows.iter().map(|flow| flow.longest_stall_ms).max().unwrap_or(0);
        let (stall, late) = (stall(&connections), stall(&datagrams));
        eprintln!("a connection waited for {stall} ms at most, a datagram for {late} ms");
        for flow in connections.iter().chain(&datagrams) {
            assert_eq!(flow.lost(), 0, "{flow:#?}");
        }
        // Datagrams, of which none was lost, show how late this machine is.
        assert!(stall < late + REPETITION_MS, "a connection waited for {stall} ms, a datagram for {late} ms");
        assert_eq!(kept(rig, active(rig, Side::Inner)), before);
        rig.assert_firewalls_dropped_nothing();
    });
}
