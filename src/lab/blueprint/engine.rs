//! The engines' namespaces, with devices but without addresses, because the engines own the devices; and the cable
//! between the two engines of a pair, which belongs to the kernel.

use super::{STATION_SYSCTLS, assign, disable_offloads, network, plug};
use crate::lab::command::Command;
use crate::lab::topology::{Engine, FirewallKind, RoutingSetup, Side, Station, Topology};

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

/// A cable of an engine, named after what is at its other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EngineCable {
    /// The clients.
    Clients,
    /// The firewalls that route. Firewalls of other kinds have a cable each, which counts as theirs.
    Firewalls,
    /// The servers.
    Servers,
    /// The other engine of the pair.
    Sync,
}

impl EngineCable {
    /// Its word, as in `fwlb lab fail outer-a --leg firewalls`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Firewalls => "firewalls",
            Self::Servers => "servers",
            Self::Sync => "sync",
        }
    }
}

/// The cable of an engine to a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchCable {
    /// Which one it is.
    pub cable: EngineCable,
    /// The switch's port, a device in the namespace of the switches.
    pub port: String,
    /// The engine's device.
    device: String,
    bridge: String,
    mtu: u16,
}

/// The cables of an engine to switches.
pub fn switch_cables(lab: &Topology, engine: Engine) -> Vec<SwitchCable> {
    let (side, name) = (engine.side, engine.name());
    let make = |cable, device: &str, port: String, bridge: String, mtu| SwitchCable {
        cable,
        port,
        device: device.to_owned(),
        bridge,
        mtu,
    };
    let mut cables = Vec::new();
    if side == Side::Outer || lab.routers == RoutingSetup::Single {
        let port = if side == Side::Outer { format!("{name}-near") } else { format!("{name}-clients") };
        cables.push(make(EngineCable::Clients, host_device(Side::Outer), port, "br-clients".to_owned(), 1500));
    }
    if side == Side::Inner {
        let (device, port) = (host_device(side), format!("{name}-near"));
        cables.push(make(EngineCable::Servers, device, port, "br-servers".to_owned(), lab.server_mtu));
    }
    if !lab.kind.is_layer2() && lab.routers != RoutingSetup::Single {
        let mtu = match side {
            Side::Outer => 1500,
            Side::Inner => lab.inner_mtu,
        };
        let (device, bridge) = (format!("fw-{}", side.engine()), format!("br-{}", side.engine()));
        cables.push(make(EngineCable::Firewalls, &device, format!("{name}-far"), bridge, mtu));
    }
    if engine.node.is_some() {
        cables.push(make(EngineCable::Sync, SYNC_DEVICE, format!("{name}-sync"), sync_bridge(side), 1500));
    }
    cables
}

/// The device of a pair's engine toward the other one; it is the kernel's.
const SYNC_DEVICE: &str = "sync";

/// The switch between the two engines of a pair.
pub(super) fn sync_bridge(side: Side) -> String {
    format!("br-{}-sync", side.engine())
}

/// Takes a cable of an engine down, or up again if `up`.
pub fn engine_cable(lab: &Topology, cable: &SwitchCable, up: bool) -> Command {
    let state = if up { "up" } else { "down" };
    Command::ip_in(&lab.namespace(Station::Switch), &[format!("link set {} {state}", cable.port)])
}

/// Lets a switch drop whatever comes from an engine's cable or is for it, or pass it again if `passes`. The engine's
/// device keeps its carrier, and the switch what it has learned.
pub fn engine_port(lab: &Topology, cable: &SwitchCable, passes: bool) -> Command {
    // The states disabled and forwarding of `BR_STATE_*` in linux/if_bridge.h. `ip link set ... type bridge_slave` would set
    // the port's other properties, too, and forward again.
    let state = if passes { "3" } else { "0" };
    let switch = lab.namespace(Station::Switch);
    Command::new(["ip", "netns", "exec", &switch, "bridge", "link", "set", "dev", &cable.port, "state", state])
}

/// The commands for the engines of the lab.
pub(super) fn engines(lab: &Topology) -> Vec<Command> {
    let mut commands = Vec::new();
    for engine in lab.engines() {
        let namespace = lab.namespace(engine.station());
        commands.push(Command::sysctl(&namespace, STATION_SYSCTLS));
        // For programs that use loopback: the engine's API, and what an operator runs beside it.
        commands.push(Command::ip_in(&namespace, &["link set lo up".to_owned()]));
        for SwitchCable { device, port, bridge, mtu, .. } in switch_cables(lab, engine) {
            commands.extend(plug(lab, engine.station(), &device, &port, &bridge, mtu));
        }
        if let Some(node) = engine.node {
            let address = Topology::sync(engine.side, node);
            commands.push(Command::ip_in(&namespace, &[format!("address add {address}/24 dev {SYNC_DEVICE}")]));
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

/// The addresses and routes of kernel routers in place of engines.
pub(super) fn kernel_routers(lab: &Topology, outer: u8, inner: u8) -> Vec<Command> {
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
