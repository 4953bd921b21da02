//! Validates `[[route]]` and resolves it into one route per prefix, to a next hop or through a group.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file::{self, Destination, File};
use crate::config::reader::{Field, Located};
use crate::config::validate::groups::Members;
use crate::config::validate::links::is_link_local;
use crate::config::validate::members::{family_name, next_hop, one_per_family};
use crate::config::validate::names::{Names, duplicate_error};
use crate::config::{BelowMin, Group, Link, Route, RouteTarget};
use crate::id::{FirewallId, GroupId, LinkId, PeerId};
use crate::wire::Family;

/// The largest number of prefixes of one engine.
const ROUTES_MAX: usize = 100_000;

/// Everything that routes refer to.
pub struct RouteContext<'a> {
    /// The file, for the places of what routes refer to.
    pub file: &'a File,
    /// Indexed by [`LinkId`]; `None` for a link with a mistake.
    pub links: &'a [Option<Link>],
    /// Names of the links.
    pub link_names: &'a Names<'a>,
    /// Names of the groups.
    pub group_names: &'a Names<'a>,
    /// The groups with their firewalls and peers.
    pub members: &'a Members,
}

/// The targets of one `[[route]]`, one per family.
#[derive(Default)]
struct Targets {
    v4: Option<RouteTarget>,
    v6: Option<RouteTarget>,
    /// A mistake was reported, so that a target may be missing because of it.
    invalid: bool,
    /// Why a target is missing; the message continues with the name of the family.
    missing: &'static str,
}

impl Targets {
    fn of(&mut self, family: Family) -> &mut Option<RouteTarget> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

/// The routes, one per prefix; those with a mistake are left out.
pub fn routes(known: &RouteContext<'_>, out: &mut Diagnostics) -> Vec<Route> {
    let mut routes = Vec::new();
    let mut places = Vec::new();
    for typed in &known.file.routes {
        let mut targets = match &typed.group {
            Field::Absent => next_hop_targets(typed, known, out),
            Field::Given(group) => group_targets(typed, group, known, out),
            Field::Invalid => Targets { invalid: true, ..Targets::default() },
        };
        for to in typed.to.given().map(|list| list.value.as_slice()).unwrap_or_default() {
            for prefix in prefixes(to.value) {
                match targets.of(Family::of(prefix.addr())).clone() {
                    Some(target) => {
                        routes.push(Route { to: prefix, target });
                        places.push(to);
                    }
                    None if targets.invalid || to.value == Destination::Default => {}
                    None => {
                        let family = family_name(Family::of(prefix.addr()));
                        let message = format!("no way to {prefix}: {} {family}", targets.missing);
                        out.push(Diagnostic::error(to.span.clone(), message));
                    }
                }
            }
        }
    }
    if let Some(one) = places.get(ROUTES_MAX) {
        out.push(Diagnostic::error(one.span.clone(), format!("an engine has at most {ROUTES_MAX} routes")));
    }
    same_prefix(known, &routes, &places, out);
    past_the_firewalls(known, &routes, &places, out);
    unused_groups(known, out);
    routes
}

fn prefixes(to: Destination) -> Vec<IpNet> {
    match to {
        Destination::Prefix(prefix) => vec![prefix],
        Destination::Default => vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())],
    }
}

/// The targets of a route to a next hop.
fn next_hop_targets(typed: &file::Route, known: &RouteContext<'_>, out: &mut Diagnostics) -> Targets {
    let mut targets = Targets { missing: "`via` has no next hop of", ..Targets::default() };
    for (key, field) in [("peer", &typed.peer), ("firewall", &typed.firewall)] {
        if let Some(at) = field.given() {
            let message = format!("`{key}` is for a route through a group");
            out.push(Diagnostic::error(at.span.clone(), message).hint("add `group`"));
        }
    }
    match &typed.via {
        Field::Given(_) => {}
        Field::Invalid => targets.invalid = true,
        Field::Absent => {
            let message = "the route leads nowhere: it needs `via` or `group`";
            out.push(Diagnostic::error(typed.span.clone(), message));
            targets.invalid = true;
        }
    }
    for via in one_per_family(&typed.via, out) {
        match next_hop_link(&via, typed, known, out) {
            Some(link) => *targets.of(Family::of(via.value)) = Some(RouteTarget::Via { link, via: via.value }),
            None => targets.invalid = true,
        }
    }
    targets
}

