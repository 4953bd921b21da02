//! What a configuration says, subject by subject, key by key, as the file would.
//!
//! Every structure is taken apart by name, so that a key that is added and not told of here does not compile.

use crate::config::numbering::base_name;
use crate::config::value::show_duration;
use crate::config::{
    Admin, BelowMin, Check, CheckKind, Config, LearnBy, Limits, Mode, OnFailure, RouteTarget, Scheduler, Service,
    ServiceCheck, ServiceCheckKind, show_ports,
};
use crate::flow::HashMode;
use crate::id::{FirewallId, GroupId, LinkId, PeerId, ServerId};
use crate::session::Timeouts;
use crate::time::Duration;

/// A value of a key: as it is shown, and what tells it from others where that may not be shown.
pub(super) struct Fact {
    pub(super) key: &'static str,
    pub(super) shown: String,
    pub(super) told_by: Option<u64>,
}

/// Everything of a configuration that a user typed, subject by subject. Each kind of subject has its facts in one order.
pub(super) fn subjects(config: &Config) -> Vec<(String, Vec<Fact>)> {
    let mut all = vec![
        ("engine".to_owned(), engine(config)),
        ("log".to_owned(), log(config)),
        ("limits".to_owned(), limits(&config.limits)),
        ("timeouts".to_owned(), timeouts(&config.timeouts)),
    ];
    for id in config.link_ids() {
        let name = &config.links[id.index()].name;
        all.push((format!("link {name}"), link(config, id)));
    }
    for route in &config.routes {
        all.push((format!("route {}", route.to), vec![fact("leads", target(config, &route.target))]));
    }
    for id in config.group_ids() {
        all.push((format!("group {}", config.groups[id.index()].name), group(config, id)));
    }
    for id in config.firewall_ids() {
        all.push((firewall_subject(config, id), firewall(config, id)));
    }
    for id in config.peer_ids() {
        let peer = &config.peers[id.index()];
        all.push((
            format!("peer {}/{}", group_name(config, peer.group), peer.name),
            vec![fact("addresses", list(&peer.addresses))],
        ));
    }
    for id in config.service_ids() {
        let of = &config.services[id.index()];
        all.push((format!("service {}", of.name), service(of)));
        all.extend(of.servers.iter().map(|server_id| {
            (format!("server {}/{}", of.name, config.servers[server_id.index()].name), server(config, *server_id))
        }));
    }
    all
}

fn fact(key: &'static str, shown: impl ToString) -> Fact {
    Fact { key, shown: shown.to_string(), told_by: None }
}

fn list<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn or_none<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn or_never(value: Option<Duration>) -> String {
    value.map_or_else(|| "never".to_owned(), show_duration)
}

fn engine(config: &Config) -> Vec<Fact> {
    let crate::config::Engine { name, workers, io, xdp_send, busy_poll, control, state, user, group, sandbox } =
        &config.engine;
    vec![
        fact("name", name),
        fact("workers", workers.map_or_else(|| "one per CPU".to_owned(), |workers| workers.to_string())),
        fact("io", io.word()),
        fact("xdp-send", xdp_send),
        fact("busy-poll", busy_poll),
        fact("control", control.display()),
        fact("state", state.display()),
        fact("user", or_none(user.as_ref())),
        fact("group", or_none(group.as_ref())),
        fact("sandbox", sandbox),
    ]
}

fn log(config: &Config) -> Vec<Fact> {
    let crate::config::Log { level, json, checks, sessions, syslog, facility, hostname } = &config.log;
    let targets: Vec<String> = syslog.iter().map(|target| format!("{target:?}")).collect();
    vec![
        fact("level", level),
        fact("format", if *json { "json" } else { "text" }),
        fact("checks", checks),
        fact("sessions", or_none(sessions.as_ref().map(|path| path.display()))),
        fact("syslog", list(&targets)),
        fact("facility", facility),
        fact("hostname", or_none(hostname.as_ref())),
    ]
}

fn limits(limits: &Limits) -> Vec<Fact> {
    let Limits { sessions, sticky, neighbors, pending, punts, fragments, held } = limits;
    vec![
        fact("sessions", sessions),
        fact("sticky", sticky),
        fact("neighbors", neighbors),
        fact("pending", pending),
        fact("punts", punts),
        fact("fragments", fragments),
        fact("held", held),
    ]
}

