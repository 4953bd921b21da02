//! One run from one seed: a plan, traffic, faults, the end of faults, and what must be true then.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::OnFailure;
use crate::engine::DropReason;
use crate::path::pinning::PinChange;
use crate::sim::check::Violation;
use crate::sim::fault::{self, Planned, Sort};
use crate::sim::firewall::Kind;
use crate::sim::firewall::conntrack::Policy;
use crate::sim::host::{End, FlowRef, FlowSpec, FlowState, Traffic};
use crate::sim::laboratory::{Laboratory, Route};
use crate::sim::rng::Rng;
use crate::sim::sandwich::{Plan, Side};
use crate::sim::world::Wire;
use crate::time::{Duration, Instant};

/// What the operator fixes; the seed decides the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Firewalls.
    pub firewalls: Option<usize>,
    /// Their sort.
    pub kind: Option<Kind>,
    /// Sorts of faults.
    pub sorts: Vec<Sort>,
    /// How long faults happen.
    pub duration: Duration,
    /// Keep the story.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            firewalls: None,
            kind: None,
            sorts: Sort::ALL.iter().map(|(sort, _)| *sort).collect(),
            duration: Duration::from_secs(5),
            trace: false,
        }
    }
}

/// What a run showed.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What was built.
    pub plan: Plan,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
    /// Events.
    pub events: u64,
    /// Equal for equal runs.
    pub digest: String,
    /// Flows opened.
    pub flows: usize,
    /// Flows to which anything came back.
    pub served: usize,
    /// How flows ended.
    pub ended: BTreeMap<String, usize>,
    /// Changes of firewall, over all flows and both engines.
    pub moves: u64,
    /// Changes of pins by reason, both engines since their last start.
    pub pins: BTreeMap<String, u64>,
    /// Drops by reason, both engines since their last start.
    pub drops: BTreeMap<String, u64>,
    /// What the firewalls' oracle counters show, both legal and not.
    pub oracle: u64,
    /// Oracle drops that had a legal cause, by cause.
    pub excused: BTreeMap<String, u64>,
    /// Faults in order.
    pub faults: Vec<String>,
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// The story, if it was kept.
    pub trace: Vec<String>,
}

impl Report {
    /// True if nothing was broken.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty()
    }
}

/// The engines know their firewalls.
const READY: Duration = Duration::from_millis(1200);
/// After the last fault: `hold`, T and a rotation.
const SETTLE: Duration = Duration::from_millis(3500);
/// New flows are served within this.
const SERVED_WITHIN: Duration = Duration::from_millis(2500);

/// Runs the scenario of `seed`.
pub fn run(seed: u64, options: &Options) -> Report {
    let mut rng = Rng::new(seed);
    let plan = draw_plan(&mut rng.fork(1), options);
    let from = Instant::ZERO + READY;
    let until = from + options.duration;
    let faults = fault::draw(&mut rng.fork(2), &plan, &options.sorts, from + Duration::from_millis(500), until);
    let flows = draw_traffic(&mut rng.fork(3), &plan, from, until);
    let mut lab = Laboratory::new(plan, rng.next_u64());
    if options.trace {
        lab.keep_trace();
    }
    play(&mut lab, &faults, &flows, until);
    lab.set_wires(Wire::GOOD);
    lab.calm();
    lab.run_for(SETTLE);
    let fresh = open_fresh(&mut lab);
    lab.run_for(SERVED_WITHIN);
    lab.checks.bookkeeping(&lab.world);
    lab.checks.liveness(&lab.world, &fresh);
    lab.checks.moves(lab.world.now());
    report(seed, &lab)
}

