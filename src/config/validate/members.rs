//! Validates `[[group.firewall]]` and `[[group.peer]]`, and the paths that firewalls and peers make together.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file::{self, File};
use crate::config::reader::{Field, Located};
use crate::config::validate::links::is_link_local;
use crate::config::validate::names::{Names, duplicate_error};
use crate::config::{AdminState, Firewall, LearnBy, Link, Peer, PeerEngine};
use crate::id::{GroupId, LinkId};
use crate::wire::Family;

/// The largest number of engines behind a peer's addresses, which is that of the nodes of a cluster.
const ENGINES_MAX: usize = 8;

/// The firewalls of a group; `None` for one with a mistake.
pub fn firewalls(
    typed: &file::Group,
    group: GroupId,
    links: &[Option<Link>],
    link_names: &Names<'_>,
    out: &mut Diagnostics,
) -> Vec<Option<Firewall>> {
    Names::new("firewall", typed.firewalls.iter().map(|firewall| &firewall.name), out);
    let mut one = |typed: &file::Firewall| {
        let link = typed.link.given().and_then(|name| link_names.resolve(name, "", out));
        let addresses = one_per_family(&typed.addresses, out);
        if let Some(link) = link.and_then(|link| links[link].as_ref()) {
            for at in &addresses {
                next_hop(at, link, out);
            }
        }
        Some(Firewall {
            name: typed.name.value()?,
            group,
            link: LinkId::from(link?),
            addresses: addresses.iter().map(|at| at.value).collect(),
            learn_by: typed.learn_by(),
            weight: typed.weight(),
            spare: typed.spare.value() == Some(true),
            admin: typed.admin(),
        })
    };
    let firewalls: Vec<_> = typed.firewalls.iter().map(&mut one).collect();
    if let [first, ..] = typed.firewalls.as_slice()
        && typed.firewalls.iter().all(|firewall| firewall.spare.value() == Some(true))
    {
        let message = "every firewall of the group is a spare";
        out.push(Diagnostic::error(first.span.clone(), message).hint("a spare takes over for a firewall that is not"));
    }
    nobody_is_ready(typed, out);
    firewalls
}

/// Warns about a group none of whose firewalls is ready.
fn nobody_is_ready(typed: &file::Group, out: &mut Diagnostics) {
    let state = |firewall: &file::Firewall| firewall.admin();
    let Some(admin) = typed.firewalls.first().and_then(|firewall| firewall.admin.given()) else { return };
    if typed.firewalls.iter().any(|firewall| state(firewall) == AdminState::Ready) {
        return;
    }
    let message = match typed.firewalls.iter().all(|firewall| state(firewall) == AdminState::Maint) {
        true => "every firewall of the group is in maint: no session gets through",
        false => "no firewall of the group is ready: new sessions go to those that drain, which never get empty",
    };
    out.push(
        Diagnostic::warning(admin.span.clone(), message).hint("remove the line from one, or set admin = \"ready\""),
    );
}

/// True if a next hop lies in a subnet of `link`; otherwise it is reported.
pub fn next_hop(at: &Located<IpAddr>, link: &Link, out: &mut Diagnostics) -> bool {
    if is_link_local(at.value) || link.addresses.iter().any(|subnet| subnet.contains(&at.value)) {
        return true;
    }
    let message = format!("{} is in no connected subnet of link {:?}", at.value, link.name);
    let same_family = |subnet: &&ipnet::IpNet| Family::of(subnet.addr()) == Family::of(at.value);
    let subnets: Vec<_> = link.addresses.iter().filter(same_family).map(|subnet| subnet.trunc().to_string()).collect();
    let hint = match subnets.as_slice() {
        [] => format!("the link has no {} address; add one to its `addresses`", family_name(Family::of(at.value))),
        _ => format!("the link has {}", subnets.join(" and ")),
    };
    out.push(Diagnostic::error(at.span.clone(), message).hint(hint));
    false
}

