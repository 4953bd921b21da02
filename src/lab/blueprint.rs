//! Turns a [`Topology`] into the commands that make its namespaces, cables, switches and firewalls. It runs nothing
//! itself.
//!
//! ```text
//!  client ──┬── outer ──┬── fw1 ──┬── inner ──┬── s1
//!           │           ├── fw2 ──┤           └── s2
//!       br-clients   br-outer  br-inner   br-servers        (bridges, all in the switch namespace)
//! ```
//!
//! Where each side has a pair of engines, both of a side are on the same two bridges, and on a third one of their own
//! (`br-outer-sync`, `br-inner-sync`).
//!
//! Every cable is a veth pair with default offloads. Its switch end is named after the station at the other end, so
//! that the cable is cut by taking that port down. Transparent firewalls have cables to both engines instead of a
//! switch between them.

mod engine;
mod firewall;

use super::command::Command;
use super::farm::ServiceMode;
use super::topology::{AddressPair, FirewallKind, RoutingSetup, Side, Station, Topology};

pub use engine::{EngineCable, SwitchCable, engine_cable, engine_port, firewall_devices, host_device, switch_cables};
pub use firewall::{FirewallCable, cable, cable_end, firewall};

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
/// Servers forget a connection when both sides have closed it. A server in TIME-WAIT answers the SYN of a client that
/// uses the port again with an ACK; the client resets it, and conntrack at the firewalls counts the server's next SYN-ACK
/// as invalid. That is no fault of an engine, by which tests and the tour judge them.
const NO_TIME_WAIT: &str = "net.ipv4.tcp_max_tw_buckets=0";

/// The commands that build the whole lab, in order.
pub fn build(lab: &Topology) -> Vec<Command> {
    let firewalls: Vec<u8> = if lab.kind == FirewallKind::Vlan { Vec::new() } else { (1..=lab.firewalls).collect() };
    let mut commands =
        vec![namespaces(lab, lab.stations().into_iter().filter(|node| !matches!(node, Station::Firewall(_))))];
    commands.extend(switch(lab));
    commands.extend(host(lab, Station::Client, "br-clients", lab.client(), lab.outer_toward_client(), 1500));
    for (server, address) in lab.server_stations() {
        commands.extend(host(lab, server, "br-servers", address, lab.inner_toward_servers(), lab.server_mtu));
        commands.push(Command::sysctl(&lab.namespace(server), [NO_TIME_WAIT]));
        if lab.farm.as_ref().is_some_and(|farm| farm.mode == ServiceMode::Direct) {
            commands.extend(direct_server(lab, server));
        }
    }
    commands.extend(engine::engines(lab));
    for number in firewalls {
        commands.extend(firewall(lab, number));
    }
    if let RoutingSetup::Kernel { outer, inner } = lab.routers {
        commands.extend(engine::kernel_routers(lab, outer, inner));
    }
    commands
}

fn namespaces(lab: &Topology, nodes: impl IntoIterator<Item = Station>) -> Command {
    Command::ip(&nodes.into_iter().map(|node| format!("netns add {}", lab.namespace(node))).collect::<Vec<_>>())
}

fn switch(lab: &Topology) -> Vec<Command> {
    let namespace = lab.namespace(Station::Switch);
    let mut bridges = ["br-clients", "br-outer", "br-inner", "br-servers"].map(String::from).to_vec();
    if lab.routers == RoutingSetup::Pairs {
        bridges.extend(Side::BOTH.map(engine::sync_bridge));
    }
    let lines: Vec<_> = bridges
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

/// The networks of an address pair.
pub(super) fn network(address: AddressPair) -> [String; 2] {
    let [a, b, c, _] = address.v4.octets();
    let [e, f, g, h, ..] = address.v6.segments();
    [format!("{a}.{b}.{c}.0/24"), format!("{}/64", std::net::Ipv6Addr::new(e, f, g, h, 0, 0, 0, 0))]
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

        let commands = text(&engine::engines(&lab));

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
    fn both_engines_of_a_pair_are_on_the_same_switches_and_on_one_of_their_own() {
        let lab = Topology { routers: RoutingSetup::Pairs, ..Topology::new("fwlb") };

        let commands = text(&build(&lab));

        for name in ["outer-a", "outer-b"] {
            for (port, bridge) in [("near", "br-clients"), ("far", "br-outer"), ("sync", "br-outer-sync")] {
                assert!(commands.contains(&format!("link set {name}-{port} master {bridge}")), "{commands}");
            }
        }
        assert!(
            commands.contains("ip -n fwlb-inner-b -batch - <<END\naddress add 10.255.2.2/24 dev sync"),
            "{commands}"
        );
        let ports = commands.lines().filter_map(|line| line.split(" peer name ").nth(1)?.split(' ').next());
        assert!(ports.clone().count() > 12 && ports.into_iter().all(|port| port.len() <= 15), "names of devices");
    }

    #[test]
    fn a_switch_that_drops_keeps_the_carrier() {
        let lab = Topology { routers: RoutingSetup::Pairs, ..Topology::new("fwlb") };
        let [first, _] = Side::Outer.pair();
        let cables = switch_cables(&lab, first);
        let near = cables.iter().find(|cable| cable.cable == EngineCable::Clients).unwrap();

        let words = "ip netns exec fwlb-switch bridge link set dev outer-a-near state 0";
        assert_eq!(engine_port(&lab, near, false), Command::new(words.split(' ')));
        assert_eq!(
            engine_cable(&lab, near, false),
            Command::ip_in("fwlb-switch", &["link set outer-a-near down".to_owned()])
        );
    }

    #[test]
    fn half_dead_firewalls_lose_one_cable() {
        let lab = Topology::new("fwlb");

        let cut = cable(&lab, 2, FirewallCable::Inner, false);

        assert_eq!(cut, [Command::ip_in("fwlb-switch", &["link set fw2-inner down".to_owned()])]);
    }
}
