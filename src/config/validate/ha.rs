//! Validates `[ha]`, `[[ha.node]]`, and what links and services need for a role that moves.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file::{self, File};
use crate::config::reader::{Field, Located};
use crate::config::validate::links::is_link_local;
use crate::config::validate::members::family_name;
use crate::config::validate::names::{Names, duplicate_error};
use crate::config::validate::secrets::{is_hidden, secret};
use crate::config::validate::{DOCUMENTATION_KEY, ReadSecret};
use crate::config::{ForwardingMode, Ha, LearnBy, Link, Secret};
use crate::ha::association::KEY_MIN;
use crate::ha::settings::{ADDRESSES_MAX, NODES_MAX};
use crate::ha::{Lease, NodeConfig, NodeId, NodeKind, VrrpVersion};
use crate::time::Duration;
use crate::wire::Family;

/// Below this interval the scheduling of an ordinary machine makes takeovers of its own.
const ADVERTISE_MIN: Duration = Duration::from_millis(30);
/// The priority of the first node without one, and by how much each further one is lower.
const PRIORITY: (u8, u8) = (200, 10);
/// The length of the headers of IPv6 and VRRP, and of an address, in bytes.
const ADVERTISEMENT: (u64, u64) = (40 + 8, 16);

/// The meaning of `[ha]`: outer `None` with mistakes, inner without the section.
pub fn ha(
    file: &File,
    links: &[Option<Link>],
    read_secret: &mut ReadSecret<'_>,
    out: &mut Diagnostics,
) -> Option<Option<Ha>> {
    let Some(typed) = &file.ha else {
        without_section(file, out);
        return Some(None);
    };
    let errors = out.errors();
    let nodes = nodes(typed, out);
    let me = me(file, typed, out);
    let advertise = typed.advertise();
    let version = VrrpVersion::from_number(typed.version()).unwrap_or_default();
    timers(typed, advertise, version, out);
    let key = key(typed, read_secret, out);
    floating_once(file, out);
    for (link, typed_link) in links.iter().zip(&file.links) {
        let Some(link) = link else { continue };
        floating(typed_link, link, version, out);
        if let Some(me) = me {
            own_addresses(typed, me, typed_link, link, out);
            unicast(typed, me, typed_link, link, out);
        }
    }
    served(file, links, out);
    groups(file, advertise, out);
    sync(typed, links, out);
    if out.errors() > errors {
        return None;
    }
    let beside_routers = nodes.iter().any(|node| node.kind == NodeKind::Vrrp);
    let lease = if beside_routers { Lease::Always } else { Lease::Auto };
    Some(Some(Ha {
        vrid: typed.vrid.value()?,
        key: key?,
        advertise,
        preempt: typed.preempt(),
        margin: typed.margin(),
        damping: typed.damping(),
        start_delay: typed.start_delay(),
        linger: typed.linger(),
        version,
        mac: typed.mac(),
        lease: typed.lease.value().unwrap_or(lease),
        sessions: typed.sessions(),
        sync_delay: typed.sync_delay(),
        ports: typed.ports(),
        nodes,
        me: NodeId(u8::try_from(me?).ok()?),
    }))
}

fn without_section(file: &File, out: &mut Diagnostics) {
    for link in &file.links {
        let floating = link.floating.given().map(|at| (&at.span, "floating"));
        let vrid = link.vrid.given().map(|at| (&at.span, "vrid"));
        for (span, key) in [floating, vrid].into_iter().flatten() {
            let message = format!("`{key}` of a link needs a section [ha], which says who the nodes are");
            out.push(Diagnostic::error(span.clone(), message).hint("write [ha] with vrid, key and [[ha.node]]"));
        }
    }
}

