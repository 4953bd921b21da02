//! Compares the configurations of several engines: whether they can run on one machine, whether groups of the same name
//! are configured alike, and whether the nodes of a cluster agree. Each file is assumed to be valid by itself.

mod nodes;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::diagnostic::Diagnostic;
use crate::config::file::{self, File};
use crate::config::reader::Located;
use crate::config::{Config, Group, Io, LoadedConfig, Token};
use crate::flow::HashMode;

/// Compares all valid configurations with each other and adds what does not fit to their diagnostics.
pub fn compare(outcomes: &mut [LoadedConfig]) {
    for index in 0..outcomes.len() {
        let mut found = Vec::new();
        let (earlier, rest) = outcomes.split_at(index);
        let Some((this, later)) = rest.split_first() else { continue };
        let (Some(config), Some(file)) = (&this.config, &this.file) else { continue };
        for other in earlier {
            if let Some(other_config) = &other.config {
                check_paths(config, file, other_config, &other.diagnostics.path, &mut found);
                check_devices(config, file, other_config, &other.diagnostics.path, &mut found);
                check_api_listeners(config, file, other_config, &other.diagnostics.path, &mut found);
                if is_same_cluster(config, other_config) {
                    nodes::check(this, config, other_config, &other.diagnostics.path, &mut found);
                } else {
                    check_groups(config, file, other_config, &other.diagnostics.path, &mut found);
                }
                check_vrids(config, file, other_config, &other.diagnostics.path, &mut found);
            }
        }
        let others: Vec<_> = earlier.iter().chain(later).filter_map(|other| other.config.as_ref()).collect();
        let far: Vec<_> = others.iter().copied().filter(|other| !is_same_cluster(config, other)).collect();
        one_sided_hash(config, file, &far, &mut found);
        peer_addresses(config, file, &others, &mut found);
        let refused = found.iter().any(|diagnostic| diagnostic.severity == crate::config::Severity::Error);
        let this = &mut outcomes[index];
        found.into_iter().for_each(|diagnostic| this.diagnostics.push(diagnostic));
        this.diagnostics.sort();
        if refused {
            this.config = None;
        }
    }
}

/// True if the engines of both are nodes of one cluster, and so on the same side of the firewalls.
fn is_same_cluster(config: &Config, other: &Config) -> bool {
    let ha = config.ha.as_ref();
    ha.is_some_and(|ha| ha.nodes.iter().any(|node| node.name == other.engine.name))
}

/// Refuses two engines with the same name, control socket, state directory or session log.
fn check_paths(config: &Config, file: &File, other: &Config, path: &str, found: &mut Vec<Diagnostic>) {
    let Some(engine) = &file.engine else { return };
    let at = engine.name.given().map_or(0..0, |name| name.span.clone());
    if config.engine.name == other.engine.name {
        let message = format!("the engine of {path} is also called {:?}", other.engine.name);
        found.push(Diagnostic::error(at, message));
        return;
    }
    let span = |field: Option<std::ops::Range<usize>>| field.unwrap_or(at.clone());
    let sessions = |config: &Config| config.log.sessions.clone();
    for (at, own, others) in [
        (
            span(engine.control.given().map(|at| at.span.clone())),
            Some(&config.engine.control),
            Some(&other.engine.control),
        ),
        (span(engine.state.given().map(|at| at.span.clone())), Some(&config.engine.state), Some(&other.engine.state)),
        (
            span(file.log.sessions.given().map(|at| at.span.clone())),
            sessions(config).as_ref(),
            sessions(other).as_ref(),
        ),
    ] {
        if let Some(own) = own.filter(|own| Some(*own) == others) {
            found.push(Diagnostic::error(at, format!("the engine of {path} also uses {}", own.display())));
        }
    }
}