/// The targets of a route through the firewalls of a group.
fn group_targets(
    typed: &file::Route,
    group: &Located<String>,
    known: &RouteContext<'_>,
    out: &mut Diagnostics,
) -> Targets {
    let mut targets = Targets { missing: "no path of the group has", ..Targets::default() };
    let Some(index) = known.group_names.resolve(group, "", out) else {
        targets.invalid = true;
        return targets;
    };
    let (Some(file_group), Some(first)) = (known.file.groups.get(index), known.members.first.get(index)) else {
        targets.invalid = true;
        return targets;
    };
    let of = format!(" of group {:?}", group.value);
    let firewall_names = Names::of("firewall", file_group.firewalls.iter().map(|firewall| &firewall.name));
    let peer_names = Names::of("peer", file_group.peers.iter().map(|peer| &peer.name));
    let peer = typed.peer.given().map(|name| peer_names.resolve(name, &of, out));
    let firewall = typed.firewall.given().map(|name| firewall_names.resolve(name, &of, out));
    let mut bypass = Vec::new();
    for via in one_per_family(&typed.via, out) {
        if let Some(link) = next_hop_link(&via, typed, known, out) {
            bypass_loop(&via, link, index, known, out);
            bypass.push((link, via.value));
        }
    }
    let Some(Some(valid)) = known.members.groups.get(index) else {
        targets.invalid = true;
        return targets;
    };
    targets.invalid =
        matches!(peer, Some(None)) || matches!(firewall, Some(None)) || matches!(typed.via, Field::Invalid);
    if targets.invalid {
        return targets;
    }
    if let (Some(via), BelowMin::Drop) = (typed.via.given(), valid.below_min) {
        let message = "with `group`, `via` is the way round the firewalls, and `below-min = \"drop\"` never goes round";
        let hint = "remove it, or set below-min = \"bypass\" in the group";
        out.push(Diagnostic::warning(via.span.clone(), message).hint(hint));
    }
    for family in [Family::V4, Family::V6] {
        if !has_path(valid, family, peer.flatten(), known.members) {
            continue;
        }
        let round = bypass.iter().find(|(_, via)| Family::of(*via) == family).copied();
        if valid.below_min == BelowMin::Bypass && round.is_none() && wants(typed, family) {
            let message = format!(
                "group {:?} has `below-min = \"bypass\"`: the route needs an {} `via`, the way round it",
                group.value,
                family_name(family)
            );
            out.push(Diagnostic::error(group.span.clone(), message));
        }
        *targets.of(family) = Some(RouteTarget::Group {
            group: GroupId::from(index),
            peer: peer.flatten().map(|peer| PeerId::from(first.1 + peer)),
            firewall: firewall.flatten().map(|firewall| FirewallId::from(first.0 + firewall)),
            bypass: round,
        });
    }
    targets
}

/// True if the route has a destination of this family.
fn wants(typed: &file::Route, family: Family) -> bool {
    let list = typed.to.given().map(|list| list.value.as_slice()).unwrap_or_default();
    list.iter().flat_map(|to| prefixes(to.value)).any(|prefix| Family::of(prefix.addr()) == family)
}

/// True if at least one firewall of the group has the family, and so has the peer, or every peer if none is given.
fn has_path(group: &Group, family: Family, peer: Option<usize>, members: &Members) -> bool {
    let of_family = |addresses: &[IpAddr]| addresses.iter().any(|address| Family::of(*address) == family);
    let firewall = group.firewalls.iter().filter_map(|id| members.firewalls[id.index()].as_ref());
    let peers = group.peers.iter().enumerate().filter(|(slot, _)| peer.is_none_or(|peer| peer == *slot));
    let mut peers = peers.filter_map(|(_, id)| members.peers[id.index()].as_ref());
    firewall.map(|firewall| &firewall.addresses).any(|addresses| of_family(addresses))
        && peers.all(|peer| peer.addresses.is_empty() || of_family(&peer.addresses))
}

/// The link on which a next hop is reached.
fn next_hop_link(
    via: &Located<IpAddr>,
    typed: &file::Route,
    known: &RouteContext<'_>,
    out: &mut Diagnostics,
) -> Option<LinkId> {
    let connected = |link: &Option<Link>| {
        link.as_ref().is_some_and(|link| link.addresses.iter().any(|subnet| subnet.contains(&via.value)))
    };
    let link = match &typed.link {
        Field::Given(name) => known.link_names.resolve(name, "", out)?,
        Field::Invalid => return None,
        Field::Absent if is_link_local(via.value) => {
            let message = format!("{} is a link-local next hop: say on which `link`", via.value);
            out.push(Diagnostic::error(via.span.clone(), message).hint("add link = \"...\" to the route"));
            return None;
        }
        Field::Absent => match known.links.iter().position(connected) {
            Some(link) => link,
            None if known.links.iter().any(Option::is_none) => return None,
            None => {
                let message = format!("{} is in no connected subnet", via.value);
                let subnets: Vec<_> = known.links.iter().flatten().flat_map(|link| &link.addresses).collect();
                let subnets: Vec<_> = subnets.iter().take(8).map(|subnet| subnet.trunc().to_string()).collect();
                let hint = format!(
                    "the links have {}",
                    if subnets.is_empty() { "none".to_owned() } else { subnets.join(", ") }
                );
                out.push(Diagnostic::error(via.span.clone(), message).hint(hint));
                return None;
            }
        },
    };
    let valid = next_hop(via, known.links.get(link)?.as_ref()?, out);
    valid.then(|| LinkId::from(link))
}

