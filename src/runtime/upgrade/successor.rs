//! The new program: takes an engine over from the program that runs it.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::line::{Line, LineError};
use crate::engine::handover::{FORMAT, Hello, Message, State, StickyClient, Taken, Taker};
use crate::engine::{CopiedEngine, Counters, Snapshot};
use crate::io::handover;
use crate::nat::PortPools;
use crate::session::SessionWorker;
use crate::time::{Duration, Instant};

/// How long the old program may take to close its files.
const CLOSING: Duration = Duration::from_secs(5);

/// The new program's end of the handover.
#[derive(Debug)]
pub(in crate::runtime) struct Successor {
    line: Line,
    /// Process id of the old program, and its version.
    pub(in crate::runtime) pid: u32,
    version: String,
    descriptors: BTreeMap<String, OwnedFd>,
    /// Numbers of the devices that the old program has set up.
    pub(in crate::runtime) raised: Vec<u32>,
    taker: Taker,
    /// What was standard output and standard error before.
    outputs: Option<(OwnedFd, OwnedFd)>,
}

/// How the new program began.
#[derive(Debug, Clone)]
pub(in crate::runtime) struct Began {
    /// Process id of the old program.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The sessions that were taken over.
    pub taken: Taken,
}

/// Where sessions are taken to.
pub(in crate::runtime) struct Takes<'a> {
    pub workers: Vec<&'a mut SessionWorker>,
    pub snapshot: &'a Snapshot,
    pub ports: &'a PortPools,
    pub counters: &'a mut Counters,
}

impl Successor {
    /// Asks the old program of `engine` at `path` for everything. The standard outputs become those of the old program.
    pub(in crate::runtime) fn connect(path: &Path, engine: &str) -> Result<Self, LineError> {
        let line = Line::new(UnixStream::connect(path)?)?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let hello =
            Hello { format: FORMAT, engine: engine.to_owned(), version, descriptors: Vec::new(), raised: Vec::new() };
        line.send(&Message::Hello(hello))?;
        let Message::Hello(hello) = line.receive()? else { return Err(LineError::Unexpected("who it is")) };
        let descriptors = line.receive_descriptors(hello.descriptors.len())?;
        let mut descriptors: BTreeMap<_, _> = hello.descriptors.into_iter().zip(descriptors).collect();
        let pid = handover::peer(line.stream())?.pid;
        let outputs = match (descriptors.remove("stdout"), descriptors.remove("stderr")) {
            (Some(output), Some(error)) => {
                let own =
                    (std::io::stdout().as_fd().try_clone_to_owned()?, std::io::stderr().as_fd().try_clone_to_owned()?);
                handover::replace_output(&output, &error)?;
                Some(own)
            }
            _ => None,
        };
        let (version, raised, taker) = (hello.version, hello.raised, Taker::default());
        Ok(Self { line, pid, version, descriptors, raised, taker, outputs })
    }

    /// A descriptor of the old program, by its name.
    pub(in crate::runtime) fn descriptor(&mut self, name: &str) -> Option<OwnedFd> {
        self.descriptors.remove(name)
    }

    /// What the old program knows besides sessions.
    pub(in crate::runtime) fn state(&self) -> Result<State, LineError> {
        match self.line.receive()? {
            Message::State(state) => Ok(*state),
            _ => Err(LineError::Unexpected("its state")),
        }
    }

    /// Takes sessions and clients until the old program has told nearly all.
    pub(in crate::runtime) fn take_most(
        &mut self,
        mut takes: Takes<'_>,
        now: impl Fn() -> Instant,
    ) -> Result<(), LineError> {
        loop {
            match self.line.receive()? {
                Message::Clients(clients) => {
                    clients.iter().for_each(|client: &StickyClient| client.learn(takes.snapshot, now()));
                }
                Message::Sessions(bytes) => self.apply(&bytes, &mut takes, now())?,
                Message::Passed => return Ok(()),
                _ => return Err(LineError::Unexpected("a session")),
            }
        }
    }

    /// Says that the devices are open, takes the last sessions, and returns the first moment whose frames are to be
    /// handled.
    pub(in crate::runtime) fn take_rest(
        &mut self,
        mut takes: Takes<'_>,
        now: impl Fn() -> Instant,
    ) -> Result<u64, LineError> {
        self.line.send(&Message::Opened)?;
        loop {
            match self.line.receive()? {
                Message::Sessions(bytes) => self.apply(&bytes, &mut takes, now())?,
                Message::Handover { moment } => return Ok(moment),
                _ => return Err(LineError::Unexpected("a session")),
            }
        }
    }

    fn apply(&mut self, bytes: &[u8], takes: &mut Takes<'_>, now: Instant) -> Result<(), LineError> {
        let Takes { workers, snapshot, ports, counters } = takes;
        let mut host = CopiedEngine { snapshot, ports, counters, ledger: None };
        Ok(self.taker.apply(bytes, workers, &mut host, now)?)
    }

    /// Everything is ready: when this returns without an error, the old program does nothing any more.
    pub(in crate::runtime) fn begin(&mut self) -> Result<Began, LineError> {
        self.line.send(&Message::Taken)?;
        match self.line.expect(&Message::Go, "that it has ended") {
            // It died when it had stopped.
            Ok(()) | Err(LineError::Closed) => {}
            Err(error) => return Err(error),
        }
        if let Some((output, _)) = self.outputs.take() {
            // Whoever started this program waits for a word.
            let _ = std::fs::File::from(output).write_all(b"taken over\n");
        }
        Ok(Began { pid: self.pid, version: self.version.clone(), taken: self.taker.taken() })
    }

    /// Waits until the old program has closed its files.
    pub(in crate::runtime) fn wait_until_gone(&self) {
        let _ = self.line.set_patience(CLOSING);
        let _ = self.line.receive();
    }
}

impl Drop for Successor {
    /// Whoever started this program gets to know why it did not begin.
    fn drop(&mut self) {
        if let Some((output, error)) = &self.outputs {
            let _ = handover::replace_output(output, error);
        }
    }
}
