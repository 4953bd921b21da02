//! Builds the sandwich from a [`SandwichPlan`]: clients, outer engine, firewalls, inner engine, servers. The engines
//! are configured by text, as an operator would do it.
//!
//! ```text
//!  clients 198.51.100.0/24 ── outer ── 10.1.0.0/24 ── fw1..fwN ── 10.2.0.0/24 ── inner ── 203.0.113.0/24 servers
//!  2001:db8:1::/64                     fd00:1::/64                fd00:2::/64            2001:db8:113::/64
//! ```

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use crate::config::{BelowMin, OnFailure};
use crate::sim::farm::{self, FarmPlan};
use crate::sim::firewall::conntrack::{Conntrack, Policy};
use crate::sim::firewall::{Firewall, FirewallLeg, FirewallSettings, SimFirewallKind};
use crate::sim::host::{Host, HostNetwork};
use crate::sim::interface::NetworkInterface;
use crate::sim::rng::Rng;
use crate::sim::side::Side;
use crate::sim::sim_engine::SimEngine;
use crate::sim::world::{Node, NodeId, World};
use crate::time::Instant;
use crate::wire::MacAddr;

/// What to build.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SandwichPlan {
    /// Number of firewalls, at most 9. With none, the engines are routers beside each other and have no group.
    pub firewalls: usize,
    /// Kind of firewalls.
    pub kind: SimFirewallKind,
    /// From which side flows may be opened through them.
    pub policy: Policy,
    /// Number of hosts on each side.
    pub hosts: [usize; 2],
    /// Number of packet workers of each engine.
    pub workers: [u16; 2],
    /// The group's seed on each engine; they should be equal.
    pub seeds: [&'static str; 2],
    /// A firewall that is missing in this engine's configuration; they should be equal.
    pub unknown: [Option<usize>; 2],
    /// Whether all links of an engine are VLANs of one device.
    pub one_arm: bool,
    /// `on-failure` of the group.
    #[serde(skip)]
    pub on_failure: OnFailure,
    /// `min-up` of the group.
    pub min_up: u16,
    /// `below-min` of the group.
    #[serde(skip)]
    pub below_min: BelowMin,
    /// `drain-timeout` of the group.
    pub drain_timeout: &'static str,
    /// `limits.sessions` of the engines.
    pub sessions: usize,
    /// `limits.punts` of the engines.
    pub punts: usize,
    /// `check.hold` of the group.
    pub hold: &'static str,
    /// Whether frames between devices carry partial checksums.
    pub partial_checksums: bool,
    /// MTU of the firewalls' legs, in bytes.
    pub firewall_mtu: usize,
    /// Whether hosts leave segmentation to their devices.
    pub gso: bool,
    /// Services and servers.
    pub farm: FarmPlan,
}

impl Default for SandwichPlan {
    fn default() -> Self {
        Self {
            firewalls: 2,
            kind: SimFirewallKind::Strict,
            policy: Policy::Both,
            hosts: [2, 2],
            workers: [1, 1],
            seeds: ["the shared secret of the laboratory"; 2],
            unknown: [None; 2],
            one_arm: false,
            on_failure: OnFailure::Reselect,
            min_up: 1,
            below_min: BelowMin::Drop,
            drain_timeout: "5m",
            sessions: 10_000,
            punts: 4096,
            hold: "2s",
            partial_checksums: false,
            firewall_mtu: 1500,
            gso: false,
            farm: FarmPlan::default(),
        }
    }
}

impl SandwichPlan {
    /// Whether the session table may fill up. Then flows go by hash, and while the engines disagree about a firewall
    /// (one of them holds it back after a flap), the two directions may take different firewalls (`docs/pinning.md`,
    /// section 6, number 4).
    pub fn is_tiny(&self) -> bool {
        self.sessions < 200
    }
}

