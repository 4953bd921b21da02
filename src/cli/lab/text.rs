//! Texts of the lab for its user: what to try.

use serde_json::{Value, json};

use crate::lab::farm::WEB;
use crate::lab::{Engine, Lab, RoutingSetup, Side, Topology};

/// The commands to try in a running lab.
pub fn how_to_play(lab: &Lab) -> String {
    let topology = lab.topology();
    let name = if topology.name == super::DEFAULT_NAME { String::new() } else { format!(" --name {}", topology.name) };
    let lab_command = format!("fwlb lab{name}");
    let first = |side: Side| topology.engines().into_iter().find(|engine| engine.side == side).unwrap_or(side.into());
    let (outer_engine, inner_engine) = (first(Side::Outer), first(Side::Inner));
    let inner = lab.socket(inner_engine);
    let (server, client, vip) = (topology.server(1), topology.client(), topology.vip());
    let engines = topology.routers != RoutingSetup::Single;
    let served = topology.farm.is_some();
    let near = if engines { lab.socket(outer_engine) } else { inner.clone() };
    let (near, inner) = (near.display(), inner.display());
    let target = if served { vip } else { server };

    let mut traffic = vec![
        format!("{lab_command} exec client -- curl -s http://{}/", target.v4),
        format!("{lab_command} exec client -- curl -s 'http://[{}]/'", target.v6),
        format!("{lab_command} exec client -- ping -c 3 {}", target.v4),
        format!("{lab_command} exec client -- traceroute -n {}", server.v4),
    ];
    let mut look = vec![format!("{lab_command} status")];
    let mut breaks = Vec::new();
    if engines {
        traffic.push(format!("{lab_command} exec s1 -- curl -s http://{}/", client.v4));
        look.push(format!("fwlb -s {near} show firewalls"));
        breaks.extend([
            format!("{lab_command} fail fw1              (--leg inner: half dead)"),
            format!("{lab_command} heal fw1"),
            format!("fwlb -s {near} set firewall fw1 drain"),
            format!("{lab_command} fail {inner_engine:<17}(the engine is killed; heal starts it again)"),
        ]);
    }
    if topology.routers == RoutingSetup::Pairs {
        look.push(format!("fwlb -s {near} show ha"));
        breaks.extend([
            format!("{lab_command} fail {outer_engine} hang     (or link, silent; --leg sync: that cable only)"),
            format!("{lab_command} heal {outer_engine}"),
        ]);
    }
    if served {
        look.push(format!("fwlb -s {inner} show services"));
        breaks.extend([
            format!("{lab_command} fail server s1        (link; or kill, silent, sick)"),
            format!("{lab_command} heal server s1"),
            format!("fwlb -s {inner} set server {WEB}/s2 drain"),
        ]);
    }
    look.extend([
        format!("fwlb -s {inner} show sessions"),
        format!("fwlb -s {inner} explain tcp {}:40000 {}:80", client.v4, target.v4),
    ]);

    let directory = lab.directory().display();
    look.push(format!(
        "export FWLB_RUN_DIRECTORY={directory}    (then plain fwlb show, top, capture ... mean this lab)"
    ));
    let mut consoles = Vec::new();
    if let Some(listen) = topology.settings.get("api").and_then(|api| api.get("listen")?.as_str()) {
        for engine in topology.engines() {
            let namespace = topology.namespace(engine.station());
            consoles.push(format!("http://{listen}/ in the namespace {namespace}: the console of {engine}"));
            consoles.push(format!("ip netns exec {namespace} chromium --no-sandbox http://{listen}/"));
        }
    }

    let mut text = format!("Lab {} stands: {}. Play with it:\n", topology.name, stations(topology));
    for (title, lines) in [("traffic", traffic), ("look", look), ("console", consoles), ("break", breaks)] {
        text += &section(title, &lines);
    }
    text += &section("remove", &[format!("{lab_command} down")]);
    text + &format!("\nConfigurations and logs: {}\n", lab.directory().display())
}

/// The description of a running lab for programs.
pub fn described(lab: &Lab) -> Value {
    let topology = lab.topology();
    let listen = topology.settings.get("api").and_then(|api| api.get("listen")?.as_str());
    let described = |engine: Engine| {
        json!({
            "name": engine.name(),
            "socket": lab.socket(engine),
            "config": lab.configuration_file(engine),
            "namespace": topology.namespace(engine.station()),
            "console": listen.map(|listen| format!("http://{listen}/")),
        })
    };
    let is_ours = !matches!(topology.routers, RoutingSetup::Kernel { .. });
    let engines: Vec<_> = topology.engines().into_iter().filter(|_| is_ours).map(described).collect();
    let stations = topology.stations().into_iter().map(|node| (node.to_string(), topology.namespace(node).into()));
    let (client, server, vip) = (topology.client(), topology.server(1), topology.vip());
    json!({
        "name": topology.name,
        "directory": lab.directory(),
        "engines": engines,
        "namespaces": stations.collect::<serde_json::Map<String, Value>>(),
        "client": [client.v4.to_string(), client.v6.to_string()],
        "first_server": [server.v4.to_string(), server.v6.to_string()],
        "vip": topology.farm.as_ref().map(|_| [vip.v4.to_string(), vip.v6.to_string()]),
    })
}

/// What the tour is about to build.
pub fn building(topology: &Topology) -> String {
    let mut text = format!("Building lab {}: {}.", topology.name, stations(topology));
    if topology.firewalls > 0 {
        text += &format!(
            " The firewalls are {}. on-failure is {}: a firewall that does not synchronise takes the state of its TCP \
             sessions with it.",
            format!("{:?}", topology.kind).to_lowercase(),
            topology.settings["group"]["on-failure"],
        );
    }
    text
}

/// The stations, and which program shows the pages.
fn stations(topology: &Topology) -> String {
    let mut parts = vec!["client".to_owned()];
    match topology.routers {
        RoutingSetup::Engines | RoutingSetup::OneBox => {
            parts.extend(["outer (fwlb)".to_owned(), format!("{} firewalls", topology.firewalls)]);
            parts.push("inner (fwlb)".to_owned());
        }
        RoutingSetup::Pairs => {
            parts.extend(["outer-a and outer-b (fwlb)".to_owned(), format!("{} firewalls", topology.firewalls)]);
            parts.push("inner-a and inner-b (fwlb)".to_owned());
        }
        RoutingSetup::Kernel { .. } => parts.push(format!("two kernel routers, {} firewalls", topology.firewalls)),
        RoutingSetup::Single => parts.push("inner (fwlb)".to_owned()),
    }
    parts.push(match &topology.farm {
        Some(farm) => format!("{} servers with {}, a sorry server", topology.servers, farm.program.name()),
        None => format!("{} servers", topology.servers),
    });
    parts.join(", ")
}

fn section(title: &str, lines: &[String]) -> String {
    let mut text = "\n".to_owned();
    for (at, line) in lines.iter().enumerate() {
        text += &format!("  {:<8}  {line}\n", if at == 0 { title } else { "" });
    }
    text
}