/// Refuses a device that two engines use if one of them uses AF_XDP, which hands all frames of a device to one engine,
/// whatever their VLAN.
fn check_devices(config: &Config, file: &File, other: &Config, path: &str, found: &mut Vec<Diagnostic>) {
    if config.engine.io == Io::AfPacket && other.engine.io == Io::AfPacket {
        return;
    }
    for (link, typed) in config.links.iter().zip(&file.links) {
        let device = &config.devices[link.device.index()];
        if other.devices.contains(device) {
            let at = typed.device.given().map_or(typed.span.clone(), |device| device.span.clone());
            let message = format!("{path} uses {device} too, and with io = \"af-xdp\" a device has one engine");
            found.push(Diagnostic::error(at, message).hint("use io = \"af-packet\" in both files"));
        }
    }
}

/// Engines with the same API address are served by one listener, so that their certificates and tokens must agree.
fn check_api_listeners(config: &Config, file: &File, other: &Config, path: &str, found: &mut Vec<Diagnostic>) {
    let Some(listen) = file.api.listen.given() else { return };
    let Some(others) = other.api.listen.filter(|others| others.port() == listen.value.port()) else { return };
    if others != listen.value {
        if others.ip().is_unspecified() || listen.value.ip().is_unspecified() {
            let message = format!("{} takes the port from {others} of {path}", listen.value);
            found.push(
                Diagnostic::error(listen.span.clone(), message).hint("listen on one of the two, or on another port"),
            );
        }
        return;
    }
    if config.api.tls != other.api.tls {
        let message = format!("{path} listens on {others} too, with another `tls`");
        found.push(Diagnostic::error(listen.span.clone(), message).hint("say the same in both files"));
    }
    for (token, typed) in config.api.tokens.iter().zip(&file.api.tokens) {
        let differs = |twin: &Token| match (twin.name == token.name, twin.secret == token.secret) {
            (true, true) => twin.role != token.role,
            (true, false) | (false, true) => true,
            (false, false) => false,
        };
        if other.api.tokens.iter().any(differs) {
            let message =
                format!("token {:?} is another one in {path}, which is served on the same address", token.name);
            found.push(Diagnostic::error(typed.span.clone(), message).hint("say the same in both files"));
        }
    }
}

/// Groups with the same name are one group: its engines must agree on everything that the hash covers.
fn check_groups(config: &Config, file: &File, other: &Config, path: &str, found: &mut Vec<Diagnostic>) {
    for (group, typed) in config.groups.iter().zip(&file.groups) {
        let Some(twin) = other.groups.iter().find(|twin| twin.name == group.name) else { continue };
        let name = &group.name;
        let hint = "both engines must say the same, or they choose different firewalls until they learn better";
        let mut differs = |at: Option<std::ops::Range<usize>>, message: String| {
            found.push(Diagnostic::warning(at.unwrap_or(typed.span.clone()), message).hint(hint));
        };
        if group.seed != twin.seed {
            let at = typed.seed.given().map(|seed| seed.span.clone());
            differs(at, format!("the seed of group {name:?} is not that of {path}"));
        }
        if group.hash != twin.hash && opposite(group.hash).is_none() && opposite(twin.hash).is_none() {
            let at = typed.hash.given().map(|hash| hash.span.clone());
            differs(at, format!("the hash of group {name:?} is not that of {path}"));
        }
        affinity(group, typed, twin, path, &mut differs);
        members(config, group, typed, other, twin, path, &mut differs);
    }
}

/// The places of the prefixes of all `[[group.affinity]]`, in the order of their rules.
fn affinity_places(typed: &file::Group) -> impl Iterator<Item = &Located<IpNet>> {
    typed.affinity.iter().flat_map(|section| section.prefixes.given()).flat_map(|list| &list.value)
}

