//! Validates `[[service.server]]`, and whether packets of the service's mode can reach the server.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{format_ports, given, mode};
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file;
use crate::config::reader::{Field, Located};
use crate::config::validate::links::is_link_local;
use crate::config::validate::members::{family_name, one_per_family};
use crate::config::validate::names::{Names, duplicate_error};
use crate::config::{AdminState, ForwardingMode, Link, Route, RouteTarget, Server};
use crate::id::ServiceId;
use crate::wire::Family;

/// The servers of a service; `None` for one with a mistake.
pub fn servers(
    typed: &file::Service,
    service: ServiceId,
    links: &[Option<Link>],
    routes: &[Route],
    out: &mut Diagnostics,
) -> Vec<Option<Server>> {
    if typed.servers.is_empty() {
        let title = typed.name.value().map_or_else(|| "the service".to_owned(), |name| format!("service {name:?}"));
        let missing = Diagnostic::error(typed.span.clone(), format!("{title} has no servers"));
        out.push(missing.hint("write [[service.server]] below it, once for each"));
    }
    Names::new("server", typed.servers.iter().map(|server| &server.name), out);
    same_server(typed, out);
    let mut one = |server: &file::Server| {
        let addresses = one_per_family(&server.addresses, out);
        for at in &addresses {
            reachable(at, typed, links, routes, out);
        }
        untranslated(server, typed, out);
        Some(Server {
            name: server.name.value()?,
            service,
            addresses: server.addresses.given().map(|_| addresses.iter().map(|at| at.value).collect())?,
            port: server.port.value().and_then(|port| u16::try_from(port).ok()),
            weight: server.weight.value().and_then(|weight| u16::try_from(weight).ok()).unwrap_or(1),
            backup: server.backup.value() == Some(true),
            admin: server.admin.value().unwrap_or_default(),
        })
    };
    let servers = typed.servers.iter().map(&mut one).collect();
    families(typed, out);
    if let [first, ..] = typed.servers.as_slice()
        && typed.servers.iter().all(|server| server.backup.value() == Some(true))
    {
        let message = "every server of the service is a backup";
        out.push(
            Diagnostic::warning(first.span.clone(), message).hint("a backup serves when all that are none are down"),
        );
    }
    nobody_takes_sessions(typed, out);
    servers
}

/// Warns about a service that takes no new session even if all its servers are up. Backups do not help: they serve only
/// while the others are down.
fn nobody_takes_sessions(typed: &file::Service, out: &mut Diagnostics) {
    let weight = |server: &&file::Server| server.weight.value().unwrap_or(1);
    let admin = |server: &&file::Server| server.admin.value().unwrap_or_default();
    let takes = |server: &&file::Server| weight(server) > 0 && admin(server) == AdminState::Ready;
    let (backups, others): (Vec<_>, Vec<_>) =
        typed.servers.iter().partition(|server| server.backup.value() == Some(true));
    let backups_serve = others.iter().all(|server| admin(server) == AdminState::Maint);
    let in_charge = if backups_serve { [others, backups].concat() } else { others };
    if in_charge.is_empty()
        || in_charge.iter().any(takes)
        || typed.admin.value().unwrap_or_default() != AdminState::Ready
    {
        return;
    }
    let (what, hint) = if in_charge.iter().all(|server| weight(server) == 0) {
        ("every weight is 0", "give one a weight of 1 or more; a server that is to be emptied gets admin = \"drain\"")
    } else if in_charge.iter().all(|server| admin(server) == AdminState::Maint) {
        ("every server is in maint", "remove the line from one, or set admin = \"ready\"")
    } else {
        ("each server has weight 0 or is taken out by `admin`", "make one ready, with a weight of 1 or more")
    };
    let place = |server: &&file::Server| {
        let weight = server.weight.given().filter(|at| at.value == 0).map(|at| at.span.clone());
        weight.or_else(|| server.admin.given().map(|at| at.span.clone()))
    };
    let at = in_charge.iter().find_map(place).unwrap_or(typed.span.clone());
    let message = format!("{what}: the service takes no new sessions");
    out.push(Diagnostic::warning(at, message).hint(hint));
}

/// Refuses an address and port that two servers of a service have: it would get two shares, and be counted and drained
/// by halves.
fn same_server(typed: &file::Service, out: &mut Diagnostics) {
    let mut seen: BTreeMap<(IpAddr, Option<u64>), &Located<IpAddr>> = BTreeMap::new();
    for server in &typed.servers {
        for at in given(&server.addresses) {
            if let Some(first) = seen.get(&(at.value, server.port.value())) {
                let port = server.port.value().map(|port| format!(" port {port}")).unwrap_or_default();
                let again = duplicate_error(format!("server address {}{port}", at.value), &at.span, &first.span);
                out.push(again.hint("a server that is to get more has a `weight`"));
            } else {
                seen.insert((at.value, server.port.value()), at);
            }
        }
    }
}

