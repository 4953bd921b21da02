//! The two engines of a laboratory: their configuration files, and their processes.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use tokio::time::Instant;

use super::blueprint::{far_devices, near_device};
use super::command::Command;
use super::topology::{FirewallKind, Pair, Routers, Side, Topology};
use super::{Lab, LabError, PROCESS_END, pause};
use crate::api::{Answer, Request, SessionFilter};
use crate::client::Client;
use crate::config;
use crate::engine::view;

/// The group of every lab.
pub const GROUP: &str = "perimeter";

/// How an engine is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It may put things in order (SIGTERM).
    Orderly,
    /// It learns nothing of it (SIGKILL).
    Kill,
}

/// The configuration file of one engine, its files in `directory`.
pub fn configuration(lab: &Topology, side: Side, directory: &str) -> String {
    let mut text = String::from("# Written by `fwlb lab`. Change it and run `fwlb check` on it.\n");
    let name = side.engine();
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
    for optional in ["limits", "timeouts"] {
        if lab.settings.contains_key(optional) {
            section(&mut text, lab, optional, &[]);
        }
    }
    links(&mut text, lab, side);
    routes(&mut text, lab, side);
    group(&mut text, lab, side);
    text
}

/// Judges both configuration files before anything is built.
///
/// # Errors
/// A setting that the engines would refuse, as `fwlb check` prints it.
pub fn check(lab: &Topology, directory: &str) -> Result<(), LabError> {
    for side in Side::BOTH {
        let text = configuration(lab, side, directory);
        let read_secret = &mut |path: &std::path::Path| fs::read_to_string(path).map_err(|error| error.to_string());
        let outcome = config::load(&format!("{directory}/{}.toml", side.engine()), &text, read_secret);
        if outcome.config.is_none() {
            return Err(LabError::Topology(outcome.diagnostics.render(false)));
        }
    }
    Ok(())
}

/// A section: what the lab would write, replaced and completed by the topology's settings.
fn section(text: &mut String, lab: &Topology, name: &str, defaults: &[(&str, toml::Value)]) {
    let set = lab.settings.get(name);
    let header = if name == "group" { "[[group]]".to_owned() } else { format!("[{name}]") };
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

fn links(text: &mut String, lab: &Topology, side: Side) {
    let near = match side {
        Side::Outer => lab.outer_near(),
        Side::Inner => lab.inner_near(),
    };
    link(text, near_device(side), near_device(side), None, near);
    for (device, firewall) in far_devices(lab, side) {
        match lab.kind {
            FirewallKind::Strict | FirewallKind::Loose | FirewallKind::Nat => {
                link(text, "firewalls", &device, None, far(lab, side, 0));
            }
            FirewallKind::Transparent => {
                link(text, &format!("fw{firewall}"), &device, None, far(lab, side, firewall));
            }
            FirewallKind::Vlan => {
                for firewall in 1..=lab.firewalls {
                    let vlan = Some(100 + u16::from(firewall));
                    link(text, &format!("fw{firewall}"), &device, vlan, far(lab, side, firewall));
                }
            }
        }
    }
}

fn link(text: &mut String, name: &str, device: &str, vlan: Option<u16>, address: Pair) {
    line(text, "\n[[link]]");
    line(text, &format!("name = \"{name}\""));
    line(text, &format!("device = \"{device}\""));
    if let Some(vlan) = vlan {
        line(text, &format!("vlan = {vlan}"));
    }
    line(text, &format!("addresses = {:?}", address.subnets()));
}

fn routes(text: &mut String, lab: &Topology, side: Side) {
    let (beyond, peer) = match side {
        Side::Outer => (["203.0.113.0/24", "2001:db8:113::/64"], Side::Inner),
        Side::Inner => (["198.51.100.0/24", "2001:db8:1::/64"], Side::Outer),
    };
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
        line(text, &format!("addresses = {:?}", far(lab, peer, 0).both().map(|address| address.to_string())));
    }
    for firewall in 1..=lab.firewalls {
        let (link, address) = if lab.kind.is_layer2() {
            (format!("fw{firewall}"), far(lab, peer, firewall))
        } else {
            ("firewalls".to_owned(), lab.leg(side, firewall))
        };
        line(text, "\n[[group.firewall]]");
        line(text, &format!("name = \"fw{firewall}\"\nlink = \"{link}\""));
        line(text, &format!("addresses = {:?}", address.both().map(|address| address.to_string())));
    }
}

