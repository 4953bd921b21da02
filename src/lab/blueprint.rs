//! Turns a [`Topology`] into the commands that make its namespaces, cables, switches and firewalls. It runs nothing
//! itself.
//!
//! ```text
//!  client ──┬── outer ──┬── fw1 ──┬── inner ──┬── s1
//!           │           ├── fw2 ──┤           └── s2
//!       br-clients   br-outer  br-inner   br-servers        (bridges, all in the switch namespace)
//! ```
//!
//! Every cable is a veth pair with default offloads. Its switch end is named after the station at the other end, so
//! that the cable is cut by taking that port down. Transparent firewalls have cables to both engines instead of a
//! switch between them.

use super::command::Command;
use super::farm::ServiceMode;
use super::topology::{AddressPair, FirewallKind, RoutingSetup, Side, Station, Topology};

/// Kernel settings of every station: no reverse path filter (some tests use asymmetric paths), no duplicate address
/// detection and no router advertisements (so that addresses work at once), and no limit on ICMP errors, which tests
/// count.
const STATION_SYSCTLS: [&str; 8] = [
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv4.icmp_ratelimit=0",
    "net.ipv6.icmp.ratelimit=0",
    "net.ipv6.conf.all.accept_dad=0",
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.all.accept_ra=0",
    "net.ipv6.conf.default.accept_ra=0",
];

/// The cable by which a firewall is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirewallCable {
    /// The one toward the clients.
    Outer,
    /// The one toward the servers.
    Inner,
    /// Both cables.
    Both,
}

impl FirewallCable {
    const fn sides(self) -> &'static [Side] {
        match self {
            Self::Outer => &[Side::Outer],
            Self::Inner => &[Side::Inner],
            Self::Both => &Side::BOTH,
        }
    }
}

/// The commands that build the whole lab, in order.
pub fn build(lab: &Topology) -> Vec<Command> {
    let firewalls: Vec<u8> = if lab.kind == FirewallKind::Vlan { Vec::new() } else { (1..=lab.firewalls).collect() };
    let mut commands =
        vec![namespaces(lab, lab.stations().into_iter().filter(|node| !matches!(node, Station::Firewall(_))))];
    commands.extend(switch(lab));
    commands.extend(host(lab, Station::Client, "br-clients", lab.client(), lab.outer_toward_client(), 1500));
    for (server, address) in lab.server_stations() {
        commands.extend(host(lab, server, "br-servers", address, lab.inner_toward_servers(), lab.server_mtu));
        if lab.farm.as_ref().is_some_and(|farm| farm.mode == ServiceMode::Direct) {
            commands.extend(direct_server(lab, server));
        }
    }
    commands.extend(engines(lab));
    for number in firewalls {
        commands.extend(firewall(lab, number));
    }
    if let RoutingSetup::Kernel { outer, inner } = lab.routers {
        commands.extend(kernel_routers(lab, outer, inner));
    }
    commands
}

/// The commands for one firewall: its namespace, its cables, its rules. After its namespace was deleted, they boot it
/// again.
pub fn firewall(lab: &Topology, number: u8) -> Vec<Command> {
    let node = Station::Firewall(number);
    let namespace = lab.namespace(node);
    let mut commands = vec![namespaces(lab, [node])];
    if lab.kind.is_layer2() {
        commands.extend(transparent_firewall(lab, number));
    } else {
        commands.extend(routing_firewall(lab, number));
    }
    commands.push(Command::nft(&namespace, ruleset(lab, number)));
    commands
}

/// Takes a firewall's cable down, or up again if `up`.
pub fn cable(lab: &Topology, number: u8, leg: FirewallCable, up: bool) -> Vec<Command> {
    let state = if up { "up" } else { "down" };
    let ends: Vec<_> = leg.sides().iter().filter_map(|side| cable_end(lab, number, *side)).collect();
    let Some((namespace, _)) = ends.first() else { return Vec::new() };
    let lines: Vec<_> = ends.iter().map(|(_, device)| format!("link set {device} {state}")).collect();
    vec![Command::ip_in(namespace, &lines)]
}

