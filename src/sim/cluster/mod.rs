//! Several engines on each side of the firewalls, each side one virtual router: production role machines, controllers
//! and forwarders on shared switches, with faults, and checkers apart from the nodes.
//!
//! ```text
//!            ┌── outer-a ──┐              ┌── inner-a ──┐
//!  hosts ────┤             ├── fw1..fwN ──┤             ├──── hosts
//!            └── outer-b ──┘              └── inner-b ──┘
//! ```

mod check;
mod random;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::rc::Rc;

use crate::engine::Permission;
use crate::ha::{Role, RoleChange};
use crate::sim::host::{Flow, FlowRef, FlowSpec};
use crate::sim::rng::Rng;
use crate::sim::sandwich::{self, POOLS, SandwichPlan};
use crate::sim::scenario::{self, Route};
use crate::sim::side::Side;
use crate::sim::sim_engine::SimEngine;
use crate::sim::world::{Node, NodeId, Observation, World};
use crate::time::{Duration, Instant};

pub use check::ClusterChecks;
pub use random::{ClusterReport, run};

/// The links of a node.
pub const HOSTS: usize = 0;
/// The link of a node on which the firewalls are.
pub const FIREWALLS: usize = 1;
/// The time between two advertisements of the model clusters.
pub const INTERVAL: Duration = Duration::from_millis(30);
const KEY: &str = "a key of 32 bytes, for the laboratory";

/// The model: two sides with nodes, their firewalls and hosts.
#[derive(Debug)]
pub struct Cluster {
    world: World,
    plan: SandwichPlan,
    /// The nodes of each side.
    nodes: [Vec<NodeId>; 2],
    firewalls: Vec<NodeId>,
    dead_firewalls: BTreeSet<usize>,
    hosts: [Vec<NodeId>; 2],
    checks: ClusterChecks,
    changes: Vec<(Instant, Side, usize, RoleChange)>,
    next_port: u16,
}

impl Cluster {
    /// Builds both sides with so many nodes each, and starts them. The keys of two nodes of one side may differ.
    pub fn new(plan: SandwichPlan, count: usize, keys: Option<[&str; 2]>, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut world = World::new(rng.fork(1));
        let nodes = Side::BOTH.map(|side| {
            let add = |number: usize| {
                let key = keys.map_or(KEY, |keys| keys[number.min(1)]);
                let text = configuration(&plan, side, number, count, key);
                let engine = SimEngine::new(&text, rng.fork(10 + 8 * side as u64 + number as u64));
                world.add(Node::Engine(Box::new(engine)))
            };
            (0..count).map(add).collect::<Vec<_>>()
        });
        let own: Vec<IpAddr> = Side::BOTH
            .iter()
            .flat_map(|side| (0..count).flat_map(move |number| [(*side, number, true), (*side, number, false)]))
            .map(|(side, number, v4)| own_address(&plan, side, FIREWALLS, number, v4))
            .collect();
        let firewalls = (0..plan.firewalls)
            .map(|number| world.add(Node::Firewall(Box::new(sandwich::firewall(&plan, number, &own, Rc::default())))));
        let firewalls: Vec<_> = firewalls.collect();
        let hosts = Side::BOTH.map(|side| {
            let count = plan.hosts[side as usize];
            (0..count).map(|number| sandwich::add_host(&mut world, &plan, side, number, &mut rng)).collect::<Vec<_>>()
        });
        for side in Side::BOTH {
            let (near, far) = (world.add_segment(), world.add_segment());
            for node in &nodes[side as usize] {
                world.plug(*node, HOSTS, near);
                world.plug(*node, FIREWALLS, far);
            }
            for host in &hosts[side as usize] {
                world.plug(*host, 0, near);
            }
            for firewall in &firewalls {
                world.plug(*firewall, side.leg().index(), far);
            }
        }
        let checks = ClusterChecks::new(nodes.clone());
        let mut cluster = Self {
            world,
            plan,
            nodes,
            firewalls,
            dead_firewalls: BTreeSet::new(),
            hosts,
            checks,
            changes: Vec::new(),
            next_port: 20_000,
        };
        for side in Side::BOTH {
            (0..count).for_each(|number| cluster.start(side, number));
        }
        cluster
    }

