//! Two engines on each side: whatever happens to the active one, the other one is the router soon, sessions go on, and
//! never do both forward.
//!
//! They are judged by the flows of ordinary hosts, by the firewalls' own counters, and by the switches: a virtual MAC
//! address is on one port at a time.

mod copies;
mod death;
mod legs;
mod observer;
mod orders;
mod router;

use std::time::Duration;

use fwlb::ha::Role;
use fwlb::lab::traffic::{FlowEnd, FlowReport, Protocol};
use fwlb::lab::{Engine, RoutingSetup, Side, Station, Topology};
use tokio::time::Instant;

use crate::ground::{Rig, Traffic, patient};
use observer::Observer;

/// The interval of advertisements in these tests. A standby takes over after three to four of them.
const ADVERTISE: Duration = Duration::from_millis(100);
/// Within this time after the death of the active engine the other one must have taken over, and traffic must go on.
const TAKEN_WITHIN: Duration = Duration::from_millis(330);

/// Two engines on each side of two strict firewalls.
fn pairs(base: Topology) -> Topology {
    let base = Topology { routers: RoutingSetup::Pairs, ..patient(base) };
    base.with("ha", "advertise", format!("{}ms", ADVERTISE.as_millis()))
}

/// The engine of a side that is active.
#[track_caller]
fn active(rig: &Rig, side: Side) -> Engine {
    match rig.lab.active(side).as_slice() {
        [one] => *one,
        other => panic!("active on the side {}: {other:?}", side.engine()),
    }
}

/// The other engine of its pair.
fn twin(engine: Engine) -> Engine {
    engine.twin().expect("one of a pair")
}

/// Waits until an engine is active, and returns how long after `since` it became that. The time is the engine's own,
/// because a test that is late would measure its own delay.
#[track_caller]
fn active_after(rig: &Rig, engine: Engine, since: Instant) -> Duration {
    let mut after = None;
    rig.within(Duration::from_secs(5), &format!("{engine} is active"), |rig| {
        let asked = since.elapsed();
        let node = rig.lab.node(engine).ok().filter(|node| node.role == Role::Active);
        after = node.map(|node| asked.saturating_sub(Duration::from_millis(node.since_ms)));
        after.is_some()
    });
    after.expect("waited for")
}

/// Waits until each side has one active engine and a standby that is ready.
#[track_caller]
fn settled(rig: &mut Rig) {
    rig.lab.wait_for_roles(Duration::from_secs(15)).unwrap();
}

/// A stream of one datagram each millisecond in each family, and 20 TCP and 20 UDP flows in each.
struct Load {
    streams: Vec<Traffic>,
    flows: Vec<Traffic>,
}

/// What its flows experienced.
struct Experience {
    streams: Vec<FlowReport>,
    flows: Vec<FlowReport>,
}

impl Load {
    fn start(rig: &Rig, duration: Duration) -> Self {
        let server = rig.topology().server(1);
        let duration = duration.as_millis();
        let start =
            |words: String| rig.start(Station::Client, &format!("{words} --duration-ms {duration} --patience-ms 8000"));
        let stream = |to| start(format!("udp {to} --flows 1 --interval-ms 1"));
        let flows = |protocol, to| start(format!("{protocol} {to} --flows 20 --interval-ms 50 --once"));
        Self {
            streams: server.both().map(stream).into(),
            flows: ["tcp", "udp"].iter().flat_map(|protocol| server.both().map(|to| flows(protocol, to))).collect(),
        }
    }

    fn end(self) -> Experience {
        let reports = |traffic: Vec<Traffic>| traffic.into_iter().flat_map(Traffic::flows).collect();
        Experience { streams: reports(self.streams), flows: reports(self.flows) }
    }
}

impl Experience {
    /// Asserts that every session went on, and that nothing was forwarded for `silence` at most. `what` names the test
    /// in the output, which tells the numbers.
    #[track_caller]
    fn assert_went_on(&self, what: &str, silence: Duration) {
        for stream in &self.streams {
            let (lost, sent, stall) = (stream.lost(), stream.sent, stream.longest_stall_ms);
            eprintln!("{what}: {} {lost} of {sent} datagrams lost, nothing came for {stall} ms", stream.remote);
            assert!(Duration::from_millis(stall) <= silence, "{what}: longer than {silence:?}: {stream:#?}");
        }
        let stall = self.flows.iter().map(|flow| flow.longest_stall_ms).max();
        eprintln!("{what}: {} flows, the longest stall was {stall:?} ms", self.flows.len());
        assert_eq!(self.flows.len(), 80);
        for flow in &self.flows {
            assert_eq!(flow.end, FlowEnd::Finished, "{what}: {flow:#?}");
            assert!(flow.protocol != Protocol::Tcp || flow.lost() == 0, "{what}: {flow:#?}");
            assert!(
                flow.answered > 0
                    && Duration::from_millis(flow.longest_stall_ms) <= silence * 2 + Duration::from_secs(1),
                "{what}: {flow:#?}"
            );
        }
    }

    /// Asserts that not one datagram of the streams was lost.
    #[track_caller]
    fn assert_nothing_lost(&self, what: &str) {
        for flow in self.streams.iter().chain(&self.flows) {
            assert_eq!((flow.lost(), &flow.end), (0, &FlowEnd::Finished), "{what}: {flow:#?}");
        }
    }
}