/// The end by which a firewall's cable is cut, as namespace and device; `None` for paths that are VLANs of one trunk.
pub fn cable_end(lab: &Topology, number: u8, side: Side) -> Option<(String, String)> {
    let side = side.engine();
    match lab.kind {
        FirewallKind::Strict | FirewallKind::Loose | FirewallKind::Nat => {
            Some((lab.namespace(Station::Switch), format!("fw{number}-{side}")))
        }
        FirewallKind::Transparent => Some((lab.namespace(Station::Firewall(number)), side.to_owned())),
        FirewallKind::Vlan => None,
    }
}

/// The devices of an engine toward the firewalls, with the number of the firewall behind each (0: all of them).
pub fn firewall_devices(lab: &Topology, side: Side) -> Vec<(String, u8)> {
    let side = side.engine();
    match lab.kind {
        FirewallKind::Strict | FirewallKind::Loose | FirewallKind::Nat => vec![(format!("fw-{side}"), 0)],
        FirewallKind::Transparent => (1..=lab.firewalls).map(|number| (format!("fw{number}-{side}"), number)).collect(),
        FirewallKind::Vlan => vec![(format!("trunk-{side}"), 0)],
    }
}

/// The device of an engine toward its hosts.
pub const fn host_device(side: Side) -> &'static str {
    match side {
        Side::Outer => "clients",
        Side::Inner => "servers",
    }
}

fn namespaces(lab: &Topology, nodes: impl IntoIterator<Item = Station>) -> Command {
    Command::ip(&nodes.into_iter().map(|node| format!("netns add {}", lab.namespace(node))).collect::<Vec<_>>())
}

fn switch(lab: &Topology) -> Vec<Command> {
    let namespace = lab.namespace(Station::Switch);
    let lines: Vec<_> = ["br-clients", "br-outer", "br-inner", "br-servers"]
        .iter()
        .flat_map(|bridge| [format!("link add {bridge} type bridge mcast_snooping 0"), format!("link set {bridge} up")])
        .collect();
    vec![
        // A switch only carries what its ports receive: it has no addresses and no filter of its own.
        Command::sysctl(&namespace, ["net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"]),
        Command::sysctl_if_present(
            &namespace,
            ["net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0"],
        ),
        Command::ip_in(&namespace, &lines),
    ]
}

/// A cable from a station to a port of a bridge.
fn plug(lab: &Topology, node: Station, device: &str, port: &str, bridge: &str, mtu: u16) -> Vec<Command> {
    let (station, switch) = (lab.namespace(node), lab.namespace(Station::Switch));
    vec![
        Command::ip(&[format!(
            "link add name {device} mtu {mtu} netns {station} type veth peer name {port} mtu {mtu} netns {switch}"
        )]),
        Command::ip_in(&switch, &[format!("link set {port} master {bridge}"), format!("link set {port} up")]),
        Command::ip_in(&station, &[format!("link set {device} up")]),
    ]
    .into_iter()
    .chain(disable_offloads(lab, &station, device))
    .collect()
}

/// Where the engines use AF_XDP, each end of a cable has to finish its checksums and tags, because offloaded work is
/// not carried.
fn disable_offloads(lab: &Topology, namespace: &str, device: &str) -> Option<Command> {
    let words =
        ["ip", "netns", "exec", namespace, "ethtool", "-K", device, "tx", "off", "txvlan", "off", "rxvlan", "off"];
    lab.is_xdp().then(|| Command::new(words))
}

fn host(
    lab: &Topology,
    node: Station,
    bridge: &str,
    address: AddressPair,
    router: AddressPair,
    mtu: u16,
) -> Vec<Command> {
    let namespace = lab.namespace(node);
    let mut commands = vec![Command::sysctl(&namespace, STATION_SYSCTLS)];
    commands.extend(plug(lab, node, "eth0", &node.to_string(), bridge, mtu));
    let mut lines = vec!["link set lo up".to_owned()];
    lines.extend(assign("eth0", address));
    lines.extend(router.both().map(|router| format!("route add default via {router}")));
    commands.push(Command::ip_in(&namespace, &lines));
    commands
}

