//! Starts, stops and asks the lab's engines.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::command::Command;
use super::configuration::{configuration, key_file};
use super::topology::{Engine, RoutingSetup, Side};
use super::{Lab, LabError, PROCESS_END_TIMEOUT, pause};
use crate::api::{Call, SessionRequest, calls};
use crate::client::Client;
use crate::engine::view;
use crate::ha::Role;
use crate::ha::view::HaView;
use crate::io::secret;

/// How an engine is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// With SIGTERM, so that it can clean up.
    Orderly,
    /// With SIGKILL, as in a crash.
    Kill,
}

impl Lab {
    /// Makes the key of each pair.
    pub(super) fn write_keys(&self) -> Result<(), LabError> {
        if self.topology().routers != RoutingSetup::Pairs {
            return Ok(());
        }
        let directory = self.directory().display().to_string();
        for side in Side::BOTH {
            let path = PathBuf::from(key_file(side, &directory));
            let key = secret::new_key().map_err(|_| LabError::NoRandomNumbers)?;
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            file.and_then(|mut file| writeln!(file, "{key}")).map_err(|source| LabError::File { path, source })?;
        }
        Ok(())
    }

    /// Writes all configuration files and starts the engines; in a one-box lab both run in one process.
    ///
    /// # Errors
    /// A file cannot be written, or a process does not start.
    pub fn start_engines(&mut self) -> Result<(), LabError> {
        let directory = self.directory().display().to_string();
        let engines = self.topology().engines();
        for engine in &engines {
            let text = configuration(self.topology(), *engine, &directory);
            self.write(&format!("{engine}.toml"), &text)?;
        }
        match self.topology().routers {
            RoutingSetup::OneBox => self.start_engine(Side::Outer),
            RoutingSetup::Engines | RoutingSetup::Pairs | RoutingSetup::Single => {
                engines.into_iter().try_for_each(|engine| self.start_engine(engine))
            }
            RoutingSetup::Kernel { .. } => Ok(()),
        }
    }

    /// Starts one engine (in a one-box lab both) with the configuration files as they are.
    ///
    /// # Errors
    /// A file cannot be written, or a process does not start.
    pub fn start_engine(&mut self, engine: impl Into<Engine>) -> Result<(), LabError> {
        let engine = engine.into();
        let files = match self.topology().routers {
            RoutingSetup::OneBox => Side::BOTH.map(Engine::from).to_vec(),
            RoutingSetup::Engines | RoutingSetup::Pairs | RoutingSetup::Single | RoutingSetup::Kernel { .. } => {
                vec![engine]
            }
        };
        let mut command = self.command(engine.station(), &self.program);
        command.arg("run").args(files.into_iter().map(|engine| self.configuration_file(engine)));
        self.spawn(engine.name(), command)
    }

    /// Stops an engine and waits until its process is gone.
    ///
    /// # Errors
    /// The process does not end.
    pub fn stop_engine(&mut self, engine: impl Into<Engine>, stop: Stop) -> Result<(), LabError> {
        let name = engine.into().name();
        let pid = self.process_id(name)?;
        let signal = match stop {
            Stop::Orderly => "-TERM",
            Stop::Kill => "-KILL",
        };
        Command::new(["kill", signal, &pid]).run()?;
        let deadline = Instant::now() + PROCESS_END_TIMEOUT;
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

    /// The engine by whose name the process of an engine runs.
    pub(super) const fn process(&self, engine: Engine) -> Engine {
        match self.topology.routers {
            RoutingSetup::OneBox => Engine { side: Side::Outer, node: None },
            RoutingSetup::Engines | RoutingSetup::Pairs | RoutingSetup::Single | RoutingSetup::Kernel { .. } => engine,
        }
    }

    /// The state of an engine's process as one letter (proc_pid_stat(5)); `None` if it does not run. A zombie does not.
    pub(super) fn process_state(&self, engine: Engine) -> Option<char> {
        let pid = self.process_id(self.process(engine).name()).ok().filter(|pid| !pid.is_empty())?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may contain parentheses.
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).filter(|state| *state != 'Z')
    }

    /// Whether the process of an engine runs; a zombie does not count.
    pub fn runs(&self, engine: impl Into<Engine>) -> bool {
        self.process_state(engine.into()).is_some()
    }

    /// The id of a background program's process, which may have ended.
    pub(super) fn process_id(&self, name: &str) -> Result<String, LabError> {
        let path = self.directory().join(format!("{name}.pid"));
        let text = fs::read_to_string(&path).map_err(|source| LabError::File { path, source })?;
        Ok(text.trim().to_owned())
    }

    /// Waits until the engines report every firewall up.
    ///
    /// # Errors
    /// They do not within `patience`.
    pub fn wait_for_firewalls(&mut self, patience: Duration) -> Result<(), LabError> {
        for engine in self.topology().engines() {
            self.wait_for(patience, self.process(engine).name(), "does not report every firewall up", |lab| {
                let firewalls = lab.firewalls(engine)?;
                let all = usize::from(lab.topology().firewalls);
                Ok(firewalls.len() == all && firewalls.iter().all(|firewall| firewall.state == view::FirewallState::Up))
            })?;
        }
        Ok(())
    }