const fn far(lab: &Topology, side: Side, firewall: u8) -> Pair {
    match side {
        Side::Outer => lab.outer_far(firewall),
        Side::Inner => lab.inner_far(firewall),
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a String takes everything");
}

impl Lab {
    /// Writes both configuration files and starts the engines; both in one process in a one-box lab.
    ///
    /// # Errors
    /// A file or a process.
    pub fn start_engines(&mut self) -> Result<(), LabError> {
        let directory = self.directory().display().to_string();
        for side in Side::BOTH {
            let text = configuration(self.topology(), side, &directory);
            self.write(&format!("{}.toml", side.engine()), &text)?;
        }
        match self.topology().routers {
            Routers::OneBox => self.start_engine(Side::Outer),
            Routers::Engines => Side::BOTH.iter().try_for_each(|side| self.start_engine(*side)),
            Routers::Kernel { .. } => Ok(()),
        }
    }

    /// Starts one engine (in a one-box lab: both) with the configuration files as they are.
    ///
    /// # Errors
    /// A file or a process.
    pub fn start_engine(&mut self, side: Side) -> Result<(), LabError> {
        let files: Vec<_> = match self.topology().routers {
            Routers::OneBox => Side::BOTH.to_vec(),
            Routers::Engines | Routers::Kernel { .. } => vec![side],
        };
        let mut engine = self.command(side.node(), &self.program);
        engine.arg("run").args(files.into_iter().map(|side| self.configuration_file(side)));
        self.spawn(side.engine(), engine)
    }

    /// Ends an engine and waits until it is gone.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop_engine(&mut self, side: Side, stop: Stop) -> Result<(), LabError> {
        let name = side.engine();
        let path = self.directory().join(format!("{name}.pid"));
        let pid = fs::read_to_string(&path).map_err(|source| LabError::File { path, source })?.trim().to_owned();
        let signal = match stop {
            Stop::Orderly => "-TERM",
            Stop::Kill => "-KILL",
        };
        Command::new(["kill", signal, &pid]).run()?;
        let deadline = Instant::now() + PROCESS_END;
        loop {
            let ended = match self.children.get_mut(name) {
                Some(child) => child.try_wait().is_ok_and(|status| status.is_some()),
                None => !fs::exists(format!("/proc/{pid}")).unwrap_or(false),
            };
            if ended {
                self.children.remove(name);
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = format!("does not end on {signal}");
                return Err(LabError::Engine { engine: name.to_owned(), what, log: self.log(name) });
            }
            pause(Duration::from_millis(10));
        }
    }

    /// Waits until both engines report every firewall up.
    ///
    /// # Errors
    /// They do not, within `patience`.
    pub fn wait_for_firewalls(&mut self, patience: Duration) -> Result<(), LabError> {
        for side in Side::BOTH {
            let process = match self.topology().routers {
                Routers::OneBox => Side::Outer.engine(),
                Routers::Engines | Routers::Kernel { .. } => side.engine(),
            };
            self.wait_for(patience, process, "does not report every firewall up", |lab| {
                let firewalls = lab.firewalls(side)?;
                Ok(!firewalls.is_empty() && firewalls.iter().all(|firewall| firewall.state == "up"))
            })?;
        }
        Ok(())
    }

    /// `fwlb show firewalls` of one engine.
    ///
    /// # Errors
    /// It does not answer.
    pub fn firewalls(&self, side: Side) -> Result<Vec<view::FirewallView>, LabError> {
        match self.ask(side, &Request::Firewalls)? {
            Answer::Firewalls(firewalls) => Ok(firewalls),
            other => Err(unexpected(side, &other)),
        }
    }

    /// `fwlb show sessions` of one engine, all of them.
    ///
    /// # Errors
    /// It does not answer.
    pub fn sessions(&self, side: Side) -> Result<Vec<view::SessionView>, LabError> {
        let all = SessionFilter { limit: Some(usize::MAX), ..SessionFilter::default() };
        match self.ask(side, &Request::Sessions(all))? {
            Answer::Sessions(sessions) => Ok(sessions),
            other => Err(unexpected(side, &other)),
        }
    }

    /// `fwlb show counters` of one engine.
    ///
    /// # Errors
    /// It does not answer.
    pub fn counters(&self, side: Side) -> Result<view::CountersView, LabError> {
        match self.ask(side, &Request::Counters)? {
            Answer::Counters(counters) => Ok(counters),
            other => Err(unexpected(side, &other)),
        }
    }

    /// Asks one engine by its control socket. Not to be called from asynchronous code: it waits.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask(&self, side: Side, request: &Request) -> Result<Answer, LabError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| LabError::Start { program: "a runtime".to_owned(), source })?;
        Ok(runtime.block_on(Client::new(self.socket(side)).ask(request))?)
    }

    /// Runs a command of `fwlb` against one engine and returns what it printed.
    ///
    /// # Errors
    /// It fails.
    pub fn fwlb(&self, side: Side, words: &[&str]) -> Result<String, LabError> {
        let socket = self.socket(side).display().to_string();
        let program = self.program.display().to_string();
        Command::new([program.as_str(), "-s", &socket].iter().chain(words).copied()).run()
    }
}

fn unexpected(side: Side, answer: &Answer) -> LabError {
    LabError::Answer { what: format!("engine {}", side.engine()), answer: format!("{answer:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            for routers in [Routers::Engines, Routers::OneBox] {
                let lab = Topology { kind, routers, firewalls: 16, ..Topology::new("fwlb") };
                for side in Side::BOTH {
                    let text = configuration(&lab, side, "/run/x");
                    let outcome = config::load("x.toml", &text, &mut |_| Err("no secrets here".to_owned()));
                    let problems = outcome.diagnostics.render(false);
                    assert!(outcome.config.is_some() && problems.is_empty(), "{kind:?} {side:?}: {problems}\n{text}");
                }
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