    /// Runs for `duration` of virtual time.
    pub fn run_for(&mut self, duration: Duration) {
        let until = self.world.now() + duration;
        while self.world.step(until) {
            self.observe();
        }
        self.observe();
    }

    /// The present virtual time.
    pub fn now(&self) -> Instant {
        self.world.now()
    }

    /// The role of a node; `None` while it is dead.
    pub fn role(&self, side: Side, number: usize) -> Option<Role> {
        self.world.engine(self.nodes[side as usize][number]).role()
    }

    /// The nodes of a side that may forward now.
    pub fn routers(&self, side: Side) -> Vec<usize> {
        let now = self.world.now();
        let may = |number: &usize| {
            let engine = self.world.engine(self.nodes[side as usize][*number]);
            engine.permission(now) == Some(Permission::Router)
        };
        (0..self.nodes[side as usize].len()).filter(may).collect()
    }

    /// All changes of roles: when, of which node, what.
    pub fn changes(&self) -> &[(Instant, Side, usize, RoleChange)] {
        &self.changes
    }

    /// What the checkers found.
    pub fn violations(&self) -> &[String] {
        self.checks.violations()
    }

    /// How often firewalls dropped what does not fit their connections.
    pub fn oracle(&self) -> u64 {
        self.firewalls.iter().map(|firewall| self.world.firewall(*firewall).oracle()).sum()
    }

    /// Starts a node.
    pub fn start(&mut self, side: Side, number: usize) {
        self.disturb();
        self.world.with_engine(self.nodes[side as usize][number], SimEngine::start);
    }

    /// Kills a node.
    pub fn crash(&mut self, side: Side, number: usize) {
        self.disturb();
        self.world.with_engine(self.nodes[side as usize][number], |engine, _| engine.crash());
    }

    /// Stops a node for a while, as a stopped process.
    pub fn pause(&mut self, side: Side, number: usize, duration: Duration) {
        self.disturb();
        self.world.with_engine(self.nodes[side as usize][number], |engine, now| engine.pause(now + duration));
        self.checks.paused(self.world.now() + duration);
    }

    /// Cuts or restores the directions of the cable of a node's link: what it sends, and what it receives.
    pub fn cut(&mut self, side: Side, number: usize, link: usize, (sending, receiving): (bool, bool)) {
        self.disturb();
        let node = self.nodes[side as usize][number];
        let port = self.world.port(node, link);
        (port.sending.cut, port.receiving.cut) = (sending, receiving);
        self.checks.cut(node, link, sending || receiving, self.world.now());
    }

    /// Makes every cable of a node's link lose so many of 1,000 frames.
    pub fn lose(&mut self, side: Side, number: usize, link: usize, loss: u32) {
        self.disturb();
        let port = self.world.port(self.nodes[side as usize][number], link);
        (port.sending.loss, port.receiving.loss) = (loss, loss);
    }

    /// Whether a firewall is without power.
    pub fn firewall_is_dead(&self, number: usize) -> bool {
        self.dead_firewalls.contains(&number)
    }

    /// Takes a firewall's power away, or boots it.
    pub fn set_firewall(&mut self, number: usize, alive: bool) {
        self.disturb();
        if alive {
            self.dead_firewalls.remove(&number);
        } else {
            self.dead_firewalls.insert(number);
        }
        let node = self.firewalls[number];
        self.world.with_firewall(node, |firewall, _| if alive { firewall.boot() } else { firewall.crash() });
    }

    /// All faults are over: from some time on nothing may change without a reason.
    pub fn calm(&mut self) {
        self.checks.calm(self.world.now());
    }

    /// Opens a flow between hosts.
    pub fn open(&mut self, spec: FlowSpec, route: Route) -> FlowRef {
        self.next_port += 1;
        let tuple = scenario::tuple(spec.traffic, route, self.next_port);
        let host = self.hosts[route.from as usize][route.opener];
        let flow = FlowRef { host: host.0, number: self.world.host(host).flows().len() };
        self.world.with_host(host, |host, now| host.open(spec, tuple, now));
        flow
    }

    /// A flow and its record.
    pub fn flow(&self, flow: FlowRef) -> &Flow {
        &self.world.host(NodeId(flow.host)).flows()[flow.number]
    }