/// Lets a server accept packets for the VIP without announcing that address, as `fwlb check` demands of the servers of
/// a `direct` service.
fn direct_server(lab: &Topology, server: Station) -> Vec<Command> {
    let namespace = lab.namespace(server);
    let vip = lab.vip();
    vec![
        Command::sysctl(&namespace, ["net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2"]),
        Command::ip_in(
            &namespace,
            &[format!("address add {}/32 dev lo", vip.v4), format!("address add {}/128 dev lo nodad", vip.v6)],
        ),
    ]
}

/// Takes a server's cable down, or up again if `up`.
pub fn server_cable(lab: &Topology, server: Station, up: bool) -> Command {
    let state = if up { "up" } else { "down" };
    Command::ip_in(&lab.namespace(Station::Switch), &[format!("link set {server} {state}")])
}

fn assign(device: &str, address: AddressPair) -> Vec<String> {
    let [v4, v6] = address.subnets();
    vec![format!("address add {v4} dev {device}"), format!("address add {v6} dev {device} nodad")]
}

/// The engines' namespaces, with devices but without addresses, because the engines own the devices.
fn engines(lab: &Topology) -> Vec<Command> {
    let mut commands: Vec<_> =
        lab.sides().iter().map(|side| Command::sysctl(&lab.namespace(side.node()), STATION_SYSCTLS)).collect();
    // For programs that use loopback: the engine's API, and what an operator runs beside it.
    let loopback = |side: &Side| Command::ip_in(&lab.namespace(side.node()), &["link set lo up".to_owned()]);
    commands.extend(lab.sides().iter().map(loopback));
    if lab.routers == RoutingSetup::Single {
        commands.extend(plug(lab, Station::Inner, host_device(Side::Outer), "inner-clients", "br-clients", 1500));
        commands.extend(plug(
            lab,
            Station::Inner,
            host_device(Side::Inner),
            "inner-near",
            "br-servers",
            lab.server_mtu,
        ));
        return commands;
    }
    for side in Side::BOTH {
        let (bridge, mtu) = match side {
            Side::Outer => ("br-clients", 1500),
            Side::Inner => ("br-servers", lab.server_mtu),
        };
        commands.extend(plug(lab, side.node(), host_device(side), &format!("{}-near", side.engine()), bridge, mtu));
        if !lab.kind.is_layer2() {
            let (bridge, mtu) = match side {
                Side::Outer => ("br-outer", 1500),
                Side::Inner => ("br-inner", lab.inner_mtu),
            };
            let device = format!("fw-{}", side.engine());
            commands.extend(plug(lab, side.node(), &device, &format!("{}-far", side.engine()), bridge, mtu));
        }
    }
    if lab.kind == FirewallKind::Vlan {
        let [outer, inner] = [Station::Outer, Station::Inner].map(|node| lab.namespace(node));
        commands.push(Command::ip(&[format!(
            "link add name trunk-outer netns {outer} type veth peer name trunk-inner netns {inner}"
        )]));
        for side in Side::BOTH {
            let up = format!("link set trunk-{} up", side.engine());
            let namespace = lab.namespace(side.node());
            commands.push(Command::ip_in(&namespace, &[up]));
            commands.extend(disable_offloads(lab, &namespace, &format!("trunk-{}", side.engine())));
        }
    }
    commands
}