fn nodes(typed: &file::Ha, out: &mut Diagnostics) -> Vec<NodeConfig> {
    Names::new("node", typed.nodes.iter().map(|node| &node.name), out);
    if let Some(one) = typed.nodes.get(NODES_MAX) {
        out.push(Diagnostic::error(one.span.clone(), format!("a cluster has at most {NODES_MAX} nodes")));
    }
    if let [only] = typed.nodes.as_slice() {
        let message = "the cluster has one node: nobody takes over from it";
        out.push(Diagnostic::warning(only.span.clone(), message).hint("write [[ha.node]] for the other one"));
    }
    let mut addresses: Vec<&Located<IpAddr>> = Vec::new();
    let mut priorities: Vec<Located<u8>> = Vec::new();
    let mut nodes = Vec::new();
    for (index, node) in typed.nodes.iter().enumerate() {
        for at in given(&node.addresses) {
            if let Some(first) = addresses.iter().find(|first| first.value == at.value && !is_link_local(at.value)) {
                out.push(duplicate_error(format!("address {} of a node", at.value), &at.span, &first.span));
            }
            addresses.push(at);
        }
        if let Some(at) = node.priority.given() {
            if let Some(first) = priorities.iter().find(|first| first.value == at.value) {
                let message = format!("two nodes have priority {}: their order in the file decides", at.value);
                let equal = Diagnostic::warning(at.span.clone(), message);
                out.push(equal.related(first.span.clone(), "the first one is here").hint("give each its own"));
            }
            priorities.push(at.clone());
        }
        let kind = node.kind();
        if let (NodeKind::Vrrp, Some(sync)) = (kind, node.sync.given()) {
            let message = "a node of kind \"vrrp\" has nothing to synchronise";
            out.push(Diagnostic::error(sync.span.clone(), message).hint("remove `sync`"));
        }
        let (first, step) = PRIORITY;
        nodes.push(NodeConfig {
            name: node.name.value().unwrap_or_default(),
            kind,
            priority: node.priority.value().unwrap_or(first.saturating_sub(step.saturating_mul(index as u8))),
            addresses: given(&node.addresses).iter().map(|at| at.value).collect(),
            sync: node.sync.value(),
        });
    }
    nodes
}

/// The position of the node that is this engine.
fn me(file: &File, typed: &file::Ha, out: &mut Diagnostics) -> Option<usize> {
    let name = file.engine.as_ref()?.name.given()?;
    let found = typed.nodes.iter().position(|node| node.name.value().as_ref() == Some(&name.value));
    let Some(found) = found else {
        if typed.nodes.iter().all(|node| node.name.given().is_some()) {
            let message = format!("no [[ha.node]] is called {:?}, as this engine is", name.value);
            let missing = Diagnostic::error(typed.span.clone(), message).related(name.span.clone(), "its name is here");
            out.push(missing.hint("the node whose name is that of the engine is this one"));
        }
        return None;
    };
    if let Some(kind) = typed.nodes[found].kind.given().filter(|kind| kind.value == NodeKind::Vrrp) {
        let message = "this engine is no node of kind \"vrrp\": it is fwlb";
        out.push(Diagnostic::error(kind.span.clone(), message).hint("remove `kind`"));
    }
    Some(found)
}

fn timers(typed: &file::Ha, advertise: Duration, version: VrrpVersion, out: &mut Diagnostics) {
    let at = typed.advertise.given().map_or(typed.span.clone(), |at| at.span.clone());
    if !advertise.as_nanos().is_multiple_of(10_000_000) {
        out.push(Diagnostic::error(
            at,
            "`advertise` goes in steps of 10 ms, as advertisements carry hundredths of a second",
        ));
        return;
    }
    if version == VrrpVersion::V2 && (advertise.subsec_nanos() != 0 || advertise > Duration::from_secs(255)) {
        let message = "version 2 of VRRP has whole seconds only";
        out.push(Diagnostic::error(at, message).hint("set advertise = \"1s\", or leave `version` out"));
    } else if advertise < ADVERTISE_MIN {
        let message = "below 30ms a machine that is late for a moment loses the role";
        out.push(Diagnostic::warning(at, message).hint("give its thread a core of its own, or use 30ms"));
    }
}

/// The secret; outer `None` for one that cannot be used.
fn key(typed: &file::Ha, read_secret: &mut ReadSecret<'_>, out: &mut Diagnostics) -> Option<Option<Secret>> {
    let engines = typed.nodes.iter().filter(|node| node.kind() == NodeKind::Fwlb).count();
    let make = |path: &str| format!("make it once and copy it to every node: fwlb ha key > {path}");
    let Some(given) = typed.key.given() else {
        if engines > 1 && matches!(typed.key, Field::Absent) {
            let message = "[ha] needs `key`: without it any station on a link could forge hellos";
            out.push(Diagnostic::error(typed.span.clone(), message).hint("key = \"file:/etc/fwlb/ha.key\""));
            return None;
        }
        return matches!(typed.key, Field::Absent).then_some(None);
    };
    let text = secret(given, read_secret, make, out)?;
    if text.len() < KEY_MIN && !is_hidden(given) {
        let message = format!("the key has {} bytes, it needs {KEY_MIN} or more", text.len());
        out.push(Diagnostic::error(given.span.clone(), message).hint(make("/etc/fwlb/ha.key")));
        return None;
    }
    if text == DOCUMENTATION_KEY {
        let message = "this is the documentation's key, known to everybody: any station could say that it is active";
        out.push(Diagnostic::warning(given.span.clone(), message).hint(make("/etc/fwlb/ha.key")));
    }
    Some(Some(Secret::new(text)))
}