    fn disturb(&mut self) {
        self.checks.disturb(self.world.now());
    }

    fn observe(&mut self) {
        let now = self.world.now();
        for observation in self.world.take_observations() {
            if let Observation::Sent { node, link, frame } = observation {
                self.checks.sent(self.world.engine(node), node, link, &frame.bytes, now);
            }
        }
        for side in Side::BOTH {
            for number in 0..self.nodes[side as usize].len() {
                let node = self.nodes[side as usize][number];
                if !self.world.engine(node).has_role_changes() {
                    continue;
                }
                let changes = self.world.with_engine(node, |engine, _| engine.take_role_changes());
                for change in changes {
                    self.checks.changed(side, number, &change, now);
                    self.changes.push((now, side, number, change));
                }
            }
            let routers = self.routers(side);
            self.checks.routers(side, &routers, now);
        }
        // What the calls above made nodes send is checked with the next event.
    }

    /// The plan.
    pub fn plan(&self) -> &SandwichPlan {
        &self.plan
    }
}

/// The name of a node.
pub fn node_name(side: Side, number: usize) -> String {
    format!("{}-{}", side.name(), char::from(b'a' + number as u8))
}

fn floating(plan: &SandwichPlan, side: Side, link: usize, v4: bool) -> IpAddr {
    if link == HOSTS { sandwich::gateway(side, v4) } else { sandwich::engine_address(plan, side, 0, v4) }
}

/// An own address of a node: the floating address is the first of its subnet, and those of nodes follow.
fn own_address(plan: &SandwichPlan, side: Side, link: usize, number: usize, v4: bool) -> IpAddr {
    let more = number as u8 + 1;
    match floating(plan, side, link, v4) {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d + more].into()
        }
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments[7] += u16::from(more);
            segments.into()
        }
    }
}

/// The file of a node.
fn configuration(plan: &SandwichPlan, side: Side, me: usize, count: usize, key: &str) -> String {
    let mut text = format!(
        "[engine]\nname = \"{}\"\nworkers = 1\n\n[limits]\nsessions = {}\nneighbors = 64\n\n[ha]\nvrid = {}\nkey = \"{key}\"\n\
         advertise = \"{}ms\"\n\n",
        node_name(side, me),
        plan.sessions,
        51 + 10 * side as u16,
        INTERVAL.as_millis()
    );
    let both = |f: &dyn Fn(bool) -> IpAddr| format!("\"{}\", \"{}\"", f(true), f(false));
    for number in 0..count {
        let addresses = [HOSTS, FIREWALLS].map(|link| both(&|v4| own_address(plan, side, link, number, v4))).join(", ");
        let _ = writeln!(text, "[[ha.node]]\nname = \"{}\"\naddresses = [{addresses}]\n", node_name(side, number));
    }
    for (link, name) in [(HOSTS, "hosts"), (FIREWALLS, "firewalls0")] {
        let own = |v4: bool| format!("\"{}/{}\"", own_address(plan, side, link, me, v4), if v4 { 24 } else { 64 });
        let _ = writeln!(
            text,
            "[[link]]\nname = \"{name}\"\ndevice = \"eth{link}\"\naddresses = [{}, {}]\nfloating = [{}]\nunicast = {}\n",
            own(true),
            own(false),
            both(&|v4| floating(plan, side, link, v4)),
            // One side of two, so that a takeover is seen with either.
            side == Side::Inner
        );
    }
    for (family, pool) in POOLS.iter().enumerate() {
        for prefix in [sandwich::hosts_prefix(side.other(), family == 0), pool] {
            let peer = side.other().name();
            let _ = writeln!(text, "[[route]]\nto = \"{prefix}\"\ngroup = \"perimeter\"\npeer = \"{peer}\"\n");
        }
    }
    let mut group = String::new();
    sandwich::group(plan, side, &mut group);
    let engine = |number: usize| {
        let addresses = both(&|v4| own_address(plan, side.other(), FIREWALLS, number, v4));
        format!("{{ name = \"{}\", addresses = [{addresses}] }}", node_name(side.other(), number))
    };
    let engines: Vec<_> = (0..count).map(engine).collect();
    text + &group.replacen("\n\n[group.check]", &format!("\nengines = [{}]\n\n[group.check]", engines.join(", ")), 1)
}
