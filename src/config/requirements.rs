//! Works out what a configuration requires of its surroundings: what the firewalls must permit, how servers are
//! checked, and how long it takes to detect a failure. `fwlb check` prints it.

use std::fmt::Write;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::config::value::format_duration;
use crate::config::{
    Config, Firewall, ForwardingMode, Group, PathCheckKind, Peer, Scheduler, Service, ServiceCheck, ServiceCheckKind,
    format_ports,
};
use crate::nat::ports::{PORTS, PORTS_PER_FREE};
use crate::time::Duration;
use crate::wire::Family;

/// A probe that a firewall must permit together with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// Name of the group that the firewall belongs to.
    pub group: String,
    /// Name of the firewall that the probe passes.
    pub firewall: String,
    /// Name of the peer that the probe goes to.
    pub peer: String,
    /// The kind of probe: `icmp echo`, `tcp port 7`.
    pub probe: String,
    /// The source: this engine's address.
    pub source: IpAddr,
    /// The destination: the peer's address.
    pub destination: IpAddr,
}

/// The probes that this engine sends, in the order of the configuration.
pub fn permits(config: &Config) -> Vec<Permit> {
    let mut permits = Vec::new();
    for group in &config.groups {
        let Some(what) = probe_name(group.check.kind) else { continue };
        for firewall in group.firewalls.iter().map(|id| &config.firewalls[id.index()]) {
            for peer in group.peers.iter().map(|id| &config.peers[id.index()]) {
                for (source, destination) in address_pairs(config, firewall, peer) {
                    permits.push(Permit {
                        group: group.name.clone(),
                        firewall: firewall.name.clone(),
                        peer: peer.name.clone(),
                        probe: what.clone(),
                        source,
                        destination,
                    });
                }
            }
        }
    }
    permits
}

/// The longest time after which the failure of a firewall is detected, and the time for which a recovered one must
/// answer before it is used again.
pub fn detection(group: &Group) -> (Duration, Duration) {
    let check = &group.check;
    (check.interval * u32::from(check.fall) + check.timeout, check.interval * u32::from(check.rise))
}

/// The longest time after which the failure of a server is detected, and the time for which a recovered one must answer
/// before it is used again; `None` without checks.
pub fn server_detection(check: &ServiceCheck) -> Option<(Duration, Duration)> {
    if check.kind == ServiceCheckKind::None {
        return None;
    }
    let failed = check.interval * u32::from(check.fall) + check.timeout;
    let down = check.down_after.map_or(failed, |after| after.min(failed));
    Some((down, check.dead_interval * u32::from(check.rise) + check.timeout))
}

/// The requirements as text for `fwlb check`.
pub fn requirements(config: &Config) -> String {
    let mut text = String::new();
    let permits = permits(config);
    for group in &config.groups {
        let (down, up) = detection(group);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  group {}: {}", group.name, numbers(config, group));
        if group.check.kind == PathCheckKind::None {
            let _ = writeln!(text, "    no probes: a firewall is as up as its link and its neighbour entry");
            continue;
        }
        let hold = match group.check.hold {
            Duration::ZERO => String::new(),
            hold => format!(" and a hold of {}", format_duration(hold)),
        };
        let (down, up) = (format_duration(down), format_duration(up));
        let _ =
            writeln!(text, "    a dead firewall is out within {down}, a good one takes flows again after {up}{hold}");
        let _ = writeln!(text, "    its firewalls must permit these probes and their answers, untranslated:");
        for permit in permits.iter().filter(|permit| permit.group == group.name) {
            let Permit { firewall, peer, probe: what, source, destination, .. } = permit;
            let _ = writeln!(text, "      {firewall}: {what} from {source} to {destination} (peer {peer})");
        }
    }
    for service in &config.services {
        let _ = writeln!(text, "  service {}: {}", service.name, service_line(config, service));
        if service.mode == ForwardingMode::Direct {
            text.push_str(&direct_servers(&service.addresses));
        }
        text.push_str(&more_specific(config, service));
        text.push_str(&snat_capacity(config, service));
        let Some((down, up)) = server_detection(&service.check) else {
            let _ = writeln!(text, "    no checks: its servers are always up");
            continue;
        };
        let (down, up) = (format_duration(down), format_duration(up));
        let _ = writeln!(text, "    checked by {}", check_line(config, service));
        let _ = writeln!(text, "    a dead server is out within {down}, a good one is in again within {up}");
    }
    text
}

