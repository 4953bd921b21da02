//! Queries and commands to a running engine.

use std::path::PathBuf;
use std::process::Output;
use std::thread;
use std::time::Duration;

use fwlb::api::{Call, SessionRequest, calls};
use fwlb::client::Client;
use fwlb::engine::view::{CountersView, ServerView, ServiceView, SessionView};

use crate::ground::{FWLB, said};

/// An engine, asked over its control socket.
#[derive(Debug, Clone)]
pub struct Engine {
    pub socket: PathBuf,
}

impl Engine {
    pub fn ask<C: Call>(&self, call: &C) -> C::Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(Client::new(self.socket.clone()).ask(call)).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn services(&self) -> Vec<ServiceView> {
        self.ask(&calls::Services {})
    }

    pub fn service(&self, name: &str) -> ServiceView {
        let found = self.services().into_iter().find(|service| service.name == name);
        found.unwrap_or_else(|| panic!("no service {name}"))
    }

    /// The view of a server, named as `web/s1`.
    pub fn server(&self, name: &str) -> ServerView {
        let (service, name) = name.split_once('/').expect("SERVICE/SERVER");
        let found = self.service(service).servers.into_iter().find(|server| server.name == name);
        found.unwrap_or_else(|| panic!("no server {name}"))
    }

    pub fn state(&self, server: &str) -> String {
        self.server(server).state.to_string()
    }

    pub fn sessions(&self) -> Vec<SessionView> {
        let all = SessionRequest { limit: Some(usize::MAX), ..SessionRequest::default() };
        self.ask(&all).rows
    }

    pub fn counters(&self) -> CountersView {
        self.ask(&calls::Counters {})
    }

    pub fn counter(&self, name: &str) -> u64 {
        *self.counters().get(name).unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// Runs `fwlb -s SOCKET ...`.
    pub fn fwlb(&self, words: &str) -> Output {
        let mut command = std::process::Command::new(FWLB);
        command.arg("-s").arg(&self.socket).args(words.split_whitespace()).output().expect("fwlb runs")
    }

    /// Runs `fwlb set ...`, which has to succeed.
    #[track_caller]
    pub fn set(&self, words: &str) {
        let output = self.fwlb(&format!("set {words}"));
        assert!(output.status.success(), "set {words}: {}", said(&output));
    }

    /// Waits for a state of a server such as `web/s1`; it is up if it is up in every family that it has.
    #[track_caller]
    pub fn wait(&self, server: &str, state: &str) -> Duration {
        self.wait_until(Duration::from_secs(5), &format!("{server} is {state}"), |engine| {
            let server = engine.server(server);
            server.state.name() == state
                && (state != "up" || server.checks.iter().all(|check| check.state.name() == "up"))
        })
    }

    #[track_caller]
    pub fn wait_until(&self, patience: Duration, what: &str, mut done: impl FnMut(&Self) -> bool) -> Duration {
        let start = tokio::time::Instant::now();
        while !done(self) {
            let waited = start.elapsed();
            assert!(waited < patience, "not within {patience:?}: {what}\n{:#?}", self.services());
            thread::sleep(Duration::from_millis(10));
        }
        start.elapsed()
    }
}
