//! Several engines on each side of the firewalls, each side one virtual router: production role machines, controllers
//! and forwarders on shared switches, with faults, and checkers apart from the nodes.
//!
//! ```text
//!            ┌── outer-a ──┐              ┌── inner-a ──┐
//!  hosts ────┤             ├── fw1..fwN ──┤             ├──── hosts
//!            └── outer-b ──┘              └── inner-b ──┘
//! ```

mod check;
mod configuration;
mod copies;
mod faults;
mod judge;
mod random;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

use crate::engine::Permission;
use crate::ha::copies::Unapplied;
use crate::ha::{Role, RoleChange};
use crate::sim::host::{Flow, FlowRef, FlowSpec};
use crate::sim::packet::Tuple;
use crate::sim::rng::Rng;
use crate::sim::sandwich::{self, SandwichPlan};
use crate::sim::scenario::{self, Route};
use crate::sim::side::Side;
use crate::sim::sim_engine::SimEngine;
use crate::sim::world::{Node, NodeId, Observation, World};
use crate::time::{Duration, Instant};

pub use check::ClusterChecks;
pub use configuration::node_name;
pub use copies::{CopyChecks, NodeTable};
pub use judge::FlowJudge;
pub use random::{ClusterReport, run};

use configuration::own_address;

/// The links of a node.
pub const HOSTS: usize = 0;
/// The link of a node on which the firewalls are.
pub const FIREWALLS: usize = 1;
/// The time between two advertisements of the model clusters.
pub const INTERVAL: Duration = Duration::from_millis(30);
const KEY: &str = "a key of 32 bytes, for the laboratory";