fn affinity(
    group: &Group,
    typed: &file::Group,
    twin: &Group,
    path: &str,
    differs: &mut impl FnMut(Option<std::ops::Range<usize>>, String),
) {
    let of = |group: &Group, prefix| group.affinity.iter().find(|rule| rule.prefix == prefix).map(|rule| rule.mode);
    for (rule, place) in group.affinity.iter().zip(affinity_places(typed)) {
        let message = match of(twin, rule.prefix) {
            Some(mode) if mode.breadth() == rule.mode.breadth() => continue,
            Some(mode) => format!("the affinity of {} is by \"{}\", in {path} by \"{mode}\"", rule.prefix, rule.mode),
            None => format!("{path} has no affinity of {}", rule.prefix),
        };
        differs(Some(place.span.clone()), message);
    }
    for missing in twin.affinity.iter().filter(|rule| of(group, rule.prefix).is_none()) {
        differs(None, format!("the affinity of {} in {path} is missing in group {:?}", missing.prefix, group.name));
    }
}

fn members(
    config: &Config,
    group: &Group,
    typed: &file::Group,
    other: &Config,
    twin: &Group,
    path: &str,
    differs: &mut impl FnMut(Option<std::ops::Range<usize>>, String),
) {
    let twins: Vec<_> = twin.firewalls.iter().map(|id| &other.firewalls[id.index()]).collect();
    let own: Vec<_> = group.firewalls.iter().map(|id| &config.firewalls[id.index()]).collect();
    for (firewall, typed) in own.iter().zip(&typed.firewalls) {
        let name = &firewall.name;
        let Some(twin) = twins.iter().find(|twin| twin.name == *name) else {
            differs(typed.name.given().map(|name| name.span.clone()), format!("firewall {name:?} is not in {path}"));
            continue;
        };
        if firewall.weight != twin.weight {
            let at = typed.weight.given().map_or(typed.span.clone(), |weight| weight.span.clone());
            differs(Some(at), format!("firewall {name:?} has weight {}, in {path} {}", firewall.weight, twin.weight));
        }
        if firewall.spare != twin.spare {
            let at = typed.spare.given().map_or(typed.span.clone(), |spare| spare.span.clone());
            let is = |spare: bool| if spare { "a spare" } else { "no spare" };
            differs(Some(at), format!("firewall {name:?} is {}, in {path} {}", is(firewall.spare), is(twin.spare)));
        }
    }
    for missing in twins.iter().filter(|twin| own.iter().all(|firewall| firewall.name != twin.name)) {
        let message = format!("firewall {:?} of {path} is missing in group {:?}", missing.name, group.name);
        differs(None, message);
    }
}

/// Refuses a VRID that the far cluster has, too, on the other side of transparent firewalls. These are bridges, so that
/// both clusters would be one virtual MAC address in one network.
fn check_vrids(config: &Config, file: &File, other: &Config, path: &str, found: &mut Vec<Diagnostic>) {
    let Some(ha) = file.ha.as_ref().filter(|_| !is_same_cluster(config, other)) else { return };
    let mut told = BTreeSet::new();
    for group in &config.groups {
        let is_bridged = group.peers.iter().any(|peer| config.peers[peer.index()].addresses.is_empty());
        let twins = other.groups.iter().filter(|twin| is_bridged && twin.name == group.name);
        let twins: Vec<_> = twins.flat_map(|twin| &twin.firewalls).map(|id| &other.firewalls[id.index()]).collect();
        for firewall in group.firewalls.iter().map(|id| &config.firewalls[id.index()]) {
            let Some(twin) = twins.iter().find(|twin| twin.name == firewall.name) else { continue };
            let (own, far) = (config.vrid(firewall.link), other.vrid(twin.link));
            let Some(vrid) = own.filter(|_| own == far && told.insert(firewall.link)) else { continue };
            let typed = file.links.get(firewall.link.index()).and_then(|link| link.vrid.given()).or(ha.vrid.given());
            let message = format!(
                "VRID {vrid} is that of {path}, too, on link {:?} behind the transparent firewall {:?}",
                other.links[twin.link.index()].name,
                firewall.name
            );
            let at = typed.map_or(ha.span.clone(), |vrid| vrid.span.clone());
            found.push(
                Diagnostic::error(at, message)
                    .hint("give the two sides different VRIDs: firewalls that are bridges join their links"),
            );
        }
    }
}

