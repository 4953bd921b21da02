//! Validates `[[service]]` with its VIPs, ports, scheduler and servers.

mod check;
mod servers;
mod sources;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};

use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file::{self, File, HashPart};
use crate::config::reader::{Field, Located};
use crate::config::validate::links::is_link_local;
use crate::config::validate::names::{Names, duplicate_error};
use crate::config::value::format_ports;
use crate::config::{
    ForwardingMode, HashOn, Link, Observe, OnFailure, Route, Scheduler, SchedulerName, Server, Service, ServiceCheck,
    ServiceCheckKind, StickyBy,
};
use crate::id::{ServerId, ServiceId};
use crate::time::Duration;

/// The largest number of services of one engine.
const SERVICES_MAX: usize = 4096;
/// The largest number of servers of all services of one engine.
const SERVERS_MAX: usize = 16_384;
/// The largest number of VIPs of one service.
const VIPS_MAX: usize = 1024;
/// The largest number of ports and port ranges of one service.
const PORTS_MAX: usize = 1024;

/// Everything in `[[service]]`, indexed by id; `None` for an entry with a mistake.
#[derive(Default)]
pub struct ValidatedServices {
    /// Indexed by [`ServiceId`].
    pub services: Vec<Option<Service>>,
    /// Indexed by [`ServerId`].
    pub servers: Vec<Option<Server>>,
}

/// Validates all services of an engine that has these links and routes.
pub fn services(file: &File, links: &[Option<Link>], routes: &[Route], out: &mut Diagnostics) -> ValidatedServices {
    let mut farm = ValidatedServices::default();
    if too_many(file, out) {
        return farm;
    }
    Names::new("service", file.services.iter().map(|service| &service.name), out);
    for (index, typed) in file.services.iter().enumerate() {
        let id = ServiceId::from(index);
        let servers = servers::servers(typed, id, links, routes, out);
        let service = service(typed, farm.servers.len(), links, out);
        sources::hairpin(typed, links, out);
        farm.services.push(service);
        farm.servers.extend(servers);
    }
    check_port_overlaps(file, out);
    farm
}

fn too_many(file: &File, out: &mut Diagnostics) -> bool {
    if let Some(one) = file.services.get(SERVICES_MAX) {
        out.push(Diagnostic::error(one.span.clone(), format!("an engine has at most {SERVICES_MAX} services")));
        return true;
    }
    if let Some(one) = file.services.iter().flat_map(|service| &service.servers).nth(SERVERS_MAX) {
        out.push(Diagnostic::error(one.span.clone(), format!("an engine has at most {SERVERS_MAX} servers")));
        return true;
    }
    for service in &file.services {
        let vip = given(&service.addresses).get(VIPS_MAX).map(|at| (at.span.clone(), VIPS_MAX, "addresses"));
        let port = given(&service.ports).get(PORTS_MAX).map(|at| (at.span.clone(), PORTS_MAX, "ports and ranges"));
        if let Some((span, most, what)) = vip.or(port) {
            out.push(Diagnostic::error(span, format!("a service has at most {most} {what}")));
            return true;
        }
    }
    false
}

fn service(
    typed: &file::Service,
    first_server: usize,
    links: &[Option<Link>],
    out: &mut Diagnostics,
) -> Option<Service> {
    vips(typed, out);
    let protocols = protocols(typed, out);
    let scheduler = scheduler(typed, out);
    let check = check::check(typed, &protocols, out);
    let snat = sources::snat(typed, links, out);
    if let Some(drain) = typed.drain_timeout.given()
        && drain.value == Some(Duration::ZERO)
    {
        let hint = "set admin = \"maint\" to end sessions at once";
        out.push(Diagnostic::warning(drain.span.clone(), "a drain ends every session at once").hint(hint));
    }
    let observe = observe(typed, &protocols, check.as_ref(), out);
    let on_failure = typed.on_failure.value();
    Some(Service {
        name: typed.name.value()?,
        addresses: values(&typed.addresses)?,
        protocols: (!protocols.is_empty()).then_some(protocols)?,
        ports: values(&typed.ports)?,
        scheduler,
        mode: mode(typed)?,
        snat: snat?,
        sticky: typed.sticky.as_ref().map(sticky),
        on_failure: on_failure.unwrap_or(OnFailure::Reset),
        drain_timeout: typed.drain_timeout(),
        admin: typed.admin(),
        observe,
        check: check?,
        servers: (first_server..first_server + typed.servers.len()).map(ServerId::from).collect(),
    })
}

/// Whether connections of clients count, which needs replies that pass the engine and a check that brings a server
/// back.
fn observe(typed: &file::Service, protocols: &[u8], check: Option<&ServiceCheck>, out: &mut Diagnostics) -> Observe {
    let Some(given) = typed.observe.given().filter(|given| given.value == Observe::Layer4) else { return Observe::Off };
    let bypasses = matches!(typed.mode.value(), Some(ForwardingMode::Direct | ForwardingMode::Tunnel));
    let why = if bypasses {
        "the answers of servers pass the engine by in this mode"
    } else if !protocols.is_empty() && !protocols.contains(&check::TCP) {
        "it is about TCP connections, and the service has no TCP"
    } else if check.is_some_and(|check| check.kind == ServiceCheckKind::None) {
        "nothing would bring a server back, as the service has no check"
    } else {
        return Observe::Layer4;
    };
    let message = format!("`observe = \"layer4\"` cannot work: {why}");
    out.push(Diagnostic::error(given.span.clone(), message).hint("remove the line"));
    Observe::Off
}