/// How many flows of a `full-nat` service fit, by the ports of the addresses that stand for clients.
fn snat_capacity(config: &Config, service: &Service) -> String {
    let mut text = String::new();
    if service.mode != ForwardingMode::FullNat {
        return text;
    }
    for family in [Family::V4, Family::V6] {
        let is_of = |address: &&IpAddr| Family::of(**address) == family;
        if !service.addresses.iter().any(|vip| is_of(&vip)) {
            continue;
        }
        // A service without addresses of its own has the engine's on the link toward the server.
        let addresses = service.snat.iter().filter(is_of).count().max(1);
        let flows = (addresses * PORTS.len()).min(config.limits.sessions);
        let of_one = flows - flows / (PORTS_PER_FREE as usize + 1);
        let of_one = config.limits.source.sessions.map_or(of_one, |limit| of_one.min(limit as usize));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "    {flows} {} flows at a time to each server port by {addresses} source address{}; one client gets {of_one} at most",
            if family == Family::V4 { "IPv4" } else { "IPv6" },
            if addresses == 1 { "" } else { "es" }
        );
    }
    text
}

/// Lines about ports within a range of the service that belong to another service of the same VIP, because its port is
/// more specific.
fn more_specific(config: &Config, service: &Service) -> String {
    let mut text = String::new();
    for other in config.services.iter().filter(|other| other.name != service.name) {
        let protocol = other.protocols.iter().find(|protocol| service.protocols.contains(protocol));
        let vip = other.addresses.iter().find(|vip| service.addresses.contains(vip));
        let (Some(protocol), Some(vip)) = (protocol, vip) else { continue };
        let is_inside = |inner: &&RangeInclusive<u16>| {
            service
                .ports
                .iter()
                .any(|outer| outer.start() <= inner.start() && inner.end() <= outer.end() && outer.len() > inner.len())
        };
        let ports: Vec<_> = other.ports.iter().filter(is_inside).take(8).map(format_ports).collect();
        if !ports.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "    {} port {} of {vip} is not its own but that of service {}, which is more specific",
                protocol_name(*protocol),
                ports.join(", "),
                other.name
            );
        }
    }
    text
}

/// What the servers of a service of mode `direct` need: the VIP as an address of theirs, without answering ARP or ND
/// for it.
fn direct_servers(vips: &[IpAddr]) -> String {
    let mut text = String::from("    each server needs the VIP, and must not answer ARP for it:\n");
    let mut say = |line: &str| {
        text.push_str("      ");
        text.push_str(line);
        text.push('\n');
    };
    say("Linux:    sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2");
    for vip in vips {
        let (length, flag) = if vip.is_ipv4() { (32, "") } else { (128, " nodad") };
        say(&format!("          ip address add {vip}/{length} dev lo{flag}"));
    }
    say("Windows:  add a \"Microsoft KM-TEST Loopback Adapter\", name it vip, and the network card lan; then");
    for vip in vips {
        match vip.is_ipv4() {
            true => say(&format!("          netsh interface ipv4 add address vip {vip} 255.255.255.255")),
            false => say(&format!("          netsh interface ipv6 add address vip {vip}/128")),
        }
    }
    for (family, is_v4) in [("ipv4", true), ("ipv6", false)] {
        if vips.iter().any(|vip| vip.is_ipv4() == is_v4) {
            say(&format!("          netsh interface {family} set interface lan weakhostreceive=enabled"));
            say(&format!(
                "          netsh interface {family} set interface vip weakhostreceive=enabled weakhostsend=enabled"
            ));
        }
    }
    text
}

/// `tcp 203.0.113.80 port 80, nat, round-robin, 3 servers (1 backup)`.
fn service_line(config: &Config, service: &Service) -> String {
    let protocols: Vec<_> = service.protocols.iter().map(|protocol| protocol_name(*protocol)).collect();
    let addresses: Vec<_> = service.addresses.iter().map(ToString::to_string).collect();
    let ports: Vec<_> = service.ports.iter().map(format_ports).collect();
    let backups = service.servers.iter().filter(|id| config.servers[id.index()].backup).count();
    let backup = match backups {
        0 => String::new(),
        number => format!(" ({number} backup)"),
    };
    format!(
        "{} {} port {}, {}, {}, {} servers{backup}",
        protocols.join("+"),
        addresses.join(" "),
        ports.join(" "),
        mode_name(service.mode),
        scheduler_name(service.scheduler),
        service.servers.len()
    )
}

