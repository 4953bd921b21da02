//! Starts, stops and asks the lab's engines.

use std::fs;
use std::time::Duration;

use tokio::time::Instant;

use super::command::Command;
use super::configuration::configuration;
use super::topology::{RoutingSetup, Side};
use super::{Lab, LabError, PROCESS_END_TIMEOUT, pause};
use crate::api::{Call, SessionRequest, calls};
use crate::client::Client;
use crate::engine::view;

/// How an engine is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// With SIGTERM, so that it can clean up.
    Orderly,
    /// With SIGKILL, as in a crash.
    Kill,
}

impl Lab {
    /// Writes both configuration files and starts the engines; in a one-box lab both run in one process.
    ///
    /// # Errors
    /// A file cannot be written, or a process does not start.
    pub fn start_engines(&mut self) -> Result<(), LabError> {
        let directory = self.directory().display().to_string();
        for &side in self.topology().sides() {
            let text = configuration(self.topology(), side, &directory);
            self.write(&format!("{}.toml", side.engine()), &text)?;
        }
        match self.topology().routers {
            RoutingSetup::OneBox => self.start_engine(Side::Outer),
            RoutingSetup::Engines | RoutingSetup::Single => {
                self.topology().sides().iter().try_for_each(|side| self.start_engine(*side))
            }
            RoutingSetup::Kernel { .. } => Ok(()),
        }
    }

    /// Starts one engine (in a one-box lab both) with the configuration files as they are.
    ///
    /// # Errors
    /// A file cannot be written, or a process does not start.
    pub fn start_engine(&mut self, side: Side) -> Result<(), LabError> {
        let files: Vec<_> = match self.topology().routers {
            RoutingSetup::OneBox => Side::BOTH.to_vec(),
            RoutingSetup::Engines | RoutingSetup::Single | RoutingSetup::Kernel { .. } => vec![side],
        };
        let mut engine = self.command(side.node(), &self.program);
        engine.arg("run").args(files.into_iter().map(|side| self.configuration_file(side)));
        self.spawn(side.engine(), engine)
    }

    /// Stops an engine and waits until its process is gone.
    ///
    /// # Errors
    /// The process does not end.
    pub fn stop_engine(&mut self, side: Side, stop: Stop) -> Result<(), LabError> {
        let name = side.engine();
        let path = self.directory().join(format!("{name}.pid"));
        let pid = fs::read_to_string(&path).map_err(|source| LabError::File { path, source })?.trim().to_owned();
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

    /// Kills an engine as in a crash; in a one-box lab both.
    ///
    /// # Errors
    /// It does not run.
    pub fn fail_engine(&mut self, side: Side) -> Result<(), LabError> {
        let process = self.process_of(side)?;
        match self.runs(process) {
            true => self.stop_engine(process, Stop::Kill),
            false => Err(LabError::Topology(format!("engine {} does not run", side.engine()))),
        }
    }

    /// Restarts an engine that was killed, with its configuration file as it is.
    ///
    /// # Errors
    /// It runs already, or its process does not start.
    pub fn heal_engine(&mut self, side: Side) -> Result<(), LabError> {
        let process = self.process_of(side)?;
        match self.runs(process) {
            true => Err(LabError::Topology(format!("engine {} runs", side.engine()))),
            false => self.start_engine(process),
        }
    }

    /// The side whose process runs an engine.
    fn process_of(&self, side: Side) -> Result<Side, LabError> {
        match self.topology().routers {
            RoutingSetup::OneBox => Ok(Side::Outer),
            _ if self.topology().sides().contains(&side) => Ok(side),
            _ => Err(LabError::Topology(format!("this lab has no engine {}", side.engine()))),
        }
    }

    /// Whether the process of an engine runs; a zombie does not count.
    pub fn runs(&self, side: Side) -> bool {
        let pid = fs::read_to_string(self.directory().join(format!("{}.pid", side.engine()))).unwrap_or_default();
        let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        // The name in parentheses may contain parentheses (proc_pid_stat(5)).
        let after = state.rsplit_once(") ").map(|(_, rest)| rest);
        !pid.trim().is_empty() && after.is_some_and(|rest| !rest.starts_with('Z'))
    }

    /// Waits until the engines report every firewall up.
    ///
    /// # Errors
    /// They do not within `patience`.
    pub fn wait_for_firewalls(&mut self, patience: Duration) -> Result<(), LabError> {
        for &side in self.topology().sides() {
            self.wait_for(patience, self.process(side), "does not report every firewall up", |lab| {
                let firewalls = lab.firewalls(side)?;
                let all = usize::from(lab.topology().firewalls);
                Ok(firewalls.len() == all && firewalls.iter().all(|firewall| firewall.state == view::FirewallState::Up))
            })?;
        }
        Ok(())
    }

    /// Waits until the inner engine reports every server up, in every address family in which it is checked.
    ///
    /// # Errors
    /// It does not within `patience`.
    pub fn wait_for_servers(&mut self, patience: Duration) -> Result<(), LabError> {
        self.wait_for(patience, self.process(Side::Inner), "does not report every server up", |lab| {
            let services = lab.services()?;
            let is_up = |server: &view::ServerView| {
                server.state == view::ServiceState::Up
                    && server.checks.iter().all(|check| check.state == view::OperState::Up)
            };
            Ok(services.iter().flat_map(|service| &service.servers).all(is_up))
        })
    }

    /// Name of the process of which an engine is a part.
    const fn process(&self, side: Side) -> &'static str {
        match self.topology().routers {
            RoutingSetup::OneBox => Side::Outer.engine(),
            RoutingSetup::Engines | RoutingSetup::Single | RoutingSetup::Kernel { .. } => side.engine(),
        }
    }