/// Warns about a bypass on a link of the group's firewalls: packets that come back on it come from no known firewall.
fn bypass_loop(via: &Located<IpAddr>, link: LinkId, group: usize, known: &RouteContext<'_>, out: &mut Diagnostics) {
    let firewalls = known.members.firewalls.iter().flatten();
    if firewalls.clone().any(|firewall| firewall.link == link && firewall.group.index() == group) {
        let message = format!("the way round the firewalls by {} leaves by a link on which they stand", via.value);
        let hint = "what comes back on it is dropped (drop_unknown_firewall); use a link of its own";
        out.push(Diagnostic::warning(via.span.clone(), message).hint(hint));
    }
}

/// Refuses a prefix with two routes, and a route to a connected subnet, which needs none.
fn same_prefix(known: &RouteContext<'_>, routes: &[Route], places: &[&Located<Destination>], out: &mut Diagnostics) {
    let mut first: BTreeMap<IpNet, Range<usize>> = BTreeMap::new();
    let connected: BTreeMap<IpNet, &Located<IpNet>> = connected(known).map(|(_, at)| (at.value.trunc(), at)).collect();
    for (route, place) in routes.iter().zip(places) {
        if let Some(at) = connected.get(&route.to) {
            let both = match route.target {
                RouteTarget::Group { .. } => ": the engine stands on both sides of its group",
                RouteTarget::Via { .. } => "",
            };
            let message = format!("{} is a connected subnet and needs no route{both}", route.to);
            out.push(Diagnostic::error(place.span.clone(), message).related(at.span.clone(), "it is connected here"));
        }
        match first.entry(route.to) {
            Entry::Vacant(entry) => drop(entry.insert(place.span.clone())),
            Entry::Occupied(entry) => {
                out.push(duplicate_error(format!("the route to {}", route.to), &place.span, entry.get()))
            }
        }
    }
}

/// Warns about a connected subnet within a prefix that leads through a group: packets to it do not pass the firewalls.
fn past_the_firewalls(
    known: &RouteContext<'_>,
    routes: &[Route],
    places: &[&Located<Destination>],
    out: &mut Diagnostics,
) {
    let firewall_link =
        |link: usize| known.members.firewalls.iter().flatten().any(|firewall| firewall.link.index() == link);
    let connected: Vec<_> = connected(known).filter(|(link, _)| !firewall_link(*link)).collect();
    for (route, place) in routes.iter().zip(places) {
        let RouteTarget::Group { .. } = route.target else { continue };
        if place.value == Destination::Default {
            continue;
        }
        for (_, at) in
            connected.iter().filter(|(_, at)| route.to != at.value.trunc() && route.to.contains(&at.value.trunc()))
        {
            let message = format!(
                "the connected subnet {} is part of {}, which leads through the group: packets to it go past the firewalls",
                at.value.trunc(),
                route.to
            );
            out.push(Diagnostic::warning(place.span.clone(), message).related(at.span.clone(), "it is connected here"));
        }
    }
}

/// Warns about a group that no route leads through: it is probed, but gets no packet.
fn unused_groups(known: &RouteContext<'_>, out: &mut Diagnostics) {
    let routes = &known.file.routes;
    // A route that names an unknown group may mean this one.
    let known_groups: Vec<_> = known.file.groups.iter().filter_map(|group| group.name.value()).collect();
    let is_wrong = |route: &file::Route| match &route.group {
        Field::Given(name) => !known_groups.contains(&name.value),
        Field::Invalid => true,
        Field::Absent => false,
    };
    if routes.iter().any(is_wrong) {
        return;
    }
    for typed in &known.file.groups {
        let Some(name) = typed.name.given() else { continue };
        if routes.iter().filter_map(|route| route.group.given()).any(|group| group.value == name.value) {
            continue;
        }
        let is_default = |to: &Located<Destination>| match to.value {
            Destination::Default => true,
            Destination::Prefix(prefix) => prefix.prefix_len() == 0,
        };
        let has_default = routes.iter().filter_map(|route| route.to.given()).flat_map(|to| &to.value).any(is_default);
        let (to, comment) = match has_default {
            true => ("203.0.113.0/24", "  # what lies behind the firewalls"),
            false => ("default", ""),
        };
        let message = format!(
            "no route leads through group {:?}: packets for what is behind its firewalls are dropped (drop_no_route)",
            name.value
        );
        let hint = format!("add\n[[route]]\nto = \"{to}\"{comment}\ngroup = {:?}", name.value);
        out.push(Diagnostic::warning(name.span.clone(), message).hint(hint));
    }
}

/// The subnets of the links except link-local ones, each with the index of its link.
fn connected<'a>(known: &'a RouteContext<'_>) -> impl Iterator<Item = (usize, &'a Located<IpNet>)> {
    let addresses = |link: &'a file::Link| link.addresses.given().map(|list| list.value.as_slice()).unwrap_or_default();
    let links = known.file.links.iter().enumerate();
    links
        .flat_map(move |(index, link)| addresses(link).iter().map(move |at| (index, at)))
        .filter(|(_, at)| !is_link_local(at.value.addr()))
}