/// The mode; `None` if it is mistyped.
fn mode(typed: &file::Service) -> Option<ForwardingMode> {
    match &typed.mode {
        Field::Absent => Some(ForwardingMode::default()),
        Field::Given(mode) => Some(mode.value),
        Field::Invalid => None,
    }
}

/// Refuses VIPs that stand twice and link-local ones, which no router forwards to.
fn vips(typed: &file::Service, out: &mut Diagnostics) {
    let mut seen: BTreeMap<IpAddr, &Located<IpAddr>> = BTreeMap::new();
    for at in given(&typed.addresses) {
        if let Some(first) = seen.get(&at.value) {
            out.push(duplicate_error(format!("VIP {}", at.value), &at.span, &first.span));
            continue;
        }
        seen.insert(at.value, at);
        if is_link_local(at.value) {
            let message = format!("{} is a link-local address: no router forwards to it", at.value);
            out.push(Diagnostic::error(at.span.clone(), message));
        }
    }
}

fn protocols(typed: &file::Service, out: &mut Diagnostics) -> Vec<u8> {
    let mut protocols: Vec<u8> = Vec::new();
    for at in given(&typed.protocols) {
        match protocols.contains(&at.value) {
            true => out.push(Diagnostic::error(at.span.clone(), "the same protocol stands twice")),
            false => protocols.push(at.value),
        }
    }
    protocols
}

fn scheduler(typed: &file::Service, out: &mut Diagnostics) -> Scheduler {
    let name = typed.scheduler();
    if let Some(hash_on) = typed.hash_on.given()
        && name != SchedulerName::Hash
        && !matches!(typed.scheduler, Field::Invalid)
    {
        let message = "`hash-on` is for `scheduler = \"hash\"`";
        out.push(Diagnostic::error(hash_on.span.clone(), message).hint("add scheduler = \"hash\", or remove it"));
    }
    match name {
        SchedulerName::RoundRobin => Scheduler::RoundRobin,
        SchedulerName::LeastConnections => Scheduler::LeastConnections,
        SchedulerName::Hash => Scheduler::Hash(match given(&typed.hash_on) {
            [] => HashOn { source_address: true, ..HashOn::default() },
            parts => {
                let has = |part| parts.iter().any(|at| at.value == part);
                HashOn {
                    source_address: has(HashPart::SourceAddress),
                    source_port: has(HashPart::SourcePort),
                    destination_address: has(HashPart::DestinationAddress),
                    destination_port: has(HashPart::DestinationPort),
                }
            }
        }),
    }
}

fn sticky(typed: &file::Sticky) -> StickyBy {
    StickyBy { prefix: typed.prefix(), prefix6: typed.prefix6(), timeout: typed.timeout() }
}

/// Ports together with their place in the file.
type PlacedPorts<'a> = (&'a RangeInclusive<u16>, &'a Range<usize>);

/// Refuses port ranges whose owner is ambiguous. Where ranges of one VIP overlap the narrower one wins, so ranges of
/// the same width must not overlap.
fn check_port_overlaps(file: &File, out: &mut Diagnostics) {
    let mut taken: BTreeMap<(IpAddr, u8), Vec<PlacedPorts<'_>>> = BTreeMap::new();
    for service in &file.services {
        let mut protocols: Vec<u8> = given(&service.protocols).iter().map(|at| at.value).collect();
        protocols.sort_unstable();
        protocols.dedup();
        let mut addresses: Vec<IpAddr> = given(&service.addresses).iter().map(|at| at.value).collect();
        addresses.sort_unstable();
        addresses.dedup();
        for (address, protocol) in
            addresses.iter().flat_map(|address| protocols.iter().map(move |protocol| (*address, *protocol)))
        {
            let ports = given(&service.ports).iter().map(|at| (&at.value, &at.span));
            taken.entry((address, protocol)).or_default().extend(ports);
        }
    }
    for ((address, protocol), mut ranges) in taken {
        let width = |range: &RangeInclusive<u16>| range.end() - range.start();
        ranges.sort_by_key(|(range, at)| (width(range), *range.start(), at.start));
        let protocol = if protocol == 6 { "tcp" } else { "udp" };
        for pair in ranges.windows(2) {
            let [(first, here), (second, again)] = pair else { continue };
            if first == second {
                let what = format!("{protocol} port {} of VIP {address}", format_ports(second));
                out.push(duplicate_error(what, again, here));
            } else if width(first) == width(second) && second.start() <= first.end() {
                let message = format!(
                    "the {protocol} ports {} and {} of VIP {address} overlap, and neither is more specific",
                    format_ports(first),
                    format_ports(second)
                );
                let error = Diagnostic::error((*again).clone(), message);
                out.push(error.related((*here).clone(), "the other range stands here"));
            }
        }
    }
}

/// The items of a list; none if it is left out or invalid.
fn given<T>(field: &Field<Vec<Located<T>>>) -> &[Located<T>] {
    field.given().map(|list| list.value.as_slice()).unwrap_or_default()
}

/// The values of a list; `None` if it is left out or invalid.
fn values<T: Clone>(field: &Field<Vec<Located<T>>>) -> Option<Vec<T>> {
    Some(field.given()?.value.iter().map(|at| at.value.clone()).collect())
}
