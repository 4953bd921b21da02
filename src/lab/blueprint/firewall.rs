//! The firewalls: their cables, their addresses and their rules.

use super::{STATION_SYSCTLS, assign, disable_offloads, namespaces, network, plug};
use crate::lab::command::Command;
use crate::lab::topology::{FirewallKind, Side, Station, Topology};

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
