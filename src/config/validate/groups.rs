//! Validates `[[group]]` with its seed and checks.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use ipnet::IpNet;

use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file::{self, CheckKindName, File};
use crate::config::reader::{Field, Located};
use crate::config::validate::members::{check_distinguishable, families, firewalls, peers};
use crate::config::validate::names::{Names, duplicate_error};
use crate::config::validate::secrets::{is_hidden, secret};
use crate::config::validate::{DOCUMENTATION_SEED, ReadSecret};
use crate::config::{Firewall, Group, Link, PathCheck, PathCheckKind, Peer};
use crate::flow::{AffinityRule, HashMode, Seed};
use crate::id::{FirewallId, GroupId, PeerId};
use crate::path::FirewallGroup as PathGroup;
use crate::time::Duration;

/// The largest number of groups of one engine.
const GROUPS_MAX: usize = 64;
/// The largest number of peers of one group.
const PEERS_MAX: usize = 32;
/// The least length of a seed in bytes; a shorter one could be guessed by somebody who observes which firewalls flows
/// take.
const SEED_MIN: usize = 16;

/// Everything in `[[group]]`, indexed by id; `None` for an entry with a mistake.
#[derive(Default)]
pub struct Members {
    /// Indexed by [`GroupId`].
    pub groups: Vec<Option<Group>>,
    /// Indexed by [`FirewallId`].
    pub firewalls: Vec<Option<Firewall>>,
    /// Indexed by [`PeerId`].
    pub peers: Vec<Option<Peer>>,
    /// For each group the indexes of its first firewall and first peer.
    pub first: Vec<(usize, usize)>,
}

/// Validates all groups with their firewalls and peers.
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
    check_distinguishable(file, out);
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
        out.push(missing.hint(
            "both sides of the firewalls are engines, each with a file of its own, which one box can run together; write \
             [[group.peer]] with the name and addresses of the one on the far side",
        ));
    }
    if let Some(min_up) = typed.min_up.given()
        && usize::from(min_up.value) > typed.firewalls.len()
        && !typed.firewalls.is_empty()
    {
        let never = format!("`min-up` is {}, but {title} has {} firewalls", min_up.value, typed.firewalls.len());
        out.push(Diagnostic::error(min_up.span.clone(), never).hint("with this it would never be up"));
    }
    for hash in typed.hash.given().into_iter().chain(typed.affinity.iter().filter_map(|rule| rule.hash.given())) {
        one_sided_hash(typed, hash, out);
    }
    if let Some(drain) = typed.drain_timeout.given()
        && drain.value == Some(Duration::ZERO)
    {
        let hint = "set admin = \"maint\" to end sessions at once";
        out.push(Diagnostic::warning(drain.span.clone(), "a drain ends every session at once").hint(hint));
    }
    let seed = typed.seed.given().and_then(|typed| seed(typed, read_secret, out));
    let check = check(typed.check.as_ref(), out);
    let (firewall, peer) = (before.firewalls.len(), before.peers.len());
    Some(Group {
        name: typed.name.value()?,
        seed: seed?,
        hash: typed.hash(),
        affinity: affinity(typed, out),
        on_failure: typed.on_failure(),
        min_up: typed.min_up(),
        below_min: typed.below_min(),
        drain_timeout: typed.drain_timeout(),
        check: check?,
        firewalls: (firewall..firewall + typed.firewalls.len()).map(FirewallId::from).collect(),
        peers: (peer..peer + typed.peers.len()).map(PeerId::from).collect(),
    })
}

/// The rules of all `[[group.affinity]]`, one for each prefix.
fn affinity(typed: &file::Group, out: &mut Diagnostics) -> Vec<AffinityRule> {
    let mut first: BTreeMap<IpNet, Range<usize>> = BTreeMap::new();
    let mut rules = Vec::new();
    for section in &typed.affinity {
        for prefix in section.prefixes.given().map(|list| list.value.as_slice()).unwrap_or_default() {
            match first.entry(prefix.value) {
                Entry::Vacant(entry) => drop(entry.insert(prefix.span.clone())),
                Entry::Occupied(entry) => {
                    out.push(duplicate_error(format!("the affinity of {}", prefix.value), &prefix.span, entry.get()));
                }
            }
            rules.push(AffinityRule { prefix: prefix.value, mode: section.hash() });
        }
    }
    rules
}

/// What is the source for this engine is the destination for its peer. That cannot be right for several peers, as they
/// are on the same side.
fn one_sided_hash(typed: &file::Group, hash: &Located<HashMode>, out: &mut Diagnostics) {
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

fn seed(typed: &Located<String>, read_secret: &mut ReadSecret<'_>, out: &mut Diagnostics) -> Option<Seed> {
    let make = |path: &str| format!("make it, the same on all engines: head -c 24 /dev/urandom | base64 > {path}");
    let text = secret(typed, read_secret, make, out)?;
    if text.is_empty() {
        out.push(Diagnostic::error(typed.span.clone(), "the seed is empty"));
        return None;
    }
    if is_hidden(typed) {
        return Some(Seed::from_text(&text));
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

fn check(typed: Option<&file::Check>, out: &mut Diagnostics) -> Option<PathCheck> {
    let Some(typed) = typed else { return Some(PathCheck::default()) };
    if matches!(typed.kind, Field::Invalid) {
        return None;
    }
    let port = typed.port.value();
    let kind = match (typed.kind(), &typed.port) {
        (CheckKindName::Icmp | CheckKindName::None, Field::Given(port)) => {
            let message = "`port` is for the kinds \"tcp\" and \"udp\"";
            out.push(Diagnostic::error(port.span.clone(), message).hint("add kind = \"tcp\", or remove the port"));
            return None;
        }
        (CheckKindName::Tcp | CheckKindName::Udp, Field::Absent) => {
            let place = typed.kind.given().map_or(typed.span.clone(), |kind| kind.span.clone());
            out.push(Diagnostic::error(place, "this kind of check needs a `port`").hint("add for example port = 7"));
            return None;
        }
        (CheckKindName::Icmp, Field::Absent | Field::Invalid) => PathCheckKind::Icmp,
        (CheckKindName::None, Field::Absent | Field::Invalid) => PathCheckKind::None,
        (CheckKindName::Tcp, Field::Given(_) | Field::Invalid) => PathCheckKind::Tcp { port: port? },
        (CheckKindName::Udp, Field::Given(_) | Field::Invalid) => PathCheckKind::Udp { port: port? },
    };
    Some(PathCheck {
        kind,
        interval: typed.interval(),
        timeout: typed.timeout(),
        fall: typed.fall(),
        rise: typed.rise(),
        hold: typed.hold(),
    })
}
