//! The loss-free rate, and the throughput of the engine at twice that rate.
//!
//! One moment in which the machine gives a program no time decides a search. So each candidate is searched several
//! times, in turns, and the row is the median of the rounds.

use anyhow::{Result, bail};
use fwlb::io::clock::Clock;

use super::{Context, Found};
use crate::candidates::{Candidate, Duty, Engine, Kind};
use crate::generator::{End, Generator, Load};
use crate::ground::pause;
use crate::placement::Placement;
use crate::rounds;
use crate::search::{self, Search};
use crate::stats::{Quartiles, median, ratios};
use crate::table::{Outcome, Share};

pub(super) const ROWS: &[&str] = &[SPLIT, OVERLOAD];
const SPLIT: &str = "loss-free-split";
const OVERLOAD: &str = "overload-thr";

const FLOWS: u32 = 10_000;
const FWLB: Kind = Kind::Fwlb(Engine::new(Duty::Pin));
/// Milliseconds of the trials that narrow the search, and of those that decide.
const SHORT: u64 = 500;
const FULL: u64 = 5000;
/// Time for the last packets to arrive.
const DRAIN: u64 = 120;
/// Maximum and minimum number of rounds of searches; none begins after this many milliseconds.
const ROUNDS: usize = 7;
const ROUNDS_MIN: usize = 3;
const ENOUGH: u64 = 90_000;
/// Number of windows of overload, and the length of each.
const OVERLOADS: usize = 5;
const OVERLOAD_MILLIS: u64 = 600;
/// A generator that offers less than this share of the requested rate is the limit itself.
const KEPT_UP: f64 = 0.95;

pub(super) fn measure(context: &Context) -> Result<Found> {
    let mut found = Found::new();
    if context.wants(&[SPLIT]) {
        found.push((SPLIT, loss_free(context)?));
    }
    if context.wants(&[OVERLOAD]) {
        found.push((OVERLOAD, overload(context)?));
    }
    Ok(found)
}

fn loss_free(context: &Context) -> Result<Outcome> {
    let parties = (FWLB, Kind::TestpmdPacket);
    let field = context.stand(&[(parties.0, Placement::Split), (parties.1, Placement::Split)])?;
    let generator = field.generator(FLOWS)?;
    let mut rates = vec![Vec::new(); field.standing.len()];
    let clock = Clock::new();
    for round in 0..ROUNDS {
        if round >= ROUNDS_MIN && clock.now().as_millis() >= ENOUGH {
            break;
        }
        for step in 0..rates.len() {
            let lane = (round + step) % rates.len();
            let earlier = median(rates[lane].iter().map(Rate::most));
            rates[lane].push(Rate::find(&field.standing[lane], &generator, lane, earlier)?);
        }
    }
    Ok(field.pair(parties.0, parties.1, |ours, theirs| {
        // A search of ours that found no rate counts as zero; a peer that always lost packets gets the lowest rate that
        // was tried.
        let own: Vec<f64> = rates[ours].iter().map(|rate| rate.without_loss.unwrap_or_default()).collect();
        let peer: Vec<f64> = rates[theirs].iter().map(Rate::most).collect();
        let Some(value) = ratios(&own, &peer) else { return Outcome::Skipped("no round".to_owned()) };
        let share = |kind: Kind, rates: &[Rate]| {
            Share::new(kind.name(), median(rates.iter().map(Rate::most)).unwrap_or_default() / 1e3, "kpps")
        };
        let parties = [(parties.0, &rates[ours]), (parties.1, &rates[theirs])];
        let shares = parties.map(|(kind, rates)| share(kind, rates)).to_vec();
        parties.into_iter().fold(Outcome::measured(value, shares), |outcome, (kind, rates)| note(outcome, kind, rates))
    }))
}

