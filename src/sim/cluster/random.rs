//! One seed: faults of nodes, cables and firewalls at random times, their end, and what must be true then.

use super::{Cluster, FIREWALLS, HOSTS};
use crate::ha::Role;
use crate::sim::host::{FlowSpec, Traffic};
use crate::sim::rng::Rng;
use crate::sim::sandwich::SandwichPlan;
use crate::sim::scenario::Route;
use crate::sim::side::Side;
use crate::time::Duration;

/// What came of a seed.
#[derive(Debug, Clone)]
pub struct ClusterReport {
    /// The faults, in the order in which they came.
    pub faults: Vec<String>,
    /// What must not be.
    pub violations: Vec<String>,
}

/// Runs one seed with so many nodes on each side.
pub fn run(seed: u64, count: usize) -> ClusterReport {
    let mut rng = Rng::new(seed);
    let plan = SandwichPlan { hosts: [1, 1], ..SandwichPlan::default() };
    let mut cluster = Cluster::new(plan, count, None, rng.next_u64());
    cluster.run_for(Duration::from_secs(4));
    let mut faults = Vec::new();
    for _ in 0..rng.between(2, 6) {
        faults.push(fault(&mut cluster, count, &mut rng));
        let pause = Duration::from_millis(rng.between(20, 1500));
        cluster.run_for(pause);
        if rng.chance(600) {
            heal(&mut cluster, count);
        }
    }
    heal(&mut cluster, count);
    cluster.run_for(Duration::from_secs(2));
    cluster.calm();
    cluster.run_for(Duration::from_secs(5));
    let mut violations = Vec::new();
    for side in Side::BOTH {
        let roles: Vec<_> = (0..count).filter_map(|number| cluster.role(side, number)).collect();
        let actives = roles.iter().filter(|role| **role == Role::Active).count();
        let others = roles.iter().filter(|role| **role == Role::Standby).count();
        if (actives, others) != (1, count - 1) {
            violations.push(format!("{} ends with {roles:?}", side.name()));
        }
    }
    let spec =
        FlowSpec { traffic: Traffic::TcpEcho, rounds: 5, gap: Duration::from_millis(50), size: 100, shuffled: false };
    let flows: Vec<_> = [(Side::Outer, true), (Side::Inner, true), (Side::Outer, false)]
        .map(|(from, v4)| cluster.open(spec, Route { from, opener: 0, answerer: 0, v4 }))
        .to_vec();
    cluster.run_for(Duration::from_secs(2));
    for flow in flows {
        let flow = cluster.flow(flow);
        if flow.answered < spec.rounds {
            violations.push(format!("{:?} of {:?} answers after all faults", flow.answered, flow.tuple));
        }
    }
    violations.extend(cluster.violations().iter().cloned());
    ClusterReport { faults, violations }
}

/// Makes something fail. The other kinds of nodes and cables stay as they are.
fn fault(cluster: &mut Cluster, count: usize, rng: &mut Rng) -> String {
    let side = *rng.choose(&Side::BOTH);
    let number = rng.index(count);
    let link = *rng.choose(&[HOSTS, FIREWALLS]);
    let at = cluster.now().as_millis();
    let what = match rng.below(7) {
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
        _ => {
            let firewall = rng.index(cluster.plan().firewalls);
            cluster.set_firewall(firewall, false);
            return format!("{at} ms: firewall {firewall} dies");
        }
    };
    format!("{at} ms: {} {what}", super::node_name(side, number))
}

/// Ends all faults.
fn heal(cluster: &mut Cluster, count: usize) {
    for side in Side::BOTH {
        for number in 0..count {
            for link in [HOSTS, FIREWALLS] {
                cluster.cut(side, number, link, (false, false));
                cluster.lose(side, number, link, 0);
            }
            if cluster.role(side, number).is_none() {
                cluster.start(side, number);
            }
        }
    }
    for firewall in 0..cluster.plan().firewalls {
        if cluster.firewall_is_dead(firewall) {
            cluster.set_firewall(firewall, true);
        }
    }
}
