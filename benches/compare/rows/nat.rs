//! 60-byte packets with address translation against the kernel's load balancer, each in its best placement.

use anyhow::{Result, bail};

use super::{Context, Found};
use crate::candidates::{Duty, Engine, Kind};
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
    let field = context.stand(&wanted)?;
    if let Some((_, why)) = field.missing.first() {
        bail!("{why}");
    }
    let generator = field.generator(FLOWS)?;
    let turns = rounds::take(&field.standing, &generator, FLOWS, Timing::of(context.quick))?;
    let (ours, theirs) = (better(&turns, 0), better(&turns, 2));
    let places = [ours, theirs].map(|position| wanted[position].1.name());
    let outcome = rounds::compare((FWLB, &turns[ours]), (Kind::Nftables, &turns[theirs]));
    Ok(vec![(ROWS[0], outcome.note(format!("fwlb is best in {}, nftables in {}", places[0], places[1])))])
}

/// The better of two placements, which are next to each other from position `first` on.
fn better(turns: &[Turns], first: usize) -> usize {
    let rate = |position: usize| median(turns[position].forwarded.iter().copied()).unwrap_or_default();
    if rate(first) >= rate(first + 1) { first } else { first + 1 }
}
