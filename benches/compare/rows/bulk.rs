//! One TCP connection at full speed (iperf3) with the offloads that devices have by default.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{Context, Found};
use crate::candidates::{Candidate, Duty, Engine, Kind};
use crate::ground::{self, pause};
use crate::placement::{CoreTime, GENERATOR_CORE, Placement, cores, steer};
use crate::process::Process;
use crate::stats::{median, ratios};
use crate::table::{Outcome, Share};

pub(super) const ROWS: &[&str] = &["bulk-forward", "bulk-nat-forward", "bulk-haproxy", "bulk-nat-haproxy"];

const PLAIN: Kind = Kind::Fwlb(Engine::new(Duty::Pin));
const NAT: Kind = Kind::Fwlb(Engine::new(Duty::Balance));
/// If the core of the device under test was less busy than this, the ends were the limit.
const SATURATED: f64 = 0.9;
/// If the ends were at least this busy, they may have been the limit.
const ENDS_SATURATED: f64 = 0.97;

pub(super) fn measure(context: &Context) -> Result<Found> {
    let kinds = [
        (PLAIN, Placement::Split),
        (NAT, Placement::Split),
        (Kind::IpForward, Placement::Rps),
        (Kind::Haproxy, Placement::Rps),
    ];
    let field = context.stand(&kinds)?;
    let standing = &field.standing;
    steer_ends(standing)?;
    let words = ["-s", "--forceflush"];
    let servers = serve(context, standing, Path::new("iperf3"), &words)?;
    let (rounds, seconds) = if context.quick { (2, "1") } else { (5, "2") };
    let mut turns = vec![(Vec::new(), Busy::default()); standing.len()];
    for round in 0..rounds {
        for step in 0..standing.len() {
            let turn = (round + step) % standing.len();
            let before = cores()?;
            let gigabits = transfer(context, &standing[turn], seconds)?;
            turns[turn].0.push(gigabits);
            turns[turn].1.add(before)?;
        }
    }
    drop(servers);
    let parties = [(PLAIN, Kind::IpForward), (NAT, Kind::IpForward), (PLAIN, Kind::Haproxy), (NAT, Kind::Haproxy)];
    let outcome = |(ours, theirs): (Kind, Kind)| {
        field.pair(ours, theirs, |own, peer| match ratios(&turns[own].0, &turns[peer].0) {
            None => Outcome::Skipped(format!("nothing came through {}", theirs.name())),
            Some(value) => {
                let share = |kind: Kind, at: usize| {
                    Share::new(kind.name(), median(turns[at].0.iter().copied()).unwrap_or_default(), "Gb/s")
                };
                let outcome = Outcome::measured(value, vec![share(ours, own), share(theirs, peer)]);
                note_idle(outcome, ours, &turns[own].1)
            }
        })
    };
    Ok(ROWS.iter().copied().zip(parties.map(outcome)).collect())
}

/// How busy both cores were, by round.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy {
    /// Core 1, with the device under test.
    pub device: Vec<f64>,
    /// Core 0, with the ends.
    pub ends: Vec<f64>,
}

impl Busy {
    /// Adds a round, at whose beginning [`cores`] returned `before`.
    pub(super) fn add(&mut self, before: (CoreTime, CoreTime)) -> Result<()> {
        let after = cores()?;
        self.device.push(after.0.busy_since(&before.0));
        self.ends.push(after.1.busy_since(&before.1));
        Ok(())
    }
}

/// Adds a note if the device under test was not the limit, or may not have been: a device that spins while it waits is
/// busy too.
pub(super) fn note_idle(outcome: Outcome, kind: Kind, busy: &Busy) -> Outcome {
    let middle = |values: &[f64]| median(values.iter().copied()).unwrap_or_default();
    let (device, ends) = (middle(&busy.device), middle(&busy.ends));
    let (percent, name) = (|share: f64| share * 100.0, kind.name());
    if device < SATURATED {
        outcome.note(format!(
            "core 1 was busy for {:.0} % under {name}: the ends on core 0 were the limit",
            percent(device)
        ))
    } else if ends >= ENDS_SATURATED {
        outcome.note(format!(
            "core 0 was busy for {:.0} % with the ends under {name}: they may have been the limit",
            percent(ends)
        ))
    } else {
        outcome
    }
}

/// Steers the receive work of both ends of a conversation to their own core.
pub(super) fn steer_ends(standing: &[Candidate]) -> Result<()> {
    for candidate in standing {
        steer(&candidate.lane.generator, "g0", GENERATOR_CORE)?;
        steer(&candidate.lane.sink, "s0", GENERATOR_CORE)?;
    }
    Ok(())
}

/// Starts a server at the sink of every lane.
pub(super) fn serve(context: &Context, standing: &[Candidate], program: &Path, words: &[&str]) -> Result<Vec<Process>> {
    let start = |candidate: &Candidate| {
        Process::start(&context.directory, &candidate.lane.sink, GENERATOR_CORE, program, words)
    };
    let mut servers: Vec<_> = standing.iter().map(start).collect::<Result<_>>()?;
    pause(300)?;
    servers.iter_mut().try_for_each(Process::lives)?;
    Ok(servers)
}

fn transfer(context: &Context, candidate: &Candidate, seconds: &str) -> Result<f64> {
    ground::go_on()?;
    let address = candidate.address().to_string();
    let words = ["-c", &address, "-t", seconds, "-J", "--connect-timeout", "3000"];
    let lane = &candidate.lane;
    let client = Process::start(&context.directory, &lane.generator, GENERATOR_CORE, Path::new("iperf3"), &words)?;
    let name = candidate.kind.name();
    let answer = client.finish(12_000).with_context(|| format!("iperf3 through {name}"))?;
    let report: serde_json::Value = serde_json::from_str(&answer).context("iperf3's report")?;
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64().context("iperf3's report has no rate")?;
    Ok(bits / 1e9)
}