/// The hash mode that the peer engine needs so that both engines hash the same address, and its name in the file.
fn opposite(hash: HashMode) -> Option<(HashMode, &'static str)> {
    match hash {
        HashMode::Source => Some((HashMode::Destination, "destination")),
        HashMode::Destination => Some((HashMode::Source, "source")),
        HashMode::FiveTuple | HashMode::ThreeTuple | HashMode::Addresses => None,
    }
}

/// Warns about a hash that looks at one end, of a group or of an affinity, unless every engine on the far side looks at
/// the other end.
fn one_sided_hash(config: &Config, file: &File, others: &[&Config], found: &mut Vec<Diagnostic>) {
    for (group, typed) in config.groups.iter().zip(&file.groups) {
        let twins: Vec<_> =
            others.iter().flat_map(|other| &other.groups).filter(|twin| twin.name == group.name).collect();
        let mut judge = |mode, at: &std::ops::Range<usize>, of_twin: &dyn Fn(&Group) -> Option<HashMode>| {
            let Some((needed, word)) = opposite(mode) else { return };
            let hint = match twins.as_slice() {
                [] => "check the files of both engines together: fwlb check outer.toml inner.toml",
                twins if twins.iter().all(|twin| of_twin(twin) == Some(needed)) => return,
                _ => "it says something else",
            };
            let message = format!("this hash is right only if the peer engine says `hash = \"{word}\"`");
            found.push(Diagnostic::warning(at.clone(), message).hint(hint));
        };
        if let Some(at) = typed.hash.given() {
            judge(group.hash, &at.span, &|twin| Some(twin.hash));
        }
        for (rule, place) in group.affinity.iter().zip(affinity_places(typed)) {
            let of_twin =
                |twin: &Group| twin.affinity.iter().find(|other| other.prefix == rule.prefix).map(|rule| rule.mode);
            judge(rule.mode, &place.span, &of_twin);
        }
    }
}

/// Warns about a peer that is one of the other engines by name, but has an address that this engine does not have: its
/// own, or the floating ones that it shares.
fn peer_addresses(config: &Config, file: &File, others: &[&Config], found: &mut Vec<Diagnostic>) {
    let engine = |name: &str| others.iter().find(|other| other.engine.name == name);
    let is_own = |engine: &Config, address: IpAddr| {
        engine.links.iter().flat_map(|link| &link.addresses).any(|own| own.addr() == address)
    };
    let is_floating =
        |engine: &Config, address: IpAddr| engine.links.iter().any(|link| link.floating.contains(&address));
    let mut missing = |at: &Located<IpAddr>, name: &str, what: &str| {
        let message = format!("engine {name:?} has no {what} {}", at.value);
        found.push(Diagnostic::warning(at.span.clone(), message).hint("it must be one of its links'"));
    };
    let typed = file.groups.iter().flat_map(|group| &group.peers);
    for (peer, typed) in config.peers.iter().zip(typed) {
        let shared = typed.addresses.given().map(|list| list.value.as_slice()).unwrap_or_default();
        if let Some(engine) = engine(&peer.name) {
            let unknown = |at: &&Located<IpAddr>| !is_own(engine, at.value) && !is_floating(engine, at.value);
            shared.iter().filter(unknown).for_each(|at| missing(at, &peer.name, "address"));
        }
        for typed_engine in &typed.engines {
            let Some(name) = typed_engine.name.value() else { continue };
            let Some(engine) = engine(&name) else { continue };
            let own = typed_engine.addresses.given().map(|list| list.value.as_slice()).unwrap_or_default();
            own.iter().filter(|at| !is_own(engine, at.value)).for_each(|at| missing(at, &name, "own address"));
            let unshared = |at: &&Located<IpAddr>| !is_floating(engine, at.value);
            shared.iter().filter(unshared).for_each(|at| missing(at, &name, "floating address"));
        }
    }
}
