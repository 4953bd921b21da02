//! Paired rounds: candidates take turns of a fraction of a second, and a ratio always compares two turns of the same
//! round. A disturbance of the machine that lasts longer affects both parties.

use anyhow::Result;
use fwlb::io::clock::Clock;

use crate::candidates::{Candidate, Kind};
use crate::generator::{End, Generator, Load, Way};
use crate::ground::pause;
use crate::stats::{median, ratios};
use crate::table::{Outcome, Share};

/// If less than this times the forwarded packets were offered, the generator may have been the limit.
const CLEARLY_MORE: f64 = 1.2;
/// Packets per second while sessions are opened.
const OPENING: u64 = 250_000;
/// Attempts to open all sessions: a packet that is lost opens none.
const ATTEMPTS: u32 = 4;
/// This percentage of the sessions is enough: the first packets of the turns open the others.
const ENOUGH: u64 = 99;

/// The duration of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Number of rounds.
    pub rounds: usize,
    /// Milliseconds of a turn before anything is counted.
    pub settle: u64,
    /// Milliseconds that are counted.
    pub window: u64,
}

impl Timing {
    /// The duration that the whole benchmark can afford.
    pub const fn of(quick: bool) -> Self {
        if quick { Self { rounds: 5, settle: 80, window: 200 } } else { Self { rounds: 13, settle: 120, window: 350 } }
    }
}

/// The results of one candidate in its turns, by round.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    /// Packets per second that were forwarded.
    pub forwarded: Vec<f64>,
    /// Packets per second that were offered.
    pub offered: Vec<f64>,
}

/// Lets the candidates take turns with this many flows at full speed; returns the results in their order.
pub fn take(candidates: &[Candidate], generator: &Generator, flows: u32, timing: Timing) -> Result<Vec<Turns>> {
    let mut turns = vec![Turns::default(); candidates.len()];
    for round in 0..timing.rounds {
        for step in 0..candidates.len() {
            // No candidate always follows the same one.
            let lane = (round + step) % candidates.len();
            let candidate = &candidates[lane];
            candidate.wake()?;
            generator.send(Load { lane, end: End::Clients, flows, rate: 0 });
            pause(timing.settle)?;
            let (offered, forwarded) = window(candidate, timing.window)?;
            generator.silence();
            pause(10)?;
            candidate.rest()?;
            turns[lane].offered.push(offered);
            turns[lane].forwarded.push(forwarded);
        }
    }
    Ok(turns)
}

/// Packets per second that were offered to a candidate and that it forwarded, over this many milliseconds.
pub fn window(candidate: &Candidate, millis: u64) -> Result<(f64, f64)> {
    let clock = Clock::new();
    let look =
        || Ok::<_, anyhow::Error>((candidate.lane.offered()?, candidate.lane.arrived()?, clock.now().as_nanos()));
    let before = look()?;
    pause(millis)?;
    let after = look()?;
    let seconds = (after.2 - before.2) as f64 / 1e9;
    Ok(((after.0 - before.0) as f64 / seconds, (after.1 - before.1) as f64 / seconds))
}

/// Opens a session for each flow through fwlb, answered by the servers, before anything is measured. The lane must have
/// no AF_XDP generator, because fwlb resolves the client's address by ARP.
pub fn establish(candidate: &Candidate, flows: u32) -> Result<()> {
    let generator = Generator::new(&[(&candidate.lane, candidate.traffic())], Way::Packet)?;
    candidate.wake()?;
    for attempt in 0..ATTEMPTS {
        // Lost packets are repeated at a rate that any placement carries.
        let first = attempt == 0;
        let (rate, ends) =
            if first { (OPENING, &[End::Clients, End::Servers][..]) } else { (OPENING / 5, &[End::Clients][..]) };
        let millis = u64::from(flows) * 1000 / rate + 20;
        for end in ends {
            generator.send(Load { lane: 0, end: *end, flows, rate });
            pause(millis)?;
        }
        generator.silence();
        pause(150)?;
        if candidate.sessions()? * 100 >= u64::from(flows) * ENOUGH {
            return candidate.rest();
        }
    }
    let standing = candidate.sessions()?;
    anyhow::bail!("only {standing} of {flows} sessions could be opened")
}

/// Compares our turns with theirs.
pub fn compare(ours: (Kind, &Turns), theirs: (Kind, &Turns)) -> Outcome {
    let Some(value) = ratios(&ours.1.forwarded, &theirs.1.forwarded) else {
        return Outcome::Skipped(format!("{} forwarded nothing", theirs.0.name()));
    };
    let rate = |values: &[f64]| median(values.iter().copied()).unwrap_or_default();
    let parties = [ours, theirs];
    let forwarded = parties.map(|(kind, turns)| Share::new(kind.name(), rate(&turns.forwarded) / 1e3, "kpps"));
    let offered = parties
        .map(|(kind, turns)| Share::new(format!("offered to {}", kind.name()), rate(&turns.offered) / 1e3, "kpps"));
    let shares = forwarded.into_iter().chain(offered).collect();
    let mut outcome = Outcome::measured(value, shares);
    for (kind, turns) in parties {
        let (offered, forwarded) = (rate(&turns.offered), rate(&turns.forwarded));
        if offered < CLEARLY_MORE * forwarded {
            outcome = outcome.note(format!(
                "the generator was the bottleneck of {}: it offered {:.0} kpps, {:.2} times what came out",
                kind.name(),
                offered / 1e3,
                offered / forwarded
            ));
        }
    }
    outcome
}
