//! The status of a lab: firewalls with their own drop counters, servers, and what was done to them.

use serde::Serialize;

use crate::cli::output::{self, table};
use crate::engine::view::{OperState, ServerView, ServiceState, ServiceView};
use crate::lab::{EngineFault, Lab, RoutingSetup, ServerFault, Side, Station};

/// The status of a lab.
#[derive(Debug, Serialize)]
pub struct Status {
    name: String,
    /// The engines; empty where the kernel routes.
    engines: Vec<EngineRow>,
    firewalls: Vec<FirewallRow>,
    servers: Vec<ServerRow>,
    namespaces: Vec<String>,
    /// Engines that did not answer and servers that are not up, each as a sentence.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct EngineRow {
    name: String,
    /// The role of one engine of a pair; null for any other, and where it does not answer.
    role: Option<String>,
    /// How long it has had the role.
    role_since_ms: Option<u64>,
    /// Why it got the role.
    reason: Option<String>,
    done_to_it: Vec<String>,
}

#[derive(Debug, Serialize)]
struct FirewallRow {
    name: String,
    /// States as the engines report them; null where one does not answer.
    outer: Option<String>,
    inner: Option<String>,
    sessions: Option<u64>,
    passed: u64,
    invalid: u64,
    new_not_syn: u64,
    done_to_it: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ServerRow {
    name: String,
    pages_by: Option<String>,
    /// `up` if all services agree, else the state in each of them; null if unknown.
    state: Option<String>,
    sessions: u64,
    new_sessions: u64,
    done_to_it: Vec<String>,
}

impl Status {
    /// Reads the status of a lab.
    ///
    /// # Errors
    /// A command of the operating system fails; engines that do not answer are among the problems.
    pub fn of(lab: &Lab) -> anyhow::Result<Self> {
        let topology = lab.topology();
        let mut problems = Vec::new();
        let firewalls = if topology.firewalls > 0 { firewalls(lab, &mut problems)? } else { Vec::new() };
        let servers = if topology.farm.is_some() { servers(lab, &mut problems)? } else { Vec::new() };
        let engines = engines(lab)?;
        let namespaces = topology.stations().into_iter().map(|node| topology.namespace(node)).collect();
        Ok(Self { name: topology.name.clone(), engines, firewalls, servers, namespaces, problems })
    }

    /// The status as text.
    pub fn show(&self) -> String {
        let engines: Vec<_> = self.engines.iter().map(EngineRow::cells).collect();
        let firewalls: Vec<_> = self.firewalls.iter().map(FirewallRow::cells).collect();
        let servers: Vec<_> = self.servers.iter().map(ServerRow::cells).collect();
        let parts = [
            table(ENGINES, &engines),
            table(FIREWALLS, &firewalls),
            table(SERVERS, &servers),
            self.problems.iter().map(|problem| format!("{problem}\n")).collect(),
            format!("namespaces: {}\n", self.namespaces.join(" ")),
        ];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
    }
}

const ENGINES: &[&str] = &["ENGINE", "ROLE", ">SINCE", "WHY", "DONE TO IT"];

impl EngineRow {
    fn cells(&self) -> Vec<String> {
        let or_dash = |text: &Option<String>| output::or_dash(text.as_deref());
        let since = self.role_since_ms.map(|ms| format!("{:.1} s", ms as f64 / 1000.0));
        vec![
            self.name.clone(),
            or_dash(&self.role),
            or_dash(&since),
            or_dash(&self.reason),
            faults_text(&self.done_to_it),
        ]
    }
}

const FIREWALLS: &[&str] =
    &["FIREWALL", "OUTER SEES", "INNER SEES", ">SESSIONS", ">PASSED", ">INVALID", ">NEW-NOT-SYN", "DONE TO IT"];

impl FirewallRow {
    fn cells(&self) -> Vec<String> {
        let state = |state: &Option<String>| state.clone().unwrap_or_else(|| "?".to_owned());
        let sessions = self.sessions.map_or("?".to_owned(), |sessions| sessions.to_string());
        let counted = [self.passed, self.invalid, self.new_not_syn].map(|count| count.to_string());
        let seen = vec![self.name.clone(), state(&self.outer), state(&self.inner), sessions];
        [seen, counted.to_vec(), vec![faults_text(&self.done_to_it)]].concat()
    }
}

const SERVERS: &[&str] = &["SERVER", "PAGES BY", "STATE", ">SESSIONS", ">NEW", "DONE TO IT"];

impl ServerRow {
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.pages_by.clone().unwrap_or_else(|| "-".to_owned()),
            self.state.clone().unwrap_or_else(|| "?".to_owned()),
            self.sessions.to_string(),
            self.new_sessions.to_string(),
            faults_text(&self.done_to_it),
        ]
    }
}

fn faults_text(harms: &[String]) -> String {
    if harms.is_empty() { "-".to_owned() } else { harms.join(", ") }
}

fn engines(lab: &Lab) -> anyhow::Result<Vec<EngineRow>> {
    let topology = lab.topology();
    if matches!(topology.routers, RoutingSetup::Kernel { .. }) {
        return Ok(Vec::new());
    }
    let mut rows = Vec::new();
    for engine in topology.engines() {
        // One that does not answer is among the problems below.
        let node = if engine.node.is_some() { lab.node(engine).ok() } else { None };
        rows.push(EngineRow {
            name: engine.name().to_owned(),
            role: node.as_ref().map(|node| node.role.to_string()),
            role_since_ms: node.as_ref().map(|node| node.since_ms),
            reason: node.map(|node| node.reason),
            done_to_it: lab.engine_faults(engine)?.into_iter().map(EngineFault::words).collect(),
        });
    }
    Ok(rows)
}

