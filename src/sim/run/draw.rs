//! Draws the sandwich and its traffic from the seed. Services are drawn from a generator of their own, so that a seed
//! without services gives the same run as if there were none in the program.

use std::collections::BTreeSet;

use crate::config::{ForwardingMode, OnFailure};
use crate::sim::farm::{FarmPlan, PlannedCheck, PlannedScheduler, ServicePlan};
use crate::sim::firewall::SimFirewallKind;
use crate::sim::firewall::conntrack::Policy;
use crate::sim::host::{FlowSpec, Traffic};
use crate::sim::rng::Rng;
use crate::sim::run::Options;
use crate::sim::sandwich::SandwichPlan;
use crate::sim::scenario::Route;
use crate::sim::side::Side;
use crate::time::{Duration, Instant};

/// Draws the sandwich.
pub(super) fn plan(rng: &mut Rng, options: &Options) -> SandwichPlan {
    let drawn = *rng.choose(&[3_usize, 2, 2, 4]);
    let firewalls = options.firewalls.unwrap_or(drawn);
    let kinds = [
        SimFirewallKind::Strict,
        SimFirewallKind::Strict,
        SimFirewallKind::Strict,
        SimFirewallKind::Strict,
        SimFirewallKind::Loose,
        SimFirewallKind::Synced,
        SimFirewallKind::Synced,
        SimFirewallKind::Nat,
        SimFirewallKind::Transparent,
    ];
    let drawn = *rng.choose(&kinds);
    let kind = options.kind.unwrap_or(drawn);
    let other_seeds = rng.chance(150);
    let other_sets = rng.chance(100) && firewalls > 2;
    let unknown = rng.index(firewalls);
    let unknown_to = rng.index(2);
    let tiny = rng.chance(150) && !other_seeds && !other_sets && kind != SimFirewallKind::Nat;
    let default = SandwichPlan::default();
    SandwichPlan {
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
pub(super) struct PlannedFlow {
    pub(super) at: Instant,
    pub(super) spec: FlowSpec,
    pub(super) route: Route,
    /// The service to which it is opened, instead of the route's answerer.
    pub(super) service: Option<usize>,
}

pub(super) fn traffic(rng: &mut Rng, plan: &SandwichPlan, from: Instant, until: Instant) -> Vec<PlannedFlow> {
    let mut portless = BTreeSet::new();
    let mut flows: Vec<PlannedFlow> = (0..rng.between(25, 60))
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
            // Without ports there is only one flow between two addresses, and a translation cannot tell flows apart.
            let ends = if inside { (answerer, opener) } else { (opener, answerer) };
            let gre = traffic == Traffic::Gre;
            let refused = gre && (plan.kind == SimFirewallKind::Nat || !portless.insert((ends, route.v4)));
            (!refused).then_some(PlannedFlow { at, spec, route, service: None })
        })
        .collect();
    flows.sort_by_key(|flow| flow.at);
    flows
}

/// Adds services to a plan, if the options or the seed want them.
pub(super) fn farm(rng: &mut Rng, plan: &mut SandwichPlan, options: &Options) {
    let drawn = rng.chance(500);
    if !options.services.unwrap_or(drawn) {
        return;
    }
    if rng.chance(200) && options.firewalls.is_none() && options.kind.is_none() {
        (plan.firewalls, plan.kind, plan.unknown) = (0, SimFirewallKind::Strict, [None; 2]);
    }
    plan.sessions = plan.sessions.max(4096);
    plan.gso = rng.chance(300);
    let servers = rng.between(2, 4) as usize;
    let mut services: Vec<ServicePlan> = Vec::new();
    for number in 0..rng.between(1, 4) as usize {
        let mut service = service(rng, plan, servers);
        // Two services that share an address and translate no port must not have the same port.
        let meets = |other: &ServicePlan| {
            (other.is_direct(), other.side, other.traffic) == (true, service.side, service.traffic)
        };
        if service.is_direct() && number % 2 == 1 && services.last().is_some_and(meets) {
            service.mode = ForwardingMode::Nat;
        }
        services.push(service);
    }
    let ports = if rng.chance(200) { rng.between(6, 16) as u16 } else { 0 };
    plan.farm = FarmPlan { servers, services, ports };
}

fn service(rng: &mut Rng, plan: &SandwichPlan, servers: usize) -> ServicePlan {
    let traffic =
        *rng.choose(&[Traffic::TcpEcho, Traffic::TcpEcho, Traffic::TcpPush, Traffic::UdpEcho, Traffic::UdpOneWay]);
    let mode = *rng.choose(&[
        ForwardingMode::Nat,
        ForwardingMode::Nat,
        ForwardingMode::FullNat,
        ForwardingMode::FullNat,
        ForwardingMode::Direct,
        ForwardingMode::Tunnel,
    ]);
    // Before the firewalls: only translated packets reach the servers from there, and only if the firewalls do not
    // translate again.
    let is_translated = matches!(mode, ForwardingMode::Nat | ForwardingMode::FullNat);
    let in_front = rng.chance(250) && plan.firewalls > 0 && plan.kind != SimFirewallKind::Nat && is_translated;
    let on_failures =
        [None, None, Some(OnFailure::Reset), Some(OnFailure::Reselect), Some(OnFailure::Keep), Some(OnFailure::Drop)];
    ServicePlan {
        side: if in_front { Side::Outer } else { Side::Inner },
        traffic,
        mode,
        snat: mode == ForwardingMode::FullNat && !in_front && rng.chance(500),
        scheduler: *rng.choose(&[
            PlannedScheduler::RoundRobin,
            PlannedScheduler::RoundRobin,
            PlannedScheduler::LeastConnections,
            PlannedScheduler::Hash,
        ]),
        weights: (0..servers).map(|_| rng.between(1, 4) as u16).collect(),
        backup: rng.chance(200).then(|| rng.index(servers)),
        sticky_s: *rng.choose(&[0, 0, 0, 1, 60]),
        on_failure: *rng.choose(&on_failures),
        check: *rng.choose(&[
            PlannedCheck::Icmp,
            PlannedCheck::Tcp,
            PlannedCheck::Tcp,
            PlannedCheck::HalfOpen,
            PlannedCheck::Http,
        ]),
        drain_timeout: rng.choose::<&str>(&["5m", "1s"]),
    }
}

/// Draws the flows to the services.
pub(super) fn service_flows(rng: &mut Rng, plan: &SandwichPlan, from: Instant, until: Instant) -> Vec<PlannedFlow> {
    let services = &plan.farm.services;
    if services.is_empty() {
        return Vec::new();
    }
    let question = |_| {
        let number = rng.index(services.len());
        let service = &services[number];
        let hairpin = service.side == Side::Inner && service.mode != ForwardingMode::Nat && rng.chance(300);
        let side = if hairpin { Side::Inner } else { Side::Outer };
        let route =
            Route { from: side, opener: rng.index(plan.hosts[side as usize]), answerer: 0, v4: rng.chance(500) };
        let tcp = matches!(service.traffic, Traffic::TcpEcho | Traffic::TcpPush);
        let size = if tcp { rng.between(1, 3900) } else { *rng.choose(&[64, 512, 1400, 4000]) } as usize;
        let (rounds, gap) = (rng.between(1, 40) as u32, Duration::from_millis(rng.between(20, 400)));
        let spec = FlowSpec { traffic: service.traffic, rounds, gap, size, shuffled: rng.chance(500) };
        PlannedFlow { at: from + rng.duration(until.since(from)), spec, route, service: Some(number) }
    };
    (0..45).map(question).collect()
}
