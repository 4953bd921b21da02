//! The sandwich in virtual time: production engines between model firewalls. First come scenarios that are written by
//! hand (`docs/pinning.md`, section 4, and `docs/design.md`, section 6), then random ones from seeds.

#[path = "simulation/cluster.rs"]
mod cluster;
#[path = "simulation/failures.rs"]
mod failures;
#[path = "simulation/packets.rs"]
mod packets;
#[path = "simulation/pinning.rs"]
mod pinning;
#[path = "simulation/seeds.rs"]
mod seeds;
#[path = "simulation/services.rs"]
mod services;

use fwlb::engine::DropReason;
use fwlb::path::pinning::PinChange;
use fwlb::sim::firewall::SimFirewallKind;
use fwlb::sim::host::{End, FlowRef, FlowSpec, FlowState, Traffic};
use fwlb::sim::sandwich::SandwichPlan;
use fwlb::sim::scenario::{Route, Scenario};
use fwlb::sim::side::Side;
use fwlb::time::{Duration, Instant};

/// From the first client to the first server over IPv4.
const OUT: Route = Route { from: Side::Outer, opener: 0, answerer: 0, v4: true };
/// The other way.
const IN: Route = Route { from: Side::Inner, opener: 0, answerer: 0, v4: true };

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A flow that lasts as long as the test.
fn long(traffic: Traffic) -> FlowSpec {
    FlowSpec { traffic, rounds: 100_000, gap: ms(100), size: 200, shuffled: false }
}

/// A flow of ten exchanges within about a second.
fn short(traffic: Traffic) -> FlowSpec {
    FlowSpec { rounds: 10, ..long(traffic) }
}

/// A simulation whose engines know their firewalls, after the traffic of the start is over.
fn ready(plan: SandwichPlan) -> Scenario {
    let mut lab = Scenario::new(plan, 42);
    lab.run_for(ms(1200));
    // Hosts, firewalls and engines resolve their neighbours.
    for from in Side::BOTH {
        for v4 in [true, false] {
            for number in 0..2 {
                lab.open(
                    FlowSpec { rounds: 3, ..long(Traffic::Ping) },
                    Route { from, opener: number, answerer: number, v4 },
                );
            }
        }
    }
    lab.run_for(ms(800));
    lab
}

fn kind(kind: SimFirewallKind) -> SandwichPlan {
    SandwichPlan { kind, ..SandwichPlan::default() }
}

fn all_sorts() -> [Traffic; 6] {
    use Traffic::{Gre, Ping, TcpEcho, TcpPush, UdpEcho, UdpOneWay};
    [TcpEcho, TcpPush, UdpEcho, UdpOneWay, Ping, Gre]
}

/// Asserts that there is no violation; the message has the checkers' texts and the last steps of the flows.
#[track_caller]
fn assert_unbroken(lab: &Scenario) {
    let told: Vec<String> = lab
        .checkers
        .violations()
        .iter()
        .map(|v| format!("{} ms, {}: {}\n    {}", v.at_ms, v.promise, v.what, v.trace.join("\n    ")))
        .collect();
    assert!(told.is_empty(), "{}\nfaults:\n{}", told.join("\n"), lab.faults().join("\n"));
}

/// Asserts that the flow made all its exchanges.
#[track_caller]
fn assert_done(lab: &Scenario, flow: FlowRef) {
    let seen = lab.flow(flow);
    let story = lab.checkers.history(flow).map(|story| story.lines().join("\n    ")).unwrap_or_default();
    assert_eq!(seen.state, FlowState::Over(End::Done), "{:?} {}\n    {story}", seen.spec.traffic, seen.tuple);
}

/// Advances the time, and asserts that the flow is answered meanwhile.
#[track_caller]
fn assert_works(lab: &mut Scenario, flow: FlowRef, within: Duration) {
    let before = lab.flow(flow).answered;
    lab.run_for(within);
    let seen = lab.flow(flow);
    let story = lab.checkers.history(flow).map(|story| story.lines().join("\n    ")).unwrap_or_default();
    assert!(seen.answered > before, "{:?} {} {:?}\n    {story}", seen.spec.traffic, seen.tuple, seen.state);
}

/// Runs until the engine of `side` shows the firewall in one of `states`, and returns how long that took.
#[track_caller]
fn wait_for(lab: &mut Scenario, side: Side, firewall: usize, state: &str, at_most: Duration) -> Duration {
    let begin = lab.world.now();
    while lab.world.now().since(begin) < at_most {
        if lab.engine(side).firewalls(lab.world.now())[firewall].state.name() == state {
            return lab.world.now().since(begin);
        }
        lab.run_for(ms(5));
    }
    let shown = lab.engine(side).firewalls(lab.world.now());
    panic!("{} shows {shown:#?} after {at_most:?}, not {state}", side.name());
}

fn pins(lab: &Scenario, side: Side, change: PinChange) -> u64 {
    lab.engine(side).counters().pin_changes(change)
}

fn drops(lab: &Scenario, side: Side, reason: DropReason) -> u64 {
    lab.engine(side).counters().drops_for(reason)
}

fn since_start(lab: &Scenario) -> Duration {
    lab.world.now().since(Instant::ZERO)
}