    /// Waits until the inner engines report every server up, in every address family in which it is checked.
    ///
    /// # Errors
    /// They do not within `patience`.
    pub fn wait_for_servers(&mut self, patience: Duration) -> Result<(), LabError> {
        for engine in self.topology().engines().into_iter().filter(|engine| engine.side == Side::Inner) {
            self.wait_for(patience, self.process(engine).name(), "does not report every server up", |lab| {
                let services = lab.services_of(engine)?;
                let is_up = |server: &view::ServerView| {
                    server.state == view::ServiceState::Up
                        && server.checks.iter().all(|check| check.state == view::OperState::Up)
                };
                Ok(services.iter().flat_map(|service| &service.servers).all(is_up))
            })?;
        }
        Ok(())
    }

    /// The views of `fwlb show firewalls` of one engine.
    ///
    /// # Errors
    /// It does not answer.
    pub fn firewalls(&self, engine: impl Into<Engine>) -> Result<Vec<view::FirewallView>, LabError> {
        self.ask(engine, &calls::Firewalls {})
    }

    /// The views of `fwlb show services` of the inner engine.
    ///
    /// # Errors
    /// It does not answer.
    pub fn services(&self) -> Result<Vec<view::ServiceView>, LabError> {
        self.services_of(Side::Inner)
    }

    fn services_of(&self, engine: impl Into<Engine>) -> Result<Vec<view::ServiceView>, LabError> {
        self.ask(engine, &calls::Services {})
    }

    /// The views of `fwlb show sessions` of one engine, for all sessions.
    ///
    /// # Errors
    /// It does not answer.
    pub fn sessions(&self, engine: impl Into<Engine>) -> Result<Vec<view::SessionView>, LabError> {
        let all = SessionRequest { limit: Some(usize::MAX), ..SessionRequest::default() };
        self.ask(engine, &all).map(|page| page.rows)
    }

    /// The view of `fwlb show counters` of one engine.
    ///
    /// # Errors
    /// It does not answer.
    pub fn counters(&self, engine: impl Into<Engine>) -> Result<view::CountersView, LabError> {
        self.ask(engine, &calls::Counters {})
    }

    /// The counters of every engine that runs, those of the outer side first.
    ///
    /// # Errors
    /// An engine does not answer.
    pub fn all_counters(&self) -> Result<Vec<view::CountersView>, LabError> {
        let running = self.topology().engines().into_iter().filter(|engine| self.runs(*engine));
        running.map(|engine| self.counters(engine)).collect()
    }

    /// The view of `fwlb show ha` of one engine of a pair.
    ///
    /// # Errors
    /// It does not answer, or is no node of a cluster.
    pub fn node(&self, engine: impl Into<Engine>) -> Result<HaView, LabError> {
        let engine = engine.into();
        let missing = || LabError::Topology(format!("engine {engine} is no node of a pair"));
        self.ask(engine, &calls::Ha {})?.into_iter().next().ok_or_else(missing)
    }

    /// The engines of a side that are active, as each of them says: none, one, or two that do not hear each other.
    pub fn active(&self, side: Side) -> Vec<Engine> {
        side.pair().into_iter().filter(|engine| self.is_active(*engine)).collect()
    }

    fn is_active(&self, engine: Engine) -> bool {
        self.node(engine).is_ok_and(|node| node.role == Role::Active)
    }

    /// Waits until each pair has an active engine, and another one that could take over.
    ///
    /// # Errors
    /// They do not within `patience`.
    pub fn wait_for_roles(&mut self, patience: Duration) -> Result<(), LabError> {
        if self.topology().routers != RoutingSetup::Pairs {
            return Ok(());
        }
        for side in Side::BOTH {
            let [first, second] = side.pair();
            self.wait_for(patience, first.name(), "and the other engine do not share their roles", |lab| {
                let nodes = [lab.node(first)?, lab.node(second)?];
                let is_active = |node: &HaView| node.role == Role::Active;
                let is_ready = |node: &HaView| node.role == Role::Standby && node.ready;
                Ok(nodes.iter().any(is_active) && nodes.iter().any(is_ready))
            })?;
        }
        Ok(())
    }

    /// The engine itself, or the active one where a side is meant that has two.
    fn speaker(&self, engine: Engine) -> Engine {
        if engine.node.is_some() || self.topology().routers != RoutingSetup::Pairs {
            return engine;
        }
        let [first, second] = engine.side.pair();
        if self.is_active(second) { second } else { first }
    }

    /// Sends a request to one engine over its control socket. It blocks, so it must not be called from asynchronous
    /// code.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn ask<C: Call>(&self, engine: impl Into<Engine>, call: &C) -> Result<C::Answer, LabError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| LabError::Start { program: "a runtime".to_owned(), source })?;
        let socket = self.socket(self.speaker(engine.into()));
        Ok(runtime.block_on(Client::new(socket).ask(call))?)
    }

    /// Runs a command of `fwlb` against one engine and returns its output.
    ///
    /// # Errors
    /// The command fails.
    pub fn fwlb(&self, engine: impl Into<Engine>, words: &[&str]) -> Result<String, LabError> {
        let socket = self.socket(self.speaker(engine.into())).display().to_string();
        let program = self.program.display().to_string();
        Command::new([program.as_str(), "-s", &socket].iter().chain(words).copied()).run()
    }
}
