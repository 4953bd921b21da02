//! One seed: services and flows, faults of nodes, cables, firewalls and servers at random times, their end, and what must
//! be true then.

use super::{Cluster, ClusterPlan, FIREWALLS, HOSTS};
use crate::config::ForwardingMode;
use crate::ha::Role;
use crate::sim::farm::{FarmPlan, PlannedCheck, PlannedScheduler, ServicePlan};
use crate::sim::host::{FlowSpec, Health, Traffic};
use crate::sim::rng::Rng;
use crate::sim::sandwich::SandwichPlan;
use crate::sim::scenario::Route;
use crate::sim::side::Side;
use crate::sim::world::Cable;
use crate::time::Duration;

/// What came of a seed.
#[derive(Debug, Clone)]
pub struct ClusterReport {
    /// The faults, in the order in which they came.
    pub faults: Vec<String>,
    /// What must not be.
    pub violations: Vec<String>,
    /// A digest of everything that happened; equal runs have equal digests.
    pub digest: u64,
}

/// Runs one seed with so many nodes on each side.
pub fn run(seed: u64, count: usize) -> ClusterReport {
    let mut rng = Rng::new(seed);
    let mut cluster = Cluster::new(plan(count, &mut rng), rng.next_u64());
    cluster.run_for(Duration::from_secs(2));
    let mut faults = Vec::new();
    open_some(&mut cluster, &mut rng);
    cluster.run_for(Duration::from_millis(400));
    for _ in 0..rng.between(2, 6) {
        faults.push(fault(&mut cluster, &mut rng));
        open_some(&mut cluster, &mut rng);
        let pause = Duration::from_millis(rng.between(20, 1500));
        cluster.run_for(pause);
        if rng.chance(600) {
            heal(&mut cluster);
        }
    }
    heal(&mut cluster);
    cluster.run_for(Duration::from_secs(2));
    cluster.calm();
    cluster.run_for(Duration::from_secs(2));
    let spec =
        FlowSpec { traffic: Traffic::TcpEcho, rounds: 5, gap: Duration::from_millis(50), size: 100, shuffled: false };
    let mut flows = [(Side::Outer, true), (Side::Inner, true), (Side::Outer, false)]
        .map(|(from, v4)| cluster.open(spec, Route { from, opener: 0, answerer: 0, v4 }))
        .to_vec();
    // A table that is full of sessions refuses new ones of services, as it has to.
    let services = if cluster.plan().few_sessions.is_some() { 0 } else { cluster.plan().sandwich.farm.services.len() };
    for service in 0..services {
        flows.extend([true, false].map(|v4| cluster.open_to_service(service, spec, 0, v4)));
    }
    cluster.run_for(Duration::from_secs(3));
    cluster.check_moves();
    let mut violations = cluster.violations();
    for side in Side::BOTH {
        let roles: Vec<_> = (0..count).filter_map(|number| cluster.role(side, number)).collect();
        let actives = roles.iter().filter(|role| **role == Role::Active).count();
        let others = roles.iter().filter(|role| **role == Role::Standby).count();
        if (actives, others) != (1, count - 1) {
            violations.push(format!("{} ends with {roles:?}", side.name()));
        }
        let problems = (0..count).flat_map(|number| cluster.engine(side, number).problems.clone());
        violations.extend(problems);
    }
    for flow in flows {
        let flow = cluster.flow(flow);
        if flow.answered < spec.rounds {
            let few = cluster.plan().few_sessions;
            violations.push(format!("{} answers of {} after all faults ({few:?})", flow.answered, flow.tuple));
        }
    }
    ClusterReport { faults, violations, digest: cluster.digest() }
}

/// Two services of the inner side, and sometimes a node with a small table.
fn plan(count: usize, rng: &mut Rng) -> ClusterPlan {
    let servers = rng.between(2, 3) as usize;
    let (nat, full_nat) = (ForwardingMode::Nat, ForwardingMode::FullNat);
    let mut services: Vec<_> = [
        (nat, false, Traffic::TcpEcho, PlannedScheduler::RoundRobin),
        (full_nat, false, Traffic::TcpEcho, PlannedScheduler::LeastConnections),
        (full_nat, true, Traffic::UdpEcho, PlannedScheduler::RoundRobin),
        (nat, false, Traffic::UdpEcho, PlannedScheduler::Hash),
    ]
    .map(|(mode, snat, traffic, scheduler)| ServicePlan {
        traffic,
        mode,
        snat,
        scheduler,
        weights: (0..servers).map(|_| rng.between(1, 4) as u16).collect(),
        sticky_s: *rng.choose(&[0, 0, 60]),
        check: PlannedCheck::Icmp,
        ..ServicePlan::default()
    })
    .to_vec();
    while services.len() > 2 {
        services.remove(rng.index(services.len()));
    }
    let farm = FarmPlan { servers, services, ports: 0 };
    let few_sessions = rng.chance(100).then(|| (rng.index(count), rng.between(4, 12) as usize));
    let firewalls = rng.between(2, 3) as usize;
    let sandwich = SandwichPlan { firewalls, farm, ..ClusterPlan::default().sandwich };
    ClusterPlan { sandwich, nodes: count, few_sessions, ..ClusterPlan::default() }
}

