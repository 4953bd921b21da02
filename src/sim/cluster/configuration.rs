//! The addresses and files of the nodes.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{ClusterPlan, FIREWALLS, HOSTS, INTERVAL};
use crate::sim::sandwich::{self, POOLS, SandwichPlan};
use crate::sim::side::Side;

/// The name of a node.
pub fn node_name(side: Side, number: usize) -> String {
    format!("{}-{}", side.name(), char::from(b'a' + number as u8))
}

fn floating(plan: &SandwichPlan, side: Side, link: usize, v4: bool) -> IpAddr {
    if link == HOSTS { sandwich::gateway(side, v4) } else { sandwich::engine_address(plan, side, 0, v4) }
}

/// An own address of a node: the floating address is the first of its subnet, and those of nodes follow.
pub(super) fn own_address(plan: &SandwichPlan, side: Side, link: usize, number: usize, v4: bool) -> IpAddr {
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

/// The file of a node. A reload gives every server of its services another weight, by `reloads`, and nothing else.
///
/// Sessions are forgotten soon, so that a run sees many of them end, and slow passes come every second.
pub(super) fn configuration(plan: &ClusterPlan, side: Side, me: usize, reloads: u16) -> String {
    let (count, key) = (plan.nodes, plan.keys[me.min(1)]);
    let copied = if plan.has_copies { "needed" } else { "none" };
    let sessions = plan.few_sessions.filter(|(number, _)| *number == me).map_or(plan.sandwich.sessions, |(_, few)| few);
    let plan = &plan.sandwich;
    let mut text = format!(
        "[engine]\nname = \"{}\"\nworkers = 1\n\n[limits]\nsessions = {sessions}\nneighbors = 64\n\n\
         [timeouts]\ntcp-established = \"6s\"\ntcp-closing = \"2s\"\nudp-new = \"3s\"\nudp = \"4s\"\nicmp = \"3s\"\n\n\
         [ha]\nvrid = {}\nkey = \"{key}\"\nadvertise = \"{}ms\"\n\
         sessions = \"{copied}\"\n\n",
        node_name(side, me),
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
    text += &group.replacen("\n\n[group.check]", &format!("\nengines = [{}]\n\n[group.check]", engines.join(", ")), 1);
    let mut farm = plan.farm.clone();
    for service in &mut farm.services {
        service.weights = (0..farm.servers).map(|server| service.weight(server) + reloads).collect();
    }
    text + &farm.configuration(side)
}