/// The nodes of a sandwich.
#[derive(Debug, Clone)]
pub struct Nodes {
    /// Outer and inner engine.
    pub engines: [NodeId; 2],
    /// Firewalls in order of their names.
    pub firewalls: Vec<NodeId>,
    /// Hosts of the outer and of the inner side.
    pub hosts: [Vec<NodeId>; 2],
    /// The servers of the farm.
    pub servers: Vec<NodeId>,
}

impl Nodes {
    /// The engine of a side.
    pub fn engine(&self, side: Side) -> NodeId {
        self.engines[side as usize]
    }

    /// The side of an engine.
    pub fn side(&self, engine: NodeId) -> Side {
        if engine == self.engines[0] { Side::Outer } else { Side::Inner }
    }
}

/// Name of firewall number `number`.
pub fn firewall_name(number: usize) -> String {
    format!("fw{}", number + 1)
}

/// Address of a host.
pub fn host_address(side: Side, number: usize, v4: bool) -> IpAddr {
    let last = 10 + number as u16;
    match (side, v4) {
        (Side::Outer, true) => Ipv4Addr::new(198, 51, 100, last as u8).into(),
        (Side::Inner, true) => Ipv4Addr::new(203, 0, 113, last as u8).into(),
        (Side::Outer, false) => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last).into(),
        (Side::Inner, false) => Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, last).into(),
    }
}

/// The engine's address on its hosts' link.
pub fn gateway(side: Side, v4: bool) -> IpAddr {
    match (side, v4) {
        (Side::Outer, true) => Ipv4Addr::new(198, 51, 100, 1).into(),
        (Side::Inner, true) => Ipv4Addr::new(203, 0, 113, 1).into(),
        (Side::Outer, false) => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1).into(),
        (Side::Inner, false) => Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1).into(),
    }
}

/// The prefix of a side's hosts.
pub(super) fn hosts_prefix(side: Side, v4: bool) -> &'static str {
    match (side, v4) {
        (Side::Outer, true) => "198.51.100.0/24",
        (Side::Inner, true) => "203.0.113.0/24",
        (Side::Outer, false) => "2001:db8:1::/64",
        (Side::Inner, false) => "2001:db8:113::/64",
    }
}

/// Pools to which NAT firewalls translate; both engines route them through the group.
pub(super) const POOLS: [&str; 2] = ["192.0.2.0/24", "2001:db8:9::/64"];