fn routing_firewall(lab: &Topology, number: u8) -> Vec<Command> {
    let node = Station::Firewall(number);
    let namespace = lab.namespace(node);
    let loose = u8::from(lab.kind == FirewallKind::Loose);
    let mut commands = vec![
        Command::sysctl(&namespace, STATION_SYSCTLS),
        Command::sysctl(
            &namespace,
            [
                "net.ipv4.ip_forward=1".to_owned(),
                "net.ipv6.conf.all.forwarding=1".to_owned(),
                format!("net.netfilter.nf_conntrack_tcp_loose={loose}"),
                format!("net.netfilter.nf_conntrack_tcp_be_liberal={loose}"),
            ],
        ),
    ];
    commands.extend(plug(lab, node, "outer", &format!("fw{number}-outer"), "br-outer", 1500));
    commands.extend(plug(lab, node, "inner", &format!("fw{number}-inner"), "br-inner", lab.inner_mtu));
    let mut lines = vec!["link set lo up".to_owned()];
    lines.extend(assign("outer", lab.leg(Side::Outer, number)));
    lines.extend(assign("inner", lab.leg(Side::Inner, number)));
    let toward = [
        (lab.outer_toward_client(), lab.outer_toward_firewalls(number)),
        (lab.inner_toward_servers(), lab.inner_toward_firewalls(number)),
    ];
    let services = lab.farm.as_ref().map(|_| (lab.vip(), lab.inner_toward_firewalls(number)));
    for (net, router) in toward.into_iter().chain(services) {
        lines.push(format!("route add {} via {}", network(net)[0], router.v4));
        lines.push(format!("route add {} via {}", network(net)[1], router.v6));
    }
    commands.push(Command::ip_in(&namespace, &lines));
    commands
}

/// A bridge whose packets the kernel passes to the firewall rules.
fn transparent_firewall(lab: &Topology, number: u8) -> Vec<Command> {
    let namespace = lab.namespace(Station::Firewall(number));
    let mut commands = vec![
        Command::sysctl(
            &namespace,
            [
                "net.ipv6.conf.all.disable_ipv6=1",
                "net.ipv6.conf.default.disable_ipv6=1",
                "net.netfilter.nf_conntrack_tcp_loose=0",
                "net.bridge.bridge-nf-call-iptables=1",
                "net.bridge.bridge-nf-call-ip6tables=1",
            ],
        ),
        Command::ip_in(
            &namespace,
            &["link add br0 type bridge mcast_snooping 0".to_owned(), "link set br0 up".to_owned()],
        ),
    ];
    for side in Side::BOTH {
        let (name, engine) = (side.engine(), lab.namespace(side.node()));
        commands.push(Command::ip(&[format!(
            "link add name {name} netns {namespace} type veth peer name fw{number}-{name} netns {engine}"
        )]));
        commands
            .push(Command::ip_in(&namespace, &[format!("link set {name} master br0"), format!("link set {name} up")]));
        commands.push(Command::ip_in(&engine, &[format!("link set fw{number}-{name} up")]));
        commands.extend(disable_offloads(lab, &engine, &format!("fw{number}-{name}")));
    }
    commands
}

/// The rules of a strict firewall (`docs/protocols.md`, 0.3). `untracked` is neighbour discovery through a bridge.
fn ruleset(lab: &Topology, number: u8) -> String {
    let not_syn = match lab.kind {
        FirewallKind::Loose => "",
        FirewallKind::Strict | FirewallKind::Nat | FirewallKind::Transparent | FirewallKind::Vlan => {
            "ct state new tcp flags & (fin | syn | rst | ack) != syn counter name new_not_syn drop"
        }
    };
    let mut rules = format!(
        "table inet fwlb {{
    counter invalid {{ }}
    counter new_not_syn {{ }}
    counter passed {{ }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state invalid counter name invalid drop
        {not_syn}
        ct state {{ new, established, related, untracked }} counter name passed accept
    }}
}}
"
    );
    if lab.kind == FirewallKind::Nat {
        let clients = network(lab.client());
        rules += &format!(
            "table inet translate {{
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        oifname \"inner\" ip saddr {} snat ip to 10.3.{number}.1-10.3.{number}.14
        oifname \"inner\" ip6 saddr {} snat ip6 to fd00:3:{number}::1-fd00:3:{number}::e
    }}
}}
",
            clients[0], clients[1]
        );
    }
    rules
}