/// Refuses a floating address that stands twice; a link-local one may stand once on every link.
fn floating_once(file: &File, out: &mut Diagnostics) {
    let mut seen: Vec<(usize, &Located<IpAddr>)> = Vec::new();
    for (index, link) in file.links.iter().enumerate() {
        for at in given(&link.floating) {
            let same = |(other, first): &&(usize, &Located<IpAddr>)| {
                first.value == at.value && (*other == index || !is_link_local(at.value))
            };
            if let Some((_, first)) = seen.iter().find(same) {
                out.push(duplicate_error(format!("floating address {}", at.value), &at.span, &first.span));
            }
            seen.push((index, at));
        }
    }
}

/// Checks the floating addresses of a link by themselves and against its subnets.
fn floating(typed: &file::Link, link: &Link, version: VrrpVersion, out: &mut Diagnostics) {
    for at in given(&typed.floating) {
        let family = Family::of(at.value);
        if version == VrrpVersion::V2 && family == Family::V6 {
            let message = "version 2 of VRRP has no IPv6";
            out.push(Diagnostic::error(at.span.clone(), message).hint("leave `version` of [ha] out"));
        }
        let subnets: Vec<&IpNet> = link.addresses.iter().filter(|own| Family::of(own.addr()) == family).collect();
        if subnets.iter().all(|own| is_link_local(own.addr())) && !is_link_local(at.value) {
            let message = format!(
                "link {:?} has no {} address of its own beside the floating {}: a standby could not probe",
                link.name,
                family_name(family),
                at.value
            );
            out.push(Diagnostic::error(at.span.clone(), message).hint("add one to its `addresses`"));
        } else if !is_link_local(at.value) && !subnets.iter().any(|own| own.contains(&at.value)) {
            let message = format!("floating address {} is in no subnet of link {:?}", at.value, link.name);
            let subnets: Vec<_> = subnets.iter().map(|own| own.trunc().to_string()).collect();
            out.push(
                Diagnostic::error(at.span.clone(), message).hint(format!("the link has {}", subnets.join(" and "))),
            );
        }
    }
    let (headers, address) = ADVERTISEMENT;
    let mtu = u64::from(link.mtu.unwrap_or(1500));
    let most = (mtu.saturating_sub(headers) / address).min(ADDRESSES_MAX as u64) as usize;
    if let Some(one) = given(&typed.floating).get(most) {
        let message = format!("a link has at most {most} floating addresses, which fit one advertisement");
        out.push(Diagnostic::error(one.span.clone(), message));
    }
}

/// Checks that every node lists one own address in each subnet with floating addresses, and this one its real ones.
fn own_addresses(typed: &file::Ha, me: usize, typed_link: &file::Link, link: &Link, out: &mut Diagnostics) {
    let here: Vec<_> = given(&typed.nodes[me].addresses).iter().map(|at| at.value).collect();
    let has_floating = |own: &IpNet| link.floating.iter().any(|floating| own.contains(floating));
    for at in given(&typed_link.addresses).iter().filter(|at| has_floating(&at.value)) {
        let own = at.value.addr();
        if matches!(typed.nodes[me].addresses, Field::Given(_)) && !here.contains(&own) {
            let message =
                format!("{own} of link {:?} is not among the addresses of this node in [[ha.node]]", link.name);
            let missing = Diagnostic::error(at.span.clone(), message);
            out.push(missing.related(typed.nodes[me].span.clone(), "this is the node"));
        }
        for (index, node) in typed.nodes.iter().enumerate().filter(|(index, _)| *index != me) {
            let listed = given(&node.addresses).iter().any(|other| at.value.contains(&other.value));
            if matches!(node.addresses, Field::Given(_)) && !listed {
                let name = node.name.value().unwrap_or_else(|| format!("{}", index + 1));
                let message = format!(
                    "node {name:?} has no address in {} of link {:?}: what it says there would be a stranger's",
                    at.value.trunc(),
                    link.name
                );
                let missing = Diagnostic::error(node.span.clone(), message);
                out.push(missing.hint("add its own address on that link to its `addresses`"));
            }
        }
    }
}