fn overload(context: &Context) -> Result<Outcome> {
    let field = context.stand(&[(FWLB, Placement::Thr)])?;
    let Some(candidate) = field.standing.first() else { bail!("{}", field.missing[0].1) };
    let generator = field.generator(FLOWS)?;
    let rate = Rate::find(candidate, &generator, 0, None)?;
    let twice = 2.0 * rate.most();
    generator.send(Load { lane: 0, end: End::Clients, flows: FLOWS, rate: twice as u64 });
    pause(300)?;
    let (mut offered, mut forwarded) = (Vec::new(), Vec::new());
    for _ in 0..OVERLOADS {
        let (came, left) = rounds::window(candidate, OVERLOAD_MILLIS)?;
        offered.push(came);
        forwarded.push(left);
    }
    generator.silence();
    let Some(value) = Quartiles::of(forwarded.iter().map(|rate_now| rate_now / rate.most())) else {
        bail!("no window");
    };
    let shares = vec![
        Share::new("forwarded", median(forwarded).unwrap_or_default() / 1e3, "kpps"),
        Share::new("loss-free", rate.most() / 1e3, "kpps"),
    ];
    let offered = median(offered).unwrap_or_default();
    let outcome = note(Outcome::measured(value, shares), FWLB, &[rate]);
    Ok(if offered < KEPT_UP * twice {
        outcome.note(format!("the generator offered {:.0} kpps only", offered / 1e3))
    } else {
        outcome
    })
}

/// The result of a search.
#[derive(Debug, Clone, Copy)]
struct Rate {
    without_loss: Option<f64>,
    lowest_tried: f64,
    generator_limited: bool,
}

impl Rate {
    /// Searches around the results of earlier searches.
    fn find(candidate: &Candidate, generator: &Generator, lane: usize, earlier: Option<f64>) -> Result<Self> {
        candidate.wake()?;
        let mut search = match earlier {
            Some(rate) => Search::around(rate),
            None => {
                // The throughput under full load cannot be far below the rate that is searched.
                generator.send(Load { lane, end: End::Clients, flows: FLOWS, rate: 0 });
                pause(200)?;
                let (offered, forwarded) = rounds::window(candidate, 500)?;
                generator.silence();
                pause(DRAIN)?;
                Search::below(offered.min(1.5 * forwarded).max(50_000.0))
            }
        };
        let mut generator_limited = false;
        let end = loop {
            let trial = match search.next() {
                Ok(trial) => trial,
                Err(end) => break end,
            };
            let millis = if trial.full { FULL } else { SHORT };
            let Tried { lost, kept_up } = try_rate(candidate, generator, lane, trial.rate, millis)?;
            generator_limited |= lost == 0 && !kept_up;
            search.observe(lost > 0 || !kept_up);
        };
        candidate.rest()?;
        Ok(match end {
            search::End::Found(rate) => Self { without_loss: Some(rate), lowest_tried: rate, generator_limited },
            search::End::Lossy(rate) => Self { without_loss: None, lowest_tried: rate, generator_limited },
        })
    }

    fn most(&self) -> f64 {
        self.without_loss.unwrap_or(self.lowest_tried)
    }
}

/// Adds a note if searches found no rate, or if the generator was the limit.
fn note(outcome: Outcome, kind: Kind, rates: &[Rate]) -> Outcome {
    let lossy: Vec<f64> =
        rates.iter().filter(|rate| rate.without_loss.is_none()).map(|rate| rate.lowest_tried).collect();
    let outcome = match lossy.iter().copied().reduce(f64::min) {
        None => outcome,
        Some(lowest) => outcome.note(format!(
            "{} lost packets down to {:.0} kpps in {} of {} searches",
            kind.name(),
            lowest / 1e3,
            lossy.len(),
            rates.len()
        )),
    };
    match rates.iter().filter(|rate| rate.generator_limited).count() {
        0 => outcome,
        limited => outcome.note(format!(
            "the generator could not offer {} more than it carried without loss in {limited} of {} searches",
            kind.name(),
            rates.len()
        )),
    }
}

#[derive(Debug)]
struct Tried {
    lost: u64,
    kept_up: bool,
}

fn try_rate(candidate: &Candidate, generator: &Generator, lane: usize, rate: f64, millis: u64) -> Result<Tried> {
    let clock = Clock::new();
    // The generator may fail to send all that it tries, and the device may also carry an answer of the kernel.
    let counts = || Ok::<_, anyhow::Error>([generator.attempted(), candidate.lane.offered()?]);
    let (before, taken) = (counts()?, candidate.lane.taken_out()?);
    let began = clock.now();
    generator.send(Load { lane, end: End::Clients, flows: FLOWS, rate: rate as u64 });
    pause(millis)?;
    generator.silence();
    let seconds = clock.now().since(began).as_nanos() as f64 / 1e9;
    pause(DRAIN)?;
    let after = counts()?;
    let offered = (after[0] - before[0]).min(after[1] - before[1]);
    let taken = candidate.lane.taken_out()? - taken;
    Ok(Tried { lost: offered.saturating_sub(taken), kept_up: offered as f64 / seconds > KEPT_UP * rate })
}
