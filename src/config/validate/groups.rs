//! `[[group]]` with its peers, firewalls and checks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file::{self, File, Kind};
use crate::config::reader::{At, Field};
use crate::config::validate::links::is_link_local;
use crate::config::validate::names::{Names, twice};
use crate::config::validate::{DOCUMENTATION_SEED, ReadSecret};
use crate::config::{Check, CheckKind, Firewall, Group, LearnBy, Link, Peer};
use crate::flow::{HashMode, Seed};
use crate::id::{FirewallId, GroupId, LinkId, PeerId};
use crate::path::Group as PathGroup;
use crate::time::Duration;
use crate::wire::Family;

/// Groups of one engine at most.
const GROUPS_MAX: usize = 64;
/// Peers of one group at most.
const PEERS_MAX: usize = 32;
/// Shorter seeds can be guessed by who sees the hash's choices.
const SEED_MIN: usize = 16;

/// Everything under `[[group]]`; `None` for a thing with a mistake. Positions are the ids.
#[derive(Default)]
pub struct Members {
    /// By [`GroupId`].
    pub groups: Vec<Option<Group>>,
    /// By [`FirewallId`].
    pub firewalls: Vec<Option<Firewall>>,
    /// By [`PeerId`].
    pub peers: Vec<Option<Peer>>,
    /// Per group, the numbers of its first firewall and first peer.
    pub first: Vec<(usize, usize)>,
}

/// Validates all groups.
pub fn groups(
    file: &File,
    links: &[Option<Link>],
    link_names: &Names<'_>,
    read_secret: &mut ReadSecret<'_>,
    out: &mut Diagnostics,
) -> Members {
    let mut members = Members::default();
    if let Some(one) = file.groups.get(GROUPS_MAX) {
        out.push(Diagnostic::error(one.span.clone(), format!("an engine has at most {GROUPS_MAX} groups")));
        return members;
    }
    for (index, typed) in file.groups.iter().enumerate() {
        let id = GroupId::from(index);
        members.first.push((members.firewalls.len(), members.peers.len()));
        if too_many(typed, out) {
            members.groups.push(None);
            continue;
        }
        let firewalls = firewalls(typed, id, links, link_names, out);
        let peers = peers(typed, id, links, out);
        families(typed, &firewalls, &peers, links, out);
        let group = group(typed, &members, read_secret, out);
        members.groups.push(group);
        members.firewalls.extend(firewalls);
        members.peers.extend(peers);
    }
    told_apart(file, out);
    members
}

fn too_many(typed: &file::Group, out: &mut Diagnostics) -> bool {
    let firewall =
        typed.firewalls.get(PathGroup::MEMBERS_MAX).map(|one| (&one.span, "firewalls", PathGroup::MEMBERS_MAX));
    let peer = typed.peers.get(PEERS_MAX).map(|one| (&one.span, "peers", PEERS_MAX));
    for (span, what, most) in [firewall, peer].into_iter().flatten() {
        out.push(Diagnostic::error(span.clone(), format!("a group has at most {most} {what}")));
    }
    firewall.is_some() || peer.is_some()
}

fn group(
    typed: &file::Group,
    before: &Members,
    read_secret: &mut ReadSecret<'_>,
    out: &mut Diagnostics,
) -> Option<Group> {
    let title = typed.name.value().map_or_else(|| "the group".to_owned(), |name| format!("group {name:?}"));
    if typed.firewalls.is_empty() {
        let missing = Diagnostic::error(typed.span.clone(), format!("{title} has no firewalls"));
        out.push(missing.hint("write [[group.firewall]] below it, once for each"));
    }
    if typed.peers.is_empty() {
        let missing = Diagnostic::error(
            typed.span.clone(),
            format!("{title} has no peer: nobody to probe through its firewalls"),
        );
        out.push(missing.hint("write [[group.peer]] with the name and addresses of the engine on the far side"));
    }
    if let Some(min_up) = typed.min_up.given()
        && min_up.value > typed.firewalls.len() as u64
        && !typed.firewalls.is_empty()
    {
        let never = format!("`min-up` is {}, but {title} has {} firewalls", min_up.value, typed.firewalls.len());
        out.push(Diagnostic::error(min_up.span.clone(), never).hint("with this it would never be up"));
    }
    if let Some(hash) = typed.hash.given() {
        one_sided_hash(typed, hash, out);
    }
    if let Some(drain) = typed.drain_timeout.given()
        && drain.value == Some(Duration::ZERO)
    {
        let hint = "set admin = \"maint\" to end sessions at once";
        out.push(Diagnostic::warning(drain.span.clone(), "a drain ends every session at once").hint(hint));
    }
    let seed = typed.seed.given().and_then(|seed| secret(seed, read_secret, out));
    let check = check(typed.check.as_ref(), out);
    let (firewall, peer) = (before.firewalls.len(), before.peers.len());
    Some(Group {
        name: typed.name.value()?,
        seed: seed?,
        hash: typed.hash.value().unwrap_or_default(),
        on_failure: typed.on_failure.value().unwrap_or_default(),
        min_up: typed.min_up.value().and_then(|min_up| u16::try_from(min_up).ok()).unwrap_or(1),
        below_min: typed.below_min.value().unwrap_or_default(),
        drain_timeout: typed.drain_timeout.value().unwrap_or(Some(Duration::from_secs(300))),
        check: check?,
        firewalls: (firewall..firewall + typed.firewalls.len()).map(FirewallId::from).collect(),
        peers: (peer..peer + typed.peers.len()).map(PeerId::from).collect(),
    })
}