/// Warns about a node that a link with `unicast` does not reach, as it has no address in any of the link's subnets.
fn unicast(typed: &file::Ha, me: usize, typed_link: &file::Link, link: &Link, out: &mut Diagnostics) {
    let Some(at) = typed_link.unicast.given().filter(|unicast| unicast.value) else { return };
    for (index, node) in typed.nodes.iter().enumerate().filter(|(index, _)| *index != me) {
        let is_here = |own: &Located<IpAddr>| link.addresses.iter().any(|subnet| subnet.contains(&own.value));
        if matches!(node.addresses, Field::Invalid) || given(&node.addresses).iter().any(is_here) {
            continue;
        }
        let name = node.name.value().unwrap_or_else(|| format!("{}", index + 1));
        let message = format!(
            "link {:?} has unicast = true, and node {name:?} has no address in its subnets: there it is told nothing",
            link.name
        );
        let unreached = Diagnostic::warning(at.span.clone(), message).related(node.span.clone(), "this is the node");
        out.push(unreached.hint("add its own address on that link to its `addresses`"));
    }
}

/// Checks that whoever sends to the engine has a floating address to send to.
fn served(file: &File, links: &[Option<Link>], out: &mut Diagnostics) {
    let bare = |address: IpAddr| {
        links.iter().flatten().find(|link| {
            let is_near = link.addresses.iter().any(|own| own.contains(&address));
            is_near && !link.floating.iter().any(|floating| Family::of(*floating) == Family::of(address))
        })
    };
    let mut report = |at: &Located<IpAddr>, who: &str, is_error: bool| {
        let Some(link) = bare(at.value).filter(|_| !is_link_local(at.value)) else { return };
        let message = format!(
            "{who} {} is on link {:?}, which has no floating {} address: what it sends would stay with a dead node",
            at.value,
            link.name,
            family_name(Family::of(at.value))
        );
        let found = if is_error {
            Diagnostic::error(at.span.clone(), message)
        } else {
            Diagnostic::warning(at.span.clone(), message)
        };
        out.push(found.hint("give the link `floating`, and let its neighbours use that as their next hop"));
    };
    for route in &file.routes {
        given(&route.via).iter().for_each(|at| report(at, "next hop", true));
    }
    for firewall in file.groups.iter().flat_map(|group| &group.firewalls) {
        given(&firewall.addresses).iter().for_each(|at| report(at, "firewall", true));
    }
    for service in &file.services {
        // Full-nat needs an address that moves with the role, NAT a gateway; answers of other modes pass the engine by.
        let (who, is_error) = match service.mode.value().unwrap_or(ForwardingMode::Nat) {
            ForwardingMode::FullNat if given(&service.snat).is_empty() => ("full-nat server", true),
            ForwardingMode::Nat => ("server", false),
            ForwardingMode::FullNat | ForwardingMode::Direct | ForwardingMode::Tunnel => continue,
        };
        service.servers.iter().flat_map(|server| given(&server.addresses)).for_each(|at| report(at, who, is_error));
    }
}

fn groups(file: &File, advertise: Duration, out: &mut Diagnostics) {
    let takeover = advertise * 4;
    for group in &file.groups {
        let is_transparent = group.peers.iter().any(|peer| matches!(peer.addresses, Field::Absent));
        for firewall in group.firewalls.iter().filter(|_| is_transparent) {
            if firewall.learn_by() != LearnBy::Link {
                let message =
                    "with [ha] a transparent firewall needs learn-by = \"link\": each far node has a MAC of its own";
                let at = firewall.learn_by.given().map_or(firewall.span.clone(), |at| at.span.clone());
                out.push(Diagnostic::error(at, message).hint("give each firewall a link, and set learn-by = \"link\""));
            }
        }
        let Some(check) = &group.check else { continue };
        let interval = check.interval();
        let fall = check.fall();
        let lasts = interval.saturating_mul(u32::from(fall));
        if lasts < takeover {
            let message = format!(
                "paths are down after {} ms without answers: a takeover on the far side may last {} ms",
                lasts.as_millis(),
                takeover.as_millis()
            );
            let at = check.fall.given().map_or(check.span.clone(), |at| at.span.clone());
            out.push(Diagnostic::warning(at, message).hint("raise `fall` or `interval` of the check"));
        }
    }
}

fn sync(typed: &file::Ha, links: &[Option<Link>], out: &mut Diagnostics) {
    for node in &typed.nodes {
        let Some(at) = node.sync.given() else { continue };
        let near = links.iter().flatten().find(|link| link.addresses.iter().any(|own| own.contains(&at.value)));
        if let Some(link) = near {
            let message = format!("`sync` {} is in a subnet of link {:?}, which the engine owns", at.value, link.name);
            let hint = "use a device that no engine owns, best a cable of its own; or leave `sync` out";
            out.push(Diagnostic::error(at.span.clone(), message).hint(hint));
        }
    }
}

fn given<T>(field: &Field<Vec<Located<T>>>) -> &[Located<T>] {
    field.given().map(|list| list.value.as_slice()).unwrap_or_default()
}
