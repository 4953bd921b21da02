//! 60-byte packets at full speed, compared with forwarders that look at no header: testpmd and the minimal forwarder.

use anyhow::Result;

use super::{Context, Found};
use crate::candidates::{self, Duty, Engine, Kind, Sending};
use crate::ground;
use crate::placement::Placement;
use crate::rounds::{self, Timing};
use crate::table::Outcome;

pub(super) const SPLIT_ROWS: &[&str] = &[
    "forward-split-10k-testpmd",
    "forward-split-10k-minimal",
    "forward-split-10k-price",
    "forward-split-1m-testpmd",
    "forward-split-1m-minimal",
    "forward-split-1m-price",
];
pub(super) const THR_ROWS: &[&str] =
    &["forward-thr-10k-testpmd", "forward-thr-10k-minimal", "forward-thr-1m-testpmd", "forward-thr-1m-minimal"];
pub(super) const XDP_ROWS: &[&str] = &["xdp-split"];

const FWLB: Kind = Kind::Fwlb(Engine::new(Duty::Pin));
const MINIMAL: Kind = Kind::Minimal(Sending::Messages);
/// The difference between the two is the cost of the engine itself.
const SAME_SENDING: Kind = Kind::Minimal(Sending::Ring);

pub(super) fn split(context: &Context) -> Result<Found> {
    against_simple(context, Placement::Split, SPLIT_ROWS, &[Kind::TestpmdPacket, MINIMAL, SAME_SENDING])
}

pub(super) fn thr(context: &Context) -> Result<Found> {
    against_simple(context, Placement::Thr, THR_ROWS, &[Kind::TestpmdPacket, MINIMAL])
}

/// `rows` has a row for each of `peers` with few flows, and then one for each with many flows.
fn against_simple(
    context: &Context,
    placement: Placement,
    rows: &'static [&'static str],
    peers: &[Kind],
) -> Result<Found> {
    let (few, many) = rows.split_at(peers.len());
    let is_wanted = |at: &usize| context.wants(&[few[*at], many[*at]]);
    let wanted = (0..peers.len()).filter(is_wanted).map(|at| peers[at]);
    let kinds: Vec<_> = std::iter::once(FWLB).chain(wanted).map(|kind| (kind, placement)).collect();
    let field = context.stand(&kinds)?;
    let mut found = Found::new();
    for (flows, rows) in [(10_000, few), (1_000_000, many)] {
        if !context.wants(rows) {
            continue;
        }
        let generator = match field.generator(flows) {
            Ok(generator) => generator,
            Err(error) => {
                ground::go_on()?;
                found.extend(rows.iter().map(|row| (*row, Outcome::Skipped(format!("{error:#}")))));
                continue;
            }
        };
        let turns = rounds::take(&field.standing, &generator, flows, Timing::of(context.quick))?;
        for (row, theirs) in rows.iter().zip(peers.iter().copied()) {
            let compare = |own: usize, peer: usize| rounds::compare((FWLB, &turns[own]), (theirs, &turns[peer]));
            found.push((row, field.pair(FWLB, theirs, compare)));
        }
    }
    Ok(found)
}

/// AF_XDP compared with AF_XDP.
pub(super) fn xdp(context: &Context) -> Result<Found> {
    const FLOWS: u32 = 10_000;
    let engine = Engine { io: "af-xdp", ..Engine::new(Duty::Pin) };
    if let Err(why) = candidates::accepts(engine, &context.directory) {
        return Ok(vec![(XDP_ROWS[0], Outcome::Skipped(format!("{why:#}")))]);
    }
    let (ours, theirs) = (Kind::Fwlb(engine), Kind::TestpmdXdp);
    let field = context.stand(&[(ours, Placement::Split), (theirs, Placement::Split)])?;
    let generator = field.generator(FLOWS)?;
    let turns = rounds::take(&field.standing, &generator, FLOWS, Timing::of(context.quick))?;
    let compare = |own: usize, peer: usize| rounds::compare((ours, &turns[own]), (theirs, &turns[peer]));
    Ok(vec![(XDP_ROWS[0], field.pair(ours, theirs, compare))])
}
