//! Writes the configuration files of the lab's engines as a user would write them.

mod cluster;
mod services;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::LabError;
use super::blueprint::{firewall_devices, host_device, network};
use super::farm::ServiceMode;
use super::topology::{AddressPair, Engine, FirewallKind, RoutingSetup, Side, Topology};
use crate::config;
use crate::ha::association::KEY_MIN;

/// Name of the group in every lab.
pub const GROUP: &str = "perimeter";

pub(super) use cluster::key_file;

/// The configuration file of one engine, whose files are in `directory`.
pub fn configuration(lab: &Topology, engine: impl Into<Engine>, directory: &str) -> String {
    let engine = engine.into();
    let (side, name) = (engine.side, engine.name());
    let mut text = format!("{}\n", header_comment(lab, side));
    section(
        &mut text,
        lab,
        "engine",
        &[
            ("name", name.into()),
            ("workers", 1.into()),
            ("control", format!("{directory}/{name}.sock").into()),
            ("state", format!("{directory}/state/{name}").into()),
        ],
    );
    for optional in ["api", "limits", "log", "timeouts"] {
        if lab.settings.contains_key(optional) {
            section(&mut text, lab, optional, &[]);
        }
    }
    if engine.node.is_some() {
        cluster::cluster(&mut text, lab, side, directory);
    }
    // Settings that have to differ between the engines, such as the path of a file.
    text = text.replace("{engine}", name);
    links(&mut text, lab, engine);
    if lab.routers != RoutingSetup::Single {
        routes(&mut text, lab, side);
        group(&mut text, lab, side);
    }
    if side == Side::Inner {
        services::services(&mut text, lab);
    }
    text
}

/// The comment at the head of the file.
fn header_comment(lab: &Topology, side: Side) -> String {
    let what = match (lab.routers, side) {
        (RoutingSetup::Single, _) => "A plain server load balancer: clients on one side, the servers on the other.",
        (RoutingSetup::Pairs, Side::Outer) => {
            "One of the sandwich's two outer engines: they stand between the clients and the firewalls."
        }
        (RoutingSetup::Pairs, Side::Inner) => {
            "One of the sandwich's two inner engines: they stand between the firewalls and the servers."
        }
        (_, Side::Outer) => "The sandwich's outer engine: it stands between the clients and the firewalls.",
        (_, Side::Inner) => "The sandwich's inner engine: it stands between the firewalls and the servers.",
    };
    let neighbours = match (lab.farm.as_ref().map(|farm| farm.mode), side) {
        (Some(ServiceMode::Nat), Side::Inner) => {
            "\n# The servers have this engine as their default gateway, so that answers come back through it."
        }
        (Some(ServiceMode::FullNat), Side::Inner) => {
            "\n# Servers see this engine's address as the client's; they need no gateway here."
        }
        (Some(ServiceMode::Direct), Side::Inner) => {
            "\n# Packets reach the servers with the VIP as destination: it stands on their loopback; `fwlb check` says how."
        }
        (None, _) | (Some(_), Side::Outer) => "",
    };
    format!("# {what}{neighbours}\n# Written by `fwlb lab`. Change it and run `fwlb check` on it.")
}

/// Validates all configuration files before anything is built.
///
/// # Errors
/// An engine would refuse a setting; the message is that of `fwlb check`.
pub fn check(lab: &Topology, directory: &str) -> Result<(), LabError> {
    for engine in lab.engines() {
        let text = configuration(lab, engine, directory);
        let outcome = config::load(&format!("{directory}/{engine}.toml"), &text, &mut |path| {
            // The key is made after this check; any other file is the user's, and is there already.
            match path == Path::new(&key_file(engine.side, directory)) {
                true => Ok("-".repeat(KEY_MIN)),
                false => fs::read_to_string(path).map_err(|error| error.to_string()),
            }
        });
        if outcome.config.is_none() {
            return Err(LabError::Topology(outcome.diagnostics.render(false)));
        }
    }
    Ok(())
}