/// What to build.
#[derive(Debug, Clone)]
pub struct ClusterPlan {
    /// Firewalls, hosts, services and servers.
    pub sandwich: SandwichPlan,
    /// The number of nodes of each side, at most 3.
    pub nodes: usize,
    /// The key of the first node of a side, and that of the others.
    pub keys: [&'static str; 2],
    /// A node of each side, by its number, whose session table has fewer entries.
    pub few_sessions: Option<(usize, usize)>,
    /// Whether sessions are copied.
    pub has_copies: bool,
}

impl Default for ClusterPlan {
    fn default() -> Self {
        let sandwich = SandwichPlan { hosts: [1, 1], sessions: 512, ..SandwichPlan::default() };
        Self { sandwich, nodes: 2, keys: [KEY; 2], few_sessions: None, has_copies: true }
    }
}

/// The model: two sides with nodes, their firewalls and hosts.
#[derive(Debug)]
pub struct Cluster {
    world: World,
    plan: ClusterPlan,
    /// The nodes of each side.
    nodes: [Vec<NodeId>; 2],
    firewalls: Vec<NodeId>,
    dead_firewalls: BTreeSet<usize>,
    hosts: [Vec<NodeId>; 2],
    servers: Vec<NodeId>,
    checks: ClusterChecks,
    copies: [CopyChecks; 2],
    judge: FlowJudge,
    next_look: Instant,
    reloads: u16,
    changes: Vec<(Instant, Side, usize, RoleChange)>,
    next_port: u16,
}

impl Cluster {
    /// Builds both sides, and starts their nodes.
    pub fn new(plan: ClusterPlan, seed: u64) -> Self {
        let (whole, count, plan) = (plan.clone(), plan.nodes, plan.sandwich);
        let mut rng = Rng::new(seed);
        let mut world = World::new(rng.fork(1));
        let nodes = Side::BOTH.map(|side| {
            let add = |number: usize| {
                let text = configuration::configuration(&whole, side, number, 0);
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
        let servers: Vec<_> =
            (0..plan.farm.servers).map(|number| sandwich::add_server(&mut world, &plan, number, &mut rng)).collect();
        for side in Side::BOTH {
            let (near, far) = (world.add_segment(), world.add_segment());
            for node in &nodes[side as usize] {
                world.plug(*node, HOSTS, near);
                world.plug(*node, FIREWALLS, far);
            }
            let beside = if side == Side::Inner { &servers[..] } else { &[] };
            for host in hosts[side as usize].iter().chain(beside) {
                world.plug(*host, 0, near);
            }
            for firewall in &firewalls {
                world.plug(*firewall, side.leg().index(), far);
            }
        }
        let mut cluster = Self {
            world,
            checks: ClusterChecks::new(nodes.clone(), &plan.farm),
            copies: Side::BOTH.map(|_| CopyChecks::new(count)),
            judge: FlowJudge::new(plan),
            plan: whole,
            nodes,
            firewalls,
            dead_firewalls: BTreeSet::new(),
            hosts,
            servers,
            next_look: Instant::ZERO,
            reloads: 0,
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
            if self.world.now() >= self.next_look {
                self.sample();
            }
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
    pub fn violations(&self) -> Vec<String> {
        self.checks.violations().iter().chain(self.judge.violations()).cloned().collect()
    }

    /// A digest of everything that happened; equal runs have equal digests.
    pub fn digest(&self) -> u64 {
        self.world.digest()
    }

    /// No flow may have changed its firewall for ever.
    pub fn check_moves(&mut self) {
        self.judge.moves(self.world.now());
    }

    /// How often firewalls dropped what does not fit their connections.
    pub fn oracle(&self) -> u64 {
        self.firewalls.iter().map(|firewall| self.world.firewall(*firewall).oracle()).sum()
    }

    /// Opens a flow between hosts.
    pub fn open(&mut self, spec: FlowSpec, route: Route) -> FlowRef {
        self.next_port += 1;
        let tuple = scenario::tuple(spec.traffic, route, self.next_port);
        self.open_tuple(spec, self.hosts[route.from as usize][route.opener], tuple, None)
    }

    /// Opens a flow from a host of the outer side to a service of the inner one, with that service's traffic.
    pub fn open_to_service(&mut self, service: usize, spec: FlowSpec, opener: usize, v4: bool) -> FlowRef {
        self.next_port += 1;
        let farm = &self.plan.sandwich.farm;
        let (protocol, traffic) = (farm.services[service].protocol(), farm.services[service].traffic);
        let source = (sandwich::host_address(Side::Outer, opener, v4), self.next_port);
        let tuple = Tuple { protocol, source, destination: (farm.vip(service, v4), farm.port(service)) };
        let spec = FlowSpec { traffic, ..spec };
        self.open_tuple(spec, self.hosts[Side::Outer as usize][opener], tuple, Some(service))
    }

    fn open_tuple(&mut self, spec: FlowSpec, host: NodeId, tuple: Tuple, service: Option<usize>) -> FlowRef {
        let flow = FlowRef { host: host.0, number: self.world.host(host).flows().len() };
        self.judge.opened(flow, tuple, service, self.world.now());
        self.world.with_host(host, |host, now| host.open(spec, tuple, now));
        flow
    }

    /// A node.
    pub fn engine(&self, side: Side, number: usize) -> &SimEngine {
        self.world.engine(self.nodes[side as usize][number])
    }

    /// A flow and its record.
    pub fn flow(&self, flow: FlowRef) -> &Flow {
        &self.world.host(NodeId(flow.host)).flows()[flow.number]
    }

    fn observe(&mut self) {
        let now = self.world.now();
        for side in Side::BOTH {
            for (number, node) in self.nodes[side as usize].iter().enumerate() {
                let engine = self.world.engine(*node);
                let may_forward = matches!(engine.permission(now), Some(Permission::Router | Permission::Lingering));
                self.judge.sees((side, number), engine, may_forward, now);
            }
        }
        for observation in self.world.take_observations() {
            match observation {
                Observation::Sent { node, link, frame } => {
                    self.checks.sent(self.world.engine(node), node, link, &frame.bytes, now);
                    self.judge.sent(self.side_of(node), link.index(), &frame, now);
                }
                Observation::Handled { handled, .. } => self.judge.handled(&handled, now),
                Observation::Judged { node, sighting } => {
                    let number = self.firewalls.iter().position(|firewall| *firewall == node);
                    number.into_iter().for_each(|number| self.judge.passed(number, &sighting));
                }
                Observation::Impaired { tuple, lost: true, .. } => self.judge.lost(tuple, now),
                Observation::Impaired { .. } | Observation::Changed { .. } | Observation::UnknownDestination { .. } => {
                }
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
                    if change.to == Role::Active {
                        self.takes_over(side, number);
                    }
                    self.changes.push((now, side, number, change));
                }
            }
            let routers = self.routers(side);
            self.checks.routers(side, &routers, now);
        }
        // What the calls above made nodes send is checked with the next event.
    }

    fn side_of(&self, node: NodeId) -> Side {
        if self.nodes[Side::Outer as usize].contains(&node) { Side::Outer } else { Side::Inner }
    }

    /// Looks at the tables of all nodes.
    fn sample(&mut self) {
        let now = self.world.now();
        self.next_look = now + copies::EVERY;
        let quiet_since = self.checks.quiet_since();
        for side in Side::BOTH {
            let tables = (0..self.plan.nodes).map(|number| self.table(side, number)).collect();
            let wrong = self.copies[side as usize].look(tables, quiet_since, now);
            wrong.into_iter().for_each(|what| self.checks.violation(now, format!("{}: {what}", side.name())));
        }
    }

    fn takes_over(&mut self, side: Side, number: usize) {
        self.sample();
        let now = self.world.now();
        self.judge.shaken(side, now);
        let table = self.table(side, number);
        let wrong = self.copies[side as usize].takes_over(number, &table, now);
        wrong.into_iter().for_each(|what| self.checks.violation(now, format!("{}: {what}", side.name())));
    }

    fn table(&self, side: Side, number: usize) -> NodeTable {
        let now = self.world.now();
        let engine = self.engine(side, number);
        let (live, capacity) = engine.sessions();
        let others = (0..self.plan.nodes).filter(|other| *other != number);
        let status = |other: usize| engine.copy_status(other, now);
        let refused = |other: usize| {
            status(other).is_some_and(|status| Unapplied::ALL.iter().any(|why| status.refusals.count(*why) > 0))
        };
        let is_told = |other: &usize| {
            let told =
                status(*other).is_some_and(|told| told.is_flushed && told.pass.is_none() && told.full_passes > 0);
            told && self.engine(side, *other).copy_status(number, now).is_some_and(|heard| heard.is_complete)
        };
        NodeTable {
            is_alive: engine.is_alive(),
            is_router: engine.permission(now) == Some(Permission::Router),
            refuses: live == capacity || others.clone().any(refused),
            sessions: engine.held_sessions(now),
            told: others.filter(is_told).collect(),
        }
    }

    /// The plan.
    pub fn plan(&self) -> &ClusterPlan {
        &self.plan
    }
}