/// An engine's address on the firewalls' link; for transparent firewalls on the link of firewall `number`.
pub fn engine_address(plan: &SandwichPlan, side: Side, number: usize, v4: bool) -> IpAddr {
    match (plan.kind == SimFirewallKind::Transparent, v4) {
        (true, true) => Ipv4Addr::new(10, 1, number as u8 + 1, side as u8 + 1).into(),
        (true, false) => Ipv6Addr::new(0xfd00, 1, number as u16 + 1, 0, 0, 0, 0, side as u16 + 1).into(),
        (false, true) => Ipv4Addr::new(10, side as u8 + 1, 0, 1).into(),
        (false, false) => Ipv6Addr::new(0xfd00, side as u16 + 1, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// The next hop to a firewall for the engine of `side`.
pub fn firewall_address(plan: &SandwichPlan, side: Side, number: usize, v4: bool) -> IpAddr {
    match (plan.kind == SimFirewallKind::Transparent, v4) {
        (true, v4) => engine_address(plan, side.other(), number, v4),
        (false, true) => Ipv4Addr::new(10, side as u8 + 1, 0, 11 + number as u8).into(),
        (false, false) => Ipv6Addr::new(0xfd00, side as u16 + 1, 0, 0, 0, 0, 0, 11 + number as u16).into(),
    }
}

/// MAC address of a firewall's leg, before any change.
pub fn firewall_mac(number: usize, leg: FirewallLeg) -> MacAddr {
    MacAddr([0x02, 0xff, 0, 0, leg as u8, number as u8])
}

/// The links of an engine in order: hosts, then firewalls (one link, or one per transparent firewall), then the bypass.
fn links(plan: &SandwichPlan, side: Side) -> Vec<(String, [String; 2])> {
    let text = |address: IpAddr| format!("{address}/{}", if address.is_ipv4() { 24 } else { 64 });
    let pair = |f: &dyn Fn(bool) -> IpAddr| [text(f(true)), text(f(false))];
    let mut links = vec![("hosts".to_owned(), pair(&|v4| gateway(side, v4)))];
    let count = if plan.kind == SimFirewallKind::Transparent { plan.firewalls } else { 1 };
    for number in 0..count {
        links.push((format!("firewalls{number}"), pair(&|v4| engine_address(plan, side, number, v4))));
    }
    links.push(("around".to_owned(), pair(&|v4| bypass_address(side, v4))));
    links
}

/// An engine's address on the bypass around the firewalls.
fn bypass_address(side: Side, v4: bool) -> IpAddr {
    if v4 {
        Ipv4Addr::new(10, 9, 0, side as u8 + 1).into()
    } else {
        Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, side as u16 + 1).into()
    }
}

/// The configuration file of an engine.
pub fn configuration(plan: &SandwichPlan, side: Side) -> String {
    let mut text = String::new();
    let line = |text: &mut String, line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    let me = side as usize;
    let _ = writeln!(text, "[engine]\nname = \"{}\"\nworkers = {}\n", side.name(), plan.workers[me]);
    let _ = writeln!(text, "[limits]\nsessions = {}\npunts = {}\nneighbors = 64\n", plan.sessions, plan.punts);
    for (number, (name, addresses)) in links(plan, side).iter().enumerate() {
        let device = if plan.one_arm { 0 } else { number };
        let _ = writeln!(text, "[[link]]\nname = \"{name}\"\ndevice = \"eth{device}\"");
        if plan.one_arm {
            let _ = writeln!(text, "vlan = {}", 100 + number);
        }
        let _ = writeln!(text, "addresses = [\"{}\", \"{}\"]\n", addresses[0], addresses[1]);
    }
    if !plan.farm.services.is_empty() {
        line(&mut text, "[timeouts]\ntcp-closing = \"2s\"\n");
    }
    for (family, pool) in POOLS.iter().enumerate() {
        let v4 = family == 0;
        if plan.firewalls == 0 {
            let (prefix, via) = (hosts_prefix(side.other(), v4), bypass_address(side.other(), v4));
            let _ = writeln!(text, "[[route]]\nto = \"{prefix}\"\nvia = \"{via}\"\n");
            continue;
        }
        for prefix in [hosts_prefix(side.other(), v4), pool] {
            let _ = writeln!(
                text,
                "[[route]]\nto = \"{prefix}\"\ngroup = \"perimeter\"\npeer = \"{}\"",
                side.other().name()
            );
            if plan.below_min == BelowMin::Bypass {
                let _ = writeln!(text, "via = \"{}\"", bypass_address(side.other(), v4));
            }
            line(&mut text, "");
        }
    }
    if plan.firewalls > 0 {
        group(plan, side, &mut text);
    }
    text.push_str(&plan.farm.configuration(side));
    text
}

/// The group of firewalls in the configuration of an engine.
pub(super) fn group(plan: &SandwichPlan, side: Side, text: &mut String) {
    let me = side as usize;
    let on_failure = farm::on_failure_name(plan.on_failure);
    let below_min = match plan.below_min {
        BelowMin::Drop => "drop",
        BelowMin::Bypass => "bypass",
    };
    let _ = writeln!(
        text,
        "[[group]]\nname = \"perimeter\"\nseed = \"{}\"\non-failure = \"{on_failure}\"\nmin-up = {}\nbelow-min = \"{below_min}\"\n\
         drain-timeout = \"{}\"\n",
        plan.seeds[me], plan.min_up, plan.drain_timeout
    );
    let _ = writeln!(text, "[[group.peer]]\nname = \"{}\"", side.other().name());
    if plan.kind != SimFirewallKind::Transparent {
        let peer = |v4| engine_address(plan, side.other(), 0, v4);
        let _ = writeln!(text, "addresses = [\"{}\", \"{}\"]", peer(true), peer(false));
    }
    let _ = writeln!(text, "\n[group.check]\nhold = \"{}\"\n", plan.hold);
    for number in (0..plan.firewalls).filter(|number| plan.unknown[me] != Some(*number)) {
        let transparent = plan.kind == SimFirewallKind::Transparent;
        let link = if transparent { number } else { 0 };
        let address = |v4| firewall_address(plan, side, number, v4);
        let _ = writeln!(
            text,
            "[[group.firewall]]\nname = \"{}\"\nlink = \"firewalls{link}\"\naddresses = [\"{}\", \"{}\"]",
            firewall_name(number),
            address(true),
            address(false)
        );
        if transparent {
            text.push_str("learn-by = \"link\"\n");
        }
        text.push('\n');
    }
}

/// Builds the sandwich and starts its engines.
pub fn build(plan: &SandwichPlan, rng: &mut Rng) -> (World, Nodes) {
    let mut world = World::new(rng.fork(1));
    world.partial_checksums = plan.partial_checksums;
    let engines = Side::BOTH.map(|side| {
        let mut engine = SimEngine::new(&configuration(plan, side), rng.fork(2 + side as u64));
        engine.ports_per_worker = plan.farm.ports;
        world.add(Node::Engine(Box::new(engine)))
    });
    let shared = Rc::new(RefCell::new(Conntrack::default()));
    let firewalls: Vec<NodeId> = (0..plan.firewalls)
        .map(|number| {
            let table = if plan.kind == SimFirewallKind::Synced { shared.clone() } else { Rc::default() };
            world.add(Node::Firewall(Box::new(firewall(plan, number, &[], table))))
        })
        .collect();
    let hosts = Side::BOTH.map(|side| {
        let count = plan.hosts[side as usize];
        (0..count).map(|number| add_host(&mut world, plan, side, number, rng)).collect::<Vec<_>>()
    });
    let servers = (0..plan.farm.servers).map(|number| add_server(&mut world, plan, number, rng)).collect();
    let nodes = Nodes { engines, firewalls, hosts, servers };
    cable(plan, &mut world, &nodes);
    for engine in engines {
        world.with_engine(engine, SimEngine::start);
    }
    (world, nodes)
}

pub(super) fn add_host(world: &mut World, plan: &SandwichPlan, side: Side, number: usize, rng: &mut Rng) -> NodeId {
    let addresses = [true, false].map(|v4| host_address(side, number, v4)).to_vec();
    let mac = MacAddr([0x02, 0xaa, 0, 0, side as u8, number as u8]);
    let station = NetworkInterface::new(mac, addresses, false);
    let seat = host_network(plan, side, Vec::new());
    let host = Host::new(world.next_node(), station, seat, rng.fork(100 + number as u64), Instant::ZERO);
    world.add(Node::Host(Box::new(host)))
}

pub(super) fn add_server(world: &mut World, plan: &SandwichPlan, number: usize, rng: &mut Rng) -> NodeId {
    let addresses = [true, false].map(|v4| farm::server_address(number, v4)).to_vec();
    let station = NetworkInterface::new(farm::server_mac(number), addresses, false);
    let seat = host_network(plan, Side::Inner, plan.farm.loopbacks());
    let host = Host::new(world.next_node(), station, seat, rng.fork(200 + number as u64), Instant::ZERO);
    world.add(Node::Host(Box::new(host)))
}

/// The network configuration of a host of `side`.
fn host_network(plan: &SandwichPlan, side: Side, loopbacks: Vec<IpAddr>) -> HostNetwork {
    let gateways = [true, false].map(|v4| gateway(side, v4)).to_vec();
    let prefix = |v4| hosts_prefix(side, v4).parse().expect("a prefix");
    // The other hosts of the segment are directly attached only if there are services; otherwise no host talks to a
    // neighbour.
    let on_link = if plan.farm.services.is_empty() { Vec::new() } else { [true, false].map(prefix).to_vec() };
    // Hosts do no path MTU discovery, so their packets have to fit into a tunnel, as if an operator had lowered the
    // MSS.
    let has_tunnels = plan.farm.has_tunnels();
    HostNetwork {
        gateways,
        on_link,
        loopbacks,
        mtu: if has_tunnels { 1400 } else { 1500 },
        gso: plan.gso && !has_tunnels,
    }
}

/// A model firewall. `nodes` are addresses besides the engines' from which probes come.
pub(super) fn firewall(
    plan: &SandwichPlan,
    number: usize,
    nodes: &[IpAddr],
    table: Rc<RefCell<Conntrack>>,
) -> Firewall {
    let prefix = |text: &str| text.parse().expect("a prefix");
    let mut routes = Vec::new();
    for side in Side::BOTH {
        for v4 in [true, false] {
            let engine = engine_address(plan, side, 0, v4);
            routes.push((prefix(hosts_prefix(side, v4)), side.leg(), Some(engine)));
            let (bits, own) = (if v4 { 24 } else { 64 }, engine);
            routes.push((ipnet::IpNet::new(own, bits).expect("a prefix length").trunc(), side.leg(), None));
        }
    }
    let legs = Side::BOTH.map(|side| {
        let addresses = match plan.kind {
            SimFirewallKind::Transparent => Vec::new(),
            SimFirewallKind::Strict | SimFirewallKind::Loose | SimFirewallKind::Synced | SimFirewallKind::Nat => {
                [true, false].map(|v4| firewall_address(plan, side, number, v4)).to_vec()
            }
        };
        NetworkInterface::new(firewall_mac(number, side.leg()), addresses, true)
    });
    let pool = match plan.kind {
        SimFirewallKind::Nat => vec![
            Ipv4Addr::new(192, 0, 2, 11 + number as u8).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 11 + number as u16).into(),
        ],
        SimFirewallKind::Strict | SimFirewallKind::Loose | SimFirewallKind::Synced | SimFirewallKind::Transparent => {
            Vec::new()
        }
    };
    let engines = Side::BOTH.iter().flat_map(|side| [true, false].map(|v4| engine_address(plan, *side, number, v4)));
    let settings = FirewallSettings {
        kind: plan.kind,
        policy: plan.policy,
        routes,
        engines: engines.chain(nodes.iter().copied()).collect(),
        pool,
        mtu: plan.firewall_mtu,
    };
    Firewall::new(settings, legs, table)
}

/// Connects everything: a switch for the hosts of each side, one for the firewalls' legs of each side (one per
/// transparent firewall), and one for the bypass.
fn cable(plan: &SandwichPlan, world: &mut World, nodes: &Nodes) {
    let transparent = plan.kind == SimFirewallKind::Transparent;
    let round = world.add_segment();
    for side in Side::BOTH {
        let engine = nodes.engine(side);
        let hosts = world.add_segment();
        world.plug(engine, 0, hosts);
        for host in &nodes.hosts[side as usize] {
            world.plug(*host, 0, hosts);
        }
        if side == Side::Inner {
            for server in &nodes.servers {
                world.plug(*server, 0, hosts);
            }
        }
        let count = if transparent { plan.firewalls } else { 1 };
        let segments: Vec<usize> = (0..count).map(|_| world.add_segment()).collect();
        for (number, segment) in segments.iter().enumerate() {
            world.plug(engine, 1 + number, *segment);
        }
        for (number, firewall) in nodes.firewalls.iter().enumerate() {
            let segment = segments[if transparent { number } else { 0 }];
            world.plug(*firewall, side.leg().index(), segment);
        }
        world.plug(engine, 1 + count, round);
    }
}

/// The device of an engine's link.
pub fn device_of(plan: &SandwichPlan, link: usize) -> usize {
    if plan.one_arm { 0 } else { link }
}