/// The peers of a group; `None` for one with a mistake.
pub fn peers(typed: &file::Group, group: GroupId, links: &[Option<Link>], out: &mut Diagnostics) -> Vec<Option<Peer>> {
    Names::new("peer", typed.peers.iter().map(|peer| &peer.name), out);
    let mut seen: Vec<Located<IpAddr>> = Vec::new();
    let mut one = |typed: &file::Peer| {
        let addresses = one_per_family(&typed.addresses, out);
        for at in &addresses {
            if let Some(first) = seen.iter().find(|first| first.value == at.value) {
                out.push(duplicate_error(format!("peer address {}", at.value), &at.span, &first.span));
            }
            far_side(at, links, out);
        }
        seen.extend(addresses.iter().cloned());
        let engines = engines(typed, &mut seen, links, out);
        let invalid = matches!(typed.addresses, Field::Invalid);
        Some(Peer {
            name: typed.name.value().filter(|_| !invalid)?,
            group,
            addresses: addresses.into_iter().map(|at| at.value).collect(),
            engines: engines?,
        })
    };
    typed.peers.iter().map(&mut one).collect()
}

/// The engines behind a peer's addresses; `None` if there is a mistake. `seen` are the addresses of the group's peers
/// and of their engines so far.
fn engines(
    typed: &file::Peer,
    seen: &mut Vec<Located<IpAddr>>,
    links: &[Option<Link>],
    out: &mut Diagnostics,
) -> Option<Vec<PeerEngine>> {
    if let Some(one) = typed.engines.get(ENGINES_MAX) {
        out.push(Diagnostic::error(one.span.clone(), format!("a peer has at most {ENGINES_MAX} engines")));
        return None;
    }
    Names::new("engine", typed.engines.iter().map(|engine| &engine.name), out);
    let mut one = |typed: &file::PeerEngine| {
        let addresses = one_per_family(&typed.addresses, out);
        for at in &addresses {
            if let Some(first) = seen.iter().find(|first| first.value == at.value) {
                out.push(duplicate_error(format!("peer address {}", at.value), &at.span, &first.span));
            }
            far_side(at, links, out);
        }
        seen.extend(addresses.iter().cloned());
        let invalid = matches!(typed.addresses, Field::Invalid);
        Some(PeerEngine {
            name: typed.name.value().filter(|_| !invalid)?,
            addresses: addresses.into_iter().map(|at| at.value).collect(),
        })
    };
    typed.engines.iter().map(&mut one).collect()
}

/// Warns about a peer in a connected subnet: it is on the near side, and packets to it need not pass the firewalls.
fn far_side(at: &Located<IpAddr>, links: &[Option<Link>], out: &mut Diagnostics) {
    if is_link_local(at.value) {
        let message = format!("{} is a link-local address: no firewall forwards to it", at.value);
        out.push(Diagnostic::error(at.span.clone(), message));
        return;
    }
    for link in links.iter().flatten() {
        let holds = |subnet: &&ipnet::IpNet| subnet.contains(&at.value) && subnet.addr() != at.value;
        let Some(subnet) = link.addresses.iter().find(holds) else { continue };
        let message = format!(
            "the engine stands on both sides of its group: peer address {} is in the connected subnet {} of link {:?}",
            at.value,
            subnet.trunc(),
            link.name
        );
        let hint =
            "packets to it would go past the firewalls; for transparent firewalls leave the peer's `addresses` out";
        out.push(Diagnostic::warning(at.span.clone(), message).hint(hint));
    }
}

/// The addresses of a list; a second one of a family is reported.
pub fn one_per_family(typed: &Field<Vec<Located<IpAddr>>>, out: &mut Diagnostics) -> Vec<Located<IpAddr>> {
    let mut kept: Vec<Located<IpAddr>> = Vec::new();
    for at in typed.given().map(|list| list.value.as_slice()).unwrap_or_default() {
        let family = Family::of(at.value);
        match kept.iter().find(|first| Family::of(first.value) == family) {
            None => kept.push(at.clone()),
            Some(first) => {
                let message = format!("a second {} address: one per family is allowed", family_name(family));
                let first_here = format!("the first is {}", first.value);
                out.push(Diagnostic::error(at.span.clone(), message).related(first.span.clone(), first_here));
            }
        }
    }
    kept
}