/// Checks that a link or route leads to the server. A server of mode `direct` must be a neighbour, and one of mode
/// `tunnel` must not be behind firewalls.
fn reachable(
    at: &Located<IpAddr>,
    typed: &file::Service,
    links: &[Option<Link>],
    routes: &[Route],
    out: &mut Diagnostics,
) {
    if is_link_local(at.value) {
        let message = format!("{} is a link-local address: a server needs a global one", at.value);
        out.push(Diagnostic::error(at.span.clone(), message));
        return;
    }
    let connected = links.iter().flatten().any(|link| link.addresses.iter().any(|subnet| subnet.contains(&at.value)));
    if connected || links.iter().any(Option::is_none) {
        return;
    }
    let direct = typed.mode.given().filter(|mode| mode.value == ForwardingMode::Direct);
    if let Some(direct) = direct {
        let message = format!(
            "{} is in no connected subnet: with `direct` only the MAC address changes, which a router would overwrite",
            at.value
        );
        let error = Diagnostic::error(at.span.clone(), message)
            .hint("use mode = \"tunnel\" or \"full-nat\" for servers behind a router");
        out.push(error.related(direct.span.clone(), "the mode stands here"));
        return;
    }
    let best = routes.iter().filter(|route| route.to.contains(&at.value)).max_by_key(|route| route.to.prefix_len());
    let tunnel = typed.mode.given().filter(|mode| mode.value == ForwardingMode::Tunnel);
    match (best.map(|route| &route.target), tunnel) {
        (None, _) => {
            let message = format!("no link and no route leads to {}", at.value);
            out.push(Diagnostic::warning(at.span.clone(), message).hint("add a [[route]] to it"));
        }
        (Some(RouteTarget::Group { .. }), Some(tunnel)) => {
            let message = format!(
                "the route to {} leads through firewalls: with `tunnel` the server answers its clients directly, and its \
                 answers would meet firewalls that never saw the requests",
                at.value
            );
            let error = Diagnostic::error(at.span.clone(), message);
            let hint = "add a [[route]] to it that names a gateway, or use mode = \"nat\"";
            out.push(error.hint(hint).related(tunnel.span.clone(), "the mode stands here"));
        }
        (Some(RouteTarget::Via { .. } | RouteTarget::Group { .. }), _) => {}
    }
}

/// Refuses `port` of a server in modes that pass packets on as the client sent them.
fn untranslated(server: &file::Server, typed: &file::Service, out: &mut Diagnostics) {
    let (Some(mode), Some(port)) = (mode(typed), server.port.given()) else { return };
    let name = match mode {
        ForwardingMode::Nat | ForwardingMode::FullNat => return,
        ForwardingMode::Direct => "direct",
        ForwardingMode::Tunnel => "tunnel",
    };
    let translated = given(&typed.ports)
        .iter()
        .find(|at| at.value != (*at.value.start()..=*at.value.start()) || u64::from(*at.value.start()) != port.value);
    if let Some(ports) = translated {
        let message = format!(
            "port {} of the server is not port {} of the service: with `{name}` the packet reaches the server as the \
             client sent it",
            port.value,
            format_ports(&ports.value)
        );
        let error = Diagnostic::error(port.span.clone(), message);
        let hint = "remove the port, or use mode = \"nat\"";
        out.push(error.hint(hint).related(ports.span.clone(), "the service's port stands here"));
    }
}

/// Checks that the servers have addresses of the families of the VIPs.
fn families(typed: &file::Service, out: &mut Diagnostics) {
    let has = |server: &file::Server, family| {
        matches!(server.addresses, Field::Invalid)
            || given(&server.addresses).iter().any(|at| Family::of(at.value) == family)
    };
    // A tunnel carries packets of both families to one address.
    if matches!(typed.addresses, Field::Invalid) || mode(typed) == Some(ForwardingMode::Tunnel) {
        return;
    }
    for family in [Family::V4, Family::V6] {
        let vip = given(&typed.addresses).iter().find(|at| Family::of(at.value) == family);
        let word = family_name(family);
        let (with, without): (Vec<_>, Vec<_>) = typed.servers.iter().partition(|server| has(server, family));
        match vip {
            Some(vip) if with.is_empty() && !without.is_empty() => {
                let message = format!("no server has an {word} address: VIP {} would serve nobody", vip.value);
                let hint = "add one to the servers' `address`, which may be a list of one per family";
                out.push(Diagnostic::error(vip.span.clone(), message).hint(hint));
            }
            Some(vip) if !without.is_empty() => {
                let names: Vec<_> = without.iter().filter_map(|server| server.name.value()).take(8).collect();
                let message = format!(
                    "server {} has no {word} address: it takes no share of VIP {}",
                    names.join(", "),
                    vip.value
                );
                out.push(Diagnostic::warning(vip.span.clone(), message).hint("add one to the server's `address`"));
            }
            Some(_) => {}
            None => {
                let unused = with.iter().flat_map(|server| given(&server.addresses));
                if let Some(at) = unused.into_iter().find(|at| Family::of(at.value) == family) {
                    let message = format!("{} serves nobody: the service has no {word} VIP", at.value);
                    out.push(Diagnostic::warning(at.span.clone(), message).hint("add one to the service's `address`"));
                }
            }
        }
    }
}
