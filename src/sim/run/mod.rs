//! Runs one seed: a plan, traffic, faults, the end of faults, and what must be true then.

mod draw;

use std::collections::BTreeMap;

use crate::engine::DropReason;
use crate::path::pinning::PinChange;
use crate::sim::check::Violation;
use crate::sim::farm::{server_name, service_name};
use crate::sim::fault::{self, FaultKind, PlannedFault};
use crate::sim::firewall::SimFirewallKind;
use crate::sim::firewall::conntrack::Policy;
use crate::sim::host::{End, FlowRef, FlowSpec, FlowState, Traffic};
use crate::sim::rng::Rng;
use crate::sim::sandwich::SandwichPlan;
use crate::sim::scenario::{Route, Scenario};
use crate::sim::side::Side;
use crate::sim::world::Cable;
use crate::time::{Duration, Instant};

use draw::PlannedFlow;

/// What the operator fixes; the seed decides the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Number of firewalls.
    pub firewalls: Option<usize>,
    /// Kind of firewalls.
    pub kind: Option<SimFirewallKind>,
    /// Kinds of faults.
    pub fault_kinds: Vec<FaultKind>,
    /// Whether there are services; `None`: the seed decides.
    pub services: Option<bool>,
    /// How long faults may occur.
    pub duration: Duration,
    /// Whether to record faults and changes.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            firewalls: None,
            kind: None,
            fault_kinds: FaultKind::ALL.iter().map(|(sort, _)| *sort).collect(),
            services: None,
            duration: Duration::from_secs(5),
            trace: false,
        }
    }
}

/// The result of a run.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RunReport {
    /// The seed.
    pub seed: u64,
    /// The plan by which the sandwich was built.
    pub plan: SandwichPlan,
    /// Virtual time in milliseconds.
    pub virtual_ms: u64,
    /// Number of events.
    pub events: u64,
    /// Digest of everything that happened; equal runs have equal digests.
    pub digest: String,
    /// Number of flows opened.
    pub flows: usize,
    /// Number of flows that were answered.
    pub served: usize,
    /// Number of flows by how they ended.
    pub ended: BTreeMap<String, usize>,
    /// Number of new sessions of services, by engine, service and server.
    pub placed: BTreeMap<String, u64>,
    /// How often flows changed their firewall, over all flows and both engines.
    pub moves: u64,
    /// Changes of pins by reason, over both engines since their last start.
    pub pins: BTreeMap<String, u64>,
    /// Drops by reason, over both engines since their last start.
    pub drops: BTreeMap<String, u64>,
    /// Sum of the firewalls' oracle counters, including drops with a legal cause.
    pub oracle: u64,
    /// Oracle drops with a legal cause, by cause.
    pub excused: BTreeMap<String, u64>,
    /// Faults in order of time.
    pub faults: Vec<String>,
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// The recorded faults and changes.
    pub trace: Vec<String>,
}