/// Opens a few flows, most of them to services.
fn open_some(cluster: &mut Cluster, rng: &mut Rng) {
    for _ in 0..rng.between(1, 4) {
        let (rounds, gap) = (rng.between(3, 40) as u32, Duration::from_millis(rng.between(30, 400)));
        let traffic = *rng.choose(&[Traffic::TcpEcho, Traffic::TcpEcho, Traffic::UdpEcho, Traffic::Ping]);
        let spec = FlowSpec { traffic, rounds, gap, size: rng.between(12, 900) as usize, shuffled: false };
        let (from, v4) = (*rng.choose(&Side::BOTH), rng.chance(500));
        let service = rng.index(cluster.plan().sandwich.farm.services.len());
        if rng.chance(700) {
            cluster.open_to_service(service, spec, 0, v4);
        } else {
            cluster.open(spec, Route { from, opener: 0, answerer: 0, v4 });
        }
    }
}

/// Makes something fail. The other kinds of nodes and cables stay as they are.
fn fault(cluster: &mut Cluster, rng: &mut Rng) -> String {
    let side = *rng.choose(&Side::BOTH);
    let number = rng.index(cluster.plan().nodes);
    let link = *rng.choose(&[HOSTS, FIREWALLS]);
    let at = cluster.now().as_millis();
    let what = match rng.below(11) {
        0 => {
            cluster.crash(side, number);
            "dies".to_owned()
        }
        1 => {
            let time = Duration::from_millis(rng.between(10, 2000));
            cluster.pause(side, number, time);
            format!("stands still for {} ms", time.as_millis())
        }
        2 => {
            cluster.cut(side, number, link, (true, true));
            format!("loses link {link}")
        }
        3 => {
            cluster.cut(side, number, link, (true, false));
            format!("is not heard on link {link}")
        }
        4 => {
            cluster.cut(side, number, link, (false, true));
            format!("is deaf on link {link}")
        }
        5 => {
            cluster.lose(side, number, link, 300);
            format!("loses 30 % on link {link}")
        }
        6 => {
            let cable = Cable { duplicate: 300, reorder: 300, loss: 50, ..Cable::GOOD };
            cluster.impair(side, number, link, cable);
            format!("repeats and reorders frames on link {link}")
        }
        7 => {
            // Less than the lease, again and again: a node that is slow.
            for _ in 0..10 {
                let time = Duration::from_millis(rng.between(5, 60));
                cluster.pause(side, number, time);
                cluster.run_for(time + Duration::from_millis(rng.between(1, 30)));
            }
            "was slow until here".to_owned()
        }
        8 => {
            cluster.reload(side, number);
            "is reloaded".to_owned()
        }
        9 => {
            let server = rng.index(cluster.plan().sandwich.farm.servers);
            let health = *rng.choose(&[Health::Refusing, Health::Dead]);
            cluster.set_server(server, health);
            return format!("{at} ms: server {server} is {health:?}");
        }
        _ => {
            let firewall = rng.index(cluster.plan().sandwich.firewalls);
            cluster.set_firewall(firewall, false);
            return format!("{at} ms: firewall {firewall} dies");
        }
    };
    format!("{at} ms: {} {what}", super::node_name(side, number))
}

/// Ends all faults.
fn heal(cluster: &mut Cluster) {
    for side in Side::BOTH {
        for number in 0..cluster.plan().nodes {
            for link in [HOSTS, FIREWALLS] {
                cluster.cut(side, number, link, (false, false));
                cluster.impair(side, number, link, Cable::GOOD);
            }
            if cluster.role(side, number).is_none() {
                cluster.start(side, number);
            }
        }
    }
    for firewall in 0..cluster.plan().sandwich.firewalls {
        if cluster.firewall_is_dead(firewall) {
            cluster.set_firewall(firewall, true);
        }
    }
    for server in 0..cluster.plan().sandwich.farm.servers {
        cluster.set_server(server, Health::Well);
    }
}