/// A key with its value.
type Entry = (&'static str, toml::Value);

/// Writes a section: the lab's own settings, replaced and extended by those of the topology.
fn section(text: &mut String, lab: &Topology, name: &str, defaults: &[Entry]) {
    let set = lab.settings.get(name);
    let header = match name {
        "group" | "service" => format!("[[{name}]]"),
        _ => format!("[{name}]"),
    };
    line(text, &format!("\n{header}"));
    for (key, default) in defaults {
        let value = set.and_then(|set| set.get(*key)).unwrap_or(default);
        line(text, &format!("{key} = {value}"));
    }
    for (key, value) in set.into_iter().flatten() {
        if !defaults.iter().any(|(default, _)| default == key) {
            line(text, &format!("{key} = {value}"));
        }
    }
}

fn links(text: &mut String, lab: &Topology, engine: Engine) {
    let side = engine.side;
    let mut write = |name: &str, device: &str, vlan, address| link(text, engine, name, device, vlan, address);
    if lab.routers == RoutingSetup::Single {
        write(host_device(Side::Outer), host_device(Side::Outer), None, lab.outer_toward_client());
        write(host_device(Side::Inner), host_device(Side::Inner), None, lab.inner_toward_servers());
        return;
    }
    let near = match side {
        Side::Outer => lab.outer_toward_client(),
        Side::Inner => lab.inner_toward_servers(),
    };
    write(host_device(side), host_device(side), None, near);
    for (device, firewall) in firewall_devices(lab, side) {
        match lab.kind {
            FirewallKind::Strict | FirewallKind::Loose | FirewallKind::Nat => {
                write("firewalls", &device, None, firewall_link_address(lab, side, 0));
            }
            FirewallKind::Transparent => {
                write(&format!("fw{firewall}"), &device, None, firewall_link_address(lab, side, firewall));
            }
            FirewallKind::Vlan => {
                for firewall in 1..=lab.firewalls {
                    let vlan = Some(100 + u16::from(firewall));
                    write(&format!("fw{firewall}"), &device, vlan, firewall_link_address(lab, side, firewall));
                }
            }
        }
    }
}

/// Writes a link. `address` is what the neighbours use as their next hop: the engine's own, or that of its pair.
fn link(text: &mut String, engine: Engine, name: &str, device: &str, vlan: Option<u16>, address: AddressPair) {
    line(text, "\n[[link]]");
    line(text, &format!("name = \"{name}\""));
    line(text, &format!("device = \"{device}\""));
    if let Some(vlan) = vlan {
        line(text, &format!("vlan = {vlan}"));
    }
    line(text, &format!("addresses = {:?}", Topology::own(engine, address).subnets()));
    if engine.node.is_some() {
        line(text, &format!("floating = {:?}", strings(address)));
    }
}

fn routes(text: &mut String, lab: &Topology, side: Side) {
    let (beyond, peer) = match side {
        Side::Outer => (
            std::iter::once(lab.inner_toward_servers()).chain(lab.farm.as_ref().map(|_| lab.vip())).collect(),
            Side::Inner,
        ),
        Side::Inner => (vec![lab.outer_toward_client()], Side::Outer),
    };
    let beyond: Vec<_> = beyond.into_iter().flat_map(network).collect();
    line(text, "\n[[route]]");
    line(text, &format!("to = {beyond:?}\ngroup = \"{GROUP}\"\npeer = \"{}\"", peer.engine()));
    if lab.kind == FirewallKind::Nat && side == Side::Inner {
        for firewall in 1..=lab.firewalls {
            line(text, "\n[[route]]");
            line(text, &format!("to = {:?}\ngroup = \"{GROUP}\"", lab.nat_range(firewall)));
            line(text, &format!("peer = \"{}\"\nfirewall = \"fw{firewall}\"", peer.engine()));
        }
    }
}

fn group(text: &mut String, lab: &Topology, side: Side) {
    let (seed, peer) = match side {
        Side::Outer => (&lab.seeds[0], Side::Inner),
        Side::Inner => (&lab.seeds[1], Side::Outer),
    };
    section(text, lab, "group", &[("name", GROUP.into()), ("seed", seed.as_str().into())]);
    if lab.settings.contains_key("group.check") {
        section(text, lab, "group.check", &[]);
    }
    line(text, &format!("\n[[group.peer]]\nname = \"{}\"", peer.engine()));
    if !lab.kind.is_layer2() {
        line(text, &format!("addresses = {:?}", strings(firewall_link_address(lab, peer, 0))));
    }
    if lab.routers == RoutingSetup::Pairs {
        cluster::peer_engines(text, lab, peer);
    }
    for firewall in 1..=lab.firewalls {
        let (link, address) = if lab.kind.is_layer2() {
            (format!("fw{firewall}"), firewall_link_address(lab, peer, firewall))
        } else {
            ("firewalls".to_owned(), lab.leg(side, firewall))
        };
        line(text, "\n[[group.firewall]]");
        line(text, &format!("name = \"fw{firewall}\"\nlink = \"{link}\""));
        line(text, &format!("addresses = {:?}", strings(address)));
    }
}

/// Both addresses as texts.
fn strings(pair: AddressPair) -> [String; 2] {
    pair.both().map(|address| address.to_string())
}

const fn firewall_link_address(lab: &Topology, side: Side, firewall: u8) -> AddressPair {
    match side {
        Side::Outer => lab.outer_toward_firewalls(firewall),
        Side::Inner => lab.inner_toward_firewalls(firewall),
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::LabFarm;

    #[test]
    fn settings_of_the_topology_replace_and_complete_what_the_lab_writes() {
        let lab = Topology::new("fwlb").with("engine", "workers", 2).with("limits", "sessions", 10_000).with(
            "group",
            "on-failure",
            "reset",
        );

        let text = configuration(&lab, Side::Outer, "/run/x");

        let file: toml::Table = text.parse().unwrap();
        assert_eq!(file["engine"]["workers"].as_integer(), Some(2), "{text}");
        assert_eq!(file["limits"]["sessions"].as_integer(), Some(10_000));
        assert_eq!(file["group"][0]["on-failure"].as_str(), Some("reset"));
        assert_eq!(file["engine"]["control"].as_str(), Some("/run/x/outer.sock"));
    }

    #[test]
    fn whatever_the_lab_writes_the_engines_take_without_a_warning() {
        use FirewallKind::{Loose, Nat, Strict, Transparent, Vlan};
        for kind in [Strict, Loose, Nat, Transparent, Vlan] {
            for routers in [RoutingSetup::Engines, RoutingSetup::OneBox] {
                let lab = Topology { kind, routers, firewalls: 16, ..Topology::new("fwlb") };
                for side in Side::BOTH {
                    let text = configuration(&lab, side, "/run/x");
                    let outcome = config::testing::load(&text);
                    let problems = outcome.diagnostics.render(false);
                    assert!(outcome.config.is_some() && problems.is_empty(), "{kind:?} {side:?}: {problems}\n{text}");
                }
            }
        }
    }

    #[test]
    fn services_of_every_mode_are_taken_without_a_warning_with_firewalls_and_without() {
        for mode in [ServiceMode::Nat, ServiceMode::FullNat, ServiceMode::Direct] {
            for (routers, firewalls) in
                [(RoutingSetup::Engines, 2), (RoutingSetup::OneBox, 2), (RoutingSetup::Single, 0)]
            {
                let farm = Some(LabFarm { mode, weights: vec![3, 2], ..LabFarm::default() });
                let lab = Topology { routers, firewalls, farm, servers: 8, ..Topology::new("fwlb") };
                lab.validate().unwrap();
                let text = configuration(&lab, Side::Inner, "/run/x");
                let outcome = config::testing::load(&text);
                let problems = outcome.diagnostics.render(false);
                assert!(outcome.config.is_some() && problems.is_empty(), "{mode:?} {routers:?}: {problems}\n{text}");
                let file: toml::Table = text.parse().unwrap();
                let servers = file["service"][0]["server"].as_array().unwrap();
                assert_eq!(servers.len(), 9);
                assert_eq!(servers[1]["weight"].as_integer(), Some(2));
                assert_eq!(servers[8]["backup"].as_bool(), Some(true));
            }
        }
    }

    #[test]
    fn a_setting_that_engines_refuse_is_refused_before_anything_is_built() {
        let lab = Topology::new("fwlb").with("group", "on-failure", "panic");

        let error = check(&lab, "/run/x").unwrap_err().to_string();

        assert!(error.contains("on-failure") && error.contains("outer.toml"), "{error}");
    }

    #[test]
    fn the_files_of_a_pair_differ_in_name_and_own_addresses_only() {
        for kind in [FirewallKind::Strict, FirewallKind::Loose, FirewallKind::Nat] {
            let farm = Some(LabFarm { mode: ServiceMode::Nat, ..LabFarm::default() });
            let lab = Topology { kind, farm, routers: RoutingSetup::Pairs, ..Topology::new("fwlb") };
            let texts: Vec<_> = lab.engines().into_iter().map(|engine| configuration(&lab, engine, "/run/x")).collect();
            let load = |text: &String| {
                config::load("x.toml", text, &mut |path| {
                    assert!(path.starts_with("/run/x") && path.extension().is_some_and(|end| end == "key"));
                    Ok("the key of a cluster in a laboratory".to_owned())
                })
            };
            let mut outcomes: Vec<_> = texts.iter().map(load).collect();
            config::compare(&mut outcomes);
            for (outcome, text) in outcomes.iter().zip(&texts) {
                let problems = outcome.diagnostics.render(false);
                assert!(outcome.config.is_some() && problems.is_empty(), "{kind:?}: {problems}\n{text}");
            }

            let other =
                |text: &str| text.replace("outer-a.sock", "outer-b.sock").replace("outer-a\"\nw", "outer-b\"\nw");
            let different: Vec<_> = other(&texts[0])
                .lines()
                .zip(texts[1].lines())
                .filter(|(a, b)| a != b)
                .map(|(a, _)| a.to_owned())
                .collect();
            assert!(
                different.iter().all(|line| line.starts_with("addresses = ") || line.starts_with("state = ")),
                "{different:?}"
            );
            assert_eq!(different.len(), 3, "{different:?}");
        }
    }

    #[test]
    fn both_engines_name_the_same_firewalls_and_each_its_own_next_hops() {
        let lab = Topology::new("fwlb");

        let [outer, inner]: [toml::Table; 2] =
            Side::BOTH.map(|side| configuration(&lab, side, "/run/x").parse().unwrap());

        assert_eq!(outer["group"][0]["firewall"][0]["name"], inner["group"][0]["firewall"][0]["name"]);
        assert_eq!(outer["group"][0]["firewall"][0]["addresses"][0].as_str(), Some("10.1.0.11"));
        assert_eq!(inner["group"][0]["firewall"][0]["addresses"][1].as_str(), Some("fd00:2::11"));
        assert_eq!(outer["group"][0]["peer"][0]["addresses"][0].as_str(), Some("10.2.0.1"));
    }

    #[test]
    fn transparent_firewalls_have_a_link_each_and_the_peer_as_next_hop() {
        let lab = Topology { kind: FirewallKind::Transparent, ..Topology::new("fwlb") };

        let outer: toml::Table = configuration(&lab, Side::Outer, "/run/x").parse().unwrap();

        assert_eq!(outer["link"].as_array().unwrap().len(), 3);
        assert_eq!(outer["group"][0]["firewall"][1]["addresses"][0].as_str(), Some("10.1.2.2"));
        assert!(outer["group"][0]["peer"][0].get("addresses").is_none());
    }

    #[test]
    fn translated_ranges_are_routed_to_the_firewall_that_translates() {
        let lab = Topology { kind: FirewallKind::Nat, ..Topology::new("fwlb") };

        let inner: toml::Table = configuration(&lab, Side::Inner, "/run/x").parse().unwrap();

        let routes = inner["route"].as_array().unwrap();
        assert_eq!(routes.len(), 3);
        assert_eq!(routes[2]["firewall"].as_str(), Some("fw2"));
        assert_eq!(routes[2]["to"][0].as_str(), Some("10.3.2.0/28"));
    }
}