/// What is the source for this engine is the destination for its peer; with several peers it cannot be right for all.
fn one_sided_hash(typed: &file::Group, hash: &At<HashMode>, out: &mut Diagnostics) {
    match hash.value {
        HashMode::FiveTuple | HashMode::ThreeTuple | HashMode::Addresses => return,
        HashMode::Source | HashMode::Destination => {}
    }
    if let [_, second, ..] = typed.peers.as_slice() {
        let error = Diagnostic::error(hash.span.clone(), "a one-sided hash can meet its other side at one peer only");
        let hint = "use \"addresses\", which is the same from everywhere";
        out.push(error.hint(hint).related(second.span.clone(), "a second peer stands here"));
    }
}

fn secret(typed: &At<String>, read_secret: &mut ReadSecret<'_>, out: &mut Diagnostics) -> Option<Seed> {
    let text = match typed.value.strip_prefix("file:") {
        None => typed.value.clone(),
        Some(path) if !path.starts_with('/') => {
            out.push(Diagnostic::error(typed.span.clone(), format!("not an absolute path: {path:?}")));
            return None;
        }
        Some(path) => match read_secret(Path::new(path)) {
            Ok(text) => text.strip_suffix('\n').map_or(text.as_str(), |text| text.trim_end_matches('\r')).to_owned(),
            Err(why) => {
                let hint = format!("make it, the same on all engines: head -c 24 /dev/urandom | base64 > {path}");
                out.push(Diagnostic::error(typed.span.clone(), format!("cannot read {path}: {why}")).hint(hint));
                return None;
            }
        },
    };
    if text.is_empty() {
        out.push(Diagnostic::error(typed.span.clone(), "the seed is empty"));
        return None;
    }
    if text == DOCUMENTATION_SEED {
        let message = "this is the documentation's seed, known to everybody: clients could choose their firewall";
        let hint = "write your own, the same on all engines, or \"file:/etc/fwlb/seed\"";
        out.push(Diagnostic::warning(typed.span.clone(), message).hint(hint));
    } else if text.len() < SEED_MIN {
        let message = format!("the seed has {} bytes and can be guessed", text.len());
        out.push(Diagnostic::warning(typed.span.clone(), message).hint(format!("use {SEED_MIN} or more")));
    }
    Some(Seed::from_text(&text))
}

fn check(typed: Option<&file::Check>, out: &mut Diagnostics) -> Option<Check> {
    let default = Check {
        kind: CheckKind::Icmp,
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(100),
        fall: 5,
        rise: 10,
        hold: Duration::from_secs(2),
    };
    let Some(typed) = typed else { return Some(default) };
    let kind = match typed.kind {
        Field::Absent => Kind::Icmp,
        Field::Given(ref kind) => kind.value,
        Field::Invalid => return None,
    };
    let port = typed.port.value().and_then(|port| u16::try_from(port).ok());
    let kind = match (kind, &typed.port) {
        (Kind::Icmp | Kind::None, Field::Given(port)) => {
            let message = "`port` is for the kinds \"tcp\" and \"udp\"";
            out.push(Diagnostic::error(port.span.clone(), message).hint("add kind = \"tcp\", or remove the port"));
            return None;
        }
        (Kind::Tcp | Kind::Udp, Field::Absent) => {
            let place = typed.kind.given().map_or(typed.span.clone(), |kind| kind.span.clone());
            out.push(Diagnostic::error(place, "this kind of check needs a `port`").hint("add for example port = 7"));
            return None;
        }
        (Kind::Icmp, Field::Absent | Field::Invalid) => CheckKind::Icmp,
        (Kind::None, Field::Absent | Field::Invalid) => CheckKind::None,
        (Kind::Tcp, Field::Given(_) | Field::Invalid) => CheckKind::Tcp { port: port? },
        (Kind::Udp, Field::Given(_) | Field::Invalid) => CheckKind::Udp { port: port? },
    };
    let small = |field: &Field<u64>, default: u8| field.value().and_then(|n| u8::try_from(n).ok()).unwrap_or(default);
    Some(Check {
        kind,
        interval: typed.interval.value().unwrap_or(default.interval),
        timeout: typed.timeout.value().unwrap_or(default.timeout),
        fall: small(&typed.fall, default.fall),
        rise: small(&typed.rise, default.rise),
        hold: typed.hold.value().unwrap_or(default.hold),
    })
}

