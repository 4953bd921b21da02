//! The start of an engine that another program runs until then.

use std::fmt;

use super::successor::{Began, Successor, Takes};
use crate::engine::Counters;
use crate::engine::handover::State;
use crate::runtime::RunError;
use crate::runtime::control::Control;
use crate::runtime::devices::{DeviceChange, DevicesSetUp};
use crate::runtime::shared::Shared;
use crate::runtime::with_sources;
use crate::runtime::worker::Worker;
use crate::time::Duration;

/// What is taken over, step by step.
#[derive(Debug)]
pub(in crate::runtime) struct Takeover {
    engine: String,
    successor: Successor,
    state: State,
    counters: Counters,
}

/// An engine that was taken over.
#[derive(Debug, Clone)]
pub(in crate::runtime) struct TakenOver {
    began: Began,
    /// How long the frames had to wait that arrived at the moment at which the other program stopped.
    gap: Option<Duration>,
}

impl Takeover {
    /// Begins with what the other program knows besides sessions.
    pub(in crate::runtime) fn begin(successor: Successor, engine: &str) -> Result<Self, RunError> {
        let state = successor.state().map_err(|error| refused(engine, &error))?;
        Ok(Self { engine: engine.to_owned(), successor, state, counters: Counters::default() })
    }

    /// Takes nearly all sessions.
    pub(in crate::runtime) fn take_most(&mut self, workers: &mut [Worker], shared: &Shared) -> Result<(), RunError> {
        let snapshot = shared.snapshot.load_full();
        let takes = takes(workers, &snapshot, shared, &mut self.counters);
        self.successor.take_most(takes, || shared.clock.now()).map_err(|error| refused(&self.engine, &error))
    }

    /// Takes the last sessions, after which the other program forwards nothing; returns the first moment whose frames are
    /// to be handled. Devices that say when a frame arrived have to be open before.
    pub(in crate::runtime) fn take_rest(&mut self, workers: &mut [Worker], shared: &Shared) -> Result<u64, RunError> {
        workers.iter_mut().for_each(Worker::skip_waiting);
        let snapshot = shared.snapshot.load_full();
        let takes = takes(workers, &snapshot, shared, &mut self.counters);
        self.successor.take_rest(takes, || shared.clock.now()).map_err(|error| refused(&self.engine, &error))
    }

    /// Gives the control thread what the other program knew.
    pub(in crate::runtime) fn restore(&self, changes: Vec<DeviceChange>, control: &mut Control) {
        let now = control.now();
        let (paths, servers) = control.controller.begin_with(changes, &self.state, now);
        control.publish_now();
        let neighbors = self.state.neighbors.len();
        tracing::info!(engine = self.engine, paths, servers, neighbors, "goes on with what the program before it knew");
    }

    /// Everything is ready: the other program ends, and this one begins at once.
    pub(in crate::runtime) fn finish(
        &mut self,
        moment: u64,
        shared: &Shared,
        raised: &DevicesSetUp,
    ) -> Result<TakenOver, RunError> {
        shared.hold.begin_at(moment);
        shared.copy_counters.publish(&mut self.counters);
        let began = self.successor.begin().map_err(|error| refused(&self.engine, &error))?;
        raised.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(&self.successor.raised);
        let now = shared.clock.now();
        let gap = (moment != 0).then(|| Duration::from_nanos(shared.clock.wall_nanos(now).saturating_sub(moment)));
        Ok(TakenOver { began, gap })
    }

    /// Waits until the other program has closed its files.
    pub(in crate::runtime) fn wait_until_gone(&self) {
        self.successor.wait_until_gone();
    }
}

fn takes<'a>(
    workers: &'a mut [Worker],
    snapshot: &'a crate::engine::Snapshot,
    shared: &'a Shared,
    counters: &'a mut Counters,
) -> Takes<'a> {
    let workers = workers.iter_mut().map(Worker::session_worker).collect();
    Takes { workers, snapshot, ports: &shared.ports, counters }
}

fn refused(engine: &str, error: &dyn std::error::Error) -> RunError {
    RunError::TakeOver { engine: engine.to_owned(), what: with_sources(error) }
}

impl fmt::Display for TakenOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Began { pid, version, taken } = &self.began;
        write!(f, "taken over from process {pid}, version {version}, with {} sessions", taken.sessions)?;
        if taken.refused + taken.unknown > 0 {
            write!(
                f,
                ", without {} that found no room and {} of what is not configured",
                taken.refused, taken.unknown
            )?;
        }
        match self.gap {
            Some(gap) => write!(f, "; packets waited for {:.1} ms", gap.as_secs_f64() * 1e3),
            None => write!(f, "; packets were lost while its devices were opened"),
        }
    }
}