impl RunReport {
    /// Whether no promise was broken.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Time after which the engines know their firewalls.
const READY_TIME: Duration = Duration::from_millis(1200);
/// Time to settle after the last fault: `hold`, the detection time and a rotation of probes.
const SETTLE_TIME: Duration = Duration::from_millis(3500);
/// Time within which new flows must be served.
const SERVED_WITHIN: Duration = Duration::from_millis(2500);

/// Runs the scenario of `seed`.
pub fn run(seed: u64, options: &Options) -> RunReport {
    let mut rng = Rng::new(seed);
    // Services are drawn from a generator of their own.
    let mut dice = Rng::new(!seed);
    let mut plan = draw::plan(&mut rng.fork(1), options);
    draw::farm(&mut dice.fork(1), &mut plan, options);
    let from = Instant::ZERO + READY_TIME;
    let until = from + options.duration;
    let faults_from = from + Duration::from_millis(500);
    let (overload, rest): (Vec<FaultKind>, Vec<FaultKind>) =
        options.fault_kinds.iter().partition(|sort| sort.overloads());
    let (of_servers, others): (Vec<FaultKind>, Vec<FaultKind>) = rest.iter().partition(|sort| sort.needs_servers());
    let others: Vec<FaultKind> =
        others.into_iter().filter(|sort| plan.firewalls > 0 || !sort.needs_firewalls()).collect();
    let mut faults = fault::draw(&mut rng.fork(2), &plan, &others, faults_from, until);
    let mut flows = draw::traffic(&mut rng.fork(3), &plan, from, until);
    if plan.farm.servers > 0 {
        fault::draw_more(&mut dice.fork(2), &plan, &of_servers, faults_from, until, &mut faults);
        flows.extend(draw::service_flows(&mut dice.fork(3), &plan, from, until));
        flows.sort_by_key(|flow| flow.at);
    }
    // So are faults that overload an engine.
    let mut load = Rng::new(seed ^ 0x6f76_6572_6c6f_6164);
    if load.chance(500) {
        fault::draw_more(&mut load, &plan, &overload, faults_from, until, &mut faults);
    }
    let mut lab = Scenario::new(plan, rng.next_u64());
    if load.chance(500) {
        lab.set_probe_bypass();
    }
    if options.trace {
        lab.keep_trace();
    }
    play(&mut lab, &faults, &flows, until);
    lab.set_cables(Cable::GOOD);
    lab.faults_ended();
    lab.run_for(SETTLE_TIME);
    let fresh = open_new_flows(&mut lab);
    lab.run_for(SERVED_WITHIN);
    lab.checkers.bookkeeping(&lab.world);
    lab.checkers.liveness(&lab.world, &fresh);
    lab.checkers.moves(lab.world.now());
    report(seed, &lab)
}

/// Opens flows and begins and ends faults, each at its time.
fn play(lab: &mut Scenario, faults: &[PlannedFault], flows: &[PlannedFlow], until: Instant) {
    enum Act {
        Open(usize),
        Begin(usize),
        End(usize),
    }
    let opens = flows.iter().enumerate().map(|(number, flow)| (flow.at, Act::Open(number)));
    let begins = faults.iter().enumerate().map(|(number, fault)| (fault.from, Act::Begin(number)));
    let ends = faults.iter().enumerate().map(|(number, fault)| (fault.until, Act::End(number)));
    let mut acts: Vec<_> = opens.chain(begins).chain(ends).collect();
    acts.sort_by_key(|(at, _)| *at);
    for (at, act) in acts {
        lab.run_until(at);
        match act {
            Act::Open(number) => {
                let PlannedFlow { spec, route, service, at: _ } = flows[number];
                match service {
                    Some(service) => lab.open_to_service(service, spec, route.from, route.opener, route.v4),
                    None => lab.open(spec, route),
                };
            }
            Act::Begin(number) => faults[number].fault.begin(lab),
            Act::End(number) => faults[number].fault.end(lab),
        }
    }
    lab.run_until(until);
}

/// Opens one flow of every kind of traffic from both sides in both address families.
fn open_new_flows(lab: &mut Scenario) -> Vec<FlowRef> {
    let mut fresh = Vec::new();
    let sides: &[Side] = if lab.plan.policy == Policy::Both { &Side::BOTH } else { &[Side::Outer] };
    for from in sides {
        for v4 in [true, false] {
            for traffic in [
                Traffic::TcpEcho,
                Traffic::TcpEcho,
                Traffic::TcpPush,
                Traffic::UdpEcho,
                Traffic::UdpOneWay,
                Traffic::Ping,
            ] {
                let spec = FlowSpec { traffic, rounds: 8, gap: Duration::from_millis(100), size: 700, shuffled: false };
                fresh.push(lab.open(spec, Route { from: *from, opener: 0, answerer: 1, v4 }));
            }
        }
    }
    for service in 0..lab.plan.farm.services.len() {
        for v4 in [true, false, true] {
            let traffic = lab.plan.farm.services[service].traffic;
            let spec = FlowSpec { traffic, rounds: 8, gap: Duration::from_millis(100), size: 700, shuffled: false };
            fresh.push(lab.open_to_service(service, spec, Side::Outer, 0, v4));
        }
    }
    fresh
}

fn report(seed: u64, lab: &Scenario) -> RunReport {
    let flows: Vec<_> = lab.flows().iter().map(|flow| lab.flow(*flow)).collect();
    let mut ended = BTreeMap::new();
    for flow in &flows {
        let name = match flow.state {
            FlowState::Opening => "never answered",
            FlowState::Open => "alive",
            FlowState::Over(End::Done) => "done",
            FlowState::Over(End::Lossy) => "done with losses",
            FlowState::Over(End::Reset) => "reset",
            FlowState::Over(End::TimedOut) => "timed out",
        };
        *ended.entry(name.to_owned()).or_default() += 1;
    }
    let (mut pins, mut drops) = (BTreeMap::new(), BTreeMap::new());
    for side in Side::BOTH {
        let counters = lab.engine(side).counters();
        for (change, name) in [
            (PinChange::Hashed, "hashed"),
            (PinChange::Learned, "learned"),
            (PinChange::Corrected, "corrected"),
            (PinChange::Followed, "followed"),
            (PinChange::Rotated, "rotated"),
            (PinChange::Reselected, "reselected"),
        ] {
            *pins.entry(name.to_owned()).or_default() += counters.pin_changes(change);
        }
        for reason in DropReason::ALL {
            let count = counters.drops_for(*reason);
            if count > 0 {
                *drops.entry(reason.name().to_owned()).or_default() += count;
            }
        }
    }
    RunReport {
        seed,
        plan: lab.plan.clone(),
        virtual_ms: lab.world.now().as_millis(),
        events: lab.world.events(),
        digest: format!("{:016x}", lab.world.digest()),
        flows: flows.len(),
        served: flows.iter().filter(|flow| flow.served()).count(),
        ended,
        placed: placed(lab),
        moves: lab.checkers.histories().iter().map(|story| u64::from(story.moves())).sum(),
        pins,
        drops,
        oracle: lab.oracle(),
        excused: lab.checkers.legal_drops.clone(),
        faults: lab.faults().to_vec(),
        violations: lab.checkers.violations().to_vec(),
        trace: lab.trace().to_vec(),
    }
}

fn placed(lab: &Scenario) -> BTreeMap<String, u64> {
    let of_all = Side::BOTH.into_iter().flat_map(|side| {
        let opened = &lab.checkers.services[side as usize].opened;
        opened.iter().map(move |((service, server), count)| {
            (format!("{} {}/{}", side.name(), service_name(*service), server_name(*server)), *count)
        })
    });
    of_all.collect()
}