/// Warns about addresses that make no path, because a path needs one family at the engine, the firewall and the peer.
pub fn families(
    typed: &file::Group,
    firewalls: &[Option<Firewall>],
    peers: &[Option<Peer>],
    links: &[Option<Link>],
    out: &mut Diagnostics,
) {
    let has = |firewall: &Firewall, family| firewall.addresses.iter().any(|address| Family::of(*address) == family);
    for (typed, peer) in typed.peers.iter().zip(peers) {
        let Some(peer) = peer else { continue };
        for at in typed.addresses.given().map(|list| list.value.as_slice()).unwrap_or_default() {
            let family = Family::of(at.value);
            let without: Vec<_> = firewalls
                .iter()
                .flatten()
                .filter(|firewall| !has(firewall, family))
                .map(|fw| fw.name.as_str())
                .collect();
            if !without.is_empty() {
                let family = family_name(family);
                let message = format!(
                    "peer {:?} has an {family} address, firewall {} has none: no {family} path through it",
                    peer.name,
                    without.join(", ")
                );
                out.push(Diagnostic::warning(at.span.clone(), message).hint("add it to the firewall's `addresses`"));
            }
        }
    }
    for (typed, firewall) in typed.firewalls.iter().zip(firewalls) {
        let (Some(firewall), Some(list)) = (firewall, typed.addresses.given()) else { continue };
        let Some(link) = &links[firewall.link.index()] else { continue };
        for at in &list.value {
            let family = Family::of(at.value);
            for peer in peers.iter().flatten() {
                let reached = peer.addresses.is_empty() || peer.addresses.iter().any(|a| Family::of(*a) == family);
                if !reached {
                    let family = family_name(family);
                    let message = format!(
                        "firewall {:?} has an {family} address, peer {:?} has none: no {family} path to it",
                        firewall.name, peer.name
                    );
                    out.push(Diagnostic::warning(at.span.clone(), message).hint("add one to the peer's `addresses`"));
                }
            }
            let source =
                link.addresses.iter().any(|own| Family::of(own.addr()) == family && !is_link_local(own.addr()));
            if is_link_local(at.value) && !source {
                let message = format!(
                    "link {:?} has no global IPv6 address: probes through {} have no source",
                    link.name, at.value
                );
                out.push(Diagnostic::error(at.span.clone(), message).hint("add one to the link's `addresses`"));
            }
        }
    }
}

/// Checks that packets from two firewalls on one link can be distinguished.
pub fn check_distinguishable(file: &File, out: &mut Diagnostics) {
    let mut by_link: BTreeMap<&str, Vec<&file::Firewall>> = BTreeMap::new();
    for firewall in file.groups.iter().flat_map(|group| &group.firewalls) {
        if let Some(link) = firewall.link.given() {
            by_link.entry(&link.value).or_default().push(firewall);
        }
    }
    for neighbors in by_link.values() {
        alone_on_its_link(neighbors, out);
        let mut first: BTreeMap<IpAddr, &Located<IpAddr>> = BTreeMap::new();
        for at in neighbors.iter().flat_map(|one| one.addresses.given()).flat_map(|list| &list.value) {
            let Some(first) = first.insert(at.value, at) else { continue };
            let message =
                format!("{} is the address of two firewalls of the link: they cannot be told apart", at.value);
            out.push(Diagnostic::error(at.span.clone(), message).related(first.span.clone(), "the first stands here"));
        }
    }
}

/// Refuses `learn-by = "link"` on a link with several firewalls.
fn alone_on_its_link(neighbors: &[&file::Firewall], out: &mut Diagnostics) {
    for (index, firewall) in neighbors.iter().enumerate() {
        let by_link = firewall.learn_by.given().filter(|at| at.value == LearnBy::Link);
        let other = if index == 0 { neighbors.get(1) } else { neighbors.first() };
        if let (Some(by_link), Some(other)) = (by_link, other) {
            let message = "`learn-by = \"link\"` needs a link with one firewall on it";
            let error = Diagnostic::error(by_link.span.clone(), message);
            out.push(error.related(other.span.clone(), "another firewall of the link stands here"));
        }
    }
}

/// IPv4 or IPv6.
pub fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
