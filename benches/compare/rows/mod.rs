//! The measurements: each fills some rows of the table.

mod bulk;
mod forwarding;
mod http;
mod loss;
mod memory;
mod nat;
mod round_trip;

use std::path::PathBuf;

use anyhow::Result;

pub use self::memory::{WORD as FILL_WORD, fill_and_tell};
use crate::candidates::{Candidate, Kind};
use crate::generator::{Generator, Way};
use crate::ground;
use crate::placement::Placement;
use crate::rounds;
use crate::table::{Outcome, Row};

/// What every measurement needs to know.
#[derive(Debug)]
pub struct Context {
    /// Whether the whole benchmark may take only a minute.
    pub quick: bool,
    /// The directory of all files.
    pub directory: PathBuf,
    /// The rows to measure.
    pub wanted: Vec<&'static Row>,
}

/// Results, by the names of the rows.
pub type Found = Vec<(&'static str, Outcome)>;

/// One measurement: the rows that it can fill, and how.
type Measurement = (&'static [&'static str], fn(&Context) -> Result<Found>);

const MEASUREMENTS: &[Measurement] = &[
    (memory::ROWS, memory::measure),
    (forwarding::SPLIT_ROWS, forwarding::split),
    (forwarding::THR_ROWS, forwarding::thr),
    (forwarding::XDP_ROWS, forwarding::xdp),
    (loss::ROWS, loss::measure),
    (nat::ROWS, nat::measure),
    (bulk::ROWS, bulk::measure),
    (http::ROWS, http::measure),
    (http::WRK_ROWS, http::by_wrk),
    (round_trip::ROWS, round_trip::measure),
];

impl Context {
    /// Whether any of these rows is wanted.
    pub fn wants(&self, rows: &[&str]) -> bool {
        self.wanted.iter().any(|row| rows.contains(&row.id))
    }

    /// Takes all measurements that are wanted; a row that could not be measured says why. An error means that the user
    /// wants to stop: the results until then are kept.
    pub fn measure(&self, found: &mut Found, mut tell: impl FnMut(&[&str])) -> Result<()> {
        for (rows, measure) in MEASUREMENTS.iter().filter(|(rows, _)| self.wants(rows)) {
            tell(rows);
            match measure(self) {
                Ok(outcomes) => found.extend(outcomes),
                Err(error) => {
                    ground::go_on()?;
                    found.extend(rows.iter().map(|row| (*row, Outcome::Skipped(format!("{error:#}")))));
                }
            }
        }
        Ok(())
    }

    /// Starts candidates.
    fn stand(&self, wanted: &[(Kind, Placement)]) -> Result<Field> {
        let mut field = Field { standing: Vec::new(), missing: Vec::new() };
        for (kind, placement) in wanted {
            match Candidate::start(*kind, *placement, &self.directory) {
                Ok(candidate) => field.standing.push(candidate),
                Err(error) => {
                    ground::go_on()?;
                    field.missing.push((*kind, format!("{}: {error:#}", kind.name())));
                }
            }
        }
        Ok(field)
    }
}

/// The candidates of a measurement.
#[derive(Debug)]
struct Field {
    /// The candidates that are ready in their lanes.
    standing: Vec<Candidate>,
    /// The candidates that could not be started, and why.
    missing: Vec<(Kind, String)>,
}

impl Field {
    /// A generator for all lanes. Each fwlb has its sessions before it starts.
    fn generator(&self, flows: u32) -> Result<Generator> {
        let engines = self.standing.iter().filter(|candidate| matches!(candidate.kind, Kind::Fwlb(_)));
        engines.into_iter().try_for_each(|candidate| rounds::establish(candidate, flows))?;
        let lanes: Vec<_> = self.standing.iter().map(|candidate| (&candidate.lane, candidate.traffic())).collect();
        Generator::new(&lanes, Way::Xdp)
    }

    fn position(&self, kind: Kind) -> Option<usize> {
        self.standing.iter().position(|candidate| candidate.kind == kind)
    }

    /// The row for two parties, by their positions, or why there is none.
    fn pair(&self, ours: Kind, theirs: Kind, compare: impl FnOnce(usize, usize) -> Outcome) -> Outcome {
        match (self.position(ours), self.position(theirs)) {
            (Some(ours), Some(theirs)) => compare(ours, theirs),
            _ => {
                let absent = self.missing.iter().filter(|(kind, _)| *kind == ours || *kind == theirs);
                Outcome::Skipped(absent.map(|(_, why)| why.as_str()).collect::<Vec<_>>().join("; "))
            }
        }
    }
}