fn timeouts(timeouts: &Timeouts) -> Vec<Fact> {
    let Timeouts { tcp_syn, tcp_established, tcp_closing, udp_new, udp, icmp, other, fragment } = *timeouts;
    vec![
        fact("tcp-syn", show_duration(tcp_syn)),
        fact("tcp-established", show_duration(tcp_established)),
        fact("tcp-closing", show_duration(tcp_closing)),
        fact("udp-new", show_duration(udp_new)),
        fact("udp", show_duration(udp)),
        fact("icmp", show_duration(icmp)),
        fact("other", show_duration(other)),
        fact("fragment", show_duration(fragment)),
    ]
}

fn link(config: &Config, id: LinkId) -> Vec<Fact> {
    let crate::config::Link { name: _, device, vlan, addresses, mac, mtu } = &config.links[id.index()];
    vec![
        fact("device", base_name(&config.devices[device.index()])),
        fact("vlan", or_none(*vlan)),
        fact("addresses", list(addresses)),
        fact("mac", or_none(*mac)),
        fact("mtu", or_none(*mtu)),
    ]
}

fn target(config: &Config, target: &RouteTarget) -> String {
    let link_name = |link: LinkId| &config.links[link.index()].name;
    match target {
        RouteTarget::Via { link, via } => format!("via {via} on link {}", link_name(*link)),
        RouteTarget::Group { group, peer, firewall, bypass } => {
            let peer = peer.map(|peer: PeerId| format!(" toward {}", config.peers[peer.index()].name));
            let firewall = firewall.map(|id: FirewallId| format!(" by {}", config.firewalls[id.index()].name));
            let bypass = bypass.map(|(link, via)| format!(", else via {via} on link {}", link_name(link)));
            let wishes = [peer, firewall, bypass].into_iter().flatten().collect::<String>();
            format!("through group {}{wishes}", group_name(config, *group))
        }
    }
}

fn group_name(config: &Config, id: GroupId) -> &str {
    &config.groups[id.index()].name
}

fn group(config: &Config, id: GroupId) -> Vec<Fact> {
    let crate::config::Group {
        name: _,
        seed,
        hash,
        on_failure,
        min_up,
        below_min,
        drain_timeout,
        check,
        firewalls: _,
        peers: _,
    } = &config.groups[id.index()];
    let Check { kind, interval, timeout, fall, rise, hold } = check;
    let kind = match kind {
        CheckKind::Icmp => "icmp".to_owned(),
        CheckKind::Tcp { port } => format!("tcp to port {port}"),
        CheckKind::Udp { port } => format!("udp to port {port}"),
        CheckKind::None => "none".to_owned(),
    };
    vec![
        Fact { key: "seed", shown: "(hidden)".to_owned(), told_by: Some(seed.digest(b"which seed is it")) },
        fact(
            "hash",
            match hash {
                HashMode::FiveTuple => "5-tuple",
                HashMode::ThreeTuple => "3-tuple",
                HashMode::Addresses => "addresses",
                HashMode::Source => "source",
                HashMode::Destination => "destination",
            },
        ),
        fact("on-failure", on_failure_word(*on_failure)),
        fact("min-up", min_up),
        fact(
            "below-min",
            match below_min {
                BelowMin::Drop => "drop",
                BelowMin::Bypass => "bypass",
            },
        ),
        fact("drain-timeout", or_never(*drain_timeout)),
        fact("check.kind", kind),
        fact("check.interval", show_duration(*interval)),
        fact("check.timeout", show_duration(*timeout)),
        fact("check.fall", fall),
        fact("check.rise", rise),
        fact("check.hold", show_duration(*hold)),
    ]
}

fn firewall_subject(config: &Config, id: FirewallId) -> String {
    let firewall = &config.firewalls[id.index()];
    format!("firewall {}/{}", group_name(config, firewall.group), firewall.name)
}

fn firewall(config: &Config, id: FirewallId) -> Vec<Fact> {
    let crate::config::Firewall { name: _, group: _, link, addresses, learn_by, weight, spare, admin } =
        &config.firewalls[id.index()];
    vec![
        fact("link", &config.links[link.index()].name),
        fact("addresses", list(addresses)),
        fact(
            "learn-by",
            match learn_by {
                LearnBy::Mac => "mac",
                LearnBy::Link => "link",
            },
        ),
        fact("weight", weight),
        fact("spare", spare),
        fact("admin", admin_word(*admin)),
    ]
}

