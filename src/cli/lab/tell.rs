//! What a laboratory tells its user: what to try, and how it stands.

use crate::cli::output::table;
use crate::engine::view::{ServerView, ServiceView};
use crate::lab::farm::WEB;
use crate::lab::{Harm, Lab, Node, Routers, Side, Topology};

/// What to type at a lab that stands.
pub fn how_to_play(lab: &Lab) -> String {
    let topology = lab.topology();
    let name = if topology.name == super::DEFAULT_NAME { String::new() } else { format!(" --name {}", topology.name) };
    let lab_command = format!("fwlb lab{name}");
    let inner = lab.socket(Side::Inner);
    let (server, client, vip) = (topology.server(1), topology.client(), topology.vip());
    let engines = topology.routers != Routers::Single;
    let served = topology.farm.is_some();
    let near = if engines { lab.socket(Side::Outer) } else { inner.clone() };
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
            format!("{lab_command} fail inner            (the engine is killed; heal starts it again)"),
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
        for side in topology.sides() {
            let namespace = topology.namespace(side.node());
            consoles.push(format!("http://{listen}/ in the namespace {namespace}: the console of {}", side.engine()));
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
        Routers::Engines | Routers::OneBox => {
            parts.extend(["outer (fwlb)".to_owned(), format!("{} firewalls", topology.firewalls)]);
            parts.push("inner (fwlb)".to_owned());
        }
        Routers::Kernel { .. } => parts.push(format!("two kernel routers, {} firewalls", topology.firewalls)),
        Routers::Single => parts.push("inner (fwlb)".to_owned()),
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

/// How a lab stands: firewalls, servers, namespaces.
///
/// # Errors
/// A command of the operating system fails; engines that do not answer are told of in the text.
pub fn status(lab: &Lab) -> anyhow::Result<String> {
    let topology = lab.topology();
    let mut problems = Vec::new();
    let mut parts = Vec::new();
    if topology.firewalls > 0 {
        parts.push(firewalls(lab, &mut problems)?);
    }
    if topology.farm.is_some() {
        parts.push(servers(lab, &mut problems)?);
    }
    let stations: Vec<_> = topology.nodes().into_iter().map(|node| topology.namespace(node)).collect();
    parts.push(format!("namespaces: {}\n", stations.join(" ")));
    parts.extend((!problems.is_empty()).then(|| problems.concat()));
    Ok(parts.join("\n"))
}

fn firewalls(lab: &Lab, problems: &mut Vec<String>) -> anyhow::Result<String> {
    let views = Side::BOTH.map(|side| lab.firewalls(side));
    for (side, view) in Side::BOTH.iter().zip(&views) {
        problems.extend(view.as_ref().err().map(|error| format!("engine {}: {error}\n", side.engine())));
    }
    let mut rows = Vec::new();
    for number in 1..=lab.topology().firewalls {
        let name = format!("fw{number}");
        let seen = views.each_ref().map(|view| {
            view.as_ref().ok().and_then(|firewalls| firewalls.iter().find(|firewall| firewall.name == name))
        });
        let [outer, inner] = seen.map(|seen| seen.map_or("?", |firewall| &firewall.state).to_owned());
        let sessions = seen[0].map_or("?".to_owned(), |firewall| firewall.sessions.to_string());
        let drops = lab.drops(number)?;
        let counted = [drops.passed, drops.invalid, drops.new_not_syn].map(|count| count.to_string());
        let done = match lab.cut(number)?.as_slice() {
            [] => "-".to_owned(),
            [one] => format!("{one} cable cut"),
            _ => "cables cut".to_owned(),
        };
        rows.push([vec![name, outer, inner, sessions], counted.to_vec(), vec![done]].concat());
    }
    let titles =
        ["FIREWALL", "OUTER SEES", "INNER SEES", ">SESSIONS", ">PASSED", ">INVALID", ">NEW-NOT-SYN", "DONE TO IT"];
    Ok(table(&titles, &rows))
}

fn servers(lab: &Lab, problems: &mut Vec<String>) -> anyhow::Result<String> {
    let services = lab.services().unwrap_or_else(|error| {
        problems.push(format!("engine inner: {error}\n"));
        Vec::new()
    });
    let mut rows = Vec::new();
    for (node, _) in lab.topology().server_stations() {
        let name = node.to_string();
        let harms: Vec<_> = lab.server_status(node)?.harms.into_iter().map(Harm::words).collect();
        let seen = services.iter().map(|service| (service, service.servers.iter().find(|server| server.name == name)));
        let seen: Vec<_> = seen.filter_map(|(service, server)| Some((service, server?))).collect();
        let count = |what: fn(&ServerView) -> u64| seen.iter().map(|(_, server)| what(server)).sum::<u64>().to_string();
        rows.push(vec![
            name,
            program(lab, node),
            states(&seen),
            count(|server| server.sessions),
            count(|server| server.new_sessions),
            if harms.is_empty() { "-".to_owned() } else { harms.join(", ") },
        ]);
    }
    let mut text = table(&["SERVER", "PAGES BY", "STATE", ">SESSIONS", ">NEW", "DONE TO IT"], &rows);
    for service in &services {
        for server in &service.servers {
            let who = format!("{}/{}", service.name, server.name);
            if server.state != "up" {
                text += &format!("{who} is {}: {}\n", server.state, server.reason.as_deref().unwrap_or("no reason"));
                continue;
            }
            // It serves on in the family that is well.
            for check in server.checks.iter().filter(|check| check.state != "up") {
                let reason = check.reason.as_deref().unwrap_or("no reason");
                text += &format!("{who} is down for {}: {reason}\n", check.family);
            }
        }
    }
    Ok(text)
}

fn program(lab: &Lab, node: Node) -> String {
    match (node, &lab.topology().farm) {
        (Node::Server(_) | Node::Sorry, Some(farm)) => farm.program.word().to_owned(),
        (Node::Client | Node::Outer | Node::Firewall(_) | Node::Inner | Node::Switch, _) | (_, None) => "-".to_owned(),
    }
}

/// `up` where all services agree, else each with its own.
fn states(seen: &[(&ServiceView, &ServerView)]) -> String {
    match seen.split_first() {
        None => "?".to_owned(),
        Some(((_, first), rest)) if rest.iter().all(|(_, server)| server.state == first.state) => first.state.clone(),
        Some(_) => seen
            .iter()
            .map(|(service, server)| format!("{} {}", service.name, server.state))
            .collect::<Vec<_>>()
            .join(", "),
    }
}