fn firewalls(
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
                next_hop(at, link, links, out);
            }
        }
        Some(Firewall {
            name: typed.name.value()?,
            group,
            link: LinkId::from(link?),
            addresses: addresses.iter().map(|at| at.value).collect(),
            learn_by: typed.learn_by.value().unwrap_or_default(),
            weight: typed.weight.value().and_then(|weight| u16::try_from(weight).ok()).unwrap_or(1),
            spare: typed.spare.value() == Some(true),
            admin: typed.admin.value().unwrap_or_default(),
        })
    };
    let firewalls: Vec<_> = typed.firewalls.iter().map(&mut one).collect();
    if let [first, ..] = typed.firewalls.as_slice()
        && typed.firewalls.iter().all(|firewall| firewall.spare.value() == Some(true))
    {
        let message = "every firewall of the group is a spare";
        out.push(Diagnostic::error(first.span.clone(), message).hint("a spare takes over for a firewall that is not"));
    }
    firewalls
}

/// A neighbour on `link` has to be reachable there, and must not be the engine itself.
pub fn next_hop(at: &At<IpAddr>, link: &Link, links: &[Option<Link>], out: &mut Diagnostics) -> bool {
    let own = links.iter().flatten().find(|own| own.addresses.iter().any(|own| own.addr() == at.value));
    if let Some(own) = own {
        let message = format!("{} is the engine's own address on link {:?}", at.value, own.name);
        out.push(Diagnostic::error(at.span.clone(), message));
        return false;
    }
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

fn peers(typed: &file::Group, group: GroupId, links: &[Option<Link>], out: &mut Diagnostics) -> Vec<Option<Peer>> {
    Names::new("peer", typed.peers.iter().map(|peer| &peer.name), out);
    let mut seen: Vec<At<IpAddr>> = Vec::new();
    let mut one = |typed: &file::Peer| {
        let addresses = one_per_family(&typed.addresses, out);
        for at in &addresses {
            if let Some(first) = seen.iter().find(|first| first.value == at.value) {
                out.push(twice(format!("peer address {}", at.value), &at.span, &first.span));
            }
            far_side(at, links, out);
        }
        seen.extend(addresses.iter().cloned());
        let invalid = matches!(typed.addresses, Field::Invalid);
        Some(Peer {
            name: typed.name.value().filter(|_| !invalid)?,
            group,
            addresses: addresses.into_iter().map(|at| at.value).collect(),
        })
    };
    typed.peers.iter().map(&mut one).collect()
}

/// A peer in a connected subnet is on the near side: what goes to it need not pass the firewalls.
fn far_side(at: &At<IpAddr>, links: &[Option<Link>], out: &mut Diagnostics) {
    if is_link_local(at.value) {
        let message = format!("{} is a link-local address: no firewall forwards to it", at.value);
        out.push(Diagnostic::error(at.span.clone(), message));
        return;
    }
    for link in links.iter().flatten() {
        let Some(subnet) = link.addresses.iter().find(|subnet| subnet.contains(&at.value)) else { continue };
        if subnet.addr() == at.value {
            let message = format!("{} is the engine's own address on link {:?}", at.value, link.name);
            out.push(Diagnostic::error(at.span.clone(), message));
        } else {
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
}

/// The addresses of a list that has at most one per family.
pub fn one_per_family(typed: &Field<Vec<At<IpAddr>>>, out: &mut Diagnostics) -> Vec<At<IpAddr>> {
    let mut kept: Vec<At<IpAddr>> = Vec::new();
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

/// A path has one family: firewall, peer and the engine's own address on the link must share it.
fn families(
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

/// Two firewalls on one link have to be told apart by what comes from them.
fn told_apart(file: &File, out: &mut Diagnostics) {
    let mut by_link: BTreeMap<&str, Vec<&file::Firewall>> = BTreeMap::new();
    for firewall in file.groups.iter().flat_map(|group| &group.firewalls) {
        if let Some(link) = firewall.link.given() {
            by_link.entry(&link.value).or_default().push(firewall);
        }
    }
    for neighbors in by_link.values() {
        alone_on_its_link(neighbors, out);
        let mut first: BTreeMap<IpAddr, &At<IpAddr>> = BTreeMap::new();
        for at in neighbors.iter().flat_map(|one| one.addresses.given()).flat_map(|list| &list.value) {
            let Some(first) = first.insert(at.value, at) else { continue };
            let message =
                format!("{} is the address of two firewalls of the link: they cannot be told apart", at.value);
            out.push(Diagnostic::error(at.span.clone(), message).related(first.span.clone(), "the first stands here"));
        }
    }
}

/// Everything that arrives on a link comes from one firewall only if it is the only one there.
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