/// `http GET / on port 8080, expecting 200`.
fn check_line(config: &Config, service: &Service) -> String {
    let mut ports: Vec<_> = service.servers.iter().filter_map(|id| config.check_port(*id)).collect();
    ports.sort_unstable();
    ports.dedup();
    let ports: Vec<_> = ports.iter().take(8).map(u16::to_string).collect();
    let ports = ports.join(", ");
    let to = match service.mode {
        ForwardingMode::Nat | ForwardingMode::FullNat => "",
        ForwardingMode::Direct | ForwardingMode::Tunnel => " of the VIP on the server",
    };
    match &service.check.kind {
        ServiceCheckKind::Icmp => format!("icmp echo{to}"),
        ServiceCheckKind::Tcp => format!("a tcp handshake with port {ports}{to}"),
        ServiceCheckKind::HalfOpen => format!("tcp SYN, SYN-ACK, RST with port {ports}{to}"),
        ServiceCheckKind::Http { path, status, body, .. } => {
            let status: Vec<_> = status.iter().map(format_ports).collect();
            let body = body.as_ref().map(|body| format!(" and {body:?} in the body")).unwrap_or_default();
            format!("http GET {path} on port {ports}{to}, expecting {}{body}", status.join(" or "))
        }
        ServiceCheckKind::None => "nothing".to_owned(),
    }
}

/// `tcp` or `udp`.
pub const fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        6 => "tcp",
        _ => "udp",
    }
}

/// The value of the key `mode` that stands for it.
pub const fn mode_name(mode: ForwardingMode) -> &'static str {
    match mode {
        ForwardingMode::Nat => "nat",
        ForwardingMode::FullNat => "full-nat",
        ForwardingMode::Direct => "direct",
        ForwardingMode::Tunnel => "tunnel",
    }
}

/// The value of the key `scheduler` that stands for it.
pub const fn scheduler_name(scheduler: Scheduler) -> &'static str {
    match scheduler {
        Scheduler::RoundRobin => "round-robin",
        Scheduler::LeastConnections => "least-connections",
        Scheduler::Hash(_) => "hash",
    }
}

fn numbers(config: &Config, group: &Group) -> String {
    let spares = group.firewalls.iter().filter(|id| config.firewalls[id.index()].spare).count();
    let spare = match spares {
        0 => String::new(),
        number => format!(" ({number} spare)"),
    };
    let peers: Vec<_> = group.peers.iter().map(|id| config.peers[id.index()].name.as_str()).collect();
    format!("{} firewalls{spare} towards {}", group.firewalls.len(), peers.join(", "))
}

fn probe_name(kind: PathCheckKind) -> Option<String> {
    match kind {
        PathCheckKind::Icmp => Some("icmp echo".to_owned()),
        PathCheckKind::Tcp { port } => Some(format!("tcp port {port}")),
        PathCheckKind::Udp { port } => Some(format!("udp port {port}")),
        PathCheckKind::None => None,
    }
}

/// The address pairs (this engine's, the peer's) of the paths through `firewall` to `peer`: one pair per family that
/// engine, firewall and peer share.
fn address_pairs(config: &Config, firewall: &Firewall, peer: &Peer) -> Vec<(IpAddr, IpAddr)> {
    let own = &config.links[firewall.link.index()].addresses;
    let of = |family: Family, addresses: &[IpAddr]| addresses.iter().copied().find(|one| Family::of(*one) == family);
    [Family::V4, Family::V6]
        .into_iter()
        .filter_map(|family| {
            let source = own.iter().map(|own| own.addr()).find(|own| Family::of(*own) == family)?;
            let hop = of(family, &firewall.addresses)?;
            let destination = if peer.addresses.is_empty() { hop } else { of(family, &peer.addresses)? };
            Some((source, destination))
        })
        .collect()
}