/// The networks of an address pair.
pub(super) fn network(address: AddressPair) -> [String; 2] {
    let [a, b, c, _] = address.v4.octets();
    let [e, f, g, h, ..] = address.v6.segments();
    [format!("{a}.{b}.{c}.0/24"), format!("{}/64", std::net::Ipv6Addr::new(e, f, g, h, 0, 0, 0, 0))]
}

fn kernel_routers(lab: &Topology, outer: u8, inner: u8) -> Vec<Command> {
    let mut commands = Vec::new();
    let routes = [
        (
            Side::Outer,
            lab.outer_toward_client(),
            lab.outer_toward_firewalls(outer),
            lab.inner_toward_servers(),
            lab.leg(Side::Outer, outer),
        ),
        (
            Side::Inner,
            lab.inner_toward_servers(),
            lab.inner_toward_firewalls(inner),
            lab.outer_toward_client(),
            lab.leg(Side::Inner, inner),
        ),
    ];
    for (side, near, far, beyond, firewall) in routes {
        let namespace = lab.namespace(side.node());
        commands.push(Command::sysctl(&namespace, ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]));
        let mut lines = assign(host_device(side), near);
        lines.extend(assign(&format!("fw-{}", side.engine()), far));
        lines.push(format!("route add {} via {}", network(beyond)[0], firewall.v4));
        lines.push(format!("route add {} via {}", network(beyond)[1], firewall.v6));
        commands.push(Command::ip_in(&namespace, &lines));
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(commands: &[Command]) -> String {
        commands.iter().map(|command| format!("{command}\n")).collect()
    }

    #[test]
    fn strict_firewalls_drop_and_count_what_they_have_no_state_for() {
        let lab = Topology::new("fwlb");

        let commands = text(&firewall(&lab, 1));

        assert!(commands.contains("nf_conntrack_tcp_loose=0"), "{commands}");
        assert!(commands.contains("ct state invalid counter name invalid drop"));
        assert!(commands.contains("!= syn counter name new_not_syn drop"));
        assert!(commands.contains("policy drop"));
        assert!(commands.contains("route add 203.0.113.0/24 via 10.2.0.1"));
        assert!(commands.contains("route add 2001:db8:1::/64 via fd00:1::1"));
    }

    #[test]
    fn no_device_of_a_lab_ever_stands_in_the_callers_namespace() {
        for kind in [FirewallKind::Strict, FirewallKind::Transparent, FirewallKind::Vlan] {
            for command in build(&Topology { kind, ..Topology::new("fwlb") }) {
                let outside = command.words == ["ip", "-batch", "-"];
                for line in command.input.lines().filter(|_| outside) {
                    let ends = line.matches(" netns fwlb-").count();
                    assert!(line.starts_with("netns add fwlb-") || ends == 2, "{line}");
                }
            }
        }
    }

    #[test]
    fn engines_devices_get_no_address_from_the_lab() {
        let lab = Topology::new("fwlb");

        let commands = text(&engines(&lab));

        assert!(!commands.contains("address add"), "{commands}");
        assert!(!commands.contains("ethtool"));
    }

    #[test]
    fn where_xdp_carries_the_frames_every_station_finishes_what_it_sends() {
        let lab = Topology::new("fwlb").with("engine", "io", "af-xdp");

        let commands = text(&build(&lab));

        for (node, device) in [(Station::Client, "eth0"), (Station::Firewall(1), "inner"), (Station::Outer, "clients")]
        {
            let words = format!("netns exec {} ethtool -K {device} tx off", lab.namespace(node));
            assert!(commands.contains(&words), "{words}\n{commands}");
        }
    }

    #[test]
    fn half_dead_firewalls_lose_one_cable() {
        let lab = Topology::new("fwlb");

        let cut = cable(&lab, 2, FirewallCable::Inner, false);

        assert_eq!(cut, [Command::ip_in("fwlb-switch", &["link set fw2-inner down".to_owned()])]);
    }
}
