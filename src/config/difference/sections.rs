//! Lists what a configuration says section by section and key by key, in the form that a file has it.
//!
//! Every structure is destructured without `..`, so that a new key that is missing here does not compile. The tests of
//! [`super`] check that every key of the file is listed.

use std::hash::Hasher;

use crate::config::file::choices;
use crate::config::file::keys::{API, LOG, SERVER, SERVICE, SERVICE_CHECK, STICKY, TLS, TOKEN};
use crate::config::file::keys::{CHECK, ENGINE, FIREWALL, GROUP, LIMITS, LINK, PEER, ROUTE, TIMEOUTS};
use crate::config::file::{CheckKindName, HashPart, ServiceCheckKindName};
use crate::config::numbering::base_name;
use crate::config::schema::{Key, Schema, Unset, choice_name};
use crate::config::value::format_duration;
use crate::config::{
    Api, Config, Engine, Firewall, Group, HashOn, Limits, Link, Log, OnFailure, PathCheck, PathCheckKind,
};
use crate::config::{Peer, Route, RouteTarget, Scheduler, SchedulerName, Secret, Server, Service, ServiceCheck};
use crate::config::{ServiceCheckKind, StickyBy, SyslogTarget, Tls, Token, format_ports};
use crate::id::{FirewallId, GroupId, LinkId, PeerId, ServiceId};
use crate::session::{SourceLimits, Timeouts};
use crate::time::Duration;

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The key has no value.
    None,
    /// A number or a boolean, as the file has it.
    Bare(String),
    /// A string.
    Text(String),
    /// A list of values.
    List(Vec<Self>),
    /// A value that may not be shown, or is too long for it. Equal values have equal digests.
    Hidden(u64),
}

/// What is shown in place of a hidden value.
pub const HIDDEN: &str = "(hidden)";

impl Value {
    /// The value for people to read; `key` says what it means that there is none.
    pub fn describe(&self, key: &Key) -> String {
        match (self, key.unset) {
            (Self::None, Unset::Means(means)) => means.to_owned(),
            (Self::None, Unset::Default | Unset::Required(_)) => "none".to_owned(),
            (Self::Bare(text) | Self::Text(text), _) => text.clone(),
            (Self::List(values), _) => values.iter().map(|value| value.describe(key)).collect::<Vec<_>>().join(", "),
            (Self::Hidden(_), _) => HIDDEN.to_owned(),
        }
    }

    /// The value as the file has it; `None` if there is none.
    pub fn literal(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Bare(text) => Some(text.clone()),
            Self::Text(text) => Some(toml::Value::String(text.clone()).to_string()),
            Self::List(values) => {
                let values: Vec<String> = values.iter().filter_map(Self::literal).collect();
                Some(format!("[{}]", values.join(", ")))
            }
            Self::Hidden(_) => Some(format!("{HIDDEN:?}")),
        }
    }
}