/// What the seed builds.
fn draw_plan(rng: &mut Rng, options: &Options) -> Plan {
    let drawn = *rng.choose(&[3_usize, 2, 2, 4]);
    let firewalls = options.firewalls.unwrap_or(drawn);
    let kinds = [
        Kind::Strict,
        Kind::Strict,
        Kind::Strict,
        Kind::Strict,
        Kind::Loose,
        Kind::Synced,
        Kind::Synced,
        Kind::Nat,
        Kind::Transparent,
    ];
    let drawn = *rng.choose(&kinds);
    let kind = options.kind.unwrap_or(drawn);
    let other_seeds = rng.chance(150);
    let other_sets = rng.chance(100) && firewalls > 2;
    let unknown = rng.index(firewalls);
    let unknown_to = rng.index(2);
    let tiny = rng.chance(150) && !other_seeds && !other_sets && kind != Kind::Nat;
    let default = Plan::default();
    Plan {
        firewalls,
        kind,
        policy: *rng.choose(&[Policy::Both, Policy::Both, Policy::Outside]),
        workers: [rng.between(1, 2) as u16, rng.between(1, 2) as u16],
        seeds: if other_seeds { [default.seeds[0], "another secret of the laboratory"] } else { default.seeds },
        unknown: std::array::from_fn(|side| (other_sets && side == unknown_to).then_some(unknown)),
        one_arm: rng.chance(250),
        on_failure: *rng.choose(&[
            OnFailure::Reselect,
            OnFailure::Reselect,
            OnFailure::Reset,
            OnFailure::Reset,
            OnFailure::Keep,
            OnFailure::Drop,
        ]),
        drain_timeout: ["5m", "1s", "3s"][rng.index(3)],
        sessions: if tiny { 24 } else { 4096 },
        punts: if rng.chance(150) { 8 } else { 1024 },
        partial_checksums: rng.chance(300),
        hold: ["2s", "500ms"][rng.index(2)],
        ..default
    }
}

/// A flow to be opened at its time.
#[derive(Debug, Clone, Copy)]
struct Upcoming {
    at: Instant,
    spec: FlowSpec,
    route: Route,
}

fn draw_traffic(rng: &mut Rng, plan: &Plan, from: Instant, until: Instant) -> Vec<Upcoming> {
    let mut portless = BTreeSet::new();
    let mut flows: Vec<Upcoming> = (0..rng.between(25, 60))
        .filter_map(|_| {
            let traffic = *rng.choose(&[
                Traffic::TcpEcho,
                Traffic::TcpEcho,
                Traffic::TcpEcho,
                Traffic::TcpPush,
                Traffic::TcpPush,
                Traffic::UdpEcho,
                Traffic::UdpEcho,
                Traffic::UdpOneWay,
                Traffic::Ping,
                Traffic::Gre,
            ]);
            let inside = plan.policy == Policy::Both && rng.chance(350);
            let from_side = if inside { Side::Inner } else { Side::Outer };
            let (opener, answerer) = (rng.index(plan.hosts[0]), rng.index(plan.hosts[1]));
            let route = Route { from: from_side, opener, answerer, v4: rng.chance(500) };
            let tcp = matches!(traffic, Traffic::TcpEcho | Traffic::TcpPush);
            let size = if tcp { rng.between(1, 3000) } else { *rng.choose(&[64, 512, 1400, 4000]) } as usize;
            let (rounds, gap) = (rng.between(1, 40) as u32, Duration::from_millis(rng.between(20, 400)));
            let spec = FlowSpec { traffic, rounds, gap, size, shuffled: rng.chance(500) };
            let at = from + rng.duration(until.since(from));
            // Without ports there is one flow between two addresses, and a translation has nothing to tell flows apart by.
            let ends = if inside { (answerer, opener) } else { (opener, answerer) };
            let gre = traffic == Traffic::Gre;
            let refused = gre && (plan.kind == Kind::Nat || !portless.insert((ends, route.v4)));
            (!refused).then_some(Upcoming { at, spec, route })
        })
        .collect();
    flows.sort_by_key(|flow| flow.at);
    flows
}

/// Lets flows and faults happen, each at its time.
fn play(lab: &mut Laboratory, faults: &[Planned], flows: &[Upcoming], until: Instant) {
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
                lab.open(flows[number].spec, flows[number].route);
            }
            Act::Begin(number) => faults[number].fault.begin(lab),
            Act::End(number) => faults[number].fault.end(lab),
        }
    }
    lab.run_until(until);
}

/// Opens one flow of every sort from both ends in both families.
fn open_fresh(lab: &mut Laboratory) -> Vec<FlowRef> {
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
    fresh
}

fn report(seed: u64, lab: &Laboratory) -> Report {
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
    Report {
        seed,
        plan: lab.plan.clone(),
        virtual_ms: lab.world.now().as_millis(),
        events: lab.world.events(),
        digest: format!("{:016x}", lab.world.digest()),
        flows: flows.len(),
        served: flows.iter().filter(|flow| flow.served()).count(),
        ended,
        moves: lab.checks.stories().iter().map(|story| u64::from(story.moves())).sum(),
        pins,
        drops,
        oracle: lab.oracle(),
        excused: lab.checks.excused.clone(),
        faults: lab.faults().to_vec(),
        violations: lab.checks.violations().to_vec(),
        trace: lab.trace().to_vec(),
    }
}