fn service(service: &Service) -> Vec<Fact> {
    let Service {
        name: _,
        addresses,
        protocols,
        ports,
        scheduler,
        mode,
        snat,
        sticky,
        on_failure_tcp,
        on_failure_udp,
        drain_timeout,
        admin,
        check,
        servers: _,
    } = service;
    let ServiceCheck { kind, port, interval, timeout, fall, rise, dead_interval, down_after } = check;
    let protocol = |protocol: &u8| match protocol {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => other.to_string(),
    };
    let sticky =
        sticky.map(|by| format!("by source /{} and /{} for {}", by.prefix, by.prefix6, show_duration(by.timeout)));
    vec![
        fact("address", list(addresses)),
        fact("protocol", list(&protocols.iter().map(protocol).collect::<Vec<_>>())),
        fact("port", list(&ports.iter().map(show_ports).collect::<Vec<_>>())),
        fact("scheduler", scheduler_words(*scheduler)),
        fact(
            "mode",
            match mode {
                Mode::Nat => "nat",
                Mode::FullNat => "full-nat",
                Mode::Direct => "direct",
                Mode::Tunnel => "tunnel",
            },
        ),
        fact("snat", list(snat)),
        fact("sticky", or_none(sticky)),
        fact("on-failure (tcp)", on_failure_word(*on_failure_tcp)),
        fact("on-failure (udp)", on_failure_word(*on_failure_udp)),
        fact("drain-timeout", or_never(*drain_timeout)),
        fact("admin", admin_word(*admin)),
        fact("check.kind", check_words(kind)),
        fact("check.port", or_none(*port)),
        fact("check.interval", show_duration(*interval)),
        fact("check.timeout", show_duration(*timeout)),
        fact("check.fall", fall),
        fact("check.rise", rise),
        fact("check.dead-interval", show_duration(*dead_interval)),
        fact("check.down-after", or_none(down_after.map(show_duration))),
    ]
}

fn scheduler_words(scheduler: Scheduler) -> String {
    match scheduler {
        Scheduler::RoundRobin => "round-robin".to_owned(),
        Scheduler::LeastConnections => "least-connections".to_owned(),
        Scheduler::Hash(on) => {
            let parts = [
                (on.source_address, "source-address"),
                (on.source_port, "source-port"),
                (on.destination_address, "destination-address"),
                (on.destination_port, "destination-port"),
            ];
            let named: Vec<&str> = parts.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect();
            format!("hash on {}", named.join(", "))
        }
    }
}

fn check_words(kind: &ServiceCheckKind) -> String {
    match kind {
        ServiceCheckKind::Icmp => "icmp".to_owned(),
        ServiceCheckKind::Tcp => "tcp".to_owned(),
        ServiceCheckKind::HalfOpen => "half-open".to_owned(),
        ServiceCheckKind::None => "none".to_owned(),
        ServiceCheckKind::Http { path, host, status, body } => {
            let status: Vec<String> = status.iter().map(show_ports).collect();
            let host = host.as_ref().map(|host| format!(" of {host}")).unwrap_or_default();
            let body = body.as_ref().map(|body| format!(" and {body:?}")).unwrap_or_default();
            format!("http {path}{host} for {}{body}", status.join(", "))
        }
    }
}

fn server(config: &Config, id: ServerId) -> Vec<Fact> {
    let crate::config::Server { name: _, service: _, addresses, port, weight, backup, admin } =
        &config.servers[id.index()];
    vec![
        fact("address", list(addresses)),
        fact("port", port.map_or_else(|| "the client's".to_owned(), |port| port.to_string())),
        fact("weight", weight),
        fact("backup", backup),
        fact("admin", admin_word(*admin)),
    ]
}

fn on_failure_word(on_failure: OnFailure) -> &'static str {
    match on_failure {
        OnFailure::Reselect => "reselect",
        OnFailure::Reset => "reset",
        OnFailure::Keep => "keep",
        OnFailure::Drop => "drop",
    }
}

fn admin_word(admin: Admin) -> &'static str {
    match admin {
        Admin::Ready => "ready",
        Admin::Drain => "drain",
        Admin::Maint => "maint",
    }
}