    /// The views of `fwlb show firewalls` of one engine.
    ///
    /// # Errors
    /// It does not answer.
    pub fn firewalls(&self, side: Side) -> Result<Vec<view::FirewallView>, LabError> {
        self.ask(side, &calls::Firewalls {})
    }

    /// The views of `fwlb show services` of the inner engine.
    ///
    /// # Errors
    /// It does not answer.
    pub fn services(&self) -> Result<Vec<view::ServiceView>, LabError> {
        self.ask(Side::Inner, &calls::Services {})
    }

    /// The views of `fwlb show sessions` of one engine, for all sessions.
    ///
    /// # Errors
    /// It does not answer.
    pub fn sessions(&self, side: Side) -> Result<Vec<view::SessionView>, LabError> {
        let all = SessionRequest { limit: Some(usize::MAX), ..SessionRequest::default() };
        self.ask(side, &all).map(|page| page.rows)
    }

    /// The view of `fwlb show counters` of one engine.
    ///
    /// # Errors
    /// It does not answer.
    pub fn counters(&self, side: Side) -> Result<view::CountersView, LabError> {
        self.ask(side, &calls::Counters {})
    }

    /// The counters of every engine, outer first.
    ///
    /// # Errors
    /// An engine does not answer.
    pub fn all_counters(&self) -> Result<Vec<view::CountersView>, LabError> {
        self.topology().sides().iter().map(|side| self.counters(*side)).collect()
    }

    /// Sends a request to one engine over its control socket. It blocks, so it must not be called from asynchronous
    /// code.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn ask<C: Call>(&self, side: Side, call: &C) -> Result<C::Answer, LabError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| LabError::Start { program: "a runtime".to_owned(), source })?;
        Ok(runtime.block_on(Client::new(self.socket(side)).ask(call))?)
    }

    /// Runs a command of `fwlb` against one engine and returns its output.
    ///
    /// # Errors
    /// The command fails.
    pub fn fwlb(&self, side: Side, words: &[&str]) -> Result<String, LabError> {
        let socket = self.socket(side).display().to_string();
        let program = self.program.display().to_string();
        Command::new([program.as_str(), "-s", &socket].iter().chain(words).copied()).run()
    }
}
