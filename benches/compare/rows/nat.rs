//! 60-byte packets with address translation against the kernel's load balancer, each in its best placement.

use anyhow::{Context as _, Result};

use super::{Context, Found};
use crate::candidates::{Candidate, Duty, Engine, Kind};
use crate::generator::Generator;
use crate::placement::Placement;
use crate::rounds::{self, Timing, Turns};
use crate::stats::median;

pub(super) const ROWS: &[&str] = &["nat-nftables"];

const FLOWS: u32 = 10_000;
const FWLB: Kind = Kind::Fwlb(Engine::new(Duty::Balance));

pub(super) fn measure(context: &Context) -> Result<Found> {
    let wanted = [
        (FWLB, Placement::Split),
        (FWLB, Placement::Thr),
        (Kind::Nftables, Placement::Thr),
        (Kind::Nftables, Placement::Rps),
    ];
    let standing: Vec<Candidate> = wanted
        .iter()
        .map(|(kind, placement)| Candidate::start(*kind, *placement, &context.directory).with_context(|| kind.name()))
        .collect::<Result<_>>()?;
    let lanes: Vec<_> = standing.iter().map(|candidate| (&candidate.lane, candidate.traffic())).collect();
    let generator = Generator::new(&lanes)?;
    for (lane, candidate) in standing.iter().enumerate().filter(|(_, candidate)| candidate.kind == FWLB) {
        rounds::establish(candidate, &generator, lane, FLOWS)?;
    }
    let turns = rounds::take(&standing, &generator, FLOWS, Timing::of(context.quick))?;
    let (ours, theirs) = (better(&turns, 0), better(&turns, 2));
    let places = [ours, theirs].map(|position| wanted[position].1.name());
    let outcome = rounds::compare((FWLB, &turns[ours]), (Kind::Nftables, &turns[theirs]));
    Ok(vec![(ROWS[0], outcome.note(format!("fwlb is best in {}, nftables in {}", places[0], places[1])))])
}

/// The better of two placements, which stand side by side from `first` on.
fn better(turns: &[Turns], first: usize) -> usize {
    let rate = |position: usize| median(turns[position].forwarded.iter().copied()).unwrap_or_default();
    if rate(first) >= rate(first + 1) { first } else { first + 1 }
}