/// One section of a configuration with its values.
#[derive(Debug)]
pub struct Section {
    /// The declaration of the section.
    pub schema: &'static Schema,
    /// What the section is about: `firewall perimeter/fw2`. A section that stands once within another has the subject
    /// of that one.
    pub subject: String,
    /// The path from the top of the file: keys, each with the name of the list item that is meant (of a route its
    /// prefix).
    pub path: Vec<(&'static str, Option<String>)>,
    /// The section's keys and their values, without subsections.
    pub values: Vec<(&'static str, Value)>,
}

impl Section {
    fn new(
        schema: &'static Schema,
        subject: impl Into<String>,
        at: &[(&'static str, Option<&str>)],
        facts: Vec<(&'static str, Value)>,
    ) -> Self {
        let at = at.iter().map(|(key, name)| (*key, name.map(str::to_owned))).collect();
        Self { schema, subject: subject.into(), path: at, values: facts }
    }

    /// The key under which the section stands in its parent, if it has the subject of the parent.
    pub fn within(&self) -> Option<&'static str> {
        match self.path.as_slice() {
            [_, .., (key, None)] => Some(key),
            _ => None,
        }
    }

    /// The name of a key as differences have it: `weight`, `check.interval`.
    pub fn name(&self, key: &str) -> String {
        self.within().map_or_else(|| key.to_owned(), |within| format!("{within}.{key}"))
    }
}

/// All sections of a configuration in the order of a file, including values that are left to their defaults.
pub fn sections(config: &Config) -> Vec<Section> {
    let Config {
        engine: _,
        api: _,
        log: _,
        limits: _,
        timeouts: _,
        devices: _,
        links: _,
        routes: _,
        groups: _,
        firewalls: _,
        peers: _,
        services: _,
        servers: _,
        digest: _,
    } = config;
    let mut all = vec![engine(&config.engine)];
    api(&config.api, &mut all);
    all.extend([log(&config.log), limits(&config.limits), timeouts(&config.timeouts)]);
    all.extend(config.link_ids().map(|id| link(config, id)));
    all.extend(config.routes.iter().map(|of| route(config, of)));
    config.group_ids().for_each(|id| group(config, id, &mut all));
    config.service_ids().for_each(|id| service(config, id, &mut all));
    all
}

fn text(value: impl ToString) -> Value {
    Value::Text(value.to_string())
}

fn bare(value: impl ToString) -> Value {
    Value::Bare(value.to_string())
}

fn or_none<T>(value: Option<T>, show: impl Fn(T) -> Value) -> Value {
    value.map_or(Value::None, show)
}

fn list<'a, T>(values: &'a [T], show: impl Fn(&'a T) -> Value) -> Value {
    match values {
        [] => Value::None,
        values => Value::List(values.iter().map(show).collect()),
    }
}

fn time(value: Duration) -> Value {
    text(format_duration(value))
}

fn or_never(value: Option<Duration>) -> Value {
    value.map_or_else(|| text("never"), time)
}

fn hidden(content: &str) -> Value {
    let mut hasher = siphasher::sip::SipHasher13::new();
    hasher.write(content.as_bytes());
    Value::Hidden(hasher.finish())
}

fn ports(ports: &std::ops::RangeInclusive<u16>) -> Value {
    let shown = format_ports(ports);
    match shown.parse::<u16>() {
        Ok(_) => bare(shown),
        Err(_) => text(shown),
    }
}

fn engine(engine: &Engine) -> Section {
    let Engine { name, workers, io, xdp_send, busy_poll, control, state, user, group, sandbox } = engine;
    let facts = vec![
        ("name", text(name)),
        ("workers", or_none(*workers, bare)),
        ("io", text(choice_name(&choices::IO, io))),
        ("xdp-send", bare(xdp_send)),
        ("busy-poll", bare(busy_poll)),
        ("control", text(control.display())),
        ("state", text(state.display())),
        ("user", or_none(user.as_ref(), text)),
        ("group", or_none(group.as_ref(), text)),
        ("sandbox", bare(sandbox)),
    ];
    Section::new(&ENGINE, "engine", &[("engine", None)], facts)
}

fn api(api: &Api, all: &mut Vec<Section>) {
    let Api { listen, tls, socket_group, tokens } = api;
    let facts = vec![("listen", or_none(*listen, text)), ("socket-group", or_none(socket_group.as_ref(), text))];
    all.push(Section::new(&API, "api", &[("api", None)], facts));
    if let Some(Tls { certificate, key }) = tls {
        let facts = vec![("certificate", hidden(certificate)), ("key", secret(key))];
        all.push(Section::new(&TLS, "api", &[("api", None), ("tls", None)], facts));
    }
    for Token { name, role, secret: of } in tokens {
        let facts =
            vec![("name", text(name)), ("role", text(choice_name(&choices::ROLE, role))), ("secret", secret(of))];
        all.push(Section::new(&TOKEN, format!("token {name}"), &[("api", None), ("token", Some(name))], facts));
    }
}

fn secret(secret: &Secret) -> Value {
    hidden(secret.expose())
}

fn log(log: &Log) -> Section {
    let Log { level, json, checks, sessions, syslog, facility, hostname } = log;
    let target = |target: &SyslogTarget| match target {
        SyslogTarget::Udp(address) => text(address),
        SyslogTarget::Local(path) => text(path.display()),
    };
    let facts = vec![
        ("level", text(level)),
        ("format", text(choice_name(&choices::FORMAT, json))),
        ("checks", bare(checks)),
        ("sessions", or_none(sessions.as_ref(), |path| text(path.display()))),
        ("syslog", list(syslog, target)),
        ("facility", text(choice_name(&choices::FACILITY, facility))),
        ("hostname", or_none(hostname.as_ref(), text)),
    ];
    Section::new(&LOG, "log", &[("log", None)], facts)
}

fn limits(limits: &Limits) -> Section {
    let Limits { sessions, sticky, neighbors, pending, punts, fragments, held, source } = limits;
    let SourceLimits { sessions: source_sessions, rate: source_rate } = source;
    let facts = vec![
        ("sessions", bare(sessions)),
        ("sticky", bare(sticky)),
        ("neighbors", bare(neighbors)),
        ("pending", bare(pending)),
        ("punts", bare(punts)),
        ("fragments", bare(fragments)),
        ("held", bare(held)),
        ("source-sessions", or_none(*source_sessions, bare)),
        ("source-rate", or_none(*source_rate, bare)),
    ];
    Section::new(&LIMITS, "limits", &[("limits", None)], facts)
}

fn timeouts(timeouts: &Timeouts) -> Section {
    let Timeouts { tcp_syn, tcp_established, tcp_closing, udp_new, udp, icmp, other, fragment } = *timeouts;
    let facts = vec![
        ("tcp-syn", time(tcp_syn)),
        ("tcp-established", time(tcp_established)),
        ("tcp-closing", time(tcp_closing)),
        ("udp-new", time(udp_new)),
        ("udp", time(udp)),
        ("icmp", time(icmp)),
        ("other", time(other)),
        ("fragment", time(fragment)),
    ];
    Section::new(&TIMEOUTS, "timeouts", &[("timeouts", None)], facts)
}

fn link(config: &Config, id: LinkId) -> Section {
    let Link { name, device, vlan, addresses, mac, mtu } = &config.links[id.index()];
    let facts = vec![
        ("name", text(name)),
        ("device", text(base_name(&config.devices[device.index()]))),
        ("vlan", or_none(*vlan, bare)),
        ("addresses", list(addresses, text)),
        ("mac", or_none(*mac, text)),
        ("mtu", or_none(*mtu, bare)),
    ];
    Section::new(&LINK, format!("link {name}"), &[("link", Some(name))], facts)
}

fn route(config: &Config, route: &Route) -> Section {
    let Route { to, target } = route;
    let link_name = |link: LinkId| text(&config.links[link.index()].name);
    let [via, link, group, peer, firewall] = match target {
        RouteTarget::Via { link, via } => [text(via), link_name(*link), Value::None, Value::None, Value::None],
        RouteTarget::Group { group, peer, firewall, bypass } => [
            or_none(*bypass, |(_, via)| text(via)),
            or_none(*bypass, |(link, _)| link_name(link)),
            text(group_name(config, *group)),
            or_none(*peer, |id: PeerId| text(&config.peers[id.index()].name)),
            or_none(*firewall, |id: FirewallId| text(&config.firewalls[id.index()].name)),
        ],
    };
    let facts =
        vec![("to", text(to)), ("via", via), ("link", link), ("group", group), ("peer", peer), ("firewall", firewall)];
    let to = to.to_string();
    Section::new(&ROUTE, format!("route {to}"), &[("route", Some(&to))], facts)
}

fn group_name(config: &Config, id: GroupId) -> &str {
    &config.groups[id.index()].name
}

fn group(config: &Config, id: GroupId, all: &mut Vec<Section>) {
    let Group { name, seed, hash, on_failure, min_up, below_min, drain_timeout, check, firewalls, peers } =
        &config.groups[id.index()];
    let subject = format!("group {name}");
    let here = ("group", Some(name.as_str()));
    let facts = vec![
        ("name", text(name)),
        ("seed", Value::Hidden(seed.digest(b"which seed is it"))),
        ("hash", text(choice_name(&choices::HASH, hash))),
        ("on-failure", text(choice_name(&choices::ON_FAILURE, on_failure))),
        ("min-up", bare(min_up)),
        ("below-min", text(choice_name(&choices::BELOW_MIN, below_min))),
        ("drain-timeout", or_never(*drain_timeout)),
    ];
    all.push(Section::new(&GROUP, subject.clone(), &[here], facts));

    let PathCheck { kind, interval, timeout, fall, rise, hold } = check;
    let (kind, port) = match *kind {
        PathCheckKind::Icmp => (CheckKindName::Icmp, None),
        PathCheckKind::Tcp { port } => (CheckKindName::Tcp, Some(port)),
        PathCheckKind::Udp { port } => (CheckKindName::Udp, Some(port)),
        PathCheckKind::None => (CheckKindName::None, None),
    };
    let facts = vec![
        ("kind", text(choice_name(&choices::KIND, &kind))),
        ("port", or_none(port, bare)),
        ("interval", time(*interval)),
        ("timeout", time(*timeout)),
        ("fall", bare(fall)),
        ("rise", bare(rise)),
        ("hold", time(*hold)),
    ];
    all.push(Section::new(&CHECK, subject, &[here, ("check", None)], facts));

    for peer in peers {
        let Peer { name: of, group: _, addresses } = &config.peers[peer.index()];
        let facts = vec![("name", text(of)), ("addresses", list(addresses, text))];
        all.push(Section::new(&PEER, format!("peer {name}/{of}"), &[here, ("peer", Some(of))], facts));
    }
    for firewall in firewalls {
        let Firewall { name: of, group: _, link, addresses, learn_by, weight, spare, admin } =
            &config.firewalls[firewall.index()];
        let facts = vec![
            ("name", text(of)),
            ("link", text(&config.links[link.index()].name)),
            ("addresses", list(addresses, text)),
            ("learn-by", text(choice_name(&choices::LEARN_BY, learn_by))),
            ("weight", bare(weight)),
            ("spare", bare(spare)),
            ("admin", text(choice_name(&choices::ADMIN, admin))),
        ];
        all.push(Section::new(&FIREWALL, format!("firewall {name}/{of}"), &[here, ("firewall", Some(of))], facts));
    }
}

fn service(config: &Config, id: ServiceId, all: &mut Vec<Section>) {
    let Service {
        name,
        addresses,
        protocols,
        ports: served,
        scheduler,
        mode,
        snat,
        sticky,
        on_failure_tcp,
        on_failure_udp,
        drain_timeout,
        admin,
        observe,
        check,
        servers,
    } = &config.services[id.index()];
    let subject = format!("service {name}");
    let here = ("service", Some(name.as_str()));
    let (scheduler, hash_on) = scheduler_of(*scheduler);
    let facts = vec![
        ("name", text(name)),
        ("address", list(addresses, text)),
        ("protocol", list(protocols, |number| text(choice_name(&choices::PROTOCOL, number)))),
        ("port", list(served, ports)),
        ("scheduler", text(choice_name(&choices::SCHEDULER, &scheduler))),
        ("hash-on", hash_on),
        ("mode", text(choice_name(&choices::MODE, mode))),
        ("snat", list(snat, text)),
        ("on-failure", text(service_on_failure(*on_failure_tcp, *on_failure_udp))),
        ("drain-timeout", or_never(*drain_timeout)),
        ("admin", text(choice_name(&choices::ADMIN, admin))),
        ("observe", text(choice_name(&choices::OBSERVE, observe))),
    ];
    all.push(Section::new(&SERVICE, subject.clone(), &[here], facts));
    if let Some(StickyBy { prefix, prefix6, timeout }) = sticky {
        let facts = vec![
            ("by", text("source")),
            ("prefix", bare(prefix)),
            ("prefix6", bare(prefix6)),
            ("timeout", time(*timeout)),
        ];
        all.push(Section::new(&STICKY, subject.clone(), &[here, ("sticky", None)], facts));
    }
    all.push(Section::new(&SERVICE_CHECK, subject, &[here, ("check", None)], service_check(check)));
    for server in servers {
        let Server { name: of, service: _, addresses, port, weight, backup, admin } = &config.servers[server.index()];
        let facts = vec![
            ("name", text(of)),
            ("address", list(addresses, text)),
            ("port", or_none(*port, bare)),
            ("weight", bare(weight)),
            ("backup", bare(backup)),
            ("admin", text(choice_name(&choices::ADMIN, admin))),
        ];
        all.push(Section::new(&SERVER, format!("server {name}/{of}"), &[here, ("server", Some(of))], facts));
    }
}

fn scheduler_of(scheduler: Scheduler) -> (SchedulerName, Value) {
    match scheduler {
        Scheduler::RoundRobin => (SchedulerName::RoundRobin, Value::None),
        Scheduler::LeastConnections => (SchedulerName::LeastConnections, Value::None),
        Scheduler::Hash(HashOn { source_address, source_port, destination_address, destination_port }) => {
            let parts = [
                (source_address, HashPart::SourceAddress),
                (source_port, HashPart::SourcePort),
                (destination_address, HashPart::DestinationAddress),
                (destination_port, HashPart::DestinationPort),
            ];
            let named: Vec<HashPart> = parts.into_iter().filter(|(has, _)| *has).map(|(_, part)| part).collect();
            (SchedulerName::Hash, list(&named, |part| text(choice_name(&choices::HASH_ON, part))))
        }
    }
}

/// The one value that was given for both protocols: only TCP can be reset, so `reset` means `reselect` for UDP.
fn service_on_failure(tcp: OnFailure, udp: OnFailure) -> String {
    match (tcp, udp) {
        (OnFailure::Reset, OnFailure::Reselect) => "reset".to_owned(),
        (tcp, udp) if tcp == udp => choice_name(&choices::ON_FAILURE, &tcp).to_owned(),
        (tcp, udp) => {
            format!(
                "{} for TCP, {} for the rest",
                choice_name(&choices::ON_FAILURE, &tcp),
                choice_name(&choices::ON_FAILURE, &udp)
            )
        }
    }
}

fn service_check(check: &ServiceCheck) -> Vec<(&'static str, Value)> {
    let ServiceCheck { kind, port, interval, timeout, fall, rise, dead_interval, down_after } = check;
    let none = || (Value::None, Value::None, Value::None, Value::None);
    let (kind, (path, host, status, body)) = match kind {
        ServiceCheckKind::Icmp => (ServiceCheckKindName::Icmp, none()),
        ServiceCheckKind::Tcp => (ServiceCheckKindName::Tcp, none()),
        ServiceCheckKind::HalfOpen => (ServiceCheckKindName::HalfOpen, none()),
        ServiceCheckKind::None => (ServiceCheckKindName::None, none()),
        ServiceCheckKind::Http { path, host, status, body } => {
            let (host, body) = (or_none(host.as_ref(), text), or_none(body.as_ref(), text));
            (ServiceCheckKindName::Http, (text(path), host, list(status, ports), body))
        }
    };
    vec![
        ("kind", text(choice_name(&choices::SERVICE_KIND, &kind))),
        ("port", or_none(*port, bare)),
        ("path", path),
        ("host", host),
        ("expect-status", status),
        ("expect-body", body),
        ("interval", time(*interval)),
        ("timeout", time(*timeout)),
        ("fall", bare(fall)),
        ("rise", bare(rise)),
        ("dead-interval", time(*dead_interval)),
        ("down-after", or_none(down_after.map(format_duration), text)),
    ]
}