fn firewalls(lab: &Lab, problems: &mut Vec<String>) -> anyhow::Result<Vec<FirewallRow>> {
    let views = Side::BOTH.map(|side| lab.firewalls(side));
    for (side, view) in Side::BOTH.iter().zip(&views) {
        problems.extend(view.as_ref().err().map(|error| format!("engine {}: {error}", side.engine())));
    }
    let mut rows = Vec::new();
    for number in 1..=lab.topology().firewalls {
        let name = format!("fw{number}");
        let seen = views.each_ref().map(|view| {
            view.as_ref().ok().and_then(|firewalls| firewalls.iter().find(|firewall| firewall.name == name))
        });
        let sessions = seen[0].map(|firewall| firewall.sessions);
        let [outer, inner] = seen.map(|seen| seen.map(|firewall| firewall.state.to_string()));
        let drops = lab.firewall_totals(number)?;
        let done_to_it = match lab.cut(number)?.as_slice() {
            [] => vec![],
            [one] => vec![format!("{one} cable cut")],
            _ => vec!["cables cut".to_owned()],
        };
        let (passed, invalid, new_not_syn) = (drops.passed, drops.invalid, drops.new_not_syn);
        rows.push(FirewallRow { name, outer, inner, sessions, passed, invalid, new_not_syn, done_to_it });
    }
    Ok(rows)
}

fn servers(lab: &Lab, problems: &mut Vec<String>) -> anyhow::Result<Vec<ServerRow>> {
    let services = lab.services().unwrap_or_else(|error| {
        problems.push(format!("engine inner: {error}"));
        Vec::new()
    });
    let mut rows = Vec::new();
    for (node, _) in lab.topology().server_stations() {
        let name = node.to_string();
        let harms = lab.server_status(node)?.faults.into_iter().map(ServerFault::words);
        let seen = services.iter().map(|service| (service, service.servers.iter().find(|server| server.name == name)));
        let seen: Vec<_> = seen.filter_map(|(service, server)| Some((service, server?))).collect();
        let count = |what: fn(&ServerView) -> u64| seen.iter().map(|(_, server)| what(server)).sum();
        rows.push(ServerRow {
            pages_by: program(lab, node),
            state: states(&seen),
            sessions: count(|server| server.sessions),
            new_sessions: count(|server| server.new_sessions),
            done_to_it: harms.map(str::to_owned).collect(),
            name,
        });
    }
    problems.extend(
        services.iter().flat_map(|service| service.servers.iter().flat_map(|server| server_problems(service, server))),
    );
    Ok(rows)
}

/// Why a server is not up. A server may be up in one address family only.
fn server_problems(service: &ServiceView, server: &ServerView) -> Vec<String> {
    let who = format!("{}/{}", service.name, server.name);
    if server.state != ServiceState::Up {
        return vec![format!("{who} is {}: {}", server.state, server.reason.as_deref().unwrap_or("no reason"))];
    }
    let down = server.checks.iter().filter(|check| check.state != OperState::Up);
    down.map(|check| {
        let reason = check.reason.as_deref().unwrap_or("no reason");
        format!("{who} is down for {}: {reason}", check.family)
    })
    .collect()
}

fn program(lab: &Lab, node: Station) -> Option<String> {
    match (node, &lab.topology().farm) {
        (Station::Server(_) | Station::Sorry, Some(farm)) => Some(farm.program.word().to_owned()),
        (
            Station::Client
            | Station::Outer
            | Station::Firewall(_)
            | Station::Inner
            | Station::Node(..)
            | Station::Switch,
            _,
        )
        | (_, None) => None,
    }
}

/// `up` if all services agree, else the state in each of them.
fn states(seen: &[(&ServiceView, &ServerView)]) -> Option<String> {
    let ((_, first), rest) = seen.split_first()?;
    if rest.iter().all(|(_, server)| server.state == first.state) {
        return Some(first.state.to_string());
    }
    let each = seen.iter().map(|(service, server)| format!("{} {}", service.name, server.state));
    Some(each.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_is_a_question_mark_for_a_person_and_null_for_a_program() {
        let status = Status {
            name: "fwlb".to_owned(),
            engines: vec![EngineRow {
                name: "inner-a".to_owned(),
                role: Some("standby".to_owned()),
                role_since_ms: Some(12_345),
                reason: Some("inner-b is active".to_owned()),
                done_to_it: vec![],
            }],
            firewalls: vec![FirewallRow {
                name: "fw1".to_owned(),
                outer: Some("up".to_owned()),
                inner: None,
                sessions: Some(7),
                passed: 12,
                invalid: 0,
                new_not_syn: 0,
                done_to_it: vec!["inner cable cut".to_owned()],
            }],
            servers: vec![],
            namespaces: vec!["fwlb-client".to_owned()],
            problems: vec!["engine inner: nobody listens".to_owned()],
        };
        assert_eq!(
            status.show(),
            "ENGINE   ROLE      SINCE  WHY                DONE TO IT\n\
             inner-a  standby  12.3 s  inner-b is active  -\n\n\
             FIREWALL  OUTER SEES  INNER SEES  SESSIONS  PASSED  INVALID  NEW-NOT-SYN  DONE TO IT\n\
             fw1       up          ?                  7      12        0            0  inner cable cut\n\n\
             engine inner: nobody listens\n\nnamespaces: fwlb-client\n"
        );
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(
            (&json["firewalls"][0]["inner"], &json["firewalls"][0]["passed"]),
            (&serde_json::Value::Null, &12.into())
        );
    }
}
